"""What of each object is saved, and how it is loaded: checked first, and changed afterwards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from arrayopt.checkpoint.codec import Encoder, decode
from arrayopt.checkpoint.container import Container, DamagedCheckpoint
from arrayopt.lr_scheduler import LRScheduler
from arrayopt.namespace import Array, convert, dtype_name, fill, is_array, is_writeable
from arrayopt.optimizer import Optimizer
from arrayopt.parameter import Module, mismatch
from arrayopt.swa_utils import AveragedModel
from arrayopt.swa_utils.trees import Slot, Tree, differences, is_foreign

__all__ = ["PARTS", "Plan", "carry_out", "check_kind", "encode", "original", "plan"]

#: What can be saved, but for what the user adds, in the order in which it is loaded.
PARTS = ("model", "averaged", "optimizer", "scheduler")

#: Whose way of loading is known: it checks before it changes.
_MODELS = {Module.load_state_dict, AveragedModel.load_state_dict}
_OPTIMIZERS = {Optimizer.load_state_dict}
_SCHEDULERS = {LRScheduler.load_state_dict}


# Saving


def encode(part: str, owner: Any, encoder: Encoder) -> dict[str, Any]:
    """What is saved of an object, as JSON.

    Raises
    ------
    TypeError, ValueError
        If it is not an object of the kind, or has a state that is not plain data.
    """
    if part in ("model", "averaged") and not hasattr(owner, "state_dict"):
        state: Any = {name: entry.data for name, entry in _tree(part, owner).items()}
    elif hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict"):
        state = dict(owner.state_dict())
    else:
        raise TypeError(
            f"{part}: expected an object with state_dict and load_state_dict, but got "
            f"{type(owner).__name__}"
        )
    return {"class": _kind(owner), "state": encoder(state, (part,))}


def check_kind(part: str, owner: Any) -> None:
    """Raise a TypeError if an object is plainly another part of a run."""
    is_optimizer, is_model = hasattr(owner, "param_groups"), hasattr(owner, "parameters")
    if (is_optimizer and part != "optimizer") or (is_model and part in ("optimizer", "scheduler")):
        raise TypeError(f"{part}: expected another kind of object, but got {type(owner).__name__}")


def _tree(part: str, owner: Any) -> dict[str, Any]:
    try:
        return Tree(owner).entries
    except (TypeError, ValueError) as error:
        raise type(error)(f"{part}: {error}") from error


def _kind(owner: Any) -> str:
    """The class of an object, and of what it is composed of; torch's are called so."""
    cls = type(owner)
    name = f"torch.{cls.__name__}" if cls.__module__.startswith("torch.") else cls.__name__
    members = getattr(owner, "_schedulers", ())
    return f"{name}({', '.join(map(_kind, members))})" if members else name


# Loading


@dataclass
class Plan:
    """How an object will be loaded, once all of the file is known to be whole.

    Attributes
    ----------
    carry_out : callable
        Loads it.
    undo : callable or None
        Returns what takes the object back to now, if `carry_out` may fail.
    """

    carry_out: Callable[[], None]
    undo: Callable[[], Callable[[], None]] | None = None


def plan(part: str, owner: Any, saved: Mapping[str, Any], container: Container) -> Plan:
    """Check whether an object can be loaded, without changing it.

    Parameters
    ----------
    part : str
        What it is to the run, one of `PARTS`.
    owner : object
        The object.
    saved : mapping
        What `encode` returned.
    container : Container
        Where the arrays are.

    Raises
    ------
    ValueError
        If it cannot be loaded: the checkpoint is of another one.
    DamagedCheckpoint
    """
    try:
        if part in ("model", "averaged"):
            return _plan_model(owner, saved["state"], container)
        if _kind(owner) != saved["class"]:
            saved_kind, kind = saved["class"], _kind(owner)
            moved = saved_kind.startswith("torch.") != kind.startswith("torch.")
            how = "; arrayopt.interop converts the states of one into those of the other"
            raise ValueError(
                f"expected {saved_kind}, as was saved, but got {kind}{how if moved else ''}"
            )
        return _plan_other(owner, saved["state"], container)
    except DamagedCheckpoint:
        raise
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise ValueError(f"{container.path} does not fit the {part} given: {reason}") from error


