"""Sparse gradients: the entries of a parameter that a gradient touches, read and written."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import array_api_compat as compat
import numpy as np

from arrayopt.namespace import (
    Array,
    DType,
    array_namespace,
    beside,
    compute_dtype,
    detach,
    device,
    is_array,
    is_complex,
    is_floating,
    is_sparse,
    library,
    reading_waits,
)

__all__ = ["SparseGrad", "as_sparse_grad", "put_rows", "take_rows"]

#: A tuple of integer arrays of equal length, one for each sparse dimension.
Index = tuple[Array, ...]


class SparseGrad:
    """A gradient that is zero but for some entries: torch's COO layout, for any array library.

    The leading ``sparse_dim`` dimensions are indexed; the others are dense, so that an entry is a
    number, a row or a whole slice. Entries with the same index are summed.

    No GPU is waited for when one is made, or taken by an optimizer. So indices that are on a GPU
    already are not compared with `shape`, unless `check` is called; one that is out of range does
    what it does in the indexing of its library (in CuPy, it wraps around).

    Parameters
    ----------
    indices : array of int, shape (sparse_dim, nnz) or (nnz,)
        The index of each entry. One dimension stands for ``sparse_dim = 1``: the numbers of rows.
    values : array, shape ``(nnz, *shape[sparse_dim:])``
        The entries: real or complex floating-point numbers.
    shape : sequence of int
        The shape of the parameter.

    Attributes
    ----------
    indices, values, shape
        As passed; `indices` as int64, with two dimensions, of the library and device of `values`.
        The values are not copied.

    Raises
    ------
    TypeError
        If `values` is no array, `indices` holds no integers, or `shape` is no sequence of them.
    ValueError
        If the shapes do not fit together, or an index is out of range.

    Examples
    --------
    The gradient of an embedding of 1,000 words, two of which were seen, one of them twice:

    >>> import numpy as np
    >>> grad = SparseGrad([3, 7, 3], np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]]), (1000, 2))
    >>> grad
    SparseGrad(shape=(1000, 2), dtype=float64, nnz=3, sparse_dim=1)
    >>> grad.coalesce().indices, grad.coalesce().values
    (array([[3, 7]]), array([[5., 5.],
           [2., 2.]]))
    """

    def __init__(self, indices: Any, values: Array, shape: Sequence[int]) -> None:
        if not is_array(values) or is_sparse(values):
            raise TypeError(f"expected a dense array as values, but got {type(values).__name__}")
        if not is_floating(values):
            raise TypeError(
                "expected real or complex floating-point numbers as values, but got dtype "
                f"{values.dtype}"
            )
        self.indices: Array = _integers(indices)
        self.values = values
        self.shape = _lengths(shape)
        self.check(wait=False)
        self.indices = _moved(self.indices, values)

    def check(self, wait: bool = True) -> None:
        """Raise a ValueError if shapes do not fit together, or an index is out of range.

        Parameters
        ----------
        wait : bool, default True
            Whether a GPU is waited for, to see the indices that are there.
        """
        shape, got = self.shape, tuple(self.indices.shape)
        if len(got) != 2 or got[0] > len(shape):
            raise ValueError(
                "expected indices of shape (sparse_dim, nnz) with sparse_dim at most "
                f"{len(shape)}, the number of dimensions of shape {shape}, but got shape {got}"
            )
        expected = (self.nnz, *shape[self.sparse_dim :])
        if tuple(self.values.shape) != expected:
            raise ValueError(
                f"expected values of shape {expected}, for indices of shape {got} and a gradient "
                f"of shape {shape}, but got shape {tuple(self.values.shape)}"
            )
        if reading_waits(self.indices) and not wait:
            return
        xp = array_namespace(self.indices)
        for axis in range(self.sparse_dim if self.nnz else 0):
            row = self.indices[axis, :]
            low, high = int(xp.min(row)), int(xp.max(row))
            if low < 0 or high >= shape[axis]:
                raise ValueError(
                    f"expected indices in [0, {shape[axis]}) along axis {axis} of shape {shape}, "
                    f"but got {low if low < 0 else high}"
                )

    @classmethod
    def from_scipy(cls, matrix: Any, sparse_dim: int = 2) -> SparseGrad:
        """The gradient that a sparse array or matrix of SciPy (or of CuPy) stands for.

        Parameters
        ----------
        matrix : sparse array
            In any format; entries stored as zero count as entries.
        sparse_dim : int, default 2
            2 for single numbers; 1 for whole rows, those that have an entry (faster where most
            numbers of these rows are entries, as in the gradient of an embedding).

        Raises
        ------
        TypeError
            If `matrix` is not sparse.
        ValueError
            If `sparse_dim` is neither 2 nor 1.

        Examples
        --------
        >>> import scipy.sparse
        >>> matrix = scipy.sparse.coo_array(([1.0, 2.0], ([4, 4], [0, 2])), shape=(9, 3))
        >>> SparseGrad.from_scipy(matrix)
        SparseGrad(shape=(9, 3), dtype=float64, nnz=2, sparse_dim=2)
        >>> SparseGrad.from_scipy(matrix, sparse_dim=1).values
        array([[1., 0., 2.]])
        """
        if not (is_sparse(matrix) and hasattr(matrix, "tocoo")):
            raise TypeError(f"expected a sparse array of SciPy, but got {type(matrix).__name__}")
        if sparse_dim not in (1, 2):
            raise ValueError(f"expected sparse_dim 1 or 2, but got {sparse_dim!r}")
        coo = matrix.tocoo()
        xp = array_namespace(coo.data)
        coords = coo.coords if hasattr(coo, "coords") else (coo.row, coo.col)
        if sparse_dim < len(coords):
            rows = xp.unique_values(coords[0])
            return cls(rows, coo.tocsr()[rows].toarray(), coo.shape)
        return cls(xp.stack(list(coords)), coo.data, coo.shape)

    @property
    def dtype(self) -> DType:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def sparse_dim(self) -> int:
        """The number of dimensions that are indexed."""
        return int(self.indices.shape[0])

    @property
    def nnz(self) -> int:
        """The number of entries; those with the same index count each."""
        return int(self.indices.shape[1])

    def coalesce(self) -> SparseGrad:
        """The same gradient with sorted indices, each of which occurs once.

        Half-precision values are summed in float32, and stay so. Nothing is copied that is as it
        should be. A GPU is waited for.
        """
        with beside(self.values):
            xp = array_namespace(self.values)
            indices, values = self.indices, self._computed()
            place = self._places()
            if self.nnz > 1 and not bool(xp.all(place[1:] > place[:-1])):
                order = xp.argsort(place, stable=True)
                place = xp.take(place, order, axis=0)
                is_first = xp.concat([xp.ones_like(place[:1]) == 1, place[1:] != place[:-1]])
                (first,) = xp.nonzero(is_first)
                values = _sums(place, xp.take(values, order, axis=0), first)
                indices = xp.take(indices, xp.take(order, first, axis=0), axis=1)
            return self._with(indices, values)

    def summed(self) -> SparseGrad:
        """The same gradient as a step takes it: every entry is the sum of all with its index.

        Each index occurs once, as in `coalesce`. But a GPU would have to be waited for to know how
        many there are: there, all entries of an index have the sum, and so they all do the same.
        """
        if not reading_waits(self.values):
            return self.coalesce()
        indices, sums, _ = self._repeated_sums()
        return self._with(indices, sums)

    def sums(self, padded: bool = False) -> Array:
        """The values of `coalesce`.

        Parameters
        ----------
        padded : bool, default False
            Whether there may be zeros among them, so that a GPU need not be waited for.
        """
        if not (padded and reading_waits(self.values)):
            return self.coalesce().values
        _, sums, is_last = self._repeated_sums()
        with beside(sums):
            return array_namespace(sums).where(_upright(is_last, sums), sums, 0.0)

    def _repeated_sums(self) -> tuple[Array, Array, Array]:
        """Sorted indices, the sum of all entries with the same one, and which of these is last."""
        with beside(self.values):
            xp = array_namespace(self.values)
            place = self._places()
            order = xp.argsort(place, stable=True)
            place = xp.take(place, order, axis=0)
            sums = _running_sums(xp, place, xp.take(self._computed(), order, axis=0))
            last = xp.searchsorted(place, place, side="right") - 1
            is_last = xp.concat([place[1:] != place[:-1], xp.ones_like(place[:1]) == 1])
            indices = xp.take(self.indices, order, axis=1)
            return indices, xp.take(sums, last, axis=0), is_last

    def _computed(self) -> Array:
        """The values in the precision in which they are summed."""
        values = detach(self.values)
        if is_complex(values):
            return values
        return array_namespace(values).astype(values, compute_dtype(values), copy=False)

    def to_dense(self) -> Array:
        """The gradient as an array of shape `shape`, entries with the same index summed."""
        xp = array_namespace(self.values)
        summed = self.summed()
        with beside(self.values):
            dense = xp.zeros(self.shape, dtype=self.dtype, device=device(self.values))
            return put_rows(dense, summed.index, xp.astype(summed.values, self.dtype, copy=False))

    @property
    def index(self) -> Index:
        """The rows of `indices`, by which the entries of a dense array are indexed."""
        return tuple(self.indices[axis, :] for axis in range(self.sparse_dim))

    def zeroed(self) -> SparseGrad:
        """A gradient of the same shape without entries."""
        return self._with(self.indices[:, :0], self.values[:0, ...])

    def _with(self, indices: Array, values: Array) -> SparseGrad:
        """Other entries, known to be sound."""
        other = object.__new__(type(self))
        other.indices, other.values, other.shape = indices, values, self.shape
        return other

    def _places(self) -> Array:
        """Where each entry stands among all that there could be, in C order."""
        return _places(self.index, self.shape, like=self.indices)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, nnz={self.nnz}, "
            f"sparse_dim={self.sparse_dim})"
        )


def as_sparse_grad(grad: Any) -> SparseGrad:
    """A sparse gradient of this library, of torch, SciPy or CuPy as a `SparseGrad`.

    Raises
    ------
    TypeError
        If it is of none of them.
    """
    if isinstance(grad, SparseGrad):
        return grad
    if compat.is_torch_array(grad):
        coo = detach(grad).to_sparse_coo()
        return SparseGrad(coo._indices(), coo._values(), coo.shape)
    return SparseGrad.from_scipy(grad)


def _integers(indices: Any) -> Array:
    """Indices, whatever they are given as, as an int64 array of two dimensions."""
    if not is_array(indices):
        try:
            indices = np.asarray(indices)
        except ValueError:
            raise ValueError("expected indices of equal lengths, but got rows of several") from None
        indices = indices.astype(np.int64) if indices.size == 0 else indices
    xp = array_namespace(indices)
    if not xp.isdtype(indices.dtype, "integral"):
        raise TypeError(f"expected integers as indices, but got dtype {indices.dtype}")
    with beside(indices):
        indices = xp.astype(indices, xp.int64, copy=False)
        return indices[None, :] if indices.ndim == 1 else indices


def _moved(indices: Array, values: Array) -> Array:
    """Indices in the library, and on the device, of `values`."""
    if library(indices) != library(values):
        with beside(values):
            indices = array_namespace(values).asarray(np.asarray(indices))
    return compat.to_device(indices, device(values))


def _lengths(shape: Any) -> tuple[int, ...]:
    """A shape as a tuple of Python integers."""
    try:
        return tuple(operator.index(length) for length in shape)
    except TypeError:
        raise TypeError(f"expected a sequence of integers as shape, but got {shape!r}") from None


def _sums(places: Array, values: Array, first: Array) -> Array:
    """The sums of values with equal places, which are sorted and begin anew at `first`."""
    if isinstance(values, np.ndarray):
        return np.add.reduceat(values, first, axis=0)
    xp = array_namespace(values)
    sums = _running_sums(xp, places, values)
    last = xp.concat([first[1:] - 1, xp.ones_like(first[:1]) * (places.shape[0] - 1)])
    return xp.take(sums, last, axis=0)


def _running_sums(xp: Any, places: Array, values: Array) -> Array:
    """The sum of each value and of those before it with the same place; `places` is sorted.

    Sums of 1, 2, 4, ... neighbours are made from those before: as many passes as it takes to
    double up to the most frequent place, on any array library (on a GPU, up to all of them).
    """
    distance = 1
    while distance < places.shape[0]:
        same = places[distance:] == places[:-distance]
        if not (reading_waits(values) or bool(xp.any(same))):
            break
        same = _upright(same, values)
        earlier = values[:-distance, ...]
        added = values[distance:, ...] + xp.where(same, earlier, xp.zeros_like(earlier))
        values = xp.concat([values[:distance, ...], added])
        distance *= 2
    return values


def _upright(vector: Array, values: Array) -> Array:
    """A vector with an element for each entry, in the form that goes with these."""
    return array_namespace(vector).reshape(vector, (-1, *[1] * (values.ndim - 1)))


def _places(index: Index, shape: Sequence[int], like: Array) -> Array:
    """The number of each indexed entry, in C order; `like` has one column for each of them."""
    xp = array_namespace(like)
    places = xp.zeros(like.shape[-1], dtype=xp.int64, device=device(like))
    for row, length in zip(index, shape):
        places = places * length + xp.astype(row, xp.int64, copy=False)
    return places


def _takes_index_arrays(array: Array) -> bool:
    """Whether ``array[index]`` works with fewer index arrays than dimensions (no standard yet)."""
    return (
        compat.is_numpy_array(array)
        or compat.is_torch_array(array)
        or compat.is_cupy_array(array)
        or compat.is_jax_array(array)
    )


def take_rows(array: Array, index: Index, count: int) -> Array:
    """A copy of the `count` entries of `array` at `index`."""
    xp = array_namespace(array)
    if not index:
        return xp.stack([array] * count) if count else array[None, ...][:0, ...]
    if len(index) == 1:
        return xp.take(array, index[0], axis=0)
    if _takes_index_arrays(array):
        return array[index]
    length, rest = math.prod(array.shape[: len(index)]), array.shape[len(index) :]
    flat = xp.reshape(array, (length, *rest))
    return xp.take(flat, _places(index, array.shape, like=index[0]), axis=0)


def put_rows(array: Array, index: Index, rows: Array) -> Array:
    """`array` with `rows` as its entries at `index`: in place, if it can be written to."""
    if rows.shape[0] == 0:
        return array
    if not index:
        index, rows = (...,), rows[0, ...]
    if compat.is_jax_array(array):
        return array.at[index].set(rows)
    if index[0] is ... or _takes_index_arrays(array):
        array[index] = rows
        return array
    for number in range(rows.shape[0]):
        array[(*(int(row[number]) for row in index), ...)] = rows[number, ...]
    return array
