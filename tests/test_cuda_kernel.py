"""Kernels in CUDA C++: compiled for devices, and run on the host against the rule on NumPy."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterable

import host_kernels
import ml_dtypes
import numpy as np
import nvrtc
import pytest
from host_kernels import DTYPES, named, needs_compiler
from programs import LEFT, assert_is_numpys, calls, numbers, pairs, same_bits
from specs import BY_NAME, every_structure, structures
from stepping import long_run

import arrayopt as optim
from arrayopt.backends import cuda_kernel
from arrayopt.backends.cuda_kernel import (
    CHUNK,
    THREADS,
    Variant,
    elementwise,
    kernel_source,
    store_source,
)
from arrayopt.backends.cuda_tables import chunk_table, pointer_table
from arrayopt.namespace import compute_dtype
from arrayopt.trace import FUNCTIONS, Structure, TraceError, trace

ARCHITECTURES = ["sm_80", "sm_90", "sm_100"]
VARIANTS = [Variant(*flags) for flags in itertools.product([False, True], repeat=2)]

needs_nvrtc = pytest.mark.skipif(bool(nvrtc.missing()), reason=nvrtc.missing())


def structure_of(rule, states=(), group=None) -> Structure:
    return trace(rule, tuple(states), {}, group or {}).structure


FUNCTION_STRUCTURES = {name: structure_of(calls(name)) for name in sorted(set(FUNCTIONS) - LEFT)}


def one_text(cases: Iterable[tuple[Structure, str, Variant]]) -> str:
    """Kernels as one text, each of them once."""
    sources = dict(named(*case) for case in cases)
    return host_kernels.namespaces(sources.values())


# Compiled for devices


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_many_tensors_compiles_without_a_word(architecture):
    cases = itertools.product(every_structure(), DTYPES, [VARIANTS[0], VARIANTS[-1]])
    if architecture == "sm_90":
        variants = [*VARIANTS[1:-1], *(Variant(grad=dtype) for dtype in DTYPES)]
        others = itertools.product(every_structure(), ["float32"], variants)
        cases = itertools.chain(cases, others)
    assert nvrtc.compile_for(architecture, one_text(cases)) == ""


@needs_nvrtc
def test_every_function_compiles_without_a_word():
    variants = [cuda_kernel.PLAIN]
    source = one_text(itertools.product(FUNCTION_STRUCTURES.values(), DTYPES[1:], variants))
    assert nvrtc.compile_for("sm_80", source) == ""


def as_cupy_writes_it(structure: Structure, dtype: str, variant: Variant) -> str:
    """The kernel of one contiguous tensor, as ``cupy.ElementwiseKernel`` has it compiled."""
    import cupy
    from cupy._core import _carray, _kernel, _scalar

    fused = importlib.import_module("arrayopt.backends.cupy_fused")
    kernel, _ = fused.kernel_of_one(structure, dtype, variant)
    assert kernel.kwargs["options"] == cuda_kernel.OPTIONS
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
        kernel.name,
        kernel.preamble,
    )
    return source


def compiled_as_cupy_writes_it(
    architecture: str, cases: Iterable[tuple[Structure, str, Variant]]
) -> str:
    """What the compiler has to say of them, with CuPy's own headers."""
    from cupy._core import core

    sources = dict.fromkeys(as_cupy_writes_it(*case) for case in cases)
    head = "".join(f"#include <{name}>\n" for name in core._cupy_header_list)
    source = head + host_kernels.namespaces(sources)
    return nvrtc.compile_for(architecture, source, nvrtc.headers())


