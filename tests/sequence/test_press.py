"""PRESS as it is written: what the read-back file plays, against closed forms and Bloch equations in plain NumPy."""

import itertools
import math

import bloch
import numpy as np
import pytest
import torch
from press_files import F0_HZ, PARAMS, PRESS, SCANNER, WATER_PPM, build, context, random_pulse, write

from seqgen.errors import HardwareLimitError, InputError
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.preparation import prepare

PULSES = {"plain": None, "edited": random_pulse()}


@pytest.fixture(scope="module", params=["plain", "edited"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def seq(kind, tmp_path_factory):
    return read_seq(write(tmp_path_factory.mktemp("press") / f"{kind}.seq", build(PULSES[kind])))


def localisation(timeline):
    """(centre in s, interval) of all pulses but the suppression."""
    return [(time, interval) for time, interval in timeline.pulses() if interval.use != "saturation"]


def metabolite_shot(seq):
    """The second acquired shot: no dummy scan belongs to it."""
    return [shot for shot in shots(seq) if shot.labels["REF"] == 0][1]


# --- Timing ----------------------------------------------------------------------------------------------------------


def test_echo_times_from_rf_centres_are_those_of_the_definitions(seq, kind):
    for shot in shots(seq):
        times = [time for time, interval in localisation(shot.timeline) if interval.use != "preparation"][-3:]
        te1_s, te2_s = 2 * (times[1] - times[0]), 2 * (times[2] - times[1]) - 2 * (times[1] - times[0])
        assert te1_s == pytest.approx(seq.definition_numbers("TE1")[0], abs=1e-9)
        assert te2_s == pytest.approx(seq.definition_numbers("TE2")[0], abs=1e-9)
        assert te1_s + te2_s == pytest.approx(seq.definition_numbers("TE")[0], abs=1e-9)
        if kind == "edited":
            edit = next(time for time, i in localisation(shot.timeline)[-4:] if i.use == "preparation")
            assert edit - times[0] == pytest.approx(te1_s, abs=1e-9)


def test_the_first_sample_is_taken_at_the_echo(seq):
    timeline = metabolite_shot(seq).timeline
    opens_s, receiver = timeline.readouts()[0]
    echo_s = localisation(timeline)[0][0] + seq.definition_numbers("TE")[0]
    assert opens_s + receiver.dwell_s / 2 == pytest.approx(echo_s, abs=SCANNER.rf_raster_s / 2 + 1e-12)


def test_repetition_time_from_refocusing_to_refocusing(seq):
    last = [shot.start_s + localisation(shot.timeline)[-1][0] for shot in shots(seq)]
    assert np.diff(last) == pytest.approx(2.0, abs=1e-9)
    assert seq.definition_numbers("TR")[0] == 2.0


def test_the_minimum_echo_times_build_and_20_us_less_is_refused(kind, tmp_path):
    pulse = PULSES[kind]
    te1_s, te2_s = PRESS.minimum_te_s(PARAMS, context(pulse))
    seq = read_seq(write(tmp_path / "minimum.seq", build(pulse, te1_s=te1_s, te2_s=te2_s)))
    times = [time for time, i in localisation(metabolite_shot(seq).timeline) if i.use != "preparation"]
    assert 2 * (times[1] - times[0]) == pytest.approx(te1_s, abs=1e-9)
    for name, least in (("te1_s", te1_s), ("te2_s", te2_s)):
        with pytest.raises(InputError, match=rf"{name} must be at least {least * 1e3:.6g} ms"):
            build(pulse, **({"te1_s": te1_s, "te2_s": te2_s} | {name: least - 2e-5}))


def test_a_pulse_off_the_raster_is_refused_rather_than_moving_the_echo():
    assert build(excitation_duration_s=2.62e-3).definitions["TE"] == pytest.approx(0.075)
    with pytest.raises(InputError, match="not on the block raster of 10 us: the echo would be off"):
        build(excitation_duration_s=2.61e-3)


def test_a_short_repetition_time_states_the_least(kind):
    with pytest.raises(InputError, match=r"tr_s must be at least 0\.\d+ s with these pulses, but is 0\.2 s"):
        build(PULSES[kind], tr_s=0.2)


# --- Parameters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tr_s", -1.0),
        ("tr_s", math.nan),
        ("tr_s", math.inf),
        ("te1_s", math.nan),
        ("te2_s", -0.03),
        ("voxel_size_m", (0.0, 0.02, 0.02)),
        ("voxel_size_m", (0.02, -0.02, 0.02)),
        ("voxel_size_m", (0.02, math.nan, 0.02)),
        ("voxel_size_m", (0.02, 0.02)),
        ("voxel_position_m", (0.0, math.inf, 0.0)),
        ("voxel_rotation_rad", (0.0, math.nan, 0.0)),
        ("averages", 3),
        ("averages", 0),
        ("averages", -2),
        ("water_reference_averages", 1),
        ("water_reference_averages", -2),
        ("dummy_scans", -1),
        ("adc_samples", 0),
        ("adc_samples", -4),
        ("adc_samples", 510),
        ("adc_samples", 8196),
        ("adc_dwell_s", 0.0),
        ("adc_dwell_s", math.nan),
        ("adc_dwell_s", 2.5003e-5),
        ("slice_carrier_ppm", math.nan),
        ("receiver_phase_rad", math.nan),
        ("slew_fraction", 0.0),
        ("slew_fraction", 1.5),
        ("excitation_duration_s", 0.0),
        ("refocusing_time_bandwidth", -5.0),
        ("crusher_moment_per_m", 0.0),
        ("crusher_duration_s", math.nan),
        ("suppression_spacing_s", -0.06),
        ("water_suppression", "chess"),
    ],
)
def test_impossible_parameters_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name} must be "):
        build(**{name: value})


