r"""Transients: rejection of outliers, frequency and phase drift correction, averaging.

Everything here is independent of the order of the transients.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ComplexArray, FloatArray, fid_from_spectrum, ppm_axis, spectrum, time_axis_s
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.process.record import with_step

_EDGE_PPM = 0.1
_NEWTON_STEPS = 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drift:
    """What `register` found (and took away) in every transient, against their mean."""

    frequency_hz: NDArray[np.float64]
    """Frequency, Hz, shape (n_transients,); positive: the transient's peaks stood at higher ppm."""
    phase_rad: NDArray[np.float64]
    """Zero-order phase, rad, shape (n_transients,), in (-pi, pi]."""


def band_limited(data: MRSData, range_ppm: tuple[float, float] | None, duration_s: float) -> ComplexArray:
    """Return the FIDs with signals of a ppm range alone (cosine edges of 0.1 ppm), cut to a duration.

    Args:
        data: The data.
        range_ppm: What passes, ppm, (low, high); None: everything.
        duration_s: Samples from this time on are dropped, s.
    """
    keep = min(data.n_samples, max(1, round(duration_s / data.dwell_s)))
    if range_ppm is None:
        return data.fid[:keep]
    ppm = ppm_axis(data.n_samples, data.dwell_s, data.spectrometer_frequency_hz, data.reference_ppm)
    depth = np.clip(np.minimum(ppm - range_ppm[0], range_ppm[1] - ppm) / _EDGE_PPM, 0, 1)
    if not (depth > 0).any():
        raise InputError(
            f"align_range_ppm {range_ppm[0]} to {range_ppm[1]} lies outside the spectrum ({ppm[0]:.2f} to "
            f"{ppm[-1]:.2f} ppm). Choose a range with strong singlets, for example 1.8 to 4.2 ppm."
        )
    gain = np.sin(np.pi / 2 * depth) ** 2
    return fid_from_spectrum(spectrum(data.fid) * gain.reshape(-1, *[1] * len(data.dims)))[:keep]


def unlikeness(fids: ComplexArray) -> NDArray[np.float64]:
    r"""Return how far each transient is from the median, relative to it, shape (n_transients,).

    u_i = sum_t (|x_i(t)| - m(t))^2 / sum_t m(t)^2 with m the median over transients of |x(t)|. Magnitudes do not know
    frequency and phase, so drift is no reason for rejection; lost or changed signal is.

    Args:
        fids: Transients, shape (n_samples, n_transients).
    """
    magnitude = np.abs(fids)
    median = np.median(magnitude, axis=1, keepdims=True)
    return np.asarray(((magnitude - median) ** 2).sum(axis=0) / (median**2).sum(), dtype=np.float64)


def outliers(unlike: FloatArray, z_limit: float, fraction_limit: float) -> NDArray[np.bool_]:
    """Return which transients are outliers, shape (n_transients,).

    An outlier's unlikeness is more than `z_limit` robust standard deviations (1.4826 times the median absolute
    deviation) above the median, and its excess, as a fraction of the signal's amplitude, is above `fraction_limit`.
    """
    excess = unlike - np.median(unlike)
    spread = 1.4826 * np.median(np.abs(excess))
    return np.asarray((excess > z_limit * spread) & (excess > fraction_limit**2), dtype=np.bool_)


def reject_outliers(data: MRSData, rejected: NDArray[np.bool_], *, time: str) -> MRSData:
    """Return the data without the transients marked in `rejected`, shape (n_transients,)."""
    axis = data.axis("DIM_DYN")
    kept = np.compress(~rejected, data.fid, axis=axis)
    numbers = ", ".join(str(i) for i in np.flatnonzero(rejected)) or "none"
    details = f"{int(rejected.sum())} of {rejected.size} transients rejected (numbers from 0: {numbers})"
    return with_step(data, kept, method="Removal of motion-corrupted transients", details=details, time=time)


