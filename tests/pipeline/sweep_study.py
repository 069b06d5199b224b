"""A study of designs so small that a point takes a second or two: two singlets, one member, a short pulse."""

import re
from pathlib import Path

PROTOCOL = Path(__file__).resolve().parents[2] / "protocols/phantom_glu_gln_3t.yaml"

SPINS = """schema_version: 1
sources:
  test: {citation: "Two singlets of a test", certainty: own}
spin_systems:
  A: {groups: [{name: only, shift_ppm: {H: 2.35}, source: [test], certainty: own}]}
  B: {groups: [{name: only, shift_ppm: {H: 2.40}, source: [test], certainty: own}]}
"""
SUBSTITUTIONS = (
    (r"    (NAA|Cr|Cho|mI|Lac|Glu|Gln): .*\n", ""),
    (
        r"  metabolites:\n",
        "  metabolites:\n"
        "    A: {concentration_mm: 1, t1_ms: 2000, t2_ms: 600}\n"
        "    B: {concentration_mm: 1, t1_ms: 2000, t2_ms: 600}\n",
    ),
    (r"# spin_systems_file.*", "spin_systems_file: spins.yaml"),
    (r"target: Glu", "target: A"),
    (r"\[Gln\]", "[B]"),
    (r"b0_offsets_hz: \[.*?\]", "b0_offsets_hz: [0]"),
    (r"b1_scales: \[.*?\]", "b1_scales: [1.0]"),
    (r"starts: \d+", "starts: 1"),
    (r"iterations: \d+", "iterations: 2"),
    (r"duration_ms: 20", "duration_ms: 4"),
    (r"phase_cycle: exor_16", "phase_cycle: two_step"),
)


def tiny_study(folder, body):
    """Write base.yaml, its spins, and study.yaml with this body; return the study's path."""
    text = PROTOCOL.read_text()
    for pattern, replacement in SUBSTITUTIONS:
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    (folder / "base.yaml").write_text(text)
    (folder / "spins.yaml").write_text(SPINS)
    path = folder / "study.yaml"
    path.write_text("schema_version: 1\nname: tiny\nprotocol: base.yaml\n" + body)
    return path
