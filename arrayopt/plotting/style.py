"""How all pictures look. Importing this does not import matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.lr_scheduler.curve import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayopt.plotting.picture import Picture

__all__ = [
    "COLORS",
    "MARKERS",
    "POINTS",
    "STYLES",
    "above",
    "check_axes",
    "draw_curve",
    "figure_of",
    "look",
    "new_axes",
    "new_figure",
    "side_legend",
    "tidy",
]

#: Okabe and Ito (2008), for all kinds of colour vision, without the yellow, faint on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>PX*hpd"

#: Of more steps than these, only the extremes are drawn: a picture has no more points.
POINTS = 2000


def look(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of a curve; 28 of them differ even without the marker.

    Parameters
    ----------
    number : int
        That of the curve.

    Returns
    -------
    dict
        Keywords of a line.
    """
    return {
        "color": COLORS[number % len(COLORS)],
        "linestyle": STYLES[number % len(STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def new_figure(width: float, height: float) -> Picture:
    """An empty figure that shows itself in a notebook, without pyplot.

    Its axes draw curves in colours that are safe for all kinds of colour vision, and in dashes.

    Parameters
    ----------
    width, height : float
        In inches.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed; it names the command that installs it.

    Examples
    --------
    Pictures side by side:

    >>> import arrayopt as optim
    >>> from arrayopt import plotting
    >>> from arrayopt.problems import beale, trajectory
    >>> path = trajectory(beale(), optim.Adam, 100, lr=0.1)
    >>> figure = new_figure(9, 3.2)
    >>> left, right = figure.subplots(1, 2)
    >>> _ = plotting.plot_trajectories(beale(), path, ax=left)
    >>> _ = plotting.plot_loss_curves(path, ax=right)
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'arrayopt[plot]'") from error
    from arrayopt.plotting.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


def new_axes(width: float = 6.4, height: float = 3.6) -> Axes:
    """Axes that fill a figure of so many inches."""
    return new_figure(width, height).subplots()


def figure_of(axes: Axes) -> Figure:
    """The figure of axes, or of the subfigure that they are in."""
    return axes.figure.figure


def check_axes(ax: Any) -> None:
    """Raise a TypeError if `ax` is given, and no axes."""
    if ax is not None and not (hasattr(ax, "plot") and hasattr(ax, "figure")):
        raise TypeError(f"ax: expected the Axes of matplotlib, but got {type(ax).__name__}")


def above(name: str, minimum: float) -> str:
    """What a label calls the difference to a minimum.

    Examples
    --------
    >>> above("loss", 0.0), above("loss", -0.25), above("loss", 3.0)
    ('loss', 'loss + 0.25', 'loss − 3')
    """
    sign = "−" if minimum > 0 else "+"
    return f"{name} {sign} {abs(minimum):g}" if minimum else name


def tidy(axes: Axes) -> None:
    """A faint grid behind the curves, and no frame where nothing is told."""
    axes.grid(color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw_curve(
    axes: Axes, steps: Any, values: Any, number: int, label: str | None, **settings: Any
) -> None:
    """Draw values over steps, with some markers, which differ in place from curve to curve.

    Parameters
    ----------
    axes : matplotlib Axes
    steps, values : array of shape (n,)
        Of very many, the extremes of each part are drawn.
    number : int
        That of the curve.
    label : str, optional
        Its name.
    **settings
        Further keywords of the line.
    """
    kept = shown(values, POINTS)
    spacing = max(1, len(kept) // 7)
    every = (number % spacing, spacing)
    settings = {"linewidth": 1.6, "markersize": 5, "markevery": every, **look(number), **settings}
    axes.plot(np.asarray(steps)[kept], np.asarray(values)[kept], label=label, **settings)


def side_legend(axes: Axes, handles: Sequence[Any] | None = None, own: bool = True) -> None:
    """A legend: beside axes that have a figure to themselves, or else within.

    Parameters
    ----------
    axes : matplotlib Axes
    handles : sequence, optional
        What is told; by default all that has a label.
    own : bool, default True
        Whether the figure is ours.
    """
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    if not handles:
        return
    settings: Mapping[str, Any] = {"handles": handles, "fontsize": "small", "handlelength": 3.4}
    if own:
        axes.figure.legend(loc="outside right center", frameon=False, **settings)
    else:
        axes.legend(loc="best", framealpha=0.85, edgecolor="none", **settings)
