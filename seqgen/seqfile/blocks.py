"""What a sequence plays, in Pulseq's words: blocks of RF, gradients and a readout. SI, RF in Hz, gradients in Hz/m."""

import math
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from seqgen.errors import InputError
from seqgen.seqfile.events import FloatVector
from seqgen.timeline import PulseUse


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rf:
    """An RF event."""

    b1_hz: Tensor
    """Waveform in its carrier frame on the scanner's RF raster, Hz, complex, shape (n,)."""
    raster_s: float
    """Duration of a sample, s."""
    delay_s: float
    """Start of the waveform after the start of the block, s."""
    use: PulseUse
    """What the pulse is for."""
    frequency_hz: float = 0.0
    """Carrier minus spectrometer frequency, Hz."""
    phase_rad: float = 0.0
    """Phase of the carrier at the centre of the pulse, rad."""
    name: str = ""
    """Name for diagrams."""

    @property
    def duration_s(self) -> float:
        """Duration of the waveform, s."""
        return int(self.b1_hz.shape[0]) * self.raster_s

    @property
    def centre_s(self) -> float:
        """Centre of the waveform after its start, s (all shapes here are symmetric in time or centred by design)."""
        return 0.5 * self.duration_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Trapezoid:
    """A gradient lobe along one axis."""

    amplitude_hz_per_m: float
    """Plateau, Hz/m."""
    rise_s: float
    """Ramp up, s."""
    flat_s: float
    """Plateau, s."""
    fall_s: float
    """Ramp down, s."""
    delay_s: float = 0.0
    """Start after the start of the block, s."""

    @property
    def duration_s(self) -> float:
        """End after the start of the block, s."""
        return self.delay_s + self.rise_s + self.flat_s + self.fall_s

    @property
    def moment_per_m(self) -> float:
        """Area, cycles per metre."""
        return self.amplitude_hz_per_m * (0.5 * self.rise_s + self.flat_s + 0.5 * self.fall_s)

    @property
    def peak_hz_per_m(self) -> float:
        """Largest amplitude, Hz/m; 0 for a lobe that is not played."""
        return abs(self.amplitude_hz_per_m)

    @property
    def slew_hz_per_m_per_s(self) -> float:
        """Largest slew rate, Hz/m/s."""
        ramp_s = min(self.rise_s, self.fall_s)
        return self.peak_hz_per_m / ramp_s if ramp_s > 0 else math.inf if self.peak_hz_per_m else 0.0

    def corners(self) -> tuple[FloatVector, FloatVector]:
        """Return the corners: times after the start of the block in s, and values in Hz/m."""
        time_s = self.delay_s + np.cumsum([0.0, self.rise_s, self.flat_s, self.fall_s])
        return time_s, self.amplitude_hz_per_m * np.array([0.0, 1.0, 1.0, 0.0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampledGradient:
    """A gradient along one axis given by samples: straight lines between them and to the values at both ends."""

    sample_hz_per_m: FloatVector
    """Values at the centres of intervals of the gradient raster, Hz/m, shape (n,)."""
    raster_s: float
    """Gradient raster, s."""
    first_hz_per_m: float = 0.0
    """Value at the start, half a raster before the first sample, Hz/m."""
    last_hz_per_m: float = 0.0
    """Value at the end, half a raster after the last sample, Hz/m."""
    delay_s: float = 0.0
    """Start after the start of the block, s."""

    def __post_init__(self) -> None:
        samples = self.sample_hz_per_m
        if samples.ndim != 1 or samples.size < 2 or not (self.raster_s > 0 and math.isfinite(self.raster_s)):
            raise InputError(
                f"A sampled gradient needs at least 2 samples in one dimension and a positive raster, but has samples "
                f"of shape {samples.shape} and a raster of {self.raster_s} s."
            )
        if not np.isfinite([*samples, self.first_hz_per_m, self.last_hz_per_m]).all() or not self.delay_s >= 0:
            raise InputError(
                "A sampled gradient must be finite and start no earlier than its block. Check its samples."
            )

    @property
    def duration_s(self) -> float:
        """End after the start of the block, s."""
        return self.delay_s + self.sample_hz_per_m.size * self.raster_s

    @property
    def moment_per_m(self) -> float:
        """Area, cycles per metre: that of the samples, as scanners and PyPulseq count it."""
        return float(self.sample_hz_per_m.sum()) * self.raster_s

    @property
    def peak_hz_per_m(self) -> float:
        """Largest amplitude, Hz/m; 0 for a gradient that is not played."""
        return float(np.abs(self.corners()[1]).max())

    @property
    def slew_hz_per_m_per_s(self) -> float:
        """Largest slew rate, from the ends to the samples next to them too, Hz/m/s."""
        time_s, value = self.corners()
        return float(np.abs(np.diff(value) / np.diff(time_s)).max())

    def corners(self) -> tuple[FloatVector, FloatVector]:
        """Return the corners, both ends and the samples: times after the start of the block in s, values in Hz/m."""
        n = self.sample_hz_per_m.size
        time_s = self.delay_s + np.concatenate(([0.0], np.arange(n) + 0.5, [float(n)])) * self.raster_s
        return time_s, np.concatenate(([self.first_hz_per_m], self.sample_hz_per_m, [self.last_hz_per_m]))


Gradient = Trapezoid | SampledGradient
"""A gradient along one axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adc:
    """A readout."""

    n_samples: int
    """Number of samples."""
    dwell_s: float
    """Dwell time, s."""
    delay_s: float
    """Opening after the start of the block, s."""
    frequency_hz: float = 0.0
    """Demodulation offset, Hz."""
    phase_rad: float = 0.0
    """Receiver phase, rad."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Events that start together; the next block starts after `duration_s`."""

    duration_s: float
    """Duration, s, on the block raster."""
    rf: Rf | None = None
    """RF event."""
    gradients: tuple[Gradient | None, Gradient | None, Gradient | None] = (None, None, None)
    """Gradients along x, y and z."""
    adc: Adc | None = None
    """Readout."""
    labels: dict[str, int] = field(default_factory=dict)
    """Pulseq labels set at this block, for example {"AVG": 3, "REF": 0}."""

    def __post_init__(self) -> None:
        ends = [lobe.duration_s for lobe in self.gradients if lobe is not None]
        if self.rf is not None:
            ends.append(self.rf.delay_s + self.rf.duration_s)
        if self.adc is not None:
            ends.append(self.adc.delay_s + self.adc.n_samples * self.adc.dwell_s)
        if self.duration_s <= 0 or any(end > self.duration_s + 1e-9 for end in ends):
            raise InputError(
                f"A block of {self.duration_s} s is shorter than the events in it, which end at {max(ends, default=0)} "
                "s. Lengthen the block."
            )
