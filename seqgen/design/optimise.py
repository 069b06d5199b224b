"""The optimiser: random starts, exact gradients, L-BFGS-B from SciPy, and the TE-optimised PRESS to beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from seqgen.design.evaluate import Evaluator, Metrics
from seqgen.design.problem import DesignSpec
from seqgen.errors import InputError
from seqgen.provenance import Progress
from seqgen.pulse.parameterise import SplineWaveform, spline_waveform
from seqgen.pulse.waveform import RFPulse

TE_MAX_S = 0.12
"""Longest echo time that is searched, for each of the two, s."""
START_SD = 0.35
"""Standard deviation of the random spline coefficients at the start, in units of the amplitude limit."""
_TE_SCALE_S = 0.01


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimingResult:
    """The best plain PRESS."""

    te1_s: float
    """First echo time, s."""
    te2_s: float
    """Second echo time, s."""
    metrics: Metrics
    """What it reaches."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignResult:
    """The best pulse found. The caller reads `status`: not every optimisation converges."""

    pulse: RFPulse
    """The editing pulse in its carrier frame."""
    te1_s: float
    """First echo time, s, on the raster."""
    te2_s: float
    """Second echo time, s, on the raster."""
    metrics: Metrics
    """What the optimiser's own model says of it."""
    history: tuple[tuple[float, ...], ...]
    """Loss after every iteration: one tuple per start, then the final descent."""
    status: str
    """"converged", or that the iterations ran out."""


def optimise_pulse(
    problem: Evaluator,
    *,
    b1_max_hz: float,
    te_min_s: tuple[float, float],
    te_raster_s: float,
    seed: int,
    progress: Progress | None = None,
) -> DesignResult:
    """Optimise the editing pulse, and the echo times where the spec asks for it, from several random starts.

    Every start descends for a quarter of the iterations; the best of them goes on for all of them.

    Args:
        problem: From `evaluator`, on a template with editing pulse.
        b1_max_hz: The scanner's amplitude limit, Hz; the smaller of it and the spec's holds.
        te_min_s: Shortest (TE1, TE2) of the sequence, s.
        te_raster_s: Raster of each echo time, s.
        seed: Seed of the random starts.
        progress: Called after each iteration.

    Raises:
        InputError: If the spec's echo times lie below the minimum, or above `TE_MAX_S` where they are to be moved.
    """
    spec = problem.spec
    start_te = np.array([spec.te1_s, spec.te2_s])
    _require_echo_times(spec, te_min_s)
    shape = spline_waveform(
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        knot_spacing_s=spec.knot_spacing_s,
        b1_max_hz=min(spec.b1_max_hz, b1_max_hz),
        energy_max_hz2_s=spec.energy_max_hz2_s,
    )
    generator = torch.Generator().manual_seed(seed)
    screening = max(1, spec.iterations // 4) if spec.starts > 1 else 0
    total = spec.starts * screening + spec.iterations
    done = 0

    def report(iteration: int) -> None:
        if progress is not None:
            progress(min(done + iteration, total), total)

    runs = []
    for _ in range(spec.starts):
        theta = START_SD * torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64)
        x0 = np.concatenate([theta.numpy(), start_te / _TE_SCALE_S])
        if screening:
            runs.append(_descend(problem, shape, x0, te_min_s, screening, report))
            done += screening
        else:
            runs.append(_Run(loss=float("nan"), x=x0, history=(), status="not started"))
    best = min(runs, key=lambda run: run.loss) if screening else runs[0]
    final = _descend(problem, shape, best.x, te_min_s, spec.iterations, report)
    if progress is not None:
        progress(total, total)
    return _finished(problem, shape, runs, final, te_min_s=te_min_s, te_raster_s=te_raster_s)


def _require_echo_times(spec: DesignSpec, te_min_s: tuple[float, float]) -> None:
    """Refuse echo times at which the descent cannot start."""
    for name, te_s, least_s in zip(("te1", "te2"), (spec.te1_s, spec.te2_s), te_min_s, strict=True):
        if te_s < least_s - 1e-9:
            raise InputError(
                f"design: {name} must be at least {least_s * 1e3:.6g} ms (minimum of the sequence with a pulse of "
                f"{spec.duration_s * 1e3:g} ms at the echo top), but is {te_s * 1e3:.6g} ms. Raise it or shorten the "
                "pulse."
            )
        if spec.optimise_timing and te_s > TE_MAX_S:
            raise InputError(
                f"design: {name} must be at most {TE_MAX_S * 1e3:g} ms where the optimiser moves the echo times, but "
                f"is {te_s * 1e3:.6g} ms. Lower it, or set optimise_timing to false."
            )


