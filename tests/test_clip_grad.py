"""Clipping of gradients: the numbers of torch, the accuracy of more precision, and no surprises."""

from __future__ import annotations

import inspect
import math
import tracemalloc
import warnings
from types import SimpleNamespace

import array_api_strict
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
import torch
from arrays import normal, read_only
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import arrayopt as optim
from arrayopt.clip_grad import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from arrayopt.norms import NUMPY_BLOCK
from arrayopt.sparse_grad import SparseGrad

INF, NAN = math.inf, math.nan
ORDERS = [2.0, 1.0, 0.0, 0.5, 3.0, -1.0, -2.5, INF, -INF]
LIBRARIES = {"numpy": np.asarray, "strict": array_api_strict.asarray, "torch": torch.from_numpy}
DTYPES = ["float32", "float64", "complex64", "complex128"]
SHAPES = [(5,), (3, 4), (), (2, 1, 3)]


def numbers(dtype, shapes=SHAPES, scale=10.0):
    return [np.asarray(scale * array, dtype) for array in normal(0, shapes, dtype)]


def parameters(grads):
    made = [optim.Parameter(grad) for grad in grads]
    for parameter in made:
        parameter.grad = parameter.data
    return made


def torch_parameters(grads):
    made = []
    for grad in grads:
        made.append(torch.nn.Parameter(torch.zeros(grad.shape, dtype=torch.from_numpy(grad).dtype)))
        made[-1].grad = torch.from_numpy(grad.copy())
    return made


def tolerance(dtype):
    return 2e-6 if np.dtype(dtype).name in {"float32", "complex64"} else 1e-14


def exact_norm(arrays, order=2):
    """The norm by sums of fractions of unlimited range, correctly rounded sums, and `math`."""
    values = [abs(complex(v)) for array in arrays for v in np.asarray(array).ravel()]
    largest = max(values, default=0.0)
    if largest == 0:
        return 0.0
    return largest * math.fsum((v / largest) ** order for v in values) ** (1 / order)


# The numbers of torch


@pytest.mark.parametrize(
    "function", [clip_grad_norm_, clip_grad_value_, get_total_norm, clip_grads_with_norm_]
)
def test_signatures_are_those_of_torch(function):
    def described(f):
        return [(p.name, p.default, p.kind) for p in inspect.signature(f).parameters.values()]

    assert described(function) == described(getattr(torch.nn.utils, function.__name__))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_norm_and_clipped_gradients_are_those_of_torch(library, dtype, order):
    grads = numbers(dtype)
    theirs = torch_parameters(grads)
    for max_norm in (1e9, 0.5, 0.0):
        with warnings.catch_warnings():  # of order 0 and complex numbers, by torch
            warnings.filterwarnings("ignore", "Casting complex values to real")
            expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, order)
        ours = parameters([LIBRARIES[library](grad.copy()) for grad in grads])
        if max_norm == 1e9:
            alone = get_total_norm([p.grad for p in ours], order)
            assert str(alone.dtype).endswith(str(expected.dtype).removeprefix("torch."))
            np.testing.assert_allclose(float(alone), expected.item(), rtol=tolerance(dtype))
        norm = clip_grad_norm_(ours, max_norm, order)
        np.testing.assert_allclose(float(norm), expected.item(), rtol=tolerance(dtype))
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(
                np.asarray(a.grad), b.grad.numpy(), rtol=tolerance(dtype), atol=1e-30
            )
        grads = [b.grad.numpy().copy() for b in theirs]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("order", ORDERS)
