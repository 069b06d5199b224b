"""`seqgen simulate` and `seqgen convert`: raw data of a simulated scan, and raw data to NIfTI-MRS."""

import json
from pathlib import Path
from typing import Any

from seqgen import library
from seqgen.errors import InputError
from seqgen.mrs.convert import convert
from seqgen.mrs.mrd import write_mrd
from seqgen.mrs.nifti import write_nifti_mrs
from seqgen.mrs.phantom import Background, Scan, Substance, simulate_scan
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance, sha256_file, source, write_json
from seqgen.seqfile.reader import SeqFile, read_seq
from seqgen.spin.system import Relaxation


def simulate_raw(study: Study, seq_path: Path, raw_path: Path, reporter: Reporter) -> dict[str, Any]:
    """Play a `.seq` to the protocol's sample, write the raw data (MRD) and, beside them, the truth (JSON).

    Returns:
        The truth: what is in the sample, in mM and s.
    """
    protocol = study.protocol
    seq = require_own_seq(study, seq_path)
    sample, acquisition = protocol.sample, protocol.acquisition
    scan = Scan(
        n_coils=acquisition.n_coils,
        snr=acquisition.snr,
        linewidth_hz=sample.linewidth_hz,
        frequency_drift_hz=acquisition.frequency_drift_hz,
        phase_drift_rad=acquisition.phase_drift_rad,
        residual_water_fraction=acquisition.residual_water_fraction,
        water_concentration_mm=sample.water_concentration_mm,
        water_relaxation=Relaxation(t1_s=sample.water_t1_s, t2_s=sample.water_t2_s),
        water_shift_ppm=protocol.water_shift_ppm,
        shift_error_ppm=acquisition.shift_error_ppm,
        j_error_relative=acquisition.j_error_relative,
        t2_error_relative=acquisition.t2_error_relative,
    )
    substances = {
        name: Substance(
            system=system,
            concentration_mm=sample.metabolites[name].concentration_mm,
            relaxation=sample.metabolites[name].relaxation,
        )
        for name, system in study.systems.items()
    }
    simulated = simulate_scan(
        seq,
        substances,
        scan,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        seed=protocol.seed,
        background=_background(study),
        progress=reporter.progress("Simulated scan"),
    )
    write_mrd(
        raw_path,
        simulated.transients,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        dwell_s=_dwell_s(seq),
        seq_signature=seq.signature,
        seq_sha256=seq.sha256,
        labels=simulated.labels,
        start_s=simulated.start_s,
        system={"systemVendor": "seqgen", "systemModel": "simulated scan"},
        provenance=Provenance(made_from={"protocol": study.source, "seq": source(seq_path)}, seed=protocol.seed),
    )
    truth = {"raw_sha256": sha256_file(raw_path), "metabolites": simulated.truth}
    write_json(truth_path(raw_path), truth)
    return truth


def _background(study: Study) -> Background | None:
    """Return the macromolecules of the protocol's sample."""
    sample = study.protocol.sample
    stated = (sample.macromolecule_concentration_mm, sample.macromolecule_t1_s, sample.macromolecule_t2_s)
    concentration_mm, t1_s, t2_s = stated
    if sample.macromolecules == "none" or concentration_mm is None or t1_s is None or t2_s is None:
        return None
    return Background(
        peaks=library.macromolecule_peaks(sample.macromolecules),
        concentration_mm=concentration_mm,
        relaxation=Relaxation(t1_s=t1_s, t2_s=t2_s),
    )


def truth_path(raw_path: Path) -> Path:
    """Return where the truth of a simulated scan lies: beside its raw data."""
    return raw_path.with_name(raw_path.name.split(".")[0] + "_truth.json")


def read_truth(path: Path, raw_path: Path) -> dict[str, dict[str, float]]:
    """Return the truth of a simulated scan by metabolite.

    Raises:
        InputError: If the file cannot be read or belongs to other raw data.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sha256, metabolites = content["raw_sha256"], content["metabolites"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"Cannot read the truth of the simulated scan in {path}: {error!r}. Simulate again."
        ) from error
    if sha256 != sha256_file(raw_path):
        raise InputError(f"{path} is not the truth of {raw_path}: the raw data have another SHA-256. Simulate again.")
    result: dict[str, dict[str, float]] = metabolites
    return result


def require_own_seq(study: Study, seq_path: Path) -> SeqFile:
    """Read a `.seq` and refuse it if it was built from another protocol.

    Raises:
        InputError: Naming both files.
    """
    seq = read_seq(seq_path)
    made_from = seq.definitions.get("seqgen_protocol_sha256")
    if made_from != study.source.sha256:
        stated = f"{made_from[:12]}..." if made_from else "missing"
        raise InputError(
            f"{seq_path} was not built from {study.path}: its seqgen_protocol_sha256 is {stated}, the protocol's "
            f"SHA-256 {study.source.sha256[:12]}... "
            "Build it again with `seqgen build`, or give the protocol it was built from."
        )
    return seq


def _dwell_s(seq: SeqFile) -> float:
    """Return the dwell time of the file's readouts."""
    return next(block.adc.dwell_s for block in seq.blocks if block.adc is not None)


def convert_raw(raw: Path, seq: Path, output: Path, *, time: str, **options: Any) -> tuple[Path, Path | None]:
    """Convert raw data and write NIfTI-MRS: the metabolite scan and, where there is one, the water reference.

    Args:
        raw: Siemens twix or ISMRMRD.
        seq: The `.seq` that ran.
        output: NIfTI-MRS of the metabolite scan; the water reference gets `_water` added to its name.
        time: Time for the record, ISO 8601.
        options: Passed to `seqgen.mrs.convert.convert`.
    """
    converted = convert(raw, seq, time=time, **options)
    write_nifti_mrs(converted.metabolite, output)
    if converted.water_reference is None:
        return output, None
    water = water_path(output)
    write_nifti_mrs(converted.water_reference, water)
    return output, water


def water_path(path: Path) -> Path:
    """Return the name of the water reference that belongs to a NIfTI-MRS file.

    Example:
        >>> water_path(Path("data.nii.gz")).name
        'data_water.nii.gz'
    """
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    return path.with_name(path.name.replace(stem, stem + "_water", 1))
