"""A plugin of pytest for where torch is not: what needs torch is left out, test by test, and told.

``make test-pythons`` takes it (``-p without_torch``). While test modules are imported, torch is a
name for things that are not there, so that a module of which some tests need torch is collected. A
test that then uses one of these things, or imports torch, is skipped; every other has to pass.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REASON = "needs torch, which is not installed here"

#: Modules left out as a whole: in many of their tests, a command or a notebook runs torch.
WHOLE = {
    "test_bench.py",
    "test_bench_cuda.py",
    "test_check.py",
    "test_cli.py",
    "test_docs.py",
    "test_gpu_suite.py",
    "test_notebooks.py",
    "test_readme.py",
}


class Absent:
    """Something of torch: a test module may name it, and a test may not use it."""

    collecting = True
    __path__: Any = ()
    __spec__ = None

    def __init__(self, name: str) -> None:
        self.named = name

    def __repr__(self) -> str:
        return self.named

    def __getattr__(self, name: str) -> Absent:
        if Absent.collecting and name.startswith("__"):
            raise AttributeError(name)
        return part(f"{self.named}.{name}")

    def __call__(self, *args: object, **kwargs: object) -> Absent:
        return part(f"{self.named}(...)")

    def __add__(self, other: object) -> Absent:
        return part(f"{self.named} + ...")

    def __mul__(self, other: object) -> Absent:
        return part(f"{self.named} * ...")

    def __instancecheck__(self, instance: object) -> bool:
        part(self.named)
        return False

    __subclasscheck__ = __instancecheck__

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()


def part(name: str) -> Absent:
    """What stands for a part of torch; an error once tests run."""
    if Absent.collecting:
        return Absent(name)
    raise ModuleNotFoundError(f"No module named 'torch', for {name}", name="torch")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torch and its modules, which are not there, as long as tests are collected."""

    def find_spec(self, fullname: str, *args: object) -> importlib.machinery.ModuleSpec | None:
        if Absent.collecting and is_torch(fullname):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = Absent(module.__name__)  # type: ignore[assignment]


def is_torch(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == "torch"


def lacks_torch(error: BaseException | None) -> bool:
    """Whether an error is that torch is missing, or comes of one that is."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and is_torch(error.name):
            return True
        inner = getattr(error, "exc_info", None)  # of a doctest
        error = inner[1] if inner else error.__cause__ or error.__context__
    return False


def holds_torch(value: object) -> bool:
    """Whether there is something of torch in the parameters of a test."""
    if isinstance(value, Mapping):
        return any(map(holds_torch, value.values()))
    if isinstance(value, (tuple, list)):
        return any(map(holds_torch, value))
    return isinstance(value, Absent)


def pytest_configure() -> None:
    sys.meta_path.append(Finder())  # where torch is installed, it is found first


def pytest_report_header() -> str:
    return f"left out as a whole, without torch: {', '.join(sorted(WHOLE))}"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return collection_path.name in WHOLE or None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[Any]:
    Absent.collecting = True
    try:
        return (yield)
    finally:
        Absent.collecting = False
        for name in [name for name in sys.modules if is_torch(name)]:
            del sys.modules[name]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if holds_torch(getattr(getattr(item, "callspec", None), "params", None)):
        part("a parameter of the test")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if call.excinfo is not None and lacks_torch(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), None, REASON)  # a line for each file, with its number
    return report
