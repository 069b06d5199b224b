"""Semi-LASER: a selective excitation and two pairs of adiabatic refocusing pulses.

Scheenen, Klomp, Wijnen, Heerschap, Magn Reson Med 59:1 (2008), doi:10.1002/mrm.21302; GOIA-WURST pulses: Andronesi et
al., J Magn Reson 203:283 (2010), doi:10.1016/j.jmr.2010.01.010.

    90 --- d --- 180 --- s --- 180 --- m --- 180 --- s --- 180 --- e --- echo,   TE = 4 s,   d + m + e = 2 s
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqgen.seqfile.blocks import Block
from seqgen.sequence.adiabatic import ADIABATIC_KINDS, AdiabaticKind, adiabatic_slice
from seqgen.sequence.blocks import Vector, lobe
from seqgen.sequence.cycles import EXOR, STILL, TWO, nested_cycle
from seqgen.sequence.localisation import require_no_editing_pulse, slr_slice
from seqgen.sequence.parameters import require, require_echo_time
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.scan import ScanParams, Step, assemble, check_scan, gentle
from seqgen.sequence.timing import nearest, round_up
from seqgen.sequence.train import Element, Train
from seqgen.sequence.voxel import voxel_axes

_ORDERS = (-1, 1, -1, 1, -1)
_CYCLES = {"two_step": (TWO, *[STILL] * 4), "exor_16": (STILL, STILL, EXOR, STILL, EXOR)}
_AXES = (1, 1, 2, 2)
_CRUSHERS = ((0.5, 0.5, -0.5), (-1.0, 0.0, 1.0), (1.0, -0.5, -0.5), (0.0, 0.5, 0.5))
"""Moment on either side of each refocusing pulse along the voxel's axes, relative to crusher_moment_per_m. Between two
pulses both are one lobe. No lobe is longer than 1; slice gradients counted, no unwanted pathway of orders -2 to 2 keeps
less than 0.6 at the default moment and voxel."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SlaserParams(ScanParams):
    """Parameters of semi-LASER."""

    te_s: float
    """Echo time, s, at least the minimum that the error states."""
    phase_cycle: Literal["two_step", "exor_16"] = "two_step"
    """`two_step`: the excitation by 180 degrees; `exor_16`: the second pulse of each pair by 90 degrees, all
    combinations."""
    excitation_duration_s: float = 2.6e-3
    """Duration of the SLR excitation, s."""
    excitation_time_bandwidth: float = 6.0
    """Its time-bandwidth product."""
    refocusing: AdiabaticKind = "goia_wurst"
    """`goia_wurst`: GOIA-W(16, 4) under a modulated gradient; `hyperbolic_secant`: HS1 under a constant one, which
    needs a lower bandwidth or a longer pulse."""
    refocusing_duration_s: float = 5.0e-3
    """Duration of each refocusing pulse, s."""
    refocusing_bandwidth_hz: float = 7.0e3
    """Bandwidth of the refocusing pulses, Hz."""
    refocusing_b1_hz: float = 750.0
    """Peak amplitude gamma*B1/2pi of the refocusing pulses, Hz."""
    crusher_moment_per_m: float = 2200.0
    """Moment of the largest crusher, cycles per metre."""
    crusher_duration_s: float = 1.6e-3
    """Duration of each crusher, s."""


class _Slaser:
    """The plug-in."""

    name = "slaser"
    Params = SlaserParams
    editing_places = ()

    def build(self, params: SlaserParams, context: BuildContext) -> Built:
        """Return all blocks of the scan.

        Raises:
            InputError: If a parameter cannot be played, or TE or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        elements = _elements(params, context)
        half_s = nearest(params.te_s / 2, context.scanner.block_raster_s)
        least_s = _least_half_s(elements, context)
        require_echo_time("te_s", 2 * half_s, 2 * least_s, "semi-LASER")
        return assemble(
            params,
            context,
            [
                [
                    Step(train=_train(elements, half_s, params, context), phases=phases)
                    for phases in nested_cycle(_ORDERS, _CYCLES[params.phase_cycle])
                ]
            ],
            name="slaser",
            te_s=2 * half_s,
            definitions={},
            notes=(f"TE {half_s * 2e3:.6g} ms (minimum {least_s * 2e3:.6g} ms)",),
        )

    def minimum_te_s(self, params: SlaserParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest halves of TE."""
        context = _checked(params, context)
        half_s = _least_half_s(_elements(params, context), context)
        return half_s, half_s


SLASER = _Slaser()


