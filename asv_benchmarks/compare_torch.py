"""Time steps of arrayopt and torch side by side: ``python compare_torch.py [--threads N]``.

Both sides start from the same parameters and gradients, and are checked to agree before they are
timed. They take turns; a turn is one step or more, as many as take 20 ms. The table shows medians
over the turns.
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


TORCH = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def sides(algorithm: str, shapes: Shapes, options: dict[str, bool]) -> list[Callable[[], object]]:
    """A step of ours, and one of torch with these options, that have been seen to agree."""
    ours, tensors = parameters(shapes), []
    for parameter in ours:
        tensor = torch.tensor(parameter.data, requires_grad=True)
        tensor.grad = torch.tensor(parameter.grad)
        tensors.append(tensor)
    optimizer = getattr(optim, algorithm)(ours)
    theirs = getattr(torch.optim, algorithm)(tensors, **options)
    optimizer.step()
    theirs.step()
    for mine, tensor in zip(ours, tensors, strict=True):
        np.testing.assert_allclose(mine.data, tensor.detach().numpy(), rtol=1e-5, atol=1e-7)
    return [optimizer.step, theirs.step]


def medians(steps: list[Callable[[], object]], turns: int) -> list[float]:
    """Seconds per step, the sides taking turns."""
    lengths = []
    for step in steps:
        begin = time.perf_counter()
        step()
        lengths.append(max(1, round(TURN / (time.perf_counter() - begin))))
    samples: list[list[float]] = [[] for _ in steps]
    for _ in range(turns):
        for step, length, times in zip(steps, lengths, samples, strict=True):
            begin = time.perf_counter()
            for _ in range(length):
                step()
            times.append((time.perf_counter() - begin) / length)
    return [statistics.median(times) for times in samples]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads of each side (default 2)")
    parser.add_argument("--turns", type=int, default=15, help="turns of each side (default 15)")
    arguments = parser.parse_args()
    optim.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    table = Table(
        title=f"torch / arrayopt: a step in float32, {arguments.threads} threads each",
        caption="More than 1: arrayopt is faster. A column for each implementation of torch.",
    )
    for column in ("parameters", "algorithm", *TORCH):
        table.add_column(column, justify="right" if column in TORCH else "left")
    for workload, shapes in WORKLOADS.items():
        for algorithm in ALGORITHMS:
            cells = []
            for options in TORCH.values():
                ours, theirs = medians(sides(algorithm, shapes, options), arguments.turns)
                cells.append(f"{1e3 * theirs:.2f} / {1e3 * ours:.2f} ms = {theirs / ours:.2f}")
            table.add_row(workload, algorithm, *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
