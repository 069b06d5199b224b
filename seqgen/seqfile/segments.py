"""Segments, as GE's interpreter pge2 wants them: labels TRID on built blocks, and its rules checked on a file.

A segment is a stretch of blocks that the interpreter loads once and replays with other amplitudes, phases and
frequencies. docs/ge.md states the rules with their sources.
"""

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from seqgen.errors import InputError
from seqgen.scanner import Scanner
from seqgen.seqfile import events
from seqgen.seqfile.blocks import Adc, Block, Gradient, Rf, Trapezoid

SEGMENT_LABEL: Final = "TRID"
"""The label that starts an instance of a segment; its value is the segment's number."""
SHORTEST_EMPTY_BLOCK_S = 20e-6
"""A block without events must last this long to count as a delay, s: PulCeq, matlab/getblocktype.m."""
ADC_DELAY_RASTER_S = 1e-6
"""Raster on which readouts open, s: rules of pge2, "Event delays"."""
N_SUPERVISED_BLOCKS = 40_000
"""The interpreter averages gradient and RF power over so many blocks from the start: pge2 README, "Safety"."""
_SHAPE_TOLERANCE = 1e-5
_HOLDS = ("RF", "gradient x", "gradient y", "gradient z", "readout")


# --- Built blocks ----------------------------------------------------------------------------------------------------


def with_segments(blocks: tuple[Block, ...], shot_starts: tuple[int, ...]) -> tuple[Block, ...]:
    """Return the blocks with the number of a segment (label TRID) at the first block of every shot.

    Shots of one structure get one number, counted from 1 in order of first appearance. Of one structure are shots of
    as many blocks, each with the same kinds of events, shapes and times; amplitudes, phases and frequencies may
    differ, and so may the duration of blocks without events. A shot is one segment because the interpreter adds dead
    time after every segment, which only the end of a shot bears.

    Args:
        blocks: Blocks in order of play.
        shot_starts: Index of the first block of every shot, ascending; blocks before the first are a segment too.

    Raises:
        InputError: If the indices do not ascend or lie outside the blocks.
    """
    if list(shot_starts) != sorted(set(shot_starts)) or not set(shot_starts) <= set(range(len(blocks))):
        raise InputError(
            f"shot_starts must be ascending indices of the {len(blocks)} blocks, but is {shot_starts}. Give the index "
            "of the first block of every shot."
        )
    structures = _Structures()
    numbers: dict[tuple[int, ...], int] = {}
    labelled = list(blocks)
    starts = sorted({0, *shot_starts})
    for first, after in itertools.pairwise([*starts, len(blocks)]):
        structure = tuple(structures.of(block) for block in blocks[first:after])
        number = numbers.setdefault(structure, len(numbers) + 1)
        labelled[first] = replace(blocks[first], labels=blocks[first].labels | {SEGMENT_LABEL: number})
    return tuple(labelled)


