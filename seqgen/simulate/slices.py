"""Selective pulses: where a pulse with a constant gradient acts, and its propagators over positions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.propagate import pulse_propagator
from seqgen.simulate.relaxation import (
    RELAXATION_STEP_S,
    RelaxingPulse,
    SpinRelaxation,
    require_spins_one_half,
)
from seqgen.simulate.rotation import accumulate, rotations
from seqgen.spin.hamiltonian import GroupModel, require_memory
from seqgen.timeline import Interval

TOUCHED = 1e-3
"""A pulse acts on a spin where |b|^2 (its inversion probability) exceeds this."""
_FEW_SAMPLES = 16
"""Up to so many different samples a pulse is taken as played (rectangle, composite), not as a sampled shape."""
_MOST_STEPS = 200_000
"""Most steps on each side of a profile."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slice:
    """Geometry of a selective pulse."""

    direction: Tensor
    """Unit vector of the gradient, shape (3,)."""
    gradient_hz_per_m: float
    """Gradient along `direction`, Hz/m, positive."""
    centre_m: float
    """Position along `direction` of a spin at zero offset: middle of the half-maximum edges, m."""
    thickness_m: float
    """Full width at half maximum, m."""
    low_hz: float
    """Lowest offset the pulse touches, Hz."""
    high_hz: float
    """Highest offset the pulse touches, Hz."""


def waveform_in_carrier_frame(interval: Interval) -> tuple[Tensor, float]:
    """Return (waveform without its carrier, dwell) with runs of equal samples merged into one.

    Returns:
        Complex shape (T / m,), Hz, and m times the dwell in s; m is the longest run length common to all runs.
    """
    n = interval.n_samples
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5) * interval.dwell_s
    b1 = interval.b1_hz * torch.exp(-2j * math.pi * interval.carrier_hz * t_s)
    scale = float(b1.detach().abs().max()) or 1.0
    changes = torch.nonzero((b1.detach()[1:] - b1.detach()[:-1]).abs() > 1e-9 * scale)[:, 0] + 1
    run = math.gcd(n, *(int(c) for c in changes))
    return b1.reshape(-1, run).mean(1), interval.dwell_s * run


def response(interval: Interval, offset_hz: Tensor) -> Tensor:
    """Return |b|^2, the inversion probability of an isolated spin at offsets in Hz, same shape."""
    b1, dwell_s = waveform_in_carrier_frame(interval)
    offset_turns = (offset_hz[..., None] - interval.carrier_hz) * dwell_s
    _, b = accumulate(rotations(b1.detach() * dwell_s, offset_turns))
    return b.abs() ** 2


def slice_gradient(interval: Interval) -> Tensor | None:
    """Return the constant gradient under which a pulse plays, Hz/m, shape (3,), or None if no gradient is on.

    Raises:
        InputError: If the gradient changes while RF is on.
    """
    gradient = interval.gradient_hz_per_m
    if not bool(gradient.any()):
        return None
    if float((gradient - gradient[0]).abs().max()) > 1e-6 * float(gradient[0].abs().max() or 1.0):
        raise InputError(
            f"The gradient changes during RF pulse {interval.name or interval.use!r}; selective pulses are simulated "
            "under a constant gradient. Start the pulse after the ramp."
        )
    return gradient[0]


def slice_of(interval: Interval) -> Slice | None:
    """Return the slice that a pulse selects, or None if no gradient is on.

    Half maximum is of |b|^2 relative to its value in the middle (of sin^2 for an excitation: where half of the
    middle's transverse magnetisation is left).

    Raises:
        InputError: If the gradient changes while RF is on.
    """
    gradient = slice_gradient(interval)
    return None if gradient is None else _slice_under(interval, gradient)


@lru_cache(maxsize=64)
def _profile_edges(interval: Interval) -> tuple[float, float, float, float]:
    """Return the half-maximum edges of a pulse's profile and the edges of what it touches, all in Hz."""
    b1, dwell_s = waveform_in_carrier_frame(interval)
    # A shaped pulse is meant up to half its sampling rate; one of few different samples is what it is.
    furthest_hz = 0.5 / dwell_s if b1.shape[0] > _FEW_SAMPLES else math.inf
    step_hz, reach_hz, name = 0.06 / interval.duration_s, 60.0 / interval.duration_s, interval.name or interval.use
    while True:
        reach_hz = min(reach_hz, furthest_hz)
        steps = math.ceil(reach_hz / step_hz)
        grid = torch.linspace(-reach_hz, reach_hz, 2 * steps + 1, dtype=torch.float64) + interval.carrier_hz
        b2 = response(interval, grid)
        touched = torch.nonzero(b2 > TOUCHED)[:, 0]
        if len(touched) == 0:
            raise InputError(f"RF pulse {name!r} has no effect at any offset: is its amplitude 0?")
        if reach_hz == furthest_hz or (int(touched[0]) > 0 and int(touched[-1]) < len(grid) - 1):
            break
        reach_hz *= 2
        if steps > _MOST_STEPS:
            raise InputError(
                f"RF pulse {name!r} still acts {reach_hz:.4g} Hz from its carrier: it selects no slice. Use a shaped "
                "pulse, or play it without gradient."
            )
    profile = torch.sqrt(4 * b2 * (1 - b2).clamp(min=0)) if interval.use == "excitation" else b2
    return *_half_maximum(grid, profile, str(name)), float(grid[touched[0]]), float(grid[touched[-1]])


