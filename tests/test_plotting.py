"""Pictures: what is drawn is what was computed."""

from __future__ import annotations

import builtins
import io
import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from processes import python
from specs import POINTWISE

import arrayopt as optim
from arrayopt import lr_scheduler, plotting, problems
from arrayopt.plotting import (
    animate,
    plot_intermediates,
    plot_loss_curves,
    plot_schedule,
    plot_step_sizes,
    plot_trajectories,
)
from arrayopt.plotting.paths import SPACING, exit_point, inside, marked_steps
from arrayopt.plotting.style import COLORS, MARKERS, POINTS, STYLES, look
from arrayopt.plotting.surface import levels
from arrayopt.problems import Formulas, Problem, Trajectory, trajectories, trajectory

SQUARE = np.array([[0.0, 1.0], [0.0, 1.0]])


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
    with pytest.raises(TypeError, match="ax: expected the Axes of matplotlib, but got Figure"):
        plot_schedule(scheduler, 5, ax=Figure())


RUNS = [(optim.SGD, {"lr": 0.01}), (optim.Adam, {"lr": 0.1}), optim.Rprop]
NAMES = ["SGD (lr=0.01)", "Adam (lr=0.1)", "Rprop"]


def lines(axes):
    """The lines of axes that have a label, by it."""
    return {
        line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")
    }


def told(figure):
    """What the legend beside the axes says."""
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


# The looks


