import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.report import canvas, spectra

PPM = np.linspace(-2, 8, 2001)
RNG = np.random.default_rng(5)


def peak(shift_ppm, height=1.0, width=0.05):
    return height / (1 + ((PPM - shift_ppm) / width) ** 2)


def curve(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line.get_xdata(), line.get_ydata()


@pytest.fixture
def fit():
    components = {"NAA": peak(2.01, 3.0), "Glu": peak(2.35), "Gln": peak(2.45, -0.4), "MM": peak(2.1, 1.0, 0.5)}
    baseline = 0.2 + 0.05 * PPM
    model = baseline + sum(components.values())
    data = model + 0.1 * RNG.normal(size=PPM.size)
    return spectra.FitCurves(ppm=PPM, data=data, model=model, baseline=baseline, components=components)


def panels():
    edited = {"Glu": peak(2.35), "Gln": peak(2.45, 0.1)}
    return [
        spectra.SpectraPanel(title="Edited", ppm=PPM, curves=edited),
        spectra.SpectraPanel(title="Plain", ppm=PPM[::-1], curves={"Glu": peak(2.35, 0.3)[::-1]}),
    ]


def test_spectra_are_the_input_within_the_range():
    figure = spectra.spectra_figure(panels(), range_ppm=(1.8, 4.1), window_ppm=(2.25, 2.42), signal_label="Signal (M0)")
    left, right = figure.axes
    inside = (PPM >= 1.8) & (PPM <= 4.1)
    for name, height, centre in (("Glu", 1.0, 2.35), ("Gln", 0.1, 2.45)):
        x, y = curve(left, name)
        np.testing.assert_array_equal(x, PPM[inside])
        np.testing.assert_array_equal(y, peak(centre, height)[inside])
    np.testing.assert_array_equal(curve(right, "Glu")[0], PPM[inside][::-1])
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["Edited", "Plain"]
    assert left.get_ylabel() == "Signal (M0)"


def test_panels_share_scale_window_and_a_falling_ppm_axis():
    figure = spectra.spectra_figure(panels(), range_ppm=(1.8, 4.1), window_ppm=(2.25, 2.42), signal_label="Signal")
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim()
    for axes in (left, right):
        assert axes.get_xlim() == (4.1, 1.8)
        (window,) = axes.patches
        assert (window.get_x(), window.get_x() + window.get_width()) == pytest.approx((2.25, 2.42))


def test_a_metabolite_has_one_colour_in_every_panel():
    figure = spectra.spectra_figure(panels(), range_ppm=(1.8, 4.1), signal_label="Signal")
    colours = {
        (line.get_label(), line.get_color())
        for axes in figure.axes
        for line in axes.get_lines()
        if not line.get_label().startswith("_")
    }
    assert colours == {("Glu", canvas.BLUE), ("Gln", canvas.VERMILION)}


def test_three_panels_leave_no_empty_one():
    assert len(spectra.spectra_figure([*panels(), panels()[0]], range_ppm=(1, 4), signal_label="S").axes) == 3


def test_comparison_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match="at least one panel"):
        spectra.spectra_figure([], range_ppm=(1.8, 4.1), signal_label="S")
    with pytest.raises(InputError, match="Swap"):
        spectra.spectra_figure(panels(), range_ppm=(4.1, 1.8), signal_label="S")
    with pytest.raises(InputError, match=r"0 points within 20 to 30 ppm.*-2\.000 to 8\.000"):
        spectra.spectra_figure(panels(), range_ppm=(20, 30), signal_label="S")


def test_fit_lines_are_the_input(fit):
    figure = spectra.fit_figure(fit, range_ppm=(1.8, 4.1))
    top, middle, bottom = figure.axes
    inside = (PPM >= 1.8) & (PPM <= 4.1)
    for label, values in {"data": fit.data, "fit": fit.model, "baseline": fit.baseline}.items():
        x, y = curve(middle, label)
        np.testing.assert_array_equal(x, PPM[inside])
        np.testing.assert_array_equal(y, values[inside])
    np.testing.assert_array_equal(curve(top, "residual")[1], (fit.data - fit.model)[inside])
    assert [axes.get_xlim() for axes in (top, middle, bottom)] == [(4.1, 1.8)] * 3


def test_stacked_metabolites_are_shifted_copies_that_do_not_touch(fit):
    bottom = spectra.fit_figure(fit, range_ppm=(1.8, 4.1)).axes[2]
    inside = (PPM >= 1.8) & (PPM <= 4.1)
    offsets = {text.get_text(): text.xy[1] for text in bottom.texts}
    assert list(offsets) == list(fit.components)
    lowest = np.inf
    for name, values in fit.components.items():
        y = curve(bottom, name)[1]
        np.testing.assert_allclose(y - offsets[name], values[inside], atol=1e-12)
        assert y.max() < lowest
        lowest = y.min()


def test_glu_and_gln_are_highlighted(fit):
    bottom = spectra.fit_figure(fit, range_ppm=(1.8, 4.1)).axes[2]
    colours = {line.get_label(): line.get_color() for line in bottom.get_lines()}
    assert colours == {"NAA": canvas.INK, "Glu": canvas.BLUE, "Gln": canvas.VERMILION, "MM": canvas.INK}


@pytest.mark.parametrize("noise", [0.1, 5.0])
def test_residual_and_data_share_one_scale(fit, noise):
    data = fit.model + noise * RNG.normal(size=PPM.size)
    figure = spectra.fit_figure(
        spectra.FitCurves(ppm=PPM, data=data, model=fit.model, baseline=fit.baseline, components=fit.components),
        range_ppm=(1.8, 4.1),
    )
    figure.draw_without_rendering()  # lays the panels out
    top, middle, _ = figure.axes
    scales = [np.ptp(axes.get_ylim()) / axes.get_position().height for axes in (top, middle)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-3)
    assert np.abs(curve(top, "residual")[1]).max() <= top.get_ylim()[1]


def test_fit_without_metabolites_or_signal_can_be_drawn():
    zero = np.zeros(PPM.size)
    empty = spectra.FitCurves(ppm=PPM, data=zero, model=zero, baseline=zero, components={})
    canvas.render(spectra.fit_figure(empty, range_ppm=(1.8, 4.1)), "svg")
    silent = spectra.FitCurves(ppm=PPM, data=zero, model=zero, baseline=zero, components={"Glu": zero, "where": zero})
    canvas.render(spectra.fit_figure(silent, range_ppm=(1.8, 4.1)), "svg")


def test_fit_refuses_complex_and_unequal_arrays(fit):
    def changed(**arrays):
        fields = {name: getattr(fit, name) for name in ("ppm", "data", "model", "baseline", "components")}
        return spectra.FitCurves(**(fields | arrays))

    with pytest.raises(InputError, match="data, Glu are complex"):
        spectra.fit_figure(
            changed(data=fit.data + 0j, components={"Glu": fit.model + 0j, "Gln": fit.model}), range_ppm=(1, 4)
        )
    with pytest.raises(InputError, match="baseline has shape"):
        spectra.fit_figure(changed(baseline=np.zeros(3)), range_ppm=(1, 4))
