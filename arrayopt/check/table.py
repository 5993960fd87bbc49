"""What a comparison found out, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from arrayopt.check.comparison import Comparison
from arrayopt.check.contestants import IMPLEMENTATIONS
from arrayopt.check.report import Report, count, number, summaries

__all__ = ["EXPLANATION", "every", "introduction", "outcome", "overview"]

EXPLANATION = """\
Largest differences of any element of parameters and state after any step, relative to the largest
size that the element had, over all options and streams of gradients. "ULPs": under how many units
in the last place 99 of 100 elements are in the end. "error": the largest ratio of both sides'
errors against a run in higher precision."""


def introduction(report: Report) -> str:
    """Which versions took part."""
    return ", ".join(f"{name} {found}" for name, found in report.versions.items() if found)


def overview(report: Report) -> Table:
    """A row for each algorithm and dtype."""
    present = {row.implementation for row in report}
    ways = [way for way in (*IMPLEMENTATIONS, "default") if way in present]
    table = _table(["compared", "against", "dtype"], [*ways, "bound", "ULPs", "error", ""])
    before = ""
    for summary in summaries(report.comparisons):
        first = summary.rows[0]
        names = ["", ""] if summary.title == before else _names(first)
        before = summary.title
        ulps = max(row.typical_ulps for row in summary.rows)
        table.add_row(
            *names,
            summary.dtype,
            *(number(summary.largest(way)) for way in ways),
            number(first.bound),
            count(ulps),
            "" if summary.ratio is None else f"{summary.ratio:.2f}",
            _verdict(summary.ok),
        )
    return table


def every(comparisons: Iterable[Comparison]) -> Table:
    """A row for each comparison."""
    numbers = ["difference", "of", "ULPs", "first", "error", "their error", ""]
    table = _table(["compared"], numbers)
    for row in comparisons:
        table.add_row(
            row.title,
            number(row.difference),
            row.where,
            count(row.typical_ulps),
            "" if row.first is None else str(row.first),
            number(row.error),
            number(row.their_error),
            _verdict(row.ok),
        )
    return table


def outcome(report: Report) -> Group:
    """What is out of bounds, what could not be compared, and the verdict."""
    lines: list[Text] = [
        Text(f"OUT OF BOUNDS  {row.title}: {row.complaint}", style="bold red")
        for row in report.failures
    ]
    lines += [Text(f"not compared: {reason}", style="dim") for reason in report.lacking]
    style = "bold green" if report.ok else "bold red"
    return Group(*lines, Text(report.verdict, style=style))


def _names(row: Comparison) -> list[str]:
    """Who was compared with whom, without saying anything twice."""
    name = row.subject.removeprefix("arrayopt.")
    return [name, row.against.removesuffix(f".{name}")]


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in words:
        table.add_column(heading, no_wrap=len(words) > 1, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _verdict(ok: bool) -> Text:
    return Text("ok", style="green") if ok else Text("OUT", style="bold red")
