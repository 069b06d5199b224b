"""Building blocks: selective pulses, lobes along any direction, delays."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.errors import HardwareLimitError, InputError
from seqgen.pulse.waveform import RFPulse, hold
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Block, Rf, SampledGradient, Trapezoid
from seqgen.sequence.timing import round_up
from seqgen.timeline import PulseUse
from seqgen.units import hz_to_tesla

Vector = NDArray[np.float64]

_MOST_TURNS_PER_SAMPLE = 0.25
"""Most turns by which the RF of an off-centre slice under a modulated gradient may turn within a raster sample."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TimedBlock:
    """A block and the time in it that sequence timing counts from."""

    block: Block
    """The block."""
    reference_s: float
    """Centre of the RF after the start of the block, s."""
    moment_before_per_m: Vector
    """Gradient moment from the start of the block to the reference, cycles per metre, shape (3,)."""
    moment_after_per_m: Vector
    """Gradient moment from the reference to the end of the block."""

    @property
    def before_s(self) -> float:
        """Time from the start of the block to the reference, s."""
        return self.reference_s

    @property
    def after_s(self) -> float:
        """Time from the reference to the end of the block, s."""
        return self.block.duration_s - self.reference_s


def lobe(
    moment_per_m: Vector, scanner: Scanner, *, duration_s: float | None = None, name: str = "gradient lobe"
) -> Block:
    """Return a gradient lobe with a moment along any direction, all axes with common ramps.

    Args:
        moment_per_m: Area along x, y, z, cycles per metre, shape (3,).
        scanner: Limits; the vector's length is held below the limits of a single axis, so any rotation may be played.
        duration_s: Duration, rounded up to the gradient raster; default the shortest possible.
        name: Name for the error.

    Raises:
        HardwareLimitError: If the moment does not fit into the duration.
    """
    size = float(np.linalg.norm(moment_per_m))
    raster = scanner.gradient_raster_s
    gradient, slew = scanner.max_gradient_hz_per_m, scanner.max_slew_hz_per_m_per_s
    shortest = duration_s is None
    if duration_s is None:
        ramp = min(gradient, math.sqrt(size * slew)) / slew
        duration_s = 2 * ramp if size < gradient**2 / slew else size / gradient + ramp
    duration_s = max(round_up(duration_s, raster), 2 * raster)
    rise, flat = _ramp_and_top(size, duration_s, raster, slew)
    # Rounding a ramp to the raster may cost what the shortest lobe has not: a few rasters more then.
    while shortest and _exceeds(size, rise, flat, gradient, slew):
        duration_s = round_up(duration_s + raster, raster)
        rise, flat = _ramp_and_top(size, duration_s, raster, slew)
    amplitude = size / (rise + flat)
    if _exceeds(size, rise, flat, gradient, slew):
        raise HardwareLimitError(
            f"The {name} of {size:.4g} cycles/m in {duration_s * 1e3:.4g} ms needs {amplitude:.4g} Hz/m at "
            f"{amplitude / rise:.4g} Hz/m/s; {scanner.name} allows {gradient:.4g} Hz/m and {slew:.4g} Hz/m/s. "
            "Lengthen it or lower its moment."
        )
    scale = moment_per_m / (rise + flat)
    axes = [
        Trapezoid(amplitude_hz_per_m=float(g), rise_s=rise, flat_s=flat, fall_s=rise)
        if abs(g) > 1e-9 * amplitude
        else None
        for g in scale
    ]
    return Block(duration_s=round_up(duration_s, scanner.block_raster_s), gradients=(axes[0], axes[1], axes[2]))


def _ramp_and_top(size: float, duration_s: float, raster: float, slew: float) -> tuple[float, float]:
    """Return (rise, flat) of the trapezoid of least amplitude, ramps at the slew limit, on the raster.

    size = amplitude (duration - amplitude / slew).
    """
    discriminant = duration_s**2 - 4 * size / slew
    rise = duration_s / 2 if discriminant <= 0 else (duration_s - math.sqrt(discriminant)) / 2
    rise = min(max(round_up(rise, raster), raster), round_up(duration_s / 2 - raster / 2, raster))
    return rise, round(duration_s - 2 * rise, 9)


