"""The traps that torch has, or had, as tests over all algorithms where they apply."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from arrays import normal
from specs import CASES, SPECS, Spec, case_id
from stepping import long_run

import arrayopt as optim

Options = dict[str, Any]

SHAPES: list[tuple[int, ...]] = [(3, 4), (), (0,), (9000,)]  # packed, and in blocks of its own

cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
foreaches = pytest.mark.parametrize("foreach", [False, True])


# Half precision: computed in float32, and rounded once


#: The bits after the point, the smallest exponent, and what NumPy and torch call the type.
HALVES = {
    "float16": (10, -14, np.dtype(np.float16), torch.float16),
    "bfloat16": (7, -126, np.dtype(ml_dtypes.bfloat16), torch.bfloat16),
}

halves = pytest.mark.parametrize("half", HALVES)

#: What runs in half precision: the library, and `foreach`.
RUNNERS: list[tuple[str, bool | None]] = [("numpy", False), ("numpy", True), ("torch", False)]
runners = pytest.mark.parametrize(("library", "foreach"), RUNNERS, ids=case_id)


def make(library: str, array: np.ndarray, dtype: str) -> Any:
    """`array` in a library, in a dtype that has its elements."""
    if library == "torch":
        return torch.tensor(array.astype(np.float64)).to(getattr(torch, dtype))
    return array.astype(HALVES[dtype][2] if dtype in HALVES else dtype)


def wide(value: Any) -> np.ndarray:
    """An array of any library in float64, which loses nothing."""
    return value.double().numpy() if hasattr(value, "double") else value.astype(np.float64)


def rounded(value: Any, half: str) -> Any:
    """A float32 array, rounded once."""
    if isinstance(value, torch.Tensor):
        return value.to(HALVES[half][3])
    return value.astype(HALVES[half][2])


def ulp(values: np.ndarray, half: str) -> np.ndarray:
    """The distance of the numbers of a type where `values` lie."""
    bits, smallest, *_ = HALVES[half]
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log2(np.abs(values)))
    return 2.0 ** (np.maximum(exponents, smallest) - bits)


def seeded(spec: Spec, options: Options, half: str) -> Options:
    """The options, with numbers that state begins with rounded as state is."""
    if spec.name != "Rprop":
        return options
    lr = options.get("lr", 0.01)
    return options | {"lr": float(np.float64(lr).astype(HALVES[half][2]))}


def contents(optimizer: optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """The arrays of an optimizer, and what they are."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            yield "param", param.data
            for name, value in optimizer.state.get(param, {}).items():
                if hasattr(value, "shape"):
                    yield name, value


def scalars(optimizer: optim.Optimizer) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in state.items() if not hasattr(value, "shape")}
        for state in optimizer.state.values()
    ]


@long_run
@cases
@halves
@runners
def test_half_precision_is_single_precision_rounded_once(
    spec: Spec, options: Options, half: str, library: str, foreach: bool | None
) -> None:
    options = seeded(spec, options, half) | {"foreach": foreach}
    rng = np.random.default_rng(0)
    start = [array.astype(HALVES[half][2]) for array in normal(rng, SHAPES, np.float32)]
    params = [make(library, array, half) for array in start]
    ours = spec.cls(params, **options)
    for _ in range(2):
        # Each step starts anew from what the halves hold, which float32 and float64 have, too.
        others = {}
        for dtype in ("float32", "float64"):
            copies = [make(library, wide(param), dtype) for param in params]
            others[dtype] = spec.cls(copies, **options)
            others[dtype].load_state_dict(ours.state_dict())
        grads = [array.astype(HALVES[half][2]) for array in normal(rng, SHAPES, np.float32)]
        ours.step(grads=[make(library, grad, half) for grad in grads])
        for dtype, other in others.items():
            other.step(grads=[make(library, grad, dtype) for grad in grads])
            assert scalars(ours) == scalars(other)
        single, double = others["float32"], others["float64"]
        for (name, a), (_, b), (_, c) in zip(
            contents(ours), contents(single), contents(double), strict=True
        ):
            assert a.dtype == params[0].dtype, name
            assert wide(a).tobytes() == wide(rounded(b, half)).tobytes(), name
            exact = wide(c)
            # half a unit in the last place, and a little for the rounding in float32
            slack = 2.0**-20 * max(1, np.abs(exact).max(initial=0))
            assert (np.abs(wide(a) - exact) <= 0.5 * ulp(exact, half) + slack).all(), name


