"""Where torch is not, exactly the tests that need it are left out: `make test-pythons`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent

#: A plugin that takes torch away, as if it were not installed.
NO_TORCH = """
from importlib.machinery import PathFinder

found = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] == "torch" else found(name, *rest)
)
"""

#: Tests, by how they have to end.
MODULE = """
import sys

import numpy as np
import pytest
import torch
from torch.optim import swa_utils

LIBRARIES = {"numpy": np, "torch": torch}
ONES = torch.ones(2, dtype=torch.float32) + 1


class Model(torch.nn.Module):
    pass


def needs_torch():
    import torch

    return torch.ones(2)


@pytest.mark.parametrize("library", LIBRARIES)
def test_passed_or_skipped_by_name(library):
    assert LIBRARIES[library].ones(2).shape == (2,)


@pytest.mark.parametrize("wrong", [1j, ONES, (np, {"grad": ONES})])
def test_passed_or_skipped_by_parameter(wrong):
    with pytest.raises(TypeError):
        iter(wrong) if wrong == 1j else np.ones(wrong)


def test_skipped_in_the_body():
    assert torch.ones(2).sum() == 2


def test_skipped_for_a_class():
    assert not isinstance(1, torch.Tensor)


def test_skipped_for_an_import():
    needs_torch()


def test_skipped_for_what_comes_of_it():
    try:
        needs_torch()
    except ImportError as error:
        raise RuntimeError("install torch") from error


def test_passed_without():
    assert "torch" not in sys.modules
    assert Model.__mro__ == (Model, object)
    with pytest.raises(ModuleNotFoundError):
        needs_torch()


def test_failed():
    assert np.ones(2).sum() == 3


def test_failed_for_another_module():
    import there_is_no_such_module
"""

ENDS = {"passed": 3, "failed": 2, "skipped": 7}


def test_what_needs_torch_is_skipped_and_what_fails_has_failed(tmp_path: Path) -> None:
    (tmp_path / "no_torch.py").write_text(NO_TORCH)
    (tmp_path / "test_some.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no_torch", "-p", "without_torch"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_some.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(tmp_path)])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    *lines, last = result.stdout.splitlines()
    assert all(f"{number} {end}" in last for end, number in ENDS.items()), result.stdout
    assert "SKIPPED [7] test_some.py: needs torch, which is not installed here" in lines
    failed = [line.split()[1] for line in lines if line.startswith("FAILED ")]
    assert failed == [
        "test_some.py::test_failed",
        "test_some.py::test_failed_for_another_module",
    ]
