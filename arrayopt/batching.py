"""From groups of parameters to batches: checking, sorting, choosing an executor, committing.

A step first builds all its work and only then does it, so that a bad input changes nothing. Work
is kept from step to step and done again while nothing but numbers has changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import is_, itemgetter
from typing import Any, NamedTuple

import numpy as np

from arrayopt import backend
from arrayopt.backend import Batch, Executor
from arrayopt.namespace import (
    Array,
    detach,
    device,
    is_array,
    is_complex,
    is_sparse,
    is_writeable,
    library,
)
from arrayopt.options import python_number
from arrayopt.parameter import Parameter, check_data
from arrayopt.trace import Program, TraceError

__all__ = ["Choice", "StateSlot", "Work", "build", "check_state_array", "choices", "state_number"]


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
    """

    name: str
    initial: float | Callable[[Mapping[str, Any]], float] | None = 0.0
    scalar: bool = False
    when: str | None = None

    def start(self, options: Mapping[str, Any]) -> Any:
        """The initial value under `options`."""
        return self.initial(options) if callable(self.initial) else self.initial


class Choice(NamedTuple):
    """An executor that can do some work, and why it would."""

    executor: Executor
    reason: str


@dataclass(slots=True)
class Work:
    """A batch, who may run it, and what tells whether it can be done again."""

    batch: Batch
    choices: list[Choice]
    slots: tuple[StateSlot, ...]
    states: list[Any]
    switches: tuple[Any, ...]
    shapes: list[tuple[int, ...]]
    own: list[Parameter]
    executor: Executor | None = None
    program: Program | None = None
    fresh: bool = True

    def still_holds(
        self,
        params: list[Any],
        grads: list[Any],
        state: Mapping[Any, dict[str, Any]],
        options: Mapping[str, Any],
        slots: tuple[StateSlot, ...],
    ) -> bool:
        """Whether the same NumPy arrays are to be updated, and are as sound as they were.

        This stands in for `build` in the common case, and is written for speed. It must reject
        whatever `build` would treat otherwise or raise on.
        """
        batch, arrays, states = self.batch, self.batch.arrays, self.states
        if not (
            len(params) == len(arrays)
            and slots == self.slots
            and self.switches == _switches(options)
            and {*map(type, grads)} == {np.ndarray}
            and all(map(is_, params, batch.params))
            and all(map(is_, [param.data for param in params], arrays))
            and all([param.requires_grad for param in self.own])
            and [grad.shape for grad in grads] == self.shapes
            and {grad.dtype for grad in grads} == {arrays[0].dtype}
            and all([array.flags.writeable for array in arrays])
            and all(map(is_, map(state.get, params), states))
        ):
            return False
        try:
            return all(
                all(map(is_, map(itemgetter(name), states), kept))
                for name, kept in batch.states.items()
            ) and all(
                {*map(itemgetter(name), states)} == {value} for name, value in batch.scalars.items()
            )
        except (KeyError, TypeError):  # somebody took an entry away, or put in what is no number
            return False

    def prepare(self) -> None:
        """Do all that can fail: allocate state, trace the rule, settle on an executor."""
        batch = self.batch
        if "step" in batch.scalars:
            batch.scalars["step"] += 1
        for number, (executor, _) in enumerate(self.choices, 1):
            if self.fresh:
                for slot in self.slots:
                    if not slot.scalar and slot.name not in batch.states:
                        initial = slot.start(batch.group)
                        if initial is not None:
                            batch.states[slot.name] = executor.allocate(batch.arrays, initial)
            try:
                self.program = executor.prepare(batch)
            except TraceError:
                if number == len(self.choices):
                    raise
            else:
                self.executor = executor
                return

    def run(self, state: Mapping[Any, dict[str, Any]]) -> None:
        """Update the parameters, and `state` with them."""
        assert self.executor is not None
        batch = self.batch
        known = {*batch.states, *batch.scalars}
        self.executor.run(batch, self.program)
        names = {*batch.states, *batch.scalars}
        changed = self.fresh or batch.rebind or names != known
        if changed:  # a rule without state leaves no entries
            self.states = [state[param] if names else state.get(param) for param in batch.params]
        for name, value in batch.scalars.items():
            for entry in self.states:
                entry[name] = value
        if changed:
            for name, arrays in batch.states.items():
                for entry, array in zip(self.states, arrays):
                    entry[name] = array
        self.fresh = False


