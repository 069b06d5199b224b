"""NIfTI-MRS files: exact round trips, and one +1 ppm peak seen by readers that share no code."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nifti_mrs import validator
from nifti_mrs.nifti_mrs import NIFTI_MRS

from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.provenance import Provenance, Source

F0_HZ = 123.2e6
AFFINE_M = np.array([[0.02, 0, 0, 0.011], [0, -0.0259807621, -0.0125, 0.002], [0, -0.015, 0.0216506351, -0.03],
                     [0, 0, 0, 1]])  # fmt: skip


def data(**changes: Any) -> MRSData:
    rng = np.random.default_rng(2)
    fields: dict[str, Any] = {
        "fid": (rng.normal(size=(64, 4, 3)) + 1j * rng.normal(size=(64, 4, 3))).astype(np.complex64),
        "dims": ("DIM_COIL", "DIM_DYN"),
        "dwell_s": 2.5e-4 / 3,
        "spectrometer_frequency_hz": 123252320.0,
        "nucleus": "1H",
        "reference_ppm": 4.801234567890123,
        "affine_m": AFFINE_M,
        "header": {
            "EchoTime": 0.03,
            "ProcessingApplied": [{"Program": "seqgen", "Method": "Phasing"}],
            "dim_6_header": {"ExcitationFlipAngle": [20.0, 40.0, 60.0]},
            "seqgen": {
                "provenance": Provenance(made_from={"seq": Source(name="a.seq", sha256="0" * 64)}).to_json(),
                "samples_removed_before_echo": 8,
            },
        },
    }
    return MRSData(**{**fields, **changes})


def peak_fid(ppm_above_reference: float, n: int = 2048, dwell_s: float = 2.5e-4) -> np.ndarray[Any, Any]:
    t = np.arange(n) * dwell_s
    return np.exp((2j * np.pi * ppm_above_reference * F0_HZ * 1e-6 - 12) * t)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_round_trip_is_exact(tmp_path: Path, dtype: Any, suffix: str) -> None:
    original = data()
    original = data(fid=(original.fid * (1 + 1e-9)).astype(dtype))
    path = tmp_path / f"a{suffix}"
    write_nifti_mrs(original, path)
    back = read_nifti_mrs(path)
    assert back.fid.dtype == dtype
    np.testing.assert_array_equal(back.fid, original.fid)
    for name in ("dims", "dwell_s", "spectrometer_frequency_hz", "nucleus", "reference_ppm", "header"):
        assert getattr(back, name) == getattr(original, name), name
    assert back.affine_m is not None
    np.testing.assert_allclose(back.affine_m, AFFINE_M, atol=1e-9)
    provenance = Provenance.from_json(back.header["seqgen"]["provenance"])
    assert provenance.made_from["seq"].name == "a.seq"


def test_bytes_on_disk_follow_the_standard(tmp_path: Path) -> None:
    """Read with nibabel and json alone."""
    path = tmp_path / "a.nii.gz"
    write_nifti_mrs(data(), path)
    image = nib.load(path)
    header = image.header
    assert isinstance(image, nib.Nifti2Image)
    assert image.shape == (1, 1, 1, 64, 4, 3)
    assert header["pixdim"][4] == 2.5e-4 / 3
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header.get_intent()[2].startswith("mrs_v")
    assert int(header["qform_code"]) == 1
    assert int(header["sform_code"]) == 0
    np.testing.assert_allclose(image.affine[:3], AFFINE_M[:3] * 1e3, atol=1e-6)
    np.testing.assert_allclose(header["pixdim"][1:4], [20, 30, 25], atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[0, 0, 0], data().fid.conj())
    (extension,) = header.extensions
    assert extension.get_code() == 44
    keys = json.loads(extension.get_content().decode().rstrip("\0"))
    assert keys["SpectrometerFrequency"] == [pytest.approx(123.25232)]
    assert keys["ResonantNucleus"] == ["1H"]
    assert (keys["dim_5"], keys["dim_6"]) == ("DIM_COIL", "DIM_DYN")
    assert keys["SpectralWidth"] == pytest.approx(12000)
    assert keys["SpecFreqChemShift"] == keys["seqgen"]["reference_ppm"] == 4.801234567890123
    assert keys["seqgen"]["Description"]
    raw = zlib.decompress(path.read_bytes(), wbits=31)
    size = struct.unpack_from("<i", raw, 544)[0]  # esize of the first extension after header and flag of NIfTI-2
    assert size % 16 == 0


@pytest.mark.parametrize("reference_ppm", [4.65, 4.8])
def test_a_peak_one_ppm_up_stays_there(tmp_path: Path, reference_ppm: float) -> None:
    """On disk ppm = reference - f/f0; nifti_mrs hands out ppm = reference + f/f0."""
    path = tmp_path / "peak.nii.gz"
    original = MRSData(
        fid=peak_fid(1.0), dwell_s=2.5e-4, spectrometer_frequency_hz=F0_HZ, nucleus="1H", reference_ppm=reference_ppm
    )
    write_nifti_mrs(original, path)
    image = nib.load(path)
    disk = np.asarray(image.dataobj).reshape(-1)
    f_hz = np.fft.fftfreq(disk.size, float(image.header["pixdim"][4]))
    at = abs(np.fft.fft(disk)).argmax()
    assert reference_ppm - f_hz[at] / F0_HZ * 1e6 == pytest.approx(reference_ppm + 1, abs=0.02)
    tool = NIFTI_MRS(str(path))
    handed_out = tool[:].reshape(-1)
    at = abs(np.fft.fft(handed_out)).argmax()
    assert tool.SpecFreqChemShift + f_hz[at] / F0_HZ * 1e6 == pytest.approx(reference_ppm + 1, abs=0.02)


def test_no_place_is_qform_zero(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti_mrs(data(affine_m=None), path)
    header = nib.load(path).header
    assert int(header["qform_code"]) == int(header["sform_code"]) == 0
    np.testing.assert_array_equal(header["pixdim"][1:4], 10000)
    assert read_nifti_mrs(path).affine_m is None


def test_receiver_offset_adds_to_the_standard_key(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti_mrs(data(reference_ppm=3.0, header={"RxOffset": -1.65}), path)
    tool = NIFTI_MRS(str(path))
    assert tool.SpecFreqChemShift == pytest.approx(4.65)
    assert tool.axes.ppmshift == pytest.approx(3.0)
    assert read_nifti_mrs(path).reference_ppm == 3.0


def test_every_shape_of_dims(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for dims in ((), ("DIM_DYN",), ("DIM_COIL", "DIM_DYN", "DIM_EDIT")):
        for size in (1, 2):
            fid = rng.normal(size=(8, *(size,) * len(dims))) + 1j
            path = tmp_path / "a.nii"
            write_nifti_mrs(data(fid=fid, dims=dims, header={}), path)
            back = read_nifti_mrs(path)
            assert back.dims == dims
            np.testing.assert_array_equal(back.fid, fid)


def test_files_of_others(shared: Path) -> None:
    """A 7 T STEAM scan by other software: 4.65 ppm is assumed for 1H, and NAA is found at 2.01."""
    read = read_nifti_mrs(shared / "data/raw/5_nifti_mrs_multicoil_steam_7T/metab_raw.nii.gz")
    assert read.fid.shape == (4096, 4, 16)
    assert read.dims == ("DIM_COIL", "DIM_DYN")
    assert read.reference_ppm == 4.65
    assert read.affine_m is not None
    np.testing.assert_allclose(np.linalg.norm(read.affine_m[:3, :3], axis=0), 0.02, rtol=1e-6)
    fid = read.fid.mean(2)[:, 0]
    size = abs(np.fft.fft(fid * np.exp(-np.arange(fid.size) * read.dwell_s * 10)))
    ppm = 4.65 + np.fft.fftfreq(fid.size, read.dwell_s) / read.spectrometer_frequency_hz * 1e6
    window = (ppm > 1.9) & (ppm < 2.2)
    assert ppm[window][size[window].argmax()] == pytest.approx(2.01, abs=0.03)


def test_the_validator_passes_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_nifti_mrs(data(), path)
    validator.validate_nifti_mrs(NIFTI_MRS(str(path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"header": {"note": "hello"}}, "must be an object with a 'Description'"),
        ({"header": {"number": 3.0}}, "must be an object with a 'Description'"),
        ({"header": {"dim_7_header": {"EchoTime": [1.0]}}}, "one of the 2 dims"),
        ({"header": {"dim_6_header": {"EchoTime": [1.0, 2.0]}}}, "validator refuses"),
        ({"header": {"EchoTime": "30 ms"}}, "validator refuses"),
        ({"header": {"EchoTime": float("nan")}}, "cannot be written as JSON"),
        ({"header": {"seqgen": {"x": object()}}}, "cannot be written as JSON"),
        ({"header": {"SpectrometerFrequency": [1.0]}}, "fields of MRSData"),
        ({"dims": ("DIM_COIL", "DIM_FOO")}, "tags of NIfTI-MRS"),
        ({"affine_m": np.ones((4, 4))}, "perpendicular"),
        ({"affine_m": np.eye(3)}, "perpendicular"),
        ({"dwell_s": 2.0}, "validator refuses"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_nifti_mrs(data(**changes), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.nii\.gz"):
        write_nifti_mrs(data(), tmp_path / "a.h5")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    for suffix in (".nii", ".nii.gz"):
        path = tmp_path / f"a{suffix}"
        with pytest.raises(InputError, match="no such file"):
            read_nifti_mrs(path)
        write_nifti_mrs(data(), path)
        content = path.read_bytes()
        for part in range(0, 99, 4):
            path.write_bytes(content[: len(content) * part // 100])
            with pytest.raises(InputError, match=r"a\.nii"):
                read_nifti_mrs(path)
        path.write_bytes(b"garbage" * 300)
        with pytest.raises(InputError, match=r"a\.nii"):
            read_nifti_mrs(path)


def test_plain_nifti_and_spectroscopic_images_are_refused(tmp_path: Path) -> None:
    plain = tmp_path / "plain.nii"
    nib.save(nib.Nifti2Image(np.zeros((1, 1, 1, 8), dtype=np.complex64), np.eye(4)), plain)
    with pytest.raises(InputError, match="not NIfTI-MRS"):
        read_nifti_mrs(plain)
    image = tmp_path / "real.nii"
    nib.save(nib.Nifti2Image(np.zeros((4, 4, 4), dtype=np.float32), np.eye(4)), image)
    with pytest.raises(InputError, match="complex samples"):
        read_nifti_mrs(image)
    path = tmp_path / "a.nii"
    write_nifti_mrs(data(fid=np.ones(8, dtype=np.complex64), dims=(), header={}), path)
    loaded = nib.load(path)
    nib.save(nib.Nifti2Image(np.zeros((2, 1, 1, 8), dtype=np.complex64), None, loaded.header), path)
    with pytest.raises(InputError, match="single-voxel"):
        read_nifti_mrs(path)
