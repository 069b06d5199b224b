"""Which shots of a file to simulate: one of each step of the phase cycle, without dummy scans in front."""

import math
from collections.abc import Sequence

import torch

from seqgen.errors import InputError
from seqgen.seqfile.shots import Shot
from seqgen.timeline import Timeline


def is_reference(shot: Shot) -> bool:
    """Return whether a shot is a water reference (Pulseq label REF not 0)."""
    return shot.labels.get("REF", 0) != 0


def phase_cycle(all_shots: Sequence[Shot], *, reference: bool = False) -> tuple[Timeline, ...]:
    """Return the different shots of one kind, in order of first appearance: the steps of its phase cycle.

    A dummy scan has no readout and therefore belongs to the shot after it: of shots that differ in their number of
    pulses those with the fewest hold no dummy scan. The others are cut to as many pulses, and count where their step
    occurs nowhere else. Shots that differ in more than phases are no cycle: then the first alone is returned.

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
    different = {shot.identity: shot.timeline for shot in kind}.values()
    plain = [timeline for timeline in different if len(timeline.pulses()) == fewest]
    cut = [_last_pulses(timeline, fewest) for timeline in different if len(timeline.pulses()) > fewest]
    first = _played(plain[0], with_phases=False)
    steps: dict[bytes, Timeline] = {}
    for timeline in [*plain, *(timeline for timeline in cut if _played(timeline, with_phases=False) == first)]:
        steps.setdefault(_played(timeline, with_phases=True), timeline)
    found = tuple(steps.values())
    alike = {_played(timeline, with_phases=False) for timeline in found}
    return found if len(alike) == 1 else found[:1]


def _last_pulses(timeline: Timeline, n_pulses: int) -> Timeline:
    """Return a timeline from its n-th last pulse on; all of it for no pulse."""
    transmitting = [k for k, interval in enumerate(timeline.intervals) if interval.use is not None]
    start = transmitting[-n_pulses] if n_pulses else 0
    return Timeline(intervals=timeline.intervals[start:], name=timeline.name)


def _played(timeline: Timeline, *, with_phases: bool) -> bytes:
    """Return a key of the pulses and the readout of a shot, with times from the first pulse on.

    The first shot of a file has no repetition delay in front of it, and is the same step all the same. Without phases,
    the steps of one phase cycle have equal keys.
    """
    parts: list[bytes] = []
    pulses, readouts = timeline.pulses(), timeline.readouts()
    origin_s = pulses[0][0] if pulses else 0.0
    for time_s, interval in pulses:
        b1_hz = interval.b1_hz if with_phases else interval.b1_hz.abs()
        parts += [
            f"{time_s - origin_s:.8f}".encode(),
            torch.round(torch.view_as_real(b1_hz + 0j), decimals=2).numpy().tobytes(),
        ]
    for time_s, receiver in readouts:
        phase = f"{math.remainder(receiver.phase_rad, 2 * math.pi):.6f}" if with_phases else ""
        parts.append(f"{time_s - origin_s:.8f} {receiver.n_samples} {receiver.dwell_s:.9f} {phase}".encode())
    return b"|".join(parts)
