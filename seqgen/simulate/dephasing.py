r"""Every coherence pathway with its real dephasing: are the crushers strong enough?

`localise` keeps the pathways whose gradient moments cancel and lets ideal crushers remove the rest. Here nothing is
removed: all orders -n..n after every pulse are followed (n protons; order 0 holds zero-quantum coherence too), and
pathway p gives the integral over the sample of

    [U_N ... [U_2 [U_1 rho U_1^H]_p1 U_2^H]_p2 ...]_-1  exp(-2 pi i K . r),    K = sum_k p_k k_k,

U_k(r) the pulses with free evolution between them and k_k the gradient moments between pulse centres (pathways.py).
Selective pulses depend on the position along axes of their own, so the integral factorises: axis by axis
rho -> sum_j w_j(K) U(x_j) rho U(x_j)^H, K taken along it, and sinc(K L) along axes that no pulse selects. Pulses in
turn along one axis (the pairs of LASER) act at the same positions before the average over it is taken
(dephasing_average.py). The moment that a slice gradient has on either side of its pulse's centre is part of k_k and
taken back in U (`slices.positions_of`), so it counts once, also where the gradient changes during the pulse.

The sample is homogeneous and box-shaped; its positions and weights are those of dephasing_axes.py, exact for crushers
of any strength. Inside a homogeneous sample a moment above that of the slice gradients leaves nothing at all; what is
left comes from the sample's edges, about 1 / (2 pi K) per edge.

Sources: Bodenhausen, Kogler, Ernst, J Magn Reson 58:370 (1984), doi:10.1016/0022-2364(84)90142-2 (pathways); Zhang, An,
Shen, Med Phys 44:4169 (2017), doi:10.1002/mp.12375 (factorised average).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.acquire import Lines, fid, lines
from seqgen.simulate.dephasing_average import Averages, Coherences, Group, Job, Key, average_over_axis
from seqgen.simulate.dephasing_axes import SampleAxis, sample_axes, with_worst_edge
from seqgen.simulate.ensemble import Ensemble, ensemble
from seqgen.simulate.localise import free_phase, groups_of_one_axis
from seqgen.simulate.pathways import (
    DEPHASED_PER_M,
    alike_but_for_phases,
    cycle_phases,
    cycle_weight,
    moments_between_centres,
    principal_echo,
)
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.hamiltonian import GroupModel
from seqgen.timeline import Interval, Receiver, Timeline

DEFAULT_POSITIONS_PER_CYCLE = 8.0
"""Positions in the length over which the slice gradient winds one cycle during its pulse."""
MAX_PATHWAYS = 20_000
"""Most pathways that are followed."""
CRUSHER_LIMIT = 1e-3
"""Largest unwanted pathway that counts as crushed, relative to the wanted echo."""
_SAMPLES_AT_ONCE = 2**22

Edges = Literal["as given", "worst"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PathwaySignal:
    """What one coherence pathway gives, for one spin group and one shot; the phase cycle stands apart."""

    orders: tuple[int, ...]
    """Coherence order after each pulse, ending in -1."""
    cycle_weight: complex
    """Mean over the phase cycle, receiver phases included: of size 1 it passes, 0 it is cancelled."""
    moment_per_m: tuple[float, float, float]
    """Moment sum_k p_k k_k that dephases it when the receiver opens, along x, y, z, cycles per metre."""
    undephased: float
    """Size without dephasing (all its moments zero, slices as they are): root of the sum over lines of |amplitude|^2;
    an isolated proton along x gives 1."""
    undephased_peak: float
    """The same, but the largest |FID| over the samples of the readout (no decay)."""
    dephased: float
    """Size with dephasing over the sample: root of the sum over lines of |amplitude|^2."""
    dephased_peak: float
    """The same, but the largest |FID| over the samples of the readout (no decay)."""
    ratio: float
    """The larger of the two dephased sizes' ratios, each |cycle_weight| times size over that of the wanted echo."""
    lines: Lines
    """Lines with dephasing, without the cycle weight, amplitude of shape (n_lines,); t = 0 where the receiver opens."""

    @property
    def refocused(self) -> bool:
        """Whether its moments cancel: a gradient of any strength leaves it as it is."""
        return max(map(abs, self.moment_per_m)) < DEPHASED_PER_M


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PathwayTable:
    """All pathways of a shot."""

    signals: tuple[PathwaySignal, ...]
    """The wanted echo first, then the unwanted pathways by falling ratio."""
    n_dropped: int
    """Branches that were left out, below `threshold` or outside `orders`."""
    dropped_norm: float
    """Sum over them of their size where they were left out, in the units of `PathwaySignal.dephased`, as if all of it
    were detected."""
    n_positions: tuple[int, ...]
    """Positions over which each pulse was averaged; 1 where none was selected."""

    @property
    def wanted(self) -> PathwaySignal:
        """The pathway of the principal echo."""
        return self.signals[0]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CrusherVerdict:
    """Whether unwanted pathways are small enough."""

    wanted: PathwaySignal
    """The principal echo."""
    worst: PathwaySignal | None
    """Largest unwanted pathway after crushers and phase cycle; None if there is no other."""
    worst_ratio: float
    """Its size relative to the wanted echo."""
    total_ratio: float
    """Sum of all unwanted sizes and of what was dropped, relative to the wanted echo: more cannot come together."""
    limit: float
    """Largest ratio that counts as crushed."""
    sufficient: bool
    """Whether the worst pathway, and what was dropped, stay within the limit. What was dropped counts as it was before
    dephasing, so a verdict on few `orders` is seldom "sufficient": what was not followed has not been judged."""
    text: str
    """The verdict in words."""


