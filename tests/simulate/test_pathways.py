import math

import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, hard_press, lobe, readout, selective

from seqgen.errors import InputError
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.pathways import moments_between_centres, principal_echo, refocused_pathways
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Timeline, delay, ideal_pulse

OFFSETS_HZ, J_HZ = [-35.0, 48.0], 15.0


def orders_of(*shots):
    return {path.orders for path in refocused_pathways(shots)}


def test_crushed_press_keeps_the_double_spin_echo_alone():
    (path,) = refocused_pathways([hard_press()])
    assert path.orders == (-1, 1, -1)
    assert path.cycle_weight == 1
    assert path.residual_moment_per_m < 1e-9
    assert path.transfer == pytest.approx(math.sqrt(0.5))
    assert path.echo_time_s == pytest.approx(0.032, abs=1e-12)


def test_press_without_crushers_keeps_everything():
    assert len(orders_of(hard_press(crushed=False))) == 9


def test_press_with_a_pulse_at_the_echo_top():
    shot = hard_press(edit=(70, 0.3))
    assert orders_of(shot) == {(-1, 1, 1, -1), (1, -1, 1, -1), (0, 0, 1, -1)}


def test_two_steps_of_excitation_and_receiver_cancel_what_the_editing_pulse_excites():
    cycle = [hard_press(edit=(70, 0.3), excitation_rad=a, receiver_rad=a) for a in (0.0, math.pi)]
    assert orders_of(*cycle) == {(-1, 1, 1, -1), (1, -1, 1, -1)}
    # Turned against the receiver the wanted signal goes and the artefact stays.
    against = [hard_press(edit=(70, 0.3), excitation_rad=a) for a in (0.0, math.pi)]
    assert orders_of(*against) == {(0, 0, 1, -1)}


def test_phases_as_files_round_them_still_cancel():
    cycle = [hard_press(edit=(70, 0.3), excitation_rad=a, receiver_rad=a) for a in (0.0, round(math.pi, 5))]
    assert orders_of(*cycle) == {(-1, 1, 1, -1), (1, -1, 1, -1)}


def test_exorcycle_of_the_editing_pulse_cancels_its_order_changes():
    cycle = [hard_press(edit=(70, k * math.pi / 2)) for k in range(4)]
    assert orders_of(*cycle) == {(-1, 1, 1, -1)}


def test_receiver_phase_of_the_first_shot_is_honoured():
    (path,) = refocused_pathways([hard_press(receiver_rad=0.7)])
    assert path.cycle_weight == pytest.approx(np.exp(-0.7j))
    assert signal([hard_press(receiver_rad=0.7)]) == pytest.approx(np.exp(-0.7j) * signal([hard_press()]), abs=1e-12)


def test_a_turned_excitation_turns_the_signal_with_it():
    assert signal([hard_press(excitation_rad=0.4)]) == pytest.approx(np.exp(0.4j) * signal([hard_press()]), abs=1e-12)


def signal(shots):
    model = group_model(group_at_hz(OFFSETS_HZ, {(0, 1): J_HZ}), FREQUENCY_HZ, REFERENCE_PPM)
    return fid(lines(play(prepare(shots, model)), model), 20, 1e-3)[0].numpy()


def dephased_signal(shots, n_positions):
    """Every position of a grid over one crusher period by plain NumPy: no coherence order is ever named."""
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, [[0, J_HZ], [J_HZ, 0]])
    fx, fy, fz = (exact_spins.total(2, axis) for axis in "xyz")
    result = 0
    for shot in shots:
        receiver = np.exp(-1j * shot.readouts()[0][1].phase_rad)
        for i in range(n_positions):
            for k in range(n_positions):
                r_m = np.array([i, k, 0]) / n_positions * 1e-3
                rho = fz
                for interval in shot.intervals[:-1]:
                    if interval.use is None:
                        offset_hz = float(interval.gradient_hz_per_m[0].numpy() @ r_m)
                        u = exact_spins.delay(h, interval.dwell_s, offset_hz)
                    else:
                        turn = 2 * np.pi * complex(interval.b1_hz[0]) * interval.dwell_s
                        u = exact_spins.expm(-1j * (turn.real * fx + turn.imag * fy))
                    rho = u @ rho @ u.conj().T
                result = result + receiver * exact_spins.signal(rho, h, np.arange(20) * 1e-3)
    return result / (n_positions**2 * len(shots))


