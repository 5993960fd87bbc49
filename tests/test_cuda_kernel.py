"""Kernels in CUDA C++: compiled for devices, and run on the host against the rule on NumPy."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable

import host_kernels
import numpy as np
import nvrtc
import pytest
from programs import INEXACT, numbers, same_bits
from specs import CASES, structures

import arrayopt as optim
from arrayopt.backends import cuda_kernel
from arrayopt.backends.cuda_kernel import (
    CHUNK,
    PRECISIONS,
    THREADS,
    Variant,
    elementwise,
    kernel_name,
    kernel_source,
)
from arrayopt.backends.cuda_tables import chunk_table, pointer_table
from arrayopt.trace import FUNCTIONS, Structure, TraceError, trace

ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
VARIANTS = [Variant(*flags) for flags in itertools.product([False, True], repeat=2)]

#: Those of real numbers: a complex tensor has the kernel of its parts.
DTYPES = ["float16", "bfloat16", "float32", "float64"]

#: Functions that are left to foreach.
LEFT = {"floor_divide", "remainder"}

needs_nvrtc = pytest.mark.skipif(bool(nvrtc.missing()), reason=nvrtc.missing())
needs_compiler = pytest.mark.skipif(bool(host_kernels.missing()), reason=host_kernels.missing())


@functools.cache
def every_structure() -> list[Structure]:
    """Every program of every algorithm under every set of options."""
    found = dict.fromkeys(s for spec, options in CASES for s in structures(spec, options))
    return sorted(found)


def function_rule(name: str):
    """A rule that calls one function."""

    def rule(xp, param, grad, state, group):
        arguments = [param, grad][: FUNCTIONS[name]]
        if name == "where":
            arguments = [param > grad, param, grad]
        if name.startswith("logical"):
            arguments = [argument > 0 for argument in arguments]
        return getattr(xp, name)(*arguments), {}

    return rule


def structure_of(rule, states=(), group=None) -> Structure:
    return trace(rule, tuple(states), {}, group or {}).structure


FUNCTION_STRUCTURES = {
    name: structure_of(function_rule(name)) for name in sorted(set(FUNCTIONS) - LEFT)
}


def named(
    structure: Structure, dtype: str, variant: Variant = cuda_kernel.PLAIN
) -> tuple[str, str]:
    """A kernel under the name under which it is compiled."""
    name = kernel_name(kernel_source(structure, dtype, variant=variant))
    return name, kernel_source(structure, dtype, name, variant)


def one_text(cases: Iterable[tuple[Structure, str, Variant]]) -> str:
    """Kernels as one text, each of them once."""
    sources = dict(named(*case) for case in cases)
    return host_kernels.namespaces(sources.values())


# Compiled for devices


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_many_tensors_compiles_without_a_word(architecture):
    variants = VARIANTS if architecture == "sm_90" else [VARIANTS[0], VARIANTS[-1]]
    source = one_text(itertools.product(every_structure(), DTYPES, variants))
    assert nvrtc.compile_for(architecture, source) == ""


@needs_nvrtc
def test_every_function_compiles_without_a_word():
    variants = [cuda_kernel.PLAIN]
    source = one_text(itertools.product(FUNCTION_STRUCTURES.values(), DTYPES[1:], variants))
    assert nvrtc.compile_for("sm_80", source) == ""


def as_cupy_writes_it(structure: Structure, dtype: str, variant: Variant) -> str:
    """The kernel of one contiguous tensor, as ``cupy.ElementwiseKernel`` has it compiled."""
    import cupy
    from cupy._core import _carray, _kernel, _scalar

    text = elementwise(structure, dtype, variant)
    name = kernel_name(f"{text}")
    kernel = cupy.ElementwiseKernel(
        text.in_params, text.out_params, text.operation, name, preamble=text.preamble
    )
    array, indexer, scalar = 1, 2, 3
    arguments = []
    for param in kernel.params:
        if param.name == "_ind":
            info = (indexer, _carray.Indexer, None, 1, True, True)
        elif param.raw or param.name.endswith("_at"):
            info = (array, cupy.ndarray, param.dtype, 1, True, True)
        else:
            info = (scalar, _scalar.CScalar, param.dtype, 0, True, True)
        arguments.append(_kernel._ArgInfo(*info))
    source: str = _kernel._get_elementwise_kernel_code(
        tuple(arguments),
        _kernel._TypeMap(()),
        kernel.params,
        kernel.operation,
        name,
        kernel.preamble,
    )
    return source


@needs_nvrtc
@pytest.mark.skipif(not nvrtc.headers(), reason="CuPy is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_one_tensor_compiles_without_a_word_as_cupy_writes_it(architecture):
    from cupy._core import core

    cases = itertools.product(every_structure(), DTYPES, [cuda_kernel.PLAIN])
    if architecture == "sm_90":
        cases = itertools.chain(cases, itertools.product(every_structure()[:5], DTYPES, VARIANTS))
    sources = dict.fromkeys(as_cupy_writes_it(*case) for case in cases)
    head = "".join(f"#include <{name}>\n" for name in core._cupy_header_list)
    source = head + host_kernels.namespaces(sources)
    assert nvrtc.compile_for(architecture, source, nvrtc.headers()) == ""


@needs_nvrtc
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [("float t0", "flaot t0", "flaot"), ("new_param", "int unused; new_param", "never referenced")],
)
def test_what_is_wrong_with_a_kernel_is_told(before, after, message):
    source = kernel_source(structure_of(lambda xp, p, g, s, group: (p - 2.0 * g, {})), "float32")
    assert nvrtc.compile_for("sm_80", source) == ""
    broken = source.replace(f"param_at = {before}", f"{after}").replace(before, after, 1)
    assert message in nvrtc.compile_for("sm_80", broken)


# Run on the host
