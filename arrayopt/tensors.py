"""Arrays and sparse gradients as tensors of torch, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from arrayopt.sparse_grad import SparseGrad

__all__ = ["as_array", "as_tensor", "torch_as_exact_as_can_be"]


def as_tensor(value: NDArray[Any] | SparseGrad) -> Any:
    """The same numbers as a tensor, dense or sparse. It may share memory."""
    import torch

    if isinstance(value, SparseGrad):
        parts = as_tensor(value.indices), as_tensor(value.values)
        return torch.sparse_coo_tensor(*parts, value.shape, check_invariants=True)
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)


def as_array(tensor: Any) -> NDArray[Any]:
    """The same numbers as an array of NumPy, which may share memory."""
    import torch

    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(tensor.numpy())


@contextlib.contextmanager
def torch_as_exact_as_can_be() -> Iterator[None]:
    """Let torch keep single numbers in double precision, and its first root be behind it.

    It keeps NAdam's ``mu_product``, and ASGD's ``eta`` and ``mu``, in its default dtype. The first
    square root of a process can be off by 5e-11 in part of the elements, while the library behind
    it is being set up. Muon rounds a momentum to bfloat16 before it makes it orthogonal, which is
    left out.
    """
    import torch

    torch.ones(1 << 16, dtype=torch.float64).sqrt()
    default = torch.get_default_dtype()
    with _without_bfloat16(getattr(torch.optim, "_muon", None)):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


@contextlib.contextmanager
def _without_bfloat16(muon: Any) -> Iterator[None]:
    """Let torch's Muon, a module, compute in the precision of its parameters."""
    name = "_zeropower_via_newtonschulz"
    orthogonal = getattr(muon, name, None)
    if orthogonal is None:  # (an earlier torch has none)
        yield
        return

    import torch

    def exact(*arguments: Any) -> Any:
        with mock.patch.object(torch.Tensor, "bfloat16", torch.Tensor.clone):
            return orthogonal(*arguments)

    with mock.patch.object(muon, name, exact):
        yield
