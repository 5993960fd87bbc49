"""Numbers that remember how they were computed.

Beside arrays, a rule computes numbers: step sizes, bias corrections. Run on scalars, which stand
for the hyperparameters and for the state that is plain numbers, it leaves straight-line Python from
those to the constants of its program. A branch on a scalar is taken as its value tells, and written
down as a guard: where it would be taken otherwise, the text returns None.

>>> tape = Tape()
>>> lr, step = tape.number("group['lr']", 0.5), tape.number("state['step']", 3)
>>> rate = lr / step if step > 2 else lr
>>> print(tape.source([rate], {}))
def numbers(group, state):
    n0 = group['lr']
    if type(n0) is not float: return None
    n1 = state['step']
    if type(n1) is not int: return None
    if not (n1 > 2): return None
    n2 = n0 / n1
    return (n2,), {}
<BLANKLINE>
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

__all__ = ["ARITHMETIC", "COMPARISONS", "Opaque", "Scalar", "ScalarGroup", "Tape"]

#: The operators that a rule may use on numbers: what Python calls them, and how it writes them.
ARITHMETIC = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
}  # fmt: skip
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Opaque(Exception):  # noqa: N818  (no error: it ends an attempt)
    """A rule did with its numbers what cannot be written down."""


class Tape:
    """The text under construction."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def new(self, text: str, value: float) -> Scalar:
        """A scalar that is computed as `text` says."""
        name = f"n{self.count}"
        self.count += 1
        self.lines.append(f"{name} = {text}")
        return Scalar(self, name, value)

    def number(self, text: str, value: float) -> Scalar:
        """A scalar that is computed as `text` says, and has to stay of the same type."""
        scalar = self.new(text, value)
        self.guard(f"type({scalar._name}) is not {type(value).__name__}")
        return scalar

    def guard(self, condition: str) -> None:
        """Return None where `condition` holds."""
        self.lines.append(f"if {condition}: return None")

    def text(self, value: Any) -> str | None:
        """How `value` is written; None if it is no number."""
        if type(value) is Scalar:
            if value._tape is not self:
                raise Opaque("a number of an earlier step")
            return value._name
        if type(value) in (int, float):
            text = f"float('{value}')" if value - value != 0 else repr(value)
            return f"({text})" if text.startswith("-") else text  # -2 ** n is -(2 ** n)
        return None

    def source(self, constants: Sequence[Any], scalars: Mapping[str, Any]) -> str:
        """The text of a function that returns `constants`, as floats, and `scalars`."""
        floats = "".join(f"{self._float(value)}, " for value in constants)
        items = ", ".join(
            f"{name!r}: {self.text(value) if _kind(value) is int else self._float(value)}"
            for name, value in scalars.items()
        )
        lines = [*self.lines, f"return ({floats.rstrip(' ')}), {{{items}}}"]
        return "\n    ".join(["def numbers(group, state):", *lines]) + "\n"

    def _float(self, value: Any) -> str:
        text = self.text(value)
        if text is None:
            raise Opaque(f"{type(value).__name__} as a number")
        return text if _kind(value) is float else f"float({text})"


def _kind(value: Any) -> type:
    return type(value._value) if type(value) is Scalar else type(value)


def _binary(
    sign: str, function: Callable[[Any, Any], Any], reflected: bool = False
) -> Callable[[Any, Any], Any]:
    def method(self: Scalar, other: Any) -> Any:
        text = self._tape.text(other)
        if text is None:
            return NotImplemented
        number = other._value if type(other) is Scalar else other
        if reflected:
            line, value = f"{text} {sign} {self._name}", function(number, self._value)
        else:
            line, value = f"{self._name} {sign} {text}", function(self._value, number)
        # (of a power, the type depends on the values)
        return self._tape.number(line, value) if sign == "**" else self._tape.new(line, value)

    return method


def _comparison(sign: str, function: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def method(self: Scalar, other: Any) -> Any:
        text = self._tape.text(other)
        if text is None:
            return NotImplemented
        holds = function(self._value, other._value if type(other) is Scalar else other)
        condition = f"({self._name} {sign} {text})"
        self._tape.guard(f"not {condition}" if holds else condition)
        return holds

    return method


def _opaque(self: Scalar, *_: Any) -> NoReturn:
    raise Opaque("a number is taken out of the tape")


class Scalar:
    """A number of a rule. Arithmetic on it is done, and written down."""

    __slots__ = ("_name", "_tape", "_value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tape: Tape, name: str, value: float) -> None:
        self._tape = tape
        self._name = name
        self._value = value

    # (arithmetic and comparisons are added below)
    # (whoever asks for the number itself, such as math.sqrt, could do anything with it)
    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = _opaque
    __floor__ = __ceil__ = __format__ = __str__ = __repr__ = _opaque
    __class__ = property(_opaque)  # what isinstance asks for

    def __neg__(self) -> Scalar:
        return self._tape.new(f"-{self._name}", -self._value)

    def __pos__(self) -> Scalar:
        return self

    def __abs__(self) -> Scalar:
        return self._tape.new(f"abs({self._name})", abs(self._value))

    def __bool__(self) -> bool:
        self._tape.guard(f"not {self._name}" if self._value else self._name)
        return bool(self._value)


for _name, _sign in ARITHMETIC.items():
    _function = getattr(operator, _name)
    setattr(Scalar, f"__{_name}__", _binary(_sign, _function))
    setattr(Scalar, f"__r{_name}__", _binary(_sign, _function, reflected=True))
for _name, _sign in COMPARISONS.items():
    setattr(Scalar, f"__{_name}__", _comparison(_sign, getattr(operator, _name)))


class ScalarGroup(Mapping[str, Any]):
    """A group whose numbers are scalars; its other options have to stay what they are."""

    def __init__(self, tape: Tape, group: Mapping[str, Any]) -> None:
        self._tape = tape
        self._group = group

    def __getitem__(self, key: str) -> Any:
        return self._read(f"group[{key!r}]", self._group[key])

    def get(self, key: str, default: Any = None) -> Any:
        """The option, or `default`."""
        return self[key] if self.__contains__(key) else default

    def __contains__(self, key: object) -> bool:
        found = key in self._group
        self._tape.guard(f"{key!r} {'not in' if found else 'in'} group")
        return found

    def _read(self, text: str, value: Any) -> Any:
        if type(value) in (int, float):
            return self._tape.number(text, value)
        if type(value) is tuple:
            self._tape.guard(f"type({text}) is not tuple or len({text}) != {len(value)}")
            return tuple(self._read(f"{text}[{i}]", each) for i, each in enumerate(value))
        if value is None or type(value) is bool:
            self._tape.guard(f"{text} is not {value}")
            return value
        if type(value) is str:
            self._tape.guard(f"{text} != {value!r}")
            return value
        raise Opaque(f"{type(value).__name__} as an option")

    def __iter__(self) -> Iterator[str]:
        raise Opaque("a group is gone through")

    def __len__(self) -> int:
        raise Opaque("a group is counted")
