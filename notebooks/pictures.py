"""The pictures of the site: `python notebooks/pictures.py FOLDER` draws them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from speed_table import MEASURED

import arrayopt as optim
from arrayopt import plotting, problems
from arrayopt.bench.chart import chart
from arrayopt.bench.record import caption, results_of
from arrayopt.lr_scheduler import CosineWarmupLR, OneCycleLR, WarmupStableDecayLR
from arrayopt.plotting.picture import SHADES, with_palette

__all__ = ["draw_all"]


def paths() -> Figure:
    """Five optimizers on Beale's function."""
    problem = problems.beale()
    runs = [
        (optim.SGD, {"lr": 0.005}),
        (optim.SGD, {"lr": 0.002, "momentum": 0.9}),
        (optim.Adam, {"lr": 0.1}),
        (optim.RMSprop, {"lr": 0.03}),
        (optim.Adagrad, {"lr": 0.5}),
    ]
    figure = plotting.plot_trajectories(problem, problems.trajectories(problem, runs, 400))
    figure.set_size_inches(8, 3.2)
    return figure


def schedules() -> Figure:
    """Three schedules with a warm-up."""

    def opt() -> optim.Optimizer:
        return optim.SGD([np.zeros(2)], lr=0.1)

    curves = [
        CosineWarmupLR(opt(), warmup_steps=100, total_steps=1000),
        WarmupStableDecayLR(opt(), warmup_steps=100, stable_steps=600, decay_steps=300),
        OneCycleLR(opt(), max_lr=0.1, total_steps=1001, cycle_momentum=False),
    ]
    figure: Figure = plotting.plot_schedule(curves, 1000).figure
    return figure


def intermediates() -> Figure:
    """What Adam computes on its way."""
    w = np.array([3.0, -2.0])
    opt = optim.Adam([w], lr=0.1)
    with optim.record(opt) as recording:
        for _ in range(80):
            opt.step(grads=[2 * w])
    names = ["exp_avg", "exp_avg_sq", "step_size", "update"]
    return plotting.plot_intermediates(recording, names)


PICTURES: tuple[Callable[[], Figure], ...] = (paths, schedules, intermediates)


def draw_all(folder: Path) -> None:
    """Draw every picture, and a chart for each workload that was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in PICTURES:
        figure = draw()
        figure.draw_without_rendering()  # the layout is settled when it is found anew
        figure.savefig(folder / f"{draw.__name__}.png", dpi=160, metadata={"Software": None})
    record = json.loads(MEASURED.read_text())
    for workload in record["workloads"]:
        bars = [result for result in results_of(record) if result.workload == workload]
        chart(bars, folder / f"bench_{workload}.png", caption(record))
    for file in folder.glob("*.png"):
        file.write_bytes(with_palette(file.read_bytes(), SHADES))


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
