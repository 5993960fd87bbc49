"""Checkpoints of GPT-2 small with the state of Adam: time, and the memory beyond the arrays."""

from __future__ import annotations

import tempfile
import tracemalloc

import arrayopt
from arrayopt import checkpoint
from arrayopt.bench.workloads import WORKLOADS, problem

from .steps import SHORT


class Checkpoints:
    """A save, which waits for the disk, and a load from the memory of the system."""

    timeout = 300
    number = 1
    warmup_time = 0

    def setup(self) -> None:
        self.run = tempfile.TemporaryDirectory()
        numbers = problem(WORKLOADS["gpt2"].shapes_of(SHORT))
        self.model = {str(number): start.copy() for number, start in enumerate(numbers.starts)}
        self.optimizer = arrayopt.Adam(self.model.items())
        self.optimizer.step(grads=numbers.grads)
        self.time_save()

    def teardown(self) -> None:
        self.run.cleanup()

    def time_save(self) -> None:
        checkpoint.save(self.run.name, model=self.model, optimizer=self.optimizer, keep=1)

    def time_load(self) -> None:
        fresh = arrayopt.Adam(self.model.items())
        checkpoint.load(self.run.name, model=self.model, optimizer=fresh)

    def track_memory_of_save(self) -> int:
        tracemalloc.start()
        try:
            self.time_save()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    track_memory_of_save.unit = "bytes"
