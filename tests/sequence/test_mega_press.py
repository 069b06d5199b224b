"""MEGA-PRESS at TE 68 ms: GABA, NAA and creatine against single spins and coupled spins in plain NumPy."""

import functools

import numpy as np
import pytest
from isochromats import rotation
from localised import KINDS, shots_of
from press_files import F0_HZ, WATER_PPM
from scipy.linalg import expm

from seqgen.library import spin_system
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.reader import read_seq
from seqgen.seqfile.shots import shots
from seqgen.simulate.acquire import fid
from seqgen.simulate.molecule import molecule_lines

DWELL_S, N_SAMPLES, DAMPING_PER_S = 2.5e-4, 4096, 12.0
PPM = WATER_PPM + np.fft.fftshift(np.fft.fftfreq(N_SAMPLES, DWELL_S)) / F0_HZ * 1e6
EDITING_S = 0.016


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mega")


@pytest.fixture(scope="module")
def played(folder):
    """The shots as PyPulseq reads them."""
    return shots_of("mega_press", folder, editing_duration_s=EDITING_S)


@pytest.fixture(scope="module")
def simulated(folder, played):
    """Lines of a metabolite in ON and OFF."""

    @functools.cache
    def lines(metabolite):
        every = shots(read_seq(folder / "mega_press.seq"))
        return [
            molecule_lines(
                phase_cycle(every, condition=condition),
                spin_system(metabolite),
                spectrometer_frequency_hz=F0_HZ,
                reference_ppm=WATER_PPM,
            )
            for condition in (0, 1)
        ]

    return lines


def editing_pulses(blocks):
    """(samples, carrier) of the editing pulses of a shot."""
    edits = [block.rf for block in blocks if block.rf is not None and block.rf.use == "preparation"]
    assert len(edits) == 2
    return [(rf.signal * np.exp(1j * rf.phase_offset), rf.freq_offset) for rf in edits]


def spectrum(signal):
    """Spectrum of an FID from the echo on, damped."""
    signal = signal * np.exp(-DAMPING_PER_S * DWELL_S * np.arange(N_SAMPLES))
    signal[0] *= 0.5
    return np.fft.fftshift(np.fft.fft(signal)) * DWELL_S


def area(of, low_ppm, high_ppm):
    """Area of the real part between two shifts."""
    inside = (low_ppm < PPM) & (high_ppm > PPM)
    return float(of.real[inside].sum()) / (N_SAMPLES * DWELL_S)


# --- Singlets --------------------------------------------------------------------------------------------------------


def left_by_editing(blocks, ppm):
    """What two editing pulses between their crushers leave of a single spin: |a|^2 each, no order changed."""
    factor = 1.0
    for b1, carrier_hz in editing_pulses(blocks):
        offset = np.full((len(b1), 1), (ppm - WATER_PPM) * F0_HZ * 1e-6 - carrier_hz)
        a, _ = rotation(b1, np.full(len(b1), 1e-6), offset)
        factor *= abs(a[0]) ** 2
    return factor


@pytest.mark.parametrize(("metabolite", "ppm"), [("Cr", 3.027), ("Cr", 3.913), ("NAA", 2.008)])
def test_singlets_in_on_shots_keep_what_the_editing_pulses_leave(simulated, played, metabolite, ppm):
    on, off = (lines.amplitude[0].numpy() for lines in simulated(metabolite))
    shifts = WATER_PPM + simulated(metabolite)[0].frequency_hz.numpy() / F0_HZ * 1e6
    singlet = np.argmin(np.abs(shifts - ppm))
    assert shifts[singlet] == pytest.approx(ppm, abs=1e-3)
    expected = left_by_editing(played[0], ppm) / left_by_editing(played[1], ppm)
    assert on[singlet] / off[singlet] == pytest.approx(expected, abs=1e-5)


def test_creatine_cancels_and_naa_is_gone_from_on(simulated):
    """14 ms pulses leave 1.4 % of creatine, 16 ms 0.3 %. Its NH at 6.6 ppm meets the OFF pulse and is left out."""
    seen = (PPM > 1.0) & (PPM < 4.5)
    spectra = {
        metabolite: [spectrum(fid(lines, N_SAMPLES, DWELL_S)[0].numpy())[seen] for lines in simulated(metabolite)]
        for metabolite in ("Cr", "NAA")
    }
    on, off = spectra["Cr"]
    assert np.abs(on - off).max() < 0.01 * np.abs(off).max()
    on, off = (np.where(np.abs(PPM[seen] - 2.01) < 0.05, one, 0.0) for one in spectra["NAA"])
    assert off.real.max() > 0.9 * np.abs(off).max()
    assert np.abs(on).max() < 0.05 * np.abs(off).max()


