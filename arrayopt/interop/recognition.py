"""Which algorithm a state is of, and which options it has here and in torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from arrayopt import algorithms
from arrayopt.interop.arrays import need
from arrayopt.optimizer import Optimizer

__all__ = ["EXECUTION", "class_of", "in_torch", "options_of", "recognize"]

#: Options that tell how a step is computed, and not what.
EXECUTION = frozenset({"foreach", "fused", "capturable", "differentiable"})

#: Options that not every version of torch has for every algorithm.
_NOT_EVERYWHERE = EXECUTION | {"maximize", "decoupled_weight_decay"}

_CLASSES: tuple[type[Optimizer], ...] = tuple(
    getattr(algorithms, name) for name in algorithms.__all__
)


def options_of(cls: type[Optimizer]) -> dict[str, Any]:
    """The options of one of our algorithms, with their defaults."""
    parameters = list(inspect.signature(cls).parameters.values())[1:]
    return {parameter.name: parameter.default for parameter in parameters} | dict(cls.fixed_options)


def class_of(optimizer: Any) -> type[Optimizer] | None:
    """Our class of the algorithm that an optimizer, ours or torch's, runs; None if we have none.

    That of a subclass is the one that it is derived from.
    """
    for base in type(optimizer).__mro__:
        if f"{base.__module__}.".startswith(("arrayopt.algorithms.", "torch.optim.")):
            return next((cls for cls in _CLASSES if cls.__name__ == base.__name__), None)
    return None


def in_torch(cls: type[Optimizer]) -> bool:
    """Whether the installed torch has an algorithm of the same name."""
    return hasattr(need("torch", "arrayopt.interop").optim, cls.__name__)


def recognize(groups: Sequence[Mapping[str, Any]]) -> type[Optimizer] | None:
    """Our class of the algorithm of torch whose options the groups of a ``state_dict`` have.

    The options of Adam and AdamW are the same; Adam stands for both. None if no algorithm's are
    there.
    """
    keys = set(groups[0]) if groups else set()
    known = {cls: options_of(cls).keys() for cls in _CLASSES if in_torch(cls)}
    needed = {cls: options - _NOT_EVERYWHERE for cls, options in known.items()}
    return max(
        (cls for cls in known if needed[cls] <= keys),
        key=lambda cls: (len(needed[cls]), -len((known[cls] ^ keys) - {"fused"})),
        default=None,
    )
