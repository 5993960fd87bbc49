"""Memory of NumPy arrays: making it, looking at it, and telling what shares it.

The executors on the CPU have this in common, and some of it with those on a GPU.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

from arrayopt.trace import Structure

__all__ = [
    "ALIGNMENT",
    "SMALL",
    "Memory",
    "NDArray",
    "Spans",
    "aligned_empty",
    "allocate_like",
    "is_dense",
    "layout",
    "owner",
    "pieces",
    "real_view",
    "side_by_side",
    "written_and_read",
]

NDArray: TypeAlias = "np.ndarray[Any, Any]"

#: Bytes to which scratch and state are aligned: a cache line, and the widest vector register.
ALIGNMENT = 64

#: Arrays of up to this many elements are allocated side by side.
SMALL = 1 << 13


def aligned_empty(size: int, dtype: Any, phase: int = 0) -> NDArray:
    """An uninitialised 1-D array whose address is `phase` bytes past a multiple of `ALIGNMENT`."""
    dtype = np.dtype(dtype)
    raw = np.empty(size * dtype.itemsize + 2 * ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT + phase % ALIGNMENT
    array: NDArray = raw[start : start + size * dtype.itemsize].view(dtype)
    return array


def allocate_like(arrays: Sequence[NDArray]) -> list[NDArray]:
    """Arrays of the shapes, dtypes and memory orders of `arrays`, the small ones side by side.

    Small ones that lie side by side need not be packed. A large one is aligned as its parameter is,
    so that both can be cut where they are aligned.
    """
    return side_by_side(arrays, lambda size: aligned_empty(size, arrays[0].dtype), _aligned_like)


def side_by_side(
    arrays: Sequence[Any], flat: Callable[[int], Any], alone: Callable[[Any], Any]
) -> list[Any]:
    """New arrays of the shapes of `arrays`.

    The small ones are pieces of ``flat(size)``; a large one is ``alone(array)``.
    """
    if not arrays:
        return []
    small = [array for array in arrays if array.size <= SMALL]
    parts = pieces(flat(sum(array.size for array in small)), small)
    return [next(parts) if array.size <= SMALL else alone(array) for array in arrays]


def pieces(flat: Any, arrays: Iterable[Any]) -> Iterator[Any]:
    """Views of a flat array, one after another, each of the shape of one of `arrays`."""
    start = 0
    for array in arrays:
        end = start + array.size
        yield flat[start:end].reshape(array.shape)
        start = end


def _aligned_like(array: NDArray) -> NDArray:
    """An array of the shape, dtype and memory order of `array`, and aligned as that is."""
    axes = _memory_order(array)
    flat = aligned_empty(array.size, array.dtype, phase=array.ctypes.data)
    shape = [array.shape[axis] for axis in axes]
    return flat.reshape(shape).transpose(np.argsort(axes))


def _memory_order(array: NDArray) -> list[int]:
    """The axes of `array` from the one with the longest stride to the one with the shortest."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def _flat_view(array: NDArray) -> NDArray | None:
    """All elements of `array` in the order in which they lie in memory, if there are no gaps."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    transposed = array.transpose(_memory_order(array))
    return transposed.reshape(-1) if transposed.flags.c_contiguous else None


def layout(array: NDArray) -> tuple[int, ...]:
    """The strides that matter: those of axes along which there is more than one element."""
    return tuple(
        stride for stride, length in zip(array.strides, array.shape, strict=True) if length > 1
    )


def is_dense(shape: Sequence[int], strides: Sequence[int], unit: int) -> bool:
    """Whether elements lie side by side, in whatever order of the axes.

    The stride from one element to the next is `unit`.
    """
    expected = unit
    for stride, length in sorted(zip(strides, shape)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


def real_view(array: NDArray, dtype: Any) -> NDArray | None:
    """The elements of `array` as a 1-D view of real numbers of `dtype`, if there is one."""
    flat = _flat_view(array)
    if flat is None or flat.real.dtype != dtype:
        return None
    view: NDArray = flat.view(dtype)
    return view


class Memory:
    """The memory that a step writes, to know what would be overwritten before it is read."""

    def __init__(self, written: Sequence[NDArray]) -> None:
        bases = [owner(array) for array in written]
        self.owners = {*map(id, bases)}
        self.foreign = any(base is None for base in bases)
        bounds = [(*np.lib.array_utils.byte_bounds(a), a) for a in written if a.size]
        self.spans = Spans((start, end) for start, end, _ in bounds)
        self.overlaps = self.spans.overlaps and _overlap(sorted(bounds, key=itemgetter(0)))

    def touched_by(self, grads: Sequence[NDArray]) -> bool:
        """Whether a gradient may share memory with what is written."""
        if not self.foreign and self.owners.isdisjoint(map(id, grads)):
            grads = [grad for grad in grads if grad.base is not None]
        for grad in grads:
            base = owner(grad)
            if (base is None or self.foreign or id(base) in self.owners) and self.spans.touch(
                [np.lib.array_utils.byte_bounds(grad)]
            ):
                return True
        return False


class Spans:
    """Pieces of memory: from which address on, and up to which one.

    Arrays with gaps count as if they had none.
    """

    def __init__(self, spans: Iterable[tuple[int, int]]) -> None:
        spans = sorted(spans)
        self.starts = [start for start, _ in spans]
        # the largest end of those before each of them, and of all
        self.ends = [0, *itertools.accumulate((end for _, end in spans), max)]
        self.overlaps = any(end > start for end, start in zip(self.ends, self.starts))

    def touch(self, spans: Iterable[tuple[int, int]]) -> bool:
        """Whether one of them has a byte in common with one of `spans`."""
        starts, ends = self.starts, self.ends
        # those that begin before a span ends must have ended before it begins
        return any([ends[bisect.bisect_left(starts, end)] > start for start, end in spans])


def written_and_read(
    structure: Structure, columns: Mapping[str, Sequence[Any]]
) -> tuple[list[Any], list[Any]]:
    """The arrays of a batch that programs write, and those of its state that they do not."""
    names = {name for name, _ in structure.outputs}
    written = [array for name in names for array in columns[name]]
    read = [a for name, column in columns.items() if name not in names for a in column]
    return written, read


def owner(array: NDArray) -> NDArray | None:
    """The array that owns the memory of `array`; None if that is no NumPy array."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else None


def _overlap(spans: Iterable[tuple[int, int, NDArray]]) -> bool:
    """Whether any two arrays have an element in common; `spans` is sorted by their starts."""
    active: list[tuple[int, NDArray]] = []
    for start, end, array in spans:
        active = [(other_end, other) for other_end, other in active if other_end > start]
        if any(_share(array, other) for _, other in active):
            return True
        active.append((end, array))
    return False


def _share(a: NDArray, b: NDArray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
