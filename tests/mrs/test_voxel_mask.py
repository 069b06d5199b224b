"""Voxels as NIfTI masks and back, against a point-in-box test and nibabel's own affines."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.mrs.voxel_mask import voxel_from_nifti, write_voxel_mask
from seqgen.sequence.voxel import Voxel

OBLIQUE = (0.3, -0.5, 0.7)


def voxel(size_mm=(20.0, 25.0, 30.0), turn=OBLIQUE, centre_mm=(4.3, -7.1, 2.9)):
    return Voxel(
        size_m=tuple(edge * 1e-3 for edge in size_mm),
        centre_m=tuple(value * 1e-3 for value in centre_mm),
        axes=Rotation.from_euler("xyz", turn).as_matrix().T,
    )


def grid(step_mm=(1.0, 1.0, 1.0), turn=(0.0, 0.0, 0.0), extent_mm=72.0, centre_mm=(1.3, 2.7, -3.1), flip=False):
    """Affine (mm) and shape of an image."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn).as_matrix() @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
    affine[:3, :3] *= step_mm
    shape = tuple(round(extent_mm / step) for step in step_mm)
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine, shape


def save(path, values, affine, qform=1, sform=1, units="mm"):
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, code=qform)
    image.set_sform(affine, code=sform)
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


def places(affine, shape):
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def inside(box, place_mm):
    """Whether places lie in a box: the oracle of every mask."""
    along = (place_mm * 1e-3 - np.array(box.centre_m)) @ box.axes.T
    return (np.abs(along) <= 0.5 * np.array(box.size_m)).all(-1)


def binary(path, box, *, step_mm=(1.0, 1.0, 1.0), **how):
    affine, shape = grid(step_mm, **how)
    return save(path, inside(box, places(affine, shape)).astype(np.uint8), affine)


def compare(got, asked):
    """(largest size error, distance of centres, both mm; largest angle between axes, degrees), axes matched."""
    cosines = np.abs(got.axes @ asked.axes.T)
    match = cosines.argmax(1)
    assert sorted(match) == [0, 1, 2]
    size = np.abs(np.array(got.size_m) - np.array(asked.size_m)[match]).max() * 1e3
    centre = np.linalg.norm(np.array(got.centre_m) - np.array(asked.centre_m)) * 1e3
    return size, centre, np.degrees(np.arccos(np.clip(cosines.max(1), 0, 1))).max()


# --- Round trips -----------------------------------------------------------------------------------------------------

SHAPES = [
    ((20.0, 25.0, 30.0), OBLIQUE),
    ((20.0, 20.0, 20.0), OBLIQUE),  # principal axes of a cube are undefined
    ((20.0, 20.0, 20.0), (0.0, 0.0, 0.0)),
    ((12.0, 30.0, 30.0), (0.6, 0.6, 0.78)),
]


@pytest.mark.parametrize(("size_mm", "turn"), SHAPES)
@pytest.mark.parametrize(("step_mm", "flip"), [((1.0, 1.0, 1.0), False), ((1.2, 1.2, 3.0), True)])
def test_a_mask_on_a_grid_comes_back(size_mm, turn, step_mm, flip, tmp_path):
    asked = voxel(size_mm, turn)
    affine, shape = grid(step_mm, (0.2, 0.1, 0.4) if flip else (0.0, 0.0, 0.0), flip=flip)
    like = save(tmp_path / "image.nii.gz", np.zeros(shape, np.int16), affine)
    assert write_voxel_mask(asked, tmp_path / "mask.nii.gz", like=like) == pytest.approx(1, abs=5e-3)
    found = voxel_from_nifti(tmp_path / "mask.nii.gz")
    size, centre, angle = compare(found.voxel, asked)
    assert (found.kind, found.misfit) == ("mask", 0.0)
    assert found.grid_m == pytest.approx(max(step_mm) * 1e-3)
    assert size < 0.05  # parts of elements tell far more than half a step
    assert centre < 0.06
    assert angle < 0.2


