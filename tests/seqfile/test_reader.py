"""The reader against PyPulseq's own events and waveforms, closed forms, and two files of a scanner."""

import math
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pypulseq as pp
import pytest
from press_files import build, random_pulse
from press_files import write as write_press

from seqgen.errors import InputError
from seqgen.seqfile.reader import SeqFile, Shot, read_seq, shots
from seqgen.seqfile.rf_use import USES, read_uses, stated_uses
from seqgen.timeline import Timeline

B0_T = 2.89
GAMMA = 42.577478461e6
SYSTEM = pp.Opts(
    max_grad=40,
    grad_unit="mT/m",
    max_slew=150,
    slew_unit="T/m/s",
    rf_dead_time=100e-6,
    rf_ringdown_time=30e-6,
    adc_dead_time=10e-6,
    gamma=GAMMA,
    B0=B0_T,
)
FORMATS = ("1.5.0", "1.4.1")


def write(seq: pp.Sequence, path: Path, seq_format: str) -> Path:
    seq.set_definition("B0", B0_T)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyPulseq's news about its 1.4.1 compatibility mode
        seq.write(str(path), v141_compat=seq_format == "1.4.1")
    return path


def smooth_pulse(n: int = 500) -> np.ndarray[Any, Any]:
    t = np.linspace(-1, 1, n)
    return 300.0 * np.exp(-4 * t**2) * np.exp(1j * (3 * t + 5 * t**2))


def events() -> SimpleNamespace:
    rf, gz, gzr = pp.make_sinc_pulse(
        flip_angle=math.pi / 2,
        duration=3e-3,
        slice_thickness=0.02,
        apodization=0.5,
        time_bw_product=4,
        delay=SYSTEM.rf_dead_time,
        freq_offset=-321.0,
        phase_offset=0.7,
        return_gz=True,
        system=SYSTEM,
        use="excitation",
    )
    edit = pp.make_arbitrary_rf(
        smooth_pulse(),
        flip_angle=1.0,
        no_signal_scaling=True,
        dwell=SYSTEM.rf_raster_time,
        freq_offset=123.5,
        phase_offset=-1.1,
        delay=300e-6,
        system=SYSTEM,
        use="preparation",
    )
    block = pp.make_block_pulse(flip_angle=math.pi, duration=1e-3, delay=1e-4, system=SYSTEM, use="refocusing")
    crusher = pp.make_trapezoid("x", area=700.0, duration=2e-3, system=SYSTEM)
    sampled = pp.make_arbitrary_grad(
        "y", 2e5 * np.sin(np.linspace(0.02, math.pi - 0.02, 40)), first=0.0, last=0.0, system=SYSTEM
    )
    corners = pp.make_extended_trapezoid(
        "z", np.array([0.0, 3e5, 3e5, -1e5, 0.0]), times=np.array([0, 2e-4, 9e-4, 1.2e-3, 1.5e-3]), system=SYSTEM
    )
    adc = pp.make_adc(1024, dwell=2.5e-4, delay=40e-6, freq_offset=17.0, phase_offset=0.3, system=SYSTEM)
    return SimpleNamespace(
        rf=rf, gz=gz, gzr=gzr, edit=edit, block=block, crusher=crusher, sampled=sampled, corners=corners, adc=adc
    )


def full_sequence(repetitions: int = 2) -> pp.Sequence:
    e = events()
    seq = pp.Sequence(SYSTEM)
    for k in range(repetitions):
        seq.add_block(e.rf, e.gz)
        seq.add_block(e.gzr, e.crusher)
        seq.add_block(e.edit)
        seq.add_block(e.sampled, e.corners)
        seq.add_block(pp.make_delay(7.31e-3))
        seq.add_block(e.block)
        seq.add_block(e.adc, pp.make_label("AVG", "SET", k), pp.make_label("REF", "SET", int(k == 1)))
        seq.add_block(pp.make_delay(0.2))
    seq.set_definition("Name", "everything")
    return seq


@pytest.fixture(scope="module", params=FORMATS)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[pp.Sequence, SeqFile, tuple[Shot, ...]]:
    seq = full_sequence()
    path = write(seq, tmp_path_factory.mktemp("seq") / "everything.seq", request.param)
    read = read_seq(path)
    return seq, read, shots(read)


