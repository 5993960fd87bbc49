"""A program as the text of a loop, and that loop compiled by Numba.

A kernel is called with a table of addresses, since that serves one large array, pieces of it, and
a thousand small ones alike: each row holds where the operands of some elements begin, and how many
elements there are. Nothing is computed otherwise than the rule says (no contraction, no
reordering), so that arithmetic and roots round in the compiled loop as they do on arrays.
"""

from __future__ import annotations

import functools
import hashlib
import keyword
import logging
import os
import re
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from arrayopt.trace import Structure

from . import listing

__all__ = ["CACHE_DIR", "Kernel", "check_structure", "kernel", "kernel_source"]

#: The environment variable that names a folder in which compiled kernels are kept between runs.
CACHE_DIR = "ARRAYOPT_CACHE_DIR"

_log = logging.getLogger(__name__)


class Kernel(NamedTuple):
    """A compiled program.

    Attributes
    ----------
    source : str
        The text that was compiled.
    run : callable
        ``run(table, first, last, *constants)`` updates the rows from `first` up to `last`.
    """

    source: str
    run: Callable[..., None]


# The text of a kernel

#: What each function is in the text; {0}, {1}, … are its operands.
_TEXT = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "square": "{0} * {0}",
    "reciprocal": "one / {0}",
    # as NumPy has it: a NaN wins
    "maximum": "{0} if ({0} >= {1}) | ({0} != {0}) else {1}",
    "minimum": "{0} if ({0} <= {1}) | ({0} != {0}) else {1}",
    "sign": "{0} if {0} != {0} else (one if {0} > zero else (-one if {0} < zero else zero))",
    "where": "{1} if {0} else {2}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "isnan": "{0} != {0}",
    "isinf": "abs({0}) == infinity",
    "isfinite": "abs({0}) < infinity",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_xor": "{0} ^ {1}",
    "logical_not": "not {0}",
    "abs": "abs({0})",
    "atan2": "np.arctan2({0}, {1})",
    "pow": "np.power({0}, {1})",
    "round": "np.rint({0})",
    **{
        name: f"np.{name}({{0}})"
        for name in (
            "ceil", "cos", "exp", "expm1", "floor", "log", "log1p", "log2", "sin", "sqrt", "tanh",
            "trunc",
        )
    },
    **{
        name: f"np.{name}({{0}}, {{1}})"
        for name in ("copysign", "hypot", "logaddexp")
    },
}  # fmt: skip

_HEAD = """\
import numpy as np
from arrayopt.backends.numba_kernel import load, store

real = np.{dtype}
zero, one, infinity = real(0), real(1), real(np.inf)


"""

#: Names that a kernel has a use of its own for.
_TAKEN = re.compile(
    r"c\d+|t\d+|operand_\d+|\w+_at|i|row|size|first|last|table|np|load|store|real|abs|range|zero|one"
    r"|infinity|__debug__"
)

_PYTHON = listing.Language(
    functions=_TEXT,
    number="real({0})",
    truth="({0} != zero)",
    is_name=lambda name: not keyword.iskeyword(name) and not _TAKEN.fullmatch(name),
)


def kernel_source(structure: Structure, dtype: str, name: str = "kernel") -> str:
    """The program as Python: a loop over the rows of a table, and one over their elements.

    Parameters
    ----------
    structure : Structure
        What is to be computed.
    dtype : {"float32", "float64"}
        In which precision.
    name : str, default "kernel"
        The name of the function.

    Raises
    ------
    TraceError
        If it computes with booleans alone, which are no numbers, or with ``floor_divide`` or
        ``remainder``.

    Examples
    --------
    >>> from arrayopt.trace import trace
    >>> def rule(xp, param, grad, state, group):
    ...     return param - group["lr"] * grad, {}
    >>> print(kernel_source(trace(rule, (), {}, {"lr": 0.1}).structure, "float32"))
    import numpy as np
    from arrayopt.backends.numba_kernel import load, store
    <BLANKLINE>
    real = np.float32
    zero, one, infinity = real(0), real(1), real(np.inf)
    <BLANKLINE>
    <BLANKLINE>
    def kernel(table, first, last, c0):
        c0 = real(c0)
        for row in range(first, last):
            param_at = table[row, 0]
            grad_at = table[row, 1]
            size = table[row, 2]
            for i in range(size):
                param = load(param_at, i, 0, 2, one)
                grad = load(grad_at, i, 1, 2, one)
                t0 = c0 * grad
                new_param = param - t0
                store(param_at, i, 0, 2, one, new_param)
    <BLANKLINE>
    """
    names = listing.listing(structure, _PYTHON)
    columns = len(names.operands)
    places = [f"{variable}_at" for variable in names.operands]
    loop = [
        f"{names.operands[column]} = load({places[column]}, i, {column}, {columns}, one)"
        for column in names.loads
    ]
    loop += [f"{line.variable} = {line.expression}" for line in names.lines]
    loop += [
        f"store({places[column]}, i, {column}, {columns}, one, {number})"
        for column, number in names.stores
    ]
    body = [
        *(f"{place} = table[row, {column}]" for column, place in enumerate(places)),
        f"size = table[row, {columns}]",
        "for i in range(size):",
        *(f"    {line}" for line in loop),
    ]
    arguments = ["table", "first", "last", *(f"c{number}" for number in range(names.count))]
    function = [
        f"def {name}({', '.join(arguments)}):",
        *(f"    c{number} = real(c{number})" for number in names.constants),
        "    for row in range(first, last):",
        *(f"        {line}" for line in body),
        "",
    ]
    return _HEAD.format(dtype=dtype) + "\n".join(function)


