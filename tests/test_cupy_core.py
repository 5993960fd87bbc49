"""What every optimizer, clipping, averaging and saving do on CuPy's arrays, on a stand-in.

The numbers are those of NumPy, and nothing that is done in every step makes the host wait.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from arrays import normal
from cupy_standin import MODULES, late, ndarray, waiting
from specs import CASES, Spec, case_id

import arrayopt as optim
from arrayopt import checkpoint, clip_grad, interop, lr_scheduler, namespace, swa_utils
from arrayopt.checkpoint.host import Source
from arrayopt.demo.model import BatchNorm

SHAPES = [(4, 3), (7,), (), (0,)]
DTYPES = ["float16", "float32", "float64", "complex64"]


def draw(seed: int, dtype: str = "float32") -> list[np.ndarray]:
    return normal(seed, SHAPES, dtype)


def same(device: Any, host: Any) -> None:
    """The same bits."""
    device = device.get() if hasattr(device, "get") else device
    np.testing.assert_array_equal(device, host, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_a_step_has_the_numbers_of_numpy_and_waits_for_nothing(
    cupy: Any, spec: Spec, options: dict[str, Any], dtype: str
) -> None:
    ours, theirs = draw(0, dtype), [*map(cupy.asarray, draw(0, dtype))]
    on_host = spec.cls(ours, foreach=False, **options)
    on_device = spec.cls(theirs, foreach=False, **options)
    with waiting() as log:
        for step in range(7):
            grads = draw(1 + step, dtype)
            on_host.step(grads=grads)
            on_device.step(grads=[*map(cupy.asarray, grads)])
        assert log.launches
        assert log.waits == []
    for array, other in zip(theirs, ours, strict=True):
        same(array, other)
    for entry, other in zip(on_device.state.values(), on_host.state.values(), strict=True):
        for name, value in entry.items():
            same(value, other[name])


@pytest.mark.parametrize("cls", [optim.SparseAdam, optim.SGD, optim.Adagrad])
@pytest.mark.parametrize("sparse_dim", [1, 2])
def test_sparse_gradients(cupy: Any, cls: type[optim.Optimizer], sparse_dim: int) -> None:
    # The sums are of small integers, so that their order does not matter.
    host, device = np.ones((50, 3)), cupy.ones((50, 3))
    ours, theirs = cls([host], lr=0.1), cls([device], lr=0.1)
    for step in range(4):
        rng = np.random.default_rng(step)
        indices = np.stack([rng.integers(0, 50, 40), rng.integers(0, 3, 40)])[:sparse_dim]
        values = rng.integers(-3, 4, (40, 3) if sparse_dim == 1 else (40,)).astype(float)
        ours.step(grads=[optim.SparseGrad(indices, values, (50, 3))])
        on_device = cupy.asarray(indices), cupy.asarray(values)
        with waiting() as log:
            theirs.step(grads=[optim.SparseGrad(*on_device, (50, 3))])
            assert log.waits == []
    same(device, host)
    for entry, other in zip(theirs.state.values(), ours.state.values(), strict=True):
        for name, value in entry.items():
            same(value, other[name])


def test_sparse_gradients_that_are_made_dense_or_forgotten(cupy: Any) -> None:
    indices, values = np.array([3, 1, 3]), np.array([1.0, 2.0, 4.0])
    grad = optim.SparseGrad(indices, cupy.asarray(values), (5,))
    param = optim.Parameter(cupy.zeros(5))
    opt = optim.SGD([param], lr=1.0, momentum=0.9)
    with waiting() as log:
        param.grad = grad
        opt.step()
        dense = grad.to_dense()
        opt.zero_grad(set_to_none=False)
        assert log.waits == []
    same(dense, np.array([0, 2.0, 0, 5.0, 0]))
    same(param.data, np.array([0, -2.0, 0, -5.0, 0]))
    assert param.grad.nnz == 0


def grads_on_both(cupy: Any, dtype: str) -> tuple[list[np.ndarray], list[Any]]:
    return draw(3, dtype), [*map(cupy.asarray, draw(3, dtype))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [2.0, 1.0, np.inf, -np.inf, 0.0, 3.5])
def test_clipping_by_norm(cupy: Any, dtype: str, order: float) -> None:
    host, device = grads_on_both(cupy, dtype)
    expected = clip_grad.clip_grad_norm_(host, 0.25, order)
    with waiting() as log:
        norm = clip_grad.clip_grad_norm_(device, 0.25, order)
        clip_grad.clip_grads_with_norm_(device, 100.0, norm)
        assert log.waits == []
    assert type(norm) is cupy.ndarray
    for array, other in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), other, rtol=1e-3 if dtype == "float16" else 2e-6)
    np.testing.assert_allclose(norm.get(), expected, rtol=2e-6)


def test_clipping_waits_where_an_error_was_asked_for(cupy: Any) -> None:
    device = [cupy.asarray(np.array([np.inf, 1.0]))]
    with waiting() as log:
        with pytest.raises(RuntimeError, match="the total norm of order 2 of the gradients is inf"):
            clip_grad.clip_grad_norm_(device, 1.0, error_if_nonfinite=True)
        assert set(log.waits) == {"float"}
    same(device[0], np.array([np.inf, 1.0]))


def test_clipping_by_value(cupy: Any) -> None:
    host, device = grads_on_both(cupy, "float32")
    with waiting() as log:
        clip_grad.clip_grad_value_(device, 0.3)
        assert log.waits == []
    clip_grad.clip_grad_value_(host, 0.3)
    for array, other in zip(device, host, strict=True):
        same(array, other)


@pytest.mark.parametrize("order", [2.0, 1.0, np.inf, 0.0])
def test_the_norm_of_sparse_gradients(cupy: Any, order: float) -> None:
    indices, values = np.array([3, 1, 3, 0]), np.array([1.0, 2.0, -4.0, 0.0])
    host = optim.SparseGrad(indices, values.copy(), (5,))
    device = optim.SparseGrad(indices, cupy.asarray(values), (5,))
    with waiting() as log:
        norm = clip_grad.clip_grad_norm_([device], 1.0, order)
        assert log.waits == []
    np.testing.assert_allclose(norm.get(), clip_grad.clip_grad_norm_([host], 1.0, order))
    np.testing.assert_allclose(device.values.get(), host.values)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(cupy: Any, set_to_none: bool) -> None:
    params = [optim.Parameter(cupy.zeros(3)), optim.Parameter(cupy.zeros(()))]
    for param in params:
        param.grad = param.data + 1.0
    opt = optim.Adam(params)
    with waiting() as log:
        opt.zero_grad(set_to_none=set_to_none)
        assert log.waits == []
    if set_to_none:
        assert [param.grad for param in params] == [None, None]
    else:
        same(params[0].grad, np.zeros(3))


SCHEDULES = [
    lambda opt: lr_scheduler.StepLR(opt, 2),
    lambda opt: lr_scheduler.OneCycleLR(opt, 1.0, total_steps=20),
    lambda opt: lr_scheduler.CosineAnnealingLR(opt, 10),
]


@pytest.mark.parametrize("make", SCHEDULES)
@pytest.mark.parametrize("rate", [0.1, np.array(0.1), np.array(0.1, np.float32)])
def test_scheduling(cupy: Any, make: Any, rate: Any) -> None:
    host, device = np.ones(3), cupy.ones(3)
    ours, theirs = (optim.SGD([w], lr=np.copy(rate)[()], momentum=0.9) for w in (host, device))
    if isinstance(rate, np.ndarray):
        ours.param_groups[0]["lr"], theirs.param_groups[0]["lr"] = rate.copy(), rate.copy()
    schedules = make(ours), make(theirs)
    grad = cupy.ones(3)
    with waiting() as log:
        for _ in range(6):
            ours.step(grads=[np.ones(3)])
            schedules[0].step()
            theirs.step(grads=[grad])
            schedules[1].step()
        assert log.waits == []
    same(device, host)


def test_a_rate_on_the_device_is_read_for_which_the_host_waits(cupy: Any) -> None:
    device = cupy.ones(3)
    rate = cupy.asarray(np.float32(0.1))
    opt = optim.SGD([device], lr=rate)
    schedule = lr_scheduler.StepLR(opt, 1, gamma=0.5)
    with waiting() as log:
        opt.step(grads=[cupy.ones(3)])
        assert log.waits
        schedule.step()
    assert opt.param_groups[0]["lr"] is rate
    assert float(rate) == np.float32(0.05)
    same(device, 1 - np.full(3, float(np.float32(0.1))))


#: Ways to average, as arguments.
AVERAGES: list[dict[str, Any]] = [
    {},
    {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)},
    {"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()},
    {"avg_fn": lambda average, value, count: average + 0.5 * (value - average)},
]


@pytest.mark.parametrize("arguments", AVERAGES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_averages(cupy: Any, arguments: Any, dtype: str) -> None:
    host, device = grads_on_both(cupy, dtype)
    ours = swa_utils.AveragedModel(host, **arguments)
    theirs = swa_utils.AveragedModel(device, **arguments)
    with waiting() as log:
        for step in range(4):
            for array, other, new in zip(host, device, draw(step, dtype), strict=True):
                array[...] = new
                other[...] = cupy.asarray(new)
            ours.update_parameters(host)
            theirs.update_parameters(device)
        with theirs.swapped_into(device):
            pass
        assert log.waits == []
    for array, other in zip(theirs.module, ours.module, strict=True):
        np.testing.assert_allclose(array.get(), other, rtol=1e-6)
    for array, other in zip(device, host, strict=True):
        same(array, other)


class OnDevice(optim.Module):
    """Batch normalization on a device, and what comes before it."""

    def __init__(self, xp: Any) -> None:
        self.norm = BatchNorm(2)
        for buffer in (self.norm.running_mean, self.norm.running_var):
            buffer.data = xp.asarray(buffer.data)
        for param in self.norm.parameters():
            param.data = xp.asarray(param.data)

    def __call__(self, batch: Any) -> Any:
        mean, var = batch.mean(axis=0), batch.var(axis=0, ddof=1)
        norm = self.norm
        weight = 1.0 if norm.momentum is None else norm.momentum
        norm.running_mean.data[...] += weight * (mean - norm.running_mean.data)
        norm.running_var.data[...] += weight * (var - norm.running_var.data)


@pytest.mark.parametrize("weighted", [True, False])
def test_batch_norm(cupy: Any, weighted: bool) -> None:
    batches = [np.random.default_rng(seed).standard_normal((4 + seed, 2)) for seed in range(3)]
    ours, theirs = OnDevice(np), OnDevice(cupy)
    swa_utils.update_bn(batches, ours, weighted=weighted)
    with waiting() as log:
        swa_utils.update_bn([*map(cupy.asarray, batches)], theirs, weighted=weighted)
        assert log.waits == []
    same(theirs.norm.running_mean.data, ours.norm.running_mean.data)
    same(theirs.norm.running_var.data, ours.norm.running_var.data)


def valley(x: Any) -> tuple[Any, Any]:
    """Rosenbrock's function, and its gradient."""
    a, b = x[0], x[1]
    loss = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    return loss, (-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2))


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs(cupy: Any, search: str | None) -> None:
    def run(xp: Any) -> Any:
        x = xp.asarray(np.array([-1.2, 1.0]))
        lr = 1e-3 if search is None else 1.0
        opt = optim.LBFGS([x], lr=lr, line_search_fn=search, max_iter=8)
        for _ in range(3):
            opt.step(lambda: (valley(x)[0], [xp.stack(valley(x)[1])]))
        return x

    np.testing.assert_allclose(run(cupy).get(), run(np), rtol=1e-12)