def _exceeds(size: float, rise: float, flat: float, gradient: float, slew: float) -> bool:
    """Return whether a trapezoid exceeds gradient or slew, or has no top."""
    amplitude = size / (rise + flat)
    return amplitude > gradient * (1 + 1e-9) or amplitude / rise > slew * (1 + 1e-6) or flat < -1e-9


def selective(
    pulse: RFPulse,
    *,
    bandwidth_hz: float,
    thickness_m: float,
    direction: Vector,
    position_m: float,
    carrier_offset_hz: float,
    phase_rad: float,
    use: PulseUse,
    scanner: Scanner,
) -> TimedBlock:
    """Return a slice-selective pulse under a trapezoid.

    Args:
        pulse: Waveform.
        bandwidth_hz: Full width of its profile at half maximum, Hz.
        thickness_m: Slice thickness, m.
        direction: Unit vector of the slice normal, shape (3,).
        position_m: Slice centre along `direction` from isocentre, m.
        carrier_offset_hz: Offset of the spins for which the slice sits there, Hz.
        phase_rad: Phase of the carrier at the centre of the pulse.
        use: Intended use.
        scanner: Rasters, dead times and limits.

    Raises:
        HardwareLimitError: If the slice is too thin for the gradient.
    """
    amplitude = bandwidth_hz / thickness_m
    if amplitude > scanner.max_gradient_hz_per_m:
        raise HardwareLimitError(
            f"A slice of {thickness_m * 1e3:.4g} mm with {pulse.name} ({bandwidth_hz:.4g} Hz) needs "
            f"{hz_to_tesla(amplitude) * 1e3:.4g} mT/m; {scanner.name} allows "
            f"{scanner.max_gradient_t_per_m * 1e3:.4g} mT/m, a voxel of at least "
            f"{bandwidth_hz / scanner.max_gradient_hz_per_m * 1e3:.4g} mm along this axis. Enlarge the voxel."
        )
    raster = scanner.gradient_raster_s
    ramp = max(round_up(amplitude / scanner.max_slew_hz_per_m_per_s, raster), raster)
    rise = max(ramp, round_up(scanner.rf_dead_time_s, raster))
    flat = round_up(pulse.duration_s, raster)
    fall = max(ramp, round_up(scanner.rf_ringdown_s, raster))
    rf = rf_event(
        pulse,
        delay_s=rise,
        carrier_offset_hz=carrier_offset_hz + amplitude * position_m,
        phase_rad=phase_rad,
        use=use,
        scanner=scanner,
    )
    axes = [
        Trapezoid(amplitude_hz_per_m=float(amplitude * g), rise_s=rise, flat_s=flat, fall_s=fall)
        if abs(g) > 1e-12
        else None
        for g in direction
    ]
    centre = rise + rf.centre_s
    return TimedBlock(
        block=Block(
            duration_s=round_up(rise + flat + fall, scanner.block_raster_s),
            rf=rf,
            gradients=(axes[0], axes[1], axes[2]),
        ),
        reference_s=centre,
        moment_before_per_m=amplitude * (0.5 * rise + rf.centre_s) * direction,
        moment_after_per_m=amplitude * (flat - rf.centre_s + 0.5 * fall) * direction,
    )


