"""What a backend is, and how the optimizer finds one.

A backend is a module that holds executors. An `Executor` takes a `Batch` (parameters of one
group, of one dtype and device, at the same step) and carries out its rule. The core imports no
backend: it finds them here by name, the built-in ones in `BUILTIN` and anybody else's through the
entry-point group ``arrayopt.backends``, whose entries name an `Executor` subclass.

To write one, subclass `Executor`; :mod:`arrayopt.backends.array_api` is the shortest example.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from arrayopt.namespace import Array
from arrayopt.trace import Formula, Program, Rule, Structure, code_of, formula, trace

__all__ = [
    "Batch",
    "Executor",
    "Guard",
    "Implementation",
    "Plan",
    "PlanningExecutor",
    "available",
    "find",
    "source",
]

Implementation = Literal["for-loop", "foreach", "fused"]

#: Where the built-in executors are, by name.
BUILTIN = {
    "array_api": "arrayopt.backends.array_api:ForLoop",
    "numpy_blocked": "arrayopt.backends.numpy_blocked:NumPyBlocked",
    "numba_fused": "arrayopt.backends.numba_fused:NumbaFused",
    "cupy_packed": "arrayopt.backends.cupy_packed:CuPyPacked",
    "cupy_fused": "arrayopt.backends.cupy_fused:CuPyFused",
}
#: The extras that bring what a built-in backend needs.
EXTRAS = {"numba_fused": "numba"}
#: The built-in backends that print kernels, by the language.
PRINTERS = {"numba": "numba_fused", "cuda": "cupy_fused"}
#: The group of entry points that name the executors of others.
ENTRY_POINTS = "arrayopt.backends"
#: The implementations, the fastest first.
SPEED: tuple[Implementation, ...] = ("fused", "foreach", "for-loop")

#: How many formulas a batch makes, at most: a rule may take another branch every other step.
FORMULAS = 8


class Guard(NamedTuple):
    """What only the device knows of a step: arrays of shape (1,), float32, beside its batch.

    Attributes
    ----------
    found_inf : array
        The step changes nothing unless this is zero.
    grad_scale : array
        What gradients are divided by.

    Examples
    --------
    Of a step that is taken, with gradients that are 1024 times too large:

    >>> import numpy as np
    >>> guard = Guard(found_inf=np.zeros(1, np.float32), grad_scale=np.full(1, 1024, np.float32))
    >>> bool(guard.found_inf[0] == 0)
    True
    """

    found_inf: Array
    grad_scale: Array


@dataclass(slots=True)
class Batch:
    """Parameters that take the same step: one group, dtype, device, state layout and step count.

    Attributes
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    group : mapping
        The hyperparameters of the group as Python numbers.
    params : list
        The parameter objects, whose ``.data`` an executor rebinds if it cannot write in place.
    arrays, grads : list of array
        Their data and gradients. Gradients are never written to. They may differ from the data in
        dtype (to be cast) and in layout, not in shape.
    states : dict of str to list of array
        The state arrays, aligned with `params`. An executor updates them in place, or replaces
        the elements of the lists, and adds the entries that the rule returns for the first time.
    scalars : dict of str to number
        The state that is plain numbers. Updated from what the rule returns.
    rebind : bool
        Whether the data and state are to be rebound to new arrays instead of written to.
    memo : dict
        For executors, each under its name, to keep what does not change while the batch is stepped
        again with the same `arrays` and `states`.
    formula : Formula, optional
        The programs of the next steps.
    traced : int
        How often the rule has been traced.
    prepared : dict of str to Structure
        What executors, by their names, have been prepared for.
    guard : Guard, optional
        What the device is to look at in this step.

    Examples
    --------
    A step by hand, of what the optimizer would do with it:

    >>> import numpy as np
    >>> import arrayopt
    >>> w = np.array([3.0, -2.0])
    >>> opt = arrayopt.SGD([w], lr=0.25)
    >>> batch = Batch(
    ...     rule=opt.rule, group=opt.param_groups[0], params=opt.param_groups[0]["params"],
    ...     arrays=[w], grads=[np.array([4.0, 4.0])], states={}, scalars={},
    ... )
    >>> executor = find(w)
    >>> executor.run(batch, executor.prepare(batch))
    >>> w
    array([ 2., -3.])
    """

    rule: Rule
    group: Mapping[str, Any]
    params: list[Any]
    arrays: list[Array]
    grads: list[Array]
    states: dict[str, list[Array]]
    scalars: dict[str, Any]
    rebind: bool = False
    memo: dict[str, Any] = field(default_factory=dict)
    formula: Formula | None = None
    traced: int = 0
    prepared: dict[str, Structure] = field(default_factory=dict)
    guard: Guard | None = None

    def trace(self) -> Program:
        """The program of this step.

        A batch that is stepped again makes a formula of its rule, and then need not run it.
        """
        if self.formula is not None and self.formula.code is code_of(self.rule):
            program = self.formula.program(self.scalars, self.group)
            if program is not None:
                return program
        arguments = (self.rule, tuple(self.states), self.scalars, self.group)
        program = trace(*arguments)
        self.traced += 1
        if 1 < self.traced <= 1 + FORMULAS:
            self.formula = formula(*arguments)
        return program


class Executor(ABC):
    """One way to carry out a rule.

    Attributes
    ----------
    name : str
        How it is called in `Optimizer.implementation` and by ``python -m arrayopt info``.
    implementation : {"for-loop", "foreach", "fused"}
        Which of torch's three implementations it stands for.
    traces : bool
        Whether it runs the program of a rule. If not, it runs the rule itself.
    language : str
        What its kernels are written in, such as "numba" or "cuda", if it can print them.
    guards : bool
        Whether `run` looks at the guard of a batch. If not, that is done around it.
    captures : bool
        Whether its steps can be captured in a CUDA graph; see `capture`.

    Examples
    --------
    One that takes nothing away and gives nothing: it lets the for-loop do the work, and counts.

    >>> import numpy as np
    >>> from arrayopt.backends.array_api import ForLoop
    >>> class Counting(ForLoop):
    ...     name = "counting"
    ...     runs = 0
    ...
    ...     def run(self, batch, program=None):
    ...         self.runs += 1
    ...         super().run(batch, program)
    >>> Counting().accepts(np.zeros(3)), Counting().implementation
    (True, 'for-loop')
    """

    name: ClassVar[str]
    implementation: ClassVar[Implementation]
    traces: ClassVar[bool] = True
    language: ClassVar[str] = ""
    guards: ClassVar[bool] = False
    captures: ClassVar[bool] = False

    @abstractmethod
    def accepts(self, array: Array) -> bool:
        """Whether parameters like `array` can be updated here."""

    def declines(self, array: Array) -> str:
        """Why an array is left to a slower executor, although others of its library are taken.

        Empty if it is taken, and if it is of another library.
        """
        return ""

    def trouble(self) -> str:
        """What is missing for this executor to work here, such as a driver.

        Empty if nothing is. To find out may take a while: it is asked for messages alone.
        """
        return ""

    @abstractmethod
    def allocate(self, arrays: Sequence[Array], fill: float | None) -> list[Array]:
        """New arrays like `arrays`, filled with `fill` (both parts, if they are complex).

        If it is None, they will be written to before they are read.
        """

    def prepare(self, batch: Batch) -> Program | None:
        """Do all that can fail, and change nothing that the user sees.

        This traces the rule, and allocates the state that the program makes.
        """
        program = batch.trace()
        if batch.prepared.get(self.name) is not program.structure:
            self.check(program.structure)
            self.compile(program.structure, batch)
            for name, _ in program.structure.outputs:
                if name != "param" and name not in batch.states:
                    batch.states[name] = self.allocate(batch.arrays, 0.0)
                    batch.formula = None  # the rule sees that the state is there
            batch.prepared[self.name] = program.structure
        return program

    def check(self, structure: Structure) -> None:
        """Raise if programs of that structure cannot be run here.

        Raises
        ------
        TraceError
            The next executor is asked then, if the user has not asked for this one.
        """
        return

    def compile(self, structure: Structure, batch: Batch) -> None:
        """Make what `run` needs for a structure that `batch` did not have in the last step."""
        return

    def source(self, structure: Structure, dtype: str) -> str:
        """The text of the kernel that programs of `structure` become.

        Parameters
        ----------
        structure : Structure
        dtype : {"float32", "float64"}
            In which precision it computes.

        Raises
        ------
        TraceError
            If there is no such kernel.
        """
        raise NotImplementedError(f"{self.name} prints no kernels")

    @abstractmethod
    def run(self, batch: Batch, program: Program | None) -> None:
        """Update data and state of `batch`."""

    def capture(self, batch: Batch, program: Program) -> None:
        """Launch the same on a stream that is capturing, with numbers that `renew` can replace.

        What the graph reads is kept as long as the executor keeps anything of the batch.

        Raises
        ------
        RuntimeError
            If that cannot be done.
        """
        raise NotImplementedError(f"{self.name} cannot be captured")

    def renew(self, batch: Batch, program: Program) -> None:
        """Let the next replay of what was captured take the numbers of `program`."""
        raise NotImplementedError(f"{self.name} cannot be captured")


class Plan(Protocol):
    """How the programs of one structure are run on the arrays of one batch.

    Attributes
    ----------
    structure : Structure
        That of the programs.

    Examples
    --------
    One that looks up once what the operations are, for a single array without state:

    >>> import numpy as np
    >>> class Lookup:
    ...     def __init__(self, structure, batch):
    ...         self.structure = structure
    ...         self.functions = [getattr(np, name) for name, _ in structure.operations]
    ...
    ...     def run(self, batch, program):
    ...         values = [batch.arrays[0], batch.grads[0]]
    ...         for function, (_, operands) in zip(self.functions, self.structure.operations):
    ...             args = [values[k] if k >= 0 else program.constants[-1 - k] for k in operands]
    ...             values.append(function(*args))
    ...         batch.arrays[0][...] = values[dict(self.structure.outputs)["param"]]
    >>> w = np.array([3.0, -2.0])
    >>> batch = Batch(
    ...     rule=lambda xp, param, grad, state, group: (param - group["lr"] * grad, {}),
    ...     group={"lr": 0.25}, params=[w], arrays=[w], grads=[np.ones(2)], states={}, scalars={},
    ... )
    >>> program = batch.trace()
    >>> Lookup(program.structure, batch).run(batch, program)
    >>> w
    array([ 2.75, -2.25])
    """

    structure: Structure

    def run(self, batch: Batch, program: Program) -> None:
        """Update data and arrays of state."""


class PlanningExecutor(Executor):
    """An executor that plans a batch once, and runs it by the plan as long as it stays the same.

    Examples
    --------
    Two steps of a batch, one plan:

    >>> import numpy as np
    >>> from arrayopt.backends.numpy_blocked import NumPyBlocked
    >>> class Counting(NumPyBlocked):
    ...     plans = 0
    ...
    ...     def plan(self, structure, batch):
    ...         self.plans += 1
    ...         return super().plan(structure, batch)
    >>> executor, w = Counting(), np.array([3.0, -2.0])
    >>> batch = Batch(
    ...     rule=lambda xp, param, grad, state, group: (param - group["lr"] * grad, {}),
    ...     group={"lr": 0.25}, params=[w], arrays=[w], grads=[np.ones(2)], states={}, scalars={},
    ... )
    >>> for _ in range(2):
    ...     executor.run(batch, executor.prepare(batch))
    >>> w, executor.plans
    (array([ 2.5, -2.5]), 1)
    """

    @abstractmethod
    def plan(self, structure: Structure, batch: Batch) -> Plan:
        """How programs of `structure` are to be run on `batch`."""

    def planned(self, structure: Structure, batch: Batch) -> Plan:
        """The plan by which `batch` was run last, or another one if that does not fit."""
        plan: Plan | None = batch.memo.get(self.name)
        if plan is None or plan.structure is not structure:
            plan = batch.memo[self.name] = self.plan(structure, batch)
        return plan

    def run(self, batch: Batch, program: Program | None) -> None:
        assert program is not None
        self.planned(program.structure, batch).run(batch, program)
        if program.scalars:
            batch.scalars.update(program.scalars)


@functools.cache
def _load() -> tuple[dict[str, Executor], dict[str, str]]:
    from importlib.metadata import entry_points

    targets = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | BUILTIN
    executors, missing = {}, {}
    for name, target in targets.items():
        module, _, attribute = target.partition(":")
        try:
            executors[name] = getattr(importlib.import_module(module), attribute)()
        except Exception as error:  # somebody else's backend must not break a step
            missing[name] = f"{type(error).__name__}: {error}"
    return executors, missing


def available() -> Mapping[str, Executor]:
    """The executors that can be used here, by name.

    Examples
    --------
    >>> available()["array_api"].implementation
    'for-loop'
    """
    return _load()[0]


def missing() -> Mapping[str, str]:
    """The backends that cannot be imported, and why."""
    return _load()[1]


def find(array: Array, implementation: Implementation | None = None) -> Executor | None:
    """The fastest executor for `array`, or the fastest one of that `implementation`.

    Examples
    --------
    >>> import numpy as np
    >>> find(np.zeros(3), "foreach").name
    'numpy_blocked'
    >>> find(np.zeros(3, int), "foreach") is None
    True
    """
    for kind in SPEED if implementation is None else (implementation,):
        for executor in available().values():
            if executor.implementation == kind and executor.accepts(array):
                return executor
    return None


def source(language: str, structure: Structure, dtype: str) -> str:
    """The text of a kernel, from the executor that prints that language.

    Raises
    ------
    ImportError
        If that executor cannot be imported.
    RuntimeError
        If there is none.
    TraceError
        If there is no such kernel.

    Examples
    --------
    >>> from arrayopt.trace import trace
    >>> def rule(xp, param, grad, state, group):
    ...     return param - group["lr"] * grad, {}
    >>> structure = trace(rule, (), {}, {"lr": 0.1}).structure
    >>> for line in source("numba", structure, "float64").splitlines()[-4:]:
    ...     print(line.strip())
    grad = load(grad_at, i, 1, 2, one)
    t0 = c0 * grad
    new_param = param - t0
    store(param_at, i, 0, 2, one, new_param)
    """
    for executor in available().values():
        if executor.language == language:
            return executor.source(structure, dtype)
    name = PRINTERS.get(language, "")
    if name in missing():
        extra = f': pip install "arrayopt[{EXTRAS[name]}]"' if name in EXTRAS else ""
        raise ImportError(f"{language} kernels need {name}, but {missing()[name]}{extra}")
    raise RuntimeError(f"there is no backend here that prints {language} kernels")


def declined(array: Array, implementation: Implementation) -> str:
    """Why executors of `implementation` leave `array` to slower ones; empty if none does."""
    reasons = [
        executor.declines(array)
        for executor in available().values()
        if executor.implementation == implementation
    ]
    return "; ".join(filter(None, reasons))


def hints() -> list[str]:
    """How to install what the built-in backends that cannot be imported need."""
    return [
        f'{name}: pip install "arrayopt[{EXTRAS[name]}]"' for name in missing() if name in EXTRAS
    ]