def sampled_timeline(timeline: Timeline, start_s: float) -> tuple[Any, Any, Any]:
    """Absolute sample centres, b1 and gradients of a timeline."""
    times, b1, gradients = [], [], []
    for begin, interval in zip(timeline.start_s, timeline.intervals, strict=True):
        times.append(start_s + begin + (np.arange(interval.n_samples) + 0.5) * interval.dwell_s)
        b1.append(interval.b1_hz.numpy())
        gradients.append(interval.gradient_hz_per_m.numpy())
    return np.concatenate(times), np.concatenate(b1), np.concatenate(gradients)


def moments(timeline: Timeline) -> np.ndarray[Any, Any]:
    return np.sum([interval.moment_per_m.numpy() for interval in timeline.intervals], axis=0)


def test_duration_version_and_signature(pair: Any) -> None:
    seq, read, _ = pair
    assert read.total_duration_s == pytest.approx(seq.duration()[0], abs=1e-12)
    assert read.n_blocks == len(seq.block_events)
    assert read.version in ((1, 5, 0), (1, 4, 1))
    assert read.signature == seq.signature_value
    assert read.definitions["Name"] == "everything"


def test_gradients_and_rf_equal_those_of_pypulseq(pair: Any) -> None:
    """`waveforms_and_times` of PyPulseq, linearly interpolated at the sample centres, is the oracle."""
    seq, _, found = pair
    waves = seq.waveforms_and_times(append_RF=True)[0]
    for shot in found:
        times, b1, gradients = sampled_timeline(shot.timeline, shot.start_s)
        short = np.diff(times, prepend=shot.start_s) < 2e-3  # not the single samples that stand for long delays
        for axis in range(3):
            expected = np.interp(times, waves[axis][0].real, waves[axis][1].real, left=0, right=0)
            np.testing.assert_allclose(gradients[short, axis], expected[short], atol=1.0)  # of some 1e5 Hz/m
        playing = abs(b1) > 0
        rf_time, rf_value = waves[3][0].real, waves[3][1]
        at = np.interp(times[playing], rf_time, rf_value.real) + 1j * np.interp(times[playing], rf_time, rf_value.imag)
        inner = np.array([abs(rf_time - t).min() < 1e-9 for t in times[playing]])  # where PyPulseq has a sample too
        assert inner.sum() > 3400
        np.testing.assert_allclose(b1[playing][inner], at[inner], atol=1e-3)  # Hz; the file keeps 6 to 7 digits


def test_moments_are_those_of_the_areas(pair: Any) -> None:
    """Trapezoid amplitude (flat + rise/2 + fall/2), polygon, and sum times raster of sampled gradients."""
    _, _, found = pair
    e = events()
    area = lambda g: g.amplitude * (g.flat_time + g.rise_time / 2 + g.fall_time / 2)  # noqa: E731
    polygon = np.trapezoid(e.corners.waveform, e.corners.tt)
    sampled = e.sampled.waveform.sum() * 1e-5
    expected = [area(e.crusher), sampled, area(e.gz) + area(e.gzr) + polygon]
    np.testing.assert_allclose(moments(found[0].timeline), expected, rtol=2e-6)
    np.testing.assert_allclose(moments(found[1].timeline), expected, rtol=2e-6)


def test_flip_angles_centres_and_uses(pair: Any) -> None:
    _, read, found = pair
    pulse = smooth_pulse()
    flips = [math.pi / 2, 2 * math.pi * abs(pulse.sum()) * 1e-6, math.pi]
    np.testing.assert_allclose(found[0].flip_angle_rad, flips, rtol=1e-5)
    times = [t for t, _ in found[0].timeline.pulses()]
    uses = [interval.use for _, interval in found[0].timeline.pulses()]
    e = events()
    starts = np.cumsum([0, *(pp.calc_duration(*b) for b in ((e.rf, e.gz), (e.gzr, e.crusher), (e.edit,)))])
    after = starts[3] + pp.calc_duration(e.sampled, e.corners) + 7.31e-3
    centre = [pp.calc_rf_center(r)[0] + r.delay for r in (e.rf, e.edit, e.block)]
    expected = [starts[0] + centre[0], starts[2] + centre[1], after + centre[2]]
    np.testing.assert_allclose(times, expected, atol=1e-9)
    if read.version == (1, 5, 0):
        assert uses == ["excitation", "preparation", "refocusing"]
    else:  # inferred: the edit pulse turns by less than 135 degrees, without a gradient
        assert uses == ["excitation", "preparation", "refocusing"]


