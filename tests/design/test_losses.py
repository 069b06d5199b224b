"""Every term of the loss against closed forms, slow twins in NumPy, invariances and finite differences."""

import json
import math
from dataclasses import asdict, replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from press_files import F0_HZ, SCANNER, WATER_PPM, build, random_pulse

from seqgen import config, library
from seqgen.design.evaluate import LossNotFinite, Metrics, evaluator
from seqgen.design.objective import (
    aggregate,
    correlation_loss,
    crlb_loss,
    crlb_sd,
    saturation,
    scan_time_sd,
    spectrum_loss,
    state_loss,
    state_overlap,
    suppression_loss,
)
from seqgen.design.state_target import state_target
from seqgen.errors import InputError
from seqgen.model.macromolecules import MacromoleculePeak
from seqgen.pulse.parameterise import spline_waveform
from seqgen.pulse.waveform import RFPulse
from seqgen.seqfile.cycle import phase_cycle
from seqgen.seqfile.played import built_shots
from seqgen.simulate.acquire import pulse_acquire_lines
from seqgen.spin.hamiltonian import group_model, molecule_models
from seqgen.spin.product_operators import parse_operator
from seqgen.spin.system import Relaxation, SpinGroup, SpinSystem

TE_S = (0.041, 0.034)
PEAKS = (
    MacromoleculePeak(name="MM2.04", shift_ppm=2.04, fwhm_ppm=0.17, amplitude=1.0),
    MacromoleculePeak(name="MM3.0", shift_ppm=3.0, fwhm_ppm=0.2, amplitude=0.6),
)
EVERY = {"window": 0.6, "area": 0.8, "spectrum": 0.3, "state": 0.2, "crlb": 0.4, "correlation": 0.5, "suppression": 0.7}
NEEDED = {"state": "I4x + I5x", "suppressed": ("NAA",)}


def seconds(*values):
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


def number(value, dtype=torch.float64):
    return torch.as_tensor(value, dtype=dtype)


@pytest.fixture(scope="module")
def template():
    stand_in = RFPulse(b1_hz=torch.ones(1000, dtype=torch.complex128), dwell_s=2e-5, name="edit")
    params = {"water_suppression": "none", "averages": 2, "dummy_scans": 0, "water_reference_averages": 0}
    return phase_cycle(built_shots(build(stand_in, **params).blocks, SCANNER, "template"))


@pytest.fixture(scope="module")
def problem(template, design_spec):
    """Return design problems by the fields of their spec."""

    def make(names=("Glu", "Gln", "NAA"), systems=None, reference_ppm=WATER_PPM, tr_s=None, peaks=(), **fields):
        systems = systems or {name: library.spin_system(name) for name in names}
        t1_s = {"Glu": 1.2, "Gln": 0.9, "NAA": 1.4}
        return evaluator(
            design_spec(**fields),
            template,
            systems,
            {name: Relaxation(t1_s=t1_s.get(name, 1.0), t2_s=0.16) for name in systems},
            spectrometer_frequency_hz=F0_HZ,
            reference_ppm=reference_ppm,
            positions_per_slice=2,
            j_step_s=4e-4,
            tr_s=tr_s,
            macromolecules=peaks,
        )

    return make


def lorentz(frequency_hz, f, width_hz):
    """Spectra of unit Lorentzian lines, NumPy, shape (n_lines, m)."""
    return 1 / (np.pi * width_hz + 2j * np.pi * (f - np.asarray(frequency_hz)[:, None]))


def model_spectra(made, name, low_ppm, high_ppm, step_hz, width_hz):
    """Axis in Hz and the spectrum of every member from the model's lines, NumPy."""
    found = made.model.molecule_lines(name, random_pulse().b1_hz, 2e-5, made.carrier_hz, *seconds(*TE_S))
    f = np.arange((low_ppm - WATER_PPM) * 123.2, (high_ppm - WATER_PPM) * 123.2, step_hz)
    return f, found.amplitude.numpy() @ lorentz(found.frequency_hz.numpy(), f, width_hz)


def acquired(name, f, width_hz):
    """Spectrum after a perfect pulse-acquire on an axis, from the matrices of every group, NumPy."""
    total = np.zeros(f.shape, dtype=complex)
    for group in library.spin_system(name).groups:
        model = group_model(group, F0_HZ, WATER_PPM)
        d, n = model.dimension, group.n_spins
        fx, fy = (parse_operator(text, n).numpy() for text in ("Fx", "Fy"))
        vectors, energy = model.eigenvectors.numpy(), model.energy_rad_per_s.numpy()
        state, detected = vectors.T @ fx @ vectors, vectors.T @ (fx + 1j * fy) @ vectors
        for i in range(d):
            for j in range(d):
                amplitude = state[i, j] * detected[j, i] * group.multiplier * 4 / d
                if abs(amplitude) > 1e-12:
                    total += amplitude * lorentz([(energy[j] - energy[i]) / (2 * np.pi)], f, width_hz)[0]
    return total


