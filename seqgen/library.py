"""What data/ holds: tables of spin systems, relaxation, concentrations and scanners with their sources; designs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar

from seqgen.errors import InputError
from seqgen.exposure import Exposure, ExposureLimits, OperatingMode, SarLimit
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.scanner import Scanner
from seqgen.section import validate_section
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem
from seqgen.yamlfile import parse_yaml, read_yaml, require_schema_version

T = TypeVar("T")

SCHEMA_VERSION = 1
"""Layout of the tables."""
Certainty = Literal["read", "recalled", "own"]
"""How a value is known: read in its source; recalled and unchecked; own assumption or arithmetic."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Citation:
    """Where values come from."""

    citation: str
    """The full citation."""
    certainty: Certainty
    """How the citation is known."""
    note: str = ""
    """What to know about it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sourced:
    """A value with its source; the unit is that of the table (SI after reading)."""

    value: float
    """The value to use."""
    low: float | None = None
    """Low end of what the sources give."""
    high: float | None = None
    """High end of what the sources give."""
    sd: float | None = None
    """Standard deviation between studies."""
    n: int | None = None
    """Number of studies."""
    certainty: Certainty = "own"
    """How the value (or its range) is known."""
    source: tuple[str, ...] = ()
    """Keys of the table of sources."""
    note: str = ""
    """What to know about it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RelaxationRow:
    """Relaxation times of a molecule at a field; None: not in the table."""

    t1_s: Sourced | None = None
    """Longitudinal relaxation time, s."""
    t2_s: Sourced | None = None
    """Transverse relaxation time, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tissue:
    schema_version: int
    sources: dict[str, Citation]
    relaxation: dict[str, dict[str, RelaxationRow]]
    concentrations_mm: dict[str, Sourced]
    pure_water_mm: Sourced
    water_content: dict[str, Sourced]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _GroupRow:
    name: str
    shift_ppm: dict[str, float]
    j_hz: tuple[tuple[str, str, float], ...] = ()
    multiplier: float = 1.0
    heteronuclei: dict[str, str] = field(default_factory=dict)
    certainty: Certainty = "own"
    source: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _SystemRow:
    groups: tuple[_GroupRow, ...]
    full_name: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _SpinTable:
    schema_version: int
    spin_systems: dict[str, _SystemRow]
    sources: dict[str, Citation] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _PeakRow:
    name: str
    shift_ppm: float
    amplitude: float
    fwhm_ppm: float | None = None
    fwhm_hz: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _PeakModel:
    peaks: tuple[_PeakRow, ...]
    spectrometer_frequency_hz: float | None = None
    certainty: Certainty = "own"
    source: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _MacromoleculeTable:
    schema_version: int
    sources: dict[str, Citation]
    models: dict[str, _PeakModel]
    t1_3t_s: Sourced
    t2_3t_s: dict[str, Sourced]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ScannerRow:
    vendor: str
    b0_nominal_t: Sourced
    max_gradient_t_per_m: Sourced
    max_slew_t_per_m_per_s: Sourced
    b1_max_t: Sourced
    rf_raster_s: Sourced
    gradient_raster_s: Sourced
    adc_raster_s: Sourced
    block_raster_s: Sourced
    rf_dead_time_s: Sourced
    rf_ringdown_s: Sourced
    adc_dead_time_s: Sourced
    adc_samples_divisor: Sourced
    adc_samples_max: Sourced
    newest_pulseq_format: Sourced | None = None
    segment_gap_s: Sourced | None = None
    segment_rf_wait_s: Sourced | None = None
    segment_adc_wait_s: Sourced | None = None
    usable_radius_m: Sourced | None = None
    rf_samples_max: Sourced | None = None
    b1_rms_max_t: Sourced | None = None
    sar_head_w_per_kg_per_ut2: Sourced | None = None
    sar_whole_body_w_per_kg_per_ut2: Sourced | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ScannerTable:
    schema_version: int
    scanners: dict[str, _ScannerRow]
    sources: dict[str, Citation] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ExposureTable:
    schema_version: int
    sources: dict[str, Citation]
    sar_w_per_kg: dict[str, dict[OperatingMode, Sourced]]
    averaging_s: Sourced
    short_term_s: Sourced
    short_term_factor: Sourced
    b1_rms_window_s: Sourced


def _builtin(cls: type[T], name: str) -> T:
    """Return a table of the installed package `seqgen_data`."""
    root = parse_yaml(files("seqgen_data").joinpath(name).read_text(encoding="utf-8"), f"seqgen_data/{name}")
    require_schema_version(root, SCHEMA_VERSION)
    return validate_section(cls, root)


@cache
def _spins() -> _SpinTable:
    return _builtin(_SpinTable, "spin_systems.yaml")


@cache
def _tissue() -> _Tissue:
    return _builtin(_Tissue, "tissue.yaml")


@cache
def _macromolecules() -> _MacromoleculeTable:
    return _builtin(_MacromoleculeTable, "macromolecules.yaml")


@cache
def _scanners() -> _ScannerTable:
    return _builtin(_ScannerTable, "scanners.yaml")


@cache
def _exposure() -> _ExposureTable:
    return _builtin(_ExposureTable, "exposure.yaml")


def _user_table(cls: type[T], path: Path) -> T:
    """Return a table from a user's file."""
    root = read_yaml(path)
    require_schema_version(root, SCHEMA_VERSION)
    return validate_section(cls, root)


