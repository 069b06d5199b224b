"""Spin systems whose spectra are known in closed form, with the formula beside each."""

import math

from seqgen.spin.system import SpinGroup

FREQUENCY_HZ = 100e6
"""Spectrometer frequency of these systems: 1 ppm is 100 Hz."""
REFERENCE_PPM = 4.65


def group_at_hz(offsets_hz, couplings_hz, *, multiplier=1.0, nuclei=(), quantum_number=()):
    """A spin group with offsets in Hz and couplings {(j, k): J} in Hz."""
    n = len(offsets_hz)
    j_hz = [[0.0] * n for _ in range(n)]
    for (j, k), value in couplings_hz.items():
        j_hz[j][k] = j_hz[k][j] = value
    return SpinGroup(
        name="analytic",
        labels=tuple(f"S{k}" for k in range(n)),
        shift_ppm=(REFERENCE_PPM,) * n,
        offset_hz=tuple(float(offset) for offset in offsets_hz),
        j_hz=tuple(tuple(row) for row in j_hz),
        multiplier=multiplier,
        nuclei=nuclei,
        quantum_number=quantum_number,
    )


def ab_quartet(centre_hz, difference_hz, j_hz):
    """Lines (frequency, intensity) of AB, intensities adding up to 2 protons.

    With D = sqrt(difference^2 + J^2): outer lines at centre +- (D + J)/2 of intensity (1 - J/D)/2 and inner lines at
    centre +- (D - J)/2 of (1 + J/D)/2. Pople, Schneider, Bernstein, High-resolution NMR, ch. 6 (1959).
    """
    d = math.hypot(difference_hz, j_hz)
    outer, inner = (1 - j_hz / d) / 2, (1 + j_hz / d) / 2
    return [
        (centre_hz - (d + j_hz) / 2, outer),
        (centre_hz - (d - j_hz) / 2, inner),
        (centre_hz + (d - j_hz) / 2, inner),
        (centre_hz + (d + j_hz) / 2, outer),
    ]


def ax_doublets(a_hz, x_hz, j_hz):
    """Lines of AX with weak (Iz Sz) coupling: each proton two lines of 1/2 at its offset +- J/2."""
    return [(centre + sign * j_hz / 2, 0.5) for centre in (a_hz, x_hz) for sign in (-1, 1)]


def ax2_weak(a_hz, x_hz, j_hz):
    """Lines of AX2 with weak coupling: A is 1:2:1 spaced by J (1 proton), X is 1:1 (2 protons)."""
    triplet = [(a_hz + k * j_hz, weight) for k, weight in ((-1, 0.25), (0, 0.5), (1, 0.25))]
    return triplet + [(x_hz + sign * j_hz / 2, 1.0) for sign in (-1, 1)]