def test_lbfgs_on_another_device_than_the_current_one(cupy: Any) -> None:
    def run(xp: Any, x: Any) -> Any:
        opt = optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=8)
        for _ in range(2):
            opt.step(lambda: (valley(x)[0], [xp.stack(valley(x)[1])]))
            opt.load_state_dict(opt.state_dict())
        return x

    start = np.array([-1.2, 1.0])
    with cupy.cuda.Device(1):
        x = cupy.asarray(start)
    np.testing.assert_allclose(run(cupy, x).get(), run(np, start), rtol=1e-12)
    assert x.device.id == 1
    assert cupy.cuda.Device().id == 0


def test_states_are_saved_and_loaded(cupy: Any, tmp_path: Any) -> None:
    device = [*map(cupy.asarray, draw(0))]
    grads = [*map(cupy.asarray, draw(1))]
    opt = optim.Adam(device, lr=0.1)
    opt.step(grads=grads)
    with waiting() as log:
        saved = opt.state_dict()
        assert log.waits == []
    other = [array.copy() for array in device]
    resumed = optim.Adam(other)
    with waiting() as log:
        resumed.load_state_dict(saved)
        assert log.waits == []
    checkpoint.save(tmp_path, model=device, optimizer=opt)
    third = [cupy.zeros(shape, np.float32) for shape in SHAPES]
    restored = optim.Adam(third)
    checkpoint.load(tmp_path, model=third, optimizer=restored)
    for stepped in (opt, resumed, restored):
        stepped.step(grads=grads)
    for array, *others in zip(device, other, third, strict=True):
        for each in others:
            same(each, array.get())
    assert type(restored.state[restored.param_groups[0]["params"][0]]["exp_avg"]) is cupy.ndarray


