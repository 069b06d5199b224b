r"""Coherence pathways that the gradients and the phase cycle of a sequence let through.

A pathway is the coherence order p after each pulse, from p = 0 before the first to p = -1 while the receiver is open
(the order that I+ detects; it precesses as exp(+2 pi i f t)). Gradients dephase it by
exp(-2 pi i sum_k p_k k_k . r) with k_k the gradient moment between the centres of pulses k and k+1, so it survives
where sum_k p_k k_k = 0. Turning pulse j by phi_j multiplies it by exp(-i dp_j phi_j), the receiver by
exp(-i phi_rx): the mean over the shots of a phase cycle is its weight.
Source: Bodenhausen, Kogler, Ernst, J Magn Reson 58:370 (1984), doi:10.1016/0022-2364(84)90142-2.
"""

import cmath
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.timeline import Interval, Timeline

MAX_PULSES = 10
"""Most pulses in a shot whose pathways are listed one by one."""
DEPHASED_PER_M = 5.0
"""A pathway counts as refocused while its gradient moment stays below this many cycles per metre."""
CANCELLED = 1e-4
"""A pathway counts as cancelled by the phase cycle below this weight: phases in files have six digits, not all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pathway:
    """One refocused coherence pathway."""

    orders: tuple[int, ...]
    """Coherence order after each pulse, ending in -1."""
    cycle_weight: complex
    """Mean over the phase cycle, receiver phases included, relative to the first shot's pulses: of size 1 it passes, 0
    it is cancelled."""
    transfer: float
    """Size of the transfer for an isolated spin on resonance in the slice: products of |d(flip angle)|, 0 to 1."""
    residual_moment_per_m: float
    """Largest component of the moment that is left over, cycles per metre."""
    echo_time_s: float
    """Time on the timeline at which chemical shifts are refocused, s; for a plain FID the centre of the pulse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Echo:
    """The signal a shot is made for."""

    time_s: float
    """Time of the echo on the timeline, s; of a plain FID the centre of its excitation."""
    te_s: float
    """Time from the centre of the excitation to the echo, less the time along z (TM of STEAM), s; 0 for a plain
    FID."""
    is_echo: bool
    """False where the signal is a free induction decay with nothing to refocus it."""
    pathway: Pathway
    """The pathway that carries it."""


def refocused_pathways(shots: Sequence[Timeline], *, orders: tuple[int, ...] = (-1, 0, 1)) -> tuple[Pathway, ...]:
    """List the pathways that survive the gradients of a shot and the phase cycle of several.

    Args:
        shots: The shots of one phase cycle; those alike the first but for the phases of pulses and receiver
            (`alike_but_for_phases`) count, and the first one's gradients are analysed. One shot: no phase cycle.
        orders: Coherence orders to consider between pulses.

    Returns:
        Pathways with a cycle weight above `CANCELLED`, largest transfer first.

    Raises:
        InputError: If there is no pulse, no readout, or more than `MAX_PULSES` pulses beside leading saturation.
    """
    shots = alike_but_for_phases(shots)[0]
    first = shots[0]
    pulses = first.pulses()
    if not pulses or not first.readouts():
        raise InputError(f"Timeline {first.name!r} has no {'readout' if pulses else 'RF pulse'}: it gives no signal.")
    still = still_pulses(first)
    if len(pulses) - still > MAX_PULSES:
        raise InputError(
            f"Timeline {first.name!r} has {len(pulses)} pulses before its readout, {still} of them saturation ahead of "
            f"all others; pathways are listed through at most {MAX_PULSES} more. Simulate a shorter shot."
        )
    moments = moments_between_centres(first)
    phases = cycle_phases(shots)
    transfers = [_transfer(interval) for _, interval in pulses]
    times = [time for time, _ in pulses]
    found = []
    # All paths at once for their moments, which refuse most of them; the rest one by one.
    steps = [(0,)] * still + [orders] * (len(pulses) - 1 - still) + [(-1,)]
    paths = torch.tensor(list(itertools.product(*steps)), dtype=torch.float64)
    residuals = (paths @ moments).abs().amax(1)
    for row in torch.nonzero(residuals < DEPHASED_PER_M)[:, 0].tolist():
        path, residual = tuple(int(order) for order in paths[row]), float(residuals[row])
        weight = cycle_weight(path, phases)
        if abs(weight) < CANCELLED:
            continue
        transfer = math.prod(
            t[a + 1][b + 1] if max(abs(a), abs(b)) <= 1 else 0.0
            for t, (a, b) in zip(transfers, itertools.pairwise((0, *path)), strict=True)
        )
        echo = times[-1] + sum(p * (b - a) for p, (a, b) in zip(path, itertools.pairwise(times), strict=False))
        found.append(
            Pathway(
                orders=path, cycle_weight=weight, transfer=transfer, residual_moment_per_m=residual, echo_time_s=echo
            )
        )
    return tuple(sorted(found, key=lambda pathway: -pathway.transfer))


