"""`explain`: the rule that trains, as equations, as a program, and as the kernel it becomes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from arrayopt.explaining.expressions import Line, lines
from arrayopt.explaining.reading import read_rule
from arrayopt.explaining.sections import WIDTH, Quotation, RuleSection, references
from arrayopt.namespace import compute_dtype
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.wording import counted

__all__ = ["Explanation", "explain"]


class Explanation:
    """What an optimizer computes; `explain` makes it.

    A notebook shows it as equations with their symbols, and ``print`` as text.

    Attributes
    ----------
    title : str
        The name of the class.
    references : str
        The papers that its docstring lists, and what is different there.
    sections : tuple
        One for each kind of groups; of a class, there is one.

    Examples
    --------
    >>> import arrayopt
    >>> explanation = arrayopt.explain(arrayopt.SGD, weight_decay=0.1)
    >>> [line.name for line in explanation.lines]
    ['grad', 'param']
    >>> for line in explanation.text.splitlines()[2:4]:
    ...     print(line)
    gₜ ← gₜ + λ·θₜ₋₁
    θₜ = θₜ₋₁ − γ·gₜ
    """

    def __init__(self, title: str, references: str, sections: tuple[Any, ...]) -> None:
        self.title = title
        self.references = references
        self.sections = sections

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines of the rule, of all branches: pairs of `name` and `expression`.

        Expressions are exactly what the rule computes (``latex`` and ``text`` write an average
        as papers do).
        """
        return tuple(line for section in self.sections for line in lines(section.block))

    @property
    def latex(self) -> str:
        """Aligned equations in LaTeX, for each kind of groups."""
        return "\n".join(section.latex for section in self.sections)

    @property
    def text(self) -> str:
        """The equations in the characters of a terminal, and what they are taken from."""
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        for section in self.sections:
            yield f"{self.title}{section.heading}"
            yield ""
            yield section.text
            yield ""
        if self.references:
            yield textwrap.fill(self.references, WIDTH)

    @property
    def python(self) -> str:
        """The program: a function of Python that computes the same, to the bit.

        Raises
        ------
        TypeError
            If the algorithm has a step of its own, and no rule.
        """
        return self._each(lambda section: section.python)

    @property
    def numba(self) -> str:
        """The source of the kernel that Numba compiles.

        Of a class, it is that of single precision and of a step far from the first one.

        Raises
        ------
        ImportError
            If Numba is not installed.
        TraceError
            If the rule cannot be fused.
        TypeError
            If the algorithm has a step of its own, and no rule.
        """
        return self._each(lambda section: section.source("numba"))

    @property
    def cuda(self) -> str:
        """The source of the kernel for CUDA.

        Raises
        ------
        ImportError, RuntimeError
            If there is no backend that makes one.
        TraceError
            If the rule cannot be fused.
        TypeError
            If the algorithm has a step of its own, and no rule.
        """
        return self._each(lambda section: section.source("cuda"))

    def _each(self, part: Any) -> str:
        if len(self.sections) == 1:
            return str(part(self.sections[0]))
        return "\n".join(f"# {self.title}{s.heading}\n{part(s)}" for s in self.sections)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Explanation of {self.title}: {counted(len(self.lines), 'line')}>"

    def _repr_markdown_(self) -> str:
        parts = []
        for section in self.sections:
            heading = f"**{self.title}**{section.heading}\n\n" if section.heading else ""
            parts.append(f"{heading}{section.markdown}")
        return "\n\n".join(parts)


