"""Arrays for tests: of several libraries, random ones, and such as need care."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import array_api_strict
import numpy as np
import torch

#: By the names under which they are imported.
LIBRARIES = {"numpy": np, "torch": torch, "array_api_strict": array_api_strict}


def normal(
    seed: int | np.random.Generator, shapes: Iterable[tuple[int, ...]], dtype: Any = np.float64
) -> list[np.ndarray]:
    """An array of each shape, of normally distributed numbers; if complex, both parts are."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)

    def one(shape: tuple[int, ...]) -> np.ndarray:
        values = rng.standard_normal(shape)
        if dtype.kind == "c":
            values = values + 1j * rng.standard_normal(shape)
        return np.asarray(values, dtype)

    return [one(shape) for shape in shapes]


def read_only(array: np.ndarray) -> np.ndarray:
    """The same array, which cannot be written to any more."""
    array.flags.writeable = False
    return array


def sparse_rows(dense: torch.Tensor) -> torch.Tensor:
    """A tensor in torch's compressed rows, without the warning that these are "in beta state"."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dense.to_sparse_csr()


def relative_difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two arrays, relative to the largest element of the second."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return float(np.abs(ours - theirs).max(initial=0) / (np.abs(theirs).max(initial=0) or 1))
