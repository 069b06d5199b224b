"""Whether a design is one for a protocol; and the design at the protocol's own frequency."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqgen.axes import ppm_to_hz
from seqgen.design.artefact import Design, waveforms
from seqgen.errors import InputError
from seqgen.pipeline.design_check import CHANGED
from seqgen.pipeline.design_problem import played_problem, problem_of
from seqgen.pipeline.study import Study

_MOST_SHOWN = 4
"""Most differences that a message names."""


def own_design(study: Study, design: Design, path: Path) -> Design:
    """Return a design as a protocol plays it: at the frequency of the protocol, if that is another of the design's.

    The waveforms stay as they are in Hz, their carriers at their ppm; the receiver phase is that which puts the target
    into absorption there.

    Args:
        study: The protocol.
        design: A design for the same problem.
        path: Its file, for messages.

    Raises:
        InputError: If it was made for another problem, or its shots are not those of the protocol.
    """
    require_own_design(study, design, path)
    frequency_hz = study.protocol.spectrometer_frequency_hz
    if frequency_hz == design.spectrometer_frequency_hz:
        return design
    carrier_hz = ppm_to_hz(study.protocol.design.carrier_ppm, frequency_hz, study.protocol.water_shift_ppm)
    shots = [
        replace(
            shot,
            pulses={place: replace(pulse, carrier_offset_hz=carrier_hz) for place, pulse in shot.pulses.items()},
        )
        for shot in design.shots
    ]
    problem, played = played_problem(study, shots)
    phases_rad = problem.receiver_phase_rad(played)
    return replace(
        design,
        shots=tuple(replace(shot, receiver_phase_rad=phase) for shot, phase in zip(shots, phases_rad, strict=True)),
        spectrometer_frequency_hz=frequency_hz,
    )


def require_own_design(study: Study, design: Design, path: Path) -> None:
    """Refuse a design that was made for another problem than that of a protocol, or whose shots are not those of it.

    Raises:
        InputError: If it is one, naming what differs.
    """
    differences = _differences(design.problem, problem_of(study))
    if differences:
        shown = "; ".join(differences[:_MOST_SHOWN])
        more = f"; {len(differences) - _MOST_SHOWN} more" if len(differences) > _MOST_SHOWN else ""
        raise InputError(
            f"{path} was designed for another problem than that of {study.path}: {shown}{more}. Run `seqgen design` "
            "again with this protocol, or use the protocol that it was made from."
        )
    wrong = _other_shots(study, design)
    if wrong:
        raise InputError(f"{path} has {wrong}. {CHANGED}")


def _differences(stated: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return what differs between the problem of a design file and that of a protocol, in words."""

    def shown(problem: Mapping[str, Any], name: str) -> str:
        value = problem.get(name, "not there")
        return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else json.dumps(value)

    why = {"sequence.tr_s": " (the bounds of `equal_scan_time` count it)"}
    return [
        f"{name} is {shown(stated, name)} in the design, {shown(own, name)} in the protocol{why.get(name, '')}"
        for name in dict.fromkeys((*own, *stated))
        if name not in stated or name not in own or stated[name] != own[name]
    ]


def _other_shots(study: Study, design: Design) -> str:
    """Return in what the shots of a design are not those of a protocol; empty if they are."""
    spec = study.protocol.design
    kinds = tuple("edited" if shot.pulses else "plain" for shot in design.shots)
    if kinds != spec.shots:
        return f"the shots {', '.join(kinds)}, but {study.path} wants {', '.join(spec.shots)}"
    for number, shot in enumerate(design.shots, 1):
        if shot.pulses and set(shot.pulses) != set(spec.places):
            places = ", ".join(shot.pulses)
            return f"pulses at {places} in shot {number}, but {study.path} wants them at {', '.join(spec.places)}"
        if len(waveforms(shot)) > len(spec.waveforms):
            return f"{len(waveforms(shot))} waveforms in shot {number}, but {study.path} wants {len(spec.waveforms)}"
    if design.combine != spec.combine:
        return f"combine {design.combine!r}, but {study.path} wants {spec.combine!r}"
    return ""
