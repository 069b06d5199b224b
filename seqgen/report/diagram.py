"""Sequence diagram: what a Timeline plays, the whole shot above and excitation to readout enlarged below."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.report import canvas
from seqgen.timeline import Timeline
from seqgen.units import hz_to_tesla, tesla_to_hz

_AXIS_COLOURS = {"Gx": canvas.BLUE, "Gy": canvas.VERMILION, "Gz": canvas.GREEN}


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
    timeline: Timeline,
    *,
    echo_times: Mapping[str, float] | None = None,
    pathway: Sequence[int] = (),
    overview: bool = True,
    nucleus: str = "1H",
) -> Figure:
    """Draw RF amplitude and phase, three gradients and the receiver gate of one shot against time.

    The upper panels show the whole shot, 0 to `timeline.duration_s`; the lower ones the stretch from the excitation
    pulse to the opening of the first receiver after it (or the last echo, where that comes later). Time is in ms,
    RF in Hz, the phase in the frame of the spectrometer frequency, gradients in mT/m (left) and kHz/m (right).

    Args:
        timeline: The shot to draw.
        echo_times: Name to duration in s, for example {"TE1": 0.041, "TE2": 0.034, "TE": 0.075}. "TE" is drawn from
            the centre of the excitation pulse; the others end to end from there, in the order given.
        pathway: Coherence order after each pulse, drawn below the gradients; empty for none.
        overview: Whether the whole shot is drawn above. Without it the stretch starts at the first pulse.
        nucleus: Nucleus whose gyromagnetic ratio turns Hz/m into mT/m.

    Raises:
        InputError: If a sample is not finite, or if echo times are given but the shot has no excitation pulse, or one
            of them is not positive or ends after the shot, or the pathway has not one order for each pulse.
    """
    if pathway and len(pathway) != len(timeline.pulses()):
        raise InputError(
            f"A pathway must have one order after each of the {len(timeline.pulses())} pulses of timeline "
            f"{timeline.name!r}, but has {len(pathway)}. Give the orders after all of its pulses."
        )
    arrows = _echo_arrows(timeline, echo_times or {})
    lines = _channels(timeline, nucleus)
    window = _zoom_window(timeline, arrows, from_first=not overview)
    above = {"rf": 1.0, "gradients": 1.0, "gate": 0.4} if overview else {}
    zoom = {"echoes": 0.55} if arrows else {}
    zoom |= {"zoom_rf": 1.5, "phase": 1.0, "Gx": 0.8, "Gy": 0.8, "Gz": 0.8}
    zoom |= {"orders": 0.7} if pathway else {}
    zoom |= {"zoom_gate": 0.4}
    heights = above | zoom
    with canvas.figure_style():
        figure = canvas.new_figure(sum(heights.values()) + 0.75)
        rows = figure.subplot_mosaic([[name] for name in heights], height_ratios=[*heights.values()])
        _share_time([rows[name] for name in zoom], window)
        if overview:
            _share_time([rows[name] for name in above], (0.0, timeline.duration_s))
            _draw_overview(rows, timeline, lines, window)
        _draw_zoom(rows, timeline, lines, window, nucleus)
        if pathway:
            _draw_orders(rows["orders"], timeline, pathway)
        if arrows:
            _draw_arrows(rows["echoes"], arrows)
        figure.align_ylabels([axes for name, axes in rows.items() if name != "echoes"])
        figure.suptitle(timeline.name or "Sequence", x=0.01, ha="left", fontsize=10.5)
    return figure


def _channels(timeline: Timeline, nucleus: str) -> dict[str, _Line]:
    """Return the lines "amplitude" (Hz), "phase" (deg) and "Gx", "Gy", "Gz" (mT/m) over the whole shot."""
    pieces: dict[str, list[tuple[FloatArray, FloatArray]]] = {
        name: [] for name in ("amplitude", "phase", *_AXIS_COLOURS)
    }
    mt_per_m = hz_to_tesla(1.0, nucleus) * 1e3
    for start_s, interval in zip(timeline.start_s, timeline.intervals, strict=True):
        b1_hz = np.asarray(interval.b1_hz.detach().cpu().numpy(), dtype=np.complex128)
        gradient = np.asarray(interval.gradient_hz_per_m.detach().cpu().numpy(), dtype=np.float64) * mt_per_m
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
    """Return (start of its interval, centre) of the excitation pulse, s, or None.

    It is the last one, dummy scans come before it; of several with no other pulse between, the first of up to three: a
    stimulated echo has so many.
    """
    pulses = [
        (interval.use, start, start + interval.centre_s)
        for start, interval in zip(timeline.start_s, timeline.intervals, strict=True)
        if interval.centre_s is not None
    ]
    last = max((k for k, (use, _, _) in enumerate(pulses) if use == "excitation"), default=None)
    if last is None:
        return None
    first = last
    while first > max(last - 2, 0) and pulses[first - 1][0] == "excitation":
        first -= 1
    return pulses[first][1:]


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


def _zoom_window(
    timeline: Timeline, arrows: Sequence[tuple[str, float, float]], *, from_first: bool
) -> tuple[float, float]:
    """Return (start, end) in s of the enlarged stretch: excitation to first receiver or last echo, with a margin."""
    excitation_s = _excitation_s(timeline)
    if excitation_s is None:
        return 0.0, timeline.duration_s
    first, centre = excitation_s
    if from_first:
        pairs = zip(timeline.start_s, timeline.intervals, strict=True)
        first = next(start for start, interval in pairs if interval.use is not None)
    opens = [start for start, _ in timeline.readouts() if start >= centre]
    last = max([opens[0] if opens else timeline.duration_s, *(end for _, _, end in arrows)])
    margin = 0.06 * (last - first)
    return max(0.0, first - margin), min(timeline.duration_s, last + margin)


def _marks(timeline: Timeline) -> list[_Mark]:
    """Return every pulse's centre and its name, or what it is for."""
    return [
        _Mark(time_ms=centre * 1e3, name=interval.name or str(interval.use)) for centre, interval in timeline.pulses()
    ]


