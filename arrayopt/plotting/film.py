"""An animation that can be shown in a notebook and saved as a GIF."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from matplotlib.animation import FuncAnimation, HTMLWriter, PillowWriter, writers
from matplotlib.figure import Figure

from arrayopt.plotting.picture import with_palette

__all__ = ["Film"]

#: Dots per inch (a figure of 9 inches is 810 dots wide), and how many colours a frame has.
DPI, SHADES = 90, 128


class _Frames(HTMLWriter):
    """Frames within HTML, as PNG with a palette."""

    def grab_frame(self, **settings: Any) -> None:
        super().grab_frame(**settings)  # type: ignore[no-untyped-call]
        frames = self._saved_frames  # type: ignore[attr-defined]
        png = with_palette(base64.b64decode(frames[-1]), SHADES)
        frames[-1] = base64.encodebytes(png).decode()


class Film(FuncAnimation):
    """An animation of matplotlib that a notebook shows as it is.

    Parameters
    ----------
    figure : matplotlib Figure
        What is animated.
    draw : callable
        Draws one frame.
    frames : sequence of int
        With what `draw` is called.
    fps : int
        Frames per second.
    """

    _frames: str | None

    def __init__(
        self, figure: Figure, draw: Callable[[int], Any], frames: Sequence[int], fps: int
    ) -> None:
        self.fps, self._frames = fps, None
        super().__init__(
            figure, draw, frames=list(frames), interval=1000 / fps, cache_frame_data=False
        )
        self._draw_was_started = True  # one that is never shown is no mistake to be warned of

    @property
    def html5_kind(self) -> Literal["video", "frames"]:
        """What `to_html5` makes: a video where ffmpeg is installed, or else single frames."""
        return "video" if writers.is_available("ffmpeg") else "frames"

    def to_html5(self) -> str:
        """The animation as HTML that needs no other file.

        Returns
        -------
        str
            A ``<video>``, or, where ffmpeg is not installed, frames as PNG with buttons and a
            little JavaScript, as `to_jshtml` makes them, with frames of a third of the size.
            `html5_kind` tells which.
        """
        if self.html5_kind == "video":
            return str(self.to_html5_video())
        if self._frames is None:
            with TemporaryDirectory() as folder:
                file = Path(folder, "film.html")
                writer = _Frames(fps=self.fps, embed_frames=True, default_mode="loop")
                self.save(file, writer=writer, dpi=DPI)
                self._frames = file.read_text()
        return self._frames

    def to_gif(self, path: str | Path) -> Path:
        """Write a GIF, by Pillow, which comes with matplotlib.

        Parameters
        ----------
        path : str or Path
            The file, written over if it exists.

        Returns
        -------
        Path

        Raises
        ------
        ValueError
            If the name does not end in ``.gif``.
        OSError
            If the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".gif":
            raise ValueError(f"path: expected a file that ends in .gif, but got {str(path)!r}")
        self.save(path, writer=PillowWriter(fps=self.fps), dpi=DPI)
        return path

    def _repr_html_(self) -> str:
        return self.to_html5()
