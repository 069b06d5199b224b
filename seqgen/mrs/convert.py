"""Raw data and the `.seq` that ran to NIfTI-MRS data: what the scanner stored, told by what the sequence did.

The raw file gives samples, frequency, place and the signature of the sequence; the `.seq` gives dwell time, echo time,
flip angle, TR, labels, and where among the samples the echo falls. What an operator typed is not copied.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from seqgen.axes import NIFTI_REFERENCE_PPM_1H, FloatArray, hz_to_ppm
from seqgen.errors import InputError
from seqgen.mrs.data import MRSData
from seqgen.mrs.mrd import POSITIVE_SENSE, read_mrd
from seqgen.mrs.raw import Place, RawScan
from seqgen.mrs.readouts import Readouts, describe_readouts, localised_axes, split_shots
from seqgen.mrs.twix import read_twix
from seqgen.provenance import Provenance, source
from seqgen.seqfile.cycle import editing_conditions
from seqgen.seqfile.reader import SeqFile, Shot, read_seq, shots

_LOG = logging.getLogger(__name__)
_UNLOCALISED_M: Final = 10.0
"""Extent that NIfTI-MRS asks for along a direction in which nothing selects."""
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TWIX_SENSE = (
    "samples as stored are in the sense ppm = reference + f/f0: vendor twix data are (their complex conjugate matches "
    "the scanner's own DICOM on disk); for Pulseq scans the sense is assumed to be the same"
)
_SAME = 1e-9
"""Spread of a time (s) or an angle (degrees) up to which one value stands for all readouts."""
_STAMP_TOLERANCE = 2e-3
"""Deviation of the TR by time stamps from that of the `.seq` that is worth a warning, relative."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Converted:
    """What a scan was converted to."""

    metabolite: MRSData
    """The readouts that are no reference; all of them if every one is a reference."""
    water_reference: MRSData | None
    """The water reference, None if the sequence has none."""


def convert(
    raw: Path,
    seq: Path,
    *,
    time: str,
    conjugate: bool = False,
    reference_ppm: float | None = None,
    reference_set: int | None = None,
    allow_unproven: bool = False,
) -> Converted:
    """Convert raw data of a Pulseq scan, told apart by content: ISMRMRD (HDF5) or Siemens twix.

    The dims of the data are DIM_COIL (left out for one coil) and DIM_DYN (left out for one readout).

    Args:
        raw: Raw data.
        seq: The `.seq` that ran.
        time: Time that the record of processing gives, ISO 8601.
        conjugate: Take the complex conjugate of the stored samples. By default they are taken as they are: the sense of
            vendor twix data, and of the MRD files that state theirs.
        reference_ppm: Chemical shift at the spectrometer frequency, ppm. By default the one that the `.seq` states
            (seqgen_reference_ppm); for a foreign 1H sequence 4.65, recorded as an assumption.
        reference_set: Value of the label SET at water references, for sequences that do not use the label REF.
        allow_unproven: Accept a pair that cannot be checked because one of the files carries no signature.

    Raises:
        InputError: If a file cannot be used, the `.seq` is not the one that ran, the pair cannot be proven, or numbers
            of readouts or samples differ.
    """
    if not raw.is_file():
        raise InputError(f"Cannot read {raw}: there is no such file, or it is a folder. Check the path.")
    with raw.open("rb") as file:
        is_mrd = file.read(8) == _HDF5
    scan = read_mrd(raw) if is_mrd else read_twix(raw)
    return _converted(scan, seq, time, conjugate, reference_ppm, reference_set, allow_unproven)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Context:
    """What all parts of one conversion share."""

    scan: RawScan
    seq: SeqFile
    time: str
    conjugate: bool
    reference_ppm: float
    affine_m: FloatArray | None
    header: dict[str, Any]
    user: dict[str, Any]


