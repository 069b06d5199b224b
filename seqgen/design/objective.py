r"""Losses: pure functions of spectra, each one equation.

window:  L = ln((E_I + eta E_ref) / E_T), with E_T and E_I the energies of target and interferers in the window (the
         integral of |S|^2 over it), E_ref the target's energy there after a perfect pulse-acquire, eta the price of
         lost signal. Contamination is sqrt(E_I / E_T), signal sqrt(E_T / E_ref). Independent of the receiver phase.
crlb:    L = mean over target and interferers of ln(sd_m), sd_m the Cramer-Rao bound of the amplitude of m with the
         other metabolites and a spline baseline as nuisances (model/information.py), at fixed noise and number of
         shots.
"""

import torch
from torch import Tensor

from seqgen.model.information import crlb, orthonormal_nuisance, without_nuisance


def window_energy(spectrum: Tensor, step_hz: float) -> Tensor:
    """Return the integral of |S|^2 over the axis, shape (...), of spectra of shape (..., m)."""
    return (spectrum.real**2 + spectrum.imag**2).sum(-1) * step_hz


def window_loss(target: Tensor, interferers: Tensor, reference_energy: Tensor, eta: float) -> Tensor:
    """Return ln((E_I + eta E_ref) / E_T), shape (...).

    Args:
        target: E_T, shape (...).
        interferers: E_I, summed over the interferers, shape (...).
        reference_energy: E_ref of the target after pulse-acquire.
        eta: Price of lost signal.
    """
    return torch.log((interferers + eta * reference_energy) / target)


def crlb_loss(columns: Tensor, n_wanted: int, nuisance: Tensor, noise_sd: float) -> Tensor:
    """Return the mean of ln(sd) over the wanted amplitudes, shape (...).

    Args:
        columns: Spectra of the metabolites as columns, the wanted ones first, complex, shape (..., m, p).
        n_wanted: Number of wanted metabolites.
        nuisance: Fixed nuisance columns (spline baseline, real parameters), complex, shape (m, q).
        noise_sd: Noise of one real component of the spectrum.
    """
    q = orthonormal_nuisance(nuisance)
    return torch.log(crlb(without_nuisance(columns, q), noise_sd).sd[..., :n_wanted]).mean(-1)
