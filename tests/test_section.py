import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
from pydantic import Field

from seqgen.errors import InputError
from seqgen.section import find_node, spellings, validate_section
from seqgen.yamlfile import parse_yaml


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    value: float
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Everything:
    te_s: Annotated[float, Field(gt=0)] = 1.0
    size_m: tuple[float, float] = (1.0, 1.0)
    f0_hz: float = 1.0
    b1_t: float = 1.0
    phase_rad: float = 0.0
    gradient_t_per_m: float = 0.0
    slope_hz_per_m: float = 0.0
    slew_t_per_m_per_s: float = 0.0
    shift_ppm: float = 0.0
    concentration_mm: float = 0.0
    temperature_c: float = 0.0
    energy_hz2_s: float = 0.0
    count: Annotated[int, Field(ge=1, le=8)] = 1
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    text: str = ""
    maybe: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    wait_s: Annotated[float, Field(le=0.5)] = 0.0
    many_s: Annotated[tuple[float, ...], Field(min_length=1)] = (1.0,)
    parts: dict[str, Part] = field(default_factory=dict)
    times_s: Part | None = None
    rows: tuple[Part, ...] = ()
    nested: dict[str, dict[str, Part]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Choosy:
    low_s: float
    high_s: float = 1.0

    def __post_init__(self):
        if self.low_s >= self.high_s:
            raise InputError(f"low_s must be below high_s, but is {self.low_s}. Lower it.")


def read(text, cls=Everything, **options):
    return validate_section(cls, parse_yaml(text, "f.yaml"), **options)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("te_s: 0.041", "te_s", 0.041),
        ("te_ms: 41", "te_s", 0.041),
        ("te_us: 41000", "te_s", 0.041),
        ("te_ms: 1e-3", "te_s", 1e-6),
        ("size_m: [0.02, 0.03]", "size_m", (0.02, 0.03)),
        ("size_mm: [20, 30]", "size_m", (0.02, 0.03)),
        ("size_cm: [2, 3]", "size_m", (0.02, 0.03)),
        ("f0_hz: 123200000", "f0_hz", 123.2e6),
        ("f0_khz: 123200", "f0_hz", 123.2e6),
        ("f0_mhz: 123.2", "f0_hz", 123.2e6),
        ("b1_ut: 20", "b1_t", 20e-6),
        ("b1_t: 20e-6", "b1_t", 20e-6),
        ("phase_deg: 180", "phase_rad", math.pi),
        ("phase_rad: 3", "phase_rad", 3.0),
        ("gradient_mt_per_m: 80", "gradient_t_per_m", 0.08),
        ("gradient_t_per_m: 0.08", "gradient_t_per_m", 0.08),
        ("slope_khz_per_m: 5", "slope_hz_per_m", 5000.0),
        ("slew_t_per_m_per_s: 200", "slew_t_per_m_per_s", 200.0),
        ("shift_ppm: 2.35", "shift_ppm", 2.35),
        ("concentration_mm: 12.5", "concentration_mm", 12.5),  # millimolar, not millimetres
        ("temperature_c: 37", "temperature_c", 37.0),
        ("energy_hz2_ms: 1000", "energy_hz2_s", 1.0),
        ("many_ms: [1, 2.5]", "many_s", (0.001, 0.0025)),
        ("maybe: 2", "maybe", 2.0),
        ("maybe: null", "maybe", None),
        ("weights: {a: 1, b: 0.5}", "weights", {"a": 1.0, "b": 0.5}),
        ("names: [Gln]", "names", ("Gln",)),
    ],
)
def test_friendly_units_become_si(text, name, expected):
    got = getattr(read(text), name)
    assert got == expected  # exactly: scaling is decimal
    assert type(got) is type(expected)


def test_units_that_would_be_wrong_are_not_spellings():
    assert list(spellings("concentration_mm")) == ["concentration_mm"]
    assert list(spellings("sar_w_per_kg")) == ["sar_w_per_kg"]
    assert "gradient_t_per_mm" not in spellings("gradient_t_per_m")  # T/mm is not T/m times 1e-3
    assert list(spellings("drift_hz_per_s")) == ["drift_hz_per_s"]  # Hz/ms is not Hz/s times 1e-3 either
    assert list(spellings("slew_t_per_m_per_s")) == ["slew_t_per_m_per_s"]


