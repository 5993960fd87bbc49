"""The command line: ``python -m arrayopt demo``, ``check``, ``explain``, ``bench``, ``info``."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import arrayopt
from arrayopt.arguments import (
    CommandError,
    cannot_import,
    finite_number,
    one_of,
    output_file,
    whole_number,
)
from arrayopt.bench import command as bench
from arrayopt.check import command as check
from arrayopt.demo.recipes import algorithms
from arrayopt.explaining import command as explain

__all__ = ["main"]

INSTALL_DEMO = 'pip install "arrayopt[demo]"'


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default, those of the process.

    Returns
    -------
    int
        The exit status: 0 if all is well, 1 if the demo, the check or the benchmark fell short of
        what it promises, 2 if it could not be run, 130 if it was interrupted, 141 if nobody reads
        on what it writes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a µ is no reason to fail in an ASCII pipe
        sys.stdout.reconfigure(errors="replace")
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        failures = COMMANDS[args.command](args)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left to write
        return 141
    except (CommandError, OSError) as error:
        print(f"arrayopt {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"arrayopt {args.command}: interrupted", file=sys.stderr)
        return 130
    return 1 if failures else 0


def _info(args: argparse.Namespace) -> list[str]:
    from arrayopt.info import info

    print(info())
    return []


def _demo(args: argparse.Namespace) -> list[str]:
    try:
        from arrayopt.demo.show import show
    except ImportError as error:
        raise cannot_import(error, INSTALL_DEMO) from error
    default = ["SGD"] if args.average else algorithms()
    return show(
        list(dict.fromkeys(args.optimizer or default)),
        epochs=args.epochs,
        lr=args.lr,
        seed=args.seed,
        out=args.out,
        average=args.average,
    )


#: What each command does: it returns what went wrong, a sentence each.
COMMANDS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "info": _info,
    "demo": _demo,
    "check": check.run,
    "explain": explain.run,
    "bench": bench.run,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("arrayopt", description="torch.optim for arrays.")
    parser.add_argument("--version", action="version", version=f"arrayopt {arrayopt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser(
        "info",
        help="show versions, threads, backends and optional extras",
        description="Show versions, threads, backends and optional extras.",
    )
    _add_demo(commands)
    check.add_parser(commands)
    explain.add_parser(commands)
    bench.add_parser(commands)
    return parser


def _add_demo(commands: bench.Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="train a network in NumPy with every algorithm, and compare with torch",
        description="Train a small network on scikit-learn's digits with every algorithm, draw "
        "the loss curves, and compare the parameters with those of torch.optim. The exit status "
        "is 1 if a test accuracy is under 0.95 or a parameter is not that of torch. --average does "
        "the same with and without an average of the weights.",
    )
    demo.add_argument(
        "--optimizer",
        action="append",
        type=one_of("optimizer", algorithms()),
        metavar="NAME",
        help="an algorithm; may be given several times (default: SGD with --average, and else all: "
        f"{', '.join(algorithms())})",
    )
    demo.add_argument(
        "--average",
        choices=["swa", "ema"],
        help="compare the network with an average of its weights: stochastic weight averaging, or "
        "an exponential moving average",
    )
    demo.add_argument(
        "--epochs",
        type=whole_number(1),
        default=20,
        metavar="N",
        help="how often to go through the training images (default: 20)",
    )
    demo.add_argument(
        "--lr",
        type=finite_number,
        metavar="LR",
        help="the learning rate of all algorithms (default: each has its own)",
    )
    demo.add_argument(
        "--seed",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="of the initial parameters and the order of the images (default: 0)",
    )
    demo.add_argument(
        "--out",
        type=output_file(".png"),
        default=Path("demo.png"),
        metavar="FILE",
        help="where the picture of the loss curves goes (default: demo.png)",
    )
