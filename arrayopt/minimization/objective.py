"""The function that is minimized: what it is given, what it returns, and how often it is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayopt.clip_grad import get_total_norm
from arrayopt.extras import require
from arrayopt.inputs import read_grad
from arrayopt.namespace import Array, array_namespace, duplicate, is_array
from arrayopt.nested import align, flatten, is_container, rebuild
from arrayopt.options import is_number, python_number
from arrayopt.parameter import Parameter, check_numbers

__all__ = ["Objective", "Point", "norm", "same"]


class Point(NamedTuple):
    """A point, and what is known there.

    Attributes
    ----------
    x, jac : list of array
        The arrays of the point, and the gradient (None for what is not to be moved).
    fun : float
        The value.
    """

    x: list[Array]
    fun: float
    jac: list[Array | None]

    @property
    def gradient_norm(self) -> float:
        """The largest magnitude in the gradient; NaN if there is one."""
        return norm(self.jac, math.inf)

    @property
    def finite(self) -> bool:
        """Whether value and gradient are."""
        return math.isfinite(self.fun) and math.isfinite(self.gradient_norm)


def norm(arrays: Sequence[Array | None], order: float) -> float:
    """The norm of arrays, as if they were one vector."""
    return float(get_total_norm([array for array in arrays if array is not None], order))


class Objective:
    """A function with its gradient, of which every evaluation is counted.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns the value; with ``jac=True``, the value and the gradient.
    jac : callable, True or None
        ``jac(x, *args)`` returns the gradient. None, or False, stands for finite differences.
    args : tuple
        Further arguments of both.
    x0 : array, number, or nested dicts, lists and tuples of them
        A point. It is copied; whole numbers become float64. A nested list of nothing but numbers
        is one array.

    Attributes
    ----------
    params : list of Parameter
        The point that is worked on.
    names : list of str
        What they are called, as in ``x['w']``.
    nfev, njev : int
        How often the function, and the gradient, have been computed.

    Raises
    ------
    TypeError
        If something is not callable, no array, or sparse.
    RuntimeError
        If an array of `x0` does not hold numbers.
    """

    def __init__(self, fun: Any, jac: Any, args: Any, x0: Any) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a function, but got {type(fun).__name__}")
        jac = None if jac is False else jac
        if not (jac is None or jac is True or callable(jac)):
            raise TypeError(
                "jac: expected a function, True (fun returns the value and the gradient) or None, "
                f"but got {jac!r}"
            )
        self.fun, self.jac = fun, jac
        self.args = args if isinstance(args, tuple) else (args,)
        self.nfev = self.njev = 0
        self.tree = x0 if _has_arrays(x0) else np.asarray(x0)
        places = flatten(self.tree, "x")
        if not places:
            raise TypeError(f"x0: expected an array, or arrays in containers, but got {x0!r}")
        self.names = [name for name, _ in places]
        self.params = [Parameter(_start(value, name)) for name, value in places]
        self._latest: Point | None = None

    def structured(self, arrays: Sequence[Array | None]) -> Any:
        """Copies of arrays, in the structure of `x0`."""
        return rebuild(self.tree, [None if a is None else duplicate(a) for a in arrays])

    def look(self) -> Point:
        """The point where the parameters are; it is not computed twice in a row."""
        arrays = [param.data for param in self.params]
        if self._latest is None or not same(self._latest.x, arrays):
            self._latest = self._evaluate([*map(duplicate, arrays)])
        return self._latest

    def _evaluate(self, arrays: list[Array]) -> Point:
        value = self._value(arrays)
        if self.jac is True:
            if not (isinstance(value, tuple) and len(value) == 2):
                raise TypeError(
                    "jac=True: expected fun to return a pair, the value and the gradient, but got "
                    f"{type(value).__name__}"
                )
            self.njev += 1
            value, jac = value
        elif self.jac is None:
            jac = self._differences(arrays, _number(value))
        else:
            self.njev += 1
            jac = self.jac(self.structured(arrays), *self.args)
        return Point(arrays, _number(value), self._gradient(jac, arrays))

    def _value(self, arrays: Sequence[Array]) -> Any:
        self.nfev += 1
        return self.fun(self.structured(arrays), *self.args)

    def _gradient(self, jac: Any, arrays: Sequence[Array]) -> list[Array | None]:
        """Copies of the gradient's arrays, checked."""
        if isinstance(self.tree, np.ndarray) and not is_array(jac):
            jac = np.asarray(jac)
        return [
            None if grad is None else duplicate(read_grad(grad, array, name, densify=True))
            for grad, array, name in zip(align(jac, self.tree, "jac", "x"), arrays, self.names)
        ]

    def _differences(self, arrays: Sequence[Array], value: float) -> Any:
        """The gradient by forward differences from a point with a known value, by SciPy."""
        for array, name in zip(arrays, self.names):
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                raise TypeError(
                    f"{name}: a gradient by finite differences (jac=None) needs NumPy arrays of "
                    f"float64, but got {type(array).__name__} of {array.dtype}; pass jac"
                )
        need = "without jac, the gradient is computed by finite differences, which need"
        optimize = require("scipy.optimize", need, "scipy")
        vector = np.concatenate([array.ravel() for array in arrays])
        ends = np.cumsum([array.size for array in arrays])

        def split(vector: Array) -> list[Array]:
            pieces = np.split(vector, ends[:-1])
            return [piece.reshape(array.shape) for piece, array in zip(pieces, arrays)]

        def at(other: Array) -> float:
            return value if np.array_equal(other, vector) else _number(self._value(split(other)))

        step = math.sqrt(np.finfo(np.float64).eps) * np.maximum(1.0, np.abs(vector))
        gradient = optimize.approx_fprime(vector, at, step)
        return rebuild(self.tree, split(gradient))


def same(a: Sequence[Array], b: Sequence[Array]) -> bool:
    """Whether arrays are equal, element by element."""
    return all(bool(array_namespace(one).all(one == other)) for one, other in zip(a, b))


def _has_arrays(x0: Any) -> bool:
    """Whether `x0` is an array, or has a structure of its own, and is no list of numbers."""
    if is_array(x0):
        return True
    if isinstance(x0, (list, tuple)) and not hasattr(x0, "_fields"):
        return any(map(_has_arrays, x0))
    return is_container(x0)


def _start(value: Any, name: str) -> Array:
    """A copy of an array of the starting point, that can be optimized."""
    if not is_array(value):
        number = python_number(value)
        if isinstance(number, bool) or not isinstance(number, int | float | complex):
            raise TypeError(
                f"{name}: expected an array or a number, but got {type(value).__name__}"
            )
        value = np.asarray(number)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(np.float64)
    check_numbers(value, name)
    return duplicate(value)


def _number(value: Any) -> float:
    """A value of the function as a Python float."""
    number = python_number(value)
    if not is_number(number):
        raise TypeError(
            f"fun: expected a real number as its value, but got {type(value).__name__}: {value!r}"
        )
    return float(number)
