"""`seqgen sweep` with real worker processes and a real scheduler, killed midway."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from sweep_study import tiny_study

from seqgen.pipeline.sweep_point import PointFolder
from seqgen.sweep_file import load_sweep

BODY = "fixed: {design.iterations: 25}\nvary:\n  seed: [1, 2]\n  design.duration_ms: [3, 4]\n"
"""Four points of some seconds each, with a checkpoint after the first evaluation."""
PATIENCE_S = 120

pytestmark = pytest.mark.slow


def start(*arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], env=environment, text=True, **options)


def sweep(path, *arguments):
    return start("seqgen", "sweep", path, *arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(condition, process):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def folders(path):
    return [PointFolder(path=path.with_suffix("") / "points" / point.id) for point in load_sweep(path).points]


def finished_and_begun(points):
    """Tell whether a point is done while another is under way."""
    return lambda: {"done", "begun"} <= {point.state() for point in points if point.protocol.exists()}


def marks(points):
    """Return what a rewritten file would change."""
    return {p.path: (s.st_mtime_ns, s.st_ino) for p in points if p.state() == "done" for s in [p.design.stat()]}


def require_unchanged(points, before):
    now = marks(points)
    assert before
    assert {path: now[path] for path in before} == before


def require_as_by_hand(point, folder):
    """The design that an unbroken `seqgen design` makes of the point's protocol."""
    done = start("seqgen", "design", point.protocol, "-o", folder / "by_hand.json", stdout=subprocess.DEVNULL)
    assert done.wait(PATIENCE_S) == 0
    assert (folder / "by_hand.json").read_bytes() == point.design.read_bytes()


def test_killed_workers_lose_nothing(tmp_path):
    path = tiny_study(tmp_path, BODY)
    points = folders(path)
    running = sweep(path, "--workers", 2)
    wait_for(finished_and_begun(points), running)
    workers = [
        child for child in psutil.Process(running.pid).children(recursive=True) if "spawn_main" in str(child.cmdline())
    ]
    assert len(workers) == 2
    for worker in workers:
        worker.kill()  # SIGKILL
    before = marks(points)
    broken = next(point for point in points if point.state() == "begun")
    output, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0, output
    assert [point.state() for point in points] == ["done"] * 4
    assert "[4/4]" in output
    assert "Traceback" not in output
    require_unchanged(points, before)
    require_as_by_hand(broken, tmp_path)


def test_a_killed_scheduler_loses_nothing(tmp_path):
    path, contact = tiny_study(tmp_path, BODY), tmp_path / "scheduler.json"
    points = folders(path)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    scheduler = start(
        *("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"),
        *("--no-dashboard", "--scheduler-file", contact),
        **quiet,
    )
    wait_for(contact.exists, scheduler)
    wait_for(lambda: contact.read_text().endswith("}"), scheduler)
    address = json.loads(contact.read_text())["address"]
    workers = start(
        *("distributed.cli.dask_worker", address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"),
        **quiet,
    )
    running = sweep(path, "--cluster", address)
    try:
        wait_for(finished_and_begun(points), running)
        scheduler.kill()  # SIGKILL
        output, _ = running.communicate(timeout=PATIENCE_S)
    finally:
        for process in (scheduler, running, *psutil.Process(workers.pid).children(recursive=True), workers):
            process.kill()
        for process in (scheduler, running, workers):
            process.wait()
    assert running.returncode == 1, output
    assert "The scheduler is gone." in output
    assert "Traceback" not in output
    before = marks(points)
    assert 0 < len(before) < 4
    following = sweep(path, "--workers", 2)
    output, _ = following.communicate(timeout=PATIENCE_S)
    assert following.returncode == 0, output
    assert f"{len(before)} of them on disk" in output
    assert [point.state() for point in points] == ["done"] * 4
    require_unchanged(points, before)
