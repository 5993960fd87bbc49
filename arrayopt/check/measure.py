"""How far two runs are apart, element by element, as they go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.extras import require

__all__ = ["DTYPES", "Divergence", "Errors", "Extent", "dtype_of", "finfo", "relative", "ulps"]

#: The dtypes in which optimizers can be compared.
DTYPES = ("float64", "float32", "float16", "bfloat16", "complex128", "complex64")

Vector = NDArray[Any]
Values = Mapping[str, Vector]


class Extent:
    """The largest size that each element of a run has had so far.

    A difference is measured against it, and not against the element itself, which may happen to
    pass through zero.

    Parameters
    ----------
    least : float
        What counts as the size of anything smaller: the smallest normal number, say.
    """

    def __init__(self, least: float = 0.0) -> None:
        self.least = least
        self.sizes: dict[str, Vector] = {}

    def widen(self, values: Values) -> None:
        """Take one more step into account."""
        for name, vector in values.items():
            sizes = np.fmax(np.abs(_wide(vector)), self.sizes.get(name, self.least))
            self.sizes[name] = sizes


class Divergence:
    """How far a run is from another one.

    Parameters
    ----------
    bound : float
        The largest relative difference that passes for rounding.
    dtype : dtype
        In which both have been computed.

    Attributes
    ----------
    largest : float
        The largest relative difference of any element at any step.
    where : str
        Of the parameter (``"param"``) or of which entry of the state that was.
    ulps : float
        The largest distance in units in the last place.
    typical_ulps : float
        That under which 99 of 100 elements are after the last step.
    first : int or None
        The first step after which a difference was larger than the bound.
    curve : list of float
        The largest relative difference after each step.
    compared, alone : tuple of str
        What has been compared, and what only one of the runs has.
    lost : int
        How many elements the other run has lost in the end to NaN, or to infinity, while this one
        has not.
    """

    def __init__(self, bound: float, dtype: Any) -> None:
        self.bound = bound
        self.dtype = np.dtype(dtype)
        self.largest = 0.0
        self.where = "param"
        self.ulps = 0.0
        self.typical_ulps = 0.0
        self.first: int | None = None
        self.curve: list[float] = []
        self.compared: tuple[str, ...] = ()
        self.alone: tuple[str, ...] = ()
        self.lost = 0

    def update(self, mine: Values, others: Values, extent: Extent) -> None:
        """Compare after one more step."""
        largest = 0.0
        self.compared = tuple(name for name in mine if name in others)
        self.alone = tuple(sorted(mine.keys() ^ others.keys()))
        self.lost = 0
        distances = []
        for name in self.compared:
            own, other = _wide(mine[name]), _wide(others[name])
            if own.size != other.size:  # a number on the one side, an array on the other
                own = np.full(other.size, np.nan)
            lost = np.where(np.isnan(other), ~np.isnan(own), np.isinf(other) & np.isfinite(own))
            self.lost += int(lost.sum())
            own = np.where(lost, other, own)
            difference = float(relative(own, other, extent.sizes[name]).max())
            if difference > self.largest:
                self.where = name
            largest = max(largest, difference)
            self.largest = max(self.largest, difference)
            distances.append(ulps(own, other, self.dtype))
        together = np.concatenate(distances)
        self.ulps = max(self.ulps, float(together.max()))
        self.typical_ulps = float(np.quantile(together, 0.99, method="lower"))
        self.curve.append(largest)
        if self.first is None and not largest <= self.bound:
            self.first = len(self.curve)


class Errors:
    """The errors of several runs against one of higher precision, over all elements and steps.

    Elements that have overflowed in one of the runs, in any entry of the state, do not count.

    Parameters
    ----------
    least : float
        As in `Extent`.
    """

    def __init__(self, least: float = 0.0) -> None:
        self.extent = Extent(least)
        self.alive: dict[int, NDArray[np.bool_]] = {}
        self.sums: dict[tuple[str, str], float] = {}
        self.counts: dict[tuple[str, str], int] = {}

    def update(self, runs: Mapping[str, Values], exact: Values) -> None:
        """Compare after one more step."""
        self.extent.widen(exact)
        for values in runs.values():
            for vector in values.values():
                finite = np.isfinite(_wide(vector))
                self.alive[vector.size] = self.alive.get(vector.size, finite) & finite
        for run, values in runs.items():
            for name, vector in values.items():
                if name in exact and exact[name].size == vector.size:
                    errors = relative(vector, exact[name], self.extent.sizes[name])
                    errors = errors[self.alive[vector.size]]
                    key = (run, name)
                    self.sums[key] = self.sums.get(key, 0.0) + float(np.sum(errors))
                    self.counts[key] = self.counts.get(key, 0) + errors.size

    def of(self, run: str) -> dict[str, float]:
        """The mean relative error of a run, by name.

        (Not that of the squares, which the few elements decide whose gradients happen to cancel.)
        """
        return {
            name: total / max(1, self.counts[run, name])
            for (owner, name), total in self.sums.items()
            if owner == run
        }


def relative(a: Vector, b: Vector, sizes: Vector) -> Vector:
    """The differences of two vectors, relative to the sizes of their elements.

    Equal elements, infinities and NaNs among them, differ by 0. A number and what is no finite
    number differ by infinity.

    Examples
    --------
    >>> a, b = np.array([1.0, np.inf, np.nan]), np.array([2.0, np.inf, 0.0])
    >>> relative(a, b, np.full(3, 4.0)).astype(float).tolist()
    [0.25, 0.0, inf]
    """
    a, b = _wide(a), _wide(b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    comparable = np.isfinite(a) & np.isfinite(b)
    with np.errstate(all="ignore"):
        ratios = np.abs(a - b) / sizes
    return np.where(same, 0.0, np.where(comparable, ratios, np.inf))


def ulps(a: Vector, b: Vector, dtype: np.dtype[Any]) -> Vector:
    """The distances of two vectors in units in the last place of the larger element.

    Parameters
    ----------
    a, b : array of shape (n,)
    dtype : dtype
        Whose last place is meant.

    Examples
    --------
    >>> a, b = np.array([1.0, 0.0]), np.array([1.0 + 2.0**-23, 2.0**-149])
    >>> ulps(a, b, np.dtype(np.float32))
    array([1., 1.])
    """
    limits = finfo(dtype)
    digits = -round(math.log2(float(limits.eps)))
    smallest = round(math.log2(float(limits.smallest_normal)))
    larger = np.maximum(np.abs(_wide(a)), np.abs(_wide(b)))
    _, exponents = np.frexp(np.where(np.isfinite(larger), larger, 0.0))
    units = np.ldexp(np.longdouble(1.0), np.maximum(exponents - 1, smallest) - digits)
    return np.asarray(relative(a, b, units), np.float64)


def dtype_of(name: str) -> np.dtype[Any]:
    """The dtype of a name, ``"bfloat16"`` among them.

    Raises
    ------
    ValueError
        If it holds no real or complex floating-point numbers.
    ImportError
        If bfloat16 is asked for, and ml_dtypes is not installed.
    """
    if name not in DTYPES:
        raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, but got {name!r}")
    if name == "bfloat16":  # NumPy knows the name as soon as ml_dtypes is imported
        require("ml_dtypes", "bfloat16 needs", "check")
    return np.dtype(name)


def finfo(dtype: np.dtype[Any]) -> Any:
    """The limits of a floating-point dtype, bfloat16 among them."""
    if dtype.name != "bfloat16":
        return np.finfo(dtype)
    return require("ml_dtypes", "bfloat16 needs", "check").finfo(dtype)


def _wide(vector: Vector) -> Vector:
    """In the widest type there is."""
    return np.asarray(vector, np.longdouble)
