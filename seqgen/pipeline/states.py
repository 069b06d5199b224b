"""`seqgen states`: the spin state that a `.seq` prepares, in product operators, and how near it comes to the bounds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.errors import InputError
from seqgen.model.lineshape import lorentz_response
from seqgen.pipeline.scan import require_own_seq
from seqgen.pipeline.study import Study
from seqgen.report.canvas import save_figure
from seqgen.report.states import states_figure
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.shots import shots
from seqgen.simulate.molecule import RelaxationEffect, relaxation_effect
from seqgen.simulate.observables import (
    expectation,
    peak_height_bound,
    peak_height_operator,
    reachable_window_energy,
    window_area_bound,
    window_area_operator,
    window_energy,
    window_energy_bound,
    window_energy_matrix,
)
from seqgen.simulate.trajectory import (
    Trajectory,
    received,
    require_spins_one_half,
    to_eigenbasis,
    to_product_basis,
    trajectory,
)
from seqgen.spin.bounds import Bound, coefficient_bound, fraction_reached, no_bound
from seqgen.spin.hamiltonian import GroupModel, group_model
from seqgen.spin.operators import spin_operator, total_operator
from seqgen.spin.product_operators import Term, expand, largest, to_text
from seqgen.spin.system import PROTON_SHIFT_PPM, SpinGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """One observable: its bound, and what the file reaches."""

    bound: Bound
    """The bound."""
    value: float | None
    """The same quantity at the echo, without relaxation; None where nothing was computed."""
    pulse_acquire: float | None
    """The same quantity after a perfect 90-degree pulse."""
    note: str = ""
    """What to know about the row."""

    @property
    def fraction(self) -> float | None:
        """Value over bound."""
        return None if self.value is None else fraction_reached(self.bound, self.value)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class States:
    """The state of one spin group at the echo of a file."""

    seq_name: str
    """The file."""
    group: SpinGroup
    """The spin group."""
    metabolite: str
    """Its metabolite."""
    te_s: float
    """Echo time, s."""
    volume: float
    """See `Trajectory.volume`."""
    expression: str
    """The state as text, plain product operators; `parse_operator` reads it."""
    terms: tuple[Term, ...]
    """Its largest terms, plain product operators."""
    ernst: tuple[complex, ...]
    """Coefficients of the same terms in the normalisation of Ernst."""
    reached: tuple[Reached, ...]
    """Observables and their bounds."""
    whole: str
    """The state right after the pulse of a pulse-acquire, every coherence order, before the receiver; else empty."""
    relaxation: RelaxationEffect
    """What relaxation does to the whole metabolite: T2 over TE, or spin by spin during long pulses."""

    @property
    def text(self) -> str:
        """The tables for a terminal."""
        spins = ", ".join(f"I{k} {label}" for k, label in enumerate(self.group.labels, 1))
        lines = [
            f"{self.metabolite}, {self.group.name} ({spins})",
            f"State at the {'readout' if self.whole else 'echo'} of {self.seq_name}, TE {self.te_s * 1e3:.2f} ms, "
            "receiver phase applied, no relaxation",
            "(the thermal state is the sum of Iz)",
            f"{'term':22}{'coefficient':>12}{'2^(q-1) products':>18}{'share of norm':>15}",
        ]
        lines += [
            f"{term.name:22}{term.coefficient.real:12.3f}{ernst.real:18.3f}{term.share:15.1%}"
            for term, ernst in zip(self.terms, self.ernst, strict=True)
        ]
        if self.whole:
            lines += ["", f"Right after the pulse, every coherence order: {self.whole}"]
        lines += ["", f"{'observable':46}{'reached':>11}{'bound':>11}{'fraction':>10}{'after a 90':>12}"]
        lines += [
            f"{row.bound.observable:46}{_cell(row.value)}{_cell(row.bound.value)}"
            f"{'' if row.fraction is None else format(row.fraction, '.1%'):>10}"
            f"{_cell(row.pulse_acquire):>12}  {row.note}"
            for row in self.reached
        ]
        lines.append(
            "Bounds: unitary evolution of the nominal voxel (Sorensen 1989). The pulses touch "
            f"{self.volume:.1f} times its volume, which the state sums over."
        )
        lines.append(self._relaxation_line())
        return "\n".join(line.rstrip() for line in lines)

    def _relaxation_line(self) -> str:
        """Return a sentence on relaxation during pulses."""
        effect = self.relaxation
        if effect.relaxing_s == 0:
            return "Relaxation during pulses: no pulse after the excitation is long enough to count; T2 over TE."
        return (
            f"Relaxation: with T1 and T2 of every spin during {effect.relaxing_s * 1e3:g} ms of long pulses, instead\n"
            f"of T2 over all of TE, the lines of {self.metabolite} are {effect.signal_ratio:.3f} times as large and "
            f"differ by {effect.difference:.1%}\n(root of summed squares)."
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "seq": self.seq_name,
            "metabolite": self.metabolite,
            "group": self.group.name,
            "spins": list(self.group.labels),
            "te_s": self.te_s,
            "touched_volume": self.volume,
            "state": self.expression,
            "whole_state": self.whole,
            "terms": [
                {
                    "name": term.name,
                    "coefficient": term.coefficient.real,
                    "coefficient_ernst": ernst.real,
                    "share": term.share,
                }
                for term, ernst in zip(self.terms, self.ernst, strict=True)
            ],
            "observables": [
                {
                    "name": row.bound.observable,
                    "reached": row.value,
                    "bound": row.bound.value,
                    "kind": row.bound.kind,
                    "fraction": row.fraction,
                    "pulse_acquire": row.pulse_acquire,
                    "sentence": row.bound.sentence,
                    "note": row.note,
                }
                for row in self.reached
            ],
            "relaxation": {
                "relaxing_s": self.relaxation.relaxing_s,
                "signal_ratio": self.relaxation.signal_ratio,
                "difference": self.relaxation.difference,
            },
        }


def states(
    study: Study,
    seq_path: Path,
    metabolite: str,
    group: str | None = None,
    *,
    output: Path | None = None,
    peak_ppm: float | None = None,
    count: int = 12,
) -> States:
    """Play a `.seq` to one spin group of a metabolite and analyse the state at the echo.

    Args:
        study: The protocol; its window and line width define the observables of the spectrum.
        seq_path: A `.seq` that was built from it.
        metabolite: One of the sample's metabolites.
        group: Name of its spin group; may be left out where there is one.
        output: Figure of the state against time, .png or .svg; None: no figure.
        peak_ppm: Where the peak height is read; default the highest point in the window after a perfect 90-degree
            pulse.
        count: Most terms in the table.

    Raises:
        InputError: If metabolite or group does not exist, the group has spins other than 1/2, or the file belongs to
            another protocol.
    """
    chosen = _group(study, metabolite, group)
    protocol = study.protocol
    model = group_model(chosen, protocol.spectrometer_frequency_hz, protocol.water_shift_ppm)
    require_spins_one_half(model)
    seq = require_own_seq(study, seq_path)
    cycle = phase_cycle(shots(seq))
    played = trajectory(cycle, model)
    if output is not None:
        save_figure(states_figure(played, title=f"{metabolite}, {chosen.name}: {seq.name}"), output)
    echo = received(played)[0]
    plain, ernst = expand(echo), expand(echo, "ernst").coefficients
    terms = largest(plain, count)
    return States(
        seq_name=seq.name,
        group=chosen,
        metabolite=metabolite,
        te_s=played.te_s,
        volume=played.volume,
        expression=to_text(plain, decimals=4),
        terms=terms,
        ernst=tuple(complex(ernst[plain.names.index(term.name)]) for term in terms),
        whole=_whole(played),
        reached=(*_coherences(played, echo), *_spectrum(study, model, echo, peak_ppm), *_unbounded()),
        relaxation=relaxation_effect(
            cycle,
            study.systems[metabolite],
            study.relaxation[metabolite],
            spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
            reference_ppm=protocol.water_shift_ppm,
        ),
    )


def _group(study: Study, metabolite: str, group: str | None) -> SpinGroup:
    """Return a spin group by name."""
    systems = study.systems
    if metabolite not in systems:
        raise InputError(f"{study.path} has no metabolite {metabolite!r}. Its sample holds {', '.join(systems)}.")
    groups = {found.name: found for found in systems[metabolite].groups}
    if group is None and len(groups) == 1:
        return next(iter(groups.values()))
    if group is None or group not in groups:
        asked = "was not named" if group is None else f"{group!r} does not exist"
        raise InputError(f"The spin group of {metabolite} {asked}. Name one of {', '.join(groups)}.")
    return groups[group]


def _whole(played: Trajectory) -> str:
    """Return the state at the end of a single pulse without slice, before coherence orders are selected."""
    if len(played.pulses) != 1 or played.pulses[0].selective:
        return ""
    at = int((played.time_s >= played.pulses[0].end_s - 1e-12).nonzero()[0, 0])
    return to_text(expand(played.states[at, 0]), decimals=4)


def _coherences(played: Trajectory, echo: Tensor) -> list[Reached]:
    """Return in-phase coherence of every proton, and of all together, whatever its phase."""
    model = played.model
    n, thermal = model.group.n_spins, to_product_basis(model.initial_state, model)
    protons = tuple(k for k in range(n) if model.group.nuclei[k] == "1H")
    rows = []
    for spins in [(k,) for k in protons] + ([protons] if len(protons) > 1 else []):
        x, y = (total_operator(n, axis, spins) if len(spins) > 1 else spin_operator(n, spins[0], axis) for axis in "xy")
        power = float((x.abs() ** 2).sum())
        value = float(torch.hypot(expectation(echo, x), expectation(echo, y))) / power
        name = f"in-phase coherence of I{spins[0] + 1} {model.group.labels[spins[0]]}"
        if len(spins) > 1:
            name = "in-phase coherence of all"
        bound = coefficient_bound(x, thermal, observable=name)
        rows.append(Reached(bound=bound, value=value, pulse_acquire=1.0, note="coefficient, any phase"))
    return rows


def _spectrum(study: Study, model: GroupModel, echo: Tensor, peak_ppm: float | None) -> list[Reached]:
    """Return peak height, window area and window energy of the protocol's window."""
    protocol, fwhm_hz = study.protocol, study.protocol.design.linewidth_hz
    f0_hz, reference_ppm = protocol.spectrometer_frequency_hz, protocol.water_shift_ppm
    low, high = protocol.design.window_ppm
    window_hz = (ppm_to_hz(low, f0_hz, reference_ppm), ppm_to_hz(high, f0_hz, reference_ppm))
    transverse = _after_90(model)
    peak_hz = _highest(model, transverse, window_hz, fwhm_hz)
    if peak_ppm is not None:
        _require_ppm(peak_ppm)
        peak_hz = ppm_to_hz(peak_ppm, f0_hz, reference_ppm)
    rho = to_eigenbasis(echo, model)
    at = f"at {reference_ppm + peak_hz / f0_hz * 1e6:.3f} ppm"
    within = f"{low:g} to {high:g} ppm"
    rows = []
    for q, bound in (
        (
            peak_height_operator(model, peak_hz, fwhm_hz),
            peak_height_bound(model, peak_hz, fwhm_hz, observable=f"peak height {at} (1/Hz)"),
        ),
        (
            window_area_operator(model, window_hz, fwhm_hz),
            window_area_bound(model, window_hz, fwhm_hz, observable=f"window area {within}"),
        ),
    ):
        value, simple = float(expectation(rho, q)), float(expectation(transverse, q))
        rows.append(Reached(bound=bound, value=value, pulse_acquire=simple, note=f"lines of {fwhm_hz:g} Hz"))
    matrix = window_energy_matrix(model, window_hz, fwhm_hz)
    found = reachable_window_energy(model, window_hz, fwhm_hz)
    energy = Reached(
        bound=window_energy_bound(model, window_hz, fwhm_hz, observable=f"window energy {within} (1/Hz)"),
        value=float(window_energy(rho, model, matrix)),
        pulse_acquire=float(window_energy(transverse, model, matrix)),
        note=f"upper bound, not necessarily reachable; some unitary reaches {found:.4g}",
    )
    return [*rows, energy]


