"""`seqgen sweep` in one process: what is computed, what is not again, what is said of it."""

import csv
import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from sweep_study import tiny_study

from seqgen.cli import main
from seqgen.design import press_baseline
from seqgen.design.artefact import load_design
from seqgen.design.checkpoint import Checkpoint
from seqgen.design.evaluate import Evaluator
from seqgen.design.press_baseline import LocalOptimum
from seqgen.pipeline import baseline, design_problem, sweep_point
from seqgen.pipeline import sweep as sweep_link
from seqgen.pipeline.sweep_table import report_sweep, table_text
from seqgen.report.pareto import non_dominated
from seqgen.simulate import slices
from seqgen.sweep_file import load_sweep

BODY = "vary:\n  seed: [1, 2]\n  design.b1_max_hz: [300, 5000]\n"
"""Half of the points ask for more than the scanner plays."""


RESPONSES = {}
"""Responses of slice-selective pulses, the same in every point: computed once."""


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few positions, a fixed answer for plain PRESS in the time of one evaluation, no profile computed twice."""
    response = slices.response

    def remembered(interval, offset_hz):
        key = (interval.b1_hz.numpy().tobytes(), interval.dwell_s, interval.carrier_hz, offset_hz.numpy().tobytes())
        if key not in RESPONSES:
            RESPONSES[key] = response(interval, offset_hz)
        return RESPONSES[key]

    monkeypatch.setattr(slices, "response", remembered)
    genuine = press_baseline.optimise_timing
    monkeypatch.setattr(
        baseline, "optimise_timing", lambda *args, **options: genuine(*args, step_s=0.2, refine=1, **options)
    )
    monkeypatch.setattr(
        press_baseline,
        "_descend",
        lambda problem, region, te_s, step_s: LocalOptimum(te1_s=te_s[0], te2_s=te_s[1], loss=0.0),
    )
    monkeypatch.setattr(design_problem, "DESIGN_POSITIONS_PER_SLICE", 1)
    monkeypatch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 2)


@pytest.fixture
def computed(monkeypatch):
    """Names of the protocols that `make_design` was called for."""
    genuine, calls = sweep_point.make_design, []

    def counting(study, *args, **options):
        calls.append(study.path.parent.name)
        return genuine(study, *args, **options)

    monkeypatch.setattr(sweep_point, "make_design", counting)
    return calls


def sweep(*arguments):
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def test_failed_points_are_recorded_and_finished_ones_stay(tmp_path, computed):
    path = tiny_study(tmp_path, BODY)
    points = load_sweep(path).points
    good = [point for point in points if point.values["design.b1_max_hz"] == 300]
    done = sweep(path, "--workers", 1)
    assert done.exit_code == 1, done.output
    assert computed == [point.id for point in good]
    assert "tiny: 4 points, 0 of them on disk, 4 to compute" in done.output
    assert "[4/4]" in done.output
    for point in points:
        folder = tmp_path / "study" / "points" / point.id
        record = json.loads((folder / "record.json").read_text())
        if point in good:
            assert "error" not in record
            assert load_design(folder / "design.json").name.endswith(point.id)
        else:
            assert "siemens_prisma_3t reaches" in record["error"]
            assert f"{point.id} failed: " in done.output
    again = sweep(path, "--workers", 1)
    assert "4 of them on disk, 0 to compute" in again.output
    assert len(computed) == 2
    retried = sweep(path, "--workers", 1, "--retry")
    assert "2 of them on disk, 2 to compute" in retried.output
    assert len(computed) == 2
    assert retried.exit_code == 1
    looked_at = sweep(path, "--report-only")
    assert looked_at.exit_code == 1
    assert "failed: " in looked_at.output


def test_a_point_made_by_hand_is_the_same_and_a_larger_grid_computes_the_rest(tmp_path, computed):
    path = tiny_study(tmp_path, "vary: {seed: [1]}\n")
    assert sweep(path, "-o", tmp_path / "out").exit_code == 0
    (folder,) = (tmp_path / "out" / "points").iterdir()
    by_hand = tmp_path / "by_hand.json"
    done = CliRunner().invoke(main, ["design", str(folder / "protocol.yaml"), "-o", str(by_hand)])
    assert done.exit_code == 0, done.output
    assert by_hand.read_bytes() == (folder / "design.json").read_bytes()
    tiny_study(tmp_path, "vary: {seed: [1, 3]}\n")
    assert sweep(path, "-o", tmp_path / "out", "--workers", 1).exit_code == 0
    assert len(computed) == 2
    tiny_study(tmp_path, "fixed: {design.linewidth_hz: 5}\nvary: {seed: [1, 3]}\n")
    only = sweep(path, "-o", tmp_path / "out", "--report-only", "--json")
    assert only.exit_code == 0
    assert [row["status"] for row in json.loads(only.output)["points"]] == ["open", "open"]
    assert len(computed) == 2


def test_an_edited_or_damaged_point_is_computed_again(tmp_path, computed):
    path = tiny_study(tmp_path, "vary: {seed: [1, 2]}\n")
    assert sweep(path, "--workers", 1).exit_code == 0
    first, second = (tmp_path / "study" / "points" / point.id for point in load_sweep(path).points)
    good = (first / "design.json").read_bytes(), (second / "design.json").read_bytes()
    (first / "design.json").write_bytes(good[0][:1000])
    content = json.loads(good[1])
    content["provenance"]["made_from"]["protocol"]["sha256"] = "0" * 64
    (second / "design.json").write_text(json.dumps(content))
    assert sweep(path, "--workers", 1).exit_code == 0
    assert len(computed) == 4
    assert good == ((first / "design.json").read_bytes(), (second / "design.json").read_bytes())


def test_ctrl_c_leaves_a_point_that_goes_on(tmp_path, monkeypatch):
    path = tiny_study(tmp_path, "fixed: {design.iterations: 6}\nvary: {seed: [1, 2]}\n")
    unbroken = tmp_path / "unbroken"
    assert sweep(path, "-o", unbroken, "--workers", 1).exit_code == 0
    genuine, calls = Evaluator.loss_of_shots, []

    def pressed(self, shots):
        if shots[0].b1_hz is not None and shots[0].te1_s.requires_grad:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return genuine(self, shots)

    monkeypatch.setattr(Evaluator, "loss_of_shots", pressed)
    stopped = sweep(path, "--workers", 1)
    assert stopped.exit_code == 130, stopped.output
    assert "2 points have no result" in stopped.output
    first, second = (point.id for point in load_sweep(path).points)
    rows = json.loads(sweep(path, "--report-only", "--json").output)["points"]
    assert [(row["point"], row["status"], "loss" in row) for row in rows] == [
        (first, "begun", False),
        (second, "open", False),
    ]
    assert sweep(path, "--workers", 1).exit_code == 0
    for point in (first, second):
        ends = [folder / "points" / point / "design.json" for folder in (tmp_path / "study", unbroken)]
        assert ends[0].read_bytes() == ends[1].read_bytes()


def test_a_checkpoint_that_does_not_replay_is_left(tmp_path, monkeypatch, computed):
    """As of another machine: the same search with other last digits."""
    path = tiny_study(tmp_path, "vary: {seed: [1]}\n")
    assert sweep(path, "--workers", 1).exit_code == 0
    (folder,) = (tmp_path / "study" / "points").iterdir()
    good = (folder / "design.json").read_bytes()
    (folder / "design.json").unlink()
    study = sweep_point.load_study(folder / "protocol.yaml")
    other = Checkpoint(folder / "design.checkpoint.npz", {"protocol": study.source.sha256, "seed": study.protocol.seed})
    other.record.append(np.ones(31), 0.0, np.zeros(31), {})
    other.save()
    assert sweep(path, "--workers", 1).exit_code == 0
    assert len(computed) == 3  # the first run, the refused resumption, the new beginning
    assert (folder / "design.json").read_bytes() == good


def test_an_error_nobody_foresaw_stops_one_point_alone(tmp_path, monkeypatch):
    genuine = sweep_point.make_design

    def breaking(study, *args, **options):
        if study.protocol.seed == 1:
            raise RuntimeError("no memory")
        return genuine(study, *args, **options)

    monkeypatch.setattr(sweep_point, "make_design", breaking)
    path = tiny_study(tmp_path, "vary: {seed: [1, 2]}\n")
    done = sweep(path, "--workers", 1)
    assert done.exit_code == 1
    assert "failed: RuntimeError: no memory" in done.output
    monkeypatch.setattr(sweep_point, "make_design", genuine)
    assert sweep(path, "--workers", 1, "--retry").exit_code == 0


def test_the_table_comes_from_the_files(tmp_path):
    path = tiny_study(tmp_path, "vary:\n  seed: [1, 2]\n  design.loss: [{window: 1.0}, {window: 1, crlb: 0.5}]\n")
    printed = sweep(path, "--workers", 1)
    assert printed.exit_code == 0, printed.output
    study, folder = load_sweep(path), tmp_path / "study"
    report = report_sweep(study, folder)
    assert printed.output.endswith(table_text(report) + "\n")
    with (folder / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["design.loss"] for row in rows] == ["{window: 1.0}", "{window: 1, crlb: 0.5}"] * 2
    for row in rows:
        made = load_design(folder / "points" / row["point"] / "design.json")
        assert float(row["signal"]) == made.metrics.signal
        assert float(row["loss"]) == made.metrics.loss
        assert float(row["press.contamination"]) == made.press_metrics.contamination
        assert float(row["te_s"]) == pytest.approx(made.te1_s + made.te2_s, abs=1e-9)
        assert float(row["energy_hz2_s"]) == made.pulse.energy_hz2_s
        assert {name: float(row[f"terms.{name}"]) for name in made.metrics.terms} == dict(made.metrics.terms)
        assert (row["terms.crlb"] == "") == (row["design.loss"] == "{window: 1.0}")
        bounds, plain = made.metrics.bounds, made.press_metrics.bounds
        ratios = {name: float(row[f"ratio.{name}"]) for name in bounds}
        assert ratios == pytest.approx({name: bounds[name] / plain[name] for name in bounds}, rel=1e-12)
        wanted_product = np.prod(list(ratios.values())) if bounds else None
        assert (float(row["ratio.product"]) if bounds else None) == pytest.approx(wanted_product)
        assert not [name for name in row if name.startswith(("problem", "combine", "history", "landscape"))]
    bounded = [f"pareto_te_s_bounds_{name}_energy_hz2_s.png" for name in study_bounds(folder, rows)]
    assert [path.name for path in report.fronts] == ["pareto_contamination_signal.png", *bounded]
    costs = [[float(row["contamination"]), -float(row["signal"])] for row in rows]
    on_front = non_dominated(np.array(costs))
    wanted = tuple(row["point"] for row, on in zip(rows, on_front, strict=True) if on)
    assert report.fronts[folder / "pareto_contamination_signal.png"] == wanted


def study_bounds(folder, rows):
    """Metabolites with a bound, in the order of the design files."""
    found = {}
    for row in rows:
        metrics = json.loads((folder / "points" / row["point"] / "design.json").read_text())["metrics"]
        found |= metrics["bounds"]
    assert found
    return list(found)


def test_plots_as_the_study_asks(tmp_path):
    body = "vary:\n  seed: [1, 2]\npareto:\n  - {x: te_s, y: loss, colour: seed}\n"
    path = tiny_study(tmp_path, body)
    assert sweep(path, "--report-only").exit_code == 0  # nothing on disk: an empty table, no plot
    assert [entry.name for entry in (tmp_path / "study").iterdir()] == ["table.csv"]
    assert sweep(path, "--workers", 1).exit_code == 0
    assert (tmp_path / "study" / "pareto_te_s_loss.png").read_bytes().startswith(b"\x89PNG")
    tiny_study(tmp_path, body.replace("y: loss", "y: lost"))
    refused = sweep(path, "--report-only")
    assert refused.exit_code == 2
    assert f"{path}:7: 'pareto' has y 'lost', but the columns are" in refused.output


def test_a_plot_of_what_can_be_no_column_is_refused_before_anything_is_computed(tmp_path, computed):
    cases = {
        ("lost", "window"): "but the columns are",
        ("bounds.Gnl", "crlb"): "but the sample holds",
        ("ratio.Gnl", "crlb"): "but the sample holds",
        ("ratio.Gln", "window"): "but no point has the loss crlb",
    }
    for (name, loss), words in cases.items():
        body = f"fixed: {{seed: 1}}\nvary: {{design.starts: [1]}}\npareto: {{x: te_s, y: {name}}}\n"
        path = tiny_study(tmp_path, body)
        base = tmp_path / "base.yaml"
        base.write_text(re.sub(r"loss: {.*?}", f"loss: {{{loss}: 1.0}}", base.read_text()))
        refused = sweep(path, "--workers", 1)
        assert refused.exit_code == 2
        assert f"{path}:6: 'pareto' has " in refused.output
        assert f"{name!r}, {words}" in refused.output
    assert not computed


def test_a_plot_that_cannot_be_drawn_keeps_no_other_from_being_drawn(tmp_path):
    body = "vary: {seed: [1, 2]}\npareto:\n  - {x: te_s, y: loss, logarithmic: [loss]}\n  - {x: te_s, y: signal}\n"
    refused = sweep(tiny_study(tmp_path, body), "--workers", 1)
    assert refused.exit_code == 2
    assert "loss is drawn on a logarithmic scale, but is -" in refused.output
    assert (tmp_path / "study" / "pareto_te_s_signal.png").exists()


def test_a_study_of_bad_protocols_alone_is_refused(tmp_path, computed):
    path = tiny_study(tmp_path, "vary:\n  design.b1_max_hz: [5000, 6000]\n")
    refused = sweep(path, "--workers", 1)
    assert refused.exit_code == 2
    assert "no point of the study has a protocol that can be used" in refused.output
    assert "siemens_prisma_3t reaches" in refused.output
    assert not computed


def test_init_hands_out_a_study_with_its_protocol(tmp_path):
    output = tmp_path / "mine.yaml"
    done = CliRunner().invoke(main, ["init", "sweep_glu_gln_3t", "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert f"seqgen sweep {output}" in done.output
    assert len(load_sweep(output).points) == 12
    own = tmp_path / "phantom_glu_gln_3t.yaml"
    own.write_text("# mine\n" + own.read_text())
    again = CliRunner().invoke(main, ["init", "sweep_glu_gln_3t", "-o", str(tmp_path / "second.yaml")])
    assert again.exit_code == 0, again.output
    assert own.read_text().startswith("# mine\n")


def test_an_address_without_scheduler_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_link, "CONNECT_TIMEOUT_S", 0.5)
    path = tiny_study(tmp_path, "vary: {seed: [1, 2]}\n")
    for address in ("nowhere", "tcp://127.0.0.1:1"):
        refused = sweep(path, "--cluster", address)
        assert refused.exit_code == 2
        assert f"There is no Dask scheduler at {address}" in refused.output
