"""Optimizers of one's own: what a rule may do, and what happens when it does something else."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import arrayopt as optim


def optimizer_of(rule: Callable[..., Any], *names: str, scalar: str = "") -> type[optim.Optimizer]:
    slots = tuple(optim.StateSlot(name) for name in names)

    class Own(optim.Optimizer):
        state_table = (*slots, *([optim.StateSlot(scalar, 0, scalar=True)] if scalar else []))

        def __init__(self, params: Any, foreach: bool | None = None) -> None:
            super().__init__(params, {"lr": 0.5, "foreach": foreach})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return rule(xp, param, grad, state, group)

    return Own


foreaches = pytest.mark.parametrize("foreach", [None, False, True])


@foreaches
def test_a_rule_may_not_write_to_its_arguments(foreach: bool | None) -> None:
    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        grad *= 2
        return param - grad, {}

    w, g = np.ones(3), np.ones(3)
    with pytest.raises((ValueError, TypeError), match=r"read-only|in place"):
        optimizer_of(rule)([w], foreach=foreach).step(grads=[g])
    assert (w == 1).all()
    assert (g == 1).all()


@foreaches
def test_scalar_state_may_be_a_numpy_number(foreach: bool | None) -> None:
    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - grad, {"seen": np.float64(state["seen"] + 1)}

    w = np.array(3.0)
    opt = optimizer_of(rule, scalar="seen")([w], foreach=foreach)
    for _ in range(2):
        opt.step(grads=[np.array(1.0)])
    assert w == 1
    (state,) = opt.state.values()
    assert state == {"seen": 2.0}
    assert type(state["seen"]) is float


@foreaches
def test_state_has_to_be_declared(foreach: bool | None) -> None:
    def rule(xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
        return param - grad, {"momentum": grad}

    w = np.ones(3)
    message = r"Own\.rule returned the state \['momentum'\], but its state_table declares \['buf'\]"
    with pytest.raises(optim.TraceError, match=message):
        optimizer_of(rule, "buf")([w], foreach=foreach).step(grads=[w])
    assert (w == 1).all()


@foreaches
def test_what_a_rule_returns_is_named_if_it_is_wrong(foreach: bool | None) -> None:
    w = np.ones(3)
    with pytest.raises(optim.TraceError, match=r"rule must return \(param, state\)"):
        optimizer_of(lambda xp, p, g, s, h: p - g)([w], foreach=foreach).step(grads=[g := w])
    assert (g == 1).all()


@pytest.mark.parametrize("array", [np.ones(2), torch.ones(2, dtype=torch.float64)])
def test_state_that_begins_as_the_gradient_has_memory_of_its_own(array: Any) -> None:
    grad = array * 3
    for options in ({"foreach": False}, {"differentiable": True}):
        param = optim.Parameter(array * 1)
        opt = optim.SGD([param], momentum=0.5, **options)
        opt.step(grads=[grad])
        buffer = opt.state[param]["momentum_buffer"]
        assert buffer is not grad
        buffer[0] = 7.0
        assert float(grad[0]) == 3


def test_an_optimizer_with_a_step_of_its_own_has_no_implementation_to_report() -> None:
    class Own(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        def step(self) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for param in group["params"]:
                    param.data -= 1

    w = np.ones(2)
    opt = Own([w])
    opt.step()
    assert (w == 0).all()
    assert opt.implementation == ()


@pytest.mark.parametrize("foreach", [False, True])
def test_a_matrix_as_gradient_means_its_elements(foreach: bool) -> None:
    grad = np.array([[1.0, 2.0], [3.0, 4.0]])
    ours, expected = np.ones((2, 2)), np.ones((2, 2))
    optim.Adam([expected], lr=0.1).step(grads=[grad])
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(grad)
    optim.Adam([ours], lr=0.1, foreach=foreach).step(grads=[matrix])
    np.testing.assert_array_equal(ours, expected)


def test_masked_arrays_are_refused() -> None:
    masked = np.ma.masked_array(np.ones(3), [0, 1, 0])
    with pytest.raises(TypeError, match="parameter 0: masked arrays are not supported"):
        optim.SGD([masked])
    w = np.ones(3)
    with pytest.raises(TypeError, match="parameter 0: masked arrays are not supported"):
        optim.SGD([w]).step(grads=[masked])
    assert (w == 1).all()


def test_arrays_whose_elements_share_memory_are_refused() -> None:
    for shared in (
        torch.ones(1).expand(3),
        np.lib.stride_tricks.as_strided(np.ones(1), (3,), (0,)),
    ):
        with pytest.raises(RuntimeError, match="parameter 1: expected elements with memory"):
            optim.SGD([shared[:1] * 1, shared])


def test_a_module_or_an_unhashable_parameter_gets_a_hint() -> None:
    class Holder:
        __hash__ = None  # type: ignore[assignment]
        data = np.ones(2)
        grad = None

    with pytest.raises(TypeError, match=r"of a Module are its \.parameters\(\)"):
        optim.SGD(optim.Module())
    with pytest.raises(TypeError, match=r"parameter 0: .* Holder is not hashable"):
        optim.SGD([Holder()])


def test_adamw_stays_decoupled_whatever_a_group_says() -> None:
    w = np.ones(1)
    group = {"params": [w], "decoupled_weight_decay": False}
    optim.AdamW([group], lr=0.1, weight_decay=0.5).step(grads=[np.zeros(1)])
    np.testing.assert_allclose(w, 0.95, rtol=1e-15)  # 1 - lr * weight_decay


def test_a_momentum_that_torch_saved_before_it_began_is_skipped() -> None:
    w = np.ones(2)
    opt = optim.SGD([w], momentum=0.9)
    saved = opt.state_dict() | {"state": {0: {"momentum_buffer": None}}}
    opt.load_state_dict(saved)
    opt.step(grads=[w.copy()])
    (state,) = opt.state.values()
    np.testing.assert_array_equal(state["momentum_buffer"], [1, 1])


# The example of the README


@pytest.fixture(scope="module")
def lion() -> type[optim.Optimizer]:
    """The class that the README shows, out of the README."""
    text = Path(__file__).parents[1].joinpath("README.md").read_text()
    sources = [example.source for example in doctest.DocTestParser().get_examples(text)]
    (source,) = (source for source in sources if source.startswith("class Lion"))
    assert len(source[source.index("def rule") :].splitlines()) <= 10
    namespace: dict[str, Any] = {"optim": optim, "np": np}
    exec(source, namespace)
    return namespace["Lion"]


def lion_by_hand(
    w: np.ndarray, grads: list[np.ndarray], lr: float, beta1: float, beta2: float, decay: float
) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 2 of Chen et al. (2023), "Symbolic discovery of optimization algorithms"."""
    m = np.zeros_like(w)
    for g in grads:
        c = beta1 * m + (1 - beta1) * g
        w = w - lr * (np.sign(c) + decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w, m


@foreaches
def test_lion_is_algorithm_2_of_its_paper(lion: Any, foreach: bool | None) -> None:
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape) for shape in ((4, 3), (), (0,))]
    params = [start.copy() for start in starts]
    groups = [{"params": params[:1], "lr": 0.1, "weight_decay": 0.5}, {"params": params[1:]}]
    opt = lion(groups, lr=0.01, betas=(0.8, 0.7), foreach=foreach)
    grads = [[rng.standard_normal(start.shape) for start in starts] for _ in range(20)]
    for number, step in enumerate(grads):
        if number == 10:  # moving house in the middle
            saved = opt.state_dict()
            opt = lion(groups, lr=0.01, betas=(0.8, 0.7), foreach=foreach)
            opt.load_state_dict(saved)
        for group in opt.param_groups:
            group["foreach"] = foreach
        opt.step(grads=step)
    for index, (start, param) in enumerate(zip(starts, params)):
        lr, decay = (0.1, 0.5) if index == 0 else (0.01, 0.0)
        own = [step[index] for step in grads]
        w, m = lion_by_hand(start, own, lr, 0.8, 0.7, decay)
        np.testing.assert_allclose(param, w, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(list(opt.state.values())[index]["exp_avg"], m, rtol=1e-13)


def test_lion_has_its_checks_for_free(lion: Any) -> None:
    w = np.ones(2)
    with pytest.raises(ValueError, match="Invalid beta parameter at index 1: 1"):
        lion([w], betas=(0.9, 1.0))
    with pytest.raises(ValueError, match="Invalid weight_decay value: -1"):
        lion([w], weight_decay=-1)
    opt = lion([w])
    with pytest.raises(RuntimeError, match=r"gradient of shape \(2,\), but got shape \(3,\)"):
        opt.step(grads=[np.ones(3)])
    assert (w == 1).all()
    assert [report.implementation for report in opt.implementation] == ["fused"]
