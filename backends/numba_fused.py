"""fused on the CPU: the program of a rule, compiled by Numba, on NumPy arrays and torch tensors.

Both are memory. A plan writes the addresses of all operands into a table, whose rows are the
pieces of a batch; the compiled kernel goes through the rows with the interpreter's lock released,
and threads share them. What changes from step to step is where the gradients are. Those of small
NumPy arrays are copied side by side, which is faster than to ask each for its address.

Half-precision numbers, arrays with gaps, and gradients that lie in memory otherwise than their
parameter or are of another dtype are left to a slower executor, and so are arrays that overlap.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import array_api_compat as compat
import numpy as np

from arrayopt.backend import Batch, Executor
from arrayopt.namespace import Array
from arrayopt.threads import get_num_threads, run_parallel
from arrayopt.trace import Program, Structure

from .array_api import ForLoop
from .numba_kernel import kernel
from .numpy_blocked import GRAD, NumPyBlocked
from .numpy_memory import Memory, aligned_empty, touches

__all__ = ["NumbaFused"]

#: NumPy arrays of up to this many elements have their gradients copied side by side.
SMALL = 1 << 12

#: Elements of a row, at most, and of what a thread takes at a time, about.
CHUNK = 1 << 18

#: Chunks that are worth waking a thread for.
PER_THREAD = 3

#: The precision in which an array of each dtype is updated.
_PRECISIONS = {
    "float32": "float32",
    "float64": "float64",
    "complex64": "float32",
    "complex128": "float64",
}


class NumbaFused(Executor):
    """Runs compiled programs, on NumPy arrays and on torch tensors of the CPU."""

    name = "numba_fused"
    implementation = "fused"

    def accepts(self, array: Array) -> bool:
        return _is_ours(array) and not self.declines(array)

    def declines(self, array: Array) -> str:
        if not _is_ours(array):
            return ""
        dtype = _dtype(array)
        if dtype not in _PRECISIONS:
            return f"{self.name} takes no {dtype} arrays"
        return "" if _is_dense(array) else f"{self.name} takes no arrays with gaps"

    def allocate(self, arrays: Sequence[Array], fill: float) -> list[Array]:
        return _slower(arrays[0]).allocate(arrays, fill) if arrays else []

    def compile(self, structure: Structure, batch: Batch) -> None:
        kernel(structure, _PRECISIONS[_dtype(batch.arrays[0])])

    def run(self, batch: Batch, program: Program | None) -> None:
        assert program is not None
        plan = batch.memo.get("plan")
        if plan is None or plan.structure != program.structure:
            plan = batch.memo["plan"] = _Plan(program.structure, batch)
        plan.run(batch, program)
        batch.scalars.update(program.scalars)


def _is_ours(array: Array) -> bool:
    """Whether `array` is plain memory of this machine, seen by NumPy or torch."""
    if isinstance(array, np.ndarray):
        return True
    return (
        compat.is_torch_array(array)
        and (type(array).__module__, type(array).__name__) == ("torch", "Tensor")
        and array.device.type == "cpu"
        and str(array.layout) == "torch.strided"
        and not _is_lazy(array)
    )


def _is_lazy(tensor: Array) -> bool:
    """Whether the numbers of a tensor are to be conjugated or negated when they are read."""
    return bool(tensor.is_neg() or tensor.is_conj())


def _dtype(array: Array) -> str:
    """The name of the dtype of `array`."""
    return str(array.dtype).removeprefix("torch.")


def _slower(array: Array) -> Executor:
    """Who takes what is left."""
    return NumPyBlocked() if isinstance(array, np.ndarray) else ForLoop()


def _address(array: Array) -> int:
    """Where the memory of `array` begins."""
    address: int = array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr()
    return address


def _look(array: Array) -> tuple[Any, ...]:
    """What an array says of how its memory is to be read."""
    if isinstance(array, np.ndarray):
        return array.dtype, array.strides
    return array.dtype, array.stride(), _is_lazy(array)


def _layout(array: Array) -> tuple[Any, ...]:
    """How the memory of `array` is to be read: `_look` without the strides that do not matter."""
    dtype, strides, *lazy = _look(array)
    return dtype, *lazy, *(s for s, length in zip(strides, array.shape) if length > 1)


def _is_dense(array: Array) -> bool:
    """Whether the elements lie side by side, in whatever order of the axes."""
    expected = array.itemsize if isinstance(array, np.ndarray) else 1  # torch counts elements
    for stride, length in sorted(zip(_look(array)[1], array.shape)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


class _TensorMemory:
    """What `Memory` is, for torch tensors without gaps."""

    def __init__(self, written: Sequence[Array]) -> None:
        spans = sorted(map(_extent, written))
        self.starts = [start for start, _ in spans]
        self.ends = list(itertools.accumulate((end for _, end in spans), max))
        self.overlaps = any(end > start for end, start in zip(self.ends, self.starts[1:]))

    def touched_by(self, grads: Sequence[Array]) -> bool:
        """Whether a gradient may share memory with what is written."""
        return any([touches(self.starts, self.ends, *_extent(grad)) for grad in grads])


def _extent(tensor: Array) -> tuple[int, int]:
    """The addresses between which a tensor lies."""
    start = tensor.data_ptr()
    if tensor.is_contiguous():
        return start, start + tensor.nbytes
    last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride()))
    return start, start + (last + 1) * tensor.element_size()


class _Plan:
    """The table of a batch, and what becomes of its gradients. Its arrays have to stay the same.

    Attributes
    ----------
    strays : list of int
        Which arrays a slower executor updates, since their state lies otherwise than they do.
    packed : list of int
        The small arrays, whose gradients are copied to `arena`.
    direct : list of int
        The others, whose gradients are read where they are. Their rows come last.
    """

    def __init__(self, structure: Structure, batch: Batch) -> None:
        self.structure = structure
        self.precision = np.dtype(_PRECISIONS[_dtype(batch.arrays[0])])
        self.kernel = kernel(structure, self.precision.name)
        columns = {"param": batch.arrays, **batch.states}
        operands = [columns[name] for name in self.kernel.names if name != "grad"]
        written = [array for name, _ in structure.outputs for array in columns[name]]
        of_numpy = isinstance(batch.arrays[0], np.ndarray)
        self.memory = Memory(written) if of_numpy else _TensorMemory(written)
        self.strays: list[int] = []
        self.packed: list[int] = []
        self.direct: list[int] = []
        for index, (array, *states) in enumerate(zip(*operands)):
            layout = _layout(array)
            if any(_layout(state) != layout for state in states):
                self.strays.append(index)
            elif of_numpy and array.size <= SMALL and array.flags.c_contiguous:
                self.packed.append(index)
            else:
                self.direct.append(index)
        self.layouts = [_layout(batch.arrays[index]) for index in self.direct]
        self.arena = self._arena([batch.arrays[index] for index in self.packed])
        self.table, self.owners, self.offsets = self._table(operands)
        self.moving = self.table[len(self.table) - len(self.owners) :]  # the direct arrays' rows
        self.sizes = self.table[:, -1].tolist()
        self.chunks = list(_chunks(self.sizes))
        self.seen: list[Any] = []
        self.odd: list[int] = []
        self.memos: dict[tuple[int, ...], dict[str, Any]] = {}

    def _arena(self, arrays: Sequence[Array]) -> Array:
        """Where the gradients of small arrays are copied to."""
        if not arrays:
            return None
        return aligned_empty(sum(array.size for array in arrays), arrays[0].dtype)

    def _table(self, operands: Sequence[Sequence[Array]]) -> tuple[Any, Any, Any]:
        """The addresses; and of the last rows, to which direct array each belongs, and where in it.

        A row holds no more than `CHUNK` numbers.
        """
        itemsize = self.precision.itemsize
        rows, owners, offsets = [], [], []
        copied = 0 if self.arena is None else _address(self.arena)
        for number, index in enumerate([*self.packed, *self.direct], -len(self.packed)):
            addresses = [_address(arrays[index]) for arrays in operands]
            array = operands[0][index]
            length = array.nbytes // itemsize  # of real numbers
            addresses.insert(GRAD, copied if number < 0 else 0)
            copied += array.nbytes
            for start in range(0, length, CHUNK):
                offset = start * itemsize
                size = min(CHUNK, length - start)
                rows.append([*(address + offset for address in addresses), size])
                if number >= 0:
                    owners.append(number)
                    offsets.append(offset)
        width = len(self.kernel.names) + 1
        table = np.array(rows, np.intp).reshape(-1, width)
        return table, np.array(owners, np.intp), np.array(offsets, np.intp)

    def run(self, batch: Batch, program: Program) -> None:
        """Update the arrays of `batch`."""
        grads = batch.grads
        if self.memory.overlaps or self.memory.touched_by(grads):
            ForLoop().run(batch, program)  # one after another
            return
        if self.direct:
            self._find([grads[index] for index in self.direct])
        if self.packed:
            self._copy(grads if len(self.packed) == len(grads) else [grads[i] for i in self.packed])
        if self.strays or self.odd:
            self._leave(batch, program, sorted([*self.strays, *self.odd]))
        table, constants, run = self.table, program.constants, self.kernel.run
        useful = len(self.chunks) // PER_THREAD
        num_threads = min(get_num_threads(), useful) if useful > 1 else 1
        if num_threads == 1:
            run(table, 0, len(table), *constants)
            return
        queue = deque(self.chunks)

        def work() -> None:
            while queue:
                try:
                    first, last = queue.popleft()
                except IndexError:  # another thread took the last one
                    return
                run(table, first, last, *constants)

        run_parallel(work, num_threads)

    def _copy(self, grads: Sequence[Array]) -> None:
        """Copy the gradients of the packed arrays side by side."""
        try:
            np.concatenate(grads, axis=None, out=self.arena, casting="equiv")
        except TypeError:  # one is of another dtype, and numbers may overflow
            with np.errstate(all="ignore"):
                np.concatenate(grads, axis=None, out=self.arena, casting="same_kind")

    def _find(self, grads: Sequence[Array]) -> None:
        """Write down where the gradients of the direct arrays are, and which of them are odd."""
        addresses = np.array([*map(_address, grads)], np.intp)
        self.moving[:, GRAD] = addresses[self.owners] + self.offsets
        seen = [*map(_look, grads)]
        if seen != self.seen:
            self.seen = seen
            odd = [_layout(grad) != layout for grad, layout in zip(grads, self.layouts)]
            self.odd = [*itertools.compress(self.direct, odd)]
            self.table[:, -1] = self.sizes
            self.moving[np.array(odd)[self.owners], -1] = 0  # the kernel passes over them

    def _leave(self, batch: Batch, program: Program, left: Sequence[int]) -> None:
        """Have a slower executor update some of the arrays."""

        def take(arrays: Sequence[Any]) -> list[Any]:
            return [arrays[index] for index in left]

        rest = replace(
            batch,
            params=take(batch.params),
            arrays=take(batch.arrays),
            grads=take(batch.grads),
            states={name: take(arrays) for name, arrays in batch.states.items()},
            memo=self.memos.setdefault(tuple(left), {}),
        )
        _slower(rest.arrays[0]).run(rest, program)


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rows that lie side by side, about `CHUNK` numbers together, as (first, last + 1)."""
    first, filled = 0, 0
    for row, size in enumerate(sizes):
        filled += size
        if filled >= CHUNK or row == len(sizes) - 1:
            yield first, row + 1
            first, filled = row + 1, 0
