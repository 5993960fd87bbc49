"""Feeding the gradients of a run to torch.optim, to see whether the parameters end the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayopt.demo.averaging import DECAY
from arrayopt.demo.model import Floats
from arrayopt.tensors import as_tensor, torch_as_exact_as_can_be

if TYPE_CHECKING:
    from arrayopt.demo.training import Run  # which needs scikit-learn

__all__ = [
    "BOUND",
    "INSTALL_TORCH",
    "Agreement",
    "agreement",
    "average_agreement",
    "relative_difference",
]

#: The largest relative difference of float64 parameters that passes for rounding.
BOUND = 1e-12

#: An exact version, since a range may bring builds for CUDA.
INSTALL_TORCH = "pip install torch==2.13.0"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the parameters of a run are from those of torch.

    Attributes
    ----------
    name : str
        The name of the algorithm.
    difference : float or None
        The largest relative difference; None if torch has no such algorithm.
    """

    name: str
    difference: float | None

    @property
    def ok(self) -> bool:
        """Whether the difference, if there is one, is within `BOUND`. NaN is not."""
        return self.difference is None or self.difference <= BOUND


def agreement(run: Run) -> Agreement:
    """Repeat a run with the optimizer of torch that has the same name and options.

    Parameters
    ----------
    run : Run
        Its gradients are those that torch is given, so that differences do not grow as they would
        if either side computed gradients at parameters of its own.

    Returns
    -------
    Agreement

    Raises
    ------
    ImportError
        If torch is not installed.
    """
    import torch

    algorithm = getattr(torch.optim, run.name, None)
    if algorithm is None:
        return Agreement(run.name, None)
    params = [torch.from_numpy(array.copy()) for array in run.initial]
    optimizer = algorithm(params, **run.options)
    evaluations = iter(run.evaluations)

    def closure() -> Any:
        loss, grads = next(evaluations)
        for param, grad in zip(params, grads):
            param.grad = as_tensor(grad)
        return torch.tensor(loss, dtype=torch.float64)

    try:
        with torch_as_exact_as_can_be():
            for _ in run.seconds:
                optimizer.step(closure)
    except StopIteration:  # torch wants more gradients than we took
        return Agreement(run.name, math.inf)
    if next(evaluations, None) is not None:
        return Agreement(run.name, math.inf)
    return Agreement(run.name, relative_difference(run.final, [p.numpy() for p in params]))


def average_agreement(run: Run, batches: Sequence[Floats]) -> Agreement:
    """Give torch's AveragedModel the same weights, and its update_bn the same images.

    Parameters
    ----------
    run : Run
        One that has kept an average.
    batches : sequence of array
        From which the statistics of the average were computed.

    Returns
    -------
    Agreement
        The largest difference of averaged weights and of statistics.

    Raises
    ------
    ImportError
        If torch is not installed.
    """
    import torch

    assert run.averaging is not None
    sizes = [weight.shape for weight in run.initial if weight.ndim == 2]
    layers: list[Any] = []
    for inputs, outputs in sizes[:-1]:
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.BatchNorm1d(outputs), torch.nn.Tanh()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(*sizes[-1])).double()
    theirs: Any = torch.optim.swa_utils
    function = theirs.get_ema_multi_avg_fn(DECAY) if run.averaging.kind == "ema" else None
    averaged = theirs.AveragedModel(network, multi_avg_fn=function)
    for weights in run.averaging.taken:
        for tensor, weight in zip(network.parameters(), weights, strict=True):
            tensor.data = torch.from_numpy(weight.T)  # (that of a bias is the bias)
        averaged.update_parameters(network)
    theirs.update_bn(map(torch.from_numpy, batches), averaged)
    expected = {name: t.numpy().T for name, t in averaged.module.state_dict().items()}
    found = run.averaging.averaged.module.state_dict()
    ours = [found[f"layers.{name}"] for name in expected]
    return Agreement(run.name, relative_difference(ours, [*expected.values()]))


def relative_difference(ours: Sequence[Floats], theirs: Sequence[Floats]) -> float:
    """The largest of ``max|ours - theirs| / max|theirs|`` over pairs of arrays; NaN if one is.

    Examples
    --------
    >>> relative_difference([np.array([1.0, 2.5])], [np.array([1.0, 2.0])])
    0.25
    """
    ratios = [0.0]
    for a, b in zip(ours, theirs):
        difference, scale = float(np.abs(a - b).max()), float(np.abs(b).max())
        # where both are zero (biases, with a learning rate of zero) they agree
        ratios.append(difference / scale if scale else math.inf if difference else 0.0)
    return float(np.max(ratios))
