"""Building blocks: selective pulses, lobes along any direction, delays."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seqgen.errors import HardwareLimitError
from seqgen.pulse.waveform import RFPulse, hold
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Block, Rf, Trapezoid
from seqgen.sequence.timing import round_up
from seqgen.timeline import PulseUse
from seqgen.units import hz_to_tesla

Vector = NDArray[np.float64]


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
    axes = [Trapezoid(amplitude_hz_per_m=float(g), rise_s=rise, flat_s=flat, fall_s=rise) if g else None for g in scale]
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
            "pulse or lower its time-bandwidth product."
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
