"""Losses over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.options import check_number
from arrayopt.plotting.style import (
    above,
    check_axes,
    draw_curve,
    figure_of,
    new_axes,
    side_legend,
    tidy,
)
from arrayopt.problems.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_loss_curves"]

#: A curve that rises to so many times the largest first value leaves the picture.
HIGHEST = 10

#: How far below the largest value a logarithmic picture goes.
LOWEST = 1e-20


def plot_loss_curves(
    curves: Any,
    *,
    log: bool = True,
    minimum: float = 0.0,
    legend: bool = True,
    ax: Axes | None = None,
) -> Figure:
    """Draw losses over the steps.

    A curve that diverges leaves the picture, so that it does not squeeze the others. Of very many
    steps, the extremes of each part are drawn.

    Parameters
    ----------
    curves : mapping of str to curve, or a single curve
        A curve is a `Trajectory`, or an array of the losses after 0, 1, … steps.
    log : bool, default True
        Whether the axis of the loss is logarithmic. What is not positive is a gap then.
    minimum : float, default 0
        What is subtracted: ``problem.minimum``.
    legend : bool, default True
        Whether to tell the curves: of several pictures beside each other, one may be enough.
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
        If a curve holds no numbers, or `ax` is no axes.
    ValueError
        If there is no curve, or one is empty or of another shape.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import ravine, trajectories
    >>> runs = [(optim.SGD, {"lr": 0.01}), (optim.Adam, {"lr": 0.1})]
    >>> figure = plot_loss_curves(trajectories(ravine(), runs))
    >>> [line.get_label() for line in figure.axes[0].get_lines()]
    ['SGD (lr=0.01)', 'Adam (lr=0.1)']
    """
    check_axes(ax)
    minimum = check_number("minimum", minimum)
    named = isinstance(curves, Mapping)
    losses = {
        name: _losses(curve, f"{name}: ") - minimum
        for name, curve in (curves.items() if named else [("", curves)])
    }
    if not losses:
        raise ValueError("curves: expected at least one curve, but got none")
    own = ax is None
    height = max(3.6, 1.0 + 0.19 * len(losses))
    ax = new_axes(8.2 if named else 6.0, height) if ax is None else ax
    for number, (name, values) in enumerate(losses.items()):
        drawn = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
        draw_curve(ax, np.arange(len(values)), drawn, number, name or None)
    if log:
        ax.set_yscale("log")
    _limit(ax, losses, log)
    ax.set_xlabel("step")
    ax.set_ylabel(above("loss", minimum))
    ax.margins(x=0.01)
    tidy(ax)
    if legend:
        side_legend(ax, None, own)
    return figure_of(ax)


def _losses(curve: Any, name: str) -> Any:
    values = curve.values if isinstance(curve, Trajectory) else curve
    try:
        losses = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}expected a Trajectory or an array of losses, but got {type(curve).__name__}"
        ) from None
    if losses.ndim != 1 or not losses.size:
        raise ValueError(f"{name}expected losses of shape (steps + 1,), but got {losses.shape}")
    return losses


def _limit(ax: Axes, losses: Mapping[str, Any], log: bool) -> None:
    """Let curves that go very high, or very low, leave the picture."""
    first = np.array([values[0] for values in losses.values()])
    known = np.concatenate([*losses.values()])
    known = known[np.isfinite(known) & ((known > 0) | (not log))]
    start = np.max(np.abs(first), initial=0.0, where=np.isfinite(first))
    if not known.size or start == 0:
        return
    low, high = known.min(), min(known.max(), HIGHEST * start)
    if log:
        low = max(low, LOWEST * start)
        room = (high / low) ** 0.05 * 1.1
        ax.set_ylim(low / room, high * room)
    else:
        room = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - room, high + room)