# --- spectrum ---------------------------------------------------------------------------------------------------------


def random_spectra(n=2, m=80, seed=0):
    return torch.randn(n, m, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def test_spectrum_loss_is_the_least_squares_distance_at_the_best_phase():
    target, wanted = random_spectra()
    interferers, step_hz = 3.0, 0.4
    s, w = target.numpy(), wanted.numpy()
    scale = (abs(w) ** 2).sum()
    phases = np.exp(1j * np.linspace(-np.pi, np.pi, 20001))
    brute = min((abs(s - p * w) ** 2).sum() for p in phases)
    got = spectrum_loss(target, wanted, number(interferers), step_hz)
    assert float(got) == pytest.approx((brute + interferers / step_hz) / scale, rel=1e-7)
    sizes = ((abs(s) - abs(w)) ** 2).sum()
    got = spectrum_loss(target, wanted, number(interferers), step_hz, "magnitude")
    assert float(got) == pytest.approx((sizes + interferers / step_hz) / scale, rel=1e-12)


@pytest.mark.parametrize("mode", ["complex", "magnitude"])
def test_spectrum_loss_of_a_scaled_and_turned_spectrum(mode):
    """c exp(i phi) W is (1 - c)^2 away: nothing at c = 1, as far as no signal at c = 2."""
    wanted = random_spectra(1)[0]
    for c, phase in ((1.0, 0.0), (1.0, 2.1), (0.25, -1.0), (2.0, 0.4)):
        got = spectrum_loss(c * np.exp(1j * phase) * wanted, wanted, number(0.0), 0.7, mode)
        assert float(got) == pytest.approx((1 - c) ** 2, abs=1e-12)
    nothing = spectrum_loss(0 * wanted, wanted, number(0.0), 0.7, mode)
    assert float(nothing) == pytest.approx(1.0)


def test_only_the_complex_distance_sees_an_inverted_half():
    """A doublet up-up against up-down: alike in magnitude where the lines do not overlap, no overlap of spectra."""
    f = np.arange(-400, 400, 0.25)
    lines = torch.as_tensor(lorentz([-150.0, 150.0], f, 3.0))
    up, down = lines.sum(0), lines[0] - lines[1]
    assert float(spectrum_loss(down, up, number(0.0), 0.25)) == pytest.approx(2.0, abs=0.03)
    assert float(spectrum_loss(down, up, number(0.0), 0.25, "magnitude")) < 0.01
    with pytest.raises(InputError, match="mode is 'real'"):
        spectrum_loss(down, up, number(0.0), 0.25, "real")


# --- state ------------------------------------------------------------------------------------------------------------


def ax_model():
    group = SpinGroup(name="AX", labels=("A", "X"), shift_ppm=(0.6, 9.0), j_hz=((0.0, 7.0), (7.0, 0.0)))
    return group_model(group, F0_HZ, WATER_PPM)


@pytest.mark.parametrize("time_s", [0.0, 0.02, 1 / 14, 0.1])
def test_state_of_an_ax_pair(time_s):
    """From Fx, I1x becomes I1x cos(pi J t) + 2 I1y I2z sin(pi J t): of both operators at most 1/sqrt(2)."""
    model = ax_model()
    found = pulse_acquire_lines(model)
    amplitude = found.amplitude * torch.exp(2j * math.pi * found.frequency_hz * time_s)
    for text, part in (("I1x", math.cos), ("2 I1y I2z", math.sin), ("I2y", math.cos)):
        wanted = state_target([model], text)
        assert wanted.maximum == pytest.approx(math.sqrt(0.5), rel=1e-9)
        overlap = state_overlap(amplitude[wanted.lines], wanted.detector)
        # The pair is coupled strongly by J / (difference of shifts) = 0.7 %.
        assert float(overlap) == pytest.approx(abs(part(math.pi * 7.0 * time_s)) / math.sqrt(2), abs=5e-3)
        assert float(state_loss(overlap, wanted.maximum)) == pytest.approx(
            1 - abs(part(math.pi * 7.0 * time_s)), abs=7e-3
        )


def test_states_of_glutamate_after_pulse_acquire():
    """I5x: 1 of at most 15/8 (Sorensen); I4x + I5x: 1 of 11/8."""
    models = molecule_models(library.spin_system("Glu"), F0_HZ, WATER_PPM)
    found = pulse_acquire_lines(models[0])
    for text, fraction, size in (("I5x", 8 / 15, math.sqrt(1 / 5)), ("I4x + I5x", 8 / 11, math.sqrt(2 / 5))):
        wanted = state_target(models, text)
        overlap = state_overlap(found.amplitude, wanted.detector)
        assert float(overlap) == pytest.approx(size, rel=1e-9)
        assert 1 - float(state_loss(overlap, wanted.maximum)) == pytest.approx(fraction, rel=1e-9)
    assert float(state_overlap(found.amplitude, state_target(models, "Fy").detector)) == pytest.approx(1.0)


@pytest.mark.parametrize("text", ["I4x + I5x", "2 I4y I3z - 0.3 I1x", "4 I5x I2z I3z"])
def test_overlap_against_the_trace_of_matrices(text):
    """NumPy, product basis: largest Tr(R rho R^H Q) over turns of the receiver, of a random evolution of Glu."""
    model = molecule_models(library.spin_system("Glu"), F0_HZ, WATER_PPM)[0]
    rng = np.random.default_rng(4)
    hermitian = rng.normal(size=(32, 32)) + 1j * rng.normal(size=(32, 32))
    _, u = np.linalg.eigh(hermitian + hermitian.conj().T)
    rho = u @ parse_operator("Fz", 5).numpy() @ u.conj().T
    q, fz = parse_operator(text, 5).numpy(), parse_operator("Fz", 5).numpy()
    m = np.real(np.diag(fz))
    order = m[:, None] - m[None, :]
    values = [np.trace(rho * np.exp(1j * angle * order) @ q).real for angle in np.linspace(0, 2 * np.pi, 20001)]
    wanted = max(values) / np.sqrt(np.trace(q @ q).real * np.trace(fz @ fz).real)
    vectors = model.eigenvectors.numpy()
    eigen = vectors.T @ rho @ vectors
    i, j = model.transition.numpy().T
    amplitude = torch.as_tensor(eigen[i, j] * model.transition_weight.numpy())
    target = state_target([model], text)
    assert float(state_overlap(amplitude, target.detector)) == pytest.approx(wanted, rel=1e-6)
    assert wanted <= target.maximum
    turned = state_overlap(amplitude * np.exp(0.7j), target.detector)
    assert float(turned) == pytest.approx(wanted, rel=1e-6)


def test_a_state_of_the_second_group_counts_its_own_lines():
    """NAA has its acetyl singlet first; after pulse-acquire the state of the other group is its Fx."""
    models = molecule_models(library.spin_system("NAA"), F0_HZ, WATER_PPM)
    found = torch.cat([pulse_acquire_lines(model).amplitude for model in models])
    wanted = state_target(models, "Fx", "aspartyl")
    assert wanted.lines.start == 1
    assert float(state_overlap(found[wanted.lines], wanted.detector)) == pytest.approx(1.0)
    assert float(state_overlap(0.5 * found[:1], state_target(models, "I1x", "acetyl_CH3").detector)) == pytest.approx(
        0.5
    )


@pytest.mark.parametrize(
    ("name", "text", "group", "words"),
    [
        ("Glu", "I1z", "", "100.0% of it are not"),
        ("Glu", "DQx(1,2)", "", "receiver does not see"),
        ("Glu", "I1x + I1z", "", "50.0% of it are not"),
        ("Glu", "I1+", "", "Hermitian"),
        ("Glu", "I7x", "", "spin 7 does not exist"),
        ("NAA", "I1x", "", "acetyl_CH3, aspartyl"),
        ("Glu", "I1x", "tail", "is 'tail'. The target has backbone"),
        ("Lac", "I1x", "", "state_group must name"),
    ],
)
def test_states_that_no_line_tells_are_refused(name, text, group, words):
    with pytest.raises(InputError, match=words):
        state_target(molecule_models(library.spin_system(name), F0_HZ, WATER_PPM), text, group)


def test_a_state_of_equivalent_protons_is_refused():
    model = molecule_models(library.spin_system("Lac"), F0_HZ, WATER_PPM)[0]
    with pytest.raises(InputError, match="total spin of equivalent protons"):
        state_target([model], "I1x")


# --- bounds -----------------------------------------------------------------------------------------------------------


def two_singlets(apart_hz, width_hz=4.0, span_hz=3000.0, step_hz=0.5):
    f = np.arange(-span_hz, span_hz, step_hz)
    return torch.as_tensor(lorentz([-apart_hz / 2, apart_hz / 2], f, width_hz).T)


@pytest.mark.parametrize("apart_hz", [1.0, 4.0, 12.0])
def test_correlation_of_two_singlets(apart_hz):
    """r = - w^2 / (w^2 + d^2): the overlap of two Lorentzians of width w, d apart."""
    nothing = torch.zeros(12000, 0, dtype=torch.complex128)
    wanted = (16 / (16 + apart_hz**2)) ** 2
    columns = two_singlets(apart_hz)
    assert float(correlation_loss(columns, nothing)) == pytest.approx(wanted, rel=1e-2)  # the axis ends
    turned = columns * torch.tensor([3.0, 0.2]) * np.exp(1.1j)
    assert float(correlation_loss(turned, nothing)) == pytest.approx(float(correlation_loss(columns, nothing)))


def test_bounds_and_correlation_are_those_of_least_squares_fits():
    """20000 noisy spectra of two overlapping singlets on a free baseline, fitted with numpy.linalg.lstsq."""
    rng = np.random.default_rng(7)
    f = np.arange(-40, 40, 1.0)
    columns = lorentz([-2.0, 3.0, 9.0], f, 5.0).T
    nuisance = np.stack([np.ones(f.size), f / 40, 1j * np.ones(f.size), 1j * f / 40], 1).astype(complex)
    noise_sd = 0.02
    design = np.concatenate([np.concatenate([x.real, x.imag]) for x in (columns, nuisance)], axis=1)
    truth = np.array([1.0, 0.4, 2.0, 0.3, -0.2, 0.1, 0.5])
    data = design @ truth[:, None] + noise_sd * rng.normal(size=(2 * f.size, 20000))
    fitted = np.linalg.lstsq(design, data, rcond=None)[0]
    sd, r = fitted[:2].std(axis=1), np.corrcoef(fitted[:2])[0, 1]
    # Standard error of sd: 1/sqrt(2 * 20000) = 0.5 %.
    got = crlb_loss(crlb_sd(torch.as_tensor(columns), 2, torch.as_tensor(nuisance), noise_sd))
    assert float(got) == pytest.approx(np.log(sd).mean(), abs=0.015)
    assert float(correlation_loss(torch.as_tensor(columns), torch.as_tensor(nuisance))) == pytest.approx(r**2, abs=0.02)
    assert 0.1 < r**2 < 0.9


def test_the_best_repetition_time_of_a_singlet():
    """sqrt(TR) / (1 - exp(-TR/T1)) is least where exp(x) = 1 + 2 x, x = TR/T1 = 1.25643."""
    column, nothing = two_singlets(0.0)[:, :1], torch.zeros(12000, 0, dtype=torch.complex128)
    t1_s = number([1.7])

    def loss(x):
        tr_s = x * t1_s[0]
        return crlb_loss(scan_time_sd(column, 1, nothing, 1.0, tr_s=tr_s, t1_s=t1_s))

    best = number(1.25643).requires_grad_()
    (slope,) = torch.autograd.grad(loss(best), best)
    assert abs(float(slope)) < 1e-5
    assert all(float(loss(number(other))) > float(loss(best).detach()) for other in (1.1, 1.4))
    # A second of scan: 1/TR shots, each with its saturation.
    per_shot = float(crlb_loss(crlb_sd(column, 1, nothing, 1.0)))
    assert float(loss(number(2.0))) == pytest.approx(
        per_shot + math.log(math.sqrt(2.0 * 1.7) / (1 - math.exp(-2.0))), rel=1e-9
    )


def test_saturation_is_what_repeated_excitations_leave():
    t1_s, tr_s, mz = 1.3, 0.9, 1.0
    for _ in range(5):
        mz = 1 - math.exp(-tr_s / t1_s)  # a 90-degree pulse leaves 0 to recover from
    assert float(saturation(tr_s, number(t1_s))) == pytest.approx(mz)
    assert float(saturation(1e3, number(t1_s))) == pytest.approx(1.0)


# --- suppression and ensemble -----------------------------------------------------------------------------------------


def test_suppression_is_the_mean_of_what_is_left():
    energy, reference = number([[1.0, 0.0], [0.5, 4.0]]), number([2.0, 4.0])
    assert suppression_loss(energy, reference).tolist() == [0.25, 0.625]


VALUES, WEIGHT = number([0.3, -1.2, 0.9, 0.1]), number([0.4, 0.3, 0.2, 0.1])


def test_mean_soft_and_hard_worst_case():
    values, weight = VALUES.numpy(), WEIGHT.numpy()
    assert float(aggregate(VALUES, WEIGHT)) == pytest.approx((values * weight).sum())
    assert float(aggregate(VALUES, WEIGHT, "worst")) == 0.9
    for k in (0.5, 10.0, 400.0):
        soft = float(aggregate(VALUES, WEIGHT, "soft_worst", k))
        exact = 0.9 + math.log((weight * np.exp(k * (values - 0.9))).sum()) / k
        assert soft == pytest.approx(exact, rel=1e-12)
        assert 0.9 + math.log(0.2) / k <= soft <= 0.9
    assert float(aggregate(VALUES, WEIGHT, "soft_worst", 1e-6)) == pytest.approx((values * weight).sum(), abs=1e-5)
    # One value for all: every summary is that value, and a member without weight has no say.
    for how in ("mean", "soft_worst", "worst"):
        assert float(aggregate(number([0.7, 0.7]), number([0.5, 0.5]), how)) == pytest.approx(0.7)
        assert float(aggregate(number([0.7, 99.0]), number([1.0, 0.0]), how)) == pytest.approx(0.7)
    with pytest.raises(InputError, match="aggregate is 'median'"):
        aggregate(VALUES, WEIGHT, "median")


def test_gradients_of_the_pure_losses():
    wanted = random_spectra(1, 12, seed=3)[0]
    x = random_spectra(3, 12, seed=5).requires_grad_()
    reference = number([3.0, 2.0])
    for mode in ("complex", "magnitude"):
        assert torch.autograd.gradcheck(lambda x, mode=mode: spectrum_loss(x, wanted, number(0.5), 0.7, mode), x)
    detector = random_spectra(1, 12, seed=6)[0]
    assert torch.autograd.gradcheck(lambda x: state_loss(state_overlap(x, detector), 0.8), x)
    nuisance, t1_s = random_spectra(12, 2, seed=8), number([1.0, 1.4, 0.7])
    assert torch.autograd.gradcheck(lambda x: crlb_loss(scan_time_sd(x.T, 2, nuisance, 0.4, tr_s=2.0, t1_s=t1_s)), x)
    assert torch.autograd.gradcheck(lambda x: correlation_loss(x.T, nuisance), x)
    assert torch.autograd.gradcheck(lambda x: suppression_loss((x.abs() ** 2).sum(-1)[:2], reference), x)
    values = VALUES.clone().requires_grad_()
    for how in ("mean", "soft_worst", "worst"):
        assert torch.autograd.gradcheck(lambda v, how=how: aggregate(v, WEIGHT, how, 3.0), values)


# --- the whole problem ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(problem):
    """All six terms on four members of two linewidths each."""
    made = problem(
        loss=EVERY, **NEEDED, b0_offsets_hz=(-6.0, 5.0), b1_scales=(0.8, 1.1), linewidth_offsets_hz=(-1.0, 2.0)
    )
    return made, made.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))


