"""Raw data in ISMRMRD (MRD) files: what an open console stores, with the signature of the `.seq` that ran.

Format: https://ismrmrd.readthedocs.io (HDF5 with an XML header and one record for each readout; Inati et al., Magn
Reson Med 77:411 (2017), doi:10.1002/mrm.26089). Positions are mm in patient axes (left, posterior, superior).
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn
from xml.etree.ElementTree import ParseError

import h5py
import ismrmrd
import numpy as np
from ismrmrd import xsd
from ismrmrd.hdf5 import acquisition_dtype
from numpy.typing import NDArray
from xsdata.exceptions import ConverterError, ConverterWarning, ParserError

from seqgen.axes import ComplexArray, FloatArray
from seqgen.errors import InputError
from seqgen.mrs.raw import Place, RawScan
from seqgen.provenance import Provenance, replacing
from seqgen.units import b0_t

POSITIVE_SENSE: Final = "positive: a spin at offset +f gives exp(+2 pi i f t)"
"""Sense of rotation of the samples that `write_mrd` writes, seqgen's own (axes.py)."""
_TICK_S = 1e-5
"""Unit of the acquisition time stamps that `write_mrd` writes (and states), s."""
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_COUNTERS = {
    "AVG": "average",
    "REP": "repetition",
    "SET": "set",
    "ECO": "contrast",
    "PHS": "phase",
    "SLC": "slice",
    "SEG": "segment",
    "LIN": "kspace_encode_step_1",
    "PAR": "kspace_encode_step_2",
}
"""Pulseq label to MRD counter."""
_FLAGS = {
    "NOISE": ismrmrd.ACQ_IS_NOISE_MEASUREMENT,
    "REF": ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,
    "NAV": ismrmrd.ACQ_IS_NAVIGATION_DATA,
    "REV": ismrmrd.ACQ_IS_REVERSE,
}
"""Pulseq label (where it is 1) to MRD flag, as the vendors' interpreters map them."""
_DAMAGED = (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError, AttributeError)


def write_mrd(
    path: Path,
    transients: ComplexArray,
    *,
    spectrometer_frequency_hz: float,
    dwell_s: float,
    seq_signature: str | None,
    seq_sha256: str,
    nucleus: str = "1H",
    labels: Sequence[Mapping[str, int]] | None = None,
    start_s: Sequence[float] | None = None,
    affine_m: FloatArray | None = None,
    system: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
) -> None:
    """Write readouts as an open console would.

    Args:
        path: Output, usually ending in .h5.
        transients: Samples in seqgen's sense, shape (n_readouts, n_coils, n_samples); stored as complex64.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        dwell_s: Dwell time, s.
        seq_signature: MD5 signature of the `.seq` that was played; None if it has none.
        seq_sha256: SHA-256 of that file.
        nucleus: Resonant nucleus.
        labels: Pulseq labels at each readout; they become counters and flags.
        start_s: Time at which each readout opened, s after the start of the sequence.
        affine_m: Voxel to scanner affine (right, anterior, superior), m; None: the file states no place.
        system: systemVendor, systemModel and the like of acquisitionSystemInformation.
        provenance: What the samples were made from, stored as JSON.

    Raises:
        InputError: If shapes do not fit the format or the file cannot be written.
    """
    transients = np.asarray(transients)
    if transients.ndim != 3 or not np.iscomplexobj(transients) or not 1 <= transients.shape[2] <= 65535:
        raise InputError(
            f"{path}: transients must be complex of shape (n_readouts, n_coils, n_samples) with at most 65535 samples, "
            f"but are {transients.dtype} of shape {transients.shape}."
        )
    for name, values in (("labels", labels), ("start_s", start_s)):
        if values is not None and len(values) != len(transients):
            raise InputError(f"{path}: {name} has {len(values)} entries for {len(transients)} readouts. Give one each.")
    parameters = {
        "seq_sha256": seq_sha256,
        "sense": POSITIVE_SENSE,
        "nucleus": nucleus,
        **({"seq_signature": seq_signature} if seq_signature else {}),
        **({"provenance": json.dumps(provenance.to_json())} if provenance else {}),
    }
    numbers = {"spectrometer_frequency_hz": float(spectrometer_frequency_hz), "dwell_s": float(dwell_s)}
    if start_s is not None:
        numbers["acquisition_time_stamp_tick_s"] = _TICK_S
    header = _xml_header(transients.shape, spectrometer_frequency_hz, affine_m, system or {}, parameters, numbers)
    records = _records(transients, dwell_s, labels, start_s, affine_m)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=[header], dtype=h5py.special_dtype(vlen=bytes))
        group.create_dataset("data", data=records, maxshape=(None,), chunks=(1,))


