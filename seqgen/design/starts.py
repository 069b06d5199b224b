"""Where the optimiser begins: random coefficients, textbook pulses, or a waveform of a file."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from seqgen.design.problem import DesignSpec
from seqgen.errors import InputError
from seqgen.pulse.adiabatic import bir4
from seqgen.pulse.parameterise import SplineWaveform
from seqgen.pulse.shapes import bb1_pulse, gaussian_pulse, slr_pulse
from seqgen.pulse.waveform import RFPulse
from seqgen.simulate.rotation import accumulate, rotations

START_SD = 0.35
"""Standard deviation of the random spline coefficients at the start, in units of the amplitude limit."""
LIMIT_SHARE = 0.95
"""Largest share of the amplitude and the energy limit that a start takes: at the limits themselves the parameters
are infinite."""
TIME_BANDWIDTH = 4.0
"""Time-bandwidth product of the starts sinc and slr."""
_EDGE_KNOTS = 4
"""Knots over which the rectangle rises and falls: no spline begins with a step."""
_SWEEP_KNOTS = 0.4
"""Largest offset of the frequency of the adiabatic start times the knots: what splines still follow."""
_ROTATIONS = ("composite", "adiabatic")
"""Starts that are worth something only as the rotation that they are meant to be."""
_LEAST_FIDELITY = 0.985
"""|Tr(U^H V)| / 2 of the rotation meant and the one played, on the carrier, at the worst of `_B1_SCALES`. A plain pulse
keeps 0.988 there: what is worse is no start."""
_B1_SCALES = (0.8, 1.0, 1.2)


def start_points(
    spec: DesignSpec,
    shape: SplineWaveform,
    *,
    seed: int,
    pulses: Mapping[str, Sequence[RFPulse]],
    carrier_hz: float,
    n_waveforms: int = 1,
) -> list[tuple[str, np.ndarray]]:
    """Return name and spline coefficients, shape (n_waveforms * n_parameters,), of every start.

    A textbook pulse, or a file with one pulse, is the start of every waveform of the first edited shot; the waveforms
    of further ones begin at random: shots that began alike would stay alike.

    Args:
        spec: Names the starts.
        shape: The parameterisation.
        seed: Seed of the random ones.
        pulses: The pulses of each file that the spec names: one, or one for every waveform.
        carrier_hz: Carrier of the editing pulse, Hz; a pulse with another carrier is carried over.
        n_waveforms: Number of waveforms of all edited shots.

    Raises:
        InputError: If a pulse does not last as long as the editing pulse, or a file holds another number of pulses.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn() -> Tensor:
        return START_SD * torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64)

    points: list[tuple[str, np.ndarray]] = []
    for name in spec.start_names:
        if name == "random":
            for k in range(spec.starts):
                points.append((f"random {k + 1}", torch.cat([drawn() for _ in range(n_waveforms)]).numpy()))
            continue
        if name in _TEXTBOOK:
            wanted_hz = [textbook_waveform(name, spec, shape.b1_max_hz)]
        else:
            wanted_hz = [carried_over(pulse, spec, carrier_hz) for pulse in pulses[name]]
        if len(wanted_hz) not in (1, n_waveforms):
            raise InputError(
                f"start: {name} must hold one pulse or the {n_waveforms} that the design has, but holds "
                f"{len(wanted_hz)}. Change the file or shots and own_waveforms."
            )
        thetas = [project(shape, each_hz) for each_hz in wanted_hz]
        if len(thetas) == 1:
            alike = len(spec.waveforms)
            thetas = thetas * alike + [drawn() for _ in range(n_waveforms - alike)]
        points.append((name, torch.cat(thetas).numpy()))
    return points


def textbook_waveform(name: str, spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a textbook pulse in the frame of its carrier, Hz, complex, shape (n_samples,).

    All turn about +x, the axis of the magnetisation at the first echo of PRESS. hard, gaussian, sinc and slr fill the
    duration and turn by 180 degrees on the carrier, by 90 where the pulse excites; `ninety` is a 90 at the centre, a
    Hann window as short as the knots and the amplitude limit allow: at the echo top it refocuses J of weakly coupled
    pairs. Source: Takegoshi et al., Chem Phys Lett 165:6 (1990), the "perfect echo" (recalled). `composite` (BB1) and
    `adiabatic` (BIR-4) fill the duration and turn by 90 at the echo top too, whatever B1 is.
    """
    return _TEXTBOOK[name](spec, b1_max_hz)


def _flip_angle_rad(spec: DesignSpec) -> float:
    """Return the flip angle of a textbook pulse that fills the duration, rad."""
    return 0.5 * math.pi if "excitation" in spec.places else math.pi


def _hard(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a rectangle with edges as halves of a Hann window."""
    n = _n_samples(spec)
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5) * spec.rf_dwell_s
    edge_s = min(_EDGE_KNOTS * spec.knot_spacing_s, spec.duration_s / 2)
    part = (torch.minimum(t_s, spec.duration_s - t_s) / edge_s).clamp(max=1.0)
    envelope = torch.sin(0.5 * math.pi * part) ** 2
    turns = _flip_angle_rad(spec) / (2 * math.pi)
    return (turns * envelope / envelope.sum() / spec.rf_dwell_s).to(torch.complex128)


