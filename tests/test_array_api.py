"""The same rules on other array libraries: array-api-strict, and torch tensors in place."""

from __future__ import annotations

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
import torch
from arrays import normal, relative_difference
from specs import CASES, ELEMENTWISE, Spec, case_id
from stepping import long_run

import arrayopt as optim

cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
SHAPES = [(3, 4), (), (0,), (5,)]


def assert_same(ours: list[Any], numpy: list[np.ndarray], dtype: str) -> None:
    for a, b in zip(ours, numpy, strict=True):
        assert relative_difference(a, b) <= 10 * np.finfo(dtype).eps


def run(
    spec: Spec, options: dict[str, Any], dtype: str, convert: Any, steps: int = 30
) -> tuple[list[Any], list[np.ndarray], optim.Optimizer]:
    """Parameters of another library and of NumPy after the same steps."""
    start = normal(0, SHAPES, dtype)
    numpy = [array.copy() for array in start]
    ours = [convert(array) for array in start]
    optimizer = spec.cls(ours, **options)
    reference = spec.cls(numpy, **options, foreach=False)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        grads = normal(rng, SHAPES, dtype)
        reference.step(grads=grads)
        optimizer.step(grads=[convert(grad) for grad in grads])
    return ours, numpy, optimizer


@long_run
@cases
@dtypes
def test_array_api_strict(spec: Spec, options: dict[str, Any], dtype: str) -> None:
    ours, numpy, optimizer = run(spec, options, dtype, strict.asarray)
    assert_same(ours, numpy, dtype)
    for state in optimizer.state.values():
        for name, value in state.items():
            expected = (int, float) if name in spec.scalars else type(ours[0])
            assert isinstance(value, expected)


@long_run
@cases
@dtypes
def test_torch_tensors(spec: Spec, options: dict[str, Any], dtype: str) -> None:
    ours, numpy, _ = run(spec, options, dtype, torch.tensor)
    assert_same(ours, numpy, dtype)


@pytest.mark.usefixtures("torch_in_double_precision")
@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
def test_a_torch_model_is_trained_in_place(spec: Spec) -> None:
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        ).double()

    inputs = torch.linspace(-1, 1, 80, dtype=torch.float64).reshape(20, 4)
    ours, theirs = model(), model()
    before = [parameter.data_ptr() for parameter in ours.parameters()]
    losses = []
    for net, cls in ((ours, spec.cls), (theirs, spec.theirs)):
        optimizer = cls(net.parameters(), lr=0.01)
        for _ in range(20):
            optimizer.zero_grad()
            loss = (net(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert before == [parameter.data_ptr() for parameter in ours.parameters()]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert a.requires_grad
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32_and_rounds_once(name: str, dtype: Any) -> None:
    # The reference: one step in float64 from the same numbers, rounded at the end.
    start, grad = torch.linspace(-2, 2, 41).to(dtype), torch.linspace(-1, 3, 41).to(dtype)
    options = {"lr": 0.1, "weight_decay": 0.01}
    ours, exact = start.clone(), start.double()
    getattr(optim, name)([ours], **options).step(grads=[grad])
    getattr(optim, name)([exact], **options).step(grads=[grad.double()])
    unit = torch.finfo(dtype).eps * exact.abs()
    assert ours.dtype == dtype
    # half a unit in the last place, and a little for the rounding in float32
    assert ((ours.double() - exact).abs() <= 0.51 * unit + 1e-6).all()


def test_float16_with_a_zero_gradient_gives_no_nan() -> None:
    for array in (torch.ones(3, dtype=torch.float16), np.ones(3, np.float16)):
        optimizer = optim.Adam([array])
        optimizer.step(grads=[array * 0])
        assert bool((array == 1).all())
