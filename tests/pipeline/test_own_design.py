"""Which protocols a design serves: those of the same problem, at any of its frequencies."""

import json
import re
from dataclasses import replace

import pytest
import torch

from seqgen import library
from seqgen.design.artefact import load_design
from seqgen.errors import InputError, SeqgenError
from seqgen.pipeline.build import build_edited
from seqgen.pipeline.design_problem import problem_of
from seqgen.pipeline.evaluate import evaluate
from seqgen.pipeline.own_design import own_design, require_own_design
from seqgen.pipeline.study import load_study
from seqgen.provenance import Source
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots


def changed(study, tmp_path, *pairs, name="other.yaml"):
    """A protocol with some of its text replaced; every pair must hit."""
    text = study.path.read_text()
    for old, new in pairs:
        text, count = re.subn(old, new, text)
        assert count == 1, old
    path = tmp_path / name
    path.write_text(text)
    return load_study(path)


def test_what_no_loss_depends_on_may_change(study, finished, tmp_path):
    """More averages, another voxel, TR, suppression, sample, fit and comments: the design is the same, and built."""
    other = changed(
        study,
        tmp_path,
        (r"(\n  averages: )4\b", r"\g<1>6"),
        (r"voxel_position_mm: \[.*?\]", "voxel_position_mm: [10, -20, 5]"),
        (r"voxel_size_mm: \[.*?\]", "voxel_size_mm: [25, 20, 15]"),
        (r"tr_ms: \d+", "tr_ms: 2500"),
        (r"(Glu: +{concentration_mm: )12.5", r"\g<1>8"),
        (r"snr: \d+", "snr: 50"),
    )
    path = finished[0] / "design.json"
    require_own_design(study, load_design(path), path)
    built = build_edited(other, load_design(path), path, tmp_path / "out")
    seq = read_seq(built.paths[0])
    assert seq.definitions["seqgen_protocol_sha256"] == other.source.sha256
    assert sum("REF" not in shot.labels or not shot.labels["REF"] for shot in shots(seq)) >= 6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"\n  carrier_ppm: [\d.]+", "\n  carrier_ppm: 2.4", r"design\.carrier_ppm is 2\.35 in the design, 2\.4 in"),
        (r"window_ppm: \[.*?\]", "window_ppm: [2.30, 2.40]", r"design\.window_ppm is \[2\.25, 2\.42\] in the design"),
        (
            r"spectrometer_frequency_mhz: 123.2",
            "spectrometer_frequency_mhz: 123.3",
            r"frequencies_hz is \[123200000\.0\]",
        ),
        (r"phase_cycle: two_step", "phase_cycle: exor_4", r"sequence\.phase_cycle is \"two_step\" in the design"),
        (r"(Gln: .*t2_ms: )\d+", r"\g<1>500", r"sample\.Gln\.t2_s is 0\.6 in the design, 0\.5 in the protocol"),
    ],
)
def test_what_a_loss_depends_on_is_refused_by_name(study, finished, tmp_path, old, new, words):
    path = finished[0] / "design.json"
    other = changed(study, tmp_path, (old, new))
    with pytest.raises(InputError, match=rf"design\.json was designed for another problem than that of .*{words}"):
        build_edited(other, load_design(path), path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_problem_in_other_words_is_the_same(study, finished, tmp_path):
    """Lists of one, weights of zero, and how the design is searched."""
    path = finished[0] / "design.json"
    other = changed(
        study,
        tmp_path,
        (r"place: echo_top ", "place: [echo_top] "),
        (r"loss: {window: 1.0}", "loss: {window: 1, crlb: 0}"),
        (r"iterations: \d+", "iterations: 77"),
        (r"seed: \d+", "seed: 77"),
        (r"\n  te1_ms: \d+", "\n  te1_ms: 50"),
    )
    require_own_design(other, load_design(path), path)
    fixed = changed(study, tmp_path, (r"optimise_timing: true", "optimise_timing: false"))
    with pytest.raises(InputError, match=r"design\.te1_s is \"not there\" in the design, 0\.041 in the protocol"):
        require_own_design(fixed, load_design(path), path)


def test_elsewhere_the_numbers_are_those_of_the_file(tmp_path):
    """Another scanner of the same field, another voxel, TR and suppression: the loss hardly moves."""
    protocol, path = library.design_files("glu_window_3t")
    study = load_study(protocol)
    other = changed(
        study,
        tmp_path,
        (r"scanner: siemens_prisma_3t", "scanner: siemens_skyra_3t"),
        (r"voxel_size_mm: \[.*?\]", "voxel_size_mm: [30, 15, 25]"),
        (r"tr_ms: \d+", "tr_ms: 3000\n  water_suppression: vapor"),
    )
    found = evaluate(other, path)
    assert found.edited.metrics.loss == pytest.approx(found.design.metrics.loss, abs=1e-9)
    assert found.press.metrics.loss == pytest.approx(found.design.press_metrics.loss, abs=1e-9)
    found.require()


@pytest.mark.parametrize(
    ("scanner", "words"),
    [
        ({"rf_ringdown_s": 5e-4}, r"te1_s must be at least"),
        ({"block_raster_s": 1e-4}, r"."),
    ],
)
def test_a_scanner_that_cannot_play_a_design_does_not_build_it(tmp_path, scanner, words):
    protocol, path = library.design_files("glu_window_3t")
    study = load_study(protocol)
    weaker = replace(study.protocol.scanner, **scanner)
    other = replace(study, protocol=replace(study.protocol, scanner=weaker), source=Source(name="x", sha256="0" * 64))
    with pytest.raises(SeqgenError, match=rf"glu_window_3t\.json.* {words}.* another protocol of the same problem"):
        build_edited(other, load_design(path), path, tmp_path / "out")
    assert not list(tmp_path.rglob("*.seq"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"\ndesign:", "\nexposure: {b1_rms_max_ut: 0.3}\n\ndesign:", r"was not built: B1\+rms .* limit 0\.3"),
    ],
)
def test_a_protocol_whose_limits_a_design_breaks_does_not_build_it(tmp_path, old, new, words):
    protocol, path = library.design_files("glu_window_3t")
    other = changed(load_study(protocol), tmp_path, (old, new))
    with pytest.raises(SeqgenError, match=rf"glu_window_3t\.json.*{words}.* another protocol of the same problem"):
        build_edited(other, load_design(path), path, tmp_path / "out")
    assert not list(tmp_path.rglob("*.seq"))


