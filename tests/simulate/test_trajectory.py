import math

import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, hard_press, lobe, readout, selective

from seqgen.pulse.shapes import slr_pulse
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.trajectory import order_norms, received, to_eigenbasis, trajectory
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.product_operators import expand, magnitudes
from seqgen.timeline import Interval, Timeline, delay, ideal_pulse


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def spin_echo(te_s):
    """No gradients: nothing is filtered."""
    return Timeline(
        intervals=(
            ideal_pulse(math.pi / 2, math.pi / 2, "excitation"),
            delay(te_s / 2),
            ideal_pulse(math.pi, 0.0, "refocusing"),
            delay(te_s / 2),
            readout(),
        )
    )


def selective_press(receiver_rad=0.0, excitation_rad=0.0):
    """Three selective pulses, one of 150 degrees; an editing pulse of 3 ms without slice between the last two."""
    gradient, dwell_s = 5e4, 5e-5

    def slr(flip_deg, phase_rad):
        pulse = slr_pulse(
            flip_angle_rad=math.radians(flip_deg), time_bandwidth=4.0, duration_s=2e-3, dwell_s=dwell_s, name="slr"
        )
        return pulse.b1_hz * np.exp(1j * phase_rad)

    edit = Interval(
        dwell_s=1e-4,
        b1_hz=120.0 * torch.exp(1j * torch.linspace(0, 5, 30, dtype=torch.float64)),
        gradient_hz_per_m=torch.zeros(30, 3, dtype=torch.float64),
        use="preparation",
        centre_s=1.5e-3,
        name="edit",
    )
    return Timeline(
        intervals=(
            delay(1e-3),
            selective(slr(90, excitation_rad), dwell_s, Z, gradient, "excitation"),
            lobe(Z, -gradient * 1e-3, 5e-4),
            lobe(X, 4000.0, 5e-4),
            selective(slr(150, math.pi / 2), dwell_s, X, gradient, "refocusing"),
            lobe(X, 4000.0, 5e-4),
            edit,
            lobe(Y, 4000.0, 5e-4),
            selective(slr(180, math.pi / 2), dwell_s, Y, gradient, "refocusing"),
            lobe(Y, 4000.0, 5e-4),
            readout(phase_rad=receiver_rad),
        )
    )


