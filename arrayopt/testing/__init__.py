"""For those who write optimizers: assertions that one agrees with torch's, or with ours.

>>> from arrayopt.testing import assert_matches
>>> def sgd(param, grad, state, lr=1e-3):
...     return param - lr * grad
>>> assert_matches(sgd, "arrayopt.SGD", steps=10)
<Report: 6 comparisons, all within bounds>

With ``pytest_plugins = ["arrayopt.testing.plugin"]`` in a ``conftest.py``, a test that takes the
fixture `matches_torch` runs once for each dtype and stream of gradients.
"""

from __future__ import annotations

from typing import Any

from arrayopt.check import compare
from arrayopt.check.report import Report

__all__ = ["assert_matches", "assert_matches_torch"]

#: How many differences a message tells.
SHOWN = 5


def assert_matches(subject: Any, against: Any, **settings: Any) -> Report:
    """Raise unless two optimizers agree, step by step.

    Parameters
    ----------
    subject, against
        As in `arrayopt.compare`.
    **settings
        The others of `arrayopt.compare`: ``options``, ``dtype``, ``implementation``, ``stream``,
        ``steps``, ``bound``, ``seed``.

    Returns
    -------
    Report
        What was found out.

    Raises
    ------
    AssertionError
        If a difference is out of bounds, or nothing could be compared. It tells which runs those
        are, by how much, and from which step on.
    ValueError, TypeError, ImportError
        As `arrayopt.compare` does.

    Examples
    --------
    >>> def wrong(param, grad, state, lr=1e-3):
    ...     return param - 1.001 * lr * grad
    >>> settings = {"dtype": "float64", "stream": "fixed", "steps": 10}
    >>> assert_matches(wrong, "arrayopt.SGD", **settings)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: wrong does not match arrayopt.SGD: 1 of 1 comparison out of bounds
      wrong float64 fixed: param differs by ... (bound 1e-12, first exceeded after step 1)
    """
    report = compare(subject, against, **settings)
    if report.ok:
        return report
    lines = [f"  {complaint}" for complaint in report.complaints[:SHOWN]]
    if len(report.failures) > SHOWN:
        lines.append(f"  and {len(report.failures) - SHOWN} more")
    lines += [f"  not compared: {reason}" for reason in report.lacking]
    names = [f"{row.subject} does not match {row.against}" for row in report.failures[:1]]
    heading = ": ".join([*names, report.verdict])
    raise AssertionError("\n".join([heading, *lines]))


def assert_matches_torch(subject: Any, algorithm: str | None = None, **settings: Any) -> Report:
    """Raise unless an optimizer agrees with torch's, step by step.

    Parameters
    ----------
    subject : str, class or callable
        As in `arrayopt.compare`.
    algorithm : str, optional
        The name of torch's: ``"Adam"``. By default, that of `subject`.
    **settings
        As in `assert_matches`.

    Returns
    -------
    Report

    Raises
    ------
    AssertionError, ValueError, TypeError, ImportError
        As `assert_matches` does, and where torch has no such algorithm.

    Examples
    --------
    >>> import arrayopt
    >>> from arrayopt.testing import assert_matches_torch
    >>> report = assert_matches_torch(arrayopt.SGD, options={"momentum": 0.9}, steps=10)
    >>> sorted({row.stream for row in report})
    ['fixed', 'problem', 'rare']
    """
    against = "torch" if algorithm is None else f"torch.{algorithm}"
    report = assert_matches(subject, against, **settings)
    if not all(row.against.startswith("torch.") for row in report):
        raise AssertionError("\n  not compared: ".join(["torch lacks it", *report.lacking]))
    return report
