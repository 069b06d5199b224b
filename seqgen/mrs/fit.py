"""Linear-combination fit of a processed spectrum with the basis set of the sequence that was played."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.axes import ComplexArray, FloatArray, ppm_axis, spectrum, time_axis_s
from seqgen.errors import InputError
from seqgen.model.baseline import spline_basis
from seqgen.model.lineshape import voigt_fwhm_hz
from seqgen.model.macromolecules import MacromoleculePeak, macromolecule_fid
from seqgen.mrs.basis import Basis
from seqgen.mrs.data import MRSData
from seqgen.mrs.fit_model import COMMON, Model, make_model
from seqgen.mrs.fit_result import FitResult, FitSettings, Status, load_fit, save_fit
from seqgen.mrs.fit_search import Bounds, amplitude_errors, optimise, require_distinct
from seqgen.mrs.quality import SNR_CONSENSUS, noise_sd_of_spectrum, snr_consensus
from seqgen.provenance import Provenance

__all__ = ["FitResult", "FitSettings", "Status", "fit", "load_fit", "save_fit"]

_FREQUENCY_TOLERANCE = 1e-3
"""Relative difference of spectrometer frequencies of data and basis that is let pass: 0.003 ppm at 3 ppm from zero."""


def fit(
    data: MRSData,
    basis: Basis,
    settings: FitSettings,
    *,
    macromolecules: Sequence[MacromoleculePeak] = (),
    noise_sd: float | None = None,
    provenance: Provenance | None = None,
) -> FitResult:
    """Fit one spectrum; the model is in fit_model.py.

    Args:
        data: Averaged, corrected data without dims.
        basis: Basis set of the sequence that was played.
        settings: How to fit.
        macromolecules: Gaussian peaks to fit along.
        noise_sd: Noise in one real component of one point of the spectrum; None: measured in `noise_range_ppm`.
        provenance: What the fit is made from, for the result.

    Raises:
        InputError: If data and basis do not belong together, a metabolite is missing in the basis or cannot be told
            apart from another, or a range lies outside the spectrum. Never for lack of convergence.
    """
    values = spectrum(_single(data))
    axis = ppm_axis(data.n_samples, data.dwell_s, data.spectrometer_frequency_hz, data.reference_ppm)
    if noise_sd is None:
        noise_sd = noise_sd_of_spectrum(values, axis, settings.noise_range_ppm)
    if not (noise_sd > 0 and math.isfinite(noise_sd)):
        raise InputError(f"The noise of the spectrum must be positive, but is {noise_sd}. Give `noise_sd`.")
    names, columns, n_metabolites = _columns(data, basis, settings, macromolecules)
    inside = _inside(axis, settings.range_ppm)
    own = n_metabolites if settings.max_individual_shift_ppm > 0 and n_metabolites > 1 else 0
    model = make_model(columns, data.fid, data.dwell_s, inside, _splines(axis[inside], settings), own)
    bounds = Bounds.of(settings, data.spectrometer_frequency_hz, own)
    require_distinct(model, bounds, names, noise_sd)
    solution, point = optimise(model, bounds, noise_sd, settings.max_evaluations)
    theta = bounds.full(solution.x)
    crlb_sd, correlation = amplitude_errors(model, theta, point, bounds, noise_sd, names)
    at_bound = bounds.reached(theta, names)
    status: Status = "at bound" if at_bound else "converged"
    return FitResult(
        status="evaluation limit" if solution.status == 0 else status,
        at_bound=at_bound,
        names=names,
        crlb_sd=crlb_sd,
        correlation=correlation,
        noise_sd=noise_sd,
        ppm=axis[inside],
        settings=settings,
        n_evaluations=int(solution.nfev),
        provenance=provenance if provenance is not None else Provenance(),
        **_parameters(theta, len(names), data.spectrometer_frequency_hz, basis.linewidth_hz),
        **_spectra(model, theta, point.amplitude, noise_sd),
    )


def _parameters(theta: FloatArray, n_names: int, frequency_hz: float, basis_linewidth_hz: float) -> dict[str, Any]:
    """Return the nonlinear parameters as fields of `FitResult`."""
    phase, delay, lorentz, gauss_squared, shift = theta[: len(COMMON)].tolist()
    individual_hz = np.zeros(n_names)
    individual_hz[: theta.size - len(COMMON)] = theta[len(COMMON) :]
    return {
        "phase_rad": math.remainder(phase, 2 * math.pi),
        "delay_s": delay,
        "lorentz_hz": lorentz,
        "gauss_hz": math.sqrt(gauss_squared),
        "shift_ppm": shift / frequency_hz * 1e6,
        "individual_shift_ppm": individual_hz / frequency_hz * 1e6,
        "linewidth_hz": voigt_fwhm_hz(basis_linewidth_hz + lorentz, math.sqrt(gauss_squared)),
    }


def _spectra(model: Model, theta: FloatArray, amplitude: NDArray[np.float64], noise_sd: float) -> dict[str, Any]:
    """Return amplitudes, spectra and what is measured on them as fields of `FitResult`."""
    components = model.columns(theta) * amplitude
    lines = components.sum(axis=1)
    rest = model.target - lines
    baseline = rest - model.without_baseline(rest)
    fitted = lines + baseline
    unphased = lines * np.exp(-1j * (theta[0] - 2 * np.pi * model.frequency_hz * theta[1]))
    return {
        "amplitudes": amplitude,
        "data": model.target,
        "model": fitted,
        "baseline": baseline,
        "components": components,
        "snr": snr_consensus(unphased, noise_sd),
        "snr_definition": SNR_CONSENSUS,
        "fit_quality_number": float(np.mean(np.abs(model.target - fitted) ** 2) / (2 * noise_sd**2)),
    }


def _single(data: MRSData) -> ComplexArray:
    if data.dims:
        raise InputError(
            f"The fit takes one averaged spectrum, but the data have {', '.join(data.dims)}. Process them first."
        )
    if not np.isfinite(data.fid).all():
        raise InputError("The data to fit hold NaN or infinity. Check the processing and the raw file.")
    return data.fid


def _inside(axis: FloatArray, range_ppm: tuple[float, float]) -> NDArray[np.bool_]:
    low, high = range_ppm
    if low < axis[0] or high > axis[-1]:
        raise InputError(
            f"range_ppm {low} to {high} lies outside the spectrum ({axis[0]:.2f} to {axis[-1]:.2f} ppm). Choose a "
            "range inside."
        )
    return np.asarray((axis >= low) & (axis <= high))


def _splines(ppm: FloatArray, settings: FitSettings) -> FloatArray:
    if settings.baseline_knot_spacing_ppm == 0:
        return np.zeros((ppm.size, 0))
    return np.asarray(spline_basis(ppm, settings.range_ppm, settings.baseline_knot_spacing_ppm).numpy())


def _columns(
    data: MRSData, basis: Basis, settings: FitSettings, macromolecules: Sequence[MacromoleculePeak]
) -> tuple[tuple[str, ...], ComplexArray, int]:
    """Return names, FIDs on the data's own axes, shape (n_samples, n), and how many are metabolites."""
    _require_same_sampling(data, basis)
    metabolites = settings.metabolites or basis.names
    time_s = time_axis_s(data.n_samples, data.dwell_s)
    offset_hz = (basis.reference_ppm - data.reference_ppm) * 1e-6 * data.spectrometer_frequency_hz
    fids = np.stack([basis.column(name)[: data.n_samples] for name in metabolites], axis=1)
    fids = fids * np.exp(2j * np.pi * offset_hz * time_s)[:, None]
    peaks = macromolecule_fid(
        macromolecules, torch.from_numpy(time_s), data.spectrometer_frequency_hz, data.reference_ppm
    ).numpy()
    names = tuple(peak.name for peak in macromolecules)
    if macromolecules and not settings.free_macromolecules:
        names, peaks = ("MM",), peaks.sum(axis=1, keepdims=True)
    every = (*metabolites, *names)
    if len(set(every)) != len(every):
        raise InputError(f"Every fitted name must be different, but they are {', '.join(every)}.")
    return every, np.concatenate((fids, peaks), axis=1), len(metabolites)


def _require_same_sampling(data: MRSData, basis: Basis) -> None:
    if not math.isclose(data.dwell_s, basis.dwell_s, rel_tol=1e-6) or basis.n_samples < data.n_samples:
        raise InputError(
            f"The basis of {basis.seq_name} has {basis.n_samples} samples of {basis.dwell_s} s, the data have "
            f"{data.n_samples} of {data.dwell_s} s. Simulate the basis for the sequence that was played."
        )
    ratio = data.spectrometer_frequency_hz / basis.spectrometer_frequency_hz
    if abs(ratio - 1) > _FREQUENCY_TOLERANCE:
        raise InputError(
            f"The basis of {basis.seq_name} is for {basis.spectrometer_frequency_hz * 1e-6:.4f} MHz, the data are from "
            f"{data.spectrometer_frequency_hz * 1e-6:.4f} MHz. Simulate the basis for this scanner."
        )
