"""Selective pulses of single-voxel sequences: slices of the voxel, editing pulses."""

import math
from dataclasses import replace
from functools import lru_cache

import torch

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.pulse.shapes import slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.blocks import TimedBlock, nonselective, selective
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.scan import ScanParams
from seqgen.sequence.voxel import slice_directions, slice_position
from seqgen.simulate.slices import slice_of
from seqgen.timeline import Interval, PulseUse

HALF_PI = 0.5 * math.pi


def rf_dwell_s(context: BuildContext) -> float:
    """Return the dwell of shaped pulses: 10 us, or the scanner's RF raster where that is coarser."""
    return max(1e-5, context.scanner.rf_raster_s)


def slice_carrier_hz(params: ScanParams, context: BuildContext) -> float:
    """Return the offset of the spins for which slices sit where asked, Hz."""
    return ppm_to_hz(params.slice_carrier_ppm, context.spectrometer_frequency_hz, context.water_shift_ppm)


def voxel_slice(
    params: ScanParams,
    context: BuildContext,
    pulse: RFPulse,
    axis: int,
    *,
    bandwidth_hz: float,
    phase_rad: float,
    use: PulseUse,
) -> TimedBlock:
    """Return a pulse that selects the voxel along one of its own axes.

    Args:
        params: The voxel, the chemical shift for which it sits where asked.
        context: Scanner and frequency.
        pulse: Waveform.
        axis: 0, 1 or 2.
        bandwidth_hz: Full width of the pulse's profile at half maximum, Hz.
        phase_rad: Phase at the centre of the pulse, rad.
        use: Intended use.

    Raises:
        HardwareLimitError: If the voxel is too thin for the gradient.
    """
    direction = slice_directions(params)[axis]
    return selective(
        pulse,
        bandwidth_hz=bandwidth_hz,
        thickness_m=params.voxel_size_m[axis],
        direction=direction,
        position_m=slice_position(params, direction),
        carrier_offset_hz=slice_carrier_hz(params, context),
        phase_rad=phase_rad,
        use=use,
        scanner=context.scanner,
    )


def slr_slice(
    params: ScanParams,
    context: BuildContext,
    axis: int,
    *,
    flip_angle_rad: float,
    duration_s: float,
    time_bandwidth: float,
    name: str,
) -> TimedBlock:
    """Return an SLR pulse that selects the voxel along one axis.

    A 90-degree pulse has phase +y (it turns +z to +x) and `use` excitation, a 180-degree pulse phase +x and `use`
    refocusing.
    """
    excites = flip_angle_rad < 0.75 * math.pi
    pulse, bandwidth_hz = _slr(flip_angle_rad, duration_s, time_bandwidth, rf_dwell_s(context), excites, name)
    return voxel_slice(
        params,
        context,
        pulse,
        axis,
        bandwidth_hz=bandwidth_hz,
        phase_rad=HALF_PI if excites else 0.0,
        use="excitation" if excites else "refocusing",
    )


@lru_cache(maxsize=64)
def _slr(
    flip_angle_rad: float, duration_s: float, time_bandwidth: float, dwell_s: float, excites: bool, name: str
) -> tuple[RFPulse, float]:
    """Return an SLR pulse and the width of its profile: asked for again and again, worked out once."""
    pulse = slr_pulse(
        flip_angle_rad=flip_angle_rad,
        time_bandwidth=time_bandwidth,
        duration_s=duration_s,
        dwell_s=dwell_s,
        name=name,
    )
    return pulse, half_maximum_bandwidth_hz(pulse, excitation=excites)


def editing(
    pulse: RFPulse,
    context: BuildContext,
    *,
    phase_rad: float = 0.0,
    use: PulseUse = "preparation",
    name: str = "edit",
) -> TimedBlock:
    """Return a non-selective pulse at its own carrier, with a phase at its centre."""
    return nonselective(
        replace(pulse, name=name),
        phase_rad=phase_rad,
        carrier_offset_hz=pulse.carrier_offset_hz,
        use=use,
        scanner=context.scanner,
    )


def require_no_editing_pulse(context: BuildContext, sequence: str) -> None:
    """Refuse a designed pulse where a sequence has no place for it."""
    if context.editing_pulse is not None:
        raise InputError(
            f"Sequence {sequence} has no place for an editing pulse. Use press, mega_press or isis_press, or build "
            f"{sequence} without a design."
        )


def half_maximum_bandwidth_hz(pulse: RFPulse, *, excitation: bool) -> float:
    """Return the full width at half maximum of a pulse's own profile: of 2|ab| (excitation) or |b|^2, Hz."""
    sliced = slice_of(
        Interval(
            dwell_s=pulse.dwell_s,
            b1_hz=pulse.b1_hz,
            gradient_hz_per_m=torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(pulse.b1_hz.shape[0], 3),
            use="excitation" if excitation else "refocusing",
            centre_s=0.5 * pulse.duration_s,
        )
    )
    return 0.0 if sliced is None else sliced.thickness_m
