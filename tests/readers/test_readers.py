"""Readers that nobody here wrote, on what `seqgen build` writes: `make readers-test`, in an environment without seqgen.

tests/readers/make_files.py writes the files; READER_FILES names their folder. MRzeroCore is AGPL: it is installed for
this test alone, and seqgen never imports it.
"""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.readers
VENDORS = ("siemens", "ge")
KINDS = ("press", "press_edited")
FILES = [f"{vendor}/{kind}{form}.seq" for vendor in VENDORS for kind in KINDS for form in ("", "_141")]
ISOCHROMAT = {"PD": 1.0, "T1": 1e6, "T2": 1e6, "T2dash": 1e6, "D": 0.0, "voxel_size": 0.02}
"""A small voxel that does not relax: what is left is what pulses, gradients and offset do."""


@pytest.fixture(scope="session")
def folder():
    if "READER_FILES" not in os.environ:
        pytest.fail("READER_FILES is not set. Run `make readers-test`, which makes the files and names their folder.")
    return Path(os.environ["READER_FILES"])


def expected(path):
    """What the protocol asked for; te_s is that of this file."""
    stated = json.loads((path.parent / "expected.json").read_text())
    return stated | {"te_s": stated["te_s"][path.stem.removesuffix("_141")]}


def limits(path):
    """The scanner's limits as keywords of pypulseqpp.Opts: every raster, dead time and limit stated."""
    rows = re.findall(r"(?m)^(\w+): (.*)$", (path.parent / "limits.txt").read_text())
    return {name: value if name.endswith("unit") else float(value) for name, value in rows}


# --- What each reader says: a list of problems -----------------------------------------------------------------------


