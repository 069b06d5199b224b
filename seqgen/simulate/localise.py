r"""A shot played to coupled spins: pulses averaged over their slice axes, pathways selected by the gradients.

Selective pulses along perpendicular axes make the voxel average factorise into averages axis by axis,
rho -> sum_x w_x U_x rho U_x^H (Zhang, An, Shen, Med Phys 44:4169 (2017), doi:10.1002/mp.12375), with chemical-shift
displacement and the four-compartment effect in it. Pulses in turn along one axis (the pairs of LASER) act at the same
positions before that axis is averaged. Between pulses only the coherence orders of refocused pathways are
kept (pathways.py); branches that share their future are added up.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.ensemble import Ensemble, ensemble
from seqgen.simulate.pathways import Pathway, principal_echo, refocused_pathways, still_pulses
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.simulate.relaxation import RelaxingPulse, SpinRelaxation
from seqgen.simulate.slices import pulse_along_axis, relaxing_pulse, slice_axis, slice_gradient
from seqgen.spin.hamiltonian import GroupModel
from seqgen.timeline import Interval, Timeline

DEFAULT_POSITIONS_PER_SLICE = 24
"""Positions in one slice thickness of a selective pulse."""
RELAXING_FROM_S = 5e-3
"""Pulses of at least this duration relax their spins where relaxation during pulses is asked for, s."""
MOST_PATHS = 200_000
"""Most paths through all coherence orders that are looked through for refocused ones."""

_Future = frozenset[tuple[tuple[int, ...], complex]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedPulse:
    """A pulse ready to act on states in the eigenbasis."""

    propagator: Tensor
    """Shape (E, P, d, d), complex."""
    position_weight: float
    """Weight of each of the P positions along the slice axis."""
    relaxing: RelaxingPulse | None = None
    """The same pulse with relaxation while it plays; it is played instead where it is given."""
    closes: bool = True
    """Whether no later pulse selects along the same axis: the average over its positions is then taken. Until then
    states keep their positions, shape (E, P, d, d)."""

    def apply(self, rho: Tensor) -> Tensor:
        """Return U rho U^H for states (E, d, d) or (E, P, d, d): the mean over positions (E, d, d), or one for each."""
        rho = rho if rho.ndim == 4 else rho[:, None]
        if self.relaxing is not None:
            states = self.relaxing.apply(rho)
            return states.sum(1) * self.position_weight if self.closes else states
        half = self.propagator @ rho
        if not self.closes:
            return half @ self.propagator.mH
        n_members, n_positions, d = half.shape[:3]
        # The sum over positions is part of the second matrix product: its inner dimension is P d.
        side_by_side = self.propagator.transpose(1, 2).reshape(n_members, d, n_positions * d)
        half = half.transpose(1, 2).reshape(n_members, d, n_positions * d)
        return torch.bmm(half, side_by_side.mH) * self.position_weight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedShot:
    """A shot as alternating free delays and prepared pulses, for one spin group and ensemble."""

    model: GroupModel
    """The spin group."""
    members: Ensemble
    """The ensemble."""
    pulses: tuple[PreparedPulse, ...]
    """Pulses in order."""
    delays_s: tuple[float, ...]
    """Free evolution after each pulse, s; the last one ends at `time_zero_s`. Before the first pulse nothing moves."""
    pathways: tuple[Pathway, ...]
    """Pathways that are kept."""
    time_zero_s: float
    """Time on the timeline to which states are brought: t = 0 of the lines, s."""
    te_s: float
    """Echo time, s (`pathways.Echo.te_s`)."""
    relaxed_s: float
    """Time between excitation and time zero in which the state has relaxed already, s: that of relaxing pulses."""


def prepare(
    shots: Sequence[Timeline],
    model: GroupModel,
    members: Ensemble | None = None,
    *,
    time_zero_s: float | None = None,
    positions_per_slice: int = DEFAULT_POSITIONS_PER_SLICE,
    positions_m: Tensor | None = None,
    j_step_s: float = RESULT_J_STEP_S,
    pathways: tuple[Pathway, ...] | None = None,
    relaxation: SpinRelaxation | None = None,
    relaxing_from_s: float = RELAXING_FROM_S,
    positions_as: Timeline | None = None,
) -> PreparedShot:
    """Compute the propagators of all pulses of a shot.

    Args:
        shots: The shots of one phase cycle (see `refocused_pathways`); the first is simulated, outer-volume slabs
            left out (`without_slabs`).
        model: The spin group at its field.
        members: Ensemble of field offsets and B1 scales; default one member on resonance.
        time_zero_s: Time to which states are brought; default the echo, of a plain FID the end of its pulse.
        positions_per_slice: Positions in one slice thickness; they cover everything a selective pulse touches, and are
            more where its gradient winds more than 20 cycles over the slice (`slice_axis`).
        positions_m: Explicit positions for every selective pulse, averaged with equal weights, m.
        j_step_s: See `pulse_propagator`.
        pathways: Pathways to keep; default those of `refocused_pathways` with every order the group can have (orders
            -1, 0, 1 for shots of so many pulses that all would be more than `MOST_PATHS`).
        relaxation: Relaxation of every spin while long pulses after the excitation play; default none.
        relaxing_from_s: Shortest pulse in which spins relax, s.
        positions_as: A shot whose pulses decide over which positions those of this one are averaged; default itself.
            Where a step of a cycle leaves out an inversion (ISIS), the positions are those of the step that plays it.

    Raises:
        InputError: If slices are neither perpendicular nor along one axis in turn, or time zero lies before the end of
            the last pulse.
    """
    shots = without_slabs(shots)
    positions_as = None if positions_as is None else without_slabs([positions_as])[0]
    timeline = shots[0]
    members = members or ensemble()
    echo = principal_echo(shots)
    zero = echo.time_s if time_zero_s is None else time_zero_s
    starts = [
        (start, interval)
        for start, interval in zip(timeline.start_s, timeline.intervals, strict=True)
        if interval.use is not None
    ]
    ends = [start + interval.duration_s for start, interval in starts]
    delays = [begin - end for end, (begin, _) in zip(ends, starts[1:], strict=False)] + [zero - ends[-1]]
    if not echo.is_echo and time_zero_s is None:
        zero, delays[-1] = ends[-1], 0.0
    if delays[-1] < -1e-9:
        raise InputError(
            f"Time zero {zero * 1e3:.4g} ms lies before the end of the last pulse {ends[-1] * 1e3:.4g} ms of timeline "
            f"{timeline.name!r}. Choose a later time."
        )
    along = partial(
        slice_axis, model, members=members, positions_per_slice=positions_per_slice, positions_m=positions_m
    )
    first = next(k for k, order in enumerate(echo.pathway.orders) if order != 0)
    pulses: list[PreparedPulse] = []
    relaxed_s = 0.0
    selecting = [interval for _, interval in (positions_as or timeline).pulses()]
    for group in groups_of_one_axis([interval for _, interval in starts]):
        at = slice(len(pulses), len(pulses) + len(group))
        axis = along([interval for interval in selecting[at] if slice_gradient(interval) is not None])
        made: dict[int, Tensor] = {}  # both pulses of a pair are often one and the same
        for place, interval in enumerate(group):
            # Between two pulses along one axis, a non-selective one acts on every position.
            own = axis if slice_gradient(interval) is not None else along([])
            relaxing = None
            if relaxation is not None and len(pulses) > first and interval.duration_s >= relaxing_from_s:
                relaxing = relaxing_pulse(model, interval, members, relaxation, own, j_step_s)
                relaxed_s += interval.duration_s
            if id(interval) not in made:
                made[id(interval)] = pulse_along_axis(model, interval, members, own, j_step_s)
            pulses.append(
                PreparedPulse(
                    propagator=made[id(interval)],
                    position_weight=axis.weight,
                    relaxing=relaxing,
                    closes=place == len(group) - 1,
                )
            )
    return PreparedShot(
        model=model,
        members=members,
        pulses=tuple(pulses),
        delays_s=tuple(delays),
        pathways=_all_pathways(shots, model) if pathways is None else pathways,
        time_zero_s=zero,
        te_s=echo.te_s,
        relaxed_s=relaxed_s,
    )


def without_slabs(shots: Sequence[Timeline]) -> list[Timeline]:
    """Return shots without the RF of selective saturation pulses: outer-volume slabs, which spare the voxel.

    Their slices lie beside the voxel along its axes, where nothing that is simulated here lies; what they do to it is
    told by `seqgen.sequence.outer_volume` and its tests.
    """
    return [
        replace(shot, intervals=tuple(map(_without_slab, shot.intervals))) if _has_slab(shot) else shot
        for shot in shots
    ]


def _has_slab(shot: Timeline) -> bool:
    """Return whether a shot saturates a slab."""
    return any(map(_is_slab, shot.intervals))


def _is_slab(interval: Interval) -> bool:
    """Return whether an interval is a selective saturation pulse."""
    return interval.use == "saturation" and bool(interval.gradient_hz_per_m.any())


def _without_slab(interval: Interval) -> Interval:
    """Return an interval without the RF of a slab."""
    if not _is_slab(interval):
        return interval
    silent = torch.zeros_like(interval.b1_hz)
    return replace(interval, b1_hz=silent, use=None, centre_s=None, carrier_hz=0.0)


def without_relaxation(shot: PreparedShot) -> PreparedShot:
    """Return the same shot without relaxation during its pulses."""
    pulses = tuple(replace(pulse, relaxing=None) for pulse in shot.pulses)
    return replace(shot, pulses=pulses, relaxed_s=0.0)


def _all_pathways(shots: Sequence[Timeline], model: GroupModel) -> tuple[Pathway, ...]:
    """Return the refocused pathways through every coherence order of the group, or through -1, 0, 1 if too many."""
    highest = int(model.order.max())
    many = (2 * highest + 1) ** (len(shots[0].pulses()) - 1 - still_pulses(shots[0])) > MOST_PATHS
    return refocused_pathways(shots, orders=(-1, 0, 1) if many else tuple(range(-highest, highest + 1)))


def play(
    shot: PreparedShot,
    *,
    replaced: Mapping[int, Tensor] | None = None,
    delays_s: Sequence[float | Tensor] | None = None,
) -> Tensor:
    """Return the density matrix at time zero, order -1 part, in the eigenbasis.

    Args:
        shot: From `prepare`.
        replaced: Other propagators for pulses by their index, of the shape of their own: (E, 1, d, d) for a pulse
            without slice gradient, the variable of a design. They do not relax.
        delays_s: Other free delays after each pulse, s (numbers or tensors).

    Returns:
        Shape (E, d, d), complex; the thermal state is sum_k Iz_k. Nothing relaxes but during pulses that were
        prepared to (`PreparedPulse.relaxing`). Differentiable.
    """
    model = shot.model
    delays = shot.delays_s if delays_s is None else delays_s
    start: _Future = frozenset(
        ((0, *path.orders), complex(round(path.cycle_weight.real, 12), round(path.cycle_weight.imag, 12)))
        for path in shot.pathways
    )
    states: dict[_Future, Tensor] = {start: model.initial_state.expand(shot.members.size, -1, -1)}
    for index, pulse in enumerate(shot.pulses):
        if replaced and index in replaced:
            pulse = replace(pulse, propagator=replaced[index], relaxing=None)
        phase = free_phase(model, shot.members, delays[index])
        states = {
            future: rho * (phase if pulse.closes else phase[:, None])
            for future, rho in branch(states, pulse, model.order).items()
        }
    return sum(
        (rho * weight for future, rho in states.items() for _, weight in future),
        torch.zeros_like(model.initial_state).expand(shot.members.size, -1, -1),
    )


def branch(states: dict[_Future, Tensor], pulse: PreparedPulse, order: Tensor) -> dict[_Future, Tensor]:
    """Apply a pulse to every branch and split the result by the orders its pathways go on with."""
    result: dict[_Future, Tensor] = {}
    for future, rho in states.items():
        turned = pulse.apply(rho)
        for after in {orders[1] for orders, _ in future}:
            rest: _Future = frozenset((orders[1:], weight) for orders, weight in future if orders[1] == after)
            part = turned * (order == after)
            result[rest] = result[rest] + part if rest in result else part
    return result


def free_phase(model: GroupModel, members: Ensemble, delay_s: float | Tensor) -> Tensor:
    """Return exp(-i (E_i - E_j + 2 pi b0 (m_i - m_j)) t), shape (E, d, d)."""
    frequency = (model.energy_rad_per_s[:, None] - model.energy_rad_per_s[None, :]) + 2 * math.pi * members.offset_hz[
        :, None, None
    ] * model.order
    return torch.exp(-1j * frequency * delay_s)


def groups_of_one_axis(intervals: Sequence[Interval]) -> list[list[Interval]]:
    """Return the pulses in groups, in order: those in turn along one axis together, every other one alone.

    Raises:
        InputError: If two slices are neither perpendicular nor parallel, or pulses along one axis are not in turn.
    """
    groups: list[list[Interval]] = []
    loose: list[Interval] = []  # non-selective pulses since the last selective one
    for interval in intervals:
        gradient = slice_gradient(interval)
        if gradient is None:
            loose.append(interval)
            continue
        if groups and _share_axis(groups[-1][0], interval):
            groups[-1] += [*loose, interval]
        else:
            groups += [[pulse] for pulse in loose]
            groups.append([interval])
        loose = []
    groups += [[pulse] for pulse in loose]
    require_separate_axes([group[0] for group in groups])
    return groups


def _share_axis(one: Interval, other: Interval) -> bool:
    """Return whether two pulses select along one line, either way."""
    a, b = slice_gradient(one), slice_gradient(other)
    return (
        a is not None and b is not None and float(torch.linalg.cross(a, b).norm()) < 1e-6 * float(a.norm() * b.norm())
    )


def require_separate_axes(intervals: Sequence[Interval]) -> None:
    """Refuse pulses whose slices are neither along different, perpendicular axes nor non-selective."""
    slices = [(interval, along) for interval in intervals if (along := slice_gradient(interval)) is not None]
    for (one, a), (other, b) in itertools.combinations(slices, 2):
        if abs(float(a @ b)) > 1e-3 * float(a.norm() * b.norm()):
            raise InputError(
                f"Pulses {one.name or one.use!r} and {other.name or other.use!r} select slices along axes that are not "
                "perpendicular: their average over the voxel does not factorise, and this simulator needs that. Pulses "
                "along one axis must follow one another."
            )
