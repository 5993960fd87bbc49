"""Training the network on the digits by one algorithm, and recording how it went."""

from __future__ import annotations

import itertools
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

from arrayopt.demo.averaging import Averaging, Kind
from arrayopt.demo.model import MLP, Floats, Labels
from arrayopt.demo.recipes import Recipe
from arrayopt.optimizer import Optimizer
from arrayopt.sparse_grad import SparseGrad

__all__ = ["BATCH_SIZE", "HIDDEN", "Digits", "Run", "batches", "load", "train"]

#: How many hidden units there are.
HIDDEN = 64

#: How many images the statistics of batch normalization are computed from at a time.
BATCH_SIZE = 32


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
    test_losses : list of float
        The loss over all test images, likewise.
    accuracy : float
        The fraction of the test images that the trained network tells right.
    averaging : Averaging or None
        The average of the weights, if one was kept.
    """

    name: str
    options: Mapping[str, Any]
    initial: list[Floats]
    final: list[Floats] = field(default_factory=list)
    evaluations: list[tuple[float, Sequence[Floats | SparseGrad]]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    test_losses: list[float] = field(default_factory=list)
    accuracy: float = math.nan
    averaging: Averaging | None = None

    @property
    def microseconds(self) -> float:
        """The median duration of a step."""
        return 1e6 * statistics.median(self.seconds)


def train(
    algorithm: Callable[..., Optimizer],
    recipe: Recipe,
    digits: Digits,
    *,
    epochs: int,
    seed: int,
    average: Kind | None = None,
) -> Run:
    """Train a new network.

    What an algorithm for matrices alone does not take stays as it is.

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
    average : {"swa", "ema"}, optional
        Which average of the weights is kept. The network has batch normalization then.

    Returns
    -------
    Run
    """
    rng = np.random.default_rng(seed)
    x, y = digits.x_train, digits.y_train
    model = MLP((x.shape[1], HIDDEN, 10), rng, batch_norm=average is not None)
    matrices = getattr(algorithm, "matrices", False)
    trained = [not matrices or param.data.ndim == 2 for param in model.parameters()]
    named = [*itertools.compress(model.named_parameters(), trained)]
    params = [param.data for _, param in named]
    optimizer = algorithm(named, **recipe.options)
    run = Run(type(optimizer).__name__, recipe.options, [array.copy() for array in params])
    if average is not None:
        run.averaging = Averaging(average, model, optimizer, epochs)
    batch: Any = slice(None)
    elsewhere = 0.0

    def closure() -> tuple[float, Sequence[Floats | SparseGrad]]:
        nonlocal elsewhere
        start = perf_counter()
        loss, every = model.loss_and_grads(x[batch], y[batch])
        grads = [*itertools.compress(every, trained)]
        run.evaluations.append((loss, [*map(nonzero_rows, grads)] if recipe.sparse else grads))
        elsewhere += perf_counter() - start
        return run.evaluations[-1]

    def evaluate() -> None:
        model.eval()
        run.losses.append(model.loss(x, y))
        run.test_losses.append(model.loss(digits.x_test, digits.y_test))
        model.train()

    # Too high a learning rate overflows. That is seen in the result, and needs no warning.
    with np.errstate(all="ignore"):
        evaluate()
        bar = tqdm(range(epochs), run.name, unit="epoch", disable=None, leave=False, ncols=79)
        for epoch in bar:
            order = rng.permutation(len(x))
            size = recipe.batch_size or len(x)
            for first in range(0, len(x), size):
                batch = order[first : first + size]
                start, elsewhere = perf_counter(), 0.0
                optimizer.step(closure)
                run.seconds.append(perf_counter() - start - elsewhere)
                if run.averaging:
                    run.averaging.after_step()
            evaluate()
            if run.averaging:
                run.averaging.after_epoch(epoch)
                run.averaging.evaluate(batches(x), digits.x_test, digits.y_test)
            bar.set_postfix(loss=f"{run.losses[-1]:.2e}")
        run.accuracy = model.eval().accuracy(digits.x_test, digits.y_test)
    run.final = [param.data for _, param in named]
    return run


def batches(x: Floats) -> list[Floats]:
    """The images in the batches from which statistics are computed."""
    return [x[first : first + BATCH_SIZE] for first in range(0, len(x), BATCH_SIZE)]


def nonzero_rows(grad: Floats) -> SparseGrad:
    """The rows of a gradient that are not zero.

    Examples
    --------
    >>> nonzero_rows(np.array([[0.0, 0.0], [0.0, 2.0]])).indices
    array([[1]])
    """
    rows = np.flatnonzero(grad.reshape(len(grad), -1).any(axis=1))
    return SparseGrad(rows, grad[rows], grad.shape)