@needs_nvrtc
@pytest.mark.skipif(not nvrtc.headers(), reason="CuPy is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_one_tensor_compiles_without_a_word_as_cupy_writes_it(architecture):
    cases = itertools.product(every_structure(), DTYPES, [cuda_kernel.PLAIN])
    if architecture == "sm_90":
        variants = [*VARIANTS, *(Variant(grad=dtype) for dtype in DTYPES)]
        cases = itertools.chain(cases, itertools.product(every_structure()[:4], DTYPES, variants))
    assert compiled_as_cupy_writes_it(architecture, cases) == ""


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


@needs_nvrtc
def test_the_kernel_that_stores_constants_compiles_without_a_word():
    counts = range(max(len(constants_of(structure)) for structure in every_structure()) + 1)
    source = host_kernels.namespaces(store_source(count, f"store_{count}") for count in counts)
    assert nvrtc.compile_for("sm_80", source) == ""


# Run on the host


def constants_of(structure: Structure) -> list[float]:
    """Numbers for the constants of a program: different ones, so that none can pass for another."""
    used = [operand for operation in structure.operations for operand in operation.operands]
    return [0.1 + 0.05 * number for number in range(-min([0, *used]))]


def storage(dtype: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)


def operands_of(structure: Structure, dtype: str, size: int, seed: int = 0) -> list[np.ndarray]:
    """Arrays for the operands of a program, none of whose numbers is negative under a root."""
    made = [numbers(seed + n, storage(dtype), (size,)) for n in range(len(structure.operands))]
    return [np.abs(array) if "sq" in n else array for n, array in zip(structure.operands, made)]


def expected_of(structure: Structure, operands: list[np.ndarray]) -> list[np.ndarray]:
    """The operands after a step, by NumPy, in the precision in which it is to be computed."""
    dtype = compute_dtype(operands[0])
    constants = [dtype.type(number) for number in constants_of(structure)]
    aliases = {"abs": "absolute", "atan2": "arctan2", "pow": "power", "round": "rint"}
    with np.errstate(all="ignore"):
        values = [operand.astype(dtype) for operand in operands[: len(structure.inputs)]]
        for function, uses in structure.operations:
            arguments = [values[use] if use >= 0 else constants[-1 - use] for use in uses]
            values.append(getattr(np, aliases.get(function, function))(*arguments))
        results = list(operands)
        for name, value in structure.outputs:
            column = structure.operands.index(name)
            results[column] = values[value].astype(operands[0].dtype)
    return results


def run_many(structure, dtype, tensors, variant=cuda_kernel.PLAIN, guards=(), constants=None):
    """Run the kernel of many tensors, each of which is a list of its operands."""
    name, source = named(structure, dtype, variant)
    sizes = [operands[0].size for operands in tensors]
    pointers = pointer_table([[a.ctypes.data for a in operands] for operands in tensors], sizes)
    chunks = chunk_table(sizes, CHUNK)
    constants = constants or constants_of(structure)
    arguments = [np.array(constants)] if variant.buffered else constants
    arguments = [pointers, chunks, *arguments, *guards]
    text = host_kernels.text_of(source, name)
    host_kernels.run(text, len(chunks), THREADS, arguments)


@pytest.fixture(scope="module")
def _compiled():
    host_kernels.compile_every_algorithm()


@long_run
@needs_compiler
@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kernel_is_numpys_to_the_bit(dtype):
    """Many tensors: chunks, a rest, one element, none; and numbers that are not finite."""
    sizes = [CHUNK + 5, 1, 0, 600]
    for structure in every_structure():
        tensors = [operands_of(structure, dtype, size, 7 * n) for n, size in enumerate(sizes)]
        expected = [expected_of(structure, operands) for operands in tensors]
        run_many(structure, dtype, tensors)
        for ours, theirs in zip(tensors, expected):
            assert all(map(same_bits, ours, theirs)), structure


@long_run
@needs_compiler
@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernel_of_one_tensor_is_that_of_many(dtype):
    for structure in every_structure():
        operands = operands_of(structure, dtype, 500)
        expected = expected_of(structure, operands)
        text = elementwise(structure, dtype)
        kernel = host_kernels.ElementwiseKernel(
            text.in_params,
            text.out_params,
            text.operation,
            "name",
            preamble=text.preamble,
            no_return=True,
            options=cuda_kernel.OPTIONS,
        )
        views = [a.view(view)[::-1] for a, view in zip(operands, text.views)]
        reads, writes = ([views[column] for column in each] for each in (text.reads, text.writes))
        kernel(*reads, *constants_of(structure), *writes)
        assert all(map(same_bits, operands, expected)), structure


#: Adam, with a state that is made and another that is read, and Rprop, with comparisons.
SOME = ["NAdam", "SGD", "Rprop"]


@needs_compiler
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_constants_out_of_a_buffer_and_steps_that_are_skipped_or_unscaled(name, variant):
    options = {"momentum": 0.9} if name == "SGD" else {}
    for structure in structures(BY_NAME[name], options):
        for dtype in ("float16", "float32", "float64"):
            flag = functools.partial(np.full, 1, dtype=np.float32)
            operands = operands_of(structure, dtype, 600)
            before = [operand.copy() for operand in operands]
            given = [*before]
            guards = ()
            if variant.guarded:
                for found in (1.0, np.inf, np.nan):
                    run_many(structure, dtype, [operands], variant, (flag(found), flag(4.0)))
                    assert all(map(same_bits, operands, before))
                guards = (flag(0.0), flag(3.0))
                grad = before[1].astype(compute_dtype(before[1]))
                given[1] = grad / grad.dtype.type(3.0)
            run_many(structure, dtype, [operands], variant, guards)
            expected = expected_of(structure, given)
            expected[1] = before[1]  # a gradient is not written to
            assert all(map(same_bits, operands, expected))


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_another_dtype_are_rounded_once(dtype):
    (structure,) = structures(BY_NAME["SGD"], {"weight_decay": 0.1})
    for grad in DTYPES:
        operands = operands_of(structure, dtype, 600)
        operands[1] = numbers(5, storage(grad), (600,))
        expected = expected_of(structure, operands)
        expected[1] = operands[1]
        run_many(structure, dtype, [operands], Variant(grad=grad))
        assert all(map(same_bits, operands, expected))


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_function_is_numpys(dtype):
    host_kernels.compile_all(
        host_kernels.text_of(*reversed(named(structure, dtype)))
        for structure in FUNCTION_STRUCTURES.values()
    )
    for name, structure in FUNCTION_STRUCTURES.items():
        operands = list(pairs(np.dtype(dtype)))
        expected = expected_of(structure, operands)[0]
        run_many(structure, dtype, [operands])
        assert_is_numpys(name, operands[0], expected)


#: The numbers of half precision, and of bfloat16, as bits: all of them.
BITS = np.arange(1 << 16, dtype=np.uint16)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_loaded_as_it_is_and_rounded_once(dtype):
    """Every number, and what lies between two of them: a tie, and what is next to it."""
    kind = storage(dtype)
    whole = BITS.view(kind).astype(np.float32)
    product = structure_of(lambda xp, p, g, s, group: (p * 0.5, {}))
    ties = [1 + 2.0**-8, 1 + 2.0**-9, 1 + 2.0**-11, 1 + 2.0**-12]
    for factor in [1.0, *ties, 2.0**-3, 1e-4, 3.0]:
        operands = [BITS.view(kind).copy(), np.zeros(len(BITS), kind)]
        run_many(product, dtype, [operands], constants=[factor])
        with np.errstate(all="ignore"):
            expected = (whole * np.float32(factor)).astype(kind)
        assert same_bits(operands[0], expected), factor


# Text


def test_names_that_cxx_or_cupy_has_a_use_for_are_replaced():
    names = ("row", "c0", "n1", "no name", "float", "sqrt", "sqrtf", "INFINITY", "_ind", "new_row")
    names += ("param_at", "size", "__x", "i", "\ufb01", "template", "t3", "found_inf", "real")

    def rule(xp, param, grad, state, group):
        total = xp.sqrt(param + grad)
        for name in names:
            total = total + state[name]
        return 2.0 * total, {name: total * number for number, name in enumerate(names)}

    structure = structure_of(rule, names)
    source = kernel_source(structure, "float32")
    assert "const float real = real_at;" in source  # which is a name like any other
    replaced = [n for n, name in enumerate(names, 2) if name not in ("new_row", "real")]
    assert all(f"& operand_{column}_at = " in source for column in replaced)
    operands = operands_of(structure, "float32", 40)
    if not nvrtc.missing():
        assert nvrtc.compile_for("sm_80", source) == ""
        if nvrtc.headers():
            case = (structure, "float32", cuda_kernel.PLAIN)
            assert compiled_as_cupy_writes_it("sm_80", [case]) == ""
    if not host_kernels.missing():
        expected = expected_of(structure, operands)
        run_many(structure, "float32", [operands])
        assert all(map(same_bits, operands, expected))


def test_a_changed_number_is_no_other_kernel():
    def source(**options):
        optimizer = optim.AdamW([np.zeros(1)], **options)
        reading = optimizer._read(optimizer.param_groups[0], 0)
        program = trace(optimizer._update, ("exp_avg", "exp_avg_sq"), {"step": 7}, reading.options)
        return kernel_source(program.structure, "float32")

    assert source(lr=0.1) == source(lr=0.2, betas=(0.8, 0.9), eps=1.0)
    assert source() != source(maximize=True)


@pytest.mark.parametrize(
    "expression",
    [
        lambda xp, p, g: p // g,
        lambda xp, p, g: p % g,
        lambda xp, p, g: (p > 0) * (g > 0) * p,
        lambda xp, p, g: xp.where(p > 0, p > 1, g > 1) * p,
    ],
)
def test_what_has_no_kernel_is_told(expression):
    structure = structure_of(lambda xp, p, g, s, group: (expression(xp, p, g), {}))
    with pytest.raises(TraceError, match="cannot be fused"):
        kernel_source(structure, "float32")
    with pytest.raises(TraceError, match="cannot be fused"):
        cuda_kernel.check_structure(structure)


def test_what_nothing_depends_on_is_left_out():
    def rule(xp, param, grad, state, group):
        _ = xp.exp(grad) * 3.0
        return param * 2.0, {}

    source = kernel_source(structure_of(rule), "float64")
    assert "exp" not in source
    assert "grad" not in source
    assert "double n0, double n1" in source  # as the program has them
    assert "c0" not in source


# Tables


def test_chunks_cover_every_number_once():
    sizes = [5, 0, 1, 12, 7, 0]
    chunks = chunk_table(sizes, 5)
    seen = [
        (tensor, element)
        for tensor, before in chunks.tolist()
        for element in range(5 * before, min(5 * before + 5, sizes[tensor]))
    ]
    assert seen == [(t, element) for t, size in enumerate(sizes) for element in range(size)]
    assert chunk_table([], 5).shape == chunk_table([0, 0], 5).shape == (0, 2)


def test_sizes_beyond_32_bits():
    size = (1 << 33) + 3
    chunks = chunk_table([7, size], CHUNK)
    assert len(chunks) == 1 + size // CHUNK + 1
    assert chunks[-1].tolist() == [1, size // CHUNK]
    table = pointer_table([[1 << 46, 3], [1 << 47, 5]], [7, size])
    assert table.dtype == np.int64
    assert table.tolist() == [[1 << 46, 3, 7], [1 << 47, 5, size]]


def test_pointers_and_sizes_have_to_belong_together():
    with pytest.raises(ValueError, match="zip"):
        pointer_table([[1, 2]], [3, 4])
