"""Selective pulses: where a pulse acts under its gradient, and its propagators over positions.

The gradient may change in strength while RF plays (GOIA, VERSE), along one line and without changing its sign. What
is said in Hz is then a spin's own offset plus its position times the mean gradient; the rest of x G(t) averages to zero
over the pulse and is carried through it as it is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.propagate import modulation_hz, pulse_propagator
from seqgen.simulate.relaxation import (
    RELAXATION_STEP_S,
    RelaxingPulse,
    SpinRelaxation,
    require_spins_one_half,
)
from seqgen.simulate.rotation import accumulate, moments, rotations
from seqgen.spin.hamiltonian import GroupModel, require_memory
from seqgen.timeline import Interval

TOUCHED = 1e-3
"""A pulse acts on a spin where |b|^2 (its inversion probability) exceeds this."""
_SAME_LINE = 1e-5
"""A gradient stays on its line if no more than this of its largest value is across it: a file has six digits."""
_FEW_SAMPLES = 16
"""Up to so many different samples a pulse is taken as played (rectangle, composite), not as a sampled shape."""
_MOST_STEPS = 200_000
"""Most steps on each side of a profile."""
_TURNS_PER_WINDOW = 0.25
"""Profiles under a changing gradient: one rotation while RF, offset and gradient turn a spin by no more than this."""
_POSITIONS_AT_ONCE = 128
"""Positions of a profile under a changing gradient that are worked off at once."""
_CYCLES_PER_SLICE = 20.0
"""Cycles of a slice gradient over its slice up to which the positions asked for are enough."""
_OFFSET_STEP_HZ = 100.0
"""Offsets for which it is looked up what a pulse under a changing gradient touches, counted from its carrier."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slice:
    """Geometry of a selective pulse."""

    direction: Tensor
    """Unit vector of the gradient, shape (3,)."""
    gradient_hz_per_m: float
    """Gradient along `direction`, its mean over the pulse, Hz/m, positive."""
    centre_m: float
    """Position along `direction` of the spins asked for: middle of the half-maximum edges, m."""
    thickness_m: float
    """Full width at half maximum, m."""
    low_hz: float
    """Lowest offset the pulse touches, a spin's own plus position times `gradient_hz_per_m`, Hz."""
    high_hz: float
    """Highest offset the pulse touches, Hz."""


def waveform_in_carrier_frame(interval: Interval) -> tuple[Tensor, float]:
    """Return (waveform without its carrier, dwell) with runs of equal samples merged into one.

    Returns:
        Complex shape (T / m,), Hz, and m times the dwell in s; m is the longest run length common to all runs. Under a
        gradient that changes, a run ends where the gradient does.
    """
    n = interval.n_samples
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5) * interval.dwell_s
    b1 = interval.b1_hz * torch.exp(-2j * math.pi * interval.carrier_hz * t_s)
    scale = float(b1.detach().abs().max()) or 1.0
    changes = (b1.detach()[1:] - b1.detach()[:-1]).abs() > 1e-9 * scale
    gradient = interval.gradient_hz_per_m
    if not _is_constant(gradient):
        changes |= (gradient[1:] - gradient[:-1]).abs().amax(1) > 1e-12 * float(gradient.abs().max())
    run = math.gcd(n, *(int(c) + 1 for c in torch.nonzero(changes)[:, 0]))
    return b1.reshape(-1, run).mean(1), interval.dwell_s * run


def response(interval: Interval, offset_hz: Tensor) -> Tensor:
    """Return |b|^2, the inversion probability of an isolated spin at offsets in Hz, same shape."""
    b1, dwell_s = waveform_in_carrier_frame(interval)
    offset_turns = (offset_hz[..., None] - interval.carrier_hz) * dwell_s
    _, b = accumulate(rotations(b1.detach() * dwell_s, offset_turns))
    return b.abs() ** 2


def response_over_positions(interval: Interval, position_m: Tensor, offset_hz: float = 0.0) -> Tensor:
    """Return |b|^2 of an isolated spin at positions along the pulse's `slice_gradient` in m, shape (P,).

    Args:
        interval: A pulse with a gradient, constant or changing in strength.
        position_m: Positions, m, shape (P,).
        offset_hz: Offset of the spin, Hz.

    Raises:
        InputError: If no gradient is on, or the gradient changes its direction while RF is on.
    """
    gradient = slice_gradient(interval)
    if gradient is None:
        raise InputError(f"RF pulse {interval.name or interval.use!r} plays without gradient: no position differs.")
    b1, dwell_s = waveform_in_carrier_frame(interval)
    b1, swing = b1.detach(), _swing(interval, gradient / gradient.norm(), b1.shape[0])
    fixed_hz = offset_hz - interval.carrier_hz + position_m * float(gradient.norm())
    if swing is None:
        _, b = accumulate(rotations(b1 * dwell_s, fixed_hz[:, None] * dwell_s))
        return b.abs() ** 2
    own_hz = float(b1.abs().max()) + modulation_hz(b1[None], dwell_s)
    parts = []
    for first in range(0, position_m.shape[0], _POSITIONS_AT_ONCE):
        some = slice(first, first + _POSITIONS_AT_ONCE)
        x_m, f_hz = position_m[some, None, None], fixed_hz[some, None, None]
        reach_hz = own_hz + float(f_hz.abs().max()) + float(x_m.abs().max() * swing.abs().max())
        n_windows = min(b1.shape[0], math.ceil(interval.duration_s * reach_hz / _TURNS_PER_WINDOW))
        edges_s = torch.linspace(0, b1.shape[0] * dwell_s, n_windows + 1, dtype=torch.float64)[None]
        windows = moments(b1[None], dwell_s, edges_s, swing[None])
        area, along = windows.at(x_m)
        transverse, longitudinal = replace(windows, area=area).turns(f_hz, torch.ones_like(f_hz))
        parts.append(accumulate(rotations(transverse, longitudinal + along))[1][:, 0].abs() ** 2)
    return torch.cat(parts)


