import functools
import itertools
import math

import numpy as np
import pytest
from systems import FREQUENCY_HZ, REFERENCE_PPM, ab_quartet, ax2_weak, ax_doublets, group_at_hz

from seqgen.errors import InputError
from seqgen.spin.hamiltonian import group_model
from seqgen.spin.operators import product_operator

PAULI = {
    "x": np.array([[0, 1], [1, 0]]) / 2,
    "y": np.array([[0, -1j], [1j, 0]]) / 2,
    "z": np.array([[1, 0], [0, -1]]) / 2,
}


def one_spin(n, spin, axis):
    return functools.reduce(np.kron, [PAULI[axis] if k == spin else np.eye(2) for k in range(n)])


def model_of(offsets_hz, couplings_hz, **kwargs):
    return group_model(group_at_hz(offsets_hz, couplings_hz, **kwargs), FREQUENCY_HZ, REFERENCE_PPM)


def along_x(model):
    """Lines (frequency, amplitude) of sum Ix of the protons, merged where frequencies agree to 1e-6 Hz."""
    n = model.group.n_spins
    fx = sum(one_spin(n, k, "x") for k in range(n) if model.group.nuclei[k] == "1H")
    vectors = model.eigenvectors.numpy()
    rho = vectors.T @ fx @ vectors
    merged = {}
    for (i, j), weight, frequency in zip(
        model.transition.tolist(), model.transition_weight.tolist(), model.transition_hz.tolist(), strict=True
    ):
        key = next((k for k in merged if abs(k - frequency) < 1e-6), frequency)
        merged[key] = merged.get(key, 0) + rho[i, j].real * weight
    return sorted((f, a) for f, a in merged.items() if abs(a) > 1e-9)


def assert_lines(found, expected, atol_hz=1e-6, atol=1e-9):
    assert len(found) == len(expected)
    np.testing.assert_allclose([f for f, _ in found], [f for f, _ in sorted(expected)], rtol=0, atol=atol_hz)
    np.testing.assert_allclose([a for _, a in found], [a for _, a in sorted(expected)], rtol=0, atol=atol)


@pytest.mark.parametrize(("difference_hz", "j_hz"), [(12.0, 15.9), (1.75, -15.9), (200.0, 7.0), (30.0, 30.0)])
def test_ab_quartet(difference_hz, j_hz):
    model = model_of([-40 - difference_hz / 2, -40 + difference_hz / 2], {(0, 1): j_hz})
    assert_lines(along_x(model), ab_quartet(-40.0, difference_hz, j_hz))


def test_ax_doublet_with_a_heteronucleus_shows_the_proton_alone():
    model = model_of([30.0, 0.0], {(0, 1): 8.0}, nuclei=("1H", "31P"))
    assert_lines(along_x(model), [line for line in ax_doublets(30.0, 999.0, 8.0) if line[0] < 100])


def test_weakly_coupled_ax_becomes_two_doublets():
    model = model_of([0.0, 1e6], {(0, 1): 7.0})
    # Strong coupling moves the lines by J^2 / (4 difference) = 1.2e-5 Hz and the intensities by J / difference.
    assert_lines(along_x(model), ax_doublets(0.0, 1e6, 7.0), atol_hz=2e-5, atol=1e-5)


def test_ax2_is_a_triplet_1_2_1():
    model = model_of([0.0, 1e7, 1e7], {(0, 1): 7.0, (0, 2): 7.0})
    found = [line for line in along_x(model) if abs(line[0]) < 100]
    merged = {k: sum(a for f, a in found if abs(f - 7.0 * k) < 1e-3) for k in (-1, 0, 1)}
    expected = {round(f / 7): a for f, a in ax2_weak(0.0, 1e7, 7.0) if abs(f) < 100}
    assert merged == pytest.approx(expected, abs=1e-5)


def test_equivalent_protons_give_one_line_whatever_their_coupling():
    model = model_of([55.0, 55.0, 55.0], {(0, 1): 12.0, (0, 2): -5.0, (1, 2): 3.0})
    assert_lines(along_x(model), [(55.0, 3.0)])


def test_multiplier_counts_copies():
    model = model_of([10.0], {}, multiplier=3.0)
    assert_lines(along_x(model), [(10.0, 3.0)])


