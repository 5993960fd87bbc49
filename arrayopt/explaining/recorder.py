"""`record`: the rule at work, with its variables kept at each step."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arrayopt.applying import apply_rule
from arrayopt.batching import Reading
from arrayopt.explaining.recording import Recording, Step
from arrayopt.explaining.watching import codes_of, watching
from arrayopt.inputs import data_of, is_trained, read_grad
from arrayopt.interop.arrays import to_numpy
from arrayopt.namespace import (
    Array,
    as_complex,
    detach,
    filled_like,
    is_array,
    is_complex,
    is_sparse,
)
from arrayopt.optimizer import Optimizer
from arrayopt.options import is_number, python_number
from arrayopt.scaling import read_scaling
from arrayopt.state import read_entry

__all__ = ["record"]

MAX_BYTES = 2**28


def record(
    optimizer: Optimizer,
    params: Collection[str | int] | None = None,
    *,
    names: Collection[str] | None = None,
    every: int = 1,
    last: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> contextlib.AbstractContextManager[Recording]:
    """Keep what the rule of an optimizer computes, step by step: ``with record(...) as recording``.

    Before a step, the rule is run once more on the same arrays, in the for-loop, with its variables
    watched; then the step goes on as ever. Nothing is left behind at the end, and it costs nothing
    when it is off.

    Parameters
    ----------
    optimizer : Optimizer
    params : collection of str or int, optional
        The parameters, by their names or by their places in the optimizer; by default, all.
    names : collection of str, optional
        The values to keep, by the names of the rule's variables and of the state; by default, all.
    every : int, default 1
        Record the first step and every so many from then on, > 0.
    last : int, optional
        Keep so many steps, the latest ones, > 0; by default, all.
    max_bytes : int, default 2**28
        The memory that arrays may take, in bytes, > 0: the oldest steps are dropped to keep to it.

    Returns
    -------
    context manager
        That gives a `Recording`.

    Raises
    ------
    TypeError
        If the optimizer has no rule (LBFGS), or takes sparse gradients only.
    ValueError
        If there is no such parameter, or a number is not positive; in a step, before anything has
        changed, if it alone would take more than `max_bytes`.
    RuntimeError
        In a step, before anything has changed, if a gradient is sparse.

    Notes
    -----
    There are the local variables of the rule, as they were last; the entries of the state and
    ``"param"`` after the step, in their own dtype; and ``"update"``, what was added to the
    parameter, unless the rule calls something so itself. Of a complex parameter, arrays are
    complex; of one in half precision, variables are in float32, in which the rule computes.

    A parameter that takes no part in a step has no values there. Of a step that fails, nothing is
    kept. Hooks that run before a step and were registered inside ``with`` are not seen.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([3.0, -2.0])
    >>> opt = optim.SGD([w], lr=0.1, momentum=0.5)
    >>> with record(opt) as recording:
    ...     for _ in range(3):
    ...         opt.step(grads=[w])
    >>> recording.steps
    array([1, 2, 3])
    >>> recording["momentum_buffer"]
    array([[ 3.  , -2.  ],
           [ 4.2 , -2.8 ],
           [ 4.38, -2.92]])
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected an Optimizer to record, but got {type(optimizer).__name__}")
    name = type(optimizer).__name__
    if not optimizer.has_rule():
        raise TypeError(f"{name} has a step of its own and no rule whose variables could be kept")
    if optimizer.gradients == "sparse":
        raise TypeError(f"{name} takes sparse gradients only, whose steps cannot be recorded")
    for option, number in (("every", every), ("last", last), ("max_bytes", max_bytes)):
        if not (number is None and option == "last") and not (type(number) is int and number > 0):
            raise ValueError(f"{option} must be an int > 0, but got {number!r}")
    if isinstance(params, str) or isinstance(names, str):
        raise TypeError("params and names are collections of names, but got one string")
    places = None if params is None else {_place(optimizer, param) for param in params}
    return _attached(optimizer, _Recorder(places, names, every, last, max_bytes))


@contextlib.contextmanager
def _attached(optimizer: Optimizer, recorder: _Recorder) -> Iterator[Recording]:
    with (
        optimizer.register_step_pre_hook(recorder.before),
        optimizer.register_step_post_hook(recorder.after),
    ):
        yield recorder.recording


def _labels(optimizer: Optimizer) -> dict[int, str | int]:
    """What the parameters are called, by their places."""
    entries = enumerate(optimizer._enumerate())
    return {place: optimizer._name(group, i) or place for place, (_, group, i, _) in entries}


