"""Random programs, arrays of any layout, and what the for-loop makes of them."""

import functools
import itertools
import operator
import tempfile
from types import SimpleNamespace

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from arrayopt import set_num_threads
from arrayopt.backend import Batch
from arrayopt.backends.array_api import ForLoop
from arrayopt.trace import FUNCTIONS, PREDICATES

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REAL = [np.dtype(kind) for kind in ("e", BFLOAT16, "f", "d", "g")]
COMPLEX = [np.dtype(kind) for kind in ("F", "D", "G")]

#: NumPy's own result for these may depend on the strides of the operands.
INEXACT = {
    "atan2", "cos", "exp", "expm1", "hypot", "log", "log1p", "log2", "logaddexp", "pow", "sin",
    "tanh",
}  # fmt: skip
#: Which zero is the larger one depends on where NumPy's vectors end.
SIGNS = {"maximum", "minimum"}
#: Those of compilers are not NumPy's, and are not fused.
LEFT = {"floor_divide", "remainder"}
EXACT = sorted(set(FUNCTIONS) - INEXACT)
LOGICAL = {"logical_and", "logical_not", "logical_or", "logical_xor"}
NUMBERS = [-2.5, -1.0, -0.0, 0.5, 2.0, 3.0, 1e-3]


# Layouts: functions from a maker of arrays and a shape to an array of that shape


def memory_map(new, shape):
    values = new(shape)
    if not values.size:
        return values
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, values.dtype, "w+", shape=shape or (1,))
    mapped[...] = values
    return np.asarray(mapped).reshape(shape)


def odd_strides(new, shape):
    """Strides that mean nothing, on the axes of length 1."""
    array = new(shape)
    strides = [3 if n == 1 else stride for n, stride in zip(shape, array.strides)]
    return as_strided(array, shape, strides)


LAYOUTS = {
    "C": lambda new, shape: new(shape),
    "Fortran": lambda new, shape: np.asarray(new(shape), order="F"),
    "rotated": lambda new, shape: (
        np.moveaxis(new(shape[-1:] + shape[:-1]), 0, -1) if shape else new(shape)
    ),
    "every other": lambda new, shape: new((*shape, 2))[..., 1],
    "reversed": lambda new, shape: new(shape)[(..., *[slice(None, None, -1)] * len(shape))],
    "first reversed": lambda new, shape: new(shape)[(slice(None, None, -1), ...) if shape else ...],
    "odd strides": odd_strides,
    "memory map": memory_map,
    "offset": lambda new, shape: new((int(np.prod(shape)) + 1,))[1:].reshape(shape),
}
SHAPES = [(), (0,), (2, 0, 3), (1,), (5,), (1, 3, 1), (16,), (2, 3, 4), (17,), (1, 60, 1)]
SHAPES += [(128,), (129,), (9, 1, 40), (6, 10, 13), (1000,)]


def numbers(seed, dtype, shape):
    """Numbers of all sizes, with zeros of both signs, infinities and NaNs among them."""
    rng = np.random.default_rng(seed)

    def reals():
        values = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)
        special = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0], shape)
        return np.where(rng.random(shape) < 0.1, special, values)

    with np.errstate(invalid="ignore"):
        if dtype.kind == "i":
            return np.asarray(rng.integers(-5, 5, shape), dtype)
        values = np.asarray(reals(), dtype)
        if dtype.kind == "c":
            values.imag = reals()
        return values


