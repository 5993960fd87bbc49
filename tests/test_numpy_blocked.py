"""The block interpreter against the for-loop, which runs the same rule directly, bit for bit."""

import functools
import threading
from types import SimpleNamespace

import numpy as np
import programs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import BFLOAT16, COMPLEX, REAL, assert_same_bits, momentum, numbers, same_bits

import arrayopt as optim
from arrayopt import get_num_threads, set_num_threads
from arrayopt.backend import Batch
from arrayopt.backends import numpy_blocked, numpy_memory
from arrayopt.backends.numpy_blocked import NumPyBlocked
from arrayopt.trace import FUNCTIONS


@pytest.fixture(autouse=True, scope="module")
def _small_blocks():
    """Blocks of 128 float32, so that small examples have many of them."""
    num_threads = get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numpy_blocked, "BLOCK_BYTES", 512)
        patch.setattr(numpy_blocked, "SMALL", 16)
        patch.setattr(numpy_memory, "SMALL", 16)
        patch.setattr(numpy_blocked, "_local", threading.local())
        yield
    set_num_threads(num_threads)


# Random programs


@programs.examples(250)
@given(
    rule=programs.rules(sorted(FUNCTIONS)),
    dtype=st.sampled_from(REAL + COMPLEX),
    shapes=st.lists(st.sampled_from(programs.SHAPES), min_size=1, max_size=4),
    num_threads=st.integers(1, 3),
)
def test_random_programs(rule, dtype, shapes, num_threads):
    members = [(shape, ("C", "C", "C")) for shape in shapes]
    assert_same_bits(
        NumPyBlocked(), rule, programs.makers(rule.states, dtype, dtype, members), num_threads
    )


@programs.examples(250)
@given(
    rule=programs.rules(programs.EXACT),
    dtypes=st.tuples(st.sampled_from(REAL), st.sampled_from([*REAL, np.dtype("i4")]))
    | st.tuples(st.sampled_from(COMPLEX), st.sampled_from(REAL + COMPLEX)),
    members=st.lists(
        st.tuples(st.sampled_from(programs.SHAPES), programs.layouts), min_size=1, max_size=3
    ),
    num_threads=st.integers(1, 3),
)
def test_random_programs_on_any_layout(rule, dtypes, members, num_threads):
    assert_same_bits(
        NumPyBlocked(), rule, programs.makers(rule.states, *dtypes, members), num_threads
    )


SIZES = [1, 10, 17, 128, 1000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", programs.RULES)
def test_rules_that_are_hard_on_the_assignment_of_memory(rule, size):
    assert_same_bits(NumPyBlocked(), rule, programs.two_vectors(size))


@pytest.mark.parametrize("grad_layout", programs.LAYOUTS)
@pytest.mark.parametrize("layout", programs.LAYOUTS)
def test_gradients_of_another_layout(layout, grad_layout):
    members = [(shape, (layout, grad_layout)) for shape in [(6, 10, 13), (2, 3, 4), (3, 1, 4)]]
    for dtypes in [("f", "f"), ("f", "d"), ("F", "F"), (BFLOAT16, "f")]:
        assert_same_bits(
            NumPyBlocked(), momentum, programs.makers((), *map(np.dtype, dtypes), members)
        )


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
        results.append(programs.evaluate(NumPyBlocked(), rule, make))
    for result in results[1:]:
        for name, arrays in results[0].items():
            assert all(map(same_bits, result[name], arrays))


def test_no_warning_and_the_error_state_is_the_users():
    def make():
        return [np.array([0.0, -1.0])], [np.array([0.0, 1.0])], {}

    def rule(xp, param, grad, state, group):
        return xp.log(param) / grad, {}

    with np.errstate(all="raise"):
        assert_same_bits(NumPyBlocked(), rule, make)
        with pytest.raises(FloatingPointError):
            np.log(np.zeros(1))


# Memory that overlaps: the result has to be that of one update after the other


@pytest.mark.parametrize("foreign", [False, True], ids=["own memory", "memory of a buffer"])
@pytest.mark.parametrize("size", [8, 16, 40, 600, 1000])
@pytest.mark.parametrize("overlap", programs.OVERLAPS.values(), ids=programs.OVERLAPS)
def test_overlapping_memory_is_updated_in_sequence(overlap, size, foreign):
    assert_same_bits(NumPyBlocked(), momentum, programs.overlapping(overlap, size, foreign))


@pytest.mark.parametrize("size", [8, 600])
def test_views_of_one_buffer_without_a_common_owner(size):
    def make():
        memory = np.linspace(-2, 1, size, dtype=np.float32)
        views = [np.frombuffer(memory.data, np.float32) for _ in range(2)]
        return views, [np.full(size, 0.5, np.float32), views[0][::-1]], {}

    assert_same_bits(NumPyBlocked(), momentum, make)


@pytest.mark.parametrize("size", [8, 600])
def test_a_gradient_that_owns_the_memory_of_a_foreign_view(size):
    def make():
        memory = np.linspace(-2, 1, size, dtype=np.float32)
        return [np.frombuffer(memory.data, np.float32)[::-1]], [memory], {}

    assert_same_bits(NumPyBlocked(), momentum, make)


def test_state_that_is_only_read_and_shares_memory_is_read_in_sequence():
    assert_same_bits(NumPyBlocked(), programs.anchored, programs.overlapping_anchor)


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
