"""A schedule as a little picture for notebooks, which needs nothing to be installed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["svg"]

WIDTH, HEIGHT, MARGIN, TEXT = 260, 90, 6, 14


def svg(steps: Any, values: Any, present: int) -> str:
    """Curves as SVG, one for each row that differs, in the colour of the text around.

    Parameters
    ----------
    steps : array of shape (n,)
        Increasing.
    values : array of shape (curves, n)
        Those that are not finite are passed over.
    present : int
        The step that is marked by a line.

    Returns
    -------
    str
    """
    rows = np.unique(values, axis=0)
    finite = rows[np.isfinite(rows)]
    top = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    inner = HEIGHT - TEXT - 2 * MARGIN

    def place(step: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * float(step) / max(1.0, float(steps[-1]))

    curves = "".join(
        '<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="'
        + " ".join(
            f"{place(step):.1f},{MARGIN + inner * (1 - value / top):.1f}"
            for step, value in zip(steps, row)
            if np.isfinite(value)
        )
        + '"/>'
        for row in rows
    )
    now, bottom = place(min(present, steps[-1])), MARGIN + inner
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>learning rate, up to {top:.4g}, over {steps[-1]} steps</title>"
        f'<path d="M{MARGIN} {bottom}H{WIDTH - MARGIN}" stroke="currentColor" opacity="0.4"/>'
        f'<path d="M{now:.1f} {MARGIN}V{bottom}" stroke="currentColor" opacity="0.4" '
        f'stroke-dasharray="2 2"/>{curves}'
        f'<text x="{MARGIN}" y="{HEIGHT - 4}" font-size="10" fill="currentColor">lr 0 to {top:.4g}'
        f'</text><text x="{WIDTH - MARGIN}" y="{HEIGHT - 4}" font-size="10" fill="currentColor" '
        f'text-anchor="end">step {steps[-1]}</text></svg>'
    )