def _converted(
    scan: RawScan,
    seq_path: Path,
    time: str,
    conjugate: bool,
    reference_ppm: float | None,
    reference_set: int | None,
    allow_unproven: bool,
) -> Converted:
    """Convert readouts with their sequence."""
    seq = read_seq(seq_path)
    pairing = _pairing(scan, seq, seq_path, allow_unproven)
    metabolite, water, noise = split_shots(shots(seq), reference_set)
    order = {shot.index: k for k, shot in enumerate(sorted((*metabolite, *water), key=lambda shot: shot.index))}
    _require_matching(scan, seq, metabolite + water, len(noise))
    reference, reference_source = _reference(seq, scan, reference_ppm)
    affine_m, place_note = _affine(scan, seq, metabolite + water)
    context = _Context(
        scan=scan,
        seq=seq,
        time=time,
        conjugate=conjugate,
        reference_ppm=reference,
        affine_m=affine_m,
        header={
            **scan.header,
            "SequenceName": seq.definitions.get("Name") or seq.name,
            "ConversionMethod": f"seqgen v{version('seqgen')}",
            "ConversionTime": time,
            "OriginalFile": [scan.path.name, seq.name],
        },
        user={
            "seq_name": seq.name,
            "seq_sha256": seq.sha256,
            "seq_signature": seq.signature or "none",
            "pairing": pairing,
            "conjugation": _conjugation(scan, conjugate),
            "reference_ppm_source": reference_source,
            "place": place_note,
            "noise_readouts_left_out": scan.n_noise,
            **scan.user,
            "provenance": Provenance(made_from={"raw": source(scan.path), "seq": source(seq_path)}).to_json(),
        },
    )
    if not metabolite or not water:
        kind = metabolite or water
        return Converted(metabolite=_data(context, kind, order, is_water=not metabolite), water_reference=None)
    return Converted(
        metabolite=_data(context, metabolite, order, is_water=False),
        water_reference=_data(context, water, order, is_water=True),
    )


def _pairing(scan: RawScan, seq: SeqFile, seq_path: Path, allow_unproven: bool) -> str:
    """Return how the pair was proven, or refuse it."""
    if scan.seq_signature and seq.signature:
        if scan.seq_signature == seq.signature:
            return f"proven by {scan.pairing_field}"
        stated, own, kind = scan.seq_signature, seq.signature, "signature"
    elif scan.seq_sha256:
        if scan.seq_sha256 == seq.sha256:
            return "proven by seq_sha256"
        stated, own, kind = scan.seq_sha256, seq.sha256, "SHA-256"
    elif allow_unproven:
        return "not checked"
    else:
        missing = f"{seq_path} carries no signature" if scan.seq_signature else f"{scan.path} states none"
        raise InputError(
            f"Nothing shows that {scan.path} was acquired with {seq_path}: {missing}. Export the sequence with its "
            "signature; or, sure of the pair, allow an unproven one: it will be recorded as not checked."
        )
    raise InputError(
        f"{seq_path} is not the sequence that {scan.path} was acquired with: its {kind} is {own}, but the raw file "
        f"states {stated} ({scan.pairing_field}). Give the .seq that ran."
    )


def _require_matching(scan: RawScan, seq: SeqFile, kept: Sequence[Shot], n_noise: int) -> None:
    """Refuse a raw file whose readouts are not those of the sequence."""
    n_readouts, _, n_samples = scan.samples.shape
    if n_readouts != len(kept):
        raise InputError(
            f"{scan.path} has {n_readouts} readouts that it does not mark as noise, but {seq.name} plays {len(kept)} "
            f"that take no noise{f' and {n_noise} that do' if n_noise else ''}. The scan was stopped early, noise is "
            "not marked in the raw file, or the files do not belong together: give the raw data of the whole scan."
        )
    for shot in kept:
        if shot.readout.n_samples != n_samples:
            raise InputError(
                f"{scan.path} has {n_samples} samples in each readout, but readout {shot.index + 1} of {seq.name} "
                f"takes {shot.readout.n_samples}. Give the .seq that ran."
            )
        if scan.dwell_s is not None and abs(scan.dwell_s / shot.readout.dwell_s - 1) > 1e-6:
            raise InputError(
                f"{scan.path} states a dwell time of {scan.dwell_s * 1e6:.6g} us, but readout {shot.index + 1} of "
                f"{seq.name} has {shot.readout.dwell_s * 1e6:.6g} us. Give the .seq that ran."
            )


