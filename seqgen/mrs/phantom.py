"""A simulated acquisition: the shots of a `.seq` played to a sample that differs from what the fit believes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.axes import spectrum, time_axis_s
from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak, macromolecule_fid
from seqgen.mrs.basis_simulation import simulate_fid
from seqgen.mrs.quantify import PROTONS_OF_WATER, relaxation_factor
from seqgen.mrs.readouts import describe_readouts, split_shots
from seqgen.provenance import Progress
from seqgen.seqfile.cycle import editing_conditions, phase_cycle
from seqgen.seqfile.reader import SeqFile
from seqgen.seqfile.shots import Shot, shots
from seqgen.simulate.pathways import principal_echo
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem

Complex = NDArray[np.complex128]

EDDY_DECAY_S = 0.02
"""Time in which the phase that eddy currents write decays, s."""
WATER_WOBBLE = 0.1
"""Relative standard deviation of the residual water from shot to shot."""
NOISE_COUPLING = 0.2
"""Size of the random mixing that correlates the noise of the coils."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Substance:
    """A metabolite in the simulated sample."""

    system: SpinSystem
    """Its spin system as tabulated."""
    concentration_mm: float
    """Concentration, mM."""
    relaxation: Relaxation
    """T1 and T2 as the protocol states them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Background:
    """Macromolecules in the simulated sample: Gaussian peaks that no pulse but the localisation changes."""

    peaks: tuple[MacromoleculePeak, ...]
    """The peaks; empty for none."""
    concentration_mm: float
    """Factor on their amplitudes, mM."""
    relaxation: Relaxation
    """T1 and T2 of all of them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scan:
    """How the simulated scanner behaves."""

    n_coils: int
    """Receive coils."""
    snr: float
    """Magnitude of the tallest metabolite peak over the noise of one real component, spectrum of all averages."""
    linewidth_hz: float
    """Lorentzian width of metabolite lines, Hz."""
    frequency_drift_hz: float
    """Linear drift from the first to the last shot, Hz."""
    phase_drift_rad: float
    """Linear drift from the first to the last shot, rad."""
    residual_water_fraction: float
    """Water left in suppressed shots."""
    water_concentration_mm: float
    """Concentration of water, mM."""
    water_relaxation: Relaxation
    """T1 and T2 of water."""
    water_shift_ppm: float
    """Shift of water, ppm."""
    shift_error_ppm: float
    """Standard deviation of each metabolite's shift error, ppm."""
    j_error_relative: float
    """Standard deviation of each metabolite's relative coupling error."""
    t2_error_relative: float
    """Standard deviation of each metabolite's relative T2 error."""
    eddy_phase_rad: float = 0.3
    """Phase that eddy currents write into the first sample of every shot, rad."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SimulatedScan:
    """Transients as they come from the receiver, and the truth behind them."""

    transients: Complex
    """Shape (n_readouts, n_coils, n_samples), in seqgen's sense, receiver phases of the sequence applied."""
    labels: tuple[dict[str, int], ...]
    """Pulseq labels at each readout."""
    start_s: tuple[float, ...]
    """Time each readout opened, s after the start of the sequence."""
    truth: dict[str, dict[str, float]]
    """Concentration, T1, T2, shift and coupling error of each metabolite; keys carry units."""


