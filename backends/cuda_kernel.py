"""A program as a kernel in CUDA C++.

The text is printed here and compiled elsewhere: nothing of CUDA is needed to read it. Two kernels
have the same body. One (`kernel_source`) updates any number of tensors in one launch: a block of
threads takes a chunk of one of them, and finds it through two tables (`pointers`, `chunks`). The
other (`elementwise`) is for ``cupy.ElementwiseKernel``, which walks a single array of any layout.

Arithmetic and roots round as they do on arrays: compile with `OPTIONS`. Half-precision numbers are
bits (``unsigned short``), which become single-precision ones when they are loaded, and are rounded
once when they are stored. A complex number is two real ones.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NamedTuple

from arrayopt.trace import Structure

from . import listing
from .listing import Language, Listing

__all__ = [
    "CHUNK",
    "OPTIONS",
    "PLAIN",
    "PRECISIONS",
    "THREADS",
    "Elementwise",
    "Variant",
    "check_structure",
    "elementwise",
    "kernel_name",
    "kernel_source",
    "store_source",
]

#: Elements that a thread block updates.
CHUNK = 1 << 14

#: Threads of a block.
THREADS = 512

#: Without these, a product and a sum would be rounded once, and not as on other arrays.
OPTIONS = ("--fmad=false",)

#: The type of C++ in which an array of each dtype is updated.
PRECISIONS = {
    "float16": "float",
    "bfloat16": "float",
    "float32": "float",
    "float64": "double",
    "complex64": "float",
    "complex128": "double",
}


class Variant(NamedTuple):
    """Where a kernel finds what it is told.

    Attributes
    ----------
    buffered : bool
        If so, the constants of the step are not arguments ``double n0, double n1, …``, but are
        read from device memory: one argument ``const double* numbers``. A captured launch then
        takes the numbers that are there when it is replayed.
    guarded : bool
        If so, two more arguments ``const float* found_inf, const float* grad_scale`` (each one
        number in device memory) follow: nothing is done unless `found_inf` is zero, and the
        gradient is divided by `grad_scale` when it is loaded. (It is not written.)
    grad : str
        The dtype of the gradients, one of real numbers, if it is not that of the tensors.
    """

    buffered: bool = False
    guarded: bool = False
    grad: str = ""


#: Constants are arguments, every step is taken, and a gradient is like its tensor.
PLAIN = Variant()


# How CUDA writes a program

_FUNCTIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "square": "{0} * {0}",
    "reciprocal": "1 / {0}",
    # as NumPy has it: a NaN wins
    "maximum": "{0} >= {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} <= {1} || {0} != {0} ? {0} : {1}",
    "sign": "{0} != {0} ? {0} : TYPE({0} > 0) - TYPE({0} < 0)",
    "where": "{0} ? {1} : {2}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "isnan": "{0} != {0}",
    "isinf": "{0} == {0} && {0} - {0} != 0",
    "isfinite": "{0} - {0} == 0",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "{0} != {1}",
    "logical_not": "!{0}",
    "abs": "fabsF({0})",
    "round": "rintF({0})",
    "logaddexp": "{0} == {1} ? {0} + logF(TYPE(2)) : "
    "fmaxF({0}, {1}) + log1pF(expF(-fabsF({0} - {1})))",
    **{
        name: f"{name}F({{0}})"
        for name in (
            "ceil", "cos", "exp", "expm1", "floor", "log", "log1p", "log2", "sin", "sqrt", "tanh",
            "trunc",
        )
    },
    **{name: f"{name}F({{0}}, {{1}})" for name in ("atan2", "copysign", "hypot", "pow")},
}  # fmt: skip

#: Names that a kernel, C++ or CuPy has a use of its own for; and macros are capitals.
_TAKEN = re.compile(
    r"c\d+|n\d+|t\d+|operand_\d+|\w+_(at|from)|_.*|[A-Z0-9_]+|i|n|row|size|start|numbers|pointers"
    r"|chunks|kernel|found_inf|grad_scale|half_to_float|float_to_half|bfloat_to_float"
    r"|float_to_bfloat|blockIdx|blockDim|gridDim|threadIdx|warpSize"
    r"|(fabs|rint|fmax|ceil|cos|exp|expm1|floor|log|log1p|log2|sin|sqrt|tanh|trunc|atan2|copysign"
    r"|hypot|pow)f?"
)
_KEYWORDS = re.compile(
    r"alignas|alignof|and|and_eq|asm|auto|bitand|bitor|bool|break|case|catch|char|char8_t|char16_t"
    r"|char32_t|class|compl|concept|const|const_cast|consteval|constexpr|constinit|continue|co_await"
    r"|co_return|co_yield|decltype|default|delete|do|double|dynamic_cast|else|enum|explicit|export"
    r"|extern|false|float|for|friend|goto|if|inline|int|long|mutable|namespace|new|noexcept|not|not_eq"
    r"|nullptr|operator|or|or_eq|private|protected|public|register|reinterpret_cast|requires|return"
    r"|short|signed|sizeof|static|static_assert|static_cast|struct|switch|template|this|thread_local"
    r"|throw|true|try|typedef|typeid|typename|union|unsigned|using|virtual|void|volatile|wchar_t|while"
    r"|xor|xor_eq"
)


def _is_name(name: str) -> bool:
    return not (_KEYWORDS.fullmatch(name) or _TAKEN.fullmatch(name))


def _language(precision: str) -> Language:
    suffix = "f" if precision == "float" else ""

    def typed(text: str) -> str:
        return text.replace("TYPE", precision).replace("F(", f"{suffix}(")

    return Language(
        functions={name: typed(text) for name, text in _FUNCTIONS.items()},
        number=f"{precision}({{0}})",
        truth="({0} != 0)",
        is_name=_is_name,
    )


_LANGUAGES = {precision: _language(precision) for precision in ("float", "double")}


# Numbers in memory


@dataclass(frozen=True)
class _Storage:
    """How numbers are kept, and what makes them numbers to compute with, and back."""

    type: str
    load: str = "{0}"
    store: str = "{0}"
    functions: str = ""


HALF = """\
__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float number;
    asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits));
    return number;
}

