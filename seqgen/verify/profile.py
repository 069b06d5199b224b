"""Where the selective pulses of a `.seq` file act, simulated from the file, against the voxel that the file states."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.scanner import Scanner
from seqgen.seqfile.cycle import is_reference, phase_cycle
from seqgen.seqfile.events import SeqFile
from seqgen.seqfile.rf_use import KEY
from seqgen.seqfile.shots import Shot, shots
from seqgen.simulate.pathways import principal_echo
from seqgen.simulate.slices import slice_of
from seqgen.timeline import Interval, Timeline
from seqgen.verify.limits import Check

CENTRE_TOLERANCE_M = 1e-4
"""Largest distance of a slice's half-maximum midpoint from where the file says the voxel is, m."""
GLU_H4_PPM = 2.35
"""Chemical shift whose displacement is reported: H4 of glutamate."""
_MOST_PULSES = 8
"""So many pulses before the readout of a 1.4 file are searched for its excitation."""
_NO_TURN = 1e-3
"""A pulse whose |B1| adds up to no more than this, in turns, does nothing."""
_PARALLEL = 1e-4
"""Largest sine between a slice's gradient and the axis of the voxel that it selects: a file keeps six digits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SliceProfile:
    """A selective pulse as the file plays it."""

    number: int
    """Number among the different selective pulses, from 1."""
    use: str
    """What the pulse is for."""
    direction: NDArray[np.float64]
    """Unit vector along which its gradient is positive, shape (3,)."""
    gradient_hz_per_m: float
    """Its gradient (mean over the pulse), Hz/m, positive."""
    centre_m: float
    """Half-maximum midpoint along `direction` for spins at the carrier's chemical shift, m."""
    thickness_m: float
    """Full width at half maximum, m."""
    displacement_m: NDArray[np.float64]
    """By how much the slice of another chemical shift lies elsewhere, x, y, z, m, shape (3,)."""


def slice_profiles(
    pulses: Sequence[Interval], *, carrier_offset_hz: float, shift_offset_hz: float
) -> tuple[SliceProfile, ...]:
    """Return the slices of pulses, each profile simulated at both offsets; pulses without gradient are left out.

    Under a constant gradient G the slice of a spin at offset f lies (f - f_carrier) / G further down the gradient.

    Args:
        pulses: The pulses.
        carrier_offset_hz: Offset of the spins for which the slices are meant, Hz.
        shift_offset_hz: Offset of the spins whose displacement is reported, Hz.

    Raises:
        InputError: If a gradient changes its direction while its pulse is on.
    """
    found: list[SliceProfile] = []
    for interval in pulses:
        sliced, other = (slice_of(interval, offset_hz=offset) for offset in (carrier_offset_hz, shift_offset_hz))
        if sliced is None or other is None:
            continue
        direction = sliced.direction.numpy()
        found.append(
            SliceProfile(
                number=len(found) + 1,
                use=str(interval.use),
                direction=direction,
                gradient_hz_per_m=sliced.gradient_hz_per_m,
                centre_m=sliced.centre_m,
                thickness_m=sliced.thickness_m,
                displacement_m=(other.centre_m - sliced.centre_m) * direction,
            )
        )
    return tuple(found)


def check_voxel_place(seq: SeqFile, scanner: Scanner, *, shift_ppm: float = GLU_H4_PPM) -> tuple[Check, ...]:
    """Check that the slices of a file lie where it says its voxel is, and that the scanner reaches the voxel.

    One check for each selective pulse that differs from the others, in whichever metabolite shot it plays, saturation
    left out: the distance between the half-maximum midpoint of its simulated
    profile, at the chemical shift of the carrier, and the stated centre, along the slice's normal, at most 0.1 mm. Its
    note holds both places, the thickness beside the stated one, and the displacement of `shift_ppm`. What the file
    does not state, and so cannot be compared, is "not checked".
    """
    numbers = {key: seq.definition_numbers(key) for key in _STATED}
    lacking = [key for key, count in _STATED.items() if len(numbers[key] or ()) != count]
    if lacking:
        return (
            Check(name="slice centres", status="not checked", note=f"the file does not state {', '.join(lacking)}"),
        )
    stated = {key: np.array(values) for key, values in numbers.items() if values is not None}
    frequency_hz, reference_ppm, carrier_ppm = (float(stated[key][0]) for key in _STATED if key.startswith("seqgen"))
    try:
        pulses, before = _localising_pulses(seq)
        profiles = slice_profiles(
            pulses,
            carrier_offset_hz=ppm_to_hz(carrier_ppm, frequency_hz, reference_ppm),
            shift_offset_hz=ppm_to_hz(shift_ppm, frequency_hz, reference_ppm),
        )
    except InputError as error:
        return (Check(name="slice centres", status="not checked", note=str(error)),)
    if not profiles:
        return (Check(name="slice centres", status="not checked", note="no pulse of the file selects a slice"),)
    centre_m, size_m = stated["VoxelPosition"], stated["VoxelSize"]
    axes = stated["VoxelRotation"].reshape(3, 3).T
    checks = [_slice_check(profile, centre_m, size_m, axes, f"{shift_ppm:g} ppm") for profile in profiles]
    selected = {int(np.abs(axes @ profile.direction).argmax()) for profile in profiles}
    for axis in sorted({0, 1, 2} - selected):
        note = "no pulse that was looked at selects it"
        checks.append(Check(name=f"slice along voxel axis {axis + 1}", status="not checked", note=note))
    if before:
        note = f"{before} selective pulses; a 1.4 file does not say which of them saturate"
        checks.append(Check(name="slices before the excitation", status="not checked", note=note))
    return (*checks, _reach_check(centre_m, size_m, axes, scanner))


