"""`seqgen report`: everything in a run folder on one page."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.axes import ppm_to_hz
from seqgen.design.artefact import Design, load_design, waveforms
from seqgen.errors import InputError
from seqgen.mrs.basis import load_basis
from seqgen.mrs.fit_result import FitResult, load_fit
from seqgen.mrs.nifti import read_nifti_mrs
from seqgen.pipeline.analyse import (
    concentrations_path,
    data_provenance,
    quality_path,
    read_concentrations,
)
from seqgen.pipeline.build import check_file
from seqgen.pipeline.design_check import design_checks
from seqgen.pipeline.folder import RunFolder
from seqgen.pipeline.own_design import own_design, require_own_design
from seqgen.pipeline.scan import read_truth, require_own_seq, truth_path, water_path
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance, require_source, sha256_file, source
from seqgen.report.diagram import sequence_diagram
from seqgen.report.figures import drift_figure, optimisation_figure, pulse_figure
from seqgen.report.html import Check as ReportCheck
from seqgen.report.html import Checks, Figure, ReportContent, Section, Table, Verdict, write_report
from seqgen.report.spectra import FitCurves, SpectraPanel, fit_figure, spectra_figure
from seqgen.report.tables import Artefact, minimum_reporting_table, provenance_table
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import SeqFile, read_seq
from seqgen.seqfile.shots import shots
from seqgen.simulate.observables import window_signal_bound
from seqgen.spin.hamiltonian import molecule_models
from seqgen.units import b0_t, hz_to_tesla
from seqgen.verify.design_check import bandwidth_hz
from seqgen.verify.limits import NO_LICENCE, Check
from seqgen.verify.predict import Prediction, WindowResult, predict, pulse_acquire_spectrum, window_result

AROUND_WINDOW_PPM = 0.35
"""What predicted spectra show on either side of the window, ppm."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Compared:
    """The edited sequence beside its baseline (`Design.baseline_name`), both simulated from their files."""

    edited: Prediction
    """Spectra after the edited sequence."""
    press: Prediction
    """Spectra after the baseline."""
    results: Mapping[str, WindowResult]
    """Window figures of "edited" and "press"."""


def make_report(study: Study, folder: RunFolder, reporter: Reporter) -> Path:
    """Write report.html from the files of a run folder.

    Raises:
        InputError: If the design has several shots, or a file is missing or was not made from the others.
    """
    require_one_shot(study)
    bar = reporter.progress("Report")
    require_chain(study, folder)
    bar(1, 4)
    design = own_design(study, load_design(folder.design), folder.design)
    result = load_fit(folder.fit)
    concentrations = read_concentrations(concentrations_path(folder.fit), folder.fit)
    truth = read_truth(truth_path(folder.raw), folder.raw)
    seq = read_seq(folder.edited)
    compared = compare_files(study, folder)
    bar(2, 4)
    checks = check_file(folder.edited, study.protocol.scanner, study.protocol.design.energy_max_hz2_s, study.exposure)
    shown = {check.name for check in checks}
    sections = (
        _what(study, design, seq),
        _pulse(study, design, tuple(c for c in design_checks(study, design, seq) if c.name not in shown)),
        _sequence(seq, design, checks),
        _prediction(study, design, compared),
        _acquisition(study, truth),
        _spectrum(study, folder, result),
        _numbers(result, concentrations, truth),
        _provenance(folder),
        _reporting(study, seq, result, scaled=bool(concentrations)),
    )
    bar(3, 4)
    write_report(
        folder.report,
        ReportContent(
            title=f"seqgen: {study.protocol.name}",
            subtitle=study.protocol.description,
            verdicts=verdicts(study, concentrations, truth),
            verdict_text=_verdict_text(study, design, compared, result),
            sections=sections,
        ),
    )
    bar(4, 4)
    return folder.report


def require_one_shot(study: Study) -> None:
    """Refuse a design of several shots: each is an editing condition with a spectrum and a basis set of its own.

    Raises:
        InputError: Naming the shots, and the commands that take one condition after the other.
    """
    spec = study.protocol.design
    if len(spec.shots) > 1:
        raise InputError(
            f"{study.path} designs {len(spec.shots)} shots ({', '.join(spec.shots)}; combine: {spec.combine}), but "
            "`seqgen run` and `seqgen report` take one. Go step by step: `seqgen design`, `seqgen build`, `seqgen "
            "simulate`, `seqgen convert`, then `seqgen process`, `seqgen basis` and `seqgen fit` for each condition, "
            "with `--condition 0`, `--condition 1` for process and basis (docs/conversion.md)."
        )


