"""The whole chain on a small study, and the refusal of every link that does not belong to it."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from seqgen.design.artefact import load_design, save_design
from seqgen.errors import HardwareLimitError, InputError, SeqgenError, VerificationError
from seqgen.mrs.basis import load_basis
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.mrs.process import ProcessSettings
from seqgen.pipeline import build as build_link
from seqgen.pipeline.analyse import fit_data, process_data
from seqgen.pipeline.build import build_edited, build_plain, check_file, compare_shots
from seqgen.pipeline.folder import RunFolder
from seqgen.pipeline.report import make_report, require_chain
from seqgen.pipeline.scan import convert_raw, read_truth, simulate_raw, truth_path, water_path
from seqgen.pipeline.study import load_study
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots

TIME = "2026-01-01T00:00:00Z"


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of the finished run that a test may damage."""
    shutil.copytree(finished[0], tmp_path / "run")
    return RunFolder(path=tmp_path / "run")


def test_the_run_leaves_every_file_and_says_what_it_does(finished):
    path, _, reporter = finished
    assert {entry.name for entry in path.iterdir()} == {
        "protocol.yaml",
        "design.json",
        "press_edited.seq",
        "press_edited_141.seq",
        "press.seq",
        "press_141.seq",
        "check.json",
        "basis.npz",
        "raw.h5",
        "raw_truth.json",
        "data.nii.gz",
        "data_water.nii.gz",
        "processed.nii.gz",
        "processed_water.nii.gz",
        "processed_quality.json",
        "fit.json",
        "fit_concentrations.json",
        "report.html",
    }
    assert {"TE-optimised PRESS", "Editing pulse", "Basis set", "Simulated scan"} <= set(reporter.finished)


def test_the_fit_finds_the_truth_within_its_bounds(finished):
    """Sample and basis agree in shifts, couplings and T2: what is left is noise, and two percent of systematics."""
    _, (quantified, verdicts), _ = finished
    assert [verdict.name for verdict in verdicts] == ["Glu", "Gln"]
    for verdict, truth in zip(verdicts, (12.5, 3.0), strict=True):
        assert verdict.truth == truth
        assert abs(verdict.fitted - truth) < 4 * verdict.crlb_sd + 0.02 * truth
    assert quantified.concentrations["Glu"]["value_mm"] == verdicts[0].fitted


def test_the_design_keeps_its_limits_and_its_origin(finished, study):
    design = load_design(finished[0] / "design.json")
    assert design.pulse.peak_hz <= 300
    assert design.pulse.energy_hz2_s <= 1000
    assert design.provenance.made_from["protocol"].sha256 == study.source.sha256
    assert design.provenance.seed == 1


def test_the_written_files_carry_their_chain(finished, study):
    path = finished[0]
    for name in ("press_edited.seq", "press_edited_141.seq"):
        seq = read_seq(path / name)
        assert seq.definitions["seqgen_protocol_sha256"] == study.source.sha256
        assert seq.definition_numbers("seqgen_reference_ppm") == pytest.approx((4.8,))
        assert seq.definition_numbers("seqgen_spectrometer_frequency_hz") == pytest.approx((123.2e6,))
    checks = json.loads((path / "check.json").read_text())
    assert checks["failed"] == 0
    assert {"SAR", "PNS"} <= set(checks["not_checked"])


def test_the_report_shows_every_limit_once(finished):
    text = (finished[0] / "report.html").read_text(encoding="utf-8")
    for name in ("pulse amplitude", "pulse bandwidth", "TE1 as played", "B1+rms over the worst 6 min", "SAR"):
        assert len(re.findall(rf">\s*{re.escape(name)}\s*<", text)) == 1, name


def test_the_target_is_in_absorption_in_the_basis(finished, study):
    """The receiver phase of the design: the window of Glu has a positive real integral."""
    basis = load_basis(finished[0] / "basis.npz")
    t = np.arange(basis.n_samples) * basis.dwell_s
    spectrum = np.fft.fftshift(np.fft.fft(basis.column("Glu") * np.exp(-np.pi * 4 * t)))
    ppm = 4.8 + np.fft.fftshift(np.fft.fftfreq(t.size, basis.dwell_s)) / 123.2
    low, high = study.protocol.design.window_ppm
    total = spectrum[(ppm > low) & (ppm < high)].sum()
    assert total.real > 0
    assert abs(np.angle(total)) < 0.2


def test_the_chain_of_a_finished_run_holds(folder, study):
    require_chain(study, folder)


CHAINED = (
    "design.json",
    "press_edited.seq",
    "press.seq",
    "basis.npz",
    "raw.h5",
    "data.nii.gz",
    "data_water.nii.gz",
    "processed.nii.gz",
    "processed_water.nii.gz",
    "fit.json",
)


@pytest.mark.parametrize("name", CHAINED)
def test_one_changed_byte_is_refused_by_name(folder, study, finished, name):
    path = folder.path / name
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    while name.endswith((".json", ".seq")) and not chr(content[place]).isdigit():
        place += 1
    content[place] = ord("5") if content[place] != ord("5") else ord("6")
    path.write_bytes(bytes(content))
    with pytest.raises(SeqgenError, match=name.replace(".", r"\.")):
        make_report(study, folder, finished[2])


