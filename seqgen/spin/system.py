"""Spin systems: shifts and couplings of a molecule's independent spin groups."""

from dataclasses import dataclass

from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class SpinGroup:
    """Spins coupled among themselves and to nothing else."""

    name: str
    """For example "backbone"."""
    labels: tuple[str, ...]
    """Names of the spins, for example ("H2", "H3a")."""
    shift_ppm: tuple[float, ...]
    """Chemical shifts in ppm against DSS, one per spin (of a heteronucleus: not used)."""
    j_hz: tuple[tuple[float, ...], ...]
    """Scalar couplings in Hz, symmetric, zero diagonal, shape (n, n)."""
    multiplier: float = 1.0
    """Number of identical copies that the group stands for (3 for a CH3 simulated as one spin)."""
    nuclei: tuple[str, ...] = ()
    """Nucleus of each spin; empty: all 1H. Others feel no RF, couple by IzSz alone and are not detected."""

    def __post_init__(self) -> None:
        n = len(self.labels)
        if not self.nuclei:
            object.__setattr__(self, "nuclei", ("1H",) * n)
        if n == 0 or len(self.shift_ppm) != n or len(self.nuclei) != n:
            raise InputError(f"Spin group {self.name!r} needs one shift and one nucleus per spin, {n} of each.")
        if len(self.j_hz) != n or any(len(row) != n for row in self.j_hz):
            raise InputError(f"Spin group {self.name!r} needs a coupling matrix of {n} x {n} values in Hz.")
        for j in range(n):
            for k in range(n):
                if self.j_hz[j][k] != self.j_hz[k][j] or (j == k and self.j_hz[j][k] != 0):
                    raise InputError(
                        f"Spin group {self.name!r}: the coupling matrix must be symmetric with a zero diagonal, but "
                        f"J[{self.labels[j]}, {self.labels[k]}] = {self.j_hz[j][k]} and its mirror is "
                        f"{self.j_hz[k][j]} Hz. State each pair once."
                    )

    @property
    def n_spins(self) -> int:
        """Number of spins, heteronuclei included."""
        return len(self.labels)

    @property
    def n_protons(self) -> float:
        """Number of protons the group stands for."""
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
