"""The voxel of a localised sequence: size, place and rotation, and what a scanner can reach.

Coordinates: gradient axes x, y, z of the `.seq` from the isocentre, m, taken for right, anterior, superior of the
scanner (NIfTI axes). Pulseq leaves the sense of its axes to the interpreter: see docs/geometry.md.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from seqgen.errors import HardwareLimitError, InputError
from seqgen.scanner import Scanner

Triple = tuple[float, float, float]
_ORIGIN: Final[Triple] = (0.0, 0.0, 0.0)
PLAUSIBLE_PPM = (-1.0, 10.0)
"""Where proton shifts lie: a carrier outside is a slip, Hz for ppm."""
_PERPENDICULAR = 1e-4
"""Largest cosine between two edges of an affine: headers keep six digits."""
_SAME_SIZE = 1e-4
"""Largest relative difference between voxel_size_m and the edges of voxel_affine_m."""
_SAME = 1e-9
"""Largest difference, m or rad, between a place stated twice."""
_UNITS_OF_ONE = (1.0, 1e-2, 1e-3)
"""The last number of a 4 x 4 affine that is written in m, cm or mm."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Voxel:
    """A box in gradient coordinates."""

    size_m: Triple
    """Edges along its own first, second and third axis, m."""
    centre_m: Triple
    """Centre, x, y, z, m."""
    axes: NDArray[np.float64]
    """Unit vectors of its own axes, right-handed, one a row, shape (3, 3)."""

    @property
    def affine_m(self) -> NDArray[np.float64]:
        """The 4 x 4 matrix of NIfTI: columns are the edges and the centre, m."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes.T * np.asarray(self.size_m)
        affine[:3, 3] = self.centre_m
        return affine

    @property
    def corners_m(self) -> NDArray[np.float64]:
        """The eight corners, m, shape (8, 3)."""
        signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), -1).reshape(-1, 3)
        corners: NDArray[np.float64] = signs * np.asarray(self.size_m) @ self.axes + np.asarray(self.centre_m)
        return corners

    @property
    def rotation_rad(self) -> Triple:
        """Rotation about x, then y, then z (fixed axes), rad; where y is +-90 degrees, z is 0.

        The axes are the columns of Rz Ry Rx.
        """
        r = self.axes.T + 0.0  # no minus zero
        about_y = math.atan2(0.0 - r[2, 0], math.hypot(r[0, 0], r[1, 0]))
        if math.hypot(r[0, 0], r[1, 0]) < 1e-9:
            return math.atan2(0.0 - r[1, 2], r[1, 1]), about_y, 0.0
        return math.atan2(r[2, 1], r[2, 2]), about_y, math.atan2(r[1, 0], r[0, 0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VoxelParams:
    """Parameters of every localised sequence.

    The place is given by `voxel_position_m` and `voxel_rotation_rad`, or by `voxel_affine_m`, which then fills the
    other two.
    """

    voxel_size_m: Triple
    """Voxel along its own first, second and third axis (in the order in which the pulses select), m."""
    voxel_position_m: Triple = _ORIGIN
    """Centre of the voxel in gradient coordinates x, y, z, m."""
    voxel_rotation_rad: Triple = _ORIGIN
    """Rotation of the voxel about x, then y, then z (fixed axes), rad."""
    voxel_affine_m: tuple[tuple[float, float, float, float], ...] | None = None
    """Position and rotation as the voxel-to-scanner affine of NIfTI, three or four rows: columns are the three edges,
    as long as voxel_size_m says, and the centre, m. A left-handed one is the same box with its third axis reversed."""
    gradient_polarity: tuple[int, int, int] = (1, 1, 1)
    """+1 or -1 for the selective gradient of each voxel axis: -1 reverses the gradient and with it the direction in
    which other chemical shifts are displaced; the voxel stays."""
    slice_carrier_ppm: float = 2.8
    """Chemical shift for which all slices sit where asked, ppm."""

    def __post_init__(self) -> None:
        if self.voxel_affine_m is None:
            return
        voxel = voxel_from_affine(self.voxel_affine_m, name="voxel_affine_m")
        stated = np.asarray(self.voxel_size_m, dtype=np.float64)
        if stated.shape != (3,) or not np.allclose(stated, voxel.size_m, rtol=_SAME_SIZE, atol=0):
            raise InputError(
                f"voxel_affine_m has edges of {_mm(voxel.size_m)} mm, but voxel_size_m says "
                f"{_mm(self.voxel_size_m)} mm. State the same size in both, or give voxel_position_m and "
                "voxel_rotation_rad instead of voxel_affine_m."
            )
        places = {"voxel_position_m": voxel.centre_m, "voxel_rotation_rad": voxel.rotation_rad}
        for name, value in places.items():
            own = getattr(self, name)
            if tuple(own) != _ORIGIN and not np.allclose(own, value, rtol=0, atol=_SAME):
                raise InputError(
                    f"{name} is {tuple(own)}, but voxel_affine_m states {value}. Give one of the two: "
                    f"voxel_affine_m holds position and rotation."
                )
            object.__setattr__(self, name, value)


def voxel_from_affine(affine_m: ArrayLike, *, name: str = "affine") -> Voxel:
    """Return the box whose edges and centre are the columns of an affine, right-handed.

    Args:
        affine_m: 3 x 4 or 4 x 4 matrix, m. The last number of a fourth row may be the 1 of an affine in cm or mm.
        name: Its name for errors.

    Raises:
        InputError: If it is none: shape, numbers, last row, or edges that are not perpendicular.
    """
    matrix = np.asarray(affine_m, dtype=np.float64)
    if matrix.shape not in ((3, 4), (4, 4)) or not np.isfinite(matrix).all():
        raise InputError(
            f"{name} must be three or four rows of four finite numbers, but is {_shown(matrix)}. Change it."
        )
    if matrix.shape == (4, 4) and (matrix[3, :3].any() or not np.isclose(matrix[3, 3], _UNITS_OF_ONE, rtol=1e-9).any()):
        raise InputError(f"{name} must end in the row 0 0 0 1, but ends in {_shown(matrix[3])}. Change {name}.")
    edges, size = matrix[:3, :3], np.linalg.norm(matrix[:3, :3], axis=0)
    if size.min() <= 0:
        raise InputError(f"{name} must have three edges longer than 0, but has {_mm(size)} mm. Change {name}.")
    axes = (edges / size).T
    largest = float(np.abs(axes @ axes.T - np.eye(3)).max())
    if largest > _PERPENDICULAR:
        raise InputError(
            f"{name} must have perpendicular edges, but the cosine between two of them is {largest:.2g}, at most "
            f"{_PERPENDICULAR:g}: it is sheared. Use an affine of rotation and size alone."
        )
    u, _, vh = np.linalg.svd(axes)
    axes = u @ vh
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    return Voxel(size_m=_triple(size), centre_m=_triple(matrix[:3, 3]), axes=axes + 0.0)


def voxel_of(params: VoxelParams) -> Voxel:
    """Return the box that the parameters ask for."""
    return Voxel(
        size_m=_triple(params.voxel_size_m), centre_m=_triple(params.voxel_position_m), axes=voxel_axes(params)
    )


def voxel_axes(params: VoxelParams) -> NDArray[np.float64]:
    """Return the unit vectors of the voxel's own axes in gradient coordinates, one a row, shape (3, 3)."""
    axes: NDArray[np.float64] = Rotation.from_euler("xyz", params.voxel_rotation_rad).as_matrix().T
    return axes


