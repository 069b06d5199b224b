"""Strict reader of Pulseq text files 1.4.0, 1.4.1 and 1.5.0: a `.seq` from anywhere, checked before anything plays it.

Every number, identifier, shape and duration is checked when the file is read; work and memory are bounded by the size
of the file and by the limits in `text.py`, `shapes.py` and `shots.py`. Source of the format: Pulseq specification 1.4
and 1.5 (https://pulseq.github.io/specification.pdf); PyPulseq 1.5.0 (MIT) for details it leaves open.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from seqgen.seqfile.adcs import read_adcs
from seqgen.seqfile.events import AdcEvent, Block, GradientEvent, LabelChange, Rasters, RfEvent, SeqFile
from seqgen.seqfile.extensions import read_label_lists
from seqgen.seqfile.gradients import read_gradients
from seqgen.seqfile.pulses import read_pulses
from seqgen.seqfile.rf_use import read_uses
from seqgen.seqfile.shapes import read_shapes
from seqgen.seqfile.shots import Shot, shots
from seqgen.seqfile.text import Row, SeqText, read_text
from seqgen.units import GAMMA_BAR_HZ_PER_T

__all__ = ["SeqFile", "Shot", "read_seq", "shots"]

VERSIONS: Final = ((1, 4, 0), (1, 4, 1), (1, 5, 0))
"""Format versions that are read."""
_RASTERS = ("AdcRasterTime", "BlockDurationRaster", "GradientRasterTime", "RadiofrequencyRasterTime")
_Event = TypeVar("_Event")
_SLACK_S = 0.5e-9
"""Times in a file are whole nanoseconds; half of one is rounding."""


def read_seq(path: Path) -> SeqFile:
    """Read and check a `.seq` file.

    Args:
        path: A Pulseq text file of version 1.4.0, 1.4.1 or 1.5.0.

    Returns:
        The file with typed events. `signature` is None where the file carries none; a stated one has been checked.

    Raises:
        InputError: Naming file, line, section and problem, if the file is missing, empty, binary, cut off, of another
            version, without a required raster, inconsistent (numbers of events that do not exist, corrupt shapes,
            values that are not finite, events that outlast their block, a wrong TotalDuration or signature), or uses
            something that this program cannot represent (soft delays, rotations, a modulated receiver).
    """
    text = read_text(path)
    version = _version(text)
    definitions = _definitions(text)
    rasters = _rasters(text, definitions)
    shapes = read_shapes(text)
    hz_per_ppm = _hz_per_ppm(text, definitions)
    tables = _Tables(
        text=text,
        rasters=rasters,
        pulses=read_pulses(text, version, rasters, shapes, hz_per_ppm, read_uses(definitions)),
        gradients=read_gradients(text, version, rasters, shapes),
        adcs=read_adcs(text, version, hz_per_ppm),
        labels=read_label_lists(text),
    )
    _require_known_extensions(text, definitions)
    blocks = tables.blocks()
    units = sum(round(block.duration_s / rasters.block_s) for block in blocks)
    total_s = round(units * rasters.block_s, 9)
    _require_total_duration(text, definitions, total_s)
    return SeqFile(
        name=path.name,
        sha256=text.sha256,
        version=version,
        definitions=definitions,
        signature=text.signature,
        rasters=rasters,
        blocks=blocks,
        total_duration_s=total_s,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tables:
    """The event tables of one file, from which its blocks are put together."""

    text: SeqText
    rasters: Rasters
    pulses: dict[int, RfEvent]
    gradients: dict[int, GradientEvent]
    adcs: dict[int, AdcEvent]
    labels: dict[int, tuple[LabelChange, ...]]

    def blocks(self) -> tuple[Block, ...]:
        """Return the blocks in the order of the file."""
        rows = self.text.rows("BLOCKS")
        if not rows:
            self.text.fail(None, "BLOCKS", "the file has no blocks: nothing would be played; it is cut off")
        blocks = tuple(self._block(row) for row in rows)
        if len({block.number for block in blocks}) != len(blocks):
            self.text.fail(None, "BLOCKS", "two blocks have the same number")
        if all(not block.key.strip("0123456789|-") for block in blocks) and self.text.signature is None:
            self.text.fail(None, "BLOCKS", "the file has delays only and no signature; it is cut off")
        return blocks

    def _block(self, row: Row) -> Block:
        """Return the block of one row: NUM DUR RF GX GY GZ ADC EXT."""
        if len(row.fields) != 8:
            self.text.fail(row.line, "BLOCKS", f"a block needs 8 numbers, but this one has {len(row.fields)}")
        number = self.text.integer(row, 0, "BLOCKS", "the block number", low=1)
        units = self.text.integer(row, 1, "BLOCKS", "the block duration")
        ids = [self.text.integer(row, k, "BLOCKS", "an event number") for k in range(2, 8)]
        rf = self._event(row, self.pulses, ids[0], "RF pulse")
        gx, gy, gz = (self._event(row, self.gradients, k, "gradient") for k in ids[1:4])
        adc = self._event(row, self.adcs, ids[4], "readout")
        duration_s = units * self.rasters.block_s
        for event in (rf, gx, gy, gz, adc):
            if event is not None and event.delay_s + event.duration_s > duration_s + _SLACK_S:
                self.text.fail(
                    row.line,
                    "BLOCKS",
                    f"event {event.id} lasts until {(event.delay_s + event.duration_s) * 1e6:.10g} us, but block "
                    f"{number} ends at {duration_s * 1e6:.10g} us",
                )
        return Block(
            number=number,
            duration_s=duration_s,
            rf=rf,
            gradients=(gx, gy, gz),
            adc=adc,
            labels=self._event(row, self.labels, ids[5], "extension list") or (),
            key="|".join([str(units), *(event.key if event else "-" for event in (rf, gx, gy, gz, adc))]),
        )

    def _event(self, row: Row, table: dict[int, _Event], number: int, what: str) -> _Event | None:
        """Return an event by number, None for 0."""
        if number == 0:
            return None
        if number not in table:
            self.text.fail(
                row.line, "BLOCKS", f"{what} {number} is used but not defined; the file is cut off or broken"
            )
        return table[number]


def _version(text: SeqText) -> tuple[int, int, int]:
    """Return the format version."""
    if "VERSION" not in text.sections:
        text.fail(None, "VERSION", "the file does not state its version, so it is no Pulseq text file or is cut off")
    stated = {row.fields[0]: row for row in text.rows("VERSION") if len(row.fields) == 2}
    missing = [key for key in ("major", "minor", "revision") if key not in stated]
    if missing:
        text.fail(text.sections["VERSION"].line, "VERSION", f"{', '.join(missing)} is missing")
    major, minor, revision = (
        text.integer(stated[key], 1, "VERSION", key, high=999) for key in ("major", "minor", "revision")
    )
    if (major, minor, revision) not in VERSIONS:
        known = ", ".join(".".join(map(str, version)) for version in VERSIONS)
        text.fail(
            stated["major"].line,
            "VERSION",
            f"format {major}.{minor}.{revision} is not read; known are {known}",
            "Export the sequence in one of these versions (PyPulseq: write(..., v141_compat=True) for 1.4.1).",
        )
    return major, minor, revision


def _definitions(text: SeqText) -> dict[str, str]:
    """Return the definitions, values as written."""
    definitions: dict[str, str] = {}
    for row in text.rows("DEFINITIONS"):
        if row.fields[0] in definitions:
            text.fail(row.line, "DEFINITIONS", f"{row.fields[0]} is defined twice")
        definitions[row.fields[0]] = " ".join(row.fields[1:])
    return definitions


def _rasters(text: SeqText, definitions: dict[str, str]) -> Rasters:
    """Return the rasters, all of which a file must define."""
    values = []
    for key in _RASTERS:
        row = next((row for row in text.rows("DEFINITIONS") if row.fields[0] == key), None)
        if row is None or len(row.fields) != 2:
            text.fail(
                None,
                "DEFINITIONS",
                f"{key} is missing, so the file's times have no scale",
                f"Add '{key} <seconds>' by writing the file with a program that states its rasters.",
            )
        value = text.number(row, 1, "DEFINITIONS", key)
        if not 1e-9 <= value <= 1e-2:
            text.fail(row.line, "DEFINITIONS", f"{key} must lie between 1 ns and 10 ms, but is {definitions[key]} s")
        values.append(value)
    adc_s, block_s, gradient_s, rf_s = values
    return Rasters(adc_s=adc_s, block_s=block_s, gradient_s=gradient_s, rf_s=rf_s)


def _hz_per_ppm(text: SeqText, definitions: dict[str, str]) -> float | None:
    """Return the Hz of one ppm (also the MHz of rad/MHz): the spectrometer frequency, or gamma times B0, times 1e-6.

    A file without a Nucleus definition is one of 1H, the nucleus that Pulseq means unless told otherwise. None if the
    file states neither frequency nor field.
    """
    rows = {row.fields[0]: row for row in text.rows("DEFINITIONS") if len(row.fields) == 2}
    if "seqgen_spectrometer_frequency_hz" in rows:
        key = "seqgen_spectrometer_frequency_hz"
        return text.number(rows[key], 1, "DEFINITIONS", key) * 1e-6
    nucleus = definitions.get("Nucleus", "1H")
    if "B0" not in rows or nucleus not in GAMMA_BAR_HZ_PER_T:
        return None
    return text.number(rows["B0"], 1, "DEFINITIONS", "B0") * GAMMA_BAR_HZ_PER_T[nucleus] * 1e-6


def _require_known_extensions(text: SeqText, definitions: dict[str, str]) -> None:
    """Refuse a file that says it cannot be played without an extension that is not known here."""
    unknown = set(definitions.get("RequiredExtensions", "").split()) - {"LABELSET", "LABELINC", "TRIGGERS"}
    if unknown:
        text.fail(
            None,
            "DEFINITIONS",
            f"RequiredExtensions names {', '.join(sorted(unknown))}, which cannot be represented",
            "Write the sequence without this extension.",
        )


def _require_total_duration(text: SeqText, definitions: dict[str, str], total_s: float) -> None:
    """Refuse a file whose TotalDuration contradicts its blocks: blocks are missing."""
    row = next((row for row in text.rows("DEFINITIONS") if row.fields[0] == "TotalDuration"), None)
    if row is None:
        return
    if len(row.fields) != 2:
        text.fail(row.line, "DEFINITIONS", f"TotalDuration must be one number, but is {definitions['TotalDuration']!r}")
    stated_s = text.number(row, 1, "DEFINITIONS", "TotalDuration")
    if abs(stated_s - total_s) > 1e-6 * max(total_s, 1.0):
        text.fail(
            row.line, "DEFINITIONS", f"TotalDuration is {stated_s:.10g} s, but the blocks last {total_s:.10g} s in all"
        )
