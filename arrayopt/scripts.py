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

#: What a script is called among modules.
MODULE = "arrayopt_script"


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
        If the file cannot be run, or has no class or function of that name.
    """
    spec = importlib.util.spec_from_file_location(MODULE, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # as dataclasses and pickle expect it
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # behind the libraries, whose names it may bear
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CommandError(blame(error, str(path), path)) from error
    if not callable(getattr(module, name, None)):
        raise CommandError(f"{path} has no class or function {name!r}")
    found: Callable[..., Any] = getattr(module, name)
    return found


def blame(error: BaseException, where: str, script: Path) -> str:
    """What went wrong in somebody's code, and in which of its lines."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == script]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    place = f" ({script}, line {lines[-1]})" if lines else ""
    return f"{where}: {type(error).__name__}: {error}{place}"
