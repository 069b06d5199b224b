"""MEGA-PRESS: editing pulses TE/4 before and after the second refocusing pulse, ON and OFF shots in turn.

Mescher, Merkle, Kirsch, Garwood, Gruetter, NMR Biomed 11:266 (1998).
"""

import math
from dataclasses import dataclass, replace

from seqgen.axes import ppm_to_hz
from seqgen.pulse.shapes import gaussian_pulse
from seqgen.pulse.waveform import RFPulse
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
from seqgen.sequence.localisation import editing, rf_dwell_s
from seqgen.sequence.parameters import require
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.scan import Step, assemble, gentle

_PLACES: tuple[Place, ...] = ("te1", "te2")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MegaPressParams(DoubleEchoParams):
    """Parameters of MEGA-PRESS."""

    editing_on_ppm: float = 1.9
    """Centre of the editing pulses in ON shots (SET 0), ppm; a designed pulse keeps its own carrier."""
    editing_off_ppm: float = 7.5
    """Centre of the editing pulses in OFF shots (SET 1), ppm."""
    editing_duration_s: float = 1.6e-2
    """Duration of the Gaussian editing pulses, s: 16 ms cost creatine at 3.03 ppm 0.2 %, 14 ms 1.4 %. Of no effect
    where a designed pulse edits."""


class _MegaPress:
    """The plug-in."""

    name = "mega_press"
    Params = MegaPressParams
    editing_places = _PLACES

    def build(self, params: MegaPressParams, context: BuildContext) -> Built:
        """Return all blocks: ON (SET 0) and OFF (SET 1) shots in turn.

        Raises:
            InputError: If a parameter cannot be played, or an echo time or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        conditions = [_pulses(params, context, pulse) for pulse in _editing_pulses(params, context)]
        sets = []
        for pulses in conditions:
            train = pulses.train(params, context, "MEGA-PRESS")
            sets.append([Step(train=train, phases=phases) for phases in double_echo_cycle(params, pulses)])
        return assemble(
            params,
            context,
            sets,
            name="mega_press",
            te_s=sum(echo_times_s(params, context)),
            definitions=echo_definitions(params, context),
            notes=echo_notes(params, context, conditions[0]),
        )

    def minimum_te_s(self, params: MegaPressParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest te1_s, and the shortest te2_s with it: a longer TE1 needs another TE2."""
        context = _checked(params, context)
        return _pulses(params, context, _editing_pulses(params, context)[0]).minimum_te_s(context)


MEGA_PRESS = _MegaPress()


def _checked(params: MegaPressParams, context: BuildContext) -> BuildContext:
    """Refuse parameters that cannot be played; return the context with the slew rate to be used."""
    check_double_echo(params, context, positive=("editing_duration_s",))
    for name in ("editing_on_ppm", "editing_off_ppm"):
        require(params, name, math.isfinite, "finite")
    return gentle(params, context)


def _editing_pulses(params: MegaPressParams, context: BuildContext) -> tuple[RFPulse, RFPulse]:
    """Return the ON and the OFF pulse: one waveform at two carriers."""
    on_hz, off_hz = (
        ppm_to_hz(ppm, context.spectrometer_frequency_hz, context.water_shift_ppm)
        for ppm in (params.editing_on_ppm, params.editing_off_ppm)
    )
    pulse = context.editing_pulse
    if pulse is None:
        gaussian = gaussian_pulse(
            flip_angle_rad=math.pi,
            duration_s=params.editing_duration_s,
            dwell_s=rf_dwell_s(context),
            name="edit",
        )
        pulse = replace(gaussian, carrier_offset_hz=on_hz)
    return pulse, replace(pulse, carrier_offset_hz=off_hz)


def _pulses(params: MegaPressParams, context: BuildContext, pulse: RFPulse) -> DoubleEcho:
    """Return the pulses of one editing condition."""
    return DoubleEcho(
        excitation=rephased(slr_excitation(params, context), params, context),
        refocusing=refocusing_pair(params, context),
        edits={place: edit_at(place, editing(pulse, context), params, context) for place in _PLACES},
    )
