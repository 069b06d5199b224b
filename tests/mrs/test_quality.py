import math

import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.mrs.quality import (
    linewidth_hz,
    noise_covariance,
    noise_sd_of_fid,
    noise_sd_of_spectrum,
    snr_consensus,
)

N, DWELL_S = 2048, 2.5e-4
T = np.arange(N) * DWELL_S
SIGNAL = np.exp((2j * np.pi * 30 - np.pi * 3) * T)


def white(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def test_noise_of_fid_is_found_beside_a_signal_a_thousand_times_larger():
    rng = np.random.default_rng(1)
    fid = 1000 * SIGNAL[:, None] + 0.7 * white(rng, N, 16)
    # 16 transients x 307 bins of a Hann window (effective half) x 2 components: relative sd about 1 %.
    assert noise_sd_of_fid(fid) == pytest.approx(0.7, rel=0.03)


def test_covariance_of_coloured_coil_noise():
    rng = np.random.default_rng(2)
    mix = white(rng, 4, 4)
    fid = np.einsum("cd,tds->tcs", mix, white(rng, N, 4, 64))
    np.testing.assert_allclose(noise_covariance(fid), 2 * mix @ mix.conj().T, atol=0.02 * np.abs(mix).max() ** 2 * 4)


def test_noise_of_spectrum_without_the_water_tail():
    rng = np.random.default_rng(3)
    spectra = np.fft.fftshift(np.fft.fft(500 * SIGNAL + 0.7 * white(rng, N)))
    ppm = 4.65 + np.fft.fftshift(np.fft.fftfreq(N, DWELL_S)) / 123.2
    assert noise_sd_of_spectrum(spectra, ppm, (9.0, 14.0)) == pytest.approx(0.7 * math.sqrt(N), rel=0.08)


def test_noise_of_a_pure_parabola_is_zero_and_its_degrees_of_freedom_are_counted():
    ppm = np.linspace(0, 1, 21)
    assert noise_sd_of_spectrum((ppm**2 + 1j * ppm) * 50, ppm, (0, 1)) == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(5)
    variances = [noise_sd_of_spectrum(white(rng, 21), ppm, (0, 1)) ** 2 for _ in range(2000)]
    # 36 degrees of freedom: the mean of 2000 variances spreads by sqrt(2/36/2000) = 0.5 %; uncorrected: 0.857.
    assert np.mean(variances) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("range_ppm", [(20.0, 25.0), (9.0, 9.05)])
def test_a_noise_range_outside_or_too_small_is_refused(range_ppm):
    ppm = np.linspace(0, 12, 500)
    with pytest.raises(InputError, match="noise_range_ppm"):
        noise_sd_of_spectrum(np.ones(500) + 0j, ppm, range_ppm)


@pytest.mark.parametrize("width", [1.5, 5.0, 12.0])
def test_linewidth_of_a_lorentzian_whatever_its_phase(width):
    n = 8192
    t = np.arange(n) * DWELL_S
    fid = np.exp((2j * np.pi * 37.3 - np.pi * width) * t + 1.1j)
    assert linewidth_hz(fid, DWELL_S, (-50, 120)) == pytest.approx(width, rel=0.002)
    beside_another = fid + 3 * np.exp((-2j * np.pi * 300 - np.pi * 2) * t)
    assert linewidth_hz(beside_another, DWELL_S, (-50, 120)) == pytest.approx(width, rel=0.1)


def test_linewidth_refuses_what_has_none():
    with pytest.raises(InputError, match="lies outside the spectrum"):
        linewidth_hz(SIGNAL, DWELL_S, (5000, 6000))
    with pytest.raises(InputError, match="half its height"):
        linewidth_hz(np.array([1, 0, 0, 0], dtype=complex), DWELL_S, (-100, 100))


def test_snr_by_hand():
    spectrum = np.array([0.0, 3 - 5j, 12 + 1j, 2.0])
    assert snr_consensus(spectrum, 1.5) == pytest.approx(8.0)