def pathway_signals(
    shots: Sequence[Timeline],
    model: GroupModel,
    *,
    extent_m: tuple[float, float, float],
    member: Ensemble | None = None,
    orders: Sequence[int] | None = None,
    threshold: float = 0.0,
    edges: Edges = "worst",
    positions_per_cycle: float = DEFAULT_POSITIONS_PER_CYCLE,
    positions_m: Tensor | None = None,
    j_step_s: float = RESULT_J_STEP_S,
) -> PathwayTable:
    """Return the signal of every coherence pathway of a shot, dephased over a box-shaped sample.

    Args:
        shots: The shots of one phase cycle. Those that differ in phases alone count, pulses and gradients are the first
            one's; of a cycle that inverts in some of its steps (ISIS), the steps that do (most RF energy). What the
            others take away or add is then not judged, and the echo holds what the inversion leaves as it is.
        model: The spin group at its field.
        extent_m: Length of the homogeneous sample along x, y, z, m; 0: no dephasing along it. Along a selective pulse's
            axis the box is centred on its slice (for the mean offset of the group; on the middle of several), else at
            0; an oblique axis takes the length of the gradient axis nearest to it. The sample, not the voxel: what lies
            outside a refocusing slice keeps its order and has to be crushed too.
        member: One member: field offset, drift, B1 scale; default on resonance at nominal B1. Linewidth has no part.
        orders: Orders to follow between pulses; default all, -n..n.
        threshold: Branches whose size falls below this part of the thermal state's are dropped; 0 drops none. Sizes are
            looked at where an average over an axis is done, not between the pulses of a pair.
        edges: "worst" moves the upper end of the sample, pathway by pathway and by less than a cycle, to where it adds
            up with the rest: 1 / (pi K L) where "as given" has sinc(K L), whose zeros are luck.
        positions_per_cycle: Positions in the length over which a slice gradient winds one cycle during its pulse, the
            strongest where several share an axis.
        positions_m: Explicit positions along every axis, averaged with equal weights, in place of the box, m.
        j_step_s: See `pulse_propagator`.

    Returns:
        The pathways, the wanted echo's first, and what was dropped. With edges "as given" the sum of cycle_weight times
        lines over all pathways is the signal of the cycle. No relaxation, no diffusion, no field inhomogeneity.

    Raises:
        InputError: If slices are neither perpendicular nor along one axis in turn, an argument is out of range, or too
            many positions, pathways or branches would be needed; there is no wanted echo; the wanted echo lies outside
            `orders`.
    """
    shots, member = _of_most_energy(shots), member or ensemble()
    timeline = shots[0]
    _check(extent_m, member, threshold, positions_per_cycle, edges)
    wanted = principal_echo(shots).pathway.orders
    pulses = _pulses(timeline)
    together = [len(group) for group in groups_of_one_axis([interval for interval, _ in pulses])]
    ends = list(itertools.accumulate(together))
    groups = [pulses[end - count : end] for count, end in zip(together, ends, strict=True)]
    axes, axis_of = sample_axes(
        [[interval for interval, _ in group] for group in groups], model, extent_m, positions_per_cycle, positions_m
    )
    paths = _paths(len(pulses), int(model.order.max()), orders, wanted)
    moments = torch.tensor(paths, dtype=torch.float64) @ moments_between_centres(timeline)
    real = dict(zip(paths, _along(moments, axes, axis_of, together), strict=True))
    # Each pathway twice: with its moments and with none.
    alive: list[Key] = [(path, k) for path in paths for k in dict.fromkeys((real[path], (0.0,) * len(real[path])))]
    dropped = _Dropped(threshold=threshold * float(model.initial_state.norm()), keep=wanted)
    coherences = Coherences.of(model.order)
    everything = range(int(model.order.min()), int(model.order.max()) + 1)
    left_out = [] if orders is None else [order for order in everything if order not in orders]
    states: dict[Key, Tensor] = {((), ()): coherences.take(model.initial_state, 0)}
    for a, group, begin, end in zip(axis_of, groups, [0, *ends], ends, strict=False):
        axis, last = None if a is None else axes[a], end == len(pulses)
        played = Group(pulses=group, axis=axis, model=model, member=member, j_step_s=j_step_s)
        jobs = {(_upto(key, begin), key[0][begin:end], key[1][end - 1]): None for key in alive}
        besides = {(k, (*way[:-1], q), moment): None for k, way, moment in jobs for q in ([] if last else left_out)}
        averages = average_over_axis(played, states, [*jobs, *besides], coherences, left_out)
        dropped.outside(averages, [*besides])
        states = {}
        phase = free_phase(model, member, group[-1][1])[0]
        for key in alive:
            if (upto := _upto(key, end)) not in states:
                branch, way, moment = _upto(key, begin), key[0][begin:end], key[1][end - 1]
                state = averages.states[branch, way, moment]
                if edges == "worst" and axis is not None:
                    state = with_worst_edge(state, averages.at_edge[branch, way] * axis.upper_edge(moment))
                states[upto] = state * coherences.take(phase, way[-1])
        if not last:
            alive = dropped.below(states, alive, end)
    free = [axis for number, axis in enumerate(axes) if number not in axis_of]
    amplitudes = _amplitudes(states, alive, free, model, coherences, edges)
    sizes = _sizes(amplitudes, model, _receiver(timeline))
    phases = cycle_phases(shots)
    found = []
    for path, moment in zip(paths, moments.tolist(), strict=True):
        if (path, real[path]) not in amplitudes:
            continue
        undephased, dephased = sizes[path, (0.0,) * len(real[path])], sizes[path, real[path]]
        found.append(
            PathwaySignal(
                orders=path,
                cycle_weight=cycle_weight(path, phases),
                moment_per_m=(moment[0], moment[1], moment[2]),
                undephased=undephased[0],
                undephased_peak=undephased[1],
                dephased=dephased[0],
                dephased_peak=dephased[1],
                ratio=0.0,
                lines=Lines(amplitude=amplitudes[path, real[path]], frequency_hz=model.transition_hz),
            )
        )
    return PathwayTable(
        signals=_with_ratios(found, wanted, timeline.name),
        n_dropped=dropped.count,
        dropped_norm=dropped.norm * float(model.transition_weight.abs().max()),
        n_positions=tuple(
            1 if a is None else int(axes[a].positions_m.shape[0])
            for a, count in zip(axis_of, together, strict=True)
            for _ in range(count)
        ),
    )


