"""The [ADC] table of a `.seq` file."""

from seqgen.seqfile.events import AdcEvent
from seqgen.seqfile.text import Row, SeqText

MAX_ADC_SAMPLES = 2**22
"""Most samples of one readout."""
_COLUMNS = {4: 6, 5: 9}


def read_adcs(text: SeqText, version: tuple[int, int, int], hz_per_ppm: float | None) -> dict[int, AdcEvent]:
    """Return the readouts by number.

    Rows: 1.4 ``id num dwell delay freq phase``; 1.5 ``id num dwell delay freqPPM phasePPM freq phase phase_shape_id``;
    dwell in ns, delay in us, frequency in Hz, phase in rad, ppm columns in ppm and rad/MHz.

    Raises:
        InputError: If a row is malformed, needs a field that the file does not state, or modulates the receiver.
    """
    adcs: dict[int, AdcEvent] = {}
    for row in text.rows("ADC"):
        if len(row.fields) != _COLUMNS[version[1]]:
            text.fail(row.line, "ADC", f"a readout needs {_COLUMNS[version[1]]} values, but has {len(row.fields)}")
        number = text.integer(row, 0, "ADC", "the number of the readout", low=1)
        if number in adcs:
            text.fail(row.line, "ADC", f"readout {number} is defined twice")
        n_samples = text.integer(row, 1, "ADC", "the number of samples", low=1, high=MAX_ADC_SAMPLES)
        dwell_ns = text.number(row, 2, "ADC", "the dwell time")
        delay_us = text.number(row, 3, "ADC", "the delay")
        if dwell_ns <= 0 or delay_us < 0:
            text.fail(row.line, "ADC", f"readout {number} needs a positive dwell time and no negative delay")
        frequency_hz, phase_rad = offsets(text, row, "ADC", version, hz_per_ppm, first=4)
        if version[1] == 5 and text.integer(row, 8, "ADC", "the phase shape") != 0:
            text.fail(
                row.line,
                "ADC",
                f"readout {number} modulates the receiver phase, which cannot be represented",
                "Write the sequence without a phase shape in its readouts.",
            )
        adcs[number] = AdcEvent(
            id=number,
            n_samples=n_samples,
            dwell_s=dwell_ns * 1e-9,
            delay_s=delay_us * 1e-6,
            frequency_hz=frequency_hz,
            phase_rad=phase_rad,
            key=f"adc{(n_samples, dwell_ns, delay_us, frequency_hz, phase_rad)}",
        )
    return adcs


def offsets(
    text: SeqText, row: Row, section: str, version: tuple[int, int, int], hz_per_ppm: float | None, *, first: int
) -> tuple[float, float]:
    """Return (frequency offset in Hz, phase offset in rad) from the columns that start at `first`.

    1.5 adds offsets in ppm of the field, and rad per MHz, to those in Hz and rad.
    """
    if version[1] == 4:
        return text.number(row, first, section, "the frequency"), text.number(row, first + 1, section, "the phase")
    names = ("freqPPM", "phasePPM", "freq", "phase")
    ppm, rad_per_mhz, hz, rad = (text.number(row, first + k, section, name) for k, name in enumerate(names))
    if ppm == 0 and rad_per_mhz == 0:
        return hz, rad
    if hz_per_ppm is None:
        text.fail(
            row.line,
            section,
            "an offset is given in ppm, but the file states no field to turn it into Hz",
            "Add the definition B0 (tesla), and Nucleus unless it is 1H, or write the offset in Hz.",
        )
    return hz + ppm * hz_per_ppm, rad + rad_per_mhz * hz_per_ppm
