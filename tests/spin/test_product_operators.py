import functools
import itertools
import re

import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.spin.product_operators import (
    absolute_norms,
    coherence_norms,
    coherence_order,
    expand,
    largest,
    magnitudes,
    parse_operator,
    reconstruct,
    to_text,
)

ONE = {
    "E": np.eye(2),
    "x": np.array([[0, 1], [1, 0]]) / 2,
    "y": np.array([[0, -1j], [1j, 0]]) / 2,
    "z": np.diag([0.5, -0.5]),
}
RAISING = np.array([[0, 1], [0, 0]])


def product(axes):
    """The bare product of one axis per spin, for example "xEz"."""
    return functools.reduce(np.kron, [ONE[axis] for axis in axes])


def one(n, spin, matrix):
    """A 2 x 2 matrix acting on spin 1 to n."""
    return functools.reduce(np.kron, [matrix if k == spin else np.eye(2) for k in range(1, n + 1)])


def random_matrix(n, seed, hermitian=False):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(2**n, 2**n)) + 1j * rng.normal(size=(2**n, 2**n))
    return (a + a.conj().T) / 2 if hermitian else a


def name_of(axes):
    return "".join(f"I{k}{axis}" for k, axis in enumerate(axes, 1) if axis != "E")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_coefficient_is_a_trace(n):
    rho = random_matrix(n, 0)
    plain, ernst = expand(torch.tensor(rho)), expand(torch.tensor(rho), "ernst")
    for index, axes in enumerate(itertools.product("Exyz", repeat=n)):
        p, q = product(axes), n - axes.count("E")
        expected = np.trace(p @ rho) / np.trace(p @ p)
        assert complex(plain.coefficients[index]) == pytest.approx(expected, abs=1e-13)
        b = 2.0 ** (q - 1) * p  # Ernst: 2IxSz, 4IzIzIx, E/2; all of norm 2^(n-2)
        assert np.trace(b @ b).real == pytest.approx(2.0 ** (n - 2))
        assert complex(ernst.coefficients[index]) == pytest.approx(np.trace(b @ rho) / np.trace(b @ b), abs=1e-13)
        factor = "" if q < 2 else str(2 ** (q - 1))
        assert plain.names[index] == (name_of(axes) or "E")
        assert ernst.names[index] == (factor + name_of(axes) if q else "E/2")


@pytest.mark.parametrize("normalisation", ["plain", "ernst"])
def test_round_trip_of_a_batch_and_real_coefficients_of_hermitian_states(normalisation):
    rho = torch.tensor(np.stack([random_matrix(4, seed, hermitian=True) for seed in range(6)])).reshape(2, 3, 16, 16)
    expansion = expand(rho, normalisation)
    assert expansion.coefficients.shape == (2, 3, 256)
    assert float(expansion.coefficients.imag.abs().max()) < 1e-13
    torch.testing.assert_close(reconstruct(expansion), rho, rtol=0, atol=1e-13)
    torch.testing.assert_close(expansion.coefficients[1, 2], expand(rho[1, 2], normalisation).coefficients)


def test_norm_is_the_sum_of_squares_in_the_normalisation_of_ernst():
    rho = torch.tensor(random_matrix(4, 3))
    coefficients = expand(rho, "ernst").coefficients
    power = float((rho.abs() ** 2).sum())
    assert float((coefficients.abs() ** 2).sum()) * 2.0 ** (4 - 2) == pytest.approx(power, rel=1e-13)


@pytest.mark.parametrize("normalisation", ["plain", "ernst"])
def test_gradients(normalisation):
    rho = torch.tensor(random_matrix(2, 5), requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: expand(r, normalisation).coefficients, (rho,))
    assert torch.autograd.gradcheck(lambda r: reconstruct(expand(r, normalisation)), (rho,))


def test_precision_follows_the_input():
    assert expand(torch.eye(4, dtype=torch.float64)).coefficients.dtype == torch.complex128
    single = expand(torch.eye(4, dtype=torch.complex64))
    assert single.coefficients.dtype == reconstruct(single).dtype == torch.complex64


def test_one_coefficient_by_name():
    rho = torch.tensor(3 * product("zzExE") - 0.5 * product("EEEEy"))
    assert complex(expand(rho).coefficient("I1zI2zI4x")) == pytest.approx(3)
    assert complex(expand(rho, "ernst").coefficient("4I1zI2zI4x")) == pytest.approx(0.75)
    with pytest.raises(InputError, match="'I4xI1z' is no product operator of 5 spins"):
        expand(rho).coefficient("I4xI1z")


