"""What the functional form is given: an algorithm, numbers, and trees of arrays, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayopt.inputs import Traits, check_array, plain, read_grad
from arrayopt.namespace import Array, array_namespace, is_array, is_sparse, library
from arrayopt.nested import flatten
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.parameter import check_numbers
from arrayopt.state import StateSlot, check_state_array, state_number

__all__ = [
    "arrays_in",
    "check_algorithm",
    "check_entry",
    "check_grad",
    "read_arrays",
    "read_number",
]


# Numbers


def arrays_in(value: Any) -> list[Array]:
    """The arrays in an option: it may be one, or a pair with some."""
    return [each for each in (value if isinstance(value, tuple) else (value,)) if is_array(each)]


def read_number(name: str, value: Any) -> Any:
    """An option as a rule computes with it: 0-d arrays, but for NumPy's, stay what they are."""
    if isinstance(value, (tuple, list)):
        return tuple(read_number(name, each) for each in value)
    if not is_array(value) or isinstance(value, np.ndarray):
        return python_number(value)
    if math.prod(value.shape) != 1:
        raise ValueError(f"{name}: expected a number or a 0-d array, but got shape {value.shape}")
    return array_namespace(value).reshape(value, ())


# Arrays


def check_algorithm(algorithm: Any) -> None:
    """Raise if there is no functional form of `algorithm`."""
    if not (isinstance(algorithm, type) and issubclass(algorithm, Optimizer)):
        raise TypeError(
            "expected an optimizer class, such as arrayopt.Adam, but got an object of type "
            f"{type(algorithm).__name__}"
        )
    if not algorithm.has_rule():
        raise TypeError(
            f"{algorithm.__name__} has a step of its own, and no rule that could be a pure "
            "function; arrayopt.minimize runs it"
        )
    if algorithm.gradients == "sparse":
        raise TypeError(
            f"{algorithm.__name__} takes sparse gradients only, which the functional form does "
            "not; use Adam"
        )


def read_arrays(params: Any, traits: Traits, group: Mapping[str, Any]) -> list[tuple[str, Array]]:
    """The parameters, checked, with their names."""
    homes = {name: library(array) for name, value in group.items() for array in arrays_in(value)}
    found = []
    for label, array in flatten(params, "params"):
        if not is_array(array):
            raise TypeError(
                f"{label}: expected an array of NumPy or of another array-API library, or a dict, "
                f"list or tuple of them, but got {type(array).__name__}"
            )
        array = plain(array, label)
        check_numbers(array, label)
        check_array(array, traits, label)
        for name, home in homes.items():
            if home != library(array):
                raise TypeError(
                    f"{label}: expected an array of {home}, as {name} is, but got one of "
                    f"{library(array)}; make arrays of one library of both"
                )
        found.append((label, array))
    return found


def check_grad(grad: Any, array: Array, label: str) -> Array | None:
    """The gradient of a parameter, which may be None."""
    if grad is None:
        return None
    if is_sparse(grad):
        raise TypeError(
            f"{label}: expected a dense gradient, but got a sparse one; the functional form takes "
            "none"
        )
    return read_grad(grad, array, label, densify=True)


def check_entry(entry: Any, array: Array, slot: StateSlot, label: str) -> Any:
    """An entry of the state of a parameter."""
    if slot.scalar and (isinstance(entry, np.ndarray) or not is_array(entry)):
        return state_number(entry, slot.name, label)
    if slot.scalar and tuple(entry.shape):
        raise ValueError(
            f"{label}: expected a number as state {slot.name!r}, but got shape {entry.shape}"
        )
    if not slot.scalar:
        check_state_array(entry, array, slot.name, label, slot.shape_for(array.shape))
    if library(entry) != library(array):
        raise TypeError(
            f"{label}: expected state {slot.name!r} of {library(array)}, but got one of "
            f"{library(entry)}"
        )
    return entry
