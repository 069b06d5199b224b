r"""Noise, signal-to-noise ratios and linewidths: several definitions are in use, so every number says which.

All noise standard deviations are those of one real component (real or imaginary part alone).
Definition: Oz et al., NMR Biomed 34:e4236 (2021), doi:10.1002/nbm.4236 (consensus).
"""

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ComplexArray, FloatArray
from seqgen.errors import InputError

SNR_CONSENSUS = "height of the real spectrum's tallest fitted peak above the baseline / SD of the real noise"

_NOISE_BAND = (0.6, 0.9)
"""Part of the Nyquist frequency, either side, that holds noise alone: 1H signals lie inside, filter edges outside."""
_DETREND_DEGREE = 2
_ZERO_FILLING = 8


def noise_covariance(fid: ComplexArray) -> NDArray[np.complex128]:
    r"""Return the noise covariance E[n n^H] of the channels of FIDs, shape (n_channels, n_channels).

    The last half of every FID is Hann-windowed (so that surviving signal stays where it is) and transformed; the
    covariance is the mean over all transients and all frequencies from 0.6 to 0.9 of the Nyquist frequency, either
    side. For white noise a diagonal entry is twice the variance of one real component of one sample.

    Args:
        fid: Complex FIDs, shape (n_samples, n_channels, ...); further axes are transients.

    Raises:
        InputError: If the FIDs are too short to hold a noise band.
    """
    tail = fid[fid.shape[0] // 2 :]
    n = tail.shape[0]
    if n < 32:
        raise InputError(f"Noise cannot be measured in FIDs of {fid.shape[0]} samples. Acquire at least 64 samples.")
    window = np.hanning(n)
    window /= np.sqrt((window**2).sum())
    values = np.fft.fft(tail.reshape(n, tail.shape[1], -1) * window[:, None, None], axis=0)
    nyquist = 2 * np.abs(np.fft.fftfreq(n))
    band = values[(nyquist >= _NOISE_BAND[0]) & (nyquist <= _NOISE_BAND[1])]
    samples = np.moveaxis(band, 1, 0).reshape(tail.shape[1], -1)
    return np.asarray(samples @ samples.conj().T / samples.shape[1], dtype=np.complex128)


def noise_sd_of_fid(fid: ComplexArray) -> float:
    """Return the noise standard deviation of one real component of one sample; see `noise_covariance`.

    Args:
        fid: Complex FIDs, shape (n_samples, ...); all transients are taken together.
    """
    return float(np.sqrt(noise_covariance(fid.reshape(fid.shape[0], 1, -1))[0, 0].real / 2))


def noise_sd_of_spectrum(spectrum: ComplexArray, ppm: FloatArray, range_ppm: tuple[float, float]) -> float:
    """Return the noise standard deviation of one real component of a spectrum in a signal-free range.

    A parabola is taken off the real and the imaginary part first (tails of water and lipids); the degrees of
    freedom that it costs are counted.

    Args:
        spectrum: Complex spectrum, shape (n,), not zero-filled.
        ppm: Its axis, ppm, shape (n,).
        range_ppm: Signal-free range, ppm, (low, high).

    Raises:
        InputError: If the range is not inside the spectrum or holds fewer than 20 points.
    """
    low, high = range_ppm
    inside = (ppm >= low) & (ppm <= high)
    count = int(inside.sum())
    if low < ppm.min() or high > ppm.max() or count < 20:
        raise InputError(
            f"noise_range_ppm {low} to {high} must lie inside the spectrum ({ppm.min():.2f} to {ppm.max():.2f} ppm) "
            f"and hold 20 points, but holds {count}. Choose another signal-free range."
        )
    x = np.linspace(-1, 1, count)
    design = np.polynomial.legendre.legvander(x, _DETREND_DEGREE)
    parts = np.stack((spectrum[inside].real, spectrum[inside].imag), axis=1)
    residual = parts - design @ np.linalg.lstsq(design, parts, rcond=None)[0]
    return float(np.sqrt((residual**2).sum() / (2 * (count - _DETREND_DEGREE - 1))))


def snr_consensus(spectrum: ComplexArray, noise_sd: float) -> float:
    """Return max(Re S) / noise_sd of a phased spectrum without baseline: `SNR_CONSENSUS`; no factor 2."""
    return float(np.max(spectrum.real) / noise_sd)


def linewidth_hz(fid: ComplexArray, dwell_s: float, range_hz: tuple[float, float]) -> float:
    """Return the full width at half maximum of the tallest peak in a frequency range, Hz.

    The FID is zero-filled eightfold with its first sample halved (no offset), the spectrum phased so that the tallest
    point of the magnitude is real, and the real part followed to half its height on both sides, linearly interpolated.

    Args:
        fid: Complex FID, shape (n_samples,).
        dwell_s: Dwell time, s.
        range_hz: Where to look for the peak, Hz, (low, high).

    Raises:
        InputError: If the range is outside the spectrum or the peak does not fall to half its height.
    """
    halved = fid.copy()
    halved[0] /= 2
    n = _ZERO_FILLING * fid.shape[0]
    values = np.fft.fftshift(np.fft.fft(halved, n))
    axis_hz = np.fft.fftshift(np.fft.fftfreq(n, dwell_s))
    inside = np.flatnonzero((axis_hz >= range_hz[0]) & (axis_hz <= range_hz[1]))
    if inside.size == 0:
        raise InputError(f"The range {range_hz} Hz lies outside the spectrum of +-{axis_hz.max():.0f} Hz.")
    top = int(inside[np.argmax(np.abs(values[inside]))])
    real = (values * np.exp(-1j * np.angle(values[top]))).real
    left = _half_height_index(real[top::-1])
    right = _half_height_index(real[top:])
    return float((left + right) * (axis_hz[1] - axis_hz[0]))


def _half_height_index(falling: FloatArray) -> float:
    """Return where a curve first falls to half of its first value, in steps, linearly interpolated."""
    below = np.flatnonzero(falling <= falling[0] / 2)
    if below.size == 0 or not falling[0] > 0:
        raise InputError("The peak does not fall to half its height: no linewidth. Check the data or the range.")
    k = int(below[0])
    return k - 1 + float((falling[k - 1] - falling[0] / 2) / (falling[k - 1] - falling[k]))
