"""Agreement with torch: parameters and state, every option, real and complex."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from specs import CASES, ELEMENTWISE, EVERY, SPECS, Spec, case_id
from stepping import long_run

import arrayopt as optim
from arrayopt.algorithms import __all__ as ALGORITHMS

pytestmark = pytest.mark.usefixtures("torch_in_double_precision")

SHAPES = [(40, 30), (7,), (), (0,), (3, 1, 5)]
Arrays = list[np.ndarray]

#: How ours run: for-loop, foreach, fused.
WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}]

cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)


def draw(rng: np.random.Generator, dtype: Any) -> Arrays:
    dtype = np.dtype(dtype)
    arrays = [rng.standard_normal(shape) for shape in SHAPES]
    if dtype.kind == "c":
        arrays = [array + 1j * rng.standard_normal(np.shape(array)) for array in arrays]
    return [np.asarray(array).astype(dtype) for array in arrays]


def gradients(dtype: Any, steps: int) -> Iterator[Arrays]:
    """Gradients of changing size, with zeros in them."""
    rng = np.random.default_rng(1)
    for step in range(steps):
        grads = draw(rng, dtype)
        for grad in grads:
            grad *= np.exp(3 * np.sin(step / 50)).astype(grad.dtype)
            grad[rng.random(grad.shape) < 0.05] = 0
        yield grads


class Ours:
    """An optimizer of ours, and the arrays that it updates."""

    def __init__(self, spec: Spec, options: dict[str, Any], dtype: Any, start: Any = None) -> None:
        start = draw(np.random.default_rng(0), start or dtype)
        self.arrays = [array.astype(dtype) for array in start]
        self.dtype = dtype
        self.optimizer = spec.cls(self.arrays, **options)

    def step(self, grads: Arrays) -> None:
        self.optimizer.step(grads=[grad.astype(self.dtype) for grad in grads])

    def values(self) -> dict[str, Arrays]:
        states = list(self.optimizer.state.values())
        names = [name for name in (states[0] if states else {}) if name != "step"]
        return {"param": self.arrays} | {
            name: [np.asarray(state[name]) for state in states] for name in names
        }


class Theirs:
    """What it is compared with: torch's optimizer, on the CPU, one tensor after another."""

    def __init__(self, spec: Spec, options: dict[str, Any], dtype: Any, start: Any = None) -> None:
        start = draw(np.random.default_rng(0), start or dtype)
        self.tensors = [torch.tensor(a.astype(dtype), requires_grad=True) for a in start]
        self.dtype = dtype
        self.optimizer = spec.theirs(self.tensors, foreach=False, **options)

    def step(self, grads: Arrays) -> None:
        for tensor, grad in zip(self.tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad.astype(self.dtype))
        self.optimizer.step()

    def values(self) -> dict[str, Arrays]:
        states = list(self.optimizer.state.values())
        names = [name for name in (states[0] if states else {}) if name != "step"]
        return {"param": [t.detach().numpy() for t in self.tensors]} | {
            name: [np.asarray(state[name]) for state in states] for name in names
        }


def relative_difference(ours: dict[str, Arrays], theirs: dict[str, Arrays]) -> float:
    """The largest difference in any array, relative to the largest element of that array."""
    assert list(ours) == list(theirs)
    return max(
        float(np.abs(a - b).max() / (np.abs(b).max() or 1))
        for name in ours
        for a, b in zip(ours[name], theirs[name], strict=True)
        if a.size
    )


def error(values: dict[str, Arrays], exact: dict[str, Arrays], name: str) -> float:
    """The root of the summed squares of the differences, relative to the values."""
    difference = sum(
        float(np.sum(np.abs(a.astype(b.dtype) - b) ** 2))
        for a, b in zip(values[name], exact[name], strict=True)
    )
    return float(np.sqrt(difference / sum(float(np.sum(np.abs(b) ** 2)) for b in exact[name])))


