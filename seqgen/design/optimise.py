"""The optimiser of the editing pulses, with exact gradients."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqgen.design.checkpoint import Checkpoint
from seqgen.design.descent import Evaluation, Objective, Search, Settings, search
from seqgen.design.echo_times import EchoTimeLimits
from seqgen.design.evaluate import Evaluator, LossNotFinite, Metrics
from seqgen.design.forward import PlayedShot
from seqgen.design.landscape import Landscape, landscape
from seqgen.design.problem import DesignSpec
from seqgen.design.starts import start_points
from seqgen.design.variables import Variables
from seqgen.provenance import Progress
from seqgen.pulse.parameterise import SplineWaveform, spline_waveform, step_waveform
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.plugins import DesignedShot


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignResult:
    """The best pulse found. The caller reads `status`: not every optimisation converges."""

    shots: tuple[DesignedShot, ...]
    """The shots with their pulses in the carrier frame, and echo times on the raster."""
    metrics: Metrics
    """What the optimiser's own model says of it."""
    history: tuple[tuple[float, ...], ...]
    """Loss after every iteration: one tuple per start, then the last descent (see `Search`)."""
    status: str
    """"converged", or why it stopped."""
    terms: tuple[Mapping[str, tuple[float, ...]], ...] = ()
    """Every term of the loss after every iteration, by name: as `history`."""
    landscape: Landscape | None = None
    """Where the starts ended; None if none did."""
    interrupted: bool = False
    """True: Ctrl-C ended the search."""
    failure: str = ""
    """What was not finite and ended the search, else empty."""

    @property
    def pulse(self) -> RFPulse:
        """The first designed pulse."""
        return next(pulse for shot in self.shots for pulse in shot.pulses.values())


def waveform_shape(spec: DesignSpec, b1_max_hz: float, energy_max_hz2_s: float = math.inf) -> SplineWaveform:
    """Return the parameterisation of every waveform of a design.

    Args:
        spec: The problem.
        b1_max_hz: The scanner's largest amplitude, Hz; that of the spec applies as well.
        energy_max_hz2_s: The largest energy that the sequence leaves, Hz^2 s; that of the spec applies as well.
    """
    return (step_waveform if spec.parameters == "steps" else spline_waveform)(
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        knot_spacing_s=spec.knot_spacing_s,
        b1_max_hz=min(spec.nominal_b1_max_hz, b1_max_hz),
        energy_max_hz2_s=min(spec.energy_max_hz2_s, energy_max_hz2_s),
        bandwidth_max_hz=spec.bandwidth_max_hz,
    )