def require_chain(study: Study, folder: RunFolder) -> None:
    """Refuse a folder whose files were not made from one another."""
    design = load_design(folder.design)
    require_own_design(study, design, folder.design)
    seq = require_own_seq(study, folder.edited)
    stated = seq.definitions.get("seqgen_design_sha256", "")
    if stated != sha256_file(folder.design):
        raise InputError(
            f"{folder.edited} was not built from {folder.design}: it states the design {stated[:12]}..., the file has "
            f"{sha256_file(folder.design)[:12]}.... Run `seqgen build` again."
        )
    basis, result = load_basis(folder.basis), load_fit(folder.fit)
    require_source(basis.provenance, "seq", folder.edited, folder.basis)
    data, processed = read_nifti_mrs(folder.data), read_nifti_mrs(folder.processed)
    require_source(data_provenance(data), "raw", folder.raw, folder.data)
    require_source(data_provenance(data), "seq", folder.edited, folder.data)
    require_source(data_provenance(processed), "data", folder.data, folder.processed)
    require_source(result.provenance, "data", folder.processed, folder.fit)
    require_source(result.provenance, "basis", folder.basis, folder.fit)
    for made_from, data_path, artefact in (
        (data_provenance(processed), folder.data, folder.processed),
        (result.provenance, folder.processed, folder.fit),
    ):
        if "water" in made_from.made_from:
            require_source(made_from, "water", water_path(data_path), artefact)


def compare_files(study: Study, folder: RunFolder) -> Compared:
    """Simulate target and interferers through the edited and the plain file."""
    protocol, spec = study.protocol, study.protocol.design
    names = (spec.target, *spec.interferers)
    systems = {name: study.systems[name] for name in names}
    f0_hz, reference_ppm = protocol.spectrometer_frequency_hz, protocol.water_shift_ppm

    def predicted(path: Path) -> Prediction:
        return predict(
            read_seq(path),
            systems,
            study.relaxation,
            spectrometer_frequency_hz=f0_hz,
            reference_ppm=reference_ppm,
            linewidth_hz=spec.linewidth_hz,
            range_ppm=_around(spec.window_ppm),
        )

    found = {"edited": predicted(folder.edited), "press": predicted(folder.plain)}
    reference = pulse_acquire_spectrum(
        systems[spec.target],
        found["edited"],
        spectrometer_frequency_hz=f0_hz,
        reference_ppm=reference_ppm,
        linewidth_hz=spec.linewidth_hz,
    )
    results = {
        name: window_result(prediction, spec.target, spec.interferers, spec.window_ppm, reference)
        for name, prediction in found.items()
    }
    return Compared(edited=found["edited"], press=found["press"], results=results)


def _around(window_ppm: tuple[float, float]) -> tuple[float, float]:
    """Return the range of the predicted spectra, ppm."""
    return window_ppm[0] - AROUND_WINDOW_PPM, window_ppm[1] + AROUND_WINDOW_PPM


def verdicts(
    study: Study, concentrations: Mapping[str, Mapping[str, float]], truth: Mapping[str, Mapping[str, float]]
) -> tuple[Verdict, ...]:
    """Return truth, fit and bound of target and interferers."""
    spec = study.protocol.design
    return tuple(
        Verdict(
            name=name,
            fitted=concentrations[name]["value_mm"],
            crlb_sd=concentrations[name]["crlb_sd_mm"],
            unit="mM",
            truth=truth[name]["concentration_mm"],
        )
        for name in (spec.target, *spec.interferers)
        if name in concentrations
    )


