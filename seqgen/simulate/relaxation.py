r"""Relaxation spin by spin while a long pulse plays.

Every spin relaxes on its own (fluctuating local fields without correlation between spins): in the product-operator
basis a term decays with the sum of its spins' rates, 1/T2 for each Ix or Iy and 1/T1 for each Iz in it. One spin's step
of length h is the map

    rho -> E2 (rho without populations of that spin) + populations towards their mean by E1,

E1 = exp(-h/T1), E2 = exp(-h/T2). Steps alternate with the unitary propagators of short pieces of the pulse, half a step
at both ends (Strang: second order in h). Longitudinal magnetisation does not grow back here: what recovers during a
pulse has lost the phase of the excitation, and the phase cycle or the crushers take it out.
Source: Ernst, Bodenhausen, Wokaun, Principles of NMR in one and two dimensions, sec. 2.3 (1987).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.spin.hamiltonian import GroupModel
from seqgen.spin.system import Relaxation

RELAXATION_STEP_S = 1e-3
"""Longest time between two steps of relaxation within a pulse."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpinRelaxation:
    """Relaxation times spin by spin."""

    t1_s: tuple[float, ...]
    """Longitudinal relaxation times, s, one per spin."""
    t2_s: tuple[float, ...]
    """Transverse relaxation times, s, one per spin, each at most 2 T1."""

    def __post_init__(self) -> None:
        if len(self.t1_s) != len(self.t2_s):
            raise InputError(
                f"Relaxation needs one T1 and one T2 per spin, but has {len(self.t1_s)} and {len(self.t2_s)}."
            )
        for t1_s, t2_s in zip(self.t1_s, self.t2_s, strict=True):
            Relaxation(t1_s=t1_s, t2_s=t2_s)  # checks their range


def equal_for_all(relaxation: Relaxation, n_spins: int) -> SpinRelaxation:
    """Return the same relaxation times for every spin."""
    return SpinRelaxation(t1_s=(relaxation.t1_s,) * n_spins, t2_s=(relaxation.t2_s,) * n_spins)


def relax(rho: Tensor, relaxation: SpinRelaxation, time_s: float) -> Tensor:
    """Return the state after every spin has relaxed for a time, without RF or precession.

    Args:
        rho: Deviation from equal populations in the product basis of spins 1/2, shape (..., 2^n, 2^n).
        relaxation: Times of the n spins.
        time_s: Duration, s.

    Returns:
        Same shape. A completely positive map; trace and hermiticity are conserved. Differentiable.
    """
    n_spins, d = len(relaxation.t1_s), rho.shape[-1]
    for spin in range(n_spins):
        left, right = 2**spin, 2 ** (n_spins - spin - 1)
        e1, e2 = math.exp(-time_s / relaxation.t1_s[spin]), math.exp(-time_s / relaxation.t2_s[spin])
        apart = rho.reshape(*rho.shape[:-2], left, 2, right, left, 2, right)
        diagonal = apart.diagonal(dim1=-5, dim2=-2)  # (..., left, right, left, right, 2)
        mean = diagonal.mean(-1, keepdim=True)
        change = torch.diag_embed(mean * (1 - e1) + diagonal * (e1 - e2), dim1=-5, dim2=-2)
        rho = (e2 * apart + change).reshape(*rho.shape[:-2], d, d)
    return rho


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RelaxingPulse:
    """A pulse as short unitary pieces between which the spins relax."""

    pieces: Tensor
    """Propagators of the pieces in the product basis, shape (N, E, P, d, d)."""
    duration_s: float
    """Duration of the whole pulse, s."""
    relaxation: SpinRelaxation
    """Times of the spins."""
    eigenvectors: Tensor
    """Eigenvectors of the free Hamiltonian as columns, shape (d, d)."""
    before: Tensor
    """`slices.Positions.before`, shape (P, d)."""
    after: Tensor
    """`slices.Positions.after`, shape (P, d)."""

    def apply(self, rho: Tensor) -> Tensor:
        """Return the states at the positions after the pulse, eigenbasis, shape (E, P or 1, d, d) to (E, P, d, d)."""
        count = self.pieces.shape[0]
        step_s = self.duration_s / count
        vectors = self.eigenvectors.to(rho.dtype)
        states = self.before[:, :, None] * rho * self.before[:, None, :].conj()
        states = relax(vectors @ states @ vectors.mT, self.relaxation, step_s / 2)
        for index, piece in enumerate(self.pieces):
            states = piece @ states @ piece.mH
            states = relax(states, self.relaxation, step_s if index < count - 1 else step_s / 2)
        states = vectors.mT @ states @ vectors
        return self.after[:, :, None] * states * self.after[:, None, :].conj()


def require_spins_one_half(model: GroupModel, relaxation: SpinRelaxation) -> None:
    """Refuse groups in which single spins cannot be told apart.

    Raises:
        InputError: If the group holds a total spin of equivalent protons, or the number of times is not that of spins.
    """
    if any(dimension != 2 for dimension in model.group.dimension):
        raise InputError(
            f"Relaxation spin by spin needs spins 1/2, but group {model.group.name!r} holds the total spin of several "
            "equivalent protons. Use `group_model` of the unreduced group."
        )
    if len(relaxation.t1_s) != model.group.n_spins:
        raise InputError(
            f"Group {model.group.name!r} has {model.group.n_spins} spins, but relaxation has {len(relaxation.t1_s)} "
            "times. State one T1 and one T2 per spin."
        )
