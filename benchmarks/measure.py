"""Time and memory: what the benchmarks have in common."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def side_by_side(ways: Mapping[str, Callable[[int], object]], *, repeats: int = 7) -> dict[str, float]:
    """Return the median time of each way in s, measured in turns after one call of each that does not count.

    CPU time of the process: on one thread that is the time elapsed, less what other processes took. Turns spread
    whatever else the machine does over all ways. A way gets the number of its turn, so that it can change its input.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            times[name].append(cpu_seconds(lambda way=way, turn=turn: way(turn))[0])
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def cpu_seconds(way: Callable[[], T]) -> tuple[float, T]:
    """Return the CPU time of one call in s, and its result."""
    start = time.process_time()
    result = way()
    return time.process_time() - start, result


def peak_mb(way: Callable[[], T]) -> tuple[float | None, T]:
    """Return how far the process's memory rises during a call, in MB, and the call's result.

    Linux forgets the peak (VmHWM) of a process that writes 5 into its own clear_refs; elsewhere the answer is None.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _memory_kb("VmRSS")
    except OSError:
        return None, way()
    result = way()
    return (_memory_kb("VmHWM") - before) / 1024, result


def _memory_kb(key: str) -> int:
    """Return a figure of this process from the Linux kernel, kB."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(key + ":"))


def largest_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest difference relative to the largest exact value."""
    return float((found.to(exact.dtype) - exact).abs().max() / exact.abs().max())


def machine() -> dict[str, str | int]:
    """Return what the numbers were measured on."""
    model = platform.processor()
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "machine": f"{model}, {platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "torch": torch.__version__,
        "blas": "MKL" if torch.backends.mkl.is_available() else "other",
    }
