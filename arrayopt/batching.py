"""From groups of parameters to batches: checking, sorting, choosing an executor, committing.

A step first builds all its work and only then does it, so that a bad input changes nothing. Work
is kept from step to step and done again while nothing but numbers has changed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from operator import is_, itemgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np

from arrayopt import backend
from arrayopt.backend import Batch, Executor, Implementation
from arrayopt.namespace import (
    Array,
    beside,
    castable,
    detach,
    device,
    has_place,
    is_array,
    is_masked,
    is_sparse,
    is_writeable,
    library,
)
from arrayopt.options import python_number
from arrayopt.parameter import Parameter, check_data
from arrayopt.scaling import Scaling, carry_out
from arrayopt.sparse_grad import SparseGrad, as_sparse_grad, put_rows, take_rows
from arrayopt.trace import Program, TraceError, trace
from arrayopt.witness import Witness, witness

__all__ = [
    "Agenda",
    "Choice",
    "Gradients",
    "ImplementationReport",
    "Reading",
    "StateSlot",
    "build",
    "check_state_array",
    "choices",
    "choose",
    "data_of",
    "is_trained",
    "plain",
    "read_entry",
    "read_grad",
    "reports",
    "state_number",
]


#: The options that say who carries out a step.
SWITCHES = ("foreach", "fused", "differentiable")

#: Which gradients an algorithm takes.
Gradients = Literal["dense", "dense or sparse", "sparse"]


@dataclass(frozen=True, slots=True)
class StateSlot:
    """One entry of the state that an algorithm keeps for each parameter.

    Attributes
    ----------
    name : str
        Its key in ``optimizer.state[param]``, and its name in the rule.
    initial : float, callable or None
        What it is filled with before the first step: a number, a function of the group that
        returns one, or None if the rule makes the entry itself (it is absent until then).
    scalar : bool
        Whether it is a Python number. If not, it is an array like the parameter. A scalar named
        ``"step"`` is incremented before the rule runs.
    when : str, optional
        The option that has to be on for the entry to exist.

    Examples
    --------
    An average that begins with zeros, and a count of steps:

    >>> import numpy as np
    >>> import arrayopt
    >>> class Signs(arrayopt.Optimizer):
    ...     state_table = (StateSlot("exp_avg"), StateSlot("step", initial=0, scalar=True))
    ...
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def rule(self, xp, param, grad, state, group):
    ...         exp_avg = 0.5 * state["exp_avg"] + 0.5 * grad
    ...         return param - group["lr"] / state["step"] * xp.sign(exp_avg), {"exp_avg": exp_avg}
    >>> opt = Signs([np.zeros(2)])
    >>> opt.step(grads=[np.array([4.0, -2.0])])
    >>> opt.state_dict()["state"][0]
    {'step': 1, 'exp_avg': array([ 2., -1.])}
    """

    name: str
    initial: float | Callable[[Mapping[str, Any]], float] | None = 0.0
    scalar: bool = False
    when: str | None = None

    def start(self, options: Mapping[str, Any]) -> Any:
        """The initial value under `options`."""
        return self.initial(options) if callable(self.initial) else self.initial


class Choice(NamedTuple):
    """An executor that can do some work, and why it would."""

    executor: Executor
    reason: str


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
                            batch.states[slot.name] = executor.allocate(batch.arrays, initial)
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
    name: str,
    params: Sequence[Any],
    grads: Sequence[Any],
    labels: Callable[[int], str],
    state: Mapping[Any, dict[str, Any]],
    reading: Reading,
    takes: Gradients,
    moves_all: bool,
) -> Agenda:
    """Check the parameters and gradients of a group, and sort them into batches.

    Parameters
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    name : str
        What the algorithm is called in messages.
    params, grads : sequence
        The parameters of the group; a gradient may be None.
    labels : callable
        What the parameter of a given index is called in messages.
    state : mapping
        The state of each parameter.
    reading : Reading
        The hyperparameters of the group, and the state that there should be.
    takes : {"dense", "dense or sparse", "sparse"}
        Which gradients are allowed.
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
        _check_kind(grad, takes, options, name, label)
        grad = read_grad(grad, array, label, densify=moves_all)
        entry = state.get(param)
        present, scalars = read_entry(entry or {}, array, slots, options, label)
        alone = None
        if isinstance(grad, SparseGrad):
            _check_slots(slots, present, label)
            alone = index
        served = tuple(choices(array, options))
        key = (library(array), array.dtype, str(device(array)), alone, served, present, scalars)
        members.setdefault(key, []).append(_Member(index, param, array, grad, entry))
    works = [
        _work(rule, slots, options, served, present, scalars, alike)
        for (*_, served, present, scalars), alike in members.items()
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


def read_entry(
    entry: Mapping[str, Any],
    array: Array,
    slots: tuple[StateSlot, ...],
    options: Mapping[str, Any],
    label: str,
) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names of the state arrays that a parameter has, checked, and its state numbers."""
    present = tuple(s.name for s in slots if not s.scalar and s.name in entry)
    for key in present:
        _check_state(entry[key], array, key, label)
    scalars = tuple(
        state_number(entry[s.name], s.name, label) if s.name in entry else s.start(options)
        for s in slots
        if s.scalar
    )
    return present, scalars


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


def choices(array: Array, options: Mapping[str, Any]) -> list[Choice]:
    """Who can update parameters like `array` under these options, best first.

    Raises
    ------
    RuntimeError
        If the implementation that `options` ask for is not there.
    """
    foreach, fused, differentiable = map(options.get, SWITCHES)
    asked: Implementation | None = None
    kinds = dict.fromkeys(backend.SPEED, "the fastest available")
    if differentiable:
        kinds = {"for-loop": "differentiable=True runs the rule itself"}
    elif fused or foreach:
        asked = "fused" if fused else "foreach"
        kinds = {asked: f"{asked}=True"}
    elif foreach is False:
        kinds = {"for-loop": "foreach=False"}
    elif fused is False:
        del kinds["fused"]
    found = _found(array, kinds)
    if found:
        return found
    why = backend.declined(array, asked) if asked else ""
    if why:
        slower = backend.SPEED[backend.SPEED.index(asked) + 1 :]
        return _found(array, dict.fromkeys(slower, f"{asked}=True, but {why}"))
    raise RuntimeError(_not_there(array, *kinds))


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
    state_table: Sequence[StateSlot],
    array: Array,
    options: Mapping[str, Any],
) -> Choice:
    """Who would update `array` in a first step."""
    slots = [slot for slot in state_table if slot.when is None or options.get(slot.when)]
    arrays = tuple(s.name for s in slots if not s.scalar and s.initial is not None)
    scalars = {slot.name: slot.start(options) for slot in slots if slot.scalar}
    if "step" in scalars:
        scalars["step"] += 1
    refused = ""
    for executor, reason in choices(array, options):
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
    state_table: Sequence[StateSlot],
    arrays: Iterable[tuple[int | None, Array, Mapping[str, Any]]],
) -> tuple[ImplementationReport, ...]:
    """Who would update arrays, each given with the number and the options of its group."""
    counts: dict[tuple[int | None, str, str, str, str], int] = {}
    for number, array, options in arrays:
        executor, reason = choose(rule, state_table, array, options)
        kind = f"{library(array)} {str(array.dtype).rpartition('.')[2]}"
        key = (number, executor.implementation, executor.name, kind, reason)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        ImplementationReport(*key[:4], parameters=count, reason=key[4])
        for key, count in counts.items()
    )


def data_of(param: Any, label: str, differentiable: bool = False) -> Array:
    """The array that is to be updated, checked.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        If it is no array, holds no floating-point numbers, or cannot be written to.
    """
    data = param.data
    if not is_array(data):
        raise TypeError(f"{label}: expected an array as .data, but got {type(data).__name__}")
    check_data(data, label)
    if isinstance(data, np.ndarray):
        return plain(data, label)
    if not differentiable:
        return detach(data)
    if is_array(param):
        raise RuntimeError(
            f"{label}: differentiable=True rebinds .data, which would drop the graph of a "
            f"{library(param)} array; pass arrayopt.Parameter(array) instead of the array"
        )
    return data


def _check_kind(
    grad: Any, takes: Gradients, options: Mapping[str, Any], name: str, label: str
) -> None:
    """Raise if the algorithm takes no sparse gradients, or no dense ones, under these options."""
    if not is_sparse(grad):
        if takes == "sparse":
            raise RuntimeError(
                f"{label}: {name} does not support dense gradients, please consider Adam instead; "
                "arrayopt.SparseGrad makes a sparse gradient"
            )
    elif takes == "dense":
        raise RuntimeError(
            f"{label}: {name} does not support sparse gradients, please consider SparseAdam, SGD "
            "or Adagrad instead, or pass a dense array"
        )
    elif options.get("weight_decay"):
        raise RuntimeError(
            f"{label}: weight_decay={options['weight_decay']} is not compatible with sparse "
            "gradients, since it moves the entries without a gradient as well"
        )
    elif options.get("differentiable"):
        raise RuntimeError(f"{label}: differentiable=True is not compatible with sparse gradients")


def _check_slots(slots: tuple[StateSlot, ...], present: tuple[str, ...], label: str) -> None:
    """Raise if there is state that begins in a step, of which a sparse gradient makes a part."""
    unknown = [s.name for s in slots if s.initial is None and s.name not in present]
    if unknown:
        raise RuntimeError(
            f"{label}: the state {unknown} has no initial value, so it cannot begin with a sparse "
            "gradient; give its StateSlot an initial value"
        )


def read_grad(grad: Any, array: Array, label: str, *, densify: bool) -> Any:
    """The gradient of `array`, checked; a sparse one with sums as its entries, or else made dense.

    Raises
    ------
    TypeError
        If it is of another library, or no array.
    RuntimeError
        If shape or device are others, or it cannot be cast to the dtype of `array`.
    ValueError
        If an index of a sparse one is out of range.
    """
    grad = plain(grad, label)
    if not is_sparse(grad):
        _check_grad(grad, array, label)
        return grad
    grad = as_sparse_grad(grad)
    _check_grad(grad, array, label)
    try:
        grad.check(wait=False)  # its arrays may have changed since it was made
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    return grad.to_dense() if densify else grad.summed()


def _check_grad(grad: Any, array: Array, label: str) -> None:
    shape = getattr(grad, "shape", ())
    grad = grad.values if isinstance(grad, SparseGrad) else grad
    if not is_array(grad) or library(grad) != library(array):
        kind = f"{library(grad)} array" if is_array(grad) else type(grad).__name__
        raise TypeError(f"{label}: expected a gradient of {library(array)}, but got a {kind}")
    if tuple(shape) != tuple(array.shape):
        raise RuntimeError(
            f"{label}: expected a gradient of shape {tuple(array.shape)}, but got shape "
            f"{tuple(shape)}"
        )
    homes = device(array), device(grad)
    if None not in homes and str(homes[0]) != str(homes[1]):
        raise RuntimeError(f"{label}: expected a gradient on {homes[0]}, but got one on {homes[1]}")
    if not castable(grad, array):
        raise RuntimeError(
            f"{label}: a gradient of dtype {grad.dtype} cannot be cast to the parameter's dtype "
            f"{array.dtype}"
        )


def check_state_array(value: Any, array: Array, name: str, label: str) -> None:
    """Raise if `value` cannot be state of a parameter like `array`, of whatever library."""
    if not is_array(value) or is_sparse(value):
        raise TypeError(
            f"{label}: expected a dense array as state {name!r}, but got {type(value).__name__}"
        )
    if tuple(value.shape) != tuple(array.shape):
        raise ValueError(
            f"{label}: expected state {name!r} of shape {tuple(array.shape)}, but got shape "
            f"{tuple(value.shape)}"
        )
    if not castable(value, array):
        raise TypeError(
            f"{label}: state {name!r} of dtype {value.dtype} cannot be cast to the parameter's "
            f"dtype {array.dtype}"
        )


def _check_state(value: Any, array: Array, name: str, label: str) -> None:
    """Raise if `value` cannot be updated in place beside `array`."""
    check_state_array(value, array, name, label)
    expected, got = ((library(a), str(device(a))) for a in (array, value))
    if expected != got:
        raise TypeError(
            f"{label}: expected state {name!r} of {' on '.join(expected)}, but got one of "
            f"{' on '.join(got)}"
        )
    if isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ValueError(f"{label}: state {name!r} cannot be written to")


def state_number(value: Any, name: str, label: str) -> int | float:
    """An entry of the state that is plain numbers, as a Python number."""
    number = python_number(value)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(
            f"{label}: expected a number as state {name!r}, but got {type(value).__name__}: "
            f"{value!r}"
        )
    if name != "step":
        return number
    if not (0 <= number < math.inf and number == int(number)):
        raise ValueError(f"{label}: state 'step' counts steps, but got {value!r}")
    return int(number)  # torch keeps it as a float32 array


def plain(value: Any, label: str) -> Any:
    """A NumPy array without what a subclass makes of its operators; other values as they are."""
    if is_masked(value):
        raise TypeError(
            f"{label}: masked arrays are not supported, since a step would not know their mask; "
            "fill it first"
        )
    # (a NumPy scalar is what arithmetic on 0-d arrays returns)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def is_trained(param: Any, grad: Any) -> bool:
    """Whether a step updates a parameter with this gradient."""
    # What requires_grad means for other libraries' parameters is theirs to say: torch's optimizers
    # go by the gradient alone.
    return grad is not None and (not isinstance(param, Parameter) or param.requires_grad)
