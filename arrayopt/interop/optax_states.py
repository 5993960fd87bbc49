r"""States of optax as ours, and ours as optax's, where both compute the same.

The algorithms that agree to rounding, and under which options of optax they do:

========  =====================  ================================================================
here      optax                  they agree
========  =====================  ================================================================
SGD       ``sgd``                without dampening
Adam      ``adam``               with ``eps_root=0``, its default; without AMSGrad
AdamW     ``adamw``              likewise
Adamax    ``adamax``             always
Adadelta  ``adadelta``           always
RMSprop   ``rmsprop``            with ``eps_in_sqrt=False``, without ``nesterov`` and
                                 ``bias_correction``; with momentum, as long as the rate stays
Adagrad   ``adagrad``            with ``eps=0`` on both sides, since optax adds it inside the root;
                                 without a decay of the rate
RAdam     ``radam``              with ``eps=0`` on both sides, since optax adds it after the bias
                                 correction of the root, and here it is added before
========  =====================  ================================================================

Adagrad and RAdam can be converted whatever ``eps`` is, since the state is the same; the steps
differ by the place of ``eps``. An L2 penalty (``weight_decay`` of all but AdamW) is
``optax.add_decayed_weights`` before the rest.

What optax has in another form cannot be converted: AMSGrad (its maximum is of averages whose bias
is corrected), NAdam (no momentum decay), Rprop (an update has the signs of the step before) and
LBFGS (another line search, and another memory). ASGD and SparseAdam it does not have.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayopt.interop.arrays import need, to_numpy
from arrayopt.interop.optax_plan import Plan, map_parts, parts_of
from arrayopt.optimizer import Optimizer

__all__ = ["from_optax", "to_optax"]


def from_optax(opt_state: Any, optimizer: Optimizer) -> dict[str, Any]:
    """The state of an optax transformation as a ``state_dict`` for an optimizer of ours.

    Parameters
    ----------
    opt_state : pytree
        What ``init`` and ``update`` of the transformation return. `optax.chain` may be nested in
        any way; parts without state of their own, and a schedule, may stand between.
    optimizer : Optimizer
        Which algorithm it is, and its parameters. They are matched by name if `optimizer` has
        names and those of optax are in dicts (``"layer.weight"`` is ``params["layer"]["weight"]``),
        and else in the order of ``jax.tree.leaves`` (dicts are in the order of their keys there).

    Returns
    -------
    dict
        NumPy arrays of optax's dtypes, and the groups of `optimizer` as they are: optax keeps no
        options in its state. ``step`` is what optax counts, or 0 where it counts nothing (and
        nothing depends on it). It is a copy; `optimizer` has not changed.

    Raises
    ------
    TypeError
        If `optimizer` is not one of ours.
    ValueError
        If optax has no such algorithm or option in this form, or `opt_state` has other parts than
        the algorithm needs or other parameters.
    ImportError
        If JAX is not installed.

    See Also
    --------
    to_optax : the way back.

    Notes
    -----
    These are the algorithms and options under which both compute the same:

    - SGD without dampening, Adam and AdamW without AMSGrad, Adamax and Adadelta;
    - RMSprop, with ``eps_in_sqrt=False`` there, and a constant rate if it has momentum;
    - Adagrad and RAdam up to the place of ``eps``, which is another one in optax.

    Examples
    --------
    >>> import numpy as np
    >>> import optax
    >>> import arrayopt as optim
    >>> from arrayopt.interop import from_optax
    >>> params = {"w": np.ones(2, np.float32)}
    >>> adam = optax.adam(0.5)
    >>> _, opt_state = adam.update({"w": np.ones(2, np.float32)}, adam.init(params))
    >>> opt = optim.Adam(params.items(), lr=0.5)
    >>> opt.load_state_dict(from_optax(opt_state, opt))
    >>> [state["step"] for state in opt.state.values()]
    [1]
    """
    need("jax", "from_optax")
    plan = Plan(optimizer)
    found, counts = parts_of(opt_state, plan)
    step = counts[0] if counts else 0
    state: dict[int, dict[str, Any]] = {
        number: {"step": step} if "step" in plan.slots else {} for number in plan.numbers
    }
    for name, part in found.items():
        for entry, field in plan.parts[name].items():
            leaves, order, _ = plan.match(getattr(part, field), f"{name}.{field}")
            for number, index in zip(plan.numbers, order):
                factor = plan.factor(name, number)
                array = to_numpy(leaves[index])
                state[number][entry] = np.asarray(array / factor, dtype=array.dtype)
    return {"state": state, "param_groups": copy.deepcopy(plan.groups)}


def to_optax(optimizer: Optimizer, opt_state_like: Any) -> Any:
    """The state of an optimizer of ours as that of an optax transformation.

    Parameters
    ----------
    optimizer : Optimizer
        Whose state it is.
    opt_state_like : pytree
        A state of the transformation, such as ``transformation.init(params)`` returns. Parameters
        are matched as in `from_optax`.

    Returns
    -------
    pytree
        Like `opt_state_like`, with the state of `optimizer` in JAX arrays of the same dtypes.

    Raises
    ------
    TypeError, ValueError, ImportError
        As in `from_optax`; and a ValueError if the parameters have taken different numbers of
        steps, since optax counts them together, or if the steps are counted there and not here.

    See Also
    --------
    from_optax : the way back.

    Examples
    --------
    >>> import numpy as np
    >>> import optax
    >>> import arrayopt as optim
    >>> from arrayopt.interop import to_optax
    >>> params = {"w": np.ones(2, np.float32)}
    >>> opt = optim.Adam(params.items(), lr=0.5)
    >>> opt.step(grads=[np.ones(2, np.float32)])
    >>> opt_state = to_optax(opt, optax.adam(0.5).init(params))
    >>> int(opt_state[0].count)
    1
    """
    jax = need("jax", "to_optax")
    plan = Plan(optimizer)
    parts_of(opt_state_like, plan)
    state = optimizer.state_dict()["state"]

    def filled(part: Any) -> Any:
        name, new = type(part).__name__, {}
        for entry, field in plan.parts.get(name, {}).items():
            leaves, order, tree = plan.match(getattr(part, field), f"{name}.{field}")
            for number, index in zip(plan.numbers, order):
                value = state.get(number, {}).get(entry)
                value = plan.start(entry, number) if value is None else to_numpy(value)
                array = np.broadcast_to(value * plan.factor(name, number), leaves[index].shape)
                leaves[index] = jax.numpy.asarray(array, dtype=leaves[index].dtype)
            new[field] = jax.tree_util.tree_unflatten(tree, leaves)
        if "count" in part._fields:
            new["count"] = jax.numpy.asarray(_common_step(plan, state), dtype=part.count.dtype)
        return part._replace(**new)

    return map_parts(filled, opt_state_like)


def _common_step(plan: Plan, state: Mapping[Any, Mapping[str, Any]]) -> int:
    """How many steps all parameters have taken."""
    if "step" not in plan.slots:
        raise ValueError(
            f"{plan.name} does not count its steps here, but the state of optax does, for a "
            "schedule; pass a state without, and set its count yourself"
        )
    steps = {int(state.get(number, {}).get("step", 0)) for number in plan.numbers}
    if len(steps) > 1:
        raise ValueError(
            "optax counts the steps of all parameters together, but here they have taken "
            f"{sorted(steps)}; one without a gradient takes none"
        )
    return steps.pop()
