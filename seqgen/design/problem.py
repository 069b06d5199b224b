"""The design problem in words a protocol can carry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from seqgen.errors import InputError

LOSSES = ("window", "crlb")
"""Names of the losses that can be weighted together (design/objective.py has their equations)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignSpec:
    """What the editing pulse is to do, and within which limits."""

    place: Literal["echo_top"] = "echo_top"
    """Where the pulse sits in PRESS: `echo_top` centres it on the first spin echo."""
    target: str
    """Metabolite whose signal the window keeps, for example "Glu"."""
    interferers: tuple[str, ...]
    """Metabolites to be small in the window, for example ("Gln",)."""
    window_ppm: tuple[float, float]
    """Low and high edge of the target's window, ppm."""
    duration_s: float
    """Duration of the editing pulse, s."""
    carrier_ppm: float
    """Chemical shift at which the pulse's parameters are at rest: its carrier, ppm."""
    b1_max_hz: float
    """Largest amplitude gamma*B1/2pi of the pulse, Hz; never exceeded (the scanner's own limit applies as well)."""
    energy_max_hz2_s: float
    """Largest pulse energy, the integral of (gamma*B1/2pi)^2 over the pulse, Hz^2 s."""
    knot_spacing_s: float = 5e-4
    """Spacing of the spline knots of the waveform, s: its bandwidth is about 1/(2 x spacing)."""
    rf_dwell_s: float = 2e-5
    """The waveform is constant over this time, s, a multiple of the scanner's RF raster."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"window": 1.0})
    """Weights of the losses "window" and "crlb"."""
    b0_offsets_hz: tuple[float, ...] = (0.0,)
    """Field offsets of the ensemble over which the loss is averaged, Hz."""
    b1_scales: tuple[float, ...] = (1.0,)
    """Relative B1 of the ensemble over which the loss is averaged."""
    linewidth_hz: float = 5.0
    """Lorentzian full width at half maximum of the spectra in the loss, Hz."""
    signal_price: float = 0.02
    """What lost signal costs against contamination in the window loss (its eta)."""
    starts: int = 2
    """Number of random starts; the best result is kept."""
    iterations: int = 100
    """Most iterations of the optimiser in each start."""
    te1_s: float
    """First echo time of PRESS (starting value where timings are optimised), s."""
    te2_s: float
    """Second echo time of PRESS (starting value where timings are optimised), s."""
    optimise_timing: bool = True
    """Let the optimiser move te1_s and te2_s as well."""

    def __post_init__(self) -> None:
        for name in ("signal_price", "te1_s", "te2_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be finite and not negative, but is {getattr(self, name)}.")
        if not all(map(math.isfinite, (self.carrier_ppm, *self.b0_offsets_hz))):
            raise InputError(
                f"carrier_ppm and b0_offsets_hz must be finite, but are {self.carrier_ppm} and {self.b0_offsets_hz}."
            )
        low, high = self.window_ppm
        if not low < high:
            raise InputError(f"window_ppm must rise from low to high edge, but is {low} to {high}. Swap the two.")
        unknown = [name for name in self.loss if name not in LOSSES]
        if unknown or not any(weight > 0 for weight in self.loss.values()):
            raise InputError(
                f"loss must give a positive weight to at least one of {', '.join(LOSSES)}, but is {dict(self.loss)}."
            )
        if any(weight < 0 for weight in self.loss.values()):
            raise InputError(f"The weights in loss must not be negative, but are {dict(self.loss)}.")
        if not self.interferers or self.target in self.interferers:
            raise InputError(
                f"interferers must name at least one metabolite other than the target {self.target}, "
                f"but is {list(self.interferers)}."
            )
        for name in ("duration_s", "b1_max_hz", "energy_max_hz2_s", "knot_spacing_s", "rf_dwell_s", "linewidth_hz"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, but is {getattr(self, name)}.")
        if self.starts < 1 or self.iterations < 1:
            raise InputError(f"starts and iterations must be at least 1, but are {self.starts} and {self.iterations}.")
        if not self.b0_offsets_hz or not self.b1_scales or min(self.b1_scales) <= 0:
            raise InputError("b0_offsets_hz and b1_scales must each name at least one value, b1_scales positive ones.")
        if self.duration_s < 4 * self.knot_spacing_s:
            raise InputError(
                f"duration_s {self.duration_s} holds fewer than four spline knots of {self.knot_spacing_s} s. "
                "Lengthen the pulse or shorten knot_spacing_s."
            )
