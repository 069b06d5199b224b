"""Hash chain of artefacts: what every file was made from, by which versions, with which seed."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seqgen.errors import InputError

_PACKAGES = ("seqgen", "torch", "numpy", "scipy", "pypulseq", "nifti-mrs")


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return sha256_bytes(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Check the path.") from error


def versions() -> dict[str, str]:
    """Return the versions of seqgen and of the libraries that shape its numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One input of an artefact."""

    name: str
    """File name (no folders: a chain does not tell where a user keeps files)."""
    sha256: str
    """SHA-256 of the file's bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """What an artefact was made from."""

    made_from: Mapping[str, Source] = field(default_factory=dict)
    """Role ("protocol", "design", "seq", "basis", "raw", "data") to the input."""
    seed: int | None = None
    """Seed of the random generator, where one was used."""
    versions: Mapping[str, str] = field(default_factory=versions)
    """Package versions."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "made_from": {role: asdict(source) for role, source in self.made_from.items()},
            "seed": self.seed,
            "versions": dict(self.versions),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Provenance":
        """Return the provenance that `to_json` wrote."""
        return Provenance(
            made_from={role: Source(**source) for role, source in value.get("made_from", {}).items()},
            seed=value.get("seed"),
            versions=dict(value.get("versions", {})),
        )


def source(path: Path) -> Source:
    """Return the `Source` entry of a file."""
    return Source(name=path.name, sha256=sha256_file(path))


def require_source(provenance: Provenance, role: str, path: Path, artefact: Path) -> None:
    """Refuse `path` as the `role` of `artefact` if `artefact` was made from another file.

    Raises:
        InputError: Naming both files, if the role is missing or the hashes differ.
    """
    expected = provenance.made_from.get(role)
    if expected is None:
        raise InputError(
            f"{artefact} does not say which {role} it was made from, so {path} cannot be shown to belong to it. "
            f"Make {artefact.name} again with this version of seqgen."
        )
    got = sha256_file(path)
    if got != expected.sha256:
        raise InputError(
            f"{path} is not the {role} that {artefact} was made from: SHA-256 {got[:12]}... instead of "
            f"{expected.sha256[:12]}... ({expected.name}). Give the file {expected.name} that was used, or make "
            f"{artefact.name} again from {path.name}."
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else remove it.

    A write error midway (a full disk) leaves neither the temporary file nor a half-written `path`; what stood at
    `path` before stays.

    Raises:
        InputError: If the folder cannot be made or the file cannot be written, with the system's reason.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The suffixes are kept: writers such as nibabel choose the format by them.
        descriptor, name = tempfile.mkstemp(prefix=".writing-", suffix="-" + path.name, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}. Nothing was left behind; free some space or choose "
            "another output."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically (see `replacing`)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    write_text(path, json.dumps(value, indent=2) + "\n")


Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) by anything that takes longer than two seconds."""
