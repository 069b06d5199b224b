"""MRD files against the ismrmrd package's own reader and writer."""

import json
import time
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
from ismrmrd import xsd

from seqgen.errors import InputError
from seqgen.mrs.mrd import POSITIVE_SENSE, read_mrd, write_mrd
from seqgen.provenance import Provenance, Source

SIGNATURE, SHA256 = "a" * 32, "b" * 64
LABELS = [{"NOISE": 1}, {"AVG": 0}, {"AVG": 1, "SET": 3, "REP": 2}, {"AVG": 2, "REF": 1}]
AFFINE_M = np.array(
    [[0.02, 0, 0, 0.011], [0, -0.0259807621135, -0.0125, 0.002], [0, -0.015, 0.0216506350946, -0.03], [0, 0, 0, 1]]
)


def transients() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(4, 3, 32)) + 1j * rng.normal(size=(4, 3, 32))


def write(path: Path, **changes: Any) -> Path:
    arguments: dict[str, Any] = {
        "spectrometer_frequency_hz": 123252320.7,
        "dwell_s": 2.501e-4,
        "seq_signature": SIGNATURE,
        "seq_sha256": SHA256,
        "labels": LABELS,
        "start_s": [0.1, 2.1, 4.1, 6.1],
        "affine_m": AFFINE_M,
        "system": {"systemVendor": "Open", "systemModel": "Console 1"},
        "provenance": Provenance(made_from={"seq": Source(name="a.seq", sha256=SHA256)}, seed=3),
    }
    write_mrd(path, transients(), **{**arguments, **changes})
    return path


def test_ismrmrd_reads_what_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.h5")
    with ismrmrd.Dataset(str(path), mode="r") as dataset:
        header = xsd.CreateFromDocument(dataset.read_xml_header())
        acquisitions = [dataset.read_acquisition(k) for k in range(dataset.number_of_acquisitions())]
    assert header.experimentalConditions.H1resonanceFrequency_Hz == 123252321
    assert header.acquisitionSystemInformation.receiverChannels == 3
    assert header.acquisitionSystemInformation.systemFieldStrength_T == pytest.approx(2.8948, abs=1e-4)
    assert header.encoding[0].encodedSpace.fieldOfView_mm.y == pytest.approx(30)
    strings = {p.name: p.value for p in header.userParameters.userParameterString}
    assert strings["seq_signature"] == SIGNATURE
    assert strings["seq_sha256"] == SHA256
    assert strings["sense"] == POSITIVE_SENSE
    assert json.loads(strings["provenance"])["seed"] == 3
    np.testing.assert_array_equal([a.data for a in acquisitions], transients().astype(np.complex64))
    flags = [
        (a.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT), a.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION))
        for a in acquisitions
    ]
    assert flags == [(True, False), (False, False), (False, False), (False, True)]
    assert [a.is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT) for a in acquisitions] == [False, False, False, True]
    assert [a.idx.average for a in acquisitions] == [0, 0, 1, 2]
    assert (acquisitions[2].idx.set, acquisitions[2].idx.repetition) == (3, 2)
    assert acquisitions[0].sample_time_us == pytest.approx(250.1)
    # position and directions are mm in left, posterior, superior
    np.testing.assert_allclose(acquisitions[1].position, [-11, -2, -30], rtol=1e-6)
    np.testing.assert_allclose(acquisitions[1].phase_dir, [0, 0.8660254, -0.5], atol=1e-6)


def test_round_trip(tmp_path: Path) -> None:
    scan = read_mrd(write(tmp_path / "scan.h5"))
    np.testing.assert_array_equal(scan.samples, transients()[1:].astype(np.complex64))
    assert scan.n_noise == 1
    assert scan.spectrometer_frequency_hz == 123252320.7
    assert scan.dwell_s == 2.501e-4
    assert (scan.seq_signature, scan.seq_sha256, scan.sense) == (SIGNATURE, SHA256, POSITIVE_SENSE)
    assert scan.time_stamp_s is not None
    np.testing.assert_allclose(scan.time_stamp_s, [2.1, 4.1, 6.1])
    assert scan.place is not None
    np.testing.assert_allclose(scan.place.axes * scan.place.size_m, AFFINE_M[:3, :3], atol=1e-8)
    np.testing.assert_allclose(scan.place.centre_m, AFFINE_M[:3, 3], atol=1e-8)
    assert scan.header == {"Manufacturer": "Open", "ManufacturersModelName": "Console 1"}
    assert scan.user["raw_provenance"]["made_from"]["seq"]["name"] == "a.seq"


