import json
import re
import tomllib
from collections import Counter
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from seqgen import library
from seqgen.errors import InputError
from seqgen.exposure import Exposure

FACT_NAMES = {"NAA_CH3": "NAA", "NAAG_CH3": "NAAG", "Cr_CH3": "Cr", "Cho_trimethyl": "Cho"}
"""Names of the fact base where the table has another."""


@pytest.fixture(scope="session")
def facts(shared):
    """The fact base, read by the YAML library alone."""

    def load(name):
        return YAML(typ="safe", pure=True).load(shared / "facts" / f"{name}.yaml")

    return load


@pytest.fixture(scope="session")
def fact_systems(facts):
    return facts("spin_systems")["metabolites"]


def test_every_metabolite_of_the_facts_is_there_in_full(fact_systems):
    for name, entry in fact_systems.items():
        groups = library.spin_system(name).groups
        assert [group.name for group in groups] == [fact["id"] for fact in entry["groups"]], name
        for group, fact in zip(groups, entry["groups"], strict=True):
            spins = fact["spins"]
            assert list(group.labels) == [spin["label"] for spin in spins]
            assert list(group.nuclei) == [spin["nucleus"].split()[0] for spin in spins]
            protons = [spin["ppm"] for spin in spins if spin["nucleus"] == "1H"]
            assert list(group.shift_ppm[: len(protons)]) == protons
            assert group.multiplier == fact["signal_multiplier"]
            got = {
                frozenset((group.labels[j], group.labels[k])): group.j_hz[j][k]
                for j in range(group.n_spins)
                for k in range(j)
                if group.j_hz[j][k] != 0
            }
            assert got == {frozenset((first, second)): j_hz for first, second, j_hz in fact["J_Hz"]}, name


def test_proton_counts_of_the_facts(fact_systems):
    for name, entry in fact_systems.items():
        groups = library.spin_system(name).groups
        assert [group.n_protons for group in groups] == [fact["n_protons_observed"] for fact in entry["groups"]], name
        assert sum(group.n_protons for group in groups) == entry["n_protons_total_listed"], name


def test_alternative_sets_of_the_facts_are_variants(fact_systems):
    gaba = fact_systems["GABA"]["alternative_sets"]
    variants = {
        "GABA_govindaraju": gaba["govindaraju2000_vicinal_only"],
        "GABA_corrigendum": gaba["corrigendum2015_with_geminal"],
        "Asc_fida": fact_systems["Asc"]["alternative_sets"]["fida"],
        "Cit_fida": fact_systems["Cit"]["alternative_sets"]["fida"],
    }
    for name, fact in variants.items():
        (group,) = library.spin_system(name).groups
        place = {label: index for index, label in enumerate(group.labels)}
        upper = [group.j_hz[place[first]][place[second]] for first, second, _ in fact["J_Hz"]]
        assert upper == [j_hz for _, _, j_hz in fact["J_Hz"]], name
        assert sum(value != 0 for line in group.j_hz for value in line) == 2 * len(fact["J_Hz"]), name
        assert set(group.shift_ppm) == set(fact["ppm"].values()), name
    (choi,), (base,) = library.spin_system("2HG_choi").groups, library.spin_system("2HG").groups
    changed = fact_systems["2HG"]["alternative_sets"]["choi2012"]["J_Hz_changed"]
    differing = {
        (choi.labels[j], choi.labels[k], choi.j_hz[j][k])
        for j in range(5)
        for k in range(j, 5)
        if choi.j_hz[j][k] != base.j_hz[j][k]
    }
    assert differing == {tuple(row) for row in changed}


