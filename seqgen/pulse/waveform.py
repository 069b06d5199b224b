"""RF pulses as piecewise-constant complex waveforms."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RFPulse:
    """A pulse without gradient, in its own carrier frame."""

    b1_hz: Tensor
    """gamma*B1/2pi, Hz, complex, shape (n,); constant over each sample."""
    dwell_s: float
    """Duration of a sample, s."""
    carrier_offset_hz: float = 0.0
    """Carrier minus spectrometer frequency, Hz."""
    name: str = ""
    """Name for diagrams."""

    def __post_init__(self) -> None:
        if self.b1_hz.ndim != 1 or not self.b1_hz.is_complex() or self.b1_hz.shape[0] == 0:
            raise InputError(
                f"Pulse {self.name!r}: b1_hz must be complex of shape (n,), but is {self.b1_hz.dtype} "
                f"{tuple(self.b1_hz.shape)}."
            )
        if not bool(torch.isfinite(torch.view_as_real(self.b1_hz.detach())).all()):
            raise InputError(f"Pulse {self.name!r}: the waveform holds NaN or infinite samples.")
        if not (self.dwell_s > 0 and math.isfinite(self.dwell_s)):
            raise InputError(
                f"Pulse {self.name!r}: dwell_s must be positive and finite, but is {self.dwell_s}. "
                "Give the duration of one sample in seconds."
            )

    @property
    def duration_s(self) -> float:
        """Duration, s."""
        return int(self.b1_hz.shape[0]) * self.dwell_s

    @property
    def peak_hz(self) -> float:
        """Largest amplitude, Hz."""
        return float(self.b1_hz.abs().max())

    @property
    def energy_hz2_s(self) -> float:
        """Integral of |b1|^2 over the pulse, Hz^2 s."""
        return float((self.b1_hz.abs() ** 2).sum()) * self.dwell_s

    @property
    def rms_hz(self) -> float:
        """Root mean square amplitude over the pulse, Hz."""
        return math.sqrt(self.energy_hz2_s / self.duration_s)

    @property
    def flip_angle_rad(self) -> float:
        """2 pi |integral of b1|: the flip angle on resonance of an unmodulated pulse, rad."""
        return 2 * math.pi * float(self.b1_hz.sum().abs()) * self.dwell_s


def hold(pulse: RFPulse, raster_s: float) -> Tensor:
    """Return the waveform on a finer raster, each sample held: the same physical pulse, shape (n * ratio,).

    Raises:
        InputError: If the raster is not positive, or the pulse's dwell not a multiple of it.
    """
    if not (raster_s > 0 and math.isfinite(raster_s)):
        raise InputError(f"The RF raster must be positive and finite, but is {raster_s} s. Give the scanner's raster.")
    ratio = round(pulse.dwell_s / raster_s)
    if ratio < 1 or abs(ratio * raster_s - pulse.dwell_s) > 1e-9 * pulse.dwell_s:
        raise InputError(
            f"Pulse {pulse.name!r} has a dwell of {pulse.dwell_s * 1e6:g} us, which is not a multiple of the RF raster "
            f"{raster_s * 1e6:g} us. Choose rf_dwell_s as a multiple of the raster."
        )
    return pulse.b1_hz.repeat_interleave(ratio)


def in_scanner_frame(pulse: RFPulse, raster_s: float) -> Tensor:
    """Return the waveform on the raster in the frame of the spectrometer frequency, Hz, complex, shape (n,).

    The phase of the carrier is zero at the centre of the pulse:
    b1(t) exp(+2 pi i offset (t - centre)), t at the middle of each raster sample.
    """
    held = hold(pulse, raster_s)
    n = held.shape[0]
    t_s = (torch.arange(n, dtype=torch.float64, device=held.device) + 0.5 - n / 2) * raster_s
    return held * torch.exp(2j * math.pi * pulse.carrier_offset_hz * t_s)
