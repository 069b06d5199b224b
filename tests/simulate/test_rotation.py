import itertools
import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from seqgen.simulate.rotation import accumulate, compose, matrices, moments, rotations

IX = np.array([[0, 1], [1, 0]]) / 2
IY = np.array([[0, -1j], [1j, 0]]) / 2
IZ = np.array([[1, 0], [0, -1]]) / 2


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def turned(b1_hz, offset_hz, dwell_s, start=IZ):
    """Magnetisation (2 Tr rho I_k) after one sample."""
    turns = torch.tensor(b1_hz * dwell_s, dtype=torch.complex128), real(offset_hz * dwell_s)[0]
    u = matrices(rotations(*turns)).numpy()
    rho = u @ start @ u.conj().T
    return np.array([2 * np.trace(rho @ axis).real for axis in (IX, IY, IZ)])


@pytest.mark.parametrize(
    ("b1_hz", "expected"),
    [(250.0, (0, -1, 0)), (250.0j, (1, 0, 0)), (-250.0, (0, 1, 0)), (-250.0j, (-1, 0, 0)), (500.0, (0, 0, -1))],
)
def test_right_handed_ninety_from_z(b1_hz, expected):
    np.testing.assert_allclose(turned(b1_hz, 0.0, 1e-3), expected, atol=1e-14)


def test_positive_offset_turns_x_towards_y():
    np.testing.assert_allclose(turned(0.0, 250.0, 1e-3, start=IX), (0, 1, 0), atol=1e-14)


@pytest.mark.parametrize("offset_hz", [0.0, 130.0, -410.0, 2000.0])
def test_hard_pulse_off_resonance_in_closed_form(offset_hz):
    """Mz = cos^2 t + sin^2 t cos(w T), tan t = b1 / f, w = 2 pi sqrt(b1^2 + f^2)."""
    b1_hz, duration_s = 300.0, 0.7e-3
    tilt, w = math.atan2(b1_hz, offset_hz), 2 * math.pi * math.hypot(b1_hz, offset_hz)
    s, c, phi = math.sin(tilt), math.cos(tilt), w * duration_s
    expected = (s * c * (1 - math.cos(phi)), -s * math.sin(phi), c**2 + s**2 * math.cos(phi))
    np.testing.assert_allclose(turned(b1_hz, offset_hz, duration_s), expected, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-9, 1e-2, 1.0, 1e3])
def test_rotations_are_matrix_exponentials(scale):
    rng = np.random.default_rng(1)
    for _ in range(20):
        x, y, z = rng.normal(size=3) * scale * 0.03
        pair = rotations(torch.tensor(complex(x, y), dtype=torch.complex128), real(z)[0])
        expected = expm(-2j * math.pi * (x * IX + y * IY + z * IZ))
        np.testing.assert_allclose(matrices(pair).numpy(), expected, rtol=0, atol=1e-12)


def test_small_angle_series_joins_the_closed_form():
    # The switch stands at (pi dt |B|)^2 = 1e-8: both sides must be right to rounding, signed values included.
    for size in (0.999e-4, 1.001e-4):
        a, b = rotations(torch.tensor(size / math.pi + 0j, dtype=torch.complex128), real(0.0)[0])
        assert abs(complex(a) - math.cos(size)) < 1e-16
        assert abs(complex(b) + 1j * math.sin(size)) < 1e-19


@pytest.mark.parametrize("n_samples", [1, 2, 3, 7, 16, 21])
def test_accumulate_multiplies_in_order_of_time(n_samples):
    rng = np.random.default_rng(n_samples)
    b1 = rng.normal(size=n_samples) * 400 + 1j * rng.normal(size=n_samples) * 400
    u = matrices(accumulate(rotations(torch.as_tensor(b1) * 1e-4, real(57.0) * 1e-4))).numpy()
    expected = np.eye(2)
    for b in b1:
        expected = expm(-2j * math.pi * 1e-4 * (b.real * IX + b.imag * IY + 57.0 * IZ)) @ expected
    np.testing.assert_allclose(u, expected, rtol=0, atol=1e-13)


