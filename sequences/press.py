"""PRESS, plain or with a designed pulse at the first echo top or at the positions of MEGA-PRESS."""

from dataclasses import dataclass, replace

from seqgen.sequence.cycles import turned
from seqgen.sequence.double_echo import (
    DoubleEcho,
    DoubleEchoParams,
    Place,
    check_double_echo,
    double_echo_cycle,
    echo_definitions,
    echo_notes,
    echo_times_s,
    edit_at,
    refocusing_pair,
    rephased,
    slr_excitation,
)
from seqgen.sequence.localisation import editing
from seqgen.sequence.parameters import require
from seqgen.sequence.plugins import BuildContext, Built, DesignedShot
from seqgen.sequence.scan import Step, assemble, gentle


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PressParams(DoubleEchoParams):
    """Parameters of PRESS."""

    editing_places: tuple[Place, ...] = ("echo_top",)
    """Where a designed pulse is played: `echo_top`, `te1`, `te2`, or several of them; of no effect without one."""


class _Press:
    """The plug-in."""

    name = "press"
    Params = PressParams
    editing_places = ("echo_top", "te1", "te2")
    plays_shots = True

    def build(self, params: PressParams, context: BuildContext) -> Built:
        """Return all blocks of the scan; the shots of a design take turns as editing conditions.

        Raises:
            InputError: If a parameter cannot be played, or an echo time or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        sets, played = [], []
        for each, shot in _shots(params, context):
            pulses = _pulses(each, context, shot)
            train = pulses.train(each, context, "PRESS")
            played.append(pulses)
            sets.append(
                [
                    Step(train=train, phases=turned(phases, shot.receiver_phase_rad))
                    for phases in double_echo_cycle(each, pulses)
                ]
            )
        return assemble(
            params,
            context,
            sets,
            name="press_edited" if any(pulses.edits for pulses in played) else "press",
            te_s=sum(echo_times_s(params, context)),
            definitions=echo_definitions(params, context),
            notes=echo_notes(params, context, played[0]),
        )

    def minimum_te_s(self, params: PressParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest (te1_s, te2_s) that these pulses and crushers allow; of several shots, the first's."""
        context = _checked(params, context)
        each, shot = _shots(params, context)[0]
        return _pulses(each, context, shot).minimum_te_s(context)


PRESS = _Press()


def _checked(params: PressParams, context: BuildContext) -> BuildContext:
    """Refuse parameters that cannot be played; return the context with the slew rate to be used."""
    check_double_echo(params, context)
    require(
        params,
        "editing_places",
        lambda places: places and len(set(places)) == len(places) and set(places) <= set(PRESS.editing_places),
        f"one or several of {', '.join(PRESS.editing_places)}",
    )
    return gentle(params, context)


def _shots(params: PressParams, context: BuildContext) -> list[tuple[PressParams, DesignedShot]]:
    """Return the shots that take turns, one or the shots of a design, with the parameters of each."""
    if context.editing_shots:
        return [(replace(params, te1_s=shot.te1_s, te2_s=shot.te2_s), shot) for shot in context.editing_shots]
    pulse = context.editing_pulse
    pulses = {} if pulse is None else {str(place): pulse for place in params.editing_places}
    return [(params, DesignedShot(pulses=pulses, te1_s=params.te1_s, te2_s=params.te2_s))]


def _pulses(params: PressParams, context: BuildContext, shot: DesignedShot) -> DoubleEcho:
    """Return the pulses of a shot with their lobes."""
    edits = {
        place: edit_at(place, editing(shot.pulses[place], context), params, context)
        for place in params.editing_places
        if place in shot.pulses
    }
    return DoubleEcho(
        excitation=rephased(slr_excitation(params, context), params, context),
        refocusing=refocusing_pair(params, context),
        edits=edits,
    )
