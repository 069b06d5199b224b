"""`seqgen simulate` of a simulation file, from the command line: against other tools, dense matrices, and bad input."""

import functools
import hashlib
import json
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from click.testing import CliRunner

from seqgen.cli import main
from seqgen.pipeline import simulate as link
from seqgen.simulation_file import load_press_simulation

ROOT = Path(__file__).resolve().parents[2]
PROTOCOLS = ROOT / "protocols"
KEYS = {"fid", "names", "dwell_s", "f0_hz", "reference_ppm", "provenance"}

W2_J_STEP_US = 10
W2_TOLERANCE = 1e-10
"""Error of the engine at that J step against exact steps, relative to the largest signal (docs/engine.md)."""
W2_DEFAULT_TOLERANCE = 1e-6
"""The same at the default J step."""
FSL_TOLERANCE = 3e-9
"""FSL-MRS's own digits of gamma."""

IDEAL = """\
schema_version: 1
simulation: press
spectrometer_frequency_mhz: 123.25
reference_ppm: 4.65
metabolites: [Glu, Gln, Lac]
te1_ms: 15
te2_ms: 15
excitation: {flip_deg: 90, phase_deg: 0}
refocusing:
  kind: ideal
  flip_deg: 180
  phase_deg: 90
crushers: none
n_samples: 2048
dwell_us: 500
"""
SHAPED = """\
schema_version: 1
simulation: press
spectrometer_frequency_mhz: 123.25
reference_ppm: 2.35
metabolites: [Glu]
te1_ms: 15
te2_ms: 15
excitation: {flip_deg: 90, phase_deg: 0}
refocusing:
  kind: shaped
  waveform_file: pulse.csv
  dwell_us: 50
  phase_deg: 90
  gradient_hz_per_m: 38334.59968816031
  position_max_mm: 22.5
  n_positions: 16
  axes: [x, y]
crushers: ideal
n_samples: 2048
dwell_us: 500
"""
HEADER = "t_start_s,amp_Hz,phase_rad\n"
SYSTEMS = """\
schema_version: 1
spin_systems:
  Singlet:
    groups:
      - {name: CH3, shift_ppm: {H: 3.0}, multiplier: 3}
  Triple:
    groups:
      - name: ring
        shift_ppm: {A: 2.30, B: 2.42, C: 3.10}
        j_hz: [[A, B, -15.5], [A, C, 7.2], [B, C, 4.6]]
        multiplier: 2
      - {name: CH, shift_ppm: {D: 1.5}}
"""


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result, *words):
    """Check that a call ended with 2 and one error that holds every word."""
    assert result.exit_code == 2, result.output
    assert result.output.startswith("seqgen: error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output, f"{word!r} not in {result.output!r}"


def changed(text, *changes):
    """Return a simulation file with some of its text replaced; each replacement must hit once."""
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def simulated(folder, text, name="simulation"):
    """Run a simulation file from the command line and return what it wrote."""
    path, output = folder / f"{name}.yaml", folder / f"{name}.npz"
    path.write_text(text)
    result = call("simulate", path, "-o", output)
    assert result.exit_code == 0, result.output
    with np.load(output, allow_pickle=False) as arrays:
        return dict(arrays)


def relative_error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def reference(shared, name):
    with np.load(shared / "data/reference" / name) as arrays:
        return dict(arrays)


@pytest.fixture
def fida_table(shared):
    """The line that names FID-A's spin systems."""
    return f"spin_systems_file: {shared / 'data/reference/spin_systems_fida.json'}\n"


@pytest.mark.crosstool
def test_w1_ideal_press_of_fida_and_fslmrs(shared, fida_table, tmp_path):
    found = simulated(tmp_path, IDEAL + fida_table)
    in_fida_phase = simulated(tmp_path, IDEAL + fida_table + "output_phase: fid_a\n", "fid_a")
    fida = reference(shared, "w1_press_ideal_TE30_fida.npz")
    fslmrs = reference(shared, "w1_press_ideal_TE30_fslmrs_denmatsim.npz")
    for name in ("Glu", "Gln", "Lac"):
        assert relative_error(in_fida_phase[f"fid_{name}"], fida[f"fid_{name}"]) < 1e-10
        assert relative_error(found[f"fid_{name}"], fslmrs[f"fid_{name}"]) < FSL_TOLERANCE


@pytest.mark.crosstool
def test_w1_by_the_pseudo_spins_of_fida(shared, fida_table, tmp_path):
    text = changed(IDEAL, ("[Glu, Gln, Lac]", "[PE, PCh, GPC, Glu]")) + fida_table
    found = simulated(tmp_path, text + "output_phase: fid_a\npseudo_spins: fid_a\n")
    secular = simulated(tmp_path, text + "output_phase: fid_a\npseudo_spins: secular\n", "secular")
    fida = reference(shared, "w1_press_ideal_TE30_fida.npz")
    for name in ("PE", "PCh", "GPC", "Glu"):
        assert relative_error(found[f"fid_{name}"], fida[f"fid_{name}"]) < 1e-10
        if name != "Glu":
            assert 1e-4 < relative_error(secular[f"fid_{name}"], fida[f"fid_{name}"]) < 5e-3


@pytest.mark.crosstool
def test_w2_shaped_press_of_exact_steps_and_fslmrs(shared, fida_table, tmp_path):
    (tmp_path / "pulse.csv").write_bytes((shared / "data/reference/w2_pulse.csv").read_bytes())
    text = changed(SHAPED, ("[Glu]", "[Glu, Gln]")) + fida_table + f"j_step_us: {W2_J_STEP_US}\n"
    found = simulated(tmp_path, text)
    exact = reference(shared, "w2_press_shaped_numpy_exact.npz")
    fslmrs = reference(shared, "w2_press_shaped_fslmrs.npz")
    assert relative_error(found["fid_Glu"], exact["Glu_mean16"]) < W2_TOLERANCE
    assert relative_error(found["fid_Glu"], fslmrs["Glu_mean16"]) < FSL_TOLERANCE
    assert relative_error(found["fid_Gln"], fslmrs["Gln_mean16"]) < FSL_TOLERANCE


@pytest.mark.crosstool
def test_w2_at_the_default_accuracy(shared, fida_table, tmp_path):
    (tmp_path / "pulse.csv").write_bytes((shared / "data/reference/w2_pulse.csv").read_bytes())
    found = simulated(tmp_path, SHAPED + fida_table)
    exact = reference(shared, "w2_press_shaped_numpy_exact.npz")["Glu_mean16"]
    assert relative_error(found["fid_Glu"], exact) < W2_DEFAULT_TOLERANCE


# An independent PRESS: dense matrices in the product basis, exponentials by SciPy, orders cut out by a mask.

PAULI = {
    "x": np.array([[0, 1], [1, 0]]) / 2,
    "y": np.array([[0, -1j], [1j, 0]]) / 2,
    "z": np.array([[1, 0], [0, -1]]) / 2,
}


def operator(n, k, axis):
    return functools.reduce(np.kron, [PAULI[axis] if j == k else np.eye(2) for j in range(n)]).astype(complex)


def dense_press(shifts_ppm, couplings_hz, *, f0_mhz, reference_ppm, te1_s, te2_s, pulses, crushed, n_samples, dwell_s):
    """FID per proton of PRESS with instantaneous pulses [(flip, phase) x 3], rad, from exp(-iHt) and a mask."""
    n = len(shifts_ppm)
    total = {axis: sum(operator(n, k, axis) for k in range(n)) for axis in "xyz"}
    h = sum(2 * np.pi * (shift - reference_ppm) * f0_mhz * operator(n, k, "z") for k, shift in enumerate(shifts_ppm))
    for (j, k), coupling in couplings_hz.items():
        h = h + 2 * np.pi * coupling * sum(operator(n, j, axis) @ operator(n, k, axis) for axis in "xyz")
    m = total["z"].diagonal().real
    order = m[:, None] - m[None, :]
    rho = total["z"]
    waits = (te1_s / 2, te1_s / 2 + te2_s / 2, te2_s / 2)
    for (flip, phase), wait, kept in zip(pulses, waits, (-1, 1, -1), strict=True):
        turn = scipy.linalg.expm(-1j * flip * (math.cos(phase) * total["x"] + math.sin(phase) * total["y"]))
        rho = turn @ rho @ turn.conj().T
        rho = rho * (np.abs(order - kept) < 0.5) if crushed else rho
        free = scipy.linalg.expm(-1j * h * wait)
        rho = free @ rho @ free.conj().T
    step = scipy.linalg.expm(-1j * h * dwell_s)
    raising = total["x"] + 1j * total["y"]
    norm = np.trace(operator(1, 0, "x") @ operator(1, 0, "x")).real * 2 ** (n - 1)
    signal = []
    for _ in range(n_samples):
        signal.append(np.trace(rho @ raising) / norm)
        rho = step @ rho @ step.conj().T
    return np.array(signal)


@pytest.mark.parametrize("crushers", ["none", "ideal"])
@pytest.mark.parametrize(("excitation_deg", "refocusing_deg"), [((90, 0), (180, 90)), ((70, 25), (130, 63))])
def test_ideal_press_of_dense_matrices(tmp_path, crushers, excitation_deg, refocusing_deg):
    """Unequal echo times; pulses that are no 180 make every order up to 3, and none of them is lost."""
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    text = changed(
        IDEAL,
        ("[Glu, Gln, Lac]", "[Triple]"),
        ("te1_ms: 15", "te1_ms: 12.3"),
        ("te2_ms: 15", "te2_ms: 21.9"),
        ("{flip_deg: 90, phase_deg: 0}", f"{{flip_deg: {excitation_deg[0]}, phase_deg: {excitation_deg[1]}}}"),
        ("flip_deg: 180\n  phase_deg: 90", f"flip_deg: {refocusing_deg[0]}\n  phase_deg: {refocusing_deg[1]}"),
        ("crushers: none", f"crushers: {crushers}"),
        ("n_samples: 2048", "n_samples: 64"),
    )
    found = simulated(tmp_path, text + "spin_systems_file: systems.yaml\n")["fid"][0]
    excitation, refocusing = (tuple(map(math.radians, pulse)) for pulse in (excitation_deg, refocusing_deg))
    dense = functools.partial(
        dense_press,
        f0_mhz=123.25,
        reference_ppm=4.65,
        te1_s=12.3e-3,
        te2_s=21.9e-3,
        pulses=(excitation, refocusing, refocusing),
        crushed=crushers == "ideal",
        n_samples=64,
        dwell_s=5e-4,
    )
    expected = 2 * dense((2.30, 2.42, 3.10), {(0, 1): -15.5, (0, 2): 7.2, (1, 2): 4.6}) + dense((1.5,), {})
    assert relative_error(found, expected) < 1e-10


def test_a_singlet_in_closed_form(tmp_path):
    """90 about +x turns z to -y, 180s about +y leave it: -3i exp(2 pi i f t), from the first sample to the last."""
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    text = changed(IDEAL, ("[Glu, Gln, Lac]", "[Singlet]"), ("n_samples: 2048", "n_samples: 10000"))
    found = simulated(tmp_path, text + "spin_systems_file: systems.yaml\n")["fid"]
    t_s = np.arange(10000) * 5e-4
    expected = -3j * np.exp(2j * np.pi * (3.0 - 4.65) * 123.25 * t_s)
    np.testing.assert_allclose(found, expected[None], rtol=0, atol=1e-9)


def test_what_the_loader_makes_of_a_shaped_section(tmp_path):
    """Both 180s have one phase, which orders -1, +1, -1 do not show: it is checked here, on the waveform itself."""
    (tmp_path / "pulse.csv").write_text(HEADER + "0,400,0\n5e-5,300,1.5\n\n1e-4,0,3\n")
    (tmp_path / "simulation.yaml").write_text(changed(SHAPED, ("  phase_deg: 90", "  phase_deg: 30")))
    simulation = load_press_simulation(tmp_path / "simulation.yaml")
    pulse = simulation.refocusing.pulse
    turn = np.exp(1j * np.pi / 6)
    np.testing.assert_allclose(pulse.b1_hz, turn * np.array([400, 300 * np.exp(1.5j), 0]), rtol=0, atol=1e-10)
    assert (pulse.dwell_s, pulse.carrier_offset_hz) == (5e-5, 0.0)
    assert (simulation.refocusing.position_max_m, simulation.refocusing.axes) == (0.0225, ("x", "y"))
    timeline = link.press_timeline(simulation)
    # Nominal echo at te1 + te2; 180s centred at te1/2 and te1 + te2/2, their gradients along x and then y.
    times = [time for time, _ in timeline.pulses()]
    assert times == pytest.approx([0, 7.5e-3, 22.5e-3], abs=1e-12)
    assert timeline.readouts()[0][0] == pytest.approx(30e-3, abs=1e-12)
    axes = [interval.gradient_hz_per_m[0].tolist() for _, interval in timeline.pulses()[1:]]
    assert axes == [[38334.59968816031, 0, 0], [0, 38334.59968816031, 0]]


def test_what_a_file_holds(tmp_path):
    """Shapes, types, the same rows twice, and where they came from."""
    found = simulated(tmp_path, IDEAL)
    assert set(found) == {*KEYS, "fid_Glu", "fid_Gln", "fid_Lac"}
    assert (found["fid"].shape, found["fid"].dtype) == ((3, 2048), np.complex128)
    assert found["names"].tolist() == ["Glu", "Gln", "Lac"]
    for name, row in zip(found["names"], found["fid"], strict=True):
        np.testing.assert_array_equal(found[f"fid_{name}"], row)
    assert (float(found["dwell_s"]), float(found["f0_hz"]), float(found["reference_ppm"])) == (5e-4, 123.25e6, 4.65)
    record = json.loads(str(found["provenance"]))
    digest = hashlib.sha256(IDEAL.encode()).hexdigest()
    assert record["made_from"] == {"simulation": {"name": "simulation.yaml", "sha256": digest}}
    assert {"seqgen", "torch", "numpy"} <= set(record["versions"])


def test_equal_files_give_equal_bytes_and_json_tells_the_same(tmp_path):
    simulated(tmp_path, IDEAL)
    first = (tmp_path / "simulation.npz").read_bytes()
    result = call("simulate", tmp_path / "simulation.yaml", "-o", tmp_path / "simulation.npz", "--json")
    assert (tmp_path / "simulation.npz").read_bytes() == first
    told = json.loads(result.output)
    assert (told["names"], told["n_samples"], told["dwell_s"]) == (["Glu", "Gln", "Lac"], 2048, 5e-4)
    assert "simulation" in told["provenance"]["made_from"]


def test_every_file_that_was_read_is_in_the_record(tmp_path):
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    waveform = (PROTOCOLS / "simulate_press_shaped_180.csv").read_bytes()
    (tmp_path / "pulse.csv").write_bytes(waveform)
    text = changed(SHAPED, ("[Glu]", "[Singlet]"), ("n_samples: 2048", "n_samples: 8"))
    found = simulated(tmp_path, text + "spin_systems_file: systems.yaml\n")
    made_from = json.loads(str(found["provenance"]))["made_from"]
    assert set(made_from) == {"simulation", "spin_systems", "waveform"}
    assert made_from["waveform"]["sha256"] == hashlib.sha256(waveform).hexdigest()
    assert made_from["spin_systems"]["sha256"] == hashlib.sha256(SYSTEMS.encode()).hexdigest()


def test_both_layouts_of_spin_systems_say_the_same(tmp_path):
    (tmp_path / "systems.yaml").write_text(SYSTEMS)
    group = {"shifts": [2.30, 2.42, 3.10], "j": [[0, -15.5, 7.2], [0, 0, 4.6], [0, 0, 0]], "scaleFactor": 2}
    rows = [group, {"shifts": 1.5, "j": 0, "scaleFactor": 1.0}]  # a lone spin may be written without brackets
    (tmp_path / "systems.json").write_text(json.dumps({"Triple": rows}))
    text = changed(IDEAL, ("[Glu, Gln, Lac]", "[Triple]"))
    a = simulated(tmp_path, text + "spin_systems_file: systems.yaml\n", "a")
    b = simulated(tmp_path, text + "spin_systems_file: systems.json\n", "b")
    np.testing.assert_allclose(a["fid"], b["fid"], rtol=0, atol=1e-12)


def test_pseudo_spins_of_fida_are_heteronuclei(tmp_path):
    """One proton and a spin at 40 or 100 ppm: a doublet of half a proton each, spaced by J; 180s leave J evolve."""
    j_hz, te_s = 6.3, 30e-3
    rows = {f"P{ppm}": [{"shifts": [3.0, ppm], "j": [[0, j_hz], [0, 0]], "scaleFactor": 1}] for ppm in (40, 100)}
    (tmp_path / "systems.json").write_text(json.dumps(rows))
    text = changed(IDEAL, ("[Glu, Gln, Lac]", "[P40, P100]"))
    found = simulated(tmp_path, text + "spin_systems_file: systems.json\n")["fid"]
    t_s = np.arange(2048) * 5e-4
    # No pulse turns the other spin: its coupling is refocused with the shift, and evolves from the echo on.
    expected = -1j * np.cos(np.pi * j_hz * t_s) * np.exp(2j * np.pi * (3.0 - 4.65) * 123.25 * t_s)
    assert te_s * j_hz > 0.1
    np.testing.assert_allclose(found, np.stack([expected, expected]), rtol=0, atol=1e-9)


def test_the_shipped_waveform_is_the_one_its_comment_names():
    """Hamming-windowed sinc, time-bandwidth product 6, 180 degrees on resonance, by its formula."""
    table = np.genfromtxt(PROTOCOLS / "simulate_press_shaped_180.csv", delimiter=",", names=True)
    x = (np.arange(100) + 0.5) / 100 - 0.5
    shape = np.sinc(6 * x) * (0.54 + 0.46 * np.cos(2 * np.pi * x))
    b1_hz = table["amp_Hz"] * np.exp(1j * table["phase_rad"])
    np.testing.assert_allclose(table["t_start_s"], np.arange(100) * 5e-5, rtol=0, atol=1e-12)
    np.testing.assert_allclose(b1_hz / b1_hz.sum(), shape / shape.sum(), rtol=0, atol=1e-10)
    assert 360 * b1_hz.sum() * 5e-5 == pytest.approx(180, rel=1e-10)


@pytest.mark.parametrize("name", ["simulate_press_ideal", "simulate_press_shaped"])
def test_init_hands_out_simulation_files_that_run(tmp_path, name):
    path, output = tmp_path / "mine.yaml", tmp_path / "mine.npz"
    result = call("init", name, "-o", path)
    assert result.exit_code == 0, result.output
    assert f"seqgen simulate {path}" in result.output
    result = call("simulate", path, "-o", output)
    assert result.exit_code == 0, result.output
    with np.load(output) as found:
        protons = np.array([{"Glu": 5, "Gln": 7, "Lac": 4}[metabolite] for metabolite in found["names"]])
        # The shaped 180s leave a voxel of 22 x 22 mm (800 Hz at 36 kHz/m) of the 60 x 60 mm that positions cover.
        share = (22 / 60) ** 2 if name.endswith("shaped") else 1
        assert np.all(np.abs(found["fid"][:, 0]) < protons * share)
        assert np.all(np.abs(found["fid"][:, 0]) > 0.6 * protons * share)


def test_init_overwrites_no_waveform(tmp_path):
    beside = tmp_path / "simulate_press_shaped_180.csv"
    beside.write_text("mine")
    refused(call("init", "simulate_press_shaped", "-o", tmp_path / "mine.yaml"), str(beside), "not overwritten")
    assert beside.read_text() == "mine"
    assert not (tmp_path / "mine.yaml").exists()


def test_the_default_output_is_fids_npz(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(IDEAL)
    monkeypatch.chdir(tmp_path)
    assert call("simulate", "mine.yaml").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fids.npz", "mine.yaml"]


def test_a_protocol_needs_a_seq_and_a_simulation_takes_none(tmp_path):
    protocol, simulation, seq = PROTOCOLS / "phantom_glu_gln_3t.yaml", tmp_path / "mine.yaml", tmp_path / "press.seq"
    simulation.write_text(IDEAL)
    seq.write_text("")
    output = tmp_path / "out.npz"
    refused(call("simulate", protocol, "-o", output), str(protocol), "must be given", "simulation: press")
    refused(call("simulate", simulation, seq, "-o", output), str(simulation), str(seq), "takes no .seq", "Leave it out")
    refused(call("simulate", tmp_path / "no.yaml", "-o", output), "no.yaml", "cannot be read")
    refused(call("simulate", simulation, "-o", tmp_path / "out.h5"), "out.h5", ".npz")
    refused(call("run", simulation, "-o", tmp_path / "run"), str(simulation), "no protocol", "seqgen simulate")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "press.seq"]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(changed(IDEAL, ("flip_deg: 180", "flip_deg: 361"), ("te2_ms", "te3_ms"), ("n_samples: 2048\n", "")))
    result = call("simulate", path)
    refused(result, "te3_ms", "n_samples")
    numbers = [int(line.removeprefix("seqgen: error: ").split(":")[1]) for line in result.output.splitlines()]
    assert numbers == [1, 1, 7, 11]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "[Glu, Gln, Lac]",
            "[Glu, Gluu]",
            (":5: ", "metabolites[1]", "Unknown metabolite 'Gluu'", "Nearest known: Glu"),
        ),
        ("[Glu, Gln, Lac]", "[]", (":5: ", "metabolites", "at least 1")),
        ("[Glu, Gln, Lac]", "[Glu, Lac, Glu]", (":5: ", "each metabolite once", "Glu")),
        ("te1_ms: 15", "te1_mss: 15", (":6: ", "unknown key 'te1_mss'", "te1_ms")),
        ("te1_ms: 15", "te1_ms: -1", (":6: ", "'te1_ms'", "at least", "ms, but is -1")),
        ("te1_ms: 15", "te1_ms: .nan", (":6: ", "'te1_ms'", "number")),
        ("te1_ms: 15\n", "", ("missing key 'te1_s' (or te1_ms, te1_us)",)),
        ("n_samples: 2048", "n_samples: 0", (":14: ", "'n_samples'", "at least 1", "but is 0")),
        ("n_samples: 2048", "n_samples: 20.5", (":14: ", "'n_samples'", "a whole number")),
        ("dwell_us: 500", "dwell_us: 0", (":15: ", "'dwell_us'", "greater than 0 us")),
        ("dwell_us: 500", "dwell_us: 500\nlinewidth_hz: 2", (":16: ", "linewidth_hz must be 0", "2 Hz", "exp(-pi")),
        ("dwell_us: 500", "dwell_us: 500\noutput_phase: spinach", (":16: ", "'output_phase'", "'none' or 'fid_a'")),
        ("dwell_us: 500", "dwell_us: 500\npseudo_spins: fid_a", (":16: ", "'pseudo_spins'", "JSON", "secular")),
        ("dwell_us: 500", "dwell_us: 500\npseudo_spins: real", (":16: ", "'pseudo_spins'", "'secular' or 'fid_a'")),
        ("dwell_us: 500", "dwell_us: 500\nj_step_us: 0", (":16: ", "'j_step_us'", "greater than 0 us")),
        ("mhz: 123.25", "mhz: 123.25e6", (":3: ", "spectrometer_frequency_mhz", "at most 3000 MHz")),
        ("reference_ppm: 4.65", "reference_ppm: 573", (":4: ", "'reference_ppm'", "at most 20")),
        ("simulation: press", "simulation: steam", (":2: ", "'simulation'", "'press'", "steam")),
        ("schema_version: 1", "schema_version: 2", (":1: ", "schema_version", "must be 1")),
        ("kind: ideal", "kind: perfect", (":10: ", "refocusing.kind", "ideal or shaped", "perfect")),
        ("  kind: ideal\n", "", (":9: ", "refocusing.kind", "missing")),
        ("  flip_deg: 180", "  flip_deg: 180\n  dwell_us: 5", (":12: ", "unknown key 'dwell_us'", "refocusing")),
        ("  flip_deg: 180", "  flip_deg: 361", (":11: ", "refocusing.flip_deg", "at most 360 degrees")),
        (
            "{flip_deg: 90, phase_deg: 0}",
            "{flip_deg: 180, phase_deg: 0}",
            (":8: ", "excitation.flip_deg", "180 degrees"),
        ),
        ("crushers: none", "crushers: some", (":13: ", "'crushers'", "'none' or 'ideal'")),
        ("crushers: none\n", "", ("missing key 'crushers'",)),
        ("dwell_us: 500", "dwell_us: 500\nspin_systems_file: no.yaml", (":16: ", "no.yaml", "cannot be read")),
        ("dwell_us: 500", "dwell_us: 500\nspin_systems_file: no.json", (":16: ", "no.json", "cannot be read")),
    ],
)
def test_a_bad_simulation_file_is_refused_and_writes_nothing(tmp_path, old, new, words):
    path = tmp_path / "simulation.yaml"
    path.write_text(changed(IDEAL, (old, new)))
    refused(call("simulate", path, "-o", tmp_path / "out" / "fids.npz"), str(path), *words)
    assert list(tmp_path.iterdir()) == [path]


