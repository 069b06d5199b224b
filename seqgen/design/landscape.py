"""The landscape of a search: how low each start came, how far apart the solutions lie, how often the best was found."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NEAR_BEST = 0.01
"""A start found the best where its loss exceeds it by at most this times max(1, |best loss|)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Landscape:
    """Where the starts ended: after their share of the iterations, or each at its end."""

    names: tuple[str, ...]
    """Name of each start."""
    losses: tuple[float, ...]
    """Loss each ended with."""
    iterations: tuple[int, ...]
    """Iterations each took."""
    distances: tuple[tuple[float, ...], ...]
    """Distance between the waveforms of every two (see `distance`), shape (n, n)."""

    @property
    def best_found(self) -> int:
        """Number of starts that ended within `NEAR_BEST` of the best of them."""
        best = min(self.losses)
        return sum(loss - best <= NEAR_BEST * max(1.0, abs(best)) for loss in self.losses)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "names": list(self.names),
            "losses": list(self.losses),
            "iterations": list(self.iterations),
            "distances": [list(row) for row in self.distances],
            "best_found": self.best_found,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Landscape":
        """Return the landscape that `to_json` wrote.

        Raises:
            ValueError: If its lists do not belong together.
        """
        landscape = Landscape(
            names=tuple(map(str, value["names"])),
            losses=tuple(map(float, value["losses"])),
            iterations=tuple(map(int, value["iterations"])),
            distances=tuple(tuple(map(float, row)) for row in value["distances"]),
        )
        n = len(landscape.names)
        lengths = (len(landscape.losses), len(landscape.iterations), len(landscape.distances))
        if n == 0 or any(m != n for m in (*lengths, *map(len, landscape.distances))):
            raise ValueError(f"a landscape of {n} starts with lists of {lengths}")
        return landscape


def landscape(
    names: Sequence[str], losses: Sequence[float], iterations: Sequence[int], waveforms_hz: Sequence[Tensor]
) -> Landscape:
    """Return the landscape of solutions, waveforms complex, shape (n_samples,) each."""
    return Landscape(
        names=tuple(names),
        losses=tuple(losses),
        iterations=tuple(iterations),
        distances=tuple(tuple(distance(a, b) for b in waveforms_hz) for a in waveforms_hz),
    )


def distance(a: Tensor, b: Tensor) -> float:
    """Return the relative L2 distance of two complex waveforms, shape (n,), whatever their global phases.

    min over phi of |a - exp(i phi) b| / sqrt((|a|^2 + |b|^2) / 2): 0 for the same waveform, sqrt(2) for two that
    have nothing in common. The minimum is at phi = arg of the inner product <b, a>.
    """
    energy = float((a.abs() ** 2).sum() + (b.abs() ** 2).sum())
    if energy == 0:
        return 0.0
    inner = (b.conj() * a).sum()
    turned = b * torch.polar(torch.ones_like(inner.abs()), inner.angle())
    return math.sqrt(2 * float(((a - turned).abs() ** 2).sum()) / energy)


def landscape_text(found: Landscape) -> str:
    """Return the landscape for a terminal."""
    best = min(found.losses)
    width = max(map(len, found.names))
    rows = [
        f"  {name:{width}}  loss {loss:9.4f}  ({loss - best:+.4f})  {iterations} iterations"
        for name, loss, iterations in sorted(
            zip(found.names, found.losses, found.iterations, strict=True), key=lambda row: row[1]
        )
    ]
    n = len(found.names)
    pairs = [found.distances[i][j] for i in range(n) for j in range(i)]
    apart = f"; solutions {min(pairs):.2f} to {max(pairs):.2f} apart (0 same, 1.41 unrelated)" if pairs else ""
    return "\n".join([f"Starts: best found by {found.best_found} of {n} within {NEAR_BEST:.0%}{apart}", *rows])
