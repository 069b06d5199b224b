"""What scanner and sequence leave to an editing pulse, by files that are built, written and read back."""

import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from press_files import PARAMS, SCANNER, build, context, write

from seqgen import library
from seqgen.design.limits import PulseLimits, SequenceLoad, pulse_limits, raster_problems, sequence_load
from seqgen.errors import HardwareLimitError, InputError
from seqgen.exposure import Exposure
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.plugins import find_sequence
from seqgen.verify.limits import check_exposure

GAMMA_HZ_PER_UT = 42.577478461


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


def test_bandwidth_is_refused_with_the_nearest(design_spec):
    with pytest.raises(InputError, match=r"bandwidth_max_hz must be at least ([\d.]+) Hz") as refused:
        pulse_limits(design_spec(bandwidth_max_hz=50.0), SCANNER)
    nearest = float(re.search(r"at least ([\d.]+) Hz", str(refused.value))[1])
    assert pulse_limits(design_spec(bandwidth_max_hz=nearest), SCANNER).bandwidth_max_hz == nearest


def test_the_protocol_of_these_tests_is_feasible():
    assert load_of().energy_hz2_s > 100
    assert PARAMS.tr_s == 2.0
