"""A longest TE: whatever the optimiser's variables are, TE1 + TE2 stays below it and can be played."""

import re

import numpy as np
import pytest
import torch

from seqgen.design.echo_times import EchoTimeLimits, echo_time_limits
from seqgen.design.press_baseline import optimise_timing
from seqgen.errors import InputError

CASES = [
    ((("te1", "te2"), (0.01206, 0.05862), (0.01206, 0.0094), 4e-5), (0.0708, 0.07083, 0.075, 0.1, 0.2)),
    ((("te1",), (0.01206, 0.05326), (0.01206, 0.0094), 4e-5), (0.0656, 0.080017, 0.15)),
    ((("echo_top",), (0.02946, 0.02946), (0.01206, 0.0094), 2e-5), (0.05892, 0.058935, 0.060019, 0.1, 0.3)),
    ((("excitation",), (0.02947, 0.00941), (0.01206, 0.0094), 2e-5), (0.0389, 0.050111)),
]


@pytest.mark.parametrize(("given", "te_max_s"), [(given, te) for given, values in CASES for te in values])
def test_every_pair_between_the_bounds_is_played_within_te_max(given, te_max_s):
    limits, free = echo_time_limits(*given, te_max_s), echo_time_limits(*given)
    random = np.random.default_rng(0)
    (low1, high1), (low2, high2) = limits.bounds
    assert low1 <= high1
    for part in [*random.random((200, 2)), (0, 0), (0, 1), (1, 0), (1, 1)]:
        x = np.array([low1 + part[0] * (high1 - low1), low2 + part[1] * (high2 - low2)])
        te1_s, te2_s = (float(te) for te in limits.seconds(torch.as_tensor(x)))
        assert te1_s + te2_s <= te_max_s + 1e-9
        assert te1_s >= free.te1_min_s - 1e-12
        assert te2_s >= free.te2_min_s(te1_s) - 1e-9
        if part[0] < 1:
            back = limits.variables(te1_s, te2_s)
            again = [float(te) for te in limits.seconds(torch.as_tensor(back))]
            np.testing.assert_allclose(again, [te1_s, te2_s], atol=1e-9)
        te1_s, te2_s = limits.on_raster(te1_s, te2_s)
        assert te1_s + te2_s <= te_max_s + 1e-9
        assert te2_s >= free.te2_min_s(te1_s) - 1e-9
        for te in (te1_s, te2_s):
            assert abs(te / limits.raster_s - round(te / limits.raster_s)) < 1e-6


@pytest.mark.parametrize("given", [given for given, _ in CASES])
def test_the_shortest_te_max_is_feasible_and_the_next_below_is_not(given):
    with pytest.raises(InputError, match=r"te_max must be at least [\d.]+ ms .* but is 10 ms") as refused:
        echo_time_limits(*given, 0.01)
    least_s = float(re.search(r"at least ([\d.]+) ms", str(refused.value))[1]) * 1e-3
    limits = echo_time_limits(*given, least_s)
    te1_s, te2_s = limits.on_raster(limits.te1_min_s, limits.te2_min_s(limits.te1_min_s))
    assert te1_s + te2_s == pytest.approx(least_s, abs=1e-9)
    with pytest.raises(InputError):
        echo_time_limits(*given, least_s - limits.raster_s)
    # Nor by hand: no pair on the raster is shorter.
    grid = limits.raster_s * np.arange(1, 4000)
    possible = grid[grid >= limits.te1_min_s - 1e-9]
    second = np.array([max(o + s * te for o, s in limits.te2_sides) for te in possible])
    total = possible + np.ceil(second / limits.raster_s - 1e-6) * limits.raster_s
    assert total.min() == pytest.approx(least_s, abs=1e-9)


def test_echo_times_of_the_spec_must_fit(design_spec):
    with pytest.raises(InputError, match=r"te_max_s must be at least te1_s \+ te2_s, 0.075 s, but is 0.07 s"):
        design_spec(te_max_s=0.07)
    assert design_spec(te_max_s=0.075).te_max_s == 0.075


def test_plain_press_keeps_it_too(design_spec, design_problem, minimum_te_s):
    """Unlimited, the best of a coarse search lies above 40 ms; limited, it is the best of what is left."""
    found = {}
    for te_max_s in (None, 0.08):
        problem = design_problem(design_spec(te_max_s=te_max_s), edited=False, positions_per_slice=1)
        found[te_max_s] = optimise_timing(
            problem, te_min_s=minimum_te_s[False], te_raster_s=2e-5, step_s=8e-3, refine=2
        )
    assert found[0.08].te1_s + found[0.08].te2_s <= 0.08 + 1e-9
    assert found[0.08].metrics.loss >= found[None].metrics.loss - 1e-6


def test_without_te_max_nothing_changes():
    limits = EchoTimeLimits(te1_min_s=0.02946, te2_sides=((0.02946, 0.0),), raster_s=2e-5)
    assert limits.fixed
    te_s = [float(te) for te in limits.seconds(torch.tensor([4.1, 3.4], dtype=torch.float64))]
    assert te_s == pytest.approx([0.041, 0.034], abs=1e-12)
