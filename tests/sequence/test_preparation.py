"""What is played before the excitation: times, gradients, dephasing and what is left of water, from the blocks."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from press_files import F0_HZ, SCANNER, WATER_PPM, context
from scipy.stats import qmc

from seqgen.errors import HardwareLimitError, InputError
from seqgen.seqfile.blocks import Adc, Block
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.outer_volume import slab_flip_angles, slabs
from seqgen.sequence.preparation import PreparationParams, prepare
from seqgen.sequence.suppression import VAPOR_DELAY_S, longitudinal
from seqgen.sequence.voxel import voxel_axes
from seqgen.simulate.dephasing import pathway_signals
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.system import SpinGroup
from seqgen.timeline import Receiver, Timeline, delay, ideal_pulse

BEFORE_S = 1.54e-3
PARAMS = PreparationParams(
    voxel_size_m=(0.02, 0.025, 0.03), voxel_position_m=(0.01, -0.005, 0.02), voxel_rotation_rad=(0.3, -0.2, 0.5)
)
KINDS = {
    "wet": {},
    "vapor": {"water_suppression": "vapor"},
    "none": {"water_suppression": "none"},
    "wet, slabs": {"outer_volume_suppression": True},
    "vapor, slabs": {"water_suppression": "vapor", "outer_volume_suppression": True},
    "vapor, two rounds": {"water_suppression": "vapor", "outer_volume_suppression": True, "outer_volume_rounds": 2},
    "none, slabs": {"water_suppression": "none", "outer_volume_suppression": True},
    "wet, two rounds": {"suppression_spacing_s": 0.062, "outer_volume_suppression": True, "outer_volume_rounds": 2},
    "none, two rounds": {
        "water_suppression": "none",
        "outer_volume_suppression": True,
        "outer_volume_rounds": 2,
    },
}


def prepared(kind="wet", scanner=SCANNER, **changes):
    return prepare(replace(PARAMS, **KINDS[kind], **changes), context(scanner=scanner), BEFORE_S)


def starts_s(blocks):
    return [0.0, *itertools.accumulate(block.duration_s for block in blocks)]


def centres_s(preparation):
    """(name, time of the RF centre before the excitation's) of every pulse of the suppressed blocks."""
    excitation_s = preparation.duration_s + BEFORE_S
    return [
        (block.rf.name, excitation_s - start - block.rf.delay_s - 0.5 * block.rf.duration_s)
        for start, block in zip(starts_s(preparation.suppressed), preparation.suppressed, strict=False)
        if block.rf is not None
    ]


# --- Times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wet", "wet, slabs"])
def test_wet_pulses_are_60_ms_apart_and_from_the_excitation(kind):
    times = [time for name, time in centres_s(prepared(kind)) if name.startswith("WET")]
    assert times == pytest.approx([0.24, 0.18, 0.12, 0.06], abs=1e-5)


@pytest.mark.parametrize("kind", ["vapor", "vapor, slabs", "vapor, two rounds"])
def test_vapor_pulses_keep_the_published_delays(kind):
    times = [time for name, time in centres_s(prepared(kind)) if name.startswith("VAPOR")]
    assert [*(-np.diff(times)), times[-1]] == pytest.approx(VAPOR_DELAY_S, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_blocks_last_as_long_as_stated(kind):
    found = prepared(kind)
    for blocks in (found.suppressed, found.unsuppressed):
        assert sum(block.duration_s for block in blocks) == pytest.approx(found.duration_s, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_references_differ_in_rf_on_water_alone(kind):
    found = prepared(kind)
    for block, reference in zip(found.suppressed, found.unsuppressed, strict=True):
        assert reference.duration_s == block.duration_s
        assert reference.gradients == block.gradients
        if block.rf is not None:
            on_water = not block.rf.name.startswith("slab")
            assert reference.rf is (None if on_water else block.rf)
    assert not any(block.rf is not None and block.rf.name.startswith(("WET", "VAPOR")) for block in found.unsuppressed)


ORDER = [f"slab {sign}{axis}" for axis in (1, 2, 3) for sign in "-+"]


@pytest.mark.parametrize(
    ("kind", "order"),
    [
        ("wet, slabs", ["WET 1", "WET 2", "WET 3", "WET 4", *ORDER]),
        ("vapor, slabs", [f"VAPOR {k}" for k in range(1, 6)] + ORDER + ["VAPOR 6", "VAPOR 7"]),
        ("vapor, two rounds", [f"VAPOR {k}" for k in range(1, 6)] + ORDER * 2 + ["VAPOR 6", "VAPOR 7"]),
        ("wet, two rounds", ["WET 1", "WET 2", "WET 3", *ORDER, "WET 4", *ORDER]),
        ("none, slabs", ORDER),
        ("none, two rounds", ORDER * 2),
    ],
)
def test_slabs_are_played_as_late_as_they_fit(kind, order):
    found = prepared(kind)
    assert [name for name, _ in centres_s(found)] == order
    # Right before the next water pulse, or the excitation: the spoiler of the last slab ends there.
    last = max(k for k, block in enumerate(found.suppressed) if block.rf is not None and "slab" in block.rf.name)
    after = found.suppressed[last + 2 :]
    assert not after or after[0].rf is not None


def test_slabs_that_fit_nowhere_name_what_is_free():
    with pytest.raises(
        InputError, match=r"outer_volume_suppression needs ([\d.]+) ms .* at most ([\d.]+) ms"
    ) as caught:
        prepared("wet, slabs", suppression_spacing_s=0.05)
    text = str(caught.value)
    needed, free = (float(text.split(word)[1].split(" ms")[0]) for word in ("needs ", "at most "))
    # Longer by what is missing, it fits.
    longer_s = 0.05 + (needed - free) * 1e-3
    assert prepared("wet, slabs", suppression_spacing_s=longer_s).slab_flip_angle_rad
    with pytest.raises(InputError, match="outer_volume_suppression needs"):
        prepared("wet, slabs", suppression_spacing_s=longer_s - 2e-5)


def test_slab_flip_angles_make_up_for_what_recovers():
    """The longer until the excitation, the larger; and what they leave with ideal profiles is what is stated."""
    found = prepared("wet, slabs")
    assert list(found.slab_flip_angle_rad) == sorted(found.slab_flip_angle_rad, reverse=True)
    delays = [time for name, time in centres_s(found) if "slab" in name]
    alone = [slab_flip_angles((delay,), PARAMS, (0.8, 1.2))[0][0] for delay in delays]
    assert np.degrees(found.slab_flip_angle_rad) == pytest.approx(np.degrees(alone), abs=0.101)
    left = [
        abs(float(longitudinal([flip], [delay], t1_s=t1, b1_scale=b1, first_mz=first)))
        for flip, delay in zip(found.slab_flip_angle_rad, delays, strict=True)
        for t1 in (0.3, 0.4, 0.5)
        for b1 in (0.8, 1.0, 1.2)
        for first in (0.9, 1.0)
    ]
    assert max(left) == pytest.approx(found.slab_residual, abs=5e-3)


def test_two_rounds_are_far_less_sensitive_to_b1():
    once, twice = prepared("vapor, slabs"), prepared("vapor, two rounds")
    assert len(twice.slab_flip_angle_rad) == 12
    assert twice.slab_residual < 0.35 * once.slab_residual


# --- What is left of water -------------------------------------------------------------------------------------------


def bloch_with_relaxation(blocks, t1_s, t2_s, b1_scale, first_mz=1.0, position_m=None):
    """Mz at the end of the blocks and after BEFORE_S for every (T1, B1), mean over positions: plain NumPy.

    RF is cut into steps of 0.2 ms between halves of relaxation; water is on resonance. Without positions a gradient
    lobe takes all transverse magnetisation away.
    """
    ideal, position_m = position_m is None, np.zeros((1, 3)) if position_m is None else position_m
    m = np.zeros((len(t1_s), len(position_m), 3))
    m[..., 2] = first_mz
    t1, b1 = np.asarray(t1_s)[:, None], np.asarray(b1_scale)[:, None]

    def relax(m, duration_s):
        m[..., :2] *= math.exp(-duration_s / t2_s)
        m[..., 2] = 1 + (m[..., 2] - 1) * np.exp(-duration_s / t1)

    def turn_z(m, angle):
        x, y = m[..., 0].copy(), m[..., 1].copy()
        m[..., 0], m[..., 1] = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

    for block in blocks:
        moment = np.array([0.0 if lobe is None else lobe.moment_per_m for lobe in block.gradients])
        if block.rf is None or block.rf.name.startswith("slab"):
            if ideal and moment.any():
                m[..., :2] = 0
            turn_z(m, 2 * np.pi * position_m @ moment)
            relax(m, block.duration_s)
            continue
        relax(m, block.rf.delay_s)
        step_s = 2e-4
        for sample in block.rf.b1_hz.numpy().real.reshape(-1, round(step_s / block.rf.raster_s)).mean(1):
            relax(m, step_s / 2)
            y, z = m[..., 1].copy(), m[..., 2].copy()
            angle = 2 * np.pi * b1 * sample * step_s
            m[..., 1], m[..., 2] = y * np.cos(angle) - z * np.sin(angle), y * np.sin(angle) + z * np.cos(angle)
            relax(m, step_s / 2)
        relax(m, block.duration_s - block.rf.delay_s - block.rf.duration_s)
    relax(m, BEFORE_S)
    return m[..., 2].mean(1)


def recursion(found, t1, b1, first_mz=1.0):
    times = [time for name, time in centres_s(found) if "slab" not in name]
    delays = [*(-np.diff(times)), times[-1]]
    return longitudinal(found.flip_angle_rad, delays, t1_s=t1, b1_scale=b1, first_mz=first_mz)


BOX = [grid.ravel() for grid in np.meshgrid([0.83, 1.5, 4.5], [0.8, 0.9, 1.0, 1.1, 1.2])]


@pytest.mark.parametrize(("t2_s", "tolerance"), [(1e6, 3e-3), (0.08, 5e-3), (0.05, 7e-3)])
@pytest.mark.parametrize("kind", ["wet", "vapor", "vapor, slabs"])
@pytest.mark.parametrize("first_mz", [0.5, 1.0])
def test_recursion_against_bloch_equations(kind, t2_s, tolerance, first_mz):
    """Pulses of 20 ms with relaxation within them against instant ones; tolerance: what that costs, in M0."""
    found = prepared(kind)
    left = bloch_with_relaxation(found.suppressed, *BOX[:1], t2_s, BOX[1], first_mz)
    assert left == pytest.approx(recursion(found, *BOX, first_mz), abs=tolerance)
    assert found.residual == pytest.approx(np.abs(left).max(), abs=tolerance)
    assert np.abs(left).max() < (0.012 if kind == "wet" else 0.004)


@pytest.mark.parametrize(("kind", "tolerance"), [("wet", 8e-3), ("wet, slabs", 8e-3), ("vapor", 5e-3)])
def test_recursion_against_bloch_equations_with_gradients(kind, tolerance):
    """No transverse magnetisation comes back: 4096 spins spread over 60 mm, whose mean is good to half a percent."""
    found = prepared(kind)
    position_m = (qmc.Sobol(3, seed=1).random_base2(12) - 0.5) * 0.06
    t1, b1 = np.array([0.83, 4.5]), np.array([0.8, 1.2])
    left = bloch_with_relaxation(found.suppressed, t1, 0.08, b1, position_m=position_m)
    assert left == pytest.approx(recursion(found, t1, b1), abs=tolerance)


def test_without_gradients_it_does_come_back():
    """The same spins, spoilers left out: the test above can see it."""
    found = prepared("wet")
    still = tuple(replace(block, gradients=(None, None, None)) for block in found.suppressed)
    position_m = np.zeros((1, 3))
    t1, b1 = np.array([0.83, 4.5]), np.array([0.8, 1.2])
    left = bloch_with_relaxation(still, t1, 0.08, b1, position_m=position_m)
    assert np.abs(left - recursion(found, t1, b1)).min() > 0.05


def test_without_suppression_nothing_is_played_and_all_is_left():
    found = prepared("none")
    assert found.suppressed == found.unsuppressed == found.flip_angle_rad == ()
    assert (found.residual, found.duration_s, found.notes) == (1.0, 0.0, ())


# --- Dephasing -------------------------------------------------------------------------------------------------------

CRUSHER_PER_M = 1500.0


def moments_between_centres(preparation):
    """(name, moment from its centre to the next one's or to the excitation) of every pulse, along the voxel's axes."""
    found = []
    axes = voxel_axes(PARAMS)
    for block in preparation.suppressed:
        lobes = np.array([0.0 if lobe is None else lobe.moment_per_m for lobe in block.gradients])
        if block.rf is None:
            found[-1][1].append(lobes)
            continue
        middle = block.rf.delay_s + 0.5 * block.rf.duration_s
        before = np.array([0.0 if g is None else _until(g, middle) for g in block.gradients])
        if found:
            found[-1][1].append(before)
        found.append((block.rf.name, [lobes - before]))
    return [(name, axes @ np.sum(parts, axis=0)) for name, parts in found]


def _until(lobe, time_s):
    """Area of a trapezoid up to a time on its top."""
    assert lobe.rise_s <= time_s <= lobe.rise_s + lobe.flat_s
    return lobe.amplitude_hz_per_m * (time_s - 0.5 * lobe.rise_s)


def least_moment(intervals):
    """Least moment of a pathway through these intervals (orders -1, 0, 1, not all 0) and those of PRESS.

    Crushers (1, 1, 0) and (0, 1, 1) times 1500 cycles/m around the two refocusing pulses, along the voxel's axes.
    """
    first, second = CRUSHER_PER_M * np.array([1, 1, 0]), CRUSHER_PER_M * np.array([0, 1, 1])
    crushed = [p * first + q * (first + second) - second for p in (-1, 0, 1) for q in (-1, 0, 1)]
    orders = np.array(list(itertools.product((-1, 0, 1), repeat=len(intervals))))
    sums = orders[orders.any(1)] @ np.array(intervals)
    return min(float(np.linalg.norm(sums + moment, axis=1).min()) for moment in crushed)


def seen_at(moments, sides):
    """The intervals between the pulses that act on a spin on one side of each axis: other slabs pass it by."""
    acts = [not name.startswith("slab") or name in sides for name, _ in moments]
    intervals = []
    for (_, moment), act in zip(moments, acts, strict=True):
        if act:
            intervals.append(moment)
        elif intervals:
            intervals[-1] = intervals[-1] + moment
    return intervals


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("wet", 889),
        ("vapor", 351),
        ("none, slabs", 564),
        ("wet, slabs", 392),
        pytest.param("vapor, slabs", 169, marks=pytest.mark.slow),
        pytest.param("wet, two rounds", 67, marks=pytest.mark.slow),
    ],
)
def test_no_pathway_through_the_preparation_is_refocused(kind, least):
    """Cycles per metre at the detection, whichever orders pulses, slabs, excitation and the PRESS echoes make."""
    moments = moments_between_centres(prepared(kind))
    for signs in itertools.product("-+", repeat=3):
        sides = {f"slab {sign}{axis}" for sign, axis in zip(signs, (1, 2, 3), strict=True)}
        assert least_moment(seen_at(moments, sides)) > least
        if not any("slab" in name for name, _ in moments):
            break


@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3)])
@pytest.mark.parametrize("kind", ["wet, slabs", pytest.param("vapor, slabs", marks=pytest.mark.slow)])
def test_nor_with_slabs_along_some_axes(kind, axes):
    moments = moments_between_centres(prepared(kind, outer_volume_axes=axes))
    for signs in itertools.product("-+", repeat=len(axes)):
        sides = {f"slab {sign}{axis}" for sign, axis in zip(signs, axes, strict=True)}
        assert least_moment(seen_at(moments, sides)) > 150


