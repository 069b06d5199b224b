r"""How much of a state any unitary can bring to an observable: Sorensen's bound, and what it is not.

For Hermitian rho and Q with eigenvalues in descending order, Tr(U rho U^H Q) <= sum_k lambda_k(rho) lambda_k(Q), and
the unitary that maps the eigenvectors of rho to those of Q in this order reaches it. Averages over positions, B1 or
phase cycles and filters of coherence order (themselves averages over phases) are averages over unitaries: what is
linear in the state cannot exceed the bound by them. Relaxation is not counted.

The maximum is stated in one of three ways, for rho -> b Q + (what is orthogonal to Q):

- coefficient, b = max Tr(U rho U^H Q) / Tr(Q^2): depends on the scale of Q (I5x of five spins 15/8, 2IxSz 1);
- overlap, max Tr(U rho U^H Q) / sqrt(Tr(Q^2) Tr(rho^2)): 1 means the whole state, whatever the scale (2IxSz 0.707);
- expectation, max Tr(U rho U^H Q): for Q that stands for a number read off a spectrum (`simulate.observables`).

Source: Sorensen, Prog NMR Spectrosc 21:503 (1989); Sorensen, J Magn Reson 86:435 (1990).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.spin.operators import total_operator

BoundKind = Literal["coefficient", "overlap", "expectation", "energy", "none"]
"""What a bound limits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """The most that unitary evolution can give of one observable."""

    observable: str
    """Name of the observable, for example "I5x" or "peak height at 2.35 ppm"."""
    kind: BoundKind
    """What is limited; "energy" is an upper bound that need not be reachable, "none": no bound is known."""
    value: float | None
    """The bound; None where none is known."""

    def __post_init__(self) -> None:
        if (self.kind == "none") != (self.value is None):
            raise InputError(
                f"A bound of kind {self.kind!r} cannot have the value {self.value}. State a value, or the kind 'none'."
            )

    @property
    def reachable(self) -> bool:
        """Whether some unitary reaches the value (no pulse of finite length and power need do so)."""
        return self.kind in ("coefficient", "overlap", "expectation")

    @property
    def sentence(self) -> str:
        """One sentence for reports."""
        if self.value is None:
            return f"No bound is known for {self.observable}."
        if self.kind == "energy":
            return (
                f"The {self.observable} cannot exceed {self.value:.4g}: an upper bound, not necessarily reachable (the "
                "norm of the state is conserved)."
            )
        what = {
            "coefficient": f"coefficient of {self.observable}",
            "overlap": f"normalised overlap with {self.observable}",
            "expectation": self.observable,
        }[self.kind]
        return f"The largest {what} that a unitary reaches is {self.value:.4g} (Sorensen 1989)."


def fraction_reached(bound: Bound, reached: float) -> float | None:
    """Return what a state reaches over the bound, signed; None where there is no bound.

    Args:
        bound: The bound.
        reached: The same quantity of the state: coefficient, overlap, expectation or energy.
    """
    return None if bound.value is None or bound.value == 0 else reached / bound.value


def no_bound(observable: str) -> Bound:
    """Return the statement that no bound is known for an observable."""
    return Bound(observable=observable, kind="none", value=None)


def coefficient_bound(q: Tensor, rho: Tensor | None = None, *, observable: str = "Q") -> Bound:
    """Return the largest coefficient of Q, max Tr(U rho U^H Q) / Tr(Q^2).

    Args:
        q: Hermitian operator, shape (d, d).
        rho: Hermitian initial state in any basis, shape (d, d); default the thermal state, sum Iz of spins 1/2.
        observable: Name for reports.

    Example:
        >>> from seqgen.spin.product_operators import parse_operator
        >>> [coefficient_bound(parse_operator(text, 5)).value for text in ("I5x", "I4x + I5x")]
        [1.875, 1.375]
    """
    return Bound(observable=observable, kind="coefficient", value=_largest(q, rho) / _power(q))


