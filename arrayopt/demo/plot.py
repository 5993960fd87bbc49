"""Loss curves as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["plot"]

#: Okabe and Ito (2008), for all kinds of colour vision, without the yellow, faint on white.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = "os^Dv<>PX*hpd"

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
        epochs = range(len(losses))
        spacing = max(1, len(losses) // 7)
        axes.plot(
            epochs,
            np.where(np.less(losses, HIGHEST), losses, np.nan),
            color=COLORS[number % len(COLORS)],
            linestyle=STYLES[number % len(STYLES)],
            marker=MARKERS[number % len(MARKERS)],
            markevery=(number % spacing, spacing),
            markersize=5,
            linewidth=1.8,
            label=name,
        )
    axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{data} loss (mean cross-entropy, nats)")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.grid(which="major", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    figure.savefig(path, format="png", dpi=300)
