import itertools
import math

import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.errors import InputError
from seqgen.library import spin_system
from seqgen.pulse.parameterise import spline_waveform
from seqgen.simulate import propagate
from seqgen.simulate.acquire import lines
from seqgen.simulate.propagate import kronecker, of_total_spin, pulse_propagator
from seqgen.spin.hamiltonian import group_model

OFFSETS_HZ = [-83.0, 21.0, 64.0]
COUPLINGS_HZ = {(0, 1): 7.3, (0, 2): 4.6, (1, 2): -14.8}
J_HZ = np.array([[0, 7.3, 4.6], [7.3, 0, -14.8], [4.6, -14.8, 0]])
DWELL_S = 2.5e-4


def model_of(offsets_hz=OFFSETS_HZ, couplings_hz=COUPLINGS_HZ, **kwargs):
    return group_model(group_at_hz(offsets_hz, couplings_hz, **kwargs), FREQUENCY_HZ, REFERENCE_PPM)


def random_b1(n_batch, n_samples, seed=0, size=300.0):
    g = torch.Generator().manual_seed(seed)
    return size * torch.complex(
        torch.randn(n_batch, n_samples, generator=g, dtype=torch.float64),
        torch.randn(n_batch, n_samples, generator=g, dtype=torch.float64),
    )


def stepwise_twin(b1_hz, offset_hz):
    """One torch.linalg.matrix_exp per sample, differentiated by plain autograd."""
    h0 = torch.as_tensor(exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ), dtype=torch.complex128)
    fx, fy, fz = (torch.as_tensor(exact_spins.total(3, axis), dtype=torch.complex128) for axis in "xyz")
    u = torch.eye(8, dtype=torch.complex128).expand(offset_hz.shape[0], -1, -1)
    for k in range(b1_hz.shape[1]):
        b1 = b1_hz[:, k, None, None]
        h = h0 + 2 * math.pi * (b1.real * fx + b1.imag * fy + offset_hz[:, None, None] * fz)
        u = torch.linalg.matrix_exp(-1j * DWELL_S * h) @ u
    return u


def test_meets_the_stepwise_twin_with_order_four():
    b1, offset = random_b1(3, 16), torch.tensor([-40.0, 0.0, 110.0], dtype=torch.float64)
    exact = stepwise_twin(b1, offset)
    errors = []
    for refinement in (1, 2, 4, 8, 16):
        u = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S / refinement)
        errors.append(float((u - exact).abs().max()))
    assert errors[0] < 2e-5
    assert errors[4] < 1e-9
    # The first step is cut: RF of more than 900 Hz would turn too far in it.
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors[1:])]
    assert orders == pytest.approx([4.0] * 3, abs=0.2)


def test_gradient_meets_the_stepwise_twin():
    offset = torch.tensor([-40.0, 110.0], dtype=torch.float64, requires_grad=True)
    b1 = random_b1(2, 6).requires_grad_()
    g = torch.Generator().manual_seed(5)
    weight = torch.randn(2, 8, 8, generator=g, dtype=torch.complex128)

    def loss(u):
        return (weight * u).sum().abs() ** 2

    exact = torch.autograd.grad(loss(stepwise_twin(b1, offset)), (b1, offset))
    errors = []
    for refinement in (2, 4, 8):
        u = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S / refinement)
        found = torch.autograd.grad(loss(u), (b1, offset))
        errors.append([float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, exact, strict=True)])
    assert max(errors[-1]) < 1e-7
    for coarse, fine in itertools.pairwise(errors):
        assert [a / b for a, b in zip(coarse, fine, strict=True)] == pytest.approx([16, 16], rel=0.2)


def test_gradient_after_b1_scale_meets_finite_differences():
    b1, offset = random_b1(1, 6), torch.tensor([-40.0, 110.0], dtype=torch.float64)
    scale = torch.tensor([0.9, 1.15], dtype=torch.float64, requires_grad=True)

    def found(s):
        return pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, b1_scale=s)

    assert torch.autograd.gradcheck(found, (scale,))
    torch.testing.assert_close(found(scale)[1], pulse_propagator(model_of(), 1.15 * b1, DWELL_S, offset_hz=offset)[1])


