"""Small timelines for tests: delays with gradients, hard pulses, readouts."""

import math

import torch

from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

X, Y, Z = 0, 1, 2


def lobe(axis, moment_per_m, duration_s=1e-3):
    """A constant gradient of a given moment, cycles per metre."""
    return delay(duration_s, tuple(moment_per_m / duration_s if k == axis else 0.0 for k in range(3)))


def readout(n_samples=64, dwell_s=5e-4, phase_rad=0.0):
    return Interval(
        dwell_s=n_samples * dwell_s,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros(1, 3, dtype=torch.float64),
        receiver=Receiver(n_samples=n_samples, dwell_s=dwell_s, phase_rad=phase_rad),
    )


def selective(b1_hz, dwell_s, axis, gradient_hz_per_m, use, *, carrier_hz=0.0):
    """A pulse under a constant gradient, its centre in the middle."""
    n = b1_hz.shape[0]
    gradient = torch.zeros(n, 3, dtype=torch.float64)
    gradient[:, axis] = gradient_hz_per_m
    return Interval(
        dwell_s=dwell_s,
        b1_hz=b1_hz,
        gradient_hz_per_m=gradient,
        use=use,
        centre_s=0.5 * n * dwell_s,
        carrier_hz=carrier_hz,
        name=f"{use} {'xyz'[axis]}",
    )


def hard_press(
    *, te1_s=0.012, te2_s=0.020, crushed=True, flips_deg=(90, 180, 180), excitation_rad=0.0, receiver_rad=0.0, edit=None
):
    """PRESS of ideal pulses; crushers of 1000 cycles/m along x about the first 180 and along y about the second.

    `edit` is (flip in degrees, phase in rad) of a pulse at the top of the first echo.
    """
    spoil = (lambda axis: (lobe(axis, 1000.0),)) if crushed else (lambda axis: (delay(1e-3),))
    first, second, third = (math.radians(flip) for flip in flips_deg)
    at_the_top = () if edit is None else (ideal_pulse(math.radians(edit[0]), edit[1], "preparation"),)
    return Timeline(
        intervals=(
            ideal_pulse(first, excitation_rad, "excitation"),
            delay(te1_s / 2 - 1e-3),
            *spoil(X),
            ideal_pulse(second, math.pi / 2, "refocusing"),
            *spoil(X),
            delay(te1_s / 2 - 1e-3),
            *at_the_top,
            delay(te2_s / 2 - 1e-3),
            *spoil(Y),
            ideal_pulse(third, math.pi / 2, "refocusing"),
            *spoil(Y),
            delay(te2_s / 2 - 1e-3),
            readout(phase_rad=receiver_rad),
        ),
        name="hard press",
    )