@pytest.mark.parametrize("n_shots", [1, 2])
@pytest.mark.parametrize("edit", [None, (70, 0.3), (180, 1.1)])
def test_pathway_filter_agrees_with_dephasing_inside_the_voxel(n_shots, edit):
    """Refocusing of 150 degrees and an editing pulse: unwanted pathways are large, crushers take them."""
    shots = [
        hard_press(flips_deg=(80, 150, 165), edit=edit, excitation_rad=a, receiver_rad=a + 0.2)
        for a in (0.0, math.pi)[:n_shots]
    ]
    brute = dephased_signal(shots, 6)
    assert np.abs(brute).max() > 0.1
    np.testing.assert_allclose(signal(shots), brute, rtol=0, atol=1e-10)
    assert np.abs(dephased_signal(shots, 1) - brute).max() > 1e-3 or n_shots == 2


def steam(tau_s=0.01, tm_s=0.03):
    ninety = ideal_pulse(math.pi / 2, 0.0, "excitation")
    half = (lobe(X, 1000.0), delay(tau_s - 1e-3))
    return Timeline(intervals=(ninety, *half, ninety, lobe(Y, 3000.0), delay(tm_s - 1e-3), ninety, *half, readout()))


def test_stimulated_echo():
    (path,) = refocused_pathways([steam()])
    assert path.orders == (1, 0, -1)
    assert path.echo_time_s == pytest.approx(0.05, abs=1e-12)
    assert path.transfer == pytest.approx(0.5**1.5)
    # TE is the time in the transverse plane: TM, along z, does not count.
    assert principal_echo(steam()).te_s == pytest.approx(0.02, abs=1e-12)


def test_echo_of_press_is_counted_from_rf_centres():
    echo = principal_echo(hard_press())
    assert (echo.time_s, echo.te_s) == (pytest.approx(0.032, abs=1e-12), pytest.approx(0.032, abs=1e-12))
    assert echo.is_echo


def test_plain_fid_has_no_echo_time():
    echo = principal_echo(Timeline(intervals=(delay(0.003), ideal_pulse(1.0, 0.0, "excitation"), readout())))
    assert not echo.is_echo
    assert echo.te_s == 0
    assert echo.time_s == pytest.approx(0.003, abs=1e-12)


def test_suppression_before_the_excitation_does_not_count_into_te():
    saturation = ideal_pulse(math.radians(95), 0.0, "saturation")
    shot = hard_press()
    echo = principal_echo(Timeline(intervals=(saturation, lobe(Z, 5000.0), *shot.intervals)))
    assert echo.pathway.orders == (0, -1, 1, -1)
    assert echo.te_s == pytest.approx(0.032, abs=1e-12)


def test_gradient_moments_are_split_at_rf_centres():
    pulse = selective(torch.ones(10, dtype=torch.complex128), 1e-4, Z, 2e5, "refocusing")
    ramp = delay(1.0)
    ramp = type(ramp)(
        dwell_s=1e-5,
        b1_hz=torch.zeros(101, dtype=torch.complex128),
        gradient_hz_per_m=torch.linspace(0, 1e6, 101, dtype=torch.float64)[:, None] * torch.tensor([1.0, -2.0, 0.0]),
    )
    shot = Timeline(intervals=(ideal_pulse(1.0, 0.0, "excitation"), ramp, pulse, lobe(X, 40.0), readout()))
    area = 101 * 1e-5 * 0.5e6
    expected = [[area, -2 * area, 2e5 * 5e-4], [40.0, 0.0, 2e5 * 5e-4]]
    np.testing.assert_allclose(moments_between_centres(shot), expected, rtol=1e-9, atol=1e-6)


def test_unbalanced_crushers_leave_no_echo():
    shot = hard_press()
    spoiled = Timeline(intervals=(*shot.intervals[:4], lobe(X, 500.0), *shot.intervals[4:]))
    with pytest.raises(InputError, match="crushers on both sides"):
        principal_echo(spoiled)


ONE = ideal_pulse(1.0, 0.0, "excitation")


@pytest.mark.parametrize(
    ("intervals", "says"),
    [
        ((delay(1.0), readout()), "no RF pulse"),
        ((ONE, delay(1.0)), "no readout"),
        ((ONE, readout(), ONE), "no receiver after its last pulse"),
        ((ONE,) * 11 + (readout(),), "11 pulses"),
    ],
)
def test_timelines_without_signal_are_refused(intervals, says):
    with pytest.raises(InputError, match=says):
        refocused_pathways([Timeline(intervals=intervals, name="broken")])


def test_shots_of_a_cycle_have_the_same_pulses():
    with pytest.raises(InputError, match="3 and 4 pulses"):
        refocused_pathways([hard_press(edit=(90, 0.0)), hard_press()])
