"""What a comparison found out, as a page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from arrayopt.check.chart import ZERO, picture
from arrayopt.check.comparison import written
from arrayopt.check.report import Report
from arrayopt.check.streams import STREAMS
from arrayopt.check.summary import EXPLANATION, Summary, count, number, overview, summaries
from arrayopt.info import versions_text

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f2f4f7; --line: #d5dae1;
  --good: #1a7f37; --bad: #c21f30; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --paper: #14171b; --soft: #1f242b;
  --line: #3a424d; --good: #4cc26a; --bad: #ff7b86; --link: #74b3ff; } }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); }
h2 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
figure { margin: 1rem 0; background: #fff; border-radius: 6px; padding: .5rem; max-width: 46rem; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; white-space: nowrap; }
details td:first-child { white-space: normal; min-width: 12rem; }
thead th { border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) { background: var(--soft); }
.number { text-align: right; }
.ok { color: var(--good); } .out { color: var(--bad); font-weight: 600; }
summary { cursor: pointer; color: var(--link); }
dt { font-weight: 600; } dd { margin: 0 0 .5rem 1rem; }
"""

#: What the columns of the tables of runs mean.
COLUMNS = {
    "difference": "the largest of an element of the parameters or the state after any step, "
    "relative to the largest size that the element had",
    "in": "in the parameters, or in which entry of the state, that was",
    "ULPs": "the distance under which 99 of 100 elements are in the end, in units in the last "
    "place, and the largest at any step (large where a number passes through zero)",
    "first step": "after which a difference was above the bound",
    "error, theirs": "the mean relative errors of both sides against a run in higher precision",
    "lost": "elements that the other side lost to NaN or infinity, and this one did not",
}


def page(report: Report) -> str:
    """The whole page.

    Parameters
    ----------
    report : Report
        What is shown.

    Returns
    -------
    str
        HTML, with styles and pictures in it.
    """
    found = summaries(report.comparisons)
    titles = list(dict.fromkeys(summary.title for summary in found))
    sections = "".join(
        _section(title, [summary for summary in found if summary.title == title])
        for title in titles
    )
    legend = f"<dt>pictures</dt><dd>no difference is drawn as {ZERO:g}</dd>"
    legend += "".join(f"<dt>{name}</dt><dd>{meaning}</dd>" for name, meaning in COLUMNS.items())
    legend += "".join(
        f"<dt>{name} gradients</dt><dd>{kind.summary}</dd>" for name, kind in STREAMS.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Do the optimizers agree?</title><style>{STYLE}</style></head><body>"
        f"<h1>Do the optimizers agree?</h1>"
        f'<p class="{"ok" if report.ok else "out"}" id="verdict">{html.escape(report.verdict)}</p>'
        f"<p>{html.escape(versions_text(report.versions))}</p>"
        f"{_list(report.complaints, 'out')}"
        f"<h2>Overview</h2>{_overview(found)}<p>{html.escape(EXPLANATION)}</p>"
        + (f"<h2>Not compared</h2>{_list(report.lacking)}" if report.lacking else "")
        + f"{sections}<h2>How to read it</h2><dl>{legend}</dl></body></html>\n"
    )


def _list(entries: Sequence[str], kind: str = "") -> str:
    """Texts as a list; nothing if there are none."""
    items = "".join(f"<li>{html.escape(entry)}</li>" for entry in entries)
    look = f' class="{kind}"' if kind else ""
    return f"<ul{look}>{items}</ul>" if items else ""


def _overview(found: Sequence[Summary]) -> str:
    headings, rows = overview(found)
    linked = [
        [
            f'<a href="#{_anchor(title)}">{html.escape(title)}</a>',
            *cells,
            _verdict(summary.ok),
        ]
        for summary, (title, *cells) in zip(found, rows)
    ]
    return _table([*headings, ""], linked, first_number=2)


def _section(title: str, found: Sequence[Summary]) -> str:
    """The curves and all runs of an algorithm."""
    rows = [
        [
            html.escape(written(row.options) or "defaults"),
            row.dtype,
            row.stream,
            row.implementation,
            row.where,
            number(row.difference),
            f"{count(row.typical_ulps)} / {count(row.ulps)}",
            "" if row.first is None else str(row.first),
            number(row.error),
            number(row.their_error),
            str(row.lost or ""),
            _verdict(row.ok),
        ]
        for summary in found
        for row in summary.rows
    ]
    headings = ["options", "dtype", "gradients", "implementation", "in", "difference", "ULPs"]
    headings += ["first step", "error", "theirs", "lost", ""]
    return (
        f'<section id="{_anchor(title)}"><h2>{html.escape(title)}</h2>'
        f"<figure>{picture(found)}</figure>"
        f"<details><summary>{len(rows):,} runs</summary>"
        f"{_table(headings, rows, first_number=5)}</details></section>"
    )


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], first_number: int) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=number' if number >= first_number else ''}>{cell}</{tag}>"
            for number, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", headings)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _verdict(ok: bool) -> str:
    return '<span class="ok">ok</span>' if ok else '<span class="out">out of bounds</span>'


def _anchor(title: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in title)