def test_shifts_and_couplings_are_those_of_fida(shared):
    """Another tool's own file; where sets differ by choice, the difference is spelled out."""
    reference = json.loads((shared / "data" / "reference" / "spin_systems_fida.json").read_text())
    ours = {name: name for name in reference} | {"Ins": "mI", "Scyllo": "sI", "Asc": "Asc_fida"}
    other_couplings = {"GPC": {0.57: 3}, "PCh": {2.86: 1, 2.68: -1}, "Tau": {-12.438: -1, -12.93: -1}}
    compared = 0
    for name, groups in reference.items():
        if name == "Glc":  # one mixture of anomers there, two rows here
            continue
        shifts: Counter[float] = Counter()
        couplings: Counter[float] = Counter()
        for group in groups:
            for shift in group["shifts"]:
                shifts[round(shift, 4)] += round(group["scaleFactor"]) if shift < 20 else 0
            couplings.update(round(j, 3) for line in group["j"] for j in line if j)
        system = library.spin_system(ours[name])
        for group in system.groups:
            for shift, nucleus in zip(group.shift_ppm, group.nuclei, strict=True):
                if nucleus == "1H":
                    shifts[round(shift, 4)] -= round(group.multiplier)
            couplings.subtract(
                round(group.j_hz[j][k], 3) for k in range(group.n_spins) for j in range(k) if group.j_hz[j][k]
            )
        assert {shift: n for shift, n in shifts.items() if n} == {}, name
        assert {j: n for j, n in couplings.items() if n} == other_couplings.get(name, {}), name
        compared += 1
    assert compared == 20


def test_couplings_are_symmetric_and_heteronuclei_are_flagged():
    heteronuclei = set()
    for name in library.spin_system_names():
        for group in library.spin_system(name).groups:
            n = group.n_spins
            assert all(group.j_hz[j][k] == group.j_hz[k][j] for j in range(n) for k in range(n))
            assert all(group.j_hz[j][j] == 0 for j in range(n))
            heteronuclei |= {(name, nucleus) for nucleus in group.nuclei if nucleus != "1H"}
    assert heteronuclei == {
        ("GPC", "14N"), ("GPC", "31P"), ("PCh", "14N"), ("PCh", "31P"), ("Cho", "14N"), ("PE", "14N"), ("PE", "31P"),
    }  # fmt: skip


def test_every_spin_system_is_cited():
    for name in library.spin_system_names():
        sources = library.spin_system(name).sources
        assert sources, name
        assert all(len(source) > 10 for source in sources), name
    assert any("10.1002/1099-1492" in source for source in library.spin_system("Glu").sources)
    assert library.spin_system("TSP").sources == ("General knowledge (recalled, unchecked)",)


def test_every_row_of_every_table_has_a_known_source_and_a_certainty():
    seen = 0
    for name in ("spin_systems.yaml", "tissue.yaml", "scanners.yaml", "macromolecules.yaml", "exposure.yaml"):
        table = YAML(typ="safe", pure=True).load(files("seqgen_data").joinpath(name).read_text(encoding="utf-8"))
        stack = [value for key, value in table.items() if key not in ("schema_version", "sources")]
        while stack:
            item = stack.pop()
            if isinstance(item, dict) and (
                {"value", "peaks"} & item.keys() or {"shift_ppm", "certainty"} <= item.keys()
            ):
                assert item["source"], item
                assert set(item["source"]) <= set(table["sources"]), item
                assert item["certainty"] in ("read", "recalled", "own"), item
                seen += 1
            elif isinstance(item, dict):
                stack.extend(item.values())
            elif isinstance(item, list):
                stack.extend(item)
    assert seen > 200


USER = """\
schema_version: 1
sources:
  mine: {citation: "My own titration, 2026", certainty: read}
spin_systems:
  Glu:
    full_name: glutamate at 20 C
    groups:
      - {name: one, shift_ppm: {H4: 2.36}, multiplier: 2, source: [mine, govindaraju2000], certainty: read}
  Foo:
    groups:
      - name: pair
        shift_ppm: {A: 2.0, B: 3.0}
        heteronuclei: {P: 31P}
        j_hz: [[A, B, -12.0], [B, P, 5.0]]
"""


