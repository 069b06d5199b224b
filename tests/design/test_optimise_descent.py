"""The driver of the optimiser on functions whose minimum is known."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from seqgen.design.checkpoint import Checkpoint, load_checkpoint
from seqgen.design.descent import Evaluation, Settings, search
from seqgen.errors import InputError

ID = {"protocol": "ab" * 32, "seed": 1}
FREE = np.array([[-np.inf] * 4, [np.inf] * 4])
STARTS = [("one", np.array([-1.2, 1.0, 0.5, 2.0])), ("two", np.zeros(4)), ("three", np.array([2.0, -1.0, 1.5, -0.5]))]


def rosenbrock(x):
    """Minimum 0 at (1, ..., 1). Rosenbrock, Comput J 3:175 (1960)."""
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[:-1] = -400 * a * x[:-1] - 2 * b
    gradient[1:] += 200 * a
    terms = {"valley": float(100 * (a**2).sum()), "way": float((b**2).sum())}
    return Evaluation(loss=float((100 * a**2 + b**2).sum()), gradient=gradient, terms=terms)


def quadratic(x):
    """Minimum -3 at (1, -2, 3, 0.5); separable, so a bound moves its own coordinate only."""
    scale, centre = np.array([1.0, 10.0, 0.3, 4.0]), np.array([1.0, -2.0, 3.0, 0.5])
    return Evaluation(loss=float(0.5 * (scale * (x - centre) ** 2).sum()) - 3, gradient=scale * (x - centre))


class Killed(BaseException):
    """What no handler of the driver knows, like a power cut."""


class Counting:
    """A function that counts its evaluations, keeps its points, and raises at one of them."""

    def __init__(self, function, stop_at=None, error=Killed, checkpoint=None):
        self.function, self.stop_at, self.error, self.checkpoint = function, stop_at, error, checkpoint
        self.points, self.losses = [], []

    def __call__(self, x):
        if self.stop_at is not None and len(self.points) == self.stop_at:
            if self.checkpoint is not None:
                self.checkpoint.save()
            raise self.error
        found = self.function(x)
        self.points.append(x.copy())
        self.losses.append(found.loss)
        return found


def run(function, checkpoint=None, *, starts=STARTS, bounds=FREE, **settings):
    given = {"iterations": 16}
    return search(function, starts, bounds=bounds, settings=Settings(**(given | settings)), checkpoint=checkpoint)


def same(a, b):
    """Whether two searches ended with the same bits everywhere."""
    return (
        np.array_equal(a.x, b.x)
        and (a.loss, a.history, a.status, a.terms) == (b.loss, b.history, b.status, b.terms)
        and all(
            np.array_equal(p.x, q.x) and (p.name, p.loss, p.history) == (q.name, q.loss, q.history)
            for p, q in zip(a.starts, b.starts, strict=True)
        )
    )


def test_lbfgsb_finds_known_minima():
    found = run(rosenbrock, iterations=200)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)
    assert found.status == "converged"
    found = run(quadratic, iterations=100)
    np.testing.assert_allclose(found.x, [1.0, -2.0, 3.0, 0.5], atol=1e-4)
    assert found.loss == pytest.approx(-3, abs=1e-8)


def test_adam_finds_known_minima():
    found = run(quadratic, optimiser="adam", learning_rate=0.2, iterations=500, starts=STARTS[:1])
    np.testing.assert_allclose(found.x, [1.0, -2.0, 3.0, 0.5], atol=2e-3)
    found = run(rosenbrock, optimiser="adam", learning_rate=0.1, iterations=800, starts=STARTS[1:2])
    np.testing.assert_allclose(found.x, 1.0, atol=0.02)


@pytest.mark.parametrize("optimiser", ["lbfgsb", "adam"])
def test_bounds_hold_at_every_evaluation_and_the_minimum_lies_on_them(optimiser):
    bounds = np.array([[-5, -1.5, -5, 0.25], [0.5, 5, 5, 0.25]])
    function = Counting(quadratic)
    found = run(function, bounds=bounds, optimiser=optimiser, learning_rate=0.2, iterations=400)
    assert all((bounds[0] <= x).all() and (x <= bounds[1]).all() for x in function.points)
    np.testing.assert_allclose(found.x, [0.5, -1.5, 3.0, 0.25], atol=5e-3)


def test_one_start_is_scipys_own_descent_bit_for_bit():
    plain = minimize(
        lambda x: (rosenbrock(x).loss, rosenbrock(x).gradient),
        STARTS[0][1],
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 16, "maxfun": 32, "maxcor": 20},
    )
    found = run(rosenbrock, starts=STARTS[:1])
    assert np.array_equal(found.x, plain.x)
    assert found.loss == plain.fun
    assert len(found.history[0]) == plain.nit == 16
    (terms,) = found.terms
    np.testing.assert_allclose(np.add(terms["valley"], terms["way"]), found.history[0], rtol=1e-12)
    assert found.starts[0].name == "one"


def test_the_cosine_takes_adam_from_the_full_step_to_none():
    """Without curvature Adam's step is the learning rate: its k-th one is lr (1 + cos(pi k / n)) / 2."""
    function = Counting(lambda x: Evaluation(loss=float(x.sum()), gradient=np.ones(4)))
    run(function, starts=STARTS[1:2], optimiser="adam", learning_rate=0.1, iterations=10)
    steps = -np.diff([x[0] for x in function.points])
    np.testing.assert_allclose(steps, 0.05 * (1 + np.cos(np.pi * np.arange(10) / 10)), rtol=1e-6)


