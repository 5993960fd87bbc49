"""Every command of README.md, CONTRIBUTING.md and benchmarks.md is run, or at least parsed.

The snippets of Python in README.md are doctests. Commands of ``python -m arrayopt`` that take
seconds are run as they stand (`RUN`); those that take minutes have their arguments parsed only.
``pip install`` lines are held to the extras that there are, and targets of make have to be there
(``make --dry-run``). Of ``asv``, whose suite has tests of its own, the subcommand is looked at.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from environments import EXTRAS, ROOT, run
from PIL import Image

from arrayopt import algorithms, cli

PAGES = {
    name: (ROOT / name).read_text()
    for name in ("README.md", "CONTRIBUTING.md", "notebooks/benchmarks.md")
}
#: Commands of arrayopt that take seconds, and leave no file.
RUN = re.compile(r"python -m arrayopt (info|explain|check --algorithm adam --algorithm lbfgs)\b")

#: Packages that a reader may want beside arrayopt.
OTHERS = {"jupyterlab"}


def commands() -> list[str]:
    """What stands after ``$`` in a block, or begins like a command in backticks."""
    found: dict[str, None] = {}
    for text in PAGES.values():
        for line in re.findall(r"^\$ (.*)$", text, re.M):
            found[re.sub(r"\s+# .*", "", line)] = None
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for quoted in re.findall(r"`([^`]+)`", prose):
            quoted = " ".join(quoted.split())
            if re.match(r"(python -m|pip install|make|asv|pytest|git|\.venv/bin)\b", quoted):
                found[quoted] = None
    return list(found)


def kind(command: str) -> str:
    name, *arguments = shlex.split(command)
    return "arrayopt" if arguments[:2] == ["-m", "arrayopt"] else Path(name).name


@pytest.mark.parametrize("command", commands())
def test_a_command_does_what_it_says(command: str, tmp_path, monkeypatch, capsys) -> None:
    words = shlex.split(command)
    if kind(command) == "arrayopt":
        monkeypatch.chdir(tmp_path)
        if RUN.match(command):
            assert cli.main(words[3:]) == 0
            assert capsys.readouterr().out
        else:
            (tmp_path / "mine.py").touch()  # the reader's own file, where a command names one
            args = cli._parser().parse_args(words[3:])
            assert args.command == (words[3] if words[3:] else None)
    elif kind(command) == "pip":
        check_requirements(words[2:])
    elif kind(command) == "make":
        for target in words[1:]:
            run("make", "--dry-run", target, cwd=ROOT)
    elif kind(command) == "asv":
        assert words[1] in {"run", "compare", "publish"}
    elif kind(command) == "pre-commit":
        assert any(requirement.startswith("pre-commit") for requirement in EXTRAS["dev"])
    else:
        check_program(words)


def check_requirements(wanted: list[str]) -> None:
    """Whether the extras are there, and another package is one that some extra asks for."""
    known = {re.split("[>=]", r)[0] for extra in EXTRAS.values() for r in extra}
    for requirement in wanted:
        own = re.fullmatch(r"(arrayopt|\.)\[([\w,-]+)\]", requirement)
        if own:
            assert set(own[2].split(",")) <= EXTRAS.keys()
        else:
            assert requirement in {"--editable", ".", *known, *OTHERS}


def check_program(words: list[str]) -> None:
    """Whether files that a command names are there, and pytest finds tests."""
    assert Path(words[0]).name in {"python", "pytest", "ruff", "mypy"}, words
    files = [word.partition("::")[0] for word in words[1:] if "/" in word or word.endswith(".py")]
    assert all((ROOT / file).exists() for file in files), files
    if "pytest" in " ".join(words[:3]):
        rest = words[words.index("pytest") + 1 :] if "pytest" in words else words[1:]
        quiet = ("--collect-only", "-q", "-p", "no:cacheprovider")
        run(sys.executable, "-m", "pytest", *quiet, *rest, cwd=ROOT)


def test_links_lead_to_files() -> None:
    for name, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name}: {target}"


def test_links_within_the_page_lead_to_headings() -> None:
    for name, text in PAGES.items():
        headings = {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            for heading in re.findall(r"^#+ (.*)$", text, re.M)
        }
        for target in re.findall(r"\]\(#([^)]+)\)", text):
            assert target in headings, f"{name}: #{target}"


def test_there_is_something_to_check() -> None:
    """A change of layout must not make all commands vanish from `commands`."""
    assert {kind(command) for command in commands()} >= {"arrayopt", "make", "pip", "asv"}
    assert len(commands()) >= 15


def test_the_table_of_algorithms_is_whole() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGES["README.md"], re.M))
    assert rows == set(algorithms.__all__)


def script(name: str) -> ModuleType:
    """A script of the site's sources, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "notebooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_speeds_is_what_was_measured() -> None:
    """`python notebooks/speed_table.py` prints it anew, after a new record."""
    speeds = script("speed_table")
    assert speeds.table(json.loads(speeds.MEASURED.read_text())) in PAGES["README.md"]


def test_the_cover_is_what_its_script_draws(tmp_path: Path) -> None:
    cover = script("cover")
    compile(cover.rule_text(), "rule", "exec")
    assert cover.kernel_text().startswith("for i in range(size):\n")
    assert "store(" in cover.kernel_text()
    cover.save(tmp_path / "cover.png")
    with Image.open(ROOT / "notebooks" / "cover.png") as kept:
        assert kept.info["Description"] == cover.words()
        assert alike(kept, tmp_path / "cover.png") > 0.9  # letters have other shapes elsewhere


def alike(picture: Image.Image, file: Path) -> float:
    """The correlation of two pictures of one size, seen from afar."""
    with Image.open(file) as other:
        assert other.size == picture.size
        seen = [p.convert("L").resize((25, 11), Image.Resampling.BOX) for p in (picture, other)]
    return float(np.corrcoef(*(np.asarray(each, float).ravel() for each in seen))[0, 1])
