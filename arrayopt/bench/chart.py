"""What was measured, as a bar chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from arrayopt.bench.comparison import Result
from arrayopt.bench.contenders import CONTENDERS
from arrayopt.bench.workloads import WORKLOADS
from arrayopt.plotting.style import COLORS

__all__ = ["chart"]

#: With the colours, for a print in black and white.
HATCHES = ("", "////", "...", "\\\\\\", "xxx", "---", "+++")

#: Of a group of bars, and at most of a bar, where algorithms are 1 apart.
GROUP, WIDTH = 0.85, 0.2

#: For how many algorithms a panel has room at least, lest the bars of a few be as wide as towers.
LEAST_GROUPS = 6


def chart(results: Sequence[Result], path: Path, caption: str) -> None:
    """Draw how many times as fast arrayopt is, on NumPy arrays, as each rival.

    Parameters
    ----------
    results : sequence of Result
        A panel for each workload, a group of bars for each algorithm, a bar for each rival.
    path : Path
        The file, written over if it exists; PNG or SVG, by its suffix.
    caption : str
        On which machine, and how.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    bars = [result for result in results if "arrayopt" in result.ratios]
    workloads = list(dict.fromkeys(bar.workload for bar in bars))
    styles = _styles({bar.contender for bar in bars})
    columns = 2 if len(workloads) > 3 else 1
    rows = max(1, -(-len(workloads) // columns))
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(9 * columns, 1.4 + 2.2 * rows), layout=layout)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axes, workload in zip_longest(panels, workloads):
        if workload is None:
            axes.set_axis_off()
            continue
        _panel(axes, [bar for bar in bars if bar.workload == workload], styles)
        axes.set_title(f"{workload}: {WORKLOADS[workload].title}", loc="left", fontsize="medium")
    figure.supylabel("time of the other / time of arrayopt", fontsize="medium")
    figure.suptitle(
        f"A step of arrayopt on NumPy arrays: above 1×, it is faster than the other\n{caption}",
        fontsize="medium",
    )
    patches = [Patch(edgecolor="white", **style) for style in styles.values()]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=200)


def _styles(present: set[str]) -> dict[str, dict[str, Any]]:
    """Colour, hatch and label of each rival."""
    rivals = [name for name in CONTENDERS if name in present]
    return {
        name: {
            "facecolor": COLORS[number % len(COLORS)],
            "hatch": HATCHES[number % len(HATCHES)],
            "label": CONTENDERS[name].heading.replace("\n", " "),
        }
        for number, name in enumerate(rivals)
    }


def _panel(axes: Any, bars: Sequence[Result], styles: Mapping[str, dict[str, Any]]) -> None:
    """The bars of one workload: up from 1 where arrayopt is faster, and down where it is not."""
    algorithms = list(dict.fromkeys(bar.algorithm for bar in bars))
    width = min(WIDTH, GROUP / len(styles))
    for place, algorithm in enumerate(algorithms):
        group = [bar for bar in bars if bar.algorithm == algorithm]
        for number, bar in enumerate(group):
            offset = (number - (len(group) - 1) / 2) * width
            height = 1 / bar.ratios["arrayopt"] - 1
            style = styles[bar.contender]
            axes.bar(place + offset, height, width, bottom=1, edgecolor="white", lw=0.4, **style)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    fontsize = "small" if len(algorithms) < 13 else "x-small"
    axes.set_xticks(range(len(algorithms)), algorithms, fontsize=fontsize)
    axes.set_xlim(-0.5, max(len(algorithms), LEAST_GROUPS) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.tick_params(axis="y", labelleft=True)
    axes.grid(axis="y", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
