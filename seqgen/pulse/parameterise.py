"""Parameters to waveform: smooth, and within limits of amplitude, energy and bandwidth by construction."""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.interpolate import BSpline
from scipy.linalg import eigh
from torch import Tensor

from seqgen.errors import InputError

BAND_SHARE = 0.99
"""Part of a pulse's energy that its bandwidth holds: the width of the band about the carrier, half on either side."""
_BAND_MARGIN = 1e-6
"""By how much a waveform by construction holds more, for rounding."""
_PEAK_POWER = 32
"""How sharply the amplitude of a band-limited waveform is limited: at the limit itself it loses 2 %."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SplineWaveform:
    """Waveforms of basis functions, cubic splines or steps, that never leave the disc |b1| <= b1_max_hz.

    v = splines @ (theta_x + i theta_y) is dimensionless; b1 = b1_max v / sqrt(1 + |v|^2), then scaled as a whole by
    (1 + (E / E_max)^4)^(-1/8) < sqrt(E_max / E), so that its energy E stays below E_max.

    With a limit of the bandwidth, that waveform is projected onto the columns of `band`, which takes energy away, and
    scaled as a whole by (1 + (P / b1_max)^32)^(-1/32) < b1_max / P, so that its peak P stays below b1_max.
    """

    splines: Tensor
    """Values of the basis functions at the sample centres, shape (n_samples, n_knots)."""
    dwell_s: float
    """Duration of a sample, s."""
    b1_max_hz: float
    """Amplitude limit, Hz."""
    energy_max_hz2_s: float
    """Energy limit, Hz^2 s."""
    band: Tensor | None = None
    """From `band_basis`, shape (n_samples, q); None: the bandwidth is not limited."""

    @property
    def n_parameters(self) -> int:
        """Number of real parameters: two per knot."""
        return 2 * int(self.splines.shape[1])

    def waveform_hz(self, theta: Tensor) -> Tensor:
        """Return b1 in Hz, complex, shape (n_samples,), for parameters of shape (n_parameters,). Differentiable."""
        x, y = (self.splines @ part for part in theta.reshape(2, -1))
        scale = self.b1_max_hz / torch.sqrt(1 + x**2 + y**2)
        energy = ((scale * x) ** 2 + (scale * y) ** 2).sum() * self.dwell_s
        scale = scale * (1 + (energy / self.energy_max_hz2_s) ** 4) ** -0.125
        if self.band is None:
            return torch.complex(scale * x, scale * y)
        x, y = (self.band @ (self.band.T @ (scale * part)) for part in (x, y))
        peak_power = (x**2 + y**2).max() / self.b1_max_hz**2
        scale = (1 + peak_power ** (_PEAK_POWER // 2)) ** (-1 / _PEAK_POWER)
        return torch.complex(scale * x, scale * y)


def spline_waveform(
    *,
    duration_s: float,
    dwell_s: float,
    knot_spacing_s: float,
    b1_max_hz: float,
    energy_max_hz2_s: float,
    bandwidth_max_hz: float | None = None,
) -> SplineWaveform:
    """Return the parameterisation of a pulse by cubic splines; it vanishes at both ends.

    Args:
        duration_s: Duration, s.
        dwell_s: Duration of a sample, s.
        knot_spacing_s: Spacing of the knots, s.
        b1_max_hz: Amplitude limit, Hz.
        energy_max_hz2_s: Energy limit, Hz^2 s.
        bandwidth_max_hz: Largest width of the band about the carrier that holds `BAND_SHARE` of the energy, Hz; None:
            not limited.

    Raises:
        InputError: If the duration is not a whole number of samples, or no such waveform has so small a bandwidth.
    """
    splines = waveform_basis("spline", duration_s=duration_s, dwell_s=dwell_s, knot_spacing_s=knot_spacing_s)
    return _within(splines, dwell_s, b1_max_hz, energy_max_hz2_s, bandwidth_max_hz)


def waveform_basis(
    parameters: Literal["spline", "steps"], *, duration_s: float, dwell_s: float, knot_spacing_s: float
) -> Tensor:
    """Return the basis functions of a parameterisation at the sample centres, shape (n_samples, k).

    Raises:
        InputError: If the duration is no whole number of samples, or of steps of whole samples.
    """
    basis = step_basis if parameters == "steps" else spline_basis
    return basis(duration_s=duration_s, dwell_s=dwell_s, knot_spacing_s=knot_spacing_s)


def _within(
    basis: Tensor, dwell_s: float, b1_max_hz: float, energy_max_hz2_s: float, bandwidth_max_hz: float | None
) -> SplineWaveform:
    """Return the waveforms of basis functions within limits."""
    return SplineWaveform(
        splines=basis,
        dwell_s=dwell_s,
        b1_max_hz=b1_max_hz,
        energy_max_hz2_s=energy_max_hz2_s,
        band=None if bandwidth_max_hz is None else band_basis(basis, dwell_s, bandwidth_max_hz),
    )


def spline_basis(*, duration_s: float, dwell_s: float, knot_spacing_s: float) -> Tensor:
    """Return cubic splines that vanish with their slope at both ends, at the sample centres, shape (n_samples, k).

    Raises:
        InputError: If the duration is not a whole number of samples.
    """
    n_samples = _n_samples(duration_s, dwell_s)
    n_intervals = max(4, math.ceil(duration_s / knot_spacing_s - 1e-9))
    spacing = duration_s / n_intervals
    # Splines whose support lies inside the pulse: the waveform and its slope vanish at both ends.
    knots = [k * spacing for k in range(n_intervals + 1)]
    t_s = (torch.arange(n_samples, dtype=torch.float64) + 0.5) * dwell_s
    columns = [BSpline.basis_element(knots[k : k + 5], extrapolate=False)(t_s.numpy()) for k in range(n_intervals - 3)]
    return torch.as_tensor(np.nan_to_num(np.stack(columns, 1)))


def step_basis(*, duration_s: float, dwell_s: float, knot_spacing_s: float) -> Tensor:
    """Return steps of `knot_spacing_s` from one end to the other, at the sample centres, shape (n_samples, k).

    Raises:
        InputError: If the duration is no whole number of steps, or a step none of samples.
    """
    n_samples, per_step = _n_samples(duration_s, dwell_s), round(knot_spacing_s / dwell_s)
    if per_step < 1 or n_samples % per_step or abs(per_step * dwell_s - knot_spacing_s) > 1e-9:
        raise InputError(
            f"The pulse of {duration_s} s must be a whole number of steps of {knot_spacing_s} s, and a step one of "
            f"samples of {dwell_s} s. Change duration, knot_spacing or rf_dwell."
        )
    return torch.eye(n_samples // per_step, dtype=torch.float64).repeat_interleave(per_step, 0)


def band_basis(splines: Tensor, dwell_s: float, bandwidth_max_hz: float) -> Tensor:
    """Return orthonormal waveforms of which every sum has a bandwidth within the limit, shape (n_samples, q).

    Among all sums S c of the splines, the energy within the band about the carrier is c^T K c of the whole c^T G c. The
    eigenvectors of K c = lambda G c are orthogonal in both; of those with lambda >= `BAND_SHARE` every sum, real or
    complex, keeps at least that share (Slepian, Bell Syst Tech J 57:1371 (1978), here within the splines).

    Args:
        splines: Shape (n_samples, k).
        dwell_s: Duration of a sample, s: the waveform is constant over it.
        bandwidth_max_hz: Width of the band, half on either side, Hz.

    Raises:
        InputError: If even the narrowest one is wider, with its bandwidth.
    """
    share, vectors = _band_shares(splines.numpy(), dwell_s, bandwidth_max_hz)
    inside = share >= BAND_SHARE + _BAND_MARGIN
    if not inside.any():
        least_hz = smallest_bandwidth_hz(splines, dwell_s)
        raise InputError(
            f"bandwidth_max_hz must be at least {least_hz:.1f} Hz, the narrowest band that holds {BAND_SHARE:.0%} of "
            f"the energy of a pulse of {splines.shape[0] * dwell_s * 1e3:g} ms with this knot_spacing, but is "
            f"{bandwidth_max_hz:g} Hz. Raise it, or lengthen the pulse."
        )
    return torch.as_tensor(splines.numpy() @ vectors[:, inside] * math.sqrt(dwell_s))


def smallest_bandwidth_hz(splines: Tensor, dwell_s: float) -> float:
    """Return the smallest limit of the bandwidth that a sum of the splines can meet, Hz, up to the next 0.1 Hz."""
    low, high = 0.0, 1 / dwell_s
    while high - low > 1e-3:
        middle = 0.5 * (low + high)
        share, _ = _band_shares(splines.numpy(), dwell_s, middle)
        low, high = (low, middle) if share.max() >= BAND_SHARE + _BAND_MARGIN else (middle, high)
    return math.ceil(high * 10) / 10


def _band_shares(splines: np.ndarray, dwell_s: float, bandwidth_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the stationary shares of energy within a band, ascending, and their coefficients, c^T G c = 1.

    The spectrum of a waveform held over its samples is that of the samples times dwell sinc(f dwell); integrals over f
    by Gauss-Legendre, sixteen points for every cycle that the ends of the pulse turn against one another.
    """
    n, k = splines.shape
    t_s = (np.arange(n) + 0.5 - n / 2) * dwell_s
    node, weight = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(0.0, bandwidth_hz / 2, math.ceil(0.5 * bandwidth_hz * n * dwell_s) + 1)
    inside = np.zeros((k, k))
    for low, high in itertools.pairwise(edges):
        f_hz = 0.5 * (low + high) + 0.5 * (high - low) * node
        size = dwell_s * np.sinc(f_hz * dwell_s) * np.sqrt((high - low) * weight)
        turn = 2 * math.pi * np.outer(t_s, f_hz)
        for wave in (np.cos(turn), np.sin(turn)):
            spectrum = splines.T @ (wave * size)
            inside += spectrum @ spectrum.T
    share, vectors = eigh(inside, dwell_s * splines.T @ splines)
    return share, vectors


