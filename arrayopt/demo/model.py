"""A multilayer perceptron whose gradients are written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from arrayopt.parameter import Buffer, Module, Parameter

__all__ = ["MLP", "BatchNorm", "Floats", "Labels", "Linear", "Tanh"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

#: From the gradient with respect to the output of a layer, those with respect to its input and to
#: its parameters.
Backward = Callable[[Floats], tuple[Floats, list[Floats]]]


class Layer(Module):
    """A function of row vectors that can be gone through backward."""

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        """The output, and the way back."""
        raise NotImplementedError

    def __call__(self, x: Floats) -> Floats:
        return self.forward(x)[0]


class Linear(Layer):
    """An affine map, ``x @ weight + bias``.

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

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        weight = self.weight.data

        def backward(delta: Floats) -> tuple[Floats, list[Floats]]:
            return delta @ weight.T, [x.T @ delta, delta.sum(axis=0)]

        return x @ weight + self.bias.data, backward


class Tanh(Layer):
    """The hyperbolic tangent of each element."""

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        y = np.tanh(x)
        return y, lambda delta: (delta * (1 - y * y), [])


class BatchNorm(Layer):
    r"""Batch normalization: each feature is shifted and scaled, by statistics of the batch.

    .. math::

        y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}} \gamma + \beta

    In training, mean and variance are those of the batch, and running statistics follow them; in
    evaluation they are the running ones, of which the variance is the unbiased one. As a layer of
    torch, it is one that `arrayopt.swa_utils.update_bn` knows.

    Parameters
    ----------
    features : int
        The length of the row vectors.
    momentum : float or None, default 0.1
        The weight of a batch in the running statistics; None for the mean over all batches.
    eps : float, default 1e-5
        Added to the variance.

    References
    ----------
    Ioffe and Szegedy (2015), "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", algorithms 1 and 2.
    """

    def __init__(self, features: int, momentum: float | None = 0.1, eps: float = 1e-5) -> None:
        self.weight = Parameter(np.ones(features))
        self.bias = Parameter(np.zeros(features))
        self.running_mean = Buffer(np.zeros(features))
        self.running_var = Buffer(np.ones(features))
        self.num_batches_tracked = Buffer(np.array(0))
        self.momentum = momentum
        self.eps = eps

    def reset_running_stats(self) -> None:
        """Forget all batches."""
        self.running_mean.data[...] = 0
        self.running_var.data[...] = 1
        self.num_batches_tracked.data[...] = 0

    def forward(self, x: Floats) -> tuple[Floats, Backward]:
        if not self.training:
            inverse = 1 / np.sqrt(self.running_var.data + self.eps)
            return self._output(x - self.running_mean.data, inverse)
        if len(x) < 2:
            raise ValueError(
                f"BatchNorm needs batches of two or more to train on, but got one of {len(x)}"
            )
        mean = x.mean(axis=0)
        centered = x - mean
        var = (centered * centered).mean(axis=0)
        self._track(mean, var * (len(x) / (len(x) - 1)))
        return self._output(centered, 1 / np.sqrt(var + self.eps))

    def _track(self, mean: Floats, var: Floats) -> None:
        """Let the running statistics follow those of a batch."""
        self.num_batches_tracked.data += 1
        momentum = self.momentum
        if momentum is None:
            momentum = 1 / float(self.num_batches_tracked.data)
        for running, new in ((self.running_mean, mean), (self.running_var, var)):
            running.data[...] = (1 - momentum) * running.data + momentum * new

    def _output(self, centered: Floats, inverse: Floats) -> tuple[Floats, Backward]:
        normal = centered * inverse
        weight, training = self.weight.data, self.training

        def backward(delta: Floats) -> tuple[Floats, list[Floats]]:
            grads = [(delta * normal).sum(axis=0), delta.sum(axis=0)]
            delta = delta * weight
            if training:  # mean and variance depend on x as well
                delta = delta - delta.mean(axis=0) - normal * (delta * normal).mean(axis=0)
            return delta * inverse, grads

        return normal * weight + self.bias.data, backward


class MLP(Module):
    """Layers of tanh units, and a linear layer whose outputs are the logits of the classes.

    Parameters
    ----------
    sizes : sequence of int
        The length of the input, the widths of the hidden layers, and the number of classes.
    rng : numpy.random.Generator
        Draws the weights.
    batch_norm : bool, default False
        Whether the input of each tanh is normalized.

    Examples
    --------
    >>> model = MLP((2, 4, 3), np.random.default_rng(0))
    >>> loss, grads = model.loss_and_grads(np.ones((5, 2)), np.zeros(5, np.int64))
    >>> [grad.shape for grad in grads]
    [(2, 4), (4,), (4, 3), (3,)]
    """

    def __init__(
        self, sizes: Sequence[int], rng: np.random.Generator, batch_norm: bool = False
    ) -> None:
        *widths, classes = sizes
        self.layers: list[Layer] = []
        for inputs, outputs in pairwise(widths):
            self.layers.append(Linear(inputs, outputs, rng))
            self.layers += [BatchNorm(outputs), Tanh()] if batch_norm else [Tanh()]
        self.layers.append(Linear(widths[-1], classes, rng))

    def __call__(self, x: Floats) -> Floats:
        for layer in self.layers:
            x = layer(x)
        return x

    def loss(self, x: Floats, labels: Labels) -> float:
        """The mean cross-entropy, in nats."""
        return _cross_entropy(self(x), labels)[0]

    def accuracy(self, x: Floats, labels: Labels) -> float:
        """The fraction of the images whose most likely class is the right one."""
        return float((self(x).argmax(axis=1) == labels).mean())

    def loss_and_grads(self, x: Floats, labels: Labels) -> tuple[float, list[Floats]]:
        """The mean cross-entropy, and its gradients in the order of ``parameters()``.

        Parameters
        ----------
        x : array of shape (images, inputs)
            The images.
        labels : array of shape (images,)
            Their classes.
        """
        ways_back: list[Backward] = []
        for layer in self.layers:
            x, backward = layer.forward(x)
            ways_back.append(backward)
        loss, delta = _cross_entropy(x, labels)
        grads: list[Floats] = []
        for backward in reversed(ways_back):
            delta, own = backward(delta)
            grads = [*own, *grads]
        return loss, grads


def _cross_entropy(logits: Floats, labels: Labels) -> tuple[float, Floats]:
    """The mean cross-entropy, and its gradient with respect to the logits."""
    rows = np.arange(len(labels))
    logits = logits - logits.max(axis=1, keepdims=True)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    delta = np.exp(log_probs)
    delta[rows, labels] -= 1
    return float(-log_probs[rows, labels].mean()), delta / len(labels)