def user_file(tmp_path, text=USER):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_users_file_adds_and_replaces(tmp_path):
    path = user_file(tmp_path)
    assert library.spin_system("Glu", path).groups[0].shift_ppm == (2.36,)
    assert library.spin_system("Glu", path).sources[0] == "My own titration, 2026"
    foo = library.spin_system("Foo", path).groups[0]
    assert foo.nuclei == ("1H", "1H", "31P")
    assert foo.j_hz == ((0.0, -12.0, 0.0), (-12.0, 0.0, 5.0), (0.0, 5.0, 0.0))
    assert library.spin_system("Gln", path).groups == library.spin_system("Gln").groups
    assert "Foo" in library.spin_system_names(path)
    assert "Foo" not in library.spin_system_names()
    assert library.spin_system("Glu").groups[0].shift_ppm[0] == 3.7433


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{A: 2.0, B: 3.0}",
            "{A: two, B: 3.0}",
            r"mine.yaml:12: 'spin_systems.Foo.groups\[0\].shift_ppm.A' must be a n",
        ),
        ("shift_ppm: {A", "shift_pm: {A", r"mine.yaml:12: unknown key 'shift_pm' in 'spin_systems.Foo.groups\[0\]'"),
        ("[A, B, -12.0]", "[A, C, -12.0]", r"mine.yaml: Foo, group 'pair': j_hz couples 'C'.*spins are A, B, P"),
        ("[B, P, 5.0]", "[B, A, 5.0]", r"mine.yaml: Foo, group 'pair': j_hz must state \[B, A\] once"),
        ("[B, P, 5.0]", "[B, B, 5.0]", r"j_hz must state \[B, B\] once, of two spins"),
        ("{P: 31P}", "{A: 31P}", r"a spin stands in shift_ppm and in heteronuclei"),
        ("schema_version: 1", "schema_version: 3", r"mine.yaml:1: 'schema_version' must be 1"),
        ("  Foo:", "  Glu:", r"mine.yaml:9: key 'Glu' is given twice"),
    ],
)
def test_a_wrong_users_file_is_refused(tmp_path, old, new, message):
    path = user_file(tmp_path, USER.replace(old, new))
    with pytest.raises(InputError, match=message):
        library.spin_system("Foo", path)


def test_an_unknown_source_is_refused(tmp_path):
    path = user_file(tmp_path, USER.replace("[mine, govind", "[theirs, govind"))
    with pytest.raises(InputError, match=r"mine.yaml: Glu: source 'theirs' is not in the table of sources"):
        library.spin_system("Glu", path)


def test_an_unknown_metabolite_names_files_and_neighbours(tmp_path):
    with pytest.raises(
        InputError, match=r"Unknown metabolite 'glu': not in data/spin_systems.yaml. Nearest known: Glu"
    ):
        library.spin_system("glu")
    path = user_file(tmp_path)
    with pytest.raises(InputError, match=re.escape(f"or {path}. Nearest known: Foo")):
        library.spin_system("Fooo", path)


def test_scanner_values_in_si():
    prisma = library.scanner("siemens_prisma_3t")
    assert (prisma.vendor, prisma.b0_nominal_t) == ("siemens", 2.89)
    assert (prisma.max_gradient_t_per_m, prisma.max_slew_t_per_m_per_s, prisma.b1_max_t) == (0.08, 200.0, 20e-6)
    assert (prisma.rf_raster_s, prisma.gradient_raster_s, prisma.adc_raster_s) == (1e-6, 10e-6, 100e-9)
    assert (prisma.rf_dead_time_s, prisma.rf_ringdown_s, prisma.adc_dead_time_s) == (100e-6, 30e-6, 10e-6)
    assert (prisma.adc_samples_divisor, prisma.adc_samples_max) == (4, 8192)
    assert isinstance(prisma.adc_samples_divisor, int)
    assert isinstance(prisma.adc_samples_max, int)
    ge = library.scanner("ge_premier_3t")
    assert (ge.rf_raster_s, ge.gradient_raster_s, ge.adc_raster_s, ge.block_raster_s) == (2e-6, 4e-6, 2e-6, 4e-6)
    assert (ge.rf_dead_time_s, ge.rf_ringdown_s, ge.adc_dead_time_s) == (72e-6, 56e-6, 40e-6)


