"""What the arguments of schedulers have to be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from arrayopt.options import python_number

__all__ = [
    "check_choice",
    "check_integer",
    "check_last_epoch",
    "check_milestones",
    "check_number",
    "per_group",
]


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
        isinstance(number, int | float)
        and not isinstance(number, bool)
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


def check_last_epoch(last_epoch: int, optimizer: Any) -> None:
    """Raise if a schedule of this optimizer cannot begin after that step.

    Raises
    ------
    ValueError
        If it is no step, nor -1.
    KeyError
        If it is a step, and a group does not tell its initial rate.
    """
    check_integer("last_epoch", last_epoch, -1)
    for number, group in enumerate(optimizer.param_groups if last_epoch >= 0 else ()):
        if "initial_lr" not in group:
            raise KeyError(
                f"param_groups[{number}] has no 'initial_lr', which last_epoch={last_epoch} "
                "needs: load the optimizer's state first, or leave last_epoch at -1 to begin"
            )


def check_milestones(milestones: Iterable[Any]) -> list[int]:
    """`milestones` as a list, if they are steps that never go back.

    Raises
    ------
    ValueError, TypeError
    """
    if not isinstance(milestones, Iterable):
        raise TypeError(f"milestones: expected a list of steps, but got {milestones!r}")
    given = list(milestones)
    steps = [check_integer("milestones", milestone, 0) for milestone in given]
    if steps != sorted(steps):
        raise ValueError(f"milestones: expected increasing steps, but got {given}")
    return steps


def per_group(name: str, value: Any, optimizer: Any) -> list[Any]:
    """One entry for each group: `value` itself, if it is a list, or copies of the one number.

    Raises
    ------
    ValueError
        If a list has not as many entries as the optimizer has groups.
    """
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise ValueError(
            f"{name}: expected {groups} values, one for each of optimizer.param_groups, but got "
            f"{len(value)}"
        )
    return list(value)
