"""What is timed: the shapes of the parameters that an optimizer may meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import arrayopt as optim

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
