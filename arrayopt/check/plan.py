"""What is to be compared: from a user's words to cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from arrayopt.check.cases import OPTIONS
from arrayopt.check.comparison import Case, written
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
from arrayopt.options import check_integer, check_number

__all__ = ["PRECISIONS", "STEPS", "planned"]

#: Options that say how a step is computed.
SWITCHES = frozenset({"foreach", "fused", "capturable", "differentiable"})

#: In which dtypes, and for how many steps, it is compared unless the user says otherwise.
PRECISIONS = ("float64", "float32")
STEPS = 100


def planned(
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
    ways = _chosen("implementation", implementation, IMPLEMENTATIONS)
    check_integer("steps", steps, 1)
    check_integer("seed", seed, 0)
    if bound is not None:
        check_number("bound", bound, 0)
    cases: list[Case] = []
    lacking: list[str] = []
    for who, rival in _pairs(subject, against):
        exact = _exact(rival)
        searches = rival.kind == "closure"
        alone = against == "torch" and rival.library == "arrayopt"
        if alone:
            lacking.append(
                f"{who.name} with torch, which has no {who.algorithm}; it is compared with the "
                f"for-loop of {rival.name} instead"
            )
        if rival.library == "torch" and rival.algorithm == "Muon":
            lacking.append(
                "torch.Muon with its rounding to bfloat16, which is left out: it computes in the "
                "precision of its parameters here, as arrayopt.Muon does"
            )
        for precision in dtypes:
            if searches and precision not in ("float64", "complex128"):
                lacking.append(
                    f"{rival.name} in {precision}: near the minimum, its steps depend on "
                    "differences of losses that are rounding alone"
                )
                continue
            subjects, missing = implementations(who, precision)
            lacking += [f"{who.name}: {why}" for way, why in missing.items() if way in ways]
            subjects = {way: s for way, s in subjects.items() if way in ways or way == "default"}
            if not subjects and not missing:
                lacking.append(f"{who.name} has no {' or '.join(ways)} implementation")
            if alone:  # nobody with itself
                subjects = {way: s for way, s in subjects.items() if s != rival}
            if searches and "problem" not in streams:
                lacking.append(f"{rival.name} needs the loss, which only a problem has")
            for chosen in _option_sets(options, who, rival, exact):
                if absent := rival.lacks(chosen):
                    lacking.append(f"{rival.name} has no {absent}{_version(rival)}")
                    continue
                cases += [
                    Case(subjects, rival, exact, chosen, precision, source, steps, seed, bound)
                    for source in streams
                    if subjects and (source == "problem" or not searches)
                ]
    return cases, list(dict.fromkeys(lacking))


def _version(who: Contestant) -> str:
    """Of torch, if it is torch's."""
    from importlib.metadata import version

    return f" in version {version('torch')}" if who.library == "torch" else ""


def _pairs(subject: Any, against: Any) -> list[tuple[Contestant, Contestant]]:
    """Who is compared with whom."""
    subjects = list(OPTIONS) if subject is None else subject
    subjects = _listed(subjects)
    if not subjects:
        raise ValueError("subject: expected an algorithm, or several, but got none")
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


def _option_sets(
    options: Any, who: Contestant, rival: Contestant, exact: Contestant
) -> list[dict[str, Any]]:
    """The sets of options under which two are compared."""
    if options is None:
        known = who.library and who.algorithm == rival.algorithm
        return OPTIONS.get(who.algorithm, [{}]) if known else [{}]
    sets = [options] if isinstance(options, Mapping) else _listed(options)
    if not sets or not all(isinstance(each, Mapping) for each in sets):
        raise TypeError(f"options: expected a dict, or several, but got {options!r}")
    for each in sets:
        for name in SWITCHES & each.keys():
            raise ValueError(
                f"options: {name} says how a step is computed, not what; choose with implementation"
            )
        for side in (who, rival):
            if absent := side.lacks(each):
                raise ValueError(f"{side.name} has no option {absent}{_version(side)}")
        for side in (exact, rival, who):
            try:
                side.begin([np.zeros((2, 2))], each)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(f"{side.name} refuses {written(each)}: {error}") from error
    return [dict(each) for each in sets]


def _checked_dtype(name: Any) -> str:
    """The name of a dtype, given as a name, or as NumPy's or torch's dtype."""
    return dtype_of(getattr(name, "__name__", None) or str(name).removeprefix("torch.")).name


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
