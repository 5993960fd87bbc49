"""Pictures with sliders: what is drawn for which values, and the still picture."""

from __future__ import annotations

import base64
import gc
import io
import sys
import weakref

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from processes import python

import arrayopt as optim
from arrayopt import plotting
from arrayopt.plotting.controls import read_control

VIEW = "application/vnd.jupyter.widget-view+json"


class Drawing:
    """A picture that keeps with which values it was drawn."""

    def __init__(self):
        self.calls = []

    def __call__(self, ax, rate, kind="a"):
        self.calls.append((rate, kind))
        ax.plot([0, 1], [0, rate])


@pytest.fixture
def drawing():
    return Drawing()


def titles(figure):
    return [panel.get_suptitle() for panel in figure.subfigs if panel.axes]


def size(png):
    return Image.open(io.BytesIO(png)).size


# Controls


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ((0.0, 1.0), [0.0, 0.5, 1.0]),
        ((0.01, 1.0), [0.01, 0.1, 1.0]),  # logarithmic
        ((0.1, 2.0), [0.1, 1.05, 2.0]),
        ((1, 9), [1, 5, 9]),
        ((1, 100), [1, 10, 100]),
        ((1, 2), [1, 2]),
        ((0, 1.0), [0.0, 0.5, 1.0]),
        ([3, 1], [3, 1]),
        (["a", "b", "c", "d", "e"], ["a", "c", "e"]),
        ({"slow": 0.1, "fast": 0.9}, [0.1, 0.9]),
    ],
)
def test_values_are_spread_over_a_control(given, values):
    found = read_control("x", given).spread(3)
    assert found == pytest.approx(values) if isinstance(values[0], float) else found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_choices_have_labels():
    choice = read_control("algorithm", [optim.SGD, optim.Adam])
    assert [choice.label(value) for value in (optim.SGD, optim.Adam)] == ["SGD", "Adam"]
    assert read_control("x", {"slow": 0.1}).label(0.1) == "slow"


@pytest.mark.parametrize("given", [0.5, None, "abc", np.arange(3.0)])
def test_what_is_no_control(given):
    with pytest.raises(TypeError, match=r"x: expected a pair \(low, high\), a list of choices"):
        read_control("x", given)


@pytest.mark.parametrize(
    "given",
    [(1.0,), (1.0, 1.0), (2, 1), (0, float("inf")), (float("nan"), 1), ("a", "b"), (False, True)],
)
def test_what_is_no_slider(given):
    with pytest.raises(ValueError, match=r"x: expected a pair .* the lower first, but got \("):
        read_control("x", given)


@pytest.mark.parametrize("given", [[], {}, [1, 1]])
def test_what_is_no_choice(given):
    with pytest.raises(ValueError, match="one or more different choices"):
        read_control("x", given)


# The still picture


def test_the_still_picture_shows_three_values_of_the_first_control(drawing):
    figure = plotting.explore(drawing, rate=(1, 5), kind=["a", "b"]).picture()
    assert drawing.calls == [(1, "a"), (3, "a"), (5, "a")]
    assert titles(figure) == ["rate = 1", "rate = 3", "rate = 5"]
    drawn = [panel.axes[0].get_lines()[0].get_ydata()[1] for panel in figure.subfigs]
    assert drawn == [1, 3, 5]


def test_the_still_picture_shows_what_it_is_told(drawing):
    at = [{"rate": n, "kind": kind} for kind in "ab" for n in (1, 2)]
    figure = plotting.explore(drawing, at=at, rate=(1, 5), kind=["a", "b"]).picture()
    assert drawing.calls == [(1, "a"), (2, "a"), (1, "b"), (2, "b")]
    assert titles(figure)[-1] == "rate = 2, kind = b"


@pytest.mark.parametrize(("count", "rows"), [(1, [1]), (3, [3]), (4, [2, 2]), (5, [3, 2])])
def test_panels_stand_in_rows(drawing, count, rows):
    at = [{"rate": 1 + n} for n in range(count)]
    figure = plotting.explore(drawing, at=at, rate=(1, 5)).picture()
    assert titles(figure) == [f"rate = {1 + n}" for n in range(count)]
    figure.draw_without_rendering()
    tops = [round(axes.get_window_extent().y0) for axes in figure.axes]
    assert [tops.count(top) for top in sorted(set(tops), reverse=True)] == rows


def test_a_default_of_the_function_is_where_it_starts():
    calls = []

    def draw(ax, rate=0.2, kind="b"):
        calls.append((rate, kind))

    exploration = plotting.explore(draw, kind=["a", "b"], rate=(0.0, 1.0))
    exploration.panel()
    exploration.panel(kind="a")
    assert calls == [(0.2, "b"), (0.2, "a")]


def test_no_figure_stays_behind(drawing):
    exploration = plotting.explore(drawing, rate=(1, 5))
    exploration._repr_mimebundle_()
    left = [weakref.ref(exploration.panel()), weakref.ref(exploration.picture())]
    gc.collect()
    assert [one() for one in left] == [None, None]
    assert plt.get_fignums() == []


# In a notebook