def test_half_precision_computes_in_single_and_rounds_once(library, dtype, order):
    half = np.dtype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    grads = [grad.astype(half) for grad in numbers("float32", scale=30.0)]
    theirs = torch_parameters([grad.astype(np.float32) for grad in grads])
    expected = torch.nn.utils.clip_grad_norm_(theirs, 2.0, order)
    if library == "torch":
        given = [torch.from_numpy(g.astype(np.float32)).to(getattr(torch, dtype)) for g in grads]
    else:
        given = [grad.copy() for grad in grads]
    ours = parameters(given)
    norm = clip_grad_norm_(ours, 2.0, order)
    assert str(norm.dtype).endswith("float32")
    np.testing.assert_allclose(float(norm), expected.item(), rtol=2e-6)
    for a, b in zip(ours, theirs):
        got = a.grad.float().numpy() if library == "torch" else a.grad.astype(np.float32)
        assert dtype in str(a.grad.dtype)
        # half a unit in the last place, of 11 and 8 binary digits
        digits = 11 if dtype == "float16" else 8
        np.testing.assert_allclose(got, b.grad.numpy(), rtol=1.001 * 2.0**-digits, atol=1e-7)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", [INF, -INF, NAN])
@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.0, INF])
def test_what_is_not_finite_gives_the_numbers_of_torch(library, bad, order):
    grads = [np.array([3.0, bad], np.float32), np.array([-1.0], np.float32)]
    theirs = torch_parameters(grads)
    ours = parameters([LIBRARIES[library](grad.copy()) for grad in grads])
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.7, order)
    np.testing.assert_allclose(float(clip_grad_norm_(ours, 0.7, order)), expected.item())
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(np.asarray(a.grad), b.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip_value", [0.0, 0.1, 3.0, INF, np.float32(0.3), np.array(2.0)])
def test_clipped_values_are_those_of_torch(library, dtype, clip_value):
    grads = [*numbers(dtype), np.array([NAN, INF, -INF, 0.0, 0.1], dtype)]
    theirs = torch_parameters(grads)
    ours = parameters([LIBRARIES[library](grad.copy()) for grad in grads])
    assert clip_grad_value_(ours, clip_value) is None
    torch.nn.utils.clip_grad_value_(theirs, float(clip_value))
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(np.asarray(a.grad), b.grad.numpy())


@pytest.mark.parametrize("half", [np.float16, ml_dtypes.bfloat16])
def test_clipped_half_precision_values_are_those_of_torch(half):
    grad = np.array([3.0, -0.2, NAN, -INF, 0.05]).astype(half)
    theirs = torch.tensor([3.0, -0.2, NAN, -INF, 0.05]).to(
        torch.float16 if half is np.float16 else torch.bfloat16
    )
    clip_grad_value_([grad], 0.1)
    theirs.clamp_(-0.1, 0.1)
    np.testing.assert_array_equal(grad.astype(np.float32), theirs.float().numpy())


def test_parameters_of_torch_are_clipped_as_torch_does():
    grads = numbers("float32")
    ours, theirs = torch_parameters(grads), torch_parameters(grads)
    memory = [p.grad.data_ptr() for p in ours]
    norm = clip_grad_norm_(iter(ours), 1.5)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 1.5)
    assert isinstance(norm, torch.Tensor)
    assert norm.shape == ()
    torch.testing.assert_close(norm, expected)
    assert [p.grad.data_ptr() for p in ours] == memory
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_given_norm_is_what_is_clipped_by():
    for total_norm in (6.0, np.float32(6), np.array(6.0), np.array([6.0]), torch.tensor(6.0)):
        grad = np.array([3.0, -9.0])
        assert clip_grads_with_norm_([grad], 2.0, total_norm) is None
        np.testing.assert_allclose(grad, np.array([3.0, -9.0]) * (2 / (6 + 1e-6)), rtol=1e-6)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, -9.0])
    clip_grads_with_norm_(parameter, 2.0, 6.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([1.0, -3.0]))


# Accuracy


