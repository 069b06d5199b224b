"""The problem of the benchmarks: one epoch of a 200-step, 20 ms pulse for Glu and Gln, by the engine and the naive way.

An epoch is the value and the gradient of a loss on the line amplitudes of the FID, after the pulse has acted on sum Ix;
both ways take the amplitudes from the eigenvectors of the free Hamiltonian. The naive way is PyTorch as anyone would
write it: complex128, matrix_exp of the full Hamiltonian at every step, rho -> U rho U^H, autograd. It has no splitting,
so it is also the exact result.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from seqgen.library import spin_system
from seqgen.simulate.acquire import lines
from seqgen.simulate.propagate import DESIGN_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel, group_model
from seqgen.spin.operators import spin_operator, total_operator

N_STEPS, DURATION_S, CARRIER_PPM, F0_HZ = 200, 0.02, 2.35, 123.25e6

Epoch = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From a waveform in Hz, complex, shape (T,), to (line amplitudes of shape (E, n_lines), gradient of the loss)."""


def models() -> list[GroupModel]:
    """Return the five-spin groups of Glu and Gln."""
    return [group_model(spin_system(name).groups[0], F0_HZ, CARRIER_PPM) for name in ("Glu", "Gln")]


def pulse(n_steps: int = N_STEPS) -> Tensor:
    """Return a smooth random pulse of about 300 Hz peak, complex128, shape (n_steps,)."""
    generator = torch.Generator().manual_seed(1)
    knots = torch.randn(2, 1, 21, generator=generator, dtype=torch.float64)
    x, y = torch.nn.functional.interpolate(knots, size=n_steps, mode="linear", align_corners=True)[:, 0]
    return torch.complex(x, y) * 150


def members(n: int) -> tuple[Tensor, Tensor]:
    """Return field offsets (-10 to 10 Hz) and B1 scales (0.8 to 1.2) of n members: one point, or a square grid."""
    side = round(math.sqrt(n))
    if n == 1:
        return torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    b0, b1 = torch.meshgrid(
        torch.linspace(-10, 10, math.ceil(n / side), dtype=torch.float64),
        torch.linspace(0.8, 1.2, side, dtype=torch.float64),
        indexing="ij",
    )
    return b0.reshape(-1)[:n], b1.reshape(-1)[:n]


def loss(amplitudes: Tensor) -> Tensor:
    """Return sum_l w_l |a_l|^2 over members and lines, w from 0 to 1: real, smooth, every line counts differently."""
    weights = torch.linspace(0, 1, amplitudes.shape[-1], dtype=amplitudes.real.dtype, device=amplitudes.device)
    return ((amplitudes.real**2 + amplitudes.imag**2) * weights).sum()


def value_and_gradient(way: Callable[[Tensor], Tensor], b1_hz: Tensor) -> tuple[Tensor, Tensor]:
    """Return (line amplitudes, gradient of the loss with respect to the waveform as torch defines it)."""
    b1_hz = b1_hz.detach().clone().requires_grad_()
    amplitudes = way(b1_hz)
    (gradient,) = torch.autograd.grad(loss(amplitudes), b1_hz)
    return amplitudes.detach(), gradient


def our_epoch(
    groups: Sequence[GroupModel], duration_s: float = DURATION_S, *, n: int = 1, j_step_s: float = DESIGN_J_STEP_S
) -> Epoch:
    """Return the engine's epoch; precision and device are those of the waveform it is given."""
    b0_hz, b1_scale = members(n)

    def amplitudes(b1_hz: Tensor) -> Tensor:
        dwell_s, parts = duration_s / b1_hz.shape[-1], []
        for model in groups:
            u = pulse_propagator(model, b1_hz[None], dwell_s, offset_hz=b0_hz, b1_scale=b1_scale, j_step_s=j_step_s)
            parts.append(line_amplitudes(model, u @ total_operator(model.group.n_spins, "x").to(u) @ u.mH))
        return torch.cat(parts, -1)

    return lambda b1_hz: value_and_gradient(amplitudes, b1_hz)


def naive_epoch(groups: Sequence[GroupModel], duration_s: float = DURATION_S, *, n: int = 1) -> Epoch:
    """Return the naive epoch: matrix_exp of the full Hamiltonian at every step."""
    b0_hz, b1_scale = members(n)

    def amplitudes(b1_hz: Tensor) -> Tensor:
        dwell_s, parts = duration_s / b1_hz.shape[-1], []
        for model in groups:
            count = model.group.n_spins
            fx, fy, fz = (total_operator(count, axis) for axis in "xyz")
            h0 = model.coupling_rad_per_s.to(torch.complex128)
            for k in range(count):
                h0 = h0 + 2 * math.pi * model.offset_hz[k] * spin_operator(count, k, "z")
            h0 = h0 + 2 * math.pi * b0_hz[:, None, None] * fz
            rho = fx.expand(n, -1, -1)
            for sample in b1_hz:
                amplitude = (b1_scale * sample)[:, None, None]
                h = h0 + 2 * math.pi * (amplitude.real * fx + amplitude.imag * fy)
                u = torch.linalg.matrix_exp(-1j * h * dwell_s)
                rho = u @ rho @ u.mH
            parts.append(line_amplitudes(model, rho))
        return torch.cat(parts, -1)

    return lambda b1_hz: value_and_gradient(amplitudes, b1_hz)


def exact_amplitudes(
    groups: Sequence[GroupModel], b1_hz: Tensor, duration_s: float = DURATION_S, *, offset_hz: float = 0.0
) -> Tensor:
    """Return the line amplitudes by one matrix exponential per sample, one point, without gradient, (1, n_lines)."""
    parts = []
    for model in groups:
        count = model.group.n_spins
        fx, fy = (total_operator(count, axis) for axis in "xy")
        h0 = model.coupling_rad_per_s.to(torch.complex128)
        for k in range(count):
            h0 = h0 + 2 * math.pi * (model.offset_hz[k] + offset_hz) * spin_operator(count, k, "z")
        u = torch.eye(2**count, dtype=torch.complex128)
        for some in b1_hz.split(max(1, 2**19 // 4**count)):
            h = h0 + 2 * math.pi * (some.real[:, None, None] * fx + some.imag[:, None, None] * fy)
            for step in torch.linalg.matrix_exp(-1j * h * (duration_s / b1_hz.shape[-1])):
                u = step @ u
        parts.append(line_amplitudes(model, (u @ fx @ u.mH)[None]))
    return torch.cat(parts, -1)


def line_amplitudes(model: GroupModel, rho: Tensor) -> Tensor:
    """Return the amplitudes of all lines of states in the product basis, shape (E, d, d)."""
    vectors = model.eigenvectors.to(rho)
    turned = vectors.mT @ rho @ vectors
    i, j = model.transition[:, 0], model.transition[:, 1]
    if rho.device.type == "cpu":
        return lines(turned, model).amplitude
    return turned[..., i, j] * model.transition_weight.to(rho.device)
