"""Where the slices of a file act, against Bloch equations in plain NumPy at positions in three dimensions."""

import math
from dataclasses import replace

import bloch
import numpy as np
import pytest
from press_files import F0_HZ, PARAMS, PRESS, SCANNER, WATER_PPM, build, context, write

from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import find_sequence
from seqgen.sequence.voxel import voxel_of
from seqgen.verify.profile import check_voxel_place, slice_profiles

TURN = (0.3, -0.5, 0.7)
CARRIER_PPM, GLU_H4_PPM = 2.8, 2.35
POLARITIES = [(1, 1, 1), (-1, -1, -1), (1, -1, 1)]


def offset_hz(ppm):
    return (ppm - WATER_PPM) * F0_HZ * 1e-6


@pytest.fixture(scope="module", params=POLARITIES, ids=str)
def polarity(request):
    return request.param


@pytest.fixture(scope="module")
def oblique(polarity, tmp_path_factory):
    """A double-oblique, off-centre PRESS, read back: (file, asked box)."""
    params = replace(PARAMS, voxel_rotation_rad=TURN, gradient_polarity=polarity, water_suppression="none")
    path = tmp_path_factory.mktemp("oblique") / "press.seq"
    return read_seq(write(path, PRESS.build(params, context()))), voxel_of(params)


def pulses(seq):
    """The three pulses of a metabolite shot."""
    return [interval for _, interval in shots(seq)[1].timeline.pulses()]


def middles(seq, voxel, ppm):
    """(3, 3): half-maximum midpoint less asked centre along each voxel axis at three places beside that axis, m."""
    aside = np.random.default_rng(3).uniform(-0.35, 0.35, (3, 3))
    found = np.empty((3, 3))
    for axis, interval in enumerate(pulses(seq)):
        along_m = np.linspace(-0.8, 0.8, 161) * voxel.size_m[axis]
        for row, lateral in enumerate(aside * np.array(voxel.size_m)):
            lateral[axis] = 0.0
            place = np.array(voxel.centre_m) + lateral @ voxel.axes + along_m[:, None] * voxel.axes[axis]
            # RF is constant for 10 us in the frame of its carrier: play it there.
            t_s = (np.arange(interval.n_samples) + 0.5) * interval.dwell_s
            still = (interval.b1_hz.numpy() * np.exp(-2j * np.pi * interval.carrier_hz * t_s)).reshape(-1, 10).mean(1)
            gradient = interval.gradient_hz_per_m.numpy()[::10]
            offset = np.full(along_m.size, offset_hz(ppm) - interval.carrier_hz)
            played = bloch.play(bloch.along_z(along_m.size), still, gradient, 10 * interval.dwell_s, place, offset)
            profile = np.hypot(played[:, 0], played[:, 1]) if axis == 0 else (1 - played[:, 2]) / 2
            found[axis, row] = bloch.half_maximum(along_m, profile)[0]
    return found


def test_slices_sit_where_asked_by_bloch_equations_and_by_the_check(oblique):
    seq, voxel = oblique
    assert np.abs(middles(seq, voxel, CARRIER_PPM)).max() < 1e-4
    *slices, reach = check_voxel_place(seq, SCANNER)
    assert [check.name for check in slices] == [
        "slice 1 (excitation) centre",
        "slice 2 (refocusing) centre",
        "slice 3 (refocusing) centre",
    ]
    assert all(check.status == "passed" and check.value < 0.01 and check.limit == 0.1 for check in slices)
    assert (reach.status, reach.limit) == ("not checked", None)


def test_the_displacement_of_glu_h4_is_that_of_bloch_equations_and_turns_with_the_polarity(oblique, polarity):
    seq, voxel = oblique
    offsets = {"carrier_offset_hz": offset_hz(CARRIER_PPM), "shift_offset_hz": offset_hz(GLU_H4_PPM)}
    profiles = slice_profiles(pulses(seq), **offsets)
    by_bloch = middles(seq, voxel, GLU_H4_PPM)
    for axis, profile in enumerate(profiles):
        moved_m = profile.displacement_m @ voxel.axes[axis]
        assert moved_m == pytest.approx(by_bloch[axis], abs=5e-5)
        # 0.45 ppm below the carrier is met further up the gradient.
        assert moved_m == pytest.approx(polarity[axis] * 0.45e-6 * F0_HZ / profile.gradient_hz_per_m, rel=1e-3)
        np.testing.assert_allclose(profile.direction, polarity[axis] * voxel.axes[axis], atol=1e-5)
        assert profile.thickness_m == pytest.approx(voxel.size_m[axis], rel=5e-3)
    for profile in profiles:
        assert profile.centre_m == pytest.approx(profile.direction @ voxel.centre_m, abs=1e-5)
    note = check_voxel_place(seq, SCANNER)[1].note
    moved = ", ".join(f"{value * 1e3:.2f}" for value in profiles[1].displacement_m + 0.0)
    assert f"2.35 ppm displaced by ({moved}) mm" in note


