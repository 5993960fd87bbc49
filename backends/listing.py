"""A program as lines of text: what the printers of kernels have in common.

A program is walked here alone, so that kernels of different languages cannot disagree. A printer
says how its `Language` writes each function, and puts its loop around the lines.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arrayopt.trace import PREDICATES, Operation, Structure, TraceError

__all__ = ["Language", "Line", "Listing", "check_structure", "listing"]


@dataclass(frozen=True, eq=False)
class Language:
    """How a language writes what a program does.

    Attributes
    ----------
    functions : mapping of str to str
        Each function of a program, with {0}, {1}, … for its operands. One that is missing cannot
        be fused.
    number : str
        A boolean as a number.
    truth : str
        Whether a number is not zero.
    is_name : callable
        Whether a kernel may call a variable so. It has no use of its own for such a name.
    """

    functions: Mapping[str, str]
    number: str
    truth: str
    is_name: Callable[[str], bool]


class Line(NamedTuple):
    """One operation: the variable that it makes, whether that is a boolean, and how."""

    variable: str
    is_mask: bool
    expression: str


@dataclass(frozen=True)
class Listing:
    """A program in names. What nothing depends on is left out.

    Attributes
    ----------
    operands : list of str
        A name for each of `Structure.operands`.
    loads : list of int
        The operands that are read.
    lines : list of Line
        The operations.
    stores : list of (int, str)
        The operands that are written, and the number that each becomes.
    constants : list of int
        The numbers of the constants that are used. That of number 3 is called ``c3``.
    count : int
        How many constants the program has.
    """

    operands: list[str]
    loads: list[int]
    lines: list[Line]
    stores: list[tuple[int, str]]
    constants: list[int]
    count: int


def listing(structure: Structure, language: Language) -> Listing:
    """The program in names.

    Raises
    ------
    TraceError
        If it computes with booleans alone, which are no numbers, or with a function that the
        language has not.
    """
    inputs, operations, outputs = structure
    operands = structure.operands
    variables = _variables(structure, language)
    values = [*variables[: len(inputs)], *variables[len(operands) :]]
    masks = {
        value
        for value, operation in enumerate(operations, len(inputs))
        if operation.function in PREDICATES
    }
    lines = [
        Line(values[value], value in masks, _expression(operation, values, masks, language))
        for value, operation in enumerate(operations, len(inputs))
    ]
    live = _live(structure)
    stores = [
        (
            operands.index(name),
            language.number.format(values[value]) if value in masks else values[value],
        )
        for name, value in outputs
    ]
    return Listing(
        operands=variables[: len(operands)],
        loads=[column for column in range(len(inputs)) if column in live],
        lines=[line for value, line in enumerate(lines, len(inputs)) if value in live],
        stores=stores,
        constants=sorted(-1 - operand for operand in live if operand < 0),
        count=-min([0, *(operand for _, uses in operations for operand in uses)]),
    )


def check_structure(structure: Structure, language: Language) -> None:
    """Raise a TraceError if the program cannot be written in a language."""
    reason = _refusal(structure, language)
    if reason:
        raise TraceError(reason)


@functools.lru_cache(maxsize=1024)
def _refusal(structure: Structure, language: Language) -> str:
    """Why it cannot, as a text since an exception is not cached; empty if it can."""
    try:
        listing(structure, language)
    except TraceError as error:
        return str(error)
    return ""


def _live(structure: Structure) -> set[int]:
    """The values and constants on which an output depends."""
    live = {value for _, value in structure.outputs}
    first = len(structure.inputs)
    for number in reversed(range(len(structure.operations))):
        if first + number in live:
            live.update(structure.operations[number].operands)
    return live


def _variables(structure: Structure, language: Language) -> list[str]:
    """Distinct names for all operands, and then for the result of each operation.

    They are those of the rule where it has some: the state's, and ``new_…`` for what becomes of it.
    """
    taken: set[str] = set()

    def free(name: str, otherwise: str) -> str:
        # (Python takes some other letters for the ASCII ones)
        usable = name.isascii() and name.isidentifier() and language.is_name(name)
        if not usable or name in taken:
            name = otherwise
        taken.add(name)
        return name

    operands = structure.operands
    variables = [free(name, f"operand_{column}") for column, name in enumerate(operands)]
    becomes = {value: f"new_{name}" for name, value in reversed(structure.outputs)}
    for number in range(len(structure.operations)):
        temporary = f"t{number}"
        value = len(structure.inputs) + number
        variables.append(free(becomes[value], temporary) if value in becomes else temporary)
    return variables


def _expression(
    operation: Operation, values: Sequence[str], masks: set[int], language: Language
) -> str:
    """One operation as an expression."""
    function, operands = operation
    if function not in language.functions:
        raise TraceError(f"{function} cannot be fused; leave fused at None")
    logical = len(operands) if function.startswith("logical") else int(function == "where")
    numbers = [value for value in operands[logical:] if value >= 0]
    if numbers and masks.issuperset(numbers):
        raise TraceError(
            f"{function} of booleans cannot be fused: make them numbers with xp.where, or leave "
            "fused at None"
        )

    def arguments() -> Iterator[str]:
        for position, value in enumerate(operands):
            argument = values[value] if value >= 0 else f"c{-1 - value}"
            if position < logical:
                yield argument if value in masks else language.truth.format(argument)
            else:
                yield language.number.format(argument) if value in masks else argument

    return language.functions[function].format(*arguments())
