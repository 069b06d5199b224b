"""Pathways with real dephasing, against simulations at explicit positions in which no coherence order is ever named."""

import itertools
import math

import bloch_pulse as bloch
import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, hard_press, lobe, readout, selective

from seqgen.errors import InputError
from seqgen.pulse.shapes import slr_pulse
from seqgen.simulate import dephasing_average
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.dephasing import crusher_verdict, pathway_signals
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.pathways import refocused_pathways
from seqgen.simulate.slices import slice_of
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Interval, Timeline, delay, ideal_pulse

OFFSETS_HZ, J_HZ = [-35.0, 48.0], 15.0
TIMES_S = np.arange(20) * 1e-3
POSITIONS_M = np.array([-0.031, -0.012, 0.004, 0.023])
DWELL_S, GRADIENT_HZ_PER_M = 5e-5, 5e4
POINT = (0.0, 0.0, 0.0)


def model_of(offsets_hz=OFFSETS_HZ, couplings_hz=None):
    couplings_hz = {(0, 1): J_HZ} if couplings_hz is None else couplings_hz
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def total(table):
    """The FID of the phase cycle: all pathways together."""
    amplitude = sum(signal.cycle_weight * signal.lines.amplitude for signal in table.signals)
    whole = type(table.wanted.lines)(amplitude=amplitude, frequency_hz=table.wanted.lines.frequency_hz)
    return fid(whole, len(TIMES_S), 1e-3).numpy()


def of(table, *orders):
    return next(signal for signal in table.signals if signal.orders == orders)


def at_positions(shots, x_m, y_m, z_m, weights=None):
    """Mean signal over a grid of positions (weights along x alone): plain NumPy, gradients as they are played."""
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, [[0, J_HZ], [J_HZ, 0]])
    weights = np.full(len(x_m), 1 / len(x_m)) if weights is None else weights
    store, result = {}, 0
    for shot, (x, weight), y, z in itertools.product(shots, zip(x_m, weights, strict=True), y_m, z_m):
        rho = exact_spins.total(2, "z")
        for number, interval in enumerate(shot.intervals[:-1]):
            # Every test pulse and lobe has constant gradients.
            offset_hz = float(interval.gradient_hz_per_m[0].numpy() @ np.array([x, y, z]))
            key = (id(shot), number, offset_hz)
            if key not in store:
                store[key] = exact_spins.pulse(h, interval.b1_hz.numpy(), interval.dwell_s, offset_hz)
            rho = store[key] @ rho @ store[key].conj().T
        receiver = np.exp(-1j * shot.readouts()[0][1].phase_rad)
        result = result + weight * receiver * exact_spins.signal(rho, h, TIMES_S)
    return result / (len(shots) * len(y_m) * len(z_m))


def hard_shot(moment_per_m, *, edit=None, excitation_rad=0.0, receiver_rad=0.0):
    """PRESS of imperfect ideal pulses with crushers about each, and uneven spoilers elsewhere."""
    at_the_top = () if edit is None else (ideal_pulse(math.radians(edit), 0.4, "preparation"), delay(5e-3))
    return Timeline(
        intervals=(
            ideal_pulse(math.radians(80), excitation_rad, "excitation"),
            delay(4e-3),
            lobe(X, moment_per_m),
            ideal_pulse(math.radians(150), math.pi / 2, "refocusing"),
            lobe(X, moment_per_m),
            delay(5e-3, (0.0, 0.3 * moment_per_m / 5e-3, 0.0)),
            *at_the_top,
            lobe(Y, 1.7 * moment_per_m),
            ideal_pulse(math.radians(165), math.pi / 2, "refocusing"),
            lobe(Y, 2.0 * moment_per_m),
            delay(3e-3),
            readout(phase_rad=receiver_rad),
        )
    )


WEAK, STRONG = 6.0, 1371.0


