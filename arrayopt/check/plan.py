"""What is to be compared: from a user's words to cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arrayopt.check.cases import OPTIONS
from arrayopt.check.comparison import Case
from arrayopt.check.contestants import (
    IMPLEMENTATIONS,
    Contestant,
    contestant,
    implementations,
    twin,
)
from arrayopt.check.measure import dtype_of
from arrayopt.check.sides import ClassSide, FunctionSide
from arrayopt.check.streams import STREAMS

__all__ = ["STEPS", "plan"]

#: How many steps are compared, unless the user says otherwise.
STEPS = 100


def plan(
    subject: Any,
    against: Any,
    *,
    options: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None,
    dtype: str | Iterable[str],
    implementation: str | Iterable[str] | None,
    stream: str | Iterable[str] | None,
    steps: int,
    seed: int,
    bound: float | None,
) -> tuple[list[Case], list[str]]:
    """The cases that `arrayopt.compare` goes through.

    Parameters
    ----------
    subject, against, options, dtype, implementation, stream, steps, seed, bound
        As in `arrayopt.compare`.

    Returns
    -------
    cases : list of Case
    lacking : list of str
        What cannot be compared, and why.

    Raises
    ------
    ValueError, TypeError
        If something is asked for that there is not.
    ImportError
        If a library is needed that cannot be imported.
    """
    dtypes = [_checked_dtype(name) for name in _listed(dtype)]
    streams = _chosen("stream", stream, STREAMS)
    wanted = _chosen("implementation", implementation, IMPLEMENTATIONS)
    if steps < 1:
        raise ValueError(f"expected at least 1 step, but got steps={steps}")
    if bound is not None and not bound >= 0:
        raise ValueError(f"expected a bound >= 0, but got {bound}")
    cases: list[Case] = []
    lacking: list[str] = []
    for who, rival in _pairs(subject, against):
        exact = _exact(rival)
        for name in dtypes:
            if rival.kind == "closure" and name not in ("float64", "complex128"):
                lacking.append(
                    f"{rival.name} in {name}: near the minimum, its steps depend on differences "
                    "of losses that are rounding alone"
                )
                continue
            subjects, missing = implementations(who, name)
            lacking += [f"{who.name}: {why}" for kind, why in missing.items() if kind in wanted]
            subjects = {k: v for k, v in subjects.items() if k in wanted or k == "default"}
            for chosen in _option_sets(options, who, rival):
                absent = rival.lacks(chosen)
                if absent:
                    lacking.append(f"{rival.name} has no {absent}")
                    continue
                cases += [
                    Case(subjects, rival, exact, chosen, name, kind, steps, seed, bound)
                    for kind in streams
                    if subjects and (rival.kind != "closure" or kind == "problem")
                ]
    return cases, list(dict.fromkeys(lacking))


def _pairs(subject: Any, against: Any) -> list[tuple[Contestant, Contestant]]:
    """Who is compared with whom."""
    subjects = list(OPTIONS) if subject is None else subject
    subjects = subjects if isinstance(subjects, (list, tuple)) else [subjects]
    pairs = []
    for each in subjects:
        who = contestant(each)
        by_name = isinstance(against, str) and against in ("torch", "arrayopt")
        rival = twin(who, against) if by_name else contestant(against)
        if rival.kind == "closure" and who.side in (ClassSide, FunctionSide):
            raise ValueError(
                f"{who.name} cannot be compared with {rival.name}, which evaluates the loss "
                "several times in a step: only optimizers of arrayopt and torch are driven so"
            )
        pairs.append((who, rival))
    return pairs


def _exact(rival: Contestant) -> Contestant:
    """Who runs in higher precision: ours of that name, which takes any; or else the rival."""
    if rival.library == "torch" and rival.algorithm in OPTIONS:
        rival = twin(rival, "arrayopt")
    there, _ = implementations(rival, "float64")
    return there.get("for-loop") or there["default"]


def _option_sets(options: Any, who: Contestant, rival: Contestant) -> list[dict[str, Any]]:
    """The sets of options under which two are compared."""
    if options is None:
        known = who.library and who.algorithm == rival.algorithm
        sets = OPTIONS.get(who.algorithm, [{}]) if known else [{}]
    else:
        sets = [dict(options)] if isinstance(options, Mapping) else [*options]
    for each in sets:
        absent = who.lacks(each)
        if absent:
            raise ValueError(f"{who.name} has no option {absent}")
    return [dict(each) for each in sets]


def _checked_dtype(name: Any) -> str:
    return dtype_of(getattr(name, "__name__", None) or str(name)).name


def _listed(value: Any) -> list[Any]:
    return (
        [value] if isinstance(value, (str, type)) or not isinstance(value, Iterable) else [*value]
    )


def _chosen(what: str, value: Any, known: Iterable[str]) -> Sequence[str]:
    """The names that were chosen, or all."""
    names = [*known]
    if value is None:
        return names
    for name in _listed(value):
        if name not in names:
            raise ValueError(f"{what}: expected one of {', '.join(names)}, but got {name!r}")
    return _listed(value)
