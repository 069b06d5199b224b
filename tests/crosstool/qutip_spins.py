"""Coupled spins 1/2 in QuTiP: Hamiltonians, pulses, signals, relaxation spin by spin; shares no code with seqgen.

Conventions as in docs/conventions.md: first spin leftmost, alpha first, H = 2 pi (offset Iz + J I.I + Re b1 Fx + Im b1
Fy) in rad/s, signal Tr(rho F+) with 1 per proton along +x for a thermal state of sum Iz.
"""

import math

import numpy as np
import pytest
from scipy.sparse import bmat, csr_matrix
from scipy.sparse.linalg import expm_multiply

qutip = pytest.importorskip("qutip", reason="QuTiP is not installed: pip install -c constraints.txt -e '.[peers]'")


def spin(n, k, axis):
    """I_axis of spin k among n."""
    one = {
        "x": qutip.sigmax(),
        "y": qutip.sigmay(),
        "z": qutip.sigmaz(),
        "+": 2 * qutip.sigmap(),
        "-": 2 * qutip.sigmam(),
    }
    return qutip.tensor([one[axis] / 2 if j == k else qutip.qeye(2) for j in range(n)])


def total(n, axis):
    return sum(spin(n, k, axis) for k in range(n))


def free_hamiltonian(offset_hz, j_hz):
    """Rad/s, from offsets in Hz and a symmetric coupling matrix in Hz."""
    n = len(offset_hz)
    h = sum(2 * math.pi * float(offset_hz[k]) * spin(n, k, "z") for k in range(n))
    for j in range(n):
        for k in range(j + 1, n):
            h = h + 2 * math.pi * float(j_hz[j][k]) * sum(spin(n, j, a) * spin(n, k, a) for a in "xyz")
    return h


def sample_hamiltonians(h, b1_hz, offset_hz=0.0):
    """H of every sample of a waveform, at an offset common to all spins."""
    n = len(h.dims[0])
    fx, fy, fz = (total(n, a) for a in "xyz")
    return [h + 2 * math.pi * (float(b.real) * fx + float(b.imag) * fy + float(offset_hz) * fz) for b in b1_hz]


def pulse(h, b1_hz, dwell_s, offset_hz=0.0):
    """Propagator of piecewise-constant samples, one matrix exponential each."""
    u = qutip.qeye(h.dims[0])
    for hamiltonian in sample_hamiltonians(h, b1_hz, offset_hz):
        u = (-1j * dwell_s * hamiltonian).expm() * u
    return u


def delay(h, time_s, offset_hz=0.0):
    return pulse(h, np.zeros(1, complex), time_s, offset_hz)


def signal(rho, h, n_samples, dwell_s, offset_hz=0.0):
    """Tr(rho(t) F+) at t = 0, dwell, 2 dwell, ..., 1 per proton along x."""
    n = len(h.dims[0])
    f_plus, step = total(n, "+"), delay(h, dwell_s, offset_hz)
    values = []
    for _ in range(n_samples):
        values.append((rho * f_plus).tr())
        rho = step * rho * step.dag()
    return np.array(values) * 4 / 2**n


def collapse_operators(t1_s, t2_s):
    """Lindblad operators of independent relaxation of every spin at infinite temperature.

    T1: I+ and I- at rate 1/(2 T1) each, so Iz decays with 1/T1 and the transverse part with 1/(2 T1); the rest of 1/T2
    is pure dephasing by Iz. Products of spins decay with the sum of their spins' rates. Times may be math.inf.
    """
    n = len(t1_s)
    operators = []
    for k, (t1, t2) in enumerate(zip(t1_s, t2_s, strict=True)):
        dephasing = 1 / t2 - 1 / (2 * t1)
        if dephasing < -1e-12:
            raise ValueError(f"T2 of spin {k} exceeds 2 T1: {t2} s, {t1} s")
        if t1 < math.inf:
            operators += [math.sqrt(1 / (2 * t1)) * spin(n, k, sign) for sign in "+-"]
        if dephasing > 0:
            operators.append(math.sqrt(2 * dephasing) * spin(n, k, "z"))
    return operators


def qutip_relaxed_state(rho, offset_hz, j_hz, b1_hz, dwell_s, t1_s, t2_s, *, common_offset_hz=0.0, equilibrium=None):
    """Density matrix after an RF pulse with relaxation, spin by spin, during it.

    d rho / dt = -i [H, rho] + R (rho - equilibrium), R from `collapse_operators`; QuTiP builds the Liouvillian of every
    sample, its exponential acts by scipy's expm_multiply (double precision, no time step).

    Args:
        rho: State before the pulse in the product basis, complex, shape (d, d): array or Qobj.
        offset_hz: Offset of every spin, Hz, shape (n,).
        j_hz: Symmetric coupling matrix, Hz, shape (n, n).
        b1_hz: RF, Hz, complex, shape (T,).
        dwell_s: Duration of a sample, s.
        t1_s: T1 of every spin, s, math.inf for none.
        t2_s: T2 of every spin, s, at most 2 T1, math.inf for none.
        common_offset_hz: Offset common to all spins, Hz.
        equilibrium: State to which R relaxes, shape (d, d), for example sum Iz; default zero: decay without recovery.

    Returns:
        Complex array of shape (d, d).
    """
    h = free_hamiltonian(offset_hz, j_hz)

    def column(state):
        array = state.full() if isinstance(state, qutip.Qobj) else np.asarray(state)
        return array.reshape(-1, order="F").astype(complex)  # QuTiP stacks columns

    def matrix(liouvillian):
        return csr_matrix(liouvillian.to("CSR").data_as("csr_matrix"))

    operators = collapse_operators(t1_s, t2_s)
    relaxation = matrix(qutip.liouvillian(0 * h, operators)) if operators else csr_matrix((h.shape[0] ** 2,) * 2)
    source = np.zeros(h.shape[0] ** 2) if equilibrium is None else -(relaxation @ column(equilibrium))
    state = np.append(column(rho), 1.0)  # the last element carries the source
    for hamiltonian in sample_hamiltonians(h, b1_hz, common_offset_hz):
        generator = matrix(qutip.liouvillian(hamiltonian)) + relaxation
        affine = bmat([[generator, source[:, None]], [None, csr_matrix((1, 1))]], format="csr")
        state = expm_multiply(affine * dwell_s, state)
    return state[:-1].reshape(h.shape, order="F")
