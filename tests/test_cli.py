"""The command line as a user meets it: help, exit codes, one clear error and nothing half-written."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from seqgen import library
from seqgen.cli import main
from seqgen.design.artefact import load_design
from seqgen.pipeline.study import load_study

ROOT = Path(__file__).resolve().parents[1]
PHANTOM = ROOT / "protocols" / "phantom_glu_gln_3t.yaml"
COMMANDS = list(main.commands)  # type: ignore[attr-defined]


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return plain PRESS, built from a protocol with sixteen averages; the protocol lies beside it."""
    folder = tmp_path_factory.mktemp("plain")
    protocol = folder / "study.yaml"
    protocol.write_text(PHANTOM.read_text().replace("averages: 32 ", "averages: 16 "))
    result = call("build", protocol, "-o", folder, "--json")
    assert result.exit_code == 0, result.output
    assert {Path(name).name for name in json.loads(result.output)["files"]} == {"press.seq", "press_141.seq"}
    return folder / "press.seq"


def refused(result: Result, *words: str) -> None:
    """Check that a call ended with 2 and one error that holds every word."""
    assert result.exit_code == 2, result.output
    assert result.output.startswith("seqgen: error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output, f"{word!r} not in {result.output!r}"


def test_the_commands_are_those_of_the_chain() -> None:
    design = "run design sweep evaluate build voxel-mask check simulate states basis"
    scan = "convert sign-check process fit report init doctor"
    assert f"{design} {scan}".split() == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_manual_page(command: str) -> None:
    text = call(command, "--help").output
    assert "Example:" in text
    assert f"seqgen {command}" in text
    assert "--json" in text
    assert "\\b" not in text  # click's mark of a preformatted paragraph, printed by a raw docstring
    assert f"\n    seqgen {command} " in text  # the example has its own line


@pytest.mark.parametrize("command", ["init", "run", "convert"])
def test_an_output_without_default_must_be_given(command: str) -> None:
    result = call(command, *{"init": (), "run": (PHANTOM,), "convert": ("raw.h5", "--seq", "x.seq")}[command])
    assert result.exit_code == 2, result.output
    assert "Missing option '-o'" in result.output


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "scipy", "pypulseq", "nibabel", "matplotlib", "pydantic")
    code = f"import seqgen.cli, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python_m_seqgen_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "seqgen", "--version"], capture_output=True, text=True, check=True)
    assert "0.1.0" in done.stdout


def test_doctor_finds_everything() -> None:
    found = json.loads(call("doctor", "--json").output)
    assert found["missing"] == []
    assert "press" in found["sequences"]
    assert found["torch"].startswith("2.")


def test_init_hands_out_a_commented_protocol_once(tmp_path: Path) -> None:
    output = tmp_path / "mine.yaml"
    assert call("init", "invivo_glu_gln_3t", "-o", output).exit_code == 0
    assert output.read_text() == (ROOT / "protocols" / "invivo_glu_gln_3t.yaml").read_text()
    refused(call("init", "-o", output), str(output), "not overwritten")
    refused(call("init", "invivo", "-o", tmp_path / "other.yaml"), "invivo_glu_gln_3t")


def test_init_writes_protocols_under_the_names_of_protocols(tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["init", "glu_window_3t", "-o", str(tmp_path / "x.json")])
    assert refused.exit_code == 2
    assert "x.json must end in .yaml" in refused.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*library.design_names()][:1])
def test_init_hands_out_a_design_with_its_protocol_that_build_takes(name: str, tmp_path: Path) -> None:
    output = tmp_path / "mine.yaml"
    done = call("init", name, "-o", output)
    assert done.exit_code == 0, done.output
    beside = tmp_path / "mine.json"
    assert f"seqgen build {output} --design {beside}" in done.output
    for path in (output, beside):
        assert path.read_bytes() == (ROOT / "data" / "designs" / f"{name}{path.suffix}").read_bytes()
    refused(call("init", name, "-o", output), str(output), "not overwritten")
    assert load_design(beside).provenance.made_from["protocol"].sha256 == load_study(output).source.sha256


