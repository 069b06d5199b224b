"""Times on rasters, counted in integers."""

import math

from seqgen.errors import InputError


def ticks(time_s: float, raster_s: float) -> int:
    """Return a time in whole raster steps, rounded up (up to a nanosecond beyond a step is rounding)."""
    return math.ceil(time_s / raster_s - 1e-3 * min(1.0, 1e-6 / raster_s))


def round_up(time_s: float, raster_s: float) -> float:
    """Return the smallest raster time that is not below `time_s`.

    Example:
        >>> round_up(1.234e-3, 1e-5)
        0.00124
    """
    return round(ticks(time_s, raster_s) * raster_s, 12)


def nearest(time_s: float, raster_s: float) -> float:
    """Return the nearest raster time."""
    return round(round(time_s / raster_s) * raster_s, 12)


def remaining(name: str, wanted_s: float, used_s: float, raster_s: float, remedy: str) -> float:
    """Return the delay that fills `wanted_s` after `used_s`, on the raster.

    Raises:
        InputError: If there is no room; the message gives the least possible value.
    """
    rest = wanted_s - used_s
    if rest < -1e-9:
        least_s = round_up(used_s, raster_s)
        raise InputError(
            f"{name} must be at least {least_s:.9g} s with these pulses, but is {wanted_s:.9g} s. {remedy}"
        )
    return nearest(max(rest, 0.0), raster_s)
