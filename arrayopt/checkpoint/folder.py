"""Files that are replaced at once and for good, and folders of numbered ones."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # pragma: no cover  (Windows)
    fcntl = None  # type: ignore[assignment]

__all__ = ["SUFFIX", "is_single", "numbered", "remove_old", "replacing", "target"]

#: The files in a folder: a name, the number of the save, and what ends the name of a single file.
STEM, SUFFIX = "checkpoint", ".safetensors"

_NUMBERED = re.compile(rf"{STEM}-(\d+){re.escape(SUFFIX)}")

#: What ends the name of a file that is being written. It begins with a dot.
_TEMPORARY = ".arrayopt-tmp"


def is_single(path: Path) -> bool:
    """Whether a path is that of a single file, and not of a folder."""
    return path.suffix == SUFFIX and not path.is_dir()


def numbered(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by their numbers, the newest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    found = {int(match[1]): name for name in names if (match := _NUMBERED.fullmatch(name))}
    return {number: folder / found[number] for number in sorted(found, reverse=True)}


def target(path: Path) -> Path:
    """The file that the next save to a path writes; its folder is there then."""
    if is_single(path):
        _make(path.parent)
        return Path(os.path.realpath(path))  # a link stays one
    _make(path)
    return path / f"{STEM}-{max(numbered(path), default=0) + 1:08d}{SUFFIX}"


def remove_old(folder: Path, keep: int, is_whole: Callable[[Path], bool]) -> None:
    """Remove all checkpoints but the newest, of which so many are whole."""
    kept = 0
    for file in numbered(folder).values():
        if kept == keep:
            file.unlink(missing_ok=True)
        elif is_whole(file):
            kept += 1


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[tuple[Path, Any]]:
    """Write a file that takes the place of another one at once, and survives a loss of power.

    Parameters
    ----------
    path : Path
        Where it will be. Whatever happens, there is the old file or the new one, and it is whole.

    Yields
    ------
    path : Path
        Where it is until then.
    file : raw binary file
        Open for writing.
    """
    _remove_abandoned(path.parent)
    temporary, file = _create(path)
    try:
        yield temporary, file
        _sync(file.fileno())
        if fcntl is None:  # pragma: no cover  (Windows renames no open files)
            file.close()
        os.replace(temporary, path)
    except BaseException:
        file.close()
        temporary.unlink(missing_ok=True)
        raise
    finally:
        file.close()
    _sync_folder(path.parent)


def _create(path: Path) -> tuple[Path, Any]:
    """A new file beside another one, locked as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_TEMPORARY}")
        file = open(temporary, "xb", buffering=0)  # noqa: SIM115
        with contextlib.suppress(OSError):  # (not every file system has locks)
            _lock(file, wait=True)
        if fcntl is None or os.fstat(file.fileno()).st_nlink:
            return temporary, file
        file.close()  # somebody took it for abandoned before it was locked


def _lock(file: Any, wait: bool) -> None:
    """Lock a file. Raises an OSError if it is locked by somebody else, and `wait` is False."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes have left half written: their locks are gone with them."""
    for name in os.listdir(folder):
        if name.startswith(".") and name.endswith(_TEMPORARY):
            path = folder / name
            # It is another process's as long as that lives.
            with contextlib.suppress(OSError), open(path, "rb") as file:
                _lock(file, wait=False)
                if fcntl is None:  # Windows removes no file that anybody has open
                    file.close()
                path.unlink()


def _make(folder: Path) -> None:
    """Make a folder, and those above it, to stay."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover  (Windows cannot, and need not)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # pragma: no cover  (macOS, where fsync stops at the disk)
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
