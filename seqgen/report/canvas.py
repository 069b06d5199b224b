"""The look shared by all figures, and their way into bytes and files; no pyplot, no global settings."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.provenance import replacing

INK, GREY, LIGHT = "#222222", "#767676", "#d9d9d9"
BLUE, VERMILION, GREEN, PURPLE, ORANGE = "#0072b2", "#d55e00", "#007d5b", "#a8528a", "#b87d00"
"""Hues that colour-blind readers can tell apart: Okabe and Ito (2008), the last three darkened for lines."""

CYCLE = (GREEN, PURPLE, ORANGE, INK, GREY)
COLOURS = {"Glu": BLUE, "Gln": VERMILION}
"""Metabolites with a colour of their own, the same in every figure."""

WIDTH_IN = 9.0
"""Width of every figure, in: 900 px on the page."""
_DPI = 100
_LINE_BINS = 400

_STYLE: dict[Any, Any] = {
    "figure.dpi": _DPI,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.08,
    "lines.linewidth": 1.2,
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "seqgen",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply seqgen's figure style inside the block, whatever the user's matplotlibrc says; restore it after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(height_in: float) -> Figure:
    """Return an empty figure of the common width; call inside `figure_style`."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def metabolite_colour(name: str, index: int) -> str:
    """Return a metabolite's own colour, else entry `index` of the cycle."""
    return COLOURS.get(name, CYCLE[index % len(CYCLE)])


def require_range(range_ppm: tuple[float, float]) -> None:
    """Refuse a range of chemical shifts that does not rise.

    Raises:
        InputError: If it does not.
    """
    if not range_ppm[0] < range_ppm[1]:
        raise InputError(
            f"range_ppm must rise from low to high edge, but is {range_ppm[0]} to {range_ppm[1]}. Swap the two."
        )


def reverse_ppm(axes: Axes, range_ppm: tuple[float, float]) -> None:
    """Show `range_ppm` (low, high) with the higher shift on the left, and name the axis."""
    axes.set_xlim(range_ppm[1], range_ppm[0])
    axes.set_xlabel("Chemical shift (ppm)")


def shade_ppm(axes: Axes, window_ppm: tuple[float, float]) -> None:
    """Shade a window of chemical shifts behind the curves."""
    axes.axvspan(*window_ppm, color=LIGHT, alpha=0.6, linewidth=0, zorder=0)


def proportional_axis(axes: Axes, per_unit: float, label: str) -> None:
    """Put a second y axis on the right, `per_unit` times the left one."""
    right = axes.secondary_yaxis(
        "right", functions=(lambda left: np.multiply(left, per_unit), lambda right: np.divide(right, per_unit))
    )
    right.set_ylabel(label)


def require_vectors(where: str, vectors: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that are not one-dimensional, of equal non-zero length and finite.

    Raises:
        InputError: Naming the figure, the array and what is wrong.
    """
    first, length = next((name, np.shape(values)) for name, values in vectors.items())
    for name, values in vectors.items():
        if np.ndim(values) != 1 or np.shape(values) != length or np.size(values) == 0:
            raise InputError(
                f"{where} needs one-dimensional arrays of equal length, but {name} has shape {np.shape(values)} "
                f"and {first} has {length}. Pass one value per point."
            )
        if not np.all(np.isfinite(values)):
            raise InputError(f"{where}: {name} holds NaN or infinite values, which cannot be drawn. Remove them.")


def step_line(start_s: float, dwell_s: float, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (times in s, values) that draw a piecewise-constant waveform as one line.

    Up to 800 samples are drawn exactly. More are cut into at most 400 bins, each drawn by its smallest and largest
    sample in the order they come: peaks and fast oscillations keep their height, nothing is aliased. NaN stays a gap;
    a constant needs two points.

    Args:
        start_s: Start of the first sample, s.
        dwell_s: Duration of a sample, s.
        values: Samples, shape (n,).
    """
    n = values.shape[0]
    if np.all(values == values[0]) or np.all(np.isnan(values)):
        return start_s + dwell_s * np.array([0.0, n]), np.array([values[0], values[0]])
    if n <= 2 * _LINE_BINS:
        edges = start_s + dwell_s * np.arange(n + 1)
        return np.repeat(edges, 2)[1:-1], np.repeat(values, 2)
    per_bin = -(-n // _LINE_BINS)
    starts = np.arange(0, n, per_bin)
    padded = np.pad(values, (0, per_bin * starts.size - n), mode="edge").reshape(starts.size, per_bin)
    lowest = np.where(np.isnan(padded), np.inf, padded).argmin(1)
    highest = np.where(np.isnan(padded), -np.inf, padded).argmax(1)
    picked = np.minimum(np.sort(np.stack([lowest, highest], 1), 1) + starts[:, None], n - 1).ravel()
    times = start_s + dwell_s * np.concatenate([[0.0], picked + 0.5, [n]])
    return times, np.concatenate([values[:1], values[picked], values[-1:]])


def phase_deg(b1_hz: NDArray[np.complexfloating[Any, Any]]) -> FloatArray:
    """Return the phase in degrees, -180 to 180, NaN where the amplitude is below 0.1 % of its peak."""
    amplitude = np.abs(b1_hz)
    visible = amplitude > 1e-3 * amplitude.max()
    return np.where(visible, np.degrees(np.angle(b1_hz)), np.nan)


def break_wraps(times: FloatArray, values_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Put a gap wherever a phase jumps by more than 180 degrees, so that no line is drawn across the wrap."""
    jumps = np.flatnonzero(np.abs(np.diff(values_deg)) > 180) + 1
    return np.insert(times, jumps, times[jumps]), np.insert(values_deg, jumps, np.nan)


def render(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return the figure as SVG, or as PNG with two dots per CSS pixel; the same bytes for the same figure."""
    metadata: dict[str, Any] = {"Software": None}
    if kind == "svg":
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    stream = io.BytesIO()
    with figure_style():
        figure.savefig(stream, format=kind, dpi=2 * _DPI, metadata=metadata)
    return stream.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .png or .svg, by the suffix of `path`, atomically.

    Raises:
        InputError: If the suffix is another one, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        content = render(figure, "png")
    elif suffix == ".svg":
        content = render(figure, "svg")
    else:
        raise InputError(f"A figure is saved as .png or .svg, but {path} ends in {path.suffix!r}. Rename the output.")
    with replacing(path) as temporary:
        temporary.write_bytes(content)
