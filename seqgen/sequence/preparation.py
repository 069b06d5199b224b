"""Preparation before the excitation: water suppression and outer-volume suppression on one time axis.

    pulse 1, spoiler, delay, pulse 2, spoiler, ..., pulse n, spoiler, delay, slabs | excitation

Slabs end where the next water pulse or the excitation starts, in the last gap that has room for a round of them: what
they saturate recovers. Spoilers lie along the voxel's own axes, as the crushers of the localisation do, and make up for
the gradients of the slabs: between the centres of two pulses the moment is the spoiler's own. They are chosen such that
no pathway through suppression pulses, slabs and the excitation is refocused, by the crushers of PRESS neither.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from seqgen.errors import InputError
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Block
from seqgen.sequence.blocks import TimedBlock, Vector, lobe, without_rf
from seqgen.sequence.outer_volume import OuterVolumeParams, Slab, slab_block, slab_flip_angles, slabs
from seqgen.sequence.parameters import require
from seqgen.sequence.plugins import BuildContext
from seqgen.sequence.suppression import VAPOR_DELAY_S, Range, WaterSuppression, vapor, water_pulses, wet
from seqgen.sequence.timing import remaining, round_up
from seqgen.sequence.voxel import voxel_axes

NO_WATER_SUPPRESSION = WaterSuppression(name="none", flip_angle_rad=(), delay_s=(), residual=1.0)
WATER_SPOILERS = (
    (0.176, 0.501, 0.847),
    (-0.921, -0.145, -0.074),
    (-0.705, 0.201, 0.256),
    (-0.015, -0.898, 0.427),
    (0.077, -0.284, 0.909),
    (0.694, -0.501, -0.517),
    (0.458, -0.855, 0.244),
)
"""Moment after each water pulse along the voxel's axes, relative to the strongest; WET plays the first four.

Found by a search for the largest least moment of any pathway (docs/suppression.md has what it is).
"""
SLAB_SPOILERS = (
    (
        (0.822, -0.010, 0.570),
        (0.266, 0.665, -0.577),
        (-0.518, 0.543, 0.612),
        (-0.844, 0.028, 0.350),
        (0.601, -0.789, 0.104),
        (0.249, -0.788, 0.214),
    ),
    (
        (-0.296, -0.853, -0.065),
        (0.896, 0.302, -0.170),
        (0.108, -0.281, -0.399),
        (-0.679, 0.572, 0.461),
        (-0.826, -0.433, -0.309),
        (0.288, 0.064, 0.746),
    ),
)
"""The same after the slabs -1, +1, -2, +2, -3, +3, for the first of two rounds and for the last one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparationParams(OuterVolumeParams):
    """Parameters of what precedes the excitation."""

    water_suppression: Literal["wet", "vapor", "none"] = "wet"
    """Four-pulse WET, seven-pulse VAPOR, or none."""
    suppression_duration_s: float = 2.0e-2
    """Duration of each suppression pulse (a Gaussian on water), s."""
    suppression_spacing_s: float = 6.0e-2
    """WET: time from the centre of a suppression pulse to that of the next, and of the last to the excitation's, s."""
    vapor_delay_s: tuple[float, ...] = VAPOR_DELAY_S
    """VAPOR: the same, seven times."""
    suppression_t1_range_s: Range = (0.83, 4.5)
    """Shortest and longest T1 of water for which flip angles are optimised, s; default from white matter to CSF at 3 T
    and 7 T (data/tissue.yaml)."""
    suppression_b1_range_scale: Range = (0.8, 1.2)
    """Least and largest B1, relative to nominal, for which flip angles are optimised, those of slabs too."""
    suppression_spoiler_moment_per_m: float = 4000.0
    """Moment of the strongest spoiler after a suppression pulse, cycles per metre."""
    suppression_spoiler_duration_s: float = 4.0e-3
    """Duration of each of these spoilers, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Preparation:
    """What is played before the excitation."""

    suppressed: tuple[Block, ...]
    """Blocks that end where the excitation's block starts."""
    unsuppressed: tuple[Block, ...]
    """The same without RF on water, for water references: same times, gradients and slabs."""
    flip_angle_rad: tuple[float, ...]
    """Flip angle of every water pulse, rad."""
    residual: float
    """Largest |Mz| / M0 of water at the excitation over the range of T1 and B1; 1 without water suppression."""
    slab_flip_angle_rad: tuple[float, ...]
    """Flip angle of every slab in order of play, rad."""
    slab_residual: float
    """Largest |Mz| / M0 in a slab at the excitation over its range of T1 and B1; 1 without slabs."""
    duration_s: float
    """Duration, s."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user."""
        found = []
        if self.flip_angle_rad:
            found.append(
                f"Water suppression: flip angles {_degrees(self.flip_angle_rad)} degrees leave at most "
                f"{self.residual:.2%} of water over the range of T1 and B1"
            )
        if self.slab_flip_angle_rad:
            found.append(
                f"Outer-volume suppression: {len(self.slab_flip_angle_rad)} slabs of "
                f"{_degrees(self.slab_flip_angle_rad)} degrees leave at most {self.slab_residual:.0%} of the "
                "magnetisation there over the range of T1 and B1"
            )
        return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Spoiled:
    """A pulse and what follows it."""

    timed: TimedBlock
    """The pulse."""
    moment_per_m: Vector
    """Moment between its centre and that of the next pulse, cycles per metre, shape (3,)."""
    spoiler_s: float
    """Duration of the spoiler, s."""
    slab: Slab | None = None
    """The slab that it saturates; None: it acts on water."""
    wait_s: float = 0.0
    """Delay after the spoiler, s."""

    @property
    def duration_s(self) -> float:
        """Pulse, spoiler and delay, s."""
        return self.timed.block.duration_s + self.spoiler_s + self.wait_s


