"""What the commands share: types of arguments, and the error of a missing library."""

from __future__ import annotations

import argparse
import ast
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = [
    "CommandError",
    "add_names",
    "assignment",
    "cannot_import",
    "directory",
    "finite_number",
    "one_of",
    "output_file",
    "whole_number",
]


class CommandError(Exception):
    """Why a command cannot be run, as a sentence for its user."""


def cannot_import(error: ImportError, install: str) -> CommandError:
    """What to raise when an optional library cannot be imported.

    Parameters
    ----------
    error : ImportError
        Raised again if it is about a module of arrayopt itself.
    install : str
        The command that installs the library.
    """
    if (error.name or "").partition(".")[0] == "arrayopt":
        raise error
    return CommandError(f"it needs a library that cannot be imported ({error}): {install}")


def one_of(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """One of some names, in upper or lower case.

    Examples
    --------
    >>> one_of("algorithm", ["Adam", "SGD"])("adam")
    'Adam'
    """
    known = {name.lower(): name for name in names}

    def parse(text: str) -> str:
        if text.lower() not in known:
            raise argparse.ArgumentTypeError(
                f"unknown {kind} {text!r}; choose from {', '.join(known.values())}"
            )
        return known[text.lower()]

    return parse


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """A whole number that is not less than `least`, and not more than `most`.

    Examples
    --------
    >>> whole_number(1)("20")
    20
    """

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            interval = f">= {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(
                f"expected a whole number {interval}, but got {text!r}"
            )
        return int(text)

    return parse


def add_names(
    parser: argparse.ArgumentParser,
    option: str,
    what: str,
    names: Iterable[str],
    default: str,
    kind: str = "",
) -> None:
    """Add an option that takes one of some names, and may be given several times.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    option : str
        What it is called, without dashes.
    what : str
        What the names stand for.
    names : iterable of str
    default : str
        What is taken where the option is not given, in words.
    kind : str, optional
        What an unknown name is called, if not as `option`.
    """
    names = [*names]
    parser.add_argument(
        f"--{option}",
        action="append",
        type=one_of(kind or option, names),
        metavar="NAME",
        help=f"{what}, of {', '.join(names)}; may be given several times (default: {default})",
    )


def finite_number(text: str) -> float:
    """A finite number that is not negative.

    Examples
    --------
    >>> finite_number("1e-3")
    0.001
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number >= 0, but got {text!r}")
    return number


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """A file to be written, with one of these suffixes, in a directory that is there.

    Examples
    --------
    >>> output_file(".png", ".svg")("chart.svg").name
    'chart.svg'
    """

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(
                f"expected a file that ends in {' or '.join(suffixes)}, but got {text!r}"
            )
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no directory {str(path.parent)!r}")
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{text!r} is a directory")
        return path

    return parse


def directory(text: str) -> Path:
    """A directory that is there.

    Examples
    --------
    >>> directory("..").name
    '..'
    """
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text!r}")
    return Path(text)


def assignment(text: str) -> tuple[str, Any]:
    """``NAME=VALUE``, with a value of Python.

    Examples
    --------
    >>> assignment("betas=(0.9, 0.99)")
    ('betas', (0.9, 0.99))
    """
    name, sign, value = text.partition("=")
    try:
        if not sign or not name.isidentifier():
            raise ValueError
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise argparse.ArgumentTypeError(
            "expected NAME=VALUE with a value of Python, such as betas=(0.9,0.99), but got "
            f"{text!r}"
        ) from None
