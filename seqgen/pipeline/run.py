"""`seqgen run`: the whole chain, link after link."""

from pathlib import Path

from seqgen.errors import InputError, VerificationError
from seqgen.mrs.process import ProcessSettings
from seqgen.pipeline.analyse import Quantified, fit_data, make_basis, process_data
from seqgen.pipeline.build import build_edited, build_plain, check_file, checks_json
from seqgen.pipeline.design import make_design
from seqgen.pipeline.folder import RunFolder
from seqgen.pipeline.report import make_report, require_one_shot, verdicts
from seqgen.pipeline.scan import convert_raw, read_truth, simulate_raw, truth_path
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import write_json, write_text
from seqgen.report.html import Verdict


def run_all(study: Study, path: Path, reporter: Reporter, *, time: str) -> tuple[Quantified, tuple[Verdict, ...]]:
    """Design, build, check, scan (simulated), convert, process, fit and report into one folder.

    Raises:
        InputError: Before the design, if the chain could not end: the design has several shots, or the sequence is not
            press.
        VerificationError: If a check of the written file fails.
    """
    require_one_shot(study)
    _require_press(study)
    folder = RunFolder(path=path)
    # First, so that a folder that cannot be written is found out before the design and not after it.
    write_text(folder.protocol, study.path.read_text(encoding="utf-8"))
    design = make_design(study, folder.design, reporter)
    files = reporter.progress("Sequence files")
    build_edited(study, design, folder.design, path)
    files(1, 3)
    build_plain(study, (design.press_te1_s, design.press_te2_s), path)
    files(2, 3)
    checks = check_file(folder.edited, study.protocol.scanner, study.protocol.design.energy_max_hz2_s, study.exposure)
    write_json(folder.checks, checks_json(folder.edited, study.protocol.scanner, checks))
    files(3, 3)
    failed = [check.name for check in checks if check.status == "failed"]
    if failed:
        raise VerificationError(f"{folder.edited} failed {', '.join(failed)}. See {folder.checks}.")
    make_basis(study, folder.edited, folder.basis, reporter)
    simulate_raw(study, folder.edited, folder.raw, reporter)
    data = reporter.progress("Convert, process, fit")
    convert_raw(folder.raw, folder.edited, folder.data, time=time)
    data(1, 3)
    settings = ProcessSettings(water_shift_ppm=study.protocol.water_shift_ppm)
    process_data(folder.data, folder.processed, settings, time=time)
    data(2, 3)
    quantified = fit_data(study, folder.processed, folder.basis, folder.edited, folder.fit)
    data(3, 3)
    make_report(study, folder, reporter)
    truth = read_truth(truth_path(folder.raw), folder.raw)
    return quantified, verdicts(study, quantified.concentrations, truth)


def _require_press(study: Study) -> None:
    """Refuse a sequence other than press: by its names the run folder finds the files."""
    name = study.protocol.sequence.name
    if name != "press":
        raise InputError(
            f"{study.path} has sequence {name}, but `seqgen run` takes press: its links find the files by their names. "
            "Go step by step: `seqgen design`, `seqgen build`, `seqgen check`, `seqgen basis`, `seqgen simulate`, "
            "`seqgen convert`, `seqgen process` and `seqgen fit` (docs/conversion.md)."
        )
