"""A figure that shows itself in a notebook."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["Picture"]


class Picture(Figure):
    """A figure that a notebook shows as it is, without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.draw_without_rendering()  # the layout is settled when it is found anew
        self.savefig(file, format="png", dpi=110, metadata={"Software": None})
        return file.getvalue()
