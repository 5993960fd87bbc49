"""foreach on NumPy needs little memory beyond the parameters and the state."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import arrayopt as optim


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_a_step_on_a_large_array_needs_less_than_16_mib(name: str) -> None:
    parameter = np.ones(16_700_000, np.float32)
    gradient = np.ones_like(parameter)
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = getattr(optim, name)([parameter], foreach=True, **options)
    tracemalloc.start()
    try:
        for _ in range(2):
            optimizer.step(grads=[gradient])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    (state,) = optimizer.state.values()
    kept = sum(value.nbytes for value in state.values() if isinstance(value, np.ndarray))
    assert kept == (1 if name == "SGD" else 2) * parameter.nbytes
    assert peak - kept < 16 * 2**20