@long_run
@cases
@halves
@runners
def test_a_zero_gradient_in_half_precision_gives_no_nan(
    spec: Spec, options: Options, half: str, library: str, foreach: bool | None
) -> None:
    start = np.array([1.0, -2.0, 0.0, 0.5])
    array = make(library, start, half)
    optimizer = spec.cls([array], **options, foreach=foreach)
    for _ in range(6):
        optimizer.step(grads=[array * 0])
    for name, value in contents(optimizer):
        assert np.isfinite(wide(value)).all(), name
    if not any(optimizer.defaults.get(decay) for decay in ("weight_decay", "lambd")):
        assert (wide(array) == start).all()


#: State that only divides. Where it overflows, a step has the size zero.
SQUARES = {"exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"}


@long_run
@cases
@runners
def test_a_huge_gradient_in_float16_gives_no_nan(
    spec: Spec, options: Options, library: str, foreach: bool | None
) -> None:
    params = {dtype: make(library, np.ones(6), dtype) for dtype in ("float16", "float32")}
    optimizers = {
        dtype: spec.cls([param], **options, foreach=foreach) for dtype, param in params.items()
    }
    fits = np.ones(6, bool)  # where float16 has numbers for what float32 comes to
    for signs in ([1] * 6, [1, -1, 0, 1, -1, 0], [1, 1, 1, -1, -1, -1], [0] * 6, [1] * 6):
        for dtype, optimizer in optimizers.items():
            optimizer.step(grads=[make(library, 6e4 * np.array(signs), dtype)])
        for name, value in contents(optimizers["float32"]):
            assert np.isfinite(wide(value)).all()
            fits &= (np.abs(wide(value)) < 65504) | (name in SQUARES)
        assert fits.any()
        for name, value in contents(optimizers["float16"]):
            assert not np.isnan(wide(value)[fits]).any(), name


SPARSE = [(spec, options) for spec in SPECS if spec.kind == "sparse" for options in spec.options]


@pytest.mark.parametrize(("spec", "options"), SPARSE, ids=case_id)
def test_a_huge_sparse_gradient_in_float16_gives_no_nan(spec: Spec, options: Options) -> None:
    array = np.ones(3, np.float16)
    optimizer = spec.cls([array], **options)
    for sign in (1, 1, -1, 0, 1):
        values = np.array([sign * 6e4], np.float16)
        optimizer.step(grads=[optim.SparseGrad([1], values, array.shape)])
        for name, value in contents(optimizer):
            assert not np.isnan(value).any(), name


# Gradients are the caller's


@long_run
@cases
@foreaches
def test_gradients_are_never_changed(spec: Spec, options: Options, foreach: bool) -> None:
    kinds = [(dtype, dtype) for dtype in (np.float64, np.float32, np.float16, np.complex128)]
    kinds += [(np.float32, np.float64), (np.float16, np.float32), (np.complex128, np.float64)]
    rng = np.random.default_rng(0)
    params = [array for param, _ in kinds for array in normal(rng, SHAPES, param)]
    optimizer = spec.cls(params, **options, foreach=foreach)
    for locked in (False, True, False, True):
        grads = [array for _, grad in kinds for array in normal(rng, SHAPES, grad)]
        for grad in grads:
            grad.flags.writeable = not locked
        before = [(grad.dtype, grad.tobytes()) for grad in grads]
        optimizer.step(grads=grads)
        assert [(grad.dtype, grad.tobytes()) for grad in grads] == before
    kept = [value for name, value in contents(optimizer) if name != "param"]
    assert not any(np.shares_memory(grad, value) for grad in grads for value in kept)


