import math

import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.spin.bounds import (
    Bound,
    best_unitary,
    coefficient_bound,
    energy_bound,
    expectation_bound,
    fraction_reached,
    no_bound,
    overlap_bound,
)
from seqgen.spin.product_operators import parse_operator

ROOT_HALF = math.sqrt(0.5)
KNOWN = [
    ("I5x", 5, 15 / 8, None),  # Sorensen 1989; of five spins in thermal equilibrium
    ("I4x + I5x", 5, 11 / 8, None),
    ("Fx", 3, 1.0, 1.0),  # a 90-degree pulse gives it all
    ("2 I1x I2z", 2, 1.0, ROOT_HALF),
    ("2 I1x I2z + 2 I1z I2x", 2, 1.0, 1.0),
    ("DQx(1,2)", 2, 2.0, 1.0),  # half of I+S+ and I-S-: all of Fz = I+S+ and I-S- turned, twice over
    ("I1x", 2, 1.0, ROOT_HALF),  # INEPT cannot gain polarisation for one of two equal spins
]


def random_unitary(d, rng):
    q, r = np.linalg.qr(rng.normal(size=(d, d)) + 1j * rng.normal(size=(d, d)))
    return q * (np.diag(r) / abs(np.diag(r)))


def fz(n):
    """Sum Iz by counting: m is half the number of alphas minus betas."""
    return np.diag([n / 2 - bin(k).count("1") for k in range(2**n)]).astype(complex)


@pytest.mark.parametrize(("text", "n", "coefficient", "overlap"), KNOWN)
def test_known_bounds(text, n, coefficient, overlap):
    q = parse_operator(text, n)
    assert coefficient_bound(q).value == pytest.approx(coefficient, abs=1e-12)
    if overlap is not None:
        assert overlap_bound(q).value == pytest.approx(overlap, abs=1e-12)


@pytest.mark.parametrize(("text", "n", "coefficient", "overlap"), KNOWN)
def test_the_unitary_of_sorted_eigenvectors_reaches_the_bound(text, n, coefficient, overlap):
    q, rho = parse_operator(text, n).numpy(), fz(n)
    u = best_unitary(torch.tensor(q)).numpy()
    np.testing.assert_allclose(u @ u.conj().T, np.eye(2**n), atol=1e-13)
    reached = np.trace(u @ rho @ u.conj().T @ q).real
    assert reached / np.trace(q @ q).real == pytest.approx(coefficient, abs=1e-12)
    size = math.sqrt(np.trace(q @ q).real * np.trace(rho @ rho).real)
    assert reached / size == pytest.approx(overlap_bound(torch.tensor(q)).value, abs=1e-12)
    assert reached == pytest.approx(expectation_bound(torch.tensor(q)).value, abs=1e-12)


@pytest.mark.parametrize("text", ["I3x", "I1xI2x + 0.3 I3y", "DQy(1,3) - I2z"])
def test_no_unitary_exceeds_the_bound(text):
    """Random unitaries, and an ascent on the unitary group from each: it comes close, and never above."""
    rng = np.random.default_rng(1)
    q, rho = parse_operator(text, 3).numpy(), fz(3)
    bound = expectation_bound(torch.tensor(q)).value
    closest = 0.0
    for _ in range(8):
        u = random_unitary(8, rng)
        for _ in range(300):
            state = u @ rho @ u.conj().T
            reached = np.trace(state @ q).real
            assert reached <= bound + 1e-12
            closest = max(closest, reached)
            # exp(eps [state, q]) raises Tr(state q): steepest ascent, by a Cayley transform, which is unitary.
            step = 0.3 * (q @ state - state @ q)
            u = np.linalg.solve(np.eye(8) - step / 2, np.eye(8) + step / 2) @ u
    assert closest > 0.999 * bound


def test_averages_over_unitaries_stay_below():
    rng = np.random.default_rng(2)
    q, rho = parse_operator("I2x", 3).numpy(), fz(3)
    us = [best_unitary(torch.tensor(q)).numpy(), random_unitary(8, rng), np.eye(8)]
    mean = sum(u @ rho @ u.conj().T for u in us) / 3
    assert np.trace(mean @ q).real < expectation_bound(torch.tensor(q)).value


def test_another_initial_state():
    """From I1z alone one spin's polarisation goes to the other, and no more."""
    q, rho = parse_operator("I2x", 2), parse_operator("I1z", 2)
    assert coefficient_bound(q, rho).value == pytest.approx(1.0)
    assert overlap_bound(q, rho).value == pytest.approx(1.0)
    assert coefficient_bound(q, 3 * rho).value == pytest.approx(3.0)
    assert overlap_bound(2 * q, 3 * rho).value == pytest.approx(1.0)


def test_energy_is_bounded_by_the_norm():
    """v holds the order -1 elements; states of the same norm never exceed the bound, and a single spin reaches it."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    m = a @ a.conj().T
    bound = energy_bound(torch.tensor(m), torch.tensor(fz(2))).value
    order = np.subtract.outer([1, 0, 0, -1], [1, 0, 0, -1])
    reached = []
    for _ in range(500):
        u = random_unitary(4, rng)
        v = (u @ fz(2) @ u.conj().T)[order == -1]
        reached.append((v.conj() @ m @ v).real)
    assert 0.2 * bound < max(reached) <= bound
    # One spin, M = [[4]]: |<beta|Ix|alpha>|^2 * 4 = 1 is all that Iz can give.
    assert energy_bound(torch.tensor([[4.0]]), torch.tensor(fz(1))).value == pytest.approx(1.0)


def test_sentences_say_what_a_bound_is():
    q = parse_operator("I5x", 5)
    bound = coefficient_bound(q, observable="I5x")
    assert bound.reachable
    assert bound.sentence == "The largest coefficient of I5x that a unitary reaches is 1.875 (Sorensen 1989)."
    energy = Bound(observable="window energy", kind="energy", value=2.0)
    assert not energy.reachable
    assert "upper bound, not necessarily reachable" in energy.sentence
    nothing = no_bound("the CRLB of Glu")
    assert nothing.sentence == "No bound is known for the CRLB of Glu."
    assert fraction_reached(nothing, 1.0) is None
    assert fraction_reached(bound, -0.9375) == pytest.approx(-0.5)
    with pytest.raises(InputError, match="State a value"):
        Bound(observable="x", kind="none", value=1.0)


@pytest.mark.parametrize(
    ("q", "rho", "says"),
    [
        (parse_operator("I1+", 2), None, "q of shape"),
        (parse_operator("I1x", 2), parse_operator("I1+", 2), "rho of shape"),
        (torch.zeros(4, 4, dtype=torch.complex128), None, "q is zero"),
        (parse_operator("I1x", 2), parse_operator("I1x", 3), "one shape"),
        (torch.eye(3, dtype=torch.complex128), None, "one shape"),
        (torch.ones(4, dtype=torch.complex128), None, "q of shape"),
    ],
)
def test_what_has_no_bound_is_refused(q, rho, says):
    with pytest.raises(InputError, match=says):
        coefficient_bound(q, rho)
