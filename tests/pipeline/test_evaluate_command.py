"""`seqgen evaluate`: a design file computed anew, found out where it says too much, and beyond its ensemble."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.design.artefact import load_design
from seqgen.pipeline import design as design_link
from seqgen.pipeline.evaluate import PulseLimits, evaluate, nominal_spectra


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """As many positions as the study of these tests was designed with."""
    monkeypatch.setattr(design_link, "RESULT_POSITIONS_PER_SLICE", 4)


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
    assert found["pulses"][0]["peak_hz"] == pytest.approx(np.hypot(pulse["b1_re_hz"], pulse["b1_im_hz"]).max())
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_tables_for_the_terminal(study, finished):
    done = call(study.path, finished[0] / "design.json", "--members")
    assert done.exit_code == 0, done.output
    metrics = load_design(finished[0] / "design.json").metrics
    row = next(line.split() for line in done.output.splitlines() if line.startswith("contamination  "))
    assert row[1:3] == [f"{metrics.contamination:.6f}"] * 2
    assert "Of 1 members least signal" in done.output
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
    assert "when recomputed. Run `seqgen design` again." in done.output


def test_a_pulse_above_its_limit_is_found_out(study, finished, tmp_path):
    def stronger(content):
        pulse = content["shots"][0]["pulses"][0]
        for key in ("b1_re_hz", "b1_im_hz"):
            pulse[key] = [3 * value for value in pulse[key]]

    done = call(study.path, changed(finished, tmp_path, stronger))
    assert done.exit_code == 1
    assert "EXCEEDED" in done.output
    assert "the pulse of shot 1, echo_top has peak" in done.output


@pytest.mark.parametrize(("peak_hz", "energy_hz2_s", "kept"), [(300, 900, True), (301, 900, False), (300, 901, False)])
def test_either_limit_counts(peak_hz, energy_hz2_s, kept):
    row = PulseLimits(name="a", peak_hz=peak_hz, peak_limit_hz=300, energy_hz2_s=energy_hz2_s, energy_limit_hz2_s=900)
    assert row.kept == kept


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
