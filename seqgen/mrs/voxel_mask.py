"""A voxel as a NIfTI mask, and a NIfTI mask or box as a voxel, in scanner coordinates.

What a mask means: NIfTI axes are right, anterior, superior, and they are taken for the gradient axes x, y, z. Lengths
are mm unless the header says metres or micrometres, as the standard has it.
"""

import itertools
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.optimize import least_squares, minimize
from scipy.spatial.transform import Rotation

from seqgen.errors import InputError
from seqgen.provenance import replacing
from seqgen.sequence.voxel import Voxel, voxel_from_affine

FloatArray = NDArray[np.float64]
INSIDE = 0.5
"""A mask's element belongs to the voxel from this value on."""
MISFIT = 0.05
"""Largest part of a mask that may lie away from the best box, more than half a grid step."""
SUBDIVISIONS = 9
"""Points along each axis of an element where its part inside a voxel is counted; odd, so that no plane has a half."""
_nib: Any = nib  # its functions carry no types
_UNITS_M = {"mm": 1e-3, "unknown": 1e-3, "meter": 1.0, "micron": 1e-6}
_SCANNER, _ALIGNED = 1, 2
"""Codes of qform and sform whose coordinates are a scanner's: of this scan, of one it was aligned to."""
_FORM_TOLERANCE = 1e-3
"""Largest difference between qform and sform, grid steps over the whole image."""
_MOST_POINTS = 15_000
"""Most elements that a fit looks at; of a larger mask so many are drawn."""
_MOST_MOMENTS = 4000
"""Most of them that give the axes to start from."""
_MOST_ELEMENTS: Final = 2_000_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedVoxel:
    """A voxel read from a NIfTI file."""

    voxel: Voxel
    """The box."""
    kind: str
    """"box" (the affine of a single element) or "mask"."""
    misfit: float
    """Part of the mask that lies away from the box; 0 for a box."""
    grid_m: float
    """Longest edge of an element of the mask, m; 0 for a box. Position and size are good to half of it."""


def voxel_from_nifti(path: Path) -> FittedVoxel:
    """Return the voxel that a NIfTI file shows: its single element, or the box that fits its mask.

    Single element (NIfTI-MRS, or an image of 1 x 1 x 1): edges and centre are those of the affine, first axis first; a
    left-handed one has its third axis reversed.

    Mask: its values are the part of each element inside the voxel (0 and 1 where it is binary); elements of 0.5 or more
    count as inside. A box is fitted: started at the image's axes and at those along which the mask is most unlike a
    normal distribution (a cube has them too, where its principal axes are undefined); then moved, turned and scaled so
    that the part of each element inside it is nearest to the mask. Of its axes the first is the one nearest to x, the
    second to y, the third to z, each pointing there, the third reversed where that makes them right-handed.

    Raises:
        InputError: If the file cannot be read, has no scanner coordinates, holds several voxels, or a mask that is
            empty, in pieces, not of values from 0 to 1, or no box.
    """
    image = _load(path)
    affine_m = _scanner_affine_m(image.header, image.shape, path)
    if image.shape[:3] == (1, 1, 1):
        return FittedVoxel(
            voxel=voxel_from_affine(affine_m, name=f"{path}: its affine"), kind="box", misfit=0.0, grid_m=0.0
        )
    part, corner = _cropped(_mask(image, path), path)
    affine_m[:3, 3] += affine_m[:3, :3] @ corner
    voxel = _fitted(part, affine_m)
    misfit = _misfit(part, affine_m, voxel)
    if misfit > MISFIT:
        share = part.sum() * abs(np.linalg.det(affine_m[:3, :3])) / math.prod(voxel.size_m)
        raise InputError(
            f"{path}: the mask is no box. It has {share:.0%} of the volume of the best box, "
            f"{' x '.join(f'{edge * 1e3:.1f}' for edge in voxel.size_m)} mm, and {misfit:.0%} of it lie elsewhere (at "
            f"most {MISFIT:.0%}, half a grid step forgiven). Draw a box, or state size, position and rotation in the "
            "protocol."
        )
    return FittedVoxel(
        voxel=_ordered(voxel), kind="mask", misfit=misfit, grid_m=float(np.linalg.norm(affine_m[:3, :3], axis=0).max())
    )


