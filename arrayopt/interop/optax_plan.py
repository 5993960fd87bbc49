"""What of an optimizer is to be found in a state of optax, and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arrayopt.interop.arrays import need
from arrayopt.interop.recognition import class_of
from arrayopt.namespace import is_complex
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.state import slots_under

__all__ = ["Plan", "map_parts", "parts_of"]

_ADAM = {"ScaleByAdamState": {"exp_avg": "mu", "exp_avg_sq": "nu"}}

#: For each algorithm: the parts of optax's state, and where in them the entries of ours are.
_PARTS: dict[str, dict[str, dict[str, str]]] = {
    "Adadelta": {"ScaleByAdaDeltaState": {"square_avg": "e_g", "acc_delta": "e_x"}},
    "Adagrad": {"ScaleByRssState": {"sum": "sum_of_squares"}},
    "Adam": _ADAM,
    "AdamW": _ADAM,
    "Adamax": {"ScaleByAdamState": {"exp_avg": "mu", "exp_inf": "nu"}},
    "RAdam": _ADAM,
    "RMSprop": {
        "ScaleByRmsState": {"square_avg": "nu"},
        "ScaleByRStdDevState": {"square_avg": "nu", "grad_avg": "mu"},
        "TraceState": {"momentum_buffer": "trace"},
    },
    "SGD": {"TraceState": {"momentum_buffer": "trace"}},
}

#: Options that optax has in another form, if at all.
_NOT_IN_OPTAX = {
    "Adam": ("amsgrad",),
    "AdamW": ("amsgrad",),
    "Adagrad": ("lr_decay",),
    "SGD": ("dampening",),
}

_SCHEDULE = "ScaleByScheduleState"


class Plan:
    """What of an optimizer has to be found in a state of optax."""

    def __init__(self, optimizer: Any) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"expected an optimizer of arrayopt, but got {type(optimizer).__name__}"
            )
        cls = class_of(optimizer)
        self.name = type(optimizer).__name__ if cls is None else cls.__name__
        if self.name not in _PARTS:
            raise ValueError(
                f"optax has no {self.name} that computes the same; these can be converted: "
                f"{sorted(_PARTS)}"
            )
        self.parts = _PARTS[self.name]
        self.groups: list[dict[str, Any]] = optimizer.state_dict()["param_groups"]
        self.group_of = {n: group for group in self.groups for n in group["params"]}
        self.numbers = list(self.group_of)
        self.params = [p.data for group in optimizer.param_groups for p in group["params"]]
        self.names = [name for group in self.groups for name in group.get("param_names", ())]
        for group in self.groups:
            for option in _NOT_IN_OPTAX.get(self.name, ()):
                if group[option]:
                    raise ValueError(
                        f"optax has no {self.name} with {option} that computes the same, but a "
                        f"group has {option}={group[option]!r}"
                    )
        if self.name != "SGD" and any(map(is_complex, self.params)):
            raise ValueError(
                "complex parameters cannot be converted: optax squares them as complex numbers, "
                "and here they are pairs of reals"
            )
        self.slots = {slot.name: slot for slot in optimizer.state_table}
        #: The arrays that there are under the options.
        self.entries = {
            slot.name
            for group in self.groups
            for slot in slots_under(optimizer.state_table, group)
            if not slot.scalar
        }

    def start(self, entry: str, number: int) -> float:
        """What an entry of the state is before the first step."""
        return float(python_number(self.slots[entry].start(self.group_of[number]) or 0.0))

    def factor(self, part: str, number: int) -> float:
        """How many times as large as ours the arrays of a part are.

        RMSprop of optax multiplies by the rate before it adds up, and we do afterwards.
        """
        if (self.name, part) != ("RMSprop", "TraceState"):
            return 1
        rate = float(python_number(self.group_of[number]["lr"]))
        if rate == 0:
            raise ValueError(
                "RMSprop with momentum: optax keeps the momentum times the learning rate, which "
                "cannot be converted where that is 0"
            )
        return -rate

    def match(self, tree: Any, where: str) -> tuple[list[Any], Sequence[int], Any]:
        """The leaves of a tree, which of them belongs to each parameter, and its structure."""
        jax = need("jax", "arrayopt.interop")
        pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
        leaves = [leaf for _, leaf in pairs]
        if len(leaves) != len(self.params):
            raise ValueError(
                f"{where}: expected {len(self.params)} arrays, one a parameter, but got "
                f"{len(leaves)}"
            )
        paths = [
            [getattr(key, "key", getattr(key, "idx", None)) for key in path] for path, _ in pairs
        ]
        order: Sequence[int] = range(len(leaves))
        if self.names and all(any(isinstance(key, str) for key in path) for path in paths):
            theirs = [".".join(map(str, path)) for path in paths]
            if sorted(theirs) != sorted(self.names) or len({*theirs}) != len(theirs):
                raise ValueError(
                    f"{where}: expected the names {sorted(self.names)}, but got {sorted(theirs)}"
                )
            order = [theirs.index(name) for name in self.names]
        for number, (param, index) in enumerate(zip(self.params, order)):
            if tuple(leaves[index].shape) != tuple(param.shape):
                raise ValueError(
                    f"{where}: expected shape {tuple(param.shape)} for parameter {number}, but got "
                    f"{tuple(leaves[index].shape)}"
                )
        return leaves, order, structure


def map_parts(function: Callable[[Any], Any], opt_state: Any) -> Any:
    """`opt_state` with `function` applied to each of its parts, however they are chained.

    Raises
    ------
    ValueError
        If something is no part of a chain.
    """
    if hasattr(opt_state, "_fields"):
        return function(opt_state)
    if isinstance(opt_state, Mapping):  # a named chain
        parts = {key: map_parts(function, part) for key, part in opt_state.items()}
        return type(opt_state)(parts)  # type: ignore[call-arg]
    if isinstance(opt_state, tuple | list):
        return type(opt_state)(map_parts(function, part) for part in opt_state)
    raise ValueError(f"expected a state of optax, but got {type(opt_state).__name__}")


def parts_of(opt_state: Any, plan: Plan) -> tuple[dict[str, Any], list[int]]:
    """The parts that hold the arrays, by their names, and what is counted.

    Raises
    ------
    ValueError
        If they are not those that the algorithm needs.
    """
    found: dict[str, Any] = {}
    counts: list[int] = []

    def look(part: Any) -> Any:
        name = type(part).__name__
        if name in found or (name not in plan.parts and name != _SCHEDULE and part._fields):
            raise ValueError(
                f"{plan.name}: expected a chain of {sorted(plan.parts)} (each at most once), "
                f"{_SCHEDULE} and parts without a state, but got {name}"
            )
        if "count" in part._fields:
            counts.append(int(part.count))
        if name in plan.parts:
            found[name] = part
        if name == _SCHEDULE and plan.name == "RMSprop" and "momentum_buffer" in plan.entries:
            raise ValueError(
                "RMSprop with momentum: optax keeps the momentum times the learning rate, which "
                "cannot be converted where that is scheduled"
            )
        return part

    map_parts(look, opt_state)
    entries = {entry for name in found for entry in plan.parts[name]}
    if entries != plan.entries:
        raise ValueError(
            f"{plan.name}: expected parts that hold {sorted(plan.entries)}, but the state of optax "
            f"has {sorted(found)}, which hold {sorted(entries)}; are the options the same?"
        )
    return found, counts
