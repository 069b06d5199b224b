"""What a design does to every member of its ensemble, and at other concentrations than equal ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqgen.design.evaluate import Evaluator
from seqgen.design.forward import PlayedShot
from seqgen.design.objective import window_energy
from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Members:
    """Signals in the window, member by member: linewidths vary faster than the members of the model."""

    frequency_hz: Tensor
    """Spectrometer frequency, Hz, shape (n,)."""
    b0_hz: Tensor
    """Offset of the spins while pulses play, Hz, shape (n,); of field and temperature."""
    b1_scale: Tensor
    """Relative B1, shape (n,)."""
    linewidth_hz: Tensor
    """Lorentzian full width at half maximum, Hz, shape (n,)."""
    weight: Tensor
    """Weight of each, shape (n,)."""
    signal: Tensor
    """sqrt(E_T / E_ref) as in `Metrics`, shape (n,)."""
    area_signal: Tensor
    """|A_T| / |A_ref| as in `Metrics`, shape (n,)."""
    energy_of: Mapping[str, Tensor]
    """sqrt(E_I / E_T) of each interferer by itself, at equal concentrations, shape (n,)."""
    area_of: Mapping[str, Tensor]
    """|A_I| / |A_T| of each interferer, at equal concentrations, shape (n,)."""
    bounds: Mapping[str, Tensor] = field(default_factory=dict)
    """Cramer-Rao bounds of target and interferers as in `Metrics`, shape (n,); empty without the loss crlb."""

    def contamination(self, amounts: Mapping[str, float] | None = None) -> Tensor:
        """Return sqrt(sum E_I / E_T), shape (n,).

        Args:
            amounts: Concentration of every interferer over the target's; left out, all are equal.
        """
        parts = [(_amount(amounts, name) * values) ** 2 for name, values in self.energy_of.items()]
        return sum(parts, torch.zeros_like(self.signal)).sqrt()

    def area_contamination(self, amounts: Mapping[str, float] | None = None) -> Tensor:
        """Return sum |A_I| / |A_T|, shape (n,).

        Args:
            amounts: Concentration of every interferer over the target's; left out, all are equal.
        """
        parts = [_amount(amounts, name) * values for name, values in self.area_of.items()]
        return sum(parts, torch.zeros_like(self.signal))

    def mean(self, values: Tensor) -> float:
        """Return the mean over the members of values of shape (n,)."""
        return float(self.weight @ values)


def members_of(problem: Evaluator, shots: Sequence[PlayedShot]) -> Members:
    """Return what shots do to every member of a problem's ensemble, at every spectrometer frequency of it.

    Args:
        problem: The problem.
        shots: What is played, in the order of the spec; or a plain shot alone.
    """
    each = [_at_one_frequency(one, shots) for one in (problem, *problem.others)]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for one in each])

    def joined_by_name(name: str) -> dict[str, Tensor]:
        return {key: torch.cat([getattr(one, name)[key] for one in each]) for key in getattr(each[0], name)}

    return Members(
        frequency_hz=joined("frequency_hz"),
        b0_hz=joined("b0_hz"),
        b1_scale=joined("b1_scale"),
        linewidth_hz=joined("linewidth_hz"),
        weight=joined("weight") / len(each),
        signal=joined("signal"),
        area_signal=joined("area_signal"),
        energy_of=joined_by_name("energy_of"),
        area_of=joined_by_name("area_of"),
        bounds=joined_by_name("bounds"),
    )


def _at_one_frequency(problem: Evaluator, shots: Sequence[PlayedShot]) -> Members:
    """Return the members at the frequency of the problem itself."""
    spec, ensemble = problem.spec, problem.model.members
    lines = problem.combined([problem.amplitudes(shot) for shot in shots])
    spectra = {
        name: torch.stack([problem.window.spectrum(name, each[name]) for each in lines])
        for name in problem.window.response
    }
    energy = {name: window_energy(each, problem.window.step_hz).mean(0) for name, each in spectra.items()}
    area = {name: each.sum(-1).abs().mean(0) for name, each in spectra.items()}
    bounds = problem.bounds(lines) if spec.loss.get("crlb", 0.0) > 0 else None
    widths = torch.tensor([spec.linewidth_hz + offset for offset in spec.linewidth_offsets_hz], dtype=torch.float64)
    wanted = (spec.target, *spec.interferers)
    return Members(
        frequency_hz=torch.full_like(problem.weight, problem.model.spectrometer_frequency_hz),
        b0_hz=ensemble.offset_hz.repeat_interleave(len(widths)),
        b1_scale=ensemble.b1_scale.repeat_interleave(len(widths)),
        linewidth_hz=widths.repeat(ensemble.size),
        weight=problem.weight,
        signal=(energy[spec.target] / problem.reference_energy).sqrt(),
        area_signal=area[spec.target] / problem.reference_area,
        energy_of={name: (energy[name] / energy[spec.target]).sqrt() for name in spec.interferers},
        area_of={name: area[name] / area[spec.target] for name in spec.interferers},
        bounds={} if bounds is None else dict(zip(wanted, bounds.unbind(-1), strict=True)),
    )


def _amount(amounts: Mapping[str, float] | None, name: str) -> float:
    """Return the relative concentration of an interferer."""
    if amounts is None:
        return 1.0
    if name not in amounts:
        raise InputError(
            f"amounts must state every interferer, but lacks {name}; it names {', '.join(amounts)}. Add it."
        )
    return amounts[name]
