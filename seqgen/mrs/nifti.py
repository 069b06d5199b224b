"""MRSData to NIfTI-MRS files and back: with voxel_mask.py the only module that imports nibabel, and alone nifti_mrs.

Standard: https://github.com/wtclarke/mrs_nifti_standard (specification and definitions.json; Clarke et al., Magn Reson
Med 88:2358 (2022), doi:10.1002/mrm.29418). On disk the samples are the complex conjugate of those in memory
(`axes.conjugate_for_disk`, called here and nowhere else), frequencies are MHz, lengths mm.
"""

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nifti_mrs import validator
from nifti_mrs.definitions import dimension_tags, nifti_mrs_version, standard_defined
from nifti_mrs.nifti_mrs import NIFTI_MRS, NotNIFTI_MRS

from seqgen.axes import NIFTI_REFERENCE_PPM_1H, FloatArray, conjugate_for_disk
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.provenance import replacing

_nib: Any = nib  # its functions carry no types
_ECODE = 44
_UNPLACED_MM = 10_000.0
"""Edge of a voxel without a place: what the standard asks for directions that are not localised."""
_USER_KEY = "seqgen"
_DESCRIPTION = (
    "Written by seqgen. reference_ppm: chemical shift at zero frequency. Units are the last part of each name."
)
_FROM_FIELDS = (
    "SpectrometerFrequency",
    "ResonantNucleus",
    "SpectralWidth",
    "SpecFreqChemShift",
    "dim_5",
    "dim_6",
    "dim_7",
)
"""Header keys that MRSData keeps in its own fields."""
_DEFAULT_TAGS = ("DIM_COIL", "DIM_DYN", "DIM_INDIRECT_0")
_TIME_UNITS_S = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