def simulate_scan(
    seq: SeqFile,
    substances: Mapping[str, Substance],
    scan: Scan,
    *,
    spectrometer_frequency_hz: float,
    seed: int,
    background: Background | None = None,
    progress: Progress | None = None,
) -> SimulatedScan:
    """Play every readout of a file to the sample: the steps of a phase cycle alike, each as the mean of all.

    Each metabolite's FID comes from the spin simulation of the file with shifts, couplings and T2 drawn around the
    tabulated ones; then follow T2 decay over the echo time of its shot (of each editing condition, and of the water
    reference), saturation at TR, Lorentzian linewidth, residual water, eddy-current phase, drifts, complex coil
    sensitivities, and noise that is correlated between coils.

    Args:
        seq: The file; its [DEFINITIONS] give TR.
        substances: The sample, by name.
        scan: Receiver and imperfections.
        spectrometer_frequency_hz: Spectrometer frequency, Hz; it stands on water.
        seed: Seed of all random numbers.
        background: Macromolecules, if any.
        progress: Called after each metabolite.

    Raises:
        InputError: If the file states no TR.
    """
    rng = np.random.default_rng(seed)
    all_shots = shots(seq)
    tr = seq.definition_numbers("TR")
    if tr is None:
        raise InputError(f"{seq.name} states no TR in [DEFINITIONS], so saturation cannot be simulated. Add TR in s.")
    truth: dict[str, dict[str, float]] = {}
    cycles = {
        condition: phase_cycle(all_shots, condition=condition if len(editing_conditions(all_shots)) > 1 else None)
        for condition in editing_conditions(all_shots)
    }
    readouts = describe_readouts(seq, split_shots(all_shots, None)[0])
    te_s = {condition: principal_echo(cycle).te_s for condition, cycle in cycles.items()}
    n_samples = readouts.n_samples - readouts.n_cut
    time_s = time_axis_s(n_samples, readouts.dwell_s)
    metabolites = {condition: np.zeros(n_samples, dtype=np.complex128) for condition in cycles}
    for done, (name, substance) in enumerate(substances.items(), 1):
        system, relaxation, truth[name] = _drawn(substance, scan, rng)
        for condition, cycle in cycles.items():
            scale = substance.concentration_mm * relaxation_factor(relaxation, te_s[condition], tr[0])
            metabolites[condition] += scale * simulate_fid(
                cycle,
                readouts,
                system,
                spectrometer_frequency_hz=spectrometer_frequency_hz,
                reference_ppm=scan.water_shift_ppm,
            )
        if progress is not None:
            progress(done, len(substances))
    for condition, values in metabolites.items():
        values *= np.exp(-math.pi * scan.linewidth_hz * time_s)
        if background is not None:
            values += _background(background, scan, spectrometer_frequency_hz, te_s[condition], tr[0], time_s)
    water = _water(scan, seq, all_shots, spectrometer_frequency_hz, tr[0], time_s)
    transients = _received(all_shots, metabolites, water, scan, readouts.n_cut, readouts.dwell_s, rng)
    return SimulatedScan(
        transients=transients,
        labels=tuple(shot.labels for shot in all_shots),
        start_s=tuple(shot.start_s + shot.timeline.readouts()[0][0] for shot in all_shots),
        truth=truth,
    )


def _drawn(
    substance: Substance, scan: Scan, rng: np.random.Generator
) -> tuple[SpinSystem, Relaxation, dict[str, float]]:
    """Return the metabolite as it is in the sample: shifts, couplings and T2 drawn around the tabulated ones."""
    shift_ppm, j_factor, t2_factor = (
        float(rng.normal(mean, sd))
        for mean, sd in ((0.0, scan.shift_error_ppm), (1.0, scan.j_error_relative), (1.0, scan.t2_error_relative))
    )
    groups = tuple(_perturbed(group, shift_ppm, j_factor) for group in substance.system.groups)
    nominal = substance.relaxation
    relaxation = Relaxation(t1_s=nominal.t1_s, t2_s=min(nominal.t2_s * max(t2_factor, 0.1), 2 * nominal.t1_s))
    truth = {
        "concentration_mm": substance.concentration_mm,
        "t1_s": relaxation.t1_s,
        "t2_s": relaxation.t2_s,
        "shift_error_ppm": shift_ppm,
        "j_factor": j_factor,
    }
    return replace(substance.system, groups=groups), relaxation, truth


def _perturbed(group: SpinGroup, shift_ppm: float, j_factor: float) -> SpinGroup:
    """Return the group with all proton shifts moved and all couplings scaled."""
    return replace(
        group,
        shift_ppm=tuple(
            ppm + shift_ppm if nucleus == "1H" else ppm
            for ppm, nucleus in zip(group.shift_ppm, group.nuclei, strict=True)
        ),
        j_hz=tuple(tuple(j * j_factor for j in row) for row in group.j_hz),
    )


def _background(
    background: Background,
    scan: Scan,
    spectrometer_frequency_hz: float,
    te_s: float,
    tr_s: float,
    time_s: NDArray[np.float64],
) -> Complex:
    """Return the FID of the macromolecules."""
    scale = background.concentration_mm * relaxation_factor(background.relaxation, te_s, tr_s)
    fids = macromolecule_fid(
        background.peaks, torch.from_numpy(time_s), spectrometer_frequency_hz, scan.water_shift_ppm
    )
    total: Complex = scale * np.asarray(fids.sum(-1), dtype=np.complex128)
    return total


