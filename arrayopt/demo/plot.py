"""Loss curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arrayopt.plotting.style import draw_curve, tidy

__all__ = ["plot"]

#: One diverging algorithm is not to squeeze the curves of the others.
HIGHEST = 1e3


def plot(
    curves: Mapping[str, Sequence[float]], path: Path, title: str, data: str = "training"
) -> None:
    """Write loss curves to a PNG file.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        The losses after 0, 1, … epochs, by the names of the curves. There is a gap where the loss
        is NaN, zero or above `HIGHEST`.
    path : Path
        The file, written over if it exists.
    title : str
        The title of the picture.
    data : str, default "training"
        What the loss is of.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (name, losses) in enumerate(curves.items()):
        draw_curve(
            axes,
            np.arange(len(losses)),
            np.where(np.less(losses, HIGHEST), losses, np.nan),
            number,
            name,
        )
    axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{data} loss (mean cross-entropy, nats)")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    tidy(axes)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, format="png", dpi=300)
