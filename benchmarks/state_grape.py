"""`python -m benchmarks.state_grape`: what the spectral loss buys, and what splines cost, beside state-target GRAPE.

Glu against Gln at 3 T, one pulse at the first echo top of the phantom protocol's PRESS. Four designs under one set of
limits (amplitude, energy, duration, echo times free), from as many random starts, with as many iterations, differ in
two words of the protocol: `parameters` (steps: GRAPE, Khaneja et al. 2005; or splines) and `loss` (the state I4x + I5x
of Glu at the echo, or the window). Each is then judged by the same numbers: signal and contamination in the window, the
window loss, the overlap with the state and its unitary maximum. Epochs are values with gradients.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.counted import design, judged, study_with
from seqgen.pipeline.study import load_study

PROTOCOL = Path(__file__).resolve().parents[1] / "protocols" / "phantom_glu_gln_3t.yaml"
STATE = "I4x + I5x"
RIVALS = (("steps", "state"), ("spline", "state"), ("steps", "window"), ("spline", "window"))
HEADS = (
    "signal",
    "contam.",
    "window loss",
    "overlap",
    "maximum",
    "ratio",
    "TE1",
    "TE2",
    "peak",
    "energy",
    "epochs",
    "s",
)


def main():
    """Run all and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--ensemble", action="store_true", help="the protocol's nine members instead of one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    one = {} if arguments.ensemble else {"b0_offsets_hz": (0.0,), "b1_scales": (1.0,)}
    study = study_with(load_study(PROTOCOL), iterations=arguments.iterations, starts=arguments.starts, **one)
    print(f"{'parameters':11}{'loss':8}{''.join(f'{head:>12}' for head in HEADS)}", flush=True)
    rows = []
    for parameters, loss in RIVALS:
        made = design(study_with(study, parameters=parameters, loss={loss: 1.0}, state=STATE))
        result, pulse = made.result, made.result.pulse
        m = judged(study_with(study, loss={"window": 1.0, "state": 1.0}, state=STATE), result)
        found = (m.signal, m.contamination, m.terms["window"], m.overlap, m.overlap_maximum)
        times = (m.overlap / m.overlap_maximum, 1e3 * result.shots[0].te1_s, 1e3 * result.shots[0].te2_s)
        values = (*found, *times, pulse.peak_hz, pulse.energy_hz2_s, len(made.epochs), made.seconds)
        print(f"{parameters:11}{loss:8}{''.join(f'{value:12.4g}' for value in values)}", flush=True)
        row = {"parameters": parameters, "loss": loss, "metrics": asdict(m)}
        rows.append(row | dict(zip(HEADS[5:], values[5:], strict=True)))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
