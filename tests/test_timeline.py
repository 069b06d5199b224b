import math

import pytest
import torch

from seqgen.errors import InputError
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse


def interval(n=4, **changes):
    values = {
        "dwell_s": 1e-5,
        "b1_hz": torch.ones(n, dtype=torch.complex128),
        "gradient_hz_per_m": torch.zeros(n, 3, dtype=torch.float64),
    }
    return Interval(**(values | changes))


def test_times_of_pulses_and_readouts():
    timeline = Timeline(
        intervals=(
            delay(1e-3),
            interval(100, use="excitation", centre_s=3e-4),
            interval(receiver=Receiver(n_samples=2, dwell_s=1e-6, delay_s=7e-6)),
        )
    )
    assert timeline.start_s == pytest.approx((0.0, 1e-3, 2e-3))
    assert timeline.duration_s == pytest.approx(2.04e-3)
    ((time, pulse),) = timeline.pulses()
    assert (time, pulse.use) == (pytest.approx(1.3e-3), "excitation")
    ((opens, receiver),) = timeline.readouts()
    assert (opens, receiver.n_samples) == (pytest.approx(2.007e-3), 2)
    assert receiver.duration_s == pytest.approx(2e-6)


def test_moment_is_the_integral_of_the_gradient():
    gradient = torch.tensor([[1e4, 0, 0], [3e4, -2e4, 5.0]], dtype=torch.float64)
    moment = interval(2, dwell_s=1e-3, gradient_hz_per_m=gradient).moment_per_m
    torch.testing.assert_close(moment, torch.tensor([40.0, -20.0, 5e-3], dtype=torch.float64))


def test_delay_holds_its_gradients():
    pause = delay(2e-3, (1e3, 0.0, -5e2))
    assert pause.duration_s == 2e-3
    assert pause.moment_per_m.tolist() == pytest.approx([2.0, 0.0, -1.0])
    assert (pause.use, pause.centre_s) == (None, None)


@pytest.mark.parametrize("flip_deg", [30, 90, 180])
def test_ideal_pulse_has_its_flip_angle_and_phase(flip_deg):
    pulse = ideal_pulse(math.radians(flip_deg), 0.4, "preparation")
    area = complex(pulse.b1_hz.sum()) * pulse.dwell_s * 2 * math.pi
    assert area == pytest.approx(math.radians(flip_deg) * complex(math.cos(0.4), math.sin(0.4)))
    assert pulse.duration_s < 1e-12
    assert pulse.use == "preparation"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"b1_hz": torch.ones(4, dtype=torch.float64)}, "complex b1_hz"),
        ({"b1_hz": torch.ones(2, 2, dtype=torch.complex128)}, "complex b1_hz"),
        ({"b1_hz": torch.ones(0, dtype=torch.complex128)}, "complex b1_hz"),
        ({"gradient_hz_per_m": torch.zeros(3, 3)}, r"shape \(n, 3\)"),
        ({"dwell_s": 0.0}, "dwell_s must be positive"),
        ({"dwell_s": math.inf}, "dwell_s must be positive"),
        ({"dwell_s": math.nan}, "dwell_s must be positive"),
        ({"use": "editing", "centre_s": 0.0}, "must be one of excitation"),
        ({"use": "excitation"}, "both use and centre_s"),
        ({"centre_s": 1e-5}, "both use and centre_s"),
    ],
)
def test_impossible_intervals_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        interval(**changes)


@pytest.mark.parametrize("value", [complex("nan"), complex(0, math.nan), complex(math.inf, 0), complex(0, -math.inf)])
def test_a_waveform_with_holes_is_refused(value):
    b1_hz = torch.ones(4, dtype=torch.complex128)
    b1_hz[2] = b1_hz[3] = value
    says = (
        "NaN or infinity in a waveform: b1_hz of interval 'edit' must be finite, but 2 of its 4 samples are not, the "
        "first at index 2"
    )
    with pytest.raises(InputError, match=says):
        interval(b1_hz=b1_hz, name="edit")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_gradient_with_holes_is_refused(value, axis):
    gradient = torch.zeros(4, 3, dtype=torch.float64)
    gradient[1, axis] = value
    with pytest.raises(InputError, match="gradient_hz_per_m of interval 'without RF' must be finite, but 1 of its 4"):
        interval(gradient_hz_per_m=gradient)
    with pytest.raises(InputError, match=r"gradient_hz_per_m .* must be finite"):
        delay(1e-3, tuple(value if k == axis else 0.0 for k in range(3)))


def test_an_ideal_pulse_without_an_angle_is_refused():
    with pytest.raises(InputError, match=r"b1_hz of interval .* must be finite"):
        ideal_pulse(math.nan, 0.0, "excitation")


def test_a_waveform_keeps_its_gradient():
    """The check looks at values alone: what is differentiated goes through untouched."""
    b1_hz = torch.ones(4, dtype=torch.complex128, requires_grad=True)
    (gradient,) = torch.autograd.grad((interval(b1_hz=b1_hz).b1_hz.abs() ** 2).sum(), b1_hz)
    assert gradient.real.tolist() == [2.0] * 4


@pytest.mark.parametrize(("n_samples", "dwell_s"), [(0, 1e-4), (4, 0.0), (4, -1e-4), (4, math.nan), (4, math.inf)])
def test_impossible_receivers_are_refused(n_samples, dwell_s):
    with pytest.raises(InputError, match="n_samples >= 1 and dwell_s > 0"):
        Receiver(n_samples=n_samples, dwell_s=dwell_s)


def test_an_empty_timeline_is_refused():
    with pytest.raises(InputError, match="no intervals"):
        Timeline(intervals=())
