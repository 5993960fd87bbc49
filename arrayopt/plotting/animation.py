"""Paths that grow step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.options import check_integer
from arrayopt.plotting.paths import paths_on, view_of
from arrayopt.plotting.style import figure_of, side_legend
from arrayopt.plotting.surface import draw_end, draw_path, draw_surface, surface_axes
from arrayopt.problems.problem import Problem

if TYPE_CHECKING:
    from arrayopt.plotting.film import Film

__all__ = ["animate"]


def animate(
    problem: Problem,
    paths: Any,
    steps: int = 100,
    *,
    frames: int = 50,
    fps: int = 12,
    view: Any = None,
    colorbar: bool = True,
) -> Film:
    """Animate the paths of optimizers on the contours of a problem.

    In a notebook, the animation shows itself; ``animate(…).to_gif("paths.gif")`` writes a file, and
    ``to_html5()`` returns HTML: a video where ffmpeg is installed, or else single frames with
    buttons, as its attribute `html5_kind` tells.

    Parameters
    ----------
    problem : Problem
        Of two variables.
    paths : mapping of str to path, or sequence of paths
        As `plot_trajectories` takes them. All begin together; a shorter one waits at its end.
    steps : int, default 100
        How many steps those take that are run.
    frames : int, default 50
        At most so many frames, spread evenly over the steps, the first and the last among them. It
        bounds the size: a GIF or HTML of 50 frames is about a megabyte or two.
    fps : int, default 12
        Frames per second.
    view : pair of pairs (low, high), optional
        The part to be shown, by default the domain of the problem.
    colorbar : bool, default True
        Whether to tell the values of the contours.

    Returns
    -------
    matplotlib FuncAnimation
        With `to_gif`, `to_html5` and `html5_kind`.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If something is no problem, or no path.
    ValueError
        If the problem has not two variables, a path another shape, or a number is out of its range.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import himmelblau
    >>> film = animate(himmelblau(), [(optim.Adam, {"lr": 0.1}), optim.Rprop], frames=5)
    >>> film.to_gif("paths.gif")  # doctest: +SKIP
    """
    frames, fps = check_integer("frames", frames, 2), check_integer("fps", fps, 1)
    found = paths_on(problem, paths, steps)
    limits = view_of(problem, view)
    ax = surface_axes(limits, len(found))
    from arrayopt.plotting.film import Film

    minima = draw_surface(ax, problem, limits, colorbar)
    lines = [draw_path(ax, *item, n, limits) for n, item in enumerate(found.items())]
    heads = [draw_end(ax, points, n) for n, points in enumerate(found.values())]
    side_legend(ax, [*lines, *minima])
    count = ax.set_title("", loc="right", fontsize="medium")
    marks = [line.get_markevery() for line in lines]
    last = max(map(len, found.values())) - 1

    def draw(step: int) -> list[Any]:
        for points, line, dot, places in zip(found.values(), lines, heads, marks):
            line.set_data(*points[: step + 1].T)
            line.set_markevery([place for place in places if place <= step])
            dot.set_data(*points[step : step + 1].T if step < len(points) else points[-1:].T)
        count.set_text(f"step {step}")
        return [*lines, *heads, count]

    draw(last)
    figure = figure_of(ax)
    figure.draw_without_rendering()  # the layout is found once, and stays
    figure.set_layout_engine("none")
    shown = np.unique(np.linspace(0, last, frames).round().astype(int))
    return Film(figure, draw, [int(step) for step in shown], fps)
