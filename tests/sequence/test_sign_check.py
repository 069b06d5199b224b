"""The sign check as built: what its shots share, and in what alone they differ."""

import math
from dataclasses import replace

import numpy as np
import pytest
from press_files import F0_HZ, WATER_PPM, context

from seqgen import library
from seqgen.errors import HardwareLimitError, InputError
from seqgen.sequence.plugins import BuildContext, find_sequence
from seqgen.sequence.sign_kinds import PROJECTIONS, SLABS, Kind

SPEC = find_sequence("sign_check")


@pytest.fixture(scope="module")
def shots():
    """Blocks of the first shot of each kind, from the first to that of the readout."""
    found, pending = {}, []
    for block in SPEC.build(SPEC.Params(dummy_scans=0), context()).blocks:
        pending.append(block)
        if block.adc is not None:
            found.setdefault(Kind(block.labels["SET"]), pending)
            pending = []
    return found


def played(shot):
    """The RF of a shot in the frame of the spectrometer frequency."""
    rf = next(block.rf for block in shot if block.rf is not None)
    t_s = (np.arange(rf.b1_hz.shape[0]) + 0.5) * rf.raster_s - rf.centre_s
    return rf.b1_hz.numpy() * np.exp(1j * (rf.phase_rad + 2 * np.pi * rf.frequency_hz * t_s))


def test_every_kind_is_played_as_often_as_asked():
    built = SPEC.build(SPEC.Params(averages=4, dummy_scans=3), context())
    labels = [block.labels for block in built.blocks if block.adc is not None]
    assert len(labels) == 4 * len(Kind)
    assert [label["SET"] for label in labels] == [int(kind) for kind in Kind] * 4
    assert [label["AVG"] for label in labels] == sorted([0, 1, 2, 3] * len(Kind))
    assert sum(block.rf is not None for block in built.blocks) == len(labels) + 3


def test_readouts_follow_each_other_by_tr_whatever_is_played_before():
    built = SPEC.build(SPEC.Params(), context())
    ends_s = np.cumsum([block.duration_s for block in built.blocks])
    opens_s = [
        end_s - block.duration_s + block.adc.delay_s
        for end_s, block in zip(ends_s, built.blocks, strict=True)
        if block.adc is not None
    ]
    np.testing.assert_allclose(np.diff(opens_s), 2.0, atol=1e-9)


def test_the_waveform_takes_its_carrier_back(shots):
    """Net on water if both have one sense; twice the offset if not; and as a conjugating interpreter, exchanged."""
    reference = played(shots[Kind.REFERENCE])
    np.testing.assert_allclose(played(shots[Kind.COUNTER]), reference, atol=0.01 * abs(reference).max())
    t_s = (np.arange(reference.size) + 0.5 - reference.size / 2) * 1e-6
    twice = reference * np.exp(2j * np.pi * 600 * t_s)
    np.testing.assert_allclose(played(shots[Kind.ALONG]), twice, atol=0.01 * abs(reference).max())
    for kind, other in ((Kind.COUNTER, Kind.ALONG), (Kind.ALONG, Kind.COUNTER)):
        shape, others = (next(b.rf for b in shots[k] if b.rf).b1_hz.numpy() for k in (kind, other))
        np.testing.assert_allclose(shape.conj(), others, atol=1e-9)


def test_phases_and_frequencies_are_those_under_test(shots):
    reference = played(shots[Kind.REFERENCE])
    for kind in (Kind.WAVEFORM_PHASE, Kind.RF_PHASE):
        np.testing.assert_allclose(played(shots[kind]), 1j * reference, atol=1e-9)
    assert shots[Kind.ADC_PHASE][-1].adc.phase_rad - shots[Kind.REFERENCE][-1].adc.phase_rad == math.pi / 2
    assert shots[Kind.ADC_FREQUENCY][-1].adc.frequency_hz == 500
    line_hz = (1.3 - WATER_PPM) * 1e-6 * F0_HZ
    for kind, carrier_hz in ((Kind.LINE, line_hz), (Kind.MIRROR_LINE, -line_hz)):
        assert next(b.rf for b in shots[kind] if b.rf is not None).frequency_hz == pytest.approx(carrier_hz, rel=1e-5)


