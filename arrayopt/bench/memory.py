"""How many sides memory has room for at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arrayopt.bench.averaging import find
from arrayopt.bench.workloads import Problem

__all__ = ["available_memory", "needed", "rounds"]

#: What is taken for free memory where the system does not tell.
ASSUMED = 8 << 30


def available_memory(table: Path = Path("/proc/meminfo")) -> int:
    """The bytes that can be allocated without swapping."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return ASSUMED
    kibibytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kibibytes[0]) << 10 if kibibytes else ASSUMED


def needed(algorithm: str, numbers: Problem, sides: int) -> int:
    """About how many bytes so many sides need: their parameters, state and temporary arrays."""
    if algorithm == "LBFGS":  # its state is gone after a step, but large while it lasts
        return numbers.nbytes * (2 * sides + 16)
    slots = find(algorithm).state_table
    arrays = 1 + sum(not slot.scalar for slot in slots)
    return numbers.nbytes * (arrays * sides + 4) * (1 + len(numbers.others))


def rounds(
    algorithm: str, numbers: Problem, ours: int, rivals: Sequence[str], memory: int
) -> list[Sequence[str]]:
    """Which rivals take turns with arrayopt: all at once, or one after another.

    Parameters
    ----------
    algorithm : str
        Its name.
    numbers : Problem
        What it is timed on.
    ours : int
        How many sides arrayopt has.
    rivals : sequence of str
        The names of the others.
    memory : int
        The bytes that are free. All take part at once if they need half of that at most; otherwise
        each rival has a round of its own.

    Returns
    -------
    list of sequence of str
        Empty if there is no room even for one rival.
    """
    if needed(algorithm, numbers, ours + len(rivals)) <= memory // 2:
        return [rivals]
    if needed(algorithm, numbers, ours + 1) <= memory * 9 // 10:
        return [[rival] for rival in rivals] or [[]]
    return []
