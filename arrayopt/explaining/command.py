"""The command line of the explanations."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from arrayopt import algorithms
from arrayopt.arguments import CommandError, assignment, one_of
from arrayopt.explaining.explanation import explain
from arrayopt.scripts import blame, file_and_name, loaded

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["FORMS", "add_parser", "run"]

#: The attributes of an explanation that can be asked for.
FORMS = ["text", "latex", "python", "numba", "cuda"]


def add_parser(commands: Commands) -> None:
    """Add the command ``explain``."""
    command = commands.add_parser(
        "explain",
        help="show the equations of an algorithm, or the program or kernel that it becomes",
        description="Run the rule of an algorithm on symbols, and show its equations under the "
        "given options. With --script, the algorithm is an optimizer class of one's own.",
    )
    command.add_argument(
        "algorithm",
        nargs="?",
        type=one_of("algorithm", algorithms.__all__),
        metavar="ALGORITHM",
        help=f"one of {', '.join(algorithms.__all__)}",
    )
    command.add_argument(
        "--script",
        type=file_and_name,
        metavar="FILE:NAME",
        help="explain the optimizer class of that name in a Python file",
    )
    command.add_argument(
        "--option",
        action="append",
        type=assignment,
        metavar="NAME=VALUE",
        help="a hyperparameter, such as weight_decay=0.1; may be given several times",
    )
    command.add_argument(
        "--as",
        dest="form",
        choices=FORMS,
        default="text",
        help="equations as text (the default) or LaTeX, the program in Python, or the kernel",
    )


def run(args: argparse.Namespace) -> list[str]:
    """Print an explanation.

    Parameters
    ----------
    args : argparse.Namespace
        As the parser of `add_parser` returns it.

    Returns
    -------
    list of str
        Nothing, since nothing can fall short.

    Raises
    ------
    CommandError
        If there is no such algorithm, or it cannot be explained or printed in that form.
    """
    cls = _class(args)
    try:
        print(getattr(explain(cls, **dict(args.option or [])), args.form).rstrip("\n"))
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise CommandError(str(error)) from error
    except Exception as error:
        if args.script is None:
            raise
        raise CommandError(blame(error, cls.__name__, args.script[0])) from error
    return []


def _class(args: argparse.Namespace) -> Any:
    if (args.script is None) == (args.algorithm is None):
        raise CommandError("expected either an ALGORITHM or --script FILE:NAME")
    return getattr(algorithms, args.algorithm) if args.script is None else loaded(*args.script)