def _reference(seq: SeqFile, scan: RawScan, argument: float | None) -> tuple[float, str]:
    """Return (chemical shift at the spectrometer frequency in ppm, where it comes from)."""
    stated = seq.definition_numbers("seqgen_reference_ppm")
    if stated is not None:
        if argument is not None and abs(argument - stated[0]) > 1e-9:
            raise InputError(
                f"reference_ppm is given as {argument}, but {seq.name} states seqgen_reference_ppm {stated[0]}: pulses "
                "were placed with that. Leave the argument out."
            )
        return stated[0], "definition seqgen_reference_ppm of the .seq"
    if argument is not None:
        return argument, "given by the user"
    if scan.nucleus != "1H":
        raise InputError(
            f"{seq.name} states no chemical shift for the spectrometer frequency of {scan.nucleus}. Give reference_ppm."
        )
    return NIFTI_REFERENCE_PPM_1H, "assumed: the spectrometer stood on water at 37 C"


def _conjugation(scan: RawScan, conjugate: bool) -> str:
    """Return the record of how the sense of rotation was settled."""
    if conjugate:
        return "the complex conjugate of the stored samples was taken, as the user asked"
    if scan.pairing_field == "tSequenceVariant":
        return f"none: {_TWIX_SENSE}"
    if scan.sense == POSITIVE_SENSE:
        return f"none: the file states its sense ({scan.sense})"
    return "none: the file does not state its sense; assumed positive, ppm = reference + f/f0"


def _affine(scan: RawScan, seq: SeqFile, kept: Sequence[Shot]) -> tuple[FloatArray | None, str]:
    """Return (voxel to scanner affine in m or None, where it comes from).

    Size: VoxelSize of the `.seq`; else what the raw file prescribes along the axes that the pulses select, and 10 m
    along the others. Place: the raw file; without one the VoxelPosition and VoxelRotation of the `.seq`, whose gradient
    axes are then taken for right, anterior, superior. In a raw file's place the sense of the sequence's axes is not
    known, so a voxel that the sequence itself shifts or turns cannot be placed there.
    """
    size = seq.definition_numbers("VoxelSize")
    shift = seq.definition_numbers("VoxelPosition") or (0.0, 0.0, 0.0)
    turn = seq.definition_numbers("VoxelRotation") or tuple(np.eye(3).reshape(-1).tolist())
    if len(shift) != 3 or len(turn) != 9 or (size is not None and len(size) != 3):
        raise InputError(
            f"{seq.name}: VoxelSize and VoxelPosition need 3 numbers and VoxelRotation 9. Write the sequence again."
        )
    rotation = np.array(turn).reshape(3, 3)
    place = scan.place
    if place is None:
        if size is None:
            return None, f"unknown: {scan.place_note}, nor does the .seq state VoxelSize"
        affine = _assembled(rotation, np.array(size), np.array(shift))
        return affine, "VoxelSize, VoxelPosition, VoxelRotation of the .seq, its gradient axes taken for R, A, S"
    if scan.pairing_field != "tSequenceVariant":
        return _assembled(place.axes, place.size_m, place.centre_m), scan.place_note
    if any(shift) or abs(abs(rotation) - abs(rotation).round()).max() > 1e-6:
        note = (
            "unknown: the .seq shifts or turns the voxel itself, and the sense of its axes on this console is unknown"
        )
        _LOG.warning("%s: place of the voxel %s.", scan.path.name, note)
        return None, note
    return _placed(place, size, rotation, localised_axes(kept)), scan.place_note


def _placed(
    place: Place, size: tuple[float, ...] | None, rotation: FloatArray, localised: tuple[bool, bool, bool]
) -> FloatArray:
    """Return the affine of a voxel that stands in the middle of the prescribed volume, along its axes."""
    if size is not None:
        return _assembled(place.axes @ rotation, np.array(size), place.centre_m)
    return _assembled(place.axes, np.where(localised, place.size_m, _UNLOCALISED_M), place.centre_m)


def _assembled(axes: FloatArray, size_m: FloatArray, centre_m: FloatArray) -> FloatArray:
    """Return a 4 x 4 affine from unit axes in columns, sizes and centre."""
    affine = np.eye(4)
    affine[:3, :3] = axes * size_m
    affine[:3, 3] = centre_m
    return affine


