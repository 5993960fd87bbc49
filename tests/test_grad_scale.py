"""``grad_scale`` and ``found_inf``: as torch's fused optimizers take them, on the host and not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from arrays import normal
from cupy_standin import late, waiting
from specs import CASES, DTYPE_CASES, Spec, case_id
from stepping import long_run

import arrayopt as optim
from arrayopt.check.cases import OPTIONS

SHAPES = [(4, 3), (7,)]
FUSED_IN_TORCH = ["Adam", "AdamW", "SGD", "Adagrad"]
#: Which of the steps find an overflow, the first among them.
SKIPPED = [True, False, False, True, True, False, False]
WAYS = [{"foreach": False}, {"foreach": True}, {"fused": True}]

of_torch = pytest.mark.parametrize(
    ("name", "options"),
    [(name, options) for name in FUSED_IN_TORCH for options in OPTIONS[name]],
    ids=case_id,
)


def draw(seed: int, dtype: str = "float32") -> list[np.ndarray]:
    return normal(seed, SHAPES, dtype)


def scaled(grads: list[np.ndarray], scale: float) -> list[np.ndarray]:
    return [(grad * scale).astype(grad.dtype) for grad in grads]


@pytest.mark.parametrize("way", WAYS)
@of_torch
def test_as_the_fused_optimizers_of_torch(
    name: str, options: dict[str, Any], way: dict[str, bool]
) -> None:
    arrays = draw(0)
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    ours = getattr(optim, name)(arrays, **options, **way)
    theirs = getattr(torch.optim, name)(tensors, **options, fused=True)
    # (torch's SGD computes with memory that nobody has written, if its first step is skipped)
    for step, skipped in enumerate(SKIPPED[1:] if name == "SGD" else SKIPPED):
        grads = scaled(draw(1 + step), 2.0**step)
        if skipped:
            grads[0][0, 0] = np.inf
        kept = copy.deepcopy(grads)
        for tensor, grad in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(grad)
        theirs.grad_scale, theirs.found_inf = torch.tensor(2.0**step), torch.tensor(float(skipped))
        ours.grad_scale, ours.found_inf = 2.0**step, float(skipped)
        theirs.step()
        ours.step(grads=grads)
        for grad, before in zip(grads, kept, strict=True):
            np.testing.assert_array_equal(grad, before)
    for array, tensor in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=2e-5, atol=1e-7)
    states = [*ours.state.values()]
    assert states or name == "SGD"
    for entry, tensor in zip(states, tensors, strict=bool(states)):
        state = theirs.state[tensor]
        for key, value in entry.items():
            np.testing.assert_allclose(value, state[key].numpy(), rtol=2e-5, atol=1e-7)


@long_run
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
def test_powers_of_two_give_the_same_bits(
    spec: Spec, options: dict[str, Any], way: dict[str, bool]
) -> None:
    plain, arrays = draw(0), draw(0)
    one, other = spec.cls(plain, **options, **way), spec.cls(arrays, **options, **way)
    for step, skipped in enumerate(SKIPPED):
        grads = draw(1 + step)
        if not skipped:
            one.step(grads=grads)
        other.grad_scale, other.found_inf = np.array(256.0), np.array([float(skipped)])
        other.step(grads=scaled(grads, 256.0))
    for array, expected in zip(arrays, plain, strict=True):
        np.testing.assert_array_equal(array, expected)
    for entry, expected in zip(other.state.values(), one.state.values(), strict=True):
        assert entry.keys() == expected.keys()
        for key, value in entry.items():
            np.testing.assert_array_equal(value, expected[key])


def on_device(cupy: Any, dtype: str = "float32") -> tuple[list[np.ndarray], list[Any]]:
    return draw(0, dtype), [*map(cupy.asarray, draw(0, dtype))]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("spec", "options", "dtype"), DTYPE_CASES, ids=case_id)
def test_on_a_device_nothing_is_waited_for(
    cupy: Any, spec: Spec, options: dict[str, Any], dtype: str, way: dict[str, bool]
) -> None:
    host, device = on_device(cupy, dtype)
    ours, theirs = spec.cls(host, foreach=False, **options), spec.cls(device, **options, **way)
    with waiting() as log:
        for step, skipped in enumerate(SKIPPED):
            grads = scaled(draw(1 + step, dtype), 8.0)
            ours.grad_scale, ours.found_inf = 8.0, skipped
            ours.step(grads=grads)
            theirs.grad_scale = cupy.full((), 8.0, dtype="float32")
            theirs.found_inf = cupy.full((1,), float(skipped), dtype="float32")
            theirs.step(grads=[*map(cupy.asarray, grads)])
        assert log.waits == []
    assert theirs.step_count == len(SKIPPED)
    for array, expected in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=2e-5, atol=1e-7)
    theirs.settle()
    for entry, expected in zip(theirs.state.values(), ours.state.values(), strict=True):
        assert entry.keys() == expected.keys()
        for key, value in entry.items():
            value = value.get() if hasattr(value, "get") else value
            np.testing.assert_allclose(value, expected[key], rtol=2e-5, atol=1e-7)


def test_arrays_that_overlap(cupy: Any) -> None:
    host, device = np.arange(5.0), cupy.arange(5.0)
    ours = optim.SGD([host[:3], host[2:]], lr=0.1, foreach=False)
    theirs = optim.SGD([device[:3], device[2:]], lr=0.1)
    for skipped in (False, True, False):
        ours.grad_scale, ours.found_inf = 2.0, skipped
        ours.step(grads=[np.ones(3), np.ones(3)])
        theirs.grad_scale, theirs.found_inf = cupy.full((), 2.0), cupy.full((), float(skipped))
        theirs.step(grads=[cupy.ones(3), cupy.ones(3)])
    np.testing.assert_allclose(device.get(), host, rtol=1e-12)


def test_the_host_waits_for_the_step_before_and_only_if_it_runs_ahead(cupy: Any) -> None:
    host, device = on_device(cupy)
    ours, theirs = optim.NAdam(host, foreach=False), optim.NAdam(device)
    with late(), waiting() as log:
        for step, skipped in enumerate(SKIPPED):
            theirs.found_inf = cupy.full((1,), float(skipped), dtype="float32")
            theirs.step(grads=[*map(cupy.asarray, draw(1 + step))])
            ours.found_inf = skipped
            ours.step(grads=draw(1 + step))
        assert log.waits == ["Event.synchronize"] * (len(SKIPPED) - 1)
    for array, expected in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=1e-5)


def test_a_first_step_that_was_skipped_leaves_no_state(cupy: Any) -> None:
    device = [cupy.ones(3)]
    opt = optim.SGD(device, lr=1.0, momentum=0.5, dampening=0.25)
    opt.found_inf = cupy.ones(1)
    opt.step(grads=[cupy.ones(3)])
    assert opt.state_dict()["state"] == {}
    opt.found_inf = None
    opt.step(grads=[cupy.ones(3)])
    np.testing.assert_array_equal(device[0].get(), np.zeros(3))  # no dampening in the first step


def test_what_is_saved_has_been_settled(cupy: Any) -> None:
    for saved in (
        lambda opt: opt.state_dict()["state"][0]["step"],
        lambda opt: next(iter(copy.deepcopy(opt).state.values()))["step"],
        lambda opt: next(iter(pickle.loads(pickle.dumps(opt)).state.values()))["step"],
    ):
        opt = optim.Adam([cupy.ones(3)])
        opt.step(grads=[cupy.ones(3)])
        opt.found_inf = cupy.ones(())
        opt.step(grads=[cupy.ones(3)])
        assert next(iter(opt.state.values()))["step"] == 2
        assert saved(opt) == 1


def test_loading_forgets_what_was_not_settled(cupy: Any) -> None:
    opt = optim.Adam([cupy.ones(3)])
    opt.step(grads=[cupy.ones(3)])
    saved = copy.deepcopy(opt.state_dict())
    opt.found_inf = cupy.ones(1)
    opt.step(grads=[cupy.ones(3)])
    opt.found_inf = None
    opt.load_state_dict(saved)
    opt.step(grads=[cupy.ones(3)])
    assert opt.state_dict()["state"][0]["step"] == 2


def test_sparse_gradients(cupy: Any) -> None:
    indices, values = np.array([1, 3, 1]), np.array([8.0, 16.0, 8.0])
    host, device = np.ones(5), cupy.ones(5)
    ours, theirs = optim.SparseAdam([host], lr=0.1), optim.SparseAdam([device], lr=0.1)
    for skipped in (True, False, True, False):
        ours.grad_scale, ours.found_inf = 4.0, skipped
        ours.step(grads=[optim.SparseGrad(indices, values, (5,))])
        theirs.grad_scale = cupy.full((), 4.0)
        theirs.found_inf = cupy.full((), float(skipped))
        theirs.step(grads=[optim.SparseGrad(indices, cupy.asarray(values), (5,))])
    np.testing.assert_allclose(device.get(), host, rtol=1e-6)
    assert host[0] == 1
    assert host[1] < 1


def test_several_devices(cupy: Any) -> None:
    host, device = on_device(cupy)
    with cupy.cuda.Device(1):
        device[1] = cupy.asarray(host[1])
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device)
    for skipped in (False, True, False):
        grads = scaled(draw(2), 4.0)
        ours.grad_scale, ours.found_inf = 4.0, skipped
        ours.step(grads=grads)
        theirs.grad_scale, theirs.found_inf = cupy.full((), 4.0), cupy.full((), float(skipped))
        there = [cupy.asarray(grads[0])]
        with cupy.cuda.Device(1):
            there.append(cupy.asarray(grads[1]))
        theirs.step(grads=there)
    for array, expected in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=1e-5)


def test_a_grad_scaler_of_torch_drives_it() -> None:
    def run(make: Any) -> tuple[torch.Tensor, float]:
        tensor = torch.tensor(draw(0)[0], requires_grad=True)
        opt = make([tensor])
        scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)
        for step, skipped in enumerate(SKIPPED):
            opt.zero_grad()
            loss = (tensor * torch.tensor(draw(1 + step)[0])).sum()
            scaler.scale(loss * (np.inf if skipped else 1.0)).backward()
            scaler.step(opt)
            scaler.update()
        return tensor.detach(), scaler.get_scale()

    ours, scale = run(lambda params: optim.Adam(params, lr=0.1))
    theirs, expected = run(lambda params: torch.optim.Adam(params, lr=0.1, fused=True))
    assert scale == expected
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5)


def test_schedulers_count_steps_that_were_skipped() -> None:
    opt = optim.SGD([np.ones(3)], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(opt, 1)
    opt.found_inf = True
    opt.step(grads=[np.ones(3)])
    schedule.step()
    assert opt.step_count == 1


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("grad_scale", 0.0, ValueError, "expected a grad_scale above 0, but got 0.0"),
        ("grad_scale", float("nan"), ValueError, "expected a grad_scale above 0, but got nan"),
        ("grad_scale", "x", TypeError, "a number or an array of one as grad_scale, but got str"),
        ("found_inf", np.ones(2), TypeError, r"as found_inf, but got ndarray of shape \(2,\)"),
    ],
)
def test_bad_values_change_nothing(
    name: str, value: Any, error: type[Exception], message: str
) -> None:
    array = np.ones(3)
    opt = optim.Adam([array])
    setattr(opt, name, value)
    with pytest.raises(error, match=message):
        opt.step(grads=[np.ones(3)])
    np.testing.assert_array_equal(array, np.ones(3))
    assert not opt.state


def test_lbfgs_has_no_scale() -> None:
    opt = optim.LBFGS([np.ones(2)])
    assert not opt._step_supports_amp_scaling
    opt.grad_scale = 2.0
    with pytest.raises(RuntimeError, match="LBFGS takes no grad_scale and no found_inf"):
        opt.step(lambda: (0.0, [np.ones(2)]))
