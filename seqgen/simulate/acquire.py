"""From states to signals: transition lines and FIDs."""

import cmath
import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.model.lineshape import lorentz_response, voigt_response
from seqgen.simulate.ensemble import Ensemble
from seqgen.spin.hamiltonian import GroupModel

_SAMPLES_PER_BLOCK = 64
"""Samples of an FID that share one set of phase factors."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lines:
    """Transitions of a molecule or group: FID(t) = sum_l amplitude_l exp(2 pi i frequency_l t)."""

    amplitude: Tensor
    """Complex, shape (..., n_lines); one proton along x gives 1 in all. Receiver phase zero: +x real and positive."""
    frequency_hz: Tensor
    """Hz above the spectrometer frequency, shape (n_lines,)."""


def lines(rho: Tensor, model: GroupModel) -> Lines:
    """Return the lines of states in the eigenbasis, shape (..., d, d): signal = Tr(rho F+), normalised per proton."""
    i, j = model.transition[:, 0], model.transition[:, 1]
    return Lines(amplitude=rho[..., i, j] * model.transition_weight, frequency_hz=model.transition_hz)


def pulse_acquire_lines(model: GroupModel) -> Lines:
    """Return the lines right after an ideal +y 90-degree pulse on the thermal state, sum Ix: real, all in phase."""
    # Where I+ has the element w, sum Ix has w / 2; transition_weight is w * multiplier * 4 / d.
    element = model.transition_weight * model.dimension / (8 * model.group.multiplier)
    amplitude = (element * model.transition_weight).to(model.initial_state.dtype)
    return Lines(amplitude=amplitude, frequency_hz=model.transition_hz)


def concatenate(parts: list[Lines]) -> Lines:
    """Return the lines of several groups as one molecule."""
    return Lines(
        amplitude=torch.cat([part.amplitude for part in parts], -1),
        frequency_hz=torch.cat([part.frequency_hz for part in parts]),
    )


def fid(
    spectrum_lines: Lines,
    n_samples: int,
    dwell_s: float,
    *,
    first_sample_s: float = 0.0,
    receiver_phase_rad: float = 0.0,
    members: Ensemble | None = None,
) -> Tensor:
    """Return the FID, undamped but for what members differ in, complex, shape (..., n_samples).

    Args:
        spectrum_lines: The lines, with t = 0 at their time zero.
        n_samples: Number of samples.
        dwell_s: Dwell time, s.
        first_sample_s: Time of the first sample after time zero, s.
        receiver_phase_rad: The signal is multiplied by exp(-i receiver_phase_rad).
        members: The ensemble of the lines, shape (E, n_lines): drift and linewidth of each member are then put on.
    """
    frequency_hz = spectrum_lines.frequency_hz
    count = partial(torch.arange, dtype=frequency_hz.dtype, device=frequency_hz.device)
    # Phases of sample 64 i + j are those of 64 i times those of j: a matrix product instead of n_samples exponentials.
    n_blocks = -(-n_samples // _SAMPLES_PER_BLOCK)
    begin_s = first_sample_s + count(n_blocks) * (_SAMPLES_PER_BLOCK * dwell_s)
    within_s = count(_SAMPLES_PER_BLOCK) * dwell_s
    coarse = torch.exp(2j * math.pi * begin_s[:, None] * frequency_hz)
    fine = torch.exp(2j * math.pi * frequency_hz[:, None] * within_s)
    amplitude = spectrum_lines.amplitude * cmath.exp(-1j * receiver_phase_rad)
    samples = (amplitude[..., None, :] * coarse) @ fine
    signal = samples.reshape(*amplitude.shape[:-1], n_blocks * _SAMPLES_PER_BLOCK)[..., :n_samples]
    if members is None:
        return signal
    _require_members(amplitude, members)
    t_s = first_sample_s + count(n_samples) * dwell_s
    return signal * torch.exp(
        2j * math.pi * members.drift_hz[:, None] * t_s - math.pi * members.linewidth_hz[:, None] * t_s.abs()
    )


def spectrum(
    spectrum_lines: Lines,
    axis_hz: Tensor,
    *,
    fwhm_lorentz_hz: float = 0.0,
    fwhm_gauss_hz: float = 0.0,
    receiver_phase_rad: float = 0.0,
    first_sample_s: float = 0.0,
    members: Ensemble | None = None,
) -> Tensor:
    """Return the spectrum of lines with Lorentzian, Gaussian or Voigt shape (`model.lineshape`), no FFT.

    Args:
        spectrum_lines: The lines, amplitude of shape (..., n_lines), or (E, n_lines) with members.
        axis_hz: Frequencies, Hz above the spectrometer frequency, shape (m,).
        fwhm_lorentz_hz: Lorentzian full width at half maximum, Hz; each member adds its own.
        fwhm_gauss_hz: Gaussian full width at half maximum, Hz; 0: pure Lorentzian lines.
        receiver_phase_rad: The signal is multiplied by exp(-i receiver_phase_rad).
        first_sample_s: Time after time zero at which the FID begins, s: by then lines have turned, and what members add
            to the linewidth has decayed, as in `fid`; the widths given here count from the first sample.
        members: The ensemble of the lines: drift moves and linewidth broadens each member's.

    Returns:
        Complex, shape (..., m): the integral of the FID from its first sample, absorption real and positive. Weighted
        means over members are `members.mean`. Differentiable in the amplitudes.

    Raises:
        InputError: If a line has no width at all.
    """
    start = cmath.exp(-1j * receiver_phase_rad) * torch.exp(2j * math.pi * spectrum_lines.frequency_hz * first_sample_s)
    amplitude = spectrum_lines.amplitude * start

    def response(drift_hz: float, linewidth_hz: float) -> Tensor:
        frequency_hz = spectrum_lines.frequency_hz + drift_hz
        lorentz_hz = fwhm_lorentz_hz + linewidth_hz
        if fwhm_gauss_hz == 0:
            return lorentz_response(frequency_hz, axis_hz, lorentz_hz)
        return voigt_response(frequency_hz, axis_hz, lorentz_hz, fwhm_gauss_hz)

    if members is None:
        return amplitude @ response(0.0, 0.0).to(amplitude.dtype)
    _require_members(amplitude, members)
    kinds, kind = torch.unique(torch.stack([members.drift_hz, members.linewidth_hz], 1), dim=0, return_inverse=True)
    parts = [
        (
            amplitude[kind == k]
            * cmath.exp(2j * math.pi * drift * first_sample_s - math.pi * width * abs(first_sample_s))
        )
        @ response(drift, width).to(amplitude.dtype)
        for k, (drift, width) in enumerate(kinds.tolist())
    ]
    order = torch.argsort(torch.argsort(kind, stable=True), stable=True)
    return torch.cat(parts)[order]


def _require_members(amplitude: Tensor, members: Ensemble) -> None:
    """Refuse lines that are not those of an ensemble."""
    if amplitude.ndim != 2 or amplitude.shape[0] != members.size:
        raise InputError(
            f"Lines of an ensemble of {members.size} members need amplitudes of shape ({members.size}, n_lines), but "
            f"have {tuple(amplitude.shape)}. Give the members that the lines were simulated with."
        )
