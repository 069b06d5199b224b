"""The design problem of a protocol: what tells it from others, and made concrete on the protocol's own sequence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqgen.design.evaluate import Evaluator, evaluator
from seqgen.design.forward import PlayedShot
from seqgen.design.problem import SEARCH_FIELDS, DesignSpec
from seqgen.errors import InputError
from seqgen.pipeline.study import Study
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.sequence.plugins import DesignedShot
from seqgen.sequence.scan import ScanParams
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
_FREE = {field.name for field in fields(ScanParams)} - {"slice_carrier_ppm"} | {
    "te1_s",
    "te2_s",
    "spoiler_moment_per_m",
}
"""Parameters of sequences that no loss depends on: how often, where, behind which suppression the shot is played, how
it is read out, how fast its gradients rise; and echo times, which are the design's."""


def problem_of(study: Study) -> dict[str, Any]:
    """Return what a design is to do and within which limits, ready for JSON: value by name, SI.

    In it: the section `design` but for how it is searched (echo times where they are not optimised); pulses, crushers
    and phase cycle of the sequence; spin systems, T2 (T1 and TR at equal scan time) and macromolecules that the losses
    look at, tables as their SHA-256; frequencies, `spectrometer_frequency_hz` and `other_frequencies_hz`, whichever is
    which; the shift of water. Not in it: the scanner, whose limits are checked anew wherever a design is used, voxel,
    averages, suppression and readout, the simulated acquisition and the fit.

    Raises:
        InputError: If a parameter of the sequence is of a kind that JSON has no word for.
    """
    protocol, spec = study.protocol, study.protocol.design
    fitted = any(spec.loss.get(name, 0.0) > 0 for name in ("crlb", "correlation"))
    problem: dict[str, Any] = {
        "frequencies_hz": sorted((protocol.spectrometer_frequency_hz, *spec.other_frequencies_hz)),
        "water_shift_ppm": protocol.water_shift_ppm,
        "sequence.name": protocol.sequence.name,
    }
    left_out = {*SEARCH_FIELDS, "other_frequencies_hz"} | ({"te1_s", "te2_s"} if spec.optimise_timing else set())
    for field in fields(DesignSpec):
        if field.name not in left_out:
            problem[f"design.{field.name}"] = getattr(spec, field.name)
    # However they were written.
    problem["design.place"] = spec.places
    problem["design.loss"] = {name: weight for name, weight in spec.loss.items() if weight > 0}
    for field in fields(protocol.sequence.params):
        if field.name not in _FREE or (field.name == "tr_s" and spec.equal_scan_time):
            problem[f"sequence.{field.name}"] = getattr(protocol.sequence.params, field.name)
    problem |= _sample(study, every=fitted)
    if fitted and study.macromolecule_peaks:
        problem["sample.macromolecules"] = _hash([asdict(peak) for peak in study.macromolecule_peaks])
    plain: dict[str, Any] = json.loads(json.dumps(problem, default=_plain_value))
    return plain


def _sample(study: Study, *, every: bool) -> dict[str, Any]:
    """Return what the losses see of the sample: every metabolite, or those that the design names."""
    protocol, spec = study.protocol, study.protocol.design
    relaxes = any(field.name == "te1_s" for field in fields(protocol.sequence.params))
    looked_at = (spec.target, *spec.interferers, *spec.suppressed)
    seen: dict[str, Any] = {}
    for name in protocol.sample.metabolites:
        if every or name in looked_at:
            if spec.equal_scan_time:
                seen[f"sample.{name}.t1_s"] = study.relaxation[name].t1_s
            if relaxes:
                seen[f"sample.{name}.t2_s"] = study.relaxation[name].t2_s
            seen[f"sample.{name}.spins"] = _hash([asdict(group) for group in study.systems[name].groups])
    return seen


def _plain_value(value: Any) -> Any:
    """Return a value of a third-party parameter as JSON has it."""
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return value.tolist()
    raise InputError(
        f"A parameter of the sequence is {value!r}, which a design file cannot hold. Use numbers, words, lists or "
        "dataclasses of them."
    )


def played_problem(study: Study, shots: Sequence[DesignedShot]) -> tuple[Evaluator, list[PlayedShot]]:
    """Return the problem with fine steps and many positions at the echo times of shots, and what each of them plays.

    A single shot without a pulse is the plain sequence that a design is compared with.
    """
    first = next((shot for shot in shots if shot.pulses), shots[0])
    problem = problem_on_sequence(study, next(iter(first.pulses.values()), None), (first.te1_s, first.te2_s), fine=True)
    played = [
        PlayedShot(
            b1_hz={place: pulse.b1_hz for place, pulse in shot.pulses.items()} or None,
            **dict(zip(("te1_s", "te2_s"), _seconds(shot.te1_s, shot.te2_s), strict=True)),
        )
        for shot in shots
    ]
    return problem, played


def problem_on_sequence(
    study: Study, pulse: RFPulse | None, te_s: tuple[float, float], *, fine: bool = False
) -> Evaluator:
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
            problem_on_sequence(_at_frequency(study, frequency_hz), pulse, te_s, fine=fine)
            for frequency_hz in protocol.design.other_frequencies_hz
        ],
    )


def minimum_te_s(study: Study, pulse: RFPulse | None) -> tuple[float, float]:
    """Return the shortest echo times of the protocol's own sequence, s."""
    return study.protocol.sequence.spec.minimum_te_s(study.params(), study.context(pulse))


def bare_params(study: Study, te_s: tuple[float, float]) -> Any:
    """Return the parameters of the protocol's sequence at some echo times, with the pulses of the echo alone."""
    known = {field.name for field in fields(study.protocol.sequence.params)}
    bare = {name: value for name, value in _BARE.items() if name in known}
    return study.params_at(*te_s, **bare)


def _at_frequency(study: Study, frequency_hz: float) -> Study:
    """Return a study at another spectrometer frequency, and at no further one."""
    design = replace(study.protocol.design, other_frequencies_hz=())
    return replace(study, protocol=replace(study.protocol, spectrometer_frequency_hz=frequency_hz, design=design))


def _template(study: Study, pulse: RFPulse | None, te_s: tuple[float, float]) -> Sequence[Timeline]:
    """Return the shots of one phase cycle of the protocol's sequence without suppression and references."""
    built = study.build(bare_params(study, te_s), pulse)
    return phase_cycle(built_shots(built.blocks, study.protocol.scanner, f"{study.protocol.name} template"))


def _seconds(*times_s: float) -> tuple[torch.Tensor, ...]:
    """Return times as float64 tensors."""
    return tuple(torch.tensor(time_s, dtype=torch.float64) for time_s in times_s)


def _hash(content: Any) -> str:
    """Return the SHA-256 of plain values."""
    return sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()
