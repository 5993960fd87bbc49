"""The state that an algorithm keeps for each parameter: how it is declared, read and checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayopt.namespace import Array, castable, device, empty_like, is_array, is_sparse, library
from arrayopt.options import is_number, python_number

__all__ = [
    "Shape",
    "StateSlot",
    "check_begun",
    "check_state_array",
    "read_entry",
    "slots_for",
    "slots_under",
    "state_number",
]

Shape = tuple[int, ...]


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
    shape : callable, optional
        The shape of the array, as a function of that of the parameter; None where a parameter of
        that shape has no such entry. By default, it is that of the parameter. It needs an
        `initial`, and makes the rule one that looks at an array as a whole.

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
    shape: Callable[[Shape], Shape | None] | None = None

    def __post_init__(self) -> None:
        if self.shape is not None and (self.scalar or self.initial is None):
            raise TypeError(
                f"the state {self.name!r} has a shape of its own, so that it has to be an array "
                "with an initial value"
            )

    def shape_for(self, shape: Sequence[int]) -> Shape | None:
        """The shape of the entry of a parameter of this shape; None if it has none."""
        return tuple(shape) if self.shape is None else self.shape(tuple(shape))

    def model(self, array: Array) -> Array:
        """An array of the shape of the entry, and like the parameter `array` in all else."""
        return array if self.shape is None else empty_like(array, self.shape_for(array.shape) or ())

    def start(self, options: Mapping[str, Any]) -> Any:
        """The initial value under `options`."""
        return self.initial(options) if callable(self.initial) else self.initial


def slots_under(
    state_table: Sequence[StateSlot], options: Mapping[str, Any]
) -> tuple[StateSlot, ...]:
    """The entries of a table that there are under these options."""
    return tuple(s for s in state_table if s.when is None or options.get(s.when))


def slots_for(slots: Sequence[StateSlot], shape: Sequence[int]) -> tuple[StateSlot, ...]:
    """Those of the entries that a parameter of this shape has."""
    return tuple(slot for slot in slots if slot.shape_for(shape) is not None)


def read_entry(
    entry: Mapping[str, Any],
    array: Array,
    slots: tuple[StateSlot, ...],
    options: Mapping[str, Any],
    label: str,
) -> tuple[tuple[StateSlot, ...], tuple[str, ...], tuple[Any, ...]]:
    """The state that a parameter should have; the names of its arrays, checked, and its numbers.

    Raises
    ------
    ValueError, TypeError
        If an entry does not fit, or is one that a parameter of this shape does not have.
    """
    own = slots_for(slots, array.shape)
    strange = [slot.name for slot in slots if slot not in own and slot.name in entry]
    if strange:
        raise ValueError(
            f"{label}: a parameter of shape {tuple(array.shape)} has no state {strange}, which is "
            "that of another shape"
        )
    kept = [s for s in own if not s.scalar and s.name in entry]
    for slot in kept:
        _check_state(entry[slot.name], array, slot, label)
    scalars = tuple(
        state_number(entry[s.name], s.name, label) if s.name in entry else s.start(options)
        for s in own
        if s.scalar
    )
    return own, tuple(slot.name for slot in kept), scalars


def check_begun(slots: tuple[StateSlot, ...], present: tuple[str, ...], label: str) -> None:
    """Raise if there is state that begins in a step, of which a sparse gradient makes a part."""
    unknown = [s.name for s in slots if s.initial is None and s.name not in present]
    if unknown:
        raise RuntimeError(
            f"{label}: the state {unknown} has no initial value, so it cannot begin with a sparse "
            "gradient; give its StateSlot an initial value"
        )


def check_state_array(
    value: Any, array: Array, name: str, label: str, shape: Shape | None = None
) -> None:
    """Raise if `value` cannot be state of a parameter like `array`, of whatever library.

    Its shape has to be that of the parameter, unless there is a `shape`.
    """
    if not is_array(value) or is_sparse(value):
        raise TypeError(
            f"{label}: expected a dense array as state {name!r}, but got {type(value).__name__}"
        )
    expected = tuple(array.shape) if shape is None else shape
    if tuple(value.shape) != expected:
        raise ValueError(
            f"{label}: expected state {name!r} of shape {expected}, but got shape "
            f"{tuple(value.shape)}"
        )
    if not castable(value, array):
        raise TypeError(
            f"{label}: state {name!r} of dtype {value.dtype} cannot be cast to the parameter's "
            f"dtype {array.dtype}"
        )


def _check_state(value: Any, array: Array, slot: StateSlot, label: str) -> None:
    """Raise if `value` cannot be updated in place beside `array`."""
    name = slot.name
    check_state_array(value, array, name, label, slot.shape_for(array.shape))
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
