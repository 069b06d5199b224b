import errno
import json
import os
import stat
from pathlib import Path

import pytest

from seqgen.errors import InputError
from seqgen.provenance import (
    Provenance,
    Source,
    replacing,
    require_source,
    sha256_bytes,
    sha256_file,
    source,
    versions,
    write_json,
    write_text,
)

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of "abc": FIPS 180-4, example B.1 of the Secure Hash Standard."""


def test_hash_of_known_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_bytes(b"abc") == sha256_file(tmp_path / "abc") == ABC


@pytest.mark.parametrize("name", ["missing.seq", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(InputError, match=r"Cannot read .*Check the path"):
        sha256_file(tmp_path / name)


def test_provenance_survives_json(tmp_path):
    path = tmp_path / "press.seq"
    path.write_bytes(b"abc")
    first = Provenance(made_from={"seq": source(path)}, seed=7)
    again = Provenance.from_json(json.loads(json.dumps(first.to_json())))
    assert again.made_from == {"seq": Source(name="press.seq", sha256=ABC)}
    assert again == first
    assert again.versions["torch"] == versions()["torch"] != "not installed"


def artefact_made_from(path):
    return Provenance(made_from={"seq": source(path)})


def test_the_right_source_passes(tmp_path):
    path = tmp_path / "press.seq"
    path.write_bytes(b"abc")
    require_source(artefact_made_from(path), "seq", path, tmp_path / "basis.npz")


def test_a_changed_source_is_refused_by_name(tmp_path):
    path, other, artefact = tmp_path / "press.seq", tmp_path / "other.seq", tmp_path / "basis.npz"
    path.write_bytes(b"abc")
    other.write_bytes(b"abd")
    with pytest.raises(InputError) as caught:
        require_source(artefact_made_from(path), "seq", other, artefact)
    for part in (str(other), str(artefact), "press.seq", ABC[:12], sha256_file(other)[:12], "seq"):
        assert part in str(caught.value)


def test_a_source_that_was_never_recorded_is_refused_by_name(tmp_path):
    path, artefact = tmp_path / "press.seq", tmp_path / "basis.npz"
    path.write_bytes(b"abc")
    with pytest.raises(InputError) as caught:
        require_source(Provenance(), "seq", path, artefact)
    assert str(path) in str(caught.value)
    assert str(artefact) in str(caught.value)


def listing(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_writing_makes_folders_and_leaves_one_readable_file(tmp_path):
    write_json(tmp_path / "a" / "b" / "x.json", {"b": 1, "a": [2]})
    folder = tmp_path / "a" / "b"
    assert listing(folder) == ["x.json"]
    assert (folder / "x.json").read_text() == '{\n  "b": 1,\n  "a": [\n    2\n  ]\n}\n'
    assert stat.S_IMODE((folder / "x.json").stat().st_mode) == 0o644


def test_the_temporary_file_keeps_the_suffixes(tmp_path):
    with replacing(tmp_path / "x.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"new")
        assert not (tmp_path / "x.nii.gz").exists()
    assert (tmp_path / "x.nii.gz").read_bytes() == b"new"


@pytest.mark.parametrize("existing", [None, b"old"])
@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), InputError),
        (ValueError("bad array"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_fails_midway_leaves_nothing(tmp_path, existing, failure, raised):
    path = tmp_path / "design.npz"
    if existing:
        path.write_bytes(existing)

    def write_and_fail():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise failure

    with pytest.raises(raised) as caught:
        write_and_fail()
    assert listing(tmp_path) == (["design.npz"] if existing else [])
    if existing:
        assert path.read_bytes() == existing
    if raised is InputError:
        assert str(path) in str(caught.value)
        assert "No space left on device" in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_leaves_nothing(tmp_path):
    def write():
        with replacing(tmp_path / "x.txt") as temporary:
            temporary.unlink()
            temporary.symlink_to("/dev/full")
            temporary.write_text("x" * 100_000)

    with pytest.raises(InputError, match="No space left"):
        write()
    assert listing(tmp_path) == []
    assert Path("/dev/full").exists()


def test_a_rename_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match="cross-device"):
        write_text(tmp_path / "x.txt", "text")
    assert listing(tmp_path) == []


def test_a_folder_in_the_way_is_an_input_error(tmp_path):
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(InputError, match=r"Cannot write .*x\.txt"):
        write_text(tmp_path / "x.txt", "text")
    assert listing(tmp_path) == ["x.txt"]


def test_a_file_where_a_folder_should_be_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        write_text(tmp_path / "file" / "x.txt", "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_without_permission_is_an_input_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            write_text(tmp_path / "x.txt", "text")
    finally:
        tmp_path.chmod(0o700)
