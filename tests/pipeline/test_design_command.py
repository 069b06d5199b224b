"""`seqgen design` stopped and gone on with: the file at the end is that of an unbroken run."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.design import press_baseline
from seqgen.design.artefact import load_design
from seqgen.design.evaluate import Evaluator
from seqgen.design.press_baseline import LocalOptimum
from seqgen.errors import InputError
from seqgen.pipeline import baseline, design_problem
from seqgen.pipeline import design as design_link
from seqgen.pipeline.study import load_study

ITERATIONS = 5


DESIGNS = Path(__file__).resolve().parents[2] / "data" / "designs"


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few positions, and a fixed answer for plain PRESS in the time of one evaluation."""
    genuine = press_baseline.optimise_timing
    monkeypatch.setattr(
        baseline, "optimise_timing", lambda *args, **options: genuine(*args, step_s=1.0, refine=1, **options)
    )
    monkeypatch.setattr(
        press_baseline,
        "_descend",
        lambda problem, region, te_s, step_s: LocalOptimum(te1_s=te_s[0], te2_s=te_s[1], loss=0.0),
    )
    monkeypatch.setattr(design_problem, "DESIGN_POSITIONS_PER_SLICE", 1)
    monkeypatch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 2)


@pytest.fixture(scope="module")
def protocol(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("protocol") / "study.yaml"
    text = study.path.read_text().replace("starts: 1", "starts: 2")
    path.write_text(text.replace("iterations: 3", f"iterations: {ITERATIONS}\n  start: [random, gaussian]"))
    return path


@pytest.fixture
def at_evaluation(monkeypatch):
    """Do something at the n-th evaluation of an edited pulse that counts gradients."""
    genuine = Evaluator.loss_of_shots

    def install(n, action):
        calls = []

        def patched(self, shots):
            if shots[0].b1_hz is not None and shots[0].te1_s.requires_grad:
                calls.append(1)
                if len(calls) == n:
                    changed = action(genuine(self, shots))
                    if changed is not None:
                        return changed
            return genuine(self, shots)

        monkeypatch.setattr(Evaluator, "loss_of_shots", patched)
        return calls

    return install


def press_ctrl_c(_):
    os.kill(os.getpid(), signal.SIGINT)


def design(*arguments):
    return CliRunner().invoke(main, ["design", *map(str, arguments)])


@pytest.mark.parametrize("at", [2, 6])
def test_ctrl_c_writes_the_best_and_resume_ends_as_unbroken(protocol, tmp_path, at_evaluation, at):
    unbroken, output = tmp_path / "unbroken.json", tmp_path / "design.json"
    checkpoint = tmp_path / "design.checkpoint.npz"
    done = design(protocol, "-o", unbroken)
    assert done.exit_code == 0, done.output
    assert "best found by" in done.output
    calls = at_evaluation(at, press_ctrl_c)
    stopped = design(protocol, "-o", output)
    assert len(calls) == at
    assert stopped.exit_code == 130, stopped.output
    assert "--resume goes on" in stopped.output
    assert load_design(output).status.startswith("interrupted after ")
    assert checkpoint.exists()
    at_evaluation(0, None)
    resumed = design(protocol, "-o", output, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert output.read_bytes() == unbroken.read_bytes()
    assert not checkpoint.exists()
    made = load_design(output)
    assert made.landscape.names == ("random 1", "random 2", "gaussian")
    assert [len(run) for run in made.history] == [1, 1, 1, ITERATIONS]


def test_an_interrupted_search_is_not_begun_anew_by_accident(protocol, tmp_path, at_evaluation):
    at_evaluation(3, press_ctrl_c)
    output, checkpoint = tmp_path / "design.json", tmp_path / "design.checkpoint.npz"
    assert design(protocol, "-o", output).exit_code == 130
    kept = checkpoint.read_bytes()
    at_evaluation(0, None)
    refused = design(protocol, "-o", output)
    assert refused.exit_code == 2
    assert "design.checkpoint.npz holds this very search, interrupted. Go on with --resume" in refused.output
    assert checkpoint.read_bytes() == kept
    checkpoint.unlink()
    assert design(protocol, "-o", output).exit_code == 0


def test_ctrl_c_before_the_search_has_the_exit_code_of_ctrl_c(protocol, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(design_link, "best_plain", interrupted)
    stopped = design(protocol, "-o", tmp_path / "design.json")
    assert stopped.exit_code == 130
    assert "Interrupted" in stopped.output
    assert not (tmp_path / "design.json").exists()


def test_nan_is_one_error_that_names_the_term_and_the_file(protocol, tmp_path, at_evaluation):
    def nan(found):
        loss, metrics = found
        return loss * torch.nan, replace(metrics, terms={"window": float("nan")})

    at_evaluation(5, nan)
    output = tmp_path / "design.json"
    stopped = design(protocol, "-o", output)
    assert stopped.exit_code == 2
    assert "the loss is nan (term window). " in stopped.output
    assert f"{output} holds the best pulse before that" in stopped.output
    assert "the loss is nan (term window)" in load_design(output).status
    assert [entry.name for entry in tmp_path.iterdir()] == ["design.json"]


def test_a_checkpoint_of_another_protocol_is_refused(protocol, tmp_path, at_evaluation):
    at_evaluation(3, press_ctrl_c)
    output = tmp_path / "design.json"
    assert design(protocol, "-o", output).exit_code == 130
    other = tmp_path / "other.yaml"
    other.write_text(protocol.read_text() + "\n# a word\n")
    refused = design(other, "-o", output, "--resume")
    assert refused.exit_code == 2
    assert "design.checkpoint.npz is of another protocol" in refused.output
    nothing = design(protocol, "-o", tmp_path / "new.json", "--resume")
    assert nothing.exit_code == 2
    assert "There is no checkpoint" in nothing.output


def test_files_as_starts(study, tmp_path, finished):
    """A design, arrays and a table of the same waveform are the same start; their origin is in the chain."""
    known = load_design(finished[0] / "design.json")
    b1 = known.pulse.b1_hz.numpy()
    (tmp_path / "a.json").write_bytes((finished[0] / "design.json").read_bytes())
    np.savez(tmp_path / "b.npz", b1_hz=b1, dwell_s=2e-5)
    rows = [f"{k * 2e-5:.8f},{abs(x):.12g},{np.angle(x):.12g}" for k, x in enumerate(b1)]
    (tmp_path / "c.csv").write_text("\n".join(["t_start_s,amp_Hz,phase_rad", *rows]))
    path = tmp_path / "study.yaml"
    text = study.path.read_text().replace("iterations: 3", "iterations: 1\n  start: [a.json, b.npz, c.csv]")
    path.write_text(text)
    output = tmp_path / "design.json"
    done = design(path, "-o", output)
    assert done.exit_code == 0, done.output
    made = load_design(output)
    assert made.landscape.names == ("a.json", "b.npz", "c.csv")
    assert np.ptp(made.landscape.losses) < 1e-6
    assert max(map(max, made.landscape.distances)) < 1e-5
    assert set(made.provenance.made_from) == {"protocol", "start a.json", "start b.npz", "start c.csv"}
    assert json.loads(output.read_text())["landscape"]["best_found"] == 3


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.npz", None, "cannot be read"),
        ("x.npz", b"PK\x03\x04 no zip", "cannot be read as an .npz file"),
        ("x.csv", None, "cannot be read"),
        ("x.csv", b"a,b\n1,2\n", "the first line must be t_start_s,amp_Hz,phase_rad"),
        ("x.csv", b"t_start_s,amp_Hz,phase_rad\n0,1,0\n1e-3,1,0\n", "must share the 20 ms of the pulse"),
        ("x.json", b"{}", "not a design file"),
    ],
)
def test_a_start_that_is_no_waveform_is_refused(study, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    path = tmp_path / "study.yaml"
    path.write_text(study.path.read_text().replace("iterations: 3", f"iterations: 3\n  start: {name}"))
    with pytest.raises(InputError, match=words):
        design_link.start_pulses(load_study(path))


def test_averages_that_two_conditions_cannot_share_are_refused_before_the_search(study, tmp_path):
    """Four averages are two steps of the cycle times two conditions; two are too few: nothing is searched."""
    text = study.path.read_text().replace("design:\n", "design:\n  shots: [edited, edited]\n  combine: difference\n")
    path = tmp_path / "pair.yaml"
    path.write_text(text.replace("averages: 4", "averages: 2"))
    result = design(path, "-o", tmp_path / "design.json")
    assert result.exit_code == 2
    assert "averages must be a multiple of 4 (2 steps of the phase cycle x 2 editing conditions)" in result.output
    assert not list(tmp_path.glob("*.npz"))


def test_a_sequence_that_plays_one_pulse_is_refused_several_shots_before_the_search(tmp_path):
    text = (DESIGNS / "bench_citrate_inphase.yaml").read_text()
    text = text.replace("design:\n", "design:\n  shots: [edited, edited]\n  combine: difference\n")
    (tmp_path / "bench.yaml").write_text(text)
    result = design(tmp_path / "bench.yaml", "-o", tmp_path / "design.json")
    assert result.exit_code == 2
    assert "Sequence 'pulse_acquire' plays one designed pulse" in result.output
