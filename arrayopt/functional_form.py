"""The functional form: an algorithm as a pair of pure functions, on nested dicts and lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from arrayopt.applying import apply_rule
from arrayopt.branches import Branches, Unwrapping, explore, is_known
from arrayopt.choosing import SWITCHES
from arrayopt.functional_checks import (
    arrays_in,
    check_algorithm,
    check_entry,
    check_grad,
    read_arrays,
    read_number,
)
from arrayopt.namespace import Array, filled_like, is_array
from arrayopt.nested import align, rebuild
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.state import StateSlot

__all__ = ["Functional", "functional"]

#: The number that counts steps.
STEP = StateSlot("step", initial=0, scalar=True)


class Functional(NamedTuple):
    """An algorithm as two pure functions; see `functional`.

    Attributes
    ----------
    init : callable
        ``init(params) -> state``.
    update : callable
        ``update(params, grads, state, **options) -> (params, state)``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> form = arrayopt.functional(arrayopt.SGD, lr=0.25)
    >>> params = {"w": np.array([3.0, -2.0])}
    >>> params, state = form.update(params, {"w": 2 * params["w"]}, form.init(params))
    >>> params
    {'w': array([ 1.5, -1. ])}
    """

    init: Callable[[Any], dict[str, Any]]
    update: Callable[..., tuple[Any, dict[str, Any]]]


def functional(algorithm: type[Optimizer], **options: Any) -> Functional:
    """An algorithm as a pair of pure functions, ``init`` and ``update``.

    The rule, its options and its state are those of the class. Python and NumPy numbers give the
    bits of an ``algorithm(..., foreach=False)`` that takes the same steps.

    Parameters
    ----------
    algorithm : subclass of Optimizer
        Any but LBFGS, which looks at several points in a step, and SparseAdam.
    **options
        Those of its constructor: ``lr=1e-2``.

    Returns
    -------
    Functional
        A named tuple of two functions:

        ``init(params) -> state``
            `params` is an array, or nested dicts, lists and tuples of arrays of any library of the
            array API standard, floating-point, dense. (None stands for nothing.) The state is a
            dict of the entries that the class documents, each a tree like `params`: arrays, and
            numbers such as ``step``; None where a parameter of that shape has none. An algorithm
            whose state begins in its first step (SGD with a momentum) counts steps as well, and
            holds zeros until then.
        ``update(params, grads, state, **options) -> (params, state)``
            The next parameters and state, new arrays of the same dtypes. `grads` is a tree like
            `params`; where it holds None, parameters and state are passed on as they are. `options`
            stand in for those given before, in this step: ``lr=scheduler.lr_at(t)[0]``.

        Nothing that is passed in is changed, and nothing is remembered.

    Raises
    ------
    TypeError
        If `algorithm` is no such class, or has no such option. `update`, and `init`, raise if a
        tree has another structure than `params`, or holds what is no array of the same library.
    ValueError
        If an option is out of its range, a state has other entries, or asks for another
        implementation than the rule itself (`foreach`, `fused`).
    RuntimeError
        If an array has another shape or device, or cannot be cast to the dtype of its parameter, or
        parameters are no floating-point numbers.

        Every message names the place, as in ``params['layers'][0]['w']``. Everything is checked
        before anything is computed.

    Notes
    -----
    Numbers (options, ``step``) that are Python's or NumPy's are computed with in double precision.
    A 0-d array of another library stays one, so that a derivative goes through it, and has the
    precision of that library: of a jitted update in float32, ``1 - beta2**step`` is a float32, too.
    Of an option that is not known yet (under ``jax.jit``), the shape is checked, and what depends
    on it as if it had its default.

    Under ``jax.jit``, where ``step`` is not known, a rule that branches on it becomes one
    ``lax.cond``, or several nested ones. (Under a ``vmap`` over ``step`` itself both ways are
    computed, and a derivative that is infinite on the one makes NaN of the other.) The state has
    the same structure and dtypes in every step, as ``jax.lax.scan`` wants it.

    Derivatives are those of the operations: at an average of squares that is exactly zero, the
    derivative of its root is infinite, and what comes out is infinite or NaN, in torch and in jax.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> init, update = arrayopt.functional(arrayopt.Adam, lr=0.1)
    >>> params = {"layers": [{"w": np.array([3.0, -2.0])}], "b": np.array(1.0)}
    >>> state = init(params)
    >>> grads = {"layers": [{"w": np.array([6.0, -4.0])}], "b": None}
    >>> params, state = update(params, grads, state)
    >>> params
    {'layers': [{'w': array([ 2.9, -1.9])}], 'b': array(1.)}
    >>> state["step"]
    {'layers': [{'w': 1}], 'b': 0}

    Through torch's graph, the derivative of a loss after a step by the learning rate:

    >>> import torch
    >>> init, update = arrayopt.functional(arrayopt.SGD)
    >>> w, lr = torch.tensor([3.0, -2.0]), torch.tensor(0.25, requires_grad=True)
    >>> stepped, _ = update(w, 2 * w, init(w), lr=lr)
    >>> stepped.square().sum().backward()
    >>> lr.grad  # of (3 - 6 lr)**2 + (-2 + 4 lr)**2
    tensor(-26.)
    """
    form = _Form(algorithm, options)
    return Functional(form.init, form.update)


class _Leaf(NamedTuple):
    """A parameter that has been checked, with its gradient (or None) and its state."""

    array: Array
    grad: Array | None
    state: dict[str, Any]


class _Form:
    """What `functional` has read of an algorithm: its options, and the state they ask for."""

    def __init__(self, algorithm: type[Optimizer], options: Mapping[str, Any]) -> None:
        check_algorithm(algorithm)
        for switch in ("foreach", "fused"):
            if options.get(switch):
                raise ValueError(
                    f"{switch}={options[switch]!r}: the functional form runs the rule itself; "
                    f"leave {switch} out"
                )
        numbers = {name: read_number(name, value) for name, value in options.items()}
        known = {name: value for name, value in numbers.items() if is_known(value)}
        self.template = algorithm(
            [np.zeros((1, 1))], **{n: python_number(v) for n, v in known.items()}
        )
        unknown = sorted(numbers.keys() - known.keys() - self.template.defaults.keys())
        if unknown:
            raise TypeError(f"{algorithm.__name__} has no options {unknown}")
        #: The options, with Python numbers where they are known.
        self.checked = self.template._options(self.template.param_groups[0], 0)
        self.group = self.checked | {n: value for n, value in numbers.items() if arrays_in(value)}
        self.names = (
            self.template.defaults.keys() - self.template.fixed_options.keys() - set(SWITCHES)
        )
        table = [slot for slot in algorithm.state_table if _asks_for(slot, self.group)]
        #: The state that the rule makes in the first step, which then is told by counting.
        self.begins = {slot.name for slot in table if slot.initial is None}
        self.counts = STEP.name in {slot.name for slot in table}
        self.slots = [STEP, *table] if self.begins and not self.counts else table

    def init(self, params: Any) -> dict[str, Any]:
        """The state before the first step."""
        arrays = read_arrays(params, self.template._traits, self.group)
        with np.errstate(all="ignore"):
            return {
                slot.name: rebuild(params, [self._start(slot, array) for _, array in arrays])
                for slot in self.slots
            }

    def _start(self, slot: StateSlot, array: Array) -> Any:
        if slot.shape_for(array.shape) is None:
            return None
        value = slot.start(self.group)
        if not slot.scalar:
            return filled_like(slot.model(array), 0.0 if value is None else value)
        # (an int that becomes a float later would change the structure that jax sees)
        return value if slot.name == "step" or is_array(value) else float(value)

    def update(
        self, params: Any, grads: Any, state: Mapping[str, Any], /, **options: Any
    ) -> tuple[Any, dict[str, Any]]:
        """The parameters and the state after a step."""
        group = self._options(options)
        leaves = self._leaves(params, grads, state, group)
        with np.errstate(all="ignore"):
            results = [self._advance(leaf, group) for leaf in leaves]
        return rebuild(params, [result["param"] for result in results]), {
            slot.name: rebuild(params, [result.get(slot.name) for result in results])
            for slot in self.slots
        }

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a step, checked."""
        if not given:
            return self.group
        unknown = sorted(given.keys() - self.names)
        if unknown:
            raise TypeError(
                f"update got unexpected options {unknown}; those of "
                f"{type(self.template).__name__} are {sorted(self.names)}"
            )
        numbers = {name: read_number(name, value) for name, value in given.items()}
        known = {name: value for name, value in numbers.items() if is_known(value)}
        self.template.check_group(self.checked | {n: python_number(v) for n, v in known.items()})
        group = self.group | numbers
        have = {slot.name for slot in self.slots}
        for slot in self.template.state_table:
            if slot.name not in have and _asks_for(slot, group):
                raise ValueError(
                    f"{slot.when}={group[slot.when or '']!r} needs the state {slot.name!r}, which "
                    f"init has not made: pass {slot.when} to arrayopt.functional as well"
                )
        return group

    def _leaves(self, params: Any, grads: Any, state: Any, group: Mapping[str, Any]) -> list[_Leaf]:
        """The parameters with all that belongs to them, checked."""
        names = [slot.name for slot in self.slots]
        if not isinstance(state, Mapping) or {*state} != {*names}:
            got = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise ValueError(f"state: expected a dict of {names}, as of init, but got {got}")
        columns = [align(state[name], params, f"state[{name!r}]", "params") for name in names]
        gradients = align(grads, params, "grads", "params")
        arrays = read_arrays(params, self.template._traits, group)
        leaves = []
        for (label, array), grad, *entries in zip(arrays, gradients, *columns):
            own = {
                slot.name: check_entry(entry, array, slot, label)
                for slot, entry in zip(self.slots, entries)
                if slot.shape_for(array.shape) is not None
            }
            leaves.append(_Leaf(array, check_grad(grad, array, label), own))
        return leaves

    def _advance(self, leaf: _Leaf, group: Mapping[str, Any]) -> dict[str, Any]:
        """A parameter, under the name ``"param"``, and its state after a step."""
        array, grad, state = leaf
        if grad is None:
            return {"param": array, **state}

        scalars = {slot.name: state[slot.name] for slot in self.slots if slot.scalar}

        def compute(branches: Branches) -> dict[str, Any]:
            options, numbers = branches.follow(group, scalars)
            if "step" in numbers:
                numbers["step"] = numbers["step"] + 1
            arrays = {name: value for name, value in state.items() if name not in scalars}
            if self.begins and numbers["step"] == 1:
                arrays = {n: value for n, value in arrays.items() if n not in self.begins}
            shown = {n: v for n, v in numbers.items() if self.counts or n != "step"}
            param, changed, left = apply_rule(self._rule, array, grad, arrays, shown, options)
            return {"param": param, **state, **numbers, **changed, **left}

        return explore(compute)

    def _rule(self, xp: Any, *arguments: Any) -> tuple[Array, Mapping[str, Any]]:
        return self.template._update(Unwrapping(xp), *arguments)


def _asks_for(slot: StateSlot, group: Mapping[str, Any]) -> bool:
    """Whether there is an entry of the state under these options."""
    option = True if slot.when is None else group.get(slot.when)
    return is_array(option) or bool(option)
