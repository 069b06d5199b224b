"""Studies of many designs: what varies, what is refused, and the protocol of a point."""

import itertools
import re
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from seqgen.config import load_protocol
from seqgen.errors import InputError
from seqgen.sweep_file import load_sweep

PROTOCOL = Path(__file__).resolve().parents[1] / "protocols/phantom_glu_gln_3t.yaml"
HEAD = "schema_version: 1\nname: grid\nprotocol: base.yaml\n"


def study(folder, body, base=None):
    (folder / "base.yaml").write_text(PROTOCOL.read_text() if base is None else base)
    path = folder / "study.yaml"
    path.write_text(HEAD + body)
    return path


def tree(text):
    return YAML(typ="safe", pure=True).load(text)


def test_points_are_all_combinations_and_complete_protocols(tmp_path):
    path = study(
        tmp_path,
        "fixed: {design.iterations: 7}\n"
        "vary:\n  design.duration_s: [0.010, 3.0e-2]\n  design.loss: [{window: 1.0}, {crlb: 1, window: 0.5}]\n"
        "together:\n  spectrometer_frequency_mhz: [123.2, 127.7]\n  scanner: [siemens_prisma_3t, ge_premier_3t]\n",
    )
    points = load_sweep(path).points
    expected = list(
        itertools.product(
            (0.01, 0.03),
            ({"window": 1.0}, {"crlb": 1, "window": 0.5}),
            ((123.2, "siemens_prisma_3t"), (127.7, "ge_premier_3t")),
        )
    )
    base = tree(PROTOCOL.read_text())
    assert len({point.id for point in points}) == 8
    for point, (duration_s, loss, (frequency_mhz, scanner)) in zip(points, expected, strict=True):
        wanted = base | {"name": f"{base['name']}_{point.id}", "scanner": scanner}
        wanted["spectrometer_frequency_mhz"] = frequency_mhz
        wanted["design"] = base["design"] | {"duration_s": duration_s, "loss": loss, "iterations": 7}
        del wanted["design"]["duration_ms"], wanted["description"]
        assert tree(point.text) == wanted
        (tmp_path / "point.yaml").write_text(point.text)
        protocol = load_protocol(tmp_path / "point.yaml")
        assert (protocol.design.duration_s, protocol.design.iterations) == (duration_s, 7)
        assert (protocol.spectrometer_frequency_hz, protocol.scanner.name) == (frequency_mhz * 1e6, scanner)
        assert dict(protocol.design.loss) == loss


def test_points_one_by_one_leave_the_rest_to_the_protocol(tmp_path):
    path = study(
        tmp_path,
        "vary: {seed: [3, 4]}\npoints:\n"
        "  - {design.duration_ms: 10, design.b1_max_hz: 500}\n  - {design.duration_ms: 12}\n  - {design.starts: 7}\n",
    )
    points = load_sweep(path).points
    wanted = [(seed, *each) for seed in (3, 4) for each in ((10, 500, 3), (12, 300, 3), (20, 300, 7))]
    for point, (seed, duration_ms, b1_max_hz, starts) in zip(points, wanted, strict=True):
        design = tree(point.text)["design"]
        assert tree(point.text)["seed"] == seed
        assert (design["duration_ms"], design["b1_max_hz"], design["starts"]) == (duration_ms, b1_max_hz, starts)
        # What a point leaves out stands in its row all the same.
        assert dict(point.values) == {
            "seed": seed,
            "design.duration_ms": duration_ms,
            "design.b1_max_hz": b1_max_hz,
            "design.starts": starts,
        }
    alone = load_sweep(study(tmp_path, "vary: {seed: [3], design.duration_ms: [12]}\n")).points
    assert alone[0].text == points[1].text


def test_a_point_stays_itself_when_axes_and_comments_are_added(tmp_path):
    first = load_sweep(study(tmp_path, "vary: {design.duration_ms: [10, 20]}\n")).points
    grown = PROTOCOL.read_text().replace("description:", "# a word\ndescription: more about")
    second = load_sweep(study(tmp_path, "vary: {seed: [1, 2], design.duration_ms: [20, 10]}\n", grown)).points
    assert [point.text for point in second if point.values["seed"] == 1] == [point.text for point in reversed(first)]
    assert len({point.id for point in second}) == 4