def still_pulses(timeline: Timeline) -> int:
    """Return after how many leading saturation pulses the order is taken to be 0: of long shots, all that go ahead.

    Their coherences are spoiled, in ways that tests of the sequences check; shots of up to `MAX_PULSES` pulses are
    followed through all of them.
    """
    pulses = timeline.pulses()
    leading = itertools.takewhile(lambda pulse: pulse[1].use == "saturation", pulses)
    return sum(1 for _ in leading) if len(pulses) > MAX_PULSES else 0


def principal_echo(shots: Sequence[Timeline] | Timeline) -> Echo:
    """Return the echo of the pathway with the largest transfer.

    The echo time is measured from RF centres: shifts are refocused where sum_k p_k (t_k+1 - t_k) = 0.

    Raises:
        InputError: If no pathway survives the gradients: nothing would be received.
    """
    shots = [shots] if isinstance(shots, Timeline) else shots
    pathways = refocused_pathways(shots)
    if not pathways or pathways[0].transfer < 1e-6:
        raise InputError(
            f"No coherence pathway of timeline {shots[0].name!r} is refocused when its receiver opens: the gradients "
            "dephase every one. Check that crushers on both sides of each refocusing pulse are equal."
        )
    best = pathways[0]
    pulse_times = [time for time, _ in shots[0].pulses()]
    excitation = next(k for k, order in enumerate(best.orders) if order != 0)
    is_echo = excitation < len(pulse_times) - 1
    # Along z (p = 0), between the second and third pulse of STEAM, is no part of TE.
    ends = [*pulse_times[1:], best.echo_time_s]
    te_s = sum(
        end - start
        for start, end, order in list(zip(pulse_times, ends, best.orders, strict=True))[excitation:]
        if order != 0
    )
    return Echo(time_s=best.echo_time_s, te_s=te_s, is_echo=is_echo, pathway=best)


def alike_but_for_phases(shots: Sequence[Timeline]) -> list[list[Timeline]]:
    """Return the shots in groups whose pulses have equal energies, in order of first appearance.

    Most phase cycles are one group. A cycle that inverts in some of its steps (ISIS) is two: what it keeps is the mean
    of both, each step with the phase of its receiver.

    Raises:
        InputError: If the shots differ in their number of pulses.
    """
    groups: dict[tuple[float, ...], list[Timeline]] = {}
    for shot in shots:
        _require_as_many_pulses(shot, shots[0])
        energies = [
            float((interval.b1_hz.detach().abs() ** 2).sum()) * interval.dwell_s for _, interval in shot.pulses()
        ]
        groups.setdefault(tuple(float(f"{energy:.4g}") for energy in energies), []).append(shot)
    return list(groups.values())


