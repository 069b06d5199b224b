"""Sections of YAML files become frozen dataclasses in SI units; every complaint names file, line and key.

A dataclass field `te1_s` may be written `te1_s`, `te1_ms` or `te1_us`: `spellings` tells what a field takes. A unit
in a key also holds for the numbers below it that state none (`t2_ms: {value: 165, low: 122}`). Values are checked by
pydantic in strict JSON mode, so no text passes for a number, no `true` for 1 and no NaN at all.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarbool import ScalarBoolean

from seqgen.errors import InputError
from seqgen.yamlfile import Node, shown

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A unit as the end of a key says it."""

    suffix: str = ""
    """End of the key, for example "_ms"; empty: the value is taken as it is."""
    label: str = ""
    """The unit in messages, for example "ms"."""
    exponent: int = 0
    """Power of ten to the SI unit."""
    degrees: bool = False
    """True: degrees, to be turned into rad."""

    def to_si(self, value: float) -> float:
        """Return the SI value; decimal scaling, so that 41 ms is exactly the float 0.041."""
        if self.degrees:
            return math.radians(value)
        return float(Decimal(repr(value)).scaleb(self.exponent)) if self.exponent else value

    def from_si(self, value: float) -> float:
        """Return an SI value in this unit."""
        if self.degrees:
            return math.degrees(value)
        return float(Decimal(repr(value)).scaleb(-self.exponent))


_AS_WRITTEN: Final = Unit()
_UNITS: Final[dict[str, tuple[Unit, ...]]] = {
    "_t_per_m_per_s": (Unit(suffix="_t_per_m_per_s", label="T/m/s"),),
    "_t_per_m": (Unit(suffix="_t_per_m", label="T/m"), Unit(suffix="_mt_per_m", label="mT/m", exponent=-3)),
    "_hz_per_m": (Unit(suffix="_hz_per_m", label="Hz/m"), Unit(suffix="_khz_per_m", label="kHz/m", exponent=3)),
    "_s": (
        Unit(suffix="_s", label="s"),
        Unit(suffix="_ms", label="ms", exponent=-3),
        Unit(suffix="_us", label="us", exponent=-6),
    ),
    "_m": (
        Unit(suffix="_m", label="m"),
        Unit(suffix="_cm", label="cm", exponent=-2),
        Unit(suffix="_mm", label="mm", exponent=-3),
    ),
    "_hz": (
        Unit(suffix="_hz", label="Hz"),
        Unit(suffix="_khz", label="kHz", exponent=3),
        Unit(suffix="_mhz", label="MHz", exponent=6),
    ),
    "_t": (Unit(suffix="_t", label="T"), Unit(suffix="_ut", label="uT", exponent=-6)),
    "_rad": (Unit(suffix="_rad", label="rad"), Unit(suffix="_deg", label="degrees", degrees=True)),
}
"""SI suffix of a field to the units its key may be written in; suffixes with `per` come first and win."""


def spellings(field_name: str) -> dict[str, Unit]:
    """Return the keys under which a field may be written, with the unit of each.

    Example:
        >>> list(spellings("te1_s")), list(spellings("carrier_ppm"))
        (['te1_s', 'te1_ms', 'te1_us'], ['carrier_ppm'])
    """
    for suffix, units in _UNITS.items():
        if field_name.endswith(suffix) and ("_per_" in suffix or "_per_" not in field_name):
            stem = field_name.removesuffix(suffix)
            return {stem + unit.suffix: unit for unit in units}
    return {field_name: _AS_WRITTEN}


def find_node(node: Node, *field_names: str) -> Node:
    """Return the node of these fields (SI names) below `node`, or the deepest one of them that is written."""
    for name in field_names:
        below = node.children()
        key = next((key for key in spellings(name) if key in below), None)
        if key is None:
            return node
        node = below[key]
    return node


def validate_section(
    cls: type[T], node: Node, *, given: Mapping[str, Any] | None = None, skip: Collection[str] = ()
) -> T:
    """Return the dataclass that a section of a file describes, in SI units.

    Sections below it, lists and mappings of sections are followed by the types of the fields. All problems are
    reported together, one line each.

    Args:
        cls: Frozen dataclass; a field without default is a key that must be there.
        node: The section.
        given: Fields with values that are already made; their keys in the file are left alone.
        skip: Further keys of the file that are somebody else's.

    Raises:
        InputError: For unknown, missing, doubled keys, and for values of wrong type or out of range.
    """
    problems: list[str] = []
    result: T | None = _section(cls, node, _AS_WRITTEN, given or {}, skip, problems)
    if problems or result is None:
        raise InputError("\n".join(problems))
    return result


def _section(
    cls: Any, node: Node, unit: Unit, given: Mapping[str, Any], skip: Collection[str], problems: list[str]
) -> Any:
    """Return `cls` built from a section, or None after adding to `problems`."""
    if not isinstance(node.value, CommentedMap):
        problems.append(f"{node.at}: {node.place} must be a section of keys, but is {shown(node.value)}.")
        return None
    before = len(problems)
    wanted = [field for field in fields(cls) if field.init and field.name not in given]
    known = {key: (field.name, own) for field in wanted for key, own in spellings(field.name).items()}
    written: dict[str, tuple[Node, Unit]] = {}
    for key, child in node.children().items():
        if key in given or key in skip:
            continue
        if key not in known:
            problems.append(_unknown_key(key, child, node, [*known, *given, *skip], [field.name for field in wanted]))
        elif known[key][0] in written:
            first = written[known[key][0]][0]
            problems.append(f"{child.at}: '{child.path}' is '{first.path}' of line {first.line} again. Keep one.")
        else:
            name, own = known[key]
            written[name] = (child, own if own.suffix else unit)
    for field in wanted:
        if field.name not in written and field.default is MISSING and field.default_factory is MISSING:
            problems.append(_missing_key(field.name, node))
    hints = get_type_hints(cls, include_extras=True)
    values = {name: _value(hints[name], child, own, problems) for name, (child, own) in written.items()}
    if len(problems) > before:
        return None
    try:
        return cls(**given, **values)
    except ValueError as error:
        problems.append(_refused(str(error), node, {name: child for name, (child, _) in written.items()}))
        return None


