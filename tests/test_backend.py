"""How backends are found: built in, or by entry points."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator

import numpy as np
import pytest

import arrayopt as optim
from arrayopt import backend
from arrayopt.backends.array_api import ForLoop


class Eager(ForLoop):
    """Somebody else's executor."""

    name = "eager"
    implementation = "fused"


class Broken:
    def __init__(self) -> None:
        raise OSError("no driver")


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [
            importlib.metadata.EntryPoint(name, value, group)
            for name, value in {
                "eager": f"{__name__}:Eager",
                "broken": f"{__name__}:Broken",
                "absent": "no_such_module:Executor",
                "misnamed": f"{__name__}:NoSuchClass",
            }.items()
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setitem(
        __import__("sys").modules,
        __name__,
        __import__("types").SimpleNamespace(Eager=Eager, Broken=Broken),
    )
    backend._load.cache_clear()
    yield
    backend._load.cache_clear()


@pytest.mark.usefixtures("points")
def test_a_backend_of_somebody_else_is_found_and_a_broken_one_is_told() -> None:
    assert set(backend.available()) == {"array_api", "numpy_blocked", "eager"}
    assert backend.missing()["broken"] == "OSError: no driver"
    assert "no_such_module" in backend.missing()["absent"]
    assert "NoSuchClass" in backend.missing()["misnamed"]
    w = np.ones(3)
    opt = optim.SGD([w], lr=0.5, fused=True)
    assert [report.backend for report in opt.implementation] == ["eager"]
    opt.step(grads=[np.ones(3)])
    assert (w == 0.5).all()


def test_the_fastest_comes_first() -> None:
    found = [backend.find(np.ones(1), kind) for kind in backend.SPEED]
    assert [executor.name for executor in found if executor] == ["numpy_blocked", "array_api"]
    assert backend.find(np.ones(1)) is found[1]
    assert backend.find("no array") is None
