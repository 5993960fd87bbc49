"""Optimizers that begin in optax and go on here, and the other way: the same as in either."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
import pytest
from arrays import relative_difference
from stepping import long_run
from test_parity import draw, gradients

import arrayopt as optim
from arrayopt.interop import from_optax, to_optax

STEPS = 1000

pytestmark = pytest.mark.usefixtures("jax_in_double_precision")


def l2(transformation: Any) -> Any:
    return optax.chain(optax.add_decayed_weights(0.1), transformation)


#: Ours, with the transformation that computes the same.
PAIRS: list[tuple[Any, dict[str, Any], Any]] = [
    (optim.SGD, {"lr": 0.1}, optax.sgd(0.1)),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9}, optax.sgd(0.1, momentum=0.9)),
    (
        optim.SGD,
        {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        l2(optax.sgd(0.01, momentum=0.9, nesterov=True)),
    ),
    (optim.Adam, {"lr": 0.01}, optax.adam(0.01)),
    (
        optim.Adam,
        {"lr": 0.01, "betas": (0.3, 0.4), "eps": 1e-3, "weight_decay": 0.1},
        l2(optax.adam(0.01, 0.3, 0.4, 1e-3)),
    ),
    (
        optim.Adam,
        {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True},
        optax.adamw(0.01, weight_decay=0.1),
    ),
    (optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}, optax.adamw(0.01, weight_decay=0.1)),
    (optim.AdamW, {"lr": 0.01}, optax.named_chain(("adamw", optax.adamw(0.01, weight_decay=0.01)))),
    (optim.Adamax, {"lr": 0.01}, optax.adamax(0.01)),
    (
        optim.Adamax,
        {"lr": 0.01, "betas": (0.3, 0.4), "eps": 1e-3},
        optax.adamax(0.01, 0.3, 0.4, 1e-3),
    ),
    (optim.Adadelta, {"lr": 1.0}, optax.adadelta(1.0, 0.9, 1e-6)),
    (optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3}, optax.adadelta(0.5, 0.8, 1e-3)),
    (optim.RMSprop, {"lr": 0.01}, optax.rmsprop(0.01, 0.99, eps_in_sqrt=False)),
    (
        optim.RMSprop,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "momentum": 0.5},
        optax.rmsprop(0.01, 0.9, 1e-3, eps_in_sqrt=False, momentum=0.5),
    ),
    (
        optim.RMSprop,
        {"lr": 0.01, "centered": True, "eps": 1e-3},
        optax.rmsprop(0.01, 0.99, 1e-3, eps_in_sqrt=False, centered=True),
    ),
    (
        optim.RMSprop,
        {"lr": 0.01, "centered": True, "momentum": 0.9, "eps": 1e-3},
        optax.rmsprop(0.01, 0.99, 1e-3, eps_in_sqrt=False, centered=True, momentum=0.9),
    ),
    (
        optim.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 0.0},
        optax.adagrad(0.1, 0.5, 0.0),
    ),
    (optim.RAdam, {"lr": 0.01, "eps": 0.0}, optax.radam(0.01, eps=0.0)),
    (
        optim.RAdam,
        {"lr": 0.01, "eps": 0.0, "betas": (0.8, 0.95)},
        optax.radam(0.01, 0.8, 0.95, eps=0.0),
    ),
]
ids = [f"{cls.__name__}-{number}" for number, (cls, *_) in enumerate(PAIRS)]
pairs = pytest.mark.parametrize(("cls", "options", "transformation"), PAIRS, ids=ids)


@functools.partial(jax.jit, static_argnums=0)
def update(transformation: Any, params: Any, state: Any, grads: Any) -> Any:
    """A step, compiled once for each transformation."""
    updates, state = transformation.update(grads, state, params)
    return optax.apply_updates(params, updates), state


class Optax:
    """Parameters, their transformation and its state."""

    def __init__(self, transformation: Any, params: Any) -> None:
        self.transformation, self.params = transformation, jax.tree.map(jax.numpy.array, params)
        self.state = transformation.init(self.params)

    def step(self, grads: Any) -> None:
        self.params, self.state = update(self.transformation, self.params, self.state, grads)


def distance(a: Any, b: Any) -> float:
    """The largest difference in any array, relative to the largest element of that array."""
    return max(relative_difference(x, y) for x, y in zip(a, b, strict=True))


@long_run
@pairs
def test_500_steps_there_and_500_here_are_1000_in_either(
    cls: Any, options: dict[str, Any], transformation: Any
) -> None:
    start = draw(np.random.default_rng(0), np.float64)
    arrays = [array.copy() for array in start]
    ours, theirs = cls(arrays, **options), Optax(transformation, start)
    for step, grads in enumerate(gradients(np.float64, STEPS)):
        if step == STEPS // 2:
            moved_arrays = [np.array(param) for param in theirs.params]
            here = cls(moved_arrays, **options)
            here.load_state_dict(from_optax(theirs.state, here))
            there = Optax(transformation, arrays)
            there.state = to_optax(ours, there.state)
            assert jax.tree.structure(there.state) == jax.tree.structure(theirs.state)
            kinds = [[x.dtype for x in jax.tree.leaves(s.state)] for s in (there, theirs)]
            assert kinds[0] == kinds[1]
        for optimizer in (ours, *([here] if step >= STEPS // 2 else [])):
            optimizer.step(grads=grads)
        for run in (theirs, *([there] if step >= STEPS // 2 else [])):
            run.step(grads)
    for whole in (arrays, theirs.params):
        assert distance(moved_arrays, whole) <= 1e-12
        assert distance(there.params, whole) <= 1e-12
    for states in zip(*(jax.tree.leaves(run.state) for run in (theirs, there)), strict=True):
        assert relative_difference(*states) <= 1e-12


@pairs
def test_to_optax_and_back_is_the_identity(
    cls: Any, options: dict[str, Any], transformation: Any
) -> None:
    arrays = draw(np.random.default_rng(0), np.float64)
    ours = cls(arrays, **options)
    for grads in gradients(np.float64, 3):
        ours.step(grads=grads)
    before = copy.deepcopy(ours.state_dict())
    opt_state = to_optax(ours, transformation.init(arrays))
    back = from_optax(opt_state, ours)
    assert back["param_groups"] == before["param_groups"]
    for number, entry in before["state"].items():
        assert back["state"][number].keys() == entry.keys()
        for name, value in entry.items():
            own = back["state"][number][name]
            if name == "step":
                counted = any("count" in getattr(p, "_fields", ()) for p in parts(opt_state))
                assert own == (value if counted else 0)
            elif cls is optim.RMSprop and name == "momentum_buffer":  # divided by the rate
                np.testing.assert_allclose(own, value, rtol=1e-15)
            else:
                assert (own.dtype, own.tobytes()) == (value.dtype, value.tobytes())
                assert not np.shares_memory(own, ours.state_dict()["state"][number][name])


def parts(opt_state: Any) -> Iterator[Any]:
    if hasattr(opt_state, "_fields"):
        yield opt_state
    else:
        for part in opt_state.values() if isinstance(opt_state, dict) else opt_state:
            yield from parts(part)


def test_groups_are_copied() -> None:
    ours = optim.Adam([np.ones(2)], betas=[0.9, 0.99])  # type: ignore[arg-type]
    converted = from_optax(optax.adam(0.1).init([np.ones(2)]), ours)
    converted["param_groups"][0]["betas"][0] = 0.5
    assert ours.param_groups[0]["betas"] == [0.9, 0.99]


# Names, order and shapes

NAMED = {"layer": {"weight": np.ones((2, 3)), "bias": np.zeros(3)}, "blocks": [np.full(3, 2.0)]}


def named(*order: str) -> tuple[optim.Adam, dict[str, np.ndarray]]:
    arrays = {
        "layer.weight": NAMED["layer"]["weight"].copy(),
        "layer.bias": NAMED["layer"]["bias"].copy(),
        "blocks.0": NAMED["blocks"][0].copy(),
    }
    arrays = {name: arrays[name] for name in order or arrays}
    return optim.Adam(arrays.items(), lr=0.1), arrays


@pytest.mark.parametrize(
    "order",
    [("layer.weight", "blocks.0", "layer.bias"), ("layer.bias", "layer.weight", "blocks.0")],
)
def test_parameters_are_matched_by_name(order: tuple[str, ...]) -> None:
    ours, arrays = named(*order)
    grads = jax.tree.map(lambda array: array + 1, NAMED)
    theirs = Optax(optax.adam(0.1), NAMED)
    theirs.step(grads)
    ours.load_state_dict(from_optax(theirs.state, ours))
    mu = theirs.state[0].mu
    moments = dict(zip(order, (state["exp_avg"] for state in ours.state.values())))
    assert (moments["layer.bias"] == mu["layer"]["bias"]).all()
    assert (moments["blocks.0"] == mu["blocks"][0]).all()
    assert (moments["layer.weight"] == mu["layer"]["weight"]).all()
    back = to_optax(ours, optax.adam(0.1).init(NAMED))
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(theirs.state), strict=True):
        assert (one == other).all()
    assert set(arrays) == set(order)


def test_names_that_differ_are_an_error() -> None:
    ours, _ = named()
    other = {"layer": {"weight": np.ones((2, 3)), "offset": np.zeros(3)}, "blocks": [np.ones(3)]}
    for function in (
        lambda: from_optax(optax.adam(0.1).init(other), ours),
        lambda: to_optax(ours, optax.adam(0.1).init(other)),
    ):
        with pytest.raises(ValueError, match=r"expected the names \['blocks.0', 'layer.bias', .*"):
            function()


def test_without_names_the_order_is_that_of_the_tree() -> None:
    ours = optim.SGD([np.ones(2), np.ones(3)], lr=0.1, momentum=0.5)
    tree = {"b": np.ones(3), "a": np.ones(2)}  # a comes first in a tree
    transformation = optax.sgd(0.1, momentum=0.5)
    ours.step(grads=[np.full(2, 2.0), np.full(3, 3.0)])
    (trace, _) = to_optax(ours, transformation.init(tree))
    assert trace.trace["a"].tolist() == [2.0, 2.0]
    assert trace.trace["b"].tolist() == [3.0, 3.0, 3.0]
    # names of ours do not count where a list has none
    (trace, _) = to_optax(
        optim.SGD([("z", np.ones(2)), ("y", np.ones(3))], momentum=0.5),
        transformation.init([np.ones(2), np.ones(3)]),
    )
    assert [leaf.shape for leaf in trace.trace] == [(2,), (3,)]


def test_shapes_and_counts_that_differ_are_an_error() -> None:
    ours = optim.Adam([np.ones(2), np.ones(3)])
    with pytest.raises(ValueError, match=r"mu: expected shape \(2,\) for parameter 0, but got"):
        from_optax(optax.adam(0.1).init([np.ones(3), np.ones(2)]), ours)
    with pytest.raises(ValueError, match=r"mu: expected 2 arrays, one a parameter, but got 1"):
        to_optax(ours, optax.adam(0.1).init([np.ones(2)]))


# Groups, dtypes, parameters without state


def test_groups_have_their_own_rates() -> None:
    """RMSprop of optax multiplies by the rate first: one that is another in each group here."""
    params = [np.ones(2), np.ones(2)]
    groups = [{"params": params[:1], "lr": 0.5}, {"params": params[1:], "lr": 0.25}]
    ours = optim.RMSprop(groups, momentum=0.5)
    ours.step(grads=[np.ones(2), np.ones(2)])
    like = optax.rmsprop(0.5, momentum=0.5, eps_in_sqrt=False).init(params)
    first, second = to_optax(ours, like)[2].trace
    assert (first == 2 * second).all()
    assert (np.asarray(first) == -0.5 * ours.state[ours.param_groups[0]["params"][0]]
            ["momentum_buffer"]).all()  # fmt: skip
    ours.param_groups[0]["lr"] = 0.0
    with pytest.raises(ValueError, match="cannot be converted where that is 0"):
        to_optax(ours, like)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_dtypes(dtype: str) -> None:
    theirs = Optax(optax.adam(0.1), [jax.numpy.ones(2, dtype)])
    theirs.step([jax.numpy.full(2, 0.5, dtype)])
    ours = optim.Adam([np.asarray(param).copy() for param in theirs.params])
    converted = from_optax(theirs.state, ours)
    assert converted["state"][0]["exp_avg"].dtype.name == dtype
    ours.load_state_dict(converted)
    (mu,) = to_optax(ours, theirs.state)[0].mu
    assert mu.dtype.name == dtype
    assert (mu == theirs.state[0].mu[0]).all()


def test_a_complex_trace() -> None:
    array = np.ones(2, complex)
    ours = optim.SGD([array], momentum=0.5)
    ours.step(grads=[np.full(2, 1 + 2j)])
    (trace, _) = to_optax(ours, optax.sgd(0.1, momentum=0.5).init([array]))
    assert trace.trace[0].tolist() == [1 + 2j, 1 + 2j]
    with pytest.raises(ValueError, match="complex parameters cannot be converted"):
        to_optax(optim.Adam([array]), optax.adam(0.1).init([array]))


def test_parameters_that_have_never_been_trained() -> None:
    params = [np.ones(2), np.ones(3)]
    adagrad = optim.Adagrad(params, initial_accumulator_value=0.5)
    adagrad.step(grads=[np.ones(2), None])
    (state, _) = to_optax(adagrad, optax.adagrad(0.1, 0.0).init(params))
    assert [leaf.tolist() for leaf in state.sum_of_squares] == [[1.5, 1.5], [0.5, 0.5, 0.5]]
    adam = optim.Adam(params)
    assert int(to_optax(adam, optax.adam(0.1).init(params))[0].count) == 0
    adam.step(grads=[np.ones(2), None])
    with pytest.raises(ValueError, match=r"but here they have taken \[0, 1\]"):
        to_optax(adam, optax.adam(0.1).init(params))


# Schedules


def test_a_schedule_is_counted() -> None:
    params = [np.ones(2)]
    scheduled = optax.adam(optax.cosine_decay_schedule(0.1, 100))
    ours = optim.Adam(params)
    for _ in range(3):
        ours.step(grads=[np.ones(2)])
    opt_state = to_optax(ours, scheduled.init(params))
    assert [int(part.count) for part in opt_state] == [3, 3]
    assert from_optax(opt_state, ours)["state"][0]["step"] == 3
    counted = optax.rmsprop(optax.cosine_decay_schedule(0.1, 100))
    rmsprop = optim.RMSprop(params)
    rmsprop.load_state_dict(from_optax(counted.init(params)[:1] + opt_state[1:], rmsprop))
    assert [state["step"] for state in rmsprop.state.values()] == [3]
    sgd = optim.SGD(params)
    with pytest.raises(ValueError, match="SGD does not count its steps here, but the state of op"):
        to_optax(sgd, optax.sgd(optax.cosine_decay_schedule(0.1, 100)).init(params))
    momentum = optax.rmsprop(optax.cosine_decay_schedule(0.1, 100), momentum=0.5)
    with pytest.raises(ValueError, match="cannot be converted where that is scheduled"):
        from_optax(momentum.init(params), optim.RMSprop(params, momentum=0.5))


# What cannot be converted

P = [np.ones(2)]
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "NAdam": (optim.NAdam(P), optax.nadam(0.1), "optax has no NAdam that computes the same; .*Ad"),
    "Rprop": (optim.Rprop(P), optax.rprop(0.1), "optax has no Rprop that computes the same"),
    "LBFGS": (optim.LBFGS(P), optax.lbfgs(0.1), "optax has no LBFGS that computes the same"),
    "ASGD": (optim.ASGD(P), optax.sgd(0.1), "optax has no ASGD that computes the same"),
    "AMSGrad": (optim.Adam(P, amsgrad=True), optax.amsgrad(0.1), "no Adam with amsgrad .*True"),
    "dampening": (
        optim.SGD(P, momentum=0.5, dampening=0.5),
        optax.sgd(0.1, momentum=0.5),
        "no SGD with dampening .*dampening=0.5",
    ),
    "lr_decay": (optim.Adagrad(P, lr_decay=0.5), optax.adagrad(0.1), "no Adagrad with lr_decay"),
    "injected": (
        optim.Adam(P),
        optax.inject_hyperparams(optax.adam)(0.1),
        "Adam: expected a chain of .*but got InjectStatefulHyperparamsState",
    ),
    "masked": (optim.Adam(P), optax.masked(optax.adam(0.1), [True]), "but got MaskedState"),
    "partitioned": (
        optim.Adam(P),
        optax.multi_transform({"x": optax.adam(0.1)}, ["x"]),
        "but got PartitionState",
    ),
    "twice": (
        optim.Adam(P),
        optax.chain(optax.adam(0.1), optax.adam(0.1)),
        "each at most once.* but got ScaleByAdamState",
    ),
    "another": (optim.Adam(P), optax.adagrad(0.1), "but got ScaleByRssState"),
    "bias correction": (
        optim.RMSprop(P),
        optax.rmsprop(0.1, bias_correction=True),
        "but got ScaleByRmsWithCountState",
    ),
    "centered": (
        optim.RMSprop(P, centered=True),
        optax.rmsprop(0.1),
        r"parts that hold \['grad_avg', 'square_avg'\], but .* \['ScaleByRmsState'\]",
    ),
    "no momentum": (
        optim.SGD(P),
        optax.sgd(0.1, momentum=0.5),
        r"parts that hold \[\], but .*\['momentum_buffer'\]; are the options the same",
    ),
}


@pytest.mark.parametrize(("ours", "transformation", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_converted_is_an_error(ours: Any, transformation: Any, message: str) -> None:
    opt_state = transformation.init([np.ones(2)])
    for function in (lambda: from_optax(opt_state, ours), lambda: to_optax(ours, opt_state)):
        with pytest.raises(ValueError, match=message):
            function()


def test_what_is_no_state_or_no_optimizer_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a state of optax, but got int"):
        from_optax(3, optim.Adam(P))
    with pytest.raises(TypeError, match="expected an optimizer of arrayopt, but got int"):
        to_optax(3, optax.adam(0.1).init(P))  # type: ignore[arg-type]


def test_without_jax_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    opt_state = optax.adam(0.1).init(P)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"from_optax needs jax: pip install 'arrayopt\[optax\]'"):
        from_optax(opt_state, optim.Adam(P))
    with pytest.raises(ImportError, match=r"to_optax needs jax: pip install 'arrayopt\[optax\]'"):
        to_optax(optim.Adam(P), opt_state)