def _place(optimizer: Optimizer, param: str | int) -> int:
    labels = _labels(optimizer)
    for place, label in labels.items():
        if param in (place, label):
            return place
    raise ValueError(f"there is no parameter {param!r} to record; there are {[*labels.values()]}")


@dataclass
class _Recorder:
    """The hooks of a recording, and what the step that is running has had so far."""

    places: Collection[int] | None
    names: Collection[str] | None
    every: int
    last: int | None
    max_bytes: int
    recording: Recording = field(default_factory=Recording)
    begun: int = 0
    values: dict[int, dict[str, Any]] | None = None

    def before(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Run the rule on what the step is going to change: once the gradients are there."""
        self.values = None
        if self.begun % self.every:
            return None
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if not callable(closure):
            self.values = self.watched(optimizer, kwargs.get("grads"))
            return None

        def watched_closure() -> Any:
            loss = closure()
            grads = loss[1] if isinstance(loss, tuple) and len(loss) == 2 else None
            self.values = self.watched(optimizer, grads)
            return loss

        if len(args) > 1:
            return (args[0], watched_closure, *args[2:]), kwargs
        return args, kwargs | {"closure": watched_closure}

    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Keep what was computed, now that the step is done."""
        self.begun += 1
        if self.values is not None:
            labels = _labels(optimizer)
            self.recording.labels |= {place: labels[place] for place in self.values}
            step = Step(optimizer.step_count, self.values)
            self.recording.append(step, self.last, self.max_bytes)
            self.values = None

    def watched(self, optimizer: Optimizer, grads: Any) -> dict[int, dict[str, Any]]:
        """What the rule computes in this step, for each parameter that takes part."""
        there = vars(optimizer)
        found_inf, grad_scale = map(python_number, map(there.get, ("found_inf", "grad_scale")))
        scaling = read_scaling(found_inf, grad_scale, ())
        if scaling.skips:
            return {}
        flat = [grad for group in optimizer._gradients(grads) for grad in group]
        found = {}
        size = 0
        for place, (number, group, index, param) in enumerate(optimizer._enumerate()):
            grad = flat[place]
            if (self.places is None or place in self.places) and is_trained(param, grad):
                label = optimizer._label(group, number, index)
                reading = optimizer._read(group, number, scaling)
                kept = _values(optimizer, reading, param, grad, label, self.names)
                found[place] = kept
                size += sum(v.nbytes for v in kept.values() if isinstance(v, np.ndarray))
                if size > self.max_bytes:
                    raise ValueError(
                        f"a step takes more than the max_bytes={self.max_bytes:,} of a recording: "
                        "record fewer params or names, or allow for more"
                    )
        return found


def _values(
    optimizer: Optimizer,
    reading: Reading,
    param: Any,
    grad: Any,
    label: str,
    names: Collection[str] | None,
) -> dict[str, Any]:
    """What the rule computes for a parameter, as arrays of NumPy and plain numbers."""
    options = reading.options
    array = data_of(param, label, bool(options.get("differentiable")))
    dense = optimizer.moves_all(options)
    if is_sparse(grad) and not dense:
        raise RuntimeError(
            f"{label} has a sparse gradient: a step on some of its entries cannot be recorded"
        )
    grad = read_grad(grad, array, label, densify=dense)
    entry = optimizer.state.get(param) or {}
    slots, present, numbers = read_entry(entry, array, reading.slots, options, label)
    states = {name: entry[name] for name in present}
    for slot in slots:
        initial = None if slot.scalar or slot.name in states else slot.start(options)
        if initial is not None:
            states[slot.name] = filled_like(slot.model(array), initial)
    scalars = dict(zip((slot.name for slot in slots if slot.scalar), numbers))
    if "step" in scalars:
        scalars["step"] += 1

    seen: dict[str, Any] = {}
    with np.errstate(all="ignore"), watching(codes_of(type(optimizer)), seen.__setitem__):
        new, new_states, new_numbers = apply_rule(
            optimizer._update, array, detach(grad), states, scalars, options
        )
    seen = {name: value for name, value in seen.items() if _is_value(value)}
    seen.setdefault("update", new - array)
    seen |= {**scalars, **new_numbers, **new_states, "param": new}
    return {
        name: _own(value, array) for name, value in seen.items() if names is None or name in names
    }


def _is_value(value: Any) -> bool:
    return is_array(value) or is_number(value)


def _own(value: Any, array: Array) -> Any:
    """A value in memory of its own; pairs of reals as the complex numbers that they are."""
    if not is_array(value):
        return python_number(value)
    if is_complex(array) and not is_complex(value) and value.shape == (*array.shape, 2):
        value = as_complex(value, array.dtype)
    return to_numpy(value)
