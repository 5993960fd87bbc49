"""A picture with sliders, and without them where there is nobody to move them."""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from arrayopt.extras import require
from arrayopt.plotting.controls import Control, read_control
from arrayopt.plotting.style import new_figure

if TYPE_CHECKING:
    from arrayopt.plotting.picture import Picture

__all__ = ["Exploration", "explore"]

#: How many values of the first control the still picture shows; how many panels there are in a
#: row; and how wide the row is, in inches.
VALUES, COLUMNS, WIDTH = 3, 3, 10.0

#: Inches around a panel: what is left of them by the last number of an axis.
PAD = 0.1


class Exploration:
    """A picture that depends on some numbers: what `explore` returns.

    A notebook shows it with sliders and buttons where ipywidgets is installed, and stores the still
    picture beside, for whoever opens the notebook without a kernel.

    Examples
    --------
    >>> from arrayopt import plotting
    >>> def line(ax, slope=1.0):
    ...     ax.plot([0, 1], [0, slope])
    >>> exploration = plotting.explore(line, slope=(0.0, 2.0), at=[{"slope": 0.5}, {"slope": 2.0}])
    >>> still = exploration.picture()
    >>> len(still.subfigs)
    2
    >>> float(exploration.panel(slope=1.5).axes[0].lines[0].get_ydata()[1])
    1.5
    """

    def __init__(
        self,
        draw: Callable[..., Any],
        controls: Mapping[str, Control],
        start: Mapping[str, Any],
        at: Iterable[Mapping[str, Any]],
        size: tuple[float, float],
    ) -> None:
        self._draw, self._controls, self._start = draw, dict(controls), dict(start)
        self._at, self._size = [dict(values) for values in at], size

    def panel(self, **values: Any) -> Picture:
        """The picture for these values, and for the values at the start of the others.

        Returns
        -------
        matplotlib Figure

        Raises
        ------
        ValueError
            If a value is none of its control.
        TypeError
            If there is no such control.
        """
        return self._panel(_checked(values, self._controls, "panel"))

    def _panel(self, values: Mapping[str, Any]) -> Picture:
        figure = new_figure(*self._size)
        self._draw(figure.subplots(), **(self._start | dict(values)))
        return figure

    def picture(self) -> Picture:
        """The still picture: panels for some of the values beside each other.

        Returns
        -------
        matplotlib Figure
        """
        columns = 2 if len(self._at) == 4 else min(COLUMNS, len(self._at))
        rows = -(-len(self._at) // columns)
        width = min(WIDTH / columns, self._size[0])
        height = max(1.8, width * self._size[1] / self._size[0])
        figure = new_figure(width * columns, height * rows)
        figure.set_layout_engine("constrained", w_pad=PAD)
        places = figure.subfigures(rows, columns, squeeze=False).ravel()
        for place, values in zip(places, self._at):
            self._draw(place.subplots(), **(self._start | values))
            told = (f"{name} = {self._controls[name].label(v)}" for name, v in values.items())
            place.suptitle(", ".join(told), fontsize="medium", fontweight="bold")
        return figure

    def widget(self) -> Any:
        """The picture with its controls, drawn anew whenever one of them is moved.

        An error in drawing is shown below, and the picture stays as it was.

        Returns
        -------
        ipywidgets VBox

        Raises
        ------
        ImportError
            If ipywidgets is not installed; it names the command that installs it.
        """
        ipywidgets = require("ipywidgets", "sliders need", "notebooks")
        controls = {
            name: control.widget(ipywidgets, self._start[name])
            for name, control in self._controls.items()
        }
        image, message = ipywidgets.Image(format="png"), ipywidgets.HTML()

        def draw(_change: Any = None) -> None:
            try:
                found = self._panel({name: one.value for name, one in controls.items()})
                image.value, message.value = found._repr_png_(), ""
            except Exception as error:
                told = html.escape(f"{type(error).__name__}: {error}")
                message.value = f"<pre>{told}</pre>"

        for control in controls.values():
            control.observe(draw, "value")
        draw()
        return ipywidgets.VBox([*controls.values(), message, image])

    def _repr_mimebundle_(self, **_settings: Any) -> dict[str, Any]:
        picture = base64.b64encode(self.picture()._repr_png_()).decode()
        still = {"text/plain": repr(self), "image/png": picture}
        try:
            return dict(self.widget()._repr_mimebundle_()) | still
        except ImportError:
            return still

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join(self._controls)}>"


