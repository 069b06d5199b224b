"""Flip angles of WET and VAPOR: recursion against closed forms and Bloch equations, optimum against global searches."""

import math

import bloch
import numpy as np
import pytest
from press_files import F0_HZ, SCANNER, WATER_PPM
from scipy.optimize import differential_evolution

from seqgen.errors import HardwareLimitError
from seqgen.sequence.suppression import (
    FIRST_MZ,
    VAPOR_DELAY_S,
    VAPOR_FLIP_DEG,
    WET_FLIP_DEG,
    longitudinal,
    mz_slopes,
    optimal_flip_angles,
    vapor,
    water_pulses,
    wet,
    worst_mz,
)

T1_S = (0.83, 4.5)
B1 = (0.8, 1.2)
WET_DELAY_S = (0.06,) * 4
SCHEMES = {"wet": (WET_FLIP_DEG, WET_DELAY_S), "vapor": (VAPOR_FLIP_DEG, VAPOR_DELAY_S)}


def mz_plainly(flips, delays, t1_s, b1, mz):
    """The recursion for one spin, written out with M0 apart."""
    for flip, delay in zip(flips, delays, strict=True):
        mz = mz * math.cos(b1 * flip)
        mz = 1.0 * (1 - math.exp(-delay / t1_s)) + mz * math.exp(-delay / t1_s)
    return mz


def worst_plainly(flips, delays, t1_range, b1_range, n=(7, 25)):
    """The largest |Mz| over a grid of its own, spin by spin."""
    return max(
        abs(mz_plainly(flips, delays, t1, b1, first))
        for t1 in np.linspace(*t1_range, n[0])
        for b1 in np.linspace(*b1_range, n[1])
        for first in FIRST_MZ
    )


# --- Recursion -------------------------------------------------------------------------------------------------------


def test_without_relaxation_the_cosines_multiply():
    flips = np.radians([81.4, 101.4, 69.3, 161.0])
    mz = longitudinal(flips, WET_DELAY_S, t1_s=1e12, b1_scale=[0.9, 1.1])
    assert mz == pytest.approx([np.cos(0.9 * flips).prod(), np.cos(1.1 * flips).prod()], abs=1e-10)


