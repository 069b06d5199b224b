"""Shots of a `.seq` file: the blocks up to each readout as a Timeline, equal shots sharing one object."""

import hashlib
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from seqgen.errors import InputError
from seqgen.seqfile.events import AdcEvent, Block, ComplexVector, FloatVector, GradientEvent, RfEvent, SeqFile
from seqgen.seqfile.segments import SEGMENT_LABEL
from seqgen.timeline import Interval, PulseUse, Receiver, Timeline

MAX_SAMPLES = 10_000_000
"""Most samples of all different shots of a file together (about 400 MB)."""
REFOCUSING_FLIP_RAD = math.radians(135.0)
"""From this flip angle on a later pulse of a 1.4 shot is taken to refocus."""
_SMALLEST_DWELL_NS = 1000
_Gradients = list[tuple[int, GradientEvent]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shot:
    """Everything after the previous readout up to and including the block of a readout."""

    index: int
    """Position in the file, from 0."""
    start_s: float
    """Start after the start of the sequence, s."""
    timeline: Timeline
    """What is played; shots of equal `identity` share this object, so its receiver carries no labels."""
    identity: str
    """Equal for shots that play identical events, whatever their labels."""
    labels: dict[str, int]
    """Values of all labels at the readout that have been set or counted up by then; a segment's number is none."""
    flip_angle_rad: tuple[float, ...]
    """Flip angle of each pulse of the timeline on resonance with its own carrier, rad."""

    @property
    def readout(self) -> Receiver:
        """The receiver of the shot."""
        return self.timeline.readouts()[0][1]


def shots(seq: SeqFile) -> tuple[Shot, ...]:
    """Return the shots of a file in order; what follows the last readout belongs to none.

    Blocks become intervals: RF on the RF raster with the gradients at the sample centres; stretches without gradients,
    and gradients that stay constant, as one sample; ramps and sampled gradients on the gradient raster, at the centres
    of its intervals, so that their moments are those of the file. A readout opens within one interval, at
    `Receiver.delay_s`.

    Files of version 1.4 may not state what a pulse is for. It is inferred: the first pulse of a shot excites, or
    inverts where it turns by 135 degrees or more and others follow; a later one refocuses from 135 degrees on, a
    selective one wherever in frequency it turns spins that far (sweeps, and shapes that are modulated for an off-centre
    slice); below, it excites where a gradient selects its slice and prepares where none does.

    Raises:
        InputError: If RF is played while a receiver is open, or the shots are too long to be held.
    """
    builder = _Builder(seq)
    found: list[Shot] = []
    labels: dict[str, int] = {}
    pending: list[Block] = []
    start_ns, now_ns = 0, 0
    for block in seq.blocks:
        for change in block.labels:
            if change.name == SEGMENT_LABEL:
                continue
            labels[change.name] = change.value + (labels.get(change.name, 0) if change.increment else 0)
        pending.append(block)
        now_ns += _ns(block.duration_s)
        if block.adc is not None:
            found.append(builder.shot(len(found), start_ns * 1e-9, pending, labels))
            pending, start_ns = [], now_ns
    return tuple(found)


class _Builder:
    """Turns blocks into intervals and lists of blocks into shots, each different one once."""

    def __init__(self, seq: SeqFile) -> None:
        self.seq = seq
        self.timelines: dict[str, Timeline] = {}
        self.intervals: dict[tuple[str, PulseUse | None], tuple[Interval, ...]] = {}
        self.n_samples = 0

    def shot(self, index: int, start_s: float, blocks: list[Block], labels: dict[str, int]) -> Shot:
        """Return the shot that a list of blocks plays."""
        identity = hashlib.sha256("\n".join(block.key for block in blocks).encode()).hexdigest()[:16]
        if identity not in self.timelines:
            self.timelines[identity] = self._timeline(index, blocks)
        return Shot(
            index=index,
            start_s=start_s,
            timeline=self.timelines[identity],
            identity=identity,
            labels=dict(labels),
            flip_angle_rad=tuple(block.rf.flip_angle_rad for block in blocks if block.rf is not None),
        )

    def _timeline(self, index: int, blocks: list[Block]) -> Timeline:
        """Return the timeline of a list of blocks."""
        intervals: list[Interval] = []
        first, alone = True, sum(block.rf is not None for block in blocks) == 1
        for block in blocks:
            use = _use(block, block.rf, first, alone) if block.rf is not None else None
            if (block.key, use) not in self.intervals:
                self.intervals[block.key, use] = self._played(block, use)
            intervals += self.intervals[block.key, use]
            first = first and block.rf is None
        return Timeline(intervals=tuple(intervals), name=f"{self.seq.name} shot {index + 1}")

    def _played(self, block: Block, use: PulseUse | None) -> tuple[Interval, ...]:
        """Return the intervals of a block: before, during and after its RF."""
        gradients = [(axis, g) for axis, g in enumerate(block.gradients) if g is not None]
        end_ns, adc, rf = _ns(block.duration_s), block.adc, block.rf
        if rf is None or use is None:
            return tuple(self._silence(block, gradients, 0, end_ns, adc))
        rf_start, rf_end = _ns(rf.delay_s), _ns(rf.delay_s + rf.duration_s)
        before, after = None, None
        if adc is not None:
            if _ns(adc.delay_s + adc.duration_s) <= rf_start:
                before = adc
            elif _ns(adc.delay_s) >= rf_end:
                after = adc
            else:
                raise InputError(
                    f"{self.seq.name}: block {block.number} plays RF pulse {rf.id} while readout {adc.id} is open, "
                    "which cannot be simulated. Put the readout after the pulse."
                )
        return (
            *self._silence(block, gradients, 0, rf_start, before),
            self._pulse(block, gradients, rf, use),
            *self._silence(block, gradients, rf_end, end_ns, after),
        )

    def _pulse(self, block: Block, gradients: _Gradients, rf: RfEvent, use: PulseUse) -> Interval:
        """Return the interval of an RF pulse, gradients sampled at the centres of its samples."""
        b1_hz = rf.played_hz()
        time_s = rf.delay_s + (np.arange(b1_hz.size, dtype=np.float64) + 0.5) * rf.dwell_s
        return self._interval(
            block,
            rf.dwell_s,
            b1_hz,
            _sampled(gradients, time_s),
            use=use,
            centre_s=rf.centre_s,
            carrier_hz=rf.frequency_hz,
        )

    def _silence(
        self, block: Block, gradients: _Gradients, start: int, end: int, adc: AdcEvent | None
    ) -> list[Interval]:
        """Return the intervals of a stretch without RF, from `start` to `end` in ns after the start of the block."""
        if end <= start:
            return []
        active = [(axis, g) for axis, g in gradients if _plays(g, start, end)]
        if not active:
            return [self._constant(block, start, end, np.zeros(3), adc)]
        edges = {start, end}
        for _, gradient in active:
            edges |= {ns for ns in _corners(gradient, start, end) if start < ns < end}
        opening = -1
        if adc is not None:
            opening, closing = _ns(adc.delay_s), _ns(adc.delay_s + adc.duration_s)
            edges = {ns for ns in edges if not opening < ns < closing} | {opening, min(closing, end)}
        pieces = itertools.pairwise(sorted(edges))
        return [self._piece(block, active, a, b, adc if a == opening else None) for a, b in pieces]

    def _piece(self, block: Block, gradients: _Gradients, start: int, end: int, adc: AdcEvent | None) -> Interval:
        """Return one stretch of gradients on a grid whose interval centres give the moments of the file."""
        raster = _ns(self.seq.rasters.gradient_s)
        corners = [ns for _, gradient in gradients for ns in _corners(gradient, start, end)]
        dwell = math.gcd(end - start, raster, *(abs(ns - start) for ns in corners))
        n_samples = (end - start) // dwell if dwell >= _SMALLEST_DWELL_NS else math.ceil((end - start) / raster)
        self._require_room(block, n_samples)
        dwell_s = (end - start) * 1e-9 / n_samples
        values = _sampled(gradients, start * 1e-9 + (np.arange(n_samples, dtype=np.float64) + 0.5) * dwell_s)
        if np.ptp(values, axis=0).max() <= 1e-9 * np.abs(values).max():
            return self._constant(block, start, end, values[0], adc)
        zeros = np.zeros(n_samples, dtype=np.complex128)
        return self._interval(block, dwell_s, zeros, values, receiver=_receiver(adc, start))

    def _constant(self, block: Block, start: int, end: int, value: FloatVector, adc: AdcEvent | None) -> Interval:
        """Return a stretch of constant gradients as one sample."""
        zero = np.zeros(1, dtype=np.complex128)
        return self._interval(block, (end - start) * 1e-9, zero, value[None], receiver=_receiver(adc, start))

    def _interval(
        self,
        block: Block,
        dwell_s: float,
        b1_hz: ComplexVector,
        gradient_hz_per_m: FloatVector,
        *,
        use: PulseUse | None = None,
        centre_s: float | None = None,
        carrier_hz: float = 0.0,
        receiver: Receiver | None = None,
    ) -> Interval:
        """Return an interval from arrays, counting its samples."""
        self._require_room(block, b1_hz.size)
        self.n_samples += b1_hz.size
        return Interval(
            dwell_s=dwell_s,
            b1_hz=torch.from_numpy(b1_hz),
            gradient_hz_per_m=torch.from_numpy(gradient_hz_per_m.copy()),
            use=use,
            centre_s=centre_s,
            carrier_hz=carrier_hz,
            receiver=receiver,
        )

    def _require_room(self, block: Block, n_samples: int) -> None:
        """Refuse a file whose different shots would not fit into memory."""
        if self.n_samples + n_samples > MAX_SAMPLES:
            raise InputError(
                f"{self.seq.name}: up to block {block.number} the different shots need more than {MAX_SAMPLES} "
                "samples; that is beyond any spectroscopy sequence. Check durations and shapes of the file."
            )


def _ns(time_s: float) -> int:
    """Return a time in whole nanoseconds."""
    return round(time_s * 1e9)


def _use(block: Block, rf: RfEvent, first: bool, alone: bool) -> PulseUse:
    """Return the stated use of a pulse, or the inferred one (see `shots`)."""
    if rf.use is not None:
        return rf.use
    selective = any(block.gradients)
    turns = rf.flip_angle_rad >= REFOCUSING_FLIP_RAD or (selective and _largest_flip_rad(rf) >= REFOCUSING_FLIP_RAD)
    if first:
        return "inversion" if turns and not alone else "excitation"
    if turns:
        return "refocusing"
    return "excitation" if selective else "preparation"


def _largest_flip_rad(rf: RfEvent) -> float:
    """Return 2 pi times the largest |Fourier transform| of a shape, rad: the flip of a frequency sweep where it passes.

    An adiabatic passage has 2 pi b1 / sqrt(sweep rate) there, pi at an adiabaticity of about 1.6.
    """
    return 2 * math.pi * float(np.abs(np.fft.fft(rf.shape_hz, 2 * rf.shape_hz.size)).max()) * rf.dwell_s


def _receiver(adc: AdcEvent | None, start_ns: int) -> Receiver | None:
    """Return the receiver of a readout in an interval that starts at `start_ns` after the start of the block."""
    if adc is None:
        return None
    return Receiver(
        n_samples=adc.n_samples,
        dwell_s=adc.dwell_s,
        delay_s=(_ns(adc.delay_s) - start_ns) * 1e-9,
        frequency_hz=adc.frequency_hz,
        phase_rad=adc.phase_rad,
    )


def _plays(gradient: GradientEvent, start_ns: int, end_ns: int) -> bool:
    """Return whether a gradient differs from zero anywhere in a stretch."""
    low, high = start_ns * 1e-9 - gradient.delay_s, end_ns * 1e-9 - gradient.delay_s
    inside = (gradient.time_s > low) & (gradient.time_s < high)
    ends = gradient.at(np.array([start_ns, end_ns]) * 1e-9)
    return bool(
        gradient.value_hz_per_m[inside].any() or np.abs(ends).max() > 1e-9 * np.abs(gradient.value_hz_per_m).max()
    )


def _corners(gradient: GradientEvent, start_ns: int, end_ns: int) -> list[int]:
    """Return the times in ns on which a grid for a stretch must have edges: corners inside, or both ends of samples."""
    times = gradient.time_s[[0, -1]] if gradient.kind == "sampled" else gradient.time_s
    corners = [_ns(gradient.delay_s + t) for t in times]
    if gradient.kind == "sampled":
        return corners if corners[0] < end_ns and corners[1] > start_ns else []
    return [ns for ns in corners if start_ns < ns < end_ns]


def _sampled(gradients: _Gradients, time_s: FloatVector) -> FloatVector:
    """Return all gradients at times after the start of the block, Hz/m, shape (n, 3)."""
    values = np.zeros((time_s.size, 3))
    for axis, gradient in gradients:
        values[:, axis] = gradient.at(time_s)
    return values
