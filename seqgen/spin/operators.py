"""Spin operators as matrices in the product basis, first spin leftmost, highest m (alpha) first."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from seqgen.errors import InputError

Spins = int | Sequence[int]
"""Either a number of spins 1/2, or the dimension 2I+1 of every spin."""


def dimensions(spins: Spins) -> tuple[int, ...]:
    """Return the dimension 2I+1 of every spin."""
    return (2,) * spins if isinstance(spins, int) else tuple(spins)


def single_spin(dimension: int, axis: str) -> Tensor:
    """Return I_axis of a lone spin I = (dimension - 1) / 2, complex128; `axis` is "x", "y" or "z".

    <m+1|I+|m> = sqrt(I(I+1) - m(m+1)).

    Example:
        >>> single_spin(2, "z").real
        tensor([[ 0.5000,  0.0000],
                [ 0.0000, -0.5000]], dtype=torch.float64)
    """
    spin = (dimension - 1) / 2
    m = torch.arange(dimension, dtype=torch.float64).neg() + spin
    if axis == "z":
        return torch.diag(m).to(torch.complex128)
    raising = torch.diag(torch.sqrt(spin * (spin + 1) - m[1:] * (m[1:] + 1)), 1).to(torch.complex128)
    if axis == "x":
        return (raising + raising.T) / 2
    if axis == "y":
        return (raising - raising.T) / 2j
    raise InputError(f'The axis of a spin operator must be "x", "y" or "z", but is {axis!r}.')


def product_operator(spins: Spins, axes: Mapping[int, str]) -> Tensor:
    """Return the product of I_axis of several spins, for example {0: "z", 2: "x"} for I1z I3x, complex128, (d, d).

    Args:
        spins: Number of spins 1/2, or the dimension of every spin.
        axes: Axis ("x", "y" or "z") of each spin that takes part, by its index from 0.
    """
    product, idle = torch.ones(1, 1, dtype=torch.complex128), 1
    for spin, dimension in enumerate(dimensions(spins)):
        if spin in axes:
            product = torch.kron(torch.kron(product, torch.eye(idle)), single_spin(dimension, axes[spin]))
            idle = 1
        else:
            idle *= dimension
    return torch.kron(product, torch.eye(idle))


def spin_operator(spins: Spins, spin: int, axis: str) -> Tensor:
    """Return I_axis of one spin (from 0), complex128, shape (d, d); `axis` is "x", "y" or "z"."""
    return product_operator(spins, {spin: axis})


def total_operator(spins: Spins, axis: str, chosen: tuple[int, ...] | None = None) -> Tensor:
    """Return the sum of I_axis over the chosen spins (default: all), shape (d, d)."""
    sizes = dimensions(spins)
    d = math.prod(sizes)
    total = torch.zeros(d, d, dtype=torch.complex128)
    for spin in range(len(sizes)) if chosen is None else chosen:
        total += spin_operator(sizes, spin, axis)
    return total


def isotropic_coupling(spins: Spins, first: int, second: int) -> Tensor:
    """Return I_j . I_k, real symmetric, float64, shape (d, d)."""
    pairs = [product_operator(spins, {first: axis, second: axis}).real for axis in "xyz"]
    return torch.stack(pairs).sum(0)


@lru_cache(maxsize=16)
def symmetric_isometry(dimension: int) -> Tensor:
    """Return the columns that span spin S = (dimension - 1) / 2 within spin S - 1/2 times spin 1/2, float64.

    Shape (2 (dimension - 1), dimension): Clebsch-Gordan coefficients, S - 1/2 leftmost, highest m first. With it
    D^S = V^T (D^(S-1/2) x D^(1/2)) V for the matrices of a rotation.
    Source: Sakurai, Modern Quantum Mechanics, sec. 3.8 (1994), eq. for j = l + 1/2.
    """
    spin, smaller = (dimension - 1) / 2, dimension - 1
    columns = torch.zeros(smaller * 2, dimension, dtype=torch.float64)
    for column in range(dimension):
        m = spin - column
        for row, coefficient in (
            (round(spin - m) * 2, math.sqrt((spin + m) / (2 * spin))),  # m - 1/2 with alpha
            (round(spin - m - 1) * 2 + 1, math.sqrt((spin - m) / (2 * spin))),  # m + 1/2 with beta
        ):
            if coefficient > 0:
                columns[row, column] = coefficient
    return columns