def explain(optimizer: type[Optimizer] | Optimizer, **options: Any) -> Explanation:
    r"""Explain what an optimizer computes.

    Its own rule is run, on symbols: the equations are those of the code that trains. Each variable
    of the rule is a line. Branches are those of the options; where the step decides, a class shows
    both ways, and an optimizer the one that its next step takes. An algorithm that has a step of
    its own, as LBFGS has, shows the equations of its docstring, as they are under the options.

    Parameters
    ----------
    optimizer : type or Optimizer
        An algorithm, or an optimizer, whose groups and state are looked at.
    **options
        Hyperparameters, as the constructor of the class takes them.

    Returns
    -------
    Explanation
        With ``text``, ``latex``, ``python``, ``numba``, ``cuda`` and ``lines``.

    Raises
    ------
    TypeError
        If it is no optimizer, or options are given beside an optimizer that has its own.
    ValueError, RuntimeError
        If an option is refused by the constructor.
    TraceError
        If a rule branches on elements of an array, asks for shapes, or takes numbers out of what
        depends on the step.

    Notes
    -----
    A time index t-1 stands at what is there before a step. A new value that takes the name of an
    old one is marked by an arrow. Greek letters and indices are those of the docstrings; a class
    of one's own says in `notation` how its names are written.

    Examples
    --------
    >>> import arrayopt as optim
    >>> explanation = explain(optim.SGD, weight_decay=0.1)
    >>> print(explanation.latex)
    \begin{aligned}
    g_{t} &\leftarrow g_{t} + \lambda \theta_{t-1} \\
    \theta_{t} &= \theta_{t-1} - \gamma g_{t}
    \end{aligned}
    >>> print(explanation.python)
    def sgd(xp, param, grad, state, group):
        grad = grad + group["weight_decay"] * param
        param = param - group["lr"] * grad
        return param, {}
    <BLANKLINE>
    """
    live = None if isinstance(optimizer, type) else optimizer
    cls = optimizer if isinstance(optimizer, type) else type(optimizer)
    if not issubclass(cls, Optimizer):
        raise TypeError(
            f"expected a subclass of Optimizer, or an optimizer, but got {cls.__name__}"
        )
    if cls is Optimizer:
        raise TypeError("Optimizer is the base class and has no rule: expected a subclass")
    if live is not None and options:
        raise TypeError(
            f"an optimizer is explained with its own options, but got {sorted(options)}; pass "
            f"the class to explain others: explain({cls.__name__}, ...)"
        )
    template = cls([np.zeros(1)], **options) if live is None else live
    return Explanation(cls.__name__, references(cls), tuple(_sections(template, live)))


def _sections(optimizer: Optimizer, live: Optimizer | None) -> list[RuleSection | Quotation]:
    """One section for each kind of groups."""
    kinds: dict[str, list[int]] = {}
    for number, group in enumerate(optimizer.param_groups):
        reading = optimizer._read(group, number)
        kind = repr((dict(reading.options), _state(live, number), _dtype(group)))
        kinds.setdefault(kind, []).append(number)
    sections: list[RuleSection | Quotation] = []
    for numbers in kinds.values():
        group = optimizer.param_groups[numbers[0]]
        options, slots = optimizer._read(group, numbers[0])
        options = {name: python_number(value) for name, value in options.items()}
        heading = f", group{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        heading = heading if len(kinds) > 1 else ""
        if not optimizer.has_rule():
            sections.append(Quotation(type(optimizer), heading, options))
            continue
        state = _state(live, numbers[0])
        if state is not None and "step" in state:
            heading += f", step {state['step']}"
        dtype = "float32" if live is None else _dtype(group)
        block = read_rule(optimizer, options, slots, state)
        sections.append(RuleSection(optimizer, heading, options, slots, state, dtype, block))
    return sections


def _state(live: Optimizer | None, number: int) -> Mapping[str, Any] | None:
    """The state of the first parameter of a group in the next step.

    Of an array, it only tells that it is there.
    """
    if live is None:
        return None
    options, slots = live._read(live.param_groups[number], number)
    params = live.param_groups[number]["params"]
    entry = next((live.state[p] for p in params if live.state.get(p)), {})
    state: dict[str, Any] = {}
    for slot in slots:
        if slot.scalar:
            state[slot.name] = python_number(entry.get(slot.name, slot.start(options)))
        elif slot.name in entry or slot.initial is not None:
            state[slot.name] = ...
    if "step" in state:
        state["step"] = int(state["step"]) + 1
    return state


def _dtype(group: Mapping[str, Any]) -> str:
    """In which precision a group is updated."""
    params = group["params"]
    return str(compute_dtype(params[0].data)).rpartition(".")[2] if params else "float32"
