"""fused on CUDA: the program of a rule as a kernel, on arrays of CuPy.

All tensors of a batch are updated in one launch: `cuda_kernel.kernel_source` says how a block of
threads finds its piece of a tensor. The table of addresses is written on the host, and sent to the
device again only where an address has changed. A tensor that is alone, or lies in memory otherwise
than its gradient or state, is updated by a kernel of its own (``cupy.ElementwiseKernel``), which
walks arrays of any layout. Arrays that overlap are updated one after another by the for-loop.

Nothing here waits for the device. Launches go to the current stream of the current device, which
has to be that of the arrays (an optimizer sees to it).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from arrayopt.backend import Batch, Plan
from arrayopt.namespace import Array, compute_dtype
from arrayopt.scaling import carry_out
from arrayopt.trace import GRAD, Program, Structure

from .array_api import ForLoop
from .cuda_kernel import (
    CHUNK,
    OPTIONS,
    PLAIN,
    PRECISIONS,
    THREADS,
    Elementwise,
    Variant,
    check_structure,
    elementwise,
    kernel_name,
    kernel_source,
    store_source,
)
from .cuda_tables import chunk_table, pointer_table
from .cupy_memory import CuPyExecutor, spans, steps
from .numpy_memory import Spans, written_and_read

__all__ = ["CuPyFused", "CuPyPlan"]


class CuPyFused(CuPyExecutor):
    """Runs programs as CUDA kernels, on arrays of CuPy."""

    name = "cupy_fused"
    implementation = "fused"
    language = "cuda"
    guards = True
    captures = True

    def check(self, structure: Structure) -> None:
        check_structure(structure)

    def source(self, structure: Structure, dtype: str) -> str:
        return kernel_source(structure, dtype)

    def prepare(self, batch: Batch) -> Program | None:
        program = super().prepare(batch)
        if batch.memo.get(_VARIANT) != _variant(batch):
            self.compile(batch.prepared[self.name], batch)
        return program

    def compile(self, structure: Structure, batch: Batch) -> None:
        batch.memo[_VARIANT] = _variant(batch)
        prepare_kernels(structure, batch, _variant(batch))

    def plan(self, structure: Structure, batch: Batch) -> CuPyPlan:
        return CuPyPlan(structure, batch, _variant(batch))

    def planned(self, structure: Structure, batch: Batch) -> Plan:
        plan = batch.memo.get(self.name)
        if plan is not None and plan.variant != _variant(batch):
            del batch.memo[self.name]
        return super().planned(structure, batch)

    def capture(self, batch: Batch, program: Program) -> None:
        plan = batch.memo.get(_CAPTURED)
        variant = _variant(batch)._replace(buffered=True)
        if plan is None or plan.structure is not program.structure or plan.variant != variant:
            plan = batch.memo[_CAPTURED] = CuPyPlan(program.structure, batch, variant)
        plan.capture(batch, program)

    def renew(self, batch: Batch, program: Program) -> None:
        batch.memo[_CAPTURED].store(program.constants)


#: Under which a batch keeps the variant that it was prepared for, and the plan of captured steps.
_VARIANT, _CAPTURED = "cupy_fused variant", "cupy_fused captured"


def _variant(batch: Batch) -> Variant:
    """Where the kernels of a step find what they are told."""
    return Variant(bool(batch.group.get("capturable")), batch.guard is not None)


# Kernels


@functools.lru_cache(maxsize=1024)
def kernel_of_many(structure: Structure, dtype: str, variant: Variant = PLAIN) -> Any:
    """The kernel that updates many tensors, one name for each structure."""
    import cupy

    name = kernel_name(kernel_source(structure, dtype, variant=variant))
    return cupy.RawKernel(kernel_source(structure, dtype, name, variant), name, options=OPTIONS)


@functools.lru_cache(maxsize=1024)
def kernel_of_one(
    structure: Structure, dtype: str, variant: Variant = PLAIN
) -> tuple[Any, Elementwise]:
    """The kernel that updates one tensor, and what it takes."""
    import cupy

    text = elementwise(structure, dtype, variant)
    kernel = cupy.ElementwiseKernel(
        text.in_params,
        text.out_params,
        text.operation,
        kernel_name("".join([text.in_params, text.out_params, text.operation])),
        preamble=text.preamble,
        no_return=True,
        options=OPTIONS,
    )
    return kernel, text


@functools.lru_cache(maxsize=1024)
def kernel_that_stores(count: int) -> Any:
    """The kernel that writes the constants of a step to the buffer from which they are read."""
    import cupy

    name = kernel_name(store_source(count))
    return cupy.RawKernel(store_source(count, name), name, options=OPTIONS)


def prepare_kernels(structure: Structure, batch: Batch, variant: Variant = PLAIN) -> None:
    """Compile what a batch needs, so that a compiler that is missing is told before a step."""
    dtype = batch.arrays[0].dtype.name
    if len(batch.arrays) > 1:
        kernel_of_many(structure, dtype, variant).compile()
    else:
        kernel_of_one(structure, dtype, variant)


# Running


class CuPyPlan:
    """How a batch is updated. Its arrays have to stay the same; gradients come and go.

    Attributes
    ----------
    structure : Structure
        That of the programs.
    variant : Variant
        Where kernels find the numbers of a step; see `launch`.
    in_sequence : bool
        Whether arrays overlap, so that the for-loop has to take them (known after `look`).
    together : list of int
        The tensors that share a launch.
    alone : list of int
        Those that have one of their own.
    """

    def __init__(self, structure: Structure, batch: Batch, variant: Variant = PLAIN) -> None:
        self.structure = structure
        self.variant = variant
        self.dtype = batch.arrays[0].dtype
        columns = {"param": batch.arrays, **batch.states}
        written, read = written_and_read(structure, columns)
        self.memory = Spans(spans(written))
        self.overlaps = self.memory.overlaps or self.memory.touch(spans(read))
        columns["grad"] = [None] * len(batch.arrays)  # they come and go
        self.rows = [[*row] for row in zip(*(columns[name] for name in structure.operands))]
        self.steps = [_common_steps([a for a in row if a is not None]) for row in self.rows]
        parts = 2 if self.dtype.kind == "c" else 1
        sizes = [array.size * parts for array in batch.arrays]
        self.table = pointer_table(
            [[0 if array is None else array.data.ptr for array in row] for row in self.rows], sizes
        )
        self.looks: list[Any] = []
        self.grad_dtype: Any = self.dtype  # of those that share a launch
        self.together: list[int] = []
        self.alone: list[int] = []
        self.in_sequence = self.overlaps
        self.stream: int | None = None  # of the tables on the device
        self.pointers: Any = None
        self.chunks: Any = None
        self.numbers: Any = None  # the buffer of the constants, if the variant has one
        self.captured: list[Any] = []  # the tables that graphs read

    def run(self, batch: Batch, program: Program) -> None:
        """Update the arrays of `batch`."""
        self.look(batch.grads)
        if self.in_sequence:
            carry_out(ForLoop(), batch, program)
        elif self.variant.buffered:
            self.store(program.constants)
            self.launch(batch.grads, (self.numbers, *(batch.guard or ())))
        else:
            self.launch(batch.grads, (*program.constants, *(batch.guard or ())))

    def store(self, constants: Sequence[float]) -> None:
        """Write the constants of the next step to their buffer."""
        import cupy

        if self.numbers is None:
            self.numbers = cupy.empty(max(1, len(constants)), "float64")
        kernel_that_stores(len(constants))((1,), (1,), (self.numbers, *constants))

    def capture(self, batch: Batch, program: Program) -> None:
        """Launch the kernels on a stream that is capturing.

        What they read is sent on another stream, since a graph would send it again and again, out
        of memory of the host that is used for something else by then.
        """
        import cupy

        self.look(batch.grads)
        if self.in_sequence:
            raise RuntimeError("a step on arrays that overlap cannot be captured")
        other = {grad.dtype.name for grad in batch.grads if grad.dtype != self.dtype}
        if other:
            raise RuntimeError(
                "a captured step takes gradients of the dtype of their parameters: expected "
                f"{self.dtype.name}, but got {sorted(other)}"
            )
        capturing = cupy.cuda.get_current_stream()
        with cupy.cuda.Stream(non_blocking=True) as stream:
            self.store(program.constants)
            self._upload()
            stream.synchronize()
        self.stream = capturing.ptr
        self.captured.append((self.pointers, self.chunks))
        self.launch(batch.grads, (self.numbers, *(batch.guard or ())))

    def look(self, grads: Sequence[Array]) -> None:
        """Find out where gradients are, if they are not where they were, and how they lie."""
        looks = [(grad.data.ptr, grad.strides, grad.dtype) for grad in grads]
        if looks == self.looks:
            return
        self.looks = looks
        self.in_sequence = self.overlaps or self.memory.touch(spans(grads))
        full = [index for index, row in enumerate(self.rows) if row[0].size]
        alike = [index for index in full if self._is_alike(index, grads[index])]
        self.grad_dtype = grads[alike[0]].dtype if alike else self.dtype
        together = [index for index in alike if grads[index].dtype == self.grad_dtype]
        together = together if len(together) > 1 else []
        if together != self.together:
            self.chunks = None
        self.together = together
        self.alone = [index for index in full if index not in {*together}]
        self.table[:, GRAD] = [address for address, *_ in looks]
        self.pointers = None

    def _is_alike(self, index: int, grad: Array) -> bool:
        """Whether a gradient can be read where it is, as its parameter and state are."""
        expected = self.steps[index]
        return expected is not None and self._is_read(grad.dtype) and steps(grad) == expected

    def _is_read(self, dtype: Any) -> bool:
        """Whether there is a kernel that reads gradients of a dtype."""
        real = "c" not in (dtype.kind, self.dtype.kind) and dtype.name in PRECISIONS
        return bool(real or dtype == self.dtype)

    def _readable(self, grad: Array) -> Array:
        """A gradient that a kernel reads: as it is, or cast to the precision of the update."""
        if self._is_read(grad.dtype):
            return grad
        like = self.rows[0][0]
        return grad.astype(self.dtype if self.dtype.kind == "c" else compute_dtype(like))

    def _reading(self, dtype: Any) -> Variant:
        """The variant whose gradients are of a dtype."""
        return self.variant if dtype == self.dtype else self.variant._replace(grad=dtype.name)

    def launch(self, grads: Sequence[Array], arguments: Sequence[Any]) -> None:
        """Launch the kernels, after a `look` at the same gradients.

        Parameters
        ----------
        grads : sequence of array
        arguments : sequence
            What the kernels of the variant take: the constants of the step as Python numbers, or
            the float64 array on the device that holds them if the variant is buffered; then, if it
            is guarded, `found_inf` and `grad_scale`, float32 arrays of one number on the device.
        """
        self._upload()
        if self.together:
            variant = self._reading(self.grad_dtype)
            kernel = kernel_of_many(self.structure, self.dtype.name, variant)
            kernel((len(self.chunks),), (THREADS,), (self.pointers, self.chunks, *arguments))
        for index in self.alone:
            grad = self._readable(grads[index])
            variant = self._reading(grad.dtype)
            kernel, text = kernel_of_one(self.structure, self.dtype.name, variant)
            row = [*self.rows[index][:GRAD], grad, *self.rows[index][GRAD + 1 :]]
            for part in _parts(row, text.views):
                kernel(
                    *(part[column] for column in text.reads),
                    *arguments,
                    *(part[column] for column in text.writes),
                )

    def _upload(self) -> None:
        """Send the tables that are not there to the device.

        They are used on the stream on which they were sent, which is that on which their memory
        may be reused. (CuPy copies to memory of its own before it goes on.)
        """
        import cupy

        if not self.together:
            return
        stream = cupy.cuda.get_current_stream().ptr
        if stream != self.stream:
            self.stream, self.pointers, self.chunks = stream, None, None
        if self.chunks is None:
            sizes = self.table[self.together, -1]
            self.chunks = cupy.asarray(chunk_table(sizes, CHUNK))
        if self.pointers is None:
            self.pointers = cupy.asarray(self.table[self.together])


def _common_steps(arrays: Sequence[Array]) -> tuple[int, ...] | None:
    """How arrays lie in memory; None if not all in the same way, or with gaps."""
    common, *others = map(steps, arrays)
    return common if all(other == common for other in others) else None


def _parts(row: Sequence[Array], views: Sequence[str]) -> Iterator[list[Array]]:
    """The operands as arrays of real numbers, or of bits: in one part, or in two."""
    array = row[0]
    if array.dtype.kind != "c":
        yield [a if a.dtype == view else a.view(view) for a, view in zip(row, views)]
    elif array.ndim and all(a.flags.c_contiguous for a in row):
        yield [a.view(view) for a, view in zip(row, views)]
    else:
        yield [a.real for a in row]
        yield [a.imag for a in row]
