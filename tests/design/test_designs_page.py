"""docs/designs.md: its tables are what the design files say, its pictures are there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from seqgen import library

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = library.design_names()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("design_figures", DOCS / "design_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_renewed(script):
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.renewed() == text, "renew: python docs/design_figures.py"
    pictures = set(re.findall(r"\(images/designs/(.+?)\.png\)", text))
    assert pictures == set(NAMES)
    assert pictures == {path.stem for path in (DOCS / "images" / "designs").glob("*.png")}


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_the_numbers_of_the_file(name):
    """From the JSON alone, without the code that makes the tables."""
    text = (DOCS / "designs.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| `{name}`")
    ]
    are, reach = rows
    content = json.loads(library.design_files(name)[1].read_text())
    metrics, press = content["metrics"], content["press"]["metrics"]
    assert reach[1] == f"{metrics['signal']:.3f} / {press['signal']:.3f}"
    assert reach[3] == f"{metrics['contamination']:.3f} / {press['contamination']:.3f}"
    assert reach[8] == f"{metrics['loss']:.3f} / {press['loss']:.3f}"
    # The signal is below its bound, whatever its pulses.
    assert reach[2] == "no bound" or metrics["signal"] < float(reach[2])
    first = content["shots"][0]
    alone = first["te1_s"] == first["te2_s"] == 0
    assert are[5].split("; ")[0] == ("-" if alone else f"{first['te1_s'] * 1e3:.2f} + {first['te2_s'] * 1e3:.2f}")
    assert are[9].endswith(content["status"])
