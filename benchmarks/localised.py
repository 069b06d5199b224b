"""Localised PRESS with shaped selective 180-degree pulses: one metabolite at 41 x 41 positions, a basis set at 16 x 16.

The sequence is that of the reference signals W2: hard 90x, TE1 = TE2 = 15 ms, orders -1, +1, -1, gradients on during
the pulses alone, 2048 samples of 0.5 ms. Pulse and gradient are those of W2 where the folder `shared` with the
reference signals lies beside the project; elsewhere the 180 that is shipped with the simulation files.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seqgen.library import spin_system
from seqgen.simulate.acquire import concatenate, fid, lines
from seqgen.simulate.localise import play, prepare
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.hamiltonian import GroupModel, group_model, molecule_models
from seqgen.spin.operators import spin_operator, total_operator
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

F0_HZ, REFERENCE_PPM, TE_S = 123.25e6, 2.35, 0.015
N_SAMPLES, DWELL_S, PULSE_DWELL_S = 2048, 5e-4, 5e-5
BASIS = (
    *("Ala", "Asc", "Asp", "Cr", "GABA", "Gln", "Glu", "Gly", "GPC", "GSH"),
    *("Lac", "mI", "NAA", "NAAG", "PCh", "PCr", "PE", "Ser", "sI", "Tau"),
)


_PROJECT = Path(__file__).resolve().parents[1]
_W2 = _PROJECT.parent / "shared/data/reference/w2_inputs.npz"


def pulse_name() -> str:
    """Return which 180 is played."""
    return "W2 (Mao, 1.09 kHz)" if _W2.exists() else "shipped (Hamming sinc)"


def pulse_hz() -> Tensor:
    """Return the 180, Hz, complex, one sample per PULSE_DWELL_S."""
    if _W2.exists():
        with np.load(_W2, allow_pickle=True) as inputs:
            amplitude_hz, phase_rad = inputs["pulse_amp_Hz"], inputs["pulse_phase_rad"]
    else:
        path = _PROJECT / "protocols/simulate_press_shaped_180.csv"
        _, amplitude_hz, phase_rad = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2).T[:3]
    return torch.as_tensor(amplitude_hz * np.exp(1j * (phase_rad + math.pi / 2)))


def gradient_hz_per_m() -> float:
    """Return the slice gradient, Hz/m."""
    if not _W2.exists():
        return 6e4
    with np.load(_W2, allow_pickle=True) as inputs:
        return float(inputs["grad_Hz_per_m"])


def timeline(b1_hz: Tensor) -> Timeline:
    """Return the shot."""
    half_s = 0.5 * (TE_S - b1_hz.shape[0] * PULSE_DWELL_S)

    def selective(axis: int) -> Interval:
        gradient = torch.zeros(b1_hz.shape[0], 3, dtype=torch.float64)
        gradient[:, axis] = gradient_hz_per_m()
        return Interval(
            dwell_s=PULSE_DWELL_S,
            b1_hz=b1_hz,
            gradient_hz_per_m=gradient,
            use="refocusing",
            centre_s=0.5 * b1_hz.shape[0] * PULSE_DWELL_S,
            name=f"180 {'xy'[axis]}",
        )

    def crushed(axis: int) -> Interval:
        return delay(half_s, (1000.0 / half_s, 0.0, 0.0) if axis == 0 else (0.0, 1000.0 / half_s, 0.0))

    silent = delay(N_SAMPLES * DWELL_S)
    readout = Interval(
        dwell_s=silent.dwell_s,
        b1_hz=silent.b1_hz,
        gradient_hz_per_m=silent.gradient_hz_per_m,
        receiver=Receiver(n_samples=N_SAMPLES, dwell_s=DWELL_S),
    )
    ninety = ideal_pulse(math.pi / 2, 0.0, "excitation")
    return Timeline(
        intervals=(ninety, crushed(0), selective(0), crushed(0), crushed(1), selective(1), crushed(1), readout)
    )


def signal(
    shot: Timeline, models: Sequence[GroupModel], positions_m: Tensor, j_step_s: float = RESULT_J_STEP_S
) -> Tensor:
    """Return the FID of a molecule by the engine, shape (N_SAMPLES,)."""
    zero_s = shot.readouts()[0][0]
    parts = [
        lines(play(prepare([shot], m, positions_m=positions_m, j_step_s=j_step_s, time_zero_s=zero_s)), m)
        for m in models
    ]
    return fid(concatenate(parts), N_SAMPLES, DWELL_S)[0]


def exact_signal(b1_hz: Tensor, model: GroupModel, positions_m: Tensor) -> Tensor:
    """Return the FID by one matrix exponential of the full Hamiltonian per sample and position, without the engine."""
    sizes, d = model.group.dimension, model.dimension
    fx, fy, fz = (total_operator(sizes, axis) for axis in "xyz")
    h0 = model.coupling_rad_per_s + 2 * math.pi * sum(
        model.offset_hz[k] * spin_operator(sizes, k, "z") for k in range(len(sizes))
    )
    order = torch.round(fz.diagonal().real[:, None] - fz.diagonal().real[None, :])
    free = torch.linalg.matrix_exp(-1j * h0 * 0.5 * (TE_S - b1_hz.shape[0] * PULSE_DWELL_S))
    ninety = torch.linalg.matrix_exp(-0.5j * math.pi * fx)
    rho = ninety @ fz @ ninety.mH * (order == -1)
    for after in (1, -1):
        rho = free @ rho @ free.mH
        h = h0 + 2 * math.pi * gradient_hz_per_m() * positions_m[:, None, None] * fz
        u = torch.eye(d, dtype=torch.complex128).expand(len(positions_m), -1, -1)
        for sample in b1_hz:
            u = (
                torch.linalg.matrix_exp(-1j * PULSE_DWELL_S * (h + 2 * math.pi * (sample.real * fx + sample.imag * fy)))
                @ u
            )
        rho = (u @ rho @ u.mH).mean(0) * (order == after)
        rho = free @ rho @ free.mH
    energy, vectors = torch.linalg.eigh(h0)
    detected = (
        (vectors.mH @ (fx + 1j * fy) @ vectors).mT * (vectors.mH @ rho @ vectors) * (4 / d * model.group.multiplier)
    )
    t_s = torch.arange(N_SAMPLES, dtype=torch.float64) * DWELL_S
    kept = torch.nonzero(detected.abs() > 1e-14)
    frequency = energy[kept[:, 1]] - energy[kept[:, 0]]
    return detected[kept[:, 0], kept[:, 1]] @ torch.exp(1j * frequency[:, None] * t_s)


def positions(count: int) -> Tensor:
    """Return positions from -22.5 to 22.5 mm, in m."""
    return torch.linspace(-0.0225, 0.0225, count, dtype=torch.float64)


def glutamate(j_step_s: float = RESULT_J_STEP_S, count: int = 41) -> Tensor:
    """Return the FID of Glu at count x count positions, spin system to signal."""
    model = group_model(spin_system("Glu").groups[0], F0_HZ, REFERENCE_PPM)
    return signal(timeline(pulse_hz()), [model], positions(count), j_step_s)


def basis(j_step_s: float = RESULT_J_STEP_S, count: int = 16) -> Tensor:
    """Return the FIDs of 20 metabolites at count x count positions, shape (20, N_SAMPLES)."""
    shot, places = timeline(pulse_hz()), positions(count)
    return torch.stack(
        [signal(shot, molecule_models(spin_system(name), F0_HZ, REFERENCE_PPM), places, j_step_s) for name in BASIS]
    )


def exact_basis(count: int = 16) -> Tensor:
    """Return what `basis` approximates: exact steps for every (reduced) group."""
    places = positions(count)
    return torch.stack(
        [
            torch.stack(
                [
                    exact_signal(pulse_hz(), model, places)
                    for model in molecule_models(spin_system(name), F0_HZ, REFERENCE_PPM)
                ]
            ).sum(0)
            for name in BASIS
        ]
    )


def exact_glutamate(count: int = 41) -> Tensor:
    """Return what `glutamate` approximates."""
    model = group_model(spin_system("Glu").groups[0], F0_HZ, REFERENCE_PPM)
    return exact_signal(pulse_hz(), model, positions(count))
