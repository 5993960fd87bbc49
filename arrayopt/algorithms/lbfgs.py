"""L-BFGS: quasi-Newton steps from a short memory of gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from arrayopt.flat import Flat, absolute_sum, add, axpy, dot, largest
from arrayopt.groups import Group
from arrayopt.hooks import Closure, evaluate
from arrayopt.line_search import Trial, strong_wolfe
from arrayopt.namespace import Array, beside, castable, convert, is_array, is_sparse
from arrayopt.optimizer import Optimizer
from arrayopt.options import Range, check_count, is_number, python_number
from arrayopt.state import state_number

__all__ = ["LBFGS"]

#: The least product of a step and its change of the gradient that is remembered.
MIN_CURVATURE = 1e-10

#: The state: what there always is, and what there is after the first iteration.
COUNTS = ("func_evals", "n_iter")
NUMBERS = ("t", "H_diag", "prev_loss")
VECTORS = ("d", "prev_flat_grad")
LISTS = ("old_dirs", "old_stps")
HISTORY = (*NUMBERS, *VECTORS, *LISTS, "ro")

_ONE_GROUP = "LBFGS doesn't support per-parameter options (parameter groups)"


class LBFGS(Optimizer):
    r"""L-BFGS: steps along an estimate of Newton's direction, from the last few gradients.

    With the loss :math:`f` of all parameters as one vector :math:`x_k`, its gradient :math:`g_k`,
    learning rate :math:`\gamma` and the estimate :math:`H_k` of the inverse Hessian:

    .. math::

        d_k &= -H_k g_k, \qquad x_{k+1} = x_k + t_k d_k \\
        s_k &= x_{k+1} - x_k, \quad y_k = g_{k+1} - g_k, \quad \rho_k = 1 / y_k^T s_k \\
        H_{k+1} &= (I - \rho_k s_k y_k^T) H_k (I - \rho_k y_k s_k^T) + \rho_k s_k s_k^T

    :math:`H` is never formed: the update is applied for the last `history_size` pairs
    :math:`(s, y)`, beginning from :math:`(s^T y / y^T y) I` of the newest, and to the gradient
    alone. Pairs with :math:`y^T s \le 10^{-10}` are left out. With ``line_search_fn=None``, the
    step length is

    .. math::

        t_0 &= \gamma \min(1, 1 / \lVert g_0 \rVert_1) \\
        t_k &= \gamma \qquad (k > 0)

    With ``line_search_fn="strong_wolfe"``, this is where the search for one begins that satisfies

    .. math::

        f(x_k + t_k d_k) &\le f(x_k) + 10^{-4} t_k g_k^T d_k \\
        |g(x_k + t_k d_k)^T d_k| &\le 0.9 |g_k^T d_k|

    Parameters
    ----------
    params : iterable
        What to optimize, in one group; see `Optimizer`. They have to belong to one array library
        and device, and may differ in dtype.
    lr : float or 0-d array, default 1
        Learning rate :math:`\gamma \ge 0`.
    max_iter : int, default 20
        The most iterations in a step, at least 1.
    max_eval : int, optional
        A step ends after the iteration that comes to this number of evaluations, at least 1. By
        default ``max_iter * 5 // 4``.
    tolerance_grad : float, default 1e-7
        A step ends where no element of the gradient is larger.
    tolerance_change : float, default 1e-9
        A step ends where neither parameter nor loss changes by more, or the slope
        :math:`g_k^T d_k` is less steep.
    history_size : int, default 100
        The number of pairs to remember, at least 1.
    line_search_fn : {"strong_wolfe"} or None, default None
        How to find the step length.

    Raises
    ------
    ValueError
        If an option is out of its range or NaN, or there are several groups.
    TypeError
        If `max_iter`, `max_eval` or `history_size` is not an int.
    RuntimeError
        If there is no such line search, or the parameters are of several libraries or devices.
        See also `Optimizer`.

    Notes
    -----
    State, under the first parameter: the ints ``func_evals`` and ``n_iter``; the vectors ``d`` and
    ``prev_flat_grad`` (:math:`d_k, g_k` of the last iteration); the lists ``old_stps`` (:math:`s`),
    ``old_dirs`` (:math:`y`) and ``ro`` (:math:`\rho`), the oldest first; the floats ``t``,
    ``H_diag`` and ``prev_loss``. Vectors hold the elements of all parameters one after another, a
    complex number as two reals, in the widest dtype among the parameters, at least float32.

    What is not finite is never kept. A step that begins at a loss or gradient that is not finite
    changes nothing. If one turns up later, the line search takes a shorter step; without a line
    search, the parameters go back to the last good point, the iteration is forgotten, and the step
    ends. Hence a later step can go on, with a lower learning rate for instance. (Without a line
    search, the last of `max_iter` iterations does not look at the point that it moves to; the next
    step does, and goes back from there if need be: until then, ``origin`` in the state is the point
    before.) A direction that overflows ends the step, too, and clears the memory. If the closure
    raises, the parameters go back to the last good point likewise, and what was learnt until then
    is kept.

    A parameter without a gradient counts as one with gradient zero; a frozen one stays as it is.

    On a GPU, vectors stay there; but how a step goes on depends on the loss, on slopes and on the
    largest element of the gradient. These are read at every evaluation, and the host waits.

    References
    ----------
    Liu and Nocedal (1989), "On the limited memory BFGS method for large scale optimization",
    Mathematical Programming 45. Nocedal and Wright (2006), "Numerical optimization", 2nd edition,
    Springer, algorithms 7.4 and 7.5 (the direction), 3.5 and 3.6 (the line search), where
    :math:`d_k` is called :math:`p_k` and :math:`t_k` is :math:`\alpha_k`. As in torch, there is a
    learning rate, the first step is scaled by the gradient's norm, and pairs of small
    :math:`y^T s` are left out.

    Examples
    --------
    The minimum of Rosenbrock's function:

    >>> import numpy as np
    >>> import arrayopt as optim
    >>> w = np.array([-1.2, 1.0])
    >>> def closure():
    ...     x, y = w
    ...     grad = [2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2)]
    ...     return (1 - x) ** 2 + 100 * (y - x**2) ** 2, [np.array(grad)]
    >>> opt = optim.LBFGS([w], max_iter=50, tolerance_change=1e-12, line_search_fn="strong_wolfe")
    >>> float(opt.step(closure).round(4))  # the loss before the step
    24.2
    >>> w.round(6)
    array([1., 1.])
    """

    ranges = (
        Range("lr", "learning rate"),
        Range("tolerance_grad", "tolerance_grad"),
        Range("tolerance_change", "tolerance_change"),
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Array = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: Literal["strong_wolfe"] | None = None,
    ) -> None:
        if max_eval is None and isinstance(max_iter, int):
            max_eval = _max_eval(max_iter, None)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        if not self.param_groups[0]["params"]:
            raise ValueError("optimizer got an empty parameter list")
        self._flat()

    def check_group(self, group: Group, where: str = "") -> None:
        for option in ("max_iter", "max_eval", "history_size"):
            if not (option == "max_eval" and group[option] is None):
                check_count(option, group[option], 1, where)
        super().check_group(group, where)
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise RuntimeError(
                "only 'strong_wolfe' is supported as line_search_fn, but got "
                f"{group['line_search_fn']!r}{where}; None takes steps of length lr"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raise: there is one group, that of the constructor.

        Raises
        ------
        ValueError
        """
        if self.param_groups:
            raise ValueError(_ONE_GROUP)
        super().add_param_group(param_group)

    def _flat(self) -> Flat:
        group = self.param_groups[0]
        params = group["params"]
        return Flat(params, [self._label(group, 0, index) for index in range(len(params))])

    def step(self, closure: Closure | None = None, *, grads: None = None) -> Any:
        """Take one step, of up to ``max_iter`` iterations, in place.

        Parameters
        ----------
        closure : callable
            Called at every point that is looked at. It sets the gradients and returns the loss,
            or returns ``(loss, grads)``.
        grads : None
            Gradients of one point are not enough: the closure has to give them.

        Returns
        -------
        loss
            What the closure returned as the loss when it was called first, before any update.

        Raises
        ------
        TypeError
            If there is no closure, or what it returns is no loss, or a gradient is no array of
            the parameter's library.
        RuntimeError
            If there is no gradient at all, or one has another shape or device, or cannot be cast
            to the dtype of its parameter; or if there is a `grad_scale` or `found_inf`.
        ValueError
            If an option is out of its range, or a parameter cannot be written to.
        """
        if grads is not None or not callable(closure):
            got = "grads" if grads is not None else type(closure).__name__
            raise TypeError(
                "LBFGS looks at several points in a step, so it needs a closure that returns the "
                f"loss or (loss, grads): step(closure); but got {got}"
            )
        if self._scaling() is not None:
            raise RuntimeError(
                "LBFGS takes no grad_scale and no found_inf, since it looks at several points in a "
                "step: let the closure return gradients without a scale"
            )
        if len(self.param_groups) != 1:
            raise ValueError(f"{_ONE_GROUP}: expected one, but got {len(self.param_groups)}")
        options, flat = self._options(self.param_groups[0], 0), self._flat()
        first = flat.params[0]
        state = self.state.get(first, {})
        if "d" in state and tuple(state["d"].shape) != (flat.size,):
            raise ValueError(
                f"{flat.labels[0]}: the state is of {state['d'].shape[0]} numbers, but the "
                f"parameters now hold {flat.size}; begin with a new optimizer"
            )

        def look() -> tuple[Any, float, Array]:
            loss, grads = evaluate(closure, None)
            (own,) = self._gradients(grads)
            if all(grad is None for grad in own):
                raise RuntimeError(
                    "the closure has left no gradient: it has to set .grad of the parameters, or "
                    "to return (loss, grads)"
                )
            value, grad = _number(loss), flat.gradient(own)
            state["func_evals"] = state.get("func_evals", 0) + 1
            state.setdefault("n_iter", 0)
            self.state[first] = state
            return loss, value, grad

        with beside(flat.like):
            first_loss, loss, grad = look()
            _minimize(flat, loss, grad, lambda: look()[1:], state, options)
        return first_loss

    # Saving and loading

    def prepare_load(
        self,
        state_dict: Mapping[str, Any],
        *,
        by: Literal["order", "name"] | None = None,
        keep_options: bool = False,
    ) -> Callable[[], None]:
        """Check what `state_dict` returned, as `Optimizer.prepare_load` does.

        Raises
        ------
        ValueError, TypeError, KeyError
            As there; and a ValueError if the parameters are in another order, whatever `by`, or
            a number of the state is not finite.
        """
        saved = [g for g in state_dict["param_groups"] if isinstance(g, Mapping)]
        own_names, saved_names = (
            [name for group in groups for name in group.get("param_names", ())]
            for groups in (self.param_groups, saved)
        )
        if by == "name" and own_names != saved_names and set(own_names) == set(saved_names):
            raise ValueError(
                "LBFGS keeps the state of all parameters in one vector: expected them in the order "
                f"{own_names}, but the loaded ones are in the order {saved_names}"
            )
        return super().prepare_load(state_dict, by=by, keep_options=keep_options)

    def read_state(self, saved: Any, param: Any, label: str) -> dict[str, Any]:
        flat = self._flat()
        if param is not flat.params[0]:
            raise ValueError(
                f"{label}: expected no state, since LBFGS keeps all of it under the first "
                f"parameter, but got {_kind(saved)}; was it saved by another one?"
            )
        with beside(flat.like):
            return _read_state(saved, flat)


