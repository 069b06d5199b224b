"""Macromolecules as Gaussian peaks: the broad background under the metabolites."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.model.lineshape import damping, voigt_response


@dataclass(frozen=True, kw_only=True, slots=True)
class MacromoleculePeak:
    """One Gaussian peak of the macromolecular background."""

    name: str
    """For example "MM2.04"."""
    shift_ppm: float
    """Chemical shift of the centre, ppm against DSS."""
    fwhm_ppm: float
    """Full width at half maximum of the (real, absorptive) Gaussian line, ppm."""
    amplitude: float
    """FID at t = 0, that is the area of the peak, in the unit of the metabolites beside it."""

    def __post_init__(self) -> None:
        if not (self.fwhm_ppm > 0 and math.isfinite(self.fwhm_ppm)):
            raise InputError(f"Macromolecule peak {self.name!r}: fwhm_ppm must be positive, but is {self.fwhm_ppm}.")
        if not (math.isfinite(self.shift_ppm) and math.isfinite(self.amplitude)):
            raise InputError(
                f"Macromolecule peak {self.name!r}: shift_ppm and amplitude must be finite, but are "
                f"{self.shift_ppm} and {self.amplitude}."
            )


def macromolecule_fid(
    peaks: Sequence[MacromoleculePeak], time_s: Tensor, spectrometer_frequency_hz: float, reference_ppm: float
) -> Tensor:
    """Return the FID of every peak, complex128, shape (n_samples, n_peaks); the background is the sum of columns.

    A peak above `reference_ppm` turns with positive frequency (axes.py).

    Args:
        peaks: The peaks; their amplitudes are the values at t = 0.
        time_s: Sample times after the echo, s, shape (n_samples,).
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Shift at zero frequency, ppm.
    """
    time_s = time_s.to(torch.float64)
    columns = []
    for peak in peaks:
        frequency_hz = ppm_to_hz(peak.shift_ppm, spectrometer_frequency_hz, reference_ppm)
        fwhm_hz = peak.fwhm_ppm * 1e-6 * spectrometer_frequency_hz
        turning = torch.exp(2j * math.pi * frequency_hz * time_s)
        columns.append(peak.amplitude * turning * damping(time_s, 0.0, fwhm_hz))
    if not columns:
        return torch.zeros((time_s.shape[0], 0), dtype=torch.complex128)
    return torch.stack(columns, dim=1)


def macromolecule_spectrum(
    peaks: Sequence[MacromoleculePeak],
    axis_hz: Tensor,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    fwhm_lorentz_hz: float = 0.0,
) -> Tensor:
    """Return the analytic spectrum of every peak, complex128, shape (n_peaks, m), as `lineshape.lines_to_spectrum`.

    Args:
        peaks: The peaks.
        axis_hz: Frequencies of the spectrum, Hz from `reference_ppm`, shape (m,).
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Shift at zero frequency, ppm.
        fwhm_lorentz_hz: Lorentzian broadening on top of the Gaussian width, Hz.
    """
    if not peaks:
        return torch.zeros((0, axis_hz.shape[0]), dtype=torch.complex128)
    frequency_hz = torch.tensor(
        [ppm_to_hz(peak.shift_ppm, spectrometer_frequency_hz, reference_ppm) for peak in peaks], dtype=torch.float64
    )
    fwhm_hz = torch.tensor([peak.fwhm_ppm * 1e-6 * spectrometer_frequency_hz for peak in peaks], dtype=torch.float64)
    amplitude = torch.tensor([peak.amplitude for peak in peaks], dtype=torch.float64)
    return amplitude[:, None] * voigt_response(frequency_hz, axis_hz, fwhm_lorentz_hz, fwhm_hz)
