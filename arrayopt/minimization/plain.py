"""`minimize`, which needs no SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arrayopt.algorithms import Adam
from arrayopt.minimization.loop import MinimizeResult, Tolerances, run
from arrayopt.minimization.objective import Objective
from arrayopt.optimizer import Optimizer

__all__ = ["minimize"]


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    algorithm: type[Optimizer] = Adam,
    *,
    args: Any = (),
    jac: Callable[..., Any] | bool | None = None,
    maxiter: int | None = None,
    tol: float | None = None,
    gtol: float | None = None,
    ftol: float | None = None,
    xtol: float | None = None,
    callback: Callable[..., Any] | None = None,
    progress: bool = False,
    scheduler: Callable[[Optimizer], Any] | None = None,
    **options: Any,
) -> MinimizeResult:
    r"""Minimize a function with one of the optimizers.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns the value, a real number. It is given copies of its own.
    x0 : array, or nested dicts, lists and tuples of arrays
        Where to begin; `fun` gets `x` in the same structure. Arrays of any library, of any shape
        and floating-point dtype; NumPy's integers, and numbers, become float64. A nested list of
        nothing but numbers is one array. It is not changed.
    algorithm : subclass of Optimizer, default Adam
        How to step.
    args : tuple, optional
        Further arguments of `fun` and `jac`.
    jac : callable, True or None
        ``jac(x, *args)`` returns the gradient, in the structure of `x` (None in it: this array is
        not moved). True: `fun` returns the value and the gradient. None, the default: by forward
        differences of float64 NumPy arrays, one evaluation for each number, which needs SciPy.
    maxiter : int, default 10,000
        The most steps.
    tol, gtol : float, default 1e-5
        Stop where no element of the gradient is larger. `tol` stands for a `gtol` not given.
    ftol : float, optional
        Stop after a step where :math:`|f_{k+1} - f_k| \le \text{ftol} \max(|f_k|, |f_{k+1}|, 1)`.
    xtol : float, optional
        Stop after a step where :math:`\lVert x_{k+1} - x_k \rVert_2 \le \text{xtol} (\text{xtol} +
        \lVert x_{k+1} \rVert_2)`.
    callback : callable, optional
        Called after each step, as SciPy does: ``callback(x)`` or, if that is the name of its only
        parameter, ``callback(intermediate_result=result)``. It stops the run by raising
        StopIteration, or by returning True.
    progress : bool, default False
        Whether to show a bar with the value and the largest element of the gradient.
    scheduler : callable, optional
        Makes a learning-rate scheduler of the optimizer: ``lambda opt: StepLR(opt, 100)``. It is
        stepped after each step (with the value, if it looks at one).
    **options
        Those of the algorithm: ``lr=0.1``.

    Returns
    -------
    MinimizeResult
        Of the point where a tolerance was met. If none was, of the point with the lowest value that
        a step has led to, since these methods do not descend in every step.

    Raises
    ------
    TypeError
        If `fun`, `jac`, `callback` or `scheduler` is not callable, `fun` returns no number, `x0`
        holds no array, or a gradient has another structure.
    ValueError
        If an option, a tolerance or `maxiter` is out of its range, or `maximize` is set.
    RuntimeError
        If a gradient has another shape, or cannot be cast to the dtype of its array.
    ImportError
        If SciPy or tqdm is needed and not installed.

    Notes
    -----
    Where the value or the gradient is not finite, the run ends, with status 3.

    An iteration is a step of the optimizer. One of LBFGS has up to `max_iter` iterations of its
    own, with several evaluations each; where it does not move `x`, the run ends with status 2. Its
    own tolerances are `gtol` and zero, unless they are given.

    Examples
    --------
    The minimum of Rosenbrock's function, at (1, 1):

    >>> import numpy as np
    >>> import arrayopt
    >>> def rosen(x):
    ...     residual = x[1] - x[0] ** 2
    ...     grad = [-2 * (1 - x[0]) - 400 * x[0] * residual, 200 * residual]
    ...     return (1 - x[0]) ** 2 + 100 * residual**2, np.array(grad)
    >>> result = arrayopt.minimize(rosen, [-1.2, 1.0], lr=0.02, jac=True)
    >>> result.x.round(3), result.success
    (array([1., 1.]), True)
    >>> result = arrayopt.minimize(
    ...     rosen, [-1.2, 1.0], arrayopt.LBFGS, jac=True, line_search_fn="strong_wolfe"
    ... )
    >>> result.x.round(5), result.message
    (array([1., 1.]), 'Optimization terminated successfully: the gradient is within gtol=1e-05.')

    Of several arrays:

    >>> def fun(x):
    ...     return ((x["w"] - 3) ** 2).sum() + (x["b"] + 1) ** 2
    >>> def jac(x):
    ...     return {"w": 2 * (x["w"] - 3), "b": 2 * (x["b"] + 1)}
    >>> start = {"w": np.zeros(2), "b": 0.0}
    >>> result = arrayopt.minimize(fun, start, arrayopt.SGD, jac=jac, lr=0.25)
    >>> result.x["w"].round(4), result.x["b"].round(4)
    (array([3., 3.]), np.float64(-1.0))
    """
    return run(  # type: ignore[no-any-return]
        Objective(fun, jac, args, x0),
        algorithm,
        options,
        tolerances=Tolerances.read(tol, gtol, ftol, xtol),
        maxiter=maxiter,
        callback=callback,
        scheduler=scheduler,
        progress=progress,
        record=MinimizeResult,
    )
