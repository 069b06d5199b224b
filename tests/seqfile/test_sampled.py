"""Sampled gradients: built, written, read back and played alike."""

import math
from dataclasses import replace

import numpy as np
import pypulseq as pp
import pytest
import torch
from press_files import F0_HZ, SCANNER

from seqgen.errors import HardwareLimitError, InputError
from seqgen.pipeline.build import compare_shots
from seqgen.seqfile.blocks import Adc, Block, Rf, SampledGradient, Trapezoid
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.seqfile.writer import pulseq_system, write_seq

FORMATS = ("1.5.0", "1.4.1")
RASTER_S = 1e-5


def hump(n=400, peak_hz_per_m=6e5, ramp=20, **changes):
    """Straight ramps about a smooth top that is not symmetric in time: a reversed or negated one shows."""
    t = (np.arange(n) + 0.5) / n
    top = 1 - 0.5 * np.sin(np.pi * t) ** 2 - 0.2 * np.sin(2 * np.pi * t)
    up = (np.arange(ramp) + 0.5) / ramp
    samples = peak_hz_per_m * np.concatenate([top[0] * up, top, top[-1] * up[::-1]])
    return SampledGradient(**({"sample_hz_per_m": samples, "raster_s": RASTER_S} | changes))


def rf(n=4000, use="refocusing"):
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5
    b1_hz = 500 * torch.cos(math.pi * t) * torch.exp(40j * t**2)
    return Rf(b1_hz=b1_hz, raster_s=1e-6, delay_s=2e-4, use=use, frequency_hz=-300.0, phase_rad=0.4, name="sweep")


def blocks_of(gradient):
    """Excitation, a refocusing pulse under the gradient along two axes, a gradient alone, readout; twice."""
    other = replace(
        gradient,
        sample_hz_per_m=-0.5 * gradient.sample_hz_per_m,
        first_hz_per_m=-0.5 * gradient.first_hz_per_m,
        last_hz_per_m=-0.5 * gradient.last_hz_per_m,
    )
    lobe = Trapezoid(amplitude_hz_per_m=2e5, rise_s=1e-4, flat_s=1e-3, fall_s=1e-4)
    excite = Block(duration_s=5e-3, rf=replace(rf(use="excitation"), b1_hz=0.5 * rf().b1_hz))
    refocus = Block(duration_s=5e-3, rf=rf(), gradients=(gradient, None, other))
    spoil = Block(duration_s=6e-3, gradients=(None, replace(gradient, delay_s=3e-4), lobe))
    receive = Block(duration_s=0.06, adc=Adc(n_samples=256, dwell_s=2e-4, delay_s=1e-3), labels={"AVG": 0, "REF": 0})
    return (excite, refocus, spoil, receive, excite, refocus, spoil, replace(receive, labels={"AVG": 1, "REF": 0}))