def read_mrd(path: Path) -> RawScan:
    """Read the readouts of an MRD file, noise measurements left out.

    Raises:
        InputError: If the file is missing, damaged, no MRD file, states no frequency, or its readouts differ in size.
    """
    if not path.is_file():
        raise InputError(f"Cannot read {path}: there is no such file, or it is a folder. Check the path.")
    try:
        with h5py.File(path, "r") as file:
            xml = bytes(file["dataset/xml"][0])
            records = file["dataset/data"][()]
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConverterWarning)
            header = xsd.CreateFromDocument(xml)
        samples, heads = _read_samples(path, records)
        strings, numbers = _parameters(header)
        frequency_hz = numbers.get(
            "spectrometer_frequency_hz", float(header.experimentalConditions.H1resonanceFrequency_Hz)
        )
        place, note = _place(header, heads[0])
    except InputError:
        raise
    except (*_DAMAGED, ParserError, ConverterError, ConverterWarning, ParseError) as error:
        raise InputError(f"{path}: cannot be read as MRD: {error}. The file is damaged or of another kind.") from error
    tick_s = numbers.get("acquisition_time_stamp_tick_s")
    return RawScan(
        path=path,
        samples=samples,
        n_noise=len(records) - len(samples),
        spectrometer_frequency_hz=frequency_hz,
        nucleus=strings.get("nucleus", "1H"),
        pairing_field="seq_signature",
        seq_signature=strings.get("seq_signature", "").lower() or None,
        seq_sha256=strings.get("seq_sha256", "").lower() or None,
        place=place,
        place_note=note,
        time_stamp_s=None if tick_s is None else heads["acquisition_time_stamp"] * tick_s,
        dwell_s=numbers.get("dwell_s", float(heads["sample_time_us"][0]) * 1e-6),
        sense=strings.get("sense", ""),
        header=_hardware(header),
        user=_raw_provenance(path, strings.get("provenance")),
    )


def _fail(path: Path, problem: str) -> NoReturn:
    """Raise the InputError of a file that cannot be used."""
    raise InputError(f"{path}: {problem}. Store the raw data again, or give the right file.")


def _xml_header(
    shape: tuple[int, ...],
    frequency_hz: float,
    affine_m: FloatArray | None,
    system: Mapping[str, str],
    strings: Mapping[str, str],
    numbers: Mapping[str, float],
) -> bytes:
    """Return the XML header: one encoding along the samples, field of view = voxel."""
    n_readouts, n_coils, n_samples = shape
    size_mm = [0.0, 0.0, 0.0] if affine_m is None else (np.linalg.norm(affine_m[:3, :3], axis=0) * 1e3).tolist()
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=n_samples, y=1, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=size_mm[0], y=size_mm[1], z=size_mm[2]),
    )
    limit = xsd.limitType(minimum=0, maximum=n_readouts - 1, center=0)
    header = xsd.ismrmrdHeader(
        version=2,
        acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
            receiverChannels=n_coils, systemFieldStrength_T=b0_t(frequency_hz), **system
        ),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=round(frequency_hz)),
        encoding=[
            xsd.encodingType(
                encodedSpace=space,
                reconSpace=space,
                encodingLimits=xsd.encodingLimitsType(average=limit),
                trajectory=xsd.trajectoryType.OTHER,
            )
        ],
        userParameters=xsd.userParametersType(
            userParameterString=[xsd.userParameterStringType(name=k, value=v) for k, v in strings.items()],
            userParameterDouble=[xsd.userParameterDoubleType(name=k, value=v) for k, v in numbers.items()],
        ),
    )
    return str(xsd.ToXML(header)).encode()