TWO_ROWS = HEADER + "0,400,0\n5e-5,400,0\n"


@pytest.mark.parametrize(
    ("old", "new", "pulse", "words"),
    [
        (
            "te1_ms: 15",
            "te1_ms: 5",
            None,
            (":6: ", "te1_ms", "5 ms", "must be longer than the refocusing pulse of 5 ms"),
        ),
        ("te2_ms: 15", "te2_us: 4000", None, (":7: ", "te2_us", "4 ms", "Raise it, or shorten the pulse")),
        ("crushers: ideal", "crushers: none", None, (":18: ", "'crushers' must be ideal", "none")),
        ("axes: [x, y]", "axes: [x, x]", None, (":17: ", "axes must be two different ones", "x and x")),
        ("axes: [x, y]", "axes: [x]", None, (":17: ", "axes", "at least 2")),
        ("axes: [x, y]", "axes: [x, w]", None, (":17: ", "axes", "'x', 'y' or 'z'")),
        ("n_positions: 16", "n_positions: 1", None, (":16: ", "n_positions", "at least 2")),
        ("gradient_hz_per_m: 38334.59968816031", "gradient_hz_per_m: 0", None, (":14: ", "greater than 0 Hz/m")),
        ("waveform_file: pulse.csv", "waveform_file: no.csv", None, (":11: ", "no.csv", "cannot be read")),
        (
            "dwell_us: 50\n",
            "dwell_us: 40\n",
            None,
            ("pulse.csv", "sample 1 of 100", "40 us", "does not divide", "50 us"),
        ),
        (
            "dwell_us: 50\n",
            "dwell_us: 50\n",
            HEADER + "0,1,0\n5e-5,nan,0\n",
            ("pulse.csv:3: ", "NaN", "amp_Hz", "finite"),
        ),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER + "0,1,inf\n", ("pulse.csv:2: ", "infinity", "phase_rad")),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER + "0,-1,0\n", ("pulse.csv:2: ", "amp_Hz", "negative", "add pi")),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER + "0,1\n", ("pulse.csv:2: ", "three numbers", "'0,1'")),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER + "0,a,0\n", ("pulse.csv:2: ", "three numbers")),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER, ("pulse.csv", "no samples")),
        ("dwell_us: 50\n", "dwell_us: 50\n", HEADER + "0,0,0\n5e-5,0,0\n", ("pulse.csv", "every amplitude is 0")),
        ("dwell_us: 50\n", "dwell_us: 50\n", "0,1,0\n", ("pulse.csv:1: ", "t_start_s,amp_Hz,phase_rad", "'0,1,0'")),
        ("dwell_us: 50\n", "dwell_us: 50\n", "", ("pulse.csv:1: ", "missing")),
        (
            "dwell_us: 50\n",
            "dwell_us: 50\n",
            TWO_ROWS + "9e-5,4,0\n",
            ("pulse.csv", "sample 2 of 3", "90 us", "100 us"),
        ),
    ],
)
def test_a_bad_waveform_or_shaped_section_is_refused(tmp_path, old, new, pulse, words):
    csv = tmp_path / "pulse.csv"
    csv.write_text((PROTOCOLS / "simulate_press_shaped_180.csv").read_text() if pulse is None else pulse)
    path = tmp_path / "simulation.yaml"
    path.write_text(changed(SHAPED, (old, new)))
    refused(call("simulate", path, "-o", tmp_path / "fids.npz"), str(path), *words)
    assert sorted(tmp_path.iterdir()) == [csv, path]


