"""Waveforms of files as starts of the optimiser."""

from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from seqgen.axes import ppm_to_hz
from seqgen.design.artefact import load_design
from seqgen.design.problem import STARTS
from seqgen.errors import InputError
from seqgen.pipeline.study import Study
from seqgen.pulse.waveform import RFPulse
from seqgen.simulation_file import read_waveform


def start_files(study: Study) -> dict[str, Path]:
    """Return the files that the design names as starts, by their names in the protocol; paths count from its folder."""
    names = (name for name in study.protocol.design.start_names if name not in STARTS)
    return {name: study.path.parent / name for name in names}


def start_pulses(study: Study) -> dict[str, list[RFPulse]]:
    """Read them: a design (.json), arrays (.npz: b1_hz, dwell_s) or a table (.csv: t_start_s,amp_Hz,phase_rad).

    A design of several waveforms gives all of them, as they are played.

    Arrays and tables are in the frame of the design's carrier. A table's samples share the duration of the pulse.

    Raises:
        InputError: If a file is missing or none of these.
    """
    return {name: _read(path, study) for name, path in start_files(study).items()}


def _read(path: Path, study: Study) -> list[RFPulse]:
    """Return the pulses of a file."""
    protocol, spec = study.protocol, study.protocol.design
    if path.suffix.lower() == ".json":
        return [replace(pulse, name=path.name) for pulse in load_design(path).pulses]
    carrier_hz = ppm_to_hz(spec.carrier_ppm, protocol.spectrometer_frequency_hz, protocol.water_shift_ppm)
    if path.suffix.lower() == ".npz":
        b1_hz, dwell_s = _arrays(path)
    else:
        b1_hz, dwell_s = _table(path, spec.duration_s)
    return [RFPulse(b1_hz=b1_hz, dwell_s=dwell_s, carrier_offset_hz=carrier_hz, name=path.name)]


def _arrays(path: Path) -> tuple[torch.Tensor, float]:
    """Return waveform and dwell of an npz file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return torch.as_tensor(file["b1_hz"].astype(np.complex128)), float(file["dwell_s"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InputError(
            f"start: {path} cannot be read as an .npz file with the arrays b1_hz (complex, Hz) and dwell_s ({error}). "
            "Check the path, or write it with numpy.savez(path, b1_hz=..., dwell_s=...)."
        ) from error


def _table(path: Path, duration_s: float) -> tuple[torch.Tensor, float]:
    """Return waveform and dwell of a CSV file whose rows share the duration."""
    try:
        rows = sum(bool(line.strip()) for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines())
    except OSError as error:
        raise InputError(f"start: {path} cannot be read ({error.strerror}). Check the path.") from error
    dwell_s = duration_s / max(1, rows - 1)
    try:
        return read_waveform(path, dwell_s).b1_hz, dwell_s
    except InputError as error:
        raise InputError(f"start: its samples must share the {duration_s * 1e3:g} ms of the pulse: {error}") from error
