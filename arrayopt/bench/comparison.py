"""One algorithm on one workload: each side is checked, and then they take turns."""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from arrayopt.bench.contenders import CONTENDERS, OURS, Contender, Side, installed, taken
from arrayopt.bench.measure import (
    YARDSTICKS,
    Effort,
    Step,
    Timed,
    Timing,
    bandwidth,
    on_host,
    take_turns,
)
from arrayopt.bench.memory import available_memory, rounds
from arrayopt.bench.workloads import Problem, Shapes
from arrayopt.demo.agreement import relative_difference
from arrayopt.wording import counted

__all__ = ["Place", "Result", "Settings", "compare"]

#: The steps that are compared. RAdam's first five are of another kind than all others; those of
#: LBFGS all begin at the same place.
CHECKED_STEPS = 6

#: The largest difference, relative to the largest parameter, that passes for rounding. In float32,
#: six steps of some twenty roundings come to 120 * 6e-8 = 7e-6.
TOLERANCE = 1e-5

#: That of LBFGS, whose coefficients are sums over all elements, and which ends so near to zero that
#: little is left of what it began with; of Muon, which in torch computes in bfloat16; and of
#: Adafactor, since torch's norm of 40 million numbers is off by 2e-3 in float32.
TOLERANCES = {"LBFGS": 1e-2, "Muon": 1e-2, "Adafactor": 1e-3}

#: From this size on, no cache holds the parameters and gradients. A fraction of the bandwidth of
#: memory would mean nothing below.
OUT_OF_CACHE = 100 << 20

ALL = OURS | CONTENDERS

#: What arrayopt works on, on the host.
ARRAYS = {"arrayopt": "NumPy", "arrayopt-torch": "torch"}

#: The one that all others have to agree with.
REFERENCE = "arrayopt"


@dataclass(frozen=True, slots=True)
class Place:
    """Another place to measure on than the host.

    Attributes
    ----------
    device : str
        What it is called.
    arrays : dict of str to str
        What arrayopt works on there, by the names of its contenders.
    contenders : dict of str to Contender
        Who takes part there: arrayopt first, by the names that they have on the host.
    yardsticks : dict of str to callable
        As `measure.YARDSTICKS`.
    timed : callable
        As `take_turns` takes it.
    memory : callable
        Returns how many bytes are free.
    numbers : callable
        ``numbers(shapes, rows)`` returns the numbers of a workload.
    """

    device: str
    arrays: Mapping[str, str]
    contenders: Mapping[str, Contender]
    yardsticks: Mapping[str, Callable[[int], Step]]
    timed: Timed
    memory: Callable[[], int]
    numbers: Callable[[Shapes, int | None], Problem]


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
    place : Place, optional
        Where to measure, if not on the host.
    instead : sequence of str
        Who takes part where no rival has the algorithm.
    """

    against: Sequence[str]
    threads: int
    effort: Effort = field(default_factory=Effort)
    quick: bool = False
    place: Place | None = None
    instead: Sequence[str] = ()

    @property
    def arrays(self) -> Mapping[str, str]:
        """What arrayopt works on, by the names of its contenders."""
        return self.place.arrays if self.place else ARRAYS

    @property
    def contenders(self) -> Mapping[str, Contender]:
        """Who can take part."""
        return self.place.contenders if self.place else ALL

    @property
    def yardsticks(self) -> Mapping[str, Callable[[int], Step]]:
        """What memory is measured by."""
        return self.place.yardsticks if self.place else YARDSTICKS

    @property
    def timed(self) -> Timed:
        """How steps are timed."""
        return self.place.timed if self.place else on_host


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
    everyone = settings.contenders
    numbers = taken(algorithm, numbers)

    def takes_part(name: str) -> bool:
        contender = everyone.get(name)
        return (
            contender is not None
            and installed(contender.library)
            and contender.offers(algorithm, numbers.sparse)
        )

    ours, rivals = [*filter(takes_part, OURS)], [*filter(takes_part, settings.against)]
    rivals = rivals or [*filter(takes_part, settings.instead)]
    if REFERENCE not in ours:
        return []
    memory = settings.place.memory() if settings.place else available_memory()
    groups = rounds(algorithm, numbers, len(ours), rivals, memory)
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


def _side(contender: Contender, algorithm: str, numbers: Problem) -> Side:
    """A contender at work, on all sets of numbers in turn."""
    first, *others = (contender.make(algorithm, each) for each in (numbers, *numbers.others))
    if not others:
        return first
    turns = itertools.cycle([first.step, *(side.step for side in others)])
    return replace(first, step=lambda: next(turns)())


def _round(results: list[Result], numbers: Problem, settings: Settings) -> list[Result]:
    """Let some contenders take turns, and write down what comes of it."""
    everyone = settings.contenders
    sides = {r.contender: _side(everyone[r.contender], r.algorithm, numbers) for r in results}
    for side in sides.values():
        for _ in range(_checked(results[0].algorithm) * (1 + len(numbers.others))):
            side.step()
    reference, arrays = sides[REFERENCE], settings.arrays[REFERENCE]
    for result in results:
        side = sides[result.contender]
        result.failure = _difference(side, reference, result.algorithm, arrays)
        if reference.moved:
            result.moved = numbers.touched * reference.moved()
    steps = {r.contender: sides[r.contender].step for r in results if not r.failure}
    if not numbers.sparse and 2 * numbers.nbytes >= OUT_OF_CACHE:
        steps |= {name: make(settings.threads) for name, make in settings.yardsticks.items()}
    timings = take_turns(steps, settings.effort, settings.timed)
    for result in results:
        result.timing = timings.get(result.contender)
        result.yardsticks = {n: timings[n] for n in settings.yardsticks if n in timings}
        if result.timing and result.contender not in OURS:
            result.ratios = {
                name: timings[name].median / result.timing.median
                for name in OURS
                if name in timings
            }
    return results


def _difference(side: Side, reference: Side, algorithm: str, arrays: str) -> str:
    """How the parameters of a side differ from those of arrayopt on `arrays`; empty if not."""
    bound = TOLERANCES.get(algorithm, TOLERANCE)
    difference = relative_difference(side.arrays(), reference.arrays())
    if difference <= bound:  # (NaN is not)
        return ""
    steps = counted(_checked(algorithm), "step")
    return (
        f"after {steps}, {difference:.1e} from arrayopt on {arrays} arrays, out of bounds "
        f"({bound:.0e})"
    )


def _checked(algorithm: str) -> int:
    """How many steps are compared."""
    return 1 if algorithm == "LBFGS" else CHECKED_STEPS