RANDOM_COUPLINGS = {(0, 1): 9.3, (0, 2): -14.1, (1, 2): 6.2}


def test_free_hamiltonian_is_the_textbook_sum():
    model = model_of([-21.0, 4.0, 60.0], RANDOM_COUPLINGS)
    expected = sum(2 * math.pi * f * one_spin(3, k, "z") for k, f in enumerate([-21.0, 4.0, 60.0]))
    for (j, k), value in RANDOM_COUPLINGS.items():
        expected = expected + 2 * math.pi * value * sum(one_spin(3, j, a) @ one_spin(3, k, a) for a in "xyz")
    v = model.eigenvectors.numpy()
    np.testing.assert_allclose((v * model.energy_rad_per_s.numpy()) @ v.T, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(v.T @ v, np.eye(8), rtol=0, atol=1e-13)
    shifts = sum(2 * math.pi * f * one_spin(3, k, "z") for k, f in enumerate([-21.0, 4.0, 60.0]))
    np.testing.assert_allclose(model.coupling_rad_per_s.numpy(), expected - shifts, rtol=0, atol=1e-12)


def test_heteronuclear_pairs_couple_by_iz_iz_alone():
    model = model_of([10.0, 0.0], {(0, 1): 9.0}, nuclei=("1H", "31P"))
    expected = 2 * math.pi * 9.0 * one_spin(2, 0, "z") @ one_spin(2, 1, "z")
    np.testing.assert_allclose(model.coupling_rad_per_s.numpy(), expected.real, rtol=0, atol=1e-12)
    assert model.pulsed.tolist() == [1.0, 0.0]
    phosphorus = model_of([0.0, 0.0], {(0, 1): 9.0}, nuclei=("31P", "31P"))
    np.testing.assert_allclose(phosphorus.coupling_rad_per_s.numpy(), expected.real, rtol=0, atol=1e-12)


def test_order_counts_proton_quanta_even_where_levels_are_degenerate():
    # Protons on resonance: alpha/beta of 1H and of 31P have the same energy.
    nuclei = ("1H", "31P", "1H", "1H")
    model = model_of([0.0] * 4, {(0, 1): 6.0, (1, 2): 6.0, (0, 2): 4.0, (2, 3): 4.0}, nuclei=nuclei)
    m = sum(np.diag(one_spin(4, k, "z")) for k in (0, 2, 3))
    v = model.eigenvectors.numpy()
    spread = (v**2 * m[:, None] ** 2).sum(0) - ((v**2 * m[:, None]).sum(0)) ** 2
    np.testing.assert_allclose(spread, 0, atol=1e-12)
    assert sorted(set(model.order.flatten().tolist())) == [-3, -2, -1, 0, 1, 2, 3]
    assert bool((model.order == -model.order.T).all())


def test_initial_state_is_fz_of_the_protons():
    model = model_of([-21.0, 4.0, 60.0], RANDOM_COUPLINGS, nuclei=("1H", "31P", "1H"))
    v = model.eigenvectors.numpy()
    fz = one_spin(3, 0, "z") + one_spin(3, 2, "z")
    np.testing.assert_allclose(v @ model.initial_state.numpy() @ v.T, fz, rtol=0, atol=1e-12)


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3)))[1:])
def test_relabelling_the_spins_changes_nothing(permutation):
    offsets = [-21.0, 4.0, 60.0]
    couplings = {
        tuple(sorted((permutation.index(j), permutation.index(k)))): v for (j, k), v in RANDOM_COUPLINGS.items()
    }
    relabelled = along_x(model_of([offsets[p] for p in permutation], couplings))
    assert_lines(relabelled, along_x(model_of(offsets, RANDOM_COUPLINGS)))


def test_a_group_too_large_for_memory_is_refused_with_an_estimate():
    n = 16
    couplings = {(k, k + 1): 7.0 for k in range(n - 1)}
    # 12 matrices of 16 x 65536^2 bytes.
    with pytest.raises(InputError, match="65536 levels: its matrices need about 768 GiB, but this machine"):
        model_of([10.0 * k for k in range(n)], couplings)


def test_product_operators_are_kronecker_products():
    found = product_operator((2, 3, 2, 2), {1: "z", 3: "x"}).numpy()
    expected = functools.reduce(np.kron, [np.eye(2), np.diag([1, 0, -1]), np.eye(2), PAULI["x"]])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