def test_terms_come_largest_share_first_whatever_the_normalisation():
    # Tr(P^2) of five spins is 32/4^q: 0.38^2 * 8, 1.32^2 / 2 and 0.9^2 * 2 for q = 1, 3 and 2.
    rho = torch.tensor(0.38 * product("EEEEx") - 1.32 * product("zzEEx") + 0.9 * product("EEyzE") + 7 * np.eye(32))
    powers = {"I5x": 8 * 0.38**2, "I1zI2zI5x": 1.32**2 / 2, "I3yI4z": 2 * 0.9**2}
    order = sorted(powers, key=lambda name: -powers[name])
    found = largest(expand(rho))
    assert [term.name for term in found] == order
    assert [term.share for term in found] == pytest.approx([powers[name] / sum(powers.values()) for name in order])
    in_ernst = largest(expand(rho, "ernst"))
    assert [re.sub(r"^\d+", "", term.name) for term in in_ernst] == order
    assert [term.share for term in in_ernst] == pytest.approx([term.share for term in found])
    assert to_text(expand(rho)) == "0.90 I3yI4z + 0.38 I5x - 1.32 I1zI2zI5x"
    assert to_text(expand(rho), count=2) == "0.90 I3yI4z + 0.38 I5x + ..."
    assert to_text(expand(rho, "ernst")) == "0.45*2I3yI4z + 0.38 I5x - 0.33*4I1zI2zI5x"


def test_largest_terms_of_a_batch_are_refused():
    with pytest.raises(InputError, match=r"shape \(2, 16\)"):
        largest(expand(torch.zeros(2, 4, 4, dtype=torch.complex128)))


def test_nothing_is_written_as_zero():
    zero = torch.zeros(4, 4, dtype=torch.complex128)
    assert to_text(expand(zero)) == "0"
    assert largest(expand(zero)) == ()


@pytest.mark.parametrize("normalisation", ["plain", "ernst"])
@pytest.mark.parametrize("hermitian", [True, False])
def test_text_becomes_the_same_matrix_again(normalisation, hermitian):
    rho = random_matrix(3, 8, hermitian)
    rho -= np.trace(rho) / 8 * np.eye(8)  # the unit operator is not written
    text = to_text(expand(torch.tensor(rho), normalisation), decimals=14)
    np.testing.assert_allclose(parse_operator(text, 3), rho, rtol=0, atol=1e-12)
    assert to_text(expand(parse_operator(text, 3), normalisation), decimals=10) == to_text(
        expand(torch.tensor(rho), normalisation), decimals=10
    )


P, M = RAISING, RAISING.T


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 I1x I2z + I3x", 2 * product("xzE") + product("EEx")),
        ("0.5*I1x", product("xEE") / 2),
        ("-I2y+.5I1zI3z", -product("EyE") + product("zEz") / 2),
        ("-(I1x + 0.5j I2y)/2", -product("xEE") / 2 - 0.25j * product("EyE")),
        ("2 E - 1e-1 I1z", 2 * np.eye(8) - 0.1 * product("zEE")),
        ("E/2", np.eye(8) / 2),
        ("(0.5 - 2j) I1x", (0.5 - 2j) * product("xEE")),
        ("I1x I1y", 0.5j * product("zEE")),  # Ix Iy = i Iz / 2
        ("\N{MINUS SIGN}1.32 I1zI2zI3x", -1.32 * product("zzx")),
        ("I1+ I2-", one(3, 1, P) @ one(3, 2, M)),
        ("I1+ + I3-", one(3, 1, P) + one(3, 3, M)),
        ("I1x-I2x", product("xEE") - product("ExE")),
        ("Fx", product("xEE") + product("ExE") + product("EEx")),
        ("0.5 (F+ - F-)", 1j * (product("yEE") + product("EyE") + product("EEy"))),
        ("DQx(1,3)", (one(3, 1, P) @ one(3, 3, P) + one(3, 1, M) @ one(3, 3, M)) / 2),
        ("DQy( 1, 3 )", (one(3, 1, P) @ one(3, 3, P) - one(3, 1, M) @ one(3, 3, M)) / 2j),
        ("ZQx(2,3)", (one(3, 2, P) @ one(3, 3, M) + one(3, 2, M) @ one(3, 3, P)) / 2),
        ("ZQy(2,3)", (one(3, 2, P) @ one(3, 3, M) - one(3, 2, M) @ one(3, 3, P)) / 2j),
        ("DQx(1,2)", (2 * product("xxE") - 2 * product("yyE")) / 2),
        ("DQy(1,2)", (2 * product("xyE") + 2 * product("yxE")) / 2),
        ("ZQx(1,2)", (2 * product("xxE") + 2 * product("yyE")) / 2),
        ("ZQy(1,2)", (2 * product("yxE") - 2 * product("xyE")) / 2),
    ],
)
def test_text_is_the_matrix_it_stands_for(text, expected):
    np.testing.assert_allclose(parse_operator(text, 3), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("I4x", "spin 4 does not exist; spins are numbered 1 to 3"),
        ("I0x", "spin 0 does not exist"),
        ("DQx(1,4)", "spin 4 does not exist"),
        ("DQx(2,2)", "needs two different spins"),
        ("I1q", "'I1q' is not understood"),
        ("0.38 I3x - ...", "'...' is not understood"),
        ("", "missing at its end"),
        ("I1x +", "missing at its end"),
        ("I1x * / 2", "missing before '/'"),
        ("(I1x", "bracket is not closed"),
        ("I1x)", "'\\)' stands alone"),
        ("2", "numbers alone"),
        ("I1x + 2", "number is added to an operator"),
        ("I1x / I2x", "needs a number"),
        ("I1x / 0", "needs a number other than 0"),
    ],
)
def test_text_that_makes_no_operator_is_refused(text, says):
    with pytest.raises(InputError, match=says):
        parse_operator(text, 3)