def _gaussian(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a Gaussian cut at one percent."""
    return gaussian_pulse(
        flip_angle_rad=_flip_angle_rad(spec), duration_s=spec.duration_s, dwell_s=spec.rf_dwell_s, name="gaussian"
    ).b1_hz


def _sinc(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a sinc under a Hann window."""
    t = (torch.arange(_n_samples(spec), dtype=torch.float64) + 0.5) / _n_samples(spec) - 0.5
    envelope = torch.sinc(TIME_BANDWIDTH * t) * torch.cos(math.pi * t) ** 2
    turns = _flip_angle_rad(spec) / (2 * math.pi)
    return (turns * envelope / envelope.sum() / spec.rf_dwell_s).to(torch.complex128)


def _slr(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a Shinnar-Le Roux pulse."""
    return slr_pulse(
        flip_angle_rad=_flip_angle_rad(spec),
        time_bandwidth=TIME_BANDWIDTH,
        duration_s=spec.duration_s,
        dwell_s=spec.rf_dwell_s,
        name="slr",
    ).b1_hz


def _ninety(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a short 90 at the centre: a Hann window of width w has the area peak w / 2."""
    width_s = min(spec.duration_s, max(6 * spec.knot_spacing_s, 1 / b1_max_hz))
    n = _n_samples(spec)
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) * spec.rf_dwell_s
    envelope = torch.where(t_s.abs() < width_s / 2, torch.cos(math.pi * t_s / width_s) ** 2, 0.0)
    return (0.25 * envelope / envelope.sum() / spec.rf_dwell_s).to(torch.complex128)


def _composite(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a rotation that small errors of B1 leave alone."""
    return bb1_pulse(
        flip_angle_rad=_plane_rotation_rad(spec), duration_s=spec.duration_s, dwell_s=spec.rf_dwell_s, name="composite"
    ).b1_hz


def _adiabatic(spec: DesignSpec, b1_max_hz: float) -> Tensor:
    """Return a rotation that hardly depends on B1, given the amplitude and the time."""
    return bir4(
        flip_angle_rad=_plane_rotation_rad(spec),
        duration_s=spec.duration_s,
        sweep_hz=min(_SWEEP_KNOTS / spec.knot_spacing_s, 0.2 / spec.rf_dwell_s),
        b1_max_hz=LIMIT_SHARE * b1_max_hz,
        dwell_s=spec.rf_dwell_s,
        name="adiabatic",
    ).b1_hz


def require_rotations(spec: DesignSpec, shape: SplineWaveform) -> None:
    """Refuse composite and adiabatic starts that are no longer their rotation within limits and on splines.

    Raises:
        InputError: Naming the first.
    """
    for name in spec.start_names:
        if name in _ROTATIONS:
            wanted_hz = textbook_waveform(name, spec, shape.b1_max_hz)
            _require_rotation(name, spec, shape.waveform_hz(project(shape, wanted_hz)))


def _require_rotation(name: str, spec: DesignSpec, b1_hz: Tensor) -> None:
    """Refuse a waveform that is not the rotation of a start over a range of B1."""
    turns = torch.tensor(_B1_SCALES, dtype=torch.float64)[:, None] * b1_hz * spec.rf_dwell_s
    a, b = accumulate(rotations(turns, torch.zeros_like(turns.real)))
    half = 0.5 * _plane_rotation_rad(spec)
    # The rotation meant is (cos, -i sin) about +x.
    fidelity = float((a * math.cos(half) + b.conj() * -1j * math.sin(half)).real.abs().min())
    if fidelity < _LEAST_FIDELITY:
        raise InputError(
            f"start: {name} within the limits and on splines of this pulse ({spec.duration_s * 1e3:g} ms, "
            f"{spec.nominal_b1_max_hz:g} Hz, knots {spec.knot_spacing_s * 1e3:g} ms) is not the rotation by "
            f"{math.degrees(2 * half):.0f} degrees that it is meant to be (fidelity {fidelity:.2f}, least "
            f"{_LEAST_FIDELITY}). Lengthen it, raise b1_max_hz, shorten knot_spacing_ms, or choose another start."
        )


def _plane_rotation_rad(spec: DesignSpec) -> float:
    """Return the flip angle of a start that is the same rotation over a range of B1, rad."""
    return 0.5 * math.pi if {"excitation", "echo_top"} & set(spec.places) else math.pi


_TEXTBOOK: Mapping[str, Callable[[DesignSpec, float], Tensor]] = {
    "hard": _hard,
    "gaussian": _gaussian,
    "sinc": _sinc,
    "slr": _slr,
    "ninety": _ninety,
    "composite": _composite,
    "adiabatic": _adiabatic,
}


def _n_samples(spec: DesignSpec) -> int:
    """Return the number of samples of the pulse."""
    return round(spec.duration_s / spec.rf_dwell_s)


def carried_over(pulse: RFPulse, spec: DesignSpec, carrier_hz: float) -> Tensor:
    """Return a pulse on the samples and in the carrier frame of the editing pulse, Hz, complex, shape (n_samples,).

    Each new sample takes the value that the old waveform has at its centre; the phase of both carriers is zero at
    the centre of the pulse.

    Raises:
        InputError: If it does not last as long.
    """
    if abs(pulse.duration_s - spec.duration_s) > 1e-9:
        raise InputError(
            f"start: the pulse of {pulse.name} must last {spec.duration_s * 1e3:g} ms, as design.duration_s says, but "
            f"lasts {pulse.duration_s * 1e3:g} ms. Change the duration or the file."
        )
    n = _n_samples(spec)
    t_s = (torch.arange(n, dtype=torch.float64) + 0.5) * spec.rf_dwell_s
    index = torch.floor(t_s / pulse.dwell_s + 1e-9).long().clamp(max=pulse.b1_hz.shape[0] - 1)
    turn = 2j * math.pi * (pulse.carrier_offset_hz - carrier_hz) * (t_s - spec.duration_s / 2)
    return pulse.b1_hz[index] * torch.exp(turn)


def project(shape: SplineWaveform, wanted_hz: Tensor) -> Tensor:
    """Return the parameters whose waveform is nearest to a wanted one, by least squares, shape (n_parameters,).

    The maps of amplitude and energy are inverted in closed form, the splines by linear least squares, weighted by
    the slope of the amplitude map; a Gauss-Newton descent on the waveform itself (SciPy) takes away what the
    weighting leaves. A waveform above `LIMIT_SHARE` of a limit is scaled down as a whole first.

    With E = E_max r (1 - r^4)^(-1/4), r the wanted energy over E_max, the scaling of energy is (1 - r^4)^(1/8);
    with u the waveform before it, v = u / sqrt(b1_max^2 - |u|^2).

    Args:
        shape: The parameterisation.
        wanted_hz: Complex, shape (n_samples,).

    Raises:
        InputError: If the waveform is zero everywhere.
    """
    if not bool(wanted_hz.abs().any()):
        raise InputError("start: a waveform of zeros is no start: there the gradient of the loss is zero. Change it.")
    wanted_hz = wanted_hz * _scale_within_limits(shape, wanted_hz)
    u = wanted_hz / _energy_scale(shape, wanted_hz)
    v = u / torch.sqrt(shape.b1_max_hz**2 - u.abs() ** 2)
    weight = ((1 + v.abs() ** 2) ** -1.5)[:, None]
    columns = torch.stack([v.real, v.imag], 1)
    # NumPy's: that of torch rounds by where its arrays lie in memory.
    first = np.linalg.lstsq((weight * shape.splines).numpy(), (weight * columns).numpy())[0].T.ravel()

    def residual(theta: np.ndarray) -> np.ndarray:
        # A copy: BLAS rounds by where an array lies in memory, and torch's own all lie alike.
        difference = (shape.waveform_hz(torch.tensor(theta)) - wanted_hz) / shape.b1_max_hz
        return torch.view_as_real(difference).reshape(-1).numpy()

    found = least_squares(residual, first, method="lm")
    return torch.as_tensor(found.x)


def _energy_scale(shape: SplineWaveform, b1_hz: Tensor) -> float:
    """Return the factor by which the energy map has scaled a waveform that it returned."""
    return math.pow(1 - _energy_share(shape, b1_hz) ** 4, 0.125)


def _energy_share(shape: SplineWaveform, b1_hz: Tensor) -> float:
    """Return the energy of a waveform over the limit."""
    return float((b1_hz.abs() ** 2).sum()) * shape.dwell_s / shape.energy_max_hz2_s


def _scale_within_limits(shape: SplineWaveform, b1_hz: Tensor) -> float:
    """Return the largest factor, at most 1, that brings a waveform within `LIMIT_SHARE` of both limits."""
    peak_hz, share = float(b1_hz.abs().max()), LIMIT_SHARE * shape.b1_max_hz
    low, high = 0.0, min(1.0, math.sqrt(LIMIT_SHARE / _energy_share(shape, b1_hz)))
    # The amplitude before the energy map rises with the factor: bisection.
    for factor in (high, *([None] * 50)):
        middle = 0.5 * (low + high) if factor is None else factor
        if middle * peak_hz / _energy_scale(shape, middle * b1_hz) <= share:
            low = middle
            if factor is not None:
                break
        else:
            high = middle
    return low
