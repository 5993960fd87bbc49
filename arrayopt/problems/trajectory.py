"""The way that an optimizer takes on a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from arrayopt.minimization.loop import follow_schedule
from arrayopt.optimizer import Optimizer
from arrayopt.options import check_integer
from arrayopt.problems.problem import Problem
from arrayopt.sparse_grad import SparseGrad

__all__ = ["Trajectory", "trajectories", "trajectory"]


class Trajectory(NamedTuple):
    """Where an optimizer has been.

    Attributes
    ----------
    points : array, shape (steps + 1, n)
        The start, and the point after each step.
    values : array, shape (steps + 1,)
        The function there, without noise.
    grads : array, shape (steps, n)
        The gradient that each step was given, with its noise; of LBFGS, the first one.

    Examples
    --------
    >>> import arrayopt
    >>> from arrayopt import problems
    >>> path = problems.trajectory(problems.ravine(), arrayopt.SGD, 10, lr=0.01)
    >>> path.points.shape, path.values.shape, path.grads.shape
    ((11, 2), (11,), (10, 2))
    """

    points: Any
    values: Any
    grads: Any


def trajectory(
    problem: Problem,
    algorithm: Callable[..., Optimizer],
    steps: int = 100,
    *,
    start: Any = None,
    seed: int = 0,
    scheduler: Callable[[Optimizer], Any] | None = None,
    **options: Any,
) -> Trajectory:
    """Run an optimizer, each step with the gradient at its own point.

    Parameters
    ----------
    problem : Problem
        What is minimized.
    algorithm : subclass of Optimizer, or callable
        Makes the optimizer: ``algorithm([x], **options)``.
    steps : int, default 100
        How many.
    start : array, shape (n,), optional
        Where to begin, by default at the start of the problem.
    seed : int, default 0
        Of the noise in the gradients, if the problem has a variance.
    scheduler : callable, optional
        Makes a learning-rate scheduler of the optimizer: ``lambda opt: StepLR(opt, 100)``. It is
        stepped after each step (with the value, if it looks at one).
    **options
        Those of the algorithm: ``lr=0.1``.

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError
        If `steps` is negative, `start` has another shape, or an option is out of its range.
    TypeError
        If `algorithm` makes no optimizer.

    Notes
    -----
    A step of LBFGS may look at several points, and take several iterations: ``max_iter=1`` shows
    each. SparseAdam is given sparse gradients, of all elements. A run that diverges goes on, with
    numbers that are not finite.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import ravine, trajectory
    >>> points, values, grads = trajectory(ravine(), optim.SGD, 2, lr=0.01)
    >>> points.round(4)
    array([[-4.    ,  1.    ],
           [-3.96  ,  0.    ],
           [-3.9204,  0.    ]])
    """
    steps = check_integer("steps", steps, 0)
    x = np.array(problem.start if start is None else start, np.float64)
    if x.shape != (problem.n,):
        raise ValueError(f"start: expected shape ({problem.n},), but got {x.shape}")
    optimizer = algorithm([x], **options) if callable(algorithm) else algorithm
    if not isinstance(optimizer, Optimizer) or not callable(algorithm):
        raise TypeError(
            "algorithm: expected an optimizer class, such as arrayopt.Adam, or a function that "
            f"makes an optimizer of a list of arrays, but got {optimizer!r}"
        )
    after_step = follow_schedule(scheduler, optimizer)
    rng = np.random.default_rng(seed)
    points, grads, seen = [x.copy()], [], []

    def look() -> tuple[float, list[Any]]:
        noisy = problem.variance.any()
        grad = problem.noisy_grad(x, rng) if noisy else problem.grad(x)
        seen.append(grad)
        sparse = optimizer.gradients == "sparse"
        return float(problem.fun(x)), [
            SparseGrad(np.arange(x.size), grad, x.shape) if sparse else grad
        ]

    with np.errstate(all="ignore"):
        for _ in range(steps):
            seen.clear()
            optimizer.step(look)
            points.append(x.copy())
            grads.append(seen[0])
            after_step(float(problem.fun(x)))
        values = problem.fun(np.array(points))
    return Trajectory(np.array(points), values, np.array(grads).reshape(steps, problem.n))


def trajectories(problem: Problem, runs: Any, steps: int = 100) -> dict[str, Trajectory]:
    """Run several optimizers on one problem, from the same start and with the same noise.

    Parameters
    ----------
    problem : Problem
        What is minimized.
    runs : mapping of str to run, or sequence of runs
        A run is an optimizer class, or a pair of it and a dict of options of `trajectory`. By
        default, its name is that of the class with its options.
    steps : int, default 100
        How many each run takes.

    Returns
    -------
    dict of str to Trajectory

    Raises
    ------
    TypeError
        If a run is neither.
    ValueError
        If there is no run, or two have the same name; and as `trajectory` does.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.problems import ravine, trajectories
    >>> runs = [(optim.SGD, {"lr": 0.01}), (optim.SGD, {"lr": 0.01, "momentum": 0.9}), optim.Adam]
    >>> list(trajectories(ravine(), runs))
    ['SGD (lr=0.01)', 'SGD (lr=0.01, momentum=0.9)', 'Adam']
    """
    if not isinstance(runs, Iterable):
        raise TypeError(f"runs: expected a mapping or a sequence, but got {type(runs).__name__}")
    named = runs.items() if isinstance(runs, Mapping) else [(None, run) for run in runs]
    found: dict[str, Trajectory] = {}
    for given, run in named:
        algorithm, options = run if isinstance(run, tuple) and len(run) == 2 else (run, {})
        if not callable(algorithm) or not isinstance(options, Mapping):
            raise TypeError(
                "runs: expected optimizer classes, or pairs of one and a dict of options, but got "
                f"{run!r}"
            )
        name = _name(algorithm, options) if given is None else given
        if name in found:
            raise ValueError(f"runs: expected different names, but {name!r} occurs twice")
        found[name] = trajectory(problem, algorithm, steps, **options)
    if not found:
        raise ValueError("runs: expected at least one run, but got none")
    return found


def _name(algorithm: Any, options: Mapping[str, Any]) -> str:
    """What a run is called in a picture."""
    name = getattr(algorithm, "__name__", type(algorithm).__name__)
    told = ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in options.items()
        if not callable(value)
    )
    return f"{name} ({told})" if told else name
