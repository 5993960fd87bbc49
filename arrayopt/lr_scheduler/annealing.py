"""Annealing from the base rate to a rate at which one stays."""

from __future__ import annotations

import math
from typing import Any

from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import per_group
from arrayopt.options import check_choice, check_integer, check_number

__all__ = ["Annealing"]


class Annealing(LRScheduler):
    """A rate that goes from the base rate to a last one, and stays there.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    last_lr : float or list of float
        The last rate, for all groups or each.
    anneal_epochs : int
        The step at which it is reached; 0 for at once.
    anneal_strategy : {"cos", "linear"}
        The shape of the annealing: half a cosine, or a line.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a list has not one entry for each group.
    TypeError
        If `optimizer` is not an optimizer.
    """

    #: How error messages call the last rate.
    _name = "eta_min"

    def __init__(
        self,
        optimizer: Any,
        last_lr: float | list[float],
        anneal_epochs: int,
        anneal_strategy: str,
        last_epoch: int = -1,
    ) -> None:
        entries = per_group(self._name, last_lr, rates.check_optimizer(optimizer))
        self._per_group("last_lrs", last_lr, [check_number(self._name, v, 0) for v in entries])
        self._anneal_strategy = check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.anneal_epochs = check_integer("anneal_epochs", anneal_epochs, 0)
        super().__init__(optimizer, last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        last = self.anneal_epochs
        pct = xp.minimum(t, last) / last if last else 1.0 + 0.0 * t
        return (1 + xp.cos(math.pi * pct)) / 2 if self._anneal_strategy == "cos" else 1.0 - pct

    def _floors(self) -> list[float] | None:
        return self._all("last_lrs")

    def _in_proportion(
        self, step: int, after: Any, present: list[float], known: int
    ) -> list[float]:
        if step >= self.anneal_epochs:  # the last rate is kept, whatever happens
            return list(self._all("last_lrs"))
        return super()._in_proportion(step, after, present, known)

    def _span(self) -> float:
        return 1.25 * max(self.anneal_epochs, 8)

    def _optional(self) -> frozenset[str]:
        return super()._optional() | {"last_lrs"}