def crusher_verdict(
    table: PathwayTable, limit: float = CRUSHER_LIMIT, *, refocused_is_signal: bool = False
) -> CrusherVerdict:
    """Judge the crushers of a shot: is every pathway but the wanted echo small enough?

    Args:
        table: From `pathway_signals`.
        limit: Largest size of one unwanted pathway, after crushers and phase cycle, relative to the wanted echo.
        refocused_is_signal: Whether pathways whose gradient moments cancel belong to the signal, as they do where an
            editing pulse turns coherences round: `play`, basis sets and designs keep them. Else they are unwanted.

    Raises:
        InputError: If the limit is not positive.
    """
    if not limit > 0:
        raise InputError(f"limit must be positive (a part of the wanted echo), but is {limit}. Use 1e-3, for example.")
    kept = [signal for signal in table.signals[1:] if refocused_is_signal and signal.refocused]
    wanted, unwanted = table.wanted, [signal for signal in table.signals[1:] if signal not in kept]
    dropped = table.dropped_norm / (abs(wanted.cycle_weight) * wanted.dephased)
    worst = unwanted[0] if unwanted else None
    worst_ratio = worst.ratio if worst is not None else 0.0
    total = sum(signal.ratio for signal in unwanted) + dropped
    sufficient = worst_ratio <= limit and dropped <= limit
    if worst is None:
        text = f"No pathway was followed but the wanted echo {wanted.orders}."
    else:
        text = (
            f"The largest unwanted pathway {worst.orders} is {worst_ratio:.2g} of the wanted echo {wanted.orders}, "
            f"limit {limit:.2g}; all {len(unwanted)} together are at most {total:.2g}."
        )
    if kept:
        text += (
            f" {len(kept)} more are refocused and part of the simulated signal, the largest {kept[0].orders} with "
            f"{kept[0].ratio:.2g} of the echo."
        )
    if table.n_dropped:
        text += f" {table.n_dropped} branches were left out, before dephasing {dropped:.2g} of the echo."
    if sufficient:
        text = f"Crushers sufficient for a homogeneous sample. {text}"
    elif worst is None or worst_ratio <= limit:
        text = f"Not judged in full. {text} Lower the threshold or allow more orders."
    elif worst.refocused:
        text = (
            f"Crushers not sufficient. {text} Its gradient moments cancel: other ratios of the crushers or a phase "
            "cycle remove it, not stronger ones."
        )
    else:
        text = f"Crushers not sufficient. {text} Raise the crushers on its way, or cancel it by a phase cycle."
    return CrusherVerdict(
        wanted=wanted,
        worst=worst,
        worst_ratio=worst_ratio,
        total_ratio=total,
        limit=limit,
        sufficient=sufficient,
        text=text,
    )


