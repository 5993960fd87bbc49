"""What a step is given, read and checked: the arrays of parameters, and their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from arrayopt.namespace import (
    Array,
    castable,
    detach,
    device,
    is_array,
    is_complex,
    is_masked,
    is_sparse,
    library,
)
from arrayopt.parameter import Parameter, check_data
from arrayopt.sparse_grad import SparseGrad, as_sparse_grad

__all__ = [
    "Gradients",
    "Traits",
    "check_array",
    "check_kind",
    "data_of",
    "is_trained",
    "plain",
    "read_grad",
]

#: Which gradients an algorithm takes.
Gradients = Literal["dense", "dense or sparse", "sparse"]


def is_trained(param: Any, grad: Any) -> bool:
    """Whether a step updates a parameter with this gradient."""
    # What requires_grad means for other libraries' parameters is theirs to say: torch's optimizers
    # go by the gradient alone.
    return grad is not None and (not isinstance(param, Parameter) or param.requires_grad)


def data_of(param: Any, label: str, differentiable: bool = False) -> Array:
    """The array that is to be updated, checked.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        If it is no array, holds no floating-point numbers, or cannot be written to.
    """
    data = param.data
    if not is_array(data):
        raise TypeError(f"{label}: expected an array as .data, but got {type(data).__name__}")
    check_data(data, label)
    if isinstance(data, np.ndarray):
        return plain(data, label)
    if not differentiable:
        return detach(data)
    if is_array(param):
        raise RuntimeError(
            f"{label}: differentiable=True rebinds .data, which would drop the graph of a "
            f"{library(param)} array; pass arrayopt.Parameter(array) instead of the array"
        )
    return data


def plain(value: Any, label: str) -> Any:
    """A NumPy array without what a subclass makes of its operators; other values as they are."""
    if is_masked(value):
        raise TypeError(
            f"{label}: masked arrays are not supported, since a step would not know their mask; "
            "fill it first"
        )
    # (a NumPy scalar is what arithmetic on 0-d arrays returns)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


class Traits(NamedTuple):
    """What has to be known of an algorithm before its rule is run.

    Attributes
    ----------
    name : str
        What it is called in messages.
    gradients : {"dense", "dense or sparse", "sparse"}
        Which gradients it takes.
    elementwise : bool
        Whether it treats each element by itself.
    matrices : bool
        Whether it takes matrices alone.
    """

    name: str
    gradients: Gradients = "dense"
    elementwise: bool = True
    matrices: bool = False


def check_array(array: Array, traits: Traits, label: str) -> None:
    """Raise if an algorithm takes no parameters like `array`.

    Raises
    ------
    ValueError
        If it is no matrix, or an empty one, and the algorithm takes matrices alone.
    RuntimeError
        If it is complex, and the algorithm looks at it as a whole.
    """
    if traits.matrices and (len(array.shape) != 2 or 0 in array.shape):
        raise ValueError(
            f"{label}: {traits.name} takes matrices that have elements, but this parameter has "
            f"shape {tuple(array.shape)}; give it to another optimizer beside this one"
        )
    if is_complex(array) and not traits.elementwise:
        raise RuntimeError(f"{label}: {traits.name} does not support complex parameters")


def check_kind(grad: Any, traits: Traits, options: Mapping[str, Any], label: str) -> None:
    """Raise if an algorithm takes no sparse gradients, or no dense ones, under these options."""
    name, gradients = traits.name, traits.gradients
    if not is_sparse(grad):
        if gradients == "sparse":
            raise RuntimeError(
                f"{label}: {name} does not support dense gradients, please consider Adam instead; "
                "arrayopt.SparseGrad makes a sparse gradient"
            )
    elif gradients == "dense":
        raise RuntimeError(
            f"{label}: {name} does not support sparse gradients, please consider SparseAdam, SGD "
            "or Adagrad instead, or pass a dense array"
        )
    elif options.get("weight_decay"):
        raise RuntimeError(
            f"{label}: weight_decay={options['weight_decay']} is not compatible with sparse "
            "gradients, since it moves the entries without a gradient as well"
        )
    elif options.get("differentiable"):
        raise RuntimeError(f"{label}: differentiable=True is not compatible with sparse gradients")


def read_grad(grad: Any, array: Array, label: str, *, densify: bool) -> Any:
    """The gradient of `array`, checked; a sparse one with sums as its entries, or else made dense.

    Raises
    ------
    TypeError
        If it is of another library, or no array.
    RuntimeError
        If shape or device are others, or it cannot be cast to the dtype of `array`.
    ValueError
        If an index of a sparse one is out of range.
    """
    grad = plain(grad, label)
    if not is_sparse(grad):
        _check_grad(grad, array, label)
        return grad
    grad = as_sparse_grad(grad)
    _check_grad(grad, array, label)
    try:
        grad.check(wait=False)  # its arrays may have changed since it was made
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    return grad.to_dense() if densify else grad.summed()


def _check_grad(grad: Any, array: Array, label: str) -> None:
    shape = getattr(grad, "shape", ())
    grad = grad.values if isinstance(grad, SparseGrad) else grad
    if not is_array(grad) or library(grad) != library(array):
        kind = f"{library(grad)} array" if is_array(grad) else type(grad).__name__
        raise TypeError(f"{label}: expected a gradient of {library(array)}, but got a {kind}")
    if tuple(shape) != tuple(array.shape):
        raise RuntimeError(
            f"{label}: expected a gradient of shape {tuple(array.shape)}, but got shape "
            f"{tuple(shape)}"
        )
    homes = device(array), device(grad)
    if None not in homes and str(homes[0]) != str(homes[1]):
        raise RuntimeError(f"{label}: expected a gradient on {homes[0]}, but got one on {homes[1]}")
    if not castable(grad, array):
        raise RuntimeError(
            f"{label}: a gradient of dtype {grad.dtype} cannot be cast to the parameter's dtype "
            f"{array.dtype}"
        )
