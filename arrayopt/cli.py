"""The command line: ``python -m arrayopt demo`` and ``python -m arrayopt info``."""

from __future__ import annotations

import argparse
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import arrayopt
from arrayopt.demo.recipes import algorithms

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
        The exit status: 0 if all is well, 1 if the demo fell short of what it promises, 2 if it
        could not be run.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a µ is no reason to fail in an ASCII pipe
        sys.stdout.reconfigure(errors="replace")
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command == "info":
        from arrayopt.info import info

        print(info())
        return 0
    if args.command == "demo":
        return _demo(args)
    parser.print_help()
    return 0


def _demo(args: argparse.Namespace) -> int:
    try:
        from arrayopt.demo.show import show
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "arrayopt":
            raise
        return _cannot(f"it needs a library that cannot be imported ({error}): {INSTALL_DEMO}")
    try:
        failures = show(
            list(dict.fromkeys(args.optimizer or algorithms())),
            epochs=args.epochs,
            lr=args.lr,
            seed=args.seed,
            out=args.out,
        )
    except OSError as error:
        return _cannot(str(error))
    return 1 if failures else 0


def _cannot(reason: str) -> int:
    print(f"arrayopt demo: error: {reason}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("arrayopt", description="torch.optim for arrays.")
    parser.add_argument("--version", action="version", version=f"arrayopt {arrayopt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands.add_parser(
        "info",
        help="show versions, threads, backends and optional extras",
        description="Show versions, threads, backends and optional extras.",
    )
    demo = commands.add_parser(
        "demo",
        help="train a network in NumPy with every algorithm, and compare with torch",
        description="Train a small network on scikit-learn's digits with every algorithm, draw "
        "the loss curves, and compare the parameters with those of torch.optim. The exit status "
        "is 1 if a test accuracy is under 0.95 or a parameter is not that of torch.",
    )
    demo.add_argument(
        "--optimizer",
        action="append",
        type=_algorithm,
        metavar="NAME",
        help=f"an algorithm; may be given several times (default: all: {', '.join(algorithms())})",
    )
    demo.add_argument(
        "--epochs",
        type=_epochs,
        default=20,
        metavar="N",
        help="how often to go through the training images (default: 20)",
    )
    demo.add_argument(
        "--lr",
        type=_lr,
        metavar="LR",
        help="the learning rate of all algorithms (default: each has its own)",
    )
    demo.add_argument(
        "--seed",
        type=_seed,
        default=0,
        metavar="N",
        help="of the initial parameters and the order of the images (default: 0)",
    )
    demo.add_argument(
        "--out",
        type=_png,
        default=Path("demo.png"),
        metavar="FILE",
        help="where the picture of the loss curves goes (default: demo.png)",
    )
    return parser


def _algorithm(text: str) -> str:
    names = {name.lower(): name for name in algorithms()}
    if text.lower() not in names:
        raise argparse.ArgumentTypeError(
            f"unknown optimizer {text!r}; choose from {', '.join(names.values())}"
        )
    return names[text.lower()]


def _epochs(text: str) -> int:
    return _whole_number(text, least=1)


def _seed(text: str) -> int:
    return _whole_number(text, least=0)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number >= {least}, but got {text!r}")
    return int(text)


def _lr(text: str) -> float:
    try:
        lr = float(text)
    except ValueError:
        lr = math.nan
    if not 0 <= lr < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number >= 0, but got {text!r}")
    return lr


def _png(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a file that ends in .png, but got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {str(path.parent)!r}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory")
    return path
