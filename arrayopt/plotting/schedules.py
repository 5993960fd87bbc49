"""Learning rates and momenta over the steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from arrayopt.lr_scheduler import LRScheduler
from arrayopt.lr_scheduler.curve import shown
from arrayopt.options import check_integer
from arrayopt.plotting.style import POINTS, check_axes, look, new_axes, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_schedule"]


def plot_schedule(
    scheduler_or_list: LRScheduler | Iterable[LRScheduler],
    steps: int,
    *,
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the rates of schedulers, and their momenta below, if they schedule any.

    Nothing is stepped: the optimizer and the schedulers stay as they are. Groups whose rates and
    momenta are the same share a curve. Curves differ in colour and in dashes. Of very many steps,
    the extremes of each part of the picture are drawn.

    Parameters
    ----------
    scheduler_or_list : LRScheduler, or sequence of them
        What to draw.
    steps : int
        How many steps, from the first, > 0.
    labels : sequence of str, optional
        Names of the schedulers, by default those of their classes.
    ax : matplotlib Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib Axes
        That of the rates; that of the momenta is the last one of its figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        If something is no scheduler, or `ax` is no axes.
    ValueError
        If there is no scheduler, `steps` is not positive or goes beyond the end of a schedule, or
        the number of labels is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> from arrayopt.lr_scheduler import CosineWarmupLR
    >>> opt = optim.SGD([np.zeros(2)], lr=0.1)
    >>> axes = plot_schedule(CosineWarmupLR(opt, 100, 1000), 1000)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('step', 'learning rate')
    """
    check_axes(ax)
    if isinstance(scheduler_or_list, LRScheduler):
        scheduler_or_list = [scheduler_or_list]
    if not isinstance(scheduler_or_list, Iterable):
        raise TypeError(
            "expected a scheduler or a sequence of them, but got "
            f"{type(scheduler_or_list).__name__}"
        )
    schedulers = list(scheduler_or_list)
    if not schedulers:
        raise ValueError("scheduler_or_list: expected at least one scheduler, but got none")
    for number, scheduler in enumerate(schedulers):
        if not isinstance(scheduler, LRScheduler):
            raise TypeError(
                f"expected a scheduler or a sequence of them, but got {type(scheduler).__name__} "
                f"at index {number}"
            )
    names = [type(scheduler).__name__ for scheduler in schedulers] if labels is None else labels
    if len(names) != len(schedulers):
        raise ValueError(f"labels: expected {len(schedulers)}, but got {len(names)}")
    count = check_integer("steps", steps, 1)
    t = np.arange(count)
    curves = [curve for pair in zip(schedulers, names) for curve in _curves(*pair, t)]
    ax = new_axes() if ax is None else ax
    _draw(ax, curves)
    return ax


class _Curve(NamedTuple):
    """What a kind of groups does, over the steps."""

    label: str
    rates: Any
    momenta: Any  # None if they are not scheduled


def _curves(scheduler: LRScheduler, name: str, t: Any) -> list[_Curve]:
    """A curve for each kind of group."""
    rates, momenta = scheduler.lr_at(t), scheduler.momentum_at(t)
    both = rates if momenta is None else np.concatenate([rates, momenta], axis=1)
    kinds: dict[bytes, list[int]] = {}
    for number, row in enumerate(both):
        kinds.setdefault(row.tobytes(), []).append(number)
    curves = []
    for groups in kinds.values():
        plural = "s" if len(groups) > 1 else ""
        which = f", group{plural} {', '.join(map(str, groups))}" if len(kinds) > 1 else ""
        first = groups[0]
        curves.append(
            _Curve(name + which, rates[first], None if momenta is None else momenta[first])
        )
    return curves


def _split(ax: Axes) -> Axes:
    """Give the lower third of the place of `ax` to new axes below."""
    spec = ax.get_subplotspec()
    if spec is None:
        raise ValueError("ax: expected the axes of a subplot, which momenta can be drawn below")
    grid = spec.subgridspec(2, 1, height_ratios=(2, 1), hspace=0.08)
    ax.set_subplotspec(grid[0])
    ax.tick_params(labelbottom=False)
    return ax.figure.add_subplot(grid[1], sharex=ax)


def _draw(ax: Axes, curves: Sequence[_Curve]) -> None:
    panels = [(ax, "learning rate", [curve.rates for curve in curves])]
    momenta = [curve.momenta for curve in curves]
    if any(values is not None for values in momenta):
        panels.append((_split(ax), "momentum", momenta))
    for panel, name, drawn in panels:
        for number, (curve, values) in enumerate(zip(curves, drawn)):
            if values is not None:
                steps = shown(values, POINTS)
                style = look(number) | {"marker": None}
                panel.plot(steps, values[steps], linewidth=1.8, label=curve.label, **style)
        panel.set_ylabel(name)
        panel.margins(x=0.01)
        tidy(panel)
    panels[-1][0].set_xlabel("step")
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        fontsize="small",
        handlelength=3.2,
    )
