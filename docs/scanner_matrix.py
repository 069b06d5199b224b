"""Which sequence builds on which scanner: builds every cell and renews the tables of docs/scanners.md."""

import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from seqgen import library
from seqgen.axes import ppm_to_hz
from seqgen.errors import SeqgenError
from seqgen.pulse.shapes import gaussian_pulse
from seqgen.scanner import Scanner
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.contract import FORMATS, sensible_params
from seqgen.sequence.plugins import GROUP, BuildContext, Built, editing_places, find_sequence
from seqgen.units import tesla_to_hz

PAGE = Path(__file__).parent / "scanners.md"
BUILT = "built"
NO_PLACE = "no place for one"
BUILT_USELESS = "built, but edits nothing"
"""Where Glu and Gln lie closer together than any line is narrow."""
WATER_PPM = 4.65
NARROWEST_LINE_HZ = 1.0
_SHORT = {"averages": 4, "dummy_scans": 1, "water_reference_averages": 2, "adc_samples": 512}
HEAD = {"voxel_size_m": (0.02, 0.02, 0.02)}
RODENT = {"voxel_size_m": (0.003, 0.003, 0.003), "crusher_moment_per_m": 10000.0}
WATER_ONLY = {
    "voxel_size_m": (0.04, 0.04, 0.04),
    "crusher_moment_per_m": 750.0,
    "crusher_duration_s": 6e-3,
    "water_suppression": "none",
    "tm_spoiler_moment_per_m": 750.0,
    "tm_spoiler_duration_s": 6e-3,
    "inversion_spoiler_moment_per_m": 1000.0,
    "inversion_spoiler_duration_s": 8e-3,
    "slice_carrier_ppm": WATER_PPM,
}
SETTINGS: dict[str, dict[str, Any]] = {"head": HEAD, "rodent": RODENT, "water only": WATER_ONLY}
"""Parameters by name; all crushers turn the spins 30 times from edge to edge of the voxel."""
_SETTINGS_OF = {"bruker": ("rodent",), "nexus": ("head", "water only"), "marcos": ("water only",)}
"""Vendor to settings; any other: head."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A sequence with settings, plain or edited, on a scanner."""

    sequence: str
    """Name of the sequence."""
    scanner: str
    """Name of the profile."""
    setting: str
    """Name of the parameters."""
    edited: bool
    """Whether it has a 20 ms editing pulse."""


def seqgen_sequences() -> list[str]:
    """Return the sequences of this project; those that other installed packages add are left out."""
    return sorted({point.name for point in entry_points(group=GROUP) if point.dist and point.dist.name == "seqgen"})


def cells() -> Iterator[Cell]:
    """Yield all cells of the tables."""
    for sequence in seqgen_sequences():
        for name in library.scanner_names():
            for setting in _SETTINGS_OF.get(library.scanner(name).vendor, ("head",)):
                for edited in (False, True) if editing_places(find_sequence(sequence)) else (False,):
                    yield Cell(sequence=sequence, scanner=name, setting=setting, edited=edited)


def context_of(cell: Cell) -> BuildContext:
    """Return the scanner at its nominal field, with an editing pulse on Glu H4 where one is wanted."""
    scanner = library.scanner(cell.scanner)
    frequency_hz = tesla_to_hz(scanner.b0_nominal_t)
    pulse = gaussian_pulse(flip_angle_rad=math.pi, duration_s=0.02, dwell_s=2e-5, name="edit")
    return BuildContext(
        scanner=scanner,
        spectrometer_frequency_hz=frequency_hz,
        water_shift_ppm=WATER_PPM,
        editing_pulse=replace(pulse, carrier_offset_hz=ppm_to_hz(2.35, frequency_hz, WATER_PPM))
        if cell.edited
        else None,
    )


def params_of(cell: Cell, context: BuildContext) -> Any:
    """Return the parameters of a cell: those of its settings that the sequence has, echo times above the minimum."""
    spec = find_sequence(cell.sequence)
    asked = SETTINGS[cell.setting] | _SHORT
    return sensible_params(spec, context, **{k: v for k, v in asked.items() if k in spec.Params.__dataclass_fields__})


def build(cell: Cell, folder: Path) -> Built:
    """Build a cell and write it in every format, as `<format>.seq`.

    Raises:
        SeqgenError: If it is refused.
    """
    context = context_of(cell)
    built = find_sequence(cell.sequence).build(params_of(cell, context), context)
    for form in FORMATS:
        write_seq(
            built.blocks,
            folder / f"{form}.seq",
            scanner=context.scanner,
            spectrometer_frequency_hz=context.spectrometer_frequency_hz,
            definitions=built.definitions,
            seq_format=form,
            shot_starts=built.shot_starts,
        )
    return built


def glu_gln_hz(scanner: Scanner) -> float:
    """Return the distance of H4 of Glu from H4 of Gln at the scanner's nominal field, Hz."""
    glu, gln = (_mean_h4_ppm(name) for name in ("Glu", "Gln"))
    return abs(gln - glu) * 1e-6 * tesla_to_hz(scanner.b0_nominal_t)


def _mean_h4_ppm(name: str) -> float:
    """Return the mean shift of the protons at C4."""
    shifts = [
        shift
        for group in library.spin_system(name).groups
        for label, shift in zip(group.labels, group.shift_ppm, strict=True)
        if label.startswith("H4")
    ]
    return sum(shifts) / len(shifts)


def answer(cell: Cell) -> str:
    """Return what the table says of a cell: that it builds, or why not."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            build(cell, Path(folder))
    except SeqgenError as error:
        return f"refused, because: {re.split(r'[.] (?=[A-Z])', str(error))[0]}"
    apart_hz = glu_gln_hz(library.scanner(cell.scanner))
    if cell.edited and apart_hz < NARROWEST_LINE_HZ:
        return f"{BUILT_USELESS}: Glu and Gln are {apart_hz:.1f} Hz apart"
    return BUILT


def table(sequence: str) -> str:
    """Return the table of a sequence in Markdown."""
    lines = ["| scanner | parameters | plain | with a 20 ms editing pulse |", "|---|---|---|---|"]
    answers = {cell: answer(cell) for cell in cells() if cell.sequence == sequence}
    for plain, found in answers.items():
        if not plain.edited:
            edited = answers.get(replace(plain, edited=True), NO_PLACE)
            lines.append(f"| `{plain.scanner}` | {plain.setting} | {found} | {edited} |")
    return "\n".join(lines)


def main() -> None:
    """Renew everything between the two marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition("<!-- matrix -->\n")
    after = rest.partition("<!-- end of matrix -->")[2]
    tables = "\n\n".join(f"### {name}\n\n{table(name)}" for name in seqgen_sequences())
    PAGE.write_text(
        f"{before}<!-- matrix -->\n\n{tables}\n\n<!-- end of matrix -->{after}", encoding="utf-8", newline="\n"
    )


if __name__ == "__main__":
    main()