def spin_system(name: str, extra: Path | None = None) -> SpinSystem:
    """Return the spin system of a metabolite.

    Args:
        name: For example "Glu" (see `spin_system_names`).
        extra: A user's file in the layout of data/spin_systems.yaml; its metabolites come first.

    Raises:
        InputError: If the name is in neither table (naming the nearest known), or the user's file is wrong.
    """
    own = _spins()
    if extra is not None:
        users = _user_table(_SpinTable, extra)
        if name in users.spin_systems:
            sources = {**own.sources, **users.sources}
            return _spin_system(name, users.spin_systems[name], sources, str(extra))
    if name in own.spin_systems:
        return _spin_system(name, own.spin_systems[name], own.sources, "seqgen_data/spin_systems.yaml")
    where = "data/spin_systems.yaml" + (f" or {extra}" if extra is not None else "")
    known = spin_system_names(extra)
    raise InputError(
        f"Unknown metabolite {name!r}: not in {where}. {_nearest(name, known)} "
        "Correct the name, or give its shifts and couplings in a file of your own (spin_systems_file)."
    )


def spin_system_names(extra: Path | None = None) -> tuple[str, ...]:
    """Return the names of all spin systems in the table, then those that a user's file adds."""
    names = dict.fromkeys(_spins().spin_systems)
    if extra is not None:
        names.update(dict.fromkeys(_user_table(_SpinTable, extra).spin_systems))
    return tuple(names)


def _spin_system(name: str, row: _SystemRow, sources: Mapping[str, Citation], file: str) -> SpinSystem:
    """Return a row of the table as a spin system."""
    keys = dict.fromkeys(key for group in row.groups for key in group.source)
    return SpinSystem(
        name=name,
        groups=tuple(_spin_group(group, f"{file}: {name}") for group in row.groups),
        full_name=row.full_name,
        sources=tuple(_cited(key, sources, f"{file}: {name}") for key in keys),
    )


def _spin_group(row: _GroupRow, where: str) -> SpinGroup:
    """Return a row of the table as a spin group; a heteronucleus has no shift of its own (0.0 stands in)."""
    labels = (*row.shift_ppm, *row.heteronuclei)
    if len(set(labels)) < len(labels):
        raise InputError(f"{where}, group {row.name!r}: a spin stands in shift_ppm and in heteronuclei. Keep one.")
    j_hz = [[0.0] * len(labels) for _ in labels]
    pairs = set()
    for first, second, coupling_hz in row.j_hz:
        unknown = [label for label in (first, second) if label not in labels]
        if unknown:
            raise InputError(
                f"{where}, group {row.name!r}: j_hz couples {unknown[0]!r}, which is no spin of the group; "
                f"its spins are {', '.join(labels)}."
            )
        if first == second or frozenset((first, second)) in pairs:
            raise InputError(f"{where}, group {row.name!r}: j_hz must state [{first}, {second}] once, of two spins.")
        pairs.add(frozenset((first, second)))
        j, k = labels.index(first), labels.index(second)
        j_hz[j][k] = j_hz[k][j] = coupling_hz
    return SpinGroup(
        name=row.name,
        labels=labels,
        shift_ppm=(*row.shift_ppm.values(), *(0.0 for _ in row.heteronuclei)),
        j_hz=tuple(tuple(line) for line in j_hz),
        multiplier=row.multiplier,
        nuclei=("1H",) * len(row.shift_ppm) + tuple(row.heteronuclei.values()),
    )


def scanner_names() -> tuple[str, ...]:
    """Return the names of the profiles in data/scanners.yaml."""
    return tuple(_scanners().scanners)


