r"""A designed pulse alone, without localisation: lines and density matrix right after it.

t = 0 of the lines is the end of the pulse. Nothing relaxes while it plays, and there are no echo times: the model takes
them, as that of an echo does, and leaves them alone.

The overlap with a Hermitian product operator Q is taken from the density matrix, whatever the receiver sees of it:

    b = Tr(rho Q) / sqrt(Tr(Q^2) Tr(Fz^2)),

with its sign and without any freedom of phase, the same for every member of an ensemble: the phase of the whole pulse,
which turns order p of the state by p times as much, is the optimiser's own, and no phase of transmitter or receiver
turns x into y in a zero-quantum coherence. Its largest value under unitaries is `spin.bounds.overlap_bound`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from seqgen.design.forward import EchoModel, echo_model, edit_propagator
from seqgen.design.state_target import StateTarget, chosen_group, hermitian_operator, state_target
from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.simulate.acquire import Lines, concatenate, lines
from seqgen.simulate.ensemble import Ensemble
from seqgen.simulate.localise import PreparedShot, play, prepare
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.simulate.slices import slice_gradient
from seqgen.simulate.trajectory import to_eigenbasis, to_product_basis
from seqgen.spin.bounds import overlap_bound
from seqgen.spin.hamiltonian import GroupModel, molecule_models
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Timeline

PLACE = "excitation"
"""Where the designed pulse stands."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PulseAcquireModel:
    """One non-selective pulse, the template's own or a designed one, for several metabolites and an ensemble."""

    shots: Mapping[str, tuple[PreparedShot, ...]]
    """Prepared shot of every group of every metabolite: the template's pulse."""
    members: Ensemble
    """The ensemble."""
    reference_ppm: float
    """Chemical shift at the spectrometer frequency, ppm."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    j_step_s: float
    """J step of the designed pulse, s."""
    has_echo_times: bool = False
    """Echo times are no variables."""
    needs_waveform: bool = False
    """Without a waveform the template's own pulse plays."""

    def molecule_lines(
        self,
        name: str,
        b1_hz: Tensor | Mapping[str, Tensor] | None,
        dwell_s: float,
        carrier_hz: float,
        te1_s: Tensor,
        te2_s: Tensor,
    ) -> Lines:
        """Return the lines right after the pulse for every member: amplitude (E, n_lines).

        Args:
            name: Metabolite.
            b1_hz: Designed pulse in its carrier frame, Hz, complex, shape (T,), or by its place; None: the template's.
            dwell_s: Its dwell, s.
            carrier_hz: Its carrier minus the spectrometer frequency, Hz; the phase is zero at the pulse's centre.
            te1_s: Of no effect.
            te2_s: Of no effect.
        """
        parts = []
        for shot in self.shots[name]:
            replaced = None
            if b1_hz is not None:
                replaced = {0: self._propagator(shot.model, b1_hz, dwell_s, carrier_hz)}
            parts.append(lines(play(shot, replaced=replaced), shot.model))
        return concatenate(parts)

    def state(
        self, name: str, group: int, b1_hz: Tensor | Mapping[str, Tensor] | None, dwell_s: float, carrier_hz: float
    ) -> Tensor:
        """Return the density matrix right after the pulse in the eigenbasis, all coherence orders, shape (E, d, d).

        Args:
            name: Metabolite.
            group: Index of its spin group.
            b1_hz: As of `molecule_lines`, like the others.
            dwell_s: Dwell, s.
            carrier_hz: Carrier, Hz.
        """
        shot = self.shots[name][group]
        u = shot.pulses[0].propagator if b1_hz is None else self._propagator(shot.model, b1_hz, dwell_s, carrier_hz)
        state: Tensor = u[:, 0] @ shot.model.initial_state @ u[:, 0].mH
        return state

    def _propagator(
        self, model: GroupModel, b1_hz: Tensor | Mapping[str, Tensor], dwell_s: float, carrier_hz: float
    ) -> Tensor:
        waveform = b1_hz if isinstance(b1_hz, Tensor) else b1_hz[PLACE]
        return edit_propagator(model, self.members, waveform, dwell_s, carrier_hz, self.j_step_s)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DensityTarget:
    """A product operator of one spin group, compared with the whole density matrix."""

    text: str
    """The expression."""
    group: int
    """Index of the spin group in its molecule."""
    detector: Tensor
    """C with overlap = Re Tr(rho C), in the eigenbasis, shape (d, d)."""
    maximum: float
    """The largest overlap that a unitary reaches from the thermal state Fz."""

    def overlap(self, rho: Tensor) -> Tensor:
        """Return b of states in the eigenbasis (E, d, d), shape (E,)."""
        return (rho * self.detector.mT).sum((-2, -1)).real


