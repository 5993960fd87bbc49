"""Kernels in CUDA C++, compiled as C++ for the host and run there, one thread after another.

`RawKernel` and `ElementwiseKernel` stand in for CuPy's. It takes less time to compile many kernels
at once (`compile_all`) than one after another.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sharing
from specs import every_structure

from arrayopt.backends import cuda_kernel
from arrayopt.trace import Structure

__all__ = [
    "DTYPES",
    "ElementwiseKernel",
    "RawKernel",
    "Text",
    "compile_all",
    "compile_every_algorithm",
    "missing",
    "named",
    "namespaces",
    "needs_compiler",
    "run",
    "text_of",
    "wrapped",
]

#: What a kernel finds on a device.
SHIM = """\
#include <math.h>
#include <string.h>
#define __global__
#define __launch_bounds__(threads)
#define __device__ static
#define __forceinline__ inline
struct Dim { unsigned int x; };
static thread_local Dim blockIdx, blockDim, threadIdx;
static inline float __uint_as_float(unsigned int bits) {
    float number;
    memcpy(&number, &bits, 4);
    return number;
}
static inline unsigned int __float_as_uint(float number) {
    unsigned int bits;
    memcpy(&bits, &number, 4);
    return bits;
}
"""

#: Two instructions of the device, in the compiler's own type.
HALF = """\
static inline float half_to_float(unsigned short bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return half;
}
static inline unsigned short float_to_half(float number) {
    const _Float16 half = number;
    unsigned short bits;
    memcpy(&bits, &half, 2);
    return bits;
}
"""

_TYPES = {"uint16": "unsigned short", "float32": "float", "float64": "double"}
_ARGUMENT = re.compile(r"(.*?)(\w+)")


def missing() -> str:
    """Why kernels cannot be run here; empty if they can."""
    return "" if shutil.which("g++") else "there is no g++ to compile kernels for the host"


needs_compiler = pytest.mark.skipif(bool(missing()), reason=missing())


class Text(NamedTuple):
    """A kernel: what is compiled, its name, and the types of its arguments."""

    source: str
    name: str
    arguments: tuple[str, ...]


def namespaces(sources: Iterable[str]) -> str:
    """Many kernels as one text, each with functions of its own."""
    return "".join(f"namespace unit_{n} {{\n{source}}}\n" for n, source in enumerate(sources))


def text_of(source: str, name: str) -> Text:
    """A kernel that finds its tensors through tables."""
    found = re.search(rf"{name}\(([^)]*)\)", source)
    assert found is not None
    arguments = [_ARGUMENT.fullmatch(each.strip())[1].strip() for each in found[1].split(",")]
    return Text(source, name, tuple(arguments))


def wrapped(kernel: cuda_kernel.Elementwise) -> Text:
    """What CuPy makes of an elementwise kernel, for arrays given as the addresses of elements."""
    arguments, places = ["long long count"], []
    for number, param in enumerate(f"{kernel.in_params}, {kernel.out_params}".split(", ")):
        *raw, dtype, name = param.split()
        const = "const " if number < len(kernel.in_params.split(", ")) else ""
        kind = _TYPES[dtype]
        if raw:
            arguments.append(f"const {kind}* {name}")
        elif name.endswith("_at"):
            arguments.append(f"const long long* {name}_all")
            places.append(f"{const}{kind}& {name} = *({const}{kind}*){name}_all[i];")
        else:
            arguments.append(f"{kind} {name}")
    body = "\n".join([*places, kernel.operation])
    name = cuda_kernel.kernel_name(f"{kernel.preamble}{arguments}{body}")
    source = (
        f'{kernel.preamble}extern "C" __global__ void {name}({", ".join(arguments)}) {{\n'
        f"for (long long i = threadIdx.x; i < count; i += blockDim.x) {{\n{body};\n}}\n}}\n"
    )
    return text_of(source, name)


def _launcher(text: Text) -> str:
    """A function that takes the arguments of a kernel by their addresses, as CUDA's driver does."""
    values = ", ".join(f"*({kind}*)arguments[{n}]" for n, kind in enumerate(text.arguments))
    return (
        f'extern "C" void launch_{text.name}(unsigned blocks, unsigned threads, void** arguments)\n'
        "{\n"
        "    blockDim.x = threads;\n"
        "    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)\n"
        "        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)\n"
        f"            {text.name}({values});\n"
        "}\n"
    )


