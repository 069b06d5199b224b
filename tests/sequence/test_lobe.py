import numpy as np
import pytest

from seqgen.library import scanner
from seqgen.sequence.blocks import lobe


@pytest.mark.parametrize("name", ["siemens_skyra_3t", "siemens_prisma_3t", "ge_premier_3t"])
def test_the_shortest_lobe_is_always_played_and_exact(name):
    """Random moments along random directions: area and limits by integrating the trapezoids."""
    profile, rng = scanner(name), np.random.default_rng(1)
    for _ in range(500):
        moment = rng.normal(size=3) * 10 ** rng.uniform(1, 4.2)
        block = lobe(moment, profile)
        areas, worst = [], np.zeros(2)
        for axis in block.gradients:
            top, rise, flat = (axis.amplitude_hz_per_m, axis.rise_s, axis.flat_s)
            areas.append(top * (rise + flat))
            worst += np.array([top, top / rise]) ** 2
        np.testing.assert_allclose(areas, moment, rtol=1e-9)
        limits = profile.max_gradient_hz_per_m, profile.max_slew_hz_per_m_per_s
        assert (np.sqrt(worst) <= np.array(limits) * (1 + 1e-6)).all()
