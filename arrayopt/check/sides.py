"""Those who are compared: arrayopt, torch, and whatever somebody else wrote, each at work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.parameter import Parameter
from arrayopt.tensors import as_array, as_tensor

__all__ = ["ClassSide", "Evaluate", "FunctionSide", "OurSide", "Side", "TorchSide"]

Arrays = list[NDArray[Any]]

#: The loss and the gradients at some weights.
Evaluate = Callable[[Arrays], tuple[float, list[Any]]]

#: Counted by all, but not in the same way.
COUNTERS = frozenset({"step", "func_evals", "n_iter"})


class Side(ABC):
    """An optimizer with parameters of its own.

    Parameters
    ----------
    make : callable
        The class or the function that is compared.
    starts : sequence of array
        The parameters before the first step; they are copied.
    options : mapping
        Hyperparameters.
    evaluates : bool
        Whether its step evaluates the loss by itself, several times.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        starts: Sequence[NDArray[Any]],
        options: Mapping[str, Any],
        evaluates: bool = False,
    ) -> None:
        self.make = make
        self.evaluates = evaluates
        self.options = dict(options)
        self.arrays: Arrays = [start.copy() for start in starts]
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Build what takes the steps."""

    @abstractmethod
    def step(self, evaluate: Evaluate) -> None:
        """Take one step."""

    @abstractmethod
    def states(self) -> list[Mapping[str, Any]]:
        """What is remembered of each parameter."""

    def values(self) -> dict[str, NDArray[Any]]:
        """Parameters, and each entry of the state, as one vector each.

        Entries that are no numbers, or not one for an element, a row, a column or a parameter, are
        left out; so are all, if a parameter has none.
        """
        states = self.states()
        found = {"param": _flat(self.arrays)}
        if not all(states):
            return found
        for name in dict.fromkeys(name for state in states for name in state):
            there = [(s[name], array) for s, array in zip(states, self.arrays) if name in s]
            numbers = [_number(value) for value, _ in there]
            if name not in COUNTERS and all(
                number is not None and _belongs(number, array)
                for number, (_, array) in zip(numbers, there)
            ):
                found[name] = _flat([number for number in numbers if number is not None])
        return found


class OurSide(Side):
    """An optimizer of arrayopt, on arrays of NumPy."""

    def begin(self) -> None:
        self.params = [Parameter(array) for array in self.arrays]
        self.optimizer = self.make(self.params, **self.options)

    def step(self, evaluate: Evaluate) -> None:
        if self.evaluates:
            self.optimizer.step(lambda: evaluate(self.arrays))
            return
        _, grads = evaluate(self.arrays)
        for param, grad in zip(self.params, grads):
            param.grad = grad
        self.optimizer.step()

    def states(self) -> list[Mapping[str, Any]]:
        return [self.optimizer.state.get(param, {}) for param in self.params]


class TorchSide(Side):
    """An optimizer of torch, on its tensors, of which `arrays` are views."""

    def begin(self) -> None:
        self.tensors = [as_tensor(array).requires_grad_() for array in self.arrays]
        self.optimizer = self.make(self.tensors, **self.options)

    def step(self, evaluate: Evaluate) -> None:
        def closure() -> float:
            loss, grads = evaluate(self.arrays)
            for tensor, grad in zip(self.tensors, grads):
                tensor.grad = as_tensor(grad).to(tensor.dtype)
            return loss

        if self.evaluates:
            self.optimizer.step(closure)
        else:
            closure()
            self.optimizer.step()

    def states(self) -> list[Mapping[str, Any]]:
        return [self.optimizer.state.get(tensor, {}) for tensor in self.tensors]


class ClassSide(OurSide):
    """An optimizer of another class, driven as ours are: built with parameters, it has `step`.

    Its parameters are `arrayopt.Parameter` objects, with ``.data`` and ``.grad``.
    """

    def begin(self) -> None:
        super().begin()
        if not callable(getattr(self.optimizer, "step", None)):
            raise TypeError(f"{type(self.optimizer).__name__} has no method step()")

    def step(self, evaluate: Evaluate) -> None:
        super().step(evaluate)
        # it may have put other arrays in the place of those that it was given
        self.arrays = [_like(p.data, old) for p, old in zip(self.params, self.arrays)]

    def states(self) -> list[Mapping[str, Any]]:
        state = getattr(self.optimizer, "state", {})
        if not isinstance(state, Mapping):
            return []
        own = [state.get(param, {}) for param in self.params]
        return own if all(isinstance(entry, Mapping) for entry in own) else []


class FunctionSide(Side):
    """A function ``update(param, grad, state, **options)``, called for each parameter.

    `state` is a dict that begins empty and is kept from step to step. The function returns the new
    parameter, or None if it has changed `param` in place.
    """

    def begin(self) -> None:
        self.kept: list[dict[str, Any]] = [{} for _ in self.arrays]

    def step(self, evaluate: Evaluate) -> None:
        _, grads = evaluate(self.arrays)
        for index, (array, grad, state) in enumerate(zip(self.arrays, grads, self.kept)):
            updated = self.make(array, grad, state, **self.options)
            if updated is not None:
                self.arrays[index] = _like(updated, array)

    def states(self) -> list[Mapping[str, Any]]:
        return [*self.kept]


def _flat(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All elements as a vector of reals."""
    vector = np.concatenate([array.reshape(-1) for array in arrays])
    return vector.view(vector.real.dtype) if vector.dtype.kind == "c" else vector


def _belongs(entry: NDArray[Any], array: NDArray[Any]) -> bool:
    """Whether an entry of the state has a number for each element, row or column, or for all."""
    spread = entry.ndim == array.ndim and all(
        length in (1, whole) for length, whole in zip(entry.shape, array.shape)
    )
    return spread or entry.size in (1, array.size)


def _number(value: Any) -> NDArray[Any] | None:
    """An entry of the state as an array; None if it holds no numbers."""
    value = as_array(value) if hasattr(value, "detach") else value
    if value is None or isinstance(value, (list, tuple, dict, str)):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "fc" or array.dtype.name == "bfloat16" else None


def _like(updated: Any, array: NDArray[Any]) -> NDArray[Any]:
    """A new parameter in the dtype of the old one."""
    new: NDArray[Any] = np.asarray(updated)
    if new.shape != array.shape:
        raise ValueError(
            f"expected an updated parameter of shape {array.shape}, but got shape {new.shape}"
        )
    return new.astype(array.dtype, copy=False)
