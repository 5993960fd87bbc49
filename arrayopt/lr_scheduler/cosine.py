"""Cosine annealing, without and with restarts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from arrayopt.lr_scheduler.arithmetic import NUMBERS, Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.options import check_integer, check_number

__all__ = ["CosineAnnealingLR", "CosineAnnealingWarmRestarts"]


def _half_cosine(xp: Any, t: Steps, length: Any) -> Any:
    """From 1 down to 0, which is reached at `length`."""
    return (1 + xp.cos(math.pi * t / length)) / 2


class CosineAnnealingLR(LRScheduler):
    r"""A rate that swings along a cosine between the base rate and `eta_min`.

    .. math::

        \gamma_t = \eta_{\min} + \frac{\gamma_0 - \eta_{\min}}{2}
            \Bigl(1 + \cos\frac{\pi t}{T_{\max}}\Bigr)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    T_max : int
        The step at which `eta_min` is reached, > 0. After it, the rate rises again.
    eta_min : float, default 0.0
        The smallest rate.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If `T_max` is not positive, or `eta_min` is no finite number.
    TypeError
        If `optimizer` is not an optimizer.

    See Also
    --------
    CosineWarmupLR : Stays at `eta_min`, and begins with a warm-up.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5, without the restarts.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> CosineAnnealingLR(opt, T_max=4).lr_at([0, 2, 4, 8]).round(12)
    array([[1. , 0.5, 0. , 1. ]])
    """

    def __init__(
        self,
        optimizer: Any,
        T_max: int,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_max = check_number("T_max", T_max, 0, ends="()")
        self.eta_min = check_number("eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return _half_cosine(xp, t, self.T_max)

    def _floors(self) -> list[float] | None:
        return [self.eta_min] * len(self.optimizer.param_groups) if self.eta_min else None

    def _span(self) -> float:
        return 2 * self.T_max + 1


class CosineAnnealingWarmRestarts(LRScheduler):
    r"""Cosine annealing in cycles, each beginning at the base rate again (SGDR).

    In a cycle of length :math:`T_i`, :math:`T_{cur}` steps after its beginning:

    .. math::

        \gamma_t = \eta_{\min} + \frac{\gamma_0 - \eta_{\min}}{2}
            \Bigl(1 + \cos\frac{\pi T_{cur}}{T_i}\Bigr), \qquad T_{i+1} = T_i \, T_{mult}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    T_0 : int
        The length of the first cycle, > 0.
    T_mult : int, default 1
        What the length is multiplied by from cycle to cycle, >= 1.
    eta_min : float, default 0.0
        The smallest rate, which is approached, but not reached.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Attributes
    ----------
    T_cur : float
        Steps since the last restart, :math:`T_{cur}`.
    T_i : int
        The length of the present cycle, :math:`T_i`.

    Raises
    ------
    ValueError
        If `T_0` or `T_mult` is no positive integer, or `eta_min` no finite number.
    TypeError
        If `optimizer` is not an optimizer.

    Notes
    -----
    It sets the rate, whatever another scheduler has made of it.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = CosineAnnealingWarmRestarts(opt, T_0=2, T_mult=2)
    >>> scheduler.lr_at([0, 1, 2, 4, 6, 10]).round(12)
    array([[1. , 0.5, 1. , 0.5, 1. , 0.5]])
    """

    chainable = False

    def __init__(
        self,
        optimizer: Any,
        T_0: int,  # noqa: N803
        T_mult: int = 1,  # noqa: N803
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = check_integer("T_0", T_0, 1)
        self.T_mult = check_integer("T_mult", T_mult, 1)
        self.eta_min = check_number("eta_min", eta_min)
        last_epoch = check_integer("last_epoch", last_epoch, -1)
        self.last_epoch = -1  # so that the cycle is counted from the beginning
        self.T_cur, self.T_i = self._cycle(NUMBERS, max(0, last_epoch))
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return _half_cosine(xp, *self._cycle(xp, t))

    def _floors(self) -> list[float] | None:
        return [self.eta_min] * len(self.optimizer.param_groups) if self.eta_min else None

    def _cycle(self, xp: Any, t: Steps) -> tuple[Any, Any]:
        """The steps since the last restart, and the length of the cycle."""
        if self.T_mult == 1:
            return t % self.T_0, self.T_0
        since: Any = t
        length: Any = self.T_0
        if xp is NUMBERS:
            if t >= self.last_epoch >= 0:  # count from the present cycle on
                since, length = t - self.last_epoch + math.floor(self.T_cur), self.T_i
            while since >= length:
                since, length = since - length, length * self.T_mult
            return since, length
        while np.any(since >= length):
            over = since >= length
            since = np.where(over, since - length, since)
            length = np.where(over, length * self.T_mult, length)
        return since, length

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step, and set the rates. Call it after ``optimizer.step()``.

        Parameters
        ----------
        epoch : float, optional
            The step to go to, not negative, which may lie between two steps.

        Raises
        ------
        ValueError
            If `epoch` is negative.

        Warns
        -----
        UserWarning
            At the first step, if the optimizer has taken none since the scheduler was made.
        """
        if epoch is not None:
            epoch = check_number("epoch", epoch, 0)
        if self._step_count == 1:
            self._warn_if_too_early()
        if epoch is None:
            self._advance()
        else:
            self._jump(epoch)
        self._step_count += 1

    def _advance(self, metrics: Any = None) -> None:
        self._jump(self.last_epoch + self.T_cur % 1 + 1)

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        since, length = self._cycle(NUMBERS, step)
        closed = self._scaled(self._bases(), _half_cosine(NUMBERS, since, length))
        if len(self.base_lrs) < len(self.optimizer.param_groups):
            self._add_groups()
        self.T_cur, self.T_i = since, length
        self._set(math.floor(step), closed, closed)

    def _span(self) -> float:
        return float(self.T_0 * sum(self.T_mult**cycle for cycle in range(3)))
