"""Expressions, the lines that they make, and their values.

>>> theta, gradient = Symbol("param"), Symbol("grad")
>>> step = Operation("subtract", (theta, Operation("multiply", (Number(0.5), gradient))))
>>> evaluate(step, {theta: 3.0, gradient: 2.0}.__getitem__, xp=None)
2.0
"""

from __future__ import annotations

import importlib
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "OPERATORS",
    "Asked",
    "Block",
    "Branch",
    "Expression",
    "Item",
    "Line",
    "Number",
    "Operation",
    "Return",
    "Symbol",
    "evaluate",
    "functions",
    "lines",
    "symbols",
    "tidy",
]


@dataclass(frozen=True, slots=True)
class Number:
    """A plain number."""

    value: float


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something that has a name.

    Attributes
    ----------
    name : str
        What the rule calls it.
    kind : {"before", "after", "option", "local", "constant", "shape"}
        ``"param"``, ``"grad"`` or an entry of the state before the step; after it; an option; a
        local variable of the rule, and one that depends on options alone; a length of the
        parameter.
    index : int, optional
        Which element of an option that is a tuple; which dimension.
    version : int
        How often a local variable had been assigned before.
    """

    name: str
    kind: Literal["before", "after", "option", "local", "constant", "shape"] = "before"
    index: int | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Operation:
    """A function of expressions.

    Attributes
    ----------
    function : str
        As the array API standard names it, or ``math.…`` for numbers; ``module:name`` is one that
        is `arrayopt.whole.named`; ``"exists"`` asks whether an entry of the state is there.
    arguments : tuple of Expression
    options : tuple of (str, object)
        Keyword arguments.
    """

    function: str
    arguments: tuple[Expression, ...]
    options: tuple[tuple[str, Any], ...] = ()


Expression = Number | Symbol | Operation


@dataclass(frozen=True, slots=True)
class Line:
    """A name, and what it stands for."""

    target: Symbol
    expression: Expression

    @property
    def name(self) -> str:
        """What the rule calls it."""
        return self.target.name


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition that was decided, and the answer."""

    condition: Expression
    answer: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """What follows if a condition holds, and if it does not."""

    condition: Expression
    then: Block
    otherwise: Block

    @property
    def cases(self) -> tuple[Line, Line] | None:
        """The two lines, if all that differs is what one name stands for."""
        match self.then, self.otherwise:
            case (Line() as one,), (Line() as other,) if one.target == other.target:
                return one, other
        return None


@dataclass(frozen=True, slots=True)
class Return:
    """The end of a rule: the parameter and these entries of the state are new."""

    names: tuple[str, ...]


Item = Line | Asked | Branch | Return
Block = tuple[Item, ...]


def lines(block: Block) -> Iterator[Line]:
    """All lines of a block, of whatever branch."""
    for item in block:
        if isinstance(item, Line):
            yield item
        elif isinstance(item, Branch):
            yield from lines(item.then)
            yield from lines(item.otherwise)


def symbols(expression: Expression) -> Iterator[Symbol]:
    """The symbols in an expression, from left to right."""
    if isinstance(expression, Symbol):
        yield expression
    elif isinstance(expression, Operation):
        for argument in expression.arguments:
            yield from symbols(argument)


def functions(expression: Expression) -> Iterator[str]:
    """The functions in an expression."""
    if isinstance(expression, Operation):
        yield expression.function
        for argument in expression.arguments:
            yield from functions(argument)


#: What the operators of Python are for arrays and for numbers alike.
OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "pow": operator.pow,
    "matmul": operator.matmul,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "logical_and": operator.and_,
    "logical_or": operator.or_,
    "logical_xor": operator.xor,
    "negative": operator.neg,
}


def evaluate(expression: Expression, value_of: Callable[[Symbol], Any], xp: Any) -> Any:
    """The value of an expression.

    Parameters
    ----------
    expression : Expression
    value_of : callable
        The value of a symbol.
    xp : namespace
        The array library.
    """
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Symbol):
        return value_of(expression)
    name = expression.function
    arguments = [evaluate(argument, value_of, xp) for argument in expression.arguments]
    if name in OPERATORS:
        return OPERATORS[name](*arguments)
    if name == "abs":
        return abs(arguments[0])
    if name == "sqrt" and isinstance(arguments[0], (int, float)):
        return arguments[0] ** 0.5  # as a rule writes it
    home, colon, function = name.rpartition(":")
    if colon:
        return getattr(importlib.import_module(home), function)(xp, *arguments)
    home, _, function = name.rpartition(".")
    owner = math if home == "math" else operator.attrgetter(home)(xp) if home else xp
    return getattr(owner, function)(*arguments, **dict(expression.options))


# The form in which papers write it


def tidy(expression: Expression) -> Expression:
    """The same, as papers write it: powers, roots, and an average as a sum with weights.

    It is equal but for rounding. A rule computes an average as an interpolation, from the nearer
    end, which rounds less.

    >>> m, g, beta = Symbol("m"), Symbol("g"), Symbol("beta", "option")
    >>> weight = Operation("subtract", (Number(1), beta))
    >>> step = Operation("multiply", (weight, Operation("subtract", (g, m))))
    >>> found = tidy(Operation("add", (m, step)))
    >>> found == Operation(
    ...     "add", (Operation("multiply", (beta, m)), Operation("multiply", (weight, g)))
    ... )
    True
    """
    if not isinstance(expression, Operation):
        return expression
    arguments = tuple(tidy(argument) for argument in expression.arguments)
    match expression.function, arguments:
        case "add", (old, Operation("multiply", (weight, Operation("subtract", (new, end))))):
            beta = _complement(weight)
            if beta is not None and old == end:
                return _mean(beta, old, weight, new)
        case "subtract", (new, Operation("multiply", (Operation("subtract", (end, old)), beta))):
            if new == end:
                return _mean(beta, old, Operation("subtract", (Number(1), beta)), new)
        case "subtract", (Number(1), weight) if _complement(weight):
            return _complement(weight) or weight
        case "multiply", (base, factor) if base == factor:
            return Operation("pow", (base, Number(2)))
        case "multiply", (Operation("multiply", (weight, base)), factor) if base == factor:
            return Operation("multiply", (weight, Operation("pow", (base, Number(2)))))
        case "multiply", (base, Number(1)):
            return base
        case "square", (base,):
            return Operation("pow", (base, Number(2)))
        case "reciprocal", (base,):
            return Operation("divide", (Number(1), base))
        case ("pow", (base, Number(0.5))) | ("math.sqrt", (base,)):
            return Operation("sqrt", (base,))
    return Operation(expression.function, arguments, expression.options)


def _complement(weight: Expression) -> Expression | None:
    """What is subtracted from one, if something is."""
    match weight:
        case Operation("subtract", (Number(1), beta)):
            return beta
    return None


def _mean(beta: Expression, old: Expression, weight: Expression, new: Expression) -> Expression:
    parts = Operation("multiply", (beta, old)), Operation("multiply", (weight, new))
    return Operation("add", parts)
