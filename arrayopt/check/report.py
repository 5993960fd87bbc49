"""What a comparison found out, as a whole."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from arrayopt.check.comparison import Comparison
from arrayopt.options import python_number

__all__ = ["Report", "Summary", "count", "number", "report", "summaries"]


@dataclass(frozen=True, repr=False)
class Report:
    """What `arrayopt.compare` found out.

    Attributes
    ----------
    comparisons : tuple of Comparison
        One for each algorithm, set of options, dtype, stream and implementation.
    lacking : tuple of str
        What could not be compared, and why.
    versions : dict of str to str or None
        Of Python and the libraries that took part.

    Examples
    --------
    >>> import arrayopt
    >>> report = arrayopt.compare("SGD", "arrayopt", dtype="float64", stream="fixed", steps=10)
    >>> report.ok, len(report.failures)
    (True, 0)
    >>> {row.implementation for row in report} <= {"for-loop", "foreach", "fused"}
    True
    """

    comparisons: tuple[Comparison, ...]
    lacking: tuple[str, ...]
    versions: dict[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is within bounds."""
        return bool(self.comparisons) and all(row.ok for row in self.comparisons)

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The comparisons that are out of bounds."""
        return tuple(row for row in self.comparisons if not row.ok)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        count, failed = len(self.comparisons), len(self.failures)
        if not count:
            return "nothing was compared"
        plural = "" if count == 1 else "s"
        if failed:
            return f"{failed:,} of {count:,} comparison{plural} out of bounds"
        return f"{count:,} comparison{plural}, all within bounds"

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def __repr__(self) -> str:
        return f"<Report: {self.verdict}>"

    def __str__(self) -> str:
        lines = [f"{'compared':<40}{'dtype':<11}{'largest difference':>19}{'bound':>9}  "]
        lines += [
            f"{row.title:<40}{row.dtype:<11}{number(row.worst.difference):>19}"
            f"{number(row.worst.bound):>9}  {'ok' if row.ok else 'OUT OF BOUNDS'}"
            for row in summaries(self.comparisons)
        ]
        lines += [f"OUT OF BOUNDS {row.title}: {row.complaint}" for row in self.failures]
        lines += [f"not compared: {reason}" for reason in self.lacking]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data.

        Returns
        -------
        dict
            ``"schema"`` (1), ``"ok"``, ``"versions"``, ``"lacking"``, and ``"comparisons"``: for
            each, the attributes of `Comparison`, ``"ok"`` and ``"complaint"``.
        """
        return {
            "schema": 1,
            "ok": self.ok,
            "versions": self.versions,
            "lacking": list(self.lacking),
            "comparisons": [
                asdict(row) | {"ok": row.ok, "complaint": row.complaint} for row in self.comparisons
            ],
        }

    def to_json(self) -> str:
        """The same as JSON, which has null for what is not finite."""
        return json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False) + "\n"


def report(comparisons: Sequence[Comparison], lacking: Sequence[str]) -> Report:
    """The report of some comparisons, with the versions that are here."""
    from arrayopt.bench.record import versions

    return Report(tuple(comparisons), tuple(lacking), versions())


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
    def worst(self) -> Comparison:
        """The comparison with the largest difference."""
        return max(self.rows, key=lambda row: row.difference)

    def largest(self, implementation: str) -> float | None:
        """The largest difference of an implementation."""
        found = [row.difference for row in self.rows if row.implementation == implementation]
        return max(found, default=None)

    @property
    def ratio(self) -> float | None:
        """The largest error, as a multiple of the other side's, where gradients were the same."""
        ratios = [
            row.error / row.their_error
            for row in self.rows
            if row.stream != "problem" and row.error is not None and row.their_error
        ]
        return max(ratios, default=None)


def summaries(comparisons: Sequence[Comparison]) -> list[Summary]:
    """The comparisons by algorithm and dtype, in the order in which they come."""
    found: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        found.setdefault((f"{row.subject} / {row.against}", row.dtype), []).append(row)
    return [Summary(title, dtype, tuple(rows)) for (title, dtype), rows in found.items()]


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


def _finite(value: Any) -> Any:
    """`value` as JSON has it: None for numbers that are not finite, a text for other objects."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    value = python_number(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (int, str, type(None))) else str(value)
