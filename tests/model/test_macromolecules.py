import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak, macromolecule_fid, macromolecule_spectrum

F0_HZ = 123.2e6
PEAKS = (
    MacromoleculePeak(name="MM0.92", shift_ppm=0.92, fwhm_ppm=0.15, amplitude=2.0),
    MacromoleculePeak(name="MM2.04", shift_ppm=2.04, fwhm_ppm=0.2, amplitude=1.0),
    MacromoleculePeak(name="MM6", shift_ppm=6.0, fwhm_ppm=0.1, amplitude=0.5),
)


def test_fid_gives_peaks_at_their_shift_with_their_width_and_area():
    dwell, n = 2e-4, 8192
    fid = macromolecule_fid(PEAKS, torch.arange(n) * dwell, F0_HZ, 4.65).numpy()
    fid[0] /= 2
    spectra = np.fft.fftshift(np.fft.fft(fid, axis=0), axes=0).real * dwell
    axis_hz = np.fft.fftshift(np.fft.fftfreq(n, dwell))
    ppm = 4.65 + axis_hz / 123.2
    for k, peak in enumerate(PEAKS):
        line = spectra[:, k]
        above = ppm[line >= line.max() / 2]
        assert ppm[line.argmax()] == pytest.approx(peak.shift_ppm, abs=0.005)
        assert above[-1] - above[0] == pytest.approx(peak.fwhm_ppm, abs=0.012)
        assert line.sum() * (axis_hz[1] - axis_hz[0]) == pytest.approx(peak.amplitude / 2, rel=1e-6)


def test_spectrum_is_the_transform_of_the_fid():
    dwell, n = 2e-5, 2**16
    fid = macromolecule_fid(PEAKS, torch.arange(n) * dwell, F0_HZ, 4.65).numpy()
    fid *= np.exp(-np.pi * 3.0 * np.arange(n) * dwell)[:, None]
    axis_hz = np.fft.fftshift(np.fft.fftfreq(n, dwell))
    window = np.abs(axis_hz) < 600
    summed = np.fft.fftshift(np.fft.fft(fid, axis=0), axes=0)[window] * dwell - fid[0] * dwell / 2
    analytic = macromolecule_spectrum(PEAKS, torch.from_numpy(axis_hz[window]), F0_HZ, 4.65, 3.0).numpy()
    assert np.abs(summed.T - analytic).max() < 1e-4 * np.abs(analytic).max()


def test_no_peaks_give_no_columns():
    assert macromolecule_fid((), torch.zeros(7), F0_HZ, 4.65).shape == (7, 0)
    assert macromolecule_spectrum((), torch.zeros(7), F0_HZ, 4.65).shape == (0, 7)


def test_a_peak_without_width_is_refused():
    with pytest.raises(InputError, match=r"'MM2\.04': fwhm_ppm must be positive"):
        MacromoleculePeak(name="MM2.04", shift_ppm=2.04, fwhm_ppm=0.0, amplitude=1.0)
