import numpy as np
import pytest
import torch

from seqgen.errors import InputError
from seqgen.pulse.waveform import RFPulse
from seqgen.report.designs import conditions_figure, design_figure
from seqgen.report.spectra import SpectraPanel

PPM = np.linspace(1.9, 2.7, 81)
B0_HZ, B1 = (-10.0, 0.0, 10.0, 30.0), (0.8, 1.0)


def pulse(seed):
    b1 = torch.randn(100, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 50
    return RFPulse(b1_hz=torch.view_as_complex(b1), dwell_s=2e-5, name="edit")


def panel(scale):
    return SpectraPanel(title=f"{scale}", ppm=PPM, curves={"Glu": scale * np.sin(PPM), "Gln": scale * np.cos(PPM)})


def lines_of(axes, label):
    return [line.get_ydata() for line in axes.get_lines() if line.get_label() == label]


def test_every_waveform_and_every_spectrum_is_drawn():
    pulses = {"ON": pulse(1), "OFF": pulse(2)}
    figure = design_figure(
        pulses, [panel(1.0), panel(0.5)], range_ppm=(1.9, 2.7), window_ppm=(2.25, 2.42), signal_label="Signal"
    )
    amplitudes = [axes for axes in figure.axes if axes.get_ylabel() == "Amplitude (Hz)"]
    for axes, (name, given) in zip(amplitudes, pulses.items(), strict=True):
        (drawn,) = lines_of(axes, "amplitude")
        assert drawn.max() == pytest.approx(given.peak_hz)
        assert axes.get_title(loc="left").startswith(f"{name}: peak {given.peak_hz:.0f} Hz")
    spectra = [axes for axes in figure.axes if lines_of(axes, "Glu")]
    for axes, scale in zip(spectra, (1.0, 0.5), strict=True):
        np.testing.assert_allclose(lines_of(axes, "Gln")[0], scale * np.cos(PPM))
        assert axes.get_xlim() == (2.7, 1.9)
        assert axes.get_ylim() == spectra[0].get_ylim()


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="got 0 and 1"):
        design_figure({}, [panel(1.0)], range_ppm=(1.9, 2.7), signal_label="Signal")


def test_a_map_shows_every_condition_and_frames_the_ensemble():
    values = np.arange(8.0).reshape(2, 4) / 10
    figure = conditions_figure(B0_HZ, B1, {"Signal": values, "Other": 2 * values}, ensemble=((-10.0, 10.0), (1.0,)))
    axes = next(axes for axes in figure.axes if axes.get_title(loc="left") == "Signal")
    shown = {(text.get_position()): text.get_text() for text in axes.texts}
    assert shown[(30.0, 0.8)] == "0.30"
    assert shown[(-10.0, 1.0)] == "0.40"
    (mesh,) = axes.collections
    np.testing.assert_array_equal(np.ravel(mesh.get_array()), values.ravel())
    assert mesh.get_clim() == (0.0, 1.4)
    (frame,) = axes.get_lines()
    assert (min(frame.get_xdata()), max(frame.get_xdata())) == (-15.0, 20.0)
    assert (min(frame.get_ydata()), max(frame.get_ydata())) == pytest.approx((0.9, 1.1))


@pytest.mark.parametrize(
    ("b0_hz", "values", "words"),
    [
        ((0.0, 0.0, 1.0, 2.0), np.zeros((2, 4)), "rising values of b0_offsets_hz"),
        (B0_HZ, np.zeros((4, 2)), r"shape \(2, 4\)"),
        (B0_HZ, np.full((2, 4), np.nan), "finite"),
    ],
)
def test_maps_that_cannot_be_drawn_are_refused(b0_hz, values, words):
    with pytest.raises(InputError, match=words):
        conditions_figure(b0_hz, B1, {"Signal": values})