def test_files_travel_with_a_point_and_belong_to_it(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "start.csv").write_text("one")
    (tmp_path / "other" / "start.csv").write_text("two")
    (tmp_path / "spins.yaml").write_text("schema_version: 1")
    base = PROTOCOL.read_text().replace("# spin_systems_file: my_metabolites.yaml", "spin_systems_file: spins.yaml")
    path = study(tmp_path, "vary:\n  design.start: [random, start.csv, [start.csv, other/start.csv]]\n", base)
    points = load_sweep(path).points
    plain, one, both = points
    assert dict(plain.files) == {"spins.yaml": tmp_path / "spins.yaml"}
    assert dict(one.files) == {name: tmp_path / name for name in ("spins.yaml", "start.csv")}
    first, second = tree(both.text)["design"]["start"]
    assert [both.files[first].read_text(), both.files[second].read_text()] == ["one", "two"]
    (tmp_path / "start.csv").write_text("changed")
    assert [a.id == b.id for a, b in zip(points, load_sweep(path).points, strict=True)] == [True, False, False]
    (tmp_path / "start.csv").unlink()
    with pytest.raises(InputError, match=r"start\.csv"):
        _ = load_sweep(path).points


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "vary:\n  design.duratin_ms: [1]\n",
            r":5: unknown key 'duratin_ms' in 'design' of the protocol; nearest.*dur",
        ),
        ("vary:\n  designs.duration_ms: [1]\n", ":5: unknown key 'designs' in the top level of the protocol; .*design"),
        ("vary:\n  sequence.tr: [1]\n", ":5: unknown key 'tr' in 'sequence' of the protocol"),
        ("vary:\n  seed.low: [1]\n", ":5: 'seed' of the protocol has no keys below it"),
        ("vary:\n  scanner.name: [x]\n", ":5: 'scanner' of the protocol has no keys below it"),
        ("vary:\n  name: [x, y]\n", ":5: 'name' is not varied by a study"),
        ("vary:\n  seed: []\n", r":5: 'vary\.seed' must be a list of at least one value"),
        ("vary:\n  seed: 3\n", r":5: 'vary\.seed' must be a list of at least one value .* but is 3"),
        ("vary:\n  seed: [1, 2, 1]\n", r":5: 'vary\.seed' holds 1 twice"),
        ("vary:\n  seed: [1]\n  seed: [2]\n", ":6: key 'seed' is given twice"),
        (
            "vary:\n  design.duration_ms: [1]\n  design.duration_s: [1]\n",
            r":6: 'vary\.design\.duration_s' is 'vary\.design\.duration_ms' of line 5 again",
        ),
        (
            "fixed:\n  design.loss.window: 1\nvary:\n  design.loss: [{crlb: 1}]\n",
            r":7: 'vary\.design\.loss' overlaps 'fixed\.design\.loss\.window' of line 5 again",
        ),
        ("vary: [1]\n", ":4: 'vary' must be a section of dotted keys"),
        ("together:\n  seed: [1, 2]\n  scanner: [x]\n", ":4: keys in 'together' need lists of equal length.*seed 2"),
        ("points: {seed: 1}\n", ":4: 'points' must be a list with a section of dotted keys per point"),
        ("points: [3]\n", ":4: 'points' must be a list with a section of dotted keys per point"),
        ("points:\n  - {seed: 1}\n  - {sed: 1}\n", ":6: unknown key 'sed' in the top level"),
        ("fixed: {seed: 2}\npoints: [{seed: 1}]\n", ":5: .*seed' is 'fixed.seed' of line 4 again"),
        ("together: 3\n", ":4: 'together' must be keys with lists"),
        ("fixed:\n  seed: 1\n", ":1: a study varies something"),
        ("vary:\n  seed: [1]\nvari: 1\n", ":6: unknown key 'vari'"),
        ("vary:\n  seed: [1]\npareto: {x: loss}\n", ":6: missing key 'y'"),
        ("vary:\n  seed: [1]\npareto: [{x: a, y: b, z: c, colour: d}]\n", "Leave one of them out"),
        ("vary:\n  seed: [1]\npareto: {x: lost, y: signal}\n", ":6: 'pareto' has x 'lost', .* Nearest: loss"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: status}\n", ":6: 'pareto' has y 'status'"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: ratios.Glu}\n", "has y 'ratios.Glu'"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: loss, logarithmic: [te]}\n", "has logarithmic 'te'"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: terms.crib}\n", "has y 'terms.crib', .* Nearest: terms.crlb"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: loss, colour: scanner}\n", "has colour 'scanner'"),
        ("vary:\n  seed: [1]\npareto: {x: te_s, y: loss, maximise: [seeds]}\n", "has maximise 'seeds', .* seed"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, body, message):
    path = study(tmp_path, body)
    with pytest.raises(InputError, match=message) as caught:
        load_sweep(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "columns",
    [
        "x: seed, y: overlap_maximum, z: energy_per_shot_hz2_s",
        "x: bounds.Glu, y: press.bounds.Glu, colour: status",
        "x: 'shots[1].te1_s', y: terms.suppression, colour: scanner, maximise: [press.signal]",
        "x: area_signal, y: area_contamination, z: seconds",
    ],
)
def test_what_can_be_a_column_passes(tmp_path, columns):
    body = f"vary:\n  seed: [1]\n  scanner: [ge_premier_3t]\npareto: {{{columns}}}\n"
    assert len(load_sweep(study(tmp_path, body)).pareto) == 1


def test_too_many_points_are_refused(tmp_path):
    body = (
        "vary:\n  seed: ["
        + ", ".join(map(str, range(200)))
        + "]\n  design.starts: ["
        + ", ".join(map(str, range(1, 200)))
    )
    with pytest.raises(InputError, match="39800 points, more than 20000"):
        load_sweep(study(tmp_path, body + "]\n"))


def test_a_missing_protocol_is_refused(tmp_path):
    path = study(tmp_path, "vary: {seed: [1, 2]}\n")
    (tmp_path / "base.yaml").unlink()
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "base.yaml"))):
        _ = load_sweep(path).points


def test_the_shipped_study_has_protocols_that_can_be_read(tmp_path):
    with as_file(files("seqgen_protocols") / "sweep_glu_gln_3t.yaml") as path:
        points = load_sweep(path).points
    assert len(points) == 12
    for point in points[::5]:
        (tmp_path / "point.yaml").write_text(point.text)
        protocol = load_protocol(tmp_path / "point.yaml")
        assert protocol.design.duration_s == pytest.approx(1e-3 * point.values["design.duration_ms"])
        assert (protocol.seed, protocol.design.b1_max_hz) == (point.values["seed"], point.values["design.b1_max_hz"])