def optimise_pulse(
    problem: Evaluator,
    *,
    b1_max_hz: float,
    te_min_s: tuple[float, float],
    te_raster_s: float,
    seed: int,
    te2_sides: tuple[tuple[float, float], ...] | None = None,
    plain_te_min_s: tuple[float, float] | None = None,
    energy_max_hz2_s: float = math.inf,
    start_pulses: Mapping[str, Sequence[RFPulse]] | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> DesignResult:
    """Optimise the editing pulse, and the echo times where the spec asks for it, from several starts.

    Every start descends for a quarter of the iterations; the best of them goes on for all of them (see `search`, also
    for Ctrl-C, for a loss that is not finite, and for checkpoints).

    Args:
        problem: From `evaluator`, on a template with editing pulse.
        b1_max_hz: The scanner's amplitude limit, Hz; the smaller of it and the spec's holds.
        te_min_s: Shortest (TE1, TE2) of the sequence, s.
        te_raster_s: Raster of each echo time, s.
        seed: Seed of the random starts.
        te2_sides: Where the shortest TE2 depends on TE1, its limits TE2 >= offset + slope TE1 (`EchoTimeLimits`);
            default te_min_s[1] for every TE1.
        plain_te_min_s: Shortest (TE1, TE2) of a plain shot with echo times of its own, s; default `te_min_s`.
        energy_max_hz2_s: Energy that scanner and sequence leave to each pulse (`PulseLimits`), Hz^2 s; the smaller of
            it and the spec's holds.
        start_pulses: The pulses of each file that the spec names as a start.
        checkpoint: Keeps what is done; one that was read from a file is gone on from.
        progress: Called after each iteration.

    Raises:
        InputError: If the spec's echo times lie below the minimum, or above `TE_MAX_S` where they are to be moved; if
            the loss is not finite at the first point; if the checkpoint is of another search.
    """
    spec = problem.spec
    sides = ((te_min_s[1], 0.0),) if te2_sides is None else te2_sides
    limits = EchoTimeLimits(te1_min_s=te_min_s[0], te2_sides=sides, raster_s=te_raster_s, te_max_s=spec.te_max_s)
    limits.require_start(spec)
    shape = waveform_shape(spec, b1_max_hz, energy_max_hz2_s)
    plain_te1_s, plain_te2_s = te_min_s if plain_te_min_s is None else plain_te_min_s
    variables = Variables(
        spec=spec,
        shape=shape,
        limits=limits,
        plain_limits=EchoTimeLimits(
            te1_min_s=plain_te1_s, te2_sides=((plain_te2_s, 0.0),), raster_s=te_raster_s, te_max_s=spec.te_max_s
        ),
    )
    points = start_points(
        spec,
        shape,
        seed=seed,
        pulses=start_pulses or {},
        carrier_hz=problem.carrier_hz,
        n_waveforms=variables.n_waveforms,
    )
    found = search(
        _objective(problem, variables),
        [(name, variables.start(theta)) for name, theta in points],
        bounds=variables.bounds(),
        settings=Settings(
            iterations=spec.iterations,
            optimiser=spec.optimiser,
            learning_rate=spec.learning_rate,
            stop_improvement=spec.stop_improvement,
            stop_iterations=spec.stop_iterations,
            restarts=spec.restarts,
            starts_full=spec.starts_full,
        ),
        checkpoint=checkpoint,
        progress=progress,
    )
    return _finished(problem, variables, found)


def _objective(problem: Evaluator, variables: Variables) -> Objective:
    """Return the loss as a function of the vector of variables."""

    def evaluation(at: np.ndarray) -> Evaluation:
        x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        try:
            loss, metrics = problem.loss_of_shots(variables.shots(x))
        except LossNotFinite as error:
            # The descent stops there, and keeps what it had.
            return Evaluation(loss=math.nan, gradient=np.full(at.shape, math.nan), terms={error.term: math.nan})
        (gradient,) = torch.autograd.grad(loss, x)
        return Evaluation(loss=float(loss.detach()), gradient=gradient.numpy(), terms=metrics.terms)

    return evaluation


def _finished(problem: Evaluator, variables: Variables, found: Search) -> DesignResult:
    """Return the best point with its pulses and echo times rounded, and what they reach as rounded."""
    played = variables.rounded(torch.tensor(found.x))
    with torch.no_grad():
        _, metrics = problem.loss_of_shots(played)
    return DesignResult(
        shots=tuple(_designed(shot, variables.shape.dwell_s, problem.carrier_hz) for shot in played),
        metrics=metrics,
        history=found.history,
        status=found.status,
        terms=found.terms,
        landscape=_landscape(variables, found),
        interrupted=found.interrupted,
        failure=found.failure,
    )


def _designed(shot: PlayedShot, dwell_s: float, carrier_hz: float) -> DesignedShot:
    """Return a shot with its waveforms as pulses."""
    waveforms = shot.b1_hz if isinstance(shot.b1_hz, Mapping) else {}
    pulses = {
        place: RFPulse(b1_hz=waveform, dwell_s=dwell_s, carrier_offset_hz=carrier_hz, name="edit")
        for place, waveform in waveforms.items()
    }
    return DesignedShot(pulses=pulses, te1_s=float(shot.te1_s), te2_s=float(shot.te2_s))


def _landscape(variables: Variables, found: Search) -> Landscape | None:
    """Return where the starts ended; several waveforms count as one long one."""
    if not found.starts:
        return None
    return landscape(
        [run.name for run in found.starts],
        [run.loss for run in found.starts],
        [len(run.history) for run in found.starts],
        [torch.cat(variables.waveforms_hz(torch.tensor(run.x))) for run in found.starts],
    )
