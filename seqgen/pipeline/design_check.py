"""The limits of a design in the pipeline: derived before the search, verified before its file gets a name."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqgen.design.artefact import Design
from seqgen.design.limits import PulseLimits, pulse_limits, sequence_load
from seqgen.errors import VerificationError
from seqgen.pipeline.study import Study
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.events import SeqFile
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.plugins import DesignedShot
from seqgen.timeline import PulseUse
from seqgen.verify.design_check import DesignLimits, DesignWaveform, check_design
from seqgen.verify.limits import Check

CHANGED = "The file was changed, or another version of seqgen wrote it. Run `seqgen design` again with this protocol."
"""What to do about a design file that is not what its search returned."""
_ELSEWHERE = (
    "It was designed with another protocol of the same problem, whose limits, scanner or TR differ. Change those of "
    "{path}, or run `seqgen design` again with it."
)


def made_with(study: Study, design: Design) -> bool:
    """Return whether a design was made with this very protocol, not with another of the same problem."""
    made_from = design.provenance.made_from.get("protocol")
    return made_from is not None and made_from.sha256 == study.source.sha256


def remedy(study: Study, design: Design) -> str:
    """Return what to do about a design that does not keep the limits or numbers of a protocol of its problem."""
    return CHANGED if made_with(study, design) else _ELSEWHERE.format(path=study.path)


def derived_limits(study: Study, stand_in: RFPulse, te_s: tuple[float, float]) -> PulseLimits:
    """Return the limits of the protocol's editing pulse, B1+rms and SAR of the whole sequence among them.

    Args:
        study: The protocol.
        stand_in: Any pulse of the design's duration.
        te_s: Echo times that can be played, s.

    Raises:
        InputError: If a demand cannot be met, with the nearest feasible value.
        HardwareLimitError: If the rest of the sequence leaves no energy to the pulse.
    """
    protocol = study.protocol
    tr_s = getattr(protocol.sequence.params, "tr_s", None)
    load = None
    # Before anything is built: what the rasters alone refuse.
    limits = pulse_limits(protocol.design, protocol.scanner)
    if tr_s is not None and (study.exposure.b1_rms_max_t is not None or study.exposure.stated_sar):
        built = study.build(study.params_at(*te_s), stand_in)
        load = sequence_load(built, tr_s, _use(study))
        limits = pulse_limits(protocol.design, protocol.scanner, study.exposure, load)
    return limits


def design_checks(study: Study, design: Design, seq: SeqFile) -> tuple[Check, ...]:
    """Return the checks of a design against its protocol, by a file that plays it."""
    protocol, spec = study.protocol, study.protocol.design
    return check_design(
        [
            DesignWaveform(b1_hz=pulse.b1_hz.numpy(), dwell_s=pulse.dwell_s, carrier_offset_hz=pulse.carrier_offset_hz)
            for pulse in design.pulses
        ],
        [(shot.te1_s, shot.te2_s) for shot in design.shots],
        seq,
        protocol.scanner,
        DesignLimits(
            b1_max_hz=spec.b1_max_hz,
            b1_scale=max(spec.b1_scales) if spec.b1_max_at == "largest_scale" else 1.0,
            energy_max_hz2_s=spec.energy_max_hz2_s,
            bandwidth_max_hz=spec.bandwidth_max_hz,
            duration_s=spec.duration_s,
            te_max_s=spec.te_max_s,
            tr_s=getattr(protocol.sequence.params, "tr_s", None),
            zero_ends=spec.parameters == "spline",
            use=_use(study),
        ),
        study.exposure,
    )


def played_design(study: Study, design: Design) -> tuple[Any, RFPulse | None, tuple[DesignedShot, ...]]:
    """Return the parameters, pulse and shots with which a design is built: what `Study.build` takes."""
    first = design.shots[0]
    params = study.params_at(first.te1_s, first.te2_s)
    if len(design.shots) > 1 or len(design.pulses) > 1:
        # Every shot has the receiver phase of the design, in place of the protocol's.
        return replace(params, receiver_phase_rad=0.0), None, design.shots
    return replace(params, receiver_phase_rad=first.receiver_phase_rad), design.pulse, ()


def _use(study: Study) -> PulseUse:
    """Return the use of the designed pulse in a file."""
    return "excitation" if "excitation" in study.protocol.design.places else "preparation"


def _played(study: Study, design: Design) -> SeqFile:
    """Return the protocol's sequence with the design, written and read back."""
    protocol = study.protocol
    built = study.build(*played_design(study, design))
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "design.seq"
        write_seq(
            built.blocks,
            draft,
            scanner=protocol.scanner,
            spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
            definitions=built.definitions,
            seq_format="1.5.0",
            shot_starts=built.shot_starts,
        )
        return read_seq(draft)


def checks_as_played(study: Study, design: Design) -> tuple[Check, ...]:
    """Return the checks of a design against its protocol, by the file that the protocol's sequence makes with it."""
    return design_checks(study, design, _played(study, design))


def require_limits(study: Study, design: Design) -> tuple[Check, ...]:
    """Refuse a design that breaks a limit of its protocol, and return the checks of one that does not.

    Raises:
        VerificationError: Naming every check that failed: the optimiser keeps the limits by construction.
    """
    checks = checks_as_played(study, design)
    failed = failed_text(checks)
    if failed:
        raise VerificationError(
            f"The design was not written: {failed}. The search keeps these limits by construction: this is a bug of "
            "seqgen or of the sequence. Report it."
        )
    return checks


def require_built(study: Study, design: Design, path: Path) -> None:
    """Refuse to build a design file that breaks a limit of its protocol.

    Raises:
        VerificationError: Naming every check that failed.
    """
    failed = failed_text(checks_as_played(study, design))
    if failed:
        raise VerificationError(f"{path} was not built: {failed}. {remedy(study, design)}")


def failed_text(checks: Sequence[Check]) -> str:
    """Return the checks that failed with value and limit; empty if none did."""
    return "; ".join(
        f"{check.name} {'' if check.value is None else format(check.value, '.6g')} {check.unit}, "
        f"limit {'' if check.limit is None else format(check.limit, '.6g')}{f' ({check.note})' if check.note else ''}"
        for check in checks
        if check.status == "failed"
    )
