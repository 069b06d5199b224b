"""`seqgen build` and `seqgen check`: `.seq` files that are read back and checked before they get their name."""

import math
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seqgen import library
from seqgen.design.artefact import Design
from seqgen.errors import HardwareLimitError, InputError, VerificationError
from seqgen.exposure import ExposureLimits
from seqgen.pipeline.design_check import played_design, remedy, require_built
from seqgen.pipeline.own_design import own_design
from seqgen.pipeline.study import ScanStudy, Study
from seqgen.provenance import replacing, sha256_file, versions
from seqgen.scanner import Scanner
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import Shot, shots
from seqgen.seqfile.writer import SeqFormat, write_seq
from seqgen.sequence.plugins import Built
from seqgen.simulate.dephasing import crusher_verdict, pathway_signals
from seqgen.simulate.pathways import alike_but_for_phases
from seqgen.spin.hamiltonian import molecule_models
from seqgen.timeline import Receiver, Timeline
from seqgen.verify.limits import Check, check_limits
from seqgen.verify.profile import check_voxel_place

RF_TOLERANCE = 1e-5
"""Largest relative difference of RF and gradients between what was built and what the file plays: a `.seq` keeps six
digits."""
FORMATS: tuple[tuple[SeqFormat, str], ...] = (("1.5.0", ""), ("1.4.1", "_141"))


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltFiles:
    """What was written."""

    paths: tuple[Path, ...]
    """The same sequence in 1.5.0 and in 1.4.1 form."""
    notes: tuple[str, ...]
    """What the sequence reports: minimum echo and repetition times, phase cycle, suppression; and its duration."""


def build_edited(study: Study, design: Design, design_path: Path, folder: Path) -> BuiltFiles:
    """Write the protocol's sequence with the designed pulse, in 1.5.0 and 1.4.1 form.

    Raises:
        InputError: If the scanner cannot play it, the design was made for another problem, or its shots are not those
            of the protocol.
        VerificationError: If the design breaks a limit of the protocol; then nothing is written.
    """
    design = own_design(study, design, design_path)
    try:
        built = study.build(*played_design(study, design))
    except (InputError, HardwareLimitError) as error:
        # What the sequence refuses without the design too, another design does not cure.
        study.build(study.params(), None)
        times = ", ".join(f"{shot.te1_s * 1e3:g} + {shot.te2_s * 1e3:g} ms" for shot in design.shots)
        raise type(error)(
            f"{design_path}, TE1 + TE2 {times}, cannot be played by {study.path}: {error} {remedy(study, design)}"
        ) from error
    require_built(study, design, design_path)
    return _write_all(study, built, folder, {"seqgen_design_sha256": sha256_file(design_path)})


def build_plain(study: ScanStudy, te_s: tuple[float, float] | None, folder: Path) -> BuiltFiles:
    """Write the protocol's sequence without editing pulse, in 1.5.0 and 1.4.1 form.

    Args:
        study: The protocol, of a scan or of a whole study.
        te_s: Other TE1 and TE2, s.
        folder: Where the files go.
    """
    params = study.params() if te_s is None else study.params_at(*te_s)
    return _write_all(study, study.build(params, None), folder, {})


def _write_all(study: ScanStudy, built: Built, folder: Path, chain: dict[str, str]) -> BuiltFiles:
    """Write a built sequence in every format; a file that fails a check is not written, and then none is."""
    protocol = study.protocol
    definitions = built.definitions | {
        "seqgen_version": versions()["seqgen"],
        "seqgen_protocol_sha256": study.source.sha256,
        "seqgen_reference_ppm": protocol.water_shift_ppm,
        "seqgen_spectrometer_frequency_hz": protocol.spectrometer_frequency_hz,
        **_voxel_source(study),
        **chain,
    }
    name = str(built.definitions["Name"])
    paths = []
    with tempfile.TemporaryDirectory() as scratch:
        drafts = []
        for seq_format, suffix in FORMATS:
            draft = Path(scratch) / f"{name}{suffix}.seq"
            write_seq(
                built.blocks,
                draft,
                scanner=protocol.scanner,
                spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
                definitions=definitions,
                seq_format=seq_format,
                shot_starts=built.shot_starts,
            )
            _verify(draft, built, study)
            drafts.append(draft)
        _require_place(drafts[0], protocol.scanner)
        for draft in drafts:
            path = folder / draft.name
            with replacing(path) as temporary:
                temporary.write_bytes(draft.read_bytes())
            paths.append(path)
    duration_s = sum(block.duration_s for block in built.blocks)
    shots_and_time = f"{len(built.shot_starts)} shots, " if built.shot_starts else ""
    shots_and_time += f"{int(duration_s // 60)} min {duration_s % 60:.0f} s"
    return BuiltFiles(paths=tuple(paths), notes=(*built.notes, shots_and_time))


