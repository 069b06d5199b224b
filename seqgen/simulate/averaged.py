r"""A shot ready to be played many times: fixed pulses averaged over their positions once, for all plays.

Between pulses only single coherence orders are kept (pathways.py), and rho -> w sum_x U_x rho U_x^H is linear. So a
pulse that never changes is a matrix between the elements ij of order p before it and the elements kl of order q after
it,

    M[kl, ij] = w sum_x U_x[k, i] conj(U_x[l, j]),

210 x 210 for five spins 1/2 and orders 1 and -1, in place of two products with 32 x 32 matrices at each position. What
comes before the first free delay is computed once. `localise.play` is the same without matrices.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.acquire import Lines
from seqgen.simulate.acquire import lines as lines_of
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import PreparedPulse, PreparedShot, play
from seqgen.spin.hamiltonian import GroupModel

MOST_BYTES = 2**28
"""Most memory of the matrices of one pulse; larger ones (six spins and some 30 members) stay at their positions."""

_Future = frozenset[tuple[tuple[int, ...], complex]]
"""Orders from now on and weight of every pathway that goes on from a state."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OrderMatrices:
    """A pulse, averaged over its positions, between the elements of coherence orders."""

    block: Mapping[tuple[int, int], Tensor]
    """Matrix by (order before, order after), complex, shape (E, n_after, n_before)."""

    def apply(self, state: Tensor, before: int, after: int) -> Tensor:
        """Return the elements of order `after` that those of order `before`, shape (E, n_before, B), become."""
        matrix = self.block.get((before, after))
        if matrix is not None:
            return _Product.apply(matrix, state)  # type: ignore[no-untyped-call,no-any-return]
        # M[lk, ji] = conj(M[kl, ij]), and the elements of opposite orders are listed as the transposed ones.
        return _Product.apply(self.block[-before, -after], state.conj()).conj()  # type: ignore[no-untyped-call,no-any-return]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AveragedShot:
    """A shot of one spin group and ensemble whose fixed pulses are averaged; from `average`."""

    model: GroupModel
    """The spin group."""
    members: Ensemble
    """The ensemble."""
    delays_s: tuple[float, ...]
    """Free evolution after each pulse, s."""
    pulses: tuple[PreparedPulse | OrderMatrices, ...]
    """Pulses in order: fixed ones as matrices, variable ones (and those of large groups) as they were prepared."""
    elements: Mapping[int, Tensor]
    """Index pairs of the elements of every order that is met, int64, shape (n, 2)."""
    start: Tensor
    """State before the first pulse, complex, shape (d, d) or (E, d, d)."""
    begun: Mapping[_Future, Tensor]
    """The same after the first pulse if that is fixed, else before it: elements of every branch, shape (E, n, 1)."""
    n_begun: int
    """Number of pulses that `begun` has behind it, 0 or 1."""
    unaveraged: PreparedShot | None = None
    """The shot itself where pulses along one axis follow one another: it is played instead."""

    def lines(
        self,
        *,
        replaced: Mapping[int, Tensor] | None = None,
        delays_s: Sequence[float | Tensor] | None = None,
    ) -> Lines:
        """Return the lines at time zero: those of `play`, T2 not counted.

        Args:
            replaced: Propagators of variable pulses by their index, shape (E, 1, d, d).
            delays_s: Other free delays after each pulse, s: numbers, tensors of shape (), or of shape (B,) for B
                timings at once.

        Returns:
            Amplitude of shape (E, n_lines), or (B, E, n_lines) for several timings. Differentiable once.

        Raises:
            InputError: If a pulse is replaced that was averaged.
        """
        delays = self.delays_s if delays_s is None else delays_s
        several = any(isinstance(delay, Tensor) and delay.ndim for delay in delays)
        if self.unaveraged is not None:
            return self._lines_of_play(self.unaveraged, replaced, delays, several)
        states = dict(self.begun)
        for index, pulse in enumerate(self.pulses):
            if replaced and index in replaced:
                if not isinstance(pulse, PreparedPulse):
                    raise InputError(f"Pulse {index} was averaged as a fixed one. Name it among the variable pulses.")
                pulse = replace(pulse, propagator=replaced[index])
            if index >= self.n_begun:
                states = self._after(states, pulse, last=index == len(self.pulses) - 1)
            states = {
                future: self._free(state, _order(future), delays[index], last=index == len(self.pulses) - 1)
                for future, state in states.items()
            }
        detected = sum(state * weight for future, state in states.items() for _, weight in future)
        amplitude = detected.permute(2, 0, 1) * self.model.transition_weight  # type: ignore[union-attr]
        if several:
            return Lines(amplitude=amplitude, frequency_hz=self.model.transition_hz)
        return Lines(amplitude=amplitude[0], frequency_hz=self.model.transition_hz)

    def _after(
        self, states: Mapping[_Future, Tensor], pulse: PreparedPulse | OrderMatrices, *, last: bool
    ) -> dict[_Future, Tensor]:
        """Apply a pulse to every branch, and split the result by the orders its pathways go on with."""
        result: dict[_Future, Tensor] = {}
        if isinstance(pulse, OrderMatrices):
            for future, state in states.items():
                for after, rest in _onward(future):
                    part = pulse.apply(state, _order(future), after)
                    result[rest] = result[rest] + part if rest in result else part
            return result
        for rho, rests in self._whole(states):
            turned = torch.stack([pulse.apply(one) for one in rho], -1)
            for after, rest in rests:
                i, j = self._pairs(after, last=last).unbind(1)
                part = turned[:, i, j]
                result[rest] = result[rest] + part if rest in result else part
        return result

    def _whole(self, states: Mapping[_Future, Tensor]) -> Iterator[tuple[Tensor, list[tuple[int, _Future]]]]:
        """Yield the density matrices, shape (B, E, d, d), of branches of one future, with where they go on."""
        alike: dict[_Future, list[_Future]] = {}
        for future in states:
            alike.setdefault(frozenset((orders[1:], weight) for orders, weight in future), []).append(future)
        d = self.model.dimension
        for futures in alike.values():
            flat: Tensor = sum(  # type: ignore[assignment]
                _scattered(states[future], self.elements[_order(future)] @ torch.tensor([d, 1]), d * d)
                for future in futures
            )
            yield flat.permute(2, 0, 1).reshape(flat.shape[2], flat.shape[0], d, d), _onward(futures[0])

    def _pairs(self, order: int, *, last: bool) -> Tensor:
        """Return the elements of an order that are kept: after the last pulse those that are detected."""
        return self.model.transition if last else self.elements[order]

    def _free(self, state: Tensor, order: int, delay_s: float | Tensor, *, last: bool) -> Tensor:
        """Return elements of one order, shape (E, n, B), after free evolution (`localise.free_phase`)."""
        i, j = self._pairs(order, last=last).unbind(1)
        energy = self.model.energy_rad_per_s
        t_s = torch.as_tensor(delay_s, dtype=energy.dtype).reshape(1, -1)
        own = torch.exp(-1j * (energy[i] - energy[j])[:, None] * t_s)
        field = torch.exp(-2j * math.pi * order * self.members.offset_hz[:, None] * t_s)
        return state * (own * field[:, None])

    def _lines_of_play(
        self,
        shot: PreparedShot,
        replaced: Mapping[int, Tensor] | None,
        delays: Sequence[float | Tensor],
        several: bool,
    ) -> Lines:
        """Return the lines by `play`, one timing after the other."""
        if not several:
            return lines_of(play(shot, replaced=replaced, delays_s=delays), self.model)
        times = [torch.as_tensor(delay, dtype=torch.float64).reshape(-1) for delay in delays]
        count = max(len(time) for time in times)
        each = [
            lines_of(play(shot, replaced=replaced, delays_s=row.unbind()), self.model)
            for row in torch.stack([time.expand(count) for time in times], -1)
        ]
        return Lines(amplitude=torch.stack([one.amplitude for one in each]), frequency_hz=self.model.transition_hz)


