"""The functional form: pure, on trees, in every library, compiled by jax and differentiated."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, NamedTuple

import array_api_strict as strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from arrays import relative_difference
from hypothesis import given, settings
from hypothesis import strategies as st
from numerical import differences
from specs import CASES, ELEMENTWISE, Spec, case_id
from stepping import long_run

import arrayopt as optim
from arrayopt.nested import flatten, rebuild

cases = pytest.mark.parametrize(("spec", "options"), CASES, ids=case_id)
Tree = Any
SHAPES = [(3, 2), (), (4,), (0,)]

#: Options under which all algorithms are differentiated; each takes every branch within 9 steps.
DIFFERENTIATED: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1}),
    ("Adadelta", {}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("Adamax", {}),
    ("ASGD", {"t0": 3.0}),
    ("NAdam", {}),
    ("RAdam", {}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-3}),
    ("Rprop", {}),
]
differentiated = pytest.mark.parametrize(("name", "options"), DIFFERENTIATED, ids=case_id)


def draw(rng: np.random.Generator, dtype: Any = np.float64) -> Tree:
    a, b, c, d = (
        np.asarray(
            rng.standard_normal(s)
            + (1j * rng.standard_normal(s) if np.dtype(dtype).kind == "c" else 0)
        )
        for s in SHAPES
    )
    tree = {"layers": [{"w": a, "b": b}, (c,)], "empty": d}
    return rebuild(tree, [leaf.astype(dtype) for leaf in leaves(tree)])


def leaves(tree: Tree) -> list[Any]:
    return [leaf for _, leaf in flatten(tree, "")]


def mapped(function: Callable[[Any], Any], tree: Tree) -> Tree:
    return rebuild(tree, map(function, leaves(tree)))


def trees(count: int, dtype: Any = np.float64) -> list[Tree]:
    rng = np.random.default_rng(1)
    return [draw(rng, dtype) for _ in range(count)]


def run(form: optim.Functional, params: Tree, grads: list[Tree]) -> tuple[Tree, Any]:
    state = form.init(params)
    for grad in grads:
        params, state = form.update(params, grad, state)
    return params, state


def assert_bits(a: Any, b: Any) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


# The same rules


@cases
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, complex], ids=case_id)
def test_it_gives_the_bits_of_the_optimizer(
    spec: Spec, options: dict[str, Any], dtype: Any
) -> None:
    start, *grads = trees(13, dtype)
    params, state = run(optim.functional(spec.cls, **options), start, grads)
    arrays = [leaf.copy() for leaf in leaves(start)]
    optimizer = spec.cls(arrays, foreach=False, **options)
    for grad in grads:
        optimizer.step(grads=leaves(grad))
    for ours, array in zip(leaves(params), arrays, strict=True):
        assert_bits(ours, array)
    for index, own in enumerate(optimizer.state_dict()["state"].values()):
        for name, value in own.items():
            entry = leaves(state[name])[index]
            if name in spec.scalars:
                assert entry == value
            else:
                assert_bits(entry, value)


@cases
@pytest.mark.parametrize("library", ["torch", "strict"])
def test_other_libraries(spec: Spec, options: dict[str, Any], library: str) -> None:
    convert = torch.tensor if library == "torch" else strict.asarray
    start, *grads = trees(13)
    form = optim.functional(spec.cls, **options)
    params, _ = run(form, start, grads)
    others, _ = run(form, mapped(convert, start), [mapped(convert, grad) for grad in grads])
    for a, b in zip(leaves(others), leaves(params), strict=True):
        assert type(a) is type(convert(b))
        assert relative_difference(a, b) <= 1e-14


def test_libraries_may_be_mixed_in_a_tree() -> None:
    init, update = optim.functional(optim.Adam, lr=0.5)
    params = {"numpy": np.ones(2), "torch": torch.ones(2), "jax": jnp.ones(2)}
    params, _ = update(params, params, init(params))
    assert [type(leaf).__module__.partition(".")[0] for leaf in leaves(params)] == [
        "numpy", "torch", "jaxlib"
    ]  # fmt: skip
    # (the first step of Adam is lr * sign(grad), but for eps)
    assert all(np.allclose(np.asarray(leaf), 0.5, rtol=1e-6) for leaf in leaves(params))


def test_an_optimizer_of_ones_own() -> None:
    class Lion(optim.Optimizer):
        state_table = (optim.StateSlot("exp_avg"),)

        def __init__(self, params: Any, lr: float = 0.25) -> None:
            super().__init__(params, {"lr": lr})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            update = xp.sign(0.9 * state["exp_avg"] + 0.1 * grad)
            return param - group["lr"] * update, {"exp_avg": grad}

    params, state = run(optim.functional(Lion), np.array([1.0, -1.0]), [np.array([1.0, -1.0])])
    assert params.tolist() == [0.75, -0.75]
    assert state["exp_avg"].tolist() == [1.0, -1.0]


def test_a_rule_that_returns_another_shape_is_told() -> None:
    class Sum(optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return xp.sum(param), {}

    with pytest.raises(ValueError, match=r"returned shape \(\) for a parameter of shape \(2,\)"):
        optim.functional(Sum).update(np.ones(2), np.ones(2), {})


# Pure


@cases
def test_nothing_that_is_passed_in_is_changed_or_shared(
    spec: Spec, options: dict[str, Any]
) -> None:
    start, first, second = trees(3)
    init, update = optim.functional(spec.cls, **options)
    state = init(start)
    before = copy.deepcopy((start, first, state))
    params, new_state = update(start, first, state)
    given = [*leaves(start), *leaves(first), *leaves(state)]
    for made in (*leaves(params), *leaves(new_state)):
        if isinstance(made, np.ndarray):
            assert not any(
                np.shares_memory(made, old) for old in given if isinstance(old, np.ndarray)
            )
    for old, now in zip(leaves(list(before)), given, strict=True):
        assert_bits(old, now)
    kept = copy.deepcopy((params, new_state))
    again = update(*copy.deepcopy((start, first, state)))
    update(params, second, new_state)
    for a, b, c in zip(leaves(kept), leaves((params, new_state)), leaves(again), strict=True):
        assert_bits(a, b)
        assert_bits(a, c)


def test_read_only_arrays_will_do() -> None:
    init, update = optim.functional(optim.SGD, lr=0.5, momentum=0.9)
    params, grads = np.ones(3), np.broadcast_to(2.0, (3,))
    params.flags.writeable = False
    stepped, _ = update(params, grads, init(params))
    assert stepped.tolist() == [0.0, 0.0, 0.0]


def test_a_leaf_without_gradient_is_passed_over() -> None:
    init, update = optim.functional(optim.Adam, lr=0.5)
    params = {"frozen": [np.ones(2), np.ones(1)], "w": np.ones(2)}
    state = init(params)
    params, state = update(params, {"frozen": None, "w": np.ones(2)}, state)
    assert [*map(np.ndarray.tolist, params["frozen"])] == [[1.0, 1.0], [1.0]]
    assert params["w"] == pytest.approx([0.5, 0.5])
    assert state["step"] == {"frozen": [0, 0], "w": 1}


# Trees


class Layer(NamedTuple):
    weight: Any
    bias: Any = None


containers = st.recursive(
    st.integers(0, 3).map(lambda size: np.linspace(1, 2, size)),
    lambda children: (
        st.dictionaries(st.text(max_size=3) | st.integers(), children, max_size=3)
        | st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.builds(Layer, children, st.none() | children)
        | st.dictionaries(st.text(max_size=2), children, max_size=2).map(OrderedDict)
    ),
    max_leaves=8,
)


def shape_of(tree: Any) -> Any:
    """The types of the containers, and their keys."""
    if isinstance(tree, dict):
        return type(tree), [(key, shape_of(value)) for key, value in tree.items()]
    if isinstance(tree, list | tuple):
        return type(tree), [*map(shape_of, tree)]
    return type(tree)


@given(containers)
@settings(max_examples=60, deadline=None)
def test_any_nesting_keeps_its_shape(params: Tree) -> None:
    init, update = optim.functional(optim.SGD, lr=0.5, momentum=0.9)
    stepped, state = update(params, params, init(params))
    assert shape_of(stepped) == shape_of(params)
    assert shape_of(state["momentum_buffer"]) == shape_of(params)
    for new, old in zip(leaves(stepped), leaves(params), strict=True):
        assert_bits(new, old - 0.5 * old)


def test_a_mapping_that_is_no_dict_is_made_anew() -> None:
    params = MappingProxyType({"w": np.ones(1)})
    init, update = optim.functional(optim.SGD, lr=0.5)
    stepped, _ = update(params, {"w": np.ones(1)}, init(params))
    assert type(stepped) is MappingProxyType
    assert stepped["w"].tolist() == [0.5]


def test_a_defaultdict_keeps_its_factory() -> None:
    params = defaultdict(list, {"w": np.ones(1)})
    init, update = optim.functional(optim.SGD)
    stepped, _ = update(params, params, init(params))
    assert stepped["other"] == []


PARAMS = {"layers": [{"w": np.ones((2, 3))}, Layer(np.ones(2))]}

WRONG_PARAMS = [
    ({"layers": [{"w": 1.0}]}, TypeError, r"params\['layers'\]\[0\]\['w'\]: .* got float"),
    ({"n": np.arange(3)}, RuntimeError, r"params\['n'\]: expected real or complex .* int64"),
    ([np.ma.masked_array([1.0])], TypeError, r"params\[0\]: masked arrays are not supported"),
    ([torch.eye(2).to_sparse()], TypeError, r"params\[0\]: expected a dense array"),
    (Layer([None, "w"]), TypeError, r"params\.weight\[1\]: expected an array .* got str"),
]


@pytest.mark.parametrize(("params", "error", "message"), WRONG_PARAMS)
def test_what_cannot_be_optimized_is_named(params: Tree, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        optim.functional(optim.Adam).init(params)


def replaced(index: int, value: Any) -> Tree:
    found = leaves(PARAMS)
    found[index] = value
    return rebuild(PARAMS, found)


WRONG_GRADS = [
    (replaced(0, np.ones(3)), RuntimeError, r"\[0\]\['w'\]: expected a gradient of shape \(2, 3\)"),
    (
        replaced(1, np.ones(2, complex)),
        RuntimeError,
        r"\[1\]\.weight: .* complex128 cannot be cast",
    ),
    (replaced(1, torch.ones(2)), TypeError, r"\[1\]\.weight: expected a gradient of numpy"),
    (replaced(1, "g"), TypeError, r"\[1\]\.weight: expected a gradient of numpy, but got a str"),
    (replaced(1, optim.SparseGrad([0], np.ones(1), (2,))), TypeError, r"weight: expected a dense"),
    ({"layers": [{"w": np.ones((2, 3))}]}, ValueError, r"grads\['layers'\]: expected 2 entries"),
    ({"layer": None}, ValueError, r"grads: expected the keys \['layers'\], .* got \['layer'\]"),
    ([None], TypeError, "grads: expected a dict, as params is, but got a list"),
    (np.ones(2), TypeError, "grads: expected a dict, as params is, but got a ndarray"),
    (replaced(0, [np.ones(3)]), TypeError, r"grads.*\['w'\]: expected no container, as params"),
]


@pytest.mark.parametrize(("grads", "error", "message"), WRONG_GRADS)
def test_gradients_that_do_not_fit_are_named(grads: Tree, error: Any, message: str) -> None:
    init, update = optim.functional(optim.Adam)
    with pytest.raises(error, match=message):
        update(PARAMS, grads, init(PARAMS))


def test_a_gradient_where_there_is_no_parameter() -> None:
    init, update = optim.functional(optim.SGD)
    params = {"w": np.ones(1), "b": None}
    with pytest.raises(TypeError, match=r"grads\['b'\]: expected None, as params\['b'\] is"):
        update(params, {"w": np.ones(1), "b": np.ones(1)}, init(params))


WRONG_STATES = [
    (lambda s: {"step": s["step"]}, ValueError, r"expected a dict of .*'exp_avg'.* got \['step'\]"),
    (lambda s: None, ValueError, "state: expected a dict .* got NoneType"),
    (lambda s: {**s, "step": [0, -1]}, ValueError, r"params\[1\]: state 'step' counts steps"),
    (lambda s: {**s, "step": [0, jnp.ones(2)]}, ValueError, r"\[1\]: expected a number as state"),
    (lambda s: {**s, "exp_avg": [np.ones(2), 1.0]}, TypeError, r"\[1\]: expected a dense array as"),
    (lambda s: {**s, "exp_avg": [np.ones(2)] * 2}, ValueError, r"\[1\]: .* of shape \(3,\)"),
    (
        lambda s: {**s, "exp_avg": [jnp.ones(2), np.ones(3)]},
        TypeError,
        r"params\[0\]: expected state 'exp_avg' of numpy, but got one of jax",
    ),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG_STATES)
def test_a_state_that_does_not_fit_is_named(change: Any, error: Any, message: str) -> None:
    init, update = optim.functional(optim.Adam)
    params = [np.ones(2), np.ones(3)]
    with pytest.raises(error, match=message):
        update(params, params, change(init(params)))


# Options


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
def test_options_are_checked_as_by_the_class(spec: Spec) -> None:
    init, update = optim.functional(spec.cls)
    params = np.ones(2)
    for options, error, message in spec.errors:
        with pytest.raises(error, match=message):
            optim.functional(spec.cls, **options)
        with pytest.raises(error, match=message):
            update(params, params, init(params), **options)


WRONG = [
    (lambda: optim.functional(optim.LBFGS), TypeError, "LBFGS has a step of its own"),
    (lambda: optim.functional(optim.SparseAdam), TypeError, "SparseAdam takes sparse gradients"),
    (lambda: optim.functional("Adam"), TypeError, "expected an optimizer class, .* of type str"),
    (lambda: optim.functional(optim.Adam, fused=True), ValueError, "fused=True: the functional"),
    (lambda: optim.functional(optim.Adam, foo=1), TypeError, "unexpected keyword argument 'foo'"),
    (lambda: jax.jit(lambda x: optim.functional(optim.SGD, foo=x))(1.0), TypeError, r"\['foo'\]"),
    (lambda: optim.functional(optim.Adam, lr=jnp.ones(2)), ValueError, r"lr: .* got shape \(2,\)"),
]


@pytest.mark.parametrize(("build", "error", "message"), WRONG)
def test_what_has_no_functional_form(build: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("name", ["foo", "foreach", "decoupled_weight_decay"])
def test_update_refuses_options_that_are_none(name: str) -> None:
    init, update = optim.functional(optim.AdamW)
    with pytest.raises(TypeError, match=rf"unexpected options \['{name}'\]; those of AdamW are"):
        update(np.ones(1), np.ones(1), init(np.ones(1)), **{name: True})


def test_state_that_init_has_not_made_is_missed() -> None:
    init, update = optim.functional(optim.SGD)
    with pytest.raises(ValueError, match=r"momentum=0.9 needs the state 'momentum_buffer'"):
        update(np.ones(1), np.ones(1), init(np.ones(1)), momentum=0.9)


def test_a_number_of_another_library_is_named() -> None:
    form = optim.functional(optim.Adam, lr=torch.tensor(0.1))
    with pytest.raises(TypeError, match=r"params: expected an array of torch, as lr is, but got"):
        form.init(np.ones(1))


def test_options_stand_in_for_one_step() -> None:
    scheduler = optim.lr_scheduler.CosineWarmupLR(optim.SGD([np.ones(1)], lr=0.1), 2, 10)
    form = optim.functional(optim.AdamW)
    params, state = np.ones(3), form.init(np.ones(3))
    array = np.ones(3)
    optimizer = optim.AdamW([array], foreach=False)
    for t in range(8):
        lr = scheduler.lr_at(t)[0]
        params, state = form.update(params, np.cos(params), state, lr=lr)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step(grads=[np.cos(array)])
    assert_bits(params, array)


# jax


@long_run
@pytest.mark.usefixtures("jax_in_double_precision")
@cases
def test_a_jitted_scan_agrees_with_numpy_to_1e_12(spec: Spec, options: dict[str, Any]) -> None:
    start, *grads = trees(121)
    form = optim.functional(spec.cls, **options)
    params, state = run(form, start, grads)

    @jax.jit
    def train(params: Tree, grads: Tree) -> Any:
        def body(carry: Any, grad: Tree) -> tuple[Any, None]:
            return form.update(carry[0], grad, carry[1]), None

        return jax.lax.scan(body, (params, form.init(params)), grads)[0]

    traced = train(mapped(jnp.asarray, start), jax.tree.map(lambda *each: jnp.stack(each), *grads))
    kept = jax.tree.leaves((params, state))
    for a, b in zip(jax.tree.leaves(traced), kept, strict=True):
        assert relative_difference(a, b) <= 1e-12


def kind_of(state: Any) -> Any:
    """The structure and the dtypes: what jax compiles anew for, if it changes."""
    return jax.tree.structure(state), [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("spec", ELEMENTWISE, ids=case_id)
def test_jit_in_single_precision(spec: Spec) -> None:
    init, update = optim.functional(spec.cls, lr=0.01)
    start = np.linspace(1, 2, 5, dtype=np.float32)
    ours, state = jnp.asarray(start), init(jnp.asarray(start))
    exact, exact_state = start.astype(np.float64), init(start.astype(np.float64))
    step = jax.jit(update)
    kind = kind_of(state)
    for _ in range(20):
        ours, state = step(ours, ours, state)
        exact, exact_state = update(exact, exact, exact_state)
        assert kind_of(state) == kind
    assert ours.dtype == jnp.float32
    # 1 - beta2**step loses three digits to float32 at first: 6e-8 / 1e-3
    assert relative_difference(ours, exact) <= 1e-5


def test_bfloat16_computes_in_float32_and_rounds_once() -> None:
    init, update = optim.functional(optim.SGD, lr=0.1, weight_decay=0.01)
    start = jnp.linspace(-2, 2, 41, dtype=jnp.bfloat16)
    ours, _ = jax.jit(update)(start, start, init(start))
    once = np.asarray(start, np.float32)
    once = (once - 0.1 * (once + 0.01 * once)).astype(jnp.bfloat16)
    assert ours.dtype == jnp.bfloat16
    assert (np.asarray(ours) == once).all()


def test_vmap_trains_many_models() -> None:
    init, update = optim.functional(optim.RAdam, betas=(0.8, 0.9))
    many = jnp.linspace(1, 2, 6).reshape(3, 2)
    params, state = many, jax.vmap(init)(many)
    alone = [(row, init(row)) for row in np.asarray(many)]
    for _ in range(8):
        params, state = jax.vmap(update)(params, params, state)
        alone = [update(row, row, own) for row, own in alone]
    assert state["step"].tolist() == [8, 8, 8]
    assert relative_difference(params, [row for row, _ in alone]) <= 1e-5


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.0}, {"weight_decay": 0.5, "maximize": True}, {"lr": 0.25}],
    ids=case_id,
)
def test_options_may_be_traced(options: dict[str, Any]) -> None:
    """The rule branches on each of them: both ways are gone."""
    init, update = optim.functional(optim.SGD, momentum=0.9)

    def train(step: Any, params: Any) -> list[Any]:
        state = init(params)
        for _ in range(3):
            params, state = step(params, params, state, **options)
        return [params, state["momentum_buffer"]]

    traced = train(jax.jit(update), jnp.asarray([1.0, 2.0]))
    known = train(update, np.float32([1.0, 2.0]))
    for a, b in zip(traced, known, strict=True):
        assert relative_difference(a, b) <= 1e-6


def test_too_many_branches_are_refused() -> None:
    class Undecided(optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.1) -> None:
            super().__init__(params, {"lr": lr})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            lr = group["lr"]
            while lr < 1:
                lr = 2 * lr
            return param - lr * grad, {}

    update = optim.functional(Undecided).update
    with pytest.raises(optim.TraceError, match="branches more than 6 times"):
        jax.jit(lambda lr: update(jnp.ones(1), jnp.ones(1), {}, lr=lr))(0.1)
    assert update(np.ones(1), np.ones(1), {}, lr=0.25)[0].tolist() == [0.0]


def test_arithmetic_on_numbers_that_are_not_known() -> None:
    class Odd(optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.5) -> None:
            super().__init__(params, {"lr": lr})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            lr = +group["lr"]
            rate = abs(-lr) * (lr // 0.2) % 0.7 + 2**lr if lr >= 0.5 else 1 / lr - 1
            rate = rate if lr != 0.75 and not lr > 3 else 0.0
            capped = xp.minimum(xp.astype(grad, xp.float32), 2 * rate)
            return param - capped * lr, {}

    update = optim.functional(Odd).update
    step = jax.jit(lambda lr: update(jnp.ones(2), jnp.asarray([1.0, 9.0]), {}, lr=lr)[0])
    for lr in (0.25, 0.5, 0.75, 2.0, 4.0):
        known = update(np.ones(2, np.float32), np.float32([1, 9]), {}, lr=lr)[0]
        np.testing.assert_allclose(step(lr), known, rtol=1e-6)


def test_a_rule_that_takes_numbers_out_is_told() -> None:
    class Root(optim.Optimizer):
        def __init__(self, params: Any, lr: float = 0.25) -> None:
            super().__init__(params, {"lr": lr})

        def rule(self, xp: Any, param: Any, grad: Any, state: Any, group: Any) -> Any:
            return param - float(group["lr"]) * grad, {}

    update = optim.functional(Root).update
    assert update(np.ones(1), np.ones(1), {})[0].tolist() == [0.75]
    with pytest.raises(optim.TraceError, match=r"took a number out of an array"):
        jax.jit(lambda lr: update(jnp.ones(1), jnp.ones(1), {}, lr=lr))(0.1)


# Derivatives

CURVATURE = np.array([[2.0, 0.3], [0.3, 1.0]])


def loss_after(name: str, options: dict[str, Any], steps: int, xp: Any, lr: Any, start: Any) -> Any:
    """The value of a quadratic after some steps from `start`."""
    init, update = optim.functional(getattr(optim, name), lr=lr, **options)
    matrix = xp.asarray(CURVATURE)
    params, state = start, init(start)
    for _ in range(steps):
        params, state = update(params, matrix @ params, state)
    return 0.5 * params @ (matrix @ params)


def scanned(name: str, options: dict[str, Any], steps: int, lr: Any, start: Any) -> Any:
    init, update = optim.functional(getattr(optim, name), lr=lr, **options)
    matrix = jnp.asarray(CURVATURE)

    def body(carry: Any, _: None) -> tuple[Any, None]:
        return update(carry[0], matrix @ carry[0], carry[1]), None

    (params, _), _ = jax.lax.scan(body, (start, init(start)), None, length=steps)
    return 0.5 * params @ (matrix @ params)


START = np.array([1.1, -2.3])
LR = 0.05


@long_run
@pytest.mark.usefixtures("jax_in_double_precision")
@differentiated
@pytest.mark.parametrize("steps", [1, 3, 9])
def test_hypergradients(name: str, options: dict[str, Any], steps: int) -> None:
    at = [np.array(LR), START.copy()]
    by_differences = np.append(
        *differences(lambda: loss_after(name, options, steps, np, float(at[0]), at[1]), at)
    )
    lr = torch.tensor(LR, dtype=torch.float64, requires_grad=True)
    start = torch.tensor(START, requires_grad=True)
    loss_after(name, options, steps, torch, lr, start).backward()
    by_torch = np.array([lr.grad, *start.grad])
    np.testing.assert_allclose(by_torch, by_differences, rtol=1e-6, atol=1e-8)
    for function in (
        lambda *each: loss_after(name, options, steps, jnp, *each),
        jax.jit(lambda *each: scanned(name, options, steps, *each)),
    ):
        found = jax.grad(function, argnums=(0, 1))(LR, jnp.asarray(START))
        np.testing.assert_allclose([found[0], *found[1]], by_torch, rtol=1e-10, atol=1e-13)


@long_run
@differentiated
def test_torch_gradcheck(name: str, options: dict[str, Any]) -> None:
    lr = torch.tensor(LR, dtype=torch.float64, requires_grad=True)
    start = torch.tensor(START, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda lr, start: loss_after(name, options, 3, torch, lr, start), (lr, start)
    )


def test_torch_keeps_the_graph_of_a_parameter_of_the_gradients() -> None:
    init, update = optim.functional(optim.Adam, lr=0.1, eps=1e-3)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def loss(scale: Any) -> Any:
        params = torch.tensor([1.0, -2.0], dtype=torch.float64)
        state = init(params)
        for _ in range(5):
            params, state = update(params, params * scale + 0.1, state)
        return params.square().sum()

    assert torch.autograd.gradcheck(loss, (scale,))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in jvp
def test_torch_func_transforms() -> None:
    def loss(lr: Any) -> Any:
        start = torch.tensor(START)
        return loss_after("RAdam", {"betas": (0.8, 0.9)}, 7, torch, lr, start)

    rates = torch.tensor([0.05, 0.01], dtype=torch.float64)
    expected = []
    for rate in rates:
        leaf = rate.clone().requires_grad_()
        loss(leaf).backward()
        expected.append(leaf.grad)
    found = torch.func.vmap(torch.func.grad(loss))(rates)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)
    forward = torch.func.jvp(loss, (rates[0],), (torch.ones_like(rates[0]),))[1]
    torch.testing.assert_close(forward, expected[0], rtol=1e-12, atol=0)


def test_torch_vmap_over_options_that_a_rule_branches_on() -> None:
    init, update = optim.functional(optim.SGD, lr=0.5)
    params = torch.ones(2)

    def step(weight_decay: Any) -> Any:
        return update(params, params, init(params), weight_decay=weight_decay)[0]

    decays = torch.tensor([0.0, 0.5])
    assert torch.func.vmap(step)(decays).tolist() == [[0.5, 0.5], [0.25, 0.25]]


@pytest.mark.usefixtures("jax_in_double_precision")
@pytest.mark.parametrize("name", ["RAdam", "ASGD"])
def test_the_branch_not_taken_leaves_no_nan(name: str) -> None:
    """RAdam's root of a negative number, and of the square of a gradient that is zero."""
    options = {"RAdam": {}, "ASGD": {"t0": 1.0}}[name]

    def loss(lr: Any, start: Any) -> Any:
        init, update = optim.functional(getattr(optim, name), lr=lr, **options)

        def body(carry: Any, _: None) -> tuple[Any, None]:
            return update(carry[0], carry[0] * jnp.asarray([1.0, 0.0]), carry[1]), None

        return jax.lax.scan(body, (start, init(start)), None, length=4)[0][0].sum()

    by_lr, by_start = jax.jit(jax.grad(loss, argnums=(0, 1)))(0.1, jnp.asarray(START))
    assert np.isfinite(by_lr)
    assert np.isfinite(by_start).all()