@given(
    st.lists(
        hnp.arrays(
            np.float64,
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
            elements=st.floats(-1e290, 1e290),
        ),
        max_size=4,
    ),
    st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.5]),
)
@settings(max_examples=150, deadline=None)
def test_the_norm_is_that_of_higher_precision_over_the_whole_range(arrays, order):
    expected = exact_norm(arrays, order)
    result = get_total_norm(arrays, order)
    assert result.shape == ()
    # subnormal numbers have fewer digits
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-322)
    strict = [array_api_strict.asarray(array) for array in arrays]
    np.testing.assert_allclose(float(get_total_norm(strict, order)), expected, rtol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("dtype", "value"),
    [("float64", 1e200), ("float64", 1e-200), ("float32", 1e30), ("float32", 1e-30)],
)
@pytest.mark.parametrize("order", [2.0, 3.0, 40.0])
def test_powers_neither_overflow_nor_underflow(library, dtype, value, order):
    array = LIBRARIES[library](np.full(16, value, dtype))
    expected = float(np.dtype(dtype).type(value)) * 16 ** (1 / order)
    np.testing.assert_allclose(float(get_total_norm([array] * 3, order)) * 3 ** (-1 / order),
                               expected, rtol=2e-7)  # fmt: skip


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_half_precision_gradients_do_not_overflow(library):
    # in float16 torch returns inf: 1,000 * sqrt(100,000) > 65,504
    array = LIBRARIES[library](np.full(100_000, 1000.0, np.float16))
    assert float(get_total_norm(array)) == pytest.approx(1000 * math.sqrt(100_000), rel=1e-6)


@pytest.mark.parametrize("value", [0.1, 1.7, None])
def test_the_norm_of_16_7_million_numbers_in_single_precision_is_accurate(value):
    count = 16_700_000
    if value is None:
        array = np.random.default_rng(0).random(count, dtype=np.float32)
        expected = math.sqrt(np.sum(np.square(array.astype(np.longdouble))))
    else:
        array = np.full(count, value, np.float32)
        expected = float(np.float32(value)) * math.sqrt(count)
    assert float(get_total_norm(array)) == pytest.approx(expected, rel=2**-22)


@pytest.mark.parametrize("order", [2.0, 1.0, 0.0, 3.0, INF, -INF])
def test_a_gradient_of_many_blocks_in_any_layout(order):
    base = np.random.default_rng(1).standard_normal((700, 2, 1600))
    ours = base.astype(np.float32)
    assert ours.size > 4 * NUMPY_BLOCK
    # of order 0 is, as in torch, the number of arrays that are not zero
    expected = np.linalg.norm(ours.astype(np.float64).ravel(), order) if order else 1.0
    for view in (ours, ours.T, np.asfortranarray(ours), ours[::-1, :, ::-1], ours.swapaxes(1, 2)):
        assert get_total_norm(view, order) == pytest.approx(expected, rel=1e-6)
    view = ours[:, :, ::2]
    clip_grads_with_norm_([view], 1.0, 2.0)
    expected = base.astype(np.float32)
    expected[:, :, ::2] *= np.float32(1 / (2 + 1e-6))
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("order", [2.0, 3.0, INF])
def test_short_arrays_of_several_dtypes_and_layouts_are_one_vector(order):
    rng = np.random.default_rng(2)
    dtypes = [np.float16, ml_dtypes.bfloat16, np.float32, ">f4", np.float64, np.complex64]
    grads = [rng.standard_normal((7, 31)).astype(dtypes[i % 6])[:, ::-2] for i in range(60)]
    values = np.concatenate([np.abs(grad.astype(np.complex128)).ravel() for grad in grads])
    norm = get_total_norm(grads, order)
    assert norm == pytest.approx(np.linalg.norm(values, order), rel=1e-6)
    clip_grads_with_norm_(grads, 1.0, 2.0)
    assert get_total_norm(grads, order) == pytest.approx(norm / (2 + 1e-6), rel=1e-3)


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_does_not_change_a_bit(threads):
    grads = numbers("float32", [(1_100_000,), (300, 1000), (7,)])
    before = optim.get_num_threads()
    results = []
    try:
        for count in (1, threads):
            optim.set_num_threads(count)
            clipped = [grad.copy() for grad in grads]
            results.append((clip_grad_norm_(clipped, 1.0), clipped))
    finally:
        optim.set_num_threads(before)
    (one, clipped_by_one), (many, clipped_by_many) = results
    assert one == many
    for a, b in zip(clipped_by_one, clipped_by_many):
        np.testing.assert_array_equal(a, b)


