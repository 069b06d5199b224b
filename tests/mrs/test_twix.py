"""The twix reader against pyMapVBVD's own arrays, the scanner's DICOM, and damaged files."""

import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import mapvbvd
import nibabel as nib
import numpy as np
import pytest
from twix_file import NOISE, PATREF, PROTOCOL, write_twix

from seqgen.errors import InputError
from seqgen.mrs.twix import _parsed_header, read_twix, slice_place

SIGNATURE = "0123456789abcdef0123456789abcdef"


def transients(n_readouts: int = 3, n_coils: int = 2, n_samples: int = 16) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    shape = (n_readouts, n_coils, n_samples)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def mapvbvd_samples(path: Path, kind: str = "image") -> np.ndarray[Any, Any]:
    """Shape (n_readouts, n_coils, n_samples), no oversampling removed."""
    data = mapvbvd.mapVBVD(str(path), quiet=True)[kind]
    data.flagRemoveOS = False
    return np.moveaxis(data.unsorted(), (0, 1, 2), (2, 1, 0))


@pytest.mark.parametrize("version", ["VB", "VD"])
def test_readouts_equal_those_of_pymapvbvd(tmp_path: Path, version: str) -> None:
    samples = transients()
    path = write_twix(tmp_path / "raw.dat", samples, SIGNATURE, version=version)
    scan = read_twix(path)
    np.testing.assert_array_equal(scan.samples, samples)
    np.testing.assert_array_equal(mapvbvd_samples(path), samples)
    assert scan.seq_signature == SIGNATURE
    assert scan.spectrometer_frequency_hz == 123.2e6
    assert scan.nucleus == "1H"
    assert scan.time_stamp_s is not None
    np.testing.assert_allclose(scan.time_stamp_s, [0, 1, 2])  # 400 ticks of 2.5 ms
    assert scan.header == {"Manufacturer": "SIEMENS", "SoftwareVersions": "syngo MR E11"}


@pytest.mark.parametrize("version", ["VB", "VD"])
def test_flags_do_not_change_the_order(tmp_path: Path, version: str) -> None:
    """Reference scans stand among the others in order of time; noise scans are left out and counted."""
    samples = transients(4)
    path = write_twix(tmp_path / "raw.dat", samples, SIGNATURE, version=version, masks=[NOISE, 0, PATREF, 0])
    scan = read_twix(path)
    np.testing.assert_array_equal(scan.samples, samples[1:])
    assert scan.n_noise == 1
    np.testing.assert_array_equal(mapvbvd_samples(path, "refscan"), samples[2:3])


@pytest.mark.parametrize(("name", "shape"), [("06_PRESS_center", (1, 1, 4096)), ("02_FID_MFA", (9, 1, 8192))])
def test_scanner_files_equal_pymapvbvd(shared: Path, name: str, shape: tuple[int, ...]) -> None:
    path = shared / f"data/raw/1_pulseq_press_center/{name}.dat"
    scan = read_twix(path)
    assert scan.samples.shape == shape
    np.testing.assert_array_equal(scan.samples, mapvbvd_samples(path))
    assert scan.spectrometer_frequency_hz == 123252320.0


def test_place_is_left_posterior_superior_turned(tmp_path: Path) -> None:
    """A transverse slice: read left to right in LPS, phase to posterior; position and table in mm."""
    protocol = {**PROTOCOL, "lScanRegionPosTra": "-100"}
    place = read_twix(write_twix(tmp_path / "raw.dat", transients(), SIGNATURE, protocol=protocol)).place
    assert place is not None
    np.testing.assert_allclose(place.size_m, [0.02, 0.03, 0.025])
    np.testing.assert_allclose(place.centre_m, [-0.004, 0, -0.1075])
    np.testing.assert_allclose(abs(place.axes), np.eye(3))
    assert np.linalg.det(place.axes) == pytest.approx(1)


