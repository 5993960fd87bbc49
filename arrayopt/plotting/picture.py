"""A figure that shows itself in a notebook."""

from __future__ import annotations

import io
from typing import Any

from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from arrayopt.plotting.style import COLORS, STYLES, look

__all__ = ["Picture", "with_palette"]

#: How many colours a picture has. Lines that are smooth at their edges need most of them.
SHADES = 256


class Picture(Figure):
    """A figure that a notebook shows as it is, without pyplot."""

    def add_subplot(self, *args: Any, **kwargs: Any) -> Axes:
        """New axes, whose curves differ in colours and dashes."""
        axes: Axes = super().add_subplot(*args, **kwargs)
        looks = [look(number) for number in range(len(COLORS) * len(STYLES))]
        axes.set_prop_cycle(
            cycler("color", [each["color"] for each in looks])
            + cycler("linestyle", [each["linestyle"] for each in looks])
        )
        return axes

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.draw_without_rendering()  # the layout is settled when it is found anew
        self.savefig(file, format="png", dpi=110, metadata={"Software": None})
        return with_palette(file.getvalue(), SHADES)


def with_palette(png: bytes, shades: int) -> bytes:
    """The same picture with at most so many colours, in a third of the bytes."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        # the default would mix colours that few dots have, such as a marker's; without the means,
        # greys would have a tint
        method, means = Image.Quantize.MAXCOVERAGE, 1
        reduced = image.convert("RGB").quantize(shades, method, means, dither=Image.Dither.NONE)
    reduced.save(file, format="png", optimize=True)
    return file.getvalue()
