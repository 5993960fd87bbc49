"""Hooks: their order, what they are given, what they may return, and how they go away."""

from __future__ import annotations

import importlib
import threading

import numpy as np
import pytest
import torch

import arrayopt as optim

torch_optimizer = importlib.import_module("torch.optim.optimizer")


def make(module=optim):
    if module is optim:
        p = optim.Parameter(np.ones(1))
        p.grad = np.ones(1)
    else:
        p = torch.nn.Parameter(torch.ones(1))
        p.grad = torch.ones(1)
    return (module.SGD if module is optim else torch.optim.SGD)([p], lr=0.5)


def record(calls, name):
    return lambda *args: calls.append(name)


@pytest.mark.parametrize("module", [optim, torch_optimizer])
def test_step_hooks_run_in_torchs_order(module):
    calls: list[str] = []
    opt = make(module)
    for kind in ("pre", "post"):
        for name in ("a", "b"):
            getattr(opt, f"register_step_{kind}_hook")(record(calls, f"{kind} {name}"))
    with (
        module.register_optimizer_step_pre_hook(record(calls, "global pre")),
        module.register_optimizer_step_post_hook(record(calls, "global post")),
    ):
        opt.step(lambda: calls.append("closure"))
    opt.step()
    assert calls == [
        *("global pre", "pre a", "pre b", "closure", "post a", "post b", "global post"),
        *("pre a", "pre b", "post a", "post b"),
    ]


@pytest.mark.parametrize("module", [optim, torch_optimizer])
def test_state_dict_hooks_run_in_torchs_order(module):
    calls: list[str] = []
    opt = make(module)
    for kind in (
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
    ):
        register = getattr(opt, f"register_{kind}_hook")
        register(record(calls, f"{kind} 2"))
        register(record(calls, f"{kind} 3"))
        register(record(calls, f"{kind} 1"), prepend=True)
    opt.load_state_dict(opt.state_dict())
    kinds = ("state_dict_pre", "state_dict_post", "load_state_dict_pre", "load_state_dict_post")
    assert calls == [f"{kind} {number}" for kind in kinds for number in (1, 2, 3)]


def test_step_hooks_are_given_the_optimizer_and_the_arguments():
    opt = make()
    seen = []
    opt.register_step_pre_hook(lambda *given: seen.append(given))
    opt.register_step_post_hook(lambda *given: seen.append(given))
    grads = [np.ones(1)]
    opt.step(None, grads=grads)
    assert seen == [(opt, (opt, None), {"grads": grads})] * 2


def test_a_pre_hook_may_replace_the_arguments():
    opt = make()
    opt.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 42.0), {}))
    assert opt.step() == 42.0


@pytest.mark.parametrize("result", [5, (1,), [(), {}]])
def test_a_pre_hook_that_returns_something_else_is_an_error(result):
    opt = make()
    (p,) = opt.param_groups[0]["params"]
    with (
        opt.register_step_pre_hook(lambda *_: result),
        pytest.raises(
            RuntimeError, match=r"must return None or a tuple of \(new_args, new_kwargs\), but got"
        ),
    ):
        opt.step()
    assert p.data == 1.0
    opt.step()  # the next step is not taken for a nested one
    assert p.data == 0.5


def test_state_dict_hooks_may_replace_the_state_dict():
    opt, given = make(), []
    opt.register_state_dict_post_hook(lambda opt, state_dict: {**state_dict, "extra": 1})
    assert opt.state_dict()["extra"] == 1

    def halve(opt, state_dict):
        given.append(state_dict)
        (group,) = state_dict["param_groups"]
        return {**state_dict, "param_groups": [{**group, "lr": group["lr"] / 2}]}

    opt.register_load_state_dict_pre_hook(halve)
    saved = opt.state_dict()
    opt.load_state_dict(saved)
    assert given == [saved]
    assert given[0] is not saved
    assert opt.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize(
    "kind",
    [
        "step_pre",
        "step_post",
        "state_dict_pre",
        "state_dict_post",
        "load_state_dict_pre",
        "load_state_dict_post",
    ],
)
def test_a_hook_may_remove_itself(kind):
    opt, calls = make(), []

    def once(*_):
        calls.append("once")
        handle.remove()

    handle = getattr(opt, f"register_{kind}_hook")(once)
    getattr(opt, f"register_{kind}_hook")(record(calls, "always"))
    for _ in range(2):
        opt.step()
        opt.load_state_dict(opt.state_dict())
    assert calls == ["once", "always", "always"]
    handle.remove()  # twice is harmless


def test_handles_have_ids_of_their_own_and_are_context_managers():
    opt, calls = make(), []
    with opt.register_step_pre_hook(record(calls, "a")) as a:
        with opt.register_step_pre_hook(record(calls, "b")) as b:
            opt.step()
        opt.step()
    opt.step()
    assert calls == ["a", "b", "a"]
    assert a.id != b.id


def test_an_overridden_step_runs_hooks_once():
    class Twice(optim.SGD):
        def step(self, closure=None, **kwargs):
            super().step(closure, **kwargs)
            return super().step(None, **kwargs)

    class Logged(Twice):
        def step(self, closure=None, **kwargs):
            return super().step(closure, **kwargs)

    for cls in (Twice, Logged):
        calls: list[str] = []
        w = np.ones(1)
        opt = cls([w], lr=0.25)
        opt.register_step_pre_hook(record(calls, "pre"))
        opt.register_step_post_hook(record(calls, "post"))
        opt.step(grads=[np.ones(1)])
        assert calls == ["pre", "post"]
        assert w == 0.5


def test_an_exception_in_a_closure_changes_nothing_and_later_hooks_run():
    opt, calls = make(), []
    (p,) = opt.param_groups[0]["params"]
    opt.register_step_post_hook(record(calls, "post"))
    with pytest.raises(ZeroDivisionError):
        opt.step(lambda: 1 / 0)
    assert p.data == 1.0
    opt.step()
    assert calls == ["post"]


def test_hooks_run_for_every_step_on_every_thread() -> None:
    opt = optim.SGD([np.ones(3)])
    counts = []
    opt.register_step_post_hook(lambda *_: counts.append(1))
    threads = [
        threading.Thread(target=lambda: [opt.step(grads=[np.zeros(3)]) for _ in range(20)])
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == 60


def test_a_step_inside_a_closure_has_its_own_hooks() -> None:
    opt = optim.SGD([np.ones(3)])
    counts = []
    opt.register_step_pre_hook(lambda *_: counts.append(1))
    opt.step(lambda: opt.step(grads=[np.zeros(3)]))
    assert len(counts) == 2