def pulserver_problems(path):
    """Timing, gradients and slew against the scanner's limits; signature; waveforms after conversion to segments."""
    import pypulseqpp
    from pulserver import ir

    program = Path(sys.executable).with_name("pulserver")
    command = [program, "validate", path, "--limits", path.parent / "limits.txt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    agrees = done.returncode == 0 and "the sequence agrees with the ir waveforms" in done.stdout
    return ([] if agrees else [f"validate: {done.stdout}{done.stderr}"]) + [
        f"ir.check: {problem}" for problem in ir.check(path, pypulseqpp.Opts(**limits(path)))
    ]


def segment_problems(path, cache):
    """GE: shots as pulserver plays them after conversion. Where a TRID is set a shot starts; shots of one TRID hold the
    same events for the same time, empty blocks aside."""
    import pypulseqpp
    from pulserver import ir

    system = pypulseqpp.Opts(**limits(path))
    sequence = pypulseqpp.Sequence(system)
    sequence.read(path)
    copied = cache / path.name
    copied.write_text(path.read_text())
    ir.convert(copied, system)
    blocks = ir.play(copied)
    starts = [int(number) - 1 for number in sequence.label_blocks("TRID")]
    if starts[:1] != [0]:
        return [f"the first segment starts at block {starts[:1]}"]
    wanted = expected(path)
    numbers = [int(blocks["trid"][k]) for k in starts]
    problems = [] if len(starts) == round(wanted["total_s"] / wanted["tr_s"]) else [f"{len(starts)} segments played"]
    if len(set(numbers)) != 3:
        problems.append(f"TRID {sorted(set(numbers))} instead of three: dummy scans, averages, water references")
    kinds = np.column_stack(
        [blocks["rf_amp_hz"] != 0, blocks["rf_delay_us"], blocks["adc"], blocks["adc_delay_us"], blocks["adc_samples"]]
        + [blocks["gradient_hz_per_m"][:, axis] != 0 for axis in range(3)]
    )
    duration_us = np.where(kinds.any(axis=1), blocks["duration_us"], 0)
    defined = {}
    for number, first, after in zip(numbers, starts, [*starts[1:], len(duration_us)], strict=True):
        played = np.column_stack([kinds, duration_us])[first:after].tolist()
        if defined.setdefault(number, played) != played:
            problems.append(f"TRID {number} at block {first + 1} is not what it was")
    return problems


def pypulseqpp_problems(path):
    """Signature and timing; echo, phases and readouts from its own tables of pulses and samples."""
    import pypulseqpp

    wanted = expected(path)
    sequence = pypulseqpp.Sequence(pypulseqpp.Opts(**limits(path)))
    try:
        sequence.read(path, verify=True)
    except RuntimeError as error:
        return [f"read: {error}"]
    _, found = pypulseqpp.check_timing(sequence)
    problems = [f"check_timing: block {row.block} {row.error_type}" for row in found]
    if sequence.duration()[0] != pytest.approx(wanted["total_s"], abs=1e-9):
        problems.append(f"{sequence.duration()[0]} s in all")
    if path.stem.endswith("_141"):
        return problems  # 1.4 does not say which pulse excites and which refocuses
    # Centres, and (frequency, phase at the centre) of all excitations and of all refocusing pulses, dummy scans too.
    excited_s, (_, excited_rad), refocused_s, (_, refocused_rad) = sequence.rf_times()
    n_shots = round(wanted["total_s"] / wanted["tr_s"])
    if excited_s.size != n_shots or refocused_s.size != 2 * n_shots:
        return [*problems, f"{excited_s.size} excitations, {refocused_s.size} refocusing pulses"]
    te_s = 2 * (refocused_s[1::2] - refocused_s[::2])
    if te_s != pytest.approx(wanted["te_s"], abs=1e-8):
        problems.append(f"TE {te_s} s from RF centres")
    cycle = 1j * (-1.0) ** np.arange(n_shots)
    if max(abs(np.exp(1j * excited_rad) - cycle)) > 1e-3 or max(abs(np.exp(1j * refocused_rad) - 1)) > 1e-3:
        problems.append(f"phases {excited_rad} rad of excitation, {refocused_rad} rad of refocusing")
    return problems


def pydisseqt_problems(path):
    """1.4 files: the echo from RF centres, the phases there, and the readouts, by its event search."""
    import pydisseqt

    wanted = expected(path)
    try:
        sequence = pydisseqt.load_pulseq(str(path))
    except pydisseqt.ParseError as error:
        return [f"load_pulseq: {error}"]
    problems = []
    if sequence.duration() != pytest.approx(wanted["total_s"], abs=1e-6):
        problems.append(f"{sequence.duration()} s in all")
    pulses, readouts = (encounters(sequence, kind) for kind in ("rf", "adc"))
    if len(readouts) != wanted["n_readouts"]:
        return [*problems, f"{len(readouts)} readouts"]
    n_pulses = 4 if "edited" in path.name else 3
    for start_s, end_s in readouts:
        if end_s - start_s != pytest.approx(wanted["adc_samples"] * wanted["adc_dwell_s"], abs=1e-6):
            problems.append(f"readout of {end_s - start_s} s")
        ours = [pulse for pulse in pulses if pulse[1] < start_s][-n_pulses:]
        centres_s = [(a + b) / 2 for a, b in ours]
        echo_s = centres_s[0] + 2 * (centres_s[-1] - centres_s[1])
        if echo_s - centres_s[0] != pytest.approx(wanted["te_s"], abs=1e-8):
            problems.append(f"TE {echo_s - centres_s[0]} s from RF centres")
        if abs(start_s + wanted["adc_dwell_s"] / 2 - echo_s) > wanted["adc_dwell_s"]:
            problems.append(f"first sample {start_s + wanted['adc_dwell_s'] / 2 - echo_s} s after the echo")
        receiver_rad = sequence.sample_one((start_s + end_s) / 2).adc.phase
        phases = [phase_at_centre(sequence, ours[k]) for k in (0, 1, -1)]
        if "edited" not in path.name:
            phases[0] -= receiver_rad
            if max(abs(np.exp(1j * np.array(phases)) - [1j, 1, 1])) > 1e-3:
                problems.append(f"phases {phases} rad of excitation (relative to the receiver) and refocusing")
    return problems


def encounters(sequence, kind):
    """(start, end) of all events of a kind, s."""
    found, time_s = [], 0.0
    while (event := sequence.encounter(kind, time_s)) is not None:
        found.append(event)
        time_s = event[1] + 1e-9
    return found


def phase_at_centre(sequence, pulse):
    """Phase of a pulse at its centre, rad: offset at its start, then its frequency."""
    start_s, end_s = pulse
    sample = sequence.sample_one((start_s + end_s) / 2).pulse
    return sample.phase + math.pi * sample.frequency * (end_s - start_s)


def mrzero_problems(path):
    """Bloch simulation of the water references: echo at TE within a dwell, and in phase with the receiver.

    An offset of B0 turns the first sample by 2 pi times the offset times its distance from the echo.
    """
    import MRzeroCore as mr0

    wanted = expected(path)
    try:
        sequence = mr0.Sequence.import_file(str(path))
    except ValueError as error:
        return [f"import_file: {error}"]
    shots = []
    for number, repetition in enumerate(sequence):
        if bool((repetition.adc_usage > 0).any()):
            n_pulses = 4 if "edited" in path.name else 3
            shots.append(mr0.Sequence(sequence[number + 1 - n_pulses : number + 1], sequence.normalized_grads))
    if len(shots) != wanted["n_readouts"]:
        return [f"{len(shots)} readouts"]
    problems = []
    turned = turned_by_carriers(path)
    for number in range(wanted["n_readouts"] - wanted["n_references"], wanted["n_readouts"]):
        still, above, below = (signal(mr0, shots[number], b0_hz) for b0_hz in (0.0, 5.0, -5.0))
        if still.shape != (wanted["adc_samples"],):
            problems.append(f"{still.shape} samples")
        if abs(still[0]) < (0.1 if "edited" in path.name else 0.98):
            problems.append(f"echo of {abs(still[0])}")
        late_s = float(np.angle(above[0] / below[0])) / (2 * math.pi * 10.0)
        if abs(late_s) > wanted["adc_dwell_s"]:
            problems.append(f"first sample {late_s} s after the echo")
        times_s = np.cumsum([float(repetition.event_time.sum()) for repetition in shots[number]][:-1])
        te_s = 2 * (times_s[-1] - times_s[0])
        if te_s != pytest.approx(wanted["te_s"], abs=2e-8):  # single precision
            problems.append(f"TE {te_s} s from RF centres")
        # The designed pulse keeps part of the signal and turns it; its phase is what the design makes it.
        if "edited" not in path.name:
            off_rad = float(np.angle(still[0] * np.exp(-1j * turned[number])))
            if abs(off_rad) > 0.01:
                problems.append(f"echo {math.degrees(off_rad)} degrees off the receiver")
    return problems


def signal(mr0, shot, b0_hz):
    """The samples of a shot on spins at one offset."""
    data = mr0.CustomVoxelPhantom(pos=[[0.0, 0.0, 0.0]], B0=b0_hz, **ISOCHROMAT).build()
    graph = mr0.compute_graph(shot, data, 10000, 1e-6)
    return mr0.execute_graph(graph, shot, data, print_progress=False).numpy().squeeze()


def turned_by_carriers(path):
    """By how much MRzeroCore turns the echo of every readout, rad, because its pulses are instantaneous.

    It takes the phase of a pulse at its start for the one at its centre: 2 pi f times half a pulse too little. Its
    receiver reads a spin along -y, where a +x pulse puts it, as phase 0: a quarter of a turn.
    """
    text = path.read_text()
    raster_s = float(re.search(r"(?m)^RadiofrequencyRasterTime (\S+)", text).group(1))
    samples = dict(re.findall(r"(?m)^shape_id (\d+)\nnum_samples (\d+)", text))
    frequency = 9 if re.search(r"(?m)^minor 5", text) else 6
    late_rad = {"0": 0.0}
    for row in rows(text, "RF"):
        late_rad[row[0]] = math.pi * float(row[frequency]) * int(samples[row[2]]) * raster_s
    turned, pulses = [], []
    for row in rows(text, "BLOCKS"):
        pulses += [row[2]] if row[2] != "0" else []
        if row[6] != "0":
            excite, *_, first, second = (late_rad[number] for number in pulses[-3:])
            turned.append(math.pi / 2 - excite + 2 * first - 2 * second)
    return turned


def rows(text, section):
    """Rows of a section."""
    body = text.split(f"[{section}]\n")[1].split("\n\n")[0]
    return [line.split() for line in body.splitlines() if line.strip() and not line.startswith("#")]


# --- Every file ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_pulserver_converts_it_and_finds_no_problem(folder, name):
    assert pulserver_problems(folder / name) == []


@pytest.mark.parametrize("name", FILES)
def test_pypulseqpp_reads_it_with_clean_timing(folder, name):
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
    assert "Unsupported pulseq file version" in pydisseqt_problems(folder / FILES[0])[0]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("ge/")])
