"""Reading a saved ``state_dict`` into the groups and the state of an optimizer."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from arrayopt import backend
from arrayopt.groups import Group
from arrayopt.namespace import Array, beside, convert, device, fill, is_array, is_writeable
from arrayopt.state import StateSlot, check_state_array, slots_for, state_number

__all__ = ["read"]


def read(
    groups: Sequence[Group],
    saved_groups: Sequence[Mapping[str, Any]],
    saved_state: Mapping[Any, Any],
    state_table: Sequence[StateSlot],
    read_state: Callable[[Any, Any, str], dict[str, Any] | None],
    label: Callable[[int, int], str],
    by: str | None,
) -> tuple[list[Group], defaultdict[Any, dict[str, Any]]]:
    """The groups and the state that saved ones stand for, with the parameters of `groups`.

    Parameters
    ----------
    groups : sequence of dict
        The groups of the optimizer.
    saved_groups, saved_state
        The two parts of a ``state_dict``.
    state_table : sequence of StateSlot
        The state that the algorithm keeps; an empty one is not checked against.
    read_state : callable
        ``read_state(saved, param, label)`` is the state of a parameter that the table does not
        describe, or None.
    label : callable
        What the parameter of a given group and index is called in messages.
    by : {"order", "name"} or None
        How parameters are matched.

    Returns
    -------
    groups : list of dict
    state : defaultdict

    Raises
    ------
    ValueError, TypeError
        If the saved ones do not fit.
    """
    if not isinstance(saved_state, Mapping):
        raise ValueError(
            f"expected a dict as the loaded 'state', but got {type(saved_state).__name__}"
        )
    if not all(isinstance(group, Mapping) and "params" in group for group in saved_groups):
        raise ValueError("expected the loaded 'param_groups' to be dicts with 'params'")
    if len(saved_groups) != len(groups):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups: expected "
            f"{len(groups)}, but got {len(saved_groups)}"
        )
    if by == "name":
        sources, saved_numbers = _match_names(groups, saved_groups)
    else:
        sources, saved_numbers = _match_order(groups, saved_groups, check_names=by is None)
    new_groups = [
        {"params": group["params"]}
        | ({"param_names": group["param_names"]} if "param_names" in group else {})
        | {
            key: copy.deepcopy(value)
            for key, value in saved_groups[source].items()
            if key != "params" and not (key == "param_names" and by == "name")
        }
        for group, source in zip(groups, sources)
    ]
    state = _read_states(groups, saved_numbers, saved_state, state_table, read_state, label)
    numbers = {number for group in saved_groups for number in group["params"]}
    for key, value in saved_state.items():
        if key not in numbers:
            state[key] = copy.deepcopy(value)
    return new_groups, state


def _read_states(
    groups: Sequence[Group],
    saved_numbers: Sequence[Sequence[Any]],
    saved_state: Mapping[Any, Any],
    state_table: Sequence[StateSlot],
    read_state: Callable[[Any, Any, str], dict[str, Any] | None],
    label: Callable[[int, int], str],
) -> defaultdict[Any, dict[str, Any]]:
    """The state of each parameter, as it was saved under the number at the same place.

    Arrays under one name that are alike are copied together, so that small ones lie side by side.
    """
    state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    scalars = {slot.name for slot in state_table if slot.scalar}
    made_by_rule = {slot.name for slot in state_table if slot.initial is None}
    arrays: dict[tuple[str, str], list[tuple[Any, Array, Any]]] = {}
    for number, group in enumerate(groups):
        for index, param in enumerate(group["params"]):
            saved = saved_state.get(saved_numbers[number][index])
            if saved is None:
                continue
            where = label(number, index)
            own_kind = read_state(saved, param, where)
            if own_kind is not None:
                state[param] = own_kind
                continue
            slots = {slot.name: slot for slot in slots_for(state_table, param.data.shape)}
            if state_table or not isinstance(saved, Mapping):
                _check_entries(saved, slots.values(), where)
            for name, value in saved.items():
                if value is None and name in made_by_rule:
                    continue  # as torch saved a momentum that had not begun
                if name in scalars:
                    state[param][name] = state_number(value, name, where)
                elif state_table or _is_like(value, param.data):
                    model = slots[name].model(param.data) if name in slots else param.data
                    check_state_array(value, model, name, where)
                    kind = f"{type(model)} {model.dtype} {device(model)}"
                    arrays.setdefault((name, kind), []).append((param, model, value))
                    state[param][name] = None  # keeps the order of the entries
                else:
                    state[param][name] = copy.deepcopy(value)
    for (name, _), entries in arrays.items():
        targets = [data for _, data, _ in entries]
        copies = _copies(targets, [value for _, _, value in entries])
        for (param, _, _), own in zip(entries, copies):
            state[param][name] = own
    return state


def _match_order(
    groups: Sequence[Group], saved_groups: Sequence[Mapping[str, Any]], check_names: bool
) -> tuple[Sequence[int], list[list[Any]]]:
    """From which saved group each group comes, and the numbers of its parameters there."""
    for number, (group, saved) in enumerate(zip(groups, saved_groups)):
        if len(group["params"]) != len(saved["params"]):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of "
                f"optimizer's group: group {number} has {len(group['params'])} parameters, the "
                f"loaded one {len(saved['params'])}"
            )
        names, saved_names = group.get("param_names"), saved.get("param_names")
        if check_names and names and saved_names and list(names) != list(saved_names):
            raise ValueError(
                f"group {number} holds the parameters {list(names)}, but the loaded one holds "
                f"{list(saved_names)}; match them with by='name', or load them in this order with "
                "by='order'"
            )
    return range(len(groups)), [list(saved["params"]) for saved in saved_groups]


def _match_names(
    groups: Sequence[Group], saved_groups: Sequence[Mapping[str, Any]]
) -> tuple[Sequence[int], list[list[Any]]]:
    """The same, matched by the names of parameters."""
    for side, those in (("the optimizer's", groups), ("the loaded", saved_groups)):
        if not all("param_names" in group for group in those):
            raise ValueError(f"by='name' needs names, but {side} parameters have none")
        names = [name for group in those for name in group["param_names"]]
        if len(set(names)) != len(names):
            raise ValueError(f"by='name' needs unique names, but {side} are {names}")
    found = {
        name: (source, number)
        for source, saved in enumerate(saved_groups)
        for name, number in zip(saved["param_names"], saved["params"], strict=True)
    }
    wanted = {name for group in groups for name in group["param_names"]}
    if wanted != set(found):
        raise ValueError(
            f"the names differ: only the optimizer has {sorted(wanted - set(found))}, only the "
            f"loaded state dict has {sorted(set(found) - wanted)}"
        )
    sources = []
    for number, group in enumerate(groups):
        origins = {found[name][0] for name in group["param_names"]} or {number}
        if len(origins) > 1:
            raise ValueError(
                f"the parameters of group {number} come from the loaded groups {sorted(origins)}, "
                "whose options cannot both be taken over"
            )
        sources.append(origins.pop())
    return sources, [[found[name][1] for name in group["param_names"]] for group in groups]


def _check_entries(saved: Any, slots: Collection[StateSlot], where: str) -> None:
    """Raise if the state of a parameter is not of the kind that the algorithm keeps."""
    required = {slot.name for slot in slots if slot.when is None and slot.initial is not None}
    known = {slot.name for slot in slots}
    if not isinstance(saved, Mapping) or required - set(saved) or set(saved) - known:
        got = sorted(saved) if isinstance(saved, Mapping) else type(saved).__name__
        raise ValueError(
            f"{where}: expected the state {sorted(required)}"
            + (f", and perhaps {sorted(known - required)}" if known - required else "")
            + f", but got {got}; was it saved by another optimizer?"
        )


def _is_like(value: Any, array: Array) -> bool:
    return is_array(value) and tuple(value.shape) == tuple(array.shape) != ()


def _copies(targets: Sequence[Array], values: Sequence[Array]) -> list[Array]:
    """New arrays with the elements of `values`, like `targets` in all else."""
    if not all(map(is_writeable, targets)):
        return [convert(value, target) for target, value in zip(targets, values)]
    executor = backend.find(targets[0])
    assert executor is not None
    with beside(targets[0]):
        copies = executor.allocate(targets, None)
    for own, value in zip(copies, values):
        fill(own, value)
    return copies
