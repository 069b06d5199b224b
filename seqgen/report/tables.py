"""Tables that every report carries: the provenance chain and the minimum reporting standard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqgen.errors import InputError
from seqgen.provenance import Provenance, Source
from seqgen.report.html import Table

_HARDWARE, _ACQUISITION, _ANALYSIS, _QUALITY = "1 Hardware", "2 Acquisition", "3 Analysis", "4 Quality"

MINIMUM_REPORTING: Mapping[str, tuple[str, str]] = {
    "field_strength": (_HARDWARE, "Field strength"),
    "vendor": (_HARDWARE, "Vendor"),
    "model": (_HARDWARE, "Model and software version"),
    "rf_coil": (_HARDWARE, "RF coil: nucleus, transmit/receive, channels, type, body part"),
    "extra_hardware": (_HARDWARE, "Additional hardware"),
    "sequence": (_ACQUISITION, "Sequence"),
    "voi_position": (_ACQUISITION, "Volume of interest: position"),
    "voi_size": (_ACQUISITION, "Volume of interest: nominal size"),
    "repetition_and_echo_time": (_ACQUISITION, "TR, TE (and TM)"),
    "excitations": (_ACQUISITION, "Excitations or averages per spectrum"),
    "sampling": (_ACQUISITION, "Spectral width, points, frequency offsets"),
    "water_suppression": (_ACQUISITION, "Water suppression"),
    "shimming": (_ACQUISITION, "Shimming: method, reference peak, accepted threshold"),
    "motion_correction": (_ACQUISITION, "Triggering or motion correction"),
    "software": (_ANALYSIS, "Software"),
    "processing": (_ANALYSIS, "Processing steps that deviate from the quoted reference"),
    "output_measure": (_ANALYSIS, "Output measure (ratio, institutional, absolute)"),
    "quantification": (_ANALYSIS, "Quantification reference and assumptions"),
    "fit_model": (_ANALYSIS, "Fitting model and its assumptions"),
    "snr_and_linewidth": (_QUALITY, "SNR and linewidth, with the peak they refer to"),
    "exclusion": (_QUALITY, "Exclusion criteria"),
    "fit_quality": (_QUALITY, "Quality of the fit: CRLB, goodness of fit, residual"),
    "sample_spectrum": (_QUALITY, "Sample spectrum"),
}
"""Key to (heading, item) of the minimum reporting standard, single voxel: Lin et al., NMR Biomed 34:e4484 (2021)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Artefact:
    """A file of the chain."""

    name: str
    """File name."""
    sha256: str
    """SHA-256 of its bytes."""
    provenance: Provenance | None
    """What it was made from; None where the file does not say (a protocol, raw data)."""


def minimum_reporting_table(known: Mapping[str, str]) -> Table:
    """Return the MRSinMRS table: what is known, and "not stated" for the rest.

    Args:
        known: Key of `MINIMUM_REPORTING` to what can be said.

    Raises:
        InputError: If a key is not one of the standard's.
    """
    unknown = [key for key in known if key not in MINIMUM_REPORTING]
    if unknown:
        raise InputError(
            f"The minimum reporting table has no item {', '.join(unknown)}. Use one of {', '.join(MINIMUM_REPORTING)}."
        )
    rows = tuple(
        (heading, item, known.get(key, "").strip() or "not stated")
        for key, (heading, item) in MINIMUM_REPORTING.items()
    )
    return Table(
        header=("Heading", "Item", "Reported"),
        rows=rows,
        caption="Minimum reporting standards in MRS (Lin et al., NMR Biomed 34:e4484, 2021)",
    )


def provenance_table(artefacts: Sequence[Artefact]) -> Table:
    """Return file, SHA-256 and sources of every artefact; a source that is not the file listed here is marked."""
    listed = {artefact.name: artefact.sha256 for artefact in artefacts}
    rows = tuple((artefact.name, artefact.sha256, _made_from(artefact.provenance, listed)) for artefact in artefacts)
    return Table(header=("File", "SHA-256", "Made from"), rows=rows)


def _made_from(provenance: Provenance | None, listed: Mapping[str, str]) -> str:
    """Return one line per source, and the seed."""
    if provenance is None:
        return "not stated"
    lines = [_source_line(role, source, listed) for role, source in provenance.made_from.items()]
    if provenance.seed is not None:
        lines.append(f"seed: {provenance.seed}")
    return "\n".join(lines) or "nothing (a first input)"


def _source_line(role: str, source: Source, listed: Mapping[str, str]) -> str:
    """Return role, name and the first digits of the hash; say so where the file listed under that name differs."""
    line = f"{role}: {source.name} ({source.sha256[:12]}…)"
    if listed.get(source.name, source.sha256) != source.sha256:
        line += " - NOT the file of that name listed here"
    return line
