"""What happens to the elements of a parameter: intermediates of a rule, and effective steps."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.plotting.style import check_axes, draw_curve, figure_of, new_axes, new_figure, tidy
from arrayopt.problems.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_intermediates", "plot_step_sizes"]

#: Legends, and those within axes.
_SMALL: dict[str, Any] = {"fontsize": "small", "title_fontsize": "small", "handlelength": 3.4}
_FAINT: dict[str, Any] = _SMALL | {"framealpha": 0.85, "edgecolor": "none"}

#: Of more elements than these, the median and the range are drawn.
MOST = 7

#: What an effective step size is.
SIZE = r"effective step size, $|\Delta\theta|\,/\,|g|$"

#: Positive values that span so much have a logarithmic axis.
SPAN = 1e3


def plot_intermediates(
    recording: Any,
    names: Iterable[str] | None = None,
    elements: Sequence[Any] | None = None,
    *,
    ax: Sequence[Axes] | Axes | None = None,
) -> Figure:
    """Draw intermediates of a rule over the steps, one above the other.

    Each element of the parameter has a curve; of more than seven, the median and the range are
    drawn. Where all values are positive and span three decades, the axis is logarithmic.

    Parameters
    ----------
    recording : recording, or mapping of str to array
        The arrays have shape ``(steps, *shape)``, or ``(steps,)`` for numbers. A recording has
        `names`, `steps` and ``recording[name]``; the steps of a mapping are 1, 2, ….
    names : iterable of str, optional
        Which, by default all.
    elements : sequence of int or tuple of int, optional
        Which elements to draw, by their indices.
    ax : sequence of matplotlib Axes, optional
        Where to draw, one for each name; by default on a new figure.

    Returns
    -------
    matplotlib Figure
        That of the axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    KeyError
        If a name was not recorded.
    TypeError
        If `recording` is neither, holds no numbers, or `ax` is no axes.
    ValueError
        If there is nothing to draw, a length is wrong, or an index is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> recording = {"exp_avg": np.ones((5, 2)), "bias_correction": 1 - 0.9 ** np.arange(1, 6)}
    >>> figure = plot_intermediates(recording)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['exp_avg', 'bias_correction']
    """
    recorded = _recorded(recording)
    wanted = list(recorded) if names is None else list(names)
    for name in wanted:
        if name not in recorded:
            raise KeyError(f"{name!r} was not recorded; there are {', '.join(recorded)}")
    if not wanted:
        raise ValueError("names: expected at least one intermediate, but got none")
    panels = _panels(ax, len(wanted))
    steps = getattr(recording, "steps", None)
    told: set[tuple[str, ...]] = set()
    for panel, name in zip(panels, wanted):
        values = _numbers(recorded[name], name)
        own_steps = np.arange(1, len(values) + 1) if steps is None else np.asarray(steps)
        if own_steps.shape != (len(values),):
            raise ValueError(
                f"{name}: expected {own_steps.size} steps, as many as were recorded, but got "
                f"{len(values)}"
            )
        _draw_elements(panel, own_steps, values, elements, name)
        panel.set_ylabel(name)
        positive = values[np.isfinite(values)]
        if positive.size and positive.min() > 0 and positive.max() > SPAN * positive.min():
            panel.set_yscale("log")
        labels = tuple(panel.get_legend_handles_labels()[1])
        legend = panel.get_legend()
        if legend and labels in told:  # as above
            legend.remove()
        told |= {labels} if labels else set()
    panels[-1].set_xlabel("step")
    return figure_of(panels[0])


def plot_step_sizes(
    run: Any,
    grads: Any = None,
    elements: Sequence[Any] | None = None,
    *,
    ax: Axes | None = None,
) -> Figure:
    r"""Draw the effective step size of each element, :math:`|\theta_t - \theta_{t-1}| / |g_t|`.

    It is how far an element has moved for its gradient: the learning rate, in plain gradient
    descent, and what an adaptive algorithm has made of it. Where a gradient is zero, or either is
    not finite, there is a gap.

    Parameters
    ----------
    run : Trajectory, mapping of str to Trajectory, or array, shape (steps + 1, \*shape)
        A run; several, each of which has a panel; or the values of a parameter before and after
        each step.
    grads : array, shape (steps, \*shape), optional
        The gradients of each step, if `run` is an array.
    elements : sequence of int or tuple of int, optional
        Which elements to draw, by their indices. By default, all up to seven; of more, the median
        and the range.
    ax : matplotlib Axes, optional
        Where to draw, if there is one run; by default on a new figure.

    Returns
    -------
    matplotlib Figure
        That of the axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If something holds no numbers, or `ax` is no axes.
    ValueError
        If shapes do not fit together, or there are axes for more than one run.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import ravine, trajectory
    >>> figure = plot_step_sizes(trajectory(ravine(), optim.SGD, 10, lr=0.005))
    >>> [bool(abs(line.get_ydata() - 0.005).max() < 1e-12) for line in figure.axes[0].get_lines()]
    [True, True]
    """
    check_axes(ax)
    if not isinstance(run, Mapping):
        ax = new_axes(6.4, 3.4) if ax is None else ax
        _draw_sizes(ax, run, grads, elements, "run")
        return figure_of(ax)
    if not run:
        raise ValueError("run: expected at least one run, but got none")
    if ax is not None or grads is not None:
        raise ValueError("ax and grads: expected with a single run, but got a mapping of runs")
    return _step_size_panels(run, elements)


def _step_size_panels(runs: Mapping[str, Any], elements: Any) -> Figure:
    """A panel for each run, all to the same scale."""
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure = new_figure(1.8 + 2.6 * columns, 0.8 + 1.9 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for number, (panel, (name, run)) in enumerate(zip(panels, runs.items())):
        _draw_sizes(panel, run, None, elements, name)
        panel.set(xlabel="", ylabel="")
        panel.set_title(name, loc="left", fontsize="small")
        if number + columns >= len(runs):
            panel.tick_params(labelbottom=True)
        if legend := panel.get_legend():
            legend.remove()
    for panel in panels[len(runs) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    if labels:
        title = "element" if labels[0].startswith("[") else None
        places: dict[str, Any] = {"loc": "outside right upper", "title": title}
        figure.legend(handles, labels, frameon=False, **_SMALL, **places)
    figure.supxlabel("step", fontsize="medium")
    figure.supylabel(SIZE, fontsize="medium")
    return figure


def _draw_sizes(ax: Axes, run: Any, grads: Any, elements: Any, name: str) -> None:
    """The effective steps of one run."""
    if isinstance(run, Trajectory):
        run, grads = run.points, run.grads
    points, slopes = _numbers(run, name), _numbers(grads, f"grads of {name}")
    if slopes.shape != (len(points) - 1, *points.shape[1:]) or not len(slopes):
        raise ValueError(
            f"{name}: expected gradients of shape {(len(points) - 1, *points.shape[1:])}, one for "
            f"each step between points of shape {points.shape}, but got {slopes.shape}"
        )
    with np.errstate(all="ignore"):
        sizes = np.abs(np.diff(points, axis=0)) / np.abs(slopes)
    sizes[~np.isfinite(sizes) | (sizes <= 0)] = np.nan
    ax.set_yscale("log")
    _draw_elements(ax, np.arange(1, len(sizes) + 1), sizes, elements, name)
    ax.set_xlabel("step")
    ax.set_ylabel(SIZE)


def _draw_elements(ax: Axes, steps: Any, values: Any, elements: Any, name: str) -> None:
    """A curve for each element, or the median and the range of many."""
    tidy(ax)
    ax.margins(x=0.01)
    if values.ndim == 1:
        return draw_curve(ax, steps, values, 0, None, marker=None)
    shape = values.shape[1:]
    if elements is None and np.prod(shape) > MOST:
        return _draw_range(ax, steps, values.reshape(len(values), -1))
    chosen = (
        [*np.ndindex(shape)] if elements is None else [_index(i, shape, name) for i in elements]
    )
    for number, index in enumerate(chosen):
        label = ", ".join(map(str, index))
        draw_curve(ax, steps, values[:, *index], number, f"[{label}]")
    ax.legend(title="element", ncols=2, **_FAINT)
    return None


def _draw_range(ax: Axes, steps: Any, values: Any) -> None:
    """The median of many elements, and the range that they are in."""
    known = np.isfinite(values).any(axis=1)
    low, middle, high = np.full((3, len(values)), np.nan)
    seen = np.where(np.isfinite(values), values, np.nan)[known]
    low[known], middle[known], high[known] = np.nanquantile(seen, [0.0, 0.5, 1.0], axis=1)
    count = values.shape[1]
    ax.fill_between(steps, low, high, color="0.8", linewidth=0, label=f"range of {count} elements")
    draw_curve(ax, steps, middle, 0, "median", marker=None)
    ax.legend(**_FAINT)


def _index(index: Any, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """An index of one element, checked."""
    try:
        place = tuple(operator.index(i) for i in (index if isinstance(index, tuple) else (index,)))
        fine = len(place) == len(shape) and all(
            -length <= i < length for i, length in zip(place, shape)
        )
    except TypeError:
        fine = False
    if not fine:
        raise ValueError(
            f"elements: expected indices of elements of {name}, of shape {shape}, but got {index!r}"
        )
    return place


def _recorded(recording: Any) -> dict[str, Any]:
    if isinstance(recording, Mapping):
        return dict(recording)
    if not (hasattr(recording, "names") and hasattr(recording, "__getitem__")):
        raise TypeError(
            "recording: expected a recording, or a mapping of names to arrays, but got "
            f"{type(recording).__name__}"
        )
    return {name: recording[name] for name in recording.names}


def _numbers(values: Any, name: str) -> Any:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected an array of numbers, but got {type(values).__name__}"
        ) from None
    if array.ndim < 1:
        raise TypeError(f"{name}: expected an array with a row for each step, but got {values!r}")
    return array


def _panels(ax: Any, count: int) -> list[Axes]:
    """Axes one above the other."""
    if ax is None:
        figure = new_figure(6.4, 0.7 + 1.5 * count)
        return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    panels = list(np.ravel(ax))
    for panel in panels:
        check_axes(panel)
    if len(panels) != count:
        raise ValueError(f"ax: expected {count} axes, one for each name, but got {len(panels)}")
    return panels
