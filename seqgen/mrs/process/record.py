"""The record of what was done to data: one ProcessingApplied entry of NIfTI-MRS per step."""

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
    header = {**data.header, "ProcessingApplied": [*data.header.get("ProcessingApplied", []), entry]}
    return replace(data, fid=fid, header=header, **changes)