def test_a_waveform_that_is_no_text(tmp_path):
    (tmp_path / "pulse.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "simulation.yaml").write_text(SHAPED)
    refused(call("simulate", tmp_path / "simulation.yaml", "-o", tmp_path / "x.npz"), "pulse.csv", "not CSV text")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", ("is not JSON",)),
        ("[]", ("must hold a list of spin groups",)),
        ('{"A": []}', ("must hold a list of spin groups",)),
        ('{"A": [{"shifts": [1.0], "j": [[0]]}]}', ("A, group 0", "scaleFactor", "has j, shifts")),
        ('{"A": [{"shifts": [1.0], "j": [[0]], "scaleFactor": 1, "x": 0}]}', ("A, group 0", "no other")),
        ('{"A": [{"shifts": [1.0], "j": [[0, 0]], "scaleFactor": 1}]}', ("A, group 0", "n x n")),
        ('{"A": [{"shifts": ["a"], "j": [[0]], "scaleFactor": 1}]}', ("A, group 0", "numbers")),
        ('{"A": [{"shifts": [true], "j": [[0]], "scaleFactor": 1}]}', ("A, group 0", "numbers")),
        ('{"A": [{"shifts": [NaN], "j": [[0]], "scaleFactor": 1}]}', ("A, group 0", "shift_ppm of H1", "finite")),
        ('{"A": [{"shifts": [250], "j": [[0]], "scaleFactor": 1}]}', ("A, group 0", "-5 and 20 ppm", "250")),
        ('{"A": [{"shifts": [1], "j": [[0]], "scaleFactor": 0}]}', ("A, group 0", "multiplier must be positive")),
        (
            '{"A": [{"shifts": [1, 2], "j": [[0, 7], [7, 0]], "scaleFactor": 1}]}',
            ("A, group 0", "above the diagonal"),
        ),
        (
            '{"A": [{"shifts": [1, 2], "j": [[0, Infinity], [0, 0]], "scaleFactor": 1}]}',
            ("A, group 0", "j_hz of H1 and H2", "finite"),
        ),
        (
            '{"Glutamate": [{"shifts": [1.0], "j": [[0]], "scaleFactor": 1}]}',
            ("metabolites[0]", "Unknown metabolite 'A'", "Known: Glutamate", "built-in table is not used"),
        ),
    ],
)
def test_bad_json_is_refused(tmp_path, content, words):
    (tmp_path / "systems.json").write_text(content)
    path = tmp_path / "simulation.yaml"
    path.write_text(changed(IDEAL, ("[Glu, Gln, Lac]", "[A]")) + "spin_systems_file: systems.json\n")
    refused(call("simulate", path, "-o", tmp_path / "fids.npz"), str(path), "systems.json", *words)
    assert not (tmp_path / "fids.npz").exists()