def test_gradients_echo_in_the_middle_of_the_readout(shots):
    for kind, shot in shots.items():
        rf_block = next(k for k, block in enumerate(shot) if block.rf is not None)
        adc = shot[-1].adc
        rf = shot[rf_block].rf
        for axis in range(3):
            middle_s = adc.delay_s + adc.n_samples * adc.dwell_s / 2
            moment = shot[rf_block + 1].gradients[axis].moment_per_m if shot[rf_block + 1].gradients[axis] else 0.0
            moment += _moment(shot[rf_block].gradients[axis], rf.delay_s + rf.centre_s, math.inf)
            moment += _moment(shot[-1].gradients[axis], 0.0, middle_s)
            assert moment == pytest.approx(0.0, abs=1e-4), (kind, axis)  # of 900 cycles/m; the sum below has steps
            read = shot[-1].gradients[axis]
            reads = {*(PROJECTIONS[axis : axis + 1]), *SLABS[axis]}
            assert (read is not None) == (kind in reads)
            if read is not None:
                assert read.amplitude_hz_per_m == pytest.approx(1 / (1e-4 * 0.3))


def _moment(trapezoid, start_s, end_s):
    if trapezoid is None:
        return 0.0
    corners_s = np.cumsum([0.0, trapezoid.rise_s, trapezoid.flat_s, trapezoid.fall_s])
    t_s = np.linspace(start_s, min(end_s, corners_s[-1]), 200_001)
    value = np.interp(t_s, corners_s, trapezoid.amplitude_hz_per_m * np.array([0.0, 1.0, 1.0, 0.0]))
    return float(np.trapezoid(value, t_s))


def test_slabs_lie_where_asked(shots):
    for axis, kinds in enumerate(SLABS):
        for kind, position_m in zip(kinds, (0.025, -0.025), strict=True):
            block = next(b for b in shots[kind] if b.rf is not None)
            assert block.rf.frequency_hz / block.gradients[axis].amplitude_hz_per_m == pytest.approx(position_m)
            assert block.gradients[axis].amplitude_hz_per_m > 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"averages": 3}, "averages must be a multiple of 2"),
        ({"rf_offset_hz": 150.0}, "rf_offset_hz must be at least 250 Hz"),
        ({"adc_offset_hz": 4000.0}, "at most 2500 Hz"),
        ({"slab_position_m": 0.2}, "slab_position_m must be below 0.12 m"),
        ({"adc_samples": 510}, "adc_samples must be a multiple of 4"),
        ({"tr_s": 0.05}, "tr_s must be at least"),
        ({"line_ppm": math.nan}, "line_ppm must be finite"),
        ({"slew_fraction": 0.0}, "slew_fraction must be above 0"),
    ],
)
def test_what_cannot_be_played_or_read_is_refused(changes, text):
    with pytest.raises(InputError, match=text):
        SPEC.build(replace(SPEC.Params(), **changes), context())


def test_too_small_a_field_of_view_names_the_gradient():
    with pytest.raises(HardwareLimitError, match=r"needs a read gradient .* Enlarge field_of_view_m"):
        SPEC.build(SPEC.Params(field_of_view_m=0.002, slab_position_m=0.0005, adc_dwell_s=1e-6), context())


@pytest.mark.parametrize("name", [n for n in library.scanner_names() if n != "marcos"])
def test_it_builds_on_every_scanner_with_its_defaults(name):
    scanner = library.scanner(name)
    place = BuildContext(
        scanner=scanner, spectrometer_frequency_hz=scanner.b0_nominal_t * 42.577e6, water_shift_ppm=WATER_PPM
    )
    assert SPEC.build(SPEC.Params(), place).blocks
