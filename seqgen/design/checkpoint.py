"""An unfinished search as a file: every finished descent, and every evaluation of the one under way.

SciPy's L-BFGS-B keeps its state to itself, and so does Adam. Both are functions of the start and of the losses and
gradients they were given: these are recorded, and replayed they restore the state to the last bit, inside a line
search too. The random starts follow from the seed.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from seqgen.errors import InputError
from seqgen.provenance import replacing

FORMAT = "seqgen checkpoint 2"
INTERVAL_S = 3.0
"""Time between two writings, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Descent:
    """One finished descent."""

    name: str
    """Its start, for example "random 1"."""
    x0: np.ndarray
    """Where it began, shape (n,)."""
    x: np.ndarray
    """Where it ended, shape (n,)."""
    loss: float
    """The loss there."""
    history: tuple[float, ...]
    """Loss after every iteration."""
    status: str
    """"converged", or why it stopped."""
    terms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Every term of the loss after every iteration, by name."""

    def require_start(self, name: str, x0: np.ndarray, file: str) -> None:
        """Refuse a descent that began elsewhere."""
        if name != self.name or not np.array_equal(x0, self.x0):
            raise _other_search(file, f"its descent {self.name!r} began at another point than {name!r} does here")


class Record:
    """Evaluations in their order."""

    def __init__(self) -> None:
        self.evaluations: list[tuple[np.ndarray, float, np.ndarray, dict[str, float]]] = []

    def __len__(self) -> int:
        return len(self.evaluations)

    def append(self, x: np.ndarray, loss: float, gradient: np.ndarray, terms: Mapping[str, float]) -> None:
        """Add one."""
        self.evaluations.append((x.copy(), loss, gradient.copy(), dict(terms)))

    def at(self, index: int, x: np.ndarray, file: str) -> tuple[float, np.ndarray, dict[str, float]]:
        """Return loss, gradient and terms of one, which must have been asked for at `x`."""
        known, loss, gradient, terms = self.evaluations[index]
        if not np.array_equal(known, x):
            raise _other_search(file, f"its evaluation {index} is at another point than here")
        return loss, gradient.copy(), terms


def _other_search(file: str, why: str) -> InputError:
    """Return the refusal of a checkpoint that does not replay."""
    return InputError(
        f"{file} is of another search: {why}. Resume with the files, versions and machine it was started with, or "
        "start again without --resume."
    )


class Checkpoint:
    """What a search has done. Without a path it stays in memory."""

    def __init__(
        self,
        path: Path | None = None,
        identity: Mapping[str, str | int] | None = None,
        *,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """Begin an empty one; the first evaluation writes it.

        Args:
            path: Its file, or None.
            identity: What it belongs to, by name: {"protocol": its SHA-256, "seed": 1}.
            interval_s: Least time between two writings, s.
        """
        self.path = path
        self.identity = dict(identity or {})
        self.interval_s = interval_s
        self.finished: list[Descent] = []
        self.record = Record()
        self._saved_s = -math.inf

    @property
    def name(self) -> str:
        """Its file in messages."""
        return "The checkpoint" if self.path is None else str(self.path)

    def finish(self, descent: Descent) -> None:
        """Put a finished descent in the place of its evaluations."""
        self.finished, self.record = [*self.finished, descent], Record()
        self.save()

    def last_point(self) -> tuple[np.ndarray, float] | None:
        """Return (x, loss) of the last evaluation it knows, or None."""
        if len(self.record):
            return self.record.evaluations[-1][:2]
        return (self.finished[-1].x, self.finished[-1].loss) if self.finished else None

    def save_if_due(self) -> None:
        """Write it, if the last writing is long enough ago."""
        if time.monotonic() - self._saved_s >= self.interval_s:
            self.save()

    def save(self) -> None:
        """Write it, atomically."""
        self._saved_s = time.monotonic()
        if self.path is None:
            return
        evaluations = self.record.evaluations
        n, n_terms = (evaluations[0][0].size, len(evaluations[0][3])) if evaluations else (0, 0)
        head = {
            "format": FORMAT,
            "identity": self.identity,
            "finished": [
                {"name": d.name, "loss": d.loss, "status": d.status, "terms": list(d.terms)} for d in self.finished
            ],
            "terms": list(evaluations[0][3]) if evaluations else [],
        }
        arrays: dict[str, Any] = {
            "head": np.array(json.dumps(head)),
            "x": np.array([row[0] for row in evaluations]).reshape(len(evaluations), n),
            "loss": np.array([row[1] for row in evaluations], dtype=np.float64),
            "gradient": np.array([row[2] for row in evaluations]).reshape(len(evaluations), n),
            "terms": np.array([list(row[3].values()) for row in evaluations]).reshape(len(evaluations), n_terms),
        }
        for k, descent in enumerate(self.finished):
            arrays |= {f"x0_{k}": descent.x0, f"x_{k}": descent.x, f"history_{k}": np.array(descent.history)}
            arrays[f"terms_{k}"] = np.array([*descent.terms.values()]).reshape(len(descent.terms), len(descent.history))
        with replacing(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    def remove(self) -> None:
        """Remove its file: the search is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def checkpoint_path(design: Path) -> Path:
    """Return the checkpoint beside a design file: design.checkpoint.npz of design.json."""
    return design.with_name(f"{design.stem}.checkpoint.npz")


def load_checkpoint(path: Path, identity: Mapping[str, str | int], *, interval_s: float = INTERVAL_S) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: Its file.
        identity: What it must belong to.
        interval_s: Least time between two writings, s.

    Raises:
        InputError: If it is missing, damaged, or belongs to something else.
    """
    if not path.exists():
        raise InputError(f"There is no checkpoint {path} to resume from. Start without --resume.")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        head = json.loads(str(arrays["head"]))
        found = (head["format"], dict(head["identity"]))
        finished, record = _finished(head, arrays), _record(head, arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} is not a readable checkpoint ({error!r}). Start again without --resume.") from error
    if found[0] != FORMAT:
        raise InputError(f"{path} has the format {found[0]!r}, not {FORMAT!r}. Start again without --resume.")
    for key, value in identity.items():
        if found[1].get(key) != value:
            raise InputError(
                f"{path} is of another {key}: {_short(found[1].get(key))} instead of {_short(value)}. Resume with the "
                f"{key} it was started with, or start again without --resume."
            )
    checkpoint = Checkpoint(None, identity, interval_s=interval_s)
    checkpoint.path, checkpoint.finished, checkpoint.record = path, finished, record
    return checkpoint


def _finished(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> list[Descent]:
    """Return the finished descents of a file."""
    return [
        Descent(
            name=row["name"],
            x0=arrays[f"x0_{k}"],
            x=arrays[f"x_{k}"],
            loss=float(row["loss"]),
            history=tuple(arrays[f"history_{k}"].tolist()),
            status=row["status"],
            terms={name: tuple(each) for name, each in zip(row["terms"], arrays[f"terms_{k}"].tolist(), strict=True)},
        )
        for k, row in enumerate(head["finished"])
    ]


def _record(head: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Record:
    """Return the evaluations of a file."""
    record = Record()
    columns = (arrays["x"], arrays["loss"], arrays["gradient"], arrays["terms"])
    for x, loss, gradient, terms in zip(*columns, strict=True):
        record.append(x, float(loss), gradient, dict(zip(head["terms"], terms.tolist(), strict=True)))
    return record


def _short(value: object) -> str:
    """Return a value for a message, hashes cut."""
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text