def _slice_under(interval: Interval, gradient: Tensor) -> Slice:
    """Return the slice of a pulse under a constant gradient."""
    low, high, low_touched, high_touched = _profile_edges(interval)
    strength = float(gradient.norm())
    return Slice(
        direction=gradient / strength,
        gradient_hz_per_m=strength,
        centre_m=0.5 * (low + high) / strength,
        thickness_m=(high - low) / strength,
        low_hz=low_touched,
        high_hz=high_touched,
    )


def _half_maximum(grid: Tensor, profile: Tensor, name: str) -> tuple[float, float]:
    """Return the outermost half-maximum crossings of a profile, interpolated linearly."""
    above = torch.nonzero(profile >= 0.5 * profile.max())[:, 0]
    first, last = int(above[0]), int(above[-1])
    if first == 0 or last == len(grid) - 1:
        raise InputError(
            f"RF pulse {name!r} selects more than its samples can describe, {float(grid[-1] - grid[0]):.4g} Hz: its "
            "slice has no edges. Sample the waveform more finely."
        )
    half = 0.5 * float(profile.max())

    def crossing(outside: int, inside: int) -> float:
        y0, y1 = float(profile[outside]), float(profile[inside])
        return float(grid[outside] + (grid[inside] - grid[outside]) * (half - y0) / (y1 - y0))

    return crossing(first - 1, first), crossing(last + 1, last)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SliceAxis:
    """Positions along the slice axis of one selective pulse, or of several that share it."""

    direction: Tensor
    """Unit vector, shape (3,); zero for a non-selective pulse."""
    position_m: Tensor
    """Positions along it, m, shape (P,); one at 0 for a non-selective pulse."""
    weight: float
    """Weight of each position: its share of the (thinnest) slice thickness, 1 for a non-selective pulse."""


def slice_axis(
    model: GroupModel,
    intervals: Sequence[Interval],
    members: Ensemble,
    *,
    positions_per_slice: int,
    positions_m: Tensor | None = None,
) -> SliceAxis:
    """Return the axis of a pulse, or of several pulses along one line; arguments as `pulse_over_positions`.

    Positions cover all that any of the pulses touches.
    """
    gradients = [gradient for interval in intervals if (gradient := slice_gradient(interval)) is not None]
    if not gradients:
        zero = torch.zeros(3, dtype=torch.float64)
        return SliceAxis(direction=zero, position_m=zero[:1], weight=1.0)
    direction = gradients[0] / gradients[0].norm()
    if positions_m is not None:
        _require_room(model, members, positions_m.shape[0])
        return SliceAxis(direction=direction, position_m=positions_m, weight=1.0 / positions_m.shape[0])
    pulsed = model.offset_hz[model.pulsed > 0]
    lowest = float(pulsed.min() + members.offset_hz.min())
    highest = float(pulsed.max() + members.offset_hz.max())
    edges_m: list[float] = []
    thickness_m = math.inf
    for interval, gradient in zip(intervals, gradients, strict=True):
        sliced, strength = _slice_under(interval, gradient), float(gradient @ direction)
        edges_m += [(sliced.low_hz - highest) / strength, (sliced.high_hz - lowest) / strength]
        thickness_m = min(thickness_m, sliced.thickness_m)
    low_m, high_m = min(edges_m), max(edges_m)
    n_positions = math.ceil((high_m - low_m) / thickness_m * positions_per_slice)
    _require_room(model, members, n_positions)
    step_m = (high_m - low_m) / n_positions
    return SliceAxis(
        direction=direction,
        position_m=low_m + (torch.arange(n_positions, dtype=torch.float64) + 0.5) * step_m,
        weight=step_m / thickness_m,
    )


def _require_room(model: GroupModel, members: Ensemble, n_positions: int) -> None:
    """Refuse more propagators of a pulse than memory holds: U, its frame's phases, U rho at the same time."""
    count = members.size * n_positions
    require_memory(model.group, 3 * count, f"{count} propagators of a pulse")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Positions:
    """Positions over which a pulse is averaged, and the frame that its states are in there."""

    position_m: Tensor
    """Positions along the axis, m, shape (P,)."""
    gradient_hz_per_m: float
    """Gradient along the axis, Hz/m."""
    before: Tensor
    """Diagonal that takes states into the pulse's frame before it plays, shape (P, d): see `pulse_over_positions`."""
    after: Tensor
    """Diagonal that takes them out of it, shape (P, d)."""