def overlap_bound(q: Tensor, rho: Tensor | None = None, *, observable: str = "Q") -> Bound:
    """Return the largest normalised overlap, max Tr(U rho U^H Q) / sqrt(Tr(Q^2) Tr(rho^2)), at most 1.

    Arguments as of `coefficient_bound`.

    Example:
        >>> from seqgen.spin.product_operators import parse_operator
        >>> [round(overlap_bound(parse_operator(text, 2)).value, 3) for text in ("2 I1x I2z", "DQx(1,2)")]
        [0.707, 1.0]
    """
    size = (_power(q) * _power(_state(q, rho))) ** 0.5
    return Bound(observable=observable, kind="overlap", value=_largest(q, rho) / size)


def expectation_bound(q: Tensor, rho: Tensor | None = None, *, observable: str = "Q") -> Bound:
    """Return the largest expectation, max Tr(U rho U^H Q), in the units of Q. Arguments as of `coefficient_bound`."""
    return Bound(observable=observable, kind="expectation", value=_largest(q, rho))


def energy_bound(weight: Tensor, rho: Tensor, *, observable: str = "energy") -> Bound:
    """Return an upper bound of v^H M v, v the elements of coherence order -1: lambda_max(M) Tr(rho^2) / 2.

    Unitaries conserve the norm, averages and filters do not raise it, and a Hermitian state holds as much of order +1
    as of -1: hence the half. Not necessarily reachable: the eigenvalues of the state allow less.

    Args:
        weight: M, Hermitian, positive semi-definite, shape (n_lines, n_lines), for example from
            `window_energy_matrix`; each element of the state at most once.
        rho: Hermitian initial state, shape (d, d).
        observable: Name for reports.
    """
    _require_hermitian(weight, "weight")
    _require_hermitian(rho, "rho")
    highest = float(torch.linalg.eigvalsh(weight)[-1])
    return Bound(observable=observable, kind="energy", value=highest * _power(rho) / 2)


def best_unitary(q: Tensor, rho: Tensor | None = None) -> Tensor:
    """Return a unitary that reaches the maximum of Tr(U rho U^H Q): eigenvectors in order of their eigenvalues.

    Args:
        q: Hermitian operator, shape (d, d).
        rho: Hermitian initial state in the same basis, shape (d, d); default sum Iz.
    """
    state = _state(q, rho)
    _, of_q = torch.linalg.eigh(q.to(torch.complex128))
    _, of_rho = torch.linalg.eigh(state)
    unitary: Tensor = of_q @ of_rho.mH
    return unitary


def _largest(q: Tensor, rho: Tensor | None) -> float:
    """Return the sum of products of eigenvalues sorted alike."""
    state = _state(q, rho)
    return float(torch.linalg.eigvalsh(q.to(torch.complex128)) @ torch.linalg.eigvalsh(state))


def _state(q: Tensor, rho: Tensor | None) -> Tensor:
    """Return the initial state, by default sum Iz, complex128, after checking both matrices."""
    _require_hermitian(q, "q")
    if not bool(q.any()):
        raise InputError("The observable q is zero: nothing can be said of its bound. Give an operator that detects.")
    state = total_operator(q.shape[-1].bit_length() - 1, "z") if rho is None else rho
    _require_hermitian(state, "rho")
    if state.shape != q.shape:
        raise InputError(
            f"q and rho must have one shape, but have {tuple(q.shape)} and {tuple(state.shape)}. Give the initial "
            "state of the spins that q acts on."
        )
    return state.to(torch.complex128)


def _power(matrix: Tensor) -> float:
    """Return Tr(A^2) of a Hermitian matrix."""
    return float((matrix.abs() ** 2).sum())


def _require_hermitian(matrix: Tensor, name: str) -> None:
    """Refuse what is no Hermitian matrix."""
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or float((matrix - matrix.mH).abs().max()) > 1e-9 * max(float(matrix.abs().max()), 1e-300):
        raise InputError(
            f"A bound needs Hermitian matrices of shape (d, d), but {name} of shape {tuple(matrix.shape)} is none. "
            "Take the Hermitian part, (A + A^H) / 2."
        )
