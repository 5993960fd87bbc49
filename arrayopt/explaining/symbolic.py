"""What a rule is given to be explained: arrays and numbers that are expressions.

A number also has its value, if it follows from the options; then Python branches on it as the rule
would. On what depends on the step, a rule is run both ways.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NoReturn

from arrayopt.explaining.expressions import (
    OPERATORS,
    Asked,
    Expression,
    Number,
    Operation,
    symbols,
)
from arrayopt.options import is_number
from arrayopt.trace import TraceError

__all__ = [
    "Run",
    "SymbolicArray",
    "SymbolicNumber",
    "Undecided",
    "argument_of",
    "expression_of",
]


class Undecided(Exception):  # noqa: N818  (no error: it ends a run)
    """A rule branches on what depends on the step."""


class Run:
    """One run of a rule: what it bound and asked, in order.

    Parameters
    ----------
    answers : tuple of bool
        Which way to go where the rule asks for what depends on the step.

    Attributes
    ----------
    events : list
        Pairs ``(name, value)`` of what was bound, and `Asked`.
    """

    def __init__(self, answers: tuple[bool, ...] = ()) -> None:
        self.events: list[tuple[str, Any] | Asked] = []
        self._answers = iter(answers)
        self._known: dict[Expression, bool] = {}

    def bind(self, name: str, value: Any) -> None:
        """Note that a local variable has been bound."""
        self.events.append((name, value))

    def decide(self, condition: Expression, value: bool | None) -> bool:
        """Whether a condition holds: by its value, or as the answers say."""
        if condition not in self._known:
            if value is None:
                value = next(self._answers, None)
                if value is None:
                    raise Undecided
            self._known[condition] = value
            if any(symbol.kind != "option" for symbol in symbols(condition)):
                self.events.append(Asked(condition, value))
        return self._known[condition]


def expression_of(value: Any) -> Expression | None:
    """The expression that a value of a rule stands for; None if it is something else."""
    if isinstance(value, SymbolicArray | SymbolicNumber):
        return value.expression
    if is_number(value):
        return Number(value)
    return None


def argument_of(function: str, value: Any) -> Expression:
    """The expression that `value`, an argument of `function`, stands for."""
    found = expression_of(value)
    if found is None:
        raise TraceError(
            f"{function} in a rule takes arrays and numbers to be explained, but got "
            f"{type(value).__name__}: {value!r}"
        )
    return found


# Numbers


def _arithmetic(
    name: str, function: Callable[..., Any], reflected: bool = False
) -> Callable[..., Any]:
    def method(self: SymbolicNumber, other: Any) -> Any:
        if isinstance(other, SymbolicArray) or expression_of(other) is None:
            return NotImplemented
        pair = (other, self) if reflected else (self, other)
        return self.of(name, function, *pair)

    return method


def _comparison(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: SymbolicNumber, other: Any) -> Any:
        expression = expression_of(other)
        if isinstance(other, SymbolicArray) or expression is None:
            return NotImplemented
        values = self.value, _value(other)
        holds = None if None in values else function(*values)
        return self.run.decide(Operation(name, (self.expression, expression)), holds)

    return method


def _value(number: Any) -> Any:
    return number.value if isinstance(number, SymbolicNumber) else number


def _known(self: SymbolicNumber, convert: Callable[..., Any]) -> Any:
    if self.value is None:
        raise TraceError(
            "a rule took a number out of what depends on the step, which cannot be explained: "
            "write x ** 0.5 for math.sqrt(x) in what it calls, or use the functions of math in "
            "the rule itself"
        )
    return convert(self.value)


class SymbolicNumber:
    """A number of a rule.

    Attributes
    ----------
    expression : Expression
    value : number or None
        None if it depends on the step.
    run : Run
        Who decides on branches.
    """

    __slots__ = ("expression", "run", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, expression: Expression, value: Any, run: Run) -> None:
        self.expression = expression
        self.value = value
        self.run = run

    def of(self, name: str, function: Callable[..., Any], *arguments: Any) -> SymbolicNumber:
        """A function of numbers of this run."""
        values = [_value(argument) for argument in arguments]
        value = None if None in values else function(*values)
        expressions = tuple(argument_of(name, argument) for argument in arguments)
        return SymbolicNumber(Operation(name, expressions), value, self.run)

    def __neg__(self) -> SymbolicNumber:
        return self.of("negative", operator.neg, self)

    def __pos__(self) -> SymbolicNumber:
        return self

    def __abs__(self) -> SymbolicNumber:
        return self.of("abs", abs, self)

    def __bool__(self) -> bool:
        holds = None if self.value is None else bool(self.value)
        return self.run.decide(Operation("not_equal", (self.expression, Number(0))), holds)

    def __float__(self) -> float:
        return float(_known(self, float))

    def __int__(self) -> int:
        return int(_known(self, int))

    def __index__(self) -> int:
        return int(_known(self, operator.index))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = f"math.{ufunc.__name__}"
        known = hasattr(math, ufunc.__name__) and not options and method == "__call__"
        if not known or any(expression_of(value) is None for value in inputs):
            return NotImplemented
        return self.of(name, getattr(math, ufunc.__name__), *inputs)


# Arrays


def _elementwise(name: str, reflected: bool = False) -> Callable[..., Any]:
    def method(self: SymbolicArray, other: Any) -> Any:
        operand = expression_of(other)
        if operand is None:
            return NotImplemented
        pair = (operand, self.expression) if reflected else (self.expression, operand)
        return SymbolicArray(Operation(name, pair))

    return method


class SymbolicArray:
    """An array of a rule.

    Attributes
    ----------
    expression : Expression
    lengths : tuple of SymbolicNumber or None
        Its shape, if that is to be known.
    """

    __slots__ = ("expression", "lengths")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None

    def __init__(
        self, expression: Expression, lengths: tuple[SymbolicNumber, ...] | None = None
    ) -> None:
        self.expression = expression
        self.lengths = lengths

    @property
    def shape(self) -> tuple[SymbolicNumber, ...]:
        """The lengths of the dimensions, of a parameter that has a certain number of them."""
        if self.lengths is None:
            raise TraceError(
                "an array's .shape cannot be explained, unless it is the parameter, and the class "
                "takes `matrices` alone"
            )
        return self.lengths

    @property
    def T(self) -> SymbolicArray:  # noqa: N802  (so it is called in the standard)
        """The transpose."""
        return SymbolicArray(Operation("transpose", (self.expression,)))

    mT = T  # noqa: N815

    def __neg__(self) -> SymbolicArray:
        return SymbolicArray(Operation("negative", (self.expression,)))

    def __invert__(self) -> SymbolicArray:
        return SymbolicArray(Operation("logical_not", (self.expression,)))

    def __pos__(self) -> SymbolicArray:
        return self

    def __abs__(self) -> SymbolicArray:
        return SymbolicArray(Operation("abs", (self.expression,)))

    def __bool__(self) -> NoReturn:
        raise TraceError("a rule that is explained cannot branch on elements: use xp.where")

    def __iter__(self) -> NoReturn:
        raise TraceError("a rule that is explained cannot go through the elements of an array")

    def __getattr__(self, name: str) -> NoReturn:
        raise TraceError(f"an array's .{name} cannot be explained: an explained array has no shape")


_SIGNS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide",
    "floordiv": "floor_divide", "mod": "remainder", "pow": "pow",
}  # fmt: skip
_ARRAY_SIGNS = {
    **_SIGNS, "matmul": "matmul", "and": "logical_and", "or": "logical_or", "xor": "logical_xor",
}  # fmt: skip
_COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
    "ne": "not_equal",
}  # fmt: skip

for _sign, _name in _SIGNS.items():
    setattr(SymbolicNumber, f"__{_sign}__", _arithmetic(_name, OPERATORS[_name]))
    setattr(SymbolicNumber, f"__r{_sign}__", _arithmetic(_name, OPERATORS[_name], reflected=True))
for _sign, _name in _ARRAY_SIGNS.items():
    setattr(SymbolicArray, f"__{_sign}__", _elementwise(_name))
    setattr(SymbolicArray, f"__r{_sign}__", _elementwise(_name, reflected=True))
for _sign, _name in _COMPARISONS.items():
    setattr(SymbolicNumber, f"__{_sign}__", _comparison(_name, OPERATORS[_name]))
    setattr(SymbolicArray, f"__{_sign}__", _elementwise(_name))