def _voxel_source(study: ScanStudy) -> dict[str, str]:
    """Return what a file states about the image that placed its voxel; a name keeps to ASCII."""
    if study.voxel_from is None:
        return {}
    name = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in study.voxel_from.name)
    return {"seqgen_voxel_from": name, "seqgen_voxel_from_sha256": study.voxel_from.sha256}


def _verify(draft: Path, built: Built, study: ScanStudy) -> None:
    """Read a draft back; compare it with what was built, and check it against the scanner's limits.

    Raises:
        HardwareLimitError: If a limit is exceeded.
        VerificationError: If the file plays something else than what was built.
    """
    seq = read_seq(draft)
    failed = [
        check
        for check in check_limits(
            seq, study.protocol.scanner, energy_max_hz2_s=study.energy_max_hz2_s, exposure=study.exposure
        )
        if check.status == "failed"
    ]
    if failed:
        raise HardwareLimitError(
            f"{draft.name} was not written: "
            + "; ".join(f"{c.name} {c.value:.4g} {c.unit}, limit {c.limit:.4g} ({c.note})" for c in failed)
            + f". Change the protocol, or the profile {study.protocol.scanner.name} if it is wrong."
        )
    compare_shots(built_shots(built.blocks, study.protocol.scanner, draft.name), shots(seq), draft.name)


def _require_place(draft: Path, scanner: Scanner) -> None:
    """Refuse a draft whose slices are not where it says its voxel is; the other formats play the same.

    Raises:
        VerificationError: Naming the slices, with both places.
    """
    misplaced = [check for check in check_voxel_place(read_seq(draft), scanner) if check.status == "failed"]
    if misplaced:
        raise VerificationError(
            f"{draft.name} was not written: " + "; ".join(f"{check.name} {check.note}" for check in misplaced) + "."
        )


def compare_shots(wanted: tuple[Shot, ...], got: tuple[Shot, ...], name: str) -> None:
    """Refuse a file whose shots differ from those that were built.

    Raises:
        VerificationError: Naming the first difference.
    """
    if len(wanted) != len(got):
        raise VerificationError(f"{name} holds {len(got)} readouts, but {len(wanted)} were built. It was not written.")
    seen = set()
    for one, other in zip(wanted, got, strict=True):
        if one.labels != other.labels:
            raise VerificationError(f"{name}: readout {one.index + 1} has labels {other.labels}, not {one.labels}.")
        if one.identity not in seen:
            seen.add(one.identity)
            _compare_timelines(one.timeline, other.timeline, name)


def _compare_timelines(wanted: Timeline, got: Timeline, name: str) -> None:
    """Compare interval by interval: raster, RF, gradients and readout."""
    if len(wanted.intervals) != len(got.intervals):
        raise VerificationError(f"{name} plays {len(got.intervals)} intervals, but {len(wanted.intervals)} were built.")
    for number, (a, b) in enumerate(zip(wanted.intervals, got.intervals, strict=True), 1):
        same_raster = a.n_samples == b.n_samples and abs(a.dwell_s - b.dwell_s) < 1e-9
        if not same_raster:
            raise VerificationError(f"{name}: interval {number} has another raster than what was built.")
        for what, x, y in (("RF", a.b1_hz, b.b1_hz), ("gradient", a.gradient_hz_per_m, b.gradient_hz_per_m)):
            scale = float(x.abs().max()) or 1.0
            error = float((x - y).abs().max()) / scale
            if error > RF_TOLERANCE:
                raise VerificationError(f"{name}: {what} of interval {number} differs by {error:.2g} of its peak.")
        if not _same_readout(a.receiver, b.receiver):
            raise VerificationError(f"{name}: the readout of interval {number} is {b.receiver}, not {a.receiver}.")