def test_a_console_that_states_little(tmp_path: Path) -> None:
    """A file by the ismrmrd package with the header's mandatory parts alone."""
    path = tmp_path / "foreign.h5"
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=32, y=1, z=1), fieldOfView_mm=xsd.fieldOfViewMm(x=0, y=0, z=0)
    )
    header = xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=127740000),
        encoding=[
            xsd.encodingType(
                encodedSpace=space,
                reconSpace=space,
                encodingLimits=xsd.encodingLimitsType(),
                trajectory=xsd.trajectoryType.CARTESIAN,
            )
        ],
    )
    with ismrmrd.Dataset(str(path)) as dataset:
        dataset.write_xml_header(xsd.ToXML(header).encode())
        for block in transients():
            acquisition = ismrmrd.Acquisition.from_array(block.astype(np.complex64), sample_time_us=250.0)
            dataset.append_acquisition(acquisition)
    scan = read_mrd(path)
    np.testing.assert_array_equal(scan.samples, transients().astype(np.complex64))
    assert scan.spectrometer_frequency_hz == 127.74e6
    assert (scan.seq_signature, scan.seq_sha256, scan.sense, scan.place) == (None, None, "", None)
    assert scan.time_stamp_s is None


def test_files_without_place_or_labels(tmp_path: Path) -> None:
    scan = read_mrd(write(tmp_path / "scan.h5", affine_m=None, labels=None, start_s=None, seq_signature=None))
    assert scan.place is None
    assert scan.seq_signature is None
    assert len(scan.samples) == 4


@pytest.mark.parametrize(
    ("changes", "message"), [({"labels": [{}]}, "labels has 1 entries"), ({"start_s": [0.0]}, "start_s has 1 entries")]
)
def test_lists_must_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path / "scan.h5", **changes)
    assert list(tmp_path.iterdir()) == []


def test_shapes_that_the_format_cannot_hold(tmp_path: Path) -> None:
    for samples in (np.zeros((2, 8)), np.zeros((2, 1, 8)), np.zeros((1, 1, 70000), dtype=complex)):
        with pytest.raises(InputError, match="65535"):
            write_mrd(
                tmp_path / "a.h5",
                samples,
                spectrometer_frequency_hz=1e8,
                dwell_s=1e-4,
                seq_signature=None,
                seq_sha256=SHA256,
            )


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with pytest.raises(InputError, match="no such file"):
        read_mrd(path)
    content = write(path).read_bytes()
    begin = time.perf_counter()
    for part in range(0, 100, 2):
        path.write_bytes(content[: len(content) * part // 100])
        with pytest.raises(InputError, match=r"scan\.h5"):
            read_mrd(path)
    assert time.perf_counter() - begin < 10
    with h5py.File(path, "w") as file:
        file["dataset/xml"] = np.array([b"<no xml"])
        file["dataset/data"] = np.zeros(3)
    with pytest.raises(InputError, match="cannot be read as MRD"):
        read_mrd(path)
    path.write_bytes(content.replace(b"<x>32</x>", b"<x>3?</x>"))
    with pytest.raises(InputError, match="cannot be read as MRD"):
        read_mrd(path)
    with h5py.File(path, "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InputError, match="cannot be read as MRD"):
        read_mrd(path)


def test_readouts_of_different_size_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.h5")
    with h5py.File(path, "r+") as file:
        records = file["dataset/data"][()]
        records["head"]["number_of_samples"][2] = 16
        file["dataset/data"][...] = records
    with pytest.raises(InputError, match="differ in size"):
        read_mrd(path)
    with h5py.File(path, "r+") as file:
        records["head"]["number_of_samples"] = 16
        file["dataset/data"][...] = records
    with pytest.raises(InputError, match="fewer samples than its head"):
        read_mrd(path)
