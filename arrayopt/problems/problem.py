"""What a test problem is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from arrayopt.namespace import Array, array_namespace, device, is_array, is_complex, is_floating

__all__ = ["Formulas", "Problem", "Source", "constant", "symmetric"]

#: A formula, of an array of shape (..., n).
Formula = Callable[[Array], Array]


class Source(NamedTuple):
    """Where a problem was published.

    Attributes
    ----------
    author : str
    year : int
    title : str
    where : str
        The journal or publisher, and the pages or the section.

    Examples
    --------
    >>> from arrayopt import problems
    >>> source = problems.rosenbrock().sources[0]
    >>> source.author, source.year
    ('H. H. Rosenbrock', 1960)
    """

    author: str
    year: int
    title: str
    where: str

    def __str__(self) -> str:
        return f"{self.author} ({self.year}), “{self.title}”, {self.where}"


class Formulas(NamedTuple):
    """A function, its gradient and its Hessian, of floating-point arrays of shape (..., n).

    Attributes
    ----------
    fun : callable
        Returns the values, of shape (...).
    grad : callable
        Returns the gradients, of shape (..., n).
    hess : callable
        Returns the Hessians, of shape (..., n, n).

    Examples
    --------
    >>> import numpy as np
    >>> bowl = Formulas(
    ...     fun=lambda x: np.sum(x**2, axis=-1),
    ...     grad=lambda x: 2 * x,
    ...     hess=lambda x: np.broadcast_to(2 * np.eye(2), (*x.shape, 2)),
    ... )
    >>> bowl.fun(np.ones((5, 2)))
    array([2., 2., 2., 2., 2.])
    """

    fun: Formula
    grad: Formula
    hess: Formula


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    r"""A function to be minimized, and what is known of it.

    Parameters
    ----------
    name : str
        What pictures call it.
    formulas : Formulas
        The function, its gradient and its Hessian.
    minima : array, shape (k, n)
        The points where the function is lowest.
    minimum : float
        Its value there.
    start : array, shape (n,)
        Where to begin.
    domain : sequence of n pairs (low, high)
        The part that pictures show.
    equation : str
        LaTeX, without dollar signs.
    sources : tuple of Source
        The original first.
    variance : float or array, shape (n,), default 0
        The variance of the noise that `noisy_grad` adds to each element of the gradient.

    Raises
    ------
    ValueError
        If shapes do not fit together, or a variance is negative or not finite.

    Notes
    -----
    Arrays are read-only copies of float64. Points may be arrays of any library of the array API
    standard, torch's among them, or lists of numbers; integers of NumPy and in lists become floats.

    Examples
    --------
    A problem of one's own:

    >>> import numpy as np
    >>> bowl = Problem(
    ...     "bowl",
    ...     Formulas(lambda x: (x**4).sum(-1), lambda x: 4 * x**3, lambda x: np.diag(12 * x**2)),
    ...     minima=[(0.0, 0.0)],
    ...     minimum=0.0,
    ...     start=(1.0, 2.0),
    ...     domain=((-2, 2), (-3, 3)),
    ... )
    >>> bowl
    Problem('bowl', n=2)
    >>> bowl.fun([[1, 2], [0, 1]]), bowl.grad(bowl.start)
    (array([17.,  1.]), array([ 4., 32.]))
    """

    name: str
    formulas: Formulas
    minima: Any
    minimum: float
    start: Any
    domain: Any
    equation: str = ""
    sources: tuple[Source, ...] = ()
    variance: Any = 0.0

    def __post_init__(self) -> None:
        start = _frozen(self.start)
        if start.ndim != 1 or not start.size:
            raise ValueError(f"start: expected shape (n,), but got {start.shape}")
        n = start.size
        minima, domain = _frozen(self.minima), _frozen(self.domain)
        if minima.ndim != 2 or minima.shape[1] != n:
            raise ValueError(f"minima: expected shape (k, {n}), but got {minima.shape}")
        if domain.shape != (n, 2) or not (domain[:, 0] < domain[:, 1]).all():
            raise ValueError(f"domain: expected {n} pairs (low, high), but got {self.domain!r}")
        variance = _frozen(self.variance)
        if variance.shape not in ((), (n,)) or not ((variance >= 0) & (variance < math.inf)).all():
            raise ValueError(
                f"variance: expected a finite number >= 0, or {n} of them, but got "
                f"{self.variance!r}"
            )
        fields = {"start": start, "minima": minima, "domain": domain}
        for name, value in (fields | {"variance": _frozen(np.full(n, variance))}).items():
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def n(self) -> int:
        """The number of variables."""
        return int(self.start.size)

    def fun(self, x: Any) -> Array:
        """The values at points.

        Parameters
        ----------
        x : array, shape (..., n)

        Returns
        -------
        array, shape (...)

        Raises
        ------
        ValueError
            If the last dimension is not n.
        TypeError
            If they are no floating-point numbers; integers of NumPy and in lists become such.
        """
        return self.formulas.fun(self._read(x))

    def grad(self, x: Any) -> Array:
        """The gradients at points, without noise.

        Parameters
        ----------
        x : array, shape (..., n)

        Returns
        -------
        array, shape (..., n)

        Raises
        ------
        ValueError
            If the last dimension is not n.
        TypeError
            If they are no floating-point numbers; integers of NumPy and in lists become such.
        """
        return self.formulas.grad(self._read(x))

    def hess(self, x: Any) -> Array:
        """The Hessians at points.

        Parameters
        ----------
        x : array, shape (..., n)

        Returns
        -------
        array, shape (..., n, n)

        Raises
        ------
        ValueError
            If the last dimension is not n.
        TypeError
            If they are no floating-point numbers; integers of NumPy and in lists become such.
        """
        return self.formulas.hess(self._read(x))

    def noisy_grad(self, x: Any, rng: np.random.Generator) -> Array:
        """The gradients at points, with independent normal noise of variance `variance`.

        Parameters
        ----------
        x : array, shape (..., n)
        rng : numpy.random.Generator
            Drawn from anew at each call, once for each element.

        Returns
        -------
        array, shape (..., n)

        Raises
        ------
        ValueError
            If the last dimension is not n.
        TypeError
            If `rng` is no generator, or the points are no floating-point numbers.
        """
        if not isinstance(rng, np.random.Generator):
            raise TypeError(
                f"rng: expected a numpy.random.Generator, but got {type(rng).__name__}; make one "
                "by numpy.random.default_rng(seed)"
            )
        grad = self.grad(x)
        return grad + constant(np.sqrt(self.variance) * rng.standard_normal(grad.shape), grad)

    def with_noise(self, variance: Any) -> Problem:
        """The same problem with noise in its gradients.

        Parameters
        ----------
        variance : float or array, shape (n,)
            That of the noise of each element.

        Returns
        -------
        Problem

        Raises
        ------
        ValueError
            If a variance is negative or not finite, or there is a wrong number of them.
        """
        return replace(self, variance=variance)

    def _read(self, x: Any) -> Array:
        """Points as a floating-point array, checked."""
        x = x if is_array(x) else np.asarray(x)
        if isinstance(x, np.ndarray) and x.dtype.kind in "biu":
            x = x.astype(np.float64)
        if not is_floating(x):
            raise TypeError(f"{self.name}: expected floating-point numbers, but got {x.dtype}")
        if x.ndim < 1 or x.shape[-1] != self.n:
            raise ValueError(
                f"{self.name}: expected points of shape (..., {self.n}), but got {tuple(x.shape)}"
            )
        return x

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, n={self.n})"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.equation}$" if self.equation else repr(self)


def _frozen(values: Any) -> Any:
    """A read-only copy."""
    array = np.array(values, np.float64)
    array.flags.writeable = False
    return array


def constant(values: Any, like: Array) -> Array:
    """Real numbers beside the array that they are used with, in its precision."""
    dtype = array_namespace(like).real(like).dtype if is_complex(like) else like.dtype
    return array_namespace(like).asarray(values, dtype=dtype, device=device(like))


def symmetric(xx: Array, xy: Array, yy: Array) -> Array:
    """The matrices of a Hessian in two variables, of its three entries."""
    xp = array_namespace(xx)
    return xp.stack([xp.stack([xx, xy], axis=-1), xp.stack([xy, yy], axis=-1)], axis=-2)
