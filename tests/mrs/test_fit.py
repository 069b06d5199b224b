"""The fit against spectra made from known amplitudes by plain NumPy."""

import json
import math
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.mrs.basis import Basis
from seqgen.mrs.data import MRSData
from seqgen.mrs.fit import FitResult, FitSettings, fit, load_fit, save_fit
from seqgen.mrs.fit_model import Point, coarse_start, make_model, residual_jacobian, solve_linear
from seqgen.provenance import Provenance, Source

N, DWELL_S, F0_HZ, REFERENCE_PPM = 2048, 2.5e-4, 123.2e6, 4.65
T = np.arange(N) * DWELL_S
# Centres of made-up multiplets, ppm, and true amplitudes: as crowded as a brain spectrum.
METABOLITES = {
    "Glu": ((2.35, 2.10, 3.75), 9.0),
    "Gln": ((2.45, 2.12, 3.77), 3.0),
    "NAA": ((2.01, 2.50, 2.67), 11.0),
    "NAAG": ((2.04, 2.55, 2.20), 1.5),
    "GABA": ((2.28, 1.89, 3.01), 1.5),
    "GSH": ((2.56, 2.95, 3.77), 1.5),
    "Asp": ((2.65, 2.80, 3.89), 2.0),
    "Cr": ((3.03, 3.91), 8.0),
    "PCh": ((3.21, 3.60, 4.00), 2.0),
    "mI": ((3.52, 3.61, 4.05), 6.0),
    "Tau": ((3.25, 3.42), 1.3),
    "Lac": ((4.10, 1.31), 0.8),
}
NAMES = tuple(METABOLITES)
TRUTH = np.array([amplitude for _, amplitude in METABOLITES.values()])
SD = 0.5
"""Noise of the FID in one real component: the NAA singlet then stands some 300 times above the noise."""
SETTINGS = FitSettings()


def multiplet(rng, centre_ppm):
    """A multiplet of 7 Hz splitting with dispersive admixture, as J evolution leaves it; two protons."""
    lines = rng.integers(1, 5)
    hz = (centre_ppm - REFERENCE_PPM) * F0_HZ * 1e-6 + 7.0 * (np.arange(lines) - (lines - 1) / 2)
    return np.exp(2j * np.pi * hz * T[:, None]) @ (2 / lines * np.exp(1j * rng.normal(0, 0.6, lines)))


def made_up_basis():
    rng = np.random.default_rng(0)
    columns = [sum(multiplet(rng, centre) for centre in centres) for centres, _ in METABOLITES.values()]
    return Basis(
        names=NAMES,
        fid=np.stack(columns, axis=1),
        dwell_s=DWELL_S,
        spectrometer_frequency_hz=F0_HZ,
        reference_ppm=REFERENCE_PPM,
        te_s=0.075,
        seq_name="made-up",
    )


BASIS = made_up_basis()


def spectrum_data(
    sd=0.0, seed=0, amplitude=TRUTH, phase=0.0, delay=0.0, lorentz=3.0, gauss=4.0, shift=0.0, own=0.0, extra=0.0
):
    """Data by the model's formula in plain NumPy; shifts in ppm, widths in Hz, `extra` an FID on top."""
    turning = np.exp(2j * np.pi * np.outer(T, np.broadcast_to(shift + own, len(NAMES))) * F0_HZ * 1e-6)
    fid = (BASIS.fid * turning) @ amplitude
    fid = fid * np.exp(-np.pi * lorentz * T - (np.pi * gauss * T) ** 2 / (4 * math.log(2))) + extra
    turn = np.exp(1j * (phase - 2 * np.pi * np.fft.fftfreq(N, DWELL_S) * delay))
    rng = np.random.default_rng(seed)
    fid = np.fft.ifft(np.fft.fft(fid) * turn) + sd * (rng.standard_normal(N) + 1j * rng.standard_normal(N))
    return MRSData(fid=fid, dwell_s=DWELL_S, spectrometer_frequency_hz=F0_HZ, nucleus="1H", reference_ppm=REFERENCE_PPM)


