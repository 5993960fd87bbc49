"""A rule applied to one array, purely: what the for-loop and the functional form share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayopt.namespace import (
    Array,
    DType,
    array_namespace,
    as_complex,
    as_real,
    compute_dtype,
    is_array,
    is_complex,
)
from arrayopt.trace import Rule, unpack

__all__ = ["apply_rule"]


class _Computing:
    """A namespace in which a rule computes with more precision than its arrays are stored in.

    Attributes
    ----------
    stored : dtype
        That of the parameter.
    """

    def __init__(self, xp: Any, stored: DType) -> None:
        self._xp = xp
        self.stored = stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._xp, name)


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
    dtype, in_pairs = compute_dtype(array), is_complex(array)

    def cast(value: Array, dtype: DType) -> Array:
        return value if value.dtype == dtype else xp.astype(value, dtype, copy=False)

    def load(value: Array) -> Array:
        if in_pairs:
            value = as_real(cast(value, array.dtype))
        value = cast(value, dtype)
        if isinstance(value, np.ndarray):  # a rule does not write to its arguments
            value = value.view()
            value.flags.writeable = False
        return value

    state = {name: load(value) for name, value in states.items()}
    param = load(array)
    inputs = [param, load(grad), *state.values()]

    def round_once(value: Array, name: str = "") -> Array:
        """An output in the dtype of the parameter, in memory of its own."""
        like: Array = state.get(name, param)
        if any(value is source for source in inputs):  # (a momentum that begins as the gradient)
            value = 1 * value  # exact, and an autodiff library sees it
        value = value if is_array(value) else xp.asarray(value)
        if value.shape != like.shape:
            what = f"the state {name!r}" if name else "a parameter"
            raise ValueError(
                f"the rule returned shape {value.shape} for {what} of shape {like.shape}"
            )
        return cast(as_complex(value, array.dtype) if in_pairs else value, array.dtype)

    home = xp if in_pairs or dtype == array.dtype else _Computing(xp, array.dtype)
    result = rule(home, param, inputs[1], {**numbers, **state}, group)
    new_param, new_state = unpack(rule, result)
    return (
        round_once(new_param),
        {name: round_once(value, name) for name, value in new_state.items() if name not in numbers},
        {name: value for name, value in new_state.items() if name in numbers},
    )
