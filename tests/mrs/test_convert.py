"""Raw data and `.seq` to NIfTI-MRS: a scanner's files field by field, and made-up scans whose truth is known."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mapvbvd
import nibabel as nib
import numpy as np
import pytest
from nifti_mrs import validator
from nifti_mrs.nifti_mrs import NIFTI_MRS
from seq_file import DWELL_S, N_SAMPLES, TE_S, TR_S, write_seq
from twix_file import NOISE, PATREF, PERSONAL, PROTOCOL, write_twix

from seqgen.errors import InputError
from seqgen.mrs.convert import convert
from seqgen.mrs.data import MRSData
from seqgen.mrs.mrd import write_mrd
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.provenance import sha256_file
from seqgen.seqfile.reader import read_seq

TIME = "2026-02-03T04:05:06"
F0_HZ = 123.2e6


def samples_of(n_readouts: int, n_coils: int = 2) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(8)
    shape = (n_readouts, n_coils, N_SAMPLES)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def signature_of(seq: Path) -> str:
    signature = read_seq(seq).signature
    assert signature is not None
    return signature


def twix_pair(
    folder: Path, samples: np.ndarray[Any, Any], *, masks: Sequence[int] | None = None, **how: Any
) -> tuple[Path, Path]:
    """A twix file and the `.seq` it was made with."""
    protocol = how.pop("protocol", PROTOCOL)
    seq = write_seq(folder / "scan.seq", **how)
    raw = write_twix(
        folder / "meas.dat", samples, signature_of(seq) if how.get("signature", True) else None, masks=masks,
        protocol=protocol, ticks=[round(TR_S / 2.5e-3) * k for k in range(len(samples))],
    )  # fmt: skip
    return raw, seq


def disk(data: MRSData, folder: Path) -> tuple[Any, dict[str, Any], bytes]:
    """Write, validate with nifti_mrs, and read back with nibabel and json alone: image, header, bytes."""
    path = folder / "out.nii.gz"
    write_nifti_mrs(data, path)
    validator.validate_nifti_mrs(NIFTI_MRS(str(path)))
    image = nib.load(path)
    return image, json.loads(image.header.extensions[0].get_content().decode().rstrip("\0")), path.read_bytes()


# --- a scanner's files ------------------------------------------------------------------------------------------------


def scanner_pair(shared: Path, name: str) -> tuple[Path, Path]:
    folder = shared / "data/raw/1_pulseq_press_center"
    return folder / f"{name}.dat", folder / f"{name}.seq"


def test_press_of_a_scanner(shared: Path, tmp_path: Path) -> None:
    raw, seq = scanner_pair(shared, "06_PRESS_center")
    converted = convert(raw, seq, time=TIME)
    assert converted.water_reference is None
    image, keys, _ = disk(converted.metabolite, tmp_path)
    assert image.header["pixdim"][4] == 62.5e-6
    assert image.header.get_xyzt_units()[1] == "sec"
    assert keys["SpectralWidth"] == pytest.approx(16000)
    assert keys["SpectrometerFrequency"] == [123.25232]
    assert keys["ResonantNucleus"] == ["1H"]
    assert keys["EchoTime"] == pytest.approx(0.11998, abs=1e-9)
    assert keys["ExcitationFlipAngle"] == pytest.approx(90, abs=1)
    assert "RepetitionTime" not in keys  # one shot has none
    # voxel 20 x 30 x 40 mm at the isocentre, along the axes of the scanner
    np.testing.assert_allclose(abs(image.affine[:3, :3]), np.diag([20, 30, 40]), atol=1e-6)
    np.testing.assert_allclose(image.affine[:3, 3], 0, atol=1e-9)
    assert int(image.header["qform_code"]) == 1
    # the FID starts at the echo: the 801st of 4096 samples, the time from the echo to it is less than half a dwell time
    cut = keys["seqgen"]["samples_removed_before_echo"]
    assert abs(cut + 1 - 801) <= 1
    assert image.shape == (1, 1, 1, 4096 - cut)
    twix = mapvbvd.mapVBVD(str(raw), quiet=True).image
    twix.flagRemoveOS = False
    np.testing.assert_array_equal(np.asarray(image.dataobj).reshape(-1), twix.unsorted()[cut:, 0, 0].conj())
    opens, centres = 71.53e-3, (1.6e-3, 6.73e-3, 66.72e-3)  # by hand from the blocks of the file
    echo = 2 * (centres[2] - centres[1]) + centres[0]
    offset = opens + (cut + 0.5) * 62.5e-6 - echo
    assert abs(offset) < 62.5e-6 / 2
    assert keys["AcquisitionStartTime"] == keys["seqgen"]["first_sample_offset_s"] == pytest.approx(offset, abs=1e-9)
    assert keys["ProcessingApplied"] == [
        {
            "Time": TIME,
            "Program": "seqgen",
            "Version": keys["ProcessingApplied"][0]["Version"],
            "Method": "Removal of samples before the echo",
            "Details": "800 of 4096 samples removed; the first one kept is -18.750 us from the echo",
        }
    ]
    size = abs(np.asarray(image.dataobj).reshape(-1))
    assert size[:8].max() == size.max()  # the echo top


def test_flip_angle_series_of_a_scanner(shared: Path, tmp_path: Path) -> None:
    raw, seq = scanner_pair(shared, "02_FID_MFA")
    image, keys, _ = disk(convert(raw, seq, time=TIME).metabolite, tmp_path)
    assert image.shape == (1, 1, 1, 8192, 9)
    assert image.header["pixdim"][4] == 31.25e-6
    assert keys["dim_5"] == "DIM_DYN"
    assert keys["dim_5_header"] == {"ExcitationFlipAngle": [20.0 * k for k in range(1, 10)]}
    assert "ExcitationFlipAngle" not in keys
    assert "EchoTime" not in keys
    assert keys["RepetitionTime"] == pytest.approx(5.0, abs=1e-9)
    # pulse centre 600 us after the start, receiver 29.48 ms into the second block, first sample half a dwell later
    assert keys["AcquisitionStartTime"] == pytest.approx(1.12e-3 + 29.48e-3 + 31.25e-6 / 2 - 0.6e-3, abs=1e-9)
    assert keys["seqgen"]["samples_removed_before_echo"] == 0
    assert "ProcessingApplied" not in keys
    # nothing selects: the standard's 10 m in all directions; the console took 20 ms more for each repetition
    np.testing.assert_allclose(image.header["pixdim"][1:4], 10000)
    assert keys["seqgen"]["repetition_time_by_time_stamps_s"] == pytest.approx(5.0203, abs=1e-4)
    first = abs(np.asarray(image.dataobj)[0, 0, 0, 4])
    flips = np.radians(keys["dim_5_header"]["ExcitationFlipAngle"])
    assert np.corrcoef(first, abs(np.sin(flips)))[0, 1] > 0.9  # readouts belong to their flip angles


@pytest.mark.parametrize("name", ["06_PRESS_center", "02_FID_MFA"])
def test_pair_and_provenance_are_recorded(shared: Path, tmp_path: Path, name: str) -> None:
    raw, seq = scanner_pair(shared, name)
    _, keys, _ = disk(convert(raw, seq, time=TIME).metabolite, tmp_path)
    own = keys["seqgen"]
    assert own["seq_signature"] == seq.read_text().split("Hash ")[1].strip()
    assert own["pairing"] == "proven by tSequenceVariant"
    assert own["provenance"]["made_from"]["raw"] == {"name": raw.name, "sha256": sha256_file(raw)}
    assert own["provenance"]["made_from"]["seq"] == {"name": seq.name, "sha256": sha256_file(seq)}
    assert own["conjugation"].startswith("none: samples as stored are in the sense ppm = reference + f/f0")
    assert own["reference_ppm"] == keys["SpecFreqChemShift"] == 4.65
    assert own["reference_ppm_source"].startswith("assumed")
    assert own["place"] == "sSliceArray of the raw file"
    assert keys["OriginalFile"] == [raw.name, seq.name]
    assert keys["ConversionTime"] == TIME
    assert (keys["Manufacturer"], keys["ManufacturersModelName"]) == ("SIEMENS", "TrioTim")


@pytest.mark.parametrize("name", ["06_PRESS_center", "02_FID_MFA"])
def test_nothing_personal_is_copied(shared: Path, tmp_path: Path, name: str) -> None:
    """No value of a header field about the person, the study or the operator occurs in the file."""
    raw, seq = scanner_pair(shared, name)
    image, keys, content = disk(convert(raw, seq, time=TIME).metabolite, tmp_path)
    text = gzip.decompress(content)[: int(image.header["vox_offset"])].decode("latin-1")
    header = mapvbvd.mapVBVD(str(raw), quiet=True)["hdr"]
    personal = re.compile(
        r"patient|birth|weight|study|physician|protocolname|comment|exam|operator|institution|serial", re.I
    )
    values = {
        str(value).strip('"')
        for section in header.values()
        for key, value in section.items()
        if personal.search(str(key)) and isinstance(value, str) and len(value.strip('" ')) > 3
    }
    assert len(values) > 3
    allowed = {"1H"}
    assert [value for value in values - allowed if value in text] == []
    assert not any("Patient" in key or "Protocol" in key or "Institution" in key for key in keys)


def test_wrong_seq_is_refused(shared: Path) -> None:
    raw, _ = scanner_pair(shared, "06_PRESS_center")
    _, seq = scanner_pair(shared, "02_FID_MFA")
    with pytest.raises(InputError) as error:
        convert(raw, seq, time=TIME, allow_unproven=True)
    for part in ("06_PRESS_center.dat", "02_FID_MFA.seq", "e505370dd8e14d12", "7e2b89c1ae6eca64"):
        assert part in str(error.value)


# --- made-up twix scans -----------------------------------------------------------------------------------------------


def test_water_references_coils_and_labels(tmp_path: Path) -> None:
    """Four metabolite and two reference readouts after two dummies; the interpreter flags references PATREF."""
    samples = samples_of(6)
    raw, seq = twix_pair(tmp_path, samples, dummies=2, masks=[0, 0, 0, 0, PATREF, PATREF])
    converted = convert(raw, seq, time=TIME)
    data, water = converted.metabolite, converted.water_reference
    assert water is not None
    assert data.dims == water.dims == ("DIM_COIL", "DIM_DYN")
    np.testing.assert_array_equal(data.fid, np.moveaxis(samples[:4], (0, 1, 2), (2, 1, 0)))
    np.testing.assert_array_equal(water.fid, np.moveaxis(samples[4:], (0, 1, 2), (2, 1, 0)))
    assert data.header["dim_6_header"]["PulseqLabelAVG"]["Value"] == [2, 3, 4, 5]
    assert water.header["dim_6_header"]["PulseqLabelAVG"]["Value"] == [6, 7]
    assert "WaterSuppressed" not in data.header
    assert water.header["WaterSuppressed"] is False
    for part in (data, water):
        _, keys, _ = disk(part, tmp_path)
        assert keys["EchoTime"] == pytest.approx(TE_S, abs=1e-9)
        assert keys["RepetitionTime"] == pytest.approx(TR_S, abs=1e-9)
        assert keys["ExcitationFlipAngle"] == pytest.approx(90, abs=0.01)
        assert keys["seqgen"]["repetition_time_by_time_stamps_s"] == pytest.approx(TR_S)
        assert keys["AcquisitionStartTime"] == pytest.approx(DWELL_S / 2, abs=1e-9)
    # slice of the protocol: 20 x 30 x 25 mm
    image, _, _ = disk(data, tmp_path)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), [20, 30, 25], atol=1e-6)
    np.testing.assert_allclose(image.affine[:3, 3], [-4, 0, -7.5], atol=1e-6)
    text = gzip.decompress((tmp_path / "out.nii.gz").read_bytes()).decode("latin-1")
    assert [value for value in PERSONAL.values() if value in text] == []


@pytest.mark.parametrize(
    ("opens_s", "n_cut", "offset_s"),
    [
        (0.0800, 0, 1.25e-4),
        (0.0815, 0, 1.625e-3),  # the receiver opens after the echo: nothing is cut, the delay is told
        (0.0701, 39, -2.5e-5),
        (0.0640, 64, 1.25e-4),
    ],
)
def test_cut_at_the_echo(tmp_path: Path, opens_s: float, n_cut: int, offset_s: float) -> None:
    samples = samples_of(6)
    raw, seq = twix_pair(tmp_path, samples, opens_s=opens_s)
    data = convert(raw, seq, time=TIME).metabolite
    assert data.header["EchoTime"] == pytest.approx(TE_S, abs=1e-9)
    assert data.header["seqgen"]["samples_removed_before_echo"] == n_cut
    assert data.header["AcquisitionStartTime"] == pytest.approx(offset_s, abs=1e-9)
    assert data.n_samples == N_SAMPLES - n_cut
    np.testing.assert_array_equal(data.fid[0, 1], samples[:4, 1, n_cut])
    assert ("ProcessingApplied" in data.header) == (n_cut > 0)


def test_noise_readouts_are_left_out(tmp_path: Path) -> None:
    samples = samples_of(7)
    seq = write_seq(tmp_path / "noise.seq", n_noise=1)
    raw = write_twix(tmp_path / "noise.dat", samples, signature_of(seq), masks=[NOISE, *[0] * 6])
    data = convert(raw, seq, time=TIME).metabolite
    np.testing.assert_array_equal(data.fid[:, 0], samples[1:5, 0].T)
    assert data.header["seqgen"]["noise_readouts_left_out"] == 1


def test_one_coil_and_one_readout_have_no_dims(tmp_path: Path) -> None:
    raw, seq = twix_pair(tmp_path, samples_of(1, 1), n_metabolite=1, n_water=0)
    converted = convert(raw, seq, time=TIME)
    assert converted.metabolite.dims == ()
    assert converted.metabolite.fid.shape == (N_SAMPLES,)
    assert converted.water_reference is None
    assert "RepetitionTime" not in converted.metabolite.header


def test_a_scan_of_references_alone(tmp_path: Path) -> None:
    raw, seq = twix_pair(tmp_path, samples_of(2), n_metabolite=0)
    converted = convert(raw, seq, time=TIME)
    assert converted.water_reference is None
    assert converted.metabolite.header["WaterSuppressed"] is False


def test_references_by_set(tmp_path: Path) -> None:
    """A file that marks references by SET: named by the caller, never guessed."""
    seq = write_seq(tmp_path / "set.seq", signature=False)
    seq.write_text(seq.read_text().replace(" REF", " SET"))
    raw = write_twix(tmp_path / "set.dat", samples_of(6), None)
    plain = convert(raw, seq, time=TIME, allow_unproven=True)
    assert plain.metabolite.fid.shape[-1] == 6
    assert plain.metabolite.header["dim_6_header"]["PulseqLabelSET"]["Value"] == [0, 0, 0, 0, 1, 1]
    split = convert(raw, seq, time=TIME, allow_unproven=True, reference_set=1)
    assert split.water_reference is not None
    assert split.metabolite.fid.shape[-1] == 4


@pytest.mark.parametrize(
    ("selects", "size_mm"), [("xyz", [20, 30, 25]), ("yz", [10000, 30, 25]), ("", [10000, 10000, 10000])]
)
def test_directions_without_selection_are_ten_metres(tmp_path: Path, selects: str, size_mm: list[float]) -> None:
    raw, seq = twix_pair(tmp_path, samples_of(6), selects=selects)
    affine = convert(raw, seq, time=TIME).metabolite.affine_m
    assert affine is not None
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0) * 1e3, size_mm)


def test_voxel_of_the_seq_and_of_the_console(tmp_path: Path) -> None:
    """The `.seq` knows the size; a shift of its own cannot be placed on a console whose axes' sense is unknown."""
    size = {"VoxelSize": "0.021 0.022 0.023", "VoxelPosition": "0 0 0"}
    raw, seq = twix_pair(tmp_path, samples_of(6), definitions=size)
    affine = convert(raw, seq, time=TIME).metabolite.affine_m
    assert affine is not None
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [0.021, 0.022, 0.023])
    np.testing.assert_allclose(affine[:3, 3], [-0.004, 0, -0.0075])
    raw, seq = twix_pair(tmp_path, samples_of(6), definitions={**size, "VoxelPosition": "0.01 0 0"})
    data = convert(raw, seq, time=TIME).metabolite
    assert data.affine_m is None
    assert "sense of its axes" in data.header["seqgen"]["place"]