def write(path, blocks, form, scanner=SCANNER):
    write_seq(
        blocks,
        path,
        scanner=scanner,
        spectrometer_frequency_hz=F0_HZ,
        definitions={"Name": "sampled", "FOV": (0.1, 0.1, 0.1)},
        seq_format=form,
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    return {form: write(folder / f"{form}.seq", blocks_of(hump()), form) for form in FORMATS}


@pytest.mark.parametrize("form", FORMATS)
def test_built_and_read_back_play_the_same(files, form):
    wanted = built_shots(blocks_of(hump()), SCANNER, "built")
    got = shots(read_seq(files[form]))
    compare_shots(wanted, got, form)
    for a, b in zip(wanted[0].timeline.intervals, got[0].timeline.intervals, strict=True):
        assert a.use == b.use
        torch.testing.assert_close(a.gradient_hz_per_m, b.gradient_hz_per_m, rtol=0, atol=1.0)


@pytest.mark.parametrize("form", FORMATS)
def test_the_file_holds_the_samples_ends_and_delay(files, form):
    refocus, spoil = read_seq(files[form]).blocks[1:3]
    gradient = hump()
    for found, factor, delay_s in (
        (refocus.gradients[0], 1, 0),
        (refocus.gradients[2], -0.5, 0),
        (spoil.gradients[1], 1, 3e-4),
    ):
        assert found.kind == "sampled"
        assert found.delay_s == pytest.approx(delay_s, abs=1e-12)
        np.testing.assert_allclose(found.value_hz_per_m[1:-1], factor * gradient.sample_hz_per_m, atol=1.0)
        np.testing.assert_allclose(found.value_hz_per_m[[0, -1]], 0, atol=1.0)
        np.testing.assert_allclose(found.time_s[1:-1], (np.arange(440) + 0.5) * RASTER_S, atol=1e-12)


@pytest.mark.parametrize("form", FORMATS)
def test_pypulseq_reads_it_clean_with_the_same_area(files, form):
    sequence = pp.Sequence(system=pulseq_system(SCANNER, F0_HZ))
    sequence.read(str(files[form]))
    clean, problems = sequence.check_timing()
    assert clean, problems
    found = sequence.get_block(2)
    assert float(found.gx.waveform.sum()) * RASTER_S == pytest.approx(hump().moment_per_m, rel=1e-5)
    assert float(found.gz.waveform.sum()) * RASTER_S == pytest.approx(-0.5 * hump().moment_per_m, rel=1e-5)


def test_the_timeline_has_the_moment_of_the_samples():
    """Gradient alone: sum times raster; under RF: the straight lines between samples."""
    timeline = built_shots(blocks_of(hump()), SCANNER, "built")[0].timeline
    alone = sum(i.moment_per_m for i in timeline.intervals[5:])
    assert float(alone[1]) == pytest.approx(hump().moment_per_m, rel=1e-12)
    time_s, value = hump().corners()
    under = next(i for i in timeline.intervals if i.use == "refocusing")
    fine = np.linspace(2e-4, 4.2e-3, 400_001)
    wanted = np.interp(0.5 * (fine[1:] + fine[:-1]), time_s, value).sum() * (fine[1] - fine[0])
    assert float(under.moment_per_m[0]) == pytest.approx(wanted, rel=1e-9)


def test_writing_twice_gives_the_same_bytes_and_one_event_per_gradient(files, tmp_path):
    again = write(tmp_path / "again.seq", blocks_of(hump()), "1.5.0")
    assert again.read_bytes() == files["1.5.0"].read_bytes()
    rows = again.read_text().split("[GRADIENTS]\n")[1].split("\n\n")[0].splitlines()
    assert len([row for row in rows if row.strip() and not row.startswith("#")]) == 3


def test_peak_slew_and_corners():
    gradient = SampledGradient(
        sample_hz_per_m=np.array([1e4, -3e4, 0.0]), raster_s=1e-5, first_hz_per_m=2e4, last_hz_per_m=-5e3, delay_s=1e-4
    )
    time_s, value = gradient.corners()
    np.testing.assert_allclose(time_s, [1e-4, 1.05e-4, 1.15e-4, 1.25e-4, 1.3e-4], atol=1e-15)
    np.testing.assert_array_equal(value, [2e4, 1e4, -3e4, 0, -5e3])
    assert gradient.peak_hz_per_m == 3e4
    assert gradient.slew_hz_per_m_per_s == pytest.approx(4e9)
    assert replace(gradient, first_hz_per_m=4e4).slew_hz_per_m_per_s == pytest.approx(6e9)
    assert gradient.duration_s == pytest.approx(1.3e-4)
    assert gradient.moment_per_m == pytest.approx(-0.2)
    lobe = Trapezoid(amplitude_hz_per_m=-1e4, rise_s=1e-4, flat_s=1e-3, fall_s=2e-4, delay_s=1e-5)
    assert (lobe.peak_hz_per_m, lobe.slew_hz_per_m_per_s) == (1e4, pytest.approx(1e8))
    np.testing.assert_allclose(lobe.corners()[0], [1e-5, 1.1e-4, 1.11e-3, 1.31e-3], atol=1e-12)


def test_a_block_shorter_than_its_gradient_is_refused():
    with pytest.raises(InputError, match=r"shorter than the events in it, which end at 0\.0044"):
        Block(duration_s=4.3e-3, gradients=(None, hump(), None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_hz_per_m": np.ones(1)}, "at least 2 samples"),
        ({"sample_hz_per_m": np.ones((2, 2))}, "in one dimension"),
        ({"raster_s": 0.0}, "positive raster"),
        ({"sample_hz_per_m": np.array([1.0, math.nan])}, "must be finite"),
        ({"first_hz_per_m": math.inf}, "must be finite"),
        ({"delay_s": -1e-5}, "no earlier than its block"),
    ],
)
def test_impossible_gradients_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        hump(**changes)


@pytest.mark.parametrize(
    ("gradient", "form", "error", "message"),
    [
        (
            hump(raster_s=2e-5, n=200, ramp=10),
            "1.5.0",
            InputError,
            "raster of 20 us, but that of test scanner is 10 us",
        ),
        (hump(first_hz_per_m=6e3), "1.4.1", InputError, "format 1.4.1 does not state the ends"),
        (hump(ramp=1, peak_hz_per_m=3e4), "1.4.1", InputError, "ramps of at least two samples, or write format 1.5.0"),
        (hump(peak_hz_per_m=4e6, ramp=200, n=40), "1.5.0", HardwareLimitError, "along x in block 2 needs"),
        (hump(ramp=3), "1.5.0", HardwareLimitError, "T/m/s"),
    ],
)
def test_what_cannot_be_played_is_not_written(gradient, form, error, message, tmp_path):
    blocks = tuple(replace(block, duration_s=block.duration_s + 1e-2) for block in blocks_of(gradient))
    with pytest.raises(error, match=message):
        write(tmp_path / "refused.seq", blocks, form)
    assert list(tmp_path.iterdir()) == []


def test_ends_that_are_not_zero_survive_where_the_format_states_them(tmp_path):
    """Two gradients that follow each other without a ramp, the end not in line with the samples: 1.5 only."""
    up = SampledGradient(
        sample_hz_per_m=2e5 * np.minimum(1, (np.arange(100) + 0.5) / 40), raster_s=RASTER_S, last_hz_per_m=1.97e5
    )
    down = SampledGradient(sample_hz_per_m=up.sample_hz_per_m[::-1].copy(), raster_s=RASTER_S, first_hz_per_m=1.97e5)
    receive = Block(duration_s=0.06, adc=Adc(n_samples=256, dwell_s=2e-4, delay_s=1e-3), labels={"AVG": 0, "REF": 0})
    blocks = (
        Block(duration_s=5e-3, rf=rf(use="excitation")),
        Block(duration_s=1e-3, gradients=(up, None, None)),
        Block(duration_s=1e-3, gradients=(down, None, None)),
        receive,
    )
    path = write(tmp_path / "joined.seq", blocks, "1.5.0")
    first, second = (block.gradients[0] for block in read_seq(path).blocks[1:3])
    assert (first.value_hz_per_m[-1], second.value_hz_per_m[0]) == (1.97e5, 1.97e5)
    compare_shots(built_shots(blocks, SCANNER, "built"), shots(read_seq(path)), "joined")


def test_a_sweep_under_a_gradient_refocuses_in_a_file_that_does_not_say_so(tmp_path):
    """On resonance with its own carrier a sweep, or a shape of an off-centre slice, turns hardly anything."""
    n = 4000
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5
    far = torch.exp(2j * math.pi * 60 * t) * torch.exp(1j * math.pi * 80 * t**2) * torch.cos(math.pi * t)
    pulse = replace(rf(), b1_hz=900 * far)
    assert 2 * math.pi * abs(complex(pulse.b1_hz.sum())) * 1e-6 < 1.0
    blocks = tuple(
        replace(block, rf=pulse) if block.rf is not None and block.rf.use == "refocusing" else block
        for block in blocks_of(hump())
    )
    seq = read_seq(write(tmp_path / "sweep.seq", blocks, "1.4.1"))
    silent = tuple(b if b.rf is None else replace(b, rf=replace(b.rf, use=None)) for b in seq.blocks)
    found = shots(replace(seq, blocks=silent))[0]
    assert [interval.use for _, interval in found.timeline.pulses()] == ["excitation", "refocusing"]
