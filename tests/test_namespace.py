"""What the optimizers know about array libraries."""

import math

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
import torch
from arrays import LIBRARIES, read_only, sparse_rows

from arrayopt.namespace import (
    as_complex,
    as_real,
    compute_dtype,
    convert,
    is_array,
    is_complex,
    is_floating,
    is_sparse,
    is_writeable,
    library,
)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(("name", "xp"), LIBRARIES.items())
def test_library_is_named_as_it_is_imported(name, xp):
    assert library(xp.ones(2)) == name


def test_library_of_a_subclass_is_that_of_its_base():
    class Mine(torch.Tensor):
        pass

    class Yours(np.ndarray):
        pass

    assert library(torch.nn.Parameter(torch.ones(2))) == "torch"
    assert library(torch.ones(2).as_subclass(Mine)) == "torch"
    assert library(np.ones(2).view(Yours)) == "numpy"


def test_arrays_are_told_from_numbers_and_lists(xp):
    assert is_array(xp.ones(2))
    assert is_array(xp.asarray(1.0))
    assert not any(map(is_array, (1.0, [1.0], np.float64(1), np.bool_(True), None, "ones")))


@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128"])
def test_floating_dtypes_and_their_computation(xp, name):
    array = xp.ones(2, dtype=getattr(xp, name))
    real = {"complex64": "float32", "complex128": "float64"}.get(name, name)
    assert is_floating(array)
    assert is_complex(array) == name.startswith("complex")
    assert compute_dtype(array) == getattr(xp, real)


def test_integers_and_booleans_are_not_floating(xp):
    assert not is_floating(xp.ones(2, dtype=xp.int32))
    assert not is_floating(xp.ones(2, dtype=xp.bool))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.ones(1, np.float16), np.float32),
        (np.ones(1, BFLOAT16), np.float32),
        (np.ones(1, np.longdouble), np.longdouble),
        (np.ones(1, np.clongdouble), np.longdouble),
        (torch.ones(1, dtype=torch.float16), torch.float32),
        (torch.ones(1, dtype=torch.bfloat16), torch.float32),
    ],
)
def test_half_precision_computes_in_float32_and_long_double_in_itself(array, expected):
    assert is_floating(array)
    assert compute_dtype(array) == expected


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_complex_of_half_precision_computes_in_float32():
    assert compute_dtype(torch.ones(1, dtype=torch.complex32)) == torch.float32


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
@pytest.mark.parametrize("name", ["complex64", "complex128"])
def test_complex_numbers_are_pairs_of_reals(xp, shape, name):
    size = math.prod(shape)
    numbers = np.arange(1, size + 1) - 1j * np.arange(size)
    array = xp.asarray(numbers.reshape(shape).tolist(), dtype=getattr(xp, name))
    array = xp.reshape(array, shape)
    pairs = as_real(array)
    assert tuple(pairs.shape) == (*shape, 2)
    assert np.asarray(pairs).ravel().tolist() == [x for z in numbers for x in (z.real, z.imag)]
    back = as_complex(pairs, array.dtype)
    assert back.dtype == array.dtype
    assert np.array_equal(np.asarray(back), np.asarray(array))


@pytest.mark.parametrize("xp", [np, torch], ids=["numpy", "torch"])
def test_pairs_keep_infinities_nans_and_signs_of_zero(xp):
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.5]
    numbers = np.array([complex(a, b) for a in special for b in special])
    back = as_complex(as_real(xp.asarray(numbers)), xp.complex128)
    parts, expected = np.asarray(back).view(np.float64), numbers.view(np.float64)
    assert np.array_equal(parts, expected, equal_nan=True)
    not_nan = ~np.isnan(expected)
    assert np.array_equal(np.signbit(parts[not_nan]), np.signbit(expected[not_nan]))


def test_real_arrays_are_their_own_real_view(xp):
    array = xp.ones((2, 3))
    assert as_real(array) is array


@pytest.mark.parametrize(
    "view", [lambda a: a.T, lambda a: a[:, ::2], lambda a: a[1:]], ids=["T", "step", "slice"]
)
@pytest.mark.parametrize("xp", [np, torch], ids=["numpy", "torch"])
def test_pairs_of_views(xp, view):
    array = view(xp.asarray(np.arange(12).reshape(3, 4) * (1 - 2j)))
    assert np.array_equal(np.asarray(as_complex(as_real(array), array.dtype)), np.asarray(array))


def test_torch_conjugates_and_pairs_of_any_stride():
    conjugate = torch.tensor([1 + 2j, 3 - 4j]).conj()  # lazy: a bit on the tensor
    assert as_real(conjugate).tolist() == [[1, -2], [3, 4]]
    pairs = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T
    assert as_complex(pairs, torch.complex64).tolist() == [1 + 4j, 2 + 5j, 3 + 6j]


@pytest.mark.parametrize(
    "array",
    [
        torch.eye(2).to_sparse(),
        sparse_rows(torch.eye(2)),
        scipy.sparse.csr_array(np.eye(2)),
        scipy.sparse.coo_matrix(np.eye(2)),
    ],
    ids=["torch COO", "torch CSR", "scipy array", "scipy matrix"],
)
def test_sparse_arrays(array):
    assert is_sparse(array)


def test_dense_arrays_and_other_things_are_not_sparse(xp):
    assert not any(map(is_sparse, (xp.ones(2), None, 1.0, [1.0])))


@pytest.mark.parametrize("source", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("name", ["float32", "complex128"])
def test_convert_takes_library_and_dtype_from_the_target(source, xp, name):
    value = source.asarray([[1.0, -2.0, 3.5]], dtype=source.float64)
    like = xp.zeros(7, dtype=getattr(xp, name))
    result = convert(value, like)
    assert library(result) == library(like)
    assert result.dtype == like.dtype
    assert np.asarray(result).tolist() == [[1.0, -2.0, 3.5]]


def test_convert_copies(xp):
    value = xp.asarray([1.0, 2.0])
    convert(value, value)[0] = 7.0
    assert np.asarray(value).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [[1.0, 2.0], np.array([1, 2]), (True, 2)])
def test_convert_takes_lists_and_integers(xp, value):
    assert np.asarray(convert(value, xp.ones(2))).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "value",
    [
        read_only(np.array([1.0, 2.0])),
        np.array([2.0, 1.0])[::-1],
        np.array([1.0, 2.0], ">f8"),
        np.array([1.0, 2.0], BFLOAT16),
        np.array([[1.0, 0.0], [2.0, 0.0]])[:, 0],
    ],
    ids=["read-only", "reversed", "big-endian", "bfloat16", "strided"],
)
def test_convert_takes_numpy_arrays_that_torch_refuses(value):
    assert convert(value, torch.zeros(2)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), [1.0, 2.0]),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        (torch.tensor([1 + 2j]).conj(), [1 - 2j]),
        (torch.tensor([1 + 2j]).conj().imag, [-2.0]),
    ],
    ids=["bfloat16", "requires_grad", "conjugate", "negated"],
)
def test_convert_takes_torch_tensors_that_numpy_refuses(value, expected):
    like = np.zeros(1, complex if value.is_complex() else BFLOAT16)
    result = convert(value, like)
    assert result.dtype == like.dtype
    assert result.tolist() == expected


def test_writeable_arrays(xp):
    assert is_writeable(xp.ones(2))
    assert not is_writeable(read_only(np.ones(2)))