@pytest.mark.parametrize("moment_per_m", [WEAK, STRONG])
@pytest.mark.parametrize("edit", [None, 70.0])
@pytest.mark.parametrize("n_shots", [1, 2])
def test_pathways_add_up_to_hard_pulses_at_positions(moment_per_m, edit, n_shots):
    shots = [
        hard_shot(moment_per_m, edit=edit, excitation_rad=a, receiver_rad=a + 0.2) for a in (0.0, math.pi)[:n_shots]
    ]
    # Over this grid even the strong crushers do not cancel: every pathway counts.
    expected = at_positions(shots, POSITIONS_M, POSITIONS_M, [0.0])
    table = pathway_signals(shots, model_of(), extent_m=POINT, positions_m=torch.from_numpy(POSITIONS_M))
    assert len(table.signals) == 5 ** (2 if edit is None else 3)
    np.testing.assert_allclose(total(table), expected, rtol=0, atol=1e-11)
    assert sum(signal.dephased > 1e-3 for signal in table.signals) >= 8


@pytest.mark.parametrize(("moment_per_m", "size"), [(WEAK, 1e-2), (40.0, 1e-5)])
def test_pathways_add_up_to_hard_pulses_over_a_box(moment_per_m, size):
    """The box by Gauss points in x; nothing dephases along y and z (length 0)."""
    shot, length_m = hard_shot(moment_per_m), 0.05
    xi, gauss = np.polynomial.legendre.leggauss(60)
    expected = at_positions([shot], 0.5 * length_m * xi, [0.0], [0.0], weights=gauss / 2)
    table = pathway_signals([shot], model_of(), extent_m=(length_m, 0.0, 0.0), edges="as given")
    np.testing.assert_allclose(total(table), expected, rtol=0, atol=1e-11)
    whole = pathway_signals([shot], model_of(), extent_m=POINT)
    assert np.abs(total(whole) - expected).max() > size


def test_without_gradients_all_pathways_add_up_to_the_signal():
    shot = hard_press(crushed=False, flips_deg=(80, 150, 165), edit=(70, 0.3))
    expected = at_positions([shot], [0.0], [0.0], [0.0])
    table = pathway_signals([shot], model_of(), extent_m=(0.1, 0.1, 0.1))
    np.testing.assert_allclose(total(table), expected, rtol=0, atol=1e-12)
    for signal in table.signals:
        assert signal.dephased == pytest.approx(signal.undephased, abs=1e-15)
        assert signal.refocused


def steam():
    ninety, half = ideal_pulse(math.radians(85), 0.0, "excitation"), (lobe(X, 9.0), delay(9e-3))
    return Timeline(intervals=(ninety, *half, ninety, lobe(Y, 25.0), delay(0.03), ninety, *half, readout()))


def test_zero_quantum_coherence_of_the_mixing_time_is_kept():
    """It passes the mixing time's spoiler beside the stimulated echo, and evolves there."""
    expected = at_positions([steam()], POSITIONS_M, POSITIONS_M, [0.0])
    table = pathway_signals([steam()], model_of(), extent_m=POINT, positions_m=torch.from_numpy(POSITIONS_M))
    np.testing.assert_allclose(total(table), expected, rtol=0, atol=1e-11)


def slr_b1(flip_deg, phase_rad=0.0, carrier_hz=0.0, samples=40):
    pulse = slr_pulse(
        flip_angle_rad=math.radians(flip_deg),
        time_bandwidth=4.0,
        duration_s=samples * DWELL_S,
        dwell_s=DWELL_S,
        name="slr",
    )
    t_s = (np.arange(samples) + 0.5) * DWELL_S
    return pulse.b1_hz * torch.from_numpy(np.exp(1j * (phase_rad + 2 * np.pi * carrier_hz * t_s)))


def selective_shot(crusher_per_m, *, hint=True):
    """PRESS of selective pulses along z (off centre), x, y, with their own gradients and imperfect flip angles.

    Without the hint of its carrier the modulated waveform is held over each sample, as `at_positions` has it.
    """
    gradient, carrier_hz = GRADIENT_HZ_PER_M, 300.0
    return Timeline(
        intervals=(
            selective(
                slr_b1(90, 0.0, carrier_hz), DWELL_S, Z, gradient, "excitation", carrier_hz=carrier_hz if hint else 0.0
            ),
            lobe(Z, -0.5 * gradient * 40 * DWELL_S, 5e-4),
            delay(3e-3),
            lobe(X, crusher_per_m, 5e-4),
            selective(slr_b1(150, math.pi / 2), DWELL_S, X, 0.7 * gradient, "refocusing"),
            lobe(X, crusher_per_m, 5e-4),
            delay(6e-3, (0.0, 0.0, 0.1 * crusher_per_m / 6e-3)),
            lobe(Y, crusher_per_m, 5e-4),
            selective(slr_b1(170, 0.3), DWELL_S, Y, gradient, "refocusing"),
            lobe(Y, crusher_per_m, 5e-4),
            delay(4e-3, (0.0, 0.0, 0.1 * crusher_per_m / 4e-3)),
            readout(),
        )
    )