@pytest.mark.parametrize("optimiser", ["lbfgsb", "adam"])
@pytest.mark.parametrize("full", [False, True])
def test_killed_anywhere_and_resumed_is_unbroken_bit_for_bit(tmp_path, optimiser, full):
    """At every single evaluation: between iterations, inside line searches, between descents."""
    settings = {"optimiser": optimiser, "starts_full": full, "restarts": 1, "stop_improvement": 1e-9}
    counted = Counting(rosenbrock)
    unbroken = run(counted, **settings)
    total = len(counted.points)
    if optimiser == "lbfgsb" and not full:
        assert total > sum(map(len, unbroken.history)) + 5, "no line search took a second step"
    for kill_at in range(1, total):
        path = tmp_path / "design.checkpoint.npz"
        checkpoint = Checkpoint(path, ID)
        with pytest.raises(Killed):
            run(Counting(rosenbrock, kill_at, checkpoint=checkpoint), checkpoint, **settings)
        rest = Counting(rosenbrock)
        resumed = run(rest, load_checkpoint(path, ID), **settings)
        assert same(resumed, unbroken), kill_at
        # One evaluation to see that the function is the same, then only what was left.
        assert len(rest.points) == total - kill_at + 1


def test_killed_twice_between_writings_is_unbroken_too(tmp_path):
    unbroken = run(rosenbrock)
    path = tmp_path / "c.npz"
    with pytest.raises(Killed):
        run(Counting(rosenbrock, 13), Checkpoint(path, ID, interval_s=1e9))
    with pytest.raises(Killed):
        run(Counting(rosenbrock, 8), load_checkpoint(path, ID, interval_s=0))
    assert same(run(rosenbrock, load_checkpoint(path, ID)), unbroken)


@pytest.mark.parametrize("stop_at", [1, 7, 20, 30])
def test_ctrl_c_keeps_the_best_so_far_and_can_be_resumed(tmp_path, stop_at):
    path = tmp_path / "c.npz"
    function = Counting(rosenbrock, stop_at, KeyboardInterrupt)
    found = run(function, Checkpoint(path, ID, interval_s=1e9))
    assert found.interrupted
    assert found.loss == min(function.losses)
    assert np.array_equal(found.x, function.points[int(np.argmin(function.losses))])
    n = sum(map(len, found.history))
    assert n < stop_at
    assert found.status == f"interrupted after {n} iterations"
    rest, whole = Counting(rosenbrock), Counting(rosenbrock)
    assert same(run(rest, load_checkpoint(path, ID)), run(whole))
    # Nothing is computed twice but one evaluation: Ctrl-C itself wrote the checkpoint.
    assert len(rest.points) == len(whole.points) - stop_at + 1


def test_ctrl_c_after_a_resume_knows_the_best_of_the_finished_starts(tmp_path):
    path = tmp_path / "c.npz"
    starts = [("good", np.full(4, 1.01)), ("bad", np.full(4, -3.0)), ("worse", np.full(4, 4.0))]
    function = Counting(rosenbrock, 12, KeyboardInterrupt)
    first = run(function, Checkpoint(path, ID), starts=starts)
    again = run(Counting(rosenbrock, 2, KeyboardInterrupt), load_checkpoint(path, ID), starts=starts)
    assert first.starts[0].name == "good"
    assert again.loss == first.loss == first.starts[0].loss < 1e-3


