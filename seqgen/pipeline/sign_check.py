"""`seqgen sign-check`: raw data of the sign check and its `.seq`, to what the interpreter did with every sign."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqgen.errors import InputError
from seqgen.mrs.mrd import read_mrd
from seqgen.mrs.raw import RawScan
from seqgen.mrs.sign_check import read_sign_check
from seqgen.mrs.sign_verdict import SignCheck
from seqgen.mrs.twix import read_twix
from seqgen.seqfile.reader import SeqFile, read_seq

_HDF5 = b"\x89HDF\r\n\x1a\n"


def check_signs(
    raw: Path,
    seq_path: Path,
    *,
    displacement_m: Sequence[float] | None = None,
    water_offset_hz: float | None = None,
    allow_unproven: bool = False,
) -> SignCheck:
    """Read a sign check from raw data: ISMRMRD (HDF5) or Siemens twix.

    Args:
        raw: Raw data.
        seq_path: The `.seq` that ran.
        displacement_m: Centre of the sample from the isocentre along right, anterior and superior, m. It is turned into
            the sequence's axes by the directions that the raw file states; without any, x, y, z are taken for right,
            anterior, superior.
        water_offset_hz: Offset of water from the spectrometer frequency, where it was set on purpose, Hz.
        allow_unproven: Accept a pair that cannot be checked because one of the files carries no signature.

    Raises:
        InputError: If a file cannot be used, the `.seq` is no sign check or not the one that ran.
    """
    if not raw.is_file():
        raise InputError(f"Cannot read {raw}: there is no such file, or it is a folder. Check the path.")
    with raw.open("rb") as file:
        is_mrd = file.read(8) == _HDF5
    scan, seq = read_mrd(raw) if is_mrd else read_twix(raw), read_seq(seq_path)
    _require_pair(scan, seq, seq_path, allow_unproven)
    if displacement_m is not None and scan.place is not None:
        displacement_m = (scan.place.axes.T @ np.asarray(displacement_m, dtype=np.float64)).tolist()
    return read_sign_check(scan.samples, seq, displacement_m=displacement_m, water_offset_hz=water_offset_hz)


def _require_pair(scan: RawScan, seq: SeqFile, seq_path: Path, allow_unproven: bool) -> None:
    """Refuse raw data of another sequence, or of one that nothing names."""
    if scan.seq_signature and seq.signature:
        same = scan.seq_signature == seq.signature
    elif scan.seq_sha256:
        same = scan.seq_sha256 == seq.sha256
    elif allow_unproven:
        return
    else:
        raise InputError(
            f"Nothing shows that {scan.path} was acquired with {seq_path}: no signature. Give the file that ran, with "
            "its signature; or, sure of the pair, allow an unproven one."
        )
    if not same:
        raise InputError(f"{seq_path} is not the sequence that {scan.path} was acquired with. Give the .seq that ran.")
