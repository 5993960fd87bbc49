"""foreach on NumPy: the program of a rule, interpreted block by block, in cache, on all cores.

The parameters of a batch are one stream of elements, cut into blocks that fit the cache. A large
array gives views; small arrays are packed into a block of their own. Every block runs the whole
program with ``out=`` into a few scratch buffers, so no temporary is ever as large as a parameter.
The blocks are independent: threads take them from a queue, and the result does not depend on who
took which.

`_Kernel` is the program with its memory assigned, kept once per structure. `_Dense` cuts a large
array into blocks, `_Pack` gathers small ones into one. An update in which arrays overlap in memory
cannot be blocked; it goes to the for-loop, which is sequential as torch is.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from arrayopt.backend import Batch, Plan, PlanningExecutor
from arrayopt.namespace import compute_dtype, is_floating
from arrayopt.threads import drain, get_num_threads, run_parallel
from arrayopt.trace import GRAD, PREDICATES, Operation, Program, Structure

from .array_api import ForLoop
from .numpy_memory import (
    ALIGNMENT,
    SMALL,
    Memory,
    NDArray,
    aligned_empty,
    allocate_like,
    layout,
    owner,
    pieces,
    real_view,
)

__all__ = ["NumPyBlocked"]

#: Bytes of a block in one operand: long enough that threads seldom wait for the interpreter's
#: lock, short enough that the operands of a program stay in cache from one ufunc to the next.
BLOCK_BYTES = 5 << 17

#: Blocks that are worth waking a thread for.
PER_THREAD = 2

#: The ufuncs of NumPy, and of CuPy, whose names are not those of the standard.
UFUNCS = {"abs": "absolute", "atan2": "arctan2", "pow": "power", "round": "rint"}


class NumPyBlocked(PlanningExecutor):
    """Runs programs block by block, on NumPy arrays of floating-point numbers."""

    name = "numpy_blocked"
    implementation = "foreach"

    def accepts(self, array: Any) -> bool:
        return isinstance(array, np.ndarray) and is_floating(array)

    def allocate(self, arrays: Sequence[NDArray], fill: float | None) -> list[NDArray]:
        allocated = allocate_like(arrays)
        if fill is None:
            return allocated
        for array in allocated:
            array[...] = complex(fill, fill) if array.dtype.kind == "c" else fill
        return allocated

    def plan(self, structure: Structure, batch: Batch) -> Plan:
        return _Plan(structure, batch)


class _Kernel:
    """A program whose values have been assigned to memory.

    Memory is numbered: the inputs, then the outputs that are no inputs (state made in this step),
    then scratch, then the constants. An operation writes straight into the memory of an input when
    its result is that input's new value and the old one is not needed any more.

    Attributes
    ----------
    names : tuple of str
        What the memory before the scratch holds.
    written : list of int
        The memory before the scratch that is written.
    scratch : list of type
        float or bool, for each scratch buffer.
    run : callable
        Runs the program on one block: ``run(*memory, *constants)``, arrays all.
    """

    def __init__(self, structure: Structure) -> None:
        inputs = structure.inputs
        self.names = structure.operands
        operations, goals, copies = _aim(structure, self.names)
        self.written = sorted({*goals.values(), *(target for _, target in copies)})
        place, calls, self.scratch = _assign(operations, goals, len(inputs), len(self.names))
        moves = [*goals.items(), *copies]
        calls += [("copy", [place[v], target]) for v, target in moves if place[v] != target]
        self.run = _assemble(calls, len(self.names) + len(self.scratch))


def _aim(
    structure: Structure, names: Sequence[str]
) -> tuple[list[Operation], dict[int, int], list[tuple[int, int]]]:
    """The operations, the memory in which each output has to end up, and where else.

    An output that is another name's input is copied by an operation of its own.
    """
    operations = list(structure.operations)
    goals: dict[int, int] = {}
    copies: list[tuple[int, int]] = []
    for name, value in structure.outputs:
        target = names.index(name)
        if value < len(structure.inputs) and value != target:
            operations.append(Operation("positive", (value,)))
            value = len(structure.inputs) + len(operations) - 1
        if goals.setdefault(value, target) != target:
            copies.append((value, target))
    return operations, goals, copies


def _assign(
    operations: Sequence[Operation], goals: dict[int, int], inputs: int, first_scratch: int
) -> tuple[dict[int, int], list[tuple[str, list[int]]], list[type]]:
    """Memory for every value (by its last use), the calls on memory, and the scratch needed."""
    last_use = {v: line for line, op in enumerate(operations) for v in op.operands}
    last_use |= dict.fromkeys(goals, len(operations))
    place = dict(enumerate(range(inputs)))  # value -> memory
    scratch: list[type] = []
    free: set[int] = set()
    calls: list[tuple[str, list[int]]] = []
    for line, (function, operands) in enumerate(operations):
        result = inputs + line
        kind = bool if function in PREDICATES else float
        arguments = [place.get(operand, operand) for operand in operands]
        # where() writes its last operand before it reads the others
        unsafe = set(arguments[:2]) if function == "where" else set()
        dying = {place[v] for v in operands if v >= 0 and last_use[v] == line}
        dying = {memory for memory in dying if memory >= first_scratch}
        reusable = [
            memory
            for memory in (*sorted(dying), *sorted(free))
            if scratch[memory - first_scratch] is kind and memory not in unsafe
        ]
        target = goals.get(result, -1)
        is_new = target >= inputs  # state that did not exist: nobody reads what was there
        if (
            target >= 0
            and kind is float
            and target not in unsafe
            and (is_new or last_use.get(target, -1) <= line)
        ):
            home = target
        elif reusable:
            home = reusable[0]
        else:
            scratch.append(kind)
            home = first_scratch + len(scratch) - 1
        free |= dying
        if result in last_use:
            free.discard(home)
        place[result] = home
        calls.append((function, [*arguments, home]))
    return place, calls, scratch


def _assemble(calls: Sequence[tuple[str, Sequence[int]]], memory: int) -> Callable[..., None]:
    """A function that makes `calls`: names of functions, and the memory that each is passed.

    Threads hold the interpreter's lock between two calls, so there has to be little to do there:
    this is a straight line of Python rather than a loop over a table.
    """
    constants = -min((m for _, arguments in calls for m in arguments if m < 0), default=0)
    names = [f"m{number}" for number in range(memory)] + [f"c{n}" for n in range(constants)]
    lines = []
    for call, arguments in calls:
        *inputs, out = (names[m if m >= 0 else memory - 1 - m] for m in arguments)
        # (by position is faster, but deprecated for these two)
        out = f"out={out}" if call in ("maximum", "minimum") else out
        lines.append(f"    {call}({', '.join([*inputs, out])})")
    source = "\n".join([f"def run({', '.join(names)}):", *lines, "    return None"])
    functions = {call: _callable(call) for call, _ in calls}
    exec(compile(source, "<arrayopt.numpy_blocked>", "exec"), functions)
    run: Callable[..., None] = functions["run"]
    return run


_compile = functools.lru_cache(maxsize=1024)(_Kernel)


def _callable(function: str) -> Callable[..., Any]:
    if function in ("copy", "where"):
        return _copy if function == "copy" else _where
    ufunc: Callable[..., Any] = getattr(np, UFUNCS.get(function, function))
    return ufunc


def _copy(x: NDArray, out: NDArray) -> None:
    np.copyto(out, x)


def _where(condition: NDArray, x: NDArray, y: NDArray, out: NDArray) -> None:
    np.copyto(out, y)
    np.copyto(out, x, where=condition)


Execute: TypeAlias = "Callable[[Sequence[NDArray]], None]"
Block: TypeAlias = "Callable[[Execute], None]"


class _Plan:
    """How the arrays of a batch are cut into blocks. It holds as long as they stay the same."""

    def __init__(self, structure: Structure, batch: Batch) -> None:
        self.structure = structure
        self.kernel = _compile(structure)
        self.dtype = compute_dtype(batch.arrays[0])
        self.block = BLOCK_BYTES // self.dtype.itemsize
        # Gradients come and go; a plan keeps their places empty.
        known = {"param": batch.arrays, "grad": [None] * len(batch.arrays), **batch.states}
        columns = [known[name] for name in self.kernel.names]
        rows = list(zip(*columns))
        written = [rows[i][m] for i in range(len(rows)) for m in self.kernel.written]
        self.memory = Memory(written)
        # state that is only read must not change under way, either
        read = [a for m, a in enumerate(columns) if m != GRAD and m not in self.kernel.written]
        self.overlaps = self.memory.overlaps or self.memory.touched_by([*itertools.chain(*read)])
        self.large: list[tuple[int, _Dense]] = []
        self.packs: list[tuple[list[int], _Pack]] = []
        small: list[int] = []
        filled = 0
        for index, row in enumerate(rows):
            size = row[0].size
            if size > SMALL:
                self.large.append((index, _Dense(row, self.kernel, self.dtype, self.block)))
            elif size:
                length = size * (2 if row[0].dtype.kind == "c" else 1)
                if filled + length > self.block:
                    self._pack(small, rows)
                    small, filled = [], 0
                small.append(index)
                filled += length
        self._pack(small, rows)

    def _pack(self, members: list[int], rows: Sequence[Sequence[NDArray]]) -> None:
        if members:
            columns = list(zip(*(rows[index] for index in members)))
            self.packs.append((members, _Pack(columns, self.kernel, self.dtype)))

    def run(self, batch: Batch, program: Program) -> None:
        if self.overlaps or self.memory.touched_by(batch.grads):
            ForLoop().run(batch, program)
            return
        with np.errstate(all="ignore"):
            numbers = np.array(program.constants, self.dtype)
        constants = [numbers[index, ...] for index in range(len(numbers))]
        queue: deque[Block] = deque()
        for index, dense in self.large:
            queue.extend(dense.blocks(batch.grads[index]))
        # Gathering and scattering hold the interpreter's lock: packs do not call for more threads.
        num_threads = min(get_num_threads(), len(queue) // PER_THREAD)
        for members, pack in self.packs:
            queue.append(functools.partial(pack.run, [batch.grads[index] for index in members]))

        def work() -> None:
            scratch = _scratch(self.kernel.scratch, self.dtype, self.block)
            run = self.kernel.run

            def execute(operands: Sequence[NDArray]) -> None:
                size = operands[0].size
                if size == self.block:
                    run(*operands, *scratch, *constants)
                else:
                    run(*operands, *[buffer[:size] for buffer in scratch], *constants)

            with np.errstate(all="ignore"):
                for block in drain(queue):
                    block(execute)

        run_parallel(work, num_threads)


_local = threading.local()


def _scratch(kinds: Sequence[type], dtype: Any, size: int) -> list[NDArray]:
    """This thread's scratch buffers, one for each of `kinds`."""
    buffers: dict[Any, list[NDArray]] = _local.__dict__.setdefault("buffers", {})
    taken: dict[type, Iterator[int]] = {kind: itertools.count() for kind in (float, bool)}
    scratch = []
    for kind in kinds:
        pool = buffers.setdefault((kind, dtype), [])
        number = next(taken[kind])
        if number == len(pool):
            pool.append(aligned_empty(size, dtype if kind is float else bool))
        scratch.append(pool[number])
    return scratch


