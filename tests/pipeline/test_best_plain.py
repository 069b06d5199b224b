"""The plain sequence of a sweep: searched once, and for every design the same to the last digit."""

import json
from dataclasses import replace

import pytest

from seqgen.pipeline import baseline, design_problem
from seqgen.pipeline.baseline import best_plain
from seqgen.pipeline.study import load_study


class Silent:
    """Says nothing."""

    def say(self, text):
        pass

    def progress(self, label):
        return lambda done, total: None


@pytest.fixture
def quiet():
    return Silent()


@pytest.fixture
def searched(monkeypatch):
    """Problems that the baseline was searched for, each in a coarse grid."""
    genuine, calls = baseline.optimise_timing, []

    def coarse(problem, **options):
        calls.append(problem)
        return genuine(problem, step_s=0.04, refine=1, **options)

    monkeypatch.setattr(baseline, "optimise_timing", coarse)
    monkeypatch.setattr(design_problem, "DESIGN_POSITIONS_PER_SLICE", 1)
    monkeypatch.setattr(design_problem, "RESULT_POSITIONS_PER_SLICE", 2)
    return calls


def with_design(study, **changes):
    return replace(study, protocol=replace(study.protocol, design=replace(study.protocol.design, **changes)))


def test_designs_of_one_loss_share_a_baseline_to_the_last_digit(study, quiet, searched, tmp_path):
    first = best_plain(study, quiet, tmp_path)
    alone = best_plain(study, quiet)
    assert alone == first
    assert len(searched) == 2
    others = (
        {"duration_s": 0.01, "te1_s": 0.03, "te2_s": 0.03, "b1_max_hz": 500.0, "iterations": 9, "starts": 4},
        {"parameters": "steps", "knot_spacing_s": 1e-3, "start": "hard", "carrier_ppm": 2.4, "optimise_offset": True},
    )
    for changes in others:
        assert best_plain(with_design(study, **changes), quiet, tmp_path) == first
        assert best_plain(with_design(study, **changes), quiet) == first
    assert len(searched) == 4  # those without a folder
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("changes", [{"signal_price": 0.03}, {"b1_scales": (0.9, 1.1)}, {"window_ppm": (2.3, 2.4)}])
def test_another_loss_or_ensemble_is_searched_anew(study, quiet, searched, tmp_path, changes):
    first = best_plain(study, quiet, tmp_path)
    other = best_plain(with_design(study, **changes), quiet, tmp_path)
    assert other.metrics.loss != first.metrics.loss
    assert (len(searched), len(list(tmp_path.iterdir()))) == (2, 2)


def test_what_the_file_of_a_baseline_is_known_by(study, quiet, searched, tmp_path, monkeypatch):
    """Scanner, frequency, shift of water, T2, longest TE and versions: each is another file."""
    protocol = study.protocol
    metabolites = dict(protocol.sample.metabolites)
    metabolites["Gln"] = replace(metabolites["Gln"], t2_s=0.5)
    others = (
        study,
        replace(study, protocol=replace(protocol, scanner=replace(protocol.scanner, rf_ringdown_s=4e-5))),
        replace(study, protocol=replace(protocol, spectrometer_frequency_hz=123.25e6)),
        replace(study, protocol=replace(protocol, water_shift_ppm=4.78)),
        replace(study, protocol=replace(protocol, sample=replace(protocol.sample, metabolites=metabolites))),
        with_design(study, te_max_s=0.1),
    )
    for number, other in enumerate(others, 1):
        best_plain(other, quiet, tmp_path)
        best_plain(other, quiet, tmp_path)
        assert (len(searched), len(list(tmp_path.iterdir()))) == (number, number)
    monkeypatch.setattr(baseline, "versions", lambda: {"torch": "0"})
    best_plain(study, quiet, tmp_path)
    assert len(searched) == len(others) + 1


def test_other_pulses_of_the_sequence_are_another_baseline(study, quiet, searched, tmp_path):
    choice = study.protocol.sequence

    def with_params(**changes):
        params = replace(choice.params, **changes)
        return replace(study, protocol=replace(study.protocol, sequence=replace(choice, params=params)))

    first = best_plain(study, quiet, tmp_path)
    assert best_plain(with_params(refocusing_duration_s=0.007), quiet, tmp_path) != first
    assert len(searched) == 2


@pytest.mark.parametrize(
    "damage", [lambda text: text[:40], lambda text: text.replace("te1_s", "te9_s"), lambda _: "[]"]
)
def test_a_damaged_file_is_searched_anew(study, quiet, searched, tmp_path, damage):
    first = best_plain(study, quiet, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(damage(path.read_text()))
    assert best_plain(study, quiet, tmp_path) == first
    assert len(searched) == 2
    assert json.loads(path.read_text())["baseline"]["te1_s"] == first.te1_s


def test_a_file_of_another_identity_under_the_same_name_is_not_taken(study, quiet, searched, tmp_path):
    best_plain(study, quiet, tmp_path)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["identity"] = content["identity"][:12] + "0" * 52
    path.write_text(json.dumps(content))
    best_plain(load_study(study.path), quiet, tmp_path)
    assert len(searched) == 2
