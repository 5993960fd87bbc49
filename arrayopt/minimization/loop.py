"""The loop of `minimize`: step after step, until something says that it is enough."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from arrayopt.extras import progress_bar
from arrayopt.minimization.objective import Objective, Point, norm, same
from arrayopt.optimizer import Optimizer
from arrayopt.options import check_integer, check_number

__all__ = ["MinimizeResult", "Tolerances", "build", "follow_schedule", "run"]

#: By default: as BFGS of SciPy has it, and a bound that slow first-order methods can do with.
GTOL = 1e-5
MAXITER = 10_000


class Ending(NamedTuple):
    """Why a run has ended."""

    status: int
    message: str


CONVERGED = "Optimization terminated successfully: {}."
MAXIMUM = Ending(1, "Maximum number of iterations has been exceeded.")
STALLED = Ending(2, "The last step has not moved x; a further one would not either.")
#: The status where something is not finite.
NOT_FINITE = 3
STOPPED = Ending(99, "`callback` raised `StopIteration`.")
STOPPED_BY_TRUE = Ending(99, "`callback` returned True.")


@dataclass
class MinimizeResult:
    """What `minimize` has found, under the names that SciPy gives it.

    Attributes
    ----------
    x : array or nested containers
        The point, of the structure of ``x0``.
    fun : float
        The value of the function at `x`.
    jac : array or nested containers
        The gradient at `x`.
    nit, nfev, njev : int
        How many steps have been taken, and how often the function and its gradient have been
        computed.
    status : int
        0: a tolerance was met; 1: `maxiter` steps; 2: a step did not move `x`; 3: something was not
        finite; 99: the callback stopped it; -1: it still goes on.
    success : bool
        Whether a tolerance was met.
    message : str
        The reason why it ended.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> def fun(x):
    ...     return float(np.sum((x - 1) ** 2))
    >>> def jac(x):
    ...     return 2 * (x - 1)
    >>> result = arrayopt.minimize(fun, np.zeros(2), arrayopt.SGD, jac=jac, lr=0.5)
    >>> result.x, result.nit, result.success
    (array([1., 1.]), 1, True)
    """

    x: Any
    fun: float
    jac: Any
    nit: int
    nfev: int
    njev: int
    status: int = -1
    success: bool = False
    message: str = ""


@dataclass(frozen=True)
class Tolerances:
    """When a point is good enough; see `minimize`.

    Raises
    ------
    ValueError
        If one is negative, or no number.
    """

    gtol: float = GTOL
    ftol: float | None = None
    xtol: float | None = None

    @classmethod
    def read(cls, tol: Any, gtol: Any, ftol: Any, xtol: Any) -> Tolerances:
        """The tolerances that were asked for: `tol` stands for a `gtol` that is not given."""
        given = {"tol": tol, "gtol": gtol, "ftol": ftol, "xtol": xtol}
        checked = {n: None if v is None else check_number(n, v, 0) for n, v in given.items()}
        general = GTOL if checked["tol"] is None else checked["tol"]
        gtol = general if checked["gtol"] is None else checked["gtol"]
        return cls(gtol, checked["ftol"], checked["xtol"])

    def met(self, point: Point, last: Point | None) -> Ending | None:
        """The ending, if a tolerance is met at a point that a step has led to from the last one."""
        if point.gradient_norm <= self.gtol:
            return Ending(0, CONVERGED.format(f"the gradient is within gtol={self.gtol:g}"))
        if last is None:
            return None
        size = max(abs(last.fun), abs(point.fun), 1.0)
        if self.ftol is not None and abs(last.fun - point.fun) <= self.ftol * size:
            return Ending(0, CONVERGED.format(f"the value changed within ftol={self.ftol:g}"))
        if self.xtol is not None:
            change = norm([new - old for new, old in zip(point.x, last.x)], 2.0)
            if change <= self.xtol * (self.xtol + norm(point.x, 2.0)):
                return Ending(0, CONVERGED.format(f"x changed within xtol={self.xtol:g}"))
        return None


def run(
    objective: Objective,
    algorithm: type[Optimizer],
    options: dict[str, Any],
    *,
    tolerances: Tolerances,
    maxiter: int | None,
    callback: Any,
    scheduler: Any,
    progress: Any,
    record: Callable[..., Any],
) -> Any:
    """Minimize a function.

    Parameters
    ----------
    objective : Objective
    algorithm : subclass of Optimizer
    options : dict
        Those of the algorithm.
    tolerances : Tolerances
    maxiter, callback, scheduler, progress
        As `minimize` takes them.
    record : callable
        Makes a result of its fields.
    """
    maxiter = MAXITER if maxiter is None else check_integer("maxiter", maxiter, 0)
    own = {"tolerance_grad": tolerances.gtol, "tolerance_change": 0.0}  # of LBFGS, for one
    optimizer = build(algorithm, zip(objective.names, objective.params), options, defaults=own)
    schedule, ask = follow_schedule(scheduler, optimizer), _callback(callback)

    def describe(point: Point, nit: int, **ending: Any) -> Any:
        x, jac = objective.structured(point.x), objective.structured(point.jac)
        counts = {"nit": nit, "nfev": objective.nfev, "njev": objective.njev}
        return record(x=x, fun=point.fun, jac=jac, **counts, **ending)

    with _bar(progress, maxiter, algorithm.__name__) as show:

        def after_step(point: Point, last: Point, nit: int) -> Ending | None:
            schedule(point.fun)
            show(point)
            ending = ask(functools.partial(describe, point, nit)) or tolerances.met(point, last)
            stalled = needs_closure(algorithm) and same(point.x, last.x)
            return STALLED if ending is None and stalled else ending

        begin = functools.partial(tolerances.met, last=None)
        point, nit, (status, message) = _descend(objective, optimizer, maxiter, begin, after_step)
    return describe(point, nit, status=status, success=status == 0, message=message)


def _descend(
    objective: Objective,
    optimizer: Optimizer,
    maxiter: int,
    begin: Callable[[Point], Ending | None],
    after_step: Callable[[Point, Point, int], Ending | None],
) -> tuple[Point, int, Ending]:
    """Step until one of two functions gives an ending: the point to return, and the steps taken."""

    def value_and_grads() -> tuple[float, list[Any]]:
        here = objective.look()
        return here.fun, here.jac

    point = best = objective.look()
    if not point.finite:
        return point, 0, Ending(NOT_FINITE, "The value or the gradient is not finite at x0.")
    ending, nit = begin(point), 0
    while ending is None and nit < maxiter:
        last = point
        optimizer.step(value_and_grads)
        point, nit = objective.look(), nit + 1
        if not point.finite:
            why = f"The value or the gradient is not finite after {nit} steps"
            return best, nit, Ending(NOT_FINITE, f"{why}; x is the best before.")
        best = point if point.fun <= best.fun else best
        ending = after_step(point, last, nit)
    ending = ending or MAXIMUM
    return (point if ending.status == 0 else best), nit, ending


def build(
    algorithm: Any, params: Any, options: dict[str, Any], defaults: dict[str, Any] | None = None
) -> Optimizer:
    """An optimizer that minimizes.

    Parameters
    ----------
    algorithm : subclass of Optimizer
    params : iterable
        What its constructor takes.
    options : dict
        Its options.
    defaults : dict, optional
        Those of options that are not given, if the algorithm has them.

    Raises
    ------
    TypeError
        If `algorithm` is no optimizer class.
    ValueError
        If it is to maximize.
    """
    if not (isinstance(algorithm, type) and issubclass(algorithm, Optimizer)):
        raise TypeError(
            f"algorithm: expected an optimizer class, such as arrayopt.Adam, but got {algorithm!r}"
        )
    if options.get("maximize"):
        raise ValueError("maximize=True: minimize the negative of the function instead")
    known = inspect.signature(algorithm).parameters
    own = {name: value for name, value in (defaults or {}).items() if name in known}
    return algorithm(list(params), **own | options)


def needs_closure(algorithm: type[Optimizer]) -> bool:
    """Whether an algorithm looks at several points in a step, and sees that none is better."""
    return not algorithm.has_rule()


def follow_schedule(scheduler: Any, optimizer: Optimizer) -> Callable[[float], None]:
    """What to do after each step: some schedulers look at the value."""
    if scheduler is None:
        return lambda value: None
    if not callable(scheduler):
        raise TypeError(
            "scheduler: expected a function that makes a scheduler of an optimizer, such as "
            f"lambda opt: CosineWarmupLR(opt, 10, 100), but got {type(scheduler).__name__}"
        )
    made = scheduler(optimizer)
    step = getattr(made, "step", None)
    if step is None:
        raise TypeError(
            f"scheduler: expected a function that returns a scheduler, but it returned "
            f"{type(made).__name__}"
        )
    wants_value = "metrics" in inspect.signature(step).parameters
    return lambda value: step(value) if wants_value else step()


def _callback(callback: Any) -> Callable[[Callable[[], Any]], Ending | None]:
    """A callback in either of SciPy's conventions, as a function that tells whether to stop."""
    if callback is None:
        return lambda describe: None
    if not callable(callback):
        raise TypeError(f"callback: expected a function, but got {type(callback).__name__}")
    try:
        by_keyword = {*inspect.signature(callback).parameters} == {"intermediate_result"}
    except ValueError:  # a function written in C that does not tell
        by_keyword = False

    def told(describe: Callable[[], Any]) -> Ending | None:
        result = describe()
        try:
            answer = callback(intermediate_result=result) if by_keyword else callback(result.x)
        except StopIteration:
            return STOPPED
        return STOPPED_BY_TRUE if isinstance(answer, (bool, np.bool_)) and answer else None

    return told


@contextlib.contextmanager
def _bar(progress: Any, total: int, name: str) -> Iterator[Callable[[Point], None]]:
    """What shows a point, on a bar if there is to be one."""
    if not progress:
        yield lambda point: None
        return
    with progress_bar(total=total, desc=name, unit="step") as bar:

        def show(point: Point) -> None:
            bar.update()
            bar.set_postfix(fun=f"{point.fun:.6g}", gradient=f"{point.gradient_norm:.2e}")

        yield show
