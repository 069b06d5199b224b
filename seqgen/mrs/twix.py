"""Siemens raw data ("twix", .dat) of Pulseq scans: readouts, frequency, place, and the signature of the sequence.

The header is parsed by pyMapVBVD (MIT). Readouts are taken here, in the order of the file and with all samples:
pyMapVBVD halves them by default, sorts by counters that Pulseq need not set, and neither ends on every damaged file
nor tells that one is damaged. Layout of the measurement data headers as in pyMapVBVD's loop_mdh_read (VB and VD).
"""

import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from mapvbvd.read_twix_hdr import read_twix_hdr, twix_hdr
from numpy.typing import NDArray
from spec2nii.GSL.gslfunctions import calc_prs

from seqgen.errors import InputError
from seqgen.mrs.raw import Place, RawScan

_TICK_S = 2.5e-3
"""Unit of the time stamps in a measurement data header."""
_ACQEND, _FEEDBACK, _SYNC, _NOISE = 1 << 0, 0b110, 1 << 5, 1 << 25
"""Bits of the evaluation mask: end of the measurement, feedback data, other than samples, noise scan."""
_MAX_HEADER_BYTES = 64 * 2**20
_MAPVBVD_ERRORS = (IndexError, KeyError, ValueError, TypeError, AttributeError, OSError, EOFError, UserWarning)
"""What pyMapVBVD was seen to raise, or warn of, on damaged headers."""
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Sizes in bytes of one generation of files."""

    version: str
    scan_header: int
    channel_header: int
    mask_at: int
    samples_at: int


_VB = _Layout(version="VB", scan_header=0, channel_header=128, mask_at=20, samples_at=28)
_VD = _Layout(version="VD", scan_header=192, channel_header=32, mask_at=40, samples_at=48)


@dataclass(frozen=True, kw_only=True, slots=True)
class Readout:
    """One readout in the file."""

    position: int
    """First byte."""
    n_samples: int
    """Samples of each coil."""
    n_coils: int
    """Number of coils."""
    mask: int
    """Lower 32 bits of the evaluation mask."""
    time_stamp: int
    """Time stamp in ticks of 2.5 ms."""


def read_twix(path: Path) -> RawScan:
    """Read the (last) measurement of a twix file.

    Place: `sSliceArray` of the protocol, in whose read, phase and slice direction an interpreter plays x, y and z;
    patient axes (left, posterior, superior) become NIfTI axes (right, anterior, superior).

    Raises:
        InputError: If the file is missing, cut off or no twix file, its readouts differ in size, or its header states
            no spectrometer frequency.
    """
    content = _content(path)
    layout, offset = _measurement(path, content)
    first = offset + _header_length(path, content, offset)
    readouts = list(_readouts(path, content, layout, first))
    noise = [readout for readout in readouts if readout.mask & _NOISE]
    signal = [readout for readout in readouts if not readout.mask & _NOISE]
    header = _parsed_header(path, offset)
    protocol = header["MeasYaps"]
    frequency_hz = _number(protocol.get(("sTXSPEC", "asNucleusInfo", "0", "lFrequency")))
    if not frequency_hz > 0:
        _fail(path, "its header states no spectrometer frequency (sTXSPEC.asNucleusInfo[0].lFrequency)")
    place, note = slice_place(protocol, ("sSliceArray", "asSlice", "0"))
    return RawScan(
        path=path,
        samples=_samples(path, content, layout, signal),
        n_noise=len(noise),
        spectrometer_frequency_hz=frequency_hz,
        nucleus=str(protocol.get(("sTXSPEC", "asNucleusInfo", "0", "tNucleus"), "")).strip('"') or "1H",
        pairing_field="tSequenceVariant",
        seq_signature=_signature(header),
        place=place,
        place_note=note,
        time_stamp_s=np.array([readout.time_stamp for readout in signal]) * _TICK_S,
        header=_hardware(header),
    )


def slice_place(protocol: Mapping[Any, Any], where: tuple[str, ...]) -> tuple[Place | None, str]:
    """Return the place that a slice or voxel of the protocol describes, and a note on it.

    Normal, in-plane rotation and centre are in patient axes (sagittal, coronal, transverse = left, posterior,
    superior), entries that are zero are left out of a protocol. Read and phase direction follow Siemens' fGSLCalcPRS as
    in spec2nii (BSD-3); the table position (lScanRegionPos) is added as spec2nii does.

    Args:
        protocol: The MeasYaps part of a twix header.
        where: Path of the slice, ("sSliceArray", "asSlice", "0"), or of a vendor's voxel, ("sSpecPara", "sVoI").
    """
    if where[0] == "sSliceArray" and _number(protocol.get(("sSliceArray", "lSize"))) > 1:
        return None, "unknown: the protocol has several slices"
    directions = ("Sag", "Cor", "Tra")
    normal = np.array([_number(protocol.get((*where, "sNormal", f"d{d}"))) for d in directions])
    sides = [protocol.get((*where, key)) for key in ("dReadoutFOV", "dPhaseFOV", "dThickness")]
    if any(side is None for side in sides) or not normal.any():
        return None, f"unknown: {'.'.join(where)} is not in the protocol"
    centre = np.array([_number(protocol.get((*where, "sPosition", f"d{d}"))) for d in directions])
    centre += np.array([_number(protocol.get((f"lScanRegionPos{d}",))) for d in directions])
    normal = normal / np.linalg.norm(normal)
    phase, read = calc_prs(normal, _number(protocol.get((*where, "dInPlaneRot"))), False)
    axes = np.stack([read, phase, np.cross(read, phase)], axis=1)
    place = Place(
        axes=_LPS_TO_RAS[:, None] * axes + 0.0,
        size_m=np.array([_number(side) for side in sides]) * 1e-3,
        centre_m=_LPS_TO_RAS * centre * 1e-3 + 0.0,
    )
    return place, f"{where[0]} of the raw file"


def _fail(path: Path, problem: str) -> NoReturn:
    """Raise the InputError of a file that cannot be used."""
    raise InputError(f"{path}: {problem}. Export the raw data from the scanner again, or give the right file.")


def _number(value: Any) -> float:
    """Return a header value as a number; what is absent or empty is zero, as in the protocol itself."""
    return float(value) if isinstance(value, int | float) else 0.0


def _content(path: Path) -> memoryview:
    """Return the bytes of a file."""
    if not path.is_file():
        raise InputError(f"Cannot read {path}: there is no such file, or it is a folder. Check the path.")
    try:
        return memoryview(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error


def _measurement(path: Path, content: memoryview) -> tuple[_Layout, int]:
    """Return the layout of a file and the byte at which its last measurement starts."""
    if len(content) < 512:
        _fail(path, f"it has {len(content)} bytes, too few for raw data")
    first, n_measurements = struct.unpack_from("<II", content, 0)
    if not (first < 10000 and n_measurements <= 64):
        return _VB, 0
    if n_measurements < 1 or len(content) < 10240:
        _fail(path, "it holds no measurement")
    offset = struct.unpack_from("<Q", content, 8 + 152 * (n_measurements - 1) + 8)[0]
    if not 0 < offset < len(content) - 512:
        _fail(path, "its last measurement lies beyond the end of the file; it is cut off or no twix file")
    return _VD, int(offset)


def _header_length(path: Path, content: memoryview, offset: int) -> int:
    """Return the length of a measurement's header after checking that its buffers fill it."""
    length, n_buffers = struct.unpack_from("<II", content, offset)
    if not 16 <= length <= _MAX_HEADER_BYTES or offset + length > len(content) or not 1 <= n_buffers <= 64:
        _fail(path, "it has no whole twix header; it is cut off or no twix file")
    at = offset + 8
    for _ in range(n_buffers):
        name_end = bytes(content[at : at + 64]).find(b"\0")
        if not re.fullmatch(rb"\w+", bytes(content[at : at + max(name_end, 0)])) or at + name_end + 5 > offset + length:
            _fail(path, "its header is damaged; it is cut off or no twix file")
        at += name_end + 5 + struct.unpack_from("<I", content, at + name_end + 1)[0]
        if at > offset + length:
            _fail(path, "its header is damaged; it is cut off or no twix file")
    return int(length)