def test_scanners_are_those_of_the_facts(facts):
    fact = facts("limits")["scanners"]
    common, ge = fact["siemens_common_pulseq"], fact["ge_common_pulseq"]
    for key, name in (("siemens_prisma_3T", "siemens_prisma_3t"), ("siemens_skyra_3T", "siemens_skyra_3t")):
        got = library.scanner(name)
        assert got.max_gradient_t_per_m * 1e3 == pytest.approx(fact[key]["max_grad_mT_m"])
        assert got.max_slew_t_per_m_per_s == fact[key]["max_slew_T_m_s"]
        assert got.b0_nominal_t == fact[key]["B0_T"]
        assert (got.rf_raster_s, got.rf_dead_time_s) == (common["rf_raster_s"], common["rf_dead_time_s"])
        low, high = common["rf_ringdown_s"]["range"]
        assert low <= got.rf_ringdown_s <= high
    vida = library.scanner("siemens_vida_3t")
    assert [vida.max_gradient_t_per_m * 1e3, vida.max_slew_t_per_m_per_s] == fact["siemens_vida_3T"]["configurations"][
        "XQ"
    ]
    premier = library.scanner("ge_premier_3t")
    assert premier.max_gradient_t_per_m * 1e3 == pytest.approx(fact["ge_coils"]["premier_hrmw"]["gmax"])
    for raster in (
        "rf_raster_s",
        "adc_raster_s",
        "block_raster_s",
        "rf_dead_time_s",
        "rf_ringdown_s",
        "adc_dead_time_s",
    ):
        assert getattr(premier, raster) == ge[raster]
    b1 = facts("limits")["safety"]["b1_max_body_coil_3T_head_uT"]
    assert vida.b1_max_t * 1e6 == pytest.approx(b1["siemens_prisma_skyra_vida"]["range"][0])
    assert premier.b1_max_t * 1e6 == pytest.approx(b1["ge_mr750_premier_uhp"]["range"][0])


def test_further_scanners_are_those_of_the_facts(facts):
    fact = facts("limits")["scanners"]
    terra = library.scanner("siemens_terra_7t")
    assert terra.b0_nominal_t == fact["siemens_terra_7T"]["B0_T"]
    assert terra.b0_nominal_t * 42.577 == pytest.approx(facts("tissue")["larmor_MHz"]["siemens_7T"]["f0"], abs=0.05)
    assert terra.max_gradient_t_per_m * 1e3 == pytest.approx(fact["siemens_terra_7T"]["max_grad_mT_m"])
    assert terra.max_slew_t_per_m_per_s == fact["siemens_terra_7T"]["max_slew_T_m_s"]
    b1 = facts("limits")["safety"]["b1_max_body_coil_3T_head_uT"]
    assert terra.b1_max_t * 1e6 == pytest.approx(b1["siemens_terra_7T_1Tx8Rx_head_coil"]["range"][0])
    mr750, xrm, ge = library.scanner("ge_mr750_3t"), fact["ge_coils"]["mr750_xrm"], fact["ge_common_pulseq"]
    assert mr750.max_gradient_t_per_m * 1e3 == pytest.approx(xrm["gmax"])
    assert mr750.max_slew_t_per_m_per_s == xrm["smax"]
    assert (mr750.rf_raster_s, mr750.gradient_raster_s) == (ge["rf_raster_s"], ge["grad_raster_s"])
    for name, key, insert in (
        ("bruker_9p4t", "bruker_9p4T", "BGA12S_HP"),
        ("bruker_11p7t", "bruker_11p7T", "BGA9S_HP"),
    ):
        bruker = library.scanner(name)
        assert [bruker.max_gradient_t_per_m * 1e3, bruker.max_slew_t_per_m_per_s] == pytest.approx(
            fact[key]["gradients"][insert]
        )
    nexus, console = library.scanner("nexus_osi2_one_47mt"), fact["nexus_console_osi2_one"]
    assert nexus.b0_nominal_t == console["B0_T"][0]
    assert nexus.max_gradient_hz_per_m == pytest.approx(console["max_grad_Hz_m"], rel=1e-3)
    assert nexus.rf_ringdown_s * 1e6 == pytest.approx(console["rf_ringdown_us"]["helper"])
    assert nexus.gradient_raster_s == console["helper_rasters_s"]
    assert (nexus.rf_dead_time_s * 1e6, nexus.adc_dead_time_s) == pytest.approx((console["rf_dead_us"], 0))
    marcos, flocra = library.scanner("marcos"), fact["marcos_flocra"]
    assert marcos.rf_raster_s * 1e6 == pytest.approx(flocra["tx_raster_us"])
    assert marcos.gradient_raster_s * 1e6 == pytest.approx(flocra["grad_raster_us"])
    assert marcos.rf_dead_time_s * 1e6 == pytest.approx(flocra["tx_warmup_us"])
    assert marcos.b1_max_hz == pytest.approx(flocra["rf_amp_max_Hz"], rel=5e-3)
    assert marcos.max_gradient_hz_per_m == pytest.approx(1e6, rel=2e-3)


