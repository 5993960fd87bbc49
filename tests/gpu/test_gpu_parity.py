"""Agreement on a GPU: with torch on the same one, and with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from specs import BY_NAME, CASES, Spec, case_id
from test_parity import Ours, Theirs, compare_errors, draw, gradients, relative_difference

import arrayopt as optim
from arrayopt import clip_grad, swa_utils

pytestmark = pytest.mark.usefixtures("torch_in_double_precision")

WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}]

cases = pytest.mark.parametrize(("spec", "options"), [*CASES], ids=case_id)


class OnDevice(Ours):
    """An optimizer of ours on arrays of CuPy."""

    def __init__(self, machine: Any, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        spec, options, *_ = arguments
        self.cupy = machine.cupy
        self.arrays = [*map(self.cupy.asarray, self.arrays)]
        self.optimizer = spec.cls(self.arrays, **options)

    def step(self, grads: list[np.ndarray]) -> None:
        self.optimizer.step(grads=[self.cupy.asarray(grad.astype(self.dtype)) for grad in grads])

    def values(self) -> dict[str, list[np.ndarray]]:
        states = list(self.optimizer.state.values())
        names = [name for name in (states[0] if states else {}) if name != "step"]
        columns = {"param": self.arrays} | {
            name: [state[name] for state in states] for name in names
        }
        return {name: [*map(self.on_host, column)] for name, column in columns.items()}

    def on_host(self, value: Any) -> np.ndarray:
        return np.asarray(self.cupy.asnumpy(value))


class Rival(Theirs):
    """torch's optimizer, on the device of the machine."""

    def __init__(self, machine: Any, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        spec, options, *_ = arguments
        self.device = machine.rival
        self.tensors = [t.detach().to(self.device).requires_grad_() for t in self.tensors]
        self.optimizer = spec.theirs(self.tensors, foreach=False, **options)

    def step(self, grads: list[np.ndarray]) -> None:
        for tensor, grad in zip(self.tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad.astype(self.dtype), device=self.device)
        self.optimizer.step()

    def values(self) -> dict[str, list[np.ndarray]]:
        states = list(self.optimizer.state.values())
        names = [name for name in (states[0] if states else {}) if name != "step"]
        return {"param": [t.detach().cpu().numpy() for t in self.tensors]} | {
            name: [np.asarray(torch.as_tensor(state[name]).cpu()) for state in states]
            for name in names
        }


@cases
@pytest.mark.parametrize("dtype", [np.float64, np.complex128], ids=case_id)
def test_double_precision_agrees_to_1e_12(
    machine: Any, spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    theirs = Rival(machine, spec, options, dtype)
    on_host = Ours(spec, {**options, "foreach": False}, dtype)
    sides = [OnDevice(machine, spec, options | way, dtype) for way in WAYS]
    for step, grads in enumerate(gradients(dtype, machine.steps), 1):
        for side in (theirs, on_host, *sides):
            side.step(grads)
        if step in (1, 10, 1000):
            for side in sides:
                for other in (theirs, on_host):
                    difference = relative_difference(side.values(), other.values())
                    assert difference <= spec.bounds.double


@cases
@pytest.mark.parametrize("dtype", [np.float32, np.complex64], ids=case_id)
def test_single_precision_is_as_exact_as_torch(
    machine: Any, spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    double = np.result_type(dtype, np.float64)
    exact = Theirs(spec, options, double, start=dtype)
    theirs = Rival(machine, spec, options, dtype)
    sides = [OnDevice(machine, spec, options | way, dtype) for way in WAYS]
    compare_errors(spec, exact, theirs, sides, gradients(dtype, min(300, machine.steps)))


@cases
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_once(
    machine: Any, spec: Spec, options: dict[str, Any], dtype: str
) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    ours = OnDevice(machine, spec, {**options, "fused": True}, np.dtype(dtype), start="float32")
    on_host = Ours(spec, {**options, "foreach": False}, np.dtype(dtype), start="float32")
    for grads in gradients("float32", 10):
        ours.step(grads)
        on_host.step(grads)
    for a, b in zip(ours.values()["param"], on_host.values()["param"], strict=True):
        step = 2.0 ** (-10 if dtype == "float16" else -7)
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=4 * step, atol=4 * step)


def test_many_sizes_and_layouts_in_one_step(machine: Any) -> None:
    cupy = machine.cupy
    shapes = [(1,), (3,), (1 << 14,), ((1 << 14) + 1,), (5, 100_003), (0, 3), ()]
    host = [np.asarray(np.random.default_rng(n).standard_normal(s)) for n, s in enumerate(shapes)]
    host.append(np.asfortranarray(np.ones((40, 30))))
    host.append(np.ones((40, 60))[:, ::2])
    device = [cupy.asarray(array) for array in host[:-1]]
    device.append(cupy.ones((40, 60))[:, ::2])
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device, fused=True)
    for seed in range(3):
        grads = [np.asarray(np.random.default_rng(seed).standard_normal(a.shape)) for a in host]
        ours.step(grads=grads)
        theirs.step(grads=[*map(cupy.asarray, grads)])
    for array, expected in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [2.0, 1.0, np.inf, 0.0])
