"""Shaped pulses on strongly coupled spins against QuTiP: one expm of the full Hamiltonian per sample."""

import functools
import math

import numpy as np
import pytest
import qutip_spins
import torch
from qutip_spins import qutip, qutip_relaxed_state

from seqgen.library import spin_system
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.propagate import pulse_propagator
from seqgen.simulate.relaxation import SpinRelaxation
from seqgen.simulate.slices import relaxing_pulse, slice_axis
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.operators import product_operator, total_operator
from seqgen.spin.system import SpinGroup
from seqgen.timeline import Interval, Receiver, Timeline, delay

pytestmark = pytest.mark.crosstool

F0_HZ, REFERENCE_PPM = 123.25e6, 2.35
J_STEP_S = 1e-5
TOLERANCE = 1e-8
"""Of the largest signal, at J_STEP_S; QuTiP's exponentials and products are good to about 1e-13."""
N_SAMPLES, DWELL_S = 48, 1.5e-3
OFFSETS_HZ = (0.0, 23.0, -61.5)


def glu():
    group = spin_system("Glu").groups[0]
    return SpinGroup(name="Glu", labels=group.labels, shift_ppm=group.shift_ppm, j_hz=group.j_hz)


def random_three():
    """Shift differences of the size of the couplings."""
    generator = np.random.default_rng(5)
    j = np.triu(generator.uniform(-16, 16, (3, 3)), 1)
    shift_ppm = REFERENCE_PPM + generator.uniform(-30, 30, 3) / F0_HZ * 1e6
    return SpinGroup(
        name="random", labels=("a", "b", "c"), shift_ppm=tuple(shift_ppm), j_hz=tuple(map(tuple, (j + j.T).tolist()))
    )


GROUPS = {"Glu": glu, "three": random_three}


def waveform(n=80, seed=2, peak_hz=350.0):
    """Smooth, modulated in amplitude and phase; at 1e-4 s a sample, 8 ms."""
    generator = np.random.default_rng(seed)
    t = (np.arange(n) + 0.5) / n
    terms = generator.normal(size=(6, 2)) @ [1, 1j]
    shape = sum(c * np.exp(2j * math.pi * k * t) for k, c in zip(range(-3, 3), terms, strict=True)) * np.sin(
        math.pi * t
    )
    return shape / np.abs(shape).max() * peak_hz


def offsets_hz(group):
    return [(shift - REFERENCE_PPM) * F0_HZ * 1e-6 for shift in group.shift_ppm]


@functools.cache
def qutip_hamiltonian(name):
    group = GROUPS[name]()
    return qutip_spins.free_hamiltonian(offsets_hz(group), group.j_hz)


def turns(offset_hz, start_s=0.0):
    """What a field offset adds to a signal while the receiver is open, and before it."""
    return np.exp(2j * math.pi * offset_hz * (start_s + np.arange(N_SAMPLES) * DWELL_S))


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("offset_hz", OFFSETS_HZ)
@pytest.mark.parametrize("name", GROUPS)
def test_propagator_and_signal_of_a_shaped_pulse(name, offset_hz):
    b1_hz, dwell_s = waveform(), 1e-4
    model = group_model(GROUPS[name](), F0_HZ, REFERENCE_PPM)
    u = pulse_propagator(
        model,
        torch.tensor(b1_hz)[None],
        dwell_s,
        offset_hz=torch.tensor([offset_hz], dtype=torch.float64),
        j_step_s=J_STEP_S,
    )
    h = qutip_hamiltonian(name)
    expected_u = qutip_spins.pulse(h, b1_hz, dwell_s, offset_hz)
    assert relative_error(u[0].numpy(), expected_u.full()) < TOLERANCE

    vectors = model.eigenvectors.to(u.dtype)
    state = vectors @ model.initial_state @ vectors.mT
    rho = vectors.mT @ (u @ state @ u.mH) @ vectors
    found = fid(lines(rho, model), N_SAMPLES, DWELL_S)[0].numpy() * turns(offset_hz)
    thermal = qutip_spins.total(len(h.dims[0]), "z")
    expected = qutip_spins.signal(expected_u * thermal * expected_u.dag(), h, N_SAMPLES, DWELL_S, offset_hz)
    assert np.abs(expected).max() > 0.5
    assert relative_error(found, expected) < TOLERANCE


