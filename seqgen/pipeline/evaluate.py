"""`seqgen evaluate`: what a design file reaches, computed anew from its waveforms; at other conditions too."""

import cmath
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqgen.axes import FloatArray
from seqgen.design.artefact import Design, load_design
from seqgen.design.evaluate import Evaluator, Metrics
from seqgen.design.members import Members, members_of
from seqgen.design.spectra import pulse_acquire, response_axis
from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.pipeline.design import one_thread
from seqgen.pipeline.design_check import checks_as_played, failed_text, made_with, remedy
from seqgen.pipeline.design_problem import played_problem
from seqgen.pipeline.own_design import own_design
from seqgen.pipeline.study import Reporter, Study, study_at_conditions
from seqgen.report.canvas import save_figure
from seqgen.report.designs import conditions_figure
from seqgen.report.spectra import SpectraPanel
from seqgen.sequence.plugins import DesignedShot
from seqgen.verify.limits import Check

TOLERANCE = 1e-6
"""Largest difference of a stored and a recomputed loss, relative to max(1, |loss|): most losses are logarithms."""
TOLERANCE_ELSEWHERE = 1e-3
"""The same with another protocol of the same problem, whose scanner may have other rasters and slew rates."""
MAP_B0_HZ = (-20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0)
MAP_B1_SCALES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
"""Conditions of a map, where none are given."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reached:
    """What a sequence reaches: as the file says, as computed anew, member by member."""

    stored: Metrics
    """Of the design file."""
    metrics: Metrics
    """Computed anew."""
    members: Members
    """The same member by member."""

    def loss_differs(self, tolerance: float) -> bool:
        """Return whether the two losses differ by more than a part of max(1, |loss|)."""
        return not abs(self.metrics.loss - self.stored.loss) <= tolerance * max(1.0, abs(self.stored.loss))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ConditionMap:
    """Signal and contamination over offset and B1; arrays of shape (n_b1, n_b0)."""

    b0_offsets_hz: tuple[float, ...]
    """Offsets of the field, Hz."""
    b1_scales: tuple[float, ...]
    """Relative B1."""
    edited: tuple[FloatArray, FloatArray]
    """Signal and contamination (at equal concentrations) of the design."""
    press: tuple[FloatArray, FloatArray]
    """The same of the plain sequence."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """A design file computed anew."""

    study: Study
    """Its protocol."""
    path: Path
    """The file."""
    design: Design
    """Its content."""
    edited: Reached
    """The design."""
    press: Reached
    """The best plain sequence at the echo times that the file states."""
    checks: tuple[Check, ...]
    """The design against the limits of its protocol, as the protocol's sequence plays it."""
    conditions: ConditionMap | None = None
    """A map beyond the ensemble, where one was asked for."""

    @property
    def amounts(self) -> dict[str, float]:
        """Concentrations of the interferers over the target's in the sample of the protocol; 0 without a target."""
        spec, sample = self.study.protocol.design, self.study.protocol.sample.metabolites
        target_mm = sample[spec.target].concentration_mm
        return {name: sample[name].concentration_mm / target_mm if target_mm > 0 else 0.0 for name in spec.interferers}

    def require(self) -> None:
        """Refuse a file whose losses are not those of its waveforms, or that breaks a limit.

        Raises:
            VerificationError: Naming every one.
        """
        tolerance = TOLERANCE if made_with(self.study, self.design) else TOLERANCE_ELSEWHERE
        wrong = [
            f"the loss of {name} is {reached.stored.loss!r} in the file, but {reached.metrics.loss!r} when recomputed"
            for name, reached in (("the design", self.edited), (self.design.baseline_name, self.press))
            if reached.loss_differs(tolerance)
        ]
        wrong += [failed] if (failed := failed_text(self.checks)) else []
        if wrong:
            raise VerificationError(f"{self.path}: {'; '.join(wrong)}. {remedy(self.study, self.design)}")

    def text(self, *, members: bool = False) -> str:
        """Return the tables for a terminal."""
        lines = [
            f"{'':32}{'design':^26}{self.design.baseline_name:^26}",
            f"{'':32}{'stored':>13}{'recomputed':>13}{'stored':>13}{'recomputed':>13}",
        ]
        pairs = [(flat(reached.stored), flat(reached.metrics)) for reached in (self.edited, self.press)]
        for name in pairs[0][1]:
            cells = [_cell(numbers.get(name)) for pair in pairs for numbers in pair]
            lines.append(f"{name:32}{''.join(cells)}")
        spec, sample = self.study.protocol.design, self.study.protocol.sample.metabolites
        mixed = ", ".join(f"{name} {sample[name].concentration_mm:g}" for name in (spec.target, *spec.interferers))
        lines.append(f"At the concentrations of the sample ({mixed} mM):")
        both = [reached.members for reached in (self.edited, self.press)]
        for name, of in _CONTAMINATIONS.items():
            values = [each.mean(of(each, self.amounts)) for each in both]
            lines.append(f"{name:32}{'':13}{_cell(values[0])}{'':13}{_cell(values[1])}")
        lines += ["", f"{'check':42}{'value':>13}{'limit':>13}"]
        lines += [
            f"{row.status:12}{row.name:30}{_number(row.value)}{_number(row.limit)} {row.unit:8} {row.note}".rstrip()
            for row in self.checks
        ]
        lines += ["", *_extremes(self.edited.members)]
        if members:
            lines += ["", *_member_lines(self.edited.members)]
        if self.conditions is not None:
            lines += ["", *_map_lines(self.conditions, self.design.baseline_name)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        result: dict[str, Any] = {"design": str(self.path), "amounts": self.amounts}
        for name, reached in (("edited", self.edited), ("press", self.press)):
            members = reached.members
            result[name] = {
                "stored": asdict(reached.stored),
                "recomputed": asdict(reached.metrics),
                "at_sample_concentrations": {
                    key: members.mean(of(members, self.amounts)) for key, of in _CONTAMINATIONS.items()
                },
                "members": {key: values.tolist() for key, values in _member_columns(members).items()},
            }
        result["checks"] = [asdict(row) for row in self.checks]
        if self.conditions is not None:
            found = self.conditions
            result["map"] = {
                "b0_offsets_hz": list(found.b0_offsets_hz),
                "b1_scales": list(found.b1_scales),
                **{
                    f"{name}_{key}": values.tolist()
                    for name, pair in (("edited", found.edited), ("press", found.press))
                    for key, values in zip(("signal", "contamination"), pair, strict=True)
                },
            }
        return result


_CONTAMINATIONS = {"contamination": Members.contamination, "area_contamination": Members.area_contamination}


def evaluate(study: Study, path: Path) -> Evaluation:
    """Return what a design file reaches, computed anew in double precision as `seqgen design` does it for the file.

    Args:
        study: The protocol that it was made from, or another of the same problem.
        path: The design file.

    Raises:
        InputError: If the file cannot be read, was made for another problem, or has other shots than the protocol.
    """
    design = own_design(study, load_design(path), path)
    try:
        return Evaluation(
            study=study,
            path=path,
            design=design,
            edited=_reached(study, design.shots, design.metrics),
            press=_reached(study, (_plain(design),), design.press_metrics),
            checks=checks_as_played(study, design),
        )
    except (InputError, HardwareLimitError) as error:
        raise type(error)(
            f"{path} and {design.baseline_name}, TE1 + TE2 {design.press_te1_s * 1e3:g} + {design.press_te2_s * 1e3:g} "
            f"ms, cannot be evaluated with {study.path}: {error} {remedy(study, design)}"
        ) from error


def with_map(
    found: Evaluation,
    reporter: Reporter,
    b0_offsets_hz: Sequence[float] = (),
    b1_scales: Sequence[float] = (),
    plot: Path | None = None,
) -> Evaluation:
    """Return an evaluation with a map of conditions, and draw it.

    Args:
        found: The evaluation.
        reporter: Tells the user.
        b0_offsets_hz: Offsets of the field, Hz, in any order; none: `MAP_B0_HZ`.
        b1_scales: Relative B1, in any order; none: `MAP_B1_SCALES`.
        plot: Figure to write, .png or .svg.

    Raises:
        InputError: If conditions make no ensemble, or the figure cannot be written.
    """
    b0, b1 = sorted(set(b0_offsets_hz or MAP_B0_HZ)), sorted(set(b1_scales or MAP_B1_SCALES))
    for name, values in (("b0_offsets_hz", b0), ("b1_scales", b1)):
        if plot is not None and len(values) < 2:
            raise InputError(f"{plot} draws a map over {name}, but got {values}. Give at least two, rising.")
    conditions = map_conditions(found.study, found.design, reporter, b0, b1)
    if plot is not None:
        spec = found.study.protocol.design
        maps = {
            f"{title}, {name}": values
            for k, name in enumerate(("signal", "contamination"))
            for title, values in (("Design", conditions.edited[k]), (found.design.baseline_name, conditions.press[k]))
        }
        save_figure(conditions_figure(b0, b1, maps, ensemble=(spec.b0_offsets_hz, spec.b1_scales)), plot)
    return replace(found, conditions=conditions)


def map_conditions(
    study: Study,
    design: Design,
    reporter: Reporter,
    b0_offsets_hz: Sequence[float] = MAP_B0_HZ,
    b1_scales: Sequence[float] = MAP_B1_SCALES,
) -> ConditionMap:
    """Return signal and contamination of a design and of its plain PRESS beyond the ensemble, at the spec's linewidth.

    Args:
        study: The protocol.
        design: The design.
        reporter: Tells the user.
        b0_offsets_hz: Offsets of the field, Hz.
        b1_scales: Relative B1.

    Raises:
        InputError: If a list is empty or a relative B1 not positive.
    """
    progress = reporter.progress("B0 and B1")
    rows = []
    for k, b1_scale in enumerate(b1_scales):
        at = study_at_conditions(study, b0_offsets_hz, (b1_scale,))
        pairs = []
        for shots in (design.shots, (_plain(design),)):
            with one_thread(), torch.no_grad():
                members = members_of(*played_problem(at, shots))
            pairs.append((members.signal.numpy(), members.contamination().numpy()))
        rows.append(pairs)
        progress(k + 1, len(b1_scales))
    edited, press = (tuple(np.stack([row[which][column] for row in rows]) for column in (0, 1)) for which in (0, 1))
    return ConditionMap(
        b0_offsets_hz=tuple(b0_offsets_hz),
        b1_scales=tuple(b1_scales),
        edited=(edited[0], edited[1]),
        press=(press[0], press[1]),
    )


def nominal_spectra(study: Study, design: Design, range_ppm: tuple[float, float]) -> list[SpectraPanel]:
    """Return spectra of target and interferers at equal concentrations on resonance at nominal B1, design and baseline.

    One panel for a design of one shot or a difference, one for every shot of those that are fitted together; the last
    is its baseline (`Design.baseline_name`). The design has the receiver phase of its file. 1 is the highest point of
    the target's spectrum within the range after a perfect pulse-acquire.

    Args:
        study: The protocol.
        design: The design.
        range_ppm: Low and high edge, ppm.
    """
    spec, protocol = study.protocol.design, study.protocol
    nominal = study_at_conditions(study, (0.0,), (1.0,))
    plain = _plain(design)
    with one_thread(), torch.no_grad():
        problem, played = played_problem(nominal, (plain,))
        plain = replace(plain, receiver_phase_rad=problem.receiver_phase_rad(played)[0])
    panels = []
    for shots, name in ((design.shots, "Designed"), ((plain,), design.baseline_name)):
        problem, lines = _lines(nominal, shots)
        axis = response_axis(problem.model, range_ppm, 0.25, [spec.linewidth_hz], (spec.target, *spec.interferers))
        full = axis.spectrum(spec.target, pulse_acquire(problem.model, spec.target).amplitude[None])
        combined = problem.combined(lines)
        for k, (each, shot) in enumerate(zip(combined, shots, strict=False)):
            kind = f"{name}, shot {k + 1}" if len(combined) > 1 else name
            kind += ", half the difference" if len(shots) > len(combined) else ""
            receiver = cmath.exp(-1j * shot.receiver_phase_rad) / float(full.abs().max())
            panels.append(
                SpectraPanel(
                    title=f"{kind}, TE {shot.te1_s * 1e3:.1f} + {shot.te2_s * 1e3:.1f} ms" if shot.te1_s > 0 else kind,
                    ppm=protocol.water_shift_ppm + axis.offset_hz.numpy() / protocol.spectrometer_frequency_hz * 1e6,
                    curves={
                        metabolite: (axis.spectrum(metabolite, each[metabolite])[0] * receiver).real.numpy()
                        for metabolite in axis.response
                    },
                )
            )
    return panels


def flat(metrics: Metrics) -> dict[str, float]:
    """Return every number of metrics that is there, those of `terms` and `bounds` as "terms window"."""
    numbers: dict[str, float] = {}
    for name, value in asdict(metrics).items():
        if isinstance(value, dict):
            numbers |= {f"{name} {key}": float(each) for key, each in value.items()}
        elif value is not None:
            numbers[name] = float(value)
    return numbers


def _plain(design: Design) -> DesignedShot:
    """Return the plain sequence that a design is compared with."""
    return DesignedShot(pulses={}, te1_s=design.press_te1_s, te2_s=design.press_te2_s)


def _lines(study: Study, shots: Sequence[DesignedShot]) -> tuple[Evaluator, list[Mapping[str, Tensor]]]:
    """Return the problem at the echo times of shots, and the line amplitudes of each."""
    with one_thread(), torch.no_grad():
        problem, played = played_problem(study, shots)
        return problem, [problem.amplitudes(shot) for shot in played]


def _reached(study: Study, shots: Sequence[DesignedShot], stored: Metrics) -> Reached:
    """Return what shots reach."""
    with one_thread(), torch.no_grad():
        problem, played = played_problem(study, shots)
        _, metrics = problem.loss_of_shots(played)
        return Reached(stored=stored, metrics=metrics, members=members_of(problem, played))


def _cell(value: float | None) -> str:
    """Return a number of a table."""
    return f"{'' if value is None else format(value, '.6f'):>13}"


def _number(value: float | None) -> str:
    """Return value or limit of a check."""
    return f"{'' if value is None else format(value, '.6g'):>13}"


def _member_columns(members: Members) -> dict[str, Tensor]:
    """Return the columns of the table of members."""
    return {
        "frequency_mhz": 1e-6 * members.frequency_hz,
        "b0_hz": members.b0_hz,
        "b1_scale": members.b1_scale,
        "linewidth_hz": members.linewidth_hz,
        "weight": members.weight,
        "signal": members.signal,
        "contamination": members.contamination(),
        "area_signal": members.area_signal,
        "area_contamination": members.area_contamination(),
        **{f"bound {name}": values for name, values in members.bounds.items()},
    }


def _extremes(members: Members) -> list[str]:
    """Return where signal is least and contamination most."""
    lines = []
    for name, values, worst in (
        ("least signal", members.signal, members.signal.argmin()),
        ("most contamination", members.contamination(), members.contamination().argmax()),
    ):
        k = int(worst)
        lines.append(
            f"Of {len(values)} members {name} {float(values[k]):.4f}: {float(members.frequency_hz[k]) / 1e6:g} "
            f"MHz, {float(members.b0_hz[k]):g} Hz, relative B1 "
            f"{float(members.b1_scale[k]):g}, linewidth {float(members.linewidth_hz[k]):g} Hz"
        )
    return lines


def _member_lines(members: Members) -> list[str]:
    """Return the table of members."""
    columns = _member_columns(members)
    width = {name: max(12, len(name) + 2) for name in columns}
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [
        "".join(f"{name:>{width[name]}}" for name in columns),
        *("".join(f"{value:>{size}.4f}" for value, size in zip(row, width.values(), strict=True)) for row in rows),
    ]


def _map_lines(found: ConditionMap, baseline: str) -> list[str]:
    """Return the tables of a map: rows of B1, columns of offset."""
    lines = []
    for title, pair in (("Design", found.edited), (baseline, found.press)):
        for name, values in zip(("signal", "contamination"), pair, strict=True):
            lines.append(f"{title}, {name}:")
            lines.append(f"{'B1, Hz':>8}" + "".join(f"{b0:9g}" for b0 in found.b0_offsets_hz))
            lines += [
                f"{b1:8g}" + "".join(f"{value:9.3f}" for value in row)
                for b1, row in zip(found.b1_scales, values, strict=True)
            ]
    return lines
