"""Adiabatic pulses: hyperbolic secants of any order, GOIA-WURST under a modulated gradient, plane rotations BIR-4.

Full passages follow the offset-independent adiabaticity of Tannus and Garwood. A spin at position x meets the RF where
F(t) = x G(t), F the frequency of the RF; there its offset from the RF changes at the rate |x G' - F'| = G |(F/G)'|,
and the adiabaticity K = 2 pi b1^2 / (G |(F/G)'|) is the same for every x if (with g = G / max G and F(t = 0) = 0)

    F(t) = (bandwidth / 2) (g(t) / g(T/2)) I(t) / I(T/2),    I(t) = integral of b1^2 / g from 0 to t.

A constant gradient, g = 1, gives the FM of the HSn pulses. Times count from the middle of the pulse: tau = 2 t / T.
Sources: Tannus, Garwood, NMR Biomed 10:423 (1997); Tannus, Garwood, J Magn Reson A 120:133 (1996); Andronesi,
Ramadan, Ratai, Jennings, Mountford, Sorensen, J Magn Reson 203:283 (2010), doi:10.1016/j.jmr.2010.01.010.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from seqgen.errors import InputError
from seqgen.pulse.shapes import whole_samples
from seqgen.pulse.waveform import RFPulse

_Vector = NDArray[np.float64]

_FEWEST_SAMPLES = 32
_MOST_TURNS_PER_SAMPLE = 0.25
"""Most turns of the RF's phase within one sample, at the fastest FM."""
_STEPS_PER_SAMPLE = 32
"""Steps of the integrals over half a pulse, per sample."""


def hyperbolic_secant(
    *,
    duration_s: float,
    bandwidth_hz: float,
    b1_max_hz: float,
    dwell_s: float,
    order: int = 1,
    truncation: float = 0.01,
    name: str,
) -> RFPulse:
    """Return an HSn adiabatic full passage for a constant gradient, or none.

    b1 = b1_max sech(beta tau^n), tau in [-1, 1]; F proportional to the integral of sech^2(beta tau^n), which is
    (bandwidth / 2) tanh(beta tau) for n = 1. The sweep is upwards. Source: see the module.

    Args:
        duration_s: Duration, s.
        bandwidth_hz: Full sweep of the frequency, Hz: about the width of what is inverted.
        b1_max_hz: Peak amplitude, Hz.
        dwell_s: Sample duration, s; samples hold the values at their centres.
        order: n, 1 or more; larger is flatter, with less peak power.
        truncation: Amplitude at the ends relative to the peak, sech(beta).
        name: Name for diagrams.

    Returns:
        Complex waveform in its carrier frame, symmetric in time, phase 0 in the middle.

    Raises:
        InputError: If an argument is out of range or the FM too fast for the dwell.
    """
    if not (isinstance(order, int) and order >= 1):
        raise InputError(f"Pulse {name!r}: the order n of an HSn pulse must be 1, 2, ..., but is {order}.")
    if not 0 < truncation < 1:
        raise InputError(
            f"Pulse {name!r}: truncation must lie between 0 and 1, but is {truncation}. Use 0.01 for 1 % of the peak."
        )
    beta = math.acosh(1 / truncation)
    return _full_passage(
        lambda tau: 1 / np.cosh(beta * tau**order), np.ones_like, duration_s, bandwidth_hz, b1_max_hz, dwell_s, name
    )[0]


def goia_wurst(
    *,
    duration_s: float,
    bandwidth_hz: float,
    b1_max_hz: float,
    dwell_s: float,
    order: int = 16,
    gradient_order: int = 4,
    gradient_factor: float = 0.9,
    name: str,
) -> tuple[RFPulse, _Vector]:
    """Return a GOIA-W(n, m) adiabatic full passage and the gradient that it needs.

    b1 = b1_max (1 - |sin(pi tau / 2)|^n), g = (1 - f) + f |sin(pi tau / 2)|^m, tau in [-1, 1]; FM from the condition
    in the module's docstring, upwards. The slice is bandwidth / max G thick.

    Args:
        duration_s: Duration, s.
        bandwidth_hz: Full sweep of the frequency, Hz.
        b1_max_hz: Peak amplitude, Hz.
        dwell_s: Sample duration, s; samples hold the values at their centres.
        order: n, order of the amplitude, 1 or more.
        gradient_order: m, order of the gradient, 1 or more.
        gradient_factor: f, at least 0 and below 1: in the middle the gradient falls to 1 - f of its maximum.
        name: Name for diagrams.

    Returns:
        Complex waveform in its carrier frame, symmetric in time, phase 0 in the middle; and g at the sample centres,
        largest 1 (at the ends of the pulse), shape (n,).

    Raises:
        InputError: If an argument is out of range or the FM too fast for the dwell.
    """
    for what, value in (("order", order), ("gradient_order", gradient_order)):
        if not (isinstance(value, int) and value >= 1):
            raise InputError(f"Pulse {name!r}: {what} of a GOIA-WURST pulse must be 1, 2, ..., but is {value}.")
    if not 0 <= gradient_factor < 1:
        raise InputError(
            f"Pulse {name!r}: gradient_factor must be at least 0 and below 1, but is {gradient_factor}. At 1 the "
            "gradient vanishes in the middle of the pulse; 0.9 is common."
        )

    def amplitude(tau: _Vector) -> _Vector:
        return 1 - np.abs(np.sin(0.5 * np.pi * tau)) ** order

    def gradient(tau: _Vector) -> _Vector:
        return (1 - gradient_factor) + gradient_factor * np.abs(np.sin(0.5 * np.pi * tau)) ** gradient_order

    return _full_passage(amplitude, gradient, duration_s, bandwidth_hz, b1_max_hz, dwell_s, name)


