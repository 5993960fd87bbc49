"""The functions that schedules are written with, for Python numbers and for NumPy arrays.

A schedule's formula takes a namespace `xp`, as an optimizer's rule does: `NUMBERS` makes it fast at
one step, `ARRAYS` evaluates it at many steps at once. Both give the same bits: cosines and powers
are those of the C library, element by element.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import getitem
from types import SimpleNamespace
from typing import Any

import numpy as np

from arrayopt.options import python_number

__all__ = ["ARRAYS", "NUMBERS", "Steps"]

#: A step, or an array of steps.
Steps = Any


def _where(condition: bool, yes: float, no: float) -> float:
    return yes if condition else no


def _power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf


def _of_one(function: Callable[[float], Any], number: float) -> Any:
    """What `function` returns, which may be a scalar of NumPy, as a Python number."""
    return python_number(function(number))


def _each(function: Callable[..., Any], arguments: int = 1) -> Callable[..., Any]:
    """`function` of numbers as a function of arrays, which are broadcast."""
    vectorized = np.frompyfunc(lambda *numbers: python_number(function(*numbers)), arguments, 1)
    return lambda *arrays: np.asarray(vectorized(*arrays), dtype=float)


def _up_to(ordered: Sequence[float], x: Any) -> Any:
    return np.searchsorted(np.asarray(ordered, dtype=float), x, side="right")


#: For a step that is a Python number. `each` calls a function of the user's own; `up_to` counts the
#: entries of a sorted list that are not larger than a number; `pick` takes an entry of a list.
NUMBERS = SimpleNamespace(
    cos=math.cos,
    each=_of_one,
    floor=math.floor,
    minimum=min,
    pick=getitem,
    power=_power,
    up_to=bisect_right,
    where=_where,
)

#: For steps that are a NumPy array.
ARRAYS = SimpleNamespace(
    cos=_each(math.cos),
    each=lambda function, numbers: _each(function)(numbers),
    floor=lambda x: np.floor(x).astype(int),
    minimum=np.minimum,
    pick=lambda entries, index: np.asarray(entries, dtype=float)[index],
    power=_each(_power, 2),
    up_to=_up_to,
    where=np.where,
)
