"""Designs whose epochs, values with gradients, are counted; what `state_grape` and `pulse_states` share."""

import time
from dataclasses import dataclass, replace

import torch

from seqgen.design.evaluate import Metrics
from seqgen.design.optimise import DesignResult, optimise_pulse
from seqgen.pipeline.design import _limits
from seqgen.pipeline.design_problem import minimum_te_s, problem_on_sequence
from seqgen.pipeline.study import Study
from seqgen.pulse.waveform import RFPulse


class _Counted:
    """An evaluator that keeps what every epoch found."""

    def __init__(self, problem):
        self.problem, self.epochs = problem, []

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def loss_of_shots(self, shots):
        """Evaluate and remember."""
        loss, metrics = self.problem.loss_of_shots(shots)
        self.epochs.append(metrics)
        return loss, metrics


@dataclass(frozen=True)
class CountedDesign:
    """A design and how it came about."""

    result: DesignResult
    epochs: list[Metrics]
    """What every value with gradient found, in order, all starts in turn."""
    seconds: float

    def first(self, ratio: float) -> int | None:
        """Return the epoch at which the overlap first reached a part of its maximum."""
        reached = (k for k, m in enumerate(self.epochs, 1) if m.overlap >= ratio * m.overlap_maximum)
        return next(reached, None)


def study_with(study: Study, **changes) -> Study:
    """Return a study with changes of its design."""
    return replace(study, protocol=replace(study.protocol, design=replace(study.protocol.design, **changes)))


def stand_in(study: Study) -> RFPulse:
    """Return the pulse that templates are built with."""
    spec = study.protocol.design
    n = round(spec.duration_s / spec.rf_dwell_s)
    return RFPulse(b1_hz=torch.full((n,), 1 + 0j, dtype=torch.complex128), dwell_s=spec.rf_dwell_s, name="edit")


def design(study: Study) -> CountedDesign:
    """Return the design of a study's protocol, as `seqgen design` finds it."""
    spec, protocol = study.protocol.design, study.protocol
    limits = _limits(study, stand_in(study), minimum_te_s(study, None))
    problem = _Counted(problem_on_sequence(study, stand_in(study), limits.on_raster(spec.te1_s, spec.te2_s)))
    begin = time.process_time()
    result = optimise_pulse(
        problem,
        b1_max_hz=protocol.scanner.b1_max_hz,
        te_min_s=(limits.te1_min_s, limits.te2_min_s(limits.te1_min_s)),
        te2_sides=limits.te2_sides,
        te_raster_s=limits.raster_s,
        seed=protocol.seed,
    )
    # The last call evaluates what was found, rounded.
    return CountedDesign(result=result, epochs=problem.epochs[:-1], seconds=time.process_time() - begin)


def judged(study: Study, result: DesignResult) -> Metrics:
    """Return the metrics of a pulse at its echo times, with fine steps and positions."""
    problem = problem_on_sequence(study, stand_in(study), (result.shots[0].te1_s, result.shots[0].te2_s), fine=True)
    times = (torch.tensor(te_s, dtype=torch.float64) for te_s in (result.shots[0].te1_s, result.shots[0].te2_s))
    with torch.no_grad():
        return problem.loss_and_metrics(result.pulse.b1_hz, *times)[1]
