import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from seqgen.errors import InputError
from seqgen.report import canvas


@pytest.fixture
def figure():
    with canvas.figure_style():
        figure = canvas.new_figure(2.0)
        figure.subplots().plot([0, 1], [0, 1], label="a <tag>")
        figure.axes[0].legend()
    return figure


def test_short_waveform_is_drawn_exactly():
    values = np.array([1.0, -2.0, 4.0])
    times, drawn = canvas.step_line(10.0, 0.5, values)
    np.testing.assert_array_equal(times, [10.0, 10.5, 10.5, 11.0, 11.0, 11.5])
    np.testing.assert_array_equal(drawn, [1, 1, -2, -2, 4, 4])
    assert np.trapezoid(drawn, times) == pytest.approx(values.sum() * 0.5, rel=1e-12)


@pytest.mark.parametrize("n", [801, 1000, 19_999, 20_000])
def test_long_waveform_keeps_the_extremes_of_every_bin(n):
    values = np.sin(0.37 * np.arange(n) ** 1.4)
    values[n // 3] = 7.0
    times, drawn = canvas.step_line(0.0, 1e-6, values)
    assert times.size <= 802
    assert np.all(np.diff(times) >= 0)
    assert (times[0], times[-1]) == (0.0, pytest.approx(n * 1e-6, rel=1e-12))
    per_bin = -(-n // 400)
    for number, start in enumerate(range(0, n, per_bin)):  # slow twin: one bin after the other
        piece = values[start : start + per_bin]
        assert {drawn[1 + 2 * number], drawn[2 + 2 * number]} == {piece.min(), piece.max()}
    sampled = np.floor(times[1:-1] / 1e-6).astype(int)
    np.testing.assert_array_equal(values[sampled], drawn[1:-1])


def test_gaps_stay_gaps():
    values = np.ones(4000)
    values[1000:3000] = np.nan
    values[500] = 2.0
    times, drawn = canvas.step_line(0.0, 1.0, values)
    assert np.isnan(drawn[(times > 1001) & (times < 2999)]).all()
    assert np.isfinite(drawn[(times < 999) | (times > 3001)]).all()
    assert np.nanmax(drawn) == 2.0


def test_constant_needs_two_points():
    times, drawn = canvas.step_line(1.0, 1e-6, np.full(20_000, 3.0))
    np.testing.assert_allclose(times, [1.0, 1.02], rtol=1e-12)
    np.testing.assert_array_equal(drawn, [3.0, 3.0])


def test_phase_is_shown_where_there_is_amplitude():
    phase = canvas.phase_deg(np.array([1j, -1.0, 1e-4, 0.0, 2 - 2j]))
    np.testing.assert_allclose(phase, [90, 180, np.nan, np.nan, -45])
    assert np.isnan(canvas.phase_deg(np.zeros(3, dtype=complex))).all()


def test_no_line_across_a_phase_wrap():
    times, values = canvas.break_wraps(np.arange(4.0), np.array([170.0, 179.0, -179.0, -170.0]))
    np.testing.assert_array_equal(values, [170, 179, np.nan, -179, -170])
    np.testing.assert_array_equal(times, [0, 1, 2, 2, 3])


def test_style_leaves_no_trace():
    before = dict(mpl.rcParams)
    with canvas.figure_style():
        assert mpl.rcParams["svg.hashsalt"] == "seqgen"
    assert dict(mpl.rcParams) == before


def small_figure(label="a"):
    with canvas.figure_style():
        figure = canvas.new_figure(2.0)
        figure.subplots().plot([0, 1], [0, 3], label=label)
        figure.axes[0].legend()
    return figure


def test_style_ignores_the_users_settings():
    plain = canvas.render(small_figure(), "svg")
    with mpl.rc_context({"font.size": 30.0, "xtick.direction": "in", "axes.xmargin": 0.3}):
        assert canvas.render(small_figure(), "svg") == plain


def test_dollar_signs_are_no_formula():
    canvas.render(small_figure(r"$\nothing{$"), "svg")


def test_no_pyplot():
    code = "import sys, seqgen.report.html, seqgen.report.spectra; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "seqgen.report.spectra" in done.stdout
    assert "matplotlib.pyplot" not in done.stdout
    for source in Path(canvas.__file__).parent.glob("*.py"):
        assert "import pyplot" not in source.read_text()
        assert "matplotlib.pyplot" not in source.read_text()


def test_png_has_two_dots_per_pixel(figure, tmp_path):
    canvas.save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (1800, 400)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_svg_is_well_formed_and_dateless(figure, tmp_path):
    canvas.save_figure(figure, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag.endswith("svg")
    assert not [tag for tag in root.iter() if tag.tag.endswith("date")]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_figures_give_equal_bytes(kind):
    first = canvas.render(small_figure(), kind)
    assert first == canvas.render(small_figure(), kind)
    assert mpl.__version__.encode() not in first
    if kind == "png":
        with Image.open(io.BytesIO(first)) as image:
            assert image.info.keys() <= {"dpi"}


def test_other_suffix_is_refused(figure, tmp_path):
    with pytest.raises(InputError, match=r"\.png or \.svg.*\.gif"):
        canvas.save_figure(figure, tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_unwritable_place_is_reported(figure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Cannot write"):
        canvas.save_figure(figure, tmp_path / "file" / "a.png")


def test_text_and_curves_stand_out_from_white():
    for colour in (canvas.INK, canvas.GREY, canvas.BLUE, canvas.VERMILION, *canvas.CYCLE):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3.0  # WCAG 2.1 contrast of graphics


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"a": np.zeros(3), "b": np.zeros(4)}, r"b has shape \(4,\) and a has \(3,\)"),
        ({"a": np.zeros((2, 2))}, r"a has shape \(2, 2\)"),
        ({"a": np.zeros(0)}, r"a has shape \(0,\)"),
        ({"a": np.array([1.0, np.nan])}, "a holds NaN"),
    ],
)
def test_bad_arrays_are_refused(vectors, message):
    with pytest.raises(InputError, match=message):
        canvas.require_vectors("The figure", vectors)
