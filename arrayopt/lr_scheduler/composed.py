"""Schedulers that are made of schedulers, to any depth: one after another, or one on another."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from arrayopt.groups import Group
from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import ARRAYS, NUMBERS, Steps
from arrayopt.lr_scheduler.base import LRScheduler, Memory
from arrayopt.lr_scheduler.checks import check_milestones
from arrayopt.lr_scheduler.plateau import ReduceLROnPlateau
from arrayopt.options import check_integer

__all__ = ["ChainedScheduler", "SequentialLR"]


class _Composed(LRScheduler):
    """A scheduler that is made of others, its members."""

    _schedulers: list[LRScheduler]

    def _begin(self, optimizer: Any, schedulers: Sequence[Any]) -> None:
        """Check the members, and keep them."""
        if not isinstance(schedulers, Iterable):
            raise TypeError(
                f"{type(self).__name__}: expected a list of schedulers, but got "
                f"{type(schedulers).__name__}"
            )
        members = list(schedulers)
        if not members:
            raise ValueError(f"{type(self).__name__}: expected at least one scheduler, got none")
        self.optimizer = getattr(members[0], "optimizer", None) if optimizer is None else optimizer
        self._check_members(self.optimizer, members)
        self._schedulers = members
        self._step_count = 0
        self._steps_before = rates.taken(self.optimizer)

    @classmethod
    def _check_members(cls, optimizer: Any, members: Sequence[Any]) -> None:
        """Raise if these cannot be members of a scheduler of this optimizer."""
        for number, member in enumerate(members):
            if not isinstance(member, LRScheduler):
                raise TypeError(
                    f"{cls.__name__}: expected a scheduler of arrayopt at index {number}, but got "
                    f"{type(member).__module__}.{type(member).__name__}"
                )
            if member.optimizer is not optimizer:
                raise ValueError(
                    f"{cls.__name__}: expected schedulers of one optimizer, but the "
                    f"{type(member).__name__} at index {number} belongs to another "
                    f"{type(member.optimizer).__name__}"
                )
        rates.check_optimizer(optimizer)

    def step(self, metrics: Any = None) -> None:
        """Go to the next step, and set the rates. Call it after ``optimizer.step()``.

        Parameters
        ----------
        metrics : float or 0-d array, optional
            For a `ReduceLROnPlateau` among the members, which needs it when its turn is.

        Raises
        ------
        TypeError
            If a member needs a metric, and there is none.
        ValueError
            If the schedule of a member has come to its end.

        Warns
        -----
        UserWarning
            At the first step, if the optimizer has taken none since the scheduler was made.
        """
        if self._step_count == 1:
            self._warn_if_too_early()
        self._advance(metrics)
        self._step_count += 1

    def _bases(self) -> list[float]:
        return self._schedulers[0]._bases()

    @property
    def base_lrs(self) -> list[float]:  # type: ignore[override]
        """The base rate of each group, that of the first member."""
        return self._bases()

    def _chains(self) -> bool:
        return all(member._chains() for member in self._schedulers)

    def _has_closed_form(self) -> bool:
        return all(member._has_closed_form() for member in self._schedulers)

    def _is_multiplier(self) -> bool:
        bases = self._bases()
        return all(m._is_multiplier() and m._bases() == bases for m in self._schedulers)

    def _note(self) -> None:
        """Take down the rates that have been set."""
        self._last_lr = rates.read_all(self.optimizer.param_groups)

    def _optional(self) -> frozenset[str]:
        return super()._optional() | {"_step_count", "last_epoch"}


class SequentialLR(_Composed):
    r"""Schedulers that take turns, each from its milestone on.

    With milestones :math:`m_1 \le m_2 \le \dots` and the schedules :math:`\gamma^{(i)}` of the
    members:

    .. math::

        \gamma_t = \gamma^{(i)}_{t - m_i} \quad \text{for} \quad m_i \le t < m_{i+1},
        \qquad m_0 = 0

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled.
    schedulers : list of LRScheduler
        The members, of this optimizer; composed ones and `ReduceLROnPlateau` among them.
    milestones : list of int
        The steps at which the second member, the third, … take over: one fewer than members, not
        negative and increasing. At its milestone a member is at its own step 0.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``.

    Raises
    ------
    TypeError
        If a member is no scheduler.
    ValueError
        If there is no member, one belongs to another optimizer, or the milestones do not fit.

    Notes
    -----
    When it is made, the rates become those of its first step, whatever the members did when they
    were made.

    References
    ----------
    Goyal et al. (2017), "Accurate, large minibatch SGD", section 2.2: a warm-up, and then steps.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> from arrayopt.lr_scheduler import ExponentialLR, LinearLR
    >>> warmup = LinearLR(opt, start_factor=0.5, total_iters=2)
    >>> scheduler = SequentialLR(opt, [warmup, ExponentialLR(opt, gamma=0.5)], milestones=[2])
    >>> scheduler.lr_at([0, 1, 2, 3, 4])
    array([[0.5 , 0.75, 1.  , 0.5 , 0.25]])
    """

    def __init__(
        self,
        optimizer: Any,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        last_epoch = check_integer("last_epoch", last_epoch, -1)
        self._begin(rates.check_optimizer(optimizer), schedulers)
        self._milestones = check_milestones(milestones)
        if len(self._milestones) != len(self._schedulers) - 1:
            raise ValueError(
                f"milestones: expected {len(self._schedulers) - 1}, one fewer than schedulers, but "
                f"got {len(self._milestones)}"
            )
        begins = [0, *self._milestones]
        for member, begin, end in zip(self._schedulers, begins, self._milestones):
            if end - begin - 1 > member._budget():
                raise ValueError(
                    f"milestones: expected a turn of at most {member._budget() + 1} steps for the "
                    f"{type(member).__name__}, whose budget that is, but got {end - begin}"
                )
        first = self._turn(0)[0]
        if last_epoch == -1 and first._torchs_get_lr:  # it may go on from the present rate
            rates.write_all(optimizer.param_groups, first._bases())
            first._step_count = 0
        self._jump(last_epoch + 1)
        first._step_count = self._step_count = 1

    def _turn(self, step: Any) -> tuple[LRScheduler, int]:
        """The member whose turn it is, and the step at which its turn began."""
        return self._turn_of(NUMBERS.up_to(self._milestones, step))

    def _turn_of(self, number: int) -> tuple[LRScheduler, int]:
        """The member of a number, and the step at which its turn begins."""
        return self._schedulers[number], self._milestones[number - 1] if number else 0

    def _start(
        self, member: LRScheduler, begin: int, start: list[float] | None
    ) -> list[float] | None:
        """The rates before the turn of a member, if it cares; `start` is those before all turns."""
        if not member._continues():
            return None
        return self._rates_from(start, NUMBERS, begin - 1) if begin else start

    def _piecewise(
        self,
        function: Callable[[LRScheduler, int, Any, Steps], list[Any]],
        xp: Any,
        t: Steps,
        length: int,
    ) -> list[Any]:
        """`function` of each member, from its milestone, at the steps of its turn, put together."""
        if xp is NUMBERS:
            member, begin = self._turn(t)
            return function(member, begin, xp, t - begin)
        turns = ARRAYS.up_to(self._milestones, t)
        table = np.empty((length, *t.shape))
        for number in np.unique(turns):
            here = turns == number
            member, begin = self._turn_of(number)
            for row, values in zip(table, function(member, begin, xp, t[here] - begin)):
                row[here] = values
        return list(table)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return self._piecewise(lambda member, _, *at: [member.multiplier(*at)], xp, t, 1)[0]

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        return self._rates_from(None, xp, t)

    def _rates_from(self, start: list[float] | None, xp: Any, t: Steps) -> list[Any]:
        def rates_of(member: LRScheduler, begin: int, *at: Any) -> list[Any]:
            return member._rates_from(self._start(member, begin, start), *at)

        return self._piecewise(rates_of, xp, t, len(self.optimizer.param_groups))

    def _momenta(self, xp: Any, t: Steps) -> list[Any]:
        def momenta_of(member: LRScheduler, _: int, *at: Any) -> list[Any]:
            return member._momenta(*at) if member._cycles() else [np.nan] * groups

        groups = len(self.optimizer.param_groups)
        return self._piecewise(momenta_of, xp, t, groups)

    def _continues(self) -> bool:
        return self._turn(0)[0]._continues()

    def _next(
        self, step: int, present: list[float], known: Memory, start: list[float] | None = None
    ) -> list[float]:
        member, begin = self._turn(step)
        if step == 0 or step != begin:
            return member._next(step - begin, present, known, self._start(member, begin, start))
        member._forget(known)
        own: list[float] = self._rates_from(start, NUMBERS, step - 1)
        if member._continues():
            return member._rates_from(present, NUMBERS, 0)
        first: list[float] = member._rates(NUMBERS, 0)
        if present == own or not member._chains():
            return first
        return [
            after if rate == before else rate * (after / before) if before else rate + after
            for rate, before, after in zip(present, own, first)
        ]

    def _advance(self, metrics: Any = None) -> None:
        step = self.last_epoch + 1
        member, begin = self._turn(step)
        if step != begin:
            member._advance(metrics)
            self.last_epoch, self._last_lr = step, member._last_lr
            return
        groups = self.optimizer.param_groups
        present = rates.read_all(groups)
        new: list[float] = []
        if self._has_closed_form():
            new = self._next(step, present, {})[: len(self._last_lr)]  # not of groups just added
        member._jump(0, present)
        rates.write_all(groups, new)
        self.last_epoch = step
        self._note()

    def _advance_silently(self, step: int, present: list[float]) -> tuple[float, list[float]]:
        member, begin = self._turn(step)
        multiplier, self._last_lr = member._advance_silently(step - begin, present)
        self.last_epoch = step
        return multiplier, self._last_lr

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        member, begin = self._turn(step)
        member._jump(step - begin, self._start(member, begin, start))
        self.last_epoch = step
        self._note()

    def _ready(self, metrics: Any) -> None:
        member, begin = self._turn(self.last_epoch + 1)
        if self.last_epoch + 1 != begin:
            member._ready(metrics)

    def _span(self) -> float:
        return max([0, *self._milestones]) + self._schedulers[-1]._span()

    def _budget(self) -> float:
        return max([0, *self._milestones]) + self._schedulers[-1]._budget()


class ChainedScheduler(_Composed):
    r"""Schedulers that act together, each on what the one before has made of the rate.

    Where the members multiply the base rate, by :math:`f_1, f_2, \dots`:

    .. math::

        \gamma_t = \gamma_0 \prod_i f_i(t)

    Others (with an `eta_min`, or those that set the rate) act one after another at each step.

    Parameters
    ----------
    schedulers : sequence of LRScheduler
        The members, all at the same step; composed ones and `ReduceLROnPlateau` among them.
    optimizer : Optimizer, optional
        Whose rates are scheduled; by default that of the first member.

    Raises
    ------
    TypeError
        If a member is no scheduler.
    ValueError
        If there is no member, one belongs to another optimizer, or they are at different steps.

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled weight decay regularization", algorithm 2, where a
    schedule is a multiplier of the base rate.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> opt = optim.SGD([np.zeros(2)], lr=1.0)
    >>> from arrayopt.lr_scheduler import ConstantLR, ExponentialLR
    >>> constant = ConstantLR(opt, factor=0.5, total_iters=2)
    >>> scheduler = ChainedScheduler([constant, ExponentialLR(opt, gamma=0.5)])
    >>> scheduler.lr_at([0, 1, 2, 3])
    array([[0.5  , 0.25 , 0.25 , 0.125]])
    """

    _derived = LRScheduler._derived | {"_chained", "_exact"}

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Any = None) -> None:
        self._begin(optimizer, schedulers)
        steps = {m.last_epoch for m in self._schedulers if not isinstance(m, ReduceLROnPlateau)}
        if len(steps) > 1:
            raise ValueError(
                f"ChainedScheduler: expected schedulers at the same step, but got {sorted(steps)}"
            )
        self.last_epoch = max(steps, default=0)
        self._find_closed()
        if self._has_closed_form():
            self._begin_with_closed_form()
        self._note()
        self._step_count = 1

    def _begin_with_closed_form(self) -> None:
        """Set its rates, unless somebody beside the members has acted on the present ones.

        Whether that is so can be told where all members have begun at step 0, one after the other.
        """
        made = self._bases()
        for member in self._schedulers:
            made = member._next(0, made, {})
        composed = any(member._schedulers for member in self._schedulers)
        if self.last_epoch or composed or rates.read_all(self.optimizer.param_groups) == made:
            self._jump(self.last_epoch)

    def multiplier(self, xp: Any, t: Steps) -> Any:
        return reduce(operator.mul, (member.multiplier(xp, t) for member in self._schedulers))

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        bases = self._bases()
        if self._is_multiplier():
            multiplier = self.multiplier(xp, t)
            return [base * multiplier for base in bases]
        run, known = [list(bases)], Memory()
        for step in range(int(np.max(t, initial=0)) + 1):
            run.append(self._next(step, run[-1], known))
        return [xp.pick(row, xp.floor(t) + 1) for row in zip(*run)]

    def _momenta(self, xp: Any, t: Steps) -> list[Any]:
        return [member for member in self._schedulers if member._cycles()][-1]._momenta(xp, t)

    def _next(
        self, step: int, present: list[float], known: Memory, start: list[float] | None = None
    ) -> list[float]:
        own: list[float] = []
        if self._exact:
            own = self._rates(NUMBERS, step - 1) if step else self._bases()
            if present == own:
                self._forget(known)
                return self._rates(NUMBERS, step)
        changed = present
        for member in self._schedulers:
            changed = member._next(step, changed, known, start)
        if not own:
            return changed
        closed = self._rates(NUMBERS, step)
        return [
            right if rate == was else other
            for rate, was, right, other in zip(present, own, closed, changed)
        ]

    def _advance(self, metrics: Any = None) -> None:
        step, groups = self.last_epoch + 1, self.optimizer.param_groups
        present = rates.read_all(groups) if self._exact else []
        if self._exact and present == self._closed:
            self._advance_silently(step, self._bases())
            self._set(step, self._closed, self._closed)
            return
        floats = rates.floats(groups) if self._chained else None
        if floats is not None:
            self._follow_members(step, groups, floats)
            return
        for member in self._schedulers:
            member._ready(metrics)
        for member in self._schedulers:
            member._advance(metrics)
        self.last_epoch, self._last_lr = step, self._schedulers[-1]._last_lr
        if not self._exact:
            return
        own, closed = self._closed or [], self._rates(NUMBERS, step)
        for number, group in enumerate(groups):
            if number >= len(own) or present[number] == own[number]:
                rates.write(group, closed[number])
        self._closed = [rates.stored(*pair) for pair in zip(groups, closed)]
        self._note()

    def _follow_members(self, step: int, groups: list[Group], present: list[float]) -> None:
        """Go to a step through all members, and write the rates, which are floats, once."""
        followed = []
        for member in self._schedulers:
            present, closed = member._follow(member.last_epoch + 1, present)
            followed.append((member, present, closed))
        for member, new, closed in followed:
            member.last_epoch += 1
            member._last_lr, member._closed = new, closed
        self.last_epoch, self._last_lr = step, present
        for group, rate in zip(groups, present):
            group["lr"] = rate

    def _advance_silently(self, step: int, present: list[float]) -> tuple[float, list[float]]:
        product = 1.0
        for member in self._schedulers:
            multiplier, present = member._advance_silently(step, present)
            product *= multiplier
        self.last_epoch, self._last_lr = step, present
        self._closed = [base * product for base in self._bases()]
        return product, present

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        closed = self._rates(NUMBERS, step) if self._has_closed_form() else []
        for member in self._schedulers:
            member._jump(step)
        rates.write_all(self.optimizer.param_groups, closed)
        self.last_epoch = step
        self._find_closed()
        self._note()

    def _find_closed(self) -> None:
        # Whether the product is what the rates are, as long as nobody else changes them.
        self._exact = self._is_multiplier() and not any(map(_needs_metrics, self._schedulers))
        # Whether each member, by itself, makes new rates of those before.
        self._chained = not self._exact and all(map(_follows, self._schedulers))
        groups = self.optimizer.param_groups
        closed = self._rates(NUMBERS, self.last_epoch) if self._exact else []
        self._closed = [rates.stored(*pair) for pair in zip(groups, closed)]

    def _ready(self, metrics: Any) -> None:
        for member in self._schedulers:
            member._ready(metrics)

    def _restore(self, state: Mapping[str, Any]) -> None:
        super()._restore(state)
        if "last_epoch" not in state:  # torch's has none
            self.last_epoch = max(member.last_epoch for member in self._schedulers)
            self._find_closed()

    def _span(self) -> float:
        return max(member._span() for member in self._schedulers)

    def _budget(self) -> float:
        return min(member._budget() for member in self._schedulers)


def _follows(scheduler: LRScheduler) -> bool:
    """Whether a step is `_follow`, and nothing else."""
    plain = type(scheduler)._advance is LRScheduler._advance
    return plain and scheduler.chainable and not scheduler._torchs_get_lr


def _needs_metrics(scheduler: LRScheduler) -> bool:
    return isinstance(scheduler, ReduceLROnPlateau) or any(
        map(_needs_metrics, scheduler._schedulers)
    )
