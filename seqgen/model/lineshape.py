r"""Lineshapes in time (damping) and frequency (analytic response of decaying lines, no FFT).

The spectrum of a line of amplitude a at frequency f0 is the integral of its FID,

    S(f) = a int_0^inf exp(2 pi i (f0 - f) t) d(t) dt,

so its real part is the absorption line of area a/2. Numerical `axes.spectrum` sums samples instead: dwell times that
sum tends to S(f) + a dwell/2 (the first sample counts in full) as the dwell time goes to zero.
Widths are full widths at half maximum of the absorption line, Hz.
"""

import math
from collections.abc import Sequence

import torch
from scipy.special import wofz
from torch import Tensor

from seqgen.errors import InputError

GAUSS_DECAY = math.pi**2 / (4 * math.log(2))
"""exp(-GAUSS_DECAY (fwhm t)^2) has a Gaussian spectrum of full width `fwhm` at half maximum."""


def damping(time_s: Tensor, fwhm_lorentz_hz: Tensor | float, fwhm_gauss_hz: Tensor | float = 0.0) -> Tensor:
    """Return the Voigt damping exp(-pi L t - GAUSS_DECAY G^2 t^2) of an FID; real, shape by broadcasting.

    Args:
        time_s: Time after the echo, s, at least 0.
        fwhm_lorentz_hz: Lorentzian width L (1/(pi T2*)), Hz; 0 for a Gaussian line.
        fwhm_gauss_hz: Gaussian width G, Hz; 0 for a Lorentzian line.

    Example:
        >>> damping(torch.tensor([0.0, 1 / math.pi]), 1.0)
        tensor([1.0000, 0.3679])
    """
    return torch.exp(-math.pi * fwhm_lorentz_hz * time_s - GAUSS_DECAY * (fwhm_gauss_hz * time_s) ** 2)


def lorentz_response(frequency_hz: Tensor, axis_hz: Tensor, fwhm_hz: Tensor | float) -> Tensor:
    """Return the spectrum of unit Lorentzian lines, 1 / (pi fwhm + 2 pi i (f - f0)), complex, shape (n_lines, m).

    Compute it once for fixed lines, so that a loss costs one product ``amplitude @ response``.

    Args:
        frequency_hz: Frequencies of the lines, Hz, shape (n_lines,).
        axis_hz: Frequencies of the spectrum, Hz, shape (m,).
        fwhm_hz: Full width at half maximum, Hz, one for all or of shape (n_lines,); positive.

    Raises:
        InputError: If a width is not positive (the line would be a pole).
    """
    width_hz = torch.as_tensor(fwhm_hz, dtype=axis_hz.dtype, device=axis_hz.device)
    _require_positive(width_hz, "fwhm_hz")
    offset_hz = axis_hz - frequency_hz[:, None]
    decay = (math.pi * width_hz).reshape(-1, 1).expand_as(offset_hz)
    return 1.0 / torch.complex(decay, 2 * math.pi * offset_hz)


def lines_to_spectrum(amplitude: Tensor, frequency_hz: Tensor, axis_hz: Tensor, fwhm_hz: Tensor | float) -> Tensor:
    """Return the spectrum of Lorentzian lines, shape (..., m); differentiable in every tensor.

    Args:
        amplitude: Complex amplitudes of the lines at t = 0, shape (..., n_lines).
        frequency_hz: Their frequencies, Hz, shape (n_lines,).
        axis_hz: Frequencies of the spectrum, Hz, shape (m,).
        fwhm_hz: Full width at half maximum, Hz.
    """
    return amplitude @ lorentz_response(frequency_hz, axis_hz, fwhm_hz).to(amplitude.dtype)


def voigt_response(
    frequency_hz: Tensor, axis_hz: Tensor, fwhm_lorentz_hz: float, fwhm_gauss_hz: Tensor | Sequence[float] | float
) -> Tensor:
    r"""Return the spectrum of unit Voigt lines, complex128, shape (n_lines, m). A constant: no gradient passes.

    With c = GAUSS_DECAY G^2 and b = pi L + 2 pi i (f - f0), int_0^inf exp(-b t - c t^2) dt
    = sqrt(pi/c)/2 erfcx(b / (2 sqrt(c))), and erfcx(z) = w(i z) with the Faddeeva function w
    (Abramowitz & Stegun, Handbook of Mathematical Functions, 7.1.3 and 7.4.2).

    Args:
        frequency_hz: Frequencies of the lines, Hz, shape (n_lines,).
        axis_hz: Frequencies of the spectrum, Hz, shape (m,).
        fwhm_lorentz_hz: Lorentzian width L of all lines, Hz, 0 or more.
        fwhm_gauss_hz: Gaussian width G, Hz, one for all or of shape (n_lines,); positive.

    Raises:
        InputError: If a Gaussian width is not positive (use `lorentz_response` then).
    """
    gauss_hz = torch.as_tensor(fwhm_gauss_hz, dtype=torch.float64, device=axis_hz.device).reshape(-1, 1)
    _require_positive(gauss_hz, "fwhm_gauss_hz")
    root_c = math.sqrt(GAUSS_DECAY) * gauss_hz
    offset_hz = axis_hz.detach().to(torch.float64) - frequency_hz.detach().to(torch.float64)[:, None]
    b = torch.complex(torch.full_like(offset_hz, math.pi * fwhm_lorentz_hz), 2 * math.pi * offset_hz)
    w = torch.from_numpy(wofz((1j * b / (2 * root_c)).cpu().numpy())).to(axis_hz.device)
    return math.sqrt(math.pi) / (2 * root_c) * w


def voigt_fwhm_hz(fwhm_lorentz_hz: float, fwhm_gauss_hz: float) -> float:
    """Return the full width at half maximum of a Voigt line, Hz, within 0.02 %.

    0.5346 L + sqrt(0.2166 L^2 + G^2): Olivero & Longbothum, J Quant Spectrosc Radiat Transf 17:233 (1977),
    doi:10.1016/0022-4073(77)90161-3.
    """
    return 0.5346 * fwhm_lorentz_hz + math.sqrt(0.2166 * fwhm_lorentz_hz**2 + fwhm_gauss_hz**2)


def _require_positive(width_hz: Tensor, name: str) -> None:
    smallest = float(width_hz.detach().min())
    if not smallest > 0:
        raise InputError(f"Argument `{name}` must be positive, but is {smallest} Hz. Give every line some width.")
