import math

import numpy as np
import pytest
import torch

from seqgen.design.evaluate import Evaluator, LossNotFinite
from seqgen.design.optimise import optimise_pulse
from seqgen.errors import InputError

RASTER_S = 2e-5


@pytest.fixture(scope="module")
def found(design_spec, design_problem, minimum_te_s):
    """Two starts and six iterations under tight limits."""
    spec = design_spec(starts=2, iterations=8, b1_max_hz=120.0, energy_max_hz2_s=60.0)
    problem = design_problem(spec)
    calls = []
    result = optimise_pulse(
        problem,
        b1_max_hz=979.0,
        te_min_s=minimum_te_s[True],
        te_raster_s=RASTER_S,
        seed=3,
        progress=lambda done, total: calls.append((done, total)),
    )
    return problem, result, calls


def run(problem, minimum, seed, **changes):
    given = {"b1_max_hz": 979.0, "te_min_s": minimum, "te_raster_s": RASTER_S, "seed": seed}
    return optimise_pulse(problem, **(given | changes))


def test_limits_hold(found, minimum_te_s):
    _, result, _ = found
    b1 = result.pulse.b1_hz.numpy()
    assert np.abs(b1).max() <= 120.0
    assert (np.abs(b1) ** 2).sum() * 2e-5 <= 60.0
    assert b1.size == 1000
    for te_s, least_s in zip((result.shots[0].te1_s, result.shots[0].te2_s), minimum_te_s[True], strict=True):
        assert te_s >= least_s - 1e-12
        assert te_s / RASTER_S == pytest.approx(round(te_s / RASTER_S), abs=1e-6)


def test_the_scanners_amplitude_limit_holds_too(design_spec, design_problem, minimum_te_s):
    result = run(design_problem(design_spec(iterations=1)), minimum_te_s[True], 3, b1_max_hz=25.0)
    assert result.pulse.peak_hz <= 25.0


def test_the_design_beats_its_start_and_says_so(found):
    problem, result, _ = found
    assert len(result.history) == 3
    starts, final = result.history[:2], result.history[-1]
    assert final[-1] < min(start[-1] for start in starts)
    assert final[-1] < final[0]
    # Rounding of pulse and echo times costs next to nothing, and the metrics are those of the rounded pulse.
    assert result.metrics.loss == pytest.approx(final[-1], abs=0.02)
    times = (torch.tensor(t, dtype=torch.float64) for t in (result.shots[0].te1_s, result.shots[0].te2_s))
    assert problem.loss_and_metrics(result.pulse.b1_hz, *times)[1].loss == result.metrics.loss


def test_status_is_no_claim_of_convergence(found):
    assert "not converged" in found[1].status


def test_progress_ends_at_all(found):
    calls = found[2]
    assert calls[-1][0] == calls[-1][1] == 2 * 2 + 8
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_same_seed_same_bits_another_seed_another_pulse(design_spec, design_problem, minimum_te_s):
    spec = design_spec(iterations=2)
    one = run(design_problem(spec), minimum_te_s[True], 11)
    again = run(design_problem(spec), minimum_te_s[True], 11)
    other = run(design_problem(spec), minimum_te_s[True], 12)
    assert torch.equal(torch.view_as_real(one.pulse.b1_hz), torch.view_as_real(again.pulse.b1_hz))
    assert one.history == again.history
    assert (one.shots[0].te1_s, one.shots[0].te2_s) == (again.shots[0].te1_s, again.shots[0].te2_s)
    assert float((one.pulse.b1_hz - other.pulse.b1_hz).abs().max()) > 1.0


def test_fixed_echo_times_stay(design_spec, design_problem, minimum_te_s):
    result = run(design_problem(design_spec(optimise_timing=False, iterations=2)), minimum_te_s[True], 1)
    assert (result.shots[0].te1_s, result.shots[0].te2_s) == (0.041, 0.034)


def test_echo_times_out_of_reach_are_refused(design_spec, design_problem, minimum_te_s):
    least_ms = minimum_te_s[True][0] * 1e3
    with pytest.raises(InputError, match=rf"te1 must be at least {least_ms:.6g} ms .* but is 20 ms"):
        run(design_problem(design_spec(te1_s=0.02)), minimum_te_s[True], 1)
    with pytest.raises(InputError, match=r"te2 must be at most 120 ms .* but is 200 ms"):
        run(design_problem(design_spec(te2_s=0.2)), minimum_te_s[True], 1)


def test_a_loss_that_is_not_finite_stops_with_the_last_good_pulse(
    design_spec, design_problem, minimum_te_s, monkeypatch
):
    """From the fourth call on the loss cannot be computed: the term is named, and the pulse is one met before."""
    genuine, calls = Evaluator.loss_of_shots, []

    def failing(self, *arguments):
        calls.append(0)
        if len(calls) == 4:
            raise LossNotFinite("window", "The loss 'window' cannot be computed.")
        return genuine(self, *arguments)

    problem = design_problem(design_spec(iterations=6))
    monkeypatch.setattr(Evaluator, "loss_of_shots", failing)
    found = run(problem, minimum_te_s[True], 1)
    assert "term window" in found.failure
    assert bool(torch.isfinite(torch.view_as_real(found.pulse.b1_hz)).all())
    assert math.isfinite(found.metrics.loss)
