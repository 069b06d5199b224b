"""Smooth baseline: uniform cubic B-splines over a ppm range."""

import math

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from seqgen.axes import FloatArray
from seqgen.errors import InputError

_DEGREE = 3


def spline_basis(ppm: FloatArray | Tensor, range_ppm: tuple[float, float], knot_spacing_ppm: float) -> Tensor:
    """Return the cubic B-splines that span a ppm range, float64, shape (m, n_splines).

    The range is cut into equal intervals as close to `knot_spacing_ppm` as fits, and the knots go on beyond its ends,
    so that the n_splines = n_intervals + 3 splines are copies of one another and add up to 1 in the range.

    Args:
        ppm: Axis, ppm, shape (m,), inside the range.
        range_ppm: Range, ppm, (low, high).
        knot_spacing_ppm: Wanted distance of the knots, ppm; the baseline cannot follow features narrower than it.

    Raises:
        InputError: If the range is empty, the spacing is not positive, or a point lies outside the range.

    References:
        de Boor, A Practical Guide to Splines, Springer (1978), chapter IX.
    """
    low, high = range_ppm
    if not (high > low and knot_spacing_ppm > 0 and math.isfinite(knot_spacing_ppm)):
        raise InputError(
            f"A spline baseline needs range_ppm (low, high) with low < high and knot_spacing_ppm > 0, but got "
            f"{range_ppm} and {knot_spacing_ppm}."
        )
    points = np.asarray(ppm, dtype=np.float64)
    if points.size and (points.min() < low or points.max() > high):
        raise InputError(
            f"The ppm axis runs from {points.min():.3f} to {points.max():.3f} ppm, outside range_ppm {range_ppm}. "
            "Cut the axis to the range first."
        )
    n_intervals = max(1, round((high - low) / knot_spacing_ppm))
    step = (high - low) / n_intervals
    knots = low + step * np.arange(-_DEGREE, n_intervals + _DEGREE + 1)
    # The last knot of the range is met by rounding only; keep the points inside.
    inside = np.clip(points, knots[_DEGREE], knots[-_DEGREE - 1])
    return torch.from_numpy(BSpline.design_matrix(inside, knots, _DEGREE).toarray())
