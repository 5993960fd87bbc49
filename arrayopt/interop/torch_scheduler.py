"""The state of a scheduler, between torch's form and ours."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from arrayopt.lr_scheduler import rates
from arrayopt.namespace import is_array
from arrayopt.options import python_number

__all__ = ["from_torch", "is_ours", "present", "to_torch"]

State = dict[str, Any]

#: What torch saves of a scheduler that is no composed one, whatever it does.
_TORCHS_OWN = {"_is_initial": False, "_get_lr_called_within_step": False}

#: What we save of a scheduler, whichever it is, and torch does not.
_OURS = frozenset({"changed_groups", "lr", "momentum", "optimizer_steps"})

#: What we save beside of a scheduler that has a certain entry, and torch does not.
_OURS_OF = {
    "_schedule_phases": {
        "max_lrs",
        "base_momentums",
        "max_momentums",
        "div_factor",
        "final_div_factor",
    },
    "anneal_epochs": {"last_lrs"},
    "num_bad_epochs": {"base_lrs"},
    "_schedulers": {"_step_count"},
}

#: What belongs to the user, and is copied as it is.
_USERS = frozenset({"lr_lambdas", "_scale_fn_custom"})


def is_ours(state: Mapping[str, Any]) -> bool:
    """Whether it is the ``state_dict`` of a scheduler of ours, and not of one of torch's."""
    return "optimizer_steps" in state


def from_torch(state: Mapping[str, Any]) -> State:
    """Our ``state_dict`` of torch's of a scheduler."""
    own = {
        key: copy.deepcopy(value) if key in _USERS else _numbers(value)
        for key, value in state.items()
        if key not in {*_TORCHS_OWN, "verbose", "_schedulers", "anneal_func"}
    }
    if "last_epoch" in own:  # negative, where the turn of a member has not yet come
        own["last_epoch"] = max(own["last_epoch"], 0)
    if "num_bad_epochs" in own:
        own.setdefault("default_min_lr", None)
    if "anneal_epochs" in own:  # it goes by how often it was stepped
        own["last_epoch"] = own["_step_count"] - 1
    if "anneal_func" in state:  # of a SWALR before the name was saved
        linear = "linear" in state["anneal_func"].__name__
        own["_anneal_strategy"] = "linear" if linear else "cos"
    if "_schedulers" in state:
        members = own["_schedulers"] = [from_torch(member) for member in state["_schedulers"]]
        own.setdefault("last_epoch", max(member["last_epoch"] for member in members))
        own["_step_count"] = own["last_epoch"] + 1
        for member in members:
            member["_step_count"] = 1  # nobody has stepped it by itself
    return own


def present(optimizer: Any, state: Mapping[str, Any]) -> State:
    """The rates of an optimizer, and its momenta if the scheduler moves them, as we save them."""
    groups = optimizer.param_groups
    own: State = {"lr": rates.read_all(groups)}
    if _cycles(state):
        own["momentum"] = [rates.read_momentum(group) for group in groups]
    return own


def _cycles(state: Mapping[str, Any]) -> bool:
    return bool(state.get("cycle_momentum")) or any(map(_cycles, state.get("_schedulers", ())))


def to_torch(state: Mapping[str, Any]) -> State:
    """Our ``state_dict`` of a scheduler as torch's.

    Raises
    ------
    ValueError
        If it is composed of what torch cannot compose.
    """
    left_out = _OURS.union(*(names for key, names in _OURS_OF.items() if key in state))
    theirs = {
        key: copy.deepcopy(value)
        for key, value in state.items()
        if key not in left_out and key != "_schedulers"
    }
    if "num_bad_epochs" in state:
        return theirs
    if "_schedulers" not in state:
        if "T_cur" not in state and "last_epoch" in state:  # warm restarts do not count
            theirs["_step_count"] = state["last_epoch"] + 1
        return theirs | _TORCHS_OWN
    if any("num_bad_epochs" in member for member in state["_schedulers"]):
        raise ValueError("a ReduceLROnPlateau cannot be a member of another scheduler in torch")
    theirs["_schedulers"] = [to_torch(member) for member in state["_schedulers"]]
    if "_milestones" not in state:
        theirs.pop("last_epoch", None)
    for milestone, member in zip(state.get("_milestones", ()), theirs["_schedulers"][1:]):
        if milestone <= state["last_epoch"]:
            continue
        if "_schedulers" in member:
            raise ValueError(
                f"a composed scheduler cannot begin at a milestone ({milestone}) in torch"
            )
        member["last_epoch"] -= 1  # where torch keeps those whose turn is to come
    return theirs


def _numbers(value: Any) -> Any:
    """A copy of `value` in which 0-d arrays are numbers."""
    if is_array(value):
        return python_number(value)
    if type(value) in (list, tuple):
        return type(value)(map(_numbers, value))
    return copy.deepcopy(value)
