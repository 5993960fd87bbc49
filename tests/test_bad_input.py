"""Bad input is an error that says what is wrong, and changes nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import array_api_strict
import numpy as np
import pytest
import scipy.sparse
import torch
from arrays import read_only, sparse_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import BY_NAME, NAN, SPECS, case_id
from stepping import bits, held, params_of, take

import arrayopt as optim
from arrayopt.options import Range


def everything(opt):
    """Parameters, state and gradients, to the bit."""
    return bits(opt), [held(param.grad) for param in params_of(opt)]


# Constructing


W, V = np.ones(2), np.ones(2)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "empty parameter list"),
        (iter(()), ValueError, "empty parameter list"),
        (None, TypeError, "'NoneType' object is not iterable"),
        (
            W,
            TypeError,
            r"iterable of arrays, .* but got numpy.ndarray; put a single array in a list",
        ),
        (torch.ones(2), TypeError, "but got torch.Tensor; put a single array in a list"),
        (
            {"w": W},
            TypeError,
            r"one of the params is str; of a dict of parameters, pass .items\(\)",
        ),
        ({"params": [W]}, TypeError, "one of the params is str; .* put a group in a list"),
        ([W, 1.0], TypeError, "one of the params is float"),
        ([W, [1.0]], TypeError, "one of the params is list"),
        ([W, {"params": [V]}], TypeError, "one of the params is dict"),
        ([np.float64(1)], TypeError, "one of the params is float64"),
        ([{"params": [W]}, W], TypeError, "param_group must be a dict, but got .*ndarray"),
        ([{"params": [W]}, {"lr": 1.0}], KeyError, "params"),
        ([{"params": {optim.Parameter(W)}}], TypeError, "sets will change .* use a list instead"),
        ([W, W], ValueError, "appear more than once in a parameter group"),
        ([{"params": [W]}, {"params": [V, W]}], ValueError, "in more than one parameter group"),
        ([("w", W), V], ValueError, "Some param names are missing"),
        ([(W, V)], TypeError, r"\(name, parameter\) are named by strings, .* is ndarray"),
        (
            [{"params": [W]}, {"params": [("v", V)]}],
            ValueError,
            "cannot add param group with names",
        ),
        ([{"params": [("w", W)]}, {"params": [V]}], ValueError, "add param group without names"),
        ([{"params": [W], "param_names": ["w", "v"]}], ValueError, "expected 1 param_names"),
        ([V, np.arange(3)], RuntimeError, "parameter 1: expected real or complex floating.* int64"),
        ([("w", np.array([True]))], RuntimeError, r"parameter 0 \('w'\): expected .* dtype bool"),
        ([V, read_only(np.ones(2))], ValueError, "parameter 1: expected an array .* is read-only"),
        ([optim.Parameter(np.ones(1, int), name="b")], RuntimeError, r"parameter 0 \('b'\)"),
        ([torch.ones(2, requires_grad=True) * 2], ValueError, "can't optimize a non-leaf Tensor"),
    ],
)
def test_params(params, error, message):
    with pytest.raises(error, match=message):
        optim.SGD(params)


def test_a_group_that_cannot_be_added_is_not_added():
    opt = optim.SGD([W])
    for group in ({"params": [W]}, {"params": [V, np.arange(2)]}, {"params": [V], "lr": -1}):
        with pytest.raises((ValueError, RuntimeError), match=r"more than|of group 1|in parameter"):
            opt.add_param_group(group)
    assert len(opt.param_groups) == 1


def test_an_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rate'"):
        optim.SGD([W], learning_rate=0.1)


# Options: in the constructor, in a group, and set on a group later


OPTIONS = [(spec.name, *row) for spec in SPECS for row in spec.errors]
OPTIONS += [  # what all algorithms have in common
    ("SGD", {"lr": np.array(-1.0)}, ValueError, "Invalid learning rate: -1.0"),
    ("SGD", {"lr": np.ones(2)}, ValueError, "Tensor lr must be 1-element"),
    ("SGD", {"lr": torch.ones(2)}, ValueError, "Tensor lr must be 1-element"),
    ("SGD", {"lr": "0.1"}, TypeError, "lr must be a number or a 0-d array, but got str: '0.1'"),
    ("SGD", {"lr": None}, TypeError, "lr must be a number or a 0-d array, but got NoneType"),
    ("SGD", {"lr": 1j}, TypeError, "lr must be a number or a 0-d array, but got complex"),
    ("Adam", {"fused": True, "foreach": True}, RuntimeError, "cannot be `True` together"),
    ("Adam", {"fused": True, "differentiable": True}, RuntimeError, "not support `differentiable`"),
]


@pytest.mark.parametrize("spec", SPECS, ids=case_id)
def test_every_interval_is_tried(spec):
    assert {interval.option for interval in spec.cls.ranges} <= {
        option for options, _, _ in spec.errors for option in options
    }


@pytest.mark.parametrize("spec", SPECS, ids=case_id)
def test_every_number_among_the_options_has_a_range(spec):
    defaults = spec.cls([np.ones((1, 1))]).defaults
    counts = spec.kind in ("closure", "matrix")  # LBFGS and Muon count
    kinds = (float, tuple) if counts else (float, tuple, int)
    numbers = {
        option
        for option, value in defaults.items()
        if isinstance(value, kinds) and not isinstance(value, bool)
    }
    assert numbers <= {interval.option for interval in spec.cls.ranges}


def step(opt):
    """A step with gradients of ones, in whatever way the algorithm takes them."""
    arrays = [p.data for group in opt.param_groups for p in group["params"]]
    grads = [np.ones_like(array) for array in arrays]
    if BY_NAME[type(opt).__name__].kind == "sparse":
        grads = [optim.SparseGrad([0, 1], grad, (2,)) for grad in grads]
    if BY_NAME[type(opt).__name__].kind == "closure":
        opt.step(lambda: (1.0, grads))
    else:
        opt.step(grads=grads)


def outside(interval: Range) -> Iterator[float]:
    """The numbers nearest to an interval that do not lie in it, and what lies in none."""
    yield NAN
    if interval.low > -math.inf:
        yield math.nextafter(interval.low, -math.inf) if interval.low_closed else interval.low
    if interval.high < math.inf:
        yield math.nextafter(interval.high, math.inf) if interval.closed else interval.high


def out_of_range() -> Iterator[tuple[str, dict[str, Any], type[Exception], str]]:
    """Each option with each number that is just out of its range."""
    pairs = ((spec, interval) for spec in SPECS for interval in spec.cls.ranges)
    for spec, interval in pairs:
        for number in outside(interval):
            if interval.length == 1:
                message = f"^Invalid {interval.label}: {re.escape(str(number))}"
                yield spec.name, {interval.option: number}, ValueError, message
                continue
            default = spec.cls([np.ones((1, 1))]).defaults[interval.option]
            for index in range(interval.length):
                values = (*default[:index], number, *default[index + 1 :])
                message = f"^Invalid {interval.label} at index {index}: {re.escape(str(number))}"
                yield spec.name, {interval.option: values}, ValueError, message


@pytest.mark.parametrize(
    ("name", "options", "error", "message"), [*OPTIONS, *out_of_range()], ids=case_id
)
def test_options(name, options, error, message):
    cls, fit = getattr(optim, name), BY_NAME[name].fit
    with pytest.raises(error, match=message):
        cls([fit(W)], **options)
    alone = BY_NAME[name].kind == "closure"  # it has one group
    if not alone:
        where = "" if options.keys() & {"foreach", "fused"} else ".* in parameter group 1"
        with pytest.raises(error, match=message + where):
            cls([{"params": [fit(W)]}, {"params": [fit(V)], **options}])

    opt = cls([{"params": [optim.Parameter(fit(np.ones(2)))]} for _ in range(1 if alone else 2)])
    step(opt)
    before = everything(opt)
    group = opt.param_groups[-1]
    good = {option: group[option] for option in options}
    group.update(options)
    with pytest.raises(error, match=message):
        step(opt)
    assert everything(opt) == before
    group.update(good)
    step(opt)
    assert everything(opt) != before


@pytest.mark.parametrize(
    "options",
    [
        {"lr": -0.1},
        {"momentum": -0.5},
        {"weight_decay": -1},
        {"nesterov": True},
        {"lr": torch.ones(2)},
        {"fused": True, "foreach": True},
        {"fused": True, "differentiable": True},
    ],
)
def test_torch_raises_the_same_type(options):
    with pytest.raises((ValueError, RuntimeError)) as torchs:
        torch.optim.SGD([torch.ones(2)], **options)
    with pytest.raises(torchs.type):
        optim.SGD([W], **options)


def test_fused_where_there_is_none():
    w = array_api_strict.ones(2)
    message = r"fused=True: .* array_api_strict .*for-loop\)"
    with pytest.raises(RuntimeError, match=message):
        optim.Adam([w], fused=True)
    opt = optim.Adam([w])
    opt.param_groups[0]["fused"] = True
    with pytest.raises(RuntimeError, match=message):
        opt.step(grads=[w])
    assert opt.state == {}


# The arguments of step


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grads": [W]}, ValueError, "expected 2 gradients, one a parameter, but got 1"),
        ({"grads": [W] * 3}, ValueError, "expected 2 gradients, one a parameter, but got 3"),
        ({"grads": W}, TypeError, "must be a sequence or a mapping of arrays, but got ndarray"),
        ({"grads": 1.0}, TypeError, "must be a sequence or a mapping of arrays, but got float"),
        ({"grads": {"x": W}}, ValueError, r"grads names \['x'\], .* are named \['w', 'v'\]"),
        ({"closure": W}, TypeError, r"closure must be a callable .* passed as step\(grads=...\)"),
        ({"closure": lambda: (1, 2, 3)}, TypeError, r"\(loss, grads\), but it returned 3 values"),
        ({"closure": lambda: 1, "grads": [W, V]}, TypeError, "either a closure or grads"),
        ({"closure": lambda: (1.0, [W])}, ValueError, "expected 2 gradients"),
    ],
)
def test_arguments_of_step(arguments, error, message):
    opt = optim.Adam([("w", np.ones(2)), ("v", np.ones(2))])
    opt.step(grads=[W, V])
    before = everything(opt)
    with pytest.raises(error, match=message):
        opt.step(**arguments)
    assert everything(opt) == before


def test_names_have_to_be_there_and_unique():
    with pytest.raises(ValueError, match="but the parameters have no names"):
        optim.SGD([np.ones(2)]).step(grads={"w": W})
    with pytest.raises(ValueError, match=r"\['w'\], but several parameters have that name"):
        optim.SGD([("w", np.ones(2)), ("w", np.ones(2))]).step(grads={"w": W})


# Gradients


strict_elsewhere = array_api_strict.Device("device1")
GRADIENTS = {
    "shape": (np, np.ones(3), RuntimeError, r"of shape \(2, 2\), but got shape \(3,\)"),
    "broadcastable shape": (np, np.ones(2), RuntimeError, r"of shape \(2, 2\), but got shape"),
    "complex": (np, np.ones((2, 2), complex), RuntimeError, "complex128 cannot be cast .* float"),
    "objects": (np, np.ones((2, 2), object), RuntimeError, "dtype object cannot be cast"),
    "list": (np, [[1.0] * 2] * 2, TypeError, "expected a gradient of numpy, but got a list"),
    "number": (np, 1.0, TypeError, "expected a gradient of numpy, but got a float"),
    "torch": (np, torch.ones(2, 2), TypeError, "of numpy, but got a torch array"),
    "scipy.sparse": (np, scipy.sparse.eye_array(2), RuntimeError, "does not support sparse"),
    "numpy": (torch, np.ones((2, 2)), TypeError, "of torch, but got a numpy array"),
    "torch complex": (torch, torch.ones(2, 2) + 0j, RuntimeError, "torch.complex64 cannot be cast"),
    "torch sparse": (torch, torch.eye(2).to_sparse(), RuntimeError, "does not support sparse"),
    "torch sparse rows": (
        torch,
        sparse_rows(torch.eye(2)),
        RuntimeError,
        "does not support sparse",
    ),
    "meta": (torch, torch.ones(2, 2, device="meta"), RuntimeError, "on cpu, but got one on meta"),
    "another device": (
        array_api_strict,
        array_api_strict.ones((2, 2), device=strict_elsewhere),
        RuntimeError,
        "expected a gradient on .*CPU.*, but got one on .*device1",
    ),
}


@pytest.mark.parametrize(("xp", "grad", "error", "message"), GRADIENTS.values(), ids=GRADIENTS)
@pytest.mark.parametrize("foreach", [None, False])
def test_gradients(xp, grad, error, message, foreach):
    first, second = (optim.Parameter(xp.ones((2, 2))) for _ in range(2))
    groups = [{"params": [("u", first)]}, {"params": [("w", second)]}]
    opt = optim.Adam(groups, foreach=foreach)
    opt.step(grads=[xp.ones((2, 2))] * 2)
    before = everything(opt)
    with pytest.raises(error, match=rf"parameter 0 of group 1 \('w'\): .*{message}"):
        opt.step(grads=[xp.ones((2, 2)), grad])
    assert everything(opt) == before


# Everything at once, drawn by Hypothesis


@dataclass
class Fault:
    """Something that goes wrong with one parameter; `apply` returns what mends it."""

    name: str
    apply: Any


def swap(owner, attribute, value):
    before = getattr(owner, attribute)
    setattr(owner, attribute, value)
    return lambda: setattr(owner, attribute, before)


def put(mapping, key, value):
    before = mapping[key]
    mapping[key] = value
    return lambda: mapping.__setitem__(key, before)


def both(group):
    mend = put(group, "fused", True), put(group, "foreach", True)
    return lambda: [undo() for undo in mend]


FAULTS = [
    Fault("shape", lambda o, g, p: swap(p, "grad", np.ones((*p.shape, 2), p.dtype))),
    Fault("dtype", lambda o, g, p: swap(p, "grad", np.empty(p.shape, object))),
    Fault("library", lambda o, g, p: swap(p, "grad", torch.ones(p.shape))),
    Fault("list", lambda o, g, p: swap(p, "grad", [1.0])),
    Fault("integers", lambda o, g, p: swap(p, "data", np.ones(p.shape, int))),
    Fault("no array", lambda o, g, p: swap(p, "data", [1.0])),
    Fault("read-only", lambda o, g, p: swap(p.data.flags, "writeable", False)),
    Fault("lr", lambda o, g, p: put(g, "lr", -1.0)),
    Fault("betas", lambda o, g, p: put(g, "betas", (0.9, NAN))),
    Fault("fused and foreach", lambda o, g, p: both(g)),
    Fault("state shape", lambda o, g, p: put(o.state[p], "exp_avg", np.ones((*p.shape, 2)))),
    Fault("state type", lambda o, g, p: put(o.state[p], "exp_avg", None)),
    Fault("state library", lambda o, g, p: put(o.state[p], "exp_avg", torch.ones(p.shape))),
    Fault("state locked", lambda o, g, p: put(o.state[p], "exp_avg", read_only(np.ones(p.shape)))),
    Fault("step", lambda o, g, p: put(o.state[p], "step", "one")),
    Fault("step array", lambda o, g, p: put(o.state[p], "step", np.ones(2))),
    Fault("negative step", lambda o, g, p: put(o.state[p], "step", -1)),
]


@st.composite
def arrays(draw):
    shape = draw(st.sampled_from([(), (0,), (1,), (3,), (2, 3), (4, 0, 2)]))
    dtype = draw(st.sampled_from([np.float32, np.float64, np.complex64]))
    return np.full(shape, draw(st.floats(-2, 2, width=32)), dtype)


@given(
    groups=st.lists(st.lists(arrays(), min_size=1, max_size=4), min_size=1, max_size=3),
    fault=st.sampled_from(FAULTS),
    good=st.integers(1, 3),
    foreach=st.sampled_from([None, False]),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_a_fault_anywhere_changes_nothing_and_can_be_mended(groups, fault, good, foreach, data):
    def make():
        ps = [[optim.Parameter(array.copy()) for array in group] for group in groups]
        return optim.Adam([{"params": each} for each in ps], foreach=foreach, weight_decay=0.1)

    faulty, spared = make(), make()
    for opt in (faulty, spared):
        take(opt, range(good))
    group = data.draw(st.sampled_from(faulty.param_groups))
    mend = fault.apply(faulty, group, data.draw(st.sampled_from(group["params"])))
    before = everything(faulty)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        faulty.step()
    assert everything(faulty) == before
    mend()
    for opt in (faulty, spared):
        take(opt, range(good, good + 2))
    assert everything(faulty) == everything(spared)
