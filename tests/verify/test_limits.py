"""Every check of a file fails when its own limit is broken, by files that PyPulseq writes without seqgen's writer."""

import warnings
from dataclasses import replace

import numpy as np
import pypulseq as pp
import pytest
from press_files import F0_HZ, SCANNER, build, random_pulse, write

from seqgen.seqfile.reader import read_seq
from seqgen.verify.limits import NO_LICENCE, check_limits

GAMMA = 42.577478461e6
N_SAMPLES, DWELL_S = 256, 1e-4


def write_pulseq(
    path,
    *,
    rf_peak_hz=400.0,
    rf_delay_s=2e-4,
    rf_after_s=2e-4,
    adc_delay_s=1e-4,
    adc_after_s=1e-5,
    gradient_t_per_m=0.01,
    rise_s=2e-4,
    jump_t_per_m=0.0,
    samples=(N_SAMPLES, N_SAMPLES),
    dwell_s=DWELL_S,
    rasters=(1e-6, 1e-5, 1e-7, 1e-5),
    use="preparation",
    signature=True,
):
    """A pulse, a lobe and readouts, by PyPulseq alone, with limits that allow everything."""
    rf_s, gradient_s, adc_s, block_s = rasters
    system = pp.Opts(
        max_grad=1e3,
        grad_unit="mT/m",
        max_slew=1e5,
        slew_unit="T/m/s",
        rf_dead_time=0,
        rf_ringdown_time=0,
        adc_dead_time=0,
        adc_samples_divisor=1,
        adc_samples_limit=0,
        rf_raster_time=rf_s,
        grad_raster_time=gradient_s,
        adc_raster_time=adc_s,
        block_duration_raster=block_s,
    )
    sequence = pp.Sequence(system=system)
    n = round(1e-3 / rf_s)
    rf = pp.make_arbitrary_rf(
        signal=np.full(n, rf_peak_hz, dtype=complex),
        flip_angle=np.pi,
        dwell=rf_s,
        delay=rf_delay_s,
        no_signal_scaling=True,
        use=use,
        system=system,
    )
    sequence.add_block(rf, pp.make_delay(rf_delay_s + 1e-3 + rf_after_s))
    amplitude = gradient_t_per_m * GAMMA
    sequence.add_block(
        pp.make_trapezoid("y", amplitude=amplitude, rise_time=rise_s, flat_time=1e-3, fall_time=rise_s, system=system)
    )
    if jump_t_per_m:
        corners = np.array([jump_t_per_m * GAMMA, 0.0])
        sequence.add_block(
            pp.make_extended_trapezoid("z", amplitudes=corners, times=np.array([0, 1e-2]), system=system)
        )
    for n_samples in samples:
        whole_s = np.ceil((adc_delay_s + n_samples * dwell_s + adc_after_s) / 2e-5 - 1e-6) * 2e-5
        adc = pp.make_adc(num_samples=n_samples, dwell=dwell_s, delay=adc_delay_s, system=system)
        sequence.add_block(adc, pp.make_delay(whole_s))
        sequence.add_block(pp.make_delay(1e-3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequence.write(str(path), create_signature=signature)
    return path


def checks(tmp_path, *, scanner=SCANNER, energy_max_hz2_s=None, **changes):
    seq = read_seq(write_pulseq(tmp_path / "pulseq.seq", **changes))
    return {check.name: check for check in check_limits(seq, scanner, energy_max_hz2_s=energy_max_hz2_s)}


def failed(found):
    return {name for name, check in found.items() if check.status == "failed"}


def test_a_file_within_all_limits_fails_nothing(tmp_path):
    found = checks(tmp_path, energy_max_hz2_s=170.0)
    assert failed(found) == set()
    assert {name for name, check in found.items() if check.status == "not checked"} == {
        "SAR",
        "RF energy per TR, mean",
        "PNS",
        "B1+rms over the worst 10 s",
        "B1+rms over the worst 6 min",
    }


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"rf_peak_hz": 1000.0}, {"RF amplitude"}),
        ({"rf_peak_hz": 0.58e6}, {"RF amplitude"}),
        ({"gradient_t_per_m": 0.0801, "rise_s": 1e-3}, {"gradient amplitude"}),
        ({"gradient_t_per_m": -0.0801, "rise_s": 1e-3}, {"gradient amplitude"}),
        ({"gradient_t_per_m": 0.0405}, {"gradient slew rate"}),
        ({"jump_t_per_m": 0.0021}, {"gradient jump between blocks"}),
        ({"rf_delay_s": 9e-5}, {"time before RF in its block"}),
        ({"rf_after_s": 2e-5}, {"time after RF in its block"}),
        ({"adc_delay_s": 5e-6}, {"time before a readout in its block"}),
        ({"adc_after_s": 0.0}, {"time after a readout in its block"}),
        ({"samples": (254, 254)}, {"readout samples divisible by 4"}),
        ({"samples": (256, 128)}, {"readouts alike"}),
        ({"samples": (8196, 8196), "dwell_s": 1e-5}, {"readout samples"}),
        ({"samples": ()}, {"readout"}),
        ({"rasters": (2e-6, 1e-5, 1e-7, 1e-5)}, {"RF raster"}),
        ({"rasters": (1e-6, 2e-5, 1e-7, 1e-5)}, {"gradient raster"}),
        ({"rasters": (1e-6, 1e-5, 1e-7, 2e-5)}, {"block raster"}),
        ({"rasters": (1e-6, 1e-5, 5e-8, 1e-5), "dwell_s": 1.0005e-4}, {"ADC raster", "dwell time on the ADC raster"}),
    ],
)
def test_breaking_one_limit_fails_its_own_check(tmp_path, changes, names):
    assert failed(checks(tmp_path, **changes)) == names


