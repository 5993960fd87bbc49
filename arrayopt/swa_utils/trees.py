"""What a model is: a tree of arrays, which can be read by name and written back."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import array_api_compat as compat

from arrayopt.namespace import (
    Array,
    array_namespace,
    compute_dtype,
    detach,
    is_array,
    is_complex,
    is_floating,
    overlaps_itself,
)
from arrayopt.parameter import Module, Parameter, is_part, survey

__all__ = ["Slot", "Tree", "copied", "differences", "is_foreign", "plain_arrays"]


class Slot:
    """An array that stands in a list or dict, or in several. What is set is put there as well.

    Attributes
    ----------
    data : array
        The array.
    places : list of (container, key)
        Where it stands.
    """

    __slots__ = ("data", "places")

    data: Array
    places: list[tuple[Any, Any]]

    def __init__(self, container: Any, key: Any) -> None:
        self.places = [(container, key)]
        object.__setattr__(self, "data", container[key])

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name == "data":  # (a property would be slow to read)
            for container, key in self.places:
                if container[key] is not value:
                    container[key] = value


class Tree:
    """The arrays of a model by name. The ``.data`` of each entry can be read and set.

    Parameters
    ----------
    model : Module, torch.nn.Module, or list, tuple or dict
        Of a list, tuple or dict, nested or not, each entry is an array, a `Parameter`, a `Buffer`
        or a `Module`. Arrays of integers or booleans count as buffers.

    Attributes
    ----------
    parameters, buffers, entries : dict of str to object
        Those to be averaged, the others, and both, one after the other.
    keys : list
        Those of a list or dict of distinct arrays, in the order of `entries`.

    Raises
    ------
    TypeError
        If it is, or holds, something else.
    ValueError
        If two arrays have the same name.
    """

    def __init__(self, model: Any) -> None:
        self.parameters: dict[str, Any]
        self.buffers: dict[str, Any]
        self._below: list[Any] | None = None  # the owners, without the root
        self._contents: list[Any] = []
        if is_foreign(model):
            self.parameters = dict(model.named_parameters())
            self.buffers = dict(model.named_buffers())
        else:
            found = survey(_checked(model), leaf=_Slots())
            self.parameters = {name: entry for name, entry in found.entries if _is_trained(entry)}
            self.buffers = {name: entry for name, entry in found.entries if not _is_trained(entry)}
            if len(self.parameters) + len(self.buffers) != len(found.entries):
                names = [name for name, _ in found.entries]
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"expected arrays of different names, but two are called {twice}")
            self._below = found.owners[1:]
            self._contents = [*map(_contents, found.owners)]
        self.entries = self.parameters | self.buffers
        self.keys = (
            [entry.places[0][1] for entry in self.entries.values()] if plain_arrays(model) else []
        )

    def holds(self, model: Any) -> bool:
        """Whether the model that was read has the same entries at the same places still."""
        if self._below is None:
            return False
        return [*map(_contents, (model, *self._below))] == self._contents

    def refers_to(self, model: Any) -> bool:
        """Whether something below the root refers to it, so that keeping this keeps it."""
        return any(
            value is model
            for owner in self._below or ()
            for value in (vars(owner).values() if isinstance(owner, Module) else _values(owner))
        )

    def arrays(self) -> list[Array]:
        """The arrays as they are now, in the order of `entries`."""
        return [entry.data for entry in self.entries.values()]


def plain_arrays(model: Any) -> dict[Any, Array] | None:
    """The arrays of a list, tuple or mapping by key, if it is one of distinct ones of one type."""
    if isinstance(model, Mapping):
        found = dict(model)
    elif isinstance(model, list | tuple):
        found = dict(enumerate(model))
    else:
        return None
    alike = len({*map(type, found.values())}) == 1 and is_array(next(iter(found.values())))
    return found if alike and len({*map(id, found.values())}) == len(found) else None


class _Slots:
    """Makes a slot for each array, and one for those that are the same."""

    def __init__(self) -> None:
        self.known: dict[int, Slot] = {}

    def __call__(self, container: Any, key: Any, name: str) -> Slot | None:
        array = container[key]
        if not is_array(array):
            raise TypeError(
                f"expected an array as {name!r} of the model, but got {type(array).__name__}"
            )
        slot = Slot(container, key)
        known = self.known.setdefault(id(array), slot)
        if known is slot:
            return slot
        known.places += slot.places
        return None


def _checked(model: Any) -> Any:
    if not isinstance(model, Module | list | tuple | Mapping):
        raise TypeError(
            "expected a Module, or a list or dict of arrays, as the model, but got "
            f"{type(model).__name__}"
        )
    return model


def _is_trained(entry: Any) -> bool:
    """Whether an entry is a parameter."""
    return isinstance(entry, Parameter) or (type(entry) is Slot and is_floating(entry.data))


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container


def _contents(owner: Any) -> Any:
    """What tells whether an owner holds the same objects as before, if these still exist."""
    if isinstance(owner, Module):
        return [(key, id(value)) for key, value in vars(owner).items() if is_part(value)]
    if isinstance(owner, Mapping):
        return [*owner], [*map(id, owner.values())]
    return [*map(id, owner)]


def is_foreign(model: Any) -> bool:
    """Whether a model is a module of another library, such as a ``torch.nn.Module``."""
    return hasattr(model, "named_parameters") and not isinstance(model, Module)


def differences(expected: Collection[str], found: Collection[str]) -> list[str]:
    """How the names of a model differ from those that are expected, as parts of a message."""
    names = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
    }
    return [f"{what}: {', '.join(those)}" for what, those in names.items() if those]


def copied(model: Any, device: Any = None) -> Any:
    """A copy of a model, with lists in place of tuples, and float32 in place of half precision.

    Parameters
    ----------
    model : Module, torch.nn.Module, or list, tuple or dict
        As `Tree` takes it.
    device : device, optional
        Where the arrays of the copy are.
    """
    twin = _with_lists(copy.deepcopy(model), set())
    if device is not None and is_foreign(twin):
        twin, device = twin.to(device), None
    arrays: set[int] = set()
    for entry in Tree(twin).entries.values():
        array = entry.data
        half = is_floating(array) and not is_complex(array) and array.dtype != compute_dtype(array)
        if half or overlaps_itself(array) or id(array) in arrays:  # (a memory of its own)
            dtype = compute_dtype(array) if half else array.dtype
            entry.data = array_namespace(array).astype(detach(array), dtype, copy=True)
            if getattr(array, "requires_grad", False):
                entry.data.requires_grad_()
        if device is not None:
            entry.data = compat.to_device(entry.data, device)
        if isinstance(entry, Parameter):
            entry.grad = None
        arrays.add(id(entry.data))
    return twin


def _with_lists(tree: Any, seen: set[int]) -> Any:
    """A tree of containers, changed in place, that has no tuples."""
    tree = list(tree) if isinstance(tree, tuple) else tree
    if not isinstance(tree, list | Mapping) or id(tree) in seen:
        return tree
    seen.add(id(tree))
    containers: Any = tree
    for key in [*tree] if isinstance(tree, Mapping) else range(len(tree)):
        value = containers[key]
        changed = _with_lists(value, seen)
        if changed is not value:
            containers[key] = changed
    return tree
