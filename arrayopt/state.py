"""The state that an algorithm keeps for each parameter: how it is declared, read and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayopt.namespace import Array, castable, device, is_array, is_sparse, library
from arrayopt.options import is_number, python_number

__all__ = [
    "StateSlot",
    "check_begun",
    "check_state_array",
    "read_entry",
    "slots_under",
    "state_number",
]


@dataclass(frozen=True, slots=True)
class StateSlot:
    """One entry of the state that an algorithm keeps for each parameter.

    Attributes
    ----------
    name : str
        Its key in ``optimizer.state[param]``, and its name in the rule.
    initial : float, callable or None
        What it is filled with before the first step: a number, a function of the group that
        returns one, or None if the rule makes the entry itself (it is absent until then).
    scalar : bool
        Whether it is a Python number. If not, it is an array like the parameter. A scalar named
        ``"step"`` is incremented before the rule runs.
    when : str, optional
        The option that has to be on for the entry to exist.

    Examples
    --------
    An average that begins with zeros, and a count of steps:

    >>> import numpy as np
    >>> import arrayopt
    >>> class Signs(arrayopt.Optimizer):
    ...     state_table = (StateSlot("exp_avg"), StateSlot("step", initial=0, scalar=True))
    ...
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def rule(self, xp, param, grad, state, group):
    ...         exp_avg = 0.5 * state["exp_avg"] + 0.5 * grad
    ...         return param - group["lr"] / state["step"] * xp.sign(exp_avg), {"exp_avg": exp_avg}
    >>> opt = Signs([np.zeros(2)])
    >>> opt.step(grads=[np.array([4.0, -2.0])])
    >>> opt.state_dict()["state"][0]
    {'step': 1, 'exp_avg': array([ 2., -1.])}
    """

    name: str
    initial: float | Callable[[Mapping[str, Any]], float] | None = 0.0
    scalar: bool = False
    when: str | None = None

    def start(self, options: Mapping[str, Any]) -> Any:
        """The initial value under `options`."""
        return self.initial(options) if callable(self.initial) else self.initial


def slots_under(
    state_table: Sequence[StateSlot], options: Mapping[str, Any]
) -> tuple[StateSlot, ...]:
    """The entries of a table that there are under these options."""
    return tuple(s for s in state_table if s.when is None or options.get(s.when))


def read_entry(
    entry: Mapping[str, Any],
    array: Array,
    slots: tuple[StateSlot, ...],
    options: Mapping[str, Any],
    label: str,
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names of the state arrays that a parameter has, checked, and its state numbers."""
    present = tuple(s.name for s in slots if not s.scalar and s.name in entry)
    for key in present:
        _check_state(entry[key], array, key, label)
    scalars = tuple(
        state_number(entry[s.name], s.name, label) if s.name in entry else s.start(options)
        for s in slots
        if s.scalar
    )
    return present, scalars


def check_begun(slots: tuple[StateSlot, ...], present: tuple[str, ...], label: str) -> None:
    """Raise if there is state that begins in a step, of which a sparse gradient makes a part."""
    unknown = [s.name for s in slots if s.initial is None and s.name not in present]
    if unknown:
        raise RuntimeError(
            f"{label}: the state {unknown} has no initial value, so it cannot begin with a sparse "
            "gradient; give its StateSlot an initial value"
        )


def check_state_array(value: Any, array: Array, name: str, label: str) -> None:
    """Raise if `value` cannot be state of a parameter like `array`, of whatever library."""
    if not is_array(value) or is_sparse(value):
        raise TypeError(
            f"{label}: expected a dense array as state {name!r}, but got {type(value).__name__}"
        )
    if tuple(value.shape) != tuple(array.shape):
        raise ValueError(
            f"{label}: expected state {name!r} of shape {tuple(array.shape)}, but got shape "
            f"{tuple(value.shape)}"
        )
    if not castable(value, array):
        raise TypeError(
            f"{label}: state {name!r} of dtype {value.dtype} cannot be cast to the parameter's "
            f"dtype {array.dtype}"
        )


def _check_state(value: Any, array: Array, name: str, label: str) -> None:
    """Raise if `value` cannot be updated in place beside `array`."""
    check_state_array(value, array, name, label)
    expected, got = ((library(a), str(device(a))) for a in (array, value))
    if expected != got:
        raise TypeError(
            f"{label}: expected state {name!r} of {' on '.join(expected)}, but got one of "
            f"{' on '.join(got)}"
        )
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{label}: state {name!r} cannot be written to")


def state_number(value: Any, name: str, label: str) -> int | float:
    """An entry of the state that is plain numbers, as a Python number."""
    number = python_number(value)
    if not is_number(number):
        raise TypeError(
            f"{label}: expected a number as state {name!r}, but got {type(value).__name__}: "
            f"{value!r}"
        )
    if name != "step":
        return number
    if not (0 <= number < math.inf and number == int(number)):
        raise ValueError(f"{label}: state 'step' counts steps, but got {value!r}")
    return int(number)  # torch keeps it as a float32 array
