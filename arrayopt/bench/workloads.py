"""What is timed: the shapes of parameters that an optimizer meets, and numbers to fill them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.sparse_grad import SparseGrad

__all__ = ["WORKLOADS", "Problem", "Shapes", "Workload", "gpt2", "mlp", "problem", "resnet", "size"]

Shapes = Sequence[tuple[int, ...]]


def mlp(*widths: int) -> Shapes:
    """The weights and biases of a multi-layer perceptron.

    Examples
    --------
    >>> mlp(3, 2)
    [(3, 2), (2,)]
    """
    return [shape for pair in pairwise(widths) for shape in (pair, pair[1:])]


def gpt2(
    layers: int = 12, width: int = 768, vocabulary: int = 50_257, positions: int = 1024
) -> Shapes:
    """The parameters of GPT-2, by default of the small one; the head is the token embedding.

    References
    ----------
    Radford et al. (2019), "Language models are unsupervised multitask learners".
    """
    norm = [(width,), (width,)]  # weight and bias
    block = [
        *norm,
        *[(width, 3 * width), (3 * width,)],  # queries, keys and values
        *[(width, width), (width,)],  # out of the attention
        *norm,
        *[(width, 4 * width), (4 * width,)],  # into the hidden layer
        *[(4 * width, width), (width,)],  # and out of it
    ]
    return [(vocabulary, width), (positions, width), *block * layers, *norm]


def resnet(blocks: Sequence[int] = (3, 4, 6, 3), width: int = 64, classes: int = 1000) -> Shapes:
    """The parameters of a residual network of bottleneck blocks, by default ResNet-50.

    References
    ----------
    He et al. (2016), "Deep residual learning for image recognition", table 1.
    """

    def convolution(inputs: int, outputs: int, size: int) -> Shapes:
        # without a bias, but with the weight and the bias of the normalization that follows
        return [(outputs, inputs, size, size), (outputs,), (outputs,)]

    shapes = [*convolution(3, width, 7)]
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        outputs = 4 * inner
        for block in range(count):
            shapes += convolution(inputs, inner, 1)
            shapes += convolution(inner, inner, 3)
            shapes += convolution(inner, outputs, 1)
            if block == 0:  # the shortcut has to be widened as well
                shapes += convolution(inputs, outputs, 1)
            inputs = outputs
    return [*shapes, (classes, inputs), (classes,)]


@dataclass(frozen=True, slots=True)
class Workload:
    """Parameters of given shapes.

    Attributes
    ----------
    title : str
        What they are.
    shapes : sequence of tuple of int
        The shapes.
    quick : sequence of tuple of int
        A reduced form, of fewer or smaller arrays, to see whether all works.
    rows : int or None
        How many rows of each have a gradient; None stands for a dense gradient.
    hidden : bool
        Whether the matrices are layers, of which an algorithm for matrices alone is timed.
    """

    title: str
    shapes: Shapes
    quick: Shapes
    rows: int | None = None
    hidden: bool = False

    def shapes_of(self, quick: bool) -> Shapes:
        """The shapes, or those of the reduced form."""
        return self.quick if quick else self.shapes


#: From the smallest to the largest; then the one with sparse gradients.
WORKLOADS: dict[str, Workload] = {
    "1x100": Workload("one tensor of 100", [(100,)], [(100,)]),
    "10-small": Workload(
        "an MLP of ten small tensors, 16-16-16-16-16-16",
        mlp(*[16] * 6),
        mlp(*[16] * 6),
        hidden=True,
    ),
    "1000x100": Workload("1,000 tensors of 100", [(100,)] * 1000, [(100,)] * 100),
    "mlp": Workload(
        "an MLP of ten tensors, 784-256-256-128-64-10",
        mlp(784, 256, 256, 128, 64, 10),
        mlp(784, 256, 256, 128, 64, 10),
        hidden=True,
    ),
    "1x16.7M": Workload("one tensor of 16.7M", [(16_700_000,)], [(500_000,)]),
    "resnet50": Workload("ResNet-50", resnet(), resnet((1, 1, 1, 1), width=16)),
    "gpt2": Workload(
        "GPT-2 small", gpt2(), gpt2(layers=2, width=48, vocabulary=1000, positions=64)
    ),
    "embedding": Workload(
        "an embedding with a sparse gradient, 1M x 64 of which 1,000 rows have one",
        [(1_000_000, 64)],
        [(20_000, 64)],
        rows=1000,
    ),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """The numbers of a workload. Nobody writes to them: all who take part may share them.

    Attributes
    ----------
    starts : list of array
        The parameters before the first step.
    grads : list of array or SparseGrad
        Their gradients, the same in every step.
    tensors : list of torch.Tensor
        The gradients as tensors, once somebody has made them.
    others : list of Problem
        Further sets of numbers, which take turns with these.
    """

    starts: list[NDArray[Any]]
    grads: list[Any]
    tensors: list[Any] = field(default_factory=list)
    others: list[Problem] = field(default_factory=list)

    @property
    def sparse(self) -> bool:
        """Whether the gradients are sparse."""
        return isinstance(self.grads[0], SparseGrad)

    @property
    def touched(self) -> int:
        """How many elements have a gradient."""
        return sum(g.values.size if isinstance(g, SparseGrad) else g.size for g in self.grads)

    @property
    def nbytes(self) -> int:
        """The size of all parameters."""
        return sum(start.nbytes for start in self.starts)

    def matrices(self) -> Problem:
        """The parameters that are matrices."""
        chosen = [index for index, start in enumerate(self.starts) if start.ndim == 2]
        return Problem(
            [self.starts[index] for index in chosen],
            [self.grads[index] for index in chosen],
            others=[other.matrices() for other in self.others],
        )


def problem(
    shapes: Shapes, dtype: str = "float32", rows: int | None = None, seed: int = 0
) -> Problem:
    """Numbers for parameters of these shapes, the same in every call.

    Parameters
    ----------
    shapes : sequence of tuple of int
        The shapes.
    dtype : str, default "float32"
        The dtype of parameters and gradients.
    rows : int, optional
        How many rows of each have a gradient, if these are to be sparse.
    seed : int, default 0
        Which numbers.

    Returns
    -------
    Problem
        The parameters are normal numbers of standard deviation 0.02, as those of a language model
        before training: so small that a step of any algorithm is seen beside them. The gradients
        are between 0.5 and 1, of either sign: so far from zero that it does not matter where an
        implementation adds eps.

    Examples
    --------
    >>> numbers = problem([(2, 3), (3,)])
    >>> [start.shape for start in numbers.starts]
    [(2, 3), (3,)]
    """
    rng = np.random.default_rng(seed)
    kind: Any = np.dtype(dtype).type
    scale = kind(0.02)
    starts = [rng.standard_normal(shape, np.float32).astype(kind) * scale for shape in shapes]

    def gradient(shape: tuple[int, ...]) -> NDArray[Any]:
        uniform: NDArray[Any] = rng.random(shape, np.float32).astype(kind, copy=False)
        uniform -= kind(0.5)
        uniform += np.copysign(kind(0.5), uniform)
        return uniform

    if rows is None:
        return Problem(starts, [gradient(shape) for shape in shapes])
    return Problem(starts, [_sparse(rng, gradient, shape, rows) for shape in shapes])


def _sparse(
    rng: np.random.Generator, gradient: Any, shape: tuple[int, ...], rows: int
) -> SparseGrad:
    chosen = np.sort(rng.choice(shape[0], size=min(rows, shape[0]), replace=False))
    return SparseGrad(chosen, gradient((len(chosen), *shape[1:])), shape)


def size(shapes: Shapes) -> int:
    """How many numbers there are in arrays of these shapes.

    Examples
    --------
    >>> size([(2, 3), (3,)])
    9
    """
    return sum(map(math.prod, shapes))