def slice_gradient(interval: Interval) -> Tensor | None:
    """Return the gradient under which a pulse plays, Hz/m, shape (3,), or None if no gradient is on.

    A gradient that changes in strength, along one line, is stated by its mean over the pulse.

    Raises:
        InputError: If the gradient changes its direction while RF is on.
    """
    gradient = interval.gradient_hz_per_m
    if not bool(gradient.any()):
        return None
    if _is_constant(gradient):
        return gradient[0]
    mean = gradient.mean(0)
    tolerance = _SAME_LINE * float(gradient.abs().max())
    along = gradient @ mean / mean.norm() if bool(mean.any()) else gradient.new_full((1,), -math.inf)
    if (
        float(along.min()) < -tolerance
        or float((gradient - along[:, None] * mean / mean.norm()).abs().max()) > tolerance
    ):
        raise InputError(
            f"The gradient changes its direction during RF pulse {interval.name or interval.use!r}; selective pulses "
            "are simulated under a gradient along one line that keeps its sign. Start the pulse after the ramp, or "
            "shape all axes alike."
        )
    return mean


def _is_constant(gradient: Tensor) -> bool:
    """Return whether a gradient (T, 3) is the same in all samples."""
    return not float((gradient - gradient[0]).abs().max()) > 1e-6 * float(gradient[0].abs().max() or 1.0)


def _swing(interval: Interval, direction: Tensor, n_samples: int) -> Tensor | None:
    """Return gradient minus mean gradient along a direction on the merged samples, Hz/m, (T,); None if constant."""
    if _is_constant(interval.gradient_hz_per_m):
        return None
    along = interval.gradient_hz_per_m @ direction
    return (along - along.mean()).reshape(n_samples, -1).mean(1)


def slice_of(interval: Interval, *, offset_hz: float = 0.0) -> Slice | None:
    """Return the slice that a pulse selects among spins at an offset in Hz, or None if no gradient is on.

    Half maximum is of |b|^2 relative to its value in the middle (of sin^2 for an excitation: where half of the
    middle's transverse magnetisation is left).

    Raises:
        InputError: If the gradient changes its direction while RF is on.
    """
    gradient = slice_gradient(interval)
    return None if gradient is None else _slice_under(interval, gradient, offset_hz)


@lru_cache(maxsize=64)
def _profile_edges(interval: Interval, offset_hz: float | None) -> tuple[float, float, float, float]:
    """Return the half-maximum edges of a pulse's profile and the edges of what it touches, all in Hz.

    Of a spin at some offset; None under a constant gradient (or none), where offset and position act alike.
    """
    b1, dwell_s = waveform_in_carrier_frame(interval)
    # A shaped pulse is meant up to half its sampling rate; one of few different samples is what it is.
    furthest_hz = 0.5 / dwell_s if b1.shape[0] > _FEW_SAMPLES else math.inf
    step_hz, reach_hz, name = 0.06 / interval.duration_s, 60.0 / interval.duration_s, interval.name or interval.use
    centre_hz = interval.carrier_hz if offset_hz is None else _middle_hz(interval, offset_hz)
    while True:
        reach_hz = min(reach_hz, furthest_hz)
        steps = math.ceil(reach_hz / step_hz)
        grid = torch.linspace(-reach_hz, reach_hz, 2 * steps + 1, dtype=torch.float64) + centre_hz
        if offset_hz is None:
            b2 = response(interval, grid)
        else:
            strength = float(interval.gradient_hz_per_m.mean(0).norm())
            b2 = response_over_positions(interval, (grid - offset_hz) / strength, offset_hz)
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


