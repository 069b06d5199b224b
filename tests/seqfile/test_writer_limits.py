"""What the writer refuses before PyPulseq does, and that it writes the bytes of PyPulseq's own way, in a file that
grows by rows of blocks alone."""

import re
from dataclasses import replace

import numpy as np
import pypulseq as pp
import pytest
from press_files import F0_HZ, SCANNER, build, random_pulse, write

from seqgen.errors import HardwareLimitError, VerificationError
from seqgen.seqfile import writer
from seqgen.seqfile.blocks import Block, Trapezoid
from seqgen.seqfile.writer import write_seq

FORMATS = ("1.5.0", "1.4.1")
LIMIT = SCANNER.max_gradient_hz_per_m
SLEW = SCANNER.max_slew_hz_per_m_per_s
LOBE = Trapezoid(amplitude_hz_per_m=1e6, rise_s=5e-4, flat_s=1e-3, fall_s=5e-4)


def attempt(folder, lobe, labels=None):
    blocks = (Block(duration_s=1e-3), Block(duration_s=4e-3, gradients=(None, lobe, None), labels=labels or {}))
    path = folder / "out.seq"
    write_seq(blocks, path, scanner=SCANNER, spectrometer_frequency_hz=F0_HZ, definitions={"Name": "lobe"})
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"amplitude_hz_per_m": 1.001 * LIMIT},
        {"amplitude_hz_per_m": -1.001 * LIMIT},
        {"rise_s": 1e-5, "amplitude_hz_per_m": 1.001e-5 * SLEW},
        {"fall_s": 1e-5, "amplitude_hz_per_m": -1.001e-5 * SLEW},
        {"rise_s": 0.0},
    ],
)
def test_a_lobe_beyond_the_scanner_is_refused_with_limit_and_remedy(tmp_path, changes):
    with pytest.raises(HardwareLimitError) as refusal:
        attempt(tmp_path, replace(LOBE, **changes))
    text = str(refusal.value)
    assert "out.seq was not written: the gradient along y in block 2 needs" in text
    assert f"test scanner allows {LIMIT:.4g} Hz/m (80 mT/m) and {SLEW:.4g} Hz/m/s (200 T/m/s)" in text
    assert text.endswith("Lengthen the lobe or lower its moment.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes", [{"amplitude_hz_per_m": LIMIT, "rise_s": 1e-3}, {"rise_s": 1e-5, "amplitude_hz_per_m": 1e-5 * SLEW}]
)
def test_a_lobe_at_the_limit_is_written(tmp_path, changes):
    assert attempt(tmp_path, replace(LOBE, **changes)).exists()


def test_what_pypulseq_refuses_is_no_bare_value_error(tmp_path):
    with pytest.raises(VerificationError, match=r"out\.seq: PyPulseq refuses the blocks: .*label"):
        attempt(tmp_path, LOBE, labels={"NONSENSE": 1})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMATS)
def test_the_short_way_writes_the_bytes_of_the_long_way(tmp_path, monkeypatch, form):
    """Events registered once and pulses decompressed once, against PyPulseq doing both for every block."""
    built = build(random_pulse(), averages=4)
    short = write(tmp_path / "short.seq", built, form).read_bytes()
    monkeypatch.setattr(writer, "_Sequence", pp.Sequence)
    monkeypatch.setattr(writer, "_registered", lambda event, _: event)
    assert write(tmp_path / "long.seq", built, form).read_bytes() == short


def test_pulses_that_are_kept_are_those_of_pypulseq():
    """Each against PyPulseq's own; a change of what was given out does not reach the next block that plays it."""
    sequence = writer._pulseq_sequence(build(random_pulse()).blocks, writer.pulseq_system(SCANNER, F0_HZ))
    library = sequence.rf_library
    assert len(library.data) > 5
    for row in [*library.data, *library.data]:
        found = sequence.rf_from_lib_data(library.data[row], library.type[row])
        wanted = pp.Sequence.rf_from_lib_data(sequence, library.data[row], library.type[row])
        assert vars(found).keys() == vars(wanted).keys()
        for name, value in vars(wanted).items():
            assert np.array_equal(getattr(found, name), value), name
        found.delay = found.use = None


def rows(text, section):
    """Number of rows of a section, or of shapes."""
    if section == "SHAPES":
        return len(re.findall(r"(?m)^shape_id", text))
    body = text.split(f"[{section}]\n")[1].split("\n\n")[0]
    return len([line for line in body.splitlines() if line.strip() and not line.startswith("#")])


@pytest.mark.parametrize("form", FORMATS)
def test_more_averages_add_blocks_and_labels_only(tmp_path, form):
    texts = {}
    for averages in (16, 64):
        built = build(random_pulse(), averages=averages)
        texts[averages] = write(tmp_path / f"{averages}.seq", built, form).read_text()
        assert rows(texts[averages], "BLOCKS") == len(built.blocks)
    for section in ("SHAPES", "RF", "TRAP", "ADC"):
        assert rows(texts[16], section) == rows(texts[64], section), section
    sections = {n: len(text) - len(text.split("[BLOCKS]\n")[1].split("\n\n")[0]) for n, text in texts.items()}
    assert sections[64] - sections[16] < 48 * 60  # labels: a few short rows each, against 25 rows of blocks