def _check(
    extent_m: tuple[float, float, float], member: Ensemble, threshold: float, positions_per_cycle: float, edges: Edges
) -> None:
    """Refuse arguments out of range."""
    if len(extent_m) != 3 or not all(0 <= length < math.inf for length in extent_m):
        raise InputError(
            f"extent_m must be three lengths of the sample along x, y, z in metres, 0 or more, but is {extent_m}. "
            "Give 0 for an axis along which nothing dephases."
        )
    if member.size != 1:
        raise InputError(
            f"member must be one member, but holds {member.size}. Call once per field offset and B1 scale."
        )
    if not 0 <= threshold < 1:
        raise InputError(f"threshold must be at least 0 and below 1, but is {threshold}. Use 0 to drop nothing.")
    if not (0 < positions_per_cycle < math.inf):
        raise InputError(f"positions_per_cycle must be positive and finite, but is {positions_per_cycle}. Use 8.")
    if edges not in get_args(Edges):
        raise InputError(f"edges must be one of {', '.join(get_args(Edges))}, but is {edges!r}.")


def _of_most_energy(shots: Sequence[Timeline]) -> list[Timeline]:
    """Return the shots that differ in phases alone: of a cycle that inverts in some of its steps, those."""

    def energy(group: list[Timeline]) -> float:
        return sum(
            float((interval.b1_hz.detach().abs() ** 2).sum()) * interval.dwell_s for _, interval in group[0].pulses()
        )

    return max(alike_but_for_phases(shots), key=energy)


