"""Spectra that the losses look at: axes with the responses of all lines, and what does not change with the pulse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqgen.axes import hz_to_ppm, ppm_to_hz
from seqgen.design.forward import EchoModel
from seqgen.design.objective import window_energy
from seqgen.design.problem import DesignSpec
from seqgen.design.pulse_acquire import PulseAcquireModel
from seqgen.errors import InputError
from seqgen.model.baseline import spline_basis
from seqgen.model.information import complex_columns
from seqgen.model.lineshape import lorentz_response
from seqgen.model.macromolecules import MacromoleculePeak, macromolecule_spectrum
from seqgen.simulate.acquire import Lines, concatenate, pulse_acquire_lines

Model = EchoModel | PulseAcquireModel
"""What a design is simulated with."""
FIT_RANGE_PPM = (1.8, 4.1)
"""Range of the losses that look at the whole spectrum (crlb, correlation, suppression), ppm."""
ACQUISITION_S = 0.5
"""Length of the readout of which the losses crlb and correlation speak, s: noise is white at steps of its inverse."""
_BASELINE_KNOTS_PPM = 0.4
_VISIBLE = 0.01
"""Smallest line that counts as one of a metabolite, relative to its largest after pulse-acquire."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Axis:
    """A frequency axis with the responses of every metabolite's lines on it."""

    offset_hz: Tensor
    """Frequencies, Hz, shape (m,)."""
    response: Mapping[str, Tensor]
    """Spectrum of each line, shape (n_lines, m), or (n_lines, L, m) for L linewidths, by metabolite."""

    @property
    def step_hz(self) -> float:
        """Step of the axis, Hz."""
        return float(self.offset_hz[1] - self.offset_hz[0])

    def spectrum(self, name: str, amplitude: Tensor) -> Tensor:
        """Return the spectra of a metabolite's lines, amplitude (..., E, n_lines), shape (..., E, m) or (..., E L, m).

        Linewidths vary faster than members.
        """
        response = self.response[name]
        # One product for all linewidths: a product per linewidth would copy the responses for every member.
        spectra = amplitude @ response.flatten(1)
        if response.ndim == 2:
            return spectra
        widths, m = response.shape[1:]
        return spectra.reshape(*spectra.shape[:-2], spectra.shape[-2] * widths, m)


def response_axis(
    model: Model, range_ppm: tuple[float, float], step_hz: float, widths_hz: Sequence[float], names: Sequence[str]
) -> Axis:
    """Return an axis over a range of ppm with the Lorentzian responses of the lines of some metabolites."""
    low, high = (ppm_to_hz(ppm, model.spectrometer_frequency_hz, model.reference_ppm) for ppm in range_ppm)
    offset = torch.arange(low, high, step_hz, dtype=torch.float64)
    response = {}
    for name in names:
        frequency_hz = torch.cat([shot.model.transition_hz for shot in model.shots[name]])
        response[name] = line_response(frequency_hz, offset, widths_hz)
    return Axis(offset_hz=offset, response=response)


def line_response(frequency_hz: Tensor, offset_hz: Tensor, widths_hz: Sequence[float]) -> Tensor:
    """Return the Lorentzian spectra of lines, shape (n_lines, m) for one linewidth, (n_lines, L, m) for several."""
    each = [lorentz_response(frequency_hz, offset_hz, width_hz) for width_hz in widths_hz]
    return each[0] if len(each) == 1 else torch.stack(each, 1)


def reference_energy(model: Model, axis: Axis, name: str) -> Tensor:
    """Return the energy on the axis after a perfect pulse-acquire, shape (), or (E L,) for several linewidths."""
    amplitude = pulse_acquire(model, name).amplitude
    if axis.response[name].ndim == 2:
        return window_energy(amplitude @ axis.response[name], axis.step_hz)
    return window_energy(axis.spectrum(name, amplitude.expand(model.members.size, -1)), axis.step_hz)


def reference_area(model: Model, axis: Axis, name: str) -> Tensor:
    """Return the size of the sum of the spectrum on the axis after a perfect pulse-acquire, shape () or (E L,)."""
    amplitude = pulse_acquire(model, name).amplitude
    if axis.response[name].ndim == 2:
        return (amplitude @ axis.response[name]).sum(-1).abs()
    return axis.spectrum(name, amplitude.expand(model.members.size, -1)).sum(-1).abs()


def wanted_spectrum(spec: DesignSpec, model: Model, window: Axis, widths_hz: Sequence[float]) -> Tensor:
    """Return the spectrum that the target is to have: the stated lines, or those of a perfect pulse-acquire."""
    members = 1 if len(widths_hz) == 1 else model.members.size
    if not spec.spectrum_lines:
        amplitude = pulse_acquire(model, spec.target).amplitude
        return window.spectrum(spec.target, amplitude.expand(members, -1))
    frequency_hz = torch.tensor(
        [ppm_to_hz(ppm, model.spectrometer_frequency_hz, model.reference_ppm) for ppm, _ in spec.spectrum_lines],
        dtype=torch.float64,
    )
    amplitude = torch.tensor([size for _, size in spec.spectrum_lines], dtype=torch.complex128)
    stated = Axis(
        offset_hz=window.offset_hz, response={spec.target: line_response(frequency_hz, window.offset_hz, widths_hz)}
    )
    return stated.spectrum(spec.target, amplitude.expand(members, -1))


def nuisance_columns(
    spec: DesignSpec, model: Model, fit: Axis | None, macromolecules: Sequence[MacromoleculePeak]
) -> Tensor:
    """Return the columns of macromolecules and spline baseline, each with real and imaginary coefficient, (m, q)."""
    if fit is None:
        return torch.zeros(0, 0, dtype=torch.complex128)
    ppm = torch.linspace(*FIT_RANGE_PPM, fit.offset_hz.shape[0], dtype=torch.float64)
    splines = spline_basis(ppm, FIT_RANGE_PPM, _BASELINE_KNOTS_PPM)
    if not macromolecules:
        return complex_columns(splines)
    place = (model.spectrometer_frequency_hz, model.reference_ppm)
    broad = macromolecule_spectrum(macromolecules, fit.offset_hz, *place, spec.linewidth_hz).sum(0)
    # Of the size of the splines: QR then sees columns of one scale.
    broad = broad / broad.abs().max()
    return complex_columns(torch.cat((broad[:, None], splines.to(broad.dtype)), -1))


def require_line(model: Model, name: str, range_ppm: tuple[float, float], what: str) -> None:
    """Refuse a range of ppm in which a metabolite has no line."""
    found = pulse_acquire(model, name)
    visible = found.frequency_hz[found.amplitude.abs() >= _VISIBLE * found.amplitude.abs().max()]
    ppm = [hz_to_ppm(float(f), model.spectrometer_frequency_hz, model.reference_ppm) for f in visible]
    low, high = range_ppm
    distance = [max(low - at, at - high, 0.0) for at in ppm]
    if min(distance) > 0:
        nearest = ppm[distance.index(min(distance))]
        raise InputError(
            f"{what} from {low:g} to {high:g} ppm holds no line of {name}: its nearest line lies at {nearest:.3f} ppm. "
            "Move the range there, or choose another metabolite."
        )


def pulse_acquire(model: Model, name: str) -> Lines:
    """Return the lines after an ideal +y 90-degree pulse on the thermal state: sum Ix."""
    return concatenate([pulse_acquire_lines(shot.model) for shot in model.shots[name]])
