"""How steps run on a GPU: without waiting, on the stream and device of the user, and in graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from specs import CASES, Spec, case_id
from test_capture import REPLAYED, WARM, Run, runs
from test_parity import draw

import arrayopt as optim

cases = pytest.mark.parametrize(("spec", "options"), [*CASES], ids=case_id)


@cases
@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_a_step_waits_for_nothing(
    machine: Any, spec: Spec, options: dict[str, Any], way: dict[str, bool]
) -> None:
    cupy = machine.cupy
    params = [*map(cupy.asarray, draw(np.random.default_rng(0), "float32"))]
    opt = spec.cls(params, **options, **way)
    schedule = optim.lr_scheduler.ExponentialLR(opt, 0.9)
    steps = [
        [*map(cupy.asarray, draw(np.random.default_rng(seed), "float32"))] for seed in range(8)
    ]
    opt.step(grads=steps[0])
    with machine.no_waiting():
        for grads in steps:
            opt.step(grads=grads)
            schedule.step()
            opt.zero_grad()
    assert all(bool(cupy.isfinite(param).all()) for param in params)


def test_the_counter_counts(machine: Any) -> None:
    with pytest.raises(Exception, match=r".") as caught, machine.no_waiting():
        float(machine.cupy.ones(()))
    assert type(caught.value).__name__ == "DeviceSynchronized"


@pytest.mark.parametrize("way", [{"foreach": False}, {"foreach": True}, {"fused": True}])
def test_steps_are_taken_on_the_current_stream(machine: Any, way: dict[str, bool]) -> None:
    cupy = machine.cupy
    host = draw(np.random.default_rng(0), "float32")
    device = [*map(cupy.asarray, host)]
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device, **way)
    cupy.cuda.Device().synchronize()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        busy = cupy.ones((2000, 2000))
        for seed in range(5):
            grads = draw(np.random.default_rng(seed), "float32")
            busy = busy @ busy / 2000  # so that what is not ordered by the stream comes too early
            there = [cupy.asarray(grad) + 0 * busy[0, 0].astype("float32") for grad in grads]
            theirs.step(grads=there)
            ours.step(grads=grads)
        stream.synchronize()
    for array, expected in zip(device, host, strict=True):
        np.testing.assert_allclose(array.get(), expected, rtol=1e-5, atol=1e-7)


def test_several_devices(machine: Any) -> None:
    cupy = machine.cupy
    count = cupy.cuda.runtime.getDeviceCount()
    if count < 2:
        pytest.skip("there is one device")

    def place(arrays: list[np.ndarray]) -> list[Any]:
        placed = []
        for index, array in enumerate(arrays):
            with cupy.cuda.Device(index % count):
                placed.append(cupy.asarray(array))
        return placed

    host = draw(np.random.default_rng(0), "float32")
    device = place(host)
    ours, theirs = optim.Adam(host, foreach=False), optim.Adam(device)
    for seed in range(3):
        grads = draw(np.random.default_rng(seed), "float32")
        ours.step(grads=grads)
        theirs.step(grads=place(grads))
    assert cupy.cuda.Device().id == 0
    for index, (array, expected) in enumerate(zip(device, host, strict=True)):
        assert array.device.id == index % count
        np.testing.assert_allclose(array.get(), expected, rtol=1e-5)


@cases
def test_replays_are_steps_to_the_bit(machine: Any, spec: Spec, options: dict[str, Any]) -> None:
    cupy = machine.cupy
    captured, plain = (Run(cupy, spec, options, "float32", [(40, 30), (7,), ()]) for _ in "ab")
    for _ in range(WARM):
        captured.step()
        plain.step()
    cupy.cuda.Device().synchronize()
    graph = captured.capture()
    captured.same(plain)
    for _ in range(REPLAYED):
        captured.replay(graph)
        plain.step()
    captured.same(plain)


def test_replays_wait_for_nothing(machine: Any) -> None:
    captured, plain = runs(machine.cupy)
    machine.cupy.cuda.Device().synchronize()
    graph = captured.capture()
    with machine.no_waiting():
        for _ in range(100):
            captured.replay(graph)
    for _ in range(100):
        plain.step()
    captured.same(plain)


@pytest.mark.parametrize("name", ["Adam", "SGD", "NAdam", "ASGD"])
def test_steps_that_are_skipped_on_the_device(machine: Any, name: str) -> None:
    cupy = machine.cupy
    run, plain = runs(cupy, name)
    for skipped in (True, False, True, True, False):
        run.opt.found_inf = cupy.full(1, float(skipped), dtype="float32")
        run.opt.grad_scale = cupy.ones(1, dtype="float32")
        run.step()
        if skipped:
            plain.look()
            plain.opt.step_count += 1
        else:
            plain.step()
    run.same(plain)
