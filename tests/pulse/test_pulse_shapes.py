import math

import bloch
import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.pulse.shapes import bb1_pulse, gaussian_pulse, slr_pulse


def slr(flip_deg, time_bandwidth=6.0, duration_s=4e-3, dwell_s=2.5e-5, **kwargs):
    return slr_pulse(
        flip_angle_rad=math.radians(flip_deg),
        time_bandwidth=time_bandwidth,
        duration_s=duration_s,
        dwell_s=dwell_s,
        name="slr",
        **kwargs,
    )


def beta_squared(pulse, offsets_hz):
    """Inversion probability by multiplying up SU(2) matrices from the sine and cosine of each sample."""
    f = np.asarray(offsets_hz, dtype=float)
    a, b = np.ones_like(f, dtype=complex), np.zeros_like(f, dtype=complex)
    for b1 in pulse.b1_hz.numpy():
        size = np.hypot(abs(b1), f) + 1e-30
        c, s = np.cos(np.pi * size * pulse.dwell_s), -1j * np.sin(np.pi * size * pulse.dwell_s) / size
        # exp(-i angle/2 n.sigma), written out row by row: [[c + s f, s b1*], [s b1, c - s f]].
        a, b = (c + s * f) * a + s * np.conj(b1) * b, s * b1 * a + (c - s * f) * b
    return np.abs(b) ** 2


@pytest.mark.parametrize(("flip_deg", "time_bandwidth"), [(90, 6.0), (180, 6.0), (180, 4.0), (30, 8.0)])
def test_slr_flips_its_passband_and_spares_its_stopband(flip_deg, time_bandwidth):
    pulse = slr(flip_deg, time_bandwidth)
    half_width_hz = time_bandwidth / 4e-3 / 2
    wanted = math.sin(math.radians(flip_deg) / 2) ** 2
    passband = beta_squared(pulse, np.linspace(0, 0.45 * half_width_hz, 12))
    # Least squares ripples by 1 to 2 % in beta, twice that in |b|^2.
    np.testing.assert_allclose(passband, wanted, rtol=0.04)
    stopband = beta_squared(pulse, np.linspace(1.6 * half_width_hz, 6 * half_width_hz, 40))
    assert stopband.max() < 4e-3 * wanted


@pytest.mark.parametrize("flip_deg", [90, 180])
def test_width_of_beta_is_the_time_bandwidth_product(flip_deg):
    pulse = slr(flip_deg)
    f = np.linspace(0, 1500, 601)
    beta = np.sqrt(beta_squared(pulse, f))
    edge = f[np.nonzero(beta >= 0.5 * beta[0])[0][-1]]
    assert 2 * edge * pulse.duration_s == pytest.approx(6.0, rel=0.04)


@pytest.mark.parametrize("n_samples", [160, 161])
@pytest.mark.parametrize(("flip_deg", "time_bandwidth"), [(90, 6.0), (180, 6.0), (180, 5.2), (180, 4.0)])
def test_slr_is_a_real_symmetric_pulse_about_plus_x(flip_deg, time_bandwidth, n_samples):
    """A linear-phase beta with a minimum-phase alpha comes from a symmetric pulse."""
    b1 = slr(flip_deg, time_bandwidth, n_samples * 2.5e-5).b1_hz.numpy()
    assert np.abs(b1.imag).max() < 1e-9 * np.abs(b1).max()
    assert b1.real[len(b1) // 2] > 0
    np.testing.assert_allclose(b1, b1[::-1], rtol=0, atol=1e-9 * np.abs(b1).max())


def test_flip_on_resonance_is_the_one_asked_for():
    for flip_deg in (30, 90, 150):
        assert math.degrees(slr(flip_deg).flip_angle_rad) == pytest.approx(flip_deg, rel=0.02)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"duration_s": 31 * 2.5e-5}, "at least 32 whole samples"),
        ({"duration_s": 4.01e-3}, "at least 32 whole samples"),
        ({"time_bandwidth": 1.0}, "leaves no passband"),
    ],
)
def test_impossible_slr_pulses_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        slr(90, **changes)


def test_gaussian_has_its_flip_angle_and_cutoff():
    pulse = gaussian_pulse(flip_angle_rad=1.234, duration_s=20e-3, dwell_s=1e-4, name="gauss", cutoff=0.05)
    assert pulse.flip_angle_rad == pytest.approx(1.234, rel=1e-12)
    b1 = pulse.b1_hz.real.numpy()
    np.testing.assert_allclose(b1, b1[::-1], rtol=1e-12)
    # Samples stand half a dwell inside the ends: cutoff^((1 - 1/n)^2) of the peak at cutoff^((1/n)^2).
    n = 200
    assert b1[0] / b1.max() == pytest.approx(0.05 ** ((1 - 1 / n) ** 2 - (1 / n) ** 2), rel=1e-9)


@pytest.mark.parametrize("dwell_s", [3e-4, 1.0001e-4, 0.05])
def test_a_gaussian_is_a_whole_number_of_samples(dwell_s):
    with pytest.raises(InputError, match=r"duration 0\.02 s must be a whole number of samples of .* Change"):
        gaussian_pulse(flip_angle_rad=1.0, duration_s=20e-3, dwell_s=dwell_s, name="gauss")


def test_gaussian_excites_like_its_fourier_transform():
    """Small flip: |M+| is flip times |FT of the shape|, a Gaussian of sigma_f = 1 / (2 pi sigma_t)."""
    pulse = gaussian_pulse(flip_angle_rad=0.02, duration_s=20e-3, dwell_s=1e-4, name="gauss", cutoff=1e-5)
    f = np.array([0.0, 20.0, 50.0])
    sigma_s = 10e-3 / math.sqrt(-2 * math.log(1e-5))
    found = 2 * np.sqrt(beta_squared(pulse, f))
    np.testing.assert_allclose(found, 0.02 * np.exp(-2 * (np.pi * sigma_s * f) ** 2), rtol=0, atol=2e-5)


@pytest.mark.parametrize("flip_deg", [90, 180])
def test_bb1_forgives_errors_of_b1_in_the_sixth_order(flip_deg):
    """Bloch equations: the infidelity of +z rises 2^6-fold where the error doubles, that of a plain pulse 2^2-fold."""
    flip = math.radians(flip_deg)
    wanted = np.array([0, -math.sin(flip), math.cos(flip)])

    def infidelity(b1_hz, error):
        still, dwell_s = np.zeros((len(b1_hz), 3)), 1e-5
        m = bloch.play(bloch.along_z(1), (1 + error) * b1_hz, still, dwell_s, np.zeros((1, 3)), np.zeros(1))
        return 1 - m[0] @ wanted

    b1_hz = bb1_pulse(flip_angle_rad=flip, duration_s=5e-3, dwell_s=1e-5, name="bb1").b1_hz.numpy()
    plain = np.full(500, flip / (2 * math.pi * 5e-3))
    assert infidelity(b1_hz, 0.0) < 1e-6
    assert infidelity(b1_hz, 0.3) / infidelity(b1_hz, 0.15) == pytest.approx(64, rel=0.25)
    assert infidelity(plain, 0.3) / infidelity(plain, 0.15) == pytest.approx(4, rel=0.1)
    assert infidelity(b1_hz, 0.2) < 1e-2 * infidelity(plain, 0.2)
    # One amplitude but for the samples in which the phase changes: at most four.
    peak = (flip + 4 * math.pi) / (2 * math.pi * 5e-3)
    assert abs(b1_hz).max() == pytest.approx(peak)
    assert (abs(b1_hz) < 0.999 * peak).sum() <= 4
