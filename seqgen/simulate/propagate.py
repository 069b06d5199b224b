r"""Propagators of coupled spins through RF pulses, differentiable, with memory that does not grow with the pulse.

Shift, offset, gradient and RF are sums of one-spin operators: over a J step of length h their propagator is the
Kronecker product K of exact 2 x 2 rotations, multiplied up from all RF samples of the step. The couplings act by one
fixed matrix: U = E(h/2) K_S E(h) ... E(h) K_1 E(h/2), E(h) = exp(-i h H_J). Isotropic coupling commutes with rotations
common to all spins, so the error (second order in h) comes from shift differences alone, not from the strength of RF.
The gradient runs the unitaries backwards (`_KroneckerProduct.backward`).
"""

import math
from typing import Any

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.rotation import accumulate, matrices, rotations
from seqgen.spin.hamiltonian import GroupModel

DESIGN_J_STEP_S = 2e-4
"""J step for optimisation: line amplitudes within 1e-4 of exact steps for Glu and Gln (tests/simulate)."""
RESULT_J_STEP_S = 1e-4
"""J step for reported results and basis sets: within 2e-5 of exact steps, relative to the largest signal."""


def pulse_propagator(
    model: GroupModel,
    b1_hz: Tensor,
    dwell_s: float,
    *,
    offset_hz: Tensor,
    j_step_s: float = RESULT_J_STEP_S,
) -> Tensor:
    """Return the propagator of an RF pulse in the product basis.

    Args:
        model: The spin group at its field.
        b1_hz: RF in the frame of the spectrometer frequency, Hz, complex, shape (B, T) or (1, T).
        dwell_s: Duration of a sample, s.
        offset_hz: Offset common to all spins (field offset plus gradient times position), Hz, shape (B,).
        j_step_s: Longest time between applications of the coupling, s; longer samples are cut.

    Returns:
        Unitary matrices, complex128, shape (B, d, d). Differentiable in `b1_hz` and `offset_hz`.

    Raises:
        InputError: If b1_hz is not complex of two dimensions or the J step is not positive.
    """
    if b1_hz.ndim != 2 or not b1_hz.is_complex():
        raise InputError(f"b1_hz must be complex of shape (B, T), but is {b1_hz.dtype} {tuple(b1_hz.shape)}.")
    if not j_step_s > 0:
        raise InputError(f"j_step_s must be positive, but is {j_step_s} s. Use 1e-4 for results, 2e-4 while designing.")
    parts = max(1, math.ceil(dwell_s / j_step_s - 1e-9))
    b1_hz, dwell_s = b1_hz.repeat_interleave(parts, 1), dwell_s / parts
    n_samples = b1_hz.shape[1]
    per_step = _samples_per_step(n_samples, j_step_s / dwell_s)
    n_steps = n_samples // per_step
    spin_offset_hz = (model.offset_hz + offset_hz[:, None]) * model.pulsed
    pair = rotations(
        b1_hz.reshape(-1, n_steps, 1, per_step) * model.pulsed[:, None],
        spin_offset_hz[:, None, :, None],
        dwell_s,
    )
    single = matrices(accumulate(pair))
    coupling_energy, coupling_vectors = torch.linalg.eigh(model.coupling_rad_per_s)
    step_s = per_step * dwell_s

    def coupling_propagator(time_s: float) -> Tensor:
        phase: Tensor = torch.exp(-1j * coupling_energy * time_s)
        return torch.einsum("ik,k,jk->ij", coupling_vectors.to(phase.dtype), phase, coupling_vectors.to(phase.dtype))

    result: Tensor = _KroneckerProduct.apply(single, coupling_propagator(step_s / 2))  # type: ignore[no-untyped-call]
    return result


def _samples_per_step(n_samples: int, wanted: float) -> int:
    """Return the largest divisor of `n_samples` that is at most `wanted`, at least 1."""
    for candidate in range(max(1, min(n_samples, math.floor(wanted + 1e-9))), 0, -1):
        if n_samples % candidate == 0:
            return candidate
    return 1


def kronecker(single: Tensor) -> Tensor:
    """Return the Kronecker product of one matrix per spin: (..., n, 2, 2) to (..., 2^n, 2^n)."""
    product = single[..., 0, :, :]
    for spin in range(1, single.shape[-3]):
        factor = single[..., spin, :, :]
        d = product.shape[-1]
        product = (product[..., :, None, :, None] * factor[..., None, :, None, :]).reshape(
            *product.shape[:-2], 2 * d, 2 * d
        )
    return product


class _KroneckerProduct(torch.autograd.Function):
    """U = E K_S E^2 K_{S-1} ... E^2 K_1 E with K_s the Kronecker product of unitary 2 x 2 matrices."""

    @staticmethod
    def forward(ctx: Any, single: Tensor, half: Tensor) -> Tensor:
        """Multiply up; `single` (B, S, n, 2, 2) unitary, `half` (d, d) unitary; returns (B, d, d)."""
        full = half @ half
        n_steps = single.shape[1]
        u = half.expand(single.shape[0], -1, -1)
        for step in range(n_steps):
            u = kronecker(single[:, step]) @ u
            u = (half if step == n_steps - 1 else full) @ u
        ctx.save_for_backward(single, half, u)
        return u

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Run the product backwards from U; with g the gradient of X = K W, that of K's generator is g X^H."""
        single, half, u = ctx.saved_tensors
        (gradient,) = gradients
        n_batch, n_steps, n_spins = single.shape[:3]
        full_h, half_h = (half @ half).mH, half.mH
        traces = partial_trace_matrix(n_spins, u.dtype)
        result = torch.empty_like(single)
        both = torch.cat([u, gradient], -1)
        d = u.shape[-1]
        for step in range(n_steps - 1, -1, -1):
            both = (half_h if step == n_steps - 1 else full_h) @ both
            outer = both[..., d:] @ both[..., :d].mH
            generator = (outer.reshape(n_batch, -1) @ traces).reshape(n_batch, n_spins, 2, 2)
            result[:, step] = generator @ single[:, step]
            both = kronecker(single[:, step]).mH @ both
        return result, None


def partial_trace_matrix(n_spins: int, dtype: torch.dtype) -> Tensor:
    """Return the matrix that maps a flattened (d, d) matrix to its n one-spin partial traces, shape (d*d, 4 n)."""
    d = 2**n_spins
    columns = []
    for spin in range(n_spins):
        left, right = torch.eye(2**spin, dtype=dtype), torch.eye(2 ** (n_spins - spin - 1), dtype=dtype)
        for entry in range(4):
            unit = torch.zeros(4, dtype=dtype)
            unit[entry] = 1
            columns.append(torch.kron(torch.kron(left, unit.reshape(2, 2)), right).reshape(d * d))
    return torch.stack(columns, 1)