def test_little_memory_is_needed_beyond_the_gradient():
    grad = np.ones(16_700_000, np.float32)
    memory = grad.ctypes.data
    tracemalloc.start()
    try:
        clip_grad_norm_([grad], 1.0)
        clip_grad_value_([grad], 1e-5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20
    assert grad.ctypes.data == memory
    assert grad[0] == grad[-1] == np.float32(1e-5)  # 1 / sqrt(16.7e6) is 2.4e-4


# What can be given


def test_nothing_to_clip_has_norm_zero():
    parameter = optim.Parameter(np.zeros(3))
    for nothing in ([], {}, [parameter], parameter, [None], [np.zeros(0)], {"a": None}):
        assert clip_grad_norm_(nothing, 1.0) == 0.0
        clip_grad_value_(nothing, 1.0)
    for order in ORDERS:
        assert get_total_norm([], order) == get_total_norm([np.zeros((0, 2))], order) == 0.0
        # torch raises for the orders below 0 and the infinite ones
        assert get_total_norm([np.zeros(0), np.ones(1)], order) == 1.0


@pytest.mark.parametrize("function", [clip_grad_norm_, clip_grad_value_])
def test_a_used_up_iterator_is_warned_of(function):
    with pytest.warns(UserWarning, match="used up"):
        function(iter([]), 1.0)


def test_every_form_in_which_gradients_come():
    def module():
        tree = optim.Module()
        tree.w = optim.Parameter(np.zeros(2))
        tree.w.grad = np.array([3.0, 4.0])
        return tree

    class Foreign:
        grad = None

    foreign = Foreign()
    foreign.grad = np.array([3.0, 4.0])
    bare = np.array([3.0, 4.0])
    for given_, result in [
        (module().parameters(), None),
        (dict(module().named_parameters()), None),
        (module().w, None),
        (foreign, lambda: foreign.grad),
        ([bare, None], lambda: bare),
        (SimpleNamespace(grad=bare), lambda: bare),
    ]:
        foreign.grad[:] = bare[:] = [3.0, 4.0]
        assert clip_grad_norm_(given_, 1.0) == 5.0
        if result:
            np.testing.assert_allclose(result(), [0.6, 0.8], rtol=1e-6)
    for given_ in ({"w": bare}, bare, iter([bare])):
        bare[:] = [3.0, 4.0]
        clip_grad_value_(given_, 3.5)
        np.testing.assert_array_equal(bare, [3.0, 3.5])


def test_one_call_over_libraries_and_dtypes():
    grads = [
        np.array([3.0], np.float32),
        array_api_strict.asarray([4.0]),
        torch.tensor([12.0], dtype=torch.float16),
        np.array([84.0j], np.complex64),
    ]
    owners = parameters(grads)
    norm = clip_grad_norm_(owners, 8.5)
    assert isinstance(norm, np.float64)  # the library of the first, the largest precision
    assert norm == 85.0
    assert isinstance(norm, float)
    for owner, expected in zip(owners, [0.3, 0.4, 1.2, 8.4j]):
        value = complex(owner.grad.item() if hasattr(owner.grad, "item") else owner.grad[0])
        assert value == pytest.approx(expected, rel=1e-3)
    assert isinstance(get_total_norm(grads[2:]), torch.Tensor)


@pytest.mark.parametrize("library", LIBRARIES)
def test_an_array_that_is_there_twice_counts_twice_and_is_scaled_once(library):
    grad = LIBRARIES[library](np.array([3.0, 4.0]))
    tied = [SimpleNamespace(grad=grad), SimpleNamespace(grad=grad)]
    expected = math.sqrt(2) * 5
    assert float(clip_grad_norm_(tied, 1.0)) == pytest.approx(expected)
    np.testing.assert_allclose(np.asarray(grad), np.array([3.0, 4.0]) / expected, rtol=1e-6)
    assert float(get_total_norm([grad, grad])) == pytest.approx(1.0, rel=1e-6)


def test_a_scalar_gradient_of_numpy_is_replaced():
    parameter = optim.Parameter(np.array(1.0))
    parameter.grad = parameter.data * 8.0  # numpy.float64, which is immutable
    assert clip_grad_norm_(parameter, 2.0) == 8.0
    assert float(parameter.grad) == pytest.approx(2.0, rel=1e-6)
    clip_grad_value_(parameter, 0.5)
    assert float(parameter.grad) == 0.5


@pytest.fixture
def immutable(monkeypatch):
    """An array of array-api-strict as if it could not be written to."""
    from arrayopt import clip_grad

    def is_writeable(array):
        return isinstance(array, np.ndarray)

    monkeypatch.setattr(clip_grad, "is_writeable", is_writeable)
    return array_api_strict.asarray([3.0, 4.0])


def test_an_immutable_gradient_is_replaced(immutable):
    first, second = parameters([immutable, immutable])
    clip_grad_norm_([first, second], 1.0)
    expected = np.array([3.0, 4.0]) / math.sqrt(50)
    for parameter in (first, second):
        assert parameter.grad is not immutable
        np.testing.assert_allclose(np.asarray(parameter.grad), expected, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(immutable), [3.0, 4.0])


def test_immutable_values_of_a_sparse_gradient_are_replaced(immutable):
    grad = SparseGrad(array_api_strict.asarray([4, 1]), immutable, (5,))
    assert float(clip_grad_norm_([grad], 1.0)) == 5.0
    np.testing.assert_allclose(np.asarray(grad.values), [0.6, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(immutable), [3.0, 4.0])


def test_a_bare_immutable_array_is_an_error(immutable):
    grad = np.array([3.0])
    with pytest.raises(ValueError, match="gradient 1: a bare array of array_api_strict"):
        clip_grad_norm_([grad, immutable], 1.0)
    assert grad[0] == 3.0


def test_the_graph_of_torch_is_left_alone():
    parameter = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    (parameter**3).sum().backward(create_graph=False)
    parameter.grad = (parameter**2).clone()
    norm = clip_grad_norm_([parameter], 1.0)
    assert not norm.requires_grad
    torch.testing.assert_close(norm, torch.tensor(math.hypot(9, 16)))


# Sparse gradients


def sparse():
    return SparseGrad([2, 0, 2], np.array([3.0, 12.0, 1.0]), (5,))


def test_the_norm_of_a_sparse_gradient_is_that_of_the_dense_one():
    for order in ORDERS[:5]:
        expected = get_total_norm(np.array([12.0, 4.0]), order)
        assert get_total_norm(sparse(), order) == pytest.approx(expected)
    parameter = optim.Parameter(np.zeros(5))
    parameter.grad = sparse()
    expected = parameter.grad.to_dense() / math.hypot(12, 4)
    assert clip_grad_norm_([parameter], 1.0) == pytest.approx(math.hypot(12, 4))
    np.testing.assert_allclose(parameter.grad.to_dense(), expected, rtol=1e-6)


def test_values_of_a_sparse_gradient_are_clipped_if_no_index_is_repeated():
    grad, good = sparse(), np.array([9.0])
    with pytest.raises(ValueError, match=r"gradient 1: .*several have the same one; coalesce"):
        clip_grad_value_([good, grad], 3.5)
    assert good[0] == 9.0
    np.testing.assert_array_equal(grad.to_dense(), [12, 0, 4, 0, 0])
    unique = grad.coalesce()
    clip_grad_value_([unique], 3.5)
    np.testing.assert_array_equal(unique.to_dense(), [3.5, 0, 3.5, 0, 0])


def test_sparse_gradients_of_torch():
    def parameter(indices, values):
        made = torch.nn.Parameter(torch.zeros(5))
        made.grad = torch.sparse_coo_tensor(
            [indices], torch.tensor(values), (5,), check_invariants=True
        )
        return made

    repeated = parameter([2, 0, 2], [3.0, 12.0, 1.0])
    assert float(clip_grad_norm_(repeated, 1.0)) == pytest.approx(math.hypot(12, 4))
    dense = torch.tensor([12.0, 0, 4, 0, 0]) / math.hypot(12, 4)
    torch.testing.assert_close(repeated.grad.to_dense(), dense)
    with pytest.raises(ValueError, match="coalesce"):
        clip_grad_value_(repeated, 0.1)
    torch.testing.assert_close(repeated.grad.to_dense(), dense)
    single = parameter([2, 0], [3.0, 12.0])
    clip_grad_value_(single, 5.0)
    assert single.grad.to_dense().tolist() == [5, 0, 3, 0, 0]


def test_other_sparse_arrays_are_an_error_that_says_what_to_do():
    with pytest.raises(TypeError, match=r"gradient 0: expected .*arrayopt\.SparseGrad.*coo_array"):
        get_total_norm([scipy.sparse.coo_array(np.eye(2))])


# Errors


@pytest.mark.parametrize("bad", [INF, NAN])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_norm_that_is_not_finite_is_an_error_if_asked_for(bad, library):
    values = np.array([1.0, bad])
    parameter = optim.Parameter(LIBRARIES[library](values.copy()))
    parameter.grad = parameter.data
    for call in (
        lambda: clip_grad_norm_([parameter], 0.1, 3.0, error_if_nonfinite=True),
        lambda: get_total_norm([parameter.grad], 3.0, error_if_nonfinite=True),
    ):
        with pytest.raises(RuntimeError, match=f"norm of order 3 of the gradients is {bad}"):
            call()
    np.testing.assert_array_equal(np.asarray(parameter.grad), values)


@pytest.mark.parametrize("function", [clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_])
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: read_only(np.ones(2)), ValueError, "read-only"),
        (lambda: np.broadcast_to(np.ones(1), 4), RuntimeError, "share"),
        (lambda: np.lib.stride_tricks.as_strided(np.ones(1), (4,), (0,)), RuntimeError, "share"),
        (lambda: torch.ones(1).expand(4), RuntimeError, "share"),
        (lambda: np.array([1, 2]), RuntimeError, "int64"),
        (lambda: np.array([True]), RuntimeError, "bool"),
        (lambda: torch.tensor([1]), RuntimeError, "int64"),
        (lambda: np.ma.masked_array([1.0], [True]), TypeError, "MaskedArray"),
        (lambda: [1.0, 2.0], TypeError, "list"),
        (lambda: "grad", TypeError, "str"),
    ],
)
def test_a_bad_gradient_is_named_and_nothing_is_changed(function, make, error, message):
    good = np.array([3.0, 4.0])
    bad = optim.Parameter(np.zeros(2), name="layer.weight")
    bad.grad = make()
    extra = (5.0,) if function is clip_grads_with_norm_ else ()
    for entries in ([good, bad], {"first": good, "layer.weight": bad}):
        with pytest.raises(error, match=f"gradient 'layer.weight': .*{message}"):
            function(entries, 1e-3, *extra)
    np.testing.assert_array_equal(good, [3.0, 4.0])