def test_the_weighted_terms_add_up_to_the_loss(whole):
    _, (loss, metrics) = whole
    assert list(metrics.terms) == list(EVERY)
    assert float(loss) == metrics.loss == pytest.approx(sum(EVERY[k] * v for k, v in metrics.terms.items()), rel=1e-12)
    # The design file holds them.
    again = Metrics(**json.loads(json.dumps(asdict(metrics))))
    assert again == metrics


def test_every_term_of_the_whole_problem_against_numpy(whole):
    made, (_, metrics) = whole
    found = {name: [] for name in ("window", "area", "spectrum", "suppression")}
    for width in (4.0, 7.0):
        step = made.window.step_hz
        f, glu = model_spectra(made, "Glu", 2.25, 2.42, 1.0, width)
        _, gln = model_spectra(made, "Gln", 2.25, 2.42, 1.0, width)
        w = acquired("Glu", f, width)
        energy, other, reference = ((abs(s) ** 2).sum(-1) for s in (glu, gln, w))
        found["window"].append(np.log((other + 0.02 * reference) / energy))
        areas = [abs(s.sum(-1)) ** 2 for s in (glu, gln, w)]
        found["area"].append(np.log((areas[1] + 0.02 * areas[2]) / areas[0]))
        phase = (w.conj() * glu).sum(-1)
        turned = w * (phase / abs(phase))[:, None]
        found["spectrum"].append(((abs(glu - turned) ** 2).sum(-1) + other) / reference)
        f, naa = model_spectra(made, "NAA", 1.8, 4.1, 1.0, width)
        found["suppression"].append((abs(naa) ** 2).sum(-1) / (abs(acquired("NAA", f, width)) ** 2).sum())
        assert step == 1.0
    for name, values in found.items():
        assert metrics.terms[name] == pytest.approx(np.mean(values), rel=1e-6), name
    assert metrics.terms["state"] == pytest.approx(1 - metrics.overlap / metrics.overlap_maximum, rel=1e-9)
    assert metrics.overlap_maximum == pytest.approx(11 / 8 * math.sqrt(2 / 5), rel=1e-9)
    assert 0 < metrics.overlap < metrics.overlap_maximum


