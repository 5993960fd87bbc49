"""Blocks of lines in LaTeX, in the characters of a terminal, and in Python."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator

from arrayopt.explaining.expressions import (
    Asked,
    Block,
    Branch,
    Expression,
    Line,
    Return,
    Symbol,
    functions,
    lines,
    symbols,
    tidy,
)
from arrayopt.explaining.printing import Printer
from arrayopt.explaining.symbols import Notation
from arrayopt.explaining.texts import LaTeX, Python, Text
from arrayopt.explaining.unicode import unicode

__all__ = ["Names", "latex", "python", "text", "used"]


class Names:
    """What symbols are called in a block, such that each name means one thing where it is used.

    A name may be assigned anew, as in papers. If what it stood for before is used later, the new
    one gets a mark.

    Parameters
    ----------
    block : Block
    written : callable
        What a symbol is called.
    marked : callable
        ``marked(name, count)``: a name with so many marks.

    Attributes
    ----------
    again : set of Symbol
        Those that take the name of another one.
    """

    def __init__(
        self, block: Block, written: Callable[[Symbol], str], marked: Callable[[str, int], str]
    ) -> None:
        self._written = written
        self._marked = marked
        self._marks: dict[Symbol, int] = {}
        self.again: set[Symbol] = set()
        while not self._is_clear(block, {}):
            self.again.clear()

    def __call__(self, symbol: Symbol) -> str:
        marks = self._marks.get(symbol, 0)
        return self._marked(self._written(symbol), marks) if marks else self._written(symbol)

    def _is_clear(self, block: Block, meant: dict[str, Symbol]) -> bool:
        """Whether no name is used for two things at once; if one is, the later one gets a mark."""
        for item in block:
            if isinstance(item, Line):
                if not self._uses(item.expression, meant):
                    return False
                name = self(item.target)
                if isinstance(item.expression, Symbol) and self(item.expression) == name:
                    meant[name] = item.target
                    continue
                if meant.setdefault(name, item.target) != item.target:
                    self.again.add(item.target)
                    meant[name] = item.target
            elif isinstance(item, Branch):
                ways = dict(meant), dict(meant)
                if not (
                    self._uses(item.condition, meant)
                    and self._is_clear(item.then, ways[0])
                    and self._is_clear(item.otherwise, ways[1])
                ):
                    return False
                meant.update({**ways[1], **ways[0]})
        return True

    def _uses(self, expression: Expression, meant: dict[str, Symbol]) -> bool:
        for symbol in symbols(expression):
            means = meant.setdefault(self(symbol), symbol)
            if means != symbol:
                self._marks[means] = self._marks.get(means, 0) + 1
                return False
        return True


def _says_nothing(line: Line, names: Names) -> bool:
    return isinstance(line.expression, Symbol) and names(line.expression) == names(line.target)


# LaTeX


def latex(block: Block, notation: Notation) -> str:
    """A block as aligned equations."""
    names = Names(block, notation, lambda name, count: name + "'" * count)
    rows = _latex_rows(block, LaTeX(names), names, "")
    return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"


def _latex_rows(block: Block, show: LaTeX, names: Names, under: str) -> Iterator[str]:
    r"""The rows of a block; each tells the conditions that it is under, which begin with \text."""
    for item in block:
        if isinstance(item, Line) and not _says_nothing(item, names):
            yield _latex_row(item, show, names, show(tidy(item.expression))) + under
        elif isinstance(item, Asked):
            yield rf"&\text{{(since }} {_decided(item, show)} \text{{)}}"
        elif isinstance(item, Branch):
            condition, opposite = show(tidy(item.condition)), show.negated(tidy(item.condition))
            if item.cases:
                one, other = (show(tidy(line.expression)) for line in item.cases)
                cases = show.cases([(one, condition)], other)
                yield _latex_row(item.cases[0], show, names, cases) + under
                continue
            word = under + (r" \text{ and } " if under else r" \quad \text{if } ")
            yield from _latex_rows(item.then, show, names, word + condition)
            yield from _latex_rows(item.otherwise, show, names, word + opposite)


def _decided(asked: Asked, show: Printer) -> str:
    condition = tidy(asked.condition)
    return show(condition) if asked.answer else show.negated(condition)


def _latex_row(line: Line, show: LaTeX, names: Names, value: str) -> str:
    sign = r"\leftarrow" if line.target in names.again else "="
    return f"{names(line.target)} &{sign} {value}"


# Characters


def text(block: Block, notation: Notation) -> str:
    """A block as lines of a terminal."""
    names = Names(
        block, lambda symbol: unicode(notation(symbol)), lambda name, count: name + "′" * count
    )
    return "\n".join(_text_rows(block, Text(names), names))


def _text_rows(block: Block, show: Text, names: Names) -> list[str]:
    rows: list[str | tuple[str, str]] = []
    for item in block:
        if isinstance(item, Line) and not _says_nothing(item, names):
            rows.append(_text_row(item, names, show(tidy(item.expression))))
        elif isinstance(item, Asked):
            rows.append(f"(since {_decided(item, show)})")
        elif isinstance(item, Branch):
            condition, opposite = show(tidy(item.condition)), show.negated(tidy(item.condition))
            if item.cases:
                one, other = (show(tidy(line.expression)) for line in item.cases)
                value = f"{one}  if {condition},  otherwise {other}"
                rows.append(_text_row(item.cases[0], names, value))
                continue
            for word, lines in ((condition, item.then), (opposite, item.otherwise)):
                inner = _text_rows(lines, show, names)
                if inner:
                    rows += [f"if {word}:", *(f"    {row}" for row in inner)]
    width = max((_width(row[0]) for row in rows if isinstance(row, tuple)), default=0)
    return [
        row if isinstance(row, str) else " " * (width - _width(row[0])) + " ".join(row)
        for row in rows
    ]


def _text_row(line: Line, names: Names, value: str) -> tuple[str, str]:
    return names(line.target), f"{'←' if line.target in names.again else '='} {value}"


def _width(text: str) -> int:
    """How many columns a text takes."""
    return sum(not unicodedata.combining(sign) for sign in text)


# Python


def python(block: Block, title: str) -> str:
    """A block as a function that computes what the rule does, in the same order."""

    def written(symbol: Symbol) -> str:
        if symbol.kind == "option":
            index = "" if symbol.index is None else f"[{symbol.index}]"
            return f'group["{symbol.name}"]{index}'
        if symbol.kind == "shape":
            return f"{symbol.name}[{symbol.index}]"
        if symbol.kind == "before" and symbol.name not in ("param", "grad"):
            return f'state["{symbol.name}"]'
        name = re.sub(r"\W", "_", symbol.name)
        return f"{name}_" if name in _TAKEN else name

    names = Names(block, written, lambda name, count: name + "_" * count)
    rows = [*_python_rows(block, Python(names), names, "    ")]
    function = re.sub(r"\W", "_", title).lower()
    called = [name for line in lines(block) for name in functions(line.expression)]
    modules = {name.rpartition(":")[0] for name in called if ":" in name}
    modules |= {"math"} if any("math." in row for row in rows) else set()
    head = "".join(f"import {name}\n" for name in sorted(modules))
    head += "\n\n" if modules else ""
    return f"{head}def {function}(xp, param, grad, state, group):\n" + "\n".join(rows) + "\n"


_TAKEN = frozenset({"xp", "state", "group", "math", "arrayopt", "abs"})


def _python_rows(block: Block, show: Python, names: Names, indent: str) -> Iterator[str]:
    for item in block:
        if isinstance(item, Line) and not _says_nothing(item, names):
            yield f"{indent}{names(item.target)} = {show(item.expression)}"
        elif isinstance(item, Asked):
            condition = item.condition
            yield f"{indent}# {'' if item.answer else 'not '}{show(condition)}"
        elif isinstance(item, Branch):
            yield f"{indent}if {show(item.condition)}:"
            yield from _python_body(item.then, show, names, indent)
            if item.otherwise:
                yield f"{indent}else:"
                yield from _python_body(item.otherwise, show, names, indent)
        elif isinstance(item, Return):
            new = (f'"{name}": {names(Symbol(name, "after"))}' for name in item.names)
            yield f"{indent}return {names(Symbol('param', 'after'))}, {{{', '.join(new)}}}"


def _python_body(block: Block, show: Python, names: Names, indent: str) -> list[str]:
    inner = indent + "    "
    return [*_python_rows(block, show, names, inner)] or [f"{inner}pass"]


def used(block: Block) -> Iterator[Symbol]:
    """All symbols of a block, in the order in which they appear."""
    for item in block:
        if isinstance(item, Line):
            yield from symbols(item.expression)
            yield item.target
        elif isinstance(item, Asked):
            yield from symbols(item.condition)
        elif isinstance(item, Branch):
            yield from symbols(item.condition)
            yield from used(item.then)
            yield from used(item.otherwise)
