"""Paths in the plane: reading them, and where they are marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from arrayopt.namespace import is_array
from arrayopt.problems.problem import Problem
from arrayopt.problems.trajectory import Trajectory, trajectories

__all__ = ["exit_point", "inside", "marked_steps", "paths_on", "view_of"]

#: How far apart the markers on a path are, as a part of the size of the picture, and how many there
#: are at most, or about.
SPACING, MARKERS = 0.22, 6


def paths_on(problem: Any, paths: Any, steps: int) -> dict[str, Any]:
    """The points of each path, by name; those that are still to be run are run.

    Parameters
    ----------
    problem : Problem
        Of two variables.
    paths : path, mapping of str to path, or sequence of paths
        As `plot_trajectories` takes them.
    steps : int
        How many steps those take that are run.

    Returns
    -------
    dict of str to array, shape (steps + 1, 2)

    Raises
    ------
    TypeError
        If something is no problem, or no path.
    ValueError
        If the problem has not two variables, a path another shape, or there is none.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a Problem, but got {type(problem).__name__}")
    if problem.n != 2:
        raise ValueError(f"problem: expected two variables, but {problem!r} has {problem.n}")
    if isinstance(paths, Trajectory) or is_array(paths):
        paths = {"path": paths}
    if not isinstance(paths, Iterable):
        raise TypeError(f"paths: expected a mapping or a sequence, but got {paths!r}")
    named = isinstance(paths, Mapping)
    entries = paths.items() if isinstance(paths, Mapping) else enumerate(paths, 1)
    found: dict[str, Any] = {}
    for key, path in entries:
        name = str(key) if named else f"path {key}"
        if _is_run(path):
            runs = trajectories(problem, {name: path} if named else [path], steps)
            ((name, path),) = runs.items()
        if name in found:
            raise ValueError(f"paths: expected different names, but {name!r} occurs twice")
        found[name] = _points(path, name)
    if not found:
        raise ValueError("paths: expected at least one path, but got none")
    return found


def _is_run(path: Any) -> bool:
    """Whether this is an optimizer that is to be run."""
    return callable(path) or (isinstance(path, tuple) and len(path) == 2 and callable(path[0]))


def _points(path: Any, name: str) -> Any:
    points = path.points if isinstance(path, Trajectory) else path
    try:
        points = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected a Trajectory, an array of points, an optimizer class or a pair of "
            f"one and a dict of options, but got {type(path).__name__}"
        ) from None
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"{name}: expected points of shape (steps + 1, 2), but got {points.shape}")
    return points


def view_of(problem: Problem, view: Any) -> Any:
    """The part of the plane that is shown, as an array of two pairs (low, high).

    Raises
    ------
    ValueError
        If `view` is given, and is something else.
    """
    if view is None:
        return problem.domain
    try:
        limits = np.array(view, np.float64)
        fine = limits.shape == (2, 2) and bool(np.isfinite(limits).all())
    except (TypeError, ValueError):
        fine = False
    if not fine or not (limits[:, 0] < limits[:, 1]).all():
        raise ValueError(f"view: expected two pairs (low, high), but got {view!r}")
    return limits


def inside(points: Any, limits: Any) -> Any:
    """Which points are seen."""
    return ((points >= limits[:, 0]) & (points <= limits[:, 1])).all(axis=1)


def marked_steps(points: Any, limits: Any, number: int) -> list[int]:
    """At which steps there is a marker: at equal distances, and where another path has none.

    Parameters
    ----------
    points : array, shape (steps + 1, 2)
    limits : array, shape (2, 2)
        The part that is seen.
    number : int
        That of the path.
    """
    seen = np.flatnonzero(inside(points, limits))
    if len(seen) < 2:
        return []
    moves = np.diff(points[seen], axis=0) / np.diff(limits, axis=1)[:, 0]
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*moves.T))])
    spacing = max(SPACING, way[-1] / MARKERS)
    first = spacing * (0.35 + 0.65 * (number * 0.618 % 1))  # golden: evenly spread for any number
    places = np.searchsorted(way, np.arange(first, way[-1], spacing))
    return [int(step) for step in np.unique(seen[places])]


def exit_point(points: Any, limits: Any) -> Any:
    """Where a path leaves the picture for good, on its edge; None if it ends within.

    Parameters
    ----------
    points : array, shape (steps + 1, 2)
    limits : array, shape (2, 2)
        The part that is seen.
    """
    seen = np.flatnonzero(inside(points, limits))
    if not len(seen) or seen[-1] == len(points) - 1:
        return None
    here, there = points[seen[-1]], points[seen[-1] + 1]
    if not np.isfinite(there).all():
        return here
    move = there - here
    edge = np.where(move > 0, limits[:, 1], limits[:, 0])
    ways = np.divide(edge - here, move, out=np.full(2, np.inf), where=move != 0)
    return here + min(1.0, float(ways.min())) * move
