r"""Fisher information and Cramer-Rao lower bounds of real parameters of a complex spectrum (or FID).

Data y = s(theta) + n, with white complex Gaussian noise of standard deviation `noise_sd` in the real part and the same
in the imaginary part. With the columns D_j = ds/dtheta_j,

    F = Re(D^H D) / noise_sd^2,    sd(theta_j) >= sqrt((F^-1)_jj).

Cavassila et al., NMR Biomed 14:278 (2001), doi:10.1002/nbm.701. White noise in the FID stays white in a spectrum that
is sampled at steps of 1/(acquisition time); on a finer axis neighbouring noise is correlated and these bounds are too
small. For the spectrum as an integral (lineshape.py), noise_sd = sd of the FID * sqrt(acquisition time * dwell time);
for `axes.spectrum` it is sd of the FID * sqrt(n_samples).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError

_SINGULAR = 1e-12
"""Smallest eigenvalue of the Fisher matrix scaled to unit diagonal below which it counts as singular."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bounds:
    """Cramer-Rao lower bounds."""

    sd: Tensor
    """Smallest standard deviation of an unbiased estimate of each parameter, shape (..., p)."""
    covariance: Tensor
    """Inverse Fisher matrix, shape (..., p, p)."""
    correlation: Tensor
    """Correlations of the estimates, unit diagonal, shape (..., p, p)."""


def complex_columns(columns: Tensor) -> Tensor:
    """Return the two real-parameter columns (real and imaginary part) of every complex coefficient.

    Args:
        columns: Columns of complex coefficients, shape (..., m, q).

    Returns:
        ``[columns, i columns]``, shape (..., m, 2 q).
    """
    values = columns if columns.is_complex() else columns.to(torch.complex128)
    return torch.cat((values, 1j * values), dim=-1)


def fisher_matrix(columns: Tensor, noise_sd: Tensor | float) -> Tensor:
    """Return F = Re(D^H D) / noise_sd^2, real, shape (..., p, p); differentiable in both arguments.

    Args:
        columns: D, the derivative of the data after each real parameter, complex, shape (..., m, p).
        noise_sd: Standard deviation of the noise in one real component, shape () or (...).
    """
    stacked = torch.cat((columns.real, columns.imag), dim=-2)
    sd = torch.as_tensor(noise_sd, dtype=stacked.dtype, device=stacked.device)[..., None, None]
    return stacked.transpose(-2, -1) @ stacked / sd**2


def crlb(
    columns: Tensor,
    noise_sd: Tensor | float,
    *,
    prior_information: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Bounds:
    """Return the Cramer-Rao lower bounds; differentiable in `columns` and `noise_sd`, batched over leading axes.

    Args:
        columns: D, complex, shape (..., m, p): one column per real parameter, nuisances included.
        noise_sd: Standard deviation of the noise in one real component, shape () or (...).
        prior_information: 1/sd^2 of Gaussian priors on the parameters, shape (p,), 0 where there is none. This is
            the only regularisation there is.
        names: Names of the parameters, for the error message.

    Raises:
        InputError: If the Fisher matrix is singular, naming the parameters that cannot be told apart.
    """
    information = fisher_matrix(columns, noise_sd)
    if prior_information is not None:
        information = information + torch.diag_embed(prior_information.to(information.dtype))
    scale = torch.diagonal(information, dim1=-2, dim2=-1)
    _require_regular(information.detach(), names)
    root = scale.sqrt()
    scaled = information / (root[..., :, None] * root[..., None, :])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(scaled))
    covariance = inverse / (root[..., :, None] * root[..., None, :])
    sd = torch.diagonal(covariance, dim1=-2, dim2=-1).sqrt()
    return Bounds(sd=sd, covariance=covariance, correlation=covariance / (sd[..., :, None] * sd[..., None, :]))


def orthonormal_nuisance(nuisance: Tensor) -> Tensor:
    """Return an orthonormal real basis of the space of nuisance columns, for `without_nuisance`.

    Args:
        nuisance: Columns of real nuisance parameters, complex, shape (m, q) with q <= 2 m.

    Returns:
        Q, real, shape (2 m, q): real parts above imaginary parts.
    """
    q: Tensor = torch.linalg.qr(torch.cat((nuisance.real, nuisance.imag), dim=-2))[0]
    return q


def without_nuisance(columns: Tensor, q: Tensor) -> Tensor:
    """Remove from columns what fixed nuisance parameters could explain, complex, shape (..., m, p).

    The Fisher matrix of the result is the Schur complement: its bounds are those of the full model, nuisances
    included, at the cost of the small matrix alone.

    Args:
        columns: D of the parameters of interest, complex, shape (..., m, p).
        q: Basis of the nuisance columns from `orthonormal_nuisance`, shape (2 m, q).
    """
    stacked = torch.cat((columns.real, columns.imag), dim=-2)
    real, imag = (stacked - q @ (q.mT @ stacked)).chunk(2, dim=-2)
    return torch.complex(real, imag)


def _require_regular(information: Tensor, names: Sequence[str] | None) -> None:
    """Raise InputError naming the parameters in the null space of a singular Fisher matrix."""
    scale = torch.diagonal(information, dim1=-2, dim2=-1)
    labels = list(names) if names is not None else [f"parameter {i}" for i in range(scale.shape[-1])]
    if not bool(torch.isfinite(information).all()):
        raise InputError("The Fisher matrix holds NaN or infinity: the model columns or the noise are not finite.")
    if bool((scale <= 0).any()):
        silent = [labels[i] for i in range(len(labels)) if bool((scale[..., i] <= 0).any())]
        raise InputError(
            f"The data do not depend on {', '.join(silent)}: the Fisher matrix is singular. Leave it out, or give "
            "`prior_information`."
        )
    root = scale.sqrt()
    eigenvalues, vectors = torch.linalg.eigh(information / (root[..., :, None] * root[..., None, :]))
    worst = int(eigenvalues[..., 0].argmin())
    if float(eigenvalues[..., 0].reshape(-1)[worst]) > _SINGULAR:
        return
    weights = vectors[..., :, 0].reshape(-1, len(labels))[worst].abs()
    mixed = [label for label, weight in zip(labels, weights.tolist(), strict=True) if weight > 0.1]
    raise InputError(
        f"The data cannot tell apart {', '.join(mixed)}: the Fisher matrix is singular. Leave one out, widen the "
        "range, or give `prior_information`."
    )
