"""Writing a checkpoint.

The writer is our own, since the library's takes the addresses of all arrays at once: those that are
not contiguous, or on a device, would have to be copied before, and the digests be made in a pass of
their own. Whether what is written is a file of the format, the library is asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arrayopt.checkpoint import layout
from arrayopt.checkpoint.host import DTYPES, Source, real
from arrayopt.checkpoint.layout import BEGIN, DIGITS, Entry
from arrayopt.namespace import Array

__all__ = ["write"]


def write(path: Path, file: Any, content: Any, arrays: Mapping[str, Array]) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : Path
        Where `file` is.
    file : raw binary file
        Empty.
    content : object
        JSON.
    arrays : mapping of str to array
        What it refers to.
    """
    sources = {name: Source(array) for name, array in arrays.items()}
    entries: dict[str, Entry] = {}
    end = 0
    # (whatever the length of the others, numbers lie where their size divides the address)
    for name in sorted(sources, key=lambda name: -real(sources[name].dtype).itemsize):
        source = sources[name]
        begin, end = end, end + source.size * source.dtype.itemsize
        pairs = [2] if source.dtype.kind == "c" else []
        entry = Entry(DTYPES[source.dtype.name], [*source.shape, *pairs], begin, end)
        entry.digests = [0] * len(entry.pieces())
        entries[name] = entry
    start = len(_header(content, entries))
    tasks = [(name, piece) for name, entry in entries.items() for piece in entry.pieces()]

    def work(task: tuple[str, tuple[int, int, int]], _: Any) -> None:
        name, (number, begin, end) = task
        source, entry = sources[name], entries[name]
        size = source.dtype.itemsize
        data = source(begin // size, end // size)
        entry.digests[number] = layout.digest_of(data)
        layout.write_at(file, data, start + entry.begin + begin)

    layout.share_out(tasks, work, end)
    layout.write_at(file, memoryview(_header(content, entries)), 0)
    with layout.require("safetensors").safe_open(path, framework="numpy") as written:
        written.keys()  # (raises if it is not of the format)


def _header(content: Any, entries: Mapping[str, Entry]) -> bytes:
    """The header and its length. It is as long whatever the digests are."""
    digests = {
        name: "".join(f"{digest:016x}" for digest in entry.digests)
        for name, entry in entries.items()
    }
    metadata = {"version": layout.VERSION, "content": content, "xxh3": digests}
    rest = json.dumps({"arrayopt": json.dumps(metadata, allow_nan=False)})[1:]
    table = {
        name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [entry.begin, entry.end]}
        for name, entry in entries.items()
    }
    text = f'",{rest},{json.dumps(table)[1:]}' if table else f'",{rest}}}'
    length = len(BEGIN) + DIGITS + len(text)
    padding = -length % 8
    if length + padding > layout.LONGEST:
        raise ValueError(
            f"expected at most {layout.LONGEST:,} bytes of names and numbers, but got {length:,}; "
            "keep long lists of numbers as arrays"
        )
    before, after = (length + padding).to_bytes(8, "little") + BEGIN, text.encode() + b" " * padding
    return before + hashlib.sha256(before + after).hexdigest().encode() + after
