"""A package by somebody else, installed beside seqgen: found, built from the command line, and held to the contract."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.plugins import sequence_names

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECTION = """sequence:
  name: example_spin_echo
  te_ms: 24
  tr_ms: 800
  averages: 6
  refocusing_duration_us: 1200

"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment variables under which the package is installed: by pip, without network, into a folder of its own."""
    folder = tmp_path_factory.mktemp("third_party")
    shutil.copytree(HERE, folder / "source", ignore=shutil.ignore_patterns("test_*", "__pycache__"))
    # What is on the path already would be taken for the requirement: only the package itself is installed.
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "--target", folder / "site", folder / "source"], check=True, cwd=folder)
    return os.environ | {"PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}


def run(environment, *command, exit_code=0, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def protocol(folder, section=SECTION):
    """A protocol with the third-party sequence in place of PRESS."""
    text = (ROOT / "protocols" / "phantom_glu_gln_3t.yaml").read_text()
    text, count = re.subn(r"(?m)^sequence:\n(  .*\n)+\n", section, text)
    assert count == 1
    path = folder / "study.yaml"
    path.write_text(text)
    return path


def test_it_is_found_where_it_is_installed_and_only_there(environment):
    code = "from seqgen.sequence.plugins import *; print(sequence_names(), find_sequence('example_spin_echo').Params)"
    found = run(environment, "-c", code)
    assert "['example_spin_echo', " in found
    assert "example_spin_echo.SpinEchoParams" in found
    assert "example_spin_echo" not in sequence_names() or "example_spin_echo" in os.environ.get("PYTHONPATH", "")


def test_seqgen_build_writes_it_and_the_files_read_back(environment, tmp_path):
    printed = run(environment, "-m", "seqgen", "build", protocol(tmp_path), "-o", tmp_path / "files", "--json")
    paths = [Path(path) for path in json.loads(printed)["files"]]
    assert [path.name for path in paths] == ["example_spin_echo.seq", "example_spin_echo_141.seq"]
    for path in paths:
        found = shots(read_seq(path))
        assert [shot.labels for shot in found] == [{"AVG": k, "REF": 0} for k in range(6)]
        (excite_s, _), (refocus_s, _) = found[0].timeline.pulses()
        assert 2 * (refocus_s - excite_s) == pytest.approx(0.024, abs=1e-9)
        opens_s, receiver = found[0].timeline.readouts()[0]
        assert opens_s + receiver.dwell_s / 2 - excite_s == pytest.approx(0.024, abs=1e-6)


def test_seqgen_build_refuses_what_it_refuses(environment, tmp_path):
    short = protocol(tmp_path, SECTION.replace("te_ms: 24", "te_ms: 1"))
    text = run(environment, "-m", "seqgen", "build", short, "-o", tmp_path / "files", exit_code=2)
    assert "te_s must be at least" in text
    assert not (tmp_path / "files").exists()


def test_it_keeps_the_contract_that_runs_on_every_discovered_sequence(environment):
    """The contract test itself, where the package is installed: it finds the sequence without being told."""
    text = run(
        environment, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/sequence/test_contract.py",
        "-k", "example_spin_echo and (contract or pypulseq)",
    )  # fmt: skip
    assert re.search(r"(?m)^6 passed, \d+ deselected", text), text
