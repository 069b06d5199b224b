"""Which shots of a file to simulate: one of each step of the phase cycle, without dummy scans in front."""

import math
from collections.abc import Sequence

import torch

from seqgen.errors import InputError
from seqgen.seqfile.shots import Shot
from seqgen.timeline import Interval, Timeline

STATED = frozenset(("AVG", "SET", "PHS", "REP", "REF"))
"""Labels at every readout of seqgen's localised sequences; one of them alone says nothing about another's use."""


def is_reference(shot: Shot) -> bool:
    """Return whether a shot is a water reference (Pulseq label REF not 0)."""
    return shot.labels.get("REF", 0) != 0


def is_noise(shot: Shot) -> bool:
    """Return whether a shot takes noise (Pulseq label NOISE not 0)."""
    return shot.labels.get("NOISE", 0) != 0


def editing_conditions(all_shots: Sequence[Shot]) -> tuple[int, ...]:
    """Return the values of SET among the metabolite shots of a file that states steps (`states_step`); else (0,).

    seqgen's sequences count editing conditions with SET (ON 0, OFF 1); what other files count with SET is not known.
    """
    kind = [shot for shot in all_shots if not is_reference(shot) and not is_noise(shot)]
    return tuple(sorted({shot.labels["SET"] for shot in kind if states_step(shot)})) or (0,)


def states_step(shot: Shot) -> bool:
    """Return whether a shot carries all labels by which seqgen states condition, step and cycle (docs/sequences.md)."""
    return set(shot.labels) >= STATED


def phase_cycle(
    all_shots: Sequence[Shot], *, reference: bool = False, condition: int | None = None
) -> tuple[Timeline, ...]:
    """Return the different shots of one kind, in order of first appearance: the steps of its phase cycle.

    A dummy scan has no readout and therefore belongs to the shot after it: of shots that differ in their number of
    pulses those with the fewest hold no dummy scan. The others are cut to as many pulses, and count where their step
    occurs nowhere else. Shots that state their step (`states_step`) are one cycle whatever they play, within one
    editing condition (label SET); of others those alike the first but for phases are.

    Args:
        all_shots: The shots of a file.
        reference: Take the water references instead of the metabolite shots.
        condition: Value of SET, for files with several (`editing_conditions`); default that of the first shot.

    Raises:
        InputError: If the file has no such shot.
    """
    kind = [shot for shot in all_shots if is_reference(shot) == reference and not is_noise(shot)]
    stated = any(map(states_step, kind))
    if kind and stated:
        own = kind[0].labels.get("SET", 0) if condition is None else condition
        kind = [shot for shot in kind if shot.labels.get("SET", 0) == own]
    if not kind:
        what = "water reference (label REF)" if reference else "metabolite"
        of = "" if condition is None else f" of condition SET {condition}"
        raise InputError(f"The sequence holds no {what} readout{of}. Add one to it.")
    fewest = min(len(shot.timeline.pulses()) for shot in kind)
    different = {shot.identity: shot.timeline for shot in kind}.values()
    plain = [timeline for timeline in different if len(timeline.pulses()) == fewest]
    cut = [_last_pulses(timeline, fewest) for timeline in different if len(timeline.pulses()) > fewest]
    alike = _played(plain[0], with_phases=False)
    steps: dict[bytes, Timeline] = {}
    for timeline in [*plain, *cut]:
        if stated or _played(timeline, with_phases=False) == alike:
            steps.setdefault(_played(timeline, with_phases=True), timeline)
    return tuple(steps.values())


def _last_pulses(timeline: Timeline, n_pulses: int) -> Timeline:
    """Return a timeline from its n-th last pulse on; all of it for no pulse."""
    transmitting = [k for k, interval in enumerate(timeline.intervals) if interval.use is not None]
    start = transmitting[-n_pulses] if n_pulses else 0
    return Timeline(intervals=timeline.intervals[start:], name=timeline.name)


def _played(timeline: Timeline, *, with_phases: bool) -> bytes:
    """Return a key of the pulses and the readout of a shot, with times from the first pulse on.

    The first shot of a file has no repetition delay in front of it, and is the same step all the same. Without phases,
    the steps of one phase cycle have equal keys: amplitudes, and how the phase runs within each pulse.
    """
    parts: list[bytes] = []
    pulses, readouts = timeline.pulses(), timeline.readouts()
    origin_s = pulses[0][0] if pulses else 0.0
    for time_s, interval in pulses:
        b1_hz = interval.b1_hz if with_phases else interval.b1_hz.abs()
        parts += [
            f"{time_s - origin_s:.8f} {'' if with_phases else _phase_advance(interval)}".encode(),
            torch.round(torch.view_as_real(b1_hz + 0j), decimals=2).numpy().tobytes(),
        ]
    for time_s, receiver in readouts:
        phase = f"{math.remainder(receiver.phase_rad, 2 * math.pi):.6f}" if with_phases else ""
        parts.append(f"{time_s - origin_s:.8f} {receiver.n_samples} {receiver.dwell_s:.9f} {phase}".encode())
    return b"|".join(parts)


def _phase_advance(interval: Interval) -> str:
    """Return how the phase of a pulse runs, whatever its phase: the mean step over a 64th of it, as cosine and sine."""
    lag = max(1, interval.n_samples // 64)
    step = complex((interval.b1_hz[lag:] * interval.b1_hz[:-lag].conj()).sum())
    unit = step / abs(step) if abs(step) > 0 else 0j
    return f"{round(unit.real, 2) + 0.0} {round(unit.imag, 2) + 0.0}"
