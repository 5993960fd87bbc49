"""The statistics of batch normalization, for weights that no batch has seen."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import array_api_compat as compat

from arrayopt.namespace import duplicate, is_array
from arrayopt.parameter import assign

__all__ = ["is_batch_norm", "update_bn"]


def update_bn(
    loader: Iterable[Any],
    model: Any,
    device: Any = None,
    *,
    batch_fn: Callable[[Any], Any] | None = None,
    weighted: bool = False,
) -> None:
    """Compute the running statistics of all batch-normalization layers from data.

    The model is run in training mode on every batch once, after its statistics have been reset;
    they are the mean over all batches. Averaged weights need that, since the statistics of the
    models that they are averages of are not theirs.

    Parameters
    ----------
    loader : iterable
        The batches. Of a list or tuple, the first entry is the input of the model.
    model : Module
        Or whatever has ``modules()`` and ``train()`` and can be called, such as a
        ``torch.nn.Module``. Without a layer of batch normalization, nothing is done, and `loader`
        is not touched.
    device : device, optional
        Where each input is moved to.
    batch_fn : callable, optional
        Makes of a batch what the model is called with: its input, or a tuple of arguments, or a
        dict of keyword arguments.
    weighted : bool, default False
        Whether a batch counts by its length, so that all samples count the same, in batches of
        different lengths too. (A layer that is called several times on one batch would count the
        last call most.) By default all batches count the same, as in torch.

    Raises
    ------
    TypeError
        If `model` is no module, or a batch is a dict and there is no `batch_fn`.
    ValueError
        If there is no batch in `loader`, or a batch has no length to be weighted by.

    Notes
    -----
    When it is over, each layer has its momentum again, and each module its own training flag,
    whatever has happened; after an exception, these layers have their old statistics as well, as
    far as they are buffers. What else a model changes in training mode is changed.

    A layer of batch normalization is recognised by ``reset_running_stats()``, which sets its
    statistics to what they are before the first batch, and by the attribute ``momentum``: the
    weight of the next batch in the statistics, or None for a cumulative mean. It may count the
    batches that it has seen in a buffer ``num_batches_tracked``, as torch's do: then
    ``weighted=True`` knows of batches that passed it by.

    Examples
    --------
    >>> import numpy as np
    >>> from arrayopt.demo.model import BatchNorm
    >>> layer = BatchNorm(2)
    >>> update_bn([np.array([[1.0, 2.0], [3.0, 6.0]])], layer)
    >>> layer.running_mean.data, layer.running_var.data
    (array([2., 4.]), array([2., 8.]))
    """
    if not (callable(model) and hasattr(model, "modules") and hasattr(model, "train")):
        raise TypeError(
            "expected a Module that can be called as the model, but got "
            f"{type(model).__module__}.{type(model).__qualname__}"
        )
    layers = [module for module in model.modules() if is_batch_norm(module)]
    if not layers:
        return
    with contextlib.ExitStack() as restore:
        restore.enter_context(_no_grad(layers))
        for module in model.modules():
            restore.callback(setattr, module, "training", module.training)
        for layer in layers:
            restore.callback(setattr, layer, "momentum", layer.momentum)
        with contextlib.ExitStack() as undo:
            for layer in layers:
                for _, buffer in layer.named_buffers(recurse=False):
                    undo.callback(assign, buffer, duplicate(buffer.data))
                layer.reset_running_stats()
                layer.momentum = None
            model.train()
            calls = (_arguments(batch, batch_fn, device) for batch in loader)
            _run(model, layers, calls, weighted)
            undo.pop_all()


def _run(
    model: Any, layers: Sequence[Any], calls: Iterable[tuple[Any, Any]], weighted: bool
) -> None:
    """Call the model once for each batch, with its arguments.

    Raises
    ------
    ValueError
        If there is no batch, or one has no length to be weighted by.
    """
    empty, totals = True, [0] * len(layers)
    for args, kwargs in calls:
        empty = False
        if not weighted:
            model(*args, **kwargs)
            continue
        size, before = _length(args, kwargs), [*map(_batches, layers)]
        for layer, total in zip(layers, totals):
            layer.momentum = size / (total + size)
        model(*args, **kwargs)
        # (a layer that says that it has seen nothing has not)
        seen = [b is None or b != _batches(layer) for layer, b in zip(layers, before)]
        totals = [total + size * saw for total, saw in zip(totals, seen)]
    if empty:
        raise ValueError("expected at least one batch to compute statistics from, got none")


def is_batch_norm(module: Any) -> bool:
    """Whether a module is a layer of batch normalization; see `update_bn`."""
    if not (hasattr(module, "momentum") and callable(getattr(module, "reset_running_stats", None))):
        return False
    # torch's instance normalization has all that, but no cumulative mean
    return not any(cls.__name__ == "_InstanceNorm" for cls in type(module).__mro__)


def _no_grad(layers: list[Any]) -> contextlib.AbstractContextManager[Any]:
    """A context in which torch, if these layers are its own, records no graph."""
    torch = sys.modules.get("torch")
    if torch is not None and any(isinstance(layer, torch.nn.Module) for layer in layers):
        context: contextlib.AbstractContextManager[Any] = torch.no_grad()
        return context
    return contextlib.nullcontext()


def _batches(layer: Any) -> int | None:
    """How many batches a layer has seen; None if it does not tell."""
    count = getattr(layer, "num_batches_tracked", None)
    return None if count is None else int(count.data)


def _arguments(
    batch: Any, batch_fn: Callable[[Any], Any] | None, device: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the model is called with."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = {}
    if batch_fn is None:
        args = (_input_of(batch),)
    elif isinstance(given := batch_fn(batch), Mapping):
        args, kwargs = (), dict(given)
    else:
        args = given if isinstance(given, tuple) else (given,)
    if device is not None:
        args = tuple(_moved(value, device) for value in args)
        kwargs = {name: _moved(value, device) for name, value in kwargs.items()}
    return args, kwargs


def _input_of(batch: Any) -> Any:
    """What of a batch is the input of the model.

    Raises
    ------
    TypeError
        If it is a dict, of which nobody knows.
    ValueError
        If it is empty.
    """
    if isinstance(batch, Mapping):
        raise TypeError(
            "expected an array, or a list or tuple that begins with one, as a batch, but got a "
            f"{type(batch).__name__}; pass batch_fn, which makes an input of it"
        )
    if not isinstance(batch, list | tuple):
        return batch
    if not batch:
        raise ValueError(f"expected a batch that begins with an array, but got {batch!r}")
    return batch[0]


def _moved(value: Any, device: Any) -> Any:
    return compat.to_device(value, device) if is_array(value) else value


def _length(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """The length of the first array that the model is called with."""
    for value in (*args, *kwargs.values()):
        if is_array(value) and value.ndim and value.shape[0]:
            return int(value.shape[0])
    raise ValueError(
        "weighted=True needs batches that begin with an array of one or more samples, but got "
        + ", ".join(type(value).__name__ for value in (*args, *kwargs.values()))
    )
