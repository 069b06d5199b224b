import itertools
import math

import exact_spins
import numpy as np
import pytest
import torch
from scipy.linalg import expm
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import hard_press, readout

from seqgen.errors import InputError
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.molecule import relaxation_effect
from seqgen.simulate.relaxation import SpinRelaxation, equal_for_all, relax
from seqgen.simulate.slices import SliceAxis, relaxing_pulse
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Interval, Timeline, delay, ideal_pulse

NOWHERE = SliceAxis(direction=torch.zeros(3).double(), position_m=torch.zeros(1).double(), weight=1.0)
"""The one position of a non-selective pulse."""
TIMES = SpinRelaxation(t1_s=(0.9, 0.05), t2_s=(0.03, 0.02))


def operator(axes):
    """Product operator of two spins from text like "xz"; "e" is the identity."""
    one = exact_spins.PAULI | {"e": np.eye(2)}
    return np.kron(one[axes[0]], one[axes[1]])


@pytest.mark.parametrize("axes", ["".join(pair) for pair in itertools.product("exyz", repeat=2)])
def test_product_operators_decay_with_the_sum_of_their_rates(axes):
    rate = sum(
        {"e": 0.0, "x": 1 / TIMES.t2_s[k], "y": 1 / TIMES.t2_s[k], "z": 1 / TIMES.t1_s[k]}[axis]
        for k, axis in enumerate(axes)
    )
    found = relax(torch.as_tensor(operator(axes)).to(torch.complex128), TIMES, 7e-3).numpy()
    np.testing.assert_allclose(found, operator(axes) * math.exp(-7e-3 * rate), rtol=0, atol=1e-15)