def _share_time(rows: Sequence[Axes], window: tuple[float, float]) -> None:
    """Give all rows the same time axis, labelled at the last one."""
    for axes in rows:
        axes.set_xlim(window[0] * 1e3, window[1] * 1e3)
        axes.tick_params(labelbottom=axes is rows[-1])
    rows[-1].set_xlabel("Time (ms)")


def _draw_overview(
    rows: Mapping[str, Axes], timeline: Timeline, lines: Mapping[str, _Line], window: tuple[float, float]
) -> None:
    """Draw the whole shot: RF, gradients together, receiver gate; name the pulses that are not enlarged."""
    _draw_amplitude(rows["rf"], lines["amplitude"])
    for name, colour in _AXIS_COLOURS.items():
        rows["gradients"].plot(lines[name].time_ms, lines[name].value, color=colour, label=name, linewidth=0.9)
    rows["gradients"].set_ylim(*_symmetric([lines[name].value for name in _AXIS_COLOURS]))
    rows["gradients"].set_ylabel("G (mT/m)")
    rows["gradients"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    _draw_gate(rows["gate"], timeline)
    others = [mark for mark in _marks(timeline) if not window[0] * 1e3 <= mark.time_ms <= window[1] * 1e3]
    _mark_centres([rows["rf"]], others, timeline.duration_s)
    if window != (0.0, timeline.duration_s):
        for name in ("rf", "gradients", "gate"):
            rows[name].axvspan(window[0] * 1e3, window[1] * 1e3, color=canvas.LIGHT, alpha=0.5, linewidth=0, zorder=0)
        rows["gate"].set_xlabel("Time (ms); the shaded stretch is enlarged below")


def _draw_zoom(
    rows: Mapping[str, Axes],
    timeline: Timeline,
    lines: Mapping[str, _Line],
    window: tuple[float, float],
    nucleus: str,
) -> None:
    """Draw excitation to readout: RF amplitude and phase, each gradient, receiver gate."""
    near = {name: _near(line, window) for name, line in lines.items()}
    _draw_amplitude(rows["zoom_rf"], near["amplitude"])
    rows["phase"].plot(near["phase"].time_ms, near["phase"].value, color=canvas.PURPLE, label="phase", linewidth=0.9)
    rows["phase"].set_ylabel("Phase (°)")
    rows["phase"].set_ylim(-200, 200)
    rows["phase"].set_yticks([-180, 0, 180])
    limits = _symmetric([near[name].value for name in _AXIS_COLOURS])
    for name, colour in _AXIS_COLOURS.items():
        _draw_gradient(rows[name], name, near[name], colour, limits, nucleus)
    _draw_gate(rows["zoom_gate"], timeline)
    shown = [mark for mark in _marks(timeline) if window[0] * 1e3 <= mark.time_ms <= window[1] * 1e3]
    _mark_centres([rows["zoom_rf"], rows["phase"]], shown, window[1] - window[0])


def _near(line: _Line, window: tuple[float, float]) -> _Line:
    """Return the part of a line inside the window, with one point beyond either end."""
    first = max(int(np.searchsorted(line.time_ms, window[0] * 1e3, "left")) - 1, 0)
    last = int(np.searchsorted(line.time_ms, window[1] * 1e3, "right")) + 1
    return _Line(time_ms=line.time_ms[first:last], value=line.value[first:last])


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
    axes.set_ylabel(f"{name} (mT/m)", fontsize=8.5)
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


def _draw_orders(axes: Axes, timeline: Timeline, pathway: Sequence[int]) -> None:
    """Draw the coherence order against time, a step at every pulse."""
    times_ms = [0.0, *(mark.time_ms for mark in _marks(timeline)), timeline.duration_s * 1e3]
    axes.plot(times_ms, [0, *pathway, pathway[-1]], color=canvas.INK, label="order", drawstyle="steps-post")
    largest = max(1, *(abs(order) for order in pathway))
    axes.set_ylim(-largest - 0.4, largest + 0.4)
    axes.set_yticks(range(-largest, largest + 1))
    axes.yaxis.set_major_formatter(lambda order, _: f"{order:+.0f}" if order else "0")
    axes.grid(axis="y", color=canvas.LIGHT, linewidth=0.6)
    axes.set_ylabel("Order p")


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


def _mark_centres(rows: Sequence[Axes], marks: Sequence[_Mark], span_s: float) -> None:
    """Mark pulse centres in all rows and name them above the first, upright where names would run into each other."""
    times_ms = [mark.time_ms for mark in marks]
    widest = max((len(mark.name) for mark in marks), default=0)
    crowded = bool(np.any(np.diff(times_ms) < span_s * 1e3 * 0.0105 * widest))
    for mark in marks:
        rows[0].annotate(
            mark.name, (mark.time_ms, 1.0), xycoords=rows[0].get_xaxis_transform(), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", rotation=90 if crowded else 0, fontsize=8.5,
        )  # fmt: skip
        for axes in rows:
            axes.axvline(mark.time_ms, color=canvas.GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)


def _symmetric(values: Sequence[FloatArray]) -> tuple[float, float]:
    """Return y limits about zero that hold all values."""
    largest = max(float(np.abs(v).max()) for v in values)
    limit = 1.15 * largest if largest > 0 else 1.0
    return -limit, limit