def test_readout_and_labels(pair: Any) -> None:
    seq, _, found = pair
    t_adc = seq.waveforms_and_times()[3]
    assert [shot.labels for shot in found] == [{"AVG": 0, "REF": 0}, {"AVG": 1, "REF": 1}]
    for k, shot in enumerate(found):
        opens, receiver = shot.timeline.readouts()[0]
        samples = shot.start_s + opens + (np.arange(receiver.n_samples) + 0.5) * receiver.dwell_s
        np.testing.assert_allclose(samples, t_adc[k * 1024 : (k + 1) * 1024], atol=1e-9)
        assert (receiver.frequency_hz, receiver.phase_rad) == (17.0, 0.3)
        assert receiver.labels == {}


def test_delays_are_single_samples(pair: Any) -> None:
    _, _, found = pair
    assert max(len(shot.timeline.intervals) for shot in found) < 40
    delay = [i for i in found[1].timeline.intervals if i.duration_s == pytest.approx(0.2)]
    assert len(delay) == 1
    assert delay[0].n_samples == 1


def test_ppm_offsets_follow_the_field_of_the_file(tmp_path: Path) -> None:
    rf = pp.make_block_pulse(
        math.pi / 2,
        duration=1e-3,
        delay=1e-4,
        freq_ppm=-3.5,
        phase_ppm=0.01,
        freq_offset=10.0,
        system=SYSTEM,
        use="saturation",
    )
    seq = pp.Sequence(SYSTEM)
    seq.add_block(rf)
    seq.add_block(pp.make_adc(64, dwell=1e-4, delay=1e-5, freq_ppm=2.0, system=SYSTEM))
    path = write(seq, tmp_path / "ppm.seq", "1.5.0")
    read = read_seq(path)
    pulse, adc = read.blocks[0].rf, read.blocks[1].adc
    assert pulse is not None
    assert adc is not None
    mhz = GAMMA * B0_T * 1e-6
    assert pulse.frequency_hz == pytest.approx(10.0 - 3.5 * mhz)
    assert pulse.phase_rad == pytest.approx(0.01 * mhz)
    assert adc.frequency_hz == pytest.approx(2.0 * mhz)
    b1 = shots(read)[0].timeline.pulses()[0][1].b1_hz.numpy()
    turns = np.diff(np.unwrap(np.angle(b1))) / (2 * math.pi * 1e-6)
    np.testing.assert_allclose(turns, 10.0 - 3.5 * mhz, atol=1e-5)  # positive offsets turn counter-clockwise
    folded = read_seq(write(seq, tmp_path / "hz.seq", "1.4.1")).blocks[0].rf
    assert folded is not None
    assert folded.frequency_hz == pytest.approx(10.0 - 3.5 * mhz, abs=1e-3)
    text = path.read_text().split("\n[SIGNATURE]")[0]
    (tmp_path / "nofield.seq").write_text("\n".join(line for line in text.splitlines() if "B0" not in line) + "\n")
    with pytest.raises(InputError, match="no field"):
        read_seq(tmp_path / "nofield.seq")


def test_coarse_dwell_is_interpolated_without_losing_its_ends(tmp_path: Path) -> None:
    """A time shape of 4 us samples: flip angle sum(samples) dwell, duration n dwell."""
    shape = np.linspace(100, 200, 50) + 0j
    rf = pp.make_arbitrary_rf(
        shape, flip_angle=1.0, no_signal_scaling=True, dwell=4e-6, delay=1e-4, system=SYSTEM, use="excitation"
    )
    seq = pp.Sequence(SYSTEM)
    seq.add_block(rf)
    seq.add_block(pp.make_adc(64, dwell=1e-4, delay=1e-5, system=SYSTEM))
    pulse = read_seq(write(seq, tmp_path / "coarse.seq", "1.5.0")).blocks[0].rf
    assert pulse is not None
    assert pulse.duration_s == pytest.approx(200e-6)
    assert pulse.flip_angle_rad == pytest.approx(2 * math.pi * shape.sum().real * 4e-6, rel=1e-5)


