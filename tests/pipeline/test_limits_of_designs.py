"""Limits through the commands: kept by a design, verified before it is written, told by `check`, refused by `build`."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.design import press_baseline
from seqgen.design.press_baseline import LocalOptimum
from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.pipeline import baseline, design_check, design_problem
from seqgen.pipeline import design as design_link
from seqgen.pipeline.build import build_edited
from seqgen.pipeline.design import make_design
from seqgen.pipeline.study import load_scan_study, load_study


class Quiet:
    """Collects what a command would print."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    def progress(self, label):
        return lambda done, total: None


SCAN = """\
schema_version: 1
name: scan
scanner: siemens_prisma_3t
spectrometer_frequency_mhz: 123.2
temperature_c: 20
water_shift_ppm: 4.80
exposure: {EXPOSURE}
sequence: {name: press, te1_ms: 20, te2_ms: 20, tr_ms: 2000, averages: 2, voxel_size_mm: [20, 20, 20]}
"""


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few positions, and the best point of a coarse grid for plain PRESS."""
    genuine = press_baseline.optimise_timing
    monkeypatch.setattr(
        baseline, "optimise_timing", lambda *args, **options: genuine(*args, step_s=0.01, refine=1, **options)
    )
    monkeypatch.setattr(
        press_baseline,
        "_descend",
        lambda problem, region, te_s, step_s: LocalOptimum(te1_s=te_s[0], te2_s=te_s[1], loss=0.0),
    )
    monkeypatch.setattr(design_problem, "DESIGN_POSITIONS_PER_SLICE", 1)
    monkeypatch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 2)


@pytest.fixture
def changed(study, tmp_path):
    """A study with further lines in its design and at its top level."""

    def make(design="", top=""):
        path = tmp_path / "study.yaml"
        text = study.path.read_text().replace("  duration_ms: 20", design + "  duration_ms: 20")
        path.write_text(text + "\n" + top)
        return load_study(path)

    return make


DESIGN = "  bandwidth_max_hz: 500\n  te_max_ms: 76\n  b1_max_at: largest_scale\n"


def test_a_design_within_all_limits(changed, tmp_path):
    """The file's own numbers: peak, energy, band by an FFT, TE; and the file that is built of it passes."""
    made_study = changed(DESIGN, "exposure: {b1_rms_max_ut: 0.49}\n")
    reporter, path = Quiet(), tmp_path / "design.json"
    design = make_design(made_study, path, reporter)
    left = next(line for line in reporter.lines if "leaves the pulse" in line)
    energy_max = float(re.search(r"B1\+rms over 10 s leaves the pulse ([\d.]+) Hz\^2 s", left)[1])
    content = json.loads(path.read_text())
    (shot,) = content["shots"]
    (pulse,) = shot["pulses"]
    b1 = np.array(pulse["b1_re_hz"]) + 1j * np.array(pulse["b1_im_hz"])
    assert 0.5 * energy_max < (np.abs(b1) ** 2).sum() * 2e-5 <= energy_max * 1.001 < 1000
    spectrum = np.abs(np.fft.fft(b1, 64 * b1.size)) ** 2
    inside = np.abs(np.fft.fftfreq(spectrum.size, 2e-5)) <= 250
    assert spectrum[inside].sum() / spectrum.sum() >= 0.99
    assert shot["te1_s"] + shot["te2_s"] <= 0.076 + 1e-9
    assert content["press"]["te1_s"] + content["press"]["te2_s"] <= 0.076 + 1e-9
    built = build_edited(made_study, design, path, tmp_path / "out")
    shown = CliRunner().invoke(main, ["check", str(built.paths[0]), "--protocol", str(made_study.path), "--json"])
    assert shown.exit_code == 0, shown.output
    rows = {row["name"]: row for row in json.loads(shown.output)["checks"]}
    assert rows["B1+rms over the worst 10 s"]["status"] == "passed"
    assert rows["B1+rms over the worst 10 s"]["limit"] == pytest.approx(0.49)


