"""Whether other processes were at work: they make all timings doubtful."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["TOLERATED", "doubt", "watch"]

#: How many cores others may keep busy before a warning.
TOLERATED = 0.1


def watch(table: Path = Path("/proc/stat")) -> Callable[[], float | None]:
    """Begin to watch, and return a function that tells how many cores others have used since.

    That is an average; None where the system does not tell.
    """
    begin, busy, own = time.perf_counter(), _busy(table), time.process_time()

    def others() -> float | None:
        now = _busy(table)
        if busy is None or now is None:
            return None
        seconds = now - busy - (time.process_time() - own)
        return max(0.0, seconds / (time.perf_counter() - begin))

    return others


def doubt(busy: float | None) -> str:
    """Why timings are not to be trusted if others kept so many cores busy; empty if they may be."""
    if not busy or busy <= TOLERATED:
        return ""
    return (
        f"Other processes kept {busy:.1f} cores busy meanwhile: do not trust these numbers. "
        "Threads\nthat wait for each other, as those of OpenMP, lose the most by it."
    )


def _busy(table: Path) -> float | None:
    """The seconds that all cores have been busy, or that a hypervisor has withheld them."""
    try:
        fields = table.read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, fields[:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")
