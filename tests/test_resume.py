"""Stopping and going on: saved, copied, frozen, late, and with options that change on the way."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from arrays import normal
from specs import CASES, ELEMENTWISE, Spec, case_id
from stepping import bits, long_run, params_of, take

import arrayopt as optim

Arrays = list[np.ndarray]
Options = dict[str, Any]

cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
foreaches = pytest.mark.parametrize("foreach", [False, True, None])

#: The large one is updated in place, the small ones are packed.
KINDS: list[tuple[tuple[int, ...], Any]] = [
    ((3, 4), np.float64),
    ((), np.float64),
    ((0, 2), np.float64),
    ((9000,), np.float32),
    ((), np.float16),
    ((5,), np.float16),
    ((), np.complex128),
    ((2, 2), np.complex128),
    ((5,), np.complex64),
]


def parameters() -> list[optim.Parameter]:
    rng = np.random.default_rng(0)
    return [optim.Parameter(*normal(rng, [shape], dtype)) for shape, dtype in KINDS]


# Saved and copied


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def loaded(optimizer: optim.Optimizer, state_dict: dict[str, Any]) -> optim.Optimizer:
    """Another optimizer, on parameters and options of its own, that has loaded a state dict."""
    params = [optim.Parameter(param.data.copy()) for param in params_of(optimizer)]
    fresh = type(optimizer)(params, lr=7.0)
    fresh.load_state_dict(state_dict)
    return fresh


#: What can be kept of a run, and what goes on from it.
KEPT = [
    lambda optimizer: loaded(optimizer, optimizer.state_dict()),
    lambda optimizer: loaded(optimizer, pickled(optimizer.state_dict())),
    pickled,
    copy.deepcopy,
]


@cases
@foreaches
def test_a_run_goes_on_to_the_bit_from_whatever_was_kept_of_it(
    spec: Spec, options: Options, foreach: bool | None
) -> None:
    straight = spec.cls(parameters(), **options, foreach=foreach)
    take(straight, range(5))
    resumed = [going_on(straight) for going_on in KEPT]
    halfway = bits(straight)
    for other in resumed:
        assert bits(other) == halfway
        take(other, range(5, 10))
    assert bits(straight) == halfway  # the others have memory of their own
    take(straight, range(5, 10))
    for other in resumed:
        assert bits(other) == bits(straight)
        assert other.state_dict()["param_groups"] == straight.state_dict()["param_groups"]
    learns = options.get("lr") != 0
    assert (bits(straight) != halfway) == (learns or bool(spec.state.get("")))


# Without a gradient for some steps


STEPS = 8

#: The shapes of some parameters, and the steps in which each has no gradient.
ABSENCES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), ()),
    ((5,), (3, 4, 5)),  # on the way
    ((2, 2), (0, 1, 2, 3)),  # its first gradient comes late
    ((), (2, 6)),
    ((), (0, 1)),
    ((0, 3), (4, 5)),
    ((0,), (0, 1, 2)),
    ((9000,), (0, 3, 4)),
    ((7,), tuple(range(STEPS))),  # never
]


def draw(rng: np.random.Generator) -> Arrays:
    return normal(rng, [shape for shape, _ in ABSENCES])


def step_frozen(optimizer: optim.Optimizer, grads: Arrays, absent: list[bool]) -> None:
    """Freeze parameters, whose gradients are there nevertheless."""
    for param, grad, is_absent in zip(params_of(optimizer), grads, absent, strict=True):
        param.requires_grad = not is_absent
        param.grad = grad
    optimizer.step()


def step_without_grad(optimizer: optim.Optimizer, grads: Arrays, absent: list[bool]) -> None:
    for param, grad, is_absent in zip(params_of(optimizer), grads, absent, strict=True):
        param.grad = None if is_absent else grad
    optimizer.step()


def step_with_grads(optimizer: optim.Optimizer, grads: Arrays, absent: list[bool]) -> None:
    optimizer.step(
        grads=[None if is_absent else grad for grad, is_absent in zip(grads, absent, strict=True)]
    )


def assert_close(ours: Any, theirs: Any) -> None:
    """Equal but for 1e-12 of the largest element."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs).max(initial=0)
    assert difference <= 1e-12 * np.abs(theirs).max(initial=0)