def _finished(
    problem: Evaluator,
    shape: SplineWaveform,
    runs: Sequence["_Run"],
    final: "_Run",
    *,
    te_min_s: tuple[float, float],
    te_raster_s: float,
) -> DesignResult:
    """Return the last descent with its pulse and echo times rounded, and what they reach as rounded."""
    spec = problem.spec
    te = final.x[-2:] * _TE_SCALE_S
    te1_s, te2_s = (
        max(round(round(t / te_raster_s) * te_raster_s, 9), least) for t, least in zip(te, te_min_s, strict=True)
    )
    waveform = shape.waveform_hz(torch.as_tensor(final.x[:-2])).detach()
    # A ten-thousandth of a hertz: far below what a file keeps, and the last digit that anything prints.
    waveform = torch.view_as_complex(torch.round(torch.view_as_real(waveform), decimals=4))
    with torch.no_grad():
        _, metrics = problem.loss_and_metrics(waveform, *(torch.tensor(t, dtype=torch.float64) for t in (te1_s, te2_s)))
    return DesignResult(
        pulse=RFPulse(b1_hz=waveform, dwell_s=spec.rf_dwell_s, carrier_offset_hz=problem.carrier_hz, name="edit"),
        te1_s=te1_s,
        te2_s=te2_s,
        metrics=metrics,
        history=(*(run.history for run in runs if run.history), final.history),
        status=final.status,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Run:
    """One descent."""

    loss: float
    x: np.ndarray
    history: tuple[float, ...]
    status: str


def _descend(
    problem: Evaluator,
    shape: SplineWaveform,
    x0: np.ndarray,
    te_min_s: tuple[float, float],
    iterations: int,
    report: Callable[[int], None],
) -> _Run:
    """Descend from x0 (spline coefficients, then both echo times in units of 10 ms)."""
    history: list[float] = []
    last = {"loss": float("nan")}

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        variables = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        te_s = variables[-2:] * _TE_SCALE_S
        loss, _ = problem.loss_and_metrics(shape.waveform_hz(variables[:-2]), te_s[0], te_s[1])
        (gradient,) = torch.autograd.grad(loss, variables)
        last["loss"] = float(loss.detach())
        return last["loss"], gradient.numpy()

    def after_iteration(_: np.ndarray) -> None:
        history.append(last["loss"])
        report(len(history))

    te_bounds = [
        (least / _TE_SCALE_S, TE_MAX_S / _TE_SCALE_S) if problem.spec.optimise_timing else (x, x)
        for least, x in zip(te_min_s, x0[-2:], strict=True)
    ]
    result = minimize(
        value_and_gradient,
        x0,
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] * (len(x0) - 2) + te_bounds,
        callback=after_iteration,
        options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": 20},
    )
    status = "converged" if result.success else f"stopped after {result.nit} iterations, not converged"
    return _Run(loss=float(result.fun), x=np.asarray(result.x), history=tuple(history), status=status)


def optimise_timing(
    problem: Evaluator,
    *,
    te_min_s: tuple[float, float],
    te_raster_s: float,
    grid: int = 16,
    refine: int = 3,
    progress: Progress | None = None,
) -> TimingResult:
    """Return the plain PRESS timing with the smallest loss: a grid over both echo times, then descents from the best.

    Args:
        problem: From `evaluator`, on a plain template.
        te_min_s: Shortest (TE1, TE2), s.
        te_raster_s: Raster of each echo time, s.
        grid: Points per axis of the grid from the minimum to `TE_MAX_S`.
        refine: Number of descents.
        progress: Called after each grid point.
    """
    axes = [np.linspace(least, TE_MAX_S, grid) for least in te_min_s]
    points: list[tuple[float, float, float]] = []
    for te1_s in axes[0]:
        for te2_s in axes[1]:
            with torch.no_grad():
                loss, _ = problem.loss_and_metrics(None, torch.tensor(te1_s), torch.tensor(te2_s))
            points.append((float(loss), te1_s, te2_s))
            if progress is not None:
                progress(len(points), grid * grid)
    descents = [_descend_timing(problem, np.array(point[1:]), te_min_s) for point in sorted(points)[:refine]]
    _, te_s = min(descents, key=lambda pair: pair[0])
    rounded = [
        max(round(round(te / te_raster_s) * te_raster_s, 9), least) for te, least in zip(te_s, te_min_s, strict=True)
    ]
    with torch.no_grad():
        _, metrics = problem.loss_and_metrics(None, *(torch.tensor(te, dtype=torch.float64) for te in rounded))
    return TimingResult(te1_s=rounded[0], te2_s=rounded[1], metrics=metrics)


def _descend_timing(problem: Evaluator, te_s: np.ndarray, te_min_s: tuple[float, float]) -> tuple[float, np.ndarray]:
    """Return (loss, echo times) of one descent from a grid point."""

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        variables = torch.tensor(x * _TE_SCALE_S, dtype=torch.float64, requires_grad=True)
        loss, _ = problem.loss_and_metrics(None, variables[0], variables[1])
        (gradient,) = torch.autograd.grad(loss, variables)
        return float(loss.detach()), gradient.numpy() * _TE_SCALE_S

    result = minimize(
        value_and_gradient,
        te_s / _TE_SCALE_S,
        jac=True,
        method="L-BFGS-B",
        bounds=[(least / _TE_SCALE_S, TE_MAX_S / _TE_SCALE_S) for least in te_min_s],
        options={"maxiter": 30},
    )
    return float(result.fun), np.asarray(result.x) * _TE_SCALE_S