def _verdict_text(study: Study, design: Design, compared: Compared, result: FitResult) -> str:
    spec = study.protocol.design
    edited, press = compared.results["edited"], compared.results["press"]
    others = " and ".join(spec.interferers)
    of_edited = f" with {edited.contamination:.0%} of it from {others} at equal concentration" if others else ""
    of_press = f" with {press.contamination:.0%}" if others else ""
    sequence, baseline = "the edited sequence", "PRESS with the echo times best for the same loss"
    if not _has_echoes(design):
        sequence, baseline = "the designed pulse", "the hard pulse"
    return (
        f"In the window {spec.window_ppm[0]:g} to {spec.window_ppm[1]:g} ppm {sequence} keeps {edited.signal:.2f} of "
        f"the pulse-acquire signal of {spec.target}{of_edited}; {baseline} keeps {press.signal:.2f}{of_press}. Both "
        f"are simulated from the .seq files at nominal B1, on resonance. {_signal_bound(study)} "
        f"The fit of the simulated scan ended with status: {result.status}."
    )


def _signal_bound(study: Study) -> str:
    """Return a sentence on how much signal any sequence could keep in the window."""
    protocol = study.protocol
    f0_hz, reference_ppm = protocol.spectrometer_frequency_hz, protocol.water_shift_ppm
    low, high = (ppm_to_hz(edge, f0_hz, reference_ppm) for edge in protocol.design.window_ppm)
    models = molecule_models(study.systems[protocol.design.target], f0_hz, reference_ppm)
    bound = window_signal_bound(models, (low, high), protocol.design.linewidth_hz)
    return (
        f"No sequence keeps more than {bound.value:.2f} of it from the nominal voxel without relaxation: an upper "
        "bound, not necessarily reachable."
    )


def _has_echoes(design: Design) -> bool:
    """Return whether a design has echo times: a pulse alone has none."""
    return design.te1_s > 0


def _edited_name(design: Design) -> str:
    """Return what tables and panels call the design."""
    return "Edited" if _has_echoes(design) else "Designed pulse"


def _what(study: Study, design: Design, seq: SeqFile) -> Section:
    protocol = study.protocol
    echo_times = [
        f"TE1 {te1_s * 1e3:.2f} ms, TE2 {te2_s * 1e3:.2f} ms"
        for te1_s, te2_s in dict.fromkeys((shot.te1_s, shot.te2_s) for shot in design.shots)
    ]
    rows = (
        ("Protocol", study.path.name),
        ("Scanner profile", protocol.scanner.name),
        (
            "Spectrometer frequency",
            f"{protocol.spectrometer_frequency_hz / 1e6:.4f} MHz ({b0_t(protocol.spectrometer_frequency_hz):.4f} T)",
        ),
        ("Temperature, water", f"{protocol.temperature_c:g} °C, {protocol.water_shift_ppm:g} ppm"),
        ("Target; interferers", f"{protocol.design.target}; {', '.join(protocol.design.interferers) or 'none'}"),
        ("Echo times", "; ".join(echo_times) if _has_echoes(design) else "none: a pulse alone"),
        ("Sequence duration", f"{seq.total_duration_s:.1f} s"),
        ("Seed", str(protocol.seed)),
    )
    return Section(title="What was made", items=(Table(header=("Item", "Value"), rows=rows),))


def _pulse(study: Study, design: Design, checks: tuple[Check, ...]) -> Section:
    spec, limit_hz = study.protocol.design, study.protocol.scanner.b1_max_hz
    played = [
        (" and ".join(places) + (f" of shot {k + 1}" if len(design.shots) > 1 else ""), pulse)
        for k, shot in enumerate(design.shots)
        for places, pulse in waveforms(shot)
    ]
    rows = [
        row
        for where, pulse in played
        for row in (
            (
                f"Peak at {where}",
                f"{pulse.peak_hz:.4f} Hz ({hz_to_tesla(pulse.peak_hz) * 1e6:.3f} uT)",
                f"{spec.nominal_b1_max_hz:g} Hz (protocol), {limit_hz:.0f} Hz (scanner)",
            ),
            ("Energy", f"{pulse.energy_hz2_s:.3f} Hz² s", f"{spec.energy_max_hz2_s:g} Hz² s (protocol)"),
            (
                "Bandwidth (99 % of the energy)",
                f"{bandwidth_hz(pulse.b1_hz.numpy(), pulse.dwell_s):.1f} Hz",
                "-" if spec.bandwidth_max_hz is None else f"{spec.bandwidth_max_hz:g} Hz (protocol)",
            ),
            ("Root mean square", f"{pulse.rms_hz:.3f} Hz", "-"),
        )
    ]
    names = design.landscape.names if design.landscape is not None else ()
    history = {
        ((names[k] if k < len(names) else f"start {k + 1}") if k < len(design.history) - 1 else "final"): np.array(run)
        for k, run in enumerate(design.history)
        if len(run) > 1
    }
    return Section(
        title="The pulse",
        items=(
            *(
                Figure(
                    drawing=pulse_figure(
                        pulse,
                        spectrometer_frequency_hz=study.protocol.spectrometer_frequency_hz,
                        reference_ppm=study.protocol.water_shift_ppm,
                        window_ppm=spec.window_ppm,
                    ),
                    caption=f"The editing pulse at {where}: amplitude, phase, and its spectrum (small-tip flip angle).",
                    alt=f"Amplitude and phase of the editing pulse at {where} against time, and its spectrum against "
                    "chemical shift.",
                )
                for where, pulse in played
            ),
            Table(header=("Quantity", "Value", "Limit"), rows=(*rows, ("Optimiser", design.status, "-"))),
            Checks(
                checks=tuple(report_check(check) for check in checks),
                caption=f"The design against the limits of its protocol. {NO_LICENCE}",
            ),
            Figure(
                drawing=optimisation_figure(
                    history,
                    loss_label="Loss (ensemble mean)",
                    best="final",
                    references={design.baseline_name: design.press_metrics.loss},
                ),
                caption="Loss during the optimisation: the starts, and the best of them carried on.",
                alt="Loss against iteration for every start.",
            ),
            *_terms(design),
        ),
    )


