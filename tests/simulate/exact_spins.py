"""Plain NumPy density-matrix simulation, one matrix exponential per sample; shares no code with seqgen."""

import functools

import numpy as np
from scipy.linalg import expm

PAULI = {
    "x": np.array([[0, 1], [1, 0]]) / 2,
    "y": np.array([[0, -1j], [1j, 0]]) / 2,
    "z": np.array([[1, 0], [0, -1]]) / 2,
}


def single(n, spin, axis):
    return functools.reduce(np.kron, [PAULI[axis] if k == spin else np.eye(2) for k in range(n)])


def total(n, axis):
    return sum(single(n, k, axis) for k in range(n))


def free_hamiltonian(offset_hz, j_hz):
    """Rad/s, from offsets in Hz and a symmetric coupling matrix in Hz."""
    n = len(offset_hz)
    h = sum(2 * np.pi * offset_hz[k] * single(n, k, "z") for k in range(n))
    for j in range(n):
        for k in range(j + 1, n):
            h = h + 2 * np.pi * j_hz[j][k] * sum(single(n, j, a) @ single(n, k, a) for a in "xyz")
    return h


def pulse(h, b1_hz, dwell_s, offset_hz=0.0):
    """Propagator of samples b1_hz at a common offset."""
    n = round(np.log2(h.shape[0]))
    fx, fy, fz = (total(n, a) for a in "xyz")
    u = np.eye(h.shape[0])
    for b1 in b1_hz:
        u = expm(-1j * dwell_s * (h + 2 * np.pi * (b1.real * fx + b1.imag * fy + offset_hz * fz))) @ u
    return u


def delay(h, time_s, offset_hz=0.0):
    return pulse(h, np.zeros(1, complex), time_s, offset_hz)


def order_filter(rho, order):
    """Keep one coherence order (row's total m minus column's)."""
    m = np.real(np.diag(total(round(np.log2(rho.shape[0])), "z")))
    return rho * (np.abs(m[:, None] - m[None, :] - order) < 0.1)


def signal(rho, h, times_s, offset_hz=0.0):
    """Tr(rho(t) F+), 1 per proton along x."""
    n = round(np.log2(h.shape[0]))
    energy, vectors = np.linalg.eigh(h + 2 * np.pi * offset_hz * total(n, "z"))
    f_plus = vectors.conj().T @ (total(n, "x") + 1j * total(n, "y")) @ vectors
    rho = vectors.conj().T @ rho @ vectors
    turns = np.exp(-1j * np.subtract.outer(energy, energy)[None] * np.asarray(times_s)[:, None, None])
    return np.einsum("ij,tij,ji->t", rho, turns, f_plus) * 4 / 2**n
