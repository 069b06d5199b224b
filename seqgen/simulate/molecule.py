"""Whole molecules through a shot: lines at the echo."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from seqgen.simulate.acquire import Lines, concatenate, lines
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import DEFAULT_POSITIONS_PER_SLICE, play, prepare, without_relaxation
from seqgen.simulate.pathways import alike_but_for_phases, principal_echo
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.simulate.relaxation import equal_for_all
from seqgen.spin.hamiltonian import molecule_models
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Timeline


def molecule_lines(
    shots: Sequence[Timeline],
    system: SpinSystem,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    members: Ensemble | None = None,
    time_zero_s: float | None = None,
    positions_per_slice: int = DEFAULT_POSITIONS_PER_SLICE,
    j_step_s: float = RESULT_J_STEP_S,
) -> Lines:
    """Return the lines of a molecule after the shots of one phase cycle, without relaxation.

    Args:
        shots: The shots of the cycle: their mean, receiver phases applied, is simulated. Where some leave out a pulse
            that others play (ISIS), it is averaged over the positions that it touches in both.
        system: The molecule.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency, ppm.
        members: Ensemble; default one member on resonance at nominal B1.
        time_zero_s: t = 0 of the lines; default the echo.
        positions_per_slice: Positions per slice thickness.
        j_step_s: Longest time between applications of the couplings in a pulse.

    Returns:
        Amplitudes of shape (E, n_lines), 1 per proton in a perfect voxel; frequencies in Hz above the spectrometer's.
    """
    groups = alike_but_for_phases(shots)
    fullest = max((group[0] for group in groups), key=_energy_hz2_s)
    zero = principal_echo(shots).time_s if time_zero_s is None and len(groups) > 1 else time_zero_s
    parts = []
    for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm):
        means = [
            play(
                prepare(
                    group,
                    model,
                    members,
                    time_zero_s=None if zero is None else zero + _later_s(group[0], shots[0]),
                    positions_per_slice=positions_per_slice,
                    j_step_s=j_step_s,
                    positions_as=fullest,
                )
            )
            for group in groups
        ]
        mean = sum((len(group) * rho for group, rho in zip(groups, means, strict=True)), torch.zeros_like(means[0]))
        parts.append(lines(mean / len(shots), model))
    return concatenate(parts)


def _later_s(shot: Timeline, reference: Timeline) -> float:
    """Return by how much a shot's readout opens later on its timeline: the first of a file has no delay before it."""
    return shot.readouts()[0][0] - reference.readouts()[0][0] if shot.readouts() and reference.readouts() else 0.0


def _energy_hz2_s(shot: Timeline) -> float:
    """Return the integral of |b1|^2 over all pulses of a shot."""
    return sum(float((pulse.b1_hz.detach().abs() ** 2).sum()) * pulse.dwell_s for _, pulse in shot.pulses())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RelaxationEffect:
    """What it changes to let every spin relax while long pulses play, instead of T2 over the whole echo time."""

    over_te: Lines
    """Lines with exp(-TE/T2): every state decays as transverse magnetisation does."""
    in_pulses: Lines
    """Lines with T1 and T2 of every spin during pulses of `localise.RELAXING_FROM_S` and more, T2 over all other TE."""
    relaxing_s: float
    """Total duration of those pulses, s; 0: there is none, and both are equal."""

    @property
    def difference(self) -> float:
        """Root of the summed squares of the lines' differences, relative to that of the lines with T2 over TE."""
        change = (self.in_pulses.amplitude - self.over_te.amplitude).norm()
        return float(change / self.over_te.amplitude.norm())

    @property
    def signal_ratio(self) -> float:
        """Size of all lines (root of summed squares) with relaxation in pulses over that with T2 over TE."""
        return float(self.in_pulses.amplitude.norm() / self.over_te.amplitude.norm())


def relaxation_effect(
    shots: Sequence[Timeline],
    system: SpinSystem,
    relaxation: Relaxation,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    members: Ensemble | None = None,
    positions_per_slice: int = DEFAULT_POSITIONS_PER_SLICE,
) -> RelaxationEffect:
    """Return the lines of a molecule at the echo with both treatments of relaxation; arguments as `molecule_lines`.

    Args:
        shots: The shots of one phase cycle.
        system: The molecule; every proton stays a spin 1/2 of its own.
        relaxation: T1 and T2 of all its spins.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency, ppm.
        members: Ensemble; default one member on resonance at nominal B1.
        positions_per_slice: Positions per slice thickness.
    """
    te_s = principal_echo(shots).te_s
    over_te, in_pulses, relaxing_s = [], [], 0.0
    for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm, total_spins=False):
        shot = prepare(
            shots,
            model,
            members,
            positions_per_slice=positions_per_slice,
            relaxation=equal_for_all(relaxation, model.group.n_spins),
        )
        relaxing_s = shot.relaxed_s
        over_te.append(lines(play(without_relaxation(shot)) * math.exp(-te_s / relaxation.t2_s), model))
        rest_s = te_s - relaxing_s
        in_pulses.append(lines(play(shot) * math.exp(-rest_s / relaxation.t2_s), model))
    return RelaxationEffect(over_te=concatenate(over_te), in_pulses=concatenate(in_pulses), relaxing_s=relaxing_s)
