"""One iteration of a design of the shipped protocols: fixed pulses averaged once, beside all positions in every one.

An epoch is value and gradient of the loss by waveform and echo times, everything that L-BFGS-B asks for. The other way
(`simulate.averaged.unaveraged`) plays every pulse at its positions along the slice, as simulations of files do.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import epoch
from benchmarks.measure import cpu_seconds, largest_error, side_by_side
from seqgen.design import forward
from seqgen.design.evaluate import Evaluator
from seqgen.pipeline.design_problem import problem_on_sequence
from seqgen.pipeline.study import load_study
from seqgen.pulse.waveform import RFPulse
from seqgen.simulate.averaged import unaveraged

Report = dict[str, float | None]

_PROTOCOLS = Path(__file__).resolve().parents[1] / "protocols"
_FIFTEEN = {"b0_offsets_hz": (-10.0, 0.0, 10.0), "b1_scales": (0.8, 0.9, 1.0, 1.1, 1.2)}
CASES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "phantom_window": ("phantom_glu_gln_3t", {}),
    "invivo_window": ("invivo_glu_gln_3t", {}),
    "invivo_crlb_15": ("invivo_glu_gln_3t", {"loss": {"crlb": 1.0}, **_FIFTEEN}),
}
"""Protocol and what is changed in its section `design`, by name."""
WAYS = ("averaged", "positions")


@contextmanager
def _way(name: str) -> Iterator[None]:
    """Let models that are made within play their fixed pulses one way or the other."""
    genuine = forward.average
    if name == "positions":
        forward.average = lambda shot, *, start=None, **_: unaveraged(shot, start=start)
    try:
        yield
    finally:
        forward.average = genuine


def problem(case: str, way: str) -> Evaluator:
    """Return the design problem of a case, as `seqgen design` prepares it."""
    name, changes = CASES[case]
    study = load_study(_PROTOCOLS / f"{name}.yaml")
    spec = replace(study.protocol.design, **changes)
    study = replace(study, protocol=replace(study.protocol, design=spec))
    n_samples = round(spec.duration_s / spec.rf_dwell_s)
    stand_in = RFPulse(b1_hz=torch.ones(n_samples, dtype=torch.complex128), dwell_s=spec.rf_dwell_s, name="edit")
    with _way(way):
        return problem_on_sequence(study, stand_in, (spec.te1_s, spec.te2_s))


def value_and_gradient(made: Evaluator) -> Tensor:
    """Return loss, gradient by real and imaginary part of every sample, and gradient by both echo times."""
    spec = made.spec
    b1_hz = epoch.pulse(round(spec.duration_s / spec.rf_dwell_s)).requires_grad_()
    times = [torch.tensor(time_s, dtype=torch.float64, requires_grad=True) for time_s in (spec.te1_s, spec.te2_s)]
    loss, _ = made.loss_and_metrics(b1_hz, *times)
    by_b1, *by_times = torch.autograd.grad(loss, (b1_hz, *times))
    return torch.cat([loss.detach()[None], torch.view_as_real(by_b1).flatten(), torch.stack(by_times)])


def _memory_mb(case: str, way: str) -> float | None:
    """Return how far preparation and one epoch raise the memory of a fresh process that has warmed up."""
    code = (
        "import json, torch; torch.set_num_threads(1); from benchmarks import designing, epoch, scaling; "
        "from benchmarks.measure import peak_mb; epoch.our_epoch([scaling.chain(2)])(epoch.pulse(20)); "
        f"run = lambda: designing.value_and_gradient(designing.problem({case!r}, {way!r})); "
        "print(json.dumps(peak_mb(run)[0]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    result: float | None = json.loads(done.stdout)
    return result


def measure(*, quick: bool) -> Report:
    """Return epochs per second, seconds of preparation, peak memory and agreement. Quick: the phantom alone."""
    report: Report = {}
    for case in list(CASES)[: 1 if quick else None]:
        made = {}
        for way in WAYS:
            report[f"prepare_{case}_{way}_s"], made[way] = cpu_seconds(partial(problem, case, way))
            report[f"peak_mb_{case}_{way}"] = _memory_mb(case, way)
        found = {way: value_and_gradient(made[way]) for way in WAYS}
        report[f"error_{case}"] = largest_error(found["averaged"], found["positions"])
        times = side_by_side({way: partial(_again, made[way]) for way in WAYS}, repeats=3 if quick else 5)
        for way in WAYS:
            report[f"epochs_per_s_{case}_{way}"] = 1 / times[way]
        report[f"ratio_{case}"] = times["positions"] / times["averaged"]
    return report


def _again(made: Evaluator, _turn: int) -> Tensor:
    """Compute an epoch once more, whatever turn it is."""
    return value_and_gradient(made)
