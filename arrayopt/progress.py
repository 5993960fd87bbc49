"""A bar that shows how far something has come."""

from __future__ import annotations

from typing import Any

__all__ = ["progress_bar"]


def progress_bar(**settings: Any) -> Any:
    """A bar of tqdm, with the settings that it takes.

    Raises
    ------
    ImportError
        If tqdm is not installed; it names the command that installs it.
    """
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            "the progress bar needs tqdm: pip install 'arrayopt[progress]'"
        ) from error
    return tqdm(dynamic_ncols=True, **settings)
