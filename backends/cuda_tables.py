"""The tables by which one launch of a kernel finds many tensors: data, made on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["chunk_table", "pointer_table"]


def pointer_table(addresses: Sequence[Sequence[int]], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Where the operands of each tensor are, and how many numbers it has.

    Parameters
    ----------
    addresses : sequence of sequence of int
        For each tensor, the addresses of its operands.
    sizes : sequence of int
        For each tensor, the number of its elements; of a complex one, twice that.

    Returns
    -------
    array of int64, shape (tensors, operands + 1)

    Examples
    --------
    >>> pointer_table([[64, 128], [256, 512]], [10, 20])
    array([[ 64, 128,  10],
           [256, 512,  20]])
    """
    rows = [[*row, size] for row, size in zip(addresses, sizes, strict=True)]
    return np.array(rows, np.int64).reshape(len(rows), -1)


def chunk_table(sizes: ArrayLike, chunk: int) -> NDArray[np.int32]:
    """Which piece of which tensor each block of threads takes.

    Parameters
    ----------
    sizes : array_like of int
        For each tensor, how many numbers it has.
    chunk : int
        How many of them a block takes, at most.

    Returns
    -------
    array of int32, shape (chunks, 2)
        The tensor, and how many chunks of it come before.

    Examples
    --------
    >>> chunk_table([5, 0, 12], 5)
    array([[0, 0],
           [2, 0],
           [2, 1],
           [2, 2]], dtype=int32)
    """
    counts = -(-np.asarray(sizes, np.int64) // chunk)
    tensors = np.repeat(np.arange(len(counts)), counts)
    before = np.arange(len(tensors)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([tensors, before], axis=-1).astype(np.int32)
