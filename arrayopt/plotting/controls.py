"""What a slider or a choice goes through. Importing this does not import ipywidgets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayopt.options import is_number

__all__ = ["Choice", "Control", "Slider", "read_control"]

#: A slider over positive numbers, of which the last is so many times the first, is logarithmic.
LOGARITHMIC = 30

#: Of more choices than these, there is a menu instead of buttons.
BUTTONS = 6

#: Into how many steps a slider over fractions is divided.
STEPS = 100


@dataclass(frozen=True)
class Slider:
    """Numbers from `low` to `high`; integers, if both are.

    Attributes
    ----------
    name : str
        The parameter that it sets.
    low, high : int or float
        The ends, which belong to it.
    """

    name: str
    low: float
    high: float

    @property
    def logarithmic(self) -> bool:
        """Whether equal ways on the slider are equal factors."""
        return self.low > 0 and self.high >= LOGARITHMIC * self.low

    @property
    def middle(self) -> float:
        """Where it stands at first."""
        return self.spread(3)[-2]

    def spread(self, count: int) -> list[float]:
        """At most so many numbers, evenly spread from the lowest to the highest."""
        values = (np.geomspace if self.logarithmic else np.linspace)(self.low, self.high, count)
        if isinstance(self.low, int):
            return [int(value) for value in np.unique(values.round())]
        return [float(value) for value in values]

    def has(self, value: Any) -> bool:
        """Whether this is one of its numbers."""
        fine = isinstance(value, int | (type(self.low))) and not isinstance(value, bool)
        return fine and self.low <= value <= self.high

    def label(self, value: Any) -> str:
        """What a picture calls one of its numbers."""
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    def widget(self, ipywidgets: Any, start: Any) -> Any:
        """The slider itself."""
        shown: dict[str, Any] = {"description": self.name, "style": {"description_width": "auto"}}
        if isinstance(self.low, int):
            return ipywidgets.IntSlider(start, self.low, self.high, **shown)
        shown["readout_format"] = ".4g"
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            step = (high - low) / STEPS
            return ipywidgets.FloatLogSlider(start, min=low, max=high, step=step, **shown)
        step = (self.high - self.low) / STEPS
        return ipywidgets.FloatSlider(start, min=self.low, max=self.high, step=step, **shown)


@dataclass(frozen=True)
class Choice:
    """Values of which one is chosen.

    Attributes
    ----------
    name : str
        The parameter that it sets.
    options : dict
        The values, by their labels.
    """

    name: str
    options: dict[str, Any]

    @property
    def middle(self) -> Any:
        """What is chosen at first: the first."""
        return next(iter(self.options.values()))

    def spread(self, count: int) -> list[Any]:
        """At most so many values, from the first to the last."""
        values = list(self.options.values())
        places = np.linspace(0, len(values) - 1, min(count, len(values)))
        return [values[int(place)] for place in places.round()]

    def has(self, value: Any) -> bool:
        """Whether this is one of its values."""
        return any(one is value or bool(one == value) for one in self.options.values())

    def label(self, value: Any) -> str:
        """What a picture calls one of its values."""
        labels = [label for label, one in self.options.items() if one is value or one == value]
        return labels[0]

    def widget(self, ipywidgets: Any, start: Any) -> Any:
        """The buttons, or the menu."""
        kind = ipywidgets.ToggleButtons if len(self.options) <= BUTTONS else ipywidgets.Dropdown
        return kind(
            options=list(self.options.items()),
            value=start,
            description=self.name,
            style={"description_width": "auto"},
        )


Control = Slider | Choice


def read_control(name: str, given: Any) -> Control:
    """The control that a pair, a list or a dict asks for.

    Parameters
    ----------
    name : str
        The parameter that it sets.
    given : pair (low, high), list, or mapping of str to value
        What `explore` takes.

    Raises
    ------
    TypeError
        If it is none of these, or an end is no number.
    ValueError
        If it is empty, or its ends are not finite and in order.
    """
    if isinstance(given, tuple):
        return _slider(name, given)
    if isinstance(given, Mapping):
        options = {str(label): value for label, value in given.items()}
    elif isinstance(given, list):
        options = {_label(value): value for value in given}
    else:
        raise TypeError(
            f"{name}: expected a pair (low, high), a list of choices, or a dict of choices by "
            f"their labels, but got {given!r}"
        )
    if not options or len(options) < len(given):
        raise ValueError(f"{name}: expected one or more different choices, but got {given!r}")
    return Choice(name, options)


def _slider(name: str, ends: tuple[Any, ...]) -> Slider:
    fine = len(ends) == 2 and all(is_number(end) for end in ends)
    if not fine or not math.isfinite(ends[1] - ends[0]) or ends[0] >= ends[1]:
        raise ValueError(
            f"{name}: expected a pair (low, high) of finite numbers, the lower first, but got "
            f"{ends!r}; of choices, make a list"
        )
    kind = int if all(isinstance(end, int) for end in ends) else float
    return Slider(name, *map(kind, ends))


def _label(value: Any) -> str:
    """What a choice is called: a class or function by its name."""
    return str(getattr(value, "__name__", value))