def interval(b1_hz, dwell_s, use, carrier_hz=0.0):
    """A pulse as the timeline has it, modulated by its carrier."""
    t_s = (np.arange(len(b1_hz)) + 0.5) * dwell_s
    return Interval(
        dwell_s=dwell_s,
        b1_hz=torch.tensor(b1_hz * np.exp(2j * math.pi * carrier_hz * t_s)),
        gradient_hz_per_m=torch.zeros(len(b1_hz), 3, dtype=torch.float64),
        use=use,
        centre_s=len(b1_hz) * dwell_s / 2,
        carrier_hz=carrier_hz,
        name=use,
    )


def readout():
    return Interval(
        dwell_s=N_SAMPLES * DWELL_S,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=Receiver(n_samples=N_SAMPLES, dwell_s=DWELL_S),
    )


@pytest.mark.parametrize("name", GROUPS)
def test_timeline_of_two_shaped_pulses_over_an_ensemble(name):
    """Excitation, delay, a pulse off the spectrometer frequency, delay, readout; no gradients: every order counts."""
    first, second = waveform(50, 3, 90.0), waveform(70, 4, 110.0)
    dwell_s, gaps_s, carrier_hz = 1e-4, (0.004, 0.007), 85.0
    timeline = Timeline(
        intervals=(
            interval(first, dwell_s, "excitation"),
            delay(gaps_s[0]),
            interval(second, dwell_s, "refocusing", carrier_hz),
            delay(gaps_s[1]),
            readout(),
        )
    )
    members = ensemble((0.0, 23.0, -61.5), (0.85, 1.1))
    model = group_model(GROUPS[name](), F0_HZ, REFERENCE_PPM)
    shot = prepare(
        [timeline],
        model,
        members,
        time_zero_s=timeline.readouts()[0][0],
        j_step_s=J_STEP_S,
    )
    found = fid(lines(play(shot), model), N_SAMPLES, DWELL_S).numpy()

    h = qutip_hamiltonian(name)
    n = len(h.dims[0])
    for member in range(members.size):
        b0, b1 = float(members.b0_hz[member]), float(members.b1_scale[member])
        # In the frame of the second pulse's carrier, which coincides with the spectrometer's as the pulse starts.
        back = (-2j * math.pi * carrier_hz * len(second) * dwell_s * qutip_spins.total(n, "z")).expm()
        u = (
            qutip_spins.delay(h, gaps_s[1], b0)
            * back
            * qutip_spins.pulse(h, b1 * second, dwell_s, b0 - carrier_hz)
            * qutip_spins.delay(h, gaps_s[0], b0)
            * qutip_spins.pulse(h, b1 * first, dwell_s, b0)
        )
        expected = qutip_spins.signal(u * qutip_spins.total(n, "z") * u.dag(), h, N_SAMPLES, DWELL_S, b0)
        assert relative_error(found[member] * turns(b0), expected) < TOLERANCE


def test_signal_sees_a_conjugated_waveform_and_the_sign_of_the_offset():
    h, thermal = qutip_hamiltonian("three"), qutip_spins.total(3, "z")

    def signal(b1_hz, offset_hz):
        u = qutip_spins.pulse(h, b1_hz, 1e-4, offset_hz)
        return qutip_spins.signal(u * thermal * u.dag(), h, N_SAMPLES, DWELL_S, offset_hz)

    right = signal(waveform(), 23.0)
    assert relative_error(signal(waveform().conj(), 23.0), right) > 0.1
    assert relative_error(signal(waveform(), -23.0), right) > 0.1


# The oracle for relaxation during pulses, checked before anyone leans on it.


def test_relaxed_state_without_relaxation_is_unitary():
    group = random_three()
    start = qutip_spins.total(3, "z")
    found = qutip_relaxed_state(
        start, offsets_hz(group), group.j_hz, waveform(20), 1e-4, [math.inf] * 3, [math.inf] * 3, common_offset_hz=11.0
    )
    u = qutip_spins.pulse(qutip_hamiltonian("three"), waveform(20), 1e-4, 11.0)
    assert np.abs(found - (u * start * u.dag()).full()).max() < 1e-12


