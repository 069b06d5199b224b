"""`seqgen design`: the editing pulse, and the plain PRESS it is to beat."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from seqgen.design.artefact import Design, save_design
from seqgen.design.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from seqgen.design.echo_times import EchoTimeLimits, echo_time_limits
from seqgen.design.evaluate import Metrics
from seqgen.design.optimise import DesignResult, optimise_pulse, waveform_shape
from seqgen.design.starts import require_rotations
from seqgen.errors import InputError
from seqgen.pipeline.baseline import best_plain
from seqgen.pipeline.design_check import derived_limits, require_limits
from seqgen.pipeline.design_problem import bare_params, minimum_te_s, played_problem, problem_of, problem_on_sequence
from seqgen.pipeline.starts import start_files, start_pulses
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance, source
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.plugins import DesignedShot


class DesignInterrupted(KeyboardInterrupt):
    """Ctrl-C during the search, after `design`, the best so far, was written."""

    def __init__(self, design: Design) -> None:
        super().__init__(design.status)
        self.design = design


def make_design(
    study: Study, path: Path, reporter: Reporter, *, resume: bool = False, baselines: Path | None = None
) -> Design:
    """Optimise plain PRESS and the editing pulse for the protocol's loss, and write the design file.

    The numbers in the file are those of the waveform on the RF raster with finer steps and more positions than the
    optimiser used. One thread computes: how sums are split between threads changes their last digit, and an
    optimisation carries that into the first.

    Every few seconds the search is written to NAME.checkpoint.npz beside NAME.json; it is removed at the end.

    Args:
        study: The protocol.
        path: The design file.
        reporter: Tells the user.
        resume: Go on from the checkpoint beside `path`.
        baselines: Folder of the best plain sequences that other designs have searched (see `best_plain`), or None.

    Raises:
        InputError: If a loss is not finite (the best pulse before it is written), or there is no checkpoint of this
            protocol to resume from.
        VerificationError: If the design breaks a limit; then no file is written.
        DesignInterrupted: After Ctrl-C; the best pulse so far is written, and the checkpoint stays.
    """
    identity = _identity(study)
    at = checkpoint_path(path)
    checkpoint = load_checkpoint(at, identity) if resume else Checkpoint(at, identity)
    with one_thread():
        design, result = _designed(study, reporter, checkpoint, baselines)
    require_limits(study, design)
    save_design(design, path)
    if result.interrupted:
        raise DesignInterrupted(design)
    checkpoint.remove()
    if result.failure:
        raise InputError(
            f"The design {result.status}. {path} holds the best pulse before that. Change the loss, its ensemble or "
            "the start."
        )
    return design


def require_none_begun(study: Study, path: Path) -> None:
    """Refuse to begin a design anew where the checkpoint of the same search lies: it would be lost.

    Raises:
        InputError: If there is one.
    """
    at = checkpoint_path(path)
    try:
        load_checkpoint(at, _identity(study))
    except InputError:
        # None, or that of another search, which is of no use any more.
        return
    raise InputError(
        f"{at} holds this very search, interrupted. Go on with --resume, give another output, or delete it and begin "
        "anew."
    )


def _identity(study: Study) -> dict[str, str | int]:
    """Return what a checkpoint of a protocol's search is known by."""
    return {"protocol": study.source.sha256, "seed": study.protocol.seed}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _designed(
    study: Study, reporter: Reporter, checkpoint: Checkpoint, baselines: Path | None
) -> tuple[Design, DesignResult]:
    """Return the finished design of a protocol, and how its search ended."""
    protocol = study.protocol
    spec, problem = protocol.design, problem_of(study)
    stand_in = RFPulse(
        b1_hz=torch.full((round(spec.duration_s / spec.rf_dwell_s),), 1.0 + 0j, dtype=torch.complex128),
        dwell_s=spec.rf_dwell_s,
        name="edit",
    )
    plain_minimum = minimum_te_s(study, None)
    limits = _limits(study, stand_in, plain_minimum)
    limits.require_start(spec)
    _require_buildable(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
    pulse_limits = derived_limits(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
    starts = start_pulses(study)
    require_rotations(spec, waveform_shape(spec, pulse_limits.b1_max_hz, pulse_limits.energy_max_hz2_s))
    press = best_plain(study, reporter, baselines)
    if pulse_limits.energy_max_hz2_s < spec.energy_max_hz2_s:
        reporter.say(f"{pulse_limits.energy_max_by} leaves the pulse {pulse_limits.energy_max_hz2_s:.4g} Hz^2 s.")
    reporter.say(f"Editing pulse of {spec.duration_s * 1e3:g} ms at {' and '.join(spec.places)} ...")
    edited = problem_on_sequence(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
    result = optimise_pulse(
        edited,
        b1_max_hz=pulse_limits.b1_max_hz,
        energy_max_hz2_s=pulse_limits.energy_max_hz2_s,
        te_min_s=(limits.te1_min_s, limits.te2_min_s(limits.te1_min_s)),
        te2_sides=limits.te2_sides,
        plain_te_min_s=plain_minimum,
        te_raster_s=limits.raster_s,
        seed=protocol.seed,
        start_pulses=starts,
        checkpoint=checkpoint,
        progress=reporter.progress("Editing pulse"),
    )
    numbers = reporter.progress("Final numbers")
    metrics, phases_rad = _reached(study, result.shots)
    numbers(1, 1)
    design = Design(
        name=protocol.name,
        shots=tuple(
            replace(shot, receiver_phase_rad=phase) for shot, phase in zip(result.shots, phases_rad, strict=True)
        ),
        combine=spec.combine,
        metrics=metrics,
        press_te1_s=press.te1_s,
        press_te2_s=press.te2_s,
        press_metrics=press.metrics,
        press_optima=press.optima,
        history=result.history,
        status=result.status,
        terms=result.terms,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
        problem=problem,
        provenance=Provenance(
            made_from={"protocol": study.source}
            | {f"start {name}": source(path) for name, path in start_files(study).items()},
            seed=protocol.seed,
        ),
        landscape=result.landscape,
    )
    return design, result


def _reached(study: Study, shots: Sequence[DesignedShot]) -> tuple[Metrics, tuple[float, ...]]:
    """Return what shots reach together, and the receiver phase of each, with fine steps and many positions.

    The templates are built at the very echo times of the shots: those that the sequence cannot play end here.
    """
    problem, played = played_problem(study, shots)
    for shot in shots:
        study.build(bare_params(study, (shot.te1_s, shot.te2_s)), next(iter(shot.pulses.values()), None))
    with torch.no_grad():
        _, metrics = problem.loss_of_shots(played)
        return metrics, problem.receiver_phase_rad(played)


def _require_buildable(study: Study, stand_in: RFPulse, te_s: tuple[float, float]) -> None:
    """Build the sequence with stand-ins for all shots: what it refuses is refused before the search.

    Raises:
        InputError: If the sequence cannot play several shots or waveforms, or not with these parameters.
    """
    spec = study.protocol.design
    if len(spec.shots) == 1 and len(spec.waveforms) == 1:
        study.build(study.params_at(*te_s), stand_in)
        return
    pulses = dict.fromkeys(spec.places, stand_in)
    shots = tuple(
        DesignedShot(pulses=pulses if kind == "edited" else {}, te1_s=te_s[0], te2_s=te_s[1]) for kind in spec.shots
    )
    study.build(study.params_at(*te_s), None, shots)


def _limits(study: Study, pulse: RFPulse, plain_minimum_s: tuple[float, float]) -> EchoTimeLimits:
    """Return the limits of the echo times with the designed pulse; TE/4, where it counts, on the raster too."""
    places = study.protocol.design.places
    return echo_time_limits(
        places,
        minimum_te_s(study, pulse),
        plain_minimum_s,
        (4 if {"te1", "te2"} & set(places) else 2) * study.protocol.scanner.block_raster_s,
        study.protocol.design.te_max_s,
    )
