"""Who carries out a step: the executors that can, the fastest first, and why it is this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from arrayopt import backend
from arrayopt.backend import Executor, Implementation
from arrayopt.inputs import Traits
from arrayopt.namespace import Array, device, library
from arrayopt.state import StateSlot, slots_for, slots_under
from arrayopt.trace import TraceError, trace

__all__ = ["SWITCHES", "Choice", "ImplementationReport", "choices", "choose", "reports"]

#: The options that say who carries out a step.
SWITCHES = ("foreach", "fused", "differentiable")


class Choice(NamedTuple):
    """An executor that can do some work, and why it would."""

    executor: Executor
    reason: str


def choices(array: Array, options: Mapping[str, Any], traits: Traits) -> list[Choice]:
    """Who can update parameters like `array` under these options, best first.

    Raises
    ------
    RuntimeError
        If the implementation that `options` ask for is not there.
    """
    foreach, fused, differentiable = map(options.get, SWITCHES)
    asked: Implementation | None = None
    kinds = dict.fromkeys(backend.SPEED, "the fastest available")
    if not traits.elementwise:
        if fused or foreach:
            raise RuntimeError(
                f"{'fused' if fused else 'foreach'}=True: the rule of {traits.name} looks at a "
                "parameter as a whole, so that there is a for-loop only"
            )
        kinds = {"for-loop": "the rule looks at a parameter as a whole"}
    elif differentiable:
        kinds = {"for-loop": "differentiable=True runs the rule itself"}
    elif fused or foreach:
        asked = "fused" if fused else "foreach"
        kinds = {asked: f"{asked}=True"}
    elif foreach is False:
        kinds = {"for-loop": "foreach=False"}
    elif fused is False:
        del kinds["fused"]
    found = _found(array, kinds)
    if found or asked is None:  # (the for-loop takes every array)
        return found
    why = backend.declined(array, asked)
    if not why:
        raise RuntimeError(_not_there(array, asked))
    slower = backend.SPEED[backend.SPEED.index(asked) + 1 :]
    return _found(array, dict.fromkeys(slower, f"{asked}=True, but {why}"))


def _found(array: Array, kinds: Mapping[Implementation, str]) -> list[Choice]:
    """The executors of these kinds that take `array`, each with the reason why it would."""
    found, declined = [], ""
    for kind, why in kinds.items():
        executor = backend.find(array, kind)
        if executor:
            found.append(Choice(executor, f"{why}, since {declined}" if declined else why))
        elif len(kinds) > 1:
            declined = declined or backend.declined(array, kind)
    return found


def _not_there(array: Array, kind: Implementation) -> str:
    """What to say if nothing of the kind that was asked for can update `array`."""
    have = ", ".join(k for k in backend.SPEED if backend.find(array, k)) or "none"
    install = "".join(f" ({hint})" for hint in backend.hints())
    return (
        f"{kind}=True: no installed backend has a {kind} implementation for {library(array)} "
        f"arrays of dtype {array.dtype} on {device(array)} (available: {have}). Leave foreach "
        "and fused at None for the fastest that is available; `python -m arrayopt info` lists "
        f"the backends, and what each missing one needs{install}"
    )


def choose(
    rule: Callable[..., Any],
    traits: Traits,
    state_table: Sequence[StateSlot],
    array: Array,
    options: Mapping[str, Any],
) -> Choice:
    """Who would update `array` in a first step."""
    slots = slots_for(slots_under(state_table, options), array.shape)
    arrays = tuple(s.name for s in slots if not s.scalar and s.initial is not None)
    scalars = {slot.name: slot.start(options) for slot in slots if slot.scalar}
    if "step" in scalars:
        scalars["step"] += 1
    refused = ""
    for executor, reason in choices(array, options, traits):
        if not executor.traces:
            return Choice(executor, refused or reason)
        try:
            executor.check(trace(rule, arrays, scalars, options).structure)
        except TraceError as error:
            refused = f"since the rule cannot be traced or fused: {error}"
        else:
            return Choice(executor, refused or reason)
    raise TraceError(refused)


class ImplementationReport(NamedTuple):
    """Which executor updates some of the parameters, and why; see `Optimizer.implementation`.

    Attributes
    ----------
    group : int or None
        The number of their group, where there are groups.
    implementation, backend : str
        Which of the three it is, and the name of the executor.
    arrays : str
        The library and the dtype.
    parameters : int
        How many there are.
    reason : str
        Why it is this executor.
    """

    group: int | None
    implementation: str
    backend: str
    arrays: str
    parameters: int
    reason: str

    def __str__(self) -> str:
        place = "" if self.group is None else f"group {self.group}: "
        plural = "" if self.parameters == 1 else "s"
        return (
            f"{place}{self.parameters} {self.arrays} parameter{plural}: "
            f"{self.implementation} ({self.backend}), {self.reason}"
        )


def reports(
    rule: Callable[..., Any],
    traits: Traits,
    state_table: Sequence[StateSlot],
    arrays: Iterable[tuple[int | None, Array, Mapping[str, Any]]],
) -> tuple[ImplementationReport, ...]:
    """Who would update arrays, each given with the number and the options of its group."""
    counts: dict[tuple[int | None, str, str, str, str], int] = {}
    for number, array, options in arrays:
        executor, reason = choose(rule, traits, state_table, array, options)
        kind = f"{library(array)} {str(array.dtype).rpartition('.')[2]}"
        key = (number, executor.implementation, executor.name, kind, reason)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        ImplementationReport(*key[:4], parameters=count, reason=key[4])
        for key, count in counts.items()
    )