def test_the_moment_between_two_centres_is_the_spoilers_own():
    """Slice gradients of the slabs are made up for, so that the table of directions holds whatever their thickness."""
    thick = moments_between_centres(prepared("wet, slabs"))
    thin = moments_between_centres(prepared("wet, slabs", outer_volume_thickness_m=0.015))
    for (_, one), (_, other) in zip(thick[:-1], thin[:-1], strict=True):
        assert one == pytest.approx(other, abs=1e-3)
        assert np.linalg.norm(one) > 500


def lobe_of(moment):
    return delay(1e-3, tuple(float(part) / 1e-3 for part in moment))


@pytest.mark.slow
@pytest.mark.parametrize("b1_scale", [0.8, 1.0])
def test_every_pathway_of_water_through_wet_and_press_is_dephased(b1_scale):
    """`pathway_signals`: WET with its spoilers, 90 and two poor 180s with crushers, a sample of 60 mm, one proton.

    The largest of 728 unwanted pathways without its dephasing is a tenth of M0 or more, with it below 1e-5.
    """
    found = prepared("wet")
    intervals = []
    for flip, (_, moment) in zip(found.flip_angle_rad, moments_between_centres(found), strict=True):
        intervals += [ideal_pulse(b1_scale * flip, 0.0, "saturation"), lobe_of(moment)]
    first, second = CRUSHER_PER_M * np.array([1, 1, 0]), CRUSHER_PER_M * np.array([0, 1, 1])
    intervals += [ideal_pulse(b1_scale * math.pi / 2, math.pi / 2, "excitation"), delay(5e-3), lobe_of(first)]
    intervals += [ideal_pulse(b1_scale * math.pi, 0.0, "refocusing"), lobe_of(first + second), delay(9e-3)]
    intervals += [ideal_pulse(b1_scale * math.pi, 0.0, "refocusing"), lobe_of(second), delay(3e-3)]
    readout = replace(delay(0.5), receiver=Receiver(n_samples=8, dwell_s=5e-4))
    water = SpinGroup(name="water", labels=("H",), shift_ppm=(WATER_PPM,), j_hz=((0.0,),))
    model = group_model(water, spectrometer_frequency_hz=F0_HZ, reference_ppm=WATER_PPM)
    table = pathway_signals([Timeline(intervals=(*intervals, readout))], model, extent_m=(0.06, 0.06, 0.06))
    assert len(table.signals) == 3**6
    assert max(signal.undephased for signal in table.signals[1:]) > 0.1
    assert max(signal.dephased for signal in table.signals[1:]) < 1e-5
    assert not any(signal.refocused for signal in table.signals[1:])


