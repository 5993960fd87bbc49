"""The sdist is the repository, the wheel is the package, and it works in an empty environment."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from environments import EXTRAS, PROJECT, ROOT, Environment, build, run, sources
from smoke import FEATURES

import arrayopt
from arrayopt.info import FOR_DEVELOPERS

#: What setuptools adds to an sdist.
GENERATED = {"PKG-INFO", "setup.cfg"}
#: What only a clone needs.
FOR_CLONES = {".ci/run", ".gitignore"}
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"), "--no-isolation")


def metadata(wheel: Path):
    (folder,) = [p for p in zipfile.Path(wheel).iterdir() if p.name.endswith(".dist-info")]
    return PathDistribution(folder).metadata


def test_the_sdist_is_the_repository(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    packed = {name for name in names if ".egg-info/" not in name} - GENERATED
    assert packed == set(sources()) - FOR_CLONES - GENERATED  # which an unpacked sdist lists


def test_the_wheel_holds_every_module_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    modules = {name for name in sources() if re.match(r"(arrayopt|backends)/.*\.py$", name)}
    expected = {re.sub("^backends/", "arrayopt/backends/", name) for name in modules}
    assert names == expected | {"arrayopt/py.typed"}
    assert built[1].name.startswith(f"arrayopt-{arrayopt.__version__}-")


def test_the_metadata_can_be_published(built: tuple[Path, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *built, cwd=tmp_path)
    published = metadata(built[1])
    assert published["Version"] == arrayopt.__version__
    assert published["License-Expression"] == "BSD-3-Clause"
    assert published["Description"] == (ROOT / "README.md").read_text()


def test_the_wheel_works_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    env = Environment(tmp_path / "env")
    env.install(built[1])
    works, asks = env.run("-W", "error", ROOT / "tests" / "smoke.py").splitlines()
    assert works == "works: core"
    assert asks.count(",") == len(FEATURES) - 1  # each asks for its extra


def test_every_extra_is_tried() -> None:
    """Those of CUDA need a GPU."""
    users = {extra for extra in EXTRAS if extra not in FOR_DEVELOPERS and "cuda" not in extra}
    assert {extra for extra, _ in FEATURES} == users


def test_a_requirement_has_a_lowest_version() -> None:
    for requirement in [*PROJECT["dependencies"], *(r for rs in EXTRAS.values() for r in rs)]:
        assert re.fullmatch(
            r"arrayopt\[[\w,-]+\]|[\w-]+(\[\w+\])?(>=|==)[\d.]+(; .*)?", requirement
        )


def test_the_pythons_that_are_claimed_are_tested() -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    (tested,) = re.findall(r"^PYTHONS \?= (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(claimed) <= set(tested.split())
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_the_version_stands_in_one_place() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert VERSION.fullmatch(arrayopt.__version__)
    holders = [
        name
        for name in sources()
        if name.endswith((".py", ".toml", ".cff", ".cfg"))
        and re.search(
            r"^(__version__|version)\b\s*[=:]\s*[\"']?\d", (ROOT / name).read_text(), re.M
        )
    ]
    assert holders == ["arrayopt/__init__.py"]


def test_the_changelog_is_one_that_is_kept() -> None:
    """By keepachangelog.com 1.1.0; the newest release is ``__version__``, or yet to come."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    releases = re.findall(r"^## (.*)$", text, re.M)
    assert releases[0] == "[Unreleased]" or releases[0].startswith(f"[{arrayopt.__version__}]")
    versions = []
    for release in releases[releases[0] == "[Unreleased]" :]:
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d( \[YANKED\])?", release)
        assert match, release
        versions.append(tuple(map(int, match[1].split("."))))
    assert versions == sorted(set(versions), reverse=True)
    newest = tuple(map(int, VERSION.fullmatch(arrayopt.__version__).groups()))
    assert not versions or versions[0] <= newest
    sections = re.findall(r"^### (.*)$", text, re.M)
    assert sections
    assert set(sections) <= SECTIONS
    assert not re.findall(r"^####", text, re.M)


def test_the_citation_names_what_a_citation_needs() -> None:
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if re.match(r"[a-z-]+:", line))
    assert {"cff-version", "message", "title", "authors", "license"} <= fields.keys()
    assert fields["license"].strip() == PROJECT["license"]
    assert lines[lines.index("authors:") + 1] == "  - name: The arrayopt developers"
    assert "version" not in fields  # it stands in one place


def test_help_tells_every_target_in_columns() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", text, re.M))
    rows = [
        re.match(r"  make ([a-z-]+) +(?=\S)", line)
        for line in run("make", "help", cwd=ROOT).splitlines()
    ]
    assert {row[1] for row in rows if row} == targets
    assert len({row.end() for row in rows if row}) == 1
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", text, re.M)).split()
    assert set(phony) == targets
