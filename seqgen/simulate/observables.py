r"""Numbers read off a spectrum as operators on the state, and how large unitary evolution can make them.

The spectrum of Lorentzian lines, S(f) = sum_l w_l rho_l R_l(f) with rho_l the detected element of each transition
(order -1), is linear in the state. So is any real number that is linear in S: Re Tr(rho A) with A_ji = w_l r_l, for
which Sorensen's bound of the Hermitian part Q = (A + A^H)/2 holds (`seqgen.spin.bounds`). All matrices are in the
eigenbasis of the free Hamiltonian, like `GroupModel.initial_state`; the signal is 1 per proton along x, so heights are
in 1/Hz and areas without unit (1/2 per proton). The receiver multiplies the signal by exp(-i phase).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.model.lineshape import lorentz_response
from seqgen.simulate.acquire import concatenate, pulse_acquire_lines, spectrum
from seqgen.spin.bounds import Bound, energy_bound, expectation_bound
from seqgen.spin.hamiltonian import GroupModel


def peak_height_operator(
    model: GroupModel, frequency_hz: float, fwhm_hz: float, *, receiver_phase_rad: float = 0.0
) -> Tensor:
    """Return Q with Tr(rho Q) = Re S(frequency), the height of the spectrum, 1/Hz, Hermitian, shape (d, d).

    Args:
        model: The spin group at its field.
        frequency_hz: Where the height is read, Hz above the spectrometer frequency.
        fwhm_hz: Lorentzian full width at half maximum, Hz.
        receiver_phase_rad: Phase of the receiver, rad.
    """
    axis = torch.tensor([frequency_hz], dtype=torch.float64)
    response = lorentz_response(model.transition_hz, axis, fwhm_hz)[:, 0]
    return _operator(model, response, receiver_phase_rad)


def window_area_operator(
    model: GroupModel, window_hz: tuple[float, float], fwhm_hz: float, *, receiver_phase_rad: float = 0.0
) -> Tensor:
    """Return Q with Tr(rho Q) = integral of Re S over a window, Hermitian, shape (d, d).

    Args:
        model: The spin group at its field.
        window_hz: Low and high edge, Hz above the spectrometer frequency.
        fwhm_hz: Lorentzian full width at half maximum, Hz.
        receiver_phase_rad: Phase of the receiver, rad.
    """
    _require_rising(window_hz)
    low, high = (_log_pole(model, edge, fwhm_hz) for edge in window_hz)
    return _operator(model, (high - low) / (2j * math.pi), receiver_phase_rad)


def window_energy_matrix(model: GroupModel, window_hz: tuple[float, float], fwhm_hz: float) -> Tensor:
    r"""Return M with v^H M v = integral of |S|^2 over a window, v the detected elements, shape (n_lines, n_lines).

    With p = pi fwhm + 2 pi i (f - f_l) and p' that of line l', the integral of 1/(conj(p) p') over f is
    [ln p' - ln conj(p)] / (2 pi i (2 pi fwhm + 2 pi i (f_l - f_l'))) between the edges.

    Args:
        model: The spin group at its field.
        window_hz: Low and high edge, Hz above the spectrometer frequency.
        fwhm_hz: Lorentzian full width at half maximum, Hz.
    """
    _require_rising(window_hz)
    low, high = (_log_pole(model, edge, fwhm_hz) for edge in window_hz)
    gained = (high - low)[None, :] - (high - low).conj()[:, None]
    between_hz = model.transition_hz[:, None] - model.transition_hz[None, :]
    poles = torch.complex(torch.full_like(between_hz, 2 * math.pi * fwhm_hz), 2 * math.pi * between_hz)
    integral = gained / (2j * math.pi * poles)
    weight = model.transition_weight
    energy = integral * weight[:, None] * weight[None, :]
    return (energy + energy.mH) / 2


def expectation(rho: Tensor, q: Tensor) -> Tensor:
    """Return Re Tr(rho Q) of Hermitian states, shape (...): what the spectrum shows.

    Args:
        rho: States in the basis of `q`, shape (..., d, d). Give the whole state: with the received order -1 alone,
            as `play` returns it, the result is half as large.
        q: Hermitian operator, shape (d, d).
    """
    return (rho * q.mT).sum((-2, -1)).real


def window_energy(rho: Tensor, model: GroupModel, matrix: Tensor) -> Tensor:
    """Return v^H M v of states in the eigenbasis, real, shape (...); the order -1 part is enough.

    Args:
        rho: States, shape (..., d, d).
        model: The spin group at its field.
        matrix: M, from `window_energy_matrix`.
    """
    v = rho[..., model.transition[:, 0], model.transition[:, 1]].to(matrix.dtype)
    return (v.conj() * (v @ matrix.mT)).sum(-1).real


def peak_height_bound(model: GroupModel, frequency_hz: float, fwhm_hz: float, *, observable: str = "") -> Bound:
    """Return the largest height of the spectrum at one frequency from the thermal state, 1/Hz; any receiver phase.

    Arguments as of `peak_height_operator`; `observable` names it in reports.
    """
    q = peak_height_operator(model, frequency_hz, fwhm_hz)
    return expectation_bound(q, model.initial_state, observable=observable or f"peak height at {frequency_hz:.1f} Hz")


def window_area_bound(
    model: GroupModel, window_hz: tuple[float, float], fwhm_hz: float, *, observable: str = ""
) -> Bound:
    """Return the largest area of Re S in a window from the thermal state; the same for any receiver phase.

    Arguments as of `window_area_operator`; `observable` names it in reports.
    """
    q = window_area_operator(model, window_hz, fwhm_hz)
    name = observable or f"area from {window_hz[0]:.1f} to {window_hz[1]:.1f} Hz"
    return expectation_bound(q, model.initial_state, observable=name)


def window_energy_bound(
    model: GroupModel, window_hz: tuple[float, float], fwhm_hz: float, *, observable: str = ""
) -> Bound:
    """Return an upper bound, not necessarily reachable, of the integral of |S|^2 over a window, 1/Hz.

    Arguments as of `window_energy_matrix`; `observable` names it in reports.
    """
    matrix = window_energy_matrix(model, window_hz, fwhm_hz)
    name = observable or f"energy from {window_hz[0]:.1f} to {window_hz[1]:.1f} Hz"
    return energy_bound(matrix, model.initial_state, observable=name)


def window_signal_bound(models: Sequence[GroupModel], window_hz: tuple[float, float], fwhm_hz: float) -> Bound:
    """Return an upper bound of a molecule's window signal relative to a perfect pulse-acquire, whatever the sequence.

    Signal is the root of the window energy; those of independent groups add up at most.

    Args:
        models: All groups of the molecule (`molecule_models`).
        window_hz: Low and high edge, Hz above the spectrometer frequency.
        fwhm_hz: Lorentzian full width at half maximum, Hz.
    """
    most = sum(math.sqrt(window_energy_bound(model, window_hz, fwhm_hz).value or 0.0) for model in models)
    axis_hz = torch.arange(*window_hz, fwhm_hz / 20, dtype=torch.float64)
    transverse = concatenate([pulse_acquire_lines(model) for model in models])
    energy = float((spectrum(transverse, axis_hz, fwhm_lorentz_hz=fwhm_hz).abs() ** 2).sum()) * fwhm_hz / 20
    return Bound(observable="window signal relative to pulse-acquire", kind="energy", value=most / math.sqrt(energy))


def reachable_window_energy(
    model: GroupModel, window_hz: tuple[float, float], fwhm_hz: float, *, starts: int = 4, steps: int = 200
) -> float:
    """Return a window energy that a unitary does reach from the thermal state: the best found, not a bound.

    Spectrum and state in turn: of the states with the eigenvalues of the thermal one, take that whose spectrum overlaps
    most with the current spectrum in the window (Sorensen's unitary for that linear observable). The energy never
    falls; it ends in a local maximum. With `window_energy_bound` it encloses the true maximum.

    Args:
        model: The spin group at its field.
        window_hz: Low and high edge, Hz above the spectrometer frequency.
        fwhm_hz: Lorentzian full width at half maximum, Hz.
        starts: Eigenvectors of M to start from, largest eigenvalue first.
        steps: Most steps of each start.
    """
    matrix = window_energy_matrix(model, window_hz, fwhm_hz)
    levels = torch.linalg.eigvalsh(model.initial_state)
    _, vectors = torch.linalg.eigh(matrix)
    best = 0.0
    for start in range(1, min(starts, matrix.shape[0]) + 1):
        direction, energy = vectors[:, -start], 0.0
        for _ in range(steps):
            _, of_q = torch.linalg.eigh(_hermitian(model, (matrix @ direction).conj()))
            rho = (of_q * levels.to(of_q.dtype)) @ of_q.mH
            direction = rho[model.transition[:, 0], model.transition[:, 1]]
            before, energy = energy, float(window_energy(rho, model, matrix))
            if energy - before <= 1e-9 * energy:
                break
        best = max(best, energy)
    return best


def _operator(model: GroupModel, response: Tensor, receiver_phase_rad: float) -> Tensor:
    """Return the Hermitian part of A_ji = weight response exp(-i phase)."""
    phase = complex(math.cos(receiver_phase_rad), -math.sin(receiver_phase_rad))
    return _hermitian(model, model.transition_weight * response * phase)


def _hermitian(model: GroupModel, values: Tensor) -> Tensor:
    """Return (A + A^H)/2 with `values` at the transposed places (j, i) of the transitions."""
    a = torch.zeros_like(model.initial_state)
    a[model.transition[:, 1], model.transition[:, 0]] = values.to(a.dtype)
    return (a + a.mH) / 2


def _log_pole(model: GroupModel, edge_hz: float, fwhm_hz: float) -> Tensor:
    """Return ln(pi fwhm + 2 pi i (edge - f0)) of every line: the real part of the argument is positive, no branch."""
    pole = 1.0 / lorentz_response(model.transition_hz, torch.tensor([edge_hz], dtype=torch.float64), fwhm_hz)[:, 0]
    return torch.log(pole)


def _require_rising(window_hz: tuple[float, float]) -> None:
    """Refuse a window whose edges do not rise."""
    if not window_hz[0] < window_hz[1]:
        raise InputError(
            f"window_hz must rise from low to high edge, but is {window_hz[0]} to {window_hz[1]} Hz. Swap the two."
        )
