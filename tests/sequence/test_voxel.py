"""Where a voxel is asked to be, and where the selective pulses of a file put it: Bloch equations in plain NumPy."""

import math
from dataclasses import replace
from importlib.resources import files

import bloch
import numpy as np
import pytest
from press_files import F0_HZ, PRESS, SCANNER, WATER_PPM, context, write
from press_files import PARAMS as PRESS_PARAMS

from seqgen import library
from seqgen.errors import HardwareLimitError, InputError
from seqgen.pulse.shapes import slr_pulse
from seqgen.section import validate_section
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.blocks import selective
from seqgen.sequence.voxel import (
    VoxelParams,
    check_voxel,
    slice_directions,
    slice_position,
    voxel_axes,
    voxel_definitions,
    voxel_from_affine,
    voxel_of,
)
from seqgen.simulate.molecule import molecule_lines
from seqgen.spin.system import SpinGroup, SpinSystem
from seqgen.yamlfile import parse_yaml

PARAMS = VoxelParams(voxel_size_m=(0.02, 0.025, 0.03))


def rotation_matrix(about_x, about_y, about_z):
    """Turn about x, then y, then z, fixed axes, written out by hand."""
    cx, sx, cy, sy, cz, sz = (f(a) for a in (about_x, about_y, about_z) for f in (math.cos, math.sin))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def affine(size_m, rotation, position_m):
    """The affine of NIfTI, by hand: three rows."""
    return tuple(map(tuple, np.column_stack([rotation @ np.diag(size_m), position_m]).tolist()))


def read(text):
    """Parameters as a protocol states them."""
    return validate_section(VoxelParams, parse_yaml(text, "study.yaml"))


# --- Three rotations or an affine -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn", [(0.0, 0.0, 0.0), (0.3, -0.5, 0.7), (-2.9, 1.2, 3.0), (0.4, math.pi / 2, 0.0), (-0.4, -math.pi / 2, 0.0)]
)
def test_an_affine_says_the_same_as_three_rotations(turn):
    position = (0.01, -0.02, 0.03)
    matrix = rotation_matrix(*turn)
    by_affine = replace(PARAMS, voxel_affine_m=affine(PARAMS.voxel_size_m, matrix, position))
    by_turns = replace(PARAMS, voxel_position_m=position, voxel_rotation_rad=turn)
    for params in (by_affine, by_turns):
        np.testing.assert_allclose(voxel_axes(params), matrix.T, atol=1e-12)
        np.testing.assert_allclose(
            voxel_of(params).affine_m[:3], affine(PARAMS.voxel_size_m, matrix, position), atol=1e-12
        )
        np.testing.assert_allclose(params.voxel_position_m, position, atol=1e-15)
        check_voxel(params, SCANNER)
    assert by_affine.voxel_rotation_rad == pytest.approx(turn, abs=1e-8)
    assert replace(by_affine, slice_carrier_ppm=3.0).voxel_position_m == by_affine.voxel_position_m


def test_the_corners_are_those_of_the_affine():
    voxel = voxel_of(replace(PARAMS, voxel_position_m=(0.1, 0, 0), voxel_rotation_rad=(0.3, -0.5, 0.7)))
    index = np.array([[i, j, k, 1] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)])
    np.testing.assert_allclose(voxel.corners_m, (index @ voxel.affine_m.T)[:, :3], atol=1e-15)


def test_a_left_handed_affine_is_the_same_box():
    rotation = rotation_matrix(0.3, -0.5, 0.7) @ np.diag([1, 1, -1])
    voxel = voxel_from_affine(affine((0.02, 0.025, 0.03), rotation, (0, 0, 0)))
    assert np.linalg.det(voxel.axes) == pytest.approx(1)
    np.testing.assert_allclose(voxel.axes.T[:, :2], rotation[:, :2], atol=1e-12)
    np.testing.assert_allclose(voxel.axes[2], -rotation[:, 2], atol=1e-12)


