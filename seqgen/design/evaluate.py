"""A design problem made concrete: one function from pulse and echo times to loss and metrics."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.design.forward import PlayedShot
from seqgen.design.objective import (
    aggregate,
    area_loss,
    correlation_loss,
    crlb_loss,
    crlb_sd,
    scan_time_sd,
    spectrum_loss,
    state_loss,
    state_overlap,
    suppression_loss,
    window_energy,
    window_loss,
)
from seqgen.design.problem import DesignSpec
from seqgen.design.pulse_acquire import DensityTarget, PulseAcquireModel, design_model, design_state
from seqgen.design.spectra import (
    ACQUISITION_S,
    FIT_RANGE_PPM,
    Axis,
    Model,
    nuisance_columns,
    reference_area,
    reference_energy,
    require_line,
    response_axis,
    wanted_spectrum,
)
from seqgen.design.state_target import StateTarget
from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Timeline

WATER_SHIFT_PPM_PER_K = -0.01036
"""Change of the chemical shift of water with temperature, ppm/K: Petley BW, Donaldson RW, Metrologia 20:81 (1984)."""
_T = TypeVar("_T")


class LossNotFinite(InputError):
    """A term of the loss is NaN, infinite or cannot be computed. An optimiser catches it and keeps its last pulse."""

    def __init__(self, term: str, message: str) -> None:
        super().__init__(message)
        self.term = term
        """Name of the term."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What a sequence does to target and interferers in the window, each a mean over the ensemble."""

    loss: float
    """The weighted loss."""
    signal: float
    """sqrt(E_T / E_ref): the target's window signal against a perfect pulse-acquire, 1 = all of it."""
    contamination: float
    """sqrt(E_I / E_T): the interferers' window signal against the target's, at equal concentrations."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Every loss that has a weight, summed up over the ensemble: the weighted loss is the sum of weight x term."""
    overlap: float | None = None
    """Overlap of the target's state at the echo with the spec's product operator, mean; None without one."""
    overlap_maximum: float | None = None
    """The largest overlap that a unitary reaches from the thermal state Fz; None without such an operator."""
    area_signal: float | None = None
    """|A_T| / |A_ref|, A the integral of the complex spectrum over the window: the target's against pulse-acquire."""
    area_contamination: float | None = None
    """Sum of |A_I| over |A_T|: the interferers' areas against the target's, at equal concentrations. Antiphase lines
    cancel in an area, not in `contamination`."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Cramer-Rao bounds (standard deviations) of the amplitudes of target and interferers where the loss crlb has a
    weight, at a noise of 1 per shot, or with equal_scan_time per second of scan: compare, do not quote."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluator:
    """Loss and metrics of a pulse and echo times."""

    spec: DesignSpec
    """The problem."""
    model: Model
    """The sequence with its designed pulses, or a pulse alone; of a problem on a plain template, without."""
    plain: Model | None
    """The sequence without designed pulses, where the spec has a plain shot beside edited ones."""
    window: Axis
    """The target's window."""
    fit: Axis | None
    """The range of the losses crlb and correlation, where one has a weight; target and interferers lead."""
    broad: Axis | None
    """The range of the loss suppression, where it has a weight: the suppressed metabolites."""
    reference_energy: Tensor
    """E_ref: the target's window energy after a perfect pulse-acquire, shape () or (E L,)."""
    reference_area: Tensor
    """|A_ref| of the target's window after a perfect pulse-acquire, shape () or (E L,), over the axis step."""
    suppressed_energy: Tensor
    """Energies of the suppressed metabolites in `broad` after a perfect pulse-acquire, shape (k,) or (E L, k)."""
    wanted: Tensor | None
    """Wanted spectrum of the target on `window`, shape (1, m) or (E L, m), where the loss spectrum has a weight."""
    state: StateTarget | DensityTarget | None
    """The wanted state, where the loss state has a weight."""
    baseline: Tensor
    """Nuisance columns of the fit of one shot (macromolecules, spline baseline), complex, shape (m, q)."""
    t1_s: Tensor
    """T1 of every metabolite of `fit`, s, shape (p,)."""
    tr_s: float | None
    """Repetition time, s; None where it is not known."""
    carrier_hz: float
    """Carrier of the editing pulse, Hz."""
    others: tuple["Evaluator", ...] = ()
    """The same problem at other spectrometer frequencies: every loss is summed up over all of them alike."""

    @property
    def weight(self) -> Tensor:
        """Weights of the members of the loss, every linewidth of each, shape (E L,)."""
        widths = len(self.spec.linewidth_offsets_hz)
        weight = self.model.members.weight
        return weight if widths == 1 else (weight / widths).repeat_interleave(widths)

    def loss_and_metrics(self, b1_hz: Tensor | None, te1_s: Tensor, te2_s: Tensor) -> tuple[Tensor, Metrics]:
        """Return the loss (differentiable) and the metrics of one shot.

        Args:
            b1_hz: Editing pulse, complex, shape (T,), one sample per spec.rf_dwell_s; None for plain PRESS.
            te1_s: First echo time, s.
            te2_s: Second echo time, s.

        Raises:
            LossNotFinite: If a loss is NaN or infinite, naming it and the member.
        """
        return self.loss_of_shots((PlayedShot(b1_hz=b1_hz, te1_s=te1_s, te2_s=te2_s),))

    def loss_of_shots(self, shots: Sequence[PlayedShot]) -> tuple[Tensor, Metrics]:
        """Return the loss (differentiable) and the metrics of shots that share the scan time.

        Args:
            shots: What each plays, in the order of the spec.

        Raises:
            LossNotFinite: If a loss is NaN or infinite, naming it and the member.
        """
        parts = [each._reached(shots) for each in (self, *self.others)]
        terms = self._over_fields([terms for terms, _ in parts])
        loss = self._weighted(terms)
        metrics = mean_metrics([metrics for _, metrics in parts])
        values = {name: float(term.detach()) for name, term in terms.items()}
        return loss, replace(metrics, loss=float(loss.detach()), terms=values)

    def loss(self, shots: Sequence[PlayedShot]) -> Tensor:
        """Return the loss alone, shape (), or (B,) for B echo times at once (see `amplitudes`)."""
        return self._weighted(
            self._over_fields(
                [each._terms([each.amplitudes(shot) for shot in shots], shots) for each in (self, *self.others)]
            )
        )

    def _over_fields(self, each: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return every term summed up over the spectrometer frequencies."""
        if len(each) == 1:
            return dict(each[0])
        weight = torch.full((len(each),), 1 / len(each), dtype=torch.float64)
        spec = self.spec
        return {
            name: aggregate(
                torch.stack([terms[name] for terms in each], -1), weight, spec.aggregate, spec.aggregate_sharpness
            )
            for name in each[0]
        }

    def _reached(self, shots: Sequence[PlayedShot]) -> tuple[dict[str, Tensor], Metrics]:
        """Return the terms of the loss and the metrics at this frequency; the metrics leave the loss open."""
        played = [self.amplitudes(shot) for shot in shots]
        terms = self._terms(played, shots)
        lines = self.combined(played)
        spectra, target, interferers = self._in_window(lines)
        area = self._areas(spectra)
        reached = None if self.state is None else self._overlap(lines[0][self.spec.target], shots)

        def mean(values: Tensor) -> float:
            return float(aggregate(values.detach(), self.weight))

        metrics = Metrics(
            loss=math.nan,
            signal=mean((target / self.reference_energy).sqrt()),
            contamination=mean((interferers / target).sqrt()),
            overlap=None if reached is None else mean(reached[0]),
            overlap_maximum=None if reached is None else reached[1],
            area_signal=mean(area[self.spec.target] / self.reference_area),
            area_contamination=mean(
                sum((area[name] for name in self.spec.interferers), torch.zeros_like(area[self.spec.target]))
                / area[self.spec.target]
            ),
            bounds=self._mean_bounds(lines),
        )
        return terms, metrics

    @property
    def names(self) -> tuple[str, ...]:
        """Every metabolite that a loss looks at."""
        axes = [axis for axis in (self.fit, self.window, self.broad) if axis is not None]
        return tuple(dict.fromkeys(name for axis in axes for name in axis.response))

    def amplitudes(self, shot: PlayedShot, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return the line amplitudes in a shot, shape (E, n_lines), or (B, E, n_lines) for B echo times at once.

        Args:
            shot: What is played; either echo time of shape () or (B,).
            names: Metabolites; left out, all that a loss looks at.
        """
        model = self.model if shot.b1_hz is not None or self.plain is None else self.plain
        return {
            name: model.molecule_lines(
                name, shot.b1_hz, self.spec.rf_dwell_s, self.carrier_hz, shot.te1_s, shot.te2_s
            ).amplitude
            for name in names or self.names
        }

    def combined(self, shots: Sequence[Mapping[str, Tensor]]) -> Sequence[Mapping[str, Tensor]]:
        """Return what the losses look at: every shot, or half the difference of two."""
        if self.spec.combine != "difference" or len(shots) == 1:
            return shots
        on, off = shots
        return [{name: 0.5 * (on[name] - off[name]) for name in on}]

    def _in_window(self, shots: Sequence[Mapping[str, Tensor]]) -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
        """Return the spectra in the window, and the energies of target and interferers there, means over the shots."""
        spectra = [{name: self.window.spectrum(name, shot[name]) for name in self.window.response} for shot in shots]
        energy = {
            name: torch.stack([window_energy(each[name], self.window.step_hz) for each in spectra]).sum(0) / len(shots)
            for name in self.window.response
        }
        target = energy[self.spec.target]
        return spectra, target, sum((energy[name] for name in self.spec.interferers), torch.zeros_like(target))

    def _terms(self, played: Sequence[Mapping[str, Tensor]], shots: Sequence[PlayedShot] = ()) -> dict[str, Tensor]:
        """Return every loss that has a weight, summed up over the ensemble.

        A phase that all amplitudes of a shot share, that of the receiver, changes none.

        Args:
            played: Line amplitudes of every shot.
            shots: The shots themselves, for the state after a pulse alone.
        """
        spec, lines = self.spec, self.combined(played)
        spectra, target, interferers = self._in_window(lines)
        losses: dict[str, Callable[[], Tensor]] = {
            "window": lambda: window_loss(target, interferers, self.reference_energy, spec.signal_price),
            "area": lambda: self._area_loss(spectra),
            "spectrum": lambda: self._spectrum_loss(spectra[0][spec.target], interferers),
            "state": lambda: state_loss(*self._overlap(lines[0][spec.target], shots)),
            "crlb": lambda: crlb_loss(self.bounds(lines)),
            "correlation": lambda: self._correlation_loss(lines),
            "suppression": lambda: self._suppression_loss(lines[0]),
        }
        weighted = {name: loss for name, loss in losses.items() if spec.loss.get(name, 0.0) > 0}
        values = {name: self._checked(name, loss) for name, loss in weighted.items()}
        return {
            name: aggregate(value, self.weight, spec.aggregate, spec.aggregate_sharpness)
            for name, value in values.items()
        }

    def _weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of weight x term."""
        return torch.stack([self.spec.loss[name] * term for name, term in terms.items()]).sum(0)

    def _areas(self, spectra: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return |A| of every metabolite in the window over the axis step, the mean over the shots, shape (E L,)."""
        return {
            name: torch.stack([each[name].sum(-1).abs() for each in spectra]).mean(0) for name in self.window.response
        }

    def _area_loss(self, spectra: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the loss of areas in the window."""
        area, spec = self._areas(spectra), self.spec
        others = [area[name] for name in spec.interferers]
        return area_loss(area[spec.target], others, self.reference_area, spec.signal_price)

    def _columns(self, shots: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the spectra of all metabolites of the fit side by side, shape (..., E L, s m, p).

        Those of s shots stand below each other, each over the square root of s: they share the time of one.
        """
        fit = _given(self.fit)
        each = [torch.stack([fit.spectrum(name, shot[name]) for name in fit.response], -1) for shot in shots]
        return torch.cat(each, -2) / math.sqrt(len(shots))

    def _nuisance(self, n_shots: int) -> Tensor:
        """Return the nuisance columns of shots that are fitted together: each has its own, shape (s m, s q)."""
        m, q = self.baseline.shape
        whole = self.baseline.new_zeros(n_shots * m, n_shots * q)
        for k in range(n_shots):
            whole[k * m : (k + 1) * m, k * q : (k + 1) * q] = self.baseline
        return whole

    def bounds(self, shots: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the bounds of target and interferers from `combined` lines, shape (..., E L, n).

        They are per shot without saturation, or at equal scan time.
        """
        names = tuple(_given(self.fit).response)
        n_wanted = 1 + len(self.spec.interferers)
        columns, nuisance = self._columns(shots), self._nuisance(len(shots))
        if not self.spec.equal_scan_time:
            return crlb_sd(columns, n_wanted, nuisance, noise_sd=1.0, names=names)
        return scan_time_sd(columns, n_wanted, nuisance, 1.0, tr_s=_given(self.tr_s), t1_s=self.t1_s, names=names)

    def _mean_bounds(self, shots: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
        """Return the mean bound of target and interferers over the ensemble, where the loss crlb has a weight."""
        if not self.spec.loss.get("crlb", 0.0) > 0:
            return {}
        bounds = self.bounds([{name: lines.detach() for name, lines in shot.items()} for shot in shots])
        mean = self.weight.to(bounds.dtype) @ bounds
        return dict(zip((self.spec.target, *self.spec.interferers), map(float, mean), strict=True))

    def _correlation_loss(self, shots: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the squared correlation of the errors of target and first interferer."""
        return correlation_loss(
            self._columns(shots), self._nuisance(len(shots)), names=tuple(_given(self.fit).response)
        )

    def _spectrum_loss(self, target: Tensor, interferers: Tensor) -> Tensor:
        """Return the distance from the wanted spectrum."""
        return spectrum_loss(target, _given(self.wanted), interferers, self.window.step_hz, self.spec.spectrum_mode)

    def _suppression_loss(self, amplitude: Mapping[str, Tensor]) -> Tensor:
        """Return what is left of the suppressed metabolites."""
        broad = _given(self.broad)
        energy = [window_energy(broad.spectrum(name, amplitude[name]), broad.step_hz) for name in broad.response]
        return suppression_loss(torch.stack(energy, -1), self.suppressed_energy)

    def _overlap(self, amplitude: Tensor, shots: Sequence[PlayedShot]) -> tuple[Tensor, float]:
        """Return the overlap with the wanted state, shape (..., E L), and its maximum."""
        state, spec = self.state, self.spec
        if isinstance(state, StateTarget):
            overlap = state_overlap(amplitude[..., state.lines], state.detector)
        elif isinstance(state, DensityTarget) and isinstance(self.model, PulseAcquireModel) and len(shots) == 1:
            b1_hz = shots[0].b1_hz
            overlap = state.overlap(self.model.state(spec.target, state.group, b1_hz, spec.rf_dwell_s, self.carrier_hz))
        else:
            raise InputError("This problem was not prepared for the loss state. Give it a weight in the spec.")
        return overlap.repeat_interleave(len(spec.linewidth_offsets_hz), -1), state.maximum

    def _checked(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        """Return a loss of every member, or refuse one that is no number."""
        try:
            values = loss()
        except InputError as error:
            raise LossNotFinite(name, f"The loss {name!r} cannot be computed: {error}") from error
        wrong = torch.nonzero(~torch.isfinite(values.detach()))
        if len(wrong):
            place, members = int(wrong[0, -1]), self.model.members
            member = place // len(self.spec.linewidth_offsets_hz)
            raise LossNotFinite(
                name,
                f"The loss {name!r} is {float(values.detach()[tuple(wrong[0])])} for the member at "
                f"{float(members.b0_hz[member]):g} Hz and relative B1 {float(members.b1_scale[member]):g}. Take the "
                f"last pulse with a finite loss, or leave {name!r} out.",
            )
        return values

    def receiver_phase_rad(self, shots: Sequence[PlayedShot]) -> tuple[float, ...]:
        """Return for every shot the receiver phase that puts the target's window into absorption, rad, six decimals.

        It is the phase of the target's mean signal there over the ensemble; of a difference, that of the difference
        for both.
        """
        name = self.spec.target
        means = [self.window.spectrum(name, self.amplitudes(shot, (name,))[name]).sum() for shot in shots]
        if self.spec.combine == "difference" and len(means) > 1:
            means = [means[0] - means[1]] * 2
        return tuple(round(float(mean.angle()), 6) for mean in means)


def mean_metrics(each: Sequence[Metrics]) -> Metrics:
    """Return the mean of every number of some metrics: of one design at several spectrometer frequencies."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    def mean_or_none(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    return Metrics(
        loss=mean([one.loss for one in each]),
        signal=mean([one.signal for one in each]),
        contamination=mean([one.contamination for one in each]),
        terms={name: mean([one.terms[name] for one in each]) for name in each[0].terms},
        overlap=mean_or_none([one.overlap for one in each]),
        overlap_maximum=each[0].overlap_maximum,
        area_signal=mean_or_none([one.area_signal for one in each]),
        area_contamination=mean_or_none([one.area_contamination for one in each]),
        bounds={name: mean([one.bounds[name] for one in each]) for name in each[0].bounds},
    )


def evaluator(
    spec: DesignSpec,
    template: Sequence[Timeline],
    systems: Mapping[str, SpinSystem],
    relaxation: Mapping[str, Relaxation],
    *,
    spectrometer_frequency_hz: float,
    reference_ppm: float,
    positions_per_slice: int = 8,
    j_step_s: float = RESULT_J_STEP_S,
    tr_s: float | None = None,
    macromolecules: Sequence[MacromoleculePeak] = (),
    plain_template: Sequence[Timeline] | None = None,
    others: Sequence[Evaluator] = (),
) -> Evaluator:
    """Prepare a design problem on a template timeline (see `design_model`).

    Args:
        spec: The problem.
        template: Shots of one phase cycle of PRESS, without suppression, or of a pulse alone, plain or with stand-ins.
        systems: Target, interferers, suppressed ones and, for the losses crlb and correlation, every other metabolite
            of the sample.
        relaxation: Relaxation times of each.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Shift of water, where the spectrometer stands, ppm.
        positions_per_slice: Positions of the selective pulses.
        j_step_s: J step of the editing pulse.
        tr_s: Repetition time, s, for bounds at equal scan time.
        macromolecules: Peaks of the sample's macromolecules, one nuisance of free phase together.
        plain_template: The same without designed pulses, for the plain shot of a spec that has one.
        others: The same problem at other spectrometer frequencies.

    Raises:
        InputError: If a metabolite is missing from `systems`, the target has no line in the window, a suppressed one
            none in the fit range, or what a loss needs is not given.
    """
    wanted = (spec.target, *spec.interferers)
    weighted = {name for name, weight in spec.loss.items() if weight > 0}
    suppressed = spec.suppressed if "suppression" in weighted else ()
    missing = [name for name in dict.fromkeys((*wanted, *suppressed)) if name not in systems]
    if missing:
        raise InputError(
            f"The design names {', '.join(missing)}, which the sample does not hold. Add it to the sample."
        )
    if spec.equal_scan_time and tr_s is None:
        raise InputError("equal_scan_time needs the repetition time, but tr_s is not given. State it, or leave it out.")
    with_fit = bool(weighted & {"crlb", "correlation"})
    fitted = tuple(dict.fromkeys((*wanted, *systems))) if with_fit else ()

    def prepared(shots: Sequence[Timeline]) -> Model:
        return design_model(
            shots,
            {name: systems[name] for name in dict.fromkeys((*(fitted or wanted), *suppressed))},
            relaxation,
            ensemble(_offsets_hz(spec, spectrometer_frequency_hz), spec.b1_scales),
            places=spec.places,
            spectrometer_frequency_hz=spectrometer_frequency_hz,
            reference_ppm=reference_ppm,
            positions_per_slice=positions_per_slice,
            j_step_s=j_step_s,
        )

    model = prepared(template)
    plain = None if plain_template is None else prepared(plain_template)
    require_line(model, spec.target, spec.window_ppm, "window_ppm")
    for name in suppressed:
        require_line(model, name, FIT_RANGE_PPM, "the range of the loss suppression")
    widths_hz = [spec.linewidth_hz + offset for offset in spec.linewidth_offsets_hz]
    window = response_axis(model, spec.window_ppm, spec.linewidth_hz / 5, widths_hz, wanted)
    fit = response_axis(model, FIT_RANGE_PPM, 1 / ACQUISITION_S, widths_hz, fitted) if with_fit else None
    broad = response_axis(model, FIT_RANGE_PPM, spec.linewidth_hz / 5, widths_hz, suppressed) if suppressed else None
    return Evaluator(
        spec=spec,
        model=model,
        plain=plain,
        window=window,
        fit=fit,
        broad=broad,
        reference_energy=reference_energy(model, window, spec.target),
        reference_area=reference_area(model, window, spec.target),
        suppressed_energy=torch.stack([reference_energy(model, broad, name) for name in suppressed], -1)
        if broad is not None
        else torch.zeros(0, dtype=torch.float64),
        wanted=wanted_spectrum(spec, model, window, widths_hz) if "spectrum" in weighted else None,
        state=design_state(model, spec.target, spec.state, spec.state_group) if "state" in weighted else None,
        baseline=nuisance_columns(spec, model, fit, macromolecules),
        t1_s=torch.tensor([relaxation[name].t1_s for name in fitted], dtype=torch.float64),
        tr_s=tr_s,
        carrier_hz=ppm_to_hz(spec.carrier_ppm, spectrometer_frequency_hz, reference_ppm),
        others=tuple(others),
    )


def _given(value: _T | None) -> _T:
    """Return a value that the losses with a weight need, and that `evaluator` makes for them."""
    if value is None:
        raise InputError("This problem was not prepared for that loss. Give the loss a weight in the spec.")
    return value


def _offsets_hz(spec: DesignSpec, spectrometer_frequency_hz: float) -> list[float]:
    """Return the offsets of metabolites while pulses play: of the field, at every temperature.

    The spectrometer stands on water, and water moves: a warmer sample has its metabolites at higher frequency.
    """
    moved_hz = [
        -WATER_SHIFT_PPM_PER_K * kelvin * 1e-6 * spectrometer_frequency_hz for kelvin in spec.temperature_offsets_k
    ]
    return [offset + moved for offset in spec.b0_offsets_hz for moved in moved_hz]
