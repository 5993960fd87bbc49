"""Steps in a CUDA graph: what is recorded when a step is captured, and renewed for each replay.

A graph repeats launches with the arguments that they had. So the kernels of a captured step take
the numbers of the step (learning rate, bias corrections) from device memory, and before each replay
the host computes them, as for any step, and writes them there. Nothing is computed twice: the rule,
the step counts and the schedules stay with the host, and there is no second form of any algorithm
for the device. The numbers travel as the arguments of a small kernel, which are copied when it is
launched: there is no memory of the host that a copy still to be made could find overwritten, and
nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from operator import is_
from typing import Any, NamedTuple

from arrayopt.backend import Executor
from arrayopt.batching import Reading, RowWork, Work
from arrayopt.namespace import Array, beside, is_capturing
from arrayopt.trace import Program, Structure, TraceError

__all__ = ["Captured", "capture", "is_captured", "renew"]

#: What has to be done when a graph does not fit any more.
ANEW = "capture the step anew"


class Captured(NamedTuple):
    """A batch in a graph.

    Attributes
    ----------
    work : Work
        The work that was captured.
    group : int
        The number of its group.
    executor : Executor
        Who carries it out.
    structure : Structure
        What was captured.
    arrays : list of array
        Parameters and state, which the graph updates.
    """

    work: Work
    group: int
    executor: Executor
    structure: Structure
    arrays: list[Array]


def is_captured(works: Sequence[Work]) -> bool:
    """Whether a step is being captured.

    Raises
    ------
    RuntimeError
        If part of it is.
    """
    kinds = {is_capturing(work.batch.arrays[0]) for work in works}
    if len(kinds) == 2:
        raise RuntimeError(
            "a step cannot be captured in part: expected all parameters on the device of the "
            "stream that is capturing, but some are elsewhere"
        )
    return kinds == {True}


def capture(works: Sequence[tuple[int, Work]]) -> list[Captured]:
    """Record a step on the stream that is capturing. Nothing is done, and nothing has been counted.

    Raises
    ------
    RuntimeError
        If the step cannot be replayed.
    """
    prepared = [(number, work, *_prepared(work)) for number, work in works]
    captured = []
    for number, work, executor, program in prepared:
        with beside(work.batch.arrays[0]):
            executor.capture(work.batch, program)
        arrays = _arrays(work)
        captured.append(Captured(work, number, executor, program.structure, arrays))
    return captured


def _prepared(work: Work) -> tuple[Executor, Program]:
    """Who carries out a step in a graph, and its program."""
    batch = work.batch
    if batch.group.get("capturable") is False:
        raise RuntimeError("a step is being captured, but capturable is False; set it to True")
    executor, _ = work.choices[0]
    if not executor.captures or isinstance(work, RowWork) or batch.rebind:
        raise RuntimeError(
            "a step can be captured if it is fused, on CuPy arrays with dense gradients, but this "
            f"one is carried out by {executor.name}"
        )
    initial = [s.name for s in work.slots if not s.scalar and s.initial is not None]
    _check_there(initial, batch.states)
    program = _next(work, batch.scalars)
    try:
        executor.check(program.structure)
    except TraceError as error:
        raise RuntimeError(f"a step that cannot be fused cannot be captured: {error}") from error
    _check_there([name for name, _ in program.structure.outputs], {"param", *batch.states})
    return executor, program


def _check_there(needed: Iterable[str], there: Container[str]) -> None:
    """Raise if there is state that is still to be made."""
    missing = [name for name in needed if name not in there]
    if missing:
        raise RuntimeError(
            f"the state {missing} is made by the first step, which cannot be captured: take a step "
            "before"
        )


def _next(work: Work, scalars: Mapping[str, Any]) -> Program:
    """The program of the step after the one that left these numbers."""
    batch, before = work.batch, work.batch.scalars
    batch.scalars = {**scalars, "step": scalars["step"] + 1} if "step" in scalars else {**scalars}
    try:
        return batch.trace()
    finally:
        batch.scalars = before


def _arrays(work: Work) -> list[Array]:
    batch = work.batch
    return [*batch.arrays, *(array for column in batch.states.values() for array in column)]


def renew(
    captured: Sequence[Captured],
    read: Callable[[int], Reading],
    state: Mapping[Any, dict[str, Any]],
) -> None:
    """Count a step, and write its numbers where the graph will read them.

    Raises
    ------
    RuntimeError
        If the graph does not do what the step would. Nothing has changed then.
    """
    programs = []
    for work, number, _, structure, arrays in captured:
        entries = [state.get(param, {}) for param in work.batch.params]
        scalars = _scalars(work, entries, arrays)
        work.batch.group = read(number).options
        program = _next(work, scalars)
        if program.structure is not structure:
            raise RuntimeError(
                "the next step computes something else than the one that was captured, since an "
                f"option or, as in RAdam's first steps, its number has changed: {ANEW}"
            )
        if "step" in scalars:
            scalars["step"] += 1
        programs.append((program, entries, scalars | program.scalars))
    for (work, _, executor, _, arrays), (program, entries, scalars) in zip(captured, programs):
        with beside(arrays[0]):
            executor.renew(work.batch, program)
        work.batch.scalars.update(scalars)
        for entry in entries:
            entry.update(scalars)


def _scalars(
    work: Work, entries: Sequence[Mapping[str, Any]], arrays: Sequence[Array]
) -> dict[str, Any]:
    """The numbers of the state, as they are now; an error, if its arrays are not those captured."""
    batch = work.batch
    there = [param.data for param in batch.params]
    there += [entry.get(name) for name in batch.states for entry in entries]
    if not all(map(is_, there, arrays)):
        raise RuntimeError(
            "a parameter or its state is another array than the one that was captured (it has been "
            f"replaced, or a state has been loaded): {ANEW}"
        )
    numbers = [{name: entry[name] for name in batch.scalars} for entry in entries]
    if any(other != numbers[0] for other in numbers):
        raise RuntimeError(f"the parameters do not have the same step count any more: {ANEW}")
    return numbers[0]
