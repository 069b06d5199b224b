r"""The density matrix at many times through a shot, for looking at what a sequence does.

States are those of `play`: averaged over the voxel pulse by pulse, coherence pathways kept that the gradients refocus
and the phase cycle passes. Each is Hermitian: with a pathway goes its mirror of reversed orders, which no receiver sees
but which belongs to the state. Coherence orders are selected at the end of each pulse, though gradients take longer.
The phase cycle weighs pathways when they are complete, after the last pulse, relative to the first shot's receiver.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.ensemble import Ensemble, ensemble
from seqgen.simulate.localise import DEFAULT_POSITIONS_PER_SLICE, PreparedShot, branch, free_phase, prepare
from seqgen.simulate.pathways import Pathway
from seqgen.simulate.propagate import RESULT_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel
from seqgen.spin.product_operators import coherence_norms
from seqgen.timeline import Interval, Timeline

_States = dict[frozenset[tuple[tuple[int, ...], complex]], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseSpan:
    """When a pulse plays."""

    name: str
    """Its name, or what it is for."""
    start_s: float
    """Start on the timeline, s."""
    end_s: float
    """End on the timeline, s."""
    centre_s: float
    """RF centre on the timeline, s."""
    excites: bool
    """Whether it is an excitation pulse."""
    selective: bool
    """Whether a gradient is on: then there are no states inside it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trajectory:
    """States of a spin group through a shot."""

    model: GroupModel
    """The spin group."""
    time_s: Tensor
    """Times on the timeline, s, ascending, shape (K,). The end of a pulse comes twice: before and after coherence
    orders are selected (of a pulse with slice gradient once, after)."""
    states: Tensor
    """Density matrices in the product basis, Hermitian, complex128, shape (K, E, d, d); the thermal state is
    sum_k Iz_k. In the frame of the spectrometer frequency."""
    pulses: tuple[PulseSpan, ...]
    """The pulses in order."""
    time_zero_s: float
    """Time of the last state: t = 0 of the lines, s."""
    te_s: float
    """Time from the excitation to the echo, s."""
    receiver_phase_rad: float
    """Phase of the first shot's receiver, rad; `received` applies it."""
    volume: float
    """Positions that the selective pulses touch over those in their nominal slices, product over the axes: states are
    sums over the former in units of the latter, so a bound holds strictly for `volume` times the thermal state."""

    @property
    def excitation_s(self) -> float:
        """Centre of the last excitation pulse on the timeline, s; of the first pulse where none excites."""
        centres = [pulse.centre_s for pulse in self.pulses if pulse.excites]
        return centres[-1] if centres else self.pulses[0].centre_s


def trajectory(
    shots: Sequence[Timeline],
    model: GroupModel,
    members: Ensemble | None = None,
    *,
    time_zero_s: float | None = None,
    delay_step_s: float = 5e-4,
    steps_per_pulse: int = 100,
    positions_per_slice: int = DEFAULT_POSITIONS_PER_SLICE,
    j_step_s: float = RESULT_J_STEP_S,
    pathways: tuple[Pathway, ...] | None = None,
) -> Trajectory:
    """Play a shot and keep the state before and after each pulse, during delays and inside non-selective pulses.

    Args:
        shots: The shots of one phase cycle; the first is simulated (see `prepare`).
        model: The spin group at its field.
        members: Ensemble; default one member on resonance at nominal B1.
        time_zero_s: Time of the last state; default the echo.
        delay_step_s: Longest time between states in a delay, s.
        steps_per_pulse: Most steps inside a pulse without slice gradient; fewer where it has fewer samples.
        positions_per_slice: See `prepare`.
        j_step_s: See `pulse_propagator`.
        pathways: Pathways to keep; default those of `refocused_pathways`.

    Returns:
        The states. The last is what `play` returns plus its mirror, but for the receiver phase (see `received`).
    """
    members = members or ensemble()
    shot = prepare(
        shots,
        model,
        members,
        time_zero_s=time_zero_s,
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
        pathways=pathways,
    )
    phase_rad = shots[0].readouts()[0][1].phase_rad
    spans = _spans(shots[0])
    recorded, states = _Recorder(model), _start(shot, phase_rad)
    for index, (_, interval) in enumerate(shots[0].pulses()):
        start_s, end_s, weight = spans[index].start_s, spans[index].end_s, shot.pulses[index].position_weight
        recorded.add(start_s, states, shot.pulses[index - 1].position_weight)
        if not spans[index].selective:
            for time_s, u in _inside(model, members, interval, steps_per_pulse, j_step_s):
                recorded.add(start_s + time_s, {future: _turned(u, rho) for future, rho in states.items()}, weight)
            recorded.add(end_s, {future: shot.pulses[index].apply(rho) for future, rho in states.items()}, weight)
        states = branch(states, shot.pulses[index], model.order)
        if index == len(spans) - 1:
            states = _weighted(states)
        recorded.add(end_s, states, weight)
        start, delay_s = states, float(shot.delays_s[index])
        n_steps = max(math.ceil(delay_s / delay_step_s - 1e-9), 1) if delay_s else 0
        for step in range(1, n_steps + 1):
            phase = free_phase(model, members, delay_s * step / n_steps)
            states = {future: rho * (phase if rho.ndim == 3 else phase[:, None]) for future, rho in start.items()}
            recorded.add(end_s + delay_s * step / n_steps, states, weight)
    return Trajectory(
        model=model,
        time_s=torch.tensor(recorded.time_s, dtype=torch.float64),
        states=torch.stack(recorded.states),
        pulses=spans,
        time_zero_s=shot.time_zero_s,
        te_s=shot.te_s,
        receiver_phase_rad=phase_rad,
        volume=math.prod(pulse.propagator.shape[1] * pulse.position_weight for pulse in shot.pulses if pulse.closes),
    )


