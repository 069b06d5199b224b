import itertools

import numpy as np
import pytest

from seqgen.errors import InputError
from seqgen.report import canvas
from seqgen.report.pareto import Column, front, non_dominated, pareto_figure


def beaten(point, others):
    """The definition, word by word, in plain Python."""
    return any(
        all(o <= p for o, p in zip(other, point, strict=True)) and any(o < p for o, p in zip(other, point, strict=True))
        for other in others
    )


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_front_is_that_of_the_definition(k):
    rng = np.random.default_rng(k)
    costs = rng.integers(0, 6, size=(120, k)).astype(float)  # integers: many ties
    rows = costs.tolist()
    assert non_dominated(costs).tolist() == [not beaten(row, rows) for row in rows]


def test_more_is_better_where_it_is_said():
    x = Column(name="x", values=np.array([1.0, 2.0, 3.0, 2.5]))
    y = Column(name="y", values=np.array([1.0, 2.0, 1.5, 3.0]), maximise=True)
    assert front([x, y]).tolist() == [True, True, False, True]


@pytest.mark.parametrize(("x_more", "y_more"), list(itertools.product((False, True), repeat=2)))
def test_the_line_is_the_edge_of_what_is_reached(x_more, y_more):
    """Between two points of the front the line is at the best y that some point at least as good in x has."""
    rng = np.random.default_rng(3)
    x = Column(name="x", values=rng.uniform(size=40), maximise=x_more)
    y = Column(name="y", values=rng.uniform(size=40), maximise=y_more)
    (axes,) = pareto_figure(x, y).axes
    (line,) = axes.get_lines()
    ends = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert ends[0].size == front([x, y]).sum()
    assert np.all(np.diff(ends[0]) > 0)
    path = line.get_path() if line.get_drawstyle() == "default" else None
    assert path is None  # a staircase
    for at in (ends[0][:-1] + ends[0][1:]) / 2:
        as_good = y.values[x.values >= at] if x_more else y.values[x.values <= at]
        reached = as_good.max() if y_more else as_good.min()
        k = np.searchsorted(ends[0], at)
        drawn = ends[1][k] if line.get_drawstyle() == "steps-pre" else ends[1][k - 1]
        assert drawn == reached


def test_logarithmic_scales_write_plain_numbers():
    x = Column(name="x", values=np.array([0.9, 1.4, 4.5]), log=True)
    y = Column(name="y", values=np.array([1.0, 0.5, 0.2]))
    figure = pareto_figure(x, y, colour=("ms", [1.0, 10.0, 60.0]), colour_log=True)
    axes, bar = figure.axes
    assert (axes.get_xscale(), axes.get_yscale(), bar.get_yscale()) == ("log", "linear", "log")
    figure.canvas.draw()
    assert {"1", "1.5", "2", "3"} <= {label.get_text() for label in axes.get_xticklabels()}
    assert {"1", "10", "50"} <= {label.get_text() for label in bar.get_yticklabels()}
    with pytest.raises(InputError, match=r"x is drawn on a logarithmic scale, but is 0 somewhere"):
        pareto_figure(Column(name="x", values=np.array([0.0, 1.0, 2.0]), log=True), y)


def test_colours_of_numbers_and_words_and_a_third_quantity():
    values = np.arange(4.0)
    x, y, z = (Column(name=name, values=v) for name, v in (("x", values), ("y", values[::-1]), ("z", values**2)))
    with_bar = pareto_figure(x, y, z).axes
    assert with_bar[1].get_ylabel() == "z"
    assert not with_bar[0].get_lines()
    named = pareto_figure(x, y, colour=("loss", ["a", "b", "a", "b"])).axes[0]
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["loss a", "loss b", "not dominated"]
    shown = pareto_figure(x, y, colour=("seed", [1, 2, 3, 4]), plain=(values, values))
    assert canvas.render(shown, "png").startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused():
    x, nothing = Column(name="x", values=np.arange(9.0)), Column(name="y", values=np.zeros(0))
    with pytest.raises(InputError, match="one value per point"):
        pareto_figure(nothing, nothing)
    with pytest.raises(InputError, match="NaN"):
        pareto_figure(x, Column(name="y", values=np.full(9, np.nan)))
    with pytest.raises(InputError, match="9 different values, more than the 7"):
        pareto_figure(x, x, colour=("name", list("abcdefghi")))
