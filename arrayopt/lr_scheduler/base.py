"""The base class of every scheduler: how a schedule is evaluated, stepped, saved and loaded.

The closed form, `_rates`, gives the rates of any step, and changes nothing. `_advance` goes to the
next step, and `_jump` to any: they set the rates of the closed form, and keep them as `_closed`.
Where `_advance` finds other rates in the optimizer than these, it changes them in proportion
(`_follow`). `_next` tells what a step would make of given rates: what is composed of schedulers is
evaluated by it.
"""

from __future__ import annotations

import copy
import html
import math
import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from arrayopt.groups import Group
from arrayopt.lr_scheduler import rates
from arrayopt.lr_scheduler.arithmetic import ARRAYS, NUMBERS, Steps
from arrayopt.lr_scheduler.checks import check_last_epoch
from arrayopt.lr_scheduler.curve import svg
from arrayopt.options import check_number, python_number

__all__ = ["LRScheduler", "Memory"]

#: What torch's schedulers save beside, and nobody needs.
_TORCHS_OWN = frozenset({"_is_initial", "_get_lr_called_within_step", "verbose"})

#: What is saved for the scheduler that is asked, not for each of its members.
_OF_THE_WHOLE = frozenset({"lr", "momentum", "optimizer_steps"})

#: Entries of a state that are not attributes of that name.
_NO_ATTRIBUTES = _TORCHS_OWN | _OF_THE_WHOLE | {"_schedulers", "changed_groups"}

_ORDER_WARNING = (
    "lr_scheduler.step() was called before optimizer.step(): the first rate of the schedule is "
    "never used. Call optimizer.step() first, and lr_scheduler.step() after it."
)

_EPOCH_WARNING = (
    "The epoch parameter of lr_scheduler.step() is deprecated: step() without it goes to the next "
    "step. With it, the closed form is set, whatever the rate was before."
)

#: What `LRScheduler._next` has to know of the step before.
Memory = dict["LRScheduler", list[float] | None]


