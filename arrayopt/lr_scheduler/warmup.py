"""The schedules that training begins with today, put together from the others."""

from __future__ import annotations

from typing import Any, Literal

from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.annealing import Annealing
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import check_last_epoch
from arrayopt.lr_scheduler.composed import SequentialLR
from arrayopt.lr_scheduler.decays import LinearLR
from arrayopt.options import check_integer, check_number

__all__ = ["CosineWarmupLR", "WarmupLR", "WarmupStableDecayLR"]


def _checked(warmup_steps: int, start_factor: float | None) -> tuple[int, float]:
    """The length of the warm-up, and what it begins with."""
    steps = check_integer("warmup_steps", warmup_steps, 0)
    factor = 1 / (steps + 1) if start_factor is None else start_factor
    return steps, check_number("start_factor", factor, 0, 1, ends="(]")


def _warmup(optimizer: Any, steps: int, factor: float) -> LinearLR:
    """The line up to the base rate, which stays there afterwards."""
    return LinearLR(optimizer, factor, 1.0, max(1, steps))


class WarmupLR(SequentialLR):
    r"""A linear warm-up, and then any schedule, or the base rate.

    A `SequentialLR` of `LinearLR` and `after`. With :math:`W` = `warmup_steps`, and by default:

    .. math::

        \gamma_t = \gamma_0 \frac{t + 1}{W + 1} \quad (t < W), \qquad
        \gamma_t = \gamma^{\text{after}}_{t - W} \quad (t \ge W)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    warmup_steps : int
        The steps below the base rate, not negative.
    after : LRScheduler, optional
        What follows, of the same optimizer; by default the base rate.
    start_factor : float, optional
        The part of the base rate that the warm-up begins with, in (0, 1]; by default
        ``1 / (warmup_steps + 1)``.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError, TypeError
        As `LinearLR` and `SequentialLR` do.

    References
    ----------
    Goyal et al. (2017), "Accurate, large minibatch SGD: training ImageNet in 1 hour", section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> from arrayopt.lr_scheduler import StepLR
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = WarmupLR(opt, 3, StepLR(opt, step_size=2, gamma=0.5))
    >>> scheduler.lr_at([0, 1, 2, 3, 4, 5])
    array([[0.25, 0.5 , 0.75, 1.  , 1.  , 0.5 ]])
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        after: LRScheduler | None = None,
        start_factor: float | None = None,
        last_epoch: int = -1,
    ) -> None:
        rates.check_optimizer(optimizer)
        steps, factor = _checked(warmup_steps, start_factor)
        check_last_epoch(last_epoch, optimizer)
        if not isinstance(after, LRScheduler | None):
            raise TypeError(f"after: expected a scheduler, but got {after!r}")
        following = [] if after is None else [after]
        self._check_members(optimizer, following)
        members = [_warmup(optimizer, steps, factor), *following]
        super().__init__(optimizer, members, [steps] * len(following), last_epoch)


class WarmupStableDecayLR(SequentialLR):
    r"""A linear warm-up, the base rate for most of the training, and a decay at the end (WSD).

    A `SequentialLR` of `LinearLR` and the annealing of `SWALR`. With :math:`W` = `warmup_steps`,
    :math:`S` = `stable_steps`, :math:`D` = `decay_steps`, and by default:

    .. math::

        \gamma_t = \begin{cases}
            \gamma_0 \frac{t + 1}{W + 1} & t < W \\
            \gamma_0 & W \le t < W + S \\
            \gamma_0 + (\eta_{\min} - \gamma_0) \frac{\min(t - W - S, D)}{D} & \text{otherwise}
        \end{cases}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    warmup_steps, stable_steps, decay_steps : int
        The lengths of the three parts, not negative.
    eta_min : float or list of float, default 0.0
        The rate at the end, which stays, for all groups or each.
    anneal_strategy : {"linear", "cos"}, default "linear"
        The shape of the decay: a line, or half a cosine.
    start_factor : float, optional
        The part of the base rate that the warm-up begins with, in (0, 1]; by default
        ``1 / (warmup_steps + 1)``.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError, TypeError
        As `LinearLR` and `SWALR` do.

    References
    ----------
    Hu et al. (2024), "MiniCPM: unveiling the potential of small language models with scalable
    training strategies", section 4.1. Hägele et al. (2024), "Scaling laws and compute-optimal
    training beyond fixed training durations", on the shape of the decay.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = WarmupStableDecayLR(opt, warmup_steps=1, stable_steps=2, decay_steps=4)
    >>> scheduler.lr_at(np.arange(9))
    array([[0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ]])
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        stable_steps: int,
        decay_steps: int,
        eta_min: float | list[float] = 0.0,
        anneal_strategy: Literal["linear", "cos"] = "linear",
        start_factor: float | None = None,
        last_epoch: int = -1,
    ) -> None:
        rates.check_optimizer(optimizer)
        steps, factor = _checked(warmup_steps, start_factor)
        begin = steps + check_integer("stable_steps", stable_steps, 0)
        check_integer("decay_steps", decay_steps, 0)
        check_last_epoch(last_epoch, optimizer)
        decay = Annealing(optimizer, eta_min, decay_steps, anneal_strategy)
        members = [_warmup(optimizer, steps, factor), decay]
        super().__init__(optimizer, members, [begin], last_epoch)


class CosineWarmupLR(WarmupStableDecayLR):
    r"""A linear warm-up, and then half a cosine down to `eta_min`, at which it stays.

    A `WarmupStableDecayLR` without the stable part. With :math:`W` = `warmup_steps`, :math:`T` =
    `total_steps`, and by default:

    .. math::

        \gamma_t = \begin{cases}
            \gamma_0 \frac{t + 1}{W + 1} & t < W \\
            \eta_{\min} + \frac{\gamma_0 - \eta_{\min}}{2}
                \Bigl(1 + \cos\frac{\pi \min(t - W, T - W)}{T - W}\Bigr) & \text{otherwise}
        \end{cases}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    warmup_steps : int
        The steps below the base rate, not negative.
    total_steps : int
        The step at which `eta_min` is reached, not less than `warmup_steps`.
    eta_min : float or list of float, default 0.0
        The rate at the end, which stays, for all groups or each.
    start_factor : float, optional
        The part of the base rate that the warm-up begins with, in (0, 1]; by default
        ``1 / (warmup_steps + 1)``.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError, TypeError
        As `LinearLR` and `SWALR` do.

    References
    ----------
    Loshchilov and Hutter (2017), "SGDR: stochastic gradient descent with warm restarts",
    equation 5. Goyal et al. (2017), "Accurate, large minibatch SGD", section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = CosineWarmupLR(opt, warmup_steps=1, total_steps=5)
    >>> scheduler.lr_at([0, 1, 3, 5, 9]).round(12)
    array([[0.5, 1. , 0.5, 0. , 0. ]])
    """

    def __init__(
        self,
        optimizer: Any,
        warmup_steps: int,
        total_steps: int,
        eta_min: float | list[float] = 0.0,
        start_factor: float | None = None,
        last_epoch: int = -1,
    ) -> None:
        warmup_steps = check_integer("warmup_steps", warmup_steps, 0)
        decay_steps = check_integer("total_steps", total_steps, warmup_steps) - warmup_steps
        super().__init__(
            optimizer, warmup_steps, 0, decay_steps, eta_min, "cos", start_factor, last_epoch
        )
