"""A multilayer perceptron whose gradients are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from arrayopt.parameter import Module, Parameter

__all__ = ["MLP", "Linear"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


class Linear(Module):
    """An affine map of row vectors, ``x @ weight + bias``.

    Parameters
    ----------
    inputs, outputs : int
        The lengths of the vectors.
    rng : numpy.random.Generator
        Draws the weights, of variance ``1 / inputs``. The biases begin at zero.
    """

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator) -> None:
        self.weight = Parameter(rng.normal(0, inputs**-0.5, (inputs, outputs)))
        self.bias = Parameter(np.zeros(outputs))

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x @ self.weight.data + self.bias.data
        return y


class MLP(Module):
    """Layers of tanh units, and a linear layer whose outputs are the logits of the classes.

    Parameters
    ----------
    sizes : sequence of int
        The length of the input, the widths of the hidden layers, and the number of classes.
    rng : numpy.random.Generator
        Draws the weights.

    Examples
    --------
    >>> model = MLP((2, 4, 3), np.random.default_rng(0))
    >>> loss, grads = model.loss_and_grads(np.ones((5, 2)), np.zeros(5, np.int64))
    >>> [grad.shape for grad in grads]
    [(2, 4), (4,), (4, 3), (3,)]
    """

    def __init__(self, sizes: Sequence[int], rng: np.random.Generator) -> None:
        self.layers = [Linear(a, b, rng) for a, b in pairwise(sizes)]

    def __call__(self, x: Floats) -> Floats:
        return self._forward(x)[-1]

    def loss(self, x: Floats, labels: Labels) -> float:
        """The mean cross-entropy, in nats."""
        return _cross_entropy(self(x), labels)[0]

    def loss_and_grads(self, x: Floats, labels: Labels) -> tuple[float, list[Floats]]:
        """The mean cross-entropy, and its gradients in the order of ``parameters()``.

        Parameters
        ----------
        x : array of shape (images, inputs)
            The images.
        labels : array of shape (images,)
            Their classes.
        """
        *inputs, logits = self._forward(x)
        loss, delta = _cross_entropy(logits, labels)
        grads = [inputs[-1].T @ delta, delta.sum(axis=0)]
        for layer, a, below in zip(self.layers[:0:-1], inputs[:0:-1], inputs[-2::-1]):
            delta = (delta @ layer.weight.data.T) * (1 - a * a)  # through a = tanh(...)
            grads = [below.T @ delta, delta.sum(axis=0), *grads]
        return loss, grads

    def _forward(self, x: Floats) -> list[Floats]:
        """The input of each layer, and the logits."""
        values = [x]
        for layer in self.layers[:-1]:
            values.append(np.tanh(layer(values[-1])))
        return [*values, self.layers[-1](values[-1])]


def _cross_entropy(logits: Floats, labels: Labels) -> tuple[float, Floats]:
    """The mean cross-entropy, and its gradient with respect to the logits."""
    rows = np.arange(len(labels))
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    delta = np.exp(log_probs)
    delta[rows, labels] -= 1
    return float(-log_probs[rows, labels].mean()), delta / len(labels)
