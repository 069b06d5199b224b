"""Within which limits a designed pulse stays: what spec, scanner and the rest of the sequence leave to it.

Exposure limits are means of |b1|^2 over a window. Shots repeat every TR, so no window of length W holds more than
ceil(W / TR) of them, wherever their pulses stand. With the energy A of a shot's other pulses and n editing pulses of
energy E in it, a limit M of the mean is kept for every echo time if

    ceil(W / TR) (A + n E) <= W M

That takes shots whose pulses begin alike after the start of the shot, lighter ones leaving some out. Where shots have
echo times of their own, or several have a waveform of their own, a window can hold the late pulses of one shot and the
early ones of another, ceil(W / TR) TR later: one shot more is counted then, and no window of length W touches more.
"""

import math
from dataclasses import dataclass

import numpy as np

from seqgen.design.problem import DesignSpec
from seqgen.errors import HardwareLimitError, InputError
from seqgen.exposure import ExposureLimits, SarLimit
from seqgen.pulse.parameterise import band_basis, waveform_basis
from seqgen.scanner import Scanner
from seqgen.sequence.plugins import Built
from seqgen.timeline import PulseUse
from seqgen.units import hz_to_tesla, tesla_to_hz

_ROUNDING = 1e-6
"""Relative rounding forgiven where one time must be a multiple of another."""
_B1_ROUNDING_HZ = 1e-4
"""What a scanner's amplitude limit leaves free, Hz: by less than this the rounding of a waveform can raise its peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceLoad:
    """RF of one shot of the sequence that plays the designed pulse."""

    tr_s: float
    """Repetition time, s."""
    energy_hz2_s: float
    """Largest RF energy of a shot without its editing pulses, Hz^2 s."""
    n_editing: int
    """Editing pulses of a shot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseLimits:
    """Limits of the editing pulse that hold by construction, each with what decides it."""

    b1_max_hz: float
    """Amplitude limit of the waveform as it is written, Hz."""
    b1_max_by: str
    """What decides it."""
    energy_max_hz2_s: float
    """Energy limit of one pulse, Hz^2 s."""
    energy_max_by: str
    """What decides it."""
    bandwidth_max_hz: float | None
    """Limit of the bandwidth, Hz; None: not limited."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _MeanLimit:
    """A limit of the mean of |b1|^2 over a window."""

    name: str
    """The quantity in words."""
    window_s: float
    """Averaging time, s."""
    limit_hz2: float
    """Largest mean, Hz^2."""
    needed: str
    """Whose limit it is and what it would have to be; {} stands for the nearest feasible value."""
    per_hz2: float
    """The quantity in its own unit for a mean of 1 Hz^2 (where `root`, for a root of the mean of 1 Hz)."""
    unit: str
    """Its unit."""
    root: bool = False
    """Whether the quantity is the root of the mean."""
    alike: bool = True
    """Whether the pulses of all shots begin alike, some left out."""

    def quantity(self, mean_hz2: float) -> float:
        """Return the quantity for a mean of |b1|^2, in its own unit."""
        return (math.sqrt(mean_hz2) if self.root else mean_hz2) * self.per_hz2

    def n_shots(self, tr_s: float) -> int:
        """Return the largest number of shots that a window can hold."""
        return max(1, math.ceil(self.window_s / tr_s * (1 - _ROUNDING))) + (not self.alike)

    def energy_left(self, load: SequenceLoad) -> float:
        """Return the largest energy of an editing pulse, Hz^2 s; zero or less: none is left."""
        per_shot = self.window_s * self.limit_hz2 / self.n_shots(load.tr_s)
        return (per_shot - load.energy_hz2_s) / load.n_editing

    def least_tr_s(self, load: SequenceLoad) -> float | None:
        """Return the shortest TR that leaves energy, in whole ms, s; None: one shot alone has too much."""
        n_most = math.ceil(self.window_s * self.limit_hz2 / load.energy_hz2_s) - 1 - (not self.alike)
        return None if n_most < 1 else math.ceil(self.window_s / n_most * 1e3 * (1 - 0.5 * _ROUNDING)) / 1e3


def sequence_load(built: Built, tr_s: float, use: PulseUse = "preparation") -> SequenceLoad:
    """Return the RF load of a sequence that was built with any editing pulse.

    Args:
        built: The sequence.
        tr_s: Repetition time, s.
        use: Use of the designed pulse: "excitation" where it replaces the excitation.

    Raises:
        InputError: If no shot plays one.
    """
    pulses = []
    now_s = 0.0
    for block in built.blocks:
        if block.rf is not None:
            energy = float((block.rf.b1_hz.abs() ** 2).sum()) * block.rf.raster_s
            pulses.append((now_s, block.rf.use == use, energy))
        now_s += block.duration_s
    starts_s, edits, energies = (np.array(column) for column in zip(*pulses, strict=True))
    n_editing, energy = 0, 0.0
    for start_s in starts_s:
        # A hair less than TR: the next shot's first pulse is not in this one.
        shot = (starts_s >= start_s) & (starts_s < start_s + tr_s * (1 - _ROUNDING))
        n_editing = max(n_editing, int((shot & edits).sum()))
        energy = max(energy, float(energies[shot & ~edits].sum()))
    if n_editing == 0:
        raise InputError("The sequence plays no designed pulse. Choose a sequence and a place that do.")
    return SequenceLoad(tr_s=tr_s, energy_hz2_s=energy, n_editing=n_editing)


def pulse_limits(
    spec: DesignSpec, scanner: Scanner, exposure: ExposureLimits | None = None, load: SequenceLoad | None = None
) -> PulseLimits:
    """Return the limits that the optimiser keeps by construction.

    Args:
        spec: The problem.
        scanner: Amplitude, RF raster and samples.
        exposure: Limits of B1+rms and SAR; SAR counts where the scanner's profile states a coefficient.
        load: RF of the sequence around the pulse; None: B1+rms and SAR are left to the check of the file.

    Raises:
        InputError: If samples, knots or bandwidth cannot be had, with the nearest feasible value.
        HardwareLimitError: If a limit of exposure leaves no energy to the pulse, with the nearest TR and limit.
    """
    for field, message in raster_problems(spec, scanner):
        raise InputError(f"design: {field} {message}")
    basis = waveform_basis(
        spec.parameters, duration_s=spec.duration_s, dwell_s=spec.rf_dwell_s, knot_spacing_s=spec.knot_spacing_s
    )
    if spec.bandwidth_max_hz is not None:
        band_basis(basis, spec.rf_dwell_s, spec.bandwidth_max_hz)
    at_scale = f" at B1 scale {max(spec.b1_scales):g}" if spec.b1_max_at == "largest_scale" else ""
    # A sequence refuses a pulse above the scanner's limit, rounding or not; the protocol's forgives it.
    b1_max = min(
        (spec.nominal_b1_max_hz, f"b1_max{at_scale} of the protocol"),
        (scanner.b1_max_hz - _B1_ROUNDING_HZ, f"scanner {scanner.name}"),
    )
    energies = [(spec.energy_max_hz2_s, "energy_max of the protocol")]
    alike = not spec.own_echo_times and spec.shots.count("edited") == 1
    means = () if exposure is None or load is None else _mean_limits(exposure, alike)
    if load is not None:
        _require_energy(means, load)
        energies += [(mean.energy_left(load), mean.name) for mean in means]
    energy_max = min(energies)
    return PulseLimits(
        b1_max_hz=b1_max[0],
        b1_max_by=b1_max[1],
        energy_max_hz2_s=energy_max[0],
        energy_max_by=energy_max[1],
        bandwidth_max_hz=spec.bandwidth_max_hz,
    )


def raster_problems(spec: DesignSpec, scanner: Scanner) -> list[tuple[str, str]]:
    """Return (field, what is wrong with the nearest feasible value) of a pulse that rasters do not allow."""
    dwell_s, raster_s = spec.rf_dwell_s, scanner.rf_raster_s
    if round(dwell_s / raster_s) < 1 or not _whole(dwell_s / raster_s):
        near_us = max(1, round(dwell_s / raster_s)) * raster_s * 1e6
        message = (
            f"must be a multiple of the RF raster of {scanner.name}, {raster_s * 1e6:g} us, but is "
            f"{dwell_s * 1e6:g} us. Nearest: {near_us:g} us."
        )
        # The others count in samples.
        return [("rf_dwell_s", message)]
    problems: list[tuple[str, str]] = []
    if not _whole(spec.duration_s / dwell_s):
        near_ms = round(spec.duration_s / dwell_s) * dwell_s * 1e3
        problems.append(
            (
                "duration_s",
                f"must be a whole number of samples of {dwell_s * 1e6:g} us, but is {spec.duration_s * 1e3:g} ms. "
                f"Nearest: {near_ms:g} ms.",
            )
        )
    if spec.knot_spacing_s < dwell_s * (1 - _ROUNDING):
        problems.append(
            (
                "knot_spacing_s",
                f"must be at least the {dwell_s * 1e6:g} us of a sample, but is {spec.knot_spacing_s * 1e6:g} us. "
                f"Nearest: {dwell_s * 1e6:g} us.",
            )
        )
    elif spec.parameters == "steps" and not problems:
        problems += _step_problems(spec)
    if scanner.rf_samples_max is not None and round(spec.duration_s / raster_s) > scanner.rf_samples_max:
        most = math.floor(scanner.rf_samples_max * raster_s / dwell_s * (1 + _ROUNDING))
        problems.append(
            (
                "duration_s",
                f"must be at most {most * dwell_s * 1e3:g} ms ({scanner.name} plays pulses of up to "
                f"{scanner.rf_samples_max} samples of {raster_s * 1e6:g} us), but is {spec.duration_s * 1e3:g} ms. "
                "Shorten the pulse.",
            )
        )
    return problems


def _step_problems(spec: DesignSpec) -> list[tuple[str, str]]:
    """Return what is wrong with steps that do not fill the samples of a pulse, in the form of `raster_problems`."""
    n_samples, wanted = round(spec.duration_s / spec.rf_dwell_s), spec.knot_spacing_s / spec.rf_dwell_s
    if _whole(wanted) and n_samples % round(wanted) == 0:
        return []
    # A spec wants four steps or more.
    fitting = [count for count in range(1, n_samples // 4 + 1) if n_samples % count == 0]
    near_us = min(fitting, key=lambda count: abs(count - wanted)) * spec.rf_dwell_s * 1e6
    message = (
        f"must be a whole number of samples of {spec.rf_dwell_s * 1e6:g} us that divides the {spec.duration_s * 1e3:g} "
        f"ms of the pulse, where parameters is steps, but is {spec.knot_spacing_s * 1e6:g} us. Nearest: {near_us:g} us."
    )
    return [("knot_spacing_s", message)]


def _whole(ratio: float) -> bool:
    """Return whether a ratio is a whole number but for rounding."""
    return abs(ratio - round(ratio)) <= _ROUNDING * max(1.0, ratio)


def _mean_limits(exposure: ExposureLimits, alike: bool) -> list[_MeanLimit]:
    """Return the limits of B1+rms and SAR that are stated, as limits of the mean of |b1|^2."""
    means = [_sar_limit(limit, exposure, alike) for limit in exposure.stated_sar]
    if exposure.b1_rms_max_t is not None:
        means.append(
            _MeanLimit(
                name=f"B1+rms over {exposure.b1_rms_window_s:g} s",
                window_s=exposure.b1_rms_window_s,
                limit_hz2=tesla_to_hz(exposure.b1_rms_max_t) ** 2,
                needed=f"of the {exposure.b1_rms_stated_by}; it would take at least {{}} uT",
                per_hz2=hz_to_tesla(1e6),
                unit="uT",
                root=True,
                alike=alike,
            )
        )
    return means


def _sar_limit(limit: SarLimit, exposure: ExposureLimits, alike: bool) -> _MeanLimit:
    """Return a limit of SAR as a limit of the mean of |b1|^2."""
    per_hz2 = (limit.w_per_kg_per_ut2 or 0.0) * hz_to_tesla(1e6) ** 2
    return _MeanLimit(
        name=f"SAR of the {limit.region} over {limit.window_s:g} s",
        window_s=limit.window_s,
        limit_hz2=limit.max_w_per_kg / per_hz2,
        needed=f"{exposure.operating_mode.replace('_', ' ')} operating mode; it would take at least {{}} W/kg",
        per_hz2=per_hz2,
        unit="W/kg",
        alike=alike,
    )


def _require_energy(means: list[_MeanLimit] | tuple[_MeanLimit, ...], load: SequenceLoad) -> None:
    """Refuse limits that the rest of the sequence alone exhausts."""
    broken = [mean for mean in means if mean.energy_left(load) <= 0]
    if not broken:
        return
    times_s = [mean.least_tr_s(load) for mean in broken]
    possible = [time_s for time_s in times_s if time_s is not None]
    lines = []
    for mean in broken:
        value = mean.quantity(mean.n_shots(load.tr_s) * load.energy_hz2_s / mean.window_s)
        lines.append(
            f"{mean.name} is {value:.4g} {mean.unit} without any editing pulse, the limit "
            f"{mean.quantity(mean.limit_hz2):.4g} {mean.unit} ({mean.needed.format(_above(value))})"
        )
    longest = (
        f"Raise tr_s to at least {max(possible):.3f} s" if len(possible) == len(broken) else "No TR is long enough"
    )
    raise HardwareLimitError(
        f"design: the rest of the sequence leaves no energy to the editing pulse at TR {load.tr_s:g} s: "
        + "; ".join(lines)
        + f". {longest}, or choose weaker localisation and suppression pulses."
    )


def _above(value: float) -> str:
    """Return the next number of four digits above a value."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{(math.floor(value / step * (1 + 1e-9)) + 1) * step:.4g}"