# --- Refusals and files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("water_suppression", "chess"),
        ("suppression_duration_s", 0.0),
        ("suppression_spacing_s", math.nan),
        ("vapor_delay_s", (0.15, 0.08)),
        ("vapor_delay_s", (0.15, 0.08, 0.16, 0.08, 0.1, 0.03, -0.026)),
        ("suppression_t1_range_s", (1.5, 0.8)),
        ("suppression_t1_range_s", (0.0, 0.8)),
        ("suppression_b1_range_scale", (0.8,)),
        ("suppression_b1_range_scale", (0.8, math.inf)),
        ("suppression_spoiler_moment_per_m", -1.0),
        ("outer_volume_axes", ()),
        ("outer_volume_axes", (1, 1)),
        ("outer_volume_axes", (0, 1)),
        ("outer_volume_rounds", 0),
        ("outer_volume_rounds", 3),
        ("outer_volume_thickness_m", 0.0),
        ("outer_volume_gap_m", -0.011),
        ("outer_volume_gap_m", math.nan),
        ("outer_volume_carrier_ppm", math.inf),
        ("outer_volume_duration_s", -1.0),
        ("outer_volume_time_bandwidth", 0.0),
        ("outer_volume_t1_range_s", (0.5, 0.3)),
    ],
)
def test_impossible_parameters_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name} must be .* Change {name}"):
        prepared(**{name: value})


