"""The block interpreter against the for-loop, which runs the same rule directly, bit for bit."""

import functools
import operator
import tempfile
import threading
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import arrayopt as optim
from arrayopt import get_num_threads, set_num_threads
from arrayopt.backend import Batch
from arrayopt.backends import numpy_blocked
from arrayopt.backends.array_api import ForLoop
from arrayopt.backends.numpy_blocked import NumPyBlocked
from arrayopt.trace import FUNCTIONS, PREDICATES

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
REAL = [np.dtype(kind) for kind in ("e", BFLOAT16, "f", "d", "g")]
COMPLEX = [np.dtype(kind) for kind in ("F", "D", "G")]

#: NumPy's own result for these may depend on the strides of the operands.
INEXACT = {
    "atan2", "cos", "exp", "expm1", "hypot", "log", "log1p", "log2", "logaddexp", "pow", "sin",
    "tanh",
}  # fmt: skip
EXACT = sorted(set(FUNCTIONS) - INEXACT)
LOGICAL = {"logical_and", "logical_not", "logical_or", "logical_xor"}
NUMBERS = [-2.5, -1.0, -0.0, 0.5, 2.0, 3.0, 1e-3]


@pytest.fixture(autouse=True, scope="module")
def _small_blocks():
    """Blocks of 128 float32, so that small examples have many of them."""
    num_threads = get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_blocked, "BLOCK_BYTES", 512)
        patch.setattr(numpy_blocked, "SMALL", 16)
        patch.setattr(numpy_blocked, "_local", threading.local())
        yield
    set_num_threads(num_threads)


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


def assert_blocked_is_direct(rule, make, num_threads=2):
    set_num_threads(num_threads)
    expected = evaluate(ForLoop(), rule, make)
    result = evaluate(NumPyBlocked(), rule, make)
    assert list(result) == list(expected)
    for name, arrays in expected.items():
        for index, (a, b) in enumerate(zip(result[name], arrays, strict=True)):
            assert same_bits(a, b), f"{name} of parameter {index}"


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


@examples(250)
@given(
    rule=rules(sorted(FUNCTIONS)),
    dtype=st.sampled_from(REAL + COMPLEX),
    shapes=st.lists(st.sampled_from(SHAPES), min_size=1, max_size=4),
    num_threads=st.integers(1, 3),
)
def test_random_programs(rule, dtype, shapes, num_threads):
    members = [(shape, ("C", "C", "C")) for shape in shapes]
    assert_blocked_is_direct(rule, makers(rule.states, dtype, dtype, members), num_threads)


layout = st.sampled_from(sorted(LAYOUTS))
#: Those of the parameter, the gradient and the state; the state often as the parameter.
layouts = st.tuples(layout, layout, layout) | st.tuples(layout, layout).map(lambda t: (*t, t[0]))


@examples(250)
@given(
    rule=rules(EXACT),
    dtypes=st.tuples(st.sampled_from(REAL), st.sampled_from([*REAL, np.dtype("i4")]))
    | st.tuples(st.sampled_from(COMPLEX), st.sampled_from(REAL + COMPLEX)),
    members=st.lists(st.tuples(st.sampled_from(SHAPES), layouts), min_size=1, max_size=3),
    num_threads=st.integers(1, 3),
)
def test_random_programs_on_any_layout(rule, dtypes, members, num_threads):
    assert_blocked_is_direct(rule, makers(rule.states, *dtypes, members), num_threads)


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


SIZES = [1, 10, 17, 128, 1000]


RULES = [momentum, swap, one_value_for_all, mask_as_state, choice_of_temporaries, nested_choices]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_rules_that_are_hard_on_the_assignment_of_memory(rule, size):
    def make():
        new = functools.partial(numbers, dtype=np.dtype("f"), shape=(size,))
        return [new(1), new(2)], [new(3), new(4)], {}

    assert_blocked_is_direct(rule, make)