def test_a_designed_excitation_is_the_pulse_that_is_limited(study, tmp_path):
    path = tmp_path / "study.yaml"
    text = (
        study.path.read_text()
        .replace("place: echo_top", "place: excitation")
        .replace("name: press", "name: isis_press")
    )
    path.write_text(text + "\nexposure: {b1_rms_max_ut: 0.705}\n")
    reporter = Quiet()
    design = make_design(load_study(path), tmp_path / "design.json", reporter)
    left = next(line for line in reporter.lines if "leaves the pulse" in line)
    # The limit binds: the pulse takes what is left.
    assert design.pulse.energy_hz2_s == pytest.approx(float(re.search(r"([\d.]+) Hz\^2 s", left)[1]), rel=1e-3)


@pytest.mark.parametrize("factor", [2.5, 0.0])
def test_a_design_that_breaks_a_limit_is_not_written(changed, tmp_path, monkeypatch, factor):
    """A pulse as a defective search might return it: too strong, or with a step at its end."""
    genuine = design_link.optimise_pulse

    def defective(*args, **options):
        found = genuine(*args, **options)
        b1 = found.pulse.b1_hz * factor if factor else found.pulse.b1_hz.roll(500)
        (shot,) = found.shots
        pulses = {place: replace(pulse, b1_hz=b1) for place, pulse in shot.pulses.items()}
        return replace(found, shots=(replace(shot, pulses=pulses),))

    monkeypatch.setattr(design_link, "optimise_pulse", defective)
    path = tmp_path / "design.json"
    words = "pulse energy" if factor else "pulse at its ends"
    with pytest.raises(VerificationError, match=rf"The design was not written: .*{words} .*this is a bug of seqgen"):
        make_design(changed(), path, Quiet())
    assert not path.exists()


def test_a_design_that_its_file_does_not_play_is_refused(changed, tmp_path, monkeypatch):
    """The conjugate, the modulus, the carrier on the other side of water: as strong as the design, but not it."""
    made_study = changed()
    design = make_design(made_study, tmp_path / "design.json", Quiet())
    genuine = design_check._played
    for change in (
        lambda pulse: replace(pulse, b1_hz=pulse.b1_hz.conj().resolve_conj()),
        lambda pulse: replace(pulse, b1_hz=pulse.b1_hz.abs() + 0j),
        lambda pulse: replace(pulse, carrier_offset_hz=-pulse.carrier_offset_hz),
    ):

        def other(study, made, change=change):
            (shot,) = made.shots
            pulses = {place: change(pulse) for place, pulse in shot.pulses.items()}
            return genuine(study, replace(made, shots=(replace(shot, pulses=pulses),)))

        monkeypatch.setattr(design_check, "_played", other)
        with pytest.raises(VerificationError, match=r"The design was not written: pulse in the file [\d.]+ of peak"):
            design_check.require_limits(made_study, design)


def test_steps_that_do_not_fill_the_pulse_are_refused_with_their_line(study, tmp_path):
    path = tmp_path / "study.yaml"
    text = study.path.read_text().replace("knot_spacing_ms: 0.5 ", "parameters: steps\n  knot_spacing_ms: 0.7 ")
    path.write_text(text)
    line = next(k for k, words in enumerate(text.splitlines(), 1) if "knot_spacing_ms: 0.7" in words)
    with pytest.raises(InputError, match=rf"{line}: 'design\.knot_spacing_ms' must be .* Nearest: 800 us"):
        load_study(path)
    path.write_text(text.replace("knot_spacing_ms: 0.7 ", "knot_spacing_ms: 0.8 "))
    assert load_study(path).protocol.design.knot_spacing_s == pytest.approx(8e-4)


@pytest.mark.parametrize(
    ("design", "top", "error", "message"),
    [
        ("  bandwidth_max_hz: 60\n", "", InputError, r"bandwidth_max_hz must be at least 11\d\.\d Hz"),
        (
            "  te_max_ms: 75\n  te1_us: 30000\n  te2_us: 29000\n",
            "",
            InputError,
            r"te2 must be at least 29\.46 ms",
        ),
        ("", "exposure: {b1_rms_max_ut: 0.4}\n", HardwareLimitError, r"Raise tr_s to at least \d\.\d+ s"),
    ],
)
def test_what_cannot_be_had_is_refused_before_the_search(study, tmp_path, design, top, error, message):
    path = tmp_path / "study.yaml"
    text = study.path.read_text()
    if "te1_us" in design:
        text = re.sub(r"  te[12]_ms: .*\n", "", text)
    path.write_text(text.replace("  duration_ms: 20", design + "  duration_ms: 20") + "\n" + top)
    reporter = Quiet()
    with pytest.raises(error, match=message):
        make_design(load_study(path), tmp_path / "design.json", reporter)
    assert reporter.lines == []


