"""THE sign: one singlet 1 ppm above water, from PRESS to a NIfTI-MRS file that nibabel and NumPy alone read."""

import nibabel as nib
import numpy as np
import pytest
from press_files import F0_HZ, WATER_PPM, build, write

from seqgen.mrs.convert import convert
from seqgen.mrs.mrd import write_mrd
from seqgen.mrs.nifti import write_nifti_mrs
from seqgen.mrs.phantom import Scan, Substance, simulate_scan
from seqgen.seqfile.reader import read_seq
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem


@pytest.mark.parametrize("above_ppm", [1.0, -1.7])
@pytest.mark.parametrize("seq_format", ["1.5.0", "1.4.1"])
def test_a_peak_above_water_is_above_water_on_disk(above_ppm, seq_format, tmp_path):
    built = build(slice_carrier_ppm=WATER_PPM + above_ppm, dummy_scans=2, averages=4)
    path = write(tmp_path / "press.seq", built, seq_format)
    seq = read_seq(path)
    group = SpinGroup(name="s", labels=("H",), shift_ppm=(WATER_PPM + above_ppm,), j_hz=((0.0,),))
    relaxation = Relaxation(t1_s=1.5, t2_s=0.3)
    scan = Scan(
        n_coils=2,
        snr=200.0,
        linewidth_hz=4.0,
        frequency_drift_hz=0.0,
        phase_drift_rad=0.0,
        residual_water_fraction=0.0,
        water_concentration_mm=50000.0,
        water_relaxation=relaxation,
        water_shift_ppm=WATER_PPM,
        shift_error_ppm=0.0,
        j_error_relative=0.0,
        t2_error_relative=0.0,
        eddy_phase_rad=0.0,
    )
    sample = {
        "X": Substance(system=SpinSystem(name="X", groups=(group,)), concentration_mm=10.0, relaxation=relaxation)
    }
    found = simulate_scan(seq, sample, scan, spectrometer_frequency_hz=F0_HZ, seed=1)
    write_mrd(
        tmp_path / "raw.h5",
        found.transients,
        spectrometer_frequency_hz=F0_HZ,
        dwell_s=2.5e-4,
        seq_signature=seq.signature,
        seq_sha256=seq.sha256,
        labels=found.labels,
        start_s=found.start_s,
    )
    converted = convert(tmp_path / "raw.h5", path, time="2026-01-01T00:00:00Z")
    write_nifti_mrs(converted.metabolite, tmp_path / "data.nii.gz")

    image = nib.load(tmp_path / "data.nii.gz")
    values = np.asarray(image.dataobj)
    fid = values.reshape(values.shape[3], -1, order="F")[:, 0]
    dwell_s = float(image.header["pixdim"][4])
    frequency_hz = np.fft.fftfreq(fid.size, dwell_s)
    peak_hz = frequency_hz[np.abs(np.fft.fft(fid)).argmax()]
    # The standard's sense: ppm = reference - f / f0, the reference (water) at zero frequency.
    assert dwell_s == pytest.approx(2.5e-4)
    bin_ppm = 1 / (fid.size * dwell_s) / 123.2
    assert -peak_hz / 123.2 == pytest.approx(above_ppm, abs=bin_ppm)
