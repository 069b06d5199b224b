"""Figures of pulses, drifts and optimisations, from plain arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy.signal import zoom_fft

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.report import canvas
from seqgen.units import hz_to_tesla


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResponseCurves:
    """What a pulse does to magnetisation against chemical shift."""

    ppm: FloatArray
    """Chemical shift, ppm, shape (n,)."""
    curves: Mapping[str, FloatArray]
    """Legend entry to response, shape (n,), for example {"Mz after +z": ...}."""
    label: str
    """Name and unit of the response, for example "Magnetisation (M0)"."""


def pulse_figure(
    pulse: RFPulse,
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    range_ppm: tuple[float, float] = (0.0, 6.0),
    window_ppm: tuple[float, float] | None = None,
    response: ResponseCurves | None = None,
    nucleus: str = "1H",
) -> Figure:
    """Draw a pulse: amplitude (Hz and uT), phase in its carrier frame, spectrum against chemical shift.

    The spectrum is 360 deg |integral b1(t) exp(-2 pi i f t) dt|, the flip angle in the small-tip limit; a spin at
    offset f meets it at ppm = reference + f / f0. For large flip angles give `response` from a Bloch simulation: it
    is drawn in a further panel.

    Args:
        pulse: The pulse; its carrier offset shifts the spectrum.
        spectrometer_frequency_hz: Spectrometer frequency f0, Hz.
        reference_ppm: Chemical shift of a spin at the spectrometer frequency, ppm.
        range_ppm: Low and high edge of the chemical shifts shown.
        window_ppm: Window to shade, ppm.
        response: Response curves of a simulation.
        nucleus: Nucleus whose gyromagnetic ratio turns Hz into uT.

    Raises:
        InputError: If the range does not rise, or the response holds arrays that do not fit together.
    """
    canvas.require_range(range_ppm)
    b1_hz = np.asarray(pulse.b1_hz.detach().cpu().numpy(), dtype=np.complex128)
    with canvas.figure_style():
        rows = 3 if response is None else 4
        figure = canvas.new_figure(2.1 * rows)
        panels = figure.subplots(rows, 1)
        draw_waveform(panels[0], panels[1], pulse, b1_hz, nucleus)
        ppm, flip_deg = _rf_spectrum(pulse, b1_hz, spectrometer_frequency_hz, reference_ppm, range_ppm)
        panels[2].plot(ppm, flip_deg, color=canvas.BLUE, label="RF spectrum")
        panels[2].set_ylabel("RF spectrum\n(° at small tip)")
        panels[2].set_ylim(bottom=0)
        if response is not None:
            _draw_response(panels[3], response)
        for axes in panels[2:]:
            canvas.reverse_ppm(axes, range_ppm)
            if window_ppm is not None:
                canvas.shade_ppm(axes, window_ppm)
        figure.suptitle(_pulse_title(pulse, nucleus), x=0.01, ha="left", fontsize=10.5)
    return figure


def _pulse_title(pulse: RFPulse, nucleus: str) -> str:
    """Return one line with duration, peak, rms and energy."""
    return (
        f"{pulse.name or 'Pulse'}: {pulse.duration_s * 1e3:.2f} ms, "
        f"peak {pulse.peak_hz:.0f} Hz ({hz_to_tesla(pulse.peak_hz, nucleus) * 1e6:.2f} µT), "
        f"rms {pulse.rms_hz:.0f} Hz, energy {pulse.energy_hz2_s:.0f} Hz² s"
    )


def draw_waveform(amplitude: Axes, phase: Axes, pulse: RFPulse, b1_hz: NDArray[np.complex128], nucleus: str) -> None:
    """Draw amplitude and phase of a pulse against time."""
    time_s, value = canvas.step_line(0.0, pulse.dwell_s, np.abs(b1_hz))
    amplitude.plot(time_s * 1e3, value, color=canvas.INK, label="amplitude")
    amplitude.set_ylim(0, 1.08 * max(float(value.max()), 1e-9))
    amplitude.set_ylabel("Amplitude (Hz)")
    canvas.proportional_axis(amplitude, hz_to_tesla(1.0, nucleus) * 1e6, "µT")
    time_s, value = canvas.break_wraps(*canvas.step_line(0.0, pulse.dwell_s, canvas.phase_deg(b1_hz)))
    phase.plot(time_s * 1e3, value, color=canvas.PURPLE, label="phase")
    phase.set_ylabel("Phase (°)")
    phase.set_ylim(-190, 190)
    phase.set_yticks([-180, -90, 0, 90, 180])
    phase.set_xlabel("Time (ms)")
    for axes in (amplitude, phase):
        axes.set_xlim(0, pulse.duration_s * 1e3)
    amplitude.tick_params(labelbottom=False)


def _rf_spectrum(
    pulse: RFPulse,
    b1_hz: NDArray[np.complex128],
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    range_ppm: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """Return (ppm, 360 |integral b1 exp(-2 pi i f t) dt|) of a piecewise-constant pulse over the range."""
    n_points = 1201
    ppm = np.linspace(*range_ppm, n_points)
    ends_hz = [
        (edge - reference_ppm) * 1e-6 * spectrometer_frequency_hz - pulse.carrier_offset_hz for edge in range_ppm
    ]
    offset_hz = np.linspace(ends_hz[0], ends_hz[1], n_points)
    sums = zoom_fft(b1_hz, ends_hz, n_points, fs=1 / pulse.dwell_s, endpoint=True)
    return ppm, 360 * np.abs(sums) * pulse.dwell_s * np.abs(np.sinc(offset_hz * pulse.dwell_s))


def _draw_response(axes: Axes, response: ResponseCurves) -> None:
    """Draw simulated response curves."""
    canvas.require_vectors("The pulse figure", {"ppm": response.ppm} | dict(response.curves))
    for index, (name, values) in enumerate(response.curves.items()):
        axes.plot(response.ppm, values, label=name, color=(canvas.BLUE, canvas.VERMILION, *canvas.CYCLE)[index % 7])
    axes.set_ylabel(response.label)
    axes.legend(loc="best")


def drift_figure(
    frequency_hz: FloatArray,
    phase_rad: FloatArray,
    *,
    rejected: NDArray[np.bool_] | None = None,
    truth_frequency_hz: FloatArray | None = None,
    truth_phase_rad: FloatArray | None = None,
) -> Figure:
    """Draw the frequency (Hz) and phase (deg) of every transient, counted from 1, as processing found them.

    Args:
        frequency_hz: Frequency of each transient, Hz, shape (n,), in order of acquisition.
        phase_rad: Phase of each transient, rad, shape (n,).
        rejected: True where a transient was left out, shape (n,); drawn as a cross.
        truth_frequency_hz: What a simulation put in, Hz, shape (n,).
        truth_phase_rad: What a simulation put in, rad, shape (n,).

    Raises:
        InputError: If arrays differ in length or hold NaN.
    """
    out = np.zeros(frequency_hz.shape, dtype=bool) if rejected is None else rejected
    given = {"frequency_hz": frequency_hz, "phase_rad": phase_rad, "rejected": out}
    truths = {"truth_frequency_hz": truth_frequency_hz, "truth_phase_rad": truth_phase_rad}
    canvas.require_vectors("The drift figure", given | {k: v for k, v in truths.items() if v is not None})
    with canvas.figure_style():
        figure = canvas.new_figure(4.2)
        upper, lower = figure.subplots(2, 1, sharex=True)
        _draw_drift(upper, frequency_hz, out, truth_frequency_hz)
        _draw_drift(lower, np.degrees(phase_rad), out, None if truth_phase_rad is None else np.degrees(truth_phase_rad))
        upper.set_ylabel("Frequency (Hz)")
        lower.set_ylabel("Phase (°)")
        lower.set_xlabel("Transient")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        upper.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.align_ylabels([upper, lower])
    return figure


def _draw_drift(axes: Axes, values: FloatArray, rejected: NDArray[np.bool_], truth: FloatArray | None) -> None:
    """Draw one quantity per transient, rejected ones as crosses, the truth as a line."""
    number = np.arange(1, values.size + 1)
    if truth is not None:
        axes.plot(number, truth, color=canvas.INK, linewidth=1.0, label="truth")
    axes.plot(number[~rejected], values[~rejected], ".", color=canvas.BLUE, markersize=6, label="used")
    if rejected.any():
        axes.plot(number[rejected], values[rejected], "x", color=canvas.VERMILION, markersize=6, label="rejected")


def optimisation_figure(
    histories: Mapping[str, FloatArray],
    *,
    loss_label: str,
    best: str | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the loss of each start against the iteration; logarithmic where all values are positive.

    Args:
        histories: Name of a start ("start 1, seed 7") to its loss per iteration, shape (n,); the first value is the
            loss before the first step (iteration 0). Starts may differ in length.
        loss_label: Name and unit of the loss.
        best: The start that was kept: drawn in colour, the others in grey.
        references: Name to the loss of something to compare with ("TE-optimised PRESS"), drawn as a dashed line.

    Raises:
        InputError: If there is no history, one is empty or holds NaN, or `best` is not among them.
    """
    references = references or {}
    if not histories or (best is not None and best not in histories):
        raise InputError(
            f"The optimisation figure has histories {', '.join(histories) or '(none)'} and best {best!r}. Pass at "
            "least one history and name one of them as best."
        )
    for name, values in histories.items():
        canvas.require_vectors("The optimisation figure", {name: values})
    with canvas.figure_style():
        figure = canvas.new_figure(3.6)
        axes = figure.subplots()
        for index, (name, values) in enumerate(histories.items()):
            colour, width = (canvas.BLUE, canvas.VERMILION, *canvas.CYCLE)[index % 7], 1.2
            if best is not None:
                colour, width = (canvas.BLUE, 1.8) if name == best else (canvas.GREY, 0.8)
            label = name if best in (None, name) else f"_{name}"
            axes.plot(np.arange(values.size), values, color=colour, linewidth=width, label=label)
        if best is not None and len(histories) > 1:
            axes.plot([], [], color=canvas.GREY, linewidth=0.8, label="other starts")
        for index, (name, value) in enumerate(references.items()):
            dashes = ((5, 2), (1, 1.5), (6, 2, 1, 2))[index % 3]
            axes.axhline(value, color=canvas.VERMILION, linestyle=(0, dashes), label=name)
        _scale_loss(axes, [*histories.values(), np.array(list(references.values()))])
        axes.set_xlabel("Iteration")
        axes.set_ylabel(loss_label)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _scale_loss(axes: Axes, values: list[FloatArray]) -> None:
    """Make the axis logarithmic, with plain numbers, if all values are positive and span more than a factor of 3."""
    drawn = np.concatenate(values)
    if drawn.min() <= 0 or drawn.max() < 3 * drawn.min():
        return
    axes.set_yscale("log")
    ratio = drawn.max() / drawn.min()
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if ratio < 10 else (1, 2, 5) if ratio < 1e3 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
