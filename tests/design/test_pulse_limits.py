"""What scanner and sequence leave to an editing pulse, by files that are built, written and read back."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from press_files import PARAMS, PRESS, SCANNER, build, context, write

from seqgen import library
from seqgen.design.limits import PulseLimits, SequenceLoad, pulse_limits, raster_problems, sequence_load
from seqgen.errors import HardwareLimitError, InputError
from seqgen.exposure import Exposure
from seqgen.pulse.parameterise import spline_waveform, step_waveform
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.plugins import DesignedShot, find_sequence
from seqgen.verify.limits import check_exposure

GAMMA_HZ_PER_UT = 42.577478461
LOSS = {"loss": {"crlb": 1.0}}


def edit(energy_hz2_s, n=1000, dwell_s=2e-5):
    """A rectangle of an energy."""
    b1 = torch.full((n,), math.sqrt(energy_hz2_s / (n * dwell_s)), dtype=torch.complex128)
    return RFPulse(b1_hz=b1, dwell_s=dwell_s, name="edit")


def load_of(tr_s=2.0, **changes):
    return sequence_load(build(edit(1.0), tr_s=tr_s, **changes), tr_s)


def exposed(b1_rms_ut=None, mode="normal", **coefficients):
    machine = replace(SCANNER, **coefficients)
    stated = None if b1_rms_ut is None else b1_rms_ut * 1e-6
    return library.exposure_limits(machine, Exposure(b1_rms_max_t=stated, operating_mode=mode))


def test_load_of_a_sequence():
    """By the blocks: the suppressed shot is the heavier one, and the editing pulse is not in it."""
    built = build(edit(7.0), averages=4, water_reference_averages=2, noise_scans=1)
    starts = [*built.shot_starts, len(built.blocks)]
    shots = [
        sum(
            float((b.rf.b1_hz.abs() ** 2).sum()) * b.rf.raster_s
            for b in built.blocks[first:last]
            if b.rf is not None and b.rf.use != "preparation"
        )
        for first, last in itertools.pairwise(starts)
    ]
    load = sequence_load(built, 2.0)
    assert load.energy_hz2_s == pytest.approx(max(shots), rel=1e-9)
    assert min(shots) == 0 < max(shots)
    assert (load.n_editing, load.tr_s) == (1, 2.0)
    assert load_of(te1_s=0.04, te2_s=0.12, editing_places=("te1", "te2")).n_editing == 2
    isis = find_sequence("isis_press")
    params = isis.Params(te1_s=0.0336, te2_s=0.012, tr_s=2.0, voxel_size_m=(0.02,) * 3, averages=4)
    loads = [sequence_load(isis.build(params, context(edit(energy))), 2.0, "excitation") for energy in (1.0, 90.0)]
    assert loads[0] == loads[1]
    assert loads[0].n_editing == 1
    with pytest.raises(InputError, match="plays no designed pulse"):
        sequence_load(build(None), 2.0)


def test_the_smallest_limit_binds_and_is_told(design_spec):
    spec, load = design_spec(), SequenceLoad(tr_s=2.0, energy_hz2_s=200.0, n_editing=2)
    assert pulse_limits(spec, SCANNER) == PulseLimits(
        b1_max_hz=300.0,
        b1_max_by="b1_max of the protocol",
        energy_max_hz2_s=1000.0,
        energy_max_by="energy_max of the protocol",
        bandwidth_max_hz=None,
    )
    weak = replace(SCANNER, b1_max_t=5e-6)
    assert pulse_limits(spec, weak).b1_max_hz == pytest.approx(5 * GAMMA_HZ_PER_UT)
    assert pulse_limits(spec, weak).b1_max_by == "scanner test scanner"
    # Five shots in 10 s: 5 (200 + 2 E) = 10 rms^2.
    got = pulse_limits(spec, SCANNER, exposed(0.5), load)
    assert got.energy_max_hz2_s == pytest.approx((10 * (0.5 * GAMMA_HZ_PER_UT) ** 2 / 5 - 200) / 2)
    assert got.energy_max_by == "B1+rms over 10 s"
    # 9 W/kg per uT^2: 180 shots in 6 min, 180 (200 + 2 E) = 360 mean.
    got = pulse_limits(spec, SCANNER, exposed(0.7, sar_head_w_per_kg_per_ut2=9.0), load)
    assert got.energy_max_hz2_s == pytest.approx((360 * 3.2 / 9 * GAMMA_HZ_PER_UT**2 / 180 - 200) / 2)
    assert got.energy_max_by == "SAR of the head over 360 s"
    # At TR 25 s one shot in 10 s, fifteen in 6 min: the short window binds.
    got = pulse_limits(
        design_spec(energy_max_hz2_s=1e4),
        SCANNER,
        exposed(None, sar_head_w_per_kg_per_ut2=35.0),
        replace(load, tr_s=25.0),
    )
    assert got.energy_max_hz2_s == pytest.approx((10 * 6.4 / 35 * GAMMA_HZ_PER_UT**2 - 200) / 2)
    assert got.energy_max_by == "SAR of the head over 10 s"


def test_amplitude_at_the_largest_scale(design_spec):
    spec = design_spec(b1_scales=(0.8, 1.0, 1.25), b1_max_at="largest_scale")
    assert pulse_limits(spec, SCANNER).b1_max_hz == 240.0
    assert pulse_limits(spec, SCANNER).b1_max_by == "b1_max at B1 scale 1.25 of the protocol"
    assert pulse_limits(design_spec(b1_scales=(0.8, 1.25)), SCANNER).b1_max_hz == 300.0


@pytest.mark.parametrize("tr_s", [1.3, 2.0, 3.1])
@pytest.mark.parametrize("te_s", [(0.041, 0.034), (0.08, 0.1)])
def test_a_file_with_the_energy_that_is_left_keeps_the_limit(tmp_path, design_spec, tr_s, te_s):
    """At TR 2 s it reaches the limit; where TR does not divide the window, suppression leaves it a little below."""
    exposure = exposed(0.65, sar_head_w_per_kg_per_ut2=4.0)
    limits = pulse_limits(design_spec(energy_max_hz2_s=1e6), SCANNER, exposure, load_of(tr_s))
    built = build(edit(limits.energy_max_hz2_s), tr_s=tr_s, te1_s=te_s[0], te2_s=te_s[1], averages=10)
    found = check_exposure(read_seq(write(tmp_path / "press.seq", built)), exposure)
    assert [row.name for row in found if row.status == "failed"] == []
    share = next(row.value / row.limit for row in found if row.name == "B1+rms over the worst 10 s")
    assert share > 0.9
    if tr_s == 2.0:
        assert share == pytest.approx(1, abs=1e-5)


def exact_rms_share(played, b1_rms_ut, window_s=10.0):
    """Largest B1+rms over any window as a part of the limit, by a running sum over all samples on a grid of 10 us."""
    step_s = 1e-5
    energy = np.zeros(round(played.total_duration_s / step_s))
    now_s = 0.0
    for block in played.blocks:
        if block.rf is not None:
            at = now_s + block.rf.delay_s + (np.arange(block.rf.shape_hz.size) + 0.5) * block.rf.dwell_s
            np.add.at(energy, (at / step_s).astype(int), np.abs(block.rf.shape_hz) ** 2 * block.rf.dwell_s)
        now_s += block.duration_s
    spent = np.concatenate([[0.0], np.cumsum(energy)])
    n = round(window_s / step_s)
    return math.sqrt((spent[n:] - spent[:-n]).max() / window_s) / GAMMA_HZ_PER_UT / b1_rms_ut


def shots_played(tmp_path, shots, averages):
    made = replace(context(), editing_shots=shots)
    built = PRESS.build(replace(PARAMS, averages=averages, dummy_scans=0), made)
    return read_seq(write(tmp_path / "press.seq", built))


def test_shots_with_echo_times_of_their_own_keep_the_limit(tmp_path, design_spec):
    """A window from the late pulses of a shot to the early ones of another, five TR later, holds six of them."""
    spec = design_spec(energy_max_hz2_s=1e6, shots=("edited", "edited"), own_echo_times=True, **LOSS)
    pulse = edit(pulse_limits(spec, SCANNER, exposed(0.65), load_of(2.0)).energy_max_hz2_s)
    times_s = ((0.1, 0.06), (0.041, 0.034))
    shots = tuple(DesignedShot(pulses={"echo_top": pulse}, te1_s=te1_s, te2_s=te2_s) for te1_s, te2_s in times_s)
    played = shots_played(tmp_path, shots, 8)
    assert 0.9 < exact_rms_share(played, 0.65) <= 1
    found = check_exposure(played, exposed(0.65))
    assert [row.name for row in found if row.status == "failed"] == []
    # With one shot less in the window the same energy would be above the limit.
    five = 10 * (0.65 * GAMMA_HZ_PER_UT) ** 2 / 5 - load_of(2.0).energy_hz2_s
    over = tuple(replace(shot, pulses={"echo_top": edit(five)}) for shot in shots)
    assert exact_rms_share(shots_played(tmp_path, over, 8), 0.65) > 1


def test_waveforms_that_are_early_and_late_keep_the_limit(tmp_path, design_spec):
    """Two shots of the same echo times, energy at the end of the first pulse and at the start of the second."""
    spec = design_spec(energy_max_hz2_s=1e6, shots=("edited", "edited"), **LOSS)
    energy = pulse_limits(spec, SCANNER, exposed(0.65), load_of(2.0)).energy_max_hz2_s
    early = torch.zeros(1000, dtype=torch.complex128)
    early[:400] = math.sqrt(energy / (400 * 2e-5))
    pulses = [RFPulse(b1_hz=b1, dwell_s=2e-5, name="edit") for b1 in (early.flip(0), early)]
    shots = tuple(DesignedShot(pulses={"echo_top": pulse}, te1_s=0.041, te2_s=0.034) for pulse in pulses)
    assert 0.9 < exact_rms_share(shots_played(tmp_path, shots, 8), 0.65) <= 1


@pytest.mark.parametrize(
    "shots", [{"shots": ("edited", "plain"), "own_echo_times": True}, {"shots": ("edited", "edited")}]
)
def test_the_nearest_tr_counts_the_shot_more(design_spec, shots):
    spec = design_spec(**shots, **LOSS)
    load = SequenceLoad(tr_s=1.0, energy_hz2_s=500.0, n_editing=1)
    with pytest.raises(HardwareLimitError, match=r"Raise tr_s to at least ([\d.]+) s") as refused:
        pulse_limits(spec, SCANNER, exposed(0.5), load)
    tr_s = float(re.search(r"at least ([\d.]+) s", str(refused.value))[1])
    # 10 s at 0.5 uT hold the energy of nine such shots: eight TR and the one more.
    assert tr_s == 1.25
    assert feasible(exposed(0.5), replace(load, tr_s=tr_s), spec)
    assert not feasible(exposed(0.5), replace(load, tr_s=tr_s - 1e-3), spec)
    # Shots that are alike, or leave the pulse out, need no more than five.
    alike = design_spec(shots=("edited", "plain"), **LOSS)
    assert pulse_limits(alike, SCANNER, exposed(0.5), load_of(2.0)) == pulse_limits(
        design_spec(), SCANNER, exposed(0.5), load_of(2.0)
    )


def feasible(exposure, load, spec):
    try:
        pulse_limits(spec, SCANNER, exposure, load)
    except HardwareLimitError:
        return False
    return True


@pytest.mark.parametrize("seed", range(12))
def test_the_nearest_tr_and_limit_are_feasible_and_the_next_are_not(design_spec, seed):
    random = np.random.default_rng(seed)
    spec = design_spec()
    load = SequenceLoad(tr_s=round(random.uniform(0.8, 2.5), 3), energy_hz2_s=random.uniform(300, 1500), n_editing=2)
    # So that the localisation alone is above it.
    mean_ut2 = load.energy_hz2_s / load.tr_s / GAMMA_HZ_PER_UT**2
    b1_rms_ut = math.sqrt(mean_ut2 * random.uniform(0.3, 0.95))
    coefficient = 3.2 / mean_ut2 * random.uniform(0.7, 2.5)
    exposure = exposed(b1_rms_ut, sar_head_w_per_kg_per_ut2=coefficient)
    with pytest.raises(HardwareLimitError, match="leaves no energy to the editing pulse") as refused:
        pulse_limits(spec, SCANNER, exposure, load)
    tr_s = re.search(r"Raise tr_s to at least ([\d.]+) s", str(refused.value))
    if tr_s is None:
        assert "No TR is long enough" in str(refused.value)
        assert not feasible(exposure, replace(load, tr_s=1e4), spec)
    else:
        assert feasible(exposure, replace(load, tr_s=float(tr_s[1])), spec)
        assert not feasible(exposure, replace(load, tr_s=float(tr_s[1]) - 1e-3), spec)
    needed_ut = re.search(r"it would take at least ([\d.]+) uT", str(refused.value))[1]
    last_digit = 10.0 ** -len(needed_ut.partition(".")[2])
    assert feasible(exposed(float(needed_ut)), load, spec)
    assert not feasible(exposed(float(needed_ut) - last_digit), load, spec)


def test_a_shot_above_the_limit_at_every_tr(design_spec):
    load = SequenceLoad(tr_s=2.0, energy_hz2_s=500.0, n_editing=1)
    with pytest.raises(HardwareLimitError, match=r"B1\+rms over 10 s is 0.3714 uT .* limit 0.1 uT .* No TR is long"):
        pulse_limits(design_spec(), SCANNER, exposed(0.1), load)


@pytest.mark.parametrize(
    ("changes", "scanner", "field", "nearest", "unit"),
    [
        ({"rf_dwell_s": 1.5e-6}, SCANNER, "rf_dwell_s", 2e-6, 1e-6),
        ({"rf_dwell_s": 3e-7}, SCANNER, "rf_dwell_s", 1e-6, 1e-6),
        ({"duration_s": 0.02001}, SCANNER, "duration_s", 0.02, 1e-3),
        ({"duration_s": 0.020013}, SCANNER, "duration_s", 0.02002, 1e-3),
        ({"knot_spacing_s": 1e-5}, SCANNER, "knot_spacing_s", 2e-5, 1e-6),
        # 1000 samples: 25, 40 and 50 divide them, not 35 or 34.
        ({"parameters": "steps", "knot_spacing_s": 7e-4}, SCANNER, "knot_spacing_s", 8e-4, 1e-6),
        ({"parameters": "steps", "knot_spacing_s": 6.1e-4}, SCANNER, "knot_spacing_s", 5e-4, 1e-6),
        ({"parameters": "steps", "knot_spacing_s": 5.1e-4}, SCANNER, "knot_spacing_s", 5e-4, 1e-6),
        ({"parameters": "steps", "knot_spacing_s": 1e-5}, SCANNER, "knot_spacing_s", 2e-5, 1e-6),
        ({"parameters": "steps", "knot_spacing_s": 4.9e-3}, SCANNER, "knot_spacing_s", 5e-3, 1e-6),
        ({"parameters": "steps", "duration_s": 0.02001}, SCANNER, "duration_s", 0.02, 1e-3),
        ({}, replace(SCANNER, rf_samples_max=8192), "duration_s", 0.00818, 1e-3),
        ({"rf_dwell_s": 1e-5}, replace(SCANNER, rf_samples_max=8192), "duration_s", 0.00819, 1e-3),
    ],
)
def test_rasters_are_refused_with_the_nearest_that_is_not(design_spec, changes, scanner, field, nearest, unit):
    spec = design_spec(**changes)
    ((named, message),) = raster_problems(spec, scanner)
    assert named == field
    assert re.search(rf"(Nearest: |at most ){nearest / unit:g} [um]s", message), message
    with pytest.raises(InputError, match=f"design: {field} must be"):
        pulse_limits(spec, scanner)
    assert raster_problems(replace(spec, **{field: nearest}), scanner) == []


def test_samples_one_more_than_the_nearest_are_refused(design_spec):
    machine = replace(SCANNER, rf_samples_max=8192)
    assert raster_problems(design_spec(duration_s=0.00818), machine) == []
    assert [field for field, _ in raster_problems(design_spec(duration_s=0.0082), machine)] == ["duration_s"]


@pytest.mark.parametrize(("parameters", "made"), [("spline", spline_waveform), ("steps", step_waveform)])
def test_bandwidth_is_refused_with_the_nearest(design_spec, parameters, made):
    """The nearest can be had, by the limits and by the waveforms of the search; 0.1 Hz less by neither."""
    with pytest.raises(InputError, match=r"bandwidth_max_hz must be at least ([\d.]+) Hz") as refused:
        pulse_limits(design_spec(bandwidth_max_hz=50.0, parameters=parameters), SCANNER)
    nearest = float(re.search(r"at least ([\d.]+) Hz", str(refused.value))[1])
    given = {"duration_s": 0.02, "dwell_s": 2e-5, "knot_spacing_s": 5e-4, "b1_max_hz": 300.0, "energy_max_hz2_s": 500.0}
    spec = design_spec(bandwidth_max_hz=nearest, parameters=parameters)
    assert pulse_limits(spec, SCANNER).bandwidth_max_hz == nearest
    assert made(**given, bandwidth_max_hz=nearest).band.shape[1] == 1
    for refuses in (
        lambda hz: pulse_limits(replace(spec, bandwidth_max_hz=hz), SCANNER),
        lambda hz: made(**given, bandwidth_max_hz=hz),
    ):
        with pytest.raises(InputError, match="bandwidth_max_hz must be at least"):
            refuses(nearest - 0.1)


def test_steps_can_have_a_band_that_splines_cannot(design_spec):
    """20 ms, steps of 0.5 ms: 114 Hz; splines vanish at the ends and need more."""
    assert pulse_limits(design_spec(bandwidth_max_hz=114.0, parameters="steps"), SCANNER).bandwidth_max_hz == 114.0
    with pytest.raises(InputError, match=r"bandwidth_max_hz must be at least 117\.6 Hz"):
        pulse_limits(design_spec(bandwidth_max_hz=114.0), SCANNER)


@pytest.mark.parametrize("seed", range(4))
def test_a_rounded_waveform_at_the_scanners_limit_can_be_played(design_spec, seed):
    """A saturated one, rounded as designs are: to 1e-4 Hz, which can raise its peak by 7e-5 Hz."""
    weak = replace(SCANNER, b1_max_t=5e-6)
    limits = pulse_limits(design_spec(energy_max_hz2_s=1e6), weak)
    shape = spline_waveform(
        duration_s=0.02, dwell_s=2e-5, knot_spacing_s=5e-4, b1_max_hz=limits.b1_max_hz, energy_max_hz2_s=1e6
    )
    random = torch.Generator().manual_seed(seed)
    b1 = shape.waveform_hz(1e6 * torch.randn(shape.n_parameters, generator=random, dtype=torch.float64))
    rounded = torch.view_as_complex(torch.round(torch.view_as_real(b1), decimals=4))
    assert 0.999 * weak.b1_max_hz < float(rounded.abs().max()) <= weak.b1_max_hz


def test_the_protocol_of_these_tests_is_feasible():
    assert load_of().energy_hz2_s > 100
    assert PARAMS.tr_s == 2.0
