"""What is installed: ``python -m arrayopt info``."""

from __future__ import annotations

import platform
import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import arrayopt
from arrayopt import backend

__all__ = ["extras", "info"]

#: Extras for those who work on arrayopt itself.
FOR_DEVELOPERS = frozenset({"asv", "dev", "docs", "test"})

_REQUIREMENT = re.compile(r"""(?P<package>[\w.-]+).*\bextra\s*==\s*["'](?P<extra>[\w.-]+)["']""")


def info() -> str:
    """Versions, threads, backends and extras, as text at most 80 columns wide.

    No library is imported but those of the backends: versions are those of the package metadata.
    A backend that needs a driver is asked for it.
    """
    optional = extras()
    packages = dict.fromkeys(package for names in optional.values() for package in names)
    packages.pop("arrayopt", None)  # extras of extras
    versions = [
        ("arrayopt", arrayopt.__version__),
        ("Python", platform.python_version()),
        *((name, _version(name) or "not installed") for name in ("numpy", "array-api-compat")),
        *((name, found) for name in packages if (found := _version(name))),
    ]
    backends: list[tuple[str, str]] = []
    missing = list(backend.missing().items())
    for name, executor in backend.available().items():
        trouble = executor.trouble()
        row = (f"{name} ({executor.implementation})", trouble or _summary(executor))
        (missing if trouble else backends).append(row)
    return "\n\n".join(
        [
            _section("Versions", versions),
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


def _extra_rows(optional: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for extra, packages in optional.items():
        absent = [package for package in packages if not _version(package)]
        if absent:
            command = f'pip install "arrayopt[{extra}]"'
            yield extra, f"missing {', '.join(absent)}; install with: {command}"
        else:
            yield extra, f"installed ({', '.join(packages)})"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
