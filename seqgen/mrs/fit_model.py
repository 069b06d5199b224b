r"""The model of the fit and its variable projection.

With FID columns b_k(t) of the basis, the spectrum in the fit range is

    S(f) = exp(i (phase - 2 pi f delay)) sum_k a_k FT[b_k(t) exp(2 pi i (shift + shift_k) t) V(t)] + baseline(f),

V(t) = exp(-pi L t - c G^2 t^2) the common Voigt damping (lineshape.py), a_k >= 0, and the baseline a cubic spline with
complex coefficients. For given nonlinear parameters the baseline is projected out, the amplitudes follow by
non-negative least squares, and the residual is a function of the nonlinear parameters alone.

Golub & Pereyra, SIAM J Numer Anal 10:413 (1973), doi:10.1137/0710036; derivative with fixed active set and the
simplification of Kaufman, BIT 15:49 (1975), doi:10.1007/BF01932995, which leaves the gradient exact.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from seqgen.axes import ComplexArray, FloatArray, frequency_axis_hz, spectrum, time_axis_s
from seqgen.model.lineshape import GAUSS_DECAY

COMMON = ("phase_rad", "delay_s", "lorentz_hz", "gauss_squared_hz2", "shift_hz")
"""The common nonlinear parameters, in order; the individual shifts in Hz follow."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Model:
    """What stays the same during a fit."""

    basis_fid: ComplexArray
    """FIDs of the columns, shape (n_columns, n_samples)."""
    n_individual: int
    """The first so many columns have shifts of their own."""
    time_s: FloatArray
    """Sample times, s, shape (n_samples,)."""
    rows: NDArray[np.intp]
    """Which points of `np.fft.fft` are fitted, in order of ascending frequency, shape (m,)."""
    frequency_hz: FloatArray
    """Their frequencies, Hz, shape (m,)."""
    target: ComplexArray
    """The data in these points, shape (m,)."""
    baseline_q: FloatArray
    """Orthonormal basis of the spline baseline, real, shape (m, n_splines)."""

    def columns(self, theta: FloatArray) -> ComplexArray:
        """Return the spectra of the columns at amplitude 1, shape (m, n_columns)."""
        return self._transform(self._damped(theta), theta)

    def derivatives(self, theta: FloatArray, amplitude: FloatArray) -> ComplexArray:
        """Return the derivative of ``columns @ amplitude`` after theta, shape (m, n_theta)."""
        damped = amplitude[:, None] * self._damped(theta)
        total = damped.sum(axis=0)
        turn = 2j * np.pi * self.time_s
        in_time = np.concatenate(
            (
                np.stack((total, -np.pi * self.time_s * total, -GAUSS_DECAY * self.time_s**2 * total, turn * total)),
                turn * damped[: theta.size - len(COMMON)],
            )
        )
        spectra = self._transform(in_time, theta)
        phase, delay = 1j * spectra[:, :1], -2j * np.pi * self.frequency_hz[:, None] * spectra[:, :1]
        return np.concatenate((phase, delay, spectra[:, 1:]), axis=1)

    def without_baseline(self, spectra: ComplexArray) -> ComplexArray:
        """Return spectra, shape (m,) or (m, n), less what the baseline can explain."""
        return spectra - self.baseline_q @ (self.baseline_q.T @ spectra)

    def _damped(self, theta: FloatArray) -> ComplexArray:
        _, _, lorentz, gauss_squared, shift = theta[: len(COMMON)]
        individual = np.zeros(self.basis_fid.shape[0])
        individual[: theta.size - len(COMMON)] = theta[len(COMMON) :]
        common = (2j * np.pi * shift - np.pi * lorentz) * self.time_s - GAUSS_DECAY * gauss_squared * self.time_s**2
        turning = np.exp(common)
        if not individual.any():
            return np.asarray(self.basis_fid * turning)
        return np.asarray(self.basis_fid * turning * np.exp(2j * np.pi * individual[:, None] * self.time_s))

    def _transform(self, fids: ComplexArray, theta: FloatArray) -> ComplexArray:
        spectra = np.fft.fft(fids, axis=1)[:, self.rows].T
        phase = np.exp(1j * (theta[0] - 2 * np.pi * self.frequency_hz * theta[1]))
        return np.asarray(spectra * phase[:, None])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Point:
    """The projected problem at one set of nonlinear parameters."""

    amplitude: NDArray[np.float64]
    """Non-negative least-squares amplitudes, shape (n_columns,)."""
    residual: NDArray[np.float64]
    """Data minus model, baseline projected out: real parts above imaginary parts, shape (2 m,)."""
    active_q: NDArray[np.float64]
    """Orthonormal basis of the columns with positive amplitude, shape (2 m, n_active)."""


