"""Who takes part: arrayopt, and what a user would pick instead."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.bench.averaging import average, find, torch_average
from arrayopt.bench.bowl import descent
from arrayopt.bench.measure import bytes_per_element
from arrayopt.bench.workloads import Problem, Workload
from arrayopt.parameter import Parameter
from arrayopt.tensors import as_tensor

__all__ = [
    "CONTENDERS",
    "OURS",
    "Contender",
    "Ours",
    "Side",
    "Torch",
    "installed",
    "rivals",
    "runs",
    "taken",
    "takes",
]


@dataclass(slots=True)
class Side:
    """A contender at work, with parameters of its own.

    Attributes
    ----------
    step : callable
        Takes one step, and returns when it is done.
    arrays : callable
        Returns the parameters as they are now.
    moved : callable or None
        Returns how many bytes a step has to move for an element, once some have been taken.
    """

    step: Callable[[], object]
    arrays: Callable[[], Sequence[NDArray[Any]]]
    moved: Callable[[], int] | None = None


class Contender(ABC):
    """One way to take a step.

    Attributes
    ----------
    heading : str
        What it is called in tables.
    library : str
        What has to be installed.
    """

    heading: str
    library: str

    @abstractmethod
    def offers(self, algorithm: str, sparse: bool) -> bool:
        """Whether it has the algorithm, for sparse or for dense gradients."""

    @abstractmethod
    def make(self, algorithm: str, problem: Problem) -> Side:
        """Parameters and an optimizer, before the first step."""


class Ours(Contender):
    """arrayopt on NumPy arrays."""

    library = "numpy"

    def __init__(self, heading: str, **options: bool) -> None:
        self.heading = heading
        self.options = options

    def offers(self, algorithm: str, sparse: bool) -> bool:
        cls = find(algorithm)
        if not takes(cls, sparse):
            return False
        array = self.sample()
        try:
            if algorithm == "EMA":
                average([array], [array], **self.options)
            elif not _accepts(cls, self.options):
                return False
            else:
                cls([array], **self.options).implementation  # noqa: B018
        except RuntimeError:  # no backend has this implementation
            return False
        return True

    def sample(self) -> Any:
        """An array of the kind that it works on."""
        return np.zeros((1, 1), np.float32)

    def make(self, algorithm: str, problem: Problem) -> Side:
        if algorithm == "EMA":
            step, averages, moved = average(problem.starts, problem.grads, **self.options)
            return Side(step, averages, lambda: moved)
        cls = find(algorithm)
        arrays = [start.copy() for start in problem.starts]
        params = [Parameter(array) for array in arrays]
        bowl = algorithm == "LBFGS"
        grads = [np.empty_like(array) for array in arrays] if bowl else problem.grads
        for param, grad in zip(params, grads):
            param.grad = grad
        if bowl:
            return Side(descent(cls, params, arrays, grads, problem), lambda: arrays)
        optimizer = cls(params, **self.options)
        return Side(
            optimizer.step,
            lambda: [param.data for param in params],
            (lambda: bytes_per_element(optimizer)) if cls.elementwise else None,
        )


class Dense(Ours):
    """arrayopt on the same gradients as dense arrays; Adam stands in for SparseAdam."""

    def offers(self, algorithm: str, sparse: bool) -> bool:
        return sparse and super().offers(_dense(algorithm), False)

    def make(self, algorithm: str, problem: Problem) -> Side:
        dense = Problem(problem.starts, [grad.to_dense() for grad in problem.grads])
        return super().make(_dense(algorithm), dense)


class TorchTensors(Contender):
    """Tensors of torch, whoever optimizes them: here, arrayopt."""

    library = "torch"
    options: Mapping[str, bool] = {}

    def __init__(self, heading: str) -> None:
        self.heading = heading

    def cls(self, algorithm: str) -> Any:
        """The optimizer; None if there is none."""
        return find(algorithm)

    def offers(self, algorithm: str, sparse: bool) -> bool:
        return takes(find(algorithm), sparse)

    def make(self, algorithm: str, problem: Problem) -> Side:
        import torch

        if algorithm == "EMA":
            return self.averaging(problem)
        # Each library allocates its own memory, as it does in a user's program: aligned and paged
        # as that library likes it.
        tensors = [torch.tensor(start, requires_grad=True) for start in problem.starts]
        arrays = [tensor.detach().numpy() for tensor in tensors]  # views
        bowl = algorithm == "LBFGS"
        grads = [torch.empty_like(t.data) for t in tensors] if bowl else _torch_grads(problem)
        for tensor, grad in zip(tensors, grads):
            tensor.grad = grad
        cls = self.cls(algorithm)
        if bowl:
            views = [grad.numpy() for grad in grads]
            return Side(descent(cls, tensors, arrays, views, problem), lambda: arrays)
        optimizer = cls(tensors, **self.options)
        return Side(optimizer.step, lambda: arrays)

    def averaging(self, problem: Problem) -> Side:
        """The update of an average."""
        import torch

        step, tensors, _ = average([*map(torch.tensor, problem.starts)], _torch_grads(problem))
        return Side(step, lambda: [tensor.numpy() for tensor in tensors()])


class Torch(TorchTensors):
    """torch.optim, in one of its implementations."""

    def __init__(self, heading: str, **options: bool) -> None:
        super().__init__(heading)
        self.options = options

    def cls(self, algorithm: str) -> Any:
        import torch

        return getattr(torch.optim, algorithm, None)

    def offers(self, algorithm: str, sparse: bool) -> bool:
        if algorithm == "EMA":  # whose two ways are no options
            return not sparse and "foreach" in self.options
        if sparse and self.options:  # torch's fused ones take none; of the others, one will do
            return False
        cls = self.cls(algorithm)
        return bool(cls) and super().offers(algorithm, sparse) and _accepts(cls, self.options)

    def averaging(self, problem: Problem) -> Side:
        import torch

        starts = [*map(torch.tensor, problem.starts)]
        return Side(*torch_average(starts, _torch_grads(problem), multi=self.options["foreach"]))


class Optax(Contender):
    """A jitted step of optax that may reuse the memory of its arguments."""

    heading = "optax\njit"
    library = "optax"

    def offers(self, algorithm: str, sparse: bool) -> bool:
        from arrayopt.bench.optax_step import RECIPES

        return not sparse and algorithm in RECIPES

    def make(self, algorithm: str, problem: Problem) -> Side:
        from arrayopt.bench.optax_step import optax_step

        return Side(*optax_step(algorithm, problem))


#: arrayopt, as a user who chooses nothing gets it. The first is the one that the others have to
#: agree with.
OURS: dict[str, Contender] = {
    "arrayopt": Ours("arrayopt"),
    "arrayopt-torch": TorchTensors("arrayopt,\ntorch tensors"),
}

#: Whom it is compared with.
CONTENDERS: dict[str, Contender] = {
    "torch": Torch("torch\ndefault"),
    "torch-for-loop": Torch("torch\nfor-loop", foreach=False),
    "torch-foreach": Torch("torch\nforeach", foreach=True),
    "torch-fused": Torch("torch\nfused", fused=True),
    "optax": Optax(),
    "dense": Dense("arrayopt\ndense"),
    "for-loop": Ours("arrayopt\nfor-loop", foreach=False),
    "foreach": Ours("arrayopt\nforeach", foreach=True),
    "fused": Ours("arrayopt\nfused", fused=True),
}


def rivals() -> list[str]:
    """Whom to compare with, unless the user says otherwise.

    Those whose library is there. Without torch, arrayopt's implementations compete.
    """
    own = [] if installed("torch") else ["for-loop", "foreach", "fused"]
    others = [
        name
        for name, contender in CONTENDERS.items()
        if contender.library != "numpy" and installed(contender.library)
    ]
    return [*others, "dense", *own]


def installed(library: str) -> bool:
    """Whether a library can be imported."""
    try:
        importlib.import_module(library)
    except ImportError:
        return False
    return True


def takes(cls: Any, sparse: bool) -> bool:
    """Whether an algorithm takes sparse gradients, or else dense ones.

    Examples
    --------
    >>> takes(find("Adagrad"), sparse=True)
    True
    """
    return bool(cls.gradients != ("dense" if sparse else "sparse"))


def runs(algorithm: str, workload: Workload) -> bool:
    """Whether an algorithm is timed on a workload.

    Examples
    --------
    >>> from arrayopt.bench.workloads import WORKLOADS
    >>> [name for name, workload in WORKLOADS.items() if runs("Muon", workload)]
    ['10-small', 'mlp']
    """
    cls = find(algorithm)
    return takes(cls, workload.rows is not None) and (workload.hidden or not cls.matrices)


def taken(algorithm: str, numbers: Problem) -> Problem:
    """The parameters of a workload that an algorithm takes."""
    return numbers.matrices() if find(algorithm).matrices else numbers


def _accepts(cls: Any, options: Mapping[str, bool]) -> bool:
    return options.keys() <= inspect.signature(cls).parameters.keys()


def _dense(algorithm: str) -> str:
    return algorithm.removeprefix("Sparse")


def _torch_grads(problem: Problem) -> list[Any]:
    """The gradients as tensors, made once for all who want them: nobody writes to them."""
    if not problem.tensors:
        problem.tensors.extend(as_tensor(grad).clone() for grad in problem.grads)
    return problem.tensors
