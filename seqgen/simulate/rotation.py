r"""One-spin rotations in closed form, as Cayley-Klein pairs, and RF waveforms as few rotations.

A rotation is U = [[a, -b*], [b, a*]]. Under constant RF b1 at offset f for a time t the generator is
H = 2 pi (Re b1 Ix + Im b1 Iy + f Iz): with the turns x + iy = b1 t, z = f t and phi = pi sqrt(x^2 + y^2 + z^2),
a = cos phi - i pi z sin(phi)/phi, b = -i pi (x + iy) sin(phi)/phi.
Source: Pauly et al., IEEE Trans Med Imaging 10:53 (1991), doi:10.1109/42.75611.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError


def rotations(transverse: Tensor, longitudinal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Cayley-Klein pairs of rotations given in turns (1 is 360 degrees).

    Args:
        transverse: x + iy, gamma*B1/2pi times duration, complex, broadcastable with `longitudinal`.
        longitudinal: z, offset (positive above the frame's frequency) times duration, real.

    Returns:
        (a, b), complex, of the broadcast shape. Differentiable everywhere, at zero amplitude and offset too.
    """
    half_angle_squared = math.pi**2 * (transverse.real**2 + transverse.imag**2 + longitudinal**2)
    small = half_angle_squared < 1e-8
    root = torch.sqrt(torch.where(small, torch.ones_like(half_angle_squared), half_angle_squared))
    cosine = torch.where(small, 1 - half_angle_squared / 2 + half_angle_squared**2 / 24, torch.cos(root))
    sinc = torch.where(small, 1 - half_angle_squared / 6 + half_angle_squared**2 / 120, torch.sin(root) / root)
    scale = math.pi * sinc
    a = torch.complex(cosine, -scale * longitudinal)
    b = torch.complex(scale * transverse.imag, -scale * transverse.real)
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """An RF waveform window by window: what a rotation needs to know of it, for every offset and B1 scale."""

    area: Tensor
    """Integral of b1, turns, complex, shape (..., S, W)."""
    first: Tensor
    """Integral of b1 (t - middle of the window), turns s, complex, shape (..., S, W)."""
    twist: Tensor
    """Integral over t1 > t2 of Im(b1(t1) b1*(t2)) with reversed sign, Im(b1*(t1) b1(t2)), turns^2, real, same shape."""
    duration_s: Tensor
    """Durations of the windows, s, shape (S, W)."""
    along: Tensor | None = None
    """Integral of a gradient that changes in time, cycles per metre, real, shape (..., S, W); None if none does."""
    mixed: Tensor | None = None
    """Half the integral over t1 > t2 of b1(t1) g(t2) - g(t1) b1(t2), turns per metre s, complex, shape (..., S, W)."""

    def at(self, position_m: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return (area, longitudinal turns to add) of spins that feel a gradient that changes in time.

        Of the offset x g(t) the expansion of `turns` takes x along, and -2 pi i s x mixed, which is written into the
        area (a constant g has mixed = g first).

        Args:
            position_m: Positions x along the gradient, m, real, of a shape that broadcasts with (..., S, W).

        Raises:
            InputError: If the moments were made without a gradient.
        """
        if self.along is None or self.mixed is None:
            raise InputError("These moments hold no gradient. Give moments() the gradient's waveform.")
        return self.area - 2j * math.pi * position_m * self.mixed, position_m * self.along

    def turns(self, offset_hz: Tensor, b1_scale: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return (transverse, longitudinal) turns of every window by the Magnus expansion to second order.

        With omega = 2 pi (Re b1, Im b1, f), the rotation vector is the integral of omega plus half that of
        omega(t1) x omega(t2) over t1 > t2 (fourth order in the window; exact where b1 is constant in a window):
        transverse = s (area - 2 pi i f first), longitudinal = f duration + pi s^2 twist.
        Source: Blanes, Casas, Oteo, Ros, Phys Rep 470:151 (2009), doi:10.1016/j.physrep.2008.11.001.

        Args:
            offset_hz: Offsets f, Hz, real, of a shape that broadcasts with (..., S, W).
            b1_scale: Relative B1 s, real, likewise.
        """
        transverse = b1_scale * torch.complex(
            self.area.real + 2 * math.pi * offset_hz * self.first.imag,
            self.area.imag - 2 * math.pi * offset_hz * self.first.real,
        )
        return transverse, offset_hz * self.duration_s + math.pi * b1_scale**2 * self.twist


def moments(b1_hz: Tensor, dwell_s: float, edges_s: Tensor, gradient_hz_per_m: Tensor | None = None) -> Moments:
    """Return the moments of a piecewise-constant waveform between given times.

    Args:
        b1_hz: Waveform, Hz, complex, shape (..., T).
        dwell_s: Duration of a sample, s.
        edges_s: Times of the windows' edges after the start, s, ascending, real, shape (S, W + 1).
        gradient_hz_per_m: A gradient that changes in time, Hz/m, real, shape (..., T); default none.

    Returns:
        Moments in double precision. Differentiable in `b1_hz`.
    """
    b1 = b1_hz.to(torch.complex128)
    n = b1.shape[-1]
    # Integrals from the start to each sample: of b1, of b1 t, and of Im(b1* times the first).
    zero = torch.zeros_like(b1[..., :1])
    area = torch.cat([zero, torch.cumsum(b1 * dwell_s, -1)], -1)
    start_s = torch.arange(n, dtype=torch.float64, device=b1.device) * dwell_s
    moment = torch.cat([zero, torch.cumsum(b1 * (dwell_s * (start_s + dwell_s / 2)), -1)], -1)
    twist = torch.cat([zero.real, torch.cumsum((b1.conj() * area[..., :-1]).imag * dwell_s, -1)], -1)
    sample = torch.clamp((edges_s / dwell_s + 1e-9).floor().long(), max=n - 1)
    within_s = edges_s - start_s[sample]
    here = b1[..., sample]
    area_at = area[..., sample] + here * within_s
    moment_at = moment[..., sample] + here * (within_s * (start_s[sample] + within_s / 2))
    twist_at = twist[..., sample] + (here.conj() * area[..., sample]).imag * within_s
    gained = area_at[..., 1:] - area_at[..., :-1]
    middle_s = (edges_s[:, 1:] + edges_s[:, :-1]) / 2
    along, mixed = None, None
    if gradient_hz_per_m is not None:
        g = gradient_hz_per_m.to(torch.float64)
        turns = torch.cat([torch.zeros_like(g[..., :1]), torch.cumsum(g * dwell_s, -1)], -1)
        turns_at = turns[..., sample] + g[..., sample] * within_s
        # The integral of b1 times that of g: by parts, half of the double integral over t1 > t2.
        product = torch.cumsum(b1 * (dwell_s * (turns[..., :-1] + g * (dwell_s / 2))), -1)
        product = torch.cat([torch.zeros_like(product[..., :1]), product], -1)
        gained_here = here * within_s * (turns[..., sample] + g[..., sample] * (within_s / 2))
        product_at = product[..., sample] + gained_here
        along = turns_at[..., 1:] - turns_at[..., :-1]
        mixed = product_at[..., 1:] - product_at[..., :-1] - (turns_at[..., 1:] + turns_at[..., :-1]) / 2 * gained
    return Moments(
        along=along,
        mixed=mixed,
        area=gained,
        first=moment_at[..., 1:] - moment_at[..., :-1] - middle_s * gained,
        twist=twist_at[..., 1:] - twist_at[..., :-1] - (gained.conj() * area_at[..., :-1]).imag,
        duration_s=edges_s[:, 1:] - edges_s[:, :-1],
    )
