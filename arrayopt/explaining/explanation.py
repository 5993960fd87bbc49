"""`explain`: the rule that trains, as equations, as a program, and as the kernel it becomes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayopt.explaining.expressions import Line, lines
from arrayopt.explaining.reading import read_rule
from arrayopt.explaining.sections import WIDTH, Quotation, RuleSection, references
from arrayopt.namespace import compute_dtype
from arrayopt.optimizer import Optimizer
from arrayopt.options import python_number
from arrayopt.state import StateSlot, slots_for
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
        If a rule branches on elements of an array, asks for shapes (of what is no matrix), or takes
        numbers out of what depends on the step.

    Notes
    -----
    Where the state depends on the shape of a parameter, a class is explained for a matrix, and an
    optimizer for each kind of its parameters.

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
    template = cls([np.zeros((1, 1))], **options) if live is None else live
    return Explanation(cls.__name__, references(cls), tuple(_sections(template, live)))


class _Part(NamedTuple):
    """Parameters of a group that have the same entries of the state: most often, all of them."""

    group: int
    indices: tuple[int, ...]
    params: tuple[Any, ...]
    options: Mapping[str, Any]
    slots: tuple[StateSlot, ...]

    @property
    def dtype(self) -> str:
        """In which precision they are updated."""
        if not self.params:
            return "float32"
        return str(compute_dtype(self.params[0].data)).rpartition(".")[2]

    def next_state(self, optimizer: Optimizer) -> Mapping[str, Any]:
        """The state of one of them in the next step; of an array, only that it is there."""
        entry = next((optimizer.state[p] for p in self.params if optimizer.state.get(p)), {})
        state: dict[str, Any] = {}
        for slot in self.slots:
            if slot.scalar:
                state[slot.name] = python_number(entry.get(slot.name, slot.start(self.options)))
            elif slot.name in entry or slot.initial is not None:
                state[slot.name] = ...
        if "step" in state:
            state["step"] = int(state["step"]) + 1
        return state


def _parts(optimizer: Optimizer) -> Iterator[_Part]:
    for number, group in enumerate(optimizer.param_groups):
        options, slots = optimizer._read(group, number)
        options = {name: python_number(value) for name, value in options.items()}
        alike: dict[tuple[StateSlot, ...], list[int]] = {} if group["params"] else {slots: []}
        for index, param in enumerate(group["params"]):
            alike.setdefault(slots_for(slots, param.data.shape), []).append(index)
        for own, indices in alike.items():
            params = tuple(group["params"][index] for index in indices)
            yield _Part(number, tuple(indices) if len(alike) > 1 else (), params, options, own)


def _sections(optimizer: Optimizer, live: Optimizer | None) -> list[RuleSection | Quotation]:
    """One section for each kind of parameters."""
    kinds: dict[str, list[_Part]] = {}
    for part in _parts(optimizer):
        state = None if live is None else part.next_state(live)
        names = [slot.name for slot in part.slots]
        kinds.setdefault(repr((part.options, state, part.dtype, names)), []).append(part)
    sections: list[RuleSection | Quotation] = []
    for parts in kinds.values():
        first = parts[0]
        heading = _heading(parts) if len(kinds) > 1 else ""
        if not optimizer.has_rule():
            sections.append(Quotation(type(optimizer), heading, first.options))
            continue
        state = None if live is None else first.next_state(live)
        if state is not None and "step" in state:
            heading += f", step {state['step']}"
        dtype = "float32" if live is None else first.dtype
        shapes = {tuple(param.data.shape) for part in parts for param in part.params}
        shape = shapes.pop() if live is not None and len(shapes) == 1 else None
        told = first.options, first.slots, state
        block = read_rule(optimizer, *told, shape)
        sections.append(RuleSection(optimizer, heading, *told, dtype, block))
    return sections


def _heading(parts: Sequence[_Part]) -> str:
    """Which groups they are of, and which parameters, if not all."""

    def listed(what: str, numbers: Sequence[int]) -> str:
        return f", {what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"

    if not any(part.indices for part in parts):
        return listed("group", [part.group for part in parts])
    return "".join(
        listed("group", [part.group]) + (listed("parameter", part.indices) if part.indices else "")
        for part in parts
    )
