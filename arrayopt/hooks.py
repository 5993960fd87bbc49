"""Hooks: callables that run before or after something, each with a handle that removes it."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Self

__all__ = ["Hooks", "RemovableHandle"]

Hooks = OrderedDict[int, Callable[..., Any]]

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
