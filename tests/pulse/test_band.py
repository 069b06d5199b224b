"""Waveforms of limited bandwidth: every one keeps every limit, by the FFT of the design check."""

import re

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from seqgen.errors import InputError
from seqgen.pulse.parameterise import (
    band_basis,
    smallest_bandwidth_hz,
    spline_basis,
    spline_waveform,
    step_waveform,
    waveform_basis,
)
from seqgen.verify.design_check import bandwidth_hz

GIVEN = {"duration_s": 0.02, "dwell_s": 2e-5, "knot_spacing_s": 5e-4}


def waveforms(bandwidth_max_hz, **changes):
    return spline_waveform(
        **(GIVEN | {"b1_max_hz": 300.0, "energy_max_hz2_s": 500.0} | changes), bandwidth_max_hz=bandwidth_max_hz
    )


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e6])
@pytest.mark.parametrize(("bandwidth_max_hz", "energy_max_hz2_s"), [(130.0, 500.0), (300.0, 1e9), (1000.0, 500.0)])
def test_limits_hold_whatever_the_parameters(size, bandwidth_max_hz, energy_max_hz2_s):
    shape = waveforms(bandwidth_max_hz, energy_max_hz2_s=energy_max_hz2_s)
    generator = torch.Generator().manual_seed(3)
    random = [torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64) for _ in range(5)]
    for theta in (*random, torch.ones(shape.n_parameters, dtype=torch.float64)):
        theta = size * theta
        b1 = shape.waveform_hz(theta)
        assert float(b1.abs().max()) < 300.0
        assert float((b1.abs() ** 2).sum()) * 2e-5 < energy_max_hz2_s
        assert 0 < bandwidth_hz(b1.numpy(), 2e-5) <= bandwidth_max_hz
        assert float(b1[[0, -1]].abs().max()) <= float(b1.diff().abs().max())


def test_the_limit_can_be_reached():
    """The widest column stays below the limit by less than 1 / T, the spacing of such columns."""
    shape = waveforms(300.0)
    coefficients = np.linalg.lstsq(shape.splines.numpy(), shape.band.numpy(), rcond=None)[0]
    widest = max(bandwidth_hz((shape.splines.numpy() @ c).astype(complex), 2e-5) for c in coefficients.T)
    assert 300 - 1 / 0.02 < widest <= 300
    strong = shape.waveform_hz(1e3 * torch.ones(shape.n_parameters, dtype=torch.float64))
    assert float((strong.abs() ** 2).sum()) * 2e-5 > 0.75 * 500


def test_columns_are_orthonormal_sums_of_the_splines():
    splines = spline_basis(**GIVEN)
    band = band_basis(splines, 2e-5, 400.0)
    torch.testing.assert_close(band.T @ band, torch.eye(band.shape[1], dtype=torch.float64), atol=1e-9, rtol=0)
    left = np.linalg.lstsq(splines.numpy(), band.numpy(), rcond=None)[1]
    assert left.max() < 1e-12
    wide = band_basis(splines, 2e-5, 20000.0)
    assert wide.shape[1] == splines.shape[1]


@pytest.mark.parametrize(("duration_s", "knot_spacing_s"), [(0.02, 5e-4), (0.01, 1e-3), (0.03, 2e-3)])
def test_the_narrowest_is_feasible_and_the_next_below_is_not(duration_s, knot_spacing_s):
    """Against a search by the FFT over all sums of the splines that are symmetric in time."""
    splines = spline_basis(duration_s=duration_s, dwell_s=1e-4, knot_spacing_s=knot_spacing_s)
    least_hz = smallest_bandwidth_hz(splines, 1e-4)
    assert band_basis(splines, 1e-4, least_hz).shape[1] == 1
    with pytest.raises(InputError, match=re.escape(f"bandwidth_max_hz must be at least {least_hz:.1f} Hz")):
        band_basis(splines, 1e-4, least_hz - 0.1)
    half = (splines + splines.flip(1)).numpy()[:, : (splines.shape[1] + 1) // 2]
    start = np.linalg.lstsq(half, np.sin(np.pi * (np.arange(len(half)) + 0.5) / len(half)) ** 2, rcond=None)[0]
    found = minimize(
        lambda c: bandwidth_hz((half @ c).astype(complex), 1e-4), start, method="Powell", options={"maxfev": 800}
    )
    assert least_hz - 0.11 < found.fun < 1.02 * least_hz


@pytest.mark.parametrize(("parameters", "made"), [("spline", spline_waveform), ("steps", step_waveform)])
def test_one_basis_for_limits_and_waveforms(parameters, made):
    basis = waveform_basis(parameters, **GIVEN)
    shape = made(**GIVEN, b1_max_hz=300.0, energy_max_hz2_s=500.0, bandwidth_max_hz=114.0 + 6 * (parameters != "steps"))
    assert torch.equal(shape.splines, basis)
    assert shape.band.shape[1] == 1


def test_steps_keep_the_band():
    """114 Hz, less than splines of the same spacing can have."""
    shape = step_waveform(**GIVEN, b1_max_hz=300.0, energy_max_hz2_s=500.0, bandwidth_max_hz=114.0)
    b1 = shape.waveform_hz(torch.linspace(-3, 5, shape.n_parameters, dtype=torch.float64))
    assert 112 < bandwidth_hz(b1.numpy(), 2e-5) <= 114
    assert smallest_bandwidth_hz(waveform_basis("spline", **GIVEN), 2e-5) > 114


@pytest.mark.parametrize("size", [0.0, 1.0, 10.0])
def test_gradcheck(size):
    shape = waveforms(1500.0, duration_s=0.005, dwell_s=1e-4)
    generator = torch.Generator().manual_seed(1)
    theta = (size * torch.randn(shape.n_parameters, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(shape.waveform_hz, theta)
