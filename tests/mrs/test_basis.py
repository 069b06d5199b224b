import json
import re
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.mrs.basis import Basis, export_fsl_mrs, load_basis, save_basis
from seqgen.provenance import Provenance, Source

N, DWELL_S, F0_HZ, REFERENCE_PPM = 512, 2.5e-4, 123.2e6, 4.80
NAA_PPM = 2.01


@pytest.fixture
def basis():
    t = np.arange(N) * DWELL_S
    rng = np.random.default_rng(4)
    naa = 3 * np.exp((2j * np.pi * (NAA_PPM - REFERENCE_PPM) * F0_HZ * 1e-6 - np.pi * 2) * t)
    return Basis(
        names=("NAA", "Glu"),
        fid=np.stack((naa, rng.standard_normal(N) + 1j * rng.standard_normal(N)), axis=1),
        dwell_s=DWELL_S,
        spectrometer_frequency_hz=F0_HZ,
        reference_ppm=REFERENCE_PPM,
        te_s=0.075,
        seq_name="press_edit",
        linewidth_hz=2.0,
        condition=1,
        provenance=Provenance(made_from={"seq": Source(name="a.seq", sha256="0" * 64)}, seed=3),
    )


def test_round_trip_is_exact(basis, tmp_path):
    save_basis(basis, tmp_path / "b.npz")
    back = load_basis(tmp_path / "b.npz")
    np.testing.assert_array_equal(back.fid, basis.fid)
    for name in Basis.__slots__:
        if name != "fid":
            assert getattr(back, name) == getattr(basis, name), name


def test_numpy_alone_reads_the_file(basis, tmp_path):
    save_basis(basis, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as archive:
        metadata = json.loads(bytes(archive["metadata"]))
        np.testing.assert_array_equal(archive["fid"][:, metadata["names"].index("Glu")], basis.column("Glu"))
    assert metadata["te_s"] == 0.075


def test_an_older_file_states_no_condition(basis, tmp_path):
    save_basis(basis, tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as archive:
        metadata = json.loads(bytes(archive["metadata"]))
        del metadata["condition"]
        older = np.frombuffer(json.dumps(metadata).encode(), dtype=np.uint8)
        np.savez(tmp_path / "older.npz", fid=archive["fid"], metadata=older)
    assert load_basis(tmp_path / "older.npz").condition is None


def test_equal_bases_give_equal_bytes_at_any_time(basis, tmp_path, monkeypatch):
    save_basis(basis, tmp_path / "one.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    save_basis(replace(basis, fid=basis.fid.copy(order="F")), tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_truncation_anywhere_is_reported(basis, tmp_path):
    save_basis(basis, tmp_path / "b.npz")
    whole = (tmp_path / "b.npz").read_bytes()
    cut = tmp_path / "cut.npz"
    for k in range(100):
        cut.write_bytes(whole[: len(whole) * k // 100])
        with pytest.raises(InputError, match=r"cut\.npz is not a readable basis file"):
            load_basis(cut)


def test_damage_anywhere_never_escapes_as_another_error(basis, tmp_path):
    save_basis(basis, tmp_path / "b.npz")
    whole = bytearray((tmp_path / "b.npz").read_bytes())
    broken, refused = tmp_path / "broken.npz", 0
    for position in range(0, len(whole), len(whole) // 150):
        copy = whole.copy()
        copy[position] ^= 0x5A
        broken.write_bytes(copy)
        with suppress(InputError):
            load_basis(broken)
            continue
        refused += 1
    # The checksums of the archive see damage to the data; a few bytes of its book-keeping are not read.
    assert refused > 140


@pytest.mark.parametrize("content", [b"", b"garbage" * 50, b"PK\x03\x04" + bytes(100)])
def test_garbage_is_reported(content, tmp_path):
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(InputError, match="not a readable basis file"):
        load_basis(tmp_path / "b.npz")


def test_missing_file_folder_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match="There is no basis file"):
        load_basis(tmp_path / "none.npz")
    with pytest.raises(InputError, match="not a readable basis file"):
        load_basis(tmp_path)
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    with pytest.raises(InputError, match="not a readable basis file"):
        load_basis(tmp_path / "foreign.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(InputError, match="not a readable basis file"):
        load_basis(tmp_path / "array.npy")
    other = np.frombuffer(b'{"format": "seqgen design 1"}', dtype=np.uint8)
    np.savez(tmp_path / "design.npz", fid=np.zeros((2, 1)), metadata=other)
    with pytest.raises(InputError, match="says format 'seqgen design 1'"):
        load_basis(tmp_path / "design.npz")
    lean = np.frombuffer(b'{"format": "seqgen basis 1", "names": ["A"]}', dtype=np.uint8)
    np.savez(tmp_path / "lean.npz", fid=np.zeros((2, 1)), metadata=lean)
    with pytest.raises(InputError, match=r"lean\.npz is not a usable basis file"):
        load_basis(tmp_path / "lean.npz")


def test_objects_in_a_file_are_not_executed(tmp_path):
    np.savez(tmp_path / "evil.npz", fid=np.array([{"a": 1}], dtype=object), metadata=np.zeros(1))
    with pytest.raises(InputError, match="not a readable basis file"):
        load_basis(tmp_path / "evil.npz")


def test_a_full_disk_leaves_nothing(basis, tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(InputError, match="No space left"):
        save_basis(basis, tmp_path / "b.npz")
    assert list(tmp_path.iterdir()) == []


def test_fsl_mrs_folder_is_in_disk_sense_with_water_in_the_middle(basis, tmp_path):
    export_fsl_mrs(basis, tmp_path / "fsl")
    content = json.loads((tmp_path / "fsl" / "NAA.json").read_text())["basis"]
    fid = np.array(content["basis_re"]) + 1j * np.array(content["basis_im"])
    frequency = np.fft.fftfreq(8192, content["basis_dwell"])
    peak_hz = frequency[np.argmax(np.abs(np.fft.fft(fid, 8192)))]
    # Disk sense: ppm = 4.65 - f/f0.
    assert 4.65 - peak_hz / content["basis_centre"] == pytest.approx(NAA_PPM, abs=0.005)
    assert content["basis_name"] == "NAA"
    assert content["basis_width"] == 2.0
    assert sorted(path.name for path in (tmp_path / "fsl").iterdir()) == ["Glu.json", "NAA.json"]


def test_column_names_what_there_is(basis):
    with pytest.raises(InputError, match=re.escape("has no Gln; it has NAA, Glu")):
        basis.column("Gln")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("NAA",)}, "one column for each"),
        ({"names": ("NAA", "NAA")}, "different name"),
        ({"dwell_s": 0.0}, "dwell_s > 0"),
        ({"fid": np.full((4, 2), np.nan + 0j)}, "NAA, Glu are not finite"),
    ],
)
def test_impossible_bases_are_refused(basis, change, message):
    with pytest.raises(InputError, match=message):
        replace(basis, **change)
