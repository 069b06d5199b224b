"""`seqgen basis`, `process` and `fit`: from the `.seq` and its data to concentrations."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from seqgen.errors import InputError
from seqgen.mrs.basis import Basis, load_basis, save_basis
from seqgen.mrs.basis_simulation import simulate_basis, simulate_fid
from seqgen.mrs.data import MRSData, condition_of, one_condition
from seqgen.mrs.fit import fit
from seqgen.mrs.fit_result import FitResult, save_fit
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.mrs.phantom import water_system
from seqgen.mrs.process import ProcessSettings, process
from seqgen.mrs.quantify import WaterCompartment, WaterReference, quantify, water_amplitude
from seqgen.mrs.readouts import describe_readouts, split_shots
from seqgen.pipeline.scan import require_own_seq, water_path
from seqgen.pipeline.study import Reporter, Study
from seqgen.provenance import Provenance, Source, source, write_json
from seqgen.seqfile.cycle import editing_conditions, phase_cycle
from seqgen.seqfile.reader import SeqFile
from seqgen.seqfile.shots import shots
from seqgen.simulate.pathways import principal_echo
from seqgen.spin.system import Relaxation


def make_basis(study: Study, seq_path: Path, path: Path, reporter: Reporter, *, condition: int | None = None) -> Basis:
    """Simulate the sample's metabolites through a `.seq`, one editing condition of it, and write the basis set."""
    seq = require_own_seq(study, seq_path)
    basis = simulate_basis(
        seq,
        study.systems,
        spectrometer_frequency_hz=study.protocol.spectrometer_frequency_hz,
        reference_ppm=study.protocol.water_shift_ppm,
        provenance=Provenance(made_from={"protocol": study.source, "seq": source(seq_path)}),
        condition=condition,
        progress=reporter.progress("Basis set"),
    )
    save_basis(basis, path)
    return basis


def process_data(
    data_path: Path, output: Path, settings: ProcessSettings, *, time: str, condition: int | None = None
) -> dict[str, Any]:
    """Process a NIfTI-MRS file (and the water reference beside it, if there is one) to one spectrum.

    Of data with several editing conditions one is taken (label SET).

    Returns:
        The quality record, which is written beside the output as JSON.
    """
    data = one_condition(read_nifti_mrs(data_path), condition)
    water = _water_beside(data_path, data)
    inputs = {"data": source(data_path)} | ({"water": source(water_path(data_path))} if water is not None else {})
    for name in ("raw", "seq"):
        inputs |= _carried(data, name)
    processed = process(data, water, settings, time=time)
    write_nifti_mrs(_stamped(processed.data, inputs), output)
    if processed.water is not None:
        write_nifti_mrs(_stamped(processed.water, inputs), water_path(output))
    quality = {"file": output.name, "settings": asdict(settings), **processed.quality}
    write_json(quality_path(output), quality)
    return quality


def _water_beside(data_path: Path, data: MRSData) -> MRSData | None:
    """Return the water reference that lies beside data, None if there is none.

    Raises:
        InputError: If it was made from other files than the data: one that an earlier scan left under the same name.
    """
    path = water_path(data_path)
    if not path.exists():
        return None
    water = read_nifti_mrs(path)
    if data_provenance(water).made_from != data_provenance(data).made_from:
        raise InputError(
            f"{path} lies beside {data_path}, but is not its water reference: the two were made from different files. "
            "Move it away, or make both again from one scan."
        )
    return water


def quality_path(processed: Path) -> Path:
    """Return where the quality record of a processed file lies."""
    return processed.with_name(processed.name.removesuffix(".gz").removesuffix(".nii") + "_quality.json")


def _carried(data: MRSData, role: str) -> dict[str, Source]:
    """Return the source of a role from the provenance in a header, if it is there."""
    provenance = data_provenance(data)
    return {role: provenance.made_from[role]} if role in provenance.made_from else {}


def data_provenance(data: MRSData) -> Provenance:
    """Return the provenance that stands in a header; an empty one if none does."""
    record = data.header.get("seqgen", {}).get("provenance", {})
    return Provenance.from_json(record if isinstance(record, dict) else {})


def _stamped(data: MRSData, inputs: dict[str, Source]) -> MRSData:
    """Return the data with a new provenance in the header."""
    record = {**data.header.get("seqgen", {}), "provenance": Provenance(made_from=inputs).to_json()}
    return replace(data, header={**data.header, "seqgen": record})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Quantified:
    """A fit with concentrations."""

    fit: FitResult
    """The fit."""
    concentrations: dict[str, dict[str, float]]
    """By metabolite: value_mm and crlb_sd_mm."""


