"""The state of an optimizer, between torch's form and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arrayopt import algorithms
from arrayopt.algorithms import lbfgs
from arrayopt.interop.arrays import map_arrays, need, to_numpy, to_tensor
from arrayopt.interop.recognition import EXECUTION, options_of
from arrayopt.namespace import Array, is_array
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.state import slots_under, state_number

__all__ = ["from_torch", "to_torch"]

Entry = dict[str, Any]

#: What LBFGS keeps beside its vectors (``al`` is torch's scratch): Python numbers here, of which
#: some are 0-d tensors in torch.
_NUMBERS_OF_LBFGS = frozenset({*lbfgs.NUMBERS, *lbfgs.COUNTS})
_LISTS_OF_LBFGS = frozenset({"ro", "al"})
_TENSORS_OF_LBFGS = frozenset({"H_diag", *_LISTS_OF_LBFGS})


def from_torch(state_dict: Mapping[str, Any], cls: type[Optimizer] | None) -> dict[str, Any]:
    """Our ``state_dict`` of torch's, of an algorithm that is `cls` here.

    Raises
    ------
    ValueError
        If an option is on that is not known here.
    TypeError
        If an entry of the state that is a number is something else.
    """
    groups = [map_arrays(to_numpy, group) for group in state_dict["param_groups"]]
    if cls is not None:
        ours, theirs = options_of(cls), _torchs_options(cls)
        for group in groups:
            for option in theirs - ours.keys():
                if group.get(option):
                    raise ValueError(
                        f"{cls.__name__}: the option {option}={group[option]!r} of torch is not "
                        f"known here; its options are {sorted(ours)}"
                    )
            for option in ours.keys() - group.keys() - EXECUTION:
                group[option] = ours[option]  # as it was before the option was there
    state = {
        key: _entry_from_torch(entry, cls, f"parameter {key}")
        for key, entry in state_dict["state"].items()
    }
    return {"state": state, "param_groups": groups}


def _numbers(cls: type[Optimizer] | None) -> set[str]:
    """The entries of the state that are Python numbers here and 0-d tensors in torch."""
    return {"step"} if cls is None else {slot.name for slot in cls.state_table if slot.scalar}


def _entry_from_torch(entry: Any, cls: type[Optimizer] | None, label: str) -> Any:
    """The state of a parameter, as we keep it."""
    if not isinstance(entry, Mapping):
        return map_arrays(to_numpy, entry)
    numbers = _NUMBERS_OF_LBFGS if "func_evals" in entry else _numbers(cls)
    own: Entry = {}
    for name, value in entry.items():
        if name in numbers:
            own[name] = state_number(value, name, label)
        elif name in _LISTS_OF_LBFGS:
            own[name] = [python_number(number) for number in value]
        else:
            own[name] = map_arrays(to_numpy, value)
    return own


def to_torch(
    state_dict: Mapping[str, Any], cls: type[Optimizer] | None, params: Mapping[int, Array]
) -> dict[str, Any]:
    """Our ``state_dict``, of the algorithm `cls`, as torch's.

    Parameters
    ----------
    params : mapping of int to array
        The parameters by their numbers, as far as they are known.

    Raises
    ------
    ValueError
        If torch has no such option, or needs state that is not there.
    """
    groups = [map_arrays(to_tensor, group) for group in state_dict["param_groups"]]
    state = {key: map_arrays(to_tensor, entry) for key, entry in state_dict["state"].items()}
    if cls is not None:
        ours, theirs = options_of(cls), _torchs_options(cls)
        for group in groups:
            for option in ours.keys() & group.keys() - theirs:
                value = group.pop(option)
                if value and option not in EXECUTION and option not in cls.fixed_options:
                    raise ValueError(
                        f"the {cls.__name__} of the installed torch has no {option}, which is "
                        f"{value!r} here"
                    )
            for number in group["params"]:
                _complete(state, number, cls, group, params)
    fused = {number for group in groups if group.get("fused") for number in group["params"]}
    for number, entry in state.items():
        if isinstance(entry, dict):
            _give_torchs_form(entry, cls, number in fused)
    return {"state": state, "param_groups": groups}


def _complete(
    state: Entry,
    number: Any,
    cls: type[Optimizer],
    group: Mapping[str, Any],
    params: Mapping[int, Array],
) -> None:
    """Add what torch keeps of a parameter from the beginning, and we when it is needed."""
    entry = state.get(number)
    if not entry and cls is not algorithms.Adagrad:
        return
    slots = slots_under(cls.state_table, group)
    missing = [  # (what depends on the shape of a parameter begins with the rest of its state)
        s
        for s in slots
        if s.initial is not None and s.shape is None and s.name not in (entry or {})
    ]
    if not missing:
        return
    entry = state[number] = dict(entry or {})
    arrays = [to_tensor(params[number])] if number in params else []
    arrays += [value for value in entry.values() if is_array(value)]
    if not arrays:
        raise ValueError(
            f"{cls.__name__}: parameter {number} has no state yet, which torch keeps from the "
            "beginning; pass the optimizer instead of its state_dict"
        )
    torch = need("torch", "to_torch")
    for slot in missing:
        start = python_number(slot.start(group))
        value = complex(start, start) if arrays[0].is_complex() else start
        entry[slot.name] = start if slot.scalar else torch.full_like(arrays[0], value)


def _give_torchs_form(entry: Entry, cls: type[Optimizer] | None, fused: bool) -> None:
    """Turn numbers into tensors where torch does."""
    torch = need("torch", "to_torch")
    if "func_evals" in entry:
        entry.pop("origin", None)
        for name in _TENSORS_OF_LBFGS & entry.keys():
            entry[name] = _tensors(entry[name], entry["d"].dtype)
    elif cls is not algorithms.SparseAdam:
        double = torch.get_default_dtype() == torch.float64
        dtype = torch.float64 if double and not fused else torch.float32
        for name in _numbers(cls) & entry.keys():
            entry[name] = _tensors(float(entry[name]), dtype)


def _tensors(value: Any, dtype: Any) -> Any:
    """Floats as 0-d tensors, in double precision where `dtype` would round."""
    torch = need("torch", "to_torch")
    if isinstance(value, list):
        return [_tensors(number, dtype) for number in value]
    if not isinstance(value, float):
        return value
    tensor = torch.tensor(value, dtype=dtype)
    return tensor if tensor.item() == value else torch.tensor(value, dtype=torch.float64)


def _torchs_options(cls: type[Optimizer]) -> set[str]:
    """The options that the installed torch has for the algorithm."""
    torch = need("torch", "arrayopt.interop")
    return set(getattr(torch.optim, cls.__name__)([torch.zeros(1, 1)]).defaults)