# --- GABA ------------------------------------------------------------------------------------------------------------

PAULI = {"x": np.array([[0, 1], [1, 0]]) / 2, "y": np.array([[0, -1j], [1j, 0]]) / 2, "z": np.diag([0.5, -0.5])}


def operator(n, spin, axis):
    return functools.reduce(np.kron, [PAULI[axis] if k == spin else np.eye(2) for k in range(n)])


def ideal_fid(group, edits, te1_s, te2_s):
    """FID of a spin group: instantaneous 90 and 180, shaped editing pulses that may change no order; 64 x 64."""
    n = len(group.shift_ppm)
    sums = {axis: sum(operator(n, k, axis) for k in range(n)) for axis in "xyz"}
    offsets = (np.asarray(group.shift_ppm) - WATER_PPM) * F0_HZ * 1e-6
    h = sum(2 * np.pi * offsets[k] * operator(n, k, "z") for k in range(n)).astype(complex)
    for j in range(n):
        for k in range(j):
            h += 2 * np.pi * group.j_hz[j][k] * sum(operator(n, j, a) @ operator(n, k, a) for a in "xyz")
    m = np.real(np.diag(sums["z"]))
    order = np.round(m[:, None] - m[None, :])
    energy, basis = np.linalg.eigh(h)

    def free(time_s):
        return basis @ np.diag(np.exp(-1j * energy * time_s)) @ basis.conj().T

    def edit(b1, carrier_hz):
        steps = b1.reshape(-1, 100).mean(1)  # samples of 1 us
        rotating = h - 2 * np.pi * carrier_hz * sums["z"]
        u = np.eye(2**n, dtype=complex)
        for step in steps:
            u = expm(-1e-4j * (rotating + 2 * np.pi * (step.real * sums["x"] + step.imag * sums["y"]))) @ u
        return np.diag(np.exp(-2j * np.pi * carrier_hz * m * len(b1) * 1e-6)) @ u

    te_s, half_s = te1_s + te2_s, 0.5 * len(edits[0][0]) * 1e-6
    second_s = te1_s + 0.5 * te2_s
    flip = expm(-1j * np.pi * sums["x"])
    # M+ is the trace with F+, the part of order -1: before each 180 it has the opposite order.
    rho = expm(-0.5j * np.pi * sums["y"]) @ sums["z"] @ expm(0.5j * np.pi * sums["y"])
    rho = np.where(order == -1, rho, 0)
    steps = [
        (free(0.5 * te1_s), -1),
        (flip, 1),
        (free(second_s - 0.25 * te_s - half_s - 0.5 * te1_s), 1),
        (edit(*edits[0]), 1),
        (free(0.25 * te_s - half_s), 1),
        (flip, -1),
        (free(0.25 * te_s - half_s), -1),
        (edit(*edits[1]), -1),
        (free(te_s - second_s - 0.25 * te_s - half_s), -1),
    ]
    for u, kept in steps:
        rho = np.where(order == kept, u @ rho @ u.conj().T, 0)
    plus = basis.conj().T @ (sums["x"] + 1j * sums["y"]) @ basis
    rho = basis.conj().T @ rho @ basis
    amplitude, frequency = plus.T * rho, -np.subtract.outer(energy, energy)
    strong = np.abs(amplitude) > 1e-9
    times_s = DWELL_S * np.arange(N_SAMPLES)
    return (np.exp(1j * np.outer(times_s, frequency[strong])) @ amplitude[strong]) * 4 / 2**n


@pytest.mark.slow
def test_gaba_at_3_ppm_is_edited(simulated, played):
    """Ideal pulses give the whole difference; slices shifted against each other leave 0.75 to 1 of it."""
    times = KINDS["mega_press"].times
    (group,) = spin_system("GABA").groups
    ideal = [spectrum(ideal_fid(group, editing_pulses(shot), times["te1_s"], times["te2_s"])) for shot in played[:2]]
    localised = [spectrum(fid(lines, N_SAMPLES, DWELL_S)[0].numpy()) for lines in simulated("GABA")]
    areas = {name: area(on - off, 2.85, 3.2) for name, (on, off) in (("ideal", ideal), ("localised", localised))}
    # Two protons, of which the middle line of the OFF triplet leaves a half, come to 1 as they are counted here.
    assert areas["ideal"] > 0.85
    assert 0.75 * areas["ideal"] < areas["localised"] < 1.02 * areas["ideal"]
    shape = [(on - off)[(PPM > 2.85) & (PPM < 3.2)] for on, off in (ideal, localised)]
    overlap = np.vdot(*shape).real / np.linalg.norm(shape[0]) / np.linalg.norm(shape[1])
    assert overlap > 0.95
