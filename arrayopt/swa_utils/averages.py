"""Running averages of weights: how much the next model counts, and the rule that takes it in.

All averages are one rule: the average goes a fraction of the way to the next model. What they
differ in is the fraction, their `Average.weight`.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arrayopt.batching import Reading, build
from arrayopt.inputs import Traits
from arrayopt.namespace import (
    Array,
    convert,
    device,
    duplicate,
    is_floating,
    is_writeable,
    library,
)
from arrayopt.options import check_integer, python_number
from arrayopt.parameter import assign, mismatch

__all__ = [
    "AVERAGE",
    "Average",
    "Averager",
    "AveragingFunction",
    "Decay",
    "EqualAverage",
    "ExponentialAverage",
    "approach",
    "at_home",
    "count_of",
    "fixed",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "unlike",
]

#: What the update of an average traits.
AVERAGE = Traits("an average")

#: How many sums of logarithms an average remembers: models that share its function take turns.
SUMS = 8

#: A decay rate, or one for each number of models averaged so far.
Decay = float | Callable[[int], float]


def approach(
    xp: Any, average: Array, value: Array, state: Mapping[str, Any], group: Mapping[str, Any]
) -> tuple[Array, dict[str, Any]]:
    """The rule of all averages: go from the average to the value, a fraction of the way.

    Of the two forms, it takes the one that begins at the nearer end, which loses less to rounding.
    """
    weight = group["weight"]
    if weight < 0.5:
        return average + weight * (value - average), {}
    return value - (1 - weight) * (value - average), {}


class Average(ABC):
    """A running average, told by how much the next model counts in it."""

    @abstractmethod
    def weight(self, num_averaged: int) -> float:
        """The weight of the next model, between 0 and 1, after so many models."""


class EqualAverage(Average):
    """All models count the same."""

    def weight(self, num_averaged: int) -> float:
        return 1 / (num_averaged + 1)

    def __repr__(self) -> str:
        return "SWA"


class ExponentialAverage(Average):
    """Each model counts less than the next one, by the decay rate; see `get_ema_avg_fn`."""

    def __init__(self, decay: Decay, warmup: bool, bias_correction: bool) -> None:
        self.decay = decay
        self.warmup = warmup
        self.bias_correction = bias_correction
        #: The sums of the logarithms of the first decay rates, by how many these are: the last few.
        self._sums: dict[int, float] = {}
        if not callable(decay):
            self.decay = python_number(decay)
            self._checked(self.decay, "")

    def decay_at(self, num_averaged: int) -> float:
        """The decay rate after so many models."""
        decay = self.decay
        if callable(decay):
            where = f" by {decay!r} for step {num_averaged}"
            decay = self._checked(python_number(decay(num_averaged)), where)
        if self.warmup:
            decay = min(decay, (1 + num_averaged) / (10 + num_averaged))
        return decay

    @staticmethod
    def _checked(decay: Any, where: str) -> float:
        if not isinstance(decay, (int, float)):
            raise TypeError(
                "decay is expected to be a number in [0, 1], or a function of the number of models "
                f"averaged so far that returns one, but got {type(decay).__name__}{where}"
            )
        if not 0 <= decay <= 1:
            raise ValueError(
                f"Invalid decay value {decay} provided{where}. Please provide a value in [0,1] "
                "range."
            )
        return decay

    def weight(self, num_averaged: int) -> float:
        decay = self.decay_at(num_averaged)
        if not self.bias_correction:
            return 1 - decay
        total = -math.expm1(self._log_product(num_averaged + 1))
        return (1 - decay) / total if total else 0.0

    def _log_product(self, count: int) -> float:
        """The logarithm of the product of the first `count` decay rates."""
        if not (self.warmup or callable(self.decay)):
            return count * _log(self.decay)
        known = max((n for n in self._sums if n <= count), default=0)
        total = self._sums.pop(known, 0.0)
        for number in range(known, count):
            total += _log(self.decay_at(number))
        self._sums[count] = total
        while len(self._sums) > SUMS:
            del self._sums[next(iter(self._sums))]
        return total

    def __repr__(self) -> str:
        extras = "".join(f", {n}=True" for n in ("warmup", "bias_correction") if getattr(self, n))
        return f"EMA(decay={self.decay!r}{extras})"


def _log(decay: float) -> float:
    return math.log(decay) if decay else -math.inf


class Averager:
    """Carries out `approach` on arrays, and keeps what can be used again next time.

    Parameters
    ----------
    switches : bool or None
        ``foreach`` and ``fused``, as optimizers have them.
    """

    def __init__(self, **switches: bool | None) -> None:
        self.switches = switches
        self._last: _Plan | None = None

    def __call__(
        self,
        averages: Sequence[Array],
        values: Sequence[Array],
        weight: float,
        label: Callable[[int], str],
    ) -> Sequence[Array]:
        """Take values into averages.

        Parameters
        ----------
        averages : sequence of array
            They are updated in place, if they can be written to. Of those that do not hold
            floating-point numbers, there is no average: they become their values.
        values : sequence of array
            Arrays of the same shapes. Each is cast, and moved to the device of its average.
        weight : float
            How far an average goes towards its value.
        label : callable
            What the average of a given index is called in messages.

        Returns
        -------
        sequence of array
            `averages`, or others in place of those that cannot be written to.

        Raises
        ------
        ValueError
            If a value does not fit its average, or that is read-only. Nothing has changed then.
        """
        reading = Reading({"weight": weight, **self.switches}, ())
        plan, self._last = self._last, None  # (another thread must not take it up)
        if plan is None or not plan.renew(averages, values, reading):
            plan = _Plan(averages, values, reading, label)
        averages = plan.run(averages, values)
        if plan.agenda.lasting:
            self._last = plan
        return averages

    def forget(self) -> None:
        """Keep nothing for the next time."""
        self._last = None

    def __getstate__(self) -> dict[str, Any]:
        return {"switches": self.switches, "_last": None}


class _Cell:
    """What holds an array while it is updated."""

    __slots__ = ("data",)

    data: Array


class _Plan:
    """The work on some averages, which have to stay the same arrays."""

    def __init__(
        self,
        averages: Sequence[Array],
        values: Sequence[Array],
        reading: Reading,
        label: Callable[[int], str],
    ) -> None:
        problems = [
            f"{label(index)}: {problem}"
            for index, (average, value) in enumerate(zip(averages, values, strict=True))
            if (problem := mismatch(value, average))
        ]
        if problems:
            raise unlike(problems)
        floating = [*map(is_floating, averages)]
        self.averaged = [*itertools.compress(range(len(averages)), floating)]
        self.copied = [index for index, averaged in enumerate(floating) if not averaged]
        self.cells = [_Cell() for _ in averages]
        self._fill(averages)
        self.agenda = build(
            approach,
            traits=AVERAGE,
            params=[self.cells[index] for index in self.averaged],
            grads=[at_home(values[index], averages[index]) for index in self.averaged],
            labels=lambda number: label(self.averaged[number]),
            state={},
            reading=reading,
            moves_all=False,
        )

    def _fill(self, averages: Sequence[Array]) -> None:
        for cell, average in zip(self.cells, averages):
            cell.data = average

    def renew(self, averages: Sequence[Array], values: Sequence[Any], reading: Reading) -> bool:
        """Go on with other values and another weight, if nothing else has changed."""
        if len(averages) != len(self.cells):
            return False
        self._fill(averages)
        cells, values = self.cells, [*values]
        if self.copied:
            if any(
                is_floating(averages[i]) or mismatch(values[i], averages[i]) for i in self.copied
            ):
                return False
            cells, values = ([of[i] for i in self.averaged] for of in (cells, values))
        return self.agenda.adopt(reading) and self.agenda.renew(cells, values, {})

    def run(self, averages: Sequence[Array], values: Sequence[Array]) -> Sequence[Array]:
        """Update the averages, and return them."""
        works = self.agenda.works
        for work in works:
            work.prepare()
        for work in works:
            work.run({})
        for index in self.copied:
            assign(self.cells[index], convert(values[index], averages[index]))
        if self.copied or any([work.batch.rebind for work in works]):
            return [cell.data for cell in self.cells]
        return averages


def unlike(problems: Sequence[str]) -> ValueError:
    """The error that arrays do not fit their averages."""
    return ValueError(f"what is averaged is not like the averages: {'; '.join(problems)}")


def fixed(label: str) -> TypeError:
    """The error that an average cannot be updated in place."""
    return TypeError(
        f"{label} cannot be written to, and a multi_avg_fn updates in place; an avg_fn does not"
    )


def at_home(value: Array, like: Array) -> Array:
    """`value` in the library, and on the device, of `like`."""
    same = library(value) == library(like) and str(device(value)) == str(device(like))
    return value if same else convert(value, like)


def count_of(value: Any, label: str) -> int:
    """How many models there are, as a Python integer; `value` may be a 0-d array.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is negative, or no integer.
    """
    number = python_number(value)
    if not isinstance(number, int | float):
        raise TypeError(
            f"{label}: expected a number of models, but got {type(value).__name__}: {value!r}"
        )
    whole = isinstance(number, float) and number.is_integer()
    return check_integer(label, int(number) if whole else number, 0)


class AveragingFunction:
    """A function that takes models into averages of weights. It can be pickled.

    Parameters
    ----------
    average : Average
        What the averages are.
    """

    def __init__(self, average: Average) -> None:
        self.average = average

    def weight(self, num_averaged: Any) -> float:
        """How much the next model counts after `num_averaged` ones, an integer or a 0-d array."""
        return self.average.weight(count_of(num_averaged, "num_averaged"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.average!r}>"


class AvgFn(AveragingFunction):
    """What `get_swa_avg_fn` and `get_ema_avg_fn` return."""

    def __call__(self, averaged_param: Array, current_param: Array, num_averaged: Any) -> Array:
        """The average with one more model in it, as a new array."""
        new = duplicate(averaged_param)
        # (an array that is new each time leaves nothing to be used again)
        (new,) = Averager()([new], [current_param], self.weight(num_averaged), _label)
        return new


class MultiAvgFn(AveragingFunction):
    """What `get_swa_multi_avg_fn` and `get_ema_multi_avg_fn` return."""

    def __init__(self, average: Average) -> None:
        super().__init__(average)
        self._averager = Averager()

    def __call__(
        self,
        averaged_param_list: Sequence[Array],
        current_param_list: Sequence[Array],
        num_averaged: Any,
    ) -> None:
        """Take one more model into averages, in place."""
        counts = len(averaged_param_list), len(current_param_list)
        if counts[0] != counts[1]:
            raise ValueError(
                f"expected as many arrays as averages, {counts[0]}, but got {counts[1]}"
            )
        weight = self.weight(num_averaged)
        for index, average in enumerate(averaged_param_list):
            if not is_writeable(average):
                raise fixed(_label(index))
        self._averager(averaged_param_list, current_param_list, weight, _label)


def _label(index: int) -> str:
    return f"average {index}"


def get_swa_avg_fn() -> AvgFn:
    r"""The equal average of models, for one array at a time.

    After :math:`n` models, :math:`\bar w_{n+1} = \bar w_n + (w - \bar w_n) / (n + 1)`.

    Returns
    -------
    callable
        ``fn(averaged_param, current_param, num_averaged)`` returns the new average (of integers,
        the current ones). It does not write to its arguments. It can be pickled.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), "Averaging weights leads to wider
    optima and better generalization", algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> get_swa_avg_fn()(np.array([1.0, 2.0]), np.array([4.0, 2.0]), 2)
    array([2., 2.])
    """
    return AvgFn(EqualAverage())


def get_swa_multi_avg_fn() -> MultiAvgFn:
    r"""The equal average of models, for all arrays at once, in place.

    After :math:`n` models, :math:`\bar w_{n+1} = \bar w_n + (w - \bar w_n) / (n + 1)`.

    Returns
    -------
    callable
        ``fn(averaged_param_list, current_param_list, num_averaged)`` updates the averages, arrays
        of NumPy, CuPy or torch. It can be pickled, and passed to torch's own AveragedModel.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov and Wilson (2018), "Averaging weights leads to wider
    optima and better generalization", algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> average = np.array([1.0, 2.0])
    >>> get_swa_multi_avg_fn()([average], [np.array([4.0, 2.0])], 2)
    >>> average
    array([2., 2.])
    """
    return MultiAvgFn(EqualAverage())


def get_ema_avg_fn(
    decay: Decay = 0.999, *, warmup: bool = False, bias_correction: bool = False
) -> AvgFn:
    r"""The exponential moving average of models, for one array at a time.

    With the decay rate :math:`\beta`, :math:`\bar w_{n+1} = \beta \bar w_n + (1 - \beta) w`.

    Parameters
    ----------
    decay : float or callable, default 0.999
        The decay rate :math:`\beta` in [0, 1], or a function that returns it for the number
        :math:`n` of models averaged so far (0, 1, …).
    warmup : bool, default False
        Whether the decay rate is at most :math:`(1 + n) / (10 + n)`, so that the average follows
        the first models soon.
    bias_correction : bool, default False
        Whether the average begins with nothing, as those of Adam do, and not with the first model,
        which otherwise counts for all that came before it. For the weights of the models to sum
        to one, :math:`1 - \beta` is divided by :math:`1 - \beta^{n+1}`, or
        :math:`1 - \beta_0 \beta_1 \cdots \beta_n`. Early models count almost alike then.

    Returns
    -------
    callable
        ``fn(averaged_param, current_param, num_averaged)`` returns the new average (of integers,
        the current ones). It does not write to its arguments. It can be pickled, if `decay` can.

    Raises
    ------
    ValueError
        If `decay` is not in [0, 1].
    TypeError
        If it is neither a number nor callable.

    References
    ----------
    Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging"; for the
    correction, Kingma and Ba (2015), "Adam: a method for stochastic optimization", section 3.

    Examples
    --------
    >>> import numpy as np
    >>> get_ema_avg_fn(0.5)(np.array([1.0]), np.array([2.0]), 7)
    array([1.5])
    """
    return AvgFn(ExponentialAverage(decay, warmup, bias_correction))


def get_ema_multi_avg_fn(
    decay: Decay = 0.999, *, warmup: bool = False, bias_correction: bool = False
) -> MultiAvgFn:
    r"""The exponential moving average of models, for all arrays at once, in place.

    With the decay rate :math:`\beta`, :math:`\bar w_{n+1} = \beta \bar w_n + (1 - \beta) w`.

    Parameters
    ----------
    decay, warmup, bias_correction
        As `get_ema_avg_fn` takes them.

    Returns
    -------
    callable
        ``fn(averaged_param_list, current_param_list, num_averaged)`` updates the averages, arrays
        of NumPy, CuPy or torch. It can be pickled, if `decay` can, and passed to torch's own
        AveragedModel.

    Raises
    ------
    ValueError
        If `decay` is not in [0, 1].
    TypeError
        If it is neither a number nor callable.

    References
    ----------
    Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging".

    Examples
    --------
    >>> import numpy as np
    >>> average = np.array([1.0])
    >>> get_ema_multi_avg_fn(0.5)([average], [np.array([2.0])], 7)
    >>> average
    array([1.5])
    """
    return MultiAvgFn(ExponentialAverage(decay, warmup, bias_correction))