def test_trace_hermiticity_and_positivity_are_kept():
    g = torch.Generator().manual_seed(1)
    a = torch.randn(5, 4, 4, generator=g, dtype=torch.complex128)
    rho = a @ a.mH
    found = relax(rho, TIMES, 0.01)
    torch.testing.assert_close(found, found.mH, rtol=0, atol=1e-14)
    trace = torch.diagonal(found, dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(trace, torch.diagonal(rho, dim1=-2, dim2=-1).sum(-1), rtol=0, atol=1e-13)
    assert float(torch.linalg.eigvalsh(found).min()) > -1e-12


def test_steps_add_up():
    g = torch.Generator().manual_seed(2)
    rho = torch.randn(4, 4, generator=g, dtype=torch.complex128)
    twice = relax(relax(rho, TIMES, 0.004), TIMES, 0.006)
    torch.testing.assert_close(twice, relax(rho, TIMES, 0.01), rtol=0, atol=1e-15)


OFFSETS_HZ, J_HZ, N_SAMPLES, DWELL_S = [-45.0, 60.0], 11.0, 1000, 2e-5


def waveform():
    t = (np.arange(N_SAMPLES) + 0.5) / N_SAMPLES
    return 150 * np.sin(np.pi * t) ** 2 * np.exp(3j * np.sin(5 * t))


def pulse_interval():
    return Interval(
        dwell_s=DWELL_S,
        b1_hz=torch.as_tensor(waveform()),
        gradient_hz_per_m=torch.zeros(N_SAMPLES, 3, dtype=torch.float64),
        use="preparation",
        centre_s=N_SAMPLES * DWELL_S / 2,
    )


def model_of(**kwargs):
    return group_model(group_at_hz(OFFSETS_HZ, {(0, 1): J_HZ}, **kwargs), FREQUENCY_HZ, REFERENCE_PPM)


def master_equation(rho, times):
    """One exponential of the 16 x 16 Liouvillian per sample: commutator, and every product operator's own rate."""
    h0 = exact_spins.free_hamiltonian(OFFSETS_HZ, [[0, J_HZ], [J_HZ, 0]])
    eye = np.eye(4)
    relaxing = np.zeros((16, 16), complex)
    for axes in itertools.product("exyz", repeat=2):
        b = operator("".join(axes)).astype(complex).reshape(-1)
        b = b / np.linalg.norm(b)
        rate = sum(
            {"e": 0.0, "x": 1 / times.t2_s[k], "y": 1 / times.t2_s[k], "z": 1 / times.t1_s[k]}[axis]
            for k, axis in enumerate(axes)
        )
        relaxing += rate * np.outer(b, b.conj())
    vector = rho.reshape(-1)
    for b1 in waveform():
        h = h0 + 2 * np.pi * (b1.real * exact_spins.total(2, "x") + b1.imag * exact_spins.total(2, "y"))
        liouvillian = -1j * (np.kron(h, eye) - np.kron(eye, h.T)) - relaxing
        vector = expm(liouvillian * DWELL_S) @ vector
    return vector.reshape(4, 4)


def played(rho, times, longest_s):
    model = model_of()
    pulse = relaxing_pulse(model, pulse_interval(), ensemble(), times, NOWHERE, 1e-5, longest_piece_s=longest_s)
    v = model.eigenvectors.numpy()
    out = pulse.apply(torch.as_tensor(v.T @ rho @ v).to(torch.complex128)[None, None])[0, 0].numpy()
    return v @ out @ v.T


def test_a_relaxing_pulse_meets_the_master_equation_with_order_two():
    rho = exact_spins.total(2, "x") + 2 * operator("xz") + 0.5 * operator("yx")
    expected = master_equation(rho, TIMES)
    errors = [np.abs(played(rho, TIMES, step) - expected).max() for step in (1e-3, 4e-4, 2e-4)]
    assert errors[0] < 2e-3 * np.abs(expected).max()
    assert [math.log(a / b, n) for a, b, n in ((*errors[:2], 2.5), (*errors[1:], 2))] == pytest.approx([2, 2], abs=0.1)


def test_equal_rates_commute_with_everything():
    """T1 = T2 for all single-quantum terms of one spin: the decay is one number, whatever the pulse does."""
    times = SpinRelaxation(t1_s=(0.1, math.inf), t2_s=(0.1, math.inf))
    rho = operator("xe")
    model = group_model(group_at_hz(OFFSETS_HZ, {}), FREQUENCY_HZ, REFERENCE_PPM)
    none = SpinRelaxation(t1_s=(math.inf,) * 2, t2_s=(math.inf,) * 2)
    pulse, still = (relaxing_pulse(model, pulse_interval(), ensemble(), t, NOWHERE, 1e-4) for t in (times, none))
    start = torch.as_tensor(rho).to(torch.complex128)[None, None]
    torch.testing.assert_close(
        pulse.apply(start), still.apply(start) * math.exp(-N_SAMPLES * DWELL_S / 0.1), rtol=0, atol=1e-14
    )


def edited_shot():
    """Spin echo of hard pulses with the 20 ms pulse at its top."""
    ninety, half = ideal_pulse(math.pi / 2, 0.0, "excitation"), ideal_pulse(math.pi, math.pi / 2, "refocusing")
    crusher = delay(1e-3, (1e6, 0.0, 0.0))
    return Timeline(
        intervals=(
            ninety, delay(9e-3), crusher, half, crusher, delay(5e-3), pulse_interval(), delay(15e-3), crusher, half,
            crusher, delay(9e-3), readout(),
        )
    )  # fmt: skip


def test_long_pulses_alone_relax_and_their_time_is_told():
    model = model_of()
    plain = prepare([edited_shot()], model)
    slow = prepare([edited_shot()], model, relaxation=equal_for_all(Relaxation(t1_s=1e6, t2_s=1e6), 2))
    fast = prepare([edited_shot()], model, relaxation=TIMES)
    assert (plain.relaxed_s, slow.relaxed_s) == (0.0, pytest.approx(0.02))
    torch.testing.assert_close(play(slow), play(plain), rtol=0, atol=1e-7)
    assert float(play(fast).norm()) < 0.9 * float(play(plain).norm())
    assert prepare([hard_press()], model, relaxation=TIMES).relaxed_s == 0.0


SYSTEM = SpinSystem(name="pair", groups=(group_at_hz(OFFSETS_HZ, {(0, 1): J_HZ}),))


def effect_of(shot, relaxation):
    return relaxation_effect(
        [shot], SYSTEM, relaxation, spectrometer_frequency_hz=FREQUENCY_HZ, reference_ppm=REFERENCE_PPM
    )


def test_the_effect_of_relaxation_in_pulses():
    long_t1 = effect_of(edited_shot(), Relaxation(t1_s=1.2, t2_s=0.1))
    assert long_t1.relaxing_s == pytest.approx(0.02)
    # What the pulse stores along z, or keeps there, decays with T1: more is left than exp(-TE/T2) leaves.
    assert 1.0 < long_t1.signal_ratio < math.exp(0.02 / 0.1)
    assert long_t1.difference >= long_t1.signal_ratio - 1
    equal = effect_of(edited_shot(), Relaxation(t1_s=1e5, t2_s=1e5))
    assert equal.difference < 1e-6


def test_there_is_no_effect_without_long_pulses():
    assert effect_of(hard_press(), Relaxation(t1_s=1.2, t2_s=0.1)).difference == 0.0
    assert effect_of(hard_press(), Relaxation(t1_s=1.2, t2_s=0.1)).relaxing_s == 0.0


def test_gradients_pass_through_relaxation():
    g = torch.Generator().manual_seed(3)
    rho = torch.randn(4, 4, generator=g, dtype=torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(lambda r: relax(r, TIMES, 0.01), (rho,))


@pytest.mark.parametrize("n_samples", [1, 7, 97])
def test_pieces_do_not_depend_on_how_a_pulse_is_sampled(n_samples):
    """A rectangle of 20 ms on a lone spin, against the Bloch equations of a constant field in closed form (expm)."""
    t1_s, t2_s, b1_hz, offset_hz = 1.2, 0.03, 12.5, 8.0
    block = Interval(
        dwell_s=0.02 / n_samples,
        b1_hz=torch.full((n_samples,), b1_hz, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(n_samples, 3, dtype=torch.float64),
        use="preparation",
        centre_s=0.01,
    )
    model = group_model(group_at_hz([offset_hz], {}), FREQUENCY_HZ, REFERENCE_PPM)
    times = SpinRelaxation(t1_s=(t1_s,), t2_s=(t2_s,))
    pulse = relaxing_pulse(model, block, ensemble(), times, NOWHERE, 1e-4)
    rho = pulse.apply(model.initial_state[None, None])[0, 0].numpy()
    found = [2 * np.trace(rho @ exact_spins.PAULI[axis]).real for axis in "xyz"]
    w1, w = 2 * np.pi * b1_hz, 2 * np.pi * offset_hz
    bloch = np.array([[-1 / t2_s, -w, 0], [w, -1 / t2_s, -w1], [0, w1, -1 / t1_s]])
    np.testing.assert_allclose(found, expm(bloch * 0.02) @ [0, 0, 1], rtol=0, atol=1e-3)


def test_impossible_times_and_reduced_groups_are_refused():
    with pytest.raises(InputError, match="t2_s <= 2 t1_s"):
        SpinRelaxation(t1_s=(0.1,), t2_s=(0.3,))
    with pytest.raises(InputError, match="one T1 and one T2"):
        SpinRelaxation(t1_s=(0.1,), t2_s=(0.1, 0.1))
    with pytest.raises(InputError, match="2 spins, but relaxation has 1"):
        prepare([edited_shot()], model_of(), relaxation=SpinRelaxation(t1_s=(0.1,), t2_s=(0.1,)))
    model = model_of(quantum_number=(0.5, 1.0))
    with pytest.raises(InputError, match="total spin of several"):
        prepare([edited_shot()], model, relaxation=TIMES)
