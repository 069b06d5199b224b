"""`seqgen design`: the editing pulse, and the plain PRESS it is to beat."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch

from seqgen.design.artefact import Design, save_design
from seqgen.design.evaluate import Evaluator, evaluator
from seqgen.design.optimise import optimise_pulse, optimise_timing
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.simulate.propagate import DESIGN_J_STEP_S, RESULT_J_STEP_S
from seqgen.timeline import Timeline

DESIGN_POSITIONS_PER_SLICE = 8
RESULT_POSITIONS_PER_SLICE = 16
_BARE = {
    "water_suppression": "none",
    "outer_volume_suppression": False,
    "dummy_scans": 0,
    "water_reference_averages": 0,
    "noise_scans": 0,
}
"""Parameters of a sequence whose shots hold the pulses of the echo alone."""


def make_design(study: Study, path: Path, reporter: Reporter) -> Design:
    """Optimise plain PRESS and the editing pulse for the protocol's loss, and write the design file.

    The numbers in the file are those of the waveform on the RF raster with finer steps and more positions than the
    optimiser used. One thread computes: how sums are split between threads changes their last digit, and an
    optimisation carries that into the first.
    """
    with _one_thread():
        design = _designed(study, reporter)
    save_design(design, path)
    return design


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _designed(study: Study, reporter: Reporter) -> Design:
    """Return the finished design of a protocol."""
    protocol = study.protocol
    spec = protocol.design
    stand_in = RFPulse(
        b1_hz=torch.full((round(spec.duration_s / spec.rf_dwell_s),), 1.0 + 0j, dtype=torch.complex128),
        dwell_s=spec.rf_dwell_s,
        name="edit",
    )
    raster_s = 2 * protocol.scanner.block_raster_s
    reporter.say(f"Best plain PRESS for the loss {dict(spec.loss)} ...")
    plain, plain_minimum = _problem(study, None, None)
    press = optimise_timing(
        plain, te_min_s=plain_minimum, te_raster_s=raster_s, progress=reporter.progress("TE-optimised PRESS")
    )
    reporter.say(f"Editing pulse of {spec.duration_s * 1e3:g} ms at the echo top ...")
    edited, edited_minimum = _problem(study, stand_in, None)
    result = optimise_pulse(
        edited,
        b1_max_hz=protocol.scanner.b1_max_hz,
        te_min_s=edited_minimum,
        te_raster_s=raster_s,
        seed=protocol.seed,
        progress=reporter.progress("Editing pulse"),
    )
    numbers = reporter.progress("Final numbers")
    fine_press, _ = _problem(study, None, (press.te1_s, press.te2_s), fine=True)
    numbers(1, 3)
    fine_edited, _ = _problem(study, stand_in, (result.te1_s, result.te2_s), fine=True)
    numbers(2, 3)
    with torch.no_grad():
        _, press_metrics = fine_press.loss_and_metrics(None, *_seconds(press.te1_s, press.te2_s))
        _, metrics = fine_edited.loss_and_metrics(result.pulse.b1_hz, *_seconds(result.te1_s, result.te2_s))
        phase_rad = fine_edited.receiver_phase_rad(result.pulse.b1_hz, *_seconds(result.te1_s, result.te2_s))
    numbers(3, 3)
    return Design(
        name=protocol.name,
        pulse=result.pulse,
        te1_s=result.te1_s,
        te2_s=result.te2_s,
        receiver_phase_rad=phase_rad,
        metrics=metrics,
        press_te1_s=press.te1_s,
        press_te2_s=press.te2_s,
        press_metrics=press_metrics,
        history=result.history,
        status=result.status,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
        provenance=Provenance(made_from={"protocol": study.source}, seed=protocol.seed),
    )


def _problem(
    study: Study, pulse: RFPulse | None, te_s: tuple[float, float] | None, *, fine: bool = False
) -> tuple[Evaluator, tuple[float, float]]:
    """Return the design problem on the protocol's own sequence, and its shortest echo times."""
    protocol = study.protocol
    spec = protocol.sequence.spec
    te1_s, te2_s = te_s or (protocol.design.te1_s, protocol.design.te2_s)
    minimum = spec.minimum_te_s(study.params(), study.context(pulse))
    known = {field.name for field in fields(protocol.sequence.params)}
    params = study.params(
        te1_s=max(te1_s, minimum[0]),
        te2_s=max(te2_s, minimum[1]),
        **{name: value for name, value in _BARE.items() if name in known},
    )
    template: Sequence[Timeline] = phase_cycle(
        built_shots(study.build(params, pulse).blocks, protocol.scanner, f"{protocol.name} template")
    )
    problem = evaluator(
        protocol.design,
        template,
        study.systems,
        study.relaxation,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
        positions_per_slice=RESULT_POSITIONS_PER_SLICE if fine else DESIGN_POSITIONS_PER_SLICE,
        j_step_s=RESULT_J_STEP_S if fine else DESIGN_J_STEP_S,
    )
    return problem, minimum


def _seconds(*times_s: float) -> tuple[torch.Tensor, ...]:
    """Return times as float64 tensors."""
    return tuple(torch.tensor(time_s, dtype=torch.float64) for time_s in times_s)