def test_adam_returns_the_best_point_and_not_the_last():
    function = Counting(rosenbrock)
    found = run(function, starts=[("near", np.full(4, 1.01))], optimiser="adam", learning_rate=0.5)
    assert function.losses[-1] > min(function.losses)
    assert found.loss == min(function.losses)
    assert np.array_equal(found.x, function.points[int(np.argmin(function.losses))])


def test_ctrl_c_before_anything_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        run(Counting(rosenbrock, 0, KeyboardInterrupt))


class TurnsNaN(Counting):
    """A function that is not finite from an evaluation on."""

    def __init__(self, at, **changes):
        super().__init__(rosenbrock)
        self.at, self.changes = at, changes

    def __call__(self, x):
        good = super().__call__(x)
        if len(self.points) <= self.at:
            return good
        self.losses.pop()
        return Evaluation(**({"loss": good.loss, "gradient": good.gradient} | self.changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": math.nan, "terms": {"window": 1.0, "crlb": math.nan}}, r"the loss is nan \(term crlb\)"),
        ({"loss": math.inf}, "the loss is inf"),
        ({"gradient": np.array([0, math.nan, 0, 0])}, "the gradient of the loss is not finite"),
    ],
)
@pytest.mark.parametrize("optimiser", ["lbfgsb", "adam"])
def test_nan_stops_with_the_last_good_point_and_names_the_term(changes, words, optimiser):
    function = TurnsNaN(9, **changes)
    found = run(function, optimiser=optimiser)
    assert len(function.points) == 10
    assert found.loss == min(function.losses)
    assert np.array_equal(found.x, function.points[int(np.argmin(function.losses))])
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found.failure)
    n = sum(map(len, found.history))
    assert found.status == f"stopped after {n} iterations: {found.failure}"
    assert not found.interrupted


def test_nan_at_the_first_point_is_an_error():
    with pytest.raises(InputError, match=r"the loss is nan \(term crlb\) at the first point"):
        run(TurnsNaN(0, loss=math.nan, terms={"crlb": math.nan}))


@pytest.mark.parametrize("optimiser", ["lbfgsb", "adam"])
def test_early_stop_when_the_gain_is_small(optimiser):
    settings = {"iterations": 400, "optimiser": optimiser, "learning_rate": 1e-3, "starts": STARTS[:1]}
    found = run(rosenbrock, stop_improvement=0.05, stop_iterations=5, **settings)
    (history,) = found.history
    assert len(history) < 400
    gains = [min(history[:k]) - min(history[k : k + 5]) for k in range(1, len(history) - 4)]
    limits = [0.05 * max(1, min(history[:k])) for k in range(1, len(history) - 4)]
    assert gains[-1] < limits[-1]
    assert all(gain >= limit for gain, limit in zip(gains[:-1], limits[:-1], strict=True))
    assert found.status == f"stopped early after {len(history)} iterations, gaining less than 0.05 in 5 iterations"


def test_starts_full_runs_every_start_to_the_end():
    found = run(rosenbrock, starts_full=True)
    alone = [run(rosenbrock, starts=[start]) for start in STARTS]
    assert [start.loss for start in found.starts] == [one.loss for one in alone]
    assert found.history[:3] == tuple(one.history[0] for one in alone)
    assert found.loss == min(one.loss for one in alone)
    assert len(found.history) == 4


def test_a_restart_goes_on_from_the_end_with_a_fresh_memory():
    once = run(rosenbrock, starts=STARTS[:1])
    twice = run(rosenbrock, starts=STARTS[:1], restarts=1)
    again = run(rosenbrock, starts=[("again", once.x)])
    assert twice.history == (once.history[0] + again.history[0],)
    assert np.array_equal(twice.x, again.x)
    assert twice.loss < once.loss
    assert twice.starts[0].loss == once.loss


def test_progress_never_goes_back_and_ends_at_all():
    calls = []
    search(
        rosenbrock,
        STARTS,
        bounds=FREE,
        settings=Settings(iterations=16),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls[-1] == (3 * 4 + 16, 3 * 4 + 16)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