@pytest.mark.parametrize("j_step_s", [DWELL_S / 8, DWELL_S, 4 * DWELL_S, 1.0])
def test_is_unitary(j_step_s):
    u = pulse_propagator(
        model_of(), random_b1(2, 12), DWELL_S, offset_hz=torch.tensor([0.0, 33.0]).double(), j_step_s=j_step_s
    )
    torch.testing.assert_close(u @ u.mH, torch.eye(8, dtype=u.dtype).expand(2, -1, -1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_samples", "j_step_s"), [(12, 5 * DWELL_S), (97, 1.7 * DWELL_S), (5, DWELL_S / 3)])
def test_j_steps_may_cut_samples_anywhere(n_samples, j_step_s):
    """Steps of equal length whatever the number of samples: cutting the samples beforehand changes nothing."""
    b1, offset = random_b1(1, n_samples), torch.tensor([30.0], dtype=torch.float64)
    n_steps = math.ceil(n_samples * DWELL_S / j_step_s)
    u = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=j_step_s)
    cut = pulse_propagator(
        model_of(), b1.repeat_interleave(n_steps, 1), DWELL_S / n_steps, offset_hz=offset, j_step_s=j_step_s
    )
    assert float((u - stepwise_twin(b1, offset)).abs().max()) < 2e-3
    if n_samples == 5:  # longer samples are not merged
        torch.testing.assert_close(u, cut, rtol=0, atol=1e-12)


def test_fine_samples_cost_no_accuracy():
    """The same smooth pulse on rasters of 100, 10 and 1 us: merged samples against one exponential each."""
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) * 1e-6
    fine = (300 * torch.sin(math.pi * t / 4e-3) ** 2 * torch.exp(2j * torch.sin(2 * math.pi * 400 * t)))[None]
    offset = torch.tensor([35.0], dtype=torch.float64)
    for width in (1, 10, 100):
        b1 = fine[:, width // 2 :: width]
        h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
        expected = exact_spins.pulse(h, b1[0].numpy(), width * 1e-6, 35.0)
        u = pulse_propagator(model_of(), b1, width * 1e-6, offset_hz=offset, j_step_s=1e-4)[0]
        assert np.abs(u.numpy() - expected).max() < 2e-8


def test_free_evolution_commutes_with_total_fz():
    u = pulse_propagator(model_of(), torch.zeros(1, 8).cdouble(), DWELL_S, offset_hz=torch.tensor([17.0]).double())[0]
    fz = torch.as_tensor(exact_spins.total(3, "z"), dtype=u.dtype)
    assert float((u @ fz - fz @ u).abs().max()) < 1e-14


def test_protons_of_one_shift_are_exact_at_any_step():
    """Isotropic coupling commutes with rotations common to all spins: no splitting error at all."""
    model = model_of([40.0, 40.0, 40.0])
    b1 = random_b1(1, 10)
    u = pulse_propagator(model, b1, DWELL_S, offset_hz=torch.tensor([5.0]).double(), j_step_s=1.0)[0]
    h = exact_spins.free_hamiltonian([40.0] * 3, J_HZ)
    np.testing.assert_allclose(u, exact_spins.pulse(h, b1[0].numpy(), DWELL_S, 5.0), rtol=0, atol=1e-12)


def test_uncoupled_spins_are_exact_at_any_step():
    b1 = random_b1(1, 10)
    u = pulse_propagator(model_of(couplings_hz={}), b1, DWELL_S, offset_hz=torch.zeros(1).double(), j_step_s=1.0)[0]
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, np.zeros((3, 3)))
    np.testing.assert_allclose(u, exact_spins.pulse(h, b1[0].numpy(), DWELL_S), rtol=0, atol=1e-12)


