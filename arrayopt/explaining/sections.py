"""What there is to say of the groups of an optimizer that have the same options."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arrayopt import backend
from arrayopt.explaining import layout
from arrayopt.explaining.expressions import Block
from arrayopt.explaining.symbols import Notation
from arrayopt.explaining.unicode import unicode
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.trace import trace

__all__ = ["WIDTH", "Quotation", "RuleSection", "references"]

#: How many steps lie behind a kernel that is to be typical.
SETTLED = 1000

#: How many columns prose takes.
WIDTH = 88


def wrapped(*entries: str) -> str:
    """Entries one after another, none of which is broken."""
    solid = ", ".join(entry.replace(" ", "\N{NO-BREAK SPACE}") for entry in entries)
    return textwrap.fill(solid, WIDTH, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")


@dataclass(frozen=True)
class RuleSection:
    """A rule under the options of a group.

    Attributes
    ----------
    optimizer : Optimizer
    heading : str
        Which groups and which step it is about.
    options : mapping
        As Python numbers.
    slots : tuple of StateSlot
        The state under these options.
    state : mapping or None
        That of a parameter in the step that is explained, if it is a certain one.
    dtype : str
        That of kernels.
    block : Block
    """

    optimizer: Optimizer
    heading: str
    options: Mapping[str, Any]
    slots: tuple[StateSlot, ...]
    state: Mapping[str, Any] | None
    dtype: str
    block: Block

    @property
    def notation(self) -> Notation:
        """How names are written."""
        return Notation(type(self.optimizer).notation)

    @property
    def latex(self) -> str:
        """Aligned equations."""
        return layout.latex(self.block, self.notation)

    @property
    def text(self) -> str:
        """Equations in the characters of a terminal, and what the symbols are."""
        legend = [f"{unicode(symbol)}{told}" for symbol, told in self.legend]
        return f"{layout.text(self.block, self.notation)}\n\n{wrapped(*legend)}"

    @property
    def markdown(self) -> str:
        """Aligned equations, and what the symbols are."""
        parts = []
        for symbol, told in self.legend:
            name = re.sub(r"[\w.\[\]]+", r"`\g<0>`", told, count=1)
            parts.append(f"${symbol}${name}")
        return f"$$\n{self.latex}\n$$\n\n{', '.join(parts)}"

    @property
    def python(self) -> str:
        """A function that computes the same, in the same order."""
        return layout.python(self.block, type(self.optimizer).__name__)

    def source(self, language: str) -> str:
        """The kernel that a fused implementation compiles."""
        arrays = [slot.name for slot in self.slots if not slot.scalar]
        if self.state is not None:
            there = tuple(name for name in arrays if name in self.state)
            scalars = {slot.name: self.state[slot.name] for slot in self.slots if slot.scalar}
            program = trace(self.optimizer._update, there, scalars, self.options)
        else:
            scalars = {slot.name: slot.start(self.options) for slot in self.slots if slot.scalar}
            for _ in range(SETTLED if scalars else 1):
                if "step" in scalars:
                    scalars["step"] += 1
                program = trace(self.optimizer._update, tuple(arrays), scalars, self.options)
                scalars |= program.scalars
        return backend.source(language, program.structure, self.dtype)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The symbols in the equations, in LaTeX, and what they are."""
        return [*self._values(), *self._entries()]

    def _values(self) -> list[tuple[str, str]]:
        """The options in the equations, with their values, and the lengths of the parameter."""
        found = []
        for symbol in dict.fromkeys(layout.used(self.block)):
            index = "" if symbol.index is None else f"[{symbol.index}]"
            if symbol.kind == "shape":
                found.append((self.notation(symbol), f" = {symbol.name}{index}"))
            elif symbol.kind == "option":
                value = self.options[symbol.name]
                value = value if symbol.index is None else value[symbol.index]
                found.append((self.notation(symbol), f" = {symbol.name}{index} = {value:g}"))
        return found

    def _entries(self) -> list[tuple[str, str]]:
        """The entries of the state in the equations."""
        names = {slot.name for slot in self.slots} | {"param", "grad"}
        found = {}
        for symbol in layout.used(self.block):
            if symbol.name in names and symbol.kind == "after":
                found[symbol.name] = (self.notation(symbol), f": {symbol.name}")
        return [*found.values()]


