"""The search of the fit: bounds and priors of the nonlinear parameters, optimisation, error bounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from seqgen.axes import FloatArray
from seqgen.model.information import crlb
from seqgen.mrs.fit_model import COMMON, Model, Point, coarse_start, residual_jacobian, solve_linear
from seqgen.mrs.fit_result import FitSettings

_BOUND_TOLERANCE = 1e-3
"""A parameter within this part of its range from a bound counts as at the bound."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bounds:
    """Bounds, priors and scales of the nonlinear parameters; those with equal bounds are left out of the search."""

    low: FloatArray
    high: FloatArray
    scale: FloatArray
    prior_sd: FloatArray
    """Gaussian prior of the individual shifts, infinite for the rest."""

    @staticmethod
    def of(settings: FitSettings, frequency_hz: float, n_individual: int) -> "Bounds":
        """Return the bounds in the units of theta (fit_model.COMMON, then individual shifts in Hz)."""
        per_ppm = 1e-6 * frequency_hz
        shift, own = settings.max_shift_ppm * per_ppm, settings.max_individual_shift_ppm * per_ppm
        width, own_sd = settings.max_linewidth_hz, settings.individual_shift_sd_ppm * per_ppm
        high = np.array([math.inf, settings.max_delay_s, width, width**2, shift] + [own] * n_individual)
        low = np.array([-math.inf, -settings.max_delay_s, 0.0, 0.0, -shift] + [-own] * n_individual)
        return Bounds(
            low=low,
            high=high,
            scale=np.array([0.1, 2e-5, 1.0, 10.0, 0.5] + [own_sd] * n_individual),
            prior_sd=np.array([math.inf] * len(COMMON) + [own_sd] * n_individual),
        )

    @property
    def free(self) -> NDArray[np.bool_]:
        """Which parameters are searched for, shape (n_theta,)."""
        return np.asarray(self.high > self.low)

    def full(self, free_theta: FloatArray) -> NDArray[np.float64]:
        """Return theta from its free part; the others are 0."""
        theta = np.zeros(self.low.size)
        theta[self.free] = free_theta
        return theta

    @property
    def prior_information(self) -> NDArray[np.float64]:
        """1/sd^2: the Gaussian priors, and the variance of a uniform distribution within the bounds (phase: a turn)."""
        half = np.where(np.isfinite(self.high), (self.high - self.low) / 2, math.pi)
        return np.asarray(1 / self.prior_sd[self.free] ** 2 + 3 / half[self.free] ** 2)

    def reached(self, theta: FloatArray, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of parameters at a bound; a width of 0 counts only if the other width is 0 too."""
        near = _BOUND_TOLERANCE * (self.high - self.low)
        labels = ["phase", "delay", "lorentz width", "gauss width", "shift", *(f"shift of {name}" for name in names)]
        found = []
        for i in np.flatnonzero(self.free & np.isfinite(self.high)):
            width = i in (2, 3)
            if theta[i] > self.high[i] - near[i] or (theta[i] < self.low[i] + near[i] and not width):
                found.append(labels[i])
        if theta[2] < near[2] and theta[3] < near[3]:
            found.append("linewidth")
        return tuple(found)


def optimise(model: Model, bounds: Bounds, noise_sd: float, max_evaluations: int) -> tuple[OptimizeResult, Point]:
    """Minimise misfit/noise and prior over the nonlinear parameters, from the best point of a coarse grid."""
    free = bounds.free
    prior = np.isfinite(bounds.prior_sd[free])
    prior_rows = np.diag(1 / bounds.prior_sd[free])[prior]
    points: dict[bytes, Point] = {}

    def at(x: FloatArray) -> Point:
        key = x.tobytes()
        if key not in points:
            points.clear()
            points[key] = solve_linear(model, bounds.full(x))
        return points[key]

    def residual(x: FloatArray) -> FloatArray:
        return np.concatenate((at(x).residual / noise_sd, prior_rows @ x))

    def jacobian(x: FloatArray) -> FloatArray:
        return np.concatenate((residual_jacobian(model, bounds.full(x), at(x))[:, free] / noise_sd, prior_rows))

    start = coarse_start(model, bounds.low.size, float(bounds.high[4]), float(bounds.high[2]))
    start[3] = min(9.0, 0.5 * bounds.high[3])
    inner = np.clip(start, bounds.low + 1e-3 * bounds.scale, bounds.high - 1e-3 * bounds.scale)[free]
    solution = least_squares(
        residual,
        inner,
        jac=jacobian,
        bounds=(bounds.low[free], bounds.high[free]),
        x_scale=bounds.scale[free],
        max_nfev=max_evaluations,
        ftol=1e-10,
        xtol=1e-10,
        gtol=1e-10,
    )
    return solution, solve_linear(model, bounds.full(solution.x))


def amplitude_errors(
    model: Model, theta: FloatArray, point: Point, bounds: Bounds, noise_sd: float, names: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return CRLBs and correlation of the amplitudes from the full Jacobian, baseline projected out."""
    nonlinear = model.derivatives(theta, point.amplitude)[:, bounds.free]
    columns = model.without_baseline(np.concatenate((model.columns(theta), nonlinear), axis=1))
    n = len(names)
    prior = np.concatenate((np.zeros(n), bounds.prior_information))
    labels = [*names, *(f"nonlinear {i}" for i in range(nonlinear.shape[1]))]
    found = crlb(torch.from_numpy(columns), noise_sd, prior_information=torch.from_numpy(prior), names=labels)
    return found.sd[:n].numpy(), found.correlation[:n, :n].numpy()


def require_distinct(model: Model, bounds: Bounds, names: tuple[str, ...], noise_sd: float) -> None:
    """Refuse columns that are empty in the range or copies of one another, by name."""
    theta = bounds.full(np.zeros(int(bounds.free.sum())))
    theta[2] = min(3.0, bounds.high[2])
    crlb(torch.from_numpy(model.without_baseline(model.columns(theta))), noise_sd, names=names)
