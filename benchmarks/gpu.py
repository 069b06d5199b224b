"""The same code on a CUDA device, beside one and two CPU threads."""

import time
from collections.abc import Callable

import torch

from benchmarks.epoch import models as epoch_models
from benchmarks.epoch import our_epoch, pulse

COUNTS = (1, 25, 1000, 10000)


def wall_seconds(run: Callable[[], object], *, repeats: int = 3) -> float:
    """Return the shortest elapsed time of a call in s, all work on the device done."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def compare(quick: bool) -> dict[str, float | str | None]:
    """Return seconds per epoch on CPU and GPU and their ratios; where there is no GPU, say so and measure nothing."""
    if not torch.cuda.is_available():
        return {"cuda_ratio_1000": None, "cuda_device": "none found: not measured"}
    report: dict[str, float | str | None] = {"cuda_device": torch.cuda.get_device_name()}
    threads = torch.get_num_threads()
    for n in COUNTS[:3] if quick else COUNTS:
        way = our_epoch(epoch_models(), n=n)
        on_gpu, on_cpu = pulse().cuda(), pulse()
        report[f"cuda_{n}_s"] = wall_seconds(lambda way=way, b1_hz=on_gpu: way(b1_hz))
        difference = way(on_gpu)[0].cpu() - way(on_cpu)[0]
        report[f"cuda_error_{n}"] = float(difference.abs().max())
        for count in (1, 2):
            torch.set_num_threads(count)
            seconds = wall_seconds(lambda way=way, b1_hz=on_cpu: way(b1_hz), repeats=1)
            torch.set_num_threads(threads)
            report[f"cpu_{count}_{n}_s"] = seconds
        report[f"cuda_ratio_{n}"] = report[f"cpu_1_{n}_s"] / report[f"cuda_{n}_s"]  # type: ignore[operator]
    return report
