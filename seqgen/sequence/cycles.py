"""Phase cycles: the phases of pulses and receiver that let one coherence pathway through and cancel others."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

TWO: tuple[float, ...] = (0.0, math.pi)
"""Two steps: cancels what does not change its order at the pulse by an odd number."""
EXOR: tuple[float, ...] = (0.0, 0.5 * math.pi, math.pi, 1.5 * math.pi)
"""Four steps of 90 degrees: lets changes of order through that differ from the wanted one by multiples of 4 alone.
For a refocusing pulse EXORCYCLE: Bodenhausen, Freeman, Turner, J Magn Reson 27:511 (1977),
doi:10.1016/0022-2364(77)90132-2."""
STILL: tuple[float, ...] = (0.0,)
"""One step: the pulse keeps its phase."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseStep:
    """One step of a phase cycle."""

    pulse_phase_rad: tuple[float, ...]
    """Phase added to each pulse, in the order of play, rad."""
    receiver_phase_rad: float
    """Phase of the receiver, rad: the signal is multiplied by exp(-i phase)."""


def turned(step: PhaseStep, receiver_rad: float) -> PhaseStep:
    """Return a step with a phase added to the receiver's, rad."""
    return replace(step, receiver_phase_rad=step.receiver_phase_rad + receiver_rad)


def nested_cycle(orders: Sequence[int], phases_rad: Sequence[Sequence[float]]) -> tuple[PhaseStep, ...]:
    """Return every combination of the phases of the pulses, the receiver following one pathway.

    Turning pulse j by phi_j multiplies a pathway by exp(-i dp_j phi_j) (Bodenhausen, Kogler, Ernst, J Magn Reson
    58:370 (1984), doi:10.1016/0022-2364(84)90142-2), so the receiver takes phi = -sum_j dp_j phi_j of the wanted one.

    Args:
        orders: Coherence order of the wanted pathway after each pulse, ending in -1.
        phases_rad: Phases through which each pulse steps; the last pulse with several steps fastest.

    Example:
        >>> [round(step.receiver_phase_rad, 3) for step in nested_cycle((1, -1), (STILL, EXOR))]
        [0.0, 3.142, 0.0, 3.142]
    """
    changes = [after - before for before, after in itertools.pairwise((0, *orders))]
    steps = []
    for phases in itertools.product(*phases_rad):
        receiver = -sum(change * phase for change, phase in zip(changes, phases, strict=True))
        steps.append(PhaseStep(pulse_phase_rad=phases, receiver_phase_rad=_turn(receiver)))
    return tuple(steps)


def _turn(phase_rad: float) -> float:
    """Return a phase in [0, 2 pi), multiples of a right angle exact."""
    quarter = 0.5 * math.pi
    quarters = phase_rad / quarter
    if abs(quarters - round(quarters)) < 1e-9:
        return round(quarters) % 4 * quarter
    return phase_rad % (2 * math.pi)