def slice_directions(params: VoxelParams) -> NDArray[np.float64]:
    """Return the unit vectors along which the selective gradients are positive, one a row: axes times polarity."""
    polarity = np.asarray(params.gradient_polarity, dtype=np.float64)
    directions: NDArray[np.float64] = voxel_axes(params) * polarity[:, None] + 0.0
    return directions


def slice_position(params: VoxelParams, direction: NDArray[np.float64]) -> float:
    """Return where the voxel's centre lies along a unit vector, m: `position_m` of `blocks.selective`.

    Example:
        >>> params = VoxelParams(
        ...     voxel_size_m=(0.02, 0.02, 0.03), voxel_position_m=(0.01, 0.0, -0.04), gradient_polarity=(1, 1, -1)
        ... )
        >>> [slice_position(params, direction) for direction in slice_directions(params)]
        [0.01, 0.0, 0.04]
    """
    return float(np.asarray(params.voxel_position_m, dtype=np.float64) @ direction) + 0.0


def voxel_definitions(params: VoxelParams) -> dict[str, str | float | tuple[float, ...]]:
    """Return what a file states about its voxel.

    FOV, VoxelSize, VoxelPosition, VoxelRotation (nine numbers row by row, columns the axes), and the chemical shift for
    which they hold.
    """
    return {
        "FOV": tuple(params.voxel_size_m),
        "VoxelSize": tuple(params.voxel_size_m),
        "VoxelPosition": tuple(params.voxel_position_m),
        "VoxelRotation": tuple(float(value) for value in voxel_axes(params).T.reshape(-1)),
        "seqgen_slice_carrier_ppm": float(params.slice_carrier_ppm),
    }


