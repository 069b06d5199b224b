"""Simulation files: one YAML file with a localised PRESS to play, read strictly into SI units (docs/simulate.md)."""

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field

from seqgen.errors import InputError
from seqgen.library import spin_system, spin_system_names
from seqgen.pulse.waveform import RFPulse
from seqgen.section import find_node, validate_section
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.hamiltonian import PseudoSpins
from seqgen.spin.system import PROTON_SHIFT_PPM, SpinGroup, SpinSystem
from seqgen.yamlfile import Node, read_yaml, require_schema_version, shown

T = TypeVar("T")
Positive = Annotated[float, Field(gt=0)]
Axis = Literal["x", "y", "z"]

SCHEMA_VERSION = 1
"""Layout of simulation files."""
KIND_KEY = "simulation"
"""The key at the top level that makes a YAML file a simulation file and no protocol."""
KINDS = ("press",)
"""What it may say."""
WAVEFORM_COLUMNS = ("t_start_s", "amp_Hz", "phase_rad")
"""Header of a waveform file."""
PSEUDO_SPIN_PPM = (40.0, 100.0)
"""Shifts at which FID-A's tables put the spins 1/2 that stand for 31P and 14N, ppm."""
ROUNDING = 1e-6
"""Relative rounding forgiven in the times of a waveform file."""
_SAMPLES_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Excitation:
    """An instantaneous pulse on all spins."""

    flip_rad: Annotated[float, Field(gt=0, lt=math.pi)]
    """Flip angle, rad."""
    phase_rad: float
    """Phase, rad: 0 is +x, pi/2 is +y; right-handed, so 90 degrees about +x turn +z to -y."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IdealRefocusing:
    """Two instantaneous pulses on all spins."""

    flip_rad: Annotated[float, Field(gt=0, le=2 * math.pi)]
    """Flip angle, rad."""
    phase_rad: float
    """Phase, rad."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ShapedSection:
    waveform_file: Path
    dwell_s: Positive
    phase_rad: float
    gradient_hz_per_m: Positive
    position_max_m: Annotated[float, Field(ge=0)]
    n_positions: Annotated[int, Field(ge=2, le=4096)]
    axes: Annotated[tuple[Axis, ...], Field(min_length=2, max_length=2)]

    def __post_init__(self) -> None:
        if self.axes[0] == self.axes[1]:
            raise InputError(
                f"axes must be two different ones, one per pulse, but are {self.axes[0]} and {self.axes[1]}: the voxel "
                "of PRESS is where two slices cross. Write [x, y]."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShapedRefocusing:
    """Two equal shaped pulses, each selective along an axis of its own; the gradient is on during the RF alone."""

    pulse: RFPulse
    """The waveform, phase added; its centre is its middle, its carrier the spectrometer frequency."""
    waveform_file: Path
    """Where it was read."""
    gradient_hz_per_m: float
    """gamma*G/2pi, Hz/m; +G r adds to a positive offset."""
    position_max_m: float
    """Positions run from minus to plus this along each axis, m, with equal weights."""
    n_positions: int
    """Number of positions along each axis."""
    axes: tuple[Axis, ...]
    """Axis of the first and of the second pulse."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PressSimulation:
    """Localised PRESS: ideal excitation, two refocusing pulses, readout from the echo; no relaxation."""

    schema_version: int
    """Layout of the file."""
    simulation: Literal["press"]
    """The kind of simulation."""
    spectrometer_frequency_hz: Annotated[float, Field(ge=1e6, le=3e9)]
    """Spectrometer frequency f0, Hz."""
    reference_ppm: Annotated[float, Field(ge=PROTON_SHIFT_PPM[0], le=PROTON_SHIFT_PPM[1])]
    """Chemical shift at f0, ppm: it has frequency zero, and shaped pulses are on resonance there."""
    metabolites: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the metabolites, in the order of the result."""
    spin_systems_file: Path | None = None
    """Spin systems of the user, YAML or JSON (in the file: a path that counts from its folder), or None."""
    te1_s: Annotated[float, Field(ge=1e-6, le=10)]
    """First echo time, s: the first refocusing pulse is centred at te1/2 after the excitation."""
    te2_s: Annotated[float, Field(ge=1e-6, le=10)]
    """Second echo time, s: the second refocusing pulse is centred at te1 + te2/2."""
    excitation: Excitation
    """The excitation."""
    refocusing: IdealRefocusing | ShapedRefocusing
    """Both refocusing pulses."""
    crushers: Literal["none", "ideal"]
    """"ideal": crushers that leave coherence orders -1, +1, -1 after the three pulses and nothing else; "none": no
    gradients, everything is received."""
    n_samples: Annotated[int, Field(ge=1, le=_SAMPLES_MAX)]
    """Number of samples."""
    dwell_s: Annotated[float, Field(gt=0, le=1)]
    """Time between samples, s; the first one is at the echo."""
    j_step_s: Positive = RESULT_J_STEP_S
    """Longest time between applications of the couplings in a shaped pulse, s."""
    pseudo_spins: PseudoSpins = "secular"
    """How spins other than 1H count: by IzSz alone, or as in FID-A ("fid_a"), for its own JSON tables."""
    linewidth_hz: float = 0.0
    """Linewidth, Hz: 0, nothing else is simulated."""
    output_phase: Literal["none", "fid_a"] = "none"
    """"none": in-memory convention, +x real and positive; "fid_a": times 1j, which is FID-A's."""

    def __post_init__(self) -> None:
        twice = sorted({name for name in self.metabolites if self.metabolites.count(name) > 1})
        if twice:
            raise InputError(f"metabolites must name each metabolite once, but has {', '.join(twice)} twice. Keep one.")
        if self.linewidth_hz != 0:
            raise InputError(
                f"linewidth_hz must be 0 (FIDs are written undamped), but is {self.linewidth_hz:g} Hz. Set it to 0 and "
                "multiply the FIDs by exp(-pi linewidth t) afterwards."
            )

    @property
    def te_s(self) -> float:
        """Echo time te1 + te2, s."""
        return self.te1_s + self.te2_s

    @property
    def files(self) -> Mapping[str, Path]:
        """The further files that were read, by role."""
        found = {}
        if self.spin_systems_file is not None:
            found["spin_systems"] = self.spin_systems_file
        if isinstance(self.refocusing, ShapedRefocusing):
            found["waveform"] = self.refocusing.waveform_file
        return found


def simulation_kind(path: Path) -> str | None:
    """Return what the key `simulation` of a YAML file says, or None for a file without that key (a protocol).

    Raises:
        InputError: If the file cannot be read.
    """
    root = read_yaml(path)
    return str(root.value[KIND_KEY]) if KIND_KEY in root.value else None


def load_press_simulation(path: Path) -> PressSimulation:
    """Read and check a simulation file.

    Args:
        path: The YAML file; paths in it count from its folder.

    Raises:
        InputError: With FILE:LINE, key, value and limit of every problem found, one line each.
    """
    root = read_yaml(path)
    require_schema_version(root, SCHEMA_VERSION)
    problems: list[str] = []
    refocusing = _attempt(lambda: _refocusing(root, path.parent), problems)
    simulation = _attempt(lambda: validate_section(PressSimulation, root, given={"refocusing": refocusing}), problems)
    if simulation is None or problems:
        raise _all(problems)
    if simulation.spin_systems_file is not None:
        simulation = replace(simulation, spin_systems_file=path.parent / simulation.spin_systems_file)
    for check in (_check_metabolites, _check_pseudo_spins, _check_times):
        problems.extend(check(simulation, root))
    if problems:
        raise _all(problems)
    return simulation


def spin_systems(simulation: PressSimulation) -> tuple[SpinSystem, ...]:
    """Return the spin systems of a simulation's metabolites, in its order.

    Raises:
        InputError: If a name is unknown (naming the nearest known), or the user's file is wrong.
    """
    return tuple(_spin_system(name, simulation.spin_systems_file) for name in simulation.metabolites)


def _attempt(make: Callable[[], T], problems: list[str]) -> T | None:
    """Return what `make` returns, or None after noting its InputError."""
    try:
        return make()
    except InputError as error:
        problems.append(str(error))
        return None


def _all(problems: list[str]) -> InputError:
    """Return one error with all problems, one line each, in the order of the file."""
    lines = "\n".join(problems).splitlines()
    number = {line: re.search(r":(\d+): ", line) for line in lines}
    return InputError("\n".join(sorted(lines, key=lambda line: int(m[1]) if (m := number[line]) else 0)))


def _refocusing(root: Node, folder: Path) -> IdealRefocusing | ShapedRefocusing:
    """Return the section `refocusing`, whose `kind` says what else it holds, with its waveform read."""
    if "refocusing" not in root.value:
        raise InputError(f"{root.file}:1: missing key 'refocusing' in {root.place}. Add it.")
    section = root.child("refocusing")
    kind = section.children().get("kind")
    if kind is None or kind.value not in ("ideal", "shaped"):
        at, got = (section.at, "missing") if kind is None else (kind.at, shown(kind.value))
        raise InputError(f"{at}: 'refocusing.kind' must be ideal or shaped, but is {got}. Write `kind: ideal`.")
    if kind.value == "ideal":
        return validate_section(IdealRefocusing, section, skip=("kind",))
    stated = validate_section(_ShapedSection, section, skip=("kind",))
    file = folder / stated.waveform_file
    try:
        pulse = read_waveform(file, stated.dwell_s)
    except InputError as error:
        node = find_node(section, "waveform_file")
        raise InputError(f"{node.at}: in '{node.path}': {error}") from error
    turn = complex(math.cos(stated.phase_rad), math.sin(stated.phase_rad))
    return ShapedRefocusing(
        pulse=replace(pulse, b1_hz=pulse.b1_hz * turn),
        waveform_file=file,
        gradient_hz_per_m=stated.gradient_hz_per_m,
        position_max_m=stated.position_max_m,
        n_positions=stated.n_positions,
        axes=stated.axes,
    )


def read_waveform(path: Path, dwell_s: float) -> RFPulse:
    """Read an RF waveform: CSV with the header `t_start_s,amp_Hz,phase_rad` and one row per sample.

    Args:
        path: The file: start of each sample (s), amplitude gamma*B1/2pi (Hz, not negative) and phase (rad).
        dwell_s: Duration of a sample, s; the first column must run in steps of it from 0.

    Raises:
        InputError: With FILE:LINE of the first thing that is wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not CSV text ({error}). Is this the waveform you mean?") from error
    header = ",".join(WAVEFORM_COLUMNS)
    if not rows or tuple(cell.strip() for cell in rows[0]) != WAVEFORM_COLUMNS:
        raise InputError(
            f"{path}:1: the first line must be {header}, but is {','.join(rows[0])[:60] if rows else 'missing'!r}. "
            "Add it, and give one row per sample."
        )
    values = [_numbers(path, line, row) for line, row in enumerate(rows[1:], 2) if row]
    if not values:
        raise InputError(f"{path}: holds no samples. Give one row {header} per sample.")
    _require_raster([row[0] for row in values], dwell_s, path)
    amplitude, phase = (torch.tensor([row[k] for row in values], dtype=torch.float64) for k in (1, 2))
    if not bool(amplitude.any()):
        raise InputError(f"{path}: every amplitude is 0, so the pulse would do nothing. Give the amplitudes in Hz.")
    return RFPulse(b1_hz=torch.polar(amplitude, phase), dwell_s=dwell_s, name=path.stem)


def _numbers(path: Path, line: int, row: Sequence[str]) -> tuple[float, ...]:
    """Return the three numbers of a row of a waveform file."""
    try:
        values = tuple(float(cell) for cell in row)
    except ValueError:
        values = ()
    if len(values) != len(WAVEFORM_COLUMNS):
        raise InputError(
            f"{path}:{line}: must hold the three numbers {', '.join(WAVEFORM_COLUMNS)}, but holds "
            f"{','.join(row)[:60]!r}. Correct the row."
        )
    for name, value in zip(WAVEFORM_COLUMNS, values, strict=True):
        if not math.isfinite(value):
            raise InputError(
                f"{path}:{line}: NaN or infinity in a waveform: {name} must be a finite number, but is {value}. "
                "Correct the waveform."
            )
    if values[1] < 0:
        raise InputError(
            f"{path}:{line}: amp_Hz must not be negative, but is {values[1]:g}. Give its size and add pi to phase_rad."
        )
    return values


def _require_raster(starts_s: Sequence[float], dwell_s: float, path: Path) -> None:
    """Refuse starts of samples that are not 0, dwell, 2 dwell, ..."""
    for index, start in enumerate(starts_s):
        if abs(start - index * dwell_s) > ROUNDING * dwell_s * max(1, index):
            stated = f"{starts_s[1] * 1e6:g} us" if len(starts_s) > 1 else "another time"
            raise InputError(
                f"{path}: sample {index} of {len(starts_s)} starts at {start * 1e6:g} us, but with the stated dwell of "
                f"{dwell_s * 1e6:g} us it must start at {index * dwell_s * 1e6:g} us: that dwell does not divide the "
                f"waveform into its samples (the second one starts at {stated}). Correct the dwell or the file."
            )


def _check_pseudo_spins(simulation: PressSimulation, root: Node) -> list[str]:
    """Refuse FID-A's convention for tables that give the pseudo-spins no shift."""
    if simulation.pseudo_spins == "secular" or _is_json(simulation.spin_systems_file):
        return []
    node = find_node(root, "pseudo_spins")
    return [
        f"{node.at}: 'pseudo_spins' is fid_a, but needs a 'spin_systems_file' in JSON with the shifts that FID-A gives "
        "the spins that are not 1H; other tables have none. Name that file, or write `pseudo_spins: secular`."
    ]


def _check_metabolites(simulation: PressSimulation, root: Node) -> list[str]:
    """Look every named metabolite up."""
    file = simulation.spin_systems_file
    if file is not None:
        node = find_node(root, "spin_systems_file")
        try:
            _known_names(file)
        except InputError as error:
            return [f"{node.at}: in '{node.path}': {line}" for line in str(error).splitlines()]
    problems: list[str] = []
    for name, node in zip(simulation.metabolites, find_node(root, "metabolites").children().values(), strict=True):
        try:
            _spin_system(name, file)
        except InputError as error:
            problems.append(f"{node.at}: in {node.place}: {error}")
    return problems


def _check_times(simulation: PressSimulation, root: Node) -> list[str]:
    """Refuse crushers that shaped pulses need and echo times that their pulses do not fit into."""
    refocusing = simulation.refocusing
    if not isinstance(refocusing, ShapedRefocusing):
        return []
    problems: list[str] = []
    if simulation.crushers != "ideal":
        node = find_node(root, "crushers")
        problems.append(
            f"{node.at}: 'crushers' must be ideal where 'refocusing.kind' is shaped, but is {simulation.crushers}: the "
            "voxel average is taken for coherence orders -1, +1, -1 alone. Write `crushers: ideal`."
        )
    duration_s = refocusing.pulse.duration_s
    for key in ("te1_s", "te2_s"):
        if getattr(simulation, key) <= duration_s * (1 + ROUNDING):
            node = find_node(root, key)
            problems.append(
                f"{node.at}: '{node.path}' is {shown(node.value)}, that is {getattr(simulation, key) * 1e3:g} ms, but "
                f"must be longer than the refocusing pulse of {duration_s * 1e3:g} ms, which with its crushers lies "
                "within it. Raise it, or shorten the pulse."
            )
    return problems


def _is_json(file: Path | None) -> bool:
    return file is not None and file.suffix.lower() == ".json"


def _known_names(file: Path) -> tuple[str, ...]:
    """Return the names of the metabolites that a user's file makes known."""
    return tuple(_read_json(file)) if _is_json(file) else spin_system_names(file)


def _spin_system(name: str, file: Path | None) -> SpinSystem:
    """Return a metabolite of the built-in table and a YAML file, or of a JSON file alone."""
    if file is None or not _is_json(file):
        return spin_system(name, file)
    systems = _read_json(file)
    if name not in systems:
        by_lower = {known.lower(): known for known in systems}
        near = [by_lower[known] for known in get_close_matches(name.lower(), list(by_lower), 3)]
        hint = f"Nearest known: {', '.join(near)}." if near else f"Known: {', '.join(systems)}."
        raise InputError(
            f"Unknown metabolite {name!r}: not in {file}. {hint} Correct the name, or add it to that file: beside a "
            "JSON file the built-in table is not used."
        )
    return SpinSystem(
        name=name,
        groups=tuple(
            _json_group(row, f"{name}[{index}]", f"{file}: {name}, group {index}")
            for index, row in enumerate(systems[name])
        ),
        sources=(str(file),),
    )


def _read_json(file: Path) -> dict[str, list[Any]]:
    """Return the content of a JSON file of spin systems: lists of groups by metabolite."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}). Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not JSON ({error}). Is this the file you mean?") from error
    if not isinstance(content, dict) or not all(isinstance(rows, list) and rows for rows in content.values()):
        raise InputError(
            f"{file}: must hold a list of spin groups under the name of every metabolite, "
            '{"Lac": [{"shifts": [...], "j": [[...]], "scaleFactor": 1}]}, but does not. See docs/simulate.md.'
        )
    return content


def _json_group(row: Any, name: str, where: str) -> SpinGroup:
    """Return a spin group from `shifts` (ppm), `j` (Hz, upper triangle) and `scaleFactor`; FID-A's layout."""
    wanted = {"shifts", "j", "scaleFactor"}
    if not isinstance(row, dict) or set(row) != wanted:
        got = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else type(row).__name__
        raise InputError(f"{where}: must have the keys {', '.join(sorted(wanted))} and no other, but has {got}.")
    shifts = row["shifts"] if isinstance(row["shifts"], list) else [row["shifts"]]
    n = len(shifts)
    j = row["j"] if isinstance(row["j"], list) else [[row["j"]]]
    square = len(j) == n and all(isinstance(line, list) and len(line) == n for line in j)
    values = [*shifts, row["scaleFactor"], *(value for line in j if isinstance(line, list) for value in line)]
    numbers = all(type(value) is float or (type(value) is int and abs(value) < 1e9) for value in values)
    if n == 0 or not square or not numbers:
        raise InputError(
            f"{where}: must hold n numbers as 'shifts' (ppm), n x n as 'j' (Hz) and one as 'scaleFactor', but does not."
        )
    if any(j[a][b] != 0 for a in range(n) for b in range(a + 1)):
        raise InputError(
            f"{where}: 'j' must state each coupling once, above the diagonal, but has values on it or below. Set these "
            "to 0."
        )
    try:
        return SpinGroup(
            name=name,
            labels=tuple(f"H{k + 1}" for k in range(n)),
            shift_ppm=tuple(float(shift) for shift in shifts),
            j_hz=tuple(tuple(float(j[min(a, b)][max(a, b)]) for b in range(n)) for a in range(n)),
            multiplier=float(row["scaleFactor"]),
            # Which of 31P and 14N is meant does not show; FID-A takes both for a spin 1/2, and so is 31P.
            nuclei=tuple("31P" if shift in PSEUDO_SPIN_PPM else "1H" for shift in shifts),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