@pytest.mark.parametrize("crusher_per_m", [WEAK, STRONG])
def test_pathways_add_up_to_selective_pulses_at_positions(crusher_per_m):
    shot = selective_shot(crusher_per_m, hint=False)
    expected = at_positions([shot], POSITIONS_M, POSITIONS_M, POSITIONS_M)
    found = []
    for j_step_s in (DWELL_S / 8, DWELL_S / 16):
        table = pathway_signals(
            [shot], model_of(), extent_m=POINT, positions_m=torch.from_numpy(POSITIONS_M), j_step_s=j_step_s
        )
        found.append(total(table))
    assert np.abs(expected).max() > 0.02
    assert abs(table.wanted.dephased_peak - np.abs(expected).max()) > 0.01
    # The h^2 error of the J step removed (Richardson): what is left is h^4.
    np.testing.assert_allclose((4 * found[1] - found[0]) / 3, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("crusher_per_m", "n_points"), [(20.0, 400), (2500.0, 1500)])
def test_sample_of_a_selective_pulse_is_integrated_exactly(crusher_per_m, n_points):
    """One proton by Bloch rotations at Gauss points fine enough for the crusher; seqgen's 72 positions are not."""
    offset_hz, length_m = 60.0, 0.09
    b1 = slr_b1(150, math.pi / 2)
    refocus = selective(b1, DWELL_S, X, GRADIENT_HZ_PER_M, "refocusing")
    excite = ideal_pulse(math.radians(70), 0.0, "excitation")
    shot = Timeline(
        intervals=(excite, lobe(X, crusher_per_m), refocus, lobe(X, crusher_per_m), lobe(Y, 0.0), readout())
    )
    table = pathway_signals([shot], model_of([offset_hz], {}), extent_m=(length_m, 0.0, 0.0), edges="as given")
    assert table.n_positions == (1, 72)
    sliced = slice_of(refocus)
    xi, gauss = np.polynomial.legendre.leggauss(n_points)
    x_m = sliced.centre_m - offset_hz / GRADIENT_HZ_PER_M + 0.5 * length_m * xi
    rotated = bloch.rotation(b1.numpy(), DWELL_S, offset_hz + GRADIENT_HZ_PER_M * x_m)
    turned = np.exp(2j * np.pi * (offset_hz * 1e-3 + crusher_per_m * x_m))
    before = -1j * math.sin(math.radians(70)) * turned
    m = np.stack([before.real, before.imag, np.full(n_points, math.cos(math.radians(70)))], 1)
    after = np.einsum("pij,pj->pi", rotated, m)
    at_the_end = (after[:, 0] + 1j * after[:, 1]) * turned * np.exp(2j * np.pi * offset_hz * 1e-3)
    expected = (at_the_end * gauss).sum() * 0.5 * length_m / sliced.thickness_m
    assert total(table)[0] == pytest.approx(expected, abs=1e-8)
    others = sum(abs(signal.lines.amplitude.sum()) for signal in table.signals[1:])
    assert others > (0.04 if crusher_per_m == 20.0 else 1e-5)


