r"""Every coherence pathway with its real dephasing: are the crushers strong enough?

`localise` keeps the pathways whose gradient moments cancel and lets ideal crushers remove the rest. Here nothing is
removed: all orders -n..n after every pulse are followed (n protons; order 0 holds zero-quantum coherence too), and
pathway p gives the integral over the sample of

    [U_N ... [U_2 [U_1 rho U_1^H]_p1 U_2^H]_p2 ...]_-1  exp(-2 pi i K . r),    K = sum_k p_k k_k,

U_k(r) the pulses with free evolution between them and k_k the gradient moments between pulse centres (pathways.py).
Each selective pulse depends on the position along an axis of its own, so the integral factorises: pulse by pulse
rho -> sum_j w_j(K) U(x_j) rho U(x_j)^H, K taken along the pulse's axis, and sinc(K L) along axes that no pulse selects.
The moment that a slice gradient has on either side of its pulse's centre is part of k_k and taken back in U
(`pulse_over_positions`), so it counts once.

The sample is homogeneous and box-shaped. Positions are Gauss points in short panels, dense enough for U(x), which the
slice gradient bounds in bandwidth, not the crushers; the exponential is integrated exactly between them: with P_l the
Legendre polynomials and h the length of a panel at c,

    w_j(K) = (h/2) g_j exp(-2 pi i K c) sum_l (2 l + 1) (-i)^l j_l(pi K h) P_l(xi_j),

so no crusher is too strong for them. Inside a homogeneous sample a moment above that of the slice gradients leaves
nothing at all; what is left comes from the sample's edges, about 1 / (2 pi K) per edge.

Sources: Bodenhausen, Kogler, Ernst, J Magn Reson 58:370 (1984), doi:10.1016/0022-2364(84)90142-2 (pathways); Zhang, An,
Shen, Med Phys 44:4169 (2017), doi:10.1002/mp.12375 (factorised average); Bakhvalov, Vasil'eva, USSR Comput Math Math
Phys 8:241 (1968) (Legendre rule for oscillating integrands).
"""

import cmath
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from scipy.special import eval_legendre, spherical_jn
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.acquire import Lines, fid, lines
from seqgen.simulate.ensemble import Ensemble, ensemble
from seqgen.simulate.localise import free_phase, require_separate_axes
from seqgen.simulate.pathways import (
    DEPHASED_PER_M,
    cycle_phases,
    cycle_weight,
    moments_between_centres,
    principal_echo,
)
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.simulate.slices import pulse_over_positions, slice_of
from seqgen.spin.hamiltonian import GroupModel
from seqgen.timeline import Interval, Receiver, Timeline

DEFAULT_POSITIONS_PER_CYCLE = 8.0
"""Positions in the length over which the slice gradient winds one cycle during its pulse."""
MAX_POSITIONS = 4000
"""Most positions along one axis."""
MAX_PATHWAYS = 20_000
"""Most pathways that are followed."""
MAX_STATE_BYTES = 2_000_000_000
"""Most memory that the branches after one pulse may take."""
CRUSHER_LIMIT = 1e-3
"""Largest unwanted pathway that counts as crushed, relative to the wanted echo."""
_PANEL_POINTS = 12
_BLOCK_ELEMENTS = 2**18
_SAMPLES_AT_ONCE = 2**22

Edges = Literal["as given", "worst"]
_Key = tuple[tuple[int, ...], tuple[float, ...]]
"""Orders after each pulse, and the moment along the axis of each pulse, then along the axes that no pulse selects."""


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Axis:
    """Positions along one axis of the voxel."""

    direction: Tensor
    """Unit vector, shape (3,)."""
    positions_m: Tensor
    """Shape (P,)."""
    box: tuple[float, float, int] | None
    """Lower end and length of the sample, m, and number of panels; None: explicit positions of equal weight."""
    unit_m: float
    """Length that counts as 1: the slice thickness, or the sample's length."""

    def weights(self, moment_per_m: float) -> Tensor:
        """Return the weight of every position under a moment along this axis, complex128, shape (P,)."""
        if self.box is None:
            phase = torch.exp(-2j * math.pi * moment_per_m * self.positions_m)
            return phase / self.positions_m.shape[0]
        low, length, n_panels = self.box
        if length == 0:
            return torch.ones(1, dtype=torch.complex128)
        n_points, h = self.positions_m.shape[0] // n_panels, length / n_panels
        xi, gauss = np.polynomial.legendre.leggauss(n_points)
        degree = np.arange(n_points)[:, None]
        bessel = spherical_jn(degree, math.pi * abs(moment_per_m) * h)
        within = (h / 2) * gauss * ((2 * degree + 1) * (-1j) ** degree * bessel * eval_legendre(degree, xi)).sum(0)
        centres = low + (np.arange(n_panels) + 0.5) * h
        result = (np.exp(-2j * np.pi * abs(moment_per_m) * centres)[:, None] * within).reshape(-1) / self.unit_m
        return torch.from_numpy(result if moment_per_m >= 0 else result.conj())

    def upper_edge(self, moment_per_m: float) -> complex:
        """Return what the upper end of the box adds to the integral of exp(-2 pi i K x); 0 below half a cycle."""
        if self.box is None or abs(moment_per_m) * self.box[1] <= 0.5:
            return 0.0
        turns = -2j * math.pi * moment_per_m
        return cmath.exp(turns * (self.box[0] + self.box[1])) / (turns * self.unit_m)


