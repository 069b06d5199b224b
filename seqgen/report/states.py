"""What a spin state goes through in a shot: its largest product operators and its coherence orders against time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.integrate import trapezoid

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.report import canvas
from seqgen.simulate.trajectory import PulseSpan, Trajectory, order_norms, require_spins_one_half
from seqgen.spin.product_operators import Normalisation, absolute_norms, expand, magnitudes

_COLOURS = (canvas.BLUE, canvas.VERMILION, *canvas.CYCLE)
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.2)))
_FAINT = 5e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Curves:
    """Named curves of one panel against time."""

    names: tuple[str, ...]
    values: FloatArray
    """Shape (n_curves, K)."""


def states_figure(
    played: Trajectory,
    *,
    title: str = "",
    member: int = 0,
    count: int = 10,
    phases: bool = False,
    normalisation: Normalisation = "ernst",
) -> Figure:
    """Draw the largest product operators and the norm of every coherence order against time, pulses shaded.

    Time is in ms after the centre of the excitation, from the start of that pulse to the last state. Terms are chosen
    by the time integral of their squares. Their magnitudes over the phases x and y (I5⊥ for I5x and I5y) do not turn
    with the chemical shift; single phases are those of the frame of the spectrometer frequency. Norms are relative to
    the thermal state; the selection of coherence orders shows as a step at the end of a pulse. Pulses with a slice
    gradient are bridged by faint lines: inside them there is no state common to the voxel.

    Args:
        played: The states.
        title: First line above the figure; the names of the spins follow.
        member: Which member of the ensemble.
        count: Most terms, up to 21.
        phases: Draw signed coefficients of x and y instead of their magnitudes.
        normalisation: Of the product operators.

    Raises:
        InputError: If the member does not exist, `count` is out of range, or the group holds spins other than 1/2.
    """
    _require(played, member, count)
    shown = _shown(played)
    time_ms = (played.time_s[shown].numpy() - played.excitation_s) * 1e3
    terms = _terms(played, shown, member, phases, normalisation).largest(time_ms, count)
    norms = _norms(played, shown, member)
    with canvas.figure_style():
        figure = canvas.new_figure(6.4)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        gaps = _gaps(time_ms, played)
        _draw(upper, time_ms, terms, gaps)
        upper.set_ylabel("Coefficient" if phases else "Magnitude of coefficient")
        upper.tick_params(labelbottom=False)
        _draw(lower, time_ms, norms, gaps)
        lower.set_ylabel("Norm (thermal state = 1)")
        lower.set_ylim(bottom=0)
        lower.set_xlabel("Time after the excitation (ms)")
        lower.set_xlim(time_ms[0], time_ms[-1])
        _shade(upper, lower, played, (time_ms[0], time_ms[-1]))
        figure.align_ylabels([upper, lower])
        figure.suptitle("\n".join([*([title] if title else []), _spins(played)]), x=0.01, ha="left", fontsize=10.5)
    return figure


def _require(played: Trajectory, member: int, count: int) -> None:
    """Refuse arguments that nothing can be drawn for."""
    require_spins_one_half(played.model)
    n_members, most = played.states.shape[1], len(_COLOURS) * len(_DASHES)
    if not 0 <= member < n_members:
        raise InputError(
            f"member must lie between 0 and {n_members - 1} (ensemble of the trajectory), but is {member}."
        )
    if not 1 <= count <= most:
        raise InputError(f"count must lie between 1 and {most} (curves that can be told apart), but is {count}.")


def _shown(played: Trajectory) -> torch.Tensor:
    """Return the indices of the times from the start of the excitation on."""
    starts = [pulse.start_s for pulse in played.pulses if pulse.excites] or [played.pulses[0].start_s]
    return torch.nonzero(played.time_s >= starts[-1] - 1e-12)[:, 0]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Candidates:
    """All terms, from which the largest are picked."""

    curves: _Curves
    size: FloatArray
    """Magnitudes that compare: coefficients in Ernst's normalisation, shape (n_curves, K)."""

    def largest(self, time_ms: FloatArray, count: int) -> _Curves:
        """Return the curves with the largest time integral of the squared size, largest first."""
        power = np.asarray(trapezoid(self.size**2, time_ms, axis=1))
        picked = [k for k in np.argsort(-power, kind="stable")[:count] if power[k] > _FAINT**2 * power.max()]
        return _Curves(names=tuple(self.curves.names[k] for k in picked), values=self.curves.values[picked])


