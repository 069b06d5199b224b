"""Timeline: what a scanner plays, interval by interval; the one thing that simulators, writer and reader share."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from seqgen.errors import InputError

PulseUse = Literal["excitation", "refocusing", "inversion", "saturation", "preparation", "undefined"]
"""Intended use of an RF pulse, the vocabulary of Pulseq 1.5. An editing pulse is a `preparation`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Receiver:
    """An open receiver inside an interval."""

    n_samples: int
    """Number of complex samples."""
    dwell_s: float
    """Time between samples, s; sample i stands for the time (i + 1/2) dwell after the receiver opens."""
    delay_s: float = 0.0
    """Opening of the receiver after the start of its interval, s."""
    frequency_hz: float = 0.0
    """Demodulation offset from the spectrometer frequency, Hz."""
    phase_rad: float = 0.0
    """Receiver phase, rad: the signal is multiplied by exp(-i phase_rad)."""
    labels: dict[str, int] = field(default_factory=dict)
    """Pulseq label values (AVG, SET, REF, ...) at this readout."""

    def __post_init__(self) -> None:
        if self.n_samples < 1 or not (self.dwell_s > 0 and math.isfinite(self.dwell_s)):
            raise InputError(
                f"A receiver needs n_samples >= 1 and dwell_s > 0 (finite), not {self.n_samples} and {self.dwell_s}. "
                "Give the number of samples and the dwell time in seconds."
            )

    @property
    def duration_s(self) -> float:
        """Open time in s."""
        return self.n_samples * self.dwell_s


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Interval:
    """A stretch of time on one raster: piecewise-constant RF and gradients, perhaps an open receiver."""

    dwell_s: float
    """Duration of one sample, s."""
    b1_hz: Tensor
    """gamma*B1/2pi in the frame rotating at the spectrometer frequency, Hz, complex, shape (n,). RF along +x is real
    and positive; a +x 90-degree pulse turns +z to -y; exp(+2 pi i f t) is on resonance for a spin at offset +f."""
    gradient_hz_per_m: Tensor
    """gamma*G/2pi along x, y, z in Hz/m, shape (n, 3); +G r adds to a positive offset."""
    use: PulseUse | None = None
    """What the RF is for; None where nothing is transmitted."""
    centre_s: float | None = None
    """Centre of the RF pulse after the start of the interval, s; None where nothing is transmitted."""
    carrier_hz: float = 0.0
    """Frequency with which b1_hz is already modulated, relative to the spectrometer frequency, Hz: a hint that lets a
    simulator work in the carrier frame; b1_hz is complete without it."""
    receiver: Receiver | None = None
    """The open receiver, if any."""
    name: str = ""
    """A label for diagrams, for example "edit"."""

    def __post_init__(self) -> None:
        n = self.b1_hz.shape[0] if self.b1_hz.ndim == 1 else -1
        if n < 1 or not self.b1_hz.is_complex() or self.gradient_hz_per_m.shape != (n, 3):
            raise InputError(
                "An interval needs complex b1_hz of shape (n,) and gradient_hz_per_m of shape (n, 3), but got "
                f"{self.b1_hz.dtype} {tuple(self.b1_hz.shape)} and {tuple(self.gradient_hz_per_m.shape)}."
            )
        for field_name, values in (("b1_hz", self.b1_hz), ("gradient_hz_per_m", self.gradient_hz_per_m)):
            wrong = ~torch.isfinite(values.detach()).reshape(n, -1).all(1)
            label = self.name or self.use or "without RF"
            if bool(wrong.any()):
                raise InputError(
                    f"NaN or infinity in a waveform: {field_name} of interval {label!r} must "
                    f"be finite, but {int(wrong.sum())} of its {n} samples are not, the first at index "
                    f"{int(wrong.nonzero()[0, 0])}. Correct the waveform."
                )
        if not (self.dwell_s > 0 and math.isfinite(self.dwell_s)):
            raise InputError(f"An interval's dwell_s must be positive and finite, but is {self.dwell_s}.")
        if self.use is not None and self.use not in get_args(PulseUse):
            raise InputError(f"Pulse use must be one of {', '.join(get_args(PulseUse))}, but is {self.use!r}.")
        if (self.use is None) != (self.centre_s is None):
            raise InputError("An interval with RF states both use and centre_s; one without states neither.")

    @property
    def n_samples(self) -> int:
        """Number of raster samples."""
        return int(self.b1_hz.shape[0])

    @property
    def duration_s(self) -> float:
        """Duration in s."""
        return self.n_samples * self.dwell_s

    @property
    def moment_per_m(self) -> Tensor:
        """Integral of the gradient over the interval, cycles per metre, shape (3,)."""
        return self.gradient_hz_per_m.sum(0) * self.dwell_s


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Timeline:
    """One shot of a sequence: from its first event to the end of its (last) readout."""

    intervals: tuple[Interval, ...]
    """The intervals in order of time."""
    name: str = ""
    """A name for diagrams and messages."""

    def __post_init__(self) -> None:
        if not self.intervals:
            raise InputError(f"Timeline {self.name!r} has no intervals: nothing would be played.")

    @property
    def duration_s(self) -> float:
        """Total duration in s."""
        return sum(interval.duration_s for interval in self.intervals)

    @property
    def start_s(self) -> tuple[float, ...]:
        """Start of every interval after the start of the timeline, s."""
        starts, now = [], 0.0
        for interval in self.intervals:
            starts.append(now)
            now += interval.duration_s
        return tuple(starts)

    def pulses(self) -> tuple[tuple[float, Interval], ...]:
        """Return (time of the RF centre in s, interval) for every interval that transmits, in order."""
        return tuple(
            (start + interval.centre_s, interval)
            for start, interval in zip(self.start_s, self.intervals, strict=True)
            if interval.centre_s is not None
        )

    def readouts(self) -> tuple[tuple[float, Receiver], ...]:
        """Return (time the receiver opens in s, receiver) for every readout, in order."""
        return tuple(
            (start + interval.receiver.delay_s, interval.receiver)
            for start, interval in zip(self.start_s, self.intervals, strict=True)
            if interval.receiver is not None
        )


def delay(duration_s: float, gradient_hz_per_m: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Interval:
    """Return one interval without RF, with constant gradients (x, y, z in Hz/m)."""
    return Interval(
        dwell_s=duration_s,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.tensor([gradient_hz_per_m], dtype=torch.float64),
    )


def ideal_pulse(flip_angle_rad: float, phase_rad: float, use: PulseUse) -> Interval:
    """Return an instantaneous non-selective pulse (1 fs of RF): for comparison with ideal-pulse simulators."""
    duration_s = 1e-15
    amplitude_hz = flip_angle_rad / (2 * math.pi * duration_s)
    return Interval(
        dwell_s=duration_s,
        b1_hz=torch.polar(
            torch.tensor([amplitude_hz], dtype=torch.float64), torch.tensor([phase_rad], dtype=torch.float64)
        ),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        use=use,
        centre_s=0.5 * duration_s,
        name=f"ideal {math.degrees(flip_angle_rad):.0f}",
    )
