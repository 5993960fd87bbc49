"""The asv suite: time and memory of a step, growth, and the time to import."""

from __future__ import annotations

import subprocess
import sys

import arrayopt as optim

from .workloads import WORKLOADS, embedding, parameters

IMPLEMENTATIONS = {"for-loop": False, "foreach": True}


class Step:
    """One step on each workload, by algorithm, implementation and dtype."""

    params = (
        ["SGD", "Adam", "AdamW"],
        list(IMPLEMENTATIONS),
        list(WORKLOADS),
        ["float32", "float64"],
    )
    param_names = ("algorithm", "implementation", "parameters", "dtype")
    timeout = 120

    def setup(self, algorithm: str, implementation: str, workload: str, dtype: str) -> None:
        self.optimizer = getattr(optim, algorithm)(
            parameters(WORKLOADS[workload], dtype), foreach=IMPLEMENTATIONS[implementation]
        )
        self.optimizer.step()

    def time_step(self, *_: str) -> None:
        self.optimizer.step()

    def peakmem_step(self, *_: str) -> None:
        self.optimizer.step()


class Embedding:
    """One step on 1M rows of 64 numbers, of which 1,000 have a gradient; Adam's is dense."""

    params = ("SparseAdam", "Adagrad", "SGD", "Adam")
    param_names = ("algorithm",)
    timeout = 120

    def setup(self, algorithm: str) -> None:
        parameter = embedding(dense=algorithm == "Adam")
        self.optimizer = getattr(optim, algorithm)([parameter])
        self.optimizer.step()

    def time_step(self, _: str) -> None:
        self.optimizer.step()


class Growth:
    """One step of Adam against the number of arrays and against their size."""

    params = ([1, 10, 100, 1000], [10, 1000, 100_000])
    param_names = ("arrays", "size")

    def setup(self, arrays: int, size: int) -> None:
        if arrays * size > 20_000_000:
            raise NotImplementedError  # what asv takes for "leave this one out"
        self.optimizer = optim.Adam(parameters([(size,)] * arrays))
        self.optimizer.step()

    def time_step(self, *_: int) -> None:
        self.optimizer.step()


class Import:
    """The time to import, NumPy and array-api-compat included and alone."""

    timeout = 120

    def time_import(self) -> None:
        subprocess.run([sys.executable, "-c", "import arrayopt"], check=True)

    def time_import_dependencies(self) -> None:
        subprocess.run([sys.executable, "-c", "import numpy, array_api_compat"], check=True)
