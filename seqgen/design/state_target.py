r"""A product operator as something that line amplitudes tell: how much of a wanted state the echo holds.

The receiver sees the part of the state of coherence order -1, rho_-. For Hermitian rho and Q of orders -1 and +1 alone
Tr(rho Q) = 2 Re Tr(rho_- Q), and with the receiver at the best phase its size is 2 |Tr(rho_- Q)|. Normalised,

    b = 2 |Tr(rho_- Q)| / sqrt(Tr(Q^2) Tr(Fz^2)),

the overlap of `spin.bounds.overlap_bound`, which states its largest value under unitaries.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from seqgen.errors import InputError
from seqgen.spin.bounds import overlap_bound
from seqgen.spin.hamiltonian import GroupModel
from seqgen.spin.product_operators import parse_operator

_UNSEEN = 1e-6
"""Largest part of Tr(Q^2) that may lie outside the detected transitions."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StateTarget:
    """A product operator of one spin group of a molecule."""

    text: str
    """The expression."""
    lines: slice
    """The lines of the group among those of the molecule."""
    detector: Tensor
    """c with overlap = |sum_l c_l amplitude_l| over those lines, complex128, shape (n_lines,)."""
    maximum: float
    """The largest overlap that a unitary reaches from the thermal state Fz."""


def state_target(models: Sequence[GroupModel], text: str, group: str = "") -> StateTarget:
    """Read a product operator of a molecule.

    Args:
        models: The models of its groups in the order of its lines.
        text: The expression (`spin.product_operators.parse_operator`), spins numbered as the group's labels.
        group: Name of the group; may be left out where there is only one.

    Raises:
        InputError: If there is no such group, it holds spins other than 1/2, or the operator is not Hermitian or holds
            what no line shows.
    """
    index = chosen_group(models, text, group)
    model = models[index]
    q = parse_operator(text, model.group.n_spins)
    first = sum(m.transition.shape[0] for m in models[:index])
    return StateTarget(
        text=text,
        lines=slice(first, first + model.transition.shape[0]),
        detector=overlap_detector(q, model, text),
        maximum=float(overlap_bound(q).value or 0.0),
    )


def chosen_group(models: Sequence[GroupModel], text: str, group: str = "") -> int:
    """Return the index of the spin group that an operator speaks of. Arguments as of `state_target`.

    Raises:
        InputError: If there is no such group, or it holds spins other than 1/2.
    """
    chosen = [k for k, model in enumerate(models) if group in ("", model.group.name)]
    if len(chosen) != 1:
        names = ", ".join(dict.fromkeys(model.group.name for model in models))
        raise InputError(
            f"state_group must name the one spin group that state {text!r} speaks of, but is {group!r}. The target "
            f"has {names}."
        )
    model = models[chosen[0]]
    if model.dimension != 2**model.group.n_spins:
        raise InputError(
            f"state {text!r} needs spins 1/2, but group {model.group.name!r} holds the total spin of equivalent "
            f"protons ({', '.join(model.group.labels)}). Choose another target or another loss."
        )
    return chosen[0]


def hermitian_operator(text: str, model: GroupModel) -> Tensor:
    """Return the matrix of an expression in the product basis, shape (d, d).

    Raises:
        InputError: If it is zero or not Hermitian.
    """
    q = parse_operator(text, model.group.n_spins)
    _require_hermitian(q, text)
    return q


def overlap_detector(q: Tensor, model: GroupModel, text: str = "Q") -> Tensor:
    """Return c with b = |sum_l c_l amplitude_l|: c_l = 2 Q_ji / (w_l sqrt(Tr(Q^2) Tr(Fz^2))), shape (n_lines,).

    Args:
        q: Hermitian operator in the product basis, shape (d, d).
        model: The spin group at its field; w_l are its detection weights.
        text: Name of the operator, for messages.

    Raises:
        InputError: If Q is zero, not Hermitian, or partly invisible at the echo.
    """
    _require_hermitian(q, text)
    power = float((q.abs() ** 2).sum())
    vectors = model.eigenvectors.to(q.dtype)
    eigen = vectors.mT @ q @ vectors
    i, j = model.transition[:, 0], model.transition[:, 1]
    seen = eigen[j, i]
    missing = 1 - 2 * float((seen.abs() ** 2).sum()) / power
    if missing > _UNSEEN:
        raise InputError(
            f"state {text!r} holds what the receiver does not see at the echo: {missing:.1%} of it are not single-"
            "quantum coherence of a line. Name one that it sees, for example 'I1x' or '2 I1x I2z'."
        )
    thermal = float((model.initial_state.abs() ** 2).sum())
    return 2 * seen / (model.transition_weight * math.sqrt(power * thermal))


def _require_hermitian(q: Tensor, text: str) -> None:
    """Refuse zero and what is not Hermitian."""
    power = float((q.abs() ** 2).sum())
    if power == 0 or float((q - q.mH).abs().max()) > 1e-9 * math.sqrt(power):
        raise InputError(
            f"state {text!r} must be a Hermitian operator other than zero. Write for example 'I1x' or '2 I1x I2z'."
        )
