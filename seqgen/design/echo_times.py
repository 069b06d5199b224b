"""Which echo times a sequence with its editing pulses can play, and the variables in which an optimiser moves them.

Neighbours that stand a TE1 + b TE2 apart (`seqgen.sequence.double_echo.TIME_OF`) need a TE1 + b TE2 >= gap. With pulses
TE/4 before and after the second refocusing pulse the shortest TE2 therefore depends on TE1.
"""

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgen.design.problem import DesignSpec
from seqgen.errors import InputError
from seqgen.sequence.double_echo import TIME_OF

TE_MAX_S = 0.12
"""Longest echo time that is searched, for each of the two, s."""
TE_SCALE_S = 0.01
"""Unit of the optimiser's echo times, s."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EchoTimeLimits:
    """Shortest echo times, on their raster: TE1 >= te1_min_s and TE2 >= offset + slope TE1 for every side."""

    te1_min_s: float
    """Shortest first echo time, s."""
    te2_sides: tuple[tuple[float, float], ...]
    """(offset in s, slope) of every limit of TE2; slope 0: whatever TE1 is."""
    raster_s: float
    """Raster of either echo time, s."""
    te_max_s: float | None = None
    """Longest TE1 + TE2, s; None: not limited."""

    def __post_init__(self) -> None:
        least_s = self.te1_min_s + self.te2_min_s(self.te1_min_s)
        if self.te_max_s is not None and self.te_max_s < self._least_te_s - 1e-9:
            raise InputError(
                f"design: te_max must be at least {self._least_te_s * 1e3:.6g} ms (minimum of the sequence with its "
                f"pulses, {least_s * 1e3:.6g} ms, on the raster of {self.raster_s * 1e6:g} us), but is "
                f"{self.te_max_s * 1e3:.6g} ms. Raise it, or shorten the pulse."
            )

    @property
    def _least_te_s(self) -> float:
        """Shortest TE1 + TE2 on the raster, s: no side of TE2 falls faster than TE1 rises."""
        te1_s = self._up(self.te1_min_s)
        return te1_s + self._up(self.te2_min_s(te1_s))

    @property
    def fixed(self) -> bool:
        """Whether the range of TE2 is the same for every TE1."""
        return self.te_max_s is None and all(slope == 0 for _, slope in self.te2_sides)

    def te2_min_s(self, te1_s: float) -> float:
        """Return the shortest second echo time with a first one, s."""
        return max(offset + slope * te1_s for offset, slope in self.te2_sides)

    def seconds(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return TE1 and TE2, s, from an optimiser's two variables within `bounds`; differentiable.

        Where the range of TE2 depends on TE1, the second variable is the part of the way from the shortest to the
        longest one, `TE_MAX_S` or what `te_max_s` leaves.
        """
        te1_s = x[0] * TE_SCALE_S
        if self.fixed:
            return te1_s, x[1] * TE_SCALE_S
        least_s = torch.stack([offset + slope * te1_s for offset, slope in self.te2_sides]).max()
        most_s = TE_MAX_S if self.te_max_s is None else (self.te_max_s - te1_s).clamp(max=TE_MAX_S)
        return te1_s, least_s + x[1] * TE_SCALE_S / TE_MAX_S * (most_s - least_s)

    def variables(self, te1_s: float, te2_s: float) -> np.ndarray:
        """Return the two variables of echo times that can be played, shape (2,): the inverse of `seconds`."""
        if self.fixed:
            return np.array([te1_s, te2_s]) / TE_SCALE_S
        least_s = self.te2_min_s(te1_s)
        room_s = self._te2_max_s(te1_s) - least_s
        part = 0.0 if te2_s <= least_s or room_s <= 0 else (te2_s - least_s) / room_s
        return np.array([te1_s, part * TE_MAX_S]) / TE_SCALE_S

    def _te2_max_s(self, te1_s: float) -> float:
        """Return the longest second echo time that is searched with a first one, s."""
        return TE_MAX_S if self.te_max_s is None else min(TE_MAX_S, self.te_max_s - te1_s)

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Low and high limit of either variable: every pair between them can be played, up to the raster."""
        if self.fixed:
            return [(least_s / TE_SCALE_S, TE_MAX_S / TE_SCALE_S) for least_s in (self.te1_min_s, self.te2_min_s(0.0))]
        # Above this TE1 the shortest TE2 is longer than any that is searched.
        te1_max_s = min([TE_MAX_S, *((TE_MAX_S - offset) / slope for offset, slope in self.te2_sides if slope > 0)])
        if self.te_max_s is not None:
            at_te_max = ((self.te_max_s - offset) / (1 + slope) for offset, slope in self.te2_sides if slope > -1)
            te1_max_s = max(self.te1_min_s, min([te1_max_s, *at_te_max]))
        return [(self.te1_min_s / TE_SCALE_S, te1_max_s / TE_SCALE_S), (0.0, TE_MAX_S / TE_SCALE_S)]

    def on_raster(self, te1_s: float, te2_s: float) -> tuple[float, float]:
        """Return the nearest echo times on the raster that can be played, s."""
        te1_s = max(self._nearest(te1_s), self._up(self.te1_min_s))
        te2_s = self._nearest(te2_s)
        if self.te_max_s is None:
            return te1_s, max(te2_s, self._up(self.te2_min_s(te1_s)))
        shortest_s = self._up(self.te1_min_s)
        while te1_s > shortest_s + 1e-9 and te1_s + self._up(self.te2_min_s(te1_s)) > self.te_max_s + 1e-9:
            te1_s = round(te1_s - self.raster_s, 9)
        longest_s = round(math.floor((self.te_max_s - te1_s) / self.raster_s + 1e-6) * self.raster_s, 9)
        return te1_s, max(min(te2_s, longest_s), self._up(self.te2_min_s(te1_s)))

    def _nearest(self, te_s: float) -> float:
        """Return the nearest time on the raster, s."""
        return round(round(te_s / self.raster_s) * self.raster_s, 9)

    def _up(self, te_s: float) -> float:
        """Return the first time on the raster that is not below, s; what lies on it but for rounding stays."""
        return round(math.ceil(te_s / self.raster_s - 1e-6) * self.raster_s, 9)

    def require_start(self, spec: DesignSpec) -> None:
        """Refuse echo times of a problem that cannot be played, or from which the optimiser could not move.

        Raises:
            InputError: If they lie below the minimum, or above `TE_MAX_S` where they are to be moved.
        """
        least = (("te1", spec.te1_s, self.te1_min_s), ("te2", spec.te2_s, self.te2_min_s(spec.te1_s)))
        for name, te_s, least_s in least:
            if te_s < least_s - 1e-9:
                with_te1 = "" if name == "te1" or self.fixed else f" and te1 of {spec.te1_s * 1e3:.6g} ms"
                raise InputError(
                    f"design: {name} must be at least {least_s * 1e3:.6g} ms (minimum of the sequence with a pulse of "
                    f"{spec.duration_s * 1e3:g} ms at {' and '.join(spec.places)}{with_te1}), but is "
                    f"{te_s * 1e3:.6g} ms. Raise it{', lower te1' if with_te1 else ''} or shorten the pulse."
                )
            if spec.optimise_timing and te_s > TE_MAX_S:
                raise InputError(
                    f"design: {name} must be at most {TE_MAX_S * 1e3:g} ms where the optimiser moves the echo times, "
                    f"but is {te_s * 1e3:.6g} ms. Lower it, or set optimise_timing to false."
                )


def echo_time_limits(
    places: Collection[str],
    minimum_s: tuple[float, float],
    plain_minimum_s: tuple[float, float],
    raster_s: float,
    te_max_s: float | None = None,
) -> EchoTimeLimits:
    """Return the limits of the echo times with editing pulses at some places.

    A sequence states its shortest TE1 and the shortest TE2 with it, with its editing pulses and without. No two
    neighbours need more room than they have there, a TE1 + b TE2. The limits are exact for the pair that decides the
    minimum, and on the safe side for the others.

    Args:
        places: Where editing pulses stand.
        minimum_s: The sequence's shortest (TE1, TE2) with them, s.
        plain_minimum_s: The same without, s: it holds for neighbours that are no editing pulses.
        raster_s: Raster of either echo time, s.
        te_max_s: Longest TE1 + TE2, s; None: not limited.

    Raises:
        InputError: If te_max_s is below the minimum, with the minimum.

    Example:
        >>> limits = echo_time_limits(("te1", "te2"), (0.012, 0.059), (0.012, 0.010), 4e-5)
        >>> [round(limits.te2_min_s(te1_s), 6) for te1_s in (0.012, 0.020)]
        [0.059, 0.067]
    """
    te1_min_s, te2_min_s = minimum_s
    present = {"excitation", "first", "second", "echo", *places} | ({"echo_top"} if "te1" not in places else set())
    sides: dict[float, float] = {}
    for pair in itertools.pairwise(name for name in TIME_OF if name in present):
        a, b = (late - early for early, late in zip(*(TIME_OF[name] for name in pair), strict=True))
        if b > 0:
            slope = -a / b if a else 0.0
            at_te1_s, least_s = (te1_min_s, te2_min_s) if set(pair) & set(places) else plain_minimum_s
            sides[slope] = max(sides.get(slope, 0.0), least_s - slope * at_te1_s)
    return EchoTimeLimits(
        te1_min_s=te1_min_s,
        te2_sides=tuple((offset, slope) for slope, offset in sides.items()),
        raster_s=raster_s,
        te_max_s=te_max_s,
    )
