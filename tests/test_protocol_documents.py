"""The documents beside the protocols: what they compute from the YAML is computed again, what they run is run."""

import doctest
import math
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.config import Protocol, load_protocol, load_scan_protocol
from seqgen.pipeline.study import load_study
from seqgen.seqfile.played import built_shots
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.sign_kinds import Kind
from seqgen.timeline import Interval
from seqgen.units import hz_to_tesla

ROOT = Path(__file__).resolve().parents[1]
PROTOCOLS = ROOT / "protocols"
NAMES = ("phantom_glu_gln_3t", "invivo_glu_gln_3t")
SCANNING = ("run_siemens", "run_ge", "run_open_console", "first_scan_checklist")
DOCUMENTS = [PROTOCOLS / f"{name}.md" for name in NAMES] + [ROOT / "docs" / f"{name}.md" for name in SCANNING]
ATOMIC_MASS = {
    "H": 1.008,
    "D": 2.014,
    "Li": 6.94,
    "C": 12.011,
    "N": 14.007,
    "O": 15.999,
    "Na": 22.990,
    "Si": 28.085,
    "P": 30.974,
    "S": 32.06,
    "Cl": 35.45,
    "K": 39.098,
}
"""Standard atomic weights (IUPAC 2021, abridged), g/mol."""


def table(text: str, first: str) -> list[dict[str, str]]:
    """Return the rows of the table whose first heading is `first`, by heading."""
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith(f"| {first} |"))
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[start : next(k for k in range(start, len(lines)) if not lines[k].startswith("|"))]
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def document(name: str) -> str:
    return (PROTOCOLS / f"{name.removesuffix('_ge')}.md").read_text(encoding="utf-8")


def protocol(name: str) -> Protocol:
    return load_protocol(PROTOCOLS / f"{name}.yaml")