def test_what_the_sequence_refuses_without_a_design_too_is_said_as_it_is(tmp_path):
    """A new design would not help, so nobody is told to make one."""
    protocol, path = library.design_files("glu_window_3t")
    study = load_study(protocol)
    scanner = study.protocol.scanner
    slow, weak = replace(scanner, max_slew_t_per_m_per_s=60.0), replace(scanner, b1_max_t=13e-6)
    short = changed(study, tmp_path, (r"tr_ms: \d+", "tr_ms: 200"))
    for other, words in (
        (short, "tr_s must be at least"),
        (replace(study, protocol=replace(study.protocol, scanner=slow)), "The crusher of"),
        (replace(study, protocol=replace(study.protocol, scanner=weak)), "Pulse excitation peaks|Pulse refocusing"),
    ):
        with pytest.raises(SeqgenError, match=words) as caught:
            build_edited(other, load_design(path), path, tmp_path / "out")
        assert "seqgen design" not in str(caught.value)
        assert not list(tmp_path.rglob("*.seq"))


def test_a_plain_sequence_that_the_scanner_cannot_play_is_named(tmp_path):
    protocol, path = library.design_files("glu_window_3t")
    study = load_study(protocol)
    slow = replace(study.protocol.scanner, adc_dead_time_s=2e-3)
    other = replace(study, protocol=replace(study.protocol, scanner=slow), source=Source(name="x", sha256="0" * 64))
    with pytest.raises(
        InputError, match=r"glu_window_3t\.json and TE-optimised PRESS, TE1 \+ TE2 29\.2 \+ 10\.08 ms, "
    ):
        evaluate(other, path)


