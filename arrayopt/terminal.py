"""What the commands print with, which needs rich: a console, and a bar of progress."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["console", "progress"]

#: Wide enough for all tables, where there is no terminal.
WIDTH = 104


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
