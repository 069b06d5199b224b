import math

import numpy as np
import pytest
import torch
from systems import FREQUENCY_HZ, REFERENCE_PPM, group_at_hz

from seqgen.errors import InputError
from seqgen.report import canvas
from seqgen.report.states import states_figure
from seqgen.simulate.ensemble import ensemble
from seqgen.simulate.trajectory import trajectory
from seqgen.spin.hamiltonian import group_model
from seqgen.timeline import Interval, Receiver, Timeline, delay, ideal_pulse

J_HZ, TE_S = 7.0, 0.08


def model_of(offsets_hz, couplings_hz):
    return group_model(group_at_hz(offsets_hz, couplings_hz), FREQUENCY_HZ, REFERENCE_PPM)


def interval(dwell_s, b1_hz, gradient=(0.0, 0.0, 0.0), **more):
    n = b1_hz.shape[0]
    rows = torch.tensor([gradient], dtype=torch.float64).expand(n, 3)
    return Interval(dwell_s=dwell_s, b1_hz=b1_hz.to(torch.complex128), gradient_hz_per_m=rows, **more)


def readout():
    return interval(0.032, torch.zeros(1), receiver=Receiver(n_samples=64, dwell_s=5e-4))


def spin_echo():
    return Timeline(
        intervals=(
            ideal_pulse(math.pi / 2, math.pi / 2, "excitation"),
            delay(TE_S / 2),
            ideal_pulse(math.pi, 0.0, "refocusing"),
            delay(TE_S / 2),
            readout(),
        )
    )


@pytest.fixture(scope="module")
def ax():
    return trajectory([spin_echo()], model_of([0.0, 1e7], {(0, 1): J_HZ}), delay_step_s=2e-3)


def curve(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_magnitudes_of_ax_are_cosine_and_sine(ax):
    upper, _ = states_figure(ax).axes
    assert set(labels(upper)) == {"I1⊥", "I2⊥", "2I1⊥I2z", "2I1zI2⊥"}
    for label, expected in (("I1⊥", np.cos), ("2I1⊥I2z", np.sin), ("I2⊥", np.cos)):
        time_ms, values = curve(upper, label)
        after = time_ms > 1e-9
        assert time_ms[-1] == pytest.approx(TE_S * 1e3)
        np.testing.assert_allclose(
            values[after], np.abs(expected(np.pi * J_HZ * time_ms[after] * 1e-3)), rtol=0, atol=2e-5
        )


def test_plain_products_carry_twice_the_antiphase_coefficient(ax):
    upper, _ = states_figure(ax, normalisation="plain").axes
    time_ms, values = curve(upper, "I1⊥I2z")
    np.testing.assert_allclose(values, 2 * np.abs(np.sin(np.pi * J_HZ * time_ms * 1e-3)), rtol=0, atol=4e-5)


def test_single_phases_keep_their_sign(ax):
    upper, _ = states_figure(ax, phases=True).axes
    time_ms, values = curve(upper, "I1x")
    after = time_ms > 1e-9
    np.testing.assert_allclose(values[after], np.cos(np.pi * J_HZ * time_ms[after] * 1e-3), rtol=0, atol=2e-5)
    assert values.min() < -0.1


def test_terms_are_the_largest_ones(ax):
    """Integral of cos^2 against sin^2 of pi J t over 80 ms: the in-phase terms hold less."""
    t = np.linspace(0, TE_S, 1001)
    in_phase, antiphase = np.mean(np.cos(np.pi * J_HZ * t) ** 2), np.mean(np.sin(np.pi * J_HZ * t) ** 2)
    two = labels(states_figure(ax, count=2).axes[0])
    assert (set(two) == {"2I1⊥I2z", "2I1zI2⊥"}) == (antiphase > in_phase)


def test_norms_are_those_of_the_orders(ax):
    _, lower = states_figure(ax).axes
    assert labels(lower) == ["|p| = 0", "|p| = 1", "all"]
    time_ms, values = curve(lower, "|p| = 1")
    np.testing.assert_allclose(values[time_ms > 1e-9], 1.0, atol=1e-12)
    np.testing.assert_allclose(curve(lower, "|p| = 0")[1][0], 1.0, atol=1e-12)


def selective_shot():
    gaussian = 150 * torch.exp(-(torch.linspace(-2, 2, 40, dtype=torch.float64) ** 2))
    return Timeline(
        intervals=(
            ideal_pulse(0.2, 0.0, "saturation"),
            delay(4e-3),
            interval(5e-5, gaussian, (0, 0, 5e4), use="excitation", centre_s=1e-3, name="excitation z"),
            delay(5e-4, (0, 0, -1e5)),
            delay(1e-3, (2e6, 0, 0)),
            interval(1e-4, torch.full((50,), 60.0), use="preparation", centre_s=2.5e-3, name="edit"),
            delay(1e-3, (2e6, 0, 0)),
            delay(1e-3),
            readout(),
        )
    )


def test_pulses_are_shaded_and_named_and_slices_are_gaps():
    played = trajectory([selective_shot()], model_of([0.0, 60.0], {(0, 1): 7.0}), positions_per_slice=4)
    figure = states_figure(played, title="A title")
    assert figure.get_suptitle() == "A title\nI1 S0, I2 S1"
    upper, lower = figure.axes
    for axes in (upper, lower):
        spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches)
        assert np.array(spans) == pytest.approx(np.array([[-1.0, 1.0], [2.5, 7.5]]))
    assert {text.get_text() for text in upper.texts} == {"excitation z", "edit"}
    assert lower.get_xlim()[0] == pytest.approx(-1.0)
    time_ms, _ = curve(lower, "|p| = 1")
    assert np.isnan(time_ms).sum() == 1
    assert ((time_ms > 2.5) & (time_ms < 7.5)).sum() > 40
    assert not ((time_ms > -0.999) & (time_ms < 0.999)).any()


def boxes(figure):
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else None
    return [text.get_window_extent(renderer) for text in figure.axes[0].texts]


def test_names_of_pulses_close_together_do_not_overlap():
    close = [
        ideal_pulse(math.pi / 2, 0.0, "excitation"),
        delay(1e-3),
        ideal_pulse(0.3, 0.0, "preparation"),
        delay(1e-3),
    ]
    shot = Timeline(intervals=(*close, ideal_pulse(0.4, 0.0, "preparation"), delay(0.05), readout()))
    played = trajectory([shot], model_of([0.0], {}), time_zero_s=0.05)
    found = boxes(states_figure(played))
    assert len(found) == 3
    for k, one in enumerate(found):
        for other in found[k + 1 :]:
            assert not one.overlaps(other)


def test_members_are_drawn_one_at_a_time():
    played = trajectory([spin_echo()], model_of([0.0], {}), ensemble((0.0,), (1.0, 0.5)))
    _, whole = curve(states_figure(played, member=0).axes[0], "I1⊥")
    _, half = curve(states_figure(played, member=1).axes[0], "I1⊥")
    assert whole[2] == pytest.approx(1.0)
    assert half[2] == pytest.approx(math.sin(math.pi / 4))


def test_figure_can_be_saved(ax, tmp_path):
    canvas.save_figure(states_figure(ax), tmp_path / "states.png")
    assert (tmp_path / "states.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused(ax):
    with pytest.raises(InputError, match="between 0 and 0"):
        states_figure(ax, member=1)
    with pytest.raises(InputError, match="between 1 and 21"):
        states_figure(ax, count=22)