def test_sections_inside_sections_and_units_that_reach_down():
    got = read(
        "times_ms: {value: 165}\nparts: {a: {value: 1, note: x}, b: {value: 2}}\nrows:\n  - value: 3\n  - value: 4\n"
        "nested: {f: {g: {value: 7}}}\n"
    )
    assert got.times_s.value == 0.165
    assert {key: part.value for key, part in got.parts.items()} == {"a": 1.0, "b": 2.0}
    assert [part.value for part in got.rows] == [3.0, 4.0]
    assert got.nested["f"]["g"].value == 7.0
    assert read("times_s: null").times_s is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nte_mss: 1", r"^f.yaml:2: unknown key 'te_mss' in the top level; nearest known: te_ms$"),
        ("zzzzzzzz: 1", r"^f.yaml:1: unknown key 'zzzzzzzz' in the top level; known: te_s, size_m, "),
        ("te_ms: 1\nte_s: 1", r"^f.yaml:2: 'te_s' is 'te_ms' of line 1 again. Keep one.$"),
        ("te_ms: -3", r"^f.yaml:1: 'te_ms' must be greater than 0 ms, but is -3.$"),
        ("wait_ms: 600", r"'wait_ms' must be at most 500 ms, but is 600.$"),
        ("te_ms: 41 ms", r"^f.yaml:1: 'te_ms' must be a number, but is '41 ms'. Write the bare number"),
        ("te_ms: '41'", r"'te_ms' must be a number, but is '41'. Write the bare number, without quotes"),
        ("te_ms: true", r"'te_ms' must be a number, but is true"),
        ("te_ms:", r"'te_ms' must be a number, but is empty"),
        ("te_ms: .nan", r"'te_ms' must be a finite number, but is nan"),
        ("te_ms: -.inf", r"'te_ms' must be a finite number, but is -inf"),
        ("te_ms: 1e999", r"'te_ms' must be a finite number, but is inf"),
        ("te_ms: 0x" + "f" * 5000, r"'te_ms' must be a finite number, but is a number beyond all bounds"),
        ("te_ms: [1]", r"'te_ms' must be a number, but is \[1\]"),
        ("te_ms: {a: 1}", r"'te_ms' must be a number, but is a section"),
        ("te_ms: 2020-01-01", r"'te_ms' must be numbers, text or a flat list, but holds 2020-01-01"),
        ("te_ms: !!python/name:os.system x", r"'te_ms' must be numbers, text or a flat list"),
        ("text: 3", r"'text' must be text, but is 3"),
        ("flag: 1", r"'flag' must be true or false, but is 1"),
        ("count: 1.5", r"'count' must be a whole number, but is 1.5"),
        ("count: 9", r"'count' must be at most 8, but is 9"),
        ("count: 0", r"'count' must be at least 1, but is 0"),
        ("kind: c", r"'kind' must be 'a' or 'b', but is 'c'"),
        ("size_mm: [20]", r"'size_mm' must be a longer list, but is \[20\]"),
        ("size_mm: [20, 20, 20]", r"'size_mm' must be a list of 2 values, but is \[20, 20, 20\]"),
        ("size_mm: 20", r"'size_mm' must be a list \[...\], but is 20. Put it in square brackets"),
        ("size_mm:\n  - 20\n  - x", r"^f.yaml:3: 'size_mm\[1\]' must be a number, but is 'x'"),
        ("many_ms: []", r"'many_ms' must be a list of at least 1 values"),
        ("names: Gln", r"'names' must be a list \[...\], but is 'Gln'"),
        ("weights: {a: x}", r"'weights.a' must be a number, but is 'x'"),
        ("weights: 3", r"'weights' must be keys with values, but is 3"),
        ("parts: {a: 3}", r"'parts.a' must be a section of keys, but is 3"),
        ("parts: [1]", r"'parts' must name sections, but is \[1\]"),
        ("rows: {a: 1}", r"'rows' must be a list of sections, but is a section"),
        ("parts:\n  a:\n    note: x", r"^f.yaml:2: missing key 'value' in 'parts.a'. Add it.$"),
        ("parts:\n  a:\n    valuee: 1", r"f.yaml:3: unknown key 'valuee' in 'parts.a'; nearest known: value"),
        ("x: &a [*a]\n", r"unknown key 'x'"),
        ("size_m: &a [*a, 1]\n", r"'size_m\[0\]' must be a number, but is empty"),
    ],
)
def test_errors_name_line_key_value_and_limit(text, message):
    with pytest.raises(InputError, match=message):
        read(text)


def test_all_problems_come_together():
    with pytest.raises(InputError) as caught:
        read("te_mss: 1\ncount: 9\nparts: {a: {}}\n")
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["1", "2", "3"]


def test_missing_keys_say_how_they_may_be_written():
    with pytest.raises(InputError, match=r"^f.yaml:1: missing key 'low_s' \(or low_ms, low_us\) in the top level"):
        read("high_s: 3", Choosy)


def test_a_dataclass_that_refuses_is_placed_at_the_key_it_speaks_of():
    with pytest.raises(InputError, match=r"^f.yaml:2: in the top level: low_s must be below.*Here 'low_ms' is 5000.$"):
        read("high_s: 3\nlow_ms: 5000", Choosy)
    assert read("low_ms: 5", Choosy).low_s == 0.005


def test_given_and_skipped_keys_are_left_alone():
    got = read("name: x\nlow_ms: 'nonsense'", Choosy, given={"low_s": 0.5}, skip=("name", "low_ms"))
    assert got.low_s == 0.5


def test_find_node_returns_the_deepest_written_one():
    root = parse_yaml("a:\n  te_ms: 3\n", "f.yaml")
    assert find_node(root, "a", "te_s").line == 2
    assert find_node(root, "a", "tr_s").path == "a"