def test_members_of_unequal_weight_keep_it_at_every_linewidth(problem):
    """Window and state term by hand with weights 0.8 and 0.2, two linewidths each."""
    made = problem(
        loss={"window": 1.0, "state": 1.0}, state="I4x + I5x", b1_scales=(0.7, 1.2), linewidth_offsets_hz=(-1.0, 2.0)
    )
    members = replace(made.model.members, weight=number([0.8, 0.2]))
    made = replace(made, model=replace(made.model, members=members))
    got = made.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))[1]
    by_width = []
    for width in (4.0, 7.0):
        f, glu = model_spectra(made, "Glu", 2.25, 2.42, 1.0, width)
        _, gln = model_spectra(made, "Gln", 2.25, 2.42, 1.0, width)
        energy, other, reference = ((abs(s) ** 2).sum(-1) for s in (glu, gln, acquired("Glu", f, width)))
        by_width.append(np.log((other + 0.02 * reference) / energy))
    assert got.terms["window"] == pytest.approx(np.mean(by_width, 0) @ [0.8, 0.2], rel=1e-6)
    single = [
        problem(loss={"state": 1.0}, state="I4x + I5x", b1_scales=(scale,)).loss_and_metrics(
            random_pulse().b1_hz, *seconds(*TE_S)
        )[1]
        for scale in (0.7, 1.2)
    ]
    # Alone, a member has its own positions across the slices.
    assert got.overlap == pytest.approx(0.8 * single[0].overlap + 0.2 * single[1].overlap, rel=2e-2)
    assert abs(single[0].overlap - single[1].overlap) > 0.1 * single[0].overlap
    broken = replace(made, reference_energy=number([1.0, 1.0, math.nan, 1.0]))
    with pytest.raises(LossNotFinite, match=r"'window' is nan .* relative B1 1\.2"):
        broken.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))


