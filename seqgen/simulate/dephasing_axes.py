r"""Axes along which a box-shaped sample dephases: positions, and their weights under a gradient moment.

Positions are Gauss points in short panels, dense enough for U(x), which the slice gradients bound in bandwidth, not the
crushers; the exponential is integrated exactly between them: with P_l the Legendre polynomials and h the length of a
panel at c,

    w_j(K) = (h/2) g_j exp(-2 pi i K c) sum_l (2 l + 1) (-i)^l j_l(pi K h) P_l(xi_j),

so no crusher is too strong for them. Source: Bakhvalov, Vasil'eva, USSR Comput Math Math Phys 8:241 (1968) (Legendre
rule for oscillating integrands).
"""

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import eval_legendre, spherical_jn
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.slices import slice_gradient, slice_of
from seqgen.spin.hamiltonian import GroupModel
from seqgen.timeline import Interval

MAX_POSITIONS = 4000
"""Most positions along one axis."""
_PANEL_POINTS = 12


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleAxis:
    """Positions along one axis of the voxel."""

    direction: Tensor
    """Unit vector, shape (3,)."""
    positions_m: Tensor
    """Shape (P,)."""
    box: tuple[float, float, int] | None
    """Lower end and length of the sample, m, and number of panels; None: explicit positions of equal weight."""
    unit_m: float
    """Length that counts as 1: the (thinnest) slice thickness, or the sample's length."""

    def weights(self, moment_per_m: float) -> Tensor:
        """Return the weight of every position under a moment along this axis, complex128, shape (P,)."""
        if self.box is None:
            phase = torch.exp(-2j * math.pi * moment_per_m * self.positions_m)
            return phase / self.positions_m.shape[0]
        low, length, n_panels = self.box
        if length == 0:
            return torch.ones(1, dtype=torch.complex128)
        n_points, h = self.positions_m.shape[0] // n_panels, length / n_panels
        xi, gauss = np.polynomial.legendre.leggauss(n_points)
        degree = np.arange(n_points)[:, None]
        bessel = spherical_jn(degree, math.pi * abs(moment_per_m) * h)
        within = (h / 2) * gauss * ((2 * degree + 1) * (-1j) ** degree * bessel * eval_legendre(degree, xi)).sum(0)
        centres = low + (np.arange(n_panels) + 0.5) * h
        result = (np.exp(-2j * np.pi * abs(moment_per_m) * centres)[:, None] * within).reshape(-1) / self.unit_m
        return torch.from_numpy(result if moment_per_m >= 0 else result.conj())

    def upper_edge(self, moment_per_m: float) -> complex:
        """Return what the upper end of the box adds to the integral of exp(-2 pi i K x); 0 below half a cycle."""
        if self.box is None or abs(moment_per_m) * self.box[1] <= 0.5:
            return 0.0
        turns = -2j * math.pi * moment_per_m
        return cmath.exp(turns * (self.box[0] + self.box[1])) / (turns * self.unit_m)


def with_worst_edge(state: Tensor, edge: Tensor) -> Tensor:
    """Return a state whose part `edge` is turned so that it adds up with the rest."""
    rest = state - edge
    overlap = torch.vdot(edge.reshape(-1), rest.reshape(-1))
    return state if overlap == 0 else rest + edge * (overlap / overlap.abs())


def sample_axes(
    groups: Sequence[Sequence[Interval]],
    model: GroupModel,
    extent_m: tuple[float, float, float],
    positions_per_cycle: float,
    positions_m: Tensor | None,
) -> tuple[list[SampleAxis], list[int | None]]:
    """Return three perpendicular axes, those that pulses select first, and the axis of every group of pulses.

    Args:
        groups: Pulses in turn along one axis, or one that selects none (`localise.groups_of_one_axis`).
        model: The spin group; the box is centred on the slice of its mean offset.
        extent_m: Length of the sample along x, y, z, m.
        positions_per_cycle: Positions in the length over which the slice gradient winds one cycle during its pulse, the
            strongest of the group's.
        positions_m: Explicit positions along every axis in place of the box, m.

    Raises:
        InputError: If an axis needs more than `MAX_POSITIONS` positions.
    """
    axes: list[SampleAxis] = []
    axis_of: list[int | None] = []
    for group in groups:
        selective = [interval for interval in group if slice_gradient(interval) is not None]
        axis_of.append(len(axes) if selective else None)
        if selective:
            axes.append(_slice_axis(selective, model, extent_m, positions_per_cycle, positions_m))
    for direction in _complement([axis.direction for axis in axes]):
        length = _extent(direction, extent_m)
        axes.append(_axis(direction, (-0.5 * length, length, 1), 1, length, positions_m))
    return axes, axis_of