def selective_modulated(
    pulse: RFPulse,
    gradient_shape: Vector,
    *,
    bandwidth_hz: float,
    thickness_m: float,
    direction: Vector,
    position_m: float,
    carrier_offset_hz: float,
    phase_rad: float,
    use: PulseUse,
    scanner: Scanner,
) -> TimedBlock:
    """Return a slice-selective pulse under a gradient that is modulated while it plays (GOIA).

    An off-centre slice needs a frequency that follows the gradient: the RF is turned by exp(2 pi i position integral
    of G dt), counted from the centre of the pulse. The gradient ramps to the first value of its shape before the RF
    and down from the last after it, in straight lines of at least two samples.

    Args:
        pulse: Waveform; its duration a whole number of gradient rasters.
        gradient_shape: Gradient at the centres of the pulse's samples relative to bandwidth / thickness, none negative,
            shape (n,).
        bandwidth_hz: Full width of the profile at half maximum, in Hz under a gradient of relative value 1.
        thickness_m: Slice thickness, m.
        direction: Unit vector of the slice normal, shape (3,).
        position_m: Slice centre along `direction` from isocentre, m.
        carrier_offset_hz: Offset of the spins for which the slice sits there, Hz.
        phase_rad: Phase of the carrier at the centre of the pulse.
        use: Intended use.
        scanner: Rasters, dead times and limits.

    Raises:
        InputError: If shape and pulse do not belong together, or the pulse does not fill gradient rasters.
        HardwareLimitError: If the slice is too thin for gradient or slew rate, or too far off centre for the RF raster.
    """
    raster, dt = scanner.gradient_raster_s, scanner.rf_raster_s
    shape = _on_gradient_raster(pulse, gradient_shape, raster)
    amplitude = bandwidth_hz / thickness_m
    steepest_per_s = float(np.abs(np.diff(shape)).max()) / raster
    smallest_m = bandwidth_hz * max(
        float(shape.max()) / scanner.max_gradient_hz_per_m, steepest_per_s / scanner.max_slew_hz_per_m_per_s
    )
    if thickness_m < smallest_m * (1 - 1e-9):
        raise HardwareLimitError(
            f"A slice of {thickness_m * 1e3:.4g} mm with {pulse.name} ({bandwidth_hz:.4g} Hz) needs "
            f"{hz_to_tesla(amplitude * float(shape.max())) * 1e3:.4g} mT/m and, modulated, "
            f"{hz_to_tesla(amplitude * steepest_per_s):.4g} T/m/s; {scanner.name} allows "
            f"{scanner.max_gradient_t_per_m * 1e3:.4g} mT/m and {scanner.max_slew_t_per_m_per_s:.4g} T/m/s, a voxel of "
            f"at least {smallest_m * 1e3:.4g} mm along this axis. Enlarge the voxel."
        )

    def ramp(value: float, least_s: float) -> Vector:
        ramp_s = amplitude * value / scanner.max_slew_hz_per_m_per_s
        n = max(2, round(round_up(max(ramp_s, least_s), raster) / raster))
        return value * (np.arange(n) + 0.5) / n

    rise, fall = ramp(shape[0], scanner.rf_dead_time_s), ramp(shape[-1], scanner.rf_ringdown_s)[::-1]
    along = SampledGradient(sample_hz_per_m=amplitude * np.concatenate([rise, shape, fall]), raster_s=raster)
    rise_s = rise.size * raster
    # What is played: the gradient at the middle of every RF sample, and its integral from the centre of the pulse.
    n_samples = round(pulse.duration_s / dt)
    played = np.interp(rise_s + (np.arange(n_samples) + 0.5) * dt, *along.corners())
    turns_per_sample = abs(position_m) * float(played.max()) * dt
    if turns_per_sample > _MOST_TURNS_PER_SAMPLE:
        raise HardwareLimitError(
            f"A slice {position_m * 1e3:.4g} mm off centre with {pulse.name} turns the RF by {turns_per_sample:.3g} "
            f"turns in a sample of {dt * 1e6:g} us; the limit is {_MOST_TURNS_PER_SAMPLE:g}, "
            f"{_MOST_TURNS_PER_SAMPLE / dt / float(played.max()) * 1e3:.4g} mm. Move the voxel towards isocentre or "
            "enlarge it."
        )
    edges = np.concatenate(([0.0], np.cumsum(played * dt)))
    to_centre = float(np.interp(0.5 * n_samples, np.arange(n_samples + 1), edges))
    turns = position_m * (0.5 * (edges[1:] + edges[:-1]) - to_centre)
    moved = torch.polar(torch.ones(n_samples, dtype=torch.float64), torch.from_numpy(2 * np.pi * turns))
    rf = rf_event(
        RFPulse(b1_hz=hold(pulse, dt) * moved, dwell_s=dt, name=pulse.name),
        delay_s=rise_s,
        carrier_offset_hz=carrier_offset_hz,
        phase_rad=phase_rad,
        use=use,
        scanner=scanner,
    )
    axes = [replace(along, sample_hz_per_m=along.sample_hz_per_m * g) if abs(g) > 1e-12 else None for g in direction]
    return TimedBlock(
        block=Block(
            duration_s=round_up(along.duration_s, scanner.block_raster_s),
            rf=rf,
            gradients=(axes[0], axes[1], axes[2]),
        ),
        reference_s=rise_s + rf.centre_s,
        moment_before_per_m=(amplitude * float(rise.sum()) * raster + to_centre) * direction,
        moment_after_per_m=(amplitude * float(fall.sum()) * raster + float(edges[-1]) - to_centre) * direction,
    )