def _require_ppm(peak_ppm: float) -> None:
    """Refuse what is no shift of 1H."""
    low, high = PROTON_SHIFT_PPM
    if not low <= peak_ppm <= high:
        raise InputError(f"The peak must lie between {low:g} and {high:g} ppm, but is {peak_ppm}. Give a shift in ppm.")


def _unbounded() -> list[Reached]:
    """Return what no bound is known for."""
    return [Reached(bound=no_bound("Cramer-Rao bounds, correlations"), value=None, pulse_acquire=None, note="no bound")]


def _after_90(model: GroupModel) -> Tensor:
    """Return sum Ix of the protons in the eigenbasis: the state after a perfect 90-degree pulse."""
    protons = tuple(k for k in range(model.group.n_spins) if model.group.nuclei[k] == "1H")
    return to_eigenbasis(total_operator(model.group.n_spins, "x", protons), model)


def _highest(model: GroupModel, rho: Tensor, window_hz: tuple[float, float], fwhm_hz: float) -> float:
    """Return the frequency in the window where the absorption spectrum of a state is highest, on a grid of 0.1 Hz."""
    axis = torch.arange(window_hz[0], window_hz[1], 0.1, dtype=torch.float64)
    amplitude = rho[model.transition[:, 0], model.transition[:, 1]] * model.transition_weight
    spectrum = amplitude @ lorentz_response(model.transition_hz, axis, fwhm_hz)
    return float(axis[spectrum.real.argmax()])


def _cell(value: float | None) -> str:
    """Return a number for a column of the table, blank for None."""
    return f"{'' if value is None else format(value, '.4g'):>11}"
