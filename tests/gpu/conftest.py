"""What the tests on a GPU share: CuPy on a real device, or it is said why there is none.

``make test-gpu`` runs them. With ``ARRAYOPT_GPU=standin`` they run on the stand-in for CuPy, a few
of each kind: this shows that they are sound, and nothing about a GPU.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

STANDIN = os.environ.get("ARRAYOPT_GPU") == "standin"


def trouble() -> str:
    """Why these tests cannot run here; empty if they can."""
    if STANDIN:
        return ""
    from arrayopt.backends.cupy_memory import trouble

    return trouble()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse to run without a GPU: tests that are skipped would look like tests that pass."""
    here = [item for item in items if item.path.parent.name == "gpu"]
    reason = trouble() if here else ""
    if reason:
        raise pytest.UsageError(f"these tests need a GPU: {reason}")


@dataclass(frozen=True)
class Machine:
    """The device.

    Attributes
    ----------
    cupy : module
        CuPy.
    rival : str
        The device on which torch runs: the same GPU, if torch has CUDA; or else the CPU.
    steps : int
        How many steps long runs have.
    """

    cupy: Any
    rival: str
    steps: int

    @contextlib.contextmanager
    def no_waiting(self) -> Iterator[None]:
        """Raise if the host waits for the device within the block."""
        import cupyx

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="cupyx.allow_synchronize will be removed")
            with cupyx.allow_synchronize(False):
                yield


@pytest.fixture
def machine() -> Iterator[Machine]:
    """CuPy, on a real device or on the stand-in."""
    if not STANDIN:
        import cupy

        rival = "cuda" if torch.cuda.is_available() else "cpu"
        yield Machine(cupy, rival, steps=1000)
        return
    from cupy_standin import install

    with install() as cupy:
        yield Machine(cupy, "cpu", steps=10)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On the stand-in, one set of options of each algorithm is enough."""
    if STANDIN and {"spec", "options"} <= {*metafunc.fixturenames}:
        for mark in metafunc.definition.iter_markers("parametrize"):
            if "options" in mark.args[0]:
                names: dict[str, Any] = {}
                for spec, options in mark.args[1]:
                    names.setdefault(spec.name, (spec, options))
                mark.args[1][:] = [*names.values()]
