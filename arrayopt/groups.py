"""Reading the parameters of a group, in all the forms in which they are given."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from operator import is_
from typing import Any

import numpy as np

from arrayopt.batching import Reading
from arrayopt.inputs import data_of
from arrayopt.namespace import is_array
from arrayopt.parameter import Module, Parameter

__all__ = [
    "Group",
    "Known",
    "check_duplicates",
    "check_param",
    "given_names",
    "is_bare",
    "read_params",
]

Group = dict[str, Any]


class Known:
    """What has been read of a group, and whether the group still says the same.

    Attributes
    ----------
    reading : Reading
        What has been read.
    """

    def __init__(self, group: Group, reading: Reading) -> None:
        self.reading = reading
        self.keys = [*group]
        self.values = [*group.values()]
        # An option that had to be converted may be an array or a list, which can change.
        self.constant = not reading.options.get("differentiable") and all(
            [group[key] is option for key, option in reading.options.items()]
        )

    def holds(self, group: Group) -> bool:
        """Whether the group has the same keys, and the same objects as their values."""
        return (
            self.constant and [*group] == self.keys and all(map(is_, group.values(), self.values))
        )


def is_bare(entry: Any) -> bool:
    """Whether `entry` is an array that does not carry its gradient with it."""
    if isinstance(entry, np.ndarray):  # whose .data is a buffer, whatever a subclass adds
        return True
    # The class is asked first: reading .grad of a torch tensor that is no leaf warns.
    return is_array(entry) and not (hasattr(type(entry), "grad") or hasattr(entry, "grad"))


def is_parameter(entry: Any) -> bool:
    """Whether `entry` has what makes a parameter."""
    return hasattr(entry, "data") and hasattr(entry, "grad")


def read_params(params: Any) -> tuple[list[Any], list[str] | None]:
    """The parameters of a group, and their names if they have been named."""
    if is_array(params) or is_parameter(params):
        params = [params]
    elif isinstance(params, set | frozenset):
        raise TypeError(
            "optimizer parameters need to be organized in ordered collections, but the ordering "
            "of parameters in sets will change between runs. Please use a list instead."
        )
    elif isinstance(params, Module):
        raise TypeError("the params of a Module are its .parameters() or .named_parameters()")
    entries = list(params)
    names = [entry[0] for entry in entries if isinstance(entry, tuple) and len(entry) == 2]
    if names:
        if len(names) != len(entries):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        entries = [entry for _, entry in entries]
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                "the parameters of a pair (name, parameter) are named by strings, but one of the "
                f"names is {type(name).__name__}"
            )
    for entry in entries:
        if not (is_array(entry) or is_parameter(entry)):
            hint = "; of a dict of parameters, pass .items(); put a group in a list"
            hint = hint if isinstance(entry, str) else ""
            raise TypeError(
                "optimizer can only optimize arrays and parameters, but one of the params is "
                f"{type(entry).__name__}{hint}"
            )
    return entries, names or None


def given_names(group: Group, count: int) -> list[str] | None:
    """The names in a group that was read from an optimizer."""
    if "param_names" not in group:
        return None
    names = list(group["param_names"])
    if len(names) != count:
        raise ValueError(f"expected {count} param_names, one a parameter, but got {names}")
    return names


def check_duplicates(params: Sequence[Any], earlier: Sequence[Any]) -> None:
    """Raise if a parameter, or a bare array, is there already or is given twice.

    Raises
    ------
    ValueError
    """
    seen = {id(param) for param in earlier}
    seen |= {id(param.data) for param in earlier if isinstance(param, Parameter)}
    if any(id(param) in seen for param in params):
        raise ValueError("some parameters appear in more than one parameter group")
    own = {id(param.data) for param in params if isinstance(param, Parameter)}
    twice = len({id(param) for param in params}) != len(params)
    if twice or any(id(param) in own for param in params):
        raise ValueError("some parameters appear more than once in a parameter group")


def check_param(param: Any, label: str, group: Group) -> None:
    """Raise if `param` cannot be optimized.

    Raises
    ------
    TypeError, RuntimeError, ValueError
    """
    data_of(param, label)
    if not isinstance(param, Hashable):
        raise TypeError(
            f"{label}: expected a parameter that can be the key of a dict, but "
            f"{type(param).__name__} is not hashable; let it be compared by identity "
            "(@dataclass(eq=False)), or use arrayopt.Parameter"
        )
    leaf = getattr(param, "is_leaf", True) or getattr(param, "retains_grad", False)
    if not (leaf or group.get("differentiable")):
        raise ValueError(f"{label}: can't optimize a non-leaf Tensor")
