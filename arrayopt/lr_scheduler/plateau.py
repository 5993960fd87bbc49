"""A rate that is reduced when a metric no longer improves."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal, SupportsFloat

from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import per_group
from arrayopt.options import check_choice, check_integer, check_number

__all__ = ["ReduceLROnPlateau"]

_EPOCH_WARNING = (
    "The epoch parameter of ReduceLROnPlateau.step() is deprecated: without it, step(metrics) "
    "counts the epochs itself."
)


class ReduceLROnPlateau(LRScheduler):
    r"""A rate that is multiplied by `factor` when a metric has not improved for `patience` epochs.

    With the best metric :math:`b` so far, a metric :math:`m` is better in the mode "min" if

    .. math::

        m < b - \texttt{threshold} \, |b| \ \text{("rel")}, \qquad
        m < b - \texttt{threshold} \ \text{("abs")}

    and in the mode "max" if it is larger than the sum. A NaN is never better.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are reduced.
    mode : {"min", "max"}, default "min"
        Whether a small or a large metric is good.
    factor : float, default 0.1
        In (0, 1).
    patience : int, default 10
        How many epochs in a row may be no better; the next one reduces the rate.
    threshold : float, default 1e-4
        What is an improvement, not negative.
    threshold_mode : {"rel", "abs"}, default "rel"
        How `threshold` is measured.
    cooldown : int, default 0
        How many epochs after a reduction are not counted.
    min_lr : float or list of float, default 0
        What the rate is not reduced below, for all groups or each.
    eps : float, default 1e-8
        A reduction that is not larger is not made.

    Attributes
    ----------
    best : float
        The best metric.
    num_bad_epochs, cooldown_counter : int
        How many epochs in a row were no better, and how many to come are not counted.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a list has not one entry for each group.
    TypeError
        If `optimizer` is not an optimizer.

    Notes
    -----
    `lr_at` tells the rates without any reduction, since reductions depend on the metrics and not on
    the step. Other schedulers of the optimizer go on from the reduced rate, as far as they are
    `chainable`.

    References
    ----------
    He, Zhang, Ren and Sun (2016), "Deep residual learning for image recognition", section 3.4: the
    rate is divided by 10 when the error plateaus.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = ReduceLROnPlateau(opt, patience=1)
    >>> for loss in (0.5, 0.4, 0.4, 0.4):
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.1]
    """

    min_lrs: list[float]
    _derived = LRScheduler._derived | {"_dynamic_threshold"}

    def __init__(
        self,
        optimizer: Any,
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0,
        eps: float = 1e-8,
    ) -> None:
        self.optimizer = rates.check_optimizer(optimizer)
        self.factor = check_number("factor", factor, 0, 1, ends="()")
        entries = [check_number("min_lr", v, 0) for v in per_group("min_lr", min_lr, optimizer)]
        self._per_group("min_lrs", min_lr, entries)
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else entries[0]
        self.patience = check_integer("patience", patience, 0)
        self.cooldown = check_integer("cooldown", cooldown, 0)
        self.eps = check_number("eps", eps, 0)
        self.mode = check_choice("mode", mode, ("min", "max"))
        self.threshold = check_number("threshold", threshold, 0)
        self.threshold_mode = check_choice("threshold_mode", threshold_mode, ("rel", "abs"))
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.base_lrs = [self._base(*pair) for pair in enumerate(optimizer.param_groups)]
        self.last_epoch = 0
        self._closed = list(self.base_lrs)
        self._last_lr = rates.read_all(optimizer.param_groups)
        self._steps_before = rates.taken(optimizer)
        self._reset()

    def _reset(self) -> None:
        """Forget all metrics."""
        self.best = self._dynamic_threshold = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not counted at present."""
        return self.cooldown_counter > 0

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return 1.0 + 0.0 * t

    def step(  # type: ignore[override]
        self, metrics: SupportsFloat, epoch: int | None = None
    ) -> None:
        """Take note of a metric, and reduce the rates if it is time to.

        Parameters
        ----------
        metrics : float or 0-d array
            What should improve, such as a validation loss.
        epoch : int, optional
            Deprecated: the number of the epoch.

        Raises
        ------
        TypeError
            If `metrics` is no number.
        ValueError
            If `epoch` is negative or no integer.
        RuntimeError
            If groups have been added, and `min_lr` was a list.

        Warns
        -----
        UserWarning
            If `epoch` is given.
        """
        if epoch is not None:
            epoch = check_integer("epoch", epoch, 0)
            warnings.warn(_EPOCH_WARNING, UserWarning, stacklevel=2)
        current, groups = metrics, self.optimizer.param_groups
        if type(current) is not float or len(self.min_lrs) != len(groups):
            super()._ready(metrics)
            current = self._number(metrics)
        better = (
            current > self._dynamic_threshold
            if self.mode == "max"
            else current < self._dynamic_threshold
        )
        cooldown = self.cooldown_counter
        bad = 0 if better or cooldown else self.num_bad_epochs + 1
        if cooldown:
            self.cooldown_counter = cooldown - 1
        elif bad > self.patience:
            self._reduce()
            bad, self.cooldown_counter = 0, self.cooldown
        if better:
            self.best, self._dynamic_threshold = current, self._threshold_from(current)
        self.num_bad_epochs = bad
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._last_lr = rates.read_all(groups)

    def _ready(self, metrics: Any) -> None:
        super()._ready(metrics)
        self._number(metrics)

    @staticmethod
    def _number(metrics: Any) -> float:
        """A metric as a Python number."""
        if metrics is None:
            raise TypeError(
                "ReduceLROnPlateau: expected a metric, but got None; pass step(metrics) to the "
                "scheduler that it is a member of"
            )
        try:
            return float(metrics)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"ReduceLROnPlateau: expected a number as the metric, but got {metrics!r}"
            ) from error

    def _advance(self, metrics: Any = None) -> None:
        self.step(metrics)

    def _threshold_from(self, best: float) -> float:
        """What a metric has to pass to be better than the best."""
        margin = self.threshold if self.mode == "max" else -self.threshold
        if self.threshold_mode == "abs" or math.isinf(best):
            return best + margin
        return best * (1.0 + (margin if best >= 0 else -margin))

    def _reduce(self) -> None:
        groups, lowest_rates = self.optimizer.param_groups, self.min_lrs
        if not len(groups) == len(lowest_rates) == len(self.base_lrs):
            lowest_rates = self._all("min_lrs")
            self._add_groups()
        for group, lowest in zip(groups, lowest_rates):
            rate = rates.read(group)
            reduced = max(rate * self.factor, lowest)
            if rate - reduced > self.eps:
                rates.write(group, reduced)

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        self._reset()
        super()._jump(step)

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        self._dynamic_threshold = self._threshold_from(self.best)

    def _optional(self) -> frozenset[str]:
        return super()._optional() | {"base_lrs"}
