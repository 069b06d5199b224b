"""A non-selective excitation, prepared by a designed pulse, localised by 1D ISIS and two refocusing pulses.

Ordidge, Connelly, Lohman, J Magn Reson 66:283 (1986), doi:10.1016/0022-2364(86)90031-4, along one axis: an inversion of
the slice in every first shot of two, whose signal is subtracted. What lies outside cancels between the two shots, so
motion, drift and the dynamic range of the receiver count more than in PRESS.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from seqgen.pulse.shapes import slr_pulse
from seqgen.sequence.adiabatic import adiabatic_slice
from seqgen.sequence.blocks import lobe
from seqgen.sequence.cycles import turned
from seqgen.sequence.double_echo import (
    DoubleEcho,
    DoubleEchoParams,
    check_double_echo,
    double_echo_cycle,
    echo_definitions,
    echo_notes,
    echo_times_s,
    refocusing_pair,
    rephased,
)
from seqgen.sequence.localisation import HALF_PI, editing, rf_dwell_s, slice_carrier_hz
from seqgen.sequence.plugins import BuildContext, Built
from seqgen.sequence.scan import Step, assemble, gentle
from seqgen.sequence.train import Element, Train
from seqgen.sequence.voxel import voxel_axes

LEFT_OUT = 1e-6
"""Amplitude of the inversion in the shots that leave it out, relative to the others: the shots are alike in timing."""
_SPOILER = (1.0, -0.6, 0.8)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IsisPressParams(DoubleEchoParams):
    """Parameters of PRESS with a prepared excitation and 1D ISIS."""

    inversion_duration_s: float = 1.0e-2
    """Duration of the hyperbolic secant that inverts the slice, s."""
    inversion_bandwidth_hz: float = 2.4e3
    """Its bandwidth, Hz."""
    inversion_b1_hz: float = 750.0
    """Its peak amplitude gamma*B1/2pi, Hz."""
    inversion_spoiler_moment_per_m: float = 4000.0
    """Moment of the spoiler after the inversion, cycles per metre."""
    inversion_spoiler_duration_s: float = 4.0e-3
    """Duration of that spoiler, s."""


class _IsisPress:
    """The plug-in."""

    name = "isis_press"
    Params = IsisPressParams
    editing_places = ("excitation",)

    def build(self, params: IsisPressParams, context: BuildContext) -> Built:
        """Return all blocks: every step of the phase cycle with and without inversion.

        Raises:
            InputError: If a parameter cannot be played, or an echo time or TR lies below the minimum it names.
            HardwareLimitError: If a slice, crusher or pulse needs more than the scanner allows.
        """
        context = _checked(params, context)
        pulses = _pulses(params, context)
        inverted, plain = _trains(params, context, pulses)
        steps = [
            Step(train=train, phases=turned(phases, receiver_rad))
            for phases in double_echo_cycle(params, pulses, inversions=1)
            for train, receiver_rad in ((inverted, math.pi), (plain, 0.0))
        ]
        return assemble(
            params,
            context,
            [steps],
            name="isis_press_edited" if context.editing_pulse is not None else "isis_press",
            te_s=sum(echo_times_s(params, context)),
            definitions=echo_definitions(params, context),
            notes=(*echo_notes(params, context, pulses), _recovery_note(inverted)),
            together=2,
        )

    def minimum_te_s(self, params: IsisPressParams, context: BuildContext) -> tuple[float, float]:
        """Return the shortest (te1_s, te2_s) that these pulses and crushers allow, from the excitation's middle."""
        context = _checked(params, context)
        return _pulses(params, context).minimum_te_s(context)


ISIS_PRESS = _IsisPress()


def _checked(params: IsisPressParams, context: BuildContext) -> BuildContext:
    """Refuse parameters that cannot be played; return the context with the slew rate to be used."""
    inversion = ("inversion_duration_s", "inversion_bandwidth_hz", "inversion_b1_hz")
    spoiler = ("inversion_spoiler_moment_per_m", "inversion_spoiler_duration_s")
    check_double_echo(params, context, positive=(*inversion, *spoiler))
    return gentle(params, context)


def _pulses(params: IsisPressParams, context: BuildContext) -> DoubleEcho:
    """Return excitation and refocusing pulses with their lobes."""
    pulse, phase_rad, name = context.editing_pulse, 0.0, "prepared excitation"
    if pulse is None:
        slr = slr_pulse(
            flip_angle_rad=HALF_PI,
            time_bandwidth=params.excitation_time_bandwidth,
            duration_s=params.excitation_duration_s,
            dwell_s=rf_dwell_s(context),
            name="excitation",
        )
        pulse = replace(slr, carrier_offset_hz=slice_carrier_hz(params, context))
        phase_rad, name = HALF_PI, "excitation"
    excitation = editing(pulse, context, phase_rad=phase_rad, use="excitation", name=name)
    return DoubleEcho(
        excitation=rephased(excitation, params, context), refocusing=refocusing_pair(params, context), edits={}
    )


def _recovery_note(inverted: Train) -> str:
    """Return what is to be known of water: it is suppressed at the inversion, which turns what is left over."""
    return (
        f"Water recovers for {-inverted.time_s[0] * 1e3:.4g} ms between the inversion, at which it is suppressed, and "
        "the excitation: equally with and without inversion, so that the subtraction takes it away"
    )


def _trains(params: IsisPressParams, context: BuildContext, pulses: DoubleEcho) -> tuple[Train, Train]:
    """Return the pulses with the inversion before them and, alike in time, without."""
    train = pulses.train(params, context, "ISIS-PRESS")
    spoiler = lobe(
        np.asarray(_SPOILER) / np.linalg.norm(_SPOILER) * params.inversion_spoiler_moment_per_m @ voxel_axes(params),
        context.scanner,
        duration_s=params.inversion_spoiler_duration_s,
        name="spoiler after the inversion",
    )
    both = []
    for scale in (1.0, LEFT_OUT):
        timed = adiabatic_slice(
            params,
            context,
            0,
            kind="hyperbolic_secant",
            duration_s=params.inversion_duration_s,
            sweep_hz=params.inversion_bandwidth_hz,
            b1_hz=params.inversion_b1_hz,
            use="inversion",
            scale=scale,
        )
        element = Element(timed=timed, after=(spoiler,))
        before_s = -(element.tail_s + train.elements[0].lead_s)
        both.append(replace(train, elements=(element, *train.elements), time_s=(before_s, *train.time_s)))
    return both[0], both[1]
