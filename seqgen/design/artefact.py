"""The design as a file: pulse, timings, what it reaches, what it was made from."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from seqgen.design.evaluate import Metrics
from seqgen.design.landscape import Landscape
from seqgen.errors import InputError
from seqgen.provenance import Provenance, write_json
from seqgen.pulse.waveform import RFPulse
from seqgen.sequence.plugins import DesignedShot

FORMAT = "seqgen design 3"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Design:
    """A finished design."""

    name: str
    """Name of the protocol."""
    shots: tuple[DesignedShot, ...]
    """What every shot plays, pulses in the carrier frame; several take turns."""
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
    problem: Mapping[str, Any]
    """What it is to do and within which limits: plain values by name (`seqgen.pipeline.design_problem.problem_of`)."""
    provenance: Provenance
    """What it was made from."""
    landscape: Landscape | None = None
    """Where the optimiser's starts ended; None where that was not kept."""
    terms: tuple[Mapping[str, tuple[float, ...]], ...] = ()
    """Every term of the loss after every iteration, by name: as `history`."""
    press_optima: tuple[tuple[float, float, float], ...] = ()
    """(TE1 in s, TE2 in s, loss) of every local optimum of plain PRESS that was found, the best first."""
    combine: str = "joint"
    """What is made of several shots (`DesignSpec.combine`)."""

    @property
    def pulses(self) -> tuple[RFPulse, ...]:
        """Every designed waveform, shot by shot in the order of places; one at several places counts once."""
        return tuple(pulse for shot in self.shots for _, pulse in waveforms(shot))

    @property
    def pulse(self) -> RFPulse:
        """The first designed pulse."""
        return self.pulses[0]

    @property
    def te1_s(self) -> float:
        """First echo time of the first shot, s."""
        return self.shots[0].te1_s

    @property
    def te2_s(self) -> float:
        """Second echo time of the first shot, s."""
        return self.shots[0].te2_s

    @property
    def baseline_name(self) -> str:
        """What the design is compared with: "TE-optimised PRESS", or "Hard pulse" where a pulse is all there is."""
        return "TE-optimised PRESS" if self.press_te1_s > 0 else "Hard pulse"


def waveforms(shot: DesignedShot) -> list[tuple[tuple[str, ...], RFPulse]]:
    """Return the waveforms of a shot, each with the places at which it is played."""
    found: list[tuple[tuple[str, ...], RFPulse]] = []
    for place, pulse in shot.pulses.items():
        for k, (places, known) in enumerate(found):
            if known is pulse or torch.equal(known.b1_hz, pulse.b1_hz):
                found[k] = ((*places, place), known)
                break
        else:
            found.append(((place,), pulse))
    return found


def design_text(design: Design) -> str:
    """Return for a terminal what a design reaches beside the best plain sequence, and its pulses."""
    first, *others = design.shots
    lines = [
        f"{'':18} {'TE1 (ms)':>9} {'TE2 (ms)':>9} {'signal':>8} {'contamination':>14} "
        f"{'of areas: signal':>17} {'contamination':>14} {'loss':>9}",
        _reached_text("design", first.te1_s, first.te2_s, design.metrics),
        *(f"{f'  shot {k}':18} {x.te1_s * 1e3:9.2f} {x.te2_s * 1e3:9.2f}" for k, x in enumerate(others, 2)),
        _reached_text(design.baseline_name, design.press_te1_s, design.press_te2_s, design.press_metrics),
    ]
    ratio = {name: bound / design.press_metrics.bounds[name] for name, bound in design.metrics.bounds.items()}
    if ratio:
        each = ", ".join(f"{name} {value:.4f}" for name, value in ratio.items())
        lines.append(f"Cramer-Rao bounds over those of plain PRESS: {each}; product {math.prod(ratio.values()):.4f}")
    optima = ", ".join(f"{a * 1e3:.1f} + {b * 1e3:.1f} ({loss:.3f})" for a, b, loss in design.press_optima[1:4])
    if optima:
        lines.append(f"Other optima of PRESS, TE1 + TE2 in ms (loss): {optima}")
    lines += [f"Pulse: peak {pulse.peak_hz:.4f} Hz, energy {pulse.energy_hz2_s:.3f} Hz^2 s" for pulse in design.pulses]
    return "\n".join(lines) + f"; {design.status}"


def _reached_text(name: str, te1_s: float, te2_s: float, metrics: Metrics) -> str:
    """Return a row of `design_text`."""
    areas = (metrics.area_signal, metrics.area_contamination)
    by_signal, by_contamination = ("-" if value is None else f"{value:.4f}" for value in areas)
    row = (
        f"{name:18} {te1_s * 1e3:9.2f} {te2_s * 1e3:9.2f} {metrics.signal:8.4f} {metrics.contamination:14.4f} "
        f"{by_signal:>17} {by_contamination:>14} {metrics.loss:9.4f}"
    )
    if metrics.overlap is None or metrics.overlap_maximum is None:
        return row
    ratio = metrics.overlap / metrics.overlap_maximum
    return f"{row}  overlap {metrics.overlap:.4f} of at most {metrics.overlap_maximum:.4f} ({ratio:.4f})"