def test_complex_gradients_have_no_value_to_clip_at():
    good = np.array([3.0, 4.0])
    with pytest.raises(TypeError, match=r"gradient 'b': .*real.*complex64"):
        clip_grad_value_({"a": good, "b": np.ones(2, np.complex64)}, 1.0)
    np.testing.assert_array_equal(good, [3.0, 4.0])


@pytest.mark.parametrize("entries", [1.0, None, "abc", object(), [1.0], ["w"], [object()], [[1.0]]])
def test_what_is_no_parameter_is_an_error(entries):
    for function in (clip_grad_norm_, clip_grad_value_):
        with pytest.raises(TypeError, match=r"expected .*parameter.*but got"):
            function(entries, 1.0)
    with pytest.raises(TypeError, match="but got"):
        get_total_norm(entries)


def test_a_module_and_a_parameter_are_no_arrays():
    with pytest.raises(TypeError, match=r"\.parameters\(\).* but got Module"):
        clip_grad_norm_(optim.Module(), 1.0)
    with pytest.raises(TypeError, match=r"gradient 'w': expected an array.* but got Parameter"):
        get_total_norm([optim.Parameter(np.ones(2), name="w")])


not_limits = st.one_of(
    st.floats(max_value=0, exclude_max=True), st.just(NAN), st.just(-0.0).map(lambda x: x - 1)
)