@pytest.mark.parametrize("conjugate", [False, True])
def test_a_peak_through_the_raw_file_to_the_disk(tmp_path: Path, conjugate: bool) -> None:
    """Samples exp(+2 pi i f t), f of +1 ppm, stand at reference + 1 on disk; conjugated at reference - 1."""
    t = np.arange(N_SAMPLES) * DWELL_S
    fid = np.exp((2j * np.pi * F0_HZ * 1e-6 - 20) * t)
    raw, seq = twix_pair(tmp_path, np.broadcast_to(fid, (6, 1, N_SAMPLES)))
    data = convert(raw, seq, time=TIME, conjugate=conjugate, reference_ppm=4.7).metabolite
    assert data.header["seqgen"]["conjugation"].startswith("the complex conjugate" if conjugate else "none: samples")
    image, keys, _ = disk(data, tmp_path)
    stored = np.asarray(image.dataobj)[0, 0, 0, :, 0]
    size = abs(np.fft.fft(stored, 8 * N_SAMPLES))
    f_hz = np.fft.fftfreq(8 * N_SAMPLES, float(image.header["pixdim"][4]))[size.argmax()]
    ppm = keys["SpecFreqChemShift"] - f_hz / keys["SpectrometerFrequency"][0]
    assert ppm == pytest.approx(3.7 if conjugate else 5.7, abs=0.02)