def clean_fit(settings=SETTINGS, **changes):
    """A noise-free fit that assumes the noise SD for its bounds and weights."""
    return fit(spectrum_data(**changes), BASIS, settings, noise_sd=SD * math.sqrt(N))


@pytest.fixture(scope="module")
def noisy():
    return fit(spectrum_data(sd=SD, seed=3), BASIS, SETTINGS)


def short(**changes):
    """Half the readout, for tests of many fits."""
    data = spectrum_data(**changes)
    return replace(data, fid=data.fid[: N // 2])


# What is recovered


def test_phase_delay_shift_and_widths_are_recovered_without_noise():
    result = clean_fit(phase=2.5, delay=5e-5, lorentz=5.0, gauss=2.0, shift=0.05)
    assert result.status == "converged"
    assert np.abs((result.amplitudes - TRUTH) / result.crlb_sd).max() < 1e-6
    assert result.phase_rad == pytest.approx(2.5, abs=1e-7)
    assert result.delay_s == pytest.approx(5e-5, abs=1e-11)
    assert result.lorentz_hz == pytest.approx(5.0, abs=1e-5)
    assert result.gauss_hz == pytest.approx(2.0, abs=1e-4)
    assert result.shift_ppm == pytest.approx(0.05, abs=1e-8)
    assert result.snr_definition.startswith("height of the real spectrum's tallest")


@pytest.mark.parametrize("phase", [-3.0, -1.5, 0.0, 1.0, 3.1])
@pytest.mark.parametrize("shift", [-0.09, 0.0, 0.07])
def test_the_start_does_not_need_to_be_near(phase, shift):
    result = clean_fit(phase=phase, shift=shift, lorentz=6.0)
    assert np.abs((result.amplitudes - TRUTH) / result.crlb_sd).max() < 0.01
    assert math.remainder(result.phase_rad - phase, 2 * math.pi) == pytest.approx(0, abs=1e-5)


def test_the_grid_starts_within_its_own_steps():
    data = spectrum_data(sd=SD, phase=2.6, shift=-0.05, lorentz=6.0)
    ppm = REFERENCE_PPM + np.fft.fftshift(np.fft.fftfreq(N, DWELL_S)) / 123.2
    inside = (ppm > 1.8) & (ppm < 4.1)
    model = make_model(BASIS.fid, data.fid, DWELL_S, inside, np.zeros((inside.sum(), 0)), 12)
    start = coarse_start(model, 17, 12.0, 20.0)
    assert abs(start[0] - 2.6) < math.radians(20)
    assert abs(start[4] - -0.05 * 123.2) < 1.2


def test_shifts_of_single_metabolites_hardly_bias():
    own = np.random.default_rng(2).normal(0, 0.003, len(NAMES))
    result = clean_fit(own=own)
    # The prior (0.004 ppm) pulls a little where the data say little.
    assert np.abs((result.amplitudes - TRUTH) / result.crlb_sd).max() < 0.1
    total = result.shift_ppm + result.individual_shift_ppm
    assert np.abs(total - own)[:3].max() < 5e-5
    without = clean_fit(replace(SETTINGS, max_individual_shift_ppm=0.0), own=own)
    assert np.abs((without.amplitudes - TRUTH) / without.crlb_sd).max() > 1
    assert (without.individual_shift_ppm == 0).all()


def test_a_smooth_baseline_is_taken_up():
    # A broad hump (40 Hz Gaussian decay: 1 ppm wide), complex, as tall as the smaller metabolites.
    hump = 60 * np.exp(
        2j * np.pi * (2.9 - REFERENCE_PPM) * 123.2 * T + 0.7j - (np.pi * 120 * T) ** 2 / (4 * math.log(2))
    )
    result = clean_fit(extra=hump)
    assert np.abs((result.amplitudes - TRUTH) / result.crlb_sd).max() < 0.5
    without = clean_fit(replace(SETTINGS, baseline_knot_spacing_ppm=0.0), extra=hump)
    assert np.abs((without.amplitudes - TRUTH) / without.crlb_sd).max() > 5
    assert (without.baseline == 0).all()


def test_an_absent_metabolite_is_zero_and_never_negative():
    amplitude = np.where(np.array(NAMES) == "GABA", 0.0, TRUTH)
    assert clean_fit(amplitude=amplitude).amplitudes[NAMES.index("GABA")] == pytest.approx(0, abs=1e-6)
    found = [fit(short(sd=SD, seed=seed, amplitude=amplitude), BASIS, SETTINGS).amplitudes for seed in range(10)]
    values = np.array(found)
    assert (values >= 0).all()
    gaba = values[:, NAMES.index("GABA")]
    assert (gaba == 0).any()
    assert gaba.max() < 4 * clean_fit().crlb_sd[NAMES.index("GABA")]


def test_noise_alone_gives_no_metabolites():
    result = fit(spectrum_data(sd=SD, seed=9, amplitude=0 * TRUTH), BASIS, SETTINGS)
    assert (result.amplitudes < 4 * result.crlb_sd).all()
    silent = fit(replace(spectrum_data(), fid=np.zeros(N, complex)), BASIS, SETTINGS, noise_sd=1.0)
    assert (silent.amplitudes == 0).all()
    assert np.isfinite(silent.crlb_sd).all()


def test_spread_over_noise_equals_the_bounds_and_bias_is_small():
    n_draws = 60
    some = ("Glu", "Gln", "NAA", "GABA", "GSH", "Cr")
    amplitude = np.where(np.isin(NAMES, some), TRUTH, 0.0)
    settings = replace(SETTINGS, metabolites=some)
    rng = np.random.default_rng(7)
    results = []
    for seed in range(n_draws):
        changes = {"phase": rng.uniform(-3, 3), "shift": rng.uniform(-0.06, 0.06)}
        results.append(fit(short(sd=SD, seed=seed, amplitude=amplitude, **changes), BASIS, settings))
    amplitudes = np.array([result.amplitudes for result in results])
    bounds = np.mean([result.crlb_sd for result in results], axis=0)
    ratio = amplitudes.std(axis=0, ddof=1) / bounds
    # A standard deviation of 60 draws spreads by 9.2 %: each of 6 within 3 of that, their mean within 3/sqrt(6).
    assert (np.abs(ratio - 1) < 0.28).all()
    assert abs(ratio.mean() - 1) < 0.113
    bias = (amplitudes.mean(axis=0) - amplitude[amplitude > 0]) / bounds
    assert (np.abs(bias) < 3.5 / math.sqrt(n_draws)).all()
    # A correlation of 60 draws spreads by at most 0.13.
    assert np.abs(np.corrcoef(amplitudes.T) - results[0].correlation).max() < 0.45
    assert {result.status for result in results} == {"converged"}


def test_bounds_equal_the_inverse_of_the_whole_fisher_matrix(noisy):
    """All columns by finite differences of the written-out model, baseline columns included."""
    settings = noisy.settings
    frequency = np.fft.fftshift(np.fft.fftfreq(N, DWELL_S))
    ppm = REFERENCE_PPM + frequency / 123.2
    rows = (ppm > 1.8) & (ppm < 4.1)

    def model(x):
        amplitude, (phase, delay, lorentz, gauss_squared, shift), own = x[:12], x[12:17], x[17:]
        gauss = math.sqrt(gauss_squared)
        changes = {"lorentz": lorentz, "gauss": gauss, "shift": shift, "own": own, "phase": phase, "delay": delay}
        values = np.fft.fftshift(np.fft.fft(spectrum_data(amplitude=amplitude, **changes).fid))[rows]
        return np.concatenate((values.real, values.imag))

    own = noisy.individual_shift_ppm
    x = [*noisy.amplitudes, noisy.phase_rad, noisy.delay_s, noisy.lorentz_hz, noisy.gauss_hz**2, noisy.shift_ppm, *own]
    steps = np.array([1e-4] * 12 + [1e-5, 1e-9, 1e-4, 1e-3, 1e-7] + [1e-7] * 12)
    jacobian = approx_fprime(np.array(x), model, steps) / noisy.noise_sd
    knots = np.linspace(1.8, 4.1, 7)
    # Any basis of the cubic splines on these knots will do: truncated powers.
    powers = [noisy.ppm**k for k in range(4)] + [np.maximum(noisy.ppm - knot, 0) ** 3 for knot in knots[1:-1]]
    splines = np.linalg.qr(np.stack(powers, axis=1))[0] / noisy.noise_sd
    zero = np.zeros_like(splines)
    jacobian = np.concatenate((jacobian, np.block([[splines, zero], [zero, splines]])), axis=1)
    information = jacobian.T @ jacobian
    uniform = [math.pi, settings.max_delay_s, 10.0, 200.0, 0.1] + [0.01] * 12
    prior = 3 / np.array(uniform) ** 2 + np.array([0.0] * 5 + [0.004**-2] * 12)
    information[range(12, 29), range(12, 29)] += prior
    scale = 1 / np.sqrt(np.diag(information))
    covariance = np.linalg.inv(information * np.outer(scale, scale)) * np.outer(scale, scale)
    sd = np.sqrt(np.diag(covariance))[:12]
    np.testing.assert_allclose(noisy.crlb_sd, sd, rtol=2e-3)
    np.testing.assert_allclose(noisy.correlation, covariance[:12, :12] / np.outer(sd, sd), atol=2e-3)


# What is reported


def test_the_report_of_a_fit_is_consistent(noisy):
    np.testing.assert_allclose(noisy.components.sum(axis=1) + noisy.baseline, noisy.model, atol=1e-9)
    assert noisy.ppm[0] >= 1.8
    assert noisy.ppm[-1] <= 4.1
    # 60 points of noise range: 10 % spread; residual of 145 points less some 50 parameters of 290.
    assert noisy.noise_sd == pytest.approx(SD * math.sqrt(N), rel=0.2)
    assert 0.5 < noisy.fit_quality_number < 1.1
    # Voigt of 3 and 4 Hz: 0.5346*3 + sqrt(0.2166*9 + 16) = 5.84 Hz.
    assert noisy.linewidth_hz == pytest.approx(5.84, abs=0.1)
    in_phase = spectrum_data()
    tallest = np.fft.fftshift(np.fft.fft(in_phase.fid)).real.max()
    assert noisy.snr == pytest.approx(tallest / noisy.noise_sd, rel=0.02)
    np.testing.assert_allclose(noisy.phased(noisy.data), noisy.data * np.exp(-1j * noisy.phase_rad))


def test_twelve_metabolites_take_less_than_three_seconds():
    start = time.perf_counter()
    fit(spectrum_data(sd=SD), BASIS, SETTINGS)
    assert time.perf_counter() - start < 3


def test_a_fit_that_is_cut_short_says_so():
    result = fit(spectrum_data(sd=SD), BASIS, replace(SETTINGS, max_evaluations=1))
    assert result.status == "evaluation limit"


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"shift": 0.12}, "shift"),
        ({"lorentz": 30.0, "gauss": 0.0}, "lorentz width"),
        ({"lorentz": 0.0, "gauss": 0.0}, "linewidth"),
        ({"delay": 4e-4}, "delay"),
        ({"own": 0.05 * (np.array(NAMES) == "NAA")}, "shift of NAA"),
    ],
)
def test_parameters_at_a_bound_are_named(changes, bound):
    result = clean_fit(**changes)
    assert result.status == "at bound"
    assert bound in result.at_bound