@dataclass(frozen=True)
class Quotation:
    """The equations in the docstring of an algorithm that has a step of its own.

    The first ones are quoted whatever the options are. Where the paragraph before others names
    options, as in ``nesterov=True``, they are quoted if that is what the options are.

    Attributes
    ----------
    cls : type
    heading : str
        Which groups it is about.
    options : mapping
        As Python numbers.
    """

    cls: type
    heading: str
    options: Mapping[str, Any]
    block: Block = ()

    @property
    def rows(self) -> list[str]:
        """The lines of the equations, in LaTeX."""
        doc = f"{inspect.getdoc(self.cls) or ''}\n"
        parts: list[str] = []
        for found in re.finditer(r"^\.\. math::(.*\n(?: +.*\n|\n)*)", doc, re.MULTILINE):
            paragraph = doc[: found.start()].rstrip().rpartition("\n\n")[2]
            if not parts or self._fits(paragraph):
                parts.append(found[1].strip())
        return [line.strip() for line in " \\\\\n".join(parts).splitlines() if line.strip()]

    def _fits(self, paragraph: str) -> bool:
        """Whether the options that a paragraph names have the values that it says."""
        named = re.findall(r'``(\w+)="?([^`"]*)"?``', paragraph)
        return all(str(self.options.get(name, value)) == value for name, value in named)

    @property
    def statement(self) -> str:
        """What it is, and is not."""
        own = f"{self.cls.__name__} has a step of its own, not a rule that is run on each array"
        if not self.rows:
            return f"{own}, and no equations in its docstring"
        return f"{own}: these are the equations of its docstring"

    @property
    def latex(self) -> str:
        """The equations."""
        rows = self.rows or [rf"\text{{{self.statement}}}"]
        return "\n".join([r"\begin{aligned}", *rows, r"\end{aligned}"])

    @property
    def markdown(self) -> str:
        """The equations, and the options."""
        equations = f"$$\n{self.latex}\n$$" if self.rows else ""
        values = ", ".join(f"`{name}` = {value!r}" for name, value in self.options.items())
        return "\n\n".join(filter(None, [equations, values, f"({self.statement}.)"]))

    @property
    def text(self) -> str:
        """The equations in the characters of a terminal, and the options."""
        plain = (row.removesuffix("\\\\").replace("&", "") for row in self.rows)
        equations = "\n".join(unicode(row).rstrip() for row in plain)
        values = wrapped(*(f"{name} = {value!r}" for name, value in self.options.items()))
        statement = textwrap.fill(f"({self.statement}.)", WIDTH)
        return "\n\n".join(filter(None, [equations, values, statement]))

    @property
    def python(self) -> str:
        """There is none."""
        raise self._refusal("program")

    def source(self, language: str) -> str:
        """There is none."""
        raise self._refusal(f"{language} kernel")

    def _refusal(self, what: str) -> TypeError:
        return TypeError(
            f"{self.cls.__name__} has a step of its own and no rule: no {what} is made"
        )


def references(cls: type) -> str:
    """The papers that the docstring of an algorithm lists."""
    doc = inspect.getdoc(cls) or ""
    found = re.search(r"\nReferences\n-+\n(.*?)(?:\n\n[^\n]+\n---|\Z)", doc, re.DOTALL)
    if found is None:
        return ""
    plain = re.sub(r":math:`([^`]*)`", lambda role: unicode(role[1]), " ".join(found[1].split()))
    return plain.strip()
