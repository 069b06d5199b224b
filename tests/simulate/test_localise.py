import itertools
import math
from dataclasses import replace

import bloch_pulse as bloch
import exact_spins
import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz
from timelines import X, Y, Z, hard_press, lobe, readout, selective

from seqgen.errors import InputError
from seqgen.pulse.shapes import slr_pulse
from seqgen.simulate.acquire import fid, lines
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.pathways import refocused_pathways
from seqgen.simulate.slices import slice_of
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Timeline, delay, ideal_pulse

GRADIENT_HZ_PER_M = 5e4
PULSE_S, PULSE_DWELL_S = 2e-3, 5e-5
TIMES_S = np.arange(30) * 1e-3


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def slr_b1(flip_deg, phase_rad=0.0):
    pulse = slr_pulse(
        flip_angle_rad=math.radians(flip_deg),
        time_bandwidth=4.0,
        duration_s=PULSE_S,
        dwell_s=PULSE_DWELL_S,
        name="slr",
    )
    return pulse.b1_hz * np.exp(1j * phase_rad)


def selective_press():
    """PRESS with three selective pulses along z, x, y; the slice gradient of the excitation is rephased."""
    gradient = GRADIENT_HZ_PER_M

    def crushed(axis, b1):
        return (
            lobe(axis, 4000.0, 5e-4),
            selective(b1, PULSE_DWELL_S, axis, gradient, "refocusing"),
            lobe(axis, 4000.0, 5e-4),
        )

    return Timeline(
        intervals=(
            selective(slr_b1(90), PULSE_DWELL_S, Z, gradient, "excitation"),
            lobe(Z, -gradient * PULSE_S / 2, 5e-4),
            delay(3e-3),
            *crushed(X, slr_b1(160, math.pi / 2)),
            delay(6e-3),
            *crushed(Y, slr_b1(180, math.pi / 2)),
            delay(4e-3),
            readout(),
        )
    )


def full_grid(timeline, offsets_hz, j_hz, positions_m):
    """Loops over x, y and z with explicit gradients and a filter on total coherence order; mean signal."""
    h = exact_spins.free_hamiltonian(offsets_hz, [[0, j_hz], [j_hz, 0]])
    total = 0
    for x in positions_m:
        for y in positions_m:
            for z in positions_m:
                rho, filters = exact_spins.total(2, "z"), iter((-1, 1, -1))
                for interval in timeline.intervals[:-1]:
                    offset_hz = float(interval.gradient_hz_per_m[0].numpy() @ np.array([x, y, z]))
                    u = cached(h, interval, offset_hz)
                    rho = u @ rho @ u.conj().T
                    if interval.use is not None:
                        rho = exact_spins.order_filter(rho, next(filters))
                total = total + exact_spins.signal(rho, h, TIMES_S)
    return total / len(positions_m) ** 3


def cached(h, interval, offset_hz, store={}):  # noqa: B006
    key = (h.tobytes(), interval.b1_hz.numpy().tobytes(), interval.dwell_s, offset_hz)
    if key not in store:
        store[key] = exact_spins.pulse(h, interval.b1_hz.numpy(), interval.dwell_s, offset_hz)
    return store[key]


@pytest.mark.parametrize(("offsets_hz", "j_hz"), [([-45.0, 20.0], 12.0), ([0.0, 310.0], -15.0)])
def test_factorised_average_is_the_full_grid(offsets_hz, j_hz):
    timeline = selective_press()
    assert [path.orders for path in refocused_pathways([timeline])] == [(-1, 1, -1)]
    positions = [-0.028, -0.011, 0.004, 0.019]
    expected = full_grid(timeline, offsets_hz, j_hz, positions)
    model = model_of(offsets_hz, {(0, 1): j_hz})
    shot = prepare(
        [timeline],
        model,
        positions_m=torch.tensor(positions, dtype=torch.float64),
        j_step_s=PULSE_DWELL_S / 16,
        time_zero_s=timeline.readouts()[0][0],
    )
    found = fid(lines(play(shot), model), len(TIMES_S), 1e-3)[0].numpy()
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def amplitudes(offsets_hz, positions_per_slice=24, members=None):
    model = model_of(offsets_hz, {})
    shot = prepare([selective_press()], model, members, positions_per_slice=positions_per_slice)
    found = lines(play(shot), model)
    return {f: complex(found.amplitude[0, (found.frequency_hz - f).abs() < 1e-6].sum()) for f in offsets_hz}