def test_one_metabolite_alone_and_fixed_phase():
    settings = replace(SETTINGS, metabolites=("Cr",), max_delay_s=0.0)
    result = clean_fit(settings, amplitude=np.where(np.array(NAMES) == "Cr", 8.0, 0.0))
    assert result.names == ("Cr",)
    assert result.amplitudes[0] == pytest.approx(8.0, abs=1e-6)
    assert result.delay_s == 0.0


# Macromolecules


PEAKS = (
    MacromoleculePeak(name="MM2.04", shift_ppm=2.04, fwhm_ppm=0.18, amplitude=2.0),
    MacromoleculePeak(name="MM3.0", shift_ppm=3.0, fwhm_ppm=0.25, amplitude=1.0),
)


def mm_fid(weights):
    envelope = np.exp(-np.pi * 3.0 * T - (np.pi * 4.0 * T) ** 2 / (4 * math.log(2)))
    total = np.zeros(N, complex)
    for weight, peak in zip(weights, PEAKS, strict=True):
        hz, width = (peak.shift_ppm - REFERENCE_PPM) * 123.2, peak.fwhm_ppm * 123.2
        total += weight * np.exp(2j * np.pi * hz * T - (np.pi * width * T) ** 2 / (4 * math.log(2)))
    return total * envelope


