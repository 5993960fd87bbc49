"""Classes and functions in Python files that a user names on the command line."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arrayopt.arguments import CommandError

__all__ = ["blame", "file_and_name", "loaded"]


def file_and_name(text: str) -> tuple[Path, str]:
    """``FILE:NAME``, of a file that is there."""
    path, _, name = text.rpartition(":")
    if not path or not name.isidentifier():
        raise argparse.ArgumentTypeError(
            f"expected FILE:NAME, such as mine.py:MyAdam, but got {text!r}"
        )
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {path!r}")
    return Path(path), name


def loaded(path: Path, name: str) -> Callable[..., Any]:
    """What a Python file calls by a name.

    Raises
    ------
    CommandError
        If it is no Python file, raises an error, or has no such class or function.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # as dataclasses and pickle expect it
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CommandError(blame(error, str(path))) from error
    finally:
        sys.path.remove(str(path.parent))
    if not callable(getattr(module, name, None)):
        raise CommandError(f"{path} has no class or function {name!r}")
    found: Callable[..., Any] = getattr(module, name)
    return found


def blame(error: Exception, where: str) -> str:
    """What went wrong in somebody's code, and in which line."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{where}: {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
