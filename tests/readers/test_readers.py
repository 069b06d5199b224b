"""Readers that nobody here wrote, on what `seqgen build` writes: `make readers-test`, in an environment without seqgen.

tests/readers/make_files.py writes the files of every built-in sequence; READER_FILES names their folder.
reader_problems.py has what each reader says of one, reader_trains.py what it must say.
"""

import hashlib
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from reader_problems import (
    expected,
    mrzero_problems,
    played_edit_problems,
    pulserver_problems,
    pydisseqt_problems,
    pypulseq_problems,
    pypulseqpp_problems,
    rows_of,
    segment_problems,
    total_s,
)
from reader_trains import ADC_FREQUENCY, ADC_PHASE, PROJECTIONS, SEQUENCES, labels

pytestmark = pytest.mark.readers
VENDORS = ("siemens", "ge")
FILES = [f"{vendor}/{name}{form}.seq" for vendor in VENDORS for name in SEQUENCES for form in ("", "_141")]
PRESS, PRESS_141 = "siemens/press.seq", "siemens/press_141.seq"


@pytest.fixture(scope="session")
def folder():
    if "READER_FILES" not in os.environ:
        pytest.fail("READER_FILES is not set. Run `make readers-test`, which makes the files and names their folder.")
    return Path(os.environ["READER_FILES"])


# --- Every file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_pulserver_converts_it_and_finds_no_problem(folder, name):
    assert pulserver_problems(folder / name) == []


@pytest.mark.parametrize("name", FILES)
def test_pypulseq_finds_clean_timing_and_the_editing_pulses(folder, name):
    assert pypulseq_problems(folder / name) == []


@pytest.mark.parametrize("name", FILES)
def test_pypulseqpp_finds_clean_timing_labels_echo_and_phases(folder, name):
    assert pypulseqpp_problems(folder / name) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_mrzero_sees_the_echo_at_te_and_in_phase(folder, name):
    assert mrzero_problems(folder / name) == []


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("_141.seq")])
def test_pydisseqt_sees_the_echo_and_the_phases(folder, name):
    assert pydisseqt_problems(folder / name) == []


def test_pydisseqt_reads_no_1_5_yet(folder):
    """If it does one day, it belongs into the test above."""
    assert "Unsupported pulseq file version" in pydisseqt_problems(folder / PRESS)[0]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("ge/")])
def test_pulserver_plays_every_segment_of_ge_as_it_is_defined(folder, name, tmp_path):
    assert segment_problems(folder / name, tmp_path) == []


@pytest.mark.parametrize("name", [name for name in FILES if "/press_edited" in name])
def test_pulserver_plays_the_editing_pulses_of_every_condition(folder, name, tmp_path):
    assert played_edit_problems(folder / name, tmp_path) == []


