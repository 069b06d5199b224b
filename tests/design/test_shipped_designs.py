"""Designs that are shipped: made by the protocol beside them, as good as they say, within their limits, playable."""

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from seqgen import library
from seqgen.design.artefact import load_design
from seqgen.pipeline.build import build_edited
from seqgen.pipeline.design import one_thread
from seqgen.pipeline.design_check import played_design
from seqgen.pipeline.design_problem import played_problem
from seqgen.pipeline.evaluate import evaluate, flat
from seqgen.pipeline.starts import start_files
from seqgen.pipeline.study import load_study, study_at_conditions
from seqgen.seqfile.cycle import editing_conditions
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.verify.predict import predict, pulse_acquire_spectrum, window_result

FOLDER = Path(__file__).resolve().parents[2] / "data" / "designs"
FILES = sorted(path.name for path in FOLDER.glob("*") if path.suffix in (".yaml", ".json"))
NAMES = [name.removesuffix(".yaml") for name in FILES if name.replace(".yaml", ".json") in FILES and ".yaml" in name]


@cache
def reached(study, design):
    """The metrics of a design's waveforms, as `make_design` computes them for the file."""
    with one_thread(), torch.no_grad():
        problem, played = played_problem(study, design.shots)
        return problem.loss_of_shots(played)[1]


def files_of(name):
    """(study, design) of a pair of files."""
    return load_study(FOLDER / f"{name}.yaml"), load_design(FOLDER / f"{name}.json")


def fits_spectra(name):
    """Whether its losses fit all metabolites: many seconds."""
    loss = json.loads((FOLDER / f"{name}.json").read_text())["metrics"]["terms"]
    return bool({"crlb", "correlation"} & set(loss))


