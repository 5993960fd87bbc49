"""What surrounds a rule that is explained: the array library, the state, and `math`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from arrayopt.explaining.expressions import Operation, Symbol
from arrayopt.explaining.symbolic import Run, SymbolicArray, SymbolicNumber, argument_of

__all__ = ["SymbolicNamespace", "SymbolicState", "with_symbolic_math"]


class SymbolicNamespace:
    """An ``xp`` all of whose functions are written down."""

    def __init__(self, home: str = "") -> None:
        self._home = home

    def __getattr__(self, name: str) -> Any:
        if name in ("e", "inf", "nan", "pi"):
            return getattr(math, name)
        return SymbolicNamespace(f"{self._home}.{name}" if self._home else name)

    def __call__(self, *arguments: Any, **options: Any) -> SymbolicArray:
        """Write down a call."""
        expressions = tuple(argument_of(f"xp.{self._home}", argument) for argument in arguments)
        return SymbolicArray(Operation(self._home, expressions, tuple(options.items())))

    def written(self, function: Callable[..., Any], arguments: Sequence[Any]) -> SymbolicArray:
        """Write down a call of a function that is `arrayopt.whole.named`."""
        name = f"{function.__module__}:{function.__name__}"
        expressions = tuple(argument_of(name, argument) for argument in arguments)
        return SymbolicArray(Operation(name, expressions))


class SymbolicState(Mapping[str, Any]):
    """The state of a parameter; what the rule makes itself is there, or is not.

    Parameters
    ----------
    entries : mapping of str to symbolic
        What is there.
    begun : mapping of str to symbolic
        What the rule makes in its first step, if it is not known whether that is over.
    run : Run
        Who decides on that.
    """

    def __init__(self, entries: Mapping[str, Any], begun: Mapping[str, Any], run: Run) -> None:
        self._entries = entries
        self._begun = begun
        self._run = run

    def __getitem__(self, name: str) -> Any:
        if name in self._begun and name in self:
            return self._begun[name]
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        if name in self._begun:
            return self._run.decide(Operation("exists", (Symbol(str(name)),)), None)
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter([*self._entries, *(name for name in self._begun if name in self)])

    def __len__(self) -> int:
        return len([*iter(self)])


class _SymbolicMath(ModuleType):
    """The functions of `math`, for symbolic numbers as well."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(math, name)
        if not callable(found):
            return found

        def function(*arguments: Any) -> Any:
            number = next((a for a in arguments if isinstance(a, SymbolicNumber)), None)
            if number is None:
                return found(*arguments)
            return number.of(f"math.{name}", found, *arguments)

        return function


def with_symbolic_math(function: Any) -> Any:
    """The same function, for which the functions of `math` take symbolic numbers, too."""
    if not isinstance(function, FunctionType):
        return function
    symbolic = _SymbolicMath("math")
    variables = dict(function.__globals__)
    for name, value in variables.items():
        if value is math:
            variables[name] = symbolic
        elif callable(value) and getattr(value, "__module__", None) == "math":
            variables[name] = getattr(symbolic, value.__name__)
    same = FunctionType(
        function.__code__,
        variables,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    same.__kwdefaults__ = function.__kwdefaults__
    return same
