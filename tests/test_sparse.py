"""Sparse gradients: what they stand for, and what the algorithms that take them make of them."""

from __future__ import annotations

import importlib.util
import pickle
import tracemalloc
from collections.abc import Iterator
from typing import Any

import array_api_strict as strict
import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
import torch
from arrays import normal, relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import BY_NAME, case_id
from stepping import bits, long_run

import arrayopt as optim
from arrayopt import SparseGrad


@pytest.fixture(autouse=True)
def _not_checked_by_torch() -> Iterator[None]:
    """Say that torch need not check its sparse tensors, which it would warn of otherwise."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        yield


def as_torch(grad: SparseGrad) -> torch.Tensor:
    parts = torch.tensor(grad.indices), torch.tensor(grad.values)
    return torch.sparse_coo_tensor(*parts, grad.shape)


def draw(rng: np.random.Generator, shape: Any, sparse_dim: int, nnz: int, dtype: Any) -> SparseGrad:
    """A gradient with repeated indices in no order."""
    indices = np.array([rng.integers(length, size=nnz) for length in shape[:sparse_dim]], np.int64)
    (values,) = normal(rng, [(nnz, *shape[sparse_dim:])], dtype)
    return SparseGrad(indices.reshape(sparse_dim, nnz), values, shape)


# The gradient itself


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@given(shape=shapes, nnz=st.integers(0, 12), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_sparse_gradient_stands_for_the_sum_of_its_entries(shape, nnz, seed, data):
    sparse_dim = data.draw(st.integers(0, len(shape)))
    grad = draw(np.random.default_rng(seed), shape, sparse_dim, nnz, np.float64)
    expected = np.zeros(shape)
    np.add.at(
        expected, tuple(grad.indices) or ..., grad.values if sparse_dim else grad.values.sum(0)
    )
    np.testing.assert_allclose(grad.to_dense(), expected, rtol=1e-14, atol=1e-15)

    unique = grad.coalesce()
    theirs = as_torch(grad).coalesce()
    np.testing.assert_array_equal(unique.indices, theirs.indices().numpy())
    np.testing.assert_allclose(unique.values, theirs.values().numpy(), rtol=1e-14, atol=1e-15)
    assert unique.coalesce().indices is unique.indices
    assert unique.coalesce().values is unique.values


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_an_index_may_occur_any_number_of_times(count):
    indices = np.repeat([5, 0, 3], [count, 1, count])
    grad = SparseGrad(indices, np.arange(len(indices), dtype=float)[:, None], (6, 1)).coalesce()
    assert grad.indices.tolist() == [[0, 3, 5]]
    first, second = np.arange(count), np.arange(count + 1, 2 * count + 1)
    assert grad.values.tolist() == [[count], [second.sum()], [first.sum()]]


def test_an_entry_that_is_not_finite_stays_where_it_is():
    values = np.array([np.nan, 1.0, np.inf, 2.0, 3.0])
    grad = SparseGrad([1, 0, 2, 0, 3], values, (4,))
    np.testing.assert_array_equal(grad.to_dense(), [3, np.nan, np.inf, 3])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_summed_in_single(dtype):
    ones = np.ones(3000, dtype)  # 1 + 2048 is 2048 in float16, 1 + 256 is 256 in bfloat16
    assert SparseGrad(np.zeros(3000, int), ones, (2,)).coalesce().values.tolist() == [3000]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, strict.asarray])
@pytest.mark.parametrize("sparse_dim", [1, 2])
def test_indices_may_be_integers_of_any_kind(dtype, convert, sparse_dim):
    indices = np.array([[2, 0, 2], [1, 1, 1]], dtype)[:sparse_dim]
    values = np.ones((3, 3) if sparse_dim == 1 else 3)
    array = convert(np.ones((4, 3)))
    grad = SparseGrad(indices, convert(values), (4, 3))
    optim.SGD([array], lr=0.5).step(grads=[grad])
    expected = np.ones((4, 3))
    np.subtract.at(expected, tuple(indices.astype(int)), 0.5 * values)
    np.testing.assert_array_equal(np.asarray(array), expected)


@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad", "SGD"])
def test_values_with_a_graph_leave_none_in_parameters_and_state(name):
    array, weight = torch.zeros(4, 2), torch.ones(1, 2, requires_grad=True)
    opt = getattr(optim, name)([array])
    for _ in range(2):
        opt.step(grads=[SparseGrad([1], 2 * weight, (4, 2))])
    held = [array, *(v for state in opt.state.values() for v in state.values())]
    assert not any(getattr(value, "requires_grad", False) for value in held)


def test_a_subclass_is_sparse_as_well():
    class Mine(SparseGrad):
        pass

    w = np.ones((3, 2))
    optim.SparseAdam([w]).step(grads=[Mine([1], np.ones((1, 2)), (3, 2))])
    assert (w != 1).sum() == 2


def test_indices_may_be_a_list_or_of_another_library():
    for indices in ([1, 0], [[1, 0]], torch.tensor([1, 0]), np.array([1, 0], np.uint8)):
        grad = SparseGrad(indices, strict.asarray([1.0, 2.0]), (3,))
        assert np.asarray(grad.to_dense()).tolist() == [2, 1, 0]
    assert SparseGrad([], np.zeros((0, 2)), (5, 2)).to_dense().tolist() == [[0, 0]] * 5
    assert SparseGrad([[], []], np.zeros(0), (1, 2)).to_dense().tolist() == [[0, 0]]


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "lil", "dia"])
def test_scipy(kind):
    dense = np.zeros((6, 3))
    dense[[4, 1, 4], [0, 1, 2]] = [1, 2, 3]
    matrix = scipy.sparse.coo_array(dense).asformat(kind)
    for sparse_dim, nnz in ((2, matrix.tocoo().nnz), (1, 2)):
        grad = SparseGrad.from_scipy(matrix, sparse_dim)
        assert (grad.sparse_dim, grad.nnz) == (sparse_dim, nnz)
        np.testing.assert_array_equal(grad.to_dense(), dense)


def test_scipy_with_one_dimension():
    grad = SparseGrad.from_scipy(scipy.sparse.coo_array(np.array([0.0, 2.0, 0.0])))
    assert (grad.shape, grad.to_dense().tolist()) == ((3,), [0, 2, 0])


def test_it_can_be_pickled_and_looked_at():
    grad = SparseGrad([[0, 1], [2, 2]], np.ones((2, 4), np.float32), (3, 3, 4))
    assert repr(grad) == "SparseGrad(shape=(3, 3, 4), dtype=float32, nnz=2, sparse_dim=2)"
    again = pickle.loads(pickle.dumps(grad))
    np.testing.assert_array_equal(again.to_dense(), grad.to_dense())
    assert (grad.ndim, grad.dtype) == (3, np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0], [1.0], (2,)), TypeError, "expected a dense array as values, but got list"),
        (([0], scipy.sparse.eye_array(2), (2,)), TypeError, "dense array as values"),
        (([0], np.ones(1, int), (2,)), TypeError, "floating-point numbers as values, .* int64"),
        (([0.5], np.ones(1), (2,)), TypeError, "expected integers as indices, .* float64"),
        (([True], np.ones(1), (2,)), TypeError, "expected integers as indices, .* bool"),
        (
            (np.zeros((2, 1), int), np.ones(1), (2,)),
            ValueError,
            r"at most 1, .* got shape \(2, 1\)",
        ),
        ((np.zeros((1, 1, 1), int), np.ones(1), (2,)), ValueError, r"got shape \(1, 1, 1\)"),
        (([0, 1], np.ones((2, 3)), (2, 4)), ValueError, r"values of shape \(2, 4\), .* \(2, 3\)"),
        (([0], np.ones((2, 3)), (2, 3)), ValueError, r"values of shape \(1, 3\), .* \(2, 3\)"),
        (
            ([2], np.ones(1), (2,)),
            ValueError,
            r"in \[0, 2\) along axis 0 of shape \(2,\), but got 2",
        ),
        (([-1], np.ones(1), (2,)), ValueError, r"expected indices in \[0, 2\) .* but got -1"),
        (([[0], [3]], np.ones(1), (2, 3)), ValueError, r"in \[0, 3\) along axis 1 .* but got 3"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SparseGrad(*arguments)


def test_from_scipy_wants_a_sparse_array():
    with pytest.raises(TypeError, match="a sparse array of SciPy, but got ndarray"):
        SparseGrad.from_scipy(np.eye(2))
    with pytest.raises(ValueError, match="expected sparse_dim 1 or 2, but got 3"):
        SparseGrad.from_scipy(scipy.sparse.eye_array(2), 3)


@pytest.mark.parametrize("grad", [SparseGrad([1], np.ones((1, 2)), (3, 2))])
def test_zero_grad(grad):
    p = optim.Parameter(np.ones((3, 2)))
    p.grad = grad
    p.zero_grad(set_to_none=False)
    assert (p.grad.nnz, p.grad.shape) == (0, (3, 2))
    assert grad.nnz == 1
    p.zero_grad()
    assert p.grad is None


# Steps, compared with torch


CASES = [(BY_NAME["SparseAdam"], options) for options in BY_NAME["SparseAdam"].options]
CASES += [
    (BY_NAME[name], options)
    for name in ("SGD", "Adagrad")
    for options in BY_NAME[name].options
    if not options.get("weight_decay")
]
cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
SHAPES = [((7, 3), 1), ((9,), 1), ((3, 2, 2), 2)]


def stream(dtype: Any, steps: int) -> Iterator[list[SparseGrad]]:
    """Gradients with repeated indices, and now and then without any."""
    rng = np.random.default_rng(1)
    for step in range(steps):
        yield [draw(rng, shape, sparse_dim, (step % 5) * 2, dtype) for shape, sparse_dim in SHAPES]


def start(dtype: Any) -> list[np.ndarray]:
    return normal(0, [shape for shape, _ in SHAPES], dtype)


def dense(value: Any) -> np.ndarray:
    value = value.to_dense() if getattr(value, "is_sparse", False) else value
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)


def difference(ours: Any, theirs: Any) -> float:
    return relative_difference(dense(ours), dense(theirs))


# (torch's SparseAdam takes no complex numbers, and its Adagrad squares them, when they are sparse
# only; see test_complex_numbers_are_pairs_of_reals)
REAL_AND_COMPLEX = [(*case, np.float64) for case in CASES]
REAL_AND_COMPLEX += [(*case, np.complex128) for case in CASES if case[0].name == "SGD"]


@long_run
@pytest.mark.parametrize(("spec", "options", "dtype"), REAL_AND_COMPLEX, ids=case_id)
def test_parameters_and_state_agree_with_torch(spec, options, dtype):
    arrays = start(dtype)
    tensors = [torch.tensor(array) for array in arrays]
    ours = spec.cls(arrays, **options)
    theirs = spec.theirs(tensors, **options)
    for step, grads in enumerate(stream(dtype, 1000), 1):
        last = len(SHAPES) if step <= 10 else 1  # in the long run, one of them will do
        for number, (tensor, grad) in enumerate(zip(tensors, grads)):
            tensor.grad = as_torch(grad) if number < last else None
        ours.step(grads=[*grads[:last], *[None] * (len(SHAPES) - last)])
        theirs.step()
        if step not in (1, 10, 1000):
            continue
        for array, tensor in zip(arrays, tensors):
            assert difference(array, tensor) <= spec.bounds.double
        for mine, other in zip(ours.state.values(), theirs.state.values(), strict=True):
            assert (
                list(mine)
                == list(other)
                == [n for o in spec.state if not o or o in options for n in spec.state[o]]
            )
            for name, value in mine.items():
                if name == "step":
                    assert value == int(other[name])
                else:
                    assert difference(value, other[name]) <= spec.bounds.double


@long_run
@cases
def test_single_precision_is_as_exact_as_torch(spec, options):
    exact = [array.astype(np.float64) for array in start(np.float32)]
    arrays = start(np.float32)
    tensors = [torch.tensor(array) for array in arrays]
    sides = [spec.cls(exact, **options), spec.cls(arrays, **options)]
    theirs = spec.theirs(tensors, **options)
    for grads in stream(np.float32, 300):
        for tensor, grad in zip(tensors, grads):
            tensor.grad = as_torch(grad)
        theirs.step()
        for side in sides:
            side.step(grads=grads)

    def error(values: list[Any]) -> float:
        parts = [(dense(a).astype(np.float64) - b).ravel() for a, b in zip(values, exact)]
        return float(np.linalg.norm(np.concatenate(parts)))

    assert error(arrays) <= spec.bounds.single * error(tensors)


@cases
def test_entries_that_are_not_touched_keep_their_bits_and_their_state(spec, options):
    arrays = start(np.float64)
    before = [array.copy() for array in arrays]
    opt = spec.cls(arrays, **options)
    rng = np.random.default_rng(3)
    grads = [draw(rng, shape, sparse_dim, 2, np.float64) for shape, sparse_dim in SHAPES]
    opt.step(grads=grads)
    for array, old, grad, state in zip(arrays, before, grads, opt.state.values() or [{}] * 3):
        touched = np.zeros(array.shape, bool)
        touched[tuple(grad.indices)] = True
        if options.get("lr") != 0:
            assert (array[touched] != old[touched]).any()
        np.testing.assert_array_equal(array[~touched], old[~touched])
        for name, value in state.items():
            if name != "step":
                fill = options.get("initial_accumulator_value", 0) if name == "sum" else 0
                assert (value[~touched] == fill).all()


@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad"])
def test_complex_numbers_are_pairs_of_reals(name):
    array = start(np.complex128)[0]
    pairs = np.stack([array.real, array.imag], -1)
    ours, reals = getattr(optim, name)([array], lr=0.1), getattr(optim, name)([pairs], lr=0.1)
    for grads in stream(np.complex128, 20):
        grad = grads[0]
        values = np.stack([grad.values.real, grad.values.imag], -1)
        ours.step(grads=[grad])
        reals.step(grads=[SparseGrad(grad.indices, values, pairs.shape)])
    np.testing.assert_array_equal(np.stack([array.real, array.imag], -1), pairs)


@cases
@pytest.mark.parametrize(
    "convert",
    [strict.asarray, torch.tensor, lambda a: torch.tensor(a, requires_grad=True)],
    ids=["strict", "torch", "torch leaf"],
)
def test_other_libraries(spec, options, convert):
    arrays = start(np.float64)
    others = [convert(array) for array in arrays]
    ours, theirs = spec.cls(arrays, **options), spec.cls(others, **options)
    for grads in stream(np.float64, 12):
        ours.step(grads=grads)
        if convert is strict.asarray:
            parts = [(g.indices, convert(g.values), g.shape) for g in grads]
            theirs.step(grads=[SparseGrad(*part) for part in parts])
        else:
            for tensor, grad in zip(others, grads):
                tensor.grad = as_torch(grad)
            theirs.step()
    for array, other in zip(arrays, others):
        assert type(other) is type(convert(array))
        assert difference(other, array) <= 1e-14


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_half_precision_computes_in_single_and_rounds_once(name, dtype):
    half = np.linspace(-2, 2, 12).reshape(4, 3).astype(dtype)
    single = half.astype(np.float32)
    values = np.linspace(-1, 3, 9).reshape(3, 3).astype(dtype)
    for array in (half, single):
        grad = SparseGrad([2, 0, 2], values.astype(array.dtype), (4, 3))
        getattr(optim, name)([array], lr=0.1).step(grads=[grad])
    np.testing.assert_array_equal(half, single.astype(dtype))


def test_scipy_gradients_are_taken_as_they_are():
    ours, theirs = np.ones((4, 3)), np.ones((4, 3))
    matrix = scipy.sparse.csr_array(([1.0, 2.0], ([0, 3], [1, 1])), shape=(4, 3))
    optim.SparseAdam([ours]).step(grads=[matrix])
    optim.SparseAdam([theirs]).step(grads=[SparseGrad.from_scipy(matrix)])
    np.testing.assert_array_equal(ours, theirs)
    assert (ours != 1).sum() == 2


def test_a_torch_embedding_is_trained_as_by_torch():
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.EmbeddingBag(20, 4, sparse=True), torch.nn.Linear(4, 1))

    words = torch.arange(30).reshape(6, 5) * 7 % 20
    models = model().double(), model().double()
    for net, module in zip(models, (optim, torch.optim)):
        embedding, linear = net
        opts = [module.SparseAdam(embedding.parameters()), module.Adam(linear.parameters())]
        for _ in range(20):
            for opt in opts:
                opt.zero_grad()
            net(words).square().sum().backward()
            for opt in opts:
                opt.step()
    for p, q in zip(*(net.parameters() for net in models)):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)


def test_dense_and_sparse_gradients_may_alternate():
    dense_only, mixed = np.ones((5, 2)), np.ones((5, 2))
    a, b = optim.Adagrad([dense_only], lr=0.1), optim.Adagrad([mixed], lr=0.1)
    for step in range(6):
        grad = SparseGrad([step % 5, 2], np.full((2, 2), step + 1.0), (5, 2))
        a.step(grads=[grad.to_dense()])
        b.step(grads=[grad if step % 2 else grad.to_dense()])
    np.testing.assert_array_equal(dense_only, mixed)  # a zero gradient moves nothing in Adagrad
    assert next(iter(b.state.values()))["step"] == 6


def test_dense_work_is_kept_beside_sparse_gradients():
    embedding, weights = optim.Parameter(np.ones((5, 2))), optim.Parameter(np.ones(3))
    opt = optim.Adagrad([embedding, weights])
    for _ in range(2):
        embedding.grad = SparseGrad([1], np.ones((1, 2)), (5, 2))
        weights.grad = np.ones(3)
        opt.step()
        kept = opt._last[0].works
    assert [work.batch.params for work in kept] == [[weights]]
    assert not kept[0].fresh


def test_a_frozen_parameter_is_passed_over():
    p = optim.Parameter(np.ones((3, 2)), requires_grad=False)
    p.grad = SparseGrad([1], np.ones((1, 2)), (3, 2))
    optim.SparseAdam([p]).step()
    assert (p.data == 1).all()


def test_saving_in_the_middle_changes_nothing():
    straight, broken = start(np.float64), start(np.float64)
    a, b = optim.SparseAdam(straight), optim.SparseAdam(broken)
    for step, grads in enumerate(stream(np.float64, 20)):
        if step == 10:
            saved = pickle.loads(pickle.dumps(b.state_dict()))
            b = optim.SparseAdam(broken)
            b.load_state_dict(saved)
        a.step(grads=grads)
        b.step(grads=grads)
    assert bits(a) == bits(b)


@pytest.mark.parametrize("name", ["SparseAdam", "Adagrad", "SGD"])
def test_a_step_needs_memory_for_the_touched_rows_only(name):
    array = np.zeros((100_000, 16))
    opt = getattr(optim, name)([array])
    grad = SparseGrad(np.arange(100), np.ones((100, 16)), array.shape)
    opt.step(grads=[grad])
    tracemalloc.start()
    opt.step(grads=[grad])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # parameter and gradient, two arrays of state, temporaries; and what Python makes
    assert peak < 20 * grad.values.nbytes + 100_000 < array.nbytes / 20


# Errors


ENTRY = SparseGrad([1], np.ones((1, 2)), (3, 2))
ERRORS = [
    ("SparseAdam", {}, np.ones((3, 2)), RuntimeError, "not support dense gradients, please consid"),
    (
        "SparseAdam",
        {},
        SparseGrad([1], np.ones((1, 3)), (3, 3)),
        RuntimeError,
        r"shape \(3, 2\), b",
    ),
    (
        "SparseAdam",
        {},
        SparseGrad([1], 1j * np.ones((1, 2)), (3, 2)),
        RuntimeError,
        "cannot be cast",
    ),
    (
        "SparseAdam",
        {},
        lambda: SparseGrad([1], torch.ones(1, 2), (3, 2)),
        TypeError,
        "of numpy, but got a t",
    ),
    (
        "Adam",
        {},
        ENTRY,
        RuntimeError,
        "Adam does not support sparse .* consider SparseAdam, SGD or",
    ),
    ("Adagrad", {"weight_decay": 0.1}, ENTRY, RuntimeError, "weight_decay=0.1 is not compatible"),
    ("SGD", {"weight_decay": 0.1}, ENTRY, RuntimeError, "weight_decay=0.1 is not compatible"),
    ("SGD", {"weight_decay": 0.1, "momentum": 0.9}, ENTRY, RuntimeError, "weight_decay=0.1 is not"),
    ("SGD", {"differentiable": True}, ENTRY, RuntimeError, "differentiable=True is not compatible"),
]


@pytest.mark.parametrize(("name", "options", "grad", "error", "message"), ERRORS)
def test_gradients_that_do_not_fit_change_nothing(name, options, grad, error, message):
    good = ENTRY if name == "SparseAdam" else np.ones((3, 2))
    opt = getattr(optim, name)([("u", np.ones((3, 2))), ("w", np.ones((3, 2)))], **options)
    opt.step(grads=[good, good])
    grad = grad() if callable(grad) else grad
    before = bits(opt)
    with pytest.raises(error, match=rf"parameter 1 \('w'\): .*{message}"):
        opt.step(grads=[good, grad])
    assert bits(opt) == before


def test_indices_that_were_changed_afterwards_are_checked_again():
    grad = SparseGrad([1], np.ones((1, 2)), (3, 2))
    grad.indices[...] = 3
    w = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"parameter 0: expected indices in \[0, 3\)"):
        optim.SparseAdam([w]).step(grads=[grad])
    assert (w == 1).all()


def test_state_that_begins_in_a_step_cannot_begin_with_a_part():
    class Own(optim.Optimizer):
        gradients = "dense or sparse"
        state_table = (optim.StateSlot("buffer", initial=None),)

        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.5})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - grad, {"buffer": grad}

    w = np.ones((3, 2))
    with pytest.raises(RuntimeError, match=r"the state \['buffer'\] has no initial value"):
        Own([w]).step(grads=[ENTRY])
    assert (w == 1).all()
