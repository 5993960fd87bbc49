"""The learning rate of stochastic weight averaging."""

from __future__ import annotations

from typing import Any, Literal

from arrayopt.groups import Group
from arrayopt.lr_scheduler.annealing import Annealing
from arrayopt.lr_scheduler.arithmetic import Steps

__all__ = ["SWALR"]


class SWALR(Annealing):
    r"""The schedule of stochastic weight averaging: to a constant rate, at which it stays.

    With :math:`T` = `anneal_epochs`, and :math:`w_t = (1 - \cos(\pi \min(t, T) / T)) / 2` or, for
    "linear", :math:`w_t = \min(t, T) / T`:

    .. math::

        \gamma_t = (1 - w_t) \, \gamma_0 + w_t \, \texttt{swa\_lr}

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    swa_lr : float or list of float
        The last rate, for all groups or each, not negative. It is written to the groups.
    anneal_epochs : int, default 10
        The step at which it is reached; 0 for at once.
    anneal_strategy : {"cos", "linear"}, default "cos"
        The shape of the annealing: half a cosine, or a line.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range, or a list has not one entry for each group.
    TypeError
        If `optimizer` is not an optimizer.

    Notes
    -----
    Where another scheduler has brought the rate elsewhere before this one is stepped, the way
    begins there. So it does where this one takes its turn in a `SequentialLR`, whose rate before
    then becomes the base rate :math:`\gamma_0` of this one.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), "Averaging weights leads to wider
    optima and better generalization", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = SWALR(opt, swa_lr=0.2, anneal_epochs=4, anneal_strategy="linear")
    >>> scheduler.lr_at([0, 1, 2, 3, 4, 5])
    array([[1. , 0.8, 0.6, 0.4, 0.2, 0.2]])
    """

    _name = "swa_lr"

    def __init__(
        self,
        optimizer: Any,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        super().__init__(optimizer, swa_lr, anneal_epochs, anneal_strategy, last_epoch)
        for number, group in enumerate(optimizer.param_groups):
            group["swa_lr"] = self._all("last_lrs")[number]

    def _add_group(self, group: Group, number: int) -> None:
        group["swa_lr"] = self._all("last_lrs")[number]
        super()._add_group(group, number)

    def _continues(self) -> bool:
        return True

    def _rates_from(self, start: list[float] | None, xp: Any, t: Steps) -> list[Any]:
        return self._rates(xp, t) if start is None else self._scaled(start, self.multiplier(xp, t))

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        if start is not None:
            self._add_groups()
            self.base_lrs = start
        super()._jump(step)