def test_compose_is_the_matrix_product():
    one = rotations(torch.tensor(0.2 + 0.09j, dtype=torch.complex128), real(0.03)[0])
    other = rotations(torch.tensor(-0.07 + 0.31j, dtype=torch.complex128), real(-0.08)[0])
    torch.testing.assert_close(matrices(compose(other, one)), matrices(other) @ matrices(one), rtol=0, atol=1e-15)


@pytest.mark.parametrize("b1_hz", [0.0, 3e-3 - 1e-3j, 250.0 + 40j])
@pytest.mark.parametrize("offset_hz", [0.0, 120.0])
def test_gradients_everywhere(b1_hz, offset_hz):
    b1 = torch.tensor([b1_hz, b1_hz, 0.0], dtype=torch.complex128, requires_grad=True)
    offset = real(offset_hz).requires_grad_()
    assert torch.autograd.gradcheck(lambda b, f: accumulate(rotations(1e-3 * b, 1e-3 * f)), (b1, offset))


def random_waveform(n_samples, seed=3, size=300.0):
    g = torch.Generator().manual_seed(seed)
    return size * torch.randn(1, n_samples, generator=g, dtype=torch.complex128)


def by_windows(b1_hz, dwell_s, edges_s, offset_hz, scale=1.0):
    """2 x 2 matrix of a waveform cut into windows, each one rotation."""
    windows = moments(b1_hz, dwell_s, edges_s)
    pair = rotations(*windows.turns(real(offset_hz)[:, None, None], real(scale)[:, None, None]))
    return matrices(accumulate(pair))[0, -1].detach().numpy()


def exact(b1_hz, dwell_s, offset_hz, scale=1.0):
    """One matrix exponential per sample."""
    u = np.eye(2)
    for b in b1_hz[0].numpy() * scale:
        u = expm(-2j * math.pi * dwell_s * (b.real * IX + b.imag * IY + offset_hz * IZ)) @ u
    return u


def test_windows_of_one_sample_are_exact():
    b1, edges = random_waveform(40), torch.arange(41, dtype=torch.float64)[None] * 1e-4
    np.testing.assert_allclose(by_windows(b1, 1e-4, edges, 90.0, 1.1), exact(b1, 1e-4, 90.0, 1.1), rtol=0, atol=1e-13)


def test_windows_may_cut_samples_and_may_be_empty():
    b1 = random_waveform(3)
    edges = torch.tensor([[0.0, 0.4e-4, 1e-4, 1e-4, 1.7e-4, 2e-4, 3e-4]], dtype=torch.float64)
    np.testing.assert_allclose(by_windows(b1, 1e-4, edges, -40.0), exact(b1, 1e-4, -40.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("offset_hz", [0.0, 250.0, -900.0])
@pytest.mark.parametrize("scale", [1.0, 0.8])
def test_merged_samples_converge_with_order_four(offset_hz, scale):
    """A smooth, phase-modulated pulse on a raster of 1 us: Magnus windows of 100, 50 and 25 us."""
    t = torch.arange(2000, dtype=torch.float64) * 1e-6
    b1 = (300 * torch.sin(math.pi * t / 2e-3) ** 2 * torch.exp(3j * torch.sin(2 * math.pi * 500 * t)))[None]
    expected = exact(b1, 1e-6, offset_hz, scale)
    errors = []
    for n_windows in (20, 40, 80):
        edges = torch.linspace(0, 2e-3, n_windows + 1, dtype=torch.float64)[None]
        errors.append(np.abs(by_windows(b1, 1e-6, edges, offset_hz, scale) - expected).max())
    assert errors[0] < 2e-2
    assert [math.log2(a / b) for a, b in itertools.pairwise(errors)] == pytest.approx([4, 4], abs=0.3)


def test_moments_have_gradients():
    b1 = random_waveform(6, size=1.0).requires_grad_()
    edges = torch.tensor([[0.0, 1.5, 2.0, 4.2, 6.0]], dtype=torch.float64)

    def found(b):
        windows = moments(b, 1.0, edges)
        return windows.area, windows.first, windows.twist

    assert torch.autograd.gradcheck(found, (b1,))
