"""The [EXTENSIONS] of a `.seq` file: labels are read, triggers accepted, everything else refused where it is used."""

import re

from seqgen.seqfile.events import LabelChange
from seqgen.seqfile.text import SeqText

MAX_LIST = 64
"""Most extensions of one block."""
_LABEL = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


def read_label_lists(text: SeqText) -> dict[int, tuple[LabelChange, ...]]:
    """Return the label changes of every extension list by the number of its first entry.

    A list is chained: ``id type ref next_id``, ended by next_id 0. All LABELSET of a list come before its LABELINC,
    the order in which an interpreter applies them. Output triggers change nothing that is simulated and are left out.

    Raises:
        InputError: If an entry is malformed, chained in a circle or to nothing, or of a kind that changes what is
            played (soft delays, rotations, shims, input triggers).
    """
    kinds = {
        section.type_id: name.removeprefix("extension ")
        for name, section in text.sections.items()
        if name.startswith("extension ")
    }
    links: dict[int, tuple[int, int, int, int]] = {}
    for row in text.rows("EXTENSIONS"):
        if len(row.fields) != 4:
            text.fail(row.line, "EXTENSIONS", f"an entry needs 4 numbers, but has {len(row.fields)}")
        number, kind, ref, following = (text.integer(row, k, "EXTENSIONS", "an entry") for k in range(4))
        if number < 1 or number in links:
            text.fail(row.line, "EXTENSIONS", f"entry {number} is not positive or defined twice")
        links[number] = (kind, ref, following, row.line)
    labels = {kind: _labels(text, kind) for kind in ("LABELSET", "LABELINC")}
    trigger_types = _trigger_types(text)
    lists: dict[int, tuple[LabelChange, ...]] = {}
    for start in links:
        lists[start] = _follow(text, start, links, kinds, labels, trigger_types)
    return lists


def _follow(
    text: SeqText,
    start: int,
    links: dict[int, tuple[int, int, int, int]],
    kinds: dict[int, str],
    labels: dict[str, dict[int, LabelChange]],
    trigger_types: dict[int, int],
) -> tuple[LabelChange, ...]:
    """Return the label changes of the list that starts at an entry."""
    changes: list[LabelChange] = []
    seen: set[int] = set()
    number, came_from = start, links[start][3]
    while number:
        if number in seen or number not in links:
            problem = "runs in a circle" if number in seen else "leads to nothing"
            text.fail(came_from, "EXTENSIONS", f"the list from entry {start} {problem} at entry {number}")
        seen.add(number)
        if len(seen) > MAX_LIST:
            text.fail(came_from, "EXTENSIONS", f"the list from entry {start} has more than {MAX_LIST} entries")
        type_id, ref, following, line = links[number]
        kind = kinds.get(type_id, f"of type {type_id}")
        if kind in labels and ref in labels[kind]:
            changes.append(labels[kind][ref])
        elif kind in labels or (kind == "TRIGGERS" and ref not in trigger_types) or type_id not in kinds:
            text.fail(line, "EXTENSIONS", f"entry {number} uses extension {kind} number {ref}, which is not defined")
        elif kind != "TRIGGERS" or trigger_types[ref] != 1:
            text.fail(
                line,
                "EXTENSIONS",
                f"entry {number} uses extension {kind}, which changes what is played in a way not represented here",
                "Write the sequence without it (fixed delays, gradients already rotated, no waiting for triggers).",
            )
        number, came_from = following, line
    return tuple(sorted(changes, key=lambda change: change.increment))


def _labels(text: SeqText, kind: str) -> dict[int, LabelChange]:
    """Return the rows ``id value name`` of LABELSET or LABELINC by number."""
    section = f"extension {kind}"
    found: dict[int, LabelChange] = {}
    for row in text.rows(section):
        if len(row.fields) != 3 or not _LABEL.fullmatch(row.fields[2]):
            text.fail(row.line, section, "a label needs a number, a value and a name in capitals")
        number = text.integer(row, 0, section, "the number of the label", low=1)
        value = text.integer(row, 1, section, "the value of the label", low=-(2**31))
        if number in found:
            text.fail(row.line, section, f"label {number} is defined twice")
        found[number] = LabelChange(name=row.fields[2], value=value, increment=kind == "LABELINC")
    return found


def _trigger_types(text: SeqText) -> dict[int, int]:
    """Return the type (1 output, 2 input) of every trigger by number: rows ``id type channel delay duration``."""
    section = "extension TRIGGERS"
    found: dict[int, int] = {}
    for row in text.rows(section):
        if len(row.fields) != 5:
            text.fail(row.line, section, f"a trigger needs 5 numbers, but has {len(row.fields)}")
        found[text.integer(row, 0, section, "the number", low=1)] = text.integer(row, 1, section, "the type")
    return found