def original(container: Container) -> Callable[[str, str, str], Array]:
    """A function that reads arrays as those of their libraries, the same one once."""
    read: dict[tuple[str, str, str], Array] = {}

    def fetch(name: str, dtype: str, library: str) -> Array:
        key = name, dtype, library
        if key not in read:
            read[key] = container.stored(*key).original()
        return read[key]

    return fetch


def _plan_model(model: Any, saved: Any, container: Container) -> Plan:
    """A model: its arrays are read into the memory that they have."""
    values: dict[str, Any] = decode(saved, container.stored)
    if isinstance(model, Module):
        entries = dict(model._entries())
        known = type(model).load_state_dict in _MODELS and entries.keys() == {*model.state_dict()}
    elif is_foreign(model):
        entries = dict(model.state_dict())
        known = all(map(is_array, entries.values()))
    elif hasattr(model, "load_state_dict"):
        known = False
    else:
        entries = Tree(model).entries
        known = True
    if not known:
        return _plan_unknown(model, decode(saved, original(container)))
    pairs = {name: (entry, values[name]) for name, entry in entries.items() if name in values}
    problems = differences(entries, values)
    problems += [f"{name}: {why}" for name, pair in pairs.items() if (why := _misfit(*pair))]
    if problems:
        raise ValueError("; ".join(problems))

    def carry_out() -> None:
        for entry, value in pairs.values():
            if is_writeable(entry.data):
                fill(entry.data, value)
            else:
                entry.data = convert(value, entry.data)

    return Plan(carry_out)


def _misfit(entry: Any, value: Any) -> str:
    """Why an array cannot take the place of an entry's; empty if it can."""
    why = mismatch(value, entry.data)
    if not why and dtype_name(value) != dtype_name(entry.data):
        return f"expected dtype {dtype_name(entry.data)}, but got {dtype_name(value)}"
    stuck = not is_writeable(entry.data) and isinstance(entry, Slot)
    if not why and stuck and any(isinstance(owner, tuple) for owner, _ in entry.places):
        return "it cannot be written to, and stands in a tuple; use a list"
    return why


def _plan_other(owner: Any, saved: Any, container: Container) -> Plan:
    """An optimizer or a scheduler, or what behaves like one."""
    load, fetch = type(owner).load_state_dict, original(container)
    if isinstance(owner, Optimizer) and load in _OPTIMIZERS:
        # the arrays of the state, and only these, are large: they are read where they will be
        fetches = {"state": _leave_in_file(container)}
        state = {key: decode(value, fetches.get(key, fetch)) for key, value in saved.items()}
        return Plan(owner.prepare_load(state))
    state = decode(saved, fetch)
    if isinstance(owner, LRScheduler) and load in _SCHEDULERS:
        owner._check_state(state)
        return Plan(partial(owner.load_state_dict, state))
    return _plan_unknown(owner, state)


def _leave_in_file(container: Container) -> Callable[[str, str, str], Any]:
    """A function that leaves arrays in the file, but for those that are numbers."""

    def fetch(*key: str) -> Any:
        stored = container.stored(*key)
        return stored if stored.shape else stored.original()

    return fetch


def _plan_unknown(owner: Any, state: Any) -> Plan:
    """Nobody knows whether it fits before it is tried."""

    def undo() -> Callable[[], None]:
        before = copy.deepcopy(owner.state_dict())
        return partial(owner.load_state_dict, before)

    return Plan(partial(owner.load_state_dict, state), undo=undo)


def carry_out(plans: Iterable[Plan]) -> None:
    """Load all objects, or none: those that may fail come first, and are taken back then."""
    ordered = sorted(plans, key=lambda plan: plan.undo is None)
    with contextlib.ExitStack() as undo:
        for each in ordered:
            if each.undo is not None:
                undo.callback(each.undo())
            each.carry_out()
        undo.pop_all()