def test_receiver_offset_moves_the_reference(tmp_path: Path) -> None:
    """A receiver 123.2 Hz above the spectrometer frequency: zero frequency is one ppm above the reference."""
    raw, seq = twix_pair(tmp_path, samples_of(6), receiver_hz=123.2, definitions={"seqgen_reference_ppm": "4.8"})
    data = convert(raw, seq, time=TIME).metabolite
    assert data.reference_ppm == pytest.approx(5.8)
    _, keys, _ = disk(data, tmp_path)
    assert keys["RxOffset"] == pytest.approx(1.0)
    assert keys["SpecFreqChemShift"] == pytest.approx(4.8)
    assert keys["seqgen"]["reference_ppm_source"] == "definition seqgen_reference_ppm of the .seq"
    with pytest.raises(InputError, match=r"reference_ppm is given as 4\.65"):
        convert(raw, seq, time=TIME, reference_ppm=4.65)


def test_unproven_pairs_need_permission(tmp_path: Path) -> None:
    samples = samples_of(6)
    unsigned = write_seq(tmp_path / "unsigned.seq", signature=False)
    signed = write_seq(tmp_path / "signed.seq")
    silent = write_twix(tmp_path / "silent.dat", samples, None)
    stated = write_twix(tmp_path / "stated.dat", samples, signature_of(signed))
    for raw, seq, missing in (
        (silent, signed, "silent.dat states none"),
        (stated, unsigned, "unsigned.seq carries no signature"),
        (silent, unsigned, "silent.dat states none"),
    ):
        with pytest.raises(InputError, match=missing):
            convert(raw, seq, time=TIME)
        assert convert(raw, seq, time=TIME, allow_unproven=True).metabolite.header["seqgen"]["pairing"] == "not checked"
    assert convert(stated, signed, time=TIME).metabolite.header["seqgen"]["pairing"].startswith("proven")


