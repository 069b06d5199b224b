"""`--voxel-from` and `seqgen voxel-mask`: from a mask to a `.seq`, to simulated data, and back to a mask."""

import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.transform import Rotation

from seqgen.cli import main
from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.mrs.nifti import read_nifti_mrs
from seqgen.mrs.voxel_mask import voxel_from_nifti, write_voxel_mask
from seqgen.pipeline.build import build_plain, check_file
from seqgen.pipeline.scan import convert_raw, simulate_raw
from seqgen.pipeline.study import load_study
from seqgen.pipeline.voxel import study_with_voxel, voxel_of_file
from seqgen.provenance import sha256_file
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.voxel import Voxel

ASKED = Voxel(
    size_m=(0.02, 0.025, 0.03),
    centre_m=(0.012, -0.031, 0.024),
    axes=Rotation.from_euler("xyz", (12, -20, 33), degrees=True).as_matrix().T,
)


class Quiet:
    def say(self, text):
        pass

    def progress(self, label):
        return lambda done, total: None


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A head-sized image in scanner coordinates, 2 mm, tilted."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (5, 0, 8), degrees=True).as_matrix() * 2.0
    affine[:3, 3] = affine[:3, :3] @ (-40.0, -40.0, -40.0)
    picture = nib.Nifti1Image(np.zeros((80, 80, 80), np.int16), affine)
    picture.set_qform(affine, code=1)
    picture.set_sform(affine, code=1)
    path = tmp_path_factory.mktemp("image") / "t1.nii.gz"
    nib.save(picture, path)
    return path


@pytest.fixture(scope="module")
def mask(image):
    path = image.parent / "my voxel.nii.gz"
    write_voxel_mask(ASKED, path, like=image)
    return path


@pytest.fixture(scope="module")
def built(study, mask):
    """(study placed by the mask, its 1.5.0 file)."""
    placed, _ = study_with_voxel(study, mask)
    return placed, build_plain(placed, None, mask.parent / "built").paths[0]


def test_the_seq_states_voxel_name_and_hash_of_the_mask(study, mask, built):
    placed, path = built
    seq = read_seq(path)
    assert seq.definitions["seqgen_voxel_from"] == "my voxel.nii.gz"
    assert seq.definitions["seqgen_voxel_from_sha256"] == sha256_file(mask)
    assert seq.definition_numbers("VoxelSize") == pytest.approx(ASKED.size_m, abs=2e-5)
    assert seq.definition_numbers("VoxelPosition") == pytest.approx(ASKED.centre_m, abs=2e-5)
    rotation = np.reshape(seq.definition_numbers("VoxelRotation"), (3, 3))
    np.testing.assert_allclose(rotation, ASKED.axes.T, atol=1e-3)
    assert placed.protocol.sequence.params.tr_s == study.protocol.sequence.params.tr_s
    plain = read_seq(build_plain(study, None, path.parent / "plain").paths[0])
    assert not [key for key in plain.definitions if key.startswith("seqgen_voxel_from")]


class Misplaced:
    """The protocol's sequence, with a wrong statement of where its voxel is."""

    def __init__(self, spec):
        self.spec = spec

    def build(self, params, context):
        built = self.spec.build(params, context)
        return replace(built, definitions=built.definitions | {"VoxelPosition": (0.0, 2e-4, 0.0)})


