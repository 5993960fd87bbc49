"""Time steps of arrayopt and torch side by side: ``python compare_torch.py [--threads N]``.

Both sides start from the same parameters and gradients, and are checked to agree before they are
timed. They take turns; a turn is one step or more, as many as take 20 ms. The table shows medians
over the turns.
"""

from __future__ import annotations

import argparse
import inspect
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from benchmarks.workloads import ALGORITHMS, WORKLOADS, Shapes, embedding, parameters
from rich.console import Console
from rich.table import Table

import arrayopt as optim

TURN = 0.02  # seconds that a turn lasts at least

TORCH = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def is_there(algorithm: str, option: str) -> bool:
    """Whether torch has this implementation of the algorithm."""
    known = inspect.signature(getattr(torch.optim, algorithm)).parameters
    return option == "default" or option in known


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
    parser.add_argument("--algorithm", action="append", choices=ALGORITHMS, help="default: all")
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: all")
    arguments = parser.parse_args()
    optim.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    table = Table(
        title=f"torch / arrayopt: a step in float32, {arguments.threads} threads each",
        caption="More than 1: arrayopt is faster. A column for each implementation of torch.",
    )
    for column in ("parameters", "algorithm", *TORCH):
        table.add_column(column, justify="right" if column in TORCH else "left")
    for workload in arguments.workload or WORKLOADS:
        shapes = WORKLOADS[workload]
        for algorithm in arguments.algorithm or ALGORITHMS:
            cells = []
            for name, options in TORCH.items():
                if not is_there(algorithm, name):
                    cells.append("not there")
                    continue
                ours, theirs = medians(sides(algorithm, shapes, options), arguments.turns)
                cells.append(f"{1e3 * theirs:.2f} / {1e3 * ours:.2f} ms = {theirs / ours:.2f}")
            table.add_row(workload, algorithm, *cells)
    console = Console(width=110)
    console.print(table)
    if not (arguments.workload or arguments.algorithm):
        console.print(rows(arguments.turns))


def rows(turns: int) -> Table:
    """Steps on the touched rows of an embedding, beside dense steps on all of it."""
    ours, everything = embedding(dense=False), embedding(dense=True)
    tensor = torch.tensor(ours.data)
    grad = ours.grad
    tensor.grad = torch.sparse_coo_tensor(grad.indices, grad.values, grad.shape)
    steps = {
        "arrayopt SparseAdam": optim.SparseAdam([ours]).step,
        "torch SparseAdam": torch.optim.SparseAdam([tensor]).step,
        "arrayopt Adam, dense": optim.Adam([everything]).step,
    }
    for step in steps.values():
        step()
    np.testing.assert_allclose(ours.data, tensor.numpy(), rtol=1e-5, atol=1e-7)
    times = dict(zip(steps, medians(list(steps.values()), turns), strict=True))
    table = Table(title="An embedding of 1M x 64 in float32, of which 1,000 rows have a gradient")
    for column in ("", "ms", "times as long"):
        table.add_column(column, justify="right" if column else "left")
    for name, seconds in times.items():
        ratio = seconds / times["arrayopt SparseAdam"]
        table.add_row(name, f"{1e3 * seconds:.2f}", f"{ratio:.1f}")
    return table


if __name__ == "__main__":
    main()