class LRScheduler:
    r"""Base class of all learning-rate schedulers.

    A schedule is a function of the step :math:`t`. With the base rate :math:`\gamma_0` of a group
    (its ``"initial_lr"``), the schedule's `multiplier` :math:`f`, and the rate :math:`\eta` that it
    falls to where that is zero (an `eta_min`, or else 0):

    .. math::

        \gamma_t = \eta + (\gamma_0 - \eta) f(t)

    A subclass gives its `multiplier`, a formula on whatever `xp` and the steps are, and everything
    else comes from here. (One written for torch, with a ``get_lr`` and perhaps a
    ``_get_closed_form_lr``, works as it does there.)

    Parameters
    ----------
    optimizer : Optimizer
        Whose rates are scheduled: one of arrayopt or of torch.
    last_epoch : int, default -1
        The schedule begins at step ``last_epoch + 1``, with the rates that it has there.

    Attributes
    ----------
    last_epoch : int
        The present step.
    base_lrs : list of float
        The base rate of each group.

    Raises
    ------
    TypeError
        If `optimizer` is not an optimizer.
    KeyError
        If `last_epoch` is given, and a group has no ``"initial_lr"``.
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Where a rate is not what this schedule has made it, since another scheduler or the user has
    changed it, each further step of a schedule that is `chainable` changes the present rate in the
    proportion in which its own would change, :math:`\gamma \leftarrow \gamma f(t) / f(t-1)`. This
    is how two schedulers on one optimizer work together. (Where a schedule has a smallest rate, the
    proportion is that of what is above it.)

    A group that is added later takes part from the next step on; the rate that it was added with is
    its base rate.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> class InverseSqrtLR(LRScheduler):
    ...     def multiplier(self, xp, t):
    ...         return xp.power(t + 1, -0.5)
    >>> opt = optim.SGD([np.zeros(2)], lr=0.1)
    >>> scheduler = InverseSqrtLR(opt)
    >>> scheduler.lr_at(np.array([0, 3, 99]))
    array([[0.1 , 0.05, 0.01]])
    """

    #: Whether a rate that somebody has changed is changed further, instead of being replaced.
    chainable: bool = True

    #: Whether the momentum is scheduled as well.
    cycle_momentum: bool = False

    #: Attributes that `state_dict` leaves out: they are found again.
    _derived: ClassVar[frozenset[str]] = frozenset(
        {"optimizer", "_closed", "_latest", "_schedulers", "_shared", "_steps_before"}
    )

    #: The members of a composed scheduler.
    _schedulers: Any = ()

    #: The names of the lists that have an entry for each group, and the one value that the entries
    #: were made of; None if they were given one by one.
    _shared: Mapping[str, Any] = MappingProxyType({})

    #: The rates of the closed form at the present step; NaN for a group whose rate somebody has
    #: changed, and None if that is every group.
    _closed: list[float] | None

    #: Where it is None: the last step that was taken, and the multiplier of then.
    _latest: tuple[Any, float] = (None, 1.0)

    #: Whether the rates come from a ``get_lr`` that is written for torch, which reads these.
    _torchs_get_lr: ClassVar[bool] = False
    _get_lr_called_within_step: bool = False
    _is_initial: bool = False

    def __init__(self, optimizer: Any, last_epoch: int = -1) -> None:
        self.optimizer = rates.check_optimizer(optimizer)
        last_epoch = check_last_epoch(last_epoch, optimizer)
        if last_epoch == -1:
            for group in optimizer.param_groups:
                rates.keep_initial(group)
        self.base_lrs = [self._base(*pair) for pair in enumerate(optimizer.param_groups)]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._closed = [*self.base_lrs]
        self._last_lr: list[float] = []
        self._steps_before = rates.taken(optimizer)
        if last_epoch == -1:
            self._advance()
        else:
            self._jump(last_epoch + 1)
        self._step_count = 1

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "get_lr" in vars(cls):
            cls._torchs_get_lr = True

    # The schedule

    def multiplier(self, xp: Any, t: Steps) -> Any:
        """What the base rates are multiplied by at step `t`, as a pure function.

        Parameters
        ----------
        xp : namespace
            Has ``cos``, ``floor``, ``minimum``, ``power`` and ``where``.
        t : int or array
            The step, or steps.

        Returns
        -------
        float or array
            Like `t`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no multiplier: no closed form")

    def lr_at(self, t: Any) -> Any:
        r"""The rates at step `t`, as a pure function: nothing is stepped or changed.

        Parameters
        ----------
        t : int, or array of any shape
            The step, or steps, not negative.

        Returns
        -------
        list of float, or ndarray of shape (groups, \*t.shape)
            A list, one rate for each group, if `t` is a number; the same bits in an array of
            float64 if it is an array.

        Raises
        ------
        ValueError
            If a step is negative, or beyond the end of a schedule that has one.
        """
        return self._evaluate(self._rates, t)

    def momentum_at(self, t: Any) -> Any:
        """The momenta (or first betas) at step `t`, like `lr_at`.

        Returns
        -------
        list of float, ndarray or None
            None if the schedule leaves momenta alone. NaN at steps at which a composed schedule
            does.
        """
        return self._evaluate(self._momenta, t) if self._cycles() else None

    def _evaluate(self, function: Callable[[Any, Steps], list[Any]], t: Any) -> Any:
        steps = None if isinstance(t, int | float) else np.asarray(t)
        if steps is None or steps.ndim == 0:
            return function(NUMBERS, check_number("t", t, 0))
        if steps.dtype.kind not in "biuf":
            raise ValueError(f"t: expected steps that are numbers, but got {steps.dtype}")
        outside = steps[~(np.isfinite(steps) & (steps >= 0))]
        if outside.size:
            raise ValueError(f"t: expected steps in [0, inf), but got {outside[0]}")
        values = function(ARRAYS, steps.astype(float if steps.dtype.kind == "f" else np.int64))
        return np.stack([np.broadcast_to(np.asarray(v, dtype=float), steps.shape) for v in values])

    def _rates(self, xp: Any, t: Steps) -> list[Any]:
        """The closed form, for each group."""
        return self._scaled(self._bases(), self.multiplier(xp, t))

    def _rates_from(self, start: list[float] | None, xp: Any, t: Steps) -> list[Any]:
        """The closed form in a sequence whose rates are `start` before this schedule's turn.

        Most do not care; None is for a schedule that has no one before it.
        """
        return self._rates(xp, t)

    def _scaled(self, bases: list[float], multiplier: Any) -> list[Any]:
        """Base rates, or rather what of them is above the floor, times a multiplier."""
        floors = self._floors()
        if floors is None:
            return [base * multiplier for base in bases]
        return [low + (base - low) * multiplier for low, base in zip(floors, bases)]

    def _momenta(self, xp: Any, t: Steps) -> list[Any]:
        """The momenta, for each group; NaN where they are left alone."""
        return [np.nan] * len(self.optimizer.param_groups)

    def _floors(self) -> list[float] | None:
        """The rate of each group where the multiplier is zero; None if that is zero."""
        return None

    def _is_multiplier(self) -> bool:
        """Whether the rates are the base rates times `multiplier`, and nothing else."""
        return self.chainable and not self._torchs_get_lr and self._floors() is None

    def _chains(self) -> bool:
        """Whether the scheduler, and every member, changes rates instead of replacing them."""
        return self.chainable

    def _has_closed_form(self) -> bool:
        """Whether the rates of any step are known: not where a ``get_lr`` is written for torch."""
        return not self._torchs_get_lr

    def _continues(self) -> bool:
        """Whether its turn in a sequence begins at the rate before it, not at the base rate."""
        return False

    def _cycles(self) -> bool:
        """Whether momenta are scheduled, here or by a member."""
        return self.cycle_momentum or any(member._cycles() for member in self._schedulers)

    def _span(self) -> float:
        """How many steps show the shape of the schedule."""
        return 100

    def _budget(self) -> float:
        """The last step that there is."""
        return math.inf

    def _bases(self) -> list[float]:
        """The base rate of every group, of those that have just been added, too."""
        known, groups = len(self.base_lrs), self.optimizer.param_groups
        if len(groups) == known:
            return self.base_lrs
        return [*self.base_lrs, *(self._base(*pair) for pair in enumerate(groups[known:], known))]

    def _base(self, number: int, group: Group) -> float:
        """The base rate of a group that has not been seen before."""
        return rates.read(group, "initial_lr" if "initial_lr" in group else "lr")

    def _all(self, name: str) -> list[Any]:
        """The list of that name, with an entry for every group; those added share one value."""
        values: list[Any] = getattr(self, name)
        missing = len(self.optimizer.param_groups) - len(values)
        if missing <= 0:
            return values
        if self._shared[name] is None:
            raise RuntimeError(
                f"{type(self).__name__}: {name} has {len(values)} entries, but the optimizer now "
                f"has {len(self.optimizer.param_groups)} parameter groups; append to "
                f"scheduler.{name}"
            )
        return values + [self._shared[name]] * missing

    def _per_group(self, name: str, value: Any, entries: list[Any]) -> None:
        """Keep `entries` under a name, and the one value that they were made of, if it was one."""
        setattr(self, name, entries)
        one = None if isinstance(value, list | tuple) else entries[0] if entries else value
        self._shared = {**self._shared, name: one}

    # Going on

    def step(self, epoch: int | None = None) -> None:
        """Go to the next step, and set the rates. Call it after ``optimizer.step()``.

        Parameters
        ----------
        epoch : int, optional
            Deprecated: the step to go to, not negative.

        Raises
        ------
        ValueError
            If `epoch` is negative or no number, or the schedule has come to its end.

        Warns
        -----
        UserWarning
            At the first step, if the optimizer has taken none since the scheduler was made; and
            if `epoch` is given.
        """
        if epoch is not None:
            check_number("epoch", epoch, 0)
            warnings.warn(_EPOCH_WARNING, UserWarning, stacklevel=2)
        if self._step_count == 1:
            self._warn_if_too_early()
        if epoch is None:
            self._advance()
        else:
            self._jump(python_number(epoch))
        self._step_count += 1

    def get_last_lr(self) -> list[Any]:
        """The rates that this scheduler has set last, one for each group.

        Returns
        -------
        list
            Of the types of the groups' rates; arrays are copies.
        """
        return [rates.like(r, g["lr"]) for r, g in zip(self._last_lr, self.optimizer.param_groups)]

    def get_lr(self) -> list[float]:
        """The rates of the schedule at the present step.

        Warns
        -----
        UserWarning
            Since `get_last_lr` is what one wants to know, and `lr_at` what one wants to compute.
        """
        warnings.warn(
            "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
            UserWarning,
            stacklevel=2,
        )
        return list(self._rates(NUMBERS, self.last_epoch))

    def _warn_if_too_early(self) -> None:
        taken = rates.taken(self.optimizer)
        if taken is not None and taken == self._steps_before:
            warnings.warn(_ORDER_WARNING, UserWarning, stacklevel=3)

    def _ready(self, metrics: Any) -> None:
        """Raise, before anything changes, if the next step cannot be taken."""
        for name in self._shared:
            self._all(name)

    def _advance(self, metrics: Any = None) -> None:
        """Go to the next step."""
        step = self.last_epoch + 1
        if self._torchs_get_lr:
            self._ask_get_lr(step)
        elif not self.chainable:
            self._jump(step)
        else:
            new, closed = self._follow(step, rates.read_all(self.optimizer.param_groups))
            self._set(step, new, closed)

    def _follow(self, step: int, present: list[float]) -> tuple[list[float], list[float] | None]:
        """The rates of the next step, where they are `present` ones before, and its `_closed`."""
        known, own = len(self.base_lrs), self._closed
        if own is None and known == len(present):  # somebody has changed all
            after = self._after(step)
            new = self._in_proportion(step, after, present, known)
            self._latest = step, after
            return new, None
        if known == len(present):
            closed, after = self._closed_form(step, self.base_lrs)
        else:
            closed, after = self._closed_form(step, self._bases())
            self._add_groups()
            own = self._closed
        if own is None or present == own:
            return closed, closed
        new = self._changed(step, after, present, own, closed, known)
        return new, _followed(present, own, closed)

    def _after(self, step: int) -> Any:
        """What `_in_proportion` needs to know of a step: the multiplier."""
        return self.multiplier(NUMBERS, step)

    def _closed_form(self, step: int, bases: list[float]) -> tuple[list[float], Any]:
        """The rates of a step, and `_after`."""
        multiplier = self.multiplier(NUMBERS, step)
        return self._scaled(bases, multiplier), multiplier

    def _advance_silently(self, step: int, present: list[float]) -> tuple[float, list[float]]:
        """Go to a step without acting; the multiplier of then, and what `present` rates become."""
        multiplier = self.multiplier(NUMBERS, step)
        self.last_epoch, self._closed = step, [base * multiplier for base in self.base_lrs]
        self._last_lr = [rate * multiplier for rate in present]
        return multiplier, self._last_lr

    def _jump(self, step: Any, start: list[float] | None = None) -> None:
        """Go to any step, with the rates of the closed form (`start` as in `_rates_from`)."""
        if self._torchs_get_lr:
            self._ask_get_lr(step, jump=True)
            return
        closed = self._rates(NUMBERS, step)
        if len(self.base_lrs) < len(self.optimizer.param_groups):
            self._add_groups()
        self._set(step, closed, closed)

    def _set(self, step: Any, new: list[float], closed: list[float] | None) -> None:
        """Be at a step, with new rates and a new `_closed`."""
        groups = self.optimizer.param_groups
        self.last_epoch, self._closed, self._last_lr = step, closed, new
        if rates.write_all(groups, new):  # an array of float32 holds another number
            self._last_lr = self._closed = rates.read_all(groups)
            if new is not closed:
                self._closed = closed and [rates.stored(*pair) for pair in zip(groups, closed)]

    def _ask_get_lr(self, step: int, jump: bool = False) -> None:
        """Set what the ``get_lr`` of a subclass that is written for torch returns."""
        before, self.last_epoch = self.last_epoch, step
        self._get_lr_called_within_step, self._is_initial = True, self._step_count == 0
        closed_form = getattr(self, "_get_closed_form_lr", None) if jump else None
        try:
            new = (closed_form or self.get_lr)()
        except BaseException:
            self.last_epoch = before
            raise
        finally:
            del self._get_lr_called_within_step, self._is_initial
        self._add_groups()
        numbers = [float(python_number(rate)) for rate in new]
        self._set(step, numbers, numbers)

    def _next(
        self, step: int, present: list[float], known: Memory, start: list[float] | None = None
    ) -> list[float]:
        """The rates at `step`, from those at the step before: nothing but `known` is changed.

        In it, each scheduler has its `_closed` of the step before, unless that is the closed form.
        """
        if self in known:
            own = known[self]
        else:
            own = self._rates_from(start, NUMBERS, step - 1) if step else self._bases()
        closed: list[float] = self._rates_from(start, NUMBERS, step)
        known.pop(self, None)
        if present == own or not self.chainable:
            return closed
        after = self._closed_form(step, self._bases())[1]
        own = [math.nan] * len(present) if own is None else own
        known[self] = _followed(present, own, closed)
        return self._changed(step, after, present, own, closed, len(present))

    def _forget(self, known: Memory) -> None:
        """Have the closed form again, as far as `_next` goes."""
        known.pop(self, None)
        for member in self._schedulers:
            member._forget(known)

    def _changed(
        self,
        step: int,
        after: Any,
        present: list[float],
        own: list[float],
        closed: list[float],
        known: int,
    ) -> list[float]:
        """The rates at `step`, from `present` ones of which some are not this schedule's `own`."""
        others = self._in_proportion(step, after, present, known)
        return [
            right if rate == was else other
            for rate, was, right, other in zip(present, own, closed, others)
        ]

    def _in_proportion(
        self, step: int, after: Any, present: list[float], known: int
    ) -> list[float]:
        """The rates at `step`, from `present` ones, whatever these are.

        From group `known` on, the schedule has not acted on them yet.
        """
        before, floors = self._before(step), self._floors()
        if before and known == len(present):
            ratio = after / before
            if floors is None:
                return [rate * ratio for rate in present]
            if ratio < 1:
                return [low + (rate - low) * ratio for rate, low in zip(present, floors)]
        rows = zip(present, floors or [0.0] * len(present), self._bases())
        return [
            _relative(rate, low, base, before if number < known else 1.0, after)
            for number, (rate, low, base) in enumerate(rows)
        ]

    def _before(self, step: int) -> float:
        """The multiplier of the step before."""
        at, multiplier = self._latest
        if at == step - 1:
            return multiplier
        return self.multiplier(NUMBERS, step - 1) if step else 1.0

    def _add_groups(self) -> None:
        """Take the groups that have been added into the schedule."""
        known = len(self.base_lrs)
        for number, group in enumerate(self.optimizer.param_groups[known:], known):
            self._add_group(group, number)

    def _add_group(self, group: Group, number: int) -> None:
        rates.keep_initial(group)
        own = [math.nan] * len(self.base_lrs) if self._closed is None else self._closed
        self.base_lrs = [*self.base_lrs, self._base(number, group)]
        self._closed = [*own, self.base_lrs[-1]]

    # Saving and loading

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on from here: the position, the arguments, and the rates.

        Returns
        -------
        dict
            Torch's entries under torch's names, as numbers and lists of numbers; ``"lr"`` (and
            ``"momentum"``), the present ones of the optimizer; ``"optimizer_steps"``, the steps it
            has taken since the scheduler was made; and ``"changed_groups"``, the numbers of those
            whose rates somebody has changed, if there are any. Nothing in it is shared. Functions
            are not saved; of other callable objects, the attributes are.
        """
        state = self._state()
        state["lr"] = rates.read_all(self.optimizer.param_groups)
        if self._cycles():
            state["momentum"] = [rates.read_momentum(g) for g in self.optimizer.param_groups]
        taken = rates.taken(self.optimizer)
        state["optimizer_steps"] = (
            1 if taken is None or self._steps_before is None else taken - self._steps_before
        )
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken, with the optimizer's rates of then.

        Parameters
        ----------
        state_dict : mapping
            What `state_dict` returned, here or in torch. It is copied.

        Raises
        ------
        TypeError
            If it is no mapping.
        KeyError
            If an entry is missing or unknown: it is of another class of schedulers.
        ValueError
            If it has more groups than the optimizer, or another number of members.
        """
        self._check_state(state_dict)
        self._restore(state_dict)
        groups = self.optimizer.param_groups
        for group, rate in zip(groups, state_dict.get("lr", state_dict["_last_lr"])):
            rates.write(group, python_number(rate))
        for group, momentum in zip(groups, state_dict.get("momentum", ())):
            rates.write_momentum(group, momentum)
        taken = rates.taken(self.optimizer)
        if taken is not None:
            self._steps_before = taken - state_dict.get("optimizer_steps", 1)

    def _state(self) -> dict[str, Any]:
        """The state without what concerns the optimizer."""
        state = {k: _copied(value) for k, value in vars(self).items() if k not in self._derived}
        if changed := self._changed_groups():
            state["changed_groups"] = changed
        if self._schedulers:
            state["_schedulers"] = [member._state() for member in self._schedulers]
        return state

    def _changed_groups(self) -> list[int]:
        """The numbers of the groups whose rates somebody has changed."""
        if "_closed" not in vars(self):
            return []
        if self._closed is None:
            return [*range(len(self.base_lrs))]
        return [number for number, rate in enumerate(self._closed) if math.isnan(rate)]

    def _optional(self) -> frozenset[str]:
        """Entries of the state that it need not have: torch's has not."""
        return frozenset({"changed_groups"})

    def _check_state(self, state: Mapping[str, Any]) -> None:
        """Raise if `state` cannot be loaded."""
        if not isinstance(state, Mapping):
            raise TypeError(f"state_dict must be a dict, but got {type(state).__name__}")
        own, optional = self._state().keys(), self._optional()
        missing = sorted(own - state.keys() - optional)
        if missing:
            raise KeyError(
                f"the state_dict of a {type(self).__name__} has {missing}, which this one lacks; "
                f"it has {sorted(state)}"
            )
        unknown = sorted(state.keys() - own - optional - _TORCHS_OWN - _OF_THE_WHOLE)
        if unknown and type(self).__module__.startswith("arrayopt."):  # others may add their own
            raise KeyError(
                f"the state_dict of a {type(self).__name__} has no {unknown}, which this one has"
            )
        groups = len(self.optimizer.param_groups)
        saved = max(len(state.get(key, ())) for key in ("base_lrs", "_last_lr", "lr"))
        if saved > groups:
            raise ValueError(
                f"the state_dict is of an optimizer with {saved} parameter groups, but this one "
                f"has {groups}"
            )
        members = state.get("_schedulers", ())
        if len(members) != len(self._schedulers):
            raise ValueError(
                f"the state_dict is of a {type(self).__name__} with {len(members)} schedulers, but "
                f"this one has {len(self._schedulers)}"
            )
        for member, its in zip(self._schedulers, members):
            member._check_state(its)

    def _restore(self, state: Mapping[str, Any]) -> None:
        """Load a state that has been checked."""
        for member, its in zip(self._schedulers, state.get("_schedulers", ())):
            member._restore(its)
        vars(self).pop("_latest", None)
        for key, value in state.items():
            if key not in _NO_ATTRIBUTES:
                setattr(self, key, _copied(value))
        for name in ("base_lrs", "_last_lr"):
            if name in vars(self):
                setattr(self, name, [python_number(rate) for rate in getattr(self, name)])
        self._find_closed()
        if changed := state.get("changed_groups"):
            own = [math.nan if n in changed else rate for n, rate in enumerate(self._closed or ())]
            self._closed = None if all(map(math.isnan, own)) else own

    def _find_closed(self) -> None:
        """Remember the rates of the closed form at the present step."""
        if "base_lrs" in vars(self) and not self._torchs_get_lr:
            groups = self.optimizer.param_groups[: len(self.base_lrs)]
            closed = self._rates(NUMBERS, self.last_epoch)
            self._closed = [rates.stored(*pair) for pair in zip(groups, closed)]

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        taken = rates.taken(self.optimizer)
        if taken is not None and state["_steps_before"] is not None:
            state["_steps_before"] -= taken  # hooks, and with them counts, are not pickled
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        taken = rates.taken(self.optimizer)
        if taken is not None and self._steps_before is not None:
            self._steps_before += taken

    # Looking at it

    def __repr__(self) -> str:
        last = ", ".join(f"{rate:.6g}" for rate in self._last_lr)
        return f"<{type(self).__name__} at step {self.last_epoch}, lr: {last}>"

    def _repr_html_(self) -> str:
        return f"<figure>{self._curve()}<figcaption>{html.escape(repr(self))}</figcaption></figure>"

    def _curve(self) -> str:
        """The rates as a little picture; empty where they cannot be computed."""
        longest = min(self._budget() + 1, 1_000_000)  # of more, the first: all are evaluated
        stop = min(max(2, int(self._span()), self.last_epoch + 1), longest)
        try:
            return svg(self.lr_at(np.arange(stop)), self.last_epoch)
        except Exception:  # whatever a function of the user's raises: looking must not fail
            return ""


def _copied(value: Any) -> Any:
    """A copy of a container; anything else as it is."""
    return copy.deepcopy(value) if isinstance(value, list | dict | set) else value


def _followed(present: list[float], own: list[float], closed: list[float]) -> list[float] | None:
    """`closed` as `_closed` has it, where rates were `present` ones and should have been `own`."""
    if any(rate == was for rate, was in zip(present, own)):
        return [
            right if rate == was else math.nan for rate, was, right in zip(present, own, closed)
        ]
    return None


def _relative(rate: float, low: float, base: float, before: float, after: float) -> float:
    """A rate that is not the schedule's own, when the multiplier goes from `before` to `after`."""
    if after == before:
        return rate
    if before == 0:
        return rate + (base - low) * after
    ratio = after / before
    if ratio > 1 and (rate - low) * (base - low) < 0:  # away from the floor: not below 0
        return rate * (low + (base - low) * after) / (low + (base - low) * before)
    return low + (rate - low) * ratio
