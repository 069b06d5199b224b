"""Parameters to waveform: smooth, band-limited, and within amplitude and energy limits by construction."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from seqgen.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SplineWaveform:
    """Waveforms of basis functions, cubic splines or steps, that never leave the disc |b1| <= b1_max_hz.

    v = splines @ (theta_x + i theta_y) is dimensionless; b1 = b1_max v / sqrt(1 + |v|^2), then scaled as a whole by
    (1 + (E / E_max)^4)^(-1/8) < sqrt(E_max / E), so that its energy E stays below E_max.
    """

    splines: Tensor
    """Values of the basis functions at the sample centres, shape (n_samples, n_knots)."""
    dwell_s: float
    """Duration of a sample, s."""
    b1_max_hz: float
    """Amplitude limit, Hz."""
    energy_max_hz2_s: float
    """Energy limit, Hz^2 s."""

    @property
    def n_parameters(self) -> int:
        """Number of real parameters: two per knot."""
        return 2 * int(self.splines.shape[1])

    def waveform_hz(self, theta: Tensor) -> Tensor:
        """Return b1 in Hz, complex, shape (n_samples,), for parameters of shape (n_parameters,). Differentiable."""
        x, y = (self.splines @ part for part in theta.reshape(2, -1))
        scale = self.b1_max_hz / torch.sqrt(1 + x**2 + y**2)
        energy = ((scale * x) ** 2 + (scale * y) ** 2).sum() * self.dwell_s
        scale = scale * (1 + (energy / self.energy_max_hz2_s) ** 4) ** -0.125
        return torch.complex(scale * x, scale * y)


def spline_waveform(
    *, duration_s: float, dwell_s: float, knot_spacing_s: float, b1_max_hz: float, energy_max_hz2_s: float
) -> SplineWaveform:
    """Return the parameterisation of a pulse by cubic splines; it vanishes at both ends.

    Raises:
        InputError: If the duration is not a whole number of samples.
    """
    n_samples = _n_samples(duration_s, dwell_s)
    n_intervals = max(4, math.ceil(duration_s / knot_spacing_s - 1e-9))
    spacing = duration_s / n_intervals
    # Splines whose support lies inside the pulse: the waveform and its slope vanish at both ends.
    knots = [k * spacing for k in range(n_intervals + 1)]
    t_s = (torch.arange(n_samples, dtype=torch.float64) + 0.5) * dwell_s
    columns = [BSpline.basis_element(knots[k : k + 5], extrapolate=False)(t_s.numpy()) for k in range(n_intervals - 3)]
    splines = torch.as_tensor(np.nan_to_num(np.stack(columns, 1)))
    return SplineWaveform(splines=splines, dwell_s=dwell_s, b1_max_hz=b1_max_hz, energy_max_hz2_s=energy_max_hz2_s)


def step_waveform(
    *, duration_s: float, dwell_s: float, knot_spacing_s: float, b1_max_hz: float, energy_max_hz2_s: float
) -> SplineWaveform:
    """Return the parameterisation of a pulse by steps, constant over `knot_spacing_s`: the controls of GRAPE.

    The limits are those of splines; the ends are not held at zero.
    Source: Khaneja et al., J Magn Reson 172:296 (2005), doi:10.1016/j.jmr.2004.11.004.

    Raises:
        InputError: If the duration is no whole number of steps, or a step none of samples.
    """
    n_samples, per_step = _n_samples(duration_s, dwell_s), round(knot_spacing_s / dwell_s)
    if per_step < 1 or n_samples % per_step or abs(per_step * dwell_s - knot_spacing_s) > 1e-9:
        raise InputError(
            f"The pulse of {duration_s} s must be a whole number of steps of {knot_spacing_s} s, and a step one of "
            f"samples of {dwell_s} s. Change duration, knot_spacing or rf_dwell."
        )
    steps = torch.eye(n_samples // per_step, dtype=torch.float64).repeat_interleave(per_step, 0)
    return SplineWaveform(splines=steps, dwell_s=dwell_s, b1_max_hz=b1_max_hz, energy_max_hz2_s=energy_max_hz2_s)


def _n_samples(duration_s: float, dwell_s: float) -> int:
    """Return the number of samples of a pulse, which must be whole."""
    n_samples = round(duration_s / dwell_s)
    if abs(n_samples * dwell_s - duration_s) > 1e-9:
        raise InputError(
            f"The duration of the pulse, {duration_s} s, must be a whole number of samples of {dwell_s} s. "
            "Change duration or rf_dwell."
        )
    return n_samples
