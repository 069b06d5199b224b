"""Limits of a scanner checked on a `.seq` file as it is on disk, by code that design and sequence do not share."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqgen.exposure import ExposureLimits
from seqgen.scanner import Scanner
from seqgen.seqfile.events import Block, GradientEvent, SeqFile
from seqgen.seqfile.segments import N_SUPERVISED_BLOCKS, segment_instances, segment_problems
from seqgen.units import hz_to_tesla
from seqgen.verify.windows import cumulative_energy, worst_mean_square_hz2

Status = Literal["passed", "failed", "not checked"]

NO_LICENCE = "No statement here licenses a scan: the scanner's own supervision and the site's safety officer decide."
"""Printed with every check and report."""

RF_QUANTISATION = 1e-5
"""Relative rounding of RF amplitudes in a `.seq` file that is forgiven at a limit."""
B1_RMS_WINDOWS_S = (10.0, 360.0)
"""Averaging times over which B1+rms is stated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question put to a file."""

    name: str
    """What was checked."""
    status: Status
    """Outcome; "not checked" is no pass."""
    value: float | None = None
    """What the file has."""
    limit: float | None = None
    """What is allowed."""
    unit: str = ""
    """Unit of both."""
    note: str = ""
    """Where it happens, or why it was not checked."""


def check_limits(
    seq: SeqFile,
    scanner: Scanner,
    *,
    energy_max_hz2_s: float | None = None,
    exposure: ExposureLimits | None = None,
) -> tuple[Check, ...]:
    """Check timing, RF, gradients and readouts of a file against a scanner's profile.

    Args:
        seq: The file.
        scanner: Rasters, dead times and limits.
        energy_max_hz2_s: Largest energy of a pulse that prepares (an editing pulse), Hz^2 s; None: no such limit.
        exposure: Limits of B1+rms and SAR; None: none is stated.

    Returns:
        Every check with its value; PNS, and SAR without the scanner's coefficient, are reported as not checked.
    """
    return (
        *_check_rf(seq, scanner, energy_max_hz2_s),
        *_check_gradients(seq, scanner),
        *_check_timing(seq, scanner),
        *_check_readouts(seq, scanner),
        *(_check_segments(seq, scanner) if scanner.requires_segments else ()),
        _check_signature(seq),
        *check_exposure(seq, exposure),
        Check(
            name="PNS",
            status="not checked",
            note="needs the gradient coil's SAFE or chronaxie coefficients, which are not distributed",
        ),
    )


def at_most(name: str, value: float, limit: float, unit: str, note: str = "", forgiven: float = 1e-9) -> Check:
    """Return a check that a value does not exceed a limit, but for a relative rounding that is forgiven."""
    within = math.isfinite(value) and value <= limit * (1 + forgiven)
    return Check(name=name, status="passed" if within else "failed", value=value, limit=limit, unit=unit, note=note)


def _check_rf(seq: SeqFile, scanner: Scanner, energy_max_hz2_s: float | None) -> list[Check]:
    """Check peak amplitude, samples and energy of the editing pulse."""
    pulses = [block.rf for _, block in _blocks(seq) if block.rf is not None]
    peaks = {rf.id: float(np.abs(rf.shape_hz).max()) for rf in pulses}
    energies = {rf.id: float((np.abs(rf.shape_hz) ** 2).sum()) * rf.dwell_s for rf in pulses}
    worst = max(peaks, key=lambda number: peaks[number], default=0)
    checks = [
        at_most(
            "RF amplitude",
            hz_to_tesla(peaks.get(worst, 0.0)) * 1e6,
            scanner.b1_max_t * 1e6,
            "uT",
            f"RF event {worst}",
            RF_QUANTISATION,
        )
    ]
    if scanner.rf_samples_max is not None:
        longest = max((rf.shape_hz.size for rf in pulses), default=0)
        checks.append(at_most("RF samples", longest, scanner.rf_samples_max, "samples"))
    prepared = [energies[rf.id] for rf in pulses if rf.use == "preparation"]
    if energy_max_hz2_s is not None and prepared:
        checks.append(
            at_most("editing pulse energy", max(prepared), energy_max_hz2_s, "Hz^2 s", forgiven=RF_QUANTISATION)
        )
    tr, spent = seq.definition_numbers("TR"), sum(energies[rf.id] for rf in pulses)
    checks.append(
        Check(
            name="RF energy per TR, mean",
            status="not checked",
            value=None if tr is None else spent * tr[0] / seq.total_duration_s,
            unit="Hz^2 s",
            note="stated; no scanner profile limits it" if tr else "the file states no TR",
        )
    )
    return checks


def check_exposure(seq: SeqFile, limits: ExposureLimits | None) -> list[Check]:
    """Check B1+rms and SAR over the worst windows; state what has no limit, and say what cannot be known.

    SAR is estimated as the profile's coefficient times the square of B1+rms.

    Args:
        seq: The file.
        limits: Limits and coefficients; None: none is stated.
    """
    corners = cumulative_energy(seq)

    def square_ut2(window_s: float) -> float:
        return (hz_to_tesla(math.sqrt(worst_mean_square_hz2(*corners, window_s))) * 1e6) ** 2

    checks: list[Check] = []
    limited_s = B1_RMS_WINDOWS_S[0] if limits is None else limits.b1_rms_window_s
    for window_s in sorted({limited_s, *B1_RMS_WINDOWS_S}):
        name, value = f"B1+rms over the worst {_spoken(window_s)}", math.sqrt(square_ut2(window_s))
        if limits is not None and limits.b1_rms_max_t is not None and window_s == limited_s:
            note = f"limit of {limits.b1_rms_stated_by}"
            checks.append(at_most(name, value, limits.b1_rms_max_t * 1e6, "uT", note, RF_QUANTISATION))
        else:
            note = "stated; its limit depends on the subject and the device label"
            checks.append(Check(name=name, status="not checked", value=value, unit="uT", note=note))
    stated = () if limits is None else limits.stated_sar
    if limits is None or not stated:
        note = "needs the coil's W/kg per uT^2, which the scanner's profile does not state; see B1+rms"
        return [*checks, Check(name="SAR", status="not checked", note=note)]
    for limit in limits.sar:
        name = f"SAR of the {limit.region} over the worst {_spoken(limit.window_s)}"
        if limit.w_per_kg_per_ut2 is None:
            note = "the scanner's profile does not state W/kg per uT^2 of this region"
            checks.append(Check(name=name, status="not checked", limit=limit.max_w_per_kg, unit="W/kg", note=note))
        else:
            note = f"{limits.operating_mode.replace('_', ' ')} operating mode, estimated from B1+rms"
            value = limit.w_per_kg_per_ut2 * square_ut2(limit.window_s)
            checks.append(at_most(name, value, limit.max_w_per_kg, "W/kg", note, 2 * RF_QUANTISATION))
    return checks


def _spoken(window_s: float) -> str:
    """Return an averaging time as one says it."""
    return f"{window_s / 60:g} min" if window_s >= 60 else f"{window_s:g} s"


def _check_gradients(seq: SeqFile, scanner: Scanner) -> list[Check]:
    """Check amplitude and slew rate of every gradient event, and jumps between blocks."""
    amplitude, slew, jump, note = 0.0, 0.0, 0.0, ""
    edges = [0.0, 0.0, 0.0]
    seen: set[str] = set()
    for number, (_, block) in enumerate(_blocks(seq), 1):
        for axis, gradient in enumerate(block.gradients):
            first, last = (0.0, 0.0) if gradient is None else _edges(gradient, block.duration_s)
            if abs(first - edges[axis]) > jump:
                jump, note = abs(first - edges[axis]), f"axis {'xyz'[axis]} before block {number}"
            edges[axis] = last
            if gradient is None or gradient.key in seen:
                continue
            seen.add(gradient.key)
            amplitude = max(amplitude, float(np.abs(gradient.value_hz_per_m).max()))
            steps = np.diff(gradient.time_s)
            if (steps > 0).any():
                slew = max(slew, float(np.abs(np.diff(gradient.value_hz_per_m)[steps > 0] / steps[steps > 0]).max()))
    largest_jump = scanner.max_slew_hz_per_m_per_s * scanner.gradient_raster_s
    return [
        at_most("gradient amplitude", hz_to_tesla(amplitude) * 1e3, scanner.max_gradient_t_per_m * 1e3, "mT/m"),
        at_most("gradient slew rate", hz_to_tesla(slew), scanner.max_slew_t_per_m_per_s, "T/m/s", forgiven=1e-4),
        at_most("gradient jump between blocks", hz_to_tesla(jump) * 1e3, hz_to_tesla(largest_jump) * 1e3, "mT/m", note),
    ]


def _edges(gradient: GradientEvent, block_s: float) -> tuple[float, float]:
    """Return the gradient's values at the start and the end of its block, Hz/m."""
    first, last = gradient.at(np.array([0.0, block_s]))
    return float(first), float(last)