# The algorithm


def _minimize(
    flat: Flat,
    loss: float,
    grad: Array,
    look: Callable[[], tuple[float, Array]],
    state: dict[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Iterate from a point whose loss and gradient are known. Each iteration counts or does not."""
    max_iter, tolerance_change = options["max_iter"], options["tolerance_change"]
    last_eval = state["func_evals"] - 1 + _max_eval(max_iter, options["max_eval"])
    origin = state.pop("origin", None)
    if origin is not None and not (math.isfinite(loss) and math.isfinite(largest(grad))):
        flat.move(origin)
        _take_back(state)
        return
    for iteration in range(1, max_iter + 1):
        if not math.isfinite(loss) or not options["tolerance_grad"] < largest(grad) < math.inf:
            return
        begins = "d" not in state
        history = _remember(state, grad, options["history_size"])
        line = _Line(flat, flat.hold(direction(history, grad)), look)
        start = Trial(0.0, loss, dot(grad, line.direction), grad)
        if not math.isfinite(line.reach):
            _forget(state)
            return
        if not start.slope <= -tolerance_change:
            _commit(state, history, line.direction, start, start)
            return
        step = options["lr"] * (min(1.0, 1.0 / absolute_sum(grad)) if begins else 1.0)
        if not math.isfinite(step * line.reach):
            return
        budget = last_eval - state["func_evals"] if options["line_search_fn"] else None
        unseen = budget is None and iteration == max_iter
        trial = _advance(line, start, step, budget, unseen)
        if trial is None:
            return
        _commit(state, history, line.direction, start, trial)
        if unseen:
            state["origin"] = line.origin
        if (
            state["func_evals"] >= last_eval
            or abs(trial.step) * line.reach <= tolerance_change
            or abs(trial.loss - loss) < tolerance_change
        ):
            return
        loss, grad = trial.loss, trial.grad


def _advance(
    line: _Line, start: Trial, step: float, budget: int | None, unseen: bool
) -> Trial | None:
    """Go to the next point: of a line search with a budget, or one step on, which may be unseen.

    If something is not finite there, or an exception is raised, the parameters go back to where
    they were.
    """
    try:
        if budget is not None:
            trial = strong_wolfe(line.search, start, step, line.reach, budget)
            line.go(trial.step)
        elif unseen:
            trial = start._replace(step=step)
            line.go(step)
        else:
            trial = line.walk(step)
    except BaseException:
        line.go(0.0)
        raise
    if math.isfinite(trial.loss) and not (unseen and line.has_overflowed()):
        return trial
    line.go(0.0)
    return None


class _History(NamedTuple):
    """What is known of the Hessian: changes of the gradient, the steps that made them, 1/yᵀs."""

    changes: list[Array]
    steps: list[Array]
    rho: list[float]
    scale: float


@np.errstate(all="ignore")
def direction(history: _History, grad: Array) -> Array:
    """Newton's direction as far as `history` knows it: algorithm 7.4."""
    pairs = list(zip(history.changes, history.steps, history.rho))
    d = -grad
    weights = []
    for change, step, rho in reversed(pairs):
        weights.append(rho * dot(step, d))
        d = axpy(-weights[-1], change, d)
    d = history.scale * d
    for (change, step, rho), weight in zip(pairs, reversed(weights)):
        d = axpy(weight - rho * dot(change, d), step, d)
    return d


@np.errstate(all="ignore")
def _remember(state: Mapping[str, Any], grad: Array, size: int) -> _History:
    """The history with what the last iteration has shown."""
    if "d" not in state:
        return _History([], [], [], 1.0)
    changes, steps, rho = state["old_dirs"], state["old_stps"], state["ro"]
    change, step = grad - state["prev_flat_grad"], state["t"] * state["d"]
    curvature = dot(change, step)
    if not MIN_CURVATURE < curvature < math.inf:
        return _History(changes, steps, rho, state["H_diag"])
    square = dot(change, change)
    if not 0 < square < math.inf:
        return _History(changes, steps, rho, state["H_diag"])
    return _History(
        [*changes, change][-size:],
        [*steps, step][-size:],
        [*rho, 1.0 / curvature][-size:],
        curvature / square,
    )


def _commit(
    state: dict[str, Any], history: _History, direction: Array, start: Trial, end: Trial
) -> None:
    """Keep what an iteration has brought."""
    state["n_iter"] += 1
    state |= {
        "d": direction,
        "t": end.step,
        "old_dirs": history.changes,
        "old_stps": history.steps,
        "ro": history.rho,
        "H_diag": history.scale,
        "prev_flat_grad": start.grad,
        "prev_loss": start.loss,
    }


def _take_back(state: dict[str, Any]) -> None:
    """Forget the last iteration, which led to a bad point."""
    state["n_iter"] -= 1
    state["t"] = 0.0
    if not state["n_iter"]:
        _forget(state)


def _forget(state: dict[str, Any]) -> None:
    """Begin anew."""
    state["n_iter"] = 0
    for name in (*HISTORY, "origin"):
        state.pop(name, None)


class _Line:
    """The points x + t d, and the parameters at one of them."""

    def __init__(
        self, flat: Flat, direction: Array, look: Callable[[], tuple[float, Array]]
    ) -> None:
        self.flat, self.direction, self.look = flat, direction, look
        self.origin = flat.position()
        self.reach = largest(direction)

    def go(self, step: float) -> None:
        """Move the parameters to a point."""
        self.flat.move(add(step, self.direction, self.origin) if step else self.origin)

    def has_overflowed(self) -> bool:
        """Whether a parameter, in the precision that it has, is not finite."""
        return not math.isfinite(largest(self.flat.position()))

    def walk(self, step: float) -> Trial:
        """Move to a point and look at it. Its loss is infinite if anything is not finite."""
        self.go(step)
        loss, grad = self.look()
        finite = math.isfinite(loss) and math.isfinite(largest(grad))
        return Trial(step, loss if finite else math.inf, math.nan, grad)

    def search(self, step: float) -> Trial:
        """The same for a line search, which wants to know the slope."""
        self.go(step)
        loss, grad = self.look()
        slope = dot(grad, self.direction)
        finite = math.isfinite(loss) and math.isfinite(slope)  # and so is the gradient
        return Trial(step, loss if finite else math.inf, slope, grad)


# Numbers and what was saved


def _number(loss: Any) -> float:
    """A loss as a Python float."""
    number = python_number(loss)
    if not is_number(number):
        raise TypeError(
            "closure must return the loss, a real number, or (loss, grads), but it returned "
            f"{_kind(loss)} as the loss"
        )
    return float(number)


def _max_eval(max_iter: int, max_eval: int | None) -> int:
    """The bound on evaluations, which has a default."""
    return max(1, max_iter * 5 // 4) if max_eval is None else max_eval


def _read_state(saved: Any, flat: Flat) -> dict[str, Any]:
    """A copy of the state that was saved, checked, in the terms of `flat`."""
    where = flat.labels[0]
    # (al is torch's scratch)
    names = set(saved) - {"al", "origin"} if isinstance(saved, Mapping) else set()
    if names not in ({*COUNTS}, {*COUNTS, *HISTORY}):
        got = sorted(map(str, saved)) if isinstance(saved, Mapping) else _kind(saved)
        raise ValueError(
            f"{where}: expected the state {sorted(COUNTS)}, and perhaps {sorted(HISTORY)}, but got "
            f"{got}; was it saved by another optimizer?"
        )
    state: dict[str, Any] = {
        name: check_count(f"state {name!r}", saved[name], 0, f" for {where}") for name in COUNTS
    }
    if "d" not in names:
        return state
    unseen = {"origin"} & set(saved)
    for name in (*LISTS, "ro"):
        if not isinstance(saved[name], list | tuple):
            raise TypeError(
                f"{where}: expected a list as state {name!r}, but got {_kind(saved[name])}"
            )
    lengths = {name: len(saved[name]) for name in (*LISTS, "ro")}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}: expected lists of equal length, but got {lengths}")
    return (
        state
        | {name: _read_vector(saved[name], name, flat) for name in (*VECTORS, *unseen)}
        | {name: [_read_vector(value, name, flat) for value in saved[name]] for name in LISTS}
        | {name: _read_number(saved[name], name, where) for name in NUMBERS}
        | {"ro": [_read_number(value, "ro", where) for value in saved["ro"]]}
    )


def _read_number(value: Any, name: str, where: str) -> float:
    number = state_number(value, name, where)
    if not math.isfinite(number):
        raise ValueError(f"{where}: expected a finite number as state {name!r}, but got {number}")
    return float(number)


def _read_vector(value: Any, name: str, flat: Flat) -> Array:
    where = flat.labels[0]
    if not is_array(value) or is_sparse(value):
        raise TypeError(
            f"{where}: expected a dense array as state {name!r}, but got {_kind(value)}"
        )
    if tuple(value.shape) != (flat.size,):
        raise ValueError(
            f"{where}: expected state {name!r} of shape {(flat.size,)}, one number for each of all "
            f"parameters, but got shape {tuple(value.shape)}"
        )
    if not castable(value, flat.like):
        raise TypeError(
            f"{where}: state {name!r} of dtype {value.dtype} cannot be cast to {flat.like.dtype}"
        )
    with np.errstate(all="ignore"):
        vector = convert(value, flat.like)
    if not math.isfinite(largest(vector)):
        raise ValueError(f"{where}: expected finite numbers as state {name!r}, but got others")
    return vector


def _kind(value: Any) -> str:
    return type(value).__name__
