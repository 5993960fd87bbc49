"""What a comparison found out, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from arrayopt.check.comparison import Comparison, written
from arrayopt.check.report import Report
from arrayopt.check.summary import count, number, overview, summaries

__all__ = ["every_run", "outcome", "summary_table"]


def summary_table(report: Report) -> Table:
    """A row for each algorithm and dtype."""
    found = summaries(report.comparisons)
    headings, rows = overview(found)
    rivals = {row.against.rpartition(".")[0] for row in report}
    rivals = rivals - {"arrayopt"} or rivals  # whose own for-loop stands in for what torch lacks
    namesakes = all(row.subject == f"arrayopt.{_name(row.against)}" for row in report)
    title = f"arrayopt and {rivals.pop()}" if namesakes and len(rivals) == 1 else ""
    table = _table(headings[:2], [*headings[2:], ""], title)
    before = ""
    for summary, (_, *cells) in zip(found, rows):
        name = _name(summary.rows[0].subject) if title else summary.title
        table.add_row("" if summary.title == before else name, *cells, _verdict(summary.ok))
        before = summary.title
    return table


def every_run(report: Report) -> Group:
    """A table for each set of options, with a row for each comparison."""
    found: dict[str, list[Comparison]] = {}
    for row in report:
        heading = f"{row.subject} / {row.against}: {written(row.options) or 'defaults'}"
        found.setdefault(heading, []).append(row)
    return Group(*(_runs(heading, rows) for heading, rows in found.items()))


def _runs(heading: str, rows: Iterable[Comparison]) -> Table:
    numbers = ["difference", "ULPs", "first", "error", "theirs", ""]
    table = _table(["dtype", "gradients", "run by", "of"], numbers, heading)
    for row in rows:
        table.add_row(
            row.dtype,
            row.stream,
            row.implementation,
            row.where,
            number(row.difference),
            count(row.typical_ulps),
            "" if row.first is None else str(row.first),
            number(row.error),
            number(row.their_error),
            _verdict(row.ok),
        )
    return table


def outcome(report: Report) -> Group:
    """What is out of bounds, what could not be compared, and the verdict."""
    lines = [Text(f"OUT OF BOUNDS  {each}", style="bold red") for each in report.complaints]
    lines += [Text(f"not compared: {reason}", style="dim") for reason in report.lacking]
    style = "bold green" if report.ok else "bold red"
    return Group(*lines, Text(report.verdict, style=style))


def _name(full: str) -> str:
    """The name of an algorithm without that of its library."""
    return full.rpartition(".")[2]


def _table(words: Sequence[str], numbers: Sequence[str], title: str) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title or None, title_justify="left"
    )
    for heading in words:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _verdict(ok: bool) -> Text:
    return Text("ok", style="green") if ok else Text("OUT", style="bold red")