class _Structures:
    """Numbers that are equal for blocks of one structure."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}
        self.of_block: dict[int, int] = {}
        self.of_shape: dict[int, str] = {}

    def of(self, block: Block) -> int:
        """Return the number of a block."""
        if id(block) not in self.of_block:
            parts = (
                None if block.rf is None else self._rf(block.rf),
                *(None if lobe is None else _lobe(lobe) for lobe in block.gradients),
                None if block.adc is None else _adc(block.adc),
            )
            duration_ns = _ns(block.duration_s) if any(part is not None for part in parts) else None
            self.of_block[id(block)] = self.numbers.setdefault((duration_ns, *parts), len(self.numbers))
        return self.of_block[id(block)]

    def _rf(self, rf: Rf) -> tuple[object, ...]:
        """Return what RF may not change within a segment: its shape apart from the amplitude, and its place."""
        if id(rf.b1_hz) not in self.of_shape:
            b1_hz = rf.b1_hz.detach().numpy()
            shape = np.round(b1_hz / (np.abs(b1_hz).max() or 1.0), 6) + 0.0
            self.of_shape[id(rf.b1_hz)] = hashlib.sha256(shape.tobytes()).hexdigest()
        return self.of_shape[id(rf.b1_hz)], _ns(rf.raster_s), _ns(rf.delay_s)


def _lobe(lobe: Gradient) -> tuple[object, ...] | None:
    """Return what a lobe may not change within a segment; None for a lobe without amplitude, which is not written."""
    if lobe.peak_hz_per_m == 0:
        return None
    if not isinstance(lobe, Trapezoid):
        shape = np.round(lobe.corners()[1] / lobe.peak_hz_per_m, 6) + 0.0
        return hashlib.sha256(shape.tobytes()).hexdigest(), _ns(lobe.delay_s), _ns(lobe.raster_s)
    return tuple(map(_ns, (lobe.delay_s, lobe.rise_s, lobe.flat_s, lobe.fall_s)))


def _adc(adc: Adc) -> tuple[int, ...]:
    """Return what a readout may not change within a segment."""
    return adc.n_samples, round(adc.dwell_s * 1e10), _ns(adc.delay_s)


def _ns(time_s: float) -> int:
    """Return a time in whole nanoseconds."""
    return round(time_s * 1e9)


# --- Files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Instance:
    """A segment as it is played once."""

    number: int
    """Value of TRID."""
    blocks: tuple[events.Block, ...]
    """Its blocks."""


def segment_instances(seq: events.SeqFile) -> tuple[Instance, ...]:
    """Return the instances of all segments of a file; blocks before the first TRID belong to none."""
    marks = [(k, change.value) for k, block in enumerate(seq.blocks) for change in _segment_labels(block)[:1]]
    if not marks:
        return ()
    ends = [*(k for k, _ in marks[1:]), len(seq.blocks)]
    return tuple(Instance(number=value, blocks=seq.blocks[k:end]) for (k, value), end in zip(marks, ends, strict=True))


def _segment_labels(block: events.Block) -> list[events.LabelChange]:
    """Return the labels that start a segment at a block."""
    return [change for change in block.labels if change.name == SEGMENT_LABEL]


def segment_problems(seq: events.SeqFile, scanner: Scanner) -> list[str]:
    """Return what pge2 would refuse in a file, or play otherwise than it says; the first place of each problem.

    Checked: the first block has a TRID; every TRID is set, not counted up; instances of a TRID hold as many blocks
    with the same kinds of events, times and shapes, of equal duration unless they are empty; times are on the rasters;
    empty blocks last 20 us or more; gradients are zero where a segment starts and ends; RF and readouts, played late
    by the scanner's waits, keep their dead times within the segment, from each other, and from the start of delays
    that vary.

    Args:
        seq: The file.
        scanner: Rasters, dead times and waits.
    """
    if not seq.blocks or not _segment_labels(seq.blocks[0]):
        return [f"block 1 has no label {SEGMENT_LABEL}: the interpreter does not know where segments start"]
    instances = segment_instances(seq)
    found = [
        f"block {block.number} counts {SEGMENT_LABEL} up, but the interpreter reads values that are set"
        for block in seq.blocks
        if any(change.increment for change in _segment_labels(block))
    ][:1]
    defined: dict[int, Instance] = {}
    for instance in instances:
        defined.setdefault(instance.number, instance)
    compared: dict[tuple[str, str], tuple[str, ...]] = {}
    places: dict[tuple[object, ...], str] = {}
    for instance in instances:
        for place, text in _structure_problems(defined[instance.number], instance, compared):
            places.setdefault((instance.number, *place), text)
    found += places.values()
    found += _block_problems(seq, scanner)
    if not places:
        found += _edge_problems(instances, scanner)
        found += _guard_problems(instances, scanner)
    return found


# --- One structure ---------------------------------------------------------------------------------------------------


def _structure_problems(
    first: Instance, instance: Instance, compared: dict[tuple[str, str], tuple[str, ...]]
) -> Iterator[tuple[tuple[object, ...], str]]:
    """Yield (place, text) of what an instance does otherwise than the first one of its number."""
    if len(first.blocks) != len(instance.blocks):
        yield (
            ("length",),
            f"the instance of {SEGMENT_LABEL} {instance.number} at block {instance.blocks[0].number} has "
            f"{len(instance.blocks)} blocks, but its first one {len(first.blocks)}",
        )
        return
    for position, (wanted, block) in enumerate(zip(first.blocks, instance.blocks, strict=True)):
        pair = (wanted.key, block.key)
        if pair not in compared:
            compared[pair] = tuple(_differences(wanted, block))
        for difference in compared[pair]:
            yield (
                (position, difference),
                f"block {block.number} of {SEGMENT_LABEL} {instance.number} has {difference} than block "
                f"{wanted.number}, where the segment is defined",
            )


def _differences(wanted: events.Block, block: events.Block) -> Iterator[str]:
    """Yield in what a block differs from the one that defines it, amplitudes, phases and frequencies left aside."""
    if _kinds(wanted) != _kinds(block):
        yield f"other events ({_said(block)} instead of {_said(wanted)})"
        return
    if any(_kinds(block)) and _ns(block.duration_s) != _ns(wanted.duration_s):
        yield f"another duration ({block.duration_s * 1e3:.6g} instead of {wanted.duration_s * 1e3:.6g} ms)"
    if block.rf is not None and wanted.rf is not None and not _same_rf(wanted.rf, block.rf):
        yield "another RF shape or delay"
    for name, one, other in zip(_HOLDS[1:], wanted.gradients, block.gradients, strict=False):
        if one is not None and other is not None and not _same_gradient(one, other):
            yield f"another shape of {name}"
    if block.adc is not None and wanted.adc is not None:
        times = [(adc.n_samples, round(adc.dwell_s * 1e10), _ns(adc.delay_s)) for adc in (wanted.adc, block.adc)]
        if times[0] != times[1]:
            yield "another readout"


def _kinds(block: events.Block) -> tuple[bool, ...]:
    """Return which kinds of events a block holds, in the order of `_HOLDS`."""
    return tuple(event is not None for event in (block.rf, *block.gradients, block.adc))


def _said(block: events.Block) -> str:
    """Return the kinds of events in words."""
    return " + ".join(itertools.compress(_HOLDS, _kinds(block))) or "nothing"


def _same_rf(one: events.RfEvent, other: events.RfEvent) -> bool:
    """Return whether two pulses have one shape, apart from the amplitude, at one place."""
    if one.shape_hz.size != other.shape_hz.size or _ns(one.delay_s) != _ns(other.delay_s):
        return False
    a, b = (rf.shape_hz / (np.abs(rf.shape_hz).max() or 1.0) for rf in (one, other))
    return bool(np.abs(a - b).max() <= _SHAPE_TOLERANCE)


def _same_gradient(one: events.GradientEvent, other: events.GradientEvent) -> bool:
    """Return whether two gradients have one shape, apart from amplitude and sign, at one place."""
    if one.kind != other.kind or one.time_s.size != other.time_s.size:
        return False
    if np.abs(one.delay_s + one.time_s - other.delay_s - other.time_s).max() > 1e-9:
        return False
    a, b = (g.value_hz_per_m / (g.value_hz_per_m[np.abs(g.value_hz_per_m).argmax()] or 1.0) for g in (one, other))
    return bool(np.abs(a - b).max() <= _SHAPE_TOLERANCE)


# --- Blocks by themselves --------------------------------------------------------------------------------------------


def _block_problems(seq: events.SeqFile, scanner: Scanner) -> Iterator[str]:
    """Yield what is off its raster, or too short, at its first place."""
    keys, said = set(), set()
    for block in seq.blocks:
        if block.key in keys:
            continue
        keys.add(block.key)
        for what, time_s, raster_s in _times(block, scanner):
            if what not in said and abs(time_s - round(time_s / raster_s) * raster_s) > 1e-9:
                said.add(what)
                yield (
                    f"block {block.number}: {what} of {time_s * 1e6:.9g} us is not on the raster of "
                    f"{raster_s * 1e6:g} us"
                )
        if "empty" not in said and not any(_kinds(block)) and block.duration_s < SHORTEST_EMPTY_BLOCK_S - 1e-9:
            said.add("empty")
            yield (
                f"block {block.number} holds nothing and lasts {block.duration_s * 1e6:.6g} us; a delay needs "
                f"{SHORTEST_EMPTY_BLOCK_S * 1e6:g} us"
            )


def _times(block: events.Block, scanner: Scanner) -> Iterator[tuple[str, float, float]]:
    """Yield (what, time in s, raster in s) of everything in a block that must be on a raster."""
    yield "the duration", block.duration_s, scanner.block_raster_s
    if block.rf is not None:
        yield "the delay of RF", block.rf.delay_s, scanner.rf_raster_s
    for name, gradient in zip(_HOLDS[1:], block.gradients, strict=False):
        if gradient is not None:
            yield f"the delay of {name}", gradient.delay_s, scanner.gradient_raster_s
            for time_s in () if gradient.kind == "sampled" else gradient.time_s:
                yield f"a corner of {name}", float(time_s), scanner.gradient_raster_s
    if block.adc is not None:
        yield "the delay of the readout", block.adc.delay_s, ADC_DELAY_RASTER_S


# --- Within a segment ------------------------------------------------------------------------------------------------


def _edge_problems(instances: tuple[Instance, ...], scanner: Scanner) -> Iterator[str]:
    """Yield gradients that are not zero where a segment starts or ends (pge2: within one step at the slew rate)."""
    allowed = scanner.max_slew_hz_per_m_per_s * scanner.gradient_raster_s
    said = set()
    for instance in instances:
        edges = (("starts", instance.blocks[0], 0), ("ends", instance.blocks[-1], -1))
        for what, block, corner in edges:
            for name, gradient in zip(_HOLDS[1:], block.gradients, strict=False):
                if gradient is None or (instance.number, what, name) in said:
                    continue
                gap_s = gradient.delay_s if corner == 0 else block.duration_s - gradient.delay_s - gradient.duration_s
                value = float(gradient.value_hz_per_m[corner])
                if gap_s < scanner.gradient_raster_s and abs(value) > allowed:
                    said.add((instance.number, what, name))
                    yield (
                        f"{name} is {value:.4g} Hz/m where {SEGMENT_LABEL} {instance.number} {what}, in block "
                        f"{block.number}; it must be zero there"
                    )


def _guard_problems(instances: tuple[Instance, ...], scanner: Scanner) -> Iterator[str]:
    """Yield RF, readouts and varying delays whose dead times overlap or leave their segment."""
    durations = {instance: tuple(_ns(block.duration_s) for block in instance.blocks) for instance in instances}
    seen: dict[int, set[tuple[int, ...]]] = {}
    for instance, of_blocks in durations.items():
        seen.setdefault(instance.number, set()).add(of_blocks)
    varying = {number: [len(set(column)) > 1 for column in zip(*rows, strict=True)] for number, rows in seen.items()}
    done: set[tuple[int, tuple[int, ...]]] = set()
    said: set[tuple[int, str]] = set()
    for instance, of_blocks in durations.items():
        if (instance.number, of_blocks) in done:
            continue
        done.add((instance.number, of_blocks))
        for kind, text in _overlaps(instance, varying[instance.number], scanner):
            if (instance.number, kind) not in said:
                said.add((instance.number, kind))
                yield text


@dataclass(frozen=True, kw_only=True, slots=True)
class _Guard:
    """A stretch of time that the sequencer needs for one event, s after the start of the segment."""

    start_s: float
    end_s: float
    what: str
    block: int


def _overlaps(instance: Instance, varying: list[bool], scanner: Scanner) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of guards that overlap each other or the edges of the segment."""
    guards = sorted(_guards(instance, varying, scanner), key=lambda guard: guard.start_s)
    length_s = sum(block.duration_s for block in instance.blocks)
    where = f"of {SEGMENT_LABEL} {instance.number}"
    for guard in guards:
        if guard.start_s < -1e-9:
            yield "start", f"{guard.what} in block {guard.block} starts {-guard.start_s * 1e6:.4g} us too early {where}"
        if guard.end_s > length_s + 1e-9:
            yield (
                "end",
                f"{guard.what} in block {guard.block} needs {(guard.end_s - length_s) * 1e6:.4g} us after the end "
                f"{where} (it is played late, and has to decay). Lengthen the last block",
            )
    for one, other in itertools.pairwise(guards):
        if other.start_s < one.end_s - 1e-9:
            yield (
                f"{one.what} {other.what}",
                f"{one.what} in block {one.block} and {other.what} in block {other.block} {where} are "
                f"{(one.end_s - other.start_s) * 1e6:.4g} us too close for the sequencer",
            )


def _guards(instance: Instance, varying: list[bool], scanner: Scanner) -> Iterator[_Guard]:
    """Yield the time that every event needs: dead time, event and decay, late by the scanner's waits."""
    now_s = 0.0
    for block, varies in zip(instance.blocks, varying, strict=True):
        if block.rf is not None:
            start_s = now_s + block.rf.delay_s + scanner.segment_rf_wait_s
            yield _Guard(
                start_s=start_s - scanner.rf_dead_time_s,
                end_s=start_s + block.rf.duration_s + scanner.rf_ringdown_s,
                what="RF",
                block=block.number,
            )
        if block.adc is not None:
            start_s = now_s + block.adc.delay_s + scanner.segment_adc_wait_s
            yield _Guard(
                start_s=start_s - scanner.adc_dead_time_s,
                end_s=start_s + block.adc.duration_s,
                what="the readout",
                block=block.number,
            )
        if varies:
            end_s = now_s + scanner.gradient_raster_s
            yield _Guard(start_s=now_s, end_s=end_s, what="the varying delay", block=block.number)
        now_s += block.duration_s
