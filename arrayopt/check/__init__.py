"""Whether two optimizers agree, step by step: ours with torch's, or one's own with either.

`arrayopt.compare` drives both with the same gradients and returns what it found out as data;
``python -m arrayopt check`` shows it.

`plan` makes cases of what a user asks for: `cases` has the options, and `contestants` knows who can
take part. `comparison` drives them (`sides`) with gradients (`streams`) and tells how far they are
apart (`measure`). `report` is all of that, `summary` the table that a terminal (`table`) and a page
(`page`, with the pictures of `chart`) show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from arrayopt.check.comparison import Case, Comparison, NotComparable, run
from arrayopt.check.plan import PRECISIONS, STEPS, planned
from arrayopt.check.report import Report
from arrayopt.extras import progress_bar

__all__ = ["Comparison", "Report", "compare"]


def compare(
    subject: Any = None,
    against: Any = "torch",
    *,
    options: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
    dtype: str | Iterable[str] = PRECISIONS,
    implementation: str | Iterable[str] | None = None,
    stream: str | Iterable[str] | None = None,
    steps: int = STEPS,
    bound: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    r"""Drive optimizers side by side, and tell how far they are apart.

    Parameters
    ----------
    subject : str, class, callable, or list of them, optional
        Who is compared: the name of an algorithm (``"Adam"``); an optimizer class of arrayopt, of
        torch, or of one's own; or a function ``update(param, grad, state, **options)``. By default,
        all algorithms.
    against : str, class or callable, default "torch"
        With whom: ``"torch"`` or ``"arrayopt"`` for the algorithm of the same name (of one that
        torch lacks, the for-loop of ours), ``"torch.Adam"`` for one of another name, or whatever
        `subject` may be.
    options : dict or list of dict, optional
        Hyperparameters. By default, sets of them that take every branch of the algorithm; none for
        what is one's own.
    dtype : str or list of str, default ("float64", "float32")
        Of the parameters: also ``"float16"``, ``"bfloat16"``, ``"complex64"``, ``"complex128"``.
    implementation : str or list of str, optional
        Of ``"for-loop"``, ``"foreach"`` and ``"fused"``; by default, all that are there.
    stream : str or list of str, optional
        Where the gradients come from. ``"fixed"``: the same for both sides, of changing size.
        ``"problem"``: softmax regression, each side at its own weights. ``"rare"``: the same for
        both, some of them zero, denormal or huge. By default, all three.
    steps : int, default 100
        How many are taken.
    bound : float, optional
        What the difference may be; by default, 1e-12 in double precision, as many roundings in
        single, and anything in half.
    seed : int, default 0
        Of the numbers.
    progress : bool, default False
        Show a bar (tqdm).

    Returns
    -------
    Report
        ``report.ok``, and a `Comparison` for each run; printed, a table.

    Raises
    ------
    ValueError, TypeError
        If something is asked for that there is not.
    ImportError
        If torch is needed, or tqdm, and cannot be imported.

    Notes
    -----
    A difference is relative to the largest size that the element had so far,
    :math:`\max_{s \le t} |\theta_s|`, for parameters and for each entry of the state. It has to be
    within the bound at every step. Both sides are also compared with a run in higher precision. Of
    an optimizer of arrayopt in single precision, the mean error may be 1.25 times that of the other
    side, where both had the same gradients. In half precision that is all that is judged, of
    anything: it may be twice that of the other side, and a difference may be any.

    A class of one's own is built with a list of `Parameter`, and its ``step()`` called after their
    ``.grad`` has been set. The function is called for every parameter with a dict that begins empty
    and is kept; it returns the new parameter, or changes it in place. (Beside SparseAdam, gradients
    are `SparseGrad` objects.) Of its state, what has the names of the other side's is compared.

    Examples
    --------
    Momentum, written by hand, beside ours:

    >>> def momentum(param, grad, state, lr=0.1, beta=0.9):
    ...     state["momentum_buffer"] = beta * state.get("momentum_buffer", 0) + grad
    ...     return param - lr * state["momentum_buffer"]
    >>> import arrayopt
    >>> class SGD(arrayopt.SGD):
    ...     def __init__(self, params, lr=0.1, beta=0.9):
    ...         super().__init__(params, lr, momentum=beta, foreach=False)
    >>> report = arrayopt.compare(momentum, SGD, dtype="float64", steps=20)
    >>> report.ok, report.comparisons[0].compared
    (True, ('param', 'momentum_buffer'))
    """
    cases, lacking = planned(
        subject,
        against,
        options=options,
        dtype=dtype,
        implementation=implementation,
        stream=stream,
        steps=steps,
        seed=seed,
        bound=bound,
    )
    bar = progress_bar(iterable=cases, unit="run") if progress else cases
    return Report.of([*comparisons(bar, lacking)], lacking)


def comparisons(cases: Iterable[Case], lacking: list[str]) -> Iterator[Comparison]:
    """Go through the cases; what cannot be compared is added to `lacking`."""
    for case in cases:
        reasons = []
        try:
            found = run(case)
        except NotComparable as why:
            found, reasons = [], [str(why)]
        reasons += [
            f"{row.subject} and {row.against}: {', '.join(row.alone)} (in the state of one only)"
            for row in found
            if row.alone
        ]
        lacking += [reason for reason in dict.fromkeys(reasons) if reason not in lacking]
        yield from found