def explore(
    draw: Callable[..., Any],
    *,
    at: Iterable[Mapping[str, Any]] | None = None,
    size: tuple[float, float] = (6.4, 4.0),
    **controls: Any,
) -> Exploration:
    """Draw a picture whose numbers can be changed by sliders and buttons.

    Without a kernel or without ipywidgets (``pip install 'arrayopt[notebooks]'``), and in the file
    of the notebook, there is a still picture instead: some of the values beside each other.

    Parameters
    ----------
    draw : callable
        ``draw(ax, **values)`` draws on matplotlib axes.
    at : sequence of dict, optional
        The values for each panel of the still picture, three panels in a row. By default, three
        values of the first control, and the others where they start.
    size : pair of float, default (6.4, 4.0)
        Width and height of the picture with sliders, in inches.
    **controls : pair (low, high), list, or dict of str to value
        One for each parameter of `draw` that can be changed: a pair is a slider from the one to the
        other, over integers if both are; a list, or a dict with labels, are choices. A slider over
        positive numbers that differ by a factor of 30 or more is logarithmic. It starts at the
        default value of the parameter, if `draw` has one, or else in the middle; a choice, with its
        first.

    Returns
    -------
    Exploration
        A notebook shows it. ``picture()`` is the still picture, ``panel(**values)`` the one for
        these values, and ``widget()`` the one with controls.

    Raises
    ------
    ImportError
        If matplotlib is not installed, when it is drawn.
    TypeError
        If `draw` cannot be called with `ax` and the controls, or a control is none.
    ValueError
        If there is no control, its ends are not in order, or a value is none of its control.

    Examples
    --------
    >>> import arrayopt as optim
    >>> from arrayopt.plotting import explore, plot_trajectories
    >>> from arrayopt.problems import ravine
    >>> def path(ax, lr, momentum=0):
    ...     runs = [(optim.SGD, {"lr": lr, "momentum": momentum})]
    ...     plot_trajectories(ravine(), runs, 30, colorbar=False, ax=ax)
    >>> exploration = explore(path, lr=(0.001, 0.02), momentum=[0, 0.5, 0.9])
    >>> figure = exploration.picture()
    >>> [panel.get_suptitle() for panel in figure.subfigs]
    ['lr = 0.001', 'lr = 0.0105', 'lr = 0.02']
    """
    if not callable(draw):
        raise TypeError(f"draw: expected a function draw(ax, **values), but got {draw!r}")
    if not controls:
        raise ValueError("controls: expected at least one, such as lr=(0.01, 1.0), but got none")
    found = {name: read_control(name, given) for name, given in controls.items()}
    start = _starts(draw, found)
    if at is None:
        name, first = next(iter(found.items()))
        panels = [{name: value} for value in first.spread(VALUES)]
    else:
        panels = [_checked(values, found, "at") for values in at]
    if not panels:
        raise ValueError("at: expected at least one dict of values, but got none")
    return Exploration(draw, found, start, panels, _size(size))


def _starts(draw: Callable[..., Any], controls: Mapping[str, Control]) -> dict[str, Any]:
    """Where each control stands at first."""
    signature = inspect.signature(draw)
    try:
        signature.bind(None, **dict.fromkeys(controls))
    except TypeError as error:
        raise TypeError(
            f"draw: expected a function of ax and {', '.join(controls)}, but {error}: {signature}"
        ) from None
    defaults = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name in controls and parameter.default is not parameter.empty
    }
    _checked(defaults, controls, "draw")
    return {name: control.middle for name, control in controls.items()} | defaults


def _checked(values: Any, controls: Mapping[str, Control], whose: str) -> dict[str, Any]:
    """Values of controls, each of which is one of its."""
    if not isinstance(values, Mapping):
        raise TypeError(f"{whose}: expected a dict of values, but got {values!r}")
    for name, value in values.items():
        if name not in controls:
            raise TypeError(f"{whose}: expected values of {', '.join(controls)}, but got {name!r}")
        if not controls[name].has(value):
            raise ValueError(f"{whose}: expected a value of {controls[name]}, but got {value!r}")
    return dict(values)


def _size(size: Any) -> tuple[float, float]:
    try:
        width, height = map(float, size)
        fine = 0 < width < float("inf") and 0 < height < float("inf")
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(f"size: expected two positive numbers, in inches, but got {size!r}")
    return width, height