def test_a_thin_voxel_names_the_smallest_one(kind):
    with pytest.raises(HardwareLimitError, match=r"80 mT/m, a voxel of at least ([\d.]+) mm along this axis") as caught:
        build(PULSES[kind], voxel_size_m=(0.02, 1e-4, 0.02))
    least_m = float(str(caught.value).split("at least ")[1].split(" mm")[0]) * 1e-3
    with pytest.raises(HardwareLimitError):
        build(voxel_size_m=(0.02, least_m * 0.99, 0.02))
    assert build(voxel_size_m=(0.02, least_m * 1.01, 0.02)).blocks


def test_a_crusher_beyond_the_gradient_is_refused():
    with pytest.raises(HardwareLimitError, match=r"crusher of .* Lengthen it or lower its moment"):
        build(crusher_moment_per_m=2e4)


# --- Where the voxel is: Bloch equations on the file that was read back ----------------------------------------------


def rotation_matrix(about_x, about_y, about_z):
    """Turn about x, then y, then z, fixed axes, written out by hand."""
    cx, sx, cy, sy, cz, sz = (f(a) for a in (about_x, about_y, about_z) for f in (math.cos, math.sin))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.7)])
def test_the_voxel_sits_where_asked_and_is_as_thick_as_asked(rotation, tmp_path):
    carrier_ppm = 2.8
    built = build(voxel_rotation_rad=rotation, slice_carrier_ppm=carrier_ppm, water_suppression="none")
    timeline = metabolite_shot(read_seq(write(tmp_path / "voxel.seq", built))).timeline
    axes = rotation_matrix(*rotation)
    offset_hz = (carrier_ppm - WATER_PPM) * F0_HZ * 1e-6
    for number, (_, interval) in enumerate(timeline.pulses()):
        size_m = PARAMS.voxel_size_m[number]
        along_m = np.linspace(-0.8, 0.8, 241) * size_m
        position = np.array(PARAMS.voxel_position_m) + along_m[:, None] * axes[:, number]
        played = bloch.play(
            bloch.along_z(along_m.size),
            interval.b1_hz.numpy(),
            interval.gradient_hz_per_m.numpy(),
            interval.dwell_s,
            position,
            np.full(along_m.size, offset_hz),
        )
        profile = np.hypot(played[:, 0], played[:, 1]) if number == 0 else (1 - played[:, 2]) / 2
        middle_m, thickness_m = bloch.half_maximum(along_m, profile)
        assert profile[along_m.size // 2] > 0.98
        assert abs(middle_m) < 1e-4
        assert thickness_m == pytest.approx(size_m, rel=0.01)


def test_a_ppm_away_the_slice_moves_by_the_offset_over_the_gradient(tmp_path):
    """Chemical-shift displacement: a spin above the carrier is on resonance further down the gradient."""
    timeline = metabolite_shot(read_seq(write(tmp_path / "shift.seq", build(water_suppression="none")))).timeline
    _, interval = timeline.pulses()[1]
    along_m = np.linspace(-0.8, 0.8, 241) * PARAMS.voxel_size_m[1]
    position = np.array(PARAMS.voxel_position_m) + along_m[:, None] * np.array([0.0, 1.0, 0.0])
    gradient = interval.gradient_hz_per_m.numpy()
    played = bloch.play(
        bloch.along_z(along_m.size),
        interval.b1_hz.numpy(),
        gradient,
        interval.dwell_s,
        position,
        np.full(along_m.size, (3.8 - WATER_PPM) * F0_HZ * 1e-6),
    )
    middle_m, _ = bloch.half_maximum(along_m, (1 - played[:, 2]) / 2)
    assert middle_m == pytest.approx(-F0_HZ * 1e-6 / gradient[0, 1], abs=1e-4)


# --- Crushers and phase cycle ----------------------------------------------------------------------------------------


def turn(m, angle_rad, phase_rad):
    """Turn (n, 3) vectors by an ideal pulse."""
    b1 = angle_rad / (2 * np.pi) * np.exp(1j * phase_rad)
    return bloch.rotate(m, b1, np.zeros(len(m)), 1.0)


def dephase(m, cycles):
    """Turn (n, 3) vectors about z by cycles (n,)."""
    transverse = (m[:, 0] + 1j * m[:, 1]) * np.exp(2j * np.pi * cycles)
    return np.stack([transverse.real, transverse.imag, m[:, 2]], 1)


def moments(timeline):
    """Gradient moments between RF centres and up to the receiver, summed over the samples of the file."""
    starts = np.cumsum([0.0] + [i.duration_s for i in timeline.intervals])[:-1]
    time_s, area = [], []
    for start, interval in zip(starts, timeline.intervals, strict=True):
        n = interval.n_samples
        time_s.append(start + (np.arange(n) + 0.5) * interval.dwell_s)
        area.append(interval.gradient_hz_per_m.numpy() * interval.dwell_s)
    time_s, area = np.concatenate(time_s), np.concatenate(area)
    edges = [time for time, _ in timeline.pulses()] + [timeline.readouts()[0][0]]
    return [area[(time_s > a) & (time_s < b)].sum(0) for a, b in itertools.pairwise(edges)]


def signal(timeline, flips_rad, phases_rad, position_m):
    """Mean transverse magnetisation of spins at many positions, ideal pulses of any flip angle, real gradients."""
    m = bloch.along_z(len(position_m))
    for flip, phase, moment in zip(flips_rad, phases_rad, moments(timeline), strict=True):
        m = dephase(turn(m, flip, phase), position_m @ moment)
    return (m[:, 0] + 1j * m[:, 1]).mean()


def test_crushers_let_the_double_echo_alone_through(seq, kind):
    """Wrong flip angles make every unwanted pathway; what is left is sin(a) sin^2(b/2) sin^2(c/2), the double echo.

    With an editing pulse of flip e between, + coherence is kept with cos^2(e/2) and reversed with sin^2(e/2); the
    stimulated pathway through Mz is what the phase cycle takes away.
    """
    timeline = metabolite_shot(seq).timeline
    a, b, c, e = (math.radians(deg) for deg in (70, 140, 125, 50))
    position_m = np.random.default_rng(1).uniform(-0.01, 0.01, (200_000, 3)) + np.array([0.01, -0.005, 0.02])
    saturation = [0.0] * sum(i.use == "saturation" for _, i in timeline.pulses())
    flips = {"plain": [a, b, c], "edited": [a, b, e, c]}[kind]
    later_phases = {"plain": [0.0, 0.0], "edited": [0.0, np.pi / 2, 0.0]}[kind]
    cycle = []
    for phase in (0.0, np.pi):
        phases = [*saturation, phase + np.pi / 2, *later_phases]
        cycle.append(signal(timeline, [*saturation, *flips], phases, position_m) * np.exp(-1j * phase))
    whole = math.sin(a) * math.sin(b / 2) ** 2 * math.sin(c / 2) ** 2
    mean = abs(sum(cycle) / 2)
    if kind == "plain":
        assert mean == pytest.approx(whole, abs=0.01)
        assert abs(cycle[0]) == pytest.approx(whole, abs=0.01)
    else:
        # Along x when edited about y: what is reversed has the opposite sign of what is kept.
        assert mean == pytest.approx(whole * (math.cos(e / 2) ** 2 - math.sin(e / 2) ** 2), abs=0.01)
        assert abs(cycle[0] - cycle[1]) > 0.02


def test_without_crushers_the_test_above_would_see_other_pathways(seq, kind):
    """The oracle itself: with all gradients off, wrong flip angles leave far more than the double echo."""
    timeline = metabolite_shot(seq).timeline
    n = len(timeline.pulses())
    flips = [0.0] * (n - 3) + [math.radians(deg) for deg in (70, 140, 125)]
    at_isocentre = signal(timeline, flips, [np.pi / 2] * n, np.zeros((1, 3)))
    whole = math.prod((math.sin(flips[-3]), math.sin(flips[-2] / 2) ** 2, math.sin(flips[-1] / 2) ** 2))
    assert abs(abs(at_isocentre) - whole) > 0.05


# --- Water suppression -----------------------------------------------------------------------------------------------


# How much water is left: test_suppression.py.


@pytest.fixture(scope="module")
def wet(tmp_path_factory):
    """(centre in s after the excitation, interval) of the four suppression pulses of a read-back file."""
    seq = read_seq(write(tmp_path_factory.mktemp("wet") / "wet.seq", build()))
    pulses = metabolite_shot(seq).timeline.pulses()
    excitation_s = next(time for time, interval in pulses if interval.use == "excitation")
    return [(time - excitation_s, interval) for time, interval in pulses if interval.use == "saturation"]


def test_the_file_holds_the_flip_angles_of_the_preparation(wet):
    flips = [math.degrees(2 * math.pi * float(i.b1_hz.sum().abs()) * i.dwell_s) for _, i in wet]
    assert flips == pytest.approx(np.rad2deg(prepare(PARAMS, context(), 1e-3).flip_angle_rad), abs=0.01)
    assert np.diff([time for time, _ in wet] + [0.0]) == pytest.approx(0.06, abs=6e-6)


def test_wet_leaves_metabolites_from_2_to_3_3_ppm_alone(wet):
    ppm = np.linspace(2.0, 3.3, 27)
    offset_hz = (ppm - WATER_PPM) * F0_HZ * 1e-6
    kept = np.ones(ppm.size)
    for _, interval in wet:
        b1 = interval.b1_hz.numpy()[::10]
        assert np.array_equal(np.repeat(b1, 10), interval.b1_hz.numpy())
        m = bloch.play(
            bloch.along_z(ppm.size),
            b1,
            np.zeros((b1.size, 3)),
            10 * interval.dwell_s,
            np.zeros((ppm.size, 3)),
            offset_hz,
        )
        kept *= m[:, 2]
    assert kept.min() > 0.99


def test_water_references_carry_the_label_and_no_suppression(seq):
    found = shots(seq)
    suppressed = [shot for shot in found if shot.labels["REF"] == 0]
    reference = [shot for shot in found if shot.labels["REF"] == 1]
    assert [shot.labels["AVG"] for shot in suppressed] == [0, 1]
    assert [shot.labels["AVG"] for shot in reference] == [0, 1]
    assert all("saturation" not in [i.use for _, i in shot.timeline.pulses()] for shot in reference)
    # The spoilers stay, so that eddy currents are those of the suppressed shots.
    one, other = (moments_total(shot.timeline) for shot in (suppressed[1], reference[1]))
    assert one == pytest.approx(other, rel=1e-6)
    assert suppressed[1].timeline.duration_s == pytest.approx(reference[1].timeline.duration_s, abs=1e-9)


def moments_total(timeline):
    return [float(v) for v in sum((interval.moment_per_m for interval in timeline.intervals), torch.zeros(3))]


def test_the_receiver_follows_the_phase_of_the_excitation_and_adds_its_own(tmp_path):
    built = build(receiver_phase_rad=0.7, dummy_scans=0)
    found = [s for s in shots(read_seq(write(tmp_path / "phase.seq", built))) if s.labels["REF"] == 0]
    phases = [shot.readout.phase_rad for shot in found]
    assert np.exp(1j * np.array(phases)) == pytest.approx(np.exp(1j * np.array([0.7, 0.7 + np.pi])), abs=1e-5)
    one, other = (next(i for _, i in shot.timeline.pulses() if i.use == "excitation") for shot in found)
    assert torch.allclose(one.b1_hz, -other.b1_hz, atol=1e-2)
