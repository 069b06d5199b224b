"""Water suppression: WET and VAPOR, their flip angles optimised for a range of T1 and B1.

Between pulses with ideal spoiling only Mz is left. A pulse of flip angle b theta_k (b the local B1 relative to nominal)
followed by the time tau_k takes it to

    Mz -> 1 + (Mz cos(b theta_k) - 1) exp(-tau_k / T1),

in units of M0. Flip angles minimise the largest |Mz| over T1, b, and what a short TR leaves before the first pulse.

Sources: Ogg, Kingsley, Taylor, J Magn Reson B 104:1 (1994), doi:10.1006/jmrb.1994.1048 (WET); Tkac, Starcuk, Choi,
Gruetter, Magn Reson Med 41:649 (1999) (VAPOR; delays and ratios of flip angles recalled, not read).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from seqgen.pulse.shapes import gaussian_pulse
from seqgen.scanner import Scanner
from seqgen.sequence.blocks import TimedBlock, nonselective

Array = NDArray[np.float64]
Range = tuple[float, float]

WET_FLIP_DEG = (81.4, 101.4, 69.3, 161.0)
"""Published flip angles of four-pulse WET, 60 ms apart."""
VAPOR_FLIP_DEG = (90.0, 90.0, 160.2, 90.0, 160.2, 90.0, 160.2)
"""Published flip angles of VAPOR: ratios 1 : 1 : 1.78 : 1 : 1.78 : 1 : 1.78 of a nominal 90 degrees."""
VAPOR_DELAY_S = (0.150, 0.080, 0.160, 0.080, 0.100, 0.030, 0.026)
"""Published delays of VAPOR, from the centre of each pulse to that of the next, the last to the excitation's, s."""
FIRST_MZ = (0.5, 1.0)
"""Mz before the first pulse, M0: from what a short TR leaves to equilibrium. Mz at the end is linear in it."""
_SCALES = (0.7, 0.85, 1.0)
"""Multiples of the published flip angles from which the optimisation starts: it has several minima."""
_PULL = 1e-4
"""Weight of the squared distance to where it started, rad^-2: one minimum where several flip angles are as good."""
_STEP_DEG = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class WaterSuppression:
    """A train of suppression pulses."""

    name: str
    """WET or VAPOR."""
    flip_angle_rad: tuple[float, ...]
    """Optimised flip angle of every pulse, rad."""
    delay_s: tuple[float, ...]
    """From the centre of each pulse to that of the next, the last to the excitation's, s."""
    residual: float
    """Largest |Mz| / M0 of water at the excitation over the range of T1 and B1."""


def wet(spacing_s: float, t1_range_s: Range, b1_range_scale: Range) -> WaterSuppression:
    """Return four-pulse WET, pulses `spacing_s` apart, for a range of T1 (s) and B1 (relative to nominal).

    Example:
        >>> from math import degrees
        >>> train = wet(0.06, (0.83, 1.82), (0.8, 1.2))
        >>> [round(degrees(flip), 1) for flip in train.flip_angle_rad], round(train.residual, 4)
        ([85.3, 106.7, 74.5, 160.4], 0.0056)
    """
    return _train("WET", WET_FLIP_DEG, (spacing_s,) * len(WET_FLIP_DEG), t1_range_s, b1_range_scale)


def vapor(delay_s: tuple[float, ...], t1_range_s: Range, b1_range_scale: Range) -> WaterSuppression:
    """Return seven-pulse VAPOR with these delays, for a range of T1 (s) and B1 (relative to nominal)."""
    return _train("VAPOR", VAPOR_FLIP_DEG, delay_s, t1_range_s, b1_range_scale)


def _train(
    name: str, published_deg: tuple[float, ...], delay_s: tuple[float, ...], t1_range_s: Range, b1_range_scale: Range
) -> WaterSuppression:
    flips = optimal_flip_angles(published_deg, delay_s, t1_range_s, b1_range_scale)
    return WaterSuppression(
        name=name,
        flip_angle_rad=flips,
        delay_s=delay_s,
        residual=worst_mz(flips, delay_s, t1_range_s, b1_range_scale),
    )


def water_pulses(train: WaterSuppression, *, duration_s: float, scanner: Scanner) -> tuple[TimedBlock, ...]:
    """Return the pulses of a train: Gaussians on water, phase 0.

    Raises:
        HardwareLimitError: If a pulse exceeds the scanner's amplitude.
    """
    dwell_s = max(1e-5, scanner.rf_raster_s)
    return tuple(
        nonselective(
            gaussian_pulse(
                flip_angle_rad=flip, duration_s=duration_s, dwell_s=dwell_s, name=f"{train.name} {number + 1}"
            ),
            phase_rad=0.0,
            carrier_offset_hz=0.0,
            use="saturation",
            scanner=scanner,
        )
        for number, flip in enumerate(train.flip_angle_rad)
    )


# --- Flip angles -----------------------------------------------------------------------------------------------------


def longitudinal(
    flip_angle_rad: ArrayLike,
    delay_s: ArrayLike,
    *,
    t1_s: ArrayLike,
    b1_scale: ArrayLike = 1.0,
    first_mz: ArrayLike = 1.0,
) -> Array:
    """Return Mz / M0 after a train of pulses, each followed by ideal spoiling and a delay.

    Args:
        flip_angle_rad: Nominal flip angle of every pulse, rad, shape (n,).
        delay_s: From each pulse to the next, the last to where Mz is wanted, s, shape (n,).
        t1_s: Longitudinal relaxation time, s, any shape.
        b1_scale: B1 relative to nominal, broadcast against `t1_s`.
        first_mz: Mz / M0 before the first pulse, broadcast too.

    Example:
        >>> float(longitudinal([np.pi / 2], [0.1], t1_s=0.1 / np.log(2)).round(6))
        0.5
    """
    b1, t1, mz = np.broadcast_arrays(
        np.asarray(b1_scale, dtype=np.float64), np.asarray(t1_s, dtype=np.float64), np.asarray(first_mz, np.float64)
    )
    for flip, delay in zip(np.asarray(flip_angle_rad), np.asarray(delay_s), strict=True):
        mz = 1 + (mz * np.cos(b1 * flip) - 1) * np.exp(-delay / t1)
    return mz


