import pytest

from seqgen.errors import InputError
from seqgen.sequence.timing import nearest, remaining, round_up, ticks


@pytest.mark.parametrize(
    ("time_s", "raster_s", "steps"),
    [
        (0.0, 1e-5, 0),
        (1e-5, 1e-5, 1),
        (1.0001e-5, 1e-5, 1),
        (1.001e-5, 1e-5, 2),
        (0.3, 1e-5, 30000),
        (0.1 + 0.2, 1e-6, 300000),
    ],
)
def test_ticks_are_counted_up_but_not_by_rounding_errors(time_s, raster_s, steps):
    assert ticks(time_s, raster_s) == steps


def test_round_up_never_shortens_and_nearest_is_within_half_a_step():
    for k in range(1, 400):
        time_s = k * 1.237e-6
        up = round_up(time_s, 4e-6)
        assert -1e-9 <= up - time_s < 4e-6
        assert abs(nearest(time_s, 4e-6) - time_s) <= 2e-6 + 1e-12


def test_a_missing_delay_states_the_least_value():
    assert remaining("te", 0.03, 0.025, 1e-5, "") == pytest.approx(0.005, abs=1e-12)
    assert remaining("te", 0.03, 0.03 + 1e-12, 1e-5, "") == 0
    with pytest.raises(InputError, match=r"te must be at least 0\.03 s .* but is 0\.02 s\. Raise te\."):
        remaining("te", 0.02, 0.03, 1e-5, "Raise te.")
