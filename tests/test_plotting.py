"""Pictures of schedules."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from matplotlib.figure import Figure

import arrayopt as optim
from arrayopt import lr_scheduler
from arrayopt.plotting import POINTS, plot_schedule


def make(rates=(0.1,)):
    return optim.SGD([{"params": [np.zeros(1)], "lr": rate} for rate in rates], momentum=0.9)


def curves(ax):
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in ax.get_lines()}


def test_rates_are_drawn_and_nothing_is_touched():
    opt = make((0.1, 0.4, 0.4))
    scheduler = lr_scheduler.ExponentialLR(opt, 0.5)
    before = scheduler.state_dict()
    ax = plot_schedule(scheduler, 4)
    drawn = curves(ax)
    assert list(drawn) == ["ExponentialLR, group 0", "ExponentialLR, groups 1, 2"]
    for (x, y), base in zip(drawn.values(), (0.1, 0.4)):
        np.testing.assert_array_equal(x, [0, 1, 2, 3])
        np.testing.assert_allclose(y, base * np.array([1, 0.5, 0.25, 0.125]), rtol=1e-15)
    assert scheduler.state_dict() == before
    assert ax.get_xlabel() == "step"
    assert ax.get_ylabel() == "learning rate"
    assert len(ax.figure.axes) == 1


def test_momenta_are_drawn_below():
    plain = lr_scheduler.StepLR(make(), 3)
    cyclic = lr_scheduler.CyclicLR(make(), 0, 1, 2, base_momentum=0.5, max_momentum=0.7)
    ax = plot_schedule([plain, cyclic], 5, labels=["steps", "cycles"])
    above, below = ax.figure.axes
    assert above is ax
    assert list(curves(above)) == ["steps", "cycles"]
    assert list(curves(below)) == ["cycles"]
    np.testing.assert_allclose(curves(below)["cycles"][1], [0.7, 0.6, 0.5, 0.6, 0.7], rtol=1e-15)
    assert below.get_ylabel() == "momentum"
    assert below.get_xlabel() == "step"
    assert below.get_shared_x_axes().joined(above, below)


def test_curves_differ_in_colour_and_in_dashes():
    ax = plot_schedule([lr_scheduler.StepLR(make(), n) for n in range(1, 8)], 9)
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}
    assert len(looks) == 7
    assert len({line.get_color() for line in ax.get_lines()}) == 7
    assert len({line.get_linestyle() for line in ax.get_lines()}) == 4


def test_it_draws_on_axes_that_are_given():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    scheduler = lr_scheduler.OneCycleLR(make(), 1.0, 10)
    assert plot_schedule(scheduler, 10, ax=right) is right
    assert len(figure.axes) == 3
    assert not left.get_lines()
    figure.canvas.draw()
    with pytest.raises(ValueError, match="axes of a subplot"):
        plot_schedule(scheduler, 10, ax=Figure().add_axes((0, 0, 1, 1)))


def test_every_swing_of_a_long_schedule_is_drawn():
    count = 10**5
    ax = plot_schedule(lr_scheduler.CyclicLR(make(), 0.1, 0.5, 5), count)
    panels = {axes.get_ylabel(): axes for axes in ax.figure.axes}
    for name, low, high in (("learning rate", 0.1, 0.5), ("momentum", 0.8, 0.9)):
        ((x, y),) = curves(panels[name]).values()
        assert len(x) <= POINTS + 2
        assert (x[0], x[-1]) == (0, count - 1)
        for part in np.array_split(y, 100):
            assert (part.min(), part.max()) == (pytest.approx(low), pytest.approx(high))
        height = 1 - np.abs(x % 10 - 5) / 5  # what is drawn are rates of the schedule
        expected = low + (high - low) * (height if name == "learning rate" else 1 - height)
        np.testing.assert_allclose(y, expected, rtol=1e-10)


def test_one_step_that_differs_is_drawn():
    spike = lr_scheduler.LambdaLR(make(), lambda t: 7.0 if t == 54321 else 1.0)
    ((x, y),) = curves(plot_schedule(spike, 10**5)).values()
    assert x[np.argmax(y)] == 54321
    assert y.max() == pytest.approx(0.7)


def test_a_short_schedule_is_drawn_step_by_step():
    ((x, _),) = curves(plot_schedule(lr_scheduler.StepLR(make(), 3), POINTS)).values()
    np.testing.assert_array_equal(x, np.arange(POINTS))


def test_it_is_saved_as_a_picture(tmp_path):
    ax = plot_schedule(lr_scheduler.OneCycleLR(make(), 1.0, 100), 100)
    ax.figure.savefig(tmp_path / "schedule.png")
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input():
    scheduler = lr_scheduler.StepLR(make(), 3)
    with pytest.raises(TypeError, match=r"expected a scheduler .* but got int at index 1"):
        plot_schedule([scheduler, 3], 5)
    with pytest.raises(TypeError, match=r"expected a scheduler or a sequence.*got NoneType"):
        plot_schedule(None, 10)
    with pytest.raises(ValueError, match="expected at least one scheduler"):
        plot_schedule([], 10)
    with pytest.raises(ValueError, match="steps: expected a positive integer, but got 0"):
        plot_schedule(scheduler, 0)
    with pytest.raises(ValueError, match="labels: expected 1, but got 2"):
        plot_schedule(scheduler, 5, labels=["a", "b"])
    with pytest.raises(ValueError, match="at most 10 steps"):
        plot_schedule(lr_scheduler.OneCycleLR(make(), 1.0, 10), 20)


def test_without_matplotlib_it_tells_what_to_install(monkeypatch):
    import_module = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'arrayopt\[plot\]'"):
        plot_schedule(lr_scheduler.StepLR(make(), 3), 5)
