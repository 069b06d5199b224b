"""Every localised sequence, as PyPulseq reads its file, plays to single spins (isochromats.py): where they signal."""

import math
from functools import cache

import isochromats
import numpy as np
import pytest
from isochromats import at_point, averaged, line, play, trimmed
from localised import AXES, CARRIER_HZ, KINDS, OBLIQUE, SIZE_M, shots_of

ALL = list(KINDS)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Shots of a sequence, built once: of MEGA-PRESS those with the editing pulses far away (OFF)."""

    @cache
    def made(kind, **changes):
        every = shots_of(kind, tmp_path_factory.mktemp(kind), **changes)
        return every[KINDS[kind].sets - 1 :: KINDS[kind].sets]

    return made


@cache
def profile(made, kind, axis):
    """(coordinate from the voxel's centre, complex signal after the whole cycle) along an axis of the oblique voxel."""
    reach_m = 1.25 * SIZE_M[axis] + isochromats.CELL_M
    x, position = line(OBLIQUE["voxel_position_m"], AXES, axis, reach_m)
    signal = averaged(play(made(kind, **OBLIQUE), position, CARRIER_HZ)).mean(0)
    return trimmed(x), signal


def half_maximum(x, signal):
    """(middle, width) between the outermost crossings of half the value in the middle."""
    size = np.abs(signal)
    half = 0.5 * size[len(size) // 2]
    inside = np.flatnonzero(size >= half)
    first, last = inside[0], inside[-1]
    low = np.interp(half, size[first - 1 : first + 1], x[first - 1 : first + 1])
    high = np.interp(-half, -size[last : last + 2], x[last : last + 2])
    return 0.5 * (low + high), high - low


def flip_rad(block):
    """Flip angle on resonance of a pulse that is real in its carrier's frame: its integral."""
    return 2 * math.pi * abs(np.sum(block.rf.signal)) * 1e-6


def pulses(blocks):
    """Blocks of a shot that hold RF."""
    return [block for block in blocks if block.rf is not None]


# --- Where the signal comes from -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("kind", ALL)
def test_spins_in_the_voxel_give_the_whole_signal(shots, kind, axis):
    """SLR pulses ripple by 1 % and GOIA pulses invert 99.4 %: a signal of 0.97 to 1 that adds up within the voxel."""
    x, signal = profile(shots, kind, axis)
    inside = signal[np.abs(x) < 0.25 * SIZE_M[axis]] / KINDS[kind].full
    assert np.abs(inside).min() > 0.965
    assert np.abs(inside).max() < 1.001
    assert abs(inside.mean()) > 0.994 * np.abs(inside).mean()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("kind", ALL)
def test_spins_outside_the_voxel_give_none(shots, kind, axis):
    x, signal = profile(shots, kind, axis)
    size = np.abs(signal) / KINDS[kind].full
    outside = np.abs(x) > 0.75 * SIZE_M[axis]
    assert outside.sum() > 50
    assert size[outside].max() < 1e-2
    assert size[outside].sum() < 1e-2 * size.sum()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("kind", ALL)
def test_the_profile_is_where_and_as_wide_as_asked(shots, kind, axis):
    middle_m, width_m = half_maximum(*profile(shots, kind, axis))
    assert middle_m == pytest.approx(0.0, abs=1e-4)
    assert width_m == pytest.approx(SIZE_M[axis], rel=0.005)


@pytest.mark.parametrize("polarity", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("kind", ["press", "steam", "isis_press"])
def test_other_shifts_are_displaced_against_the_gradients(shots, kind, polarity):
    """Spins f Hz above the carrier meet it -f / G away, along the direction in which G is positive."""
    made, other_hz = shots(kind, gradient_polarity=polarity, **OBLIQUE), 150.0
    # The first axis is selected by the first pulse with a gradient, the others by the two last pulses.
    selective = [block for block in pulses(made[0]) if np.abs(block.corner_hz_per_m).max() > 0]
    for axis, block in zip(range(3), [selective[0], *selective[-2:]], strict=True):
        gradient = block.moment_per_m(0.5 * block.duration_s + 1e-4) - block.moment_per_m(0.5 * block.duration_s)
        along = float(gradient @ AXES[axis]) / 1e-4
        assert along * polarity[axis] > 0
        x, position = line(OBLIQUE["voxel_position_m"], AXES, axis, 0.7 * SIZE_M[axis] + isochromats.CELL_M)
        signal = averaged(play(made, position, CARRIER_HZ + other_hz)).mean(0)
        middle_m, width_m = half_maximum(trimmed(x), signal)
        assert middle_m == pytest.approx(-other_hz / along, abs=1e-4)
        assert width_m == pytest.approx(SIZE_M[axis], rel=0.01)


@pytest.mark.slow
def test_reversed_gradients_leave_a_slaser_where_it_is(shots):
    made = shots("slaser", gradient_polarity=(-1, 1, -1), **OBLIQUE)
    for axis in range(3):
        x, position = line(OBLIQUE["voxel_position_m"], AXES, axis, 0.7 * SIZE_M[axis] + isochromats.CELL_M)
        middle_m, width_m = half_maximum(trimmed(x), averaged(play(made, position, CARRIER_HZ)).mean(0))
        assert middle_m == pytest.approx(0.0, abs=1e-4)
        assert 0.94 * SIZE_M[axis] < width_m < 1.005 * SIZE_M[axis]


def test_editing_pulses_store_no_signal_along_z(tmp_path):
    """What one editing pulse stored and the other recalled would pass the second refocusing pulse: no slice there."""
    on = shots_of("mega_press", tmp_path)[0::2]
    outside = np.asarray([0.0, 0.0, SIZE_M[2]])
    for ppm in (1.3, 1.6, 2.2, 2.8):
        signal = at_point(on, outside, np.eye(3), (ppm - 4.8) * 123.2)
        assert abs(signal.mean()) < 1e-2


# --- Phase -----------------------------------------------------------------------------------------------------------


CYCLES = [(kind, {}) for kind in ALL] + [
    ("press", {"phase_cycle": "exor_16", "averages": 16}),
    ("slaser", {"phase_cycle": "exor_16", "averages": 16}),
    ("steam", {"phase_cycle": "eight_step", "averages": 8}),
    ("isis_press", {"phase_cycle": "exor_4", "averages": 8}),
]


@pytest.mark.parametrize(("kind", "cycle"), CYCLES)
def test_every_step_has_the_same_phase_wherever_the_voxel_lies(shots, kind, cycle):
    home = at_point(shots(kind, **cycle), (0.0, 0.0, 0.0), np.eye(3), CARRIER_HZ)
    away = at_point(shots(kind, **OBLIQUE, **cycle), OBLIQUE["voxel_position_m"], AXES, CARRIER_HZ)
    phases = np.angle(np.concatenate([home, away]) / home[0])
    assert np.abs(phases).max() < 5e-3
    assert np.abs(away) == pytest.approx(np.abs(home), abs=2e-3)


PHASE_RAD = dict.fromkeys(ALL, 0.0)
"""Phase of the signal: 90-degree pulses about y turn +z to +x; the stimulated echo is inverted; ISIS-PRESS excites
about x."""


@pytest.mark.parametrize("kind", ALL)
def test_shifts_are_refocused_at_the_first_sample(shots, kind):
    """An SLR excitation counts from 39 us before its centre, 0.025 rad at 100 Hz; 3 ms late they are 1.9 rad apart."""
    offsets = (-100.0, -50.0, 0.0, 50.0, 100.0)
    home = [at_point(shots(kind), (0.0, 0.0, 0.0), np.eye(3), CARRIER_HZ + f).mean() for f in offsets]
    turned = np.asarray(home) * np.exp(-1j * PHASE_RAD[kind])
    assert np.abs(np.angle(turned)).max() < 0.03
    late = [at_point(shots(kind), (0.0, 0.0, 0.0), np.eye(3), CARRIER_HZ + f, late_s=3e-3).mean() for f in offsets]
    apart = np.angle(np.asarray(late) / np.asarray(home) * np.exp(-2j * math.pi * CARRIER_HZ * 3e-3))
    assert apart == pytest.approx(2 * math.pi * 3e-3 * np.asarray(offsets), abs=1e-6)


# --- Flip angles and phase cycles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("b1_scale", [0.85, 1.2])
def test_adiabatic_refocusing_stands_wrong_flip_angles(shots, b1_scale):
    """What is left in sLASER is the excitation's: sin(90 degrees x scale). PRESS loses (1 - cos)/2 twice on top."""
    left = {}
    for kind, made in (("slaser", shots("slaser")), ("press", shots("press"))):
        signals = [
            abs(at_point(made, (0.0, 0.0, 0.0), np.eye(3), CARRIER_HZ, b1_scale=scale).mean())
            for scale in (1.0, b1_scale)
        ]
        left[kind] = signals[1] / signals[0] / math.sin(0.5 * math.pi * b1_scale)
    assert left["slaser"] == pytest.approx(1.0, abs=0.04)
    assert left["press"] < left["slaser"] - 0.05


@pytest.mark.parametrize("kind", ["press", "mega_press"])
def test_exorcycle_lets_the_spin_echoes_alone_through(shots, kind):
    """A single spin at isocentre meets no gradient: what wrong flip angles leave over, the cycle alone must cancel."""
    b1_scale = 0.7
    made = shots(kind, phase_cycle="exor_16", averages=8 * KINDS[kind].steps)
    signal = play(made, np.zeros((1, 3)), CARRIER_HZ, b1_scale=b1_scale).mean(0)[0]
    excitation, *refocusing = [b for b in pulses(made[-1]) if b.rf.use in ("excitation", "refocusing")]
    expected = math.sin(b1_scale * flip_rad(excitation))
    expected *= math.prod(0.5 * (1 - math.cos(b1_scale * flip_rad(block))) for block in refocusing)
    assert abs(signal) == pytest.approx(expected, abs=3e-6)
    plain = play(shots(kind), np.zeros((1, 3)), CARRIER_HZ, b1_scale=b1_scale).mean(0)[0]
    assert abs(abs(plain) - expected) > 0.02


def test_eight_steps_let_the_stimulated_echo_alone_through(shots):
    """Without gradients both +1 and -1 are stored and recalled: the product of all three sines."""
    made = shots("steam", phase_cycle="eight_step", averages=8)
    signal = play(made, np.zeros((1, 3)), CARRIER_HZ, b1_scale=0.7).mean(0)[0]
    # Between the first two pulses the spin turns by its offset: along the second pulse's axis cos is stored.
    times_s = np.cumsum([block.duration_s for block in made[0]])
    first, second = [k for k, block in enumerate(made[0]) if block.rf is not None][:2]
    half_te_s = times_s[second - 1] - times_s[first - 1] if first else times_s[second - 1]
    assert half_te_s == pytest.approx(0.01, abs=1e-9)
    stored = abs(math.cos(2 * math.pi * CARRIER_HZ * half_te_s))
    expected = stored * math.prod(math.sin(0.7 * flip_rad(block)) for block in pulses(made[0]))
    assert abs(signal) == pytest.approx(expected, abs=3e-6)
    plain = play(shots("steam"), np.zeros((1, 3)), CARRIER_HZ, b1_scale=0.7).mean(0)[0]
    assert abs(abs(plain) - expected) > 0.02
