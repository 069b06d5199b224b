"""Makes small twix files, VB and VD, byte by byte: what pyMapVBVD reads from them is checked in test_twix.py."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NOISE, PATREF = 1 << 25, 1 << 22
PROTOCOL = {
    "sTXSPEC.asNucleusInfo[0].tNucleus": '"1H"',
    "sTXSPEC.asNucleusInfo[0].lFrequency": "123200000",
    "sSliceArray.lSize": "1",
    "sSliceArray.asSlice[0].sNormal.dTra": "1",
    "sSliceArray.asSlice[0].dReadoutFOV": "20",
    "sSliceArray.asSlice[0].dPhaseFOV": "30",
    "sSliceArray.asSlice[0].dThickness": "25",
    "sSliceArray.asSlice[0].sPosition.dSag": "4",
    "sSliceArray.asSlice[0].sPosition.dTra": "-7.5",
}
PERSONAL = {
    "tPatientName": "Doe^Jane",
    "PatientBirthDay": "19700101",
    "tReferringPhysician": "Dr Who",
    "tProtocolName": "liver of Jane",
    "tStudyDescription": "secret study",
    "PatientID": "ID4711",
}


def write_twix(
    path: Path,
    samples: np.ndarray[Any, Any],
    signature: str | None,
    *,
    version: str = "VB",
    masks: Sequence[int] | None = None,
    protocol: Mapping[str, str] = PROTOCOL,
    ticks: Sequence[int] | None = None,
) -> Path:
    """Write readouts of shape (n_readouts, n_coils, n_samples)."""
    header = _header(signature, protocol)
    body = b"".join(
        _readout(block, version, masks[k] if masks else 0, ticks[k] if ticks else 400 * k, k)
        for k, block in enumerate(samples.astype(np.complex64))
    )
    end = _mdh(version, 0, 0, 1, 0, len(samples), 0) + bytes(192)
    measurement = header + body + end
    if version == "VB":
        path.write_bytes(measurement)
        return path
    super_header = struct.pack("<II", 1, 1) + struct.pack("<IIQQ", 1, 1, 10240, len(measurement)) + bytes(128)
    path.write_bytes(super_header.ljust(10240, b"\0") + measurement)
    return path


def _header(signature: str | None, protocol: Mapping[str, str]) -> bytes:
    yaps = "\n".join(["### ASCCONV BEGIN ###", *(f"{k} = {v}" for k, v in protocol.items()), "### ASCCONV END ###"])
    variant = f'<ParamString."tSequenceVariant"> {{ "{signature}" }}\n' if signature else ""
    person = "".join(f'<ParamString."{key}"> {{ "{value}" }}\n' for key, value in PERSONAL.items())
    scanner = '<ParamString."Manufacturer"> { "SIEMENS" }\n<ParamString."SoftwareVersions"> { "syngo MR E11" }\n'
    buffers = {"MeasYaps": yaps + "\n", "Meas": variant + person, "Dicom": scanner + person}
    packed = b"".join(
        name.encode() + b"\0" + struct.pack("<I", len(text)) + text.encode() for name, text in buffers.items()
    )
    length = 8 + len(packed)
    padded = 12288  # readers take a shorter first number for a file of VD
    assert length < padded
    return (struct.pack("<II", padded, len(buffers)) + packed).ljust(padded, b"\0")


def _readout(block: np.ndarray[Any, Any], version: str, mask: int, tick: int, number: int) -> bytes:
    n_coils, n_samples = block.shape
    if version == "VB":
        return b"".join(_mdh("VB", n_samples, n_coils, mask, tick, number, k) + block[k].tobytes()
                        for k in range(n_coils))  # fmt: skip
    return _mdh("VD", n_samples, n_coils, mask, tick, number, 0) + b"".join(
        bytes(32) + block[k].tobytes() for k in range(n_coils)
    )


def _mdh(version: str, n_samples: int, n_coils: int, mask: int, tick: int, number: int, coil: int) -> bytes:
    head, at = (128, 20) if version == "VB" else (192, 40)
    size = n_coils * (128 + 8 * n_samples) if version == "VB" else 192 + n_coils * (32 + 8 * n_samples)
    mdh = bytearray(head)
    struct.pack_into("<IIIII", mdh, 0, size or head, 1, number + 1, tick, tick)
    struct.pack_into("<II", mdh, at, mask, 0)
    struct.pack_into("<HH", mdh, at + 8, n_samples, n_coils)
    if version == "VB":
        struct.pack_into("<H", mdh, 124, coil)
    return bytes(mdh)