def test_a_protocol_states_the_affine_in_mm():
    got = read("voxel_size_mm: [30, 20, 25]\nvoxel_affine_mm: [[0, -20, 0, 5], [30, 0, 0, -6], [0, 0, 25, 7]]\n")
    assert got.voxel_position_m == (0.005, -0.006, 0.007)
    np.testing.assert_allclose(voxel_axes(got), [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-15)
    assert got.voxel_rotation_rad == pytest.approx((0, 0, math.pi / 2))
    four = read(
        "voxel_size_mm: [30, 20, 25]\n"
        "voxel_affine_mm: [[0, -20, 0, 5], [30, 0, 0, -6], [0, 0, 25, 7], [0, 0, 0, 1]]\n"
        "gradient_polarity: [1, -1, 1]\n"
    )
    assert (four.voxel_position_m, four.gradient_polarity) == (got.voxel_position_m, (1, -1, 1))
    degrees = read("voxel_size_mm: [30, 20, 25]\nvoxel_rotation_deg: [0, 0, 90]\n")
    np.testing.assert_allclose(voxel_axes(degrees), voxel_axes(got), atol=1e-15)


ROWS = "[[20, 0, 0, 1], [0, 20, 0, 2], [0, 0, 20, 3]]"


@pytest.mark.parametrize(
    ("rows", "more", "line", "message"),
    [
        (ROWS, "voxel_position_mm: [1, 2, 4]", 3, r"voxel_position_m is .*voxel_affine_m states .*Give one of the two"),
        (
            ROWS,
            "voxel_rotation_deg: [0, 0, 5]",
            3,
            r"voxel_rotation_rad is .*voxel_affine_m states .*Give one of the two",
        ),
        (ROWS.replace("[20", "[21"), "", 2, r"edges of 21 x 20 x 20 mm, but voxel_size_m says 20 x 20 x 20 mm"),
        (ROWS.replace("[20, 0,", "[20, 9,"), "", 2, r"perpendicular edges, but the cosine between two of them is 0\.4"),
        (ROWS.replace("[20", "[0"), "", 2, r"three edges longer than 0"),
        (ROWS.replace(", [0, 0, 20, 3]]", "]"), "", 2, r"three or four rows of four finite numbers"),
        (ROWS.replace("3]]", "3], [0, 0, 0, 2]]"), "", 2, r"must end in the row 0 0 0 1"),
        (ROWS.replace("3]]", "3], [0, 1, 0, 1]]"), "", 2, r"must end in the row 0 0 0 1"),
        (ROWS.replace("20, 0, 0, 1", "20, 0, 1"), "", 2, r"voxel_affine_mm.*must be"),
    ],
)
def test_a_bad_or_contradicting_affine_is_refused_with_its_line(rows, more, line, message):
    with pytest.raises(InputError, match=rf"^study\.yaml:{line}: .*{message}"):
        read(f"voxel_size_mm: [20, 20, 20]\nvoxel_affine_mm: {rows}\n{more}\n")
    assert read(f"voxel_size_mm: [20, 20, 20]\nvoxel_affine_mm: {ROWS}\n").voxel_position_m == (0.001, 0.002, 0.003)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gradient_polarity", (1, 0, 1)),
        ("gradient_polarity", (1, 1)),
        ("gradient_polarity", (1, 1, 2)),
        ("slice_carrier_ppm", math.nan),
        ("voxel_size_m", (0.02, 0.0, 0.02)),
        ("voxel_position_m", (0.0, math.inf, 0.0)),
    ],
)
def test_impossible_parameters_are_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^{name} must be .* Change {name} in the sequence's parameters"):
        check_voxel(replace(PARAMS, **{name: value}), SCANNER)


# --- What the scanner reaches ----------------------------------------------------------------------------------------


def test_a_voxel_outside_the_usable_sphere_is_refused_with_limit_and_remedy():
    scanner = replace(SCANNER, usable_radius_m=0.25)
    # The corner of a 20 x 20 x 20 mm cube turned by 45 degrees about z stands 10 sqrt(2) mm out along x, 10 along z.
    cube = replace(PARAMS, voxel_size_m=(0.02,) * 3, voxel_rotation_rad=(0, 0, math.pi / 4))
    furthest_m = math.hypot(0.235 + 0.01 * math.sqrt(2), 0.01)
    assert 0.249 < furthest_m < 0.25
    check_voxel(replace(cube, voxel_position_m=(0.235, 0, 0)), scanner)
    with pytest.raises(
        HardwareLimitError, match=r"a corner lies 250\.3 mm from the isocentre, but .* up to 250 mm\. Move the voxel"
    ):
        check_voxel(replace(cube, voxel_position_m=(0.236, 0, 0)), scanner)
    check_voxel(replace(cube, voxel_position_m=(0.236, 0, 0)), SCANNER)  # not stated: not checked