def positions_of(model: GroupModel, interval: Interval, axis: SliceAxis) -> Positions:
    """Return where along its axis a pulse is simulated."""
    gradient, positions_m = slice_gradient(interval), axis.position_m
    strength = 0.0 if gradient is None else float(gradient @ axis.direction)
    m = model.order[:, 0].to(torch.float64)
    centre_s = interval.centre_s if interval.centre_s is not None else 0.5 * interval.duration_s
    # Out of the carrier frame at the end of the pulse, and the gradient's phase about the centre taken back.
    after = -interval.carrier_hz * interval.duration_s + strength * positions_m * (interval.duration_s - centre_s)
    before = strength * positions_m * centre_s
    return Positions(
        position_m=positions_m,
        gradient_hz_per_m=strength,
        before=torch.exp(2j * math.pi * before[:, None] * m),
        after=torch.exp(2j * math.pi * after[:, None] * m),
    )


def pulse_over_positions(
    model: GroupModel,
    interval: Interval,
    members: Ensemble,
    *,
    positions_per_slice: int,
    j_step_s: float,
    positions_m: Tensor | None = None,
) -> tuple[Tensor, float]:
    """Return the propagators of a pulse over ensemble and positions, in the eigenbasis of the free Hamiltonian.

    A selective pulse is refocused about its own centre: the phase that its gradient writes before and after the centre
    is taken back, as the balanced gradients of a refocused pathway do. Positions cover all that the pulse touches,
    `positions_per_slice` of them in one slice thickness; explicit `positions_m` along the gradient are averaged with
    equal weights instead.

    Returns:
        Propagators of shape (E, P, d, d), and the weight of each position: its share of the slice thickness (1 for a
        non-selective pulse, P = 1).
    """
    axis = slice_axis(model, [interval], members, positions_per_slice=positions_per_slice, positions_m=positions_m)
    return pulse_along_axis(model, interval, members, axis, j_step_s), axis.weight


def pulse_along_axis(
    model: GroupModel, interval: Interval, members: Ensemble, axis: SliceAxis, j_step_s: float
) -> Tensor:
    """Return the propagators of `pulse_over_positions` at the positions of an axis, shape (E, P, d, d)."""
    places = positions_of(model, interval, axis)
    u = _pieces(model, interval, members, places, 1, j_step_s)[0]
    vectors = model.eigenvectors.to(u.dtype)
    return places.after[:, :, None] * (vectors.mT @ u @ vectors) * places.before[:, None, :]


def relaxing_pulse(
    model: GroupModel,
    interval: Interval,
    members: Ensemble,
    relaxation: SpinRelaxation,
    axis: SliceAxis,
    j_step_s: float,
    *,
    longest_piece_s: float = RELAXATION_STEP_S,
) -> RelaxingPulse:
    """Return a pulse during which every spin relaxes, at the positions of an axis.

    Relaxation acts between pieces of the pulse no longer than `longest_piece_s`.

    Raises:
        InputError: If the group holds total spins of equivalent protons (`relaxation.require_spins_one_half`).
    """
    require_spins_one_half(model, relaxation)
    places = positions_of(model, interval, axis)
    count = max(1, math.ceil(interval.duration_s / longest_piece_s - 1e-9))
    return RelaxingPulse(
        pieces=_pieces(model, interval, members, places, count, j_step_s),
        duration_s=interval.duration_s,
        relaxation=relaxation,
        eigenvectors=model.eigenvectors,
        before=places.before,
        after=places.after,
    )


def _pieces(
    model: GroupModel, interval: Interval, members: Ensemble, places: Positions, count: int, j_step_s: float
) -> Tensor:
    """Return the propagators of a pulse cut into equal pieces, carrier frame, product basis, shape (N, E, P, d, d)."""
    b1, dwell_s = waveform_in_carrier_frame(interval)
    n_p = places.position_m.shape[0]
    _require_room(model, members, count * n_p)
    offset_hz = members.offset_hz[:, None] + places.gradient_hz_per_m * places.position_m - interval.carrier_hz
    held = count // math.gcd(count, b1.shape[0])  # samples are cut where a piece ends inside one
    pieces, dwell_s = b1.repeat_interleave(held).reshape(count, -1), dwell_s / held
    u = pulse_propagator(
        model,
        pieces.repeat_interleave(members.size * n_p, 0) if count > 1 else pieces,
        dwell_s,
        offset_hz=offset_hz.reshape(-1).repeat(count),
        b1_scale=members.b1_scale.repeat_interleave(n_p).repeat(count),
        j_step_s=j_step_s,
    )
    return u.reshape(count, members.size, n_p, *u.shape[-2:])
