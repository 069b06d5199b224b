"""The design problem in words a protocol can carry."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from seqgen.errors import InputError

LOSSES = ("window", "area", "spectrum", "state", "crlb", "correlation", "suppression")
"""Names of the losses that can be weighted together (design/objective.py has their equations)."""

STARTS = ("random", "hard", "gaussian", "sinc", "slr", "ninety", "composite", "adiabatic")
"""Names of the starts (design/starts.py); a start may also be a file."""
START_FILES = (".json", ".npz", ".csv")
"""Ends of the names of files with a start: a design, arrays, a table."""

AGGREGATES = ("mean", "soft_worst", "worst")
"""How a loss of every member of the ensemble becomes one number."""
SPECTRUM_MODES = ("complex", "magnitude")
"""How the loss "spectrum" compares spectra."""
PLACES = ("excitation", "echo_top", "te1", "te2")
"""Where a designed pulse may stand (`seqgen.sequence.double_echo.TIME_OF` has the times)."""
SHOTS = ("edited", "plain")
"""Kinds of shots: with designed pulses, or without."""
COMBINATIONS = ("joint", "difference")
"""What is made of several shots: all fitted together, or half of the first minus the second."""
ONE_SPECTRUM = ("window", "area", "spectrum", "state", "suppression")
"""Losses that look at one spectrum: of several shots, at their difference."""
SEARCH_FIELDS = (
    *("start", "starts", "starts_full", "iterations", "optimiser", "learning_rate", "restarts"),
    *("stop_improvement", "stop_iterations", "optimise_timing", "optimise_offset", "offset_max_hz"),
)
"""Fields of a `DesignSpec` that say how a design is searched, not what it is to do."""
PARAMETERS = ("spline", "steps")
"""What waveforms are made of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DesignSpec:
    """What the editing pulse is to do, and within which limits."""

    place: str | tuple[str, ...] = "echo_top"
    """Where pulses stand, one of `PLACES` or several: `echo_top` is centred on the first spin echo of PRESS; `te1` and
    `te2` are TE/4 before and after its second refocusing pulse; `excitation` replaces the excitation."""
    own_waveforms: bool = False
    """Every place has a waveform of its own; else all places play the same one."""
    shots: tuple[str, ...] = ("edited",)
    """Shots that share the scan time in equal parts, in turn: `edited`, each with waveforms of its own, or `plain`.
    An ON/OFF pair is [edited, plain], or [edited, edited] where OFF is designed too."""
    combine: Literal["joint", "difference"] = "joint"
    """What is made of several shots: `joint`, all are fitted together (losses crlb and correlation); `difference`, of
    two shots half of the first minus the second."""
    own_echo_times: bool = False
    """Every shot has echo times of its own, where they are fitted together; else all have the same."""
    target: str
    """Metabolite whose signal the window keeps, for example "Glu"."""
    interferers: tuple[str, ...]
    """Metabolites to be small in the window, for example ("Gln",); () where the target is alone."""
    window_ppm: tuple[float, float]
    """Low and high edge of the target's window, ppm."""
    duration_s: float
    """Duration of the editing pulse, s."""
    carrier_ppm: float
    """Chemical shift at which the pulse's parameters are at rest: its carrier, ppm."""
    b1_max_hz: float
    """Largest amplitude gamma*B1/2pi of the pulse, Hz; never exceeded (the scanner's own limit applies as well)."""
    b1_max_at: Literal["nominal", "largest_scale"] = "nominal"
    """Where `b1_max_hz` holds: for the waveform as it is written, or as the largest of `b1_scales` makes it."""
    energy_max_hz2_s: float
    """Largest pulse energy, the integral of (gamma*B1/2pi)^2 over the pulse, Hz^2 s."""
    parameters: Literal["spline", "steps"] = "spline"
    """What the waveform is made of: cubic splines that vanish at both ends, or steps (GRAPE), as high as need be there
    too."""
    bandwidth_max_hz: float | None = None
    """Largest bandwidth, Hz: width of the band about the carrier, half on either side, that holds 99 % of the pulse's
    energy; None: not limited."""
    te_max_s: float | None = None
    """Longest echo time TE1 + TE2 of the design and of the plain PRESS to beat, s; None: not limited."""
    knot_spacing_s: float = 5e-4
    """Spacing of the spline knots of the waveform, s: bandwidth about 1/(2 x spacing); or length of its steps."""
    rf_dwell_s: float = 2e-5
    """The waveform is constant over this time, s, a multiple of the scanner's RF raster."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"window": 1.0})
    """Weights of the losses: window, area, spectrum, state, crlb, correlation, suppression."""
    aggregate: Literal["mean", "soft_worst", "worst"] = "mean"
    """What each loss is over the ensemble: its mean, a soft worst case, or its worst case."""
    aggregate_sharpness: float = 10.0
    """Sharpness k of the soft worst case, ln(mean of exp(k L)) / k."""
    spectrum_lines: tuple[tuple[float, float], ...] = ()
    """Wanted spectrum of the target in the loss "spectrum": (shift in ppm, amplitude in protons) of its lines; left
    out, that of a perfect pulse-acquire."""
    spectrum_mode: Literal["complex", "magnitude"] = "complex"
    """Whether the loss "spectrum" compares complex spectra (at the best receiver phase) or magnitudes."""
    state: str = ""
    """Product operator of the loss "state", for example "I4x + I5x", spins numbered as in the table of the target."""
    state_group: str = ""
    """Spin group of the target that `state` speaks of; may be left out where it has only one."""
    suppressed: tuple[str, ...] = ()
    """Metabolites that the loss "suppression" takes out of the range 1.8 to 4.1 ppm."""
    equal_scan_time: bool = False
    """Count T1 and TR in the loss "crlb": bounds at equal scan time instead of per shot without saturation."""
    b0_offsets_hz: tuple[float, ...] = (0.0,)
    """Field offsets of the ensemble over which the loss is averaged, Hz."""
    b1_scales: tuple[float, ...] = (1.0,)
    """Relative B1 of the ensemble over which the loss is averaged."""
    linewidth_offsets_hz: tuple[float, ...] = (0.0,)
    """What the members of the ensemble add to `linewidth_hz`, Hz."""
    temperature_offsets_k: tuple[float, ...] = (0.0,)
    """Temperatures of the ensemble minus that of the sample, K: water, on which the spectrometer stands, moves."""
    other_frequencies_hz: tuple[float, ...] = ()
    """Further spectrometer frequencies that the design is to serve beside the protocol's, Hz: every loss is summed up
    over all alike. A pulse keeps its waveform in Hz and its carrier in ppm."""
    linewidth_hz: float = 5.0
    """Lorentzian full width at half maximum of the spectra in the loss, Hz."""
    signal_price: float = 0.02
    """What lost signal costs against contamination in the losses window and area (their eta)."""
    start: str | tuple[str, ...] = "random"
    """Where the optimiser begins: names of `STARTS`, or files with a waveform (.json, .npz, .csv); one or several."""
    starts: int = 2
    """Number of random starts, where `start` names them; the best result is kept."""
    starts_full: bool = False
    """Every start takes all iterations; else each takes a quarter of them, and the best goes on."""
    iterations: int = 100
    """Most iterations of the optimiser in each start."""
    optimiser: Literal["lbfgsb", "adam"] = "lbfgsb"
    """L-BFGS-B (SciPy), or Adam (torch) whose steps shrink to zero as a cosine over the iterations."""
    learning_rate: float = 0.03
    """First step of Adam, in units of the spline coefficients (1: about the amplitude limit) and of 10 ms."""
    restarts: int = 0
    """How often the last descent begins anew where it ended: without memory, and with the full learning rate."""
    stop_improvement: float = 0.0
    """Stop early where `stop_iterations` iterations gain less than this times max(1, |loss|); 0: never."""
    stop_iterations: int = 20
    """See `stop_improvement`."""
    te1_s: float = 0.0
    """First echo time of PRESS (starting value where timings are optimised), s; a pulse alone has none."""
    te2_s: float = 0.0
    """Second echo time of PRESS (starting value where timings are optimised), s; a pulse alone has none."""
    optimise_timing: bool = True
    """Let the optimiser move te1_s and te2_s as well."""
    optimise_offset: bool = False
    """Give every waveform a phase and a frequency offset as variables of their own. The spline alone can turn a pulse
    or shift it in frequency, but only by moving all of its coefficients at once."""
    offset_max_hz: float = 200.0
    """Largest such offset from the carrier, either way, Hz."""

    @property
    def places(self) -> tuple[str, ...]:
        """Every place at which a designed pulse is played, some of the sequence's `editing_places`."""
        return (self.place,) if isinstance(self.place, str) else self.place

    @property
    def waveforms(self) -> tuple[tuple[str, ...], ...]:
        """The places of each waveform of an edited shot."""
        return tuple((place,) for place in self.places) if self.own_waveforms else (self.places,)

    @property
    def nominal_b1_max_hz(self) -> float:
        """Largest amplitude of the waveform as it is written, Hz."""
        return self.b1_max_hz / (max(self.b1_scales) if self.b1_max_at == "largest_scale" else 1.0)

    @property
    def start_names(self) -> tuple[str, ...]:
        """The starts as a tuple."""
        return (self.start,) if isinstance(self.start, str) else self.start

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
        if self.target in self.interferers or (not self.interferers and self.loss.get("correlation", 0.0) > 0):
            raise InputError(
                f"interferers must name metabolites other than the target {self.target}, for the loss correlation at "
                f"least one, but is {list(self.interferers)}."
            )
        for name in ("duration_s", "b1_max_hz", "energy_max_hz2_s", "knot_spacing_s", "rf_dwell_s", "linewidth_hz"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, but is {getattr(self, name)}.")
        for name in ("bandwidth_max_hz", "te_max_s"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive and finite, but is {getattr(self, name)}.")
        if self.te_max_s is not None and self.te1_s + self.te2_s > self.te_max_s * (1 + 1e-9):
            raise InputError(
                f"te_max_s must be at least te1_s + te2_s, {self.te1_s + self.te2_s:.6g} s, but is {self.te_max_s} s. "
                "Raise it, or lower the two."
            )
        if self.b1_max_at not in ("nominal", "largest_scale"):
            raise InputError(f"b1_max_at must be nominal or largest_scale, but is {self.b1_max_at!r}.")
        self._require_terms()
        self._require_shots()
        if self.starts < 1 or self.iterations < 1:
            raise InputError(f"starts and iterations must be at least 1, but are {self.starts} and {self.iterations}.")
        self._require_descent()
        if not self.b0_offsets_hz or not self.b1_scales or min(self.b1_scales) <= 0:
            raise InputError("b0_offsets_hz and b1_scales must each name at least one value, b1_scales positive ones.")
        if self.duration_s < 4 * self.knot_spacing_s:
            raise InputError(
                f"duration_s {self.duration_s} holds fewer than four spline knots of {self.knot_spacing_s} s. "
                "Lengthen the pulse or shorten knot_spacing_s."
            )

    def _require_terms(self) -> None:
        """Refuse losses that lack what they need, and an ensemble that is none."""
        choices = (("aggregate", AGGREGATES), ("spectrum_mode", SPECTRUM_MODES), ("parameters", PARAMETERS))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, but is {getattr(self, name)!r}.")
        if self.loss.get("state", 0.0) > 0 and not self.state.strip():
            raise InputError("The loss state needs a product operator in state, for example 'I4x + I5x'. Add it.")
        if self.loss.get("suppression", 0.0) > 0 and not self.suppressed:
            raise InputError("The loss suppression needs names in suppressed, for example [NAA]. Add them.")
        if self.target in self.suppressed:
            raise InputError(f"suppressed must not name the target {self.target}. Leave it out.")
        if not 0 < self.aggregate_sharpness < math.inf:
            raise InputError(f"aggregate_sharpness must be positive and finite, but is {self.aggregate_sharpness}.")
        offsets = self.linewidth_offsets_hz
        if not offsets or not all(math.isfinite(x) and self.linewidth_hz + x > 0 for x in offsets):
            raise InputError(
                "linewidth_offsets_hz must name at least one finite value, each leaving linewidth_hz a positive width, "
                f"but is {list(offsets)}."
            )
        if not self.temperature_offsets_k or not all(map(math.isfinite, self.temperature_offsets_k)):
            raise InputError(
                f"temperature_offsets_k must name at least one finite value, but is {list(self.temperature_offsets_k)}."
            )
        sizes = [value for line in self.spectrum_lines for value in line]
        if not all(map(math.isfinite, sizes)) or (
            self.spectrum_lines and not any(size for _, size in self.spectrum_lines)
        ):
            raise InputError(
                f"spectrum_lines must be finite with an amplitude other than zero, but is {list(self.spectrum_lines)}."
            )

    def _require_shots(self) -> None:
        """Refuse places and shots that make no sequence, and losses that do not look at what they make."""
        places, shots = self.places, self.shots
        if not places or len(set(places)) < len(places) or not set(places) <= set(PLACES):
            raise InputError(f"place must name one or several of {', '.join(PLACES)}, each once, but is {self.place}.")
        if not shots or not set(shots) <= set(SHOTS) or "edited" not in shots or shots.count("plain") > 1:
            raise InputError(
                f"shots must name {' and '.join(SHOTS)} shots, at least one edited and at most one plain, but is "
                f"{list(shots)}."
            )
        if self.combine not in COMBINATIONS:
            raise InputError(f"combine must be one of {', '.join(COMBINATIONS)}, but is {self.combine!r}.")
        if self.combine == "difference" and (len(shots) != 2 or shots[0] != "edited" or self.own_echo_times):
            raise InputError(
                "combine: difference needs two shots with the same echo times, the first one edited, for example "
                f"[edited, plain], but shots is {list(shots)} and own_echo_times {self.own_echo_times}."
            )
        single = [name for name in ONE_SPECTRUM if self.loss.get(name, 0.0) > 0]
        if len(shots) > 1 and self.combine == "joint" and single:
            raise InputError(
                f"The loss {', '.join(single)} looks at one spectrum, but shots has {len(shots)} that are fitted "
                "together. Set combine to difference, or use the losses crlb and correlation."
            )
        if self.own_waveforms and len(places) == 1:
            raise InputError(
                f"own_waveforms gives every place its own waveform, but place is {self.place}. Leave it out."
            )
        if self.own_echo_times and len(shots) == 1:
            raise InputError("own_echo_times gives every shot its own echo times, but shots has one. Leave it out.")
        if self.optimise_offset and self.bandwidth_max_hz is not None:
            raise InputError(
                f"bandwidth_max_hz counts from the carrier, and optimise_offset moves a pulse away from it, but "
                f"bandwidth_max_hz is {self.bandwidth_max_hz} and optimise_offset true. Leave one out."
            )
        if not 0 < self.offset_max_hz < math.inf:
            raise InputError(f"offset_max_hz must be positive and finite, but is {self.offset_max_hz}.")

    def _require_descent(self) -> None:
        """Refuse starts that do not exist and descents that go nowhere."""
        names = self.start_names
        wrong = [name for name in names if name not in STARTS and not name.lower().endswith(START_FILES)]
        if wrong or not names or len(set(names)) < len(names):
            raise InputError(
                f"start must name each start once, out of {', '.join(STARTS)} or files that end in "
                f"{', '.join(START_FILES)}, but is {list(names)}."
            )
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"learning_rate must be positive and finite, but is {self.learning_rate}.")
        if not 0 <= self.stop_improvement < math.inf:
            raise InputError(f"stop_improvement must be finite and not negative, but is {self.stop_improvement}.")
        if self.restarts < 0 or self.stop_iterations < 1:
            raise InputError(
                f"restarts must be at least 0 and stop_iterations at least 1, but are {self.restarts} and "
                f"{self.stop_iterations}."
            )
