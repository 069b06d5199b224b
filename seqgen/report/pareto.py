"""Pareto fronts: which points no other point beats, and their picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.report import canvas

MAX_GROUPS = 7
"""Most values of a column of words that get a colour of their own."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Column:
    """One quantity of all points."""

    name: str
    """Its label."""
    values: FloatArray
    """Its values, shape (n,)."""
    maximise: bool = False
    """More is better; else less."""
    log: bool = False
    """Drawn on a logarithmic scale."""


def non_dominated(costs: FloatArray) -> NDArray[np.bool_]:
    """Return which points no other point beats: none is as small everywhere and smaller somewhere.

    Args:
        costs: Shape (n, k), less is better; equal points do not beat each other.

    Returns:
        Shape (n,).
    """
    return np.array(
        [not np.any(np.all(costs <= cost, axis=1) & np.any(costs < cost, axis=1)) for cost in costs], dtype=bool
    )


def front(columns: Sequence[Column]) -> NDArray[np.bool_]:
    """Return which points are on the Pareto front of some columns, shape (n,)."""
    return non_dominated(np.stack([-c.values if c.maximise else c.values for c in columns], axis=1))


def pareto_figure(
    x: Column,
    y: Column,
    z: Column | None = None,
    *,
    colour: tuple[str, Sequence[float | str]] | None = None,
    colour_log: bool = False,
    plain: tuple[FloatArray, FloatArray] | None = None,
) -> Figure:
    """Draw points in two quantities; those on the front are ringed, and joined where the two alone decide.

    The line is the edge of what is reached: between two points of the front it takes the worse value of each.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        z: A third quantity that the front counts, drawn as colour, or None.
        colour: Label and values of what is drawn as colour without counting, numbers or words; or None.
        colour_log: Draw numbers of `colour` on a logarithmic scale.
        plain: (x, y) of the plain sequences of the points, shape (n,) each, NaN where unknown; or None.

    Raises:
        InputError: If there is no point, or a value is not finite, or not positive where the scale is logarithmic.
    """
    counted = [x, y] if z is None else [x, y, z]
    canvas.require_vectors("The Pareto figure", {column.name: column.values for column in counted})
    for column in counted:
        if column.log and not (column.values > 0).all():
            raise InputError(
                f"{column.name} is drawn on a logarithmic scale, but is {column.values.min():g} somewhere. Leave it "
                "out of `logarithmic`."
            )
    on_front = front(counted)
    with canvas.figure_style():
        figure = canvas.new_figure(4.6)
        axes = figure.subplots()
        if z is not None:
            colour, colour_log = (z.name, list(z.values)), z.log
        if colour is None:
            axes.scatter(x.values, y.values, s=26, color=canvas.BLUE, label="designs")
        else:
            _draw_coloured(figure, axes, x, y, *colour, log=colour_log)
        if plain is not None:
            axes.scatter(*plain, s=30, marker="x", color=canvas.GREY, linewidth=1.2, label="plain sequence", zorder=1)
        edge, at = canvas.INK, (x.values[on_front], y.values[on_front])
        axes.scatter(*at, s=90, facecolors="none", edgecolors=edge, linewidth=1.2, label="not dominated")
        if z is None:
            order = np.lexsort((at[1], at[0]))
            axes.plot(
                at[0][order],
                at[1][order],
                color=edge,
                linewidth=0.9,
                drawstyle="steps-pre" if x.maximise else "steps-post",
                zorder=1,
            )
        for column, name in ((x, "x"), (y, "y")):
            if column.log:
                axes.set(**{f"{name}scale": "log"})
                _plain_ticks(axes.xaxis if name == "x" else axes.yaxis)
            axes.set(**{f"{name}label": f"{column.name} ({'more' if column.maximise else 'less'} is better)"})
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """Write 1, 2, 5 instead of powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 1.2, 1.5, 2.0, 3.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _words(values: Sequence[float | str]) -> bool:
    """Tell whether values are words."""
    return any(isinstance(value, str) for value in values)


def _draw_coloured(
    figure: Figure, axes: Axes, x: Column, y: Column, label: str, values: Sequence[float | str], *, log: bool
) -> None:
    """Draw the points with a colour bar for numbers, a legend for words."""
    if not _words(values):
        numbers = np.array(values, dtype=float)
        norm = LogNorm() if log and (numbers > 0).all() else None
        drawn = axes.scatter(x.values, y.values, s=26, c=numbers, cmap="viridis", norm=norm)
        bar = figure.colorbar(drawn, ax=axes, label=label, pad=0.02)
        if norm is not None:
            _plain_ticks(bar.ax.yaxis)
        return
    texts = np.array([str(value) for value in values])
    groups = list(dict.fromkeys(texts.tolist()))
    if len(groups) > MAX_GROUPS:
        raise InputError(
            f"colour {label} has {len(groups)} different values, more than the {MAX_GROUPS} that colours tell apart. "
            "Choose a column of numbers or one with fewer values."
        )
    for group, hue in zip(groups, (canvas.BLUE, canvas.VERMILION, *canvas.CYCLE), strict=False):
        mine = texts == group
        axes.scatter(x.values[mine], y.values[mine], s=26, color=hue, label=f"{label} {group}")
