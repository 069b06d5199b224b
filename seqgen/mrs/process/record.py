"""The record of what was done to data: one ProcessingApplied entry of NIfTI-MRS per step."""

import re
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Literal

from seqgen.axes import ComplexArray
from seqgen.mrs.data import MRSData

Method = Literal[
    "RF coil combination",
    "Removal of motion-corrupted transients",
    "Frequency and phase correction",
    "Signal averaging",
    "Eddy current correction",
    "Nuisance peak removal",
    "Phasing",
]
"""Words of Near et al., NMR Biomed 34:e4257 (2021), doi:10.1002/nbm.4257."""

_DIMENSION_KEY = re.compile(r"dim_[567]_(info|header)")


def with_step(data: MRSData, fid: ComplexArray, *, method: Method, details: str, time: str, **changes: Any) -> MRSData:
    """Return the data with a new FID and one more ProcessingApplied entry.

    Args:
        data: The data before the step.
        fid: The FID after it.
        method: What was done.
        details: How, with numbers and units.
        time: When, ISO 8601; given by the caller, so that equal input gives equal output.
        **changes: Further fields of `MRSData` that the step changes (`dims`, `reference_ppm`).
    """
    entry = {
        "Time": time,
        "Program": "seqgen",
        "Version": version("seqgen"),
        "Method": method,
        "Details": details,
    }
    kept = _renumbered(data.header, data.dims, changes.get("dims", data.dims))
    header = {**kept, "ProcessingApplied": [*data.header.get("ProcessingApplied", []), entry]}
    return replace(data, fid=fid, header=header, **changes)


def _renumbered(header: dict[str, Any], before: tuple[str, ...], after: tuple[str, ...]) -> dict[str, Any]:
    """Return a header whose dim_N_info and dim_N_header follow their dimension, or go with it."""
    kept = {key: value for key, value in header.items() if not _DIMENSION_KEY.fullmatch(key)}
    for old, tag in enumerate(before):
        if tag in after:
            for what in ("info", "header"):
                key = f"dim_{5 + old}_{what}"
                if key in header:
                    kept[f"dim_{5 + after.index(tag)}_{what}"] = header[key]
    return kept
