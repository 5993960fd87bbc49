"""How it is timed: turns, the bandwidth of a copy, and the bytes that an update has to move."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from arrayopt.optimizer import Optimizer
from arrayopt.threads import run_parallel
from arrayopt.trace import Program, trace

__all__ = [
    "YARDSTICK",
    "YARDSTICKS",
    "Effort",
    "Step",
    "Timed",
    "Timing",
    "bandwidth",
    "bytes_per_element",
    "moved_arrays",
    "on_host",
    "take_turns",
]

Step = Callable[[], object]
Timed = Callable[[Step, int], float]

#: The size of the arrays by which the bandwidth of memory is measured.
YARDSTICK = 256 << 20


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    turns : int
        How often each side has its turn.
    least_turns : int
        How often at least, if steps take so long that `seconds` would be exceeded.
    seconds : float
        How long all turns of all sides together may take.
    turn : float
        The seconds that a turn lasts: as many steps as fit, and at least one.
    pause : float
        The seconds between two turns. OpenMP threads, as torch has them, spin for some
        milliseconds after their work, on the cores that whoever comes next needs.
    """

    turns: int = 15
    least_turns: int = 5
    seconds: float = 30.0
    turn: float = 0.02
    pause: float = 0.01


@dataclass(frozen=True, slots=True)
class Timing:
    """The duration of a step.

    Attributes
    ----------
    samples : list of float
        Seconds per step, one for each turn.
    steps : int
        How many steps a turn took.

    Examples
    --------
    >>> timing = Timing([3.0, 1.0, 2.0, 5.0, 4.0], steps=1)
    >>> timing.median, timing.quartiles
    (3.0, (2.0, 4.0))
    """

    samples: list[float]
    steps: int

    @property
    def median(self) -> float:
        """The median over the turns."""
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between which half of the samples lie."""
        lower, upper = np.quantile(self.samples, (0.25, 0.75)).tolist()
        return lower, upper

    def __add__(self, other: Timing) -> Timing:
        return Timing(self.samples + other.samples, self.steps)


def on_host(step: Step, steps: int) -> float:
    """The seconds that so many steps take, each of which returns when it is done."""
    begin = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - begin


def take_turns(
    sides: Mapping[str, Step], effort: Effort, timed: Timed = on_host
) -> dict[str, Timing]:
    """Time a step of each side, the sides taking turns.

    Parameters
    ----------
    sides : mapping of str to callable
        A step of each.
    effort : Effort
        How long to measure.
    timed : callable
        ``timed(step, steps)`` takes so many steps, and returns how many seconds that took.

    Returns
    -------
    dict of str to Timing

    Notes
    -----
    Before a turn there is a pause, in which the threads of the side before come to rest, and then
    a tenth as many steps as in the turn, at least one, that are not timed: they wake the side's
    own threads and fetch its data into the caches. The order is reversed from round to round, so
    that no side always follows the same other one.
    """
    steps: dict[str, int] = {}
    seconds = 1e-9  # of a round
    for name, step in sides.items():
        steps[name], duration = _steps_per_turn(step, effort, timed)
        seconds += (steps[name] + _warm_up(steps[name])) * duration + effort.pause
    turns = min(effort.turns, max(effort.least_turns, int(effort.seconds / seconds)))
    samples: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(turns):
        for name in order:
            samples[name].append(_turn(sides[name], steps[name], effort.pause, timed))
        order.reverse()
    return {name: Timing(samples[name], steps[name]) for name in sides}


def _turn(step: Step, steps: int, pause: float, timed: Timed) -> float:
    """Seconds per step, of a single turn."""
    time.sleep(pause)
    for _ in range(_warm_up(steps)):
        step()
    return timed(step, steps) / steps


def _warm_up(steps: int) -> int:
    return max(1, steps // 10)


def _steps_per_turn(step: Step, effort: Effort, timed: Timed) -> tuple[int, float]:
    """How many steps fill a turn, and how long one takes."""
    time.sleep(effort.pause)
    step()
    steps = 1
    while True:
        elapsed = timed(step, steps)
        if elapsed >= effort.turn / 4:
            duration = max(elapsed, 1e-9) / steps
            return max(1, round(effort.turn / duration)), duration
        steps *= 2


def copy(threads: int) -> Step:
    """A step that copies an array of `YARDSTICK` bytes, which reads as many and writes as many."""
    source = np.ones(YARDSTICK, np.uint8)
    target = source.copy()  # written once, so that its pages are there
    return _by_parts(lambda part: np.copyto(target[part], source[part]), source.size, threads)


def rewrite(threads: int) -> Step:
    """A step that negates an array of `YARDSTICK` bytes in place, which moves as much as a copy.

    It is faster, since processors read the lines that they are about to write: here, they have.
    """
    array = np.ones(YARDSTICK // 4, np.float32)
    return _by_parts(lambda part: np.negative(array[part], out=array[part]), array.size, threads)


def _by_parts(work: Callable[[slice], object], size: int, threads: int) -> Step:
    """A step that does some work on each part of an array, by so many threads."""
    count = 4 * threads  # so that no thread has long to wait for the last one
    bounds = [size * number // count for number in range(count + 1)]
    parts = [slice(*pair) for pair in pairwise(bounds)]

    def step() -> None:
        queue = iter(parts)  # (next on it is atomic)

        def share() -> None:
            for part in queue:
                work(part)

        run_parallel(share, threads)

    return step


#: What memory is measured by: steps that read `YARDSTICK` bytes and write as many.
YARDSTICKS: dict[str, Callable[[int], Step]] = {"copy": copy, "in place": rewrite}


def bandwidth(yardstick: Timing) -> float:
    """Bytes read and written per second, by one of the `YARDSTICKS`."""
    return 2 * YARDSTICK / yardstick.median


def moved_arrays(program: Program) -> int:
    """How many arrays an update reads, plus how many it writes.

    Examples
    --------
    Plain gradient descent reads the parameter and the gradient, and writes the parameter:

    >>> def rule(xp, param, grad, state, group):
    ...     return param - group["lr"] * grad, {}
    >>> moved_arrays(trace(rule, (), {}, {"lr": 0.1}))
    3
    """
    inputs, operations, outputs = program.structure
    # what leaves as it came need not be written
    written = [value for name, value in outputs if inputs[value : value + 1] != (name,)]
    needed = set(written)
    for number, operation in reversed([*enumerate(operations, len(inputs))]):
        if number in needed:
            needed.update(operand for operand in operation.operands if operand >= 0)
    return sum(number in needed for number in range(len(inputs))) + len(written)


def bytes_per_element(optimizer: Optimizer) -> int:
    """The bytes that a step has to move for an element of the first parameter.

    Each array that the program of the rule reads counts once, and each that it writes. The program
    is that of the next step, so that an optimizer should have taken some already.

    Parameters
    ----------
    optimizer : Optimizer
        Of an algorithm that has a rule.

    Returns
    -------
    int
    """
    group = optimizer.param_groups[0]
    param = group["params"][0]
    state = optimizer.state.get(param, {})
    slots = [slot for slot in optimizer.state_table if slot.name in state]
    scalars = {slot.name: state[slot.name] for slot in slots if slot.scalar}
    if "step" in scalars:
        scalars["step"] += 1
    arrays = tuple(slot.name for slot in slots if not slot.scalar)
    program = trace(optimizer._update, arrays, scalars, group)
    return moved_arrays(program) * int(param.data.dtype.itemsize)
