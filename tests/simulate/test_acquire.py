import math

import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.simulate.acquire import Lines, concatenate, fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Receiver, Timeline, delay, ideal_pulse


def open_receiver(n_samples=512, dwell_s=1e-3):
    silent = delay(n_samples * dwell_s)
    return type(silent)(
        dwell_s=silent.dwell_s,
        b1_hz=silent.b1_hz,
        gradient_hz_per_m=silent.gradient_hz_per_m,
        receiver=Receiver(n_samples=n_samples, dwell_s=dwell_s),
    )


def pulse_acquire(phase_rad=math.pi / 2):
    return Timeline(intervals=(ideal_pulse(math.pi / 2, phase_rad, "excitation"), open_receiver()))


def spin_echo(te_s):
    return Timeline(
        intervals=(
            ideal_pulse(math.pi / 2, math.pi / 2, "excitation"),
            delay(te_s / 2),
            ideal_pulse(math.pi, 0.0, "refocusing"),
            delay(te_s / 2),
            open_receiver(),
        )
    )


def lines_of(timeline, offsets_hz, couplings_hz, **kwargs):
    model = group_model(group_at_hz(offsets_hz, couplings_hz, **kwargs), FREQUENCY_HZ, REFERENCE_PPM)
    return lines(play(prepare([timeline], model)), model)


def test_one_proton_along_x_gives_one_and_turns_with_its_offset():
    found = lines_of(pulse_acquire(), [40.0], {})
    t = np.arange(64) * 1e-3
    np.testing.assert_allclose(fid(found, 64, 1e-3)[0], np.exp(2j * np.pi * 40.0 * t), rtol=0, atol=1e-12)


def test_a_plus_x_pulse_leaves_the_signal_along_minus_y():
    assert complex(fid(lines_of(pulse_acquire(0.0), [0.0], {}), 1, 1e-3)[0, 0]) == pytest.approx(-1j, abs=1e-12)


@pytest.mark.parametrize("n_spins", [1, 2, 3, 5])
def test_first_point_counts_protons_whatever_their_couplings(n_spins):
    rng = np.random.default_rng(n_spins)
    couplings = {(j, k): rng.normal() * 10 for j in range(n_spins) for k in range(j + 1, n_spins)}
    found = lines_of(pulse_acquire(), list(rng.normal(size=n_spins) * 100), couplings, multiplier=2.0)
    assert complex(fid(found, 1, 1e-3)[0, 0]) == pytest.approx(2.0 * n_spins, abs=1e-12)


def test_heteronucleus_is_neither_detected_nor_counted():
    found = lines_of(pulse_acquire(), [25.0, 0.0], {(0, 1): 8.0}, nuclei=("1H", "31P"))
    t = np.arange(100) * 1e-3
    expected = np.exp(2j * np.pi * 25.0 * t) * np.cos(np.pi * 8.0 * t)
    np.testing.assert_allclose(fid(found, 100, 1e-3)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("te_s", [1e-9, 0.02, 1 / 14, 1 / 7, 0.2])
def test_j_evolution_of_ax_in_a_spin_echo(te_s):
    """cos(pi J (TE + t)): J evolves on, the shift is refocused at TE. Ernst, Bodenhausen, Wokaun (1987), ch. 2."""
    j_hz = 7.0
    found = lines_of(spin_echo(te_s), [0.0, 1e7], {(0, 1): j_hz})
    own = found.frequency_hz.abs() < 100
    t = np.arange(80) * 1e-3
    signal = fid(Lines(amplitude=found.amplitude[:, own], frequency_hz=found.frequency_hz[own]), 80, 1e-3)[0].numpy()
    # Coupling to a shift 1e7 Hz away is weak to J / difference per echo.
    expected = np.cos(np.pi * j_hz * (te_s + t))
    np.testing.assert_allclose(signal, expected, rtol=0, atol=3e-5)


def test_strongly_coupled_echo_meets_plain_numpy():
    offsets, j = [-83.0, 21.0, 64.0], np.array([[0, 7.3, 4.6], [7.3, 0, -14.8], [4.6, -14.8, 0]])
    h = exact_spins.free_hamiltonian(offsets, j)
    rho = exact_spins.total(3, "x")
    half = exact_spins.delay(h, 0.017)
    flip = exact_spins.expm(-1j * np.pi * exact_spins.total(3, "x"))
    u = half @ flip @ half
    t = np.arange(50) * 1e-3
    expected = exact_spins.signal(u @ rho @ u.conj().T, h, t)
    found = lines_of(spin_echo(0.034), offsets, {(0, 1): 7.3, (0, 2): 4.6, (1, 2): -14.8})
    np.testing.assert_allclose(fid(found, 50, 1e-3)[0], expected, rtol=0, atol=1e-10)


def test_first_sample_may_come_later_or_earlier():
    found = lines_of(pulse_acquire(), [40.0, -3.0], {(0, 1): 9.0})
    late = fid(found, 20, 1e-3, first_sample_s=-0.01)
    torch.testing.assert_close(fid(found, 10, 1e-3), late[:, 10:], rtol=0, atol=1e-12)


def test_molecules_are_sums_of_groups():
    parts = [lines_of(pulse_acquire(), [f], {}) for f in (10.0, -30.0)]
    whole = fid(concatenate(parts), 16, 1e-3)
    torch.testing.assert_close(whole, fid(parts[0], 16, 1e-3) + fid(parts[1], 16, 1e-3), rtol=0, atol=1e-14)
