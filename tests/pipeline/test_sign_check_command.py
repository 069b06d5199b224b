"""`seqgen sign-check` on raw data as an open console stores them."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from press_files import F0_HZ, context, write
from sign_scanner import Interpreter, Phantom, scan

from seqgen.cli import main
from seqgen.mrs.mrd import write_mrd
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.plugins import find_sequence

PHANTOM = Phantom()
PLACE = ["--phantom-mm", "20", "-35", "60"]


@pytest.fixture(scope="module")
def seq_path(tmp_path_factory):
    spec = find_sequence("sign_check")
    return write(tmp_path_factory.mktemp("signs") / "sign_check.seq", spec.build(spec.Params(), context()))


def raw_file(path, seq_path, interpreter, phantom=PHANTOM, **changes):
    seq = read_seq(seq_path)
    known = {"seq_signature": seq.signature, "seq_sha256": seq.sha256} | changes
    samples = scan(seq, interpreter, phantom)
    write_mrd(path, samples, spectrometer_frequency_hz=F0_HZ, dwell_s=1e-4, **known)
    return path


def call(*words):
    return CliRunner().invoke(main, ["sign-check", *map(str, words)])


def test_a_faithful_scan_passes_and_says_so(tmp_path, seq_path):
    result = call(raw_file(tmp_path / "raw.h5", seq_path, Interpreter()), seq_path, *PLACE)
    assert result.exit_code == 0, result.output
    assert result.output.count("faithful    from") == 16
    assert "undecided" not in result.output


def test_a_conjugating_interpreter_fails_and_is_named(tmp_path, seq_path):
    raw = raw_file(tmp_path / "raw.h5", seq_path, Interpreter(waveform=-1))
    result = call(raw, seq_path, *PLACE, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert {row["name"]: row["verdict"] for row in found["conventions"] if row["verdict"] != "faithful"} == {
        "RF waveform": "conjugated"
    }
    row = next(row for row in found["conventions"] if row["name"] == "RF waveform")
    assert [found["answers"][k - 1]["sign"] for k in row["rests_on"]] == [-1, 1]


def test_the_place_is_turned_into_the_axes_that_the_raw_file_states(tmp_path, seq_path):
    """The sequence's x, y, z lie along superior, right, anterior: the bottle is at its (60, 20, -35) mm."""
    affine_m = np.diag([0.0, 0.0, 0.0, 1.0])
    affine_m[:3, :3] = 0.1 * np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    phantom = Phantom(centre_m=(0.06, 0.02, -0.035), oil_centre_m=(0.02, -0.05, 0.01))
    raw = raw_file(tmp_path / "raw.h5", seq_path, Interpreter(), phantom, affine_m=affine_m)
    result = call(raw, seq_path, *PLACE)
    assert result.exit_code == 0, result.output
    assert "undecided" not in result.output
    assert "swapped" in call(raw, seq_path, "--phantom-mm", "-35", "60", "20").output


def test_a_known_offset_is_taken_from_the_command_line(tmp_path, seq_path):
    raw = raw_file(tmp_path / "raw.h5", seq_path, Interpreter(), Phantom(oil_fraction=0.0, water_hz=-80.0))
    assert "all may be mirrored at once" in call(raw, seq_path).output
    known = call(raw, seq_path, "--water-offset-hz", "-80", "--json")
    assert json.loads(known.output)["conventions"][0] == {
        "name": "samples",
        "verdict": "faithful",
        "rests_on": [8],
        "note": "",
    }


def test_raw_data_of_another_file_are_refused(tmp_path, seq_path):
    raw = raw_file(tmp_path / "raw.h5", seq_path, Interpreter(), seq_signature="0" * 32)
    result = call(raw, seq_path)
    assert result.exit_code == 2
    assert "is not the sequence that" in result.output
    unsigned = tmp_path / "unsigned.seq"
    unsigned.write_text(seq_path.read_text().partition("\n[SIGNATURE]")[0] + "\n")
    result = call(raw_file(tmp_path / "raw2.h5", seq_path, Interpreter()), unsigned)
    assert result.exit_code == 2
    assert call(tmp_path / "none.h5", seq_path).exit_code == 2
