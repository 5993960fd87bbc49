"""All parameters as one vector, for algorithms that look at them together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from arrayopt.inputs import data_of, is_trained, read_grad
from arrayopt.namespace import (
    Array,
    array_namespace,
    as_complex,
    as_real,
    beside,
    compute_dtype,
    detach,
    device,
    is_complex,
    is_writeable,
    library,
)
from arrayopt.parameter import Parameter

__all__ = ["Flat", "absolute_sum", "add", "axpy", "dot", "largest"]

#: Elements that NumPy adds at a time, so that its temporary arrays stay in the cache.
BLOCK = 1 << 15


class Flat:
    """The parameters as one real vector.

    Attributes
    ----------
    size : int
        Its length: a complex number counts twice.
    like : array
        An empty vector of its library, dtype and device.
    """

    def __init__(self, params: Sequence[Any], labels: Sequence[str]) -> None:
        self.params, self.labels = params, labels
        arrays = self.arrays()
        homes = [f"{library(array)} on {device(array)}" for array in arrays]
        for label, home in zip(labels, homes):
            if home != homes[0]:
                raise RuntimeError(
                    f"{label}: LBFGS needs all parameters in one array library and on one device: "
                    f"expected {homes[0]}, as {labels[0]} is, but got {home}"
                )
        self.xp = xp = array_namespace(arrays[0])
        dtype = xp.result_type(*map(compute_dtype, arrays))
        with beside(arrays[0]):
            self.like = xp.zeros((0,), dtype=dtype, device=device(arrays[0]))
        self.sizes = [math.prod(array.shape) * (1 + is_complex(array)) for array in arrays]
        self.size = sum(self.sizes)

    def arrays(self) -> list[Array]:
        """The data of the parameters, checked."""
        return [data_of(param, label) for param, label in zip(self.params, self.labels)]

    def position(self) -> Array:
        """Where the parameters are."""
        arrays = self.arrays()
        return self._gather(arrays, arrays)

    def gradient(self, grads: Sequence[Any]) -> Array:
        """The gradients, checked; zero where there is none."""
        arrays = self.arrays()
        values = [
            read_grad(grad, array, label, densify=True) if is_trained(param, grad) else None
            for param, grad, array, label in zip(self.params, grads, arrays, self.labels)
        ]
        return self._gather(values, arrays)

    @np.errstate(all="ignore")
    def move(self, vector: Array) -> None:
        """Write a vector into the parameters."""
        for param, array, piece in zip(self.params, self.arrays(), self._split(vector)):
            if is_frozen(param):
                continue
            value = self.xp.astype(piece, compute_dtype(array), copy=False)
            if is_complex(array):
                value = as_complex(self.xp.reshape(value, (*array.shape, 2)), array.dtype)
            value = self.xp.astype(self.xp.reshape(value, array.shape), array.dtype, copy=False)
            if is_writeable(array):
                array[...] = value
            else:
                param.data = value

    def hold(self, vector: Array) -> Array:
        """A vector with zeros for what is frozen."""
        if not any(map(is_frozen, self.params)):
            return vector
        pieces = zip(self.params, self._split(vector))
        return self.xp.concat([0 * piece if is_frozen(p) else piece for p, piece in pieces])

    def _split(self, vector: Array) -> list[Array]:
        ends = list(accumulate(self.sizes))
        return [vector[end - size : end] for end, size in zip(ends, self.sizes)]

    @np.errstate(all="ignore")
    def _gather(self, values: Sequence[Array | None], arrays: Sequence[Array]) -> Array:
        """A new vector of `values`, which are like `arrays`; of zeros where one is None."""
        xp, dtype = self.xp, self.like.dtype
        pieces = []
        for value, array, size in zip(values, arrays, self.sizes):
            if value is None:
                pieces.append(xp.zeros((size,), dtype=dtype, device=device(self.like)))
                continue
            value = detach(value)
            if is_complex(array):
                value = as_real(xp.astype(value, array.dtype, copy=False))
            pieces.append(xp.reshape(xp.astype(value, dtype, copy=False), (size,)))
        return xp.concat(pieces)


@np.errstate(all="ignore")
def dot(a: Array, b: Array) -> float:
    """The scalar product."""
    return float(a @ b)


@np.errstate(all="ignore")
def axpy(scale: float, x: Array, y: Array) -> Array:
    """``scale * x + y``, in the memory of `y` where that is NumPy's."""
    if not isinstance(y, np.ndarray):
        return scale * x + y
    for begin in range(0, y.size, BLOCK):
        part = y[begin : begin + BLOCK]
        part += scale * x[begin : begin + BLOCK]
    return y


@np.errstate(all="ignore")
def add(scale: float, x: Array, y: Array) -> Array:
    """``scale * x + y``."""
    return scale * x + y


def largest(vector: Array) -> float:
    """The largest magnitude of an element; NaN if there is one, 0 if there is no element."""
    if not vector.shape[0]:
        return 0.0
    xp = array_namespace(vector)
    return max(abs(float(xp.max(vector))), abs(float(xp.min(vector))))


@np.errstate(all="ignore")
def absolute_sum(vector: Array) -> float:
    """The sum of magnitudes."""
    xp = array_namespace(vector)
    return float(xp.sum(xp.abs(vector)))


def is_frozen(param: Any) -> bool:
    """Whether a parameter is to stay as it is."""
    return isinstance(param, Parameter) and not param.requires_grad