def test_worst_cases_of_the_whole_problem(problem):
    """The window loss of every member by hand; signal and contamination stay means."""
    fields = {"b0_offsets_hz": (-8.0, 8.0), "b1_scales": (0.8, 1.2)}
    pulse = random_pulse().b1_hz
    made = problem(**fields)
    _, glu = model_spectra(made, "Glu", 2.25, 2.42, 1.0, 5.0)
    _, gln = model_spectra(made, "Gln", 2.25, 2.42, 1.0, 5.0)
    f = made.window.offset_hz.numpy()
    energy, other, reference = ((abs(s) ** 2).sum(-1) for s in (glu, gln, acquired("Glu", f, 5.0)))
    members = np.log((other + 0.02 * reference) / energy)
    assert np.ptp(members) > 0.1
    reached = {}
    for how in ("mean", "soft_worst", "worst"):
        loss, reached[how] = problem(**fields, aggregate=how, aggregate_sharpness=5.0).loss_and_metrics(
            pulse, *seconds(*TE_S)
        )
        assert float(loss) == reached[how].loss == reached[how].terms["window"]
    assert reached["mean"].loss == pytest.approx(members.mean(), rel=1e-6)
    assert reached["worst"].loss == pytest.approx(members.max(), rel=1e-6)
    assert reached["soft_worst"].loss == pytest.approx(np.log(np.exp(5 * members).mean()) / 5, rel=1e-6)
    assert reached["worst"].signal == reached["mean"].signal == pytest.approx(np.sqrt(energy / reference).mean())