def test_heteronuclei_feel_no_rf_and_no_offset():
    model = model_of([25.0, 0.0], {(0, 1): 11.0}, nuclei=("1H", "31P"))
    b1, offset = random_b1(1, 25), torch.tensor([60.0]).double()
    ix, iy, iz = (exact_spins.single(2, 0, axis) for axis in "xyz")
    coupling = 2 * math.pi * 11.0 * iz @ exact_spins.single(2, 1, "z")
    expected = np.eye(4)
    for b in b1[0].numpy():
        h = coupling + 2 * math.pi * (b.real * ix + b.imag * iy + 85.0 * iz)
        expected = exact_spins.expm(-1j * DWELL_S * h) @ expected
    coarse, fine = (pulse_propagator(model, b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S / n)[0] for n in (16, 32))
    # Iz Iz does not commute with rotations of the proton alone: order 2 in the step, removed by Richardson.
    # (molecule_models has no heteronuclei left: reduction.py.)
    assert float((fine - torch.as_tensor(expected)).abs().max()) < 1e-5
    np.testing.assert_allclose((4 * fine - coarse) / 3, expected, rtol=0, atol=1e-8)


def test_relabelling_the_spins_permutes_the_propagator():
    b1, offset = random_b1(1, 12), torch.tensor([9.0]).double()
    u = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=2 * DWELL_S)[0]
    swapped = model_of([21.0, -83.0, 64.0], {(0, 1): 7.3, (1, 2): 4.6, (0, 2): -14.8})
    other = pulse_propagator(swapped, b1, DWELL_S, offset_hz=offset, j_step_s=2 * DWELL_S)[0]
    back = other.reshape(2, 2, 2, 2, 2, 2).permute(1, 0, 2, 4, 3, 5).reshape(8, 8)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [300.0, 0.0])
@pytest.mark.parametrize("offset_hz", [45.0, 0.0])
@pytest.mark.parametrize("offsets_hz", [[-83.0, 21.0], [0.0, 0.0]])
def test_gradcheck(size, offset_hz, offsets_hz):
    model = model_of(offsets_hz, {(0, 1): 7.3})
    b1 = random_b1(1, 4, size=size).requires_grad_()
    offset = torch.tensor([offset_hz], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda b, f: pulse_propagator(model, b, 1e-3, offset_hz=f, j_step_s=2e-3), (b1, offset)
    )


def test_one_waveform_serves_many_offsets():
    b1, offset = random_b1(1, 6), torch.tensor([-10.0, 70.0]).double()
    together = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset)
    apart = [pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset[k : k + 1])[0] for k in range(2)]
    torch.testing.assert_close(together, torch.stack(apart), rtol=0, atol=1e-14)