@pytest.mark.parametrize(("size_mm", "turn"), SHAPES)
def test_a_binary_mask_comes_back_within_half_a_step(size_mm, turn, tmp_path):
    asked = voxel(size_mm, turn)
    found = voxel_from_nifti(binary(tmp_path / "mask.nii", asked))
    size, centre, angle = compare(found.voxel, asked)
    assert size < 0.5
    assert centre < 0.5
    assert angle < 0.3


def test_the_axes_of_a_mask_are_ordered_by_x_y_z_and_right_handed(tmp_path):
    """A box of 20 x 30 x 40 whose first axis lies along z, second along x, third along y."""
    axes = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]) @ Rotation.from_euler("xyz", (0.1, 0.2, -0.1)).as_matrix().T
    asked = Voxel(size_m=(0.02, 0.03, 0.04), centre_m=(0.0, 0.0, 0.0), axes=axes)
    got = voxel_from_nifti(binary(tmp_path / "mask.nii", asked)).voxel
    np.testing.assert_allclose(got.size_m, (0.03, 0.04, 0.02), atol=5e-4)
    np.testing.assert_allclose(got.axes, axes[[1, 2, 0]], atol=5e-3)
    assert np.linalg.det(got.axes) == pytest.approx(1)


def test_a_mask_in_metres_and_one_without_unit_are_what_they_say(tmp_path):
    asked = voxel()
    affine, shape = grid()
    values = inside(asked, places(affine, shape)).astype(np.uint8)
    scaled = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ affine
    for number, (matrix, unit) in enumerate([(scaled, "meter"), (affine, "unknown")]):
        size, centre, _ = compare(
            voxel_from_nifti(save(tmp_path / f"{number}.nii", values, matrix, units=unit)).voxel, asked
        )
        assert max(size, centre) < 0.5


def test_a_single_thin_plane_is_a_voxel_of_that_plane(tmp_path):
    affine, shape = grid((1.0, 1.0, 10.0))
    values = np.zeros(shape, np.uint8)
    values[20:40, 10:35, 3] = 1
    got = voxel_from_nifti(save(tmp_path / "plane.nii", values, affine)).voxel
    np.testing.assert_allclose(got.size_m, (0.02, 0.025, 0.01), atol=1e-4)
    np.testing.assert_allclose(got.centre_m, (affine[:3, :3] @ (29.5, 22, 3) + affine[:3, 3]) * 1e-3, atol=1e-4)


# --- What is written -------------------------------------------------------------------------------------------------


def test_parts_of_elements_are_those_of_random_points(tmp_path):
    asked = voxel()
    affine, shape = grid((2.0, 2.0, 2.0), (0.2, 0.1, 0.4))
    like = save(tmp_path / "image.nii.gz", np.zeros(shape, np.int16), affine)
    write_voxel_mask(asked, tmp_path / "mask.nii.gz", like=like)
    image = nib.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(image.affine, nib.load(like).affine)
    values = image.get_fdata()
    assert values.sum() * 8 == pytest.approx(20 * 25 * 30, rel=2e-3)
    edge = np.argwhere((values > 0) & (values < 1))[::40]
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (4000, 3))
    for element in edge:
        part = inside(asked, (element + points) @ affine[:3, :3].T + affine[:3, 3]).mean()
        assert values[tuple(element)] == pytest.approx(part, abs=0.04)
    corners = np.array([[i, j, k] for i in (-0.5, 0.5) for j in (-0.5, 0.5) for k in (-0.5, 0.5)]) @ affine[:3, :3].T
    wholly = inside(asked, places(affine, shape)[..., None, :] + corners).all(-1)
    assert wholly.any()
    assert (values[wholly] == 1).all()


