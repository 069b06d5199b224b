"""Figures of spectra: panels to compare, and a fit with its residual and its metabolites."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.report import canvas

_DATA_HEIGHT_IN = 3.2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpectraPanel:
    """Curves that share one panel."""

    title: str
    """For example "Edited PRESS, TE 41/34 ms"."""
    ppm: FloatArray
    """Chemical shift, ppm, shape (n,), rising or falling."""
    curves: Mapping[str, FloatArray]
    """Metabolite to real (phased) spectrum, shape (n,)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FitCurves:
    """A fitted spectrum, phased; real arrays of shape (n,), all in one unit."""

    ppm: FloatArray
    """Chemical shift, ppm, rising or falling."""
    data: FloatArray
    """The spectrum that was fitted."""
    model: FloatArray
    """The whole fit, baseline included; the residual drawn is data - model."""
    baseline: FloatArray
    """The fitted baseline."""
    components: Mapping[str, FloatArray]
    """Metabolite to its part of the fit, in the order drawn from top to bottom."""
    highlighted: tuple[str, ...] = ("Glu", "Gln")
    """Components drawn filled and in colour."""


def spectra_figure(
    panels: Sequence[SpectraPanel],
    *,
    range_ppm: tuple[float, float],
    window_ppm: tuple[float, float] | None = None,
    signal_label: str,
) -> Figure:
    """Draw spectra side by side on one scale, for example the edited sequence against TE-optimised PRESS.

    Args:
        panels: What goes into each panel, left to right, two in a row.
        range_ppm: Low and high edge of the chemical shifts shown; the higher one is on the left.
        window_ppm: The target's window, shaded in every panel.
        signal_label: Name and unit of the signal, for example "Signal (protons, pulse-acquire = 1)".

    Raises:
        InputError: If there is no panel, arrays do not fit together or hold no point within `range_ppm`.
    """
    if not panels:
        raise InputError("The spectra figure needs at least one panel, but got none. Pass the spectra to compare.")
    n_columns = min(2, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    with canvas.figure_style():
        figure = canvas.new_figure(3.6 * n_rows)
        places = figure.subplots(n_rows, n_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(places, panels, strict=False):
            draw_spectra(axes, panel, range_ppm)
            canvas.reverse_ppm(axes, range_ppm)
            if window_ppm is not None:
                canvas.shade_ppm(axes, window_ppm)
        for axes in places[len(panels) :]:
            axes.remove()
        for axes in places[::n_columns]:
            axes.set_ylabel(signal_label)
    return figure


def draw_spectra(axes: Axes, panel: SpectraPanel, range_ppm: tuple[float, float]) -> None:
    """Draw the curves of one panel, clipped to the range."""
    canvas.require_vectors(f"Panel {panel.title!r}", {"ppm": panel.ppm} | dict(panel.curves))
    shown = _within(panel.ppm, range_ppm, f"Panel {panel.title!r}")
    axes.axhline(0, color=canvas.LIGHT, linewidth=0.8, zorder=0.5, label="_zero")
    for index, (name, values) in enumerate(panel.curves.items()):
        axes.plot(panel.ppm[shown], values[shown], color=canvas.metabolite_colour(name, index), label=name)
    axes.set_title(panel.title)
    axes.legend(loc="upper right")


def _within(ppm: FloatArray, range_ppm: tuple[float, float], where: str) -> NDArray[np.bool_]:
    """Return which points lie in the range.

    Raises:
        InputError: If fewer than two do, or the range does not rise.
    """
    canvas.require_range(range_ppm)
    shown = (ppm >= range_ppm[0]) & (ppm <= range_ppm[1])
    if shown.sum() < 2:
        raise InputError(
            f"{where} has {shown.sum()} points within {range_ppm[0]} to {range_ppm[1]} ppm; its axis runs from "
            f"{ppm.min():.3f} to {ppm.max():.3f} ppm. Choose a range inside the axis."
        )
    return shown


def fit_figure(
    fit: FitCurves,
    *,
    range_ppm: tuple[float, float],
    window_ppm: tuple[float, float] | None = None,
    signal_label: str = "Signal (arb. units)",
) -> Figure:
    """Draw residual, data with fit and baseline (both on one scale), and the metabolites stacked below.

    Args:
        fit: The fitted spectrum.
        range_ppm: Low and high edge of the chemical shifts shown; the higher one is on the left.
        window_ppm: A window to shade.
        signal_label: Name and unit of the signal.

    Raises:
        InputError: If arrays do not fit together, are complex, or hold no point within `range_ppm`.
    """
    curves = {"data": fit.data, "model": fit.model, "baseline": fit.baseline, **fit.components}
    canvas.require_vectors("The fit figure", {"ppm": fit.ppm} | curves)
    complex_names = [name for name, values in curves.items() if np.iscomplexobj(values)]
    if complex_names:
        raise InputError(
            f"The fit figure draws real, phased spectra, but {', '.join(complex_names)} are complex. Pass real parts."
        )
    shown = _within(fit.ppm, range_ppm, "The fit figure")
    cut = _cut(fit, shown)
    limits = _data_limits(cut)
    per_inch = (limits[1] - limits[0]) / _DATA_HEIGHT_IN
    residual_in = max(0.7, 2.2 * float(np.abs(cut.data - cut.model).max()) / per_inch)
    stack_in = min(max(0.36 * len(fit.components), 0.8), 6.0)
    with canvas.figure_style():
        figure = canvas.new_figure(residual_in + _DATA_HEIGHT_IN + stack_in + 0.9)
        heights = [residual_in, _DATA_HEIGHT_IN, stack_in]
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=heights)
        _draw_residual(top, cut, residual_in * per_inch)
        _draw_data(middle, cut, limits, signal_label)
        _draw_stack(bottom, cut, stack_in)
        canvas.reverse_ppm(bottom, range_ppm)
        for axes in (top, middle, bottom):
            if window_ppm is not None:
                canvas.shade_ppm(axes, window_ppm)
        figure.align_ylabels([top, middle, bottom])
    return figure


def _cut(fit: FitCurves, shown: NDArray[np.bool_]) -> FitCurves:
    """Return the fit without the points that are not shown."""
    return replace(
        fit,
        ppm=fit.ppm[shown],
        data=fit.data[shown],
        model=fit.model[shown],
        baseline=fit.baseline[shown],
        components={name: values[shown] for name, values in fit.components.items()},
    )


def _data_limits(fit: FitCurves) -> tuple[float, float]:
    """Return y limits that hold data, model, baseline and zero."""
    drawn = np.concatenate([fit.data, fit.model, fit.baseline, [0.0]])
    margin = 0.05 * float(np.ptp(drawn)) or 1.0
    return float(drawn.min()) - margin, float(drawn.max()) + margin


def _draw_residual(axes: Axes, fit: FitCurves, height: float) -> None:
    """Draw data - model about zero; `height` is what the panel spans in the unit of the data."""
    axes.axhline(0, color=canvas.LIGHT, linewidth=0.8, label="_zero")
    axes.plot(fit.ppm, fit.data - fit.model, color=canvas.GREY, linewidth=0.9, label="residual")
    axes.set_ylim(-height / 2, height / 2)
    axes.set_yticks([0])
    axes.set_ylabel("Residual")


def _draw_data(axes: Axes, fit: FitCurves, limits: tuple[float, float], signal_label: str) -> None:
    """Draw data, fit, baseline, and the highlighted metabolites on top of the baseline."""
    axes.plot(fit.ppm, fit.data, color=canvas.GREY, linewidth=0.9, label="data")
    axes.plot(fit.ppm, fit.model, color=canvas.INK, linewidth=1.3, label="fit")
    axes.plot(fit.ppm, fit.baseline, color=canvas.GREEN, linewidth=1.0, linestyle=(0, (5, 2)), label="baseline")
    for name, colour in _highlights(fit).items():
        top = fit.baseline + fit.components[name]
        axes.fill_between(fit.ppm, fit.baseline, top, color=colour, alpha=0.35, linewidth=0, label=name)
    axes.set_ylim(*limits)
    axes.set_ylabel(signal_label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_stack(axes: Axes, fit: FitCurves, height_in: float) -> None:
    """Draw the metabolites one below the other on a common scale, each line shifted by its own offset."""
    offsets = _stack_offsets(fit, height_in)
    highlights = _highlights(fit)
    for offset, (name, values) in zip(offsets, fit.components.items(), strict=True):
        strong = name in highlights
        colour = highlights.get(name, canvas.INK)
        axes.plot(fit.ppm, values + offset, color=colour, linewidth=1.4 if strong else 0.9, label=name)
        if strong:
            axes.fill_between(fit.ppm, offset, values + offset, color=colour, alpha=0.3, linewidth=0)
        axes.annotate(
            name, (1.0, offset), xycoords=axes.get_yaxis_transform(), xytext=(6, 0), textcoords="offset points",
            va="center", color=colour, fontweight="bold" if strong else "normal",
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_ylabel("Metabolites, one scale")


def _highlights(fit: FitCurves) -> dict[str, str]:
    """Return the highlighted components that exist, with their colours."""
    names = [name for name in fit.highlighted if name in fit.components]
    return {name: canvas.metabolite_colour(name, index) for index, name in enumerate(names)}


def _stack_offsets(fit: FitCurves, height_in: float) -> list[float]:
    """Return downward offsets that keep curves apart and leave room for their names."""
    offsets: list[float] = []
    below = 0.0
    spans = [float(np.ptp(np.append(values, 0.0))) for values in fit.components.values()]
    least = max(sum(spans), 1e-300) * 0.19 / height_in
    for values in fit.components.values():
        high, low = max(float(values.max()), 0.0), min(float(values.min()), 0.0)
        offset = below - high - 0.2 * least
        if offsets:
            offset = min(offset, offsets[-1] - least)
        offsets.append(offset)
        below = offset + low
    return offsets
