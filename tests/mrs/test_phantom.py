"""The simulated scan against what it says of itself, measured on its transients with plain NumPy."""

from dataclasses import replace

import numpy as np
import pytest
from press_files import F0_HZ, WATER_PPM, build, random_pulse, write

from seqgen import library
from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.mrs import phantom
from seqgen.mrs.phantom import Background, Scan, Substance, simulate_scan, water_system
from seqgen.seqfile.reader import read_seq
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem

N_METABOLITE, N_WATER = 6, 2
CLEAN = Scan(
    n_coils=1,
    snr=1e9,
    linewidth_hz=4.0,
    frequency_drift_hz=0.0,
    phase_drift_rad=0.0,
    residual_water_fraction=0.0,
    water_concentration_mm=50000.0,
    water_relaxation=Relaxation(t1_s=2.5, t2_s=1.5),
    water_shift_ppm=WATER_PPM,
    shift_error_ppm=0.0,
    j_error_relative=0.0,
    t2_error_relative=0.0,
    eddy_phase_rad=0.0,
)


def singlet(ppm, protons=1.0):
    group = SpinGroup(name="s", labels=("H",), shift_ppm=(ppm,), j_hz=((0.0,),), multiplier=protons)
    return SpinSystem(name="singlet", groups=(group,))


def substance(ppm, concentration_mm, t1_s=1.5, t2_s=0.3):
    return Substance(
        system=singlet(ppm), concentration_mm=concentration_mm, relaxation=Relaxation(t1_s=t1_s, t2_s=t2_s)
    )


SAMPLE = {"A": substance(2.0, 10.0), "B": substance(3.0, 4.0, t1_s=1.2, t2_s=0.15)}


@pytest.fixture(scope="module", autouse=True)
def _each_spin_simulation_once():
    """The same molecule through the same shots is simulated once for all tests."""
    genuine, memory = phantom.simulate_fid, {}

    def once(cycle, readouts, system, **place):
        uses = tuple(interval.use for _, interval in cycle[0].pulses())
        key = (uses, cycle[0].readouts()[0][1].phase_rad, readouts.n_samples, system.groups)
        if key not in memory:
            memory[key] = genuine(cycle, readouts, system, **place)
        return memory[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantom, "simulate_fid", once)
        yield


@pytest.fixture(scope="module")
def seq(tmp_path_factory):
    built = build(averages=N_METABOLITE, water_reference_averages=N_WATER, adc_samples=1024)
    return read_seq(write(tmp_path_factory.mktemp("phantom") / "press.seq", built))


def play(seq, scan=CLEAN, seed=1, sample=SAMPLE, **changes):
    return simulate_scan(seq, sample, replace(scan, **changes), spectrometer_frequency_hz=F0_HZ, seed=seed)


def test_shape_labels_and_times_are_those_of_the_file(seq):
    found = play(seq, n_coils=3)
    assert found.transients.shape == (N_METABOLITE + N_WATER, 3, 1024)
    assert [labels["REF"] for labels in found.labels] == [0] * N_METABOLITE + [1] * N_WATER
    assert np.diff(found.start_s) == pytest.approx(2.0, abs=1e-9)


def test_concentrations_relaxation_and_linewidth(seq):
    """Ratio of two singlets is that of c exp(-TE/T2) (1 - exp(-TR/T1)); each decays with exp(-pi 4 Hz t)."""
    both = play(seq)
    fid = both.transients[0, 0]
    one, other = (
        play(seq, sample=SAMPLE | {absent: replace(SAMPLE[absent], concentration_mm=0.0)}).transients[0, 0]
        for absent in ("B", "A")
    )
    t = np.arange(1024) * 2.5e-4
    for values, ppm in ((one, 2.0), (other, 3.0)):
        turned = values * np.exp(-2j * np.pi * (ppm - WATER_PPM) * 123.2 * t) * np.exp(np.pi * 4.0 * t)
        assert np.abs(turned / turned[0] - 1).max() < 1e-4
    te_s, tr_s = 0.075, 2.0
    expected = (10 * np.exp(-te_s / 0.3) * (1 - np.exp(-tr_s / 1.5))) / (
        4 * np.exp(-te_s / 0.15) * (1 - np.exp(-tr_s / 1.2))
    )
    assert abs(one[0]) / abs(other[0]) == pytest.approx(expected, rel=0.01)
    assert np.abs(fid - (one + other)).max() < 1e-3 * np.abs(fid).max()