def test_many_differences_are_counted_and_tables_are_named(study, finished):
    path = finished[0] / "design.json"
    design = load_design(path)
    stated = {name: value for name, value in design.problem.items() if not name.startswith("sequence.")}
    stated["sample.Glu.spins"] = "0" * 64
    with pytest.raises(
        InputError, match=r"sequence\.name is \"not there\" in the design, \"press\" .*; \d+ more\. Run"
    ):
        require_own_design(study, replace(design, problem=stated), path)
    alone = dict(design.problem) | {"sample.Glu.spins": "0" * 64}
    with pytest.raises(
        InputError, match=r"sample\.Glu\.spins is 000000000000\.\.\. in the design, [0-9a-f]{12}\.\.\. in"
    ):
        require_own_design(study, replace(design, problem=alone), path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (r"tr_ms: \d+", "tr_ms: 3000", r"sequence\.tr_s is 2\.0 in the design, 3\.0 in the protocol"),
        (r"(mI: .*t1_ms: )\d+", r"\g<1>1000", r"sample\.mI\.t1_s is 1\.12 in the design, 1\.0 in the protocol"),
        (r"(NAA: .*t2_ms: )\d+", r"\g<1>250", r"sample\.NAA\.t2_s is 0\.265 in the design, 0\.25 in the protocol"),
        (
            r"macromolecules: lcmodel",
            "macromolecules: none",
            r"sample\.macromolecules is \w+\.\.\. in the design, \"not",
        ),
        (r"    Asp: .*\n", "", r"sample\.Asp\.t1_s is 1\.29 in the design, \"not there\" in the protocol"),
    ],
)
def test_what_bounds_depend_on_is_refused_by_name(tmp_path, old, new, words):
    protocol, path = library.design_files("glu_gln_crlb_echo_3t")
    other = changed(load_study(protocol), tmp_path, (old, new))
    with pytest.raises(InputError, match=words):
        require_own_design(other, load_design(path), path)


def test_bounds_depend_on_tr_t1_every_metabolite_and_macromolecules():
    """The losses of the fit look at what the loss of the window does not."""
    study = load_study(library.design_files("glu_gln_crlb_echo_3t")[0])
    problem = problem_of(study)
    assert {"sequence.tr_s", "sample.mI.t2_s", "sample.Glu.t1_s", "sample.macromolecules"} <= problem.keys()
    assert json.loads(json.dumps(problem)) == problem
    window = problem_of(load_study(library.design_files("glu_window_3t")[0]))
    assert not {"sequence.tr_s", "sample.NAA.t2_s", "sample.Glu.t1_s", "sample.macromolecules"} & window.keys()
    assert window["sample.Glu.t2_s"] == problem["sample.Glu.t2_s"]


def test_a_design_for_two_frequencies_is_built_at_the_other_one(tmp_path):
    """Same numbers over both, another carrier in Hz at the same ppm, and the target in absorption there."""
    protocol, path = library.design_files("glu_window_two_fields")
    study = load_study(protocol)
    other = changed(
        study,
        tmp_path,
        (r"scanner: siemens_prisma_3t", "scanner: ge_premier_3t"),
        (r"(spectrometer_frequency_mhz: )123\.2", r"\g<1>127.7"),
        (r"(other_frequencies_mhz: \[)127\.7", r"\g<1>123.2"),
    )
    found = evaluate(other, path)
    assert found.edited.metrics.loss == pytest.approx(found.design.metrics.loss, abs=1e-6)
    stored, carried = load_design(path), own_design(other, load_design(path), path)
    assert own_design(study, stored, path) is stored
    assert torch.equal(carried.pulse.b1_hz, stored.pulse.b1_hz)
    ratio = carried.pulse.carrier_offset_hz / stored.pulse.carrier_offset_hz
    assert ratio == pytest.approx(127.7 / 123.2, rel=1e-9)
    assert carried.shots[0].receiver_phase_rad != stored.shots[0].receiver_phase_rad
    built = build_edited(other, stored, path, tmp_path / "out")
    seq = read_seq(built.paths[0])
    assert float(seq.definitions["seqgen_spectrometer_frequency_hz"]) == 127.7e6