def test_other_numbers_of_readouts_or_samples_are_refused(tmp_path: Path) -> None:
    raw, seq = twix_pair(tmp_path, samples_of(5))
    with pytest.raises(InputError, match=r"meas\.dat has 5 readouts .*, but scan\.seq plays 6"):
        convert(raw, seq, time=TIME)
    raw, seq = twix_pair(tmp_path, samples_of(6)[..., :128])
    with pytest.raises(InputError, match=r"meas\.dat has 128 samples .* scan\.seq takes 256"):
        convert(raw, seq, time=TIME)


def test_echo_after_the_readout_is_refused(tmp_path: Path) -> None:
    seq = write_seq(tmp_path / "a.seq", opens_s=0.0636, signature=False)
    seq.write_text(seq.read_text().replace(f"1 {N_SAMPLES} 250000", f"1 {N_SAMPLES} 25000"))
    raw = write_twix(tmp_path / "a.dat", samples_of(6), None)
    with pytest.raises(InputError, match="the echo comes after the last"):
        convert(raw, seq, time=TIME, allow_unproven=True)


# --- made-up MRD scans ------------------------------------------------------------------------------------------------


def mrd_pair(folder: Path, samples: np.ndarray[Any, Any], how: dict[str, Any], **changes: Any) -> tuple[Path, Path]:
    seq = write_seq(folder / "open.seq", **how)
    arguments: dict[str, Any] = {
        "spectrometer_frequency_hz": F0_HZ,
        "dwell_s": DWELL_S,
        "seq_signature": signature_of(seq),
        "seq_sha256": sha256_file(seq),
    }
    raw = folder / "open.h5"
    write_mrd(raw, samples, **{**arguments, **changes})
    return raw, seq


