"""What a sweep has reached, read from the files of its points: table, CSV, Pareto plots."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.axes import FloatArray
from seqgen.errors import InputError
from seqgen.pipeline.sweep_point import PointFolder
from seqgen.provenance import write_text
from seqgen.report.canvas import save_figure
from seqgen.report.pareto import Column, front, pareto_figure
from seqgen.sweep_file import ParetoSpec, Point, SweepStudy, value_text

NO_RESULT = (
    "format",
    "problem",
    "name",
    "provenance",
    "history",
    "terms",
    "landscape",
    "spectrometer_frequency_hz",
    "reference_ppm",
    "shots",
)
"""Keys of a design file that are no results, or (shots) are summed up."""
LABELS: Mapping[str, str] = {
    "signal": "signal / pulse-acquire",
    "te_s": "TE (s)",
    "energy_hz2_s": "energy per pulse (Hz² s)",
    "energy_per_shot_hz2_s": "energy of designed pulses per shot (Hz² s)",
    "peak_hz": "peak (Hz)",
    "loss": "loss",
}
"""Axis labels of columns; others are labelled with their names."""
FIRST = ("loss", "signal", "contamination")
"""Columns that come first among the results."""
NOT_PRINTED = ("press.", "shots[", "combine", "search", "error")
"""Beginnings of columns that stand in the CSV file alone."""

Row = dict[str, Any]
"""Column to number or text; a column without a value is left out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SweepReport:
    """What is on disk."""

    rows: tuple[Row, ...]
    """One row per point, in the order of the grid."""
    columns: tuple[str, ...]
    """Every column."""
    table: Path
    """The CSV file."""
    fronts: Mapping[Path, tuple[str, ...]]
    """Every figure, and the points on its front."""

    def count(self, *states: str) -> int:
        """Return how many points are in one of some states."""
        return sum(row["status"] in states for row in self.rows)


def sweep_folder(study: SweepStudy, point: Point, folder: Path) -> PointFolder:
    """Return the folder of a point in that of the sweep."""
    return PointFolder(path=folder / "points" / point.id)


def report_sweep(study: SweepStudy, folder: Path) -> SweepReport:
    """Read what is on disk; write table.csv and the Pareto plots.

    Raises:
        InputError: If a plot asks for a column that no point has (the others are drawn), or a file cannot be written.
    """
    rows = tuple(read_row(study, point, folder) for point in study.points)
    columns = _columns(study, rows)
    table = folder / "table.csv"
    write_text(table, _csv(columns, rows))
    fronts, refused = {}, []
    for spec in study.pareto or _of_the_loss(columns):
        try:
            found = _draw(spec, rows, columns, folder)
        except InputError as error:
            refused.append(str(error))
            continue
        if found is not None:
            fronts[found[0]] = found[1]
    if refused:
        raise InputError("\n".join(refused))
    return SweepReport(rows=rows, columns=columns, table=table, fronts=fronts)


def read_row(study: SweepStudy, point: Point, folder: Path) -> Row:
    """Return what the files of a point say: what varies, its state, and every number of its design.

    Nested values are named by their keys ("terms.window", "bounds.Gln"); what belongs to the plain sequence begins
    with "press.". `te_s` is TE1 + TE2, of several shots the first's.
    """
    files = sweep_folder(study, point, folder)
    record, state = files.own_record(), files.state()
    row: Row = {"point": point.id, "status": state}
    content = files.own_design() if state in ("done", "failed") else None
    if content is not None:
        row |= _results(content)
    row |= {
        key: value if isinstance(value, int | float | str) else value_text(value) for key, value in point.values.items()
    }
    return row | {key: record[key] for key in ("seconds", "error") if key in record}


def table_text(report: SweepReport) -> str:
    """Return the table of results for the screen, then errors and fronts."""
    columns = [name for name in report.columns if not name.startswith(NOT_PRINTED)]
    lines = [[_cell(row.get(name)) for name in columns] for row in report.rows]
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [columns, *lines]
    ]
    text += [f"{row['point']} failed: {row['error']}" for row in report.rows if "error" in row]
    text += [f"{path}: not dominated {', '.join(points)}" for path, points in report.fronts.items()]
    return "\n".join([*text, str(report.table)])


def _results(content: Mapping[str, Any]) -> Row:
    """Return the scalars of a design file by column."""
    found = _flat({key: value for key, value in content.items() if key not in NO_RESULT})
    named: Row = {}
    for key, value in found.items():
        name = re.sub(r"(^|\.)metrics\.", r"\1", key)
        named["search" if key == "status" else name] = value
    if len(content["shots"]) == 1:
        named.pop("combine", None)
    named |= _of_the_shots(content["shots"]) | _ratios(named)
    for prefix in ("", "press."):
        te1_s, te2_s = named.get(f"{prefix}te1_s"), named.get(f"{prefix}te2_s")
        if te1_s is not None and te2_s is not None:
            named[f"{prefix}te_s"] = round(te1_s + te2_s, 9)
    return named


def _ratios(named: Row) -> Row:
    """Return each Cramer-Rao bound over that of the plain sequence, and their product: ensembles then compare."""
    bounds = {name.removeprefix("bounds."): value for name, value in named.items() if name.startswith("bounds.")}
    ratio = {name: bound / named[f"press.bounds.{name}"] for name, bound in bounds.items()}
    if not ratio:
        return {}
    return {f"ratio.{name}": value for name, value in ratio.items()} | {"ratio.product": math.prod(ratio.values())}