def scanner(name_or_path: str | Path) -> Scanner:
    """Return a scanner profile by its name in data/scanners.yaml, or from a user's file with one profile.

    Raises:
        InputError: If the name is unknown (listing the known ones) or the file is wrong.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text:
        table = _user_table(_ScannerTable, Path(text))
        profiles = table.scanners
        for name, row in profiles.items():
            _require_sar_rows(row, table.sources, f"{text}: {name}")
        if len(profiles) != 1:
            raise InputError(f"{text}: 'scanners' must hold one profile, but holds {len(profiles)}. Keep one.")
        text = next(iter(profiles))
    else:
        profiles = _scanners().scanners
    if text not in profiles:
        raise InputError(
            f"Unknown scanner {text!r}; data/scanners.yaml has {', '.join(profiles)}. "
            "Take one of these, or give the path of a profile of your own (.yaml)."
        )
    return _scanner(text, profiles[text])


def _scanner(name: str, row: _ScannerRow) -> Scanner:
    """Return a row of the table as a scanner profile."""
    given = {item.name: getattr(row, item.name) for item in fields(row) if item.name != "vendor"}
    values: dict[str, Any] = {name: sourced.value for name, sourced in given.items() if sourced is not None}
    for count in ("adc_samples_divisor", "adc_samples_max", "rf_samples_max"):
        if count in values:
            values[count] = round(values[count])
    return Scanner(name=name, vendor=row.vendor, **values)


_SAR_KEYS = {"head": "sar_head_w_per_kg_per_ut2", "whole_body": "sar_whole_body_w_per_kg_per_ut2"}


def _require_sar_rows(row: _ScannerRow, sources: Mapping[str, Citation], where: str) -> None:
    """Refuse a coefficient of SAR without source, or one that is not the upper end of its range."""
    for key in _SAR_KEYS.values():
        sourced = getattr(row, key)
        if sourced is None:
            continue
        if not sourced.source:
            raise InputError(f"{where}: {key} must name its source, but names none. Cite where the value comes from.")
        for source in sourced.source:
            _cited(source, sources, f"{where}: {key}")
        highest = max(value for value in (sourced.value, sourced.low, sourced.high) if value is not None)
        if not 0 < sourced.value == highest:
            raise InputError(
                f"{where}: {key} must be positive and the upper end of its range, {highest:g}, but is "
                f"{sourced.value:g}. Set value to {highest:g}."
            )


def exposure_limits(machine: Scanner, exposure: Exposure | None = None) -> ExposureLimits:
    """Return the limits of RF exposure on a scanner: SAR by region, window and operating mode, and B1+rms.

    SAR limits are those of IEC 60601-2-33 (data/exposure.yaml). Of two limits of B1+rms, the scanner's and the
    protocol's, the smaller one holds.

    Args:
        machine: Its coefficients turn B1+rms into W/kg; without them SAR is not checked.
        exposure: What the protocol asks for; default normal operating mode.

    Example:
        >>> limits = exposure_limits(scanner("siemens_prisma_3t"))
        >>> [(limit.region, limit.window_s, limit.max_w_per_kg) for limit in limits.sar]
        [('head', 10.0, 6.4), ('head', 360.0, 3.2), ('whole body', 10.0, 4.0), ('whole body', 360.0, 2.0)]
    """
    table, wanted = _exposure(), exposure or Exposure()
    windows = ((table.short_term_s.value, table.short_term_factor.value), (table.averaging_s.value, 1.0))
    stated = [
        (value, who)
        for value, who in ((wanted.b1_rms_max_t, "protocol"), (machine.b1_rms_max_t, machine.name))
        if value is not None
    ]
    b1_rms_max_t, stated_by = min(stated) if stated else (None, "")
    return ExposureLimits(
        operating_mode=wanted.operating_mode,
        sar=tuple(
            SarLimit(
                region=region.replace("_", " "),
                window_s=window_s,
                max_w_per_kg=factor * rows[wanted.operating_mode].value,
                w_per_kg_per_ut2=getattr(machine, _SAR_KEYS[region]),
            )
            for region, rows in table.sar_w_per_kg.items()
            for window_s, factor in windows
        ),
        b1_rms_max_t=b1_rms_max_t,
        b1_rms_stated_by=stated_by,
        b1_rms_window_s=table.b1_rms_window_s.value,
    )


def relaxation_row(name: str, field: str) -> RelaxationRow:
    """Return T1 and T2 of a molecule with ranges and sources; `field` is "3t", "7t" or "9.4t".

    Raises:
        InputError: If the field or the molecule is not in the table: nothing is filled in silently.
    """
    tables = _tissue().relaxation
    if field not in tables:
        raise InputError(f"No relaxation table at {field!r}; there are {', '.join(tables)}.")
    rows = tables[field]
    if name not in rows:
        raise InputError(
            f"No relaxation times of {name!r} at {field} in data/tissue.yaml; known: {', '.join(rows)}. "
            "State t1 and t2 yourself."
        )
    return rows[name]


def relaxation(name: str, field: str) -> Relaxation:
    """Return T1 and T2 of a molecule, s; `field` is "3t", "7t" or "9.4t". Of NAA and Cr: their CH3.

    Water is `water_GM`, `water_WM`, `water_CSF`.

    Raises:
        InputError: If the molecule is not in the table or one of its times is not: nothing is filled in silently.
    """
    row = relaxation_row(name, field)
    if row.t1_s is None or row.t2_s is None:
        lacking = "T1" if row.t1_s is None else "T2"
        raise InputError(f"data/tissue.yaml has no {lacking} of {name!r} at {field}. State t1 and t2 yourself.")
    return Relaxation(t1_s=row.t1_s.value, t2_s=row.t2_s.value)


def concentration_mm(name: str) -> float:
    """Return the concentration of a metabolite in the adult brain, mM (mean over studies).

    Raises:
        InputError: If it is not in the table.
    """
    rows = _tissue().concentrations_mm
    if name not in rows:
        raise InputError(f"No brain concentration of {name!r} in data/tissue.yaml; known: {', '.join(rows)}.")
    return rows[name].value


def water_concentration_mm(tissue: str) -> float:
    """Return the concentration of MR-visible water, mM, in "GM", "WM", "CSF", or of "pure" water.

    Raises:
        InputError: If the tissue is not in the table.
    """
    table = _tissue()
    if tissue == "pure":
        return table.pure_water_mm.value
    if tissue not in table.water_content:
        raise InputError(f"No water content of {tissue!r}; known: pure, {', '.join(table.water_content)}.")
    return table.pure_water_mm.value * table.water_content[tissue].value


def macromolecule_models() -> tuple[str, ...]:
    """Return the names of the macromolecule models."""
    return tuple(_macromolecules().models)


def macromolecule_peaks(model: str) -> tuple[MacromoleculePeak, ...]:
    """Return the Gaussian peaks of a macromolecule model, widths in ppm.

    Raises:
        InputError: If the model is unknown.
    """
    models = _macromolecules().models
    if model not in models:
        raise InputError(f"Unknown macromolecule model {model!r}; known: {', '.join(models)}, or none.")
    return tuple(_peak(row, models[model]) for row in models[model].peaks)


def macromolecule_relaxation() -> tuple[Sourced, dict[str, Sourced]]:
    """Return T1, and T2 of the peaks of Landheer 2020, of macromolecules at 3 T, s, with ranges and sources."""
    return _macromolecules().t1_3t_s, _macromolecules().t2_3t_s


def _peak(row: _PeakRow, model: _PeakModel) -> MacromoleculePeak:
    """Return a row of the table as a peak; a width in Hz belongs to the model's spectrometer frequency."""
    fwhm_ppm = row.fwhm_ppm
    if fwhm_ppm is None and row.fwhm_hz is not None and model.spectrometer_frequency_hz is not None:
        fwhm_ppm = row.fwhm_hz / model.spectrometer_frequency_hz * 1e6
    if fwhm_ppm is None:
        raise InputError(f"Macromolecule peak {row.name!r} needs fwhm_ppm, or fwhm_hz at the model's frequency.")
    return MacromoleculePeak(name=row.name, shift_ppm=row.shift_ppm, fwhm_ppm=fwhm_ppm, amplitude=row.amplitude)


