"""The landscape against closed forms and a search over phases."""

import json
import math

import numpy as np
import pytest
import torch

from seqgen.design.landscape import Landscape, distance, landscape, landscape_text


def wave(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(size * (rng.normal(size=40) + 1j * rng.normal(size=40)))


def test_a_global_phase_is_no_distance():
    a = wave(0)
    assert distance(a, a) == 0
    assert distance(a, a * np.exp(2.5j)) == pytest.approx(0, abs=1e-12)


def test_waveforms_with_nothing_in_common_are_root_two_apart():
    a, b = torch.zeros(4, dtype=torch.complex128), torch.zeros(4, dtype=torch.complex128)
    a[0], b[2] = 3, 3j
    assert distance(a, b) == pytest.approx(math.sqrt(2))
    assert distance(a, 2 * b) == pytest.approx(math.sqrt(2))


def test_twice_as_strong_is_as_far_as_the_formula_says():
    """|a - 2a|^2 = |a|^2 over (|a|^2 + 4 |a|^2) / 2."""
    assert distance(wave(1), 2 * wave(1)) == pytest.approx(math.sqrt(1 / 2.5))


def test_zero_waveforms():
    zero = torch.zeros(40, dtype=torch.complex128)
    assert distance(zero, zero) == 0
    assert distance(zero, wave(1)) == pytest.approx(math.sqrt(2))


def test_distance_is_the_least_over_all_phases():
    a, b = wave(2), wave(3, 1.7)
    phases = torch.arange(0, 2 * math.pi, 1e-3, dtype=torch.float64)
    apart = (a - torch.exp(1j * phases)[:, None] * b).abs().pow(2).sum(1).min()
    expected = math.sqrt(float(apart) / (0.5 * float((a.abs() ** 2).sum() + (b.abs() ** 2).sum())))
    assert distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert distance(b, a) == pytest.approx(distance(a, b))


def test_the_best_is_found_by_those_within_one_percent():
    found = landscape(["a", "b", "c", "d"], [-2.0, -1.981, -1.979, 5.0], [3, 3, 3, 3], [wave(k) for k in range(4)])
    assert found.best_found == 2
    # Losses are logarithms: near zero one percent of 1 counts.
    assert landscape(["a", "b", "c"], [0.0, 0.009, 0.011], [1, 1, 1], [wave(k) for k in range(3)]).best_found == 2


def test_round_trip_and_text():
    found = landscape(["random 1", "hard"], [-1.0, -1.5], [30, 12], [wave(0), wave(1)])
    assert Landscape.from_json(json.loads(json.dumps(found.to_json()))) == found
    text = landscape_text(found).splitlines()
    assert text[0].startswith("Starts: best found by 1 of 2 within 1%; solutions ")
    assert text[1].split() == ["hard", "loss", "-1.5000", "(+0.0000)", "12", "iterations"]
    assert text[2].split()[:4] == ["random", "1", "loss", "-1.0000"]


@pytest.mark.parametrize("key", ["names", "losses", "iterations", "distances"])
def test_lists_that_do_not_belong_together_are_refused(key):
    value = landscape(["a", "b"], [1.0, 2.0], [1, 1], [wave(0), wave(1)]).to_json()
    with pytest.raises(ValueError, match="a landscape of"):
        Landscape.from_json(value | {key: value[key][:1]})