#: (With the headers of C alone: those of C++ take longer to read than a kernel takes to compile.)
OPTIONS = (
    *("-std=c++17", "-nostdinc++", "-O1", "-ffp-contract=off", "-shared", "-fPIC"),
    *("-Wall", "-Wextra", "-Werror"),
    *("-Wno-unused-function", "-Wno-unused-parameter", "-Wno-unused-variable"),
)

_compiled: dict[str, Callable[..., None]] = {}


def _library(source: str) -> Path:
    """A source as a library, made by whichever process of the test run needs it first.

    A warning is an error.
    """
    library = sharing.folder("host") / f"{hashlib.sha256(source.encode()).hexdigest()}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            path, made = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
            path.write_text(source)
            command = ["g++", *OPTIONS, str(path), "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr
            made.rename(library)  # nobody sees half of it
    return library


def _load(texts: Mapping[str, Text]) -> None:
    """Make kernels ready to be run. Without a compiler, the test is skipped."""
    if missing():
        pytest.skip(missing())
    source = namespaces(text.source + _launcher(text) for text in texts.values())
    library = ctypes.CDLL(str(_library(SHIM + source.replace(cuda_kernel.HALF, HALF))))
    _compiled.update({name: getattr(library, f"launch_{name}") for name in texts})


def compile_all(texts: Iterable[Text]) -> None:
    """Compile those that are not compiled yet, in one go."""
    new = {text.name: text for text in texts if text.name not in _compiled}
    if new:
        _load(new)


def named(
    structure: Structure, dtype: str, variant: cuda_kernel.Variant = cuda_kernel.PLAIN
) -> tuple[str, str]:
    """The name under which the kernel of many tensors is compiled, and its text."""
    name = cuda_kernel.kernel_name(cuda_kernel.kernel_source(structure, dtype, variant=variant))
    return name, cuda_kernel.kernel_source(structure, dtype, name, variant)


#: Those of real numbers: a complex tensor has the kernel of its parts.
DTYPES = ["float16", "bfloat16", "float32", "float64"]


@functools.cache
def compile_every_algorithm() -> None:
    """The kernels of all algorithms, of many tensors and of one, in one go."""
    cases = list(itertools.product(every_structure(), DTYPES))
    many = [text_of(*reversed(named(*case))) for case in cases]
    texts = many + [wrapped(cuda_kernel.elementwise(*case)) for case in cases]
    _load({text.name: text for text in texts})


_PACKED = {"double": ctypes.c_double, "long long": ctypes.c_longlong}


def run(text: Text, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
    """Run a kernel. Arrays are passed by their addresses."""
    compile_all([text])
    assert len(arguments) == len(text.arguments)
    values = []
    for kind, argument in zip(text.arguments, arguments):
        if kind.endswith("*"):
            values.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            values.append(_PACKED[kind](argument))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    _compiled[text.name](blocks, threads, pointers)


class RawKernel:
    """``cupy.RawKernel``, but for what a device alone has."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        assert options == cuda_kernel.OPTIONS
        self.text = text_of(code, name)

    def compile(self) -> None:
        compile_all([self.text])

    def __call__(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        run(self.text, *grid, *block, args)


class ElementwiseKernel:
    """``cupy.ElementwiseKernel``, as far as arrays of one shape go."""

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str,
        preamble: str = "",
        no_return: bool = False,
        options: tuple[str, ...] = (),
    ) -> None:
        assert options == cuda_kernel.OPTIONS
        assert no_return
        self.text = wrapped(
            cuda_kernel.Elementwise(in_params, out_params, operation, preamble, (), (), ())
        )
        self.dtypes = [each.split()[-2] for each in f"{in_params}, {out_params}".split(", ")]

    def __call__(self, *args: Any) -> None:
        assert len(args) == len(self.dtypes)
        values, shapes = [], set()
        for kind, dtype, argument in zip(self.text.arguments[1:], self.dtypes, args):
            assert not kind.endswith("*") or argument.dtype == dtype, "Type is mismatched"
            if kind == "const long long*":
                shapes.add(argument.shape)
                argument = _addresses(argument)
            values.append(argument)
        (shape,) = shapes  # (CuPy would broadcast)
        run(self.text, 1, 64, [int(np.prod(shape)), *values])


def _addresses(array: np.ndarray) -> np.ndarray:
    """Where each element is."""
    places = np.full(array.shape, array.ctypes.data, np.int64)
    for axis, (length, stride) in enumerate(zip(array.shape, array.strides)):
        steps = np.arange(length, dtype=np.int64) * stride
        places += steps.reshape([-1 if other == axis else 1 for other in range(array.ndim)])
    return places.reshape(-1)