def test_states_move_to_other_libraries(cupy: Any) -> None:
    host = draw(0, "float32")
    device = [*map(cupy.asarray, host)]
    ours, theirs = optim.Adam(host, lr=0.1), optim.Adam(device, lr=0.1)
    grads = draw(1, "float32")
    ours.step(grads=grads)
    theirs.step(grads=[*map(cupy.asarray, grads)])
    moved = optim.Adam([array.copy() for array in host])
    moved.load_state_dict(theirs.state_dict())
    tensors = interop.to_torch(theirs)["state"]
    for number, expected in ours.state_dict()["state"].items():
        found = moved.state_dict()["state"][number]
        for name in ("exp_avg", "exp_avg_sq"):
            same(found[name], expected[name])
            same(tensors[number][name].numpy(), expected[name])


def test_a_checkpoint_brings_an_array_to_the_host_in_pieces(cupy: Any) -> None:
    array = np.arange(1 << 20, dtype=np.int16).reshape(1 << 10, -1)
    with waiting() as log:
        source = Source(cupy.asarray(array))
        assert log.waits == []
        pieces = [bytes(source(at, at + (1 << 18))) for at in range(0, 1 << 20, 1 << 18)]
        assert log.waits == ["get"] * 4
    assert b"".join(pieces) == array.tobytes()


