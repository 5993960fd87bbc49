"""Schedules that are functions of the user's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from types import FunctionType
from typing import Any

import numpy as np

from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import NUMBERS, Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import per_group
from arrayopt.options import python_number

__all__ = [
    "LambdaLR",
    "MultiplicativeLR",
    "attributes_of",
    "check_attributes",
    "restore_attributes",
]

Lambda = Callable[[int], float]


def attributes_of(function: Any) -> dict[str, Any] | None:
    """What is saved of a callable: the attributes of an object, and nothing of a function."""
    if isinstance(function, FunctionType | type) or not hasattr(function, "__dict__"):
        return None
    return copy.deepcopy(dict(vars(function)))


def check_attributes(function: Any, attributes: dict[str, Any] | None) -> None:
    """Raise if a callable cannot be given attributes that were saved of another one.

    Raises
    ------
    ValueError
    """
    if attributes is not None and attributes_of(function) is None:
        raise ValueError(
            f"the state_dict has the attributes {sorted(attributes)} of a callable object, but "
            f"this scheduler has {function!r}"
        )


def restore_attributes(function: Any, attributes: dict[str, Any] | None) -> None:
    """Give a callable the attributes that were saved, if there were any."""
    if attributes is not None:
        vars(function).update(copy.deepcopy(attributes))


class _Lambdas(LRScheduler):
    """A function of the step for each group."""

    lr_lambdas: list[Lambda]
    _derived = LRScheduler._derived | {"lr_lambdas"}  # of which `_state` keeps the attributes

    def __init__(
        self, optimizer: Any, lr_lambda: Lambda | Sequence[Lambda], last_epoch: int = -1
    ) -> None:
        rates.check_optimizer(optimizer)
        functions = per_group("lr_lambda", lr_lambda, optimizer, what="functions")
        for function in functions:
            if not callable(function):
                raise TypeError(
                    f"lr_lambda: expected a function, but got {type(function).__name__}"
                )
        self._per_group("lr_lambdas", lr_lambda, functions)
        super().__init__(optimizer, last_epoch)

    def _is_multiplier(self) -> bool:
        return False  # each group has its own

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"lr_lambdas": [*map(attributes_of, self.lr_lambdas)]}

    def _check_state(self, state: Mapping[str, Any]) -> None:
        super()._check_state(state)
        if len(state["lr_lambdas"]) > len(self.lr_lambdas):
            raise ValueError(
                f"lr_lambdas: expected at most {len(self.lr_lambdas)} entries in the state_dict, "
                f"but got {len(state['lr_lambdas'])}"
            )
        for function, attributes in zip(self.lr_lambdas, state["lr_lambdas"]):
            check_attributes(function, attributes)

    def _restore(self, state: Mapping[str, Any]) -> None:
        for function, attributes in zip(self.lr_lambdas, state["lr_lambdas"]):
            restore_attributes(function, attributes)
        super()._restore({key: value for key, value in state.items() if key != "lr_lambdas"})


class LambdaLR(_Lambdas):
    r"""The base rate times a function of one's own.

    .. math::

        \gamma_t = \gamma_0 \lambda(t)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    lr_lambda : callable or list of callable
        :math:`\lambda`, which takes the step, an int, and returns a number; or one for each group.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    TypeError
        If something is not callable, or `optimizer` is not an optimizer.
    ValueError
        If there are not as many functions as groups.

    Notes
    -----
    It sets the rate, whatever another scheduler has made of it. `state_dict` holds the attributes
    of callable objects, and nothing of functions.

    References
    ----------
    Vaswani et al. (2017), "Attention is all you need", equation 3, is the schedule of the example.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> scheduler = LambdaLR(opt, lambda step: min((step + 1) / 4, (4 / (step + 1)) ** 0.5))
    >>> scheduler.lr_at([0, 1, 3, 15])
    array([[0.25, 0.5 , 1.  , 0.5 ]])
    """

    chainable = False

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        return [
            base * xp.each(function, t)
            for base, function in zip(self._bases(), self._all("lr_lambdas"))
        ]


class MultiplicativeLR(_Lambdas):
    r"""A rate that is multiplied by a function of one's own at each step.

    .. math::

        \gamma_t = \gamma_{t-1} \lambda(t) = \gamma_0 \prod_{s=1}^{t} \lambda(s)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    lr_lambda : callable or list of callable
        :math:`\lambda`, which takes the step, an int, and returns a number; or one for each group.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    TypeError
        If something is not callable, or `optimizer` is not an optimizer.
    ValueError
        If there are not as many functions as groups.

    Notes
    -----
    A step calls :math:`\lambda` once; `lr_at` calls it for each step up to the last. `state_dict`
    holds the attributes of callable objects, and nothing of functions.

    References
    ----------
    Robbins and Monro (1951), "A stochastic approximation method", on rates that have to decrease.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> MultiplicativeLR(opt, lambda step: 0.5).lr_at([0, 1, 2, 3])
    array([[1.   , 0.5  , 0.25 , 0.125]])
    """

    #: A step, the base rates, the factors and the rates of then: the next ones follow from them.
    _memo: Any = (0, [], [], [])
    _derived = _Lambdas._derived | {"_memo"}

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        if xp is not NUMBERS:
            run = [self._rates(NUMBERS, step) for step in range(int(t.max(initial=0)) + 1)]
            return [np.array(row)[xp.floor(t)] for row in zip(*run)]
        step, bases, *_ = self._memo
        if step > t or bases != self._bases():
            bases = self._bases()
            self._memo = (0, bases, [1.0] * len(bases), bases)
            step = 0
        for s in range(step + 1, int(t) + 1):
            self._multiply(s)
        return self._memo[3]  # type: ignore[no-any-return]

    def _multiply(self, step: int) -> tuple[list[float], list[float]]:
        """Go on from what is remembered of the step before; the rates, and `_after`."""
        _, bases, _, values = self._memo
        factors = self._after(step)
        values = [*map(mul, values, factors)]
        self._memo = (step, bases, factors, values)
        return values, factors

    def _after(self, step: int) -> list[float]:
        """The factor of each group."""
        functions = self.lr_lambdas
        if len(functions) != len(self.optimizer.param_groups):
            functions = self._all("lr_lambdas")
        return [
            value if type(value := function(step)) is float else float(python_number(value))
            for function in functions
        ]

    def _closed_form(self, step: int, bases: list[float]) -> tuple[list[float], Any]:
        if self._memo[0] == step - 1 and self._memo[1] is bases:  # as step after step has it
            return self._multiply(step)
        self._rates(NUMBERS, step)
        return self._memo[3], self._memo[2]

    def _in_proportion(
        self, step: int, after: Any, present: list[float], known: int
    ) -> list[float]:
        if known == len(present):
            return [*map(mul, present, after)]
        rows = zip(present, after, self._memo[3], self._bases())
        return [
            rate * (factor if number < known or not base else right / base)
            for number, (rate, factor, right, base) in enumerate(rows)
        ]

    def _restore(self, state: Mapping[str, Any]) -> None:
        vars(self).pop("_memo", None)
        super()._restore(state)
