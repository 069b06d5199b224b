"""`seqgen sweep`: the points of a study, here or on the workers of a Dask cluster."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seqgen.config import Protocol, load_protocol
from seqgen.errors import InputError
from seqgen.pipeline import sweep_point
from seqgen.pipeline.study import Reporter
from seqgen.pipeline.sweep_point import compute_point
from seqgen.pipeline.sweep_table import read_row, sweep_folder
from seqgen.sweep_file import Point, SweepStudy

if TYPE_CHECKING:
    from distributed import Client

CONNECT_TIMEOUT_S = 20
"""How long to wait for a scheduler, s."""

Announce = Callable[[Point], None]
"""Called with every point that ended."""


def run_sweep(
    study: SweepStudy,
    folder: Path,
    reporter: Reporter,
    *,
    workers: int | None = None,
    cluster: str | None = None,
    retry: bool = False,
) -> None:
    """Compute every point that has no result yet; all that is known of a point is in its folder.

    Args:
        study: The study.
        folder: The folder of the sweep.
        reporter: Tells the user of every point that ends.
        workers: Local worker processes; 1 computes in this process, None takes one per core.
        cluster: Address of the scheduler of a Dask cluster that computes instead, for example "tcp://host:8786".
        retry: Compute failed points again.

    Raises:
        InputError: If no point has a protocol that can be read, a plot asks for the bound of a metabolite that no
            sample holds, or there is no such cluster.
        KeyboardInterrupt: After Ctrl-C; what was finished stays, what was begun goes on next time.
    """
    for point in study.points:
        sweep_folder(study, point, folder).write(point)
    _require_bounds(study, _one_protocol(study, folder))
    todo = [point for point in study.points if _wanted(study, point, folder, retry)]
    done = len(study.points) - len(todo)
    reporter.say(f"{study.name}: {len(study.points)} points, {done} of them on disk, {len(todo)} to compute")
    announce = _announcer(study, folder, reporter, done)
    if not todo:
        return
    local = min(workers or _cores(), len(todo))
    if cluster is None and local == 1:
        for point in todo:
            reporter.say(f"{point.id}: {point.label}")
            compute_point(str(sweep_folder(study, point, folder).path), reporter)
            announce(point)
        return
    with _client(cluster, local, reporter) as client:
        _compute(client, study, todo, folder, reporter, announce)


def _wanted(study: SweepStudy, point: Point, folder: Path, retry: bool) -> bool:
    """Tell whether a point is to be computed; a failed one that is tried again is forgotten."""
    files = sweep_folder(study, point, folder)
    state = files.state()
    if state == "failed" and retry:
        files.reopen()
    return state in ("open", "begun") or (state == "failed" and retry)


def _one_protocol(study: SweepStudy, folder: Path) -> Protocol:
    """Return the first protocol that can be read; refuse a study without: a single bad one is a failed point."""
    first: InputError | None = None
    for point in study.points:
        try:
            return load_protocol(sweep_folder(study, point, folder).protocol)
        except InputError as error:
            first = first or error
    raise InputError(f"{study.path}: no point of the study has a protocol that can be used. The first says:\n{first}")


def _require_bounds(study: SweepStudy, protocol: Protocol) -> None:
    """Refuse plots of bounds without the loss crlb, or of a metabolite that no sample holds; unless these vary.

    Raises:
        InputError: Naming it.
    """
    held = list(protocol.sample.metabolites)
    varies = {names[:2] for names in study.names.values()}
    by_bounds = protocol.design.loss.get("crlb", 0.0) > 0 or ("design", "loss") in varies
    open_sample = any(names[0] == "sample" for names in varies)
    for spec in study.pareto:
        for name in (spec.x, spec.y, spec.z, spec.colour, *spec.maximise, *spec.logarithmic):
            kind, _, of = name.partition(".")
            if kind not in ("bounds", "ratio"):
                continue
            if not by_bounds:
                raise InputError(
                    f"{spec.where}: 'pareto' has {name!r}, but no point has the loss crlb. Give it a weight."
                )
            if of not in held and name != "ratio.product" and not open_sample:
                raise InputError(f"{spec.where}: 'pareto' has {name!r}, but the sample holds {', '.join(held)}.")


def _cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _announcer(study: SweepStudy, folder: Path, reporter: Reporter, done: int) -> Announce:
    """Return what tells the user, from the files, how a point ended and which is the best so far."""
    rows = {point.id: read_row(study, point, folder) for point in study.points}
    count = done

    def announce(point: Point) -> None:
        nonlocal count
        row = rows[point.id] = read_row(study, point, folder)
        count += row["status"] in ("done", "failed")
        said = [f"{name} {row[name]:.4f}" for name in ("loss", "signal", "contamination") if name in row]
        what = row.get("error", "").splitlines()[0] if row["status"] == "failed" else ", ".join(said)
        alike = [
            (rows[other.id]["loss"], other.id)
            for other in study.points
            if other.loss == point.loss and rows[other.id]["status"] == "done" and "loss" in rows[other.id]
        ]
        best = f"; best so far {min(alike)[0]:.4f} ({min(alike)[1]})" if alike else ""
        seconds = f" ({row['seconds']:.0f} s)" if "seconds" in row else ""
        reporter.say(f"[{count}/{len(rows)}] {point.id} {row['status']}{seconds}: {point.label}: {what}{best}")

    return announce


@contextmanager
def _client(cluster: str | None, workers: int, reporter: Reporter) -> "Iterator[Client]":
    """Yield a client of the cluster at an address, or of local worker processes of one thread each."""
    from distributed import Client, LocalCluster

    if cluster is None:
        reporter.say(f"{workers} local workers")
        # No limit on memory: a worker that reaches one is paused or killed though the machine has room.
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                # Without this its scheduler still serves pages at port 8787, and warns where that is taken.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL,
                preload=[sweep_point.__name__],
            ) as local,
            Client(local) as client,
        ):
            yield client
        return
    with _quiet(), _connected(cluster) as client:
        found = len(client.scheduler_info()["workers"])
        reporter.say(f"Cluster {cluster}: {found} workers{'' if found else ': the points wait until one joins'}")
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's own log: a lost scheduler is one line of ours, not a traceback."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _connected(address: str) -> "Client":
    """Return a client of a running scheduler."""
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise InputError(
            f"There is no Dask scheduler at {address} ({error}). Give the address it printed when it began, for "
            "example tcp://host:8786, and check that this machine reaches it."
        ) from error


def _compute(
    client: "Client", study: SweepStudy, todo: Sequence[Point], folder: Path, reporter: Reporter, announce: Announce
) -> None:
    """Let workers compute points; a point whose worker dies goes to another, which resumes it."""
    from distributed import as_completed

    run = uuid.uuid4().hex[:8]
    futures = {
        client.submit(
            compute_point,
            str(sweep_folder(study, point, folder).path.resolve()),
            key=f"seqgen-{point.id}-{run}",
        ): point
        for point in todo
    }
    cancelled = 0
    for future in as_completed(futures):
        point = futures[future]
        if future.status == "finished":
            announce(point)
        elif future.status == "error":
            reporter.say(f"{point.id} has no result: {future.exception()}")
        else:
            cancelled += 1
    if cancelled:
        reporter.say(f"The scheduler is gone. {cancelled} points have no result; run the sweep again to go on.")
