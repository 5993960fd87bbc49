"""Hooks: callables that run before or after something, each with a handle that removes it.

And the step that calls them. A step that a subclass takes by ``super().step()`` is part of its own;
one inside a closure is a step by itself.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Self

__all__ = [
    "Closure",
    "Hooks",
    "RemovableHandle",
    "evaluate",
    "register_optimizer_step_post_hook",
    "register_optimizer_step_pre_hook",
    "with_hooks",
]

Hooks = OrderedDict[int, Callable[..., Any]]
Closure = Callable[[], Any]

_ids = itertools.count()


class RemovableHandle:
    """What registering a hook returns.

    Attributes
    ----------
    id : int
        Unique among all hooks.
    """

    def __init__(self, hooks: Hooks, hook: Callable[..., Any], prepend: bool = False) -> None:
        self.id = next(_ids)
        self._hooks = hooks
        hooks[self.id] = hook
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Take the hook away; doing so twice is harmless."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()


# Hooks of all optimizers

_global_pre_hooks: Hooks = OrderedDict()
_global_post_hooks: Hooks = OrderedDict()


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Run ``hook(optimizer, args, kwargs)`` before every step of every optimizer.

    Parameters
    ----------
    hook : callable
        May return None, or a pair ``(args, kwargs)`` that replaces the step's arguments;
        ``args[0]`` is the optimizer.

    Returns
    -------
    RemovableHandle
        Its ``remove()`` takes the hook away, and so does leaving it as a context manager.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> def tell(optimizer, args, kwargs):
    ...     print(type(optimizer).__name__, optimizer.step_count)
    >>> with arrayopt.register_optimizer_step_pre_hook(tell):
    ...     arrayopt.SGD([np.zeros(2)]).step(grads=[np.ones(2)])
    SGD 0
    """
    return RemovableHandle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Run ``hook(optimizer, args, kwargs)`` after every step of every optimizer.

    Parameters
    ----------
    hook : callable
        What it returns is ignored.

    Returns
    -------
    RemovableHandle
        Its ``remove()`` takes the hook away, and so does leaving it as a context manager.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> steps = []
    >>> handle = arrayopt.register_optimizer_step_post_hook(
    ...     lambda optimizer, args, kwargs: steps.append(optimizer.step_count)
    ... )
    >>> opt = arrayopt.SGD([np.zeros(2)])
    >>> opt.step(grads=[np.ones(2)])
    >>> handle.remove()
    >>> opt.step(grads=[np.ones(2)])
    >>> steps
    [1]
    """
    return RemovableHandle(_global_post_hooks, hook)


# The step


class _Running(threading.local):
    """The optimizers whose step is running on this thread, the innermost last."""

    def __init__(self) -> None:
        self.optimizers: list[Any] = []


_running = _Running()


def with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """The method `step` of an optimizer, with its hooks and those of all around it, and counted."""

    @functools.wraps(step)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        running = _running.optimizers
        if running and running[-1] is self:  # a subclass's step that calls super().step()
            return step(self, *args, **kwargs)
        running.append(self)
        try:
            args = (self, *args)
            if _global_pre_hooks or self._step_pre_hooks:
                args, kwargs = _before(self, args, kwargs)
            loss = step(*args, **kwargs)
            self.step_count += 1
            if self._step_post_hooks or _global_post_hooks:
                for hook in (*self._step_post_hooks.values(), *_global_post_hooks.values()):
                    hook(self, args, kwargs)
            return loss
        finally:
            running.pop()

    return wrapper


def _before(
    optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a step, as the hooks leave them."""
    for hook in (*_global_pre_hooks.values(), *optimizer._step_pre_hooks.values()):
        result = hook(optimizer, args, kwargs)
        if result is None:
            continue
        if not (isinstance(result, tuple) and len(result) == 2):
            raise RuntimeError(
                f"{hook!r} must return None or a tuple of (new_args, new_kwargs), but got {result}."
            )
        args, kwargs = result
    return args, kwargs


def evaluate(closure: Closure, grads: Any) -> tuple[Any, Any]:
    """The loss and the gradients (None if the parameters have them) from a closure."""
    if not callable(closure):
        raise TypeError(
            "closure must be a callable that returns the loss or (loss, grads), but got "
            f"{type(closure).__name__}; gradients are passed as step(grads=...)"
        )
    if grads is not None:
        raise TypeError("pass either a closure or grads to step, not both")
    _running.optimizers.append(None)  # a step inside the closure is a step of its own
    try:
        loss = closure()
    finally:
        _running.optimizers.pop()
    if not isinstance(loss, tuple):
        return loss, None
    if len(loss) != 2:
        raise TypeError(
            f"closure must return the loss or (loss, grads), but it returned {len(loss)} values"
        )
    return loss
