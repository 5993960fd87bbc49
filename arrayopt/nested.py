"""Nested dicts, lists and tuples as plain data: every place that holds a leaf, and trees alike.

A tree has a leaf wherever there is no container. None stands for nothing, as it does in jax. (What
the modules of a model hold, each under one name, is told by :func:`arrayopt.parameter.survey`.)
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["align", "flatten", "rebuild"]


def flatten(tree: Any, name: str) -> list[tuple[str, Any]]:
    """The leaves of a tree, depth first, each with the expression that leads to it.

    Examples
    --------
    >>> flatten({"layers": [{"w": 1.0, "b": None}], "scale": 2.0}, "params")
    [("params['layers'][0]['w']", 1.0), ("params['scale']", 2.0)]
    """
    if tree is None:
        return []
    if not is_container(tree):
        return [(name, tree)]
    return [leaf for key, child in _items(tree) for leaf in flatten(child, name + _step(tree, key))]


def align(other: Any, tree: Any, name: str, tree_name: str) -> list[Any]:
    """What `other` has where `tree` has its leaves; None for all that is below a None.

    Parameters
    ----------
    other : nested containers
        Of the structure of `tree`. Lists and tuples count as alike, and so do mappings.
    name, tree_name : str
        What the two are called in messages.

    Raises
    ------
    TypeError
        If there is a container on one side, and none, or one of another kind, on the other.
    ValueError
        If keys or lengths differ.

    Examples
    --------
    >>> align({"a": None, "b": 3}, {"b": 1.0, "a": [1.0, 2.0]}, "grads", "params")
    [3, None, None]
    """
    if tree is None:
        if other is not None:
            raise TypeError(f"{name}: expected None, as {tree_name} is, but got {_kind(other)}")
        return []
    if other is None:
        return [None] * len(flatten(tree, ""))
    if not is_container(tree):
        if is_container(other):
            raise TypeError(
                f"{name}: expected no container, as {tree_name} is none, but got {_kind(other)}"
            )
        return [other]
    if not is_container(other) or isinstance(other, Mapping) != isinstance(tree, Mapping):
        raise TypeError(
            f"{name}: expected a {_kind(tree)}, as {tree_name} is, but got a {_kind(other)}"
        )
    ours, theirs = dict(_items(tree)), dict(_items(other))
    if ours.keys() != theirs.keys():
        raise ValueError(f"{name}: {_difference(ours, theirs, tree_name, tree)}")
    return [
        leaf
        for key, child in ours.items()
        for leaf in align(theirs[key], child, name + _step(tree, key), tree_name + _step(tree, key))
    ]


def rebuild(tree: Any, leaves: Iterable[Any]) -> Any:
    """A tree like `tree`, of containers of the same types, with other leaves.

    Examples
    --------
    >>> rebuild({"a": [1, (2,)], "b": None}, "xy")
    {'a': ['x', ('y',)], 'b': None}
    """
    return _rebuild(tree, iter(leaves))


def _rebuild(tree: Any, leaves: Iterator[Any]) -> Any:
    if tree is None:
        return None
    if not is_container(tree):
        return next(leaves)
    items = {key: _rebuild(child, leaves) for key, child in _items(tree)}
    kind: Any = type(tree)
    if isinstance(tree, dict):
        twin = copy.copy(tree)  # (a defaultdict has more than items)
        twin.update(items)
        return twin
    if isinstance(tree, Mapping):
        return kind(items)
    return kind._make(items.values()) if hasattr(kind, "_make") else kind(items.values())


def is_container(value: Any) -> bool:
    """Whether a value holds leaves and is none."""
    return isinstance(value, (Mapping, list, tuple))


def _items(tree: Any) -> Iterable[tuple[Any, Any]]:
    return tree.items() if isinstance(tree, Mapping) else enumerate(tree)


def _step(tree: Any, key: Any) -> str:
    """How Python leads from a container to what it holds."""
    fields = getattr(tree, "_fields", None)
    return f"[{key!r}]" if fields is None or isinstance(tree, Mapping) else f".{fields[key]}"


def _difference(ours: Any, theirs: Any, tree_name: str, tree: Any) -> str:
    if isinstance(tree, Mapping):
        return (
            f"expected the keys {list(ours)}, as {tree_name} has, but got {list(theirs)} (None "
            "stands for what is to be passed over)"
        )
    return f"expected {len(ours)} entries, as {tree_name} has, but got {len(theirs)}"


def _kind(value: Any) -> str:
    return type(value).__name__
