"""Two selective refocusing pulses after an excitation: what PRESS, MEGA-PRESS and ISIS-PRESS have in common.

    excitation --- TE1/2 --- 180 --- TE1/2 --- (echo top) --- TE2/2 --- 180 --- TE2/2 --- echo

Editing pulses stand at the echo top (TE1), or at the positions of MEGA-PRESS, TE/4 before and after the second
refocusing pulse (places `te1` and `te2`): Mescher et al., NMR Biomed 11:266 (1998).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from seqgen.sequence.blocks import TimedBlock, Vector, lobe
from seqgen.sequence.cycles import EXOR, STILL, TWO, PhaseStep, nested_cycle
from seqgen.sequence.localisation import slr_slice
from seqgen.sequence.parameters import require_echo_time
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.scan import ScanParams, check_scan
from seqgen.sequence.timing import nearest, ticks
from seqgen.sequence.train import Element, Train, crushed
from seqgen.sequence.voxel import voxel_axes

Place = Literal["echo_top", "te1", "te2"]
CycleName = Literal["two_step", "exor_4", "exor_16"]
CRUSHERS = ((1.0, 1.0, 0.0), (0.0, 1.0, 1.0))
"""Directions along the voxel's axes of the crushers around the first and the second refocusing pulse."""
EDITING_CRUSHERS: Mapping[Place, tuple[float, float, float]] = {"te1": (1.0, -1.0, 0.0), "te2": (0.0, -1.0, 1.0)}
"""Direction of the crusher before a pulse at te1 or te2; the one after it is its opposite. Equal ones for both places
would refocus what the first pulse stores and the second brings back."""
_CYCLES = {"two_step": (TWO, STILL, STILL), "exor_4": (STILL, STILL, EXOR), "exor_16": (STILL, EXOR, EXOR)}
"""Phases of excitation, first and second refocusing pulse."""
TIME_OF: Mapping[str, tuple[float, float]] = {
    "excitation": (0.0, 0.0),
    "first": (0.5, 0.0),
    "echo_top": (1.0, 0.0),
    "te1": (0.75, 0.25),
    "second": (1.0, 0.5),
    "te2": (1.25, 0.75),
    "echo": (1.0, 1.0),
}
"""Where everything stands: (part of TE1, part of TE2) after the excitation."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DoubleEchoParams(ScanParams):
    """Parameters of sequences with two selective refocusing pulses."""

    te1_s: float
    """First echo time (excitation to first spin echo), s, at least the minimum that the error states."""
    te2_s: float
    """Second echo time, s; TE = te1_s + te2_s."""
    phase_cycle: CycleName = "two_step"
    """`two_step`: the excitation by 180 degrees; `exor_4`: the second refocusing pulse by 90 degrees; `exor_16`: both
    refocusing pulses by 90 degrees, all combinations."""
    excitation_duration_s: float = 2.6e-3
    """Duration of the excitation, s; of no effect where a designed pulse excites."""
    excitation_time_bandwidth: float = 6.0
    """Time-bandwidth product of an SLR excitation."""
    refocusing_duration_s: float = 6.0e-3
    """Duration of the SLR refocusing pulses, s."""
    refocusing_time_bandwidth: float = 5.2
    """Their time-bandwidth product."""
    crusher_moment_per_m: float = 1500.0
    """Moment of each crusher along each of its axes, cycles per metre."""
    crusher_duration_s: float = 1.6e-3
    """Duration of each crusher, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DoubleEcho:
    """The pulses of a double echo, each with its lobes."""

    excitation: Element
    """Excitation."""
    refocusing: tuple[Element, Element]
    """Refocusing pulses."""
    edits: Mapping[Place, Element]
    """Editing pulses by place."""

    @property
    def elements(self) -> dict[str, Element]:
        """All pulses by name, in order of play."""
        first, second = self.refocusing
        named: dict[str, Element] = {"excitation": self.excitation, "first": first, "second": second}
        named |= {str(place): element for place, element in self.edits.items()}
        return {name: named[name] for name in TIME_OF if name in named}

    def minimum_te_s(self, context: BuildContext, te1_s: float | None = None) -> tuple[float, float]:
        """Return the least TE1, and the least TE2 with it (or with another TE1), s.

        Without a pulse there, the first echo top separates what belongs to either echo.
        """
        needed = {name: (element.lead_s, element.tail_s) for name, element in self.elements.items()}
        needed["echo"] = (context.scanner.adc_dead_time_s, 0.0)
        if "te1" not in needed:
            needed.setdefault("echo_top", (0.0, 0.0))
        raster_s = context.scanner.block_raster_s
        least = {"te1_s": 0.0, "te2_s": 0.0}
        pairs = list(itertools.pairwise(name for name in TIME_OF if name in needed))
        for name, chosen in (("te1_s", None), ("te2_s", te1_s)):
            first_s = least["te1_s"] if chosen is None else chosen
            for before, after in pairs:
                a, b = (late - early for early, late in zip(TIME_OF[before], TIME_OF[after], strict=True))
                gap_s = needed[before][1] + needed[after][0]
                if name == "te1_s" and b == 0:
                    least[name] = max(least[name], _on_raster(gap_s / a, 2, raster_s))
                elif name == "te2_s" and b > 0:
                    # Quarters of TE, where they count, on the raster too.
                    steps = 2 if {a, b} <= {0.0, 0.5} else 4
                    total_s = _on_raster((gap_s - a * first_s) / b + first_s, steps, raster_s)
                    least[name] = max(least[name], round(total_s - first_s, 9))
        return least["te1_s"], least["te2_s"]

    def train(self, params: DoubleEchoParams, context: BuildContext, sequence: str) -> Train:
        """Return the pulses at the echo times that are asked for.

        Raises:
            InputError: If an echo time is below its minimum.
        """
        te1_s, te2_s = echo_times_s(params, context)
        require_echo_time("te1_s", te1_s, self.minimum_te_s(context)[0], sequence)
        require_echo_time("te2_s", te2_s, self.minimum_te_s(context, te1_s)[1], sequence)
        raster_s = context.scanner.block_raster_s
        quarter_s = nearest(0.25 * (te1_s + te2_s), raster_s)
        time_s = {name: a * te1_s + b * te2_s for name, (a, b) in TIME_OF.items()}
        time_s |= {"te1": time_s["second"] - quarter_s, "te2": time_s["second"] + quarter_s}
        return Train(
            elements=tuple(self.elements.values()),
            time_s=tuple(time_s[name] for name in self.elements),
            echo_s=time_s["echo"],
        )


