"""From a pulse and echo times to the lines of every metabolite: the model that a design differentiates."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.sequence.double_echo import TIME_OF
from seqgen.simulate.acquire import Lines, concatenate
from seqgen.simulate.averaged import AveragedShot, average
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import PreparedPulse, free_phase, prepare
from seqgen.simulate.pathways import alike_but_for_phases, cycle_phases, cycle_weight, principal_echo
from seqgen.simulate.propagate import RESULT_J_STEP_S, pulse_propagator
from seqgen.simulate.slices import pulse_along_axis, slice_axis, slice_gradient
from seqgen.spin.hamiltonian import GroupModel, molecule_models
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Interval, Timeline

EDIT = "preparation"
"""`use` of editing pulses in a timeline."""
_PLAIN_PULSES = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlayedShot:
    """What one of the shots of a design plays."""

    b1_hz: Tensor | Mapping[str, Tensor] | None
    """Designed pulse, complex, shape (T,), the same at all places, or one for each place; None: no designed pulse."""
    te1_s: Tensor
    """First echo time, s."""
    te2_s: Tensor
    """Second echo time, s."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EchoModel:
    """A double echo, plain or with a designed pulse at one or two places, for several metabolites and an ensemble.

    The pulses of the localisation are computed once; the designed pulse and the echo times are variables. Every pulse
    keeps its part of TE1 and TE2 (`seqgen.sequence.double_echo.TIME_OF`).
    """

    shots: Mapping[str, tuple[AveragedShot, ...]]
    """Shots of every group of every metabolite, all but the designed pulse averaged, from the excitation on: they start
    from the thermal state, or from what ISIS keeps of it."""
    relaxation: Mapping[str, Relaxation]
    """T2 of every metabolite counts over TE."""
    members: Ensemble
    """The ensemble."""
    time_of: tuple[tuple[float, float], ...]
    """(part of TE1, part of TE2) at which every pulse, and last the echo, stands after the excitation."""
    edit_indices: tuple[int, ...]
    """Indices of the designed pulse among the pulses; empty: a plain double echo."""
    edit_places: tuple[str, ...]
    """The places of those pulses, names of `TIME_OF`."""
    needs_waveform: bool
    """Whether the template's own pulses there are stand-ins; the excitation of a plain template is none."""
    te1_s: float
    """First echo time of the template, s."""
    te2_s: float
    """Second echo time of the template, s."""
    reference_ppm: float
    """Chemical shift at the spectrometer frequency, ppm."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    j_step_s: float
    """J step of the designed pulse, s."""
    has_echo_times: bool = True
    """Echo times are variables."""

    def molecule_lines(
        self,
        name: str,
        b1_hz: Tensor | Mapping[str, Tensor] | None,
        dwell_s: float,
        carrier_hz: float,
        te1_s: Tensor,
        te2_s: Tensor,
    ) -> Lines:
        """Return the lines at the echo, T2 decay over TE included, for every member: amplitude (E, n_lines).

        Args:
            name: Metabolite.
            b1_hz: Designed pulse in its carrier frame, Hz, complex, shape (T,), the same at all of its places, or one
                for each place by name; None for a plain double echo, with the excitation of the template.
            dwell_s: Its dwell, s.
            carrier_hz: Its carrier minus the spectrometer frequency, Hz; the phase is zero at the pulse's centre.
            te1_s: First echo time, s, shape (), or (B,) for B timings at once.
            te2_s: Second echo time, s, shape () or (B,).

        Returns:
            Amplitude of shape (E, n_lines), or (B, E, n_lines) for several timings.

        Raises:
            InputError: If the model has editing pulses, but there is no waveform, or the other way round.
        """
        if b1_hz is None and self.needs_waveform:
            raise InputError("This model has an editing pulse: give its waveform b1_hz.")
        if b1_hz is not None and not self.edit_indices:
            raise InputError("This model has no place for an editing pulse: give None for b1_hz.")
        parts = []
        for shot in self.shots[name]:
            replaced = None
            if b1_hz is not None:
                replaced = self._edits(shot.model, b1_hz, dwell_s, carrier_hz)
            parts.append(shot.lines(replaced=replaced, delays_s=self._delays_s(shot, te1_s, te2_s)))
        whole = concatenate(parts)
        decay = torch.exp(-(te1_s + te2_s) / self.relaxation[name].t2_s)
        return Lines(amplitude=whole.amplitude * decay[..., None, None], frequency_hz=whole.frequency_hz)

    def _delays_s(self, shot: AveragedShot, te1_s: Tensor, te2_s: Tensor) -> list[float | Tensor]:
        """Return the free delay after every pulse, s; one that a time does not move keeps its shape."""
        delays: list[float | Tensor] = []
        for least_s, here, later in zip(shot.delays_s, self.time_of, self.time_of[1:], strict=False):
            delay: float | Tensor = least_s
            for part, longer_s in ((later[0] - here[0], te1_s - self.te1_s), (later[1] - here[1], te2_s - self.te2_s)):
                delay = delay + part * longer_s if part else delay
            delays.append(delay)
        return delays

    def _edits(
        self, model: GroupModel, b1_hz: Tensor | Mapping[str, Tensor], dwell_s: float, carrier_hz: float
    ) -> dict[int, Tensor]:
        """Return the propagators of the designed pulses of a group by their index among the pulses."""
        made: dict[int, Tensor] = {}  # a waveform at two places is computed once
        propagators = {}
        for index, place in zip(self.edit_indices, self.edit_places, strict=True):
            waveform = b1_hz if isinstance(b1_hz, Tensor) else b1_hz[place]
            if id(waveform) not in made:
                made[id(waveform)] = edit_propagator(model, self.members, waveform, dwell_s, carrier_hz, self.j_step_s)
            propagators[index] = made[id(waveform)]
        return propagators


def edit_propagator(
    model: GroupModel, members: Ensemble, b1_hz: Tensor, dwell_s: float, carrier_hz: float, j_step_s: float
) -> Tensor:
    """Return the propagator of the editing pulse in the eigenbasis, shape (E, 1, d, d)."""
    u = pulse_propagator(
        model,
        b1_hz[None],
        dwell_s,
        offset_hz=members.offset_hz - carrier_hz,
        b1_scale=members.b1_scale,
        j_step_s=j_step_s,
    )
    vectors = model.eigenvectors.to(u.dtype)
    m = model.order[:, 0].to(torch.float64)
    # From the carrier frame, in phase with the spectrometer frame at the centre of the pulse, back to the latter.
    half_turn = torch.exp(-2j * math.pi * carrier_hz * 0.5 * b1_hz.shape[0] * dwell_s * m)
    return (half_turn[:, None] * (vectors.mT @ u @ vectors) * half_turn[None, :])[:, None]


def echo_model(
    template: Sequence[Timeline],
    systems: Mapping[str, SpinSystem],
    relaxation: Mapping[str, Relaxation],
    members: Ensemble,
    *,
    places: Collection[str] = ("echo_top",),
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    positions_per_slice: int,
    j_step_s: float = RESULT_J_STEP_S,
) -> EchoModel:
    """Prepare a double echo, plain or with a stand-in for the designed pulse, for design.

    Where inversions precede the excitation (ISIS), what the steps keep of them is the state before the excitation.

    Args:
        template: The shots of one phase cycle without water suppression.
        systems: Metabolites by name.
        relaxation: Their relaxation times.
        members: Ensemble.
        places: Where the designed pulse stands, names of `seqgen.sequence.double_echo.TIME_OF`. A template without
            editing pulses is plain.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency (water), ppm.
        positions_per_slice: See `prepare`.
        j_step_s: J step of the designed pulse; the others, computed once, have that of results.

    Raises:
        InputError: If the timeline is not an excitation and two refocusing pulses, alone or with editing pulses at
            `places`, or does not excite everything although the designed pulse is to excite.
    """
    groups = alike_but_for_phases(template)
    shots = [_from_excitation(shot) for shot in min(groups, key=lambda group: _energy_hz2_s(group[0]))]
    names = _pulse_names(template[0], shots[0], places)
    times = [time for time, _ in shots[0].pulses()]
    te1_s = 2 * (times[names.index("first")] - times[0])
    edit_indices = tuple(k for k, name in enumerate(names) if name in places)
    averaged: dict[str, tuple[AveragedShot, ...]] = {}
    for name, system in systems.items():
        shots_of_groups = []
        for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm):
            one = prepare(shots, model, members, positions_per_slice=positions_per_slice)
            start = None if len(groups) == 1 else _kept_by_isis(groups, shots, model, members, positions_per_slice)
            shots_of_groups.append(average(one, start=start, variable=edit_indices))
        averaged[name] = tuple(shots_of_groups)
    return EchoModel(
        shots=averaged,
        relaxation=relaxation,
        members=members,
        time_of=tuple(TIME_OF[name] for name in (*names, "echo")),
        edit_indices=edit_indices,
        edit_places=tuple(name for name in names if name in places),
        needs_waveform=len(names) > _PLAIN_PULSES,
        te1_s=te1_s,
        te2_s=principal_echo(shots).te_s - te1_s,
        reference_ppm=reference_ppm,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        j_step_s=j_step_s,
    )


def _pulse_names(whole: Timeline, shot: Timeline, places: Collection[str]) -> list[str]:
    """Return the names of the pulses of a shot from its excitation on; refuse what is no double echo."""
    plain = {"excitation": "excitation", "first": "refocusing", "second": "refocusing"}
    used = plain | {place: EDIT for place in places if place not in plain}
    before = [interval.use for _, interval in whole.pulses()][: -len(shot.pulses())]
    found = [interval.use for _, interval in shot.pulses()]
    for use_of in (used, plain):
        names = [name for name in TIME_OF if name in use_of]
        if found == [use_of[name] for name in names] and before in ([], ["inversion"]):
            break
    else:
        raise InputError(
            f"A design at {' and '.join(places)} needs a PRESS shot (excitation, two refocusing pulses, editing pulses "
            f"there or none), but timeline {whole.name!r} plays "
            f"{', '.join(str(interval.use) for _, interval in whole.pulses())}. Switch water suppression off for the "
            "template, and choose the sequence for the place."
        )
    if "excitation" in places and slice_gradient(shot.pulses()[0][1]) is not None:
        raise InputError(
            f"A designed excitation needs a sequence that excites everything, but timeline {whole.name!r} selects a "
            "slice with it. Use isis_press."
        )
    return names


def _from_excitation(shot: Timeline) -> Timeline:
    """Return a shot without the pulses before its excitation and what lies between."""
    uses = [interval.use for interval in shot.intervals]
    if "excitation" not in uses or not any(uses[: uses.index("excitation")]):
        return shot
    return replace(shot, intervals=shot.intervals[uses.index("excitation") :])


def _kept_by_isis(
    groups: Sequence[Sequence[Timeline]],
    kept: Sequence[Timeline],
    model: GroupModel,
    members: Ensemble,
    positions_per_slice: int,
) -> Tensor:
    """Return the state before the excitation that a cycle with and without inversion adds up, shape (E, d, d).

    The rest of a shot does not select along the axis of the inversion, so it acts on the mean over its positions, which
    are those of the shots that play it in full. The spoiler after it leaves order 0.

    Args:
        groups: The shots with each inversion.
        kept: The shots, from the excitation on, that the rest is simulated with.
        model: The spin group.
        members: Ensemble.
        positions_per_slice: See `prepare`.
    """
    echo = principal_echo(kept).pathway
    fullest = max((group[0] for group in groups), key=_energy_hz2_s).pulses()[0][1]
    axis = slice_axis(model, [fullest], members=members, positions_per_slice=positions_per_slice)
    total = torch.zeros_like(model.initial_state).expand(members.size, -1, -1)
    for group in groups:
        (start_s, inversion), (excited_s, _) = _starts(group[0])[:2]
        pulse = PreparedPulse(
            propagator=pulse_along_axis(model, inversion, members, axis, RESULT_J_STEP_S), position_weight=axis.weight
        )
        after = pulse.apply(model.initial_state.expand(members.size, -1, -1)) * (model.order == 0)
        free_s = excited_s - start_s - inversion.duration_s
        # The same steps with another receiver phase: their weight against the shots that the rest is simulated with.
        phases = cycle_phases([kept[0], *(_from_excitation(shot) for shot in group)])[1:]
        weight = cycle_weight(echo.orders, phases) / echo.cycle_weight
        total = total + weight * len(group) * after * free_phase(model, members, free_s)
    return total / sum(len(group) for group in groups)


def _starts(shot: Timeline) -> list[tuple[float, Interval]]:
    """Return the pulses of a shot with the times at which they begin, s."""
    pairs = zip(shot.start_s, shot.intervals, strict=True)
    return [(start_s, interval) for start_s, interval in pairs if interval.use is not None]


def _energy_hz2_s(shot: Timeline) -> float:
    """Return the integral of |b1|^2 over all pulses of a shot."""
    return sum(float((pulse.b1_hz.abs() ** 2).sum()) * pulse.dwell_s for _, pulse in shot.pulses())
