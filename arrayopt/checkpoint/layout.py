"""The layout of a checkpoint: a safetensors file in pieces, each of which has a digest.

The format is eight bytes that tell the length of the header, the header, which is JSON, and the
data. Ours begins with the SHA-256 of the rest of the header, which holds the XXH3 of every piece of
the data, so that no bit of the file can change unnoticed. (XXH3 is as fast as memory; CRC-32 would
take longer than reading does.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arrayopt import extras
from arrayopt.checkpoint.host import EXTRA
from arrayopt.threads import get_num_threads, run_parallel

__all__ = [
    "BEGIN",
    "DIGITS",
    "LONGEST",
    "PIECE",
    "VERSION",
    "Entry",
    "digest_of",
    "read_some",
    "require",
    "share_out",
    "write_at",
]

#: How many bytes a digest covers: they stay in the cache of a core while they are looked at.
PIECE = 1 << 20

#: The longest header that the library reads.
LONGEST = 100_000_000

#: What a header begins with, and the digits that follow.
BEGIN, DIGITS = b'{"__metadata__":{"sha256":"', 64

#: Which layout of the metadata this is.
VERSION = 1


def require(library: str) -> Any:
    """A library that checkpoints need: safetensors, or xxhash."""
    return extras.require(library, "checkpoints need", EXTRA)


def digest_of(piece: memoryview) -> int:
    """The digest of a piece, of 64 bits."""
    return int(require("xxhash").xxh3_64_intdigest(piece))


@dataclass(slots=True)
class Entry:
    """Where an array is in a file.

    Attributes
    ----------
    dtype : str
        As safetensors calls it.
    shape : list of int
        Of complex numbers, with a last axis of length 2.
    begin, end : int
        Its bytes, counted from the end of the header.
    digests : list of int
        The XXH3 of each piece.
    whole : bool
        Whether all digests have been seen to be right.
    """

    dtype: str
    shape: list[int]
    begin: int
    end: int
    digests: list[int] = field(default_factory=list)
    whole: bool = False

    def pieces(self) -> list[tuple[int, int, int]]:
        """The number of each piece, and where it begins and ends in the array's bytes."""
        size = self.end - self.begin
        return [
            (number, start, min(start + PIECE, size))
            for number, start in enumerate(range(0, size, PIECE))
        ]


def share_out(tasks: Iterable[Any], work: Callable[[Any, memoryview], None], size: int) -> None:
    """Call ``work(task, scratch)`` for each task, on as many threads as `size` bytes are worth."""
    queue = iter([*tasks])  # (next on it is atomic)

    def share() -> None:
        scratch = np.empty(PIECE, np.uint8).data
        for task in queue:
            work(task, scratch)

    run_parallel(share, min(get_num_threads(), 1 + size // PIECE))


def write_at(file: Any, data: memoryview, offset: int) -> None:
    """Write all of `data` at some place of a file."""
    while data:
        count = _pwrite(file, data, offset)
        data, offset = data[count:], offset + count


_seeking = threading.Lock()


def _pwrite(file: Any, data: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(file.fileno(), data, offset)
    with _seeking:
        file.seek(offset)
        return int(file.write(data))


def read_some(file: Any, buffer: memoryview, offset: int) -> int:
    """Read from some place of a file into a buffer, and return how many bytes came."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    with _seeking:
        file.seek(offset)
        return int(file.readinto(buffer))
