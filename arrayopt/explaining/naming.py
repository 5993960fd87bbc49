"""Names for what a rule computed: those of its own variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arrayopt.explaining.expressions import (
    Asked,
    Expression,
    Item,
    Line,
    Operation,
    Return,
    Symbol,
    symbols,
)
from arrayopt.explaining.symbolic import Run, expression_of
from arrayopt.trace import TraceError

__all__ = ["Naming"]


class Naming:
    """The lines of one run.

    A value is called by the entry of the state that it becomes, or else by the first variable that
    it was bound to; where it is used, its name stands for it.
    """

    def __init__(self, run: Run, param: Any, state: Mapping[str, Any]) -> None:
        self.items: list[Item] = []
        self._events = run.events
        results = {"param": param, **state}
        self._results = {name: self._result(name, value) for name, value in results.items()}
        self._named: dict[int, Symbol] = {}
        self._also: dict[Symbol, Symbol] = {}
        self._told: set[int] = set()
        self._returned: set[str] = set()
        self._choose_names()
        self._tell()

    @staticmethod
    def _result(name: str, value: Any) -> Expression:
        found = expression_of(value)
        if found is None:
            raise TraceError(f"a rule must return an array or a number for {name!r}: {value!r}")
        return found

    def _bound(self) -> Iterator[tuple[str, Expression] | Asked]:
        for event in self._events:
            if isinstance(event, Asked):
                yield event
            else:
                expression = expression_of(event[1])
                if expression is not None:
                    yield event[0], expression

    def _choose_names(self) -> None:
        results = {id(e): name for name, e in reversed(self._results.items()) if _is_new(e)}
        versions: dict[str, int] = {}
        for event in self._bound():
            if isinstance(event, Asked) or not _is_new(event[1]) or id(event[1]) in self._named:
                continue
            name, expression = event
            result = results.get(id(expression))
            if result and (result == "param" or name not in ("param", "grad")):
                symbol = Symbol(result, "after")
            else:
                version = versions.get(name, 0)
                versions[name] = version + 1
                parts = symbols(self._reference(expression))
                constant = all(part.kind in ("option", "constant", "shape") for part in parts)
                kind = "constant" if constant else "local"
                symbol = Symbol(name, kind, version=version)  # type: ignore[arg-type]
            self._named[id(expression)] = symbol
        for identity, name in results.items():
            self._named.setdefault(identity, Symbol(name, "after"))

    def _tell(self) -> None:
        for event in self._bound():
            if isinstance(event, Asked):
                self.items.append(Asked(self._used(event.condition), event.answer))
                continue
            name, expression = event
            self._line(expression)
            if name != "param" and self._same(self._results.get(name), expression):
                self._again(name)
        ends = {name: e for name, e in self._results.items() if name != "param"}
        for expression in (*ends.values(), self._results["param"]):
            self._line(expression)
        for name in ("param", *ends):
            self._again(name)
        self.items.append(Return(tuple(ends)))

    @staticmethod
    def _same(result: Expression | None, expression: Expression) -> bool:
        return result is expression if _is_new(expression) else result == expression

    def _line(self, expression: Expression) -> None:
        """Tell what a value is, if it has a name and has not been told."""
        symbol = self._named.get(id(expression))
        if symbol is None or id(expression) in self._told:
            return
        self._told.add(id(expression))
        assert isinstance(expression, Operation)
        parts = tuple(self._used(part) for part in expression.arguments)
        self.items.append(Line(symbol, Operation(expression.function, parts, expression.options)))
        if symbol.kind == "after":
            self._returned.add(symbol.name)

    def _again(self, name: str) -> None:
        """Tell that an entry of the state is what has another name already."""
        if name not in self._returned:
            self._returned.add(name)
            symbol, reference = Symbol(name, "after"), self._used(self._results[name])
            self.items.append(Line(symbol, reference))
            if isinstance(reference, Symbol) and name != "param":
                self._also[reference] = symbol

    def _used(self, expression: Expression) -> Expression:
        """An expression with names for the values that have some, each of which has been told."""
        if isinstance(expression, Operation):
            if id(expression) not in self._named:
                parts = tuple(self._used(part) for part in expression.arguments)
                return Operation(expression.function, parts, expression.options)
            self._line(expression)
        found = self._reference(expression)
        return self._also.get(found, found) if isinstance(found, Symbol) else found

    def _reference(self, expression: Expression) -> Expression:
        if not isinstance(expression, Operation):
            return expression
        if id(expression) in self._named:
            return self._named[id(expression)]
        parts = tuple(self._reference(part) for part in expression.arguments)
        return Operation(expression.function, parts, expression.options)


def _is_new(expression: Expression) -> bool:
    return isinstance(expression, Operation)
