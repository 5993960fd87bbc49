"""The for-loop: the rule itself, run on one parameter after another, on any array library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arrayopt.backend import Batch, Executor
from arrayopt.namespace import (
    Array,
    array_namespace,
    as_complex,
    as_real,
    compute_dtype,
    is_array,
    is_complex,
)
from arrayopt.options import python_number
from arrayopt.trace import Program, unpack

__all__ = ["ForLoop"]


class ForLoop(Executor):
    """Runs the rule itself, on arrays of any array-API library.

    This is what the other executors are measured against.
    """

    name = "array_api"
    implementation = "for-loop"
    traces = False

    def accepts(self, array: Array) -> bool:
        return is_array(array)

    def allocate(self, arrays: Sequence[Array], fill: float | None) -> list[Array]:
        if not arrays:
            return []
        xp = array_namespace(arrays[0])
        if fill is None:
            return [xp.empty_like(array) for array in arrays]
        value = complex(fill, fill) if is_complex(arrays[0]) else fill
        return [xp.full_like(array, value) for array in arrays]

    def prepare(self, batch: Batch) -> None:
        return None

    def run(self, batch: Batch, program: Program | None = None) -> None:
        scalars: dict[str, float] = {}
        names = tuple(batch.states) if program is None else program.structure.inputs[2:]
        with np.errstate(all="ignore"):
            for index in range(len(batch.params)):
                scalars = _step(batch, index, names)
        batch.scalars.update(scalars)


def _step(batch: Batch, index: int, names: Sequence[str]) -> dict[str, float]:
    """Update the parameter at `index`, and return the new scalar state."""
    array = batch.arrays[index]
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

    state = {name: load(batch.states[name][index]) for name in names}
    inputs = [load(array), load(batch.grads[index]), *state.values()]
    result = batch.rule(xp, *inputs[:2], {**batch.scalars, **state}, batch.group)
    new_param, new_state = unpack(batch.rule, result)
    scalars = {k: python_number(v) for k, v in new_state.items() if k in batch.scalars}
    outputs = {"param": new_param, **{k: v for k, v in new_state.items() if k not in scalars}}

    def own(value: Array) -> Array:
        """A copy of an output that is an input (a momentum that begins as the gradient)."""
        is_input = any(value is source for source in inputs)
        return 1 * value if is_input else value  # exact, and an autodiff library sees it

    def store(target: Array | None, value: Array) -> Array:
        """`value` in the dtype of the parameter, in `target` if that can be written to."""
        value = value if is_array(value) else xp.asarray(value)
        if value.shape != inputs[0].shape:
            raise ValueError(
                f"the rule returned shape {value.shape} for a parameter of shape {inputs[0].shape}"
            )
        value = as_complex(value, array.dtype) if is_complex(array) else value
        if batch.rebind:
            return xp.astype(value, array.dtype, copy=False)
        target = xp.empty_like(array) if target is None else target
        target[...] = xp.astype(value, array.dtype, copy=False)
        return target

    outputs = {name: own(value) for name, value in outputs.items()}
    data = store(array, outputs.pop("param"))
    for name, value in outputs.items():
        arrays = batch.states.setdefault(name, [None] * len(batch.params))
        arrays[index] = store(arrays[index], value)
    if batch.rebind:
        batch.params[index].data = batch.arrays[index] = data
    return scalars