def test_a_short_spacing_states_the_least():
    with pytest.raises(InputError, match=r"suppression_spacing_s must be at least 0\.02\d+ s .* Raise") as caught:
        prepared(suppression_spacing_s=0.02)
    least_s = float(str(caught.value).split("at least ")[1].split(" s")[0])
    assert prepared(suppression_spacing_s=least_s).duration_s > 0


def test_a_short_delay_of_vapor_is_named():
    with pytest.raises(InputError, match=r"vapor_delay_s \(number 7\) must be at least 0\.01\d+ s"):
        prepared("vapor", vapor_delay_s=(*VAPOR_DELAY_S[:-1], 0.01))


def test_a_spoiler_beyond_the_gradient_is_refused():
    with pytest.raises(HardwareLimitError, match=r"spoiler of .* Lengthen it or lower its moment"):
        prepared(suppression_spoiler_moment_per_m=5e4)


@pytest.mark.parametrize("kind", ["wet, slabs", "vapor, slabs"])
def test_the_file_keeps_what_was_built(kind, tmp_path):
    """Written and read back: RF centres, carriers of the slabs for their place, and amplitudes."""
    found = prepared(kind)
    readout = Block(duration_s=0.1, adc=Adc(n_samples=64, dwell_s=1e-3, delay_s=1e-3))
    path = tmp_path / "preparation.seq"
    write_seq(
        (*found.suppressed, readout), path, scanner=SCANNER, spectrometer_frequency_hz=F0_HZ, definitions={"Name": kind}
    )
    seq = read_seq(path)
    played = [block for block in seq.blocks if block.rf is not None]
    built = [block for block in found.suppressed if block.rf is not None]
    assert len(played) == len(built)
    for one in found.suppressed:
        if one.rf is None or "slab" not in one.rf.name:
            continue
        slab = next(s for s in slabs(replace(PARAMS, **KINDS[kind])) if s.name == one.rf.name)
        direction = -slab.side * voxel_axes(PARAMS)[slab.axis]
        gradient = np.array([0.0 if lobe is None else lobe.amplitude_hz_per_m for lobe in one.gradients])
        carrier = (1.3 - WATER_PPM) * F0_HZ * 1e-6 + gradient @ direction * (-slab.side * slab.centre_m)
        assert one.rf.frequency_hz == pytest.approx(carrier, rel=1e-5)