@pytest.mark.parametrize("name", [PRESS, "ge/steam_141.seq"])
def test_pulserver_scans_a_phantom_with_it(folder, tmp_path, name):
    """The virtual scanner plays the file to its end and sends every readout, with signal in it but for noise scans."""
    import ismrmrd

    path = folder / name
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("pulserver"), "scan", "--seq", path),
            *("--limits", path.parent / "limits.txt", "--spacing", "8", "--mrd", tmp_path / "scan.h5"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{total_s(path):.2f} s of {total_s(path):.2f} s" in done.stderr
    scan = ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset", False)
    readouts = [scan.read_acquisition(number).data for number in range(scan.number_of_acquisitions())]
    rows = labels(path.stem.removesuffix("_141"), expected(path))
    for row, readout in zip(rows, readouts, strict=True):
        assert readout.shape[1] == expected(path)["adc_samples"]
        assert np.isfinite(readout).all()
        assert (np.abs(readout[:, :16]).max() > 0) != bool(row.get("NOISE"))


# --- Every check can fail --------------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of a file with something changed, signed anew."""

    def make(change, name=PRESS, sign=True):
        source = folder / name
        text = change(source.read_text())
        if sign:
            body, mark, signature = text.partition("\n[SIGNATURE]")
            digest = hashlib.md5(body.encode()).hexdigest()
            text = body + mark + re.sub(r"Hash \w+", f"Hash {digest}", signature)
        assert text != source.read_text()
        for other in ("limits.txt", "expected.json"):
            (tmp_path / other).write_text((source.parent / other).read_text())
        (tmp_path / source.name).write_text(text)
        return tmp_path / source.name

    return make


def field(section, number, column, value):
    """A change of one field of the row with a number; functions find that number, or change what is in the field."""

    def change(text):
        wanted = str(number(text) if callable(number) else number)
        head, body = text.split(f"[{section}]\n")
        lines = body.split("\n")
        row = next(k for k, line in enumerate(lines) if line.split()[:1] == [wanted])
        words = lines[row].split()
        words[column] = str(value(float(words[column])) if callable(value) else value)
        lines[row] = " ".join(words)
        return f"{head}[{section}]\n" + "\n".join(lines)

    return change


def pulse(back):
    """Finds the RF of the pulse `back` before the last readout."""
    return lambda text: [row[2] for row in rows_of(text, "BLOCKS") if row[2] != "0"][-back]


def readout(place):
    """Finds the block of a readout."""
    return lambda text: [row[0] for row in rows_of(text, "BLOCKS") if row[6] != "0"][place]


def adc_of(place):
    """Finds the ADC of a readout."""
    return lambda text: [row[6] for row in rows_of(text, "BLOCKS") if row[6] != "0"][place]


def read_gradient(text):
    """Finds the read gradient of the first projection."""
    return next(row[3] for row in rows_of(text, "BLOCKS") if row[6] != "0" and row[3] != "0")


def earlier(back):
    """Moves the pulse `back` before the last readout by two rasters from the delay before it into the one after it."""

    def change(text):
        blocks = rows_of(text, "BLOCKS")
        place = [k for k, row in enumerate(blocks) if row[2] != "0"][-back]
        empty = [k for k, row in enumerate(blocks) if row[2:7] == ["0"] * 5]
        before, after = max(k for k in empty if k < place), min(k for k in empty if k > place)
        text = field("BLOCKS", blocks[before][0], 1, lambda units: int(units) - 2)(text)
        return field("BLOCKS", blocks[after][0], 1, lambda units: int(units) + 2)(text)

    return change


def next_to_edits(text):
    """Leaves out the gradients around the last two editing pulses of MEGA-PRESS."""
    blocks = rows_of(text, "BLOCKS")
    pulses = [k for k, row in enumerate(blocks) if row[2] != "0"]
    for k in (pulses[-1], pulses[-3]):
        for neighbour in (k - 1, k + 1):
            for column in (3, 4, 5):
                text = field("BLOCKS", blocks[neighbour][0], column, 0)(text)
    return text


def unsigned(text):
    return text.partition("\n[SIGNATURE]")[0] + "\n"


def other_edits(text):
    """Plays the editing pulses of the last average, OFF, in the one before it, ON."""
    pulses = [[]]
    for row in rows_of(text, "BLOCKS"):
        pulses[-1] += [row] if row[2] != "0" else []
        pulses += [[]] if row[6] != "0" else []
    # After the last averages: two water references, and nothing.
    on, off = pulses[-5], pulses[-4]
    for back in (1, 3):
        text = field("BLOCKS", on[-back][0], 2, off[-back][2])(text)
    return text


def late_readout(text):
    """Plays the last readout 60 us later."""
    return field("BLOCKS", int(readout(-1)(text)) - 1, 1, lambda units: int(units) + 6)(text)


def without_edit(text):
    """Leaves out the editing pulse of the last ON average, the second last of its shot."""
    blocks = rows_of(text, "BLOCKS")
    last = [k for k, row in enumerate(blocks) if row[6] != "0"][-4]
    edit = [row[0] for row in blocks[:last] if row[2] != "0"][-2]
    return field("BLOCKS", edit, 2, 0)(text)


def stronger(hz):
    return 1.001 * hz


def half_a_turn(phase_rad):
    return phase_rad + math.pi


def a_little(phase_rad):
    return phase_rad + 0.1


SHOTS_BEFORE_SECOND_AVERAGE = 3
"""Two dummy scans and an average."""
TOTAL = (lambda text: re.sub(r"TotalDuration \S+", "TotalDuration 16.001", text), True)
UNSIGNED = (unsigned, False)
TAMPERED = (lambda text: text.replace("Name press", "Name presz"), False)
LATE_ADC = (field("ADC", 1, 3, 1500000), True)
ODD_ADC = (field("ADC", 1, 1, 510), True)
SHIFTED_ADC = (field("ADC", 1, 3, lambda delay_us: int(delay_us) - 600), True)
STRONG = (field("TRAP", 1, 1, 5e6), True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (TOTAL, "TotalDuration"),
        (UNSIGNED, "no signature"),
        (TAMPERED, "does not match"),
        (LATE_ADC, "adc"),
        (ODD_ADC, "adc_samples_divisor"),
        (STRONG, "gradient amplitude"),
    ],
)
def test_pulserver_would_see_it(broken, change, word):
    assert word in str(pulserver_problems(broken(change[0], sign=change[1])))