def test_noise_is_what_the_snr_says(seq):
    """Noise alone (the difference of two scans of one seed), coils combined with the measured covariance."""
    scan = {"n_coils": 8, "snr": 50.0}
    quiet = play(seq, n_coils=8).transients
    noise = play(seq, **scan).transients - quiet
    clean = quiet[:N_METABOLITE, :, :].mean(0)
    sensitivity = clean[:, 0] / np.linalg.norm(clean[:, 0])
    samples = noise.transpose(1, 0, 2).reshape(8, -1)
    covariance = samples @ samples.conj().T / samples.shape[1]
    weights = np.linalg.solve(covariance, sensitivity)
    weights /= sensitivity.conj() @ weights
    combined = (weights.conj()[:, None] * noise[:N_METABOLITE].mean(0)).sum(0)
    signal = (weights.conj()[:, None] * clean).sum(0)
    height = np.abs(np.fft.fft(signal)).max()
    sd = np.fft.fft(combined).real.std()
    # 1024 points: the standard deviation itself is known to 2.2 %.
    assert height / sd == pytest.approx(50.0, rel=0.08)
    correlation = np.abs(covariance) / np.sqrt(np.outer(np.diag(covariance).real, np.diag(covariance).real))
    assert correlation[~np.eye(8, dtype=bool)].max() > 0.1


def test_noise_is_white_and_circular(seq):
    noise = (play(seq, snr=20.0).transients - play(seq).transients)[:, 0]
    assert noise.real.std() == pytest.approx(noise.imag.std(), rel=0.05)
    assert abs((noise.real * noise.imag).mean()) < 0.05 * noise.real.var()
    assert abs((noise[:, 1:] * noise[:, :-1].conj()).mean()) < 0.05 * (np.abs(noise) ** 2).mean()


def test_drifts_are_linear_from_the_first_to_the_last_shot(seq):
    fids = play(seq, frequency_drift_hz=6.0, phase_drift_rad=0.5).transients[:, 0]
    still = play(seq).transients[:, 0]
    t = np.arange(1024) * 2.5e-4
    for row in range(N_METABOLITE + N_WATER):
        progress = row / (N_METABOLITE + N_WATER - 1)
        turned = fids[row] / still[row]
        assert turned == pytest.approx(np.exp(1j * progress * (2 * np.pi * 6.0 * t + 0.5)), abs=1e-4)


def test_residual_water_is_a_fraction_of_the_reference(seq):
    found = play(seq, residual_water_fraction=0.02, sample={"A": substance(2.0, 1e-6)}).transients[:, 0]
    t = np.arange(1024) * 2.5e-4
    fractions = np.abs(found[:N_METABOLITE, 0]) / np.abs(found[-1, 0])
    assert fractions == pytest.approx(0.02, rel=0.4)
    # Water on resonance: real decay after its own phase.
    assert found[-1] / found[-1, 0] == pytest.approx(np.exp(-np.pi * 4.0 * t), abs=1e-3)


def test_eddy_currents_write_the_same_phase_into_both_kinds_of_shot(seq):
    eddy = play(seq, eddy_phase_rad=0.8).transients[:, 0] / play(seq).transients[:, 0]
    t = np.arange(1024) * 2.5e-4
    for row in eddy:
        assert row == pytest.approx(np.exp(0.8j * np.exp(-t / 0.02)), abs=1e-4)