def _pulses(timeline: Timeline) -> list[tuple[Interval, float]]:
    """Return every pulse and the free delay from its end to the next, at last to the opening of the receiver, s."""
    starts = [
        (start, interval)
        for start, interval in zip(timeline.start_s, timeline.intervals, strict=True)
        if interval.use is not None
    ]
    last = timeline.pulses()[-1][0]
    opening = next(time for time, _ in timeline.readouts() if time >= last)
    nexts = [start for start, _ in starts[1:]] + [opening]
    return [(pulse, after - start - pulse.duration_s) for (start, pulse), after in zip(starts, nexts, strict=True)]


def _receiver(timeline: Timeline) -> Receiver:
    """Return the first receiver after the last pulse."""
    last = timeline.pulses()[-1][0]
    return next(receiver for time, receiver in timeline.readouts() if time >= last)


def _paths(
    n_pulses: int, n_protons: int, orders: Sequence[int] | None, wanted: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Return all pathways, in order of their orders."""
    allowed = sorted(set(range(-n_protons, n_protons + 1) if orders is None else orders))
    if any(order != int(order) or abs(order) > n_protons for order in allowed):
        raise InputError(
            f"orders must be whole numbers from {-n_protons} to {n_protons} ({n_protons} protons), but are {allowed}."
        )
    missing = sorted(set(wanted[:-1]) - set(allowed))
    if missing:
        raise InputError(f"orders {allowed} leave out {missing} of the wanted echo {wanted}. Add them.")
    count = len(allowed) ** (n_pulses - 1)
    if count > MAX_PATHWAYS:
        raise InputError(
            f"{n_pulses} pulses and {len(allowed)} orders make {count} pathways; the limit is {MAX_PATHWAYS}. Give the "
            "orders that matter (orders=(-1, 0, 1), for example), or leave out suppression before the excitation."
        )
    return list(itertools.product(*[allowed] * (n_pulses - 1), (-1,)))


def _along(
    moments: Tensor, axes: list[SampleAxis], axis_of: list[int | None], together: list[int]
) -> list[tuple[float, ...]]:
    """Return the moments (n, 3) along the axis of every pulse, then along the other axes.

    0 where a pulse has no axis, or a later one selects along the same: the average over it is taken there.
    """
    along = moments @ torch.linalg.inv(torch.stack([axis.direction for axis in axes]))
    free = [number for number in range(len(axes)) if number not in axis_of]
    places = [place for a, count in zip(axis_of, together, strict=True) for place in (*[None] * (count - 1), a)]
    return [tuple(0.0 if a is None else round(row[a], 9) + 0.0 for a in [*places, *free]) for row in along.tolist()]


def _upto(key: Key, n: int) -> Key:
    """Return what a branch and its pathway have in common after n pulses."""
    return key[0][:n], key[1][:n]


class _Dropped:
    """What is left out, and how large it was."""

    def __init__(self, *, threshold: float, keep: tuple[int, ...]) -> None:
        self.threshold, self.keep = threshold, keep
        self.count, self.norm = 0, 0.0

    def outside(self, averages: Averages, besides: Sequence[Job]) -> None:
        """Count the orders that are not followed: those after the pulses of an axis, and those between them."""
        largest: dict[tuple[int, ...], float] = {}
        sizes = [(branch, way, float(averages.states[branch, way, k].norm())) for branch, way, k in besides]
        between = [(branch, way, norm) for (branch, way), norm in averages.left_out.items()]
        for (path, _), way, norm in [*sizes, *between]:
            largest[*path, *way] = max(norm, largest.get((*path, *way), 0.0))
        self.count += len(largest)
        self.norm += sum(largest.values())

    def below(self, states: dict[Key, Tensor], alive: list[Key], n: int) -> list[Key]:
        """Return the pathways that go on: those of branches above the threshold, with dephasing or without."""
        largest: dict[tuple[int, ...], float] = {}
        for (path, _), state in states.items():
            largest[path] = max(float(state.norm()), largest.get(path, 0.0))
        small = {path: norm for path, norm in largest.items() if norm < self.threshold and path != self.keep[:n]}
        self.count += len(small)
        self.norm += sum(small.values())
        return [key for key in alive if key[0][:n] not in small]


def _amplitudes(
    states: dict[Key, Tensor],
    alive: list[Key],
    free: list[SampleAxis],
    model: GroupModel,
    coherences: Coherences,
    edges: Edges,
) -> dict[Key, Tensor]:
    """Return the line amplitudes of every pathway, dephased along the axes that no pulse selects too."""
    result = {}
    for key in alive:
        n = len(key[0])
        factor = math.prod(
            (complex(_along_free_axis(axis, moment, edges)) for axis, moment in zip(free, key[1][n:], strict=True)),
            start=1.0 + 0j,
        )
        state = coherences.matrix(states[_upto(key, n)], key[0][-1])
        result[key] = lines(state, model).amplitude * factor
    return result


def _along_free_axis(axis: SampleAxis, moment_per_m: float, edges: Edges) -> Tensor:
    """Return the mean of exp(-2 pi i K x) along an axis that no pulse selects, a complex number."""
    mean = axis.weights(moment_per_m).sum()
    edge = axis.upper_edge(moment_per_m) * torch.ones_like(mean)
    return with_worst_edge(mean, edge) if edges == "worst" else mean


def _sizes(amplitudes: dict[Key, Tensor], model: GroupModel, receiver: Receiver) -> dict[Key, tuple[float, float]]:
    """Return the norm of the lines of every pathway and its largest |FID| over the readout."""
    keys = list(amplitudes)
    step = max(1, _SAMPLES_AT_ONCE // receiver.n_samples)
    result: dict[Key, tuple[float, float]] = {}
    for first in range(0, len(keys), step):
        block = keys[first : first + step]
        spectrum = Lines(amplitude=torch.stack([amplitudes[key] for key in block]), frequency_hz=model.transition_hz)
        signal = fid(spectrum, receiver.n_samples, receiver.dwell_s, first_sample_s=0.5 * receiver.dwell_s)
        peaks, norms = signal.abs().amax(1).tolist(), spectrum.amplitude.norm(dim=1).tolist()
        result.update(zip(block, zip(norms, peaks, strict=True), strict=True))
    return result


def _with_ratios(found: list[PathwaySignal], wanted: tuple[int, ...], name: str) -> tuple[PathwaySignal, ...]:
    """Return the wanted echo, then the others by falling ratio to it."""
    echo = next(signal for signal in found if signal.orders == wanted)
    norm, peak = (abs(echo.cycle_weight) * size for size in (echo.dephased, echo.dephased_peak))
    if not min(norm, peak) > 1e-6:
        raise InputError(
            f"The wanted echo {wanted} of timeline {name!r} gives no signal over the sample (size {norm:.3g}): nothing "
            "to compare with. Check flip angles, extent_m and the offsets of the spins from the slices."
        )
    relative = [
        replace(signal, ratio=abs(signal.cycle_weight) * max(signal.dephased / norm, signal.dephased_peak / peak))
        for signal in found
    ]
    return tuple(sorted(relative, key=lambda signal: (signal.orders != wanted, -signal.ratio)))