def _terms(
    played: Trajectory, shown: torch.Tensor, member: int, phases: bool, normalisation: Normalisation
) -> _Candidates:
    """Return every product operator but the unit operator against time."""
    states = played.states[shown, member]
    expansion, comparable = expand(states, normalisation), expand(states, "ernst")
    if phases:
        values, names, size = expansion.coefficients.real, expansion.names, comparable.coefficients.abs()
    else:
        (values, names), (size, _) = magnitudes(expansion), magnitudes(comparable)
    curves = _Curves(names=names[1:], values=values.mT[1:].numpy())
    return _Candidates(curves=curves, size=size.mT[1:].numpy())


def _norms(played: Trajectory, shown: torch.Tensor, member: int) -> _Curves:
    """Return the norms of the coherence orders that occur, and of all, over that of the thermal state."""
    thermal = float(played.model.initial_state.abs().square().sum().sqrt())
    by_order = absolute_norms(order_norms(played))
    curves = {f"|p| = {p}": norm[shown, member].numpy() / thermal for p, norm in by_order.items()}
    total = np.sqrt(sum(values**2 for values in curves.values()))
    kept = {name: values for name, values in curves.items() if values.max() > _FAINT} | {"all": total}
    return _Curves(names=tuple(kept), values=np.stack(list(kept.values())))


def _gaps(time_ms: FloatArray, played: Trajectory) -> list[int]:
    """Return the indices of times at the end of pulses with slice gradient: inside there are no states."""
    spans = [((t - played.excitation_s) * 1e3 for t in (p.start_s, p.end_s)) for p in played.pulses if p.selective]
    return [
        k
        for start, end in spans
        for k in range(1, time_ms.size)
        if end > start and abs(time_ms[k - 1] - start) < 1e-9 and abs(time_ms[k] - end) < 1e-9
    ]


def _draw(axes: Axes, time_ms: FloatArray, curves: _Curves, gaps: Sequence[int]) -> None:
    """Draw curves with a legend on the right, faint across gaps; "all" as a dotted line behind the others."""
    axes.axhline(0, color=canvas.LIGHT, linewidth=0.8, zorder=0)
    for index, (name, values) in enumerate(zip(curves.names, curves.values, strict=True)):
        colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS)]
        order = 2.0
        if name == "all":
            colour, dashes, order = canvas.INK, _DASHES[2], 1.5
        broken = np.insert(time_ms, gaps, np.nan), np.insert(values, gaps, np.nan)
        axes.plot(*broken, color=colour, linestyle=dashes, label=name, zorder=order)
        for k in gaps:
            axes.plot(time_ms[k - 1 : k + 1], values[k - 1 : k + 1], color=colour, linewidth=0.6, alpha=0.45)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), handlelength=1.6)


def _shade(upper: Axes, lower: Axes, played: Trajectory, range_ms: tuple[float, float]) -> None:
    """Shade the pulses in both panels and name them above the upper one."""
    pulses = [pulse for pulse in played.pulses if (pulse.end_s - played.excitation_s) * 1e3 >= range_ms[0]]
    for pulse, level in zip(pulses, _levels(pulses, range_ms), strict=True):
        start, end, centre = (
            (t - played.excitation_s) * 1e3 for t in (pulse.start_s, pulse.end_s, max(pulse.centre_s, pulse.start_s))
        )
        for axes in (upper, lower):
            if end - start > 1e-3 * (range_ms[1] - range_ms[0]):
                axes.axvspan(start, end, color=canvas.LIGHT, alpha=0.6, linewidth=0, zorder=0)
            else:
                axes.axvline(centre, color=canvas.GREY, linewidth=0.8, zorder=0)
        upper.annotate(
            pulse.name, (centre, 1.0), xycoords=upper.get_xaxis_transform(), xytext=(0, 3 + 11 * level),
            textcoords="offset points", ha="left" if centre < range_ms[0] + 0.05 * (range_ms[1] - range_ms[0]) else
            "center", va="bottom", fontsize=8.5,
        )  # fmt: skip


def _levels(pulses: Sequence[PulseSpan], range_ms: tuple[float, float]) -> list[int]:
    """Return the line each name is written on: the next one up where it would run into the name before."""
    levels: list[int] = []
    ends = [-np.inf, -np.inf, -np.inf]
    per_letter_ms = 0.0085 * (range_ms[1] - range_ms[0])
    for pulse in pulses:
        half = 0.5 * per_letter_ms * (len(pulse.name) + 2)
        centre = pulse.centre_s * 1e3
        level = next((k for k, end in enumerate(ends) if centre - half > end), len(ends) - 1)
        ends[level] = centre + half
        levels.append(level)
    return levels


def _spins(played: Trajectory) -> str:
    """Return which number stands for which spin."""
    return ", ".join(f"I{k} {label}" for k, label in enumerate(played.model.group.labels, 1))
