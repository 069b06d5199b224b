"""From a pulse and echo times to the lines of every metabolite: the model that a design differentiates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.errors import InputError
from seqgen.simulate.acquire import Lines, concatenate, lines
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import PreparedShot, play, prepare
from seqgen.simulate.pathways import principal_echo
from seqgen.simulate.propagate import RESULT_J_STEP_S, pulse_propagator
from seqgen.spin.hamiltonian import GroupModel, molecule_models
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Timeline

EDIT = "preparation"
"""`use` of the editing pulse in a timeline."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EchoModel:
    """PRESS, plain or with an editing pulse at its first echo top, for several metabolites and an ensemble.

    The pulses of the localisation are computed once; editing pulse and echo times are variables.
    """

    shots: Mapping[str, tuple[PreparedShot, ...]]
    """Prepared shots of every group of every metabolite."""
    relaxation: Mapping[str, Relaxation]
    """T2 of every metabolite counts over TE."""
    members: Ensemble
    """The ensemble."""
    edit_index: int | None
    """Index of the editing pulse among the pulses; None: plain PRESS."""
    te1_s: float
    """First echo time of the template, s."""
    te2_s: float
    """Second echo time of the template, s."""
    reference_ppm: float
    """Chemical shift at the spectrometer frequency, ppm."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    j_step_s: float
    """J step of the editing pulse, s."""

    def molecule_lines(
        self, name: str, b1_hz: Tensor | None, dwell_s: float, carrier_hz: float, te1_s: Tensor, te2_s: Tensor
    ) -> Lines:
        """Return the lines at the echo, T2 decay over TE included, for every member: amplitude (E, n_lines).

        Args:
            name: Metabolite.
            b1_hz: Editing pulse in its carrier frame, Hz, complex, shape (T,); None for plain PRESS.
            dwell_s: Its dwell, s.
            carrier_hz: Its carrier minus the spectrometer frequency, Hz; the phase is zero at the pulse's centre.
            te1_s: First echo time, s.
            te2_s: Second echo time, s.
        """
        parts = []
        for shot in self.shots[name]:
            shift_1, shift_2 = 0.5 * (te1_s - self.te1_s), 0.5 * (te2_s - self.te2_s)
            delays: list[float | Tensor]
            if self.edit_index is None:
                delays = [
                    shot.delays_s[0] + shift_1,
                    shot.delays_s[1] + shift_1 + shift_2,
                    shot.delays_s[2] + shift_2,
                ]
                rho = play(shot, delays_s=delays)
            else:
                if b1_hz is None:
                    raise InputError("This model has an editing pulse at the echo top: give its waveform b1_hz.")
                shifts = (shift_1, shift_1, shift_2, shift_2)
                delays = [delay + shift for delay, shift in zip(shot.delays_s, shifts, strict=True)]
                u = edit_propagator(shot.model, self.members, b1_hz, dwell_s, carrier_hz, self.j_step_s)
                rho = play(shot, replaced={self.edit_index: u}, delays_s=delays)
            parts.append(lines(rho, shot.model))
        whole = concatenate(parts)
        decay = torch.exp(-(te1_s + te2_s) / self.relaxation[name].t2_s)
        return Lines(amplitude=whole.amplitude * decay, frequency_hz=whole.frequency_hz)


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
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    positions_per_slice: int,
    j_step_s: float = RESULT_J_STEP_S,
) -> EchoModel:
    """Prepare a PRESS timeline, plain or with a stand-in editing pulse, for design.

    Args:
        template: The shots of one phase cycle without water suppression.
        systems: Metabolites by name.
        relaxation: Their relaxation times.
        members: Ensemble.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency (water), ppm.
        positions_per_slice: See `prepare`.
        j_step_s: J step of the editing pulse; the others, computed once, have that of results.

    Raises:
        InputError: If the timeline is not a PRESS of three pulses, or four with the editing pulse third.
    """
    pulses = template[0].pulses()
    uses = [interval.use for _, interval in pulses]
    if uses not in (["excitation", "refocusing", "refocusing"], ["excitation", "refocusing", EDIT, "refocusing"]):
        raise InputError(
            "A design at the echo top needs a PRESS shot (excitation, refocusing, [editing], refocusing), but "
            f"timeline {template[0].name!r} plays {', '.join(str(use) for use in uses)}. Switch water suppression off "
            "for the template."
        )
    times = [time for time, _ in pulses]
    refocusing = [time for time, interval in pulses if interval.use == "refocusing"]
    te1_s = 2 * (refocusing[0] - times[0])
    shots: dict[str, tuple[PreparedShot, ...]] = {}
    for name, system in systems.items():
        shots[name] = tuple(
            prepare(
                template,
                model,
                members,
                positions_per_slice=positions_per_slice,
            )
            for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm)
        )
    return EchoModel(
        shots=shots,
        relaxation=relaxation,
        members=members,
        edit_index=uses.index(EDIT) if EDIT in uses else None,
        te1_s=te1_s,
        te2_s=principal_echo(template).te_s - te1_s,
        reference_ppm=reference_ppm,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        j_step_s=j_step_s,
    )