def write_voxel_mask(voxel: Voxel, path: Path, *, like: Path | None = None) -> float:
    """Write a voxel as NIfTI: on the grid of an image, or as one element that is the voxel itself.

    On a grid, each element is the part of it that lies inside the voxel, 0 to 1, counted at `SUBDIVISIONS` points along
    each axis, so that overlays and tissue fractions count edges by their share; `voxel_from_nifti` reads it back.

    Args:
        voxel: The voxel.
        path: Output, ending in .nii or .nii.gz.
        like: Image in scanner coordinates whose first three dimensions and header give the grid; None: 1 x 1 x 1.

    Returns:
        The part of the voxel that lies inside the image, 1 without `like`.

    Raises:
        InputError: If the image has no scanner coordinates or does not meet the voxel, or a file cannot be used.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: a NIfTI file must end in .nii.gz or .nii. Change the name of the output.")
    if like is None:
        affine_mm = voxel.affine_m
        affine_mm[:3] *= 1e3
        image = _nib.Nifti1Image(np.ones((1, 1, 1), dtype=np.uint8), affine_mm)
        image.set_qform(affine_mm, code=_SCANNER)
        image.set_sform(affine_mm, code=_SCANNER)
        image.header.set_xyzt_units(xyz="mm")
        part = 1.0
    else:
        image, part = _on_grid(voxel, like)
    image.header["descrip"] = b"seqgen: spectroscopy voxel, part inside"
    with replacing(path) as temporary:
        _nib.save(image, temporary)
    return part


# --- Reading ---------------------------------------------------------------------------------------------------------


def _load(path: Path) -> Any:
    """Return a NIfTI image; its data are read later."""
    if not path.is_file():
        raise InputError(f"Cannot read {path}: there is no such file, or it is a folder. Check the path.")
    try:
        image = _nib.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"Cannot read {path}: {error}. Give a NIfTI file (.nii or .nii.gz).") from error
    if not isinstance(image, _nib.Nifti1Image) or len(image.shape) < 3:
        raise InputError(f"{path} is not a NIfTI file with three dimensions. Give a mask or box as .nii or .nii.gz.")
    if not 0 < math.prod(image.shape) <= _MOST_ELEMENTS:
        raise InputError(f"{path} has {math.prod(image.shape)} elements ({image.shape}). Give the image of a voxel.")
    return image


def _values(image: Any, path: Path) -> NDArray[Any]:
    """Return the data of an image."""
    try:
        return np.asarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"Cannot read {path}: {error}. The file is damaged; copy it again.") from error


def _scanner_affine_m(header: Any, shape: tuple[int, ...], path: Path) -> FloatArray:
    """Return the affine in scanner coordinates, m: of code 1 (this scan) before 2 (aligned to one), qform before sform.

    Raises:
        InputError: If neither form has scanner coordinates, or both have and contradict each other.
    """
    forms = [form for form in (header.get_qform(coded=True), header.get_sform(coded=True)) if form[0] is not None]
    placed = [(code, np.array(affine, dtype=np.float64)) for affine, code in forms if code in (_SCANNER, _ALIGNED)]
    if not placed:
        codes = f"qform_code {int(header['qform_code'])}, sform_code {int(header['sform_code'])}"
        raise InputError(
            f"{path} has no scanner coordinates ({codes}; 1 is a scanner's, 2 aligned to a scan, 0 none, 3 and 4 "
            "those of a template). Convert the image from the scanner again, or carry the mask over to the grid of one."
        )
    best = min(code for code, _ in placed)
    chosen = [affine for code, affine in placed if code == best]
    if len(chosen) == 2:
        corners = np.array(list(itertools.product(*((0, n) for n in shape[:3]))), dtype=np.float64)
        apart = corners @ (chosen[0] - chosen[1])[:3, :3].T + (chosen[0] - chosen[1])[:3, 3]
        step = np.linalg.norm(chosen[0][:3, :3], axis=0).min()
        if np.abs(apart).max() > _FORM_TOLERANCE * step:
            raise InputError(
                f"{path}: qform and sform both claim code {best} but lie {np.abs(apart).max():.3g} apart (unit of the "
                "header). Make them equal, or set the code of the wrong one to 0."
            )
    unit = _UNITS_M.get(header.get_xyzt_units()[0], math.nan)
    affine_m = chosen[0]
    affine_m[:3] *= unit
    if not np.isfinite(affine_m).all() or abs(np.linalg.det(affine_m[:3, :3])) < 1e-18:
        raise InputError(f"{path}: its affine is no grid in space: {affine_m.tolist()}. Convert the image again.")
    return affine_m


def _mask(image: Any, path: Path) -> FloatArray:
    """Return which part of each element belongs to the voxel."""
    shape = tuple(image.shape)
    if any(n != 1 for n in shape[3:]):
        raise InputError(f"{path} has the dimensions {shape}: a mask has three. Give one image, or one voxel's data.")
    values = _values(image, path).reshape(shape[:3])
    if np.iscomplexobj(values) or values.dtype.names is not None:
        raise InputError(
            f"{path} holds {values.dtype} numbers in {shape[:3]} voxels. Give a mask of values from 0 to 1."
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(
            f"{path} holds values from {low:g} to {high:g}, but a mask has 0 to 1 (the part of each element inside the "
            "voxel). Give the mask of one region, divided by its label."
        )
    part: FloatArray = values.astype(np.float64).clip(0, 1)
    return part


def _cropped(part: FloatArray, path: Path) -> tuple[FloatArray, FloatArray]:
    """Return the mask with two elements around it, and the index of its first element in the image."""
    mask = part >= INSIDE
    if not mask.any():
        raise InputError(f"{path}: the mask is empty: no element reaches {INSIDE}. Give a mask of the voxel.")
    pieces, count = label(mask, structure=np.ones((3, 3, 3)))
    if count > 1:
        sizes = sorted(np.bincount(pieces.reshape(-1))[1:].tolist(), reverse=True)
        raise InputError(
            f"{path}: the mask is in {count} pieces of {', '.join(map(str, sizes[:5]))}{', ...' * (count > 5)} "
            "elements. Keep one voxel."
        )
    index = np.argwhere(mask)
    low = index.min(0)
    around = tuple(slice(a, b + 5) for a, b in zip(low, index.max(0), strict=True))
    return np.pad(part, 2)[around], (low - 2).astype(np.float64)


# --- Fitting a box ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Elements:
    """Elements of an image around a mask."""

    place_m: FloatArray
    """Centres, shape (n, 3)."""
    part: FloatArray
    """Part of each inside the voxel, shape (n,)."""
    edges_m: FloatArray
    """Edges of an element, columns, shape (3, 3)."""

    def width_m(self, axes: FloatArray) -> FloatArray:
        """Width of an element along axes (rows), shape (3,): of the uniform distribution of its variance there."""
        width: FloatArray = np.linalg.norm(axes @ self.edges_m, axis=1)
        return width


def _elements(part: FloatArray, affine_m: FloatArray, most: int | None = None) -> _Elements:
    """Return the elements of a cropped mask, or as many of them as `most`, drawn with a fixed seed."""
    number = np.arange(part.size)
    if most is not None:
        number = np.random.default_rng(1).permutation(part.size)[:most]
    index = np.stack(np.unravel_index(number, part.shape), 1).astype(np.float64)
    return _Elements(
        place_m=index @ affine_m[:3, :3].T + affine_m[:3, 3],
        part=part.reshape(-1)[number],
        edges_m=affine_m[:3, :3],
    )


def _fitted(part: FloatArray, affine_m: FloatArray) -> Voxel:
    """Return the best box: from the image's axes and from the mask's own, the better one."""
    elements = _elements(part, affine_m, _MOST_POINTS)
    fits = [_fit(elements, axes) for axes in (_nearest_rotation(affine_m[:3, :3]), _independent_axes(elements))]
    return min(fits, key=lambda fit: fit[1])[0]


def _nearest_rotation(columns: FloatArray) -> FloatArray:
    """Return the right-handed axes nearest to three directions, given as columns, returned as rows."""
    u, _, vh = np.linalg.svd(columns / np.linalg.norm(columns, axis=0))
    axes: FloatArray = (u @ vh).T
    axes[2] *= np.sign(np.linalg.det(axes))
    return axes


def _independent_axes(elements: _Elements) -> FloatArray:
    """Return the axes, rows, along which a mask is most unlike a normal distribution.

    Scaled to equal variances, a uniform box is a cube: its edges are where the sum of fourth moments is least
    (independent component analysis: Signal Process 36:287 (1994), doi:10.1016/0165-1684(94)90029-9).
    """
    place = elements.place_m[elements.part >= INSIDE][:_MOST_MOMENTS]
    place = place - place.mean(0)
    variance, basis = np.linalg.eigh(place.T @ place / len(place) + elements.edges_m @ elements.edges_m.T / 12)
    white = place @ (basis / np.sqrt(variance))
    found = []
    for start in Rotation.random(3, random_state=1):

        def fourth_moments(turn: FloatArray, start: Rotation = start) -> float:
            return float(((white @ (Rotation.from_rotvec(turn) * start).as_matrix()) ** 4).sum() / len(white))

        best = minimize(fourth_moments, np.zeros(3), method="BFGS", options={"gtol": 1e-4})
        found.append((best.fun, (Rotation.from_rotvec(best.x) * start).as_matrix()))
    _, turned = min(found, key=lambda pair: pair[0])
    return _nearest_rotation((basis * np.sqrt(variance)) @ turned)


def _fit(elements: _Elements, axes: FloatArray) -> tuple[Voxel, float]:
    """Return the box whose part of every element is nearest to the mask, from given axes on, and the squared error."""
    place = elements.place_m[elements.part >= INSIDE]
    element = elements.edges_m @ elements.edges_m.T / 12
    covariance = np.cov(place.T, bias=True) + element if len(place) > 1 else element
    centre, size = place.mean(0), np.sqrt(12 * np.einsum("ki,ij,kj->k", axes, covariance, axes))
    step_m = float(elements.width_m(axes).min())
    turn_scale = step_m / float(size.max())

    def box(x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return (
            centre + x[:3] * step_m,
            size * np.exp(x[3:6] * turn_scale),
            axes @ Rotation.from_rotvec(x[6:] * turn_scale).as_matrix(),
        )

    def error(x: FloatArray) -> FloatArray:
        return _part_inside(elements, *box(x)) - elements.part

    best = least_squares(error, np.zeros(9), xtol=1e-5, ftol=1e-6, max_nfev=60)
    middle, edges, turned = box(best.x)
    voxel = Voxel(size_m=tuple(edges.tolist()), centre_m=tuple(middle.tolist()), axes=turned)
    return voxel, float(best.cost)


def _part_inside(elements: _Elements, centre_m: FloatArray, size_m: FloatArray, axes: FloatArray) -> FloatArray:
    """Return the part of each element inside a box, as if the element were a box along its axes, shape (n,)."""
    beyond = 0.5 * size_m - np.abs((elements.place_m - centre_m) @ axes.T)
    part: FloatArray = np.clip(0.5 + beyond / elements.width_m(axes), 0, 1).prod(1)
    return part


def _misfit(part: FloatArray, affine_m: FloatArray, voxel: Voxel) -> float:
    """Return how many elements lie on the wrong side of a box by more than half a step, over those of the mask."""
    elements = _elements(part, affine_m)
    deep = 0.5 * np.asarray(voxel.size_m) - np.abs((elements.place_m - np.asarray(voxel.centre_m)) @ voxel.axes.T)
    steps = (deep / elements.width_m(voxel.axes)).min(1)
    inside = elements.part >= INSIDE
    return float(((inside & (steps < -0.5)) | (~inside & (steps > 0.5))).sum() / inside.sum())


def _ordered(voxel: Voxel) -> Voxel:
    """Return the box with its axes in the order of x, y, z, pointing there, right-handed."""
    order = max(itertools.permutations(range(3)), key=lambda p: sum(abs(voxel.axes[k, e]) for e, k in enumerate(p)))
    axes = voxel.axes[list(order)]
    axes = axes * np.sign(np.diag(axes))[:, None]
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    first, second, third = (voxel.size_m[k] for k in order)
    return Voxel(size_m=(first, second, third), centre_m=voxel.centre_m, axes=axes + 0.0)


# --- Writing ---------------------------------------------------------------------------------------------------------


def _on_grid(voxel: Voxel, like: Path) -> tuple[Any, float]:
    """Return the voxel's mask on the grid of an image, and the part of the voxel inside the image."""
    reference = _load(like)
    affine_m = _scanner_affine_m(reference.header, reference.shape, like)
    shape = reference.shape[:3]
    corners = (voxel.corners_m - affine_m[:3, 3]) @ np.linalg.inv(affine_m[:3, :3]).T
    low = np.clip(np.floor(corners.min(0) + 0.5), 0, shape).astype(int)
    high = np.clip(np.ceil(corners.max(0) + 0.5), 0, shape).astype(int)
    mask = np.zeros(shape, dtype=np.float32)
    if (high > low).all():
        for k in range(low[2], high[2]):
            mask[low[0] : high[0], low[1] : high[1], k] = _plane(voxel, affine_m, low, high, k)
    if not mask.any():
        centre, middle = (
            ", ".join(f"{value * 1e3:.1f}" for value in place)
            for place in (voxel.centre_m, affine_m[:3, :3] @ (np.array(shape) - 1) / 2 + affine_m[:3, 3])
        )
        raise InputError(
            f"The voxel lies outside {like}: its centre is at ({centre}) mm, that of the image at ({middle}) mm. Give "
            "an image of the same session that covers it."
        )
    part = float(mask.sum(dtype=np.float64) * abs(np.linalg.det(affine_m[:3, :3])) / math.prod(voxel.size_m))
    image = _nib.Nifti1Image(mask, None)
    header = reference.header
    image.header.set_xyzt_units(xyz=header.get_xyzt_units()[0])
    image.header["pixdim"][1:4] = header["pixdim"][1:4]
    image.set_sform(header.get_sform(), code=int(header["sform_code"]))
    image.set_qform(header.get_qform(), code=int(header["qform_code"]))
    return image, min(part, 1.0)