def average(
    shot: PreparedShot, *, start: Tensor | None = None, variable: Collection[int] = (), most_bytes: int = MOST_BYTES
) -> AveragedShot:
    """Average the pulses of a shot over their positions.

    Args:
        shot: From `prepare`, without relaxation.
        start: State before the first pulse, shape (d, d) or (E, d, d), of which order 0 counts; default the thermal
            state.
        variable: Indices of the pulses that are replaced in later plays.
        most_bytes: Most memory of the matrices of one pulse. Averaging is then left to every play.
    """
    if not all(pulse.closes for pulse in shot.pulses):
        return unaveraged(shot, start=start)
    model, members = shot.model, shot.members
    start = model.initial_state if start is None else start
    whole: _Future = frozenset(
        ((0, *path.orders), complex(round(path.cycle_weight.real, 12), round(path.cycle_weight.imag, 12)))
        for path in shot.pathways
    )
    orders = {0, *(order for path in shot.pathways for order in path.orders)}
    elements = {order: elements_of(model, order) for order in orders}
    i, j = elements[0].unbind(1)
    before = {whole: start.expand(members.size, -1, -1)[:, i, j, None]}
    bare = AveragedShot(
        model=model,
        members=members,
        delays_s=shot.delays_s,
        pulses=shot.pulses,
        elements=elements,
        start=start,
        begun=before,
        n_begun=0,
    )
    played = 0 if 0 in variable else 1
    begun = bare._after(before, shot.pulses[0], last=len(shot.pulses) == 1) if played else before
    pulses: list[PreparedPulse | OrderMatrices] = list(shot.pulses)
    steps = {(path.orders[k - 1], path.orders[k], k) for path in shot.pathways for k in range(1, len(path.orders))}
    for k, pulse in enumerate(shot.pulses):
        if k >= played and k not in variable:
            last = k == len(shot.pulses) - 1
            kept = {(p, q) for p, q, at in steps if at == k}
            pulses[k] = _matrices(bare, pulse, kept, last=last, most_bytes=most_bytes)
    if played:
        # Never played again: its propagators need no room.
        pulses[0] = OrderMatrices(block={})
    return replace(bare, pulses=tuple(pulses), begun=begun, n_begun=played)