def test_check_passes_and_says_what_it_did_not_check(plain: Path) -> None:
    result = call("check", plain, "--scanner", "siemens_prisma_3t", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["failed"] == 0
    assert {"SAR", "PNS"} <= set(found["not_checked"])
    assert "licenses" in found["licence"]


def test_check_ends_with_1_where_a_limit_is_exceeded(plain: Path, tmp_path: Path) -> None:
    text = (ROOT / "data" / "scanners.yaml").read_text()
    assert "b1_max_ut: {value: 20" in text
    weak = tmp_path / "scanners.yaml"
    weak.write_text(text.replace("b1_max_ut: {value: 20", "b1_max_ut: {value: 10"))
    profile = tmp_path / "weak.yaml"
    profile.write_text(_one_profile(weak, "siemens_prisma_3t"))
    result = call("check", plain, "--scanner", profile)
    assert result.exit_code == 1, result.output
    assert "failed       RF amplitude" in result.output


def _one_profile(table: Path, name: str) -> str:
    """Return a table of scanners with one entry."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(table)
    content["scanners"] = {name: content["scanners"][name]}
    return json.dumps(content)


def test_check_assumes_no_scanner(plain: Path) -> None:
    refused(call("check", plain), "--scanner", "--protocol")


def test_a_scanner_that_does_not_exist(plain: Path) -> None:
    refused(call("check", plain, "--scanner", "siemens_prisma_3"), "siemens_prisma_3t")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("te1_ms: 41", "te1_mss: 41", ("te1_mss", "te1_ms", "study.yaml:")),
        ("    Glu:  {", "    Gluu:  {", ("Gluu", "Glu", "study.yaml:")),
        ("te1_ms: 41", "te1_ms: 5", ("te1", "5 ms", "at least")),
        ("voxel_size_mm: [20, 20, 20]", "voxel_size_mm: [20, 20, 0.2]", ("0.2 mm", "mT/m", "siemens_prisma_3t")),
        ("tr_ms: 2000 ", "tr_ms: 500 ", ("tr_s", "0.5 s", "at least")),
        ("averages: 32 ", "averages: 31 ", ("averages", "31", "multiple of 16")),
        ("schema_version: 1", "schema_version: 7", ("schema_version", "7")),
        ("b1_max_hz: 300", "b1_max_hz: 3000", ("b1_max_hz", "852")),
    ],
)
def test_a_bad_protocol_is_refused_and_writes_nothing(
    tmp_path: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    text = PHANTOM.read_text()
    assert old in text
    protocol = tmp_path / "study.yaml"
    protocol.write_text(text.replace(old, new))
    refused(call("build", protocol, "-o", tmp_path / "out"), *words)
    assert not list(tmp_path.rglob("*.seq"))


def test_a_missing_protocol() -> None:
    refused(call("design", "nowhere.yaml"), "nowhere.yaml")


def test_a_truncated_seq_does_not_hang(plain: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.seq"
    content = plain.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    refused(call("check", broken, "--scanner", "siemens_prisma_3t"), "broken.seq")


def test_a_seq_of_another_protocol_is_refused(plain: Path, tmp_path: Path) -> None:
    refused(call("basis", PHANTOM, plain, "-o", tmp_path / "basis.npz"), str(plain), PHANTOM.name, "seqgen build")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit_bytes", [0, 1000, 40_000])
def test_a_full_disk_leaves_nothing(plain: Path, tmp_path: Path, limit_bytes: int) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "seqgen", "build", str(plain.parent / "study.yaml"), "-o", str(output)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("seqgen: error: ")
    assert "Traceback" not in done.stderr
    assert not output.exists() or not list(output.iterdir())


def test_convert_the_real_press_file(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "raw" / "1_pulseq_press_center"
    output = tmp_path / "press.nii.gz"
    arguments = ("convert", folder / "06_PRESS_center.dat", "--seq", folder / "06_PRESS_center.seq", "-o", output)
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["dwell_s"] == pytest.approx(62.5e-6)
    assert found["echo_time_s"] == pytest.approx(0.11998)
    assert found["samples_removed_before_echo"] == 800
    assert "tSequenceVariant" in found["pairing"]


def test_convert_refuses_the_wrong_seq_by_name(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "raw" / "1_pulseq_press_center"
    output = tmp_path / "press.nii.gz"
    result = call("convert", folder / "06_PRESS_center.dat", "--seq", folder / "02_FID_MFA.seq", "-o", output)
    refused(result, "02_FID_MFA.seq", "06_PRESS_center.dat")
    assert not output.exists()


@pytest.mark.parametrize("name", ["raw.dat", "raw.h5"])
def test_convert_without_a_raw_file(plain: Path, tmp_path: Path, name: str) -> None:
    refused(call("convert", tmp_path / name, "--seq", plain, "-o", tmp_path / "x.nii.gz"), name)


def test_process_and_fit_refuse_what_is_not_there(plain: Path, tmp_path: Path) -> None:
    refused(call("process", tmp_path / "no.nii.gz", "-o", tmp_path / "p.nii.gz"), "no.nii.gz")
    protocol = plain.parent / "study.yaml"
    arguments = ("--basis", tmp_path / "no.npz", "--seq", plain, "-o", tmp_path / "fit.json")
    refused(call("fit", protocol, tmp_path / "no.nii.gz", *arguments), "no.n")
    refused(call("report", protocol, tmp_path), "design.json")
    assert not list(tmp_path.iterdir())
