"""Linear-combination fit of a processed spectrum with the basis set of the sequence that was played."""

from dataclasses import dataclass


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