def moments_between_centres(timeline: Timeline) -> Tensor:
    """Return the gradient moments from each RF centre to the next, cycles per metre, shape (n_pulses, 3).

    The last row runs to the opening of the first receiver after the last pulse.
    """
    events = [time for time, _ in timeline.pulses()]
    openings = [time for time, _ in timeline.readouts() if time >= events[-1]]
    if not openings:
        raise InputError(
            f"Timeline {timeline.name!r} opens no receiver after its last pulse at {events[-1] * 1e3:.4g} ms: "
            "it would give no signal. Give the shot up to the end of its readout."
        )
    events.append(openings[0])
    rows = torch.zeros(len(events) - 1, 3, dtype=torch.float64)
    for start, interval in zip(timeline.start_s, timeline.intervals, strict=True):
        if not bool(interval.gradient_hz_per_m.any()):
            continue
        edges = start + torch.arange(interval.n_samples + 1, dtype=torch.float64) * interval.dwell_s
        for k, (low, high) in enumerate(itertools.pairwise(events)):
            overlap = (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0)
            rows[k] += overlap @ interval.gradient_hz_per_m
    return rows


def cycle_phases(shots: Sequence[Timeline]) -> list[tuple[list[float], float]]:
    """Return (phase of every pulse relative to the first shot, phase of the receiver) of every shot of a cycle, rad."""
    return [_relative_phases(shot, shots[0]) for shot in shots]


def cycle_weight(orders: Sequence[int], phases: Sequence[tuple[list[float], float]]) -> complex:
    """Return the mean of exp(-i (sum_j dp_j phi_j + phi_rx)) over a phase cycle.

    Args:
        orders: Coherence order after each pulse.
        phases: From `cycle_phases`.
    """
    steps = [b - a for a, b in itertools.pairwise((0, *orders))]
    turns = (
        cmath.exp(-1j * (sum(s * p for s, p in zip(steps, pulse_phases, strict=True)) + rx))
        for pulse_phases, rx in phases
    )
    return sum(turns) / len(phases)


def _require_as_many_pulses(shot: Timeline, reference: Timeline) -> None:
    """Refuse shots that are no steps of one cycle."""
    if len(shot.pulses()) != len(reference.pulses()):
        raise InputError(
            f"Shots {shot.name!r} and {reference.name!r} of one phase cycle have {len(shot.pulses())} and "
            f"{len(reference.pulses())} pulses. Give shots that differ in phases or amplitudes alone."
        )


def _relative_phases(shot: Timeline, reference: Timeline) -> tuple[list[float], float]:
    """Return (phase of every pulse relative to the reference shot, phase of the receiver), rad."""
    _require_as_many_pulses(shot, reference)
    pulse_phases = [
        cmath.phase(complex((mine.b1_hz * other.b1_hz.conj()).sum()))
        for (_, mine), (_, other) in zip(shot.pulses(), reference.pulses(), strict=True)
    ]
    return pulse_phases, shot.readouts()[0][1].phase_rad


def _flip_angle_rad(interval: Interval) -> float:
    """Return the largest flip angle over frequency (small-tip estimate), at most pi."""
    b1 = interval.b1_hz.detach()
    peak = torch.fft.fft(b1, n=4 * b1.shape[0]).abs().max()
    return min(math.pi, 2 * math.pi * float(peak) * interval.dwell_s)


def _transfer(interval: Interval) -> list[list[float]]:
    """Return |d^1(flip)| between coherence orders -1, 0, +1 (rows: before, columns: after).

    A suppression or editing pulse is meant to leave the signal's order as it is: that counts as 1. An excitation is
    meant to excite: from 135 degrees on, where a prepared one's flip angle says little, it counts as 90 degrees.
    """
    flip_rad = _flip_angle_rad(interval)
    if interval.use == "excitation" and flip_rad > 0.75 * math.pi:
        flip_rad = 0.5 * math.pi
    c, s = math.cos(flip_rad), abs(math.sin(flip_rad)) / math.sqrt(2)
    same, swap = (1 + c) / 2, (1 - c) / 2
    if interval.use in ("preparation", "saturation"):
        return [[1.0, s, swap], [s, 1.0, s], [swap, s, 1.0]]
    return [[same, s, swap], [s, abs(c), s], [swap, s, same]]
