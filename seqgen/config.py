"""Protocols: one YAML file per study, read strictly into a frozen `Protocol` in SI units."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from seqgen.design.limits import raster_problems
from seqgen.design.problem import DesignSpec
from seqgen.errors import InputError
from seqgen.exposure import Exposure
from seqgen.library import macromolecule_peaks, scanner, spin_system, spin_system_names
from seqgen.mrs.fit import FitSettings
from seqgen.scanner import Scanner
from seqgen.section import find_node, validate_section
from seqgen.sequence.plugins import SequenceSpec, editing_places, find_sequence
from seqgen.spin.system import Relaxation
from seqgen.units import b0_t
from seqgen.yamlfile import Node, read_yaml, require_schema_version, shown

T = TypeVar("T")
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

SCHEMA_VERSION = 1
"""Layout of protocol files."""
OTHER_FREQUENCY = 0.1
"""Largest relative distance of another frequency that one design is to serve."""
FIELD_TOLERANCE = 0.02
"""Largest relative distance of the spectrometer frequency from that of the scanner's nominal field."""
WATER_SHIFT_TOLERANCE_PPM = 0.1
"""Largest distance of water_shift_ppm from the shift expected at the sample's temperature."""
STUDY_SECTIONS = {"design", "sample", "acquisition", "fit"}
"""Sections that make a protocol a study; one without them describes a scan alone."""
PLAUSIBLE_PPM = (-1.0, 10.0)
"""Where proton shifts of metabolites lie: a window outside is a slip."""
ROUNDING = 1e-6
"""Relative rounding forgiven where one time must be a multiple of another."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleMetabolite:
    """A metabolite of the simulated sample."""

    concentration_mm: NotNegative
    """Concentration, mM."""
    t1_s: Positive
    """Longitudinal relaxation time, s."""
    t2_s: Positive
    """Transverse relaxation time, s."""

    def __post_init__(self) -> None:
        _ = self.relaxation

    @property
    def relaxation(self) -> Relaxation:
        """T1 and T2 together."""
        return Relaxation(t1_s=self.t1_s, t2_s=self.t2_s)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """What the simulated scan finds in the voxel: the truth against which a fit is judged."""

    metabolites: dict[str, SampleMetabolite]
    """Metabolites by name."""
    linewidth_hz: Positive
    """Full width at half maximum of a metabolite's singlet, T2 and shim together, Lorentzian, Hz."""
    water_concentration_mm: Positive
    """Concentration of visible water, mM."""
    water_t1_s: Positive
    """Longitudinal relaxation time of water, s."""
    water_t2_s: Positive
    """Transverse relaxation time of water, s."""
    macromolecules: str = "none"
    """Macromolecule model of data/macromolecules.yaml, or "none"."""
    macromolecule_concentration_mm: NotNegative | None = None
    """Factor on the amplitudes of the model, mM; stated where there is a model."""
    macromolecule_t1_s: Positive | None = None
    """Longitudinal relaxation time of all macromolecules, s; stated where there is a model."""
    macromolecule_t2_s: Positive | None = None
    """Transverse relaxation time of all macromolecules over the echo time, s; stated where there is a model."""

    def __post_init__(self) -> None:
        if not self.metabolites:
            raise InputError("metabolites must name at least one metabolite, but is empty.")
        stated = ("macromolecule_concentration_mm", "macromolecule_t1_s", "macromolecule_t2_s")
        lacking = [name for name in stated if getattr(self, name) is None]
        if self.macromolecules != "none" and lacking:
            raise InputError(
                f"macromolecules is {self.macromolecules!r}, but {', '.join(lacking)} is not given. Add it."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Acquisition:
    """The simulated acquisition: receiver, noise and imperfections that the processing meets."""

    n_coils: Annotated[int, Field(ge=1, le=128)]
    """Number of receive coils."""
    snr: Positive
    """Magnitude of the tallest metabolite peak of the true spectrum over the standard deviation of the noise in one
    real component, in the spectrum of all averages, coils combined optimally, no apodisation, no zero-filling."""
    frequency_drift_hz: float = 0.0
    """Linear drift of the frequency from the first to the last shot, Hz."""
    phase_drift_rad: float = 0.0
    """Linear drift of the phase from the first to the last shot, rad."""
    residual_water_fraction: Fraction = 0.0
    """Water left by the suppression, relative to unsuppressed water."""
    shift_error_ppm: NotNegative = 0.0
    """Standard deviation of the error of each metabolite's shifts against the table, ppm (one value per metabolite)."""
    j_error_relative: Fraction = 0.0
    """Standard deviation of the relative error of each metabolite's couplings."""
    t2_error_relative: Fraction = 0.0
    """Standard deviation of the relative error of each metabolite's T2 against the protocol's."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SequenceChoice:
    """The sequence of a protocol."""

    name: str
    """Name of the plug-in, for example "press"."""
    spec: SequenceSpec
    """The plug-in."""
    params: Any
    """Its parameters, an instance of `spec.Params`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScanProtocol:
    """What a sequence is built from: scanner, frequency, temperature and the sequence itself."""

    schema_version: int
    """Layout of the file."""
    name: str
    """Short name, used in file names."""
    description: str = ""
    """What the study is about."""
    scanner: Scanner
    """The scanner (in the file: a name of data/scanners.yaml or the path of a profile beside the protocol)."""
    spectrometer_frequency_hz: Positive
    """Spectrometer frequency, Hz: as the scanner shows it, on water."""
    temperature_c: Annotated[float, Field(ge=0, le=60)]
    """Temperature of the sample, degrees Celsius."""
    water_shift_ppm: float
    """Chemical shift of water at that temperature, ppm: offsets in Hz count from here."""
    sequence: SequenceChoice
    """The sequence."""
    exposure: Exposure = field(default_factory=Exposure)
    """How much RF the scan may use."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Protocol(ScanProtocol):
    """A study: a scan with sample, design problem, simulated acquisition and fit."""

    seed: Annotated[int, Field(ge=0)]
    """Seed of all random numbers."""
    spin_systems_file: Path | None = None
    """Further spin systems (in the file: a path beside the protocol), or None."""
    sample: Sample
    """The simulated sample."""
    design: DesignSpec
    """What the editing pulse is to do."""
    acquisition: Acquisition
    """The simulated acquisition."""
    fit: FitSettings
    """How spectra are fitted."""


def load_protocol(path: Path) -> Protocol:
    """Read and check a protocol.

    Every number may be written in a friendly unit that its key names (`te1_ms` for the field `te1_s`).

    Args:
        path: The YAML file; paths in it count from its folder.

    Raises:
        InputError: With FILE:LINE, key, value and limit of every problem found, one line each.
    """
    root = read_yaml(path)
    require_schema_version(root, SCHEMA_VERSION)
    problems: list[str] = []
    if not STUDY_SECTIONS & set(root.value):
        raise InputError(
            f"{path}:1: this protocol describes a scan alone: it has none of {', '.join(sorted(STUDY_SECTIONS))}. "
            "Build it with `seqgen build`, or add these sections (`seqgen init` writes examples)."
        )
    design = _attempt(lambda: validate_section(DesignSpec, _child(root, "design")), problems)
    given: dict[str, Any] = {
        "design": design,
        "sequence": None if design is None else _attempt(lambda: _sequence(root, design), problems),
        "scanner": _attempt(lambda: _scanner(root, path.parent), problems),
    }
    protocol = _attempt(lambda: validate_section(Protocol, root, given=given), problems)
    if protocol is None or problems:
        raise _all(problems)
    if protocol.spin_systems_file is not None:
        protocol = replace(protocol, spin_systems_file=path.parent / protocol.spin_systems_file)
    for check in (_check_field, _check_water, _check_metabolites, _check_design, _check_sample, _check_fit):
        problems.extend(check(protocol, root))
    if problems:
        raise _all(problems)
    return protocol


def load_scan_protocol(path: Path) -> ScanProtocol:
    """Read and check the protocol of a scan: one with no more than scanner, frequency and sequence, or a whole study.

    Raises:
        InputError: With FILE:LINE, key, value and limit of every problem found, one line each.
    """
    root = read_yaml(path)
    require_schema_version(root, SCHEMA_VERSION)
    if STUDY_SECTIONS & set(root.value):
        return load_protocol(path)
    problems: list[str] = []
    given: dict[str, Any] = {
        "sequence": _attempt(lambda: _sequence(root, None), problems),
        "scanner": _attempt(lambda: _scanner(root, path.parent), problems),
    }
    protocol = _attempt(lambda: validate_section(ScanProtocol, root, given=given), problems)
    if protocol is None or problems:
        raise _all(problems)
    problems = [problem for check in (_check_field, _check_water) for problem in check(protocol, root)]
    if problems:
        raise _all(problems)
    return protocol


def _all(problems: list[str]) -> InputError:
    """Return one error with all problems, one line each, in the order of the file."""
    lines = "\n".join(problems).splitlines()
    number = {line: re.search(r":(\d+): ", line) for line in lines}
    return InputError("\n".join(sorted(lines, key=lambda line: int(m[1]) if (m := number[line]) else 0)))


def _attempt(make: Callable[[], T], problems: list[str]) -> T | None:
    """Return what `make` returns, or None after noting its InputError."""
    try:
        return make()
    except InputError as error:
        problems.append(str(error))
        return None


def _child(root: Node, key: str) -> Node:
    """Return a key of the top level that must be there."""
    if key not in root.value:
        raise InputError(f"{root.file}:1: missing key '{key}' in {root.place}. Add it.")
    return root.child(key)


def _scanner(root: Node, folder: Path) -> Scanner:
    """Return the scanner that a protocol names; a path counts from the protocol's folder."""
    node = _child(root, "scanner")
    if not isinstance(node.value, str):
        raise InputError(f"{node.at}: 'scanner' must be a name or a path, but is {shown(node.value)}.")
    is_path = node.value.endswith((".yaml", ".yml"))
    try:
        return scanner(folder / node.value if is_path else node.value)
    except InputError as error:
        raise InputError(f"{node.at}: in 'scanner': {error}") from error


def _sequence(root: Node, design: DesignSpec | None) -> SequenceChoice:
    """Return the sequence section, its parameters checked by the plug-in's own dataclass.

    Echo times that a sequence has and its section leaves out, and its `editing_places`, are those of `design`, if there
    is one; stated, they must be the same. A sequence that states where it plays a designed pulse must do so where the
    design places it.
    """
    section = _child(root, "sequence")
    name = section.children().get("name")
    if name is None or not isinstance(name.value, str):
        at = (name or section).at
        raise InputError(f"{at}: 'sequence' must hold the key 'name' with a sequence, for example `name: press`.")
    try:
        spec = find_sequence(name.value)
    except InputError as error:
        raise InputError(f"{name.at}: in 'sequence.name': {error}") from error
    known = {field.name for field in fields(spec.Params)}
    if design is not None:
        _require_places(root, spec, design, choosing="editing_places" in known)
    times: dict[str, Any] = {
        key: getattr(design, key) for key in ("te1_s", "te2_s") if design is not None and key in known
    }
    given = {key: value for key, value in times.items() if find_node(section, key) is section}
    if design is not None and "editing_places" in known and "editing_places" not in section.children():
        given["editing_places"] = design.places
    params = validate_section(spec.Params, section, given=given, skip=("name",))
    for key, value in times.items():
        if getattr(params, key) != value:
            node = find_node(section, key)
            raise InputError(
                f"{node.at}: '{node.path}' is {shown(node.value)}, but '{find_node(root, 'design', key).path}' is "
                f"{shown(find_node(root, 'design', key).value)}. Leave it out here: the echo times are the design's."
            )
    if design is not None and set(getattr(params, "editing_places", design.places)) != set(design.places):
        node = section.child("editing_places")
        raise InputError(
            f"{node.at}: '{node.path}' is {shown(node.value)}, but '{find_node(root, 'design', 'place').path}' puts "
            f"the pulse at {' and '.join(design.places)}. Leave it out here: the places are the design's."
        )
    return SequenceChoice(name=name.value, spec=spec, params=params)


def _require_places(root: Node, spec: SequenceSpec, design: DesignSpec, *, choosing: bool) -> None:
    """Refuse a sequence that cannot play the designed pulse at the design's places and nowhere else, if it tells.

    Args:
        root: The protocol.
        spec: The sequence.
        design: The design.
        choosing: Whether its parameters choose among its places; if not, it plays the pulse at all of them.
    """
    places, wanted = editing_places(spec), set(design.places)
    # A sequence without any place may still be simulated and fitted by a study; designing for it is refused later.
    if not places or (wanted <= set(places) if choosing else wanted == set(places)):
        return
    node = find_node(root, "design", "place")
    raise InputError(
        f"{node.at}: 'design.place' is {design.place!r}, but sequence {spec.name!r} plays a designed pulse at "
        f"{(' or ' if choosing else ' and ').join(places)}. Choose another sequence "
        f"(`{'isis_press' if design.place == 'excitation' else 'press'}` plays it there)."
    )


def water_shift_at_ppm(temperature_c: float) -> float:
    """Return the chemical shift of water expected at a temperature, ppm against DSS.

    4.65 ppm at 37 C and -0.01036 ppm per kelvin, measured in pure water from 5 to 45 C: Petley BW, Donaldson RW,
    Metrologia 20:81 (1984).
    """
    return 4.65 - 0.01036 * (temperature_c - 37.0)


def _check_field(protocol: ScanProtocol, root: Node) -> list[str]:
    """Compare the spectrometer frequency with the scanner's nominal field."""
    field_t, nominal_t = b0_t(protocol.spectrometer_frequency_hz), protocol.scanner.b0_nominal_t
    if abs(field_t / nominal_t - 1) <= FIELD_TOLERANCE:
        return []
    node = find_node(root, "spectrometer_frequency_hz")
    return [
        f"{node.at}: '{node.path}' is {shown(node.value)}, that is {field_t:.3f} T, but 'scanner' "
        f"{protocol.scanner.name} is {nominal_t:g} T; they may differ by {FIELD_TOLERANCE:.0%}. "
        "Give the frequency that the scanner shows (Siemens 3 T: 123.2 MHz, GE and Philips: 127.7 MHz)."
    ]


def _check_water(protocol: ScanProtocol, root: Node) -> list[str]:
    """Compare the shift of water with the temperature."""
    expected = water_shift_at_ppm(protocol.temperature_c)
    if abs(protocol.water_shift_ppm - expected) <= WATER_SHIFT_TOLERANCE_PPM:
        return []
    node = find_node(root, "water_shift_ppm")
    return [
        f"{node.at}: 'water_shift_ppm' is {protocol.water_shift_ppm:g}, but water at 'temperature_c' "
        f"{protocol.temperature_c:g} lies at {expected:.2f} ppm; they may differ by {WATER_SHIFT_TOLERANCE_PPM:g} ppm. "
        f"Set water_shift_ppm to {expected:.2f} or correct the temperature (37 C: 4.65, 20 C: 4.83)."
    ]


def _check_metabolites(protocol: Protocol, root: Node) -> list[str]:
    """Look every named metabolite up; the target and the interferers must be in the sample."""
    problems: list[str] = []
    extra = protocol.spin_systems_file
    try:
        spin_system_names(extra)
    except InputError as error:
        node = find_node(root, "spin_systems_file")
        return [f"{node.at}: in '{node.path}': {line}" for line in str(error).splitlines()]
    section = find_node(root, "sample", "metabolites")
    named = {name: section.child(name) for name in protocol.sample.metabolites}
    fitted = find_node(root, "fit", "metabolites")
    named |= {name: fitted for name in protocol.fit.metabolites if name not in named}
    for name, node in named.items():
        try:
            spin_system(name, extra)
        except InputError as error:
            problems.append(f"{node.at}: in {node.place}: {error}")
    design = protocol.design
    for key, names in (
        ("target", (design.target,)),
        ("interferers", design.interferers),
        ("suppressed", design.suppressed),
    ):
        absent = [name for name in names if name not in protocol.sample.metabolites]
        if absent:
            node = find_node(root, "design", key)
            problems.append(
                f"{node.at}: 'design.{key}' names {', '.join(absent)}, but 'sample.metabolites' holds "
                f"{', '.join(protocol.sample.metabolites)}. Add it to the sample, or correct the name."
            )
    return problems


def _check_design(protocol: Protocol, root: Node) -> list[str]:
    """Check the design section against the scanner and against what is plausible."""
    design, machine = protocol.design, protocol.scanner
    problems: list[str] = []
    low, high = PLAUSIBLE_PPM
    for key, values in (("window_ppm", design.window_ppm), ("carrier_ppm", (design.carrier_ppm,))):
        if any(not low <= value <= high for value in values):
            node = find_node(root, "design", key)
            problems.append(
                f"{node.at}: '{node.path}' is {shown(node.value)}, but proton shifts lie between {low:g} and {high:g} "
                "ppm. Give ppm, not Hz."
            )
    if design.nominal_b1_max_hz > machine.b1_max_hz:
        node = find_node(root, "design", "b1_max_hz")
        problems.append(
            f"{node.at}: '{node.path}' is {shown(node.value)}, but {machine.name} reaches {machine.b1_max_hz:.0f} Hz "
            f"({machine.b1_max_t * 1e6:g} uT). Lower it to what the scanner can play."
        )
    far = [f for f in design.other_frequencies_hz if abs(f / protocol.spectrometer_frequency_hz - 1) > OTHER_FREQUENCY]
    if far:
        node = find_node(root, "design", "other_frequencies_hz")
        problems.append(
            f"{node.at}: '{node.path}' is {shown(node.value)}, but another vendor's scanner of this field lies within "
            f"{OTHER_FREQUENCY:.0%} of 'spectrometer_frequency_hz', {protocol.spectrometer_frequency_hz / 1e6:g} MHz. "
            "Correct it, or design for each field by itself."
        )
    if protocol.spectrometer_frequency_hz in design.other_frequencies_hz:
        node = find_node(root, "design", "other_frequencies_hz")
        problems.append(
            f"{node.at}: '{node.path}' is {shown(node.value)}, but {protocol.spectrometer_frequency_hz * 1e-6:g} MHz "
            "is 'spectrometer_frequency_mhz' itself. Name the others only: where a design is built at one of them, the "
            "two change places."
        )
    for field_name, message in raster_problems(design, machine):
        node = find_node(root, "design", field_name)
        problems.append(f"{node.at}: '{node.path}' {message}")
    return problems


def _check_sample(protocol: Protocol, root: Node) -> list[str]:
    """Check the macromolecule model, and that no line is narrower than its T2 allows."""
    sample = protocol.sample
    problems: list[str] = []
    if sample.macromolecules != "none":
        node = find_node(root, "sample", "macromolecules")
        try:
            macromolecule_peaks(sample.macromolecules)
        except InputError as error:
            problems.append(f"{node.at}: in '{node.path}': {error}")
    widest = _widest_natural_width(sample.metabolites)
    if sample.linewidth_hz < widest[1]:
        node = find_node(root, "sample", "linewidth_hz")
        problems.append(
            f"{node.at}: '{node.path}' is {shown(node.value)}, but T2 alone gives {widest[0]} a width of "
            f"{widest[1]:.1f} Hz (1/(pi T2)). Raise the linewidth or the T2."
        )
    return problems


def _widest_natural_width(metabolites: Mapping[str, SampleMetabolite]) -> tuple[str, float]:
    """Return the metabolite of shortest T2 and its natural width 1/(pi T2), Hz."""
    name = min(metabolites, key=lambda key: metabolites[key].t2_s)
    return name, 1 / (math.pi * metabolites[name].t2_s)


def _check_fit(protocol: Protocol, root: Node) -> list[str]:
    """Check that the fitted range is one of ppm."""
    low, high = PLAUSIBLE_PPM
    if protocol.fit.range_ppm[0] >= low and protocol.fit.range_ppm[1] <= high:
        return []
    node = find_node(root, "fit", "range_ppm")
    return [
        f"{node.at}: '{node.path}' is {shown(node.value)}, but proton shifts lie between {low:g} and {high:g} ppm. "
        "Give ppm, not Hz."
    ]
