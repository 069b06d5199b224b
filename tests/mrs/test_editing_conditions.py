"""MEGA-PRESS and ISIS-PRESS from the file through a simulated scan to NIfTI-MRS."""

from dataclasses import replace

import numpy as np
import pytest
from press_files import F0_HZ, PARAMS, PRESS, WATER_PPM, context, write
from test_phantom import CLEAN, substance

from seqgen.errors import InputError
from seqgen.mrs.basis_simulation import simulate_basis
from seqgen.mrs.convert import convert
from seqgen.mrs.data import condition_of, one_condition
from seqgen.mrs.mrd import write_mrd
from seqgen.mrs.nifti import read_nifti_mrs, write_nifti_mrs
from seqgen.mrs.phantom import simulate_scan
from seqgen.provenance import Provenance
from seqgen.seqfile.reader import read_seq
from seqgen.sequence.contract import sensible_params
from seqgen.sequence.plugins import DesignedShot, find_sequence

SHORT = {"averages": 8, "dummy_scans": 1, "adc_samples": 256, "voxel_size_m": (0.02, 0.025, 0.03)}
ON_PPM = 1.9


def scanned(name, tmp_path, sample, **changes):
    """Build, write, scan and convert a sequence; return (file, simulated scan, converted)."""
    spec = find_sequence(name)
    params = replace(sensible_params(spec, context(), **SHORT), **changes)
    path = write(tmp_path / f"{name}.seq", spec.build(params, context()))
    seq = read_seq(path)
    scan = simulate_scan(seq, sample, CLEAN, spectrometer_frequency_hz=F0_HZ, seed=3)
    raw = tmp_path / f"{name}.h5"
    written(raw, seq, scan.transients, scan)
    return seq, scan, convert(raw, path, time="2026-01-01T00:00:00")


def written(raw, seq, transients, scan):
    """Write raw data of a simulated scan."""
    dwell_s = next(block.adc.dwell_s for block in seq.blocks if block.adc is not None)
    write_mrd(
        raw,
        transients,
        spectrometer_frequency_hz=F0_HZ,
        dwell_s=dwell_s,
        seq_signature=seq.signature,
        seq_sha256=seq.sha256,
        labels=scan.labels,
        start_s=scan.start_s,
        system={"systemVendor": "seqgen", "systemModel": "simulated scan"},
        provenance=Provenance(made_from={}, seed=3),
    )


def test_editing_conditions_become_a_dimension_of_nifti_mrs(tmp_path):
    """A singlet under the ON pulses is inverted twice at TE/4 and 3/4 TE; one far away does not notice them."""
    sample = {"edited": substance(ON_PPM, 10.0), "far": substance(3.6, 10.0)}
    seq, scan, converted = scanned("mega_press", tmp_path, sample, water_reference_averages=2, noise_scans=2)
    data = converted.metabolite
    assert data.dims == ("DIM_DYN", "DIM_EDIT")
    assert data.fid.shape[1:] == (4, 2)
    assert [labels.get("NOISE") for labels in scan.labels] == [1] * 2 + [0] * 10
    kept = [k for k, labels in enumerate(scan.labels) if not labels["REF"] and not labels["NOISE"]]
    assert [scan.labels[k]["SET"] for k in kept] == [0, 1] * 4
    played = np.array([scan.transients[k, 0] for k in kept]).reshape(4, 2, -1)[..., -data.n_samples :]
    np.testing.assert_allclose(data.fid, played.transpose(2, 0, 1), rtol=1e-5, atol=1e-6 * np.abs(played).max())
    header = (
        data.header["dim_6_header"]["PulseqLabelSET"]["Value"],
        data.header["dim_5_header"]["PulseqLabelPHS"]["Value"],
    )
    assert header == ([0, 1], [0, 1, 0, 1])
    assert data.header["EchoTime"] == pytest.approx(seq.definition_numbers("TE")[0], abs=1e-8)
    assert converted.water_reference is not None
    assert "DIM_EDIT" not in converted.water_reference.dims
    write_nifti_mrs(data, tmp_path / "mega.nii.gz")
    assert read_nifti_mrs(tmp_path / "mega.nii.gz").dims == data.dims


def test_one_condition_is_taken_by_its_label(tmp_path):
    sample = {"edited": substance(ON_PPM, 10.0), "far": substance(3.6, 10.0)}
    _, _, converted = scanned("mega_press", tmp_path, sample, water_reference_averages=0)
    data = converted.metabolite
    for condition in (0, 1):
        one = one_condition(data, condition)
        assert one.dims == ("DIM_DYN",)
        np.testing.assert_array_equal(one.fid, data.fid[..., condition])
        write_nifti_mrs(one, tmp_path / f"{condition}.nii.gz")
        assert condition_of(read_nifti_mrs(tmp_path / f"{condition}.nii.gz")) == condition
    assert condition_of(data) is None
    for wrong in (None, 2):
        with pytest.raises(InputError, match=f"conditions SET 0, 1, but {wrong} is asked for"):
            one_condition(data, wrong)
    with pytest.raises(InputError, match="Name no condition"):
        one_condition(one, 0)
    assert one_condition(one, None) is one


