import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from seqgen.errors import InputError
from seqgen.model.lineshape import damping, lines_to_spectrum, lorentz_response, voigt_fwhm_hz, voigt_response

FREQUENCY_HZ = torch.tensor([-40.0, 3.3, 120.0], dtype=torch.float64)
AXIS_HZ = torch.linspace(-200, 200, 41, dtype=torch.float64)


def fourier_integral(f_hz, f0_hz, decay):
    """int_0^inf exp(2 pi i (f0 - f) t) decay(t) dt by adaptive quadrature."""
    phase = 2 * math.pi * (f0_hz - f_hz)
    real = quad(decay, 0, 3, weight="cos", wvar=phase, epsabs=1e-12, limit=500)[0]
    imag = quad(decay, 0, 3, weight="sin", wvar=phase, epsabs=1e-12, limit=500)[0]
    return complex(real, imag)


def full_width_at_half_maximum(axis, values):
    above = axis[values >= values.max() / 2]
    return above[-1] - above[0]


@pytest.mark.parametrize(("lorentz", "gauss"), [(5.0, 0.0), (0.0, 7.0), (4.0, 6.0)])
def test_damping_has_the_stated_width(lorentz, gauss):
    dwell, n = 1e-4, 2**16
    fid = damping(torch.arange(n, dtype=torch.float64) * dwell, lorentz, gauss).numpy()
    fid[0] /= 2
    spectrum = np.fft.fftshift(np.fft.fft(fid, 4 * n)).real
    axis = np.fft.fftshift(np.fft.fftfreq(4 * n, dwell))
    measured = full_width_at_half_maximum(axis, spectrum)
    expected = voigt_fwhm_hz(lorentz, gauss)
    # Bins of 0.04 Hz on both sides; the Voigt formula is good to 0.02 %.
    assert measured == pytest.approx(expected, abs=0.09)


def test_lorentz_response_is_the_fourier_integral():
    response = lorentz_response(FREQUENCY_HZ, AXIS_HZ, 6.0)
    for line in range(3):
        for point in (0, 13, 20, 24):
            oracle = fourier_integral(
                float(AXIS_HZ[point]), float(FREQUENCY_HZ[line]), lambda t: math.exp(-math.pi * 6.0 * t)
            )
            assert complex(response[line, point]) == pytest.approx(oracle, abs=1e-9)


def test_spectrum_of_lines_equals_fft_of_a_long_fid():
    amplitude = torch.tensor([1.0 + 0.5j, -0.3 + 2j, 0.7j], dtype=torch.complex128)
    fwhm_hz = torch.tensor([3.0, 5.0, 8.0], dtype=torch.float64)
    errors = []
    for dwell in (4e-5, 2e-5):
        n = round(2.0 / dwell)
        t = np.arange(n) * dwell
        lines = np.exp(2j * np.pi * FREQUENCY_HZ.numpy() * t[:, None] - np.pi * fwhm_hz.numpy() * t[:, None])
        fid = lines @ amplitude.numpy()
        axis = np.fft.fftshift(np.fft.fftfreq(n, dwell))
        window = np.abs(axis) < 200
        summed = np.fft.fftshift(np.fft.fft(fid))[window] * dwell
        analytic = lines_to_spectrum(amplitude, FREQUENCY_HZ, torch.from_numpy(axis[window]), fwhm_hz).numpy()
        errors.append(np.abs(summed - fid[0] * dwell / 2 - analytic).max())
    assert errors[0] < 1e-5 * np.abs(analytic).max()
    # Half the first sample makes the sum a trapezoid: order 2 in the dwell time.
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.05)


def test_voigt_response_is_the_fourier_integral():
    widths = torch.tensor([2.0, 9.0, 15.0], dtype=torch.float64)
    response = voigt_response(FREQUENCY_HZ, AXIS_HZ, 3.0, widths)
    for line in range(3):
        for point in (0, 16, 20, 32):
            width = float(widths[line])
            oracle = fourier_integral(
                float(AXIS_HZ[point]),
                float(FREQUENCY_HZ[line]),
                lambda t, g=width: math.exp(-math.pi * 3.0 * t - (math.pi * g * t) ** 2 / (4 * math.log(2))),
            )
            assert complex(response[line, point]) == pytest.approx(oracle, abs=1e-9)


def test_area_of_the_absorption_line_is_half_the_amplitude():
    axis = torch.linspace(-2000, 2000, 400001, dtype=torch.float64)
    for response in (lorentz_response(torch.zeros(1), axis, 1.0), voigt_response(torch.zeros(1), axis, 1.0, 4.0)):
        # A Lorentzian of 1 Hz leaves 2/(pi 4000) of its area outside +-2000 Hz.
        area = float(torch.trapezoid(response[0].real, axis))
        assert area == pytest.approx(0.5, rel=5e-4)


def test_gradients():
    amplitude = torch.randn(2, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    amplitude[0, 1] = 0
    amplitude.requires_grad_()
    frequency = FREQUENCY_HZ.clone().requires_grad_()
    axis = AXIS_HZ[::8]
    width = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, f, w: lines_to_spectrum(a, f, axis, w), (amplitude, frequency, width))
    time = torch.linspace(0, 0.2, 5, dtype=torch.float64)
    zero = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: damping(time, a, b), (width, zero))


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan])
def test_a_line_without_width_is_refused(width):
    with pytest.raises(InputError, match="`fwhm_hz` must be positive"):
        lorentz_response(FREQUENCY_HZ, AXIS_HZ, width)
    with pytest.raises(InputError, match="`fwhm_gauss_hz` must be positive"):
        voigt_response(FREQUENCY_HZ, AXIS_HZ, 1.0, width)