def test_a_notebook_is_given_both_pictures(drawing):
    bundle = plotting.explore(drawing, rate=(1, 5))._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {VIEW, "image/png", "text/plain"}
    assert bundle["text/plain"] == "<Exploration of rate>"
    width, height = size(base64.b64decode(bundle["image/png"]))
    assert width > 3 * height


def test_without_ipywidgets_there_is_the_still_picture(drawing, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    exploration = plotting.explore(drawing, rate=(1, 5))
    assert set(exploration._repr_mimebundle_()) == {"image/png", "text/plain"}
    with pytest.raises(ImportError, match=r"ipywidgets: pip install 'arrayopt\[notebooks\]'"):
        exploration.widget()


def test_a_moved_slider_draws_anew(drawing):
    slider, buttons, message, image = (
        plotting.explore(drawing, rate=(1, 5), kind=["a", "b"], size=(3, 2)).widget().children
    )
    assert (slider.min, slider.value, slider.max, buttons.value) == (1, 3, 5, "a")
    first = bytes(image.value)
    assert size(first) == (330, 220)
    slider.value = 5
    buttons.value = "b"
    assert drawing.calls == [(3, "a"), (5, "a"), (5, "b")]
    assert (bytes(image.value) != first, message.value) == (True, "")


def test_an_error_in_drawing_is_shown(drawing):
    def draw(ax, rate):
        if rate > 3:
            raise ValueError("<too large>")

    slider, message, image = plotting.explore(draw, rate=(1, 5)).widget().children
    before = bytes(image.value)
    slider.value = 4
    assert message.value == "<pre>ValueError: &lt;too large&gt;</pre>"
    assert bytes(image.value) == before
    slider.value = 2
    assert message.value == ""


@pytest.mark.parametrize(
    ("given", "kind", "start"),
    [
        ((0.01, 1.0), "FloatLogSlider", 0.1),
        ((0.0, 1.0), "FloatSlider", 0.5),
        ((1, 9), "IntSlider", 5),
        (list("abc"), "ToggleButtons", "a"),
        (list("abcdefg"), "Dropdown", "a"),
        ({"SGD": optim.SGD, "Adam": optim.Adam}, "ToggleButtons", optim.SGD),
    ],
)
def test_each_control_is_a_widget(given, kind, start):
    found = plotting.explore(lambda ax, x: None, x=given).widget().children[0]
    assert type(found).__name__ == kind
    assert found.value == (pytest.approx(start) if isinstance(start, float) else start)
    assert found.description == "x"


@pytest.mark.parametrize("ends", [(0.01, 1.0), (0.003, 0.7), (0.0, 0.3), (2, 7)])
def test_a_slider_reaches_both_ends(drawing, ends):
    slider, message, _ = plotting.explore(drawing, rate=ends, size=(1, 1)).widget().children
    logarithmic = type(slider).__name__ == "FloatLogSlider"
    for end in (slider.min, slider.max):
        slider.value = slider.base**end if logarithmic else end
    assert message.value == ""
    assert [rate for rate, _ in drawing.calls[1:]] == pytest.approx(list(ends))


# Bad input


def test_bad_input(drawing):
    with pytest.raises(TypeError, match=r"draw: expected a function draw\(ax, .* but got 3"):
        plotting.explore(3, rate=(1, 5))
    with pytest.raises(ValueError, match="controls: expected at least one"):
        plotting.explore(drawing)
    with pytest.raises(TypeError, match=r"function of ax and rate, size_.*unexpected keyword"):
        plotting.explore(drawing, rate=(1, 5), size_=(1, 2))
    with pytest.raises(TypeError, match=r"function of ax and kind, but missing a required"):
        plotting.explore(drawing, kind=["a"])
    with pytest.raises(ValueError, match=r"draw: expected a value of Choice.*but got 'a'"):
        plotting.explore(drawing, rate=(1, 5), kind=["b", "c"])
    with pytest.raises(ValueError, match=r"at: expected at least one dict"):
        plotting.explore(drawing, at=[], rate=(1, 5))
    with pytest.raises(TypeError, match=r"at: expected a dict of values, but got 3"):
        plotting.explore(drawing, at=[3], rate=(1, 5))
    with pytest.raises(TypeError, match=r"at: expected values of rate, but got 'speed'"):
        plotting.explore(drawing, at=[{"speed": 3}], rate=(1, 5))
    for wrong in (7, 0.5, "3", True):
        with pytest.raises(ValueError, match=r"at: expected a value of Slider.*but got"):
            plotting.explore(drawing, at=[{"rate": wrong}], rate=(1, 5))
    with pytest.raises(ValueError, match=r"panel: expected a value of Slider"):
        plotting.explore(drawing, rate=(1, 5)).panel(rate=6)
    for wrong in (3, (3,), (0, 1), ("a", 1), (1, float("inf"))):
        with pytest.raises(ValueError, match="size: expected two positive numbers"):
            plotting.explore(drawing, size=wrong, rate=(1, 5))


def test_importing_the_pictures_imports_neither_widgets_nor_matplotlib():
    code = (
        "import sys, arrayopt.plotting as p; p.explore(lambda ax, x: None, x=(0, 1)); "
        "print([m for m in ('ipywidgets', 'IPython', 'matplotlib') if m in sys.modules])"
    )
    assert python(code) == "[]"
