"""What a sequence plays, in Pulseq's words: blocks of RF, trapezoids and a readout. SI, RF in Hz, gradients in Hz/m."""

from dataclasses import dataclass, field

from torch import Tensor

from seqgen.errors import InputError
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
    gradients: tuple[Trapezoid | None, Trapezoid | None, Trapezoid | None] = (None, None, None)
    """Lobes along x, y and z."""
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
