"""One small study, run once: two metabolites, few averages, three iterations, one member of the ensemble."""

import re
from pathlib import Path

import pytest

from seqgen.design import press_baseline
from seqgen.pipeline import baseline, design_problem
from seqgen.pipeline.run import run_all
from seqgen.pipeline.study import load_study

PROTOCOL = Path(__file__).resolve().parents[2] / "protocols/phantom_glu_gln_3t.yaml"
SUBSTITUTIONS = (
    (r"    (NAA|Cr|Cho|mI|Lac): .*\n", ""),
    (r"b0_offsets_hz: \[.*?\]", "b0_offsets_hz: [0]"),
    (r"b1_scales: \[.*?\]", "b1_scales: [1.0]"),
    (r"starts: \d+", "starts: 1"),
    (r"iterations: \d+", "iterations: 3"),
    (r"averages: 32", "averages: 4"),
    (r"phase_cycle: exor_16", "phase_cycle: two_step"),
    (r"water_reference_averages: \d+", "water_reference_averages: 2"),
    (r"n_coils: \d+", "n_coils: 2"),
    (r"frequency_drift_hz: [\d.]+", "frequency_drift_hz: 0.5"),
    (r"shift_error_ppm: [\d.]+", "shift_error_ppm: 0"),
    (r"j_error_relative: [\d.]+", "j_error_relative: 0"),
    (r"t2_error_relative: [\d.]+", "t2_error_relative: 0"),
)


def tiny_protocol(path):
    """The protocol of the package with a smaller study in it; every substitution must hit."""
    text = PROTOCOL.read_text()
    for pattern, replacement in SUBSTITUTIONS:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    path.write_text(text)
    return path


class Quiet:
    """Collects what a command would print."""

    def __init__(self):
        self.lines = []
        self.finished = []

    def say(self, text):
        self.lines.append(text)

    def progress(self, label):
        return lambda done, total: self.finished.append(label) if done == total else None


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return load_study(tiny_protocol(tmp_path_factory.mktemp("study") / "tiny.yaml"))


@pytest.fixture(scope="session")
def finished(study, tmp_path_factory):
    """(folder, what `run_all` returned, reporter) of one whole run with a coarse search for plain PRESS."""
    folder, reporter = tmp_path_factory.mktemp("run"), Quiet()
    genuine = press_baseline.optimise_timing

    def coarse(*args, **options):
        return genuine(*args, step_s=0.1, refine=1, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "optimise_timing", coarse)
        patch.setattr(design_problem, "DESIGN_POSITIONS_PER_SLICE", 2)
        patch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 4)
        result = run_all(study, folder, reporter, time="2026-01-01T00:00:00Z")
    return folder, result, reporter