def test_the_header_of_the_reference_is_kept(tmp_path):
    affine, shape = grid()
    image = nib.Nifti1Image(np.zeros((*shape, 2), np.int16), affine)
    image.set_qform(affine, code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "echoes.nii.gz")
    write_voxel_mask(voxel(), tmp_path / "mask.nii.gz", like=tmp_path / "echoes.nii.gz")
    got = nib.load(tmp_path / "mask.nii.gz")
    assert (got.shape, got.get_data_dtype()) == (shape, np.float32)
    assert (int(got.header["qform_code"]), int(got.header["sform_code"])) == (1, 0)
    np.testing.assert_allclose(got.affine, affine, atol=1e-5)


def test_a_box_is_its_affine(tmp_path):
    asked = voxel()
    assert write_voxel_mask(asked, tmp_path / "box.nii.gz") == 1
    image = nib.load(tmp_path / "box.nii.gz")
    expected = np.eye(4)
    expected[:3, :3] = asked.axes.T @ np.diag([20, 25, 30])
    expected[:3, 3] = (4.3, -7.1, 2.9)
    assert image.shape == (1, 1, 1)
    np.testing.assert_allclose(image.affine, expected, atol=1e-5)
    found = voxel_from_nifti(tmp_path / "box.nii.gz")
    assert found.kind == "box"
    np.testing.assert_allclose(found.voxel.affine_m, asked.affine_m, atol=1e-8)


@pytest.mark.parametrize("left_handed", [False, True])
def test_nifti_mrs_is_its_affine_in_its_own_order(left_handed, tmp_path):
    affine = voxel().affine_m
    affine[:3, 2] *= -1.0 if left_handed else 1.0
    data = MRSData(
        fid=np.ones(16, np.complex64), dims=(), dwell_s=2.5e-4, spectrometer_frequency_hz=123.2e6, nucleus="1H",
        reference_ppm=4.65, affine_m=affine, header={},
    )  # fmt: skip
    write_nifti_mrs(data, tmp_path / "data.nii.gz")
    np.testing.assert_allclose(read_nifti_mrs(tmp_path / "data.nii.gz").affine_m, affine, atol=1e-8)
    np.testing.assert_allclose(voxel_from_nifti(tmp_path / "data.nii.gz").voxel.affine_m, voxel().affine_m, atol=1e-8)


def test_a_voxel_that_leaves_the_image_says_how_much(tmp_path):
    affine, shape = grid()
    like = save(tmp_path / "image.nii.gz", np.zeros(shape, np.int16), affine)
    edge_mm = affine[0, 3] - 0.5  # the face of the first element
    half_out = voxel((20.0, 20.0, 20.0), (0.0, 0.0, 0.0), (edge_mm, 0.0, 0.0))
    assert write_voxel_mask(half_out, tmp_path / "mask.nii", like=like) == pytest.approx(0.5, abs=1e-3)
    outside = voxel(centre_mm=(300.0, 0.0, 0.0))
    with pytest.raises(
        InputError, match=r"The voxel lies outside .*image.nii.gz: its centre is at \(300.0, 0.0, 0.0\) mm"
    ):
        write_voxel_mask(outside, tmp_path / "none.nii", like=like)
    assert not (tmp_path / "none.nii").exists()
    with pytest.raises(InputError, match=r"must end in \.nii\.gz or \.nii"):
        write_voxel_mask(outside, tmp_path / "none.img")


# --- What is refused -------------------------------------------------------------------------------------------------


