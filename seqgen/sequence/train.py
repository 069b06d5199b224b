"""Trains of pulses: RF centres at given times, lobes next to the pulses, delays between."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from seqgen.errors import InputError
from seqgen.scanner import Scanner
from seqgen.seqfile.blocks import Block
from seqgen.sequence.blocks import TimedBlock, Vector, lobe, with_phase
from seqgen.sequence.timing import nearest

SHORTEST_DELAY_S = 2.5e-5
"""Shorter gaps lengthen the block before them: GE's interpreter plays no block below 20 us."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Element:
    """A pulse with the lobes right before and after it."""

    timed: TimedBlock
    """The pulse."""
    before: tuple[Block, ...] = ()
    """Blocks that end where the pulse's block starts."""
    after: tuple[Block, ...] = ()
    """Blocks that start where the pulse's block ends."""

    @property
    def name(self) -> str:
        """Name of the pulse, for messages."""
        return self.timed.block.rf.name if self.timed.block.rf is not None else "a pulse"

    @property
    def lead_s(self) -> float:
        """Time from the start of the element to the centre of its RF, s."""
        return sum(block.duration_s for block in self.before) + self.timed.before_s

    @property
    def tail_s(self) -> float:
        """Time from the centre of its RF to the end of the element, s."""
        return self.timed.after_s + sum(block.duration_s for block in self.after)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks."""
        return (*self.before, self.timed.block, *self.after)

    def turned(self, phase_rad: float) -> "Element":
        """Return the element with the RF turned by a further phase."""
        return self if phase_rad == 0 else replace(self, timed=with_phase(self.timed, phase_rad))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Train:
    """The pulses of a shot and the echo they make."""

    elements: tuple[Element, ...]
    """Pulses with their lobes, in order."""
    time_s: tuple[float, ...]
    """RF centre of each after that of the excitation, s."""
    echo_s: float
    """The echo after the centre of the excitation, s."""

    @property
    def after_last_s(self) -> float:
        """Time from the end of the last element to the echo, s."""
        return self.echo_s - self.time_s[-1] - self.elements[-1].tail_s

    def blocks(self, pulse_phase_rad: Sequence[float], raster_s: float) -> list[Block]:
        """Return the blocks from the first element to the last.

        Args:
            pulse_phase_rad: Phase added to each pulse.
            raster_s: Block raster: every delay must be on it.

        Raises:
            InputError: If elements overlap, or a delay is off the raster.
        """
        turned = [e.turned(phase) for e, phase in zip(self.elements, pulse_phase_rad, strict=True)]
        blocks = list(turned[0].blocks)
        for k, (first, second) in enumerate(itertools.pairwise(turned)):
            gap_s = self.time_s[k + 1] - self.time_s[k] - first.tail_s - second.lead_s
            names = f"{first.name} and {second.name}"
            blocks = [*after_gap(blocks, _on_raster(gap_s, raster_s, names), raster_s), *second.blocks]
        return blocks


def after_gap(blocks: list[Block], gap_s: float, raster_s: float) -> list[Block]:
    """Return blocks followed by a gap: a delay, or, where it is too short for a block of its own, a longer last block.

    Args:
        blocks: Blocks.
        gap_s: The gap on the block raster, s.
        raster_s: Block raster, s.
    """
    if gap_s < 0.5 * raster_s:
        return blocks
    if gap_s < SHORTEST_DELAY_S and blocks:
        return [*blocks[:-1], replace(blocks[-1], duration_s=round(blocks[-1].duration_s + gap_s, 12))]
    return [*blocks, Block(duration_s=gap_s)]


def _on_raster(duration_s: float, raster_s: float, between: str) -> float:
    """Return the gap between two pulses, which must be on the raster and not negative."""
    filled_s = nearest(duration_s, raster_s)
    if abs(filled_s - duration_s) > 1e-9:
        raise InputError(
            f"A delay of {duration_s * 1e6:.6g} us is needed between {between}, which is not on the block raster of "
            f"{raster_s * 1e6:g} us: the echo would be off. Make the durations of both pulses multiples of two rasters."
        )
    if filled_s < 0:
        raise InputError(
            f"{between} overlap by {-duration_s * 1e3:.6g} ms. Lengthen the echo time, or shorten the pulses or "
            "crushers."
        )
    return filled_s


def crushed(timed: TimedBlock, moment_per_m: Vector, scanner: Scanner, duration_s: float) -> Element:
    """Return a refocusing pulse between two equal crushers.

    What the slice gradient's ramps have more after the pulse than before it (they differ as dead time and ringdown do)
    is taken off the second one, so that the pathway that is refocused keeps no moment.

    Args:
        timed: The pulse.
        moment_per_m: Moment of each crusher, cycles per metre, shape (3,).
        scanner: Limits.
        duration_s: Duration of each crusher, s.
    """
    surplus = timed.moment_after_per_m - timed.moment_before_per_m
    return Element(
        timed=timed,
        before=(lobe(moment_per_m, scanner, duration_s=duration_s, name="crusher"),),
        after=(lobe(moment_per_m - surplus, scanner, duration_s=duration_s, name="crusher"),),
    )