def same_bits(a, b):
    """Whether two arrays hold the same numbers, signs of zero included; one NaN is as another."""

    def same(a, b):
        nan = np.isnan(a)
        return (
            np.array_equal(nan, np.isnan(b))
            and np.array_equal(a[~nan], b[~nan])
            and np.array_equal(np.signbit(a[~nan]), np.signbit(b[~nan]))
        )

    complex_ = a.dtype.kind == "c"
    parts = [(a.real, b.real), (a.imag, b.imag)] if complex_ else [(a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and all(same(x, y) for x, y in parts)


def evaluate(executor, rule, make, steps=2):
    """The arrays and the states after some steps on what ``make() -> arrays, grads, states`` makes.

    A gradient that shares no memory with the arrays has to be left as it was.
    """
    arrays, grads, states = make()
    originals = list(arrays)
    before = [grad.tobytes() for grad in grads]
    batch = Batch(rule, {}, [SimpleNamespace() for _ in arrays], arrays, grads, states, {})
    for _ in range(steps):
        executor.run(batch, executor.prepare(batch))
    aliased = [any(np.may_share_memory(grad, array) for array in arrays) for grad in grads]
    after = [grad.tobytes() for grad in grads]
    assert all(a == b or shared for a, b, shared in zip(before, after, aliased))
    assert all(map(operator.is_, batch.arrays, originals))
    return {"param": batch.arrays, **batch.states}


# Random programs


@st.composite
def rules(draw, functions):
    """A rule of random operations, as a list of them, and the names of the states it reads."""
    states = draw(st.sampled_from([(), ("a",), ("a", "b")]))
    reals, masks, lines = list(range(2 + len(states))), [], []
    count = len(reals)

    def emit(function, *operands):
        nonlocal count
        lines.append((function, operands))
        (masks if function in PREDICATES else reals).append(count)
        count += 1

    def array():  # the latest results often, so that values live and die
        return draw(st.sampled_from(reals[-3:]) | st.sampled_from(reals))

    def operand():
        return draw(st.just(array()) | st.sampled_from(NUMBERS))

    for _ in range(draw(st.integers(0, 12))):
        function = draw(st.sampled_from(functions))
        if (function in LOGICAL or function == "where") and not masks:
            emit("greater", array(), array())
        if function in LOGICAL:
            emit(function, *[draw(st.sampled_from(masks)) for _ in range(FUNCTIONS[function])])
            continue
        condition = [draw(st.sampled_from(masks))] if function == "where" else []
        arguments = [array()]
        if FUNCTIONS[function] > 1:
            arguments = draw(st.permutations([array(), operand()]))
        emit(function, *condition, *arguments)
    names = [name for name in (*states, "new", "newer") if draw(st.booleans())]
    outputs = {name: array() for name in ("param", *names)}
    return Rule(lines, outputs, states)


class Rule:
    """A list of operations as a rule. It prints as what Hypothesis should show."""

    def __init__(self, lines, outputs, states):
        self.lines, self.outputs, self.states = lines, outputs, states

    def __repr__(self):
        return f"Rule({self.lines}, {self.outputs}, {self.states})"

    def __call__(self, xp, param, grad, state, group):
        values = [param, grad, *(state[name] for name in self.states)]
        for function, operands in self.lines:
            # an integer names a value, a float is a number
            arguments = [values[o] if isinstance(o, int) else o for o in operands]
            values.append(getattr(xp, function)(*arguments))
        results = {name: values[value] for name, value in self.outputs.items()}
        return results.pop("param"), results


def makers(states, dtype, grad_dtype, members):
    """A function that makes the same arrays every time: ``members`` are (shape, three layouts)."""

    def make():
        def column(seed, dtype, which):
            return [
                LAYOUTS[layouts[which]](functools.partial(numbers, seed + i, dtype), shape)
                for i, (shape, layouts) in enumerate(members)
            ]

        columns = {name: column(200 + 100 * i, dtype, 2) for i, name in enumerate(states)}
        return column(0, dtype, 0), column(100, grad_dtype, 1), columns

    return make


def examples(number):
    return settings(
        max_examples=number,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


layout = st.sampled_from(sorted(LAYOUTS))
#: Those of the parameter, the gradient and the state; the state often as the parameter.
layouts = st.tuples(layout, layout, layout) | st.tuples(layout, layout).map(lambda t: (*t, t[0]))


def assert_same_bits(executor, rule, make, num_threads=2):
    """Whether `executor` and the for-loop, the rule itself, leave the same bits."""
    set_num_threads(num_threads)
    expected = evaluate(ForLoop(), rule, make)
    result = evaluate(executor, rule, make)
    assert list(result) == list(expected)
    for name, arrays in expected.items():
        for index, (a, b) in enumerate(zip(result[name], arrays, strict=True)):
            assert same_bits(a, b), f"{name} of parameter {index}"


# What random programs would seldom hit


def momentum(xp, param, grad, state, group):
    buf = 0.9 * state["buf"] + grad if "buf" in state else grad
    return param - 0.1 * buf, {"buf": buf}


def swap(xp, param, grad, state, group):
    return state.get("buf", grad), {"buf": param}


def one_value_for_all(xp, param, grad, state, group):
    value = param - grad
    return value, {"buf": value, "other": value}


def mask_as_state(xp, param, grad, state, group):
    mask = grad > 0
    return xp.where(mask, param - grad, param), {"buf": mask}


def choice_of_temporaries(xp, param, grad, state, group):
    return xp.where(grad > 0, param * 2, grad * 3), {"buf": xp.where(param > 0, grad + 1, 0.5)}


def nested_choices(xp, param, grad, state, group):
    mask = (grad > 0) & ~(param > 0)
    inner = xp.where(mask, param, grad * 2)
    return xp.where(mask, inner * inner, xp.where(~mask, inner, param)), {"buf": inner}


def calls(function):
    """A rule that calls one function."""

    def rule(xp, param, grad, state, group):
        arguments = [param, grad][: FUNCTIONS[function]]
        if function == "where":
            arguments = [param > grad, param, grad]
        if function.startswith("logical"):
            arguments = [argument > 0 for argument in arguments]
        return getattr(xp, function)(*arguments), {}

    return rule


def pairs(dtype):
    """Pairs of numbers of all sizes, every special one with every other."""
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -2.0, 3.0]
    special += [np.finfo(dtype).max, np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal]
    x, y = np.array([*itertools.product(special, special)], dtype).T
    return np.concatenate([x, numbers(1, dtype, (500,))]), np.concatenate(
        [y, numbers(2, dtype, (500,))]
    )


def assert_is_numpys(function, result, expected):
    """Whether what a kernel makes of a function is what NumPy does."""
    if function in SIGNS:
        result, expected = result + 0.0, expected + 0.0
    if function not in INEXACT:
        assert same_bits(result, expected), function
        return
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(expected), function)
    odd = ~np.isfinite(expected)
    np.testing.assert_array_equal(result[odd], expected[odd], function)
    tiny = np.finfo(expected.dtype).tiny
    normal = ~odd & (np.abs(expected) >= tiny)
    np.testing.assert_array_max_ulp(result[normal], expected[normal], maxulp=4)
    np.testing.assert_allclose(result[~odd], expected[~odd], rtol=1e-5, atol=tiny)


RULES = [momentum, swap, one_value_for_all, mask_as_state, choice_of_temporaries, nested_choices]


# Memory that overlaps: the result has to be that of one update after the other


OVERLAPS = {
    "tied": lambda w, g: ([w, w], [g, 2 * g]),
    "tied and reversed": lambda w, g: ([w, w[::-1]], [g, 2 * g]),
    "shifted": lambda w, g: ([w[:-1], w[1:]], [g[1:], g[:-1]]),
    "part of a whole": lambda w, g: ([w, w[2:5]], [g, g[2:5]]),
    "interleaved": lambda w, g: ([w[::2], w[1::2]], [g[::2], g[1::2]]),
    "interleaved, each the other's gradient": lambda w, g: ([w[::2], w[1::2]], [w[1::2], w[::2]]),
    "gradient is the parameter": lambda w, g: ([w], [w]),
    "gradient is the parameter reversed": lambda w, g: ([w], [w[::-1]]),
    "gradient is the parameter shifted": lambda w, g: ([w[1:-1]], [w[2:]]),
    "gradient is another parameter": lambda w, g: ([w, g], [g, w]),
    "gradient is a view of another parameter": lambda w, g: ([w, g], [g[::-1], w[::-1]]),
    "one gradient for two": lambda w, g: ([w, w + 1], [g, g]),
    "one repeated number as gradient": lambda w, g: ([w], [np.broadcast_to(g[0], w.shape)]),
}


def overlapping(overlap, size, foreign=False):
    """A maker of arrays and gradients that share memory as ``overlap(w, g)`` has it."""

    def make():
        w, g = (np.linspace(start, 1, size, dtype=np.float32) for start in (-2, 5))
        if foreign:  # two views that have no common owner
            memory = bytearray(w.tobytes())
            w = np.frombuffer(memory, np.float32)
            g = np.frombuffer(bytearray(g.tobytes()), np.float32)
        return *overlap(w, g), {}

    return make


def anchored(xp, param, grad, state, group):
    """It reads a state that it does not write."""
    return param - 0.5 * (param - state["anchor"]) - grad, {}


def overlapping_anchor():
    """A maker of a parameter for `anchored`, and a state that lies one number beside it."""
    memory = np.linspace(-1, 1, 1001)
    return [memory[1:]], [np.ones(1000)], {"anchor": [memory[:-1]]}


def two_vectors(size):
    """A maker of two parameters of float32 and their gradients."""

    def make():
        new = functools.partial(numbers, dtype=np.dtype("f"), shape=(size,))
        return [new(1), new(2)], [new(3), new(4)], {}

    return make
