"""Studies of many designs: one YAML file names a protocol and what varies; every point is a protocol of its own."""

import copy
import io
import itertools
import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarbool import ScalarBoolean

from seqgen.config import Protocol, SequenceChoice
from seqgen.design.evaluate import Metrics
from seqgen.design.problem import LOSSES, START_FILES
from seqgen.errors import InputError
from seqgen.provenance import sha256_bytes, sha256_file
from seqgen.section import spellings, validate_section
from seqgen.sequence.plugins import find_sequence, sequence_names
from seqgen.yamlfile import Node, read_yaml, require_schema_version, shown

SCHEMA_VERSION = 1
"""Layout of study files."""
MAX_POINTS = 20_000
"""Most points of one study; more is a slip."""
OWN_KEYS = ("schema_version", "name", "description")
"""Keys of a protocol that a study leaves alone."""
_VARYING = ("vary", "together", "points")
"""Sections that make points."""
_SCALARS = tuple(f.name for f in fields(Metrics) if f.name not in ("terms", "bounds"))
NUMBERS = (
    *_SCALARS,
    *(f"terms.{name}" for name in LOSSES),
    *("te1_s", "te2_s", "te_s", "peak_hz", "energy_hz2_s", "energy_per_shot_hz2_s", "seconds"),
)
"""Columns of the table that hold numbers, beside what varies and those that begin with one of `OPEN_COLUMNS`."""
WORDS = ("point", "status", "combine", "search", "error")
"""Columns that hold words: they may colour."""
OPEN_COLUMNS = ("bounds.", "ratio.", "press.", "shots[")
"""Beginnings of columns that the protocols and designs of the points decide."""
_HEADER = "# A point of a sweep, complete by itself: `seqgen design` on this file makes its design again.\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """Keys that change together."""

    steps: tuple[Mapping[str, Any], ...]
    """Dotted key, as the study writes it, to its value, for every step along the axis; a key that a step leaves out is
    the protocol's."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Every dotted key of a step."""
        return tuple(dict.fromkeys(key for step in self.steps for key in step))