def _terms(design: Design) -> tuple[Figure | Table, ...]:
    """Return every term of the loss over the last descent, and what each and its bounds came to."""
    last = {name: np.array(values) for name, values in design.terms[-1].items()} if design.terms else {}
    figures: tuple[Figure, ...] = ()
    if len(last) > 1:
        figures = (
            Figure(
                drawing=optimisation_figure(last, loss_label="Term of the loss, without its weight"),
                caption="Every term of the loss during the last descent.",
                alt="Terms of the loss against iteration.",
            ),
        )
    press, edited = design.press_metrics, design.metrics
    rows = [(f"Loss {name}", f"{edited.terms[name]:.5f}", f"{press.terms[name]:.5f}") for name in edited.terms]
    rows += [
        (f"Cramér-Rao bound of {name} (relative)", f"{sd:.5g}", f"{press.bounds[name]:.5g}")
        for name, sd in edited.bounds.items()
    ]
    if edited.overlap is not None and edited.overlap_maximum is not None:
        of_press = "-" if press.overlap is None else f"{press.overlap:.4f}"
        rows += [
            ("Overlap with the wanted state", f"{edited.overlap:.4f}", of_press),
            ("Largest that a unitary reaches from Fz", f"{edited.overlap_maximum:.4f}", ""),
            ("Overlap over that", f"{edited.overlap / edited.overlap_maximum:.4f}", ""),
        ]
    return (*figures, Table(header=("Term", _edited_name(design), design.baseline_name), rows=tuple(rows)))


def _sequence(seq: SeqFile, design: Design, checks: tuple[Check, ...]) -> Section:
    timeline = phase_cycle(shots(seq))[0]
    echo_times = {"TE1": design.te1_s, "TE2": design.te2_s, "TE": design.te1_s + design.te2_s}
    return Section(
        title="The sequence",
        items=(
            Figure(
                drawing=sequence_diagram(timeline, echo_times=echo_times if _has_echoes(design) else {}),
                caption=f"One repetition as {seq.name} plays it.",
                alt="RF, gradients and receiver of one repetition against time.",
            ),
            Checks(
                checks=tuple(report_check(check) for check in checks), caption=f"Checks of {seq.name}. {NO_LICENCE}"
            ),
        ),
    )


def report_check(check: Check) -> ReportCheck:
    """Return a check with its numbers as words."""

    def words(value: float | None) -> str:
        return "" if value is None else f"{value:.5g} {check.unit}".strip()

    return ReportCheck(
        name=check.name, value=words(check.value), limit=words(check.limit), outcome=check.status, note=check.note
    )


