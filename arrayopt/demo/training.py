"""Training the network on the digits by one algorithm, and recording how it went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from arrayopt.demo.model import MLP, Floats, Labels
from arrayopt.demo.recipes import Recipe
from arrayopt.optimizer import Optimizer
from arrayopt.sparse_grad import SparseGrad

__all__ = ["Digits", "Run", "load", "train"]

HIDDEN = 64


@dataclass(frozen=True, slots=True)
class Digits:
    """Images as rows of pixels, and their classes, for training and for testing."""

    x_train: Floats
    x_test: Floats
    y_train: Labels
    y_test: Labels


def load() -> Digits:
    """The digits of scikit-learn, always split in the same way, each pixel standardised."""
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        images, labels, test_size=0.25, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(x_train)
    return Digits(scaler.transform(x_train), scaler.transform(x_test), y_train, y_test)


@dataclass(slots=True)
class Run:
    """What happened while an algorithm trained the network.

    Attributes
    ----------
    name : str
        The name of the algorithm.
    options : mapping
        What its constructor was given.
    initial, final : list of array
        The parameters before and after.
    evaluations : list of (float, list of array or SparseGrad)
        Every loss and its gradients, in the order in which the algorithm saw them.
    seconds : list of float
        The duration of each step, without that of the gradients.
    losses : list of float
        The loss over all training images, before training and after each epoch.
    accuracy : float
        The fraction of the test images that the trained network tells right.
    """

    name: str
    options: Mapping[str, Any]
    initial: list[Floats]
    final: list[Floats] = field(default_factory=list)
    evaluations: list[tuple[float, Sequence[Floats | SparseGrad]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracy: float = math.nan

    @property
    def microseconds(self) -> float:
        """The median duration of a step."""
        return 1e6 * statistics.median(self.seconds)


def train(
    algorithm: Callable[..., Optimizer], recipe: Recipe, digits: Digits, *, epochs: int, seed: int
) -> Run:
    """Train a new network.

    Parameters
    ----------
    algorithm : type
        A subclass of `Optimizer`.
    recipe : Recipe
        Its options, and the size of its batches.
    digits : Digits
        The images.
    epochs : int
        How often all training images are gone through.
    seed : int
        Determines the initial parameters and the order of the images, the same for all algorithms.

    Returns
    -------
    Run
    """
    rng = np.random.default_rng(seed)
    x, y = digits.x_train, digits.y_train
    model = MLP((x.shape[1], HIDDEN, 10), rng)
    params = [param.data for param in model.parameters()]
    optimizer = algorithm(model.named_parameters(), **recipe.options)
    run = Run(type(optimizer).__name__, recipe.options, [array.copy() for array in params])
    batch: Any = slice(None)
    elsewhere = 0.0

    def closure() -> tuple[float, Sequence[Floats | SparseGrad]]:
        nonlocal elsewhere
        start = perf_counter()
        loss, grads = model.loss_and_grads(x[batch], y[batch])
        run.evaluations.append((loss, [*map(nonzero_rows, grads)] if recipe.sparse else grads))
        elsewhere += perf_counter() - start
        return run.evaluations[-1]

    # Too high a learning rate overflows. That is seen in the result, and needs no warning.
    with np.errstate(all="ignore"):
        run.losses.append(model.loss(x, y))
        bar = tqdm(range(epochs), run.name, unit="epoch", disable=None, leave=False, ncols=79)
        for _ in bar:
            order = rng.permutation(len(x))
            size = recipe.batch_size or len(x)
            for first in range(0, len(x), size):
                batch = order[first : first + size]
                start, elsewhere = perf_counter(), 0.0
                optimizer.step(closure)
                run.seconds.append(perf_counter() - start - elsewhere)
            run.losses.append(model.loss(x, y))
            bar.set_postfix(loss=f"{run.losses[-1]:.2e}")
        run.accuracy = float((model(digits.x_test).argmax(axis=1) == digits.y_test).mean())
    run.final = [param.data for param in model.parameters()]
    return run


def nonzero_rows(grad: Floats) -> SparseGrad:
    """The rows of a gradient that are not zero.

    Examples
    --------
    >>> nonzero_rows(np.array([[0.0, 0.0], [0.0, 2.0]])).indices
    array([[1]])
    """
    rows = np.flatnonzero(grad.reshape(len(grad), -1).any(axis=1))
    return SparseGrad(rows, grad[rows], grad.shape)