@pytest.mark.crosstool
def test_an_unknown_name_lists_near_ones_of_fidas_table(fida_table, tmp_path):
    path = tmp_path / "simulation.yaml"
    path.write_text(changed(IDEAL, ("[Glu, Gln, Lac]", "[GLU]")) + fida_table)
    refused(call("simulate", path, "-o", tmp_path / "fids.npz"), "Unknown metabolite 'GLU'", "Nearest known: Glu")


@pytest.mark.parametrize("limit_bytes", [0, 1000, 40_000])
def test_a_full_disk_leaves_what_was_there(tmp_path, limit_bytes):
    path, output = tmp_path / "simulation.yaml", tmp_path / "fids.npz"
    path.write_text(IDEAL)
    output.write_text("older")
    done = subprocess.run(
        [sys.executable, "-m", "seqgen", "simulate", str(path), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("seqgen: error: ")
    assert "Traceback" not in done.stderr
    assert output.read_text() == "older"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["fids.npz", "simulation.yaml"]


@pytest.mark.parametrize("how", ["other values", "cut short", "empty"])
def test_a_file_that_reads_back_otherwise_is_not_kept(tmp_path, monkeypatch, how):
    genuine = np.savez

    def faulty(stream, **arrays):
        genuine(stream, **(arrays | {"fid": arrays["fid"] * (1 + 1e-15)} if how == "other values" else arrays))
        if how != "other values":
            stream.truncate(1000 if how == "cut short" else 0)
            stream.seek(0)

    monkeypatch.setattr(link.np, "savez", faulty)
    (tmp_path / "simulation.yaml").write_text(IDEAL)
    result = call("simulate", tmp_path / "simulation.yaml", "-o", tmp_path / "fids.npz")
    assert result.exit_code == 1, result.output
    assert "not what was written" in result.output
    assert [entry.name for entry in tmp_path.iterdir()] == ["simulation.yaml"]
