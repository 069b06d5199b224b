import math

import pytest

from seqgen.errors import InputError


def test_the_defaults_are_accepted(design_spec):
    assert design_spec().place == "echo_top"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_ppm": (2.42, 2.25)}, "window_ppm must rise"),
        ({"window_ppm": (2.3, math.nan)}, "window_ppm must rise"),
        ({"loss": {"windw": 1.0}}, "loss must give a positive weight"),
        ({"loss": {"window": 0.0}}, "loss must give a positive weight"),
        ({"loss": {"window": 1.0, "crlb": -1.0}}, "must not be negative"),
        ({"interferers": (), "loss": {"correlation": 1.0}}, "interferers must name"),
        ({"parameters": "fourier"}, "parameters must be one of spline, steps"),
        ({"interferers": ("Glu",)}, "interferers must name"),
        ({"duration_s": 0.0}, "duration_s must be positive"),
        ({"b1_max_hz": -1.0}, "b1_max_hz must be positive"),
        ({"b1_max_hz": math.nan}, "b1_max_hz must be positive"),
        ({"energy_max_hz2_s": 0.0}, "energy_max_hz2_s must be positive"),
        ({"rf_dwell_s": 0.0}, "rf_dwell_s must be positive"),
        ({"linewidth_hz": 0.0}, "linewidth_hz must be positive"),
        ({"starts": 0}, "starts and iterations"),
        ({"iterations": 0}, "starts and iterations"),
        ({"b0_offsets_hz": ()}, "at least one value"),
        ({"b1_scales": (0.0, 1.0)}, "at least one value"),
        ({"duration_s": 1.9e-3}, "fewer than four spline knots"),
        ({"signal_price": -0.1}, "signal_price"),
        ({"te1_s": math.nan}, "te1_s"),
        ({"te2_s": -0.03}, "te2_s"),
        ({"carrier_ppm": math.inf}, "carrier_ppm"),
        ({"b0_offsets_hz": (math.nan,)}, "b0_offsets_hz"),
    ],
)
def test_impossible_problems_are_refused(design_spec, changes, words):
    with pytest.raises(InputError, match=words):
        design_spec(**changes)
