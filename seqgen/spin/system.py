"""Spin systems: shifts and couplings of a molecule's independent spin groups."""

import math
from dataclasses import dataclass
from typing import Final

from seqgen.errors import InputError

PROTON_SHIFT_PPM = (-5.0, 20.0)
"""Where chemical shifts of 1H may lie, ppm: wider than any metabolite, amide or enol, far narrower than a shift in
Hz or another nucleus."""
QUANTUM_NUMBER: Final[dict[str, float]] = {"1H": 0.5, "31P": 0.5, "13C": 0.5, "15N": 0.5, "14N": 1.0}
"""Spin quantum number of every nucleus that a spin group may hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpinGroup:
    """Spins coupled among themselves and to nothing else."""

    name: str
    """For example "backbone"."""
    labels: tuple[str, ...]
    """Names of the spins, for example ("H2", "H3a")."""
    shift_ppm: tuple[float, ...]
    """Chemical shifts in ppm against DSS, one per spin, of 1H within `PROTON_SHIFT_PPM` (of a heteronucleus: any)."""
    j_hz: tuple[tuple[float, ...], ...]
    """Scalar couplings in Hz, finite, symmetric, zero diagonal, shape (n, n)."""
    multiplier: float = 1.0
    """Number of identical copies that the group stands for (3 for a CH3 simulated as one spin), positive."""
    nuclei: tuple[str, ...] = ()
    """Nucleus of each spin; empty: all 1H. Others feel no RF, couple by IzSz alone and are not detected."""
    quantum_number: tuple[float, ...] = ()
    """Spin quantum number of each spin; empty: that of its nucleus. A 1H of 3/2 is a set of equivalent protons with
    this total spin (`seqgen.spin.reduction`)."""
    offset_hz: tuple[float, ...] = ()
    """What is added to the offset of each spin whatever the field, Hz; empty: nothing. The secular coupling to a
    heteronucleus of fixed m is such an offset."""

    def __post_init__(self) -> None:
        n = len(self.labels)
        if not self.nuclei:
            object.__setattr__(self, "nuclei", ("1H",) * n)
        unknown = sorted(set(self.nuclei) - set(QUANTUM_NUMBER))
        if unknown:
            raise InputError(
                f"Spin group {self.name!r} holds {', '.join(unknown)}, but the nuclei that are known are "
                f"{', '.join(QUANTUM_NUMBER)}. Use one of these, or leave the spin out."
            )
        if not self.quantum_number:
            object.__setattr__(self, "quantum_number", tuple(QUANTUM_NUMBER[nucleus] for nucleus in self.nuclei))
        if not self.offset_hz:
            object.__setattr__(self, "offset_hz", (0.0,) * n)
        if n == 0 or len(self.shift_ppm) != n or len(self.nuclei) != n:
            raise InputError(f"Spin group {self.name!r} needs one shift and one nucleus per spin, {n} of each.")
        if len(self.j_hz) != n or any(len(row) != n for row in self.j_hz):
            raise InputError(f"Spin group {self.name!r} needs a coupling matrix of {n} x {n} values in Hz.")
        self._require_plausible_values()
        for j in range(n):
            for k in range(n):
                if self.j_hz[j][k] != self.j_hz[k][j] or (j == k and self.j_hz[j][k] != 0):
                    raise InputError(
                        f"Spin group {self.name!r}: the coupling matrix must be symmetric with a zero diagonal, but "
                        f"J[{self.labels[j]}, {self.labels[k]}] = {self.j_hz[j][k]} and its mirror is "
                        f"{self.j_hz[k][j]} Hz. State each pair once."
                    )

    def _require_plausible_values(self) -> None:
        """Refuse shifts, couplings and multipliers that no molecule has."""
        low, high = PROTON_SHIFT_PPM
        for label, shift, nucleus in zip(self.labels, self.shift_ppm, self.nuclei, strict=True):
            if not math.isfinite(shift):
                raise InputError(
                    f"Spin group {self.name!r}: shift_ppm of {label} must be a finite number, but is {shift}. "
                    "Give its chemical shift in ppm."
                )
            if nucleus == "1H" and not low <= shift <= high:
                raise InputError(
                    f"Spin group {self.name!r}: shift_ppm of {label} must lie between {low:g} and {high:g} ppm (1H), "
                    f"but is {shift:g}. Give ppm, not Hz; state the nucleus of a spin that is not 1H."
                )
        for label, row in zip(self.labels, self.j_hz, strict=True):
            for other, coupling in zip(self.labels, row, strict=True):
                if not math.isfinite(coupling):
                    raise InputError(
                        f"Spin group {self.name!r}: j_hz of {label} and {other} must be a finite number, but is "
                        f"{coupling}. Give the coupling in Hz, 0 for none."
                    )
        if not (self.multiplier > 0 and math.isfinite(self.multiplier)):
            raise InputError(
                f"Spin group {self.name!r}: multiplier must be positive and finite, but is {self.multiplier}. Give the "
                "number of identical copies the group stands for, or leave the group out."
            )

    @property
    def n_spins(self) -> int:
        """Number of spins, heteronuclei included."""
        return len(self.labels)

    @property
    def dimension(self) -> tuple[int, ...]:
        """Dimension 2I+1 of every spin."""
        return tuple(round(2 * number) + 1 for number in self.quantum_number)

    @property
    def n_protons(self) -> float:
        """Number of protons the group stands for (of a group as tables list it, without sets of equivalent ones)."""
        return self.multiplier * self.nuclei.count("1H")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpinSystem:
    """A molecule as the simulator sees it."""

    name: str
    """Short name, for example "Glu"."""
    groups: tuple[SpinGroup, ...]
    """Independent spin groups."""
    full_name: str = ""
    """Chemical name."""
    sources: tuple[str, ...] = ()
    """Citations of the shifts and couplings."""

    def __post_init__(self) -> None:
        if not self.groups:
            raise InputError(f"Spin system {self.name!r} has no spin groups.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Relaxation:
    """Relaxation of a molecule (all spins alike)."""

    t1_s: float
    """Longitudinal relaxation time, s."""
    t2_s: float
    """Transverse relaxation time, s."""

    def __post_init__(self) -> None:
        if not (self.t1_s > 0 and self.t2_s > 0 and self.t2_s <= 2 * self.t1_s):
            raise InputError(
                f"Relaxation needs t1_s > 0 and 0 < t2_s <= 2 t1_s, but has T1 {self.t1_s} s and T2 {self.t2_s} s."
            )