def _middle_hz(interval: Interval, offset_hz: float) -> float:
    """Return about where a spin at an offset meets a pulse under a changing gradient, offset and position together, Hz.

    The position x where x g(t) matches the RF's momentary frequency on average over |b1|^2: the middle of the slice
    if the FM itself is balanced.
    """
    b1, dwell_s = waveform_in_carrier_frame(interval)
    mean = interval.gradient_hz_per_m.mean(0)
    along = (interval.gradient_hz_per_m @ mean / mean.norm()).reshape(b1.shape[0], -1).mean(1)
    step = (b1[1:] * b1[:-1].conj()).detach()
    momentary_hz = step.angle() / (2 * math.pi * dwell_s) - (offset_hz - interval.carrier_hz)
    met = float((step.abs() * (along[1:] + along[:-1]) / 2).sum())
    position_m = float((step.abs() * momentary_hz).sum()) / met if met > 0 else 0.0
    return offset_hz + position_m * float(mean.norm())


def _slice_under(interval: Interval, gradient: Tensor, offset_hz: float) -> Slice:
    """Return the slice of a pulse under its (mean) gradient among spins at an offset."""
    low, high, low_touched, high_touched = _profile_edges(interval, _offset_that_counts(interval, offset_hz))
    strength = float(gradient.norm())
    return Slice(
        direction=gradient / strength,
        gradient_hz_per_m=strength,
        centre_m=(0.5 * (low + high) - offset_hz) / strength,
        thickness_m=(high - low) / strength,
        low_hz=low_touched,
        high_hz=high_touched,
    )


def _touched_hz(interval: Interval, lowest_hz: float, highest_hz: float) -> tuple[float, float]:
    """Return from where to where a pulse touches spins of offsets in a range: positions times mean gradient, Hz.

    The spin of highest offset is touched furthest down, and the other way round.
    """
    if not _is_constant(interval.gradient_hz_per_m):
        # Few different offsets, outside the range: profiles are dear, and those of other spin groups are at hand.
        low, high = ((offset - interval.carrier_hz) / _OFFSET_STEP_HZ for offset in (lowest_hz, highest_hz))
        lowest_hz = interval.carrier_hz + math.floor(low) * _OFFSET_STEP_HZ
        highest_hz = interval.carrier_hz + math.ceil(high) * _OFFSET_STEP_HZ
    down = _profile_edges(interval, _offset_that_counts(interval, highest_hz))
    up = _profile_edges(interval, _offset_that_counts(interval, lowest_hz))
    return down[2] - highest_hz, up[3] - lowest_hz


def _offset_that_counts(interval: Interval, offset_hz: float) -> float | None:
    """Return the offset on which a profile in Hz depends: none under a constant gradient."""
    return None if _is_constant(interval.gradient_hz_per_m) else offset_hz


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

    Positions cover all that any of the pulses touches. Where a gradient winds more than 20 cycles over the slice while
    its pulse plays (adiabatic pulses do), there are more of them in proportion.
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
    thickness_m, cycles_per_m = math.inf, 0.0
    for interval, gradient in zip(intervals, gradients, strict=True):
        strength = float(gradient @ direction)
        cycles_per_m = max(cycles_per_m, abs(strength) * interval.duration_s)
        edges_m += [edge_hz / strength for edge_hz in _touched_hz(interval, lowest, highest)]
        # One thickness for all spins, whatever their offsets: it is the unit of their signals.
        thickness_m = min(thickness_m, _slice_under(interval, gradient, interval.carrier_hz).thickness_m)
    low_m, high_m = min(edges_m), max(edges_m)
    density = positions_per_slice * max(1.0, cycles_per_m * thickness_m / _CYCLES_PER_SLICE)
    n_positions = math.ceil((high_m - low_m) / thickness_m * density)
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

    direction: Tensor
    """The axis: unit vector, shape (3,)."""
    position_m: Tensor
    """Positions along the axis, m, shape (P,)."""
    gradient_hz_per_m: float
    """Gradient along the axis, its mean over the pulse, Hz/m."""
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
    swing = _swing(interval, axis.direction, interval.n_samples)
    if swing is not None:
        edges_s = torch.arange(interval.n_samples, dtype=torch.float64) * interval.dwell_s
        until_centre_s = (centre_s - edges_s).clamp(min=0, max=interval.dwell_s)
        more = float(swing @ until_centre_s)  # what a centre has behind it beyond the mean, it has less before it
        after, before = after - more * positions_m, before + more * positions_m
    return Positions(
        direction=axis.direction,
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
    swing = _swing(interval, places.direction, b1.shape[0])

    def in_pieces(samples: Tensor) -> Tensor:
        pieces = samples.repeat_interleave(held).reshape(count, -1)
        return pieces.repeat_interleave(members.size * n_p, 0) if count > 1 else pieces

    u = pulse_propagator(
        model,
        in_pieces(b1),
        dwell_s / held,
        offset_hz=offset_hz.reshape(-1).repeat(count),
        b1_scale=members.b1_scale.repeat_interleave(n_p).repeat(count),
        j_step_s=j_step_s,
        gradient_hz_per_m=None if swing is None else in_pieces(swing),
        position_m=None if swing is None else places.position_m.repeat(count * members.size),
    )
    return u.reshape(count, members.size, n_p, *u.shape[-2:])
