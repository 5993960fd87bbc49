"""What was recorded of the steps of an optimizer."""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayopt.wording import counted

__all__ = ["Recording", "Step"]

#: What has been recorded of a parameter in a step: arrays of NumPy, and plain numbers.
Values = Mapping[str, Any]


class Step(NamedTuple):
    """One step: its number, and the values of each parameter by its place."""

    number: int
    values: Mapping[int, Values]

    @property
    def nbytes(self) -> int:
        """How much memory the arrays take."""
        values = (value for each in self.values.values() for value in each.values())
        return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


class Recording:
    """The named values of the rule at each recorded step; `record` makes it.

    ``recording["exp_avg", "weight"]`` is an array of shape ``(steps, *shape)``, or ``(steps,)`` of
    a number; the parameter is told by its name or its place, and can be left out if there is but
    one. Where a step has no such value, there is NaN.

    Attributes
    ----------
    labels : dict of int to str or int
        What the parameters are called, by their place in the optimizer: their names or places.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> w = np.array([3.0, -2.0])
    >>> opt = arrayopt.SGD([w], lr=0.25, momentum=0.5)
    >>> with arrayopt.record(opt) as recording:
    ...     for _ in range(2):
    ...         opt.step(grads=[2 * w])
    >>> "momentum_buffer" in recording.names, recording.steps
    (True, array([1, 2]))
    >>> recording["param"]
    array([[ 1.5, -1. ],
           [ 0. ,  0. ]])
    """

    def __init__(self) -> None:
        self.labels: dict[int, str | int] = {}
        self._steps: deque[Step] = deque()
        self._nbytes = 0

    def append(self, step: Step, last: int | None, max_bytes: int) -> None:
        """Take up a step, and drop the oldest ones if there are too many or take too much."""
        self._steps.append(step)
        self._nbytes += step.nbytes
        while len(self._steps) > (last or len(self._steps)) or self._nbytes > max_bytes:
            self._nbytes -= self._steps.popleft().nbytes

    @property
    def steps(self) -> NDArray[np.int64]:
        """The numbers of the steps, shape ``(steps,)``; the first step of an optimizer is 1."""
        return np.array([step.number for step in self._steps], np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all values."""
        values = (each for step in self._steps for each in step.values.values())
        return tuple(dict.fromkeys(name for each in values for name in each))

    @property
    def nbytes(self) -> int:
        """How much memory the arrays take, in bytes."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, key: str | tuple[str, str | int]) -> NDArray[Any]:
        name, param = key if isinstance(key, tuple) else (key, None)
        place = self._place(name, param)
        values = [step.values.get(place, {}).get(name) for step in self._steps]
        model = next((value for value in values if value is not None), None)
        if model is None:
            raise KeyError(
                f"no {name!r} has been recorded of parameter {self.labels[place]!r}; there are "
                f"{[*self.names]}"
            )
        model = np.asarray(model)
        missing = np.full(model.shape, np.nan, float if model.dtype.kind in "biu" else model.dtype)
        return np.stack([missing if value is None else np.asarray(value) for value in values])

    def _place(self, name: str, param: str | int | None) -> int:
        called = [*self.labels.values()]
        if not called:
            raise KeyError(f"{name!r}: no step has been recorded yet")
        if param is not None:
            found = [place for place, label in self.labels.items() if param in (place, label)]
            if not found:
                raise KeyError(f"no parameter {param!r} has been recorded; there are {called}")
            return found[0]
        if len(self.labels) != 1:
            raise KeyError(
                f"{name!r} has been recorded of {len(self.labels)} parameters: say of which, "
                f"recording[{name!r}, ...], one of {called}"
            )
        return next(iter(self.labels))

    def table(self, reduce: Callable[[NDArray[Any]], Any] | None = None) -> list[dict[str, Any]]:
        """A row for each step and parameter, as ``pandas.DataFrame`` takes them.

        Parameters
        ----------
        reduce : callable, optional
            What to write for an array, such as ``numpy.linalg.norm``; by default, the array.

        Returns
        -------
        list of dict
            With ``"step"``, ``"of"`` (the parameter), and the values by their names. Of the rule's
            own ``step``, the one of the optimizer takes the place.
        """
        return [
            {
                **{
                    name: reduce(value) if reduce and isinstance(value, np.ndarray) else value
                    for name, value in values.items()
                },
                "step": step.number,
                "of": self.labels[place],
            }
            for step in self._steps
            for place, values in step.values.items()
        ]

    def __repr__(self) -> str:
        counts = {"step": len(self), "parameter": len(self.labels), "name": len(self.names)}
        told = ", ".join(counted(count, noun) for noun, count in counts.items())
        return f"<Recording of {told}, {counted(self.nbytes, 'byte')}>"

    def _repr_html_(self) -> str:
        rows = []
        for name in self.names:
            values = [v[name] for step in self._steps for v in step.values.values() if name in v]
            last = values[-1]
            kind = f"{last.dtype}{list(last.shape)}" if isinstance(last, np.ndarray) else f"{last}"
            rows.append(
                f"<tr><th>{html.escape(name)}</th><td>{len(values)}</td>"
                f"<td>{html.escape(kind)}</td></tr>"
            )
        return (
            f"<table><caption>{html.escape(repr(self)[1:-1])}</caption><tr><th></th>"
            f"<th>values</th><th>the last one</th></tr>{''.join(rows)}</table>"
        )
