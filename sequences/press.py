"""PRESS, plain or with a designed pulse at the first echo top, with WET water suppression and water references."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.pulse.shapes import gaussian_pulse, slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Adc, Block
from seqgen.sequence.blocks import TimedBlock, Vector, lobe, nonselective, selective, with_phase, without_rf
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.timing import nearest, remaining, round_up
from seqgen.simulate.slices import slice_of
from seqgen.timeline import Interval

WET_FLIP_DEG = (81.4, 101.4, 69.3, 161.0)
"""Flip angles of four-pulse WET, 60 ms apart: Ogg et al., J Magn Reson B 104:1 (1994), doi:10.1006/jmrb.1994.1048."""
_SPOILERS = ((1.0, 0.0, 0.0), (0.0, 1.37, 0.0), (0.0, 0.0, 1.61), (1.13, -0.71, 0.53))
_CRUSHERS = ((1.0, 1.0, 0.0), (0.0, 1.0, 1.0))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PressParams:
    """Parameters of PRESS."""

    te1_s: float
    """First echo time (excitation to first spin echo), s, at least the minimum that the error states."""
    te2_s: float
    """Second echo time, s; TE = te1_s + te2_s."""
    tr_s: float
    """Repetition time, s."""
    voxel_size_m: tuple[float, float, float]
    """Voxel along its own first, second and third axis (excitation, first and second refocusing), m."""
    voxel_position_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre of the voxel in gradient coordinates x, y, z, m."""
    voxel_rotation_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Rotation of the voxel about x, then y, then z (fixed axes), rad."""
    averages: int = 32
    """Water-suppressed shots that are acquired; a multiple of the two-step phase cycle."""
    dummy_scans: int = 2
    """Shots without readout before the first."""
    water_reference_averages: int = 2
    """Shots without water suppression at the end, same readout, label REF 1; a multiple of the phase cycle."""
    adc_samples: int = 2048
    """Complex samples of a readout."""
    adc_dwell_s: float = 2.5e-4
    """Dwell time, s."""
    receiver_phase_rad: float = 0.0
    """Phase of the receiver, rad, on top of the phase cycle; a design sets it so that its target is in absorption."""
    slew_fraction: float = 0.5
    """Part of the scanner's slew rate that gradients use: half keeps nerve stimulation and noise low."""
    slice_carrier_ppm: float = 2.8
    """Chemical shift for which all three slices sit where asked, ppm."""
    excitation_duration_s: float = 2.6e-3
    """Duration of the SLR excitation, s."""
    excitation_time_bandwidth: float = 6.0
    """Its time-bandwidth product."""
    refocusing_duration_s: float = 6.0e-3
    """Duration of the SLR refocusing pulses, s."""
    refocusing_time_bandwidth: float = 5.2
    """Their time-bandwidth product."""
    crusher_moment_per_m: float = 1500.0
    """Moment of each crusher along each of its axes, cycles per metre."""
    crusher_duration_s: float = 1.6e-3
    """Duration of each crusher, s."""
    water_suppression: Literal["wet", "none"] = "wet"
    """Four-pulse WET, or none."""
    suppression_duration_s: float = 2.0e-2
    """Duration of each suppression pulse (a Gaussian on water), s."""
    suppression_spacing_s: float = 6.0e-2
    """Time from the centre of a suppression pulse to that of the next, and of the last to the excitation's, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Parts:
    """The blocks of one shot, before phases and delays."""

    suppression: tuple[Block, ...]
    excitation: TimedBlock
    refocusing: tuple[TimedBlock, TimedBlock]
    rephase_and_crush: Block
    crush_1: Block
    crush_2: Block
    crush_2_after: Block
    edit: TimedBlock | None


class _Press:
    """The plug-in."""

    name = "press"
    Params = PressParams

    def build(self, params: PressParams, context: BuildContext) -> Built:
        """Return all blocks: dummies, averages in a two-step cycle of the excitation, water references.

        Raises:
            InputError: If a parameter cannot be played, or an echo time or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        _check(params, context)
        context = _gentle(params, context)
        parts = _parts(params, context)
        te1_s, te2_s = (2 * nearest(te / 2, context.scanner.block_raster_s) for te in (params.te1_s, params.te2_s))
        shots = {
            (suppress, step): _shot(params, context, parts, te1_s, te2_s, suppress=suppress, step=step)
            for suppress in (True, False)
            for step in (0, 1)
        }
        blocks: list[Block] = []
        for index in range(params.dummy_scans):
            blocks += [replace(block, adc=None) for block in shots[(True, index % 2)]]
        for index in range(params.averages):
            blocks += _labelled(shots[(True, index % 2)], AVG=index, REF=0)
        for index in range(params.water_reference_averages):
            blocks += _labelled(shots[(False, index % 2)], AVG=index, REF=1)
        rotation = _rotation(params)
        return Built(
            blocks=tuple(blocks),
            definitions={
                "Name": "press_edited" if context.editing_pulse is not None else "press",
                "FOV": tuple(params.voxel_size_m),
                "TE": te1_s + te2_s,
                "TE1": te1_s,
                "TE2": te2_s,
                "TR": nearest(params.tr_s, context.scanner.block_raster_s),
                "Nucleus": "1H",
                "VoxelSize": tuple(params.voxel_size_m),
                "VoxelPosition": tuple(params.voxel_position_m),
                "VoxelRotation": tuple(float(value) for value in rotation.reshape(-1)),
            },
        )

    def minimum_te_s(self, params: PressParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest (te1_s, te2_s) that these pulses and crushers allow."""
        _check(params, context)
        context = _gentle(params, context)
        return _minimum_te_s(_parts(params, context), context)


PRESS = _Press()


_POSITIVE = (
    "te1_s",
    "te2_s",
    "tr_s",
    "adc_dwell_s",
    "excitation_duration_s",
    "excitation_time_bandwidth",
    "refocusing_duration_s",
    "refocusing_time_bandwidth",
    "crusher_moment_per_m",
    "crusher_duration_s",
    "suppression_duration_s",
    "suppression_spacing_s",
)
_FINITE = ("slice_carrier_ppm", "receiver_phase_rad")
_EVEN = "a multiple of 2 (the phase cycle of the excitation) and at least {}"


def _check(params: PressParams, context: BuildContext) -> None:
    """Refuse parameters that no sequence can play."""
    for name in _POSITIVE:
        _require(params, name, lambda value: 0 < value < math.inf, "positive and finite")
    for name in _FINITE:
        _require(params, name, math.isfinite, "finite")
    _require(params, "slew_fraction", lambda value: 0 < value <= 1, "above 0 and at most 1")
    for name in ("voxel_size_m", "voxel_position_m", "voxel_rotation_rad"):
        _require(params, name, lambda axes: len(axes) == 3 and all(map(math.isfinite, axes)), "three finite numbers")
    _require(params, "voxel_size_m", lambda edges: min(edges) > 0, "positive along every axis")
    _require(params, "dummy_scans", lambda count: count >= 0, "0 or more")
    _require(params, "averages", lambda count: count >= 2 and count % 2 == 0, _EVEN.format("2"))
    _require(params, "water_reference_averages", lambda count: count >= 0 and count % 2 == 0, _EVEN.format("0"))
    _require(params, "water_suppression", lambda kind: kind in ("wet", "none"), "'wet' or 'none'")
    scanner = context.scanner
    _require(
        params,
        "adc_samples",
        lambda count: 0 < count <= scanner.adc_samples_max and count % scanner.adc_samples_divisor == 0,
        f"a multiple of {scanner.adc_samples_divisor} from {scanner.adc_samples_divisor} to {scanner.adc_samples_max} "
        f"({scanner.name})",
    )
    _require(
        params,
        "adc_dwell_s",
        lambda dwell_s: (
            dwell_s > 0.5 * scanner.adc_raster_s
            and abs(dwell_s - nearest(dwell_s, scanner.adc_raster_s)) < 1e-6 * scanner.adc_raster_s
        ),
        f"a multiple of the ADC raster of {scanner.name}, {scanner.adc_raster_s:g} s",
    )


def _require(params: PressParams, name: str, holds: Callable[[Any], bool], what: str) -> None:
    """Refuse a parameter for which `holds` is false."""
    value = getattr(params, name)
    if not holds(value):
        raise InputError(f"{name} must be {what}, but is {value}. Change {name} in the sequence's parameters.")


def _gentle(params: PressParams, context: BuildContext) -> BuildContext:
    """Return the context with the part of the slew rate that the parameters allow."""
    slew = params.slew_fraction * context.scanner.max_slew_t_per_m_per_s
    return replace(context, scanner=replace(context.scanner, max_slew_t_per_m_per_s=slew))


def _rotation(params: PressParams) -> Any:
    """Return the rotation matrix whose columns are the voxel's own axes."""
    return Rotation.from_euler("xyz", params.voxel_rotation_rad).as_matrix()


def _parts(params: PressParams, context: BuildContext) -> _Parts:
    """Make the pulses and lobes of a shot."""
    scanner, dwell = context.scanner, max(1e-5, context.scanner.rf_raster_s)
    axes = _rotation(params).T
    position = np.asarray(params.voxel_position_m)
    carrier_hz = ppm_to_hz(params.slice_carrier_ppm, context.spectrometer_frequency_hz, context.water_shift_ppm)
    excitation_pulse = slr_pulse(
        flip_angle_rad=math.pi / 2,
        time_bandwidth=params.excitation_time_bandwidth,
        duration_s=params.excitation_duration_s,
        dwell_s=dwell,
        name="excitation",
    )
    refocusing_pulse = slr_pulse(
        flip_angle_rad=math.pi,
        time_bandwidth=params.refocusing_time_bandwidth,
        duration_s=params.refocusing_duration_s,
        dwell_s=dwell,
        name="refocusing",
    )

    def slice_pulse(pulse: RFPulse, axis: int, bandwidth_hz: float, phase_rad: float, name: str) -> TimedBlock:
        return selective(
            replace(pulse, name=name),
            bandwidth_hz=bandwidth_hz,
            thickness_m=params.voxel_size_m[axis],
            direction=axes[axis],
            position_m=float(position @ axes[axis]),
            carrier_offset_hz=carrier_hz,
            phase_rad=phase_rad,
            use="excitation" if axis == 0 else "refocusing",
            scanner=scanner,
        )

    excitation = slice_pulse(
        excitation_pulse, 0, half_maximum_bandwidth_hz(excitation_pulse, excitation=True), math.pi / 2, "excitation"
    )
    refocusing_hz = half_maximum_bandwidth_hz(refocusing_pulse, excitation=False)
    first, second = (slice_pulse(refocusing_pulse, axis, refocusing_hz, 0.0, f"refocusing {axis}") for axis in (1, 2))
    crush_1, crush_2 = (np.asarray(c) * params.crusher_moment_per_m @ axes for c in _CRUSHERS)

    def crusher(moment: Vector) -> Block:
        return lobe(moment, scanner, duration_s=params.crusher_duration_s, name="crusher")

    return _Parts(
        suppression=_suppression(params, context, excitation),
        excitation=excitation,
        refocusing=(first, second),
        rephase_and_crush=crusher(crush_1 - excitation.moment_after_per_m),
        crush_1=crusher(crush_1 - _surplus(first)),
        crush_2=crusher(crush_2),
        crush_2_after=crusher(crush_2 - _surplus(second)),
        edit=None
        if context.editing_pulse is None
        else nonselective(
            replace(context.editing_pulse, name="edit"),
            phase_rad=0.0,
            carrier_offset_hz=context.editing_pulse.carrier_offset_hz,
            use="preparation",
            scanner=scanner,
        ),
    )


def _surplus(refocusing: TimedBlock) -> Vector:
    """Return by how much a slice's gradient is longer after the pulse: ramps differ as dead time and ringdown do."""
    return refocusing.moment_after_per_m - refocusing.moment_before_per_m


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


def _suppression(params: PressParams, context: BuildContext, excitation: TimedBlock) -> tuple[Block, ...]:
    """Return WET: Gaussian pulses on water, each followed by a spoiler of its own direction and a delay."""
    if params.water_suppression == "none":
        return ()
    scanner = context.scanner
    blocks: list[Block] = []
    for number, (flip_deg, direction) in enumerate(zip(WET_FLIP_DEG, _SPOILERS, strict=True)):
        pulse = gaussian_pulse(
            flip_angle_rad=math.radians(flip_deg),
            duration_s=params.suppression_duration_s,
            dwell_s=max(1e-5, scanner.rf_raster_s),
            name=f"WET {number + 1}",
        )
        timed = nonselective(pulse, phase_rad=0.0, carrier_offset_hz=0.0, use="saturation", scanner=scanner)
        spoiler = lobe(np.asarray(direction) * 3000.0, scanner, duration_s=4e-3, name="spoiler")
        wait = remaining(
            "suppression_spacing_s",
            params.suppression_spacing_s,
            timed.after_s + spoiler.duration_s + (excitation if number == len(WET_FLIP_DEG) - 1 else timed).before_s,
            scanner.block_raster_s,
            "Raise suppression_spacing_s or shorten suppression_duration_s.",
        )
        blocks += [timed.block, spoiler, Block(duration_s=wait)]
    return tuple(blocks)


def _minimum_te_s(parts: _Parts, context: BuildContext) -> tuple[float, float]:
    """Return the least TE1 and TE2: twice the fuller side of each echo."""
    first, second = parts.refocusing
    edit_before = parts.edit.before_s if parts.edit else 0.0
    edit_after = parts.edit.after_s if parts.edit else 0.0
    half_1 = max(
        parts.excitation.after_s + parts.rephase_and_crush.duration_s + first.before_s,
        first.after_s + parts.crush_1.duration_s + edit_before,
    )
    half_2 = max(
        edit_after + parts.crush_2.duration_s + second.before_s,
        second.after_s + parts.crush_2.duration_s + context.scanner.adc_dead_time_s,
    )
    raster = context.scanner.block_raster_s
    return 2 * round_up(half_1, raster), 2 * round_up(half_2, raster)


def _shot(
    params: PressParams, context: BuildContext, parts: _Parts, te1_s: float, te2_s: float, *, suppress: bool, step: int
) -> list[Block]:
    """Return the blocks of one repetition."""
    raster = context.scanner.block_raster_s
    least = _minimum_te_s(parts, context)
    for name, te_s, least_s in (("te1_s", te1_s, least[0]), ("te2_s", te2_s, least[1])):
        if te_s < least_s - 1e-9:
            raise InputError(
                f"{name} must be at least {least_s * 1e3:.6g} ms (minimum of PRESS with these pulses), but is "
                f"{te_s * 1e3:.6g} ms. Raise it, or shorten the pulses or crushers."
            )
    cycle_phase = math.pi * step
    first, second = parts.refocusing
    excitation = with_phase(parts.excitation, cycle_phase)

    def wait(duration_s: float) -> list[Block]:
        filled_s = nearest(duration_s, raster)
        if abs(filled_s - duration_s) > 1e-9:
            raise InputError(
                f"PRESS needs a delay of {duration_s * 1e6:.6g} us, which is not on the block raster of "
                f"{raster * 1e6:g} us: the echo would be off. Make excitation_duration_s, refocusing_duration_s and "
                "the editing pulse multiples of two rasters."
            )
        return [Block(duration_s=filled_s)] if filled_s > 0 else []

    after_excitation = te1_s / 2 - excitation.after_s - parts.rephase_and_crush.duration_s - first.before_s
    blocks = [block if suppress else without_rf(block) for block in parts.suppression]
    blocks += [excitation.block, parts.rephase_and_crush, *wait(after_excitation), first.block, parts.crush_1]
    between = first.after_s + parts.crush_1.duration_s, parts.crush_2.duration_s + second.before_s
    if parts.edit is None:
        blocks += wait(te1_s / 2 + te2_s / 2 - sum(between))
    else:
        blocks += wait(te1_s / 2 - between[0] - parts.edit.before_s)
        blocks += [parts.edit.block, *wait(te2_s / 2 - between[1] - parts.edit.after_s)]
    blocks += [parts.crush_2, second.block, parts.crush_2_after]
    return blocks + _readout(
        params, context, te2_s / 2 - second.after_s - parts.crush_2.duration_s, cycle_phase, blocks
    )


def _readout(
    params: PressParams, context: BuildContext, to_echo_s: float, phase_rad: float, before: list[Block]
) -> list[Block]:
    """Return the readout, its first sample at the echo (up to half a dwell later at the minimum TE), and TR filled."""
    scanner = context.scanner
    delay_s = max(nearest(to_echo_s - params.adc_dwell_s / 2, scanner.rf_raster_s), scanner.adc_dead_time_s)
    open_s = params.adc_samples * params.adc_dwell_s
    readout = Block(
        duration_s=round_up(delay_s + open_s + scanner.adc_dead_time_s, scanner.block_raster_s),
        adc=Adc(
            n_samples=params.adc_samples,
            dwell_s=params.adc_dwell_s,
            delay_s=delay_s,
            phase_rad=phase_rad + params.receiver_phase_rad,
        ),
    )
    used_s = sum(block.duration_s for block in before) + readout.duration_s
    rest = remaining(
        "tr_s", params.tr_s, used_s, scanner.block_raster_s, "Raise tr_s or shorten the readout or the echo times."
    )
    return [readout, Block(duration_s=rest)] if rest > 0 else [readout]


def _labelled(shot: list[Block], **labels: int) -> list[Block]:
    """Return the shot with labels set at its readout."""
    return [replace(block, labels=labels) if block.adc is not None else block for block in shot]