def costly(names):
    """Names with those that take long marked as slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if fits_spectra(name) else []) for name in names]


def test_every_protocol_has_its_design_and_the_reverse():
    assert sorted(f"{name}.{kind}" for name in NAMES for kind in ("json", "yaml")) == FILES
    assert tuple(NAMES) == library.design_names()
    for name in NAMES:
        assert library.design_files(name) == (FOLDER / f"{name}.yaml", FOLDER / f"{name}.json")
        assert all(path.is_file() for path in library.design_files(name))


@pytest.mark.parametrize("name", NAMES)
def test_it_was_made_from_the_protocol_beside_it(name):
    study, design = files_of(name)
    protocol = (FOLDER / f"{name}.yaml").read_bytes()
    sources = {role: source.sha256 for role, source in design.provenance.made_from.items()}
    assert sources.pop("protocol") == hashlib.sha256(protocol).hexdigest()
    starts = {
        f"start {start}": hashlib.sha256(path.read_bytes()).hexdigest() for start, path in start_files(study).items()
    }
    assert sources == starts
    assert design.provenance.seed == study.protocol.seed
    assert design.spectrometer_frequency_hz == study.protocol.spectrometer_frequency_hz
    assert design.combine == study.protocol.design.combine


@pytest.mark.parametrize("name", costly(NAMES))
def test_it_reaches_what_it_says(name):
    """Every number of the file from its waveforms; better than plain PRESS."""
    study, design = files_of(name)
    assert flat(reached(study, design)) == pytest.approx(flat(design.metrics), rel=1e-6, abs=1e-6)
    assert design.metrics.loss < design.press_metrics.loss


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_so_does_plain_press(name):
    """From its echo times, and the design again, by the way of the command."""
    study, _ = files_of(name)
    found = evaluate(study, FOLDER / f"{name}.json")
    for reached in (found.edited, found.press):
        assert flat(reached.metrics) == pytest.approx(flat(reached.stored), rel=1e-6, abs=1e-6)
    found.require()


@pytest.mark.parametrize("name", NAMES)
def test_samples_keep_the_limits(name):
    """From the numbers in the file alone."""
    study, _ = files_of(name)
    spec, scanner = study.protocol.design, study.protocol.scanner
    shots = json.loads((FOLDER / f"{name}.json").read_text())["shots"]
    pulses = [pulse for shot in shots for pulse in shot["pulses"]]
    assert pulses
    for pulse in pulses:
        amplitude = np.hypot(pulse["b1_re_hz"], pulse["b1_im_hz"])
        assert amplitude.max() <= min(spec.b1_max_hz, scanner.b1_max_hz)
        assert (amplitude**2).sum() * pulse["dwell_s"] <= spec.energy_max_hz2_s
        # 0.1 sqrt(2) is what a search leaves to the ends of a waveform that saturates (design/variables.py).
        assert max(amplitude[0], amplitude[-1]) < 0.15 * amplitude.max()
        assert pulse["dwell_s"] == spec.rf_dwell_s
        assert amplitude.size * pulse["dwell_s"] == pytest.approx(spec.duration_s, rel=1e-12)
        samples = pulse["dwell_s"] / scanner.rf_raster_s
        assert abs(samples - round(samples)) < 1e-6
    for time_s in (shot[key] for shot in shots for key in ("te1_s", "te2_s")):
        steps = time_s / (2 * scanner.block_raster_s)
        assert abs(steps - round(steps)) < 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_the_sequence_builds(name):
    study, design = files_of(name)
    built = study.build(*played_design(study, design))
    readouts = sum(block.adc is not None for block in built.blocks)
    assert readouts >= study.protocol.sequence.params.averages


def predicted(study, seq, combine, frequencies):
    """What a file shows of target and interferers; of a difference, half of the first condition minus the second."""
    spec = study.protocol.design
    systems = {metabolite: study.systems[metabolite] for metabolite in (spec.target, *spec.interferers)}
    each = [
        predict(
            seq,
            systems,
            study.relaxation,
            range_ppm=spec.window_ppm,
            step_hz=spec.linewidth_hz / 5,
            condition=condition,
            **frequencies,
        )
        for condition in editing_conditions(shots(seq))
    ]
    if len(each) == 1:
        return each[0]
    assert combine == "difference"
    on, off = (one.spectra for one in each)
    return replace(each[0], spectra={metabolite: (on[metabolite] - off[metabolite]) / 2 for metabolite in on})


def unsuppressed(study):
    """The study without water suppression, which the model of a design leaves out."""
    sequence = study.protocol.sequence
    sequence = replace(sequence, params=replace(sequence.params, water_suppression="none"))
    return replace(study, protocol=replace(study.protocol, sequence=sequence))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_written_file_shows_what_the_design_says(name, tmp_path):
    """The .seq passes every check and is read back; its signals at nominal B0 and B1, of every shot.

    The model of a design has no water suppression: where protons near water are coupled to what the window shows, WET
    changes that, by less than 0.01.
    """
    study, design = files_of(name)
    several = len(design.shots) > 1
    protocol, spec = study.protocol, study.protocol.design
    frequencies = {
        "spectrometer_frequency_hz": protocol.spectrometer_frequency_hz,
        "reference_ppm": protocol.water_shift_ppm,
        "linewidth_hz": spec.linewidth_hz,
    }
    nominal = reached(study_at_conditions(study, (0.0,), (1.0,)), design)
    suppresses = hasattr(protocol.sequence.params, "water_suppression")
    for played, tolerance in ((study, 1e-2), (unsuppressed(study), 1e-3)) if suppresses else ((study, 1e-3),):
        seq = read_seq(build_edited(played, design, FOLDER / f"{name}.json", tmp_path).paths[0])
        assert len(editing_conditions(shots(seq))) == len(design.shots)
        prediction = predicted(study, seq, design.combine, frequencies)
        reference = pulse_acquire_spectrum(study.systems[spec.target], prediction, **frequencies)
        shown = window_result(prediction, spec.target, spec.interferers, (-10.0, 20.0), reference)
        assert shown.signal == pytest.approx(nominal.signal, abs=tolerance)
        assert shown.contamination == pytest.approx(nominal.contamination, abs=tolerance)
        if several:
            # Upright, ON minus OFF: the receiver's phase of every shot is in the file.
            assert abs(np.angle(prediction.spectra[spec.target].sum())) < 0.1
