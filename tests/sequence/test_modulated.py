"""Slice-selective pulses under a modulated gradient: where the slice is, what is played, what is refused."""

import math
from dataclasses import replace

import bloch
import numpy as np
import pytest
import torch
from press_files import F0_HZ, SCANNER

from seqgen.errors import HardwareLimitError, InputError
from seqgen.pipeline.build import compare_shots
from seqgen.pulse.adiabatic import goia_wurst, hyperbolic_secant
from seqgen.seqfile.blocks import Adc, Block
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.blocks import nonselective, selective, selective_modulated
from seqgen.simulate.pathways import moments_between_centres
from seqgen.simulate.slices import slice_of
from seqgen.verify.limits import check_limits

X = np.array([1.0, 0.0, 0.0])
OBLIQUE = np.array([2.0, -1.0, 2.0]) / 3
PULSE, SHAPE = goia_wurst(duration_s=4.5e-3, bandwidth_hz=20e3, b1_max_hz=900.0, dwell_s=1e-5, name="goia")


def modulated(pulse=PULSE, shape=SHAPE, **changes):
    values = {
        "bandwidth_hz": 20e3,
        "thickness_m": 0.02,
        "direction": X,
        "position_m": 0.0,
        "carrier_offset_hz": 0.0,
        "phase_rad": 0.0,
        "use": "refocusing",
        "scanner": SCANNER,
    }
    return selective_modulated(pulse, shape, **(values | changes))


def blocks_of(timed):
    """A pulse that excites, the block twice, a readout."""
    hard = goia_wurst(duration_s=1e-3, bandwidth_hz=5e3, b1_max_hz=100.0, dwell_s=1e-5, name="hard")[0]
    excite = nonselective(hard, phase_rad=0.0, carrier_offset_hz=0.0, use="excitation", scanner=SCANNER).block
    receive = Block(duration_s=0.06, adc=Adc(n_samples=256, dwell_s=2e-4, delay_s=1e-3), labels={"AVG": 0, "REF": 0})
    return (excite, timed.block, timed.block, receive)


def timeline_of(timed):
    return built_shots(blocks_of(timed), SCANNER, "built")[0].timeline


def interval_of(timed):
    """The pulse as it is played."""
    return next(interval for _, interval in timeline_of(timed).pulses() if interval.use == timed.block.rf.use)


@pytest.mark.parametrize("position_m", [0.0, 0.035, -0.06])
@pytest.mark.parametrize(("direction", "carrier_offset_hz"), [(X, 0.0), (OBLIQUE, -300.0)])
def test_the_slice_is_where_and_as_thick_as_asked_for(position_m, direction, carrier_offset_hz):
    timed = modulated(
        position_m=position_m, direction=direction, carrier_offset_hz=carrier_offset_hz, thickness_m=0.025
    )
    found = slice_of(interval_of(timed), offset_hz=carrier_offset_hz)
    assert found.direction.tolist() == pytest.approx(direction.tolist(), abs=1e-9)
    assert found.centre_m == pytest.approx(position_m, abs=5e-5)
    assert found.thickness_m == pytest.approx(0.025, rel=0.01)


def test_the_slice_of_the_bloch_equations_is_there_too():
    """Every sample of RF and gradient that is played, over positions: a wrong sign of the turn mirrors the slice."""
    interval = interval_of(modulated(position_m=0.035, carrier_offset_hz=-300.0))
    x_m = 0.035 + np.linspace(-0.013, 0.013, 105)
    positions = np.stack([x_m, 0 * x_m, 0 * x_m], 1)
    m = bloch.play(
        bloch.along_z(len(x_m)),
        interval.b1_hz.numpy(),
        interval.gradient_hz_per_m.numpy(),
        interval.dwell_s,
        positions,
        np.full(len(x_m), -300.0),
    )
    inverted = (1 - m[:, 2]) / 2
    middle, width = bloch.half_maximum(x_m, inverted)
    assert middle == pytest.approx(0.035, abs=5e-5)
    assert width == pytest.approx(0.02, rel=0.01)
    assert inverted[np.abs(x_m - 0.035) < 0.008].min() > 0.98


