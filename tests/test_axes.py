import numpy as np
import pytest

from seqgen import axes, units

F0_HZ = 123.2e6


@pytest.mark.parametrize("n", [8, 9])
def test_frequency_axis_ascends_through_zero(n):
    f = axes.frequency_axis_hz(n, 1e-3)
    assert f[n // 2] == 0
    np.testing.assert_allclose(np.diff(f), 1000 / n)


def test_time_axis_starts_at_zero():
    np.testing.assert_allclose(axes.time_axis_s(4, 2.5e-4), [0, 2.5e-4, 5e-4, 7.5e-4])


@pytest.mark.parametrize("n", [256, 255])
def test_a_peak_one_ppm_above_the_reference_stands_at_reference_plus_one(n):
    dwell_s = n / 246.4e3 / (n / 256)
    fid = np.exp(2j * np.pi * 123.2 * axes.time_axis_s(n, dwell_s))
    values = axes.spectrum(fid)
    ppm = axes.ppm_axis(n, dwell_s, F0_HZ, 4.65)
    width_ppm = 1e6 / (n * dwell_s) / F0_HZ
    assert abs(ppm[np.argmax(np.abs(values))] - 5.65) <= width_ppm / 2
    assert axes.ppm_to_hz(5.65, F0_HZ, 4.65) == pytest.approx(123.2)


def test_peak_on_a_bin_is_exact():
    n, dwell_s = 1000, 1 / 1232.0
    fid = np.exp(2j * np.pi * 123.2 * axes.time_axis_s(n, dwell_s))
    values = axes.spectrum(fid)
    k = int(np.argmax(np.abs(values)))
    assert axes.ppm_axis(n, dwell_s, F0_HZ, 4.65)[k] == pytest.approx(5.65, abs=1e-12)
    assert values[k] == pytest.approx(n, abs=1e-8)


def test_spectrum_is_the_fourier_sum():
    rng = np.random.default_rng(0)
    fid = rng.normal(size=12) + 1j * rng.normal(size=12)
    t, f = axes.time_axis_s(12, 1e-3), axes.frequency_axis_hz(12, 1e-3)
    expected = np.exp(-2j * np.pi * f[:, None] * t) @ fid
    np.testing.assert_allclose(axes.spectrum(fid), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [16, 15])
def test_spectrum_and_fid_are_inverse_along_the_first_axis(n):
    rng = np.random.default_rng(n)
    fid = rng.normal(size=(n, 3)) + 1j * rng.normal(size=(n, 3))
    np.testing.assert_allclose(axes.fid_from_spectrum(axes.spectrum(fid)), fid, rtol=0, atol=1e-14)
    np.testing.assert_allclose(axes.spectrum(fid)[:, 1], axes.spectrum(fid[:, 1]), rtol=0, atol=1e-14)


def test_ppm_and_hz_are_inverse():
    for ppm in (-1.0, 2.35, 4.65, 7.8):
        assert axes.hz_to_ppm(axes.ppm_to_hz(ppm, F0_HZ, 4.8), F0_HZ, 4.8) == pytest.approx(ppm, abs=1e-14)
    assert axes.ppm_to_hz(3.65, 100e6, 4.65) == pytest.approx(-100.0)


def test_on_disk_a_higher_ppm_turns_clockwise():
    t = axes.time_axis_s(64, 1e-3)
    on_disk = axes.conjugate_for_disk(np.exp(2j * np.pi * 100.0 * t))
    assert np.all(np.diff(np.unwrap(np.angle(on_disk))) < 0)
    np.testing.assert_allclose(axes.conjugate_for_disk(on_disk), np.exp(2j * np.pi * 100.0 * t))


def test_units_of_a_siemens_3_t():
    assert units.b0_t(123.2e6) == pytest.approx(2.893548, abs=1e-6)
    assert units.hz_to_tesla(units.tesla_to_hz(13.5e-6)) == pytest.approx(13.5e-6)
    # 1 mT/m is 42.577 kHz/m.
    assert units.tesla_to_hz(1e-3) == pytest.approx(42577.478461)
