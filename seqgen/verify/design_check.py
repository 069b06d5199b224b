"""A returned design against its limits, from its samples and the `.seq` that plays it: nothing of the optimiser."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqgen.exposure import ExposureLimits
from seqgen.scanner import Scanner
from seqgen.seqfile.events import ComplexVector, RfEvent, SeqFile
from seqgen.timeline import PulseUse
from seqgen.units import hz_to_tesla
from seqgen.verify.limits import RF_QUANTISATION, Check, at_most, check_exposure

BANDWIDTH_SHARE = 0.99
"""Part of the energy that the bandwidth holds."""
TIME_TOLERANCE_S = 2e-6
"""Rounding of times in a `.seq` file: two samples of the RF raster."""
WAVEFORM_ROUNDING_HZ = 1e-4
"""Rounding of a design's samples that is forgiven at limits of amplitude and energy, Hz: the last digit of a design."""
_ZERO_FILLING = 32
_ALIASES = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignWaveform:
    """A waveform that a file has to play."""

    b1_hz: ComplexVector
    """gamma*B1/2pi in the frame of the carrier, Hz, shape (n,)."""
    dwell_s: float
    """Duration of a sample, s."""
    carrier_offset_hz: float
    """Carrier minus spectrometer frequency, Hz."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DesignLimits:
    """What a protocol demands of a design, as plain numbers."""

    b1_max_hz: float
    """Largest amplitude, Hz."""
    b1_scale: float = 1.0
    """Relative B1 at which that holds."""
    energy_max_hz2_s: float
    """Largest energy of a pulse, Hz^2 s."""
    bandwidth_max_hz: float | None = None
    """Largest width of the band about the carrier with 99 % of the energy, Hz; None: not limited."""
    duration_s: float
    """Duration of a pulse, s."""
    te_max_s: float | None = None
    """Longest TE1 + TE2, s; None: not limited."""
    tr_s: float | None = None
    """Repetition time, s; None: not stated."""
    zero_ends: bool = True
    """Whether a pulse must begin and end near zero; steps need not."""
    use: PulseUse = "preparation"
    """Use of the pulse in the file: "excitation" where it replaces the excitation."""


def check_design(
    waveforms: Sequence[DesignWaveform],
    te_s: Sequence[tuple[float, float]],
    seq: SeqFile,
    scanner: Scanner,
    limits: DesignLimits,
    exposure: ExposureLimits,
) -> tuple[Check, ...]:
    """Check a design's waveforms, its echo times as played, and the RF of the sequence that plays it.

    Args:
        waveforms: Every pulse.
        te_s: TE1 and TE2 of every shot that takes part, s.
        seq: The sequence with the pulses, read back from a file.
        scanner: Amplitude, raster and samples.
        limits: The protocol's demands.
        exposure: Limits of B1+rms and SAR.

    Returns:
        Every check with its value.
    """
    several = len(waveforms) > 1
    own = [
        replace(check, name=check.name.replace("pulse", f"pulse {k + 1}", 1) if several else check.name)
        for k, waveform in enumerate(waveforms)
        for check in _check_waveform(waveform.b1_hz, waveform.dwell_s, scanner, limits)
    ]
    return (
        *own,
        *_check_file_pulses(seq, waveforms, limits),
        *_check_times(seq, te_s, limits),
        *check_exposure(seq, exposure),
    )


def _check_waveform(b1_hz: ComplexVector, dwell_s: float, scanner: Scanner, limits: DesignLimits) -> list[Check]:
    """Check amplitude, ends, energy, bandwidth and samples."""
    size = np.abs(b1_hz)
    peak_hz, samples = float(size.max()), b1_hz.size * dwell_s / scanner.rf_raster_s
    ratio = dwell_s / scanner.rf_raster_s
    at_scale = "" if limits.b1_scale == 1 else f"at relative B1 {limits.b1_scale:g}; "
    forgiven = f"rounding by up to {WAVEFORM_ROUNDING_HZ:g} Hz forgiven"
    energy = float((size**2).sum()) * dwell_s
    # Samples that are e larger raise the energy E over the time T by at most 2 e sqrt(E T).
    energy_rounding = 2 * WAVEFORM_ROUNDING_HZ * math.sqrt(b1_hz.size * dwell_s / limits.energy_max_hz2_s)
    checks = [
        at_most(
            "pulse amplitude",
            peak_hz * limits.b1_scale,
            limits.b1_max_hz,
            "Hz",
            at_scale + forgiven,
            WAVEFORM_ROUNDING_HZ * limits.b1_scale / limits.b1_max_hz,
        ),
        at_most("pulse amplitude, scanner", hz_to_tesla(peak_hz) * 1e6, scanner.b1_max_t * 1e6, "uT"),
        _check_ends(b1_hz, limits),
        at_most("pulse energy", energy, limits.energy_max_hz2_s, "Hz^2 s", forgiven, energy_rounding),
        Check(
            name="pulse samples on the RF raster",
            status="passed" if ratio > 0.5 and abs(ratio - round(ratio)) < 1e-6 * ratio else "failed",
            value=dwell_s * 1e6,
            limit=scanner.rf_raster_s * 1e6,
            unit="us",
            note="a multiple of it",
        ),
        _equal("pulse duration", b1_hz.size * dwell_s, limits.duration_s, 1e-9),
    ]
    width_hz = bandwidth_hz(b1_hz, dwell_s)
    note = "band about the carrier with 99 % of the energy"
    if limits.bandwidth_max_hz is None:
        checks.append(Check(name="pulse bandwidth", status="not checked", value=width_hz, unit="Hz", note=note))
    else:
        checks.append(at_most("pulse bandwidth", width_hz, limits.bandwidth_max_hz, "Hz", note, 1e-6))
    if scanner.rf_samples_max is not None:
        checks.append(at_most("pulse samples", round(samples), scanner.rf_samples_max, "samples"))
    return checks


def _check_ends(b1_hz: ComplexVector, limits: DesignLimits) -> Check:
    """Check that a pulse begins and ends near zero, where it must."""
    ends_hz = float(max(abs(b1_hz[0]), abs(b1_hz[-1])))
    if not limits.zero_ends:
        return Check(name="pulse at its ends", status="not checked", value=ends_hz, unit="Hz", note="made of steps")
    step_hz = float(np.abs(np.diff(b1_hz)).max(initial=0.0))
    return at_most("pulse at its ends", ends_hz, step_hz, "Hz", "first and last sample against the largest step within")


def bandwidth_hz(b1_hz: ComplexVector, dwell_s: float, share: float = BANDWIDTH_SHARE) -> float:
    """Return the width of the band about the carrier, half on either side, that holds a share of a pulse's energy, Hz.

    The waveform is held over its samples: its spectrum is the periodic one of the samples times dwell sinc(f dwell).
    A pulse of zeros has the width 0; one of which that share lies beyond 4 / dwell has infinite width.
    """
    energy = float((np.abs(b1_hz) ** 2).sum()) * dwell_s
    if energy == 0:
        return 0.0
    n = _ZERO_FILLING * b1_hz.size
    power = np.abs(np.fft.fft(b1_hz, n)) ** 2
    step_hz = 1 / (n * dwell_s)
    index = np.arange(_ALIASES * n + 1)
    f_hz = index * step_hz
    density = (power[index % n] + power[-index % n]) * (dwell_s * np.sinc(f_hz * dwell_s)) ** 2
    # Simpson's rule: energy up to every second frequency.
    left, middle, right = density[:-2:2], density[1::2], density[2::2]
    held = np.concatenate([[0.0], np.cumsum(left + 4 * middle + right) * step_hz / 3])
    if held[-1] < share * energy:
        return float("inf")
    k = max(int(np.searchsorted(held, share * energy)) - 1, 0)
    # Between two of them, the integral of the parabola through the three densities.
    x = np.linspace(0.0, 2.0, 513)
    slope = 2 * middle[k] - 1.5 * left[k] - 0.5 * right[k]
    bend = 0.5 * (left[k] + right[k]) - middle[k]
    within = held[k] + step_hz * (left[k] * x + slope * x**2 / 2 + bend * x**3 / 3)
    return 2 * (2 * k + float(np.interp(share * energy, within, x))) * step_hz


def _check_file_pulses(seq: SeqFile, waveforms: Sequence[DesignWaveform], limits: DesignLimits) -> list[Check]:
    """Check that the file plays every waveform at its carrier and no other, and within its energy."""
    played = {block.rf.id: block.rf for block in seq.blocks if block.rf is not None and block.rf.use == limits.use}
    if not played:
        return [Check(name="pulse in the file", status="failed", value=0, note="the file plays none")]
    off = np.array([[_difference(rf, waveform) for waveform in waveforms] for rf in played.values()])
    energy = max(float((np.abs(rf.shape_hz) ** 2).sum()) * rf.dwell_s for rf in played.values())
    return [
        at_most(
            "pulse in the file",
            float(max(off.min(0).max(), off.min(1).max())),
            RF_QUANTISATION,
            "of peak",
            "largest difference of a complex sample, about the carrier, up to a constant phase",
        ),
        at_most("pulse energy in the file", energy, limits.energy_max_hz2_s, "Hz^2 s", forgiven=2 * RF_QUANTISATION),
    ]


def _difference(rf: RfEvent, waveform: DesignWaveform) -> float:
    """Return the largest difference of a pulse, as a file plays it about the carrier, from a waveform, of its peak.

    The constant phase between them is that of the least sum of squares.
    """
    t_s = (np.arange(rf.shape_hz.size) + 0.5) * rf.dwell_s
    at = np.floor(t_s / waveform.dwell_s).astype(int)
    if at[-1] != waveform.b1_hz.size - 1:
        return float("inf")
    # A `.seq` file keeps six digits of a frequency.
    carrier_hz = float(f"{waveform.carrier_offset_hz:.6g}")
    played = rf.played_hz() * np.exp(-2j * math.pi * carrier_hz * t_s)
    wanted = waveform.b1_hz[at]
    turned = wanted * np.exp(1j * np.angle(np.vdot(wanted, played)))
    return float(np.abs(played - turned).max()) / float(np.abs(wanted).max())


def _check_times(seq: SeqFile, te_s: Sequence[tuple[float, float]], limits: DesignLimits) -> list[Check]:
    """Check echo and repetition times by the centres of the pulses."""
    centres = _shot_centres(seq)
    checks = []
    if centres is None:
        note = "the file's shots are not one excitation and two refocusing pulses"
        checks.append(Check(name="echo times as played", status="not checked", note=note))
    else:
        excitation, first, second = centres.T
        te1_s = 2 * (first - excitation)
        times_s = np.stack([te1_s, 2 * (second - excitation - te1_s)], 1)
        # Every shot plays the echo times of the shot of the design that is nearest, and each of these is played.
        wanted_s = np.array(te_s)
        distance = np.abs(times_s[:, None] - wanted_s[None]).max(-1)
        played_s = np.concatenate([times_s, times_s[distance.argmin(0)]])
        meant_s = np.concatenate([wanted_s[distance.argmin(1)], wanted_s])
        for column, name in enumerate(("TE1 as played", "TE2 as played")):
            worst = int(np.abs(played_s - meant_s)[:, column].argmax())
            times = float(played_s[worst, column]), float(meant_s[worst, column])
            checks.append(_equal(name, *times, 4 * TIME_TOLERANCE_S))
        if limits.tr_s is not None and len(centres) > 1:
            shortest_s = float(np.diff(excitation).min())
            checks.append(
                Check(
                    name="TR as played",
                    status="passed" if shortest_s >= limits.tr_s - TIME_TOLERANCE_S else "failed",
                    value=shortest_s * 1e3,
                    limit=limits.tr_s * 1e3,
                    unit="ms",
                    note="at least",
                )
            )
    if limits.te_max_s is not None:
        longest_s = max(map(sum, te_s))
        checks.append(at_most("TE", longest_s * 1e3, limits.te_max_s * 1e3, "ms", forgiven=1e-7))
    return checks


def _shot_centres(seq: SeqFile) -> np.ndarray | None:
    """Return the centres of excitation and both refocusing pulses of every shot, s, shape (shots, 3), or None."""
    starts = itertools.accumulate((block.duration_s for block in seq.blocks), initial=0.0)
    pulses = [
        (start + block.rf.delay_s + block.rf.centre_s, block.rf.use)
        for start, block in zip(starts, seq.blocks, strict=False)
        if block.rf is not None
    ]
    shots: list[list[float]] = []
    last_s: float | None = None
    for centre_s, use in pulses:
        if use == "excitation" and (not shots or len(shots[-1]) == 3):
            last_s = centre_s
        elif use == "refocusing" and shots and len(shots[-1]) == 2:
            shots[-1].append(centre_s)
        elif use == "refocusing":
            if last_s is None:
                return None
            shots.append([last_s, centre_s])
            last_s = None
    return np.array(shots) if shots and all(len(shot) == 3 for shot in shots) else None


def _equal(name: str, value_s: float, wanted_s: float, tolerance_s: float) -> Check:
    """Return a check that a time is the wanted one."""
    return Check(
        name=name,
        status="passed" if abs(value_s - wanted_s) <= tolerance_s else "failed",
        value=value_s * 1e3,
        limit=wanted_s * 1e3,
        unit="ms",
        note="equal",
    )