def test_several_devices(cupy: Any) -> None:
    def place(arrays: list[np.ndarray]) -> list[Any]:
        placed = []
        for index, array in enumerate(arrays):
            with cupy.cuda.Device(index % 2):
                placed.append(cupy.asarray(array))
        return placed

    host, device = draw(0), place(draw(0))
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device)
    averages = swa_utils.AveragedModel(host), swa_utils.AveragedModel(device)
    with waiting() as log:
        for step in range(3):
            grads = draw(step)
            on_device = place(grads)
            clip_grad.clip_grad_norm_(grads, 1.0)
            clip_grad.clip_grad_norm_(on_device, 1.0)
            clip_grad.clip_grad_value_(on_device, 10.0)
            ours.step(grads=grads)
            theirs.step(grads=on_device)
            averages[0].update_parameters(host)
            averages[1].update_parameters(device)
        theirs.load_state_dict(theirs.state_dict())
        assert log.waits == []
    assert cupy.cuda.Device().id == 0
    for index, (array, other) in enumerate(zip(device, host, strict=True)):
        assert array.device.id == index % 2
        np.testing.assert_allclose(array.get(), other, rtol=3e-6)
    for entry, param in zip(theirs.state.values(), device, strict=True):
        assert entry["exp_avg"].device == param.device


def test_nothing_is_read_before_it_has_been_done(cupy: Any) -> None:
    host, device = draw(0), [*map(cupy.asarray, draw(0))]
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device)
    average = swa_utils.AveragedModel(device)
    with late():
        for step in range(3):
            grads = draw(step)
            theirs.step(grads=[*map(cupy.asarray, grads)])
            ours.step(grads=grads)
            average.update_parameters(device)
    for array, other in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), other, rtol=1e-6)


def test_a_number_is_fetched_while_the_device_works(cupy: Any) -> None:
    for array in (np.full((1,), 2.5), cupy.full((1,), 2.5)):
        wait = namespace.fetch(array)
        array[...] = 7.0
        assert wait() == 2.5


@pytest.mark.parametrize("order", [-1.0, -np.inf])
def test_norms_of_negative_order_of_sparse_gradients_wait(cupy: Any, order: float) -> None:
    indices, values = np.array([3, 1, 3]), np.array([1.0, 2.0, -4.0])
    device = optim.SparseGrad(indices, cupy.asarray(values), (5,))
    with waiting() as log:
        norm = clip_grad.get_total_norm([device], order)
        assert log.waits
    expected = clip_grad.get_total_norm([optim.SparseGrad(indices, values, (5,))], order)
    np.testing.assert_allclose(norm.get(), expected)


def test_indices_on_the_device_are_checked_where_one_asks_for_it(cupy: Any) -> None:
    with waiting() as log:
        grad = optim.SparseGrad(cupy.asarray(np.array([1, 5])), cupy.ones(2), (5,))
        assert log.waits == []
        with pytest.raises(ValueError, match=r"expected indices in \[0, 5\) .* but got 5"):
            grad.check()
        assert log.waits
    with pytest.raises(ValueError, match=r"expected indices in \[0, 5\) .* but got 5"):
        optim.SparseGrad(np.array([1, 5]), cupy.ones(2), (5,))


def test_the_stand_in_has_no_name_that_cupy_has_not() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    for name, module in MODULES.items():
        real = importlib.import_module(name)
        invented = [key for key in vars(module) if not (key.startswith("__") or hasattr(real, key))]
        assert invented == [], name
    array = importlib.import_module("cupy").ndarray
    assert [key for key in dir(ndarray) if not (key.startswith("_") or hasattr(array, key))] == []
