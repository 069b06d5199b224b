"""Sequence diagram: what a Timeline plays, the whole shot above and excitation to readout enlarged below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from torch import Tensor

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.report import canvas
from seqgen.timeline import Timeline
from seqgen.units import hz_to_tesla, tesla_to_hz

_AXIS_COLOURS = {"Gx": canvas.BLUE, "Gy": canvas.VERMILLION, "Gz": canvas.GREEN}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Line:
    """One channel against time, ready to draw."""

    time_ms: FloatArray
    value: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Mark:
    """A named pulse centre."""

    time_ms: float
    name: str


def sequence_diagram(
    timeline: Timeline, *, echo_times: Mapping[str, float] | None = None, nucleus: str = "1H"
) -> Figure:
    """Draw RF amplitude and phase, three gradients and the receiver gate of one shot against time.

    The upper panels show the whole shot, 0 to `timeline.duration_s`; the lower ones the stretch from the excitation
    pulse to the opening of the first receiver after it (or the last echo, where that comes later). Time is in ms,
    RF in Hz, the phase in the frame of the spectrometer frequency, gradients in mT/m (left) and kHz/m (right).

    Args:
        timeline: The shot to draw.
        echo_times: Name to duration in s, for example {"TE1": 0.041, "TE2": 0.034, "TE": 0.075}. "TE" is drawn from
            the centre of the excitation pulse; the others end to end from there, in the order given.
        nucleus: Nucleus whose gyromagnetic ratio turns Hz/m into mT/m.

    Raises:
        InputError: If echo times are given but the shot has no excitation pulse, or one is not positive or ends
            after the shot.
    """
    arrows = _echo_arrows(timeline, echo_times or {})
    lines = _channels(timeline, nucleus)
    window = _zoom_window(timeline, arrows)
    with canvas.figure_style():
        figure = canvas.new_figure(9.2 if arrows else 8.8)
        grid = figure.add_gridspec(2, 1, height_ratios=[2.6, 6.2])
        _draw_overview(figure.add_subfigure(grid[0]), timeline, lines, window)
        _draw_zoom(figure.add_subfigure(grid[1]), timeline, lines, window, arrows, nucleus)
    return figure


def _numpy(values: Tensor) -> NDArray[np.generic]:
    """Return a tensor's values on the CPU, cut from any graph."""
    array: NDArray[np.generic] = values.detach().cpu().numpy()
    return array


def _channels(timeline: Timeline, nucleus: str) -> dict[str, _Line]:
    """Return the lines "amplitude" (Hz), "phase" (deg) and "Gx", "Gy", "Gz" (mT/m) over the whole shot."""
    pieces: dict[str, list[tuple[FloatArray, FloatArray]]] = {
        name: [] for name in ("amplitude", "phase", *_AXIS_COLOURS)
    }
    mt_per_m = hz_to_tesla(1.0, nucleus) * 1e3
    for start_s, interval in zip(timeline.start_s, timeline.intervals, strict=True):
        b1_hz = np.asarray(_numpy(interval.b1_hz), dtype=np.complex128)
        gradient = np.asarray(_numpy(interval.gradient_hz_per_m), dtype=np.float64) * mt_per_m
        values = {"amplitude": np.abs(b1_hz), "phase": canvas.phase_deg(b1_hz)}
        values |= {name: gradient[:, axis] for axis, name in enumerate(_AXIS_COLOURS)}
        for name, samples in values.items():
            pieces[name].append(canvas.step_line(start_s, interval.dwell_s, samples))
    lines = {}
    for name, parts in pieces.items():
        times, samples = (np.concatenate(column) for column in zip(*parts, strict=True))
        if name == "phase":
            times, samples = canvas.break_wraps(times, samples)
        lines[name] = _Line(time_ms=times * 1e3, value=samples)
    return lines


def _excitation_s(timeline: Timeline) -> tuple[float, float] | None:
    """Return (start of its interval, centre) of the last excitation pulse, s, or None."""
    found = [
        (start, start + interval.centre_s)
        for start, interval in zip(timeline.start_s, timeline.intervals, strict=True)
        if interval.use == "excitation" and interval.centre_s is not None
    ]
    return found[-1] if found else None