def fit_data(study: Study, data_path: Path, basis_path: Path, seq_path: Path, output: Path) -> Quantified:
    """Fit a processed spectrum with the basis of its own `.seq`; scale to mM by its water reference.

    Raises:
        InputError: If data, basis and `.seq` do not belong together, or data and basis are of different editing
            conditions.
    """
    seq = require_own_seq(study, seq_path)
    basis, data = load_basis(basis_path), read_nifti_mrs(data_path)
    for path, provenance in ((basis_path, basis.provenance), (data_path, data_provenance(data))):
        made_from = provenance.made_from.get("seq")
        if made_from is None or made_from.sha256 != seq.sha256:
            origin = f"{made_from.name} ({made_from.sha256[:12]}...)" if made_from else "a sequence it does not name"
            raise InputError(
                f"{path} was not made from {seq_path} ({seq.sha256[:12]}...), but from {origin}. "
                "Give the .seq that ran, and the basis set simulated from it."
            )
    _require_same_condition(seq, data, data_path, basis, basis_path)
    inputs = {"data": source(data_path), "basis": source(basis_path), "seq": source(seq_path)}
    water = _water_beside(data_path, data)
    if water is not None:
        inputs["water"] = source(water_path(data_path))
    provenance = Provenance(made_from=inputs)
    result = fit(data, basis, study.protocol.fit, macromolecules=study.macromolecule_peaks, provenance=provenance)
    save_fit(result, output)
    concentrations = _concentrations(study, seq, result, basis, water)
    write_json(
        concentrations_path(output),
        {"fit_sha256": source(output).sha256, "status": result.status, "concentrations": concentrations},
    )
    return Quantified(fit=result, concentrations=concentrations)


def _require_same_condition(seq: SeqFile, data: MRSData, data_path: Path, basis: Basis, basis_path: Path) -> None:
    """Refuse data and basis of a file with several editing conditions that are not of the same one."""
    conditions = editing_conditions(shots(seq))
    taken = condition_of(data)
    if len(conditions) == 1 or (taken == basis.condition and taken in conditions):
        return
    own, simulated = ("no condition" if each is None else f"SET {each}" for each in (taken, basis.condition))
    raise InputError(
        f"{data_path} states {own} as its editing condition and {basis_path} {simulated}, but both must be of the same "
        f"one of the conditions that {seq.name} plays (SET {', '.join(map(str, conditions))}). Make both again with "
        "the same number: `seqgen process --condition` and `seqgen basis --condition`."
    )


def concentrations_path(fit_path: Path) -> Path:
    """Return where the concentrations of a fit lie."""
    return fit_path.with_name(fit_path.stem + "_concentrations.json")


def read_concentrations(path: Path, fit_path: Path) -> dict[str, dict[str, float]]:
    """Return the concentrations of a fit.

    Raises:
        InputError: If the file cannot be read or belongs to another fit.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sha256, concentrations = content["fit_sha256"], content["concentrations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"Cannot read the concentrations in {path}: {error!r}. Run `seqgen fit` again.") from error
    if sha256 != source(fit_path).sha256:
        raise InputError(f"{path} does not belong to {fit_path}: the fit has changed. Run `seqgen fit` again.")
    result: dict[str, dict[str, float]] = concentrations
    return result


def _concentrations(
    study: Study, seq: SeqFile, result: FitResult, basis: Basis, measured: MRSData | None
) -> dict[str, dict[str, float]]:
    """Return mM and bounds of every fitted metabolite, or nothing without a water reference."""
    if measured is None:
        return {}
    tr = seq.definition_numbers("TR")
    if tr is None:
        raise InputError(
            f"{seq.name} states no TR in [DEFINITIONS], so saturation cannot be corrected for. Build it again with "
            "`seqgen build`."
        )
    sample = study.protocol.sample
    water = WaterReference(
        amplitude=water_amplitude(measured),
        response=_water_response(study, seq),
        compartments=(
            WaterCompartment(
                name="sample",
                volume_fraction=1.0,
                concentration_mm=sample.water_concentration_mm,
                relaxation=Relaxation(t1_s=sample.water_t1_s, t2_s=sample.water_t2_s),
            ),
        ),
        te_s=principal_echo(phase_cycle(shots(seq), reference=True)).te_s,
        tr_s=tr[0],
    )
    names = [name for name in result.names if name in study.relaxation]
    index = [result.names.index(name) for name in names]
    found = quantify(
        names,
        result.amplitudes[index],
        result.crlb_sd[index],
        water=water,
        relaxation=dict(study.relaxation),
        te_s=basis.te_s,
        tr_s=tr[0],
        relaxation_included=basis.relaxation_included,
    )
    return {
        name: {"value_mm": float(value), "crlb_sd_mm": float(sd)}
        for name, value, sd in zip(found.names, found.value_mm, found.crlb_sd_mm, strict=True)
    }


def _water_response(study: Study, seq: SeqFile) -> float:
    """Return the simulated water signal per proton in the reference shots at their first sample."""
    all_shots = shots(seq)
    water = water_system(study.protocol.water_shift_ppm)
    values = simulate_fid(
        phase_cycle(all_shots, reference=True),
        describe_readouts(seq, split_shots(all_shots, None)[1]),
        water,
        spectrometer_frequency_hz=study.protocol.spectrometer_frequency_hz,
        reference_ppm=study.protocol.water_shift_ppm,
    )
    return float(np.abs(values[0])) / sum(group.n_protons for group in water.groups)