def _prediction(study: Study, design: Design, compared: Compared) -> Section:
    spec, echoes, alone = study.protocol.design, _has_echoes(design), not study.protocol.design.interferers
    edited_name, baseline = _edited_name(design), design.baseline_name
    panels = [
        SpectraPanel(
            title=f"{name}, TE {te1_s * 1e3:.1f}/{te2_s * 1e3:.1f} ms" if echoes else name,
            ppm=prediction.ppm,
            curves={metabolite: values.real for metabolite, values in prediction.spectra.items()},
        )
        for name, te1_s, te2_s, prediction in (
            (edited_name, design.te1_s, design.te2_s, compared.edited),
            ("PRESS" if echoes else baseline, design.press_te1_s, design.press_te2_s, compared.press),
        )
    ]
    rows = tuple(
        (
            name,
            f"{reached.signal:.4f}",
            *(() if alone else (f"{reached.contamination:.4f}",)),
            f"{reached.loss:.4f}",
        )
        for name, reached in ((baseline, design.press_metrics), (edited_name, design.metrics))
    )
    return Section(
        title="Predicted spectra",
        text=f"Simulated from the two .seq files, {'' if alone else 'equal concentrations, '}"
        f"linewidth {spec.linewidth_hz:g} Hz, T2 counted.",
        items=(
            Figure(
                drawing=spectra_figure(
                    panels,
                    range_ppm=_around(spec.window_ppm),
                    window_ppm=spec.window_ppm,
                    signal_label="Signal (arb. units)",
                ),
                caption="Real part of the predicted spectra; the target's window is shaded.",
                alt=f"Spectra of {'the target' if alone else 'target and interferers'}, left to right: {edited_name}, "
                f"{baseline}.",
            ),
            Table(
                header=("Sequence", "Signal", *(() if alone else ("Contamination",)), "Loss"),
                rows=rows,
                caption="Means over the ensemble of B0 and B1: target signal against pulse-acquire"
                f"{'' if alone else '; interferers against target'}.",
            ),
        ),
    )


def _acquisition(study: Study, truth: Mapping[str, Mapping[str, float]]) -> Section:
    rows = tuple(
        (
            name,
            f"{row['concentration_mm']:.3f}",
            f"{row['t1_s'] * 1e3:.0f}",
            f"{row['t2_s'] * 1e3:.1f}",
            f"{row['shift_error_ppm'] * 1e3:+.2f}",
            f"{(row['j_factor'] - 1) * 100:+.2f}",
        )
        for name, row in truth.items()
    )
    header = ("Metabolite", "Concentration (mM)", "T1 (ms)", "T2 (ms)", "Shift error (ppb)", "J error (%)")
    acquisition = study.protocol.acquisition
    text = (
        f"{acquisition.n_coils} coils, SNR {acquisition.snr:g}, drift {acquisition.frequency_drift_hz:g} Hz, residual "
        f"water {acquisition.residual_water_fraction:.2%}. Shifts, couplings and T2 of the sample differ from those "
        "that design and fit believe in."
    )
    return Section(title="Simulated acquisition", text=text, items=(Table(header=header, rows=rows),))


def _spectrum(study: Study, folder: RunFolder, result: FitResult) -> Section:
    quality = json.loads(quality_path(folder.processed).read_text(encoding="utf-8"))
    turn = np.exp(-1j * result.phase_rad)
    curves = FitCurves(
        ppm=result.ppm,
        data=(result.data * turn).real,
        model=(result.model * turn).real,
        baseline=(result.baseline * turn).real,
        components={name: (result.components[:, k] * turn).real for k, name in enumerate(result.names)},
        highlighted=(study.protocol.design.target, *study.protocol.design.interferers),
    )
    items: list[Any] = [
        Figure(
            drawing=fit_figure(curves, range_ppm=study.protocol.fit.range_ppm),
            caption="Processed spectrum with fit, residual, baseline and metabolites, in the phase of the basis set: "
            "the receiver of the edited sequence puts its target into absorption.",
            alt="Fitted spectrum with residual and components.",
        )
    ]
    if quality.get("drift_hz"):
        drift = drift_figure(np.array(quality["drift_hz"]), np.array(quality["drift_rad"]))
        items.append(
            Figure(
                drawing=drift,
                caption="Frequency and phase of every transient before correction.",
                alt="Frequency and phase against transient.",
            )
        )
    text = (
        f"{quality['transients_used']} of {quality['transients_total']} transients used. SNR {result.snr:.0f} "
        f"({result.snr_definition}); linewidth {result.linewidth_hz:.2f} Hz; fit quality number "
        f"{result.fit_quality_number:.2f}."
    )
    return Section(title="Processed spectrum and fit", text=text, items=tuple(items))


