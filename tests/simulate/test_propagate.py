import itertools
import math

import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.errors import InputError
from seqgen.simulate.propagate import kronecker, partial_trace_matrix, pulse_propagator
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


def test_meets_the_stepwise_twin_with_order_two():
    b1, offset = random_b1(3, 16), torch.tensor([-40.0, 0.0, 110.0], dtype=torch.float64)
    exact = stepwise_twin(b1, offset)
    errors = []
    for refinement in (1, 2, 4, 8, 16):
        fine = b1.repeat_interleave(refinement, 1)
        step = DWELL_S / refinement
        u = pulse_propagator(model_of(), fine, step, offset_hz=offset, j_step_s=step)
        errors.append(float((u - exact).abs().max()))
    assert errors[0] < 2e-3
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([2.0] * 4, abs=0.05)
    # Richardson: the h^2 term removed, what is left is of order h^4.
    coarse, finer = (
        pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S / n) for n in (16, 32)
    )
    assert float(((4 * finer - coarse) / 3 - exact).abs().max()) < 1e-9


def test_gradient_meets_the_stepwise_twin():
    offset = torch.tensor([-40.0, 110.0], dtype=torch.float64, requires_grad=True)
    b1 = random_b1(2, 6).requires_grad_()
    g = torch.Generator().manual_seed(5)
    weight = torch.randn(2, 8, 8, generator=g, dtype=torch.complex128)

    def loss(u):
        return (weight * u).sum().abs() ** 2

    exact = torch.autograd.grad(loss(stepwise_twin(b1, offset)), (b1, offset))
    errors = []
    for refinement in (8, 16):
        step = DWELL_S / refinement
        u = pulse_propagator(model_of(), b1.repeat_interleave(refinement, 1), step, offset_hz=offset, j_step_s=step)
        found = torch.autograd.grad(loss(u), (b1, offset))
        errors.append([float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, exact, strict=True)])
    assert max(errors[1]) < 1e-5
    assert [a / b for a, b in zip(*errors, strict=True)] == pytest.approx([4, 4], rel=0.05)


@pytest.mark.parametrize("j_step_s", [DWELL_S / 8, DWELL_S, 4 * DWELL_S, 1.0])
def test_is_unitary(j_step_s):
    u = pulse_propagator(
        model_of(), random_b1(2, 12), DWELL_S, offset_hz=torch.tensor([0.0, 33.0]).double(), j_step_s=j_step_s
    )
    torch.testing.assert_close(u @ u.mH, torch.eye(8, dtype=u.dtype).expand(2, -1, -1), rtol=0, atol=1e-12)


def test_step_length_is_what_was_asked_for():
    """With 12 samples and a J step of 5 samples, 4 divide: the same numbers as asking for 4."""
    b1, offset = random_b1(1, 12), torch.zeros(1, dtype=torch.float64)
    u = [pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=k * DWELL_S) for k in (5, 4, 6)]
    assert bool((u[0] == u[1]).all())
    assert float((u[0] - u[2]).abs().max()) > 1e-6


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
    torch.testing.assert_close(together, torch.stack(apart), rtol=0, atol=1e-15)


def test_kronecker_is_numpys():
    rng = np.random.default_rng(3)
    single = rng.normal(size=(3, 2, 2)) + 1j * rng.normal(size=(3, 2, 2))
    expected = np.kron(np.kron(single[0], single[1]), single[2])
    np.testing.assert_allclose(kronecker(torch.as_tensor(single)), expected, rtol=0, atol=1e-14)


def test_partial_traces():
    """Traces of the other spins leave A of A (x) B (x) C times tr B tr C, and so on."""
    rng = np.random.default_rng(4)
    a, b, c = rng.normal(size=(3, 2, 2)) + 1j * rng.normal(size=(3, 2, 2))
    whole = torch.as_tensor(np.kron(np.kron(a, b), c)).reshape(-1)
    found = (whole @ partial_trace_matrix(3, whole.dtype)).reshape(3, 2, 2).numpy()
    ta, tb, tc = (np.trace(m) for m in (a, b, c))
    np.testing.assert_allclose(found, [a * tb * tc, b * ta * tc, c * ta * tb], rtol=0, atol=1e-13)


def test_samples_longer_than_the_j_step_are_cut():
    b1, offset = random_b1(1, 5), torch.zeros(1, dtype=torch.float64)
    cut = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S / 3)
    held = pulse_propagator(model_of(), b1.repeat_interleave(3, 1), DWELL_S / 3, offset_hz=offset, j_step_s=DWELL_S / 3)
    torch.testing.assert_close(cut, held, rtol=0, atol=0)
    whole = pulse_propagator(model_of(), b1, DWELL_S, offset_hz=offset, j_step_s=DWELL_S)
    assert float((cut - whole).abs().max()) > 1e-6


def test_a_block_pulse_is_as_exact_as_its_j_step():
    """One sample of 2 ms: the twin is one matrix exponential."""
    offset = torch.zeros(1, dtype=torch.float64)
    b1 = torch.full((1, 1), 125.0, dtype=torch.complex128)
    u = pulse_propagator(model_of(), b1, 2e-3, offset_hz=offset, j_step_s=1e-4)[0]
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, J_HZ)
    np.testing.assert_allclose(u, exact_spins.pulse(h, b1[0].numpy(), 2e-3), rtol=0, atol=2e-4)


@pytest.mark.parametrize("j_step_s", [0.0, -1e-4, float("nan")])
def test_a_j_step_that_is_no_time_is_refused(j_step_s):
    with pytest.raises(InputError, match="j_step_s must be positive"):
        pulse_propagator(model_of(), random_b1(1, 4), DWELL_S, offset_hz=torch.zeros(1).double(), j_step_s=j_step_s)


@pytest.mark.parametrize("b1", [torch.zeros(4, dtype=torch.complex128), torch.zeros(1, 4, dtype=torch.float64)])
def test_a_waveform_of_the_wrong_kind_is_refused(b1):
    with pytest.raises(InputError, match=r"complex of shape \(B, T\)"):
        pulse_propagator(model_of(), b1, DWELL_S, offset_hz=torch.zeros(1).double())
