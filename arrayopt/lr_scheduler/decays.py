"""Schedules that change the rate at every step, along a line, a power or an exponential."""

from __future__ import annotations

import math
from typing import Any

from arrayopt.lr_scheduler.arithmetic import Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.options import check_number

__all__ = ["ExponentialLR", "LinearLR", "PolynomialLR"]


class LinearLR(LRScheduler):
    r"""A rate that goes along a line from one multiple of the base rate to another.

    With :math:`s` = `start_factor`, :math:`e` = `end_factor` and :math:`T` = `total_iters`:

    .. math::

        \gamma_t = \gamma_0 \Bigl(s + (e - s) \frac{\min(t, T)}{T}\Bigr)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    start_factor : float, default 1/3
        In (0, 1].
    end_factor : float, default 1.0
        In [0, 1].
    total_iters : int, default 5
        The step at which the end is reached, > 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    Goyal et al. (2017), "Accurate, large minibatch SGD", section 2.2, "gradual warmup".

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> LinearLR(opt, start_factor=0.25, total_iters=3).lr_at([0, 1, 2, 3, 4])
    array([[0.25, 0.5 , 0.75, 1.  , 1.  ]])
    """

    def __init__(
        self,
        optimizer: Any,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = check_number("start_factor", start_factor, 0, 1, ends="(]")
        self.end_factor = check_number("end_factor", end_factor, 0, 1)
        self.total_iters = check_number("total_iters", total_iters, 0, ends="()")
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        change = (self.end_factor - self.start_factor) * xp.minimum(t, self.total_iters)
        on_the_way = self.start_factor + change / self.total_iters
        return xp.where(t < self.total_iters, on_the_way, self.end_factor)

    def _span(self) -> float:
        return 1.5 * self.total_iters


class ExponentialLR(LRScheduler):
    r"""A rate that is multiplied by `gamma` at each step.

    .. math::

        \gamma_t = \gamma_0 \, \texttt{gamma}^t

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    gamma : float
        What the rate is multiplied by, > 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If `gamma` is not positive.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    Li and Arora (2020), "An exponential learning rate schedule for deep learning", where `gamma`
    is larger than 1.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> ExponentialLR(opt, gamma=0.5).lr_at([0, 1, 2, 3])
    array([[1.   , 0.5  , 0.25 , 0.125]])
    """

    def __init__(self, optimizer: Any, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = check_number("gamma", gamma, 0, ends="()")
        super().__init__(optimizer, last_epoch)

    def _in_proportion(
        self, step: int, after: Any, present: list[float], known: int
    ) -> list[float]:
        if not step or known != len(present):
            return super()._in_proportion(step, after, present, known)
        return [rate * self.gamma for rate in present]  # which after / before is, but for rounding

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return xp.power(self.gamma, t)

    def _span(self) -> float:
        decades = abs(math.log10(self.gamma))
        return min(2 / decades, 1e6) if decades else 100


class PolynomialLR(LRScheduler):
    r"""A rate that falls to zero as a power of the steps that are left.

    With :math:`T` = `total_iters`:

    .. math::

        \gamma_t = \gamma_0 \Bigl(1 - \frac{\min(t, T)}{T}\Bigr)^{\texttt{power}}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    total_iters : int, default 5
        The step at which zero is reached, > 0.
    power : float, default 1.0
        Not negative.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    Chen et al. (2018), "DeepLab", section 4.1.1, the "poly" policy.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> PolynomialLR(opt, total_iters=4, power=2).lr_at([0, 1, 2, 3, 4])
    array([[1.    , 0.5625, 0.25  , 0.0625, 0.    ]])
    """

    def __init__(
        self, optimizer: Any, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = check_number("total_iters", total_iters, 0, ends="()")
        self.power = check_number("power", power, 0)
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        left = self.total_iters - xp.minimum(t, self.total_iters)
        return xp.power(left / self.total_iters, self.power)

    def _span(self) -> float:
        return 1.25 * self.total_iters
