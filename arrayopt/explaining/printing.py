"""Expressions as text, with as few parentheses as can be; the ways to write them are subclasses."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

from arrayopt.explaining.expressions import Expression, Number, Operation, Symbol

__all__ = ["Level", "Printer", "Spelled"]


class Level(IntEnum):
    """How strongly the parts of a text hold together."""

    CHOICE = 0
    OR = 1
    AND = 2
    COMPARISON = 3
    SUM = 4
    SERIES = 5  # what takes all that follows for its own, unless a sum does
    PRODUCT = 6
    POWER = 7
    ATOM = 8


#: A text, and how strongly it holds together.
Spelled = tuple[str, Level]


class Printer:
    """How expressions are written.

    Parameters
    ----------
    name : callable
        What a symbol is called: a text that holds together.
    """

    #: Operators between two expressions: how they are written, and the levels of the result and of
    #: what may stand on the right without parentheses.
    binary: ClassVar[dict[str, tuple[str, Level, Level]]] = {
        "add": (" + ", Level.SUM, Level.SUM),
        "subtract": (" − ", Level.SUM, Level.SERIES),
        "multiply": ("·", Level.PRODUCT, Level.SERIES),
        "divide": (" / ", Level.SERIES, Level.POWER),
        "floor_divide": (" // ", Level.PRODUCT, Level.POWER),
        "remainder": (" mod ", Level.PRODUCT, Level.POWER),
        "matmul": (" ", Level.PRODUCT, Level.POWER),
        "less": (" < ", Level.COMPARISON, Level.SUM),
        "less_equal": (" ≤ ", Level.COMPARISON, Level.SUM),
        "greater": (" > ", Level.COMPARISON, Level.SUM),
        "greater_equal": (" ≥ ", Level.COMPARISON, Level.SUM),
        "equal": (" = ", Level.COMPARISON, Level.SUM),
        "not_equal": (" ≠ ", Level.COMPARISON, Level.SUM),
        "logical_and": (" and ", Level.AND, Level.AND),
        "logical_or": (" or ", Level.OR, Level.OR),
        "logical_xor": (" xor ", Level.OR, Level.AND),
    }
    minus: ClassVar[str] = "−"

    def __init__(self, name: Callable[[Symbol], str]) -> None:
        self.name = name

    def __call__(self, expression: Expression) -> str:
        return self.spelled(expression)[0]

    def spelled(self, expression: Expression) -> Spelled:
        """An expression as a text, and how strongly it holds together."""
        if isinstance(expression, Number):
            return self.number(expression.value)
        if isinstance(expression, Symbol):
            return self.symbol(expression)
        special = getattr(self, f"on_{re.sub('[.:]', '_', expression.function)}", None)
        if special is not None:
            found: Spelled = special(*expression.arguments)
            return found
        if expression.function in self.binary and len(expression.arguments) == 2:
            return self.between(expression.function, *expression.arguments)
        return self.call(expression), Level.ATOM

    def at_least(self, level: Level, expression: Expression) -> str:
        """An expression, in parentheses if it does not hold together as strongly as `level`."""
        text, own = self.spelled(expression)
        return text if own >= level else self.enclosed(text)

    def enclosed(self, text: str) -> str:
        """A text in parentheses."""
        return f"({text})"

    def on_the_right(self, level: Level, expression: Expression) -> str:
        """What follows an operator: in parentheses, too, if it begins with a sign."""
        text = self.at_least(level, expression)
        return self.enclosed(text) if text.startswith(self.minus) else text

    def between(self, function: str, left: Expression, right: Expression) -> Spelled:
        """Two expressions with an operator between them."""
        sign, level, least = self.binary[function]
        first = Level.SUM if level is Level.COMPARISON else level
        return self.at_least(first, left) + sign + self.on_the_right(least, right), level

    def number(self, value: float) -> Spelled:
        """A plain number."""
        text = f"{value:.15g}" if float(f"{value:.15g}") == value else repr(float(value))
        return text.replace("-", self.minus), Level.SUM if value < 0 else Level.ATOM

    def symbol(self, symbol: Symbol) -> Spelled:
        """A name."""
        return self.name(symbol), Level.ATOM

    def call(self, operation: Operation) -> str:
        """A function that has no sign of its own."""
        return f"{operation.function}({self.arguments(operation)})"

    def arguments(self, operation: Operation) -> str:
        """What stands between the parentheses of a call."""
        options = [f"{name}={value!r}" for name, value in operation.options]
        return ", ".join([*map(self, operation.arguments), *options])

    def on_negative(self, argument: Expression) -> Spelled:
        """What is negated."""
        return self.minus + self.on_the_right(Level.SERIES, argument), Level.SUM

    def negated(self, condition: Expression) -> str:
        """The opposite of a condition."""
        match condition:
            case Operation(function, arguments) if function in _OPPOSITE:
                return self(Operation(_OPPOSITE[function], arguments))
        return f"not {self.at_least(Level.COMPARISON, condition)}"


_OPPOSITE = {
    "less": "greater_equal",
    "less_equal": "greater",
    "greater": "less_equal",
    "greater_equal": "less",
    "equal": "not_equal",
    "not_equal": "equal",
}
