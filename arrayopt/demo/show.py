"""The demo itself: train, print the tables, draw the picture, and say what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from arrayopt.demo.agreement import BOUND, INSTALL_TORCH, Agreement, agreement
from arrayopt.demo.plot import plot
from arrayopt.demo.recipes import algorithms, recipe
from arrayopt.demo.training import HIDDEN, Run, load, train

__all__ = ["LEAST_ACCURACY", "show"]

LEAST_ACCURACY = 0.95


def show(names: Sequence[str], *, epochs: int, lr: float | None, seed: int, out: Path) -> list[str]:
    """Run the demo.

    Parameters
    ----------
    names : sequence of str
        The algorithms, as `algorithms` names them.
    epochs : int
        How often each goes through all training images.
    lr : float or None
        A learning rate for all of them; by default, each has its own.
    seed : int
        Determines the initial parameters and the order of the images.
    out : Path
        Where the picture goes.

    Returns
    -------
    list of str
        What went wrong, a sentence each.

    Raises
    ------
    OSError
        If the picture cannot be written.
    """
    console = Console(highlight=False, markup=False)
    digits = load()
    train_size, test_size = len(digits.x_train), len(digits.x_test)
    console.print(
        f"A perceptron of 64 pixels, {HIDDEN} tanh units and 10 classes, in NumPy and float64,\n"
        f"on scikit-learn's digits: {train_size:,} images to train on, {test_size} to test.\n"
    )
    runs = [
        train(algorithms()[name], recipe(name, lr), digits, epochs=epochs, seed=seed)
        for name in names
    ]
    plural = "" if epochs == 1 else "s"
    console.print(_results(runs, f"After {epochs} epoch{plural} (seed {seed})"))
    console.print("µs/step: the median, without the time that the gradients took.")

    plot(runs, out, f"Training a perceptron on {train_size:,} digits, seed {seed}")
    console.print(f"Loss curves: {out}\n", soft_wrap=True)

    try:
        compared = [agreement(run) for run in runs]
    except ImportError:
        compared = []
        console.print(f"Not compared with torch.optim, as torch is missing: {INSTALL_TORCH}\n")
    else:
        console.print(_agreements(compared))
        console.print(
            "Both took the same gradients. The difference after the run is\n"
            "max|ours - torch| / max|torch|, the largest of all parameter tensors.\n"
        )

    failures = [
        f"{run.name}: test accuracy {run.accuracy:.4f} is under {LEAST_ACCURACY}"
        for run in runs
        if run.accuracy < LEAST_ACCURACY
    ] + [
        f"{entry.name}: {entry.difference:.1e} from torch, out of bounds ({BOUND:.0e})"
        for entry in compared
        if not entry.ok
    ]
    for failure in failures:
        console.print(f"FAILED  {failure}", style="bold red")
    if not failures:
        console.print(f"All test accuracies are at least {LEAST_ACCURACY}.", style="green")
    return failures


def _results(runs: Sequence[Run], title: str) -> Table:
    table = _table(title)
    table.add_column("algorithm")
    table.add_column("options", overflow="fold")
    table.add_column("training loss", justify="right")
    table.add_column("test accuracy", justify="right")
    table.add_column("µs/step", justify="right")
    for run in runs:
        style = "" if run.accuracy >= LEAST_ACCURACY else "bold red"
        table.add_row(
            run.name,
            ", ".join(f"{option}={value}" for option, value in run.options.items()) or "defaults",
            f"{run.losses[-1]:.2e}",
            f"{run.accuracy:.4f}",
            f"{run.microseconds:.0f}",
            style=style,
        )
    return table


def _agreements(entries: Sequence[Agreement]) -> Table:
    table = _table(f"Against torch.optim {version('torch')}")
    table.add_column("algorithm")
    table.add_column("largest relative difference", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("")
    for entry in entries:
        if entry.difference is None:
            table.add_row(entry.name, "", "", "not in torch")
        else:
            verdict, style = ("ok", "") if entry.ok else ("OUT OF BOUNDS", "bold red")
            table.add_row(
                entry.name, f"{entry.difference:.1e}", f"{BOUND:.0e}", verdict, style=style
            )
    return table


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
