import itertools

import pytest
import torch

from seqgen.spin.operators import isotropic_coupling, spin_operator, total_operator


@pytest.mark.parametrize("spin", [0, 1, 2])
def test_commutators_of_one_spin(spin):
    x, y, z = (spin_operator(3, spin, axis) for axis in "xyz")
    for a, b, c in ((x, y, z), (y, z, x), (z, x, y)):
        torch.testing.assert_close(a @ b - b @ a, 1j * c, rtol=0, atol=1e-15)


def test_operators_of_different_spins_commute():
    for (j, k), a, b in itertools.product(itertools.combinations(range(3), 2), "xyz", "xyz"):
        one, other = spin_operator(3, j, a), spin_operator(3, k, b)
        assert float((one @ other - other @ one).abs().max()) == 0


def test_first_spin_is_leftmost_and_alpha_comes_first():
    assert spin_operator(2, 0, "z").real.diagonal().tolist() == [0.5, 0.5, -0.5, -0.5]
    assert spin_operator(2, 1, "z").real.diagonal().tolist() == [0.5, -0.5, 0.5, -0.5]


def test_raising_operator_raises():
    raising = total_operator(1, "x") + 1j * total_operator(1, "y")
    torch.testing.assert_close(raising, torch.tensor([[0, 1], [0, 0]], dtype=torch.complex128))


def test_total_operator_over_some_spins():
    expected = spin_operator(3, 0, "y") + spin_operator(3, 2, "y")
    torch.testing.assert_close(total_operator(3, "y", (0, 2)), expected)


def test_isotropic_coupling_has_triplet_and_singlet_energies():
    energy = torch.linalg.eigvalsh(isotropic_coupling(2, 0, 1))
    torch.testing.assert_close(energy, torch.tensor([-0.75, 0.25, 0.25, 0.25], dtype=torch.float64))


def test_isotropic_coupling_commutes_with_common_rotations():
    coupling = isotropic_coupling(3, 0, 2).to(torch.complex128)
    for axis in "xyz":
        total = total_operator(3, axis)
        assert float((coupling @ total - total @ coupling).abs().max()) < 1e-15
