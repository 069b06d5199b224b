"""docs/sequences.md and docs/sequences/: every sequence has a page, every table is made again, formulas are played."""

import importlib.util
import itertools
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.report.diagram import sequence_diagram
from seqgen.sequence.plugins import find_sequence
from seqgen.simulate.pathways import moments_between_centres, principal_echo

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _script():
    """The script that makes pages and pictures."""
    spec = importlib.util.spec_from_file_location("sequence_figures", DOCS / "sequence_figures.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SCRIPT = _script()
PAGES = [SCRIPT.OVERVIEW, *map(SCRIPT.page, SCRIPT.SEQUENCES)]


# --- Pages -----------------------------------------------------------------------------------------------------------


def test_every_built_in_sequence_has_a_page_that_the_overview_links():
    overview = SCRIPT.OVERVIEW.read_text(encoding="utf-8")
    assert set(SCRIPT.SEQUENCES) < set(SCRIPT.seqgen_sequences())
    for name in SCRIPT.seqgen_sequences():
        path = SCRIPT.page(name)
        assert path.is_file()
        assert f"[`{name}`]({path.relative_to(DOCS).as_posix()})" in overview


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_tables_are_current(path):
    assert SCRIPT.renewed(path) == path.read_text(encoding="utf-8"), "renew: python docs/sequence_figures.py"


def test_a_stale_table_is_seen(tmp_path):
    page = tmp_path / "press.md"
    text = SCRIPT.page("press").read_text(encoding="utf-8")
    page.write_text(text.replace("| `crusher_moment_per_m` | `1500` |", "| `crusher_moment_per_m` | `1400` |"))
    assert page.read_text() != text
    assert SCRIPT.renewed(page) == text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


@pytest.mark.parametrize("name", SCRIPT.SEQUENCES)
def test_every_parameter_stands_on_a_page(name):
    pages = SCRIPT.OVERVIEW.read_text(encoding="utf-8") + SCRIPT.page(name).read_text(encoding="utf-8")
    for parameter in find_sequence(name).Params.__dataclass_fields__:
        assert len(re.findall(rf"^\| `{parameter}` \|", pages, re.MULTILINE)) == 1, parameter


# --- What the pages say about times ----------------------------------------------------------------------------------


def centres_s(name, *, te1_s=0.0, te2_s=0.0, te_s=0.0, tm_s=0.0):
    """RF centres and echo after the excitation, as the pages have them; those of semi-LASER after refocusing 1."""
    te = te1_s + te2_s
    return {
        "press": (te1_s / 2, te1_s + te2_s / 2, te),
        "isis_press": (te1_s / 2, te1_s + te2_s / 2, te),
        "mega_press": (te1_s / 2, (3 * te1_s + te2_s) / 4, te1_s + te2_s / 2, (5 * te1_s + 3 * te2_s) / 4, te),
        "steam": (te_s / 2, te_s / 2 + tm_s, te_s + tm_s),
        "slaser": (te_s / 8, te_s * 3 / 8, te_s * 5 / 8, te_s * 7 / 8, te_s),  # where the lobes leave room
    }[name]


@pytest.mark.parametrize("name", SCRIPT.SEQUENCES)
def test_pulses_and_echo_stand_where_the_page_says(name):
    shot = SCRIPT.made(name, **SCRIPT.DRAWN[name]).first
    times = [time for time, _ in shot.pulses()]
    start = next(k for k, (_, interval) in enumerate(shot.pulses()) if interval.use == "excitation")
    opens_s, receiver = shot.readouts()[0]
    played = np.array([*times[start + 1 :], opens_s + receiver.dwell_s / 2]) - times[start]
    assert played == pytest.approx(centres_s(name, **SCRIPT.DRAWN[name]), abs=1e-6)


@pytest.mark.parametrize("name", SCRIPT.SEQUENCES)
def test_the_minimum_is_the_sum_of_parts_that_the_page_says(name):
    # Parts at longer echo times: (rest, lobes, delay, start) between the centres.
    parts = list(SCRIPT._parts_s(SCRIPT.made(name, **SCRIPT.DRAWN[name])))
    if name == "isis_press":
        parts = parts[1:]
    rest, lobes, _, lead = (np.array(column) for column in zip(*parts, strict=True))
    full = rest + lobes + lead
    if name == "steam":
        expected = (max(full[0], full[2]),) * 2
    elif name == "slaser":
        expected = (max(2 * full[1], 2 * full[3], full[0] + full[2] + full[4]),) * 2
    else:
        crusher_s = lobes[-1]
        te1_s = 2 * max(full[0], rest[1] + crusher_s)
        te2_s = 2 * max(crusher_s + 3.1e-3, rest[-1] + crusher_s + lead[-1])
        if name == "mega_press":
            quarters_s = [4 * full[1], 4 * full[2], 4 * full[3]]
            te2_s = max(*(quarter_s - te1_s for quarter_s in quarters_s), te1_s + 4 * full[4])
        expected = (te1_s, te2_s)
    spec = find_sequence(name)
    params = SCRIPT.sensible_params(spec, SCRIPT.context(), **SCRIPT._SHORT)
    least = spec.minimum_te_s(params, SCRIPT.context())
    # Rounded up to the block raster, quarters of TE up to four times 10 us.
    assert all(-1e-9 < got - want < 4.1e-5 for got, want in zip(least, expected, strict=True)), (least, expected)


# --- What the pages say about pathways -------------------------------------------------------------------------------

STEPPING = {
    ("press", "two_step"): {0: 2},
    ("press", "exor_4"): {2: 4},
    ("press", "exor_16"): {1: 4, 2: 4},
    ("mega_press", "two_step"): {0: 2},
    ("mega_press", "exor_4"): {3: 4},
    ("mega_press", "exor_16"): {1: 4, 3: 4},
    ("steam", "two_step"): {0: 2},
    ("steam", "eight_step"): {0: 2, 1: 2, 2: 2},
    ("slaser", "two_step"): {0: 2},
    ("slaser", "exor_16"): {2: 4, 4: 4},
    ("isis_press", "two_step"): {1: 2},
    ("isis_press", "exor_4"): {3: 4},
    ("isis_press", "exor_16"): {2: 4, 3: 4},
}
"""Pulse to number of steps, written out by hand."""


@pytest.mark.parametrize(("name", "cycle"), STEPPING)
def test_a_cycle_of_n_steps_tells_changes_of_order_modulo_n(name, cycle):
    # Bodenhausen, Kogler, Ernst 1984: what passes differs from the wanted change by multiples of n at every such pulse.
    assert set(STEPPING) == {(each, cycle) for each in SCRIPT.SEQUENCES for cycle in SCRIPT.cycle_names(each)}
    wanted, found = SCRIPT.pathways(name)
    assert len(found) == 3 ** (len(wanted) - 1) - 1
    phases = SCRIPT.pulse_phases(name, cycle)
    assert len(phases) == math.prod(STEPPING[name, cycle].values())
    change = np.diff((0, *wanted))
    for orders, _ in [(wanted, 0.0), *found]:
        differ = np.diff((0, *orders)) - change
        assert SCRIPT.passes(orders, phases) == all(differ[k] % n == 0 for k, n in STEPPING[name, cycle].items())


def test_kinds_of_the_nine_pathways_of_three_pulses():
    kinds = {orders: SCRIPT.kind((*orders, -1)) for orders in itertools.product((-1, 0, 1), repeat=2)}
    assert kinds == {
        (-1, -1): "FID of the first pulse",
        (0, 0): "FID of a later pulse",
        (0, -1): "FID of a later pulse",
        (0, 1): "echo of a later pulse",
        (-1, 1): "echo of the first pulse",
        (1, 1): "echo of the first pulse",
        (1, -1): "echo of the first pulse",
        (1, 0): "stored along z",
        (-1, 0): "stored along z",
    }


@pytest.mark.parametrize("name", SCRIPT.SEQUENCES)
def test_the_wanted_pathway_keeps_no_moment_and_others_do(name):
    shot = SCRIPT.made(name).first
    wanted = np.array(principal_echo(shot).pathway.orders, dtype=float)
    assert np.linalg.norm(wanted @ moments_between_centres(shot).numpy()) < 0.05
    # 1000 cycles/m are 20 turns over the voxel's edge.
    assert min(moment for _, moment in SCRIPT.pathways(name)[1]) > 1000


def test_press_moments_by_hand():
    # Crushers along (1, 1, 0) and (0, 1, 1); slice gradients of refocusing pulses: 3 ms and half a ramp of 0.1 ms.
    moments = moments_between_centres(SCRIPT.made("press").first).numpy()
    bandwidth_hz = 123.2 / (3.10e-3 / 0.02)
    half = bandwidth_hz / 0.02 * 3.05e-3
    assert moments[0] == pytest.approx([1500, 1500 + half, 0], rel=1e-3, abs=1e-3)
    assert moments[1] == pytest.approx([1500, 3000 + half, 1500 + half], rel=1e-3, abs=1e-3)
    assert moments[2] == pytest.approx([0, 1500, 1500 + half], rel=1e-3, abs=1e-3)


# --- What the overview says about files ------------------------------------------------------------------------------


def test_labels_are_as_the_overview_says():
    spec, context = find_sequence("mega_press"), SCRIPT.context()
    params = SCRIPT.sensible_params(
        spec,
        context,
        voxel_size_m=(0.02, 0.02, 0.02),
        water_suppression="none",
        averages=8,
        dummy_scans=3,
        noise_scans=1,
        water_reference_averages=4,
        water_reference_interval=4,
    )
    built = spec.build(params, context)
    starts = [*built.shot_starts, len(built.blocks)]
    shots = [built.blocks[a:b] for a, b in itertools.pairwise(starts)]
    labels = [[block.labels for block in shot if block.adc is not None] for shot in shots]
    assert [len(found) for found in labels] == [1, 0, 0, 0, *[1] * 12]
    found = [
        tuple(label[key] for key in ("NOISE", "REF", "SET", "AVG", "PHS", "REP"))
        for labels_of_shot in labels
        for label in labels_of_shot
    ]
    assert found == [
        (1, 0, 0, 0, 0, 0),
        *[(0, 0, 0, 0, 0, 0), (0, 0, 1, 0, 0, 0), (0, 0, 0, 1, 1, 0), (0, 0, 1, 1, 1, 0)],
        (0, 1, 1, 0, 0, 0),
        *[(0, 0, 0, 2, 0, 1), (0, 0, 1, 2, 0, 1), (0, 0, 0, 3, 1, 1), (0, 0, 1, 3, 1, 1)],
        *[(0, 1, 1, 1, 1, 0), (0, 1, 1, 2, 0, 1), (0, 1, 1, 3, 1, 1)],
    ]
    assert {round(sum(block.duration_s for block in shot), 9) for shot in shots} == {2.0}


# --- Pictures --------------------------------------------------------------------------------------------------------


def rows(figure):
    """Rows of a figure by the label of their y axis."""
    return {axes.get_ylabel(): axes for axes in figure.axes if axes.get_subplotspec() is not None}


@pytest.mark.parametrize("name", SCRIPT.SEQUENCES)
def test_every_page_shows_its_picture(name):
    assert f"](../images/sequence_{name}.png)" in SCRIPT.page(name).read_text(encoding="utf-8")
    assert (DOCS / "images" / f"sequence_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_of_steam_starts_at_its_first_pulse_and_shows_the_orders():
    shot = SCRIPT.made("steam", **SCRIPT.DRAWN["steam"]).first
    drawn = rows(sequence_diagram(shot, pathway=(1, 0, -1), overview=False))
    first_ms = shot.pulses()[0][0] * 1e3
    low, high = drawn["RF (Hz)"].get_xlim()
    assert low < first_ms < shot.readouts()[0][0] * 1e3 < high
    (line,) = (line for line in drawn["Order p"].get_lines() if line.get_label() == "order")
    centres_ms = [time * 1e3 for time, _ in shot.pulses()]
    assert line.get_xdata()[1:4] == pytest.approx(centres_ms)
    assert list(line.get_ydata()) == [0, 1, 0, -1, -1]
    assert line.get_drawstyle() == "steps-post"
    # With the whole shot above, the stretch starts at the first of the three excitations too.
    assert rows(sequence_diagram(shot))["Phase (°)"].get_xlim() == pytest.approx((low, high))


def test_the_picture_of_isis_shows_the_inversion():
    shot = SCRIPT.made("isis_press", **SCRIPT.DRAWN["isis_press"]).first
    low, _ = rows(sequence_diagram(shot, overview=False))["RF (Hz)"].get_xlim()
    assert low < shot.pulses()[0][0] * 1e3
    low, _ = rows(sequence_diagram(shot))["Phase (°)"].get_xlim()
    assert low > shot.pulses()[0][0] * 1e3


def test_a_pathway_needs_an_order_after_each_pulse():
    shot = SCRIPT.made("press").first
    with pytest.raises(InputError, match=r"one order after each of the 3 pulses .* has 2\. Give"):
        sequence_diagram(shot, pathway=(-1, -1))
