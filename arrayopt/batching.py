"""From groups of parameters to batches, which are prepared, carried out, and done again.

A step first builds all its work and only then does it, so that a bad input changes nothing. Work
is kept from step to step and done again while nothing but numbers has changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_, itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from arrayopt.backend import Batch, Executor
from arrayopt.choosing import SWITCHES, Choice, choices
from arrayopt.inputs import Traits, check_array, check_kind, data_of, is_trained, read_grad
from arrayopt.namespace import Array, beside, detach, device, has_place, is_writeable, library
from arrayopt.parameter import Parameter
from arrayopt.scaling import Scaling, carry_out
from arrayopt.sparse_grad import SparseGrad, put_rows, take_rows
from arrayopt.state import StateSlot, check_begun, read_entry
from arrayopt.trace import Program, TraceError
from arrayopt.witness import Witness, witness

__all__ = ["Agenda", "Reading", "RowWork", "Work", "build"]


@dataclass(slots=True)
class Work:
    """A batch, who may run it, and what tells whether it can be done again.

    Attributes
    ----------
    indices : list of int
        Which parameters of their group the batch holds.
    slots : tuple of StateSlot
        The state that there has to be.
    states : list
        The entries of the optimizer's state for the parameters.
    fresh : bool
        Whether it has not been done yet, so that state may be missing.
    witness : Witness, optional
        What tells whether the arrays are the same again.
    known : int
        How many entries of the state there were before the step.
    has_place : bool
        Whether it has to be done with the device of the arrays as the current one.
    """

    batch: Batch
    indices: list[int]
    choices: Sequence[Choice]
    slots: tuple[StateSlot, ...]
    states: list[Any]
    executor: Executor | None = None
    program: Program | None = None
    fresh: bool = True
    witness: Witness | None = None
    known: int = 0
    has_place: bool = field(init=False)

    def __post_init__(self) -> None:
        self.has_place = has_place(self.batch.arrays[0])

    def renew(
        self, params: list[Any], grads: list[Any], state: Mapping[Any, dict[str, Any]]
    ) -> bool:
        """Take up new gradients, if they and all else are as sound as in the last step.

        This stands in for the checks of `build`, and is written for speed. It must reject whatever
        `build` would treat otherwise or raise on.
        """
        batch, states, witness = self.batch, self.states, self.witness
        if not (
            witness is not None
            and all(map(is_, params, batch.params))
            and all([param.requires_grad for param in params if isinstance(param, Parameter)])
            and witness.holds([param.data for param in params], grads)
            and (not self.slots or all(map(is_, map(state.get, params), states)))
        ):
            return False
        try:
            for name, kept in batch.states.items():
                if not all(map(is_, map(itemgetter(name), states), kept)):
                    return False
            for name, value in batch.scalars.items():
                if {*map(itemgetter(name), states)} != {value}:
                    return False
        except (KeyError, TypeError):  # somebody took an entry away, or put in what is no number
            return False
        batch.grads = witness.plain(grads)
        return True

    def prepare(self) -> None:
        """Do all that can fail: allocate state, trace the rule, settle on an executor."""
        if self.has_place:
            with beside(self.batch.arrays[0]):
                self._prepare()
        else:
            self._prepare()

    def _prepare(self) -> None:
        batch = self.batch
        self.known = len(batch.states)
        if "step" in batch.scalars:
            batch.scalars["step"] += 1
        for number, (executor, _) in enumerate(self.choices, 1):
            if self.fresh:
                for slot in self.slots:
                    if not slot.scalar and slot.name not in batch.states:
                        initial = slot.start(batch.group)
                        if initial is not None:
                            models = [slot.model(array) for array in batch.arrays]
                            batch.states[slot.name] = executor.allocate(models, initial)
            try:
                self.program = executor.prepare(batch)
            except TraceError:
                if number == len(self.choices):
                    raise
            else:
                self.executor = executor
                return

    def run(self, state: MutableMapping[Any, dict[str, Any]]) -> None:
        """Update the parameters, and `state` with them."""
        assert self.executor is not None
        batch = self.batch
        if self.has_place:
            with beside(batch.arrays[0]):
                self.update(self.executor)
        else:
            self.update(self.executor)
        changed = self.fresh or batch.rebind or len(batch.states) != self.known
        if changed and (batch.states or batch.scalars):  # (a rule without state leaves no entries)
            self.states = [state.setdefault(param, {}) for param in batch.params]
        for name, value in batch.scalars.items():
            for entry in self.states:
                entry[name] = value
        if changed:
            for name, arrays in batch.states.items():
                for entry, array in zip(self.states, arrays):
                    entry[name] = array
            lasting = not batch.rebind and type(self) is Work
            self.witness = witness(batch.arrays, batch.grads, batch.states) if lasting else None
        batch.grads = []  # they are the caller's, who may want their memory back
        batch.guard = None
        self.fresh = False

    def update(self, executor: Executor) -> None:
        """Carry out the program on the arrays of the batch."""
        if self.batch.guard is None:
            executor.run(self.batch, self.program)
        else:
            carry_out(executor, self.batch, self.program)


@dataclass(slots=True)
class RowWork(Work):
    """One parameter with a sparse gradient: the program runs on the entries that it touches.

    They are gathered from the parameter and its state, updated like a parameter of their own,
    and scattered back.
    """

    def update(self, executor: Executor) -> None:
        """Carry out the program on the entries that the gradient touches."""
        batch = self.batch
        (array,), (grad,) = batch.arrays, batch.grads
        rows = take_rows(array, grad.index, grad.nnz)
        states = {
            name: [take_rows(entry, grad.index, grad.nnz)]
            for name, (entry,) in batch.states.items()
        }
        touched = replace(
            batch, params=[Parameter(rows)], arrays=[rows], grads=[grad.values], states=states
        )
        carry_out(executor, touched, self.program)
        array = put_rows(array, grad.index, touched.arrays[0])
        for name, (entry,) in batch.states.items():
            batch.states[name] = [put_rows(entry, grad.index, touched.states[name][0])]
        if batch.rebind:
            batch.params[0].data = array


class Reading(NamedTuple):
    """What a group says: its hyperparameters as Python numbers, and the state that they ask for."""

    options: Mapping[str, Any]
    slots: tuple[StateSlot, ...]

    def scaled(self, scaling: Scaling) -> Reading:
        """The same, with what gradients are to be divided by, if the host knows of any."""
        if scaling.divisor is None:
            return self
        options = {**self.options, "grad_scale": scaling.divisor}
        return self._replace(options=MappingProxyType(options))


class Agenda:
    """All the work on a group, and what had been read of the group when it was planned."""

    def __init__(self, works: list[Work], passed_over: list[int], reading: Reading) -> None:
        self.works = works
        self.passed_over = passed_over
        self.reading = reading
        self.whole = len(works) == 1 and not passed_over
        self.count = len(passed_over) + sum(len(work.indices) for work in works)

    @functools.cached_property
    def lasting(self) -> bool:
        """Whether it is worth keeping once it has been done: whether all can be the same again."""
        return all([work.witness is not None for work in self.works])

    def adopt(self, reading: Reading) -> bool:
        """Go on with other numbers, if the work is the same under these options."""
        if reading is self.reading:
            return True
        if reading.slots != self.reading.slots or any(
            reading.options.get(switch) != self.reading.options.get(switch) for switch in SWITCHES
        ):
            return False
        self.reading = reading
        for work in self.works:
            work.batch.group = reading.options
        return True

    def renew(
        self, params: list[Any], grads: list[Any], state: Mapping[Any, dict[str, Any]]
    ) -> bool:
        """Take up new gradients, if nothing else has changed since the last step."""
        if len(params) != self.count:
            return False
        if self.whole:
            return self.works[0].renew(params, grads, state)
        return not any([is_trained(params[i], grads[i]) for i in self.passed_over]) and all(
            work.renew([params[i] for i in work.indices], [grads[i] for i in work.indices], state)
            for work in self.works
        )


def build(
    rule: Callable[..., Any],
    traits: Traits,
    params: Sequence[Any],
    grads: Sequence[Any],
    labels: Callable[[int], str],
    state: Mapping[Any, dict[str, Any]],
    reading: Reading,
    moves_all: bool,
) -> Agenda:
    """Check the parameters and gradients of a group, and sort them into batches.

    Parameters
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    traits : Traits
        Which parameters and gradients are allowed.
    params, grads : sequence
        The parameters of the group; a gradient may be None.
    labels : callable
        What the parameter of a given index is called in messages.
    state : mapping
        The state of each parameter.
    reading : Reading
        The hyperparameters of the group, and the state that there should be.
    moves_all : bool
        Whether a sparse gradient has to be made dense.

    Returns
    -------
    Agenda
    """
    options, slots = reading
    differentiable = bool(options.get("differentiable"))
    members: dict[Any, list[_Member]] = {}
    for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
        if not is_trained(param, grad):
            continue
        label = labels(index)
        array = data_of(param, label, differentiable)
        check_array(array, traits, label)
        check_kind(grad, traits, options, label)
        grad = read_grad(grad, array, label, densify=moves_all)
        entry = state.get(param)
        own, present, scalars = read_entry(entry or {}, array, slots, options, label)
        alone = None
        if isinstance(grad, SparseGrad):
            check_begun(own, present, label)
            alone = index
        served = tuple(choices(array, options, traits))
        place = library(array), array.dtype, str(device(array))
        key = (*place, alone, own, served, present, scalars)
        members.setdefault(key, []).append(_Member(index, param, array, grad, entry))
    works = [
        _work(rule, own, options, served, present, scalars, alike)
        for (*_, own, served, present, scalars), alike in members.items()
    ]
    trained = {index for work in works for index in work.indices}
    passed_over = [index for index in range(len(params)) if index not in trained]
    return Agenda(works, passed_over, reading)


class _Member(NamedTuple):
    """A parameter that has been checked: its place in the group, and what a step needs of it."""

    place: int
    param: Any
    array: Array
    grad: Any
    entry: dict[str, Any] | None


def _work(
    rule: Callable[..., Any],
    slots: tuple[StateSlot, ...],
    options: Mapping[str, Any],
    served: tuple[Choice, ...],
    present: tuple[str, ...],
    scalars: tuple[Any, ...],
    members: Sequence[_Member],
) -> Work:
    """The work on parameters that are alike."""
    indices, params, arrays, grads, states = map(list, zip(*members))
    differentiable = bool(options.get("differentiable"))
    batch = Batch(
        rule=rule,
        group=options,
        params=params,
        arrays=arrays,
        grads=grads if differentiable else [*map(detach, grads)],
        states={key: [entry[key] for entry in states if entry] for key in present},
        scalars=dict(zip((slot.name for slot in slots if slot.scalar), scalars)),
        rebind=differentiable or not all(map(is_writeable, arrays)),
    )
    kind = RowWork if isinstance(grads[0], SparseGrad) else Work
    return kind(
        batch=batch,
        indices=indices,
        choices=served,
        slots=slots,
        states=states,
    )
