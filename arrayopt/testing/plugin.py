"""A plugin for pytest: the fixture `matches_torch`.

It is switched on by ``pytest_plugins = ["arrayopt.testing.plugin"]`` in a ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest

from arrayopt.check.report import Report
from arrayopt.check.streams import STREAMS
from arrayopt.testing import assert_matches_torch

__all__ = ["matches_torch"]


@pytest.fixture(params=[*product(("float64", "float32"), STREAMS)], ids="-".join)
def matches_torch(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """`assert_matches_torch` for one dtype and one stream of gradients, each a test of its own.

    Returns
    -------
    callable
        ``matches_torch(subject, algorithm=None, **settings)``.
    """
    dtype, stream = request.param
    return partial(assert_matches_torch, dtype=dtype, stream=stream)
