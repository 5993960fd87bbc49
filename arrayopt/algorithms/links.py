"""The few lines that several rules share.

Each takes arrays (or placeholders for them) and Python numbers, and returns a new array. The
rounding follows torch's for-loop implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arrayopt.namespace import Array

__all__ = ["decay", "decay_weights", "ema", "ema_of_square", "penalize", "running_mean"]


def penalize(grad: Array, param: Array, weight_decay: float) -> Array:
    """The gradient of the loss with an L2 penalty ``weight_decay / 2 * param**2`` added."""
    return grad + weight_decay * param if weight_decay else grad


def decay_weights(param: Array, lr: float, weight_decay: float) -> Array:
    """Decoupled weight decay: `param` drawn towards zero, apart from the gradient."""
    return (1 - lr * weight_decay) * param if weight_decay else param


def decay(param: Array, grad: Array, group: Mapping[str, Any]) -> tuple[Array, Array]:
    """The parameter and the gradient after weight decay, decoupled or not as `group` says."""
    if group["decoupled_weight_decay"]:
        return decay_weights(param, group["lr"], group["weight_decay"]), grad
    return param, penalize(grad, param, group["weight_decay"])


def ema(average: Array, value: Array, beta: float) -> Array:
    """The exponential moving average ``beta * average + (1 - beta) * value``.

    Written as an interpolation from the nearer end, which loses less to rounding.
    """
    weight = 1 - beta
    if weight < 0.5:
        return average + weight * (value - average)
    return value - (value - average) * (1 - weight)


def running_mean(average: Array, value: Array, beta: float) -> Array:
    """The same average by one formula, for a `beta` that depends on the step.

    `explain` would have to tell both of `ema`. (torch takes the other one in the first steps of
    Adafactor: it makes NaN of an average beside an infinite value.)
    """
    return average + (1 - beta) * (value - average)


def ema_of_square(average: Array, value: Array, beta: float) -> Array:
    """The exponential moving average of ``value**2``."""
    if not beta:  # 0 times an average that has overflowed would be NaN
        return value * value
    return beta * average + (1 - beta) * value * value