@pytest.mark.parametrize(
    "changes",
    [
        {"rf_peak_hz": 979.0},
        {"gradient_t_per_m": 0.0799, "rise_s": 1e-3},
        {"gradient_t_per_m": 0.0399},
        {"jump_t_per_m": 0.0019},
        {"rf_delay_s": 1e-4, "rf_after_s": 3e-5},
        {"samples": (8192, 8192), "dwell_s": 1e-5},
    ],
)
def test_just_within_a_limit_passes(tmp_path, changes):
    assert failed(checks(tmp_path, **changes)) == set()


def test_the_energy_limit_holds_for_editing_pulses(tmp_path):
    """400 Hz for 1 ms have 160 Hz^2 s."""
    assert failed(checks(tmp_path, energy_max_hz2_s=159.9)) == {"editing pulse energy"}
    assert failed(checks(tmp_path, energy_max_hz2_s=159.9, use="excitation")) == set()
    assert checks(tmp_path, energy_max_hz2_s=200.0)["editing pulse energy"].value == pytest.approx(160, rel=1e-5)


def test_values_are_those_of_the_file(tmp_path):
    found = checks(tmp_path)
    assert found["RF amplitude"].value == pytest.approx(400 / GAMMA * 1e6, rel=1e-5)
    assert found["gradient amplitude"].value == pytest.approx(10.0, rel=1e-5)
    assert found["gradient slew rate"].value == pytest.approx(50.0, rel=1e-4)
    assert found["time before RF in its block"].value == pytest.approx(200, abs=1e-3)


def test_b1_rms_of_the_worst_ten_seconds(tmp_path):
    """PRESS with TR 2 s: five repetitions fall into 10 s, whatever its start; RF integrals by hand from the blocks."""
    built = build(random_pulse(), averages=8, dummy_scans=0, water_reference_averages=2)
    seq = read_seq(write(tmp_path / "press.seq", built))
    found = {check.name: check for check in check_limits(seq, SCANNER)}
    shot = sum(
        float((block.rf.b1_hz.abs() ** 2).sum()) * block.rf.raster_s
        for block in built.blocks[built.shot_starts[0] : built.shot_starts[1]]
        if block.rf is not None
    )
    expected_ut = np.sqrt(5 * shot / 10) / GAMMA * 1e6
    assert found["B1+rms over the worst 10 s"].value == pytest.approx(expected_ut, rel=1e-4)
    assert found["B1+rms over the worst 10 s"].status == "not checked"
    assert found["B1+rms over the worst 6 min"].value < expected_ut


def test_rf_samples_where_the_scanner_states_a_limit(tmp_path):
    """The pulse has 1000 samples."""
    assert "RF samples" not in checks(tmp_path)
    for most, names in ((1000, set()), (999, {"RF samples"})):
        assert failed(checks(tmp_path, scanner=replace(SCANNER, rf_samples_max=most))) == names


def test_total_duration_that_is_not_the_sum_of_blocks(tmp_path):
    """The reader refuses such a file; the check does not rely on that."""
    seq = read_seq(write_pulseq(tmp_path / "pulseq.seq"))
    wrong = replace(seq, definitions=seq.definitions | {"TotalDuration": "1.5"})
    silent = replace(seq, definitions={k: v for k, v in seq.definitions.items() if k != "TotalDuration"})
    for candidate, status in ((seq, "passed"), (wrong, "failed"), (silent, "not checked")):
        found = {check.name: check.status for check in check_limits(candidate, SCANNER)}
        assert found["TotalDuration"] == status


def test_a_file_without_signature_is_not_called_signed(tmp_path):
    assert checks(tmp_path)["signature"].status == "passed"
    assert checks(tmp_path, signature=False)["signature"].status == "not checked"


def test_sar_and_pns_are_never_called_passed(tmp_path):
    found = checks(tmp_path)
    for name in ("SAR", "PNS"):
        assert found[name].status == "not checked"
        assert found[name].note
    assert "licenses" in NO_LICENCE


def test_press_passes_at_the_scanner_it_was_built_for(tmp_path):
    seq = read_seq(write(tmp_path / "press.seq", build(random_pulse(), voxel_rotation_rad=(0.4, 0.3, -0.2))))
    found = check_limits(seq, SCANNER)
    assert [check.name for check in found if check.status == "failed"] == []
    weak = replace(SCANNER, max_slew_t_per_m_per_s=20.0, max_gradient_t_per_m=0.005)
    names = {check.name for check in check_limits(seq, weak) if check.status == "failed"}
    assert names == {"gradient amplitude", "gradient slew rate"}
    assert F0_HZ == 123.2e6