def _same_readout(wanted: Receiver | None, got: Receiver | None) -> bool:
    """Return whether two readouts agree in samples, times, frequency and phase, to the digits that a file keeps."""
    if wanted is None or got is None:
        return wanted is got
    turn = math.remainder(wanted.phase_rad - got.phase_rad, 2 * math.pi)
    return (
        wanted.n_samples == got.n_samples
        and abs(wanted.dwell_s - got.dwell_s) < 1e-10
        and abs(wanted.delay_s - got.delay_s) < 1e-9
        and abs(wanted.frequency_hz - got.frequency_hz) < 1e-3
        and abs(turn) < RF_TOLERANCE
    )


def check_file(
    path: Path, scanner: Scanner, energy_max_hz2_s: float | None, exposure: ExposureLimits | None = None
) -> tuple[Check, ...]:
    """Check a `.seq` file on disk against a scanner's profile, and its slices against the voxel that it states.

    Args:
        path: The file.
        scanner: The profile.
        energy_max_hz2_s: Largest energy of an editing pulse, Hz^2 s; None: no such limit.
        exposure: Limits of B1+rms and SAR; default those of the scanner in normal operating mode.
    """
    seq = read_seq(path)
    exposure = library.exposure_limits(scanner) if exposure is None else exposure
    return (
        *check_limits(seq, scanner, energy_max_hz2_s=energy_max_hz2_s, exposure=exposure),
        *check_voxel_place(seq, scanner),
    )


def check_chain(study: ScanStudy, path: Path) -> Check:
    """Check that a `.seq` was built from a protocol as it is now."""
    stated = read_seq(path).definitions.get("seqgen_protocol_sha256")
    same = stated == study.source.sha256
    note = "" if same else f"the file states {stated[:12] if stated else 'none'}..., {study.path} has another SHA-256"
    return Check(name="built from this protocol", status="passed" if same else "failed", note=note)


def check_crushers(study: ScanStudy, path: Path, metabolite: str, extent_m: float) -> Check:
    """Judge the crushers of a `.seq` by the pathways of a metabolite's largest spin group, from the excitation on.

    Args:
        study: The protocol, of a scan or of a whole study.
        path: The file.
        metabolite: One of the sample's metabolites; of seqgen's table where the protocol has no sample.
        extent_m: Edge of the box that the sample fills, m.

    Raises:
        InputError: If the sample does not hold the metabolite, or the file excites nothing.
    """
    systems = study.systems if isinstance(study, Study) else {metabolite: library.spin_system(metabolite)}
    if metabolite not in systems:
        raise InputError(f"{study.path} has no metabolite {metabolite!r}. Its sample holds {', '.join(systems)}.")
    protocol = study.protocol
    models = molecule_models(systems[metabolite], protocol.spectrometer_frequency_hz, protocol.water_shift_ppm)
    # Steps that invert and steps that do not (ISIS) have the same pathways from the excitation on.
    alike = alike_but_for_phases(phase_cycle(shots(read_seq(path))))[0]
    cycle = [_from_excitation(shot, path) for shot in alike]
    table = pathway_signals(cycle, max(models, key=lambda model: model.dimension), extent_m=(extent_m,) * 3)
    edited = any(interval.use == "preparation" for _, interval in cycle[0].pulses())
    verdict = crusher_verdict(table, refocused_is_signal=edited)
    inverts = any(interval.use == "inversion" for _, interval in alike[0].pulses())
    left_out = " The inversion before the excitation is not judged." if inverts else ""
    judged = verdict.sufficient or verdict.worst_ratio > verdict.limit
    return Check(
        name=f"crushers ({metabolite})",
        status="passed" if verdict.sufficient else "failed" if judged else "not checked",
        value=verdict.worst_ratio,
        limit=verdict.limit,
        unit="of echo",
        note=verdict.text + left_out,
    )


def _from_excitation(shot: Timeline, path: Path) -> Timeline:
    """Return a shot from its excitation on: suppression before it multiplies the pathways and refocuses none."""
    first = next((k for k, interval in enumerate(shot.intervals) if interval.use == "excitation"), None)
    if first is None:
        raise InputError(f"{path} has no excitation pulse: there is no echo to compare with. Check what wrote it.")
    return replace(shot, intervals=shot.intervals[first:])


def checks_json(path: Path, scanner: Scanner, checks: tuple[Check, ...]) -> dict[str, Any]:
    """Return the outcome of checks, ready for JSON."""
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "scanner": scanner.name,
        "failed": sum(check.status == "failed" for check in checks),
        "not_checked": [check.name for check in checks if check.status == "not checked"],
        "checks": [asdict(check) for check in checks],
    }
