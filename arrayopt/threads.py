"""The threads that every CPU executor shares."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["drain", "get_num_threads", "run_parallel", "set_num_threads"]

T = TypeVar("T")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _default_num_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:  # pragma: no cover  (macOS and Windows)
        available = os.cpu_count() or 1
    requested = os.environ.get("ARRAYOPT_NUM_THREADS", "")
    return int(requested) if requested.isdecimal() and int(requested) > 0 else available


_num_threads = _default_num_threads()


def get_num_threads() -> int:
    """The number of threads that a step may use, the calling thread included.

    Examples
    --------
    >>> import arrayopt
    >>> arrayopt.get_num_threads() >= 1
    True
    """
    return _num_threads


def set_num_threads(num_threads: int) -> None:
    """Set the number of threads that a step may use, the calling thread included.

    The default is the number of cores that the process may run on, or the environment variable
    ``ARRAYOPT_NUM_THREADS``. Results do not depend on it, to the bit.

    Parameters
    ----------
    num_threads : int
        At least 1.

    Raises
    ------
    ValueError
        If `num_threads` is not a positive integer.

    Examples
    --------
    >>> import arrayopt
    >>> before = arrayopt.get_num_threads()
    >>> arrayopt.set_num_threads(1)
    >>> arrayopt.get_num_threads()
    1
    >>> arrayopt.set_num_threads(before)
    """
    global _num_threads
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"num_threads must be a positive int, but got {num_threads!r}")
    _num_threads = num_threads


def run_parallel(work: Callable[[], None], num_threads: int) -> None:
    """Call `work` on `num_threads` threads at once, the calling thread among them.

    `work` takes its share from a queue until that is empty; see `drain`. A helper that has not
    begun when the calling thread is done is not waited for. The first exception is raised here.
    """
    if num_threads <= 1:
        work()
        return
    helpers = []
    # Once the main thread has ended, no thread can be begun: one of the user's goes on alone.
    with contextlib.suppress(RuntimeError):
        pool = _helpers(num_threads - 1)
        for _ in range(num_threads - 1):
            helpers.append(pool.submit(work))  # noqa: PERF401
    try:
        work()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        errors = [helper.exception() for helper in begun]
    for error in errors:
        if error is not None:
            raise error


def drain(queue: deque[T]) -> Iterator[T]:
    """What is in a queue that several threads take from, one entry at a time, until it is empty."""
    while queue:
        try:
            entry = queue.popleft()
        except IndexError:  # another thread took the last one
            return
        yield entry


def _helpers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < count:
            from concurrent.futures import ThreadPoolExecutor

            _pool, _pool_size = ThreadPoolExecutor(count, "arrayopt"), count
        return _pool


def _after_fork_in_child() -> None:
    # The parent's threads do not exist in the child, and its lock may have been held.
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
