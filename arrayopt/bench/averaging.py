"""The update of an exponential moving average, which is timed beside the steps of algorithms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from arrayopt.bench.measure import moved_arrays
from arrayopt.demo.recipes import algorithms
from arrayopt.swa_utils import AveragedModel, get_ema_multi_avg_fn
from arrayopt.swa_utils.averages import approach
from arrayopt.trace import trace

__all__ = ["EMA", "average", "find", "names", "torch_average"]

#: Of the average, which remembers some thousand steps.
DECAY = 0.999


class EMA:
    """What is asked of an algorithm, for the exponential moving average.

    The parameters of a workload are what is averaged so far, and its gradients the next model.
    """

    gradients = "dense"
    state_table = ()
    elementwise = True
    matrices = False


def names() -> list[str]:
    """What is timed."""
    return [*algorithms(), "EMA"]


def find(name: str) -> Any:
    """The class of an algorithm, or `EMA`."""
    return EMA if name == "EMA" else algorithms()[name]


def average(
    starts: Sequence[Any], values: Sequence[Any], **options: Any
) -> tuple[Callable[[], object], Callable[[], Sequence[Any]], int]:
    """An average of arrayopt.

    Parameters
    ----------
    starts, values : sequence of array
        The average so far, and the next model, again and again.
    options : bool
        ``foreach`` and ``fused``.

    Returns
    -------
    step, arrays : callable
        An update, and the averages as they are now.
    moved : int
        The bytes that an update has to move for an element.
    """
    model = [*starts]
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), **options)
    averaged.n_averaged = 1
    model[:] = values
    moved = moved_arrays(trace(approach, (), {}, {"weight": 1 - DECAY}))
    size = int(starts[0].dtype.itemsize)
    return lambda: averaged.update_parameters(model), lambda: averaged.module, moved * size


def torch_average(
    starts: Sequence[Any], values: Sequence[Any], multi: bool
) -> tuple[Callable[[], object], Callable[[], Sequence[Any]]]:
    """An average of torch, of tensors that are not changed: by ``multi_avg_fn``, or ``avg_fn``."""
    import torch

    utils: Any = torch.optim.swa_utils
    model = torch.nn.ParameterList([torch.nn.Parameter(start.clone()) for start in starts])
    if multi:
        averaged = utils.AveragedModel(model, multi_avg_fn=utils.get_ema_multi_avg_fn(DECAY))
    else:
        averaged = utils.AveragedModel(model, avg_fn=utils.get_ema_avg_fn(DECAY))
    averaged.n_averaged += 1
    for tensor, value in zip(model, values):
        tensor.data = value
    tensors = [tensor.detach() for tensor in averaged.parameters()]
    return (
        lambda: averaged.update_parameters(model),
        lambda: [tensor.cpu().numpy() for tensor in tensors],
    )