def step_waveform(
    *,
    duration_s: float,
    dwell_s: float,
    knot_spacing_s: float,
    b1_max_hz: float,
    energy_max_hz2_s: float,
    bandwidth_max_hz: float | None = None,
) -> SplineWaveform:
    """Return the parameterisation of a pulse by steps, constant over `knot_spacing_s`: the controls of GRAPE.

    The limits are those of splines; the ends are not held at zero.
    Source: Khaneja et al., J Magn Reson 172:296 (2005), doi:10.1016/j.jmr.2004.11.004.

    Raises:
        InputError: If the duration is no whole number of steps, or a step none of samples.
    """
    steps = waveform_basis("steps", duration_s=duration_s, dwell_s=dwell_s, knot_spacing_s=knot_spacing_s)
    return _within(steps, dwell_s, b1_max_hz, energy_max_hz2_s, bandwidth_max_hz)


def _n_samples(duration_s: float, dwell_s: float) -> int:
    """Return the number of samples of a pulse, which must be whole."""
    n_samples = round(duration_s / dwell_s)
    if abs(n_samples * dwell_s - duration_s) > 1e-9:
        raise InputError(
            f"The duration of the pulse, {duration_s} s, must be a whole number of samples of {dwell_s} s. "
            "Change duration or rf_dwell."
        )
    return n_samples