@cases
def test_gradients_of_torch_are_never_changed(spec: Spec, options: Options) -> None:
    rng = np.random.default_rng(0)
    dtypes = (np.float32, np.complex128)
    params = [torch.tensor(a) for dtype in dtypes for a in normal(rng, SHAPES, dtype)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = spec.cls(params, **options)
    for _ in range(2):
        before = [param.grad.numpy().tobytes() for param in params]
        optimizer.step()
        assert [param.grad.numpy().tobytes() for param in params] == before


# A complex number is a pair of reals


def as_pairs(array: np.ndarray) -> np.ndarray:
    return np.stack([array.real, array.imag], axis=-1)


@long_run
@cases
@foreaches
@pytest.mark.parametrize(
    ("dtype", "real"), [(np.complex128, np.float64), (np.complex64, np.float32)], ids=case_id
)
def test_complex_numbers_are_pairs_of_reals(
    spec: Spec, options: Options, foreach: bool, dtype: Any, real: Any
) -> None:
    rng = np.random.default_rng(0)
    numbers = normal(rng, SHAPES, dtype)
    pairs = [as_pairs(array) for array in numbers]
    ours = spec.cls(numbers, **options, foreach=foreach)
    theirs = spec.cls(pairs, **options, foreach=foreach)
    for _ in range(4):
        grads = normal(rng, SHAPES, dtype)
        ours.step(grads=grads)
        theirs.step(grads=[as_pairs(grad) for grad in grads])
    assert scalars(ours) == scalars(theirs)
    for (name, a), (_, b) in zip(contents(ours), contents(theirs), strict=True):
        assert (a.dtype, b.dtype) == (dtype, real)
        assert as_pairs(a).tobytes() == b.tobytes(), name


# Learning rates that are read at other times


@foreaches
def test_rprop_reads_its_learning_rate_once(foreach: bool) -> None:
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal(50), rng.standard_normal((10, 50))
    ends = []
    for scheduled in (False, True):
        array = start.copy()
        optimizer = optim.Rprop([array], lr=0.25, foreach=foreach)
        for grad in grads:
            optimizer.step(grads=[grad])
            if scheduled:
                optimizer.param_groups[0]["lr"] *= 0.1
        ends.append(array)
    assert ends[0].tobytes() == ends[1].tobytes()


@foreaches
def test_rprop_reads_it_when_the_first_gradient_is_there(foreach: bool) -> None:
    early, late = np.zeros(2), np.zeros(2)
    optimizer = optim.Rprop([early, late], lr=0.5, foreach=foreach)
    optimizer.step(grads=[np.ones(2), None])
    optimizer.param_groups[0]["lr"] = 0.125
    optimizer.step(grads=[np.ones(2), np.ones(2)])
    np.testing.assert_array_equal(early, -0.5 - 0.5 * 1.2)
    np.testing.assert_array_equal(late, -0.125)


RATES = [0.1, 0.1, 0.4, 0.05, 0.0, 0.3]


@foreaches
@pytest.mark.usefixtures("torch_in_double_precision")
def test_asgd_takes_up_a_learning_rate_one_step_late(foreach: bool) -> None:
    lambd, alpha = 0.1, 0.5
    array, tensor = np.array([1.0]), torch.tensor([1.0], requires_grad=True)
    ours = optim.ASGD([array], lr=RATES[0], lambd=lambd, alpha=alpha, foreach=foreach)
    theirs = torch.optim.ASGD([tensor], lr=RATES[0], lambd=lambd, alpha=alpha, foreach=False)
    x, eta = 1.0, RATES[0]
    for step, lr in enumerate(RATES, 1):
        grad = math.cos(step)
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = lr
        ours.step(grads=[np.array([grad])])
        tensor.grad = torch.tensor([grad])
        theirs.step()
        x = x * (1 - lambd * eta) - eta * grad
        eta = lr / (1 + lambd * lr * step) ** alpha
        assert array.item() == pytest.approx(x, rel=1e-13)
        assert array.item() == pytest.approx(tensor.item(), rel=1e-13)
        (state,) = ours.state.values()
        assert state["eta"] == pytest.approx(eta, rel=1e-15)


@foreaches
def test_adagrad_honours_what_the_sum_of_a_group_begins_with(foreach: bool) -> None:
    arrays = [np.array([1.0]) for _ in range(3)]
    groups = [
        {"params": arrays[:1]},
        {"params": arrays[1:2], "initial_accumulator_value": 3.0},
        {"params": arrays[2:], "initial_accumulator_value": 0.0},
    ]
    optimizer = optim.Adagrad(groups, lr=0.1, initial_accumulator_value=0.5, foreach=foreach)
    expected, sums = [1.0] * 3, [0.5, 3.0, 0.0]
    for grad in (2.0, -1.0, 0.5):
        optimizer.step(grads=[np.array([grad])] * 3)
        sums = [total + grad**2 for total in sums]
        expected = [x - 0.1 * grad / (math.sqrt(total) + 1e-10) for x, total in zip(expected, sums)]
    np.testing.assert_allclose(np.concatenate(arrays), expected, rtol=1e-14)
    states = [state["sum"].item() for state in optimizer.state.values()]
    np.testing.assert_allclose(states, sums, rtol=1e-14)


# Numbers of another kind


@pytest.mark.parametrize("foreach", [False, True, None])
@pytest.mark.parametrize("dtype", [">f4", ">c8", ">c16"])
def test_numbers_in_the_other_byte_order_are_numbers(dtype: str, foreach: bool | None) -> None:
    start = np.array([1 + 2j, -3 + 0.5j] if "c" in dtype else [1.0, -3.0])
    w = start.astype(dtype)
    opt = optim.SGD([w], lr=0.5, momentum=0.5, foreach=foreach)
    for _ in range(2):
        opt.step(grads=[np.ones(2, dtype)])
    np.testing.assert_array_equal(w, start - 0.5 - 0.75)