def test_a_basis_set_belongs_to_one_condition(tmp_path):
    spec = find_sequence("mega_press")
    built = spec.build(sensible_params(spec, context(), **SHORT), context())
    seq = read_seq(write(tmp_path / "mega.seq", built))
    where = {"spectrometer_frequency_hz": F0_HZ, "reference_ppm": WATER_PPM, "provenance": Provenance(made_from={})}
    systems = {"edited": substance(ON_PPM, 1.0).system}
    with pytest.raises(InputError, match="editing conditions SET 0, 1, and a basis set belongs to one"):
        simulate_basis(seq, systems, **where)
    both = [simulate_basis(seq, systems, condition=condition, **where) for condition in (0, 1)]
    assert [basis.condition for basis in both] == [0, 1]
    on, off = (basis.fid for basis in both)
    assert np.abs(on[0]) < 0.1 * np.abs(off[0])


def test_what_the_editing_pulses_do_not_touch_cancels_in_the_difference(tmp_path):
    sample = {"far": substance(3.6, 10.0)}
    _, _, converted = scanned("mega_press", tmp_path, sample, water_reference_averages=0)
    on, off = converted.metabolite.fid.mean(1).T
    assert np.abs(on - off).max() < 0.01 * np.abs(off).max()


@pytest.mark.parametrize("dummy_scans", [0, 1])
def test_isis_keeps_the_voxel(tmp_path, dummy_scans):
    """Pairs of shots are one acquisition: one voxel of the sample, decayed over TE and saturated at TR."""
    _, scan, converted = scanned(
        "isis_press", tmp_path, {"A": substance(2.8, 10.0)}, water_reference_averages=4, dummy_scans=dummy_scans
    )
    data = converted.metabolite
    assert data.dims == ("DIM_DYN",)
    assert data.fid.shape[1] == 4
    assert [labels["PHS"] for labels in scan.labels] == [0, 1, 2, 3] * 2 + [0, 1] * 2
    assert data.header["ProcessingApplied"][-1]["Method"] == "Addition of ISIS steps"
    assert data.header["dim_5_header"]["PulseqLabelPHS"]["Value"] == [0, 2, 0, 2]
    whole = 10.0 * np.exp(-data.header["EchoTime"] / 0.3) * (1 - np.exp(-2.0 / 1.5))
    assert np.abs(data.fid[0].mean()) == pytest.approx(whole, rel=0.02)
    assert converted.water_reference is not None
    assert converted.water_reference.fid.shape[1] == 2


def test_what_lies_outside_the_isis_slice_is_gone_before_anything_aligns_the_shots(tmp_path):
    """Inside S, outside 3 S: shots hold S + 3 S and, the receiver turned, S - 3 S."""
    seq, scan, _ = scanned("isis_press", tmp_path, {"A": substance(2.8, 10.0)}, water_reference_averages=0)
    outside = 3.0 * scan.transients[0]
    signs = np.array([-1.0 if labels["PHS"] % 2 == 0 else 1.0 for labels in scan.labels])
    played = scan.transients + signs[:, None, None] * outside
    raw = tmp_path / "both.h5"
    written(raw, seq, played, scan)
    data = convert(raw, tmp_path / "isis_press.seq", time="2026-01-01T00:00:00").metabolite
    # Single precision of the raw file.
    error = np.abs(data.fid - scan.transients[0, 0, -data.n_samples :, None]).max()
    assert error < 1e-5 * np.abs(outside).max()


def test_the_echo_of_steam_comes_tm_after_the_halves_of_te(tmp_path):
    seq, _, converted = scanned("steam", tmp_path, {"A": substance(2.8, 10.0)}, tm_s=0.02, te_s=0.03)
    header = converted.metabolite.header
    assert header["EchoTime"] == pytest.approx(0.03, abs=1e-8)
    assert abs(header["AcquisitionStartTime"]) < 1e-6
    assert seq.definition_numbers("TM") == (0.02,)


def test_every_condition_decays_over_its_own_echo_time(tmp_path):
    """Plain shots that differ in TE alone: singlets in the ratio of exp(-TE/T2), water with the TE of the last."""
    te_s = ((0.041, 0.034), (0.061, 0.074))
    shots = tuple(DesignedShot(pulses={}, te1_s=te1_s, te2_s=te2_s) for te1_s, te2_s in te_s)
    changes = {"water_suppression": "none", "averages": 4, "dummy_scans": 0, "water_reference_averages": 2}
    built = PRESS.build(replace(PARAMS, **changes), replace(context(), editing_shots=shots))
    path = write(tmp_path / "two.seq", built)
    seq = read_seq(path)
    scan = simulate_scan(seq, {"A": substance(2.8, 10.0)}, CLEAN, spectrometer_frequency_hz=F0_HZ, seed=3)
    raw = tmp_path / "two.h5"
    written(raw, seq, scan.transients, scan)
    converted = convert(raw, path, time="2026-01-01T00:00:00")
    data, water = converted.metabolite, converted.water_reference
    assert "EchoTime" not in data.header
    write_nifti_mrs(data, tmp_path / "two.nii.gz")
    one = [one_condition(read_nifti_mrs(tmp_path / "two.nii.gz"), condition) for condition in (0, 1)]
    assert [each.header["EchoTime"] for each in one] == pytest.approx([0.075, 0.135], abs=1e-8)
    first, second = (np.abs(each.fid[0]).mean() for each in one)
    assert second / first == pytest.approx(np.exp(-0.06 / 0.3), rel=1e-3)
    assert water is not None
    assert water.header["EchoTime"] == pytest.approx(0.135, abs=1e-8)
    # One proton and two, saturated and decayed alike otherwise.
    saturated = (1 - np.exp(-2.0 / 2.5)) / (1 - np.exp(-2.0 / 1.5))
    expected = 2 * 50000.0 / 10.0 * saturated * np.exp(-0.135 / 1.5 + 0.135 / 0.3)
    assert np.abs(water.fid[0]).mean() / second == pytest.approx(expected, rel=0.02)
