import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.model.baseline import spline_basis

RANGE = (1.8, 4.1)


def test_splines_add_up_to_one_and_contain_every_cubic():
    ppm = np.linspace(*RANGE, 200)
    basis = spline_basis(ppm, RANGE, 0.4).numpy()
    assert basis.shape == (200, 6 + 3)
    np.testing.assert_allclose(basis.sum(1), 1.0, atol=1e-12)
    cubic = 1 - 2 * ppm + 0.3 * ppm**2 + 0.7 * ppm**3
    coefficients = np.linalg.lstsq(basis, cubic, rcond=None)[0]
    np.testing.assert_allclose(basis @ coefficients, cubic, atol=1e-10)


def test_interior_spline_is_the_cubic_b_spline_of_the_spacing():
    # Closed form of the cubic cardinal B-spline: 2/3 in the middle, 1/6 one knot away, 0 two knots away.
    spacing = 0.5
    ppm = np.array([2.0, 2.5, 3.0, 3.5, 4.0])
    basis = spline_basis(ppm, (1.0, 5.0), spacing).numpy()
    middle = basis[:, np.argmax(basis[2])]
    np.testing.assert_allclose(middle, [0, 1 / 6, 2 / 3, 1 / 6, 0], atol=1e-12)


def test_accepts_a_tensor_and_the_very_ends():
    assert spline_basis(torch.tensor([1.8, 4.1], dtype=torch.float64), RANGE, 10.0).shape == (2, 4)


@pytest.mark.parametrize(("range_ppm", "spacing"), [((4.1, 1.8), 0.4), (RANGE, 0.0), (RANGE, float("nan"))])
def test_refuses_an_empty_range_or_no_spacing(range_ppm, spacing):
    with pytest.raises(InputError, match="low < high"):
        spline_basis(np.array([2.0]), range_ppm, spacing)


def test_refuses_points_outside():
    with pytest.raises(InputError, match=r"outside range_ppm \(1\.8, 4\.1\)"):
        spline_basis(np.array([1.7, 2.0]), RANGE, 0.4)
