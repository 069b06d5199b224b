"""Ensembles: members that a simulation runs side by side, with weights."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ensemble:
    """Members of an ensemble: what differs between them, one number of each per member."""

    b0_hz: Tensor
    """Field offset while pulses play, Hz, shape (E,). Detected frequencies stay: the scanner follows it."""
    b1_scale: Tensor
    """Relative B1, shape (E,)."""
    linewidth_hz: Tensor
    """Lorentzian width that a member has beyond that of all, full width at half maximum, Hz, shape (E,)."""
    drift_hz: Tensor
    """Frequency drift: offset while pulses play and while the receiver is open, Hz, shape (E,)."""
    weight: Tensor
    """Weight of each member, shape (E,); they add up to 1."""

    def __post_init__(self) -> None:
        shapes = {tuple(value.shape) for value in (self.b1_scale, self.linewidth_hz, self.drift_hz, self.weight)}
        if self.b0_hz.ndim != 1 or shapes != {tuple(self.b0_hz.shape)} or self.size == 0:
            raise InputError("An ensemble needs one value of everything per member: tensors of one shape (E,), E >= 1.")
        fields = (self.b0_hz, self.b1_scale, self.linewidth_hz, self.drift_hz, self.weight)
        if not all(bool(torch.isfinite(value.detach()).all()) for value in fields):
            raise InputError("Everything of an ensemble must be finite, weights with a sum above 0 included.")
        total, least = float(self.weight.detach().sum()), float(self.weight.detach().min())
        if abs(total - 1) > 1e-9 or least < 0:
            raise InputError(
                f"Weights of an ensemble must be 0 or more and add up to 1, but add up to {total:g} and the smallest "
                f"is {least:g}. Divide them by their sum."
            )
        if float(self.linewidth_hz.detach().min()) < 0 or float(self.b1_scale.detach().min()) < 0:
            raise InputError("Linewidths and B1 scales of an ensemble must be 0 or more.")

    @property
    def size(self) -> int:
        """Number of members."""
        return int(self.b0_hz.shape[0])

    @property
    def offset_hz(self) -> Tensor:
        """Offset of every spin while pulses play, Hz, shape (E,)."""
        return self.b0_hz + self.drift_hz

    def mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean over the members of values of shape (E, ...)."""
        mean: Tensor = torch.tensordot(self.weight.to(values.dtype), values, 1)
        return mean


def ensemble(
    b0_offsets_hz: Sequence[float] = (0.0,),
    b1_scales: Sequence[float] = (1.0,),
    *,
    linewidths_hz: Sequence[float] = (0.0,),
    drifts_hz: Sequence[float] = (0.0,),
    weights: Sequence[float] | None = None,
) -> Ensemble:
    """Return every combination of field offsets, B1 scales, linewidths and drifts, the last one varying fastest.

    Args:
        b0_offsets_hz: Field offsets, Hz.
        b1_scales: Relative B1.
        linewidths_hz: Additional Lorentzian widths, Hz.
        drifts_hz: Frequency drifts, Hz.
        weights: One per combination, in any scale (they are divided by their sum); default all alike.

    Raises:
        InputError: If a list is empty, or the number of weights is not that of the members.
    """
    members = torch.tensor(
        list(itertools.product(b0_offsets_hz, b1_scales, linewidths_hz, drifts_hz)), dtype=torch.float64
    ).reshape(-1, 4)
    size = members.shape[0]
    if weights is not None and len(weights) != size:
        raise InputError(f"An ensemble of {size} members needs as many weights, but got {len(weights)}.")
    weight = torch.ones(size, dtype=torch.float64) if weights is None else torch.tensor(weights, dtype=torch.float64)
    b0, b1, linewidth, drift = members.unbind(1)
    return Ensemble(b0_hz=b0, b1_scale=b1, linewidth_hz=linewidth, drift_hz=drift, weight=weight / weight.sum())