def prepare(params: PreparationParams, context: BuildContext, excitation_before_s: float) -> Preparation:
    """Return water and outer-volume suppression up to the excitation.

    Args:
        params: Parameters.
        context: Scanner, with the slew rate that gradients may use, and frequency.
        excitation_before_s: From the start of the excitation's block (where the preparation ends) to the centre of its
            RF, s.

    Raises:
        InputError: If a parameter cannot be played, a delay is too short, or no gap has room for the slabs.
        HardwareLimitError: If a pulse, slab or spoiler needs more than the scanner allows.
    """
    check_preparation(params, context)
    train = _train(params)
    water = _water(params, context, train, excitation_before_s)
    plan, slab_flips, slab_residual = _with_slabs(params, context, water, excitation_before_s)
    blocks = _blocks(plan, context)
    return Preparation(
        suppressed=tuple(block for block, _ in blocks),
        unsuppressed=tuple(without_rf(block) if on_water else block for block, on_water in blocks),
        flip_angle_rad=train.flip_angle_rad,
        residual=train.residual,
        slab_flip_angle_rad=slab_flips,
        slab_residual=slab_residual,
        duration_s=round(sum(block.duration_s for block, _ in blocks), 12),
    )


def _blocks(plan: Sequence[_Spoiled], context: BuildContext) -> list[tuple[Block, bool]]:
    """Return every block and whether it belongs to water suppression."""
    blocks = []
    for number, spoiled in enumerate(plan):
        following = plan[number + 1 : number + 2]
        next_before = following[0].timed.moment_before_per_m if following else np.zeros(3)
        spoiler = lobe(
            spoiled.moment_per_m - spoiled.timed.moment_after_per_m - next_before,
            context.scanner,
            duration_s=spoiled.spoiler_s,
            name="spoiler",
        )
        wait = [Block(duration_s=spoiled.wait_s)] if spoiled.wait_s > 0 else []
        blocks += [(block, spoiled.slab is None) for block in (spoiled.timed.block, spoiler, *wait)]
    return blocks


# --- Water -----------------------------------------------------------------------------------------------------------


def _train(params: PreparationParams) -> WaterSuppression:
    """Return the pulses that suppress water."""
    t1_range_s, b1_range = params.suppression_t1_range_s, params.suppression_b1_range_scale
    if params.water_suppression == "wet":
        return wet(params.suppression_spacing_s, t1_range_s, b1_range)
    if params.water_suppression == "vapor":
        return vapor(params.vapor_delay_s, t1_range_s, b1_range)
    return NO_WATER_SUPPRESSION


