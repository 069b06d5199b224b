"""`seqgen evaluate`: a design file computed anew, found out where it says too much, and beyond its ensemble."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.design.artefact import load_design
from seqgen.pipeline import design_problem
from seqgen.pipeline.evaluate import evaluate, nominal_spectra


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """As many positions as the study of these tests was designed with."""
    monkeypatch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 4)


def call(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def changed(finished, tmp_path, change):
    """A copy of the design file with something changed."""
    content = json.loads((finished[0] / "design.json").read_text())
    change(content)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(content))
    return path


def test_a_design_file_is_what_it_says(study, finished, tmp_path):
    path, plot = finished[0] / "design.json", tmp_path / "map.png"
    done = call(study.path, path, "--json", "--b0-offsets-hz", "30,0", "--b1-scales", "1,0.8", "--plot", plot)
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    stored = json.loads(path.read_text())
    for name, entry in (("edited", stored["metrics"]), ("press", stored["press"]["metrics"])):
        assert found[name]["stored"] == entry
        recomputed = found[name]["recomputed"]
        assert recomputed["loss"] == pytest.approx(entry["loss"], rel=1e-9)
        assert recomputed["contamination"] == pytest.approx(entry["contamination"], rel=1e-9)
        # One interferer: another concentration scales its share.
        ratio = found["amounts"]["Gln"]
        assert found[name]["at_sample_concentrations"]["contamination"] == pytest.approx(
            ratio * recomputed["contamination"], rel=1e-9
        )
        # The ensemble of this study is the nominal member alone.
        assert found["map"]["b0_offsets_hz"] == [0.0, 30.0]
        assert found["map"]["b1_scales"] == [0.8, 1.0]
        # Positions are spread for all members of a row: with few of them the numbers move a little.
        for key in ("signal", "contamination"):
            assert found["map"][f"{name}_{key}"][1][0] == pytest.approx(recomputed[key], abs=8e-3)
    signal, contamination = (np.array(found["map"][f"edited_{key}"]) for key in ("signal", "contamination"))
    other = np.hypot(signal - signal[1, 0], contamination - contamination[1, 0])
    assert other[[0, 0, 1], [0, 1, 1]].min() > 0.02, other
    assert found["amounts"]["Gln"] == (
        study.protocol.sample.metabolites["Gln"].concentration_mm
        / study.protocol.sample.metabolites["Glu"].concentration_mm
    )
    pulse = stored["shots"][0]["pulses"][0]
    checks = {check["name"]: check for check in found["checks"]}
    size_hz = np.hypot(pulse["b1_re_hz"], pulse["b1_im_hz"])
    assert checks["pulse amplitude"]["value"] == pytest.approx(size_hz.max())
    assert checks["pulse energy"]["value"] == pytest.approx((size_hz**2).sum() * pulse["dwell_s"])
    assert checks["pulse energy"]["limit"] == study.protocol.design.energy_max_hz2_s
    assert "failed" not in {check["status"] for check in found["checks"]}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_tables_for_the_terminal(study, finished):
    done = call(study.path, finished[0] / "design.json", "--members")
    assert done.exit_code == 0, done.output
    metrics = load_design(finished[0] / "design.json").metrics
    row = next(line.split() for line in done.output.splitlines() if line.startswith("contamination  "))
    assert row[1:3] == [f"{metrics.contamination:.6f}"] * 2
    assert "Of 1 members least signal" in done.output
    row = next(line.split() for line in done.output.splitlines() if " pulse amplitude  " in line)
    assert (row[0], float(row[3])) == (
        "passed",
        pytest.approx(load_design(finished[0] / "design.json").pulse.peak_hz, rel=1e-5),
    )
    head, row = (line.split() for line in done.output.splitlines()[-2:])
    table = dict(zip(head, map(float, row), strict=True))
    assert (table["b0_hz"], table["b1_scale"], table["weight"]) == (0.0, 1.0, 1.0)
    assert table["contamination"] == pytest.approx(metrics.contamination, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["metrics"].update(loss=content["metrics"]["loss"] - 1e-5), "loss of the design is"),
        (
            lambda content: content["press"]["metrics"].update(loss=content["press"]["metrics"]["loss"] + 1e-5),
            "loss of TE-optimised PRESS is",
        ),
    ],
)
def test_a_file_that_says_too_much_is_found_out(study, finished, tmp_path, change, words):
    done = call(study.path, changed(finished, tmp_path, change))
    assert done.exit_code == 1
    assert f"changed.json: the {words}" in done.output
    assert "when recomputed. The file was changed, or another version" in done.output


def scaled(factor):
    """A change of all samples."""

    def change(content):
        pulse = content["shots"][0]["pulses"][0]
        for key in ("b1_re_hz", "b1_im_hz"):
            pulse[key] = [factor * value for value in pulse[key]]

    return change


def one_less(content):
    """The last sample gone."""
    pulse = content["shots"][0]["pulses"][0]
    for key in ("b1_re_hz", "b1_im_hz"):
        pulse[key].pop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (scaled(3.0), r"pulse energy \S+ Hz\^2 s, limit 1000 \(rounding"),
        (one_less, r"pulse duration 19\.98 ms, limit 20 \(equal\)"),
    ],
)
def test_a_pulse_beyond_its_limits_is_found_out_and_not_built(study, finished, tmp_path, change, words):
    path = changed(finished, tmp_path, change)
    done = call(study.path, path)
    assert done.exit_code == 1
    assert re.search(rf"changed\.json: the loss .*{words}.* The file was changed", done.output)
    assert "\nfailed      pulse " in done.output
    refused = CliRunner().invoke(
        main, ["build", str(study.path), "--design", str(path), "-o", str(tmp_path / "scan_files")]
    )
    assert refused.exit_code == 1
    assert re.search(rf"changed\.json was not built: .*{words}.* The file was changed", refused.output)
    assert "bug" not in refused.output
    assert not list(tmp_path.rglob("*.seq"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["shots"][0]["pulses"][0].update(places=["te1"]), "pulses at te1 in shot 1, but .* at"),
        (
            lambda content: content["shots"].append({**content["shots"][0], "pulses": []}),
            "the shots edited, plain, but",
        ),
        (lambda content: content.update(combine="difference"), "combine 'difference', but .* wants 'joint'"),
        (
            lambda content: content["problem"].update({"design.duration_s": 0.03}),
            "was designed for another problem than that of .*: design.duration_s is 0.03 in the design, 0.02 in the",
        ),
    ],
)
@pytest.mark.parametrize("command", ["build", "evaluate"])
def test_a_design_of_another_kind_or_protocol_is_refused(study, finished, tmp_path, command, change, words):
    path = changed(finished, tmp_path, change)
    given = ["--design", path, "-o", tmp_path] if command == "build" else [path]
    refused = CliRunner().invoke(main, [command, str(study.path), *map(str, given)])
    assert refused.exit_code == 2, refused.output
    assert re.search(rf"changed\.json .*{words}", refused.output)
    assert not list(tmp_path.glob("*.seq"))


def test_a_figure_needs_two_of_each(study, finished, tmp_path):
    done = call(study.path, finished[0] / "design.json", "--b1-scales", "1", "--plot", tmp_path / "map.png")
    assert done.exit_code == 2
    assert "draws a map over b1_scales, but got [1.0]. Give at least two" in done.output


def test_conditions_that_are_no_numbers_are_refused(study, finished):
    done = call(study.path, finished[0] / "design.json", "--b1-scales", "0.8;1")
    assert done.exit_code == 2
    assert "numbers with commas" in done.output


def test_the_spectra_of_the_figure_have_the_signals_of_the_metrics(study, finished):
    """The target's area in the window is in the real part, so its ratio of design to PRESS is that of the metrics."""
    path = finished[0] / "design.json"
    found = evaluate(study, path)
    edited, press = nominal_spectra(study, found.design, (1.9, 2.7))
    low, high = study.protocol.design.window_ppm
    for panel, reached in ((edited, found.edited), (press, found.press)):
        inside = (panel.ppm >= low) & (panel.ppm <= high)
        area = panel.curves["Glu"][inside].sum()
        assert area > 0
        ratio = abs(panel.curves["Gln"][inside].sum()) / area
        assert ratio <= reached.metrics.area_contamination * 1.03
        assert panel.curves["Glu"].max() < 1.0
    assert f"{found.design.te1_s * 1e3:.1f} + {found.design.te2_s * 1e3:.1f} ms" in edited.title
    areas = [panel.curves["Glu"][(panel.ppm >= low) & (panel.ppm <= high)].sum() for panel in (edited, press)]
    assert areas[0] / areas[1] == pytest.approx(
        found.edited.metrics.area_signal / found.press.metrics.area_signal, rel=0.02
    )
