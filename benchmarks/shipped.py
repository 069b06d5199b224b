"""`python -m benchmarks.shipped`: epochs per second of every shipped design, and how soon its search was near the end.

An epoch is value and gradient of the loss by all variables of the search, at the waveforms of the design. The record of
the search (iterations of every start, then of the last descent) says when the smallest loss so far came within 1 % of
the final one, in units of max(1, |loss|). An iteration takes one epoch, now and then two.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.measure import side_by_side
from seqgen import library
from seqgen.design.artefact import Design, load_design
from seqgen.design.evaluate import Evaluator
from seqgen.design.forward import PlayedShot
from seqgen.pipeline.design_problem import problem_on_sequence
from seqgen.pipeline.study import Study, load_study

NEAR = 0.01
"""Distance from the final loss, in units of max(1, |loss|)."""


def problem(study: Study, design: Design) -> Evaluator:
    """Return the problem as the search saw it, at the echo times of the design."""
    first = next(shot for shot in design.shots if shot.pulses)
    return problem_on_sequence(study, next(iter(first.pulses.values())), (first.te1_s, first.te2_s))


def value_and_gradient(made: Evaluator, design: Design) -> torch.Tensor:
    """Return the loss and its gradients by waveforms and echo times."""
    shots, variables = [], []
    for shot in design.shots:
        pulses = {place: pulse.b1_hz.clone().requires_grad_() for place, pulse in shot.pulses.items()}
        times = [torch.tensor(te_s, dtype=torch.float64, requires_grad=True) for te_s in (shot.te1_s, shot.te2_s)]
        shots.append(PlayedShot(b1_hz=pulses or None, te1_s=times[0], te2_s=times[1]))
        variables += [*pulses.values(), *times]
    loss, _ = made.loss_of_shots(shots)
    torch.autograd.grad(loss, variables, allow_unused=True)
    return loss.detach()


def iterations_to(history: Sequence[Sequence[float]], near: float = NEAR) -> tuple[int, int]:
    """Return the iterations until the smallest loss so far is near the final one, and all of them.

    >>> iterations_to([[3.0, 2.0], [2.5, 1.0], [1.0, 0.5, 0.495]])
    (6, 7)
    """
    losses = np.minimum.accumulate(np.concatenate([np.asarray(run, dtype=float) for run in history]))
    final = losses[-1]
    reached = int(np.argmax(losses - final <= near * max(1.0, abs(final)))) + 1
    return reached, losses.size


def main() -> None:
    """Print one row per design."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="designs; default all that are shipped")
    names = parser.parse_args().names or library.design_names()
    torch.set_num_threads(1)
    print(f"{'design':32} epochs/s  iterations  to 1 %  seconds to 1 %")
    for name in names:
        protocol, path = library.design_files(name)
        study, design = load_study(protocol), load_design(path)
        made = problem(study, design)
        seconds = side_by_side({"epoch": lambda _, m=made, d=design: value_and_gradient(m, d)}, repeats=3)["epoch"]
        reached, whole = iterations_to(design.history)
        print(f"{name:32} {1 / seconds:8.2f}  {whole:10d}  {reached:6d}  {reached * seconds:14.1f}", flush=True)


if __name__ == "__main__":
    main()
