import math

import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.pulse.parameterise import spline_waveform, step_waveform

B1_MAX_HZ, DURATION_S, DWELL_S, KNOT_S = 400.0, 20e-3, 1e-4, 1e-3


def waveforms(energy_max_hz2_s=500.0, **changes):
    values = {"duration_s": DURATION_S, "dwell_s": DWELL_S, "knot_spacing_s": KNOT_S, "b1_max_hz": B1_MAX_HZ}
    return spline_waveform(**(values | changes), energy_max_hz2_s=energy_max_hz2_s)


def random_theta(n, size, seed=0):
    return size * torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("energy_max_hz2_s", [1e-3, 50.0, 500.0, 1e9])
def test_limits_hold_whatever_the_parameters(size, energy_max_hz2_s):
    shape = waveforms(energy_max_hz2_s)
    for seed in range(5):
        b1 = shape.waveform_hz(random_theta(shape.n_parameters, size, seed))
        assert bool(torch.isfinite(torch.view_as_real(b1)).all())
        assert float(b1.abs().max()) <= B1_MAX_HZ * (1 + 1e-12)
        assert float((b1.abs() ** 2).sum()) * DWELL_S <= energy_max_hz2_s * (1 + 1e-12)


def test_both_limits_can_be_approached():
    loose = waveforms(1e9).waveform_hz(random_theta(34, 1e4))
    assert float(loose.abs().max()) > 0.999 * B1_MAX_HZ
    tight = waveforms(50.0).waveform_hz(random_theta(34, 1e4))
    assert float((tight.abs() ** 2).sum()) * DWELL_S > 0.99 * 50.0


def test_small_parameters_are_amplitudes_in_units_of_the_limit():
    """Cubic B-splines add up to 1 inside: equal parameters give a plateau b1_max theta, x real and y imaginary."""
    shape = waveforms(1e9)
    theta = torch.cat([torch.full((17,), 1e-4), torch.full((17,), -3e-4)]).double()
    b1 = shape.waveform_hz(theta)
    np.testing.assert_allclose(b1[40:160], B1_MAX_HZ * (1e-4 - 3e-4j), rtol=1e-6)


def test_waveform_is_a_cubic_spline_that_starts_from_zero():
    """First spline near its end: (t / h)^3 / 6; the last one mirrored. de Boor, A Practical Guide to Splines."""
    shape = waveforms(1e9)
    t = (np.arange(10) + 0.5) * DWELL_S / KNOT_S
    np.testing.assert_allclose(shape.splines[:10, 0], t**3 / 6, rtol=1e-9)
    np.testing.assert_allclose(shape.splines[-10:, -1].flip(0), t**3 / 6, rtol=1e-9)
    assert float(shape.splines[:10, 1:].abs().sum(0)[1:].max()) == 0
    b1 = shape.waveform_hz(random_theta(34, 1.0))
    assert float(b1[0].abs()) < 1e-4 * B1_MAX_HZ
    assert float(b1[-1].abs()) < 1e-4 * B1_MAX_HZ


def test_number_of_knots():
    assert waveforms().n_parameters == 2 * 17
    # Never less than one spline.
    assert waveforms(knot_spacing_s=1.0).n_parameters == 2


@pytest.mark.parametrize("size", [0.0, 0.5, 20.0])
@pytest.mark.parametrize("energy_max_hz2_s", [20.0, 1e9])
def test_gradcheck(size, energy_max_hz2_s):
    shape = waveforms(energy_max_hz2_s, duration_s=4e-3, dwell_s=2e-4, knot_spacing_s=8e-4)
    theta = random_theta(shape.n_parameters, size).requires_grad_()
    assert torch.autograd.gradcheck(shape.waveform_hz, (theta,))


def test_a_duration_off_the_raster_is_refused():
    with pytest.raises(InputError, match="whole number of samples"):
        waveforms(duration_s=20.05e-3)


def test_waveform_stays_within_its_band():
    """Moderate parameters: 99.9 % of the energy within twice the knot rate."""
    b1 = waveforms(1e9).waveform_hz(random_theta(34, 0.5)).numpy()
    power = np.abs(np.fft.fft(b1, 4096)) ** 2
    f = np.abs(np.fft.fftfreq(4096, DWELL_S))
    assert power[f < 1 / KNOT_S].sum() > 0.999 * power.sum()
    assert math.isclose(power.sum() / 4096, float((np.abs(b1) ** 2).sum()), rel_tol=1e-9)


# --- Steps -----------------------------------------------------------------------------------------------------------


def steps(b1_max_hz=300.0, energy_max_hz2_s=1e9, **changes):
    given = {"duration_s": 0.02, "dwell_s": 2e-5, "knot_spacing_s": 5e-4}
    return step_waveform(**(given | changes), b1_max_hz=b1_max_hz, energy_max_hz2_s=energy_max_hz2_s)


def test_a_step_lasts_its_time_and_the_ends_are_free():
    shape = steps()
    theta = torch.linspace(-1, 1, shape.n_parameters, dtype=torch.float64)
    b1 = shape.waveform_hz(theta).reshape(40, 25)
    assert shape.n_parameters == 80
    assert bool((b1 == b1[:, :1]).all())
    # The disc map written out: x / sqrt(1 + x^2 + y^2).
    x, y = theta[:40].numpy(), theta[40:].numpy()
    wanted = 300 * (x + 1j * y) / np.sqrt(1 + x**2 + y**2)
    assert np.allclose(b1[:, 0].numpy(), wanted, rtol=1e-9)
    assert abs(wanted[0]) > 150


@pytest.mark.parametrize("size", [0.1, 3.0, 1e3])
def test_steps_keep_the_limits_of_splines(size):
    shape = steps(energy_max_hz2_s=200.0)
    b1 = shape.waveform_hz(size * torch.randn(80, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    assert float(b1.abs().max()) <= 300.0
    assert float((b1.abs() ** 2).sum()) * 2e-5 <= 200.0


@pytest.mark.parametrize("changes", [{"knot_spacing_s": 3e-4}, {"knot_spacing_s": 5.1e-4}, {"knot_spacing_s": 1e-5}])
def test_steps_that_do_not_fill_the_pulse_are_refused(changes):
    with pytest.raises(InputError, match=r"whole number of steps of .* Change duration, knot_spacing or rf_dwell"):
        steps(**changes)
