"""Saturation slabs: Bloch equations in plain NumPy on the blocks as they are built."""

import math
from dataclasses import replace

import bloch
import numpy as np
import pytest
from press_files import F0_HZ, SCANNER, WATER_PPM, context
from scipy.spatial.transform import Rotation

from seqgen.errors import HardwareLimitError
from seqgen.sequence.outer_volume import OuterVolumeParams, slab_block, slab_flip_angles, slabs

PARAMS = OuterVolumeParams(
    voxel_size_m=(0.02, 0.025, 0.03),
    voxel_position_m=(0.012, -0.005, 0.02),
    voxel_rotation_rad=(0.3, -0.2, 0.5),
    outer_volume_suppression=True,
)
# Rows: the voxel's own axes in gradient coordinates, from matrices written out.
_X, _Y, _Z = (
    np.array([[1, 0, 0], [0, math.cos(0.3), -math.sin(0.3)], [0, math.sin(0.3), math.cos(0.3)]]),
    np.array([[math.cos(-0.2), 0, math.sin(-0.2)], [0, 1, 0], [-math.sin(-0.2), 0, math.cos(-0.2)]]),
    np.array([[math.cos(0.5), -math.sin(0.5), 0], [math.sin(0.5), math.cos(0.5), 0], [0, 0, 1]]),
)
AXES = (_Z @ _Y @ _X).T
CENTRE_M = np.asarray(PARAMS.voxel_position_m)


def profile(timed, along_m, direction, ppm, b1_scale=1.0):
    """Mz after a slab's pulse that found equilibrium, at points `along_m` from the voxel's centre along a direction."""
    rf = timed.block.rf
    waveform = rf.b1_hz.numpy().reshape(-1, 10).mean(1)
    dwell_s = 10 * rf.raster_s
    t = (np.arange(len(waveform)) + 0.5) * dwell_s - rf.centre_s
    gradient = np.array([0.0 if lobe is None else lobe.amplitude_hz_per_m for lobe in timed.block.gradients])
    points = CENTRE_M + np.asarray(along_m)[:, None] * direction
    return bloch.play(
        bloch.along_z(len(points)),
        b1_scale * waveform * np.exp(2j * np.pi * rf.frequency_hz * t),
        np.tile(gradient, (len(waveform), 1)),
        dwell_s,
        points,
        np.full(len(points), (ppm - WATER_PPM) * F0_HZ * 1e-6),
    )[:, 2]


def edges_m(along_m, mz):
    """Outermost positions at which half of the saturation is left, interpolated."""
    saturated = 1 - mz
    inside = np.flatnonzero(saturated >= 0.5 * saturated.max())
    crossing = []
    for k, step in ((inside[0], -1), (inside[-1], 1)):
        a, b = saturated[k], saturated[k + step]
        crossing.append(along_m[k] + (a - 0.5) / (a - b) * (along_m[k + step] - along_m[k]))
    return crossing


def test_the_axes_of_the_test_are_those_of_the_parameters():
    assert pytest.approx(Rotation.from_euler("xyz", PARAMS.voxel_rotation_rad).as_matrix().T) == AXES


