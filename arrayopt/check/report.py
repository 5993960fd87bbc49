"""What a comparison found out, as a whole."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from arrayopt.check.comparison import Comparison
from arrayopt.check.summary import overview, summaries
from arrayopt.options import python_number
from arrayopt.wording import counted

__all__ = ["Report"]


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

    @classmethod
    def of(cls, comparisons: Sequence[Comparison], lacking: Sequence[str]) -> Report:
        """The report of some comparisons, with the versions that are here."""
        from arrayopt.info import versions  # (it takes a while to import)

        return cls(tuple(comparisons), tuple(lacking), versions())

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it is within bounds."""
        return bool(self.comparisons) and all(row.ok for row in self.comparisons)

    @property
    def failures(self) -> tuple[Comparison, ...]:
        """The comparisons that are out of bounds."""
        return tuple(row for row in self.comparisons if not row.ok)

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is out of bounds, a sentence for each of the failures."""
        return tuple(f"{row.title}: {row.complaint}" for row in self.failures)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if not self.comparisons:
            return "nothing was compared"
        count = counted(len(self), "comparison")
        if self.failures:
            return f"{len(self.failures):,} of {count} out of bounds"
        return f"{count}, all within bounds"

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.comparisons)

    def __len__(self) -> int:
        return len(self.comparisons)

    def __repr__(self) -> str:
        return f"<Report: {self.verdict}>"

    def __str__(self) -> str:
        found = summaries(self.comparisons)
        headings, rows = overview(found)
        verdicts = ["", *("ok" if summary.ok else "OUT OF BOUNDS" for summary in found)]
        lines = [f"{row}  {verdict}" for row, verdict in zip(_aligned([headings, *rows]), verdicts)]
        lines += [f"OUT OF BOUNDS  {complaint}" for complaint in self.complaints]
        lines += [f"not compared: {reason}" for reason in self.lacking]
        return "\n".join([*map(str.rstrip, lines), self.verdict])

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


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of an overview: two columns of words, and others of numbers."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]


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
