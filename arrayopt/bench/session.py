"""The course of the benchmark: measure, and print the tables as they come."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import arrayopt
from arrayopt.bench import report
from arrayopt.bench.comparison import Result, Settings, compare
from arrayopt.bench.contenders import OURS
from arrayopt.bench.measure import bandwidth, take_turns
from arrayopt.bench.neighbours import doubt, watch
from arrayopt.bench.record import record
from arrayopt.bench.workloads import WORKLOADS, problem
from arrayopt.terminal import console, progress

__all__ = ["failures", "session", "threads"]


def session(
    cases: Mapping[str, Sequence[str]],
    settings: Settings,
    missing: Mapping[str, str],
    keep: Callable[[Mapping[str, Any]], object] | None = None,
) -> tuple[list[Result], dict[str, Any]]:
    """Run the benchmark.

    Parameters
    ----------
    cases : mapping of str to sequence of str
        The algorithms to be timed, by the names of the workloads.
    settings : Settings
        Whom to compare with, and how long.
    missing : mapping of str to str
        The libraries that cannot take part, and the commands that install them.
    keep : callable, optional
        Is given the record so far after each workload, so that little is lost if the rest is.

    Returns
    -------
    results : list of Result
        What was found out.
    record : dict
        The same for a file; see `arrayopt.bench.record.record`.
    """
    screen = console()
    others = watch()
    results: list[Result] = []
    with threads(settings.threads), progress(screen) as bar:
        task = bar.add_task("", total=sum(map(len, cases.values())))
        memory = measure_memory(settings)
        screen.print(report.introduction(settings, memory, missing), soft_wrap=True)
        for workload, algorithms in cases.items():
            shapes = WORKLOADS[workload].shapes_of(settings.quick)
            rows = WORKLOADS[workload].rows
            place = settings.place
            numbers = place.numbers(shapes, rows) if place else problem(shapes, rows=rows)
            found: list[Result] = []
            for algorithm in algorithms:
                found += compare(
                    workload,
                    algorithm,
                    numbers,
                    settings,
                    lambda text: bar.update(task, description=text),
                )
                bar.advance(task)
            screen.print(report.table(workload, found, settings))
            results += found
            if keep:
                keep(record(results, settings, memory, others()))
    screen.print(report.EXPLANATION)
    lone = (r.algorithm for r in results if r.contender not in (*OURS, *settings.against))
    for algorithm in dict.fromkeys(lone):
        screen.print(f"No rival has {algorithm}: it was timed beside arrayopt's own for-loop.")
    if any(result.fractions for result in results):
        screen.print(report.OF_MEMORY)
    busy = others()
    if reason := doubt(busy):
        screen.print(reason, style="bold red")
    for reason in dict.fromkeys(
        f"{r.workload}: {r.algorithm}: {r.skipped}" for r in results if r.skipped
    ):
        screen.print(f"SKIPPED {reason}", soft_wrap=True)
    for complaint in failures(results):
        screen.print(f"FAILED  {complaint}", style="bold red", soft_wrap=True)
    return results, record(results, settings, memory, busy)


def measure_memory(settings: Settings) -> dict[str, float]:
    """Bytes read and written per second, by the names of the yardsticks."""
    yardsticks = {name: make(settings.threads) for name, make in settings.yardsticks.items()}
    timings = take_turns(yardsticks, settings.effort, settings.timed)
    return {name: bandwidth(timing) for name, timing in timings.items()}


def failures(results: Iterable[Result]) -> list[str]:
    """Who disagreed with arrayopt, a sentence each."""
    return [
        f"{result.algorithm} of {result.contender} on {result.workload}: {result.failure}"
        for result in results
        if result.failure
    ]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let every library have so many threads.

    XLA reads the number, from its environment, when it runs for the first time in a process.
    """
    torch = sys.modules.get("torch")
    ours, theirs = arrayopt.get_num_threads(), torch.get_num_threads() if torch else 0
    environment = os.environ.get("PJRT_NPROC")
    os.environ["PJRT_NPROC"] = str(count)
    arrayopt.set_num_threads(count)
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        arrayopt.set_num_threads(ours)
        if torch:
            torch.set_num_threads(theirs)
        del os.environ["PJRT_NPROC"]
        if environment is not None:
            os.environ["PJRT_NPROC"] = environment
