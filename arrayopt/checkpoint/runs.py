"""Saving a run, and going on with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arrayopt.checkpoint import folder, parts
from arrayopt.checkpoint.codec import Encoder, decode
from arrayopt.checkpoint.container import Container, DamagedCheckpoint
from arrayopt.checkpoint.layout import require
from arrayopt.checkpoint.writing import write
from arrayopt.options import check_integer

__all__ = ["Checkpoint", "load", "save"]


@dataclass(frozen=True)
class Checkpoint:
    """What `load` has loaded.

    Attributes
    ----------
    path : Path
        The file.
    number : int or None
        Which save of its folder it is, from 1; None if it is a single file.
    extra : object
        What was saved as `extra`; None if nothing was.
    parts : tuple of str
        What else the file has, loaded or not.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(folder, model=[np.ones(2)], extra={"epoch": 3})
    ...     found = load(folder)
    >>> found.number, found.extra, found.parts
    (1, {'epoch': 3}, ('model',))
    """

    path: Path
    number: int | None
    extra: Any = field(repr=False)
    parts: tuple[str, ...]


def save(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    averaged: Any = None,
    extra: Any = None,
    keep: int | None = 3,
) -> Path:
    """Save a run as a safetensors file.

    The file is whole or not there, whatever happens meanwhile: it is written beside its place,
    brought to the disk, and then put there. Older ones are removed after that.

    Parameters
    ----------
    path : path
        A folder, which is made if need be, and in which files are numbered; or a file whose name
        ends in ``.safetensors``, which is replaced.
    model : Module, torch.nn.Module, or list, tuple or dict of arrays, optional
        As an `AveragedModel` takes it.
    optimizer : Optimizer, optional
        One of arrayopt, or of torch.
    scheduler : LRScheduler, optional
        One of arrayopt, or of torch. Functions are not saved; see its ``state_dict``.
    averaged : AveragedModel, optional
        The functions that average are not saved.
    extra : object, optional
        What else the run needs, such as the epoch, or ``rng.bit_generator.state``: None, booleans,
        strings, numbers, arrays, and lists, tuples and dicts of them.
    keep : int or None, default 3
        How many files of a folder are kept, this one included, at least 1; None keeps all. Files
        that have been cut short, or whose header has changed, do not count. A single file is always
        replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ImportError
        If safetensors or xxhash is not installed.
    TypeError, ValueError
        If something cannot be saved, or there is nothing to save.
    OSError
        If the file cannot be written. What was there before still is.

    Notes
    -----
    One process at a time should save to a path. Arrays are not copied, but for a piece of each
    that is not contiguous, or on a device; nothing should write to them until they are saved.

    Numbers come back with their types, to the bit; arrays are of the library that they were of, if
    that is installed, in C order and the byte order of the machine. An array that is there several
    times is saved once.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import arrayopt as optim
    >>> run = tempfile.TemporaryDirectory()
    >>> weights = {"w": np.array([3.0, -2.0])}
    >>> opt = optim.Adam(weights.items(), lr=0.1)
    >>> opt.step(grads=[2 * weights["w"]])
    >>> file = save(run.name, model=weights, optimizer=opt, extra={"epoch": 1})
    >>> file.name
    'checkpoint-00000001.safetensors'
    >>> weights["w"][...] = 0
    >>> load(run.name, model=weights, optimizer=opt).extra
    {'epoch': 1}
    >>> weights["w"].round(6)
    array([ 2.9, -1.9])
    >>> run.cleanup()
    """
    require("safetensors")
    if keep is not None:
        check_integer("keep", keep, 1)
    objects = _given(model, averaged, optimizer, scheduler)
    if not objects and extra is None:
        raise ValueError("there is nothing to save: give a model, an optimizer or something else")
    encoder = Encoder()
    content: dict[str, Any] = {
        part: parts.encode(part, owner, encoder) for part, owner in objects.items()
    }
    content["extra"] = encoder(extra, ("extra",))
    target = folder.target(Path(path))
    with folder.replacing(target) as (temporary, file):
        write(temporary, file, content, encoder.arrays)
    if keep is not None and not folder.is_single(Path(path)):
        folder.remove_old(target.parent, keep, _looks_whole)
    return target


def load(
    path: str | os.PathLike[str],
    *,
    model: Any = None,
    optimizer: Any = None,
    scheduler: Any = None,
    averaged: Any = None,
) -> Checkpoint:
    """Load a run that `save` has saved into objects that are like those of then.

    Nothing in a file is executed. All is checked before anything is changed: that no bit of the
    file has, and that it fits the objects.

    Parameters
    ----------
    path : path
        A folder, of which the newest file that is whole is loaded; or a file.
    model, optimizer, scheduler, averaged : optional
        Into which to load. What is not given is left in the file.

    Returns
    -------
    Checkpoint
        What was loaded from where, and the `extra`.

    Raises
    ------
    ImportError
        If safetensors or xxhash is not installed.
    FileNotFoundError
        If there is no checkpoint.
    DamagedCheckpoint
        If the file, or each file of the folder, is damaged. It is a ValueError.
    ValueError
        If a checkpoint is of another model, optimizer or scheduler, or has none. An older file is
        not looked for then.

    Warns
    -----
    UserWarning
        If files of a folder are passed over because they are damaged.

    Notes
    -----
    Arrays of models are read where they are, and those of an optimizer's state where they will be,
    so that it takes no memory but these. (An optimizer that has a state keeps it until the new one
    is there.) The shapes and dtypes of models have to be the same; those of an optimizer's state
    are up to its ``load_state_dict``. An object of somebody else's class is loaded by its
    ``load_state_dict``, and taken back by it if that or another one fails.

    The arrays of models are read a second time, after all has been checked; if the disk fails just
    then, the error comes when some of them have been written to.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> file = save(folder.name, model={"w": np.array([3.0, -2.0])}, extra=[1, 2])
    >>> weights = {"w": np.zeros(2)}
    >>> load(folder.name, model=weights).extra
    [1, 2]
    >>> weights["w"]
    array([ 3., -2.])

    What is of another model is refused, and nothing is changed:

    >>> load(folder.name, model={"w": np.zeros(3)})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: ... does not fit the model given: w: expected shape (3,), but got (2,)
    >>> folder.cleanup()

    `save` shows how a whole run goes on.
    """
    require("safetensors")
    objects = _given(model, averaged, optimizer, scheduler)
    source = Path(path)
    if not source.is_dir():
        return _load(source, None, objects)
    damages = []
    for number, file in folder.numbered(source).items():
        try:
            loaded = _load(file, number, objects)
        except (DamagedCheckpoint, FileNotFoundError) as error:
            damages.append(str(error))
            continue
        if damages:
            warnings.warn(f"{loaded.path} is loaded, since {'; '.join(damages)}", stacklevel=2)
        return loaded
    if damages:
        raise DamagedCheckpoint(f"no checkpoint is whole: {'; '.join(damages)}")
    raise FileNotFoundError(f"there is no checkpoint in {source}")


def _looks_whole(path: Path) -> bool:
    """Whether header and length are those of a checkpoint; the arrays are not read."""
    try:
        Container(path).close()
    except (DamagedCheckpoint, OSError):
        return False
    return True


def _given(model: Any, averaged: Any, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    """The objects that are given, checked, in the order in which they are loaded."""
    everything = dict(zip(parts.PARTS, (model, averaged, optimizer, scheduler), strict=True))
    given = {part: owner for part, owner in everything.items() if owner is not None}
    for part, owner in given.items():
        parts.check_kind(part, owner)
    return given


def _load(path: Path, number: int | None, objects: Mapping[str, Any]) -> Checkpoint:
    with Container(path) as container:
        content = dict(container.content)
        missing = [part for part in objects if part not in content]
        if missing:
            raise ValueError(
                f"{path} has no {' and no '.join(missing)}; it has {', '.join(content)}"
            )
        plans = [
            parts.plan(part, owner, content[part], container) for part, owner in objects.items()
        ]
        extra = decode(content.pop("extra"), parts.original(container))
        container.check()
        parts.carry_out(plans)
    return Checkpoint(path, number, extra, tuple(content))