def _on_gradient_raster(pulse: RFPulse, gradient_shape: Vector, raster_s: float) -> Vector:
    """Return the shape of a gradient at the centres of gradient rasters instead of the pulse's samples.

    Raises:
        InputError: If shape and pulse do not belong together, or the pulse does not fill gradient rasters.
    """
    n = int(pulse.b1_hz.shape[0])
    if gradient_shape.shape != (n,) or not (gradient_shape.min() >= 0 < gradient_shape.max() < math.inf):
        raise InputError(
            f"The gradient of pulse {pulse.name!r} must have a value for each of its {n} samples, finite, none "
            f"negative and not all 0, but has the shape {gradient_shape.shape}. Take what made the pulse."
        )
    n_rasters = round(pulse.duration_s / raster_s)
    if n_rasters < 2 or abs(n_rasters * raster_s - pulse.duration_s) > 1e-9:
        raise InputError(
            f"Pulse {pulse.name!r} lasts {pulse.duration_s * 1e6:g} us, which is not a multiple of the gradient raster "
            f"{raster_s * 1e6:g} us: its gradient could not follow it. Change its duration."
        )
    times = (np.arange(n_rasters) + 0.5) * raster_s
    on_raster: Vector = np.interp(times, (np.arange(n) + 0.5) * pulse.dwell_s, gradient_shape)
    return on_raster


def nonselective(
    pulse: RFPulse, *, phase_rad: float, carrier_offset_hz: float, use: PulseUse, scanner: Scanner
) -> TimedBlock:
    """Return a pulse without gradient, with the scanner's dead times around it."""
    delay = round_up(scanner.rf_dead_time_s, scanner.rf_raster_s)
    rf = rf_event(
        pulse, delay_s=delay, carrier_offset_hz=carrier_offset_hz, phase_rad=phase_rad, use=use, scanner=scanner
    )
    zero = np.zeros(3)
    return TimedBlock(
        block=Block(duration_s=round_up(delay + rf.duration_s + scanner.rf_ringdown_s, scanner.block_raster_s), rf=rf),
        reference_s=delay + rf.centre_s,
        moment_before_per_m=zero,
        moment_after_per_m=zero,
    )


def rf_event(
    pulse: RFPulse, *, delay_s: float, carrier_offset_hz: float, phase_rad: float, use: PulseUse, scanner: Scanner
) -> Rf:
    """Return the RF event of a pulse on the scanner's RF raster.

    The carrier has the six digits that a `.seq` keeps, so that what is built is what is played: rounded by the file
    alone, it would turn a long pulse by up to 2 pi times the rounding times its duration.

    Raises:
        HardwareLimitError: If its amplitude exceeds the scanner's.
    """
    if pulse.peak_hz > scanner.b1_max_hz * (1 + 1e-9):
        raise HardwareLimitError(
            f"Pulse {pulse.name} peaks at {pulse.peak_hz:.4g} Hz ({hz_to_tesla(pulse.peak_hz) * 1e6:.4g} uT); "
            f"{scanner.name} allows {scanner.b1_max_hz:.4g} Hz ({scanner.b1_max_t * 1e6:.4g} uT). Lengthen the "
            "pulse, or lower its time-bandwidth product or amplitude."
        )
    return Rf(
        b1_hz=hold(pulse, scanner.rf_raster_s),
        raster_s=scanner.rf_raster_s,
        delay_s=delay_s,
        use=use,
        frequency_hz=float(f"{carrier_offset_hz:.6g}"),
        phase_rad=phase_rad,
        name=pulse.name,
    )


def with_phase(timed: TimedBlock, phase_rad: float) -> TimedBlock:
    """Return the same block with the RF turned by a further phase, for phase cycles."""
    rf = timed.block.rf
    if rf is None or phase_rad == 0:
        return timed
    return replace(timed, block=replace(timed.block, rf=replace(rf, phase_rad=rf.phase_rad + phase_rad)))


def without_rf(block: Block) -> Block:
    """Return the block with its RF left out, gradients and duration kept."""
    return replace(block, rf=None)