def test_fid_of_the_second_refocusing_pulse_is_a_sinc():
    """(0, 0, -1): cos(80) cos(150) sin(170) |sinc(K L)|, K the moment after the second refocusing pulse."""
    length_m, moment_per_m = 0.013, 170.0
    shot = Timeline(
        intervals=(
            ideal_pulse(math.radians(80), 0.0, "excitation"),
            *(lobe(X, 500.0), ideal_pulse(math.radians(150), 0.3, "refocusing"), lobe(X, 500.0)),
            *(lobe(Y, moment_per_m), ideal_pulse(math.radians(170), 0.3, "refocusing"), lobe(Y, moment_per_m)),
            readout(),
        )
    )
    size = abs(math.cos(math.radians(80)) * math.cos(math.radians(150)) * math.sin(math.radians(170)))
    expected = size * abs(np.sinc(moment_per_m * length_m))
    given = of(pathway_signals([shot], model_of([25.0], {}), extent_m=(0.1, length_m, 0.1), edges="as given"), 0, 0, -1)
    assert given.undephased == pytest.approx(size, abs=1e-12)
    assert given.dephased == pytest.approx(expected, abs=1e-12)
    assert given.dephased_peak == pytest.approx(expected, abs=1e-12)
    assert given.moment_per_m == pytest.approx((0.0, -moment_per_m, 0.0))
    worst = of(pathway_signals([shot], model_of([25.0], {}), extent_m=(0.1, length_m, 0.1)), 0, 0, -1)
    assert worst.dephased == pytest.approx(size / (math.pi * moment_per_m * length_m), abs=1e-12)


def test_a_box_of_whole_cycles_is_no_excuse():
    """20 mm at 1000 cycles/m: the sinc is zero by luck. "worst" moves the end of the sample by half a cycle."""
    shot = hard_press(flips_deg=(80, 180, 170))
    lucky, worst = (
        of(pathway_signals([shot], model_of(), extent_m=(0.02,) * 3, edges=edges), 0, 0, -1)
        for edges in ("as given", "worst")
    )
    assert lucky.undephased > 0.02
    assert lucky.dephased < 1e-14
    assert worst.dephased == pytest.approx(worst.undephased / (math.pi * 1000 * 0.02), rel=1e-12)


def test_worst_edges_reach_what_moving_the_edge_reaches():
    """What a selective pulse leaves outside its slice: the largest over lengths that differ by less than a cycle."""
    excite, refocus = ideal_pulse(1.2, 0.0, "excitation"), slr_b1(180, math.pi / 2)
    shot = Timeline(
        intervals=(
            excite,
            lobe(X, 700.0),
            selective(refocus, DWELL_S, X, GRADIENT_HZ_PER_M, "refocusing"),
            lobe(X, 700.0),
            readout(),
        )
    )
    model, sizes = model_of([10.0], {}), []
    for length_m in 0.1 + np.arange(-20, 21) / 20 / 1500.0:
        table = pathway_signals([shot], model, extent_m=(length_m, 0.0, 0.0), edges="as given")
        sizes.append(of(table, -1, -1).dephased)
    worst = of(pathway_signals([shot], model, extent_m=(0.1, 0.0, 0.0)), -1, -1).dephased
    assert worst == pytest.approx(max(sizes), rel=0.03)
    assert min(sizes) < 0.5 * worst


@pytest.mark.parametrize("shot", [hard_press(flips_deg=(80, 150, 165), edit=(70, 0.3)), None])
def test_endless_crushers_are_the_ideal_filter(shot):
    """Everything but the refocused pathways goes, and those are what `play` keeps."""
    if shot is None:
        shot = selective_shot(1e9)
    else:
        intervals = [
            i if i.use else delay(1e-3, tuple((1e6 * i.gradient_hz_per_m[0]).tolist())) for i in shot.intervals
        ]
        intervals[-1] = readout()
        shot = Timeline(intervals=tuple(intervals))
    model = model_of()
    positions = torch.from_numpy(POSITIONS_M)
    opening_s = shot.readouts()[0][0]
    prepared = prepare([shot], model, positions_m=positions, time_zero_s=opening_s)
    kept = {path.orders for path in refocused_pathways([shot], orders=(-2, -1, 0, 1, 2))}
    box = pathway_signals([shot], model, extent_m=(0.2, 0.2, 0.2))
    for signal in box.signals:
        assert signal.refocused == (signal.orders in kept)
        if not signal.refocused:
            assert signal.dephased < 1e-7
    assert crusher_verdict(box).worst_ratio < 1e-6 or any(s.refocused for s in box.signals[1:])
    same = pathway_signals([shot], model, extent_m=POINT, positions_m=positions)
    refocused = sum(signal.lines.amplitude for signal in same.signals if signal.refocused)
    torch.testing.assert_close(refocused, lines(play(prepared), model).amplitude[0], rtol=0, atol=1e-7)