class _Dense:
    """A large array: blocks are views of it if nothing needs a cast and the layouts agree."""

    def __init__(self, row: Sequence[NDArray], kernel: _Kernel, dtype: Any, block: int) -> None:
        self.row = row
        self.written = kernel.written
        self.dtype = dtype
        self.block = block
        self.flat: list[NDArray] = []
        self.cuts: list[slice] = []
        array = row[0]
        views = [real_view(a, dtype) for m, a in enumerate(row) if m != GRAD]
        flat = [view for view in views if view is not None]
        if len(flat) == len(row) - 1 and len({layout(a) for a in row if a is not None}) == 1:
            self.flat = flat
            first = -array.ctypes.data % ALIGNMENT // dtype.itemsize
            cuts = sorted({0, *range(first, flat[0].size, block), flat[0].size})
            self.cuts = [slice(a, b) for a, b in itertools.pairwise(cuts)]

    def blocks(self, grad: NDArray) -> Iterator[Block]:
        array = self.row[0]
        view = real_view(grad, self.dtype)
        alike = grad.dtype == array.dtype and layout(grad) == layout(array)
        if self.flat and alike and view is not None:
            operands = [*self.flat[:GRAD], view, *self.flat[GRAD:]]
            for cut in self.cuts:
                yield functools.partial(_run_views, operands, cut)
        else:
            row = [grad if m == GRAD else a for m, a in enumerate(self.row)]
            parts = [row]
            if array.dtype.kind == "c":
                parts = [[a.real for a in row], [a.imag for a in row]]
            for part in parts:
                yield functools.partial(self._run_strided, part)

    def _run_strided(self, row: Sequence[NDArray], execute: Execute) -> None:
        """Walk arrays of any layout and dtype through NumPy's buffered iterator.

        All operands are buffered ("contig"): beside one that is, NumPy 2.4 gives the others wrong
        strides.
        """
        with np.nditer(  # type: ignore[call-overload]  # NumPy's stub spells contig "config"
            row,
            flags=["buffered", "external_loop"],
            op_flags=[
                ["readwrite" if m in self.written else "readonly", "contig"]
                for m in range(len(row))
            ],
            op_dtypes=[self.dtype] * len(row),
            casting="same_kind",
            buffersize=self.block,
        ) as iterator:
            for operands in iterator:
                execute(operands)