# Memory at an address


def _tag(instruction: ir.Instruction, module: ir.Module, column: int, columns: int) -> None:
    """Tell LLVM that this touches the memory of one operand, and of no other.

    An executor sees to it that operands do not overlap. LLVM cannot know, and would check it at run
    time, or not vectorize a loop with many operands.
    """
    domain = module.add_metadata([ir.MetaDataString(module, "arrayopt")])
    scopes = [
        module.add_metadata([ir.MetaDataString(module, f"operand {number}"), domain])
        for number in range(columns)
    ]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes.pop(column)]))
    if scopes:
        instruction.set_metadata("noalias", module.add_metadata(scopes))


#: How elements are aligned, in bytes: not at all, since NumPy's arrays need not be.
_ALIGNMENT = 1


#: Registers of 256 bits, where there are some of 512: measured side by side, a pass over memory
#: takes up to a tenth less.
_VECTORS = '"prefer-vector-width"="256"'


def _element(context: Any, builder: Any, like: Any, address: Any, index: Any) -> Any:
    """A pointer to an element of the type `like`."""
    kind = context.get_value_type(like)
    # (llvmlite knows but few attributes by name)
    set.add(builder.function.attributes, _VECTORS)
    pointer = builder.inttoptr(address, kind.as_pointer())
    return builder.gep(pointer, [index], inbounds=True)


@intrinsic(prefer_literal=True)
def load(_: Any, address: Any, index: Any, column: Any, columns: Any, like: Any) -> Any:
    """The element at `index` of the operand at `address`, a number like `like`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_element(context, builder, like, *arguments[:2]))
        value.align = _ALIGNMENT
        _tag(value, builder.module, column.literal_value, columns.literal_value)
        return value

    return like(types.intp, types.intp, column, columns, like), generate


@intrinsic(prefer_literal=True)
def store(
    _: Any, address: Any, index: Any, column: Any, columns: Any, like: Any, value: Any
) -> Any:
    """Write `value` to the element at `index` of the operand at `address`."""
    if value != like:
        raise numba.TypingError(f"expected a {like} to store, but got a {value}")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _element(context, builder, like, *arguments[:2])
        instruction = builder.store(arguments[-1], pointer)
        instruction.align = _ALIGNMENT
        _tag(instruction, builder.module, column.literal_value, columns.literal_value)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, column, columns, like, value), generate


# Compiling

_lock = threading.Lock()
_kernels: dict[tuple[Structure, str], Kernel] = {}


def kernel(structure: Structure, dtype: str) -> Kernel:
    """The compiled program: made once a process, whichever thread asks first.

    If the environment variable ``ARRAYOPT_CACHE_DIR`` names a folder, what has been compiled is
    kept there, and taken from there by the next process. (Whoever can write to that folder can
    have their code run.)
    """
    found = _kernels.get((structure, dtype))
    if found is None:
        with _lock:
            found = _kernels.get((structure, dtype))
            if found is None:
                found = _kernels[structure, dtype] = _compile(structure, dtype)
    return found


def check_structure(structure: Structure) -> None:
    """Raise a TraceError if a program cannot be compiled."""
    listing.check_structure(structure, _PYTHON)


@functools.cache
def _stamp() -> bytes:
    """What tells apart the versions of this module, whose functions are part of every kernel."""
    return Path(__file__).read_bytes()


def _compile(structure: Structure, dtype: str) -> Kernel:
    begin = time.perf_counter()
    text = kernel_source(structure, dtype)
    name = f"arrayopt_{hashlib.sha256(_stamp() + text.encode()).hexdigest()[:16]}"
    source = kernel_source(structure, dtype, name)
    file = _keep(name, source)
    # (as if written here, so that Numba finds the functions of a kernel that it kept)
    variables: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, file or f"<{name}>", "exec"), variables)
    function = variables[name]
    table = types.Array(types.intp, 2, "C")
    constants = function.__code__.co_argcount - 3
    signature = types.void(table, types.intp, types.intp, *[types.float64] * constants)
    run = numba.njit(signature, nogil=True, error_model="numpy", cache=bool(file))(function)
    seconds = time.perf_counter() - begin
    _log.debug(
        "%s: %d operations in %s, ready in %.2f s", name, len(structure.operations), dtype, seconds
    )
    return Kernel(source, run)


def _keep(name: str, source: str) -> str:
    """The file that holds `source`, beside which Numba keeps what it compiles; "" without one."""
    if not os.environ.get(CACHE_DIR):
        return ""
    path = Path(os.environ[CACHE_DIR]) / f"{name}.py"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != source:
            # another process must not read half a file
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=name, suffix=".tmp")
            with os.fdopen(handle, "w") as file:
                file.write(source)
            os.replace(temporary, path)
    except OSError as error:
        warnings.warn(
            f"compiled kernels are not kept: {CACHE_DIR} has to name a folder that can be written "
            f"to, but {str(path.parent)!r} is none: {error.strerror}",
            stacklevel=2,
        )
        return ""
    return str(path)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()  # the parent's may have been held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
