"""Physical constants and the only scale conversions; everything inside seqgen is SI, RF in Hz, gradients in Hz/m."""

from typing import Final

GAMMA_BAR_HZ_PER_T: Final[dict[str, float]] = {"1H": 42.577478461e6}
"""Gyromagnetic ratio over 2 pi, Hz/T. 1H: CODATA 2022, proton gamma over 2 pi 42.577478461 MHz/T (bare proton)."""


def b0_t(spectrometer_frequency_hz: float, nucleus: str = "1H") -> float:
    """Return the field in tesla that belongs to a spectrometer frequency in Hz.

    Example:
        >>> round(b0_t(123.2e6), 4)
        2.8935
    """
    return spectrometer_frequency_hz / GAMMA_BAR_HZ_PER_T[nucleus]


def tesla_to_hz(b1_t: float, nucleus: str = "1H") -> float:
    """Return gamma*B1/2pi in Hz for an RF field in tesla (also T/m to Hz/m for gradients).

    Example:
        >>> round(tesla_to_hz(20e-6), 1)
        851.5
    """
    return b1_t * GAMMA_BAR_HZ_PER_T[nucleus]


def hz_to_tesla(value_hz: float, nucleus: str = "1H") -> float:
    """Return the field in tesla (or T/m) for a gamma-scaled value in Hz (or Hz/m)."""
    return value_hz / GAMMA_BAR_HZ_PER_T[nucleus]
