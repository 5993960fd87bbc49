"""LaTeX, characters of a terminal, and Python."""

from __future__ import annotations

import re
from typing import ClassVar

from arrayopt.explaining.expressions import Expression, Number, Operation, Symbol
from arrayopt.explaining.printing import Level, Printer, Spelled
from arrayopt.explaining.unicode import superscript

__all__ = ["LaTeX", "Python", "Text"]

#: Functions that LaTeX knows.
_KNOWN = {"exp", "log", "cos", "sin", "tanh", "cosh", "sinh", "tan", "arctan", "arccos", "arcsin"}


class LaTeX(Printer):
    """Expressions in LaTeX."""

    binary: ClassVar = Printer.binary | {
        "subtract": (" - ", Level.SUM, Level.SERIES),
        "remainder": (r" \bmod ", Level.PRODUCT, Level.POWER),
        "less_equal": (r" \leq ", Level.COMPARISON, Level.SUM),
        "greater_equal": (r" \geq ", Level.COMPARISON, Level.SUM),
        "not_equal": (r" \neq ", Level.COMPARISON, Level.SUM),
        "logical_and": (r" \land ", Level.AND, Level.AND),
        "logical_or": (r" \lor ", Level.OR, Level.OR),
        "logical_xor": (r" \oplus ", Level.OR, Level.AND),
    }
    minus = "-"

    def enclosed(self, text: str) -> str:
        tall = any(command in text for command in (r"\frac", r"\sqrt", r"\prod", r"\begin"))
        return rf"\left({text}\right)" if tall else f"({text})"

    def number(self, value: float) -> Spelled:
        text, level = super().number(value)
        if text.lstrip("-") in ("inf", "nan"):
            return text.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}"), level
        digits, _, exponent = text.partition("e")
        if exponent:
            power = f"10^{{{int(exponent)}}}"
            return (
                (power, Level.POWER)
                if digits == "1"
                else (rf"{digits} \cdot {power}", Level.SUM if value < 0 else Level.PRODUCT)
            )
        return text, level

    def symbol(self, symbol: Symbol) -> Spelled:
        text = self.name(symbol)
        if text.startswith((r"\prod", r"\sum")):
            return text, Level.SERIES
        return text, Level.POWER if "^" in text else Level.ATOM

    def on_multiply(self, left: Expression, right: Expression) -> Spelled:
        """Factors side by side, with a dot before a digit."""
        first = self.at_least(Level.PRODUCT, left)
        second = self.on_the_right(Level.SERIES, right)
        dot = second[0].isdigit() or (isinstance(left, Number) and second.startswith(r"\frac"))
        return first + (r" \cdot " if dot else " ") + second, Level.PRODUCT

    def on_divide(self, above: Expression, below: Expression) -> Spelled:
        """A fraction."""
        return rf"\frac{{{self(above)}}}{{{self(below)}}}", Level.POWER

    def on_pow(self, base: Expression, exponent: Expression) -> Spelled:
        """A power."""
        return f"{self.at_least(Level.ATOM, base)}^{{{self(exponent)}}}", Level.POWER

    def on_sqrt(self, argument: Expression) -> Spelled:
        """A root."""
        return rf"\sqrt{{{self(argument)}}}", Level.ATOM

    def on_abs(self, argument: Expression) -> Spelled:
        """An absolute value."""
        return rf"\left|{self(argument)}\right|", Level.ATOM

    def on_where(self, condition: Expression, one: Expression, other: Expression) -> Spelled:
        """A choice, element by element; what is chosen otherwise may be another choice."""
        ways = [(self(one), self(condition))]
        while isinstance(other, Operation) and other.function == "where":
            condition, one, other = other.arguments
            ways.append((self(one), self(condition)))
        return self.cases(ways, self(other)), Level.CHOICE

    def on_exists(self, symbol: Expression) -> Spelled:
        """Whether an entry of the state is there."""
        return rf"{self(symbol)} \text{{ exists}}", Level.COMPARISON

    def on_transpose(self, argument: Expression) -> Spelled:
        """A transposed matrix."""
        return rf"{self.at_least(Level.ATOM, argument)}^{{\mathsf{{T}}}}", Level.POWER

    def on_maximum(self, *arguments: Expression) -> Spelled:
        """The larger one."""
        return self._of(r"\max", *arguments)

    on_arrayopt_whole_larger = on_maximum

    def on_minimum(self, *arguments: Expression) -> Spelled:
        """The smaller one."""
        return self._of(r"\min", *arguments)

    def on_logical_not(self, argument: Expression) -> Spelled:
        """The opposite of a condition."""
        return rf"\lnot {self.at_least(Level.ATOM, argument)}", Level.COMPARISON

    def _of(self, name: str, *arguments: Expression) -> Spelled:
        return rf"{name}\left({', '.join(map(self, arguments))}\right)", Level.ATOM

    def call(self, operation: Operation) -> str:
        name = short(operation.function)
        escaped = name.replace("_", r"\_")
        command = f"\\{name}" if name in _KNOWN else rf"\operatorname{{{escaped}}}"
        options = "".join(
            rf", \mathrm{{{option}}}={value}".replace("_", r"\_")
            for option, value in operation.options
        )
        return rf"{command}\left({', '.join(map(self, operation.arguments))}{options}\right)"

    def negated(self, condition: Expression) -> str:
        if isinstance(condition, Operation) and condition.function == "exists":
            return rf"\text{{there is no }} {self(condition.arguments[0])}"
        return super().negated(condition).replace("not ", r"\text{not } ")

    @staticmethod
    def cases(ways: list[tuple[str, str]], other: str) -> str:
        """What something is, each under a condition, and otherwise."""
        rows = [rf"{value} & \text{{if }} {condition}" for value, condition in ways]
        body = r" \\ ".join([*rows, rf"{other} & \text{{otherwise}}"])
        return rf"\begin{{cases}} {body} \end{{cases}}"