@pytest.mark.parametrize("how", ["mean", "soft_worst", "worst"])
def test_directional_derivatives_of_all_terms_together(problem, how):
    made = problem(
        loss=EVERY,
        **NEEDED,
        aggregate=how,
        b1_scales=(0.8, 1.1),
        linewidth_offsets_hz=(-1.0, 2.0),
        equal_scan_time=True,
        tr_s=2.0,
        peaks=PEAKS,
    )
    shape = spline_waveform(
        duration_s=0.02, dwell_s=2e-5, knot_spacing_s=5e-4, b1_max_hz=300.0, energy_max_hz2_s=1000.0
    )
    generator = torch.Generator().manual_seed(5)
    n = shape.n_parameters
    x = torch.cat([0.4 * torch.randn(n, generator=generator, dtype=torch.float64), number(TE_S) / 0.01])
    x.requires_grad_()

    def value(at):
        return made.loss_and_metrics(shape.waveform_hz(at[:-2]), 0.01 * at[-2], 0.01 * at[-1])[0]

    (gradient,) = torch.autograd.grad(value(x), x)
    direction = torch.randn(n + 2, generator=generator, dtype=torch.float64)
    step = 1e-4
    with torch.no_grad():
        difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float(gradient @ direction) == pytest.approx(float(difference), rel=1e-5, abs=1e-7)


