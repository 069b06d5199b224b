"""MRSData: measured or simulated transients in memory, in seqgen's sign convention."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from seqgen.axes import ComplexArray, FloatArray
from seqgen.errors import InputError

_CONDITION_KEY = "editing_condition"
"""Where the user object "seqgen" of a header states the editing condition that was taken."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MRSData:
    """Single-voxel spectroscopy data. Change with `dataclasses.replace`."""

    fid: ComplexArray
    """Complex samples, shape (n_samples, ...) with one further axis per entry of `dims`, in-memory sense (axes.py):
    a spin above `reference_ppm` turns with positive frequency."""
    dims: tuple[str, ...] = ()
    """NIfTI-MRS tags of the axes after the first, for example ("DIM_COIL", "DIM_DYN")."""
    dwell_s: float
    """Dwell time, s."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    nucleus: str
    """Resonant nucleus, "1H"."""
    reference_ppm: float
    """Chemical shift at zero frequency, ppm: where the transmitter stood (water: 4.65 at 37 C, near 4.80 at 20 C)."""
    affine_m: FloatArray | None = None
    """Voxel-to-scanner affine in NIfTI axes (right, anterior, superior), m, shape (4, 4); None: place unknown."""
    header: dict[str, Any] = field(default_factory=dict)
    """Further NIfTI-MRS header keys in the standard's own names and units (EchoTime in s, ...), and user objects."""

    def __post_init__(self) -> None:
        if self.fid.ndim != 1 + len(self.dims) or not np.iscomplexobj(self.fid):
            raise InputError(
                f"MRSData needs a complex fid with one axis for samples and one per dims entry {self.dims}, "
                f"but got {self.fid.dtype} with shape {self.fid.shape}."
            )

    @property
    def n_samples(self) -> int:
        """Number of samples of each transient."""
        return int(self.fid.shape[0])

    def axis(self, tag: str) -> int:
        """Return the array axis of a dimension tag such as "DIM_COIL".

        Raises:
            InputError: If the data have no such dimension.
        """
        if tag not in self.dims:
            raise InputError(f"The data have no dimension {tag}; they have {', '.join(self.dims) or 'samples only'}.")
        return 1 + self.dims.index(tag)


def one_condition(data: MRSData, condition: int | None) -> MRSData:
    """Return the data of one editing condition, DIM_EDIT gone; data without conditions as they are.

    What the header states for each condition (EchoTime where they differ) becomes that of the one, and `condition_of`
    tells which it is.

    Args:
        data: Data; their DIM_EDIT, if any, is the last dimension, as `convert` makes it.
        condition: Value of the Pulseq label SET; None where there are no conditions.

    Raises:
        InputError: If there are conditions and none of them is named.
    """
    if "DIM_EDIT" not in data.dims and condition is None:
        return data
    if "DIM_EDIT" not in data.dims or data.dims[-1] != "DIM_EDIT":
        raise InputError("The data have no editing conditions as their last dimension (DIM_EDIT). Name no condition.")
    axis = data.axis("DIM_EDIT")
    number = 4 + axis
    along = data.header.get(f"dim_{number}_header", {})
    stated = along.get("PulseqLabelSET", {}).get("Value")
    values = list(range(data.fid.shape[axis])) if stated is None else [int(value) for value in stated]
    if condition not in values:
        raise InputError(
            f"The data hold the editing conditions SET {', '.join(map(str, values))}, but {condition} is asked for. "
            "Choose one of them."
        )
    place = values.index(condition)
    header = {key: value for key, value in data.header.items() if not key.startswith(f"dim_{number}")}
    header |= {key: value[place] for key, value in along.items() if isinstance(value, list)}
    header["seqgen"] = {**data.header.get("seqgen", {}), _CONDITION_KEY: condition}
    return replace(data, fid=np.take(data.fid, place, axis=axis), dims=data.dims[:-1], header=header)


def condition_of(data: MRSData) -> int | None:
    """Return the editing condition (label SET) that `one_condition` took; None for data that state none."""
    record = data.header.get("seqgen", {})
    stated = record.get(_CONDITION_KEY) if isinstance(record, dict) else None
    return stated if isinstance(stated, int) else None