def test_mrd_with_place_from_the_seq(tmp_path: Path) -> None:
    definitions = {
        "VoxelSize": "0.02 0.025 0.03",
        "VoxelPosition": "0.01 -0.02 0.005",
        "VoxelRotation": "0 -1 0 1 0 0 0 0 1",
        "seqgen_reference_ppm": "4.65",
    }
    samples = samples_of(6)
    raw, seq = mrd_pair(
        tmp_path, samples, {"dummies": 1, "definitions": definitions}, start_s=[1.5 * k for k in range(6)]
    )
    converted = convert(raw, seq, time=TIME)
    data = converted.metabolite
    np.testing.assert_array_equal(data.fid, np.moveaxis(samples[:4], (0, 1, 2), (2, 1, 0)))
    assert converted.water_reference is not None
    np.testing.assert_array_equal(converted.water_reference.fid[:, 1], samples[4:, 1].T)
    assert data.affine_m is not None
    np.testing.assert_allclose(data.affine_m[:3], [[0, -0.025, 0, 0.01], [0.02, 0, 0, -0.02], [0, 0, 0.03, 0.005]])
    own = data.header["seqgen"]
    assert own["pairing"] == "proven by seq_signature"
    assert own["conjugation"].startswith("none: the file states its sense")
    assert own["repetition_time_by_time_stamps_s"] == pytest.approx(TR_S)
    write_nifti_mrs(data, tmp_path / "a.nii.gz")
    back = read_nifti_mrs(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(back.fid, data.fid)
    assert back.header == data.header


def test_mrd_with_its_own_place(tmp_path: Path) -> None:
    affine = np.diag([0.02, 0.03, 0.04, 1.0])
    affine[:3, 3] = [0.01, 0.02, -0.03]
    raw, seq = mrd_pair(tmp_path, samples_of(6), {}, affine_m=affine)
    found = convert(raw, seq, time=TIME).metabolite.affine_m  # told apart from twix by its content
    np.testing.assert_allclose(found, affine, atol=1e-8)


def test_mrd_of_another_sequence_is_refused(tmp_path: Path) -> None:
    raw, seq = mrd_pair(tmp_path, samples_of(6), {})
    other = write_seq(tmp_path / "other.seq", flip_deg=60)
    with pytest.raises(InputError, match=r"other\.seq is not the sequence that .*open\.h5"):
        convert(raw, other, time=TIME, allow_unproven=True)
    unsigned = write_seq(tmp_path / "unsigned.seq", signature=False)
    raw, _ = mrd_pair(tmp_path, samples_of(6), {}, seq_signature=None, seq_sha256=sha256_file(unsigned))
    assert convert(raw, unsigned, time=TIME).metabolite.header["seqgen"]["pairing"] == "proven by seq_sha256"
    with pytest.raises(InputError, match="SHA-256"):
        convert(raw, seq, time=TIME, allow_unproven=True)


def test_mrd_with_another_dwell_time_is_refused(tmp_path: Path) -> None:
    raw, seq = mrd_pair(tmp_path, samples_of(6), {}, dwell_s=2.6e-4)
    with pytest.raises(InputError, match="dwell time of 260 us"):
        convert(raw, seq, time=TIME)


def test_missing_raw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        convert(tmp_path / "none.dat", tmp_path / "none.seq", time=TIME)