@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_another_layout(layout, grad_layout):
    members = [(shape, (layout, grad_layout)) for shape in [(6, 10, 13), (2, 3, 4), (3, 1, 4)]]
    for dtypes in [("f", "f"), ("f", "d"), ("F", "F"), (BFLOAT16, "f")]:
        assert_blocked_is_direct(momentum, makers((), *map(np.dtype, dtypes), members))


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.complex64, np.longdouble])
def test_the_number_of_threads_does_not_change_a_bit(dtype):
    def rule(xp, param, grad, state, group):
        return param - xp.exp(xp.sin(grad)) / (1 + abs(param)), {"new": xp.tanh(grad) * param}

    def make():
        new = functools.partial(numbers, dtype=np.dtype(dtype))
        return (
            [new(s, shape=(5000 + s,)) for s in range(4)],
            [new(s, shape=(4996 + s,)) for s in range(4, 8)],
            {},
        )

    results = []
    for num_threads in (1, 2, 3):
        set_num_threads(num_threads)
        results.append(evaluate(NumPyBlocked(), rule, make))
    for result in results[1:]:
        for name, arrays in results[0].items():
            assert all(map(same_bits, result[name], arrays))


def test_no_warning_and_the_error_state_is_the_users():
    def make():
        return [np.array([0.0, -1.0])], [np.array([0.0, 1.0])], {}

    def rule(xp, param, grad, state, group):
        return xp.log(param) / grad, {}

    with np.errstate(all="raise"):
        assert_blocked_is_direct(rule, make)
        with pytest.raises(FloatingPointError):
            np.log(np.zeros(1))


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


@pytest.mark.parametrize("foreign", [False, True], ids=["own memory", "memory of a buffer"])
@pytest.mark.parametrize("size", [8, 16, 40, 600, 1000])
@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=OVERLAPS)
def test_overlapping_memory_is_updated_in_sequence(overlap, size, foreign):
    def make():
        w, g = (np.linspace(start, 1, size, dtype=np.float32) for start in (-2, 5))
        if foreign:  # two views that have no common owner
            memory = bytearray(w.tobytes())
            w = np.frombuffer(memory, np.float32)
            g = np.frombuffer(bytearray(g.tobytes()), np.float32)
        return *overlap(w, g), {}

    assert_blocked_is_direct(momentum, make)


@pytest.mark.parametrize("size", [8, 600])
def test_views_of_one_buffer_without_a_common_owner(size):
    def make():
        memory = np.linspace(-2, 1, size, dtype=np.float32)
        views = [np.frombuffer(memory.data, np.float32) for _ in range(2)]
        return views, [np.full(size, 0.5, np.float32), views[0][::-1]], {}

    assert_blocked_is_direct(momentum, make)


@pytest.mark.parametrize("size", [8, 600])
def test_a_gradient_that_owns_the_memory_of_a_foreign_view(size):
    def make():
        memory = np.linspace(-2, 1, size, dtype=np.float32)
        return [np.frombuffer(memory.data, np.float32)[::-1]], [memory], {}

    assert_blocked_is_direct(momentum, make)


def test_a_gradient_that_begins_to_overlap_at_a_later_step():
    size = 600
    w, g = np.linspace(-2, 1, size), np.linspace(3, 1, size)
    expected = w.copy()
    batch = Batch(momentum, {}, [SimpleNamespace()], [w], [g], {}, {})
    executor = NumPyBlocked()
    executor.run(batch, executor.prepare(batch))
    expected -= 0.1 * g
    batch.grads = [w[::-1]]
    executor.run(batch, executor.prepare(batch))
    expected = expected - 0.1 * (0.9 * g + expected[::-1])
    assert np.array_equal(w, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("cut", [np.s_[..., ::2], np.s_[:, ::2], np.s_[::2]])
def test_a_strided_parameter_beside_a_gradient_that_is_cast(dtype, cut):
    base = np.arange(2 * 3 * 8, dtype=dtype).reshape(2, 3, 8)
    expected = base.copy()
    expected[cut] *= 0.5  # of 1 - lr, where the gradient is the parameter
    grad = base[cut].real.astype(np.float16)
    optim.SGD([base[cut]], lr=0.5, foreach=True).step(grads=[grad])
    np.testing.assert_array_equal(base, expected)