@pytest.mark.parametrize("receiver_rad", [0.0, 0.7])
@pytest.mark.parametrize("step_rad", [(math.pi, math.pi), (1.0, 0.2)])
def test_the_last_state_is_what_play_returns(receiver_rad, step_rad):
    """With a phase cycle that passes the signal whole, and one that turns and weakens it."""
    model = model_of([-45.0, 20.0], {(0, 1): 12.0})
    cycle = [selective_press(receiver_rad), selective_press(receiver_rad + step_rad[0], step_rad[1])]
    options = {"members": ensemble((-6.0, 4.0), (0.9, 1.1)), "positions_per_slice": 6, "time_zero_s": 0.0135}
    played = trajectory(cycle, model, **options)
    expected = play(prepare(cycle, model, **options))
    assert float(expected.abs().max()) > 0.05
    last = to_eigenbasis(received(played), model)
    torch.testing.assert_close(last * (model.order == -1), expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(last * (model.order == 1), expected.mH, rtol=0, atol=1e-11)
    assert float(last[:, (model.order != 1) & (model.order != -1)].abs().max()) < 1e-13
    if receiver_rad == 0:
        torch.testing.assert_close(played.states[-1], received(played), rtol=0, atol=1e-13)
    assert played.time_s[-1] == pytest.approx(0.0135)


def test_ax_spin_echo_is_the_closed_form_at_every_time():
    """Ix cos(pi J t) + 2IySz sin(pi J t), refocused or not: Ernst, Bodenhausen, Wokaun (1987), ch. 2."""
    j_hz, te_s = 7.0, 0.09
    model = model_of([0.0, 1e7], {(0, 1): j_hz})
    played = trajectory([spin_echo(te_s)], model, delay_step_s=2e-3)
    after = played.time_s > 1e-12
    t = played.time_s[after].numpy()
    assert len(t) > 45
    expansion = expand(played.states[after, 0], "ernst")
    # Coupling to a shift 1e7 Hz away is weak to J / difference.
    np.testing.assert_allclose(expansion.coefficient("I1x").real, np.cos(np.pi * j_hz * t), rtol=0, atol=1e-5)
    np.testing.assert_allclose(expansion.coefficient("2I1yI2z").real, np.sin(np.pi * j_hz * t), rtol=0, atol=1e-5)
    before = expand(played.states[0, 0])
    assert [complex(before.coefficient(name)) for name in ("I1z", "I2z")] == pytest.approx([1, 1])


@pytest.mark.parametrize(("flip_phase_rad", "sign"), [(0.0, 1), (math.pi / 2, -1)])
def test_shift_runs_backwards_after_the_refocusing_pulse(flip_phase_rad, sign):
    """A spin at +f turns from x to y: cos(2 pi f t), sin(2 pi f t); a 180 about x mirrors y, about y mirrors x."""
    f_hz, te_s = 40.0, 0.03
    shot = spin_echo(te_s)
    shot = Timeline(
        intervals=(*shot.intervals[:2], ideal_pulse(math.pi, flip_phase_rad, "refocusing"), *shot.intervals[3:])
    )
    played = trajectory([shot], model_of([f_hz], {}), delay_step_s=1e-3)
    expansion = expand(played.states[:, 0])
    for time, x, y in zip(
        played.time_s.tolist(),
        expansion.coefficient("I1x").real.tolist(),
        expansion.coefficient("I1y").real.tolist(),
        strict=True,
    ):
        if time < 1e-6 or abs(time - te_s / 2) < 1e-6:
            continue
        angle = 2 * math.pi * f_hz * (time if time < te_s / 2 else time - te_s)
        expected = (
            (math.cos(angle), math.sin(angle)) if time < te_s / 2 else (sign * math.cos(angle), sign * math.sin(angle))
        )
        assert (x, y) == pytest.approx(expected, abs=1e-9)
    values, names = magnitudes(expand(played.states[2:, 0]))
    np.testing.assert_allclose(values[:, names.index("I1⊥")], 1.0, atol=1e-9)


def exact_press(offsets_hz, j_hz, flips_deg, te1_s, te2_s, times_s):
    """The pathway -1, +1, -1 and its mirror, matrix exponentials and filters; states of plain NumPy at times."""
    h = exact_spins.free_hamiltonian(offsets_hz, [[0, j_hz], [j_hz, 0]])
    axes = (exact_spins.total(2, "x"), exact_spins.total(2, "y"), exact_spins.total(2, "y"))
    starts = (0.0, te1_s / 2, te1_s + te2_s / 2)
    found = []
    for time in times_s:
        rho = exact_spins.total(2, "z").astype(complex)
        now = 0.0
        for start, axis, flip, order in zip(starts, axes, flips_deg, (-1, 1, -1), strict=True):
            if time < start:
                break
            u = exact_spins.delay(h, start - now)
            rho = u @ rho @ u.conj().T
            u = exact_spins.expm(-1j * np.radians(flip) * axis)
            rho = exact_spins.order_filter(u @ rho @ u.conj().T, order)
            now = start
        u = exact_spins.delay(h, time - now)
        rho = u @ rho @ u.conj().T
        found.append(rho + rho.conj().T)
    return np.array(found)


def test_filtered_states_are_those_of_plain_matrices():
    flips_deg = (80, 150, 165)
    shot = hard_press(flips_deg=flips_deg, te1_s=0.012, te2_s=0.020)
    played = trajectory([shot], model_of([-40.0, 25.0], {(0, 1): 9.0}), delay_step_s=1.5e-3)
    ends = [0.0, 0.006, 0.022]
    clear = np.array([min(abs(time - end) for end in ends) > 1e-9 for time in played.time_s.tolist()])
    times = played.time_s.numpy()[clear]
    expected = exact_press([-40.0, 25.0], 9.0, flips_deg, 0.012, 0.020, times)
    np.testing.assert_allclose(played.states[torch.tensor(clear), 0], expected, rtol=0, atol=1e-9)


def test_orders_are_those_that_the_gradients_keep():
    played = trajectory([hard_press(flips_deg=(80, 150, 165))], model_of([-40.0, 25.0], {(0, 1): 9.0}))
    norms = {p: norm[:, 0].numpy() for p, norm in order_norms(played).items()}
    time = played.time_s.numpy()
    np.testing.assert_allclose(norms[1], norms[-1], atol=1e-14)
    assert norms[0][0] == pytest.approx(math.sqrt(2))  # Fz of two spins
    between = (time > 1e-9) & (abs(time - 0.006) > 1e-9) & (abs(time - 0.022) > 1e-9)
    for p in (-2, 0, 2):
        assert np.abs(norms[p][between]).max() < 1e-14
    # Free evolution keeps every norm; each pulse lowers it by what goes astray.
    stretches = [(0, 0.006), (0.006, 0.022), (0.022, 1)]
    levels = [norms[1][between & (time > low) & (time < high)] for low, high in stretches]
    for level in levels:
        np.testing.assert_allclose(level, level[0], rtol=1e-12)
    assert levels[0][0] == pytest.approx(math.sin(math.radians(80)))  # |I+ part of sin Ix| of two spins: 2/sqrt(4)
    assert levels[0][0] > levels[1][0] > levels[2][0] > 0
    # The end of a pulse comes twice, before and after the filter: what a 150-degree pulse makes of order 0 is cut.
    at_flip = np.flatnonzero(abs(time - 0.006) < 1e-9)
    assert norms[0][at_flip].max() > 0.1
    assert norms[0][at_flip[-1]] < 1e-14


def test_inside_a_pulse_the_state_is_that_of_its_beginning():
    offsets_hz, j_hz, b0_hz, scale = [-45.0, 20.0], 12.0, 8.0, 0.9
    rng = np.random.default_rng(6)
    b1 = 150 * (rng.normal(size=48) + 1j * rng.normal(size=48))
    pulse = Interval(
        dwell_s=1e-4,
        b1_hz=torch.tensor(b1),
        gradient_hz_per_m=torch.zeros(48, 3, dtype=torch.float64),
        use="excitation",
        centre_s=2.4e-3,
    )
    shot = Timeline(intervals=(delay(2e-3), pulse, delay(1e-3), readout()))
    played = trajectory(
        [shot],
        model_of(offsets_hz, {(0, 1): j_hz}),
        ensemble((b0_hz,), (scale,)),
        steps_per_pulse=6,
        time_zero_s=0.008,
        j_step_s=2.5e-6,
    )
    h = exact_spins.free_hamiltonian(offsets_hz, [[0, j_hz], [j_hz, 0]])
    inside = played.time_s[1:7].tolist()
    assert inside == pytest.approx([2e-3 + k * 8e-4 for k in range(1, 7)])
    for step, state in enumerate(played.states[1:7, 0], 1):
        u = exact_spins.pulse(h, scale * b1[: 8 * step], 1e-4, b0_hz)
        np.testing.assert_allclose(state, u @ exact_spins.total(2, "z") @ u.conj().T, rtol=0, atol=2e-7)


def test_pulses_and_volume_are_stated():
    played = trajectory([selective_press()], model_of([0.0], {}), positions_per_slice=6, steps_per_pulse=5)
    assert [span.name for span in played.pulses] == ["excitation z", "refocusing x", "edit", "refocusing y"]
    assert [(span.start_s, span.end_s) for span in played.pulses][2] == pytest.approx((6.5e-3, 9.5e-3))
    assert played.excitation_s == pytest.approx(2e-3)
    assert 1.0 < played.volume < 8.0
    assert trajectory([hard_press()], model_of([0.0], {})).volume == 1.0
    assert bool((played.time_s.diff() >= 0).all())
