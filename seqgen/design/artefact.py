"""The design as a file: pulse, timings, what it reaches, what it was made from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seqgen.design.evaluate import Metrics
from seqgen.design.landscape import Landscape
from seqgen.errors import InputError
from seqgen.provenance import Provenance, write_json
from seqgen.pulse.waveform import RFPulse

FORMAT = "seqgen design 1"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Design:
    """A finished design."""

    name: str
    """Name of the protocol."""
    pulse: RFPulse
    """The editing pulse in its carrier frame."""
    te1_s: float
    """First echo time, s."""
    te2_s: float
    """Second echo time, s."""
    receiver_phase_rad: float
    """Receiver phase that puts the target's window into absorption, rad: the signal is multiplied by exp(-i phase)."""
    metrics: Metrics
    """What the sequence with the pulse reaches, on the RF raster as it is written."""
    press_te1_s: float
    """First echo time of the best plain PRESS for the same loss, s."""
    press_te2_s: float
    """Second echo time of it, s."""
    press_metrics: Metrics
    """What that PRESS reaches."""
    history: tuple[tuple[float, ...], ...]
    """Loss after every iteration, one tuple per start, then the last descent."""
    status: str
    """"converged", or why it stopped."""
    spectrometer_frequency_hz: float
    """Spectrometer frequency it was designed for, Hz."""
    reference_ppm: float
    """Shift of water at the sample's temperature, ppm."""
    provenance: Provenance
    """What it was made from."""
    landscape: Landscape | None = None
    """Where the optimiser's starts ended; None where that was not kept."""


def save_design(design: Design, path: Path) -> None:
    """Write a design as JSON, atomically; waveforms in Hz with all digits."""
    b1 = design.pulse.b1_hz
    write_json(
        path,
        {
            "format": FORMAT,
            "name": design.name,
            "te1_s": design.te1_s,
            "te2_s": design.te2_s,
            "receiver_phase_rad": design.receiver_phase_rad,
            "metrics": asdict(design.metrics),
            "press": {
                "te1_s": design.press_te1_s,
                "te2_s": design.press_te2_s,
                "metrics": asdict(design.press_metrics),
            },
            "status": design.status,
            "spectrometer_frequency_hz": design.spectrometer_frequency_hz,
            "reference_ppm": design.reference_ppm,
            "provenance": design.provenance.to_json(),
            "pulse": {
                "dwell_s": design.pulse.dwell_s,
                "carrier_offset_hz": design.pulse.carrier_offset_hz,
                "peak_hz": design.pulse.peak_hz,
                "energy_hz2_s": design.pulse.energy_hz2_s,
                "b1_re_hz": b1.real.tolist(),
                "b1_im_hz": b1.imag.tolist(),
            },
            "history": [list(run) for run in design.history],
        }
        | ({} if design.landscape is None else {"landscape": design.landscape.to_json()}),
    )


def load_design(path: Path) -> Design:
    """Read a design that `save_design` wrote.

    Raises:
        InputError: If the file is missing, truncated, or of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no design file {path}. Check the path, or run `seqgen design` first.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable design file ({error}). Run `seqgen design` again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{path} is not a design file of this version: its format is "
            f"{content.get('format') if isinstance(content, dict) else type(content).__name__!r}, not {FORMAT!r}. "
            "Run `seqgen design` again."
        )
    try:
        return _design(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error!r} in its content. Run `seqgen design` again.") from error


def _design(content: dict[str, Any]) -> Design:
    """Return the design of a file's content."""
    pulse = content["pulse"]
    b1 = torch.complex(
        torch.tensor(pulse["b1_re_hz"], dtype=torch.float64), torch.tensor(pulse["b1_im_hz"], dtype=torch.float64)
    )
    return Design(
        name=content["name"],
        pulse=RFPulse(
            b1_hz=b1,
            dwell_s=float(pulse["dwell_s"]),
            carrier_offset_hz=float(pulse["carrier_offset_hz"]),
            name="edit",
        ),
        te1_s=float(content["te1_s"]),
        te2_s=float(content["te2_s"]),
        receiver_phase_rad=float(content["receiver_phase_rad"]),
        metrics=Metrics(**content["metrics"]),
        press_te1_s=float(content["press"]["te1_s"]),
        press_te2_s=float(content["press"]["te2_s"]),
        press_metrics=Metrics(**content["press"]["metrics"]),
        history=tuple(tuple(map(float, run)) for run in content["history"]),
        status=content["status"],
        spectrometer_frequency_hz=float(content["spectrometer_frequency_hz"]),
        reference_ppm=float(content["reference_ppm"]),
        provenance=Provenance.from_json(content["provenance"]),
        landscape=Landscape.from_json(content["landscape"]) if "landscape" in content else None,
    )
