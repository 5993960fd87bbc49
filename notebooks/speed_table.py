"""README's table of speeds: `python notebooks/speed_table.py` makes it of what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["MEASURED", "table"]

#: What ``python -m arrayopt bench --json`` has measured.
MEASURED = Path(__file__).parent / "benchmarks.json"

COLUMNS = {
    "1x16.7M": "1 array of 16.7M",
    "1000x100": "1,000 arrays of 100",
    "mlp": "an MLP: 10 arrays, 309k numbers",
    "10-small": "a small one: 10 arrays, 1.4k",
    "1x100": "1 array of 100",
}
ALGORITHMS = (
    *("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax"),
    *("Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD"),
    *("Adafactor", "Muon"),
)
TORCH = ("torch", "torch-fused")
#: By title: the algorithm, which of its two ratios, and to whom.
ROWS = {
    **{name: (name, "ratio", TORCH) for name in ALGORITHMS},
    "AdamW, on torch's own tensors": ("AdamW", "ratio_torch_tensors", TORCH),
    "EMA, against torch's `multi_avg_fn`": ("EMA", "ratio", ("torch-foreach",)),
}


def table(record: Mapping[str, Any]) -> str:
    """How many times as fast as torch's default, and in brackets as its fused implementation.

    Parameters
    ----------
    record : mapping
        What ``python -m arrayopt bench --json`` has written.

    Returns
    -------
    str
        A table in Markdown.
    """
    measured = {
        (entry["workload"], entry["algorithm"], entry["contender"]): entry
        for entry in record["results"]
    }

    def cell(workload: str, algorithm: str, kind: str, rivals: Sequence[str]) -> str:
        entries = [measured.get((workload, algorithm, rival)) for rival in rivals]
        numbers = [rounded(1 / entry[kind]) for entry in entries if entry and entry[kind]]
        return " ".join([*numbers[:1], *(f"({number})" for number in numbers[1:])])

    lines = [["algorithm", *COLUMNS.values()], ["---"] * (1 + len(COLUMNS))]
    lines += [
        [title, *(cell(workload, *row) for workload in COLUMNS)] for title, row in ROWS.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |".replace("| --- ", "|---") for line in lines)


def rounded(number: float) -> str:
    """Two digits, and three of what is about as fast."""
    return f"{number:.{2 if number < 1.1 else 1 if number < 9.95 else 0}f}"


if __name__ == "__main__":
    print(table(json.loads(MEASURED.read_text())))