@pytest.mark.parametrize("shape", [(3, 3), (1, 1), (4, 2), (4,)])
def test_only_spins_one_half_have_product_operators(shape):
    with pytest.raises(InputError, match="matrices of spins 1/2"):
        expand(torch.zeros(*shape, dtype=torch.complex128))


def turned_about_z(rho, angles_rad):
    u = functools.reduce(np.kron, [np.diag(np.exp(-0.5j * a * np.array([1, -1]))) for a in angles_rad])
    return u @ rho @ u.conj().T


def test_magnitudes_are_roots_of_sums_over_x_and_y_and_blind_to_shifts():
    rho = random_matrix(3, 11, hermitian=True)
    values, names = magnitudes(expand(torch.tensor(rho)))
    coefficient = dict(
        zip(expand(torch.tensor(rho)).names, expand(torch.tensor(rho)).coefficients.tolist(), strict=True)
    )
    expected = np.sqrt(sum(abs(coefficient[f"I1{a}I2zI3{b}"]) ** 2 for a in "xy" for b in "xy"))
    assert float(values[names.index("I1⊥I2zI3⊥")]) == pytest.approx(expected, rel=1e-13)
    assert float(values[names.index("I2z")]) == pytest.approx(abs(coefficient["I2z"]), rel=1e-13)
    later, _ = magnitudes(expand(torch.tensor(turned_about_z(rho, [0.3, -2.1, 1.1]))))
    torch.testing.assert_close(later, values, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("text", "orders"),
    [("I1x", {1, -1}), ("I1-", {-1}), ("I1+ I2+", {2}), ("I1+ I2-", {0}), ("DQx(1,3)", {2, -2}), ("2I1zI2y", {1, -1})],
)
def test_coherence_order_is_how_often_a_rotation_about_z_turns(text, orders):
    matrix = parse_operator(text, 3).numpy()
    norms = coherence_norms(torch.tensor(matrix), coherence_order(3))
    assert {p for p, norm in norms.items() if norm > 1e-12} == orders
    angle = 0.7
    parts = {p: np.where(coherence_order(3).numpy() == p, matrix, 0) for p in norms}
    expected = sum(np.exp(-1j * p * angle) * part for p, part in parts.items())
    np.testing.assert_allclose(turned_about_z(matrix, [angle] * 3), expected, rtol=0, atol=1e-14)


def test_norms_of_orders_add_up_and_fold():
    rho = torch.tensor(np.stack([random_matrix(3, s) for s in (1, 2)]))
    signed = coherence_norms(rho, coherence_order(3))
    assert sorted(signed) == list(range(-3, 4))
    power = (rho.abs() ** 2).sum((-2, -1))
    torch.testing.assert_close(sum(norm**2 for norm in signed.values()), power)
    folded = absolute_norms(signed)
    assert sorted(folded) == [0, 1, 2, 3]
    torch.testing.assert_close(sum(norm**2 for norm in folded.values()), power)
    torch.testing.assert_close(folded[2] ** 2, signed[2] ** 2 + signed[-2] ** 2)


def test_order_may_count_some_spins_alone():
    matrix = parse_operator("I1+ I2+", 2)
    norms = coherence_norms(matrix, coherence_order(2, (0,)))
    assert {p for p, norm in norms.items() if norm > 0} == {1}


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(InputError, match="'plain' or 'ernst', but is 'foo'"):
        expand(torch.eye(2, dtype=torch.complex128), "foo")