def _check_timing(seq: SeqFile, scanner: Scanner) -> list[Check]:
    """Check rasters of the file against the scanner's, dead times, and the stated TotalDuration."""
    rasters = seq.rasters
    pairs = (
        ("RF", rasters.rf_s, scanner.rf_raster_s),
        ("gradient", rasters.gradient_s, scanner.gradient_raster_s),
        ("ADC", rasters.adc_s, scanner.adc_raster_s),
        ("block", rasters.block_s, scanner.block_raster_s),
    )
    checks = [
        Check(
            name=f"{name} raster",
            status="passed" if abs(got - wanted) < 1e-3 * wanted else "failed",
            value=got * 1e6,
            limit=wanted * 1e6,
            unit="us",
        )
        for name, got, wanted in pairs
    ]
    margins = {name: math.inf for name in ("before RF", "after RF", "before a readout", "after a readout")}
    for _, block in _blocks(seq):
        for what, event in (("RF", block.rf), ("a readout", block.adc)):
            if event is not None:
                rest_s = block.duration_s - event.delay_s - event.duration_s
                margins[f"before {what}"] = min(margins[f"before {what}"], event.delay_s)
                margins[f"after {what}"] = min(margins[f"after {what}"], rest_s)
    needed = (scanner.rf_dead_time_s, scanner.rf_ringdown_s, scanner.adc_dead_time_s, scanner.adc_dead_time_s)
    for (name, got), least in zip(margins.items(), needed, strict=True):
        if math.isfinite(got):
            checks.append(
                Check(
                    name=f"time {name} in its block",
                    status="passed" if got >= least - 1e-9 else "failed",
                    value=got * 1e6,
                    limit=least * 1e6,
                    unit="us",
                    note="at least",
                )
            )
    stated = seq.definition_numbers("TotalDuration")
    if stated is None:
        checks.append(Check(name="TotalDuration", status="not checked", note="the file does not state it"))
    else:
        same = abs(stated[0] - seq.total_duration_s) <= 1e-5 * seq.total_duration_s
        checks.append(
            Check(
                name="TotalDuration",
                status="passed" if same else "failed",
                value=seq.total_duration_s,
                limit=stated[0],
                unit="s",
                note="sum of blocks against the stated value",
            )
        )
    return checks


