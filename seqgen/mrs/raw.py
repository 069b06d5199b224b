"""What a raw-data file delivers to the converter, whatever its format."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqgen.axes import FloatArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Place:
    """Where the gradient axes of a sequence lie in the scanner."""

    axes: FloatArray
    """Unit vectors of the sequence's x, y, z in NIfTI axes (right, anterior, superior), in columns, shape (3, 3)."""
    size_m: FloatArray
    """Size of the prescribed volume along x, y, z, m, shape (3,)."""
    centre_m: FloatArray
    """Its centre in NIfTI axes, m, shape (3,)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RawScan:
    """A raw-data file: readouts in the order in which they were taken."""

    path: Path
    """The file."""
    samples: NDArray[np.complex64]
    """Samples as stored, shape (n_readouts, n_coils, n_samples), noise scans left out."""
    n_noise: int
    """Number of noise scans left out."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    nucleus: str
    """Resonant nucleus, "1H"."""
    pairing_field: str
    """Name of the field that holds the signature of the sequence."""
    seq_signature: str | None
    """MD5 signature of the `.seq` that ran, if the file states one."""
    seq_sha256: str | None = None
    """SHA-256 of the `.seq` that ran, if the file states it."""
    place: Place | None = None
    """Place of the voxel, if the file states it."""
    place_note: str = ""
    """Where the place comes from, or why there is none."""
    time_stamp_s: FloatArray | None = None
    """Time stamp of each readout in s, if the file has them; only differences mean something."""
    dwell_s: float | None = None
    """Dwell time that the file states and that can be relied on, s."""
    sense: str = ""
    """What the file says about the sense of rotation of its samples; empty: nothing."""
    header: dict[str, Any] = field(default_factory=dict)
    """Standard NIfTI-MRS header keys about hardware and software; nothing that an operator typed."""
    user: dict[str, Any] = field(default_factory=dict)
    """Further entries for the header object "seqgen"."""