def build(
    rule: Callable[..., Any],
    name: str,
    params: Sequence[Any],
    grads: Sequence[Any],
    labels: Callable[[int], str],
    state: Mapping[Any, dict[str, Any]],
    options: Mapping[str, Any],
    slots: tuple[StateSlot, ...],
) -> list[Work]:
    """Check the parameters and gradients of a group, and sort them into batches.

    Parameters
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    name : str
        What the algorithm is called in messages.
    params, grads : sequence
        The parameters of the group; a gradient may be None.
    labels : callable
        What the parameter of a given index is called in messages.
    state : mapping
        The state of each parameter.
    options : mapping
        The hyperparameters of the group.
    slots : tuple of StateSlot
        The state that there should be.

    Returns
    -------
    list of Work
    """
    differentiable = bool(options.get("differentiable"))
    gradients = list(grads)
    arrays: dict[int, Array] = {}
    members: dict[Any, list[int]] = {}
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if grad is None or not _is_trained(param):
            continue
        label = labels(index)
        array = arrays[index] = data_of(param, label, differentiable)
        if isinstance(grad, np.generic):  # as arithmetic on 0-d arrays returns
            grad = gradients[index] = np.asarray(grad)
        _check_grad(grad, array, name, label)
        entry = state.get(param, {})
        present = tuple(s.name for s in slots if not s.scalar and s.name in entry)
        for key in present:
            _check_state(entry[key], array, key, label)
        scalars = tuple(
            state_number(entry[s.name], s.name, label) if s.name in entry else s.start(options)
            for s in slots
            if s.scalar
        )
        key_ = (library(array), array.dtype, str(device(array)), present, scalars)
        members.setdefault(key_, []).append(index)

    works = []
    for (*_, present, scalars), indices in members.items():
        own = [arrays[index] for index in indices]
        states = [state.get(params[index], {}) for index in indices]
        batch = Batch(
            rule=rule,
            group=options,
            params=[params[index] for index in indices],
            arrays=own,
            grads=[gradients[i] if differentiable else detach(gradients[i]) for i in indices],
            states={key: [entry[key] for entry in states] for key in present},
            scalars=dict(zip((slot.name for slot in slots if slot.scalar), scalars)),
            rebind=differentiable or not all(map(is_writeable, own)),
        )
        shapes = [array.shape for array in own]
        options_for = choices(own[0], options)
        parameters = [param for param in batch.params if isinstance(param, Parameter)]
        switches = _switches(options)
        works.append(Work(batch, options_for, slots, states, switches, shapes, parameters))
    return works


def choices(array: Array, options: Mapping[str, Any]) -> list[Choice]:
    """Who can update parameters like `array` under these options, best first.

    Raises
    ------
    RuntimeError
        If the implementation that `options` ask for is not there.
    """
    foreach, fused, differentiable = _switches(options)
    kinds: dict[Any, str]
    if differentiable:
        kinds = {"for-loop": "differentiable=True runs the rule itself"}
    elif fused or foreach:
        kind = "fused" if fused else "foreach"
        kinds = {kind: f"{kind}=True"}
    elif foreach is False:
        kinds = {"for-loop": "foreach=False"}
    else:
        kinds = dict.fromkeys(backend.SPEED, "the fastest available")
        if fused is False:
            del kinds["fused"]
    found = [
        Choice(executor, why)
        for kind, why in kinds.items()
        if (executor := backend.find(array, kind))
    ]
    if not found:
        kind = next(iter(kinds))
        have = ", ".join(k for k in backend.SPEED if backend.find(array, k)) or "none"  # type: ignore[arg-type]
        raise RuntimeError(
            f"{kinds[kind]}: no installed backend has a {kind} implementation for {library(array)} "
            f"arrays of dtype {array.dtype} on {device(array)} (available: {have}). Leave foreach "
            "and fused at None for the fastest that is available; `python -m arrayopt info` lists "
            "the backends, and what each missing one needs"
        )
    return found


def data_of(param: Any, label: str, differentiable: bool = False) -> Array:
    """The array that is to be updated, checked.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        If it is no array, holds no floating-point numbers, or cannot be written to.
    """
    data = param.data
    if not is_array(data):
        raise TypeError(f"{label}: expected an array as .data, but got {type(data).__name__}")
    check_data(data, label)
    if isinstance(data, np.ndarray):
        return np.asarray(data)  # a plain view of a subclass, whose operators may differ
    if not differentiable:
        return detach(data)
    if is_array(param):
        raise RuntimeError(
            f"{label}: differentiable=True rebinds .data, which would drop the graph of a "
            f"{library(param)} array; pass arrayopt.Parameter(array) instead of the array"
        )
    return data


def _check_grad(grad: Any, array: Array, name: str, label: str) -> None:
    if is_sparse(grad):
        raise RuntimeError(
            f"{label}: {name} does not support sparse gradients; pass a dense array "
            f"of shape {tuple(array.shape)}"
        )
    if not is_array(grad) or library(grad) != library(array):
        kind = f"{library(grad)} array" if is_array(grad) else type(grad).__name__
        raise TypeError(f"{label}: expected a gradient of {library(array)}, but got a {kind}")
    if tuple(grad.shape) != tuple(array.shape):
        raise RuntimeError(
            f"{label}: expected a gradient of shape {tuple(array.shape)}, but got shape "
            f"{tuple(grad.shape)}"
        )
    if str(device(grad)) != str(device(array)):
        raise RuntimeError(
            f"{label}: expected a gradient on {device(array)}, but got one on {device(grad)}"
        )
    if not _castable(grad, array):
        raise RuntimeError(
            f"{label}: a gradient of dtype {grad.dtype} cannot be cast to the parameter's dtype "
            f"{array.dtype}"
        )


def _castable(value: Array, array: Array) -> bool:
    if isinstance(value, np.ndarray) and isinstance(array, np.ndarray):
        return np.can_cast(value.dtype, array.dtype, "same_kind")
    return is_complex(array) or not is_complex(value)


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
    if not _castable(value, array):
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
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(
            f"{label}: expected a number as state {name!r}, but got {type(value).__name__}: "
            f"{value!r}"
        )
    if name != "step":
        return number
    if not 0 <= number < math.inf:
        raise ValueError(f"{label}: state 'step' counts steps, but got {value!r}")
    return int(number)  # torch keeps it as a float32 array


def _is_trained(param: Any) -> bool:
    # What requires_grad means for other libraries' parameters is theirs to say: torch's optimizers
    # go by the gradient alone.
    return not isinstance(param, Parameter) or param.requires_grad


def _switches(options: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return options.get("foreach"), options.get("fused"), options.get("differentiable")
