"""Run the test suite with other versions than those of this environment.

``elsewhere.py oldest`` takes the lowest version of every package that pyproject.toml states, on
the lowest Python that it states; ``elsewhere.py 3.12 3.13`` takes other versions of Python, with
the newest packages. What follows ``--`` goes to pytest.
"""

from __future__ import annotations

import re
import subprocess
import sys

from environments import PROJECT, ROOT, environment, lowest, pythons, requirements

LOWEST_PYTHON = re.sub("[^0-9.]", "", PROJECT["requires-python"])
#: Old packages use what newer ones of others deprecate. That is not about arrayopt.
LENIENT = ("-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning")


def suite(python: str, oldest: bool, options: list[str]) -> int:
    """Run the tests in an environment of that Python, and tell how they ended."""
    base = pythons([python]).get(python)
    if base is None:
        print(f"Python {python}: not on this machine, not tested", flush=True)
        return 0 if not oldest else 1
    packages = sorted(requirements("test"))
    if oldest:
        packages = [*map(lowest, packages), "pyparsing<3.3"]  # newer ones warn of old matplotlib
    with environment(*packages, base=base) as env:
        env.install("--no-deps", "--editable", ROOT)
        print(f"Python {python}: {', '.join(packages)}", flush=True)
        pytest = [env.python, "-m", "pytest", "-p", "no:cacheprovider", "--numprocesses", "auto"]
        status = subprocess.run([*pytest, *(LENIENT if oldest else ()), *options], cwd=ROOT)
    return status.returncode


def main(arguments: list[str]) -> int:
    names, options = arguments, []
    if "--" in arguments:
        position = arguments.index("--")
        names, options = arguments[:position], arguments[position + 1 :]
    statuses = [
        suite(LOWEST_PYTHON if name == "oldest" else name, name == "oldest", options)
        for name in names
    ]
    return max(statuses)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
