"""The state of a spin group after a file: against `play`, and against the spectrum that the file predicts."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from seqgen.errors import InputError
from seqgen.model.lineshape import lines_to_spectrum
from seqgen.pipeline.build import build_plain
from seqgen.pipeline.states import states
from seqgen.pipeline.study import load_study
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.simulate.molecule import molecule_lines
from seqgen.spin.product_operators import parse_operator


@pytest.fixture(scope="module")
def plain_file(study, tmp_path_factory):
    return build_plain(study, None, tmp_path_factory.mktemp("plain")).paths[0]


@pytest.fixture(scope="module")
def glu(study, plain_file, tmp_path_factory):
    picture = tmp_path_factory.mktemp("picture") / "states.png"
    return states(study, plain_file, "Glu", output=picture, peak_ppm=2.33), picture


def test_observables_are_those_of_the_predicted_spectrum(study, plain_file, glu):
    """Lines of the whole molecule, summed on a fine axis, against operators on the state."""
    result, _ = glu
    protocol = study.protocol
    molecule = molecule_lines(
        phase_cycle(shots(read_seq(plain_file))),
        study.systems["Glu"],
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
    )
    low, high = protocol.design.window_ppm
    ppm = np.linspace(low, high, 4001)
    hz = (ppm - protocol.water_shift_ppm) * 1e-6 * protocol.spectrometer_frequency_hz
    spectrum = lines_to_spectrum(
        molecule.amplitude[0], molecule.frequency_hz, torch.tensor(hz), protocol.design.linewidth_hz
    ).numpy()
    rows = {
        row.bound.observable.split(" ")[0] + " " + row.bound.observable.split(" ")[1]: row for row in result.reached
    }
    scale = np.abs(spectrum).max()
    assert rows["peak height"].value == pytest.approx(np.interp(2.33, ppm, spectrum.real), abs=1e-4 * scale)
    step = hz[1] - hz[0]
    assert rows["window area"].value == pytest.approx(trapezoid(spectrum.real, dx=step), abs=1e-4 * scale * 20)
    assert rows["window energy"].value == pytest.approx(trapezoid(np.abs(spectrum) ** 2, dx=step), rel=1e-3)


def test_state_is_the_first_point_of_the_signal(study, plain_file, glu):
    """Tr(rho F+) at the echo is the sum of all line amplitudes."""
    result, _ = glu
    protocol = study.protocol
    molecule = molecule_lines(
        phase_cycle(shots(read_seq(plain_file))),
        study.systems["Glu"],
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        reference_ppm=protocol.water_shift_ppm,
    )
    rho = parse_operator(result.expression, 5).numpy()
    f_plus = parse_operator("F+", 5).numpy()
    signal = np.trace(rho @ f_plus) * 4 / 32
    assert signal == pytest.approx(complex(molecule.amplitude[0].sum()), abs=2e-3)
    coherences = [row for row in result.reached if row.bound.observable.startswith("in-phase coherence of I")]
    for k, row in enumerate(coherences, 1):
        # I+ of a spin picks half of Ix - i Iy; Tr(Ix^2) is 8.
        assert row.value == pytest.approx(abs(np.trace(rho @ parse_operator(f"I{k}+", 5).numpy())) / 8, abs=2e-3)
    together = next(row for row in result.reached if row.bound.observable == "in-phase coherence of all")
    assert together.value == pytest.approx(abs(signal) / 5, abs=2e-3)
    assert result.te_s == pytest.approx(0.075, abs=1e-4)


def test_bounds_are_the_known_ones(glu):
    result, _ = glu
    single = [row for row in result.reached if row.bound.observable.startswith("in-phase coherence of I")]
    assert [row.bound.value for row in single] == pytest.approx([15 / 8] * 5)
    together = next(row for row in result.reached if row.bound.observable == "in-phase coherence of all")
    assert together.bound.value == pytest.approx(1.0)
    energy = next(row for row in result.reached if row.bound.kind == "energy")
    assert "not necessarily reachable" in energy.bound.sentence
    for row in result.reached:
        if row.bound.kind != "none":
            assert abs(row.fraction) < 1
            assert 0 < row.pulse_acquire < row.bound.value


def test_text_and_json_say_the_same(glu):
    result, picture = glu
    assert picture.read_bytes().startswith(b"\x89PNG")
    text, record = result.text, json.loads(json.dumps(result.to_json()))
    assert "I1 H2, I2 H3a, I3 H3b, I4 H4a, I5 H4b" in text
    for term in record["terms"]:
        assert term["name"] in text
        q = term["name"].count("I")
        assert term["coefficient_ernst"] == pytest.approx(term["coefficient"] / 2 ** (q - 1))
    shares = [term["share"] for term in record["terms"]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == 12
    assert all(row["name"] in text for row in record["observables"])
    assert record["observables"][-1]["bound"] is None
    assert record["observables"][-1]["sentence"].startswith("No bound is known")
    assert math.isfinite(record["touched_volume"])


def test_unknown_names_and_foreign_files_are_refused(study, plain_file, tmp_path):
    with pytest.raises(InputError, match=r"no metabolite 'GABA'\. Its sample holds Glu, Gln"):
        states(study, plain_file, "GABA")
    with pytest.raises(InputError, match=r"was not named\. Name one of backbone, amide_NH2"):
        states(study, plain_file, "Gln")
    with pytest.raises(InputError, match="'side' does not exist"):
        states(study, plain_file, "Glu", "side")
    other = tmp_path / "other.yaml"
    other.write_text(study.path.read_text() + "\n# changed\n")
    with pytest.raises(InputError, match="was not built from"):
        states(load_study(other), plain_file, "Glu")


@pytest.mark.parametrize("peak_ppm", [float("nan"), 500.0])
def test_a_peak_that_is_no_shift_is_refused(study, plain_file, peak_ppm):
    with pytest.raises(InputError, match="between -5 and 20 ppm"):
        states(study, plain_file, "Glu", peak_ppm=peak_ppm)
