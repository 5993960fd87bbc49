"""Where the gradients come from: the same for all sides, or from the weights of each side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from arrayopt.check.measure import finfo
from arrayopt.sparse_grad import SparseGrad

__all__ = ["STREAMS", "Fixed", "Kind", "Problem", "Rare", "Stream"]

Arrays = list[NDArray[Any]]

#: What an optimizer wants: dense gradients, of parameters that it looks at as a whole, or of
#: matrices alone; sparse ones; or the loss as well.
Kind = Literal["dense", "whole", "matrix", "sparse", "closure"]

#: Matrices and vectors, no dimension at all, no element at all.
SHAPES = ((24, 20), (7,), (), (0,), (3, 1, 5))

#: Which there are where that is not for all; a vector is long where errors are told by its squares.
SHAPES_OF: dict[Kind, tuple[tuple[int, ...], ...]] = {
    "whole": ((24, 20), (300,), (), (3, 1, 5)),  # (torch divides by the number of elements)
    "matrix": ((24, 20), (5, 7), (1, 6)),
    "sparse": ((24, 20), (7,), (3, 1, 5)),
}


class Stream(ABC):
    """Parameters to begin with, and a gradient for every step.

    Parameters
    ----------
    dtype : dtype
        Of the parameters, and of the gradients.
    seed : int
        Another seed, other numbers.
    kind : {"dense", "whole", "matrix", "sparse", "closure"}
        What the optimizer wants. Sparse gradients are rows, of which some occur twice.

    Attributes
    ----------
    starts : list of array
        The parameters before the first step.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, dtype: Any, seed: int = 0, kind: Kind = "dense") -> None:
        self.dtype = np.dtype(dtype)
        self.seed = seed
        self.kind = kind
        self.starts = self.first()

    @abstractmethod
    def first(self) -> Arrays:
        """The parameters before the first step."""

    @abstractmethod
    def evaluate(self, step: int, arrays: Arrays) -> tuple[float, list[Any]]:
        """The loss and the gradients at `arrays`, which may have more precision than `dtype`."""

    def rng(self, *entropy: int) -> np.random.Generator:
        """Random numbers of their own for each use."""
        return np.random.default_rng([self.seed, *entropy])

    def normal(self, rng: np.random.Generator, shape: Sequence[int]) -> NDArray[Any]:
        """Normal numbers, in double precision, that `dtype` can hold without rounding."""
        array = rng.standard_normal(shape)
        if self.dtype.kind == "c":
            array = array + 1j * rng.standard_normal(shape)
        return np.asarray(array).astype(self.dtype)


