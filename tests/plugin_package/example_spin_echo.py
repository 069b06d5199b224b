"""A third-party sequence: a Hahn echo of the whole sample with two hard pulses and crushers, for shimming and B1."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.blocks import Adc, Block
from seqgen.sequence.blocks import TimedBlock, lobe, nonselective, with_phase
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.timing import nearest, remaining, round_up


@dataclass(frozen=True, kw_only=True, slots=True)
class SpinEchoParams:
    """Parameters of the spin echo."""

    te_s: float = 0.03
    """Echo time, from the centre of the excitation to the echo, s."""
    tr_s: float = 1.0
    """Repetition time, s."""
    averages: int = 4
    """Shots; a multiple of the two-step phase cycle."""
    adc_samples: int = 256
    """Complex samples of a readout."""
    adc_dwell_s: float = 2.5e-4
    """Dwell time, s."""
    refocusing_duration_s: float = 1.2e-3
    """Duration of the hard refocusing pulse, s; the excitation has the same amplitude and half the duration."""
    crusher_moment_per_m: float = 1000.0
    """Moment of each crusher along z, cycles per metre."""
    crusher_duration_s: float = 1.6e-3
    """Duration of each crusher, s."""


class _SpinEcho:
    """The plug-in."""

    name = "example_spin_echo"
    Params = SpinEchoParams

    def build(self, params: SpinEchoParams, context: BuildContext) -> Built:
        """Return the shots; the excitation alternates between +y and -y, and the receiver follows."""
        scanner = context.scanner
        if params.averages < 2 or params.averages % 2:
            raise InputError(
                f"averages must be a multiple of 2, at least 2, but is {params.averages}. Change averages."
            )
        excite, crush, refocus = self._parts(params, context)
        te_s = 2 * nearest(params.te_s / 2, scanner.block_raster_s)
        least_s, _ = self.minimum_te_s(params, context)
        if te_s < least_s - 1e-9:
            raise InputError(
                f"te_s must be at least {least_s:.6g} s with these pulses, but is {te_s:.6g} s. Raise te_s or shorten "
                "refocusing_duration_s."
            )
        wait_s = te_s / 2 - excite.after_s - crush.duration_s - refocus.before_s
        if abs(wait_s - nearest(wait_s, scanner.block_raster_s)) > 1e-9:
            raise InputError(
                f"The pulses are centred {wait_s * 1e6:.6g} us off the block raster. Make refocusing_duration_s a "
                "multiple of four block rasters."
            )
        to_echo_s = te_s / 2 - refocus.after_s - crush.duration_s
        delay_s = max(nearest(to_echo_s - params.adc_dwell_s / 2, scanner.rf_raster_s), scanner.adc_dead_time_s)
        open_s = params.adc_samples * params.adc_dwell_s
        duration_s = round_up(delay_s + open_s + scanner.adc_dead_time_s, scanner.block_raster_s)
        waiting = [Block(duration_s=nearest(wait_s, scanner.block_raster_s))] if wait_s > 1e-9 else []
        used_s = excite.block.duration_s + 2 * crush.duration_s + refocus.block.duration_s + duration_s
        used_s += sum(block.duration_s for block in waiting)
        rest_s = remaining("tr_s", params.tr_s, used_s, scanner.block_raster_s, "Raise tr_s or shorten the readout.")
        blocks: list[Block] = []
        starts: list[int] = []
        for average in range(params.averages):
            starts.append(len(blocks))
            phase_rad = math.pi * (average % 2)
            adc = Adc(n_samples=params.adc_samples, dwell_s=params.adc_dwell_s, delay_s=delay_s, phase_rad=phase_rad)
            blocks += [with_phase(excite, phase_rad).block, crush, *waiting, refocus.block, crush]
            blocks += [Block(duration_s=duration_s, adc=adc, labels={"AVG": average, "REF": 0})]
            blocks += [Block(duration_s=rest_s)] if rest_s > 0 else []
        return Built(
            blocks=tuple(blocks),
            shot_starts=tuple(starts),
            definitions={"Name": self.name, "Nucleus": "1H", "TE": te_s, "TR": params.tr_s},
        )

    def minimum_te_s(self, params: SpinEchoParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest echo time; there is no second echo."""
        excite, crush, refocus = self._parts(params, context)
        before_s = excite.after_s + crush.duration_s + refocus.before_s
        after_s = refocus.after_s + crush.duration_s + context.scanner.adc_dead_time_s
        return 2 * round_up(max(before_s, after_s), context.scanner.block_raster_s), 0.0

    def _parts(self, params: SpinEchoParams, context: BuildContext) -> tuple[TimedBlock, Block, TimedBlock]:
        """Return excitation, crusher and refocusing."""
        timed = []
        for flip_rad, phase_rad, use in ((math.pi / 2, math.pi / 2, "excitation"), (math.pi, 0.0, "refocusing")):
            duration_s = params.refocusing_duration_s * flip_rad / math.pi
            n = round(duration_s / 1e-5)
            b1_hz = torch.full((n,), flip_rad / (2 * math.pi * duration_s), dtype=torch.complex128)
            pulse = RFPulse(b1_hz=b1_hz, dwell_s=1e-5, name=use)
            timed.append(
                nonselective(pulse, phase_rad=phase_rad, carrier_offset_hz=0.0, use=use, scanner=context.scanner)
            )
        moment_per_m = np.array([0.0, 0.0, params.crusher_moment_per_m])
        crusher = lobe(moment_per_m, context.scanner, duration_s=params.crusher_duration_s, name="crusher")
        return timed[0], crusher, timed[1]


SPIN_ECHO = _SpinEcho()