def estimate_drift(fids: ComplexArray, dwell_s: float, max_drift_hz: float, iterations: int = 4) -> Drift:
    """Return frequency and phase of each transient by spectral registration, against the mean of all.

    Each transient is compared with the mean of the others, corrected by the estimates so far (its own noise is not
    in its reference); the first reference is the transient least unlike the rest. The gauge is a mean frequency and a
    circular mean phase of zero.

    Args:
        fids: Transients, shape (n_samples, n_transients).
        dwell_s: Dwell time, s.
        max_drift_hz: Largest frequency looked for, Hz either way.
        iterations: Number of rounds.

    References:
        Near et al., Magn Reson Med 73:44 (2015), doi:10.1002/mrm.25094.
    """
    n_transients = fids.shape[1]
    t = time_axis_s(fids.shape[0], dwell_s)[:, None]
    references = np.repeat(fids[:, [int(np.argmin(unlikeness(fids)))]], n_transients, axis=1)
    for _ in range(iterations):
        frequency, phase = _register(fids, references, dwell_s, max_drift_hz)
        frequency -= frequency.mean()
        phase -= np.angle(np.exp(1j * phase).mean())
        corrected = fids * np.exp(-1j * (2 * np.pi * frequency * t + phase))
        if n_transients == 1:
            break
        references = (corrected.sum(axis=1, keepdims=True) - corrected) / (n_transients - 1)
    return Drift(frequency_hz=frequency, phase_rad=np.angle(np.exp(1j * phase)))


def correct_drift(data: MRSData, drift: Drift, *, details: str, time: str) -> MRSData:
    """Return the data (dims ("DIM_DYN",)) with the drift taken off every transient."""
    t = time_axis_s(data.n_samples, data.dwell_s)[:, None]
    fid = data.fid * np.exp(-1j * (2 * np.pi * drift.frequency_hz * t + drift.phase_rad))
    return with_step(data, fid, method="Frequency and phase correction", details=details, time=time)


def average(data: MRSData, *, time: str) -> MRSData:
    """Return the mean over the transients, DIM_DYN gone."""
    axis = data.axis("DIM_DYN")
    count = data.fid.shape[axis]
    dims = tuple(tag for tag in data.dims if tag != "DIM_DYN")
    details = f"mean of {count} transients"
    return with_step(data, data.fid.mean(axis=axis), method="Signal averaging", details=details, time=time, dims=dims)


def _register(
    fids: ComplexArray, references: ComplexArray, dwell_s: float, max_drift_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Minimise sum_t |x(t) - r(t) exp(i (2 pi f t + phi))|^2 for every column; return f in Hz and phi in rad.

    At the minimum phi is the angle of Q(f) = sum_t conj(r) x exp(-2 pi i f t), and f maximises |Q(f)|^2: found on a
    fine grid by FFT, then by Newton's method.
    """
    product = np.conj(references) * fids
    n_fine = 1 << (8 * product.shape[0] - 1).bit_length()
    axis_hz = np.fft.fftfreq(n_fine, dwell_s)
    near = np.abs(axis_hz) <= max_drift_hz
    power = np.abs(np.fft.fft(product, n_fine, axis=0)[near])
    frequency = axis_hz[near][power.argmax(axis=0)]
    t = time_axis_s(product.shape[0], dwell_s)[:, None]
    limit_hz = axis_hz[1]
    for _ in range(_NEWTON_STEPS):
        turned = product * np.exp(-2j * np.pi * frequency * t)
        q, q1, q2 = (((-2j * np.pi * t) ** k * turned).sum(axis=0) for k in range(3))
        slope = 2 * (np.conj(q) * q1).real
        curvature = 2 * (np.abs(q1) ** 2 + (np.conj(q) * q2).real)
        step = np.where(curvature < 0, -slope / np.where(curvature < 0, curvature, -1.0), 0.0)
        frequency = frequency + np.clip(step, -limit_hz, limit_hz)
        if np.abs(step).max() < 1e-9:
            break
    q = (product * np.exp(-2j * np.pi * frequency * t)).sum(axis=0)
    return frequency, np.angle(q)
