"""What a rule asks of an array as a whole: means, and a matrix made orthogonal.

Each function is `named`: where a rule is explained, its call is written, and not what it does. A
rule that calls one is not `elementwise`: the for-loop runs it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from arrayopt.namespace import Array

__all__ = ["column_mean", "larger", "machine_epsilon", "named", "newton_schulz", "rms", "row_mean"]


#: How many squares are added at a time, so that rounding errors of many do not add up.
ROW = 4096


def named(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let `arrayopt.explain` write calls of a function by its name.

    Parameters
    ----------
    function : callable
        ``function(xp, ...)``, whose further arguments are arrays and numbers, in a module.

    Returns
    -------
    callable
        The same function.

    Examples
    --------
    >>> @named
    ... def norm(xp, array):
    ...     return xp.sqrt(xp.sum(array * array))
    >>> import arrayopt, numpy as np
    >>> class Normalized(arrayopt.Optimizer):
    ...     elementwise = False
    ...
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def rule(self, xp, param, grad, state, group):
    ...         return param - group["lr"] * (grad / norm(xp, grad)), {}
    >>> print(arrayopt.explain(Normalized).text.splitlines()[2])
    θₜ = θₜ₋₁ − γ·gₜ / norm(gₜ)
    """

    @functools.wraps(function)
    def called(xp: Any, *arguments: Any) -> Any:
        write = getattr(type(xp), "written", None)  # which namespaces of symbols have
        return function(xp, *arguments) if write is None else write(xp, function, arguments)

    return called


@named
def machine_epsilon(xp: Any, array: Array) -> float:
    """The distance from 1 to the next number in the dtype that an array is stored in.

    >>> import numpy as np
    >>> machine_epsilon(np, np.ones(1)) == 2.0**-52
    True
    """
    stored = getattr(xp, "stored", None)  # half precision, which is computed in float32
    if stored is not None and str(stored).endswith("bfloat16"):
        return 2.0**-7
    return float(xp.finfo(stored or array.dtype).eps)


@named
def larger(xp: Any, array: Array, number: float) -> Array:
    """The larger one of an element and a number, which is taken for NaN as well.

    >>> import numpy as np
    >>> larger(np, np.array([2.0, -1.0, np.nan]), 1.0)
    array([2., 1., 1.])
    """
    return xp.where(array > number, array, number)


@named
def rms(xp: Any, array: Array) -> Array:
    """The root of the mean square of all elements, as an array of no dimensions; 0 of none.

    >>> import numpy as np
    >>> rms(np, np.array([[1.0, -1.0], [5.0, 3.0]]))
    np.float64(3.0)
    """
    return xp.sqrt(_sum_of_squares(xp, array) / max(1, math.prod(array.shape)))


@named
def row_mean(xp: Any, array: Array) -> Array:
    """The mean along the last dimension, which stays there, with length 1.

    >>> import numpy as np
    >>> row_mean(np, np.array([[1.0, 3.0], [4.0, 6.0]]))
    array([[2.],
           [5.]])
    """
    return xp.sum(array, axis=-1, keepdims=True) / max(1, array.shape[-1])


@named
def column_mean(xp: Any, array: Array) -> Array:
    """The mean along the last dimension but one, which stays there, with length 1.

    >>> import numpy as np
    >>> column_mean(np, np.array([[1.0, 3.0], [4.0, 6.0]]))
    array([[2.5, 4.5]])
    """
    return xp.sum(array, axis=-2, keepdims=True) / max(1, array.shape[-2])


@named
def newton_schulz(
    xp: Any, matrix: Array, a: float, b: float, c: float, steps: int, eps: float
) -> Array:
    r"""A matrix with the singular vectors of another one, and singular values near 1.

    With :math:`X_0 = B / \max(\lVert B \rVert_F, \epsilon)`, and with :math:`B` transposed if it is
    tall, so that products are small:

    .. math::

        A_k = X_k X_k^T, \qquad X_{k+1} = a X_k + (b A_k + c A_k^2) X_k

    A step takes each singular value :math:`\sigma` to :math:`a \sigma + b \sigma^3 + c \sigma^5`.

    Parameters
    ----------
    xp : namespace
    matrix : array
        :math:`B`.
    a, b, c : float
        The coefficients.
    steps : int
        How many steps are taken.
    eps : float
        :math:`\epsilon`, which a matrix of zeros is divided by.

    Examples
    --------
    With the coefficients of Newton and Schulz, the singular values come to 1:

    >>> import numpy as np
    >>> matrix = np.array([[3.0, 0.0, 0.0], [0.0, -2.0, 0.0]])
    >>> newton_schulz(np, matrix, 1.5, -0.5, 0.0, 20, 1e-7).round(6) + 0.0
    array([[ 1.,  0.,  0.],
           [ 0., -1.,  0.]])
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / xp.maximum(xp.sqrt(_sum_of_squares(xp, x)), eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.T if tall else x


def _sum_of_squares(xp: Any, array: Array) -> Array:
    """The sum of the squares of all elements, without an array of these."""
    flat = xp.reshape(array, (-1,))
    whole = flat.shape[0] // ROW * ROW
    if not whole:
        return flat @ flat
    rows, rest = xp.reshape(flat[:whole], (-1, 1, ROW)), flat[whole:]
    return xp.sum(rows @ xp.matrix_transpose(rows)) + rest @ rest
