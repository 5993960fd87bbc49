"""A rule as a block of lines: it is run on symbols, and its own variables name the lines."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from arrayopt.explaining.expressions import Block, Item, Symbol
from arrayopt.explaining.merging import merged
from arrayopt.explaining.naming import Naming
from arrayopt.explaining.surroundings import (
    SymbolicNamespace,
    SymbolicState,
    with_symbolic_math,
)
from arrayopt.explaining.symbolic import (
    Run,
    SymbolicArray,
    SymbolicNumber,
    Undecided,
    expression_of,
)
from arrayopt.explaining.watching import codes_of, watching
from arrayopt.optimizer import Optimizer, StateSlot
from arrayopt.options import python_number
from arrayopt.trace import TraceError

__all__ = ["read_rule"]

#: How often a rule may branch on what depends on the step, one after another.
DEPTH = 8


def read_rule(
    optimizer: Optimizer,
    options: Mapping[str, Any],
    slots: tuple[StateSlot, ...],
    state: Mapping[str, Any] | None = None,
    shape: Sequence[int] | None = None,
) -> Block:
    """What the rule of an optimizer does.

    Parameters
    ----------
    optimizer : Optimizer
    options : mapping
        The options of a group, as Python numbers.
    slots : tuple of StateSlot
        The state under these options.
    state : mapping, optional
        The state of a parameter in this step, with the numbers that the rule gets. It decides on
        branches that depend on the step. By default, both ways are read.
    shape : sequence of int, optional
        That of the parameter, which decides likewise; both ways are read by default.

    Raises
    ------
    TraceError
        If the rule does what cannot be written down, or branches too often.
    """
    reader = copy.copy(optimizer)
    rule = with_symbolic_math(type(optimizer).rule)
    reader.rule = rule.__get__(reader)  # type: ignore[method-assign]
    codes = codes_of(type(optimizer))

    def follow(answers: tuple[bool, ...]) -> list[Item]:
        """The rule, as it goes with these answers."""
        run = Run(answers)
        group = {name: _option(name, python_number(v), run) for name, v in options.items()}
        entries = {slot.name: _entry(slot, state, run) for slot in slots}
        made = {slot.name for slot in slots if slot.initial is None and not slot.scalar}
        if state is None:
            begun = {name: value for name, value in entries.items() if name in made}
        else:
            begun = {}
            made = {name for name in made if name not in state}
        there = {name: value for name, value in entries.items() if name not in made}
        lengths = _lengths(shape, run) if optimizer.matrices else None
        param, grad = SymbolicArray(Symbol("param"), lengths), SymbolicArray(Symbol("grad"))
        with watching(codes, run.bind):
            outcome = reader._update(
                SymbolicNamespace(), param, grad, SymbolicState(there, begun, run), group
            )
        return Naming(run, *outcome).items

    def explore(answers: tuple[bool, ...] = ()) -> list[Item]:
        """The rule, whichever way it goes after these answers."""
        try:
            return follow(answers)
        except Undecided:
            pass
        if len(answers) == DEPTH:
            raise TraceError(
                f"a rule is explained if it branches at most {DEPTH} times on what depends on the "
                "step"
            )
        return merged(explore((*answers, True)), explore((*answers, False)), len(answers))

    return tuple(explore())


def _option(name: str, value: Any, run: Run) -> Any:
    """An option as a rule gets it: with a symbol for each number."""
    if isinstance(value, tuple):
        return tuple(
            SymbolicNumber(Symbol(name, "option", index), number, run)
            if expression_of(number)
            else number
            for index, number in enumerate(value)
        )
    return SymbolicNumber(Symbol(name, "option"), value, run) if expression_of(value) else value


def _lengths(shape: Sequence[int] | None, run: Run) -> tuple[SymbolicNumber, ...]:
    """The shape of a matrix, with a symbol for each dimension."""
    return tuple(
        SymbolicNumber(Symbol("param.shape", "shape", dimension), length, run)
        for dimension, length in enumerate(shape or (None, None))
    )


def _entry(slot: StateSlot, state: Mapping[str, Any] | None, run: Run) -> Any:
    symbol = Symbol(slot.name)
    if slot.scalar:
        return SymbolicNumber(symbol, None if state is None else state[slot.name], run)
    return SymbolicArray(symbol)
