"""Gradients by differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from arrayopt.demo.model import MLP


def differences(
    loss: Callable[[], float], arrays: Sequence[np.ndarray], h: float = 1e-4
) -> list[np.ndarray]:
    """The gradient of `loss` with respect to arrays that it reads, by central differences.

    Those of steps h and 2h are combined so that the truncation is of order h**4 (1e-16); the
    rounding is of order eps / h (1e-12).
    """
    gradients = []
    for array in arrays:
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]

            def at(step: float, array=array, index=index, value=value) -> float:
                array[index] = value + step
                return loss()

            gradient[index] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
            array[index] = value
        gradients.append(gradient)
    return gradients


def assert_gradients(model: MLP, x: np.ndarray, labels: np.ndarray) -> None:
    """Whether the gradients of a network are those of differences."""
    _, grads = model.loss_and_grads(x, labels)
    params = [param.data for param in model.parameters()]
    assert [grad.shape for grad in grads] == [param.shape for param in params]
    expected = differences(lambda: model.loss(x, labels), params)
    for grad, numerical in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, numerical, rtol=0, atol=1e-9)
