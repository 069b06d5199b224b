"""Zero-order phase and reference shift by a singlet."""

from dataclasses import dataclass

import numpy as np

from seqgen.axes import ppm_axis, ppm_to_hz, time_axis_s
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.process.record import with_step

_ZERO_FILLING = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The tallest peak of a range."""

    shift_ppm: float
    """Where it is, ppm."""
    phase_rad: float
    """Its phase, rad: 0 for a positive absorption line."""


def find_peak(data: MRSData, near_ppm: float, search_ppm: float) -> Peak:
    """Return the tallest peak of the magnitude spectrum within `search_ppm` of `near_ppm`.

    The place is the vertex of a parabola through the three highest points of the sixteenfold zero-filled power
    spectrum; the phase is that of the Fourier sum at this very frequency.

    Raises:
        InputError: If the range lies outside the spectrum.
    """
    n = _ZERO_FILLING * data.n_samples
    power = np.abs(np.fft.fftshift(np.fft.fft(data.fid, n))) ** 2
    ppm = ppm_axis(n, data.dwell_s, data.spectrometer_frequency_hz, data.reference_ppm)
    inside = np.flatnonzero(np.abs(ppm - near_ppm) <= search_ppm)
    if inside.size < 3 or inside[0] == 0 or inside[-1] == n - 1:
        raise InputError(
            f"reference_peak_ppm {near_ppm} +- {search_ppm} ppm lies outside the spectrum ({ppm[0]:.2f} to "
            f"{ppm[-1]:.2f} ppm). Choose a singlet inside, for example 3.03 (creatine) or 2.01 (NAA)."
        )
    top = int(inside[np.argmax(power[inside])])
    left, middle, right = power[top - 1 : top + 2]
    curvature = left - 2 * middle + right
    vertex = 0.5 * (left - right) / curvature if curvature < 0 else 0.0
    shift_ppm = float(ppm[top] + np.clip(vertex, -0.5, 0.5) * (ppm[1] - ppm[0]))
    frequency_hz = ppm_to_hz(shift_ppm, data.spectrometer_frequency_hz, data.reference_ppm)
    t = time_axis_s(data.n_samples, data.dwell_s)
    phase = float(np.angle(np.sum(data.fid * np.exp(-2j * np.pi * frequency_hz * t))))
    return Peak(shift_ppm=shift_ppm, phase_rad=phase)


def phase(data: MRSData, peak: Peak, *, time: str) -> MRSData:
    """Return the data (no dims) with the zero-order phase of `peak` taken off."""
    details = f"zero-order phase {np.degrees(-peak.phase_rad):.2f} deg, by the peak at {peak.shift_ppm:.3f} ppm"
    return with_step(data, data.fid * np.exp(-1j * peak.phase_rad), method="Phasing", details=details, time=time)


def shift_to_reference(data: MRSData, peak: Peak, true_ppm: float, *, time: str) -> MRSData:
    """Return the data (no dims) shifted in frequency so that `peak` stands at `true_ppm`."""
    offset_hz = (true_ppm - peak.shift_ppm) * 1e-6 * data.spectrometer_frequency_hz
    fid = data.fid * np.exp(2j * np.pi * offset_hz * time_axis_s(data.n_samples, data.dwell_s))
    details = f"reference shift {offset_hz:+.3f} Hz: the peak at {peak.shift_ppm:.4f} ppm set to {true_ppm} ppm"
    return with_step(data, fid, method="Frequency and phase correction", details=details, time=time)
