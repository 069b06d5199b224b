import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.report.diagram import sequence_diagram
from seqgen.timeline import Interval, Receiver, Timeline, delay

GAMMA_HZ_PER_MT = 42577.478461


def rf(b1_hz, dwell_s, use, name="", gradient=(0.0, 0.0, 0.0)):
    b1_hz = torch.as_tensor(b1_hz, dtype=torch.complex128)
    n = b1_hz.shape[0]
    return Interval(
        dwell_s=dwell_s,
        b1_hz=b1_hz,
        gradient_hz_per_m=torch.tensor(gradient, dtype=torch.float64).expand(n, 3),
        use=use,
        centre_s=n * dwell_s / 2,
        name=name,
    )


def trapezoid(peak_hz_per_m, axis):
    gradient = torch.zeros((100, 3), dtype=torch.float64)
    ramp = (torch.arange(20, dtype=torch.float64) + 0.5) / 20
    gradient[:, axis] = peak_hz_per_m * torch.cat([ramp, torch.ones(60, dtype=torch.float64), ramp.flip(0)])
    return Interval(dwell_s=1e-5, b1_hz=torch.zeros(100, dtype=torch.complex128), gradient_hz_per_m=gradient)


def readout(duration_s=0.5, delay_s=0.001):
    receiver = Receiver(n_samples=400, dwell_s=1e-3, delay_s=delay_s)
    return Interval(
        dwell_s=duration_s,
        b1_hz=torch.zeros(1, dtype=torch.complex128),
        gradient_hz_per_m=torch.zeros((1, 3), dtype=torch.float64),
        receiver=receiver,
    )


@pytest.fixture(scope="module")
def timeline():
    hard = np.full(100, 250.0)
    return Timeline(
        name="test",
        intervals=(
            rf(hard, 1e-5, "saturation", "WS"),
            delay(0.2),
            rf(hard, 1e-5, "excitation", "excite", (0.0, 3e5, 0.0)),
            trapezoid(8e5, 2),
            delay(0.008),
            rf(1j * hard, 1e-5, "refocusing"),
            delay(0.009, (0.0, 0.0, -1e5)),
            readout(),
        ),
    )


@pytest.fixture(scope="module")
def drawn(timeline):
    return rows(sequence_diagram(timeline))


def rows(figure):
    """The rows of the figure in order: RF, G, ADC of the whole shot, then those of the enlarged stretch."""
    return [axes for axes in figure.axes if axes.get_subplotspec() is not None]


def curve(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def test_time_axis_is_the_whole_shot(timeline, drawn):
    overview = drawn[:3]
    duration_ms = (0.001 + 0.2 + 0.001 + 0.001 + 0.008 + 0.001 + 0.009 + 0.5) * 1e3
    for axes in overview:
        assert axes.get_xlim() == (0.0, pytest.approx(duration_ms, rel=1e-12))
    assert timeline.duration_s * 1e3 == pytest.approx(duration_ms, rel=1e-12)
    for axes, label in zip(overview, ("amplitude", "Gx", "ADC"), strict=True):
        time_ms, _ = curve(axes, label)
        assert (time_ms[0], time_ms[-1]) == (0.0, pytest.approx(duration_ms, rel=1e-9))


def test_enlarged_stretch_runs_from_excitation_to_receiver(drawn):
    *_, gate = drawn
    low, high = gate.get_xlim()
    margin = 0.06 * (222.0 - 201.0)
    assert (low, high) == (pytest.approx(201.0 - margin), pytest.approx(222.0 + margin))


def test_gate_is_open_where_the_receiver_is(drawn):
    time_ms, gate = curve(drawn[2], "ADC")
    assert np.trapezoid(gate, time_ms) == pytest.approx(400.0, rel=1e-9)
    assert time_ms[gate > 0].min() == pytest.approx(222.0, rel=1e-9)
    assert time_ms[gate > 0].max() == pytest.approx(622.0, rel=1e-9)


def test_lines_carry_amplitude_phase_and_moments(drawn):
    overview_rf, gradients, _, _, phase, gx, gy, gz, _ = drawn
    time_ms, amplitude = curve(overview_rf, "amplitude")
    assert np.trapezoid(amplitude, time_ms) == pytest.approx(3 * 250.0 * 1.0, rel=1e-9)
    time_ms, values = curve(phase, "phase")
    assert [t for t, v in zip(time_ms, values, strict=True) if v == 0.0] == pytest.approx([201.0, 202.0])
    assert [t for t, v in zip(time_ms, values, strict=True) if v == 90.0] == pytest.approx([211.0, 212.0])
    assert np.isnan(values[(time_ms > 202.001) & (time_ms < 210.999)]).all()
    expected_ms = {"Gx": 0.0, "Gy": 3e5 * 1.0, "Gz": 8e5 * 0.8 - 1e5 * 9.0}  # trapezoid: flat top plus one ramp
    for axes, (name, moment) in zip((gx, gy, gz), expected_ms.items(), strict=True):
        assert np.trapezoid(curve(gradients, name)[1], curve(gradients, name)[0]) == pytest.approx(
            moment / GAMMA_HZ_PER_MT, rel=1e-9, abs=1e-12
        )
        assert axes.get_ylabel() == f"{name} (mT/m)"


def test_second_axis_of_gradients_is_in_khz_per_m(timeline):
    figure = sequence_diagram(timeline)
    figure.draw_without_rendering()
    for axes in rows(figure)[5:8]:
        (right,) = axes.child_axes
        assert right.get_ylabel() == "kHz/m"
        np.testing.assert_allclose(right.get_ylim(), np.array(axes.get_ylim()) * GAMMA_HZ_PER_MT / 1e3, rtol=1e-9)


def test_every_pulse_is_named_and_marked_once(drawn):
    overview_rf, _, _, zoom_rf, phase, *_ = drawn
    assert {text.get_text(): round(text.xy[0], 6) for text in overview_rf.texts} == {"WS": 0.5}
    named = {text.get_text(): round(text.xy[0], 6) for text in zoom_rf.texts}
    assert named == {"excite": 201.5, "refocusing": 211.5}
    for axes in (zoom_rf, phase):
        marks = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2]
        assert marks == pytest.approx([201.5, 211.5])