def _check_readouts(seq: SeqFile, scanner: Scanner) -> list[Check]:
    """Check number of samples, divisor, dwell raster and equality of readouts."""
    readouts = {(block.adc.n_samples, block.adc.dwell_s) for _, block in _blocks(seq) if block.adc is not None}
    if not readouts:
        return [Check(name="readout", status="failed", value=0, note="the file holds no readout")]
    samples = [n for n, _ in readouts]
    off_raster = max(abs(dwell / scanner.adc_raster_s - round(dwell / scanner.adc_raster_s)) for _, dwell in readouts)
    remainder = max(n % scanner.adc_samples_divisor for n in samples)
    return [
        at_most("readout samples", max(samples), scanner.adc_samples_max, "samples"),
        Check(
            name=f"readout samples divisible by {scanner.adc_samples_divisor}",
            status="passed" if remainder == 0 else "failed",
            value=remainder,
            limit=0,
            note="remainder",
        ),
        Check(name="readouts alike", status="passed" if len(readouts) == 1 else "failed", value=len(readouts), limit=1),
        Check(
            name="dwell time on the ADC raster",
            status="passed" if off_raster < 1e-6 else "failed",
            value=off_raster,
            limit=0,
            unit="raster",
        ),
    ]


def _check_segments(seq: SeqFile, scanner: Scanner) -> list[Check]:
    """Check the segments of a file for pge2, and state what it adds to TR and what has to fit into its memory."""
    problems = segment_problems(seq, scanner)
    instances = segment_instances(seq)
    gap_us = (scanner.segment_gap_s or 0.0) * 1e6
    notes = [f"TR is {gap_us:.4g} us longer than in the file: dead time after each of {len(instances)} instances"]
    if seq.n_blocks > N_SUPERVISED_BLOCKS:
        notes.append(f"its power supervision looks at the first {N_SUPERVISED_BLOCKS} of {seq.n_blocks} blocks only")
    defined = {instance.number: instance for instance in reversed(instances)}
    played = {block.rf.id: block.rf for instance in defined.values() for block in instance.blocks if block.rf}
    return [
        Check(
            name="GE segments",
            status="failed" if problems else "passed",
            value=len(problems),
            limit=0,
            unit="problems",
            note="; ".join(problems or notes),
        ),
        Check(
            name="GE waveform memory",
            status="not checked",
            value=sum(rf.shape_hz.size for rf in played.values()),
            unit="RF samples",
            note=f"stated, of {len(defined)} segments; no public source says what fits",
        ),
    ]


def _check_signature(seq: SeqFile) -> Check:
    """State whether the file's signature was there; the reader refuses a wrong one."""
    if seq.signature is None:
        return Check(name="signature", status="not checked", note="the file carries none")
    return Check(name="signature", status="passed", note=f"MD5 {seq.signature}")


def _blocks(seq: SeqFile) -> list[tuple[float, Block]]:
    """Return (start in s, block) in order of play."""
    ends = itertools.accumulate(block.duration_s for block in seq.blocks)
    return [(end - block.duration_s, block) for end, block in zip(ends, seq.blocks, strict=True)]
