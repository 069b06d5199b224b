"""A design problem made concrete: one function from pulse and echo times to loss and metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.axes import ppm_to_hz
from seqgen.design.forward import EchoModel, echo_model
from seqgen.design.objective import crlb_loss, window_energy, window_loss
from seqgen.design.problem import DesignSpec
from seqgen.errors import InputError
from seqgen.model.baseline import spline_basis
from seqgen.model.information import complex_columns
from seqgen.model.lineshape import lorentz_response
from seqgen.simulate.acquire import concatenate, pulse_acquire_lines
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.propagate import RESULT_J_STEP_S
from seqgen.spin.system import Relaxation, SpinSystem
from seqgen.timeline import Timeline

FIT_RANGE_PPM = (1.8, 4.1)
"""Range of the CRLB loss, ppm."""
_BASELINE_KNOTS_PPM = 0.4
_ACQUISITION_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Axis:
    """A frequency axis with the responses of every metabolite's lines on it."""

    offset_hz: Tensor
    """Frequencies, Hz, shape (m,)."""
    response: Mapping[str, Tensor]
    """Spectrum of each line, shape (n_lines, m), by metabolite."""

    @property
    def step_hz(self) -> float:
        """Step of the axis, Hz."""
        return float(self.offset_hz[1] - self.offset_hz[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What a sequence does to target and interferers in the window, each a mean over the ensemble."""

    loss: float
    """The weighted loss."""
    signal: float
    """sqrt(E_T / E_ref): the target's window signal against a perfect pulse-acquire, 1 = all of it."""
    contamination: float
    """sqrt(E_I / E_T): the interferers' window signal against the target's, at equal concentrations."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluator:
    """Loss and metrics of a pulse and echo times."""

    spec: DesignSpec
    """The problem."""
    model: EchoModel
    """PRESS with or without editing pulse."""
    window: Axis
    """The target's window."""
    fit: Axis | None
    """The range of the CRLB loss, where it has a weight."""
    reference_energy: Tensor
    """E_ref: the target's window energy after a perfect pulse-acquire."""
    baseline: Tensor
    """Nuisance columns of the CRLB loss, complex, shape (m, q)."""
    carrier_hz: float
    """Carrier of the editing pulse, Hz."""

    def loss_and_metrics(self, b1_hz: Tensor | None, te1_s: Tensor, te2_s: Tensor) -> tuple[Tensor, Metrics]:
        """Return the loss (differentiable) and the metrics.

        Args:
            b1_hz: Editing pulse, complex, shape (T,), one sample per spec.rf_dwell_s; None for plain PRESS.
            te1_s: First echo time, s.
            te2_s: Second echo time, s.
        """
        spec = self.spec
        names = self.window.response.keys() if self.fit is None else self.fit.response.keys()
        amplitude = {
            name: self.model.molecule_lines(name, b1_hz, spec.rf_dwell_s, self.carrier_hz, te1_s, te2_s).amplitude
            for name in names
        }
        energy = {
            name: window_energy(amplitude[name] @ response, self.window.step_hz)
            for name, response in self.window.response.items()
        }
        interferers = torch.stack([energy[name] for name in spec.interferers]).sum(0)
        target = energy[spec.target]
        parts = {"window": window_loss(target, interferers, self.reference_energy, spec.signal_price)}
        if self.fit is not None:
            columns = torch.stack([amplitude[name] @ response for name, response in self.fit.response.items()], -1)
            parts["crlb"] = crlb_loss(columns, 1 + len(spec.interferers), self.baseline, noise_sd=1.0)
        mean = self.model.members.mean
        loss = torch.stack([spec.loss.get(name, 0.0) * mean(value) for name, value in parts.items()]).sum()
        metrics = Metrics(
            loss=float(loss.detach()),
            signal=float(mean((target / self.reference_energy).detach().sqrt())),
            contamination=float(mean((interferers / target).detach().sqrt())),
        )
        return loss, metrics

    def receiver_phase_rad(self, b1_hz: Tensor | None, te1_s: Tensor, te2_s: Tensor) -> float:
        """Return the phase of the target's mean signal in the window over the ensemble, rad, to six decimals."""
        target = self.spec.target
        amplitude = self.model.molecule_lines(
            target, b1_hz, self.spec.rf_dwell_s, self.carrier_hz, te1_s, te2_s
        ).amplitude
        mean = (amplitude @ self.window.response[target]).sum()
        return round(float(mean.angle()), 6)


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
) -> Evaluator:
    """Prepare a design problem on a template timeline (see `echo_model`).

    Args:
        spec: The problem.
        template: PRESS shots of one phase cycle, without suppression, plain or with a stand-in pulse.
        systems: Target, interferers and, for the CRLB loss, every other metabolite of the sample.
        relaxation: Relaxation times of each.
        spectrometer_frequency_hz: Spectrometer frequency, Hz.
        reference_ppm: Shift of water, where the spectrometer stands, ppm.
        positions_per_slice: Positions of the selective pulses.
        j_step_s: J step of the editing pulse.

    Raises:
        InputError: If target or an interferer is missing from `systems`.
    """
    wanted = (spec.target, *spec.interferers)
    missing = [name for name in wanted if name not in systems]
    if missing:
        raise InputError(
            f"The design names {', '.join(missing)}, which the sample does not hold. Add it to the sample."
        )
    with_crlb = spec.loss.get("crlb", 0.0) > 0
    order = [*wanted, *(name for name in systems if name not in wanted)] if with_crlb else list(wanted)
    model = echo_model(
        template,
        {name: systems[name] for name in order},
        relaxation,
        ensemble(spec.b0_offsets_hz, spec.b1_scales),
        spectrometer_frequency_hz=spectrometer_frequency_hz,
        reference_ppm=reference_ppm,
        positions_per_slice=positions_per_slice,
        j_step_s=j_step_s,
    )

    window = _axis(model, spec.window_ppm, spec.linewidth_hz / 5, spec.linewidth_hz, wanted)
    fit = _axis(model, FIT_RANGE_PPM, 1 / _ACQUISITION_S, spec.linewidth_hz, order) if with_crlb else None
    reference = _pulse_acquire(model, spec.target) @ window.response[spec.target]
    baseline = torch.zeros(0, 0, dtype=torch.complex128)
    if fit is not None:
        ppm = torch.linspace(*FIT_RANGE_PPM, fit.offset_hz.shape[0], dtype=torch.float64)
        baseline = complex_columns(spline_basis(ppm, FIT_RANGE_PPM, _BASELINE_KNOTS_PPM))
    return Evaluator(
        spec=spec,
        model=model,
        window=window,
        fit=fit,
        reference_energy=window_energy(reference, window.step_hz),
        baseline=baseline,
        carrier_hz=ppm_to_hz(spec.carrier_ppm, spectrometer_frequency_hz, reference_ppm),
    )


def _axis(
    model: EchoModel, range_ppm: tuple[float, float], step_hz: float, linewidth_hz: float, names: Sequence[str]
) -> Axis:
    """Return an axis over a range of ppm with the Lorentzian responses of the lines of some metabolites."""
    low, high = (ppm_to_hz(ppm, model.spectrometer_frequency_hz, model.reference_ppm) for ppm in range_ppm)
    offset = torch.arange(low, high, step_hz, dtype=torch.float64)
    response = {}
    for name in names:
        frequency_hz = torch.cat([shot.model.transition_hz for shot in model.shots[name]])
        response[name] = lorentz_response(frequency_hz, offset, linewidth_hz)
    return Axis(offset_hz=offset, response=response)


def _pulse_acquire(model: EchoModel, name: str) -> Tensor:
    """Return line amplitudes after an ideal +y 90-degree pulse on the thermal state: sum Ix."""
    return concatenate([pulse_acquire_lines(shot.model) for shot in model.shots[name]]).amplitude
