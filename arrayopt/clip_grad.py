"""Clipping gradients by their total norm, or element by element."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayopt.groups import is_bare
from arrayopt.namespace import (
    Array,
    array_namespace,
    beside,
    compute_dtype,
    convert,
    detach,
    device,
    is_array,
    is_complex,
    is_floating,
    is_sparse,
    is_writeable,
    library,
)
from arrayopt.norms import map_blocks, norm_of_arrays, place
from arrayopt.options import python_number
from arrayopt.parameter import check_data
from arrayopt.sparse_grad import SparseGrad, as_sparse_grad

__all__ = ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm"]


def get_total_norm(
    tensors: Array | Iterable[Array],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Array:
    r"""Compute the norm of several arrays, as if they were one vector.

    .. math::

        \lVert g \rVert_p = \Bigl( \sum_i \lvert g_i \rvert^p \Bigr)^{1/p}, \qquad
        \lVert g \rVert_\infty = \max_i \lvert g_i \rvert, \qquad
        \lVert g \rVert_{-\infty} = \min_i \lvert g_i \rvert

    Sums are carried in double precision where the device has it, and scaled, so that nothing but
    a result too large for its dtype overflows.

    Parameters
    ----------
    tensors : array, iterable of array, or mapping of str to array
        Real or complex arrays of any shapes, dtypes, libraries and devices, and sparse gradients
        (`SparseGrad`, torch's COO). None stands for no array.
    norm_type : float, default 2.0
        The order `p`: any number, infinity, or ``"inf"``. Of order 0 it is, as in torch, the
        number of arrays that have an element other than zero.
    error_if_nonfinite : bool, default False
        Whether an infinite norm, or one that is NaN, is an error. To know, a GPU is waited for.
    foreach : bool, optional
        Has no effect; torch chooses an implementation by it.

    Returns
    -------
    array of shape ()
        Of the library and on the device of the first array (a NumPy scalar, as NumPy's own
        reductions return); real, of the largest precision among the arrays, and at least single
        precision. Zero if there is nothing to take the norm of.

    Raises
    ------
    TypeError
        If one is neither an array nor a `SparseGrad`, or `norm_type` is no number.
    ValueError
        If `norm_type` is NaN.
    RuntimeError
        If an array holds no floating-point numbers, or the norm is not finite and
        `error_if_nonfinite` is set.

    Examples
    --------
    >>> import numpy as np
    >>> print(get_total_norm([np.array([3.0, 0.0]), np.array([[4.0]])]))
    5.0
    >>> print(get_total_norm([np.array([3.0, 0.0]), np.array([[4.0]])], norm_type=np.inf))
    4.0
    """
    order = _order(norm_type)
    entries = _labelled(tensors, single=is_array(tensors) or is_sparse(tensors))
    grads = [_read(entry, label) for label, entry in entries if entry is not None]
    return _total_norm(grads, order, error_if_nonfinite)


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Array:
    r"""Scale all gradients by one factor, so that their total norm is at most `max_norm`.

    .. math::

        g \leftarrow g \cdot \min\Bigl(1,
            \frac{\text{max\_norm}}{\lVert g \rVert_p + 10^{-6}} \Bigr)

    Parameters
    ----------
    parameters : iterable or mapping
        Parameters with ``.grad`` (`Parameter`, torch's, ...), whose gradients are clipped, or
        bare arrays, each of which is itself a gradient (but a torch tensor is a parameter); a
        mapping of names to either; or a single one. Gradients are scaled in place; one that is
        immutable (of JAX) is replaced by a new ``.grad``. None stands for no gradient. One that is
        there several times counts as often in the norm, and is scaled once. Of sparse ones
        (`SparseGrad`, torch's COO) the values are scaled; in the norm, those with the same index
        are summed first (to do so for a negative `norm_type`, a GPU is waited for).
    max_norm : float
        The largest norm that is left as it is; at least 0.
    norm_type : float, default 2.0
        The order of the norm; see `get_total_norm`.
    error_if_nonfinite : bool, default False
        Whether an infinite norm, or one that is NaN, is an error. If not, a norm of NaN turns all
        gradients into NaN, and an infinite one turns them into 0, and what is infinite into NaN.
        To know, a GPU is waited for; otherwise it is not.
    foreach : bool, optional
        Has no effect; torch chooses an implementation by it.

    Returns
    -------
    array of shape ()
        The total norm before clipping, as `get_total_norm` returns it.

    Raises
    ------
    TypeError
        If an entry is neither a parameter nor an array, a gradient is neither an array nor
        a `SparseGrad`, or an argument is no number.
    ValueError
        If `max_norm` is negative or NaN, `norm_type` is NaN, or a gradient cannot be written to.
    RuntimeError
        If a gradient holds no floating-point numbers, several of its elements share memory, or
        the norm is not finite and `error_if_nonfinite` is set.

        No gradient has changed when an error is raised.

    References
    ----------
    Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013,
    Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> grads = {"weight": np.array([3.0, 0.0]), "bias": np.array([4.0])}
    >>> print(clip_grad_norm_(grads, max_norm=1.0))
    5.0
    >>> grads["weight"].round(4), grads["bias"].round(4)
    (array([0.6, 0. ]), array([0.8]))
    """
    max_norm = _number(max_norm, "max_norm")
    order = _order(norm_type)
    grads = _gradients(parameters)
    total_norm = _total_norm(grads, order, error_if_nonfinite)
    _scale(grads, max_norm, total_norm)
    return total_norm


def clip_grads_with_norm_(
    parameters: Any, max_norm: float, total_norm: Array | float, foreach: bool | None = None
) -> None:
    r"""Scale all gradients as `clip_grad_norm_` does, given their total norm.

    Parameters
    ----------
    parameters, max_norm, foreach
        See `clip_grad_norm_`.
    total_norm : array of one element, or float
        The norm, as `get_total_norm` returns it.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `clip_grad_norm_` does, and if `total_norm` is not one real number, or a negative one
        that is no array.

    Examples
    --------
    >>> import numpy as np
    >>> grad = np.array([3.0, 4.0])
    >>> clip_grads_with_norm_([grad], max_norm=1.0, total_norm=10.0)
    >>> grad.round(4)
    array([0.3, 0.4])
    """
    max_norm = _number(max_norm, "max_norm")
    norm: Array = total_norm
    if not is_array(norm):
        norm = np.float64(_number(norm, "total_norm"))
    elif math.prod(norm.shape) != 1 or not is_floating(norm) or is_complex(norm):
        raise TypeError(
            "total_norm must be one real floating-point number, but got shape "
            f"{tuple(norm.shape)} of dtype {norm.dtype}"
        )
    _scale(_gradients(parameters), max_norm, array_namespace(norm).reshape(detach(norm), ()))


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    r"""Clip each element of the gradients to an interval.

    .. math::

        g_i \leftarrow \min(\max(g_i, -\text{clip\_value}), \text{clip\_value})

    NaN stays NaN.

    Parameters
    ----------
    parameters, foreach
        See `clip_grad_norm_`.
    clip_value : float
        The largest absolute value that is left as it is; at least 0.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `clip_grad_norm_` does for `max_norm` and gradients; TypeError if a gradient is complex,
        since complex numbers have no order; ValueError if several entries of a sparse one have
        the same index (to know, a GPU is waited for). No gradient has changed then.

    Examples
    --------
    >>> import numpy as np
    >>> grad = np.array([0.5, -3.0, 20.0])
    >>> clip_grad_value_([grad], clip_value=1.0)
    >>> grad
    array([ 0.5, -1. ,  1. ])
    """
    clip_value = _number(clip_value, "clip_value")
    grads = _gradients(parameters)
    for grad in grads:
        if is_complex(grad.values):
            raise TypeError(
                f"gradient {grad.label}: clip_grad_value_ expects real gradients, but got dtype "
                f"{grad.values.dtype}; clip_grad_norm_ takes complex ones"
            )
        if grad.sparse is not None and grad.sparse.coalesce().nnz < grad.sparse.nnz:
            raise ValueError(
                f"gradient {grad.label}: expected entries with different indices, but "
                "several have the same one; coalesce the gradient first"
            )

    def clip(array: Array) -> Array:
        xp = array_namespace(array)
        bound = xp.full((), clip_value, dtype=array.dtype, device=device(array))
        return xp.minimum(xp.maximum(array, -bound), bound)

    _change(grads, clip)


class _Gradient(NamedTuple):
    """A gradient, and how it is changed."""

    given: Any  # the object that was given
    values: Array  # its elements, outside any graph; if it is sparse, its entries
    sparse: SparseGrad | None  # the same gradient, if it is sparse
    label: str  # what it is called in errors
    # If values cannot be assigned to: the object that is given new ones, and as what.
    holder: tuple[Any, str] | None = None


def _labelled(entries: Any, single: bool) -> list[tuple[str, Any]]:
    """The entries, each with what it is called in errors: its name or its number."""
    if isinstance(entries, Mapping):
        return [(repr(name), entry) for name, entry in entries.items()]
    if not single and (isinstance(entries, str | bytes) or not isinstance(entries, Iterable)):
        raise TypeError(
            "expected an iterable of parameters or arrays (of a Module, its .parameters()), or a "
            f"single one, but got {type(entries).__name__}"
        )
    labelled = []
    for number, entry in enumerate([entries] if single else entries):
        name = getattr(entry, "name", None)
        labelled.append((str(number) if name is None else repr(name), entry))
    return labelled


def _gradients(parameters: Any) -> list[_Gradient]:
    """The gradients of parameters; an error, if one cannot be changed."""
    single = is_array(parameters) or is_sparse(parameters) or hasattr(parameters, "grad")
    entries = _labelled(parameters, single)
    if not entries and isinstance(parameters, Iterator):
        warnings.warn(
            "expected parameters, but got an iterator that is empty or has been used up: no "
            "gradient is clipped",
            stacklevel=3,
        )
    grads = []
    for label, entry in entries:
        bare = entry is None or is_bare(entry) or isinstance(entry, SparseGrad)
        if not bare and not hasattr(entry, "grad"):
            raise TypeError(
                f"gradient {label}: expected a parameter with .grad or an array, but got "
                f"{type(entry).__name__}"
            )
        given = entry if bare else entry.grad
        if given is not None:
            grads.append(_changeable(_read(given, label), owner=None if bare else entry))
    if not grads and any(is_array(e) and not getattr(e, "requires_grad", True) for _, e in entries):
        warnings.warn(
            "there is no gradient to clip: a torch tensor counts as a parameter, of which .grad is "
            "clipped; these have none and require none",
            stacklevel=3,
        )
    return grads


def _read(given: Any, label: str) -> _Gradient:
    """A gradient of which there is a norm; an error, if there is none."""
    if type(given) is np.ndarray and given.dtype.kind in "fc":  # most are so
        return _Gradient(given, given, None, label)
    is_coo = isinstance(given, SparseGrad) or "sparse_coo" in str(getattr(given, "layout", ""))
    sparse = as_sparse_grad(given) if is_coo else None
    values = given if sparse is None else sparse.values
    dense = isinstance(values, np.generic) or (is_array(values) and not is_sparse(values))
    if not dense or isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"gradient {label}: expected an array or an arrayopt.SparseGrad (its from_scipy makes "
            f"one of SciPy's arrays), but got {type(values).__name__}"
        )
    on_numpy = isinstance(values, np.ndarray | np.generic)
    values = np.asarray(values) if on_numpy else detach(values)
    if not is_floating(values):
        raise RuntimeError(
            f"gradient {label}: expected real or complex floating-point numbers, but got dtype "
            f"{values.dtype}"
        )
    return _Gradient(given, values, sparse, label)


def _changeable(grad: _Gradient, owner: Any) -> _Gradient:
    """The gradient with its holder, if it needs one; an error, if it cannot be changed."""
    given, values, sparse, label, _ = grad
    if given is values and isinstance(values, np.ndarray) and values.flags.carray:  # most are so
        return grad
    check_data(values, f"gradient {label}")
    if is_writeable(values) and not isinstance(given, np.generic):
        return grad
    if sparse is not None:
        return grad._replace(holder=(sparse, "values"))
    if owner is None:
        raise ValueError(
            f"gradient {label}: a bare array of {library(values)} cannot be changed in place; "
            "put it into the .grad of a parameter, which is replaced"
        )
    return grad._replace(holder=(owner, "grad"))


def _number(value: Any, name: str, low: float = 0.0) -> float:
    """An argument as a Python number, which is at least `low`."""
    number = python_number(value)
    if not isinstance(number, int | float):
        raise TypeError(f"{name} must be a number, but got {type(value).__name__}: {value!r}")
    if not number >= low:
        raise ValueError(f"Invalid {name}: {value} (expected a number in [{low:g}, inf])")
    return float(number)


def _order(norm_type: Any) -> float:
    """The order of a norm as a Python number; torch takes ``"inf"``, too."""
    return math.inf if norm_type == "inf" else _number(norm_type, "norm_type", -math.inf)


def _total_norm(grads: Sequence[_Gradient], order: float, error_if_nonfinite: bool) -> Array:
    """The norm of all gradients, entries of sparse ones with the same index summed."""
    arrays = [g.values if g.sparse is None else g.sparse.sums(padded=order >= 0) for g in grads]
    total_norm = norm_of_arrays(arrays, order)
    if error_if_nonfinite and not math.isfinite(float(total_norm)):
        raise RuntimeError(
            f"the total norm of order {order:g} of the gradients is {float(total_norm)}, so that "
            "they cannot be clipped; with error_if_nonfinite=False they are scaled all the same"
        )
    return total_norm


def _scale(grads: Sequence[_Gradient], max_norm: float, total_norm: Array) -> None:
    """Scale the gradients, so that the norm that they are said to have is at most `max_norm`."""
    xp = array_namespace(total_norm)
    with np.errstate(all="ignore"), beside(total_norm):
        coefficient = xp.minimum(max_norm / (total_norm + 1e-6), xp.ones_like(total_norm))
    if isinstance(coefficient, np.generic) and coefficient == 1:
        return
    factors: dict[Any, Array] = {}  # the coefficient in every dtype and place

    def scale(array: Array) -> Array:
        on_numpy = isinstance(array, np.ndarray)
        key = array.dtype if on_numpy else (array.dtype, *place(array))
        if key not in factors:
            zeros, dtype = array_namespace(array).zeros, compute_dtype(array)
            factors[key] = convert(coefficient, zeros((), dtype=dtype, device=device(array)))
        if on_numpy:
            return np.multiply(array, factors[key], out=array, casting="unsafe")
        if not is_complex(array):
            array = array_namespace(array).astype(array, compute_dtype(array), copy=False)
        return array * factors[key]

    _change(grads, scale)


def _change(grads: Sequence[_Gradient], function: Callable[[Array], Array]) -> None:
    """Replace the elements of each gradient by a function of them, which may work in place."""
    in_place = {id(grad.given): grad.values for grad in grads if grad.holder is None}.values()

    def change(block: list[Any]) -> None:
        for piece in block:
            with beside(piece):
                new = function(piece)
                if new is not piece:
                    piece[...] = new

    map_blocks(change, [values for values in in_place if isinstance(values, np.ndarray)])
    with np.errstate(all="ignore"):  # some libraries are made of NumPy
        change([values for values in in_place if not isinstance(values, np.ndarray)])
        for _, values, _, _, holder in grads:
            if holder is not None:
                new = array_namespace(values).astype(function(values), values.dtype)
                setattr(*holder, new)
