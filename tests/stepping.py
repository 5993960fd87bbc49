"""Optimizers that take steps, and what they hold, to the bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import arrayopt as optim
from arrayopt.namespace import is_array

#: For runs whose lines other tests cover as well: measuring coverage doubles the time of a step.
long_run = pytest.mark.no_cover


def params_of(optimizer: optim.Optimizer) -> list[optim.Parameter]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def take(optimizer: optim.Optimizer, steps: Iterable[int]) -> None:
    """Steps whose gradients depend on the parameters and on the number of the step."""
    for step in steps:
        for param in params_of(optimizer):
            param.grad = np.asarray(np.sin(3 * param.data + step)).astype(param.dtype)
        optimizer.step()


def held(value: Any) -> Any:
    """An array to the bit; of anything else, its type and what it prints as."""
    if is_array(value):
        return str(value.dtype), tuple(value.shape), np.asarray(value).tobytes()
    return type(value), repr(value)


def bits(optimizer: optim.Optimizer) -> list[tuple[Any, dict[str, Any]]]:
    """Each parameter and its state, to the bit."""
    return [
        (
            held(param.data),
            {name: held(value) for name, value in optimizer.state.get(param, {}).items()},
        )
        for param in params_of(optimizer)
    ]


def state_bits(optimizer: optim.Optimizer) -> list[dict[str, Any]]:
    """The state of each parameter, to the bit."""
    return [state for _, state in bits(optimizer)]
