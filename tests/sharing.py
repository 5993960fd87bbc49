"""A folder that all processes of a test run share: what one of them has made, the others take."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

#: The variable that names the folder.
VARIABLE = "ARRAYOPT_TESTS_FOLDER"


def begin(config: pytest.Config) -> None:
    """Make the folder, which goes when the run ends, unless another process has made it."""
    if VARIABLE not in os.environ:
        made = tempfile.TemporaryDirectory(prefix="arrayopt-tests-")
        config.add_cleanup(made.cleanup)
        os.environ[VARIABLE] = made.name
        config.add_cleanup(lambda: os.environ.pop(VARIABLE))


def folder(name: str) -> Path:
    """A folder of that name within it."""
    path = Path(os.environ[VARIABLE], name)
    path.mkdir(exist_ok=True)
    return path
