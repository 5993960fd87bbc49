"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrayopt.arguments import (
    CommandError,
    add_names,
    cannot_import,
    directory,
    output_file,
    whole_number,
)
from arrayopt.bench.averaging import names as algorithms
from arrayopt.bench.comparison import Settings
from arrayopt.bench.contenders import CONTENDERS, installed, rivals, runs
from arrayopt.bench.measure import Effort
from arrayopt.bench.workloads import WORKLOADS
from arrayopt.demo.agreement import INSTALL_TORCH
from arrayopt.threads import get_num_threads

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["INSTALL_BENCH", "add_parser", "run"]

INSTALL_BENCH = 'pip install "arrayopt[bench]"'
INSTALL_CHECKPOINT = 'pip install "arrayopt[checkpoint]"'

#: How to install what a rival needs.
INSTALL = {"torch": INSTALL_TORCH, "optax": "pip install optax"}

INSTALL_TORCH_CUDA = "see pytorch.org for a build with CUDA"

#: To see whether all works, not how fast it is.
QUICK = Effort(turns=3, least_turns=3, turn=0.002, pause=0.001)


def add_parser(commands: Commands) -> None:
    """Add the command ``bench``."""
    bench = commands.add_parser(
        "bench",
        help="time a step of every algorithm, and of an average, beside torch and optax",
        description="Time a step of every algorithm, and the update of an exponential moving "
        "average (EMA), on parameters of several shapes, side by side with torch.optim and optax, "
        "after checking that all sides agree. The exit status is 1 if one does not.",
    )
    add_names(bench, "algorithm", "an algorithm, or an average", algorithms(), "all")
    add_names(bench, "workload", "a set of parameters", WORKLOADS, "all")
    add_names(bench, "against", "a rival", CONTENDERS, "whatever is installed", kind="rival")
    bench.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where to measure: on NumPy arrays, or on CuPy arrays on a GPU (default: %(default)s)",
    )
    bench.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        default=get_num_threads(),
        metavar="N",
        help="how many threads each side has (default: %(default)s)",
    )
    bench.add_argument(
        "--turns",
        type=whole_number(1),
        metavar="N",
        help="how often each side has its turn (default: 15, and 5 where steps are long)",
    )
    bench.add_argument(
        "--quick", action="store_true", help="few turns and small parameters, to see that all works"
    )
    bench.add_argument(
        "--checkpoint",
        nargs="?",
        type=directory,
        const=Path(tempfile.gettempdir()),
        metavar="FOLDER",
        help="time checkpoints instead: save and load in a folder (default: that of temporary "
        "files), beside a plain write and read",
    )
    bench.add_argument(
        "--json",
        type=output_file(".json"),
        metavar="FILE",
        help="write all that was measured to a file, after each workload",
    )
    bench.add_argument(
        "--plot",
        type=output_file(".png", ".svg"),
        metavar="FILE",
        help="draw a bar chart of the speed-ups: the times of rivals over those of arrayopt",
    )
    bench.add_argument(
        "--from",
        dest="read",
        type=Path,
        metavar="FILE",
        help="with --plot: draw what --json has written, and time nothing",
    )


def run(args: argparse.Namespace) -> list[str]:
    """Run the benchmark, and show what comes of it.

    Parameters
    ----------
    args : argparse.Namespace
        As the parser of `add_parser` returns it.

    Returns
    -------
    list of str
        What went wrong, a sentence each.

    Raises
    ------
    CommandError
        If a library is missing, or there is nothing to time.
    OSError
        If a file cannot be written.
    """
    try:
        import arrayopt.bench.session

        if args.plot:
            import arrayopt.bench.chart  # noqa: F401
    except ImportError as error:
        raise cannot_import(error, INSTALL_BENCH) from error
    if args.read:
        return _drawn(args)
    effort = QUICK if args.quick else Effort()
    if args.turns:
        effort = replace(effort, turns=args.turns, least_turns=args.turns)
    if args.checkpoint:
        return _checkpoint(args, effort)
    if args.device == "cuda":
        return _on_cuda(args, effort)
    missing = {library: how for library, how in INSTALL.items() if not installed(library)}
    settings = Settings(_against(args.against, missing), args.threads, effort, args.quick)
    return _measured(args, settings, missing)