@given(not_limits)
@settings(deadline=None)
def test_a_limit_is_at_least_zero(limit):
    grad = np.array([3.0, 4.0])
    for call, name in [
        (lambda: clip_grad_norm_([grad], limit), "max_norm"),
        (lambda: clip_grad_value_([grad], limit), "clip_value"),
        (lambda: clip_grads_with_norm_([grad], limit, 5.0), "max_norm"),
    ]:
        with pytest.raises(ValueError, match=f"Invalid {name}"):
            call()
    np.testing.assert_array_equal(grad, [3.0, 4.0])


@given(st.one_of(st.none(), st.just("x"), st.binary(), st.lists(st.floats()), st.complex_numbers()))
@settings(deadline=None)
def test_what_is_no_number_is_an_error(value):
    grad = np.array([3.0, 4.0])
    for call, name in [
        (lambda: clip_grad_norm_([grad], value), "max_norm"),
        (lambda: clip_grad_norm_([grad], 1.0, value), "norm_type"),
        (lambda: get_total_norm([grad], value), "norm_type"),
        (lambda: clip_grad_value_([grad], value), "clip_value"),
        (lambda: clip_grads_with_norm_([grad], 1.0, value), "total_norm"),
    ]:
        with pytest.raises(TypeError, match=name):
            call()
    np.testing.assert_array_equal(grad, [3.0, 4.0])