def test_gradients_under_pulse_and_readout(tmp_path: Path) -> None:
    """A ramp crosses pulse and readout: moments stay exact, and the readout lies within one interval."""
    ramp = pp.make_extended_trapezoid("y", np.array([0.0, 2e5, 0.0]), times=np.array([0, 2e-3, 8e-3]), system=SYSTEM)
    rf = pp.make_block_pulse(0.5, duration=1e-3, delay=150e-6, system=SYSTEM, use="excitation")
    spoil = pp.make_extended_trapezoid("x", np.array([0.0, 1e5, 1e5, 0.0]), times=np.array([0, 3e-3, 20e-3, 22e-3]))
    adc = pp.make_adc(100, dwell=1.5e-4, delay=1e-3, system=SYSTEM)
    seq = pp.Sequence(SYSTEM)
    seq.add_block(rf, ramp)
    seq.add_block(adc, spoil)
    for seq_format in FORMATS:
        (shot,) = shots(read_seq(write(seq, tmp_path / "ramps.seq", seq_format)))
        np.testing.assert_allclose(moments(shot.timeline), [1e5 * 19.5e-3, 2e5 * 4e-3, 0], rtol=1e-9)
        held = [interval for interval in shot.timeline.intervals if interval.receiver is not None]
        assert len(held) == 1
        assert held[0].receiver is not None
        assert held[0].receiver.delay_s == 0.0
        assert held[0].duration_s == pytest.approx(15e-3)
        assert held[0].moment_per_m[0] == pytest.approx(1e5 * (15e-3 - 2e-3 * (2 / 3) / 2), rel=1e-9)


def test_equal_shots_share_one_timeline(tmp_path: Path) -> None:
    path = write(full_sequence(130), tmp_path / "many.seq", "1.5.0")
    read = read_seq(path)
    begin = time.perf_counter()
    found = shots(read)
    assert time.perf_counter() - begin < 1.0
    assert len(found) == 130
    assert len({shot.identity for shot in found}) == 2  # the first has no recovery delay before it
    assert all(shot.timeline is found[1].timeline for shot in found[2:])
    assert found[0].timeline is not found[1].timeline
    gaps = np.diff([shot.start_s for shot in found[1:]])
    np.testing.assert_allclose(gaps, found[1].timeline.duration_s, atol=1e-9)


def test_rf_while_the_receiver_is_open_is_refused(tmp_path: Path) -> None:
    seq = pp.Sequence(SYSTEM)
    rf = pp.make_block_pulse(0.5, duration=1e-3, delay=2e-3, system=SYSTEM, use="excitation")
    seq.add_block(rf, pp.make_adc(100, dwell=1e-4, delay=1e-4, system=SYSTEM))
    path = write(seq, tmp_path / "both.seq", "1.5.0")
    with pytest.raises(InputError, match=r"RF pulse 1 while readout 1 is open"):
        shots(read_seq(path))


@pytest.mark.parametrize(
    ("name", "signature", "duration_s", "flips_deg"),
    [
        ("06_PRESS_center", "e505370dd8e14d125ee70fdf10dd441b", 0.40002, [90, 180, 180]),
        ("02_FID_MFA", "7e2b89c1ae6eca64fc825f6ccdc035ef", 45.0, [20]),
    ],
)
def test_files_of_a_scanner(shared: Path, name: str, signature: str, duration_s: float, flips_deg: list[float]) -> None:
    read = read_seq(shared / f"data/raw/1_pulseq_press_center/{name}.seq")
    assert read.signature == signature
    assert read.total_duration_s == duration_s
    found = shots(read)
    np.testing.assert_allclose(np.degrees(found[0].flip_angle_rad), flips_deg, atol=0.01)
    if name == "02_FID_MFA":
        # two corners 1000 us apart mean a constant pulse: amplitude times 1 ms turns
        amplitudes = [55.5556 * k for k in range(1, 10)]
        np.testing.assert_allclose(
            [f for s in found for f in s.flip_angle_rad], 2e-3 * math.pi * np.array(amplitudes), rtol=1e-5
        )
        assert [shot.start_s for shot in found] == pytest.approx([5.0 * k for k in range(9)])
    else:
        pulses = [t for t, _ in found[0].timeline.pulses()]
        np.testing.assert_allclose(pulses, [1.6e-3, 6.73e-3, 66.72e-3], atol=1e-12)
        assert [interval.use for _, interval in found[0].timeline.pulses()] == ["excitation"] + ["refocusing"] * 2
        # crushers: extended trapezoids of the file integrated by hand, Hz/m times s
        z1 = 638298 * np.trapezoid([0, 1, 1, 0, 0, 1, 1, 0], np.array([0, 15, 94, 109, 409, 424, 503, 518]) * 1e-5)
        z3 = 637487 * np.trapezoid(
            [0, 1, 1, 0.104577347, 0.104577347, 1, 1, 0], np.array([0, 16, 314, 328, 628, 642, 940, 956]) * 1e-5
        )
        assert moments(found[0].timeline)[2] == pytest.approx(z1 + z3, rel=1e-6)


