"""What the house promises of its own code, read from the code."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import arrayopt as optim
from arrayopt import algorithms, backend, backends, checkpoint, interop, lr_scheduler, swa_utils

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


PUBLIC = [name for name in optim.__all__ if callable(getattr(optim, name))]


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_are_documented(name: str) -> None:
    entry = getattr(optim, name)
    assert inspect.getdoc(entry)
    if inspect.isclass(entry):
        for attribute, member in vars(entry).items():
            if not attribute.startswith("_") and callable(member):
                assert inspect.getdoc(getattr(entry, attribute)), f"{name}.{attribute}"


SCHEDULERS = [getattr(lr_scheduler, name) for name in lr_scheduler.__all__]
TAUGHT = [getattr(optim, name) for name in algorithms.__all__]
TAUGHT += [*(s for s in SCHEDULERS if s is not lr_scheduler.LRScheduler), swa_utils.SWALR]
TAUGHT += [swa_utils.AveragedModel]


@pytest.mark.parametrize("cls", TAUGHT, ids=lambda cls: cls.__name__)
def test_an_algorithm_or_schedule_tells_its_equation_source_errors_and_an_example(
    cls: type,
) -> None:
    doc = inspect.getdoc(cls) or ""
    for part in (".. math::", "Parameters", "Raises", "References", "Examples", ">>> "):
        assert part in doc
    for parameter in list(inspect.signature(cls).parameters)[1:]:
        assert parameter in doc


@pytest.mark.parametrize("name", ["load", "save"])
def test_what_saves_runs_is_documented(name: str) -> None:
    entry = getattr(checkpoint, name)
    doc = inspect.getdoc(entry) or ""
    for part in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert part in doc
    for parameter in inspect.signature(entry).parameters:
        assert parameter in doc


FUNCTIONS = [getattr(module, name) for module in (swa_utils, interop) for name in module.__all__]


@pytest.mark.parametrize("entry", FUNCTIONS, ids=lambda entry: entry.__name__)
def test_what_averages_weights_or_moves_states_is_documented(entry: Callable[..., Any]) -> None:
    doc = inspect.getdoc(entry) or ""
    assert ">>> " in doc
    for parameter in inspect.signature(entry).parameters:
        assert parameter in doc


def test_importing_the_core_imports_nothing_heavy_and_no_backend() -> None:
    code = (
        "import sys, arrayopt; heavy = {'torch', 'numba', 'cupy', 'jax', 'matplotlib', 'sklearn', "
        "'rich', 'tqdm', 'scipy', 'safetensors', 'xxhash', 'ml_dtypes'}; print(sorted(m for m in "
        "sys.modules if m.partition('.')[0] in heavy or m.startswith('arrayopt.backends') or m in "
        "('numpy.f2py', 'numpy.testing')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [Path(optim.__file__).parent, Path(backends.__file__).parent])
def test_no_control_character_hides_in_an_equation(package: Path) -> None:
    for file in package.rglob("*.py"):
        assert all(sign.isprintable() or sign == "\n" for sign in file.read_text()), file


def test_imports_run_one_way() -> None:
    order = [
        "wording",
        "extras",
        "namespace",
        "scalars",
        "trace",
        "applying",
        "branches",
        "nested",
        "threads",
        "hooks",
        "options",
        "backend",
        "sparse_grad",
        "tensors",
        "parameter",
        "state",
        "inputs",
        "choosing",
        "witness",
        "scaling",
        "batching",
        "capture",
    ]
    order += ["groups", "loading", "optimizer", "functional_checks", "functional_form"]
    order += ["flat", "line_search", "norms", "clip_grad", "algorithms"]
    order += ["lr_scheduler", "minimization", "problems", "swa_utils", "interop", "checkpoint"]
    order += ["plotting", "arguments", "info", "terminal", "scripts", "explaining", "check"]
    order += ["testing", "demo", "bench", "cli"]
    package = Path(optim.__file__).parent
    for position, module in enumerate(order[:-1]):
        later = order[position + 1 :]
        files = [package / f"{module}.py"]
        files = files if files[0].exists() else list((package / module).glob("*.py"))
        for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.startswith("arrayopt")
            ):
                imported = {node.module.removeprefix("arrayopt").lstrip(".").partition(".")[0]} | (
                    {alias.name for alias in node.names} if node.module == "arrayopt" else set()
                )
                assert not imported & set(later), f"{module} imports {imported & set(later)}"