def yaml_blocks(path: Path) -> list[str]:
    """Return the protocols that a document shows in full."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if block.startswith("schema_version")]


def built_from(text: str, folder: Path) -> tuple[str, Built]:
    """Return name and blocks of a protocol of a scan."""
    path = folder / "scan.yaml"
    path.write_text(text, encoding="utf-8")
    scan = load_scan_protocol(path)
    context = BuildContext(
        scanner=scan.scanner,
        spectrometer_frequency_hz=scan.spectrometer_frequency_hz,
        water_shift_ppm=scan.water_shift_ppm,
    )
    return scan.name, scan.sequence.spec.build(scan.sequence.params, context)


# --- Solution --------------------------------------------------------------------------------------------------------


def molar_mass(formula: str) -> float:
    """Return the molar mass of a formula such as C4H9N3O2.H2O, g/mol."""
    parts = re.findall(r"([A-Z][a-z]?)(\d*)", formula)
    assert "".join(symbol + count for symbol, count in parts) == formula.replace(".", "")
    return sum(ATOMIC_MASS[symbol] * int(count or 1) for symbol, count in parts)


def test_grams_are_molar_mass_times_concentration() -> None:
    rows = table(document("phantom_glu_gln_3t"), "substance")
    for row in rows:
        mass = molar_mass(row["formula"])
        assert float(row["g/mol"]) == pytest.approx(mass, abs=0.006), row["substance"]
        assert float(row["g"]) == pytest.approx(mass * float(row["mM"]) * 1e-3, abs=0.0006), row["substance"]
    assert len(rows) == 10


@pytest.mark.parametrize("name", ["phantom_glu_gln_3t", "phantom_glu_gln_3t_ge"])
def test_concentrations_are_those_of_the_sample(name: str) -> None:
    weighed = {row["YAML"]: float(row["mM"]) for row in table(document(name), "substance") if row["YAML"] != "-"}
    sample = {key: row.concentration_mm for key, row in protocol(name).sample.metabolites.items()}
    assert weighed == pytest.approx(sample)


def test_the_volume_of_base_follows_from_the_buffer() -> None:
    text = document("phantom_glu_gln_3t")
    mm = {row["substance"]: float(row["mM"]) for row in table(text, "substance")}
    ph, pka = (
        float(re.search(pattern, text)[1]) for pattern in (r"\*\*pH ([\d.]+)\*\*", r"effective pKa of\s+([\d.]+)")
    )
    ionised = 1 / (1 + 10 ** (pka - ph))
    assert float(re.search(r"50 mM x ([\d.]+) for phosphate", text)[1]) == pytest.approx(ionised, abs=0.0006)
    base_mm = 2 * mm["N-acetyl-L-aspartic acid"] + ionised * mm["potassium dihydrogen phosphate"]
    assert float(re.search(r"Expected volume: (\d+) ml", text)[1]) == pytest.approx(base_mm, abs=0.5)


# --- Scan order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}_ge" for name in NAMES)])
def test_minutes_are_shots_times_tr_of_the_protocol(name: str) -> None:
    params = protocol(name).sequence.params
    rows = [row for row in table(document(name), "#") if row["#"]]
    own = [row for row in rows if row["shots"] != "-"]
    for row in own:
        tr_s, shots = float(row["TR (s)"]), [int(part) for part in row["shots"].split("+")]
        assert float(row["minutes"]) == pytest.approx(tr_s * sum(shots) * int(row["repeats"]) / 60, abs=0.051), row
        if row["file"] in ("`press.seq`", "`press_edited.seq`", "both"):
            assert tr_s == params.tr_s
            assert shots == [params.dummy_scans, params.averages, params.water_reference_averages]
    assert {"`press.seq`", "`press_edited.seq`"} <= {row["file"] for row in own}
    (total,) = (row["minutes"] for row in table(document(name), "#") if not row["#"])
    assert float(total.strip("*")) == pytest.approx(sum(float(row["minutes"]) for row in rows), abs=0.01)


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}_ge" for name in NAMES)])
def test_averages_are_whole_cycles_of_the_phases_that_are_named(name: str) -> None:
    params = protocol(name).sequence.params
    assert f"`phase_cycle: {params.phase_cycle}`, 16 steps" in document(name)
    assert params.averages % 16 == 0


def test_scans_that_the_phantom_document_shows_take_as_long_as_it_says(tmp_path: Path) -> None:
    text = document("phantom_glu_gln_3t")
    made = dict(built_from(block, tmp_path) for block in yaml_blocks(PROTOCOLS / "phantom_glu_gln_3t.md"))
    rows = {row["file"]: row for row in table(text, "#")}
    for name, file in (("sign_check", "`sign_check.seq`"), ("b1_series", "`press.seq` (B1)")):
        seconds = sum(block.duration_s for block in made[name].blocks)
        assert float(rows[file]["minutes"]) == pytest.approx(seconds * int(rows[file]["repeats"]) / 60, abs=0.051)
    readouts = sum(block.adc is not None for block in made["sign_check"].blocks)
    assert readouts == 2 * len(Kind)
    assert rows["`sign_check.seq`"]["shots"] == f"2 + {readouts} + 0"


def test_the_water_scan_of_the_open_console_takes_as_long_as_it_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "run_open_console.md").read_text(encoding="utf-8")
    _, made = built_from((PROTOCOLS / "scan_press_47mt.yaml").read_text(encoding="utf-8"), tmp_path)
    stated = re.search(r"water on the OSI2 ONE, (\d+) s", text)
    assert int(stated[1]) == pytest.approx(sum(block.duration_s for block in made.blocks))


# --- Limits, B1, voxel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_targets_that_name_a_key_hold_its_value(name: str) -> None:
    study = protocol(name)
    rows = table(document(name), "what")
    scale = {"residual_water_fraction": 100.0}
    named = 0
    for row in rows:
        keys = re.findall(r"`(sample|design|acquisition)\.(\w+)`", row["source"])
        for section, key in keys:
            value = getattr(getattr(study, section), key)
            if isinstance(value, tuple):
                stated = re.search(r"covers ([\d.]+)(?: to ([\d.]+))?|within the ([\d.]+)", row["source"])
                assert max(value) == float(stated[3] or stated[2] or stated[1]), row
                continue
            column = "target" if "target:" in row["source"] else "repeat above or below"
            assert float(re.match(r"[\d.]+", row[column])[0]) == pytest.approx(value * scale.get(key, 1.0)), row
            named += 1
    assert named >= 4


def pulse(name: str, use: str) -> Interval:
    """Return the first pulse of a kind in the sequence of a protocol, as it is played."""
    study = load_study(PROTOCOLS / f"{name}.yaml")
    shots = built_shots(study.build(study.params(), None).blocks, study.protocol.scanner, name)
    return next(interval for _, interval in shots[0].timeline.pulses() if interval.use == use)


def test_a_refocusing_slice_widens_as_b1_falls_so_that_the_water_maximum_is_not_at_nominal() -> None:
    """The statement of section 4, by spinors in NumPy instead of seqgen's engine."""
    scales = np.arange(0.7, 1.31, 0.02)
    excited, refocused = (
        _slice_width(pulse("phantom_glu_gln_3t", use), scales) for use in ("excitation", "refocusing")
    )
    best = scales[(excited * refocused**2).argmax()]
    text = document("phantom_glu_gln_3t")
    stated = float(re.search(r"signal peaks near ([\d.]+)", text)[1])
    assert stated == pytest.approx(best, abs=0.021)
    assert f"{100 * (1 - stated):.0f} % low" in text


