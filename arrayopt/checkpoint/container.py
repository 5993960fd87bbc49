"""A checkpoint as a safetensors file: written in pieces, each with a digest, and read so.

The format is eight bytes that tell the length of the header, the header, which is JSON, and the
data. Ours begins with the SHA-256 of the rest of the header, which holds the XXH3 of every piece of
the data, so that no bit of the file can change unnoticed. (XXH3 is as fast as memory; CRC-32 would
take longer than reading does.)

The writer is our own, since the library's takes the addresses of all arrays at once: those that are
not contiguous, or on a device, would have to be copied before, and the digests be made in a pass of
their own. Whether what is written is a file of the format, the library is asked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import array_api_compat.numpy
import numpy as np

from arrayopt.checkpoint.host import DTYPES, INSTALL, Source, at_home, host_dtype, view
from arrayopt.namespace import Array, convert, detach
from arrayopt.threads import get_num_threads, run_parallel

__all__ = ["Container", "DamagedCheckpoint", "Stored", "require", "write"]

#: How many bytes a digest covers: they stay in the cache of a core while they are looked at.
PIECE = 1 << 20

#: The longest header that the library reads.
LONGEST = 100_000_000

#: What a header begins with, and the digits that follow.
BEGIN, DIGITS = b'{"__metadata__":{"sha256":"', 64

#: Which layout of the metadata this is.
VERSION = 1


class DamagedCheckpoint(ValueError):  # noqa: N818  (it is what happened that one wants to read)
    """A file is no whole checkpoint: cut short, changed, or something else."""


def require(library: str) -> Any:
    """A library that checkpoints need: safetensors, or xxhash.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise ImportError(f"checkpoints need {library}: {INSTALL}") from error


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


# Writing


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
    for name in sorted(sources, key=lambda name: -_real(sources[name].dtype).itemsize):
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
        entry.digests[number] = digest_of(data)
        _write_at(file, data, start + entry.begin + begin)

    _share(tasks, work, end)
    _write_at(file, memoryview(_header(content, entries)), 0)
    with require("safetensors").safe_open(path, framework="numpy") as written:
        written.keys()  # (raises if it is not of the format)


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype


def _header(content: Any, entries: Mapping[str, Entry]) -> bytes:
    """The header and its length. It is as long whatever the digests are."""
    digests = {
        name: "".join(f"{digest:016x}" for digest in entry.digests)
        for name, entry in entries.items()
    }
    metadata = {"version": VERSION, "content": content, "xxh3": digests}
    rest = json.dumps({"arrayopt": json.dumps(metadata, allow_nan=False)})[1:]
    table = {
        name: {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [entry.begin, entry.end]}
        for name, entry in entries.items()
    }
    text = f'",{rest},{json.dumps(table)[1:]}' if table else f'",{rest}}}'
    length = len(BEGIN) + DIGITS + len(text)
    padding = -length % 8
    if length + padding > LONGEST:
        raise ValueError(
            f"expected at most {LONGEST:,} bytes of names and numbers, but got {length:,}; keep "
            "long lists of numbers as arrays"
        )
    before, after = (length + padding).to_bytes(8, "little") + BEGIN, text.encode() + b" " * padding
    return before + hashlib.sha256(before + after).hexdigest().encode() + after


# Reading


class Container:
    """A checkpoint that is open for reading; its header is whole.

    Parameters
    ----------
    path : Path
        A file.

    Attributes
    ----------
    content : object
        The JSON that was written.

    Raises
    ------
    DamagedCheckpoint
        If it is none, or its header or length is not as it was.
    ValueError
        If a later version of arrayopt has written it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        try:
            self._read_header(path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def damaged(self, why: str) -> DamagedCheckpoint:
        """The error that the file is damaged."""
        return DamagedCheckpoint(f"{self.path} is no whole checkpoint: {why}")

    def _read_header(self, path: Path) -> None:
        size = os.fstat(self._file.fileno()).st_size
        prefix = bytearray(min(8, size))
        self.read_at(memoryview(prefix), 0)
        length = int.from_bytes(prefix, "little")
        if size < 8 or length > min(size - 8, LONGEST):
            raise self.damaged(f"it has {size} bytes, which is not as long as its header should be")
        header = bytearray(length)
        self.read_at(memoryview(header), 8)
        if not header.startswith(BEGIN):
            raise self.damaged("its header does not begin as that of a checkpoint of arrayopt does")
        start = len(BEGIN) + DIGITS
        digest = hashlib.sha256(prefix + header[: len(BEGIN)] + header[start:]).hexdigest()
        if header[len(BEGIN) : start] != digest.encode():
            raise self.damaged("its header has changed since it was written")
        safetensors = require("safetensors")
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                shown = [(name, file.get_slice(name)) for name in file.offset_keys()]
                table = [(name, one.get_dtype(), one.get_shape()) for name, one in shown]
        except safetensors.SafetensorError as error:
            raise self.damaged(str(error)) from error
        if metadata["sha256"] != digest:
            raise self.damaged("another file took its place while it was read")
        content = json.loads(metadata["arrayopt"])
        if content["version"] != VERSION:
            raise ValueError(
                f"{path}: expected version {VERSION} of the layout, but got {content['version']}; "
                "a later arrayopt has written it"
            )
        self.content = content["content"]
        self._start = 8 + length
        self._entries = _entries(table, content["xxh3"])

    def stored(self, name: str, dtype: str, library: str) -> Stored:
        """An array, left in the file."""
        return Stored(self, self._entries[name], dtype, library)

    def check(self) -> None:
        """Look at the digests of all arrays that have not been looked at.

        Raises
        ------
        DamagedCheckpoint
        """
        self.look([entry for entry in self._entries.values() if not entry.whole])

    def look(self, entries: Iterable[Entry]) -> None:
        """Look at the digests of arrays, and keep nothing."""
        entries = [*entries]
        tasks = [(entry, piece) for entry in entries for piece in entry.pieces()]

        def work(task: tuple[Entry, tuple[int, int, int]], scratch: memoryview) -> None:
            entry, (number, begin, end) = task
            self.read_piece(entry, number, scratch[: end - begin])

        _share(tasks, work, sum(entry.end - entry.begin for entry in entries))
        for entry in entries:
            entry.whole = True

    def read_piece(self, entry: Entry, number: int, buffer: memoryview) -> None:
        """Read a piece, and compare its digest.

        Raises
        ------
        DamagedCheckpoint
            If it is not what was written.
        """
        self.read_at(buffer, self._start + entry.begin + number * PIECE)
        if digest_of(buffer) != entry.digests[number]:
            name = next(name for name, each in self._entries.items() if each is entry)
            raise self.damaged(f"{name} has changed since it was written")

    def read_at(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer.

        Raises
        ------
        DamagedCheckpoint
            If the file ends before, or the disk cannot read it.
        """
        try:
            while buffer:
                count = _read_at(self._file, buffer, offset)
                if not count:
                    raise self.damaged("it was cut short")
                buffer, offset = buffer[count:], offset + count
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise self.damaged(f"the disk cannot read it ({error})") from error


