"""The demo itself: train, print the tables, draw the picture, and say what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from arrayopt.demo.agreement import (
    BOUND,
    INSTALL_TORCH,
    Agreement,
    agreement,
    average_agreement,
)
from arrayopt.demo.averaging import DECAY, KINDS, Kind
from arrayopt.demo.plot import plot
from arrayopt.demo.recipes import algorithms, recipe
from arrayopt.demo.training import HIDDEN, Digits, Run, batches, load, train
from arrayopt.wording import counted

__all__ = ["LEAST_ACCURACY", "show"]

#: Below this test accuracy, the demo has failed.
LEAST_ACCURACY = 0.95


def show(
    names: Sequence[str],
    *,
    epochs: int,
    lr: float | None,
    seed: int,
    out: Path,
    average: Kind | None = None,
) -> list[str]:
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
    average : {"swa", "ema"}, optional
        Compare the networks with averages of their weights.

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
    units = "normalized tanh units" if average else "tanh units"
    console.print(
        f"A perceptron of 64 pixels, {HIDDEN} {units} and 10 classes, in NumPy and float64,\n"
        f"on scikit-learn's digits: {train_size:,} images to train on, {test_size} to test.\n"
    )
    runs = [
        train(
            algorithms()[name], recipe(name, lr), digits, epochs=epochs, seed=seed, average=average
        )
        for name in names
    ]
    title = f"After {counted(epochs, 'epoch')} (seed {seed})"
    trained = f"{train_size:,} digits, seed {seed}"
    if average is None:
        console.print(_results(runs, title))
        console.print("µs/step: the median, without the time that the gradients took.")
        curves = {run.name: run.losses for run in runs}
        plot(curves, out, f"Training a perceptron on {trained}")
    else:
        console.print(_averages(runs, average, title))
        console.print(_explanation(runs, average))
        subject = f"{KINDS[average]} of a perceptron"
        plot(_test_curves(runs), out, f"{subject} trained on {trained}", data="test")
    console.print(f"Loss curves: {out}\n", soft_wrap=True)

    compared = _compared(runs, digits, average, console)
    failures = [*_inaccurate(runs), *_apart(compared)]
    for failure in failures:
        console.print(f"FAILED  {failure}", style="bold red")
    if not failures:
        console.print(f"All test accuracies are at least {LEAST_ACCURACY}.", style="green")
    return failures


def _compared(
    runs: Sequence[Run], digits: Digits, average: Kind | None, console: Console
) -> list[Agreement]:
    """How far the runs are from torch, which is printed; nothing if torch is missing."""
    try:
        compared = [
            average_agreement(run, batches(digits.x_train)) if average else agreement(run)
            for run in runs
        ]
    except ImportError:
        console.print(f"Not compared with torch.optim, as torch is missing: {INSTALL_TORCH}\n")
        return []
    console.print(_agreements(compared))
    taken = "weights and images" if average else "gradients"
    tensors = "averages and statistics" if average else "parameter tensors"
    console.print(
        f"Both took the same {taken}. The difference after the run is\n"
        f"max|ours - torch| / max|torch|, the largest of all {tensors}.\n"
    )
    if any(run.name == "Muon" for run in runs):
        console.print("torch's Muon was run without its rounding to bfloat16.\n")
    return compared


def _inaccurate(runs: Sequence[Run]) -> list[str]:
    """Which networks, and averages of them, tell too few of the test images right."""
    accuracies = {run.name: run.accuracy for run in runs}
    accuracies |= {
        f"{run.name}, {KINDS[run.averaging.kind]}": run.averaging.accuracy
        for run in runs
        if run.averaging
    }
    return [
        f"{name}: test accuracy {accuracy:.4f} is under {LEAST_ACCURACY}"
        for name, accuracy in accuracies.items()
        if not accuracy >= LEAST_ACCURACY
    ]


def _apart(compared: Sequence[Agreement]) -> list[str]:
    """Which runs are not those of torch."""
    return [
        f"{entry.name}: {entry.difference:.1e} from torch, out of bounds ({BOUND:.0e})"
        for entry in compared
        if not entry.ok
    ]


def _test_curves(runs: Sequence[Run]) -> dict[str, list[float]]:
    """The losses over the test images, of each network and of its average."""
    curves = {}
    for run in runs:
        assert run.averaging is not None
        curves[run.name] = run.test_losses
        curves[f"{run.name}, {KINDS[run.averaging.kind]}"] = run.averaging.losses
    return curves


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
            _options(run),
            f"{run.losses[-1]:.2e}",
            f"{run.accuracy:.4f}",
            f"{run.microseconds:.0f}",
            style=style,
        )
    return table


def _averages(runs: Sequence[Run], average: Kind, title: str) -> Table:
    table = _table(title)
    table.add_column("algorithm")
    table.add_column("options", overflow="fold")
    table.add_column("weights")
    table.add_column("test loss", justify="right")
    table.add_column("test accuracy", justify="right")
    for run in runs:
        assert run.averaging is not None
        for weights, losses, accuracy in (
            ("the last", run.test_losses, run.accuracy),
            (KINDS[average], run.averaging.losses, run.averaging.accuracy),
        ):
            table.add_row(
                run.name,
                _options(run),
                weights,
                f"{losses[-1]:.4f}",
                f"{accuracy:.4f}",
                style="" if accuracy >= LEAST_ACCURACY else "bold red",
            )
    return table


def _explanation(runs: Sequence[Run], average: Kind) -> str:
    averaging = runs[0].averaging
    assert averaging is not None
    if average == "ema":
        return f"EMA: the exponential average of the weights after all steps, {DECAY} a step."
    count = len(averaging.taken)
    which = f"last {count} epochs" if count > 1 else "last epoch"
    return f"SWA: the equal average of the weights after the {which}."


def _options(run: Run) -> str:
    return ", ".join(f"{option}={value}" for option, value in run.options.items()) or "defaults"


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
