"""The for-loop: the rule itself, run on one parameter after another, on any array library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arrayopt.applying import apply_rule
from arrayopt.backend import Batch, Executor
from arrayopt.namespace import Array, array_namespace, filled_like, is_array
from arrayopt.options import python_number
from arrayopt.trace import Program

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
        if fill is None:
            return [array_namespace(array).empty_like(array) for array in arrays]
        return [filled_like(array, fill) for array in arrays]

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
    states = {name: batch.states[name][index] for name in names}
    data, new_states, numbers = apply_rule(
        batch.rule, array, batch.grads[index], states, batch.scalars, batch.group
    )

    def store(target: Array | None, value: Array) -> Array:
        """Put `value` into `target`, if that can be written to."""
        if batch.rebind:
            return value
        target = array_namespace(array).empty_like(array) if target is None else target
        target[...] = value
        return target

    data = store(array, data)
    for name, value in new_states.items():
        arrays = batch.states.setdefault(name, [None] * len(batch.params))
        arrays[index] = store(arrays[index], value)
    if batch.rebind:
        batch.params[index].data = batch.arrays[index] = data
    return {name: python_number(value) for name, value in numbers.items()}
