"""The search for a step length that satisfies the strong Wolfe conditions.

It knows nothing of arrays: a function of one number, its slope, and a budget. What stands at the
points that it tries (a gradient) is carried along.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Trial", "minimize_cubic", "strong_wolfe"]

#: Decrease and curvature that a step has to reach (c1 and c2 of Nocedal and Wright).
DECREASE = 1e-4
CURVATURE = 0.9

#: A bracket within which no parameter moves further than this is not divided any more.
MIN_WIDTH = 1e-9


class Trial(NamedTuple):
    r"""A point on the line :math:`x + t d`.

    Attributes
    ----------
    step : float
        :math:`t`.
    loss : float
        :math:`\phi(t) = f(x + t d)`; infinite where the loss or the slope is not finite.
    slope : float
        :math:`\phi'(t)`.
    grad : object
        What the caller wants to have of the point that is chosen.
    """

    step: float
    loss: float
    slope: float
    grad: Any = None


def strong_wolfe(
    evaluate: Callable[[float], Trial],
    start: Trial,
    step: float,
    reach: float,
    max_trials: int,
) -> Trial:
    r"""Find a step that satisfies the strong Wolfe conditions.

    These are, with :math:`c_1 = 10^{-4}` and :math:`c_2 = 0.9`,

    .. math::

        \phi(t) \le \phi(0) + c_1 t \phi'(0), \qquad |\phi'(t)| \le c_2 |\phi'(0)|

    Parameters
    ----------
    evaluate : callable
        Returns the `Trial` of a step.
    start : Trial
        That of step 0, with a negative slope.
    step : float
        The step to try first.
    reach : float
        How far a step of 1 moves the parameter that moves furthest.
    max_trials : int
        How often to try again after the first trial.

    Returns
    -------
    Trial
        If none satisfies the conditions in time, the one of the lowest loss among the two that
        are left (`start` may be one of them). Its loss is finite if that of `start` is.

    Notes
    -----
    A trial that is not finite counts as too long a step. The interval is halved then, since no
    cubic goes through such a point.

    Algorithms 3.5 and 3.6 of Nocedal and Wright (2006), "Numerical optimization", 2nd edition.

    Examples
    --------
    The loss :math:`-t - \log(1 - t) / 2` has its minimum at 1/2, and ends at 1:

    >>> def evaluate(t):
    ...     if t >= 1:
    ...         return Trial(t, math.inf, math.nan)
    ...     return Trial(t, -t - math.log(1 - t) / 2, -1 + 0.5 / (1 - t))
    >>> found = strong_wolfe(evaluate, evaluate(0.0), step=1.5, reach=1.0, max_trials=20)
    >>> abs(found.slope) <= 0.9 * 0.5
    True
    """
    if not step:
        return start
    previous, trial = start, evaluate(step)
    for count in range(max_trials):
        rises = count > 1 and trial.loss >= previous.loss
        if rises or not _decreases(trial, start):
            return _zoom(evaluate, start, previous, trial, reach, max_trials - count)
        if _is_flat(trial, start):
            return trial
        if trial.slope >= 0:
            return _zoom(evaluate, start, previous, trial, reach, max_trials - count)
        low, high = trial.step + 0.01 * (trial.step - previous.step), trial.step * 10
        step = minimize_cubic(previous, trial, low, high)
        previous, trial = trial, evaluate(step)
    return min(start, trial, key=lambda end: end.loss)


def _zoom(
    evaluate: Callable[[float], Trial],
    start: Trial,
    first: Trial,
    second: Trial,
    reach: float,
    max_trials: int,
) -> Trial:
    """Narrow a bracket that holds such a step (algorithm 3.6)."""
    ends = [first, second]
    low = _lower(ends)
    was_near = False
    for _ in range(max_trials):
        if abs(second.step - first.step) * reach < MIN_WIDTH:
            break
        step, was_near = _away_from_ends(
            minimize_cubic(first, second), first.step, second.step, was_near
        )
        trial = evaluate(step)
        if not _decreases(trial, start) or trial.loss >= ends[low].loss:
            ends[1 - low] = trial
            low = _lower(ends)
        else:
            if _is_flat(trial, start):
                return trial
            if trial.slope * (ends[1 - low].step - ends[low].step) >= 0:
                ends[1 - low] = ends[low]
            ends[low] = trial
        first, second = ends
    return ends[low]


def minimize_cubic(
    first: Trial, second: Trial, low: float | None = None, high: float | None = None
) -> float:
    """The minimizer of the cubic with the losses and slopes of two trials.

    Parameters
    ----------
    first, second : Trial
        In any order.
    low, high : float, optional
        The interval to which the result is confined; by default that between the trials.

    Returns
    -------
    float
        The middle of the interval if the cubic has no minimum or a trial is not finite.

    Notes
    -----
    Equation 3.59 of Nocedal and Wright (2006). It falls along a straight line for ever: to the end
    of the interval.

    Examples
    --------
    >>> minimize_cubic(Trial(0.0, 1.0, -2.0), Trial(3.0, 4.0, 4.0))  # of (t - 1)**2
    1.0
    """
    left, right = (first, second) if first.step <= second.step else (second, first)
    low = left.step if low is None else low
    high = right.step if high is None else high
    width = right.step - left.step
    if not width:
        return low
    d1 = left.slope + right.slope - 3 * (left.loss - right.loss) / (left.step - right.step)
    square = d1 * d1 - left.slope * right.slope
    if square >= 0 and math.isfinite(square):
        d2 = math.sqrt(square)
        top, bottom = right.slope + d2 - d1, right.slope - left.slope + 2 * d2
        if bottom:
            return min(max(right.step - width * (top / bottom), low), high)
        if top:
            return high if top < 0 else low
    return (low + high) / 2


def _away_from_ends(step: float, first: float, second: float, was_near: bool) -> tuple[float, bool]:
    """`step`, moved off an end of the bracket that it meets, or comes near a second time.

    Returns it, and whether it is near an end and was left there.
    """
    low, high = min(first, second), max(first, second)
    margin = 0.1 * (high - low)
    if min(high - step, step - low) >= margin:
        return step, False
    if not was_near and low < step < high:
        return step, True
    return (high - margin if abs(step - high) < abs(step - low) else low + margin), False


def _decreases(trial: Trial, start: Trial) -> bool:
    """Whether the loss is low enough (equation 3.7a; never so where it is infinite)."""
    return trial.loss <= start.loss + DECREASE * trial.step * start.slope


def _is_flat(trial: Trial, start: Trial) -> bool:
    """Whether the slope is small enough (equation 3.7b)."""
    return abs(trial.slope) <= -CURVATURE * start.slope


def _lower(ends: list[Trial]) -> int:
    """Which of the two ends has the lower loss; the first if they are equal."""
    return int(ends[1].loss < ends[0].loss)