def _slice_axis(
    selective: Sequence[Interval],
    model: GroupModel,
    extent_m: tuple[float, float, float],
    positions_per_cycle: float,
    positions_m: Tensor | None,
) -> SampleAxis:
    """Return the axis of pulses that select along one line, centred on the middle of their slices."""
    mean_hz = float(model.offset_hz[model.pulsed > 0].mean())
    slices = [found for interval in selective if (found := slice_of(interval, offset_hz=mean_hz)) is not None]
    direction = slices[0].direction
    cycles_per_m = max(
        found.gradient_hz_per_m * interval.duration_s for found, interval in zip(slices, selective, strict=True)
    )
    centre_m = sum(found.centre_m * float(found.direction @ direction) for found in slices) / len(slices)
    length = _extent(direction, extent_m)
    n_panels = max(1, math.ceil(length * cycles_per_m * positions_per_cycle / _PANEL_POINTS))
    if positions_m is None and n_panels * _PANEL_POINTS > MAX_POSITIONS:
        raise InputError(
            f"The sample of {length:.4g} m along the axis of pulse {selective[0].name or selective[0].use!r} needs "
            f"{n_panels * _PANEL_POINTS} positions ({positions_per_cycle:g} for each of the {cycles_per_m:.4g} "
            f"cycles/m of its slice gradient); the limit is {MAX_POSITIONS}. Shorten extent_m or lower "
            "positions_per_cycle."
        )
    points = 1 if length == 0 else _PANEL_POINTS
    box = (centre_m - 0.5 * length, length, n_panels)
    # One thickness for all spins, as in `slices.slice_axis`: it is the unit of their signals.
    at_carrier = [slice_of(interval, offset_hz=interval.carrier_hz) for interval in selective]
    unit_m = min(found.thickness_m for found in at_carrier if found is not None)
    return _axis(direction, box, points, unit_m, positions_m)


def _axis(
    direction: Tensor, box: tuple[float, float, int], n_points: int, unit_m: float, positions_m: Tensor | None
) -> SampleAxis:
    """Return an axis with `n_points` Gauss points in every panel of a box, or with explicit positions."""
    if positions_m is not None:
        return SampleAxis(direction=direction, positions_m=positions_m.to(torch.float64), box=None, unit_m=unit_m)
    low, length, n_panels = box
    xi, _ = np.polynomial.legendre.leggauss(n_points)
    h = length / n_panels
    positions = (low + (np.arange(n_panels)[:, None] + 0.5 + 0.5 * xi) * h).reshape(-1)
    return SampleAxis(direction=direction, positions_m=torch.from_numpy(positions), box=box, unit_m=unit_m)


def _extent(direction: Tensor, extent_m: tuple[float, float, float]) -> float:
    """Return the sample's length along the gradient axis nearest to a direction, m."""
    return float(extent_m[int(direction.abs().argmax())])


def _complement(directions: list[Tensor]) -> list[Tensor]:
    """Return unit vectors that complete perpendicular directions to three, as near to gradient axes as they can be."""
    found: list[Tensor] = []
    for _ in range(3 - len(directions)):
        known = torch.stack([*directions, *found]) if directions or found else torch.zeros(1, 3, dtype=torch.float64)
        left = torch.eye(3, dtype=torch.float64) - known.mT @ known
        rest = left[int(left.norm(dim=1).argmax())]
        found.append(rest / rest.norm())
    return found