def _records(
    transients: ComplexArray,
    dwell_s: float,
    labels: Sequence[Mapping[str, int]] | None,
    start_s: Sequence[float] | None,
    affine_m: FloatArray | None,
) -> NDArray[np.void]:
    """Return the readouts as MRD records."""
    n_readouts, n_coils, n_samples = transients.shape
    records = np.zeros(n_readouts, dtype=acquisition_dtype)
    head = records["head"]
    head["version"] = 1
    head["number_of_samples"] = n_samples
    head["available_channels"] = head["active_channels"] = n_coils
    head["sample_time_us"] = dwell_s * 1e6
    head["scan_counter"] = np.arange(n_readouts)
    if start_s is not None:
        head["acquisition_time_stamp"] = np.round(np.asarray(start_s) / _TICK_S)
    if affine_m is not None:
        axes = _LPS_TO_RAS[:, None] * affine_m[:3, :3] / np.linalg.norm(affine_m[:3, :3], axis=0)
        for name, direction in zip(("read_dir", "phase_dir", "slice_dir"), axes.T, strict=True):
            head[name] = direction
        head["position"] = _LPS_TO_RAS * affine_m[:3, 3] * 1e3
    for k in range(n_readouts):
        own = labels[k] if labels is not None else {}
        for label, counter in _COUNTERS.items():
            head["idx"][counter][k] = own.get(label, 0)
        flags = [flag for label, flag in _FLAGS.items() if own.get(label, 0) == 1]
        flags += [ismrmrd.ACQ_LAST_IN_MEASUREMENT] if k == n_readouts - 1 else []
        head["flags"][k] = sum(1 << (flag - 1) for flag in flags)
        records["data"][k] = transients[k].astype(np.complex64).reshape(-1).view(np.float32)
        records["traj"][k] = np.zeros(0, dtype=np.float32)
    return records


def _read_samples(path: Path, records: NDArray[np.void]) -> tuple[NDArray[np.complex64], NDArray[np.void]]:
    """Return (samples of shape (n_readouts, n_coils, n_samples), record heads), without noise measurements."""
    noise = records["head"]["flags"] & np.uint64(1 << (ismrmrd.ACQ_IS_NOISE_MEASUREMENT - 1)) != 0
    signal = records[~noise]
    heads = signal["head"]
    sizes = set(zip(heads["active_channels"].tolist(), heads["number_of_samples"].tolist(), strict=True))
    if len(sizes) != 1:
        _fail(path, "it has no readouts" if not sizes else f"its readouts differ in size (coils, samples): {sizes}")
    n_coils, n_samples = sizes.pop()
    rows = [np.asarray(row, dtype=np.float32) for row in signal["data"]]
    if any(row.size != 2 * n_coils * n_samples for row in rows):
        _fail(path, "a readout has fewer samples than its head says")
    return np.stack(rows).view(np.complex64).reshape(len(rows), n_coils, n_samples), heads


def _parameters(header: Any) -> tuple[dict[str, str], dict[str, float]]:
    """Return the (string, number) user parameters."""
    user = header.userParameters
    if user is None:
        return {}, {}
    strings = {parameter.name: str(parameter.value) for parameter in user.userParameterString}
    numbers = {parameter.name: float(parameter.value) for parameter in user.userParameterDouble}
    return strings, numbers


def _place(header: Any, head: NDArray[np.void]) -> tuple[Place | None, str]:
    """Return the place of the voxel: directions and position of the first readout, size of the encoded space."""
    axes = np.stack([head[name].astype(np.float64) for name in ("read_dir", "phase_dir", "slice_dir")], axis=1)
    view = header.encoding[0].encodedSpace.fieldOfView_mm
    size_mm = np.array([view.x, view.y, view.z], dtype=np.float64)
    if (size_mm <= 0).any() or abs(axes.T @ axes - np.eye(3)).max() > 1e-3:
        return None, "the raw file states none"
    left, _, right = np.linalg.svd(axes)  # directions are stored in single precision: nearest perpendicular ones
    place = Place(
        axes=_LPS_TO_RAS[:, None] * (left @ right) + 0.0,
        size_m=size_mm * 1e-3,
        centre_m=_LPS_TO_RAS * head["position"].astype(np.float64) * 1e-3 + 0.0,
    )
    return place, "position and directions of the raw file"


def _hardware(header: Any) -> dict[str, Any]:
    """Return what the header says about the scanner."""
    system = header.acquisitionSystemInformation
    found = (
        {} if system is None else {"Manufacturer": system.systemVendor, "ManufacturersModelName": system.systemModel}
    )
    return {key: str(value) for key, value in found.items() if value}


def _raw_provenance(path: Path, text: str | None) -> dict[str, Any]:
    """Return the provenance that a simulated file carries, for the header."""
    if text is None:
        return {}
    try:
        return {"raw_provenance": json.loads(text)}
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: its user parameter 'provenance' is not JSON: {error}. Write it again.") from error
