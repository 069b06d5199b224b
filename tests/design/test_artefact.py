import json
from dataclasses import asdict, replace

import pytest
import torch
from press_files import random_pulse

from seqgen.design.artefact import FORMAT, Design, load_design, save_design
from seqgen.design.evaluate import Metrics
from seqgen.design.landscape import Landscape
from seqgen.errors import InputError
from seqgen.provenance import Provenance, Source
from seqgen.sequence.plugins import DesignedShot


@pytest.fixture
def design():
    return Design(
        name="a_study",
        shots=(
            DesignedShot(
                pulses={"echo_top": random_pulse()}, te1_s=0.0412, te2_s=0.03398, receiver_phase_rad=-1.234567
            ),
        ),
        metrics=Metrics(loss=-1.5, signal=0.4, contamination=0.1),
        press_te1_s=0.018,
        press_te2_s=0.091,
        press_metrics=Metrics(loss=-0.5, signal=0.3, contamination=0.6),
        history=((1.0, 0.5), (0.5, 0.1, -1.5)),
        status="stopped after 3 iterations, not converged",
        press_optima=((0.018, 0.091, -0.5), (0.03, 0.02, -0.25)),
        terms=({"window": (1.0, 0.5)}, {"window": (0.5, 0.1, -1.5)}),
        spectrometer_frequency_hz=123.2e6,
        reference_ppm=4.8,
        problem={"design.duration_s": 0.02, "design.place": ["te1", "te2"], "design.te_max_s": None},
        provenance=Provenance(made_from={"protocol": Source(name="p.yaml", sha256="ab" * 32)}, seed=5),
    )


def test_round_trip_keeps_every_digit(design, tmp_path):
    path = tmp_path / "design.json"
    save_design(design, path)
    got = load_design(path)
    assert torch.equal(torch.view_as_real(got.pulse.b1_hz), torch.view_as_real(design.pulse.b1_hz))
    assert (got.pulse.dwell_s, got.pulse.carrier_offset_hz) == (2e-5, -301.0)
    for name in ("te1_s", "te2_s", "receiver_phase_rad"):
        assert getattr(got.shots[0], name) == getattr(design.shots[0], name), name
    for name in (
        "press_te1_s",
        "press_te2_s",
        "combine",
        "name",
        "history",
        "status",
        "spectrometer_frequency_hz",
        "reference_ppm",
        "problem",
    ):
        assert getattr(got, name) == getattr(design, name), name
    assert asdict(got.metrics) == asdict(design.metrics)
    assert asdict(got.press_metrics) == asdict(design.press_metrics)
    assert got.provenance.to_json() == design.provenance.to_json()


def test_the_landscape_is_kept_where_there_is_one(design, tmp_path):
    path = tmp_path / "design.json"
    save_design(design, path)
    assert "landscape" not in json.loads(path.read_text())
    assert load_design(path).landscape is None
    found = Landscape(
        names=("random 1", "slr"), losses=(0.5, -1.25), iterations=(30, 12), distances=((0.0, 1.1), (1.1, 0.0))
    )
    save_design(replace(design, landscape=found), path)
    assert load_design(path).landscape == found
    content = json.loads(path.read_text())
    for key in ("names", "losses", "iterations", "distances"):
        for value in (None, [], 3, [[1.0]]):
            path.write_text(json.dumps(content | {"landscape": content["landscape"] | {key: value}}))
            with pytest.raises(InputError, match=r"design\.json is damaged"):
                load_design(path)


def test_plain_json_tells_amplitude_and_energy(design, tmp_path):
    save_design(design, tmp_path / "design.json")
    pulse = json.loads((tmp_path / "design.json").read_text())["shots"][0]["pulses"][0]
    energy = sum(x**2 + y**2 for x, y in zip(pulse["b1_re_hz"], pulse["b1_im_hz"], strict=True)) * 2e-5
    assert pulse["energy_hz2_s"] == pytest.approx(energy, rel=1e-12)
    assert pulse["peak_hz"] == pytest.approx(200.0)


def test_a_file_cut_anywhere_is_refused_by_name(design, tmp_path):
    pulses = {"echo_top": replace(design.pulse, b1_hz=design.pulse.b1_hz[:4])}
    short = replace(design, shots=(replace(design.shots[0], pulses=pulses),))
    path = tmp_path / "design.json"
    save_design(short, path)
    whole = path.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"design\.json"):
            load_design(path)


def test_damaged_content_is_refused_by_name(design, tmp_path):
    path = tmp_path / "design.json"
    save_design(design, path)
    good = json.loads(path.read_text())
    for key in good:
        for value in (None, [], 3, "text"):
            content = good | {key: value}
            path.write_text(json.dumps(content))
            if key in ("name", "status", "combine"):
                continue
            if (key, value) in (("history", []), ("terms", []), ("spectrometer_frequency_hz", 3), ("reference_ppm", 3)):
                continue
            with pytest.raises(InputError, match=r"design\.json"):
                load_design(path)
        missing = {k: v for k, v in good.items() if k != key}
        path.write_text(json.dumps(missing))
        with pytest.raises(InputError, match=r"design\.json"):
            load_design(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "3", '"x"', "{}", json.dumps({"format": FORMAT, "shots": []}), "\x00\xff"]
)
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "design.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"design\.json"):
        load_design(path)


def test_a_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"There is no design file .*nothing\.json.*run `seqgen design` first"):
        load_design(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pulse: pulse["b1_re_hz"].pop(), r"b1_re_hz has \d+ samples, b1_im_hz \d+"),
        (lambda pulse: pulse.update(b1_im_hz=[0.0]), r"b1_re_hz has \d+ samples, b1_im_hz 1"),
        (lambda pulse: pulse.update(b1_im_hz=3.0), "b1_re_hz has"),
        (lambda pulse: pulse.update(places=[]), "a pulse at no place"),
        (lambda pulse: pulse.update(places=["te1", "te1"]), "two at one of"),
    ],
)
def test_pulses_that_do_not_fit_together_are_refused_by_name(design, tmp_path, change, words):
    path = tmp_path / "design.json"
    save_design(design, path)
    content = json.loads(path.read_text())
    change(content["shots"][0]["pulses"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"design\.json is damaged: .*{words}"):
        load_design(path)


def test_nan_in_the_waveform_is_refused(design, tmp_path):
    path = tmp_path / "design.json"
    save_design(design, path)
    content = json.loads(path.read_text())
    content["shots"][0]["pulses"][0]["b1_re_hz"][3] = float("nan")
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="NaN or infinite"):
        load_design(path)
