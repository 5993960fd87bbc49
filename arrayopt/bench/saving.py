"""How fast checkpoints are: beside a plain write, fsync and read of the same bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

import arrayopt
from arrayopt import checkpoint
from arrayopt.bench.measure import Effort, Step, Timing, take_turns
from arrayopt.bench.neighbours import doubt, watch
from arrayopt.bench.workloads import WORKLOADS, problem, size
from arrayopt.terminal import console

__all__ = ["compare_saving", "show_saving"]

Arrays = Sequence[NDArray[Any]]

#: Each side, and the plain one that it is compared with.
PLAIN = {"save": "write and fsync", "load": "read"}

EXPLANATION = """\
All took turns; medians over the turns. A plain read is one into arrays like those that a load reads
into: those of the model, which are there, and new ones for the state. The file is in the memory of
the system. "ratio" is the plain time over that of the checkpoint: 1 is as fast. Half of the turns
took what stands under "between": if that is much, the disk is not for this alone."""


def compare_saving(folder: Path, quick: bool, effort: Effort) -> tuple[int, dict[str, Timing]]:
    """Time saves and loads of GPT-2 with the state of Adam, and plain ones of the same bytes.

    Parameters
    ----------
    folder : Path
        Where to write.
    quick : bool
        Take smaller parameters.
    effort : Effort
        How long to measure.

    Returns
    -------
    nbytes : int
        How many bytes that is.
    timings : dict of str to Timing
    """
    numbers = problem(WORKLOADS["gpt2"].shapes_of(quick))
    model = {str(number): start.copy() for number, start in enumerate(numbers.starts)}
    opt = arrayopt.Adam(model.items())
    opt.step(grads=numbers.grads)
    weights = list(model.values())
    state = [entry[name] for entry in opt.state.values() for name in ("exp_avg", "exp_avg_sq")]

    def save() -> None:
        checkpoint.save(folder, model=model, optimizer=opt, keep=1)

    def load() -> None:
        checkpoint.load(folder, model=model, optimizer=arrayopt.Adam(model.items()))

    plain = folder / "plain"
    sides: dict[str, Step] = {
        "write and fsync": lambda: _write(plain, [*weights, *state]),
        "save": save,
        "read": lambda: _read(plain, [*weights, *map(np.empty_like, state)]),
        "load": load,
    }
    return sum(array.nbytes for array in (*weights, *state)), take_turns(sides, effort)


def _write(path: Path, arrays: Arrays) -> None:
    with open(path, "wb", buffering=0) as file:
        for array in arrays:
            rest = array.reshape(-1).view(np.uint8).data
            while rest:
                rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _read(path: Path, arrays: Arrays) -> None:
    with open(path, "rb", buffering=0) as file:
        for array in arrays:
            rest = array.reshape(-1).view(np.uint8).data
            while rest:
                rest = rest[file.readinto(rest) :]


def show_saving(folder: Path, quick: bool, effort: Effort) -> None:
    """Time saves and loads, and print a table.

    Parameters
    ----------
    folder : Path
        On the disk that is written to.
    quick : bool
        Take smaller parameters.
    effort : Effort
        How long to measure.
    """
    screen = console()
    others = watch()
    with tempfile.TemporaryDirectory(dir=folder) as made:
        nbytes, timings = compare_saving(Path(made), quick, effort)
    shapes = WORKLOADS["gpt2"].shapes_of(quick)
    screen.print(
        f"Checkpoints of {len(shapes)} arrays of float32, {size(shapes) / 1e6:.1f}M numbers, with "
        f"the state of Adam: {nbytes / 1e9:.2f} GB in {folder}",
        soft_wrap=True,
    )
    screen.print(_table(nbytes, timings))
    screen.print(EXPLANATION)
    if reason := doubt(others()):
        screen.print(reason, style="bold red")


def _table(nbytes: int, timings: Mapping[str, Timing]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("seconds", "between", "GB/s", "ratio"):
        table.add_column(name, justify="right")
    for name, timing in timings.items():
        low, high = timing.quartiles
        rival = timings.get(PLAIN.get(name, ""))
        ratio = f"{rival.median / timing.median:.2f}" if rival else ""
        between = f"{low:.3g} and {high:.3g}"
        speed = f"{nbytes / timing.median / 1e9:.2f}"
        table.add_row(name, f"{timing.median:.3g}", between, speed, ratio)
    return table
