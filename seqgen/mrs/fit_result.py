"""Settings and result of a fit, and the result's file."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import ComplexArray
from seqgen.errors import InputError
from seqgen.provenance import Provenance, write_json

FORMAT = "seqgen fit 1"
"""Layout of a fit file: JSON with the fields of `FitResult`; complex arrays as {"real": ..., "imag": ...}."""

Status = Literal["converged", "at bound", "evaluation limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FitSettings:
    """How a spectrum is fitted. The defaults suit brain and phantom spectra at 3 T."""

    range_ppm: tuple[float, float] = (1.8, 4.1)
    """Part of the spectrum that is fitted, ppm, (low, high)."""
    metabolites: tuple[str, ...] = ()
    """Metabolites to fit, by their names in the basis; empty: all of the basis."""
    baseline_knot_spacing_ppm: float = 0.4
    """Distance of the knots of the complex cubic spline baseline, ppm; 0: no baseline."""
    max_linewidth_hz: float = 20.0
    """Largest Lorentzian width and largest Gaussian width added to the basis, Hz."""
    max_shift_ppm: float = 0.1
    """Largest shift of all metabolites together, ppm either way."""
    max_individual_shift_ppm: float = 0.01
    """Largest shift of one metabolite against the common shift, ppm either way; 0: none."""
    individual_shift_sd_ppm: float = 0.004
    """Standard deviation of the Gaussian prior on each individual shift, ppm (it is counted in the CRLBs)."""
    max_delay_s: float = 2e-4
    """Largest first-order phase, as a delay of the FID either way, s; 0: none."""
    noise_range_ppm: tuple[float, float] = (9.0, 11.5)
    """Signal-free part of the spectrum where the noise is measured, ppm, (low, high)."""
    free_macromolecules: bool = False
    """True: every macromolecule peak has its own amplitude; False: one amplitude for their sum."""
    max_evaluations: int = 200
    """Most evaluations of the model before the fit stops with status "evaluation limit"."""

    def __post_init__(self) -> None:
        for name in ("range_ppm", "noise_range_ppm"):
            low, high = getattr(self, name)
            if not low < high:
                raise InputError(f"{name} must rise from low to high, but is {low} to {high}. Swap the two.")
        for name in ("max_linewidth_hz", "max_shift_ppm", "individual_shift_sd_ppm", "max_evaluations"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, but is {getattr(self, name)}.")
        for name in ("baseline_knot_spacing_ppm", "max_individual_shift_ppm", "max_delay_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be 0 or more, but is {getattr(self, name)}.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FitResult:
    """What a fit found. Read `status` first: the fit does not raise when it fails to converge."""

    status: Status
    """"converged"; "at bound": converged with the parameters named in `at_bound` at a bound; "evaluation limit"."""
    at_bound: tuple[str, ...]
    """Nonlinear parameters at a bound ("linewidth": no broadening at all was found). Amplitudes may be 0 without."""
    names: tuple[str, ...]
    """Metabolites, then macromolecules."""
    amplitudes: NDArray[np.float64]
    """Amplitudes in the unit of the data per unit of the basis, 0 or more, shape (n,)."""
    crlb_sd: NDArray[np.float64]
    """Cramer-Rao lower bound of each amplitude's standard deviation, same unit, shape (n,). Phases, widths, shifts and
    baseline are counted as unknown (with the prior on individual shifts, and uniform priors within the bounds)."""
    correlation: NDArray[np.float64]
    """Correlation of the amplitudes' errors, shape (n, n)."""
    phase_rad: float
    """Zero-order phase of the data, rad, in (-pi, pi]."""
    delay_s: float
    """First-order phase: the data are the model delayed by this time, s (factor exp(-2 pi i f delay_s))."""
    lorentz_hz: float
    """Lorentzian width added to the basis, full width at half maximum, Hz."""
    gauss_hz: float
    """Gaussian width added to the basis, full width at half maximum, Hz."""
    shift_ppm: float
    """Common shift of the data against the basis, ppm; positive: the data lie at higher ppm."""
    individual_shift_ppm: NDArray[np.float64]
    """Further shift of each name, ppm, shape (n,); 0 for macromolecules."""
    linewidth_hz: float
    """Full width at half maximum of a singlet: Voigt width of what the basis carries and what the fit added, Hz."""
    noise_sd: float
    """Standard deviation of the noise in one real component of one point of the spectrum, from a signal-free range."""
    snr: float
    """Signal-to-noise ratio by `snr_definition`."""
    snr_definition: str
    """The formula of `snr`."""
    fit_quality_number: float
    """Mean squared residual over noise variance: 1 for a model that fits to the noise."""
    ppm: NDArray[np.float64]
    """Axis of the fitted range, ppm, ascending, shape (m,)."""
    data: NDArray[np.complex128]
    """Data spectrum (`axes.spectrum`), shape (m,)."""
    model: NDArray[np.complex128]
    """Fitted spectrum, baseline included, in the data's own phase, shape (m,)."""
    baseline: NDArray[np.complex128]
    """Fitted baseline, shape (m,)."""
    components: NDArray[np.complex128]
    """Fitted spectrum of each name, shape (m, n); the model is their sum plus the baseline."""
    settings: FitSettings
    """How it was fitted."""
    n_evaluations: int
    """Number of evaluations of the model."""
    provenance: Provenance = field(default_factory=Provenance)
    """What the fit was made from."""

    def phased(self, values: ComplexArray) -> NDArray[np.complex128]:
        """Return a spectrum on this axis (first axis m) with the fitted zero-order phase taken off, for display."""
        return np.asarray(values * np.exp(-1j * self.phase_rad), dtype=np.complex128)


