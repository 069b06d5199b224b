"""Everything of a spin group that a simulation needs and that no pulse changes."""

import math
import os
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.spin.operators import isotropic_coupling, product_operator, spin_operator, total_operator
from seqgen.spin.reduction import reduced_groups
from seqgen.spin.system import SpinGroup, SpinSystem

PseudoSpins = Literal["secular", "fid_a"]
"""How spins other than 1H count: "secular" (IzSz alone, not detected: the physics), or "fid_a" (full I.S at their
shift in ppm of 1H, detected like 1H: FID-A's convention, to compare with its files alone)."""

_WORKING_COPIES = 12
"""Matrices of 16 d^2 bytes that a model and one propagator keep at the same time, about."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GroupModel:
    """A spin group at a field: its free Hamiltonian diagonalised, its couplings, its detection.

    H0 = sum_k 2 pi offset_k Iz_k + sum_{j<k} 2 pi J_jk I_j.I_k (1H pairs; Iz Iz where a heteronucleus takes part),
    in the frame of the spectrometer frequency. d is the product of 2I+1 over the spins: 2^n for n spins 1/2.
    """

    group: SpinGroup
    """The spins."""
    offset_hz: Tensor
    """Offset of every spin from the spectrometer frequency, Hz, shape (n,); 0 for heteronuclei."""
    pulsed: Tensor
    """1 for spins that RF and gradients act on (1H), 0 for heteronuclei, shape (n,), float64."""
    shift_rad_per_s: Tensor
    """Diagonal of the shift part of H0, sum_k 2 pi offset_k Iz_k, in the product basis, shape (d,)."""
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

    @property
    def dimension(self) -> int:
        """Dimension d of the Hilbert space."""
        return int(self.energy_rad_per_s.shape[0])


def molecule_models(
    system: SpinSystem,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    *,
    pseudo_spins: PseudoSpins = "secular",
    total_spins: bool = True,
) -> tuple[GroupModel, ...]:
    """Return the models whose signals add up to that of a molecule, each as small as exactness allows.

    Args:
        system: The molecule.
        spectrometer_frequency_hz: Spectrometer frequency f0, Hz.
        reference_ppm: Chemical shift at f0, ppm.
        pseudo_spins: See `PseudoSpins`; "fid_a" reduces nothing.
        total_spins: See `reduced_groups`.
    """
    groups = [
        part
        for group in system.groups
        for part in (reduced_groups(group, total_spins=total_spins) if pseudo_spins == "secular" else (group,))
    ]
    if not groups:
        raise InputError(f"Spin system {system.name!r} holds no 1H: it gives no signal. Leave it out.")
    return tuple(
        group_model(group, spectrometer_frequency_hz, reference_ppm, pseudo_spins=pseudo_spins) for group in groups
    )


def coupling_hamiltonian(group: SpinGroup, pseudo_spins: PseudoSpins = "secular") -> Tensor:
    """Return sum_{j<k} 2 pi J_jk I_j.I_k in rad/s (Iz Iz for pairs with a heteronucleus), float64, shape (d, d)."""
    sizes = group.dimension
    d = math.prod(sizes)
    total = torch.zeros(d, d, dtype=torch.float64)
    for j in range(group.n_spins):
        for k in range(j + 1, group.n_spins):
            if group.j_hz[j][k] == 0:
                continue
            if group.nuclei[j] == group.nuclei[k] == "1H" or pseudo_spins == "fid_a":
                pair = isotropic_coupling(sizes, j, k)
            else:
                pair = product_operator(sizes, {j: "z", k: "z"}).real
            total += 2 * math.pi * group.j_hz[j][k] * pair
    return total


def group_model(
    group: SpinGroup, spectrometer_frequency_hz: float, reference_ppm: float, *, pseudo_spins: PseudoSpins = "secular"
) -> GroupModel:
    """Diagonalise a spin group at a spectrometer frequency, as it stands (`molecule_models` reduces it first).

    Args:
        group: Shifts in ppm and couplings in Hz.
        spectrometer_frequency_hz: Spectrometer frequency f0, Hz.
        reference_ppm: Chemical shift at f0 (water on a scanner), ppm.
        pseudo_spins: See `PseudoSpins`.

    Returns:
        The model; frequencies are (shift - reference_ppm) f0.

    Raises:
        InputError: If the matrices of the group would not fit into this machine's memory.
    """
    sizes = group.dimension
    require_memory(group, _WORKING_COPIES, "its matrices")
    protons = tuple(k for k in range(group.n_spins) if group.nuclei[k] == "1H")
    with_shift = protons if pseudo_spins == "secular" else tuple(range(group.n_spins))
    offset_hz = torch.tensor(
        [
            ppm_to_hz(group.shift_ppm[k], spectrometer_frequency_hz, reference_ppm) + group.offset_hz[k]
            if k in with_shift
            else 0.0
            for k in range(group.n_spins)
        ],
        dtype=torch.float64,
    )
    coupling = coupling_hamiltonian(group, pseudo_spins)
    shift = torch.zeros(coupling.shape[0], dtype=torch.float64)
    for k in with_shift:
        shift += 2 * math.pi * offset_hz[k] * spin_operator(sizes, k, "z").real.diagonal()
    m = total_operator(sizes, "z", protons).real.diagonal()
    others = tuple(k for k in range(group.n_spins) if k not in protons)
    others_m = total_operator(sizes, "z", others).real.diagonal()
    conserved = torch.stack([m, others_m], 1) if pseudo_spins == "secular" else (m + others_m)[:, None]
    energy, vectors = _diagonalise_by_magnetic_quantum_numbers(coupling + torch.diag(shift), conserved)
    m_eigen = (vectors**2 * conserved[:, :1]).sum(0)
    order = torch.round(m_eigen[:, None] - m_eigen[None, :]).to(torch.int64)
    detection = vectors.T @ _raising_operator(sizes, with_shift) @ vectors
    pairs = torch.nonzero((order == -1) & (detection.T.abs() > 1e-9))
    weight = 4.0 / coupling.shape[0] * group.multiplier
    return GroupModel(
        group=group,
        offset_hz=offset_hz,
        pulsed=torch.tensor([1.0 if k in protons else 0.0 for k in range(group.n_spins)], dtype=torch.float64),
        shift_rad_per_s=shift,
        coupling_rad_per_s=coupling,
        energy_rad_per_s=energy,
        eigenvectors=vectors,
        order=order,
        initial_state=(vectors.T @ (conserved[:, :1] * vectors)).to(torch.complex128),
        transition=pairs,
        transition_weight=detection[pairs[:, 1], pairs[:, 0]] * weight,
        transition_hz=(energy[pairs[:, 1]] - energy[pairs[:, 0]]) / (2 * math.pi),
    )


def _raising_operator(sizes: tuple[int, ...], spins: tuple[int, ...]) -> Tensor:
    """Return the real matrix of sum_k I+_k, float64, shape (d, d)."""
    return (total_operator(sizes, "x", spins) + 1j * total_operator(sizes, "y", spins)).real


def require_memory(group: SpinGroup, n_matrices: int, what: str) -> None:
    """Refuse matrices of a group that exceed the memory of this machine, before anything is allocated.

    Args:
        group: The spin group.
        n_matrices: How many complex128 matrices of d x d are kept at the same time.
        what: What they are for, for the message.

    Raises:
        InputError: With the estimate.
    """
    d = math.prod(group.dimension)
    needed = 16 * n_matrices * d**2
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return  # a system that does not tell
    if needed > available:
        raise InputError(
            f"Spin group {group.name!r} of {group.n_spins} spins spans {d} levels: {what} need about "
            f"{needed / 2**30:.3g} GiB, but this machine has {available / 2**30:.3g} GiB. Split it where couplings are "
            "negligible, or simulate fewer positions and members at a time."
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