def _localising_pulses(seq: SeqFile) -> tuple[list[Interval], int]:
    """Return the different pulses of all metabolite shots but saturation, and how many selective ones were left out.

    Of a 1.4 file that does not say what saturates, pulses before the excitation are left out.
    """
    played = [shot for shot in shots(seq) if shot.timeline.pulses()]
    different = {shot.identity: shot.timeline for shot in played if not is_reference(shot)}.values()
    kept: dict[bytes, Interval] = {}
    left_out: set[bytes] = set()
    states_use = seq.version >= (1, 5, 0) or any(key.startswith(KEY) for key in seq.definitions)
    n_last = None if states_use else _from_excitation_on(played)
    for timeline in different:
        pulses = [interval for _, interval in timeline.pulses() if _turns(interval)]
        first = 0 if n_last is None else max(0, len(pulses) - n_last)
        left_out |= {_key(interval) for interval in pulses[:first] if bool(interval.gradient_hz_per_m.any())}
        for interval in pulses[first:]:
            if interval.use != "saturation":
                kept.setdefault(_key(interval), interval)
    return list(kept.values()), len(left_out - kept.keys())


def _from_excitation_on(played: Sequence[Shot]) -> int:
    """Return how many pulses of a metabolite shot play from the excitation of its echo on, of the last few pulses."""
    cycle = [_last_pulses(timeline, _MOST_PULSES) for timeline in phase_cycle(played)]
    orders = principal_echo(cycle).pathway.orders
    return len(orders) - next(k for k, order in enumerate(orders) if order != 0)


def _last_pulses(timeline: Timeline, count: int) -> Timeline:
    """Return a shot from its `count`-th last pulse on."""
    pulses = [k for k, interval in enumerate(timeline.intervals) if interval.use is not None]
    return Timeline(intervals=timeline.intervals[pulses[-count:][0] :], name=timeline.name)


def _turns(interval: Interval) -> bool:
    """Return whether a pulse could turn a spin at all: ISIS plays the pulses that it leaves out almost without RF."""
    return float(interval.b1_hz.abs().sum()) * interval.dwell_s > _NO_TURN


def _key(interval: Interval) -> bytes:
    """Return what is equal for pulses that differ in phase alone."""
    rounded = torch.round(interval.b1_hz.abs(), decimals=2).numpy().tobytes()
    gradient = torch.round(interval.gradient_hz_per_m, decimals=2).numpy().tobytes()
    return f"{interval.use} {interval.carrier_hz:.3f}".encode() + rounded + gradient


_STATED = {
    "VoxelSize": 3,
    "VoxelPosition": 3,
    "VoxelRotation": 9,
    "seqgen_spectrometer_frequency_hz": 1,
    "seqgen_reference_ppm": 1,
    "seqgen_slice_carrier_ppm": 1,
}
"""Definitions that place a voxel, and how many numbers each has."""


def _slice_check(
    profile: SliceProfile,
    centre_m: NDArray[np.float64],
    size_m: NDArray[np.float64],
    axes: NDArray[np.float64],
    shift: str,
) -> Check:
    """Compare one slice with the voxel's centre and its nearest axis."""
    axis = int(np.abs(axes @ profile.direction).argmax())
    sine = float(np.linalg.norm(np.cross(axes[axis], profile.direction)))
    asked_m = float(centre_m @ profile.direction)
    away_m = abs(profile.centre_m - asked_m)
    along = ", ".join(f"{value:.3f}" for value in profile.direction + 0.0)
    moved = ", ".join(f"{value * 1e3:.2f}" for value in profile.displacement_m + 0.0)
    degrees = math.degrees(math.asin(min(sine, 1.0)))
    tilted = "" if sine <= _PARALLEL else f"; tilted by {degrees:.3f} degrees against the axis stated"
    return Check(
        name=f"slice {profile.number} ({profile.use}) centre",
        status="passed" if away_m <= CENTRE_TOLERANCE_M and not tilted else "failed",
        value=away_m * 1e3,
        limit=CENTRE_TOLERANCE_M * 1e3,
        unit="mm",
        note=(
            f"at {profile.centre_m * 1e3:.3f} mm, asked {asked_m * 1e3:.3f} mm, along ({along}); "
            f"{profile.thickness_m * 1e3:.2f} mm thick, asked {size_m[axis] * 1e3:.2f} mm (not judged); {shift} "
            f"displaced by ({moved}) mm{tilted}"
        ),
    )


def _reach_check(
    centre_m: NDArray[np.float64], size_m: NDArray[np.float64], axes: NDArray[np.float64], scanner: Scanner
) -> Check:
    """Compare the corner of the voxel that is furthest from the isocentre with what the scanner reaches."""
    signs = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    furthest_m = float(np.linalg.norm(centre_m + (signs * size_m) @ axes, axis=1).max())
    name, limit_m = "voxel corner from the isocentre", scanner.usable_radius_m
    if limit_m is None:
        note = f"the profile {scanner.name} states no usable_radius_m"
        return Check(name=name, status="not checked", value=furthest_m * 1e3, unit="mm", note=note)
    within = furthest_m <= limit_m * (1 + 1e-6)
    return Check(
        name=name, status="passed" if within else "failed", value=furthest_m * 1e3, limit=limit_m * 1e3, unit="mm"
    )