@dataclass(frozen=True, kw_only=True, slots=True)
class ParetoSpec:
    """A Pareto plot: columns of the table of results."""

    where: str = ""
    """FILE:LINE, for messages."""
    x: str
    """Column of the horizontal axis; less is better unless `maximise` names it."""
    y: str
    """Column of the vertical axis."""
    z: str = ""
    """A third column that the front counts too, drawn as colour; empty: none."""
    colour: str = ""
    """A column drawn as colour without counting; empty: none."""
    maximise: tuple[str, ...] = ("signal", "overlap")
    """Columns of which more is better."""
    logarithmic: tuple[str, ...] = ()
    """Columns that are drawn on a logarithmic scale."""

    def __post_init__(self) -> None:
        if self.z and self.colour:
            raise InputError(
                f"colour is {self.colour!r}, but z, {self.z!r}, is drawn as colour. Leave one of them out."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What a study says besides its keys."""

    schema_version: int
    name: str
    description: str = ""
    protocol: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepStudy:
    """A grid of designs."""

    path: Path
    """The study's file."""
    name: str
    """Short name."""
    protocol: Path
    """The protocol that it starts from."""
    fixed: Mapping[str, Any]
    """Dotted key to the value that all points share."""
    axes: tuple[Axis, ...]
    """What varies; the points are all combinations, the last axis fastest."""
    names: Mapping[str, tuple[str, ...]]
    """Every dotted key in field names: "design.duration_ms" is ("design", "duration_s")."""
    pareto: tuple[ParetoSpec, ...]
    """The plots; none: those of the loss."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Every dotted key that varies."""
        return tuple(key for axis in self.axes for key in axis.keys)

    @cached_property
    def points(self) -> "tuple[Point, ...]":
        """Every point, in the order of the grid.

        Raises:
            InputError: If the protocol cannot be read, or a file that it names.
        """
        base = _plain(read_yaml(self.protocol).value)
        _locate_files(base, self.protocol.parent)
        combinations = itertools.product(*(axis.steps for axis in self.axes))
        made = [_point(self, base, {key: each[key] for each in row for key in each}) for row in combinations]
        return tuple({point.id: point for point in made}.values())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Point:
    """One design of a study."""

    id: str
    """The first 12 digits of a hash of all that its protocol says, its name apart: the name of its folder."""
    values: Mapping[str, Any]
    """Dotted key to its value, of the keys that vary."""
    loss: str
    """The weights of its loss as text: the losses of points with the same weights compare."""
    text: str
    """Its protocol."""
    files: Mapping[str, Path]
    """Files that the protocol names: name beside the protocol to where it comes from."""

    @property
    def label(self) -> str:
        """What sets it apart, in one line."""
        return ", ".join(f"{key} {value_text(value)}" for key, value in self.values.items())


def load_sweep(path: Path) -> SweepStudy:
    """Read and check a study.

    Args:
        path: The YAML file; paths in it count from its folder.

    Raises:
        InputError: With FILE:LINE of every problem of the study.
    """
    root = read_yaml(path)
    require_schema_version(root, SCHEMA_VERSION)
    head = validate_section(_Head, root, skip=("fixed", *_VARYING, "pareto"))
    protocol = path.parent / head.protocol
    problems: list[str] = []
    fixed = _fixed(root, problems)
    axes = [*_vary(root, problems), *_together(root, problems), *_points(root, problems)]
    names = _names(root, problems)
    if not axes and not problems:
        problems.append(f"{root.file}:1: a study varies something. Add `vary:` with a key and a list of its values.")
    total = prod(len(axis.steps) for axis in axes)
    if total > MAX_POINTS:
        problems.append(f"{root.file}:1: the study has {total} points, more than {MAX_POINTS}. Shorten its lists.")
    if problems:
        raise InputError("\n".join(problems))
    return SweepStudy(
        path=path,
        name=head.name,
        protocol=protocol,
        fixed=fixed,
        axes=tuple(axes),
        names=names,
        pareto=_pareto(root, [key for axis in axes for key in axis.keys]),
    )


def value_text(value: Any) -> str:
    """Return a value of a study in one word or a short flow mapping."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _section(root: Node, key: str, problems: list[str]) -> Mapping[str, Node]:
    """Return the keys of a section, none if it is absent."""
    node = root.children().get(key)
    if node is None:
        return {}
    if not isinstance(node.value, CommentedMap):
        problems.append(f"{node.at}: '{key}' must be a section of dotted keys, but is {shown(node.value)}.")
        return {}
    return node.children()


def _fixed(root: Node, problems: list[str]) -> dict[str, Any]:
    """Return what all points share."""
    return {key: _plain(node.value) for key, node in _section(root, "fixed", problems).items()}


def _vary(root: Node, problems: list[str]) -> Iterator[Axis]:
    """Yield an axis for every key that varies by itself."""
    for key, node in _section(root, "vary", problems).items():
        values = _values(node, problems)
        if values is not None:
            yield Axis(steps=tuple({key: value} for value in values))


def _together(root: Node, problems: list[str]) -> Iterator[Axis]:
    """Yield an axis for every group of keys that change in step."""
    node = root.children().get("together")
    if node is None:
        return
    groups = [node] if isinstance(node.value, CommentedMap) else list(node.children().values())
    if not groups or not all(isinstance(group.value, CommentedMap) and group.value for group in groups):
        problems.append(
            f"{node.at}: 'together' must be keys with lists of equal length, or a list of such groups, but is "
            f"{shown(node.value)}."
        )
        return
    for group in groups:
        lists = {key: _values(child, problems, distinct=False) for key, child in group.children().items()}
        lengths = {key: len(values) for key, values in lists.items() if values is not None}
        if len(set(lengths.values())) > 1:
            counted = ", ".join(f"{key} {length}" for key, length in lengths.items())
            problems.append(f"{group.at}: keys in 'together' need lists of equal length, but have: {counted}.")
        elif len(lengths) == len(lists):
            rows = zip(*(values for values in lists.values() if values is not None), strict=True)
            yield Axis(steps=tuple(dict(zip(lists, row, strict=True)) for row in rows))


def _points(root: Node, problems: list[str]) -> Iterator[Axis]:
    """Yield an axis of points that are written one by one."""
    node = root.children().get("points")
    if node is None:
        return
    steps = list(node.children().values()) if isinstance(node.value, CommentedSeq) else []
    if not steps or not all(isinstance(step.value, CommentedMap) for step in steps):
        problems.append(
            f"{node.at}: 'points' must be a list with a section of dotted keys per point, but is {shown(node.value)}."
        )
        return
    yield Axis(steps=tuple(_plain(step.value) for step in steps))


def _values(node: Node, problems: list[str], *, distinct: bool = True) -> list[Any] | None:
    """Return the values of a key, or None after adding to `problems`."""
    if not isinstance(node.value, CommentedSeq) or not node.value:
        problems.append(
            f"{node.at}: {node.place} must be a list of at least one value [...], but is {shown(node.value)}."
        )
        return None
    values: list[Any] = _plain(node.value)
    texts = [value_text(value) for value in values]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if distinct and twice is not None:
        problems.append(f"{node.at}: {node.place} holds {twice} twice. Keep one.")
    return values


def _pareto(root: Node, varied: Sequence[str]) -> tuple[ParetoSpec, ...]:
    """Return the plots that a study asks for, one section or a list of them; refuse what can be no column."""
    node = root.children().get("pareto")
    if node is None:
        return ()
    nodes = list(node.children().values()) if isinstance(node.value, CommentedSeq) else [node]
    specs = tuple(validate_section(ParetoSpec, item, given={"where": item.at}) for item in nodes)
    for spec in specs:
        asked = [(key, getattr(spec, key)) for key in ("x", "y", "z", "colour") if getattr(spec, key)]
        for key, name in [
            *asked,
            *(("maximise", name) for name in spec.maximise),
            *(("logarithmic", name) for name in spec.logarithmic),
        ]:
            known = [*varied, *NUMBERS, *(WORDS if key == "colour" else ())]
            if name not in known and not name.startswith(OPEN_COLUMNS):
                near = get_close_matches(name, known, 1)
                raise InputError(
                    f"{spec.where}: 'pareto' has {key} {name!r}, but the columns are {', '.join(known)} and those that "
                    f"begin with {', '.join(OPEN_COLUMNS)}.{f' Nearest: {near[0]}.' if near else ''}"
                )
    return specs


def _names(root: Node, problems: list[str]) -> dict[str, tuple[str, ...]]:
    """Return every dotted key in field names; refuse unknown keys, and keys that are or hold one another."""
    known: dict[tuple[str, ...], Node] = {}
    names: dict[str, tuple[str, ...]] = {}
    for key, node in _written_keys(root):
        found = _canonical(key, node)
        if isinstance(found, str):
            problems.append(found)
            continue
        for other, first in known.items():
            shared = min(len(other), len(found))
            if other[:shared] == found[:shared]:
                again = "is" if other == found else "overlaps"
                problems.append(f"{node.at}: {node.place} {again} {first.place} of line {first.line} again. Keep one.")
                break
        else:
            known[found] = node
            names[key] = found
    return names


def _written_keys(root: Node) -> Iterator[tuple[str, Node]]:
    """Yield every dotted key of the sections `fixed` and `_VARYING`; one that several points state, once."""
    for name in ("fixed", *_VARYING):
        section = root.children().get(name)
        groups = [section] if section is not None else []
        if section is not None and isinstance(section.value, CommentedSeq):
            groups = list(section.children().values())
        first: dict[str, Node] = {}
        for group in groups:
            if isinstance(group.value, CommentedMap):
                for key, node in group.children().items():
                    if name != "points" or key not in first:
                        first[key] = node
                        yield key, node


def _canonical(key: str, node: Node) -> tuple[str, ...] | str:
    """Return a dotted key in field names ("design", "duration_s"), or what is wrong with it."""
    steps = key.split(".")
    if steps[0] in OWN_KEYS:
        return f"{node.at}: '{key}' is not varied by a study. Leave it out."
    annotation: Any = Protocol
    names: list[str] = []
    for depth, step in enumerate(steps):
        below = _keys_below(annotation) if names != ["scanner"] else {}
        where = f"'{'.'.join(steps[:depth])}'" if depth else "the top level"
        if below is not None and not below:
            return f"{node.at}: {where} of the protocol has no keys below it, but '{key}' names one. Give it whole."
        if below is not None and step not in below:
            near = get_close_matches(step, below, 1)
            hint = f"nearest known: {near[0]}" if near else f"known: {', '.join(sorted(below))}"
            return f"{node.at}: unknown key '{step}' in {where} of the protocol; {hint}"
        name, annotation = (step, _mapped(annotation)) if below is None else below[step]
        names.append(name)
    return tuple(names)


def _keys_below(annotation: Any) -> dict[str, tuple[str, Any]] | None:
    """Return spelling to (field name, its type) of a type's keys: none of a plain value, None where any key goes."""
    if annotation is SequenceChoice:
        return _sequence_keys()
    if is_dataclass(annotation):
        hints = get_type_hints(annotation)
        return {key: (f.name, hints[f.name]) for f in fields(annotation) for key in spellings(f.name)}
    if get_origin(annotation) in (Union, types.UnionType):
        return next((below for a in get_args(annotation) if (below := _keys_below(a)) != {}), {})
    origin = get_origin(annotation)
    return None if isinstance(origin, type) and issubclass(origin, Mapping) else {}


def _sequence_keys() -> dict[str, tuple[str, Any]]:
    """Return the parameters of all installed sequences: which one a point plays may itself vary."""
    found: dict[str, tuple[str, Any]] = {"name": ("name", str)}
    for name in sequence_names():
        found |= {key: (f.name, Any) for f in fields(find_sequence(name).Params) for key in spellings(f.name)}
    return found


def _mapped(annotation: Any) -> Any:
    """Return the type of a mapping's values."""
    return get_args(annotation)[1] if len(get_args(annotation)) == 2 else Any


def _point(study: SweepStudy, base: dict[str, Any], values: dict[str, Any]) -> Point:
    """Return the point of some values."""
    tree = copy.deepcopy(base)
    for key, value in {**study.fixed, **values}.items():
        _put(tree, key, study.names[key], copy.deepcopy(value))
    _locate_files(tree, study.path.parent)
    files = _take_files(tree)
    tree.pop("description", None)
    header = _HEADER + "".join(f"# {name}: SHA-256 {sha256_file(path)}\n" for name, path in files.items())
    content = json.dumps(tree, sort_keys=True) + header
    identity = sha256_bytes(content.encode())[:12]
    tree["name"] = f"{tree.get('name')}_{identity}"
    design = tree.get("design")
    loss = design.get("loss", {}) if isinstance(design, dict) else {}
    return Point(
        id=identity,
        values=_stated(study, base) | values,
        loss=value_text(loss),
        text=header + _dumped(tree),
        files=files,
    )


def _stated(study: SweepStudy, base: dict[str, Any]) -> dict[str, Any]:
    """Return what the protocol says of the keys that vary, where it spells them alike: points may leave them out."""
    found = {}
    for key in study.keys:
        value: Any = base
        for step in key.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        if value is not None:
            found[key] = value
    return found


def _put(tree: dict[str, Any], key: str, names: tuple[str, ...], value: Any) -> None:
    """Set a value at a dotted key with these field names; another spelling of it gives way."""
    *above, last = zip(key.split("."), names, strict=True)
    for step, _ in above:
        below = tree.get(step)
        tree[step] = below if isinstance(below, dict) else {}
        tree = tree[step]
    for spelling in spellings(last[1]):
        if spelling != last[0]:
            tree.pop(spelling, None)
    tree[last[0]] = value


def _locate_files(tree: dict[str, Any], folder: Path) -> None:
    """Make the relative paths of a protocol absolute, counted from a folder."""
    _each_file(tree, lambda name: str((folder / name).resolve()))


def _take_files(tree: dict[str, Any]) -> dict[str, Path]:
    """Replace every path by a name beside the protocol; return name to path.

    Raises:
        InputError: If a file is missing.
    """
    taken: dict[str, Path] = {}

    def beside(path: str) -> str:
        file = Path(path)
        name = file.name
        if taken.get(name, file) != file:
            name = f"{file.stem}_{sha256_file(file)[:8]}{file.suffix}"
        taken[name] = file
        return name

    _each_file(tree, beside)
    return taken


def _each_file(tree: dict[str, Any], change: Callable[[str], str]) -> None:
    """Put every path that a protocol names through a function: scanner profile, spin systems, starts."""
    scanner, spins, design = tree.get("scanner"), tree.get("spin_systems_file"), tree.get("design")
    if isinstance(scanner, str) and scanner.endswith((".yaml", ".yml")):
        tree["scanner"] = change(scanner)
    if isinstance(spins, str):
        tree["spin_systems_file"] = change(spins)
    start = design.get("start") if isinstance(design, dict) else None

    def changed(name: Any) -> Any:
        return change(name) if isinstance(name, str) and name.lower().endswith(START_FILES) else name

    if isinstance(design, dict) and start is not None:
        design["start"] = [changed(name) for name in start] if isinstance(start, list) else changed(start)


def _plain(value: Any) -> Any:
    """Return a YAML value as Python's own types."""
    if isinstance(value, CommentedMap):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, ScalarBoolean):
        return bool(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    return str(value)


def _dumped(tree: dict[str, Any]) -> str:
    """Return a protocol as YAML: sections as blocks, lists in brackets."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output, yaml.width = None, False, 110
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()