def test_a_file_that_would_play_another_voxel_than_it_states_is_not_written(study, tmp_path):
    wrong = replace(study.protocol.sequence, spec=Misplaced(study.protocol.sequence.spec))
    misplaced = replace(study, protocol=replace(study.protocol, sequence=wrong))
    with pytest.raises(
        VerificationError, match=r"was not written: slice 2 \(refocusing\) centre at 0\.000 mm, asked 0\.200"
    ):
        build_plain(misplaced, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_check_finds_every_slice_of_the_file_where_the_mask_is(built):
    placed, path = built
    rows = [row for row in check_file(path, placed.protocol.scanner, None) if row.name.startswith("slice")]
    assert [row.status for row in rows] == ["passed"] * 3


def test_simulated_data_carry_the_affine_of_the_mask_and_lead_back_to_the_voxel(built, tmp_path):
    placed, path = built
    simulate_raw(placed, path, tmp_path / "raw.h5", Quiet())
    data, water = convert_raw(tmp_path / "raw.h5", path, tmp_path / "data.nii.gz", time="2026-01-01T00:00:00Z")
    for name in (data, water):
        affine = read_nifti_mrs(name).affine_m
        # Columns are edges of the voxel, the last its centre: of the mask, by way of the .seq, as good as the mask is.
        np.testing.assert_allclose(affine[:3, :3], ASKED.axes.T * ASKED.size_m, atol=3e-5)
        np.testing.assert_allclose(affine[:3, 3], ASKED.centre_m, atol=2e-5)
        np.testing.assert_allclose(affine, voxel_of_file(path).voxel.affine_m, atol=1e-8)
        np.testing.assert_allclose(voxel_from_nifti(name).voxel.affine_m, affine, atol=1e-8)


def test_protocol_seq_and_data_make_the_same_mask(study, image, tmp_path):
    text = study.path.read_text().replace(
        "voxel_position_mm: [0, 0, 0]", "voxel_position_mm: [12, -31, 24]\n  voxel_rotation_deg: [12, -20, 33]"
    )
    protocol = tmp_path / "placed.yaml"
    protocol.write_text(text)
    seq = build_plain(load_study(protocol), None, tmp_path).paths[0]
    for number, source in enumerate((protocol, seq)):
        arguments = [
            "voxel-mask",
            str(source),
            "--like",
            str(image),
            "-o",
            str(tmp_path / f"{number}.nii.gz"),
            "--json",
        ]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        told = json.loads(result.output)
        assert (told["size_mm"], told["centre_mm"]) == ([20, 20, 20], [12, -31, 24])
        assert told["rotation_deg"] == pytest.approx([12, -20, 33], abs=1e-5)
        assert told["part_inside_image"] == pytest.approx(1, abs=0.01)
    first, second = (nib.load(tmp_path / f"{number}.nii.gz").get_fdata() for number in (0, 1))
    np.testing.assert_allclose(first, second, atol=0.02)
    assert first.sum() * 8 == pytest.approx(8000, rel=0.01)


def test_from_the_command_line(study, mask, tmp_path):
    result = CliRunner().invoke(main, ["build", str(study.path), "--voxel-from", str(mask), "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for words in ("size      20.0", "R 12.0", "P 31.0", "S 24.0", "half a grid step", "press.seq"):
        assert words in result.output
    told = CliRunner().invoke(
        main, ["build", str(study.path), "--voxel-from", str(mask), "-o", str(tmp_path), "--json"]
    )
    assert len(json.loads(told.output)["files"]) == 2
    seq = str(tmp_path / "press.seq")
    box = CliRunner().invoke(main, ["voxel-mask", seq, "-o", str(tmp_path / "box.nii.gz")])
    assert box.exit_code == 0, box.output
    assert "R 12.0" in box.output
    np.testing.assert_allclose(voxel_of_file(tmp_path / "box.nii.gz").voxel.centre_m, ASKED.centre_m, atol=2e-5)
    checked = CliRunner().invoke(main, ["check", seq, "--protocol", str(study.path)])
    assert "slice 1 (excitation) centre" in checked.output
    assert re.search(r"passed +voxel corner from the isocentre +\S+ limit 250", checked.output)


def test_what_cannot_be_used_is_refused(study, mask, tmp_path):
    (tmp_path / "raw.h5").write_bytes(b"x")
    for source, words in ((tmp_path / "raw.h5", "a voxel is read from a protocol"), (tmp_path / "no.seq", "no.seq")):
        result = CliRunner().invoke(main, ["voxel-mask", str(source), "-o", str(tmp_path / "mask.nii")])
        assert result.exit_code == 2
        assert words in result.output
    stripped = tmp_path / "foreign.seq"
    seq = build_plain(study, None, tmp_path).paths[0].read_text()
    body = "\n".join(line for line in seq.partition("[SIGNATURE]")[0].splitlines() if not line.startswith("VoxelPos"))
    stripped.write_text(body + "\n")
    with pytest.raises(InputError, match=r"does not state VoxelPosition"):
        voxel_of_file(stripped)
    far = Voxel(size_m=(0.02,) * 3, centre_m=(0.3, 0.0, 0.0), axes=np.eye(3))
    write_voxel_mask(far, tmp_path / "far.nii")
    with pytest.raises(HardwareLimitError, match=r"a corner lies 310\.3 mm from the isocentre, but .* up to 250 mm"):
        study_with_voxel(study, tmp_path / "far.nii")


def test_a_mask_does_not_overwrite_what_it_is_made_from(study, tmp_path):
    seq = build_plain(study, None, tmp_path).paths[0]
    image = tmp_path / "t1.nii"
    shape = np.zeros((40, 40, 40), dtype=np.uint8)
    template = nib.Nifti1Image(shape, np.array([[4.0, 0, 0, -80], [0, 4.0, 0, -80], [0, 0, 4.0, -80], [0, 0, 0, 1]]))
    template.set_sform(template.affine, code=1)
    nib.save(template, image)
    before = image.read_bytes()
    result = CliRunner().invoke(main, ["voxel-mask", str(seq), "--like", str(image), "-o", str(image)])
    assert result.exit_code == 2
    assert "is an input and is not overwritten" in result.output
    assert image.read_bytes() == before


def test_check_tells_a_file_of_another_protocol(study, tmp_path):
    seq = str(build_plain(study, None, tmp_path).paths[0])
    own = CliRunner().invoke(main, ["check", seq, "--protocol", str(study.path)])
    assert re.search(r"^passed +built from this protocol", own.output, re.MULTILINE)
    other = tmp_path / "other.yaml"
    other.write_text(study.path.read_text() + "\n# changed since\n")
    changed = CliRunner().invoke(main, ["check", seq, "--protocol", str(other)])
    assert re.search(r"^failed +built from this protocol", changed.output, re.MULTILINE)
    assert changed.exit_code == 1


def test_a_siemens_file_on_a_ge_scanner_fails_for_want_of_segments(study, tmp_path):
    seq = str(build_plain(study, None, tmp_path).paths[0])
    result = CliRunner().invoke(main, ["check", seq, "--scanner", "ge_premier_3t"])
    assert result.exit_code == 1
    assert re.search(r"^failed +GE segments .*no label TRID", result.output, re.MULTILINE)