def test_echo_times_are_arrows_of_their_length(timeline):
    figure = sequence_diagram(timeline, echo_times={"TE1": 0.012, "TE": 0.020, "TE2": 0.008})
    echoes = rows(figure)[3]
    arrows = [(text.xyann[0], text.xy[0]) for text in echoes.texts if getattr(text, "arrow_patch", None)]
    assert arrows == [
        pytest.approx((201.5, 213.5)),
        pytest.approx((201.5, 221.5)),
        pytest.approx((213.5, 221.5)),
    ]
    words = [text.get_text() for text in echoes.texts if text.get_text()]
    assert words == ["TE1 12.00 ms", "TE 20.00 ms", "TE2 8.00 ms"]


def test_echo_after_the_receiver_opens_is_shown(timeline):
    *_, gate = rows(sequence_diagram(timeline, echo_times={"TE": 0.1}))
    assert gate.get_xlim()[1] > 301.5


def test_wrong_echo_times_are_refused(timeline):
    with pytest.raises(InputError, match=r"TE must be positive and end within the shot \(721\.000 ms\).*ends at 1201"):
        sequence_diagram(timeline, echo_times={"TE": 1.0})
    with pytest.raises(InputError, match="TE1 must be positive"):
        sequence_diagram(timeline, echo_times={"TE1": -0.01})
    with pytest.raises(InputError, match="TE1 must be positive"):
        sequence_diagram(timeline, echo_times={"TE1": float("nan")})
    silent = Timeline(intervals=(delay(0.1),), name="silence")
    with pytest.raises(InputError, match="'silence' has none"):
        sequence_diagram(silent, echo_times={"TE": 0.03})


def test_timeline_without_pulses_is_drawn_whole():
    figure = sequence_diagram(Timeline(intervals=(delay(0.1), readout())))
    figure.draw_without_rendering()
    assert [axes.get_xlim() for axes in rows(figure)] == [(0.0, pytest.approx(600.0))] * 9


def test_long_pulse_stays_light_and_keeps_its_peak():
    n = 20_000
    t = (np.arange(n) + 0.5) / n
    b1 = 300 * np.sin(np.pi * t) * np.exp(2j * np.pi * 40 * t**2)
    b1[n // 2] = 450.0
    pulse = rf(b1, 1e-6, "excitation", "edit")
    *_, zoom_rf, phase, _, _, _, _ = rows(sequence_diagram(Timeline(intervals=(pulse, readout()))))
    time_ms, amplitude = curve(zoom_rf, "amplitude")
    assert time_ms.size < 1000
    assert amplitude.max() == 450.0
    exact = 300 * np.sin(np.pi * time_ms / 20)
    near = (time_ms < 20) & (amplitude < 449)
    np.testing.assert_allclose(amplitude[near], exact[near], atol=0.1)
    assert curve(phase, "phase")[0].size < 1200


def test_tensors_with_gradients_can_be_drawn(timeline):
    b1 = torch.full((10,), 100.0 + 0j, dtype=torch.complex64, requires_grad=True)
    pulse = Interval(
        dwell_s=1e-4, b1_hz=b1, gradient_hz_per_m=torch.zeros((10, 3)), use="excitation", centre_s=5e-4, name="x"
    )
    sequence_diagram(Timeline(intervals=(pulse, readout())))