def test_many_equal_pulses_reach_the_steady_state_of_saturation():
    """Mz = (1 - E) / (1 - E cos): before each pulse in the steady state (ideal spoiling)."""
    e = math.exp(-0.1 / 1.2)
    mz = longitudinal([math.radians(35)] * 400, [0.1] * 400, t1_s=1.2, first_mz=0.3)
    assert float(mz) == pytest.approx((1 - e) / (1 - e * math.cos(math.radians(35))), abs=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_recursion_spin_by_spin(scheme):
    published, delays = SCHEMES[scheme]
    t1, b1 = np.meshgrid([0.8, 1.3, 4.0], [0.8, 1.0, 1.15])
    mz = longitudinal(np.radians(published), delays, t1_s=t1, b1_scale=b1, first_mz=0.7)
    expected = np.vectorize(lambda t, b: mz_plainly(np.radians(published), delays, t, b, 0.7))(t1, b1)
    assert mz == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_slopes_against_differences(scheme):
    published, delays = SCHEMES[scheme]
    flips = np.radians(published)
    t1, b1, first = np.array([0.8, 1.3, 4.0]), np.array([0.8, 1.0, 1.2]), np.array([0.5, 0.7, 1.0])

    def mz(angles):
        return longitudinal(angles, delays, t1_s=t1, b1_scale=b1, first_mz=first)

    steps = 1e-5 * np.eye(len(flips))
    expected = np.stack([(mz(flips + step) - mz(flips - step)) / 2e-5 for step in steps], axis=1)
    assert mz_slopes(flips, delays, t1, b1, first) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_worst_is_not_between_grid_points(scheme):
    published, delays = SCHEMES[scheme]
    flips = optimal_flip_angles(published, delays, T1_S, B1)
    fine = worst_plainly(flips, delays, T1_S, B1, n=(15, 201))
    assert worst_mz(flips, delays, T1_S, B1) == pytest.approx(fine, rel=0.02, abs=2e-5)


# --- Optimum ---------------------------------------------------------------------------------------------------------

RANGES = [
    ((0.83, 1.82), (0.8, 1.2)),
    (T1_S, B1),
    ((0.83, 1.82), (0.95, 1.05)),
    ((0.83, 1.82), (0.6, 1.4)),
    ((2.5, 2.5), (1.0, 1.0)),
    ((0.3, 0.4), (0.7, 1.1)),
    ((1.2, 4.5), (0.5, 1.0)),
]


@pytest.mark.parametrize(("t1_range", "b1_range"), RANGES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_never_worse_than_published_and_mostly_far_better(scheme, t1_range, b1_range):
    published, delays = SCHEMES[scheme]
    flips = optimal_flip_angles(published, delays, t1_range, b1_range)
    assert all(0 <= flip <= math.pi for flip in flips)
    found = worst_plainly(flips, delays, t1_range, b1_range)
    assert found < 0.75 * worst_plainly(np.radians(published), delays, t1_range, b1_range)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_better_than_the_published_angles_at_any_power(scheme):
    """An operator turns one knob: all flip angles times a factor."""
    published, delays = SCHEMES[scheme]
    best = min(
        worst_mz(scale * np.radians(published), delays, T1_S, B1) for scale in np.linspace(0.5, 1.12, 125).tolist()
    )
    assert worst_mz(optimal_flip_angles(published, delays, T1_S, B1), delays, T1_S, B1) < 0.75 * best


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_small_change_of_the_angles_is_better(scheme):
    """2000 random steps of up to 3 degrees: none lowers the worst by more than rounding to tenths costs."""
    published, delays = SCHEMES[scheme]
    flips = np.array(optimal_flip_angles(published, delays, T1_S, B1))
    t1, b1, first = np.meshgrid(np.geomspace(*T1_S, 4), np.linspace(*B1, 17), FIRST_MZ)
    steps = np.random.default_rng(0).normal(size=(2000, len(flips)))
    steps *= np.radians(10 ** np.linspace(-1, 0.5, 2000))[:, None] / np.linalg.norm(steps, axis=1, keepdims=True)
    mz = np.tile(first.ravel(), (2001, 1))
    for flip, delay in zip(np.vstack([flips, flips + steps]).T, delays, strict=True):
        mz = 1 + (mz * np.cos(b1.ravel() * flip[:, None]) - 1) * np.exp(-delay / t1.ravel())
    worst = np.abs(mz).max(1)
    assert worst[1:].min() > worst[0] - (1e-4 if scheme == "wet" else 3e-5)


def test_two_pulses_against_every_pair_of_angles():
    """Brute force in steps of half a degree, the optimum is rounded to a tenth."""
    delays = (0.04, 0.03)
    t1, b1 = np.linspace(0.3, 0.5, 4), np.linspace(0.8, 1.2, 17)
    angles = np.radians(np.arange(0, 180.5, 0.5))
    a, b, t, s = np.meshgrid(angles, angles, t1, b1, indexing="ij", sparse=True)
    worst = np.zeros((len(angles), len(angles)))
    for first in FIRST_MZ:
        mz = 1 + (first * np.cos(s * a) - 1) * np.exp(-delays[0] / t)
        mz = 1 + (mz * np.cos(s * b) - 1) * np.exp(-delays[1] / t)
        worst = np.maximum(worst, np.abs(mz).max((2, 3)))
    found = worst_mz(optimal_flip_angles((90.0, 90.0), delays, (0.3, 0.5), (0.8, 1.2)), delays, (0.3, 0.5), (0.8, 1.2))
    assert found <= worst.min() + 1e-3
    assert found >= worst.min() - 5e-3


def test_one_pulse_in_closed_form():
    """One T1, one B1: cos(flip) = 1 - exp(delay / T1) for a start in equilibrium, balanced between both starts."""
    e = math.exp(-0.05 / 0.4)
    flip = optimal_flip_angles((90.0,), (0.05,), (0.4, 0.4), (1.0, 1.0))[0]
    low, high = FIRST_MZ
    balanced = -2 * (1 - e) / (e * (low + high))
    assert flip == pytest.approx(math.acos(balanced), abs=math.radians(0.06))


def search(scheme, t1_range, b1_range, **options):
    published, delays = SCHEMES[scheme]
    t1, b1, first = np.meshgrid(np.geomspace(*t1_range, 5), np.linspace(*b1_range, 15), FIRST_MZ)

    def worst(flips):
        mz = first
        for flip, delay in zip(flips, delays, strict=True):
            mz = 1 + (mz * np.cos(b1 * flip) - 1) * np.exp(-delay / t1)
        return np.abs(mz).max()

    bounds = [(0, math.pi)] * len(published)
    return differential_evolution(worst, bounds, seed=2, tol=1e-8, init="sobol", **options).fun


@pytest.mark.slow
@pytest.mark.parametrize(("t1_range", "b1_range"), RANGES[:4])
def test_wet_against_a_global_search(t1_range, b1_range):
    """Within 7 % of the best that differential evolution finds."""
    found = wet(0.06, t1_range, b1_range).residual
    assert found <= 1.07 * search("wet", t1_range, b1_range, popsize=20) + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("t1_range", "b1_range"), RANGES[:2])
def test_vapor_against_a_global_search(t1_range, b1_range):
    """Seven angles leave less than a thousandth: within 3e-4 of the best that differential evolution finds."""
    found = vapor(VAPOR_DELAY_S, t1_range, b1_range).residual
    assert found <= search("vapor", t1_range, b1_range, popsize=15, maxiter=800) + 3e-4


def test_the_same_angles_every_time_in_tenths_of_a_degree():
    published, delays = SCHEMES["vapor"]
    first = optimal_flip_angles(published, delays, T1_S, B1)
    optimal_flip_angles.cache_clear()
    assert optimal_flip_angles(published, delays, T1_S, B1) == first
    tenths = np.degrees(first) * 10
    assert tenths == pytest.approx(np.round(tenths), abs=1e-9)


# --- Pulses ----------------------------------------------------------------------------------------------------------


def play_pulse(timed, offset_hz, b1_scale=1.0):
    """Mz after a pulse that found equilibrium, by Bloch equations in plain NumPy."""
    waveform = timed.block.rf.b1_hz.numpy()
    coarse = waveform.reshape(-1, 20).mean(1)
    n = len(offset_hz)
    still = np.zeros((len(coarse), 3))
    dwell_s = 20 * timed.block.rf.raster_s
    return bloch.play(bloch.along_z(n), b1_scale * coarse, still, dwell_s, np.zeros((n, 3)), offset_hz)[:, 2]


@pytest.mark.parametrize("train", [wet(0.06, T1_S, B1), vapor(VAPOR_DELAY_S, T1_S, B1)], ids=["wet", "vapor"])
def test_pulses_turn_water_by_their_angles(train):
    for timed, flip in zip(water_pulses(train, duration_s=0.02, scanner=SCANNER), train.flip_angle_rad, strict=True):
        assert play_pulse(timed, np.zeros(1)) == pytest.approx(math.cos(flip), abs=1e-9)
        assert timed.block.rf.use == "saturation"
        assert timed.block.rf.frequency_hz == 0


@pytest.mark.parametrize(
    ("train", "kept_below_3_6", "kept_below_3_9"),
    [(wet(0.06, T1_S, B1), 0.995, 0.97), (vapor(VAPOR_DELAY_S, T1_S, B1), 0.995, 0.97)],
    ids=["wet", "vapor"],
)
def test_metabolites_are_left_alone(train, kept_below_3_6, kept_below_3_9):
    """20 ms Gaussians at 123.2 MHz, water at 4.8 ppm; without relaxation, B1 up to 1.2 of nominal."""
    ppm = np.linspace(0.9, 3.9, 61)
    offset_hz = (ppm - WATER_PPM) * F0_HZ * 1e-6
    for b1_scale in (1.0, 1.2):
        kept = np.ones(len(ppm))
        for timed in water_pulses(train, duration_s=0.02, scanner=SCANNER):
            kept *= play_pulse(timed, offset_hz, b1_scale)
        assert kept[ppm <= 3.6].min() > kept_below_3_6
        assert kept.min() > kept_below_3_9


def test_a_short_pulse_beyond_the_amplitude_is_refused():
    with pytest.raises(HardwareLimitError, match=r"Pulse WET 1 peaks at .* Lengthen the pulse"):
        water_pulses(wet(0.06, T1_S, B1), duration_s=4e-4, scanner=SCANNER)
