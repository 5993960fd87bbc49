"""Placeholders, and the program that a rule leaves behind when it runs on them.

A rule is ordinary Python over an array-API namespace. Run on placeholders, it yields a
`Program`: straight-line code over numbered values. The *structure* of a program (inputs,
operations, outputs) is hashable and holds no number, so it is the key under which an executor
keeps what it compiled; the *constants* of the step travel beside it. A rule may therefore branch
on its hyperparameters as it likes: another branch is another structure.

>>> def rule(xp, param, grad, state, group):
...     buf = group["momentum"] * state["momentum_buffer"] + grad
...     return param - group["lr"] * buf, {"momentum_buffer": buf}
>>> state = {"momentum_buffer": ...}
>>> print(trace(rule, ("momentum_buffer",), {}, {"lr": 0.1, "momentum": 0.9}))
t0 = multiply(0.9, momentum_buffer)
t1 = add(t0, grad)
t2 = multiply(0.1, t1)
t3 = subtract(param, t2)
param, momentum_buffer = t3, t1
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NamedTuple, NoReturn

from arrayopt.scalars import Opaque, Scalar, ScalarGroup, Tape

__all__ = [
    "FUNCTIONS",
    "GRAD",
    "Formula",
    "Operation",
    "Program",
    "Structure",
    "TraceError",
    "code_of",
    "formula",
    "trace",
]

Rule = Callable[..., tuple[Any, Mapping[str, Any]]]

#: The array functions that a program knows, by the names of the array API standard, with the
#: number of their arguments. Each is elementwise.
FUNCTIONS: dict[str, int] = {
    **dict.fromkeys(
        (
            "abs", "ceil", "cos", "exp", "expm1", "floor", "isfinite", "isinf", "isnan", "log",
            "log1p", "log2", "logical_not", "negative", "positive", "reciprocal", "round",
            "sign", "sin", "sqrt", "square", "tanh", "trunc",
        ),
        1,
    ),
    **dict.fromkeys(
        (
            "add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater",
            "greater_equal", "hypot", "less", "less_equal", "logaddexp", "logical_and",
            "logical_or", "logical_xor", "maximum", "minimum", "multiply", "not_equal", "pow",
            "remainder", "subtract",
        ),
        2,
    ),
    "where": 3,
}  # fmt: skip

#: The functions whose result is an array of booleans.
PREDICATES = frozenset(
    {
        "equal", "greater", "greater_equal", "isfinite", "isinf", "isnan", "less", "less_equal",
        "logical_and", "logical_not", "logical_or", "logical_xor", "not_equal",
    }
)  # fmt: skip


#: Where a program has the gradient among its inputs.
GRAD = 1

#: What a rule may mix with arrays. (A union would be built anew at every use.)
NUMBER = (int, float)


class TraceError(TypeError):
    """A rule did something that a program cannot hold.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayopt
    >>> class Norm(arrayopt.Optimizer):
    ...     def __init__(self, params, lr=0.1, foreach=None):
    ...         super().__init__(params, {"lr": lr, "foreach": foreach})
    ...
    ...     def rule(self, xp, param, grad, state, group):
    ...         return param - group["lr"] * grad / xp.sum(xp.abs(grad)), {}
    >>> w = np.array([3.0, -1.0])
    >>> Norm([w], foreach=True).step(grads=[w])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    arrayopt.trace.TraceError: xp.sum cannot be traced. ...

    The for-loop runs the rule itself, which may do anything:

    >>> Norm([w], foreach=False).step(grads=[w])
    >>> w
    array([ 2.925, -0.975])
    """


class Operation(NamedTuple):
    """One line of a program: ``function(*operands)``.

    An operand ``k >= 0`` is a value (the inputs first, then the results in order), an operand
    ``k < 0`` is the constant number ``-1 - k``.
    """

    function: str
    operands: tuple[int, ...]


class Structure(NamedTuple):
    """What a program computes, without the numbers: hashable, the key of compiled kernels."""

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[tuple[str, int], ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """The arrays that it reads or writes: its inputs, then the outputs that are no inputs."""
        return (*self.inputs, *(name for name, _ in self.outputs if name not in self.inputs))


class Program(NamedTuple):
    """Straight-line code of one update.

    Attributes
    ----------
    structure : Structure
        Inputs, operations and outputs. The input ``"param"`` and the output ``"param"`` are the
        parameter before and after the step; every other output is an entry of the state. Programs
        that are alike share one object.
    constants : tuple of float
        The numbers of this step, in the order in which the operations name them.
    scalars : dict of str to float
        The entries of the state that are plain numbers, as the rule left them.
    """

    structure: Structure
    constants: tuple[float, ...]
    scalars: dict[str, float]

    def __str__(self) -> str:
        inputs, operations, outputs = self.structure

        def name(operand: int) -> str:
            if operand < 0:
                return repr(self.constants[-1 - operand])
            temporary = operand - len(inputs)
            return inputs[operand] if temporary < 0 else f"t{temporary}"

        lines = [
            f"t{number} = {function}({', '.join(map(name, operands))})"
            for number, (function, operands) in enumerate(operations)
        ]
        targets = ", ".join(target for target, _ in outputs)
        lines.append(f"{targets} = {', '.join(name(value) for _, value in outputs)}")
        return "\n".join(lines)


def trace(
    rule: Rule,
    states: tuple[str, ...],
    scalars: Mapping[str, float],
    group: Mapping[str, Any],
) -> Program:
    """Run `rule` on placeholders and return the program that it leaves.

    Parameters
    ----------
    rule : callable
        ``rule(xp, param, grad, state, group) -> (param, state)``.
    states : tuple of str
        The names of the state arrays that exist; each becomes an input.
    scalars : mapping of str to float
        The entries of the state that are plain numbers.
    group : mapping
        The hyperparameters, as Python numbers.

    Returns
    -------
    Program

    Raises
    ------
    TraceError
        If the rule uses an operation that `FUNCTIONS` does not hold, branches on the elements of
        an array, or does not return ``(param, state)``.
    """
    structure, constants, numbers = _record(rule, states, scalars, group)
    return Program(
        structure,
        tuple(constants),
        {name: value if type(value) is int else float(value) for name, value in numbers.items()},
    )


def _record(
    rule: Rule,
    states: tuple[str, ...],
    scalars: Mapping[str, Any],
    group: Mapping[str, Any],
    tape: Tape | None = None,
) -> tuple[Structure, list[Any], dict[str, Any]]:
    """The structure that a rule leaves, its constants, and the state that is plain numbers."""
    inputs = ("param", "grad", *states)
    recorder = _Recorder(len(inputs), tape)
    symbols = [_Symbol(recorder, value) for value in range(len(inputs))]
    state: dict[str, Any] = dict(zip(states, symbols[2:]))
    state.update(scalars)
    result = rule(_Namespace(recorder), symbols[0], symbols[1], state, group)
    new_param, new_state = unpack(rule, result)
    outputs: list[Any] = ["param", _value(recorder, "param", new_param)]
    numbers: dict[str, Any] = {}
    for name, value in new_state.items():
        if name in scalars:
            numbers[name] = value
        else:
            outputs += (name, _value(recorder, name, value))
    structure = _structure(inputs, tuple(recorder.tape), tuple(outputs))
    return structure, recorder.constants, numbers


class Formula(NamedTuple):
    """The program of a rule for any step, as long as the rule takes the same branches.

    Attributes
    ----------
    structure : Structure
        The structure of the programs.
    source : str
        The text of `numbers`.
    code : object
        The code of the rule.
    numbers : callable
        ``numbers(group, state)`` returns the constants and the new scalars of a step, or None if
        the rule would take another branch.
    """

    structure: Structure
    source: str
    code: Any
    numbers: Callable[..., tuple[tuple[float, ...], dict[str, float]] | None]

    def program(self, scalars: Mapping[str, float], group: Mapping[str, Any]) -> Program | None:
        """The program of a step, or None if the rule has to be traced."""
        try:
            found = self.numbers(group, scalars)
        except (ArithmeticError, LookupError, TypeError):  # which the rule itself will explain
            return None
        return None if found is None else Program(self.structure, *found)


def formula(
    rule: Rule, states: tuple[str, ...], scalars: Mapping[str, float], group: Mapping[str, Any]
) -> Formula | None:
    """The program of a rule as a function of its numbers, or None if there is none.

    There is none for a rule that uses anything of its optimizer but methods, or that does more with
    its numbers than arithmetic and comparisons. Parameters are those of `trace`. (That a rule asks
    for the ``type`` of a number, or looks at a global one, is not seen.)

    Examples
    --------
    >>> def rule(xp, param, grad, state, group):
    ...     return param - group["lr"] / state["step"] * grad, {}
    >>> found = formula(rule, (), {"step": 1}, {"lr": 0.5})
    >>> found.program({"step": 4}, {"lr": 1.0}).constants
    (0.25,)
    """
    tape = Tape()
    owner = getattr(rule, "__self__", None)
    seen = rule if owner is None else functools.partial(rule.__func__, _Methods(owner))  # type: ignore[attr-defined]
    try:
        state = {name: tape.number(f"state[{name!r}]", value) for name, value in scalars.items()}
        options = ScalarGroup(tape, group)
        structure, constants, numbers = _record(seen, states, state, options, tape)
        source = tape.source(constants, numbers)
        found = Formula(structure, source, code_of(rule), _compiled(source))
        # A rule can tell a scalar from a number, by its type: then it has no formula.
        same = repr(found.program(scalars, group)) == repr(trace(rule, states, scalars, group))
    except Exception:  # whatever it is, it is no error: the rule can still be traced
        return None
    return found if same else None


@functools.lru_cache(maxsize=1024)
def _compiled(source: str) -> Callable[..., Any]:
    variables: dict[str, Any] = {}
    exec(compile(source, "<arrayopt.formula>", "exec"), variables)
    function: Callable[..., Any] = variables["numbers"]
    return function


class _Methods:
    """An optimizer as its rule may see it: methods, and what its class says once and for all."""

    __slots__ = ("_owner",)

    def __init__(self, owner: Any) -> None:
        object.__setattr__(self, "_owner", owner)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise Opaque(f"the attribute {name} is set")

    def __getattr__(self, name: str) -> Any:
        value = getattr(type(self._owner), name)
        if name not in vars(self._owner):
            if isinstance(value, FunctionType):
                return functools.partial(value, self)
            if isinstance(value, (tuple, frozenset, str)):
                return value
        raise Opaque(f"the attribute {name}")


@functools.lru_cache(maxsize=4096)
def _structure(
    inputs: tuple[str, ...], tape: tuple[Any, ...], outputs: tuple[Any, ...]
) -> Structure:
    """The structure that was written down as ``function, operand, …`` and ``name, value, …``."""
    operations = []
    position = 0
    while position < len(tape):
        end = position + 1 + FUNCTIONS[tape[position]]
        operations.append(Operation(tape[position], tape[position + 1 : end]))
        position = end
    return Structure(inputs, tuple(operations), tuple(zip(outputs[::2], outputs[1::2])))


def unpack(rule: Rule, result: Any) -> tuple[Any, Mapping[str, Any]]:
    """Check that a rule returned ``(param, state)``."""
    if isinstance(result, tuple) and len(result) == 2:
        state = result[1]
        if type(state) is dict or isinstance(state, Mapping):  # (the latter takes a while)
            if "param" in state or "grad" in state:
                raise TraceError(f"{_name(rule)}: state cannot be called 'param' or 'grad'")
            return result
    raise TraceError(
        f"{_name(rule)} must return (param, state), a new array and a dict, but got {result!r}"
    )


def code_of(rule: Rule) -> Any:
    """The code of a rule, or of the method ``rule`` of the optimizer that it is a method of."""
    owner = getattr(rule, "__self__", None)
    function = rule if owner is None else type(owner).rule
    return getattr(function, "__code__", function)


def _name(rule: Rule) -> str:
    return getattr(rule, "__qualname__", repr(rule))


def _value(recorder: _Recorder, name: str, result: Any) -> int:
    if isinstance(result, _Symbol) and result._recorder is recorder:
        return result._value
    raise TraceError(f"a rule must return an array for {name!r}, but got {result!r}")


class _Recorder:
    """The program under construction.

    Attributes
    ----------
    tape : list
        The operations one after another: a function, its operands, the next function, ….
    count : int
        How many values there are.
    numbers : Tape, optional
        Where the numbers of the rule are written down, if they are scalars.
    """

    __slots__ = ("constants", "count", "numbers", "tape")

    def __init__(self, count: int, numbers: Tape | None) -> None:
        self.numbers = numbers
        self.tape: list[Any] = []
        self.constants: list[Any] = []
        self.count = count

    def operand(self, function: str, value: Any) -> int:
        """The number by which an operation refers to `value`, an argument of `function`."""
        if type(value) is _Symbol:
            if value._recorder is self:
                return value._value
            raise TraceError(f"{function} in a rule was given an array of an earlier step")
        if type(value) is Scalar:
            if value._tape is not self.numbers:
                raise TraceError(f"{function} in a rule was given a number of an earlier step")
            self.constants.append(value)
            return -len(self.constants)
        if isinstance(value, NUMBER):
            self.constants.append(float(value))
            return -len(self.constants)
        raise TraceError(
            f"{function} in a rule takes arrays and Python numbers, but got "
            f"{type(value).__name__}: {value!r}"
        )

    def emit(self, function: str, *args: Any) -> _Symbol:
        """Write down an operation, and return what stands for its result."""
        operands = [self.operand(function, arg) for arg in args]
        if max(operands) < 0:
            raise TraceError(f"{function} in a rule needs at least one array, but got numbers only")
        self.tape += (function, *operands)
        value = self.count
        self.count = value + 1
        return _Symbol(self, value)


#: Why an operation cannot be traced, and what to do.
_ELEMENTWISE = (
    "cannot be traced: a rule that is to be blocked or fused is elementwise. With foreach=False "
    "any operation of the array library will do."
)


class _Namespace:
    """The ``xp`` that a rule is given while it is traced; its methods are the `FUNCTIONS`."""

    def __init__(self, recorder: _Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> NoReturn:
        raise TraceError(
            f"xp.{name} cannot be traced. A rule that is to be blocked or fused may use the "
            "operators and the functions in arrayopt.trace.FUNCTIONS; with foreach=False, any "
            "function of the array library"
        )

    def written(self, function: Callable[..., Any], arguments: Any) -> NoReturn:
        """Refuse a function of whole arrays (see `arrayopt.whole.named`)."""
        raise TraceError(f"{function.__name__} takes an array as a whole, which {_ELEMENTWISE}")


def _function(name: str, arity: int) -> Callable[..., _Symbol]:
    def method(self: _Namespace, *args: Any, **options: Any) -> _Symbol:
        if options or len(args) != arity:
            raise TraceError(
                f"xp.{name} in a rule takes {arity} positional arguments and no options, "
                f"but got {len(args)} and {list(options)}"
            )
        return self._recorder.emit(name, *args)

    return method


for _each, _arity in FUNCTIONS.items():
    setattr(_Namespace, _each, _function(_each, _arity))


def _operator(function: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    def method(self: _Symbol, other: Any) -> Any:
        # This is `emit`, written for the case that matters: a step makes some ten of these calls.
        recorder = self._recorder
        if type(other) is float:
            recorder.constants.append(other)
            operand = -len(recorder.constants)
        else:
            operand = recorder.operand(function, other)
        if reflected:
            recorder.tape += (function, operand, self._value)
        else:
            recorder.tape += (function, self._value, operand)
        value = recorder.count
        recorder.count = value + 1
        return _Symbol(recorder, value)

    return method


def _untraceable(operator: str) -> Callable[..., NoReturn]:
    def method(self: _Symbol, *args: Any) -> NoReturn:
        raise TraceError(f"{operator} an array {_ELEMENTWISE}")

    return method


#: The powers that an array computes as a function of their own, which rounds otherwise than pow.
_POWERS = {2: "square", 0.5: "sqrt", -1: "reciprocal"}


def _in_place(self: _Symbol, other: Any) -> NoReturn:
    raise TraceError(
        "a rule must not write to its arguments in place: instead of x *= y, write x = x * y"
    )


class _Symbol:
    """A placeholder for an array. Arithmetic on it is written down, not done."""

    __slots__ = ("_recorder", "_value")
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 1000

    def __init__(self, recorder: _Recorder, value: int) -> None:
        self._recorder = recorder
        self._value = value

    # (a rule that writes to its arguments is not pure, and has to fail as it does on arrays)
    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ipow__ = _in_place
    __add__ = _operator("add")
    __radd__ = _operator("add", reflected=True)
    __sub__ = _operator("subtract")
    __rsub__ = _operator("subtract", reflected=True)
    __mul__ = _operator("multiply")
    __rmul__ = _operator("multiply", reflected=True)
    __truediv__ = _operator("divide")
    __rtruediv__ = _operator("divide", reflected=True)
    __floordiv__ = _operator("floor_divide")
    __rfloordiv__ = _operator("floor_divide", reflected=True)
    __mod__ = _operator("remainder")
    __rmod__ = _operator("remainder", reflected=True)
    __rpow__ = _operator("pow", reflected=True)
    __lt__ = _operator("less")
    __le__ = _operator("less_equal")
    __gt__ = _operator("greater")
    __ge__ = _operator("greater_equal")
    __eq__ = _operator("equal")
    __ne__ = _operator("not_equal")
    __and__ = _operator("logical_and")
    __rand__ = _operator("logical_and", reflected=True)
    __or__ = _operator("logical_or")
    __ror__ = _operator("logical_or", reflected=True)
    __xor__ = _operator("logical_xor")
    __rxor__ = _operator("logical_xor", reflected=True)
    __matmul__ = __rmatmul__ = _untraceable("the matrix product of")
    __getitem__ = __setitem__ = _untraceable("indexing")
    __iter__ = __len__ = _untraceable("iterating over")
    __float__ = __int__ = __complex__ = __index__ = _untraceable("taking a number out of")

    def __pow__(self, exponent: Any) -> _Symbol:
        if isinstance(exponent, NUMBER) and exponent in _POWERS:
            return self._recorder.emit(_POWERS[exponent], self)
        return self._recorder.emit("pow", self, exponent)

    def __neg__(self) -> _Symbol:
        return self._recorder.emit("negative", self)

    def __pos__(self) -> _Symbol:
        return self

    def __abs__(self) -> _Symbol:
        return self._recorder.emit("abs", self)

    def __invert__(self) -> _Symbol:
        return self._recorder.emit("logical_not", self)

    def __bool__(self) -> NoReturn:
        raise TraceError(
            "a rule cannot branch on the elements of an array: use xp.where. "
            "(Branching on hyperparameters and on step is fine.)"
        )

    def __getattr__(self, name: str) -> NoReturn:
        raise TraceError(f"an array's .{name} {_ELEMENTWISE}")
