"""From states to signals: transition lines and FIDs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.spin.hamiltonian import GroupModel


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


def fid(spectrum_lines: Lines, n_samples: int, dwell_s: float, *, first_sample_s: float = 0.0) -> Tensor:
    """Return the undamped FID, complex, shape (..., n_samples).

    Args:
        spectrum_lines: The lines, with t = 0 at their time zero.
        n_samples: Number of samples.
        dwell_s: Dwell time, s.
        first_sample_s: Time of the first sample after time zero, s.
    """
    t_s = first_sample_s + torch.arange(n_samples, dtype=torch.float64) * dwell_s
    turns = torch.exp(2j * math.pi * spectrum_lines.frequency_hz[:, None] * t_s)
    return spectrum_lines.amplitude @ turns