def test_pulserver_plays_every_segment_of_ge_as_it_is_defined(folder, name, tmp_path):
    assert segment_problems(folder / name, tmp_path) == []


def test_pulserver_scans_a_phantom_with_it(folder, tmp_path):
    """The virtual scanner plays the file to its end and sends every readout, with signal in it."""
    import ismrmrd

    path = folder / FILES[0]
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("pulserver"), "scan", "--seq", path),
            *("--limits", path.parent / "limits.txt", "--spacing", "4", "--mrd", tmp_path / "scan.h5"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = expected(path)
    assert f"{wanted['total_s']:.2f} s of {wanted['total_s']:.2f} s" in done.stderr
    scan = ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset", False)
    samples = [scan.read_acquisition(number).data for number in range(scan.number_of_acquisitions())]
    assert len(samples) == wanted["n_readouts"]
    for readout in samples:
        assert readout.shape[1] == wanted["adc_samples"]
        assert np.isfinite(readout).all()
        assert np.abs(readout[:, :16]).max() > 0


# --- Every check can fail --------------------------------------------------------------------------------------------


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of a file with one row of a section changed, signed anew."""

    def make(change, name=FILES[0], sign=True):
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
    """A change of one field of the row with a number; a function changes what is there."""

    def change(text):
        head, body = text.split(f"[{section}]\n")
        lines = body.split("\n")
        row = next(k for k, line in enumerate(lines) if line.split() and line.split()[0] == str(number))
        words = lines[row].split()
        words[column] = str(value(float(words[column])) if callable(value) else value)
        lines[row] = " ".join(words)
        return f"{head}[{section}]\n" + "\n".join(lines)

    return change


def unsigned(text):
    return text.partition("\n[SIGNATURE]")[0] + "\n"


def half_a_turn(phase_rad):
    return phase_rad + math.pi


SHOTS_BEFORE_SECOND_AVERAGE = 3
"""Two dummy scans and an average."""
TOTAL = (lambda text: re.sub(r"TotalDuration \S+", "TotalDuration 16.001", text), True)
UNSIGNED = (unsigned, False)
TAMPERED = (lambda text: text.replace("Name press", "Name presz"), False)
LATE_ADC = (field("ADC", 1, 3, 900000), True)
ODD_ADC = (field("ADC", 1, 1, 2046), True)
SHIFTED_ADC = (field("ADC", 1, 3, lambda delay_us: int(delay_us) - 600), True)
STRONG = (field("TRAP", 1, 1, 5e6), True)
TURNED = (field("RF", 6, 10, half_a_turn), True)
TURNED_141 = (field("RF", 5, 7, lambda phase_rad: phase_rad + 0.1), True)
"""In 1.4 no. 5 is the excitation, too: four pulses of the suppression come before it."""


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


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [(7, 0, "segments played"), (7, 1, "is not what it was"), (2, 0, "is not what it was"), (1, 3000, "is not what")],
)
def test_a_segment_that_is_another_would_be_seen(broken, tmp_path, column, value, word):
    """The second average starts without label, with that of a dummy scan, without its RF, or shorter."""

    def change(text):
        # Rows of [BLOCKS] with labels but no readout: the starts of shots.
        starts = [row[0] for row in rows(text, "BLOCKS") if row[7] != "0" and row[6] == "0"]
        return field("BLOCKS", starts[SHOTS_BEFORE_SECOND_AVERAGE], column, value)(text)

    (tmp_path / "cache").mkdir()
    assert word in str(segment_problems(broken(change, "ge/press.seq"), tmp_path / "cache"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (TOTAL, "TOTAL_DURATION"),
        (UNSIGNED, "no signature"),
        (TAMPERED, "does not match"),
        (LATE_ADC, "POST_ADC_DEAD_TIME"),
        (ODD_ADC, "ADC_SAMPLES_DIVISOR"),
        (TURNED, "phases"),
        ((field("RF", 5, 9, lambda hz: hz + 100), True), "phases"),
        ((field("BLOCKS", 16, 1, lambda units: int(units) + 2), True), "s in all"),
    ],
)
def test_pypulseqpp_would_see_it(broken, change, word):
    assert word in str(pypulseqpp_problems(broken(change[0], sign=change[1])))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (SHIFTED_ADC, "after the echo"),
        (LATE_ADC, "ADC is too long"),
        (TURNED_141, "off the receiver"),
        ((field("ADC", 1, 5, half_a_turn), True), "off the receiver"),
        ((field("ADC", 1, 1, 2040), True), "samples"),
        ((field("RF", 5, 1, lambda hz: hz / 2), True), "echo of"),
    ],
)
def test_mrzero_would_see_it(broken, change, word):
    assert word in str(mrzero_problems(broken(change[0], FILES[1], change[1])))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (SHIFTED_ADC, "after the echo"),
        (LATE_ADC, "ADC is too long"),
        (TURNED_141, "phases"),
        (ODD_ADC, "readout of"),
        ((lambda text: re.sub(r"GradientRasterTime.*\n", "", text), True), "load_pulseq"),
    ],
)
def test_pydisseqt_would_see_it(broken, change, word):
    assert word in str(pydisseqt_problems(broken(change[0], FILES[1], change[1])))