def bir4(
    *, flip_angle_rad: float, duration_s: float, sweep_hz: float, b1_max_hz: float, dwell_s: float, name: str
) -> RFPulse:
    """Return BIR-4, an adiabatic rotation about +x by any angle, of four half passages.

    With x the distance, in quarters of the duration, from the nearest of its beginning, middle and end, where the
    frequency is that of the carrier: b1 = b1_max tanh(zeta (1 - x)), F = sweep tan(kappa x) / tan(kappa) up to its
    sign, zeta = 10, tan(kappa) = 20; the two middle quarters have the phase pi + flip/2 on top. Source: Staewen,
    Johnson, Ross, Parrish, Merkle, Garwood, Invest Radiol 25:559 (1990); Garwood, Ke, J Magn Reson 94:511 (1991).

    Args:
        flip_angle_rad: Flip angle, rad.
        duration_s: Duration, s.
        sweep_hz: Largest offset of the frequency from the carrier, Hz.
        b1_max_hz: Peak amplitude, Hz.
        dwell_s: Sample duration, s; samples hold the values at their centres.
        name: Name for diagrams.

    Returns:
        Complex waveform in its carrier frame, symmetric in time. How well it rotates is for the caller to see: at
        b1_max times duration of 4 cycles a sweep of 10 b1_max turns by 90 and 180 degrees with infidelities of 2e-3
        and 1e-3, one of 5 b1_max with 0.06 and 0.35.

    Raises:
        InputError: If an argument is out of range or the FM too fast for the dwell.
    """
    n = _checked_samples(
        {"duration_s": duration_s, "sweep_hz": sweep_hz, "b1_max_hz": b1_max_hz}, duration_s, dwell_s, name
    )
    _require_slow_fm(sweep_hz, dwell_s, name)
    quarter = (np.arange(n) + 0.5) / n * 4
    x = 1 - np.abs(1 - quarter % 2)
    kappa = math.atan(20.0)
    turns = sweep_hz * duration_s / (4 * kappa * math.tan(kappa)) * -np.log(np.cos(kappa * x))
    phase = 2 * np.pi * turns + np.where((quarter > 1) & (quarter < 3), math.pi + flip_angle_rad / 2, 0.0)
    b1_hz = b1_max_hz * np.tanh(10.0 * (1 - x)) * np.exp(1j * phase)
    return RFPulse(b1_hz=torch.as_tensor(b1_hz), dwell_s=dwell_s, name=name)


def _full_passage(
    amplitude: Callable[[_Vector], _Vector],
    gradient: Callable[[_Vector], _Vector],
    duration_s: float,
    bandwidth_hz: float,
    b1_max_hz: float,
    dwell_s: float,
    name: str,
) -> tuple[RFPulse, _Vector]:
    """Return the pulse of an amplitude and a gradient that are even functions of tau, and the gradient's samples."""
    n = _checked_samples(
        {"duration_s": duration_s, "bandwidth_hz": bandwidth_hz, "b1_max_hz": b1_max_hz}, duration_s, dwell_s, name
    )
    # The right half, on a grid that holds every sample centre: those at odd multiples of 1/n, or even ones if n is odd.
    tau = np.arange(_STEPS_PER_SAMPLE * n + 1) / (_STEPS_PER_SAMPLE * n)
    b, g = amplitude(tau), gradient(tau)
    swept = _integral(b**2 / g, tau)
    frequency_hz = 0.5 * bandwidth_hz * (g / g[-1]) * swept / swept[-1]
    _require_slow_fm(float(frequency_hz.max()), dwell_s, name)
    phase = 2 * np.pi * _integral(frequency_hz, 0.5 * duration_s * tau)
    centres = np.abs(2 * np.arange(n) + 1 - n) * _STEPS_PER_SAMPLE
    b1_hz = b1_max_hz * b[centres] * np.exp(1j * phase[centres])
    pulse = RFPulse(b1_hz=torch.as_tensor(b1_hz, dtype=torch.complex128), dwell_s=dwell_s, name=name)
    return pulse, g[centres]


def _checked_samples(positive: Mapping[str, float], duration_s: float, dwell_s: float, name: str) -> int:
    """Return the number of samples of a pulse whose arguments are positive and whose samples are whole and enough."""
    for what, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"Pulse {name!r}: {what} must be positive and finite, but is {value}.")
    if not (dwell_s > 0 and math.isfinite(dwell_s)):
        raise InputError(f"Pulse {name!r}: dwell_s must be positive and finite, but is {dwell_s}.")
    return whole_samples(duration_s, dwell_s, name, least=_FEWEST_SAMPLES)


def _require_slow_fm(fastest_hz: float, dwell_s: float, name: str) -> None:
    """Refuse a frequency modulation that samples cannot follow."""
    turns_per_sample = fastest_hz * dwell_s
    if turns_per_sample > _MOST_TURNS_PER_SAMPLE:
        raise InputError(
            f"Pulse {name!r}: the FM reaches {fastest_hz:.4g} Hz, {turns_per_sample:.3g} turns in a sample of "
            f"{dwell_s * 1e6:g} us; the limit is {_MOST_TURNS_PER_SAMPLE:g}. Use a dwell of at most "
            f"{_MOST_TURNS_PER_SAMPLE / fastest_hz * 1e6:.3g} us or a smaller bandwidth or sweep."
        )


def _integral(y: _Vector, x: _Vector) -> _Vector:
    """Return the integral of y from the first x to each x, by the trapezoidal rule."""
    return np.concatenate(([0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x))))