def design_names() -> tuple[str, ...]:
    """Return the names of the designs that are shipped, each a protocol and its design file."""
    folder = _designs()
    return tuple(sorted(path.stem for path in folder.glob("*.json"))) if folder.is_dir() else ()


def design_files(name: str) -> tuple[Path, Path]:
    """Return the protocol and the design file of a shipped design.

    Args:
        name: Name as `design_names` lists it.

    Raises:
        InputError: If there is none of this name.
    """
    if name not in design_names():
        raise InputError(f"Unknown design {name!r}; shipped are {', '.join(design_names()) or 'none'}.")
    return _designs() / f"{name}.yaml", _designs() / f"{name}.json"


def _designs() -> Path:
    """Return the folder of the shipped designs in the installed package `seqgen_data`."""
    return Path(str(files("seqgen_data").joinpath("designs")))


def _cited(key: str, sources: Mapping[str, Citation], where: str) -> str:
    """Return the citation of a key; one that is not `read` says so."""
    if key not in sources:
        raise InputError(f"{where}: source {key!r} is not in the table of sources: {', '.join(sources)}. Add it.")
    entry = sources[key]
    return entry.citation + ("" if entry.certainty == "read" else f" ({entry.certainty}, unchecked)")


def _nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known names, whatever their case."""
    by_lower = {entry.lower(): entry for entry in known}
    near = [by_lower[entry] for entry in get_close_matches(name.lower(), list(by_lower), 3)]
    return f"Nearest known: {', '.join(near)}." if near else f"Known: {', '.join(by_lower.values())}."
