"""Driving two optimizers side by side, and what is found out."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayopt.check.cases import HALF, SINGLE, bound_of
from arrayopt.check.contestants import Contestant
from arrayopt.check.measure import Divergence, Errors, Extent, dtype_of, finfo
from arrayopt.check.sides import Side
from arrayopt.check.streams import STREAMS
from arrayopt.tensors import torch_as_exact_as_can_be

__all__ = ["Case", "Comparison", "NotComparable", "run", "written"]

#: How many points of a curve are kept.
POINTS = 60

#: In which higher precision each one is computed again.
HIGHER = {"complex64": "complex128", "float64": "longdouble", "complex128": "clongdouble"}


class NotComparable(Exception):  # noqa: N818  (it tells why there is no comparison)
    """The other side does not do what is to be compared."""


@dataclass(frozen=True)
class Case:
    """What is compared in one run.

    Attributes
    ----------
    subjects : dict of str to Contestant
        Who is compared, by implementation.
    against : Contestant
        With whom.
    exact : Contestant
        Who runs in higher precision as well.
    options : dict
        Hyperparameters.
    dtype, stream : str
        Of the parameters; where the gradients come from.
    steps, seed : int
    bound : float or None
        The largest relative difference; None for the one that belongs to `dtype`.
    """

    subjects: Mapping[str, Contestant]
    against: Contestant
    exact: Contestant
    options: Mapping[str, Any]
    dtype: str
    stream: str
    steps: int
    seed: int
    bound: float | None

    def __str__(self) -> str:
        (subject, *_) = self.subjects.values()
        return f"{subject.name} {self.dtype} {self.stream}"


@dataclass(frozen=True)
class Comparison:
    """How far one implementation was from what it was compared with, in one run.

    Attributes
    ----------
    subject, against : str
        Who was compared with whom: ``"arrayopt.Adam"``, ``"torch.Adam"``.
    implementation : str
        ``"for-loop"``, ``"foreach"`` or ``"fused"``; ``"default"`` where there is one only.
    options : dict
        Hyperparameters.
    dtype, stream : str
        Of the parameters; where the gradients came from, as `arrayopt.compare` calls it.
    steps : int
        How many were taken.
    difference : float
        The largest difference of an element of the parameters or the state, after any step,
        relative to the largest size that the element had had.
    where : str
        ``"param"``, or the entry of the state, in which that was.
    ulps, typical_ulps : float
        The largest distance in units in the last place, at any step, which is large where a number
        passes through zero; and that under which 99 of 100 elements are after the last step.
    bound : float
        What `difference` may be.
    first : int or None
        The first step after which a difference was above the bound.
    error, their_error : float or None
        The mean relative error of either side over all elements and steps, against a run in higher
        precision: of the array in which ours was largest beside theirs. None where there is no
        higher precision.
    inexact : str
        Which array that was.
    tolerated : float or None
        What `error` may be, as a multiple of `their_error`, where both had the same gradients
        (through those at one's own weights, errors come back): in half precision, and of an
        optimizer of arrayopt in single. None where it is not judged.
    compared : tuple of str
        The parameters, and the entries of the state, that both sides have.
    alone : tuple of str
        The entries of the state that one side only has.
    lost : int
        How many elements the other side had lost to NaN or infinity in the end, and this one not.
    curve : tuple of (int, float)
        Steps, and the largest difference after them.

    Examples
    --------
    >>> import arrayopt
    >>> def halves(param, grad, state, lr=1e-3):
    ...     return param - lr * grad / 2
    >>> report = arrayopt.compare(halves, "arrayopt.SGD", dtype="float64", stream="fixed", steps=10)
    >>> row = report.comparisons[0]
    >>> row.title, row.ok, row.where, row.first
    ('halves float64 fixed', False, 'param', 1)
    """

    subject: str
    against: str
    implementation: str
    options: Mapping[str, Any]
    dtype: str
    stream: str
    steps: int
    difference: float
    where: str
    ulps: float
    typical_ulps: float
    bound: float
    first: int | None
    error: float | None
    their_error: float | None
    inexact: str
    tolerated: float | None
    compared: tuple[str, ...]
    alone: tuple[str, ...]
    lost: int
    curve: tuple[tuple[int, float], ...]

    @property
    def complaint(self) -> str:
        """What is out of bounds; empty if nothing is.

        The difference has to be within `bound`, and the error within `tolerated` times the other
        side's.
        """
        if not self.difference <= self.bound:
            return (
                f"{self.where} differs by {self.difference:.2g} (bound {self.bound:.2g}, first "
                f"exceeded after step {self.first})"
            )
        if self.tolerated is None or self.error is None or self.their_error is None:
            return ""
        # (an error of a tenth of an ULP is none that either side could have avoided)
        least = float(finfo(dtype_of(self.dtype)).eps) / 10
        if self.error <= max(self.tolerated * self.their_error, least):
            return ""
        return (
            f"the error of {self.inexact} is {self.error:.2g}, that of {self.against} "
            f"{self.their_error:.2g} (bound {self.tolerated:g} times that)"
        )

    @property
    def ok(self) -> bool:
        """Whether all is within bounds."""
        return not self.complaint

    @property
    def title(self) -> str:
        """Who, how and on what, in a line."""
        parts = [self.subject, written(self.options), self.dtype, self.implementation, self.stream]
        return " ".join(part for part in parts if part and part != "default")


def run(case: Case) -> list[Comparison]:
    """Let all sides of a case take their steps, and compare.

    Returns
    -------
    list of Comparison
        One for each implementation.

    Raises
    ------
    NotComparable
        If arrayopt or the other side refuses the dtype, or the options.
    """
    everyone = (case.against, case.exact, *case.subjects.values())
    torch = any(who.library == "torch" for who in everyone)
    with torch_as_exact_as_can_be() if torch else contextlib.nullcontext():
        return _run(case)


def _run(case: Case) -> list[Comparison]:
    dtype = dtype_of(case.dtype)
    limits = finfo(dtype)
    bound = bound_of(float(limits.eps)) if case.bound is None else case.bound
    stream = STREAMS[case.stream](dtype, case.seed, case.against.kind)
    theirs = _begin(case.against, case, stream.starts)
    mine = {name: _begin(who, case, stream.starts) for name, who in case.subjects.items()}
    sides = [theirs, *mine.values()]
    exact = None
    higher = _higher(dtype, case.exact.library)
    if higher is not None:
        exact = case.exact.begin([start.astype(higher) for start in stream.starts], case.options)
        sides.append(exact)
    least = float(limits.smallest_normal)
    divergences = {name: Divergence(bound, dtype) for name in mine}
    errors, extent = Errors(least), Extent(least)
    extent.widen(theirs.values())
    with np.errstate(all="ignore"):
        for step in range(case.steps):
            for side in sides:
                side.step(functools.partial(stream.evaluate, step))
            others = theirs.values()
            extent.widen(others)
            found = {name: side.values() for name, side in mine.items()}
            for name, values in found.items():
                divergences[name].update(values, others, extent)
            if exact:
                errors.update({"": others, **found}, exact.values())
    return [_comparison(case, name, divergences[name], errors) for name in mine]


def _begin(who: Contestant, case: Case, starts: Sequence[NDArray[Any]]) -> Side:
    """Somebody at work, who may not take parameters of this kind."""
    try:
        return who.begin(starts, case.options)
    except (TypeError, ValueError, RuntimeError) as error:
        if who is case.against or who.library == "arrayopt":
            raise NotComparable(f"{who.name} in {case.dtype}: {error}") from error
        raise


def _comparison(case: Case, name: str, divergence: Divergence, errors: Errors) -> Comparison:
    error, their_error, inexact = _worst(errors.of(name), errors.of(""))
    return Comparison(
        subject=case.subjects[name].name,
        against=case.against.name,
        implementation=name,
        options=dict(case.options),
        dtype=case.dtype,
        stream=case.stream,
        steps=case.steps,
        difference=divergence.largest,
        where=divergence.where,
        ulps=divergence.ulps,
        typical_ulps=divergence.typical_ulps,
        bound=divergence.bound,
        first=divergence.first,
        error=error,
        their_error=their_error,
        inexact=inexact,
        tolerated=_tolerated(case, name),
        compared=divergence.compared,
        alone=divergence.alone,
        lost=divergence.lost,
        curve=_thinned(divergence.curve),
    )


def _tolerated(case: Case, name: str) -> float | None:
    """How large our errors may be beside theirs."""
    if case.stream == "problem":
        return None
    if case.dtype in ("float16", "bfloat16"):
        return HALF
    ours = case.subjects[name].library == "arrayopt"
    return SINGLE if ours and case.dtype in ("float32", "complex64") else None


def _worst(
    errors: Mapping[str, float], others: Mapping[str, float]
) -> tuple[float | None, float | None, str]:
    """The error that is largest beside the other side's, that one, and whose it is."""
    both = [name for name in errors if name in others]
    if not both:
        return None, None, ""
    ratios = {
        name: errors[name] / others[name] if others[name] else math.inf if errors[name] else 0.0
        for name in both
    }
    worst = max(both, key=lambda name: ratios[name])
    return errors[worst], others[worst], worst


def _higher(dtype: np.dtype[Any], library: str) -> np.dtype[Any] | None:
    """A dtype of higher precision, if the library has one; torch has none above double."""
    higher = np.dtype(HIGHER.get(dtype.name, "float64"))
    if library == "torch" and dtype.name in ("float64", "complex128"):
        return None
    return None if finfo(higher).eps == finfo(dtype).eps else higher


def _thinned(curve: list[float]) -> tuple[tuple[int, float], ...]:
    """The largest value up to each of some steps, which lie close at the beginning."""
    steps = np.unique(np.geomspace(1, len(curve), POINTS).round().astype(int))
    before = 0
    points = []
    for step in steps:
        points.append((int(step), max(curve[before:step])))
        before = step
    return tuple(points)


def written(options: Mapping[str, Any]) -> str:
    """Options as they are written in a call."""
    return ", ".join(f"{name}={value}" for name, value in options.items())
