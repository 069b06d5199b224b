r"""Product operators: density matrices as sums of products of one-spin operators, and text as operators.

Any operator of n spins 1/2 is a sum of the 4^n products of E, Ix, Iy, Iz of every spin. Two normalisations are usual,
with q the number of factors that are not E:

- ``"plain"``: the bare product, as in "0.38 I5x - 1.32 I1zI2zI5x"; Tr(P^2) = 2^n / 4^q.
- ``"ernst"``: 2^(q-1) times the bare product, as in "2IxSz", "4IzIzIx" and "E/2"; Tr(B^2) = 2^(n-2) for every one, so
  that coefficients compare like shares of the state. Coefficients are 2^(q-1) times smaller than plain ones.

Spins count from 1 in names and text. An element precesses as exp(-i p omega t) with p its coherence order m_i - m_j:
I+ has p = +1, the received order is -1.
Source: Sorensen, Eich, Levitt, Bodenhausen, Ernst, Prog NMR Spectrosc 16:163 (1983); Ernst, Bodenhausen, Wokaun,
Principles of NMR in One and Two Dimensions (1987), sec. 2.1.5 and 4.4.5.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NoReturn, get_args

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.spin.operators import spin_operator, total_operator

Normalisation = Literal["plain", "ernst"]
"""How products are scaled; see the head of this module."""

_TO_COEFFICIENT: list[list[complex]] = [[0.5, 0, 0, 0.5], [0, 1, 1, 0], [0, 1j, -1j, 0], [1, 0, 0, -1]]
"""Rows E, x, y, z: coefficient from the elements 00, 01, 10, 11 of a one-spin matrix."""
_TO_MATRIX: list[list[complex]] = [[1, 0, 0, 0.5], [0, 0.5, -0.5j, 0], [0, 0.5, 0.5j, 0], [1, 0, 0, -0.5]]
"""Its inverse: elements 00, 01, 10, 11 from the coefficients of E, Ix, Iy, Iz."""
_TRANSVERSE = "⊥"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProductOperators:
    """States as coefficients of product operators."""

    coefficients: Tensor
    """Complex, shape (..., 4^n): real for Hermitian states. The index is a number of n digits to base 4, the first
    spin's digit leading: 0 E, 1 x, 2 y, 3 z."""
    n_spins: int
    """Number of spins."""
    normalisation: Normalisation
    """Which multiples of the bare products the coefficients belong to."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all products in the order of `coefficients`: "I1zI2zI5x", with the factor of Ernst "4I1zI2zI5x"."""
        return _names(self.n_spins, self.normalisation, "xyz")

    def coefficient(self, name: str) -> Tensor:
        """Return the coefficients of one product by its name, shape (...).

        Raises:
            InputError: If there is no product of this name in this normalisation.
        """
        if name not in self.names:
            raise InputError(
                f"{name!r} is no product operator of {self.n_spins} spins in {self.normalisation} normalisation. Write "
                f"spins in ascending order, for example {self.names[-1]!r} or {self.names[1]!r}."
            )
        return self.coefficients[..., self.names.index(name)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One product operator of a state."""

    name: str
    """Its name in the normalisation of the expansion."""
    coefficient: complex
    """Its coefficient."""
    share: float
    """Its part of Tr(rho^H rho), unit operator not counted, 0 to 1; the same in either normalisation."""


def expand(rho: Tensor, normalisation: Normalisation = "plain") -> ProductOperators:
    """Expand matrices in product operators, one one-spin transform after the other (n 4^n operations).

    Args:
        rho: States or other operators in the product basis (first spin leftmost, alpha first), shape (..., 2^n, 2^n).
        normalisation: Multiples of the bare products.

    Returns:
        The coefficients, shape (..., 4^n). Differentiable.

    Raises:
        InputError: If `rho` is no matrix of spins 1/2.

    Example:
        >>> from seqgen.spin.operators import spin_operator
        >>> rho = spin_operator(2, 0, "x") + 2 * spin_operator(2, 0, "y") @ spin_operator(2, 1, "z")
        >>> to_text(expand(rho))
        '1.00 I1x + 2.00 I1yI2z'
        >>> to_text(expand(rho, "ernst"))
        '1.00 I1x + 1.00*2I1yI2z'
    """
    n = _n_spins(rho)
    batch = rho.shape[:-2]
    # Row and column of every spin side by side: (..., r1, c1, r2, c2, ...), each pair an index of 4.
    pairs = [len(batch) + k for spin in range(n) for k in (spin, n + spin)]
    values = rho.to(_complex(rho.dtype)).reshape(*batch, *[2] * (2 * n)).permute(*range(len(batch)), *pairs)
    coefficients = _per_spin(values.reshape(-1, 4**n), _TO_COEFFICIENT, n).reshape(*batch, 4**n)
    if normalisation not in get_args(Normalisation):
        raise InputError(f"The normalisation must be 'plain' or 'ernst', but is {normalisation!r}.")
    if normalisation == "ernst":
        coefficients = coefficients / _ernst_factor(n, coefficients)
    return ProductOperators(coefficients=coefficients, n_spins=n, normalisation=normalisation)


def reconstruct(expansion: ProductOperators) -> Tensor:
    """Return the matrices of an expansion in the product basis, shape (..., 2^n, 2^n): the inverse of `expand`."""
    n, batch = expansion.n_spins, expansion.coefficients.shape[:-1]
    values = expansion.coefficients
    if expansion.normalisation == "ernst":
        values = values * _ernst_factor(n, values)
    values = _per_spin(values.reshape(-1, 4**n), _TO_MATRIX, n).reshape(*batch, *[2] * (2 * n))
    rows = [len(batch) + 2 * spin for spin in range(n)]
    order = (*range(len(batch)), *rows, *(row + 1 for row in rows))
    return values.permute(*order).reshape(*batch, 2**n, 2**n)


def largest(expansion: ProductOperators, count: int | None = None) -> tuple[Term, ...]:
    """Return the terms of one state, largest share of its norm first, the unit operator left out.

    Args:
        expansion: Of one state: coefficients of shape (4^n,).
        count: Most terms; default all. Terms of share below 1e-24 (rounding) are left out.

    Raises:
        InputError: If the expansion holds several states.
    """
    if expansion.coefficients.ndim != 1:
        raise InputError(
            f"Terms are listed for one state, but the expansion has shape {tuple(expansion.coefficients.shape)}. "
            "Pick one state of the batch first."
        )
    values = expansion.coefficients.detach()
    weighted = values if expansion.normalisation == "ernst" else values / _ernst_factor(expansion.n_spins, values)
    power = weighted.abs() ** 2
    power[0] = 0.0
    share = power / power.sum() if float(power.sum()) > 0 else power
    picked = torch.argsort(share, descending=True, stable=True)[:count].tolist()
    return tuple(
        Term(name=expansion.names[k], coefficient=complex(values[k]), share=float(share[k]))
        for k in picked
        if float(share[k]) > 1e-24
    )


def to_text(expansion: ProductOperators, *, count: int | None = None, decimals: int = 2) -> str:
    """Write one state as text that `parse_operator` reads, largest share of the norm first.

    Coefficients that round to zero are left out, and so is the unit operator; terms beyond `count` are shown by dots.

    Args:
        expansion: Of one state.
        count: Most terms; default all.
        decimals: Decimals of the coefficients.
    """
    terms = [term for term in largest(expansion) if _number(term.coefficient, decimals) is not None]
    shown = terms[:count]
    text = ""
    for term in shown:
        sign, size = _number(term.coefficient, decimals) or ("", "")
        between = " " if term.name[0] == "I" else "*"
        text += (f" {sign} " if text else sign.strip("+")) + size + between + term.name
    return (text or "0") + (" + ..." if len(shown) < len(terms) else "")


def magnitudes(expansion: ProductOperators) -> tuple[Tensor, tuple[str, ...]]:
    """Return the root of the sum of squares over the phases x and y of every transverse factor, and names.

    Chemical shifts turn x and y of a spin into each other and leave these magnitudes alone: "I1zI5⊥" stands for I1zI5x
    and I1zI5y together, "I1⊥I2⊥" for all zero- and double-quantum coherences of two spins.

    Returns:
        Real, shape (..., 3^n), the unit operator first; digits to base 3: E, transverse, z. And their names.
    """
    n, batch = expansion.n_spins, expansion.coefficients.shape[:-1]
    power = expansion.coefficients.abs() ** 2
    gather = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=power.dtype, device=power.device)
    power = power.reshape(-1, 4**n)
    for _ in range(n):
        power = (gather @ power.reshape(power.shape[0], 4, -1)).mT.reshape(power.shape[0], -1)
    return power.sqrt().reshape(*batch, 3**n), _names(n, expansion.normalisation, _TRANSVERSE + "z")


def coherence_order(n_spins: int, spins: tuple[int, ...] | None = None) -> Tensor:
    """Return the coherence order m_i - m_j of every matrix element, int64, shape (2^n, 2^n).

    Args:
        n_spins: Number of spins 1/2.
        spins: Spins that count, from 0 (the protons of a group with heteronuclei); default all.
    """
    m = total_operator(n_spins, "z", spins).real.diagonal()
    return torch.round(m[:, None] - m[None, :]).to(torch.int64)


def coherence_norms(rho: Tensor, order: Tensor) -> dict[int, Tensor]:
    """Return the Frobenius norm of every coherence order of states, by signed order, each of shape (...).

    Their squares add up to Tr(rho^H rho). Of a Hermitian state, orders p and -p have equal norms.

    Args:
        rho: States, shape (..., d, d).
        order: Coherence order of every element in the same basis (`coherence_order`, `GroupModel.order`), shape (d, d).
    """
    power = rho.abs() ** 2
    orders = range(int(order.min()), int(order.max()) + 1)
    return {p: (power * (order == p)).sum((-2, -1)).sqrt() for p in orders}


def absolute_norms(norms: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return norms by |p| from norms by signed p."""
    highest = max(norms)
    return {p: norms[0] if p == 0 else torch.hypot(norms[p], norms[-p]) for p in range(highest + 1)}


@lru_cache(maxsize=32)
def _names(n_spins: int, normalisation: Normalisation, axes: str) -> tuple[str, ...]:
    """Return names of all products, every spin being E or one of `axes`."""
    bare = [("", 0)]
    for spin in range(1, n_spins + 1):
        bare = [(name + part, q + bool(part)) for name, q in bare for part in ("", *(f"I{spin}{a}" for a in axes))]
    if normalisation == "plain":
        return tuple(name or "E" for name, _ in bare)
    return tuple(f"{2 ** (q - 1) if q > 1 else ''}{name}" if q else "E/2" for name, q in bare)


@lru_cache(maxsize=32)
def _factors(n_spins: int) -> Tensor:
    """Return the number q of factors that are not E for every product, int64, shape (4^n,)."""
    index = torch.arange(4**n_spins)
    return torch.stack([(index // 4**k % 4 != 0) for k in range(n_spins)]).sum(0)


def _ernst_factor(n_spins: int, like: Tensor) -> Tensor:
    """Return 2^(q-1) for every product, real, in the precision and on the device of `like`."""
    return (2.0 ** (_factors(n_spins) - 1)).to(like.real.dtype).to(like.device)


def _per_spin(values: Tensor, matrix: list[list[complex]], n_spins: int) -> Tensor:
    """Apply a 4 x 4 matrix to every spin's index of (B, 4^n): each step treats the leading index and moves it last."""
    single = torch.tensor(matrix, dtype=torch.complex128).to(values.dtype).to(values.device)
    for _ in range(n_spins):
        values = (single @ values.reshape(values.shape[0], 4, -1)).mT.reshape(values.shape[0], -1)
    return values


def _n_spins(rho: Tensor) -> int:
    """Return the number of spins 1/2 of a matrix."""
    d = rho.shape[-1] if rho.ndim >= 2 else 0
    n = d.bit_length() - 1
    if rho.ndim < 2 or rho.shape[-2] != d or d < 2 or 2**n != d:
        raise InputError(
            f"Product operators need matrices of spins 1/2, shape (..., 2^n, 2^n), but rho has shape "
            f"{tuple(rho.shape)}. A group with other spins (14N, sets of equivalent protons) has no such expansion."
        )
    return n


def _complex(dtype: torch.dtype) -> torch.dtype:
    """Return the complex type of the same precision."""
    return torch.complex64 if dtype in (torch.float32, torch.complex64) else torch.complex128


def _number(value: complex, decimals: int) -> tuple[str, str] | None:
    """Return (sign, size) of a coefficient as text, None if it rounds to zero."""
    real, imaginary = round(value.real, decimals), round(value.imag, decimals)
    if imaginary == 0:
        return None if real == 0 else ("-" if real < 0 else "+", f"{abs(real):.{decimals}f}")
    if real == 0:
        return "-" if imaginary < 0 else "+", f"{abs(imaginary):.{decimals}f}j"
    middle = "-" if imaginary < 0 else "+"
    return "+", f"({real:.{decimals}f} {middle} {abs(imaginary):.{decimals}f}j)"


def parse_operator(text: str, n_spins: int) -> Tensor:
    r"""Return the matrix that an expression of product operators stands for, complex128, shape (2^n, 2^n).

    The expression is a sum of products with numbers, brackets, ``*`` (may be left out) and ``/`` before a number:
    ``"2 I1x I2z + I3x"``, ``"0.5*I1x"``, ``"-(I1x + 0.5j I2y)/3"``. Operators, spins counted from 1:

    ================== ===============================================================================================
    ``I1x I1y I1z``    one spin; ``E`` is the unit matrix
    ``I1+ I1-``        I+ = Ix + i Iy raises, I- = Ix - i Iy lowers (no blank: ``I1+ I2-`` is a product)
    ``Fx Fy Fz F+ F-`` sums over all spins
    ``DQx(1,2)``       (2IxSx - 2IySy)/2 = (I+S+ + I-S-)/2
    ``DQy(1,2)``       (2IxSy + 2IySx)/2 = (I+S+ - I-S-)/2i
    ``ZQx(1,2)``       (2IxSx + 2IySy)/2 = (I+S- + I-S+)/2
    ``ZQy(1,2)``       (2IySx - 2IxSy)/2 = (I+S- - I-S+)/2i
    ================== ===============================================================================================

    Source of the last four: Ernst, Bodenhausen, Wokaun (1987), sec. 4.4.5 and 5.3; Tr(DQx^2) = 2^n / 8.

    Args:
        text: The expression.
        n_spins: Number of spins.

    Raises:
        InputError: Naming the text, the place and what was expected.

    Example:
        >>> to_text(expand(parse_operator("DQx(1,2)", 2)))
        '1.00 I1xI2x - 1.00 I1yI2y'
    """
    return _Parser(text, n_spins).parse()


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?j?)"
    r"|I(?P<spin>\d+)(?P<axis>[xyz+-])"
    r"|F(?P<total>[xyz+-])"
    r"|(?P<quanta>DQ|ZQ)(?P<phase>[xy])\(\s*(?P<first>\d+)\s*,\s*(?P<second>\d+)\s*\)"
    r"|(?P<unit>E)"
    r"|(?P<symbol>[-+*/()]))"
)


class _Parser:
    """Reads an expression from left to right; a value is a number or a matrix."""

    def __init__(self, text: str, n_spins: int) -> None:
        self.text, self.n_spins = text, n_spins
        self.source = text.replace("\N{MINUS SIGN}", "-").rstrip()
        self.at = 0
        self.token = self._next()

    def parse(self) -> Tensor:
        """Return the operator of the whole text."""
        value = self._sum()
        if self.token is not None:
            self._fail(f"{self.token.group().strip()!r} stands alone")
        if not isinstance(value, Tensor):
            self._fail("it holds numbers alone; write a multiple of the unit operator as '2 E'")
        return value

    def _next(self) -> re.Match[str] | None:
        """Return the token at the current place and go past it; None at the end."""
        if self.at == len(self.source):
            return None
        found = _TOKEN.match(self.source, self.at)
        if found is None:
            self._fail(f"{self.source[self.at :].strip()[:12]!r} is not understood")
        self.at = found.end()
        return found

    def _take(self, *symbols: str) -> str | None:
        """Return the current token and move on if it is one of these symbols."""
        symbol = self.token["symbol"] if self.token is not None else None
        if symbol is None or symbol not in symbols:
            return None
        self.token = self._next()
        return symbol

    def _sum(self) -> complex | Tensor:
        """Return [sign] product { sign product }."""
        value = self._signed(self._take("+", "-"))
        while sign := self._take("+", "-"):
            other = self._signed(sign)
            if isinstance(value, Tensor) != isinstance(other, Tensor):
                self._fail("a number is added to an operator; write a multiple of the unit operator as '2 E'")
            value = value + other
        return value

    def _signed(self, sign: str | None) -> complex | Tensor:
        return -self._product() if sign == "-" else self._product()

    def _product(self) -> complex | Tensor:
        """Return factor { [*] factor | / number }."""
        value = self._factor()
        while self.token is not None and self.token["symbol"] not in ("+", "-", ")"):
            if self._take("/"):
                divisor = self._factor()
                if isinstance(divisor, Tensor) or divisor == 0:
                    self._fail("'/' needs a number other than 0 after it")
                value = value / divisor
                continue
            self._take("*")
            other = self._factor()
            both = isinstance(value, Tensor) and isinstance(other, Tensor)
            value = torch.matmul(value, other) if both else value * other  # type: ignore[arg-type]
        return value

    def _factor(self) -> complex | Tensor:
        """Return a number, an operator or a sum in brackets."""
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                self._fail("a bracket is not closed")
            return value
        token = self.token
        if token is None or token["symbol"]:
            where = "at its end" if token is None else f"before {token.group().strip()!r}"
            self._fail(f"a number, an operator or a bracket is missing {where}")
        self.token = self._next()
        if token["number"]:
            return complex(token["number"])
        return self._operator(token)

    def _operator(self, token: re.Match[str]) -> Tensor:
        """Return the matrix of an operator."""
        if token["unit"]:
            return torch.eye(2**self.n_spins, dtype=torch.complex128)
        if token["total"]:
            spins = range(1, self.n_spins + 1)
            return torch.stack([self._one(spin, token["total"]) for spin in spins]).sum(0)
        if token["spin"]:
            return self._one(int(token["spin"]), token["axis"])
        first, second = int(token["first"]), int(token["second"])
        if first == second:
            self._fail(f"{token.group().strip()} needs two different spins")
        raised = self._one(first, "+") @ self._one(second, "+" if token["quanta"] == "DQ" else "-")
        return (raised + raised.mH) / 2 if token["phase"] == "x" else (raised - raised.mH) / 2j

    def _one(self, spin: int, axis: str) -> Tensor:
        """Return a one-spin operator; spins count from 1."""
        if not 1 <= spin <= self.n_spins:
            self._fail(f"spin {spin} does not exist; spins are numbered 1 to {self.n_spins}")
        if axis in "xyz":
            return spin_operator(self.n_spins, spin - 1, axis)
        sign = 1j if axis == "+" else -1j
        return spin_operator(self.n_spins, spin - 1, "x") + sign * spin_operator(self.n_spins, spin - 1, "y")

    def _fail(self, problem: str) -> NoReturn:
        raise InputError(
            f"Operator {self.text!r} cannot be read: {problem}. Write for example '2 I1x I2z + 0.5 I3x', 'Fz' or "
            "'DQx(1,2)', spins numbered from 1."
        )