def test_macromolecules_share_one_amplitude_or_have_their_own():
    data = spectrum_data(extra=5 * mm_fid((2.0, 1.0)))
    together = fit(data, BASIS, SETTINGS, macromolecules=PEAKS, noise_sd=SD * math.sqrt(N))
    assert together.names == (*NAMES, "MM")
    assert together.amplitudes[-1] == pytest.approx(5.0, abs=1e-4)
    np.testing.assert_allclose(together.amplitudes[:-1], TRUTH, atol=1e-4)
    data = spectrum_data(extra=mm_fid((6.0, 9.0)))
    free = replace(SETTINGS, free_macromolecules=True)
    apart = fit(data, BASIS, free, macromolecules=PEAKS, noise_sd=SD * math.sqrt(N))
    assert apart.names == (*NAMES, "MM2.04", "MM3.0")
    np.testing.assert_allclose(apart.amplitudes[-2:], [3.0, 9.0], atol=1e-4)


# Axes


def test_zero_frequency_at_another_shift_and_a_shorter_readout():
    whole = spectrum_data()
    moved = whole.fid * np.exp(2j * np.pi * (4.65 - 4.80) * 123.2 * T)
    data = replace(whole, fid=moved[:1500], reference_ppm=4.80)
    result = fit(data, BASIS, SETTINGS, noise_sd=SD * math.sqrt(1500))
    np.testing.assert_allclose(result.amplitudes, TRUTH, atol=1e-4)
    assert result.shift_ppm == pytest.approx(0, abs=1e-7)


