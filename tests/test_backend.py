"""How backends are found: built in, or by entry points."""

from __future__ import annotations

import importlib.metadata
import sys
import types
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
    here = types.SimpleNamespace(Eager=Eager, Broken=Broken)
    monkeypatch.setitem(sys.modules, __name__, here)
    backend._load.cache_clear()
    yield
    backend._load.cache_clear()


@pytest.mark.usefixtures("points")
def test_a_backend_of_somebody_else_is_found_and_a_broken_one_is_told() -> None:
    assert set(backend.available()) == {*backend.BUILTIN, "eager"}
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
    names = ["numba_fused", "numpy_blocked", "array_api"]
    assert [executor.name for executor in found if executor] == names
    assert backend.find(np.ones(1)) is found[0]
    assert backend.find("no array") is None


def test_without_numba_foreach_is_the_default_and_fused_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(backend.BUILTIN, "numba_fused", "no_such_module:NumbaFused")
    backend._load.cache_clear()
    try:
        w = np.ones(3)
        assert [each.backend for each in optim.Adam([w]).implementation] == ["numpy_blocked"]
        message = (
            r"fused=True: no installed backend has a fused implementation for numpy arrays .*"
            r"\(numba_fused: pip install \"arrayopt\[numba\]\"\)"
        )
        with pytest.raises(RuntimeError, match=message):
            optim.Adam([w], fused=True)
    finally:
        backend._load.cache_clear()