def test_relaxed_state_decays_spin_by_spin():
    """Free decay: Ix with T2, Iz with T1 of its own spin, 2 Iz Iz with the sum of the rates; Iz recovers."""
    t1_s, t2_s, time_s = (0.3, 0.7), (0.04, 0.09), 0.05
    none = np.zeros((2, 2))

    def after(start, **options):
        return qutip_relaxed_state(start, (0.0, 0.0), none, np.zeros(1, complex), time_s, t1_s, t2_s, **options)

    for k in range(2):
        x, z = qutip_spins.spin(2, k, "x"), qutip_spins.spin(2, k, "z")
        assert np.abs(after(x) - x.full() * math.exp(-time_s / t2_s[k])).max() < 1e-12
        assert np.abs(after(z) - z.full() * math.exp(-time_s / t1_s[k])).max() < 1e-12
        recovered = z.full() * (1 - math.exp(-time_s / t1_s[k]))
        assert np.abs(after(0 * z, equilibrium=z) - recovered).max() < 1e-12
    pair = qutip_spins.spin(2, 0, "z") * qutip_spins.spin(2, 1, "z")
    rate = sum(1 / t1 for t1 in t1_s)
    assert np.abs(after(pair) - pair.full() * math.exp(-time_s * rate)).max() < 1e-12


def test_relaxed_state_reaches_the_steady_state_of_bloch():
    """Mz = M0 (1 + (d T2)^2) / (1 + (d T2)^2 + w1^2 T1 T2); offset d, nutation w1, rad/s."""
    t1, t2, b1_hz, offset_hz = 0.05, 0.02, 9.0, 14.0
    z = qutip_spins.total(1, "z")
    rho = qutip_relaxed_state(z, [offset_hz], [[0.0]], np.full(4, b1_hz + 0j), 0.5, [t1], [t2], equilibrium=z)
    detuning, nutation = (2 * math.pi * offset_hz * t2) ** 2, (2 * math.pi * b1_hz) ** 2 * t1 * t2
    assert np.trace(rho @ z.full()).real * 2 == pytest.approx((1 + detuning) / (1 + detuning + nutation), abs=1e-12)


def test_relaxed_state_equals_mesolve():
    group = random_three()
    t1_s, t2_s, b1_hz, dwell_s = (0.2, 0.5, math.inf), (0.03, 0.06, 0.02), waveform(12), 1e-3
    rho = qutip_spins.total(3, "x") + 0.7 * qutip_spins.total(3, "y")  # Hermitian and not symmetric
    found = qutip_relaxed_state(rho, offsets_hz(group), group.j_hz, b1_hz, dwell_s, t1_s, t2_s, common_offset_hz=-9.0)
    operators = qutip_spins.collapse_operators(t1_s, t2_s)
    options = {"method": "dop853", "atol": 1e-12, "rtol": 1e-10, "nsteps": 100_000, "progress_bar": False}
    for hamiltonian in qutip_spins.sample_hamiltonians(qutip_hamiltonian("three"), b1_hz, -9.0):
        rho = qutip.mesolve(hamiltonian, rho, [0.0, dwell_s], c_ops=operators, options=options).states[-1]
    assert np.abs(found - rho.full()).max() < 1e-8


def test_relaxation_of_every_spin_during_a_pulse():
    """Three coupled spins with times of their own, a phase-modulated 20 ms pulse: order 2 in the relaxation's step."""
    model = group_model(GROUPS["three"](), F0_HZ, REFERENCE_PPM)
    t1_s, t2_s = (0.9, 0.05, 2.0), (0.03, 0.02, 0.4)
    b1_hz, dwell_s = waveform(1000, 3, 150.0), 2e-5
    start = total_operator(3, "x") + 4 * product_operator(3, {0: "z", 1: "z", 2: "x"})
    expected = qutip_relaxed_state(
        start.numpy(), model.offset_hz.tolist(), model.group.j_hz, b1_hz, dwell_s, t1_s, t2_s
    )
    vectors = model.eigenvectors.to(torch.complex128)
    errors = []
    for pieces in (20, 40):
        shaped, members = interval(b1_hz, dwell_s, "preparation"), ensemble()
        pulse = relaxing_pulse(
            model,
            shaped,
            members,
            SpinRelaxation(t1_s=t1_s, t2_s=t2_s),
            slice_axis(model, [shaped], members, positions_per_slice=1),
            J_STEP_S,
            longest_piece_s=shaped.duration_s / pieces,
        )
        found = vectors @ pulse.apply((vectors.mT @ start @ vectors)[None, None])[0, 0] @ vectors.mT
        errors.append(relative_error(found.numpy(), expected))
    assert errors[0] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