def test_in_plane_rotation_and_oblique_normal(tmp_path: Path) -> None:
    normal = np.array([0.1, -0.3, 0.9])
    normal /= np.linalg.norm(normal)
    protocol = {**PROTOCOL, "sSliceArray.asSlice[0].dInPlaneRot": "0.4"}
    for name, value in zip(("Sag", "Cor", "Tra"), normal, strict=True):
        protocol[f"sSliceArray.asSlice[0].sNormal.d{name}"] = f"{value:.12f}"
    place = read_twix(write_twix(tmp_path / "raw.dat", transients(), SIGNATURE, protocol=protocol)).place
    assert place is not None
    np.testing.assert_allclose(place.axes.T @ place.axes, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(abs(place.axes[:, 2] @ (normal * [-1, -1, 1])), 1)
    # unturned, the phase direction of a transverse slice has no sagittal part; p' = cos p - sin r, r' = cos r + sin p
    assert place.axes[0, 1] == pytest.approx(-np.tan(0.4) * place.axes[0, 0])


def test_no_slice_or_several_give_no_place(tmp_path: Path) -> None:
    none = {key: value for key, value in PROTOCOL.items() if "asSlice" not in key}
    for protocol, note in ((none, "not in the protocol"), ({**PROTOCOL, "sSliceArray.lSize": "3"}, "several slices")):
        scan = read_twix(write_twix(tmp_path / "raw.dat", transients(), SIGNATURE, protocol=protocol))
        assert scan.place is None
        assert note in scan.place_note


@pytest.fixture(scope="module")
def vendor(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The vendor's twix and, as NIfTI-MRS by spec2nii in a process of its own, the scanner's DICOM of two scans."""
    folder = shared / "data/raw/2_siemens_slaser_twix_7T"
    out = tmp_path_factory.mktemp("dicom")
    images = {}
    for name in ("noWS", "WS"):
        dicom = folder / f"spinal_cord_sLASER_longTE_{name}.dcm"
        tool = Path(sys.executable).with_name("spec2nii")
        subprocess.run([tool, "dicom", "-f", name, "-o", out, dicom], check=True, capture_output=True)
        images[name] = nib.load(out / f"{name}.nii.gz")
    return folder / "spinal_cord_sLASER_longTE_noWS.dat", images


def test_vendor_dicom_has_the_sense_of_the_disk(vendor: tuple[Path, dict[str, Any]]) -> None:
    """NAA, choline and creatine of the spinal cord stand at ppm = 4.65 - f/f0, not at + f/f0."""
    image = vendor[1]["WS"]
    fid = np.asarray(image.dataobj)[0, 0, 0].reshape(-1)
    dwell_s = float(image.header["pixdim"][4])
    damped = fid * np.exp(-np.arange(fid.size) * dwell_s * 8)
    size = abs(np.fft.fft(damped)) ** 2
    ppm = 4.65 - np.fft.fftfreq(fid.size, dwell_s) / 297.205966
    window = (ppm > 1.8) & (ppm < 3.5)
    mirrored = (ppm > 9.3 - 3.5) & (ppm < 9.3 - 1.8)
    assert size[window].sum() > 5 * size[mirrored].sum()
    assert ppm[window][size[window].argmax()] == pytest.approx(2.0, abs=0.05)


def test_vendor_twix_conjugated_is_the_dicom(vendor: tuple[Path, dict[str, Any]]) -> None:
    """Samples as stored are in the sense ppm = reference + f/f0: their conjugate correlates with the DICOM."""
    path, images = vendor
    dicom = np.asarray(images["noWS"].dataobj)[0, 0, 0].reshape(-1).astype(np.complex128)
    data = mapvbvd.mapVBVD(str(path), quiet=True).image
    data.flagRemoveOS = True  # the DICOM has half the samples
    coil = data.unsorted()[: dicom.size, 5].mean(-1)

    def correlation(one: np.ndarray[Any, Any]) -> float:
        return float(abs(np.vdot(one, dicom)) / np.linalg.norm(one) / np.linalg.norm(dicom))

    assert correlation(coil.conj()) > 0.998
    assert correlation(coil) < 0.96


def test_oblique_vendor_voxel_is_where_the_dicom_says(vendor: tuple[Path, dict[str, Any]]) -> None:
    path, images = vendor
    place, _ = slice_place(_parsed_header(path, 0)["MeasYaps"], ("sSpecPara", "sVoI"))
    assert place is not None
    expected = images["noWS"].affine
    np.testing.assert_allclose(place.axes * place.size_m * 1e3, expected[:3, :3], atol=2e-3)
    np.testing.assert_allclose(place.centre_m * 1e3, expected[:3, 3], atol=1e-3)


def test_cut_files_are_refused(shared: Path, tmp_path: Path) -> None:
    content = (shared / "data/raw/1_pulseq_press_center/02_FID_MFA.dat").read_bytes()
    cut = tmp_path / "cut.dat"
    begin = time.perf_counter()
    for part in range(0, 100, 3):
        cut.write_bytes(content[: len(content) * part // 100])
        with pytest.raises(InputError, match=r"cut\.dat"):
            read_twix(cut)
    assert time.perf_counter() - begin < 20


def test_garbage_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "garbage.dat"
    with pytest.raises(InputError, match="no such file"):
        read_twix(path)
    for size in (0, 10, 600, 20000, 300000):
        for first in (b"", b"\x01\0\0\0\x01\0\0\0", b"\0\1\0\0\3\0\0\0"):
            path.write_bytes(first + rng.bytes(size))
            with pytest.raises(InputError, match=r"garbage\.dat"):
                read_twix(path)
    path.write_bytes(bytes(100000))
    with pytest.raises(InputError, match=r"garbage\.dat"):
        read_twix(path)


def test_damage_within_a_file_never_hangs(tmp_path: Path) -> None:
    """A readout header of zero coils holds pyMapVBVD for ever; other damage may change samples, but must end."""
    samples = transients(2, 1, 8)
    path = write_twix(tmp_path / "raw.dat", samples, SIGNATURE)
    content = path.read_bytes()
    first = content.index(samples[0].tobytes()) - 128
    path.write_bytes(content[: first + 30] + b"\0\0" + content[first + 32 :])
    with pytest.raises(InputError, match="no samples"):
        read_twix(path)
    rng = np.random.default_rng(11)
    begin = time.perf_counter()
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), 4):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_twix(path)
        except InputError:
            pass
    assert time.perf_counter() - begin < 20


def test_readouts_of_different_size_are_refused(tmp_path: Path) -> None:
    one = write_twix(tmp_path / "one.dat", transients(1, 1, 8), SIGNATURE).read_bytes()
    two = write_twix(tmp_path / "two.dat", transients(1, 1, 16), SIGNATURE).read_bytes()
    start = one.index(transients(1, 1, 8)[0].tobytes()) - 128
    (tmp_path / "both.dat").write_bytes(one[: start + 128 + 64] + two[start:])
    with pytest.raises(InputError, match="differ in size"):
        read_twix(tmp_path / "both.dat")


def test_header_without_frequency_is_refused(tmp_path: Path) -> None:
    protocol = {key: value for key, value in PROTOCOL.items() if "lFrequency" not in key}
    with pytest.raises(InputError, match="spectrometer frequency"):
        read_twix(write_twix(tmp_path / "raw.dat", transients(), SIGNATURE, protocol=protocol))
