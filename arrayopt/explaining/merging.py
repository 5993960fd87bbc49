"""The two ways of a branch as one block."""

from __future__ import annotations

from collections.abc import Mapping

from arrayopt.explaining.expressions import (
    Asked,
    Branch,
    Expression,
    Item,
    Line,
    Operation,
    Symbol,
)

__all__ = ["merged"]


def merged(one: list[Item], other: list[Item], depth: int) -> list[Item]:
    """Two ways of a rule that part at its condition number `depth`, with what they share once."""
    place = _place(one, depth)
    asked = one[place]
    assert isinstance(asked, Asked)
    other_place = _place(other, depth)
    one = one[:place] + one[place + 1 :]
    other = other[:other_place] + other[other_place + 1 :]
    one, other = _in_the_words_of(other, one), _in_the_words_of(one, other)
    shortest = min(len(one), len(other))
    start = 0
    while start < min(place, shortest) and one[start] == other[start]:
        start += 1
    end = 0
    while end < shortest - start and one[-1 - end] == other[-1 - end]:
        end += 1
    ways = tuple(one[start : len(one) - end]), tuple(other[start : len(other) - end])
    branch = [Branch(asked.condition, *ways)] if any(ways) else []
    return [*one[:start], *branch, *one[len(one) - end :]]


def _place(items: list[Item], depth: int) -> int:
    """Where the condition number `depth` was asked."""
    return [place for place, item in enumerate(items) if isinstance(item, Asked)][depth]


def _in_the_words_of(model: list[Item], items: list[Item]) -> list[Item]:
    """Items, with the lines of `model` that say the same where one name stands for another."""
    known = {line.target: line for line in model if isinstance(line, Line)}
    same = {
        line.target: line.expression
        for line in items
        if isinstance(line, Line) and isinstance(line.expression, Symbol)
    }

    def reworded(item: Item) -> Item:
        if not isinstance(item, Line) or item.target not in known or item.target in same:
            return item
        line = known[item.target]
        alike = _replaced(line.expression, same) == _replaced(item.expression, same)
        return line if alike else item

    return [reworded(item) for item in items] if same else items


def _replaced(expression: Expression, same: Mapping[Symbol, Expression]) -> Expression:
    if isinstance(expression, Symbol):
        return same.get(expression, expression)
    if isinstance(expression, Operation):
        parts = tuple(_replaced(part, same) for part in expression.arguments)
        return Operation(expression.function, parts, expression.options)
    return expression