def _run_views(operands: Sequence[NDArray], cut: slice, execute: Execute) -> None:
    execute([operand[cut] for operand in operands])


class _Pack:
    """Small arrays, gathered into one block and scattered from it."""

    def __init__(self, columns: Sequence[Sequence[NDArray]], kernel: _Kernel, dtype: Any) -> None:
        self.gathered: list[tuple[Sequence[NDArray], NDArray]] = []
        self.targets: list[NDArray] = []
        self.sources: list[NDArray] = []
        self.operands: list[NDArray] = []
        storage = columns[0][0].dtype
        staged = storage if storage.kind == "c" else dtype
        size = sum(array.size for array in columns[0])
        for memory, arrays in enumerate(columns):
            block = None if memory == GRAD else _joined(arrays)
            if block is None or block.dtype != staged:
                block = aligned_empty(size, staged)
                if memory == GRAD:
                    self.grad = block
                else:
                    self.gathered.append((arrays, block))
                if memory in kernel.written:
                    self.targets += arrays
                    self.sources += pieces(block, arrays)
            self.operands.append(block.view(dtype))

    def run(self, grads: Sequence[NDArray], execute: Execute) -> None:
        for arrays, block in (*self.gathered, (grads, self.grad)):
            np.concatenate(arrays, axis=None, out=block, casting="same_kind")
        execute(self.operands)
        for target, source in zip(self.targets, self.sources):
            target[...] = source


def _joined(arrays: Sequence[NDArray]) -> NDArray | None:
    """One 1-D view of `arrays`, if they lie side by side in the memory of one owner."""
    base = owner(arrays[0])
    address = arrays[0].ctypes.data
    for array in arrays:
        if not (
            array.flags.c_contiguous
            and array.ctypes.data == address
            and base is not None
            and owner(array) is base
        ):
            return None
        address += array.nbytes
    size = sum(array.size for array in arrays)
    return np.lib.stride_tricks.as_strided(arrays[0].reshape(-1), (size,))
