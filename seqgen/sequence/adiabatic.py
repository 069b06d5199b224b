"""Adiabatic pulses that select the voxel: pairs that refocus (LASER), single ones that invert (ISIS)."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import torch

from seqgen.errors import InputError
from seqgen.pulse.adiabatic import goia_wurst, hyperbolic_secant
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.blocks import TimedBlock, Vector, selective, selective_modulated
from seqgen.sequence.localisation import rf_dwell_s, slice_carrier_hz
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.scan import ScanParams
from seqgen.sequence.voxel import slice_directions, slice_position
from seqgen.simulate.slices import response, response_over_positions, slice_of
from seqgen.timeline import Interval, PulseUse

AdiabaticKind = Literal["goia_wurst", "hyperbolic_secant"]
ADIABATIC_KINDS: tuple[AdiabaticKind, ...] = ("goia_wurst", "hyperbolic_secant")
LEAST_INVERSION = 0.98
"""A pulse must invert at least so much in its middle at nominal B1: below, it is not adiabatic."""
_PROFILE_POINTS = 601


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AdiabaticPulse:
    """An adiabatic full passage with the gradient that it wants."""

    pulse: RFPulse
    """Waveform."""
    gradient_shape: Vector
    """Gradient at the sample centres, relative to its largest value, shape (n,)."""
    single_hz: float
    """Full width at half maximum of |b|^2, what one pulse inverts, in Hz under a largest gradient of 1 Hz/m."""
    pair_hz: float
    """Full width at half maximum of |b|^4, what a pair refocuses."""


def adiabatic_slice(
    params: ScanParams,
    context: BuildContext,
    axis: int,
    *,
    kind: AdiabaticKind,
    duration_s: float,
    sweep_hz: float,
    b1_hz: float,
    use: PulseUse,
    scale: float = 1.0,
) -> TimedBlock:
    """Return an adiabatic pulse that selects the voxel along one axis: refocusing ones come in pairs.

    Args:
        params: The voxel.
        context: Scanner and frequency.
        axis: 0, 1 or 2.
        kind: GOIA-W(16, 4) under a modulated gradient, or HS1 under a constant one.
        duration_s: Duration, s.
        sweep_hz: Full sweep of the frequency, Hz.
        b1_hz: Peak amplitude gamma*B1/2pi, Hz.
        use: `refocusing`: the slice is what two such pulses refocus; else what one inverts.
        scale: Factor on the amplitude, for shots that leave the pulse out.

    Raises:
        InputError: If the pulse is not adiabatic.
        HardwareLimitError: If it needs more than the scanner allows.
    """
    found = _adiabatic(kind, duration_s, sweep_hz, b1_hz, _dwell_s(context, duration_s, sweep_hz))
    direction = slice_directions(params)[axis]
    select = (
        selective if kind == "hyperbolic_secant" else partial(selective_modulated, gradient_shape=found.gradient_shape)
    )
    return select(
        replace(found.pulse, b1_hz=scale * found.pulse.b1_hz),
        bandwidth_hz=found.pair_hz if use == "refocusing" else found.single_hz,
        thickness_m=params.voxel_size_m[axis],
        direction=direction,
        position_m=slice_position(params, direction),
        carrier_offset_hz=slice_carrier_hz(params, context),
        phase_rad=0.0,
        use=use,
        scanner=context.scanner,
    )


def _dwell_s(context: BuildContext, duration_s: float, sweep_hz: float) -> float:
    """Return a dwell in which the sweep, half of it fast at its ends, turns by a tenth of a turn at most."""
    raster_s = context.scanner.rf_raster_s
    whole = max(1, math.floor(min(rf_dwell_s(context), 0.2 / sweep_hz) / raster_s + 1e-6))
    per_duration = round(duration_s / raster_s)
    return raster_s * next(n for n in range(whole, 0, -1) if per_duration % n == 0)


@lru_cache(maxsize=16)
def _adiabatic(kind: str, duration_s: float, sweep_hz: float, b1_hz: float, dwell_s: float) -> AdiabaticPulse:
    """Return a pulse that was found to invert in its middle."""
    if kind == "goia_wurst":
        pulse, shape = goia_wurst(
            duration_s=duration_s, bandwidth_hz=sweep_hz, b1_max_hz=b1_hz, dwell_s=dwell_s, name="GOIA-W(16,4)"
        )
    else:
        pulse = hyperbolic_secant(
            duration_s=duration_s, bandwidth_hz=sweep_hz, b1_max_hz=b1_hz, dwell_s=dwell_s, name="HS1"
        )
        shape = np.ones(pulse.b1_hz.shape[0])
    gradient = torch.zeros(len(shape), 3, dtype=torch.float64)
    gradient[:, 0] = torch.from_numpy(shape)
    interval = Interval(
        dwell_s=dwell_s, b1_hz=pulse.b1_hz, gradient_hz_per_m=gradient, use="refocusing", centre_s=0.5 * duration_s
    )
    inverted = float(response(interval, torch.zeros(1, dtype=torch.float64))[0])
    if inverted < LEAST_INVERSION:
        raise InputError(
            f"{pulse.name} of {duration_s * 1e3:.4g} ms and {sweep_hz:.4g} Hz inverts {inverted:.1%} in its middle at "
            f"{b1_hz:.4g} Hz; at least {LEAST_INVERSION:.0%} is needed. Raise its amplitude or duration, or lower its "
            "bandwidth."
        )
    sliced = slice_of(interval)
    single_hz = 0.0 if sliced is None else sliced.thickness_m
    return AdiabaticPulse(
        pulse=pulse, gradient_shape=shape, single_hz=single_hz, pair_hz=_pair_width_hz(interval, single_hz)
    )


def _pair_width_hz(interval: Interval, single_hz: float) -> float:
    """Return the full width at half maximum of |b|^4 under a largest gradient of 1 Hz/m."""
    half = torch.linspace(0.0, 0.75 * single_hz, _PROFILE_POINTS, dtype=torch.float64)
    refocused = response_over_positions(interval, half) ** 2
    outermost = int(torch.nonzero(refocused >= 0.5 * refocused[0])[-1])
    inside, outside = float(refocused[outermost]), float(refocused[outermost + 1])
    crossing = outermost + (inside - 0.5 * float(refocused[0])) / (inside - outside)
    return 2 * crossing * float(half[1])