def water_system(water_shift_ppm: float) -> SpinSystem:
    """Return water as one spin that stands for its two protons."""
    group = SpinGroup(
        name="H2O", labels=("H",), shift_ppm=(water_shift_ppm,), j_hz=((0.0,),), multiplier=float(PROTONS_OF_WATER)
    )
    return SpinSystem(name="water", groups=(group,), full_name="water")


def _water(
    scan: Scan,
    seq: SeqFile,
    all_shots: tuple[Shot, ...],
    spectrometer_frequency_hz: float,
    tr_s: float,
    time_s: NDArray[np.float64],
) -> Complex:
    """Return the FID of unsuppressed water, simulated through the reference shots where the file has any."""
    _, reference, _ = split_shots(all_shots, None)
    if not reference:
        return np.zeros(time_s.shape, dtype=np.complex128)
    cycle = phase_cycle(all_shots, reference=True)
    values = simulate_fid(
        cycle,
        describe_readouts(seq, reference),
        water_system(scan.water_shift_ppm),
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        reference_ppm=scan.water_shift_ppm,
    )
    amplitude = scan.water_concentration_mm * relaxation_factor(scan.water_relaxation, principal_echo(cycle).te_s, tr_s)
    return amplitude * values * np.exp(-math.pi * scan.linewidth_hz * time_s)


def _received(
    all_shots: tuple[Shot, ...],
    metabolites: Mapping[int, Complex],
    water: Complex,
    scan: Scan,
    n_cut: int,
    dwell_s: float,
    rng: np.random.Generator,
) -> Complex:
    """Return what the coils receive in every shot: drifts, eddy currents, sensitivities, correlated noise.

    Metabolites are given by editing condition (label SET).
    """
    first = next(iter(metabolites.values()))
    n_shots, n_kept = len(all_shots), first.shape[0]
    time_s = time_axis_s(n_kept, dwell_s)
    eddy = np.exp(1j * scan.eddy_phase_rad * np.exp(-time_s / EDDY_DECAY_S))
    coils = rng.normal(size=scan.n_coils) + 1j * rng.normal(size=scan.n_coils)
    coils *= math.sqrt(scan.n_coils) / np.linalg.norm(coils)
    leakage = rng.normal(size=(scan.n_coils, scan.n_coils)) + 1j * rng.normal(size=(scan.n_coils, scan.n_coils))
    mixing: Complex = (np.eye(scan.n_coils) + NOISE_COUPLING / math.sqrt(scan.n_coils) * leakage).astype(np.complex128)
    suppressed, _, noise = split_shots(all_shots, None)
    noise_sd = _noise_sd(first, coils, mixing, len(suppressed), scan.snr)
    transients = np.zeros((n_shots, scan.n_coils, n_kept + n_cut), dtype=np.complex128)
    is_metabolite, is_noise = {shot.index for shot in suppressed}, {shot.index for shot in noise}
    for row, shot in enumerate(all_shots):
        progress = row / max(n_shots - 1, 1)
        if shot.index in is_metabolite:
            wobble = 1 + WATER_WOBBLE * rng.normal()
            own = metabolites.get(shot.labels.get("SET", 0), first)
            signal = own + scan.residual_water_fraction * wobble * water
        elif shot.index in is_noise:
            signal = np.zeros_like(water)
        else:
            signal = water
        turn = 2 * math.pi * scan.frequency_drift_hz * progress * time_s + scan.phase_drift_rad * progress
        white = rng.normal(size=(2, scan.n_coils, n_kept + n_cut))
        transients[row] = noise_sd * (mixing @ (white[0] + 1j * white[1]))
        transients[row, :, n_cut:] += coils[:, None] * (signal * eddy * np.exp(1j * turn))
    return transients


def _noise_sd(metabolites: Complex, coils: Complex, mixing: Complex, n_averages: int, snr: float) -> float:
    """Return the noise of one real component of one coil and shot (before mixing) that gives the wanted SNR.

    Optimal combination: the noise variance of a unit signal is 1 / (c^H C^-1 c) with C = mixing mixing^H; the spectrum
    sums n samples, so its noise is sqrt(n) larger, and averaging divides the variance.
    """
    covariance = mixing @ mixing.conj().T
    combined = 1 / math.sqrt(float((coils.conj() @ np.linalg.solve(covariance, coils)).real))
    height = float(np.abs(spectrum(metabolites)).max())
    return height / snr / (combined * math.sqrt(metabolites.shape[0] / n_averages))
