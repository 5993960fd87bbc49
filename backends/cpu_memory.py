"""NumPy arrays and torch tensors of the CPU as memory: where it is, and how it is to be read.

What is asked at every step is asked of all arrays at once, in as few calls as there can be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import array_api_compat as compat
import numpy as np

from arrayopt.backend import Executor
from arrayopt.namespace import Array
from arrayopt.sparse_grad import SparseGrad

from .array_api import ForLoop
from .numpy_blocked import NumPyBlocked
from .numpy_memory import Memory, Spans, is_dense

__all__ = ["CPUArrays", "Written", "arrays_like", "is_tensor"]


class Written(Protocol):
    """The memory that a step writes.

    Attributes
    ----------
    overlaps : bool
        Whether arrays that are written have elements in common.
    """

    overlaps: bool

    def touched_by(self, grads: Sequence[Array]) -> bool:
        """Whether a gradient may share memory with what is written."""


class CPUArrays(ABC):
    """The arrays of one library.

    Attributes
    ----------
    slower : Executor
        Who takes what cannot be fused.
    """

    slower: Executor

    @abstractmethod
    def dtype(self, array: Array) -> str:
        """The name of the dtype of `array`."""

    @abstractmethod
    def addresses(self, arrays: Sequence[Array]) -> list[int]:
        """Where the memory of each begins."""

    @abstractmethod
    def looks(self, arrays: Sequence[Array]) -> list[tuple[Any, ...]]:
        """How the memory of each is to be read: dtype, strides, and whatever else there is."""

    def is_plain(self, grads: Sequence[Any]) -> bool:
        """Whether gradients are memory, and not what stands for an array without any."""
        return True

    @abstractmethod
    def written(self, arrays: Sequence[Array]) -> Written:
        """The memory of `arrays`, which are to be written."""

    @abstractmethod
    def step(self, array: Array) -> int:
        """The stride from one element to the next one in memory."""

    def layout(self, array: Array) -> tuple[Any, ...]:
        """How the memory is to be read, without the strides that do not matter."""
        ((dtype, strides, *rest),) = self.looks([array])
        return dtype, *rest, *(s for s, length in zip(strides, array.shape) if length > 1)

    def is_dense(self, array: Array) -> bool:
        """Whether the elements lie side by side, in whatever order of the axes."""
        return is_dense(array.shape, self.looks([array])[0][1], self.step(array))


class _NumPyArrays(CPUArrays):
    slower = NumPyBlocked()

    def dtype(self, array: Array) -> str:
        return str(array.dtype)

    def addresses(self, arrays: Sequence[Array]) -> list[int]:
        return [array.ctypes.data for array in arrays]

    def looks(self, arrays: Sequence[Array]) -> list[tuple[Any, ...]]:
        return [(array.dtype, array.strides) for array in arrays]

    def written(self, arrays: Sequence[Array]) -> Written:
        return Memory(arrays)

    def step(self, array: Array) -> int:
        return int(array.itemsize)


class _Tensors(CPUArrays):
    slower = ForLoop()

    def dtype(self, array: Array) -> str:
        return str(array.dtype).removeprefix("torch.")

    def addresses(self, arrays: Sequence[Array]) -> list[int]:
        return [array.data_ptr() for array in arrays]

    def looks(self, arrays: Sequence[Array]) -> list[tuple[Any, ...]]:
        # (they may have to be negated or conjugated when they are read)
        return [(a.dtype, a.stride(), a.is_neg(), a.is_conj()) for a in arrays]

    def is_plain(self, grads: Sequence[Any]) -> bool:
        return all([isinstance(grad, SparseGrad) or _has_memory(grad) for grad in grads])

    def written(self, arrays: Sequence[Array]) -> Written:
        return _TensorMemory(arrays)

    def step(self, array: Array) -> int:
        return 1


class _TensorMemory(Spans):
    """`Memory` of tensors. Those with gaps count as if they had none."""

    def __init__(self, written: Sequence[Array]) -> None:
        super().__init__(_spans(written))

    def touched_by(self, grads: Sequence[Array]) -> bool:
        return self.touch(_spans(grads))


def _spans(tensors: Sequence[Array]) -> list[tuple[int, int]]:
    """The addresses between which each tensor lies."""
    return [
        (start := tensor.data_ptr(), start + tensor.nbytes)
        if tensor.is_contiguous()
        else _span(tensor)
        for tensor in tensors
    ]


def _span(tensor: Array) -> tuple[int, int]:
    start = tensor.data_ptr()
    last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride()))
    return start, start + (last + 1) * tensor.element_size()


_NUMPY, _TORCH = _NumPyArrays(), _Tensors()


def is_tensor(array: Array) -> bool:
    """Whether `array` is a tensor of torch, on the CPU."""
    return bool(compat.is_torch_array(array)) and array.device.type == "cpu"


def _has_memory(tensor: Array) -> bool:
    try:
        return bool(tensor.data_ptr() or not tensor.numel())
    except RuntimeError:  # inside of a transformation such as vmap
        return False


def arrays_like(array: Array) -> CPUArrays | None:
    """What knows arrays like `array`; None if that is no plain memory of this machine."""
    if isinstance(array, np.ndarray):
        return _NUMPY
    plain = (
        is_tensor(array)
        and (type(array).__module__, type(array).__name__) == ("torch", "Tensor")
        and str(array.layout) == "torch.strided"
        and _has_memory(array)
        and not (array.is_neg() or array.is_conj())
    )
    return _TORCH if plain else None