def _water(
    params: PreparationParams, context: BuildContext, train: WaterSuppression, excitation_before_s: float
) -> list[_Spoiled]:
    """Return the water pulses, spoiled, with the delays that fill the train's times."""
    scanner = context.scanner
    pulses = water_pulses(train, duration_s=params.suppression_duration_s, scanner=scanner)
    spoiler_s = _lobe_s(params.suppression_spoiler_duration_s, scanner)
    leads_s = [*(pulse.before_s for pulse in pulses[1:]), excitation_before_s]
    found = []
    for number, (pulse, delay_s, lead_s) in enumerate(zip(pulses, train.delay_s, leads_s, strict=False)):
        is_wet = params.water_suppression == "wet"
        wait_s = remaining(
            "suppression_spacing_s" if is_wet else f"vapor_delay_s (number {number + 1})",
            delay_s,
            pulse.after_s + spoiler_s + lead_s,
            scanner.block_raster_s,
            f"Raise {'suppression_spacing_s' if is_wet else 'it'} or shorten suppression_duration_s.",
        )
        found.append(
            _Spoiled(
                timed=pulse,
                moment_per_m=_along(params, WATER_SPOILERS[number], params.suppression_spoiler_moment_per_m),
                spoiler_s=spoiler_s,
                wait_s=wait_s,
            )
        )
    return found


# --- Slabs -----------------------------------------------------------------------------------------------------------


def _with_slabs(
    params: PreparationParams, context: BuildContext, water: list[_Spoiled], excitation_before_s: float
) -> tuple[list[_Spoiled], tuple[float, ...], float]:
    """Return the plan with all rounds of slabs, the flip angles in order of play, and the largest |Mz| they leave."""
    geometry = slabs(params)
    if not geometry:
        return water, (), 1.0
    plan = _placed(params, water, _rounds(params, context, geometry))
    to_excitation_s = [
        sum(later.duration_s for later in plan[k:]) - spoiled.timed.before_s + excitation_before_s
        for k, spoiled in enumerate(plan)
    ]
    flips: dict[int, float] = {}
    residual = 0.0
    for slab in geometry:
        played = [k for k, spoiled in enumerate(plan) if spoiled.slab == slab]
        times_s = [*(to_excitation_s[k] for k in played), 0.0]
        delays_s = tuple(round(earlier - later, 9) for earlier, later in itertools.pairwise(times_s))
        angles, left = slab_flip_angles(delays_s, params, params.suppression_b1_range_scale)
        residual = max(residual, left)
        for k, angle in zip(played, angles, strict=True):
            flips[k] = angle
            plan[k] = replace(plan[k], timed=slab_block(slab, params, context, flip_angle_rad=angle))
    return plan, tuple(flips[k] for k in sorted(flips)), residual


def _rounds(params: PreparationParams, context: BuildContext, geometry: Sequence[Slab]) -> list[list[_Spoiled]]:
    """Return every round of slabs, with 90-degree pulses for now."""
    spoiler_s = _lobe_s(params.outer_volume_spoiler_duration_s, context.scanner)
    return [
        [
            _Spoiled(
                timed=slab_block(slab, params, context),
                moment_per_m=_along(params, spoilers[slab.number], params.outer_volume_spoiler_moment_per_m),
                spoiler_s=spoiler_s,
                slab=slab,
            )
            for slab in geometry
        ]
        for spoilers in SLAB_SPOILERS[-params.outer_volume_rounds :]
    ]