def unaveraged(shot: PreparedShot, *, start: Tensor | None = None) -> AveragedShot:
    """Return a shot that leaves everything to `play`; arguments as of `average`."""
    start = shot.model.initial_state if start is None else start
    return AveragedShot(
        model=shot.model,
        members=shot.members,
        delays_s=shot.delays_s,
        pulses=shot.pulses,
        elements={},
        start=start,
        begun={},
        n_begun=0,
        unaveraged=replace(shot, model=replace(shot.model, initial_state=start)),
    )


def elements_of(model: GroupModel, order: int) -> Tensor:
    """Return the index pairs (i, j) of one coherence order, int64, shape (n, 2); of -p those of p, transposed.

    They are grouped by the magnetic quantum numbers of i and j, in each group j varies fastest (i for orders below 0).
    """
    parts = [torch.cartesian_prod(i, j) for i, j in _classes(model, abs(order))]
    pairs = torch.cat(parts)
    return pairs if order >= 0 else pairs.flip(1)


def _classes(model: GroupModel, order: int) -> list[tuple[Tensor, Tensor]]:
    """Return (states of m, states of m - order) for every m that has both."""
    m = model.order[:, 0]
    pairs = [(torch.nonzero(m == value)[:, 0], torch.nonzero(m == value - order)[:, 0]) for value in torch.unique(m)]
    return [(i, j) for i, j in pairs if len(i) and len(j)]


def _matrices(
    shot: AveragedShot, pulse: PreparedPulse, steps: Collection[tuple[int, int]], *, last: bool, most_bytes: int
) -> PreparedPulse | OrderMatrices:
    """Return a pulse as matrices for some (order before, order after), or as it is where they need too much memory."""
    wanted: set[tuple[int, int]] = set()
    for before, after in sorted(steps, reverse=True):
        # What is detected after the last pulse is no whole order.
        if last or before == 0 or after == 0 or (-before, -after) not in wanted:
            wanted.add((before, after))
    count = sum(len(shot._pairs(after, last=last)) * len(shot.elements[before]) for before, after in wanted)
    if 16 * shot.members.size * count > most_bytes:
        return pulse
    block = {}
    for before, after in wanted:
        matrix = _block(shot.model, pulse, before, after)
        block[before, after] = matrix[:, _rows(shot, after)] if last else matrix
    return OrderMatrices(block=block)


def _rows(shot: AveragedShot, order: int) -> Tensor:
    """Return where the detected elements stand among those of their order, shape (n_lines,)."""
    d = shot.model.dimension
    place = torch.full((d * d,), -1)
    place[shot.elements[order] @ torch.tensor([d, 1])] = torch.arange(len(shot.elements[order]))
    return place[shot.model.transition @ torch.tensor([d, 1])]


def _block(model: GroupModel, pulse: PreparedPulse, before: int, after: int) -> Tensor:
    """Return M between all elements of two orders, shape (E, n_after, n_before): one product per pair of groups."""
    u = pulse.propagator * math.sqrt(pulse.position_weight)
    out = f"e{'kl' if after >= 0 else 'lk'}{'ij' if before >= 0 else 'ji'}"
    rows = []
    for first_after, second_after in _classes(model, abs(after)):
        k, l_ = (first_after, second_after) if after >= 0 else (second_after, first_after)
        row = []
        for first_before, second_before in _classes(model, abs(before)):
            i, j = (first_before, second_before) if before >= 0 else (second_before, first_before)
            left, right = u[:, :, k[:, None], i], u[:, :, l_[:, None], j].conj().resolve_conj()
            part = torch.einsum(f"exki,exlj->{out}", left, right)
            row.append(part.reshape(u.shape[0], len(k) * len(l_), len(i) * len(j)))
        rows.append(torch.cat(row, -1))
    return torch.cat(rows, 1)


def _order(future: _Future) -> int:
    """Return the order that a branch has now."""
    return next(orders[0] for orders, _ in future)


def _onward(future: _Future) -> list[tuple[int, _Future]]:
    """Return (order, future) of the branches that a branch becomes."""
    return [
        (after, frozenset((orders[1:], weight) for orders, weight in future if orders[1] == after))
        for after in sorted({orders[1] for orders, _ in future})
    ]


def _scattered(state: Tensor, place: Tensor, size: int) -> Tensor:
    """Return elements, shape (E, n, B), at their places among `size` zeros, shape (E, size, B)."""
    return state.new_zeros(state.shape[0], size, state.shape[2]).index_copy(1, place, state)


class _Product(torch.autograd.Function):
    """A constant matrix times a state. Its gradient conjugates the vectors; autograd's own copies the matrix."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, state: Tensor) -> Tensor:
        ctx.matrix = matrix
        return torch.bmm(matrix, state.resolve_conj())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, torch.bmm(ctx.matrix.mT, gradient.conj().resolve_conj()).conj()
