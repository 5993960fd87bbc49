"""Paths on a function of two variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.plotting.paths import exit_point, inside, marked_steps, paths_on, view_of
from arrayopt.plotting.style import above, check_axes, figure_of, look, new_axes, side_legend
from arrayopt.problems.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_end", "draw_path", "draw_surface", "levels", "plot_trajectories", "surface_axes"]

#: At least and at most so many points of the grid along each axis; between, one for so many dots.
COARSE, GRID, DOTS = 101, 301, 1.5

#: How dark the highest parts are, so that paths stand out.
DARKEST = 0.36

#: One side may be so many times as long as the other, and both still have the same scale.
MOST_OBLONG = 3.5

#: Yellow of Okabe and Ito, which shows with a black edge.
_MINIMUM: dict[str, Any] = {"color": "#F0E442", "marker": "*", "markersize": 13}
_START: dict[str, Any] = {"color": "white", "marker": "o", "markersize": 8}
_EXIT: dict[str, Any] = {"marker": "X", "markersize": 8, "clip_on": False}
_MARK: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "black", "markeredgewidth": 0.8}


def plot_trajectories(
    problem: Problem,
    paths: Any,
    steps: int = 100,
    *,
    view: Any = None,
    colorbar: bool = True,
    legend: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw the paths of optimizers on the contours of a problem.

    A path has a marker at its end, and some on the way. Contours are 1, 3, 10, 30, … above the
    minimum where the function spans two decades, and evenly spaced where it does not.

    Parameters
    ----------
    problem : Problem
        Of two variables.
    paths : mapping of str to path, or sequence of paths
        A path is a `Trajectory`, an array of shape (steps + 1, 2), an optimizer class, or a pair of
        a class and a dict of options; the latter are run first. A single `Trajectory` or array will
        do as well.
    steps : int, default 100
        How many steps those take that are run.
    view : pair of pairs (low, high), optional
        The part to be shown, by default the domain of the problem. Where a path leaves it for good,
        there is a cross.
    colorbar : bool, default True
        Whether to tell the values of the contours.
    legend : bool, default True
        Whether to tell the paths: of several pictures beside each other, one may be enough.
    ax : matplotlib Axes, optional
        Where to draw; by default on a new figure, with the legend beside.

    Returns
    -------
    matplotlib Figure
        That of the axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If something is no problem, no path or no axes.
    ValueError
        If the problem has not two variables, a path another shape, or there is none.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import himmelblau
    >>> figure = plot_trajectories(himmelblau(), {"Adam": (optim.Adam, {"lr": 0.1})}, steps=80)
    >>> figure.axes[0].get_title(loc="left")
    'Himmelblau'
    """
    check_axes(ax)
    found = paths_on(problem, paths, steps)
    limits, own = view_of(problem, view), ax is None
    ax = surface_axes(limits, len(found)) if ax is None else ax
    minima = draw_surface(ax, problem, limits, colorbar)
    lines, exits = [], []
    for number, (name, points) in enumerate(found.items()):
        lines.append(draw_path(ax, name, points, number, limits))
        draw_end(ax, points, number)
        exits += _draw_exit(ax, points, number, limits)
    starts = np.unique([points[0] for points in found.values()], axis=0)
    start = ax.plot(*starts.T, **_MARK, **_START, zorder=6, label="start")
    if legend:
        side_legend(ax, [*lines, *start, *minima, *exits[:1]], own)
    return figure_of(ax)


def surface_axes(limits: Any, paths: int) -> Axes:
    """New axes for this part of the plane and a legend of so many paths."""
    width, height = np.ptp(limits, axis=1)
    oblong = width / height if 1 / MOST_OBLONG <= width / height <= MOST_OBLONG else 1.25
    tall = min(4.8, max(3.0, 5.4 / oblong, 1.0 + 0.19 * (paths + 3)))
    return new_axes(min(6.0, tall * oblong) + 3.0, tall)


def draw_surface(ax: Axes, problem: Problem, limits: Any, colorbar: bool) -> list[Any]:
    """Draw the contours and the minima of a problem; return what stands for the minima."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

    points = int(np.clip(max(ax.bbox.size) / DOTS, COARSE, GRID))
    x, y = (np.linspace(low, high, points) for low, high in limits)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    height = np.asarray(problem.fun(grid)) - problem.minimum
    steps, logarithmic = levels(height)
    greys = LinearSegmentedColormap.from_list("greys", ["1.0", str(1 - DARKEST)])
    norm = (LogNorm if logarithmic else Normalize)(steps[0], steps[-1])
    drawn = np.clip(height, steps[0], steps[-1])
    filled = ax.contourf(x, y, drawn, steps, cmap=greys, norm=norm)
    ax.contour(x, y, drawn, steps[1:-1], colors="0.45", linewidths=0.5)
    if colorbar:
        place = ax.inset_axes((1.02, 0, 0.03, 1))  # as tall as the axes, whatever their aspect
        bar = figure_of(ax).colorbar(filled, cax=place, ticks=steps, format="%g")
        bar.minorticks_off()
        place.tick_params(labelsize="small")
        place.set_title(above("f(x)", problem.minimum), loc="left", fontsize="small")
    ax.set(xlim=limits[0], ylim=limits[1], xlabel="$x_1$", ylabel="$x_2$")
    width, tall = np.ptp(limits, axis=1)
    if 1 / MOST_OBLONG <= width / tall <= MOST_OBLONG:
        ax.set_aspect("equal")
    ax.set_title(problem.name, loc="left", fontsize="medium")
    minima = problem.minima[inside(problem.minima, limits)]
    return ax.plot(*minima.T, **_MARK, **_MINIMUM, zorder=5, label="minimum") if len(minima) else []


def levels(height: Any) -> tuple[Any, bool]:
    """The values at which contours are drawn, and whether they are spaced logarithmically.

    Parameters
    ----------
    height : array
        Values above the minimum, some of which may not be finite.
    """
    from matplotlib.ticker import MaxNLocator

    positive = height[np.isfinite(height) & (height > 0)]
    if not positive.size:
        return np.array([0.0, 1.0]), False
    low, high = np.quantile(positive, [0.005, 1.0])
    if high < 100 * low:
        return MaxNLocator(10).tick_values(0, high), False
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = np.outer(10.0**decades, [1, 3]).ravel()
    first, last = np.searchsorted(steps, [low, high])
    return steps[max(0, first - 1) : last + 1], True


def draw_path(ax: Axes, name: str, points: Any, number: int, limits: Any) -> Any:
    """The line of a path, with some markers on it."""
    drawn = np.where(np.isfinite(points).all(axis=1, keepdims=True), points, np.nan)
    (line,) = ax.plot(
        *drawn.T,
        **look(number),
        label=name,
        linewidth=1.7,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        markevery=marked_steps(points, limits, number),
        zorder=3,
    )
    return line


def draw_end(ax: Axes, points: Any, number: int) -> Any:
    """The marker of where a path has come to, which is not seen outside the picture."""
    style = look(number) | {"linestyle": "none", "markersize": 7.5}
    (mark,) = ax.plot(*points[-1:].T, **(_MARK | style), zorder=7)
    return mark


def _draw_exit(ax: Axes, points: Any, number: int, limits: Any) -> list[Any]:
    """A cross where a path leaves for good, if it does."""
    place = exit_point(points, limits)
    if place is None:
        return []
    style = _MARK | _EXIT | {"color": look(number)["color"]}
    return ax.plot(*place[:, None], **style, zorder=8, label="leaves the picture")
