"""A schedule as a little picture for notebooks, which needs nothing to be installed."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["shown", "svg"]

WIDTH, HEIGHT, MARGIN, TEXT = 260, 90, 6, 14


def shown(values: Any, points: int) -> Any:
    """Which values a picture of so many points shows: all, or else the extremes of each part.

    A part is as wide as a point or two, so that no swing is lost however fast it is.

    Parameters
    ----------
    values : array of shape (n,)
        NaN is passed over.
    points : int
        How many can be shown, about.

    Returns
    -------
    array of int
        Indices, increasing.
    """
    if len(values) <= points:
        return np.arange(len(values))
    parts = np.array_split(np.arange(len(values)), points // 2)
    low, high = (
        np.where(np.isnan(values), np.inf, values),
        np.where(np.isnan(values), -np.inf, values),
    )
    extremes = [
        part[f(x[part])] for part in parts for f, x in ((np.argmin, low), (np.argmax, high))
    ]
    return np.unique([0, *extremes, len(values) - 1])


def svg(values: Any, present: int) -> str:
    """Curves as SVG, one for each row that differs, in the colour of the text around.

    Parameters
    ----------
    values : array of shape (curves, steps)
        Those that are not finite are passed over.
    present : int
        The step that is marked by a line.

    Returns
    -------
    str
    """
    rows = np.unique(values, axis=0)
    finite = rows[np.isfinite(rows)]
    low, high = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    last, inner = rows.shape[1] - 1, HEIGHT - TEXT - 2 * MARGIN

    def across(step: Any) -> Any:
        return MARGIN + (WIDTH - 2 * MARGIN) * step / max(1, last)

    def down(value: Any) -> Any:
        return MARGIN + inner * (high - value) / (high - low or 1.0)

    curves = "".join(
        '<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="'
        + " ".join(
            f"{across(step):.1f},{down(row[step]):.1f}"
            for step in shown(row, 2 * WIDTH)
            if np.isfinite(row[step])
        )
        + '"/>'
        for row in rows
    )
    now, zero = across(min(present, last)), down(0.0)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>learning rate, {low:.4g} to {high:.4g}, at steps 0 to {last}</title>"
        f'<path d="M{MARGIN} {zero:.1f}H{WIDTH - MARGIN}" stroke="currentColor" opacity="0.4"/>'
        f'<path d="M{now:.1f} {MARGIN}V{MARGIN + inner}" stroke="currentColor" opacity="0.4" '
        f'stroke-dasharray="2 2"/>{curves}'
        f'<text x="{MARGIN}" y="{HEIGHT - 4}" font-size="10" fill="currentColor">'
        f'lr {low:.4g} to {high:.4g}</text><text x="{WIDTH - MARGIN}" y="{HEIGHT - 4}" '
        f'font-size="10" fill="currentColor" text-anchor="end">step {last}</text></svg>'
    )