def _on_raster(time_s: float, steps: int, raster_s: float) -> float:
    """Return the smallest multiple of some raster steps that is not below a time."""
    return round(steps * math.ceil(ticks(max(time_s, 0.0), raster_s) / steps) * raster_s, 12)


def check_double_echo(params: DoubleEchoParams, context: BuildContext, *, positive: Sequence[str] = ()) -> None:
    """Refuse parameters of a double echo that cannot be played (`check_scan` and its own)."""
    names = ("te1_s", "te2_s", "refocusing_duration_s", "refocusing_time_bandwidth")
    more = ("excitation_duration_s", "excitation_time_bandwidth", "crusher_moment_per_m", "crusher_duration_s")
    check_scan(params, context, positive=(*names, *more, *positive), cycles=_CYCLES)


def echo_times_s(params: DoubleEchoParams, context: BuildContext) -> tuple[float, float]:
    """Return TE1 and TE2 with their halves on the block raster, s."""
    raster_s = context.scanner.block_raster_s
    return 2 * nearest(params.te1_s / 2, raster_s), 2 * nearest(params.te2_s / 2, raster_s)


def echo_definitions(params: DoubleEchoParams, context: BuildContext) -> dict[str, float]:
    """Return TE1 and TE2 for [DEFINITIONS]."""
    return dict(zip(("TE1", "TE2"), echo_times_s(params, context), strict=True))


