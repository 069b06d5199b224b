"""Bloch equations in plain NumPy, no line shared with seqgen: dM/dt = 2 pi (Re b1, Im b1, offset) x M."""

import numpy as np


def rotate(m, b1_hz, offset_hz, dwell_s):
    """Rotate vectors m (n, 3) about 2 pi (b1x, b1y, offset) for one dwell by Rodrigues' formula."""
    n = offset_hz.shape[0]
    omega = 2 * np.pi * np.stack([np.full(n, b1_hz.real), np.full(n, b1_hz.imag), offset_hz], 1)
    size = np.linalg.norm(omega, axis=1, keepdims=True)
    axis = omega / np.where(size > 0, size, 1)
    angle = size * dwell_s
    along = (axis * m).sum(1, keepdims=True) * axis
    return along + (m - along) * np.cos(angle) + np.cross(axis, m) * np.sin(angle)


def play(m, b1_hz, gradient_hz_per_m, dwell_s, position_m, offset_hz):
    """Play piecewise-constant RF (T,) and gradients (T, 3) to isolated spins at positions (n, 3) with offsets (n,)."""
    for b1, gradient in zip(b1_hz, gradient_hz_per_m, strict=True):
        m = rotate(m, b1, position_m @ gradient + offset_hz, dwell_s)
    return m


def along_z(n):
    """Equilibrium magnetisation of n spins."""
    return np.tile([0.0, 0.0, 1.0], (n, 1))


def half_maximum(x, profile):
    """Return (middle, width) between the outermost crossings of half the value in the middle of the profile."""
    half = 0.5 * profile[len(profile) // 2]
    inside = np.flatnonzero(profile >= half)
    first, last = inside[0], inside[-1]
    low = np.interp(half, profile[first - 1 : first + 1], x[first - 1 : first + 1])
    high = np.interp(half, profile[last : last + 2][::-1], x[last : last + 2][::-1])
    return (low + high) / 2, high - low
