"""What a `.seq` file holds, as typed events: RF pulses, gradients, readouts, blocks and the file around them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seqgen.timeline import PulseUse

FloatVector = NDArray[np.float64]
ComplexVector = NDArray[np.complex128]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rasters:
    """The four rasters of a file, s."""

    adc_s: float
    """Raster of ADC dwell times."""
    block_s: float
    """Raster of block durations."""
    gradient_s: float
    """Raster of gradient samples."""
    rf_s: float
    """Raster of RF samples."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RfEvent:
    """An RF pulse on the RF raster."""

    id: int
    """Number in the file."""
    shape_hz: ComplexVector
    """gamma*B1/2pi in Hz at the sample centres (i + 1/2) raster, without frequency and phase offset, shape (n,)."""
    dwell_s: float
    """Duration of a sample, s."""
    delay_s: float
    """Start of the shape after the start of its block, s."""
    centre_s: float
    """Centre of the pulse after the start of the shape, s."""
    frequency_hz: float
    """Carrier offset from the spectrometer frequency, Hz, ppm offsets included."""
    phase_rad: float
    """Phase at the start of the shape, rad, ppm offsets included."""
    use: PulseUse | None
    """Use as stated by a 1.5 file; None where the file does not say (1.4)."""
    key: str
    """Equal for pulses that play the same."""

    @property
    def duration_s(self) -> float:
        """Duration of the shape, s."""
        return self.shape_hz.size * self.dwell_s

    @property
    def flip_angle_rad(self) -> float:
        """Flip angle on resonance with the carrier, 2 pi |integral of the shape|, rad (not for frequency sweeps)."""
        return 2 * math.pi * abs(complex(self.shape_hz.sum())) * self.dwell_s

    def played_hz(self) -> ComplexVector:
        """Return b1 in the frame of the spectrometer frequency, Hz: shape exp(i (phase + 2 pi f t)).

        t counts from the start of the shape, the convention of Pulseq and PyPulseq.
        """
        t_s = (np.arange(self.shape_hz.size) + 0.5) * self.dwell_s
        played: ComplexVector = self.shape_hz * np.exp(1j * (self.phase_rad + 2 * math.pi * self.frequency_hz * t_s))
        return played


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GradientEvent:
    """A gradient on one axis: straight lines between corners."""

    id: int
    """Number in the file."""
    kind: Literal["trapezoid", "extended", "sampled"]
    """`sampled`: values at the centres of gradient raster intervals; else corners of a polygon."""
    delay_s: float
    """Start after the start of its block, s."""
    time_s: FloatVector
    """Times of the corners after the delay, s, ascending, shape (n,)."""
    value_hz_per_m: FloatVector
    """gamma*G/2pi at the corners, Hz/m, shape (n,)."""
    key: str
    """Equal for gradients that play the same."""

    @property
    def duration_s(self) -> float:
        """Duration without the delay, s."""
        return float(self.time_s[-1])

    def at(self, time_s: FloatVector) -> FloatVector:
        """Return the gradient in Hz/m at times after the start of the block; zero outside the event."""
        return np.interp(time_s - self.delay_s, self.time_s, self.value_hz_per_m, left=0.0, right=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdcEvent:
    """A readout."""

    id: int
    """Number in the file."""
    n_samples: int
    """Number of complex samples."""
    dwell_s: float
    """Dwell time, s."""
    delay_s: float
    """Opening after the start of the block, s; sample i stands for delay + (i + 1/2) dwell."""
    frequency_hz: float
    """Demodulation offset from the spectrometer frequency, Hz, ppm offsets included."""
    phase_rad: float
    """Receiver phase, rad, ppm offsets included."""
    key: str
    """Equal for readouts that are taken the same way."""

    @property
    def duration_s(self) -> float:
        """Open time, s."""
        return self.n_samples * self.dwell_s


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelChange:
    """One LABELSET or LABELINC."""

    name: str
    """Label, for example "REF"."""
    value: int
    """New value, or what is added."""
    increment: bool
    """True for LABELINC."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Events that start together."""

    number: int
    """Number in the file."""
    duration_s: float
    """Duration, s."""
    rf: RfEvent | None
    """The RF pulse, if any."""
    gradients: tuple[GradientEvent | None, GradientEvent | None, GradientEvent | None]
    """Gradients along x, y, z."""
    adc: AdcEvent | None
    """The readout, if any."""
    labels: tuple[LabelChange, ...]
    """Label changes that take effect with this block."""
    key: str
    """Equal for blocks that play the same (labels aside)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SeqFile:
    """A Pulseq file that passed every check of the reader."""

    name: str
    """File name without folders."""
    sha256: str
    """SHA-256 of the file's bytes."""
    version: tuple[int, int, int]
    """Format version, for example (1, 4, 1)."""
    definitions: dict[str, str]
    """The [DEFINITIONS], values as written."""
    signature: str | None
    """MD5 of [SIGNATURE] in hex, checked against the content; None if the file carries none."""
    rasters: Rasters
    """Rasters from the definitions."""
    blocks: tuple[Block, ...]
    """The blocks in order of time."""
    total_duration_s: float
    """Sum of the block durations, s."""

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def definition_numbers(self, key: str) -> tuple[float, ...] | None:
        """Return the numbers of a definition, or None if it is absent or not made of finite numbers."""
        try:
            numbers = tuple(float(word) for word in self.definitions.get(key, "").split())
        except ValueError:
            return None
        return numbers if numbers and all(map(math.isfinite, numbers)) else None
