"""Draw cover.png: one rule, and what becomes of it. Run as a script."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import arrayopt as optim
from arrayopt import plotting, problems
from arrayopt.plotting.picture import with_palette

INK, PAPER, ACCENT = "#1b1f24", "#f6f8fa", plotting.style.COLORS[0]
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 11, "fontweight": "bold", "color": ACCENT}

#: How many colours the file has.
SHADES = 128


class Lion(optim.Optimizer):
    """Chen et al. (2023), "Symbolic discovery of optimization algorithms", program 1."""

    state_table = (optim.StateSlot("exp_avg"),)

    def __init__(self, params: Any, lr: float, betas: Any = (0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Mapping[str, Any]) -> Any:
        beta1, beta2 = group["betas"]
        exp_avg = state["exp_avg"]
        update = xp.sign(beta1 * exp_avg + (1 - beta1) * grad)
        param = param - group["lr"] * (update + group["weight_decay"] * param)
        exp_avg = beta2 * exp_avg + (1 - beta2) * grad
        return param, {"exp_avg": exp_avg}


def card(axes: Axes, title: str) -> None:
    """An empty card with a title."""
    axes.set(xticks=[], yticks=[], facecolor=PAPER)
    axes.set_title(title, **TITLE)
    for spine in axes.spines.values():
        spine.set_color("#d0d7de")


def text(axes: Axes, lines: str, size: float) -> None:
    """Program text on a card."""
    axes.text(
        0.03, 0.95, lines, family="monospace", fontsize=size, color=INK, va="top",
        linespacing=1.45, transform=axes.transAxes, in_layout=False,
    )  # fmt: skip


def rule_text() -> str:
    """The rule as it stands above, without its types."""
    body = inspect.getsource(Lion.rule).split("\n", 1)[1]
    return "def rule(self, xp, param, grad, state, group):\n" + textwrap.indent(
        textwrap.dedent(body), "    "
    )


def kernel_text() -> str:
    """The loop of the kernel that is compiled of the rule."""
    kernel = optim.explain(Lion, lr=0.1, weight_decay=0.01).numba
    return textwrap.dedent(kernel[kernel.index("        for i in range") :])


def equations(axes: Axes) -> None:
    """The rule in the signs of the paper."""
    latex = optim.explain(Lion, lr=0.1, weight_decay=0.01).latex
    lines = [line for line in latex.splitlines() if "&" in line]
    for number, line in enumerate(lines):
        line = line.rstrip("\\ ").replace("&", "").replace(r"\left", "").replace(r"\right", "")
        line = line.replace(r"\operatorname{sign}", r"\mathrm{sign}")
        axes.text(0.06, 0.76 - 0.26 * number, f"${line}$", fontsize=15, color=INK, va="center")


def paths(axes: Axes) -> None:
    """What three optimizers do on one surface."""
    problem = problems.beale()
    ways = problems.trajectories(
        problem,
        [(optim.SGD, {"lr": 0.01}), (optim.Adam, {"lr": 0.1}), (Lion, {"lr": 0.01})],
        300,
    )
    plotting.plot_trajectories(problem, ways, ax=axes)


def draw() -> Figure:
    """The whole picture."""
    figure = plotting.new_figure(12.5, 5.7)
    figure.set_layout_engine("constrained", wspace=0.03, hspace=0.05)
    (rule, kernel), (latex, surface) = figure.subplots(
        2, 2, width_ratios=[1.25, 1], height_ratios=[1, 1.75]
    ).T
    card(rule, "You write a rule …")
    text(rule, rule_text(), 9.4)
    card(latex, "… it explains itself")
    equations(latex)
    card(kernel, "… it is compiled, to one pass over memory")
    text(kernel, kernel_text(), 8)
    paths(surface)
    surface.set_title("… and it optimizes", **TITLE)
    return figure


def words() -> str:
    """What is written in the picture."""
    latex = optim.explain(Lion, lr=0.1, weight_decay=0.01).latex
    return "\n\n".join([rule_text(), latex, kernel_text()])


def save(path: Path) -> None:
    """Draw the picture to a PNG file of few colours, which has its words as a description."""
    png = BytesIO()
    draw().savefig(png, format="png", dpi=110)
    said = PngInfo()
    said.add_itxt("Description", words())
    with Image.open(BytesIO(with_palette(png.getvalue(), SHADES))) as image:
        image.save(path, pnginfo=said, optimize=True)


if __name__ == "__main__":
    save(Path(__file__).with_name("cover.png"))
