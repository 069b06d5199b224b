"""The plain sequence that a design is to beat; designs of a sweep that share it search it once."""

import json
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from seqgen.design.evaluate import Metrics
from seqgen.design.press_baseline import optimise_timing
from seqgen.errors import InputError
from seqgen.pipeline.design_problem import minimum_te_s, played_problem, problem_of, problem_on_sequence
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import versions, write_json
from seqgen.sequence.plugins import DesignedShot

_FORMAT = "seqgen baseline 1"
_OF_THE_PULSE = (
    *("place", "own_waveforms", "shots", "combine", "own_echo_times", "duration_s", "carrier_ppm", "rf_dwell_s"),
    *("b1_max_hz", "b1_max_at", "energy_max_hz2_s", "bandwidth_max_hz", "parameters", "knot_spacing_s"),
    *("te1_s", "te2_s"),
)
"""Fields of a design problem that say what the designed pulses are: not of the plain sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """The best plain sequence for a loss."""

    te1_s: float
    """First echo time, s; 0 where a pulse is all there is."""
    te2_s: float
    """Second echo time, s."""
    metrics: Metrics
    """What it reaches, with fine steps and many positions."""
    optima: tuple[tuple[float, float, float], ...]
    """(TE1 in s, TE2 in s, loss) of every local optimum that was found, the best first."""


def best_plain(study: Study, reporter: Reporter, folder: Path | None = None) -> Baseline:
    """Return the plain sequence whose echo times minimise the loss of a protocol (`press_baseline.optimise_timing`).

    Args:
        study: The protocol.
        reporter: Tells the user.
        folder: Where baselines are kept, one file each, written whole; None: this one is searched and forgotten.
            Processes that begin together search side by side.

    Raises:
        InputError: If the sequence plays no shot without a designed pulse, or TE is searched to less than its minimum.
        LossNotFinite: If the loss cannot be computed somewhere on the grid.
    """
    identity = _identity(study)
    path = None if folder is None else folder / f"{identity[:12]}.json"
    kept = None if path is None else _kept(path, identity)
    if kept is not None:
        reporter.say(f"Best plain sequence for this loss: known, {path}.")
        return kept
    found = _searched(study, reporter)
    if path is not None:
        write_json(path, {"format": _FORMAT, "identity": identity, "baseline": asdict(found)})
    return found


def _searched(study: Study, reporter: Reporter) -> Baseline:
    """Search the best plain sequence."""
    protocol, spec = study.protocol, study.protocol.design
    te_min_s = minimum_te_s(study, None)
    plain = problem_on_sequence(study, None, te_min_s)
    name = "Best plain PRESS" if plain.model.has_echo_times else "Hard pulse"
    weights = ", ".join(f"{loss}: {weight:g}" for loss, weight in spec.loss.items())
    reporter.say(f"{name} for the loss {{{weights}}} ...")
    if plain.model.needs_waveform:
        raise InputError(
            f"Sequence {protocol.sequence.name} edits without a design too, so there is no plain PRESS to beat. Design "
            f"for `press` with place: {' and '.join(spec.places)}."
        )
    press = optimise_timing(
        plain,
        te_min_s=te_min_s,
        te_raster_s=2 * protocol.scanner.block_raster_s,
        progress=reporter.progress("TE-optimised PRESS" if plain.model.has_echo_times else name),
    )
    numbers = reporter.progress("Its final numbers")
    fine, shots = played_problem(study, (DesignedShot(pulses={}, te1_s=press.te1_s, te2_s=press.te2_s),))
    with torch.no_grad():
        _, metrics = fine.loss_of_shots(shots)
    numbers(1, 1)
    return Baseline(
        te1_s=press.te1_s,
        te2_s=press.te2_s,
        metrics=metrics,
        optima=tuple((optimum.te1_s, optimum.te2_s, optimum.loss) for optimum in press.optima),
    )


def _identity(study: Study) -> str:
    """Return the SHA-256 of all that the best plain sequence depends on, down to its last digit."""
    protocol = study.protocol
    params = asdict(protocol.sequence.params)
    of_the_pulse = {f"design.{name}" for name in _OF_THE_PULSE}
    problem = {
        name: value
        for name, value in problem_of(study).items()
        if name not in of_the_pulse and not name.startswith("sequence.")
    }
    content = {
        "versions": versions(),
        "scanner": asdict(protocol.scanner),
        "frequency_hz": protocol.spectrometer_frequency_hz,
        "sequence": {"name": protocol.sequence.name}
        | {name: value for name, value in params.items() if name not in ("editing_places", "te1_s", "te2_s")},
        "problem": problem,
    }
    return sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _kept(path: Path, identity: str) -> Baseline | None:
    """Return the baseline of a file; None if there is none of this identity, or it cannot be read."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT or content["identity"] != identity:
            return None
        found = content["baseline"]
        if not math.isfinite(found["metrics"]["loss"]):
            return None
        return Baseline(
            te1_s=float(found["te1_s"]),
            te2_s=float(found["te2_s"]),
            metrics=Metrics(**found["metrics"]),
            optima=tuple((float(a), float(b), float(c)) for a, b, c in found["optima"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