def test_a_users_profile_states_what_is_usable(tmp_path):
    table = files("seqgen_data").joinpath("scanners.yaml").read_text(encoding="utf-8")
    prisma = table[table.index("  siemens_prisma_3t:") : table.index("  siemens_skyra_3t:")]
    path = tmp_path / "mine.yaml"
    assert "usable_radius_mm: {value: 250," in prisma
    path.write_text(f"schema_version: 1\nscanners:\n{prisma.replace('_mm: {value: 250,', '_mm: {value: 200,')}")
    assert library.scanner(path).usable_radius_m == 0.2
    assert library.scanner("siemens_prisma_3t").usable_radius_m == 0.25
    assert library.scanner("bruker_9p4t").usable_radius_m is None


def test_definitions_state_columns_as_axes():
    params = replace(PARAMS, voxel_rotation_rad=(0.3, -0.5, 0.7), voxel_position_m=(0.01, 0, 0))
    got = voxel_definitions(params)
    np.testing.assert_allclose(np.reshape(got["VoxelRotation"], (3, 3)), rotation_matrix(0.3, -0.5, 0.7), atol=1e-15)
    assert got["VoxelPosition"] == (0.01, 0, 0)
    assert got["seqgen_slice_carrier_ppm"] == 2.8


# --- What a selective pulse plays, off centre ------------------------------------------------------------------------

POLARITIES = [(1, 1, 1), (-1, -1, -1), (-1, 1, -1)]


@pytest.mark.parametrize("polarity", POLARITIES, ids=str)
def test_directions_and_positions_give_selective_the_same_slice_whatever_the_polarity(polarity):
    params = replace(
        PARAMS, voxel_position_m=(0.03, -0.02, 0.05), voxel_rotation_rad=(0.3, -0.5, 0.7), gradient_polarity=polarity
    )
    pulse = slr_pulse(flip_angle_rad=math.pi, time_bandwidth=5.2, duration_s=6e-3, dwell_s=1e-5, name="refocusing")
    carrier_hz = (2.8 - WATER_PPM) * F0_HZ * 1e-6
    axes = rotation_matrix(0.3, -0.5, 0.7)
    for axis, direction in enumerate(slice_directions(params)):
        timed = selective(
            pulse,
            bandwidth_hz=900.0,
            thickness_m=0.02,
            direction=direction,
            position_m=slice_position(params, direction),
            carrier_offset_hz=carrier_hz,
            phase_rad=0.0,
            use="refocusing",
            scanner=SCANNER,
        )
        gradient = np.array([0.0 if g is None else g.amplitude_hz_per_m for g in timed.block.gradients])
        np.testing.assert_allclose(gradient, polarity[axis] * 900.0 / 0.02 * axes[:, axis], rtol=1e-9)
        along_m = np.linspace(-0.012, 0.012, 241)
        place = np.array(params.voxel_position_m) + along_m[:, None] * axes[:, axis]
        played = bloch.play(
            bloch.along_z(along_m.size),
            pulse.b1_hz.numpy(),
            np.tile(gradient, (pulse.b1_hz.shape[0], 1)),
            pulse.dwell_s,
            place,
            np.full(along_m.size, carrier_hz - timed.block.rf.frequency_hz),
        )
        middle_m, _ = bloch.half_maximum(along_m, (1 - played[:, 2]) / 2)
        assert abs(middle_m) < 1e-5


# --- The echo of a voxel off centre ----------------------------------------------------------------------------------


def transfer(interval, place_m, offset_hz):
    """What a pulse makes of x, y and z vectors: (M+ from Mz, M+ from M-) at its end, shape (n,) each."""
    n, carrier_hz = len(place_m), interval.carrier_hz
    t_s = (np.arange(interval.n_samples) + 0.5) * interval.dwell_s
    # RF is constant for 10 us in the frame of its carrier: play it there, and come back.
    played = bloch.play(
        np.repeat(np.eye(3), n, axis=0),
        (interval.b1_hz.numpy() * np.exp(-2j * np.pi * carrier_hz * t_s)).reshape(-1, 10).mean(1),
        interval.gradient_hz_per_m.numpy()[::10],
        10 * interval.dwell_s,
        np.tile(place_m, (3, 1)),
        np.full(3 * n, offset_hz - carrier_hz),
    ).reshape(3, n, 3)
    x, y, z = (played[..., 0] + 1j * played[..., 1]) * np.exp(2j * np.pi * carrier_hz * interval.duration_s)
    return z, (x + 1j * y) / 2


