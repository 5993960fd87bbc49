"""Libraries that only some features need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["progress_bar", "require"]


def require(library: str, whose_need: str, extra: str) -> Any:
    """The module of a library.

    Parameters
    ----------
    library : str
        Its name.
    whose_need : str
        What needs it, as ``"checkpoints need"``.
    extra : str
        The extra of arrayopt that installs it.

    Raises
    ------
    ImportError
        If it is not installed; it names the command that installs it.

    Examples
    --------
    >>> require("abacus", "sums need", "sums")
    Traceback (most recent call last):
        ...
    ImportError: sums need abacus: pip install 'arrayopt[sums]'
    """
    try:
        return import_module(library)
    except ImportError as error:
        message = f"{whose_need} {library}: pip install 'arrayopt[{extra}]'"
        raise ImportError(message, name=library) from error


def progress_bar(**settings: Any) -> Any:
    """A bar of tqdm, with the settings that it takes."""
    return require("tqdm", "the progress bar needs", "progress").tqdm(
        dynamic_ncols=True, **settings
    )