def save_fit(result: FitResult, path: Path) -> None:
    """Write a fit as JSON, atomically; equal results give equal bytes.

    Raises:
        InputError: If the file cannot be written.
    """
    content: dict[str, Any] = {"format": FORMAT}
    for entry in fields(result):
        content[entry.name] = _to_json(getattr(result, entry.name))
    write_json(path, content)


def load_fit(path: Path) -> FitResult:
    """Read a fit that `save_fit` wrote; whether its sources still match is for the caller to check (provenance).

    Raises:
        InputError: If the file is missing, damaged, of another kind, or its arrays do not fit together.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"There is no fit file {path}. Check the path, or run the fit first.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a readable fit file ({error}). Run the fit again.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{path} says format {found!r}, but this version reads {FORMAT!r}. Run the fit again with this version."
        )
    try:
        result = _from_json(content)
        _require_shapes(result)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a usable fit file ({type(error).__name__}: {error}). Fit again.") from error
    return result


def _to_json(value: Any) -> Any:
    if isinstance(value, Provenance):
        return value.to_json()
    if isinstance(value, FitSettings):
        return asdict(value)
    if isinstance(value, np.ndarray):
        if np.iscomplexobj(value):
            return {"real": value.real.tolist(), "imag": value.imag.tolist()}
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _from_json(content: dict[str, Any]) -> FitResult:
    values = {entry.name: content[entry.name] for entry in fields(FitResult)}
    settings = values["settings"]
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    values.update(
        settings=FitSettings(**settings),
        provenance=Provenance.from_json(values["provenance"]),
        names=tuple(values["names"]),
        at_bound=tuple(values["at_bound"]),
    )
    for name in ("amplitudes", "crlb_sd", "correlation", "individual_shift_ppm", "ppm"):
        values[name] = np.array(values[name], dtype=np.float64)
    for name in ("data", "model", "baseline", "components"):
        parts = values[name]
        values[name] = np.array(parts["real"], dtype=np.float64) + 1j * np.array(parts["imag"], dtype=np.float64)
    return FitResult(**values)


def _require_shapes(result: FitResult) -> None:
    n, m = len(result.names), result.ppm.size
    expected = {
        "amplitudes": (n,),
        "crlb_sd": (n,),
        "correlation": (n, n),
        "individual_shift_ppm": (n,),
        "data": (m,),
        "model": (m,),
        "baseline": (m,),
        "components": (m, n),
    }
    for name, shape in expected.items():
        if getattr(result, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(result, name).shape} instead of {shape}")