def _checked(params: SlaserParams, context: BuildContext) -> BuildContext:
    """Refuse parameters that cannot be played; return the context with the slew rate to be used."""
    require_no_editing_pulse(context, "slaser")
    refocusing = ("refocusing_duration_s", "refocusing_bandwidth_hz", "refocusing_b1_hz")
    others = ("excitation_duration_s", "excitation_time_bandwidth", "crusher_moment_per_m", "crusher_duration_s")
    check_scan(params, context, positive=("te_s", *refocusing, *others), cycles=_CYCLES)
    require(params, "refocusing", lambda kind: kind in ADIABATIC_KINDS, f"one of {', '.join(ADIABATIC_KINDS)}")
    return gentle(params, context)


def _elements(params: SlaserParams, context: BuildContext) -> tuple[Element, ...]:
    """Return excitation and refocusing pulses, each with the lobe after it."""
    moments = [np.asarray(crusher) * params.crusher_moment_per_m @ voxel_axes(params) for crusher in _CRUSHERS]
    excitation = slr_slice(
        params,
        context,
        0,
        flip_angle_rad=0.5 * math.pi,
        duration_s=params.excitation_duration_s,
        time_bandwidth=params.excitation_time_bandwidth,
        name="excitation",
    )
    pulses = [
        adiabatic_slice(
            params,
            context,
            axis,
            kind=params.refocusing,
            duration_s=params.refocusing_duration_s,
            sweep_hz=params.refocusing_bandwidth_hz,
            b1_hz=params.refocusing_b1_hz,
            use="refocusing",
        )
        for axis in _AXES
    ]

    def crush(moment: Vector) -> tuple[Block, ...]:
        return (lobe(moment, context.scanner, duration_s=params.crusher_duration_s, name="crusher"),)

    # What a slice gradient has more after its pulse than before is taken off: the wanted pathway keeps no moment.
    surplus = [pulse.moment_after_per_m - pulse.moment_before_per_m for pulse in pulses]
    after = [
        crush(moment + following - more)
        for moment, following, more in zip(moments, [*moments[1:], np.zeros(3)], surplus, strict=True)
    ]
    return (
        Element(timed=excitation, after=crush(moments[0] - excitation.moment_after_per_m)),
        *(Element(timed=pulse, after=lobes) for pulse, lobes in zip(pulses, after, strict=True)),
    )


def _outside_s(elements: tuple[Element, ...], context: BuildContext) -> tuple[float, float]:
    """Return the least time from the excitation to the first refocusing pulse, and from the last one to the echo, s."""
    return elements[0].tail_s + elements[1].lead_s, elements[-1].tail_s + context.scanner.adc_dead_time_s


def _least_half_s(elements: tuple[Element, ...], context: BuildContext) -> float:
    """Return the shortest half of TE, s: of both distances within the pairs, or of all else."""
    raster_s = context.scanner.block_raster_s
    within_1, between, within_2 = (a.tail_s + b.lead_s for a, b in itertools.pairwise(elements[1:]))
    pairs_s = 2 * round_up(max(within_1, within_2), raster_s)
    return max(pairs_s, round_up(sum(_outside_s(elements, context)) + between, raster_s))


def _train(elements: tuple[Element, ...], half_te_s: float, params: SlaserParams, context: BuildContext) -> Train:
    """Return the pulses in time: distances of a quarter of TE, as in a CPMG train, where the pulses leave room.

    The echo comes where the distances within the pairs, one half of TE, equal all others together.
    """
    raster_s = context.scanner.block_raster_s
    first_s, last_s = _outside_s(elements, context)
    within_1_s = round_up(0.5 * half_te_s, raster_s)
    within_2_s = half_te_s - within_1_s
    between_s = min(within_1_s, math.floor((half_te_s - first_s - last_s) / raster_s + 1e-6) * raster_s)
    spare_s = half_te_s - between_s - first_s - last_s
    # Whole rasters of delay after the excitation, wherever the centres of the pulses lie on the raster.
    # Half a dwell before the echo, where there is room, is for the first sample.
    latest_s = max(spare_s - 0.5 * params.adc_dwell_s, 0.0)
    wanted_s = min(max(0.5 * (half_te_s - between_s) - first_s, 0.0), latest_s)
    delay_s = first_s + math.floor(wanted_s / raster_s + 1e-6) * raster_s
    steps = (delay_s, within_1_s, between_s, within_2_s)
    return Train(elements=elements, time_s=(0.0, *itertools.accumulate(steps)), echo_s=2 * half_te_s)
