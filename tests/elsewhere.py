"""Run the tests with other versions than those of this environment, and tell how each run ended.

``elsewhere.py oldest`` takes the lowest version of every package that pyproject.toml states, on
the lowest Python that it states; so do the tools of developers. ``elsewhere.py 3.12 3.13`` takes
other versions of Python, with the newest packages; after ``--without-torch``, torch is not among
them, and the tests that need it are left out and told. What follows ``--`` goes to pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from environments import (
    EXTRAS,
    PROJECT,
    ROOT,
    Environment,
    environment,
    lowest,
    pythons,
    requirements,
)

LOWEST_PYTHON = re.sub("[^0-9.]", "", PROJECT["requires-python"])


def name(requirement: str) -> str:
    """The package that a requirement is about.

    >>> name("cupy-cuda13x>=14; sys_platform == 'linux'")
    'cupy-cuda13x'
    """
    return re.split("[^a-zA-Z0-9_-]", requirement)[0]


def all_but(requirements: Iterable[str], *left_out: str) -> list[str]:
    return sorted(each for each in requirements if name(each) not in left_out)


def ends(env: Environment, *arguments: str | Path, cwd: Path = ROOT, **variables: str) -> bool:
    """Let a module of an environment run on the checkout, and print; whether it ends well."""
    print("$ python -m", *arguments, flush=True)
    command = [env.python, "-m", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | variables).returncode == 0


def run_tests(packages: list[str], base: Path, *options: str, **variables: str) -> bool:
    """Whether the tests pass in an environment of these packages."""
    print(f"{base}: {', '.join(packages)}", flush=True)
    with environment(*packages, base=base) as env:
        env.install("--no-deps", "--editable", ROOT)
        pytest = ("pytest", "-p", "no:cacheprovider", "--numprocesses", "auto")
        return ends(env, *pytest, *options, **variables)


def oldest_tests(base: Path, *options: str) -> bool:
    """The tests, with the lowest version of everything."""
    packages = all_but(map(lowest, requirements("test")))
    return run_tests(
        [*packages, "pyparsing<3.3"], base, *options
    )  # newer ones warn of old matplotlib


def oldest_cuda12(base: Path) -> bool:
    """The lowest CuPy for CUDA 12, which cannot stand beside that for CUDA 13."""
    (cupy,) = map(lowest, EXTRAS["cuda12"])
    packages = all_but(map(lowest, requirements("test")), "cupy-cuda13x")
    return run_tests(
        [*packages, cupy], base, "tests/test_cuda_kernel.py", "-k", "as_cupy_writes_it"
    )


def oldest_tools(base: Path) -> bool:
    """The lowest versions of what only developers run; types are those of the newest packages."""
    tools = [lowest(each) for each in requirements("dev") if name(each) in TOOLS]
    packages = all_but(requirements("dev"), *TOOLS)
    print(f"{base}: {', '.join(tools)}", flush=True)
    with environment(*packages, *tools, base=base) as env:
        env.install("--no-deps", "--editable", ROOT)
        home = {"HOME": str(env.folder), "PRE_COMMIT_HOME": str(env.folder / "hooks")}
        return all([ends(env, *arguments, **home) for arguments in TOOLS.values()])


#: What a tool has to do without a complaint.
TOOLS = {
    "mypy": ("mypy", "--no-incremental"),
    "ruff": ("ruff", "check", "--no-cache", "."),
    "pre-commit": ("pre_commit", "validate-config"),
    "asv": ("asv", "check", "--python=same", "--config", "asv_benchmarks/asv.conf.json"),
}


def newest_tests(base: Path, without_torch: bool, *options: str) -> bool:
    """The tests with the newest packages."""
    if not without_torch:
        return run_tests(all_but(requirements("test")), base, *options)
    plugin = ("-p", "without_torch")
    packages = all_but(requirements("test"), "torch")
    return run_tests(packages, base, *plugin, *options, PYTHONPATH=str(ROOT / "tests"))


def main(arguments: list[str]) -> int:
    versions, options = arguments, []
    if "--" in arguments:
        position = arguments.index("--")
        versions, options = arguments[:position], arguments[position + 1 :]
    without_torch = "--without-torch" in versions
    there = pythons([LOWEST_PYTHON, *versions])
    ended: dict[str, bool | None] = {}
    for version in versions:
        if version == "oldest":
            if base := there.get(LOWEST_PYTHON):
                ended["lowest versions: tools"] = oldest_tools(base)
                ended["lowest versions: CuPy for CUDA 12"] = oldest_cuda12(base)
                ended["lowest versions: tests"] = oldest_tests(base, *options)
            else:
                ended[f"Python {LOWEST_PYTHON}"] = False
        elif version != "--without-torch":
            base = there.get(version)
            title = f"Python {version}" + ", without torch" * without_torch
            ended[title] = newest_tests(base, without_torch, *options) if base else None
    words = {True: "passed", False: "FAILED", None: "not on this machine, not tested"}
    print(*(f"{title}: {words[end]}" for title, end in ended.items()), sep="\n", flush=True)
    return 0 if True in ended.values() and False not in ended.values() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