def test_only_marcos_reads_no_format_that_seqgen_writes():
    newest = {name: library.scanner(name).newest_pulseq_format for name in library.scanner_names()}
    assert {name: value for name, value in newest.items() if value is not None} == {"marcos": 1.3}
    assert len(newest) == 11


def scanner_file(tmp_path, profiles):
    table = files("seqgen_data").joinpath("scanners.yaml").read_text(encoding="utf-8")
    prisma = table[table.index("  siemens_prisma_3t:") : table.index("  siemens_skyra_3t:")]
    path = tmp_path / "scanner.yaml"
    path.write_text(
        "schema_version: 1\nscanners:\n" + "".join(prisma.replace("siemens_prisma_3t", name) for name in profiles)
    )
    return path


def test_a_users_scanner_by_path(tmp_path):
    path = scanner_file(tmp_path, ["bench"])
    path.write_text(path.read_text().replace("value: 80,", "value: 33,"))
    got = library.scanner(path)
    assert (got.name, got.max_gradient_t_per_m) == ("bench", 0.033)
    assert library.scanner(str(path)).name == "bench"
    with pytest.raises(InputError, match=r"'scanners' must hold one profile, but holds 2"):
        library.scanner(scanner_file(tmp_path, ["a", "b"]))
    path.write_text(path.read_text().replace("b1_max_ut", "b1_max_mt", 1))
    with pytest.raises(InputError, match=r"scanner.yaml:\d+: unknown key 'b1_max_mt'.*nearest known: b1_max_"):
        library.scanner(path)


def test_an_unknown_scanner_lists_the_known_ones():
    with pytest.raises(InputError, match=r"Unknown scanner 'prisma'.*siemens_prisma_3t.*ge_premier_3t.*path"):
        library.scanner("prisma")


def test_relaxation_times_of_the_facts(facts):
    tissue = facts("tissue")
    compared = 0
    for name, entry in tissue["relaxation_3T"]["T1"].items():
        if "use" in entry:
            row = library.relaxation_row(FACT_NAMES.get(name, name), "3t").t1_s
            assert row.value == pytest.approx(entry["use"] / 1e3), name
            low, high = entry.get("range") or (entry["WM"], entry["GM"])
            assert (row.low * 1e3, row.high * 1e3) == pytest.approx((low, high)), name
            compared += 1
    for name, entry in tissue["relaxation_3T"]["T2_in_vivo_apparent"].items():
        if "range" in entry:
            row = library.relaxation_row(FACT_NAMES.get(name, name), "3t").t2_s
            assert [row.low * 1e3, row.high * 1e3] == pytest.approx(entry["range"]), name
            assert row.low <= row.value <= row.high
            assert row.value == pytest.approx(entry.get("use", row.value * 1e3) / 1e3), name
            compared += 1
    for name, entry in tissue["relaxation_7T"]["T1"].items():
        if isinstance(entry, dict):
            row = library.relaxation_row(FACT_NAMES.get(name, name), "7t").t1_s
            assert sorted(entry.values()) == pytest.approx([row.low * 1e3, row.high * 1e3]), name
            compared += 1
    for name, entry in tissue["relaxation_7T"]["T2"].items():
        if isinstance(entry, dict) and "range" in entry:
            row = library.relaxation_row(FACT_NAMES.get(name, name), "7t").t2_s
            assert [row.low * 1e3, row.high * 1e3] == pytest.approx(entry["range"]), name
            compared += 1
    assert compared == 7 + 18 + 11 + 9