def assert_same_state(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        assert_close(ours[name], value)


@long_run
@cases
@pytest.mark.usefixtures("torch_in_double_precision")
def test_a_parameter_without_a_gradient_rests_as_in_torch(spec: Spec, options: Options) -> None:
    start = draw(np.random.default_rng(0))
    tensors = [torch.tensor(array, requires_grad=True) for array in start]
    theirs = spec.theirs(tensors, **options, foreach=False)
    ways = [
        (way, spec.cls([optim.Parameter(a.copy()) for a in start], **options, foreach=foreach))
        for way in (step_frozen, step_without_grad, step_with_grads)
        for foreach in (False, None)
    ]
    rng = np.random.default_rng(1)
    for step in range(STEPS):
        grads = draw(rng)
        absent = [step in steps for _, steps in ABSENCES]
        for tensor, grad, is_absent in zip(tensors, grads, absent, strict=True):
            tensor.grad = None if is_absent else torch.tensor(grad)
        theirs.step()
        for way, ours in ways:
            before = bits(ours)
            way(ours, grads, absent)
            for is_absent, then, now in zip(absent, before, bits(ours), strict=True):
                assert not is_absent or then == now, way
    for way, ours in ways:
        for param, tensor, (_, steps) in zip(params_of(ours), tensors, ABSENCES, strict=True):
            assert_close(param.data, tensor.detach())
            if len(steps) == STEPS:
                assert param not in ours.state, way  # (torch's Adagrad has some at once)
                continue
            assert_same_state(ours.state.get(param, {}), theirs.state.get(tensor, {}))
            if "step" in spec.state.get("", ()):
                assert ours.state[param]["step"] == STEPS - len(steps), way


# Options that change on the way


def changes() -> list[tuple[Spec, Options, Options]]:
    """Options and those after a change, for every pair that torch knows how to change.

    (It raises a KeyError if amsgrad, or RMSprop's momentum or mean, begin later.)
    """
    pairs = [
        (spec, before, after)
        for spec in ELEMENTWISE
        for before, after in itertools.permutations(spec.options, 2)
    ]
    return [
        (spec, before, after)
        for spec, before, after in pairs
        if spec.name == "SGD"
        or all(bool(before.get(o)) >= bool(after.get(o)) for o in spec.state if o)
    ]


@long_run
@pytest.mark.parametrize(("spec", "before", "after"), changes(), ids=case_id)
@pytest.mark.usefixtures("torch_in_double_precision")
def test_options_may_change_as_in_torch(spec: Spec, before: Options, after: Options) -> None:
    start = np.random.default_rng(0).standard_normal(6)
    array, tensor = start.copy(), torch.tensor(start, requires_grad=True)
    ours = spec.cls([array], **before)
    theirs = spec.theirs([tensor], **before, foreach=False)
    defaults = {key: spec.cls([np.ones(1)]).defaults[key] for key in {*before, *after}}
    rng = np.random.default_rng(1)
    for options in (before, after, before):
        for optimizer in (ours, theirs):
            optimizer.param_groups[0].update(defaults | options)
        for _ in range(3):
            grad = rng.standard_normal(6)
            ours.step(grads=[grad])
            tensor.grad = torch.tensor(grad)
            theirs.step()
        assert_close(array, tensor.detach())
        assert_same_state(
            ours.state.get(ours.param_groups[0]["params"][0], {}), theirs.state.get(tensor, {})
        )


#: Large ones while the option is off, and then small ones: what was before it would be seen.
GRADS = [9.0, -8.0, 10.0, 0.1, -0.2, 5.0, 0.3]
BEGIN = 3


def switched(
    name: str, option: str, value: Any, foreach: bool | None, **options: Any
) -> tuple[float, dict[str, Any]]:
    """The parameter, which starts at 1, and its state; the option is switched on after 3 steps."""
    param = optim.Parameter(np.array([1.0]))
    optimizer = getattr(optim, name)([param], **options, foreach=foreach)
    for step, grad in enumerate(GRADS):
        if step == BEGIN:
            optimizer.param_groups[0][option] = value
        optimizer.step(grads=[np.array([grad])])
    return param.data.item(), optimizer.state[param]


@foreaches
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_amsgrad_that_begins_later_begins_with_zeros(name: str, foreach: bool | None) -> None:
    ours, state = switched(
        name, "amsgrad", True, foreach, lr=0.1, betas=(0.5, 0.6), weight_decay=0.0
    )
    x, m, v, largest = 1.0, 0.0, 0.0, 0.0
    for t, g in enumerate(GRADS, 1):
        m, v = 0.5 * m + 0.5 * g, 0.6 * v + 0.4 * g**2
        largest = max(largest, v) if t > BEGIN else 0.0
        v_hat = (largest if t > BEGIN else v) / (1 - 0.6**t)
        x -= 0.1 * m / (1 - 0.5**t) / (math.sqrt(v_hat) + 1e-8)
    assert ours == pytest.approx(x, rel=1e-13)
    assert state["max_exp_avg_sq"].item() == pytest.approx(largest, rel=1e-13)
    assert largest > v  # the maximum is not the last value, so the test sees it


@foreaches
def test_a_momentum_of_rmsprop_that_begins_later_begins_with_zeros(foreach: bool | None) -> None:
    ours, state = switched("RMSprop", "momentum", 0.9, foreach, lr=0.1, alpha=0.6)
    x, v, momentum = 1.0, 0.0, 0.0
    for t, g in enumerate(GRADS, 1):
        v = 0.6 * v + 0.4 * g**2
        step = g / (math.sqrt(v) + 1e-8)
        momentum = 0.9 * momentum + step if t > BEGIN else 0.0
        x -= 0.1 * (momentum if t > BEGIN else step)
    assert ours == pytest.approx(x, rel=1e-13)
    assert state["momentum_buffer"].item() == pytest.approx(momentum, rel=1e-13)


@foreaches
def test_a_mean_of_rmsprop_that_begins_later_begins_with_zeros(foreach: bool | None) -> None:
    ours, state = switched("RMSprop", "centered", True, foreach, lr=0.1, alpha=0.6)
    x, v, mean = 1.0, 0.0, 0.0
    for t, g in enumerate(GRADS, 1):
        v = 0.6 * v + 0.4 * g**2
        mean = 0.6 * mean + 0.4 * g if t > BEGIN else 0.0
        x -= 0.1 * g / (math.sqrt(v - mean**2) + 1e-8)
    assert ours == pytest.approx(x, rel=1e-13)
    assert state["grad_avg"].item() == pytest.approx(mean, rel=1e-13)


@foreaches
def test_a_momentum_of_sgd_that_begins_later_begins_with_the_gradient(foreach: bool | None) -> None:
    ours, state = switched("SGD", "momentum", 0.9, foreach, lr=0.1, dampening=0.3)
    x, momentum = 1.0, 0.0
    for t, g in enumerate(GRADS):
        if t < BEGIN:
            x -= 0.1 * g
        else:
            momentum = g if t == BEGIN else 0.9 * momentum + (1 - 0.3) * g
            x -= 0.1 * momentum
    assert ours == pytest.approx(x, rel=1e-13)
    assert state["momentum_buffer"].item() == pytest.approx(momentum, rel=1e-13)