def blob(kind):
    affine, shape = grid(extent_mm=48.0)
    place = places(affine, shape) - np.array((1.3, 2.7, -3.1))
    box = (np.abs(place) <= 10).all(-1)
    if kind == "empty":
        return np.zeros(shape, np.uint8), affine
    if kind == "faint":
        return box * np.float32(0.4), affine
    if kind == "two":
        return box & (np.abs(place[..., 0]) > 3), affine
    if kind == "sphere":
        return np.linalg.norm(place, axis=-1) <= 12, affine
    if kind == "cylinder":
        return (np.hypot(place[..., 0], place[..., 1]) <= 12) & (np.abs(place[..., 2]) <= 12), affine
    if kind == "corner missing":
        return box & ~(place > 0).all(-1), affine
    if kind == "sheared":
        return (np.abs(place - place[..., 1:2] * np.array((0.5, 0, 0))) <= 10).all(-1), affine
    if kind == "labels":
        return box * np.int16(3), affine
    return np.where(box, np.nan, 0), affine


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "the mask is empty"),
        ("faint", "the mask is empty: no element reaches 0.5"),
        ("two", r"the mask is in 2 pieces of \d+, \d+ elements\. Keep one voxel"),
        ("sphere", r"the mask is no box\. It has \d+% of the volume of the best box"),
        ("cylinder", r"the mask is no box"),
        ("corner missing", r"the mask is no box"),
        ("sheared", r"the mask is no box"),
        ("labels", r"holds values from 0 to 3, but a mask has 0 to 1"),
        ("nan", r"holds values from nan to nan"),
    ],
)
def test_what_is_no_voxel_is_refused(kind, message, tmp_path):
    values, affine = blob(kind)
    values = values.astype(np.uint8) if values.dtype == bool else values
    with pytest.raises(InputError, match=message):
        voxel_from_nifti(save(tmp_path / "mask.nii.gz", values, affine))


def test_coordinates_must_be_a_scanners(tmp_path):
    values, affine = blob("empty")
    values[10:20, 10:20, 10:20] = 1
    for qform, sform in ((0, 0), (4, 3), (0, 4)):
        with pytest.raises(InputError, match=rf"has no scanner coordinates \(qform_code {qform}, sform_code {sform}"):
            voxel_from_nifti(save(tmp_path / "mask.nii", values, affine, qform, sform))
    moved = affine + np.array([[0, 0, 0, 5.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, code=1)
    image.set_sform(moved, code=4)  # a template's: the qform counts
    nib.save(image, tmp_path / "template.nii")
    expected = (affine[:3, :3] @ (14.5, 14.5, 14.5) + affine[:3, 3]) * 1e-3
    np.testing.assert_allclose(voxel_from_nifti(tmp_path / "template.nii").voxel.centre_m, expected, atol=1e-4)
    image.set_sform(moved, code=1)
    nib.save(image, tmp_path / "both.nii")
    with pytest.raises(InputError, match=r"qform and sform both claim code 1 but lie 5 apart"):
        voxel_from_nifti(tmp_path / "both.nii")


def test_sheared_boxes_and_several_voxels_are_refused(tmp_path):
    affine = np.diag([20.0, 25.0, 30.0, 1.0])
    affine[0, 1] = 8.0
    image = nib.Nifti1Image(np.ones((1, 1, 1), np.uint8), affine)
    image.set_sform(affine, code=1)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "sheared.nii")
    with pytest.raises(InputError, match=r"its affine must have perpendicular edges"):
        voxel_from_nifti(tmp_path / "sheared.nii")
    several = save(tmp_path / "mrsi.nii", np.ones((4, 4, 1, 16), np.complex64), np.diag([10.0, 10, 10, 1]))
    with pytest.raises(InputError, match=r"has the dimensions \(4, 4, 1, 16\): a mask has three"):
        voxel_from_nifti(several)


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.nii").write_text("no image")
    for name in ("text.nii", "absent.nii.gz"):
        with pytest.raises(InputError, match="Cannot read"):
            voxel_from_nifti(tmp_path / name)
    path = binary(tmp_path / "whole.nii.gz", voxel())
    (tmp_path / "cut.nii.gz").write_bytes(Path(path).read_bytes()[:-200])
    with pytest.raises(InputError, match=r"Cannot read .*cut\.nii\.gz"):
        voxel_from_nifti(tmp_path / "cut.nii.gz")