def test_saturation_slabs_beside_the_voxel_are_not_taken_for_its_slices(tmp_path):
    built = build(voxel_rotation_rad=TURN, outer_volume_suppression=True, outer_volume_axes=(1, 3))
    seq = read_seq(write(tmp_path / "new.seq", built))
    assert [check.status for check in check_voxel_place(seq, SCANNER)] == ["passed"] * 3 + ["not checked"]
    stated = check_voxel_place(read_seq(write(tmp_path / "old.seq", built, "1.4.1")), SCANNER)
    assert [check.status for check in stated] == ["passed"] * 3 + ["not checked"]
    old = check_voxel_place(read_seq(unstated(tmp_path / "old.seq")), SCANNER)
    assert [check.status for check in old] == ["passed"] * 3 + ["not checked"] * 2
    assert old[3].note.startswith("4 selective pulses; a 1.4 file does not say which of them saturate")


def unstated(path):
    """The same 1.4 file, unsigned, without the definitions that state what pulses are for."""
    lines = path.read_text().partition("[SIGNATURE]")[0].splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("seqgen_rf_use")) + "\n")
    return path


@pytest.mark.parametrize(
    ("name", "uses"),
    [
        ("steam", ["excitation"] * 3),
        ("slaser", ["excitation", "refocusing", "refocusing"]),  # pairs of equal pulses
        ("isis_press", ["inversion", "refocusing", "refocusing"]),  # the inversion plays in every other shot
    ],
)
def test_every_different_pulse_of_every_shot_is_checked(name, uses, tmp_path):
    spec = find_sequence(name)
    changes = {"voxel_rotation_rad": TURN, "voxel_position_m": (0.03, -0.02, 0.04)}
    changes |= {"averages": 16, "dummy_scans": 0, "adc_samples": 64, "water_suppression": "none"}
    built = spec.build(sensible_params(spec, context(), **changes), context())
    *slices, _ = check_voxel_place(read_seq(write(tmp_path / "new.seq", built)), SCANNER)
    assert [(check.name, check.status) for check in slices] == [
        (f"slice {number} ({use}) centre", "passed") for number, use in enumerate(uses, 1)
    ]
    stated = check_voxel_place(read_seq(write(tmp_path / "old.seq", built, "1.4.1")), SCANNER)
    assert [check.status for check in stated] == ["passed"] * 3 + ["not checked"]
    old = check_voxel_place(read_seq(unstated(tmp_path / "old.seq")), SCANNER)
    before = [check.note for check in old if check.name == "slices before the excitation"]
    assert before == (["1 selective pulses; a 1.4 file does not say which of them saturate"] if "isis" in name else [])
    assert sum(check.status == "passed" for check in old) == 3 - len(before)


def test_a_file_that_states_another_place_fails(oblique, tmp_path):
    seq, _ = oblique
    position = np.array(seq.definition_numbers("VoxelPosition"))
    rotation = np.array(seq.definition_numbers("VoxelRotation")).reshape(3, 3)
    moved = position + 1.5e-4 * rotation[:, 1]
    wrong = {"VoxelPosition": " ".join(map(str, moved))}
    statuses = [check.status for check in check_voxel_place(stating(seq, wrong), SCANNER)]
    assert statuses == ["passed", "failed", "passed", "not checked"]
    wrong = {"seqgen_slice_carrier_ppm": "3.0"}
    assert [check.status for check in check_voxel_place(stating(seq, wrong), SCANNER)][:3] == ["failed"] * 3
    turn = math.radians(0.1)
    about_z = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    wrong = {"VoxelRotation": " ".join(map(str, (rotation @ about_z).reshape(-1)))}
    tilted = check_voxel_place(stating(seq, wrong), SCANNER)
    assert [check.status for check in tilted[:3]] == ["failed", "failed", "passed"]
    assert "tilted by 0.100 degrees" in tilted[0].note


@pytest.mark.parametrize("key", ["VoxelPosition", "VoxelRotation", "seqgen_slice_carrier_ppm", "seqgen_reference_ppm"])
def test_what_a_file_does_not_state_is_not_checked(oblique, key):
    seq, _ = oblique
    (check,) = check_voxel_place(stating(seq, {key: ""}), SCANNER)
    assert (check.status, check.note) == ("not checked", f"the file does not state {key}")


def test_the_furthest_corner_is_compared_with_the_profile(oblique):
    seq, voxel = oblique
    furthest_m = np.linalg.norm(voxel.corners_m, axis=1).max()
    for radius_m, status in ((furthest_m + 1e-6, "passed"), (furthest_m - 1e-6, "failed")):
        check = check_voxel_place(seq, replace(SCANNER, usable_radius_m=radius_m))[-1]
        assert (check.status, check.value) == (status, pytest.approx(furthest_m * 1e3, abs=1e-6))


def stating(seq, definitions):
    """The file with some definitions changed."""
    return replace(seq, definitions=seq.definitions | definitions)


def test_an_axis_that_nothing_selects_is_not_checked(tmp_path):
    """PRESS whose second refocusing pulse plays without gradient: two axes are judged, the third is named."""
    whole = build()
    third = {id(block) for block in whole.blocks if block.rf is not None and block.rf.name == "refocusing 2"}
    assert third
    bare = replace(
        whole,
        blocks=tuple(
            replace(block, gradients=(None, None, None)) if id(block) in third else block for block in whole.blocks
        ),
    )
    checks = {
        check.name: check.status for check in check_voxel_place(read_seq(write(tmp_path / "b.seq", bare)), SCANNER)
    }
    assert checks["slice along voxel axis 3"] == "not checked"
    full = {check.name for check in check_voxel_place(read_seq(write(tmp_path / "w.seq", whole)), SCANNER)}
    assert not any(name.startswith("slice along voxel axis") for name in full)
