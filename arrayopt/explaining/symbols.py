r"""How names are written: as in the docstrings of the algorithms, which follow the papers.

>>> from arrayopt.explaining.expressions import Symbol
>>> Notation()(Symbol("exp_avg")), Notation()(Symbol("exp_avg", "after"))
('m_{t-1}', 'm_{t}')
>>> Notation()(Symbol("betas", "option", 0)), Notation()(Symbol("my_own", "option"))
('\\beta_{1}', '\\mathrm{my\\_own}')
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from arrayopt.explaining.expressions import Symbol

__all__ = ["GREEK", "Notation", "Written"]

#: How a name is written. In a string, ``@`` stands for the step: ``t-1`` for an entry of the state
#: before it, and ``t`` for all else. In a pair, the entry before and after; in a longer tuple, or
#: for an option, the elements.
Written = str | tuple[str, ...]

GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ",
    "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "chi": "χ", "psi": "ψ",
    "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π",
    "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip

#: What all algorithms call alike; a class says in its `notation` what it calls otherwise.
NAMES: dict[str, Written] = {
    # what a rule is given
    "param": (r"\theta_{t-1}", r"\theta_{t}"),
    "param.shape": ("m", "n"),
    "grad": "g_{t}",
    "step": "t",
    # options
    "lr": r"\gamma",
    "betas": (r"\beta_{1}", r"\beta_{2}"),
    "eps": r"\epsilon",
    "weight_decay": r"\lambda",
    "lr_decay": r"\eta",
    "momentum": r"\mu",
    "dampening": r"\tau",
    "momentum_decay": r"\psi",
    "lambd": r"\lambda_{d}",
    "t0": "t_{0}",
    "etas": (r"\eta^{-}", r"\eta^{+}"),
    "step_sizes": (r"\Delta_{\min}", r"\Delta_{\max}"),
    # state
    "exp_avg": "m_{@}",
    "exp_avg_sq": "v_{@}",
    "max_exp_avg_sq": r"v^{\max}_{@}",
    "exp_inf": "u_{@}",
    "square_avg": "v_{@}",
    "acc_delta": "u_{@}",
    "grad_avg": r"\bar g_{@}",
    "sum": "s_{@}",
    "momentum_buffer": "b_{@}",
    "ax": r"\bar\theta_{@}",
    "mu_product": (r"\prod_{i=1}^{t-1} \mu_{i}", r"\prod_{i=1}^{t} \mu_{i}"),
    "prev": ("g_{t-1}", "g_{t}"),
    # variables
    "bias_correction1": "c_{1,t}",
    "bias_correction2": "c_{2,t}",
    "bias_correction2_sqrt": r"\sqrt{c_{2,t}}",
    "step_size": r"\gamma_{@}",
    "denom": "d_{@}",
    "std": "d_{@}",
    "avg": "d_{@}",
    "variance": r"\tilde v_{@}",
    "delta": r"\Delta_{@}",
    "rho_inf": r"\rho_{\infty}",
    "rect": "r_{t}^{2}",
    "mu_next": r"\mu_{t+1}",
    "grad_step": r"\gamma^{g}_{t}",
    "average_step": r"\gamma^{m}_{t}",
    "agreement": "a_{@}",
}

_TAILS = {"inf": r"\infty", "min": r"\min", "max": r"\max"}
_ACCENTS = {"hat": r"\hat", "bar": r"\bar", "tilde": r"\tilde"}


class Notation:
    """How the symbols of a class are written in LaTeX.

    Parameters
    ----------
    own : mapping, optional
        What the class writes otherwise than `NAMES`.
    """

    def __init__(self, own: Mapping[str, Written] | None = None) -> None:
        self._names = NAMES | dict(own or {})

    def __call__(self, symbol: Symbol) -> str:
        written = self._names.get(symbol.name)
        if symbol.index is not None:
            if isinstance(written, tuple) and symbol.index < len(written):
                return written[symbol.index]
            whole = _own(symbol.name.removesuffix("s"), "")
            return _subscripted(whole, str(symbol.index + 1))
        if isinstance(written, tuple):
            # (a parameter that has decayed, but not moved yet, is that before the step in papers)
            new = symbol.kind == "after" or (symbol.kind != "before" and symbol.name != "param")
            written = written[new]
        if written is None:
            indexed = symbol.kind not in ("option", "constant")
            return _own(symbol.name, "@" if indexed else "").replace("@", _time(symbol))
        return written.replace("@", _time(symbol))


def _time(symbol: Symbol) -> str:
    return "t-1" if symbol.kind == "before" else "t"


def _own(name: str, time: str) -> str:
    """A name of the user's: a Greek or Latin letter, with an accent and indices, or as it is."""
    head, digits = re.fullmatch(r"(.*?)(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    stem, *tails = head.split("_")
    base = "\\" + stem if stem in GREEK else stem if len(stem) == 1 else ""
    if not base or not all(tails):
        escaped = re.sub(r"([_#$%&{}])", r"\\\1", name)
        return _subscripted(rf"\mathrm{{{escaped}}}", time)
    for tail in list(tails):
        if tail in _ACCENTS:
            base = f"{_ACCENTS[tail]} {base}"
            tails.remove(tail)
    indices = [_TAILS.get(t, t if len(t) == 1 else rf"\mathrm{{{t}}}") for t in tails if t != "t"]
    indices += [digits] if digits else []
    return _subscripted(base, ",".join([*indices, time] if time else indices))


def _subscripted(base: str, index: str) -> str:
    return f"{base}_{{{index}}}" if index else base
