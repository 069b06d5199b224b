r"""States averaged over an axis: pulses in turn along it, coherence orders between them, a weight for every moment.

Between the pulses of one axis states keep their positions x; the moment K of a pathway along that axis, all intervals
of the shot together, is one phase per position, so it is put on once, after the last of them:

    rho -> sum_j w_j(K) [U_N(x_j) .. [U_1(x_j) rho U_1(x_j)^H]_p1 .. U_N(x_j)^H]_pN.

Everything is linear in rho, and order p of a spin group spans few dimensions (at most 252 of five spins), so not the
states of all pathways are turned but an orthonormal basis of them; likewise the weights of all moments. What is
smaller than `SPAN_TOLERANCE` is left out of these bases (rounding, before a pulse that has its axis for itself).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.dephasing_axes import SampleAxis
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import free_phase
from seqgen.simulate.slices import SliceAxis, pulse_along_axis, slice_gradient
from seqgen.spin.hamiltonian import GroupModel
from seqgen.timeline import Interval

SPAN_TOLERANCE = 1e-10
"""States before several pulses along one axis are kept to this part of the thermal state's norm, weights to this part
of the largest's."""
MAX_STATE_BYTES = 2_000_000_000
"""Most memory that the branches after the pulses of one axis may take."""
_ROUNDING = 1e-15
_BLOCK_ELEMENTS = 2**18
_STATE_ELEMENTS = 2**20

