r"""Losses: pure functions of spectra, each one equation.

window:      L = ln((E_I + eta E_ref) / E_T), with E_T and E_I the energies of target and interferers in the window (the
             integral of |S|^2 over it), E_ref the target's energy there after a perfect pulse-acquire, eta the price of
             lost signal. Contamination is sqrt(E_I / E_T), signal sqrt(E_T / E_ref). Independent of the receiver phase.
area:        L = ln((sum |A_I|^2 + eta |A_ref|^2) / |A_T|^2), A the integral of the complex spectrum over the window.
spectrum:    L = (min over phi of |S_T - exp(i phi) W|^2 + E_I) / |W|^2, squares integrated over the window, W the
             wanted spectrum of the target; or with magnitudes, ((|S_T| - |W|)^2 + E_I) / |W|^2.
state:       L = 1 - b / b_max, b the overlap of the state at the echo with a product operator, b_max the largest that a
             unitary reaches from the thermal state (spin/bounds.py).
crlb:        L = mean over target and interferers of ln(sd_m), sd_m the Cramer-Rao bound of the amplitude of m with the
             other metabolites, macromolecules and a spline baseline as nuisances (model/information.py), at fixed noise
             and number of shots; or at equal scan time, ln(sd_m sqrt(TR) / (1 - exp(-TR / T1_m))).
correlation: L = r^2, r the correlation of the errors of the amplitudes of target and first interferer in that fit.
suppression: L = mean over the named metabolites of E_m / E_m,ref, energies in the fit range after the sequence and
             after a perfect pulse-acquire.

Over an ensemble each loss is a mean, a soft worst case or the worst case (`aggregate`).
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.model.information import crlb, orthonormal_nuisance, without_nuisance

Aggregate = Literal["mean", "soft_worst", "worst"]
"""How a loss of every member of an ensemble becomes one number."""
SpectrumMode = Literal["complex", "magnitude"]
"""How a spectrum is compared with the wanted one."""


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


def area_loss(target: Tensor, interferers: Sequence[Tensor], reference: Tensor, eta: float) -> Tensor:
    """Return ln((sum |A_I|^2 + eta |A_ref|^2) / |A_T|^2), shape (...).

    Args:
        target: |A_T|, integral of the target's complex spectrum over the window, shape (...).
        interferers: |A_I| of every interferer, each of shape (...).
        reference: |A_ref| of the target after pulse-acquire.
        eta: Price of lost signal.
    """
    squares = sum((area**2 for area in interferers), torch.zeros_like(target))
    return torch.log((squares + eta * reference**2) / target**2)


def spectrum_loss(
    target: Tensor, wanted: Tensor, interferers: Tensor, step_hz: float, mode: SpectrumMode = "complex"
) -> Tensor:
    """Return the squared distance of the spectra in the window from the wanted ones over that of nothing, shape (...).

    ``complex``: (|S_T|^2 + |W|^2 - 2 |<W, S_T>| + E_I) / |W|^2, the least-squares distance at the best receiver phase.
    ``magnitude``: (||S_T| - |W||^2 + E_I) / |W|^2. In both, 0 is the wanted spectrum without interferers, 1 no signal.

    Args:
        target: S_T, spectrum of the target, complex, shape (..., m).
        wanted: W, what it should be, complex, shape (m,) or (..., m).
        interferers: E_I, their energy in the window (wanted: 0), shape (...).
        step_hz: Step of the axis, Hz.
        mode: Which distance.
    """
    if mode not in get_args(SpectrumMode):
        raise InputError(f"A spectrum is compared by 'complex' or 'magnitude', but mode is {mode!r}.")
    scale = window_energy(wanted, step_hz)
    if mode == "complex":
        inner = (wanted.conj() * target).sum(-1) * step_hz
        distance = window_energy(target, step_hz) + scale - 2 * inner.abs()
    else:
        distance = ((target.abs() - wanted.abs()) ** 2).sum(-1) * step_hz
    return (distance + interferers) / scale


def state_overlap(amplitude: Tensor, detector: Tensor) -> Tensor:
    r"""Return b = \|sum_l c_l a_l\|, the overlap with a product operator at the best receiver phase, shape (...).

    Args:
        amplitude: a_l, line amplitudes of the spin group, complex, shape (..., n_lines).
        detector: c_l, from `state_target.overlap_detector`, complex, shape (n_lines,).
    """
    return (amplitude @ detector.to(amplitude.dtype)).abs()


def state_loss(overlap: Tensor, maximum: float) -> Tensor:
    """Return 1 - b / b_max, shape (...): 0 where the state is what a unitary can make of it at best.

    Args:
        overlap: b, shape (...).
        maximum: b_max, the overlap that a unitary reaches at most (`spin.bounds.overlap_bound`).
    """
    return 1 - overlap / maximum


def crlb_sd(
    columns: Tensor, n_wanted: int, nuisance: Tensor, noise_sd: float, names: Sequence[str] | None = None
) -> Tensor:
    """Return sd, the Cramer-Rao bounds of the wanted amplitudes, shape (..., n_wanted).

    Args:
        columns: Spectra of the metabolites as columns, the wanted ones first, complex, shape (..., m, p). Of several
            shots: one below the other, each over the square root of their number, so that they share the time of one.
        n_wanted: Number of wanted metabolites.
        nuisance: Fixed nuisance columns (macromolecules, spline baseline; real parameters), complex, shape (m, q).
        noise_sd: Noise of one real component of the spectrum.
        names: Names of the columns, for messages.
    """
    q = orthonormal_nuisance(nuisance)
    return crlb(without_nuisance(columns, q), noise_sd, names=names).sd[..., :n_wanted]


def crlb_loss(sd: Tensor) -> Tensor:
    """Return the mean of ln(sd) over the wanted amplitudes, shape (...), of bounds of shape (..., n_wanted)."""
    return torch.log(sd).mean(-1)


def saturation(tr_s: Tensor | float, t1_s: Tensor) -> Tensor:
    """Return 1 - exp(-TR / T1), the signal left in the steady state of 90-degree excitations, shape of `t1_s`.

    Echo and editing pulses are not counted: TE is taken as short against T1.
    """
    return 1 - torch.exp(-tr_s / t1_s)


def scan_time_sd(
    columns: Tensor,
    n_wanted: int,
    nuisance: Tensor,
    noise_sd: float,
    *,
    tr_s: Tensor | float,
    t1_s: Tensor,
    names: Sequence[str] | None = None,
) -> Tensor:
    """Return sd_m sqrt(TR) / (1 - exp(-TR / T1_m)), the bounds after one second of scan, shape (..., n_wanted).

    1/TR shots in a second reduce the noise by sqrt(TR), TR in s; shots saturate every metabolite by its own T1.

    Args:
        columns: As of `crlb_sd`, relaxed in full.
        n_wanted: Number of wanted metabolites.
        nuisance: As of `crlb_sd`.
        noise_sd: Noise of one real component of the spectrum of one shot.
        tr_s: Repetition time TR, s.
        t1_s: T1 of every column, s, shape (p,).
        names: Names of the columns, for messages.
    """
    per_shot = crlb_sd(columns * saturation(tr_s, t1_s), n_wanted, nuisance, noise_sd, names)
    return per_shot * torch.as_tensor(tr_s, dtype=per_shot.dtype).sqrt()


def correlation_loss(columns: Tensor, nuisance: Tensor, names: Sequence[str] | None = None) -> Tensor:
    """Return r^2 of the errors of the first two amplitudes, 0 to 1, shape (...).

    Args:
        columns: Spectra of the metabolites as columns, target and first interferer first, complex, shape (..., m, p).
        nuisance: As of `crlb_loss`.
        names: Names of the columns, for messages.
    """
    q = orthonormal_nuisance(nuisance)
    return crlb(without_nuisance(columns, q), 1.0, names=names).correlation[..., 0, 1] ** 2


def suppression_loss(energy: Tensor, reference_energy: Tensor) -> Tensor:
    """Return the mean of E_m / E_m,ref over metabolites, shape (...): 0 where all are gone, 1 where none is touched.

    Args:
        energy: E_m, the integral of |S_m|^2 over the fit range, shape (..., k).
        reference_energy: E_m,ref after a perfect pulse-acquire, shape (k,) or (..., k).
    """
    return (energy / reference_energy).mean(-1)


def aggregate(values: Tensor, weight: Tensor, how: Aggregate = "mean", sharpness: float = 10.0) -> Tensor:
    """Return one number of the losses of the members of an ensemble, shape (...).

    ``mean``: sum_e w_e L_e. ``soft_worst``: ln(sum_e w_e exp(k L_e)) / k, between mean and worst case and no more than
    -ln(w_e) / k below the worst member e. ``worst``: max_e L_e over members with a weight.

    Args:
        values: L_e, shape (..., E).
        weight: w_e, adding up to 1, shape (E,).
        how: Which of the three.
        sharpness: k of the soft worst case, greater than 0.
    """
    if how == "mean":
        mean: Tensor = torch.tensordot(values, weight.to(values.dtype), 1)
        return mean
    if how == "soft_worst":
        return torch.logsumexp(sharpness * values + weight.to(values.dtype).log(), -1) / sharpness
    if how == "worst":
        return values[..., weight > 0].amax(-1)
    raise InputError(f"An ensemble is summed up by {', '.join(get_args(Aggregate))}, but aggregate is {how!r}.")
