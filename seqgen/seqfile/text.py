"""The text of a `.seq` file: bytes to sections of rows, and the signature. Input is not trusted."""

import hashlib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from seqgen.errors import InputError
from seqgen.provenance import sha256_bytes

MAX_FILE_BYTES = 32 * 2**20
"""Largest file read. Hours of spectroscopy fit into a few megabytes."""
_SECTIONS = ("VERSION", "DEFINITIONS", "BLOCKS", "RF", "GRADIENTS", "TRAP", "ADC", "EXTENSIONS", "SHAPES", "SIGNATURE")
_EXTENSION = re.compile(r"extension\s+([A-Za-z_]+)\s+(\d{1,9})")
_TEXT_BYTES = bytes([9, 10, 13, *range(32, 127)])
_SIGNATURE_MARK = b"\n[SIGNATURE]"
REMEDY = "Copy or export the file again; a file edited by hand must be written anew by its program."


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a section, split at blanks."""

    line: int
    """Line number in the file, from 1."""
    fields: tuple[str, ...]
    """The words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A section and its rows, comments and empty lines left out."""

    name: str
    """"RF", or "extension LABELSET" for the tables inside [EXTENSIONS]."""
    line: int
    """Line number of its heading."""
    rows: list[Row] = field(default_factory=list)
    """Its rows."""
    type_id: int = 0
    """Type number of an extension table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeqText:
    """A whole file as sections."""

    path: Path
    """Where it was read."""
    sha256: str
    """SHA-256 of the bytes."""
    signature: str | None
    """The MD5 it states, already checked; None if it states none."""
    sections: dict[str, Section]
    """Sections by name."""

    def rows(self, name: str) -> list[Row]:
        """Return the rows of a section, none if it is absent."""
        section = self.sections.get(name)
        return section.rows if section else []

    def fail(self, line: int | None, section: str, problem: str, remedy: str = REMEDY) -> NoReturn:
        """Raise the InputError of a problem at a line of a section."""
        place = f", line {line}" if line is not None else ""
        raise InputError(f"{self.path}{place} ([{section}]): {problem}. {remedy}")

    def number(self, row: Row, k: int, section: str, what: str) -> float:
        """Return word k of a row as a finite number."""
        try:
            value = float(row.fields[k])
        except ValueError:
            self.fail(row.line, section, f"{what} must be a number, but is {row.fields[k]!r}")
        if not math.isfinite(value):
            self.fail(row.line, section, f"{what} must be finite, but is {row.fields[k]}")
        return value

    def integer(self, row: Row, k: int, section: str, what: str, *, low: int = 0, high: int = 2**31 - 1) -> int:
        """Return word k of a row as an integer from `low` to `high`."""
        value = self.number(row, k, section, what)
        if value != int(value) or not low <= value <= high:
            self.fail(row.line, section, f"{what} must be a whole number from {low} to {high}, but is {row.fields[k]}")
        return int(value)


def read_text(path: Path) -> SeqText:
    """Read a `.seq` file into sections and check its signature.

    The signature is the MD5 of everything before the newline that precedes ``[SIGNATURE]``. A file with Windows line
    ends (PyPulseq writes them on Windows) may carry the MD5 of its text with plain ones.

    Raises:
        InputError: If the file is missing, too large, empty, not plain ASCII text, cut off within a line, made of
            unknown or repeated sections, or contradicts its signature.
    """
    content = _read_bytes(path)
    sections = _split_sections(path, content)
    signature = _checked_signature(path, content, sections)
    return SeqText(path=path, sha256=sha256_bytes(content), signature=signature, sections=sections)


def _read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that looks like ASCII text."""
    if not path.is_file():
        raise InputError(f"Cannot read {path}: there is no such file, or it is a folder. Check the path.")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InputError(f"{path} has {size} bytes, more than {MAX_FILE_BYTES}: this is no .seq file to be read.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error
    if not content.strip():
        raise InputError(f"{path} is empty: a .seq file has at least [VERSION], [DEFINITIONS] and [BLOCKS]. {REMEDY}")
    strange = content.translate(None, _TEXT_BYTES)
    if strange:
        line = content[: content.index(strange[:1])].count(b"\n") + 1
        raise InputError(
            f"{path}, line {line}: byte 0x{strange[0]:02x} is not ASCII text, so this is not a Pulseq text file (or a "
            "definition has a special letter). Give the .seq file itself; write names in plain ASCII."
        )
    return content


def _split_sections(path: Path, content: bytes) -> dict[str, Section]:
    """Return the sections of a file by name; rows before the first section must be comments."""
    sections: dict[str, Section] = {}
    current: Section | None = None
    for line, text in enumerate(content.decode("ascii").splitlines(), start=1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        extension = _EXTENSION.fullmatch(text)
        if text.startswith("[") or extension:
            current = _heading(path, line, text, extension)
            if current.name in sections:
                raise InputError(f"{path}, line {line}: section {text} appears twice. {REMEDY}")
            if "SIGNATURE" in sections:
                raise InputError(f"{path}, line {line}: {text} stands after [SIGNATURE], which must be last. {REMEDY}")
            sections[current.name] = current
        elif current is None:
            raise InputError(f"{path}, line {line}: {text[:40]!r} stands before any section; no .seq file. {REMEDY}")
        else:
            current.rows.append(Row(line=line, fields=tuple(text.split())))
    _require_complete_last_line(path, content, sections)
    return sections


def _heading(path: Path, line: int, text: str, extension: re.Match[str] | None) -> Section:
    """Return the section that a heading opens."""
    if extension:
        return Section(name=f"extension {extension[1].upper()}", line=line, type_id=int(extension[2]))
    name = text[1:-1]
    if not text.endswith("]") or name not in _SECTIONS:
        raise InputError(
            f"{path}, line {line}: unknown section {text[:40]!r}; a .seq file of version 1.4 or 1.5 has "
            f"{', '.join(_SECTIONS)}. {REMEDY}"
        )
    return Section(name=name, line=line)


def _require_complete_last_line(path: Path, content: bytes, sections: dict[str, Section]) -> None:
    """Refuse a file that stops within a line (a whole hash at the end needs no newline: it proves itself)."""
    if not content.endswith(b"\n") and "SIGNATURE" not in sections:
        last = content.count(b"\n") + 1
        raise InputError(f"{path}, line {last}: the file stops in the middle of a line; it is cut off. {REMEDY}")


def _checked_signature(path: Path, content: bytes, sections: dict[str, Section]) -> str | None:
    """Return the stated MD5 after comparing it with the content; None if there is no [SIGNATURE]."""
    section = sections.get("SIGNATURE")
    if section is None:
        return None
    stated = {row.fields[0]: row.fields[1] for row in section.rows if len(row.fields) == 2}
    kind, value = stated.get("Type", ""), stated.get("Hash", "").lower()
    if kind != "md5" or not re.fullmatch(r"[0-9a-f]{32}", value):
        raise InputError(
            f"{path}, line {section.line} ([SIGNATURE]): needs 'Type md5' and 'Hash' with 32 hex digits, but has "
            f"Type {kind!r} and Hash {value!r}; the file is cut off or of another kind. {REMEDY}"
        )
    body = content[: content.rfind(_SIGNATURE_MARK)]
    if body.endswith(b"\r"):
        body = body[:-1]
    found = [hashlib.md5(text).hexdigest() for text in (body, body.replace(b"\r\n", b"\n"))]
    if value not in found:
        raise InputError(
            f"{path} ([SIGNATURE]): the file says its MD5 is {value}, but its content has {found[0]}: it was changed "
            f"or damaged after it was written. {REMEDY}"
        )
    return value