Key = tuple[tuple[int, ...], tuple[float, ...]]
"""Orders after each pulse, and the moment along the axis of each pulse (0 before the last pulse of an axis), then along
the axes that no pulse selects."""
Job = tuple[Key, tuple[int, ...], float]
"""A branch before a group of pulses, the orders after each pulse of the group, the moment along its axis."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Coherences:
    """Elements of density matrices by their order, in the eigenbasis sorted by magnetic quantum number."""

    sorting: Tensor
    """Eigenstates by falling quantum number, shape (d,)."""
    blocks: dict[int, list[tuple[slice, slice]]]
    """Of each order, rows and columns (sorted) of the blocks that hold it."""
    elements: dict[int, tuple[Tensor, Tensor]]
    """Of each order, rows and columns (eigenbasis) of its elements, block by block, each of shape (n,)."""

    @classmethod
    def of(cls, order: Tensor) -> "Coherences":
        """Return the coherences of a group from the order of every matrix element, shape (d, d)."""
        level, sorting = order[:, 0].sort(descending=True, stable=True)
        values, counts = torch.unique_consecutive(level, return_counts=True)
        ends = counts.cumsum(0).tolist()
        span = {
            value: slice(end - count, end)
            for value, count, end in zip(values.tolist(), counts.tolist(), ends, strict=True)
        }
        blocks: dict[int, list[tuple[slice, slice]]] = {}
        for upper, rows in span.items():
            for lower, columns in span.items():
                blocks.setdefault(upper - lower, []).append((rows, columns))
        elements = {}
        for p, own in blocks.items():
            pairs = [torch.cartesian_prod(sorting[rows], sorting[columns]) for rows, columns in own]
            elements[p] = (torch.cat(pairs)[:, 0], torch.cat(pairs)[:, 1])
        return cls(sorting=sorting, blocks=blocks, elements=elements)

    def take(self, matrix: Tensor, order: int) -> Tensor:
        """Return the elements of an order of a matrix (d, d), shape (n,)."""
        return matrix[self.elements[order]]

    def matrix(self, values: Tensor, order: int) -> Tensor:
        """Return the matrix (d, d) that holds elements of one order."""
        d = self.sorting.shape[0]
        result = torch.zeros(d, d, dtype=values.dtype)
        result[self.elements[order]] = values
        return result

    def turned(self, u: Tensor, states: Tensor, order: int, wanted: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield each wanted order of U rho U^H.

        Args:
            u: Sorted propagators, shape (P, d, d).
            states: Elements of one order, shape (R, n), or (P, R, n) where each position has its own.
            order: That order.
            wanted: Orders to be returned.

        Yields:
            An order, and its elements, shape (P, R, n).
        """
        n_positions, d, n_states = u.shape[0], u.shape[1], states.shape[-2]
        half, at = [], 0
        for rows, columns in self.blocks[order]:
            r, c = rows.stop - rows.start, columns.stop - columns.start
            block = (
                states[..., at : at + r * c].reshape(*states.shape[:-1], r, c).transpose(-3, -2).flatten(-2)
            )  # (.., r, R c)
            half.append((u[:, :, rows] @ block).reshape(n_positions, d, n_states, c))
            at += r * c
        left = torch.cat(half, 3)
        right = torch.cat([u[:, :, columns] for _, columns in self.blocks[order]], 2).mH
        for q in wanted:
            parts = []
            for rows, columns in self.blocks[q]:
                part = left[:, rows].flatten(1, 2) @ right[:, :, columns]
                parts.append(part.reshape(n_positions, -1, n_states, part.shape[2]).transpose(1, 2).flatten(2))
            yield q, torch.cat(parts, 2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Pulses in turn along one axis, with what is needed to play them."""

    pulses: Sequence[tuple[Interval, float]]
    """Pulses and the free delay after each, s; the last one's is not played."""
    axis: SampleAxis | None
    """Their axis; None for a pulse that selects none."""
    model: GroupModel
    """The spin group."""
    member: Ensemble
    """One member."""
    j_step_s: float
    """See `pulse_propagator`."""

    @property
    def positions_m(self) -> Tensor:
        """Positions along the axis, m, shape (P,)."""
        return torch.zeros(1, dtype=torch.float64) if self.axis is None else self.axis.positions_m

    def weights(self, moment_per_m: float) -> Tensor:
        """Return the weight of every position, shape (P,)."""
        return torch.ones(1, dtype=torch.complex128) if self.axis is None else self.axis.weights(moment_per_m)

    def propagators(self, sorting: Tensor) -> list[Tensor]:
        """Return the sorted propagators of every pulse at all positions, each of shape (P, d, d)."""
        made: dict[int, Tensor] = {}  # both pulses of a pair are often one and the same
        for interval, _ in self.pulses:
            if id(interval) not in made:
                u = self._propagators_of(interval)[:, sorting][:, :, sorting]
                made[id(interval)] = u.expand(self.positions_m.shape[0], -1, -1)
        return [made[id(interval)] for interval, _ in self.pulses]

    def _propagators_of(self, interval: Interval) -> Tensor:
        """Return the propagators of a pulse at all positions, or at one if it does not select, shape (P, d, d)."""
        direction, positions = torch.zeros(3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        if self.axis is not None and slice_gradient(interval) is not None:
            direction, positions = self.axis.direction, self.positions_m
        parts = []
        # Few positions at once: the steps of a propagator follow the largest offset among those it is computed with.
        for block in _blocks(positions.shape[0], _BLOCK_ELEMENTS // self.model.order.shape[0] ** 2):
            places = SliceAxis(direction=direction, position_m=positions[block], weight=1.0)
            parts.append(pulse_along_axis(self.model, interval, self.member, places, self.j_step_s)[0])
        return torch.cat(parts)


@dataclass(kw_only=True, slots=True, eq=False)
class Averages:
    """States after the last pulse of an axis, as elements of its order."""

    states: dict[Job, Tensor] = field(default_factory=dict)
    """Averaged over the axis."""
    at_edge: dict[tuple[Key, tuple[int, ...]], Tensor] = field(default_factory=dict)
    """At the last position, for every branch and its orders."""
    left_out: dict[tuple[Key, tuple[int, ...]], float] = field(default_factory=dict)
    """Size of what is not followed between the pulses of the axis, by branch and orders: sum_j w_j(0) |rho(x_j)|."""


def average_over_axis(
    group: Group,
    states: Mapping[Key, Tensor],
    jobs: Sequence[Job],
    coherences: Coherences,
    left_out: Sequence[int] = (),
) -> Averages:
    """Play a group of pulses at every position of their axis and return the weighted sums over it.

    Args:
        group: The pulses.
        states: Branches before the group: elements of the order that each ends in (0 before the first pulse).
        jobs: What to return.
        coherences: From `Coherences.of`.
        left_out: Orders whose size is looked up between the pulses.

    Raises:
        InputError: If the branches would take more than `MAX_STATE_BYTES`.
    """
    _require_room(group, jobs, coherences)
    us = group.propagators(coherences.sorting)
    delays = [free_phase(group.model, group.member, delay_s)[0] for _, delay_s in group.pulses]
    result = Averages()
    for passage in _passages(group, states, jobs):
        n_elements = passage.basis.shape[0] * coherences.sorting.shape[0] ** 2
        for block in _blocks(group.positions_m.shape[0], _STATE_ELEMENTS // n_elements):
            passage.play([u[block] for u in us], delays, block, coherences, left_out)
        passage.collect(result)
    return result


def _blocks(count: int, step: int) -> list[slice]:
    """Return slices of `step`, at least 1, that cover a number of positions."""
    step = max(1, step)
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def _require_room(group: Group, jobs: Sequence[Job], coherences: Coherences) -> None:
    """Refuse more branches than memory holds."""
    size = 16 * sum(coherences.elements[way[-1]][0].shape[0] for _, way, _ in jobs)
    if size > MAX_STATE_BYTES:
        d, interval = coherences.sorting.shape[0], group.pulses[-1][0]
        raise InputError(
            f"After pulse {interval.name or interval.use!r} {len(jobs)} branches of {d} x {d} need {size / 1e9:.3g} "
            f"GB; the limit is {MAX_STATE_BYTES / 1e9:g} GB. Limit orders, or raise threshold."
        )


def _passages(group: Group, states: Mapping[Key, Tensor], jobs: Sequence[Job]) -> Iterator["_Passage"]:
    """Yield the branches by the order they enter with."""
    by_order: dict[int, list[Job]] = {}
    for job in jobs:
        by_order.setdefault(job[0][0][-1] if job[0][0] else 0, []).append(job)
    tolerance = SPAN_TOLERANCE if len(group.pulses) > 1 else _ROUNDING
    thermal = float(group.model.initial_state.norm())
    for order, own in by_order.items():
        yield _Passage(order, own, states, group, tolerance, thermal)


class _Passage:
    """All branches of one order on their way through a group of pulses."""

    def __init__(
        self,
        order: int,
        jobs: Sequence[Job],
        states: Mapping[Key, Tensor],
        group: Group,
        tolerance: float,
        thermal: float,
    ) -> None:
        self.order, self.jobs = order, jobs
        self.branches = {branch: row for row, branch in enumerate(dict.fromkeys(branch for branch, _, _ in jobs))}
        self.of_branch, self.basis = spanned(
            torch.stack([states[branch] for branch in self.branches]), tolerance * thermal
        )
        moments: dict[tuple[int, ...], dict[float, int]] = {}
        for _, way, moment in jobs:
            rows = moments.setdefault(way, {})
            rows.setdefault(moment, len(rows))
        self.moments = moments
        weights = {moment: group.weights(moment) for moment in {0.0, *(moment for _, _, moment in jobs)}}
        self.of_moment, self.weights = {}, {}
        for way, rows in moments.items():
            stack = torch.stack([weights[moment] for moment in rows])
            self.of_moment[way], self.weights[way] = spanned(stack, tolerance * float(stack.norm(dim=1).max()))
        self.unweighted = weights[0.0].abs()
        self.sums: dict[tuple[int, ...], Tensor] = {}
        self.at_edge: dict[tuple[int, ...], Tensor] = {}
        self.left_out: dict[tuple[int, ...], Tensor] = {}

    def play(
        self,
        us: Sequence[Tensor],
        delays: Sequence[Tensor],
        block: slice,
        coherences: Coherences,
        left_out: Sequence[int],
    ) -> None:
        """Add up what a block of positions gives."""

        def onwards(states: Tensor, order: int, way: tuple[int, ...]) -> None:
            n = len(way)
            following = sorted({other[n] for other in self.moments if other[:n] == way})
            closes = n == len(us) - 1
            besides = [] if closes else list(left_out)
            for q, turned in coherences.turned(us[n], states, order, [*following, *besides]):
                if closes:
                    self._add(turned, (*way, q), block)
                elif q in besides:
                    norms = (self.of_branch @ turned).norm(dim=2)
                    size = self.unweighted[block] @ norms
                    self.left_out[*way, q] = self.left_out.get((*way, q), torch.zeros_like(size)) + size
                else:
                    onwards(turned * coherences.take(delays[n], q), q, (*way, q))

        onwards(self.basis, self.order, ())

    def _add(self, turned: Tensor, way: tuple[int, ...], block: slice) -> None:
        """Put the weights on states at positions (P, R, n)."""
        some = (self.weights[way][:, block] @ turned.flatten(1)).reshape(-1, *turned.shape[1:])
        self.sums[way] = self.sums[way] + some if way in self.sums else some
        self.at_edge[way] = turned[-1]

    def collect(self, result: Averages) -> None:
        """Put the bases together to the states that were asked for."""
        rows: dict[tuple[tuple[int, ...], float], list[Key]] = {}
        for branch, way, moment in self.jobs:
            rows.setdefault((way, moment), []).append(branch)
        for (way, moment), branches in rows.items():
            of_moment = self.of_moment[way][self.moments[way][moment]]
            states = self._of(branches) @ torch.tensordot(of_moment, self.sums[way], 1)
            result.states.update(((branch, way, moment), state) for branch, state in zip(branches, states, strict=True))
        edges: dict[tuple[int, ...], dict[Key, None]] = {}
        for branch, way, _ in self.jobs:
            edges.setdefault(way, {})[branch] = None
        for way, some in edges.items():
            states = self._of([*some]) @ self.at_edge[way]
            result.at_edge.update(((branch, way), state) for branch, state in zip(some, states, strict=True))
        for way, sizes in self.left_out.items():
            result.left_out.update(((branch, way), float(sizes[row])) for branch, row in self.branches.items())

    def _of(self, branches: Sequence[Key]) -> Tensor:
        """Return the coefficients of branches in the basis."""
        return self.of_branch[[self.branches[branch] for branch in branches]]


def spanned(rows: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """Return (coefficients, basis) with rows = coefficients @ basis but for less than `smallest` in each direction.

    A single row, or rows that span as many dimensions as there are of them, come back as they are.
    """
    u, s, vh = torch.linalg.svd(rows, full_matrices=False)
    rank = max(1, int((s > smallest).sum()))
    if rank == rows.shape[0]:
        return torch.eye(rank, dtype=rows.dtype), rows
    return u[:, :rank] * s[:rank], vh[:rank]
