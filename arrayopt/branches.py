"""Rules that branch on numbers which are not known yet, as under ``jax.jit``.

A rule says ``if rho_t <= 5`` of plain numbers. Where an array library traces it, the answer comes
only later; so the rule is run for both answers, and the library chooses between the two results.
`explore` does that for any computation that asks its numbers through `Unknown`:

>>> import torch
>>> def at_most_one(rate):
...     def compute(branches):
...         (numbers,) = branches.follow({"rate": rate})
...         return {"rate": min(numbers["rate"], 1.0)}  # Python asks whether 1.0 < rate
...     return explore(compute)["rate"]
>>> torch.func.vmap(at_most_one)(torch.tensor([0.5, 3.0]))
tensor([0.5000, 1.0000])
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from arrayopt.namespace import Array, array_namespace, conditional, is_array
from arrayopt.scalars import ARITHMETIC, COMPARISONS
from arrayopt.trace import TraceError

__all__ = ["Branches", "Unknown", "Unwrapping", "explore", "is_known"]

#: How many branches a rule may take on unknown numbers, one after another.
DEPTH = 6


class _Undecided(Exception):  # noqa: N818  (no error: it ends a run)
    """A branch depends on what is not known."""

    def __init__(self, condition: Array) -> None:
        self.condition = condition


class Branches:
    """Which way to go at each branch of a run.

    Parameters
    ----------
    taken : tuple of bool
        The answers to the conditions that are not known, in the order in which they are asked.
    """

    def __init__(self, taken: tuple[bool, ...]) -> None:
        self._taken = iter(taken)

    def follow(self, *mappings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Mappings of numbers, and of tuples of them, as a rule can compute with them.

        If one of the numbers is not known, all that are arrays become `Unknown`.
        """
        values = [value for mapping in mappings for value in mapping.values()]
        known = all(map(is_known, values))
        return [
            {name: value if known else self._wrap(value) for name, value in mapping.items()}
            for mapping in mappings
        ]

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._wrap, value))
        return Unknown(value, self) if is_array(value) else value

    def decide(self, condition: Array) -> bool:
        """Whether to go on as if `condition` held."""
        answer = next(self._taken, None)
        if answer is None:
            raise _Undecided(condition)
        return answer


def is_known(value: Any) -> bool:
    """Whether Python can branch on a number, or on all those of a tuple."""
    if isinstance(value, tuple):
        return all(map(is_known, value))
    if not is_array(value):
        return True
    try:
        bool(value != 0)
    except (TypeError, RuntimeError):  # jax's and torch's ways to say that it cannot
        return False
    return True


def explore(
    compute: Callable[[Branches], dict[str, Any]], taken: tuple[bool, ...] = ()
) -> dict[str, Any]:
    """What `compute` returns, whichever way its branches go.

    Parameters
    ----------
    compute : callable
        A pure function of the branches that it takes. Its results, arrays and numbers by name,
        have the same names, shapes and dtypes on every way.
    taken : tuple of bool
        The way so far.

    Raises
    ------
    TraceError
        If there are more than `DEPTH` branches on a way.
    """
    try:
        return settled(compute(Branches(taken)))
    except _Undecided as undecided:
        condition = undecided.condition
    if len(taken) == DEPTH:
        raise TraceError(
            f"a rule branches more than {DEPTH} times on numbers that are not known yet: pass "
            "options that do not change as Python numbers, when the functional form is built"
        )
    return conditional(
        condition,
        lambda: explore(compute, (*taken, True)),
        lambda: explore(compute, (*taken, False)),
    )


def settled(results: dict[str, Any]) -> dict[str, Any]:
    """Results, with the arrays that unknown numbers are."""
    return {name: _raw(value) for name, value in results.items()}


def _raw(value: Any) -> Any:
    return value._value if type(value) is Unknown else value


def _operator(function: Callable[[Any, Any], Any], reflected: bool = False) -> Any:
    """A method that gives a number of a number, and an array of an array."""

    def method(self: Unknown, other: Any) -> Any:
        operands = (self._value, _raw(other))
        value = function(*(operands[::-1] if reflected else operands))
        return value if is_array(other) else Unknown(value, self._branches)

    return method


def _known_only(self: Unknown, *_: Any) -> NoReturn:
    raise TraceError(
        "a rule took a number out of an array that is not known yet (under jax.jit, or vmap): "
        "there, it may use arithmetic, comparisons and `if` on its numbers; write x ** 0.5 for "
        "math.sqrt(x)"
    )


class Unknown:
    """A number that an array library will know later: a 0-d array that Python cannot ask."""

    __slots__ = ("_branches", "_value")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None
    __array_priority__ = 1000

    def __init__(self, value: Array, branches: Branches) -> None:
        self._value = value
        self._branches = branches

    # (arithmetic and comparisons are added below)
    __float__ = __int__ = __index__ = __complex__ = __round__ = __trunc__ = _known_only
    __floor__ = __ceil__ = _known_only

    def __neg__(self) -> Unknown:
        return Unknown(-self._value, self._branches)

    def __pos__(self) -> Unknown:
        return self

    def __abs__(self) -> Unknown:
        return Unknown(abs(self._value), self._branches)

    def __bool__(self) -> bool:
        xp = array_namespace(self._value)
        return self._branches.decide(xp.astype(self._value, xp.bool))


for _name in ARITHMETIC:
    setattr(Unknown, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Unknown, f"__r{_name}__", _operator(getattr(operator, _name), reflected=True))
for _name in COMPARISONS:
    setattr(Unknown, f"__{_name}__", _operator(getattr(operator, _name)))


class Unwrapping:
    """An array namespace whose functions take unknown numbers as well."""

    def __init__(self, xp: Any) -> None:
        self._xp = xp

    def __getattr__(self, name: str) -> Any:
        entry = getattr(self._xp, name)
        if not callable(entry) or isinstance(entry, type):
            return entry

        def function(*args: Any, **options: Any) -> Any:
            return entry(*map(_raw, args), **settled(options))

        return function
