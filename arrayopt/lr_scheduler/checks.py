"""What the arguments of schedulers have to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from arrayopt.options import check_integer

__all__ = ["check_last_epoch", "check_milestones", "per_group"]


def check_last_epoch(last_epoch: Any, optimizer: Any) -> int:
    """`last_epoch` as a Python integer, if a schedule of this optimizer can begin after that step.

    Raises
    ------
    ValueError
        If it is no step, nor -1.
    KeyError
        If it is a step, and a group does not tell its initial rate.
    """
    step = check_integer("last_epoch", last_epoch, -1)
    for number, group in enumerate(optimizer.param_groups if step >= 0 else ()):
        if "initial_lr" not in group:
            raise KeyError(
                f"param_groups[{number}] has no 'initial_lr', which last_epoch={step} "
                "needs: load the optimizer's state first, or leave last_epoch at -1 to begin"
            )
    return step


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


def per_group(name: str, value: Any, optimizer: Any, what: str = "values") -> list[Any]:
    """One entry for each group: those of `value`, if it is a list, or else `value` itself.

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
            f"{name}: expected {groups} {what}, one for each of optimizer.param_groups, but got "
            f"{len(value)}"
        )
    return list(value)
