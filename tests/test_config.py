import math
import re
from importlib.resources import files
from pathlib import Path

import pytest

from seqgen import library
from seqgen.config import Protocol, load_protocol, load_scan_protocol, water_shift_at_ppm
from seqgen.errors import InputError
from seqgen.sequence.plugins import BuildContext, sequence_names

FOLDER = Path(__file__).resolve().parents[1] / "protocols"
DESIGNS = Path(__file__).resolve().parents[1] / "data" / "designs"
OTHERS = ("simulate_", "scan_", "sweep_")
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith(OTHERS))
BENCH = sorted(path.stem for path in DESIGNS.glob("bench_*.yaml"))
SCANS = sorted(path.stem for path in FOLDER.glob("scan_*.yaml"))

TEXT = """\
schema_version: 1
name: test
scanner: siemens_prisma_3t
spectrometer_frequency_mhz: 123.2
temperature_c: 20
water_shift_ppm: 4.80
seed: 1
sample:
  metabolites:
    Glu: {concentration_mm: 12.5, t1_ms: 2000, t2_ms: 600}
    Gln: {concentration_mm: 3.0, t1_ms: 2000, t2_ms: 600}
  linewidth_hz: 3
  water_concentration_mm: 55510
  water_t1_ms: 2500
  water_t2_ms: 1500
design:
  target: Glu
  interferers: [Gln]
  window_ppm: [2.25, 2.42]
  duration_ms: 20
  carrier_ppm: 2.35
  b1_max_hz: 300
  energy_max_hz2_s: 1000
  rf_dwell_us: 20
  te1_ms: 41
  te2_ms: 34
sequence:
  name: press
  tr_ms: 2000
  voxel_size_mm: [20, 20, 30]
  voxel_rotation_deg: [0, 90, 0]
acquisition:
  n_coils: 4
  snr: 100
fit: {}
"""


