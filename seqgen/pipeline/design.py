"""`seqgen design`: the editing pulse, and the plain PRESS it is to beat."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from seqgen.design.artefact import Design, save_design
from seqgen.design.checkpoint import Checkpoint, checkpoint_path, load_checkpoint
from seqgen.design.echo_times import EchoTimeLimits, echo_time_limits
from seqgen.design.evaluate import Evaluator, Metrics, evaluator
from seqgen.design.forward import PlayedShot
from seqgen.design.optimise import DesignResult, optimise_pulse
from seqgen.design.press_baseline import optimise_timing
from seqgen.errors import InputError
from seqgen.pipeline.design_check import derived_limits, require_limits
from seqgen.pipeline.design_problem import problem_of
from seqgen.pipeline.starts import start_files, start_pulses
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance, source
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.sequence.plugins import DesignedShot
from seqgen.simulate.propagate import DESIGN_J_STEP_S, RESULT_J_STEP_S
from seqgen.timeline import Timeline

DESIGN_POSITIONS_PER_SLICE = 8
RESULT_POSITIONS_PER_SLICE = 16
_BARE: dict[str, Any] = {
    "water_suppression": "none",
    "outer_volume_suppression": False,
    "dummy_scans": 0,
    "water_reference_averages": 0,
    "noise_scans": 0,
}
"""Parameters of a sequence whose shots hold the pulses of the echo alone."""


class DesignInterrupted(KeyboardInterrupt):
    """Ctrl-C during the search, after `design`, the best so far, was written."""

    def __init__(self, design: Design) -> None:
        super().__init__(design.status)
        self.design = design


def make_design(study: Study, path: Path, reporter: Reporter, *, resume: bool = False) -> Design:
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

    Raises:
        InputError: If a loss is not finite (the best pulse before it is written), or there is no checkpoint of this
            protocol to resume from.
        VerificationError: If the design breaks a limit; then no file is written.
        DesignInterrupted: After Ctrl-C; the best pulse so far is written, and the checkpoint stays.
    """
    identity: dict[str, str | int] = {"protocol": study.source.sha256, "seed": study.protocol.seed}
    at = checkpoint_path(path)
    checkpoint = load_checkpoint(at, identity) if resume else Checkpoint(at, identity)
    with one_thread():
        design, result = _designed(study, reporter, checkpoint)
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _designed(study: Study, reporter: Reporter, checkpoint: Checkpoint) -> tuple[Design, DesignResult]:
    """Return the finished design of a protocol, and how its search ended."""
    protocol = study.protocol
    spec = protocol.design
    stand_in = RFPulse(
        b1_hz=torch.full((round(spec.duration_s / spec.rf_dwell_s),), 1.0 + 0j, dtype=torch.complex128),
        dwell_s=spec.rf_dwell_s,
        name="edit",
    )
    raster_s = 2 * protocol.scanner.block_raster_s
    plain_minimum = _minimum_te_s(study, None)
    limits = _limits(study, stand_in, plain_minimum)
    limits.require_start(spec)
    _require_buildable(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
    pulse_limits = derived_limits(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
    starts = start_pulses(study)
    plain = _problem(study, None, (max(spec.te1_s, plain_minimum[0]), max(spec.te2_s, plain_minimum[1])))
    baseline = "Best plain PRESS" if plain.model.has_echo_times else "Hard pulse"
    reporter.say(f"{baseline} for the loss {dict(spec.loss)} ...")
    if plain.model.needs_waveform:
        raise InputError(
            f"Sequence {protocol.sequence.name} edits without a design too, so there is no plain PRESS to beat. Design "
            f"for `press` with place: {' and '.join(spec.places)}."
        )
    press = optimise_timing(
        plain,
        te_min_s=plain_minimum,
        te_raster_s=raster_s,
        progress=reporter.progress("TE-optimised PRESS" if plain.model.has_echo_times else baseline),
    )
    if pulse_limits.energy_max_hz2_s < spec.energy_max_hz2_s:
        reporter.say(f"{pulse_limits.energy_max_by} leaves the pulse {pulse_limits.energy_max_hz2_s:.4g} Hz^2 s.")
    reporter.say(f"Editing pulse of {spec.duration_s * 1e3:g} ms at {' and '.join(spec.places)} ...")
    edited = _problem(study, stand_in, limits.on_raster(spec.te1_s, spec.te2_s))
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
    fine_press = _problem(study, None, (press.te1_s, press.te2_s), fine=True)
    numbers(1, 3)
    metrics, phases_rad = _reached(study, result.shots)
    numbers(2, 3)
    with torch.no_grad():
        _, press_metrics = fine_press.loss_and_metrics(None, *_seconds(press.te1_s, press.te2_s))
    numbers(3, 3)
    design = Design(
        name=protocol.name,
        shots=tuple(
            replace(shot, receiver_phase_rad=phase) for shot, phase in zip(result.shots, phases_rad, strict=True)
        ),
        combine=spec.combine,
        metrics=metrics,
        press_te1_s=press.te1_s,
        press_te2_s=press.te2_s,
        press_metrics=press_metrics,
        press_optima=tuple((optimum.te1_s, optimum.te2_s, optimum.loss) for optimum in press.optima),
        history=result.history,
        status=result.status,
        terms=result.terms,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
        problem=problem_of(study),
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
        study.build(_bare_params(study, (shot.te1_s, shot.te2_s)), next(iter(shot.pulses.values()), None))
    with torch.no_grad():
        _, metrics = problem.loss_of_shots(played)
        return metrics, problem.receiver_phase_rad(played)


def played_problem(study: Study, shots: Sequence[DesignedShot]) -> tuple[Evaluator, list[PlayedShot]]:
    """Return the problem with fine steps and many positions at the echo times of shots, and what each of them plays.

    A single shot without a pulse is the plain sequence that a design is compared with.
    """
    first = next((shot for shot in shots if shot.pulses), shots[0])
    problem = _problem(study, next(iter(first.pulses.values()), None), (first.te1_s, first.te2_s), fine=True)
    played = [
        PlayedShot(
            b1_hz={place: pulse.b1_hz for place, pulse in shot.pulses.items()} or None,
            **dict(zip(("te1_s", "te2_s"), _seconds(shot.te1_s, shot.te2_s), strict=True)),
        )
        for shot in shots
    ]
    return problem, played


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


def _minimum_te_s(study: Study, pulse: RFPulse | None) -> tuple[float, float]:
    """Return the shortest echo times of the protocol's own sequence, s."""
    return study.protocol.sequence.spec.minimum_te_s(study.params(), study.context(pulse))


def _limits(study: Study, pulse: RFPulse, plain_minimum_s: tuple[float, float]) -> EchoTimeLimits:
    """Return the limits of the echo times with the designed pulse; TE/4, where it counts, on the raster too."""
    places = study.protocol.design.places
    return echo_time_limits(
        places,
        _minimum_te_s(study, pulse),
        plain_minimum_s,
        (4 if {"te1", "te2"} & set(places) else 2) * study.protocol.scanner.block_raster_s,
        study.protocol.design.te_max_s,
    )


def _problem(study: Study, pulse: RFPulse | None, te_s: tuple[float, float], *, fine: bool = False) -> Evaluator:
    """Return the design problem on the protocol's own sequence, built at some echo times, plain or with a stand-in."""
    protocol = study.protocol
    mixed = pulse is not None and "plain" in protocol.design.shots
    return evaluator(
        protocol.design,
        _template(study, pulse, te_s),
        study.systems,
        study.relaxation,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
        positions_per_slice=RESULT_POSITIONS_PER_SLICE if fine else DESIGN_POSITIONS_PER_SLICE,
        j_step_s=RESULT_J_STEP_S if fine else DESIGN_J_STEP_S,
        tr_s=getattr(protocol.sequence.params, "tr_s", None),
        macromolecules=study.macromolecule_peaks,
        plain_template=_template(study, None, te_s) if mixed else None,
        others=[
            _problem(_at_frequency(study, frequency_hz), pulse, te_s, fine=fine)
            for frequency_hz in protocol.design.other_frequencies_hz
        ],
    )


def _at_frequency(study: Study, frequency_hz: float) -> Study:
    """Return a study at another spectrometer frequency, and at no further one."""
    design = replace(study.protocol.design, other_frequencies_hz=())
    return replace(study, protocol=replace(study.protocol, spectrometer_frequency_hz=frequency_hz, design=design))


def _template(study: Study, pulse: RFPulse | None, te_s: tuple[float, float]) -> Sequence[Timeline]:
    """Return the shots of one phase cycle of the protocol's sequence without suppression and references."""
    built = study.build(_bare_params(study, te_s), pulse)
    return phase_cycle(built_shots(built.blocks, study.protocol.scanner, f"{study.protocol.name} template"))


def _bare_params(study: Study, te_s: tuple[float, float]) -> Any:
    """Return the parameters of the protocol's sequence at some echo times, with the pulses of the echo alone."""
    known = {field.name for field in fields(study.protocol.sequence.params)}
    bare = {name: value for name, value in _BARE.items() if name in known}
    return study.params_at(*te_s, **bare)


def _seconds(*times_s: float) -> tuple[torch.Tensor, ...]:
    """Return times as float64 tensors."""
    return tuple(torch.tensor(time_s, dtype=torch.float64) for time_s in times_s)
