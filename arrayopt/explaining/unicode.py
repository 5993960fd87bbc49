r"""A symbol of LaTeX as characters of a terminal.

>>> unicode(r"\hat m_{t}"), unicode(r"\theta_{t-1}"), unicode(r"\prod_{i=1}^{t} \mu_{i}")
('m̂ₜ', 'θₜ₋₁', '∏ᵢ₌₁ᵗ μᵢ')
"""

from __future__ import annotations

import re

from arrayopt.explaining.symbols import GREEK

__all__ = ["superscript", "unicode"]

_SIGNS = {
    **{f"\\{name}": letter for name, letter in GREEK.items()},
    r"\infty": "∞", r"\prod": "∏", r"\sum": "∑", r"\min": "min", r"\max": "max",
    r"\sqrt": "√", r"\ell": "ℓ", r"\nabla": "∇", r"\qquad": "   ", r"\quad": "  ", r"\,": "",
    r"\;": " ", r"\le": "≤", r"\ge": "≥", r"\lVert": "‖", r"\rVert": "‖", r"\cdot": "·",
    r"\times": "×", r"\leftarrow": "←",
}  # fmt: skip
_ACCENTS = {r"\hat": "\N{COMBINING CIRCUMFLEX ACCENT}", r"\bar": "\N{COMBINING MACRON}",
            r"\tilde": "\N{COMBINING TILDE}"}  # fmt: skip
_BELOW = dict(zip("0123456789+-=()aehijklmnoprstuvxβγρφχ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓᵦᵧᵨᵩᵪ"))
_ABOVE = dict(
    zip(
        "0123456789+-=()abcdefghijklmnoprstuvwxyzβγδθφχT",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵝᵞᵟᶿᵠᵡᵀ",
    )
)

#: What stands for an underscore that begins no index.
_UNDERSCORE = "\N{FULLWIDTH LOW LINE}"


def unicode(latex: str) -> str:
    """A symbol of LaTeX as characters."""
    latex = re.sub(r"\\(?:mathrm|text|operatorname)\{((?:\\.|[^{}\\])*)\}", r"\1", latex)
    latex = re.sub(r"\\([#$%&{}])", r"\1", latex.replace(r"\_", _UNDERSCORE))
    latex = re.sub(
        r"(\\hat|\\bar|\\tilde) ?(\\[A-Za-z]+|\w)",
        lambda found: _sign(found[2]) + _ACCENTS[found[1]],
        latex,
    )
    latex = re.sub(r"\\[A-Za-z]+|\\[,;]", lambda found: _sign(found[0]), latex)
    latex = re.sub(r"√\{((?:[^{}]|\{[^{}]*\})*)\}", r"√\1", latex)
    latex = re.sub(
        r"([_^])(?:\{([^{}]*)\}|(\w|∞))",
        lambda found: _script(found[1], found[2] if found[3] is None else found[3]),
        latex,
    )
    return latex.replace("{", "").replace("}", "").replace(_UNDERSCORE, "_")


def superscript(text: str) -> str | None:
    """A text as a superscript, if there are such characters."""
    return _raised(text.replace("−", "-"), _ABOVE)


def _sign(command: str) -> str:
    return _SIGNS.get(command, command.removeprefix("\\"))


def _script(sign: str, content: str) -> str:
    raised = _raised(content.replace(",", ""), _BELOW if sign == "_" else _ABOVE)
    if raised is not None:
        return raised
    return f"{sign}{content}" if len(content) == 1 else f"{sign}({content})"


def _raised(text: str, table: dict[str, str]) -> str | None:
    return "".join(table[sign] for sign in text) if text and set(text) <= table.keys() else None