def test_a_warmer_sample_is_one_whose_water_has_moved(problem):
    """Ten kelvin: water at a shift lower by 0.1036 ppm, pulses at the same offsets in Hz from it."""
    pulse = random_pulse().b1_hz
    warm = problem(temperature_offsets_k=(10.0,), loss={"window": 1.0})
    moved = 0.1036
    same = problem(reference_ppm=WATER_PPM - moved, carrier_ppm=2.35 - moved, loss={"window": 1.0})
    assert same.carrier_hz == pytest.approx(warm.carrier_hz)
    losses = [made.loss_and_metrics(pulse, *seconds(*TE_S))[1] for made in (warm, same)]
    assert losses[0].loss == pytest.approx(losses[1].loss, rel=1e-7)
    cold = problem(loss={"window": 1.0}).loss_and_metrics(pulse, *seconds(*TE_S))[1]
    assert abs(cold.loss - losses[0].loss) > 0.05
    # Field offsets and temperatures are combined.
    both = problem(temperature_offsets_k=(-5.0, 5.0), b0_offsets_hz=(0.0, 1.0)).model.members.b0_hz
    assert both.tolist() == pytest.approx([-6.38176, 6.38176, -5.38176, 7.38176])


def test_the_crlb_with_macromolecules_at_equal_scan_time(problem):
    """Full Fisher matrix in NumPy; the macromolecules' spectrum is the integral of their FID."""
    names = ("Glu", "Gln", "NAA")
    options = {"loss": {"crlb": 1.0, "correlation": 1.0}, "equal_scan_time": True, "tr_s": 1.5}
    made = problem(names=names, peaks=PEAKS, **options)
    got = made.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))[1].terms
    columns = []
    for name, t1_s in zip(names, (1.2, 0.9, 1.4), strict=True):
        f, spectrum = model_spectra(made, name, 1.8, 4.1, 2.0, 5.0)
        columns.append(spectrum[0] * (1 - math.exp(-1.5 / t1_s)))
    t = np.arange(0, 0.4, 1e-4)
    fid = sum(
        p.amplitude
        * np.exp(2j * np.pi * (p.shift_ppm - WATER_PPM) * 123.2 * t)
        * np.exp(-np.pi * 5.0 * t - (np.pi * p.fwhm_ppm * 123.2 * t) ** 2 / (4 * math.log(2)))
        for p in PEAKS
    )
    background = np.trapezoid(fid * np.exp(-2j * np.pi * f[:, None] * t), t, axis=1)
    splines = made.baseline[:, 1 : made.baseline.shape[1] // 2].numpy()
    nuisance = [x * factor for x in (background, *splines.T) for factor in (1.0, 1.0j)]
    stacked = np.array([np.concatenate([c.real, c.imag]) for c in (*columns, *nuisance)]).T
    scale = np.linalg.norm(stacked, axis=0)
    covariance = np.linalg.inv((stacked / scale).T @ (stacked / scale)) / np.outer(scale, scale)
    bounds = np.sqrt(np.diag(covariance))
    assert got["crlb"] == pytest.approx(np.log(bounds[:2] * math.sqrt(1.5)).mean(), rel=1e-4)
    assert got["correlation"] == pytest.approx(covariance[0, 1] ** 2 / (covariance[0, 0] * covariance[1, 1]), rel=1e-3)
    without = problem(names=names, **options).loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))[1].terms
    assert without["crlb"] < got["crlb"] - 1e-3


def test_a_wanted_spectrum_of_stated_lines(problem):
    """Stated lines instead of pulse-acquire: W in NumPy, in absolute protons."""
    made = problem(loss={"spectrum": 1.0}, spectrum_lines=((2.31, 1.0), (2.36, -0.5)), spectrum_mode="magnitude")
    got = made.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))[1].terms["spectrum"]
    f, glu = model_spectra(made, "Glu", 2.25, 2.42, 1.0, 5.0)
    _, gln = model_spectra(made, "Gln", 2.25, 2.42, 1.0, 5.0)
    w = np.array([1.0, -0.5]) @ lorentz([(ppm - WATER_PPM) * 123.2 for ppm in (2.31, 2.36)], f, 5.0)
    distance = ((abs(glu) - abs(w)) ** 2).sum() + (abs(gln) ** 2).sum()
    assert got == pytest.approx(distance / (abs(w) ** 2).sum(), rel=1e-6)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_window_without_lines_names_the_nearest(problem):
    with pytest.raises(
        InputError, match=r"window_ppm from 2.6 to 2.9 ppm holds no line of Glu: .* lies at 2\.[34]\d\d"
    ):
        problem(window_ppm=(2.6, 2.9))
    with pytest.raises(InputError, match=r"suppression from 1\.8 to 4\.1 ppm holds no line of far: .* 8\.000 ppm"):
        problem(loss={"suppression": 1.0}, suppressed=("far",), systems=with_a_singlet_at_8_ppm())


