"""RF exposure: what a protocol asks for, and the limits that follow from it and the scanner. Values, no decisions."""

import math
from dataclasses import dataclass
from typing import Literal

from seqgen.errors import InputError

OperatingMode = Literal["normal", "first_level"]
"""Operating modes of IEC 60601-2-33."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """How much RF a scan may use, as its protocol says."""

    operating_mode: OperatingMode = "normal"
    """Operating mode whose SAR limits hold."""
    b1_rms_max_t: float | None = None
    """Largest B1+rms of the whole sequence over any 10 s, T, for example from the label of an implant; None: not
    limited."""

    def __post_init__(self) -> None:
        if self.b1_rms_max_t is not None and not 0 < self.b1_rms_max_t < math.inf:
            raise InputError(f"b1_rms_max_t must be positive and finite, but is {self.b1_rms_max_t}. Give tesla.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SarLimit:
    """The limit of one region's specific absorption rate, averaged over a window."""

    region: str
    """"head" or "whole body"."""
    window_s: float
    """Averaging time, s."""
    max_w_per_kg: float
    """Limit, W/kg."""
    w_per_kg_per_ut2: float | None
    """SAR of the region for a B1+rms of 1 uT, W/kg per uT^2; None: the scanner's profile does not state it, so that
    the limit is not checked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExposureLimits:
    """All limits of RF exposure of a scan (`seqgen.library.exposure_limits`)."""

    operating_mode: OperatingMode
    """Operating mode."""
    sar: tuple[SarLimit, ...]
    """Every region and window."""
    b1_rms_max_t: float | None
    """Largest B1+rms over any `b1_rms_window_s`, T; None: not limited."""
    b1_rms_stated_by: str
    """Who states it: "protocol", the scanner's name, or empty."""
    b1_rms_window_s: float
    """Averaging time of it, s."""

    @property
    def stated_sar(self) -> tuple[SarLimit, ...]:
        """The SAR limits that can be checked: those of regions with a coefficient."""
        return tuple(limit for limit in self.sar if limit.w_per_kg_per_ut2 is not None)
