import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.report import canvas, figures

F0_HZ = 123.2e6
GAMMA_UT_PER_HZ = 1 / 42.577478461


def curve(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


def axes_of(figure, ylabel):
    (axes,) = [axes for axes in figure.axes if axes.get_ylabel().startswith(ylabel)]
    return axes


def pulse(b1_hz, dwell_s=2e-5, offset_hz=0.0):
    return RFPulse(b1_hz=torch.as_tensor(b1_hz), dwell_s=dwell_s, carrier_offset_hz=offset_hz, name="edit")


@pytest.fixture
def random_pulse():
    rng = np.random.default_rng(3)
    return pulse(rng.normal(size=500) * 100 + 1j * rng.normal(size=500) * 100, offset_hz=-301.0)


def draw(p, **more):
    return figures.pulse_figure(p, spectrometer_frequency_hz=F0_HZ, reference_ppm=4.8, **more)


def test_pulse_lines_are_the_waveform(random_pulse):
    figure = draw(random_pulse)
    b1 = random_pulse.b1_hz.numpy()
    time_ms, amplitude = curve(axes_of(figure, "Amplitude"), "amplitude")
    np.testing.assert_array_equal(amplitude[::2], np.abs(b1))
    np.testing.assert_allclose(time_ms[::2], np.arange(500) * 0.02, atol=1e-12)
    _, phase = curve(axes_of(figure, "Phase"), "phase")
    np.testing.assert_allclose(phase[np.isfinite(phase)], np.repeat(np.degrees(np.angle(b1)), 2), atol=1e-9)
    assert axes_of(figure, "Amplitude").get_xlim() == (0, pytest.approx(10.0))


def test_second_axis_is_in_microtesla(random_pulse):
    figure = draw(random_pulse)
    figure.draw_without_rendering()
    amplitude = axes_of(figure, "Amplitude")
    (right,) = amplitude.child_axes
    assert right.get_ylabel() == "µT"
    np.testing.assert_allclose(right.get_ylim(), np.array(amplitude.get_ylim()) * GAMMA_UT_PER_HZ, rtol=1e-9)


def test_title_states_peak_rms_and_energy():
    figure = draw(pulse(np.r_[np.full(500, 300.0), np.full(500, 100.0)] + 0j))
    assert figure.get_suptitle() == "edit: 20.00 ms, peak 300 Hz (7.05 µT), rms 224 Hz, energy 1000 Hz² s"


def test_spectrum_is_the_fourier_integral(random_pulse):
    figure = draw(random_pulse, range_ppm=(0.0, 6.0))
    ppm, flip_deg = curve(axes_of(figure, "RF spectrum"), "RF spectrum")
    fine = 50  # slow twin: direct sum over a 50 times finer raster
    t_s = (np.arange(500 * fine) + 0.5) * 2e-5 / fine
    b1 = np.repeat(random_pulse.b1_hz.numpy(), fine) * np.exp(2j * np.pi * -301.0 * t_s)
    for index in (0, 333, 700, 1200):
        f_hz = (ppm[index] - 4.8) * 123.2
        direct = 360 * abs((b1 * np.exp(-2j * np.pi * f_hz * t_s)).sum() * 2e-5 / fine)
        assert flip_deg[index] == pytest.approx(direct, rel=1e-4)  # the raster's own error is (f dt)^2 / 24


def test_rectangular_pulse_has_its_flip_angle_on_its_carrier_and_nulls_beside_it():
    offset_hz = (2.35 - 4.8) * 123.2
    figure = draw(pulse(np.full(1000, 12.5) + 0j, offset_hz=offset_hz), range_ppm=(1.75, 2.95))
    ppm, flip_deg = curve(axes_of(figure, "RF spectrum"), "RF spectrum")
    assert ppm[flip_deg.argmax()] == pytest.approx(2.35, abs=1e-3)
    assert flip_deg.max() == pytest.approx(90.0, rel=1e-9)  # 12.5 Hz for 20 ms: a quarter turn
    null_ppm = 1 / 20e-3 / 123.2
    for shift in (2.35 - null_ppm, 2.35 + null_ppm):
        assert np.interp(shift, ppm, flip_deg) == pytest.approx(0.0, abs=0.2)


def test_ppm_runs_from_high_to_low_and_the_window_is_shaded(random_pulse):
    figure = draw(random_pulse, range_ppm=(1.0, 4.0), window_ppm=(2.25, 2.42))
    axes = axes_of(figure, "RF spectrum")
    assert axes.get_xlim() == (4.0, 1.0)
    (window,) = axes.patches
    assert (window.get_x(), window.get_x() + window.get_width()) == pytest.approx((2.25, 2.42))


def test_response_is_drawn_as_given(random_pulse):
    ppm = np.linspace(0, 6, 50)
    response = figures.ResponseCurves(ppm=ppm, curves={"Mz": np.cos(ppm)}, label="Magnetisation (M0)")
    figure = draw(random_pulse, response=response)
    x, y = curve(axes_of(figure, "Magnetisation"), "Mz")
    np.testing.assert_array_equal(x, ppm)
    np.testing.assert_array_equal(y, np.cos(ppm))


def test_range_that_falls_is_refused(random_pulse):
    with pytest.raises(InputError, match="Swap the two"):
        draw(random_pulse, range_ppm=(4.0, 1.0))


def test_silent_pulse_can_be_drawn():
    canvas.render(draw(pulse(np.zeros(10, dtype=complex))), "svg")


def test_drift_lines_are_the_input():
    frequency, phase = np.array([0.0, -1.0, 3.0, -2.0]), np.array([0.1, 0.2, -0.1, 0.0])
    rejected = np.array([False, False, True, False])
    figure = figures.drift_figure(frequency, phase, rejected=rejected, truth_frequency_hz=-np.arange(4.0))
    upper, lower = axes_of(figure, "Frequency (Hz)"), axes_of(figure, "Phase")
    np.testing.assert_array_equal(curve(upper, "used"), [[1, 2, 4], [0, -1, -2]])
    np.testing.assert_array_equal(curve(upper, "rejected"), [[3], [3]])
    np.testing.assert_array_equal(curve(upper, "truth")[1], [0, -1, -2, -3])
    np.testing.assert_allclose(curve(lower, "used")[1], np.array([0.1, 0.2, 0.0]) * 180 / np.pi)
    assert len(lower.get_lines()) == 2


def test_drift_refuses_arrays_of_different_length():
    with pytest.raises(InputError, match=r"phase_rad has shape \(2,\)"):
        figures.drift_figure(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="truth_phase_rad"):
        figures.drift_figure(np.zeros(3), np.zeros(3), truth_phase_rad=np.zeros(4))


def test_optimisation_lines_are_the_input():
    histories = {"start 1": np.array([1.0, 0.5, 0.2]), "start 2": np.array([2.0, 0.9])}
    figure = figures.optimisation_figure(histories, loss_label="Loss", best="start 1", references={"PRESS": 0.7})
    (axes,) = figure.axes
    np.testing.assert_array_equal(curve(axes, "start 1"), [[0, 1, 2], [1.0, 0.5, 0.2]])
    np.testing.assert_array_equal(curve(axes, "_start 2"), [[0, 1], [2.0, 0.9]])
    assert set(curve(axes, "PRESS")[1]) == {0.7}
    assert axes.get_yscale() == "log"
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"start 1", "other starts", "PRESS"}


def test_losses_that_reach_zero_are_drawn_on_a_linear_axis():
    figure = figures.optimisation_figure({"a": np.array([1.0, 0.0])}, loss_label="Loss")
    assert figure.axes[0].get_yscale() == "linear"


def test_optimisation_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match="none"):
        figures.optimisation_figure({}, loss_label="Loss")
    with pytest.raises(InputError, match="best 'b'"):
        figures.optimisation_figure({"a": np.ones(2)}, loss_label="Loss", best="b")
    with pytest.raises(InputError, match="NaN"):
        figures.optimisation_figure({"a": np.array([1.0, np.nan])}, loss_label="Loss")
