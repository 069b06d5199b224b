"""One point of a sweep: its folder, what the files in it say, and computing what they lack."""

import json
import shutil
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from seqgen.design.artefact import FORMAT
from seqgen.design.checkpoint import checkpoint_path, load_checkpoint
from seqgen.errors import InputError, SeqgenError
from seqgen.pipeline.design import make_design
from seqgen.pipeline.study import Reporter, load_study
from seqgen.provenance import Progress, replacing, sha256_file, write_json, write_text
from seqgen.sweep_file import Point

State = Literal["done", "failed", "begun", "open"]


class Silent:
    """A reporter that says nothing: workers have no user."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def progress(self, label: str) -> Progress:
        """Return an update function that shows nothing."""
        return lambda done, total: None


@dataclass(frozen=True, kw_only=True, slots=True)
class PointFolder:
    """Where a point lives, and all that is known of it."""

    path: Path
    """The folder."""

    @property
    def protocol(self) -> Path:
        """The complete protocol."""
        return self.path / "protocol.yaml"

    @property
    def design(self) -> Path:
        """The design."""
        return self.path / "design.json"

    @property
    def record(self) -> Path:
        """How long its last computation took, and why it failed if it did."""
        return self.path / "record.json"

    @property
    def baselines(self) -> Path:
        """The best plain sequences that points of the sweep have searched."""
        return self.path.parent.parent / "baselines"

    def state(self) -> State:
        """Return how far the point is.

        "done": there is a design of this protocol and no checkpoint, which an unfinished search leaves behind;
        "failed": its record holds an error; "begun": there is a checkpoint; "open": there is nothing.
        """
        if "error" in self.own_record():
            return "failed"
        if checkpoint_path(self.design).exists():
            return "begun"
        return "open" if self.own_design() is None else "done"

    def own_design(self) -> dict[str, Any] | None:
        """Return the content of its design file; None if there is none of this very protocol."""
        content = _json(self.design)
        made_from = content.get("provenance", {}).get("made_from", {})
        mine = content.get("format") == FORMAT and made_from.get("protocol", {}).get("sha256") == self._sha256()
        return content if mine else None

    def own_record(self) -> dict[str, Any]:
        """Return the content of its record; empty if there is none of this very protocol."""
        content = _json(self.record)
        return content if content and content.get("protocol") == self._sha256() else {}

    def write(self, point: Point) -> None:
        """Write protocol and the files it names, unless they are there."""
        for name, origin in point.files.items():
            beside = self.path / name
            if not beside.exists() or sha256_file(beside) != sha256_file(origin):
                with replacing(beside) as temporary:
                    shutil.copyfile(origin, temporary)
        if not self.protocol.exists() or self.protocol.read_text(encoding="utf-8") != point.text:
            write_text(self.protocol, point.text)

    def reopen(self) -> None:
        """Forget what is known of it."""
        for path in (self.design, checkpoint_path(self.design), self.record):
            path.unlink(missing_ok=True)

    def record_end(self, seconds: float, error: str | None) -> None:
        """Write how a computation ended."""
        failure = {} if error is None else {"error": error}
        write_json(self.record, {"protocol": self._sha256(), "seconds": round(seconds, 3)} | failure)

    def _sha256(self) -> str | None:
        """Return the hash of the protocol as it stands."""
        return sha256_file(self.protocol) if self.protocol.exists() else None


def compute_point(folder: str, reporter: Reporter | None = None) -> State:
    """Compute the design of a point, from its checkpoint if it was begun; return its state. Workers run this.

    A point that is done or failed is left alone, so a task that a scheduler gives out again costs nothing. Errors are
    recorded in the folder.

    Args:
        folder: The folder of the point.
        reporter: Tells the user; None: nobody.

    Raises:
        InputError: If there is no such folder here.
        KeyboardInterrupt: After Ctrl-C; the checkpoint stays.
    """
    point = PointFolder(path=Path(folder))
    if not point.protocol.exists():
        raise InputError(f"{point.protocol} is not there: workers need the file system that holds the sweep's folder.")
    if (state := point.state()) in ("done", "failed"):
        return state
    torch.set_num_threads(1)
    begun, error = time.monotonic(), None
    try:
        _design(point, Silent() if reporter is None else reporter)
    except SeqgenError as refused:
        error = str(refused)
    except Exception as failure:  # noqa: BLE001  # whatever it is, the other points go on
        error = "".join(traceback.format_exception_only(failure)).strip()
    point.record_end(time.monotonic() - begun, error)
    return point.state()


def dask_setup(_: object) -> None:
    """Prepare a local worker, as Dask calls it: Ctrl-C is for the process that the user sees, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _design(point: PointFolder, reporter: Reporter) -> None:
    """Make the design, from the checkpoint if there is one of this search."""
    study = load_study(point.protocol)
    at = checkpoint_path(point.design)
    resume = _resumable(at, {"protocol": study.source.sha256, "seed": study.protocol.seed})
    try:
        make_design(study, point.design, reporter, resume=resume, baselines=point.baselines)
    except Exception:
        # A checkpoint of another machine may not replay to the last bit: it is still there, and the search begins anew.
        if not (resume and at.exists()):
            raise
        make_design(study, point.design, reporter, baselines=point.baselines)


def _resumable(at: Path, identity: Mapping[str, str | int]) -> bool:
    """Tell whether there is a readable checkpoint of this search."""
    try:
        load_checkpoint(at, identity)
    except InputError:
        return False
    return True


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it is missing, damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