def echo_notes(params: DoubleEchoParams, context: BuildContext, pulses: DoubleEcho) -> tuple[str, ...]:
    """Return what is reported about the echo times."""
    te1_s, te2_s = echo_times_s(params, context)
    least = pulses.minimum_te_s(context)
    with_te1_s = pulses.minimum_te_s(context, te1_s)[1]
    here = "" if with_te1_s == least[1] else f"; TE2 with this TE1 {with_te1_s * 1e3:.6g} ms"
    return (
        f"TE {(te1_s + te2_s) * 1e3:.6g} ms = {te1_s * 1e3:.6g} + {te2_s * 1e3:.6g} ms "
        f"(minimum {sum(least) * 1e3:.6g} = {least[0] * 1e3:.6g} + {least[1] * 1e3:.6g} ms{here})",
    )


def double_echo_cycle(params: DoubleEchoParams, pulses: DoubleEcho, *, inversions: int = 0) -> tuple[PhaseStep, ...]:
    """Return the phase cycle; editing pulses leave the order as it is and keep their phase.

    Args:
        params: Its name.
        pulses: The pulses.
        inversions: Pulses before the excitation, which keep their phase.
    """
    by_name = dict(zip(("excitation", "first", "second"), _CYCLES[params.phase_cycle], strict=True))
    order, orders = 0, [0] * inversions
    for name in pulses.elements:
        order = -1 if name == "excitation" else -order if name in by_name else order
        orders.append(order)
    return nested_cycle(orders, [STILL] * inversions + [by_name.get(name, STILL) for name in pulses.elements])


# --- Pulses with their lobes -----------------------------------------------------------------------------------------


def refocusing_pair(params: DoubleEchoParams, context: BuildContext) -> tuple[Element, Element]:
    """Return the two refocusing pulses, along the voxel's second and third axis, each between its crushers.

    The first crusher of the first one is left out: `rephased` plays it together with the rephasing of the excitation.
    """
    first, second = (
        crushed(
            slr_slice(
                params,
                context,
                axis,
                flip_angle_rad=math.pi,
                duration_s=params.refocusing_duration_s,
                time_bandwidth=params.refocusing_time_bandwidth,
                name=f"refocusing {axis}",
            ),
            _along_voxel(params, CRUSHERS[axis - 1]),
            context.scanner,
            params.crusher_duration_s,
        )
        for axis in (1, 2)
    )
    return replace(first, before=()), second


def rephased(excitation: TimedBlock, params: DoubleEchoParams, context: BuildContext) -> Element:
    """Return an excitation with one lobe after it: its own gradient rephased, and the first crusher."""
    moment = _along_voxel(params, CRUSHERS[0]) - excitation.moment_after_per_m
    return Element(
        timed=excitation, after=(lobe(moment, context.scanner, duration_s=params.crusher_duration_s, name="crusher"),)
    )


def edit_at(place: Place, timed: TimedBlock, params: DoubleEchoParams, context: BuildContext) -> Element:
    """Return an editing pulse with the lobes that its place needs.

    At the echo top there are none. At te1 and te2 a crusher stands before it and its opposite after it: coherence whose
    order the pulse leaves is restored, what it excites or what changes its order there is dephased.
    """
    if place == "echo_top":
        return Element(timed=timed)
    moment = _along_voxel(params, EDITING_CRUSHERS[place])
    before, after = (
        lobe(sign * moment, context.scanner, duration_s=params.crusher_duration_s, name="crusher of the editing pulse")
        for sign in (1.0, -1.0)
    )
    return Element(timed=timed, before=(before,), after=(after,))


def slr_excitation(params: DoubleEchoParams, context: BuildContext) -> TimedBlock:
    """Return the SLR excitation along the voxel's first axis."""
    return slr_slice(
        params,
        context,
        0,
        flip_angle_rad=0.5 * math.pi,
        duration_s=params.excitation_duration_s,
        time_bandwidth=params.excitation_time_bandwidth,
        name="excitation",
    )


def _along_voxel(params: DoubleEchoParams, direction: tuple[float, float, float]) -> Vector:
    """Return a crusher's moment in gradient coordinates from its direction along the voxel's axes, shape (3,)."""
    moment: Vector = np.asarray(direction) * params.crusher_moment_per_m @ voxel_axes(params)
    return moment
