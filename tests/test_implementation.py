"""Who carries out a step, and what becomes of a rule that cannot be traced."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import arrayopt as optim


class Rule(optim.Optimizer):
    """An optimizer made of a function."""

    def __init__(self, params, rule, **options):
        self.function = rule
        super().__init__(params, {"lr": 0.1, "foreach": None, **options})

    def rule(self, xp, param, grad, state, group):
        return self.function(xp, param, grad), {}


def implementations(opt):
    return [(each.implementation, each.reason) for each in opt.implementation]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"fused": False}, ("foreach", "the fastest available")),
        ({"fused": True}, ("fused", "fused=True")),
        ({}, ("fused", "the fastest available")),
        ({"foreach": True}, ("foreach", "foreach=True")),
        ({"foreach": False}, ("for-loop", "foreach=False")),
        ({"differentiable": True}, ("for-loop", "differentiable=True runs the rule itself")),
    ],
)
def test_implementation_tells_who_runs_and_why(options, expected):
    assert implementations(optim.Adam([np.ones(2)], **options)) == [expected]


def test_implementation_lists_each_kind_of_array():
    arrays = [np.ones(2), np.ones(3), np.ones(2, np.float32), torch.ones(2)]
    opt = optim.Adam([{"params": arrays}, {"params": [np.ones(1)], "foreach": False}])
    assert [(each.group, each.arrays, each.parameters) for each in opt.implementation] == [
        (0, "numpy float64", 2),
        (0, "numpy float32", 1),
        (0, "torch float32", 1),
        (1, "numpy float64", 1),
    ]
    assert [each.implementation for each in opt.implementation] == [*["fused"] * 3, "for-loop"]
    assert str(opt.implementation[3]) == (
        "group 1: 1 numpy float64 parameter: for-loop (array_api), foreach=False"
    )
    assert opt.state == {}


UNTRACEABLE = {
    "an unknown function": lambda xp, p, g: p - g / xp.sum(g),
    "an attribute": lambda xp, p, g: p - g * g.mean(),
    "an index": lambda xp, p, g: p - g[0],
    "a length": lambda xp, p, g: p - g / len(g),
    "iteration": lambda xp, p, g: p - sum(g),
    "a matrix product": lambda xp, p, g: p - (g @ g),
    "a function of NumPy": lambda xp, p, g: p - g / np.linalg.norm(g),
    "an array of its own": lambda xp, p, g: p - np.array([5.0, 5.0]),
    "a function that makes an array": lambda xp, p, g: p - 4.0 % xp.full_like(p, 3.0),
    "a branch on the elements": lambda xp, p, g: p - g if (g > 0).all() else p,
}


@pytest.mark.parametrize("rule", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_a_rule_that_cannot_be_traced_runs_as_a_for_loop(rule):
    w, g = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    opt = Rule([w], rule)
    expected = rule(np, w, g)
    opt.step(grads=[g])
    assert w.tobytes() == expected.tobytes()
    ((implementation, reason),) = implementations(opt)
    assert implementation == "for-loop"
    assert "cannot be traced" in reason


@pytest.mark.parametrize("rule", UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_a_rule_that_cannot_be_traced_is_an_error_with_foreach(rule):
    w, v = np.ones(2), np.ones(2)
    opt = Rule([{"params": [v], "foreach": False}, {"params": [w]}], rule, foreach=True)
    with pytest.raises(optim.TraceError):
        opt.step(grads=[np.ones(2), np.ones(2)])
    assert v.tolist() == w.tolist() == [1.0, 1.0]