class Fixed(Stream):
    """Gradients of changing size, with zeros in them, whatever the weights are."""

    name = "fixed"
    summary = "the same gradients for all, of changing size"

    #: The gradients of the step that is called `drawn`.
    grads: list[Any]
    drawn = -1

    def first(self) -> Arrays:
        rng = self.rng(0)
        return [self.normal(rng, shape) for shape in SHAPES_OF.get(self.kind, SHAPES)]

    def evaluate(self, step: int, arrays: Arrays) -> tuple[float, list[Any]]:
        if step != self.drawn:
            rng = self.rng(1, step)
            self.drawn = step
            self.grads = [self._grad(rng, step, start.shape) for start in self.starts]
        return 0.0, [_copy(grad) for grad in self.grads]

    def _grad(self, rng: np.random.Generator, step: int, shape: tuple[int, ...]) -> Any:
        if self.kind != "sparse":
            return self.draw(rng, step, shape)
        rows = rng.integers(0, shape[0], 1 + shape[0] // 2)
        return SparseGrad(rows, self.draw(rng, step, (len(rows), *shape[1:])), shape)

    def draw(self, rng: np.random.Generator, step: int, shape: Sequence[int]) -> NDArray[Any]:
        """A gradient."""
        grad = self.normal(rng, shape)
        grad *= np.exp(3 * np.sin(step / 50)).astype(grad.dtype)
        grad[rng.random(shape) < 0.05] = 0
        return grad


class Rare(Fixed):
    """What is rare in training: gradients of zero, denormal ones, and huge ones.

    Some of the huge ones have squares that overflow.
    """

    name = "rare"
    summary = "the same gradients for all, some zero, denormal or huge"

    def draw(self, rng: np.random.Generator, step: int, shape: Sequence[int]) -> NDArray[Any]:
        grad = self.normal(rng, shape)
        limits = finfo(self.dtype)
        root = float(limits.max) ** 0.5
        rare = [
            (0.05, 0.0),
            (0.02, float(limits.smallest_subnormal) * rng.integers(1, 100)),
            (0.001, root / 100),
            (0.0001, root * 90),
        ]
        chance = rng.random(shape)
        for share, size in rare:
            chosen = (chance >= 0) & (chance < share)
            grad[chosen] = np.sign(grad[chosen].real) * size
            chance -= share
        if step % 40 == 39:
            grad[...] = 0
        return grad


class Problem(Stream):
    """Softmax regression: each side has the gradients at its own weights.

    The loss is strictly convex, and every step sees a batch of its own, as in training: so the
    problem itself does not amplify differences. (An optimizer that evaluates the loss several times
    in a step sees all examples.) If gradients are sparse, the weights are those of words, of which
    a few occur in each step; where matrices alone are wanted, there is no bias. Complex weights
    give the real part of their products. Half precisions compute in single, and round.
    """

    name = "problem"
    summary = "softmax regression, each side with the gradients at its own weights"

    EXAMPLES, FEATURES, CLASSES, DECAY = 61, 12, 5, 0.1
    BATCH = 13

    def first(self) -> Arrays:
        rng = self.rng(2)
        self.labels = rng.integers(0, self.CLASSES, self.EXAMPLES)
        self.inputs = self.normal(rng, (self.EXAMPLES, self.FEATURES))
        shapes = [(self.FEATURES, self.CLASSES), (self.CLASSES,)]
        if self.kind == "matrix":  # from zeros, a singular value of the gradient would be rounding
            return [self.normal(rng, shapes[0])]
        count = 1 if self.kind == "sparse" else 2
        return [np.zeros(shape, self.dtype) for shape in shapes[:count]]

    def evaluate(self, step: int, arrays: Arrays) -> tuple[float, list[Any]]:
        dtype = arrays[0].dtype
        weights, *bias = [array.astype(_computed(dtype)) for array in arrays]
        rng = self.rng(3, step)
        if self.kind == "sparse":
            words = rng.integers(0, self.FEATURES, self.BATCH)
            loss, slopes = self._softmax(weights[words].real, self.labels[: self.BATCH])
            return loss, [SparseGrad(words, slopes.astype(dtype), weights.shape)]
        count = self.EXAMPLES if self.kind == "closure" else self.BATCH
        batch = rng.choice(self.EXAMPLES, count, replace=False)
        inputs = self.inputs[batch].astype(weights.dtype)
        scores = inputs @ weights + bias[0] if bias else inputs @ weights
        loss, slopes = self._softmax(scores.real, self.labels[batch])
        loss += 0.5 * self.DECAY * float(np.sum(np.abs(weights) ** 2))
        grad = inputs.conj().T @ slopes + self.DECAY * weights
        grads = [grad, slopes.sum(0)] if bias else [grad]
        return loss, [each.astype(dtype) for each in grads]

    def _softmax(self, scores: NDArray[Any], labels: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        """The mean cross-entropy, and its derivative with respect to the scores."""
        scores = scores - scores.max(1, keepdims=True)
        powers = np.exp(scores)
        sums = powers.sum(1, keepdims=True)
        chosen = (np.arange(len(labels)), labels)
        loss = np.mean(np.log(sums[:, 0]) - scores[chosen])
        slopes = powers / sums
        slopes[chosen] -= 1
        return float(loss), slopes / len(labels)


#: All of them, by name.
STREAMS: dict[str, type[Stream]] = {kind.name: kind for kind in (Fixed, Problem, Rare)}


def _copy(grad: Any) -> Any:
    """A gradient that its receiver may write to."""
    if isinstance(grad, SparseGrad):
        return SparseGrad(grad.indices.copy(), grad.values.copy(), grad.shape)
    return grad.copy()


def _computed(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which a gradient is computed."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype
