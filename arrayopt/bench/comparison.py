"""One algorithm on one workload: each side is checked, and then they take turns."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from arrayopt.bench.contenders import CONTENDERS, OURS, Side, installed
from arrayopt.bench.measure import (
    YARDSTICKS,
    Effort,
    Timing,
    bandwidth,
    take_turns,
)
from arrayopt.bench.memory import available_memory, rounds
from arrayopt.bench.workloads import Problem
from arrayopt.demo.agreement import relative_difference

__all__ = ["Result", "Settings", "compare"]

#: The steps that are compared. RAdam's first five are of another kind than all others; those of
#: LBFGS all begin at the same place.
CHECKED_STEPS = 6

#: The largest difference, relative to the largest parameter, that passes for rounding. In float32,
#: six steps of some twenty roundings come to 120 * 6e-8 = 7e-6.
TOLERANCE = 1e-5

#: That of LBFGS, whose coefficients are sums over all elements, and which ends so near to zero that
#: little is left of what it began with.
TOLERANCE_OF_SUMS = 1e-2

#: From this size on, no cache holds the parameters and gradients. A fraction of the bandwidth of
#: memory would mean nothing below.
OUT_OF_CACHE = 100 << 20

ALL = OURS | CONTENDERS

#: The one that all others have to agree with.
REFERENCE = "arrayopt"


@dataclass(frozen=True, slots=True)
class Settings:
    """What all measurements have in common.

    Attributes
    ----------
    against : sequence of str
        The rivals, by their names in `CONTENDERS`.
    threads : int
        How many threads each side has.
    effort : Effort
        How long to measure.
    quick : bool
        Whether workloads are reduced.
    """

    against: Sequence[str]
    threads: int
    effort: Effort = field(default_factory=Effort)
    quick: bool = False


@dataclass(slots=True)
class Result:
    """What was found out about one contender.

    Attributes
    ----------
    workload, algorithm, contender : str
        Their names.
    moved : int or None
        The bytes that a step has to move; None if that is not known.
    timing : Timing or None
        The duration of a step; None if it was not timed, which `failure` or `skipped` explains.
    ratios : dict of str to float
        Of a rival: the time of arrayopt over its time, in the same round, by the names in `OURS`.
    yardsticks : dict of str to Timing
        Those of `measure.YARDSTICKS`, in the same round. Empty if caches can hold the arrays.
    failure : str
        How it disagrees with arrayopt.
    skipped : str
        Why it could not take part.
    """

    workload: str
    algorithm: str
    contender: str
    moved: int | None = None
    timing: Timing | None = None
    ratios: dict[str, float] = field(default_factory=dict)
    yardsticks: dict[str, Timing] = field(default_factory=dict)
    failure: str = ""
    skipped: str = ""

    def __add__(self, other: Result) -> Result:
        """The same contender, with what came of one more round."""
        return replace(
            self,
            timing=self.timing + other.timing if self.timing and other.timing else None,
            yardsticks={name: t + other.yardsticks[name] for name, t in self.yardsticks.items()},
            failure=self.failure or other.failure,
        )

    @property
    def bandwidth(self) -> float | None:
        """The bytes that a step has to move, per second that it took."""
        return self.moved / self.timing.median if self.moved and self.timing else None

    @property
    def fractions(self) -> dict[str, float]:
        """The bandwidth over those of the yardsticks."""
        if not self.bandwidth:
            return {}
        return {name: self.bandwidth / bandwidth(t) for name, t in self.yardsticks.items()}


def compare(
    workload: str,
    algorithm: str,
    numbers: Problem,
    settings: Settings,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Result]:
    """Check and time all contenders that have an algorithm.

    Parameters
    ----------
    workload, algorithm : str
        Their names.
    numbers : Problem
        The numbers of the workload.
    settings : Settings
        Whom to compare with, and how long.
    tell : callable
        Told who is at work.

    Returns
    -------
    list of Result
        Those of arrayopt first, then those of the rivals.
    """
    ours = [name for name in OURS if _takes_part(name, algorithm, numbers)]
    rivals = [name for name in settings.against if _takes_part(name, algorithm, numbers)]
    groups = rounds(algorithm, numbers, len(ours), rivals, available_memory())
    if not groups:
        reason = "not enough memory"
        return [Result(workload, algorithm, name, skipped=reason) for name in (*ours, *rivals)]
    results: dict[str, Result] = {}
    for group in groups:
        gc.collect()  # what the last round left in cycles may be gigabytes
        tell(f"{workload}  {algorithm}" + (f"  {group[0]}" if len(groups) > 1 else ""))
        blank = [Result(workload, algorithm, name) for name in (*ours, *group)]
        with warnings.catch_warnings():
            # torch tells that its optimizers do not check the sparse gradients that they make
            warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
            found = _round(blank, numbers, settings)
        for result in found:
            known = results.get(result.contender)
            results[result.contender] = known + result if known else result
    return list(results.values())


def _takes_part(name: str, algorithm: str, numbers: Problem) -> bool:
    contender = ALL[name]
    return installed(contender.library) and contender.offers(algorithm, numbers.sparse)


def _round(results: list[Result], numbers: Problem, settings: Settings) -> list[Result]:
    """Let some contenders take turns, and write down what comes of it."""
    sides = {r.contender: ALL[r.contender].make(r.algorithm, numbers) for r in results}
    for side in sides.values():
        for _ in range(_checked(results[0].algorithm)):
            side.step()
    reference = sides[REFERENCE]
    for result in results:
        result.failure = _difference(sides[result.contender], reference, result.algorithm)
        if reference.moved:
            result.moved = numbers.touched * reference.moved()
    steps = {r.contender: sides[r.contender].step for r in results if not r.failure}
    if not numbers.sparse and 2 * numbers.nbytes >= OUT_OF_CACHE:
        steps |= {name: make(settings.threads) for name, make in YARDSTICKS.items()}
    timings = take_turns(steps, settings.effort)
    for result in results:
        result.timing = timings.get(result.contender)
        result.yardsticks = {name: timings[name] for name in YARDSTICKS if name in timings}
        if result.timing and result.contender not in OURS:
            result.ratios = {
                name: timings[name].median / result.timing.median
                for name in OURS
                if name in timings
            }
    return results


def _difference(side: Side, reference: Side, algorithm: str) -> str:
    """How the parameters of a side differ from those of arrayopt; empty if they do not."""
    bound = TOLERANCE_OF_SUMS if algorithm == "LBFGS" else TOLERANCE
    difference = relative_difference(side.arrays(), reference.arrays())
    if difference <= bound:  # (NaN is not)
        return ""
    count = _checked(algorithm)
    return (
        f"after {count} step{'' if count == 1 else 's'}, {difference:.1e} from arrayopt on NumPy "
        f"arrays, out of bounds ({bound:.0e})"
    )


def _checked(algorithm: str) -> int:
    return 1 if algorithm == "LBFGS" else CHECKED_STEPS