@pytest.mark.parametrize("position_m", [0.0, 0.035])
def test_the_phase_in_the_middle_is_the_one_asked_for(position_m):
    b1_hz = interval_of(modulated(position_m=position_m, phase_rad=0.7, carrier_offset_hz=-300.0)).b1_hz
    middle = b1_hz[len(b1_hz) // 2 - 1] + b1_hz[len(b1_hz) // 2]
    assert math.remainder(float(middle.angle()) - 0.7, 2 * math.pi) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("direction", [X, OBLIQUE])
def test_moments_about_the_centre_are_those_that_are_played(direction):
    timed = modulated(direction=direction, position_m=0.02)
    timeline = timeline_of(timed)
    rows = moments_between_centres(timeline).numpy()
    np.testing.assert_allclose(rows[0], timed.moment_before_per_m, rtol=0, atol=1e-9)
    np.testing.assert_allclose(rows[1], timed.moment_after_per_m + timed.moment_before_per_m, rtol=0, atol=1e-9)
    np.testing.assert_allclose(timed.moment_before_per_m, timed.moment_after_per_m, rtol=0.2)
    along = sum(axis.moment_per_m * e for axis, e in zip(timed.block.gradients, np.eye(3), strict=True) if axis)
    np.testing.assert_allclose(timed.moment_before_per_m + timed.moment_after_per_m, along, rtol=1e-4, atol=1e-9)
    assert timed.before_s + timed.after_s == pytest.approx(timed.block.duration_s)


@pytest.mark.parametrize("form", ["1.5.0", "1.4.1"])
def test_the_file_plays_it_within_all_limits(form, tmp_path):
    blocks = blocks_of(modulated(direction=OBLIQUE, position_m=0.03, carrier_offset_hz=-300.0, phase_rad=0.4))
    path = tmp_path / "goia.seq"
    definitions = {"Name": "goia", "FOV": (0.1, 0.1, 0.1)}
    write_seq(
        blocks,
        path,
        scanner=SCANNER,
        spectrometer_frequency_hz=F0_HZ,
        definitions=definitions,
        seq_format=form,
    )
    seq = read_seq(path)
    compare_shots(built_shots(blocks, SCANNER, "built"), shots(seq), form)
    assert [check.name for check in check_limits(seq, SCANNER, energy_max_hz2_s=None) if check.status == "failed"] == []
    assert slice_of(shots(seq)[0].timeline.pulses()[1][1], offset_hz=-300.0).centre_m == pytest.approx(0.03, abs=5e-5)


def test_a_constant_shape_is_the_pulse_under_a_trapezoid():
    """The modulated block of a shape of ones selects the slice that `selective` does, with the same moments."""
    pulse = hyperbolic_secant(duration_s=6e-3, bandwidth_hz=5e3, b1_max_hz=900.0, dwell_s=1e-5, name="hs")
    same = {"bandwidth_hz": 5e3, "thickness_m": 0.02, "direction": X, "position_m": 0.011}
    same |= {"carrier_offset_hz": -300.0, "phase_rad": 0.0, "use": "refocusing", "scanner": SCANNER}
    flat, trapezoid = selective_modulated(pulse, np.ones(600), **same), selective(pulse, **same)
    assert flat.reference_s == pytest.approx(trapezoid.reference_s)
    # Samples round the corners of the trapezoid: under RF, an eighth of a step of the ramp at either end.
    np.testing.assert_allclose(flat.moment_before_per_m, trapezoid.moment_before_per_m, rtol=1e-3)
    np.testing.assert_allclose(flat.moment_after_per_m, trapezoid.moment_after_per_m, rtol=1e-3)
    one, other = (slice_of(interval_of(timed), offset_hz=-300.0) for timed in (flat, trapezoid))
    assert one.centre_m == pytest.approx(other.centre_m, abs=2e-5)
    assert one.thickness_m == pytest.approx(other.thickness_m, rel=2e-3)


def test_a_coarser_pulse_and_another_raster_make_the_same_gradient():
    ge = replace(SCANNER, gradient_raster_s=4e-6, rf_raster_s=2e-6, block_raster_s=4e-6)
    coarse, shape = goia_wurst(duration_s=4.5e-3, bandwidth_hz=20e3, b1_max_hz=900.0, dwell_s=1.2e-5, name="goia")
    after_centre_s = np.linspace(-2.2e-3, 2.2e-3, 1000)
    one, other = (
        np.interp(after_centre_s + timed.reference_s, *timed.block.gradients[0].corners())
        for timed in (modulated(), modulated(coarse, shape, scanner=ge))
    )
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * one.max())


@pytest.mark.parametrize(
    ("limit", "smallest_mm"),
    [({"max_gradient_t_per_m": 0.02}, 20e3 / (0.02 * 42.577478518e6) * 1e3), ({"max_slew_t_per_m_per_s": 10.0}, None)],
    ids=["gradient", "slew"],
)
def test_a_slice_too_thin_names_the_smallest_voxel(limit, smallest_mm):
    weak = replace(SCANNER, **limit)
    with pytest.raises(HardwareLimitError, match="Enlarge the voxel") as refused:
        modulated(thickness_m=0.01, scanner=weak)
    stated_mm = float(str(refused.value).split("at least ")[1].split(" mm")[0])
    assert smallest_mm is None or stated_mm == pytest.approx(smallest_mm, rel=1e-3)
    made = modulated(thickness_m=stated_mm * 1.001e-3, scanner=weak).block.gradients[0]
    assert made.peak_hz_per_m <= weak.max_gradient_hz_per_m
    assert made.slew_hz_per_m_per_s <= weak.max_slew_hz_per_m_per_s * (1 + 1e-9)
    with pytest.raises(HardwareLimitError):
        modulated(thickness_m=stated_mm * 0.995e-3, scanner=weak)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"position_m": 0.4}, HardwareLimitError, "400 mm off centre with goia turns the RF by 0.4"),
        ({"scanner": replace(SCANNER, b1_max_t=2e-5)}, HardwareLimitError, "peaks at 900 Hz"),
        ({"shape": SHAPE[:-1]}, InputError, "for each of its 450 samples"),
        ({"shape": -SHAPE}, InputError, "none negative"),
        ({"shape": 0 * SHAPE}, InputError, "not all 0"),
        ({"shape": SHAPE * math.nan}, InputError, "finite"),
        (
            {"scanner": replace(SCANNER, gradient_raster_s=7e-6)},
            InputError,
            "not a multiple of the gradient raster 7 us",
        ),
    ],
)
def test_what_cannot_be_played_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        modulated(**changes)


def test_rf_of_an_isocentre_slice_is_the_pulse_itself():
    rf = modulated().block.rf
    torch.testing.assert_close(rf.b1_hz, PULSE.b1_hz.repeat_interleave(10), rtol=0, atol=1e-12)
    # 1 MHz/m at 200 T/m/s (8.5 GHz/m/s) is reached after 118 us, on the raster 120.
    assert rf.delay_s == pytest.approx(1.2e-4)
