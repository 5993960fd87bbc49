"""Arrays of CuPy as memory of a device; and what is missing where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import array_api_compat as compat

from arrayopt.backend import PlanningExecutor
from arrayopt.namespace import Array

from .cuda_kernel import PRECISIONS
from .numpy_memory import SMALL

__all__ = ["CuPyExecutor", "is_dense", "spans", "steps", "trouble"]


class CuPyExecutor(PlanningExecutor):
    """What executors on arrays of CuPy have in common."""

    def accepts(self, array: Array) -> bool:
        return bool(compat.is_cupy_array(array)) and array.dtype.name in PRECISIONS

    def trouble(self) -> str:
        return trouble()

    def allocate(self, arrays: Sequence[Array], fill: float | None) -> list[Array]:
        return _allocate_like(arrays, fill)


def trouble() -> str:
    """What is missing for CuPy to work here; empty if nothing is."""
    try:
        import cupy
    except ImportError as error:
        return (
            f'CuPy cannot be imported ({error}): pip install "arrayopt[cuda13]", or '
            '"arrayopt[cuda12]" for a driver of CUDA 12'
        )
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if runtime.driverGetVersion():
            return f"CuPy is installed, but CUDA cannot be used: {error}"
        return (
            "CuPy is installed, but no NVIDIA driver is: install one (nvidia-smi, which comes "
            "with it, lists the devices)"
        )
    if not count:
        return "CuPy and an NVIDIA driver are installed, but there is no device"
    try:
        cupy.cuda.nvrtc.getVersion()
    except RuntimeError as error:
        return (
            f"CuPy is installed, but NVRTC, which compiles kernels, cannot be loaded ({error}): "
            'install the CUDA toolkit, or pip install "cupy-cuda13x[ctk]"'
        )
    return ""


def _allocate_like(arrays: Sequence[Array], fill: float | None) -> list[Array]:
    """Arrays of the shapes and dtypes of `arrays`, the small ones side by side.

    They are filled with `fill` (both parts, if they are complex), or not at all if it is None.
    """
    import cupy

    if not arrays:
        return []
    dtype = arrays[0].dtype
    value = complex(fill or 0, fill or 0) if dtype.kind == "c" else fill
    size = sum(array.size for array in arrays if array.size <= SMALL)
    arena = cupy.empty(size, dtype) if fill is None else cupy.full(size, value, dtype)
    allocated, start = [], 0
    for array in arrays:
        if array.size <= SMALL:
            new = arena[start : start + array.size].reshape(array.shape)
            start += array.size
        else:
            new = cupy.empty_like(array) if fill is None else cupy.full_like(array, value)
        allocated.append(new)
    return allocated


def is_dense(array: Array) -> bool:
    """Whether the elements lie side by side, in whatever order of the axes."""
    expected = array.itemsize
    for stride, length in sorted(zip(array.strides, array.shape)):
        if length > 1:
            if stride != expected:
                return False
            expected *= length
    return True


def steps(array: Array) -> tuple[int, ...] | None:
    """The strides of a dense array, in elements, along axes of more than one; None with gaps."""
    if not is_dense(array):
        return None
    long = [stride for stride, length in zip(array.strides, array.shape) if length > 1]
    return tuple(stride // array.itemsize for stride in long)


def spans(arrays: Sequence[Array]) -> list[tuple[int, int]]:
    """The addresses between which each array lies; none for one without elements."""
    return [_span(array) for array in arrays if array.size]


def _span(array: Array) -> tuple[int, int]:
    start: int = array.data.ptr
    if array.flags.c_contiguous:
        return start, start + array.nbytes
    ways: list[Any] = [(n - 1) * stride for n, stride in zip(array.shape, array.strides)]
    before = sum(way for way in ways if way < 0)
    return start + before, start + sum(
        itertools.filterfalse(lambda w: w < 0, ways)
    ) + array.itemsize
