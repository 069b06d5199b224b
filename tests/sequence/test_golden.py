"""Reference files of every built-in sequence against the committed table, and bytes that no process can turn."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import golden
import pytest
from ruamel.yaml import YAML

SCRIPT = Path(golden.__file__)
TOLERANCE = 1e-5
"""A file keeps six digits."""


COMMITTED = YAML(typ="safe").load(golden.TABLE.read_text(encoding="utf-8"))
NAMES = golden.built_in_sequences()
CELLS = [(name, kind) for name in NAMES for kind in golden.KINDS]


@cache
def built(name, kind):
    """The rows of a sequence, made once."""
    return golden.rows(name, kind)


def differences(wanted, got, at=""):
    """Where two tables of numbers differ: counts and labels exactly, sums to the digits of a file."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in {**wanted, **got}:
            if key not in wanted or key not in got:
                yield f"{at}/{key} only in {'the table' if key in wanted else 'what was built'}"
            elif key != "sha256":
                yield from differences(wanted[key], got[key], f"{at}/{key}")
    elif isinstance(wanted, list):
        # The weighted sum may cancel: it is measured against the sum of magnitudes, one at least for phases of zero.
        scale = max(abs(wanted[0]), 1.0)
        if any(abs(a - b) > TOLERANCE * scale for a, b in zip(wanted, got, strict=True)):
            yield f"{at}: {got} instead of {wanted}"
    elif wanted != got:
        yield f"{at}: {got} instead of {wanted}"


def test_the_table_has_every_built_in_sequence():
    assert set(COMMITTED["sequences"]) == set(NAMES), f"make the table anew: python {SCRIPT}"
    assert set(COMMITTED["made_with"]) == set(golden.made_with())
    assert all(COMMITTED["made_with"].values())
    for kinds in COMMITTED["sequences"].values():
        assert any(value for forms in kinds.values() for value in golden.hashes(forms).values())


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_files_play_what_the_table_says(name, kind):
    """On any machine, with any versions."""
    wrong = list(differences(COMMITTED["sequences"][name][kind], built(name, kind)))
    assert wrong == [], f"if this is meant: python {SCRIPT}\n" + "\n".join(wrong)


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_files_have_the_bytes_of_the_table(name, kind):
    if COMMITTED["made_with"] != golden.made_with():
        pytest.skip(
            f"the bytes are those of {COMMITTED['made_with']}, this is {golden.made_with()}; what the files play is "
            "compared with tolerances by the test above"
        )
    assert golden.hashes(built(name, kind)) == golden.hashes(COMMITTED["sequences"][name][kind])


def test_the_comparison_sees_what_a_hash_would():
    """Another order, phase, or label, 2e-5 of a sum; not the last digits."""
    row = {"n_blocks": 3, "labels_sha256": "a", "duration_s": [2.0, 1.2], "rf_phase_real": [4.0, 0.0]}
    assert list(differences(row, {**row, "duration_s": [2.00001, 1.19999]})) == []
    for change in (
        {"n_blocks": 4},
        {"labels_sha256": "b"},
        {"duration_s": [2.0, 1.3]},
        {"duration_s": [2.0001, 1.2]},
        {"rf_phase_real": [4.0, 0.1]},
        {"sum": [1.0, 1.0]},
    ):
        assert len(list(differences(row, {**row, **change}))) == 1, change


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_a_second_build_in_this_process_gives_the_same_bytes(name, kind):
    assert golden.hashes(golden.rows(name, kind, plays=False)) == golden.hashes(built(name, kind))


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "threads"), [("1", "1"), ("2", "2")])
def test_another_process_gives_the_same_bytes(seed, threads):
    """Whatever Python's seed of hashes, and on one thread and two."""
    environment = os.environ | {"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, SCRIPT, "--print"], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[*cell, golden.hashes(built(*cell))] for cell in CELLS]