def _echo_arrows(timeline: Timeline, echo_times: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return (name, start, end) in s of every echo time."""
    excitation_s = _excitation_s(timeline)
    if not echo_times:
        return []
    if excitation_s is None:
        raise InputError(
            f"Echo times {', '.join(echo_times)} count from an excitation pulse, but timeline {timeline.name!r} has "
            "none. Mark a pulse as excitation or leave echo_times out."
        )
    now_s = centre_s = excitation_s[1]
    arrows = []
    for name, duration_s in echo_times.items():
        begin_s = centre_s if name == "TE" else now_s
        end_s = begin_s + duration_s
        if not duration_s > 0 or end_s > timeline.duration_s * (1 + 1e-9):
            raise InputError(
                f"Echo time {name} must be positive and end within the shot ({timeline.duration_s * 1e3:.3f} ms), but "
                f"is {duration_s * 1e3:.3f} ms and ends at {end_s * 1e3:.3f} ms. Give the sequence's own echo times."
            )
        arrows.append((name, begin_s, end_s))
        now_s = now_s if name == "TE" else end_s
    return arrows


def _zoom_window(timeline: Timeline, arrows: Sequence[tuple[str, float, float]]) -> tuple[float, float]:
    """Return (start, end) in s of the enlarged stretch: excitation to first receiver or last echo, with a margin."""
    excitation_s = _excitation_s(timeline)
    if excitation_s is None:
        return 0.0, timeline.duration_s
    first, centre = excitation_s
    opens = [start for start, _ in timeline.readouts() if start >= centre]
    last = max([opens[0] if opens else timeline.duration_s, *(end for _, _, end in arrows)])
    margin = 0.06 * (last - first)
    return max(0.0, first - margin), min(timeline.duration_s, last + margin)


def _marks(timeline: Timeline) -> list[_Mark]:
    """Return every pulse's centre and its name, or what it is for."""
    return [
        _Mark(time_ms=centre * 1e3, name=interval.name or str(interval.use)) for centre, interval in timeline.pulses()
    ]


def _draw_overview(
    place: SubFigure, timeline: Timeline, lines: Mapping[str, _Line], window: tuple[float, float]
) -> None:
    """Draw the whole shot: RF, gradients together, receiver gate."""
    rf, gradients, gate = place.subplots(3, 1, sharex=True, height_ratios=[1.3, 1.1, 0.5])
    _draw_amplitude(rf, lines["amplitude"])
    rf.set_title(timeline.name or "Sequence", pad=6)
    for name, colour in _AXIS_COLOURS.items():
        gradients.plot(lines[name].time_ms, lines[name].value, color=colour, label=name)
    gradients.set_ylim(*_symmetric([lines[name].value for name in _AXIS_COLOURS]))
    gradients.set_ylabel("G (mT/m)")
    gradients.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    _draw_gate(gate, timeline)
    for axes in (rf, gradients, gate):
        axes.axvspan(window[0] * 1e3, window[1] * 1e3, color=canvas.LIGHT, alpha=0.5, linewidth=0, zorder=0)
    _name_pulses(rf, [m for m in _marks(timeline) if not window[0] * 1e3 <= m.time_ms <= window[1] * 1e3], timeline)
    gate.set_xlim(0.0, timeline.duration_s * 1e3)
    gate.set_xlabel("Time (ms); the shaded stretch is enlarged below")
    place.align_ylabels([rf, gradients, gate])


def _draw_zoom(
    place: SubFigure,
    timeline: Timeline,
    lines: Mapping[str, _Line],
    window: tuple[float, float],
    arrows: Sequence[tuple[str, float, float]],
    nucleus: str,
) -> None:
    """Draw excitation to readout: echo times, RF amplitude and phase, each gradient, receiver gate."""
    ratios = [0.55 * bool(arrows) + 0.01, 1.5, 1.0, 0.8, 0.8, 0.8, 0.4]
    rows = place.subplots(7, 1, sharex=True, height_ratios=ratios)
    echoes, rf, phase, *gradients, gate = rows
    _draw_arrows(echoes, arrows)
    _draw_amplitude(rf, lines["amplitude"])
    phase.plot(lines["phase"].time_ms, lines["phase"].value, color=canvas.PURPLE, label="phase", linewidth=0.9)
    phase.set_ylabel("Phase (°)")
    phase.set_ylim(-200, 200)
    phase.set_yticks([-180, 0, 180])
    limits = _symmetric([lines[name].value for name in _AXIS_COLOURS])
    for axes, (name, colour) in zip(gradients, _AXIS_COLOURS.items(), strict=True):
        _draw_gradient(axes, name, lines[name], colour, limits, nucleus)
    _draw_gate(gate, timeline)
    gate.set_xlim(window[0] * 1e3, window[1] * 1e3)
    gate.set_xlabel("Time (ms)")
    shown = [mark for mark in _marks(timeline) if window[0] * 1e3 <= mark.time_ms <= window[1] * 1e3]
    for axes in (rf, phase):
        for mark in shown:
            axes.axvline(mark.time_ms, color=canvas.GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    _name_pulses(rf, shown, timeline, span_ms=(window[1] - window[0]) * 1e3)
    place.align_ylabels(list(rows[1:]))


def _draw_amplitude(axes: Axes, line: _Line) -> None:
    """Draw the RF amplitude."""
    axes.fill_between(line.time_ms, line.value, color=canvas.INK, alpha=0.12, linewidth=0)
    axes.plot(line.time_ms, line.value, color=canvas.INK, label="amplitude", linewidth=0.9)
    axes.set_ylabel("RF (Hz)")
    axes.set_ylim(0, 1.08 * max(float(line.value.max()), 1e-9))


def _draw_gradient(axes: Axes, name: str, line: _Line, colour: str, limits: tuple[float, float], nucleus: str) -> None:
    """Draw one gradient in mT/m with a second axis in kHz/m."""
    axes.fill_between(line.time_ms, line.value, color=colour, alpha=0.2, linewidth=0)
    axes.plot(line.time_ms, line.value, color=colour, label=name, linewidth=0.9)
    axes.set_ylim(*limits)
    axes.set_ylabel(f"{name}\n(mT/m)")
    canvas.proportional_axis(axes, tesla_to_hz(1e-3, nucleus) * 1e-3, "kHz/m")


def _draw_gate(axes: Axes, timeline: Timeline) -> None:
    """Draw the receiver gate: 1 while open."""
    edges = [(start, start + receiver.duration_s) for start, receiver in timeline.readouts()]
    times = [0.0, *(t for begin, end in edges for t in (begin, begin, end, end)), timeline.duration_s]
    gate = [0.0, *(1.0 * g for _ in edges for g in (0, 1, 1, 0)), 0.0]
    axes.fill_between(np.array(times) * 1e3, gate, color=canvas.GREY, alpha=0.35, linewidth=0)
    axes.plot(np.array(times) * 1e3, gate, color=canvas.GREY, label="ADC")
    axes.set_ylim(0, 1.25)
    axes.set_yticks([])
    axes.set_ylabel("ADC")


def _draw_arrows(axes: Axes, arrows: Sequence[tuple[str, float, float]]) -> None:
    """Draw the echo times as double arrows: "TE" in the upper row, its parts below."""
    axes.axis("off")
    axes.set_ylim(0, 2)
    for name, begin_s, end_s in arrows:
        y = 1.35 if name == "TE" else 0.15
        style = {"arrowstyle": "<->", "color": canvas.INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (end_s * 1e3, y), (begin_s * 1e3, y), arrowprops=style)
        axes.text(
            (begin_s + end_s) * 500, y + 0.08, f"{name} {(end_s - begin_s) * 1e3:.2f} ms", ha="center", va="bottom"
        )


def _name_pulses(axes: Axes, marks: Sequence[_Mark], timeline: Timeline, *, span_ms: float | None = None) -> None:
    """Write the names of pulses above their centres, upright where they would run into each other."""
    span_ms = span_ms or timeline.duration_s * 1e3
    gaps = np.diff([mark.time_ms for mark in marks])
    widest = max((len(mark.name) for mark in marks), default=0)
    crowded = gaps.size > 0 and float(gaps.min()) < span_ms * 0.0095 * widest
    for mark in marks:
        axes.annotate(
            mark.name, (mark.time_ms, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", rotation=90 if crowded else 0, fontsize=8.5,
        )  # fmt: skip


def _symmetric(values: Sequence[FloatArray]) -> tuple[float, float]:
    """Return y limits about zero that hold all values."""
    largest = max(float(np.abs(v).max()) for v in values)
    limit = 1.15 * largest if largest > 0 else 1.0
    return -limit, limit