def test_member_shifts_and_scales():
    """B1 scale and field offset reach the pulses and the delays, as in `play`."""
    shot, positions = selective_shot(1e5), torch.from_numpy(POSITIONS_M)
    member = ensemble((13.0,), (0.85,))
    prepared = prepare([shot], model_of(), member, positions_m=positions, time_zero_s=shot.readouts()[0][0])
    table = pathway_signals([shot], model_of(), member=member, extent_m=POINT, positions_m=positions)
    expected = lines(play(prepared), model_of()).amplitude[0]
    torch.testing.assert_close(table.wanted.lines.amplitude, expected, rtol=0, atol=1e-9)


def turned_by(shot, rotation):
    return Timeline(
        intervals=tuple(
            Interval(
                dwell_s=i.dwell_s,
                b1_hz=i.b1_hz,
                gradient_hz_per_m=i.gradient_hz_per_m @ rotation.T,
                use=i.use,
                centre_s=i.centre_s,
                carrier_hz=i.carrier_hz,
                receiver=i.receiver,
            )
            for i in shot.intervals
        )
    )


def test_an_oblique_voxel_has_the_same_pathways():
    angle = 0.35
    turn = torch.tensor(
        [[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1.0]],
        dtype=torch.float64,
    )
    plain = pathway_signals([selective_shot(60.0)], model_of(), extent_m=(0.06, 0.08, 0.07))
    oblique = pathway_signals([turned_by(selective_shot(60.0), turn)], model_of(), extent_m=(0.06, 0.08, 0.07))
    np.testing.assert_allclose(total(oblique), total(plain), rtol=0, atol=1e-10)
    along = [of(table, 1, 1, -1).moment_per_m for table in (plain, oblique)]
    np.testing.assert_allclose(along[1], turn.numpy() @ along[0], atol=1e-9)


def test_blocks_of_positions_change_nothing(monkeypatch):
    whole = pathway_signals([selective_shot(60.0)], model_of(), extent_m=(0.06,) * 3)
    monkeypatch.setattr(dephasing_average, "_BLOCK_ELEMENTS", 7 * 16)
    cut = pathway_signals([selective_shot(60.0)], model_of(), extent_m=(0.06,) * 3)
    np.testing.assert_allclose(total(cut), total(whole), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "limits", [{"threshold": 0.02}, {"orders": (-1, 0, 1)}, {"orders": (-1, 1), "threshold": 0.05}]
)
def test_what_is_dropped_is_reported(limits):
    shot = hard_shot(WEAK, edit=70.0)
    whole = pathway_signals([shot], model_of(), extent_m=(0.04, 0.04, 0.0))
    part = pathway_signals([shot], model_of(), extent_m=(0.04, 0.04, 0.0), **limits)
    assert whole.n_dropped == 0
    assert whole.dropped_norm == 0
    assert part.n_dropped > 0
    amplitude = [sum(s.lines.amplitude for s in table.signals) for table in (whole, part)]
    missing = float((amplitude[0] - amplitude[1]).norm())
    assert 1e-3 < missing < part.dropped_norm
    kept = {signal.orders: signal.dephased for signal in part.signals}
    gone = sum(s.dephased for s in whole.signals if s.orders not in kept)
    assert gone < part.dropped_norm
    for signal in whole.signals:
        assert kept.get(signal.orders, signal.dephased) == pytest.approx(signal.dephased, abs=1e-13)
    assert "left out" in crusher_verdict(part).text
    assert crusher_verdict(part).total_ratio > crusher_verdict(part).worst_ratio


def test_the_wanted_echo_is_never_dropped():
    table = pathway_signals([hard_shot(STRONG)], model_of(), extent_m=(0.04, 0.04, 0.0), threshold=0.99)
    assert [signal.orders for signal in table.signals] == [(-1, 1, -1)]
    assert table.dropped_norm > 0.1