def _placed(params: PreparationParams, water: list[_Spoiled], rounds: list[list[_Spoiled]]) -> list[_Spoiled]:
    """Return water pulses and slabs in order of play: every round as late as it fits.

    Raises:
        InputError: If a round fits into no gap.
    """
    if not water:
        return list(itertools.chain(*rounds))
    plan, end = list(water), len(water)
    for one in reversed(rounds):
        needed_s = sum(spoiled.duration_s for spoiled in one)
        fitting = [k for k in range(end) if plan[k].slab is None and plan[k].wait_s > needed_s - 1e-9]
        if not fitting:
            longest_s = max(spoiled.wait_s for spoiled in plan[:end] if spoiled.slab is None)
            raise InputError(
                f"outer_volume_suppression needs {needed_s * 1e3:.6g} ms for {len(one)} slabs between two pulses of "
                f"{params.water_suppression}, but at most {longest_s * 1e3:.6g} ms are free. Raise "
                f"{'suppression_spacing_s' if params.water_suppression == 'wet' else 'vapor_delay_s'}, or shorten "
                "outer_volume_duration_s, outer_volume_spoiler_duration_s or outer_volume_axes."
            )
        k = fitting[-1]
        plan[k] = replace(plan[k], wait_s=round(max(plan[k].wait_s - needed_s, 0.0), 12))
        plan[k + 1 : k + 1] = one
        end = k + 1
    return plan


# --- Shared ----------------------------------------------------------------------------------------------------------


def _along(params: PreparationParams, along_voxel: tuple[float, float, float], strongest_per_m: float) -> Vector:
    """Return a spoiler's moment in gradient coordinates from its part along the voxel's axes, shape (3,)."""
    moment: Vector = strongest_per_m * np.asarray(along_voxel) @ voxel_axes(params)
    return moment


def _lobe_s(duration_s: float, scanner: Scanner) -> float:
    """Return how long a lobe's block lasts, s."""
    raster_s = scanner.gradient_raster_s
    return round_up(max(round_up(duration_s, raster_s), 2 * raster_s), scanner.block_raster_s)


def _degrees(angles_rad: Sequence[float]) -> str:
    """Return angles for messages."""
    return ", ".join(f"{math.degrees(angle):.1f}" for angle in angles_rad)


# --- Parameters ------------------------------------------------------------------------------------------------------

_POSITIVE = (
    "suppression_duration_s",
    "suppression_spacing_s",
    "suppression_spoiler_moment_per_m",
    "suppression_spoiler_duration_s",
    "outer_volume_thickness_m",
    "outer_volume_duration_s",
    "outer_volume_time_bandwidth",
    "outer_volume_spoiler_moment_per_m",
    "outer_volume_spoiler_duration_s",
)
_RANGES = ("suppression_t1_range_s", "suppression_b1_range_scale", "outer_volume_t1_range_s")


def check_preparation(params: PreparationParams, context: BuildContext) -> None:
    """Refuse parameters that no preparation can play; what needs the scanner's limits is refused by `prepare`.

    Raises:
        InputError: Naming the parameter, its value and what it must be.
    """
    for name in _POSITIVE:
        require(params, name, lambda value: 0 < value < math.inf, "positive and finite")
    for name in _RANGES:
        require(
            params,
            name,
            lambda pair: len(pair) == 2 and 0 < pair[0] <= pair[1] < math.inf,
            "two positive finite numbers, the smaller one first",
        )
    require(params, "water_suppression", lambda kind: kind in ("wet", "vapor", "none"), "'wet', 'vapor' or 'none'")
    require(
        params,
        "vapor_delay_s",
        lambda delays: len(delays) == len(VAPOR_DELAY_S) and all(0 < delay < math.inf for delay in delays),
        f"{len(VAPOR_DELAY_S)} positive finite numbers",
    )
    require(params, "outer_volume_carrier_ppm", math.isfinite, "finite")
    require(
        params,
        "outer_volume_gap_m",
        lambda gap_m: -0.5 * min(params.voxel_size_m) < gap_m < math.inf,
        f"finite and above minus half of the voxel's shortest edge, {-0.5 * min(params.voxel_size_m):g} m",
    )
    require(
        params,
        "outer_volume_axes",
        lambda axes: len(axes) > 0 and len(set(axes)) == len(axes) and set(axes) <= {1, 2, 3},
        "one or more of the axes 1, 2, 3, each once",
    )
    require(params, "outer_volume_rounds", lambda count: count in (1, len(SLAB_SPOILERS)), "1 or 2")
