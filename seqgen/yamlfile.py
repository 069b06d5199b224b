"""Strict YAML 1.2 files as nodes that know their file, line and path; a bad file is one clear InputError."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Node:
    """A value in a YAML file and where it stands."""

    file: str
    """Name of the file as messages give it."""
    line: int
    """Line of the key, or of the value in a list, counted from 1."""
    path: str
    """Keys from the top as written, for example "sample.metabolites.Glu"; empty at the top."""
    value: Any
    """What stands there: a mapping, a list, a scalar."""

    @property
    def at(self) -> str:
        """FILE:LINE, the beginning of every message."""
        return f"{self.file}:{self.line}"

    @property
    def place(self) -> str:
        """The path in quotes, for messages."""
        return f"'{self.path}'" if self.path else "the top level"

    def child(self, key: Any) -> "Node":
        """Return the value under a key of a mapping or at an index of a list."""
        path = f"{self.path}[{key}]" if isinstance(self.value, CommentedSeq) else f"{self.path}.{key}".lstrip(".")
        marks = self.value.lc.data or {}  # keys that were merged in (`<<`) have none
        line = marks[key][0] + 1 if key in marks else self.line
        return Node(file=self.file, line=line, path=path, value=self.value[key])

    def children(self) -> dict[str, "Node"]:
        """Return the values of a mapping by key, or of a list by index; of a scalar: none."""
        if isinstance(self.value, CommentedMap):
            return {str(key): self.child(key) for key in self.value}
        return {str(i): self.child(i) for i in range(len(self.value))} if isinstance(self.value, CommentedSeq) else {}


def read_yaml(path: Path) -> Node:
    """Read a YAML 1.2 file whose top level holds keys with values.

    Raises:
        InputError: If the file is missing, not UTF-8, not YAML, empty, or names a key twice; with file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8 text. Is this the YAML file you mean?") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, file: str) -> Node:
    """Parse YAML 1.2 text; `file` is its name in messages. Raises as `read_yaml` does."""
    try:
        value = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InputError(f"{file}:{mark.line + 1 if mark else 1}: {_yaml_problem(error)}") from error
    except (YAMLError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: is not YAML: {reason}. Is this the YAML file you mean?") from error
    except RecursionError as error:
        raise InputError(f"{file}: is nested too deep to be read. Is this the YAML file you mean?") from error
    if value is None:
        raise InputError(f"{file}: is empty. Fill in its keys, beginning with schema_version.")
    if not isinstance(value, CommentedMap):
        raise InputError(f"{file}:1: must hold keys with values (name: value), but holds {shown(value)}.")
    return Node(file=file, line=1, path="", value=value)


def _yaml_problem(error: MarkedYAMLError) -> str:
    """Return the parser's complaint in one sentence, with a remedy."""
    twice = re.match(r'found duplicate key "(.*?)" ', str(error.problem))
    if twice:
        return f"key '{twice[1]}' is given twice in one section. Keep one of the two."
    return f"is not YAML: {error.problem or error.context}. Check colons, brackets and indentation (spaces, no tabs)."


def require_schema_version(root: Node, version: int) -> None:
    """Refuse a file that does not say `schema_version: <version>`.

    Raises:
        InputError: With file and line.
    """
    if "schema_version" not in root.value:
        raise InputError(f"{root.file}:1: missing key 'schema_version'. Add the line `schema_version: {version}`.")
    node = root.child("schema_version")
    if type(node.value) is not int or node.value != version:
        raise InputError(
            f"{node.at}: 'schema_version' must be {version}, the layout read here, but is {shown(node.value)}. "
            "Carry the file over to this layout, or use the version of seqgen it was written for."
        )


def shown(value: Any) -> str:
    """Return a value for a message: short, as the user wrote it."""
    if isinstance(value, CommentedMap):
        return f"a section ({', '.join(str(key) for key in list(value)[:3])}, ...)" if value else "an empty section"
    if value is None:
        return "empty"
    if isinstance(value, bool | ScalarBoolean):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number beyond all bounds"
    if isinstance(value, CommentedSeq):
        text = f"[{', '.join(shown(item) for item in value[:8])}]"
    else:
        text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
