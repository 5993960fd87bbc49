"""Mixed precision: gradients that carry a scale, and steps that are skipped after an overflow.

As torch's fused optimizers do, an optimizer looks at two attributes of its own: its gradients are
divided by ``grad_scale``, and the step is skipped unless ``found_inf`` is zero. Numbers on the host
are read at once. Of arrays on a GPU nothing is read: the step is carried out on the device either
way, where it changes nothing if it is to be skipped. What the host has counted is put right when
the next step begins (see `Skippable`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any, NamedTuple

import array_api_compat as compat

from arrayopt.backend import Batch, Executor, Guard
from arrayopt.namespace import (
    Array,
    array_namespace,
    as_complex,
    as_real,
    beside,
    compute_dtype,
    device,
    duplicate,
    fetch,
    is_array,
    is_complex,
    library,
    reading_waits,
)
from arrayopt.options import python_number
from arrayopt.trace import Program

__all__ = ["Scaling", "Skippable", "carry_out", "read_scaling"]


class Scaling(NamedTuple):
    """What a step makes of ``grad_scale`` and ``found_inf``.

    Attributes
    ----------
    divisor : float or None
        What gradients are divided by, if that is a number of the host.
    skips : bool
        Whether the host knows that the step is to be skipped.
    found_inf, grad_scale : array or None
        What only the device knows.
    """

    divisor: float | None = None
    skips: bool = False
    found_inf: Array | None = None
    grad_scale: Array | None = None

    @property
    def is_on_device(self) -> bool:
        """Whether there is something that only the device knows."""
        return not (self.found_inf is None and self.grad_scale is None)

    def guard(self, array: Array) -> Guard:
        """The same beside an array of its library, on the device of that."""

        def number(value: Array | None, default: float) -> Array:
            xp = array_namespace(array)
            if value is None:
                with beside(array):
                    return xp.full((1,), default, dtype=xp.float32, device=device(array))
            with beside(value):
                value = xp.reshape(xp.astype(value, xp.float32, copy=False), (1,))
            return compat.to_device(value, device(array))

        return Guard(number(self.found_inf, 0.0), number(self.grad_scale, 1.0))


def read_scaling(found_inf: Any, grad_scale: Any, params: Iterable[Any]) -> Scaling:
    """What `found_inf` and `grad_scale` tell a step on these parameters; None tells nothing.

    Raises
    ------
    TypeError
        If one is neither a number nor an array of one.
    ValueError
        If a `grad_scale` that the host knows is not above zero.
    """
    homes = {library(param.data) for param in params}
    found, found_there = _read(found_inf, "found_inf", homes)
    scale, scale_there = _read(grad_scale, "grad_scale", homes)
    if scale is not None and not scale > 0:
        raise ValueError(f"expected a grad_scale above 0, but got {scale}")
    return Scaling(scale, bool(found), found_there, scale_there)


def _read(value: Any, name: str, homes: set[str]) -> tuple[float | None, Array | None]:
    """A value as a number of the host, or as an array on a device for which that need not wait."""
    if value is None:
        return None, None
    size = math.prod(value.shape) if is_array(value) else 1
    if size == 1 and is_array(value) and reading_waits(value) and homes == {library(value)}:
        return None, value
    number = python_number(value) if size == 1 else value
    if not isinstance(number, int | float):
        shape = f" of shape {tuple(value.shape)}" if is_array(value) else ""
        raise TypeError(
            f"expected a number or an array of one as {name}, but got {type(value).__name__}{shape}"
        )
    return float(number), None


def carry_out(executor: Executor, batch: Batch, program: Program | None) -> None:
    """Update a batch as its guard says: for executors that know of none, around their work."""
    guard = batch.guard
    if guard is None or executor.guards:
        executor.run(batch, program)
        return
    columns = {"param": batch.arrays, **batch.states}
    before = {name: [*map(duplicate, arrays)] for name, arrays in columns.items()}
    batch.grads = [_unscaled(grad, guard.grad_scale) for grad in batch.grads]
    executor.run(batch, program)
    for name, old in before.items():
        for array, value in zip(columns[name], old):
            array[...] = array_namespace(array).where(guard.found_inf == 0, array, value)


def _unscaled(grad: Array, scale: Array) -> Array:
    xp = array_namespace(grad)
    if is_complex(grad):
        pairs = as_real(grad)
        return as_complex(pairs / xp.astype(scale, pairs.dtype), grad.dtype)
    dtype = compute_dtype(grad)
    return xp.astype(grad, dtype, copy=False) / xp.astype(scale, dtype)


class Skippable:
    """A step of which only the device knows whether it was skipped.

    The host goes on as if it had been taken, since to know better it would have to wait for all
    that the device has still to do. The flag is copied to the host meanwhile. When the next step
    begins, the copy has long been made: a whole forward and backward pass has been launched since.
    So the next step takes back what has been counted, if nothing was done, before it computes its
    own numbers; they are exact. (A host that runs ahead of the device by more than a step waits
    for the flag, and for nothing that was launched after it.)

    Parameters
    ----------
    found_inf : array
        Whether the step is skipped.
    state : mapping
        The state of the optimizer, before the step.
    params : sequence
        The parameters of the step.
    """

    def __init__(
        self, found_inf: Array, state: MutableMapping[Any, dict[str, Any]], params: Sequence[Any]
    ) -> None:
        self.state = state
        self.before = [(param, dict(state[param]) if param in state else None) for param in params]
        self.found_inf = found_inf
        self._flag: Callable[[], float] | None = None

    def send(self) -> None:
        """Let the flag be copied to the host, when all that has been launched is done."""
        self._flag = fetch(self.found_inf)

    def settle(self) -> bool:
        """Take back what was counted if the step was skipped; whether it was."""
        if self._flag is None:
            self.send()
        assert self._flag is not None
        if not self._flag():
            return False
        for param, entry in self.before:
            if entry is None:
                self.state.pop(param, None)
            else:
                self.state[param].clear()
                self.state[param].update(entry)
        return True