def test_errors_of_the_truth_have_the_stated_spread(seq, monkeypatch):
    monkeypatch.setattr(phantom, "simulate_fid", lambda cycle, readouts, *_, **__: np.ones(readouts.n_samples) + 0j)
    sample = {f"m{k}": substance(2.0 + 0.01 * k, 1.0, t1_s=1.0, t2_s=0.2) for k in range(80)}
    errors = {"shift_error_ppm": 0.004, "j_error_relative": 0.02, "t2_error_relative": 0.1}
    truth = play(seq, sample=sample, **errors).truth.values()
    for key, mean, sd in (("shift_error_ppm", 0, 0.004), ("j_factor", 1, 0.02), ("t2_s", 0.2, 0.02)):
        values = np.array([row[key] for row in truth])
        assert values.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(80))
        assert values.std() == pytest.approx(sd, rel=0.3)


def test_a_shift_error_moves_the_line(seq):
    found = play(seq, sample={"A": SAMPLE["A"]}, shift_error_ppm=0.05)
    fid = found.transients[0, 0]
    t = np.arange(1024) * 2.5e-4
    slope = np.polyfit(t[:400], np.unwrap(np.angle(fid[:400])), 1)[0] / (2 * np.pi)
    assert slope == pytest.approx((2.0 + found.truth["A"]["shift_error_ppm"] - WATER_PPM) * 123.2, abs=0.01)


def test_seed_decides_everything(seq):
    noisy = {"snr": 30.0, "n_coils": 2}
    assert np.array_equal(play(seq, **noisy).transients, play(seq, **noisy).transients)
    assert not np.array_equal(play(seq, **noisy).transients, play(seq, seed=2, **noisy).transients)


def test_macromolecules_add_their_own_fid(seq):
    peak = MacromoleculePeak(name="M", shift_ppm=0.9, fwhm_ppm=0.2, amplitude=2.0)
    background = Background(peaks=(peak,), concentration_mm=3.0, relaxation=Relaxation(t1_s=0.3, t2_s=0.05))
    place = {"spectrometer_frequency_hz": F0_HZ, "seed": 1}
    added = (
        simulate_scan(seq, SAMPLE, CLEAN, background=background, **place).transients[0, 0]
        - simulate_scan(seq, SAMPLE, CLEAN, **place).transients[0, 0]
    )
    t = np.arange(1024) * 2.5e-4
    size = 3.0 * 2.0 * np.exp(-0.075 / 0.05) * (1 - np.exp(-2.0 / 0.3))
    gauss = np.exp(-((np.pi * 0.2 * 123.2 * t) ** 2) / (4 * np.log(2)))
    assert np.abs(added) == pytest.approx(size * gauss, abs=1e-4 * size)
    assert np.angle(added[1] / added[0]) == pytest.approx(2 * np.pi * (0.9 - WATER_PPM) * 123.2 * 2.5e-4, abs=1e-3)


def test_water_counts_two_protons():
    assert sum(group.n_protons for group in water_system(4.8).groups) == 2


def test_without_tr_nothing_is_simulated(seq):
    silent = replace(seq, definitions={k: v for k, v in seq.definitions.items() if k != "TR"})
    with pytest.raises(InputError, match="states no TR"):
        play(silent)


def test_the_receiver_phase_of_the_sequence_is_applied(tmp_path):
    """Built with the receiver turned by 0.9 rad, the transients turn by -0.9 rad and nothing else changes."""
    fids = []
    for phase_rad in (0.0, 0.9):
        built = build(random_pulse(), receiver_phase_rad=phase_rad, adc_samples=256)
        seq = read_seq(write(tmp_path / f"{phase_rad}.seq", built))
        glu = Substance(
            system=library.spin_system("Glu"), concentration_mm=1.0, relaxation=Relaxation(t1_s=1.5, t2_s=0.3)
        )
        fids.append(play(seq, sample={"Glu": glu}).transients[0, 0])
    assert np.abs(fids[1] - fids[0] * np.exp(-0.9j)).max() < 1e-4 * np.abs(fids[0]).max()
