"""Environments in temporary folders, as on a user's machine; uv makes them if it is there.

What they install is read from pyproject.toml, so that no list is kept twice.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: Mapping[str, list[str]] = PROJECT["optional-dependencies"]
#: What a requirement of one's own extras looks like.
OWN = re.compile(r"arrayopt\[([\w,-]+)\]$")
HAS_UV = importlib.util.find_spec("uv") is not None


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """What a command prints. If it fails, an AssertionError shows all that it said."""
    apart = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if "PIP_FIND_LINKS" in apart:  # uv looks where pip looks
        apart.setdefault("UV_FIND_LINKS", apart["PIP_FIND_LINKS"])
    result = subprocess.run(
        [*map(str, command)], cwd=cwd, env=apart | variables, capture_output=True, text=True
    )
    said = " ".join(map(str, command)) + "\n" + result.stdout + result.stderr
    assert result.returncode == 0, said
    return result.stdout


def requirements(*extras: str) -> set[str]:
    """What the project and these of its extras ask for, without those that only name others."""
    found = set(PROJECT["dependencies"])
    for extra in extras:
        for requirement in EXTRAS[extra]:
            own = OWN.match(requirement)
            found |= requirements(*own[1].split(",")) if own else {requirement}
    return found


def lowest(requirement: str) -> str:
    """The requirement of exactly the lowest version.

    >>> lowest("numpy>=2"), lowest("torch==2.13.0")
    ('numpy==2', 'torch==2.13.0')
    """
    return requirement.replace(">=", "==")


def sources() -> list[str]:
    """The files of the project: those that git knows, or those that an unpacked sdist lists."""
    if (ROOT / ".git").exists():
        listing = run(
            "git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT
        ).splitlines()
    else:
        listing = (ROOT / "arrayopt.egg-info" / "SOURCES.txt").read_text().splitlines()
    return sorted(name for name in listing if (ROOT / name).is_file() and ".egg-info/" not in name)


def build(folder: Path, *options: str) -> tuple[Path, Path]:
    """The sdist, and the wheel that comes of it, built from a copy of the sources in a folder."""
    for name in sources():
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy)
    run(sys.executable, "-m", "build", *options, "--outdir", folder, folder / "source", cwd=folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


class Environment:
    """A virtual environment: its interpreter, and what can be done with it."""

    def __init__(self, folder: Path, base: str | Path = sys.executable) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        if HAS_UV:
            self._uv("venv", "--quiet", "--python", base, folder)
        else:
            run(base, "-m", "venv", folder, cwd=folder.parent)

    def install(self, *what: str | Path) -> None:
        """Install packages, or files, with the packages that they need."""
        if HAS_UV:
            self._uv("pip", "install", "--quiet", "--python", self.python, *what)
        else:
            self.run("-m", "pip", "install", "--quiet", *what)

    def check(self) -> None:
        """See whether every package has what it asks for, in a version that will do."""
        if HAS_UV:
            self._uv("pip", "check", "--quiet", "--python", self.python)
        else:
            self.run("-m", "pip", "check")

    def run(self, *arguments: str | Path, **variables: str) -> str:
        """What its Python prints, started in its folder: outside the checkout."""
        return run(self.python, *arguments, cwd=self.folder, **variables)

    def _uv(self, *arguments: str | Path) -> None:
        run(sys.executable, "-m", "uv", *arguments, cwd=self.folder.parent)


@contextmanager
def environment(*what: str | Path, base: str | Path = sys.executable) -> Iterator[Environment]:
    """An environment with these packages, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="arrayopt-") as folder:
        made = Environment(Path(folder) / "env", base)
        made.install(*what)
        yield made


def pythons(names: Sequence[str]) -> dict[str, Path]:
    """The interpreters of these minor versions (as ``"3.12"``) that the machine has."""
    root = os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")
    found = {}
    for name in names:
        candidates = [*Path(root, "versions").glob(f"{name}.*/bin/python{name}")]
        if on_path := shutil.which(f"python{name}"):
            candidates.insert(0, Path(on_path))
        for candidate in candidates:  # one of pyenv's stand-ins may be there, and not run
            if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
                found[name] = candidate
                break
    return found
