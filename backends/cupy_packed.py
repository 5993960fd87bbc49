"""foreach on CUDA: the program of a rule, carried out by CuPy's own functions on packed arrays.

The small parameters of a batch are copied side by side into one array, updated as one, and copied
back; a large one is updated by itself. So the number of launches does not depend on how many
functions a rule calls on each of many small arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from arrayopt.backend import Batch
from arrayopt.namespace import Array, compute_dtype
from arrayopt.trace import Program, Structure

from .array_api import ForLoop
from .cupy_memory import CuPyExecutor, spans
from .numpy_blocked import UFUNCS
from .numpy_memory import SMALL, Spans, pieces, written_and_read

__all__ = ["CuPyPacked"]

#: Elements of packed arrays, at most, so that temporaries stay small beside the parameters.
PACK = 1 << 22


class CuPyPacked(CuPyExecutor):
    """Runs programs by CuPy's own functions, on small arrays packed into one."""

    name = "cupy_packed"
    implementation = "foreach"

    def plan(self, structure: Structure, batch: Batch) -> _Plan:
        return _Plan(structure, batch)


class _Plan:
    """Which arrays of a batch are packed together. They have to stay the same."""

    def __init__(self, structure: Structure, batch: Batch) -> None:
        self.structure = structure
        columns = {"param": batch.arrays, **batch.states}
        written, read = written_and_read(structure, columns)
        self.memory = Spans(spans(written))
        self.overlaps = self.memory.overlaps or self.memory.touch(spans(read))
        self.packs = list(_packs([array.size for array in batch.arrays]))

    def run(self, batch: Batch, program: Program) -> None:
        """Update the arrays of `batch`."""
        if self.overlaps or self.memory.touch(spans(batch.grads)):
            ForLoop().run(batch, program)  # one after another
            return
        columns = {"param": batch.arrays, "grad": batch.grads, **batch.states}
        for pack in self.packs:
            members = {name: [arrays[i] for i in pack] for name, arrays in columns.items()}
            operands = [_gathered(members[name], batch.arrays[0]) for name in program.structure[0]]
            results = _carried_out(program, operands)
            for name, result in results.items():
                _scatter(result, members[name])


def _packs(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Which arrays are updated together: the small ones, and each large one by itself."""
    pack: list[int] = []
    filled = 0
    for index, size in enumerate(sizes):
        if size > SMALL:
            yield [index]
        elif size:
            if filled + size > PACK:
                yield pack
                pack, filled = [], 0
            pack.append(index)
            filled += size
    if pack:
        yield pack


def _gathered(arrays: Sequence[Array], like: Array) -> Array:
    """The numbers of arrays side by side, real, in the precision of the update."""
    import cupy

    flat = arrays[0].reshape(-1) if len(arrays) == 1 else cupy.concatenate(arrays, axis=None)
    if like.dtype.kind == "c":
        flat = cupy.ascontiguousarray(flat.astype(like.dtype, copy=False))
        return flat.view(compute_dtype(like))
    return flat.astype(compute_dtype(like), copy=False)


def _scatter(result: Array, arrays: Sequence[Array]) -> None:
    """Write numbers that are side by side into arrays, rounded to their dtype."""
    dtype = arrays[0].dtype
    flat = result.view(dtype) if dtype.kind == "c" else result
    for array, numbers in zip(arrays, pieces(flat, arrays)):
        array[...] = numbers


def _carried_out(program: Program, operands: Sequence[Array]) -> Mapping[str, Array]:
    """The outputs of a program. What is not needed any more is let go of."""
    inputs, operations, outputs = program.structure
    last = {value: line for line, (_, uses) in enumerate(operations) for value in uses}
    values = dict(enumerate(operands))
    kept = {value for _, value in outputs}
    for line, (function, uses) in enumerate(operations):
        arguments = [values[v] if v >= 0 else program.constants[-1 - v] for v in uses]
        values[len(inputs) + line] = _function(function)(*arguments)
        for value in {*uses} - kept:
            if value >= 0 and last[value] == line:
                del values[value]
    results = {}
    for name, value in outputs:
        result = values[value].astype(operands[0].dtype, copy=False)  # it may be of booleans
        if value >= len(inputs):
            results[name] = result
        elif inputs[value] != name:
            results[name] = result.copy()  # what it is may be written to
    return results


def _function(name: str) -> Callable[..., Any]:
    import cupy

    function: Callable[..., Any] = getattr(cupy, UFUNCS.get(name, name))
    return function