def density_target(models: Sequence[GroupModel], text: str, group: str = "") -> DensityTarget:
    """Read a product operator of a molecule, of any coherence order.

    Args:
        models: The models of its groups.
        text: The expression (`spin.product_operators.parse_operator`), spins numbered as the group's labels.
        group: Name of the group; may be left out where there is only one.

    Raises:
        InputError: If there is no such group, it holds spins other than 1/2, or the operator is zero or not Hermitian.
    """
    index = chosen_group(models, text, group)
    model = models[index]
    q = hermitian_operator(text, model)
    size = float((q.abs() ** 2).sum() * (model.initial_state.abs() ** 2).sum()) ** 0.5
    thermal = to_product_basis(model.initial_state, model)
    return DensityTarget(
        text=text,
        group=index,
        detector=to_eigenbasis(q, model) / size,
        maximum=float(overlap_bound(q, thermal).value or 0.0),
    )


def design_state(
    model: EchoModel | PulseAcquireModel, name: str, text: str, group: str = ""
) -> StateTarget | DensityTarget:
    """Return a wanted state: of a pulse alone a part of the density matrix, of an echo one of the lines."""
    models = [shot.model for shot in model.shots[name]]
    if isinstance(model, PulseAcquireModel):
        return density_target(models, text, group)
    return state_target(models, text, group)


def design_model(
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
) -> EchoModel | PulseAcquireModel:
    """Prepare what a template plays: one pulse alone, or a double echo. Arguments as of `echo_model`.

    Raises:
        InputError: If the template is neither.
    """
    if len(template[0].pulses()) == 1:
        return pulse_acquire_model(
            template,
            systems,
            members,
            places=places,
            spectrometer_frequency_hz=spectrometer_frequency_hz,
            reference_ppm=reference_ppm,
            j_step_s=j_step_s,
        )
    return echo_model(
        template,
        systems,
        relaxation,
        members,
        places=places,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        reference_ppm=reference_ppm,
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
    )


def pulse_acquire_model(
    template: Sequence[Timeline],
    systems: Mapping[str, SpinSystem],
    members: Ensemble,
    *,
    places: Collection[str] = ("excitation",),
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    j_step_s: float = RESULT_J_STEP_S,
) -> PulseAcquireModel:
    """Prepare a pulse alone for design.

    Args:
        template: The shots of one phase cycle, one pulse each: a hard pulse, or a stand-in for the designed one.
        systems: Metabolites by name.
        members: Ensemble.
        places: Where the designed pulse stands: ("excitation",).
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Chemical shift at that frequency, ppm.
        j_step_s: J step of the designed pulse; the template's, computed once, has that of results.

    Raises:
        InputError: If the pulse is to stand elsewhere, there are other pulses, or it selects a slice.
    """
    pulses = [interval for _, interval in template[0].pulses()]
    if tuple(places) != (PLACE,) or len(pulses) != 1 or slice_gradient(pulses[0]) is not None:
        raise InputError(
            f"A pulse alone needs place: excitation and a shot of one pulse without gradient, but place is "
            f"{' and '.join(places)} and timeline {template[0].name!r} plays {len(pulses)} pulses. Use pulse_acquire."
        )
    prepared = {
        name: tuple(
            prepare(template, model, members)
            for model in molecule_models(system, spectrometer_frequency_hz, reference_ppm)
        )
        for name, system in systems.items()
    }
    return PulseAcquireModel(
        shots=prepared,
        members=members,
        reference_ppm=reference_ppm,
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        j_step_s=j_step_s,
    )


def state_after_pulse(
    model: GroupModel, pulse: RFPulse, members: Ensemble, j_step_s: float = RESULT_J_STEP_S
) -> Tensor:
    """Return the density matrix right after a pulse on the thermal state, in the product basis, shape (E, d, d).

    Args:
        model: The spin group at its field.
        pulse: The pulse; its phase is zero at its centre.
        members: Ensemble.
        j_step_s: J step.

    Example, a hard 90 on water's frequency, 1 kHz off citrate:
        >>> import torch
        >>> from seqgen import library
        >>> from seqgen.simulate.ensemble import ensemble
        >>> from seqgen.spin.product_operators import expand, to_text
        >>> (citrate,) = molecule_models(library.spin_system("Cit"), 500e6, 4.65)
        >>> hard = RFPulse(b1_hz=torch.full((10,), 25e3j, dtype=torch.complex128), dwell_s=1e-6)
        >>> to_text(expand(state_after_pulse(citrate, hard, ensemble())[0]))
        '1.00 I2x + 1.00 I1x - 0.04 I1y - 0.04 I2y'
    """
    u = edit_propagator(model, members, pulse.b1_hz, pulse.dwell_s, pulse.carrier_offset_hz, j_step_s)[:, 0]
    return to_product_basis(u @ model.initial_state @ u.mH, model)
