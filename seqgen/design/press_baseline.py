"""The plain PRESS that a design has to beat: the best echo times of a full grid, refined by descents.

The loss has several local optima over TE1 and TE2, and one descent finds the nearest. So the whole range is searched in
steps finer than anything J does (2 ms against 1/(2J) of tens of ms), and the lowest minima of the grid are starts.
The receiver needs no search: each loss is independent of its phase, or minimises over it in closed form.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from seqgen.design.echo_times import TE_SCALE_S, EchoTimeLimits
from seqgen.design.evaluate import Evaluator, Metrics
from seqgen.design.forward import PlayedShot
from seqgen.errors import InputError
from seqgen.provenance import Progress

TE_TOTAL_MAX_S = 0.16
"""Longest TE1 + TE2 that is searched, s."""
GRID_STEP_S = 2e-3
"""Step of the grid in either echo time, s."""
_SAME_S = 1e-3
"""Descents that end no further apart than this in either echo time have found one optimum, s."""
_BOX_STEPS = 2
"""A descent stays within so many steps of where it begins; it begins anew where it ends at that edge."""
_MOST_BOXES = 8
_SPECTRA_AT_ONCE = 1000
"""Timings times members whose losses are computed together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalOptimum:
    """Echo times from which no small step lowers the loss."""

    te1_s: float
    """First echo time, s."""
    te2_s: float
    """Second echo time, s."""
    loss: float
    """Loss there."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimingResult:
    """The best plain PRESS."""

    te1_s: float
    """First echo time, s, on the raster."""
    te2_s: float
    """Second echo time, s, on the raster."""
    metrics: Metrics
    """What it reaches."""
    optima: tuple[LocalOptimum, ...]
    """Every distinct local optimum that was found, as its descent left it (off the raster), best first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimingRegion:
    """Echo times that are searched: none below its minimum, and together no longer than a limit."""

    te_min_s: tuple[float, float]
    """Shortest (TE1, TE2), s."""
    total_max_s: float
    """Longest TE1 + TE2, s."""

    def __post_init__(self) -> None:
        if not sum(self.te_min_s) <= self.total_max_s:
            raise InputError(
                f"Plain PRESS is searched up to TE1 + TE2 = {self.total_max_s * 1e3:g} ms, but its shortest is "
                f"{sum(self.te_min_s) * 1e3:g} ms. Shorten its pulses or crushers."
            )

    def axes_s(self, step_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return TE1 and TE2 of a grid of equal steps from the minimum, s."""
        room_s = self.total_max_s - sum(self.te_min_s)
        steps = np.arange(math.floor(room_s / step_s + 1e-9) + 1) * step_s
        return self.te_min_s[0] + steps, self.te_min_s[1] + steps

    def room_s(self, te1_s: float) -> float:
        """Return how far TE2 can rise above its minimum with a TE1, s."""
        return self.total_max_s - te1_s - self.te_min_s[1]


def optimise_timing(
    problem: Evaluator,
    *,
    te_min_s: tuple[float, float],
    te_raster_s: float,
    step_s: float = GRID_STEP_S,
    total_max_s: float = TE_TOTAL_MAX_S,
    refine: int = 10,
    progress: Progress | None = None,
) -> TimingResult:
    """Return the plain PRESS timing with the smallest loss: a grid over both echo times, then descents (L-BFGS-B).

    A pulse alone has no times: its template's own hard pulse is what is to be beaten.

    Args:
        problem: From `evaluator`, on a plain template.
        te_min_s: Shortest (TE1, TE2), s.
        te_raster_s: Raster of each echo time, s.
        step_s: Step of the grid, s, from the minimum.
        total_max_s: Longest TE1 + TE2, s.
        refine: Most descents: from the best local minima of the grid.
        progress: Called after each TE1 of the grid and each descent.

    Raises:
        InputError: If the shortest TE1 + TE2 is above `total_max_s`.
        LossNotFinite: If the loss cannot be computed somewhere on the grid.
    """
    if not problem.model.has_echo_times:
        with torch.no_grad():
            _, metrics = problem.loss_and_metrics(None, torch.tensor(0.0), torch.tensor(0.0))
        return TimingResult(te1_s=0.0, te2_s=0.0, metrics=metrics, optima=())
    te_max_s = problem.spec.te_max_s
    region = TimingRegion(
        te_min_s=te_min_s, total_max_s=total_max_s if te_max_s is None else min(total_max_s, te_max_s)
    )
    te1_s, te2_s = region.axes_s(step_s)
    steps = len(te1_s) + refine
    losses = grid_losses(problem, region, step_s, None if progress is None else lambda done, _: progress(done, steps))
    optima: list[LocalOptimum] = []
    for count, (row, column) in enumerate(local_minima(losses)[:refine]):
        optima.append(_descend(problem, region, (float(te1_s[row]), float(te2_s[column])), step_s))
        if progress is not None and count < refine - 1:
            progress(len(te1_s) + count + 1, steps)
    if progress is not None:
        progress(steps, steps)
    found = _distinct(optima)
    limits = EchoTimeLimits(
        te1_min_s=te_min_s[0], te2_sides=((te_min_s[1], 0.0),), raster_s=te_raster_s, te_max_s=te_max_s
    )
    rounded = limits.on_raster(found[0].te1_s, found[0].te2_s)
    with torch.no_grad():
        _, metrics = problem.loss_and_metrics(None, *(torch.tensor(te, dtype=torch.float64) for te in rounded))
    return TimingResult(te1_s=rounded[0], te2_s=rounded[1], metrics=metrics, optima=found)


def grid_losses(
    problem: Evaluator, region: TimingRegion, step_s: float, progress: Progress | None = None
) -> np.ndarray:
    """Return the loss at every TE1 and TE2 of a grid, shape (n, n); infinite where the two are too long together.

    All TE2 of one TE1 go together: the state after the first refocusing pulse is theirs in common.
    """
    te1_s, te2_s = region.axes_s(step_s)
    losses = np.full((len(te1_s), len(te2_s)), math.inf)
    at_once = max(1, _SPECTRA_AT_ONCE // len(problem.weight))
    for row, first_s in enumerate(te1_s):
        count = len(te2_s) - row
        for start in range(0, count, at_once):
            some = slice(start, min(start + at_once, count))
            with torch.no_grad():
                shot = PlayedShot(
                    b1_hz=None,
                    te1_s=torch.tensor(first_s, dtype=torch.float64),
                    te2_s=torch.tensor(te2_s[some], dtype=torch.float64),
                )
                losses[row, some] = problem.loss([shot]).numpy()
        if progress is not None:
            progress(row + 1, len(te1_s))
    return losses


def local_minima(losses: np.ndarray) -> list[tuple[int, int]]:
    """Return (row, column) of the finite points that none of their eight neighbours is below, the lowest first."""
    padded = np.pad(losses, 1, constant_values=math.inf)
    n, m = losses.shape
    neighbours = [
        padded[1 + down : 1 + down + n, 1 + right : 1 + right + m]
        for down, right in itertools.product((-1, 0, 1), repeat=2)
        if down or right
    ]
    lowest = np.isfinite(losses) & np.all([losses <= other for other in neighbours], axis=0)
    return sorted(((int(row), int(column)) for row, column in np.argwhere(lowest)), key=lambda at: float(losses[at]))


def _descend(problem: Evaluator, region: TimingRegion, te_s: tuple[float, float], step_s: float) -> LocalOptimum:
    """Return where descents from a grid point end: the local optimum beside it."""
    found = LocalOptimum(te1_s=te_s[0], te2_s=te_s[1], loss=math.inf)
    for _ in range(_MOST_BOXES):
        found, at_edge = _descend_in_box(problem, region, (found.te1_s, found.te2_s), _BOX_STEPS * step_s)
        if not at_edge:
            break
    return found


def _descend_in_box(
    problem: Evaluator, region: TimingRegion, te_s: tuple[float, float], half_s: float
) -> tuple[LocalOptimum, bool]:
    """Return the end of one descent, and whether it stopped at an edge of its box inside the region.

    Variables: TE1, and the part of the way from the shortest TE2 to the longest that TE1 leaves, both scaled.
    """
    least_s, scale = region.te_min_s, TE_SCALE_S / region.total_max_s
    part = half_s / max(region.room_s(te_s[0]), half_s)
    x0 = np.array([te_s[0], (te_s[1] - least_s[1]) / max(region.room_s(te_s[0]), 1e-9) * region.total_max_s])
    widest = np.array([[least_s[0], region.total_max_s - least_s[1]], [0.0, region.total_max_s]]) / TE_SCALE_S
    x0 = np.clip(x0 / TE_SCALE_S, *widest.T)
    half = np.array([half_s, part * region.total_max_s]) / TE_SCALE_S
    box = np.clip(np.stack([x0 - half, x0 + half], 1), widest[:, :1], widest[:, 1:])

    def seconds(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        te1_s = x[0] * TE_SCALE_S
        return te1_s, least_s[1] + x[1] * scale * (region.total_max_s - least_s[1] - te1_s)

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        variables = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        loss, _ = problem.loss_and_metrics(None, *seconds(variables))
        (gradient,) = torch.autograd.grad(loss, variables)
        return float(loss.detach()), gradient.numpy()

    result = minimize(value_and_gradient, x0, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": 30})
    te1_s, te2_s = (float(te) for te in seconds(torch.tensor(result.x, dtype=torch.float64)))
    edge_of_box = np.abs(box - result.x[:, None]) < 1e-9
    edge_of_region = np.abs(box - widest) < 1e-9
    at_edge = bool((edge_of_box & ~edge_of_region).any())
    return LocalOptimum(te1_s=te1_s, te2_s=te2_s, loss=float(result.fun)), at_edge


def _distinct(optima: list[LocalOptimum]) -> tuple[LocalOptimum, ...]:
    """Return one of each group of optima that are the same, the best first."""
    kept: list[LocalOptimum] = []
    for one in sorted(optima, key=lambda optimum: optimum.loss):
        if all(max(abs(one.te1_s - other.te1_s), abs(one.te2_s - other.te2_s)) > _SAME_S for other in kept):
            kept.append(one)
    return tuple(kept)
