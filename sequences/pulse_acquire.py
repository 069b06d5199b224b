"""One non-selective pulse and a readout: a designed pulse alone, or a hard one, on whatever the coil sees."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from seqgen.axes import ppm_to_hz
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Adc, Block
from seqgen.sequence.blocks import TimedBlock, lobe, with_phase
from seqgen.sequence.cycles import EXOR, STILL, TWO, PhaseStep, nested_cycle
from seqgen.sequence.localisation import HALF_PI, editing
from seqgen.sequence.parameters import require
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.scan import check_readout
from seqgen.sequence.timing import nearest, remaining, round_up, ticks
from seqgen.sequence.train import after_gap
from seqgen.sequence.voxel import PLAUSIBLE_PPM

CYCLES: Mapping[str, tuple[float, ...]] = {"one_step": STILL, "two_step": TWO, "cyclops": EXOR}
"""Phases of the pulse, which the receiver follows."""
_SPOILER = np.ones(3) / math.sqrt(3)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PulseAcquireParams:
    """Parameters of pulse-acquire."""

    tr_s: float
    """Repetition time, s."""
    averages: int = 4
    """Shots that are acquired, a multiple of the phase cycle."""
    dummy_scans: int = 0
    """Shots without readout before the first."""
    phase_cycle: Literal["one_step", "two_step", "cyclops"] = "cyclops"
    """`one_step`: none; `two_step`: pulse and receiver by 180 degrees; `cyclops`: both by 90 degrees, four steps."""
    flip_angle_rad: float = HALF_PI
    """Flip angle of the hard pulse, rad; of no effect where a designed pulse is played."""
    pulse_duration_s: float = 5.0e-4
    """Duration of the hard pulse, s; it is rectangular."""
    carrier_ppm: float = 4.65
    """Chemical shift at which the hard pulse has its carrier, ppm; a designed pulse has its own."""
    adc_samples: int = 2048
    """Complex samples of a readout."""
    adc_dwell_s: float = 2.5e-4
    """Dwell time, s."""
    receiver_phase_rad: float = 0.0
    """Phase of the receiver, rad, on top of the phase cycle; a design sets it so that its target is in absorption."""
    spoiler_moment_per_m: float = 0.0
    """Moment of the spoiler after the readout, cycles per metre along (1, 1, 1); 0: none, for consoles without
    gradients."""
    slew_fraction: float = 0.5
    """Part of the scanner's slew rate that the spoiler uses."""


