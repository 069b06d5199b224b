"""docs/scanners.md says which sequence builds on which scanner: every cell is built here."""

import importlib.util
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seqgen import library
from seqgen.errors import HardwareLimitError, SeqgenError
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.sequence.contract import check_sequence, failures
from seqgen.sequence.plugins import find_sequence
from seqgen.simulate.pathways import principal_echo

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _matrix():
    """The script that renews the tables."""
    spec = importlib.util.spec_from_file_location("scanner_matrix", DOCS / "scanner_matrix.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MATRIX = _matrix()
CELLS = list(MATRIX.cells())
REFUSED = {
    ("marcos", "water only"): r"marcos reads Pulseq files up to format 1\.3, but seqgen writes 1\.4\.1 and 1\.5\.0",
    ("nexus_osi2_one_47mt", "head"): r"crusher .*needs .* Hz/m .*nexus_osi2_one_47mt allows 2\.499e\+05 Hz/m",
    ("bench_11p7t", "head"): r"a corner lies .* but bench_11p7t is usable up to 10 mm",
}
"""What PRESS is refused for; everything else builds."""


def label(cell):
    return f"{cell.sequence}-{cell.scanner}-{cell.setting}-{'edited' if cell.edited else 'plain'}".replace(" ", "_")


@pytest.fixture(scope="module")
def said():
    """What the page says of each cell."""
    found, sequence = {}, None
    for line in MATRIX.PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("### "):
            sequence = line[4:]
        elif line.startswith("| `"):
            scanner, setting, *answers = (item.strip(" `") for item in line.strip("|").split("|"))
            for edited, answer in zip((False, True), answers, strict=True):
                if answer == MATRIX.NO_PLACE:
                    continue
                found[MATRIX.Cell(sequence=sequence, scanner=scanner, setting=setting, edited=edited)] = answer
    return found


def test_the_page_has_every_sequence_and_scanner(said):
    assert set(said) == set(CELLS), "renew docs/scanners.md: python docs/scanner_matrix.py"
    assert {cell.scanner for cell in said} == set(library.scanner_names())
    assert "press" in {cell.sequence for cell in said}


@pytest.mark.parametrize("cell", CELLS, ids=label)
def test_every_cell_does_what_the_page_says(cell, said, tmp_path):
    answer = said[cell]
    if answer.startswith("refused, because: "):
        with pytest.raises(SeqgenError) as refusal:
            MATRIX.build(cell, tmp_path)
        text = str(refusal.value)
        assert text.startswith(answer.removeprefix("refused, because: "))
        assert re.search(r"\. (Choose|Lengthen|Enlarge|Raise|Lower|Make|Change|Move) ", text), "no remedy"
        assert list(tmp_path.iterdir()) == []
    else:
        assert answer.startswith("built")
        MATRIX.build(cell, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"1.4.1.seq", "1.5.0.seq"}
    if cell.sequence == "press":
        reason = REFUSED.get((cell.scanner, cell.setting))
        assert re.match(rf"refused, because: .*{reason}" if reason else "built", answer)


@pytest.mark.parametrize(
    "cell", [c for c in CELLS if c.sequence == "press" and (c.scanner, c.setting) not in REFUSED], ids=label
)
def test_gradients_of_the_echo_cancel_on_every_scanner(cell, tmp_path):
    # Ramps before and after a pulse differ as dead time and ringdown do (20 us and 2 ms on the Nexus console), which
    # left 20 cycles/m; what may be left is the six digits of a file: 1e-5 of the crushers.
    MATRIX.build(cell, tmp_path)
    echo = principal_echo(phase_cycle(shots(read_seq(tmp_path / "1.5.0.seq"))))
    assert echo.is_echo
    crusher_per_m = MATRIX.SETTINGS[cell.setting].get("crusher_moment_per_m", 1500.0)
    assert echo.pathway.residual_moment_per_m < 1e-5 * crusher_per_m


def test_only_at_47_mt_an_editing_pulse_is_called_useless(said):
    useless = {cell.scanner for cell, answer in said.items() if answer.startswith(MATRIX.BUILT_USELESS)}
    assert useless == {"nexus_osi2_one_47mt"}
    # Facts: about 0.1 ppm apart, 0.2 Hz at 2.0 MHz; 3 T: 12 Hz.
    assert MATRIX.glu_gln_hz(library.scanner("nexus_osi2_one_47mt")) == pytest.approx(0.2, abs=0.05)
    assert MATRIX.glu_gln_hz(library.scanner("siemens_prisma_3t")) == pytest.approx(12, abs=2)
    for cell, answer in said.items():
        if cell.scanner == "nexus_osi2_one_47mt" and cell.setting == "water only":
            assert answer == ("built, but edits nothing: Glu and Gln are 0.2 Hz apart" if cell.edited else "built")


@pytest.mark.parametrize(("newest", "refused"), [(1.3, True), (1.4, False), (1.5, False), (None, False)])
def test_old_pulseq_format_refuses_whatever_is_to_be_built(newest, refused):
    """The context of a build refuses, so that every sequence does, whoever wrote it."""
    cell = next(c for c in CELLS if c.sequence == "press" and c.scanner == "siemens_prisma_3t" and not c.edited)
    context = MATRIX.context_of(cell)
    there = replace(context.scanner, newest_pulseq_format=newest)
    if refused:
        with pytest.raises(HardwareLimitError, match=r"up to format 1\.3, but seqgen writes .* Choose the profile"):
            replace(context, scanner=there)
    else:
        params = MATRIX.params_of(cell, context)
        assert find_sequence("press").build(params, replace(context, scanner=there)).blocks


@pytest.mark.slow
@pytest.mark.parametrize("cell", [c for c in CELLS if (c.scanner, c.setting) not in REFUSED], ids=label)
def test_what_builds_keeps_the_contract(cell):
    context = MATRIX.context_of(cell)
    params = MATRIX.params_of(cell, context)
    assert failures(check_sequence(find_sequence(cell.sequence), params, context)) == []
