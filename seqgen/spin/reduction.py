"""Smaller spin groups that together give exactly what a group gives.

Three reductions, each exact for whatever RF and gradients do to all 1H alike:

- Heteronuclei feel no RF and couple by IzSz alone, so their m never changes: one proton group per m, with the coupling
  as an offset J m.
- Protons of equal shift and equal couplings to all others (a methyl group) are seen only through their total spin;
  couplings among them change nothing that can be observed. m spins 1/2 are the spins S = m/2, m/2 - 1, ... with
  multiplicities C(m, k) - C(m, k - 1), k = m/2 - S.
- Spins that no chain of couplings connects evolve apart.

Source: Corio, Structure of High-Resolution NMR Spectra, ch. 6 (1966), on composite particles; Nielsen et al., Prog NMR
Spectrosc 28:1 (1995).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

from seqgen.spin.system import QUANTUM_NUMBER, SpinGroup


def reduced_groups(group: SpinGroup, *, total_spins: bool = True) -> tuple[SpinGroup, ...]:
    """Return smaller groups whose signals add up to that of `group`; multipliers carry the weights.

    A group without heteronuclei, equivalent protons or loose spins comes back alone, unchanged.

    Args:
        group: The group.
        total_spins: Replace equivalent protons by their total spins; False keeps every proton a spin 1/2.
    """
    parts = [part for protons in _without_heteronuclei(group) for part in _connected(protons)]
    return tuple(final for part in parts for final in (_with_total_spins(part) if total_spins else [part]))


def _without_heteronuclei(group: SpinGroup) -> list[SpinGroup]:
    """Return one proton group for every combination of the heteronuclei's m."""
    protons = [k for k in range(group.n_spins) if group.nuclei[k] == "1H"]
    others = [
        k
        for k in range(group.n_spins)
        if group.nuclei[k] != "1H" and any(group.j_hz[k][proton] != 0 for proton in protons)
    ]
    if len(protons) == group.n_spins:
        return [group]
    if not protons:
        return []
    levels = [[QUANTUM_NUMBER[group.nuclei[k]] - step for step in range(group.dimension[k])] for k in others]
    base = _chosen(group, protons)
    weight = group.multiplier / math.prod(group.dimension[k] for k in others)
    return [
        replace(
            base,
            multiplier=weight,
            offset_hz=tuple(
                group.offset_hz[proton] + sum(group.j_hz[proton][k] * m for k, m in zip(others, states, strict=True))
                for proton in protons
            ),
        )
        for states in itertools.product(*levels)
    ]


def _connected(group: SpinGroup) -> list[SpinGroup]:
    """Return the parts of a group between which there is no chain of couplings."""
    left, parts = list(range(group.n_spins)), []
    while left:
        part = [left.pop(0)]
        for spin in part:  # grows while it is walked through
            part += [other for other in left if group.j_hz[spin][other] != 0]
            left = [other for other in left if other not in part]
        parts.append(sorted(part))
    return [group] if len(parts) == 1 else [_chosen(group, part) for part in parts]


def _with_total_spins(group: SpinGroup) -> list[SpinGroup]:
    """Replace the first set of equivalent spins by its total spins, and go on with what is left."""
    chosen = next((members for members in _equivalent_sets(group) if len(members) > 1), None)
    if chosen is None:
        return [group]
    first, size = chosen[0], len(chosen)
    rest = [k for k in range(group.n_spins) if k not in chosen]
    result = []
    for step in range(size // 2 + 1):
        total = size / 2 - step
        count = math.comb(size, step) - (math.comb(size, step - 1) if step else 0)
        weight = count * (2 * total + 1) / 2**size
        kept = sorted([*rest, first]) if total > 0 else rest
        if not kept:
            continue
        part = _chosen(group, kept)
        if total > 0:
            at = kept.index(first)
            part = replace(
                part,
                labels=_put(part.labels, at, "+".join(group.labels[k] for k in chosen)),
                quantum_number=_put(part.quantum_number, at, total),
            )
        part = replace(part, multiplier=group.multiplier * weight)
        result += [final for connected in _connected(part) for final in _with_total_spins(connected)]
    return result


def _equivalent_sets(group: SpinGroup) -> list[list[int]]:
    """Return the spins in sets of magnetic equivalence: same shift, same coupling to every spin outside the set."""
    sets: list[list[int]] = []
    for spin in range(group.n_spins):
        home = next((members for members in sets if _equivalent(group, members, spin)), None)
        if home is None:
            sets.append([spin])
        else:
            home.append(spin)
    return sets


def _equivalent(group: SpinGroup, members: list[int], spin: int) -> bool:
    """Return whether a spin 1/2 belongs to a set of spins 1/2."""
    first = members[0]
    outside = [k for k in range(group.n_spins) if k != spin and k not in members]
    same = (group.shift_ppm[first], group.offset_hz[first]) == (group.shift_ppm[spin], group.offset_hz[spin])
    halves = group.quantum_number[first] == group.quantum_number[spin] == 0.5
    return same and halves and all(group.j_hz[first][k] == group.j_hz[spin][k] for k in outside)


def _chosen(group: SpinGroup, spins: Sequence[int]) -> SpinGroup:
    """Return the group of some of the spins."""
    return replace(
        group,
        labels=tuple(group.labels[k] for k in spins),
        shift_ppm=tuple(group.shift_ppm[k] for k in spins),
        nuclei=tuple(group.nuclei[k] for k in spins),
        quantum_number=tuple(group.quantum_number[k] for k in spins),
        offset_hz=tuple(group.offset_hz[k] for k in spins),
        j_hz=tuple(tuple(group.j_hz[j][k] for k in spins) for j in spins),
    )


def _put(values: tuple, at: int, value: object) -> tuple:  # type: ignore[type-arg]
    """Return the tuple with one value replaced."""
    return (*values[:at], value, *values[at + 1 :])