def test_relaxation_at_3t_in_si_and_marks_of_certainty():
    glu = library.relaxation("Glu", "3t")
    assert (glu.t1_s, glu.t2_s) == (1.23, 0.165)
    row = library.relaxation_row("NAAG", "3t")
    assert (row.t1_s.certainty, row.t2_s.certainty) == ("own", "read")
    assert library.relaxation_row("Cr_CH2", "3t").t1_s.certainty == "recalled"


def test_relaxation_has_no_silent_fallback():
    with pytest.raises(InputError, match=r"No relaxation times of 'Cystat' at 3t .*known: Glu, Gln.*State t1 and t2"):
        library.relaxation("Cystat", "3t")
    with pytest.raises(InputError, match=r"has no T2 of 'NAAG' at 7t"):
        library.relaxation("NAAG", "7t")
    with pytest.raises(InputError, match=r"has no T1 of 'Glu' at 9.4t"):
        library.relaxation("Glu", "9.4t")
    with pytest.raises(InputError, match=r"No relaxation table at '3T'; there are 3t, 7t, 9.4t"):
        library.relaxation("Glu", "3T")


def test_concentrations_of_the_facts(facts):
    brain = facts("tissue")["concentrations_brain_adult"]
    for name, (mean, _, _) in {k: v for k, v in brain["meta_analysis_healthy"].items() if k != "unit"}.items():
        assert library.concentration_mm(name) == mean, name
    assert library.concentration_mm("Cr") + library.concentration_mm("PCr") == library.concentration_mm("tCr")
    assert library.concentration_mm("GPC") + library.concentration_mm("PCh") == library.concentration_mm("tCho")
    with pytest.raises(InputError, match=r"No brain concentration of 'glu'.*known: Glu"):
        library.concentration_mm("glu")


def test_water_of_tissue(facts):
    content = facts("tissue")["concentrations_brain_adult"]["water_content"]
    assert library.water_concentration_mm("pure") == content["pure_water_mM"]
    for tissue in ("GM", "WM", "CSF"):
        assert library.water_concentration_mm(tissue) == pytest.approx(content[tissue] * content["pure_water_mM"])
    with pytest.raises(InputError, match=r"No water content of 'gm'; known: pure, GM, WM, CSF"):
        library.water_concentration_mm("gm")


def test_macromolecules_of_the_facts(facts):
    fact = facts("tissue")["macromolecules"]
    rows = fact["measured_3T_13_peaks"]["peaks"]
    peaks = library.macromolecule_peaks("measured_3t")
    got = [(peak.shift_ppm, peak.fwhm_ppm * 128, peak.amplitude) for peak in peaks]
    assert got == [pytest.approx(row) for row in rows]
    styles = fact["lcmodel_style_defaults"]
    for model, prefix in (("lcmodel", "MM"), ("lcmodel_lipids", "Lip")):
        wanted = {
            (row["ppm"], row["fwhm_ppm"], row["protons"])
            for name, entry in styles.items()
            if name.startswith(prefix)
            for row in entry
        }
        assert {(p.shift_ppm, p.fwhm_ppm, p.amplitude) for p in library.macromolecule_peaks(model)} == wanted
    for model in library.macromolecule_models():
        names = [peak.name for peak in library.macromolecule_peaks(model)]
        assert len(set(names)) == len(names)
    with pytest.raises(
        InputError, match=r"Unknown macromolecule model 'lcm'; known: lcmodel, lcmodel_lipids, measured_3t"
    ):
        library.macromolecule_peaks("lcm")