def _worst_edge(state: Tensor, edge: Tensor) -> Tensor:
    """Return a state whose part `edge` is turned so that it adds up with the rest."""
    rest = state - edge
    overlap = torch.vdot(edge.reshape(-1), rest.reshape(-1))
    return state if overlap == 0 else rest + edge * (overlap / overlap.abs())


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
        shots: The shots of one phase cycle (see `refocused_pathways`); pulses and gradients are the first one's.
        model: The spin group at its field.
        extent_m: Length of the homogeneous sample along x, y, z, m; 0: no dephasing along it. Along a selective pulse's
            axis the box is centred on its slice (for the mean offset of the group), else at 0; an oblique axis takes
            the length of the gradient axis nearest to it. The sample, not the voxel: what lies outside a refocusing
            slice keeps its order and has to be crushed too.
        member: One member: field offset, drift, B1 scale; default on resonance at nominal B1. Linewidth has no part.
        orders: Orders to follow between pulses; default all, -n..n.
        threshold: Branches whose size falls below this part of the thermal state's are dropped; 0 drops none.
        edges: "worst" moves the upper end of the sample, pathway by pathway and by less than a cycle, to where it adds
            up with the rest: 1 / (pi K L) where "as given" has sinc(K L), whose zeros are luck.
        positions_per_cycle: Positions in the length over which a slice gradient winds one cycle during its pulse.
        positions_m: Explicit positions along every axis, averaged with equal weights, in place of the box, m.
        j_step_s: See `pulse_propagator`.

    Returns:
        The pathways, the wanted echo's first, and what was dropped. With edges "as given" the sum of cycle_weight times
        lines over all pathways is the signal of the cycle. No relaxation, no diffusion, no field inhomogeneity.

    Raises:
        InputError: If two selective pulses share an axis, an argument is out of range, or too many positions, pathways
            or branches would be needed; there is no wanted echo; the wanted echo lies outside `orders`.
    """
    timeline, member = shots[0], member or ensemble()
    _check(extent_m, member, threshold, positions_per_cycle, edges)
    wanted = principal_echo(shots).pathway.orders
    pulses = _pulses(timeline)
    axes, axis_of = _axes([interval for interval, _ in pulses], model, extent_m, positions_per_cycle, positions_m)
    paths = _paths(len(pulses), int(model.order.max()), orders, wanted)
    moments = torch.tensor(paths, dtype=torch.float64) @ moments_between_centres(timeline)
    real = dict(zip(paths, _along(moments, axes, axis_of), strict=True))
    # Each pathway twice: with its moments and with none.
    alive: list[_Key] = [(path, k) for path in paths for k in dict.fromkeys((real[path], (0.0,) * len(real[path])))]
    dropped = _Dropped(threshold=threshold * float(model.initial_state.norm()), keep=wanted)
    states: dict[_Key, Tensor] = {((), ()): model.initial_state}
    for index, (interval, delay_s) in enumerate(pulses):
        jobs = {(_upto(key, index), key[1][index]): None for key in alive}
        a = axis_of[index]
        axis = None if a is None else axes[a]
        averaged, at_edge = _average(states, list(jobs), interval, axis, model, member, j_step_s)
        if orders is not None and index < len(pulses) - 1:
            dropped.outside(averaged, model.order, orders)
        states = {}
        for key in alive:
            if _upto(key, index + 1) not in states:
                branch, k, after = _upto(key, index), key[1][index], model.order == key[0][index]
                state = averaged[branch, k] * after
                if edges == "worst" and axis is not None:
                    state = _worst_edge(state, at_edge[branch] * after * axis.upper_edge(k))
                states[_upto(key, index + 1)] = state * free_phase(model, member, delay_s)[0]
        if index < len(pulses) - 1:
            alive = dropped.below(states, alive, index + 1)
    free = [axis for number, axis in enumerate(axes) if number not in axis_of]
    amplitudes = _amplitudes(states, alive, free, model, edges)
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
        n_positions=tuple(1 if a is None else int(axes[a].positions_m.shape[0]) for a in axis_of),
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


def _axes(
    intervals: list[Interval],
    model: GroupModel,
    extent_m: tuple[float, float, float],
    positions_per_cycle: float,
    positions_m: Tensor | None,
) -> tuple[list[_Axis], list[int | None]]:
    """Return the three axes, those of the selective pulses first, and the axis of every pulse."""
    require_separate_axes(intervals)
    axes: list[_Axis] = []
    axis_of: list[int | None] = []
    for interval in intervals:
        sliced = slice_of(interval)
        axis_of.append(None if sliced is None else len(axes))
        if sliced is not None:
            cycles_per_m = sliced.gradient_hz_per_m * interval.duration_s
            centre = sliced.centre_m - float(model.offset_hz[model.pulsed > 0].mean()) / sliced.gradient_hz_per_m
            length = _extent(sliced.direction, extent_m)
            n_panels = max(1, math.ceil(length * cycles_per_m * positions_per_cycle / _PANEL_POINTS))
            if positions_m is None and n_panels * _PANEL_POINTS > MAX_POSITIONS:
                raise InputError(
                    f"The sample of {length:.4g} m along the axis of pulse {interval.name or interval.use!r} needs "
                    f"{n_panels * _PANEL_POINTS} positions ({positions_per_cycle:g} for each of the "
                    f"{cycles_per_m:.4g} cycles/m of its slice gradient); the limit is {MAX_POSITIONS}. "
                    "Shorten extent_m or lower positions_per_cycle."
                )
            points = 1 if length == 0 else _PANEL_POINTS
            box = (centre - 0.5 * length, length, n_panels)
            axes.append(_axis(sliced.direction, box, points, sliced.thickness_m, positions_m))
    for direction in _complement([axis.direction for axis in axes]):
        length = _extent(direction, extent_m)
        axes.append(_axis(direction, (-0.5 * length, length, 1), 1, length, positions_m))
    return axes, axis_of


def _axis(
    direction: Tensor, box: tuple[float, float, int], n_points: int, unit_m: float, positions_m: Tensor | None
) -> _Axis:
    """Return an axis with `n_points` Gauss points in every panel of a box, or with explicit positions."""
    if positions_m is not None:
        return _Axis(direction=direction, positions_m=positions_m.to(torch.float64), box=None, unit_m=unit_m)
    low, length, n_panels = box
    xi, _ = np.polynomial.legendre.leggauss(n_points)
    h = length / n_panels
    positions = (low + (np.arange(n_panels)[:, None] + 0.5 + 0.5 * xi) * h).reshape(-1)
    return _Axis(direction=direction, positions_m=torch.from_numpy(positions), box=box, unit_m=unit_m)


def _extent(direction: Tensor, extent_m: tuple[float, float, float]) -> float:
    """Return the sample's length along the gradient axis nearest to a direction, m."""
    return float(extent_m[int(direction.abs().argmax())])