__device__ __forceinline__ unsigned short float_to_half(float number) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number));
    return bits;
}

"""
#: (To the nearest one, and of two that are as near to the even one: in integers, since not every
#: device has an instruction for it.)
_BFLOAT = """\
__device__ __forceinline__ float bfloat_to_float(unsigned short bits) {
    return __uint_as_float((unsigned int)bits << 16);
}

__device__ __forceinline__ unsigned short float_to_bfloat(float number) {
    const unsigned int bits = __float_as_uint(number);
    if (number != number) return (unsigned short)(bits >> 16 | 0x40);
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

"""
_STORAGE = {
    "float16": _Storage("unsigned short", "half_to_float({0})", "float_to_half({0})", HALF),
    "bfloat16": _Storage("unsigned short", "bfloat_to_float({0})", "float_to_bfloat({0})", _BFLOAT),
    "float32": _Storage("float"),
    "float64": _Storage("double"),
    "complex64": _Storage("float"),
    "complex128": _Storage("double"),
}

#: The type under which `Elementwise` has an array of each C++ type.
_VIEWS = {"unsigned short": "uint16", "float": "float32", "double": "float64"}


def _constants(names: Listing, precision: str, variant: Variant) -> list[str]:
    """The constants of the step in the precision of the update."""
    source = "numbers[{0}]" if variant.buffered else "n{0}"
    return [
        f"const {precision} c{number} = {precision}({source.format(number)});"
        for number in names.constants
    ]


def _stored(structure: Structure, dtype: str, variant: Variant) -> list[_Storage]:
    """How the numbers of each operand are kept."""
    grad = variant.grad or dtype
    return [_STORAGE[grad if name == "grad" else dtype] for name in structure.operands]


def _functions(stored: list[_Storage]) -> str:
    """What is called to load and store numbers."""
    return "".join(dict.fromkeys(storage.functions for storage in stored))


def _body(names: Listing, structure: Structure, dtype: str, variant: Variant) -> list[str]:
    """What is done to one element, whose operands are called ``…_at``."""
    precision, stored = PRECISIONS[dtype], _stored(structure, dtype, variant)
    lines = []
    for column in names.loads:
        name = names.operands[column]
        loaded = stored[column].load.format(f"{name}_at")
        if structure.operands[column] == "grad":
            loaded = f"{precision}({loaded})" if variant.grad else loaded
            loaded += f" / {precision}(grad_scale[0])" if variant.guarded else ""
        lines.append(f"const {precision} {name} = {loaded};")
    for line in names.lines:
        kind = "bool" if line.is_mask else precision
        lines.append(f"const {kind} {line.variable} = {line.expression};")
    for column, number in names.stores:
        lines.append(f"{names.operands[column]}_at = {stored[column].store.format(number)};")
    return lines


def _indent(lines: list[str], columns: int) -> list[str]:
    return [" " * columns + line for line in lines]


def _touched(names: Listing) -> list[int]:
    """The operands that are read or written."""
    return sorted({*names.loads, *(column for column, _ in names.stores)})


def kernel_source(
    structure: Structure,
    dtype: str,
    name: str = "kernel",
    variant: Variant = PLAIN,
) -> str:
    """The kernel that updates many tensors in one launch.

    It is launched with one block of `THREADS` threads for each chunk. Its arguments are:

    ``const long long* pointers``
        A row for each tensor: the address of each operand (`Structure.operands`), then how many
        numbers the tensor has. A complex number is two of them.
    ``const int* chunks``
        A row for each chunk: its tensor, and how many chunks of that one come before it.
    ``double n0, double n1, …`` or ``const double* numbers``
        The constants of the step; see `Variant`.
    ``const float* found_inf, const float* grad_scale``
        If the variant is guarded.

    Parameters
    ----------
    structure : Structure
        What is to be computed.
    dtype : str
        That of the tensors: a key of `PRECISIONS`.
    name : str, default "kernel"
        The name of the kernel.
    variant : Variant
        Where it finds the constants, whether it looks at `found_inf` and `grad_scale`, and the
        dtype of gradients.

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
    extern "C" __global__ void __launch_bounds__(512) kernel(
        const long long* pointers, const int* chunks, double n0)
    {
        const float c0 = float(n0);
        const long long* const row = pointers + 3LL * chunks[2 * blockIdx.x];
        const long long start = 16384LL * chunks[2 * blockIdx.x + 1];
        const int size = int(row[2] - start < 16384 ? row[2] - start : 16384);
        float* const param_from = (float*)row[0] + start;
        const float* const grad_from = (const float*)row[1] + start;
        for (int i = threadIdx.x; i < size; i += blockDim.x) {
            float& param_at = param_from[i];
            const float& grad_at = grad_from[i];
            const float param = param_at;
            const float grad = grad_at;
            const float t0 = c0 * grad;
            const float new_param = param - t0;
            param_at = new_param;
        }
    }
    <BLANKLINE>
    """
    precision, stored = PRECISIONS[dtype], _stored(structure, dtype, variant)
    names = listing.listing(structure, _LANGUAGES[precision])
    width = len(names.operands)
    written = {column for column, _ in names.stores}
    begins, places = [], []
    for column in _touched(names):
        operand = names.operands[column]
        kind = stored[column].type if column in written else f"const {stored[column].type}"
        begins.append(f"{kind}* const {operand}_from = ({kind}*)row[{column}] + start;")
        places.append(f"{kind}& {operand}_at = {operand}_from[i];")
    arguments = ["const long long* pointers", "const int* chunks", *_arguments(names, variant)]
    left = f"row[{width}] - start"
    body = [
        *(["if (found_inf[0] != 0) return;"] if variant.guarded else []),
        *_constants(names, precision, variant),
        f"const long long* const row = pointers + {width + 1}LL * chunks[2 * blockIdx.x];",
        f"const long long start = {CHUNK}LL * chunks[2 * blockIdx.x + 1];",
        f"const int size = int({left} < {CHUNK} ? {left} : {CHUNK});",
        *begins,
        "for (int i = threadIdx.x; i < size; i += blockDim.x) {",
        *_indent([*places, *_body(names, structure, dtype, variant)], 4),
        "}",
    ]
    return "\n".join(
        [
            f'{_functions(stored)}extern "C" __global__ void __launch_bounds__({THREADS}) {name}(',
            f"    {', '.join(arguments)})",
            "{",
            *_indent(body, 4),
            "}",
            "",
        ]
    )


def store_source(count: int, name: str = "store") -> str:
    """The kernel that writes its arguments to the buffer from which others read their constants.

    Its arguments are ``double* numbers``, then `count` doubles. It is launched with one thread.

    Examples
    --------
    >>> print(store_source(2))
    extern "C" __global__ void store(double* numbers, double n0, double n1)
    {
        numbers[0] = n0;
        numbers[1] = n1;
    }
    <BLANKLINE>
    """
    arguments = ["double* numbers", *(f"double n{number}" for number in range(count))]
    body = [f"numbers[{number}] = n{number};" for number in range(count)]
    head = f'extern "C" __global__ void {name}({", ".join(arguments)})'
    return "\n".join([head, "{", *_indent(body, 4), "}", ""])


def _arguments(names: Listing, variant: Variant) -> list[str]:
    """The arguments of a kernel but for its arrays."""
    arguments = [f"double n{number}" for number in range(names.count)]
    if variant.buffered:
        arguments = ["const double* numbers"]
    if variant.guarded:
        arguments += ["const float* found_inf", "const float* grad_scale"]
    return arguments


class Elementwise(NamedTuple):
    """What ``cupy.ElementwiseKernel`` takes, for a single array of any layout.

    Arrays are passed as views: half-precision ones as bits, complex ones as real ones.

    Attributes
    ----------
    in_params, out_params : str
        First the operands that are only read, then the constants (or their buffer) and what guards
        the step; and the operands that are written.
    operation : str
        The body.
    preamble : str
        The functions that it calls.
    reads, writes : tuple of int
        Which of `Structure.operands` these operands are.
    views : tuple of str
        The dtype under which the array of each operand is passed.
    """

    in_params: str
    out_params: str
    operation: str
    preamble: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    views: tuple[str, ...]


def elementwise(structure: Structure, dtype: str, variant: Variant = PLAIN) -> Elementwise:
    """The same kernel for one array of any layout; parameters as those of `kernel_source`.

    Examples
    --------
    >>> from arrayopt.trace import trace
    >>> def rule(xp, param, grad, state, group):
    ...     return param - group["lr"] * grad, {}
    >>> kernel = elementwise(trace(rule, (), {}, {"lr": 0.1}).structure, "float16")
    >>> kernel.in_params, kernel.out_params
    ('uint16 grad_at, float64 n0', 'uint16 param_at')
    """
    precision, stored = PRECISIONS[dtype], _stored(structure, dtype, variant)
    names = listing.listing(structure, _LANGUAGES[precision])
    views = tuple(_VIEWS[storage.type] for storage in stored)
    writes = tuple(sorted(column for column, _ in names.stores))
    reads = tuple(column for column in range(len(structure.inputs)) if column not in writes)
    numbers = [f"float64 n{number}" for number in range(names.count)]
    numbers = ["raw float64 numbers"] if variant.buffered else numbers
    guards = ["raw float32 found_inf", "raw float32 grad_scale"] if variant.guarded else []
    body = [*_constants(names, precision, variant), *_body(names, structure, dtype, variant)]
    if variant.guarded:
        body = ["if (found_inf[0] == 0) {", *_indent(body, 4), "}"]

    def arrays(columns: tuple[int, ...]) -> list[str]:
        return [f"{views[column]} {names.operands[column]}_at" for column in columns]

    return Elementwise(
        in_params=", ".join([*arrays(reads), *numbers, *guards]),
        out_params=", ".join(arrays(writes)),
        operation="\n".join(body),
        preamble=_functions(stored),
        reads=reads,
        writes=writes,
        views=views,
    )


def kernel_name(text: str) -> str:
    """The name under which a kernel is compiled: one for each text."""
    return f"arrayopt_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def check_structure(structure: Structure) -> None:
    """Raise a TraceError if there is no kernel for a program."""
    listing.check_structure(structure, _LANGUAGES["float"])