# The derivative


def test_residual_jacobian_has_the_exact_gradient():
    rng = np.random.default_rng(4)
    data = spectrum_data(sd=SD, seed=4)
    inside = np.zeros(N, bool)
    inside[600:800] = True
    splines = np.stack((np.ones(200), np.linspace(-1, 1, 200)), axis=1)
    model = make_model(BASIS.fid, data.fid, DWELL_S, inside, splines, 12)
    theta = np.concatenate(([0.3, 2e-5, 4.0, 9.0, 1.0], rng.normal(0, 0.3, 12)))

    def half_cost(x):
        return 0.5 * float(solve_linear(model, x).residual @ solve_linear(model, x).residual)

    point: Point = solve_linear(model, theta)
    gradient = residual_jacobian(model, theta, point).T @ point.residual
    steps = np.array([1e-5, 1e-9, 1e-4, 1e-3, 1e-4] + [1e-4] * 12)
    for k, step in enumerate(steps):
        move = step * (np.arange(17) == k)
        central = (half_cost(theta + move) - half_cost(theta - move)) / (2 * step)
        assert gradient[k] == pytest.approx(central, rel=1e-5, abs=1e-6 * np.abs(gradient[k]).max() + 1e-3)


# Files


def test_fit_file_round_trip(noisy, tmp_path):
    provenance = Provenance(made_from={"basis": Source(name="b.npz", sha256="1" * 64)}, seed=2)
    result = replace(noisy, provenance=provenance)
    save_fit(result, tmp_path / "fit.json")
    back = load_fit(tmp_path / "fit.json")
    for entry in fields(FitResult):
        before, after = getattr(result, entry.name), getattr(back, entry.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(after, before)
            assert after.dtype == before.dtype
        else:
            assert after == before, entry.name
    save_fit(back, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "fit.json").read_bytes()


def test_a_full_disk_leaves_the_old_fit(noisy, tmp_path, monkeypatch):
    path = tmp_path / "fit.json"
    save_fit(noisy, path)
    before = path.read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(InputError, match="No space left"):
        save_fit(replace(noisy, snr=0.0), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_fit_files_are_reported(noisy, tmp_path):
    path = tmp_path / "fit.json"
    with pytest.raises(InputError, match="There is no fit file"):
        load_fit(path)
    save_fit(noisy, path)
    whole = path.read_text()
    cut = tmp_path / "cut.json"
    for k in range(0, 100, 5):
        cut.write_text(whole[: len(whole) * k // 100])
        with pytest.raises(InputError, match=r"cut\.json"):
            load_fit(cut)
    cut.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(InputError, match="not a readable fit file"):
        load_fit(cut)
    cut.write_text("[" * 100000)
    with pytest.raises(InputError, match="not a readable fit file"):
        load_fit(cut)
    cut.write_text('{"format": "seqgen fit 0"}')
    with pytest.raises(InputError, match="says format 'seqgen fit 0'"):
        load_fit(cut)
    for change in ({"names": ["Glu"]}, {"data": 3}, {"settings": {"range": 1}}, {"amplitudes": ["x"]}):
        cut.write_text(json.dumps(json.loads(whole) | change))
        with pytest.raises(InputError, match="not a usable fit file"):
            load_fit(cut)


# Refusals


def test_data_and_basis_that_do_not_belong_together():
    data = spectrum_data()
    with pytest.raises(InputError, match="basis of made-up has 2048 samples"):
        fit(replace(data, dwell_s=1e-4), BASIS, SETTINGS)
    with pytest.raises(InputError, match="Simulate the basis for the sequence"):
        fit(data, replace(BASIS, fid=BASIS.fid[:1000]), SETTINGS)
    with pytest.raises(InputError, match=r"for 123\.2000 MHz, the data are from 127\.7000 MHz"):
        fit(replace(data, spectrometer_frequency_hz=127.7e6), BASIS, SETTINGS)
    with pytest.raises(InputError, match="has no Ala"):
        fit(data, BASIS, replace(SETTINGS, metabolites=("Glu", "Ala")))
    with pytest.raises(InputError, match="Process them first"):
        fit(replace(data, fid=data.fid[:, None], dims=("DIM_DYN",)), BASIS, SETTINGS)
    with pytest.raises(InputError, match="NaN"):
        fit(replace(data, fid=data.fid * math.nan), BASIS, SETTINGS)


def test_settings_and_columns_that_cannot_work():
    data = spectrum_data(sd=SD)
    with pytest.raises(InputError, match=r"range_ppm -20\.0 to 4\.1 lies outside"):
        fit(data, BASIS, replace(SETTINGS, range_ppm=(-20.0, 4.1)))
    with pytest.raises(InputError, match="noise_range_ppm"):
        fit(data, BASIS, replace(SETTINGS, noise_range_ppm=(30.0, 31.0)))
    with pytest.raises(InputError, match="noise of the spectrum must be positive"):
        fit(data, BASIS, SETTINGS, noise_sd=0.0)
    twin = replace(BASIS, names=(*NAMES, "Glx"), fid=np.concatenate((BASIS.fid, 2 * BASIS.fid[:, :1]), axis=1))
    with pytest.raises(InputError, match="cannot tell apart Glu, Glx"):
        fit(data, twin, SETTINGS)
    empty = replace(BASIS, fid=BASIS.fid * (np.array(NAMES) != "Tau"))
    with pytest.raises(InputError, match="do not depend on Tau"):
        fit(data, empty, SETTINGS)
    twice = (PEAKS[0], PEAKS[0])
    with pytest.raises(InputError, match="must be different"):
        fit(data, BASIS, replace(SETTINGS, free_macromolecules=True), macromolecules=twice)


@pytest.mark.parametrize(
    "change",
    [
        {"range_ppm": (4.1, 1.8)},
        {"max_linewidth_hz": 0.0},
        {"max_delay_s": -1.0},
        {"max_evaluations": 0},
        {"individual_shift_sd_ppm": math.nan},
    ],
)
def test_impossible_settings_are_refused_by_name(change):
    with pytest.raises(InputError, match=next(iter(change))):
        FitSettings(**change)