def save_design(design: Design, path: Path) -> None:
    """Write a design as JSON, atomically; waveforms in Hz with all digits."""
    write_json(
        path,
        {
            "format": FORMAT,
            "name": design.name,
            "combine": design.combine,
            "metrics": asdict(design.metrics),
            "press": {
                "te1_s": design.press_te1_s,
                "te2_s": design.press_te2_s,
                "metrics": asdict(design.press_metrics),
                "optima": [list(optimum) for optimum in design.press_optima],
            },
            "status": design.status,
            "spectrometer_frequency_hz": design.spectrometer_frequency_hz,
            "reference_ppm": design.reference_ppm,
            "problem": dict(design.problem),
            "provenance": design.provenance.to_json(),
            "shots": [_shot_to_json(shot) for shot in design.shots],
            "history": [list(run) for run in design.history],
            "terms": [{name: list(values) for name, values in run.items()} for run in design.terms],
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


def _shot_to_json(shot: DesignedShot) -> dict[str, Any]:
    """Return a JSON-ready dict."""
    return {
        "te1_s": shot.te1_s,
        "te2_s": shot.te2_s,
        "receiver_phase_rad": shot.receiver_phase_rad,
        "pulses": [
            {
                "places": list(places),
                "dwell_s": pulse.dwell_s,
                "carrier_offset_hz": pulse.carrier_offset_hz,
                "peak_hz": pulse.peak_hz,
                "energy_hz2_s": pulse.energy_hz2_s,
                "b1_re_hz": pulse.b1_hz.real.tolist(),
                "b1_im_hz": pulse.b1_hz.imag.tolist(),
            }
            for places, pulse in waveforms(shot)
        ],
    }


def _optimum(content: list[float]) -> tuple[float, float, float]:
    """Return (TE1, TE2, loss) of a list."""
    te1_s, te2_s, loss = map(float, content)
    return te1_s, te2_s, loss


def _shot(content: dict[str, Any]) -> DesignedShot:
    """Return the shot that `_shot_to_json` wrote."""
    pulses: dict[str, RFPulse] = {}
    for entry in content["pulses"]:
        real, imaginary = (torch.tensor(entry[key], dtype=torch.float64) for key in ("b1_re_hz", "b1_im_hz"))
        if real.shape != imaginary.shape:
            raise ValueError(f"b1_re_hz has {real.numel()} samples, b1_im_hz {imaginary.numel()}")
        pulse = RFPulse(
            b1_hz=torch.complex(real, imaginary),
            dwell_s=float(entry["dwell_s"]),
            carrier_offset_hz=float(entry["carrier_offset_hz"]),
            name="edit",
        )
        places = tuple(map(str, entry["places"]))
        if not places or len({*pulses, *places}) < len(pulses) + len(places):
            raise ValueError(f"a pulse at no place, or two at one of {list(places)}")
        pulses |= dict.fromkeys(places, pulse)
    return DesignedShot(
        pulses=pulses,
        te1_s=float(content["te1_s"]),
        te2_s=float(content["te2_s"]),
        receiver_phase_rad=float(content["receiver_phase_rad"]),
    )


def _design(content: dict[str, Any]) -> Design:
    """Return the design of a file's content."""
    shots = tuple(map(_shot, content["shots"]))
    if not any(shot.pulses for shot in shots):
        raise ValueError("no shot has a pulse")
    if not isinstance(content["problem"], dict):
        raise ValueError(f"problem is {content['problem']!r}")
    return Design(
        name=content["name"],
        combine=content["combine"],
        shots=shots,
        metrics=Metrics(**content["metrics"]),
        press_te1_s=float(content["press"]["te1_s"]),
        press_te2_s=float(content["press"]["te2_s"]),
        press_metrics=Metrics(**content["press"]["metrics"]),
        press_optima=tuple(_optimum(optimum) for optimum in content["press"]["optima"]),
        history=tuple(tuple(map(float, run)) for run in content["history"]),
        status=content["status"],
        spectrometer_frequency_hz=float(content["spectrometer_frequency_hz"]),
        reference_ppm=float(content["reference_ppm"]),
        problem=content["problem"],
        provenance=Provenance.from_json(content["provenance"]),
        terms=tuple({name: tuple(map(float, values)) for name, values in run.items()} for run in content["terms"]),
        landscape=Landscape.from_json(content["landscape"]) if "landscape" in content else None,
    )