def _data(context: _Context, kind: Sequence[Shot], order: dict[int, int], *, is_water: bool) -> MRSData:
    """Return the data of the readouts of one kind."""
    scan = context.scan
    readouts = describe_readouts(context.seq, kind)
    rows = [order[index] for index in readouts.index]
    conditions = _conditions(kind)
    taken = np.array([[order[shot.index] for shot in condition] for condition in conditions])
    samples = scan.samples[taken][..., readouts.n_cut :].transpose(3, 2, 1, 0)  # samples, coils, averages, conditions
    samples = samples.conj() if context.conjugate else samples
    together = _shots_together(context.seq, samples.shape[2])
    samples = samples.reshape(*samples.shape[:2], -1, together, samples.shape[3]).mean(3)
    tags = ("DIM_COIL", "DIM_DYN", "DIM_EDIT")
    dims = tuple(tag for tag, n in zip(tags, samples.shape[1:], strict=True) if n > 1)
    keep = tuple(slice(None) if n > 1 else 0 for n in samples.shape[1:])
    receiver_ppm = hz_to_ppm(readouts.receiver_hz, scan.spectrometer_frequency_hz, 0.0)
    first = [[shot.index for shot in condition[::together]] for condition in conditions]
    header = {**context.header, **_acquisition(readouts, dims, first)}
    if "DIM_EDIT" in dims:
        header |= _edit_header(dims, conditions, readouts)
    if readouts.receiver_hz:
        header["RxOffset"] = receiver_ppm
    if is_water:
        header["WaterSuppressed"] = False
    applied = [_cut_record(readouts, context.time)] if readouts.n_cut else []
    applied += [_added_record(together, context.time)] if together > 1 else []
    if applied:
        header["ProcessingApplied"] = applied
    header["seqgen"] = {
        **context.user,
        "samples_removed_before_echo": readouts.n_cut,
        "first_sample_offset_s": round(float(readouts.first_sample_s[0]), 10) + 0.0,
        **_time_stamps(context, readouts, rows),
    }
    return MRSData(
        fid=np.ascontiguousarray(samples[(slice(None), *keep)]),
        dims=dims,
        dwell_s=readouts.dwell_s,
        spectrometer_frequency_hz=scan.spectrometer_frequency_hz,
        nucleus=scan.nucleus,
        reference_ppm=context.reference_ppm + receiver_ppm,
        affine_m=context.affine_m,
        header=header,
    )


def _conditions(kind: Sequence[Shot]) -> list[list[Shot]]:
    """Return the shots by editing condition (label SET of files that state steps), or all in one."""
    values = editing_conditions(kind)
    conditions = [[shot for shot in kind if shot.labels.get("SET", 0) == value] for value in values]
    alike = len(values) > 1 and len({len(shots) for shots in conditions}) == 1
    return conditions if alike and sum(map(len, conditions)) == len(kind) else [list(kind)]


def _edit_header(dims: tuple[str, ...], conditions: Sequence[Sequence[Shot]], readouts: Readouts) -> dict[str, Any]:
    """Return the header keys of the editing dimension: label SET, and what differs between the conditions alone."""
    number = 5 + dims.index("DIM_EDIT")
    series = _series(readouts, [[shot.index for shot in shots] for shots in conditions])
    own = {key: values[:, 0].tolist() for key, values in series.items() if _differs_by_condition(values)}
    return {
        f"dim_{number}_info": "Editing conditions: Pulseq label SET, in MEGA-PRESS 0 is ON and 1 is OFF",
        f"dim_{number}_header": {
            "PulseqLabelSET": {
                "Value": [shots[0].labels.get("SET", 0) for shots in conditions],
                "Description": "Pulseq label SET at the readout",
            },
            **own,
        },
    }


def _series(readouts: Readouts, index: Sequence[Sequence[int]]) -> dict[str, FloatArray]:
    """Return times and angles of readouts by header key, shape (n_conditions, n_readouts of each).

    Args:
        readouts: All readouts.
        index: Positions in the file of the readouts of every editing condition.
    """
    chosen = np.array([[readouts.index.index(number) for number in row] for row in index])
    series: dict[str, FloatArray] = {
        "AcquisitionStartTime": readouts.first_sample_s[chosen].round(10) + 0.0,  # no minus zero
        "ExcitationFlipAngle": readouts.flip_angle_deg[chosen].round(2),
    }
    if readouts.echo_time_s is not None:
        series["EchoTime"] = readouts.echo_time_s[chosen].round(9)
    return series


