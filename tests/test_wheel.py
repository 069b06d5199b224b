"""The wheel in an empty environment, outside the checkout: sequences, protocols and data travel with it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


def tiny(text: str) -> str:
    """Return a protocol that runs in seconds: few metabolites, averages, members and iterations."""
    for pattern, replacement in (
        (r"(?m)^    (NAA|Cho|mI|Lac): .*\n", ""),
        (r"b0_offsets_hz: .*", "b0_offsets_hz: [0]"),
        (r"b1_scales: .*", "b1_scales: [1.0]"),
        (r"starts: .*", "starts: 1"),
        (r"iterations: .*", "iterations: 4"),
        (r"averages: 32 .*", "averages: 4"),
        (r"phase_cycle: exor_16 .*", "phase_cycle: two_step"),
        (r"water_reference_averages: 4 .*", "water_reference_averages: 2"),
        (r"n_coils: .*", "n_coils: 2"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    return text


@pytest.mark.wheel
def test_a_wheel_runs_the_whole_chain_in_an_empty_environment(tmp_path: Path) -> None:
    _run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("seqgen-*.whl")
    _run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    binary = tmp_path / "env" / "bin"
    _run(binary / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = _run(binary / "python", "-c", "import seqgen, seqgen_data; print(seqgen.__file__)", cwd=elsewhere)
    assert str(tmp_path / "env") in where
    diagnosis = json.loads(_run(binary / "seqgen", "doctor", "--json", cwd=elsewhere))
    assert diagnosis["missing"] == []
    for design in (ROOT / "data" / "designs").glob("*.json"):
        _run(binary / "seqgen", "init", design.stem, "-o", f"{design.stem}.yaml", cwd=elsewhere)
        assert (elsewhere / design.name).read_bytes() == design.read_bytes()
    _run(binary / "seqgen", "init", "-o", "study.yaml", cwd=elsewhere)
    protocol = elsewhere / "study.yaml"
    protocol.write_text(tiny(protocol.read_text()))
    result = json.loads(_run(binary / "seqgen", "run", "study.yaml", "-o", "run", "--json", cwd=elsewhere))
    assert Path(elsewhere / result["report"]).stat().st_size > 100_000
    assert set(result["metabolites"]) == {"Glu", "Gln"}