class Text(Printer):
    """Expressions in the characters of a terminal."""

    def symbol(self, symbol: Symbol) -> Spelled:
        text = self.name(symbol)
        if text.startswith(("∏", "∑")):
            return text, Level.SERIES
        return text, Level.POWER if _raised(text) or text[0] == "√" else Level.ATOM

    def on_pow(self, base: Expression, exponent: Expression) -> Spelled:
        """A power."""
        text = self.at_least(Level.ATOM, base)
        power = self(exponent)
        raised = superscript(power.replace("·", "").replace(" ", "")) if "/" not in power else None
        return text + (raised or "^" + self.at_least(Level.ATOM, exponent)), Level.POWER

    def on_sqrt(self, argument: Expression) -> Spelled:
        """A root."""
        if isinstance(argument, Symbol):
            return "√" + self(argument), Level.POWER
        return "√" + self.at_least(Level.ATOM, argument), Level.POWER

    def on_abs(self, argument: Expression) -> Spelled:
        """An absolute value."""
        return f"|{self(argument)}|", Level.ATOM

    def on_where(self, condition: Expression, one: Expression, other: Expression) -> Spelled:
        """A choice, element by element."""
        chosen = f"{self.at_least(Level.OR, one)} if {self(condition)} else {self(other)}"
        return chosen, Level.CHOICE

    def on_exists(self, symbol: Expression) -> Spelled:
        """Whether an entry of the state is there."""
        return f"{self(symbol)} exists", Level.COMPARISON

    def on_transpose(self, argument: Expression) -> Spelled:
        """A transposed matrix."""
        return f"{self.at_least(Level.ATOM, argument)}ᵀ", Level.POWER

    def on_logical_not(self, argument: Expression) -> Spelled:
        """The opposite of a condition."""
        return f"not {self.at_least(Level.COMPARISON, argument)}", Level.COMPARISON

    def negated(self, condition: Expression) -> str:
        if isinstance(condition, Operation) and condition.function == "exists":
            return f"there is no {self(condition.arguments[0])}"
        return super().negated(condition)

    def call(self, operation: Operation) -> str:
        name = short(operation.function)
        name = {"maximum": "max", "minimum": "min", "larger": "max"}.get(name, name)
        return f"{name}({self.arguments(operation)})"


def short(function: str) -> str:
    """The name of a function without that of its module (but `linalg.…`)."""
    return function.rpartition(":")[2].removeprefix("math.")


def _raised(text: str) -> bool:
    """Whether a name ends as a power does."""
    return bool(re.search(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵃ-ᵡᵀʰʲʳˢʷˣʸᶻ]|\^", text))


class Python(Printer):
    """Expressions in Python, in the order in which the rule computes."""

    binary: ClassVar = {
        "add": (" + ", Level.SUM, Level.PRODUCT),
        "subtract": (" - ", Level.SUM, Level.PRODUCT),
        "multiply": (" * ", Level.PRODUCT, Level.POWER),
        "divide": (" / ", Level.PRODUCT, Level.POWER),
        "floor_divide": (" // ", Level.PRODUCT, Level.POWER),
        "remainder": (" % ", Level.PRODUCT, Level.POWER),
        "matmul": (" @ ", Level.PRODUCT, Level.POWER),
        "less": (" < ", Level.COMPARISON, Level.SUM),
        "less_equal": (" <= ", Level.COMPARISON, Level.SUM),
        "greater": (" > ", Level.COMPARISON, Level.SUM),
        "greater_equal": (" >= ", Level.COMPARISON, Level.SUM),
        "equal": (" == ", Level.COMPARISON, Level.SUM),
        "not_equal": (" != ", Level.COMPARISON, Level.SUM),
        # (these hold together more strongly than a comparison, which gets parentheses, then)
        "logical_and": (" & ", Level.COMPARISON, Level.SUM),
        "logical_or": (" | ", Level.COMPARISON, Level.SUM),
        "logical_xor": (" ^ ", Level.COMPARISON, Level.SUM),
    }
    minus = "-"

    def number(self, value: float) -> Spelled:
        if value - value != 0:
            return f'float("{value}")', Level.ATOM
        return repr(value), Level.SUM if value < 0 else Level.ATOM

    def on_pow(self, base: Expression, exponent: Expression) -> Spelled:
        """A power."""
        parts = self.at_least(Level.ATOM, base), self.at_least(Level.ATOM, exponent)
        return "**".join(parts), Level.POWER

    def on_negative(self, argument: Expression) -> Spelled:
        """What is negated; in Python, that holds together more strongly than a product."""
        return "-" + self.at_least(Level.POWER, argument), Level.PRODUCT

    def on_abs(self, argument: Expression) -> Spelled:
        """An absolute value."""
        return f"abs({self(argument)})", Level.ATOM

    def on_exists(self, symbol: Expression) -> Spelled:
        """Whether an entry of the state is there."""
        assert isinstance(symbol, Symbol)
        return f'"{symbol.name}" in state', Level.COMPARISON

    def on_transpose(self, argument: Expression) -> Spelled:
        """A transposed matrix."""
        return f"{self.at_least(Level.ATOM, argument)}.T", Level.ATOM

    def call(self, operation: Operation) -> str:
        name = operation.function
        if ":" in name:
            return f"{name.replace(':', '.')}(xp, {self.arguments(operation)})"
        home = "" if name.startswith("math.") else "xp."
        return f"{home}{name}({self.arguments(operation)})"