def _measured(
    args: argparse.Namespace, settings: Settings, missing: Mapping[str, str]
) -> list[str]:
    """Measure, and write the files that were asked for."""
    from arrayopt.bench.session import failures, session

    if not args.against:  # all that there are; some algorithm may be in none of them
        settings = replace(settings, instead=["for-loop"])

    def keep(record: Mapping[str, Any]) -> None:
        args.json.write_text(json.dumps(record, indent=1) + "\n")

    cases = _cases(args.algorithm, args.workload)
    results, record = session(cases, settings, missing, keep if args.json else None)
    if args.plot:
        from arrayopt.bench.chart import chart
        from arrayopt.bench.record import caption

        chart(results, args.plot, caption(record))
    return failures(results)


def _on_cuda(args: argparse.Namespace, effort: Effort) -> list[str]:
    """Measure on a GPU."""
    from arrayopt.bench import cuda

    if reason := cuda.trouble():
        raise CommandError(f"--device cuda needs a GPU: {reason}")
    known = [name for name in cuda.CONTENDERS if name != "arrayopt"]
    for name in args.against or ():
        if name not in known:
            raise CommandError(f"--device cuda has no {name}; choose from {', '.join(known)}")
    there = bool(cuda.home())
    chosen = args.against or [name for name in known if name.startswith("torch") == there]
    settings = Settings(
        [name for name in known if name in chosen], args.threads, effort, args.quick, cuda.place()
    )
    return _measured(args, settings, {} if there else {"torch with CUDA": INSTALL_TORCH_CUDA})


def _checkpoint(args: argparse.Namespace, effort: Effort) -> list[str]:
    """Time checkpoints. Nothing can go wrong but what is raised."""
    from arrayopt.bench.saving import show_saving
    from arrayopt.bench.session import threads

    if given := _given(args, "algorithm", "workload", "against", "json", "plot"):
        raise CommandError(f"--checkpoint times checkpoints alone, without {given}")
    missing = [library for library in ("safetensors", "xxhash") if not installed(library)]
    if missing:
        raise CommandError(f"--checkpoint needs {' and '.join(missing)}: {INSTALL_CHECKPOINT}")
    with threads(args.threads):
        show_saving(args.checkpoint, args.quick, effort)
    return []


def _drawn(args: argparse.Namespace) -> list[str]:
    """Draw what was measured before. Nothing can go wrong but what is raised."""
    from arrayopt.bench.chart import chart
    from arrayopt.bench.record import caption, results_of

    given = _given(args, "checkpoint", "against", "turns", "quick", "json")
    if given or not args.plot:
        reason = f"without {given}" if given else "and needs --plot FILE"
        raise CommandError(f"--from draws what was measured before, {reason}")
    try:
        record = json.loads(args.read.read_text())
        results = [
            result
            for result in results_of(record)
            if result.algorithm in (args.algorithm or algorithms())
            and result.workload in (args.workload or WORKLOADS)
        ]
        title = caption(record)
    except (ValueError, LookupError, TypeError) as error:
        raise CommandError(
            f"{args.read} is no record of `arrayopt bench --json`: {error}"
        ) from error
    if not results:
        raise CommandError(f"{args.read} has nothing of such an algorithm and workload")
    chart(results, args.plot, title)
    return []


def _given(args: argparse.Namespace, *options: str) -> str:
    """Which of these options were given."""
    return ", ".join(f"--{option}" for option in options if getattr(args, option))


def _cases(chosen: list[str] | None, workloads: list[str] | None) -> dict[str, list[str]]:
    """The algorithms to be timed, by the names of the workloads, each in the order given."""
    names = dict.fromkeys(chosen or algorithms())
    cases = {
        workload: [name for name in names if runs(name, WORKLOADS[workload])]
        for workload in dict.fromkeys(workloads or WORKLOADS)
    }
    if not any(cases.values()):
        sparse = ", ".join(name for name, entry in WORKLOADS.items() if entry.rows)
        hidden = ", ".join(name for name, entry in WORKLOADS.items() if entry.hidden)
        raise CommandError(
            "there is nothing to time: no such algorithm takes the gradients of such a workload; "
            f"those of {sparse} are sparse, all others dense, and what takes matrices alone is "
            f"timed on {hidden}"
        )
    return {workload: names for workload, names in cases.items() if names}


def _against(chosen: list[str] | None, missing: Mapping[str, str]) -> list[str]:
    """The rivals, in the order of the columns."""
    for name in chosen or ():
        library = CONTENDERS[name].library
        if library in missing:
            raise CommandError(
                f"{name} needs {library}, which cannot be imported: {missing[library]}"
            )
    return [name for name in CONTENDERS if name in (chosen or rivals())]
