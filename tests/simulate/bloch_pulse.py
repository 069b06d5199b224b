"""Independent Bloch integration of one isolated spin: 3 x 3 rotations (Rodrigues) and scipy's solve_ivp."""

import numpy as np
from scipy.integrate import solve_ivp


def rotation(b1_hz, dwell_s, offset_hz):
    """Right-handed rotation about (Re b1, Im b1, offset), sample by sample, shape (..., 3, 3) for offsets (...)."""
    offset_hz = np.asarray(offset_hz, dtype=float)
    total = np.broadcast_to(np.eye(3), (*offset_hz.shape, 3, 3))
    for b1 in b1_hz:
        field = np.stack(np.broadcast_arrays(b1.real, b1.imag, offset_hz), -1)
        size = np.linalg.norm(field, axis=-1)
        x, y, z = np.moveaxis(field / np.where(size == 0, 1, size)[..., None], -1, 0)
        zero = np.zeros_like(z)
        k = np.stack([np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))], -2)
        angle = (2 * np.pi * size * dwell_s)[..., None, None]
        total = (np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k) @ total
    return total


def integrate(b1_hz, dwell_s, offset_hz, start=(0.0, 0.0, 1.0)):
    """Magnetisation after a pulse by scipy's Runge-Kutta, sample by sample: dM/dt = 2 pi (b1x, b1y, offset) x M."""
    m = np.array(start)
    for b1 in b1_hz:
        field = (b1.real, b1.imag, offset_hz)
        m = solve_ivp(
            lambda _, m, field=field: 2 * np.pi * np.cross(field, m), (0, dwell_s), m, "DOP853", rtol=1e-9, atol=1e-11
        ).y[:, -1]
    return m


def refocused_part(r):
    """Factor beta of M+ after = alpha M+ + beta M-: what goes from order -1 to +1 and back."""
    return 0.5 * ((r[..., 0, 0] - r[..., 1, 1]) + 1j * (r[..., 0, 1] + r[..., 1, 0]))
