"""STEAM: a stimulated echo from three selective 90-degree pulses.

Frahm, Merboldt, Haenicke, J Magn Reson 72:502 (1987), doi:10.1016/0022-2364(87)90154-5. Half the signal of a spin
echo, at a shorter echo time and with less RF.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqgen.seqfile.blocks import Block
from seqgen.sequence.blocks import Vector, lobe, with_phase
from seqgen.sequence.cycles import STILL, TWO, nested_cycle
from seqgen.sequence.localisation import require_no_editing_pulse, slr_slice
from seqgen.sequence.parameters import require_echo_time
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.scan import ScanParams, Step, assemble, check_scan, gentle
from seqgen.sequence.timing import nearest, round_up
from seqgen.sequence.train import Element, Train
from seqgen.sequence.voxel import voxel_axes

_ORDERS = (1, 0, -1)
_CYCLES = {"two_step": (TWO, STILL, STILL), "eight_step": (TWO, TWO, TWO)}
_CRUSHER = (1.0, 1.0, 1.0)
_TM_SPOILER = (1.0, -1.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SteamParams(ScanParams):
    """Parameters of STEAM."""

    te_s: float
    """Echo time (both halves together, without TM), s, at least the minimum that the error states."""
    tm_s: float = 1.2e-2
    """Mixing time between the centres of the second and third pulse, s, at least the minimum that the error states."""
    phase_cycle: Literal["two_step", "eight_step"] = "two_step"
    """`two_step`: the first pulse by 180 degrees; `eight_step`: every pulse by 180 degrees, all combinations."""
    pulse_duration_s: float = 2.6e-3
    """Duration of the SLR 90-degree pulses, s."""
    pulse_time_bandwidth: float = 6.0
    """Their time-bandwidth product."""
    crusher_moment_per_m: float = 1000.0
    """Moment of the crusher in each half of TE, along each axis, cycles per metre."""
    crusher_duration_s: float = 1.6e-3
    """Duration of each crusher, s."""
    tm_spoiler_moment_per_m: float = 3000.0
    """Moment of the spoiler in TM along each of its axes, cycles per metre."""
    tm_spoiler_duration_s: float = 3.0e-3
    """Duration of that spoiler, s."""


class _Steam:
    """The plug-in."""

    name = "steam"
    Params = SteamParams
    editing_places = ()

    def build(self, params: SteamParams, context: BuildContext) -> Built:
        """Return all blocks of the scan.

        Raises:
            InputError: If a parameter cannot be played, or TE, TM or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        raster_s = context.scanner.block_raster_s
        elements = _elements(params, context)
        te_s, tm_s = 2 * nearest(params.te_s / 2, raster_s), nearest(params.tm_s, raster_s)
        least_tm_s = round_up(elements[1].tail_s + elements[2].lead_s, raster_s)
        require_echo_time("te_s", te_s, 2 * _minimum_half_s(elements, context), "STEAM")
        require_echo_time("tm_s", tm_s, least_tm_s, "STEAM")
        train = Train(elements=elements, time_s=(0.0, te_s / 2, te_s / 2 + tm_s), echo_s=te_s + tm_s)
        return assemble(
            params,
            context,
            [[Step(train=train, phases=step) for step in nested_cycle(_ORDERS, _CYCLES[params.phase_cycle])]],
            name="steam",
            te_s=te_s,
            definitions={"TM": tm_s},
            notes=(
                f"TE {te_s * 1e3:.6g} ms (minimum {2e3 * _minimum_half_s(elements, context):.6g} ms), "
                f"TM {tm_s * 1e3:.6g} ms (minimum {least_tm_s * 1e3:.6g} ms)",
            ),
        )

    def minimum_te_s(self, params: SteamParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest halves of TE."""
        context = _checked(params, context)
        half_s = _minimum_half_s(_elements(params, context), context)
        return half_s, half_s


STEAM = _Steam()


def _checked(params: SteamParams, context: BuildContext) -> BuildContext:
    """Refuse parameters that cannot be played; return the context with the slew rate to be used."""
    require_no_editing_pulse(context, "steam")
    pulses = ("pulse_duration_s", "pulse_time_bandwidth", "crusher_moment_per_m", "crusher_duration_s")
    check_scan(
        params,
        context,
        positive=("te_s", "tm_s", *pulses, "tm_spoiler_moment_per_m", "tm_spoiler_duration_s"),
        cycles=_CYCLES,
    )
    return gentle(params, context)


def _elements(params: SteamParams, context: BuildContext) -> tuple[Element, Element, Element]:
    """Return the three pulses; the moments of both halves of TE are equal, from RF centre to RF centre."""
    axes, scanner = voxel_axes(params), context.scanner
    first, second, third = (
        slr_slice(
            params,
            context,
            axis,
            flip_angle_rad=0.5 * math.pi,
            duration_s=params.pulse_duration_s,
            time_bandwidth=params.pulse_time_bandwidth,
            name=f"pulse {axis + 1}",
        )
        for axis in range(3)
    )
    # Excited and stored about +y, brought back about -y: the echo is positive, as that of the other sequences.
    third = with_phase(third, math.pi)
    crusher: Vector = np.asarray(_CRUSHER) * params.crusher_moment_per_m @ axes
    spoiler: Vector = np.asarray(_TM_SPOILER) * params.tm_spoiler_moment_per_m @ axes

    def crush(taken_per_m: Vector) -> tuple[Block, ...]:
        return (lobe(crusher - taken_per_m, scanner, duration_s=params.crusher_duration_s, name="crusher"),)

    return (
        Element(timed=first, after=crush(first.moment_after_per_m + second.moment_before_per_m)),
        Element(
            timed=second,
            after=(lobe(spoiler, scanner, duration_s=params.tm_spoiler_duration_s, name="spoiler in TM"),),
        ),
        Element(timed=third, after=crush(third.moment_after_per_m)),
    )


def _minimum_half_s(elements: tuple[Element, Element, Element], context: BuildContext) -> float:
    """Return the shortest half of TE, s."""
    first, second, third = elements
    half_s = max(first.tail_s + second.lead_s, third.tail_s + context.scanner.adc_dead_time_s)
    return round_up(half_s, context.scanner.block_raster_s)
