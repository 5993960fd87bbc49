"""What was measured, as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arrayopt.bench.comparison import Result, Settings
from arrayopt.bench.measure import bandwidth
from arrayopt.bench.workloads import WORKLOADS, size
from arrayopt.info import versions
from arrayopt.wording import counted

__all__ = ["caption", "machine", "record", "results_of"]


#: What a ratio is called in a record, and whose it is.
RATIOS = {"ratio": "arrayopt", "ratio_torch_tensors": "arrayopt-torch"}


def record(
    results: Iterable[Result], settings: Settings, memory: Mapping[str, float], busy: float | None
) -> dict[str, Any]:
    """All of it, ready to be dumped.

    Parameters
    ----------
    results : iterable of Result
        What was found out.
    settings : Settings
        How it was measured.
    memory : mapping of str to float
        Bytes per second at the start, by the names of `measure.YARDSTICKS`.
    busy : float or None
        How many cores other processes used meanwhile.

    Returns
    -------
    dict
        ``"schema"``
            1.
        ``"machine"``
            ``"cpu"``, ``"cores"`` (that the process may use) and ``"system"``.
        ``"versions"``
            Of Python and the packages; null where one is not installed.
        ``"threads"``, ``"dtype"``, ``"quick"``
            What all steps have in common.
        ``"device"``
            The name of the GPU, and the version of CuPy; null if it was measured on the host.
        ``"memory"``
            Bytes read and written per second at the start of the run, with as many threads as a
            side has: ``"copy"`` by ``numpy.copyto`` from one large array to another, ``"in place"``
            by ``numpy.negative`` of one.
        ``"busy_cores"``
            How many cores other processes used meanwhile, on average; null if that is not known.
        ``"workloads"``
            By name: ``"title"``, the number of ``"tensors"``, and that of all their ``"elements"``.
        ``"results"``
            A list of objects, one for each contender, algorithm and workload:

            ``"workload"``, ``"algorithm"``, ``"contender"``
                Names.
            ``"seconds"``
                ``"median"``, ``"quartiles"`` (two numbers), ``"turns"`` and ``"steps_per_turn"``
                of the duration of a step; null if it was not timed.
            ``"ratio"``, ``"ratio_torch_tensors"``
                The time of arrayopt over that of this contender, on NumPy arrays and on tensors of
                torch; null for arrayopt itself.
            ``"bytes_moved"``
                What a step has to move: each array that it reads and each that it writes.
            ``"bandwidth"``
                ``"bytes_moved"`` over the median.
            ``"memory"``, ``"fractions"``
                As above, but measured in turns with the contender, and the fractions of it that
                ``"bandwidth"`` comes to; empty if caches can hold the arrays.
            ``"failure"``, ``"skipped"``
                How it disagreed with arrayopt, and why else it was not timed; null if it was.
    """
    results = list(results)
    names = dict.fromkeys(result.workload for result in results)
    return {
        "schema": 1,
        "machine": machine(),
        "versions": versions(),
        "threads": settings.threads,
        "dtype": "float32",
        "quick": settings.quick,
        "device": settings.place.device if settings.place else None,
        "memory": dict(memory),
        "busy_cores": busy,
        "workloads": {name: _workload(name, settings.quick) for name in names},
        "results": [_entry(result) for result in results],
    }


def results_of(record: Mapping[str, Any]) -> list[Result]:
    """The ratios of a record, as they were when it was made.

    Parameters
    ----------
    record : mapping
        As `record` makes it, and as it comes back from JSON.

    Raises
    ------
    ValueError
        If it is no such record.

    Examples
    --------
    >>> ratios = {"ratio": 0.5, "ratio_torch_tensors": None, "bytes_moved": 400}
    >>> entry = {"workload": "1x100", "algorithm": "SGD", "contender": "torch", **ratios}
    >>> results_of({"schema": 1, "results": [entry]})[0].ratios
    {'arrayopt': 0.5}
    """
    if not isinstance(record, Mapping) or record.get("schema") != 1:
        found = record.get("schema") if isinstance(record, Mapping) else type(record).__name__
        raise ValueError(f"expected a record of `arrayopt bench` with schema 1, but got {found}")
    return [
        Result(
            entry["workload"],
            entry["algorithm"],
            entry["contender"],
            entry["bytes_moved"],
            ratios={ours: entry[key] for key, ours in RATIOS.items() if entry[key] is not None},
        )
        for entry in record["results"]
    ]


def caption(record: Mapping[str, Any]) -> str:
    """On which machine, and how, it was measured."""
    return (
        f"{record.get('device') or record['machine']['cpu']}, {record['dtype']}, "
        f"{counted(record['threads'], 'thread')} a side"
        f"{', reduced parameters' if record['quick'] else ''}"
    )


def machine() -> dict[str, Any]:
    """The processor, how many cores the process may use, and the operating system."""
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu() or platform.processor() or platform.machine(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _workload(name: str, quick: bool) -> dict[str, Any]:
    shapes = WORKLOADS[name].shapes_of(quick)
    return {"title": WORKLOADS[name].title, "tensors": len(shapes), "elements": size(shapes)}


def _entry(result: Result) -> dict[str, Any]:
    timing = result.timing
    return {
        "workload": result.workload,
        "algorithm": result.algorithm,
        "contender": result.contender,
        "seconds": timing
        and {
            "median": timing.median,
            "quartiles": list(timing.quartiles),
            "turns": len(timing.samples),
            "steps_per_turn": timing.steps,
        },
        **{name: result.ratios.get(ours) for name, ours in RATIOS.items()},
        "bytes_moved": result.moved,
        "bandwidth": result.bandwidth,
        "memory": {name: bandwidth(timing) for name, timing in result.yardsticks.items()},
        "fractions": result.fractions,
        "failure": result.failure or None,
        "skipped": result.skipped or None,
    }


def _cpu(table: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor, where Linux tells it."""
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else ""
