import math

import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse, hold, in_scanner_frame


def ramp(n=8, **kwargs):
    return RFPulse(b1_hz=100 * torch.arange(1, n + 1).cdouble(), dwell_s=1e-5, name="ramp", **kwargs)


def test_numbers_of_a_block_pulse():
    pulse = RFPulse(b1_hz=torch.full((100,), 250j, dtype=torch.complex128), dwell_s=1e-5)
    assert pulse.duration_s == pytest.approx(1e-3)
    assert pulse.flip_angle_rad == pytest.approx(math.pi / 2)
    assert pulse.peak_hz == 250
    assert pulse.rms_hz == pytest.approx(250)
    assert pulse.energy_hz2_s == pytest.approx(62.5)


def test_rms_is_over_the_whole_pulse():
    b1 = torch.tensor([0, 300, 0, 400], dtype=torch.complex128)
    assert RFPulse(b1_hz=b1, dwell_s=1e-5).rms_hz == pytest.approx(250)


def test_hold_repeats_samples():
    held = hold(ramp(3), 2.5e-6)
    assert held.real.tolist() == [100] * 4 + [200] * 4 + [300] * 4


def test_hold_is_differentiable():
    b1 = torch.ones(3, dtype=torch.complex128, requires_grad=True)
    (gradient,) = torch.autograd.grad(hold(RFPulse(b1_hz=b1, dwell_s=1e-5), 2e-6).real.sum(), b1)
    assert gradient.real.tolist() == [5, 5, 5]


@pytest.mark.parametrize("raster_s", [3e-6, 2e-5, 1.0000001e-5])
def test_a_raster_that_does_not_divide_the_dwell_is_refused(raster_s):
    with pytest.raises(InputError, match="not a multiple of the RF raster"):
        hold(ramp(), raster_s)


@pytest.mark.parametrize("n", [7, 8])
def test_carrier_has_zero_phase_in_the_middle(n):
    """exp(+2 pi i offset (t - T / 2)) at the middle of each raster sample."""
    pulse = RFPulse(b1_hz=torch.full((n,), 100.0 + 0j, dtype=torch.complex128), dwell_s=1e-5, carrier_offset_hz=1500.0)
    found = in_scanner_frame(pulse, 2e-6).numpy()
    t_s = np.array([(k + 0.5) * 2e-6 - n * 0.5e-5 for k in range(5 * n)])
    np.testing.assert_allclose(found, 100 * np.exp(2j * np.pi * 1500.0 * t_s), rtol=0, atol=1e-10)
    # Symmetric about the centre: the phase runs from minus to plus, rising for a positive offset.
    np.testing.assert_allclose(found, found[::-1].conj(), rtol=0, atol=1e-10)
    assert np.angle(found[-1]) > 0


def test_no_carrier_changes_nothing():
    torch.testing.assert_close(in_scanner_frame(ramp(), 1e-5), ramp().b1_hz, rtol=0, atol=0)


@pytest.mark.parametrize(
    "b1_hz",
    [torch.ones(4, dtype=torch.float64), torch.ones(2, 2, dtype=torch.complex128), torch.ones(0, dtype=torch.cfloat)],
)
def test_a_waveform_of_the_wrong_kind_is_refused(b1_hz):
    with pytest.raises(InputError, match=r"complex of shape \(n,\)"):
        RFPulse(b1_hz=b1_hz, dwell_s=1e-5, name="bad")


@pytest.mark.parametrize("value", [complex("nan"), complex(0, math.inf)])
def test_a_waveform_with_holes_is_refused(value):
    with pytest.raises(InputError, match="NaN or infinite"):
        RFPulse(b1_hz=torch.tensor([1, value], dtype=torch.complex128), dwell_s=1e-5)


@pytest.mark.parametrize("dwell_s", [0.0, -1e-5, math.nan, math.inf])
def test_a_sample_has_a_duration(dwell_s):
    with pytest.raises(InputError, match=r"Pulse 'bad': dwell_s must be positive and finite, but is .*\. Give"):
        RFPulse(b1_hz=torch.ones(4, dtype=torch.complex128), dwell_s=dwell_s, name="bad")


@pytest.mark.parametrize("raster_s", [0.0, -1e-6, math.nan, math.inf])
def test_a_raster_is_positive(raster_s):
    with pytest.raises(InputError, match="RF raster must be positive and finite"):
        hold(ramp(), raster_s)
