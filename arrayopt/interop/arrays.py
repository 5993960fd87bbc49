"""Arrays of other libraries as copies in NumPy and torch, and the libraries themselves."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.extras import require
from arrayopt.namespace import Array, convert, dtype_name, is_array, is_sparse, library

__all__ = ["map_arrays", "need", "to_numpy", "to_tensor"]


def need(name: str, caller: str) -> Any:
    """The module of a library; see `require`. JAX is part of the extra for optax."""
    return require(name, f"{caller} needs", "optax" if name == "jax" else name)


def to_numpy(array: Array) -> NDArray[Any]:
    """A copy of an array in NumPy; a sparse tensor becomes dense.

    bfloat16 stays what it is where ml_dtypes is installed, and becomes float32, which holds the
    same numbers, where it is not.
    """
    if is_sparse(array):
        array = array.to_dense()
    name = dtype_name(array)
    if name == "bfloat16":
        try:
            importlib.import_module("ml_dtypes")  # NumPy knows the name then
        except ImportError:
            name = "float32"
    own: NDArray[Any] = convert(array, np.empty((), name))
    return own


def to_tensor(array: Array) -> Any:
    """A copy of an array as a tensor of torch, on the CPU if it is not one already."""
    torch = need("torch", "to_torch")
    if library(array) == "torch":
        return array.detach().clone()
    return convert(array, torch.empty((), dtype=getattr(torch, dtype_name(array)), device="cpu"))


def map_arrays(function: Callable[[Array], Any], value: Any) -> Any:
    """A copy of `value` with `function` applied to the arrays in its containers."""
    if is_array(value):
        return function(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: map_arrays(function, entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_arrays(function, entry) for entry in value)
    return copy.deepcopy(value)