def _plane(voxel: Voxel, affine_m: FloatArray, low: NDArray[Any], high: NDArray[Any], k: int) -> FloatArray:
    """Return the parts inside the voxel of the elements of one plane of an image, shape (nx, ny).

    Elements that are wholly inside or outside are told by their extent; points are counted in the others alone.
    """
    index = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), [k], indexing="ij"), -1)
    flat = index.reshape(-1, 3).astype(np.float64)
    half, centre = 0.5 * np.asarray(voxel.size_m), np.asarray(voxel.centre_m)
    along = np.abs((flat @ affine_m[:3, :3].T + affine_m[:3, 3] - centre) @ voxel.axes.T)
    reach = 0.5 * np.abs(voxel.axes @ affine_m[:3, :3]).sum(1)
    part = (along + reach <= half).all(1).astype(np.float64)
    edge = np.flatnonzero((part == 0) & (along - reach < half).all(1))
    offset = (np.arange(SUBDIVISIONS) + 0.5) / SUBDIVISIONS - 0.5
    points = np.stack(np.meshgrid(offset, offset, offset, indexing="ij"), -1).reshape(-1, 3)
    for some in np.array_split(edge, max(1, math.ceil(edge.size / 2000))):
        fine = ((flat[some][:, None] + points) @ affine_m[:3, :3].T + affine_m[:3, 3] - centre) @ voxel.axes.T
        part[some] = (np.abs(fine) <= half).all(2).mean(1)
    plane: FloatArray = part.reshape(index.shape[:2])
    return plane