def _complement(directions: list[Tensor]) -> list[Tensor]:
    """Return unit vectors that complete perpendicular directions to three, as near to gradient axes as they can be."""
    found: list[Tensor] = []
    for _ in range(3 - len(directions)):
        known = torch.stack([*directions, *found]) if directions or found else torch.zeros(1, 3, dtype=torch.float64)
        left = torch.eye(3, dtype=torch.float64) - known.mT @ known
        rest = left[int(left.norm(dim=1).argmax())]
        found.append(rest / rest.norm())
    return found


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


def _along(moments: Tensor, axes: list[_Axis], axis_of: list[int | None]) -> list[tuple[float, ...]]:
    """Return the moments (n, 3) along the axis of every pulse (0 where it has none), then along the other axes."""
    along = moments @ torch.linalg.inv(torch.stack([axis.direction for axis in axes]))
    free = [number for number in range(len(axes)) if number not in axis_of]
    return [tuple(0.0 if a is None else round(row[a], 9) + 0.0 for a in [*axis_of, *free]) for row in along.tolist()]


def _upto(key: _Key, n: int) -> _Key:
    """Return what a branch and its pathway have in common after n pulses."""
    return key[0][:n], key[1][:n]


def _average(
    states: dict[_Key, Tensor],
    jobs: list[tuple[_Key, float]],
    interval: Interval,
    axis: _Axis | None,
    model: GroupModel,
    member: Ensemble,
    j_step_s: float,
) -> tuple[dict[tuple[_Key, float], Tensor], dict[_Key, Tensor]]:
    """Return sum_j w_j(K) U_j rho U_j^H of each (branch, moment K), and U rho U^H of each branch at the last position.

    One pass over blocks of positions.
    """
    d = model.order.shape[0]
    size = len(jobs) * d * d * 16
    if size > MAX_STATE_BYTES:
        raise InputError(
            f"After pulse {interval.name or interval.use!r} {len(jobs)} branches of {d} x {d} need {size / 1e9:.3g} "
            f"GB; the limit is {MAX_STATE_BYTES / 1e9:g} GB. Limit orders, or raise threshold."
        )
    if axis is None:
        moments, positions = {0.0: torch.ones(1, dtype=torch.complex128)}, torch.zeros(1, dtype=torch.float64)
    else:
        moments = {moment: axis.weights(moment) for moment in dict.fromkeys(moment for _, moment in jobs)}
        positions = axis.positions_m
    bybranch: dict[_Key, list[float]] = {}
    for branch, moment in jobs:
        bybranch.setdefault(branch, []).append(moment)
    result = {job: torch.zeros(d, d, dtype=torch.complex128) for job in jobs}
    step = max(1, _BLOCK_ELEMENTS // (d * d))
    for first in range(0, positions.shape[0], step):
        block = positions[first : first + step]
        u, _ = pulse_over_positions(
            model, interval, member, positions_per_slice=1, j_step_s=j_step_s, positions_m=block
        )
        rows = u[0].transpose(0, 1).contiguous()
        flat_h = rows.reshape(d, -1).mH
        for branch, own in bybranch.items():
            turned = (rows.reshape(-1, d) @ states[branch]).reshape(d, -1, d)
            for moment in own:
                weight = moments[moment][first : first + step]
                result[branch, moment] += (turned * weight[:, None]).reshape(d, -1) @ flat_h
    return result, {branch: rows[:, -1] @ states[branch] @ rows[:, -1].mH for branch in bybranch}


class _Dropped:
    """What is left out, and how large it was."""

    def __init__(self, *, threshold: float, keep: tuple[int, ...]) -> None:
        self.threshold, self.keep = threshold, keep
        self.count, self.norm = 0, 0.0

    def outside(self, averaged: dict[tuple[_Key, float], Tensor], order: Tensor, orders: Sequence[int]) -> None:
        """Count the orders that are not followed."""
        largest: dict[tuple[tuple[int, ...], int], float] = {}
        for ((path, _), _), state in averaged.items():
            for after in range(int(order.min()), int(order.max()) + 1):
                if after not in orders:
                    norm = float(state[order == after].norm())
                    largest[path, after] = max(norm, largest.get((path, after), 0.0))
        self.count += len(largest)
        self.norm += sum(largest.values())

    def below(self, states: dict[_Key, Tensor], alive: list[_Key], n: int) -> list[_Key]:
        """Return the pathways that go on: those of branches above the threshold, with dephasing or without."""
        largest: dict[tuple[int, ...], float] = {}
        for (path, _), state in states.items():
            largest[path] = max(float(state.norm()), largest.get(path, 0.0))
        small = {path: norm for path, norm in largest.items() if norm < self.threshold and path != self.keep[:n]}
        self.count += len(small)
        self.norm += sum(small.values())
        return [key for key in alive if key[0][:n] not in small]


def _amplitudes(
    states: dict[_Key, Tensor], alive: list[_Key], free: list[_Axis], model: GroupModel, edges: Edges
) -> dict[_Key, Tensor]:
    """Return the line amplitudes of every pathway, dephased along the axes that no pulse selects too."""
    result = {}
    for key in alive:
        n = len(key[0])
        factor = math.prod(
            (complex(_along_free_axis(axis, moment, edges)) for axis, moment in zip(free, key[1][n:], strict=True)),
            start=1.0 + 0j,
        )
        result[key] = lines(states[_upto(key, n)], model).amplitude * factor
    return result


def _along_free_axis(axis: _Axis, moment_per_m: float, edges: Edges) -> Tensor:
    """Return the mean of exp(-2 pi i K x) along an axis that no pulse selects, a complex number."""
    mean = axis.weights(moment_per_m).sum()
    edge = axis.upper_edge(moment_per_m) * torch.ones_like(mean)
    return _worst_edge(mean, edge) if edges == "worst" else mean


def _sizes(amplitudes: dict[_Key, Tensor], model: GroupModel, receiver: Receiver) -> dict[_Key, tuple[float, float]]:
    """Return the norm of the lines of every pathway and its largest |FID| over the readout."""
    keys = list(amplitudes)
    step = max(1, _SAMPLES_AT_ONCE // receiver.n_samples)
    result: dict[_Key, tuple[float, float]] = {}
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
