"""Memory of NumPy arrays: making it, looking at it, and telling what shares it.

What the executors on the CPU have in common.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "ALIGNMENT",
    "Memory",
    "NDArray",
    "Spans",
    "aligned_empty",
    "allocate_like",
    "flat_view",
    "layout",
    "memory_order",
    "owner",
    "real_view",
    "touches",
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

    Small arrays that lie side by side need not be packed, and one that is aligned as its
    parameter is can be cut where both are aligned.
    """
    if not arrays:
        return []
    dtype = arrays[0].dtype
    arena = aligned_empty(sum(a.size for a in arrays if a.size <= SMALL), dtype)
    allocated, start = [], 0
    for array in arrays:
        if array.size <= SMALL:
            new = arena[start : start + array.size].reshape(array.shape)
            start += array.size
        else:
            axes = memory_order(array)
            flat = aligned_empty(array.size, dtype, phase=array.ctypes.data)
            new = flat.reshape([array.shape[axis] for axis in axes]).transpose(np.argsort(axes))
        allocated.append(new)
    return allocated


def memory_order(array: NDArray) -> list[int]:
    """The axes of `array` from the one with the longest stride to the one with the shortest."""
    return sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))


def flat_view(array: NDArray) -> NDArray | None:
    """All elements of `array` in the order in which they lie in memory, if there are no gaps."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    transposed = array.transpose(memory_order(array))
    return transposed.reshape(-1) if transposed.flags.c_contiguous else None


def layout(array: NDArray) -> tuple[int, ...]:
    """The strides that matter: those of axes along which there is more than one element."""
    return tuple(
        stride for stride, length in zip(array.strides, array.shape, strict=True) if length > 1
    )


def real_view(array: NDArray, dtype: Any) -> NDArray | None:
    """The elements of `array` as a 1-D view of real numbers of `dtype`, if there is one."""
    flat = flat_view(array)
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
        spans = [(*np.lib.array_utils.byte_bounds(a), a) for a in written if a.size]
        spans.sort(key=itemgetter(0))
        self.starts = [start for start, _, _ in spans]
        self.ends = list(itertools.accumulate((end for _, end, _ in spans), max))
        self.overlaps = _overlap(spans)

    def touched_by(self, grads: Sequence[NDArray]) -> bool:
        """Whether a gradient may share memory with what is written."""
        if not self.foreign and self.owners.isdisjoint(map(id, grads)):
            grads = [grad for grad in grads if grad.base is not None]
        for grad in grads:
            base = owner(grad)
            if (base is None or self.foreign or id(base) in self.owners) and touches(
                self.starts, self.ends, *np.lib.array_utils.byte_bounds(grad)
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
        self.ends = list(itertools.accumulate((end for _, end in spans), max))
        self.overlaps = any(end > start for end, start in zip(self.ends, self.starts[1:]))

    def touch(self, spans: Iterable[tuple[int, int]]) -> bool:
        """Whether one of them has a byte in common with one of `spans`."""
        starts, ends = self.starts, [0, *self.ends]
        # those that begin before a span ends must have ended before it begins
        return any([ends[bisect.bisect_left(starts, end)] > start for start, end in spans])


def touches(starts: Sequence[int], ends: Sequence[int], start: int, end: int) -> bool:
    """Whether one of the spans has a byte from `start` up to `end`.

    `starts` is sorted; of `ends`, each is the largest so far.
    """
    before = bisect.bisect_left(starts, end)
    return bool(before) and ends[before - 1] > start


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
