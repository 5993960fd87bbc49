"""Reading a checkpoint: what is in the file is known to be what was written before it is used."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from arrayopt.checkpoint import layout
from arrayopt.checkpoint.host import DTYPES, at_home, host_dtype, real, view
from arrayopt.checkpoint.layout import BEGIN, DIGITS, PIECE, Entry
from arrayopt.namespace import Array, convert, detach

__all__ = ["Container", "DamagedCheckpoint", "Stored"]


class DamagedCheckpoint(ValueError):  # noqa: N818  (it is what happened that one wants to read)
    """A file is no whole checkpoint: cut short, changed, or something else.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from arrayopt import checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = checkpoint.save(Path(folder) / "run.safetensors", model=[np.ones(2)])
    ...     cut = file.write_bytes(file.read_bytes()[:-1])
    ...     try:
    ...         found = checkpoint.load(file)
    ...     except checkpoint.DamagedCheckpoint:
    ...         print("it has been cut short")
    it has been cut short
    """


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
            self._read_header()
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

    def _read_header(self) -> None:
        size = os.fstat(self._file.fileno()).st_size
        prefix = bytearray(min(8, size))
        self.read_at(memoryview(prefix), 0)
        length = int.from_bytes(prefix, "little")
        if size < 8 or length > min(size - 8, layout.LONGEST):
            raise self.damaged(f"it has {size} bytes, which is not as long as its header should be")
        header = bytearray(length)
        self.read_at(memoryview(header), 8)
        if not header.startswith(BEGIN):
            raise self.damaged("its header does not begin as that of a checkpoint of arrayopt does")
        start = len(BEGIN) + DIGITS
        digest = hashlib.sha256(prefix + header[: len(BEGIN)] + header[start:]).hexdigest()
        if header[len(BEGIN) : start] != digest.encode():
            raise self.damaged("its header has changed since it was written")
        safetensors = layout.require("safetensors")
        try:
            with safetensors.safe_open(self.path, framework="numpy") as file:
                metadata = file.metadata()
                shown = [(name, file.get_slice(name)) for name in file.offset_keys()]
                table = [(name, one.get_dtype(), one.get_shape()) for name, one in shown]
        except safetensors.SafetensorError as error:
            raise self.damaged(str(error)) from error
        if metadata["sha256"] != digest:
            raise self.damaged("another file took its place while it was read")
        content = json.loads(metadata["arrayopt"])
        if content["version"] != layout.VERSION:
            raise ValueError(
                f"{self.path}: expected version {layout.VERSION} of the layout, but got "
                f"{content['version']}; a later arrayopt has written it"
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

        layout.share_out(tasks, work, sum(entry.end - entry.begin for entry in entries))
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
        if layout.digest_of(buffer) != entry.digests[number]:
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
                count = layout.read_some(self._file, buffer, offset)
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
    itemsizes = {code: real(host_dtype(name)).itemsize for name, code in DTYPES.items()}
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
        # (it takes in all of NumPy, which is more than an import of arrayopt should wait for)
        return import_module("array_api_compat.numpy")

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

        layout.share_out(self.entry.pieces(), work, self.entry.end - self.entry.begin)
        self.entry.whole = True