def test_a_block_of_members_is_as_good_as_one_by_one(monkeypatch):
    """Members are worked off in blocks of bounded memory: values and gradients do not depend on their size."""
    offset = torch.tensor([-40.0, 0.0, 25.0, 60.0, 110.0], dtype=torch.float64)
    scale = torch.tensor([0.9, 1.0, 1.1, 1.2, 1.3], dtype=torch.float64)

    def run():
        leaves = [x.clone().requires_grad_() for x in (random_b1(1, 8), offset, scale)]
        u = pulse_propagator(model_of(), leaves[0], DWELL_S, offset_hz=leaves[1], b1_scale=leaves[2])
        return u, *torch.autograd.grad((u * torch.arange(64.0).reshape(8, 8)).sum().abs(), leaves)

    together = run()
    monkeypatch.setattr(propagate, "_CPU_BLOCK_BYTES", 2 * 64 * 16)  # two members
    for one, other in zip(together, run(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_single_precision_follows_the_waveform():
    b1, offset = random_b1(1, 40), torch.tensor([-40.0, 110.0], dtype=torch.float64)
    double = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset)
    single = pulse_propagator(model_of(), b1.to(torch.complex64), DWELL_S, offset_hz=offset)
    assert single.dtype == torch.complex64
    assert float((single.to(torch.complex128) - double).abs().max()) < 2e-5


def test_kronecker_is_numpys():
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(3, n, n)) + 1j * rng.normal(size=(3, n, n)) for n in (2, 4))
    found = kronecker(torch.as_tensor(a), torch.as_tensor(b))
    for k in range(3):
        np.testing.assert_allclose(found[k], np.kron(a[k], b[k]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dimension", [2, 3, 4, 5, 7])
def test_rotations_of_larger_spins_are_matrix_exponentials(dimension):
    """exp(-i n.S) with S from ladder operators of spin (dimension - 1)/2, written out here in NumPy."""
    s = (dimension - 1) / 2
    m = s - np.arange(dimension)
    plus = np.diag(np.sqrt(s * (s + 1) - m[1:] * (m[1:] + 1)), 1)
    large = (plus + plus.T) / 2, (plus - plus.T) / 2j, np.diag(m)
    small = [exact_spins.PAULI[axis] for axis in "xyz"]
    angles = np.array([0.7, -1.9, 0.4])
    single, expected = (
        exact_spins.expm(-1j * sum(a * i for a, i in zip(angles, axes, strict=True))) for axes in (small, large)
    )
    np.testing.assert_allclose(of_total_spin(torch.as_tensor(single), dimension), expected, rtol=0, atol=1e-12)


def test_a_block_pulse_is_as_exact_as_its_j_step():
    """One sample of 2 ms: the twin is one matrix exponential."""
    offset = torch.zeros(1, dtype=torch.float64)
    b1 = torch.full((1, 1), 125.0, dtype=torch.complex128)
    u = pulse_propagator(model_of(), b1, 2e-3, offset_hz=offset, j_step_s=1e-4)[0]
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
    np.testing.assert_allclose(u, exact_spins.pulse(h, b1[0].numpy(), 2e-3), rtol=0, atol=1e-7)


@pytest.mark.parametrize("j_step_s", [0.0, -1e-4, float("nan")])
def test_a_j_step_that_is_no_time_is_refused(j_step_s):
    with pytest.raises(InputError, match="j_step_s must be positive"):
        pulse_propagator(model_of(), random_b1(1, 4), DWELL_S, offset_hz=torch.zeros(1).double(), j_step_s=j_step_s)


@pytest.mark.parametrize("b1", [torch.zeros(4, dtype=torch.complex128), torch.zeros(1, 4, dtype=torch.float64)])
def test_a_waveform_of_the_wrong_kind_is_refused(b1):
    with pytest.raises(InputError, match=r"complex of shape \(B, T\)"):
        pulse_propagator(model_of(), b1, DWELL_S, offset_hz=torch.zeros(1).double())


def test_nan_in_a_waveform_is_refused():
    b1 = random_b1(1, 4)
    b1[0, 2] = float("nan")
    with pytest.raises(InputError, match="NaN or infinite samples"):
        pulse_propagator(model_of(), b1, DWELL_S, offset_hz=torch.zeros(1).double())


@pytest.mark.parametrize("dwell_s", [0.0, -1e-6, float("inf")])
def test_a_dwell_that_is_no_time_is_refused(dwell_s):
    with pytest.raises(InputError, match="dwell_s must be positive and finite"):
        pulse_propagator(model_of(), random_b1(1, 4), dwell_s, offset_hz=torch.zeros(1).double())


def test_a_lone_spin_has_gradients_too():
    b1 = random_b1(1, 4).requires_grad_()
    offset = torch.tensor([45.0], dtype=torch.float64, requires_grad=True)
    model = model_of([12.0], {})
    assert torch.autograd.gradcheck(lambda b, f: pulse_propagator(model, b, 1e-3, offset_hz=f), (b1, offset))


def test_time_reversal():
    """The same pulse backwards with every field and coupling reversed undoes the pulse."""
    b1, offset = random_b1(2, 12), torch.tensor([-40.0, 110.0], dtype=torch.float64)
    reverse = model_of([-f for f in OFFSETS_HZ], {pair: -j for pair, j in COUPLINGS_HZ.items()})
    u = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset)
    back = pulse_propagator(reverse, -b1.flip(1), DWELL_S, offset_hz=-offset)
    torch.testing.assert_close(back @ u, torch.eye(8, dtype=u.dtype).expand(2, -1, -1), rtol=0, atol=1e-12)


def test_trace_hermiticity_and_purity_are_kept():
    g = torch.Generator().manual_seed(1)
    a = torch.randn(8, 8, generator=g, dtype=torch.complex128)
    rho = a + a.mH
    u = pulse_propagator(model_of(), random_b1(1, 12), DWELL_S, offset_hz=torch.tensor([17.0]).double())[0]
    after = u @ rho @ u.mH
    torch.testing.assert_close(after, after.mH, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.trace(), rho.trace(), rtol=0, atol=1e-11)
    torch.testing.assert_close(torch.linalg.eigvalsh(after), torch.linalg.eigvalsh(rho), rtol=0, atol=1e-11)


@pytest.mark.parametrize("offset_hz", [2500.0, -2500.0])
def test_bloch_siegert_shift(offset_hz):
    """Far off resonance a pulse turns a spin about z by (sqrt(f^2 + b1^2) - |f|) T beyond its own precession."""
    b1_hz, duration_s = 150.0, 8e-3
    ramp = torch.sin(torch.linspace(0, math.pi / 2, 200).double()) ** 2
    shape = torch.cat([ramp, torch.ones(400).double(), ramp.flip(0)])
    b1, dwell_s = (b1_hz * shape).to(torch.complex128)[None], duration_s / 800
    u = pulse_propagator(model_of([0.0], {}), b1, dwell_s, offset_hz=torch.tensor([offset_hz]).double())[0]
    turns = (torch.sqrt(offset_hz**2 + (b1_hz * shape) ** 2).sum() * dwell_s) * math.copysign(1, offset_hz)
    expected = torch.exp(-2j * math.pi * turns)
    assert abs(complex(u[0, 0] * u[1, 1].conj()) - complex(expected)) < 2e-4
    assert abs(complex(u[0, 1])) < 2e-3


@pytest.mark.parametrize("shape", ["block", "one sample", "ramp"])
def test_rf_may_be_on_at_both_ends(shape):
    """The fixed matrices at the ends hold the shifts alone: order four whatever RF does there."""
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
    n = {"block": 40, "one sample": 1, "ramp": 40}[shape]
    b1 = torch.full((1, n), 250.0 - 90.0j, dtype=torch.complex128)
    if shape == "ramp":
        b1 = b1 * torch.linspace(0.2, 1.5, n)
    duration_s = 4e-3
    expected = exact_spins.pulse(h, b1[0].numpy(), duration_s / n, 20.0)
    errors = []
    for step in (4e-4, 2e-4, 1e-4):
        u = pulse_propagator(model_of(), b1, duration_s / n, offset_hz=torch.tensor([20.0]).double(), j_step_s=step)[0]
        errors.append(np.abs(u.numpy() - expected).max())
    assert errors[0] < 3e-5
    assert math.log2(errors[1] / errors[2]) == pytest.approx(4, abs=0.3)


def test_eight_spins_in_full():
    """A chain of eight, 256 levels: three samples, one matrix exponential each, members and all."""
    offsets = [-150.0 + 45.0 * k for k in range(8)]
    couplings = {(k, k + 1): 7.0 + k for k in range(7)}
    j_hz = np.zeros((8, 8))
    for (j, k), value in couplings.items():
        j_hz[j, k] = j_hz[k, j] = value
    b1 = random_b1(1, 3)
    u = pulse_propagator(
        model_of(offsets, couplings), b1, DWELL_S, offset_hz=torch.tensor([30.0]).double(), j_step_s=1e-5
    )[0]
    expected = exact_spins.pulse(exact_spins.free_hamiltonian(offsets, j_hz), b1[0].numpy(), DWELL_S, 30.0)
    np.testing.assert_allclose(u.numpy(), expected, rtol=0, atol=1e-9)


DESIGN, RESULT = propagate.DESIGN_J_STEP_S, propagate.RESULT_J_STEP_S


@pytest.mark.parametrize(
    ("peak_hz", "j_step_s", "frequency_hz", "allowed"),
    [
        (300.0, DESIGN, 123.25e6, 1e-4),
        (1500.0, DESIGN, 123.25e6, 1e-4),
        (300.0, DESIGN, 500e6, 1e-4),
        (300.0, RESULT, 123.25e6, 2e-6),
        (300.0, RESULT, 500e6, 2e-6),
        (2500.0, RESULT, 123.25e6, 2e-5),
    ],
)
def test_j_steps_keep_their_promise(peak_hz, j_step_s, frequency_hz, allowed):
    """Lines of Glu and Gln after a smooth random 20 ms pulse against one exponential per sample, of the largest.

    Steps are cut for strong RF and for shifts that are far apart at high field.
    """
    shape = spline_waveform(
        duration_s=0.02, dwell_s=2.5e-5, knot_spacing_s=5e-4, b1_max_hz=peak_hz, energy_max_hz2_s=1e9
    )
    g = torch.Generator().manual_seed(2)
    b1 = shape.waveform_hz(torch.randn(shape.n_parameters, generator=g, dtype=torch.float64))[None]
    for name in ("Glu", "Gln"):
        group = spin_system(name).groups[0]
        model = group_model(group, frequency_hz, 2.35)
        h = exact_spins.free_hamiltonian(model.offset_hz.numpy(), group.j_hz)
        start = exact_spins.total(5, "x")
        exact = exact_spins.pulse(h, b1[0].numpy(), 2.5e-5)
        u = pulse_propagator(model, b1, 2.5e-5, offset_hz=torch.zeros(1).double(), j_step_s=j_step_s)[0].numpy()
        v = model.eigenvectors.numpy()
        found, expected = (
            lines(torch.as_tensor(v.T @ w @ start @ w.conj().T @ v), model).amplitude for w in (u, exact)
        )
        assert float((found - expected).abs().max()) < allowed * float(expected.abs().max())


def test_a_strong_spin_lock_is_cut_finely():
    """At 5 kHz RF turns once per 200 us: a whole turn in every step would hide all that happens between."""
    b1 = torch.full((1, 200), 5000.0, dtype=torch.complex128)
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
    expected = exact_spins.pulse(h, b1[0].numpy(), 1e-4, 20.0)
    u = pulse_propagator(model_of(), b1, 1e-4, offset_hz=torch.tensor([20.0]).double(), j_step_s=RESULT)[0]
    assert np.abs(u.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize(("rms_hz", "offset_hz"), [(200.0, 0.0), (2000.0, 0.0), (20000.0, 0.0), (200.0, 40000.0)])
def test_rough_or_far_off_resonant_rf_is_not_merged(rms_hz, offset_hz):
    """White noise on a raster of 5 us, and an offset that turns in a window: as without merging."""
    b1, offset = random_b1(1, 400, size=rms_hz / math.sqrt(2)), torch.tensor([offset_hz], dtype=torch.float64)
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
    expected = exact_spins.pulse(h, b1[0].numpy(), 5e-6, offset_hz)
    u = pulse_propagator(model_of(), b1, 5e-6, offset_hz=offset, j_step_s=RESULT)[0].numpy()
    assert np.abs(u - expected).max() < 5e-5


def test_a_second_derivative_is_refused():
    b1 = random_b1(1, 6).requires_grad_()
    weight = torch.ones(8, 8, dtype=torch.complex128)
    value = (weight * pulse_propagator(model_of(), b1, DWELL_S, offset_hz=torch.zeros(1).double())[0]).real.sum()
    with pytest.raises(InputError, match="differentiable once"):
        torch.autograd.grad(value, b1, create_graph=True)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b1_hz": torch.zeros(1, 0, dtype=torch.complex128)}, "T >= 1"),
        ({"offset_hz": torch.zeros(0).double()}, "B >= 1"),
        ({"offset_hz": torch.tensor(0.0).double()}, "B >= 1"),
        ({"b1_hz": random_b1(2, 4), "offset_hz": torch.zeros(3).double()}, r"\(3,\) and \(2, 4\)"),
        ({"b1_scale": torch.ones(2).double()}, "shape of offset_hz"),
        ({"offset_hz": torch.tensor([float("nan")])}, "offset_hz must be finite"),
        ({"b1_scale": torch.tensor([float("inf")])}, "b1_scale must be finite"),
        ({"j_step_s": 1e-12}, "J steps of"),
    ],
)
def test_what_does_not_belong_together_is_refused(changes, says):
    arguments = {"b1_hz": random_b1(1, 4), "offset_hz": torch.zeros(1).double()} | changes
    with pytest.raises(InputError, match=says):
        pulse_propagator(model_of(), dwell_s=DWELL_S, **arguments)