def _slice_width(played: Interval, scales: np.ndarray) -> np.ndarray:
    """Return the integral of the profile over the offset by B1: |Mxy| of an excitation, |b|^2 of a refocusing pulse."""
    samples = played.b1_hz.numpy()
    step = len(samples) // 300
    b1_hz = samples[: len(samples) // step * step].reshape(-1, step).mean(1)
    dwell_s, offset_hz = played.dwell_s * step, np.linspace(-4000, 4000, 401)
    a = np.ones((len(scales), len(offset_hz)), dtype=complex)
    b = np.zeros_like(a)
    for amplitude in b1_hz:
        driven = amplitude * scales[:, None]
        field = np.sqrt(abs(driven) ** 2 + offset_hz**2) + 1e-30
        turn = math.pi * field * dwell_s
        ca = np.cos(turn) - 1j * offset_hz / field * np.sin(turn)
        cb = -1j * driven / field * np.sin(turn)
        a, b = ca * a - np.conj(cb) * b, cb * a + np.conj(ca) * b
    return (2 * np.abs(a * b) if played.use == "excitation" else np.abs(b) ** 2).sum(1)


def test_peaks_and_displacements_are_those_of_the_built_sequence() -> None:
    played = pulse("invivo_glu_gln_3t", "refocusing")
    peak_hz, gradient = float(played.b1_hz.abs().max()), float(played.gradient_hz_per_m.abs().max())
    text, study = document("invivo_glu_gln_3t"), protocol("invivo_glu_gln_3t")
    assert f"{gradient * 1e-3:.1f} kHz/m" in text
    for ppm, pattern in ((1.3, r"kHz/m = ([\d.]+) mm"), (2.35, r"is displaced by ([\d.]+) mm")):
        shift_hz = (study.sequence.params.slice_carrier_ppm - ppm) * study.spectrometer_frequency_hz * 1e-6
        assert float(re.search(pattern, text)[1]) == pytest.approx(1e3 * shift_hz / gradient, abs=0.051)
    phantom = document("phantom_glu_gln_3t")
    assert f"The {peak_hz:.0f} Hz of the refocusing pulses ({hz_to_tesla(peak_hz) * 1e6:.1f} uT) are" in phantom
    assert f"{peak_hz / 500:.2f} V_ref" in phantom


# --- Text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PROTOCOLS / f"{name}.md" for name in NAMES], ids=NAMES)
def test_examples_run(path: Path) -> None:
    result = doctest.testfile(str(path), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_no_document_licenses_a_scan_or_claims_hardware(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "othing here licenses a scan" in text
    assert re.search(r"[Nn]o file of seqgen has been played on (a|such a) ", text)


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.stem for path in DOCUMENTS])
def test_links_and_options_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (path.parent / target).is_file(), target
    commands = re.findall(r"seqgen ([a-z-]+)((?: [^`\n#&]+)?)", "\n".join(_code(text)))
    for command, rest in commands:
        shown = CliRunner().invoke(main, [command, "--help"])
        assert shown.exit_code == 0, command
        for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest):
            assert option in shown.output, f"{command} {option}"
    assert commands


def _code(text: str) -> list[str]:
    """Return what stands in back quotes or is indented as a command."""
    return re.findall(r"`(seqgen [^`]+)`", text) + re.findall(r"^ {4,}(seqgen .*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["phantom_glu_gln_3t", "invivo_glu_gln_3t_ge"])
def test_init_hands_the_document_out_and_overwrites_none(name: str, tmp_path: Path) -> None:
    output = tmp_path / "mine.yaml"
    done = CliRunner().invoke(main, ["init", name, "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine.md").read_text(encoding="utf-8") == document(name)
    output.unlink()
    refused = CliRunner().invoke(main, ["init", name, "-o", str(output)])
    assert refused.exit_code == 2
    assert "mine.md" in refused.output
    assert not output.exists()