def _value(annotation: Any, node: Node, unit: Unit, problems: list[str]) -> Any:
    """Return the value of a field: a section, a mapping or list of sections, or a plain value."""
    if not _holds_section(annotation):
        return _leaf(annotation, node, unit, problems)
    if is_dataclass(annotation):
        return _section(annotation, node, unit, {}, (), problems)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        section = next(argument for argument in arguments if _holds_section(argument))
        return None if node.value is None else _value(section, node, unit, problems)
    if origin is tuple:
        if not isinstance(node.value, CommentedSeq):
            problems.append(f"{node.at}: {node.place} must be a list of sections, but is {shown(node.value)}.")
            return None
        return tuple(_value(arguments[0], child, unit, problems) for child in node.children().values())
    if not isinstance(node.value, CommentedMap):
        problems.append(f"{node.at}: {node.place} must name sections, but is {shown(node.value)}.")
        return None
    return {key: _value(arguments[1], child, unit, problems) for key, child in node.children().items()}


def _holds_section(annotation: Any) -> bool:
    """Tell whether a type is, or holds, a dataclass."""
    return is_dataclass(annotation) or any(_holds_section(argument) for argument in get_args(annotation))


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    """Return pydantic's validator of a plain type."""
    return TypeAdapter(annotation, config={"strict": True, "allow_inf_nan": False})


def _leaf(annotation: Any, node: Node, unit: Unit, problems: list[str]) -> Any:
    """Return a plain value in SI units, or None after adding to `problems`."""
    try:
        text = json.dumps(_plain(node.value, unit))
    except InputError as error:
        problems.append(f"{node.at}: {node.place} {error}")
        return None
    try:
        return _adapter(annotation).validate_json(text)
    except ValidationError as error:
        problems.extend(dict.fromkeys(_bad_value(node, unit, dict(item)) for item in error.errors(include_url=False)))
        return None


def _plain(value: Any, unit: Unit, depth: int = 0) -> Any:
    """Return a YAML value as JSON types, numbers in SI units."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, ScalarBoolean):
        return bool(value)
    if isinstance(value, int):
        return unit.to_si(int(value)) if value.bit_length() < 1000 else math.inf
    if isinstance(value, float):
        return unit.to_si(float(value)) if math.isfinite(value) else float(value)
    if depth < 5 and isinstance(value, CommentedSeq):
        return [_plain(item, unit, depth + 1) for item in value]
    if depth < 5 and isinstance(value, CommentedMap):
        return {str(key): _plain(item, unit, depth + 1) for key, item in value.items()}
    raise InputError(f"must be numbers, text or a flat list, but holds {shown(value)}. Put text in quotes.")


_EXPECTED: Final = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "string_type": "text",
    "path_type": "text (a path)",
    "bool_type": "true or false",
    "tuple_type": "a list [...]",
    "dict_type": "keys with values",
}
_LIMITS: Final = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _bad_value(node: Node, unit: Unit, error: Mapping[str, Any]) -> str:
    """Say in the user's own unit what pydantic found wrong."""
    for step in error["loc"]:
        below = node.children()
        node = below.get(str(step), node)
    kind, context = error["type"], error.get("ctx", {})
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        expected = f"{words} {unit.from_si(context[name]):g} {unit.label}".rstrip()
    elif kind == "literal_error":
        expected = context["expected"]
    elif kind == "too_long":
        expected = f"a list of {context['max_length']} values"
    elif kind in ("too_short", "missing"):
        expected = f"a list of at least {context['min_length']} values" if context else "a longer list"
    else:
        expected = _EXPECTED.get(kind, error["msg"])
    remedy = ""
    if expected.endswith("number") and isinstance(node.value, str):
        remedy = " Write the bare number, without quotes or unit: the unit is in the key."
    elif kind == "tuple_type" and not isinstance(node.value, CommentedMap):
        remedy = " Put it in square brackets."
    return f"{node.at}: {node.place} must be {expected}, but is {shown(node.value)}.{remedy}"


def _unknown_key(key: str, child: Node, parent: Node, known: list[str], names: list[str]) -> str:
    """Say which key is unknown, and which one may be meant; `known` has all spellings, `names` one of each."""
    near = get_close_matches(key, known, 1)
    hint = f"nearest known: {near[0]}" if near else f"known: {', '.join(names)}"
    return f"{child.at}: unknown key '{key}' in {parent.place}; {hint}"


def _missing_key(field_name: str, node: Node) -> str:
    """Say which key is missing, and how it may be written."""
    first, *others = spellings(field_name)
    also = f" (or {', '.join(others)})" if others else ""
    return f"{node.at}: missing key '{first}'{also} in {node.place}. Add it."


def _refused(message: str, node: Node, written: Mapping[str, Node]) -> str:
    """Place a dataclass's own complaint at the key it names first, and say how that key is spelled in the file."""
    places = {match.start(): name for name in written if (match := re.search(rf"\b{name}\b", message))}
    if not places:
        return f"{node.at}: in {node.place}: {message}"
    name = places[min(places)]
    child = written[name]
    key = child.path.rpartition(".")[2]
    spelled = "" if key == name else f" Here '{key}' is {shown(child.value)}."
    return f"{child.at}: in {node.place}: {message}{spelled}"