def test_peak_is_that_of_the_sampled_fid():
    """AX at coupling J after 90 degrees: 2 protons, |cos(pi J t) cos(pi D t)| at the centres of the samples."""
    difference_hz, j_hz, dwell_s = 4000.0, 20.0, 1e-3
    shot = Timeline(intervals=(ideal_pulse(math.pi / 2, 0.0, "excitation"), readout(3, dwell_s)))
    model = model_of([0.0, difference_hz], {(0, 1): j_hz})
    t_s = (np.arange(3) + 0.5) * dwell_s
    expected = 2 * np.abs(np.cos(np.pi * j_hz * t_s) * np.cos(np.pi * difference_hz * t_s)).max()
    signal = pathway_signals([shot], model, extent_m=POINT).wanted
    assert signal.dephased_peak == signal.undephased_peak == pytest.approx(expected, abs=1e-4)
    # Four lines of 1/2.
    assert signal.dephased == pytest.approx(1.0, abs=1e-4)


def test_ratio_is_the_larger_of_lines_and_peak():
    table = pathway_signals([hard_shot(20.0)], model_of(), extent_m=(0.05,) * 3)
    wanted = table.wanted
    both = [(s.dephased / wanted.dephased, s.dephased_peak / wanted.dephased_peak) for s in table.signals]
    assert [s.ratio for s in table.signals] == pytest.approx([max(pair) for pair in both])
    assert len({norm > peak for norm, peak in both[1:]}) == 2


def test_phase_cycle_weighs_the_ratio_alone():
    cycle = [
        hard_press(flips_deg=(80, 150, 165), edit=(70, 0.3), excitation_rad=a, receiver_rad=a) for a in (0.0, math.pi)
    ]
    one, two = (pathway_signals(shots, model_of(), extent_m=(0.05,) * 3) for shots in (cycle[:1], cycle))
    artefact = of(one, 0, 0, 1, -1)
    assert artefact.refocused
    assert artefact.ratio > 0.05
    assert of(two, 0, 0, 1, -1).dephased == artefact.dephased
    assert of(two, 0, 0, 1, -1).ratio < 1e-12
    assert abs(of(two, -1, 1, 1, -1).cycle_weight) == pytest.approx(1)


def test_signals_are_sorted_with_the_wanted_echo_first():
    table = pathway_signals([hard_shot(STRONG)], model_of(), extent_m=(0.05,) * 3, orders=(-1, 0, 1))
    ratios = [signal.ratio for signal in table.signals]
    assert table.wanted.orders == (-1, 1, -1)
    assert ratios[0] == 1
    assert ratios[1:] == sorted(ratios[1:], reverse=True)


def balanced(moment_per_m):
    """PRESS of 80, 150, 165 degrees with balanced crushers: along x about the first 180, along y about the second."""
    crush = tuple(delay(1e-3, tuple(moment_per_m / 1e-3 if a == axis else 0.0 for a in range(3))) for axis in (X, Y))
    first, second = (ideal_pulse(math.radians(flip), math.pi / 2, "refocusing") for flip in (150, 165))
    return Timeline(
        intervals=(
            ideal_pulse(math.radians(80), 0.0, "excitation"),
            *(crush[0], first, crush[0], delay(5e-3), crush[1], second, crush[1]),
            readout(),
        )
    )


def test_verdict_follows_the_crushers():
    verdicts = [
        crusher_verdict(pathway_signals([balanced(moment)], model_of(), extent_m=(0.05,) * 3), limit=5e-3)
        for moment in (20.0, 5000.0)
    ]
    assert [verdict.sufficient for verdict in verdicts] == [False, True]
    weak, strong = verdicts
    assert weak.worst_ratio > 5e-3 >= strong.worst_ratio
    assert weak.worst.orders != weak.wanted.orders == (-1, 1, -1)
    assert weak.total_ratio > weak.worst_ratio
    assert weak.text.startswith("Crushers not sufficient")
    assert "Raise the crushers" in weak.text
    assert strong.text.startswith("Crushers sufficient")
    assert str(strong.worst.orders) in strong.text


def test_verdict_says_when_no_crusher_would_help():
    table = pathway_signals([hard_press(edit=(70, 0.3))], model_of(), extent_m=(0.05,) * 3)
    verdict = crusher_verdict(table)
    assert not verdict.sufficient
    assert verdict.worst.refocused
    assert "moments cancel" in verdict.text


