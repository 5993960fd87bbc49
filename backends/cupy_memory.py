"""Arrays of CuPy as memory of a device; and what is missing where there is none."""

from __future__ import annotations

from collections.abc import Sequence

import array_api_compat as compat

from arrayopt.backend import PlanningExecutor
from arrayopt.namespace import Array

from .cuda_kernel import PRECISIONS
from .numpy_memory import is_dense, layout, side_by_side

__all__ = ["CuPyExecutor", "spans", "steps", "trouble"]


class CuPyExecutor(PlanningExecutor):
    """What executors on arrays of CuPy have in common."""

    def accepts(self, array: Array) -> bool:
        return bool(compat.is_cupy_array(array)) and array.dtype.name in PRECISIONS

    def trouble(self) -> str:
        return trouble()

    def allocate(self, arrays: Sequence[Array], fill: float | None) -> list[Array]:
        import cupy

        if not arrays:
            return []
        dtype = arrays[0].dtype
        if fill is None:
            return side_by_side(arrays, lambda size: cupy.empty(size, dtype), cupy.empty_like)
        value = complex(fill, fill) if dtype.kind == "c" else fill
        return side_by_side(
            arrays,
            lambda size: cupy.full(size, value, dtype),
            lambda array: cupy.full_like(array, value),
        )


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


def steps(array: Array) -> tuple[int, ...] | None:
    """The strides of a dense array, in elements, along axes of more than one; None with gaps."""
    if not is_dense(array.shape, array.strides, array.itemsize):
        return None
    return tuple(stride // array.itemsize for stride in layout(array))


def spans(arrays: Sequence[Array]) -> list[tuple[int, int]]:
    """The addresses between which each array lies; none for one without elements."""
    return [_span(array) for array in arrays if array.size]


def _span(array: Array) -> tuple[int, int]:
    start: int = array.data.ptr
    if array.flags.c_contiguous:
        return start, start + array.nbytes
    ways = [(length - 1) * stride for length, stride in zip(array.shape, array.strides)]
    before = sum(way for way in ways if way < 0)
    after = sum(way for way in ways if way > 0)
    return start + before, start + after + array.itemsize
