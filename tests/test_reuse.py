"""A step is done again without its checks only while nothing but numbers has changed."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

import arrayopt as optim
from arrayopt import batching, optimizer


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows whenever a group is checked and sorted anew."""
    calls: list[int] = []

    def build(*args: object) -> batching.Agenda:
        calls.append(1)
        return batching.build(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(optimizer, "build", build)
    return calls


def make(dtype: type = np.float64, **options: object) -> tuple[optim.Adam, list[optim.Parameter]]:
    params = [optim.Parameter(np.ones((2, 3), dtype)), optim.Parameter(np.ones(4, dtype))]
    for param in params:
        param.grad = np.full(param.shape, 0.5, dtype)
    return optim.Adam(params, **options), params


def test_new_gradients_and_rates_need_no_new_checks(builds: list[int]) -> None:
    opt, params = make()
    for step in range(4):
        for param in params:
            param.grad = np.full(param.shape, float(step))
        opt.param_groups[0]["lr"] = 0.1 / (1 + step)
        opt.step()
    assert len(builds) == 1


@pytest.mark.parametrize("frozen", ["grad", "requires_grad"])
def test_neither_do_frozen_parameters_mixed_dtypes_or_cast_gradients(
    builds: list[int], frozen: str
) -> None:
    single, double = make(np.float32)[1], make(np.float64)[1]
    setattr(single[0], frozen, None if frozen == "grad" else False)
    single[1].grad = np.ones(4)  # float64, to be cast
    opt = optim.Adam([*single, *double])
    for _ in range(3):
        opt.step()
    assert len(builds) == 1
    assert (single[0].data == 1).all()
    assert (single[1].data < 1).all()
    assert (double[0].data < 1).all()


CHANGES: dict[str, Callable[[optim.Adam, list[optim.Parameter]], object]] = {
    "thawed": lambda opt, params: setattr(params[0], "requires_grad", True),
    "frozen": lambda opt, params: setattr(params[1], "requires_grad", False),
    "no gradient": lambda opt, params: setattr(params[1], "grad", None),
    "other data": lambda opt, params: setattr(params[1], "data", np.ones(4)),
    "gradient of another dtype": lambda opt, params: setattr(params[1], "grad", np.ones(4, "f4")),
    "state replaced": lambda opt, params: opt.state[params[1]].update(exp_avg=np.ones(4)),
    "state removed": lambda opt, params: opt.state.pop(params[1]),
    "entry replaced": lambda opt, params: opt.state.update({params[1]: {**opt.state[params[1]]}}),
    "step changed": lambda opt, params: opt.state[params[1]].update(step=10),
    "option on": lambda opt, params: opt.param_groups[0].update(amsgrad=True),
    "implementation": lambda opt, params: opt.param_groups[0].update(foreach=False),
    "params": lambda opt, params: opt.param_groups[0].update(params=params[:2]),
    "order": lambda opt, params: opt.param_groups[0]["params"].reverse(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_and_counts_as_if_nothing_had_been_remembered(name: str) -> None:
    def run(remember: bool) -> list[np.ndarray]:
        opt, params = make()
        params.append(optim.Parameter(np.ones(3)))
        params[2].grad = np.ones(3)
        params[0].requires_grad = False
        opt = optim.Adam(params)
        for step in range(4):
            if step == 2:
                CHANGES[name](opt, params)
            if not remember:
                opt._last.clear()
            opt.step()
        return [param.data for param in params]

    for ours, expected in zip(run(remember=True), run(remember=False), strict=True):
        np.testing.assert_array_equal(ours, expected)


TENSOR_CHANGES: dict[str, Callable[[optim.Adam, list[torch.nn.Parameter]], object]] = {
    "other data": lambda opt, params: setattr(params[0], "data", torch.zeros(2, 3)),
    "the same memory, transposed": lambda opt, params: setattr(
        params[0], "data", params[0].data.view(3, 2).T
    ),
    "to be negated": lambda opt, params: setattr(
        params[1], "data", torch._neg_view(params[1].data)
    ),
    "no gradient": lambda opt, params: setattr(params[1], "grad", None),
    "a gradient of another layout": lambda opt, params: setattr(
        params[0], "grad", torch.ones(3, 2).T
    ),
    "a gradient in a graph": lambda opt, params: setattr(
        params[0], "grad", torch.ones(2, 3, requires_grad=True) * 2
    ),
    "state that points elsewhere": lambda opt, params: setattr(
        opt.state[params[0]]["exp_avg"], "data", torch.ones(2, 3)
    ),
    "state replaced": lambda opt, params: opt.state[params[1]].update(exp_avg=torch.ones(4)),
    "step changed": lambda opt, params: opt.state[params[1]].update(step=10),
    "option on": lambda opt, params: opt.param_groups[0].update(amsgrad=True),
}


@pytest.mark.parametrize("name", TENSOR_CHANGES)
def test_a_change_of_tensors_is_seen(name: str) -> None:
    def run(remember: bool) -> list[np.ndarray]:
        params = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))]
        for param in params:
            param.grad = torch.full_like(param, 0.5)
        opt = optim.Adam(params)
        for step in range(5):
            if step == 3:
                TENSOR_CHANGES[name](opt, params)
            if not remember:
                opt._last.clear()
            opt.step()
        return [param.detach().resolve_neg().numpy() for param in params]

    for ours, expected in zip(run(remember=True), run(remember=False), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_tensors_need_no_new_checks(builds: list[int]) -> None:
    param = torch.nn.Parameter(torch.ones(3))
    opt = optim.Adam([param], lr=0.1)
    for step in range(5):
        param.grad = torch.full((3,), float(step))
        opt.step()
    assert len(builds) == 1


def test_a_tensor_of_another_dtype_on_the_same_memory_is_an_error_or_seen() -> None:
    param = torch.nn.Parameter(torch.ones(4))
    param.grad = torch.ones(4)
    opt = optim.SGD([param], lr=0.5)
    opt.step()
    param.data = param.data.view(torch.float64)  # half as many numbers
    with pytest.raises(RuntimeError, match=r"expected a gradient of shape \(2,\)"):
        opt.step()


def test_an_array_that_has_changed_its_shape_is_seen() -> None:
    opt, params = make()
    opt.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        params[0].data.shape = (3, 2)
    with pytest.raises(RuntimeError, match=r"expected a gradient of shape \(3, 2\)"):
        opt.step()


def test_data_and_state_that_are_locked_later_are_an_error() -> None:
    for locked in ("data", "state"):
        opt, params = make()
        opt.step()
        array = params[1].data if locked == "data" else np.zeros(4)
        if locked == "state":
            opt.state[params[1]]["exp_avg"] = array
        array.flags.writeable = False
        before = [param.data.copy() for param in params]
        with pytest.raises(ValueError, match=r"parameter 1: .*(read-only|cannot be written to)"):
            opt.step()
        for param, kept in zip(params, before, strict=True):
            np.testing.assert_array_equal(param.data, kept)


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("foreach", [False, True, None])
def test_gradients_are_not_kept_alive(size: int, foreach: bool | None) -> None:
    param = optim.Parameter(np.ones(size))
    opt = optim.Adam([param], foreach=foreach)
    for _ in range(3):
        param.grad = np.ones(size)
        kept = weakref.ref(param.grad)
        opt.step()
        opt.zero_grad()
        gc.collect()
        assert kept() is None


def test_gradients_that_came_again_are_not_kept_alive() -> None:
    params = [optim.Parameter(np.ones(10)), optim.Parameter(np.ones(3))]
    opt = optim.Adam(params)
    for param in params:
        param.grad = np.ones(param.shape)
    for _ in range(6):
        opt.step()
    kept = [weakref.ref(param.grad) for param in params]
    opt.zero_grad()
    del param
    gc.collect()
    assert [ref() for ref in kept] == [None, None]


def test_parameters_of_a_group_that_is_gone_are_not_kept_alive() -> None:
    opt, _ = make()
    other = optim.Parameter(np.ones(3))
    other.grad = np.ones(3)
    opt.add_param_group({"params": [other]})
    opt.step()
    kept = weakref.ref(other)
    opt.param_groups.pop()
    opt.state.pop(other)
    del other
    opt.step()
    gc.collect()
    assert kept() is None


def test_freezing_a_parameter_of_a_class_of_ones_own_is_seen() -> None:
    class Weight(optim.Parameter):
        pass

    weight = Weight(np.ones(2))
    weight.grad = np.ones(2)
    opt = optim.SGD([weight], lr=0.5)
    opt.step()
    weight.requires_grad = False
    opt.step()
    assert (weight.data == 0.5).all()


def test_a_parameter_that_is_appended_to_a_named_group_has_its_own_name() -> None:
    first, second = np.ones(2), optim.Parameter(np.ones(2), name="b")
    opt = optim.SGD([("a", first)], lr=0.5)
    opt.param_groups[0]["params"].append(second)
    opt.step(grads={"b": np.ones(2)})
    assert (first == 1).all()
    assert (second.data == 0.5).all()
