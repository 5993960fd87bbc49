"""The norm of several arrays, as if they were one vector, and the blocks in which it is computed.

Arrays are taken as blocks of a few long pieces or many short ones. Each block gives its norm, and
the total is the norm of these. No array is copied as a whole, and no device is waited for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from arrayopt.namespace import (
    Array,
    DType,
    array_namespace,
    beside,
    compute_dtype,
    convert,
    device,
    is_complex,
    library,
)
from arrayopt.threads import drain, get_num_threads, run_parallel

__all__ = ["map_blocks", "norm_of_arrays", "place"]

#: Elements in a block: NumPy's should stay in the cache, a device likes few and long ones.
NUMPY_BLOCK, DEVICE_BLOCK = 1 << 19, 1 << 22

#: So many products are summed in the precision of the array before double precision takes over.
ROW = 1 << 10


@np.errstate(all="ignore")
def norm_of_arrays(arrays: Sequence[Array], order: float) -> Array:
    """The norm of the norms of the arrays, on the device of the first one.

    Its precision is the largest of the arrays, at least single. The norm of nothing is 0.
    """
    if not arrays:
        return np.float64(0)
    places: dict[Any, list[Array]] = {}
    for array in arrays:
        if 0 not in array.shape:
            places.setdefault(place(array), []).append(array)
    xp = array_namespace(arrays[0])
    one_of_each = {array.dtype: array for array in arrays}.values()
    double = any(array_namespace(a).finfo(compute_dtype(a)).bits > 32 for a in one_of_each)
    dtype = _widest(arrays[0])[0] if double else xp.float32
    with beside(arrays[0]):
        zero = xp.zeros((), dtype=dtype, device=device(arrays[0]))
    if not places:
        return zero[()]
    first, *others = [_block_norms(members, order) for members in places.values()]
    with beside(first):
        norms = array_namespace(first).concat([first, *[convert(norms, first) for norms in others]])
        total = _norm(norms, order)
    return convert(total, zero)[()]


def map_blocks(function: Callable[[list[Any]], Any], arrays: Sequence[Any]) -> list[Any]:
    """Call a function on NumPy arrays, as lists of views, on several threads if there is much."""
    blocks = _blocks(arrays, NUMPY_BLOCK)
    results = [None] * len(blocks)
    queue = deque(enumerate(blocks))

    def work() -> None:
        with np.errstate(all="ignore"):
            for index, block in drain(queue):
                results[index] = function(block)

    run_parallel(work, min(get_num_threads(), len(blocks)))
    return results


def place(array: Array) -> tuple[str, str]:
    """The library and the device of an array."""
    return ("numpy", "") if isinstance(array, np.ndarray) else (library(array), str(device(array)))


def _block_norms(arrays: Sequence[Array], order: float) -> Array:
    """The norms of the blocks of arrays of one library and device, as a vector."""
    with beside(arrays[0]):
        xp = array_namespace(arrays[0])
        if order == 0:  # counts the arrays that have an element other than zero
            return xp.stack([xp.astype(xp.any(array), _widest(array)[0]) for array in arrays])
        if isinstance(arrays[0], np.ndarray):
            return np.asarray(map_blocks(lambda block: _numpy_norm(block, order), arrays))
        return xp.stack([_norm(_sizes(block), order) for block in _blocks(arrays, DEVICE_BLOCK)])


def _numpy_norm(block: list[Any], order: float) -> Any:
    """The norm of a block of NumPy arrays; of order 2, if possible without a copy."""
    if order == 2:
        pieces = [p.astype(np.float32) if p.dtype.itemsize < 4 else p for p in block]
        vector = np.concatenate(pieces, axis=None) if len(pieces) > 1 else pieces[0].reshape(-1)
        square, limits = _sum_of_squares(vector), np.finfo(vector.dtype)
        if limits.tiny / limits.eps**2 < square < math.inf:  # no square that counts left the range
            return math.sqrt(square)
    return _norm(_sizes(block), order)


def _sum_of_squares(vector: Any) -> float:
    whole = vector.size // ROW * ROW
    rows, rest = vector[:whole].reshape(-1, ROW), vector[whole:]
    sums = np.vecdot(rows, rows).real
    return float(np.sum(sums, dtype=np.float64)) + float(np.vecdot(rest, rest).real)


def _sizes(block: list[Array]) -> Array:
    """The absolute values of all elements of a block, as a vector of the widest dtype."""
    xp = array_namespace(block[0])
    real, complex_ = _widest(block[0])
    sizes = [xp.abs(xp.astype(piece, complex_ if is_complex(piece) else real)) for piece in block]
    return xp.concat([xp.reshape(size, (-1,)) for size in sizes])


def _norm(sizes: Array, order: float) -> Array:
    """The norm of a vector of absolute values, scaled so that no power leaves the range."""
    xp = array_namespace(sizes)
    if order == 0:
        return xp.sum(sizes)
    unit = xp.max(sizes) if order > 0 else xp.min(sizes)
    if math.isinf(order):
        return unit
    unit = xp.where((unit > 0) & xp.isfinite(unit), unit, xp.ones_like(unit))
    return unit * xp.sum((sizes / unit) ** order) ** (1 / order)


def _widest(array: Array) -> tuple[DType, DType]:
    """The real and the complex dtype of the largest precision on the device of an array."""
    xp = array_namespace(array)
    if isinstance(array, np.ndarray):
        return xp.float64, xp.complex128
    known = xp.__array_namespace_info__().dtypes(device=device(array), kind="real floating")
    return (xp.float64, xp.complex128) if "float64" in known else (xp.float32, xp.complex64)


def _blocks(arrays: Sequence[Array], limit: int) -> list[list[Array]]:
    """The arrays as lists of views that together have at most `limit` elements."""
    blocks: list[list[Array]] = []
    room = 0
    for array in arrays:
        size = math.prod(array.shape)
        if size > limit:
            blocks += [[piece] for piece in _pieces(array, limit)]
            room = 0
            continue
        if not blocks or size > room:
            blocks.append([])
            room = limit
        blocks[-1].append(array)
        room -= size
    return blocks


def _pieces(array: Array, limit: int) -> list[Array]:
    """Views of at most `limit` elements that make up an array."""
    size = math.prod(array.shape)
    if size <= limit:
        return [array]
    if isinstance(array, np.ndarray) and array.flags.f_contiguous:
        array = array.T
    length = array.shape[0]
    if length == 1:
        return _pieces(array[0, ...], limit)
    rows = max(1, limit * length // size)
    views = [array[start : start + rows, ...] for start in range(0, length, rows)]
    return [piece for view in views for piece in _pieces(view, limit)]