def echo(shot, voxel, offset_hz):
    """The double spin echo of a shot, mean over a lattice about the voxel, receiver phase applied.

    M+ -> conj(M+) x transfer in a refocusing pulse, exp(2 pi i (offset t + moment r)) between: the one pathway, all
    gradients and times of the file.
    """
    steps = np.meshgrid(*[np.linspace(-0.7, 0.7, 15)] * 3, indexing="ij")
    along = np.stack(steps, -1).reshape(-1, 3) * np.array(voxel.size_m)
    place = np.array(voxel.centre_m) + along @ voxel.axes
    m, axis = None, 0
    for interval in shot.intervals:
        if interval.use is not None:
            # A slice knows its own axis only: its other two coordinates are those of the centre.
            line, number = np.unique(along[:, axis], return_inverse=True)
            on_axis = np.array(voxel.centre_m) + line[:, None] * voxel.axes[axis]
            excited, refocused = (values[number] for values in transfer(interval, on_axis, offset_hz))
            m, axis = excited if m is None else refocused * m.conj(), axis + 1
        elif m is not None:
            open_s = interval.duration_s
            if interval.receiver is not None:
                open_s = interval.receiver.delay_s + interval.receiver.dwell_s / 2
            cycles = offset_hz * open_s + place @ interval.moment_per_m.numpy() * open_s / interval.duration_s
            m = m * np.exp(2j * np.pi * cycles)
            if interval.receiver is not None:
                return m.mean() * np.exp(-1j * interval.receiver.phase_rad)
    return None


def press_shots(folder, **changes):
    """Both steps of the phase cycle of a PRESS without suppression, as built and read back, and its box."""
    params = replace(PRESS_PARAMS, water_suppression="none", dummy_scans=0, **changes)
    built = PRESS.build(params, context())
    as_built = phase_cycle(built_shots(built.blocks, SCANNER, "built"))
    as_read = phase_cycle(shots(read_seq(write(folder / "press.seq", built))))
    assert len(as_built) == len(as_read) == 2
    return as_built, as_read, voxel_of(params)


PLACES = {
    "straight": {"voxel_position_m": (0.04, -0.03, 0.05)},
    "oblique": {"voxel_position_m": (0.04, -0.03, 0.05), "voxel_rotation_rad": (0.3, -0.5, 0.7)},
    "reversed": {
        "voxel_position_m": (-0.04, 0.03, 0.05),
        "voxel_rotation_rad": (0.3, -0.5, 0.7),
        "gradient_polarity": (-1, 1, -1),
    },
}
AT_ISOCENTRE = {"voxel_position_m": (0.0, 0.0, 0.0), "voxel_rotation_rad": (0.0, 0.0, 0.0)}


@pytest.fixture(scope="module")
def isocentre(tmp_path_factory):
    return press_shots(tmp_path_factory.mktemp("isocentre"), **AT_ISOCENTRE)


@pytest.mark.parametrize("name", PLACES)
def test_an_off_centre_voxel_echoes_as_at_the_isocentre_by_bloch_equations(name, isocentre, tmp_path):
    """Frequency and phase offsets stay coherent over the echo: same signal, same phase, in both averages.

    A file keeps six digits of its gradients: moments of some thousand cycles/m are balanced to 0.01, which 7 cm from
    the isocentre are 2e-3 rad.
    """
    offset_hz = (2.8 - WATER_PPM) * F0_HZ * 1e-6
    *_, box = isocentre
    expected = [echo(shot, box, offset_hz) for shot in isocentre[0]]
    assert abs(expected[0]) > 0.1
    assert expected[1] == pytest.approx(expected[0], rel=1e-6)
    as_built, as_read, voxel = press_shots(tmp_path, **PLACES[name])
    assert [echo(shot, voxel, offset_hz) for shot in as_built] == pytest.approx(expected, rel=1e-4)
    assert [echo(shot, voxel, offset_hz) for shot in as_read] == pytest.approx(expected, rel=3e-3)


@pytest.mark.parametrize("name", PLACES)
def test_an_off_centre_voxel_echoes_as_at_the_isocentre_in_the_simulation(name, isocentre, tmp_path):
    group = SpinGroup(name="singlet", labels=("H",), shift_ppm=(2.8,), j_hz=((0.0,),), multiplier=1.0)
    singlet = SpinSystem(name="singlet", groups=(group,))

    def amplitude(shot):
        lines = molecule_lines([shot], singlet, spectrometer_frequency_hz=F0_HZ, reference_ppm=WATER_PPM)
        return complex(lines.amplitude.sum())

    expected = [amplitude(shot) for shot in isocentre[1]]
    got = [amplitude(shot) for shot in press_shots(tmp_path, **PLACES[name])[1]]
    assert 0.8 < abs(expected[0]) < 1.1
    assert got == pytest.approx(expected, rel=1e-3)
