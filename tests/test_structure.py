"""What the house promises of its own code, read from the code."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from processes import python

import arrayopt as optim
from arrayopt import (
    algorithms,
    backend,
    backends,
    checkpoint,
    interop,
    lr_scheduler,
    plotting,
    swa_utils,
)

#: The algorithms; all but LBFGS, which has a step of its own, are a docstring and a rule.
FILES = sorted(
    file for file in Path(algorithms.__file__).parent.glob("*.py") if file.stem != "lbfgs"
)
LIBRARIES = {"numpy", "cupy", "numba", "torch", "jax", "np", "cp"}
DEVICES = {"device", "cpu", "cuda", "gpu"}


def names(tree: ast.AST) -> set[str]:
    """All identifiers and attribute names in a piece of code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_algorithm_knows_no_loop_device_backend_or_in_place_write(file: Path) -> None:
    tree = ast.parse(file.read_text())
    loops = (ast.For, ast.While, ast.AsyncFor, ast.ListComp, ast.DictComp, ast.GeneratorExp)
    assert not [node for node in ast.walk(tree) if isinstance(node, loops)]
    assert not names(tree) & (LIBRARIES | DEVICES | set(backend.BUILTIN))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert imported <= {"__future__", "arrayopt", "collections", "math", "operator", "typing"}
    targets = [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AugAssign)]
    for target in targets:  # new_state["…"] = … fills a dict that the rule itself has made
        if isinstance(target, ast.Subscript):
            assert isinstance(target.value, ast.Name)
            assert target.value.id == "new_state"


def lines_of_code(file: Path) -> int:
    """Lines that hold code: no docstring, comment or blank line."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(tree).splitlines())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_algorithm_fits_in_ones_head(file: Path) -> None:
    assert lines_of_code(file) <= 60


def public(module: ModuleType) -> list[Any]:
    return [getattr(module, name) for name in module.__all__]


CALLABLE = [entry for entry in (*public(optim), *public(lr_scheduler)) if callable(entry)]


@pytest.mark.parametrize("entry", CALLABLE, ids=lambda entry: entry.__name__)
def test_public_names_and_their_methods_are_documented(entry: Any) -> None:
    assert inspect.getdoc(entry)
    if inspect.isclass(entry):
        for attribute, member in vars(entry).items():
            if not attribute.startswith("_") and callable(member):
                assert inspect.getdoc(getattr(entry, attribute)), attribute


TAUGHT = (".. math::", "Parameters", "Raises", "Examples", ">>> ")
SECTIONS = ("Parameters", "Returns", "Raises", "Examples")

SCHEDULERS = [entry for entry in public(lr_scheduler) if entry is not lr_scheduler.LRScheduler]
FORMULAS = [getattr(optim, name) for name in algorithms.__all__]
FORMULAS += [*SCHEDULERS, swa_utils.SWALR, swa_utils.AveragedModel]
FUNCTIONS = [entry for entry in (*public(swa_utils), *public(interop)) if entry not in FORMULAS]
PICTURES = [entry for entry in public(plotting) if entry.__name__.startswith(("plot", "anim"))]

#: What is documented, and the parts that its documentation has.
DOCUMENTED: list[tuple[Any, tuple[str, ...]]] = [
    *((entry, (*TAUGHT, "References")) for entry in FORMULAS),
    (lr_scheduler.LRScheduler, TAUGHT),
    *((entry, (">>> ",)) for entry in FUNCTIONS),
    *((entry, (*SECTIONS, "Notes")) for entry in (checkpoint.load, checkpoint.save)),
    *((entry, (*SECTIONS, ">>> ", "ImportError")) for entry in PICTURES),
]


@pytest.mark.parametrize(
    ("entry", "parts"), DOCUMENTED, ids=[entry.__name__ for entry, _ in DOCUMENTED]
)
def test_documentation_has_its_parts_and_tells_every_parameter(
    entry: Any, parts: tuple[str, ...]
) -> None:
    doc = inspect.getdoc(entry) or ""
    for part in (*parts, *inspect.signature(entry).parameters):
        assert part in doc, part


def test_importing_the_core_imports_nothing_heavy_and_no_backend() -> None:
    code = (
        "import sys, arrayopt; heavy = {'torch', 'numba', 'cupy', 'jax', 'matplotlib', 'sklearn', "
        "'rich', 'tqdm', 'scipy', 'safetensors', 'xxhash', 'ml_dtypes'}; print(sorted(m for m in "
        "sys.modules if m.partition('.')[0] in heavy or m.startswith('arrayopt.backends') or m in "
        "('numpy.f2py', 'numpy.testing')))"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("package", [Path(optim.__file__).parent, Path(backends.__file__).parent])
def test_no_control_character_hides_in_an_equation(package: Path) -> None:
    for file in package.rglob("*.py"):
        assert all(sign.isprintable() or sign == "\n" for sign in file.read_text()), file


def modules_by_the_table() -> list[str]:
    """The modules of the package, in the order of the table in CONTRIBUTING.md."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
    cells = re.findall(r"^\| (`arrayopt/[^|]*) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"(\w+)(?:\.py|/)`", cell)]


def modules_imported(file: Path) -> set[str]:
    """The modules of the package that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "arrayopt":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("arrayopt."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_run_one_way_as_the_table_tells() -> None:
    package, order = Path(optim.__file__).parent, modules_by_the_table()
    paths = {path.stem: path for path in package.iterdir() if not path.stem.startswith("_")}
    modules = {name: path for name, path in paths.items() if path.suffix == ".py" or path.is_dir()}
    assert sorted(order) == sorted(modules)
    for position, name in enumerate(order):
        path = modules[name]
        for file in [path] if path.is_file() else path.rglob("*.py"):
            later = modules_imported(file) & {*order[position + 1 :]}
            assert not later, f"{file} imports {later}"
