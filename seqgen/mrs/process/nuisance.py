"""Eddy currents and residual water."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lstsq
from scipy.sparse.linalg import LinearOperator, svds

from seqgen.axes import ComplexArray, ppm_to_hz, time_axis_s
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.process.record import with_step
from seqgen.mrs.quality import noise_sd_of_fid

_PHASE_SNR = 10.0
"""The water phase is trusted while the water FID is this many noise standard deviations high."""
_SLOPE_FRACTION = 0.25


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Components:
    """Damped exponentials: FID(t) = sum_k amplitude_k exp((2 pi i frequency_k - damping_k) t)."""

    frequency_hz: NDArray[np.float64]
    """Frequencies, Hz, shape (n_components,)."""
    damping_per_s: NDArray[np.float64]
    """Damping rates, 1/s, shape (n_components,), at least 0 (a line of width damping/pi)."""
    amplitude: NDArray[np.complex128]
    """Complex amplitudes at t = 0, shape (n_components,)."""

    def fid(self, n_samples: int, dwell_s: float) -> NDArray[np.complex128]:
        """Return the sum of the components, shape (n_samples,)."""
        return np.asarray(_decays(self.frequency_hz, self.damping_per_s, n_samples, dwell_s) @ self.amplitude)


def eddy_phase(water: MRSData) -> NDArray[np.float64]:
    """Return the phase of a water FID, rad, unwrapped, shape (n_samples,).

    Where the water has decayed to 10 noise standard deviations its phase goes on along a straight line, with the
    slope of the last quarter before.

    Raises:
        InputError: If the water signal never rises above the noise.
    """
    size = np.abs(water.fid)
    strong = size > _PHASE_SNR * np.sqrt(2) * noise_sd_of_fid(water.fid)
    last = int(np.argmin(strong)) if not strong.all() else strong.size
    if last < 8:
        raise InputError(
            "The water reference is too weak for eddy-current correction: its signal is below 10 times the noise. "
            "Check that it was acquired without water suppression."
        )
    phase = np.unwrap(np.angle(water.fid))
    if last < phase.size:
        fitted = np.arange(last - max(4, int(_SLOPE_FRACTION * last)), last)
        slope, offset = np.polyfit(fitted, phase[fitted], 1)
        phase[last:] = offset + slope * np.arange(last, phase.size)
    return np.asarray(phase, dtype=np.float64)


def correct_eddy_currents(
    data: MRSData, phase_rad: NDArray[np.float64], water_shift_ppm: float, *, time: str
) -> MRSData:
    """Return the data (no dims) with the phase of the water FID taken off sample by sample.

    Water then stands at zero frequency with phase 0, so `reference_ppm` becomes `water_shift_ppm`: the correction
    removes eddy currents, the common offset and the zero-order phase together.

    Args:
        data: Averaged data of the same voxel and gradients as the water reference.
        phase_rad: Phase of the water FID from `eddy_phase`, shape (n_samples,).
        water_shift_ppm: Chemical shift of water at the temperature of the sample, ppm.
        time: When, ISO 8601.

    References:
        Klose, Magn Reson Med 14:26 (1990), doi:10.1002/mrm.1910140104.
    """
    if phase_rad.shape != (data.n_samples,):
        raise InputError(
            f"The water reference has {phase_rad.shape[0]} samples, the data have {data.n_samples}. Both must come "
            "from the same readout."
        )
    details = (
        f"Klose: phase of the water FID subtracted; zero frequency is now water at {water_shift_ppm} ppm "
        f"(before: {data.reference_ppm} ppm assumed)"
    )
    return with_step(
        data,
        data.fid * np.exp(-1j * phase_rad),
        method="Eddy current correction",
        details=details,
        time=time,
        reference_ppm=water_shift_ppm,
    )


def hlsvd(fid: ComplexArray, dwell_s: float, n_components: int) -> Components:
    """Decompose an FID into damped exponentials by HLSVD.

    The Hankel matrix of the samples has rank n_components without noise; its signal subspace is invariant under a
    shift by one sample, and the eigenvalues of that shift are the poles. The few singular vectors come from Lanczos
    iterations with FFT products; amplitudes follow by least squares. Growing poles are set to no damping.

    Args:
        fid: Complex FID, shape (n_samples,).
        dwell_s: Dwell time, s.
        n_components: Number of exponentials, signal and nuisance together.

    Raises:
        InputError: If the FID is too short for so many components.

    References:
        Barkhuijsen et al., J Magn Reson 73:553 (1987), doi:10.1016/0022-2364(87)90023-0;
        Pijnappel et al., J Magn Reson 97:122 (1992), doi:10.1016/0022-2364(92)90241-X.
    """
    n_rows = fid.shape[0] // 2
    if not 1 <= n_components < n_rows - 1:
        raise InputError(f"HLSVD of {fid.shape[0]} samples takes 1 to {n_rows - 2} components, not {n_components}.")
    left = svds(_hankel(fid, n_rows), k=n_components, v0=fid[:n_rows].conj(), solver="arpack")[0]
    shift = lstsq(left[:-1], left[1:])[0]
    poles = np.linalg.eigvals(shift)
    frequency_hz = np.angle(poles) / (2 * np.pi * dwell_s)
    damping = np.maximum(-np.log(np.abs(poles)) / dwell_s, 0.0)
    amplitude = lstsq(_decays(frequency_hz, damping, fid.shape[0], dwell_s), fid)[0]
    return Components(frequency_hz=frequency_hz, damping_per_s=damping, amplitude=amplitude)


def remove_water(
    data: MRSData, water_shift_ppm: float, half_width_ppm: float, n_components: int, *, time: str
) -> MRSData:
    """Return the data (no dims) without the HLSVD components near the water resonance.

    Args:
        data: Averaged data.
        water_shift_ppm: Where water is, ppm.
        half_width_ppm: Components this far from water, ppm either way, are removed.
        n_components: Number of components of the decomposition.
        time: When, ISO 8601.
    """
    components = hlsvd(data.fid, data.dwell_s, n_components)
    centre_hz = ppm_to_hz(water_shift_ppm, data.spectrometer_frequency_hz, data.reference_ppm)
    near = np.abs(components.frequency_hz - centre_hz) <= half_width_ppm * 1e-6 * data.spectrometer_frequency_hz
    water = Components(
        frequency_hz=components.frequency_hz[near],
        damping_per_s=components.damping_per_s[near],
        amplitude=components.amplitude[near],
    )
    fid = data.fid - water.fid(data.n_samples, data.dwell_s)
    share = 1 - float(np.linalg.norm(fid) / np.linalg.norm(data.fid)) ** 2
    details = (
        f"HLSVD, {n_components} components, {int(near.sum())} within {half_width_ppm} ppm of water at "
        f"{water_shift_ppm} ppm removed ({share:.1%} of the energy)"
    )
    return with_step(data, fid, method="Nuisance peak removal", details=details, time=time)


def _hankel(fid: ComplexArray, n_rows: int) -> LinearOperator:
    """Return the Hankel matrix H[i, j] = fid[i + j] as an operator (products by FFT)."""
    n_columns = fid.shape[0] - n_rows + 1
    n = 1 << (2 * fid.shape[0] - 1).bit_length()
    transform, conjugate = np.fft.fft(fid, n), np.fft.fft(fid.conj(), n)

    def product(kernel: ComplexArray, vector: ComplexArray, n_out: int) -> ComplexArray:
        # sum_j fid[i + j] v[j]: a convolution with v reversed, read from sample len(v) - 1 on.
        flat = vector.ravel()
        return np.fft.ifft(kernel * np.fft.fft(flat[::-1], n))[flat.size - 1 : flat.size - 1 + n_out]

    return LinearOperator(
        (n_rows, n_columns),
        matvec=lambda v: product(transform, v, n_rows),
        rmatvec=lambda v: product(conjugate, v, n_columns),
        dtype=np.complex128,
    )


def _decays(
    frequency_hz: NDArray[np.float64], damping_per_s: NDArray[np.float64], n_samples: int, dwell_s: float
) -> NDArray[np.complex128]:
    t = time_axis_s(n_samples, dwell_s)[:, None]
    return np.asarray(np.exp((2j * np.pi * frequency_hz - damping_per_s) * t), dtype=np.complex128)
