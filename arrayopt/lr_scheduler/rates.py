"""Reading and writing the rates and momenta of an optimizer's groups."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from arrayopt.groups import Group
from arrayopt.namespace import array_namespace, beside, detach, device, is_array, is_writeable
from arrayopt.options import python_number

__all__ = [
    "check_optimizer",
    "floats",
    "keep_initial",
    "like",
    "read",
    "read_all",
    "read_momentum",
    "stored",
    "taken",
    "write",
    "write_all",
    "write_momentum",
]

#: How many steps optimizers that keep no ``step_count`` have taken while they were watched.
_counts: WeakKeyDictionary[Any, list[int]] = WeakKeyDictionary()


def check_optimizer(optimizer: Any) -> Any:
    """`optimizer`, if a scheduler can drive it: one of arrayopt's or of torch's.

    Raises
    ------
    TypeError
        If it has no parameter groups.
    """
    if not (hasattr(optimizer, "param_groups") and hasattr(optimizer, "defaults")):
        raise TypeError(
            f"{type(optimizer).__name__} is not an Optimizer: expected one of arrayopt or torch"
        )
    return optimizer


def taken(optimizer: Any) -> int | None:
    """How many steps `optimizer` has taken; None if nobody can know.

    Differences count, not the number itself: a torch optimizer is watched, through its public hook,
    from the first call on.
    """
    if hasattr(optimizer, "step_count"):
        return int(optimizer.step_count)
    if optimizer not in _counts:
        if not hasattr(optimizer, "register_step_post_hook"):
            return None
        count = [0]

        def counting(*_: Any) -> None:
            count[0] += 1

        optimizer.register_step_post_hook(counting)
        _counts[optimizer] = count
    return _counts[optimizer][0]


def read(group: Group, key: str = "lr") -> float:
    """A number of a group as a Python number."""
    return _as_number(group[key])


def _as_number(value: Any) -> float:
    if type(value) is float:
        return value
    return value.item() if hasattr(value, "item") else python_number(value)  # type: ignore[no-any-return]


def floats(groups: list[Group]) -> list[float] | None:
    """The rates of all groups, if they are Python floats, which need no care."""
    values = [group["lr"] for group in groups]
    return values if {*map(type, values)} == {float} else None


def read_all(groups: list[Group]) -> list[float]:
    """The rates of all groups as Python numbers."""
    values = []
    for group in groups:
        rate = group["lr"]
        values.append(rate if type(rate) is float else read(group))
    return values


def write(group: Group, value: float) -> float:
    """Set the rate of a group: in place where it is an array that can be written to.

    Returns what the rate is now, since an array may round.
    """
    rate = group["lr"]
    if not is_array(rate):
        group["lr"] = value
        return value
    if hasattr(rate, "fill_"):  # torch's, in a third of the time that an assignment takes
        detach(rate).fill_(value)
        if rate.itemsize == 8 and rate.is_floating_point():
            return value  # as it is
    elif is_writeable(rate):
        with beside(rate):
            rate[...] = value
    else:
        group["lr"] = like(value, rate)
    return read(group)


def write_all(groups: list[Group], values: list[float]) -> bool:
    """Set the rates of all groups; whether one was rounded."""
    rounded = False
    for group, value in zip(groups, values):
        if type(group["lr"]) is float:
            group["lr"] = value
        elif write(group, value) != value:
            rounded = True
    return rounded


def like(value: float, rate: Any) -> Any:
    """`value` as a number, or as an array of its own like the array `rate`."""
    if not is_array(rate):
        return value
    xp = array_namespace(rate)
    return xp.full(rate.shape, value, dtype=rate.dtype, device=device(rate))


def keep_initial(group: Group) -> None:
    """Write the rate of a group down as its initial one, unless it has one."""
    group.setdefault("initial_lr", like(read(group), group["lr"]))


def stored(group: Group, value: float) -> float:
    """What `value` becomes when it is the rate of a group: rounded, if that is a float32 array."""
    rate = group["lr"]
    if not is_array(rate):
        return value
    return float(python_number(like(value, rate)))


def read_momentum(group: Group) -> float:
    """The momentum, or the first of the betas."""
    return _as_number(group["betas"][0] if "betas" in group else group["momentum"])


def write_momentum(group: Group, value: float) -> None:
    """Set the momentum, or the first of the betas."""
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
