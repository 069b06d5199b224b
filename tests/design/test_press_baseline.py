"""The plain PRESS to beat: its grid against single evaluations, its optima against a loss whose optima are known."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from press_files import random_pulse

from seqgen.design.evaluate import Evaluator, Metrics
from seqgen.design.forward import PlayedShot
from seqgen.design.press_baseline import (
    GRID_STEP_S,
    TE_TOTAL_MAX_S,
    TimingRegion,
    grid_losses,
    local_minima,
    optimise_timing,
)
from seqgen.errors import InputError

RASTER_S = 2e-5
EVERY = {"window": 0.6, "spectrum": 0.3, "state": 0.2, "crlb": 0.4, "correlation": 0.5, "suppression": 0.7}
ENSEMBLE = {"b0_offsets_hz": (-8.0, 8.0), "linewidth_offsets_hz": (0.0, 2.0)}


def seconds(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


@pytest.fixture(scope="module")
def full_problem(design_spec, design_problem):
    """Every loss at once over an ensemble of fields and linewidths."""

    def make(edited, **changes):
        spec = design_spec(loss=EVERY, state="I4x + I5x", suppressed=("NAA",), **(ENSEMBLE | changes))
        return design_problem(spec, edited=edited, names=("Glu", "Gln", "NAA"))

    return make


@pytest.mark.parametrize("aggregate", ["mean", "soft_worst", "worst"])
def test_the_grid_is_the_loss_point_by_point(full_problem, minimum_te_s, aggregate):
    problem = full_problem(edited=False, aggregate=aggregate)
    region = TimingRegion(te_min_s=minimum_te_s[False], total_max_s=0.06)
    losses = grid_losses(problem, region, 0.013)
    te1_s, te2_s = region.axes_s(0.013)
    assert losses.shape == (len(te1_s), len(te2_s)) == (3, 3)
    for row, first_s in enumerate(te1_s):
        for column, second_s in enumerate(te2_s):
            if first_s + second_s > 0.06:
                assert math.isinf(losses[row, column])
                continue
            with torch.no_grad():
                expected = problem.loss_and_metrics(None, *seconds(first_s, second_s))[1].loss
            assert losses[row, column] == pytest.approx(expected, rel=1e-11, abs=1e-11)
    assert np.isfinite(losses).sum() == 6


def shot_of(b1_hz, *te_s):
    te1_s, te2_s = seconds(*te_s)
    return PlayedShot(b1_hz=b1_hz, te1_s=te1_s, te2_s=te2_s)


@pytest.mark.parametrize("mode", ["complex", "magnitude"])
def test_no_loss_depends_on_the_receiver_phase(full_problem, mode):
    """Every term alone, every aggregate of them: all amplitudes turned by one phase."""
    problem = full_problem(edited=True, spectrum_mode=mode)
    with torch.no_grad():
        amplitude = problem.amplitudes(shot_of(random_pulse().b1_hz, 0.041, 0.034))
        for name in EVERY:
            alone = replace(problem, spec=replace(problem.spec, loss={name: 1.0}))
            before = alone._terms([amplitude])[name].item()
            for phase_rad in (0.3, 2.0, -math.pi / 2, math.pi):
                turned = {key: value * np.exp(1j * phase_rad) for key, value in amplitude.items()}
                assert alone._terms([turned])[name].item() == pytest.approx(before, rel=1e-9, abs=1e-9)


def test_a_phase_of_one_metabolite_alone_counts(full_problem):
    """The test above can fail: turned against the others, the target is another fit."""
    problem = full_problem(edited=True)
    problem = replace(problem, spec=replace(problem.spec, loss={"crlb": 1.0}))
    with torch.no_grad():
        amplitude = problem.amplitudes(shot_of(random_pulse().b1_hz, 0.041, 0.034))
        turned = amplitude | {"Glu": amplitude["Glu"] * 1j}
        assert abs(problem._terms([turned])["crlb"].item() - problem._terms([amplitude])["crlb"].item()) > 1e-3


class Wells:
    """A problem with a known loss: wells of some depth at known echo times, each a local optimum."""

    weight = torch.ones(1, dtype=torch.float64)
    model = SimpleNamespace(has_echo_times=True)
    spec = SimpleNamespace(te_max_s=None)

    def __init__(self, *wells):
        self.wells = wells

    def loss(self, shots):
        (shot,) = shots
        assert shot.b1_hz is None
        return self.depth(*torch.broadcast_tensors(shot.te1_s, shot.te2_s))

    def depth(self, te1_s, te2_s):
        loss = torch.zeros_like(te1_s)
        for te1, te2, depth, width_s in self.wells:
            loss = loss - depth * torch.exp(-((te1_s - te1) ** 2 + (te2_s - te2) ** 2) / (2 * width_s**2))
        return loss

    def loss_and_metrics(self, b1_hz, te1_s, te2_s):
        loss = self.loss([PlayedShot(b1_hz=b1_hz, te1_s=te1_s, te2_s=te2_s)])
        return loss, Metrics(loss=float(loss.detach()), signal=1.0, contamination=0.0, terms={})


def test_both_known_optima_are_found_and_the_deeper_one_is_taken():
    """The shallow well is wide and near the minimum: a descent from there, or a coarse grid, ends in it."""
    shallow, deep = (0.03013, 0.02591, 1.0, 0.012), (0.0871, 0.0489, 1.5, 0.003)
    calls = []
    found = optimise_timing(
        Wells(shallow, deep),
        te_min_s=(0.012, 0.010),
        te_raster_s=RASTER_S,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert len(found.optima) == 2
    for optimum, (te1_s, te2_s, depth, _) in zip(found.optima, (deep, shallow), strict=True):
        assert optimum.te1_s == pytest.approx(te1_s, abs=5e-6)
        assert optimum.te2_s == pytest.approx(te2_s, abs=5e-6)
        assert optimum.loss == pytest.approx(-depth, abs=1e-5)
    assert (found.te1_s, found.te2_s) == (pytest.approx(0.0871, abs=RASTER_S), pytest.approx(0.0489, abs=RASTER_S))
    assert found.te1_s / RASTER_S == pytest.approx(round(found.te1_s / RASTER_S), abs=1e-6)
    assert found.metrics.loss == pytest.approx(-1.5, abs=1e-4)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]
    assert len(calls) >= len(TimingRegion(te_min_s=(0.012, 0.010), total_max_s=0.16).axes_s(2e-3)[0])


class Valley(Wells):
    """A narrow valley askew to the grid, which has many minima along it; it falls to one optimum."""

    def depth(self, te1_s, te2_s):
        return ((te2_s - 0.45 * te1_s - 0.0207) / 2e-3) ** 2 + ((te1_s - 0.07) / 0.03) ** 2


def test_a_descent_goes_on_where_its_box_ends():
    problem, region = Valley(), TimingRegion(te_min_s=(0.012, 0.010), total_max_s=TE_TOTAL_MAX_S)
    starts = local_minima(grid_losses(problem, region, 6e-3))
    te1_s, _ = region.axes_s(6e-3)
    assert max(abs(te1_s[row] - 0.07) for row, _ in starts) > 2 * 6e-3
    found = optimise_timing(problem, te_min_s=(0.012, 0.010), te_raster_s=RASTER_S, step_s=6e-3)
    assert len(found.optima) == 1
    assert found.optima[0].te1_s == pytest.approx(0.07, abs=2e-5)
    assert found.optima[0].te2_s == pytest.approx(0.45 * 0.07 + 0.0207, abs=2e-5)


@pytest.mark.parametrize(
    ("well", "expected"),
    [((0.0, 0.0), (0.012, 0.010)), ((0.0, 0.05), (0.012, 0.05)), ((0.3, 0.2), None), ((0.15, 0.03), None)],
)
def test_optima_at_the_edge_of_the_region(well, expected):
    """Shortest echo times, and the longest TE1 + TE2: beyond that nothing is searched."""
    found = optimise_timing(Wells((*well, 1.0, 0.1)), te_min_s=(0.012, 0.010), te_raster_s=RASTER_S)
    best = found.optima[0]
    assert best.te1_s + best.te2_s <= TE_TOTAL_MAX_S + 1e-9
    if expected is None:
        # On the line TE1 + TE2 = limit the nearest point of the well.
        excess = (sum(well) - TE_TOTAL_MAX_S) / 2
        expected = (well[0] - excess, well[1] - excess)
    assert (best.te1_s, best.te2_s) == (pytest.approx(expected[0], abs=2e-5), pytest.approx(expected[1], abs=2e-5))


def test_local_minima_by_brute_force():
    losses = np.random.default_rng(0).normal(size=(7, 7))
    losses[np.add.outer(np.arange(7), np.arange(7)) > 6] = math.inf
    expected = []
    for row in range(7):
        for column in range(7 - row):
            around = losses[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if losses[row, column] == around.min():
                expected.append((losses[row, column], row, column))
    assert local_minima(losses) == [(row, column) for _, row, column in sorted(expected)]
    assert len(expected) > 3


def test_the_grid_covers_everything_up_to_its_limit():
    region = TimingRegion(te_min_s=(0.01206, 0.0094), total_max_s=TE_TOTAL_MAX_S)
    te1_s, te2_s = region.axes_s(GRID_STEP_S)
    assert GRID_STEP_S <= 2e-3
    assert (te1_s[0], te2_s[0]) == (0.01206, 0.0094)
    assert TE_TOTAL_MAX_S - GRID_STEP_S < te1_s[-1] + te2_s[0] <= TE_TOTAL_MAX_S + 1e-9
    assert np.allclose(np.diff(te1_s), GRID_STEP_S)
    with pytest.raises(InputError, match="searched up to TE1 \\+ TE2 = 160 ms, but its shortest is 170 ms"):
        TimingRegion(te_min_s=(0.1, 0.07), total_max_s=TE_TOTAL_MAX_S)


def test_plain_press_is_at_most_the_best_of_a_finer_grid(design_spec, design_problem, minimum_te_s):
    """Real spins, up to 60 ms: no point of a grid of half the step is below the result by more than rounding."""
    problem = design_problem(design_spec(), edited=False)
    assert isinstance(problem, Evaluator)
    least = minimum_te_s[False]
    result = optimise_timing(problem, te_min_s=least, te_raster_s=RASTER_S, total_max_s=0.06)
    fine = grid_losses(problem, TimingRegion(te_min_s=least, total_max_s=0.06), GRID_STEP_S / 2)
    assert result.optima[0].loss <= fine.min() + 1e-9
    assert result.metrics.loss <= fine.min() + 1e-3
    assert [one.loss for one in result.optima] == sorted(one.loss for one in result.optima)
    for te_s, least_s in zip((result.te1_s, result.te2_s), least, strict=True):
        assert te_s >= least_s
        assert te_s / RASTER_S == pytest.approx(round(te_s / RASTER_S), abs=1e-6)
