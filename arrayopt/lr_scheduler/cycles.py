"""Schedules that move the rate and, the other way, the momentum: cyclical rates and 1cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from arrayopt.groups import Group
from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import NUMBERS, Steps
from arrayopt.lr_scheduler.base import LRScheduler
from arrayopt.lr_scheduler.checks import check_last_epoch, per_group
from arrayopt.lr_scheduler.lambdas import attributes_of, check_attributes, restore_attributes
from arrayopt.options import check_choice, check_integer, check_number

__all__ = ["CyclicLR", "OneCycleLR"]


def _anneal(xp: Any, strategy: str, pct: Any, levels: Iterable[tuple[Any, Any]]) -> list[Any]:
    """The levels between each start and end when the part `pct` of the phase has passed.

    They go along half a cosine ("cos") or a line.
    """
    if strategy == "cos":
        weight = 1 + xp.cos(math.pi * pct)
        return [end + (start - end) / 2.0 * weight for start, end in levels]
    return [start + (end - start) * pct for start, end in levels]


class _Phase(NamedTuple):
    """A phase of 1cycle: its first and last step, and the levels at its start and end.

    First come those of each group's rate, and then those of its momentum, if that is cycled.
    """

    begin: float
    end: float
    levels: list[tuple[float, float]]

    def at(self, xp: Any, t: Steps, strategy: str) -> list[Any]:
        """The levels at a step; a phase that has no length is over when it begins."""
        begin, end, levels = self
        pct = 1.0 if begin == end else xp.minimum((t - begin) / (end - begin), 1.0)
        return _anneal(xp, strategy, pct, levels)


class _Cycle(LRScheduler):
    """A schedule that moves rates, and perhaps momenta, between bounds."""

    chainable = False
    max_lrs: list[float]
    base_momentums: list[float]
    max_momentums: list[float]

    def _keep(self, name: str, value: Any) -> None:
        """Check rates or momenta, given as one number or one a group, and keep them."""
        entries = [check_number(name, v, 0) for v in per_group(name, value, self.optimizer)]
        self._per_group(f"{name}s", value, entries)

    def _begin_momentum(self, cycle: bool, base: Any, high: Any) -> None:
        """Check the bounds of the momenta, and keep them, if these are to be moved."""
        self.cycle_momentum = bool(cycle)
        if not cycle:
            return
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise ValueError(
                "cycle_momentum: expected an optimizer with a momentum or betas, but "
                f"{type(self.optimizer).__name__} has neither; pass cycle_momentum=False"
            )
        self.use_beta1 = "betas" in defaults  # as torch saves it
        self._keep("base_momentum", base)
        self._keep("max_momentum", high)

    def _both(self, xp: Any, t: Steps) -> tuple[list[Any], list[Any]]:
        """The rates, and the momenta (none if they are left alone), for each group."""
        raise NotImplementedError

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        return self._both(xp, t)[0]

    def _momenta(self, xp: Any, t: Steps) -> list[Any]:
        return self._both(xp, t)[1]

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        closed, momenta = self._both(NUMBERS, step)
        groups = self.optimizer.param_groups
        if len(self.base_lrs) != len(groups):
            self._add_groups()
        for group, momentum in zip(groups, momenta):
            rates.write_momentum(group, momentum)
        self._set(step, closed, closed)

    def _write_momentum_bounds(self, group: Group, number: int) -> None:
        if self.cycle_momentum:
            group["max_momentum"] = self._all("max_momentums")[number]
            group["base_momentum"] = self._all("base_momentums")[number]

    def _add_group(self, group: Group, number: int) -> None:
        self._write_momentum_bounds(group, number)
        super()._add_group(group, number)


class CyclicLR(_Cycle):
    r"""Rates that go up and down between two bounds, and momenta that go down and up.

    With :math:`T` = `step_size_up` + `step_size_down`, the number of the cycle
    :math:`c = \lfloor 1 + t / T \rfloor`, the height :math:`h_t \in [0, 1]` that rises for
    `step_size_up` steps of the cycle and falls for `step_size_down`, and the scale :math:`s`:

    .. math::

        \gamma_t &= \texttt{base\_lr} + (\texttt{max\_lr} - \texttt{base\_lr}) \, h_t \, s \\
        \mu_t &= \texttt{max\_momentum}
            - (\texttt{max\_momentum} - \texttt{base\_momentum}) \, h_t \, s

    where :math:`s = 1` (triangular), :math:`2^{1-c}` (triangular2) or
    :math:`\texttt{gamma}^t` (exp_range).

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    base_lr, max_lr : float or list of float
        The bounds of the rate, for all groups or each, not negative.
    step_size_up : int, default 2000
        Steps from `base_lr` to `max_lr`, > 0.
    step_size_down : int, optional
        Steps back, > 0; by default as many.
    mode : {"triangular", "triangular2", "exp_range"}, default "triangular"
        What becomes of the height of the cycles: it stays, is halved at each, or is multiplied by
        `gamma` at each step.
    gamma : float, default 1.0
        For "exp_range", > 0.
    scale_fn : callable, optional
        A scale of one's own, instead of `mode`.
    scale_mode : {"cycle", "iterations"}, default "cycle"
        Whether `scale_fn` takes :math:`c` or :math:`t`.
    cycle_momentum : bool, default True
        Whether the momentum (or the first of the betas) is moved, too.
    base_momentum, max_momentum : float or list of float, default 0.8 and 0.9
        The bounds of the momentum.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range, a list has not one entry for each group, or the
        optimizer has neither momentum nor betas to be cycled.
    TypeError
        If `optimizer` is not an optimizer.

    Notes
    -----
    It sets rates and momenta, whatever another scheduler has made of them. The bounds of momenta
    are written to the groups.

    References
    ----------
    Smith (2017), "Cyclical learning rates for training neural networks", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0, momentum=0.9)
    >>> scheduler = CyclicLR(opt, base_lr=0, max_lr=1, step_size_up=2, step_size_down=4)
    >>> scheduler.lr_at(np.arange(7)).round(12)
    array([[0.  , 0.5 , 1.  , 0.75, 0.5 , 0.25, 0.  ]])
    """

    def __init__(
        self,
        optimizer: Any,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.8,
        max_momentum: float | list[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = rates.check_optimizer(optimizer)
        self._keep("base_lr", base_lr)
        self._keep("max_lr", max_lr)
        up = float(check_number("step_size_up", step_size_up, 0, ends="()"))
        down = up if step_size_down is None else step_size_down
        self.total_size = up + float(check_number("step_size_down", down, 0, ends="()"))
        self.step_ratio = up / self.total_size
        if scale_fn is None:
            check_choice("mode", mode, ("triangular", "triangular2", "exp_range"))
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.mode = mode
        self.gamma = check_number("gamma", gamma, 0, ends="()")
        self._scale_fn_custom = scale_fn
        self.scale_mode = check_choice("scale_mode", scale_mode, ("cycle", "iterations"))
        self._begin_momentum(cycle_momentum, base_momentum, max_momentum)

        check_last_epoch(last_epoch, optimizer)
        for number, group in enumerate(optimizer.param_groups):
            self._write_momentum_bounds(group, number)
            if last_epoch == -1:
                rates.write(group, self.base_lrs[number])
        super().__init__(optimizer, last_epoch)

    def _base(self, number: int, group: Group) -> float:
        return float(self._all("base_lrs")[number])

    def _both(self, xp: Any, t: Steps) -> tuple[list[Any], list[Any]]:
        cycles = 1 + t / self.total_size
        cycle = xp.floor(cycles)
        x, ratio = cycles - cycle, self.step_ratio
        height = xp.where(x <= ratio, x / ratio, (x - 1) / (ratio - 1))
        scale = self._scale(xp, cycle, t)
        lrs = [
            base + (high - base) * height * scale
            for base, high in zip(self._bases(), self._all("max_lrs"))
        ]
        if not self.cycle_momentum:
            return lrs, []
        bounds = zip(self._all("base_momentums"), self._all("max_momentums"))
        return lrs, [high - (high - base) * height * scale for base, high in bounds]

    def _scale(self, xp: Any, cycle: Any, t: Steps) -> Any:
        """What the height of a cycle is multiplied by."""
        x = cycle if self.scale_mode == "cycle" else t
        if self._scale_fn_custom is not None:
            return xp.each(self._scale_fn_custom, x)
        if self.mode == "triangular":
            return 1.0
        return 1 / xp.power(2.0, x - 1) if self.mode == "triangular2" else xp.power(self.gamma, x)

    def _span(self) -> float:
        return 3 * self.total_size + 1

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"_scale_fn_custom": attributes_of(self._scale_fn_custom)}

    def _check_state(self, state: Mapping[str, Any]) -> None:
        super()._check_state(state)
        check_attributes(self._scale_fn_custom, state["_scale_fn_custom"])

    def _restore(self, state: Mapping[str, Any]) -> None:
        restore_attributes(self._scale_fn_custom, state["_scale_fn_custom"])
        super()._restore({k: v for k, v in state.items() if k != "_scale_fn_custom"})


class OneCycleLR(_Cycle):
    r"""One cycle: up to `max_lr`, and down to almost nothing where the budget of steps ends.

    With :math:`N` = `total_steps`, :math:`p` = `pct_start`, and the way :math:`a(x, y, w)` from
    :math:`x` to :math:`y` along half a cosine, or a line:

    .. math::

        \gamma_t = \begin{cases}
            a\bigl(\gamma_0, \gamma_{\max}, t / (pN - 1)\bigr) & t \le pN - 1 \\
            a\bigl(\gamma_{\max}, \gamma_{\min}, (t - pN + 1) / (N - pN)\bigr) & \text{otherwise}
        \end{cases}

    where :math:`\gamma_0 = \gamma_{\max} / \texttt{div\_factor}` and :math:`\gamma_{\min} =
    \gamma_0 / \texttt{final\_div\_factor}`. The momentum goes from `max_momentum` down to
    `base_momentum` and up again. With `three_phase`, the way down goes to :math:`\gamma_0` first,
    in as many steps as the way up, and from there to :math:`\gamma_{\min}`.

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    max_lr : float or list of float
        :math:`\gamma_{\max} \ge 0`, for all groups or each.
    total_steps : int, optional
        The budget :math:`N`, > 0.
    epochs, steps_per_epoch : int, optional
        Instead of `total_steps`, which is their product.
    pct_start : float, default 0.3
        The part of the steps that the way up takes, in (0, 1); up to 0.5 with `three_phase`.
    anneal_strategy : {"cos", "linear"}, default "cos"
        The shape of each way: half a cosine, or a line.
    cycle_momentum : bool, default True
        Whether the momentum (or the first of the betas) is moved, too.
    base_momentum, max_momentum : float or list of float, default 0.85 and 0.95
        The bounds of the momentum.
    div_factor, final_div_factor : float, default 25.0 and 1e4
        See above, > 0.
    three_phase : bool, default False
        See above.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    ValueError
        If an argument is out of its range, a list has not one entry for each group, or the
        optimizer has neither momentum nor betas to be cycled. By `step`, if the budget is used up.
    TypeError
        If `optimizer` is not an optimizer.

    Notes
    -----
    The last rate of the budget, :math:`\gamma_{\min}`, is that of step :math:`N - 1`. The
    :math:`N`-th call of `step` leaves it as it is; another one is an error.

    It sets rates and momenta, whatever another scheduler has made of them. The bounds are written
    to the groups, :math:`\gamma_0` as ``"initial_lr"``.

    References
    ----------
    Smith and Topin (2018), "Super-convergence: very fast training of neural networks using large
    learning rates", section 3 (there with three phases).

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0, momentum=0.9)
    >>> scheduler = OneCycleLR(opt, max_lr=1.0, total_steps=10, div_factor=10)
    >>> scheduler.lr_at([0, 1, 2, 9]).round(6)
    array([[1.0e-01, 5.5e-01, 1.0e+00, 1.0e-05]])
    """

    #: The phases for the groups that there are, once they have been needed.
    _plan: Sequence[_Phase] = ()
    _derived = _Cycle._derived | {"_plan"}

    def __init__(
        self,
        optimizer: Any,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = rates.check_optimizer(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError(
                    "expected total_steps, or both epochs and steps_per_epoch, but got "
                    f"epochs={epochs} and steps_per_epoch={steps_per_epoch}"
                )
            total_steps = check_integer("epochs", epochs, 1) * check_integer(
                "steps_per_epoch", steps_per_epoch, 1
            )
        self.total_steps = check_integer("total_steps", total_steps, 1)
        high = 0.5 if three_phase else 1.0
        ends = "(]" if three_phase else "()"
        pct_start = check_number("pct_start", pct_start, 0, high, ends=ends)
        self._schedule_phases = _phases(self.total_steps, pct_start, bool(three_phase))
        self._anneal_func_type = check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        self._keep("max_lr", max_lr)
        self.div_factor = check_number("div_factor", div_factor, 0, ends="()")
        self.final_div_factor = check_number("final_div_factor", final_div_factor, 0, ends="()")
        self._begin_momentum(cycle_momentum, base_momentum, max_momentum)
        check_integer("last_epoch", last_epoch, -1)
        for number, group in enumerate(optimizer.param_groups):
            self._write_bounds(group, number)
        super().__init__(optimizer, last_epoch)

    def _write_bounds(self, group: Group, number: int) -> None:
        """Write the bounds to a group."""
        base = self._base(number, group)
        group["initial_lr"] = base
        group["max_lr"] = self._all("max_lrs")[number]
        group["min_lr"] = base / self.final_div_factor
        self._write_momentum_bounds(group, number)

    def _add_group(self, group: Group, number: int) -> None:
        self._write_bounds(group, number)
        super()._add_group(group, number)

    def _base(self, number: int, group: Group) -> float:
        return float(self._all("max_lrs")[number] / self.div_factor)

    def _budget(self) -> float:
        return self.total_steps

    def _planned(self) -> list[_Phase]:
        """The phases, with the levels that the rates and momenta of all groups go between."""
        bases = self._bases()
        levels = {
            "initial_lr": bases,
            "max_lr": self._all("max_lrs"),
            "min_lr": [base / self.final_div_factor for base in bases],
        }
        if self.cycle_momentum:
            levels["base_momentum"] = self._all("base_momentums")
            levels["max_momentum"] = self._all("max_momentums")

        kinds = ("lr", "momentum") if self.cycle_momentum else ("lr",)
        plan, begin = [], 0.0
        for phase in self._schedule_phases:
            pairs = [
                pair
                for kind in kinds
                for pair in zip(levels[phase[f"start_{kind}"]], levels[phase[f"end_{kind}"]])
            ]
            plan.append(_Phase(begin, phase["end_step"], pairs))
            begin = phase["end_step"]
        return plan

    def _both(self, xp: Any, t: Steps) -> tuple[list[Any], list[Any]]:
        last = t if xp is NUMBERS else t.max(initial=0)
        if last > self.total_steps:
            raise self._beyond(last)
        groups, strategy = len(self.optimizer.param_groups), self._anneal_func_type
        if not self._plan or len(self._plan[0].levels) != (1 + self.cycle_momentum) * groups:
            self._plan = self._planned()
        if xp is NUMBERS:
            for phase in self._plan:
                if t <= phase.end:
                    break
            both = phase.at(xp, t, strategy)
        else:
            number = sum((t > phase.end).astype(int) for phase in self._plan[:-1])
            table = zip(*(phase.at(xp, t, strategy) for phase in self._plan))
            both = [np.choose(number, row) for row in table]
        return both[:groups], both[groups:]

    def _restore(self, state: Mapping[str, Any]) -> None:
        vars(self).pop("_plan", None)
        super()._restore(state)

    def _ready(self, metrics: Any) -> None:
        super()._ready(metrics)
        if self.last_epoch + 1 > self.total_steps:
            raise self._beyond(self.last_epoch + 1)

    def _beyond(self, step: float) -> ValueError:
        return ValueError(
            f"OneCycleLR: expected at most {self.total_steps} steps, the total_steps that it was "
            f"made for, but got step {step}"
        )

    def _span(self) -> float:
        return self.total_steps

    def _optional(self) -> frozenset[str]:
        ours = {"max_lrs", "base_momentums", "max_momentums", "div_factor", "final_div_factor"}
        return super()._optional() | ours


def _phases(total: int, part: float, three: bool) -> list[dict[str, Any]]:
    """The phases of 1cycle: where each ends, and between which levels it goes."""
    lrs = ["initial_lr", "max_lr", "min_lr"]
    momenta = ["max_momentum", "base_momentum", "max_momentum"]
    ends = [part * total - 1, total - 1.0]
    if three:
        lrs.insert(2, "initial_lr")
        momenta.append("max_momentum")
        ends.insert(1, 2 * part * total - 2)
    return [
        {
            "end_step": end,
            "start_lr": lrs[number],
            "end_lr": lrs[number + 1],
            "start_momentum": momenta[number],
            "end_momentum": momenta[number + 1],
        }
        for number, end in enumerate(ends)
    ]
