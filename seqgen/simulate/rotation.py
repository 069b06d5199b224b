r"""One-spin rotations in closed form, as Cayley-Klein pairs.

A rotation is U = [[a, -b*], [b, a*]]. For a spin at offset f under RF b1 for a time dt the generator is
H = 2 pi (Re b1 Ix + Im b1 Iy + f Iz), so with Omega = 2 pi sqrt(|b1|^2 + f^2), phi = Omega dt / 2:
a = cos phi - i (2 pi f / Omega) sin phi, b = -i (2 pi b1 / Omega) sin phi.
Source: Pauly et al., IEEE Trans Med Imaging 10:53 (1991), doi:10.1109/42.75611.
"""

import math

import torch
from torch import Tensor


def rotations(b1_hz: Tensor, offset_hz: Tensor, dwell_s: float) -> tuple[Tensor, Tensor]:
    """Return the Cayley-Klein pairs of constant RF over one dwell.

    Args:
        b1_hz: gamma*B1/2pi, Hz, complex, broadcastable with `offset_hz`.
        offset_hz: Offset, Hz, positive above the frame's frequency, real.
        dwell_s: Duration, s.

    Returns:
        (a, b), complex, of the broadcast shape. Differentiable everywhere, at zero amplitude and offset too.
    """
    half_angle_squared = (math.pi * dwell_s) ** 2 * (b1_hz.real**2 + b1_hz.imag**2 + offset_hz**2)
    small = half_angle_squared < 1e-8
    root = torch.sqrt(torch.where(small, torch.ones_like(half_angle_squared), half_angle_squared))
    cosine = torch.where(small, 1 - half_angle_squared / 2 + half_angle_squared**2 / 24, torch.cos(root))
    sinc = torch.where(small, 1 - half_angle_squared / 6 + half_angle_squared**2 / 120, torch.sin(root) / root)
    scale = math.pi * dwell_s * sinc
    a = torch.complex(cosine, -scale * offset_hz)
    b = torch.complex(scale * b1_hz.imag, -scale * b1_hz.real)
    return a, b


def compose(later: tuple[Tensor, Tensor], earlier: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the pair of `earlier` followed by `later` (matrix product later @ earlier)."""
    a2, b2 = later
    a1, b1 = earlier
    return a2 * a1 - b2.conj() * b1, b2 * a1 + a2.conj() * b1


def accumulate(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Multiply up rotations along the last axis, in order of time, by a balanced tree; that axis disappears."""
    a, b = pair
    while a.shape[-1] > 1:
        even = a.shape[-1] // 2 * 2
        later = a[..., 1:even:2], b[..., 1:even:2]
        earlier = a[..., 0:even:2], b[..., 0:even:2]
        new_a, new_b = compose(later, earlier)
        if even < a.shape[-1]:
            new_a = torch.cat([new_a, a[..., even:]], -1)
            new_b = torch.cat([new_b, b[..., even:]], -1)
        a, b = new_a, new_b
    return a[..., 0], b[..., 0]


def matrices(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Return the 2 x 2 matrices of Cayley-Klein pairs, shape (..., 2, 2)."""
    a, b = pair
    return torch.stack([torch.stack([a, -b.conj()], -1), torch.stack([b, a.conj()], -1)], -2)