def ulps(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance of two arrays in units in the last place of the larger number."""
    parts = np.concatenate([a.real.ravel() - b.real.ravel(), a.imag.ravel() - b.imag.ravel()])
    sizes = np.concatenate([a.real.ravel(), a.imag.ravel()])
    return float(np.max(np.abs(parts) / np.spacing(np.abs(sizes)), initial=0))


def compare_errors(
    spec: Spec, exact: Any, theirs: Any, sides: list[Any], steps: Iterator[Arrays]
) -> None:
    """Let all take steps: ours are about as exact as torch's, and agree with each other."""
    for grads in steps:
        for side in (exact, theirs, *sides):
            side.step(grads)
    forloop, *others = sides
    for name in exact.values():
        bound = spec.bounds.single * error(theirs.values(), exact.values(), name)
        for side in sides:
            assert error(side.values(), exact.values(), name) <= bound
        for side in others:
            for a, b in zip(forloop.values()[name], side.values()[name], strict=True):
                assert ulps(a, b) <= spec.bounds.ulps


@long_run
@cases
@pytest.mark.parametrize("dtype", [np.float64, np.complex128], ids=case_id)
def test_double_precision_agrees_with_torch_to_1e_12(
    spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    theirs = Theirs(spec, options, dtype)
    sides = [Ours(spec, options | way, dtype) for way in WAYS]
    for step, grads in enumerate(gradients(dtype, 1000), 1):
        for side in (theirs, *sides):
            side.step(grads)
        if step in (1, 10, 1000):
            for side in sides:
                assert relative_difference(side.values(), theirs.values()) <= spec.bounds.double


@long_run
@cases
@pytest.mark.parametrize("dtype", [np.float32, np.complex64], ids=case_id)
def test_single_precision_is_as_exact_as_torch(
    spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    double = np.result_type(dtype, np.float64)
    exact = Theirs(spec, options, double, start=dtype)
    theirs = Theirs(spec, options, dtype)
    sides = [Ours(spec, options | way, dtype) for way in WAYS]
    compare_errors(spec, exact, theirs, sides, gradients(dtype, 300))


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
@pytest.mark.parametrize("way", WAYS, ids=case_id)
def test_a_learning_rate_may_be_a_0d_array(spec: Spec, way: dict[str, bool]) -> None:
    theirs = Theirs(spec, {"lr": torch.tensor(0.01, dtype=torch.float64)}, np.float64)
    rate = np.array(0.01)
    ours = Ours(spec, {"lr": rate} | way, np.float64)
    for step, grads in enumerate(gradients(np.float64, 20)):
        theirs.optimizer.param_groups[0]["lr"].fill_(0.01 / (1 + step))
        rate[...] = 0.01 / (1 + step)
        theirs.step(grads)
        ours.step(grads)
    assert relative_difference(ours.values(), theirs.values()) <= spec.bounds.double


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
def test_options_of_groups_agree_with_torch(spec: Spec) -> None:
    arrays = draw(np.random.default_rng(0), np.float64)
    tensors = [torch.tensor(array.copy(), requires_grad=True) for array in arrays]

    decay = {"weight_decay": 0.01} if "weight_decay" in spec.cls(arrays).defaults else {}

    def groups(params: list[Any]) -> list[dict[str, Any]]:
        return [
            {"params": params[:2], "lr": 0.1} | decay,
            {"params": params[2:3]},
            {"params": params[3:], "lr": 0.03, "maximize": True},
        ]

    ours = spec.cls(groups(arrays), lr=0.001)
    theirs = spec.theirs(groups(tensors), lr=0.001)
    for grads in gradients(np.float64, 50):
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad)
        ours.step(grads=grads)
        theirs.step()
    values = {"param": [tensor.detach().numpy() for tensor in tensors]}
    assert relative_difference({"param": arrays}, values) <= spec.bounds.double


@cases
def test_state_is_that_of_the_table(spec: Spec, options: dict[str, Any]) -> None:
    ours = Ours(spec, options, np.float32)
    ours.step(next(gradients(np.float32, 1)))
    expected = [
        name
        for option, names in spec.state.items()
        if not option or options.get(option)
        for name in names
    ]
    for array, state in zip(ours.arrays, ours.optimizer.state.values()):
        assert sorted(state) == sorted(expected)
        for name, value in state.items():
            if name == "step":
                assert type(value) is int
                assert value == 1
            elif name in spec.scalars:
                assert type(value) is float
            else:
                assert (value.shape, value.dtype) == (array.shape, array.dtype)
    if not expected:
        assert not any(ours.optimizer.state.values())


def test_every_algorithm_has_a_spec() -> None:
    assert sorted(ALGORITHMS) == sorted(spec.name for spec in SPECS)
    assert set(ALGORITHMS) <= set(optim.__all__)


@pytest.mark.parametrize("spec", EVERY, ids=case_id)
def test_a_reference_is_brought_for_what_torch_lacks_and_for_nothing_else(spec: Spec) -> None:
    assert (spec.reference is None) == hasattr(torch.optim, spec.name)


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
def test_step_counts_past_the_integers_of_float32(spec: Spec) -> None:
    if "step" not in spec.state.get("", ()):
        assert "step" not in [slot.name for slot in spec.cls.state_table]
        return
    optimizer = spec.cls([np.ones(3)])
    optimizer.step(grads=[np.ones(3)])
    (state,) = optimizer.state.values()
    state["step"] = 2**24
    optimizer.step(grads=[np.ones(3)])
    assert state["step"] == 2**24 + 1
