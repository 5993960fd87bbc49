"""What was measured, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from arrayopt.bench.comparison import Result, Settings
from arrayopt.bench.contenders import CONTENDERS, OURS
from arrayopt.bench.measure import YARDSTICKS
from arrayopt.bench.record import machine, versions
from arrayopt.bench.workloads import WORKLOADS, size

__all__ = ["DOUBT", "EXPLANATION", "OF_MEMORY", "console", "introduction", "progress", "table"]

#: Wide enough for the tables of all rivals, where there is no terminal.
WIDTH = 104

#: What the parameters of a row are, on the host.
ARRAYS = {"arrayopt": "NumPy", "arrayopt-torch": "torch"}

EXPLANATION = """\
Numbers under a rival are the time of arrayopt's step over that of the rival's: below 1, arrayopt
is faster. "arrays" are what arrayopt works on: NumPy arrays, or the tensors of torch themselves.
All sides took turns in this process, after they had been seen to agree; medians over the turns.
"moved" is what the update must move: each array that it reads and each that it writes, once.
"GB/s" is that over arrayopt's time."""

OF_MEMORY = """\
The columns "of copy" and "of in place" are its fractions of the bandwidth of copying an array, and
of negating one in place, which took turns as well, where caches cannot hold the arrays. A copy
writes where it has not read, which costs more than to write in place."""

DOUBT = """\
Other processes kept {:.1f} cores busy meanwhile: do not trust these numbers. Threads that wait for
each other, as those of OpenMP, lose the most by it."""


def console() -> Console:
    """Standard output."""
    screen = Console(highlight=False, markup=False)
    return screen if screen.is_terminal else Console(highlight=False, markup=False, width=WIDTH)


def progress(screen: Console) -> Progress:
    """A bar, on the terminal if there is one."""
    terminal = screen if screen.is_terminal else Console(stderr=True)
    terminal.quiet = not terminal.is_terminal  # rich 14 ends even a bar that it does not show
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    )


def introduction(
    settings: Settings, memory: Mapping[str, float], missing: Mapping[str, str]
) -> str:
    """Who takes part, on what machine, and who cannot."""
    found = [f"{name} {number}" for name, number in versions().items() if number]
    here = machine()
    plural = "" if settings.threads == 1 else "s"
    return "\n".join(
        [
            ", ".join(found),
            f"{here['cpu']}, {here['cores']} cores, {here['system']}",
            f"float32, {settings.threads} thread{plural} a side"
            if settings.place is None
            else f"float32, on {settings.place.device}",
            f"Memory, read and written: copying {memory['copy'] / 1e9:.1f} GB/s, negating in place "
            f"{memory['in place'] / 1e9:.1f} GB/s",
            *(f"Without {library}, which is missing: {how}" for library, how in missing.items()),
            "",
        ]
    )


def table(workload: str, results: Sequence[Result], settings: Settings) -> Group:
    """The results on one workload.

    Parameters
    ----------
    workload : str
        Its name.
    results : sequence of Result
        Those of all algorithms, in the order of the rows.
    settings : Settings
        How it was measured.

    Returns
    -------
    rich.console.Group
        A title, and a table with a row for each algorithm and kind of array, and a column for each
        rival that took part.
    """
    present = {result.contender for result in results}
    rivals = [name for name in CONTENDERS if name in present]
    yardsticks = YARDSTICKS if any(result.fractions for result in results) else ()
    moved = any(result.moved for result in results)
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column("algorithm", no_wrap=True)
    grid.add_column("arrays")
    for heading in (
        "a step",
        *(CONTENDERS[name].heading for name in rivals),
        *(("moved", "GB/s") if moved else ()),
        *("\n".join(f"of {name}".rsplit(" ", 1)) for name in yardsticks),
    ):
        grid.add_column(heading, justify="right")
    for algorithm in dict.fromkeys(result.algorithm for result in results):
        own = {r.contender: r for r in results if r.algorithm == algorithm}
        for number, name in enumerate(name for name in OURS if name in own):
            arrays = settings.place.arrays if settings.place else ARRAYS
            cells = [arrays[name], *_cells(own[name], own, rivals)]
            cells += _traffic(own[name], yardsticks) if moved else []
            grid.add_row("" if number else algorithm, *cells)
    return Group(Text(_title(workload, settings.quick), style="bold"), grid)


def _title(name: str, quick: bool) -> str:
    workload = WORKLOADS[name]
    shapes = workload.shapes_of(quick)
    plural = "" if len(shapes) == 1 else "s"
    reduced = ", reduced" if shapes != workload.shapes else ""
    count = f"{len(shapes):,} array{plural}, {size(shapes):,} numbers"
    return f"{name}: {workload.title}{reduced} ({count})"


def _cells(ours: Result, own: Mapping[str, Result], rivals: Sequence[str]) -> list[Text | str]:
    """One of arrayopt's results, beside those of the rivals."""
    return [
        duration(ours.timing.median) if ours.timing else _why_not(ours),
        *(_ratio(own.get(name), ours.contender) for name in rivals),
    ]


def _traffic(ours: Result, yardsticks: Iterable[str]) -> list[Text | str]:
    """What it moves, and how that compares with the bandwidth of memory."""
    return [
        amount(ours.moved) if ours.moved else "",
        f"{ours.bandwidth / 1e9:.3g}" if ours.bandwidth else "",
        *(f"{ours.fractions[name]:.0%}" if ours.fractions else "" for name in yardsticks),
    ]


def _ratio(rival: Result | None, ours: str) -> Text | str:
    if rival is None:
        return "-"
    if ours not in rival.ratios:
        return _why_not(rival)
    ratio = rival.ratios[ours]
    return Text(f"{ratio:.3f}" if ratio < 1 else f"{ratio:.2f}", style="red" if ratio > 1 else "")


def _why_not(result: Result) -> Text:
    return Text("disagrees", style="bold red") if result.failure else Text("skipped", style="dim")


def duration(seconds: float) -> str:
    """A duration with three digits and a unit.

    Examples
    --------
    >>> duration(0.0123), duration(2.5e-6)
    ('12.3 ms', '2.5 µs')
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def amount(nbytes: int) -> str:
    """An amount of memory, in powers of ten.

    Examples
    --------
    >>> amount(467_600_000), amount(2_800)
    ('468 MB', '2.8 kB')
    """
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if nbytes >= scale:
            return f"{nbytes / scale:.3g} {unit}"
    return f"{nbytes} B"