def worst_mz(
    flip_angle_rad: ArrayLike,
    delay_s: ArrayLike,
    t1_range_s: Range,
    b1_range_scale: Range,
    first_mz: Range = FIRST_MZ,
) -> float:
    """Return the largest |Mz| / M0 at the excitation over T1, B1 and the first Mz, on a grid of 9 by 41 by 2."""
    t1, b1, first = _box(t1_range_s, b1_range_scale, first_mz, 9, 41)
    return float(np.abs(longitudinal(flip_angle_rad, delay_s, t1_s=t1, b1_scale=b1, first_mz=first)).max())


@lru_cache(maxsize=256)
def optimal_flip_angles(
    published_deg: tuple[float, ...],
    delay_s: tuple[float, ...],
    t1_range_s: Range,
    b1_range_scale: Range,
    first_mz: Range = FIRST_MZ,
) -> tuple[float, ...]:
    """Return the flip angles, 0 to 180 degrees, with the least `worst_mz`, in tenths of a degree, rad.

    The largest |Mz| is the least t with -t <= Mz <= t for every T1 and B1 (sequential quadratic programming with the
    exact gradient), started from multiples of the published flip angles; these compete too.

    Args:
        published_deg: Where to start, degrees, one per pulse.
        delay_s: From the centre of each pulse to that of the next, the last to the excitation's, s.
        t1_range_s: Shortest and longest T1, s.
        b1_range_scale: Least and largest B1 relative to nominal.
        first_mz: Least and largest Mz / M0 before the first pulse.
    """
    box = (t1_range_s, b1_range_scale, first_mz)
    published = np.radians(published_deg)
    starts = [np.minimum(scale * published, math.pi) for scale in _SCALES]
    found = [published, *(_descend(start, delay_s, _box(*box, 4, 13)) for start in starts)]
    rounded = [np.radians(np.round(np.degrees(flips) / _STEP_DEG) * _STEP_DEG) for flips in found]
    best = min(rounded, key=lambda flips: round(worst_mz(flips, delay_s, *box), 5))
    return tuple(float(flip) for flip in best)


def _descend(start: Array, delay_s: tuple[float, ...], box: tuple[Array, Array, Array]) -> Array:
    """Return the flip angles of the nearest minimum; the variables are the flip angles and the bound t."""
    t1, b1, first = box

    def objective(z: Array) -> tuple[float, Array]:
        step = z[:-1] - start
        return float(z[-1] + _PULL * step @ step), np.append(2 * _PULL * step, 1.0)

    def room(z: Array) -> Array:
        mz = longitudinal(z[:-1], delay_s, t1_s=t1, b1_scale=b1, first_mz=first)
        return np.concatenate([z[-1] - mz, z[-1] + mz])

    def room_gradient(z: Array) -> Array:
        slopes = mz_slopes(z[:-1], delay_s, t1, b1, first)
        return np.column_stack([np.concatenate([-slopes, slopes]), np.ones(2 * len(slopes))])

    largest = float(np.abs(room(np.append(start, 0.0))).max())
    result = minimize(
        objective,
        np.append(start, largest),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, math.pi)] * len(start) + [(0.0, 1.0)],
        constraints={"type": "ineq", "fun": room, "jac": room_gradient},
        options={"maxiter": 100, "ftol": 1e-9},
    )
    flips: Array = np.clip(result.x[:-1], 0.0, math.pi)
    return flips


def mz_slopes(flip_angle_rad: Array, delay_s: ArrayLike, t1: Array, b1: Array, first_mz: Array) -> Array:
    """Return dMz / d(flip angle) of `longitudinal`, per rad, shape (n_points, n_pulses).

    Args:
        flip_angle_rad: Nominal flip angle of every pulse, rad, shape (n_pulses,).
        delay_s: Delay after every pulse, s, shape (n_pulses,).
        t1: Longitudinal relaxation time, s, shape (n_points,).
        b1: B1 relative to nominal, shape (n_points,).
        first_mz: Mz / M0 before the first pulse, shape (n_points,).
    """
    mz, slopes = first_mz, np.zeros((len(flip_angle_rad), len(t1)))
    for k, (flip, delay) in enumerate(zip(flip_angle_rad, np.asarray(delay_s), strict=True)):
        decay = np.exp(-delay / t1)
        slopes[:k] *= np.cos(b1 * flip) * decay
        slopes[k] = -mz * b1 * np.sin(b1 * flip) * decay
        mz = 1 + (mz * np.cos(b1 * flip) - 1) * decay
    return slopes.T


def _box(t1_range_s: Range, b1_range_scale: Range, first_mz: Range, n_t1: int, n_b1: int) -> tuple[Array, Array, Array]:
    """Return T1, B1 and the first Mz at every point of a grid over their ranges, each of shape (n_points,)."""
    grid = np.meshgrid(np.geomspace(*t1_range_s, n_t1), np.linspace(*b1_range_scale, n_b1), first_mz, indexing="ij")
    t1, b1, first = (axis.ravel() for axis in grid)
    return t1, b1, first