def test_other_bad_options():
    grad = np.array([3.0, 4.0])
    with pytest.raises(ValueError, match="Invalid norm_type: nan"):
        clip_grad_norm_([grad], 1.0, NAN)
    with pytest.raises(ValueError, match="Invalid total_norm: -1"):
        clip_grads_with_norm_([grad], 1.0, -1)
    for total_norm in (np.ones(2), np.array(1), np.array(1j), torch.ones(2)):
        with pytest.raises(TypeError, match="total_norm must be one real"):
            clip_grads_with_norm_([grad], 1.0, total_norm)
    np.testing.assert_array_equal(grad, [3.0, 4.0])


@pytest.mark.parametrize("foreach", [None, True, False])
def test_foreach_changes_nothing(foreach):
    grad = np.array([3.0, 4.0])
    assert get_total_norm([grad], foreach=foreach) == 5.0
    assert clip_grad_norm_([grad], 1.0, foreach=foreach) == 5.0
    np.testing.assert_allclose(grad, [0.6, 0.8], rtol=1e-6)
    clip_grad_value_([grad], 0.5, foreach)
    clip_grads_with_norm_([grad], 1.0, 2.0, foreach)
    np.testing.assert_allclose(grad, [0.25, 0.25], rtol=1e-6)


def test_extreme_numbers_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip_grad_norm_([np.full(3, 3e38, np.float32), np.array([INF, NAN])], 1e300)
        clip_grad_value_([np.array([INF, 1.0], np.float16)], 1e300)


def test_infinity_may_be_written_out_as_in_torch():
    grads = [np.array([3.0, -7.0]), np.array([4.0])]
    assert get_total_norm(grads, "inf") == 7
    assert clip_grad_norm_(parameters(grads), 1.0, norm_type="inf") == 7


def test_torch_tensors_count_as_parameters_and_that_is_said():
    grad = torch.ones(3)
    with pytest.warns(UserWarning, match="a torch tensor counts as a parameter"):
        clip_grad_norm_([grad], 1.0)
    assert (grad == 1).all()
