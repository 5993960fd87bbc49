"""What is timed: the shapes of the parameters that an optimizer may meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import arrayopt as optim

ALGORITHMS = (
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax",
    "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD",
)  # fmt: skip

Shapes = Sequence[tuple[int, ...]]

WORKLOADS: dict[str, Shapes] = {
    "1 x 16.7M": [(16_700_000,)],
    "1000 x 100": [(100,)] * 1000,
    "MLP, 10 arrays": [
        shape
        for inputs, outputs in [(784, 256), (256, 256), (256, 128), (128, 64), (64, 10)]
        for shape in [(inputs, outputs), (outputs,)]
    ],
}


def parameters(shapes: Shapes, dtype: str = "float32") -> list[optim.Parameter]:
    """Parameters of these shapes with gradients, drawn from a normal distribution."""
    rng = np.random.default_rng(0)
    result = []
    for shape in shapes:
        parameter = optim.Parameter(rng.standard_normal(shape).astype(dtype))
        parameter.grad = rng.standard_normal(shape).astype(dtype)
        result.append(parameter)
    return result


def embedding(dense: bool) -> optim.Parameter:
    """A parameter of 1M rows of 64 numbers, and a gradient that touches 1,000 of them."""
    rng = np.random.default_rng(0)
    parameter = optim.Parameter(np.zeros((1_000_000, 64), np.float32))
    rows = rng.integers(1_000_000, size=1000)
    values = rng.standard_normal((1000, 64)).astype(np.float32)
    grad = optim.SparseGrad(rows, values, parameter.shape)
    parameter.grad = grad.to_dense() if dense else grad
    return parameter
