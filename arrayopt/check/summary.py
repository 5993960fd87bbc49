"""What a comparison comes to: the one table that text, terminal and page show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arrayopt.check.comparison import Comparison
from arrayopt.check.contestants import IMPLEMENTATIONS

__all__ = ["EXPLANATION", "Summary", "count", "number", "overview", "summaries"]

#: What the columns of the overview mean.
EXPLANATION = (
    "Largest differences of any element of parameters and state after any step, relative to the "
    "largest size that the element had, over all options and streams of gradients. ULPs: under how "
    "many units in the last place 99 of 100 elements are in the end. error: the largest ratio of "
    "both sides' errors against a run in higher precision."
)


@dataclass(frozen=True)
class Summary:
    """What an algorithm does in a dtype, over options, streams and implementations."""

    title: str
    dtype: str
    rows: tuple[Comparison, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it is within bounds."""
        return all(row.ok for row in self.rows)

    @property
    def bound(self) -> float:
        """What a difference may be: the same in all rows."""
        return self.rows[0].bound

    @property
    def ulps(self) -> float:
        """The largest of the typical distances in units in the last place."""
        return max(row.typical_ulps for row in self.rows)

    @property
    def ratio(self) -> float | None:
        """The largest error, as a multiple of the other side's, where gradients were the same."""
        ratios = [
            row.error / row.their_error
            for row in self.rows
            if row.stream != "problem" and row.error is not None and row.their_error
        ]
        return max(ratios, default=None)

    def largest(self, implementation: str) -> float | None:
        """The largest difference of an implementation; None if it did not take part."""
        found = [row.difference for row in self.rows if row.implementation == implementation]
        return max(found, default=None)


def summaries(comparisons: Sequence[Comparison]) -> list[Summary]:
    """The comparisons by algorithm and dtype, in the order in which they come."""
    found: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        found.setdefault((f"{row.subject} / {row.against}", row.dtype), []).append(row)
    return [Summary(title, dtype, tuple(rows)) for (title, dtype), rows in found.items()]


def overview(found: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """The table of some summaries.

    Returns
    -------
    headings : list of str
        Two columns of words, who was compared and the dtype, and others of numbers.
    rows : list of list of str
        The cells of each summary. The verdict is left to who shows them.
    """
    present = {row.implementation for summary in found for row in summary.rows}
    ways = [way for way in (*IMPLEMENTATIONS, "default") if way in present]
    rows = [
        [
            summary.title,
            summary.dtype,
            *(number(summary.largest(way)) for way in ways),
            number(summary.bound),
            count(summary.ulps),
            "" if summary.ratio is None else f"{summary.ratio:.3g}",
        ]
        for summary in found
    ]
    return ["compared", "dtype", *ways, "bound", "ULPs", "error"], rows


def number(value: float | None) -> str:
    """Two digits of a number.

    Examples
    --------
    >>> number(0.0), number(1.234e-13), number(12.0), number(None)
    ('0', '1.2e-13', '12', '')
    """
    return "" if value is None else f"{value:.2g}"


def count(value: float) -> str:
    """A number of units in the last place.

    Examples
    --------
    >>> count(54.0), count(123456.0), count(float("inf"))
    ('54', '1.2e+05', 'inf')
    """
    return f"{value:.0f}" if value < 1e4 else number(value)
