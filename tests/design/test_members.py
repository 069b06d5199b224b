"""Members of an ensemble one by one, against spectra and sums written out in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from press_files import random_pulse

from seqgen.design.forward import PlayedShot
from seqgen.design.members import members_of
from seqgen.errors import InputError

ENSEMBLE = {"b0_offsets_hz": (-10.0, 5.0), "b1_scales": (0.8, 1.1), "linewidth_offsets_hz": (0.0, 3.0)}
NAMES = ("Glu", "Gln", "NAA")
AMOUNTS = {"Gln": 0.25, "NAA": 0.5}


def problem_and_lines(design_problem, spec):
    problem = design_problem(spec, names=NAMES)
    te_s = (torch.tensor(value, dtype=torch.float64) for value in (spec.te1_s, spec.te2_s))
    shot = PlayedShot(b1_hz=random_pulse(250.0).b1_hz, **dict(zip(("te1_s", "te2_s"), te_s, strict=True)))
    with torch.no_grad():
        metrics = problem.loss_of_shots([shot])[1]
        return problem, [problem.amplitudes(shot)], members_of(problem, [shot]), metrics


@pytest.fixture(scope="module")
def whole(design_problem, design_spec):
    return problem_and_lines(design_problem, design_spec(interferers=("Gln", "NAA"), **ENSEMBLE))


def spectra_of(problem, lines, member, width):
    """Spectra in the window of one member at one linewidth, from the Lorentzian written out."""
    offset_hz = problem.window.offset_hz.numpy()
    spectra = {}
    for name in NAMES:
        line_hz = np.concatenate([shot.model.transition_hz.numpy() for shot in problem.model.shots[name]])
        response = 1 / (np.pi * width + 2j * np.pi * (offset_hz - line_hz[:, None]))
        spectra[name] = lines[0][name][member].numpy() @ response
    return spectra


def test_every_member_from_its_own_spectra(whole):
    problem, lines, members, _ = whole
    for k, (b0_hz, b1_scale, offset_hz) in enumerate(itertools.product(*ENSEMBLE.values())):
        assert (float(members.b0_hz[k]), float(members.b1_scale[k])) == (b0_hz, b1_scale)
        assert float(members.linewidth_hz[k]) == 5.0 + offset_hz
        spectra = spectra_of(problem, lines, k // 2, 5.0 + offset_hz)
        energy = {name: (np.abs(spectrum) ** 2).sum() for name, spectrum in spectra.items()}
        area = {name: np.abs(spectrum.sum()) for name, spectrum in spectra.items()}
        wanted = {
            "signal": np.sqrt(energy["Glu"] * problem.window.step_hz / float(problem.reference_energy[k])),
            "area_signal": area["Glu"] / float(problem.reference_area[k]),
        }
        for name, value in wanted.items():
            assert float(getattr(members, name)[k]) == pytest.approx(value, rel=1e-9)
        ratio = np.sqrt((energy["Gln"] + energy["NAA"]) / energy["Glu"])
        assert float(members.contamination()[k]) == pytest.approx(ratio, rel=1e-9)
        assert float(members.area_contamination()[k]) == pytest.approx(
            (area["Gln"] + area["NAA"]) / area["Glu"], rel=1e-9
        )
        assert float(members.weight[k]) == pytest.approx(1 / 8)


def test_means_are_the_metrics(whole):
    _, _, members, metrics = whole
    assert members.mean(members.signal) == pytest.approx(metrics.signal, rel=1e-12)
    assert members.mean(members.contamination()) == pytest.approx(metrics.contamination, rel=1e-12)


def test_contamination_at_other_concentrations(whole):
    """From spectra scaled by the concentrations before anything is squared or summed."""
    problem, lines, members, _ = whole
    for k in (0, 5):
        spectra = spectra_of(problem, lines, k // 2, 5.0 if k % 2 == 0 else 8.0)
        mixed = {name: amount * spectra[name] for name, amount in AMOUNTS.items()}
        energy = sum((np.abs(each) ** 2).sum() for each in mixed.values()) / (np.abs(spectra["Glu"]) ** 2).sum()
        assert float(members.contamination(AMOUNTS)[k]) == pytest.approx(np.sqrt(energy), rel=1e-9)
        area = sum(np.abs(each.sum()) for each in mixed.values()) / np.abs(spectra["Glu"].sum())
        assert float(members.area_contamination(AMOUNTS)[k]) == pytest.approx(area, rel=1e-9)


def test_an_interferer_without_a_concentration_is_refused(whole):
    with pytest.raises(InputError, match="lacks NAA"):
        whole[2].contamination({"Gln": 0.25})
