"""The whole processing: coils, outliers, drift, average, eddy currents, residual water, phase and reference."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.process.align import (
    Drift,
    average,
    band_limited,
    correct_drift,
    estimate_drift,
    outliers,
    reject_outliers,
    unlikeness,
)
from seqgen.mrs.process.coils import coil_weights, combine_coils
from seqgen.mrs.process.nuisance import correct_eddy_currents, eddy_phase, remove_water
from seqgen.mrs.process.phasing import find_peak, phase, shift_to_reference
from seqgen.mrs.quality import linewidth_hz, noise_covariance, noise_sd_of_fid

_WATER_SEARCH_PPM = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessSettings:
    """How transients become one spectrum."""

    water_shift_ppm: float
    """Chemical shift of water at the temperature of the sample, ppm (4.65 at 37 C, near 4.80 at 20 C)."""
    align_range_ppm: tuple[float, float] | None = (1.8, 4.2)
    """Part of the spectrum that drift and outliers are judged by, ppm, (low, high); None: all, water included."""
    align_duration_s: float = 0.3
    """Part of the FID that drift and outliers are judged by, s from its start."""
    max_drift_hz: float = 20.0
    """Largest frequency drift looked for, Hz either way."""
    outlier_z: float = 5.0
    """A transient is rejected above this many robust standard deviations of unlikeness ..."""
    outlier_fraction: float = 0.1
    """... if it also deviates by more than this fraction of the signal's amplitude."""
    eddy_current_correction: bool = True
    """Take off the phase of the water reference, where there is one."""
    water_half_width_ppm: float = 0.4
    """Residual water is removed this far from `water_shift_ppm`, ppm either way; 0: it stays."""
    water_components: int = 30
    """Number of HLSVD components, metabolites and water together."""
    reference_peak_ppm: float | None = None
    """Shift of a singlet that is set to this value (and phased, where no water reference did it); None: no such step.
    An editing pulse may alter a singlet's phase: the fit finds phase and shift again, with the sequence's basis."""
    reference_search_ppm: float = 0.1
    """How far from `reference_peak_ppm` that singlet is looked for, ppm."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Processed:
    """What processing returns."""

    data: MRSData
    """The averaged, corrected metabolite FID, no dims."""
    water: MRSData | None
    """The averaged, corrected water reference, no dims, combined with the same coil weights; None without one."""
    quality: dict[str, Any]
    """JSON-ready: transients_total, transients_used, transients_rejected (numbers from 0), drift_hz and drift_rad (of
    the transients used, against their mean), coil_combination, noise_sd (one real component of one averaged sample),
    water_linewidth_hz (None without water), eddy_current_correction, residual_water_removed."""


def process(metabolite: MRSData, water: MRSData | None, settings: ProcessSettings, *, time: str) -> Processed:
    """Turn transients into one spectrum ready to fit.

    Args:
        metabolite: Water-suppressed transients, dims any of DIM_COIL and DIM_DYN.
        water: Unsuppressed water with the same coil, voxel and gradients, dims likewise; None if there is none: coils
            are then combined by the metabolite data's own singular vector, and eddy currents stay.
        settings: What to do.
        time: Time that the record gives to every step, ISO 8601.

    Raises:
        InputError: If a dimension is not understood, water and metabolite data do not fit together, or a step cannot
            be done.
    """
    _require_matching(metabolite, water)
    quality: dict[str, Any] = {}
    metabolite, water = _combine(metabolite, water, quality, time)
    single = _align_and_average(metabolite, settings, quality, time)
    quality["noise_sd"] = noise_sd_of_fid(single.fid)
    reference = None if water is None else _average_water(water, settings, time)
    single, reference = _correct_eddy(single, reference, settings, quality, time)
    quality["residual_water_removed"] = settings.water_half_width_ppm > 0
    if settings.water_half_width_ppm > 0:
        single = remove_water(
            single, settings.water_shift_ppm, settings.water_half_width_ppm, settings.water_components, time=time
        )
    if settings.reference_peak_ppm is not None:
        peak = find_peak(single, settings.reference_peak_ppm, settings.reference_search_ppm)
        if not quality["eddy_current_correction"]:
            single = phase(single, peak, time=time)
        single = shift_to_reference(single, peak, settings.reference_peak_ppm, time=time)
    return Processed(data=single, water=reference, quality=quality)


def _require_matching(metabolite: MRSData, water: MRSData | None) -> None:
    for what, data in (("metabolite", metabolite), ("water", water)):
        foreign = [] if data is None else [tag for tag in data.dims if tag not in ("DIM_COIL", "DIM_DYN")]
        if foreign:
            raise InputError(
                f"The {what} data have the dimension {', '.join(foreign)}; only DIM_COIL and DIM_DYN are understood. "
                "Process each condition by itself (`seqgen process --condition`)."
            )
        if data is not None and not (np.isfinite(data.fid).all() and data.fid.any()):
            raise InputError(
                f"The {what} data are zero or hold NaN or infinity. Check the raw file and its conversion."
            )
    if water is None:
        return
    for name in ("dwell_s", "n_samples", "spectrometer_frequency_hz", "nucleus"):
        if getattr(metabolite, name) != getattr(water, name):
            raise InputError(
                f"Water reference and metabolite data differ in {name}: {getattr(water, name)} and "
                f"{getattr(metabolite, name)}. Give the water reference of the same scan."
            )
    if ("DIM_COIL" in metabolite.dims) != ("DIM_COIL" in water.dims):
        raise InputError("Only one of water reference and metabolite data has a DIM_COIL. Give both uncombined.")


def _combine(
    metabolite: MRSData, water: MRSData | None, quality: dict[str, Any], time: str
) -> tuple[MRSData, MRSData | None]:
    if "DIM_COIL" not in metabolite.dims:
        quality["coil_combination"] = "none: one channel"
        return metabolite, water
    axis = metabolite.axis("DIM_COIL")
    covariance = noise_covariance(np.moveaxis(metabolite.fid, axis, 1))
    weights = coil_weights(water if water is not None else metabolite, covariance)
    source = "water reference" if water is not None else "first singular vector of the metabolite data (no water)"
    quality["coil_combination"] = source
    details = f"{weights.size} coils, noise whitened (covariance from FID tails), sensitivities from {source}"
    combined = None if water is None else combine_coils(water, weights, details=details, time=time)
    return combine_coils(metabolite, weights, details=details, time=time), combined


def _align_and_average(data: MRSData, settings: ProcessSettings, quality: dict[str, Any], time: str) -> MRSData:
    if "DIM_DYN" not in data.dims:
        quality.update(transients_total=1, transients_used=1, transients_rejected=[], drift_hz=[0.0], drift_rad=[0.0])
        return data
    fids = band_limited(data, settings.align_range_ppm, settings.align_duration_s)
    rejected = outliers(unlikeness(fids), settings.outlier_z, settings.outlier_fraction)
    data = reject_outliers(data, rejected, time=time)
    drift = estimate_drift(fids[:, ~rejected], data.dwell_s, settings.max_drift_hz)
    where = "all ppm" if settings.align_range_ppm is None else "{} to {} ppm".format(*settings.align_range_ppm)
    details = _drift_details(drift, where, settings.align_duration_s)
    aligned = correct_drift(data, drift, details=details, time=time)
    quality.update(
        transients_total=int(rejected.size),
        transients_used=int((~rejected).sum()),
        transients_rejected=np.flatnonzero(rejected).tolist(),
        drift_hz=drift.frequency_hz.tolist(),
        drift_rad=drift.phase_rad.tolist(),
    )
    return average(aligned, time=time)


def _drift_details(drift: Drift, where: str, duration_s: float) -> str:
    return (
        f"spectral registration per transient, {where}, first {duration_s} s; frequencies "
        f"{drift.frequency_hz.min():+.3f} to {drift.frequency_hz.max():+.3f} Hz, phases "
        f"{np.degrees(drift.phase_rad.min()):+.2f} to {np.degrees(drift.phase_rad.max()):+.2f} deg from their mean"
    )


def _average_water(water: MRSData, settings: ProcessSettings, time: str) -> MRSData:
    if "DIM_DYN" not in water.dims:
        return water
    drift = estimate_drift(band_limited(water, None, settings.align_duration_s), water.dwell_s, settings.max_drift_hz)
    details = _drift_details(drift, "all ppm", settings.align_duration_s)
    return average(correct_drift(water, drift, details=details, time=time), time=time)


def _correct_eddy(
    data: MRSData, water: MRSData | None, settings: ProcessSettings, quality: dict[str, Any], time: str
) -> tuple[MRSData, MRSData | None]:
    quality["eddy_current_correction"] = water is not None and settings.eddy_current_correction
    quality["water_linewidth_hz"] = None
    if water is None:
        return data, None
    if settings.eddy_current_correction:
        phase_rad: NDArray[np.float64] = eddy_phase(water)
        data = correct_eddy_currents(data, phase_rad, settings.water_shift_ppm, time=time)
        water = correct_eddy_currents(water, phase_rad, settings.water_shift_ppm, time=time)
    centre_hz = ppm_to_hz(settings.water_shift_ppm, water.spectrometer_frequency_hz, water.reference_ppm)
    width_hz = _WATER_SEARCH_PPM * 1e-6 * water.spectrometer_frequency_hz
    quality["water_linewidth_hz"] = linewidth_hz(water.fid, water.dwell_s, (centre_hz - width_hz, centre_hz + width_hz))
    return data, water