def test_a_changed_protocol_is_refused_by_name(folder, study, finished, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(study.path.read_text() + "# one more line\n")
    other = load_study(path)
    with pytest.raises(InputError, match=r"press_edited\.seq was not built from .*tiny\.yaml"):
        make_report(other, folder, finished[2])
    with pytest.raises(InputError, match=r"press_edited\.seq was not built from .*tiny\.yaml"):
        simulate_raw(other, folder.edited, tmp_path / "raw.h5", None)


def test_another_seq_is_refused_by_convert_and_fit(folder, study, tmp_path):
    with pytest.raises(InputError, match=r"press\.seq"):
        convert_raw(folder.raw, folder.plain, tmp_path / "data.nii.gz", time=TIME)
    with pytest.raises(InputError, match=r"basis\.npz was not made from .*press\.seq"):
        fit_data(study, folder.processed, folder.basis, folder.plain, tmp_path / "fit.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_a_water_reference_that_another_scan_left_behind_is_refused(folder, study, tmp_path):
    data, processed = read_nifti_mrs(folder.data), read_nifti_mrs(folder.processed)
    for mrs, path in ((data, water_path(folder.data)), (processed, water_path(folder.processed))):
        header = json.loads(json.dumps(mrs.header))
        header["seqgen"]["provenance"]["made_from"]["raw"]["sha256"] = "0" * 64
        write_nifti_mrs(replace(mrs, header=header), path)
    with pytest.raises(InputError, match=r"data_water\.nii\.gz .* not its water reference"):
        process_data(folder.data, tmp_path / "p.nii.gz", ProcessSettings(water_shift_ppm=4.8), time=TIME)
    with pytest.raises(InputError, match=r"processed_water\.nii\.gz .* not its water reference"):
        fit_data(study, folder.processed, folder.basis, folder.edited, tmp_path / "fit.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_truth_of_another_run_is_refused(folder):
    folder.raw.write_bytes(folder.raw.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"raw_truth\.json is not the truth of .*raw\.h5"):
        read_truth(truth_path(folder.raw), folder.raw)
    truth_path(folder.raw).write_text("{")
    with pytest.raises(InputError, match=r"raw_truth\.json"):
        read_truth(truth_path(folder.raw), folder.raw)


def test_both_formats_appear_or_none(study, tmp_path, monkeypatch):
    calls = []
    genuine = build_link.write_seq

    def second_fails(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise VerificationError("no")
        return genuine(*args, **options)

    monkeypatch.setattr(build_link, "write_seq", second_fails)
    with pytest.raises(VerificationError):
        build_plain(study, None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_broken_in_the_file_leaves_nothing(finished, study, tmp_path, monkeypatch):
    """An editing pulse above the protocol's energy is refused as a design, and by the check of the read-back file."""
    design = load_design(finished[0] / "design.json")
    factor = 1.05 * np.sqrt(study.protocol.design.energy_max_hz2_s / design.pulse.energy_hz2_s)
    pulse, shot = replace(design.pulse, b1_hz=design.pulse.b1_hz * factor), design.shots[0]
    strong = replace(design, shots=(replace(shot, pulses=dict.fromkeys(shot.pulses, pulse)),))
    path = tmp_path / "design.json"
    save_design(strong, path)
    with pytest.raises(
        VerificationError, match=r"design\.json was not built: .*pulse energy 1102\.5 Hz\^2 s, limit 1000"
    ):
        build_edited(study, strong, path, tmp_path / "out")
    monkeypatch.setattr(build_link, "require_built", lambda study, design, path: None)
    with pytest.raises(HardwareLimitError, match=r"was not written: .*editing pulse energy"):
        build_edited(study, strong, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_plays_something_else_is_noticed(finished, study):
    design = load_design(finished[0] / "design.json")
    scanner = study.protocol.scanner
    receiver_phase_rad = design.shots[0].receiver_phase_rad
    given = {"te1_s": design.te1_s, "te2_s": design.te2_s, "receiver_phase_rad": receiver_phase_rad}

    def played(pulse=design.pulse, **changes):
        return built_shots(study.build(study.params(**(given | changes)), pulse).blocks, scanner, "built")

    found = shots(read_seq(finished[0] / "press_edited.seq"))
    compare_shots(played(), found, "same")
    with pytest.raises(VerificationError, match=r"holds \d+ readouts"):
        compare_shots(played()[:-1], found, "x")
    conjugate = replace(design.pulse, b1_hz=design.pulse.b1_hz.conj().resolve_conj())
    with pytest.raises(VerificationError, match=r"RF of interval \d+ differs"):
        compare_shots(played(conjugate), found, "x")
    with pytest.raises(VerificationError, match="readout"):
        compare_shots(played(receiver_phase_rad=receiver_phase_rad + 0.1), found, "x")


def test_check_and_process_work_on_what_is_on_disk(folder, study, tmp_path):
    checks = check_file(folder.edited, study.protocol.scanner, study.protocol.design.energy_max_hz2_s)
    assert [check.name for check in checks if check.status == "failed"] == []
    output = tmp_path / "again.nii.gz"
    quality = process_data(folder.data, output, ProcessSettings(water_shift_ppm=4.8), time=TIME)
    assert quality["file"] == "again.nii.gz"
    assert output.exists()
    assert (tmp_path / "again_water.nii.gz").exists()
