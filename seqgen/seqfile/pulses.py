"""The [RF] table of a `.seq` file."""

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from seqgen.seqfile.adcs import offsets
from seqgen.seqfile.events import ComplexVector, FloatVector, Rasters, RfEvent
from seqgen.seqfile.rf_use import USES
from seqgen.seqfile.shapes import MAX_ALL_SHAPES_SAMPLES, MAX_SHAPE_SAMPLES
from seqgen.seqfile.text import Row, SeqText
from seqgen.timeline import PulseUse

_COLUMNS = {4: 8, 5: 12}
_PLATEAU = 0.99999
"""Samples from this part of the peak on belong to its plateau (PyPulseq's calc_rf_center)."""


def read_pulses(
    text: SeqText,
    version: tuple[int, int, int],
    rasters: Rasters,
    shapes: dict[int, FloatVector],
    hz_per_ppm: float | None,
    uses: Mapping[int, PulseUse],
) -> dict[int, RfEvent]:
    """Return the RF pulses by number; `uses` holds those that a file of version 1.4 states (rf_use.py).

    Rows: 1.4 ``id amplitude mag_id phase_id time_shape_id delay freq phase``; 1.5 ``id amplitude mag_id phase_id
    time_shape_id center delay freqPPM phasePPM freq phase use``; amplitude in Hz, delay and centre in us, phase shapes
    in turns, time shapes in units of the RF raster.

    Raises:
        InputError: If a row is malformed, names shapes that do not exist or do not fit, or needs a field that the file
            does not state.
    """
    pulses: dict[int, RfEvent] = {}
    known: dict[tuple[str, ...], tuple[ComplexVector, float]] = {}
    for row in text.rows("RF"):
        if len(row.fields) != _COLUMNS[version[1]]:
            text.fail(row.line, "RF", f"a pulse needs {_COLUMNS[version[1]]} values, but has {len(row.fields)}")
        number = text.integer(row, 0, "RF", "the number of the pulse", low=1)
        if number in pulses:
            text.fail(row.line, "RF", f"pulse {number} is defined twice")
        shape = row.fields[1:5]
        if shape not in known:
            known[shape] = _shape(text, row, number, rasters.rf_s, shapes)
            if sum(samples.size for samples, _ in known.values()) > MAX_ALL_SHAPES_SAMPLES:
                text.fail(row.line, "RF", f"the pulses have more than {MAX_ALL_SHAPES_SAMPLES} samples in all")
        pulses[number] = _pulse(text, row, number, version, known[shape], rasters.rf_s, hz_per_ppm, uses)
    return pulses


def _pulse(
    text: SeqText,
    row: Row,
    number: int,
    version: tuple[int, int, int],
    shape: tuple[ComplexVector, float],
    raster_s: float,
    hz_per_ppm: float | None,
    uses: Mapping[int, PulseUse],
) -> RfEvent:
    """Return the pulse of one row from its samples and the centre found from them."""
    new = version[1] == 5
    shape_hz, centre_s = shape
    duration_s = shape_hz.shape[0] * raster_s
    delay_us = text.number(row, 6 if new else 5, "RF", "the delay")
    if delay_us < 0:
        text.fail(row.line, "RF", f"the delay of pulse {number} is negative: {delay_us} us")
    if new:
        centre_s = text.number(row, 5, "RF", "the centre") * 1e-6
        if not 0 <= centre_s <= duration_s + 0.5e-9:
            text.fail(row.line, "RF", f"the centre of pulse {number} lies outside its {duration_s * 1e6:.10g} us")
        if row.fields[11] not in USES:
            text.fail(row.line, "RF", f"the use of pulse {number} must be one of {' '.join(USES)}")
    frequency_hz, phase_rad = offsets(text, row, "RF", version, hz_per_ppm, first=7 if new else 6)
    use = USES[row.fields[11]] if new else uses.get(number)
    digest = hashlib.sha256(shape_hz.tobytes()).hexdigest()
    return RfEvent(
        id=number,
        shape_hz=shape_hz,
        dwell_s=raster_s,
        delay_s=delay_us * 1e-6,
        centre_s=centre_s,
        frequency_hz=frequency_hz,
        phase_rad=phase_rad,
        use=use,
        key=f"rf{(digest, delay_us, centre_s, frequency_hz, phase_rad, use)}",
    )


def _shape(
    text: SeqText, row: Row, number: int, raster_s: float, shapes: dict[int, FloatVector]
) -> tuple[ComplexVector, float]:
    """Return (samples in Hz on the RF raster, centre found from the shape in s) of a pulse.

    The centre is that of PyPulseq's calc_rf_center: the middle of the plateau of |B1|, on the points of the file.
    """
    amplitude_hz = text.number(row, 1, "RF", "the amplitude")
    magnitude = _require_shape(text, row, number, 2, "magnitude", shapes)
    phase = np.zeros_like(magnitude)
    if row.fields[3] != "0":
        phase = _require_shape(text, row, number, 3, "phase", shapes)
    if phase.shape != magnitude.shape:
        text.fail(row.line, "RF", f"pulse {number} has {magnitude.size} magnitudes but {phase.size} phases")
    values = amplitude_hz * magnitude * np.exp(2j * math.pi * phase)
    time = np.arange(values.size) + 0.5
    if row.fields[4] != "0":
        time = _require_shape(text, row, number, 4, "time", shapes)
        if time.shape != values.shape or time.size < 2 or time[0] < 0 or bool((np.diff(time) <= 0).any()):
            text.fail(row.line, "RF", f"the times of pulse {number} must ascend from 0 on, one for each magnitude")
    size = np.abs(values)
    plateau = time[size >= size.max() * _PLATEAU]
    if row.fields[4] != "0":
        values = _on_raster(text, row, number, values, time)
    return values, float(plateau[0] + plateau[-1]) / 2 * raster_s


def _require_shape(
    text: SeqText, row: Row, number: int, column: int, what: str, shapes: dict[int, FloatVector]
) -> FloatVector:
    """Return the shape that a column names."""
    shape_id = text.integer(row, column, "RF", f"the {what} shape", low=1)
    if shape_id not in shapes:
        text.fail(row.line, "RF", f"pulse {number} uses shape {shape_id}, which is not defined; the file is cut off")
    return shapes[shape_id]


def _on_raster(text: SeqText, row: Row, number: int, values: ComplexVector, time: FloatVector) -> ComplexVector:
    """Return a shape with explicit times (in raster units) as samples at (i + 1/2) raster, joined by straight lines.

    Times that are the centres of equal steps from 0 on are samples of a coarser dwell time: their first and last
    values hold to the ends of the pulse. Other times are corners, and nothing is played outside them.
    """
    steps = np.diff(time)
    centred = time.size > 2 and np.allclose(steps, 2 * time[0], rtol=0, atol=1e-6)
    end = time[-1] + time[0] if centred else time[-1]
    n_samples = math.ceil(end - 1e-6)
    if n_samples > MAX_SHAPE_SAMPLES:
        text.fail(row.line, "RF", f"pulse {number} lasts {n_samples} samples, more than {MAX_SHAPE_SAMPLES}")
    raster = np.arange(n_samples) + 0.5
    outside = None if centred else 0.0
    real = np.interp(raster, time, values.real, left=outside, right=outside)
    imag = np.interp(raster, time, values.imag, left=outside, right=outside)
    return real + 1j * imag
