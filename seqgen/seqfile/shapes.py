"""Shapes of a `.seq` file: the run-length code on the derivative, undone with every count checked."""

import numpy as np

from seqgen.seqfile.events import FloatVector
from seqgen.seqfile.text import Row, SeqText

MAX_SHAPE_SAMPLES = 2**22
"""Most samples of one shape (4 s of RF at 1 us)."""
MAX_ALL_SHAPES_SAMPLES = 2**24
"""Most samples of all shapes of a file together (128 MiB)."""


def read_shapes(text: SeqText) -> dict[int, FloatVector]:
    """Return the decompressed shapes by number.

    Raises:
        InputError: If a shape is cut off, holds something else than numbers, or does not give its `num_samples`.
    """
    shapes: dict[int, FloatVector] = {}
    rows = text.rows("SHAPES")
    total, k = 0, 0
    while k < len(rows):
        number, n_samples, end = _shape_extent(text, rows, k)
        if number in shapes:
            text.fail(rows[k].line, "SHAPES", f"shape {number} is defined twice")
        total += n_samples
        if total > MAX_ALL_SHAPES_SAMPLES:
            text.fail(rows[k].line, "SHAPES", f"the shapes have more than {MAX_ALL_SHAPES_SAMPLES} samples in all")
        packed = [text.number(row, 0, "SHAPES", f"a value of shape {number}") for row in rows[k + 2 : end]]
        shapes[number] = _decompressed(text, rows[k].line, number, n_samples, packed)
        k = end
    return shapes


def _shape_extent(text: SeqText, rows: list[Row], k: int) -> tuple[int, int, int]:
    """Return (shape number, number of samples, index after its last row) of the shape whose heading is row k."""
    heading = rows[k]
    if len(heading.fields) != 2 or heading.fields[0].lower() != "shape_id":
        text.fail(heading.line, "SHAPES", f"expected 'shape_id <number>', but found {' '.join(heading.fields)[:40]!r}")
    number = text.integer(heading, 1, "SHAPES", "shape_id", low=1)
    if k + 1 >= len(rows) or len(rows[k + 1].fields) != 2 or rows[k + 1].fields[0].lower() != "num_samples":
        text.fail(heading.line, "SHAPES", f"shape {number} has no 'num_samples' line; the file is cut off here")
    n_samples = text.integer(rows[k + 1], 1, "SHAPES", "num_samples", low=1, high=MAX_SHAPE_SAMPLES)
    end = k + 2
    while end < len(rows) and len(rows[end].fields) == 1:
        end += 1
    return number, n_samples, end


def _decompressed(text: SeqText, line: int, number: int, n_samples: int, packed: list[float]) -> FloatVector:
    """Return the samples of a shape.

    As many values as samples: stored as they are. Fewer: steps from sample to sample, a step that comes twice being
    followed by the number of further times it comes (Pulseq specification 1.4, section on shapes).
    """
    if len(packed) == n_samples:
        return np.array(packed, dtype=np.float64)
    steps: list[float] = []
    counts: list[int] = []
    k = 0
    while k < len(packed):
        steps.append(packed[k])
        if k + 1 == len(packed) or packed[k + 1] != packed[k]:
            counts.append(1)
            k += 1
            continue
        further = packed[k + 2] if k + 2 < len(packed) else -1.0
        if further != int(further) or not 0 <= further <= n_samples:
            text.fail(line, "SHAPES", f"shape {number} is corrupt: a repeated step has no valid count after it")
        counts.append(2 + int(further))
        k += 3
    found = sum(counts)
    if found != n_samples:
        text.fail(line, "SHAPES", f"shape {number} must have {n_samples} samples, but unpacks to {found}")
    return np.cumsum(np.repeat(np.array(steps), counts))
