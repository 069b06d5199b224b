"""PRESS, plain or with a designed pulse at the first echo top or at the positions of MEGA-PRESS."""

from dataclasses import dataclass

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
from seqgen.sequence.plugins import BuildContext, Built
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

    def build(self, params: PressParams, context: BuildContext) -> Built:
        """Return all blocks of the scan.

        Raises:
            InputError: If a parameter cannot be played, or an echo time or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        pulses = _pulses(params, context)
        train = pulses.train(params, context, "PRESS")
        return assemble(
            params,
            context,
            [[Step(train=train, phases=phases) for phases in double_echo_cycle(params, pulses)]],
            name="press_edited" if pulses.edits else "press",
            te_s=sum(echo_times_s(params, context)),
            definitions=echo_definitions(params, context),
            notes=echo_notes(params, context, pulses),
        )

    def minimum_te_s(self, params: PressParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest (te1_s, te2_s) that these pulses and crushers allow."""
        context = _checked(params, context)
        return _pulses(params, context).minimum_te_s(context)


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


def _pulses(params: PressParams, context: BuildContext) -> DoubleEcho:
    """Return the pulses with their lobes."""
    pulse = context.editing_pulse
    edits = (
        {}
        if pulse is None
        else {p: edit_at(p, editing(pulse, context), params, context) for p in params.editing_places}
    )
    return DoubleEcho(
        excitation=rephased(slr_excitation(params, context), params, context),
        refocusing=refocusing_pair(params, context),
        edits=edits,
    )
