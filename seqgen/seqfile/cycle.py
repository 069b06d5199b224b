"""Which shots of a file to simulate: one of each step of the phase cycle, without dummy scans in front."""

from collections.abc import Sequence

from seqgen.errors import InputError
from seqgen.seqfile.shots import Shot
from seqgen.timeline import Timeline


def is_reference(shot: Shot) -> bool:
    """Return whether a shot is a water reference (Pulseq label REF not 0)."""
    return shot.labels.get("REF", 0) != 0


def phase_cycle(all_shots: Sequence[Shot], *, reference: bool = False) -> tuple[Timeline, ...]:
    """Return the different shots of one kind, in order of first appearance: the steps of its phase cycle.

    A dummy scan has no readout and therefore belongs to the shot after it: of shots that differ in their number of
    pulses only those with the fewest are taken, which hold no dummy scan.

    Args:
        all_shots: The shots of a file.
        reference: Take the water references instead of the metabolite shots.

    Raises:
        InputError: If the file has no such shot.
    """
    kind = [shot for shot in all_shots if is_reference(shot) == reference]
    if not kind:
        what = "water reference (label REF)" if reference else "metabolite"
        raise InputError(f"The sequence holds no {what} readout. Add one to it.")
    fewest = min(len(shot.timeline.pulses()) for shot in kind)
    plain = {shot.identity: shot.timeline for shot in kind if len(shot.timeline.pulses()) == fewest}
    if len(plain) > 1 and not _same_but_for_phases(tuple(plain.values())):
        return (next(iter(plain.values())),)
    return tuple(plain.values())


def _same_but_for_phases(timelines: tuple[Timeline, ...]) -> bool:
    """Return whether all shots have pulses of the same magnitude at the same times before the readout.

    The first shot of a file has no repetition delay in front of it: times count from the first pulse.
    """
    first = timelines[0].pulses()
    for timeline in timelines[1:]:
        pulses = timeline.pulses()
        if len(pulses) != len(first):
            return False
        for (t0, a), (t1, b) in zip(first, pulses, strict=True):
            same_time = abs((t1 - pulses[0][0]) - (t0 - first[0][0])) < 1e-8
            same_shape = a.n_samples == b.n_samples and bool((a.b1_hz.abs() - b.b1_hz.abs()).abs().max() < 1e-3)
            if not (same_time and same_shape):
                return False
    return True