def _differs_by_condition(values: FloatArray) -> bool:
    """Return whether values of shape (n_conditions, n_readouts) differ between conditions, and only between them."""
    return bool((np.ptp(values, axis=1) < _SAME).all() and np.ptp(values) >= _SAME)


def _acquisition(readouts: Readouts, dims: tuple[str, ...], index: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the header keys of times, angles and labels; what differs between readouts goes along DIM_DYN.

    What differs between editing conditions alone is left to `_edit_header`.

    Args:
        readouts: All readouts.
        dims: Dimensions of the data.
        index: Positions in the file of the readouts of every editing condition. Along DIM_DYN those of the first stand
            for all.
    """
    series = _series(readouts, index)
    chosen = [readouts.index.index(number) for number in index[0]]
    header: dict[str, Any] = {key: float(values[0, 0]) for key, values in series.items() if np.ptp(values) < _SAME}
    varying: dict[str, Any] = {
        key: values[0].tolist()
        for key, values in series.items()
        if key not in header and not _differs_by_condition(values)
    }
    for label, values in readouts.labels.items():
        own = [values[k] for k in chosen]
        if len(set(own)) > 1:
            varying[f"PulseqLabel{label}"] = {"Value": own, "Description": f"Pulseq label {label} at the readout"}
    if readouts.repetition_time_s is not None:
        header["RepetitionTime"] = readouts.repetition_time_s
    if varying and "DIM_DYN" in dims:
        header[f"dim_{5 + dims.index('DIM_DYN')}_header"] = varying
    return header


def _shots_together(seq: SeqFile, n_averages: int) -> int:
    """Return how many successive readouts are one acquisition (seqgen_shots_together of the `.seq`, 2 for ISIS)."""
    stated = seq.definition_numbers("seqgen_shots_together")
    if stated is None:
        return 1
    together = round(stated[0]) if len(stated) == 1 else 0
    if together < 1 or n_averages % together:
        raise InputError(
            f"{seq.name} states seqgen_shots_together {stated}, which does not divide its {n_averages} readouts of a "
            "kind. Build the sequence again."
        )
    return together


def _added_record(together: int, time: str) -> dict[str, str]:
    """Return the ProcessingApplied entry of shots that are one acquisition."""
    return {
        "Time": time,
        "Program": "seqgen",
        "Version": version("seqgen"),
        "Method": "Addition of ISIS steps",
        "Details": f"mean of every {together} successive readouts, which together localise",
    }


def _cut_record(readouts: Readouts, time: str) -> dict[str, str]:
    """Return the ProcessingApplied entry of the samples that were left out before the echo."""
    return {
        "Time": time,
        "Program": "seqgen",
        "Version": version("seqgen"),
        "Method": "Removal of samples before the echo",
        "Details": (
            f"{readouts.n_cut} of {readouts.n_samples} samples removed; the first one kept is "
            f"{readouts.first_sample_s[0] * 1e6:+.3f} us from the echo"
        ),
    }


def _time_stamps(context: _Context, readouts: Readouts, rows: list[int]) -> dict[str, float]:
    """Return the TR by the time stamps of the raw file, and warn if the interpreter took another than the `.seq`."""
    stamps = context.scan.time_stamp_s
    if stamps is None or readouts.repetition_time_s is None:
        return {}
    planned_s = float(readouts.excitation_s[-1] - readouts.excitation_s[0]) / (len(rows) - 1)
    measured_s = float(stamps[rows[-1]] - stamps[rows[0]]) / (len(rows) - 1)
    if abs(measured_s / planned_s - 1) > _STAMP_TOLERANCE:
        _LOG.warning(
            "%s: successive readouts are %.4f s apart by their time stamps, but %.4f s in %s.",
            context.scan.path.name,
            measured_s,
            planned_s,
            context.seq.name,
        )
    return {"repetition_time_by_time_stamps_s": round(measured_s, 6)}
