"""The command line of the comparison."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from arrayopt.arguments import (
    CommandError,
    add_names,
    assignment,
    cannot_import,
    finite_number,
    output_file,
    whole_number,
)
from arrayopt.check.cases import OPTIONS
from arrayopt.check.comparison import Comparison
from arrayopt.check.contestants import IMPLEMENTATIONS
from arrayopt.check.measure import DTYPES
from arrayopt.check.plan import PRECISIONS, STEPS, planned
from arrayopt.check.report import Report
from arrayopt.check.streams import STREAMS
from arrayopt.check.summary import EXPLANATION, summaries
from arrayopt.info import versions_text
from arrayopt.scripts import blame, file_and_name, loaded

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["INSTALL_CHECK", "add_parser", "run"]

INSTALL_CHECK = 'pip install "arrayopt[check]"'


def add_parser(commands: Commands) -> None:
    """Add the command ``check``."""
    check = commands.add_parser(
        "check",
        help="compare every algorithm with torch, step by step",
        description="Drive optimizers of arrayopt and of torch with the same gradients, under all "
        "options, and tell how far their parameters and states are apart. The exit status is 1 if "
        "something is out of bounds. With --script, an optimizer class or an update function of "
        "one's own takes the place of arrayopt.",
    )
    add_names(check, "algorithm", "an algorithm", OPTIONS, "all")
    add_names(check, "dtype", "that of the parameters", DTYPES, " and ".join(PRECISIONS))
    add_names(check, "implementation", "one of arrayopt's", IMPLEMENTATIONS, "all that are there")
    add_names(check, "stream", "where gradients come from", STREAMS, "all")
    check.add_argument(
        "--against",
        choices=["torch", "arrayopt"],
        default="torch",
        help="whose algorithm it is compared with (default: torch)",
    )
    check.add_argument(
        "--script",
        type=file_and_name,
        metavar="FILE:NAME",
        help="compare the class or the function update(param, grad, state, **options) of that name "
        "in a Python file with the --algorithm",
    )
    check.add_argument(
        "--option",
        action="append",
        type=assignment,
        metavar="NAME=VALUE",
        help="a hyperparameter, such as lr=0.1; may be given several times (default: sets that "
        "take every branch of the algorithm, and none with --script)",
    )
    check.add_argument(
        "--steps",
        type=whole_number(1),
        default=STEPS,
        metavar="N",
        help="how many steps are compared (default: %(default)s)",
    )
    check.add_argument(
        "--bound",
        type=finite_number,
        metavar="X",
        help="what a relative difference may be (default: 1e-12 in double precision, as many "
        "roundings in single, and anything in half, where errors are judged)",
    )
    check.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="of all numbers (default: 0)"
    )
    check.add_argument("--all", action="store_true", help="show every run, not only the worst ones")
    check.add_argument(
        "--json", type=output_file(".json"), metavar="FILE", help="write all that was found out"
    )
    check.add_argument(
        "--html",
        type=output_file(".html"),
        metavar="FILE",
        help="write a page with tables and the course of the differences",
    )
    check.add_argument(
        "--plot",
        type=output_file(".png", ".svg"),
        metavar="FILE",
        help="draw the course of the differences",
    )


def run(args: argparse.Namespace) -> list[str]:
    """Compare, and show what comes of it.

    Parameters
    ----------
    args : argparse.Namespace
        As the parser of `add_parser` returns it.

    Returns
    -------
    list of str
        What is out of bounds, a sentence each.

    Raises
    ------
    CommandError
        If a library is missing, or something is asked for that there is not.
    OSError
        If a file cannot be written.
    """
    try:
        from arrayopt.check import table
        from arrayopt.terminal import console, progress

        if args.html or args.plot:
            from arrayopt.check.chart import chart
            from arrayopt.check.page import page
    except ImportError as error:
        raise cannot_import(error, INSTALL_CHECK) from error
    from arrayopt.check import comparisons

    subject, against = _who(args)
    try:
        cases, lacking = planned(
            subject,
            against,
            options=dict(args.option) if args.option else None,
            dtype=args.dtype or PRECISIONS,
            implementation=args.implementation,
            stream=args.stream,
            steps=args.steps,
            seed=args.seed,
            bound=args.bound,
        )
    except (ImportError, ValueError, TypeError) as error:  # which name the command that installs it
        raise CommandError(str(error)) from error
    screen = console()
    found: list[Comparison] = []
    with progress(screen) as bar:
        task = bar.add_task("", total=len(cases))
        for case in cases:
            bar.update(task, description=str(case))
            try:
                found += comparisons([case], lacking)
            except (Exception, SystemExit) as error:
                if not args.script:
                    raise
                raise CommandError(blame(error, str(case), args.script[0])) from error
            bar.advance(task)
    report = Report.of(found, lacking)
    screen.print(versions_text(report.versions), soft_wrap=True)
    screen.print(table.every_run(report) if args.all else table.summary_table(report))
    screen.print(EXPLANATION, style="dim")
    screen.print(table.outcome(report), soft_wrap=True)
    if args.json:
        args.json.write_text(report.to_json(), encoding="utf-8")
    if args.html:
        args.html.write_text(page(report), encoding="utf-8")
    if args.plot:
        chart(summaries(report.comparisons), args.plot, report.verdict)
    return [] if report.ok else [report.verdict]


def _who(args: argparse.Namespace) -> tuple[Any, Any]:
    """Who is compared, and with whom."""
    if args.script is None:
        return args.algorithm, args.against
    subject = loaded(*args.script)
    if args.algorithm is None:
        return subject, args.against
    if len(args.algorithm) > 1:
        raise CommandError(
            f"a script is compared with one algorithm, but got {', '.join(args.algorithm)}"
        )
    return subject, f"{args.against}.{args.algorithm[0]}"