def test_clipping(machine: Any, order: float) -> None:
    # (torch has no norm of order infinity of nothing)
    host = [array for array in draw(np.random.default_rng(0), "float32") if array.size]
    device = [*map(machine.cupy.asarray, host)]
    tensors = [torch.tensor(array, device=machine.rival, requires_grad=True) for array in host]
    for tensor, array in zip(tensors, host, strict=True):
        tensor.grad = torch.tensor(array, device=machine.rival)
    expected = torch.nn.utils.clip_grad_norm_(tensors, 0.5, order)
    with machine.no_waiting():
        norm = clip_grad.clip_grad_norm_(device, 0.5, order)
    np.testing.assert_allclose(norm.get(), expected.cpu().numpy(), rtol=2e-6)
    for array, tensor in zip(device, tensors, strict=True):
        np.testing.assert_allclose(array.get(), tensor.grad.cpu().numpy(), rtol=1e-5, atol=1e-8)


def test_averages(machine: Any) -> None:
    cupy, host = machine.cupy, draw(np.random.default_rng(0), "float32")
    device = [*map(cupy.asarray, host)]
    function = swa_utils.get_ema_multi_avg_fn(0.9)
    ours = swa_utils.AveragedModel(host, multi_avg_fn=function)
    theirs = swa_utils.AveragedModel(device, multi_avg_fn=function)
    for seed in range(5):
        for array, other, new in zip(
            host, device, draw(np.random.default_rng(seed), "float32"), strict=True
        ):
            array[...] = new
            other[...] = cupy.asarray(new)
        ours.update_parameters(host)
        with machine.no_waiting():
            theirs.update_parameters(device)
    for array, expected in zip(theirs.module, ours.module, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["SparseAdam", "SGD", "Adagrad"])
def test_sparse_gradients(machine: Any, name: str) -> None:
    cupy, cls = machine.cupy, BY_NAME[name].cls
    host, device = np.ones((500, 8)), cupy.ones((500, 8))
    ours, theirs = cls([host], lr=0.1), cls([device], lr=0.1)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        indices, values = rng.integers(0, 500, 300), rng.standard_normal((300, 8))
        ours.step(grads=[optim.SparseGrad(indices, values, (500, 8))])
        grad = cupy.asarray(indices), cupy.asarray(values)
        with machine.no_waiting():
            theirs.step(grads=[optim.SparseGrad(*grad, (500, 8))])
    np.testing.assert_allclose(device.get(), host, rtol=1e-10)


def test_lbfgs(machine: Any) -> None:
    def run(xp: Any) -> Any:
        x = xp.asarray(np.array([-1.2, 1.0]))
        opt = optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=40, tolerance_change=1e-15)

        def closure() -> tuple[Any, Any]:
            a, b = x[0], x[1]
            loss = (1 - a) ** 2 + 100 * (b - a**2) ** 2
            grad = [-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)]
            return loss, [xp.stack(grad)]

        opt.step(closure)
        return x

    np.testing.assert_allclose(run(machine.cupy).get(), [1, 1], rtol=1e-6)
