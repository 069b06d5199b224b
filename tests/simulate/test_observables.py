import math

import exact_spins
import numpy as np
import pytest
import torch
from scipy.integrate import simpson
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.errors import InputError
from seqgen.library import spin_system
from seqgen.simulate.observables import (
    expectation,
    peak_height_bound,
    peak_height_operator,
    reachable_window_energy,
    window_area_bound,
    window_area_operator,
    window_energy,
    window_energy_bound,
    window_energy_matrix,
    window_signal_bound,
)
from seqgen.spin.bounds import best_unitary, expectation_bound
from seqgen.spin.hamiltonian import group_model, molecule_models
from seqgen.spin.operators import total_operator

OFFSETS_HZ = [-30.0, 12.0, 25.0]
COUPLINGS_HZ = {(0, 1): 9.3, (0, 2): -6.1, (1, 2): 14.2}
FWHM_HZ = 5.0


def model_of(offsets_hz=OFFSETS_HZ, couplings_hz=COUPLINGS_HZ, **kwargs):
    return group_model(group_at_hz(offsets_hz, couplings_hz, **kwargs), FREQUENCY_HZ, REFERENCE_PPM)


@pytest.fixture(scope="module")
def state():
    """A random Hermitian state in the product basis."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8))
    return (a + a.conj().T) / 2


def spectrum(rho, f_hz):
    """Integral of the damped signal of plain NumPy spins; Simpson in time."""
    j_hz = np.zeros((3, 3))
    for (j, k), value in COUPLINGS_HZ.items():
        j_hz[j, k] = j_hz[k, j] = value
    t = np.arange(0, 2.0, 2.5e-4)
    h = exact_spins.free_hamiltonian(OFFSETS_HZ, j_hz)
    damped = exact_spins.signal(rho, h, t) * np.exp(-np.pi * FWHM_HZ * t)
    return simpson(damped * np.exp(-2j * np.pi * np.multiply.outer(f_hz, t)), x=t)


def in_eigenbasis(rho, model):
    v = model.eigenvectors.numpy()
    return torch.tensor(v.T @ rho @ v)


@pytest.mark.parametrize("phase_rad", [0.0, 0.8])
@pytest.mark.parametrize("f_hz", [-27.0, 3.0, 200.0])
def test_height_is_read_off_the_spectrum(state, f_hz, phase_rad):
    model = model_of()
    q = peak_height_operator(model, f_hz, FWHM_HZ, receiver_phase_rad=phase_rad)
    expected = (np.exp(-1j * phase_rad) * spectrum(state, np.array([f_hz]))[0]).real
    assert float(expectation(in_eigenbasis(state, model), q)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("phase_rad", [0.0, -1.1])
def test_area_is_the_integral_over_the_window(state, phase_rad):
    model = model_of()
    window = (-8.0, 31.0)
    f = np.linspace(*window, 801)
    expected = simpson((np.exp(-1j * phase_rad) * spectrum(state, f)).real, x=f)
    q = window_area_operator(model, window, FWHM_HZ, receiver_phase_rad=phase_rad)
    assert float(expectation(in_eigenbasis(state, model), q)) == pytest.approx(expected, abs=1e-5)


def test_energy_is_the_integral_of_the_power(state):
    model = model_of()
    window = (-8.0, 31.0)
    f = np.linspace(*window, 801)
    expected = simpson(np.abs(spectrum(state, f)) ** 2, x=f)
    matrix = window_energy_matrix(model, window, FWHM_HZ)
    assert float(window_energy(in_eigenbasis(state, model), model, matrix)) == pytest.approx(expected, rel=1e-6)
    received = in_eigenbasis(state, model) * (model.order == -1)
    assert float(window_energy(received, model, matrix)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("multiplier", [1.0, 3.0])
def test_one_spin_is_a_lorentzian(multiplier):
    """Height 1/(pi L); area atan(2 f/L)/(2 pi) to either side; energy atan(2 f/L) / (2 pi^2 L) to either side."""
    model = model_of([10.0], {}, multiplier=multiplier)
    assert peak_height_bound(model, 10.0, 4.0).value == pytest.approx(multiplier / (4 * math.pi), rel=1e-12)
    area = (math.atan(2 * 7 / 4) + math.atan(2 * 3 / 4)) / (2 * math.pi)
    assert window_area_bound(model, (7.0, 17.0), 4.0).value == pytest.approx(multiplier * _largest_area(4.0), rel=1e-12)
    ix = in_eigenbasis(exact_spins.PAULI["x"], model)
    q = window_area_operator(model, (7.0, 17.0), 4.0)
    assert float(expectation(ix, q)) == pytest.approx(multiplier * area, rel=1e-12)
    energy = multiplier**2 * (math.atan(2 * 7 / 4) + math.atan(2 * 3 / 4)) / (2 * math.pi**2 * 4)
    assert window_energy_bound(model, (7.0, 17.0), 4.0).value == pytest.approx(energy, rel=1e-12)
    assert reachable_window_energy(model, (7.0, 17.0), 4.0) == pytest.approx(energy, rel=1e-12)


def _largest_area(fwhm_hz):
    """|integral of the complex Lorentzian from -3 to +7 Hz|: any phase can be turned into absorption."""
    f = np.linspace(-3, 7, 20001)
    return abs(simpson(1 / (np.pi * fwhm_hz + 2j * np.pi * f), x=f))


@pytest.mark.parametrize("which", ["height", "area"])
def test_bounds_hold_for_random_unitaries_and_are_reached_by_one(which):
    model = model_of()
    if which == "height":
        q, bound = peak_height_operator(model, 14.0, FWHM_HZ), peak_height_bound(model, 14.0, FWHM_HZ)
    else:
        q, bound = window_area_operator(model, (5, 30), FWHM_HZ), window_area_bound(model, (5, 30), FWHM_HZ)
    rng = np.random.default_rng(0)
    for _ in range(200):
        a = rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8))
        u = torch.linalg.qr(torch.tensor(a))[0]
        assert float(expectation(u @ model.initial_state @ u.mH, q)) < bound.value
    u = best_unitary(q, model.initial_state)
    assert float(expectation(u @ model.initial_state @ u.mH, q)) == pytest.approx(bound.value, rel=1e-12)


def test_bounds_do_not_depend_on_the_receiver_phase():
    """A rotation of all spins about z is a unitary, and turns the phase."""
    model = model_of()
    for phase in (0.4, math.pi / 2, 2.9):
        q = peak_height_operator(model, 14.0, FWHM_HZ, receiver_phase_rad=phase)
        bound = expectation_bound(q, model.initial_state).value
        assert bound == pytest.approx(peak_height_bound(model, 14.0, FWHM_HZ).value, rel=1e-12)


def test_energy_lies_between_what_is_reached_and_the_upper_bound():
    model, window = model_of(), (5.0, 31.0)
    matrix = window_energy_matrix(model, window, FWHM_HZ)
    bound, reached = window_energy_bound(model, window, FWHM_HZ), reachable_window_energy(model, window, FWHM_HZ)
    assert bound.kind == "energy"
    assert not bound.reachable
    rng = np.random.default_rng(5)
    random = []
    for _ in range(300):
        u = torch.linalg.qr(torch.tensor(rng.normal(size=(8, 8)) + 1j * rng.normal(size=(8, 8))))[0]
        random.append(float(window_energy(u @ model.initial_state @ u.mH, model, matrix)))
    hard = float(window_energy(in_eigenbasis(exact_spins.total(3, "x"), model), model, matrix))
    assert max(*random, hard) < reached < bound.value


def test_a_far_window_holds_next_to_nothing():
    model = model_of()
    near, far = (window_energy_bound(model, (f, f + 10), FWHM_HZ).value for f in (8.0, 5e4))
    assert 0 < far < 1e-4 * near


@pytest.mark.parametrize("function", [window_area_operator, window_energy_matrix])
def test_a_window_that_falls_is_refused(function):
    with pytest.raises(InputError, match="Swap the two"):
        function(model_of(), (10.0, -10.0), FWHM_HZ)


def test_window_signal_of_a_lone_spin_is_bounded_by_itself():
    """A perfect 90 brings everything: the bound relative to it is 1; of two molecules' groups they add up."""
    model = group_model(group_at_hz([10.0], {}), FREQUENCY_HZ, REFERENCE_PPM)
    assert window_signal_bound([model], (0.0, 20.0), 3.0).value == pytest.approx(1.0, abs=2e-3)
    other = group_model(group_at_hz([10.0], {}, multiplier=3.0), FREQUENCY_HZ, REFERENCE_PPM)
    assert window_signal_bound([model, other], (0.0, 20.0), 3.0).value == pytest.approx(1.0, abs=2e-3)


def test_window_signal_bound_holds_for_random_unitaries_and_whole_molecules():
    models = molecule_models(spin_system("Glu"), 123.2e6, 2.35)
    window_hz, fwhm_hz = ((2.25 - 2.35) * 123.2, (2.42 - 2.35) * 123.2), 4.0
    bound = window_signal_bound(models, window_hz, fwhm_hz)
    (model,) = models
    matrix = window_energy_matrix(model, window_hz, fwhm_hz)
    reached = math.sqrt(reachable_window_energy(model, window_hz, fwhm_hz))
    simple = math.sqrt(float(window_energy(perfect_90(model), model, matrix)))
    assert 1.9 < reached / simple < bound.value < 2.1
    assert not bound.reachable


def perfect_90(model):
    v = model.eigenvectors.to(torch.complex128)
    return v.mT @ total_operator(model.group.n_spins, "x") @ v
