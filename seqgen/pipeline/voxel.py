"""`seqgen voxel-mask`, and `--voxel-from`: the voxel of a protocol, a `.seq` or an image, and back."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from seqgen.errors import InputError
from seqgen.mrs.voxel_mask import FittedVoxel, voxel_from_nifti, write_voxel_mask
from seqgen.pipeline.study import ScanStudy, load_scan_study
from seqgen.provenance import source
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.voxel import Voxel, check_voxel, voxel_from_affine, voxel_of

AnyStudy = TypeVar("AnyStudy", bound=ScanStudy)
_PLACE = ("voxel_size_m", "voxel_position_m", "voxel_rotation_rad", "voxel_affine_m")


def study_with_voxel(study: AnyStudy, path: Path) -> tuple[AnyStudy, FittedVoxel]:
    """Return a study whose sequence is placed where a NIfTI file shows the voxel, whatever the protocol says.

    Size, position and rotation are taken from the file, all else from the protocol. The built `.seq` states the file's
    name and SHA-256 (seqgen_voxel_from, seqgen_voxel_from_sha256).

    Raises:
        InputError: If the sequence has no voxel, or the file shows none that can be used.
        HardwareLimitError: If the scanner does not reach it.
    """
    choice = study.protocol.sequence
    own = {field.name for field in fields(choice.params)}
    if not own.issuperset(_PLACE):
        raise InputError(
            f"Sequence {choice.name!r} of {study.path} has no parameters {', '.join(_PLACE)}: it cannot be placed by "
            f"{path}. Leave the file out, or choose a localised sequence."
        )
    found = voxel_from_nifti(path)
    voxel = found.voxel
    params = replace(
        choice.params,
        voxel_size_m=voxel.size_m,
        voxel_position_m=voxel.centre_m,
        voxel_rotation_rad=voxel.rotation_rad,
        voxel_affine_m=None,
    )
    check_voxel(params, study.protocol.scanner)
    protocol = replace(study.protocol, sequence=replace(choice, params=params))
    return replace(study, protocol=protocol, voxel_from=source(path)), found


def voxel_of_file(path: Path) -> FittedVoxel:
    """Return the voxel of a protocol (.yaml), a `.seq`, or a NIfTI file (NIfTI-MRS, box or mask).

    Raises:
        InputError: If the file states no voxel.
    """
    if path.name.endswith((".yaml", ".yml")):
        params = load_scan_study(path).protocol.sequence.params
        if not hasattr(params, "voxel_size_m"):
            raise InputError(f"The sequence of {path} has no voxel (voxel_size_m). Give a localised sequence.")
        return _exact(voxel_of(params))
    if path.name.endswith(".seq"):
        return _exact(_voxel_of_seq(path))
    if path.name.endswith((".nii", ".nii.gz")):
        return voxel_from_nifti(path)
    raise InputError(
        f"{path}: a voxel is read from a protocol (.yaml), a sequence (.seq) or NIfTI (.nii, .nii.gz). Give one."
    )


def make_mask(path: Path, output: Path, like: Path | None) -> tuple[FittedVoxel, float]:
    """Write the voxel of a file as a NIfTI mask; return it, and its part inside the image `like`.

    Raises:
        InputError: If the output is one of the inputs, or a file states no voxel.
    """
    for source_file in (path, like):
        if source_file is not None and output.resolve() == source_file.resolve():
            raise InputError(f"{output} is an input and is not overwritten. Choose another name for the mask.")
    found = voxel_of_file(path)
    return found, write_voxel_mask(found.voxel, output, like=like)


def _exact(voxel: Voxel) -> FittedVoxel:
    """Return a voxel that was stated, not fitted."""
    return FittedVoxel(voxel=voxel, kind="stated", misfit=0.0, grid_m=0.0)


def _voxel_of_seq(path: Path) -> Voxel:
    """Return the voxel that the definitions of a `.seq` state."""
    seq = read_seq(path)
    wanted = {"VoxelSize": 3, "VoxelPosition": 3, "VoxelRotation": 9}
    numbers = {key: seq.definition_numbers(key) or () for key in wanted}
    lacking = [key for key, count in wanted.items() if len(numbers[key]) != count]
    if lacking:
        raise InputError(
            f"{path} does not state {', '.join(lacking)} (3, 3 and 9 numbers). Give a file of seqgen, or the protocol."
        )
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(numbers["VoxelRotation"], (3, 3)) * np.asarray(numbers["VoxelSize"])
    affine[:3, 3] = numbers["VoxelPosition"]
    return voxel_from_affine(affine, name=f"{path}: VoxelRotation")


def voxel_json(found: FittedVoxel) -> dict[str, Any]:
    """Return a voxel ready for JSON, lengths in mm, angles in degrees."""
    voxel = found.voxel
    return {
        "source": found.kind,
        "size_mm": [round(edge * 1e3, 6) for edge in voxel.size_m],
        "centre_mm": [round(value * 1e3, 6) + 0.0 for value in voxel.centre_m],
        "rotation_deg": [round(math.degrees(angle), 6) + 0.0 for angle in voxel.rotation_rad],
        "affine_mm": (np.diag([1e3, 1e3, 1e3, 1.0]) @ voxel.affine_m).round(6).tolist(),
        "misfit": found.misfit,
        "good_to_mm": round(0.5e3 * found.grid_m, 6),
    }


def voxel_text(found: FittedVoxel) -> str:
    """Return a voxel in words: size, centre with the letters of the patient axes, rotation.

    Example:
        >>> box = Voxel(size_m=(0.02, 0.025, 0.03), centre_m=(0.01, -0.005, 0.0), axes=np.eye(3))
        >>> print(voxel_text(FittedVoxel(voxel=box, kind="stated", misfit=0.0, grid_m=0.0)))
        size      20.00 x 25.00 x 30.00 mm along its first, second and third axis
        centre    R 10.00  P 5.00  S 0.00 mm
        rotation  0.00, 0.00, 0.00 degrees about x, then y, then z
    """
    voxel = found.voxel
    letters = ("RL", "AP", "SI")
    centre = "  ".join(
        f"{pair[round(value * 1e5) < 0]} {abs(value) * 1e3:.2f}"
        for pair, value in zip(letters, voxel.centre_m, strict=True)
    )
    angles = ", ".join(f"{round(math.degrees(angle), 2) + 0.0:.2f}" for angle in voxel.rotation_rad)
    size = " x ".join(f"{edge * 1e3:.2f}" for edge in voxel.size_m)
    lines = [
        f"size      {size} mm along its first, second and third axis",
        f"centre    {centre} mm",
        f"rotation  {angles} degrees about x, then y, then z",
    ]
    if found.kind == "mask":
        lines.append(
            f"fitted to a mask: {found.misfit:.1%} of it lie elsewhere; position and size are good to about "
            f"{found.grid_m * 0.5e3:.2f} mm, half a grid step"
        )
    return "\n".join(lines)