def _readouts(path: Path, content: memoryview, layout: _Layout, first: int) -> Iterator[Readout]:
    """Walk the measurement data headers up to the mark of the end, which a whole file has."""
    at = first
    header_bytes = max(layout.scan_header, layout.channel_header)
    while True:
        if at + header_bytes > len(content):
            _fail(path, f"it stops at byte {len(content)} before the end of the measurement; it is cut off")
        length = struct.unpack_from("<I", content, at)[0] & 0x1FFFFFF
        time_stamp = struct.unpack_from("<I", content, at + 12)[0]
        mask = struct.unpack_from("<I", content, at + layout.mask_at)[0]
        if mask & _ACQEND or length == 0:
            return
        if mask & _SYNC:
            at += length
            continue
        n_samples, n_coils = struct.unpack_from("<HH", content, at + layout.samples_at)
        if n_samples == 0 or n_coils == 0:
            _fail(path, f"the readout at byte {at} has no samples; the file is damaged")
        size = layout.scan_header + n_coils * (layout.channel_header + 8 * n_samples)
        if at + size > len(content):
            _fail(path, f"it stops at byte {len(content)} in the middle of a readout; it is cut off")
        if not mask & _FEEDBACK:
            yield Readout(position=at, n_samples=n_samples, n_coils=n_coils, mask=mask, time_stamp=time_stamp)
        at += size


