"""LBFGS, which wants a function instead of a gradient: it goes down a bowl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.bench.workloads import Problem

__all__ = ["OPTIONS", "descent"]

#: Four iterations, whatever is found on the way.
OPTIONS = {"max_iter": 4, "tolerance_grad": 0, "tolerance_change": 0}


def descent(
    cls: Any,
    params: Sequence[Any],
    arrays: Sequence[NDArray[Any]],
    grads: Sequence[NDArray[Any]],
    problem: Problem,
) -> Callable[[], None]:
    r"""A step of LBFGS that can be repeated: a new optimizer goes down from the same start.

    Parameters
    ----------
    cls : type
        LBFGS, of arrayopt or of torch.
    params : sequence of array or tensor
        What it optimizes.
    arrays, grads : sequence of array
        The memory of the parameters and of their gradients, as NumPy arrays.
    problem : Problem
        Where it starts; the sizes of its gradients are the curvatures :math:`c_i`.

    Returns
    -------
    callable
        The function is :math:`f(\theta) = \sum_i c_i \theta_i^2 / 2`. All who take part compute
        its gradient by the same NumPy code, which is timed with them. Its value is not looked at,
        since there is no line search.

    Notes
    -----
    The first step of the method has the length 1 over the sum of all :math:`|g_i|`. The start is
    scaled for that to be near 1, lest the next gradient be the same but for rounding.
    """
    scale = 1 / sum(float(np.abs(start).sum()) for start in problem.starts)

    def closure() -> float:
        for array, grad, sizes in zip(arrays, grads, problem.grads):
            np.abs(sizes, out=grad)
            np.multiply(grad, array, out=grad)
        return 0.0

    def step() -> None:
        for array, start in zip(arrays, problem.starts):
            np.multiply(start, scale, out=array)
        cls(params, **OPTIONS).step(closure)

    return step
