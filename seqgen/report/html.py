"""The report: one self-contained HTML file from sections of text, tables, checks and figures."""

import base64
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import ClassVar, Literal, get_args

import jinja2
from matplotlib import figure as drawing

from seqgen.errors import InputError
from seqgen.provenance import replacing
from seqgen.report.canvas import render

SAFETY_LINE = "No statement here licenses a scan: the scanner's own supervision and the site's safety officer decide."
"""Stands in every report."""

Outcome = Literal["passed", "failed", "not checked"]
"""What came of a check; one that could not run is never "passed"."""

_SVG_LIMIT_BYTES = 150_000
_NUMBER = re.compile(r"[+\-\u2212]?[\d.]+([eE][+\-]?\d+)?( ?%)?")
_NO_VALUE = ("", "-", "not stated", "not known", "not determined", "not checked")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Figure:
    """A figure with its words."""

    kind: ClassVar[str] = "figure"
    drawing: drawing.Figure
    """The figure; embedded as SVG where that is small, else as PNG."""
    caption: str
    """Printed below."""
    alt: str
    """What the figure shows, for a reader who cannot see it."""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise InputError(f"The figure {self.caption!r} has no alternative text. Say in `alt` what it shows.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Table:
    """A table of ready-made words; columns of numbers are set flush right, SHA-256 in a fixed-width face."""

    kind: ClassVar[str] = "table"
    header: tuple[str, ...]
    """Column heads, with units."""
    rows: tuple[tuple[str, ...], ...]
    """Cells, one per head; a line break in a cell is kept."""
    caption: str = ""
    """Printed above."""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.header):
                raise InputError(
                    f"Table {self.caption!r}: row {number} has {len(row)} cells, but the header has "
                    f"{len(self.header)} ({', '.join(self.header)}). Give one cell per column."
                )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Check:
    """One check: what was found, what is allowed, what came of it."""

    name: str
    """What was checked."""
    value: str
    """What was found, with its unit; empty where the check could not run."""
    limit: str
    """What is allowed, with its unit."""
    outcome: Outcome
    """"passed", "failed" or "not checked"."""
    note: str = ""
    """Source of the limit, or why the check could not run."""

    def __post_init__(self) -> None:
        if self.outcome not in get_args(Outcome):
            raise InputError(
                f"Check {self.name!r}: outcome must be one of {', '.join(get_args(Outcome))}, but is {self.outcome!r}."
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checks:
    """A list of checks."""

    kind: ClassVar[str] = "checks"
    checks: tuple[Check, ...]
    """The checks in the order shown."""
    caption: str = ""
    """Printed above."""


Item = Figure | Table | Checks | str
"""What a section holds; a string is a paragraph."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Section:
    """A section of the report."""

    title: str
    """Heading and entry in the table of contents."""
    text: str = ""
    """Opening paragraphs, separated by blank lines."""
    items: tuple[Item, ...] = ()
    """What follows, in order."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """What the fit says about one metabolite, against the truth where it is known."""

    name: str
    """Metabolite."""
    fitted: float
    """Fitted amount, in `unit`."""
    crlb_sd: float
    """Cramer-Rao lower bound of its standard deviation, in `unit`."""
    unit: str
    """Unit, for example "mM"."""
    truth: float | None = None
    """Amount that a simulation or a recipe put in, in `unit`; None where nobody knows."""

    @property
    def deviation_in_crlbs(self) -> float | None:
        """(fitted - truth) / CRLB; None where truth or bound are not known."""
        if self.truth is None or not (math.isfinite(self.crlb_sd) and self.crlb_sd > 0):
            return None
        return (self.fitted - self.truth) / self.crlb_sd


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReportContent:
    """Everything a report says."""

    title: str
    """Title of the page."""
    subtitle: str = ""
    """One line below it."""
    verdicts: tuple[Verdict, ...] = ()
    """Rows of the table at the top."""
    verdict_text: str = ""
    """One or two sentences below that table."""
    sections: tuple[Section, ...] = ()
    """The sections in order."""
    made_at: str = ""
    """When the report was made, if it is to say so; left out, equal content gives an equal file."""


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report as one HTML file without scripts or external resources, atomically.

    Every text is escaped. Equal content gives equal bytes.

    Raises:
        InputError: If the file cannot be written.
    """
    # A file name may hold bytes that are no text (surrogates): written as escapes instead of failing.
    page = report_html(content).encode("utf-8", "backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(page)


def report_html(content: ReportContent) -> str:
    """Return the report as an HTML page."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["image"] = _image
    environment.globals.update(zip=zip, column_classes=_column_classes, cell_class=_cell_class)
    template = environment.from_string(files("seqgen.report").joinpath("report.html.j2").read_text(encoding="utf-8"))
    checks = [check for section in content.sections for item in section.items for check in _checks_of(item)]
    return template.render(
        content=content,
        verdict_table=_verdict_table(content.verdicts),
        tally=_tally(checks),
        failed=[check for check in checks if check.outcome == "failed"],
        safety_line=SAFETY_LINE,
    )


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, which blank lines separate."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _image(figure: drawing.Figure) -> dict[str, str]:
    """Return the attributes of the image that shows a figure: its data and its size in CSS pixels."""
    width_in, height_in = figure.get_size_inches()
    media, data = "image/svg+xml", render(figure, "svg")
    if len(data) > _SVG_LIMIT_BYTES:
        media, data = "image/png", render(figure, "png")
    return {
        "source": f"data:{media};base64,{base64.b64encode(data).decode('ascii')}",
        "width": str(round(width_in * 100)),
        "height": str(round(height_in * 100)),
    }


def _checks_of(item: Item) -> tuple[Check, ...]:
    """Return the checks that an item holds."""
    return item.checks if isinstance(item, Checks) else ()


def _tally(checks: Iterable[Check]) -> str:
    """Return how many checks passed, failed and were not made, or nothing if there are none."""
    outcomes = [check.outcome for check in checks]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in get_args(Outcome)) if outcomes else ""


def _column_classes(table: Table) -> list[str]:
    """Return "number" for each column that holds numbers only (or nothing), else ""."""
    classes = []
    for column in zip(*table.rows, strict=True):
        values = [cell for cell in column if cell not in _NO_VALUE]
        classes.append("number" if values and all(_NUMBER.fullmatch(cell) for cell in values) else "")
    return classes or [""] * len(table.header)


def _cell_class(cell: str) -> str:
    """Return "hash" for a SHA-256, else ""."""
    return "hash" if _SHA256.fullmatch(cell) else ""


def _verdict_table(verdicts: tuple[Verdict, ...]) -> Table | None:
    """Return the table at the top, or None without verdicts."""
    if not verdicts:
        return None
    header = ("Metabolite", "Unit", "Truth", "Fitted", "CRLB", "Deviation (CRLBs)")
    return Table(header=header, rows=tuple(_verdict_row(verdict) for verdict in verdicts))


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    """Return one row; numbers carry two significant digits of the bound."""
    known = math.isfinite(verdict.crlb_sd) and verdict.crlb_sd > 0
    decimals = 1 - math.floor(math.log10(verdict.crlb_sd)) if known else -1
    form = f".{decimals}f" if 0 <= decimals <= 6 else ".4g"
    deviation = verdict.deviation_in_crlbs
    return (
        verdict.name,
        verdict.unit,
        "not known" if verdict.truth is None else format(verdict.truth, form),
        format(verdict.fitted, form),
        format(verdict.crlb_sd, form) if known else "not determined",
        "not determined" if deviation is None else f"{deviation:+.1f}",
    )