def check_voxel(params: VoxelParams, scanner: Scanner) -> None:
    """Refuse a voxel that is none, or that the scanner does not reach.

    Raises:
        InputError: Naming the parameter, its value and what it must be.
        HardwareLimitError: If a corner lies outside the sphere that the scanner's profile states as usable.
    """
    for name in ("voxel_size_m", "voxel_position_m", "voxel_rotation_rad"):
        value: Any = getattr(params, name)
        if len(value) != 3 or not all(map(math.isfinite, value)):
            raise InputError(
                f"{name} must be three finite numbers, but is {value}. Change {name} in the sequence's parameters."
            )
    if min(params.voxel_size_m) <= 0:
        raise InputError(
            f"voxel_size_m must be positive along every axis, but is {params.voxel_size_m}. "
            "Change voxel_size_m in the sequence's parameters."
        )
    low, high = PLAUSIBLE_PPM
    if not low <= params.slice_carrier_ppm <= high:
        raise InputError(
            f"slice_carrier_ppm must be from {low:g} to {high:g} ppm, but is {params.slice_carrier_ppm}. "
            "Change slice_carrier_ppm in the sequence's parameters."
        )
    if len(params.gradient_polarity) != 3 or any(sign not in (1, -1) for sign in params.gradient_polarity):
        raise InputError(
            f"gradient_polarity must be +1 or -1 for each of three gradients, but is {params.gradient_polarity}. "
            "Change gradient_polarity in the sequence's parameters."
        )
    _require_reach(params, scanner)


def _require_reach(params: VoxelParams, scanner: Scanner) -> None:
    """Refuse a voxel with a corner outside the usable sphere; a profile that states none is not checked."""
    if scanner.usable_radius_m is None:
        return
    furthest_m = float(np.linalg.norm(voxel_of(params).corners_m, axis=1).max())
    if furthest_m > scanner.usable_radius_m * (1 + 1e-9):
        raise HardwareLimitError(
            f"voxel_position_m is {_mm(params.voxel_position_m)} mm and voxel_size_m {_mm(params.voxel_size_m)} mm, so "
            f"a corner lies {furthest_m * 1e3:.4g} mm from the isocentre, but {scanner.name} is usable up to "
            f"{scanner.usable_radius_m * 1e3:.4g} mm. Move the voxel or the subject nearer to the isocentre."
        )


def _triple(values: ArrayLike) -> Triple:
    """Return three plain floats."""
    x, y, z = (float(value) for value in np.asarray(values, dtype=np.float64))
    return x, y, z


def _mm(values: ArrayLike) -> str:
    """Return lengths in mm for messages."""
    return " x ".join(f"{value * 1e3:.6g}" for value in np.asarray(values, dtype=np.float64).reshape(-1))


def _shown(matrix: NDArray[np.float64]) -> str:
    """Return a matrix for messages, on one line."""
    text = str(matrix.tolist())
    return text if len(text) <= 120 else text[:117] + "..."