def test_refocused_pathways_of_an_edited_shot_may_count_as_signal():
    """As many as the list of refocused pathways through all orders of two spins has, less the echo itself."""
    n_refocused = len(refocused_pathways([hard_press(edit=(70, 0.3))], orders=(-2, -1, 0, 1, 2)))
    table = pathway_signals([hard_press(edit=(70, 0.3))], model_of(), extent_m=(0.05,) * 3)
    verdict = crusher_verdict(table, limit=0.02, refocused_is_signal=True)
    assert not verdict.worst.refocused
    assert f"{n_refocused - 1} more are refocused and part of the simulated signal" in verdict.text
    assert verdict.worst_ratio == max(signal.ratio for signal in table.signals[1:] if not signal.refocused)


def test_verdict_of_a_plain_fid_has_nothing_to_compare():
    shot = Timeline(intervals=(ideal_pulse(1.0, 0.0, "excitation"), readout()))
    verdict = crusher_verdict(pathway_signals([shot], model_of(), extent_m=(0.05,) * 3))
    assert verdict.sufficient
    assert (verdict.worst, verdict.worst_ratio, verdict.total_ratio) == (None, 0.0, 0.0)


def test_what_was_dropped_can_spoil_the_verdict():
    table = pathway_signals([balanced(5000.0)], model_of(), extent_m=(0.05,) * 3, orders=(-1, 1))
    verdict = crusher_verdict(table, limit=5e-3)
    assert verdict.worst_ratio < 5e-3
    assert not verdict.sufficient
    assert verdict.text.startswith("Not judged in full.")
    assert "allow more orders" in verdict.text


SUPPRESSED = Timeline(intervals=(*(ideal_pulse(1.5, 0.0, "saturation"), lobe(Z, 3000.0)) * 6, *hard_press().intervals))


@pytest.mark.parametrize(
    ("shot", "arguments", "says"),
    [
        (hard_press(), {"extent_m": (0.1, -0.1, 0.1)}, "three lengths"),
        (hard_press(), {"extent_m": (0.1, math.nan, 0.1)}, "three lengths"),
        (hard_press(), {"member": ensemble((0.0, 1.0))}, "holds 2"),
        (hard_press(), {"threshold": 1.0}, "below 1"),
        (hard_press(), {"edges": "soft"}, "worst"),
        (hard_press(), {"positions_per_cycle": 0.0}, "positions_per_cycle"),
        (hard_press(), {"orders": (-3, -1, 1)}, "from -2 to 2"),
        (hard_press(), {"orders": (-1, 0)}, r"leave out \[1\]"),
        (selective_shot(100.0), {"extent_m": (30.0, 0.1, 0.1)}, r"needs \d+ positions .* limit is 4000"),
        (SUPPRESSED, {}, r"390625 pathways; the limit is 20000"),
    ],
)
def test_what_cannot_be_done_is_refused(shot, arguments, says):
    with pytest.raises(InputError, match=says):
        pathway_signals([shot], model_of(), **{"extent_m": (0.1, 0.1, 0.1), **arguments})


def test_too_many_branches_are_refused(monkeypatch):
    monkeypatch.setattr(dephasing_average, "MAX_STATE_BYTES", 5_000)
    with pytest.raises(InputError, match="branches of 4 x 4"):
        pathway_signals([hard_shot(10.0, edit=50.0)], model_of(), extent_m=(0.1,) * 3)


def test_no_wanted_signal_is_refused():
    shot = Timeline(
        intervals=(
            ideal_pulse(1.0, 0.0, "excitation"),
            selective(slr_b1(180), DWELL_S, X, GRADIENT_HZ_PER_M, "refocusing"),
            readout(),
        )
    )
    with pytest.raises(InputError, match="gives no signal over the sample"):
        pathway_signals(
            [shot], model_of([0.0], {}), extent_m=POINT, positions_m=torch.tensor([0.2], dtype=torch.float64)
        )


def test_limit_must_be_positive():
    table = pathway_signals([hard_press()], model_of(), extent_m=(0.1,) * 3)
    with pytest.raises(InputError, match="limit must be positive"):
        crusher_verdict(table, limit=0.0)
