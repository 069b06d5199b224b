r"""From fitted amplitudes to concentrations, scaled by the unsuppressed water signal of the same voxel.

The metabolite signal per proton and the water signal per proton are S_M and S_W; what each lost to relaxation is
R = exp(-TE/T2) (1 - exp(-TR/T1)) (90-degree excitation, TE << TR, steady state). With water compartments i (volume
fraction f_i, water concentration [W]_i), and metabolites in those that hold them,

    [M] = S_M / S_W * sum_i f_i [W]_i R_W,i / (R_M sum_(i with metabolites) f_i)      (mM of that tissue),

after Gasparovic et al., Magn Reson Med 55:1219 (2006), doi:10.1002/mrm.20901. The numbers of protons are in S_M and
S_W: a basis amplitude is 1 per proton, water has two protons.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.spin.system import Relaxation

PROTONS_OF_WATER = 2
_FIRST_SAMPLES_S = 0.01
_DEGREE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class WaterCompartment:
    """Water of one tissue, or of a phantom."""

    name: str
    """For example "GM"."""
    volume_fraction: float
    """Part of the voxel that it fills, 0 to 1."""
    concentration_mm: float
    """Water in it, mM (pure water 55510; times the relative water content, e.g. 0.78 for grey matter)."""
    relaxation: Relaxation
    """T1 and T2 of its water."""
    holds_metabolites: bool = True
    """False for cerebrospinal fluid."""

    def __post_init__(self) -> None:
        if not (0 <= self.volume_fraction <= 1 and self.concentration_mm > 0):
            raise InputError(
                f"Water compartment {self.name!r} needs volume_fraction from 0 to 1 and concentration_mm > 0, but has "
                f"{self.volume_fraction} and {self.concentration_mm}."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WaterReference:
    """Measured water signal and what it stands for."""

    amplitude: float
    """Water FID at its first sample, in the unit of the metabolite data (same coil weights, mean of transients)."""
    response: float
    """Magnitude of the simulated signal per proton of water in the sequence as played (slice profiles, and the editing
    pulse at the water frequency), without relaxation: 1 for pulse-acquire."""
    compartments: tuple[WaterCompartment, ...]
    """Where the water is; the volume fractions add up to 1."""
    te_s: float
    """Echo time of the water scan, s."""
    tr_s: float
    """Repetition time of the water scan, s."""

    def __post_init__(self) -> None:
        total = sum(compartment.volume_fraction for compartment in self.compartments)
        if abs(total - 1) > 1e-3:
            names = ", ".join(compartment.name for compartment in self.compartments)
            raise InputError(f"The volume fractions of {names} must add up to 1, but give {total:.4f}.")
        if not any(c.holds_metabolites and c.volume_fraction > 0 for c in self.compartments):
            raise InputError("No water compartment with a volume holds metabolites: nothing to quantify.")
        if not (self.amplitude > 0 and self.response > 0 and self.te_s >= 0 and self.tr_s > 0):
            raise InputError(
                f"A water reference needs amplitude, response and tr_s above 0 and te_s of 0 or more, but has "
                f"{self.amplitude}, {self.response}, {self.tr_s} and {self.te_s}."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Concentrations:
    """Concentrations with their Cramer-Rao bounds."""

    names: tuple[str, ...]
    """Metabolites."""
    value_mm: NDArray[np.float64]
    """Concentrations, mM, shape (n,)."""
    crlb_sd_mm: NDArray[np.float64]
    """Cramer-Rao bounds of their standard deviations (of the fit alone: water and relaxation taken as known), mM."""
    factor_mm: NDArray[np.float64]
    """mM per unit of fitted amplitude, shape (n,): covariances scale with it."""


def saturation_factor(relaxation: Relaxation, tr_s: float) -> float:
    """Return 1 - exp(-TR/T1): longitudinal magnetisation before each 90-degree excitation, relative to equilibrium."""
    return -math.expm1(-tr_s / relaxation.t1_s)


def relaxation_factor(relaxation: Relaxation, te_s: float, tr_s: float) -> float:
    """Return exp(-TE/T2) (1 - exp(-TR/T1)), the signal left by relaxation."""
    return math.exp(-te_s / relaxation.t2_s) * saturation_factor(relaxation, tr_s)


def water_amplitude(water: MRSData) -> float:
    """Return the magnitude of a water FID at its first sample, from the first 10 ms.

    The logarithm of the magnitude of a Voigt line is a parabola in time, whatever phase and frequency: its value at 0
    is fitted, which averages the noise.

    Raises:
        InputError: If the data have dims (not averaged), fewer than 8 samples in 10 ms, or a sample of 0 there.
    """
    if water.dims:
        raise InputError(f"The water reference has dims {', '.join(water.dims)}. Process it to one FID first.")
    count = min(water.n_samples, round(_FIRST_SAMPLES_S / water.dwell_s))
    if count < 8:
        raise InputError(f"The water reference has {count} samples in its first 10 ms; 8 are needed.")
    magnitude = np.abs(water.fid[:count])
    if not (magnitude > 0).all():
        raise InputError("The water reference is zero in its first 10 ms: no water signal was acquired.")
    return float(np.exp(np.polynomial.polynomial.polyfit(np.arange(count), np.log(magnitude), _DEGREE)[0]))


def quantify(
    names: Sequence[str],
    amplitudes: NDArray[np.float64],
    crlb_sd: NDArray[np.float64],
    *,
    water: WaterReference,
    relaxation: dict[str, Relaxation],
    te_s: float,
    tr_s: float,
    relaxation_included: bool,
) -> Concentrations:
    """Return concentrations in mM of the tissue that holds metabolites (of the solution, for a phantom).

    Args:
        names: Metabolites.
        amplitudes: Fitted amplitudes: signal per proton in the unit of the data, shape (n,).
        crlb_sd: Their Cramer-Rao bounds, shape (n,).
        water: The water reference.
        relaxation: T1 and T2 of every metabolite, by name.
        te_s: Echo time of the metabolite scan, s.
        tr_s: Repetition time of the metabolite scan, s.
        relaxation_included: `Basis.relaxation_included`: T2 decay is in the basis, only saturation is corrected.

    Raises:
        InputError: If a metabolite has no relaxation times.
    """
    missing = [name for name in names if name not in relaxation]
    if missing:
        raise InputError(f"There are no relaxation times for {', '.join(missing)}. State t1_s and t2_s of each.")
    per_proton = water.amplitude / (PROTONS_OF_WATER * water.response)
    visible_mm = sum(
        c.volume_fraction * c.concentration_mm * relaxation_factor(c.relaxation, water.te_s, water.tr_s)
        for c in water.compartments
    )
    tissue = sum(c.volume_fraction for c in water.compartments if c.holds_metabolites)
    factor = np.empty(len(names))
    for i, name in enumerate(names):
        left = relaxation_factor(relaxation[name], 0.0 if relaxation_included else te_s, tr_s)
        factor[i] = visible_mm / (per_proton * left * tissue)
    return Concentrations(
        names=tuple(names), value_mm=amplitudes * factor, crlb_sd_mm=crlb_sd * factor, factor_mm=factor
    )
