"""Figures of a design: its waveforms beside the spectra it makes, and what it does beyond its ensemble."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.report import canvas
from seqgen.report.figures import draw_waveform
from seqgen.report.spectra import SpectraPanel, draw_spectra

_ROW_IN = 2.2


def design_figure(
    pulses: Mapping[str, RFPulse],
    panels: Sequence[SpectraPanel],
    *,
    range_ppm: tuple[float, float],
    window_ppm: tuple[float, float] | None = None,
    signal_label: str,
    nucleus: str = "1H",
) -> Figure:
    """Draw waveforms on the left and spectra on the right, all spectra on one scale.

    Args:
        pulses: Name to waveform; amplitude (Hz and uT) and phase in the carrier frame of each are drawn.
        panels: Spectra, top to bottom, for example of the design and of plain PRESS.
        range_ppm: Low and high edge of the chemical shifts shown; the higher one is on the left.
        window_ppm: The target's window, shaded.
        signal_label: Name and unit of the signal.
        nucleus: Nucleus whose gyromagnetic ratio turns Hz into uT.

    Raises:
        InputError: If there is no pulse or no panel, or spectra do not fit together.
    """
    if not pulses or not panels:
        raise InputError(
            f"The figure of a design needs pulses and spectra, but got {len(pulses)} and {len(panels)}. Pass both."
        )
    with canvas.figure_style():
        figure = canvas.new_figure(max(4.4, _ROW_IN * len(panels), 2.9 * len(pulses)))
        left, right = figure.subfigures(1, 2, squeeze=False, wspace=0.03, width_ratios=(1.0, 1.15))[0]
        waveform_axes = left.subplots(2 * len(pulses), 1, squeeze=False).ravel()
        for k, (name, pulse) in enumerate(pulses.items()):
            amplitude, phase = waveform_axes[2 * k : 2 * k + 2]
            b1_hz = np.asarray(pulse.b1_hz.detach().cpu().numpy(), dtype=np.complex128)
            draw_waveform(amplitude, phase, pulse, b1_hz, nucleus)
            amplitude.set_title(f"{name}: peak {pulse.peak_hz:.0f} Hz, {pulse.energy_hz2_s:.0f} Hz² s")
            if k < len(pulses) - 1:
                phase.set_xlabel("")
        spectra_axes = right.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, panel in zip(spectra_axes, panels, strict=True):
            draw_spectra(axes, panel, range_ppm)
            canvas.reverse_ppm(axes, range_ppm)
            if window_ppm is not None:
                canvas.shade_ppm(axes, window_ppm)
            if axes is not spectra_axes[-1]:
                axes.set_xlabel("")
        right.supylabel(signal_label, fontsize=9.5)
    return figure


def conditions_figure(
    b0_offsets_hz: Sequence[float],
    b1_scales: Sequence[float],
    maps: Mapping[str, FloatArray],
    *,
    ensemble: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Figure:
    """Draw maps over offset and relative B1 side by side, two in a row, the values of every condition in its cell.

    Maps of one row share their colours: give what is to be compared in pairs.

    Args:
        b0_offsets_hz: Offsets of the field, Hz, rising, at least two.
        b1_scales: Relative B1, rising, at least two.
        maps: Title to values, shape (n_b1, n_b0).
        ensemble: Offsets and relative B1 of the design's own ensemble: the cells within their range are framed.

    Raises:
        InputError: If conditions do not rise, or a map has another shape or is not finite.
    """
    for name, values in (("b0_offsets_hz", b0_offsets_hz), ("b1_scales", b1_scales)):
        if len(values) < 2 or not np.all(np.diff(values) > 0):
            raise InputError(
                f"A map needs at least two rising values of {name}, but got {list(values)}. Give at least two, rising."
            )
    shape = (len(b1_scales), len(b0_offsets_hz))
    for title, cells in maps.items():
        if cells.shape != shape or not np.all(np.isfinite(cells)):
            raise InputError(
                f"Map {title!r} must be finite of shape {shape}, but has shape {cells.shape}. Pass one value for each."
            )
    titles = list(maps)
    with canvas.figure_style():
        figure = canvas.new_figure(3.1 * -(-len(titles) // 2))
        places = figure.subplots(-(-len(titles) // 2), 2, sharex=True, sharey=True, squeeze=False)
        for row, pair in zip(places, (titles[k : k + 2] for k in range(0, len(titles), 2)), strict=True):
            top = max(float(maps[title].max()) for title in pair)
            for axes, title in zip(row, pair, strict=False):
                _draw_map(axes, b0_offsets_hz, b1_scales, maps[title], top)
                axes.set_title(title)
                if ensemble is not None:
                    _frame(axes, b0_offsets_hz, b1_scales, ensemble)
            row[0].set_ylabel("Relative B1")
        for axes in places[-1]:
            axes.set_xlabel("Offset (Hz)")
    return figure


def _draw_map(
    axes: Axes, b0_offsets_hz: Sequence[float], b1_scales: Sequence[float], values: FloatArray, top: float
) -> None:
    """Draw one map with its numbers."""
    mesh = axes.pcolormesh(
        np.asarray(b0_offsets_hz), np.asarray(b1_scales), values, shading="nearest", cmap="Blues", vmin=0.0, vmax=top
    )
    axes.figure.colorbar(mesh, ax=axes)
    if values.size > 120:
        return
    for y, row in zip(b1_scales, values, strict=True):
        for x, value in zip(b0_offsets_hz, row, strict=True):
            colour = "white" if value > 0.6 * top else canvas.INK
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)


def _frame(
    axes: Axes,
    b0_offsets_hz: Sequence[float],
    b1_scales: Sequence[float],
    within: tuple[Sequence[float], Sequence[float]],
) -> None:
    """Frame the cells whose conditions lie within the range of an ensemble."""
    edges = []
    for values, known in zip((b0_offsets_hz, b1_scales), within, strict=True):
        at = np.asarray(values)
        inside = np.flatnonzero((at >= min(known) - 1e-9) & (at <= max(known) + 1e-9))
        if inside.size == 0:
            return
        between = 0.5 * (at[1:] + at[:-1])
        bounds = np.concatenate([[2 * at[0] - between[0]], between, [2 * at[-1] - between[-1]]])
        edges.append((bounds[inside[0]], bounds[inside[-1] + 1]))
    (left, right), (low, high) = edges
    axes.plot([left, right, right, left, left], [low, low, high, high, low], color=canvas.VERMILION, label="ensemble")