def received(played: Trajectory) -> Tensor:
    """Return the last states with the receiver phase applied, Hermitian, product basis, shape (E, d, d).

    Coherence orders other than -1 and +1 are left out; the order -1 part is what `play` returns.
    """
    rho = to_eigenbasis(played.states[-1], played.model)
    order = played.model.order
    detected = rho * (order == -1) * complex(math.cos(played.receiver_phase_rad), -math.sin(played.receiver_phase_rad))
    return to_product_basis(detected + detected.mH, played.model)


def order_norms(played: Trajectory) -> dict[int, Tensor]:
    """Return the Frobenius norm of every (signed) coherence order at every time, each of shape (K, E)."""
    return coherence_norms(to_eigenbasis(played.states, played.model), played.model.order)


def require_spins_one_half(model: GroupModel) -> None:
    """Refuse a group that has no product operators.

    Raises:
        InputError: If some spin is not 1/2.
    """
    if model.order.shape[0] != 2**model.group.n_spins:
        raise InputError(
            f"Spin group {model.group.name!r} holds spins other than 1/2 ({', '.join(model.group.labels)}), which "
            "product operators do not describe. Leave out a 14N that is decoupled, or choose another group."
        )


def to_product_basis(rho: Tensor, model: GroupModel) -> Tensor:
    """Return states of the eigenbasis in the product basis, shape (..., d, d)."""
    vectors = model.eigenvectors.to(rho.dtype)
    return vectors @ rho @ vectors.mT


def to_eigenbasis(rho: Tensor, model: GroupModel) -> Tensor:
    """Return states of the product basis in the eigenbasis of the free Hamiltonian, shape (..., d, d)."""
    vectors = model.eigenvectors.to(rho.dtype)
    return vectors.mT @ rho @ vectors


class _Recorder:
    """Collects states in the product basis, summed over branches."""

    def __init__(self, model: GroupModel) -> None:
        self.model = model
        self.time_s: list[float] = []
        self.states: list[Tensor] = []

    def add(self, time_s: float, states: _States, weight: float) -> None:
        """Keep the state at a time; states that still hold their positions are averaged with a weight for each."""
        total = torch.stack(list(states.values())).sum(0)
        self.time_s.append(time_s)
        self.states.append(to_product_basis(total if total.ndim == 3 else total.sum(1) * weight, self.model))


def _turned(u: Tensor, rho: Tensor) -> Tensor:
    """Return U rho U^H for propagators (E, d, d) and states (E, d, d) or (E, P, d, d)."""
    u = u if rho.ndim == 3 else u[:, None]
    return u @ rho @ u.mH


def _start(shot: PreparedShot, receiver_phase_rad: float) -> _States:
    """Return the thermal state with the pathways ahead of it: the kept ones and their mirrors."""
    back = complex(math.cos(receiver_phase_rad), math.sin(receiver_phase_rad))
    ahead = set()
    for path in shot.pathways:
        weight = path.cycle_weight * back
        weight = complex(round(weight.real, 12), round(weight.imag, 12))
        ahead |= {((0, *path.orders), weight), ((0, *(-p for p in path.orders)), weight.conjugate())}
    return {frozenset(ahead): shot.model.initial_state.expand(shot.members.size, -1, -1)}


def _weighted(states: _States) -> _States:
    """Apply the weights of complete pathways: each branch has one left."""
    return {future: sum((rho * weight for _, weight in future), 0 * rho) for future, rho in states.items()}


def _spans(timeline: Timeline) -> tuple[PulseSpan, ...]:
    """Return the pulses of a timeline."""
    return tuple(
        PulseSpan(
            name=interval.name or str(interval.use),
            start_s=start,
            end_s=start + interval.duration_s,
            centre_s=start + interval.centre_s,
            excites=interval.use == "excitation",
            selective=bool(interval.gradient_hz_per_m.any()),
        )
        for start, interval in zip(timeline.start_s, timeline.intervals, strict=True)
        if interval.centre_s is not None
    )


def _inside(
    model: GroupModel, members: Ensemble, interval: Interval, steps: int, j_step_s: float
) -> Iterator[tuple[float, Tensor]]:
    """Yield (time after the start in s, propagator from the start, shape (E, d, d)) inside a non-selective pulse.

    In the frame of the spectrometer frequency and the eigenbasis; the end of the pulse is left to its own propagator.
    """
    edges = sorted({round(interval.n_samples * step / steps) for step in range(steps + 1)})
    u = torch.eye(model.order.shape[0], dtype=torch.complex128)
    # In the frame of the carrier, whose samples are those the pulse's own propagator plays.
    t_s = (torch.arange(interval.n_samples, dtype=torch.float64) + 0.5) * interval.dwell_s
    b1_hz = interval.b1_hz * torch.exp(-2j * math.pi * interval.carrier_hz * t_s)
    m = model.order[:, :1].to(torch.float64)
    for first, last in itertools.pairwise(edges[:-1]):
        step = pulse_propagator(
            model,
            b1_hz[None, first:last],
            interval.dwell_s,
            offset_hz=members.offset_hz - interval.carrier_hz,
            b1_scale=members.b1_scale,
            j_step_s=j_step_s,
        )
        u = to_eigenbasis(step, model) @ u
        yield last * interval.dwell_s, torch.exp(-2j * math.pi * interval.carrier_hz * last * interval.dwell_s * m) * u
