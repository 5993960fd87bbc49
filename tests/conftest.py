"""What several test modules share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ["JAX_PLATFORMS"] = "cpu"  # before anything imports jax

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _settle_torch() -> None:
    """Let torch set up its square root, and leave the other cores alone.

    The first root of a process can be off by 5e-11 in part of the elements. Threads that wait for
    the next small tensor cost more time than they save.
    """
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64):
        torch.ones(1 << 16, dtype=dtype).sqrt()


@pytest.fixture
def torch_in_double_precision() -> Iterator[None]:
    """Make float64 the default dtype of torch.

    It keeps eta, mu and mu_product in that dtype, whatever the parameters have.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(default)