def _entries(
    table: Iterable[tuple[str, str, list[int]]], digests: Mapping[str, str]
) -> dict[str, Entry]:
    """Where the arrays are: one after the other, without gaps, as the library has checked."""
    itemsizes = {code: _real(host_dtype(name)).itemsize for name, code in DTYPES.items()}
    entries = {}
    end = 0
    for name, dtype, shape in table:
        begin, end = end, end + math.prod(shape) * itemsizes[dtype]
        words = (digests[name][at : at + 16] for at in range(0, len(digests[name]), 16))
        entries[name] = Entry(dtype, shape, begin, end, [int(word, 16) for word in words])
    return entries


class Stored:
    """An array in a file, which can stand where an array is only to be looked at and copied.

    Parameters
    ----------
    container : Container
        The file, open as long as this is used.
    entry : Entry
        Where in it.
    dtype : str
        What dtype it had.
    library : str
        What library it was of.
    """

    device = "cpu"

    def __init__(self, container: Container, entry: Entry, dtype: str, library: str) -> None:
        self.container = container
        self.entry = entry
        self.dtype = host_dtype(dtype)
        self.shape = tuple(entry.shape[:-1] if self.dtype.kind == "c" else entry.shape)
        self.library = library

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return array_api_compat.numpy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.read()
        return array if dtype is None else array.astype(dtype, copy=False)

    def astype(self, dtype: Any, copy: bool = True) -> np.ndarray[Any, Any]:
        """A new array of some dtype."""
        return self.read().astype(dtype, copy=False)

    def __deepcopy__(self, memo: Any) -> Array:
        return self.original()

    def original(self) -> Array:
        """A new array of the library that it was of, if that is installed."""
        return at_home(self.read(), self.library)

    def read(self) -> np.ndarray[Any, Any]:
        """A new NumPy array.

        Raises
        ------
        DamagedCheckpoint
        """
        array: np.ndarray[Any, Any] = np.empty(self.shape, self.dtype)
        self.read_into(array)
        return array

    def read_into(self, array: Array) -> None:
        """Write it into an array of the same shape, of any library, without a copy if it can be.

        Raises
        ------
        DamagedCheckpoint
        """
        target = view(array)
        if target is None:
            detach(array)[...] = convert(self.read(), array)
            return
        direct = target.flags.c_contiguous and target.dtype == self.dtype
        place = target.reshape(-1).view(np.uint8).data if direct else None
        size = self.dtype.itemsize

        def work(piece: tuple[int, int, int], scratch: memoryview) -> None:
            number, begin, end = piece
            buffer = scratch[: end - begin] if place is None else place[begin:end]
            self.container.read_piece(self.entry, number, buffer)
            if place is None:
                target.flat[begin // size : end // size] = np.frombuffer(buffer, self.dtype)

        _share(self.entry.pieces(), work, self.entry.end - self.entry.begin)
        self.entry.whole = True


# Both


def _share(tasks: Iterable[Any], work: Callable[[Any, memoryview], None], size: int) -> None:
    """Call ``work(task, scratch)`` for each task, on as many threads as `size` bytes are worth."""
    queue = iter([*tasks])  # (next on it is atomic)

    def share() -> None:
        scratch = np.empty(PIECE, np.uint8).data
        for task in queue:
            work(task, scratch)

    run_parallel(share, min(get_num_threads(), 1 + size // PIECE))


def _write_at(file: Any, data: memoryview, offset: int) -> None:
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


def _read_at(file: Any, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    with _seeking:
        file.seek(offset)
        return int(file.readinto(buffer))
