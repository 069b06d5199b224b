"""Which signs an interpreter gives to RF, receiver and gradients: shots on water whose signals answer one by one.

Every shot is one excitation, a fixed delay, a readout; nothing but the sign under test differs from the reference shot.
What each answers, and which errors cannot be told apart, stands in docs/sign_check.md; `seqgen.mrs.sign_check` reads
the data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from seqgen.axes import ppm_to_hz
from seqgen.errors import HardwareLimitError, InputError
from seqgen.pulse.shapes import gaussian_pulse, slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Adc, Block, Trapezoid
from seqgen.sequence.blocks import TimedBlock, lobe, nonselective, selective, with_phase
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.sign_kinds import NAME, PROJECTIONS, SLABS, Kind
from seqgen.sequence.timing import nearest, remaining, round_up
from seqgen.units import hz_to_tesla

SLAB_TIME_BANDWIDTH = 4.0
"""Time-bandwidth product of the slab pulse."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SignCheckParams:
    """Parameters of the sign check; the defaults are for a bottle of water in a head coil."""

    tr_s: float = 2.0
    """Repetition time, s."""
    averages: int = 2
    """Repeats of each shot; a multiple of the two-step phase cycle."""
    dummy_scans: int = 2
    """Shots without readout before the first."""
    adc_samples: int = 512
    """Complex samples of a readout."""
    adc_dwell_s: float = 1e-4
    """Dwell time, s."""
    pulse_duration_s: float = 1.2e-2
    """Duration of the Gaussian 90-degree pulse, s: 12 ms excite 190 Hz (full width at half maximum)."""
    rf_offset_hz: float = 300.0
    """Offset F of the carrier that the waveform takes back, Hz; beyond the width of the pulse."""
    adc_offset_hz: float = 500.0
    """Frequency offset of the receiver, Hz."""
    line_ppm: float = 1.3
    """Chemical shift of a second line, ppm: 1.3 is CH2 of cooking oil. Without such a line these shots stay empty."""
    field_of_view_m: float = 0.3
    """Field of view of the projections, m; the read gradient is 1 / (adc_dwell_s field_of_view_m)."""
    slab_position_m: float = 0.025
    """Distance d of the slabs from the isocentre, m; the sample should reach there on one side or both."""
    slab_thickness_m: float = 0.02
    """Thickness of the slabs, m."""
    slab_duration_s: float = 4e-3
    """Duration of the SLR pulse of the slabs, s."""
    prephase_duration_s: float = 5e-3
    """Time between pulse and readout, in which read and slab gradients are prephased and rephased, s."""
    spoiler_moment_per_m: float = 1500.0
    """Moment of the spoiler after each readout, cycles per metre."""
    spoiler_duration_s: float = 1e-2
    """Its duration, s."""
    slew_fraction: float = 0.5
    """Part of the scanner's slew rate that gradients use."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Play:
    """What one kind of shot plays before phases: excitation, axis that is read, receiver."""

    excitation: TimedBlock
    axis: int | None = None
    adc_hz: float = 0.0
    adc_rad: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ReadTiming:
    """Read gradient and the times in its block."""

    gradient_hz_per_m: float
    rise_s: float
    flat_s: float
    adc_delay_s: float
    duration_s: float
    moment_to_centre_per_m: float
    """Moment from the start of the block to the middle of the readout."""


class _SignCheck:
    """The plug-in."""

    name = NAME
    Params = SignCheckParams

    def build(self, params: SignCheckParams, context: BuildContext) -> Built:
        """Return all kinds of shots in turn, as often as there are averages; an editing pulse is not played.

        Raises:
            InputError: If a parameter cannot be played.
            HardwareLimitError: If a gradient or pulse needs more than the scanner allows.
        """
        _check(params, context)
        slew = params.slew_fraction * context.scanner.max_slew_t_per_m_per_s
        context = replace(context, scanner=replace(context.scanner, max_slew_t_per_m_per_s=slew))
        plays = _plays(params, context)
        longest_s = max(play.excitation.block.duration_s for play in plays.values())
        timing = _read_timing(params, context.scanner)
        shots = {
            (kind, step): _shot(params, context, play, timing, longest_s, cycle_rad=math.pi * step)
            for kind, play in plays.items()
            for step in (0, 1)
        }
        blocks: list[Block] = []
        starts: list[int] = []
        for index in range(params.dummy_scans):
            starts.append(len(blocks))
            blocks += [replace(block, adc=None) for block in shots[(Kind.REFERENCE, index % 2)]]
        for index in range(params.averages):
            for kind in plays:
                labels = {"AVG": index, "REF": 0, "SET": int(kind)}
                shot = shots[(kind, index % 2)]
                starts.append(len(blocks))
                blocks += [replace(block, labels=labels) if block.adc is not None else block for block in shot]
        return Built(
            blocks=tuple(blocks),
            definitions={
                "Name": self.name,
                "FOV": (params.field_of_view_m,) * 3,
                "TR": nearest(params.tr_s, context.scanner.block_raster_s),
                "Nucleus": "1H",
            },
            shot_starts=tuple(starts),
        )

    def minimum_te_s(self, params: SignCheckParams, context: BuildContext) -> tuple[float, float]:
        """Return (0, 0): there is no spin echo."""
        _check(params, context)
        return 0.0, 0.0


SIGN_CHECK = _SignCheck()

_POSITIVE = (
    "tr_s",
    "adc_dwell_s",
    "pulse_duration_s",
    "rf_offset_hz",
    "adc_offset_hz",
    "field_of_view_m",
    "slab_position_m",
    "slab_thickness_m",
    "slab_duration_s",
    "prephase_duration_s",
    "spoiler_moment_per_m",
    "spoiler_duration_s",
)


def _check(params: SignCheckParams, context: BuildContext) -> None:
    """Refuse parameters that no sequence can play, or whose shots could not be told apart."""
    for name in _POSITIVE:
        _require(params, name, lambda value: 0 < value < math.inf, "positive and finite")
    _require(params, "line_ppm", math.isfinite, "finite")
    _require(params, "slew_fraction", lambda value: 0 < value <= 1, "above 0 and at most 1")
    _require(params, "dummy_scans", lambda count: count >= 0, "0 or more")
    _require(
        params, "averages", lambda count: count >= 2 and count % 2 == 0, "a multiple of 2 (the phase cycle), at least 2"
    )
    scanner = context.scanner
    _require(
        params,
        "adc_samples",
        lambda count: 0 < count <= scanner.adc_samples_max and count % scanner.adc_samples_divisor == 0,
        f"a multiple of {scanner.adc_samples_divisor} up to {scanner.adc_samples_max} ({scanner.name})",
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
    least_hz, most_hz = 3 / params.pulse_duration_s, 0.25 / params.adc_dwell_s
    for name in ("rf_offset_hz", "adc_offset_hz"):
        _require(
            params,
            name,
            lambda value: least_hz <= value <= most_hz,
            f"at least {least_hz:.6g} Hz (beyond the width of the pulse) and at most {most_hz:.6g} Hz (half the band)",
        )
    _require(
        params,
        "slab_position_m",
        lambda value: value < 0.4 * params.field_of_view_m,
        f"below {0.4 * params.field_of_view_m:.6g} m (0.4 field_of_view_m)",
    )


def _require(params: SignCheckParams, name: str, holds: Callable[[Any], bool], what: str) -> None:
    """Refuse a parameter for which `holds` is false."""
    value = getattr(params, name)
    if not holds(value):
        raise InputError(f"{name} must be {what}, but is {value}. Change {name} in the sequence's parameters.")


def _plays(params: SignCheckParams, context: BuildContext) -> dict[Kind, _Play]:
    """Return what each kind of shot plays."""
    dwell_s = max(1e-5, context.scanner.rf_raster_s)
    water = gaussian_pulse(
        flip_angle_rad=math.pi / 2, duration_s=params.pulse_duration_s, dwell_s=dwell_s, name="water"
    )
    line_hz = ppm_to_hz(params.line_ppm, context.spectrometer_frequency_hz, context.water_shift_ppm)
    offset_hz = params.rf_offset_hz

    def on(pulse: RFPulse, carrier_hz: float = 0.0, phase_rad: float = 0.0) -> TimedBlock:
        return nonselective(
            pulse, phase_rad=phase_rad, carrier_offset_hz=carrier_hz, use="excitation", scanner=context.scanner
        )

    reference = on(water)
    plays = {
        Kind.REFERENCE: _Play(excitation=reference),
        Kind.COUNTER: _Play(excitation=on(_turning(water, -offset_hz), offset_hz)),
        Kind.ALONG: _Play(excitation=on(_turning(water, offset_hz), offset_hz)),
        Kind.WAVEFORM_PHASE: _Play(excitation=on(replace(water, b1_hz=1j * water.b1_hz))),
        Kind.RF_PHASE: _Play(excitation=on(water, phase_rad=math.pi / 2)),
        Kind.ADC_PHASE: _Play(excitation=reference, adc_rad=math.pi / 2),
        Kind.ADC_FREQUENCY: _Play(excitation=reference, adc_hz=params.adc_offset_hz),
        Kind.LINE: _Play(excitation=on(water, line_hz)),
        Kind.MIRROR_LINE: _Play(excitation=on(water, -line_hz)),
    }
    for axis, kind in enumerate(PROJECTIONS):
        plays[kind] = _Play(excitation=reference, axis=axis)
    for axis, kinds in enumerate(SLABS):
        for kind, side in zip(kinds, (1, -1), strict=True):
            plays[kind] = _Play(excitation=_slab(params, context, axis, side * params.slab_position_m), axis=axis)
    return plays


def _turning(pulse: RFPulse, frequency_hz: float) -> RFPulse:
    """Return the pulse with its waveform turning, phase zero at its centre."""
    n = int(pulse.b1_hz.shape[0])
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) * pulse.dwell_s
    return replace(pulse, b1_hz=pulse.b1_hz * torch.exp(2j * math.pi * frequency_hz * t_s))


def _slab(params: SignCheckParams, context: BuildContext, axis: int, position_m: float) -> TimedBlock:
    """Return a slab-selective 90-degree pulse."""
    pulse = slr_pulse(
        flip_angle_rad=math.pi / 2,
        time_bandwidth=SLAB_TIME_BANDWIDTH,
        duration_s=params.slab_duration_s,
        dwell_s=max(1e-5, context.scanner.rf_raster_s),
        name="slab",
    )
    return selective(
        pulse,
        bandwidth_hz=SLAB_TIME_BANDWIDTH / params.slab_duration_s,
        thickness_m=params.slab_thickness_m,
        direction=np.eye(3)[axis],
        position_m=position_m,
        carrier_offset_hz=0.0,
        phase_rad=0.0,
        use="excitation",
        scanner=context.scanner,
    )


def _read_timing(params: SignCheckParams, scanner: Scanner) -> _ReadTiming:
    """Return the read gradient, its plateau around the readout.

    Raises:
        HardwareLimitError: If the field of view is too small for the gradient.
    """
    amplitude = 1 / (params.adc_dwell_s * params.field_of_view_m)
    if amplitude > scanner.max_gradient_hz_per_m:
        raise HardwareLimitError(
            f"A field of view of {params.field_of_view_m:.4g} m needs a read gradient of "
            f"{hz_to_tesla(amplitude) * 1e3:.4g} mT/m; {scanner.name} allows "
            f"{scanner.max_gradient_t_per_m * 1e3:.4g} mT/m. Enlarge field_of_view_m or adc_dwell_s."
        )
    raster_s, open_s = scanner.gradient_raster_s, params.adc_samples * params.adc_dwell_s
    rise_s = max(round_up(amplitude / scanner.max_slew_hz_per_m_per_s, raster_s), raster_s)
    delay_s = round_up(max(rise_s, scanner.adc_dead_time_s), raster_s)
    flat_s = round_up(delay_s - rise_s + open_s, raster_s)
    used_s = max(2 * rise_s + flat_s, delay_s + open_s + scanner.adc_dead_time_s)
    return _ReadTiming(
        gradient_hz_per_m=amplitude,
        rise_s=rise_s,
        flat_s=flat_s,
        adc_delay_s=delay_s,
        duration_s=round_up(used_s, scanner.block_raster_s),
        moment_to_centre_per_m=amplitude * (delay_s - 0.5 * rise_s + 0.5 * open_s),
    )


def _shot(
    params: SignCheckParams,
    context: BuildContext,
    play: _Play,
    timing: _ReadTiming,
    longest_s: float,
    *,
    cycle_rad: float,
) -> list[Block]:
    """Return the blocks of one repetition: every kind opens its receiver at the same time."""
    scanner = context.scanner
    excitation = with_phase(play.excitation, cycle_rad)
    pad_s = nearest(longest_s - excitation.block.duration_s, scanner.block_raster_s)
    to_centre = np.zeros(3) if play.axis is None else timing.moment_to_centre_per_m * np.eye(3)[play.axis]
    prephase = lobe(
        -excitation.moment_after_per_m - to_centre, scanner, duration_s=params.prephase_duration_s, name="prephaser"
    )
    read = Trapezoid(
        amplitude_hz_per_m=timing.gradient_hz_per_m,
        rise_s=timing.rise_s,
        flat_s=timing.flat_s,
        fall_s=timing.rise_s,
    )
    x, y, z = (read if axis == play.axis else None for axis in range(3))
    readout = Block(
        duration_s=timing.duration_s,
        gradients=(x, y, z),
        adc=Adc(
            n_samples=params.adc_samples,
            dwell_s=params.adc_dwell_s,
            delay_s=timing.adc_delay_s,
            frequency_hz=play.adc_hz,
            phase_rad=play.adc_rad + cycle_rad,
        ),
    )
    spoil = lobe(
        params.spoiler_moment_per_m / math.sqrt(3) * np.ones(3),
        scanner,
        duration_s=params.spoiler_duration_s,
        name="spoiler",
    )
    blocks = [Block(duration_s=pad_s)] if pad_s > 0 else []
    blocks += [excitation.block, prephase, readout, spoil]
    used_s = sum(block.duration_s for block in blocks)
    rest_s = remaining("tr_s", params.tr_s, used_s, scanner.block_raster_s, "Raise tr_s or shorten the readout.")
    return [*blocks, Block(duration_s=rest_s)] if rest_s > 0 else blocks
