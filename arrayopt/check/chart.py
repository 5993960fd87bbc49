"""The course of the differences, as a picture."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from arrayopt.check.comparison import Comparison
from arrayopt.check.measure import DTYPES
from arrayopt.check.streams import STREAMS
from arrayopt.check.summary import Summary
from arrayopt.plotting.style import COLORS, tidy

__all__ = ["ZERO", "chart", "picture"]

#: What stands for a difference of zero, which a logarithmic axis does not have.
ZERO = 1e-18

#: How the curves of each dtype, and of each stream, are drawn.
COLOR = dict(zip(DTYPES, COLORS))
STYLES: dict[str, Any] = dict(zip(STREAMS, ("-", "--", ":")))


def chart(found: Sequence[Summary], path: Path, caption: str) -> None:
    """Draw the curves of all algorithms, a panel each, to a PNG or SVG file.

    Parameters
    ----------
    found : sequence of Summary
        What is drawn.
    path : Path
        The file, written over if it exists.
    caption : str
        What it says at the top.
    """
    titles = list(dict.fromkeys(row.title for row in found))
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(1 + 4.2 * columns, 1.6 + 2.6 * rows), layout=ConstrainedLayoutEngine())
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, title in zip(panels.flat, titles):
        _panel(axes, [row for row in found if row.title == title])
        axes.set_title(title, loc="left", fontsize="medium")
    for axes in panels.flat[len(titles) :]:
        axes.set_axis_off()
    for axes in panels.flat[max(0, len(titles) - columns) : len(titles)]:
        axes.set_xlabel("step")
        axes.tick_params(labelbottom=True)
    figure.supylabel("largest relative difference", fontsize="medium")
    _legend(figure, found)
    figure.suptitle(f"{caption}\n(no difference is drawn as {ZERO:g})", fontsize="medium")
    figure.savefig(path, dpi=150)


def picture(found: Sequence[Summary]) -> str:
    """The curves of one algorithm as SVG, to be put into a page."""
    figure = Figure(figsize=(7, 3.4), layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    _panel(axes, found)
    axes.set_xlabel("step")
    axes.set_ylabel("largest relative difference")
    _legend(figure, found)
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": found[0].title}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    return re.sub(r'<g id="[^"]*"', "<g", svg)  # (names of groups are the same in each picture)


def _panel(axes: Any, found: Sequence[Summary]) -> None:
    """For each dtype and stream, the largest difference over options and implementations."""
    for summary in found:
        color = COLOR[summary.dtype]
        for stream, style in STYLES.items():
            rows = [row for row in summary.rows if row.stream == stream]
            if rows:
                steps, largest = _envelope(rows)
                axes.plot(steps, largest, style, color=color, linewidth=1.4)
    bounds: dict[float, list[str]] = {}
    for summary in found:
        bounds.setdefault(summary.rows[0].bound, []).append(summary.dtype)
    for bound, dtypes in bounds.items():
        if not math.isfinite(bound):
            continue
        color = COLOR[dtypes[0]]
        axes.axhline(bound, color=color, linewidth=0.8, alpha=0.6)
        axes.annotate(
            f"bound, {' and '.join(dict.fromkeys(dtypes))}",
            (0.01, bound),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize="x-small",
            color=color,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:g}"))
    tidy(axes)


def _envelope(rows: Sequence[Comparison]) -> tuple[list[int], list[float]]:
    steps = [step for step, _ in rows[0].curve]
    curves = zip(*(row.curve for row in rows))
    return steps, [max(ZERO, *(difference for _, difference in points)) for points in curves]


def _legend(figure: Any, found: Sequence[Summary]) -> None:
    lines = [
        Line2D([], [], color=COLOR[dtype], label=dtype)
        for dtype in dict.fromkeys(summary.dtype for summary in found)
    ]
    present = {row.stream for summary in found for row in summary.rows}
    lines += [
        Line2D([], [], color="black", linestyle=style, label=f"{stream} gradients")
        for stream, style in STYLES.items()
        if stream in present
    ]
    figure.legend(
        handles=lines, loc="outside lower center", ncols=5, frameon=False, fontsize="small"
    )