def _of_the_shots(shots: Sequence[Mapping[str, Any]]) -> Row:
    """Return echo times (of several shots the first's, and each by its number) and what the pulses need at most."""
    found: Row = {"te1_s": shots[0]["te1_s"], "te2_s": shots[0]["te2_s"]}
    if len(shots) > 1:
        found |= {f"shots[{k}].{name}": shot[name] for k, shot in enumerate(shots) for name in ("te1_s", "te2_s")}
    pulses = [pulse for shot in shots for pulse in shot["pulses"]]
    found |= {name: max(pulse[name] for pulse in pulses) for name in ("peak_hz", "energy_hz2_s")}
    played = [pulse["energy_hz2_s"] * len(pulse["places"]) for pulse in pulses]
    return found | {"energy_per_shot_hz2_s": sum(played) / len(shots)}


def _flat(value: Any, path: str = "") -> dict[str, float | str]:
    """Return numbers and words of nested mappings and lists of mappings by dotted path; waveforms are left out."""
    if isinstance(value, Mapping):
        below = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        below = [(f"{path}[{k}]", item) for k, item in enumerate(value)]
    else:
        return {path: value} if isinstance(value, int | float | str) and not isinstance(value, bool) else {}
    return {name: found for key, item in below for name, found in _flat(item, key).items()}


def _columns(study: SweepStudy, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the columns in order: what the point is, what it reaches, the plain sequence, how the search went."""
    head = ["point", *study.keys, "status"]
    tail = ["seconds", "search", "error"]
    found = list(dict.fromkeys(name for row in rows for name in row if name not in (*head, *tail)))
    rank = {name: k for k, name in enumerate(FIRST)}
    found.sort(key=lambda name: (name.startswith("press."), rank.get(name, len(rank))))
    return (*head, *found, *(name for name in tail if any(name in row for row in rows)))


def _csv(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return the rows as CSV, numbers with all digits, empty where there is no value."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _cell(value: Any) -> str:
    """Return a value for the screen: five digits."""
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _of_the_loss(columns: Sequence[str]) -> tuple[ParetoSpec, ...]:
    """Return the plots of a study that asks for none: they follow from its loss."""
    specs = []
    if "terms.window" in columns:
        specs.append(ParetoSpec(x="contamination", y="signal"))
    if "terms.crlb" in columns:
        bounds = [name for name in columns if name.startswith("bounds.")] or ["terms.crlb"]
        specs += [ParetoSpec(x="te_s", y=name, z="energy_hz2_s") for name in bounds]
    if not specs and "loss" in columns:
        specs.append(ParetoSpec(x="te_s", y="loss"))
    return tuple(spec for spec in specs if {spec.x, spec.y, spec.z or spec.x} <= set(columns))


def _draw(
    spec: ParetoSpec, rows: Sequence[Row], columns: Sequence[str], folder: Path
) -> tuple[Path, tuple[str, ...]] | None:
    """Write one plot of the points that are done; return it and the points on its front, None without any."""
    done = [row for row in rows if row["status"] == "done"]
    if not done:
        return None
    _require_columns(spec, done, columns)
    counted = [name for name in (spec.x, spec.y, spec.z) if name]
    drawn = [row for row in done if all(_is_number(row.get(name)) for name in counted)]
    if not drawn:
        return None
    made = [
        Column(
            name=LABELS.get(name, name),
            values=np.array([row[name] for row in drawn], dtype=float),
            maximise=name in spec.maximise,
            log=name in spec.logarithmic,
        )
        for name in counted
    ]
    colour = (spec.colour, [row.get(spec.colour, "none") for row in drawn]) if spec.colour else None
    figure = pareto_figure(*made, colour=colour, colour_log=spec.colour in spec.logarithmic, plain=_plain(drawn, spec))
    path = folder / f"pareto_{'_'.join(re.sub(r'[^A-Za-z0-9]+', '_', name) for name in counted)}.png"
    save_figure(figure, path)
    return path, tuple(row["point"] for row, on in zip(drawn, front(made), strict=True) if on)


def _require_columns(spec: ParetoSpec, done: Sequence[Row], columns: Sequence[str]) -> None:
    """Refuse columns that the table does not have, and axes that hold words."""
    numbers = sorted({name for row in done for name, value in row.items() if _is_number(value)})
    for key in ("x", "y", "z", "colour"):
        name = getattr(spec, key)
        if name and name not in (columns if key == "colour" else numbers):
            raise InputError(f"{spec.where}: 'pareto' has {key} {name!r}, but the columns are {', '.join(numbers)}.")


def _is_number(value: Any) -> bool:
    """Tell whether a value can be drawn along an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(rows: Sequence[Row], spec: ParetoSpec) -> tuple[FloatArray, FloatArray] | None:
    """Return (x, y) of the plain sequences where the files have both; ratios to them are 1."""

    def of(row: Row, name: str) -> Any:
        return 1.0 if name.startswith("ratio.") and name in row else row.get(f"press.{name}", math.nan)

    x, y = (np.array([of(row, name) for row in rows], dtype=float) for name in (spec.x, spec.y))
    known = np.isfinite(x) & np.isfinite(y)
    return (x[known], y[known]) if known.any() else None
