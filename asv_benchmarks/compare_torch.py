"""Time steps of arrayopt and torch side by side: ``python compare_torch.py [--threads N]``.

Both sides start from the same parameters and gradients, and are checked to agree before they are
timed. They take turns; a turn is a few steps, long enough for the clock and for the caches to
hold what a run of steps leaves in them. The table shows medians over the turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from benchmarks.workloads import WORKLOADS, Shapes, parameters
from rich.console import Console
from rich.table import Table

import arrayopt as optim

ALGORITHMS = ("SGD", "Adam", "AdamW")
TURN = 0.02  # seconds that a turn lasts at least


def sides(algorithm: str, shapes: Shapes) -> dict[str, Callable[[], object]]:
    """A step of ours, and of torch's three implementations, that have been seen to agree."""
    ours = parameters(shapes)
    steps: dict[str, Callable[[], object]] = {}
    optimizer = getattr(optim, algorithm)(ours)
    steps["arrayopt"] = optimizer.step
    optimizer.step()
    for name, options in {
        "default": {},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }.items():
        tensors = []
        for parameter in parameters(shapes):
            tensor = torch.tensor(parameter.data, requires_grad=True)
            tensor.grad = torch.tensor(parameter.grad)
            tensors.append(tensor)
        theirs = getattr(torch.optim, algorithm)(tensors, **options)
        theirs.step()
        for mine, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(mine.data, tensor.detach().numpy(), rtol=1e-5, atol=1e-7)
        steps[name] = theirs.step
    return steps


def medians(steps: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds per step, each side having its turns between those of the others."""
    lengths = {}
    for name, step in steps.items():
        begin = time.perf_counter()
        step()
        lengths[name] = max(1, round(TURN / (time.perf_counter() - begin)))
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            begin = time.perf_counter()
            for _ in range(lengths[name]):
                step()
            samples[name].append((time.perf_counter() - begin) / lengths[name])
    return {name: statistics.median(times) for name, times in samples.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of each side (default 2)")
    parser.add_argument("--turns", type=int, default=15, help="turns of each side (default 15)")
    arguments = parser.parse_args()
    optim.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"A step: arrayopt and torch, {arguments.threads} threads each, float32")
    for column in ("parameters", "algorithm", "arrayopt (ms)", "default", "foreach", "fused"):
        table.add_column(
            column, justify="left" if column in ("parameters", "algorithm") else "right"
        )
    for workload, shapes in WORKLOADS.items():
        for algorithm in ALGORITHMS:
            times = medians(sides(algorithm, shapes), arguments.turns)
            ours = times.pop("arrayopt")
            ratios = [f"{1e3 * theirs:.2f} ms = {theirs / ours:.2f}x" for theirs in times.values()]
            table.add_row(workload, algorithm, f"{1e3 * ours:.2f}", *ratios)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
