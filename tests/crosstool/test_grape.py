"""GRAPE: fidelity of a unitary target and its gradient against qutip-qtrl, by the adapters of the benchmark."""

import numpy as np
import pytest

from benchmarks.peers import grape_problem, our_grape_evaluation, qutip_grape_evaluation

pytestmark = pytest.mark.crosstool

J_STEP_S = 1e-5
VALUE_TOLERANCE, GRADIENT_TOLERANCE = 1e-8, 1e-7
"""At J_STEP_S, of 1 and of the largest element; qutip-qtrl is good to about 1e-13."""


@pytest.fixture(scope="module")
def problem():
    pytest.importorskip(
        "qutip_qtrl.pulseoptim", reason="qutip-qtrl is not installed: pip install -c constraints.txt -e '.[peers]'"
    )
    return grape_problem()


def test_fidelity_and_gradient_agree(problem):
    model, target, controls_hz = problem
    theirs = qutip_grape_evaluation(model, target)
    ours = our_grape_evaluation(model, target, j_step_s=J_STEP_S)
    for scale in (1.0, 0.9):  # the second call sees that new amplitudes are taken up
        fidelity, gradient = ours(scale * controls_hz)
        expected, expected_gradient = theirs(scale * controls_hz)
        assert 0.01 < expected < 0.99
        assert fidelity == pytest.approx(expected, abs=VALUE_TOLERANCE)
        assert gradient.shape == expected_gradient.shape == controls_hz.shape
        assert np.abs(gradient - expected_gradient).max() < GRADIENT_TOLERANCE * np.abs(expected_gradient).max()


def test_fidelity_does_not_see_a_global_phase(problem):
    model, target, controls_hz = problem
    turned = target * np.exp(0.7j)
    for evaluation in (qutip_grape_evaluation, our_grape_evaluation):
        assert evaluation(model, turned)(controls_hz)[0] == pytest.approx(
            evaluation(model, target)(controls_hz)[0], abs=1e-10
        )