def line_of(key, text=TEXT):
    """Return the line on which a key stands, counted from 1."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.strip().startswith(key + ":"))


def load(tmp_path, text):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    return load_protocol(path)


def refused(tmp_path, old, new):
    """Return the lines of the error for TEXT with `old` replaced, without the folder."""
    assert TEXT.count(old) == 1, old
    with pytest.raises(InputError) as caught:
        load(tmp_path, TEXT.replace(old, new))
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_a_protocol_in_si(tmp_path):
    got = load(tmp_path, TEXT)
    assert got.spectrometer_frequency_hz == 123.2e6
    assert got.scanner.name == "siemens_prisma_3t"
    assert (got.design.duration_s, got.design.rf_dwell_s, got.design.te1_s) == (0.02, 2e-5, 0.041)
    assert got.design.window_ppm == (2.25, 2.42)
    assert got.sample.metabolites["Glu"].relaxation.t2_s == 0.6
    assert got.sequence.name == "press"
    assert got.sequence.spec.name == "press"
    assert got.sequence.params.tr_s == 2.0
    assert got.sequence.params.voxel_size_m == (0.02, 0.02, 0.03)
    assert got.sequence.params.voxel_rotation_rad == (0.0, math.pi / 2, 0.0)
    assert (got.acquisition.n_coils, got.acquisition.snr) == (4, 100.0)
    assert got.spin_systems_file is None


def test_the_sequence_takes_the_echo_times_of_the_design(tmp_path):
    params = load(tmp_path, TEXT).sequence.params
    assert (params.te1_s, params.te2_s) == (0.041, 0.034)
    same = load(tmp_path, TEXT.replace("  tr_ms", "  te1_s: 0.041\n  tr_ms")).sequence.params
    assert (same.te1_s, same.te2_s) == (0.041, 0.034)
    (message,) = refused(tmp_path, "  tr_ms", "  te2_ms: 30\n  tr_ms")
    assert message.startswith("p.yaml:29: 'sequence.te2_ms' is 30, but 'design.te2_ms' is 34.")


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_protocol_loads(name):
    protocol = load_protocol(FOLDER / f"{name}.yaml")
    assert protocol.name == name
    ge = name.endswith("_ge")
    assert protocol.spectrometer_frequency_hz == (127.7e6 if ge else 123.2e6)
    assert protocol.scanner.vendor == ("ge" if ge else "siemens")
    assert {"Glu", "Gln"} <= set(protocol.sample.metabolites)
    by_window = protocol.design.loss == {"window": 1.0}
    assert (protocol.design.te1_s, protocol.design.te2_s) == ((0.041, 0.034) if by_window else (0.0121, 0.0121))
    most_hz = 8.0 if by_window else 10.0
    assert (protocol.design.b0_offsets_hz, protocol.design.b1_scales) == ((-most_hz, 0.0, most_hz), (0.8, 1.0, 1.2))
    phantom = name.startswith("phantom")
    assert (protocol.temperature_c, protocol.water_shift_ppm) == ((20.0, 4.80) if phantom else (37.0, 4.65))


def test_the_shipped_studies():
    assert NAMES == [
        "glu_gln_crlb_3t",
        "invivo_glu_gln_3t",
        "invivo_glu_gln_3t_ge",
        "phantom_glu_gln_3t",
        "phantom_glu_gln_3t_ge",
    ]


@pytest.mark.parametrize("name", BENCH)
def test_protocols_of_the_bench_design_a_pulse_alone(name):
    protocol = load_protocol(DESIGNS / f"{name}.yaml")
    assert protocol.name == name
    assert protocol.sequence.name == "pulse_acquire"
    assert (protocol.design.place, protocol.design.te1_s, protocol.design.te2_s) == ("excitation", 0.0, 0.0)
    assert protocol.design.carrier_ppm == protocol.sequence.params.carrier_ppm
    # Starts take a quarter each; a descent at most two values and gradients an iteration.
    each = protocol.design.iterations // 4 if protocol.design.starts > 1 else 0
    assert 2 * (protocol.design.starts * each + protocol.design.iterations) <= 400


def test_a_pulse_alone_stands_at_the_excitation(tmp_path):
    text = (DESIGNS / "bench_citrate_dq.yaml").read_text(encoding="utf-8")
    assert len(BENCH) == 7
    with pytest.raises(
        InputError, match=r"'design.place' is 'te1', but sequence 'pulse_acquire' plays .* at excitation"
    ):
        load(tmp_path, text.replace("place: excitation", "place: te1"))


def scan_context(protocol):
    return BuildContext(
        scanner=protocol.scanner,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        water_shift_ppm=protocol.water_shift_ppm,
    )


def test_every_sequence_has_a_shipped_protocol_of_a_scan():
    assert {load_scan_protocol(FOLDER / f"{name}.yaml").sequence.name for name in SCANS} == set(sequence_names())


@pytest.mark.parametrize("name", SCANS)
def test_every_shipped_protocol_of_a_scan_loads_and_builds(name):
    protocol = load_scan_protocol(FOLDER / f"{name}.yaml")
    assert not isinstance(protocol, Protocol)
    assert protocol.name == name
    built = protocol.sequence.spec.build(protocol.sequence.params, scan_context(protocol))
    assert sum(block.adc is not None for block in built.blocks) >= 32


def test_a_study_is_a_protocol_of_a_scan_too():
    protocol = load_scan_protocol(FOLDER / "phantom_glu_gln_3t.yaml")
    assert isinstance(protocol, Protocol)


def test_the_protocol_of_a_scan_is_no_study():
    with pytest.raises(InputError, match="describes a scan alone: it has none of acquisition, design, fit, sample"):
        load_protocol(FOLDER / "scan_steam_3t.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("te_ms: 20", "te_mss: 20", "te_mss"),
        ("spectrometer_frequency_mhz: 123.2", "spectrometer_frequency_mhz: 63.9", "siemens_prisma_3t is 2.89 T"),
        ("water_shift_ppm: 4.65", "water_shift_ppm: 4.2", "water at 'temperature_c' 37"),
        ("name: steam", "name: steem", "Unknown sequence 'steem'"),
    ],
)
def test_a_bad_protocol_of_a_scan_is_refused_with_its_line(old, new, words, tmp_path):
    text = (FOLDER / "scan_steam_3t.yaml").read_text()
    assert old in text
    path = tmp_path / "scan.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=rf"scan\.yaml:\d+: .*{re.escape(words)}"):
        load_scan_protocol(path)


def test_a_design_needs_a_sequence_that_plays_it(tmp_path):
    text = (FOLDER / "phantom_glu_gln_3t.yaml").read_text().replace("name: press  ", "name: mega_press  ")
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"'design.place' is 'echo_top', but sequence 'mega_press' plays .* at te1 and te2"
    ):
        load_protocol(tmp_path / "study.yaml")


def test_the_vendors_protocols_differ_in_scanner_and_frequency_alone():
    for study in ("phantom", "invivo"):
        siemens, ge = ((FOLDER / f"{study}_glu_gln_3t{end}.yaml").read_text().splitlines() for end in ("", "_ge"))
        differing = {a.split(":")[0] for a, b in zip(siemens, ge, strict=True) if a != b and not a.startswith("#")}
        assert differing == {"name", "description", "scanner", "spectrometer_frequency_mhz"}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("invivo")])
def test_the_brain_protocols_carry_the_values_of_the_tables(name):
    sample = load_protocol(FOLDER / f"{name}.yaml").sample
    for metabolite, stated in sample.metabolites.items():
        table = library.relaxation(metabolite, "3t")
        assert (stated.t1_s, stated.t2_s) == (table.t1_s, table.t2_s), metabolite
        assert stated.concentration_mm == pytest.approx(library.concentration_mm(metabolite)), metabolite
    grey, white = library.relaxation("water_GM", "3t"), library.relaxation("water_WM", "3t")
    assert sample.water_t1_s == pytest.approx(0.6 * grey.t1_s + 0.4 * white.t1_s, rel=0.005)
    assert sample.water_t2_s == pytest.approx(0.6 * grey.t2_s + 0.4 * white.t2_s, rel=0.005)
    content = 0.6 * library.water_concentration_mm("GM") + 0.4 * library.water_concentration_mm("WM")
    assert sample.water_concentration_mm == pytest.approx(content, rel=0.005)
    t1, t2 = library.macromolecule_relaxation()
    assert t1.low <= sample.macromolecule_t1_s <= t1.high
    assert min(row.low for row in t2.values()) <= sample.macromolecule_t2_s <= max(row.high for row in t2.values())
    # What the comment says: height of MM09 (Gaussian) over that of NAA's CH3 (Lorentzian of the stated width).
    mm09 = library.macromolecule_peaks(sample.macromolecules)[0]
    mm_hz = mm09.fwhm_ppm * 123.2
    mm_height = sample.macromolecule_concentration_mm * mm09.amplitude * 2 * math.sqrt(math.log(2) / math.pi) / mm_hz
    naa_height = 3 * sample.metabolites["NAA"].concentration_mm * 2 / (math.pi * sample.linewidth_hz)
    assert mm_height / naa_height == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ("te1_ms: 41", "te1_mss: 41", "te1_ms", "unknown key 'te1_mss' in 'design'; nearest known: te1_ms"),
        ("te1_ms: 41", "te1_ms: 41 ms", "te1_ms", "'design.te1_ms' must be a number, but is '41 ms'. Write the bare"),
        ("te1_ms: 41", "te1_s: 41ms", "te1_ms", "'design.te1_s' must be a number"),
        (
            "duration_ms: 20",
            "duration_ms: -20",
            "duration_ms",
            "duration_s must be positive.*Here 'duration_ms' is -20",
        ),
        ("[2.25, 2.42]", "[2.42, 2.25]", "window_ppm", "in 'design': window_ppm must rise.*Swap the two"),
        ("[2.25, 2.42]", "[2.25]", "window_ppm", "'design.window_ppm' must be a longer list"),
        ("[2.25, 2.42]", "[225, 242]", "window_ppm", "shifts lie between -1 and 10 ppm. Give ppm, not Hz"),
        ("carrier_ppm: 2.35", "carrier_ppm: -350", "carrier_ppm", "'design.carrier_ppm' is -350.*Give ppm, not Hz"),
        (
            "target: Glu",
            "target: GABA",
            "target",
            "'design.target' names GABA, but 'sample.metabolites' holds Glu, Gln",
        ),
        ("[Gln]", "[GSH]", "interferers", "'design.interferers' names GSH, but"),
        ("[Gln]", "[Glu]", "interferers", "in 'design': interferers must name metabolites other than the target Glu"),
        ("b1_max_hz: 300", "b1_max_khz: 1", "b1_max_hz", r"'design.b1_max_khz' is 1, but .* reaches 852 Hz \(20 uT\)"),
        (
            "rf_dwell_us: 20",
            "rf_dwell_us: 1.5",
            "rf_dwell_us",
            r"'design.rf_dwell_us' must be a multiple of .* 1 us, but is 1.5 us. Nearest: 2 us.",
        ),
        (
            "duration_ms: 20",
            "duration_ms: 20.013",
            "duration_ms",
            r"'design.duration_ms' must be a whole number of samples of 20 us, but is 20.013 ms. Nearest: 20.02 ms.",
        ),
        (
            "  energy_max_hz2_s: 1000",
            "  energy_max_hz2_s: 1000\n  knot_spacing_us: 10",
            None,
            "'design.knot_spacing_us' must be at least the 20 us of a sample, but is 10 us. Nearest: 20 us.",
        ),
        ("rf_dwell_us: 20", "rf_dwell_us: 0.2", "rf_dwell_us", "must be a multiple of the RF raster"),
        ("name: press", "name: prss", None, r"in 'sequence.name': Unknown sequence 'prss'; installed: .*press"),
        ("tr_ms: 2000", "trr_ms: 2000", "tr_ms", "unknown key 'trr_ms' in 'sequence'; nearest known: tr_ms"),
        (
            "voxel_size_mm: [20, 20, 30]",
            "voxel_size_mm: 20",
            "voxel_size_mm",
            "'sequence.voxel_size_mm' must be a list",
        ),
        ("n_coils: 4", "n_coils: 4.5", "n_coils", "'acquisition.n_coils' must be a whole number, but is 4.5"),
        ("n_coils: 4", "n_coils: 0", "n_coils", "'acquisition.n_coils' must be at least 1, but is 0"),
        ("snr: 100", "snr: 0", "snr", "'acquisition.snr' must be greater than 0, but is 0"),
        ("seed: 1", "seed: one", "seed", "'seed' must be a whole number, but is 'one'"),
        ("temperature_c: 20", "temperature_c: 293", "temperature_c", "'temperature_c' must be at most 60, but is 293"),
        (
            "water_shift_ppm: 4.80",
            "water_shift_ppm: 4.65",
            "water_shift_ppm",
            "water at .* lies at 4.83 ppm.*Set water",
        ),
        (
            "_mhz: 123.2",
            "_mhz: 63.8",
            "spectrometer_frequency_mhz",
            "'spectrometer_frequency_mhz' is 63.8, that is 1.49",
        ),
        (
            "_mhz: 123.2",
            "_hz: 123.2",
            "spectrometer_frequency_mhz",
            "'spectrometer_frequency_hz' is 123.2, .*'scanner'",
        ),
        ("siemens_prisma_3t", "prisma", "scanner", "in 'scanner': Unknown scanner 'prisma'"),
        ("siemens_prisma_3t", "none.yaml", "scanner", "in 'scanner': none.yaml: cannot be read"),
        ("siemens_prisma_3t", "[1]", "scanner", r"'scanner' must be a name or a path, but is \[1\]"),
        ("    Gln: {", "    Gin: {", "Gln", "Unknown metabolite 'Gin'.*Nearest known: .*Gln"),
        (
            "t1_ms: 2000, t2_ms: 600}\n    Gln",
            "t2_ms: 600}\n    Gln",
            "Glu",
            r"missing key 't1_s' \(or t1_ms, t1_us\) in",
        ),
        (
            "12.5, t1_ms: 2000, t2_ms: 600",
            "12.5, t1_ms: 200, t2_ms: 600",
            "Glu",
            "Relaxation needs .*Here 't1_ms' is 200",
        ),
        (
            "linewidth_hz: 3",
            "linewidth_hz: 0.3",
            "linewidth_hz",
            r"T2 alone gives Glu a width of 0.5 Hz \(1/\(pi T2\)\)",
        ),
        (
            "t2_ms: 1500",
            "t2_ms: 1500\n  macromolecules: lcmodel",
            None,
            "macromolecules is 'lcmodel', but macromolecule_",
        ),
        ("fit: {}", "fit: {range_ppm: [4.1, 1.8]}", "fit", "in 'fit': range_ppm must rise"),
        ("fit: {}", "fit: {range_ppm: [18, 41]}", "fit", "Give ppm, not Hz"),
        ("fit: {}", "fit: {metabolites: [Glu, Glx]}", "fit", "in 'fit.metabolites': Unknown metabolite 'Glx'"),
        ("fit: {}", "fit:", "fit", "'fit' must be a section of keys, but is empty"),
        ("seed: 1\n", "seed: 1\nseed: 2\n", None, "key 'seed' is given twice in one section"),
        (
            "seed: 1\n",
            "spin_systems_file: no.yaml\nseed: 1\n",
            None,
            "in 'spin_systems_file': .*no.yaml: cannot be read",
        ),
        (
            "seed: 1\n",
            "seed: 1\nexposure: {operating_mode: second_level}\n",
            None,
            "'exposure.operating_mode' must be 'normal' or 'first_level', but is 'second_level'",
        ),
        (
            "seed: 1\n",
            "seed: 1\nexposure: {b1_rms_max_ut: 0}\n",
            None,
            "in 'exposure': b1_rms_max_t must be positive and finite, but is 0",
        ),
        (
            "  energy_max_hz2_s: 1000",
            "  energy_max_hz2_s: 1000\n  te_max_ms: 70",
            None,
            r"in 'design': te_max_s must be at least te1_s \+ te2_s, 0.075 s, but is 0.07 s. .* 'te_max_ms' is 70",
        ),
        (
            "  energy_max_hz2_s: 1000",
            "  energy_max_hz2_s: 1000\n  bandwidth_max_hz: 0",
            None,
            "in 'design': bandwidth_max_hz must be positive and finite, but is 0",
        ),
        (
            "  energy_max_hz2_s: 1000",
            "  energy_max_hz2_s: 1000\n  b1_max_at: top",
            None,
            "'design.b1_max_at' must be 'nominal' or 'largest_scale', but is 'top'",
        ),
        ("schema_version: 1", "schema_version: 2", "schema_version", "'schema_version' must be 1, .* but is 2"),
    ],
)
def test_errors_name_file_line_and_key(tmp_path, old, new, key, message):
    lines = refused(tmp_path, old, new)
    assert any(re.search(message, line) for line in lines), lines
    line = next(line for line in lines if re.search(message, line))
    assert re.match(r"p\.yaml:\d+: ", line)
    if key is not None:
        assert line.startswith(f"p.yaml:{line_of(key)}: ")


def test_missing_sections_and_keys(tmp_path):
    for key in ("name", "scanner", "temperature_c", "seed", "sample", "design", "sequence", "acquisition", "fit"):
        lines = TEXT.splitlines()
        start = line_of(key) - 1
        end = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
        text = "\n".join(lines[:start] + lines[end:]) + "\n"
        with pytest.raises(InputError, match=rf"p.yaml:1: missing key '{key}' in the top level. Add it."):
            load(tmp_path, text)
    (message,) = refused(tmp_path, "  name: press\n", "")
    assert message.startswith("p.yaml:27: 'sequence' must hold the key 'name'")


def test_files_that_are_no_protocols(tmp_path):
    with pytest.raises(InputError, match=r"p.yaml: is empty"):
        load(tmp_path, "")
    with pytest.raises(InputError, match=r"p.yaml:4: is not YAML"):
        load(tmp_path, TEXT.replace("scanner: s", "scanner: [s"))
    with pytest.raises(InputError, match=r"none.yaml: cannot be read \(No such file or directory\)"):
        load_protocol(tmp_path / "none.yaml")


def test_problems_of_all_sections_come_together_in_the_order_of_the_file(tmp_path):
    text = TEXT.replace("n_coils: 4", "n_coil: 4").replace("tr_ms: 2000", "tr_ms: x").replace("seed: 1", "seed: x")
    with pytest.raises(InputError) as caught:
        load(tmp_path, text.replace("prisma", "prism"))
    lines = [int(line.split(":")[1]) for line in str(caught.value).replace(str(tmp_path), "").splitlines()]
    wanted = [line_of("scanner"), line_of("seed"), line_of("tr_ms"), line_of("acquisition"), line_of("n_coils")]
    assert lines == wanted


def test_water_shift_follows_the_temperature():
    assert water_shift_at_ppm(37.0) == 4.65
    # Another fit to other data, water against DSS: 7.83 - T/96.9 (T in K), as in textbooks of protein NMR (recalled).
    for temperature_c in (5.0, 20.0, 25.0, 37.0, 45.0):
        assert water_shift_at_ppm(temperature_c) == pytest.approx(7.83 - (temperature_c + 273.15) / 96.9, abs=0.03)


def test_paths_count_from_the_folder_of_the_protocol(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(
        "schema_version: 1\nspin_systems:\n  Foo:\n    groups: [{name: one, shift_ppm: {H: 2.3}}]\n"
    )
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    text = TEXT.replace("seed: 1", "spin_systems_file: mine.yaml\nseed: 1").replace("    Gln: {", "    Foo: {")
    protocol = load(tmp_path, text.replace("[Gln]", "[Foo]"))
    assert protocol.spin_systems_file == tmp_path / "mine.yaml"
    assert library.spin_system("Foo", protocol.spin_systems_file).groups[0].shift_ppm == (2.3,)


def test_a_scanner_of_the_users_own(tmp_path):
    table = files("seqgen_data").joinpath("scanners.yaml").read_text(encoding="utf-8")
    profile = table[table.index("  ge_premier_3t:") :].replace("ge_premier_3t", "our_ge")
    (tmp_path / "our.yaml").write_text("schema_version: 1\nscanners:\n" + profile)
    protocol = load(tmp_path, TEXT.replace("siemens_prisma_3t", "our.yaml").replace("123.2", "127.7"))
    assert (protocol.scanner.name, protocol.scanner.rf_raster_s) == ("our_ge", 2e-6)
