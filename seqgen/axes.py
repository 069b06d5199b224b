r"""Time, frequency and ppm axes, FID to spectrum, and THE sign convention of seqgen.

In memory a spin at `shift_ppm` gives exp(+2 pi i (shift_ppm - reference_ppm) f0 t): higher ppm, higher frequency,
``ppm = reference_ppm + f / f0``. On disk NIfTI-MRS demands the complex conjugate, ``ppm = reference - f / f0``
(Levitt, J Magn Reson 126:164 (1997), doi:10.1006/jmre.1997.1161). `conjugate_for_disk` is the only
bridge, used by `mrs/nifti.py` alone. All functions act on the **first** axis for samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

ComplexArray = NDArray[np.complexfloating[Any, Any]]
FloatArray = NDArray[np.floating[Any]]

NIFTI_REFERENCE_PPM_1H = 4.65
"""ppm at zero frequency that readers of NIfTI-MRS assume for 1H (the shift of water at 37 C)."""


def time_axis_s(n_samples: int, dwell_s: float) -> NDArray[np.float64]:
    """Return sample times in s, shape (n_samples,), starting at 0."""
    return np.arange(n_samples, dtype=np.float64) * dwell_s


def frequency_axis_hz(n_samples: int, dwell_s: float) -> NDArray[np.float64]:
    """Return the frequency axis in Hz, ascending, shape (n_samples,), matching `spectrum`."""
    return np.fft.fftshift(np.fft.fftfreq(n_samples, dwell_s))


def ppm_axis(
    n_samples: int, dwell_s: float, spectrometer_frequency_hz: float, reference_ppm: float
) -> NDArray[np.float64]:
    """Return the ppm axis, ascending, shape (n_samples,); `reference_ppm` is the shift at zero frequency.

    Example:
        >>> ppm_axis(4, 1 / 400, 100e6, 4.65)
        array([2.65, 3.65, 4.65, 5.65])
    """
    return reference_ppm + frequency_axis_hz(n_samples, dwell_s) / spectrometer_frequency_hz * 1e6


def ppm_to_hz(ppm: float, spectrometer_frequency_hz: float, reference_ppm: float) -> float:
    """Return the offset in Hz from `reference_ppm` of a shift in ppm; positive for a higher ppm."""
    return (ppm - reference_ppm) * 1e-6 * spectrometer_frequency_hz


def hz_to_ppm(offset_hz: float, spectrometer_frequency_hz: float, reference_ppm: float) -> float:
    """Return the shift in ppm of an offset in Hz from `reference_ppm`; inverse of `ppm_to_hz`."""
    return reference_ppm + offset_hz / spectrometer_frequency_hz * 1e6


def spectrum(fid: ComplexArray) -> ComplexArray:
    """Return the spectrum of an in-memory FID: sum over samples, ascending frequency, first axis."""
    return np.fft.fftshift(np.fft.fft(fid, axis=0), axes=0)


def fid_from_spectrum(values: ComplexArray) -> ComplexArray:
    """Return the FID of a spectrum made by `spectrum`; exact inverse."""
    return np.fft.ifft(np.fft.ifftshift(values, axes=0), axis=0)


def conjugate_for_disk(fid: ComplexArray) -> ComplexArray:
    """Turn an in-memory FID into NIfTI-MRS disk sense, or back: the complex conjugate."""
    return np.conj(fid)
