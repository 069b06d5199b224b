"""What a design depends on: all that tells one design problem from another."""

import json
from dataclasses import asdict, fields
from hashlib import sha256
from typing import Any

from seqgen.design.problem import DesignSpec
from seqgen.pipeline.study import Study
from seqgen.sequence.scan import ScanParams

_SLICES = {"slice_carrier_ppm", "slew_fraction"}
"""Parameters of every scan that shape its slices and crushers."""
_FREE = {field.name for field in fields(ScanParams)} - _SLICES | {"te1_s", "te2_s"}
"""Parameters of sequences that no loss depends on: how often, where, behind which suppression the shot is played, how
it is read out; and echo times, which are the design's."""


def problem_of(study: Study) -> dict[str, Any]:
    """Return all that the loss and the waveform of a design depend on, ready for JSON: value by name, SI.

    Not in it: the scanner (its limits are checked anew wherever a design is used), voxel, averages, suppression and
    readout, the simulated acquisition and the fit. Spin systems and macromolecules are SHA-256 of their tables. The
    frequencies are those of `spectrometer_frequency_hz` and `other_frequencies_hz`, whichever is which.
    """
    protocol, spec = study.protocol, study.protocol.design
    fitted = any(spec.loss.get(name, 0.0) > 0 for name in ("crlb", "correlation"))
    looked_at = dict.fromkeys((spec.target, *spec.interferers, *spec.suppressed))
    names = [name for name in protocol.sample.metabolites if fitted or name in looked_at]
    problem: dict[str, Any] = {
        "frequencies_hz": sorted((protocol.spectrometer_frequency_hz, *spec.other_frequencies_hz)),
        "water_shift_ppm": protocol.water_shift_ppm,
        "sequence.name": protocol.sequence.name,
    }
    for field in fields(DesignSpec):
        if field.name != "other_frequencies_hz":
            problem[f"design.{field.name}"] = getattr(spec, field.name)
    for field in fields(protocol.sequence.params):
        if field.name not in _FREE or (field.name == "tr_s" and spec.equal_scan_time):
            problem[f"sequence.{field.name}"] = getattr(protocol.sequence.params, field.name)
    for name in names:
        if spec.equal_scan_time:
            problem[f"sample.{name}.t1_s"] = study.relaxation[name].t1_s
        problem[f"sample.{name}.t2_s"] = study.relaxation[name].t2_s
        problem[f"sample.{name}.spins"] = _hash([asdict(group) for group in study.systems[name].groups])
    if fitted and study.macromolecule_peaks:
        problem["sample.macromolecules"] = _hash([asdict(peak) for peak in study.macromolecule_peaks])
    plain: dict[str, Any] = json.loads(json.dumps(problem, default=dict))
    return plain


def _hash(content: Any) -> str:
    """Return the SHA-256 of plain values."""
    return sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()