def _samples(path: Path, content: memoryview, layout: _Layout, readouts: list[Readout]) -> NDArray[np.complex64]:
    """Return the samples of readouts of one size, shape (n_readouts, n_coils, n_samples)."""
    sizes = {(readout.n_coils, readout.n_samples) for readout in readouts}
    if len(sizes) != 1:
        _fail(path, "it has no readouts" if not sizes else f"its readouts differ in size (coils, samples): {sizes}")
    n_coils, n_samples = sizes.pop()
    head = layout.channel_header // 8
    rows = [
        np.frombuffer(
            content, np.complex64, n_coils * (head + n_samples), readout.position + layout.scan_header
        ).reshape(n_coils, head + n_samples)[:, head:]
        for readout in readouts
    ]
    return np.stack(rows)


def _parsed_header(path: Path, offset: int) -> dict[str, Any]:
    """Return the header of the measurement that starts at a byte, as pyMapVBVD parses it."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error")
            file.seek(offset + 4)
            header, _ = read_twix_hdr(file, twix_hdr())
            sections = {name: dict(header[name]) for name in ("MeasYaps", "Meas", "Dicom") if name in header}
    except _MAPVBVD_ERRORS as error:
        raise InputError(f"{path}: its header cannot be parsed ({error}). Export the raw data again.") from error
    if "MeasYaps" not in sections:
        _fail(path, "its header has no protocol (MeasYaps)")
    return sections


def _signature(header: dict[str, Any]) -> str | None:
    """Return the hash that the Pulseq interpreter puts into tSequenceVariant, None if there is none."""
    for name in ("Meas", "Dicom"):
        value = str(header.get(name, {}).get("tSequenceVariant", "")).strip().lower()
        if len(value) == 32 and set(value) <= set("0123456789abcdef"):
            return value
    return None


def _hardware(header: dict[str, Any]) -> dict[str, Any]:
    """Return what the header says about the scanner: a short list of keys, so that nothing personal slips through."""
    dicom, meas = header.get("Dicom", {}), header.get("Meas", {})
    coil = header["MeasYaps"].get(("asCoilSelectMeas", "0", "asList", "0", "sCoilElementID", "tCoilID"))
    coil = coil or header["MeasYaps"].get(
        ("sCoilSelectMeas", "aRxCoilSelectData", "0", "asList", "0", "sCoilElementID", "tCoilID")
    )
    found = {
        "Manufacturer": dicom.get("Manufacturer"),
        "ManufacturersModelName": dicom.get("ManufacturersModelName"),
        "SoftwareVersions": dicom.get("SoftwareVersions"),
        "TxCoil": meas.get("tTransmittingCoil"),
        "RxCoil": coil,
    }
    return {key: str(value).strip('"') for key, value in found.items() if isinstance(value, str) and value}
