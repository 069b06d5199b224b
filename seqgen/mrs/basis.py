"""Basis sets: the FID of every metabolite in the very sequence that is scanned, and their file."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.axes import ComplexArray, conjugate_for_disk, ppm_to_hz, time_axis_s
from seqgen.errors import InputError
from seqgen.provenance import Provenance, replacing, write_json

FORMAT = "seqgen basis 1"
"""Layout of a basis file: an npz with `fid` and `metadata` (UTF-8 JSON as bytes)."""
_READERS_REFERENCE_PPM = 4.65
_DAMAGED_ARCHIVE: tuple[type[Exception], ...] = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)
_DAMAGED_ARRAY: tuple[type[Exception], ...] = (KeyError, ValueError, TypeError, MemoryError)
"""What zipfile and NumPy raise on damaged archives, found by damaging every byte of a file."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Basis:
    """Simulated FIDs of metabolites in one sequence, in seqgen's sign convention (axes.py).

    Normalisation: one proton after an ideal pulse-acquire gives 1 at t = 0, so a fitted amplitude counts molecules and
    what the sequence loses (slice profiles, J evolution, editing) is in the FIDs. Macromolecules are not in it.
    """

    names: tuple[str, ...]
    """Names of the metabolites, one per column of `fid`."""
    fid: ComplexArray
    """Complex128, shape (n_samples, n_metabolites); sample 0 is the first that the processed data keep."""
    dwell_s: float
    """Dwell time, s."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency, Hz."""
    reference_ppm: float
    """Chemical shift at zero frequency, ppm."""
    te_s: float
    """Echo time of the sequence, s (0 for pulse-acquire)."""
    seq_name: str
    """Name of the sequence or `.seq` file that was simulated."""
    relaxation_included: bool = False
    """True if T2 decay over the echo time is in the FIDs; False if quantification is still to correct for it."""
    linewidth_hz: float = 0.0
    """Lorentzian full width at half maximum that the FIDs already carry, Hz."""
    condition: int | None = None
    """Editing condition (label SET) that was simulated; None for a sequence of one condition."""
    provenance: Provenance = field(default_factory=Provenance)
    """What the basis was made from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fid", np.asarray(self.fid, dtype=np.complex128))
        if self.fid.ndim != 2 or self.fid.shape[1] != len(self.names) or 0 in self.fid.shape:
            raise InputError(
                f"A basis needs fid of shape (n_samples, n_metabolites) with one column for each of {self.names}, "
                f"but got {self.fid.shape}."
            )
        if len(set(self.names)) != len(self.names):
            raise InputError(f"A basis needs a different name for every metabolite, but has {', '.join(self.names)}.")
        if not np.isfinite(self.fid).all():
            bad = [name for name, fid in zip(self.names, self.fid.T, strict=True) if not np.isfinite(fid).all()]
            raise InputError(f"The basis FIDs of {', '.join(bad)} are not finite. Simulate the basis again.")
        if not (self.dwell_s > 0 and self.spectrometer_frequency_hz > 0 and self.te_s >= 0):
            raise InputError(
                f"A basis needs dwell_s > 0, spectrometer_frequency_hz > 0 and te_s >= 0, but has {self.dwell_s}, "
                f"{self.spectrometer_frequency_hz} and {self.te_s}."
            )

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return int(self.fid.shape[0])

    def column(self, name: str) -> ComplexArray:
        """Return the FID of one metabolite, shape (n_samples,).

        Raises:
            InputError: If the basis has no such metabolite.
        """
        if name not in self.names:
            raise InputError(f"The basis of {self.seq_name} has no {name}; it has {', '.join(self.names)}.")
        return self.fid[:, self.names.index(name)]


def save_basis(basis: Basis, path: Path) -> None:
    """Write a basis file atomically; equal bases give equal bytes.

    Raises:
        InputError: If the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "names": list(basis.names),
        "dwell_s": basis.dwell_s,
        "spectrometer_frequency_hz": basis.spectrometer_frequency_hz,
        "reference_ppm": basis.reference_ppm,
        "te_s": basis.te_s,
        "seq_name": basis.seq_name,
        "relaxation_included": basis.relaxation_included,
        "linewidth_hz": basis.linewidth_hz,
        "condition": basis.condition,
        "provenance": basis.provenance.to_json(),
    }
    text = json.dumps(metadata, indent=1).encode()
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        _write_array(archive, "fid", np.ascontiguousarray(basis.fid))
        _write_array(archive, "metadata", np.frombuffer(text, dtype=np.uint8))


