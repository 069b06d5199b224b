"""Shots with echo times of their own, from the file to concentrations; data and basis of different conditions."""

from dataclasses import replace

import pytest
from press_files import random_pulse

from seqgen.errors import InputError
from seqgen.mrs.basis import load_basis, save_basis
from seqgen.mrs.process import ProcessSettings
from seqgen.pipeline.analyse import fit_data, make_basis, process_data
from seqgen.pipeline.scan import convert_raw, simulate_raw
from seqgen.seqfile.writer import write_seq
from seqgen.sequence.plugins import DesignedShot

TIME = "2026-01-01T00:00:00Z"
TE_S = ((0.041, 0.034), (0.061, 0.074))
TRUTH_MM = {"Glu": 12.5, "Gln": 3.0}
T2_S = {"Glu": 0.2, "Gln": 0.15}


class Silent:
    """Says nothing."""

    def say(self, text):
        pass

    def progress(self, label):
        return lambda done, total: None


@pytest.fixture(scope="module")
def clean(study):
    """The small study without errors or noise; T2 short enough that 60 ms of echo time tell."""
    sample = study.protocol.sample
    metabolites = {name: replace(row, t2_s=T2_S[name]) for name, row in sample.metabolites.items()}
    acquisition = replace(
        study.protocol.acquisition,
        n_coils=1,
        snr=1e5,
        frequency_drift_hz=0.0,
        phase_drift_rad=0.0,
        residual_water_fraction=0.0,
    )
    sample = replace(sample, metabolites=metabolites, water_t2_s=0.4)
    return replace(study, protocol=replace(study.protocol, sample=sample, acquisition=acquisition))


@pytest.fixture(scope="module")
def scanned(clean, tmp_path_factory):
    """(folder, sequence) of an edited and a plain shot: a basis set and processed data of each."""
    folder, reporter = tmp_path_factory.mktemp("conditions"), Silent()
    pulses = ({"echo_top": replace(random_pulse(peak_hz=60.0), carrier_offset_hz=0.0)}, {})
    shots = tuple(
        DesignedShot(pulses=each, te1_s=te1_s, te2_s=te2_s) for each, (te1_s, te2_s) in zip(pulses, TE_S, strict=True)
    )
    built = clean.build(clean.params_at(*TE_S[0], water_suppression="none"), None, shots)
    seq, protocol = folder / "pair.seq", clean.protocol
    write_seq(
        built.blocks,
        seq,
        scanner=protocol.scanner,
        spectrometer_frequency_hz=protocol.spectrometer_frequency_hz,
        definitions=built.definitions
        | {
            "seqgen_protocol_sha256": clean.source.sha256,
            "seqgen_reference_ppm": protocol.water_shift_ppm,
            "seqgen_spectrometer_frequency_hz": protocol.spectrometer_frequency_hz,
        },
        shot_starts=built.shot_starts,
    )
    simulate_raw(clean, seq, folder / "raw.h5", reporter)
    convert_raw(folder / "raw.h5", seq, folder / "data.nii.gz", time=TIME)
    settings = ProcessSettings(water_shift_ppm=protocol.water_shift_ppm)
    for condition in (0, 1):
        make_basis(clean, seq, folder / f"basis_{condition}.npz", reporter, condition=condition)
        process_data(
            folder / "data.nii.gz", folder / f"processed_{condition}.nii.gz", settings, time=TIME, condition=condition
        )
    return folder, seq


@pytest.mark.parametrize("condition", [0, 1])
def test_the_truth_is_found_at_either_echo_time(clean, scanned, condition, tmp_path):
    """The water reference is played at the echo time of the plain shot."""
    folder, seq = scanned
    basis = folder / f"basis_{condition}.npz"
    assert load_basis(basis).te_s == pytest.approx(sum(TE_S[condition]), abs=1e-6)
    found = fit_data(clean, folder / f"processed_{condition}.nii.gz", basis, seq, tmp_path / "fit.json")
    for name, truth in TRUTH_MM.items():
        assert found.concentrations[name]["value_mm"] == pytest.approx(truth, rel=0.02), name


def test_the_basis_set_of_another_condition_is_refused_by_name(clean, scanned, tmp_path):
    folder, seq = scanned
    for data, basis in ((0, 1), (1, 0)):
        words = rf"processed_{data}\.nii\.gz states SET {data} .*basis_{basis}\.npz SET {basis}, .*\(SET 0, 1\)"
        with pytest.raises(InputError, match=words):
            fit_data(
                clean, folder / f"processed_{data}.nii.gz", folder / f"basis_{basis}.npz", seq, tmp_path / "fit.json"
            )
    assert not list(tmp_path.iterdir())


def test_a_basis_set_that_states_no_condition_is_refused_where_there_are_two(clean, scanned, tmp_path):
    folder, seq = scanned
    save_basis(replace(load_basis(folder / "basis_1.npz"), condition=None), tmp_path / "older.npz")
    with pytest.raises(InputError, match=r"older\.npz no condition"):
        fit_data(clean, folder / "processed_1.nii.gz", tmp_path / "older.npz", seq, tmp_path / "fit.json")
