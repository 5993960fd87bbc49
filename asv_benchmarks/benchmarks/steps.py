"""Steps: their time and memory, on every workload and as these grow."""

from __future__ import annotations

import os
from collections.abc import Callable

from arrayopt.bench.averaging import find, names
from arrayopt.bench.contenders import Ours, runs, taken, takes
from arrayopt.bench.workloads import WORKLOADS, Problem, problem

#: Whether to leave most combinations out, and save smaller checkpoints, as ``make bench`` asks for.
SHORT = bool(os.environ.get("ARRAYOPT_SHORT_BENCHMARK"))

DENSE = [name for name in names() if takes(find(name), sparse=False)]
ALGORITHMS = ["AdamW", "SGD", "EMA"] if SHORT else DENSE
LARGE = ["resnet50", "gpt2"]
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "default": {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def warm_step(
    algorithm: str, numbers: Problem, implementation: str = "default"
) -> Callable[[], object]:
    """A step, after so many that all that follow are alike: for RAdam, that takes six.

    Raises
    ------
    NotImplementedError
        If there is no such implementation here. asv leaves the benchmark out then.
    """
    contender = Ours(implementation, **IMPLEMENTATIONS[implementation])
    if not contender.offers(algorithm, numbers.sparse):
        raise NotImplementedError
    step = contender.make(algorithm, numbers).step
    for _ in range(6):
        step()
    return step


class Steps:
    """A step on the parameters of each workload."""

    params = (
        ALGORITHMS,
        list(IMPLEMENTATIONS),
        [name for name in WORKLOADS if name != "embedding" and not (SHORT and name in LARGE)],
        ["float32"] if SHORT else ["float32", "float64"],
    )
    param_names = ("algorithm", "implementation", "workload", "dtype")
    timeout = 300

    def setup(self, algorithm: str, implementation: str, workload: str, dtype: str) -> None:
        if not runs(algorithm, WORKLOADS[workload]):
            raise NotImplementedError
        numbers = taken(algorithm, problem(WORKLOADS[workload].shapes, dtype))
        self.step = warm_step(algorithm, numbers, implementation)

    def time_step(self, *_: str) -> None:
        self.step()

    def peakmem_step(self, *_: str) -> None:
        self.step()


class SparseSteps:
    """A step on an embedding of which few rows have a gradient."""

    params = ("SparseAdam", "Adagrad", "SGD")
    param_names = ("algorithm",)
    timeout = 300

    def setup(self, algorithm: str) -> None:
        workload = WORKLOADS["embedding"]
        self.step = warm_step(algorithm, problem(workload.shapes, rows=workload.rows))

    def time_step(self, _: str) -> None:
        self.step()

    def peakmem_step(self, _: str) -> None:
        self.step()


class GrowthInNumber:
    """A step against the number of arrays of 100."""

    params = (["AdamW", "SGD"], [1, 10, 100, 1000, 10_000])
    param_names = ("algorithm", "arrays")

    def setup(self, algorithm: str, arrays: int) -> None:
        self.step = warm_step(algorithm, problem([(100,)] * arrays))

    def time_step(self, *_: object) -> None:
        self.step()


class GrowthInSize:
    """A step against the size of a single array."""

    params = (["AdamW", "SGD"], [10**exponent for exponent in range(2, 9)])
    param_names = ("algorithm", "size")
    timeout = 300

    def setup(self, algorithm: str, size: int) -> None:
        self.step = warm_step(algorithm, problem([(size,)]))

    def time_step(self, *_: object) -> None:
        self.step()
