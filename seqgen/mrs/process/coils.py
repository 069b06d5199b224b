r"""Coil combination that maximises the signal-to-noise ratio.

A signal s(t) reaches coil c as S_c s(t) + n_c(t) with noise covariance C. The best combination is w^H x with w
proportional to C^-1 S (Roemer et al., Magn Reson Med 16:192 (1990), doi:10.1002/mrm.1910160203); its SNR^2 is
|s|^2 S^H C^-1 S. For uncorrelated noise the weights are signal/noise^2. S is the first left singular vector of the
whitened signals (Rodgers & Robson, Magn Reson Med 63:881 (2010), doi:10.1002/mrm.22230).
"""

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ComplexArray
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.process.record import with_step


def coil_weights(reference: MRSData, covariance: ComplexArray) -> NDArray[np.complex128]:
    """Return complex weights w, shape (n_coils,), with ``combined = sum_c w_c x_c``.

    The weights keep the size of the signal (the combined first sample has the root sum of squares over coils of the
    reference's sensitivities), and give the combined reference phase 0 at its first sample, mean over transients.

    Args:
        reference: Data with a DIM_COIL axis whose signal is strong: unsuppressed water, or the metabolite data.
        covariance: Noise covariance of the coils, shape (n_coils, n_coils).

    Raises:
        InputError: If the covariance does not fit the coils or is singular (a dead or duplicated channel).
    """
    coils_first = np.moveaxis(reference.fid, reference.axis("DIM_COIL"), 0)
    n_coils = coils_first.shape[0]
    if covariance.shape != (n_coils, n_coils):
        raise InputError(
            f"The noise covariance has shape {covariance.shape}, but the reference has {n_coils} coils. "
            "Measure noise and reference with the same coil."
        )
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise InputError(
            "The noise covariance of the coils is singular: a channel is dead or twice in the data. Remove it."
        ) from error
    signals = coils_first.reshape(n_coils, -1)
    whitened = np.linalg.solve(lower, signals)
    # The first left singular vector of the long matrix, from its small Gram matrix.
    sensitivity_white = np.linalg.eigh(whitened @ whitened.conj().T)[1][:, -1]
    sensitivity = lower @ sensitivity_white
    sensitivity /= np.linalg.norm(sensitivity)
    matched = np.linalg.solve(lower.conj().T, np.linalg.solve(lower, sensitivity))
    weights = (matched / (sensitivity.conj() @ matched)).conj()
    first = coils_first[:, 0].reshape(n_coils, -1).mean(axis=1)
    phase = np.angle(weights @ first)
    return np.asarray(weights * np.exp(-1j * phase), dtype=np.complex128)


def combine_coils(data: MRSData, weights: ComplexArray, *, details: str, time: str) -> MRSData:
    """Return the data with the coils combined by `weights` (shape (n_coils,)) and DIM_COIL gone.

    Raises:
        InputError: If there is no DIM_COIL, or not one weight per coil.
    """
    axis = data.axis("DIM_COIL")
    if weights.shape != (data.fid.shape[axis],):
        raise InputError(
            f"There are {weights.shape} weights for {data.fid.shape[axis]} coils. The reference and the metabolite "
            "data must come from the same coil."
        )
    fid = np.tensordot(data.fid, weights, axes=(axis, 0))
    dims = tuple(tag for tag in data.dims if tag != "DIM_COIL")
    return with_step(data, fid, method="RF coil combination", details=details, time=time, dims=dims)
