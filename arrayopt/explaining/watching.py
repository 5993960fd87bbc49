"""The local variables of a function, as they are bound while it runs.

>>> def rule(x):
...     twice = 2 * x
...     twice = twice + 1
...     return twice
>>> with watching({rule.__code__}, lambda name, value: print(name, "=", value)):
...     _ = rule(3)
x = 3
twice = 6
twice = 7
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from types import CodeType, FrameType
from typing import Any

__all__ = ["codes_of", "watching"]

_UNBOUND = object()


def codes_of(cls: type) -> set[CodeType]:
    """The code of the rule of a class, and of those rules that it may call as ``super().rule``."""
    rules = [vars(base)["rule"] for base in cls.__mro__ if "rule" in vars(base)]
    return {rule.__code__ for rule in rules if hasattr(rule, "__code__")}


@contextlib.contextmanager
def watching(codes: Collection[CodeType], seen: Callable[[str, Any], None]) -> Iterator[None]:
    """Call ``seen(name, value)`` for what is bound in functions that run meanwhile, in order.

    It is the tracing of debuggers, in this thread alone; the tracer that was there (of a debugger,
    of coverage) rests meanwhile. A source text is not needed. Of several assignments to a name in
    one line of text, the last one is seen.

    Parameters
    ----------
    codes : collection of code
        Those of the functions.
    seen : callable
    """

    def begin(frame: FrameType, event: str, argument: Any) -> Any:
        return _follow(seen)(frame, event, argument) if frame.f_code in codes else None

    before = sys.gettrace()
    sys.settrace(begin)
    try:
        yield
    finally:
        sys.settrace(before)


def _follow(seen: Callable[[str, Any], None]) -> Callable[..., Any]:
    """What is called at each line of one run of a function."""
    bound: dict[str, Any] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        for name, value in frame.f_locals.items():
            if bound.get(name, _UNBOUND) is not value:
                bound[name] = value
                seen(name, value)
        return trace

    return trace
