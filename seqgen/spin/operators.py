"""Spin-1/2 operators as matrices in the product basis, first spin leftmost, alpha (+1/2) before beta."""

import torch
from torch import Tensor

_SINGLE = {
    "x": [[0, 0.5], [0.5, 0]],
    "y": [[0, -0.5j], [0.5j, 0]],
    "z": [[0.5, 0], [0, -0.5]],
}


def spin_operator(n_spins: int, spin: int, axis: str) -> Tensor:
    """Return I_axis of one spin, complex128, shape (2^n, 2^n); `axis` is "x", "y" or "z".

    Example:
        >>> spin_operator(1, 0, "z").real
        tensor([[ 0.5000,  0.0000],
                [ 0.0000, -0.5000]], dtype=torch.float64)
    """
    single = torch.tensor(_SINGLE[axis], dtype=torch.complex128)
    left = torch.eye(2**spin, dtype=torch.complex128)
    right = torch.eye(2 ** (n_spins - spin - 1), dtype=torch.complex128)
    return torch.kron(torch.kron(left, single), right)


def total_operator(n_spins: int, axis: str, spins: tuple[int, ...] | None = None) -> Tensor:
    """Return the sum of I_axis over the given spins (default: all), shape (2^n, 2^n)."""
    chosen = range(n_spins) if spins is None else spins
    total = torch.zeros(2**n_spins, 2**n_spins, dtype=torch.complex128)
    for spin in chosen:
        total += spin_operator(n_spins, spin, axis)
    return total


def isotropic_coupling(n_spins: int, first: int, second: int) -> Tensor:
    """Return I_j . I_k, real symmetric, float64, shape (2^n, 2^n)."""
    total = torch.zeros(2**n_spins, 2**n_spins, dtype=torch.complex128)
    for axis in "xyz":
        total += spin_operator(n_spins, first, axis) @ spin_operator(n_spins, second, axis)
    return total.real.contiguous()
