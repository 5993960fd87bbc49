"""Arrays of every library as bytes on the host: which dtypes there are, reading, and writing."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import array_api_compat as compat
import numpy as np

from arrayopt.extras import require
from arrayopt.namespace import Array, detach, dtype_name, is_masked, is_sparse
from arrayopt.tensors import as_array, as_tensor

__all__ = [
    "DTYPES",
    "EXTRA",
    "Source",
    "at_home",
    "host_dtype",
    "memory_of",
    "problem",
    "real",
    "view",
]

#: The extra of arrayopt that installs what is needed here.
EXTRA = "checkpoint"

#: How safetensors calls the dtypes. Complex numbers are pairs of reals there.
DTYPES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "F32",
    "complex128": "F64",
}

#: The modules that make an array of a library out of a NumPy array.
_HOMES = {
    "array_api_strict": "array_api_strict",
    "cupy": "cupy",
    "jax": "jax.numpy",
    "torch": "torch",
}


def host_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a name in `DTYPES`.

    Raises
    ------
    ImportError
        If it is bfloat16, and ml_dtypes is not installed.
    """
    if name == "bfloat16":  # NumPy knows the name as soon as ml_dtypes is imported
        require("ml_dtypes", "checkpoints with bfloat16 need", EXTRA)
    return np.dtype(name)


def real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of the real and imaginary parts, or of the numbers themselves."""
    return np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype


def problem(array: Array) -> str:
    """Why an array cannot be saved; empty if it can."""
    if is_sparse(array) or is_masked(array):
        return f"expected a dense array, but got {type(array).__name__}"
    name = dtype_name(array)
    return "" if name in DTYPES else f"expected numbers or booleans, but got an array of {name}"


def memory_of(array: Array) -> Any:
    """What is the same for arrays that are the same memory, seen in the same way."""
    shape = tuple(array.shape)
    if isinstance(array, np.ndarray):
        return array.ctypes.data, shape, array.strides, array.dtype.str
    if compat.is_torch_array(array):
        seen_as = array.dtype, array.is_conj(), array.is_neg(), str(array.device)
        return array.data_ptr(), shape, array.stride(), *seen_as
    return id(array)


def view(array: Array) -> np.ndarray[Any, Any] | None:
    """The memory of an array as a NumPy array; None if it is not NumPy's, nor on the host."""
    if isinstance(array, np.ndarray):
        return array.view(np.ndarray)
    if not compat.is_torch_array(array) or array.device.type != "cpu":
        return None
    array = detach(array)
    if array.is_conj() or array.is_neg():
        return None
    return as_array(array)


def _copied(array: Array) -> np.ndarray[Any, Any]:
    """An array that has no `view`, on the host."""
    if compat.is_torch_array(array):
        on_host = view(detach(array).cpu().resolve_conj().resolve_neg())
        assert on_host is not None
        return on_host
    return np.asarray(array.get() if compat.is_cupy_array(array) else array)


class Source:
    """The elements of an array in C order, some at a time, so that none of it need be copied.

    Parameters
    ----------
    array : array of any library
        One on a device comes to the host in pieces.
    """

    def __init__(self, array: Array) -> None:
        self.shape = tuple(array.shape)
        self.dtype = host_dtype(dtype_name(array))
        self.size = math.prod(self.shape)
        on_host = view(array)
        on_device = compat.is_cupy_array(array) or compat.is_torch_array(array)
        if on_host is None and not on_device:
            on_host = _copied(array)
        if on_host is None:
            self.elements = detach(array).reshape(-1)
        else:
            contiguous = on_host.flags.c_contiguous
            self.elements = on_host.reshape(-1) if contiguous else on_host.flat

    def __call__(self, start: int, stop: int) -> memoryview:
        """The bytes of some elements, the least significant first."""
        piece = self.elements[start:stop]
        if not isinstance(piece, np.ndarray):
            piece = _copied(piece)
        if self.dtype.isbuiltin == 1:
            piece = piece.astype(self.dtype.newbyteorder("<"), copy=False)
        return np.ascontiguousarray(piece).view(np.uint8).data


def at_home(array: np.ndarray[Any, Any], library: str) -> Array:
    """An array as one of the library that it was saved from, if that can be had."""
    if library not in _HOMES:
        return array
    try:
        home = import_module(_HOMES[library])
    except ImportError:
        return array
    return as_tensor(array) if library == "torch" else home.asarray(array)