def write_nifti_mrs(data: MRSData, path: Path) -> None:
    """Write data as NIfTI-2 NIfTI-MRS, checked by nifti_mrs's validator before it takes its name.

    complex64 and complex128 are kept as they are. `reference_ppm` goes into the standard key SpecFreqChemShift (less a
    RxOffset in the header) and into the user object "seqgen", together with what else stands under that key.

    Args:
        data: Single-voxel data with at most three dims. `affine_m` None: qform_code 0 and a voxel of 10 m.
        path: Output, ending in .nii or .nii.gz.

    Raises:
        InputError: If the name, dims, affine or a header key do not fit the standard, or the file cannot be written.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: a NIfTI-MRS file must end in .nii.gz or .nii. Change the name of the output.")
    image = _nib.Nifti2Image(_disk_samples(data, path), None)
    header = image.header
    _place(header, data.affine_m, path)
    header["pixdim"][4] = data.dwell_s
    header.set_xyzt_units(xyz="mm", t="sec")
    header["intent_name"] = f"mrs_v{nifti_mrs_version[0]}_{nifti_mrs_version[1]}".encode()
    try:
        text = json.dumps(_disk_header(data, path), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: the header cannot be written as JSON: {error}. Use finite plain values.") from error
    header.extensions.append(_nib.nifti1.Nifti1Extension(_ECODE, text.encode()))
    with replacing(path) as temporary:
        _nib.save(image, temporary)
        _validate(temporary, path)


def read_nifti_mrs(path: Path) -> MRSData:
    """Read single-voxel NIfTI-MRS.

    The chemical shift at zero frequency is SpecFreqChemShift plus RxOffset where the file states the former, else
    seqgen's own `reference_ppm`, else 4.65 ppm plus RxOffset for 1H, the value all readers of the standard assume.

    Raises:
        InputError: If the file cannot be read, is not NIfTI-MRS, holds more than one voxel, or states no reference
            for a nucleus other than 1H.
    """
    header, samples, affine_m, dwell_s = _loaded(path)
    extension = _extension(header, path)
    n_dims = samples.ndim - 4
    if samples.shape[:3] != (1, 1, 1):
        raise InputError(f"{path} holds {samples.shape[:3]} voxels; seqgen reads single-voxel data. Extract one voxel.")
    for k in range(n_dims, 3):  # dimensions of size 1 at the end may be named without being stored
        if f"dim_{k + 5}" in extension:
            samples = samples[..., None]
            n_dims = k + 1
    tags = tuple(str(extension.get(f"dim_{k + 5}", _DEFAULT_TAGS[k])) for k in range(n_dims))
    user = dict(extension[_USER_KEY]) if isinstance(extension.get(_USER_KEY), dict) else {}
    rest = {key: value for key, value in extension.items() if key not in (*_FROM_FIELDS, _USER_KEY)}
    reference_ppm = _reference_ppm(extension, user, path)
    user.pop("reference_ppm", None)
    if user.get("Description") == _DESCRIPTION:
        del user["Description"]
    if user:
        rest[_USER_KEY] = user
    return MRSData(
        fid=conjugate_for_disk(samples[0, 0, 0]),
        dims=tags,
        dwell_s=dwell_s,
        spectrometer_frequency_hz=round(float(extension["SpectrometerFrequency"][0]) * 1e6, 6),
        nucleus=str(extension["ResonantNucleus"][0]),
        reference_ppm=reference_ppm,
        affine_m=affine_m,
        header=rest,
    )


def _disk_samples(data: MRSData, path: Path) -> np.ndarray[Any, np.dtype[np.complexfloating[Any, Any]]]:
    """Return the samples in the sense and shape of the file, (1, 1, 1, n_samples, ...)."""
    if len(data.dims) > 3 or any(tag not in dimension_tags for tag in data.dims):
        raise InputError(
            f"{path}: dims must be at most three tags of NIfTI-MRS ({', '.join(dimension_tags)}), but are {data.dims}. "
            "Average or split the data first."
        )
    if data.fid.dtype not in (np.complex64, np.complex128):
        raise InputError(f"{path}: samples must be complex64 or complex128, but are {data.fid.dtype}. Convert them.")
    return conjugate_for_disk(data.fid)[None, None, None]


def _place(header: Any, affine_m: FloatArray | None, path: Path) -> None:
    """Put the voxel into the qform of a header: mm, or qform_code 0 if its place is unknown."""
    header.set_sform(None, code=0)
    if affine_m is None:
        header["pixdim"][1:4] = _UNPLACED_MM
        header.set_qform(None, code=0)
        return
    affine = np.asarray(affine_m, dtype=np.float64)
    edges = affine[:3, :3] if affine.shape == (4, 4) else np.zeros((3, 3))
    sizes = np.linalg.norm(edges, axis=0)
    if (
        not np.isfinite(affine).all()
        or (sizes == 0).any()
        or abs(_unit(edges).T @ _unit(edges) - np.eye(3)).max() > 1e-6
    ):
        raise InputError(
            f"{path}: affine_m must be a 4 x 4 matrix of three perpendicular voxel edges and a centre in m, but is "
            f"{affine.tolist()}. State the voxel's edges and place, or None if it has no place."
        )
    affine_mm = affine.copy()
    affine_mm[:3] *= 1e3
    header.set_qform(affine_mm, code=1)


def _unit(edges: FloatArray) -> FloatArray:
    """Return the columns of a matrix with unit length."""
    unit: FloatArray = edges / np.linalg.norm(edges, axis=0)
    return unit


def _disk_header(data: MRSData, path: Path) -> dict[str, Any]:
    """Return the JSON header of a file."""
    taken = [key for key in data.header if key in _FROM_FIELDS]
    if taken:
        raise InputError(f"{path}: header keys {', '.join(taken)} are fields of MRSData. Set the field, not the key.")
    receiver_ppm = float(data.header.get("RxOffset", 0.0))
    header: dict[str, Any] = {
        "SpectrometerFrequency": [data.spectrometer_frequency_hz * 1e-6],
        "ResonantNucleus": [data.nucleus],
        **{f"dim_{5 + k}": tag for k, tag in enumerate(data.dims)},
        "SpectralWidth": 1.0 / data.dwell_s,
        "SpecFreqChemShift": float(data.reference_ppm) - receiver_ppm,
    }
    for key, value in data.header.items():
        if key != _USER_KEY:
            _require_user_object(key, value, len(data.dims), path)
            header[key] = value
    user = data.header.get(_USER_KEY, {})
    header[_USER_KEY] = {"Description": _DESCRIPTION, **user, "reference_ppm": float(data.reference_ppm)}
    return header


def _require_user_object(key: str, value: Any, n_dims: int, path: Path) -> None:
    """Refuse a key that is neither standard nor an object with a Description (the validator lets some pass)."""
    dimension = re.fullmatch(r"dim_([567])_(info|header)", key)
    if key in standard_defined or (dimension and int(dimension[1]) < 5 + n_dims):
        return
    if not isinstance(value, dict) or not isinstance(value.get("Description"), str):
        raise InputError(
            f"{path}: header key {key!r} is not of the standard, so it must be an object with a 'Description' "
            f"(or belong to one of the {n_dims} dims). Put it under 'seqgen' or describe it."
        )


def _validate(temporary: Path, path: Path) -> None:
    """Run nifti_mrs's validator on a file.

    Its check of user objects raises a bare TypeError where one is no object; those are refused before.
    """
    try:
        validator.validate_nifti_mrs(NIFTI_MRS(str(temporary)))
    except (validator.Error, NotNIFTI_MRS) as error:
        raise InputError(
            f"{path}: nifti_mrs's validator refuses it: {error} Correct the header key it names."
        ) from error


def _loaded(path: Path) -> tuple[Any, Any, FloatArray | None, float]:
    """Return (header, samples in disk sense, affine in m or None, dwell time in s) of a file."""
    if not path.is_file():
        raise InputError(f"Cannot read {path}: there is no such file, or it is a folder. Check the path.")
    try:
        image = _nib.load(path)
        if not isinstance(image, _nib.Nifti1Image):
            raise InputError(f"{path} is not a NIfTI file. Give a .nii or .nii.gz file of NIfTI-MRS.")
        samples = np.asarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"Cannot read {path}: {error}. The file is damaged or not NIfTI; copy it again.") from error
    header = image.header
    if not np.iscomplexobj(samples) or not 4 <= samples.ndim <= 7:
        raise InputError(
            f"{path} holds {samples.dtype} of {samples.ndim} dimensions; NIfTI-MRS has complex samples of 4 to 7. "
            "Give a spectroscopy file."
        )
    dwell_s = float(header["pixdim"][4]) * _TIME_UNITS_S.get(header.get_xyzt_units()[1], math.nan)
    if not (dwell_s > 0 and math.isfinite(dwell_s)):
        raise InputError(f"{path}: pixdim[4] gives no dwell time ({header['pixdim'][4]}). Convert the data again.")
    placed = header.get_qform(coded=True)[0]
    if placed is None:
        placed = header.get_sform(coded=True)[0]
    if placed is None:
        return header, samples, None, dwell_s
    affine_m = np.array(placed, dtype=np.float64)
    affine_m[:3] *= 1e-3
    return header, samples, affine_m, dwell_s


def _extension(header: Any, path: Path) -> dict[str, Any]:
    """Return the JSON header extension of a file after a look at its two mandatory keys."""
    texts = [extension.get_content() for extension in header.extensions if extension.get_code() == _ECODE]
    version = re.match(r"mrs_v\d+_\d+", header.get_intent()[2])
    if not texts or not version:
        raise InputError(
            f"{path} is NIfTI but not NIfTI-MRS (no intent mrs_v... or no header extension 44). Convert it."
        )
    text = texts[0].decode("utf-8", errors="replace") if isinstance(texts[0], bytes) else str(texts[0])
    try:
        extension = json.loads(text.rstrip("\x00"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: the NIfTI-MRS header is not JSON: {error}. Convert the data again.") from error
    try:
        frequency, nucleus = extension["SpectrometerFrequency"][0], extension["ResonantNucleus"][0]
        valid = float(frequency) > 0 and isinstance(nucleus, str)
    except (KeyError, IndexError, TypeError, ValueError):
        valid = False
    if not valid:
        raise InputError(
            f"{path}: SpectrometerFrequency (MHz) and ResonantNucleus must be lists with one entry. Convert it again."
        )
    return dict(extension)


def _reference_ppm(extension: dict[str, Any], user: dict[str, Any], path: Path) -> float:
    """Return the chemical shift at zero frequency (see `read_nifti_mrs`)."""
    try:
        receiver_ppm = float(extension.get("RxOffset", 0.0))
        own_ppm = float(user["reference_ppm"]) if "reference_ppm" in user else None
        if "SpecFreqChemShift" in extension:
            standard_ppm = float(extension["SpecFreqChemShift"]) + receiver_ppm
            return own_ppm if own_ppm is not None and abs(own_ppm - standard_ppm) < 1e-9 else standard_ppm
        if own_ppm is not None:
            return own_ppm
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: SpecFreqChemShift, RxOffset and reference_ppm must be numbers. Correct them."
        ) from error
    if extension["ResonantNucleus"][0] != "1H":
        raise InputError(
            f"{path} states no SpecFreqChemShift, and there is no usual value for {extension['ResonantNucleus'][0]}. "
            "Add it to the header."
        )
    return NIFTI_REFERENCE_PPM_1H + receiver_ppm
