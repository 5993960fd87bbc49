"""Schedules that are constant piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from arrayopt.lr_scheduler.arithmetic import Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import check_milestones
from arrayopt.options import check_number

__all__ = ["ConstantLR", "MultiStepLR", "StepLR"]


class StepLR(LRScheduler):
    r"""A rate that is multiplied by `gamma` every `step_size` steps.

    .. math::

        \gamma_t = \gamma_0 \, \texttt{gamma}^{\lfloor t / \texttt{step\_size} \rfloor}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    step_size : int
        How long a rate is kept, > 0.
    gamma : float, default 0.1
        What it is multiplied by, > 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If `step_size` or `gamma` is not positive.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    Szegedy et al. (2015), "Going deeper with convolutions", section 6: less by 4% every 8 epochs.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> StepLR(opt, step_size=2, gamma=0.5).lr_at([0, 1, 2, 3, 4])
    array([[1.  , 1.  , 0.5 , 0.5 , 0.25]])
    """

    def __init__(
        self, optimizer: Any, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = check_number("step_size", step_size, 0, ends="()")
        self.gamma = check_number("gamma", gamma, 0, ends="()")
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return xp.power(self.gamma, t // self.step_size)

    def _span(self) -> float:
        return 5 * self.step_size


class MultiStepLR(LRScheduler):
    r"""A rate that is multiplied by `gamma` at each milestone.

    .. math::

        \gamma_t = \gamma_0 \, \texttt{gamma}^{\#\{m \in \texttt{milestones} :\, m \le t\}}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    milestones : iterable of int
        Steps, not negative and increasing; one that is given twice counts twice.
    gamma : float, default 0.1
        What the rate is multiplied by, > 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Attributes
    ----------
    milestones : Counter
        How often each milestone was given.

    Raises
    ------
    ValueError
        If a milestone is negative, no integer or smaller than the one before, or `gamma` is not
        positive.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    He, Zhang, Ren and Sun (2016), "Deep residual learning for image recognition", section 4.2
    (milestones at 32k and 48k steps).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> MultiStepLR(opt, milestones=[1, 4], gamma=0.5).lr_at([0, 1, 2, 3, 4])
    array([[1.  , 0.5 , 0.5 , 0.5 , 0.25]])
    """

    _derived = LRScheduler._derived | {"_sorted"}

    def __init__(
        self,
        optimizer: Any,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        self._sorted = check_milestones(milestones)
        self.milestones = Counter(self._sorted)
        self.gamma = check_number("gamma", gamma, 0, ends="()")
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return xp.power(self.gamma, xp.up_to(self._sorted, t))

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._sorted = sorted(Counter(state["milestones"]).elements())
        super()._restore(state)

    def _span(self) -> float:
        return 1.25 * max(self.milestones, default=80)


class ConstantLR(LRScheduler):
    r"""A rate that is `factor` times the base rate for a while, and then the base rate.

    .. math::

        \gamma_t = \begin{cases}
            \texttt{factor} \, \gamma_0 & t < \texttt{total\_iters} \\
            \gamma_0 & \text{otherwise}
        \end{cases}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    factor : float, default 1/3
        In (0, 1].
    total_iters : int, default 5
        How many steps the rate is reduced for, > 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If `factor` or `total_iters` is out of its range.
    TypeError
        If `optimizer` is not an optimizer.

    References
    ----------
    Goyal et al. (2017), "Accurate, large minibatch SGD", section 2.2, "constant warmup".

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> ConstantLR(opt, factor=0.5, total_iters=2).lr_at([0, 1, 2, 3])
    array([[0.5, 0.5, 1. , 1. ]])
    """

    def __init__(
        self,
        optimizer: Any,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = check_number("factor", factor, 0, 1, ends="(]")
        self.total_iters = check_number("total_iters", total_iters, 0, ends="()")
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return xp.where(t < self.total_iters, self.factor, 1.0)

    def _span(self) -> float:
        return 2 * self.total_iters
