"""Outer-volume suppression: saturation slabs on either side of the voxel, along its own axes.

A slab is a short selective pulse of high bandwidth, followed by a spoiler of its own. Its gradient points to the voxel:
spins of a higher chemical shift than the carrier are saturated further out, so a carrier on lipids leaves everything
downfield of them inside the voxel alone. Flip angles are slightly above 90 degrees, by what the slab recovers until the
excitation (`suppression.optimal_flip_angles`).

Sources: Duyn, Gillen, Sobering, van Zijl, Moonen, Radiology 188:277 (1993) (suppression by slabs around the volume);
Tkac, Starcuk, Choi, Gruetter, Magn Reson Med 41:649 (1999) (between the pulses of VAPOR). Both recalled, not read.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from seqgen.axes import ppm_to_hz
from seqgen.errors import HardwareLimitError
from seqgen.pulse.shapes import slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.blocks import TimedBlock, selective
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.suppression import Range, optimal_flip_angles, worst_mz
from seqgen.sequence.voxel import VoxelParams, voxel_axes
from seqgen.simulate.slices import slice_of
from seqgen.timeline import Interval

SIDES = (-1, 1)
"""The two slabs of an axis in order of play: towards its negative end, then towards its positive one."""
FIRST_MZ = (0.9, 1.0)
"""Mz before the first slab, M0: what saturates has relaxed since the last shot."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OuterVolumeParams(VoxelParams):
    """Parameters of outer-volume suppression."""

    outer_volume_suppression: bool = False
    """Whether slabs around the voxel are saturated before the excitation."""
    outer_volume_axes: tuple[int, ...] = (1, 2, 3)
    """Axes of the voxel (1, 2, 3) that have a slab on either side."""
    outer_volume_rounds: int = 1
    """How often all slabs are saturated: twice leaves a fifth of what once leaves where B1 is off by 20 %."""
    outer_volume_thickness_m: float = 0.03
    """Thickness of every slab, full width at half maximum, m."""
    outer_volume_gap_m: float = 0.005
    """From the voxel's face to the nearer edge (half maximum) of the slab, m; negative: it cuts into the voxel."""
    outer_volume_carrier_ppm: float = 1.3
    """Chemical shift for which the slabs sit where asked, ppm; those above are saturated further out."""
    outer_volume_duration_s: float = 4.0e-3
    """Duration of each SLR saturation pulse, s."""
    outer_volume_time_bandwidth: float = 8.0
    """Its time-bandwidth product."""
    outer_volume_t1_range_s: Range = (0.3, 0.5)
    """Shortest and longest T1 in the slabs for which their flip angles are optimised, s; default about lipids at 3 T
    (subcutaneous fat 0.37 to 0.38 s: recalled)."""
    outer_volume_spoiler_moment_per_m: float = 1800.0
    """Moment of the strongest spoiler after a slab, cycles per metre."""
    outer_volume_spoiler_duration_s: float = 2.0e-3
    """Duration of each of these spoilers, s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slab:
    """Place of a saturation slab."""

    axis: int
    """Axis of the voxel, 0, 1 or 2."""
    side: int
    """+1 towards the positive end of the axis, -1 towards the other."""
    centre_m: float
    """Middle of the slab along the axis from the isocentre, m."""

    @property
    def number(self) -> int:
        """0 to 5: axis by axis, the negative side first."""
        return 2 * self.axis + (self.side > 0)

    @property
    def name(self) -> str:
        """For diagrams and errors, for example "slab +2"."""
        return f"slab {self.side * (self.axis + 1):+d}"


def slabs(params: OuterVolumeParams) -> tuple[Slab, ...]:
    """Return the slabs of one round in order of play, none where there is no outer-volume suppression.

    Example:
        >>> params = OuterVolumeParams(
        ...     voxel_size_m=(0.02, 0.02, 0.03), outer_volume_suppression=True, outer_volume_axes=(3,)
        ... )
        >>> [(slab.name, round(slab.centre_m, 6)) for slab in slabs(params)]
        [('slab -3', -0.035), ('slab +3', 0.035)]
    """
    if not params.outer_volume_suppression:
        return ()
    axes = voxel_axes(params)
    found = []
    for axis in sorted(number - 1 for number in params.outer_volume_axes):
        middle_m = float(np.asarray(params.voxel_position_m) @ axes[axis])
        out_m = 0.5 * params.voxel_size_m[axis] + params.outer_volume_gap_m + 0.5 * params.outer_volume_thickness_m
        found += [Slab(axis=axis, side=side, centre_m=middle_m + side * out_m) for side in SIDES]
    return tuple(found)


def slab_block(
    slab: Slab, params: OuterVolumeParams, context: BuildContext, *, flip_angle_rad: float = math.pi / 2
) -> TimedBlock:
    """Return the selective pulse of a slab; its duration does not depend on the flip angle.

    Raises:
        HardwareLimitError: If gradient or pulse needs more than the scanner allows.
    """
    pulse, bandwidth_hz = _saturation(
        params.outer_volume_duration_s, params.outer_volume_time_bandwidth, max(1e-5, context.scanner.rf_raster_s)
    )
    scanner = context.scanner
    least_m = bandwidth_hz / scanner.max_gradient_hz_per_m
    if params.outer_volume_thickness_m < least_m:
        raise HardwareLimitError(
            f"outer_volume_thickness_m must be at least {least_m * 1e3:.4g} mm with a pulse of {bandwidth_hz:.4g} Hz "
            f"on {scanner.name}, but is {params.outer_volume_thickness_m * 1e3:.4g} mm. Raise it, or lengthen "
            "outer_volume_duration_s."
        )
    inwards = -slab.side * voxel_axes(params)[slab.axis]
    return selective(
        replace(pulse, b1_hz=pulse.b1_hz * (flip_angle_rad / (math.pi / 2)), name=slab.name),
        bandwidth_hz=bandwidth_hz,
        thickness_m=params.outer_volume_thickness_m,
        direction=inwards,
        position_m=-slab.side * slab.centre_m,
        carrier_offset_hz=ppm_to_hz(
            params.outer_volume_carrier_ppm, context.spectrometer_frequency_hz, context.water_shift_ppm
        ),
        phase_rad=0.0,
        use="saturation",
        scanner=scanner,
    )


def slab_flip_angles(
    delay_s: tuple[float, ...], params: OuterVolumeParams, b1_range_scale: Range
) -> tuple[tuple[float, ...], float]:
    """Return the flip angle of a slab in every round, rad, and the largest |Mz| / M0 left at the excitation.

    Args:
        delay_s: From the centre of its pulse in each round to that in the next, the last to the excitation's, s.
        params: Range of T1.
        b1_range_scale: Least and largest B1 relative to nominal.
    """
    box = (params.outer_volume_t1_range_s, b1_range_scale, FIRST_MZ)
    flips = optimal_flip_angles((90.0,) * len(delay_s), delay_s, *box)
    return flips, worst_mz(flips, delay_s, *box)


@lru_cache(maxsize=32)
def _saturation(duration_s: float, time_bandwidth: float, dwell_s: float) -> tuple[RFPulse, float]:
    """Return an SLR 90-degree pulse and its width where half of the saturation is left (half of |b|^2), Hz."""
    pulse = slr_pulse(
        flip_angle_rad=math.pi / 2,
        time_bandwidth=time_bandwidth,
        duration_s=duration_s,
        dwell_s=dwell_s,
        name="saturation",
    )
    n = pulse.b1_hz.shape[0]
    sliced = slice_of(
        Interval(
            dwell_s=dwell_s,
            b1_hz=pulse.b1_hz,
            gradient_hz_per_m=torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(n, 3),
            use="saturation",
            centre_s=0.5 * duration_s,
        )
    )
    return pulse, 0.0 if sliced is None else sliced.thickness_m