@pytest.mark.parametrize(
    ("version", "row", "expected"),
    [
        # samples 10, 20, 30 at 5, 15, 25 us; a 1.4 file continues the line to both ends, a 1.5 file states them
        ("4", "1 30 1 0 0", {0.0: 5.0, 2e-6: 7.0, 5e-6: 10.0, 12e-6: 17.0, 25e-6: 30.0, 30e-6: 35.0, 31e-6: 0.0}),
        ("5", "1 30 0 20 1 0 0", {0.0: 0.0, 2e-6: 4.0, 5e-6: 10.0, 12e-6: 17.0, 25e-6: 30.0, 29e-6: 22.0}),
        # double sampling: 10, 20, 30 at 5, 10, 15 us
        ("5", "1 30 0 20 1 -1 0", {0.0: 0.0, 5e-6: 10.0, 7e-6: 14.0, 15e-6: 30.0, 20e-6: 20.0, 21e-6: 0.0}),
    ],
)
def test_ends_of_sampled_gradients(tmp_path: Path, version: str, row: str, expected: dict[float, float]) -> None:
    path = tmp_path / "sampled.seq"
    path.write_text(
        f"[VERSION]\nmajor 1\nminor {version}\nrevision 0\n[DEFINITIONS]\nAdcRasterTime 1e-7\n"
        "BlockDurationRaster 1e-5\nGradientRasterTime 1e-5\nRadiofrequencyRasterTime 1e-6\n[BLOCKS]\n1 10 0 1 0 0 0 0\n"
        f"[GRADIENTS]\n{row}\n[SHAPES]\nshape_id 1\nnum_samples 3\n{1 / 3:.9f}\n{2 / 3:.9f}\n1\n"
    )
    gradient = read_seq(path).blocks[0].gradients[0]
    assert gradient is not None
    np.testing.assert_allclose(gradient.at(np.array(list(expected))), list(expected.values()), atol=1e-5)


# --- What pulses are for, in 1.4 files -----------------------------------------------------------------------------


def test_a_file_of_version_1_4_keeps_what_every_pulse_is_for(tmp_path):
    """WET, excitation, refocusing and the 180-degree-like editing pulse: none has to be guessed."""

    built = build(random_pulse(), averages=4)
    wanted = [block.rf.use for block in built.blocks if block.rf is not None]
    path = write_press(tmp_path / "press.seq", built, "1.4.1")
    read = [block.rf.use for block in read_seq(path).blocks if block.rf is not None]
    assert read == wanted
    assert set(wanted) == {"saturation", "excitation", "refocusing", "preparation"}
    assert max(map(len, path.read_text().splitlines())) <= 255


def test_uses_of_many_pulses_are_spread_over_lines_that_interpreters_read():
    letters = {number: "serp"[number * number % 4] for number in range(1, 2000)}
    stated = stated_uses(letters)
    assert max(map(len, stated.values())) <= 200
    assert len(stated) > 1
    assert read_uses(stated) == {number: USES[letter] for number, letter in letters.items()}


@pytest.mark.parametrize("value", ["", "e", "e:", "e:x", "z:1", "e:1-x", "e:-1", ":3"])
def test_malformed_uses_state_nothing(value):
    assert read_uses({"seqgen_rf_use_1": value}) == {}
