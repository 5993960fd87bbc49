"""Hyperparameters and other numbers: which values are allowed, and how they reach a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from arrayopt.namespace import is_array

__all__ = [
    "PLAIN",
    "Range",
    "check_choice",
    "check_count",
    "check_integer",
    "check_number",
    "is_number",
    "python_number",
    "required",
]


class _Required:
    """The default of an option that every group has to give."""

    def __repr__(self) -> str:
        return "<required parameter>"

    def __reduce__(self) -> str:
        return "required"  # there is one, which copies and pickles stand for, too


required = _Required()

#: The types of values that are what they are: no array, whose number may change.
PLAIN = frozenset({bool, float, int, str, type(None)})


@dataclass(frozen=True, slots=True)
class Range:
    """The interval in which an option has to lie. A NaN lies in none.

    Attributes
    ----------
    option : str
        The name of the option; a pair, such as ``betas``, is checked number by number.
    label : str
        What torch's messages call it: "Invalid {label}: {value}".
    low, high : float
        The ends.
    closed : bool
        Whether `high` belongs to the interval.
    length : int
        2 if the option is a pair, 3 if it is a triple.
    optional : bool
        Whether None may stand for the first number of a pair.
    low_closed : bool
        Whether `low` belongs to the interval.

    Examples
    --------
    >>> betas = Range("betas", "beta parameter", high=1.0, closed=False, length=2)
    >>> betas.check({"betas": (0.9, 0.999)}, "")
    >>> betas.check({"betas": (0.9, 1.0)}, "")
    Traceback (most recent call last):
        ...
    ValueError: Invalid beta parameter at index 1: 1.0 (expected a number in [0, 1))
    """

    option: str
    label: str
    low: float = 0.0
    high: float = math.inf
    closed: bool = True
    length: int = 1
    low_closed: bool = True
    optional: bool = False

    def check(self, group: Mapping[str, Any], where: str) -> None:
        """Raise if the option of `group` lies outside.

        Raises
        ------
        TypeError
            If it is not a number.
        ValueError
            If it lies outside the interval, or is not a pair where one is expected.
        """
        value = group[self.option]
        if self.length == 1:
            if not self._holds(value):
                self._refuse(value, "", where)
            return
        if not isinstance(value, (tuple, list)) or len(value) != self.length:
            first = ", of which the first may be None" if self.optional else ""
            raise ValueError(
                f"Invalid {self.option}: expected {self.length} numbers{first}, but got "
                f"{value!r}{where}"
            )
        for index, number in enumerate(value):
            if self.optional and index == 0 and number is None:
                continue
            if not self._holds(number):
                self._refuse(number, f" at index {index}", where)

    def _holds(self, value: Any) -> bool:
        """Whether `value` is a number in the interval."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        above = self.low <= value if self.low_closed else self.low < value
        return above and (value <= self.high if self.closed else value < self.high)

    def _refuse(self, value: Any, place: str, where: str) -> NoReturn:
        if is_array(value):
            raise ValueError(f"Tensor {self.option} must be 1-element, but got {value!r}{where}")
        if not is_number(value):
            raise TypeError(
                f"{self.option}{place} must be a number or a 0-d array, but got "
                f"{type(value).__name__}: {value!r}{where}"
            )
        start = "[" if self.low_closed and self.low > -math.inf else "("
        end = "]" if self.closed and self.high < math.inf else ")"
        raise ValueError(
            f"Invalid {self.label}{place}: {value} (expected a number in "
            f"{start}{self.low:g}, {self.high:g}{end}{where})"
        )


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a real number of Python; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def python_number(value: Any) -> Any:
    """A number as a Python number; pairs number by number; everything else as it is.

    Rules compute with Python numbers, since a NumPy float64 would promote float32 arrays.
    """
    kind = type(value)
    if kind in PLAIN or (kind is tuple and PLAIN.issuperset(map(type, value))):
        return value
    if isinstance(value, (tuple, list)):
        return tuple(python_number(entry) for entry in value)
    if isinstance(value, float):  # numpy.float64 is one
        return float(value)
    if is_array(value):
        if math.prod(value.shape) == 1 and hasattr(value, "item"):
            return value.item()
        return float(value) if value.shape == () else value
    return value.item() if hasattr(value, "dtype") else value


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, ends: str = "[]"
) -> float:
    """`value` as a Python number, if it lies between `low` and `high`.

    `ends` tells which ends belong to the interval, as ``"(]"`` does.

    Raises
    ------
    ValueError
        If it lies outside, or is no number.
    """
    number = python_number(value)
    inside = (
        is_number(number)
        and not math.isnan(number)
        and (number > low if ends[0] == "(" or low == -math.inf else number >= low)
        and (number < high if ends[1] == ")" or high == math.inf else number <= high)
    )
    if not inside:
        left = "(" if low == -math.inf else ends[0]
        right = ")" if high == math.inf else ends[1]
        raise ValueError(
            f"{name}: expected a number in {left}{low:g}, {high:g}{right}, but got {value!r}"
        )
    return number  # type: ignore[no-any-return]


def check_integer(name: str, value: Any, low: int) -> int:
    """`value` as a Python integer, if it is one and at least `low`.

    Raises
    ------
    ValueError
    """
    number = python_number(value)
    if isinstance(number, bool) or not isinstance(number, int) or number < low:
        kind = {0: "a non-negative integer", 1: "a positive integer"}.get(
            low, f"an integer that is at least {low}"
        )
        raise ValueError(f"{name}: expected {kind}, but got {value!r}")
    return number


def check_count(name: str, value: Any, low: int, where: str, high: float = math.inf) -> int:
    """An option that counts, as a Python integer, if it is one between `low` and `high`.

    Raises
    ------
    TypeError, ValueError
    """
    number = python_number(value)
    if isinstance(number, bool) or not isinstance(number, int):
        kind = type(number).__name__
        raise TypeError(f"{name} must be an int, but got {kind}: {number!r}{where}")
    if not low <= number <= high:
        most = "" if high == math.inf else f" and at most {high}"
        raise ValueError(
            f"Invalid {name}: {number} (expected an int of at least {low}{most}{where})"
        )
    return number


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, if it is one of `choices`.

    Raises
    ------
    ValueError
    """
    if value not in choices:
        expected = " or ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: expected {expected}, but got {value!r}")
    return str(value)
