"""What the optimiser moves: spline coefficients, phase and offset of every waveform, echo times; and what they play.

A vector x holds, one after the other, the coefficients of every waveform of every edited shot, then, where the spec
asks for it, phase (rad) and offset (in units of `OFFSET_SCALE_HZ`) of each, then two variables for every pair of echo
times (`EchoTimeLimits.variables`).

The receiver phase is no variable: every loss is independent of it, or is the smallest over it in closed form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqgen.design.echo_times import EchoTimeLimits
from seqgen.design.forward import PlayedShot
from seqgen.design.problem import DesignSpec
from seqgen.pulse.parameterise import SplineWaveform

OFFSET_SCALE_HZ = 20.0
"""Unit of the optimiser's frequency offsets, Hz."""
_END_V = 0.1
"""Largest |v| (real or imaginary part) at the first and last sample of a spline waveform: however far its amplitude
saturates within, it begins and ends near zero."""
_B1_DECIMALS = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Variables:
    """Between a vector of variables and the shots of a design."""

    spec: DesignSpec
    """The problem."""
    shape: SplineWaveform
    """Parameterisation of every waveform."""
    limits: EchoTimeLimits
    """Limits of the echo times of shots with designed pulses."""
    plain_limits: EchoTimeLimits
    """Limits of those of a plain shot with echo times of its own."""

    @property
    def n_waveforms(self) -> int:
        """Number of waveforms of all edited shots."""
        return self.spec.shots.count("edited") * len(self.spec.waveforms)

    @property
    def _n_theta(self) -> int:
        """Number of spline coefficients of all waveforms."""
        return self.n_waveforms * self.shape.n_parameters

    @property
    def _timed(self) -> tuple[EchoTimeLimits, ...]:
        """The limits of every pair of echo times: one, or one for each shot."""
        if not self.spec.own_echo_times:
            return (self.limits,)
        return tuple(self.limits if kind == "edited" else self.plain_limits for kind in self.spec.shots)

    def start(self, theta: np.ndarray) -> np.ndarray:
        """Return the vector of spline coefficients, shape (n_waveforms * n_parameters,), and the spec's echo times."""
        turns = np.zeros(2 * self.n_waveforms if self.spec.optimise_offset else 0)
        times = [limits.variables(self.spec.te1_s, self.spec.te2_s) for limits in self._timed]
        return np.concatenate([theta, turns, *times])

    def bounds(self) -> np.ndarray:
        """Return least and largest value of every variable, shape (2, n)."""
        each: list[tuple[float, float]] = [*self._theta_bounds()] * self.n_waveforms
        if self.spec.optimise_offset:
            most = self.spec.offset_max_hz / OFFSET_SCALE_HZ
            each += [(-np.inf, np.inf), (-most, most)] * self.n_waveforms
        for limits in self._timed:
            fixed = limits.variables(self.spec.te1_s, self.spec.te2_s)
            each += limits.bounds if self.spec.optimise_timing else [(value, value) for value in fixed]
        return np.array(each).T

    def _theta_bounds(self) -> list[tuple[float, float]]:
        """Return the bounds of the coefficients of one waveform: those that reach its ends are limited (`_END_V`)."""
        ends = self.shape.splines[[0, -1]].abs()
        if self.spec.parameters == "steps":
            most = np.full(ends.shape[1], np.inf)
        else:
            reach = (ends / ends.sum(1, keepdim=True)).gt(1e-3).any(0)
            most = np.where(reach.numpy(), float(_END_V / ends.sum(1).max()), np.inf)
        return [(-limit, limit) for limit in most] * 2

    def waveforms_hz(self, x: Tensor) -> list[Tensor]:
        """Return every waveform in Hz, complex, shape (n_samples,), of the vector x; differentiable."""
        thetas = x[: self._n_theta].reshape(self.n_waveforms, -1)
        waveforms = [self.shape.waveform_hz(theta) for theta in thetas]
        if not self.spec.optimise_offset:
            return waveforms
        turns = x[self._n_theta : self._n_theta + 2 * self.n_waveforms].reshape(self.n_waveforms, 2)
        n = waveforms[0].shape[0]
        t_s = (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) * self.shape.dwell_s
        return [
            waveform * torch.exp(1j * (turn[0] + 2 * math.pi * OFFSET_SCALE_HZ * turn[1] * t_s))
            for waveform, turn in zip(waveforms, turns, strict=True)
        ]

    def shots(self, x: Tensor) -> tuple[PlayedShot, ...]:
        """Return what every shot plays at the vector x; differentiable."""
        times = [limits.seconds(pair) for limits, pair in zip(self._timed, self._pairs(x), strict=True)]
        return self._played(self.waveforms_hz(x), times)

    def rounded(self, x: Tensor) -> tuple[PlayedShot, ...]:
        """Return what every shot plays at the vector x, waveforms to a ten-thousandth of a hertz, times on the raster.

        That is far below what a file keeps, and the last digit that anything prints.
        """
        waveforms = [
            torch.view_as_complex(torch.round(torch.view_as_real(waveform.detach()), decimals=_B1_DECIMALS))
            for waveform in self.waveforms_hz(x)
        ]
        times = []
        for limits, pair in zip(self._timed, self._pairs(x), strict=True):
            te_s = limits.on_raster(*(float(te_s) for te_s in limits.seconds(pair.detach())))
            times.append((torch.tensor(te_s[0], dtype=torch.float64), torch.tensor(te_s[1], dtype=torch.float64)))
        return self._played(waveforms, times)

    def _pairs(self, x: Tensor) -> Tensor:
        """Return the variables of the echo times, shape (pairs, 2)."""
        return x[x.shape[0] - 2 * len(self._timed) :].reshape(-1, 2)

    def _played(self, waveforms: Sequence[Tensor], times: Sequence[tuple[Tensor, Tensor]]) -> tuple[PlayedShot, ...]:
        """Return the shots of waveforms and echo times."""
        pairs = list(times) if self.spec.own_echo_times else list(times) * len(self.spec.shots)
        per_shot = len(self.spec.waveforms)
        shots, first = [], 0
        for kind, (te1_s, te2_s) in zip(self.spec.shots, pairs, strict=True):
            b1_hz: dict[str, Tensor] = {}
            if kind == "edited":
                for places, waveform in zip(self.spec.waveforms, waveforms[first : first + per_shot], strict=True):
                    b1_hz |= dict.fromkeys(places, waveform)
                first += per_shot
            shots.append(PlayedShot(b1_hz=b1_hz or None, te1_s=te1_s, te2_s=te2_s))
        return tuple(shots)