def test_pypulseq_would_see_it(broken):
    assert "adc" in str(pypulseq_problems(broken(*LATE_ADC[:1])))


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("press_edited", field("RF", pulse(2), 1, stronger), "but editing pulses"),
        ("press_edited_plain", without_edit, "shot 4: 7 pulses"),
        ("press_edited_edited", other_edits, "SET 0, but editing pulses"),
    ],
)
def test_pypulseq_would_see_other_editing_pulses(broken, name, change, word):
    assert word in str(pypulseq_problems(broken(change, f"siemens/{name}.seq")))


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [(7, 0, "segments played"), (7, 1, "is not what it was"), (2, 0, "is not what it was"), (1, 3000, "is not what")],
)
def test_a_segment_that_is_another_would_be_seen(broken, tmp_path, column, value, word):
    """The second average starts without label, with that of a dummy scan, without its RF, or shorter."""

    def change(text):
        # Rows of [BLOCKS] with labels but no readout: the starts of shots.
        starts = [row[0] for row in rows_of(text, "BLOCKS") if row[7] != "0" and row[6] == "0"]
        return field("BLOCKS", starts[SHOTS_BEFORE_SECOND_AVERAGE], column, value)(text)

    (tmp_path / "cache").mkdir()
    assert word in str(segment_problems(broken(change, "ge/press.seq"), tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("press_edited", field("RF", pulse(2), 1, stronger), "but editing pulses"),
        ("press_edited_plain", without_edit, "shot 4: 7 pulses"),
        ("press_edited_edited", other_edits, "SET 0, but editing pulses"),
    ],
)
def test_pulserver_would_play_other_editing_pulses(broken, tmp_path, name, change, word):
    (tmp_path / "cache").mkdir()
    assert word in str(played_edit_problems(broken(change, f"siemens/{name}.seq"), tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("press", TOTAL, "TOTAL_DURATION"),
        ("press", UNSIGNED, "no signature"),
        ("press", TAMPERED, "does not match"),
        ("press", LATE_ADC, "POST_ADC_DEAD_TIME"),
        ("press", ODD_ADC, "ADC_SAMPLES_DIVISOR"),
        ("press", (field("RF", pulse(2), 10, a_little), True), "off the receiver"),
        ("press", (field("RF", pulse(3), 9, lambda hz: hz + 100), True), "off the receiver"),
        ("press", (field("BLOCKS", 16, 1, lambda units: int(units) + 2), True), "s in all"),
        ("press", (field("RF", pulse(1), 11, "u"), True), "pulses for"),
        ("press", (field("BLOCKS", readout(-1), 7, 0), True), "label AVG"),
        ("press", (field("BLOCKS", 1, 7, 0), True), "label AVG not set at first"),
        ("press", (field("BLOCKS", 1, 2, 0), True), "shot 0: 6 pulses"),
        ("press", (earlier(1), True), "TE"),
        ("mega_press", (field("RF", pulse(1), 11, "r"), True), "pulses for"),
        ("mega_press", (field("RF", pulse(1), 9, lambda hz: -hz), True), "but editing pulses at"),
        ("press_edited", (field("RF", pulse(2), 1, stronger), True), "but editing pulses"),
        ("press_edited_plain", (without_edit, True), "shot 4: 7 pulses"),
        ("press_edited_edited", (other_edits, True), "SET 0, but editing pulses"),
        ("press_edited_edited", (field("RF", pulse(1), 1, stronger), True), "SET 1, but editing pulses"),
        ("pulse_acquire", (field("RF", pulse(1), 9, lambda hz: -hz), True), "carrier at"),
        ("pulse_acquire", (field("RF", pulse(1), 10, a_little), True), "off the receiver"),
        ("pulse_acquire", (late_readout, True), "after the echo"),
        ("pulse_acquire", (field("ADC", adc_of(0), 6, 499), True), "receiver at 499"),
        ("steam", (earlier(2), True), "TE"),
        ("steam", (field("BLOCKS", readout(1), 6, 0), True), "readouts at"),
        ("slaser", (earlier(2), True), "TE"),
        ("slaser", (field("RF", pulse(5), 10, a_little), True), "off the receiver"),
        ("isis_press", (field("ADC", adc_of(0), 7, half_a_turn), True), "off the receiver"),
        ("sign_check", (field("ADC", adc_of(ADC_FREQUENCY), 6, 499), True), "receiver at 499"),
        ("sign_check", (field("RF", pulse(1), 9, -1251), True), "carriers at"),
    ],
)
def test_pypulseqpp_would_see_it(broken, name, change, word):
    assert word in str(pypulseqpp_problems(broken(change[0], f"siemens/{name}.seq", change[1])))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("press", SHIFTED_ADC, "after the echo"),
        ("press", LATE_ADC, "ADC is too long"),
        ("press", (field("RF", pulse(3), 7, a_little), True), "off the receiver"),
        ("press", (field("ADC", 1, 5, half_a_turn), True), "off the receiver"),
        ("press", (field("ADC", 1, 1, 508), True), "samples"),
        ("press", (field("RF", pulse(3), 1, lambda hz: hz / 2), True), "echo of"),
        ("mega_press", (next_to_edits, True), "with editing pulses"),
        ("press_edited", (field("RF", pulse(2), 1, stronger), True), "but editing pulses"),
        ("press_edited_plain", (without_edit, True), "readout 2: 7 pulses"),
        ("press_edited_edited", (other_edits, True), "SET 0, but editing pulses"),
        ("press_edited_edited", (next_to_edits, True), "with editing pulses"),
        ("pulse_acquire", (field("RF", pulse(1), 7, a_little), True), "off the receiver"),
        ("pulse_acquire", (late_readout, True), "after the echo"),
        ("steam", (earlier(2), True), "TE"),
        ("steam", (field("RF", pulse(1), 7, half_a_turn), True), "off the receiver"),
        ("slaser", (earlier(2), True), "TE"),
        ("slaser", (field("RF", pulse(5), 7, a_little), True), "off the receiver"),
        ("isis_press", (field("ADC", adc_of(0), 5, half_a_turn), True), "off the receiver"),
        ("isis_press", (field("RF", pulse(4), 1, 750), True), "inversion by"),
        ("sign_check", (field("BLOCKS", readout(PROJECTIONS[0]), 3, 0), True), "gradient echo"),
        ("sign_check", (field("TRAP", read_gradient, 1, lambda hz_per_m: 1.01 * hz_per_m), True), "Hz at"),
        ("sign_check", (field("ADC", adc_of(ADC_PHASE), 5, half_a_turn), True), "degrees"),
    ],
)
def test_mrzero_would_see_it(broken, name, change, word):
    assert word in str(mrzero_problems(broken(change[0], f"siemens/{name}_141.seq", change[1])))


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("press", SHIFTED_ADC, "after the echo"),
        ("press", LATE_ADC, "ADC is too long"),
        ("press", (field("RF", pulse(3), 7, a_little), True), "off the receiver"),
        ("press", ODD_ADC, "readout of"),
        ("press", (lambda text: re.sub(r"GradientRasterTime.*\n", "", text), True), "load_pulseq"),
        ("press_edited", (field("RF", pulse(2), 1, stronger), True), "but editing pulses"),
        ("press_edited_plain", (without_edit, True), "readout 2: 7 pulses"),
        ("press_edited_edited", (other_edits, True), "SET 0, but editing pulses"),
        ("pulse_acquire", (field("RF", pulse(1), 7, a_little), True), "off the receiver"),
        ("pulse_acquire", (late_readout, True), "after the echo"),
        ("steam", (earlier(2), True), "TE"),
        ("steam", (field("BLOCKS", readout(1), 6, 0), True), "readouts"),
        ("sign_check", (field("ADC", adc_of(ADC_FREQUENCY), 4, 499), True), "receiver at 499"),
    ],
)
def test_pydisseqt_would_see_it(broken, name, change, word):
    assert word in str(pydisseqt_problems(broken(change[0], f"siemens/{name}_141.seq", change[1])))
