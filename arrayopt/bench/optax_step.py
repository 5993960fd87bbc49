"""A step of optax, compiled by JAX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.bench.workloads import Problem

__all__ = ["RECIPES", "optax_step"]

#: The options with which it computes what torch does by default. (Where they add eps elsewhere, as
#: in Adagrad inside the root, it cannot be seen on gradients far from zero. Three are missing:
#: NAdam, which has no momentum decay in optax, Rprop, whose update there is that of the step
#: before, and ASGD.)
RECIPES: dict[str, dict[str, Any]] = {
    "Adadelta": {"learning_rate": 1.0, "rho": 0.9, "eps": 1e-6},
    "Adagrad": {"learning_rate": 1e-2, "initial_accumulator_value": 0.0, "eps": 1e-10},
    "Adam": {"learning_rate": 1e-3},
    "Adamax": {"learning_rate": 2e-3},
    "AdamW": {"learning_rate": 1e-3, "weight_decay": 1e-2},
    "RAdam": {"learning_rate": 1e-3},
    "RMSprop": {"learning_rate": 1e-2, "decay": 0.99, "eps_in_sqrt": False},
    "SGD": {"learning_rate": 1e-3},
}


def optax_step(
    algorithm: str, problem: Problem
) -> tuple[Callable[[], None], Callable[[], Sequence[NDArray[Any]]]]:
    """A step that waits for its result, and a function that returns the parameters.

    The memory of parameters and state is donated, so that XLA may update them in place.
    """
    import jax
    import optax

    transformation = getattr(optax, algorithm.lower())(**RECIPES[algorithm])
    params = [jax.device_put(start) for start in problem.starts]
    grads = [jax.device_put(grad) for grad in problem.grads]
    state = transformation.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params: Any, state: Any, grads: Any) -> Any:
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def step() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(update(params, state, grads))

    return step, lambda: [np.asarray(param) for param in params]