def luminance(color):
    """Relative luminance, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgba(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_curves_differ_in_colour_and_dashes_and_in_markers_alone():
    looks = [look(number) for number in range(13)]
    assert len({(one["color"], one["linestyle"]) for one in looks}) == 13
    assert len({one["marker"] for one in looks}) == 13
    assert len({(look(n)["color"], look(n)["linestyle"]) for n in range(28)}) == 28
    assert (len(set(COLORS)), len(set(STYLES)), len(set(MARKERS))) == (7, 4, 13)


def test_colours_stand_out_from_white_paper():
    # 3:1 is what WCAG 2.1 asks of graphics. Orange and sky blue have 2.3:1, so that dashes and
    # markers have to tell; the yellow that was left out has 1.3:1.
    contrasts = [1.05 / (luminance(color) + 0.05) for color in COLORS]
    assert min(contrasts) > 2
    assert 1.05 / (luminance("#F0E442") + 0.05) < 1.4


# Paths


def test_paths_are_drawn_where_they_went():
    problem = problems.himmelblau()
    found = trajectories(problem, RUNS, 40)
    figure = plot_trajectories(problem, found)
    axes = figure.axes[0]
    drawn = lines(axes)
    for name in NAMES:
        np.testing.assert_array_equal(drawn[name].get_xydata(), found[name].points)
    np.testing.assert_array_equal(drawn["start"].get_xydata(), [problem.start])
    np.testing.assert_array_equal(drawn["minimum"].get_xydata(), problem.minima)
    assert told(figure) == [*NAMES, "start", "minimum"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$x_1$", "$x_2$")
    assert axes.get_title(loc="left") == "Himmelblau"
    assert axes.get_aspect() == 1
    np.testing.assert_array_equal([axes.get_xlim(), axes.get_ylim()], problem.domain)
    ends = {tuple(line.get_xydata()[0]) for line in axes.get_lines() if len(line.get_xydata()) == 1}
    assert {tuple(way.points[-1]) for way in found.values()} < ends


def test_optimizers_are_run_where_they_are_not_yet():
    problem = problems.beale()
    axes = plot_trajectories(problem, {"mine": RUNS[1]}, steps=7).axes[0]
    expected = trajectory(problem, optim.Adam, 7, lr=0.1).points
    np.testing.assert_array_equal(lines(axes)["mine"].get_xydata(), expected)
    axes = plot_trajectories(problem, [RUNS[0], expected, optim.Rprop], steps=3).axes[0]
    assert list(lines(axes))[1:4] == ["SGD (lr=0.01)", "path 2", "Rprop"]


@pytest.mark.parametrize("path", [np.array([[0, 1], [2, 0.5]]), [[0, 1], [2, 0.5]]])
def test_a_path_of_ones_own_is_drawn(path):
    axes = plot_trajectories(problems.beale(), path if isinstance(path, np.ndarray) else [path])
    (name,) = {"path", "path 1"} & set(lines(axes.axes[0]))
    np.testing.assert_array_equal(lines(axes.axes[0])[name].get_xydata(), path)


def test_one_trajectory_is_drawn():
    way = trajectory(problems.beale(), optim.Adam, 5)
    axes = plot_trajectories(problems.beale(), way).axes[0]
    np.testing.assert_array_equal(lines(axes)["path"].get_xydata(), way.points)


@pytest.mark.parametrize("problem", [problems.rosenbrock(), problems.beale()], ids=lambda p: p.name)
def test_all_algorithms_are_told_apart(problem):
    options = {"LBFGS": {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 25}}
    runs = {spec.name: (spec.cls, options.get(spec.name, {})) for spec in POINTWISE}
    figure = plot_trajectories(problem, runs, steps=30)
    drawn = lines(figure.axes[0])
    looks = [
        (drawn[name].get_color(), drawn[name].get_linestyle(), drawn[name].get_marker())
        for name in runs
    ]
    assert len(set(looks)) == len(POINTWISE)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    beside, page = legend.get_window_extent(), figure.bbox  # it covers nothing, and is not cut off
    assert beside.x0 > figure.axes[0].get_window_extent().x1
    assert beside.x1 <= page.x1
    assert page.y0 <= beside.y0
    assert beside.y1 <= page.y1


def test_a_path_that_leaves_has_a_cross_where_it_does():
    problem = problems.rosenbrock()
    paths = {
        "leaves": [[0, 0], [1, 1], [3, 2], [5, 9]],
        "returns": [[0, 0], [9, 9], [0, 1]],
        "diverges": [[0, 0], [0.5, 1], [np.inf, 1], [np.nan, 0]],
    }
    figure = plot_trajectories(problem, {name: np.array(path) for name, path in paths.items()})
    axes = figure.axes[0]
    crosses = [line for line in axes.get_lines() if line.get_label() == "leaves the picture"]
    np.testing.assert_allclose([cross.get_xydata()[0] for cross in crosses], [[2, 1.5], [0.5, 1]])
    assert [cross.get_color() for cross in crosses] == [look(0)["color"], look(2)["color"]]
    assert told(figure).count("leaves the picture") == 1
    np.testing.assert_array_equal(lines(axes)["leaves"].get_xydata(), paths["leaves"])
    assert np.isnan(lines(axes)["diverges"].get_xydata()[2:]).all()
    np.testing.assert_array_equal([axes.get_xlim(), axes.get_ylim()], problem.domain)
    png(figure)


def test_numbers_beyond_all_bounds_can_be_drawn():
    path = np.array([[0, 0], [1e200, -1e190], [-1e308, 1e308], [0, 1]])
    assert png(plot_trajectories(problems.rosenbrock(), path)).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[0.5, 0.5], [0.5, 2.5]], (0.5, 1)),
        ([[0.5, 0.5], [-0.5, 0.75]], (0, 0.625)),
        ([[0.5, 0.5], [2, 2]], (1, 1)),
        ([[0.5, 0.5], [np.nan, 2]], (0.5, 0.5)),
        ([[0.5, 0.5], [3, 3], [0.1, 0.2]], None),
        ([[3, 3], [4, 4]], None),
    ],
)
def test_where_a_path_leaves(points, expected):
    place = exit_point(np.array(points), SQUARE)
    assert (place is None) == (expected is None)
    if expected:
        np.testing.assert_allclose(place, expected)


def test_markers_are_evenly_spread_and_seen():
    points = np.linspace([0, 0.5], [2, 0.5], 2001)  # half of it outside
    marked = marked_steps(points, SQUARE, 0)
    assert len(marked) in (4, 5)
    assert inside(points[marked], SQUARE).all()
    np.testing.assert_allclose(np.diff(points[marked, 0]), SPACING, atol=2e-3)
    assert marked != marked_steps(points, SQUARE, 1)
    back_and_forth = np.tile([[0.1, 0.1], [0.9, 0.9]], (100, 1))
    assert len(marked_steps(back_and_forth, SQUARE, 0)) <= 6
    assert marked_steps(points[-5:], SQUARE, 0) == []


# Contours


@pytest.mark.parametrize(
    ("problem", "logarithmic"),
    [
        (problems.rosenbrock(), True),
        (problems.beale(), True),
        (problems.himmelblau(), True),
        (problems.ravine(), True),
        (problems.rastrigin(), False),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_contours_suit_the_problem(problem, logarithmic):
    x, y = (np.linspace(*side, 100) for side in problem.domain)
    height = problem.fun(np.stack(np.meshgrid(x, y), -1))
    steps, found = levels(height)
    assert found is logarithmic
    assert 5 <= len(steps) <= 14
    assert steps[-1] >= height.max()
    if logarithmic:  # 1, 3, 10, 30, …
        mantissas = steps / 10 ** np.floor(np.log10(steps) + 1e-9)
        np.testing.assert_allclose(mantissas[1:] + mantissas[:-1], 4)
        assert (height < steps[0]).mean() < 0.01
    else:
        np.testing.assert_allclose(np.diff(steps), steps[1] - steps[0])


def test_contours_of_a_flat_or_infinite_function():
    assert levels(np.zeros((3, 3)))[1] is False
    steps, _ = levels(np.array([np.nan, np.inf, 1.0, 2.0]))
    assert np.isfinite(steps).all()


def test_small_axes_ask_for_fewer_values():
    asked = []
    bowl = Problem(
        "bowl",
        Formulas(lambda x: asked.append(x.shape) or (x * x).sum(-1), lambda x: 2 * x, None),
        minima=[(0, 0)],
        minimum=0.0,
        start=(1, 1),
        domain=((-2, 2), (-2, 2)),
    )
    for width in (1, 3, 9):
        asked.clear()
        ax = plotting.new_figure(width, 3).subplots()
        dots = max(ax.bbox.size)
        plot_trajectories(bowl, np.ones((2, 2)), ax=ax)
        ((points, _, _),) = asked
        assert points in (101, 301) or points == pytest.approx(dots / 1.5, abs=1)
        assert points >= min(301, dots / 2)
    assert points == 301


def test_the_scale_tells_the_values_of_the_contours():
    figure = plot_trajectories(problems.saddle(), [optim.Adam], steps=1)
    (bar,) = figure.axes[0].child_axes
    assert bar.get_title(loc="left") == "f(x) + 0.25"
    figure.draw_without_rendering()
    ticks = [float(label.get_text()) for label in bar.get_yticklabels()]
    np.testing.assert_allclose(ticks, bar.get_yticks())
    assert {0.01, 0.1, 1} <= set(ticks)
    bare = plot_trajectories(problems.saddle(), [optim.Adam], steps=1, colorbar=False)
    assert not bare.axes[0].child_axes


def test_a_part_can_be_shown():
    figure = plot_trajectories(problems.beale(), [optim.Adam], view=((0.5, 1.5), (0.8, 1.2)))
    axes = figure.axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.5, 1.5), (0.8, 1.2))
    assert "minimum" not in lines(axes)
    oblong = plot_trajectories(problems.beale(), [optim.Adam], view=((0, 4), (0, 0.1)))
    assert oblong.axes[0].get_aspect() == "auto"


def test_pictures_beside_each_other_have_curves_told_apart_and_one_legend():
    figure = plotting.new_figure(8, 3)
    axes = figure.subplots(1, 3)
    curves = axes[0].plot(np.zeros((2, 28)))
    looks = {(line.get_color(), line.get_linestyle()) for line in curves}
    assert len(looks) == 28
    assert {color for color, _ in looks} == set(COLORS)
    way = trajectory(problems.beale(), optim.Adam, 3)
    plot_trajectories(problems.beale(), {"Adam": way}, ax=axes[1], legend=False)
    plot_loss_curves({"Adam": way}, ax=axes[2], legend=False)
    assert not any(panel.get_legend() for panel in axes)
    plot_loss_curves({"Adam": way}, ax=axes[2])
    assert axes[2].get_legend()


def test_it_draws_paths_on_axes_that_are_given():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert plot_trajectories(problems.beale(), RUNS, 3, ax=right) is figure
    assert not left.get_lines()
    assert [text.get_text() for text in right.get_legend().get_texts()][:3] == NAMES
    assert not figure.legends
    sub = Figure().subfigures(1, 2)[0]
    assert plot_trajectories(problems.beale(), RUNS, 3, ax=sub.subplots()) is sub.figure


def test_bad_paths_are_told():
    beale = problems.beale()
    with pytest.raises(TypeError, match="problem: expected a Problem, but got function"):
        plot_trajectories(problems.beale, RUNS)
    with pytest.raises(ValueError, match=r"two variables, but Problem\('Rosenbrock', n=3\) has 3"):
        plot_trajectories(problems.rosenbrock(3), RUNS)
    with pytest.raises(TypeError, match="paths: expected a mapping or a sequence, but got 3"):
        plot_trajectories(beale, 3)
    with pytest.raises(ValueError, match="at least one path"):
        plot_trajectories(beale, {})
    with pytest.raises(ValueError, match=r"a: expected points of shape \(steps \+ 1, 2\).*\(4,\)"):
        plot_trajectories(beale, {"a": np.zeros(4)})
    with pytest.raises(TypeError, match=r"a: expected a Trajectory, an array .* but got str"):
        plot_trajectories(beale, {"a": "Adam"})
    with pytest.raises(ValueError, match="'Rprop' occurs twice"):
        plot_trajectories(beale, [optim.Rprop, optim.Rprop])
    for view in (((1, 0), (0, 1)), (0, 1), "all", ((0, np.inf), (0, 1))):
        with pytest.raises(ValueError, match="view: expected two pairs"):
            plot_trajectories(beale, RUNS, view=view)
    with pytest.raises(TypeError, match="ax: expected the Axes of matplotlib, but got Figure"):
        plot_trajectories(beale, RUNS, ax=Figure())


# Losses


def test_losses_are_drawn():
    problem = problems.saddle()
    found = trajectories(problem, RUNS, 20)
    figure = plot_loss_curves(found, minimum=problem.minimum)
    axes = figure.axes[0]
    for name in NAMES:
        np.testing.assert_array_equal(lines(axes)[name].get_xdata(), np.arange(21))
        np.testing.assert_allclose(lines(axes)[name].get_ydata(), found[name].values + 0.25)
    assert told(figure) == NAMES
    assert axes.get_yscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss + 0.25")
    linear = plot_loss_curves({"a": [3, -1, 2]}, log=False).axes[0]
    assert (linear.get_yscale(), linear.get_ylabel()) == ("linear", "loss")
    np.testing.assert_array_equal(lines(linear)["a"].get_ydata(), [3, -1, 2])


def test_what_has_no_logarithm_is_a_gap():
    (line,) = plot_loss_curves([4, 0, -1, np.nan, np.inf, 2]).axes[0].get_lines()
    np.testing.assert_array_equal(line.get_ydata(), [4, np.nan, np.nan, np.nan, np.nan, 2])


@pytest.mark.parametrize("log", [True, False])
def test_a_curve_that_diverges_does_not_squeeze_the_others(log):
    curves = {"good": [1, 0.5, 0.2], "bad": [1, 1e30, 1e60], "exact": [1, 1e-150, 1e-300]}
    low, high = plot_loss_curves(curves, log=log).axes[0].get_ylim()
    assert 1 < high < 1e3
    assert low < 0.2
    assert not log or low > 1e-25


def test_without_anything_to_be_scaled_it_draws_as_well():
    for losses in ([0.0, 0.0], [np.nan], [-1.0, -2.0]):
        assert png(plot_loss_curves(losses)).startswith(b"\x89PNG")


def test_long_losses_keep_their_extremes():
    losses = np.ones(10**5)
    losses[54321] = 7
    (line,) = plot_loss_curves(losses).axes[0].get_lines()
    assert len(line.get_xdata()) <= POINTS + 2
    assert line.get_xdata()[np.argmax(line.get_ydata())] == 54321


def test_losses_are_drawn_on_axes_that_are_given():
    figure = Figure()
    axes = figure.subplots()
    assert plot_loss_curves({"a": [2, 1]}, ax=axes) is figure
    assert axes.get_legend().get_texts()[0].get_text() == "a"


def test_bad_losses_are_told():
    with pytest.raises(ValueError, match="at least one curve"):
        plot_loss_curves({})
    with pytest.raises(ValueError, match=r"a: expected losses of shape .* but got \(1, 2\)"):
        plot_loss_curves({"a": [[1, 2]]})
    with pytest.raises(ValueError, match=r"expected losses of shape .* but got \(0,\)"):
        plot_loss_curves([])
    with pytest.raises(TypeError, match=r"a: expected a Trajectory or an array of losses.*got str"):
        plot_loss_curves({"a": "x"})
    with pytest.raises(ValueError, match="minimum: expected a number"):
        plot_loss_curves([1, 2], minimum="x")
    with pytest.raises(TypeError, match="ax: expected the Axes"):
        plot_loss_curves([1, 2], ax=3)


# Intermediates


class Recording:
    """What the plots need of a recording."""

    names = ("exp_avg", "denom")
    steps = np.array([10, 20, 30])

    def __getitem__(self, name):
        return {"exp_avg": np.arange(6.0).reshape(3, 2), "denom": np.array([1.0, 1e2, 1e4])}[name]


def test_intermediates_are_drawn():
    recording = Recording()
    figure = plot_intermediates(recording)
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == recording.names
    assert list(lines(above)) == ["[0]", "[1]"]
    for number in (0, 1):
        line = lines(above)[f"[{number}]"]
        np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30])
        np.testing.assert_array_equal(line.get_ydata(), recording["exp_avg"][:, number])
    (line,) = below.get_lines()
    np.testing.assert_array_equal(line.get_ydata(), recording["denom"])
    assert (above.get_yscale(), below.get_yscale()) == ("linear", "log")
    assert below.get_xlabel() == "step"
    assert above.get_legend()
    assert not below.get_legend()


def test_intermediates_can_be_chosen():
    recording = {"a": np.arange(24.0).reshape(4, 2, 3), "b": np.zeros((4, 2, 3)), "c": np.ones(4)}
    figure = plot_intermediates(recording, names=["b", "a"], elements=[(0, 1), (1, np.int64(-1))])
    first, second = figure.axes
    assert (first.get_ylabel(), second.get_ylabel()) == ("b", "a")
    drawn = lines(second)
    assert list(drawn) == ["[0, 1]", "[1, -1]"]
    np.testing.assert_array_equal(drawn["[1, -1]"].get_ydata(), recording["a"][:, 1, -1])
    np.testing.assert_array_equal(drawn["[0, 1]"].get_xdata(), [1, 2, 3, 4])
    assert first.get_legend()
    assert not second.get_legend()  # the same


def test_of_many_elements_the_median_and_the_range_are_drawn():
    values = np.random.default_rng(0).standard_normal((5, 3, 7))
    values[2] = np.nan
    (axes,) = plot_intermediates({"exp_avg": values}).axes
    flat = values.reshape(5, -1)
    np.testing.assert_allclose(lines(axes)["median"].get_ydata(), np.median(flat, axis=1))
    (band,) = axes.collections
    assert band.get_label() == "range of 21 elements"
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    for step in (1, 2, 4, 5):
        heights = corners[corners[:, 0] == step, 1]
        assert heights.min() == flat[step - 1].min()
        assert heights.max() == flat[step - 1].max()


def test_intermediates_are_drawn_on_axes_that_are_given():
    figure = Figure()
    panels = figure.subplots(1, 2)
    assert plot_intermediates(Recording(), ax=panels) is figure
    assert panels[1].get_lines()
    one = Figure().subplots()
    assert plot_intermediates({"a": [1, 2]}, ax=one) is one.figure


def test_bad_recordings_are_told():
    with pytest.raises(KeyError, match="'x' was not recorded; there are exp_avg, denom"):
        plot_intermediates(Recording(), ["x"])
    with pytest.raises(ValueError, match="at least one intermediate"):
        plot_intermediates({})
    with pytest.raises(TypeError, match=r"recording: expected a recording.* but got int"):
        plot_intermediates(3)
    with pytest.raises(TypeError, match="a: expected an array of numbers, but got str"):
        plot_intermediates({"a": "x"})
    with pytest.raises(TypeError, match="a: expected an array with a row for each step"):
        plot_intermediates({"a": 3.0})
    short = Recording()
    short.steps = np.arange(2)
    with pytest.raises(ValueError, match=r"exp_avg: expected 2 steps, as many as .*, but got 3"):
        plot_intermediates(short)
    for wrong in ([5], [(0, 0)], ["x"]):
        with pytest.raises(ValueError, match=r"indices of elements of a, of shape \(2,\)"):
            plot_intermediates({"a": np.ones((3, 2))}, elements=wrong)
    with pytest.raises(ValueError, match="ax: expected 2 axes, one for each name, but got 1"):
        plot_intermediates(Recording(), ax=Figure().subplots())
    with pytest.raises(TypeError, match="ax: expected the Axes of matplotlib, but got int"):
        plot_intermediates({"a": [1]}, ax=[3])


# Effective step sizes


def test_an_effective_step_is_the_change_over_the_gradient():
    params = np.array([[1.0, 1.0], [0.5, 3.0], [0.5, 4.0]])
    grads = np.array([[1.0, -4.0], [2.0, 0.0]])
    axes = plot_step_sizes(params, grads).axes[0]
    np.testing.assert_array_equal(lines(axes)["[0]"].get_ydata(), [0.5, np.nan])  # no logarithm
    np.testing.assert_array_equal(lines(axes)["[1]"].get_ydata(), [0.5, np.nan])  # no gradient
    np.testing.assert_array_equal(lines(axes)["[0]"].get_xdata(), [1, 2])
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel().startswith("effective step size")


def test_of_gradient_descent_it_is_the_learning_rate_and_of_adam_it_is_not():
    found = trajectories(problems.ravine(), RUNS[:2], 30)
    figure = plot_step_sizes(found)
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == NAMES[:2]
    np.testing.assert_allclose(lines(first)["[0]"].get_ydata(), 0.01, rtol=1e-10)
    steps = lines(second)["[1]"].get_ydata()[0], lines(second)["[0]"].get_ydata()[0]
    np.testing.assert_allclose(steps, (0.1 / 100, 0.1 / 4), rtol=1e-6)  # lr / |g|
    assert first.get_shared_y_axes().joined(first, second)
    assert told(figure) == ["[0]", "[1]"]
    assert figure.legends[0].get_title().get_text() == "element"


def test_many_runs_have_a_panel_each():
    way = trajectory(problems.beale(), optim.Adam, 3)
    figure = plot_step_sizes({f"run {number}": way for number in range(4)}, elements=[1])
    assert len([axes for axes in figure.axes if axes.axison]) == 4
    assert all(list(lines(axes)) == ["[1]"] for axes in figure.axes[:4])
    many = np.random.default_rng(0).standard_normal((4, 20))
    way = Trajectory(many, np.zeros(4), np.ones((3, 20)))
    assert told(plot_step_sizes({"a": way, "b": way})) == ["range of 20 elements", "median"]
    number = Trajectory(np.arange(4.0), np.zeros(4), np.ones(3))
    assert not plot_step_sizes({"a": number}).legends


def test_step_sizes_are_drawn_on_axes_that_are_given():
    axes = Figure().subplots()
    way = trajectory(problems.beale(), optim.Adam, 3)
    assert plot_step_sizes(way, ax=axes) is axes.figure
    assert plot_step_sizes(np.arange(3.0), np.ones(2)).axes[0].get_legend() is None  # a number


def test_bad_runs_are_told():
    way = trajectory(problems.beale(), optim.Adam, 3)
    with pytest.raises(ValueError, match=r"run: expected gradients of shape \(3, 2\).*\(2, 2\)"):
        plot_step_sizes(way.points, way.grads[1:])
    with pytest.raises(ValueError, match=r"run: expected gradients of shape \(0, 2\)"):
        plot_step_sizes(way.points[:1], way.grads[:0])
    with pytest.raises(TypeError, match="grads of run: expected an array"):
        plot_step_sizes(way.points, None)
    with pytest.raises(ValueError, match="at least one run"):
        plot_step_sizes({})
    with pytest.raises(ValueError, match="ax and grads: expected with a single run"):
        plot_step_sizes({"a": way}, ax=Figure().subplots())


# Animations


def test_an_animation_shows_the_steps_one_after_the_other():
    problem = problems.himmelblau()
    found = trajectories(problem, RUNS[:2], 30) | {"short": np.array([[0.0, 0], [1, 1]])}
    film = animate(problem, found, frames=4)
    figure = film._fig
    axes = figure.axes[0]
    assert list(film.new_frame_seq()) == [0, 10, 20, 30]
    assert told(figure) == [*NAMES[:2], "short", "minimum"]
    for step in (20, 10):
        film._func(step)
        assert axes.get_title(loc="right") == f"step {step}"
        drawn = lines(axes)
        for name in NAMES[:2]:
            np.testing.assert_array_equal(drawn[name].get_xydata(), found[name].points[: step + 1])
            assert all(place <= step for place in drawn[name].get_markevery())
        heads = [line for line in axes.get_lines() if line.get_label().startswith("_")]
        expected = [*(found[name].points[step] for name in NAMES[:2]), [1, 1]]
        np.testing.assert_array_equal([head.get_xydata()[0] for head in heads], expected)


def test_there_are_never_more_frames_than_asked_for():
    for steps, frames, count in ((1000, 50, 50), (3, 50, 4)):
        film = animate(problems.beale(), [optim.Adam], steps, frames=frames)
        assert len(list(film.new_frame_seq())) == count


def test_a_gif_is_small_and_has_the_frames(tmp_path):
    film = animate(problems.himmelblau(), RUNS, 40, frames=8, fps=10)
    file = film.to_gif(tmp_path / "paths.gif")
    assert file == tmp_path / "paths.gif"
    with Image.open(file) as image:
        assert image.format == "GIF"
        assert image.n_frames == 8
        assert image.info["duration"] == 100
    assert file.stat().st_size < 8 * 40_000
    with pytest.raises(ValueError, match=r"expected a file that ends in \.gif, but got 'a\.mp4'"):
        film.to_gif("a.mp4")


def test_without_ffmpeg_the_html_holds_frames(monkeypatch):
    monkeypatch.setattr("matplotlib.animation.FFMpegWriter.isAvailable", lambda: False)
    film = animate(problems.himmelblau(), RUNS, 40, frames=5)
    assert film.html5_kind == "frames"
    html = film._repr_html_()
    assert html is film.to_html5()  # made once
    frames = re.findall(r'frames\[(\d+)\] = "data:image/png;base64', html)
    assert frames == ["0", "1", "2", "3", "4"]
    assert len(html) < 5 * 60_000 + 20_000  # of which 20,000 are the buttons and their code


def test_with_ffmpeg_the_html_is_a_video(monkeypatch):
    monkeypatch.setattr("matplotlib.animation.FFMpegWriter.isAvailable", lambda: True)
    film = animate(problems.beale(), RUNS, 3, frames=2)
    monkeypatch.setattr(film, "to_html5_video", lambda: "<video>")
    assert (film.html5_kind, film.to_html5()) == ("video", "<video>")


def test_bad_animations_are_told():
    with pytest.raises(ValueError, match="frames: expected an integer that is at least 2"):
        animate(problems.beale(), RUNS, frames=1)
    with pytest.raises(ValueError, match="fps: expected a positive integer"):
        animate(problems.beale(), RUNS, fps=0)
    with pytest.raises(ValueError, match="view: expected two pairs"):
        animate(problems.beale(), RUNS, view=3)


# Figures


def figures():
    way = trajectory(problems.beale(), optim.Adam, 5)
    return {
        "trajectories": lambda **ax: plot_trajectories(problems.beale(), way, **ax),
        "losses": lambda **ax: plot_loss_curves(way, **ax),
        "intermediates": lambda **ax: plot_intermediates({"a": way.grads}, **ax),
        "step sizes": lambda **ax: plot_step_sizes(way, **ax),
    }


@pytest.mark.parametrize("kind", figures())
def test_a_figure_shows_itself_and_is_always_the_same(kind):
    figure = figures()[kind]()
    png = figure._repr_png_()
    assert png == figures()[kind]()._repr_png_()
    picture, plain = Image.open(io.BytesIO(png)), io.BytesIO()
    assert (picture.format, picture.mode) == ("PNG", "P")  # a palette, which is not seen
    figure.savefig(plain, dpi=110)
    reduced, full = (
        np.asarray(image.convert("RGB"), float) for image in (picture, Image.open(plain))
    )
    assert np.abs(reduced - full).max() < 0.1 * 255
    assert (
        np.ptp(reduced[np.ptp(full, axis=-1) == 0], axis=-1).max() < 0.03 * 255
    )  # grey stays grey
    assert len(png) < 0.5 * len(plain.getvalue())


@pytest.mark.parametrize("kind", figures())
def test_axes_of_pyplot_will_do(kind):
    from matplotlib import pyplot as plt

    plt.switch_backend("agg")
    figure, axes = plt.subplots()
    assert figures()[kind](ax=axes) is figure
    plt.close(figure)


def test_nothing_goes_through_pyplot():
    code = """if True:
        import sys, numpy as np, arrayopt as optim
        from arrayopt import plotting, problems
        runs = plotting.trajectories(problems.beale(), [optim.Adam, optim.SGD], 5)
        plotting.plot_trajectories(problems.beale(), runs)._repr_png_()
        plotting.plot_loss_curves(runs)._repr_png_()
        plotting.plot_step_sizes(runs)._repr_png_()
        plotting.plot_intermediates({"a": runs["Adam"].grads})._repr_png_()
        plotting.animate(problems.beale(), runs, frames=2)
        print("matplotlib.pyplot" in sys.modules)
    """
    assert python(code) == "False"


@pytest.fixture
def without_matplotlib(monkeypatch):
    import_module = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_it_tells_what_to_install():
    way = trajectory(problems.beale(), optim.Adam, 3)  # which needs none
    for draw in (
        lambda: plot_schedule(lr_scheduler.StepLR(make(), 3), 5),
        lambda: plot_trajectories(problems.beale(), way),
        lambda: plot_loss_curves(way),
        lambda: plot_intermediates({"a": way.grads}),
        lambda: plot_step_sizes(way),
        lambda: plot_step_sizes({"a": way}),
        lambda: animate(problems.beale(), way),
    ):
        with pytest.raises(ImportError, match=r"pip install 'arrayopt\[plot\]'"):
            draw()