def profile_integral(b1, use, kept, reach_m=None):
    """Integral of a Bloch response over the slice axis, divided by the thickness that `slice_of` states.

    It runs over what `slice_of` calls touched, or over +- `reach_m`.
    """
    found = slice_of(selective(b1, PULSE_DWELL_S, Z, GRADIENT_HZ_PER_M, use))
    low, high = np.array([found.low_hz, found.high_hz]) / GRADIENT_HZ_PER_M if reach_m is None else (-reach_m, reach_m)
    step = (high - low) / 4000
    f_hz = (low + (np.arange(4000) + 0.5) * step) * GRADIENT_HZ_PER_M
    return np.sum(kept(bloch.rotation(b1.numpy(), PULSE_DWELL_S, f_hz), f_hz)) * step / found.thickness_m


@pytest.mark.parametrize(("reach_m", "tolerance"), [(None, 1e-4), (0.15, 5e-3)])
def test_voxel_signal_is_the_product_of_bloch_integrals(reach_m, tolerance):
    """Mx + i My after the rephased excitation, then M+ -> beta conj(M+) at each refocusing pulse.

    Side lobes below |b|^2 = 1e-3 are left out of the simulation: of an excitation, up to 6 % of the slice's M+.
    """

    def excited_part(r, f_hz):
        return (r[:, 0, 2] + 1j * r[:, 1, 2]) * np.exp(-1j * np.pi * f_hz * PULSE_S)

    # Gradient phases before and after a refocusing pulse's centre are equal and cancel between M- and M+.
    excited = profile_integral(slr_b1(90), "excitation", excited_part, reach_m)
    first, second = (
        profile_integral(slr_b1(flip, math.pi / 2), "refocusing", lambda r, _: bloch.refocused_part(r), reach_m)
        for flip in (160, 180)
    )
    expected = second * np.conj(first) * excited
    (found,) = amplitudes([0.0], positions_per_slice=96).values()
    assert abs(found - expected) < tolerance * abs(expected)


def test_default_positions_are_enough():
    (coarse,), (fine,) = amplitudes([0.0]).values(), amplitudes([0.0], positions_per_slice=96).values()
    assert abs(coarse - fine) < 1e-3 * abs(fine)


def test_displaced_slices_hold_as_much_signal():
    """A shift moves each slice (chemical-shift displacement); an uncoupled spin loses nothing by it."""
    on, off = amplitudes([0.0, 420.0]).values()
    assert abs(off - on) < 1e-3 * abs(on)


def test_four_compartments_cost_a_coupled_spin_signal():
    """One partner outside the refocusing slice is not inverted: the doublet's J evolution differs across the voxel."""
    model = model_of([-400.0, 400.0], {(0, 1): 15.0})
    with_coupling = lines(play(prepare([selective_press()], model)), model)
    echo_s = prepare([selective_press()], model).te_s
    ideal = abs(math.cos(math.pi * 15.0 * echo_s))
    own = with_coupling.frequency_hz < 0
    got = abs(complex(with_coupling.amplitude[0, own].sum())) / abs(amplitudes([-400.0, 400.0])[-400.0])
    assert abs(got - ideal) > 0.02


def hard_signal(shot, offsets_hz, members=None, j_hz=9.0, time_zero_s=None):
    model = model_of(offsets_hz, {(0, 1): j_hz})
    return fid(lines(play(prepare([shot], model, members, time_zero_s=time_zero_s)), model), 40, 1e-3)


def test_members_side_by_side_are_members_one_by_one():
    members = ensemble((-12.0, 12.0), (0.7, 1.1))
    together = hard_signal(hard_press(edit=(60, 0.2)), [-40.0, 25.0], members)
    for k, (b0, b1) in enumerate([(-12.0, 0.7), (-12.0, 1.1), (12.0, 0.7), (12.0, 1.1)]):
        alone = hard_signal(hard_press(edit=(60, 0.2)), [-40.0, 25.0], ensemble((b0,), (b1,)))
        torch.testing.assert_close(together[k], alone[0], rtol=0, atol=1e-13)