def solve_linear(model: Model, theta: FloatArray) -> Point:
    """Return amplitudes and residual for given nonlinear parameters."""
    matrix = stacked(model.without_baseline(model.columns(theta)))
    target = stacked(model.without_baseline(model.target))
    q, r = np.linalg.qr(matrix)
    amplitude = nnls(r, q.T @ target)[0]
    return Point(
        amplitude=amplitude,
        residual=target - matrix @ amplitude,
        active_q=np.linalg.qr(matrix[:, amplitude > 0])[0],
    )


def residual_jacobian(model: Model, theta: FloatArray, point: Point) -> NDArray[np.float64]:
    """Return the derivative of `Point.residual` after theta (Kaufman), shape (2 m, n_theta)."""
    derivative = stacked(model.without_baseline(model.derivatives(theta, point.amplitude)))
    return np.asarray(point.active_q @ (point.active_q.T @ derivative) - derivative)


def coarse_start(model: Model, n_theta: int, max_shift_hz: float, max_lorentz_hz: float) -> NDArray[np.float64]:
    """Return the best point of a grid over common shift (2 Hz), width (2 values) and phase (30 degrees).

    Phases cost next to nothing: rotating the model is rotating the data backwards.
    """
    n_shift = 2 * math.ceil(max_shift_hz / 2.0) + 1
    target = model.without_baseline(model.target)
    phases = np.arange(12) * np.pi / 6
    best, best_theta = math.inf, np.zeros(n_theta)
    for lorentz_hz in (min(3.0, max_lorentz_hz), min(8.0, max_lorentz_hz)):
        for shift_hz in np.linspace(-max_shift_hz, max_shift_hz, n_shift):
            theta = np.zeros(n_theta)
            theta[2], theta[4] = lorentz_hz, shift_hz
            q, r = np.linalg.qr(stacked(model.without_baseline(model.columns(theta))))
            for phase in phases:
                rotated = stacked(target * np.exp(-1j * phase))
                inner = q.T @ rotated
                # Of the residual only the part inside the columns' space depends on the grid point.
                cost = nnls(r, inner)[1] ** 2 - float(inner @ inner)
                if cost < best:
                    theta[0] = phase
                    best, best_theta = cost, theta.copy()
    return best_theta


def stacked(values: ComplexArray) -> NDArray[np.float64]:
    """Return real parts above imaginary parts, first axis twice as long."""
    return np.concatenate((values.real, values.imag))


def make_model(
    columns: ComplexArray, fid: ComplexArray, dwell_s: float, inside: NDArray[np.bool_], splines: FloatArray, n_own: int
) -> Model:
    """Return the model of a fit.

    Args:
        columns: FIDs of the columns, shape (n_samples, n_columns).
        fid: The data, shape (n_samples,).
        dwell_s: Dwell time, s.
        inside: Which points of the ascending spectrum are fitted, shape (n_samples,).
        splines: Spline baseline in these points, shape (m, n_splines), perhaps with no columns.
        n_own: The first so many columns have shifts of their own.
    """
    n_samples = fid.shape[0]
    rows = np.fft.fftshift(np.arange(n_samples))[inside]
    return Model(
        basis_fid=np.ascontiguousarray(columns.T),
        n_individual=n_own,
        time_s=time_axis_s(n_samples, dwell_s),
        rows=rows,
        frequency_hz=frequency_axis_hz(n_samples, dwell_s)[inside],
        target=spectrum(fid)[inside],
        baseline_q=np.linalg.qr(splines)[0],
    )
