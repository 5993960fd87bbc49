"""The optimizers as methods of ``scipy.optimize.minimize``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from arrayopt.minimization.loop import Tolerances, build, run
from arrayopt.minimization.objective import Objective
from arrayopt.optimizer import Optimizer

__all__ = ["scipy_method"]


def scipy_method(
    algorithm: type[Optimizer],
    *,
    scheduler: Callable[[Optimizer], Any] | None = None,
    **options: Any,
) -> Callable[..., Any]:
    """An optimizer as a method of ``scipy.optimize.minimize``.

    What is passed to ``scipy.optimize.minimize`` means what it means there: ``args``, ``jac`` (a
    function, True, or None for forward differences), ``tol``, ``callback`` (in both forms; it stops
    the run by raising StopIteration, or by returning True). Its ``options`` are ``maxiter``,
    ``gtol``, ``ftol``, ``xtol`` and ``progress``, as `minimize` takes them, and ``disp``, which
    prints a summary. Others bring an ``OptimizeWarning``.

    Parameters
    ----------
    algorithm : subclass of Optimizer
        How to step.
    scheduler : callable, optional
        Makes a learning-rate scheduler of the optimizer; see `minimize`.
    **options
        Those of the algorithm: ``lr=0.1``.

    Returns
    -------
    callable
        What ``scipy.optimize.minimize`` takes as ``method``. Its result is an ``OptimizeResult``,
        of the point and with the status that `minimize` tells.

    Raises
    ------
    TypeError, ValueError
        If `algorithm` is no optimizer class, or an option is out of its range. When it minimizes:
        as `minimize`, and a ValueError if there are bounds or constraints.

    Examples
    --------
    >>> import arrayopt
    >>> from scipy.optimize import minimize, rosen, rosen_der
    >>> adam = arrayopt.scipy_method(arrayopt.Adam, lr=0.02)
    >>> result = minimize(rosen, [-1.2, 1.0], jac=rosen_der, method=adam, options={"maxiter": 5000})
    >>> result.x.round(3), result.success
    (array([1., 1.]), True)
    """
    build(algorithm, [np.zeros(1)], options)  # are they fine?

    def method(
        fun: Callable[..., Any],
        x0: Any,
        args: Any = (),
        *,
        jac: Any = None,
        hess: Any = None,
        hessp: Any = None,
        bounds: Any = None,
        constraints: Any = (),
        callback: Any = None,
        maxiter: int | None = None,
        tol: float | None = None,
        gtol: float | None = None,
        ftol: float | None = None,
        xtol: float | None = None,
        disp: bool = False,
        progress: bool = False,
        **unknown: Any,
    ) -> Any:
        from scipy.optimize import OptimizeResult, OptimizeWarning

        _refuse(algorithm.__name__, bounds=bounds, constraints=constraints)
        for name, value in {"hess": hess, "hessp": hessp}.items():
            if value is not None:
                message = f"Method {algorithm.__name__} does not use {name}."
                warnings.warn(message, RuntimeWarning, stacklevel=3)
        if unknown:
            message = f"Unknown solver options: {', '.join(unknown)}"
            warnings.warn(message, OptimizeWarning, stacklevel=3)
        result = run(
            Objective(fun, jac, args, x0),
            algorithm,
            options,
            tolerances=Tolerances.read(tol, gtol, ftol, xtol),
            maxiter=maxiter,
            callback=callback,
            scheduler=scheduler,
            progress=progress,
            record=OptimizeResult,
        )
        if disp:
            print(_summary(result))
        return result

    return method


def _refuse(name: str, **given: Any) -> None:
    """Raise if the domain is to be bounded."""
    for kind, value in given.items():
        if value is not None and not (isinstance(value, (list, tuple, dict)) and not value):
            raise ValueError(
                f"{name} minimizes without bounds and constraints, but got {kind}={value!r}; use a "
                "method of SciPy's that takes them, or a change of variables"
            )


def _summary(result: Any) -> str:
    return (
        f"{result.message}\n"
        f"         Current function value: {result.fun:f}\n"
        f"         Iterations: {result.nit}\n"
        f"         Function evaluations: {result.nfev}\n"
        f"         Gradient evaluations: {result.njev}"
    )
