"""The [GRADIENTS] and [TRAP] tables of a `.seq` file."""

import hashlib
from typing import Literal

import numpy as np

from seqgen.seqfile.events import FloatVector, GradientEvent, Rasters
from seqgen.seqfile.shapes import MAX_ALL_SHAPES_SAMPLES
from seqgen.seqfile.text import Row, SeqText

_COLUMNS = {4: 5, 5: 7}


def read_gradients(
    text: SeqText, version: tuple[int, int, int], rasters: Rasters, shapes: dict[int, FloatVector]
) -> dict[int, GradientEvent]:
    """Return trapezoids and free gradients by number (they share one numbering).

    Rows of [TRAP]: ``id amplitude rise flat fall delay``. Of [GRADIENTS]: 1.4 ``id amplitude amp_shape_id
    time_shape_id delay``; 1.5 ``id amplitude first last amp_shape_id time_shape_id delay``. Amplitudes in Hz/m, times
    in us, time shapes in units of the gradient raster.

    Raises:
        InputError: If a row is malformed or names shapes that do not exist or do not fit.
    """
    gradients: dict[int, GradientEvent] = {}
    n_samples = 0
    for section in ("GRADIENTS", "TRAP"):
        columns = 6 if section == "TRAP" else _COLUMNS[version[1]]
        for row in text.rows(section):
            if len(row.fields) != columns:
                text.fail(row.line, section, f"a gradient needs {columns} values, but has {len(row.fields)}")
            number = text.integer(row, 0, section, "the number of the gradient", low=1)
            if number in gradients:
                text.fail(row.line, section, f"gradient {number} is defined twice")
            if section == "TRAP":
                gradients[number] = _trapezoid(text, row, number)
            else:
                gradients[number] = _free(text, row, number, version[1] == 5, rasters.gradient_s, shapes)
            n_samples += gradients[number].time_s.size
            if n_samples > MAX_ALL_SHAPES_SAMPLES:
                text.fail(row.line, section, f"the gradients have more than {MAX_ALL_SHAPES_SAMPLES} samples in all")
    return gradients


def _trapezoid(text: SeqText, row: Row, number: int) -> GradientEvent:
    """Return the trapezoid of one row."""
    amplitude = text.number(row, 1, "TRAP", "the amplitude")
    names = ("rise", "flat", "fall", "delay")
    times_us = [text.number(row, k, "TRAP", f"the {name}") for k, name in enumerate(names, start=2)]
    if min(times_us) < 0 or sum(times_us[:3]) <= 0:
        text.fail(row.line, "TRAP", f"trapezoid {number} needs times that are not negative and not all zero")
    corners_us = np.cumsum([0.0, *times_us[:3]])
    values = amplitude * np.array([0.0, 1.0, 1.0, 0.0])
    return _event(number, "trapezoid", times_us[3], corners_us * 1e-6, values)


def _free(
    text: SeqText, row: Row, number: int, new: bool, raster_s: float, shapes: dict[int, FloatVector]
) -> GradientEvent:
    """Return the free gradient of one row.

    Without times the samples sit at the centres of raster intervals; a 1.5 file states the values at both ends, a
    1.4 file does not, and they are continued in a straight line (as PyPulseq's make_arbitrary_grad does).
    """
    k = 4 if new else 2
    shape = _require_shape(text, row, number, k, "amplitude", shapes)
    values = text.number(row, 1, "GRADIENTS", "the amplitude") * shape
    delay_us = text.number(row, k + 2, "GRADIENTS", "the delay")
    if delay_us < 0:
        text.fail(row.line, "GRADIENTS", f"the delay of gradient {number} is negative: {delay_us} us")
    time_id = text.integer(row, k + 1, "GRADIENTS", "the time shape", low=-1)
    if time_id > 0:
        time = _require_shape(text, row, number, k + 1, "time", shapes)
        if time.shape != values.shape or time.size < 2 or time[0] != 0 or bool((np.diff(time) <= 0).any()):
            text.fail(row.line, "GRADIENTS", f"the times of gradient {number} must ascend from 0, one for each value")
        return _event(number, "extended", delay_us, time * raster_s, values)
    if time_id == -1 and (not new or values.size % 2 == 0):
        text.fail(row.line, "GRADIENTS", f"gradient {number} of double sampling needs an odd number of values and 1.5")
    step = 0.5 if time_id == -1 else 1.0
    centres = 0.5 + step * np.arange(values.size)
    time = np.concatenate(([0.0], centres, [centres[-1] + 0.5]))
    if new:
        ends = [text.number(row, 2, "GRADIENTS", "first"), text.number(row, 3, "GRADIENTS", "last")]
    else:
        before, after = (values[0] - values[1], values[-1] - values[-2]) if values.size > 1 else (0.0, 0.0)
        ends = [values[0] + before / 2, values[-1] + after / 2]
    return _event(number, "sampled", delay_us, time * raster_s, np.concatenate(([ends[0]], values, [ends[1]])))


def _require_shape(
    text: SeqText, row: Row, number: int, column: int, what: str, shapes: dict[int, FloatVector]
) -> FloatVector:
    """Return the shape that a column names."""
    shape_id = text.integer(row, column, "GRADIENTS", f"the {what} shape", low=1)
    if shape_id not in shapes:
        text.fail(row.line, "GRADIENTS", f"gradient {number} uses shape {shape_id}, which is not defined; cut off")
    return shapes[shape_id]


def _event(
    number: int,
    kind: Literal["trapezoid", "extended", "sampled"],
    delay_us: float,
    time_s: FloatVector,
    value_hz_per_m: FloatVector,
) -> GradientEvent:
    """Return a gradient event with its key."""
    digest = hashlib.sha256(time_s.tobytes() + value_hz_per_m.tobytes()).hexdigest()
    return GradientEvent(
        id=number,
        kind=kind,
        delay_s=delay_us * 1e-6,
        time_s=time_s,
        value_hz_per_m=value_hz_per_m,
        key=f"g{(kind, digest, delay_us)}",
    )