def load_basis(path: Path) -> Basis:
    """Read a basis file that `save_basis` wrote.

    Raises:
        InputError: If the file is missing, damaged, of another kind or format, or its contents do not fit together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
            fid = _read_array(archive, "fid")
            metadata = json.loads(_read_array(archive, "metadata").tobytes())
    except FileNotFoundError as error:
        raise InputError(f"There is no basis file {path}. Check the path, or simulate the basis first.") from error
    except (*_DAMAGED_ARCHIVE, *_DAMAGED_ARRAY) as error:
        raise InputError(
            f"{path} is not a readable basis file ({type(error).__name__}: {error}). It is damaged or of another kind; "
            "simulate the basis again."
        ) from error
    return _basis_from(metadata, fid, path)


def export_fsl_mrs(basis: Basis, folder: Path) -> None:
    """Write the basis as a folder of FSL-MRS JSON files, one per metabolite.

    The files hold the disk sense (complex conjugate); FIDs are shifted so that zero frequency means 4.65 ppm, which
    readers of this format assume. Keys: `basis_re`, `basis_im`, `basis_dwell` (s), `basis_centre` (MHz),
    `basis_width` (Hz), `basis_name`.

    Raises:
        InputError: If a file cannot be written.
    """
    offset_hz = ppm_to_hz(basis.reference_ppm, basis.spectrometer_frequency_hz, _READERS_REFERENCE_PPM)
    turning = np.exp(2j * np.pi * offset_hz * time_axis_s(basis.n_samples, basis.dwell_s))
    for name in basis.names:
        fid = conjugate_for_disk(basis.column(name) * turning)
        content = {
            "basis": {
                "basis_re": fid.real.tolist(),
                "basis_im": fid.imag.tolist(),
                "basis_dwell": basis.dwell_s,
                "basis_centre": basis.spectrometer_frequency_hz * 1e-6,
                "basis_width": basis.linewidth_hz,
                "basis_name": name,
            },
            "meta": {"SequenceName": basis.seq_name, "EchoTime": basis.te_s, "normalisation": "one proton gives 1"},
        }
        write_json(folder / f"{name}.json", content)


def _write_array(archive: zipfile.ZipFile, name: str, array: np.ndarray[Any, Any]) -> None:
    """Add an array to an npz with a fixed time stamp."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, buffer.getvalue())


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    """Return an array of an npz; the whole entry is read first, so its checksum is verified."""
    array: np.ndarray[Any, Any] = np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
    return array


def _basis_from(metadata: Any, fid: np.ndarray[Any, Any], path: Path) -> Basis:
    found = metadata.get("format") if isinstance(metadata, Mapping) else None
    if found != FORMAT:
        raise InputError(
            f"{path} says format {found!r}, but this version reads {FORMAT!r}. Simulate the basis again with this "
            "version of seqgen."
        )
    try:
        # Older files state none.
        condition = metadata.get("condition")
        return Basis(
            names=tuple(str(name) for name in metadata["names"]),
            fid=fid,
            dwell_s=float(metadata["dwell_s"]),
            spectrometer_frequency_hz=float(metadata["spectrometer_frequency_hz"]),
            reference_ppm=float(metadata["reference_ppm"]),
            te_s=float(metadata["te_s"]),
            seq_name=str(metadata["seq_name"]),
            relaxation_included=bool(metadata["relaxation_included"]),
            linewidth_hz=float(metadata["linewidth_hz"]),
            condition=None if condition is None else int(condition),
            provenance=Provenance.from_json(metadata["provenance"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not a usable basis file ({type(error).__name__}: {error}). Simulate the basis again."
        ) from error
