"""Everything of a spin group that a simulation needs and that no pulse changes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.spin.operators import isotropic_coupling, spin_operator, total_operator
from seqgen.spin.system import SpinGroup


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupModel:
    """A spin group at a field: its free Hamiltonian diagonalised, its couplings, its detection.

    H0 = sum_k 2 pi offset_k Iz_k + sum_{j<k} 2 pi J_jk I_j.I_k (1H pairs; Iz Iz where a heteronucleus takes part),
    in the frame of the spectrometer frequency. d = 2^n.
    """

    group: SpinGroup
    """The spins."""
    offset_hz: Tensor
    """Offset of every spin from the spectrometer frequency, Hz, shape (n,); 0 for heteronuclei."""
    pulsed: Tensor
    """1 for spins that RF and gradients act on (1H), 0 for heteronuclei, shape (n,), float64."""
    coupling_rad_per_s: Tensor
    """The coupling part of H0 in the product basis, real symmetric, shape (d, d)."""
    energy_rad_per_s: Tensor
    """Eigenvalues of H0, shape (d,)."""
    eigenvectors: Tensor
    """Eigenvectors of H0 in the product basis as columns, real orthogonal, shape (d, d)."""
    order: Tensor
    """Coherence order m_i - m_j of every matrix element (1H only), int64, shape (d, d)."""
    initial_state: Tensor
    """Thermal state sum_k Iz_k of the protons in the eigenbasis, complex128, shape (d, d)."""
    transition: Tensor
    """Index pairs (i, j) of the detected elements rho_ij (order -1), int64, shape (n_lines, 2)."""
    transition_weight: Tensor
    """Detection weight of each pair: signal = sum weight rho_ij; 1 per proton for Ix, shape (n_lines,), float64."""
    transition_hz: Tensor
    """Frequency of each pair, Hz, positive above the spectrometer frequency, shape (n_lines,)."""


def coupling_hamiltonian(group: SpinGroup) -> Tensor:
    """Return sum_{j<k} 2 pi J_jk I_j.I_k in rad/s (Iz Iz for pairs with a heteronucleus), float64, shape (d, d)."""
    n = group.n_spins
    total = torch.zeros(2**n, 2**n, dtype=torch.float64)
    for j in range(n):
        for k in range(j + 1, n):
            if group.j_hz[j][k] == 0:
                continue
            if group.nuclei[j] == group.nuclei[k] == "1H":
                pair = isotropic_coupling(n, j, k)
            else:
                pair = (spin_operator(n, j, "z") @ spin_operator(n, k, "z")).real
            total += 2 * math.pi * group.j_hz[j][k] * pair
    return total


def group_model(group: SpinGroup, spectrometer_frequency_hz: float, reference_ppm: float) -> GroupModel:
    """Diagonalise a spin group at a spectrometer frequency.

    Args:
        group: Shifts in ppm and couplings in Hz.
        spectrometer_frequency_hz: Spectrometer frequency f0, Hz.
        reference_ppm: Chemical shift at f0 (water on a scanner), ppm.

    Returns:
        The model; frequencies are (shift - reference_ppm) f0.
    """
    n = group.n_spins
    protons = tuple(k for k in range(n) if group.nuclei[k] == "1H")
    offset_hz = torch.tensor(
        [
            ppm_to_hz(group.shift_ppm[k], spectrometer_frequency_hz, reference_ppm) if k in protons else 0.0
            for k in range(n)
        ],
        dtype=torch.float64,
    )
    coupling = coupling_hamiltonian(group)
    h0 = coupling.clone()
    for k in protons:
        h0 += 2 * math.pi * offset_hz[k] * spin_operator(n, k, "z").real
    m = total_operator(n, "z", protons).real.diagonal()
    others = total_operator(n, "z", tuple(k for k in range(n) if k not in protons)).real.diagonal()
    energy, vectors = _diagonalise_by_magnetic_quantum_numbers(h0, torch.stack([m, others], 1))
    m_eigen = (vectors**2 * m[:, None]).sum(0)
    order = torch.round(m_eigen[:, None] - m_eigen[None, :]).to(torch.int64)
    detection = (total_operator(n, "x", protons) + 1j * total_operator(n, "y", protons)).real
    detection = vectors.T @ detection @ vectors
    pairs = torch.nonzero((order == -1) & (detection.T.abs() > 1e-9))
    return GroupModel(
        group=group,
        offset_hz=offset_hz,
        pulsed=torch.tensor([1.0 if k in protons else 0.0 for k in range(n)], dtype=torch.float64),
        coupling_rad_per_s=coupling,
        energy_rad_per_s=energy,
        eigenvectors=vectors,
        order=order,
        initial_state=(vectors.T @ (m[:, None] * vectors)).to(torch.complex128),
        transition=pairs,
        transition_weight=detection[pairs[:, 1], pairs[:, 0]] * (4.0 / 2**n) * group.multiplier,
        transition_hz=(energy[pairs[:, 1]] - energy[pairs[:, 0]]) / (2 * math.pi),
    )


def _diagonalise_by_magnetic_quantum_numbers(h0: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonalise H0 block by block of equal rows of `m` (Fz of 1H, Fz of the rest), shape (d, 2).

    Degenerate eigenvectors then never mix coherence orders.
    """
    energy = torch.zeros(h0.shape[0], dtype=torch.float64)
    vectors = torch.zeros_like(h0)
    for block in torch.unique(m, dim=0):
        index = torch.nonzero((m == block).all(1))[:, 0]
        block_energy, block_vectors = torch.linalg.eigh(h0[index][:, index])
        energy[index] = block_energy
        vectors[index[:, None], index[None, :]] = block_vectors
    return energy, vectors