def scan(tmp_path, exposure, profile=None):
    path = tmp_path / "scan.yaml"
    text = SCAN.replace("{EXPOSURE}", exposure)
    path.write_text(text if profile is None else text.replace("scanner: siemens_prisma_3t", f"scanner: {profile}"))
    return path


def test_a_scan_without_a_design_is_checked_too(tmp_path):
    """Above its B1+rms no file is written; just at it, one is."""
    runner = CliRunner()
    free = runner.invoke(main, ["build", str(scan(tmp_path, "{}")), "-o", str(tmp_path / "free")])
    assert free.exit_code == 0, free.output
    file = next((tmp_path / "free").glob("*.seq"))
    checks = runner.invoke(main, ["check", str(file), "--scanner", "siemens_prisma_3t", "--json"])
    rms_ut = next(
        row["value"] for row in json.loads(checks.output)["checks"] if row["name"] == "B1+rms over the worst 10 s"
    )
    for factor, code in ((0.999, 2), (1.001, 0)):
        limited = scan(tmp_path, f"{{b1_rms_max_ut: {factor * rms_ut}}}")
        out = tmp_path / f"limited_{code}"
        done = runner.invoke(main, ["build", str(limited), "-o", str(out)])
        assert done.exit_code == code, done.output
        assert out.exists() == (code == 0)
        if code:
            assert "was not written: B1+rms over the worst 10 s" in done.output


PROFILE = """\
schema_version: 1
sources:
  own: {citation: "Made up for a test", certainty: own}
scanners:
"""


def test_sar_of_a_profile_with_a_coefficient(tmp_path):
    """A made-up coefficient: at the limit of normal mode for the whole body; first level allows twice as much."""
    from importlib.resources import files

    table = files("seqgen_data").joinpath("scanners.yaml").read_text(encoding="utf-8")
    prisma = table[table.index("  siemens_prisma_3t:") : table.index("  siemens_skyra_3t:")]
    runner, profile = CliRunner(), tmp_path / "mine.yaml"

    def states(coefficient, mode):
        row = f"    sar_whole_body_w_per_kg_per_ut2: {{value: {coefficient}, certainty: own, source: [own]}}\n"
        profile.write_text(PROFILE + prisma.rstrip() + "\n" + row)
        path = scan(tmp_path, f"{{operating_mode: {mode}}}", "mine.yaml")
        study = load_scan_study(path)
        assert study.exposure.stated_sar[0].max_w_per_kg == {"normal": 4.0, "first_level": 8.0}[mode]
        return runner.invoke(main, ["build", str(path), "-o", str(tmp_path / f"{coefficient}_{mode}")])

    # 0.4 uT: 6 min are the shorter straw.
    assert states(1.0, "normal").exit_code == 0
    refused = states(30.0, "normal")
    assert refused.exit_code == 2
    assert "was not written: SAR of the whole body over the worst" in refused.output
    limits = [
        float(value) for value in re.findall(r"SAR of the whole body over the worst 6 min ([\d.]+)", refused.output)
    ]
    assert len(limits) == 1
    allowed = 30.0 * 3.0 / limits[0]
    assert states(round(allowed, 3), "normal").exit_code == 2
    done = states(round(allowed, 3), "first_level")
    assert done.exit_code == 0, done.output
    file = next((tmp_path / f"{round(allowed, 3)}_first_level").glob("*.seq"))
    shown = runner.invoke(main, ["check", str(file), "--protocol", str(tmp_path / "scan.yaml")])
    assert re.search(r"passed +SAR of the whole body over the worst 6 min +3 +limit 4 +W/kg", shown.output), (
        shown.output
    )
    assert re.search(r"not checked +SAR of the head over the worst 10 s", shown.output)
    assert "licenses a scan" in shown.output