def test_macromolecule_relaxation_of_the_facts(facts):
    tissue = facts("tissue")
    t1, t2 = library.macromolecule_relaxation()
    assert [t1.low * 1e3, t1.high * 1e3] == pytest.approx(tissue["macromolecules"]["T1_3T_ms"]["range"])
    wanted = tissue["relaxation_3T"]["macromolecules_T2"]
    for name, row in t2.items():
        assert [row.low * 1e3, row.high * 1e3] == pytest.approx(wanted[name]), name
    assert len(t2) == 10


def test_tables_are_package_data_and_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {item.name for item in files("seqgen_data").iterdir()}
    assert {"spin_systems.yaml", "tissue.yaml", "scanners.yaml", "macromolecules.yaml"} <= names
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "seqgen_data" in project["packages"]
    assert "*.yaml" in project["package-data"]["seqgen_data"]


def test_designs_are_package_data_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {"designs/*.yaml", "designs/*.json"} <= set(project["package-data"]["seqgen_data"])
    with pytest.raises(InputError, match=r"Unknown design 'glue'; shipped are"):
        library.design_files("glue")
    protocols = {path.stem for path in (Path(__file__).resolve().parents[1] / "protocols").glob("*.yaml")}
    assert not protocols & set(library.design_names())


# --- RF exposure -----------------------------------------------------------------------------------------------------


def test_exposure_limits_are_those_of_the_facts(facts):
    fact = facts("limits")["safety"]["sar_IEC_60601_2_33"]
    machine = replace(library.scanner("siemens_prisma_3t"), sar_head_w_per_kg_per_ut2=1.0)
    for mode in ("normal", "first_level"):
        limits = library.exposure_limits(machine, Exposure(operating_mode=mode))
        got = {(limit.region, limit.window_s): limit.max_w_per_kg for limit in limits.sar}
        for region, key in (("head", "head"), ("whole body", "whole_body")):
            assert got[region, fact["averaging_s"]] == fact[key][mode]
            assert got[region, fact["short_term"]["window_s"]] == fact["short_term"]["factor"] * fact[key][mode]
        assert len(got) == 4
    assert limits.b1_rms_window_s == 10


def test_no_shipped_profile_claims_a_coefficient_of_sar():
    for name in library.scanner_names():
        assert library.exposure_limits(library.scanner(name)).stated_sar == ()


def sar_file(tmp_path, row):
    path = scanner_file(tmp_path, ["bench"])
    text = path.read_text().replace("scanners:", 'sources:\n  own: {citation: "Made up", certainty: own}\nscanners:', 1)
    path.write_text(text.rstrip() + f"\n    sar_head_w_per_kg_per_ut2: {row}\n    b1_rms_max_ut: {{value: 3}}\n")
    return path


def test_a_users_coefficient_of_sar(tmp_path):
    row = "{value: 0.9, low: 0.4, high: 0.9, certainty: own, source: [own], note: made up}"
    got = library.scanner(sar_file(tmp_path, row))
    assert (got.sar_head_w_per_kg_per_ut2, got.sar_whole_body_w_per_kg_per_ut2) == (0.9, None)
    limits = library.exposure_limits(got)
    assert [(limit.region, limit.w_per_kg_per_ut2) for limit in limits.stated_sar] == [("head", 0.9)] * 2
    assert limits.b1_rms_max_t == pytest.approx(3e-6)
    assert limits.b1_rms_stated_by == "bench"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{value: 0.9, low: 0.4, high: 1.2, source: [own]}", r"upper end of its range, 1\.2, but is 0\.9"),
        ("{value: 0.9, low: 1.1, source: [own]}", r"upper end of its range, 1\.1, but is 0\.9"),
        ("{value: 0.9, high: 0.9}", "must name its source"),
        ("{value: 0.9, source: [hearsay]}", "source 'hearsay' is not in the table of sources"),
        ("{value: 0, source: [own]}", "must be positive"),
    ],
)
def test_a_coefficient_without_source_or_below_its_range_is_refused(tmp_path, row, message):
    with pytest.raises(InputError, match=rf"bench: sar_head_w_per_kg_per_ut2.*{message}"):
        library.scanner(sar_file(tmp_path, row))
