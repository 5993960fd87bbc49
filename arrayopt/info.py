"""What is installed: ``python -m arrayopt info``."""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version

import arrayopt
from arrayopt import backend

__all__ = ["extras", "info", "version_of", "versions", "versions_text"]

#: Extras for those who work on arrayopt itself.
FOR_DEVELOPERS = frozenset({"asv", "dev", "docs", "test"})

#: The packages that comparisons and benchmarks are made with.
COMPARED = ("arrayopt", "numpy", "numba", "torch", "optax", "jax")

_REQUIREMENT = re.compile(r"""(?P<package>[\w.-]+).*\bextra\s*==\s*["'](?P<extra>[\w.-]+)["']""")


def info() -> str:
    """Versions, threads, backends and extras, as text at most 80 columns wide.

    No library is imported but those of the backends: versions are those of the package metadata.
    A backend that needs a driver is asked for it.
    """
    optional = extras()
    packages = dict.fromkeys(package for names in optional.values() for package in names)
    packages.pop("arrayopt", None)  # extras of extras
    installed = [
        ("arrayopt", arrayopt.__version__),
        ("Python", platform.python_version()),
        *((name, version_of(name) or "not installed") for name in ("numpy", "array-api-compat")),
        *((name, found) for name in packages if (found := version_of(name))),
    ]
    backends: list[tuple[str, str]] = []
    missing = list(backend.missing().items())
    for name, executor in backend.available().items():
        trouble = executor.trouble()
        row = (f"{name} ({executor.implementation})", trouble or _summary(executor))
        (missing if trouble else backends).append(row)
    return "\n\n".join(
        [
            _section("Versions", installed),
            f"Threads: {arrayopt.get_num_threads()} (ARRAYOPT_NUM_THREADS, set_num_threads)",
            _section("Backends", backends),
            _section("Backends that cannot be used here", missing or [("none", "")]),
            _section("Optional extras", _extra_rows(optional)),
        ]
    )


def extras() -> dict[str, list[str]]:
    """The optional extras and the packages of each, by the metadata of the package.

    Examples
    --------
    >>> extras()["torch"]
    ['torch']
    """
    try:
        requirements = requires("arrayopt") or []
    except PackageNotFoundError:  # imported from a checkout that is not installed
        requirements = []
    found: dict[str, list[str]] = {}
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        if match and match["extra"] not in FOR_DEVELOPERS:
            found.setdefault(match["extra"], []).append(match["package"])
    return found


def version_of(package: str) -> str | None:
    """The version of a package by its metadata; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """The versions of Python and of the packages that take part in a comparison or a benchmark."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in COMPARED}


def versions_text(found: Mapping[str, str | None]) -> str:
    """The versions of what is installed, in a line.

    Examples
    --------
    >>> versions_text({"python": "3.12.1", "numpy": "2.1.0", "torch": None})
    'python 3.12.1, numpy 2.1.0'
    """
    return ", ".join(f"{name} {number}" for name, number in found.items() if number)


def _extra_rows(optional: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for extra, packages in optional.items():
        absent = [package for package in packages if not version_of(package)]
        if absent:
            command = f'pip install "arrayopt[{extra}]"'
            yield extra, f"missing {', '.join(absent)}; install with: {command}"
        else:
            yield extra, f"installed ({', '.join(packages)})"


def _summary(entry: object) -> str:
    """The first line of its documentation."""
    return (type(entry).__doc__ or "").strip().partition("\n")[0]


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    lines = [
        textwrap.fill(
            f"{name:<{width}}  {text}".rstrip(),
            width=79,
            initial_indent="  ",
            subsequent_indent=" " * (width + 4),
        )
        for name, text in rows
    ]
    return "\n".join([f"{title}:", *lines])
