"""What a file is said to show, against line spectra in plain NumPy."""

import numpy as np
import pytest
from press_files import F0_HZ, WATER_PPM, build, write

from seqgen.seqfile.reader import read_seq
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem
from seqgen.verify.predict import Prediction, predict, pulse_acquire_spectrum, window_result

PLACE = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM}


def singlet(ppm, protons=1.0):
    group = SpinGroup(name="singlet", labels=("H",), shift_ppm=(ppm,), j_hz=((0.0,),), multiplier=protons)
    return SpinSystem(name="singlet", groups=(group,))


def lorentzian(ppm_axis, ppm, linewidth_hz):
    return 1 / (np.pi * linewidth_hz + 2j * np.pi * (ppm_axis - ppm) * 1e-6 * F0_HZ)


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    seq = read_seq(write(tmp_path_factory.mktemp("predict") / "press.seq", build()))
    systems = {"low": singlet(2.5), "high": singlet(3.1, 3.0)}
    relaxation = {"low": Relaxation(t1_s=1.5, t2_s=0.2), "high": Relaxation(t1_s=1.5, t2_s=0.1)}
    return predict(seq, systems, relaxation, linewidth_hz=4.0, **PLACE)


def test_singlets_are_lorentzians_at_their_shift_with_t2_over_te(prediction):
    """In a slice all but perfect: 0.9 to 1 of the protons, the same for both, absorption positive."""
    assert prediction.te_s == pytest.approx(0.075, abs=1e-9)
    voxel = []
    for name, ppm, protons, t2_s in (("low", 2.5, 1, 0.2), ("high", 3.1, 3, 0.1)):
        shape = lorentzian(prediction.ppm, ppm, 4.0) * protons * np.exp(-0.075 / t2_s)
        factor = np.vdot(shape, prediction.spectra[name]) / np.vdot(shape, shape)
        assert np.abs(prediction.spectra[name] - factor * shape).max() < 1e-3 * np.abs(shape).max()
        assert abs(np.angle(factor)) < 0.03
        voxel.append(abs(factor))
    assert voxel == pytest.approx([voxel[0]] * 2, rel=0.02)
    assert 0.8 < voxel[0] < 1.05


def test_pulse_acquire_is_the_whole_signal(prediction):
    found = pulse_acquire_spectrum(singlet(2.5, 2.0), prediction, linewidth_hz=4.0, **PLACE)
    assert found == pytest.approx(2 * lorentzian(prediction.ppm, 2.5, 4.0), abs=1e-9)


def test_window_figures_by_hand():
    ppm = np.array([2.0, 2.2, 2.3, 2.4, 2.6])
    spectra = {
        "A": np.array([9, 3, 4j, 0, 9.0], dtype=complex),
        "B": np.array([9, 0, 1, 1, 9.0], dtype=complex),
        "C": np.array([9, 0, 0, 1j, 9.0], dtype=complex),
    }
    prediction = Prediction(seq_name="x", te_s=0.0, ppm=ppm, spectra=spectra)
    result = window_result(prediction, "A", ("B", "C"), (2.1, 2.5), np.array([0, 6, 8, 0, 0], dtype=complex))
    assert result.signal == pytest.approx(0.5)
    assert result.contamination == pytest.approx(np.sqrt(3) / 5)
