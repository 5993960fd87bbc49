"""fused on the CPU: the program of a rule, compiled by Numba, on NumPy arrays and torch tensors.

Both are memory. A plan writes the addresses of all operands into a table, whose rows are the
pieces of a batch; the compiled kernel goes through the rows with the interpreter's lock released,
and threads share them. What changes from step to step is where the gradients are. Those of small
NumPy arrays are copied side by side, which is faster than to ask each for its address; if the same
arrays come again, their addresses are known.

Half-precision numbers, arrays with gaps, and gradients that lie in memory otherwise than their
parameter or are of another dtype are left to a slower executor, and so are arrays that overlap.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import is_
from typing import Any

import numpy as np

from arrayopt.backend import Batch, Plan, PlanningExecutor
from arrayopt.namespace import Array
from arrayopt.threads import drain, get_num_threads, run_parallel
from arrayopt.trace import GRAD, Program, Structure, TraceError

from .array_api import ForLoop
from .cpu_memory import CPUArrays, arrays_like, is_tensor
from .numba_kernel import check_structure, kernel, kernel_source
from .numpy_memory import aligned_empty, written_and_read

__all__ = ["NumbaFused"]

#: NumPy arrays of up to this many elements have their gradients copied side by side.
COPIED = 1 << 12

#: How often gradients that have come again are taken for ones that always will.
TRIES = 3

#: Elements of a row, at most, and of what a thread takes at a time, about.
CHUNK = 1 << 18

#: How many chunks there are, about, at most: taking one costs some microseconds.
MOST_CHUNKS = 128

#: Chunks that are worth waking a thread for.
PER_THREAD = 3

#: The precision in which an array of each dtype is updated.
_PRECISIONS = {
    "float32": "float32",
    "float64": "float64",
    "complex64": "float32",
    "complex128": "float64",
}


class NumbaFused(PlanningExecutor):
    """Runs compiled programs, on NumPy arrays and on torch tensors of the CPU."""

    name = "numba_fused"
    implementation = "fused"
    language = "numba"

    def accepts(self, array: Array) -> bool:
        return arrays_like(array) is not None and not self.declines(array)

    def declines(self, array: Array) -> str:
        library = arrays_like(array)
        if library is None:
            return f"{self.name} takes plain tensors only" if is_tensor(array) else ""
        dtype = library.dtype(array)
        if dtype not in _PRECISIONS:
            return f"{self.name} takes no {dtype} arrays"
        return "" if library.is_dense(array) else f"{self.name} takes no arrays with gaps"

    def allocate(self, arrays: Sequence[Array], fill: float | None) -> list[Array]:
        return _library(arrays[0]).slower.allocate(arrays, fill) if arrays else []

    def prepare(self, batch: Batch) -> Program | None:
        plan: _Plan | None = batch.memo.get(self.name)
        library = _library(batch.arrays[0]) if plan is None else plan.library
        if not library.is_plain(batch.grads):
            raise TraceError("a gradient that is no plain memory cannot be fused")
        return super().prepare(batch)

    def check(self, structure: Structure) -> None:
        check_structure(structure)

    def source(self, structure: Structure, dtype: str) -> str:
        return kernel_source(structure, dtype)

    def compile(self, structure: Structure, batch: Batch) -> None:
        kernel(structure, _precision(batch.arrays[0]))

    def plan(self, structure: Structure, batch: Batch) -> Plan:
        return _Plan(structure, batch)


def _library(array: Array) -> CPUArrays:
    library = arrays_like(array)
    assert library is not None  # it has been accepted
    return library


def _precision(array: Array) -> str:
    """In which precision an array is updated."""
    return _PRECISIONS[_library(array).dtype(array)]


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
    kept : list of weakref
        The gradients of the packed arrays, if they were the same arrays in the last step: then
        they are not copied, and read where they are. (Where an array is, is not asked again: one
        that is pointed to other memory in place, as ``resize(refcheck=False)`` does, is not seen.)
    """

    def __init__(self, structure: Structure, batch: Batch) -> None:
        self.structure = structure
        self.library = _library(batch.arrays[0])
        self.precision = _precision(batch.arrays[0])
        self.kernel = kernel(structure, self.precision)
        columns = {"param": batch.arrays, **batch.states}
        operands = [columns[name] for name in structure.operands if name != "grad"]
        written, read = written_and_read(structure, columns)
        self.memory = self.library.written(written)
        self.overlaps = self.memory.overlaps or self.memory.touched_by(read)
        self.strays: list[int] = []
        self.packed: list[int] = []
        self.direct: list[int] = []
        self.layouts: list[Any] = []
        for index, (array, *states) in enumerate(zip(*operands)):
            layout = self.library.layout(array)
            if any(self.library.layout(state) != layout for state in states):
                self.strays.append(index)
            elif (
                isinstance(array, np.ndarray) and array.size <= COPIED and array.flags.c_contiguous
            ):
                self.packed.append(index)
            else:
                self.direct.append(index)
                self.layouts.append(layout)
        self.arena = self._arena([batch.arrays[index] for index in self.packed])
        self.table, self.owners, self.offsets = self._table(operands)
        resting = len(self.table) - len(self.owners)
        self.resting, self.moving = self.table[:resting], self.table[resting:]
        self.copied = self.resting[:, GRAD].copy()
        self.kept: list[weakref.ref[Any]] = []
        self.seen: weakref.ref[Any] | None = None
        self.tries = TRIES
        self.sizes = self.table[:, -1].tolist()
        self.chunks = list(_chunks(self.sizes))
        self.looks: list[Any] = []
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
        itemsize = np.dtype(self.precision).itemsize
        rows, owners, offsets = [], [], []
        copied = 0 if self.arena is None else self.arena.ctypes.data
        for number, index in enumerate([*self.packed, *self.direct], -len(self.packed)):
            addresses = self.library.addresses([arrays[index] for arrays in operands])
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
        width = len(self.structure.operands) + 1
        table = np.array(rows, np.intp).reshape(-1, width)
        return table, np.array(owners, np.intp), np.array(offsets, np.intp)

    def run(self, batch: Batch, program: Program) -> None:
        """Update the arrays of `batch`."""
        grads = batch.grads
        if self.overlaps or self.memory.touched_by(grads):
            ForLoop().run(batch, program)  # one after another
            return
        if self.direct:
            self._find([grads[index] for index in self.direct])
        if self.packed:
            self._supply(
                grads if len(self.packed) == len(grads) else [grads[i] for i in self.packed]
            )
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
            for first, last in drain(queue):
                run(table, first, last, *constants)

        run_parallel(work, num_threads)

    def _supply(self, grads: Sequence[Array]) -> None:
        """Copy the gradients of the packed arrays side by side, unless they keep coming again."""
        if self.kept:
            if all(map(is_, grads, [kept() for kept in self.kept])):
                return
            self.resting[:, GRAD] = self.copied
            self.kept = []
        elif self.tries and self.seen is not None and self.seen() is grads[-1]:
            self.tries -= 1
            if self._keep(grads):
                return
        elif self.tries:
            self.seen = weakref.ref(grads[-1])
        self._copy(grads)

    def _keep(self, grads: Sequence[Array]) -> bool:
        """Have the gradients of the packed arrays read where they are, if these lie alike."""
        dtype = self.arena.dtype
        if not all([grad.flags.c_contiguous and grad.dtype == dtype for grad in grads]):
            return False
        self.resting[:, GRAD] = self.library.addresses([grad for grad in grads if grad.size])
        self.kept = [*map(weakref.ref, grads)]
        return True

    def _copy(self, grads: Sequence[Array]) -> None:
        """Copy the gradients of the packed arrays side by side."""
        try:
            np.concatenate(grads, axis=None, out=self.arena, casting="equiv")
        except TypeError:  # one is of another dtype, and numbers may overflow
            with np.errstate(all="ignore"):
                np.concatenate(grads, axis=None, out=self.arena, casting="same_kind")

    def _find(self, grads: Sequence[Array]) -> None:
        """Write down where the gradients of the direct arrays are, and which of them are odd."""
        addresses = np.array(self.library.addresses(grads), np.intp)
        self.moving[:, GRAD] = addresses[self.owners] + self.offsets
        looks = self.library.looks(grads)
        if looks != self.looks:
            self.looks = looks
            layouts = map(self.library.layout, grads)
            odd = [layout != expected for layout, expected in zip(layouts, self.layouts)]
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
        self.library.slower.run(rest, program)


def _chunks(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Rows that lie side by side, as (first, last + 1): `CHUNK` numbers, or more of very many."""
    enough = max(CHUNK, sum(sizes) // MOST_CHUNKS)
    first, filled = 0, 0
    for row, size in enumerate(sizes):
        filled += size
        if filled >= enough or row == len(sizes) - 1:
            yield first, row + 1
            first, filled = row + 1, 0