class _PulseAcquire:
    """The plug-in."""

    name = "pulse_acquire"
    Params = PulseAcquireParams
    editing_places = ("excitation",)

    def build(self, params: PulseAcquireParams, context: BuildContext) -> Built:
        """Return all blocks: dummy scans, then averages through the phase cycle.

        Raises:
            InputError: If a parameter cannot be played, or TR is too short.
            HardwareLimitError: If the pulse or the spoiler needs more than the scanner allows.
        """
        _check(params, context)
        cycle = nested_cycle((-1,), (CYCLES[params.phase_cycle],))
        shots = [_shot(params, context, step) for step in cycle]
        blocks: list[Block] = []
        starts: list[int] = []
        for index in range(params.dummy_scans):
            starts.append(len(blocks))
            blocks += [replace(block, adc=None) for block in shots[index % len(shots)]]
        for index in range(params.averages):
            starts.append(len(blocks))
            counters = {"AVG": index, "SET": 0, "PHS": index % len(cycle), "REP": index // len(cycle), "REF": 0}
            shot = shots[index % len(shots)]
            blocks += [replace(block, labels=counters) if block.adc is not None else block for block in shot]
        # Some interpreters want every counter set before it is used.
        counters = dict.fromkeys(("AVG", "SET", "PHS", "REP", "REF"), 0)
        blocks[0] = replace(blocks[0], labels=counters | blocks[0].labels)
        return Built(
            blocks=tuple(blocks),
            definitions={
                "Name": self.name if context.editing_pulse is None else f"{self.name}_designed",
                "TR": nearest(params.tr_s, context.scanner.block_raster_s),
                "Nucleus": "1H",
            },
            shot_starts=tuple(starts),
            notes=(
                f"TR {params.tr_s * 1e3:.6g} ms (minimum {_least_tr_s(context, shots[0]) * 1e3:.6g} ms)",
                f"{params.averages} averages: {len(cycle)} steps of the phase cycle",
                "No localisation: the signal is that of all that the coil sees",
            ),
        )

    def minimum_te_s(self, params: PulseAcquireParams, context: BuildContext) -> tuple[float, float]:
        """Return (0, 0): there is no echo."""
        _check(params, context)
        return 0.0, 0.0


PULSE_ACQUIRE = _PulseAcquire()


def _check(params: PulseAcquireParams, context: BuildContext) -> None:
    """Refuse parameters that cannot be played."""
    scanner = context.scanner
    for name in ("tr_s", "flip_angle_rad", "pulse_duration_s", "adc_dwell_s"):
        require(params, name, lambda value: 0 < value < math.inf, "positive and finite")
    require(
        params,
        "pulse_duration_s",
        lambda duration_s: (
            round(duration_s / scanner.rf_raster_s) >= 1
            and abs(duration_s - nearest(duration_s, scanner.rf_raster_s)) < 1e-6 * scanner.rf_raster_s
        ),
        f"a multiple of the RF raster of {scanner.name}, {scanner.rf_raster_s:g} s",
    )
    low, high = PLAUSIBLE_PPM
    require(params, "carrier_ppm", lambda ppm: low <= ppm <= high, f"from {low:g} to {high:g}")
    require(params, "receiver_phase_rad", math.isfinite, "finite")
    require(params, "spoiler_moment_per_m", lambda value: 0 <= value < math.inf, "finite and not negative")
    require(params, "slew_fraction", lambda value: 0 < value <= 1, "above 0 and at most 1")
    require(params, "dummy_scans", lambda count: count >= 0, "0 or more")
    require(params, "phase_cycle", lambda name: name in CYCLES, f"one of {', '.join(CYCLES)}")
    steps = len(CYCLES[params.phase_cycle])
    require(
        params,
        "averages",
        lambda count: count >= steps and count % steps == 0,
        f"a multiple of {steps} (steps of the phase cycle) and at least {steps}",
    )
    check_readout(params, scanner)


def _excitation(params: PulseAcquireParams, context: BuildContext) -> TimedBlock:
    """Return the designed pulse, phase zero at its centre, or a hard pulse about +y, which turns +z to +x."""
    if context.editing_pulse is not None:
        return editing(context.editing_pulse, context, use="excitation", name="designed pulse")
    raster_s = context.scanner.rf_raster_s
    amplitude_hz = params.flip_angle_rad / (2 * math.pi * params.pulse_duration_s)
    hard = RFPulse(
        b1_hz=torch.full((ticks(params.pulse_duration_s, raster_s),), amplitude_hz, dtype=torch.complex128),
        dwell_s=raster_s,
        carrier_offset_hz=ppm_to_hz(params.carrier_ppm, context.spectrometer_frequency_hz, context.water_shift_ppm),
    )
    return editing(hard, context, phase_rad=HALF_PI, use="excitation", name="hard pulse")


def _shot(params: PulseAcquireParams, context: BuildContext, step: PhaseStep) -> list[Block]:
    """Return the blocks of one repetition: pulse, readout at once, spoiler, delay to the end of TR."""
    scanner = context.scanner
    # Where an interpreter plays RF later than it opens the receiver (GE), the receiver waits.
    late_s = max(scanner.segment_rf_wait_s - scanner.segment_adc_wait_s, 0.0)
    delay_s = round_up(scanner.adc_dead_time_s + late_s, scanner.rf_raster_s)
    readout_s = delay_s + params.adc_samples * params.adc_dwell_s + scanner.adc_dead_time_s
    readout = Block(
        duration_s=round_up(readout_s, scanner.block_raster_s),
        adc=Adc(
            n_samples=params.adc_samples,
            dwell_s=params.adc_dwell_s,
            delay_s=delay_s,
            phase_rad=step.receiver_phase_rad + params.receiver_phase_rad,
        ),
    )
    blocks = [with_phase(_excitation(params, context), step.pulse_phase_rad[0]).block, readout]
    if params.spoiler_moment_per_m > 0:
        slew = params.slew_fraction * scanner.max_slew_t_per_m_per_s
        gentle = replace(scanner, max_slew_t_per_m_per_s=slew)
        blocks.append(lobe(params.spoiler_moment_per_m * _SPOILER, gentle, name="spoiler at the end"))
    rest_s = remaining(
        "tr_s", params.tr_s, _duration_s(blocks), scanner.block_raster_s, "Raise tr_s or shorten the readout."
    )
    return after_gap(blocks, rest_s, scanner.block_raster_s)


def _least_tr_s(context: BuildContext, shot: Sequence[Block]) -> float:
    """Return the shortest TR: everything but the last delay."""
    last = shot[-1]
    idle = last.adc is None and last.rf is None and not any(last.gradients)
    return round_up(_duration_s(shot[:-1] if idle else shot), context.scanner.block_raster_s)


def _duration_s(blocks: Sequence[Block]) -> float:
    """Return how long blocks last, s."""
    return sum(block.duration_s for block in blocks)