def test_b1_scale_scales_every_flip_angle():
    scale = 0.8
    found = hard_signal(hard_press(), [0.0, 0.0], ensemble((0.0,), (scale,)), j_hz=0.0)[0, 0]
    # sin(72 deg) and twice sin^2(72 deg), two protons, along -y after +x.
    expected = -2j * math.sin(math.radians(72)) * math.sin(math.radians(72)) ** 4
    assert complex(found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("time_zero_s", [None, 0.0345])
def test_field_offset_is_that_of_the_spins(time_zero_s):
    """b0 shifts every spin in the sequence; the FID's frequencies stay those of the model."""
    off = hard_signal(hard_press(edit=(60, 0.2)), [-40.0, 25.0], ensemble((17.0,)), time_zero_s=time_zero_s)[0]
    moved = hard_signal(hard_press(edit=(60, 0.2)), [-23.0, 42.0], time_zero_s=time_zero_s)[0]
    turning = torch.exp(-2j * math.pi * 17.0 * torch.arange(40).double() * 1e-3)
    torch.testing.assert_close(off, moved * turning, rtol=0, atol=1e-9)


def test_a_propagator_can_be_replaced():
    model = model_of([-40.0, 25.0], {(0, 1): 9.0})
    with_pulse = prepare([hard_press(edit=(60, 0.2))], model)
    nothing = torch.eye(4, dtype=torch.complex128)[None, None]
    found = play(with_pulse, replaced={2: nothing})
    torch.testing.assert_close(found, play(prepare([hard_press()], model)), rtol=0, atol=1e-9)
    same = play(with_pulse, replaced={2: with_pulse.pulses[2].propagator})
    torch.testing.assert_close(same, play(with_pulse), rtol=0, atol=0)


def test_delays_can_be_variables():
    model = model_of([-40.0, 25.0], {(0, 1): 9.0})
    shot = prepare([hard_press()], model)
    delays = torch.tensor(shot.delays_s, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: play(shot, delays_s=tuple(d)), (delays,))
    longer = prepare([hard_press(te1_s=0.016)], model)
    torch.testing.assert_close(play(shot, delays_s=longer.delays_s), play(longer), rtol=0, atol=1e-12)


def test_time_zero_defaults_to_the_echo():
    model = model_of([-40.0], {})
    shot = prepare([hard_press()], model)
    assert (shot.time_zero_s, shot.te_s) == (pytest.approx(0.032), pytest.approx(0.032))
    later = prepare([hard_press()], model, time_zero_s=0.0345)
    turned = play(shot) * torch.exp(-2j * math.pi * model.offset_hz[0] * -0.0025)
    torch.testing.assert_close(play(later), turned, rtol=0, atol=1e-9)


def test_time_zero_before_the_end_of_a_pulse_is_refused():
    with pytest.raises(InputError, match="before the end of the last pulse"):
        prepare([selective_press()], model_of([0.0], {}), time_zero_s=6e-3)


def pair_of_inversions(second_sign=1, between=()):
    """A selective excitation along z, then two selective 150s along x (the second of either polarity), crushed."""
    g = GRADIENT_HZ_PER_M

    def crushed(moment, b1, sign):
        return (
            lobe(X, moment, 5e-4),
            selective(b1, PULSE_DWELL_S, X, sign * g, "refocusing"),
            lobe(X, moment, 5e-4),
        )

    return Timeline(
        intervals=(
            selective(slr_b1(90), PULSE_DWELL_S, Z, g, "excitation"),
            lobe(Z, -g * PULSE_S / 2, 5e-4),
            delay(2e-3),
            *crushed(4000.0, slr_b1(150, math.pi / 2), 1),
            delay(3e-3),
            *between,
            *crushed(7000.0, slr_b1(165, math.pi / 2), second_sign),
            delay(4e-3),
            readout(),
        )
    )


@pytest.mark.parametrize("second_sign", [1, -1])
def test_two_pulses_along_one_axis_act_at_the_same_positions(second_sign):
    """Against loops over x and z with explicit gradients and filters; and not the product of two averages."""
    timeline, positions = pair_of_inversions(second_sign), [-0.028, -0.011, 0.004, 0.019]
    offsets_hz, j_hz = [-45.0, 20.0], 12.0
    assert [path.orders for path in refocused_pathways([timeline])] == [(-1, 1, -1)]
    expected = full_grid(timeline, offsets_hz, j_hz, positions)
    model = model_of(offsets_hz, {(0, 1): j_hz})
    zero_s = timeline.readouts()[0][0]
    shot = prepare(
        [timeline],
        model,
        positions_m=torch.tensor(positions, dtype=torch.float64),
        j_step_s=PULSE_DWELL_S / 8,
        time_zero_s=zero_s,
    )
    found = fid(lines(play(shot), model), len(TIMES_S), 1e-3)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    apart = replace(shot, pulses=tuple(replace(pulse, closes=True) for pulse in shot.pulses))
    product = fid(lines(play(apart), model), len(TIMES_S), 1e-3)[0].numpy()
    assert np.abs(product - expected).max() > 1e-2 * np.abs(expected).max()


def test_a_pair_of_pulses_selects_one_slice():
    """Default positions: the product of both Bloch responses at each position, integrated over the slice."""
    (found,) = (complex(v) for v in pair_amplitudes(96).values())
    thickness_m = min(
        slice_of(selective(slr_b1(flip), PULSE_DWELL_S, X, GRADIENT_HZ_PER_M, "refocusing")).thickness_m
        for flip in (150, 165)
    )
    x_m = np.linspace(-0.06, 0.06, 8001)
    parts = [
        bloch.refocused_part(bloch.rotation(slr_b1(flip, math.pi / 2).numpy(), PULSE_DWELL_S, x_m * GRADIENT_HZ_PER_M))
        for flip in (150, 165)
    ]
    refocused = np.sum(np.conj(parts[0]) * parts[1]) * (x_m[1] - x_m[0]) / thickness_m
    excited = profile_integral(
        slr_b1(90),
        "excitation",
        lambda r, f_hz: (r[:, 0, 2] + 1j * r[:, 1, 2]) * np.exp(-1j * np.pi * f_hz * PULSE_S),
    )
    assert abs(found - refocused * excited) < 5e-3 * abs(found)


def pair_amplitudes(positions_per_slice):
    model = model_of([0.0], {})
    found = lines(play(prepare([pair_of_inversions()], model, positions_per_slice=positions_per_slice)), model)
    return {0.0: found.amplitude[0].sum()}


def test_a_nonselective_pulse_between_acts_on_every_position():
    shot = pair_of_inversions(between=(ideal_pulse(math.radians(35), 0.4, "preparation"),))
    model, positions = model_of([-45.0, 20.0], {(0, 1): 12.0}), [-0.02, 0.004, 0.013]
    paths = refocused_pathways([shot])
    zero_s = shot.readouts()[0][0]
    kwargs = {"time_zero_s": zero_s, "pathways": paths, "j_step_s": 5e-5}
    together = play(prepare([shot], model, positions_m=torch.tensor(positions, dtype=torch.float64), **kwargs))
    by_hand = 0
    single = [prepare([shot], model, positions_m=torch.tensor([x], dtype=torch.float64), **kwargs) for x in positions]
    for of_x, of_z in itertools.product(single, repeat=2):
        by_hand = by_hand + play(replace(of_x, pulses=(of_z.pulses[0], *of_x.pulses[1:])))
    torch.testing.assert_close(together, by_hand / 9, rtol=0, atol=1e-12)


def test_slices_along_one_axis_with_another_between_are_refused():
    shot = selective_press()
    pulses = [interval for interval in shot.intervals if interval.use is not None]
    twice = tuple(pulses[0] if interval is pulses[2] else interval for interval in shot.intervals)
    with pytest.raises(InputError, match="must follow one another"):
        prepare([Timeline(intervals=twice)], model_of([0.0], {}), pathways=refocused_pathways([shot]))


def test_oblique_slices_are_refused():
    gradient = torch.tensor([[1.0, 0.2, 0.0]]).double().expand(40, 3) * GRADIENT_HZ_PER_M
    shot = selective_press()
    pulses = [interval for interval in shot.intervals if interval.use is not None]
    oblique = replace(pulses[2], gradient_hz_per_m=gradient.contiguous())
    tilted = tuple(oblique if interval is pulses[2] else interval for interval in shot.intervals)
    with pytest.raises(InputError, match="not perpendicular: their average over the voxel"):
        prepare([Timeline(intervals=tilted)], model_of([0.0], {}), pathways=refocused_pathways([shot]))
