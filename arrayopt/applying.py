"""A rule applied to one array, purely: what the for-loop and the functional form share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayopt.namespace import (
    Array,
    array_namespace,
    as_complex,
    as_real,
    compute_dtype,
    is_array,
    is_complex,
)
from arrayopt.trace import Rule, unpack

__all__ = ["apply_rule"]


def apply_rule(
    rule: Rule,
    array: Array,
    grad: Array,
    states: Mapping[str, Array],
    numbers: Mapping[str, Any],
    group: Mapping[str, Any],
) -> tuple[Array, dict[str, Array], dict[str, Any]]:
    """The next value of a parameter and of its state. Nothing that is passed in is changed.

    Half precision is computed in float32 and rounded once, complex numbers as pairs of reals.

    Parameters
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    array, grad : array
        The parameter and its gradient, of the same shape.
    states : mapping of str to array
        The arrays of the state that exist.
    numbers : mapping of str to number
        The state that is plain numbers.
    group : mapping
        The hyperparameters.

    Returns
    -------
    array, states
        New arrays of the dtype of `array`; of the state, those that the rule returned.
    numbers : dict
        The numbers that the rule returned, as it left them.

    Raises
    ------
    ValueError
        If the rule returned an array of another shape.
    """
    xp = array_namespace(array)
    dtype = compute_dtype(array)

    def load(value: Array) -> Array:
        if is_complex(array):
            value = as_real(xp.astype(value, array.dtype, copy=False))
        value = xp.astype(value, dtype, copy=False)
        if isinstance(value, np.ndarray):  # a rule does not write to its arguments
            value = value.view()
            value.flags.writeable = False
        return value

    state = {name: load(value) for name, value in states.items()}
    inputs = [load(array), load(grad), *state.values()]

    def round_once(value: Array) -> Array:
        """An output in the dtype of the parameter, in memory of its own."""
        if any(value is source for source in inputs):  # (a momentum that begins as the gradient)
            value = 1 * value  # exact, and an autodiff library sees it
        value = value if is_array(value) else xp.asarray(value)
        if value.shape != inputs[0].shape:
            raise ValueError(
                f"the rule returned shape {value.shape} for a parameter of shape {inputs[0].shape}"
            )
        value = as_complex(value, array.dtype) if is_complex(array) else value
        return xp.astype(value, array.dtype, copy=False)

    result = rule(xp, inputs[0], inputs[1], {**numbers, **state}, group)
    new_param, new_state = unpack(rule, result)
    return (
        round_once(new_param),
        {name: round_once(value) for name, value in new_state.items() if name not in numbers},
        {name: value for name, value in new_state.items() if name in numbers},
    )
