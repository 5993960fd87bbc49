"""Who can be compared, and with whom."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt import algorithms, backend
from arrayopt.check.cases import OPTIONS
from arrayopt.check.measure import dtype_of
from arrayopt.check.sides import ClassSide, FunctionSide, OurSide, Side, TorchSide
from arrayopt.check.streams import Kind
from arrayopt.extras import require
from arrayopt.optimizer import Optimizer

__all__ = ["IMPLEMENTATIONS", "Contestant", "contestant", "implementations", "twin"]

#: The options that choose an implementation.
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


@dataclass(frozen=True)
class Contestant:
    """An optimizer, or a function that updates a parameter.

    Attributes
    ----------
    name : str
        What it is called.
    side : type of Side
        How it is driven.
    make : callable
        The class, or the function.
    kind : {"dense", "whole", "matrix", "sparse", "closure"}
        What it wants.
    extra : dict
        Options that it is always given.
    """

    name: str
    side: type[Side]
    make: Callable[..., Any]
    kind: Kind = "dense"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def algorithm(self) -> str:
        """Its name without that of its library."""
        return self.name.rpartition(".")[2]

    @property
    def library(self) -> str:
        """The library that it belongs to: ``"arrayopt"``, ``"torch"`` or ``""``."""
        if self.side is TorchSide:
            return "torch"
        return "arrayopt" if self.side is OurSide else ""

    def begin(self, starts: Sequence[NDArray[Any]], options: Mapping[str, Any]) -> Side:
        """At work on copies of `starts`."""
        return self.side(self.make, starts, {**options, **self.extra}, self.kind == "closure")

    def lacks(self, options: Mapping[str, Any]) -> str:
        """Which of the options it does not know, as far as can be seen from outside."""
        known = inspect.signature(self.make).parameters
        if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
            return ""
        return ", ".join(name for name in options if name not in known)


def contestant(what: Any) -> Contestant:
    """The contestant that `what` stands for.

    Parameters
    ----------
    what : str, class or callable
        ``"arrayopt.Adam"``, ``"torch.Adam"``, ``"Adam"`` (of arrayopt), an optimizer class of
        arrayopt, of torch or of one's own, or a function ``update(param, grad, state, **options)``.

    Raises
    ------
    ValueError
        If there is no such algorithm.
    TypeError
        If `what` is nothing of all that.
    ImportError
        If torch is needed, and cannot be imported.
    """
    if isinstance(what, str):
        return _named(what)
    if isinstance(what, type):
        return _of_class(what)
    if callable(what):
        name = getattr(what, "__qualname__", type(what).__qualname__)
        return Contestant(name.rpartition(".")[2], FunctionSide, what)
    raise TypeError(
        "expected the name of an algorithm, an optimizer class, or a function "
        f"update(param, grad, state), but got an object of type {type(what).__name__}"
    )


def twin(who: Contestant, library: str) -> Contestant:
    """The algorithm of the same name in ``"torch"`` or ``"arrayopt"``.

    Of one that torch lacks, it is the for-loop of ours.
    """
    if who.algorithm not in OPTIONS:
        raise ValueError(
            f"{library} has no algorithm that is called {who.algorithm!r}; say which it is to be "
            f"compared with: {', '.join(f'{library}.{name}' for name in OPTIONS)}"
        )
    if library == "torch" and _of_torch(who.algorithm) is None:
        there, _ = implementations(_named(f"arrayopt.{who.algorithm}"), "float64")
        return there["for-loop"]
    return _named(f"{library}.{who.algorithm}")


def implementations(who: Contestant, dtype: str) -> tuple[dict[str, Contestant], dict[str, str]]:
    """The ways in which a contestant can run, and why others are not there.

    Parameters
    ----------
    who : Contestant
    dtype : str
        Of the parameters.

    Returns
    -------
    there : dict of str to Contestant
        By the names in `IMPLEMENTATIONS`, of which an optimizer that leaves no choice has the
        for-loop; what is no optimizer of arrayopt is called ``"default"``.
    missing : dict of str to str
        What each other one needs.
    """
    parameters = inspect.signature(who.make).parameters
    if who.side is not OurSide:
        return {"default": who}, {}
    if not {"foreach", "fused"} <= parameters.keys():
        return {"for-loop": who}, {}
    there, missing = {}, {}
    array = np.zeros(1, dtype_of(dtype))
    for name, extra in IMPLEMENTATIONS.items():
        if backend.find(array, name):  # type: ignore[arg-type]
            there[name] = Contestant(who.name, who.side, who.make, who.kind, extra)
        else:
            hints = "".join(f" ({hint})" for hint in backend.hints())
            missing[name] = f"no {name} implementation takes {array.dtype}{hints}"
    return there, missing


@functools.cache
def _named(name: str) -> Contestant:
    library, _, algorithm = name.rpartition(".")
    known = {each.lower(): each for each in OPTIONS}
    if library not in ("", "arrayopt", "torch", "torch.optim") or algorithm.lower() not in known:
        raise ValueError(
            f"there is no algorithm {name!r}; expected one of {', '.join(OPTIONS)}, with "
            "'arrayopt.' or 'torch.' before it, if that is meant"
        )
    algorithm = known[algorithm.lower()]
    if not library.startswith("torch"):
        return _of_class(getattr(algorithms, algorithm))
    cls = _of_torch(algorithm)
    if cls is None:
        raise ValueError(f"torch has no {algorithm}; compare it with arrayopt.{algorithm}")
    loop = {"foreach": False} if "foreach" in inspect.signature(cls).parameters else {}
    return Contestant(f"torch.{algorithm}", TorchSide, cls, _kind(algorithm), loop)


def _of_torch(algorithm: str) -> Any:
    """The class of torch that has this name, or None."""
    torch = require("torch", f"a comparison with torch's {algorithm} needs", "torch")
    return getattr(torch.optim, algorithm, None)


def _of_class(cls: type) -> Contestant:
    torchs = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == "torch"]
    if torchs:
        own = cls is not torchs[0]
        name = cls.__name__ if own else f"torch.{cls.__name__}"
        return Contestant(name, TorchSide, cls, _kind(torchs[0].__name__))
    if issubclass(cls, Optimizer):
        own = cls.__module__.startswith("arrayopt.")
        name = f"arrayopt.{cls.__name__}" if own else cls.__name__
        return Contestant(name, OurSide, cls, _kind_of_ours(cls))
    return Contestant(cls.__name__, ClassSide, cls)


def _kind(algorithm: str) -> Kind:
    """What torch's optimizer of this name wants: what ours wants."""
    ours = getattr(algorithms, algorithm, None)
    return "dense" if ours is None else _kind_of_ours(ours)


def _kind_of_ours(cls: type[Optimizer]) -> Kind:
    if cls.gradients == "sparse":
        return "sparse"
    if cls.matrices:
        return "matrix"
    if cls.has_rule() and not cls.elementwise:
        return "whole"
    return "dense" if cls.has_rule() else "closure"
