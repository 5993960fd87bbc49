"""Whether the arrays of a step are those of the last one, which need no checks again.

A witness is made of the arrays of a batch when a step is over. At the next step it tells, at
little cost, whether parameters, state and gradients are what they were, but for the numbers in
them. There is none for arrays that cannot be updated in place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from operator import attrgetter, is_
from typing import Any

import array_api_compat as compat
import numpy as np

from arrayopt.namespace import Array

__all__ = ["Witness", "witness"]

States = Mapping[str, Sequence[Array]]

_is_writeable = attrgetter("flags.writeable")


class NumPyWitness:
    """The same objects, with gradients of the same shape and dtype."""

    def __init__(self, arrays: Sequence[Array], grads: Sequence[Array]) -> None:
        self.arrays = arrays
        self.types = [np.ndarray] * len(grads)
        self.shapes = [array.shape for array in arrays]
        self.own_dtypes = [array.dtype for array in arrays]
        self.dtypes = [grad.dtype for grad in grads]

    def holds(self, arrays: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether they are as they were, and can be written to."""
        return (
            [*map(type, grads)] == self.types
            and all(map(is_, arrays, self.arrays))
            and [array.shape for array in arrays] == self.shapes
            and [array.dtype for array in arrays] == self.own_dtypes
            and [grad.shape for grad in grads] == self.shapes
            and [grad.dtype for grad in grads] == self.dtypes
            and all(map(_is_writeable, arrays))
        )

    def plain(self, grads: list[Array]) -> list[Array]:
        """The gradients outside any graph."""
        return grads


class TensorWitness:
    """The same memory, read in the same way: a torch tensor may be pointed to another one."""

    def __init__(self, arrays: Sequence[Array], grads: Sequence[Array], states: States) -> None:
        self.kinds = {*map(type, grads)}
        self.memory = _memory(arrays)
        self.specs = _specs(grads)
        self.states = [(kept, _memory(kept)) for kept in states.values()]

    def holds(self, arrays: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether they are as they were, and the state as well."""
        try:
            return (
                {*map(type, grads)} == self.kinds
                and _memory(arrays) == self.memory
                and _specs(grads) == self.specs
                and all([_memory(kept) == memory for kept, memory in self.states])
            )
        except RuntimeError:  # inside of a transformation such as vmap, there is no memory
            return False

    def plain(self, grads: list[Array]) -> list[Array]:
        """The gradients outside any graph."""
        return [grad.detach() if grad.requires_grad else grad for grad in grads]


class CuPyWitness:
    """The same objects, with gradients of the same shape and dtype, on the same device."""

    def __init__(self, arrays: Sequence[Array], grads: Sequence[Array]) -> None:
        self.arrays = arrays
        self.kinds = {*map(type, grads)}
        self.places = _places(arrays)
        self.specs = _places(grads)

    def holds(self, arrays: Sequence[Any], grads: Sequence[Any]) -> bool:
        """Whether they are as they were."""
        return (
            {*map(type, grads)} == self.kinds
            and all(map(is_, arrays, self.arrays))
            and _places(arrays) == self.places
            and _places(grads) == self.specs
        )

    def plain(self, grads: list[Array]) -> list[Array]:
        """The gradients outside any graph."""
        return grads


Witness = NumPyWitness | TensorWitness | CuPyWitness


def witness(arrays: Sequence[Array], grads: Sequence[Array], states: States) -> Witness | None:
    """The witness of a step on `arrays`, or None if there can be none."""
    kinds = {*map(type, arrays), *map(type, grads)}
    if kinds == {np.ndarray}:
        return NumPyWitness(arrays, grads)
    if len(kinds) == 1 and compat.is_cupy_array(arrays[0]):
        return CuPyWitness(arrays, grads)
    if all(map(compat.is_torch_array, arrays)) and all(map(compat.is_torch_array, grads)):
        with contextlib.suppress(RuntimeError):
            return TensorWitness(arrays, grads, states)
    return None


def _memory(tensors: Sequence[Array]) -> list[tuple[Any, ...]]:
    """Which memory each tensor is, and how it is read."""
    return [(t.data_ptr(), t.shape, t.stride(), t.dtype, t.is_neg(), t.is_conj()) for t in tensors]


def _specs(tensors: Sequence[Array]) -> list[tuple[Any, ...]]:
    """What a gradient is checked for."""
    return [(t.shape, t.dtype, t.layout, t.device) for t in tensors]


def _places(arrays: Sequence[Array]) -> list[tuple[Any, ...]]:
    """What an array of CuPy is checked for. Which memory it is does not change."""
    return [(array.shape, array.dtype, array.data.device_id) for array in arrays]