def with_a_singlet_at_8_ppm():
    group = SpinGroup(name="far", labels=("H",), shift_ppm=(8.0,), j_hz=((0.0,),))
    systems = {name: library.spin_system(name) for name in ("Glu", "Gln")}
    return systems | {"far": SpinSystem(name="far", groups=(group,))}


def test_a_suppressed_metabolite_that_is_missing_is_named(problem):
    with pytest.raises(InputError, match="names Cr, which the sample does not hold"):
        problem(loss={"window": 1.0, "suppression": 0.1}, suppressed=("NAA", "Cr"))


def test_bounds_at_equal_scan_time_need_tr(problem):
    with pytest.raises(InputError, match="needs the repetition time"):
        problem(loss={"crlb": 1.0}, equal_scan_time=True)


def test_a_term_that_is_no_number_is_named(problem):
    made = problem(loss={"window": 1.0, "suppression": 0.1}, suppressed=("NAA",), b1_scales=(1.0, 0.9))
    pulse = random_pulse().b1_hz
    broken = replace(made, suppressed_energy=number([0.0]))
    with pytest.raises(LossNotFinite, match="The loss 'suppression' is inf for the member at 0 Hz") as caught:
        broken.loss_and_metrics(pulse, *seconds(*TE_S))
    assert caught.value.term == "suppression"
    broken = replace(made, reference_energy=number([1.0, math.nan]))
    with pytest.raises(LossNotFinite, match=r"The loss 'window' is nan .* relative B1 0\.9"):
        broken.loss_and_metrics(pulse, *seconds(*TE_S))


def test_metabolites_that_no_fit_tells_apart_are_named(problem):
    systems = {name: library.spin_system(name) for name in ("Glu", "Gln")}
    systems["copy of Glu"] = systems["Glu"]
    made = problem(systems=systems, loss={"crlb": 1.0})
    with pytest.raises(LossNotFinite, match="'crlb' cannot be computed: The data cannot tell apart Glu, copy of Glu"):
        made.loss_and_metrics(random_pulse().b1_hz, *seconds(*TE_S))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": {"state": 1.0}}, "product operator in state"),
        ({"loss": {"suppression": 1.0}}, "names in suppressed"),
        ({"suppressed": ("Glu",)}, "suppressed must not name the target"),
        ({"aggregate": "median"}, "aggregate must be"),
        ({"spectrum_mode": "real"}, "spectrum_mode must be"),
        ({"aggregate_sharpness": 0.0}, "aggregate_sharpness must be positive"),
        ({"aggregate_sharpness": math.inf}, "aggregate_sharpness must be positive"),
        ({"linewidth_offsets_hz": ()}, "linewidth_offsets_hz must name"),
        ({"linewidth_offsets_hz": (0.0, -5.0)}, "linewidth_offsets_hz must name"),
        ({"temperature_offsets_k": (math.nan,)}, "temperature_offsets_k must name"),
        ({"temperature_offsets_k": ()}, "temperature_offsets_k must name"),
        ({"spectrum_lines": ((2.3, 0.0),)}, "spectrum_lines must be finite"),
        ({"spectrum_lines": ((math.nan, 1.0),)}, "spectrum_lines must be finite"),
    ],
)
def test_impossible_losses_are_refused(design_spec, changes, words):
    with pytest.raises(InputError, match=words):
        design_spec(**changes)


def test_a_protocol_states_losses_and_ensemble(tmp_path):
    text = (files("seqgen_protocols") / "phantom_glu_gln_3t.yaml").read_text(encoding="utf-8")
    written = (
        "  loss: {window: 1.0, spectrum: 0.2, state: 0.1, suppression: 0.1}\n  aggregate: soft_worst\n"
        "  aggregate_sharpness: 5\n  state: I4x + I5x\n  suppressed: [NAA]\n"
        "  spectrum_lines: [[2.34, 1.0], [2.40, -0.5]]\n  linewidth_offsets_hz: [0, 2]\n"
        "  temperature_offsets_k: [-5, 5]\n"
    )
    lines = [line for line in text.splitlines() if not line.startswith("  loss:")]
    at = next(k for k, line in enumerate(lines) if line.startswith("  linewidth_hz: 4"))
    path = tmp_path / "protocol.yaml"
    path.write_text("\n".join([*lines[:at], *written.splitlines(), *lines[at:]]) + "\n", encoding="utf-8")
    spec = config.load_protocol(path).design
    assert spec.loss["suppression"] == 0.1
    assert spec.spectrum_lines == ((2.34, 1.0), (2.40, -0.5))
    assert spec.temperature_offsets_k == (-5.0, 5.0)
    assert (spec.aggregate, spec.state, spec.suppressed) == ("soft_worst", "I4x + I5x", ("NAA",))