def _numbers(
    result: FitResult, concentrations: Mapping[str, Mapping[str, float]], truth: Mapping[str, Mapping[str, float]]
) -> Section:
    rows = []
    for name, row in concentrations.items():
        sd, known = row["crlb_sd_mm"], truth.get(name)
        deviation = "-" if known is None else f"{(row['value_mm'] - known['concentration_mm']) / sd:+.1f}"
        rows.append(
            (
                name,
                "-" if known is None else f"{known['concentration_mm']:.3f}",
                f"{row['value_mm']:.3f}",
                f"{sd:.3f}",
                f"{100 * sd / row['value_mm']:.1f}" if row["value_mm"] > 0 else "-",
                deviation,
            )
        )
    header = ("Metabolite", "Truth (mM)", "Fitted (mM)", "CRLB (mM)", "CRLB (%)", "Deviation (CRLBs)")
    text = (
        "CRLBs are those of the fit alone. Deviations of many CRLBs are what wrong shifts, couplings and T2 cost: "
        "noise is not the limit then."
    )
    if not concentrations:
        text = "No water reference was taken, so the fitted amplitudes are not scaled to mM."
    return Section(title="Numbers", text=text, items=(Table(header=header, rows=tuple(rows)),))


def _provenance(folder: RunFolder) -> Section:
    design, basis, result = load_design(folder.design), load_basis(folder.basis), load_fit(folder.fit)
    seq = read_seq(folder.edited)
    made_from = {"design": source(folder.design)}
    listed: list[tuple[Path, Provenance | None]] = [
        (folder.design, design.provenance),
        (folder.edited, Provenance(made_from=made_from, versions={"seqgen": seq.definitions["seqgen_version"]})),
        (folder.basis, basis.provenance),
        (folder.raw, Provenance(made_from={"seq": source(folder.edited)})),
        (folder.data, data_provenance(read_nifti_mrs(folder.data))),
        (folder.processed, data_provenance(read_nifti_mrs(folder.processed))),
        (folder.fit, result.provenance),
    ]
    table = provenance_table(
        [Artefact(name=path.name, sha256=sha256_file(path), provenance=record) for path, record in listed]
    )
    return Section(title="Provenance", items=(table,))


def _reporting(study: Study, seq: SeqFile, result: FitResult, *, scaled: bool) -> Section:
    protocol = study.protocol
    numbers = seq.definition_numbers
    size, position = (
        ", ".join(f"{1e3 * edge:g}" for edge in numbers(name) or ()) for name in ("VoxelSize", "VoxelPosition")
    )
    times = ", ".join(
        f"{name} {time[0] * 1e3:.{digits}f} ms"
        for name, digits in (("TR", 0), ("TE", 2))
        if (time := numbers(name)) is not None
    )
    low_ppm, high_ppm = protocol.fit.range_ppm
    known = {
        "field_strength": f"{b0_t(protocol.spectrometer_frequency_hz):.3f} T (simulated)",
        "vendor": f"{protocol.scanner.vendor} (profile; the scan is simulated)",
        "rf_coil": f"1H, {protocol.acquisition.n_coils} receive channels (simulated)",
        "sequence": f"{seq.name} ({seq.definitions['Name']})",
        "voi_position": f"{position} mm (gradient coordinates)" if position else "none: the whole sample",
        "voi_size": f"{size} mm" if size else "none: the whole sample",
        "repetition_and_echo_time": times or "not stated",
        "software": f"seqgen {seq.definitions['seqgen_version']}",
        "output_measure": "mM, by the unsuppressed water signal" if scaled else "amplitudes, not scaled",
        "quantification": "water concentration, T1 and T2 as the protocol states them"
        if scaled
        else "none: no water reference",
        "fit_model": f"linear combination in {low_ppm:g} to {high_ppm:g} ppm, spline baseline",
        "snr_and_linewidth": f"SNR {result.snr:.0f} ({result.snr_definition}); {result.linewidth_hz:.2f} Hz",
        "fit_quality": f"CRLBs in the table; fit quality number {result.fit_quality_number:.2f}",
        "sample_spectrum": "above",
    }
    return Section(title="Minimum reporting", items=(minimum_reporting_table(known),))