@pytest.mark.parametrize("number", range(6))
def test_a_slab_lies_where_asked_for_spins_at_the_carrier(number):
    """Half of the saturation at the gap from the face, and again after the thickness; nothing left in the middle."""
    slab = slabs(PARAMS)[number]
    assert (slab.axis, slab.side, slab.number) == (number // 2, (-1, 1)[number % 2], number)
    outwards = slab.side * AXES[slab.axis]
    face_m = 0.5 * PARAMS.voxel_size_m[slab.axis]
    along_m = np.arange(-face_m, face_m + 0.05, 2.5e-4)
    mz = profile(slab_block(slab, PARAMS, context()), along_m, outwards, PARAMS.outer_volume_carrier_ppm)
    near, far = edges_m(along_m, mz)
    assert near == pytest.approx(face_m + PARAMS.outer_volume_gap_m, abs=1e-4)
    assert far - near == pytest.approx(PARAMS.outer_volume_thickness_m, abs=2e-4)
    middle = np.abs(along_m - 0.5 * (near + far)) < 0.3 * PARAMS.outer_volume_thickness_m
    assert np.abs(mz[middle]).max() < 0.02


@pytest.mark.parametrize("ppm", [0.9, 1.3, 2.0, 3.0, WATER_PPM])
def test_the_voxel_keeps_its_magnetisation(ppm):
    """More than 99 % at every point of the voxel for what lies at the carrier or downfield, 98 % upfield of it.

    Six slabs of 97 degrees at nominal B1; at 1.2 of nominal the mean over the voxel stays above 99 %.
    """
    for b1_scale in (1.0, 1.2):
        lowest, mean = 1.0, 1.0
        for axis in range(3):
            along_m = np.linspace(-0.5, 0.5, 41) * PARAMS.voxel_size_m[axis]
            kept = np.ones(len(along_m))
            for slab in slabs(PARAMS)[2 * axis : 2 * axis + 2]:
                timed = slab_block(slab, PARAMS, context(), flip_angle_rad=math.radians(97))
                kept *= profile(timed, along_m, AXES[axis], ppm, b1_scale)
            lowest, mean = lowest * kept.min(), mean * kept.mean()
        assert lowest > (0.99 if ppm >= 1.3 else 0.93) if b1_scale == 1 else mean > 0.99


@pytest.mark.parametrize("side", [0, 1])
def test_spins_downfield_of_the_carrier_are_saturated_further_out(side):
    """By the shift in Hz over the gradient, on either side of the voxel."""
    slab = slabs(PARAMS)[2 + side]
    timed = slab_block(slab, PARAMS, context())
    outwards, face_m = slab.side * AXES[slab.axis], 0.5 * PARAMS.voxel_size_m[slab.axis]
    along_m = np.arange(0.0, face_m + 0.06, 2.5e-4)
    lipid, water = (edges_m(along_m, profile(timed, along_m, outwards, ppm))[0] for ppm in (1.3, WATER_PPM))
    strength = math.sqrt(sum(lobe.amplitude_hz_per_m**2 for lobe in timed.block.gradients if lobe is not None))
    assert water - lipid == pytest.approx((WATER_PPM - 1.3) * F0_HZ * 1e-6 / strength, abs=1e-4)
    assert water > lipid


@pytest.mark.parametrize("delays", [(0.01,), (0.045,), (0.085,), (0.1, 0.05)])
def test_lipids_are_gone_at_the_excitation(delays):
    """Mz in the middle of a slab at nominal B1: within 5 % of M0 for T1 0.38 s, 8 % from 0.3 to 0.5 s."""
    flips, worst = slab_flip_angles(delays, PARAMS, (0.8, 1.2))
    slab = slabs(PARAMS)[0]
    turned = [
        float(profile(slab_block(slab, PARAMS, context(), flip_angle_rad=flip), [0.03], -AXES[0], 1.3)[0])
        for flip in flips
    ]
    for t1_s, limit in ((0.3, 0.08), (0.38, 0.05), (0.5, 0.08)):
        mz = 1.0
        for left, delay in zip(turned, delays, strict=True):
            mz = 1 + (mz * left - 1) * math.exp(-delay / t1_s)
        assert abs(mz) < limit
    assert worst < (0.4 if len(delays) == 1 else 0.1)


def test_off_means_no_slabs():
    assert slabs(replace(PARAMS, outer_volume_suppression=False)) == ()


def test_some_axes_in_the_order_of_the_voxel():
    assert [slab.name for slab in slabs(replace(PARAMS, outer_volume_axes=(3, 1)))] == [
        "slab -1",
        "slab +1",
        "slab -3",
        "slab +3",
    ]


def test_a_thin_slab_names_the_thinnest():
    thin = replace(PARAMS, outer_volume_thickness_m=1e-4)
    slab = slabs(thin)[0]
    says = r"outer_volume_thickness_m must be at least ([\d.]+) mm .* but is 0.1"
    with pytest.raises(HardwareLimitError, match=says) as caught:
        slab_block(slab, thin, context())
    least_m = float(str(caught.value).split("at least ")[1].split(" mm")[0]) * 1e-3
    thicker = replace(PARAMS, outer_volume_thickness_m=1.001 * least_m)
    assert slab_block(slabs(thicker)[0], thicker, context()).block.rf is not None


def test_rf_beyond_the_amplitude_is_refused():
    with pytest.raises(HardwareLimitError, match="Pulse slab -1 peaks at"):
        slab_block(slabs(PARAMS)[0], PARAMS, context(scanner=replace(SCANNER, b1_max_t=1e-5)))
